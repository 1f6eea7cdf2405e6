//! `[hooks]`: the application's addresses, and the secrets that requests to it are signed with.
//!
//! `secret` is one secret or a list, `secret_file` a file with one in each line. A secret is never printed, neither in
//! a problem nor by `Debug`. What depends on several settings is judged when all are known.

use super::kind::texts;
use super::problem::{Problem, Severity, Source};
use super::units::Wrong;
use super::written::{Raw, Written};
use super::{Loading, Setting};
use crate::config::hooks::{HookSecret, HookSecretError, HooksConfig};
use crate::config::url::{HttpUrl, without_secrets};
use fanfare_hub::Action;
use fanfare_wire::json;
use http::HeaderName;
use std::fmt;
use std::path::Path;
use std::time::Duration;

const ASK: &str = "hooks.ask";
const URL: &str = "hooks.url";
/// The words of `ask`.
const KINDS: [&str; 5] = ["connect", "refresh", "subscribe", "publish", "rpc"];
const NOTIFY: &str = "hooks.notify";
/// The words of `notify`.
const NOTICES: [&str; 6] = ["disconnect", "join", "leave", "occupied", "vacated", "published"];
const ALLOWED_SECRET: &str = "\"whsec_…\" with 24 to 64 bytes in base64, or a list of them";

/// The settings of `[hooks]` that are read before they are judged. `Debug` shows no query of an address.
#[derive(Clone, Default)]
pub struct HookSettings {
    /// The address of all hooks without one of their own; empty for none.
    pub url: String,
    /// What is asked.
    pub ask: Vec<String>,
    /// What is notified.
    pub notify: Vec<String>,
    /// The address for notices; empty for `url`.
    pub notify_url: String,
    /// The address for `connect`; empty for `url`.
    pub connect_url: String,
    /// The address for `refresh`; empty for that of `connect`.
    pub refresh_url: String,
    /// The address for `subscribe`; empty for `url`.
    pub subscribe_url: String,
    /// The address for `publish`; empty for `url`.
    pub publish_url: String,
    /// The address for `rpc`; empty for `url`.
    pub rpc_url: String,
    /// Where the secrets were written.
    pub(super) secrets_at: Option<Source>,
}

impl fmt::Debug for HookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HookSettings { ask, notify, secrets_at, .. } = self;
        let mut shown = f.debug_struct("HookSettings");
        shown.field("ask", ask).field("notify", notify).field("secrets_at", secrets_at);
        let urls = [
            ("url", &self.url),
            ("notify_url", &self.notify_url),
            ("connect_url", &self.connect_url),
            ("refresh_url", &self.refresh_url),
            ("subscribe_url", &self.subscribe_url),
            ("publish_url", &self.publish_url),
            ("rpc_url", &self.rpc_url),
        ];
        for (name, url) in urls {
            shown.field(name, &without_secrets(url));
        }
        shown.finish()
    }
}

/// Reads secrets, of a value or of the file that it names.
fn secrets(is_file: bool, value: &Written, folder: &Path) -> Result<Vec<HookSecret>, Wrong> {
    let mut all = texts(value)?;
    if is_file {
        let Raw::Text(path) = &value.raw else { return Err(super::kind::kind_of(value, "write the path in quotes")) };
        let path = folder.join(path);
        let text = std::fs::read_to_string(&path).map_err(|error| Wrong {
            problem: format!("{} cannot be read: {error}", path.display()),
            hint: "the server's user must be able to read it; a relative path begins at the configuration's own folder"
                .to_owned(),
        })?;
        let lines = json::unmarked(&text).lines().map(str::trim).filter(|line| !line.is_empty());
        all = lines.map(str::to_owned).collect();
    }
    if all.is_empty() {
        let hint = "leave it out to sign nothing".to_owned();
        return Err(Wrong { problem: "it holds no secret".to_owned(), hint });
    }
    let wrong = |error: HookSecretError| Wrong {
        problem: error.to_string(),
        hint: "make one with: echo \"whsec_$(openssl rand -base64 32)\"".to_owned(),
    };
    all.iter().map(|text| HookSecret::new(text).map_err(wrong)).collect()
}

impl Loading {
    /// A secret, if that is what this name is for. One of a later source takes the place of an earlier one's.
    pub(super) fn take_hook_secret(&mut self, name: &str, value: &Written, folder: &Path) -> bool {
        let is_file = match name {
            "secret" => false,
            "secret_file" => true,
            _ => return false,
        };
        if value.is_unknown() {
            return true; // reported already
        }
        let twice = self.settings.hooks.secrets_at.as_ref().is_some_and(|at| is_same_source(at, &value.at));
        let result = match twice {
            true => Err(Wrong {
                problem: "there are both a secret and a secret_file".to_owned(),
                hint: "give it one of the two; each may hold several secrets".to_owned(),
            }),
            false => secrets(is_file, value, folder),
        };
        match result {
            Ok(secrets) => {
                self.settings.config.hooks.secrets = secrets;
                self.settings.hooks.secrets_at = Some(value.at.clone());
            }
            Err(Wrong { problem, hint }) => self.problems.push(Problem {
                severity: Severity::Error,
                at: value.at.clone(),
                key: format!("hooks.{name}"),
                value: is_file.then(|| value.shown.clone()),
                problem,
                allowed: if is_file { "the path of a file with a secret in each line" } else { ALLOWED_SECRET }
                    .to_owned(),
                hint,
            }),
        }
        true
    }

    /// The actions that a hook decides, or is meant to.
    pub(super) fn hooked_actions(&self) -> Vec<Action> {
        let HooksConfig { subscribe, publish, .. } = &self.settings.config.hooks;
        let is_wrong = self.is_wrong("hooks");
        let all = [(Action::Subscribe, subscribe.is_some()), (Action::Publish, publish.is_some())];
        all.into_iter().filter(|(_, is_asked)| *is_asked || is_wrong).map(|(action, _)| action).collect()
    }

    /// Judges `[hooks]` as a whole.
    pub(super) fn load_hooks(&mut self) {
        let written = self.settings.hooks.clone();
        if let Some(odd) = written.ask.iter().find(|word| !KINDS.contains(&word.as_str())) {
            let hint = super::nearest::hint(odd, KINDS);
            return self.blame_hook(ASK, &format!("{odd:?} is not one of the words"), &hint);
        }
        if let Some(odd) = written.notify.iter().find(|word| !NOTICES.contains(&word.as_str())) {
            let hint = super::nearest::hint(odd, NOTICES);
            return self.blame_hook(NOTIFY, &format!("{odd:?} is not one of the words"), &hint);
        }
        let common = self.hook_url(URL, &written.url);
        let notify_url = self.hook_url("hooks.notify_url", &written.notify_url);
        let own = [
            ("connect", "hooks.connect_url", &written.connect_url),
            ("refresh", "hooks.refresh_url", &written.refresh_url),
            ("subscribe", "hooks.subscribe_url", &written.subscribe_url),
            ("publish", "hooks.publish_url", &written.publish_url),
            ("rpc", "hooks.rpc_url", &written.rpc_url),
        ];
        let [connect, refresh, subscribe, publish, rpc] = own.map(|(word, key, text)| {
            let is_asked = written.ask.iter().any(|asked| asked == word);
            self.hook_url(key, text).or_else(|| common.clone().filter(|_| is_asked))
        });
        let hooks = &mut self.settings.config.hooks;
        *hooks = HooksConfig { connect, refresh, subscribe, publish, rpc, ..hooks.clone() };
        let notifies = |word: &str| written.notify.iter().any(|other| other == word);
        let notices = &mut hooks.notices;
        notices.url = notify_url.or(common).filter(|_| !written.notify.is_empty());
        notices.disconnect = notifies("disconnect");
        (notices.join, notices.leave) = (notifies("join"), notifies("leave"));
        (notices.occupied, notices.vacated) = (notifies("occupied"), notifies("vacated"));
        notices.published = notifies("published");
        for name in &mut hooks.forward_headers {
            name.make_ascii_lowercase();
        }
        self.check_hooks(&written);
    }

    fn check_hooks(&mut self, written: &HookSettings) {
        let has_error = |this: &Self| this.is_wrong("hooks");
        if has_error(self) {
            return;
        }
        let hooks = self.settings.config.hooks.clone();
        if !written.ask.is_empty() && written.url.is_empty() {
            let has = |word: &str| match word {
                "connect" => hooks.connect.is_some(),
                "refresh" => hooks.refresh.is_some(),
                "subscribe" => hooks.subscribe.is_some(),
                "publish" => hooks.publish.is_some(),
                _ => hooks.rpc.is_some(),
            };
            if let Some(word) = written.ask.iter().find(|word| !has(word)) {
                let hint = format!("set `url`, or `{word}_url`");
                return self.blame_hook(ASK, &format!("{word:?} has no address"), &hint);
            }
        }
        if !written.notify.is_empty() && hooks.notices.url.is_none() {
            return self.blame_hook(NOTIFY, "notices have no address", "set `url`, or `notify_url`");
        }
        if !written.notify_url.is_empty() && written.notify.is_empty() {
            let hint = "list what it is notified of in `notify`";
            return self.blame_hook("hooks.notify_url", "nothing is notified there", hint);
        }
        if hooks.refresh.is_some() && hooks.connect.is_none() {
            let key = if written.refresh_url.is_empty() { ASK } else { "hooks.refresh_url" };
            let hint = "add \"connect\" to `ask`, or leave \"refresh\" out";
            return self.blame_hook(key, "`refresh` is asked only with `connect`", hint);
        }
        if hooks.connect.is_some() && self.settings.config.auth.has_keys() {
            let key = if written.connect_url.is_empty() { ASK } else { "hooks.connect_url" };
            let hint = "leave \"connect\" out, or the keys of [auth]";
            return self.blame_hook(key, "the keys of [auth] identify clients already", hint);
        }
        for (key, channels, is_asked) in [
            ("hooks.subscribe_channels", &hooks.subscribe_channels, hooks.subscribe.is_some()),
            ("hooks.publish_channels", &hooks.publish_channels, hooks.publish.is_some()),
        ] {
            if !channels.is_empty() && !is_asked {
                let word = &key["hooks.".len()..key.len() - "_channels".len()];
                let hint = format!("add {word:?} to `ask`");
                return self.blame_hook(key, &format!("nobody is asked about `{word}`"), &hint);
            }
        }
        for name in &hooks.forward_headers {
            let problem = match HeaderName::from_bytes(name.as_bytes()) {
                Ok(http::header::COOKIE) => "it would pass every cookie on",
                Ok(_) => continue,
                Err(_) => "it is not the name of a header",
            };
            let hint = if problem.starts_with("it would") {
                "name the cookies in forward_cookies"
            } else {
                "use letters, digits and -"
            };
            return self.blame_hook("hooks.forward_headers", &format!("{name:?}: {problem}"), hint);
        }
        let limit = Duration::from_millis(self.settings.config.limits.hook_timeout_ms);
        if hooks.is_on() && hooks.timeout >= limit {
            let problem = format!("it is not less than limits.hook_timeout ({} ms)", limit.as_millis());
            return self.blame_hook("hooks.timeout", &problem, "lower it, or raise limits.hook_timeout");
        }
        if hooks.is_on() && hooks.secrets.is_empty() {
            let at = self.settings.sources.get(URL).or_else(|| self.settings.sources.get(ASK)).cloned();
            self.problems.push(Problem {
                severity: Severity::Warning,
                at: at.unwrap_or(Source::Default),
                key: "hooks.secret".to_owned(),
                value: None,
                problem: "it is not set, so your application cannot tell this server's requests from forged ones"
                    .to_owned(),
                allowed: ALLOWED_SECRET.to_owned(),
                hint: "make one with: echo \"whsec_$(openssl rand -base64 32)\"".to_owned(),
            });
        }
    }

    fn hook_url(&mut self, key: &'static str, text: &str) -> Option<HttpUrl> {
        if text.is_empty() {
            return None;
        }
        match HttpUrl::new(text) {
            Ok(url) => Some(url),
            Err(error) => {
                let at = self.settings.sources.get(key).cloned().unwrap_or(Source::Default);
                let hint = "write it like https://app.example/fanfare, or http://127.0.0.1:3000/fanfare";
                // It is not shown: it may hold a password.
                self.refuse(key, &at, None, error.problem, "an address that begins with https:// or http://", hint);
                None
            }
        }
    }

    fn blame_hook(&mut self, key: &'static str, problem: &str, hint: &str) {
        let at = self.settings.sources.get(key).cloned().unwrap_or(Source::Default);
        let setting = Setting::of(key);
        let shown = setting.map(|setting| self.settings.shown(setting));
        let allowed = match key {
            ASK => KINDS.map(|word| format!("{word:?}")).join(", "),
            NOTIFY => NOTICES.map(|word| format!("{word:?}")).join(", "),
            _ => setting.map_or_else(String::new, Setting::allowed),
        };
        self.refuse(key, &at, shown, problem, &allowed, hint);
    }
}

fn is_same_source(one: &Source, other: &Source) -> bool {
    matches!(
        (one, other),
        (Source::File { .. }, Source::File { .. }) | (Source::Environment(_), Source::Environment(_))
    )
}
