//! Every setting, once: from this table come the parser, the flags of the command line, the names in the environment,
//! the reference page, the manual and the file that `fanfare init` writes.
//!
//! A row says where in [`Settings`] its value lives; its default is what stands there in `Settings::default()`. Rules
//! (`[[channels]]`) and API keys are tables of their own: `channels.rs`, `keys.rs`.

use super::Settings;
use super::exposure;
use super::kind::{Millis, Number, ValueKind};
use crate::config::Config;

/// A setting: one row of the table.
pub struct Setting {
    /// Its key in the file: `limits.message_bytes_max`.
    pub key: &'static str,
    /// Its effect, for a reader who does not know it.
    pub doc: &'static str,
    /// The default in words, where it depends on the machine.
    pub(super) default: Option<&'static str>,
    pub(super) kind: ValueKind,
}

/// The sections of the file, with their descriptions.
pub const SECTIONS: &[(&str, &str)] = &[
    ("", "The addresses of the server, and the clients that it accepts."),
    (
        "auth",
        "The identity of clients, by tokens (JWT) that your application signs: see auth.md. Without a key every client is \
         anonymous, and a token is refused.",
    ),
    (
        "hooks",
        "Your application decides over HTTP who may connect, subscribe and publish, answers calls, and is notified: see \
         hooks.md. The secret that signs the requests stands here too.",
    ),
    ("session", "The time that clients have to connect, to come back, and to leave a server that stops."),
    ("heartbeat", "How the native protocol detects that a client is gone."),
    ("chat", "The chat protocol on `/`. A room `general` is the channel `chat:general`, so a rule must match it."),
    ("socketio", "Socket.IO for its 4.x clients, with the events of a chat room built in: see socketio.md."),
    ("log", "The log, on stderr."),
    (
        "tls",
        "TLS by the server itself, on its TCP addresses. Unix sockets and the address for monitoring stay plain. SIGHUP \
         reads the files again; open connections go on.",
    ),
    ("admin", "The address for monitoring: /metrics, /healthz and /readyz."),
    ("streams", "Event streams and streams of JSON lines, for clients without a WebSocket."),
    ("compression", "Compression of messages for clients that can read it."),
    (
        "limits",
        "The bounds of one connection, one channel and the whole node. At a limit the server answers an error with the \
         limit and the value in it, or sheds load as described here. Nothing grows beyond its limit.",
    ),
];

/// Settings of later versions. The server knows their keys, so the error is better than that for a misspelt name.
pub(super) const LATER: &[(&str, &str)] = &[
    ("secret", "a secret that several nodes share"),
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
    "listen": ValueKind::Addresses(|s| &mut s.listen),
        "The addresses that clients connect to: ADDRESS:PORT, or unix:PATH for a socket file. All shards accept from all of \
         them.";
    "shards": ValueKind::Count { min: 1, max: 1024, at: Number::Usize(|s| &mut s.config.shards) }, ["one for each core"],
        "Shards, each a thread with its own connections and its own part of the channels.";
    "origins": ValueKind::Origins(|s| &mut s.config.origins),
        "Pages in browsers that may open connections and read answers (CORS), besides pages of the same host: `https://app.example`, an app's own \
         (`capacitor://localhost`), `null` (files and sandboxed frames), `localhost` for any port of this machine, `*` for any page. \
         Programs that are not browsers send no origin; this setting does not affect them.";
    "hosts": ValueKind::Hosts(|s| &mut s.config.hosts),
        "Hosts that requests may name: `app.example`, `*.app.example` for all below it, `*` for any. Addresses, `localhost` and the hosts \
         of `origins` are always served. With an empty list a loopback address serves no other host, because the page of an attacker \
         who points a name to this machine would count as a page of the same host; other addresses serve any host. Unix sockets \
         serve any host.";

    "trusted_proxies": ValueKind::Proxies(|s| &mut s.config.trusted_proxies),
        "Proxies that are believed when they say whom they speak for, by `Forwarded`, `X-Forwarded-For` and `X-Forwarded-Proto`: addresses, \
         networks (`10.0.0.0/8`), `loopback` (this machine), `unix` (every peer of a Unix socket). The headers of all others are ignored.";
    "proxy_protocol": ValueKind::AnyAddresses(|s| &mut s.config.proxy_protocol),
        "Addresses of `listen` whose connections begin with a header of the PROXY protocol, version 1 or 2, before TLS and HTTP. It tells \
         the client's address. A connection there without the header, or from a peer that `trusted_proxies` does not list, is closed.";
    "allow_insecure": ValueKind::Words { words: exposure::WORDS, at: |s| &mut s.allow_insecure },
        "Dangers that you accept. `fanfare serve` does not start with a dangerous combination of settings unless its word is listed here: see \
         security.md.";
    "base_path": ValueKind::BasePath(|s| &mut s.config.base_path),
        "The path below which everything is served: with `/realtime` a WebSocket is opened at `/realtime/v1/ws`. `/healthz` is at the root too. \
         `admin.listen` is not affected.";

    "shutdown_delay": ValueKind::Time { min: 0, max: 600_000, at: Millis::Duration(|s| &mut s.config.shutdown_delay) },
        "How long a server that is asked to stop continues to serve while `/readyz` answers 503, so that a load balancer sends \
         no new clients. Then the server asks its clients to come back. Choose at least the balancer's probe interval times the \
         failures that it waits for.";

    "auth.anonymous": ValueKind::Switch(|s| &mut s.config.auth.anonymous),
        "Whether clients may connect without a token. They have the rights that rules give to `anyone`. With a key the default is `false`.";
    "auth.issuer": ValueKind::Texts(|s| &mut s.config.auth.issuers),
        "The accepted values of the claim `iss`. With an empty list it is not looked at.";
    "auth.audience": ValueKind::Texts(|s| &mut s.config.auth.audiences),
        "The accepted values of the claim `aud`: one of them must be in the token. With an empty list it is not looked at.";
    "auth.leeway": ValueKind::Time { min: 0, max: 300_000, at: Millis::Duration(|s| &mut s.config.auth.leeway) },
        "By how much the clocks of the issuer and of this server may differ: a token is taken so long before `nbf` and after `exp`.";
    "auth.token_bytes_max": ValueKind::Bytes { min: 256, max: 64 << 10, at: |s| &mut s.config.auth.token_bytes_max },
        "The longest token. One in a header must fit into `limits.head_bytes_max` too.";
    "auth.cookie": ValueKind::Text(|s| &mut s.config.auth.cookie),
        "The cookie that may hold the token. It counts only for pages that `origins` names and for pages of the same host, and \
         where the client shows no other token.";
    "auth.jwks_url": ValueKind::Url(|s| &mut s.auth.jwks_url),
        "The address at which your issuer publishes its keys (a JWK set). They are fetched at the start, when they are old, and at \
         most once a minute for a token with an unknown `kid`. While the address does not answer, the last good keys stay.";
    "auth.jwks_allow": ValueKind::Texts(|s| &mut s.auth.jwks_allow),
        "What that address may be besides: `http` (without TLS), `private` (on this machine or in a private network), `redirects` \
         (it may send the server to another address).";
    "auth.jwks_refresh": ValueKind::Time { min: 10_000, max: 604_800_000, at: Millis::Duration(|s| &mut s.auth.jwks_refresh) },
        "How old these keys may become before they are fetched again.";

    "hooks.url": ValueKind::Url(|s| &mut s.hooks.url),
        "The address of your application, `http://` or `https://`, for every hook without an address of its own. Redirects are not followed.";
    "hooks.ask": ValueKind::Texts(|s| &mut s.hooks.ask),
        "What your application decides: `connect` (who a client is; with it `refresh`), `subscribe` and `publish` (where a rule says `hook`), \
         `rpc` (calls of methods, and events of Socket.IO clients that are not built in). A hook with an address of its own need not be listed.";
    "hooks.notify": ValueKind::Texts(|s| &mut s.hooks.notify),
        "What your application is notified of: `disconnect` (a session has ended), `join` and `leave` (the presence of a channel), `occupied` and \
         `vacated` (a channel has a subscriber, or none any more), `published`.";
    "hooks.notify_url": ValueKind::Url(|s| &mut s.hooks.notify_url),
        "The address for notices.";
    "hooks.notify_channels": ValueKind::Patterns(|s| &mut s.config.hooks.notices.channels),
        "The channels that your application is notified about. `disconnect` is about none.";
    "hooks.connect_url": ValueKind::Url(|s| &mut s.hooks.connect_url),
        "The address for `connect`.";
    "hooks.refresh_url": ValueKind::Url(|s| &mut s.hooks.refresh_url),
        "The address for `refresh`. The default is that of `connect`.";
    "hooks.subscribe_url": ValueKind::Url(|s| &mut s.hooks.subscribe_url),
        "The address for `subscribe`.";
    "hooks.publish_url": ValueKind::Url(|s| &mut s.hooks.publish_url),
        "The address for `publish`.";
    "hooks.rpc_url": ValueKind::Url(|s| &mut s.hooks.rpc_url),
        "The address for `rpc`.";
    "hooks.subscribe_channels": ValueKind::Patterns(|s| &mut s.config.hooks.subscribe_channels),
        "Channels whose subscriptions are asked about although their rule allows them.";
    "hooks.publish_channels": ValueKind::Patterns(|s| &mut s.config.hooks.publish_channels),
        "Channels whose publications are asked about although their rule allows them; the answer may change them.";
    "hooks.forward_headers": ValueKind::Texts(|s| &mut s.config.hooks.forward_headers),
        "Headers of the client's request that `connect` and `refresh` pass on, like `user-agent`. `cookie` is not one: name the cookies.";
    "hooks.forward_cookies": ValueKind::Texts(|s| &mut s.config.hooks.forward_cookies),
        "Cookies of the client's request that `connect` and `refresh` pass on.";
    "hooks.timeout": ValueKind::Time { min: 10, max: 600_000, at: Millis::Duration(|s| &mut s.config.hooks.timeout) },
        "Time for an answer, with the time in the queue. After it the question is refused as `hook_unavailable`. It must be less than `limits.hook_timeout`.";
    "hooks.concurrency": ValueKind::Count { min: 1, max: 65_536, at: Number::Usize(|s| &mut s.config.hooks.concurrency) },
        "Requests of one kind of hook that are under way at once.";
    "hooks.queue_max": ValueKind::Count { min: 0, max: 1 << 20, at: Number::Usize(|s| &mut s.config.hooks.queue_max) },
        "Questions of one kind of hook that wait for that. Further ones are refused as `hook_unavailable`.";
    "hooks.answer_bytes_max": ValueKind::Bytes { min: 256, max: 64 << 20, at: |s| &mut s.config.hooks.answer_bytes_max },
        "The longest answer. A longer one is refused as `hook_unavailable`.";
    "hooks.breaker_failures": ValueKind::Count { min: 0, max: 1_000_000, at: Number::U32(|s| &mut s.config.hooks.breaker.failures) },
        "So many failures of a hook in `breaker_window` (no connection, no answer in time, the status 429, 502, 503 or 504), which are at least half \
         of its requests then, stop its requests. 0: never.";
    "hooks.breaker_window": ValueKind::Time { min: 100, max: 3_600_000, at: Millis::Duration(|s| &mut s.config.hooks.breaker.window) },
        "The time over which failures are counted.";
    "hooks.breaker_pause": ValueKind::Time { min: 100, max: 3_600_000, at: Millis::Duration(|s| &mut s.config.hooks.breaker.pause) },
        "After so long one request is tried. If it is answered, requests are sent again.";
    "hooks.notice_timeout": ValueKind::Time { min: 10, max: 600_000, at: Millis::Duration(|s| &mut s.config.hooks.notices.timeout) },
        "Time for the answer to a request with notices. After it the request is sent again.";
    "hooks.notice_age_max": ValueKind::Time { min: 1000, max: 86_400_000, at: Millis::Duration(|s| &mut s.config.hooks.notices.age_max) },
        "How long notices that are not taken are sent again. Then they are dropped.";
    "hooks.notices_bytes_max": ValueKind::Bytes { min: 64 << 10, max: 1 << 40, at: |s| &mut s.config.hooks.notices.bytes_max },
        "The memory of notices that wait. What finds no room is dropped, and a notice `dropped` stands in its place.";

    "session.grace": ValueKind::Time { min: 0, max: 3_600_000, at: Millis::U64(|s| &mut s.config.limits.grace_ms) },
        "How long a session outlives its connection. A client that comes back in this time keeps its session and its presence.";
    "session.connect_timeout": ValueKind::Time { min: 100, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.connect_timeout_ms) },
        "Time for the first valid `connect` on a new connection.";
    "session.drain_window": ValueKind::Time { min: 0, max: 600_000, at: Millis::Duration(|s| &mut s.config.drain_window) },
        "A server that stops asks its clients to come back at times spread over this window.";

    "heartbeat.interval": ValueKind::Time { min: 1000, max: 3_600_000, at: Millis::U64(|s| &mut s.config.limits.heartbeat_ms) },
        "Time between pings of the native protocol. A client that sends nothing between two pings is disconnected.";

    "chat.enabled": ValueKind::Switch(|s| &mut s.chat.enabled),
        "Serves the chat protocol to WebSockets on `/`. It has no subprotocol: a browser must name none.";
    "chat.heartbeat": ValueKind::Time { min: 1000, max: 3_600_000, at: Millis::U64(|s| &mut s.chat.heartbeat_ms) },
        "Time between pings of the chat protocol.";
    "chat.username_chars_max": ValueKind::Count { min: 1, max: 256, at: Number::U32(|s| &mut s.chat.username_chars_max) },
        "The most characters of a `username`, which has at most 256 bytes besides. Control characters are removed before, and it \
         is one line. A `join` with a longer one is ignored.";
    "chat.content_chars_max": ValueKind::Count { min: 1, max: 1 << 20, at: Number::U32(|s| &mut s.chat.content_chars_max) },
        "The most characters of a `content`. Control characters are removed before, and it is in Unicode's normal form NFC. A \
         `message` with a longer one is ignored.";

    "socketio.enabled": ValueKind::Switch(|s| &mut s.config.socketio.enabled),
        "Serves Socket.IO.";
    "socketio.path": ValueKind::Text(|s| &mut s.config.socketio.path),
        "The path, below `base_path`; clients call it `path` too.";
    "socketio.ping_interval": ValueKind::Time { min: 1000, max: 3_600_000, at: Millis::Duration(|s| &mut s.config.socketio.ping_interval) },
        "Time between pings.";
    "socketio.ping_timeout": ValueKind::Time { min: 1000, max: 3_600_000, at: Millis::U64(|s| &mut s.config.limits.pong_timeout_ms) },
        "Time for the answer to a ping. A client that is silent for longer is disconnected.";
    "socketio.max_payload": ValueKind::Bytes { min: 1024, max: 64 << 20, at: |s| &mut s.config.limits.room_message_bytes_max },
        "The longest message of a client, and the longest packet with its attachments. A client that sends a longer one is disconnected.";
    "socketio.namespaces": ValueKind::Namespaces(|s| &mut s.config.socketio.namespaces),
        "The namespaces that exist besides `/`: names, and patterns in which `*` stands for any text. A client that asks for another one is \
         told `Invalid namespace`. Handlers in code add theirs.";
    "socketio.bridge": ValueKind::Patterns(|s| &mut s.config.socketio.bridge),
        "Rooms of the namespace `/` that are the channels of that name: a socket that joins one is subscribed, \
         and clients of all protocols meet there. The rules of the channels hold.";
    "socketio.namespaces_max": ValueKind::Count { min: 1, max: 1024, at: Number::Usize(|s| &mut s.config.socketio.namespaces_max) },
        "The most namespaces that one connection is in at a time.";
    "socketio.connect_timeout": ValueKind::Time { min: 100, max: 3_600_000, at: Millis::Duration(|s| &mut s.config.socketio.connect_timeout) },
        "Time for a connection to enter its first namespace. One that has not is closed.";
    "socketio.parser": ValueKind::Parser(|s| &mut s.config.socketio.parser),
        "The parser of all clients: `msgpack` for those that set `parser` to `socket.io-msgpack-parser`.";
    "socketio.polling": ValueKind::Switch(|s| &mut s.config.socketio.polling),
        "Serves clients that poll.";
    "socketio.websocket": ValueKind::Switch(|s| &mut s.config.socketio.websocket),
        "Serves clients that use a WebSocket.";
    "socketio.upgrades": ValueKind::Switch(|s| &mut s.config.socketio.upgrades),
        "Lets a client that polls go on with a WebSocket, where both are served.";
    "socketio.upgrade_timeout": ValueKind::Time { min: 100, max: 600_000, at: Millis::Duration(|s| &mut s.config.socketio.upgrade_timeout) },
        "Time for that. A WebSocket on which its client has not gone on by then is closed, and the client polls on.";
    "socketio.cookie": ValueKind::Cookie(|s| &mut s.config.socketio.cookie), ["none"],
        "A cookie with the id of the session, for clients that begin by polling. Fanfare needs none; a balancer before several nodes may.";
    "socketio.max_disconnection_duration": ValueKind::Time { min: 0, max: 86_400_000, at: Millis::Duration(|s| &mut s.config.socketio.max_disconnection_duration) },
        "How long a client that was cut off may be away and still go on as the same socket, in its rooms, with the events that it missed. \
         With it each event of the server has its offset as one more argument, as in the reference. 0 turns it off.";
    "socketio.skip_middlewares": ValueKind::Switch(|s| &mut s.config.socketio.skip_middlewares),
        "Lets a client that goes on as the same socket in without asking the guards of its namespace and the `on_connect` handler again, \
         as the reference does by default. Turn it off where a user can lose a right while it is away.";
    "socketio.refusal": ValueKind::Text(|s| &mut s.config.socketio.refusal),
        "The message of the `connect_error` of a client that the application does not let in.";

    "log.level": ValueKind::Word { words: &["off", "error", "warn", "info", "debug", "trace"], at: |s| &mut s.log.level },
        "The least severe level that is logged.";
    "log.format": ValueKind::Word { words: &["text", "json"], at: |s| &mut s.log.format },
        "The form of a line: `text` for people, `json` for one JSON object a line.";
    "log.audit": ValueKind::Word { words: &["on", "off"], at: |s| &mut s.log.audit },
        "Whether the log has a line for each action of the API and each refusal of a key: the audit log, \
         at the level `info` of the target `audit`, whatever `log.level` is but `off`.";

    "tls.certificate": ValueKind::File(|s| &mut s.tls.certificate), ["none: no TLS"],
        "The file of the certificate chain in PEM, the server's own certificate first. A path in the configuration file is relative to \
         its folder.";
    "tls.key": ValueKind::File(|s| &mut s.tls.key), ["none: no TLS"],
        "The file of the certificate's private key in PEM, without a password.";
    "tls.acme_domains": ValueKind::Texts(|s| &mut s.tls.acme_domains),
        "Names that the server orders a certificate for by ACME (RFC 8555), in place of the two files, and renews. The authority \
         connects to port 443 of each name, which must lead to this server. Until the first certificate is there, handshakes fail.";
    "tls.acme_cache": ValueKind::File(|s| &mut s.tls.acme_cache), ["none"],
        "The folder for the ACME account and the certificate with its key. The server makes it with access for its own user alone. \
         Keep it: authorities refuse more than a few orders a week.";
    "tls.acme_contact": ValueKind::Texts(|s| &mut s.tls.acme_contact),
        "Mail addresses that the authority may write to.";
    "tls.acme_directory": ValueKind::Text(|s| &mut s.tls.acme_directory),
        "The directory of the ACME authority. The default is Let's Encrypt.";
    "tls.acme_authority": ValueKind::File(|s| &mut s.tls.acme_authority), ["the system's"],
        "A PEM file of the authorities that the directory's own certificate may be of, for an ACME server of your own.";

    "tls.hsts": ValueKind::Time { min: 0, max: 63_072_000_000, at: Millis::Duration(|s| &mut s.config.hsts) },
        "For how long browsers come to this host over TLS alone (`Strict-Transport-Security`). 0: they are not told. It holds for all ports and \
         programs of the host: begin with a short time.";

    "admin.listen": ValueKind::Admin(|s| &mut s.config.admin),
        "Where /metrics, /healthz and /readyz are served. /healthz is on the main addresses in any case.";

    "streams.enabled": ValueKind::Switch(|s| &mut s.config.streams),
        "Serves `/events`, `/v1/sse`, `/v1/stream`, `/v1/poll` and `/v1/send`. With `false` a program that embeds the server can have pages \
         of its own there.";

    "compression.websocket": ValueKind::Switch(|s| &mut s.config.compression.websocket),
        "Compresses messages to WebSockets whose clients offer permessage-deflate, as browsers do, and reads compressed messages from \
         them. A publication is compressed once for all its receivers.";
    "compression.http": ValueKind::Switch(|s| &mut s.config.compression.http),
        "Compresses pages and answers of the HTTP API, of polls and of sends by gzip, for clients that accept it. Event streams and answers whose length is not \
         known are sent as they are.";
    "compression.bytes_min": ValueKind::Bytes { min: 0, max: 1 << 20, at: |s| &mut s.config.compression.bytes_min },
        "Shorter messages and answers are sent as they are. So are messages of more than 1 MiB, because all clients of a shard wait while one is \
         compressed.";

    "limits.connections_max":
        ValueKind::Count { min: 0, max: 1 << 24, at: Number::Usize(|s| &mut s.config.connections_max) }, ["0"],
        "Connections of all kinds at once. 0 means the limit of open files less a reserve of an eighth of it (16 to \
         1,024), 64, and 8 for each shard. Beyond the limit a WebSocket is closed with code 4004 (come back later) \
         and a page is answered 503; /healthz and the HTTP API still work. Clients that poll have sessions without a \
         socket: as many of these, besides the connections of their requests; a further one is answered 503. Polls \
         and sends of sessions that exist, and a repeated `connect` with `attempt`, are served beyond the limit too, \
         from a reserve of their own (a quarter of that one); there a poll waits for 2 s at most. The default is what \
         the system can hold: with more, no descriptor would be left for files and stores.";
    "limits.connections_per_address_max":
        ValueKind::Count { min: 0, max: 1 << 24, at: Number::Usize(|s| &mut s.config.connections_per_address_max) }, ["0"],
        "Connections from one address (for IPv6: from one /64); 0 for no limit. Unix sockets are not counted. \
         Connections of `trusted_proxies` are not counted either: a WebSocket or an event stream over one counts for \
         its client's address. Of sessions of clients that poll an address may have as many besides. The default is \
         no limit, because the clients of a whole office, or of a mobile network, may share one address.";
    "limits.connections_per_user_max":
        ValueKind::Count { min: 0, max: 1 << 24, at: Number::U32(|s| &mut s.config.limits.quotas.connections_per_user_max) },
        "Sessions of one user, over all transports and shards; 0 for no limit. One that was cut off counts until `session.grace` is over. A \
         client of Socket.IO has one in each namespace. A further `connect` is refused as `too_many_connections`. The default is more \
         than a person has tabs and devices, and few enough that a stolen token fills no server.";
    "limits.new_connections": ValueKind::Rate { min: 1, max: 1 << 24, of_bytes: false, at: |s| &mut s.config.new_connections.in_all },
        "How fast connections may come, from all addresses. The first number may come at once, and as many in each such time. Beyond it \
         a connection is asked to come back later, as beyond `connections_max`; over HTTP by 429 with `Retry-After`. Sessions of clients \
         that poll have the same rate besides. The default is no limit, because the right number depends on the machine.";
    "limits.new_connections_per_address":
        ValueKind::Rate { min: 1, max: 1 << 24, of_bytes: false, at: |s| &mut s.config.new_connections.per_address },
        "The same from one address (for IPv6: from one /64). Loopback addresses and Unix sockets are not counted; connections of \
         `trusted_proxies` count for their clients' addresses. The default lets an office behind one address come back after a restart \
         and stops a program that only opens connections.";
    "limits.messages_per_connection":
        ValueKind::Rate { min: 1, max: 1 << 32, of_bytes: false, at: |s| &mut s.config.limits.quotas.messages_per_connection },
        "Commands of one session: all but `connect`, `disconnect` and `pong`, over any transport. Each channel of a `subscribe` is one. Beyond the \
         rate a command is refused as `rate_limited` with `retry_after`. Chat and Socket.IO clients have no word for that: they are not read until \
         there is room again, and what they have sent arrives as long as the connection lasts. The default leaves room for a mouse that moves, and lets nobody take a core for \
         himself.";
    "limits.bytes_per_connection":
        ValueKind::Rate { min: 1 << 10, max: 1 << 40, of_bytes: true, at: |s| &mut s.config.limits.quotas.bytes_per_connection },
        "Bytes of data in these commands. One that is longer than the rate allows at once is taken when nothing else was sent lately; from a chat \
         or Socket.IO client it is always taken, and then the client is not read for the longer. The default is about 8 Mbit/s.";
    "limits.messages_per_user":
        ValueKind::Rate { min: 1, max: 1 << 32, of_bytes: false, at: |s| &mut s.config.limits.quotas.messages_per_user },
        "The same as `messages_per_connection` for all sessions of one user. Where they are on several shards, the user may exceed it by an eighth \
         for each further shard. Users without sessions are remembered until they would have everything back. The default is that of \
         three busy connections.";
    "limits.bytes_per_user":
        ValueKind::Rate { min: 1 << 10, max: 1 << 40, of_bytes: true, at: |s| &mut s.config.limits.quotas.bytes_per_user },
        "Bytes of data in the commands of all sessions of one user, with the same bound. The default is that of three busy connections.";
    "limits.new_channels_per_user":
        ValueKind::Rate { min: 1, max: 1 << 32, of_bytes: false, at: |s| &mut s.config.limits.quotas.new_channels_per_user },
        "Names of channels that this node does not know, used by one user: by a subscription, a publication, a signal or a question about \
         history or presence. For clients without a user it counts for each session. A command with a further name is refused as \
         `rate_limited`; chat and Socket.IO clients wait. Commands under way may exceed it, `outstanding_max` of each connection at most. A name is known while the \
         channel is used and for `metadata_ttl` after that. The default lets a client with all of its subscriptions come back after a \
         restart, and makes a flood of names slow.";
    "limits.polls_per_connection":
        ValueKind::Rate { min: 1, max: 1 << 32, of_bytes: false, at: |s| &mut s.config.limits.quotas.polls_per_connection },
        "Polls of one session: of the native protocol (`/v1/poll`), or GETs of a Socket.IO client that polls. Above \
         the rate an answer comes later, with more in it; one that would come more than a second later is refused as \
         `rate_limited` with `retry_after` (429), so polls that do not wait for the answers of the earlier ones are. \
         The default slows down no client whose server is more than 10 ms away, and lets nobody take a core by \
         polls.";
    "limits.overload_lag": ValueKind::Time { min: 0, max: 600_000, at: Millis::Duration(|s| &mut s.config.overload_lag) },
        "A shard that takes its turn so late is overload: until a second after the last such turn new connections and sessions that poll are \
         refused as `overloaded`, by 503 with `Retry-After` or the code 4004. Who is connected stays, and probes and the HTTP API work. 0: never. \
         The default is far above the lag of a busy machine, and below the time-outs of clients.";
    "limits.memory_max": ValueKind::Bytes { min: 0, max: 1 << 44, at: |s| &mut s.config.memory_max }, ["0"],
        "The memory of the process above which new connections are refused in the same way, until it has less. 0 \
         means nine tenths of what the container or the machine has, so that the system does not end the server, and \
         everybody with it. It is looked at once a second, on Linux. The default leaves the last tenth to those who \
         are connected.";
    "limits.message_bytes_max": ValueKind::Bytes { min: 1 << 10, max: 16 << 20, at: |s| &mut s.config.limits.message_bytes_max },
        "The payload of one command, and so of one publication. A larger one is refused as `too_large`. The default \
         holds long texts and drawings, and not files: a larger message makes all clients of its shard wait.";
    "limits.outbox_bytes_max": ValueKind::Bytes { min: 4 << 10, max: 1 << 30, at: |s| &mut s.config.limits.outbox_bytes_max },
        "Bytes that wait for one connection. Beyond this the connection is behind: it gets the rest from the history \
         as it reads. The default is about a second of a mobile connection; a thousand slow readers take 256 MiB at \
         most.";
    "limits.subscriptions_max": ValueKind::Count { min: 1, max: 65_536, at: Number::Usize(|s| &mut s.config.limits.subscriptions_max) },
        "Subscriptions of one connection. The default is more than one page shows, and bounds the work of one client \
         that comes back.";
    "limits.grants_max": ValueKind::Count { min: 1, max: 65_536, at: Number::Usize(|s| &mut s.config.limits.grants_max) },
        "Grants of one identity: the `channels` of a token. A token with more is refused as `unauthorized`, an answer of \
         a hook with more as `hook_unavailable`. The default bounds the work of a decision, which compares each of \
         them.";
    "limits.outstanding_max": ValueKind::Count { min: 1, max: 65_536, at: Number::Usize(|s| &mut s.config.limits.outstanding_max) },
        "Commands of one connection that wait for an answer. At this number the server stops reading from the \
         connection. The default keeps a client busy over a slow network, and bounds what it can make the server \
         hold.";
    "limits.asked_max": ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.asked_max) },
        "Questions of the application to Socket.IO clients that wait for acks, on each shard. Further ones are \
         refused as `unavailable`. The default lets the application ask every client of a large room at once.";
    "limits.forwarded_max": ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.forwarded_max) },
        "Requests to `/v1/send` that wait for an answer, on each shard. Further ones are refused as `unavailable`. \
         The default is far more than one shard has under way in the time of an answer; beyond it something has \
         stopped answering.";
    "limits.forward_timeout":
        ValueKind::Time { min: 100, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.forward_timeout_ms) },
        "Time for the answer to a request to `/v1/send`. After it the request is refused as `timeout`; its commands \
         may have been carried out. Make it longer than `hook_timeout` and `store_timeout`. The default is longer \
         than a hook and the store may take one after the other.";
    "limits.bad_requests_per_minute_max":
        ValueKind::Count { min: 1, max: 1_000_000, at: Number::U32(|s| &mut s.config.limits.bad_requests_per_minute_max) },
        "Invalid messages of one connection in a minute. Beyond this number the connection is closed as abuse. The \
         default forgives the mistakes of a program under development, and ends one that sends garbage.";
    "limits.history_bytes_max": ValueKind::Bytes { min: 0, max: 1 << 40, at: |s| &mut s.config.limits.history_bytes_max },
        "The history of all channels together, with overhead, and the data kept for unused channels. Each shard has \
         an equal share. At the limit a shard first drops unused channels, then the oldest publications. The default \
         is the whole history of 250 channels of 1 MiB, or of many thousands of usual ones, on a machine with 1 GiB.";
    "limits.page_bytes_max": ValueKind::Bytes { min: 4 << 10, max: 64 << 20, at: |s| &mut s.config.limits.page_bytes_max },
        "One page of history or of recovered publications. The default is one full outbox, so that a client that \
         catches up costs one page.";
    "limits.scan_slice": ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.scan_slice) },
        "Publications that one step of reading history looks at, if some are not for the reader. Then other work has \
         its turn. The default takes less than a millisecond.";
    "limits.link_bytes_max": ValueKind::Bytes { min: 64 << 10, max: 1 << 30, at: |s| &mut s.config.limits.link_bytes_max },
        "Bytes on the way from one shard to another. Beyond this the receiver gets the rest from the history. The \
         default is what one shard handles in a few milliseconds.";
    "limits.fanout_waiting_max":
        ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.fanout_waiting_max) },
        "Deliveries of one channel that wait for a fan-out in progress, on each shard. Beyond this number subscribers \
         get publications from the history, signals are dropped, and presence is sent as a whole later. The default \
         is a second of a very busy channel.";
    "limits.fanout_waiting_bytes_max":
        ValueKind::Bytes { min: 64 << 10, max: 1 << 30, at: |s| &mut s.config.limits.fanout_waiting_bytes_max },
        "Bytes of these waiting deliveries. The default is that of messages of 4 KiB.";
    "limits.fanout_slice": ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.fanout_slice) },
        "Steps of one large piece of work before other work has its turn: receivers of a fan-out, subscriptions that \
         a reload checks, connections that a drain notifies, timers that expire together. The default takes about a \
         millisecond, so that nobody waits longer for a large channel.";
    "limits.list_looks_max": ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.list_looks_max) },
        "Sessions of a shard that one page of a list of connections or users looks at. A page has fewer entries than \
         it might where that is used up, and the list goes on. The default takes a few milliseconds.";
    "limits.moved_bytes_max": ValueKind::Bytes { min: 0, max: 1 << 30, at: |s| &mut s.config.limits.moved_bytes_max },
        "Bytes of records about sessions that moved to other shards. At the limit a shard drops the record that would \
         expire next. The default is tens of thousands of sessions that move at once.";
    "limits.signals_waiting_max":
        ValueKind::Count { min: 0, max: 65_536, at: Number::Usize(|s| &mut s.config.limits.signals_waiting_max) },
        "Signals that wait for one client that is away or slow, and signals of one channel that wait for a shard that \
         is behind. At the limit the oldest is dropped. The default is enough for the offers of a call; older \
         positions of a pointer are of no use.";
    "limits.rooms_max": ValueKind::Count { min: 1, max: 65_536, at: Number::Usize(|s| &mut s.config.limits.rooms_max) },
        "Rooms of one Socket.IO client, with those that it has left and from which it has not read everything yet. \
         Joining another one has no effect. The default is more than programs use, and bounds what a return costs.";
    "limits.batch_size_max": ValueKind::Count { min: 1, max: 10_000, at: Number::Usize(|s| &mut s.config.limits.batch_size_max) },
        "The largest batch size that a subscriber may choose. The default is a message of some kilobytes, which \
         clients still handle at once.";
    "limits.batch_delay_max":
        ValueKind::Time { min: 0, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.batch_delay_ms_max) },
        "The longest batch delay that a subscriber may choose. The default is longer than people call live.";
    "limits.idempotency_keys_bytes_max":
        ValueKind::Bytes { min: 4 << 10, max: 1 << 30, at: |s| &mut s.config.limits.idempotency_keys_bytes_max },
        "Idempotency keys that one channel remembers, each with about 270 bytes of overhead. Beyond this the oldest \
         key is forgotten early. The keys of all channels together take at most a quarter of `history_bytes_max`. The \
         default is 15,000 publications with keys in two minutes.";
    "limits.idempotency_keys_ttl":
        ValueKind::Time { min: 1_000, max: 86_400_000, at: Millis::U64(|s| &mut s.config.limits.idempotency_keys_ttl_ms) },
        "How long an idempotency key is remembered. In this time a publication may be sent again and is stored once. \
         The default is longer than clients try again before they tell their user.";
    "limits.presence_entries_max":
        ValueKind::Count { min: 0, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.presence_entries_max) },
        "Entries of one channel's presence. With more entries the server sends only their number. The default is more \
         names than people read; beyond it every change would go to a thousand clients and more.";
    "limits.presence_bytes_max": ValueKind::Bytes { min: 0, max: 1 << 20, at: |s| &mut s.config.limits.presence_bytes_max },
        "The data of one presence entry. The default holds a name, a picture's address and a state: it is sent to \
         every subscriber.";
    "limits.presence_left_max":
        ValueKind::Count { min: 0, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.presence_left_max) },
        "Sessions that moved between shards and left a channel; a shard remembers each for half a minute. The default \
         is 500 moves a second.";
    "limits.metadata_ttl":
        ValueKind::Time { min: 60_000, max: 31_536_000_000, at: Millis::U64(|s| &mut s.config.limits.metadata_ttl_ms) },
        "How long the server keeps the epoch and newest position of an unused channel, so that clients of a quiet \
         channel recover and get no gap. The default is a night and a working day.";
    "limits.linger": ValueKind::Time { min: 0, max: 3_600_000, at: Millis::U64(|s| &mut s.config.limits.linger_ms) },
        "How long a shard still receives a channel after its last subscriber has left. The default spares the work \
         where a page is loaded again.";
    "limits.app_outstanding_max":
        ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.app_outstanding_max) },
        "Commands of the application that wait for an answer, on each shard. Further ones are refused as \
         `unavailable`. The default is far more than one shard has under way in the time of an answer; beyond it the \
         application is too fast.";
    "limits.questions_max": ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.questions_max) },
        "Questions to the application's handlers that wait for an answer, on each shard. Further ones are refused as \
         `unavailable`. A quarter is reserved for `connect`. As many handlers of Socket.IO run at once, but for those \
         that wait for acks, and as many guards; further handlers wait. As many guards wait; a further client is \
         disconnected and comes back. The default bounds the memory at a few MiB where handlers do not answer.";
    "limits.session_questions_max":
        ValueKind::Count { min: 1, max: 1 << 20, at: Number::Usize(|s| &mut s.config.limits.session_questions_max) },
        "Questions about one client that wait for an answer. Further ones wait for their turn. As many Socket.IO \
         handlers of one connection run at once, and as many guards. The default lets no single client take all \
         handlers.";
    "limits.away_bytes_max": ValueKind::Bytes { min: 1 << 20, max: 1 << 40, at: |s| &mut s.config.limits.away_bytes_max },
        "Memory of the clients that were cut off and may still come back as the same session, by an estimate: 1 KiB \
         for each, and its rooms. Each shard has an equal share. At the limit the session that has been without a \
         connection for longest ends, and its client begins anew. The default is 250,000 clients that are cut off at \
         once.";
    "limits.hook_timeout": ValueKind::Time { min: 10, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.hook_timeout_ms) },
        "Time for a handler's answer. After it the command is refused as `timeout`. The default is as long as a \
         person waits.";
    "limits.pages_outstanding_max":
        ValueKind::Count { min: 1, max: 1 << 24, at: Number::Usize(|s| &mut s.config.pages_outstanding_max) },
        "Requests to pages of the embedding program (its router) whose answers have not begun. Further ones are \
         answered 503. The default bounds the memory where the program does not answer.";
    "limits.store_timeout": ValueKind::Time { min: 10, max: 600_000, at: Millis::U64(|s| &mut s.config.limits.store_timeout_ms) },
        "Time for one answer of the store. After it a command is refused as `unavailable`, or as `unknown` if it may \
         have been done. The default is as long as a person waits.";
    "limits.store_waiting_bytes_max":
        ValueKind::Bytes { min: 64 << 10, max: 1 << 40, at: |s| &mut s.config.limits.store_waiting_bytes_max },
        "Bytes that wait for the store, on each shard. Beyond this commands are refused as `unavailable`. The default \
         is 250 of the longest messages of a slow store.";
    "limits.head_bytes_max": ValueKind::Bytes { min: 1 << 10, max: 1 << 20, at: |s| &mut s.config.head_bytes_max },
        "The head of a request: its request line and its headers. The default holds large cookies and a token.";
    "limits.head_timeout": ValueKind::Time { min: 100, max: 600_000, at: Millis::Duration(|s| &mut s.config.head_timeout) },
        "Time for the whole head of a request to arrive. Also the longest pause in the body of a request while the \
         API or a page waits for it; a body that keeps arriving, at 500 bytes a second or more, may take longer. \
         After either time the request is answered 408 and its HTTP/1 connection is closed. The default is enough for \
         a slow mobile network, and ends clients that hold connections open with nothing.";
    "limits.http_idle_timeout":
        ValueKind::Time { min: 100, max: 3_600_000, at: Millis::Duration(|s| &mut s.config.http_idle_timeout) },
        "How long an HTTP connection may be idle between two requests. Answers announce it (`Keep-Alive: \
         timeout=75`). Make it longer than the idle time of a load balancer in front (60 s is usual). Then the \
         balancer closes idle connections first, and no request meets a closed connection. The default is above those \
         60 s.";
    "limits.write_timeout": ValueKind::Time { min: 100, max: 3_600_000, at: Millis::Duration(|s| &mut s.config.write_timeout) },
        "How long a peer may read nothing while bytes wait for it. After this its connection is closed, in any \
         protocol. A slow reader reads something in this time and stays. Over HTTP/2 each stream is judged by itself: \
         its client must take about 16 KiB, or the rest of the answer, in this time, else the stream is reset. The \
         default is longer than a mobile connection stands still in a tunnel.";
    "limits.close_timeout": ValueKind::Time { min: 100, max: 600_000, at: Millis::Duration(|s| &mut s.config.close_timeout) },
        "Time for a closing connection to read the bytes that wait for it and to finish the close. Also the time \
         after which an HTTP/1 request is dropped if its client has closed its sending side and the server has \
         nothing to write. The default is some round trips of a slow network.";
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

    /// The kind of its value, as a word for a flag: `BYTES`.
    pub fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    /// True where a flag may be given several times.
    pub fn is_list(&self) -> bool {
        use ValueKind::{Addresses, AnyAddresses, Hosts, Namespaces, Origins, Patterns, Proxies, Words};
        matches!(
            self.kind,
            Addresses(_)
                | AnyAddresses(_)
                | Origins(_)
                | Hosts(_)
                | Proxies(_)
                | Namespaces(_)
                | Patterns(_)
                | Words { .. }
        )
    }

    /// Whether a value of it may stand in a message as it was written. That of an address may hold a secret.
    pub(super) fn is_shown(&self) -> bool {
        !matches!(self.kind, ValueKind::Url(_))
    }

    /// The allowed values, in words.
    pub fn allowed(&self) -> String {
        self.kind.allowed()
    }

    /// The default as it would be written in the file, or in words.
    pub fn default_shown(&self) -> String {
        self.default.map_or_else(|| self.kind.show(&mut Settings::default()), str::to_owned)
    }
}
