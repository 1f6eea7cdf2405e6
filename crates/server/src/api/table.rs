//! The fields of each command and answer, as data: the OpenAPI document and the tables of docs/http-api.md are printed
//! from it.
//!
//! The decoder (`fanfare_wire::native::app`) does not read this table: it is hand-written, as every codec here. Tests
//! compare both: they decode each row's example, leave out each required field, and schemathesis sends thousands of
//! matching and of invalid bodies to a real server.

use fanfare_hub::{
    CHANNEL_NAME_BYTES_MAX, EVENT_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, LABELS_MAX, NUMBER_MAX, ROOM_BYTES_MAX,
};
use fanfare_wire::native::app::{
    AUDIENCE_CLIENTS_MAX, ApiCommand, BANS_LIMIT_MAX, BATCH_COMMANDS_MAX, BROADCAST_CHANNELS_MAX, CHANNELS_LIMIT_MAX,
    LISTED_LIMIT_MAX, STATUS_USERS_MAX, USER_BYTES_MAX,
};
use fanfare_wire::native::{EPOCH_BYTES_MAX, HISTORY_LIMIT_MAX};

/// One command.
pub(super) struct Command {
    pub(super) kind: ApiCommand,
    /// One line.
    pub(super) summary: &'static str,
    /// Further notes.
    pub(super) about: &'static str,
    pub(super) fields: &'static [Field],
    /// Fields of which exactly one is needed, if there are any.
    pub(super) one_of: &'static [&'static str],
    /// An example of a body.
    pub(super) example: &'static str,
    pub(super) answer: &'static [Field],
    /// Whether the header `Idempotency-Key` means something.
    pub(super) has_key: bool,
}

/// One field of an object.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Whether it is required. An optional field of an answer is absent if it has no value.
    pub(super) needed: bool,
    pub(super) about: &'static str,
}

/// The form of a value.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A text of `min` to `max` bytes.
    Text { min: usize, max: usize },
    /// An event's name.
    Event,
    /// A channel's name.
    Channel,
    /// A pattern over channel names.
    Pattern,
    /// A client's id.
    Client,
    /// An opaque epoch, as the server gives it.
    Epoch,
    /// One of some words.
    Reason,
    /// The length of a ban.
    Time,
    /// The time over which reconnects are spread.
    Spread,
    /// A label of sessions.
    Label,
    /// A place in a list of connections.
    Cursor,
    /// An integer.
    Number { min: u64, max: u64 },
    /// True or false.
    Flag,
    /// The name of a namespace of Socket.IO.
    Namespace,
    /// Any JSON.
    Any,
    /// Bytes as base64.
    Base64,
    /// A schema with a name, which others use too.
    Named(&'static str),
    /// Several.
    List { of: &'static Shape, min: usize, max: usize },
}

const fn field(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, needed: true, about }
}

const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, needed: false, about }
}

const ANY_NUMBER: Shape = Shape::Number { min: 0, max: NUMBER_MAX };
const ANY_TEXT: Shape = Shape::Text { min: 0, max: usize::MAX };
const IDEMPOTENCY_KEY: Shape = Shape::Text { min: 1, max: IDEMPOTENCY_KEY_BYTES_MAX };
const ROOM: Shape = Shape::Text { min: 0, max: ROOM_BYTES_MAX };
const USER: Shape = Shape::Text { min: 1, max: USER_BYTES_MAX };

const CHANNEL: Field = field("channel", Shape::Channel, "The channel");
const CLIENT: Field = optional("client", Shape::Client, "The session of this client, by its public id; or `user`");
const USER_FIELD: Field = optional("user", USER, "All sessions of this user; or `client`");
const LABEL_FIELD: Field = optional("label", Shape::Label, "All sessions with this label; or `client` or `user`");
const LISTED_LIMIT: Field = optional(
    "limit",
    Shape::Number { min: 1, max: LISTED_LIMIT_MAX as u64 },
    "The maximum number in one page; 100 by default",
);
const DATA: Field =
    optional("data", Shape::Any, "The payload: any JSON, kept as it came, nested at most 64 levels; or `data64`");
const DATA64: Field =
    optional("data64", Shape::Base64, "The payload as bytes in base64, with or without padding; or `data`");
const EVENT: Field = optional("event", Shape::Event, "A name for the kind of publication");
const IDEMPOTENCY_FIELD: Field = optional(
    "idempotency_key",
    IDEMPOTENCY_KEY,
    "An idempotency key, unique in a channel for the API key's name, remembered for 2 minutes (`limits.idempotency_keys_ttl`); the header `Idempotency-Key` is the same",
);
const AUDIENCE: Field = optional("audience", Shape::Named("Audience"), "Which clients get it; without it, all");
const SESSIONS: Field = field("sessions", ANY_NUMBER, "How many sessions were affected; 0 is not an error");

const EPOCH: Field = field("epoch", Shape::Epoch, "The epoch of the channel's offsets");
const OFFSET: Field = field("offset", ANY_NUMBER, "The offset within the epoch");

/// Objects with a name, shared by several commands.
pub(super) const NAMED: &[(&str, &str, &[Field])] = &[
    ("Position", "A position in a channel. Compare positions, do not compute with them.", &[EPOCH, OFFSET]),
    (
        "Audience",
        "The clients that a publication is for. It applies to live delivery, to the history and to recovery.",
        &[
            optional(
                "only",
                Shape::List { of: &Shape::Client, min: 1, max: AUDIENCE_CLIENTS_MAX },
                "These clients and no others",
            ),
            optional(
                "except",
                Shape::List { of: &Shape::Client, min: 1, max: AUDIENCE_CLIENTS_MAX },
                "Not these clients",
            ),
        ],
    ),
    ("Published", "The position of a publication.", PUBLISHED),
    (
        "Publication",
        "An entry of a channel's history.",
        &[
            OFFSET,
            optional("data", Shape::Any, "The payload as JSON"),
            optional("data64", Shape::Base64, "The payload as bytes in base64, if it was published so"),
            optional("event", Shape::Event, "Its name"),
            optional("idempotency_key", IDEMPOTENCY_KEY, "Its idempotency key"),
            optional("from", Shape::Named("From"), "The publisher; absent if the application published"),
            field("ts", ANY_NUMBER, "The time of the publication, in ms since 1970"),
        ],
    ),
    (
        "From",
        "The publisher.",
        &[optional("client", Shape::Client, "The client's id"), optional("user", USER, "Its user, proven by a token")],
    ),
    (
        "PresenceEntry",
        "A client that has entered a channel.",
        &[
            field("client", Shape::Client, "The client's id"),
            optional("user", USER, "Its user, proven by a token"),
            optional("info", Shape::Any, "Data about the client from its token or the application"),
            field("data", Shape::Any, "Data from the client itself"),
        ],
    ),
    (
        "ChannelInfo",
        "A channel that lives on this node.",
        &[
            CHANNEL,
            field("subscribers", ANY_NUMBER, "Sessions that are subscribed"),
            field("present", ANY_NUMBER, "How many clients have entered"),
            optional("epoch", Shape::Epoch, "Of its newest position, if that is known"),
            optional("offset", ANY_NUMBER, "Of its newest position, if that is known"),
        ],
    ),
    (
        "Ban",
        "A user or a client that may not connect.",
        &[
            optional("user", USER, "The user; or `client`"),
            optional("client", Shape::Client, "The client; or `user`"),
            field("until", ANY_NUMBER, "The end of the ban, in ms since 1970"),
        ],
    ),
    (
        "ConnectionInfo",
        "A session that has a connection.",
        &[
            field("client", Shape::Client, "Its public id"),
            optional("user", ANY_TEXT, "Its user"),
            field(
                "transport",
                ANY_TEXT,
                "How its bytes are carried: `websocket`, `sse`, `stream`, `poll` or `polling` (Socket.IO)",
            ),
            field(
                "protocol",
                ANY_TEXT,
                "What it speaks: `native`, `chat`, `events`, `socketio`, or a protocol of the program",
            ),
            field("peer", ANY_TEXT, "The address of the client, as far as trusted proxies tell it"),
            field("connected_at", ANY_NUMBER, "When the connection began, in ms since 1970"),
            optional("labels", Shape::List { of: &Shape::Label, min: 1, max: LABELS_MAX }, "Its labels"),
            field("channels", ANY_NUMBER, "How many channels it is subscribed to"),
        ],
    ),
    (
        "UserInfo",
        "A user with a connection.",
        &[
            field("user", ANY_TEXT, "Who"),
            field("clients", ANY_NUMBER, "Its sessions with a connection; in the list of a channel, its subscribers"),
        ],
    ),
    (
        "UserStatus",
        "Whether a user is online.",
        &[
            field("user", ANY_TEXT, "Who"),
            field("online", Shape::Flag, "Whether it has a session with a connection"),
            field("clients", ANY_NUMBER, "How many it has"),
            optional(
                "last_seen",
                ANY_NUMBER,
                "When it lost its last connection, in ms since 1970, if it is not online and the node remembers it",
            ),
        ],
    ),
    (
        "Error",
        "A refusal, as in the native protocol.",
        &[
            field("code", ANY_TEXT, "A stable code for programs; new codes may come"),
            field("message", ANY_TEXT, "A sentence for people"),
            field("retryable", Shape::Flag, "Whether the same request may succeed later, unchanged"),
            optional("retry_after", ANY_NUMBER, "When, in ms"),
            optional("channel", Shape::Channel, "The channel it is about"),
            optional("rule", ANY_TEXT, "The rule that decided"),
            optional("option", ANY_TEXT, "The option of the server's configuration that decided"),
            optional("limit", ANY_NUMBER, "The value of the limit that was exceeded"),
        ],
    ),
];

const PUBLISHED: &[Field] = &[
    EPOCH,
    OFFSET,
    field("subscribers", ANY_NUMBER, "How many sessions are subscribed on this node"),
    optional("duplicate", Shape::Flag, "True if the key had been used: the position is that of the first publication"),
];

const RESULTS: &[Field] = &[field(
    "results",
    Shape::List { of: &Shape::Named("Result"), min: 1, max: BATCH_COMMANDS_MAX },
    "One `{\"result\": …}` or `{\"error\": …}` for each item, in the order given",
)];

/// Every command, in the order of [`ApiCommand::ALL`].
pub(super) const COMMANDS: &[Command] = &[
    Command {
        kind: ApiCommand::Publish,
        summary: "Publish to a channel",
        about: "Appends to the channel and answers the position. With an `idempotency_key` the command may be repeated \
                until it is answered.",
        fields: &[CHANNEL, DATA, DATA64, EVENT, IDEMPOTENCY_FIELD, AUDIENCE],
        one_of: &["data", "data64"],
        example: r#"{"channel":"chat:general","data":{"content":"Hello"}}"#,
        answer: PUBLISHED,
        has_key: true,
    },
    Command {
        kind: ApiCommand::Broadcast,
        summary: "Publish the same to several channels",
        about: "Each channel has its own answer, in the order given. A refusal of one does not affect the others.",
        fields: &[
            field("channels", Shape::List { of: &ANY_TEXT, min: 1, max: BROADCAST_CHANNELS_MAX }, "The channels"),
            DATA,
            DATA64,
            EVENT,
            IDEMPOTENCY_FIELD,
            AUDIENCE,
        ],
        one_of: &["data", "data64"],
        example: r#"{"channels":["news:sport","news:all"],"data":{"headline":"3:2"}}"#,
        answer: RESULTS,
        has_key: true,
    },
    Command {
        kind: ApiCommand::Emit,
        summary: "Send an event to Socket.IO clients",
        about: "Sends an event to the sockets of a namespace: to those in one of the rooms, or to all, except those in \
                other rooms. Each socket gets it once. It has one place in the order of all events of the namespace. A \
                bridged room is a channel: publish to that. A key that is for some channels only may not emit.",
        fields: &[
            optional("namespace", Shape::Namespace, "The namespace; `/` by default"),
            field("event", ANY_TEXT, "The name of the event"),
            optional("args", Shape::List { of: &Shape::Any, min: 0, max: usize::MAX }, "Its arguments, in order"),
            optional("room", ROOM, "The sockets in this room, besides those in `rooms`"),
            optional(
                "rooms",
                Shape::List { of: &ROOM, min: 1, max: AUDIENCE_CLIENTS_MAX },
                "The sockets in at least one of these rooms; without `rooms` and `room`, all",
            ),
            optional(
                "except",
                Shape::List { of: &ROOM, min: 1, max: AUDIENCE_CLIENTS_MAX },
                "But not those in any of these rooms",
            ),
            IDEMPOTENCY_FIELD,
        ],
        one_of: &[],
        example: r#"{"namespace":"/","room":"lobby","event":"news","args":[{"headline":"3:2"}]}"#,
        answer: PUBLISHED,
        has_key: true,
    },
    Command {
        kind: ApiCommand::Batch,
        summary: "Do several things in one request",
        about: "Each command is its own body with a `type`, e.g. `publish`. All commands but `batch` and `broadcast` are \
                allowed. They begin in the order given, and the answers have the same order. A refusal of one does not \
                affect the others. The `idempotency_key` of a publication is a field of its command: a batch with the \
                header `Idempotency-Key` is refused.",
        fields: &[field(
            "commands",
            Shape::List { of: &Shape::Named("BatchCommand"), min: 1, max: BATCH_COMMANDS_MAX },
            "The commands",
        )],
        one_of: &[],
        example: r#"{"commands":[{"type":"publish","channel":"a","data":1},{"type":"presence","channel":"a"}]}"#,
        answer: RESULTS,
        has_key: false,
    },
    Command {
        kind: ApiCommand::Signal,
        summary: "Send a signal",
        about: "Sends a signal to current subscribers, or to one client. A signal has no offset and is not in the history.",
        fields: &[
            CHANNEL,
            field("event", Shape::Event, "The kind of signal, e.g. `typing`"),
            optional("data", Shape::Any, "The payload: any JSON; `null` by default"),
            optional("to", Shape::Client, "Only this client"),
        ],
        one_of: &[],
        example: r#"{"channel":"chat:general","event":"typing","data":true}"#,
        answer: &[],
        has_key: false,
    },
    Command {
        kind: ApiCommand::History,
        summary: "Read a channel's history",
        about: "The list is always oldest first. Without `since` and `before` it has the newest publications. `epoch` and \
                `offset` are the channel's newest position.",
        fields: &[
            CHANNEL,
            optional(
                "since",
                Shape::Named("Position"),
                "The publications after this position; not together with `before`",
            ),
            optional(
                "before",
                Shape::Named("Position"),
                "The last publications before this position; not together with `since`",
            ),
            optional(
                "limit",
                Shape::Number { min: 1, max: HISTORY_LIMIT_MAX as u64 },
                "The maximum number in one page; 100 by default",
            ),
        ],
        one_of: &[],
        example: r#"{"channel":"chat:general","limit":10}"#,
        answer: &[
            CHANNEL,
            EPOCH,
            OFFSET,
            field(
                "publications",
                Shape::List { of: &Shape::Named("Publication"), min: 0, max: HISTORY_LIMIT_MAX as usize },
                "Oldest first",
            ),
            optional("more", Shape::Flag, "True if there are more publications than the limit or a page allows"),
            optional(
                "gap",
                Shape::Flag,
                "True if publications between `since` and the first one of this page, or the newest position if the page \
                 is empty, are not in the history any more",
            ),
            optional(
                "reset",
                Shape::Flag,
                "True if `since` or `before` is not in this channel's history: its epoch is another one, or it is beyond the \
                 newest position. The list is then empty; read what you keep of the channel again",
            ),
        ],
        has_key: false,
    },
    Command {
        kind: ApiCommand::HistoryRemove,
        summary: "Drop a channel's history",
        about: "Removes every publication from the history. Offsets continue, and subscribers are not notified.",
        fields: &[CHANNEL],
        one_of: &[],
        example: r#"{"channel":"chat:general"}"#,
        answer: &[],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Presence,
        summary: "Ask who is present",
        about: "Lists the clients that have entered the channel. For large channels the answer has only `count`.",
        fields: &[CHANNEL],
        one_of: &[],
        example: r#"{"channel":"chat:general"}"#,
        answer: &[
            field("seq", ANY_NUMBER, "Rises with each change"),
            field("count", ANY_NUMBER, "How many clients have entered"),
            optional(
                "entries",
                Shape::List { of: &Shape::Named("PresenceEntry"), min: 0, max: usize::MAX },
                "The clients",
            ),
        ],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Channels,
        summary: "List channels",
        about: "Lists the channels that live on this node now, in the order of their names' bytes. The body may be empty.",
        fields: &[
            optional("match", Shape::Pattern, "Only names that match this pattern: `*` is one segment, `**` the rest"),
            optional("after", Shape::Channel, "Only names after this one: the last name of the page before"),
            optional(
                "limit",
                Shape::Number { min: 1, max: CHANNELS_LIMIT_MAX as u64 },
                "The maximum number in one page; 100 by default",
            ),
        ],
        one_of: &[],
        example: r#"{"match":"chat:*","limit":50}"#,
        answer: &[
            field(
                "channels",
                Shape::List { of: &Shape::Named("ChannelInfo"), min: 0, max: CHANNELS_LIMIT_MAX as usize },
                "One page of channels",
            ),
            optional("more", Shape::Flag, "True if there are more channels after the last one"),
        ],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Subscribe,
        summary: "Subscribe sessions to a channel",
        about: "Subscribes the sessions as if they had asked and the rule allowed it. They get `subscribed` without an `id`. The \
                options are those of the native protocol.",
        fields: &[
            CHANNEL,
            CLIENT,
            USER_FIELD,
            LABEL_FIELD,
            optional("since", Shape::Named("Position"), "The position that the sessions have reached"),
            optional(
                "recent",
                Shape::Number { min: 0, max: u32::MAX as u64 },
                "Send the newest n publications, if `since` is absent or cannot be honoured",
            ),
            optional("presence", Shape::Flag, "Send them joins and leaves; `false` by default"),
            optional("signals", Shape::Flag, "Send them signals; `true` by default"),
        ],
        one_of: &["client", "user", "label"],
        example: r#"{"channel":"chat:general","user":"ada","recent":10}"#,
        answer: &[SESSIONS],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Unsubscribe,
        summary: "End subscriptions of sessions to a channel",
        about: "Ends the subscriptions. The sessions get `unsubscribed` without an `id`.",
        fields: &[CHANNEL, CLIENT, USER_FIELD, LABEL_FIELD],
        one_of: &["client", "user", "label"],
        example: r#"{"channel":"chat:general","user":"ada"}"#,
        answer: &[SESSIONS],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Disconnect,
        summary: "End the connections of sessions",
        about: "Closes the connections. Their sessions end too, unless the reason lets the clients come back.",
        fields: &[
            CLIENT,
            USER_FIELD,
            LABEL_FIELD,
            optional(
                "reason",
                Shape::Reason,
                "The reason that the client gets; `kicked` by default. Only after `overloaded` may the client come back (to have it come back, use `reconnect`)",
            ),
            optional(
                "ban",
                Shape::Time,
                "For so long each `connect` as this user, or with a ticket of this client, is refused as `denied`, with the time left as `retry_after`. A later ban replaces an earlier one. Not with `overloaded`, and not with `label`",
            ),
        ],
        one_of: &["client", "user", "label"],
        example: r#"{"user":"ada"}"#,
        answer: &[
            SESSIONS,
            optional("banned_until", ANY_NUMBER, "The end of the ban, in ms since 1970, if there is one"),
            optional("durable", Shape::Flag, "`false` with a ban: it is over when the server restarts"),
        ],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Reconnect,
        summary: "Have clients connect again",
        about: "Closes the connections with 4008 (`reconnect`), each at a random moment of `spread`, so that the clients come back \
                by themselves and not all at once. Their sessions go on. A connection whose moment is fixed already keeps it. \
                Use it after a change of keys or of what a hook answers, or to spread clients over new nodes.",
        fields: &[
            CLIENT,
            USER_FIELD,
            LABEL_FIELD,
            optional(
                "spread",
                Shape::Spread,
                "The time; `\"10s\"` by default, and for one client none. `\"1ms\"` is at once",
            ),
        ],
        one_of: &["client", "user", "label"],
        example: r#"{"label":"beta","spread":"30s"}"#,
        answer: &[field(
            "sessions",
            ANY_NUMBER,
            "How many sessions have a connection that is closed, now or within `spread`",
        )],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Unban,
        summary: "End a ban",
        about: "The user or the client may connect again.",
        fields: &[CLIENT, USER_FIELD],
        one_of: &["client", "user"],
        example: r#"{"user":"ada"}"#,
        answer: &[field("was_banned", Shape::Flag, "Whether there was a ban; `false` is not an error")],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Bans,
        summary: "List the bans that hold",
        about: "Users come first. At most 100,000 users and clients can be banned at a time. The body may be empty.",
        fields: &[
            optional("client", Shape::Client, "Only this client; or `user`"),
            optional("user", USER, "Only this user; or `client`"),
            optional("limit", Shape::Number { min: 1, max: BANS_LIMIT_MAX as u64 }, "At most so many; 100 by default"),
        ],
        one_of: &[],
        example: r#"{"user":"ada"}"#,
        answer: &[
            field(
                "bans",
                Shape::List { of: &Shape::Named("Ban"), min: 0, max: BANS_LIMIT_MAX as usize },
                "The bans, in the order of their ids",
            ),
            optional("more", Shape::Flag, "True if there are more"),
        ],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Connections,
        summary: "List connections",
        about: "Lists the sessions of this node that have a connection: all, or those of a client, a user, a label or the \
                subscribers of a channel. A list has each session once that is connected all the time and stays on its shard (a \
                session may change shards when its client comes back). A page looks at 16,384 sessions of each shard at most: a \
                page may have fewer entries than `limit`, or none, and the list goes on as long as there is a `cursor`. The body \
                may be empty.",
        fields: &[
            optional("client", Shape::Client, "Only this client"),
            optional("user", USER, "Only clients of this user"),
            optional("label", Shape::Label, "Only sessions with this label"),
            optional("channel", Shape::Channel, "Only subscribers of this channel"),
            optional("cursor", Shape::Cursor, "Where to go on: `cursor` of the page before"),
            LISTED_LIMIT,
        ],
        one_of: &[],
        example: r#"{"user":"ada","limit":50}"#,
        answer: &[
            field(
                "connections",
                Shape::List { of: &Shape::Named("ConnectionInfo"), min: 0, max: LISTED_LIMIT_MAX as usize },
                "One page of connections",
            ),
            optional("cursor", Shape::Cursor, "Where the list goes on; absent at its end"),
        ],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Users,
        summary: "List users",
        about: "Lists the users of this node that have a connection, in the order of their ids' bytes: all, or those that are \
                subscribed to a channel. A page may have fewer entries than `limit`, or none, as that of `connections`. The body \
                may be empty.",
        fields: &[
            optional("channel", Shape::Channel, "Only users with a client that is subscribed to this channel"),
            optional("cursor", ANY_TEXT, "Where to go on: `cursor` of the page before"),
            LISTED_LIMIT,
        ],
        one_of: &[],
        example: r#"{"channel":"chat:general"}"#,
        answer: &[
            field(
                "users",
                Shape::List { of: &Shape::Named("UserInfo"), min: 0, max: LISTED_LIMIT_MAX as usize },
                "One page of users",
            ),
            optional("cursor", ANY_TEXT, "Where the list goes on; absent at its end"),
        ],
        has_key: false,
    },
    Command {
        kind: ApiCommand::UserStatus,
        summary: "Ask whether users are online",
        about: "Gives the status of each user, in the order of the question. The node remembers when users lost their connections \
                while it runs, the newest of them within 4 MiB for each shard: about 25,000 users.",
        fields: &[field("users", Shape::List { of: &USER, min: 1, max: STATUS_USERS_MAX }, "The users")],
        one_of: &[],
        example: r#"{"users":["ada","bob"]}"#,
        answer: &[field(
            "users",
            Shape::List { of: &Shape::Named("UserStatus"), min: 0, max: STATUS_USERS_MAX },
            "Their status",
        )],
        has_key: false,
    },
    Command {
        kind: ApiCommand::Info,
        summary: "Ask for figures of the node",
        about: "Gives the sums over all shards. The body may be empty.",
        fields: &[],
        one_of: &[],
        example: "{}",
        answer: &[
            field("version", ANY_TEXT, "The version of Fanfare"),
            field("sessions", ANY_NUMBER, "Sessions, with and without a connection"),
            field("connected", ANY_NUMBER, "Sessions with a connection"),
            field("subscriptions", ANY_NUMBER, "Subscriptions of all sessions"),
            field("channels", ANY_NUMBER, "Channels that live on this node"),
            field("history_bytes", ANY_NUMBER, "Bytes of history"),
        ],
        has_key: false,
    },
];

/// The statuses of refusals, and their meanings.
pub(super) const STATUSES: &[(u16, &str)] = &[
    (400, "The body, a field or a header is invalid; the message says which one and why."),
    (401, "The API key is missing or wrong."),
    (403, "The key does not allow this command or channel."),
    (404, "No rule matches the channel, or the client does not exist."),
    (405, "The method is not POST."),
    (
        408,
        "The body paused for longer than `limits.head_timeout`, or came more slowly than 500 bytes a second for so long.",
    ),
    (409, "The idempotency key was used for another payload."),
    (413, "The body, a payload or a text is too long; the message gives the limit."),
    (415, "The content type is not JSON in UTF-8. Parameters that change nothing are ignored."),
    (421, "The request names a host that is not served; the option `hosts` of the configuration lists the hosts."),
    (422, "The data breaks the schema or a text rule of the channel's rule; the message names the place in the data."),
    (429, "Too many requests or too much data; `Retry-After` says when to try again."),
    (500, "The server failed."),
    (
        503,
        "The server cannot do it now, or does not know whether it was done; `Retry-After` says when to try again, with the same key.",
    ),
    (504, "A handler of the application did not answer in time."),
];

/// The bounds of the shapes that have their own.
pub(super) const CHANNEL_MAX: usize = CHANNEL_NAME_BYTES_MAX;
pub(super) const EVENT_MAX: usize = EVENT_BYTES_MAX;
pub(super) const EPOCH_MAX: usize = EPOCH_BYTES_MAX;
