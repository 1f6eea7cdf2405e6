//! `fanfare dev`: a server to try things with. Permissive rules, pages of any local port, loopback addresses, the demos.

use crate::demos;
use crate::failure::Failure;
use crate::flags::{SettingFlags, refused};
use crate::run::{self, Plan, counted};
use crate::words::Greeting;
use fanfare::settings::Settings;
use fanfare::{Address, ApiKey, Running};
use std::fmt::Write as _;

/// An older name than `FANFARE__API_KEYS__DEV`, and shorter.
const KEY_VARIABLE: &str = "FANFARE__API_KEY";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rules and settings of this file, in place of those that let everybody do everything
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// The key for the application's API [default: a new one at each start]
    #[arg(long, env = KEY_VARIABLE, value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[command(flatten)]
    flags: SettingFlags<true>,
}

/// Runs until SIGTERM or SIGINT; a second one ends it at once.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let api_key = args.api_key.clone().unwrap_or_else(random_key);
    let key = ApiKey::new("dev", &api_key).map_err(|error| {
        Failure::users(error.to_string()).hint("leave --api-key out, and a new one is made at each start")
    });
    let key = key?;
    // The key of the command line is there after a reload too.
    let load = || {
        let mut settings = args.flags.load(args.config.as_deref(), &[KEY_VARIABLE])?;
        settings.config.api_keys.push(key.clone());
        Ok(settings)
    };
    let settings = load().map_err(|problems| refused(&problems))?;
    run::run(Plan {
        settings,
        warning: None,
        pages: Some(demos::router()),
        greeting: &|running, settings| greeting(running, settings, &args, &api_key),
        again: args.config.as_ref().map(|_| &load as _),
    })
}

fn greeting(running: &Running, settings: &Settings, args: &Args, api_key: &str) -> Greeting {
    let shards = counted(settings.config.shards, "shard");
    let rules = match &args.config {
        None => "every channel is open to everybody who reaches this port".to_owned(),
        Some(file) => format!("{} of {file}", counted(settings.config.rules.iter().count(), "rule")),
    };
    let mut text = String::new();
    let _ = writeln!(text, "API key: {api_key}"); // writing to a String cannot fail
    if let Some(address) = running.tcp_address() {
        let _ = writeln!(text, "open http://localhost:{} in two windows: a chat", address.port());
    }
    if let Some(address) = running.addresses().first() {
        let _ = writeln!(text, "publish to it:\n  {}", curl(address, api_key));
    }
    let new_key = args.api_key.is_none().then(|| api_key.to_owned());
    Greeting { what: format!(", dev mode: {rules}; {shards}"), more: text, new_key }
}

/// A line to paste into a shell: everybody in the demo's first room sees it.
fn curl(address: &Address, api_key: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let place = match address {
        Address::Tcp(address) if address.ip().is_unspecified() => format!("http://localhost:{}", address.port()),
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(path) => format!("--unix-socket {} http://localhost", quoted(&path.to_string_lossy())),
    };
    let key = quoted(&format!("Authorization: Bearer {api_key}"));
    let body = quoted(r#"{"channel":"chat:general","data":{"content":"Hello from curl"}}"#);
    format!("curl {place}/api/v1/publish -H {key} -d {body}")
}

fn random_key() -> String {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(), // no randomness, no key: an empty one is never accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_paste_says_where_and_is_quoted_for_a_shell() {
        let rows = [
            ("127.0.0.1:8080", "k", "curl http://127.0.0.1:8080/api/v1/publish -H 'Authorization: Bearer k' -d "),
            ("[::1]:8080", "k", "curl http://[::1]:8080/api/v1/publish -H 'Authorization: Bearer k' -d "),
            ("0.0.0.0:1", "it's", r"curl http://localhost:1/api/v1/publish -H 'Authorization: Bearer it'\''s' -d "),
            (
                "unix:/a b",
                "k",
                "curl --unix-socket '/a b' http://localhost/api/v1/publish -H 'Authorization: Bearer k' -d ",
            ),
        ];
        for (address, key, start) in rows {
            let line = curl(&address.parse().expect("an address"), key);
            assert!(line.starts_with(start) && line.ends_with("}}'"), "{address}: {line}");
        }
    }
}
