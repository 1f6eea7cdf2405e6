//! The settings that say who a client is: keys of tokens, their issuer, and hooks.

use super::*;

fn loaded(file: &str) -> Result<Settings, Problems> {
    Settings::load(Sources { has_handlers: false, ..sources(file) })
}

const TOKEN_SECRET: &str = "an-example-of-a-secret-of-enough-bytes!";

#[test]
fn keys_of_tokens_come_from_the_file_and_the_environment() {
    let file = format!(
        "[auth]\nissuer = \"https://id.example\"\naudience = [\"chat\", \"news\"]\n[auth.keys]\nmain = \"{TOKEN_SECRET}\"\nold = {{ \
         algorithm = \"HS384\", kid = \"2025\", secret = \"{TOKEN_SECRET}-and-some-more-of-it\" }}\n"
    );
    let settings = load(&file);
    let auth = &settings.config.auth;
    let keys: Vec<_> = auth.keys.iter().map(|key| (key.name(), key.kid(), key.algorithm().name())).collect();
    assert_eq!(keys, [("main", None, "HS256"), ("old", Some("2025"), "HS384")]);
    assert_eq!((&auth.issuers[..], auth.audiences.len()), (&["https://id.example".to_owned()][..], 2));
    assert!(!auth.anonymous, "with a key everybody has to be somebody");
    assert!(load("").config.auth.anonymous, "without one nobody could connect");
    let open = load(&format!("[auth]\nanonymous = true\nkeys.main = \"{TOKEN_SECRET}\"\n"));
    assert!(open.config.auth.anonymous);
    let in_dev = Sources { defaults: Settings::dev(), ..sources(&file) };
    assert!(Settings::load(in_dev).expect("valid").config.auth.anonymous, "`fanfare dev` lets everybody in");
    assert!(!format!("{settings:?}").contains("an-example"), "no secret is printed");

    let other = "another-example-of-a-secret-of-enough-bytes";
    let environment = [("FANFARE__AUTH__KEYS__MAIN", other), ("FANFARE__AUTH__ANONYMOUS", "true")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let settings = Settings::load(Sources { environment, ..sources(&file) }).expect("valid");
    let secrets: Vec<_> = settings.config.auth.keys.iter().map(|key| key.expose_secret().map(<[u8]>::len)).collect();
    assert_eq!((secrets, settings.config.auth.anonymous), (vec![Some(other.len()), Some(59)], true));
    let places: Vec<_> = settings.token_keys().map(|(key, at)| format!("{} {at}", key.name())).collect();
    assert_eq!(places, ["main environment variable FANFARE__AUTH__KEYS__MAIN", "old f.toml:6"]);
}

#[test]
fn a_key_of_tokens_that_is_none_is_reported_and_not_printed() {
    let rows = [
        ("main = \"hunter2\"", "auth.keys.main", "a secret of 7 bytes is too short for HS256"),
        ("main = { secret = \"hunter2\" }", "auth.keys.main.secret", "a secret of 7 bytes is too short"),
        ("main = { kid = \"1\" }", "auth.keys.main", "it has no key"),
        ("main = 7", "auth.keys.main", "it is a number"),
        ("main = { secret = \"S\", public_key = \"P\" }", "auth.keys.main", "it has two keys"),
        ("main = { secret = \"S\", algorithm = \"none\" }", "auth.keys.main.algorithm", "\"none\" is not an algorithm"),
        (
            "main = { secret = \"S\", algorithm = \"hs256\" }",
            "auth.keys.main.algorithm",
            "\"hs256\" is not an algorithm",
        ),
        (
            "main = { secret = \"S\", algorithm = \"RS256\" }",
            "auth.keys.main.secret",
            "RS256 is not an algorithm for a secret",
        ),
        ("main = { secrte = \"S\" }", "auth.keys.main.secrte", "a key has no such option"),
        ("Main = \"S\"", "auth.keys.Main", "\"Main\" is not a valid name for a key"),
        ("main = { secret = \"S\", kid = \"\" }", "auth.keys.main.kid", "a `kid` has 1 to 256 bytes"),
        ("main = { secret_file = \"nowhere\" }", "auth.keys.main.secret_file", "cannot be read"),
        ("main = { public_key = \"S\" }", "auth.keys.main.public_key", "it is no key in PEM"),
        ("main = { secret = \"-----BEGIN PUBLIC KEY-----\" }", "auth.keys.main.secret", "a key in PEM is no secret"),
        ("main = \"-----BEGIN PUBLIC KEY-----\\nAAAA\"", "auth.keys.main", "it is no public key in PEM"),
        ("main = \"-----BEGIN PRIVATE KEY-----\\nAAAA\"", "auth.keys.main", "it is a private key"),
    ];
    for (line, key, expected) in rows {
        let line = line.replace("\"S\"", &format!("\"{TOKEN_SECRET}\""));
        let problems = loaded(&format!("[auth.keys]\n{line}\n")).expect_err(&line);
        let problem = problems.errors().next().expect("an error");
        assert_eq!(problem.key, key, "{line}");
        assert!(problem.problem.contains(expected), "{line}: {}", problem.problem);
        let shown = problems.to_string();
        assert!(!shown.contains("hunter2") && !shown.contains("an-example"), "{line}: {shown}");
        assert_eq!(problems.errors().count(), 1, "{line}: {shown}");
    }
}

/// `keys` is a table of names and no setting, and is named where the settings of `[auth]` are.
#[test]
fn a_slip_beside_the_table_of_token_keys_is_told_what_there_is() {
    let one = |file: &str, environment: &[(&str, &str)]| {
        let found = Settings::load(Sources { environment: variables(environment), ..sources(file) });
        let Problems(problems) = found.expect_err("a slip");
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        problem.clone()
    };
    let problem = one("[auth.key]\nmain = \"x\"\n", &[]);
    assert_eq!((&*problem.key, &*problem.hint), ("auth.key", "did you mean \"auth.keys\"?"));
    assert!(problem.allowed.ends_with(", keys"), "{}", problem.allowed);
    let problem = one("", &[("FANFARE__AUTH__KEY", "x")]);
    assert_eq!(problem.hint, "did you mean \"FANFARE__AUTH__KEYS__NAME\"?");
    let problem = one("[auth]\nkeys = \"x\"\n", &[]);
    let allowed = "a table: name = \"key\", or name = { … } with algorithm, kid, secret, secret_file, public_key, \
                   public_key_file";
    assert_eq!(problem.allowed, allowed);
}

#[test]
fn a_list_of_the_file_in_a_variable_is_told_how_lists_are_written_there() {
    for (name, value) in [
        ("FANFARE__SOCKETIO__BRIDGE", "[\"chat:*\"]"),
        ("FANFARE__ORIGINS", " ['https://app.example'] "),
        ("FANFARE__TRUSTED_PROXIES", "[]"),
    ] {
        let environment = variables(&[(name, value)]);
        let Problems(problems) = Settings::load(Sources { environment, ..sources("") }).expect_err(name);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.problem, "it is a list as the file has it", "{name}");
        assert!(problem.hint.contains("a,b (without brackets and quotes)"), "{}", problem.hint);
    }
    let environment = variables(&[("FANFARE__SOCKETIO__BRIDGE", "chat:*, room:*"), ("FANFARE__LISTEN", "[::1]:80")]);
    let settings = Settings::load(Sources { environment, ..sources("") }).expect("good");
    assert_eq!(settings.shown(setting("socketio.bridge")), "[\"chat:*\", \"room:*\"]");
}

const HOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn hooks_are_asked_at_one_address_or_each_at_its_own() {
    let file = format!(
        "[hooks]\nurl = \"https://app.example/hook\"\nask = [\"connect\", \"publish\"]\nrpc_url = \"http://10.0.0.7:3000/rpc\"\n\
         secret = \"{HOOK_SECRET}\"\nforward_headers = [\"User-Agent\"]\n[[channels]]\nmatch = \"inbox:{{user}}\"\n\
         subscribe = \"authenticated\"\npublish = \"hook\"\n"
    );
    let settings = load(&file);
    assert_eq!(settings.warnings().len(), 0, "{:?}", settings.warnings());
    let hooks = &settings.config.hooks;
    let url = |url: &Option<crate::hooks::HttpUrl>| url.as_ref().map(ToString::to_string);
    let urls = [&hooks.connect, &hooks.refresh, &hooks.subscribe, &hooks.publish, &hooks.rpc].map(url);
    let main = Some("https://app.example/hook".to_owned());
    assert_eq!(urls, [main.clone(), None, None, main, Some("http://10.0.0.7:3000/rpc".to_owned())]);
    assert_eq!((hooks.count(), &hooks.forward_headers[..]), (3, &["user-agent".to_owned()][..]));
    assert!(!format!("{settings:?}").contains("MfKQ9r8"), "no secret is printed");
    assert_eq!(settings.hook_secrets().map(|(count, at)| format!("{count} {at}")), Some("1 f.toml:5".to_owned()));
    let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let environment = vec![("FANFARE__HOOKS__SECRET".to_owned(), format!("{HOOK_SECRET},{other}"))];
    let settings = Settings::load(Sources { environment, ..sources(&file) }).expect("valid");
    assert_eq!(settings.config.hooks.secrets.len(), 2);
    assert!(!load("").config.hooks.is_on());
}

#[test]
fn a_hook_that_cannot_work_is_reported_and_its_secret_is_not_printed() {
    let rows = [
        ("ask = [\"conect\"]", "hooks.ask", "\"conect\" is not one of the words"),
        ("ask = [\"connect\"]", "hooks.ask", "\"connect\" has no address"),
        ("url = \"app.example\"\nask = [\"connect\"]", "hooks.url", "it does not begin with"),
        ("url = \"https://ada:hunter2@app.example\"\nask = [\"connect\"]", "hooks.url", "a user or a password"),
        ("url = \"https://a.example\"\nask = [\"refresh\"]", "hooks.ask", "`refresh` is asked only with `connect`"),
        ("secret = \"hunter2\"", "hooks.secret", "it does not begin with whsec_"),
        ("secret = \"whsec_AAAA\"", "hooks.secret", "it holds 3 bytes"),
        ("secret = []", "hooks.secret", "it holds no secret"),
        ("secret = 7", "hooks.secret", "it is a number"),
        ("secret_file = \"nowhere\"", "hooks.secret_file", "cannot be read"),
        ("publish_channels = [\"chat:*\"]", "hooks.publish_channels", "nobody is asked about `publish`"),
        ("forward_headers = [\"Cookie\"]", "hooks.forward_headers", "it would pass every cookie on"),
        ("forward_headers = [\"a b\"]", "hooks.forward_headers", "it is not the name of a header"),
        ("rpc_url = \"http://a/\"\ntimeout = \"5s\"", "hooks.timeout", "not less than limits.hook_timeout (5000 ms)"),
        ("tiemout = \"5s\"", "hooks.tiemout", "there is no such setting"),
    ];
    for (lines, key, expected) in rows {
        let problems = loaded(&format!("[hooks]\n{lines}\n")).expect_err(lines);
        let problem = problems.errors().next().expect("an error");
        assert_eq!(problem.key, key, "{lines}: {problems}");
        assert!(problem.problem.contains(expected), "{lines}: {}", problem.problem);
        assert!(!problems.to_string().contains("hunter2"), "{lines}: {problems}");
    }
    let both = format!("[auth.keys]\nmain = \"{TOKEN_SECRET}\"\n[hooks]\nconnect_url = \"http://a/\"\n");
    let problems = loaded(&both).expect_err("both");
    assert_eq!(problems.errors().next().map(|it| &*it.key), Some("hooks.connect_url"), "{problems}");
    let unsigned = load("[hooks]\nrpc_url = \"http://a/\"\n");
    assert!(unsigned.warnings().iter().any(|it| it.key == "hooks.secret"), "{:?}", unsigned.warnings());
}

#[test]
fn what_tokens_need_is_checked_as_a_whole() {
    let first = |text: &str| {
        let problems = match loaded(text) {
            Ok(settings) => settings.warnings().to_vec(),
            Err(problems) => problems.0,
        };
        problems.into_iter().find(|problem| problem.key != "channels").map(|it| (it.key, it.severity, it.problem))
    };
    let rows = [
        ("anonymous = false", "auth.anonymous", Severity::Error, "nobody could connect"),
        ("jwks_url = \"id.example\"", "auth.jwks_url", Severity::Error, "it does not begin with https://"),
        ("jwks_url = \"http://id.example/\"", "auth.jwks_url", Severity::Error, "anybody on the way"),
        ("jwks_url = \"https://10.0.0.1/\"", "auth.jwks_url", Severity::Error, "a private network"),
        ("jwks_url = \"https://id.example/\"", "auth.audience", Severity::Warning, "any other service"),
        ("jwks_allow = [\"https\"]", "auth.jwks_allow", Severity::Error, "\"https\" is not one of the words"),
        ("cookie = \"a b\"", "auth.cookie", Severity::Error, "not the name of a cookie"),
        ("keys = 7", "auth.keys", Severity::Error, "it is no table of keys"),
        ("token_bytes_max = \"1MB\"", "auth.token_bytes_max", Severity::Error, "it is too large"),
    ];
    for (line, key, severity, expected) in rows {
        let found = first(&format!("[auth]\n{line}\n")).unwrap_or_else(|| panic!("{line}: nothing"));
        assert_eq!((&*found.0, found.1), (key, severity), "{line}: {found:?}");
        assert!(found.2.contains(expected), "{line}: {}", found.2);
    }
    let lax = "[auth]\njwks_url = \"http://127.0.0.1/\"\njwks_allow = [\"http\", \"private\"]\naudience = \"chat\"\n";
    assert_eq!(first(lax), None);
    let jwks = load(lax).config.auth.jwks.expect("an address");
    assert_eq!((jwks.http, jwks.private, jwks.redirects), (true, true, false));
    // A rule for users needs a way to be one.
    let rule = "[[channels]]\nmatch = \"inbox:{user}\"\nsubscribe = \"grant\"\npublish = \"anyone\"\n";
    assert!(first(rule).is_some_and(|(_, _, problem)| problem.contains("without a key")));
    assert_eq!(first(&format!("auth.keys.main = \"{TOKEN_SECRET}\"\n{rule}")), None);
}
