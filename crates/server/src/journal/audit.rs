//! The audit log: who has done what to clients and channels, and who was refused.
//!
//! In: the commands of the HTTP API and of the embedding program that act on sessions or remove data, with their
//! results, and every refusal of the API for its key. Out: the last [`AUDIT_ROWS_MAX`] rows, a row for each who watches
//! ([`Tail`]), and a line of the log of the target `audit`. A caller is named by the name of its key. No key, token or
//! payload is in a row. Publications, signals and questions have none, unless they are denied: there are too many, and
//! they change no client's state.

use super::{Tail, cut};
use crate::config::api_key;
use crate::logs;
use fanfare_hub::{AppAnswer, AppCommand, Error, ErrorCode, Whom};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Rows that are kept.
pub(crate) const AUDIT_ROWS_MAX: usize = 1_000;

/// A row.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AuditRow {
    /// ms since 1970.
    pub(crate) ts: u64,
    #[serde(rename = "type")]
    what: &'static str,
    /// `api` or `program`.
    by: &'static str,
    /// The name of the key. There is none if the caller showed no valid one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "super::as_text")]
    key: Option<Arc<str>>,
    command: &'static str,
    #[serde(flatten)]
    target: Target,
    /// `ok`, or the word of the error.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    banned_until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

/// What a command is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Target {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
}

/// Who gives a command.
#[derive(Debug, Clone)]
pub(crate) enum By {
    /// A caller of the HTTP API: the name of its key, and the id of its request.
    Api { key: Option<Arc<str>>, request_id: Option<String> },
    /// The embedding program.
    Program,
}

/// A command that has its row when its result is known.
#[derive(Debug)]
pub(crate) struct Act {
    command: &'static str,
    target: Target,
    is_action: bool,
}

impl Act {
    /// The act that a command is.
    pub(crate) fn of(command: &AppCommand) -> Self {
        let (whom, channel) = match command {
            AppCommand::Subscribe { whom, options } => (Some(whom), Some(&options.channel)),
            AppCommand::Unsubscribe { whom, channel } => (Some(whom), Some(channel)),
            AppCommand::Disconnect { whom, .. } | AppCommand::Reconnect { whom, .. } | AppCommand::Unban { whom } => {
                (Some(whom), None)
            }
            other => (None, other.channel()),
        };
        let mut target = Target { channel: channel.map(|name| name.as_str().to_owned()), ..Target::default() };
        match whom {
            Some(Whom::Client(client)) => target.client = Some(client.to_string()),
            Some(Whom::User(user)) => target.user = Some(cut(&user.0)),
            Some(Whom::Label(label)) => target.label = Some(label.to_string()),
            None => {}
        }
        let is_action = whom.is_some() || matches!(command, AppCommand::HistoryRemove { .. });
        Act { command: api_key::kind_of(command).word(), target, is_action }
    }

    /// A command of which only the word is known.
    pub(crate) fn named(command: &'static str) -> Self {
        Act { command, target: Target::default(), is_action: false }
    }

    /// The same where it would have a row by itself. Nothing is made for the others.
    pub(crate) fn of_action(command: &AppCommand) -> Option<Self> {
        let acts = matches!(
            command,
            AppCommand::Subscribe { .. }
                | AppCommand::Unsubscribe { .. }
                | AppCommand::Disconnect { .. }
                | AppCommand::Reconnect { .. }
                | AppCommand::Unban { .. }
                | AppCommand::HistoryRemove { .. }
        );
        acts.then(|| Act::of(command))
    }
}

/// The audit log of a server, on any thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audit(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rows: Mutex<VecDeque<AuditRow>>,
    tail: Tail,
}

impl Audit {
    /// Those who watch, of which the audit log is a part.
    pub(crate) fn tail(&self) -> &Tail {
        &self.0.tail
    }

    /// An action is done, or has failed.
    pub(crate) fn answered(&self, by: By, act: Act, answer: &AppAnswer) {
        match answer {
            AppAnswer::Error(error) => self.refused(by, act, error),
            _ if !act.is_action => {}
            answer => {
                let (sessions, banned_until) = match answer {
                    AppAnswer::Concerned(sessions) => (Some(*sessions), None),
                    AppAnswer::Banned { sessions, until_ms } => (Some(*sessions), Some(*until_ms)),
                    _ => (None, None),
                };
                self.put(by, act, |row| AuditRow { sessions, banned_until, ..row });
            }
        }
    }

    /// A command was refused. Those that are no actions have a row only where the caller may not give them.
    pub(crate) fn refused(&self, by: By, act: Act, error: &Error) {
        if act.is_action || matches!(error.code, ErrorCode::Denied | ErrorCode::Unauthorized) {
            let (result, why) = (error.code.row().word, Some(cut(&error.message)));
            self.put(by, act, |row| AuditRow { result, why, ..row });
        }
    }

    fn put(&self, by: By, act: Act, with: impl FnOnce(AuditRow) -> AuditRow) {
        let (by, key, request_id) = match by {
            By::Api { key, request_id } => ("api", key, request_id),
            By::Program => ("program", None, None),
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let row = with(AuditRow {
            ts: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            what: "audit",
            by,
            key,
            command: act.command,
            target: act.target,
            result: "ok",
            why: None,
            sessions: None,
            banned_until: None,
            request_id,
        });
        row.log();
        self.0.tail.show(&row);
        let mut rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= AUDIT_ROWS_MAX {
            rows.pop_front();
        }
        rows.push_back(row);
    }

    /// The newest rows, newest first: of those that are about this client or user, or of all.
    pub(crate) fn newest(&self, whom: Option<&Whom>, count_max: usize) -> Vec<AuditRow> {
        let rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().rev().filter(|row| whom.is_none_or(|whom| row.is_of(whom))).take(count_max).cloned().collect()
    }
}

impl AuditRow {
    fn is_of(&self, whom: &Whom) -> bool {
        match whom {
            Whom::Client(client) => self.target.client.as_deref() == Some(&*client.to_string()),
            Whom::User(user) => self.target.user.as_deref() == Some(&*user.0),
            Whom::Label(label) => self.target.label.as_deref() == Some(&**label),
        }
    }

    fn log(&self) {
        let Target { client, user, label, channel } = &self.target;
        logs::audited(&logs::AuditLine {
            by: self.by,
            key: self.key.as_deref(),
            command: self.command,
            client: client.as_deref(),
            user: user.as_deref(),
            label: label.as_deref(),
            channel: channel.as_deref(),
            result: self.result,
            why: self.why.as_deref(),
            sessions: self.sessions,
            banned_until: self.banned_until,
            request_id: self.request_id.as_deref(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_hub::{ChannelName, ClientId, Disconnect};

    fn api() -> By {
        By::Api { key: Some("backend".into()), request_id: Some("r1".to_owned()) }
    }

    fn kick(whom: Whom) -> AppCommand {
        AppCommand::Disconnect { whom, reason: Disconnect::Kicked, ban_ms: Some(1) }
    }

    #[test]
    fn actions_and_refusals_have_rows_and_questions_have_none() {
        let audit = Audit::default();
        let mut watching = audit.tail().watch();
        let ban = kick(Whom::user("ada"));
        audit.answered(api(), Act::of(&ban), &AppAnswer::Banned { sessions: 2, until_ms: 9 });
        let presence = AppCommand::Presence { channel: ChannelName::new("chat:a").unwrap() };
        audit.answered(api(), Act::of(&presence), &AppAnswer::Done);
        let denied = AppAnswer::Error(Error::new(ErrorCode::Denied, "the API key \"backend\" is not for this channel"));
        audit.answered(api(), Act::of(&presence), &denied);
        let no_rule = AppAnswer::Error(Error::new(ErrorCode::NoRule, "no"));
        audit.answered(api(), Act::of(&presence), &no_rule);
        audit.answered(By::Program, Act::of(&kick(ClientId(7).into())), &no_rule);
        let unknown = By::Api { key: None, request_id: None };
        audit.refused(unknown, Act::named("info"), &Error::new(ErrorCode::Unauthorized, "the API key is unknown"));
        let lines: Vec<String> = std::iter::from_fn(|| watching.try_recv().ok())
            .map(|line| line.split_once(',').expect("a time").1.to_owned())
            .collect();
        let expected = [
            r#""type":"audit","by":"api","key":"backend","command":"disconnect","user":"ada","result":"ok","sessions":2,"banned_until":9,"request_id":"r1"}"#,
            r#""type":"audit","by":"api","key":"backend","command":"presence","channel":"chat:a","result":"denied","why":"the API key \"backend\" is not for this channel","request_id":"r1"}"#,
            r#""type":"audit","by":"program","command":"disconnect","client":"0000000000000007","result":"no_rule","why":"no"}"#,
            r#""type":"audit","by":"api","command":"info","result":"unauthorized","why":"the API key is unknown"}"#,
        ];
        assert_eq!(lines, expected);
        assert_eq!(audit.newest(None, 10).len(), 4);
        assert_eq!(audit.newest(Some(&Whom::user("ada")), 10).len(), 1);
        assert_eq!(audit.newest(Some(&ClientId(7).into()), 10)[0].command, "disconnect");
    }

    #[test]
    fn the_newest_rows_are_kept() {
        let audit = Audit::default();
        for n in 0..AUDIT_ROWS_MAX as u64 + 5 {
            audit.answered(api(), Act::of(&kick(ClientId(n).into())), &AppAnswer::Concerned(n));
        }
        let rows = audit.newest(None, usize::MAX);
        assert_eq!((rows.len(), rows[0].sessions), (AUDIT_ROWS_MAX, Some(AUDIT_ROWS_MAX as u64 + 4)));
        assert_eq!(rows.last().and_then(|row| row.sessions), Some(5));
    }
}
