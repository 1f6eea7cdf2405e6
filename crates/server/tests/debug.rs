//! What `Debug` shows of settings, of a configuration and of what is made of them: no secret, wherever it was written.

use fanfare::auth::TokenKey;
use fanfare::hooks::{HookSecret, HttpUrl};
use fanfare::settings::{Settings, SourceFile, Sources};
use fanfare::{ApiKey, RequestInfo};

const TOKEN_KEY: &str = "t0ken-key-0123456789-abcdefghij-klmnop";
const API_KEY: &str = "4pi-key-0123456789-abcdefghij";
const HOOK_SECRET: &str = "whsec_c2VjcmV0LW9mLXRoZS1ob29rcy0wMTIzNDU2Nzg5";
const URL_SECRET: &str = "s3cret-of-the-address";

#[test]
fn debug_shows_no_secret_of_the_settings() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = std::env::temp_dir().join(format!("fanfare-debug-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let key = made.signing_key.serialize_pem();
    std::fs::write(folder.join("chain.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), &key).expect("written");
    std::fs::write(folder.join("api.key"), format!("{API_KEY}-of-a-file\n")).expect("written");
    let key_line = key.lines().nth(1).expect("a line of the key");
    let text = format!(
        r#"
[tls]
certificate = "chain.pem"
key = "key.pem"

[auth]
jwks_url = "https://id.example/keys?key={URL_SECRET}"
audience = "me"

[auth.keys]
main = "{TOKEN_KEY}"
other = {{ secret = "0ther-{TOKEN_KEY}", kid = "two" }}

[api_keys]
backend = "{API_KEY}"
reader = {{ key = ["0ther-{API_KEY}"], commands = ["history"] }}
filed = {{ key_file = "api.key" }}

[hooks]
url = "https://app.example/hook?key={URL_SECRET}"
notify_url = "https://app.example/notices?key={URL_SECRET}"
ask = ["publish"]
notify = ["published"]
secret = ["{HOOK_SECRET}"]

[[channels]]
match = "a:*"
publish = "hook"
"#
    );
    let file = Some(SourceFile { path: folder.join("fanfare.toml").to_string_lossy().into_owned(), text });
    let environment = vec![("FANFARE__API_KEYS__MORE".to_owned(), format!("environment-{API_KEY}"))];
    let sources = Sources {
        defaults: Settings::default(),
        file,
        environment,
        flags: Vec::new(),
        dev_key: None,
        has_handlers: false,
    };
    let settings = Settings::load(sources).unwrap_or_else(|problems| panic!("{problems}"));
    std::fs::remove_dir_all(&folder).expect("removed");
    assert_eq!((settings.api_keys.len(), settings.token_keys().count()), (4, 2));
    let running = settings.clone();
    let mut changed = settings.clone();
    changed.hooks.url += "1";
    assert!(changed.differing(&running).is_empty(), "a reload puts it in force");
    changed.auth.jwks_url += "1";
    assert_eq!(changed.differing(&running), ["auth.jwks_url"], "a query that is not shown is compared");
    let all_shown: Vec<String> = fanfare::settings::SETTINGS
        .iter()
        .map(|setting| format!("{} = {}", setting.key, settings.shown(setting)))
        .collect();
    let shown = [
        ("Settings", format!("{settings:?} {settings:#?}")),
        ("their warnings", format!("{:?}", settings.warnings())),
        ("Config", format!("{:?} {:#?}", settings.config, settings.config)),
        ("every setting as it is shown", all_shown.join("\n")),
        ("an API key", format!("{:?}", ApiKey::new("a", API_KEY))),
        ("a token key", format!("{:?}", TokenKey::new("a", None, TOKEN_KEY))),
        ("a secret of hooks", format!("{:?}", HookSecret::new(HOOK_SECRET))),
        ("an address", format!("{:?}", HttpUrl::new(&format!("https://a.example/?{URL_SECRET}")))),
        (
            "a request",
            format!(
                "{:?}",
                RequestInfo::get(&format!("/v1/ws?token={TOKEN_KEY}"))
                    .with_header("authorization", API_KEY)
                    .with_header("cookie", URL_SECRET)
                    .with_header("sec-websocket-protocol", &format!("fanfare.token.{TOKEN_KEY}"))
            ),
        ),
    ];
    for (what, text) in &shown {
        assert!(!text.is_empty(), "{what}");
        for secret in [TOKEN_KEY, API_KEY, HOOK_SECRET, &HOOK_SECRET[6..], URL_SECRET, key_line] {
            assert!(!text.contains(secret), "{what} shows {secret:?}: {text}");
        }
        // Nor as a list of its bytes.
        let bytes = format!("{:?}", &TOKEN_KEY.as_bytes()[..8]);
        assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{what} shows the bytes of a key: {text}");
    }
}
