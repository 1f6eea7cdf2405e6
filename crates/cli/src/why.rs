//! `fanfare why`: which rule decides, by which option, and what else holds for a channel.
//!
//! It needs only the rules: mistakes elsewhere, or a missing secret, do not stop it. Its exit status is the answer, for
//! scripts.

use crate::failure::Failure;
use crate::flags::{ConfigFile, SettingFlags, refused};
use crate::output::print;
use crate::token::{look, read_token};
use fanfare::auth::{Inspected, claimed};
use fanfare::hub::{
    Action, CallerKind, Capture, ChannelName, Denial, Entitlement, Error, Given, Identified, Past, PayloadOf, UserId,
    Verdict, show_who,
};
use fanfare::settings::{Partial, PlacedRule, Problem, Problems, RulePlace, Settings, show_rule};
use std::fmt::Write as _;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 allowed, 1 denied, or not decided by the rules alone, or no answer (stderr says why).

  fanfare why publish chat:general
  fanfare why --user ada subscribe inbox:ada && echo yes
  fanfare why --claims '{\"sub\":\"ada\",\"role\":\"editor\"}' publish news:today
  fanfare why --data '{\"price\":1}' publish prices:acme
  fanfare why --token \"$TOKEN\" history chat:general"
)]
pub(crate) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// The caller's user id [default: an anonymous caller]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The claims of the caller's token, as JSON; nobody needs to have signed them
    #[arg(long, value_name = "JSON", conflicts_with = "user")]
    claims: Option<String>,
    /// The caller's token, which a key of the configuration must have signed; - reads it from stdin
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["user", "claims"])]
    token: Option<String>,
    /// The data, as JSON: does it break the rule's schema or texts? (publish, signal and enter)
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// The event of that data
    #[arg(long, value_name = "EVENT", requires = "data")]
    event: Option<String>,
    /// What the caller wants to do
    action: Wanted,
    /// With which channel
    channel: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wanted {
    Subscribe,
    Publish,
    Signal,
    /// Enter the presence
    Enter,
    /// Read the history
    History,
    /// Read the presence
    Presence,
}

impl Wanted {
    fn action(self) -> Action {
        match self {
            Wanted::Subscribe => Action::Subscribe,
            Wanted::History => Action::ReadHistory,
            Wanted::Presence => Action::ReadPresence,
            Wanted::Publish => Action::Publish,
            Wanted::Signal => Action::Signal,
            Wanted::Enter => Action::Enter,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Wanted::Subscribe => "subscribe to",
            Wanted::Publish => "publish to",
            Wanted::Signal => "signal to",
            Wanted::Enter => "enter",
            Wanted::History => "read the history of",
            Wanted::Presence => "see who is in",
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let channel = ChannelName::new(&args.channel).map_err(|error| Failure {
        sentence: format!("{:?} is not a channel: {error}", args.channel),
        hint: Some("name a channel, not a pattern, like chat:general".to_owned()),
        status: 1,
    })?;
    let flags = SettingFlags::<false>::default();
    let partial = flags.load_partial(&args.file.config).map_err(|problems| refused(&problems))?;
    let about_rules: Vec<Problem> = partial.problems.errors().filter(|one| one.is_about_rules()).cloned().collect();
    if !about_rules.is_empty() {
        return Err(refused(&Problems(about_rules)));
    }
    let caller = caller(&partial, &args)?;
    let Explanation { mut text, mut is_allowed } = explain(&partial.settings, &caller, args.action, &channel);
    if let Some(data) = &args.data {
        let found = judged(&partial.settings, &args, &channel, data)?;
        is_allowed &= found.is_ok();
        let found = match &found {
            Ok(None) => "good".to_owned(),
            Ok(Some(changed)) => format!("good; published as {changed}"),
            Err(error) => format!("{}: {}", error.code, error.message),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<10}{found}", "data");
    }
    print(&text)?;
    Ok(if is_allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Who asks, by the words of the command line.
fn caller(partial: &Partial, args: &Args) -> Result<Identified, Failure> {
    let config = &partial.settings.config;
    if let Some(claims) = &args.claims {
        let wrong = |error| Failure::users(format!("--claims: {error}")).hint("write the claims of a token as JSON");
        return claimed(claims, &config.limits).map_err(wrong);
    }
    let Some(token) = &args.token else {
        let user = args.user.as_deref().map(|user| UserId(user.into()));
        return Ok(Identified { user, ..Identified::default() });
    };
    let about_auth = |problem: &&Problem| problem.key == "auth" || problem.key.starts_with("auth.");
    let wrong: Vec<Problem> = partial.problems.errors().filter(about_auth).cloned().collect();
    if !wrong.is_empty() {
        return Err(refused(&Problems(wrong)));
    }
    if !config.auth.has_keys() {
        let sentence = format!("{} has no key in [auth.keys], so no token can be checked", args.file.config);
        return Err(Failure::users(sentence).hint("show the claims instead: --claims JSON"));
    }
    let Inspected { verdict, identity, keys_missing, .. } = look(&read_token(token)?, &config.auth, &config.limits)?;
    if let Some(why) = keys_missing {
        return Err(Failure::users(format!("the keys of auth.jwks_url are not there: {why}")));
    }
    match (verdict, identity) {
        (Ok(()), Some(identity)) => Ok(identity),
        (Err(error), _) => Err(Failure::users(format!("the token is not valid: {error}"))
            .hint("`fanfare token inspect` shows it; --claims needs no valid token")),
        (Ok(()), None) => Ok(Identified::default()),
    }
}

/// What the rule's schema and texts say about data, if it has any: the data in its place, or the refusal.
fn judged(
    settings: &Settings,
    args: &Args,
    channel: &ChannelName,
    data: &str,
) -> Result<Result<Option<String>, Error>, Failure> {
    let of = match args.action {
        Wanted::Publish => PayloadOf::Publication,
        Wanted::Signal => PayloadOf::Signal,
        Wanted::Enter => PayloadOf::Presence,
        _ => {
            return Err(Failure::users("--data is of a publication, a signal or a presence".to_owned())
                .hint("ask about publish, signal or enter"));
        }
    };
    let data = fanfare::validation::one_line(data).map_err(|error| {
        Failure::users(format!("--data: {error}")).hint("write JSON: a text needs quotes of its own")
    })?;
    let Some(check) = settings.config.rules.of(channel).and_then(|rule| rule.check.as_ref()) else {
        return Ok(Ok(None));
    };
    let event = args.event.as_deref();
    let given = Given { of, event, data: data.as_bytes(), is_binary: false, is_last: true };
    Ok(check.check(given).map(|changed| changed.map(|changed| String::from_utf8_lossy(&changed).into_owned())))
}

struct Explanation {
    text: String,
    /// The rules alone let the caller.
    is_allowed: bool,
}

fn explain(settings: &Settings, who: &Identified, wanted: Wanted, channel: &ChannelName) -> Explanation {
    let user = who.user.as_ref();
    let caller = match user {
        Some(user) => format!("the user {:?}", &*user.0),
        None if who.claims.is_some() || !who.grants.is_empty() => "a caller without a user".to_owned(),
        None => "an anonymous caller".to_owned(),
    };
    let rules = &settings.config.rules;
    let action = rules.of(channel).map_or(wanted.action(), |rule| rule.decided_by(wanted.action()));
    let judged = |caller: Entitlement<'_>| rules.verdict(channel, action, caller);
    let verdict = judged(Entitlement { user, grants: &who.grants, claims: who.claims.as_deref() });
    let is_granted = action == Action::Subscribe && who.subscribe.contains(channel) && rules.of(channel).is_some();
    let (word, because) = match &verdict {
        _ if is_granted => {
            ("allowed", Some("the token subscribes it (claim `subscribe`), whatever the rule says".to_owned()))
        }
        Ok(Verdict::Allowed(_)) => ("allowed", None),
        Ok(Verdict::AskHook(_)) => {
            let because = "the application's handler decides; `fanfare serve` has none: denied";
            ("up to the application", Some(because.to_owned()))
        }
        Ok(Verdict::IfSubscribed(_)) => {
            let because = "allowed for clients that the application's handler has let subscribe; `fanfare serve` has none: denied";
            ("up to the application", Some(because.to_owned()))
        }
        Err(denial) => ("denied", Some(because(denial))),
    };
    let is_allowed = is_granted || matches!(verdict, Ok(Verdict::Allowed(_)));
    let is_by_user = is_allowed && !matches!(judged(Entitlement::default()), Ok(Verdict::Allowed(_)));
    let what = wanted.in_words();
    let mut text = format!("{word}: {caller} wants to {what} {:?}\n", channel.as_str());
    let mut line = |name: &str, value: &str, place: &str| {
        let value = format!("{name:<10}{value}");
        // Writing to a String cannot fail.
        let _ = if place.is_empty() { writeln!(text, "  {value}") } else { writeln!(text, "  {value:<58} {place}") };
    };
    let found = settings.rules().find(|found| found.rule.pattern.matches(channel));
    if let Some(PlacedRule { rule, place }) = found {
        line("rule", &format!("match = {:?}", rule.pattern.as_str()), &at(place, "match"));
        let shown = show_rule(rule);
        let of = |option: &str| shown.iter().find(|(name, _)| *name == option).map(|(_, value)| value.as_str());
        let option = if matches!(verdict, Err(Denial::Past { .. })) { "read" } else { action.option() };
        let value = of(option).map_or_else(|| show_who(rule.who(action)), str::to_owned);
        line("option", &format!("{option} = {value}"), &at(place, option));
        let via = verdict_leans_on_subscribe(&verdict, of(option));
        if via && option != "subscribe" {
            line("", &format!("subscribe = {}", of("subscribe").unwrap_or("\"nobody\"")), &at(place, "subscribe"));
        }
        if let Some(because) = &because {
            line("because", because, "");
        }
        // Either may tell who a caller is.
        let identifies = settings.config.auth.has_keys() || settings.config.hooks.connect.is_some();
        if is_by_user && !identifies {
            let note = "in a program that embeds Fanfare; without a key in [auth.keys] every caller of `fanfare serve` is anonymous";
            line("note", note, "");
        }
        if rule.read != Past::All && option != "read" {
            line("read", of("read").unwrap_or_default(), &at(place, "read"));
        }
        for option in ["history", "presence", "slow", "rate"] {
            let value = of(option).unwrap_or("no limit");
            line(option, value, &at(place, option));
        }
    } else {
        line("because", &because.unwrap_or_default(), "");
        line("hint", "add a rule with a pattern that matches it, or match = \"**\" as the last", "");
    }
    Explanation { text, is_allowed }
}

/// Whether the option refers to who may subscribe.
fn verdict_leans_on_subscribe(verdict: &Result<Verdict<'_>, Denial>, option: Option<&str>) -> bool {
    !matches!(verdict, Err(Denial::Capture { .. })) && option.is_some_and(|value| value.contains("\"subscriber\""))
}

fn because(denial: &Denial) -> String {
    match denial {
        Denial::NoRule => "no rule matches this name".to_owned(),
        Denial::Capture { capture: Capture::Claim(name), caller, .. } => {
            match caller.claims.first().and_then(|claim| claim.value.as_ref()) {
                Some(value) => format!("the caller's claim `{name}` is {value}, and not that in the channel's name"),
                None => format!("the channel's name holds the claim `{name}`, and the caller has none"),
            }
        }
        Denial::Capture { caller, .. } => match caller.kind {
            CallerKind::User => "the channel belongs to another user".to_owned(),
            CallerKind::WithoutUser => "the channel belongs to a user, and the caller has none".to_owned(),
            CallerKind::Anonymous => "the channel belongs to a user, and the caller is anonymous".to_owned(),
        },
        Denial::Option { allows, .. } if allows == "\"server\"" => "only the application may, by its API".to_owned(),
        Denial::Option { allows, .. } if allows == "\"nobody\"" => {
            "no client may; the application may, by its API".to_owned()
        }
        Denial::Option { allows, .. } if allows == "\"grant\"" => {
            "only a client may whose token grants it (claim `channels`)".to_owned()
        }
        Denial::Option { caller, .. } => {
            let who = match caller.kind {
                CallerKind::User => "this user",
                CallerKind::WithoutUser => "a caller without a user",
                CallerKind::Anonymous => "an anonymous caller",
            };
            format!("the option does not let {who} in{}", caller.shown())
        }
        Denial::Past { .. } => "no client reads past publications; the application may, by its API".to_owned(),
        Denial::NoHook { .. } => "only a handler of the application could let the caller in".to_owned(),
    }
}

fn at(place: Option<&RulePlace>, option: &str) -> String {
    place.and_then(|place| place.of(option)).map_or("default".to_owned(), ToString::to_string)
}
