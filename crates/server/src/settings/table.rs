//! Every setting, once: from this table come the parser, the flags of the command line, the names in the environment,
//! the reference page, the manual and the file that `fanfare init` writes.
//!
//! A row says where in [`Settings`] its value lives; its default is what stands there in `Settings::default()`. Rules
//! (`[[channels]]`) and API keys are tables of their own: `channels.rs`, `keys.rs`.

use super::Settings;
use super::kind::{Kind, Millis, Number};
use crate::config::Config;

/// A setting: one row of the table.
pub struct Setting {
    /// Its key in the file: `limits.message_bytes_max`.
    pub key: &'static str,
    /// What it does, for a reader who does not know it.
    pub doc: &'static str,
    /// The default in words, where it depends on the machine.
    pub(super) default: Option<&'static str>,
    pub(super) kind: Kind,
}

/// A section of the file, with what is said about it.
pub const SECTIONS: &[(&str, &str)] = &[
    ("", "Where it listens, and for whom."),
    ("session", "What the server keeps of a client that comes and goes."),
    ("heartbeat", "How the native protocol finds out that a client is gone."),
    ("chat", "The chat protocol on `/`. A room `general` is the channel `chat:general`, so a rule must match it."),
    ("log", "What is logged, to stderr."),
    ("admin", "Where the server is watched: /metrics, /healthz and /readyz."),
    (
        "limits",
        "What one connection, one channel and the whole node may make the server hold. Reaching a limit is an error \
                with the limit and the value in it, or sheds as told here; nothing grows beyond.",
    ),
];

/// Parts that are on their way. Their keys are known, so that nobody takes them for a slip, and refused.
pub(super) const LATER: &[(&str, &str)] = &[
    ("secret", "a secret of one's own, for several nodes"),
    ("base_path", "serving below a path"),
    ("trusted_proxies", "a proxy's word on its client's address"),
    ("auth", "tokens (JWT), HTTP hooks and `anonymous`"),
    ("hooks", "HTTP hooks"),
    ("tls", "TLS by the server itself"),
    ("socketio", "Socket.IO"),
    ("webrtc", "WebRTC signalling helpers"),
    ("store", "history on disk"),
    ("redis", "several nodes by Redis"),
    ("nats", "several nodes by NATS"),
];

macro_rules! settings {
    ($($key:literal: $kind:expr, $([$default:literal],)? $doc:literal;)*) => {
        /// Every setting, in the order of the reference page.
        pub const SETTINGS: &[Setting] = &[$(
            Setting { key: $key, doc: $doc, default: settings!(@default $($default)?), kind: $kind },
        )*];
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}

settings! {
    "listen": Kind::Addresses(|s| &mut s.listen),
        "The addresses that clients connect to: ADDRESS:PORT, or unix:PATH for a socket file. All shards accept from all of \
         them.";
    "shards": Kind::Count { min: 1, max: 1024, at: Number::Usize(|s| &mut s.config.shards) }, ["one for each core"],
        "Shards, each a thread with its own connections and its own part of the channels.";
    "origins": Kind::Origins(|s| &mut s.config.origins),
        "Pages of browsers that may open connections, beside those of the same host: `https://app.example`, an app's own \
         (`capacitor://localhost`), `null` (files and sandboxed frames), `localhost` for any port of this machine, `*` for any page. \
         Programs send no origin and are not concerned.";
    "hosts": Kind::Hosts(|s| &mut s.config.hosts),
        "Hosts that requests may name: `app.example`, `*.app.example` for all below it, `*` for any. Addresses, `localhost` and the hosts \
         of `origins` are always served. An empty list serves no others on loopback addresses, where a page whose name was pointed to \
         this machine would pass for one of the same host, and any host on other addresses. Unix sockets serve any host.";

    "shutdown_delay": Kind::Time { min: 0, max: 600_000, at: Millis::Duration(|s| &mut s.config.shutdown_delay) },
        "How long a server that is told to stop serves on as before while `/readyz` says 503, so that a balancer sends nobody \
         any more; then clients are told to come back. A balancer needs a probe's interval times the failures it waits for.";

    "session.grace": Kind::Time { min: 0, max: 3_600_000, at: Millis::U64(|s| &mut s.config.limits.grace_ms) },
        "How long a session outlives its connection: who comes back within that time was never away.";
    "session.connect_timeout": Kind::Time { min: 100, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.connect_timeout_ms) },
        "Time for the first valid `connect` on a new connection.";
    "session.drain_window": Kind::Time { min: 0, max: 600_000, at: Millis::Duration(|s| &mut s.config.drain_window) },
        "A server that stops asks its clients to come back, spread over this time.";

    "heartbeat.interval": Kind::Time { min: 1000, max: 3_600_000, at: Millis::U64(|s| &mut s.config.limits.heartbeat_ms) },
        "Time between pings of the native protocol. A client that gives no sign of life between two of them is closed.";

    "chat.enabled": Kind::Switch(|s| &mut s.chat.enabled),
        "Serves the chat protocol to WebSockets on `/` that name no subprotocol.";
    "chat.heartbeat": Kind::Time { min: 1000, max: 3_600_000, at: Millis::U64(|s| &mut s.chat.heartbeat_ms) },
        "Time between pings of the chat protocol.";

    "log.level": Kind::Word { words: &["off", "error", "warn", "info", "debug", "trace"], at: |s| &mut s.log.level },
        "The least severe that is logged.";
    "log.format": Kind::Word { words: &["text", "json"], at: |s| &mut s.log.format },
        "How a line is written: for people, or as one JSON object.";

    "admin.listen": Kind::Admin(|s| &mut s.config.admin),
        "Where /metrics, /healthz and /readyz are served. /healthz is on the main addresses in any case.";

    "limits.connections_max":
        Kind::Count { min: 0, max: 1 << 24, at: Number::Usize(|s| &mut s.config.connections_max) }, ["0"],
        "Connections of all kinds at once; 0 for what the limit of open files allows, with an eighth of it (16 to 1,024) kept. One more \
         WebSocket is told to come back (close code 4004), one more page is refused by 503; /healthz and the HTTP API go on.";
    "limits.connections_per_address_max":
        Kind::Count { min: 0, max: 1 << 24, at: Number::Usize(|s| &mut s.config.connections_per_address_max) }, ["0"],
        "Those from one peer address, of IPv6 from one /64; 0 for no limit. Unix sockets are not counted. Behind a proxy all clients have \
         one address, behind a NAT many: set it where clients connect directly.";
    "limits.message_bytes_max": Kind::Bytes { min: 1 << 10, max: 16 << 20, at: |s| &mut s.config.limits.message_bytes_max },
        "One command's payload, and so one publication's. A larger one is refused as `too_large`.";
    "limits.outbox_bytes_max": Kind::Bytes { min: 4 << 10, max: 1 << 30, at: |s| &mut s.config.limits.outbox_bytes_max },
        "Bytes waiting for one connection before it is behind and pulls instead.";
    "limits.subscriptions_max": Kind::Count { min: 1, max: 65_536, at: Number::Usize(|s| &mut s.config.limits.subscriptions_max) },
        "Subscriptions of one connection.";
    "limits.outstanding_max": Kind::Count { min: 1, max: 65_536, at: Number::Usize(|s| &mut s.config.limits.outstanding_max) },
        "Commands of one connection that wait for an answer; at this many the connection is not read.";
    "limits.bad_requests_per_minute_max":
        Kind::Count { min: 1, max: 1_000_000, at: Number::U32(|s| &mut s.config.limits.bad_requests_per_minute_max) },
        "Invalid messages of one connection in a minute before it is closed as abuse.";
    "limits.history_bytes_max": Kind::Bytes { min: 0, max: 1 << 40, at: |s| &mut s.config.limits.history_bytes_max },
        "Publications kept as history in all channels together, with their overhead, and what is known of channels in no use. Each \
         shard has its share: such channels go first, then the oldest publications.";
    "limits.page_bytes_max": Kind::Bytes { min: 4 << 10, max: 64 << 20, at: |s| &mut s.config.limits.page_bytes_max },
        "One page of history or of what a client missed.";
    "limits.scan_slice": Kind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.scan_slice) },
        "Publications that one step of reading history looks at, where some are for others, before others have their turn.";
    "limits.link_bytes_max": Kind::Bytes { min: 64 << 10, max: 1 << 30, at: |s| &mut s.config.limits.link_bytes_max },
        "Bytes on the way from one shard to another before the receiver pulls instead.";
    "limits.fanout_waiting_max":
        Kind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.fanout_waiting_max) },
        "What one channel has waiting for a fan-out in progress, on each shard: beyond it publications are pulled instead, signals are \
         shed, and presence is told as a whole later.";
    "limits.fanout_waiting_bytes_max":
        Kind::Bytes { min: 64 << 10, max: 1 << 30, at: |s| &mut s.config.limits.fanout_waiting_bytes_max },
        "The bytes of that.";
    "limits.fanout_slice": Kind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.fanout_slice) },
        "Steps of work for many before others have their turn: receivers of one fan-out, subscriptions that a reload judges, \
         connections that a drain tells, timers that fall due together.";
    "limits.moved_bytes_max": Kind::Bytes { min: 0, max: 1 << 30, at: |s| &mut s.config.limits.moved_bytes_max },
        "What a shard remembers of the sessions that went to other shards; the one to be forgotten next goes first.";
    "limits.signals_waiting_max":
        Kind::Count { min: 0, max: 65_536, at: Number::Usize(|s| &mut s.config.limits.signals_waiting_max) },
        "Signals to one client that are kept while it is away or slow, and of one channel to a shard that is behind; \
         the oldest goes first.";
    "limits.batch_size_max": Kind::Count { min: 1, max: 10_000, at: Number::Usize(|s| &mut s.config.limits.batch_size_max) },
        "Publications that a subscriber may have gathered into one batch.";
    "limits.batch_delay_max":
        Kind::Time { min: 0, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.batch_delay_ms_max) },
        "How long a subscriber may have them gathered.";
    "limits.idempotency_keys_bytes_max":
        Kind::Bytes { min: 4 << 10, max: 1 << 30, at: |s| &mut s.config.limits.idempotency_keys_bytes_max },
        "Idempotency keys that one channel remembers, each with about 270 bytes of overhead; beyond that the oldest is forgotten early. All \
         channels together remember at most a quarter of `history_bytes_max`.";
    "limits.idempotency_keys_ttl":
        Kind::Time { min: 1_000, max: 86_400_000, at: Millis::U64(|s| &mut s.config.limits.idempotency_keys_ttl_ms) },
        "How long an idempotency key is remembered: for so long a publication may be sent again without standing twice.";
    "limits.presence_entries_max":
        Kind::Count { min: 0, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.presence_entries_max) },
        "Entries of one channel's presence; with more only their number is told.";
    "limits.presence_bytes_max": Kind::Bytes { min: 0, max: 1 << 20, at: |s| &mut s.config.limits.presence_bytes_max },
        "The data of one presence entry.";
    "limits.presence_left_max":
        Kind::Count { min: 0, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.presence_left_max) },
        "Sessions that moved between shards and left a channel which a shard remembers for half a minute.";
    "limits.metadata_ttl":
        Kind::Time { min: 60_000, max: 31_536_000_000, at: Millis::U64(|s| &mut s.config.limits.metadata_ttl_ms) },
        "How long a channel's epoch and last place outlive its use, so that a quiet channel is recovered and not lost.";
    "limits.linger": Kind::Time { min: 0, max: 3_600_000, at: Millis::U64(|s| &mut s.config.limits.linger_ms) },
        "How long a shard goes on listening to a channel without subscribers.";
    "limits.app_outstanding_max":
        Kind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.app_outstanding_max) },
        "Commands of the application that wait for an answer, on each shard; more are refused as `unavailable`.";
    "limits.questions_max": Kind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.questions_max) },
        "Questions to the application's handlers that wait for an answer, on each shard; more are refused as `unavailable`. A quarter is kept for `connect`.";
    "limits.session_questions_max":
        Kind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.session_questions_max) },
        "Those of one client; further ones wait for their turn.";
    "limits.hook_timeout": Kind::Time { min: 10, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.hook_timeout_ms) },
        "Time for a handler's answer; then the command is refused as `timeout`.";
    "limits.pages_outstanding_max":
        Kind::Count { min: 1, max: 1 << 24, at: Number::Usize(|s| &mut s.config.pages_outstanding_max) },
        "Requests to pages of the embedding program (its router) that are under way before their answers begin; more are refused by 503.";
    "limits.store_timeout": Kind::Time { min: 10, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.store_timeout_ms) },
        "Time for one answer of the store; then a command is refused as `unavailable`, or as `unknown` where it may have been done.";
    "limits.store_waiting_bytes_max":
        Kind::Bytes { min: 64 << 10, max: 1 << 40, at: |s| &mut s.config.limits.store_waiting_bytes_max },
        "What waits for the store, on each shard; beyond it commands are refused as `unavailable`.";
    "limits.head_bytes_max": Kind::Bytes { min: 1 << 10, max: 1 << 20, at: |s| &mut s.config.head_bytes_max },
        "A request's head: its line and headers.";
    "limits.head_timeout": Kind::Time { min: 100, max: 600_000, at: Millis::Duration(|s| &mut s.config.head_timeout) },
        "Time for a request's head to arrive whole.";
    "limits.http_idle_timeout":
        Kind::Time { min: 100, max: 3_600_000, at: Millis::Duration(|s| &mut s.config.http_idle_timeout) },
        "How long an HTTP connection may be idle between two requests. Answers announce it (`Keep-Alive: timeout=75`). Keep it longer \
         than the idle time of a balancer in front (60 s is usual), so that the balancer closes and no request meets a closed \
         connection.";
    "limits.write_timeout": Kind::Time { min: 100, max: 3_600_000, at: Millis::Duration(|s| &mut s.config.write_timeout) },
        "How long a peer may take nothing of what it is sent; then its connection is closed, whatever it speaks. A slow reader takes \
         something and stays.";
    "limits.close_timeout": Kind::Time { min: 100, max: 600_000, at: Millis::Duration(|s| &mut s.config.close_timeout) },
        "Time for a closing connection to take what waits and to say goodbye.";
}

impl Setting {
    /// The setting of this key.
    pub fn of(key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The first setting of a configuration made in code with which a server cannot serve: it is zero where a file
    /// must have more. Other values below the range of a file work, and tests use them.
    pub(crate) fn first_in_vain(config: &Config) -> Option<(&'static Setting, String)> {
        let mut settings = Settings { config: config.clone(), ..Settings::default() };
        let setting = SETTINGS.iter().find(|setting| setting.kind.is_zero_in_vain(&mut settings))?;
        Some((setting, setting.kind.show(&mut settings)))
    }

    /// Its section; empty for the top level.
    pub fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    pub fn name(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The variable of the environment that sets it: `FANFARE__LIMITS__MESSAGE_BYTES_MAX`.
    pub fn variable(&self) -> String {
        format!("{}{}", super::PREFIX, self.key.replace('.', "__").to_uppercase())
    }

    /// The flag without its dashes: `limits-message-bytes-max`.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// What kind of value it takes, as a word for a flag: `BYTES`.
    pub fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    /// True where a flag may be given several times.
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Addresses(_) | Kind::Origins(_) | Kind::Hosts(_))
    }

    /// What may stand there, in words.
    pub fn allowed(&self) -> String {
        self.kind.allowed()
    }

    /// The default as it would be written in the file, or in words.
    pub fn default_shown(&self) -> String {
        self.default.map_or_else(|| self.kind.show(&mut Settings::default()), str::to_owned)
    }
}
