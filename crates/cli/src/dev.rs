//! `fanfare dev`: a server to try things with. Permissive rules, pages of any local port, loopback addresses, the
//! demos.

use crate::demos;
use crate::failure::Failure;
use crate::feed;
use crate::flags::{SettingFlags, random_key, refused};
use crate::run::{self, Plan, counted};
use crate::self_signed::{CertificateFile, self_signed};
use crate::words::Greeting;
use fanfare::settings::{DevKey, Settings, Source};
use fanfare::{Address, Running};
use std::fmt::Write as _;
use std::path::Path;

/// The one that `publish` and the others show: exported once, it serves both.
const KEY_VARIABLE: &str = "FANFARE_API_KEY";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rules and settings of this file, in place of those that let everybody do everything
    #[arg(long, env = "FANFARE_CONFIG", value_name = "FILE")]
    config: Option<String>,
    /// The key for the application's API, at least 16 characters [default: a new one at each start]
    #[arg(long, env = KEY_VARIABLE, value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Speak TLS (https, wss) with a certificate that this process makes for itself, unless the settings name one
    #[arg(long)]
    tls: bool,
    #[command(flatten)]
    flags: SettingFlags<true>,
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let given = args.api_key.clone().filter(|key| !key.is_empty());
    // A flag overrides the variable. If both are equal, the source counts as the variable.
    let at = match given.is_some() && given == std::env::var(KEY_VARIABLE).ok() {
        true => Source::Environment(KEY_VARIABLE.into()),
        false => Source::Flag("--api-key".into()),
    };
    let is_new = given.is_none();
    let api_key = given.map_or_else(random_key, Ok)?;
    let file = args.config.as_deref().filter(|file| !file.is_empty()); // by a variable that is empty
    let load = || args.flags.load_with_key(file, DevKey { at: at.clone(), key: api_key.clone() });
    let mut settings = load().map_err(|problems| refused(&problems))?;
    let mut certificate = None;
    if args.tls && settings.config.tls.is_none() {
        let (tls, file) = self_signed(&settings.listen)?;
        (settings.config.tls, certificate) = (Some(tls), Some(file));
    }
    let trusted = certificate.as_ref().map(CertificateFile::path);
    run::run(Plan {
        settings,
        new_key: is_new.then(|| api_key.clone()),
        pages: Some(demos::router()),
        feed: true,
        greeting: &|running, settings| greeting(running, settings, (file, trusted), &api_key),
        again: file.map(|_| &load as _),
    })
}

/// `trusted` is the file of a certificate that was made here.
fn greeting(
    running: &Running,
    settings: &Settings,
    (file, trusted): (Option<&str>, Option<&Path>),
    api_key: &str,
) -> Greeting {
    let shards = counted(settings.config.shards, "shard");
    let rules = match file {
        None => "every channel is open to every client that reaches this port".to_owned(),
        Some(file) => format!("{} of {file}", counted(settings.config.rules.iter().count(), "rule")),
    };
    let what = format!(", dev mode: {rules}; {shards}");
    let more = to_try(running, settings, trusted, api_key);
    Greeting { what, more, certificate: trusted.map(Path::to_path_buf) }
}

/// The first steps for a user.
fn to_try(running: &Running, settings: &Settings, trusted: Option<&Path>, api_key: &str) -> String {
    let mut text = String::new();
    let scheme = Scheme::of(settings.config.tls.is_some(), trusted);
    let base = settings.config.base_path.to_string();
    let base = base.trim_end_matches('/'); // nothing for the root
    let _ = writeln!(text, "API key: {api_key}"); // writing to a String cannot fail
    if let Some(path) = trusted {
        let path = quoted(&path.to_string_lossy());
        let _ = writeln!(text, "certificate until this server ends, for --cacert: {path}");
    }
    let has_demo = settings.config.rules.of("chat:general").is_some(); // else of a file without a rule for it
    if let Some(address) = running.tcp_address().filter(|_| has_demo && settings.chat.enabled) {
        let scheme = if settings.config.tls.is_some() { "https" } else { "http" };
        let _ = writeln!(text, "open {scheme}://localhost:{}{} in two windows: a chat", address.port(), page(base));
    }
    if let Some(address) = running.addresses().first().filter(|_| has_demo) {
        let _ = writeln!(text, "publish to it:\n  {}", curl(address, &scheme, base, api_key));
    }
    if let Some(address) = running.addresses().first().filter(|_| settings.config.rules.of(feed::CHANNEL).is_some()) {
        let place = place(address, &scheme, base);
        let _ = writeln!(text, "follow an update every 5 s:\n  curl -N {place}/events");
    }
    text
}

/// The path of the demo page: its links are relative, so it ends with a slash.
fn page(base: &str) -> String {
    if base.is_empty() { String::new() } else { format!("{base}/") }
}

/// The scheme of an address, with the option that curl needs before it.
struct Scheme(String);

impl Scheme {
    /// `trusted`: with `--tls`, the file of the certificate that nobody else has signed.
    fn of(has_tls: bool, trusted: Option<&Path>) -> Self {
        Scheme(match (trusted, has_tls) {
            (Some(path), _) => format!("--cacert {} https", quoted(&path.to_string_lossy())),
            // That of the settings is hardly for the address of this machine.
            (None, true) => "--insecure https".to_owned(),
            (None, false) => "http".to_owned(),
        })
    }
}

/// The server's address as curl takes it, with the path below which it serves.
fn place(address: &Address, scheme: &Scheme, base: &str) -> String {
    let http = &scheme.0;
    match address {
        Address::Tcp(address) if address.ip().is_unspecified() => {
            format!("{http}://localhost:{}{base}", address.port())
        }
        Address::Tcp(address) => format!("{http}://{address}{base}"),
        Address::Unix(path) => format!("--unix-socket {} http://localhost{base}", quoted(&path.to_string_lossy())),
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A line to paste into a shell: everybody in the demo's first room sees it.
fn curl(address: &Address, scheme: &Scheme, base: &str, api_key: &str) -> String {
    let place = place(address, scheme, base);
    let key = quoted(&format!("Authorization: Bearer {api_key}"));
    let body = quoted(r#"{"channel":"chat:general","data":{"content":"Hello from curl"}}"#);
    format!("curl {place}/api/v1/publish -H {key} -d {body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_paste_says_where_and_is_quoted_for_a_shell() {
        let rows = [
            (
                "127.0.0.1:8080",
                false,
                "k",
                "curl http://127.0.0.1:8080/api/v1/publish -H 'Authorization: Bearer k' -d ",
            ),
            ("127.0.0.1:8080", true, "k", "curl --cacert '/a b' https://127.0.0.1:8080/api/v1/publish -H "),
            ("[::1]:8080", false, "k", "curl http://[::1]:8080/api/v1/publish -H 'Authorization: Bearer k' -d "),
            (
                "0.0.0.0:1",
                false,
                "it's",
                r"curl http://localhost:1/api/v1/publish -H 'Authorization: Bearer it'\''s' -d ",
            ),
            (
                "unix:/a b",
                true,
                "k",
                "curl --unix-socket '/a b' http://localhost/api/v1/publish -H 'Authorization: Bearer k' -d ",
            ),
        ];
        assert_eq!(Scheme::of(true, None).0, "--insecure https", "the settings name a certificate");
        for (address, has_tls, key, start) in rows {
            let scheme = Scheme::of(has_tls, has_tls.then_some(Path::new("/a b")));
            let line = curl(&address.parse().expect("an address"), &scheme, "", key);
            assert!(line.starts_with(start) && line.ends_with("}}'"), "{address}: {line}");
            let below = curl(&address.parse().expect("an address"), &scheme, "/realtime", key);
            assert_eq!(below, line.replace("/api/v1/", "/realtime/api/v1/"), "{address}");
        }
    }
}
