//! Dangerous combinations: each setting is valid by itself, and together they endanger the server, its clients or
//! their secrets.
//!
//! In: all settings of `fanfare serve`. Out: a problem for each danger, with its word of [`WORDS`]; `allow_insecure`
//! lists the words that the operator accepts. Loopback addresses and Unix sockets are exposed to nobody. Every other
//! address counts as public, because this module cannot know who is in the same network. TLS protects such an address,
//! and so does a proxy on another machine that `trusted_proxies` lists: it is assumed to speak TLS with the clients.

use super::problem::{Problem, Problems, Severity, Source};
use super::{Setting, Settings};
use crate::config::AdminOn;
use crate::config::address::Address;
use crate::config::auth::is_private;
use crate::config::origin::Origins;
use crate::config::url::HttpUrl;
use fanfare_hub::{Action, Rule, Who, show_who};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The words of `allow_insecure`.
pub(super) const WORDS: &[&str] = &[PLAINTEXT, OPEN_RULES, ANY_ORIGIN, ANY_PROXY, PUBLIC_ADMIN, WEAK_KEYS, UNCHECKED];
/// Secrets travel without encryption.
const PLAINTEXT: &str = "plaintext";
/// Strangers may write to channels of any name.
const OPEN_RULES: &str = "open_rules";
/// Every page acts with the cookies of its visitor.
const ANY_ORIGIN: &str = "any_origin";
/// Every client may claim any address.
const ANY_PROXY: &str = "any_proxy";
/// Strangers read the metrics.
const PUBLIC_ADMIN: &str = "public_admin";
/// Keys may be guessed.
const WEAK_KEYS: &str = "weak_keys";
/// Nobody checks the tokens that the settings describe.
const UNCHECKED: &str = "unchecked_tokens";

/// The shortest API key for a public address: 128 bits in base64. `openssl rand -hex 16` makes 32 characters.
const KEY_BYTES_MIN: usize = 22;
/// A random key has more different characters: one of 22 decimal digits has less with a probability of 1 : 16,000.
const KEY_CHARS_MIN: usize = 6;

/// The problems with the dangers added, in the order of the file. A danger that rests on a wrong setting is left out.
pub(super) fn added(settings: &Settings, problems: Problems) -> Problems {
    if !settings.is_guarded {
        return problems;
    }
    let Problems(mut problems) = problems;
    let dangers = Exposure { settings, problems: &problems }.dangers();
    // A warning about the same setting says less.
    problems.retain(|problem| {
        problem.severity == Severity::Error || problem.key != "trusted_proxies" || !is_among(&dangers, &problem.key)
    });
    problems.extend(dangers);
    problems.sort_by_key(|problem| problem.at.line().unwrap_or(usize::MAX));
    Problems(problems)
}

fn is_among(problems: &[Problem], key: &str) -> bool {
    problems.iter().any(|problem| problem.key == key)
}

/// What is in force after a reload: of the new settings what needs no restart, and the rest of the running ones.
pub(super) fn reloaded(new: &Settings, running: &Settings) -> Settings {
    let mut both = new.clone();
    both.listen.clone_from(&running.listen);
    let (config, old) = (&mut both.config, &running.config);
    config.tls.clone_from(&old.tls);
    config.trusted_proxies.clone_from(&old.trusted_proxies);
    config.origins.clone_from(&old.origins);
    config.admin.clone_from(&old.admin);
    let cookies = std::mem::take(&mut config.hooks.forward_cookies);
    config.hooks.clone_from(&old.hooks);
    if old.hooks.is_on() {
        config.hooks.forward_cookies = cookies;
    }
    config.auth.cookie.clone_from(&old.auth.cookie);
    if !old.auth.is_on() {
        config.auth.clone_from(&old.auth);
    }
    both
}

struct Exposure<'s> {
    settings: &'s Settings,
    /// Those that are known.
    problems: &'s [Problem],
}

impl Exposure<'_> {
    fn dangers(&self) -> Vec<Problem> {
        let mut all = Vec::new();
        let listens = self.is_known(&["listen"]);
        if listens && self.is_known(&["tls", "trusted_proxies", "proxy_protocol"]) {
            all.extend(self.plaintext());
            if self.is_known(&["auth", "hooks", "channels"]) {
                all.extend(self.open_rules());
            }
        }
        if self.is_known(&["origins", "auth.cookie", "hooks.forward_cookies"]) {
            all.extend(self.any_origin());
        }
        if listens && self.is_known(&["trusted_proxies"]) {
            all.extend(self.any_proxy());
        }
        if listens && self.is_known(&["admin.listen"]) {
            all.extend(self.public_admin());
        }
        if listens {
            all.extend(self.weak_keys());
        }
        if self.is_known(&["listen", "auth", "hooks"]) {
            all.extend(self.unchecked_tokens());
        }
        if self.is_known(&["hooks"]) {
            all.extend(self.plain_hooks());
        }
        all
    }

    /// False where a problem was found with one of these settings, or with one below it.
    fn is_known(&self, keys: &[&str]) -> bool {
        let is_it = |found: &str, key: &str| {
            found.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let mut errors = self.problems.iter().filter(|problem| problem.severity == Severity::Error);
        !errors.any(|problem| keys.iter().any(|key| is_it(&problem.key, key)))
    }

    fn accepts(&self, word: &str) -> bool {
        self.settings.allow_insecure.iter().any(|accepted| accepted == word)
    }

    /// The addresses that strangers may reach.
    fn public(&self) -> impl Iterator<Item = &Address> {
        self.settings.listen.iter().filter(|address| is_public(address))
    }

    /// Whether bytes between clients and a public address are encrypted, as far as the settings tell.
    fn is_shielded(&self) -> bool {
        let config = &self.settings.config;
        let is_elsewhere = config.trusted_proxies.iter().any(|proxy| !proxy.is_local() && !proxy.is_everybody());
        config.tls.is_some() || is_elsewhere
    }

    /// A problem that is this setting's.
    fn danger(&self, word: &str, key: &'static str, problem: String, hint: &str) -> Option<Problem> {
        let setting = Setting::of(key);
        let at = self.settings.sources.get(key).cloned().unwrap_or(Source::Default);
        let value = setting.map(|setting| self.settings.shown(setting));
        self.danger_at(word, (at, key.to_owned(), value), problem, hint)
    }

    fn danger_at(
        &self,
        word: &str,
        (at, key, value): (Source, String, Option<String>),
        problem: String,
        hint: &str,
    ) -> Option<Problem> {
        let allowed = format!("it is refused unless `allow_insecure` lists {word:?}");
        let hint = format!("{hint}; or accept it: allow_insecure = [{word:?}]");
        let danger = Problem { severity: Severity::Error, at, key, value, problem, allowed, hint };
        (!self.accepts(word)).then_some(danger)
    }

    fn plaintext(&self) -> Option<Problem> {
        let address = self.public().next().filter(|_| !self.is_shielded())?;
        let Settings { config, api_keys, .. } = self.settings;
        let has_tokens = config.auth.has_keys() || config.hooks.connect.is_some();
        let secrets = match (has_tokens, api_keys.is_empty()) {
            (true, false) => "the tokens of clients and API keys",
            (true, true) => "the tokens of clients",
            (false, false) => "API keys",
            (false, true) => return None,
        };
        let problem =
            format!("{secrets} would be sent unencrypted to {address}, where everybody on the way can read them");
        let hint = "set [tls], or list the proxy that speaks TLS with your clients in `trusted_proxies`, or listen on \
                    127.0.0.1";
        self.danger(PLAINTEXT, "listen", problem, hint)
    }

    /// Rules that let strangers write to channels of any name. Behind TLS this is meant to be a public server: then it
    /// is a warning.
    fn open_rules(&self) -> Vec<Problem> {
        let config = &self.settings.config;
        let are_strangers = config.hooks.connect.is_none() && (config.auth.anonymous || !config.auth.has_keys());
        let Some(address) = self.public().next().filter(|_| are_strangers) else { return Vec::new() };
        let one = |placed: super::PlacedRule<'_>| {
            let (rule, place) = (placed.rule, placed.place);
            if !is_broad(rule) {
                return None;
            }
            let writes = [Action::Publish, Action::Signal, Action::Enter];
            let action = writes.into_iter().find(|action| lets_anyone(rule, *action))?;
            let option = action.option();
            let at = place.map_or(Source::Default, |place| place.of(option).unwrap_or(&place.at).clone());
            let key = format!("channels[{:?}].{option}", rule.pattern.as_str());
            let value = Some(show_who(rule.who(action)));
            let problem =
                format!("everybody who reaches {address} could {} channels of any name, unchecked", verb(action));
            let hint = "let only \"authenticated\" callers do it, or begin the pattern with a name (\"chat:*\"), or \
                        listen on 127.0.0.1";
            self.danger_at(OPEN_RULES, (at, key, value), problem, hint)
        };
        let severity = if self.is_shielded() { Severity::Warning } else { Severity::Error };
        let dangers = self.settings.rules().filter_map(one);
        dangers.map(|danger| Problem { severity, ..danger }).map(as_warning).collect()
    }

    /// Concerns loopback addresses too: the browser of a user comes through a proxy, or runs on this machine.
    fn any_origin(&self) -> Option<Problem> {
        let config = &self.settings.config;
        let cookie = Some(&config.auth.cookie).filter(|cookie| !cookie.is_empty());
        let cookie = cookie.or(config.hooks.forward_cookies.first())?;
        if config.origins != Origins::Any {
            return None;
        }
        let problem = format!("every page may connect, and the browser adds the cookie {cookie:?} of its visitor");
        let hint = "list the origins of your own pages, or let clients show tokens in place of the cookie";
        self.danger(ANY_ORIGIN, "origins", problem, hint)
    }

    fn any_proxy(&self) -> Option<Problem> {
        self.public().next()?;
        let everybody = self.settings.config.trusted_proxies.iter().find(|proxy| proxy.is_everybody())?;
        let problem =
            format!("\"{everybody}\" believes every peer, so every client could claim any address and pass any limit");
        self.danger(ANY_PROXY, "trusted_proxies", problem, "list the network that your proxies are in")
    }

    /// Metrics hold no secret, so a private network may read them.
    fn public_admin(&self) -> Option<Problem> {
        let is_open = |address: &&Address| match address {
            Address::Tcp(address) => address.ip().is_unspecified() || !is_private(address.ip().to_canonical()),
            Address::Unix(_) => false,
        };
        let address = match &self.settings.config.admin {
            AdminOn::Off => None,
            AdminOn::MainPort => self.settings.listen.iter().find(is_open),
            AdminOn::Address(address) => Some(address).filter(is_open),
        }?;
        let problem = format!("everybody who reaches {address} could read /metrics");
        let hint = "give it a loopback or private address, or close that port to strangers";
        self.danger(PUBLIC_ADMIN, "admin.listen", problem, hint)
    }

    fn weak_keys(&self) -> Vec<Problem> {
        if self.public().next().is_none() {
            return Vec::new();
        }
        let mut all = Vec::new();
        for named in &self.settings.api_keys {
            let why = named.keys.iter().find_map(|key| match key.expose() {
                key if key.len() < KEY_BYTES_MIN => Some(format!("a key of {} characters could be guessed", key.len())),
                key => few_characters(key.as_bytes()),
            });
            let of = (named.at.clone(), format!("api_keys.{}", named.name), None);
            all.extend(why.and_then(|why| {
                self.danger_at(WEAK_KEYS, of, why, "make one of 32 characters with: openssl rand -hex 16")
            }));
        }
        for (key, at) in self.settings.token_keys() {
            let why = key.expose_secret().and_then(few_characters);
            let of = (at.clone(), format!("auth.keys.{}", key.name()), None);
            all.extend(
                why.and_then(|why| self.danger_at(WEAK_KEYS, of, why, "make one with: openssl rand -base64 32")),
            );
        }
        all
    }

    /// Hooks that leave this network without encryption: the names of users, their tokens and what they say. It is a
    /// warning, because a name says little about the way to its host.
    fn plain_hooks(&self) -> Vec<Problem> {
        let hooks = &self.settings.hooks;
        let written = [
            ("hooks.url", &hooks.url),
            ("hooks.notify_url", &hooks.notify_url),
            ("hooks.connect_url", &hooks.connect_url),
            ("hooks.refresh_url", &hooks.refresh_url),
            ("hooks.subscribe_url", &hooks.subscribe_url),
            ("hooks.publish_url", &hooks.publish_url),
            ("hooks.rpc_url", &hooks.rpc_url),
        ];
        let one = |(key, text): (&'static str, &String)| {
            let url = HttpUrl::new(text).ok().filter(|url| !url.is_https && !is_near(&url.host))?;
            let problem = format!(
                "what clients show and say would be sent unencrypted to {}, where everybody on the way can read and \
                 change it",
                url.host
            );
            let hint = "write https://, or give the application an address in your own network";
            let danger = self.danger(PLAINTEXT, key, problem, hint)?;
            Some(as_warning(Problem { severity: Severity::Warning, ..danger }))
        };
        written.into_iter().filter_map(one).collect()
    }

    /// On a loopback address it is a warning.
    fn unchecked_tokens(&self) -> Option<Problem> {
        let Settings { config, .. } = self.settings;
        let auth = &config.auth;
        if auth.has_keys() || config.hooks.connect.is_some() {
            return None;
        }
        let described = [
            ("auth.cookie", !auth.cookie.is_empty()),
            ("auth.issuer", !auth.issuers.is_empty()),
            ("auth.audience", !auth.audiences.is_empty()),
        ];
        let (key, _) = described.into_iter().find(|(_, is_set)| *is_set)?;
        let problem = "there is no key, so no token is checked, and every client is a stranger".to_owned();
        let hint = "add [auth.keys] and below it: main = { secret_file = \"…\" }, or set auth.jwks_url, or remove this";
        let danger = self.danger(UNCHECKED, key, problem, hint)?;
        let severity = if self.public().next().is_some() { Severity::Error } else { Severity::Warning };
        Some(as_warning(Problem { severity, ..danger }))
    }
}

/// A warning is not refused.
fn as_warning(problem: Problem) -> Problem {
    match problem.severity {
        Severity::Error => problem,
        Severity::Warning => Problem { allowed: "it is accepted".to_owned(), ..problem },
    }
}

/// True for an address that others than this machine may reach.
fn is_public(address: &Address) -> bool {
    match address {
        Address::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        Address::Unix(_) => false,
    }
}

/// Whether a host is in the network of this machine, as far as its name tells: a private address, a name without a dot
/// as containers have it, or one of a domain that is none of the Internet's.
fn is_near(host: &str) -> bool {
    const DOMAINS: [&str; 8] =
        [".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".test", ".cluster.local"];
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return is_private(ip.to_canonical());
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    !name.contains('.') || DOMAINS.iter().any(|domain| name.ends_with(domain))
}

/// Whether channels of any kind are among those of a rule: its first segment is a wildcard.
fn is_broad(rule: &Rule) -> bool {
    rule.pattern.as_str().split(':').next().is_some_and(|first| first.starts_with('*'))
}

/// Whether a caller without a user may do this.
fn lets_anyone(rule: &Rule, action: Action) -> bool {
    rule.who(action).iter().any(|who| match who {
        Who::Anyone => true,
        Who::Subscriber => rule.who(Action::Subscribe).contains(&Who::Anyone),
        _ => false,
    })
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Signal => "signal to",
        Action::Enter => "enter the presence of",
        _ => "publish to",
    }
}

/// `aaaa…` and `0101…` are no secrets. It never shows the key.
fn few_characters(key: &[u8]) -> Option<String> {
    let different = key.iter().collect::<BTreeSet<_>>().len();
    (different < KEY_CHARS_MIN).then(|| format!("a key of {different} different characters could be guessed"))
}

#[cfg(test)]
mod tests {
    use super::super::{SourceFile, Sources};
    use super::*;

    fn load_with(defaults: Settings, file: &str) -> Result<Settings, Problems> {
        let file = Some(SourceFile { path: "f.toml".to_owned(), text: file.to_owned() });
        let (environment, flags) = (Vec::new(), Vec::new());
        Settings::load(Sources { defaults, file, environment, flags, dev_key: None, has_handlers: false })
    }

    fn load(file: &str) -> Result<Settings, Problems> {
        load_with(Settings::default(), file)
    }

    const PUBLIC: &str = "listen = \"0.0.0.0:8080\"\n";
    const PROXY: &str = "trusted_proxies = \"10.0.0.0/8\"\n";
    const KEY: &str = "[api_keys]\nbackend = \"4f1a9c02e7b65d38a0c1f2e3d4b5a697\"\n";
    const TOKENS: &str = "[auth.keys]\nmain = \"Jp7v0sX2mQ9rL4tY8wZ1aB6cD3eF5gH+\"\n";
    const OPEN: &str = "[[channels]]\nmatch = \"**\"\nsubscribe = \"anyone\"\npublish = \"subscriber\"\n";

    /// The dangers that are warnings.
    fn dangers(settings: &Settings) -> usize {
        settings.warnings().iter().filter(|warning| warning.hint.contains("allow_insecure")).count()
    }

    /// Each row is refused by its word, at its key, and served where the word is accepted.
    #[test]
    fn each_danger_is_refused_by_its_word_and_served_where_it_is_accepted() {
        let rule = "[[channels]]\nmatch = \"news:*\"\nsubscribe = \"anyone\"\n";
        let rows = [
            (PLAINTEXT, "listen", format!("{PUBLIC}{KEY}{rule}")),
            (PLAINTEXT, "listen", format!("{PUBLIC}{TOKENS}{rule}")),
            (PLAINTEXT, "listen", format!("listen = \"[::]:8080\"\n{KEY}{rule}")),
            (PLAINTEXT, "listen", format!("listen = [\"127.0.0.1:1\", \"192.168.1.7:8080\"]\n{KEY}{rule}")),
            // A proxy on this machine does not protect an address that others reach.
            (PLAINTEXT, "listen", format!("{PUBLIC}trusted_proxies = [\"loopback\", \"unix\", \"::1\"]\n{KEY}{rule}")),
            (PLAINTEXT, "listen", format!("{PUBLIC}[hooks]\nurl = \"http://127.0.0.1:1/\"\nask = \"connect\"\n{rule}")),
            (OPEN_RULES, "channels[\"**\"].publish", format!("{PUBLIC}{OPEN}")),
            (
                OPEN_RULES,
                "channels[\"*:x\"].signal",
                format!("{PUBLIC}[[channels]]\nmatch = \"*:x\"\nsignal = \"anyone\"\n"),
            ),
            (
                OPEN_RULES,
                "channels[\"*\"].enter",
                format!("{PUBLIC}[[channels]]\nmatch = \"*\"\npresence = true\nenter = \"anyone\"\n"),
            ),
            (ANY_ORIGIN, "origins", format!("origins = \"*\"\n[auth]\ncookie = \"session\"\n{TOKENS}{rule}")),
            (
                ANY_ORIGIN,
                "origins",
                format!(
                    "origins = \"*\"\n[hooks]\nurl = \"http://127.0.0.1:1/\"\nask = \"connect\"\n\
                     forward_cookies = \"session\"\n{rule}"
                ),
            ),
            (ANY_PROXY, "trusted_proxies", format!("{PUBLIC}trusted_proxies = \"0.0.0.0/0\"\n{rule}")),
            (PUBLIC_ADMIN, "admin.listen", format!("[admin]\nlisten = \"0.0.0.0:8081\"\n{rule}")),
            (PUBLIC_ADMIN, "admin.listen", format!("[admin]\nlisten = \"1.1.1.1:8081\"\n{rule}")),
            (PUBLIC_ADMIN, "admin.listen", format!("{PUBLIC}[admin]\nlisten = \"main\"\n{rule}")),
            (WEAK_KEYS, "api_keys.a", format!("{PUBLIC}{PROXY}[api_keys]\na = \"0123456789abcdef\"\n{rule}")),
            (WEAK_KEYS, "api_keys.a", format!("{PUBLIC}{PROXY}[api_keys]\na = \"{}\"\n{rule}", "abcde".repeat(9))),
            (WEAK_KEYS, "auth.keys.a", format!("{PUBLIC}{PROXY}[auth.keys]\na = \"{}\"\n{rule}", "ab".repeat(20))),
            (UNCHECKED, "auth.audience", format!("{PUBLIC}[auth]\naudience = \"me\"\n{rule}")),
            (UNCHECKED, "auth.cookie", format!("{PUBLIC}{PROXY}[auth]\ncookie = \"session\"\n{rule}")),
        ];
        let mut met = BTreeSet::new();
        for (word, key, file) in &rows {
            met.insert(*word);
            let Problems(problems) = load(file).expect_err(file);
            let errors: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
            let [problem] = &errors[..] else { panic!("{file}: {problems:?}") };
            assert_eq!((problem.severity, &*problem.key), (Severity::Error, *key), "{file}");
            let accepting = format!("allow_insecure = [\"{word}\"]");
            assert!(problem.hint.ends_with(&format!("; or accept it: {accepting}")), "{file}: {}", problem.hint);
            let settings =
                load(&format!("{accepting}\n{file}")).unwrap_or_else(|problems| panic!("{file}: {problems}"));
            assert_eq!(dangers(&settings), 0, "{file}: {:?}", settings.warnings());
            let shown = format!("{problem:?}");
            assert!(
                !["4f1a9c02", "0123456789", "abcdeabc", "abababab", "Jp7v0s"].iter().any(|key| shown.contains(key))
            );
            // A program that embeds the server listens by itself, and `dev` is permissive by design.
            load_with(Settings { is_guarded: false, ..Settings::default() }, file).expect(file);
        }
        assert_eq!(met, WORDS.iter().copied().collect(), "every word has a row");
    }

    #[test]
    fn what_is_safe_is_served_without_a_word() {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = std::env::temp_dir().join(format!("fanfare-exposure-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let [chain, key] = ["chain.pem", "key.pem"].map(|name| folder.join(name));
        std::fs::write(&chain, certificate.cert.pem()).expect("written");
        std::fs::write(&key, certificate.signing_key.serialize_pem()).expect("written");
        let tls = format!("[tls]\ncertificate = {chain:?}\nkey = {key:?}\n");
        let read = "[[channels]]\nmatch = \"**\"\nsubscribe = \"anyone\"\n";
        let rows = [
            ("loopback", format!("{KEY}{OPEN}"), 0),
            (
                "all of loopback",
                format!("listen = [\"127.8.9.1:1\", \"[::1]:1\", \"[::ffff:127.0.0.1]:1\"]\n{KEY}{OPEN}"),
                0,
            ),
            ("a Unix socket", format!("listen = \"unix:/run/a.sock\"\n{TOKENS}{OPEN}"), 0),
            ("nothing secret", format!("{PUBLIC}{read}"), 0),
            ("TLS", format!("{PUBLIC}{KEY}{tls}{read}"), 0),
            ("a proxy elsewhere", format!("{PUBLIC}{PROXY}{KEY}{read}"), 0),
            ("open rules behind TLS are warned of", format!("{PUBLIC}{tls}{OPEN}"), 1),
            ("and behind a proxy", format!("{PUBLIC}{PROXY}{OPEN}"), 1),
            ("a rule of some names", format!("{PUBLIC}{}", OPEN.replace("**", "chat:*")), 0),
            ("tokens are needed", format!("{PUBLIC}{PROXY}{TOKENS}{OPEN}"), 0),
            ("a rule for users", format!("{PUBLIC}{PROXY}{TOKENS}{}", OPEN.replace("anyone", "authenticated")), 0),
            ("a private address for metrics", format!("[admin]\nlisten = \"10.0.0.5:8081\"\n{OPEN}"), 0),
            ("no metrics", format!("{PUBLIC}[admin]\nlisten = \"off\"\n{read}"), 0),
            ("any page without cookies", format!("origins = \"*\"\n{TOKENS}{OPEN}"), 0),
            (
                "cookies with a list",
                format!("origins = \"https://a.example\"\n[auth]\ncookie = \"a\"\n{TOKENS}{OPEN}"),
                0,
            ),
            ("everybody is a proxy, on loopback", format!("trusted_proxies = \"0.0.0.0/0\"\n{OPEN}"), 0),
            ("unchecked tokens on loopback", format!("[auth]\nissuer = \"a\"\n{OPEN}"), 1),
        ];
        for (name, file, warnings) in &rows {
            let settings = load(file).unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert_eq!(dangers(&settings), *warnings, "{name}: {:?}", settings.warnings());
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_hook_that_leaves_the_network_without_encryption_is_warned_of() {
        let rule = "[[channels]]\nmatch = \"news:*\"\nsubscribe = \"anyone\"\n";
        let hooks = |key: &str, url: &str| {
            let url = format!("{key} = \"{url}\"\n");
            let usual = if key == "url" { "" } else { "url = \"https://app.example/\"\n" };
            format!(
                "[hooks]\n{usual}{url}ask = [\"connect\", \"refresh\", \"subscribe\", \"publish\", \"rpc\"]\nnotify = \"join\"\n{rule}"
            )
        };
        let rows = [
            ("http://app.example/hooks", true),
            ("http://app.example:8080/hooks", true),
            ("http://1.1.1.1/", true),
            ("http://[2606:4700::1111]/", true),
            ("https://app.example/", false),
            ("http://127.0.0.1:3000/", false),
            ("http://[::1]:3000/", false),
            ("http://10.1.2.3/", false),
            ("http://192.168.1.7:3000/", false),
            ("http://localhost:3000/", false),
            ("http://app:3000/", false),
            ("http://app.default.svc.cluster.local/", false),
            ("http://app.internal./", false),
        ];
        for key in ["url", "notify_url", "connect_url", "refresh_url", "subscribe_url", "publish_url", "rpc_url"] {
            for (url, expected) in rows {
                let file = hooks(key, url);
                let settings = load(&file).unwrap_or_else(|problems| panic!("{file}: {problems}"));
                let found: Vec<&Problem> =
                    settings.warnings().iter().filter(|problem| problem.key == format!("hooks.{key}")).collect();
                assert_eq!(found.len(), usize::from(expected), "{file}: {found:?}");
                assert!(found.iter().all(|problem| problem.severity == Severity::Warning), "{found:?}");
                let accepted = load(&format!("allow_insecure = [\"plaintext\"]\n{file}")).expect("served");
                assert_eq!(dangers(&accepted), 0, "{file}");
            }
        }
    }

    #[test]
    fn a_danger_that_rests_on_a_wrong_setting_is_not_told() {
        let Problems(problems) = load(&format!("listen = \"nowhere\"\n{KEY}{OPEN}")).expect_err("wrong");
        let keys: Vec<&str> = problems.iter().map(|problem| &*problem.key).collect();
        assert_eq!(keys, ["listen"]);
        let Problems(problems) = load(&format!("{PUBLIC}shards = 0\n{KEY}")).expect_err("wrong");
        let keys: Vec<&str> = problems.iter().map(|problem| &*problem.key).collect();
        assert_eq!(keys, ["listen", "shards"], "all mistakes at once");
    }

    #[test]
    fn a_reload_is_judged_by_the_addresses_that_stay_in_force() {
        let narrow = "[[channels]]\nmatch = \"chat:*\"\npublish = \"anyone\"\n";
        let running = load(&format!("{PUBLIC}{narrow}")).expect("safe");
        // By themselves the new settings are safe: they listen on this machine.
        let rows = [
            ("open rules", OPEN.to_owned(), Err("channels[\"**\"].publish")),
            ("an API key", format!("{KEY}{narrow}"), Err("listen")),
            ("a weak key that is accepted", format!("allow_insecure = [\"plaintext\"]\n{KEY}{narrow}"), Ok(())),
            ("keys of tokens need a restart", format!("{TOKENS}{OPEN}"), Err("channels[\"**\"].publish")),
            ("the same rules", narrow.to_owned(), Ok(())),
        ];
        for (name, file, expected) in &rows {
            let new = load(file).expect(name);
            let checked = new.check_reload(&running).map_err(|Problems(problems)| problems[0].key.clone());
            assert_eq!(checked.as_ref().map_err(|key| &**key).copied(), *expected, "{name}");
        }
    }
}
