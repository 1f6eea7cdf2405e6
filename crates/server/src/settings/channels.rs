//! The rules of a file: each `[[channels]]` table becomes a [`Rule`], and the place of each of its options is kept for
//! `fanfare why`.
//!
//! A rule opens only the actions that it names. This file has the words that each option takes, and the words of later
//! versions; `fanfare_hub::Rules` has their meaning.

use super::kind::{count, kind_of, time, within};
use super::nearest;
use super::problem::{Problem, Severity, Source};
use super::units::{self, Wrong};
use super::written::{Field, Raw, Written};
use fanfare_hub::{
    Action, CHANNEL_NAME_BYTES_MAX, Pattern, PatternError, PresenceMode, RateLimit, Retain, Rule, Slow, Who,
};

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

const SUBSCRIBE_WORDS: &str =
    "\"anyone\", \"authenticated\", \"grant\", \"hook\", \"server\", \"nobody\", or a list of them";
const PUBLISH_WORDS: &str =
    "\"subscriber\", \"anyone\", \"authenticated\", \"grant\", \"hook\", \"server\", \"nobody\", or a list of them";
const OTHER_WORDS: &str =
    "\"subscriber\", \"anyone\", \"authenticated\", \"grant\", \"server\", \"nobody\", or a list of them";

/// The options of a rule.
pub const RULE_OPTIONS: &[RuleOption] = &[
    RuleOption {
        key: "match",
        default: "none: every rule needs one",
        allowed: "segments between colons: a word, \"*\" (one segment), \"{user}\" (the caller's user id), \"**\" (the rest; last)",
        doc: "The channels that the rule governs. The first rule whose pattern matches a channel's name governs it. Only the name \
              counts: `{user}` is compared with the caller after the match, and a difference is a denial, not the next rule.",
    },
    RuleOption {
        key: "subscribe",
        default: "\"nobody\"",
        allowed: SUBSCRIBE_WORDS,
        doc: "Who may subscribe, and read history and presence.",
    },
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
];

const HISTORY_OPTIONS: [&str; 3] = ["size", "bytes", "ttl"];
const TTL_MS_MAX: u64 = 365 * 86_400_000;
const RATE_MS_MAX: u64 = TTL_MS_MAX;
const SIZE_MAX: u64 = 1_000_000;
const BYTES_MAX: u64 = 1 << 40;

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
pub(super) fn read(field: &Field, problems: &mut Vec<Problem>) -> Vec<WrittenRule> {
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
            Raw::Table(fields) => rules.extend(rule(place, row, fields, problems)),
            _ => problems.push(whole(format!("its element {} is {}", place + 1, row.kind()))),
        }
    }
    rules
}

fn rule(place: usize, row: &Written, fields: &[Field], problems: &mut Vec<Problem>) -> Option<WrittenRule> {
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
    let (mut history, mut presence, mut slow, mut rate) = (Retain::default(), PresenceMode::Off, Slow::Pull, None);
    let (mut options, mut is_known) = (Vec::new(), true);
    for field in fields {
        let value = &field.value;
        if value.is_unknown() && RULE_OPTIONS.iter().any(|option| option.key == field.key) {
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
            "slow" => match &value.raw {
                Raw::Text(text) => match Slow::ALL.into_iter().find(|slow| slow.word() == text) {
                    Some(found) => {
                        slow = found;
                        Ok(())
                    }
                    None => Err(Wrong {
                        problem: format!("{text:?} is not one of the words"),
                        hint: nearest::hint(text, Slow::ALL.map(Slow::word)),
                    }),
                },
                _ => Err(kind_of(value, "write \"pull\", \"latest\" or \"disconnect\"")),
            },
            "rate" => match &value.raw {
                Raw::Text(text) => units::rate(text).and_then(|limit| {
                    let window_ms = within(i128::from(limit.window_ms), 1, RATE_MS_MAX, units::show_millis)?;
                    rate = Some(RateLimit { window_ms, ..limit });
                    Ok(())
                }),
                Raw::Number(number) => Err(kind_of(value, &format!("write it with a time: \"{number}/s\""))),
                _ => Err(kind_of(value, "write it like \"20/s\"")),
            },
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
    let rule = Rule { pattern: pattern?, subscribe, publish, signal, enter, history, presence, slow, rate };
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
                "write {user}, or \"*\" for any segment; claims of a token come later".to_owned()
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
    Ok(pattern)
}

fn who(value: &Written, action: Action) -> Result<Vec<Who>, Wrong> {
    let one = |written: &Written| match &written.raw {
        Raw::Text(text) => word(text, action),
        Raw::Table(_) => Err(Wrong {
            problem: "claims of a token, { claim, in }, are not available yet; they come with tokens (JWT)".to_owned(),
            hint: "until then \"hook\" lets the application's own handler decide".to_owned(),
        }),
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
            wrong("a word occurs twice", "name each once")
        }
        _ => Ok(list),
    }
}

fn word(text: &str, action: Action) -> Result<Who, Wrong> {
    const ALL: [Who; 7] =
        [Who::Anyone, Who::Authenticated, Who::Subscriber, Who::Grant, Who::Hook, Who::Server, Who::Nobody];
    let may = |who: &Who| {
        !matches!((who, action), (Who::Subscriber, Action::Subscribe) | (Who::Hook, Action::Signal | Action::Enter))
    };
    let wrong = |problem: String, hint: &str| Wrong { problem, hint: hint.to_owned() };
    match ALL.iter().find(|who| who.word() == text) {
        Some(who) if may(who) => Ok(*who),
        Some(Who::Subscriber) => Err(wrong(
            "a client would have to be subscribed in order to subscribe".to_owned(),
            "\"anyone\" allows every client",
        )),
        Some(_) => Err(wrong(
            format!("no handler is asked about {}", action.option()),
            "write \"subscriber\": the clients that the handler of `subscribe` allows",
        )),
        None => {
            let known = ALL.iter().filter(|who| may(who)).map(|who| who.word());
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

fn retain(field: &Field, history: &mut Retain) -> Result<(), Wrong> {
    let value = &field.value;
    match field.key.as_str() {
        "size" => history.count = within(count(value)?, 0, SIZE_MAX, |n| n.to_string())? as u32,
        "bytes" => {
            let bytes = match &value.raw {
                Raw::Text(text) => i128::from(units::bytes(text)?),
                Raw::Number(number) => *number,
                _ => return Err(kind_of(value, "write it like \"64KiB\" or 65536")),
            };
            history.bytes = within(bytes, 0, BYTES_MAX, units::show_bytes)? as usize;
        }
        "ttl" => history.ttl_ms = within(i128::from(time(value)?), 0, TTL_MS_MAX, units::show_millis)?,
        unknown => {
            let hint = nearest::hint(unknown, HISTORY_OPTIONS);
            return Err(Wrong { problem: "history has no such option".to_owned(), hint });
        }
    }
    Ok(())
}

/// One or several words, as they are written in the file.
pub(super) fn show_who(who: &[Who]) -> String {
    let words: Vec<String> = who.iter().map(|who| format!("{:?}", who.word())).collect();
    if words.len() == 1 { words.concat() } else { format!("[{}]", words.join(", ")) }
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
    shown.push(("history", format!("{{ size = {count}, bytes = {bytes:?}, ttl = {ttl:?} }}")));
    let presence = match rule.presence {
        PresenceMode::Off => "false",
        PresenceMode::Count => "\"count\"",
        PresenceMode::Full => "true",
    };
    shown.push(("presence", presence.to_owned()));
    shown.push(("slow", format!("{:?}", rule.slow.word())));
    shown.extend(rule.rate.map(|rate| ("rate", format!("{:?}", units::show_rate(rate)))));
    shown
}
