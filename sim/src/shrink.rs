//! Makes a failing world smaller: fewer clients, shards, channels and faults, a shorter time. The smallest world found
//! that breaks the same promise is printed.
//!
//! Each part of a world has chances of its own, so what is left has the same chances as before. It still meets others
//! than before, so it is another history, in which the fault may not happen. Each smaller world is therefore tried with
//! several histories. The parts that were taken away have a text form, with which `--smaller` shows the same world
//! again.

use crate::counts::Counts;
use crate::plan::{Drawn, HookPlan, Plan, StoreFaults};
use crate::quotas::QuotaPlan;
use crate::run::attempt;
use fanfare_hub::{Limits, Pattern, Who};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The number of worlds that are run to shrink one failure.
pub(crate) const RUNS_MAX: usize = 600;
/// The number of histories that are tried for each smaller world.
const HISTORIES: u64 = 6;
/// The number of histories of the smallest world, of which the one with the fewest commands is chosen.
const LAST_HISTORIES: u64 = 60;
/// Faults happen for at least this long.
const CHAOS_MS_MIN: u64 = 250;

/// The parts that are taken away from the world of a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Smaller {
    /// At most so many of each; by the index in [`NUMBERS`].
    at_most: [Option<u64>; NUMBERS.len()],
    /// The indexes in [`PARTS`].
    without: BTreeSet<usize>,
    /// The history of the world: 0 is the seed's own.
    pub(crate) history: u64,
}

/// A number of a world: its name, the number, and the way to lower it.
type Number = (&'static str, fn(&Plan) -> u64, fn(&mut Plan, u64));
/// A part that a world may have: its name, and the way to take it away.
type Part = (&'static str, fn(&mut Plan));

/// The first of them are tried first.
const NUMBERS: [Number; 8] = [
    ("clients", |plan| plan.clients as u64, |plan, n| plan.clients = n as usize),
    ("cores", |plan| plan.cores as u64, |plan, n| plan.cores = n as usize),
    ("channels", |plan| plan.channels.len() as u64, |plan, n| plan.channels.truncate(n as usize)),
    ("shards", |plan| plan.shards as u64, |plan, n| plan.shards = n as usize),
    ("chaos", |plan| plan.chaos_ms, |plan, n| plan.chaos_ms = n),
    ("payload", |plan| plan.payload_max, |plan, n| plan.payload_max = n),
    ("chats", |plan| plan.chats as u64, |plan, n| plan.chats = n as usize),
    ("readers", |plan| plan.readers as u64, |plan, n| plan.readers = n as usize),
];

const PARTS: &[Part] = &[
    ("hooks", without_hooks),
    ("app", |plan| plan.app = false),
    ("forwards", |plan| plan.forwards = false),
    ("polls", |plan| plan.polls = 0),
    ("rooms", |plan| plan.rooms = false),
    ("http", |plan| plan.http = false),
    ("obstructs", |plan| plan.faults.obstructs = false),
    ("engine", |plan| plan.engine = 0),
    ("keeps", |plan| plan.keeps.clear()),
    ("store", |plan| plan.faults.store = StoreFaults::default()),
    ("habits", |plan| plan.habits.clear()),
    ("whispers", |plan| plan.whispers = false),
    ("flits", |plan| plan.faults.flits = false),
    ("store-stuck", |plan| plan.faults.store.stuck = 0),
    ("stuck-links", |plan| plan.faults.stuck_links = false),
    ("slow-links", |plan| plan.faults.slow_links = false),
    ("shard-stalls", |plan| plan.faults.shard_stalls = false),
    ("clock", |plan| plan.faults.clock_steps = false),
    ("reload", |plan| plan.faults.reloads = false),
    ("half-open", |plan| plan.faults.half_open = false),
    ("stalls", |plan| plan.faults.stalls = false),
    ("cuts", |plan| plan.faults.cuts = false),
    ("grant", |plan| plan.hooks.grant = None),
    ("store-late", |plan| (plan.faults.store.late, plan.faults.store.disordered) = (0, false)),
    ("store-unavailable", |plan| plan.faults.store.unavailable = 0),
    ("store-unknown", |plan| plan.faults.store.unknown = 0),
    ("store-twice", |plan| plan.faults.store.twice = 0),
    ("store-silent", |plan| plan.faults.store.silent = 0),
    ("store-loses", |plan| plan.faults.store.loses = false),
    ("holes", |plan| plan.faults.store.holes = false),
    ("batched-links", |plan| plan.batched_links = false),
    ("claims", without_claims),
    ("rates", Plan::lift_rates),
    ("strict", Plan::lift_strictness),
    ("quotas", |plan| plan.quotas = QuotaPlan::default()),
    ("freezes", |plan| plan.faults.freezes = false),
    ("restart", |plan| plan.restart = None),
    ("rude", |plan| plan.rude = false),
    ("short-keys", |plan| plan.limits.idempotency_keys_ttl_ms = Limits::default().idempotency_keys_ttl_ms),
    ("small-outbox", |plan| plan.limits.outbox_bytes_max = Limits::default().outbox_bytes_max),
    ("small-link", |plan| plan.limits.link_bytes_max = Limits::default().link_bytes_max),
    ("small-history", |plan| plan.limits.history_bytes_max = Limits::default().history_bytes_max),
    ("small-slice", |plan| plan.limits.fanout_slice = Limits::default().fanout_slice),
    ("small-presence", |plan| plan.limits.presence_entries_max = Limits::default().presence_entries_max),
];

/// The number of ways in which a world can be smaller.
const WAYS: usize = NUMBERS.len() + PARTS.len();

/// No rule asks for claims.
fn without_claims(plan: &mut Plan) {
    plan.hooks.claims = false;
    for rule in &mut plan.rules {
        let shape = rule.pattern.as_str().replace("{claims.rooms}", "*");
        rule.pattern = Pattern::new(&shape).expect("a pattern without a capture");
        rule.subscribe.iter_mut().filter(|who| matches!(who, Who::Claim(_))).for_each(|who| *who = Who::Anyone);
    }
}

/// There are no questions, and no rule leaves a decision to an application.
fn without_hooks(plan: &mut Plan) {
    without_claims(plan);
    plan.hooks = HookPlan::default();
    for rule in &mut plan.rules {
        for who in [&mut rule.subscribe, &mut rule.publish] {
            who.iter_mut().filter(|who| **who == Who::Hook).for_each(|who| *who = Who::Anyone);
        }
    }
}

impl Smaller {
    pub(crate) fn apply(&self, plan: &mut Plan) {
        for (at_most, (_, count, lower)) in self.at_most.iter().zip(&NUMBERS) {
            if let Some(at_most) = at_most.filter(|at_most| *at_most < count(plan)) {
                lower(plan, at_most);
            }
        }
        for (_, take) in self.parts() {
            take(plan);
        }
        // The rest must fit together.
        plan.faults.stuck_links &= plan.shards > 1;
        plan.faults.flits &= plan.shards > 1;
        let channels = &plan.channels;
        plan.hooks.grant = plan.hooks.grant.take().filter(|grant| channels.contains(grant));
    }

    /// The parts that are taken away.
    fn parts(&self) -> impl Iterator<Item = &'static Part> {
        self.without.iter().filter_map(|index| PARTS.get(*index))
    }

    /// The smaller worlds of one of [`WAYS`], beginning with the smallest.
    fn next(&self, plan: &Plan, way: usize) -> Vec<Smaller> {
        let Some((name, count, _)) = NUMBERS.get(way) else {
            let mut smaller = self.clone();
            smaller.without.insert(way - NUMBERS.len());
            return vec![smaller];
        };
        let has = count(plan);
        let least = match *name {
            "cores" | "readers" => 0,
            "chaos" => CHAOS_MS_MIN,
            _ => 1,
        };
        let fewer = match *name {
            "chaos" => vec![has / 4, has / 2, has * 3 / 4, has * 15 / 16],
            "payload" => vec![least, has / 4],
            _ => vec![least, has / 2, has.max(1) - 1],
        };
        let fewer = fewer.into_iter().filter(|fewer| (least..has).contains(fewer));
        fewer
            .map(|fewer| {
                let mut smaller = self.clone();
                smaller.at_most[way] = Some(fewer);
                smaller
            })
            .collect()
    }
}

impl fmt::Display for Smaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.at_most.iter().zip(&NUMBERS);
        let numbers = numbers.filter_map(|(at_most, (name, ..))| at_most.map(|n| format!("{name}={n}")));
        let parts = self.parts().map(|(name, _)| format!("no-{name}"));
        let history = (self.history > 0).then(|| format!("history={}", self.history));
        f.write_str(&numbers.chain(parts).chain(history).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Smaller {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut smaller = Smaller::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some(part) = word.strip_prefix("no-") {
                let index = PARTS.iter().position(|(name, _)| *name == part);
                smaller.without.insert(index.ok_or_else(|| format!("{word:?}: a world has no such part"))?);
                continue;
            }
            let number = word.split_once('=').and_then(|(name, n)| Some((name, n.parse::<u64>().ok()?)));
            let (name, n) = number.ok_or_else(|| format!("{word:?}: neither \"no-PART\" nor \"NAME=NUMBER\""))?;
            match NUMBERS.iter().position(|(known, ..)| *known == name) {
                Some(_) if n == 0 && !["cores", "chats", "readers"].contains(&name) => {
                    return Err(format!("{word:?}: a world has one at least"));
                }
                Some(index) => smaller.at_most[index] = Some(n),
                None if name == "history" => smaller.history = n,
                None => return Err(format!("{word:?}: a world has no such number")),
            }
        }
        Ok(smaller)
    }
}

/// The smallest world found that fails like the seed's own.
#[derive(Debug)]
pub(crate) struct Shrunk {
    pub(crate) smaller: Smaller,
    pub(crate) what: String,
    pub(crate) events: Vec<String>,
}

/// Makes the world of a seed that fails with `what` smaller. Returns nothing if no smaller one fails in the same way.
pub(crate) fn shrink(seed: u64, what: &str, runs_max: usize, events: usize) -> Option<Shrunk> {
    shrink_by(attempt, seed, what, runs_max, events)
}

/// Runs the world of a seed without what was taken away; the number is that of the last events that it gives.
type Attempt = fn(u64, usize, &Smaller) -> (Result<(), String>, Counts, Vec<String>);

fn shrink_by(attempt: Attempt, seed: u64, what: &str, runs_max: usize, events: usize) -> Option<Shrunk> {
    let kind = kind(what);
    let fails = |smaller: &Smaller| {
        let (verdict, counts, _) = attempt(seed, 0, smaller);
        verdict.is_err_and(|what| self::kind(&what) == kind).then_some(counts.commands)
    };
    let (mut best, mut runs, mut next_history) = (Smaller::default(), 0, 0);
    // Until it differs, a smaller world has the same history: that finds most, and costs one run each. The other
    // histories are tried when it finds nothing more.
    let mut histories = 1;
    let mut last_found = 0;
    for round in 0.. {
        for way in 0..WAYS {
            let plan = Drawn::of(seed, &best).plan;
            let is_smaller = |smaller: &Smaller| format!("{plan:?}") != format!("{:?}", Drawn::of(seed, smaller).plan);
            let all = best.next(&plan, way).into_iter().filter(is_smaller);
            let mut chances = all.flat_map(|smaller| (0..histories).map(move |chance| (smaller.clone(), chance)));
            let found = chances.find_map(|(mut smaller, chance)| {
                if chance > 0 {
                    next_history += 1;
                    smaller.history = next_history;
                }
                runs += 1;
                (runs <= runs_max && fails(&smaller).is_some()).then_some(smaller)
            });
            if let Some(found) = found {
                (best, last_found) = (found, round);
            }
        }
        if runs > runs_max || last_found < round && histories == HISTORIES {
            break;
        }
        if last_found < round {
            histories = HISTORIES;
        }
    }
    if best == Smaller::default() {
        return None;
    }
    let mut commands = fails(&best)?;
    for _ in 0..LAST_HISTORIES {
        next_history += 1;
        let other = Smaller { history: next_history, ..best.clone() };
        if let Some(fewer) = fails(&other).filter(|fewer| *fewer < commands) {
            (best, commands) = (other, fewer);
        }
    }
    let (verdict, _, events) = attempt(seed, events, &best);
    Some(Shrunk { smaller: best, what: verdict.err()?, events })
}

/// The common part of two failures of one kind: the promise, or else the words up to the first value.
fn kind(what: &str) -> String {
    let line = what.lines().next().unwrap_or_default();
    if let Some(promise) = line.strip_prefix("promise ") {
        return format!("promise {}", promise.split(':').next().unwrap_or_default());
    }
    let is_name = |word: &&str| word.contains(':') && !word.contains(' ');
    let words = line.split(": ").find(|words| !is_name(words)).unwrap_or(line);
    words.chars().take_while(|c| !c.is_ascii_digit() && !"{[(\"".contains(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_away_is_read_as_it_is_written() {
        let text = "clients=1,cores=0,chaos=1250,no-hooks,no-store-late,history=7";
        let smaller: Smaller = text.parse().expect("it is one");
        assert_eq!(smaller.to_string(), text);
        assert_eq!("".parse(), Ok(Smaller::default()));
        for wrong in ["clients", "clients=0", "no-clients", "wheels=3", "cuts", "chaos=soon"] {
            assert!(wrong.parse::<Smaller>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn failures_of_one_kind_differ_in_values_only() {
        let table = [
            ("promise 5: chat:0: ab12 is present and should not be", "promise 5"),
            ("promise 10: x", "promise 10"),
            ("chat:0: delivered at Position { .. }, where none is", "delivered at Position "),
            ("command 46 of Some(..) was never answered", "command "),
            ("wire: a text that nobody said", "wire"),
        ];
        for (what, expected) in table {
            assert_eq!(kind(what), expected, "{what}");
        }
    }

    #[test]
    fn a_failure_is_shown_by_a_smaller_world_that_fails_again() {
        // Stands for a fault that needs a client and cut connections.
        fn attempt(seed: u64, events: usize, smaller: &Smaller) -> (Result<(), String>, Counts, Vec<String>) {
            let plan = Drawn::of(seed, smaller).plan;
            let counts = Counts { commands: plan.chaos_ms, ..Counts::default() };
            let verdict = match plan.clients > 0 && plan.faults.cuts {
                true => Err(format!("promise 2: {} clients", plan.clients)),
                false => Ok(()),
            };
            (verdict, counts, vec!["an event".to_owned(); events])
        }
        let has_cuts = |seed: &u64| attempt(*seed, 0, &Smaller::default()).0.is_err();
        let seed = (1..).find(has_cuts).expect("some seed has cuts");
        let shrunk = shrink_by(attempt, seed, "promise 2: some clients", RUNS_MAX, 20).expect("a smaller world");
        let read: Smaller = shrunk.smaller.to_string().parse().expect("it is one");
        assert_eq!(attempt(seed, 0, &read).0, Err(shrunk.what), "{read}");
        assert_eq!(shrunk.events.len(), 20);
        let plan = Drawn::of(seed, &read).plan;
        assert_eq!((plan.clients, plan.cores, plan.shards), (1, 0, 1), "{read}");
        assert!(plan.chaos_ms < 2 * CHAOS_MS_MIN, "{read}");
    }
}
