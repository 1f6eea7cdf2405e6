//! The bounds of one connection, one channel and one shard. At a limit the server answers an error with the limit and
//! the value in it, or sheds load by the rule named at the field. Nothing grows beyond its limit.

use crate::quota::Quotas;

/// A number of bytes.
pub type ByteCount = usize;

/// The option that sets [`Limits::room_message_bytes_max`]: it has the name that its protocol gives it.
pub(crate) const ROOM_MESSAGE_BYTES_MAX: &str = "socketio.max_payload";

/// Every bound of the hub. The server fills it from the configuration.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One command's payload, and so one publication's. Default 64 KiB.
    pub message_bytes_max: ByteCount,
    /// Bytes waiting for one connection before it is behind and pulls instead. Default 256 KiB.
    pub outbox_bytes_max: ByteCount,
    /// Subscriptions of one connection. Default 128.
    pub subscriptions_max: usize,
    /// Grants of one identity.
    pub grants_max: usize,
    /// Rooms of one subscription, with those that it has left and may still read from. Default 1024.
    pub rooms_max: usize,
    /// One publication with an audience of rooms. The protocol that has rooms bounds its messages by it. Default 1 MB.
    pub room_message_bytes_max: ByteCount,
    /// Commands of one connection that wait for an answer; at this many the connection is not read. Default 32.
    pub outstanding_max: usize,
    /// Commands of the application that wait for an answer, on each shard; beyond that they are refused as
    /// `unavailable`. Default 1024.
    pub app_outstanding_max: usize,
    /// Questions of the application to members of channels that wait for answers, on each shard; beyond that they are
    /// refused as `unavailable`. Default 65536.
    pub asked_max: usize,
    /// Requests with commands for sessions that wait for an answer, on each shard that took them in; beyond that they
    /// are refused as `unavailable`. Default 1024.
    pub forwarded_max: usize,
    /// Invalid messages of one connection in a minute before it is closed as abuse. Default 100.
    pub bad_requests_per_minute_max: u32,
    /// Publications and their overhead kept as history, in all, with the records of unused channels. Each
    /// shard has its share; beyond it such channels go first, then the oldest publications. Idempotency keys may take
    /// a quarter as much besides. Default 256 MiB.
    pub history_bytes_max: ByteCount,
    /// One page of history or catch-up. Default 256 KiB.
    pub page_bytes_max: ByteCount,
    /// Publications that one step of a read looks at, where it is for a reader that may not see all of them; then
    /// others have their turn. Default 1024.
    pub scan_slice: usize,
    /// Bytes on the way from one shard to another before the receiver pulls instead. Default 4 MiB.
    pub link_bytes_max: ByteCount,
    /// Deliveries of one channel that wait for a fan-out in progress, on each shard. Beyond this number publications
    /// are pulled instead, signals are dropped, and presence is sent as a whole later. Default 1024.
    pub fanout_waiting_max: usize,
    /// Bytes of these waiting deliveries. Default 4 MiB.
    pub fanout_waiting_bytes_max: ByteCount,
    /// Steps of work for many before others have their turn: appends of a fan-out, subscriptions that are judged by
    /// new rules, connections that are notified of a drain, timers that fall due together. Default 4096.
    pub fanout_slice: usize,
    /// Bytes of records about sessions that moved to other shards. At the limit a shard drops the record that would
    /// expire next. Default 8 MiB.
    pub moved_bytes_max: ByteCount,
    /// Sessions of a shard that one page of a list of connections or users looks at. Default 16,384.
    pub list_looks_max: usize,
    /// Signals kept for a client that is away or slow, and of one channel for a shard that is behind; the oldest goes
    /// first. Default 64.
    pub signals_waiting_max: usize,
    /// Bytes of the idempotency keys that one channel remembers, with their overhead; beyond that the oldest is
    /// forgotten before its time. Default 4 MiB.
    pub idempotency_keys_bytes_max: ByteCount,
    /// Publications in one batch of a subscription. Default 200.
    pub batch_size_max: usize,
    /// How long a batch may be gathered, in ms. Default 10 s.
    pub batch_delay_ms_max: u64,
    /// Entries of one channel's presence beyond which only the count is sent; also where they take more than four pages
    /// (`page_bytes_max`). Default 1000.
    pub presence_entries_max: usize,
    /// Bytes of one presence entry's data. Default 4 KiB.
    pub presence_bytes_max: ByteCount,
    /// Leaves that a shard remembers of sessions that have moved, in all channels, as their earlier messages may
    /// arrive later; the oldest goes first. Default 16384.
    pub presence_left_max: usize,
    /// How long an idempotency key is remembered. Default 2 min.
    pub idempotency_keys_ttl_ms: u64,
    /// How long the epoch and top of a channel outlive its last use. Default 24 h.
    pub metadata_ttl_ms: u64,
    /// How long an edge or a home without use is kept. Default 1 s.
    pub linger_ms: u64,
    /// Time for the store's answer to one operation, and for a channel to be attached; then waiting commands are
    /// answered `unavailable`, or `unknown` where a publication may have been taken. A command takes one operation or
    /// two. Default 5 s.
    pub store_timeout_ms: u64,
    /// Bytes that wait for the store on one shard; beyond it commands are refused as `unavailable`. Default 16 MiB.
    pub store_waiting_bytes_max: ByteCount,
    /// Time for the first valid `connect`. Default 5 s.
    pub connect_timeout_ms: u64,
    /// Questions to the application that wait for an answer, of one shard; beyond, the command is `unavailable`. A
    /// quarter of them is kept for `connect` and `refresh`. Default 1024.
    pub questions_max: usize,
    /// Those of one session, refreshes among them; further ones wait until one of them is answered, in their order.
    /// Default 8.
    pub session_questions_max: usize,
    /// Time for the answer to one. Default 5 s.
    pub hook_timeout_ms: u64,
    /// Time for the answer to a request whose commands were forwarded to the session's shard: longer than the store and
    /// a handler may take. Default 15 s.
    pub forward_timeout_ms: u64,
    /// Bytes of the sessions of the node that have no connection, by an estimate. Each shard has its share; beyond it
    /// the one that has been without for longest ends. Default 256 MiB.
    pub away_bytes_max: ByteCount,
    /// How long a session outlives its connection, unless its protocol sets another time. Default 10 s.
    pub grace_ms: u64,
    /// Time for the answer to a ping, on connections of [`HeartbeatKind::Waits`](crate::HeartbeatKind). Default 60 s.
    pub pong_timeout_ms: u64,
    /// Default time between heartbeats of a connection. Default 25 s.
    pub heartbeat_ms: u64,
    /// What clients and users may do in a time. These can change while the shard runs.
    pub quotas: Quotas,
}

impl Limits {
    /// The limits of one of `shards` shards: limits of the whole node are divided.
    #[must_use]
    pub fn for_one_of(&self, shards: usize) -> Limits {
        let share = |bytes: ByteCount| bytes / shards.max(1);
        let (history_bytes_max, away_bytes_max) = (share(self.history_bytes_max), share(self.away_bytes_max));
        Limits { history_bytes_max, away_bytes_max, ..self.clone() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes_max: 64 << 10,
            outbox_bytes_max: 256 << 10,
            subscriptions_max: 128,
            grants_max: 128,
            rooms_max: 1024,
            room_message_bytes_max: 1_000_000,
            outstanding_max: 32,
            app_outstanding_max: 1024,
            asked_max: 65_536,
            forwarded_max: 1024,
            bad_requests_per_minute_max: 100,
            history_bytes_max: 256 << 20,
            page_bytes_max: 256 << 10,
            scan_slice: 1024,
            link_bytes_max: 4 << 20,
            fanout_waiting_max: 1024,
            fanout_waiting_bytes_max: 4 << 20,
            fanout_slice: 4096,
            moved_bytes_max: 8 << 20,
            list_looks_max: 16_384,
            signals_waiting_max: 64,
            idempotency_keys_bytes_max: 4 << 20,
            batch_size_max: 200,
            batch_delay_ms_max: 10_000,
            presence_entries_max: 1000,
            presence_bytes_max: 4 << 10,
            presence_left_max: 16_384,
            idempotency_keys_ttl_ms: 120_000,
            metadata_ttl_ms: 24 * 3_600_000,
            linger_ms: 1_000,
            store_timeout_ms: 5_000,
            store_waiting_bytes_max: 16 << 20,
            connect_timeout_ms: 5_000,
            questions_max: 1024,
            session_questions_max: 8,
            hook_timeout_ms: 5_000,
            forward_timeout_ms: 15_000,
            away_bytes_max: 256 << 20,
            grace_ms: 10_000,
            pong_timeout_ms: 60_000,
            heartbeat_ms: 25_000,
            quotas: Quotas::default(),
        }
    }
}
