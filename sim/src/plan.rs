//! The plan that a seed draws: the size of the world, its bounds, and its faults.
//!
//! Bounds are small, so that every one of them is reached within seconds; each seed draws a subset of the faults,
//! because a world in which everything fails at once never gets far enough to break anything subtle.

mod readers;
mod socketio;
mod strict;

use crate::app::CLOSED;
use crate::chances::Chances;
use crate::model::matches;
use crate::quotas::QuotaPlan;
use crate::shrink::Smaller;
use fanfare_client::core::Transport;
use fanfare_hub::{
    Batch, ChannelName, ChannelNotices, Hooks, Limits, Pattern, PresenceMode, RateLimit, Retain, Rng, Rule, Rules,
    Slow, Who,
};
use std::collections::BTreeMap;

/// The number of the first client core. Clients and cores are counted separately, so that the number of the ones does
/// not depend on that of the others.
pub(crate) const CORES: usize = 100;
/// The same of the first chat client.
pub(crate) const CHATS: usize = 150;
/// The same of the first reader of event streams.
pub(crate) const READERS: usize = 170;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) shards: usize,
    pub(crate) clients: usize,
    /// Clients that are the real client core.
    pub(crate) cores: usize,
    /// Clients that speak the chat protocol.
    pub(crate) chats: usize,
    /// Readers of plain event streams.
    pub(crate) readers: usize,
    pub(crate) channels: Vec<ChannelName>,
    pub(crate) limits: Limits,
    pub(crate) rules: Vec<Rule>,
    /// The options of each client's subscription to each channel, if they are not the defaults.
    pub(crate) habits: BTreeMap<(usize, ChannelName), Habit>,
    pub(crate) faults: Faults,
    /// What sessions and users may send in a time.
    pub(crate) quotas: QuotaPlan,
    /// There is an application that publishes, and subscribes and disconnects clients.
    pub(crate) app: bool,
    /// The server drains and starts again, this long after the beginning; and whether its store loses everything.
    pub(crate) restart: Option<(u64, bool)>,
    /// Clients send what is no command now and then.
    pub(crate) rude: bool,
    /// The messages of a turn to another shard arrive together.
    pub(crate) batched_links: bool,
    /// Clients begin by requests and go on over a WebSocket, in parts of a hundred of their connections.
    pub(crate) engine: u64,
    /// Subscriptions of clients that are kept while their sessions have no connection.
    pub(crate) keeps: BTreeMap<usize, Vec<ChannelName>>,
    /// Clients enter rooms and leave them, and publish to those in them.
    pub(crate) rooms: bool,
    /// Commands for sessions also come in requests of their own.
    pub(crate) forwards: bool,
    /// The application says much to few.
    pub(crate) whispers: bool,
    /// Clients poll, in parts of a hundred of their connections.
    pub(crate) polls: u64,
    /// Client cores use event streams and polls too.
    pub(crate) http: bool,
    /// The questions to the application, and the nature of its answers.
    pub(crate) hooks: HookPlan,
    /// The time during which faults happen.
    pub(crate) chaos_ms: u64,
    /// Milliseconds between two acts of a client, on average.
    pub(crate) pace_ms: u64,
    /// Bytes that the network holds of one connection.
    pub(crate) window: usize,
    /// The largest payload.
    pub(crate) payload_max: u64,
}

/// A client's options for each subscription to a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Habit {
    pub(crate) batch: Option<Batch>,
    pub(crate) slow: Option<Slow>,
    /// It wants no signals.
    pub(crate) no_signals: bool,
    /// It is kept while its session has no connection.
    pub(crate) keep: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) cuts: bool,
    pub(crate) half_open: bool,
    pub(crate) stalls: bool,
    pub(crate) shard_stalls: bool,
    /// Messages between shards take long.
    pub(crate) slow_links: bool,
    /// Messages of one shard to another are stuck for a while, and clients come back on a third one meanwhile.
    pub(crate) stuck_links: bool,
    /// Clients leave a shard before their session has arrived there.
    pub(crate) flits: bool,
    pub(crate) clock_steps: bool,
    /// Clients are stopped for up to a minute.
    pub(crate) freezes: bool,
    pub(crate) reloads: bool,
    /// Something between client cores and the server does not let transports through.
    pub(crate) obstructs: bool,
    pub(crate) store: StoreFaults,
}

/// The claims of every identity, in worlds where rules ask for them: the second segments of all channels, that of
/// chat clients that name no room among them, and a role.
pub(crate) const CLAIMS: &[u8] = br#"{"rooms":["0","1","2","3","general"],"role":"member"}"#;

/// The nature of the application's answers; in parts of a thousand of the questions.
#[derive(Debug, Clone, Default)]
pub(crate) struct HookPlan {
    pub(crate) hooks: Hooks,
    /// It answers slowly.
    pub(crate) slow: u64,
    /// It answers after the deadline.
    pub(crate) late: u64,
    /// It does not answer.
    pub(crate) missing: u64,
    /// It denies, unless the payload decides.
    pub(crate) denies: u64,
    /// Its identities expire.
    pub(crate) expires: bool,
    /// There is an application that gets questions.
    pub(crate) is_on: bool,
    /// Channels whose rules say `hook`, besides those for which it has handlers.
    pub(crate) subscribe_by_rule: Vec<Pattern>,
    pub(crate) publish_by_rule: Vec<Pattern>,
    /// Every identity has [`CLAIMS`], and rules ask for them.
    pub(crate) claims: bool,
    /// The right of a token with trusted facts: a subscription to this channel, independent of its rule.
    pub(crate) grant: Option<ChannelName>,
}

impl HookPlan {
    /// True if it must allow subscriptions.
    pub(crate) fn is_asked_to_subscribe(&self, channel: &ChannelName) -> bool {
        self.hooks.subscribe.iter().chain(&self.subscribe_by_rule).any(|pattern| matches(pattern.as_str(), channel))
    }

    /// True if it is asked about publications.
    pub(crate) fn is_asked_to_publish(&self, channel: &ChannelName) -> bool {
        self.hooks.publish.iter().chain(&self.publish_by_rule).any(|pattern| matches(pattern.as_str(), channel))
    }
}

/// In parts of a thousand, for each operation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreFaults {
    pub(crate) late: u64,
    pub(crate) unavailable: u64,
    pub(crate) unknown: u64,
    pub(crate) twice: u64,
    /// Answers overtake each other.
    pub(crate) disordered: bool,
    /// It does not answer at all, whether or not it executes the operation.
    pub(crate) silent: u64,
    /// It stands still from this operation on, for up to three seconds: what is submitted takes effect then.
    pub(crate) stuck: u64,
    /// Acknowledged entries are lost now and then, with a new epoch.
    pub(crate) loses: bool,
    /// Its numbers have holes.
    pub(crate) holes: bool,
}

/// The world of a seed, and its source of chances.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) plan: Plan,
    pub(crate) chances: Chances,
}

impl Drawn {
    /// The world of this seed without the parts that `smaller` takes away, in the history that it names.
    pub(crate) fn of(seed: u64, smaller: &Smaller) -> Self {
        let parts = Chances::new(seed, 0);
        let mut plan = Plan::draw(&mut parts.of("plan", 0));
        plan.draw_habits(parts.of("plan: habits", 0));
        plan.draw_hooks(&mut parts.of("plan: hooks", 0));
        plan.draw_links(parts.of("plan: links", 0));
        plan.draw_grants(parts.of("plan: grants", 0));
        plan.draw_claims(parts.of("plan: claims", 0));
        plan.draw_patience(parts.of("plan: patience", 0));
        plan.faults.store.holes = parts.of("plan: holes", 0).below(3) == 0;
        plan.draw_keys(parts.of("plan: keys", 0));
        plan.draw_rates(parts.of("plan: rates", 0));
        plan.batched_links = parts.of("plan: batched links", 0).below(2) == 0;
        plan.draw_restart(parts.of("plan: restart", 0));
        plan.draw_freezes(parts.of("plan: freezes", 0));
        plan.draw_rudeness(parts.of("plan: rudeness", 0));
        plan.forwards = parts.of("plan: forwards", 0).below(3) == 0;
        plan.draw_polls(parts.of("plan: polls", 0));
        plan.draw_late(parts.of("plan: late", 0));
        plan.draw_whispers(parts.of("plan: whispers", 0));
        plan.draw_rooms(parts.of("plan: rooms", 0));
        plan.draw_chats(parts.of("plan: chats", 0));
        plan.draw_http(parts.of("plan: http", 0));
        plan.draw_keeps(parts.of("plan: keeps", 0));
        plan.draw_engine(parts.of("plan: engine", 0));
        plan.draw_readers(parts.of("plan: readers", 0));
        plan.draw_strict(parts.of("plan: strict", 0));
        plan.draw_quotas(parts.of("plan: quotas", 0));
        smaller.apply(&mut plan);
        plan.limits.quotas = plan.quotas.quotas();
        Drawn { plan, chances: Chances::new(seed, smaller.history) }
    }
}

impl Plan {
    fn draw(rng: &mut Rng) -> Self {
        let mut one_in = |n: u64| rng.below(n) == 0;
        let any_store = one_in(2);
        let mut faults = Faults {
            cuts: one_in(2),
            half_open: one_in(4),
            stalls: one_in(2),
            shard_stalls: one_in(3),
            slow_links: one_in(3),
            stuck_links: false,
            flits: false,
            clock_steps: one_in(4),
            freezes: false,
            reloads: one_in(6),
            obstructs: false,
            store: StoreFaults::default(),
        };
        if any_store {
            faults.store = StoreFaults {
                late: if one_in(2) { 400 } else { 20 },
                unavailable: if one_in(3) { 60 } else { 0 },
                unknown: if one_in(3) { [40, 300][usize::from(one_in(2))] } else { 0 },
                twice: if one_in(4) { 100 } else { 0 },
                disordered: one_in(2),
                silent: 0,
                stuck: 0,
                loses: one_in(3),
                holes: false,
            };
        }
        let channels = (0..1 + rng.below(4)).filter_map(|i| {
            let kind = if i == 3 { "few" } else { ["chat", "chat", "short", "count"][rng.below(4) as usize] };
            ChannelName::new(&format!("{kind}:{i}")).ok()
        });
        let mut plan = Plan {
            channels: channels.collect(),
            shards: 1 + rng.below(3) as usize,
            clients: 2 + rng.below(4) as usize,
            cores: rng.below(4) as usize,
            chats: 0,
            readers: 0,
            limits: limits(rng),
            rules: rules(rng.below(8) == 0),
            habits: BTreeMap::new(),
            faults,
            quotas: QuotaPlan::default(),
            app: rng.below(2) == 0,
            forwards: false,
            whispers: false,
            polls: 0,
            http: false,
            restart: None,
            rude: false,
            batched_links: false,
            engine: 0,
            keeps: BTreeMap::new(),
            rooms: false,
            hooks: HookPlan::default(),
            chaos_ms: 4_000 + rng.below(16_000),
            pace_ms: 60 + rng.below(200),
            window: 256 + rng.below(4096) as usize,
            payload_max: [20, 200, 900][rng.below(3) as usize],
        };
        // Some worlds have only narrow and slow links between shards, and edges that come and go.
        if rng.below(5) == 0 {
            plan.shards = 2 + rng.below(2) as usize;
            plan.limits.link_bytes_max = 300 + rng.below(900) as usize;
            plan.limits.linger_ms = 60;
            plan.faults.slow_links = true;
            plan.faults.store.loses = false;
            plan.channels.truncate(2);
        }
        plan
    }

    /// In some worlds messages of a third shard overtake those from one shard to another. Drawn from a stream of its
    /// own.
    fn draw_links(&mut self, mut rng: Rng) {
        if rng.below(5) == 0 {
            self.shards = 3;
            self.faults.stuck_links = true;
        }
    }

    /// Some clients have habits, and then some rules are strict. Drawn from a stream of its own: a world without habits
    /// stays the same.
    fn draw_habits(&mut self, mut rng: Rng) {
        if rng.below(3) > 0 {
            return;
        }
        for rule in &mut self.rules {
            if rng.below(4) == 0 {
                rule.slow = [Slow::Latest, Slow::Latest, Slow::Disconnect][rng.below(3) as usize];
            }
        }
        for client in (0..self.clients).chain((0..self.cores).map(|core| CORES + core)) {
            for channel in &self.channels {
                let batch = Batch {
                    size: [2, 5, 10, 50][rng.below(4) as usize],
                    delay_ms: [20, 100, 500, 2_000][rng.below(4) as usize],
                };
                let slow = Slow::ALL[rng.below(3) as usize];
                let batch = (rng.below(2) == 0).then_some(batch);
                let slow = (rng.below(2) == 0).then_some(slow);
                let habit = Habit { batch, slow, no_signals: rng.below(5) == 0, keep: false };
                self.habits.insert((client, channel.clone()), habit);
            }
        }
    }

    pub(crate) fn habit(&self, client: usize, channel: &ChannelName) -> Habit {
        let habit = self.habits.get(&(client, channel.clone())).copied().unwrap_or_default();
        Habit { keep: self.kept(client).contains(channel), ..habit }
    }

    /// The rule's word about slow subscribers of a channel.
    pub(crate) fn slow(&self, channel: &ChannelName) -> Slow {
        self.rule_of(Some(channel)).map_or(Slow::Pull, |rule| rule.slow)
    }

    /// True if its only shard learns at once of each entry that a store accepts.
    pub(crate) fn is_exact(&self) -> bool {
        let StoreFaults { late, unavailable, unknown, twice, disordered: _, silent, stuck, loses, holes: _ } =
            self.faults.store;
        self.shards == 1
            && late + unavailable + unknown + twice + silent + stuck == 0
            && !loses
            && self.restart.is_none()
    }

    /// Draws the time that a command waits for a store, and the number of entries that are read at once. From a stream
    /// of its own, as habits and hooks.
    fn draw_patience(&mut self, mut rng: Rng) {
        if rng.below(2) == 0 {
            self.limits.scan_slice = 1 + rng.below(6) as usize;
        }
        if rng.below(3) == 0 {
            self.limits.store_timeout_ms = 300 + rng.below(2_000);
            self.limits.store_waiting_bytes_max = if rng.below(2) == 0 { 2_000 } else { 1 << 20 };
            self.faults.store.silent = [5, 50, 300][rng.below(3) as usize];
        }
    }

    /// Draws the questions to the application. From a stream of its own, so that worlds without hooks, and the known
    /// seeds, stay the same.
    fn draw_hooks(&mut self, rng: &mut Rng) {
        if rng.below(3) > 0 {
            return;
        }
        let mut kinds = |among: &[&str]| -> Vec<Pattern> {
            among.iter().filter(|_| rng.below(2) == 0).filter_map(|text| Pattern::new(text).ok()).collect()
        };
        let subscribe = kinds(&["chat:*", "short:*", "count:*", "few:*"]);
        let publish = kinds(&["chat:*", "chat:*", "short:*", "count:*", "few:*"]);
        let hooks = Hooks {
            connect: rng.below(2) == 0,
            subscribe,
            publish,
            rpc: rng.below(3) > 0,
            disconnect: rng.below(2) == 0,
            channels: all_notices(),
        };
        self.hooks = HookPlan {
            hooks,
            slow: [0, 100, 500][rng.below(3) as usize],
            late: [0, 30, 100][rng.below(3) as usize],
            missing: [0, 20, 60][rng.below(3) as usize],
            denies: [0, 50, 200][rng.below(3) as usize],
            // A clock that steps ends a token at any time, also after everything has healed.
            expires: !self.faults.clock_steps && rng.below(2) == 0,
            is_on: true,
            ..HookPlan::default()
        };
        self.limits.hook_timeout_ms = 400 + rng.below(1_200);
        self.limits.questions_max = if rng.below(3) == 0 { 3 + rng.below(8) as usize } else { 1024 };
        self.limits.session_questions_max = [1, 2, 8][rng.below(3) as usize];
        // A client whose subscription is undecided may publish before it is subscribed: this gives the judge more to
        // judge.
        for rule in &mut self.rules {
            rule.publish = vec![Who::Anyone];
        }
    }

    /// In some worlds idempotency keys end within the run, or have little room.
    fn draw_keys(&mut self, mut rng: Rng) {
        if rng.below(3) == 0 {
            self.limits.idempotency_keys_ttl_ms = 500 + rng.below(4_000);
        }
        if rng.below(4) == 0 {
            self.limits.idempotency_keys_bytes_max = 2_000 + rng.below(8_000) as usize;
        }
    }

    /// In some worlds the server drains and starts again.
    fn draw_restart(&mut self, mut rng: Rng) {
        if rng.below(6) == 0 {
            self.restart = Some((500 + rng.below(self.chaos_ms / 3), rng.below(2) == 0));
        }
    }

    /// True if a store loses what it had acknowledged.
    pub(crate) fn loses(&self) -> bool {
        self.faults.store.loses || self.restart.is_some_and(|(_, loses)| loses)
    }

    /// In some worlds clients are stopped for up to a minute. There the faults last longer and clients do less.
    fn draw_freezes(&mut self, mut rng: Rng) {
        if rng.below(10) == 0 {
            self.faults.freezes = true;
            self.chaos_ms += 60_000;
            self.pace_ms *= 6;
        }
    }

    /// In some worlds clients send invalid messages, and few of them are put up with.
    fn draw_rudeness(&mut self, mut rng: Rng) {
        if rng.below(4) == 0 {
            self.rude = true;
            self.limits.bad_requests_per_minute_max = 2 + rng.below(20) as u32;
        }
    }

    /// In some worlds clients poll now and then, or always. In those with an application they subscribe by `connect`
    /// only, and try again all at once: one session must have room for the questions about them.
    fn draw_polls(&mut self, mut rng: Rng) {
        if rng.below(2) == 0 {
            self.polls = [20, 50, 100][rng.below(3) as usize];
            self.limits.session_questions_max = self.limits.session_questions_max.min(2);
        }
    }

    /// In some worlds a store stands still now and then, or clients leave a shard before their session is there.
    fn draw_late(&mut self, mut rng: Rng) {
        if rng.below(8) == 0 {
            self.faults.store.stuck = [3, 10, 30][rng.below(3) as usize];
            // An operation submitted before an epoch was lost takes effect in the next one.
            if rng.below(2) == 0 {
                (self.faults.store.loses, self.faults.store.disordered) = (true, true);
                self.limits.store_timeout_ms = 200 + rng.below(600);
            }
        }
        self.faults.flits = self.shards > 1 && rng.below(4) == 0;
    }

    /// In some worlds the application publishes much that is for one client only, where others want only the latest and
    /// stores look at little at once: the newest publication for them is found in several steps.
    fn draw_whispers(&mut self, mut rng: Rng) {
        if !self.app || rng.below(5) > 0 {
            return;
        }
        self.whispers = true;
        self.limits.scan_slice = 1 + rng.below(3) as usize;
        for rule in &mut self.rules {
            if rng.below(2) == 0 {
                rule.slow = Slow::Latest;
            }
        }
    }

    /// In worlds without an application, and in some with one, client cores use event streams and polls, and something
    /// may stand in their way.
    fn draw_http(&mut self, mut rng: Rng) {
        let obstructs = rng.below(2) == 0;
        if !self.app && !self.hooks.is_on || rng.below(3) == 0 {
            self.http = true;
            self.cores = self.cores.max(1);
            self.faults.obstructs = obstructs;
        }
    }

    /// The transports that a client core may use, in their order.
    pub(crate) fn transports(&self, mut rng: Rng) -> Vec<Transport> {
        use Transport::{Poll, Sse, Stream, WebSocket};
        let lists: [&[Transport]; 8] = [
            &[Sse],
            &[Stream],
            &[Poll],
            Transport::AUTO,
            &[Sse, Poll, WebSocket],
            &[Sse, Poll],
            &[Stream, WebSocket],
            &[Stream, Poll, Sse],
        ];
        match self.http {
            true => lists[rng.below(lists.len() as u64) as usize].to_vec(),
            false => vec![WebSocket],
        }
    }

    /// In some worlds there are rooms, and few of them for each subscription.
    fn draw_rooms(&mut self, mut rng: Rng) {
        if rng.below(3) == 0 {
            self.rooms = true;
            self.limits.rooms_max = [2, 4, 1024][rng.below(3) as usize];
            self.limits.room_message_bytes_max = self.limits.message_bytes_max;
        }
    }

    /// In some worlds with a room there are chat clients.
    fn draw_chats(&mut self, mut rng: Rng) {
        if rng.below(3) == 0 && self.channels.iter().any(|channel| channel.starts_with("chat:")) {
            self.chats = 1 + rng.below(3) as usize;
        }
    }

    /// In some worlds sessions may publish and signal only so often.
    fn draw_rates(&mut self, mut rng: Rng) {
        if rng.below(4) > 0 {
            return;
        }
        for rule in self.rules.iter_mut().filter(|rule| !matches(rule.pattern.as_str(), CLOSED)) {
            if rng.below(3) > 0 {
                let window_ms = [200, 500, 1_000, 3_000][rng.below(4) as usize];
                rule.rate = Some(RateLimit { count_max: 1 + rng.below(6) as u32, window_ms });
            }
        }
    }

    /// Everything has healed: nobody is refused for having published often.
    pub(crate) fn lift_rates(&mut self) {
        self.rules.iter_mut().for_each(|rule| rule.rate = None);
    }

    /// In some worlds with an application rules leave decisions to it, and tokens are good for a subscription. Drawn
    /// from a stream of its own.
    fn draw_grants(&mut self, mut rng: Rng) {
        if !self.hooks.is_on {
            return;
        }
        for rule in self.rules.iter_mut().filter(|rule| !matches(rule.pattern.as_str(), CLOSED)) {
            if rng.below(3) == 0 {
                rule.subscribe = vec![Who::Hook];
                self.hooks.subscribe_by_rule.push(rule.pattern.clone());
            }
            if rng.below(4) == 0 {
                rule.publish = vec![Who::Hook];
                self.hooks.publish_by_rule.push(rule.pattern.clone());
            }
        }
        if self.hooks.hooks.connect {
            self.hooks.grant = self.channels.get(rng.below(self.channels.len() as u64) as usize).cloned();
        }
    }

    /// In some worlds rules ask for claims, by a condition or by a capture. All sessions have them, so that nobody is
    /// refused: one that lost them on its way, or whose token lost them, is.
    fn draw_claims(&mut self, mut rng: Rng) {
        if !self.hooks.hooks.connect || rng.below(2) > 0 {
            return;
        }
        self.hooks.claims = true;
        for rule in self.rules.iter_mut().filter(|rule| !matches(rule.pattern.as_str(), CLOSED)) {
            if rng.below(2) == 0 {
                let captured = rule.pattern.as_str().replace('*', "{claims.rooms}");
                rule.pattern = Pattern::new(&captured).expect("a pattern with a capture");
            }
            if rng.below(2) == 0 && rule.subscribe == [Who::Anyone] {
                rule.subscribe = vec![Who::claim("role", ["guest", "member"])];
            }
        }
    }

    /// The rules, with the subscribers of one channel excluded if a reload wants that.
    pub(crate) fn rules(&self, shut: Option<&ChannelName>) -> Rules {
        // What the rule keeps out stays out.
        let open = |pattern| match self.rule_of(shut) {
            Some(rule) => Rule { pattern, rate: None, presence: PresenceMode::Full, ..rule.clone() },
            None => Rule::open(pattern),
        };
        let closed = shut.and_then(|name| Pattern::new(name.as_str()).ok()).map(|pattern| Rule {
            subscribe: Vec::new(),
            publish: self.published_by_leave(shut).unwrap_or_else(|| vec![Who::Subscriber]),
            history: self.rule_of(shut).map_or(Retain::default(), |rule| rule.history),
            slow: shut.map_or(Slow::Pull, |name| self.slow(name)),
            ..open(pattern)
        });
        Rules::new(closed.into_iter().chain(self.rules.iter().cloned()).collect())
    }

    fn published_by_leave(&self, name: Option<&ChannelName>) -> Option<Vec<Who>> {
        self.rule_of(name).map(|rule| rule.publish.clone()).filter(|who| who.contains(&Who::Hook))
    }

    fn rule_of(&self, name: Option<&ChannelName>) -> Option<&Rule> {
        self.rules.iter().find(|rule| name.is_some_and(|name| matches(rule.pattern.as_str(), name)))
    }
}

fn limits(rng: &mut Rng) -> Limits {
    Limits {
        message_bytes_max: 4096,
        outbox_bytes_max: 1500 + rng.below(6000) as usize,
        subscriptions_max: 8,
        outstanding_max: 4 + rng.below(8) as usize,
        history_bytes_max: if rng.below(4) == 0 { 12_000 } else { 1 << 20 },
        page_bytes_max: 1200 + rng.below(3000) as usize,
        link_bytes_max: if rng.below(2) == 0 { 700 + rng.below(4000) as usize } else { 1 << 20 },
        fanout_waiting_max: 2 + rng.below(30) as usize,
        fanout_waiting_bytes_max: 8_000,
        fanout_slice: if rng.below(2) == 0 { 1 + rng.below(4) as usize } else { 4096 },
        signals_waiting_max: 8,
        presence_entries_max: if rng.below(3) == 0 { 3 } else { 1000 },
        linger_ms: 100 + rng.below(900),
        grace_ms: 2_000,
        heartbeat_ms: 3_000,
        connect_timeout_ms: 2_000,
        ..Limits::default()
    }
}

/// Every notice about every channel: it costs nothing that a choice would save.
fn all_notices() -> ChannelNotices {
    let all: Vec<Pattern> = Pattern::new("**").into_iter().collect();
    ChannelNotices { occupancy: all.clone(), join: all.clone(), leave: all.clone(), published: all }
}

fn rules(disconnect: bool) -> Vec<Rule> {
    let rule = |pattern: &str, history: Retain| Rule {
        history,
        ..Rule::open(Pattern::new(pattern).expect("a pattern of this file"))
    };
    let mut few = rule("few:*", Retain { count: 0, bytes: 0, ttl_ms: 0 });
    if disconnect {
        few.slow = Slow::Disconnect;
    }
    let mut count = rule("count:*", Retain { count: 40, ..Retain::default() });
    count.presence = PresenceMode::Count;
    let mut closed = rule("app:*", Retain::default());
    closed.subscribe = Vec::new();
    vec![
        closed,
        rule("chat:*", Retain { count: 100, ..Retain::default() }),
        rule("short:*", Retain { count: 5, bytes: 1 << 20, ttl_ms: 10_000 }),
        count,
        few,
    ]
}
