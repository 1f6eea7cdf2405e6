//! The rules of a file: each `[[channels]]` table becomes a [`Rule`], and the place of each of its options is kept for
//! `fanfare why`.
//!
//! A rule opens only the actions that it names. This file has the words that each option takes, and the words of later
//! versions; `fanfare_hub::Rules` has their meaning.

use super::kind::{count, kind_of, time, within};
use super::nearest;
use super::problem::{Problem, Severity, Source};
use super::schemas;
use super::units::{self, Wrong};
use super::written::{Field, Raw, Written};
use crate::validation::Validation;
use fanfare_hub::{
    Action, CHANNEL_NAME_BYTES_MAX, CLAIM_NAME_BYTES_MAX, Capture, ClaimValue, Past, Pattern, PatternError,
    PresenceMode, RateLimit, Retain, Rule, SenderShown, Slow, Who, show_who,
};
use std::path::Path;

/// An option of a rule, for the reference page.
pub struct RuleOption {
    /// Its key.
    pub key: &'static str,
    /// The default, as it would be written.
    pub default: &'static str,
    /// The allowed values.
    pub allowed: &'static str,
    /// Its effect.
    pub doc: &'static str,
}

const SUBSCRIBE_WORDS: &str = "\"anyone\", \"authenticated\", \"grant\", \"hook\", \"server\", \"nobody\", { claim = \"…\", in = [\"…\"] }, or a list of them";
const PUBLISH_WORDS: &str = "\"subscriber\", \"anyone\", \"authenticated\", \"grant\", \"hook\", \"server\", \"nobody\", { claim = \"…\", in = [\"…\"] }, or a list of them";
const OTHER_WORDS: &str = "\"subscriber\", \"anyone\", \"authenticated\", \"grant\", \"server\", \"nobody\", { claim = \"…\", in = [\"…\"] }, or a list of them";

const SCHEMA_FORMS: &str = "{ file = \"schemas/chat.json\" }, a schema as a table or as JSON in quotes, or { events = { message = …, typing = … }, other = … } with such schemas";

/// The options of a rule.
pub const RULE_OPTIONS: &[RuleOption] = &[
    RuleOption {
        key: "match",
        default: "none: every rule needs one",
        allowed: "segments between colons: a word, \"*\" (one segment), \"{user}\" (the caller's user id), \"{claims.NAME}\" (a claim of the caller), \"**\" (the rest; last)",
        doc: "The channels that the rule governs. The first rule whose pattern matches a channel's name governs it. Only the name \
              counts: `{user}` and `{claims.NAME}` are compared with the caller after the match, and a difference is a denial, \
              not the next rule.",
    },
    RuleOption { key: "subscribe", default: "\"nobody\"", allowed: SUBSCRIBE_WORDS, doc: "Who may subscribe." },
    RuleOption {
        key: "publish",
        default: "\"nobody\"",
        allowed: PUBLISH_WORDS,
        doc: "Who may publish. The application always may, by its API.",
    },
    RuleOption {
        key: "signal",
        default: "\"nobody\"",
        allowed: OTHER_WORDS,
        doc: "Who may send signals, such as typing or the position of a pointer.",
    },
    RuleOption {
        key: "enter",
        default: "\"subscriber\" with presence, else \"nobody\"",
        allowed: OTHER_WORDS,
        doc: "Who may enter the presence, so that others see the client.",
    },
    RuleOption {
        key: "history_read",
        default: "\"subscriber\"",
        allowed: OTHER_WORDS,
        doc: "Who may read the history: by `history`, and by `recent` and `since` of a subscription. Who may not, and was cut off, \
              gets a gap.",
    },
    RuleOption {
        key: "read",
        default: "\"all\"",
        allowed: "\"all\", \"since_join\" or \"none\"",
        doc: "How far back those read who may read the history: all that it holds (\"all\"), what was published since the client's \
              subscription began (\"since_join\"), or nothing (\"none\"). The application reads everything.",
    },
    RuleOption {
        key: "presence_read",
        default: "\"subscriber\"",
        allowed: OTHER_WORDS,
        doc: "Who may see who is present: by `presence`, and by a subscription with `presence`.",
    },
    RuleOption {
        key: "from",
        default: "\"client\"",
        allowed: "\"client\", \"user\" or \"none\"",
        doc: "What a publication says about its sender: its client and its user (\"client\"), its user alone (\"user\"), or nothing \
              (\"none\"). Signals always say their sender.",
    },
    RuleOption {
        key: "max_size",
        default: "limits.message_bytes_max",
        allowed: "1B to 1GiB, like \"4KiB\" or 4096",
        doc: "The longest data of a client's publication or signal. The application has limits.message_bytes_max alone.",
    },
    RuleOption {
        key: "max_subscribers",
        default: "no limit",
        allowed: "a whole number from 1 to 4294967295",
        doc: "The most subscriptions to one channel, of all connections. A further `subscribe` of a client is refused; the \
              application can still subscribe one. A lower number after a reload ends no subscription.",
    },
    RuleOption {
        key: "history",
        default: "{ size = 100, bytes = \"1MiB\", ttl = \"60s\" }",
        allowed: "a table with any of size (0 to 1000000), bytes (0B to 1TiB), ttl (0s to 365d)",
        doc: "The history that is kept: at most `size` publications and `bytes` bytes, each for `ttl`. `size = 0` keeps none.",
    },
    RuleOption {
        key: "presence",
        default: "false",
        allowed: "true, \"count\" or false",
        doc: "Subscribers are sent the clients that are present (true), only their number (\"count\"), or nothing (false).",
    },
    RuleOption {
        key: "slow",
        default: "\"pull\"",
        allowed: "\"pull\", \"latest\" or \"disconnect\"",
        doc: "What happens to a subscriber that reads too slowly: it gets the missed publications from the history as it reads \
              (\"pull\"), it gets a gap and the newest one (\"latest\"), or it is closed (\"disconnect\"). A subscriber may choose a \
              later word of this list.",
    },
    RuleOption {
        key: "rate",
        default: "no limit",
        allowed: "a count in a time of at most 365d, like \"20/s\" or \"100/10s\"",
        doc: "The rate of publications and signals of one session to the channels of this rule.",
    },
    RuleOption {
        key: "schema",
        default: "none: any data",
        allowed: SCHEMA_FORMS,
        doc: "The JSON Schema (draft 2020-12, or the one that its `$schema` names) of the data of publications, those of the application too. A file's path begins at the configuration's own folder.               With `events` each event has a schema of its own; `other` is for all other messages, which are refused without it.               docs/validation.md has more.",
    },
    RuleOption {
        key: "signal_schema",
        default: "none: any data",
        allowed: SCHEMA_FORMS,
        doc: "The same for the data of signals.",
    },
    RuleOption {
        key: "presence_schema",
        default: "none: any data",
        allowed: "{ file = \"schemas/person.json\" }, or a schema as a table or as JSON in quotes",
        doc: "The JSON Schema of what clients show of themselves when they enter the presence.",
    },
    RuleOption {
        key: "text",
        default: "none: texts are published as they come",
        allowed: "a list of tables { field = \"/content\", max = 4000, one_line = false, escape = \"html\" }, with `field` and any of the others",
        doc: "Fields that hold texts, in publications, signals and presence. Such a text loses its control characters and is put into Unicode's \
              normal form NFC; then it may have `max` characters. `field` is a JSON pointer; `\"\"` is the data itself. With \
              `one_line` line breaks and tabs become spaces. `escape` is for clients that insert the text into a page as HTML. \
              docs/validation.md has more.",
    },
];

const HISTORY_OPTIONS: [&str; 3] = ["size", "bytes", "ttl"];
const CLAIM_OPTIONS: [&str; 2] = ["claim", "in"];
/// Claims that the server reads itself. What rules could ask about them, it has asked already.
const OWN_CLAIMS: [&str; 8] = ["exp", "nbf", "iss", "aud", "info", "channels", "subscribe", "labels"];
const TTL_MS_MAX: u64 = 365 * 86_400_000;
const RATE_MS_MAX: u64 = TTL_MS_MAX;
const SIZE_MAX: u64 = 1_000_000;
const BYTES_MAX: u64 = 1 << 40;
const MESSAGE_BYTES_MAX: u64 = 1 << 30;

/// Whether this whole key is one of a rule's options.
pub(super) fn is_rule_option(key: &str) -> bool {
    let Some(option) = key.strip_prefix("channels.") else { return false };
    let is_of_history = |name| HISTORY_OPTIONS.contains(&name);
    RULE_OPTIONS.iter().any(|known| known.key == option) || option.strip_prefix("history.").is_some_and(is_of_history)
}

/// Where a rule stands.
#[derive(Debug, Clone)]
pub struct RulePlace {
    /// Its pattern's line.
    pub at: Source,
    options: Vec<(&'static str, Source)>,
}

impl RulePlace {
    /// Where an option was written, if it was.
    pub fn of(&self, option: &str) -> Option<&Source> {
        self.options.iter().find(|(name, _)| *name == option).map(|(_, at)| at)
    }
}

/// A rule, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct PlacedRule<'s> {
    /// The rule.
    pub rule: &'s Rule,
    /// Its place in the file; `None` for a rule of no file.
    pub place: Option<&'s RulePlace>,
}

/// A rule of the file.
pub(super) struct WrittenRule {
    pub(super) rule: Rule,
    pub(super) place: RulePlace,
}

/// Reads the value of `channels`.
pub(super) fn read(field: &Field, folder: &Path, problems: &mut Vec<Problem>) -> Vec<WrittenRule> {
    let whole = |problem: String| Problem {
        severity: Severity::Error,
        at: field.at.clone(),
        key: "channels".to_owned(),
        value: Some(field.value.shown.clone()).filter(|shown| !shown.is_empty()),
        problem,
        allowed: "rules, each a table of its own: [[channels]] with `match` and options".to_owned(),
        hint: "write [[channels]] with two brackets, once for every rule".to_owned(),
    };
    let Raw::List(rows) = &field.value.raw else {
        problems.push(whole(format!("it is {}", field.value.kind())));
        return Vec::new();
    };
    let mut rules = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        match &row.raw {
            Raw::Table(fields) => rules.extend(rule(place, row, fields, folder, problems)),
            _ => problems.push(whole(format!("its element {} is {}", place + 1, row.kind()))),
        }
    }
    rules
}

fn rule(
    place: usize,
    row: &Written,
    fields: &[Field],
    folder: &Path,
    problems: &mut Vec<Problem>,
) -> Option<WrittenRule> {
    let text = fields.iter().find(|field| field.key == "match").map(|field| &field.value.raw);
    let name = match text {
        Some(Raw::Text(text)) => format!("channels[{text:?}]"),
        _ => format!("channels[{}]", place + 1),
    };
    let wrong = |at: &Source, key: &str, value: Option<String>, wrong: Wrong| {
        let (base, sub) = key.split_once('.').unwrap_or((key, ""));
        let option = RULE_OPTIONS.iter().find(|option| option.key == base);
        let allowed = match (option, sub) {
            (_, "size") => format!("a whole number from 0 to {SIZE_MAX}"),
            (_, "bytes") => "0B to 1024GiB, like \"64KiB\", \"1MB\" or 65536".to_owned(),
            (_, "ttl") => "0s to 365d, like \"10s\", \"10m\" or \"24h\"".to_owned(),
            (Some(option), "") => option.allowed.to_owned(),
            (Some(_), _) => HISTORY_OPTIONS.join(", "),
            (None, _) => RULE_OPTIONS.iter().map(|option| option.key).collect::<Vec<_>>().join(", "),
        };
        let (problem, hint) = (wrong.problem, wrong.hint);
        Problem {
            severity: Severity::Error,
            at: at.clone(),
            key: format!("{name}.{key}"),
            value,
            problem,
            allowed,
            hint,
        }
    };
    let before = problems.len();
    let closed = || vec![Who::Nobody];
    let (mut pattern, mut enter, mut at) = (None, None, row.at.clone());
    let (mut subscribe, mut publish, mut signal) = (closed(), closed(), closed());
    let (mut history_read, mut presence_read) = (vec![Who::Subscriber], vec![Who::Subscriber]);
    let (mut history, mut presence, mut slow, mut rate) = (Retain::default(), PresenceMode::Off, Slow::Pull, None);
    let (mut read, mut from, mut max_size, mut max_subscribers) = (Past::All, SenderShown::Client, None, None);
    let mut validation = Validation::default();
    let (mut options, mut is_known) = (Vec::new(), true);
    for field in fields {
        let value = &field.value;
        if holds_unknown(value) && field.key != "history" && RULE_OPTIONS.iter().any(|option| option.key == field.key) {
            is_known = false; // reported already
            continue;
        }
        let result = match field.key.as_str() {
            "match" => {
                at = field.at.clone();
                read_pattern(value).map(|new| pattern = Some(new))
            }
            "subscribe" => who(value, Action::Subscribe).map(|new| subscribe = new),
            "publish" => who(value, Action::Publish).map(|new| publish = new),
            "signal" => who(value, Action::Signal).map(|new| signal = new),
            "enter" => who(value, Action::Enter).map(|new| enter = Some(new)),
            "history_read" => who(value, Action::ReadHistory).map(|new| history_read = new),
            "read" => one_of(value, Past::ALL, Past::word).map(|new| read = new),
            "presence_read" => who(value, Action::ReadPresence).map(|new| presence_read = new),
            "history" => match &value.raw {
                Raw::Table(fields) => {
                    for field in fields {
                        if field.value.is_unknown() && HISTORY_OPTIONS.contains(&field.key.as_str()) {
                            is_known = false;
                        } else if let Err(error) = retain(field, &mut history) {
                            let key = format!("history.{}", field.key);
                            problems.push(wrong(&field.at, &key, Some(field.value.shown.clone()), error));
                        }
                    }
                    Ok(())
                }
                Raw::Switch(false) => Err(kind_of(value, "write { size = 0 } to keep nothing")),
                Raw::Number(size) => Err(kind_of(value, &format!("write {{ size = {size} }}"))),
                _ => Err(kind_of(value, "write { size = 100, ttl = \"10m\" }")),
            },
            "presence" => match &value.raw {
                // A variable is always a text.
                Raw::Text(text) if value.loose && text == "true" => {
                    presence = PresenceMode::Full;
                    Ok(())
                }
                Raw::Text(text) if value.loose && text == "false" => {
                    presence = PresenceMode::Off;
                    Ok(())
                }
                Raw::Switch(on) => {
                    presence = if *on { PresenceMode::Full } else { PresenceMode::Off };
                    Ok(())
                }
                Raw::Text(text) if text == "count" => {
                    presence = PresenceMode::Count;
                    Ok(())
                }
                Raw::Text(text) => {
                    let hint = if matches!(text.as_str(), "true" | "false") {
                        format!("write {text} without quotes")
                    } else {
                        nearest::hint(text, ["true", "count", "false"])
                    };
                    Err(Wrong { problem: format!("{text:?} is not one of the words"), hint })
                }
                _ => Err(kind_of(value, "write true, \"count\" or false")),
            },
            "slow" => one_of(value, Slow::ALL, Slow::word).map(|new| slow = new),
            "from" => one_of(value, SenderShown::ALL, SenderShown::word).map(|new| from = new),
            "max_size" => bytes(value, 1, MESSAGE_BYTES_MAX).map(|new| max_size = Some(new)),
            "max_subscribers" => count(value)
                .and_then(|number| within(number, 1, u64::from(u32::MAX), |n| n.to_string()))
                .map(|new| max_subscribers = Some(new as u32)),
            "rate" => match &value.raw {
                Raw::Text(text) => units::rate(text).and_then(|limit| {
                    let window_ms = within(i128::from(limit.window_ms), 1, RATE_MS_MAX, units::show_millis)?;
                    rate = Some(RateLimit { window_ms, ..limit });
                    Ok(())
                }),
                Raw::Number(number) => Err(kind_of(value, &format!("write it with a time: \"{number}/s\""))),
                _ => Err(kind_of(value, "write it like \"20/s\"")),
            },
            "schema" => schemas::read(value, folder).map(|new| validation.schema = Some(new)),
            "signal_schema" => schemas::read(value, folder).map(|new| validation.signal_schema = Some(new)),
            "presence_schema" => schemas::read_one(value, folder).map(|new| validation.presence_schema = Some(new)),
            "text" => schemas::texts(value).map(|new| validation.texts = new),
            unknown => {
                let known = RULE_OPTIONS.iter().map(|option| option.key);
                let error =
                    Wrong { problem: "a rule has no such option".to_owned(), hint: nearest::hint(unknown, known) };
                Err(error)
            }
        };
        match result {
            Ok(()) => options
                .extend(RULE_OPTIONS.iter().find(|o| o.key == field.key).map(|option| (option.key, field.at.clone()))),
            Err(error) => problems.push(wrong(&field.at, &field.key, Some(value.shown.clone()), error)),
        }
    }
    if text.is_none() {
        let hint = "add match = \"chat:*\", or match = \"**\" for every channel".to_owned();
        problems.push(wrong(&row.at, "match", None, Wrong { problem: "the rule has none".to_owned(), hint }));
    }
    let is_told = |option: &str| problems[before..].iter().any(|problem| problem.key == format!("{name}.{option}"));
    if presence == PresenceMode::Off
        && is_known
        && !is_told("presence")
        && let Some(field) = fields.iter().find(|field| field.key == "enter")
        && enter.as_ref().is_some_and(|enter| *enter != closed())
    {
        let error = Wrong {
            problem: "entering is refused if presence is off".to_owned(),
            hint: "add presence = true or \"count\", or leave `enter` out".to_owned(),
        };
        problems.push(wrong(&field.at, "enter", Some(field.value.shown.clone()), error));
    }
    if problems.len() > before || !is_known {
        return None; // later problems would only follow from these
    }
    let enter = enter.unwrap_or_else(|| if presence == PresenceMode::Off { closed() } else { vec![Who::Subscriber] });
    let rule = Rule {
        pattern: pattern?,
        subscribe,
        publish,
        signal,
        enter,
        history_read,
        presence_read,
        read,
        from,
        max_size,
        max_subscribers,
        history,
        presence,
        slow,
        rate,
        check: validation.into_check(),
    };
    Some(WrittenRule { rule, place: RulePlace { at, options } })
}

/// A pattern that some channel's name can match.
pub(super) fn read_pattern(value: &Written) -> Result<Pattern, Wrong> {
    let Raw::Text(text) = &value.raw else { return Err(kind_of(value, "write a pattern in quotes, like \"chat:*\"")) };
    let wrong = |problem: String, hint: String| Wrong { problem, hint };
    let pattern = Pattern::new(text).map_err(|error| {
        let hint = match &error {
            PatternError::RestNotLast { .. } => "write \"*\" for one segment in the middle".to_owned(),
            PatternError::UnknownCapture { .. } => {
                "write {user} for the user, {claims.team} for the claim `team`, or \"*\" for any segment".to_owned()
            }
            PatternError::Segment { found } if found.is_empty() => "no colon at an end, and no two in a row".to_owned(),
            PatternError::Segment { found } if found.contains('*') => {
                format!("write {:?} for whole segments, or name the channels with a colon", text.replace(&**found, "*"))
            }
            _ => "channel names hold no spaces and none of * ? , + # { }".to_owned(),
        };
        wrong(error.to_string(), hint)
    })?;
    if let Some(first @ ('@' | '$')) = text.chars().next() {
        let problem = format!("channel names that begin with {first:?} are reserved, so nothing would match");
        return Err(wrong(problem, "choose another first letter".to_owned()));
    }
    if text.len() > CHANNEL_NAME_BYTES_MAX {
        let problem = format!("the pattern of {} bytes is longer than any channel's name", text.len());
        return Err(wrong(problem, format!("a name has at most {CHANNEL_NAME_BYTES_MAX} bytes")));
    }
    for capture in pattern.captures() {
        if let Capture::Claim(name) = capture {
            not_own(name)?;
        }
    }
    Ok(pattern)
}

fn who(value: &Written, action: Action) -> Result<Vec<Who>, Wrong> {
    let one = |written: &Written| match &written.raw {
        Raw::Text(text) => word(text, action),
        Raw::Table(fields) => claim(fields),
        _ => Err(kind_of(written, "write a word in quotes, like \"authenticated\"")),
    };
    let list = match &value.raw {
        Raw::List(list) => list.iter().map(one).collect::<Result<Vec<_>, _>>()?,
        _ => vec![one(value)?],
    };
    let wrong = |problem: &str, hint: &str| Err(Wrong { problem: problem.to_owned(), hint: hint.to_owned() });
    match list.as_slice() {
        [] => wrong("the list is empty", "write \"nobody\" if nobody may"),
        several if several.len() > 1 && several.contains(&Who::Nobody) => {
            wrong("\"nobody\" is in a list with other words", "write \"nobody\" alone, or leave it out")
        }
        several if several.len() > 1 && several.contains(&Who::Anyone) => {
            wrong("\"anyone\" makes the others meaningless", "write \"anyone\" alone, or leave it out")
        }
        several if (1..several.len()).any(|at| several[..at].contains(&several[at])) => {
            wrong("it is listed twice", "name each once")
        }
        _ => Ok(list),
    }
}

/// True if a part of it is unknown, also within a table.
fn holds_unknown(value: &Written) -> bool {
    match &value.raw {
        Raw::List(list) => list.iter().any(holds_unknown),
        Raw::Table(fields) => fields.iter().any(|field| holds_unknown(&field.value)),
        _ => value.is_unknown(),
    }
}

/// `{ claim = "role", in = ["admin"] }`.
fn claim(fields: &[Field]) -> Result<Who, Wrong> {
    const FORM: &str = "write it like { claim = \"role\", in = [\"admin\", \"editor\"] }";
    let wrong = |problem: String, hint: &str| Wrong { problem, hint: hint.to_owned() };
    if let Some(field) = fields.iter().find(|field| !CLAIM_OPTIONS.contains(&field.key.as_str())) {
        let problem = format!("a condition has no {:?}", field.key);
        return Err(Wrong { problem, hint: nearest::hint(&field.key, CLAIM_OPTIONS) });
    }
    let of = |key: &str| fields.iter().find(|field| field.key == key).map(|field| &field.value);
    let name = match of("claim").map(|value| &value.raw) {
        None => return Err(wrong("the condition names no `claim`".to_owned(), FORM)),
        Some(Raw::Text(name)) => name,
        Some(_) => return Err(wrong("`claim` is no text".to_owned(), FORM)),
    };
    if name.is_empty() || name.len() > CLAIM_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let problem = format!("`claim` must have 1 to {CLAIM_NAME_BYTES_MAX} bytes and no control characters");
        return Err(wrong(problem, FORM));
    }
    not_own(name)?;
    let Some(listed) = of("in") else { return Err(wrong("the condition has no `in`".to_owned(), FORM)) };
    let one = |value: &Written| match &value.raw {
        Raw::Text(text) => Ok(ClaimValue::Text(text.as_str().into())),
        Raw::Switch(on) => Ok(ClaimValue::Switch(*on)),
        Raw::Number(number) => i64::try_from(*number)
            .map(ClaimValue::Number)
            .map_err(|_| wrong(format!("`in` holds {number}, which is beyond 64 bits"), FORM)),
        _ => Err(wrong(format!("`in` holds {}", value.kind()), "it may hold texts, whole numbers, true and false")),
    };
    let values = match &listed.raw {
        Raw::List(list) => list.iter().map(one).collect::<Result<Vec<_>, _>>()?,
        _ => vec![one(listed)?],
    };
    if values.is_empty() {
        return Err(wrong("`in` is empty".to_owned(), "write \"nobody\" if nobody may"));
    }
    if (1..values.len()).any(|at| values[..at].contains(&values[at])) {
        return Err(wrong("a value is in `in` twice".to_owned(), "name each once"));
    }
    Ok(Who::claim_of(name, values))
}

/// Refuses the name of a claim that the server reads itself: no caller would ever have it.
fn not_own(name: &str) -> Result<(), Wrong> {
    if !OWN_CLAIMS.contains(&name) {
        return Ok(());
    }
    let problem = format!("no rule sees the claim `{name}`: the server reads it itself");
    Err(Wrong { problem, hint: "ask about a claim of your own; `sub` is the user".to_owned() })
}

fn word(text: &str, action: Action) -> Result<Who, Wrong> {
    let all = [Who::Anyone, Who::Authenticated, Who::Subscriber, Who::Grant, Who::Hook, Who::Server, Who::Nobody];
    let may = |who: &Who| match who {
        Who::Subscriber => action != Action::Subscribe,
        Who::Hook => matches!(action, Action::Subscribe | Action::Publish),
        _ => true,
    };
    let wrong = |problem: String, hint: &str| Wrong { problem, hint: hint.to_owned() };
    match all.iter().find(|who| who.word() == text) {
        Some(who) if may(who) => Ok(who.clone()),
        Some(Who::Subscriber) => Err(wrong(
            "a client would have to be subscribed in order to subscribe".to_owned(),
            "\"anyone\" allows every client",
        )),
        Some(_) => Err(wrong(
            format!("no handler is asked about {}", action.option()),
            "write \"subscriber\": the clients that the handler of `subscribe` allows",
        )),
        None => {
            let known = all.iter().filter(|who| may(who)).map(|who| who.word());
            let meant = match text {
                "everyone" | "everybody" | "all" | "any" | "public" | "*" => Some(Who::Anyone),
                "user" | "users" | "known" | "private" => Some(Who::Authenticated),
                "member" | "members" | "subscribers" => Some(Who::Subscriber).filter(may),
                "app" | "application" | "api" | "backend" => Some(Who::Server),
                "none" | "no one" | "false" => Some(Who::Nobody),
                _ => None,
            };
            let hint =
                meant.map_or_else(|| nearest::hint(text, known), |who| format!("did you mean {:?}?", who.word()));
            Err(Wrong { problem: format!("{text:?} is not one of the words"), hint })
        }
    }
}

/// One of some words.
fn one_of<T: Copy, const N: usize>(value: &Written, all: [T; N], word: fn(T) -> &'static str) -> Result<T, Wrong> {
    let words = all.map(word);
    match &value.raw {
        Raw::Text(text) => all.into_iter().find(|one| word(*one) == text).ok_or_else(|| Wrong {
            problem: format!("{text:?} is not one of the words"),
            hint: nearest::hint(text, words),
        }),
        _ => {
            let quoted = words.map(|word| format!("{word:?}"));
            let (last, others) = quoted
                .split_last()
                .map_or((String::new(), String::new()), |(last, others)| (last.clone(), others.join(", ")));
            Err(kind_of(value, &format!("write {others} or {last}")))
        }
    }
}

fn bytes(value: &Written, min: u64, max: u64) -> Result<usize, Wrong> {
    let bytes = match &value.raw {
        Raw::Text(text) => i128::from(units::bytes(text)?),
        Raw::Number(number) => *number,
        _ => return Err(kind_of(value, "write it like \"64KiB\" or 65536")),
    };
    Ok(within(bytes, min, max, units::show_bytes)? as usize)
}

fn retain(field: &Field, history: &mut Retain) -> Result<(), Wrong> {
    let value = &field.value;
    match field.key.as_str() {
        "size" => history.count = within(count(value)?, 0, SIZE_MAX, |n| n.to_string())? as u32,
        "bytes" => history.bytes = bytes(value, 0, BYTES_MAX)?,
        "ttl" => history.ttl_ms = within(i128::from(time(value)?), 0, TTL_MS_MAX, units::show_millis)?,
        unknown => {
            let hint = nearest::hint(unknown, HISTORY_OPTIONS);
            return Err(Wrong { problem: "history has no such option".to_owned(), hint });
        }
    }
    Ok(())
}

/// A rule's options as they would be written, in order, with their keys.
pub fn show_rule(rule: &Rule) -> Vec<(&'static str, String)> {
    let Retain { count, bytes, ttl_ms } = rule.history;
    let (bytes, ttl) = (units::show_bytes(bytes as u64), units::show_millis(ttl_ms));
    let mut shown = vec![
        ("match", format!("{:?}", rule.pattern.as_str())),
        ("subscribe", show_who(&rule.subscribe)),
        ("publish", show_who(&rule.publish)),
        ("signal", show_who(&rule.signal)),
    ];
    if rule.presence != PresenceMode::Off {
        shown.push(("enter", show_who(&rule.enter)));
    }
    let is_told = |who: &[Who]| *who != [Who::Subscriber];
    shown.extend(is_told(&rule.history_read).then(|| ("history_read", show_who(&rule.history_read))));
    shown.extend(is_told(&rule.presence_read).then(|| ("presence_read", show_who(&rule.presence_read))));
    if rule.read != Past::All {
        shown.push(("read", format!("{:?}", rule.read.word())));
    }
    shown.push(("history", format!("{{ size = {count}, bytes = {bytes:?}, ttl = {ttl:?} }}")));
    let presence = match rule.presence {
        PresenceMode::Off => "false",
        PresenceMode::Count => "\"count\"",
        PresenceMode::Full => "true",
    };
    shown.push(("presence", presence.to_owned()));
    if rule.from != SenderShown::Client {
        shown.push(("from", format!("{:?}", rule.from.word())));
    }
    shown.extend(rule.max_size.map(|max| ("max_size", format!("{:?}", units::show_bytes(max as u64)))));
    shown.extend(rule.max_subscribers.map(|max| ("max_subscribers", max.to_string())));
    shown.push(("slow", format!("{:?}", rule.slow.word())));
    shown.extend(rule.rate.map(|rate| ("rate", format!("{:?}", units::show_rate(rate)))));
    shown.extend(rule.check.iter().flat_map(|check| check.options()));
    shown
}
