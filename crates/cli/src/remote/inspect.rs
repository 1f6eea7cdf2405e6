//! `fanfare inspect` and `fanfare tail`: what a client, a user or a channel is doing, and what happens to all of them.
//!
//! In: the server's answers at `/inspect`, beside its metrics. Out: a few lines for a person, or the answer itself with
//! `--json`. The texts come from clients too, so control characters in them are escaped.

use super::api::Api;
use super::base::encoded;
use super::{Key, Server, lines};
use crate::failure::Failure;
use crate::output::{self, Reader};
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to look at
    #[arg(value_enum)]
    what: What,
    /// The client's public id (16 hexadecimal digits), the user's id, or the channel's name
    #[arg(value_name = "NAME", required_if_eq_any([("what", "client"), ("what", "user"), ("what", "channel")]))]
    name: Option<String>,
    /// Prints the server's answer, in one line of JSON
    #[arg(long)]
    json: bool,
    /// The most ends of connections, and the most other events, newest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
    limit: u16,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The session of a client: its connection, where it is in each channel, what happened to it
    Client,
    /// The sessions of a user
    User,
    /// A channel: its newest place, and its subscribers
    Channel,
    /// What happened lately to anybody: connections that ended, denials, gaps, slow readers, actions of API keys
    Lately,
}

#[derive(clap::Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    api_key: Key,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let (limit, name) = (args.limit, encoded(args.name.as_deref().unwrap_or_default()));
    let (target, field) = match args.what {
        What::Client => (format!("/inspect?client={name}&limit={limit}"), "sessions"),
        What::User => (format!("/inspect?user={name}&limit={limit}"), "sessions"),
        What::Channel => (format!("/inspect?channel={name}"), "channel"),
        What::Lately => (format!("/inspect?limit={limit}"), "events"),
    };
    super::block_on(async {
        let mut api = Api::new(args.server, args.api_key)?;
        let answer = api.look(&target, field).await?;
        if args.json {
            return lines::print(&answer).map(drop);
        }
        let foreign = |error| Failure::ours(format!("the server's answer is not JSON: {error}"));
        let answer: Value = serde_json::from_str(&answer).map_err(foreign)?;
        let mut out = String::new();
        match args.what {
            What::Channel => channel(&mut out, &answer),
            What::Client | What::User => sessions(&mut out, &answer),
            What::Lately => {}
        }
        rows(&mut out, &answer);
        silent(&mut out, &answer);
        output::print(&out).map(drop)
    })
}

pub(crate) fn tail(args: TailArgs) -> Result<(), Failure> {
    super::block_on(async {
        let mut body = Api::new(args.server, args.api_key)?.watch("/inspect/tail").await?;
        let mut line = Vec::new();
        loop {
            match body.frame().await {
                None => return Ok(()),
                Some(Err(error)) => return Err(Failure::ours(format!("the connection was lost: {error}"))),
                Some(Ok(frame)) => {
                    for &byte in frame.data_ref().into_iter().flatten() {
                        if byte != b'\n' {
                            line.push(byte);
                        } else if !line.is_empty() {
                            let text = String::from_utf8_lossy(&line);
                            if lines::print(&text)? == Reader::Gone {
                                return Ok(());
                            }
                            line.clear();
                        }
                    }
                }
            }
        }
    })
}

/// A text of somebody else on one line of a terminal.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => {
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
        }
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn place(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        place => format!("{}@{}", text(&place["offset"]), text(&place["epoch"])),
    }
}

fn seconds(ms: &Value) -> String {
    ms.as_u64().map_or("-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))
}

fn sessions(out: &mut String, answer: &Value) {
    let all = list(&answer["sessions"]);
    if all.is_empty() {
        out.push_str("no session: it is not connected, and its grace is over\n");
    }
    for session in all {
        let is_connected = session["connected"] == true;
        let _ = write!(out, "client {}", text(&session["client"]));
        if !session["user"].is_null() {
            let _ = write!(out, " of user {}", text(&session["user"]));
        }
        if is_connected {
            let _ = write!(
                out,
                ": connected for {} by {} ({}) from {}",
                seconds(&session["connected_ms"]),
                text(&session["transport"]),
                text(&session["protocol"]),
                text(&session["peer"]),
            );
        } else {
            out.push_str(": away, within its grace");
        }
        let _ = writeln!(out, "; shard {}, connection {}", text(&session["shard"]), text(&session["connections"]));
        let _ = write!(
            out,
            "  outbox {} bytes, {} commands outstanding, {} grants",
            text(&session["outbox_bytes"]),
            text(&session["outstanding"]),
            text(&session["grants"]),
        );
        for (field, words) in [("behind", "reads too slowly"), ("paused", "not read at the moment")] {
            if session[field] == true {
                let _ = write!(out, ", {words}");
            }
        }
        if !session["throttled_by"].is_null() {
            let _ = write!(out, " for its rate ({})", text(&session["throttled_by"]));
        }
        out.push('\n');
        for sub in list(&session["subscriptions"]) {
            let _ = writeln!(
                out,
                "  {}: {}, at {} of {}; by {}, rule {}{}",
                text(&sub["channel"]),
                text(&sub["state"]),
                place(&sub["at"]),
                place(&sub["top"]),
                text(&sub["by"]),
                text(&sub["rule"]),
                if sub["entered"] == true { "; present" } else { "" },
            );
        }
    }
    if answer["more"] == true {
        out.push_str("further sessions are not shown\n");
    }
}

fn channel(out: &mut String, answer: &Value) {
    let _ = writeln!(
        out,
        "channel {}: rule {}, newest place {}, {} subscribers, {} present",
        text(&answer["channel"]),
        text(&answer["rule"]),
        place(&answer["top"]),
        text(&answer["subscribers"]),
        text(&answer["present"]),
    );
    match &answer["home"] {
        Value::Null => out.push_str("  not in use\n"),
        home => {
            let _ = writeln!(out, "  lives on shard {}", text(home));
        }
    }
    for shard in list(&answer["shards"]) {
        let _ = writeln!(
            out,
            "  shard {}: {} subscribers, at {}{}",
            text(&shard["shard"]),
            text(&shard["subscribers"]),
            place(&shard["at"]),
            if shard["behind"] == true { ", behind" } else { "" },
        );
    }
    for one in list(&answer["some"]) {
        let _ = writeln!(
            out,
            "  client {} (user {}): {}, at {}",
            text(&one["client"]),
            text(&one["user"]),
            text(&one["state"]),
            place(&one["at"]),
        );
    }
}

/// The fields of a row that come first, in order. Others follow.
const FIELDS: [&str; 9] = ["client", "user", "peer", "channel", "by", "reason", "code", "rule", "option"];
/// The fields with which a line begins.
const SHOWN: [&str; 2] = ["ts", "type"];

/// Ends and other events: each with its time and the fields that it has.
fn rows(out: &mut String, answer: &Value) {
    let lists = ["ends", "events", "audit"].into_iter().flat_map(|name| list(&answer[name]));
    let mut rows: Vec<&Value> = lists.collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row["ts"].as_u64()));
    for row in rows {
        let _ = write!(out, "{} {}", ago(row["ts"].as_u64().unwrap_or_default()), text(&row["type"]));
        let fields: Vec<(&String, &Value)> = row.as_object().into_iter().flatten().collect();
        let first = FIELDS.iter().filter_map(|name| fields.iter().find(|(field, _)| field == name));
        let rest =
            fields.iter().filter(|(field, _)| !FIELDS.contains(&field.as_str()) && !SHOWN.contains(&field.as_str()));
        for (field, value) in first.chain(rest) {
            let _ = write!(out, " {field}={}", quoted(value));
        }
        out.push('\n');
    }
}

fn quoted(value: &Value) -> String {
    match value {
        Value::String(words) if words.contains([' ', '"', '=']) => format!("{words:?}"),
        other => text(other),
    }
}

/// By the clock of this machine: a server's may differ.
fn ago(ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    format!("{} ago", seconds(&now.saturating_sub(ms).into()))
}

fn silent(out: &mut String, answer: &Value) {
    let shards: Vec<String> = list(&answer["silent"]).iter().map(text).collect();
    if !shards.is_empty() {
        let _ = writeln!(out, "no answer from shard {}: it may know more", shards.join(", "));
    }
}
