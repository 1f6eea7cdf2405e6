//! What each command takes and answers, as data: the OpenAPI document and the tables of docs/http-api.md are printed
//! from it.
//!
//! The decoder (`fanfare_wire::native::app`) does not read this table: it is hand-written, as every codec here. That
//! both say the same is held by tests: each row's example is decoded, each field that is needed is missed, and
//! schemathesis sends thousands of bodies that fit the table, and that do not, to a real server.

use fanfare_hub::{CHANNEL_NAME_BYTES_MAX, EVENT_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, NUMBER_MAX};
use fanfare_wire::native::app::{
    AUDIENCE_CLIENTS_MAX, BATCH_COMMANDS_MAX, BROADCAST_CHANNELS_MAX, CHANNELS_LIMIT_MAX, Kind, USER_BYTES_MAX,
};
use fanfare_wire::native::{EPOCH_BYTES_MAX, HISTORY_LIMIT_MAX};

/// One command.
pub(super) struct Command {
    pub(super) kind: Kind,
    /// One line.
    pub(super) summary: &'static str,
    /// What else there is to know.
    pub(super) about: &'static str,
    pub(super) fields: &'static [Field],
    /// Fields of which exactly one is needed.
    pub(super) one_of: Option<[&'static str; 2]>,
    /// A body that means something.
    pub(super) example: &'static str,
    pub(super) answer: &'static [Field],
    /// Whether the header `Idempotency-Key` means something.
    pub(super) has_key: bool,
}

/// One field of an object.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Whether it must be there; a field of an answer that need not be is absent where it has nothing to say.
    pub(super) needed: bool,
    pub(super) about: &'static str,
}

/// What a value looks like.
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
    /// An integer.
    Number { min: u64, max: u64 },
    /// True or false.
    Flag,
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
const USER: Shape = Shape::Text { min: 1, max: USER_BYTES_MAX };

const CHANNEL: Field = field("channel", Shape::Channel, "The channel");
const CLIENT: Field = optional("client", Shape::Client, "The session of this client, by its public id; or `user`");
const USER_FIELD: Field = optional("user", USER, "All sessions of this user; or `client`");
const DATA: Field =
    optional("data", Shape::Any, "The payload: any JSON, kept as it came, nested at most 64 levels; or `data64`");
const DATA64: Field =
    optional("data64", Shape::Base64, "The payload as bytes in base64, with or without padding; or `data`");
const EVENT: Field = optional("event", Shape::Event, "A name for what it is");
const IDEMPOTENCY_FIELD: Field = optional(
    "idempotency_key",
    IDEMPOTENCY_KEY,
    "An idempotency key, unique in a channel for the API key's name, remembered for 2 minutes (`limits.idempotency_keys_ttl`); the header `Idempotency-Key` is the same",
);
const AUDIENCE: Field = optional("audience", Shape::Named("Audience"), "For whom, where not for all");
const SESSIONS: Field = field("sessions", ANY_NUMBER, "How many sessions it concerned; 0 is no error");

const EPOCH: Field = field("epoch", Shape::Epoch, "The life of the channel's numbering");
const OFFSET: Field = field("offset", ANY_NUMBER, "The place within the epoch");

/// Objects with a name, shared by several commands.
pub(super) const NAMED: &[(&str, &str, &[Field])] = &[
    ("Position", "A place in a channel. Compare positions, do not compute with them.", &[EPOCH, OFFSET]),
    (
        "Audience",
        "Whom a publication is for. It holds live, in the history and for who comes back.",
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
    ("Published", "Where a publication stands.", PUBLISHED),
    (
        "Publication",
        "An entry of a channel's history.",
        &[
            OFFSET,
            optional("data", Shape::Any, "The payload as JSON"),
            optional("data64", Shape::Base64, "The payload as bytes in base64, where it was published so"),
            optional("event", Shape::Event, "Its name"),
            optional("idempotency_key", IDEMPOTENCY_KEY, "Its idempotency key"),
            optional("from", Shape::Named("From"), "Who published; absent where the application did"),
            field("ts", ANY_NUMBER, "When, in ms since 1970"),
        ],
    ),
    (
        "From",
        "Who published.",
        &[optional("client", Shape::Client, "The client's id"), optional("user", USER, "Its user, proven by a token")],
    ),
    (
        "PresenceEntry",
        "Somebody who has entered a channel.",
        &[
            field("client", Shape::Client, "The client's id"),
            optional("user", USER, "Its user, proven by a token"),
            optional("info", Shape::Any, "What the token or the application says of it"),
            field("data", Shape::Any, "What it says of itself"),
        ],
    ),
    (
        "ChannelInfo",
        "A channel that lives on this node.",
        &[
            CHANNEL,
            field("subscribers", ANY_NUMBER, "Sessions that are subscribed"),
            field("present", ANY_NUMBER, "How many have entered"),
            optional("epoch", Shape::Epoch, "Of its newest place, where that is known"),
            optional("offset", ANY_NUMBER, "Of its newest place, where that is known"),
        ],
    ),
    (
        "Error",
        "A refusal, as in the native protocol.",
        &[
            field("code", ANY_TEXT, "A stable word for programs; new ones may come"),
            field("message", ANY_TEXT, "A sentence for people"),
            field("retryable", Shape::Flag, "Whether the same request may succeed later, unchanged"),
            optional("retry_after", ANY_NUMBER, "When, in ms"),
            optional("channel", Shape::Channel, "The channel it is about"),
            optional("rule", ANY_TEXT, "The rule that decided"),
            optional("option", ANY_TEXT, "The option of the server's configuration that decided"),
            optional("limit", ANY_NUMBER, "The limit that is exceeded"),
        ],
    ),
];

const PUBLISHED: &[Field] = &[
    EPOCH,
    OFFSET,
    field("subscribers", ANY_NUMBER, "How many sessions are subscribed on this node"),
    optional("duplicate", Shape::Flag, "True where the key had been used: it stands where the first one does"),
];

const RESULTS: &[Field] = &[field(
    "results",
    Shape::List { of: &Shape::Named("Result"), min: 1, max: BATCH_COMMANDS_MAX },
    "One `{\"result\": …}` or `{\"error\": …}` for each, in the order given",
)];

/// Every command, in the order of [`Kind::ALL`].
pub(super) const COMMANDS: &[Command] = &[
    Command {
        kind: Kind::Publish,
        summary: "Publish to a channel",
        about: "Appends to the channel, and answers where it stands. With an `idempotency_key` it may be repeated \
                until it is answered.",
        fields: &[CHANNEL, DATA, DATA64, EVENT, IDEMPOTENCY_FIELD, AUDIENCE],
        one_of: Some(["data", "data64"]),
        example: r#"{"channel":"chat:general","data":{"content":"Hello"}}"#,
        answer: PUBLISHED,
        has_key: true,
    },
    Command {
        kind: Kind::Broadcast,
        summary: "Publish the same to several channels",
        about: "Each channel is answered for itself, in the order given; one that is refused spoils only itself.",
        fields: &[
            field("channels", Shape::List { of: &ANY_TEXT, min: 1, max: BROADCAST_CHANNELS_MAX }, "The channels"),
            DATA,
            DATA64,
            EVENT,
            IDEMPOTENCY_FIELD,
            AUDIENCE,
        ],
        one_of: Some(["data", "data64"]),
        example: r#"{"channels":["news:sport","news:all"],"data":{"headline":"3:2"}}"#,
        answer: RESULTS,
        has_key: true,
    },
    Command {
        kind: Kind::Batch,
        summary: "Do several things in one request",
        about: "Each command is its own body with a `type`, e.g. `publish`; all but `batch` and `broadcast` can stand here. They \
                begin in the order given and are answered in it; what is refused spoils only itself. A publication's \
                `idempotency_key` stands in its command: with the header `Idempotency-Key` a batch is refused.",
        fields: &[field(
            "commands",
            Shape::List { of: &Shape::Named("BatchCommand"), min: 1, max: BATCH_COMMANDS_MAX },
            "The commands",
        )],
        one_of: None,
        example: r#"{"commands":[{"type":"publish","channel":"a","data":1},{"type":"presence","channel":"a"}]}"#,
        answer: RESULTS,
        has_key: false,
    },
    Command {
        kind: Kind::Signal,
        summary: "Send a signal",
        about: "Fire and forget, to whom is subscribed now, or to one client: no place, no history.",
        fields: &[
            CHANNEL,
            field("event", Shape::Event, "What it is, e.g. `typing`"),
            optional("data", Shape::Any, "The payload: any JSON, `null` where it is absent"),
            optional("to", Shape::Client, "Only this client"),
        ],
        one_of: None,
        example: r#"{"channel":"chat:general","event":"typing","data":true}"#,
        answer: &[],
        has_key: false,
    },
    Command {
        kind: Kind::History,
        summary: "Read a channel's history",
        about: "Always oldest first. Without `since` and `before` the newest ones. `epoch` and `offset` are the channel's newest \
                place.",
        fields: &[
            CHANNEL,
            optional("since", Shape::Named("Position"), "Those after this place; not beside `before`"),
            optional("before", Shape::Named("Position"), "The last ones before this place; not beside `since`"),
            optional(
                "limit",
                Shape::Number { min: 1, max: HISTORY_LIMIT_MAX as u64 },
                "At most so many; 100 where it is absent",
            ),
        ],
        one_of: None,
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
            optional("more", Shape::Flag, "True where there are more than the limit or a page allows"),
            optional(
                "reset",
                Shape::Flag,
                "True where `since` or `before` is no place of this numbering: of another epoch, or beyond the newest. Then \
                 nothing is listed, and what you keep of the channel is to be read anew",
            ),
        ],
        has_key: false,
    },
    Command {
        kind: Kind::HistoryRemove,
        summary: "Drop a channel's history",
        about: "Every retained publication goes; the numbering goes on, and who is subscribed notices nothing.",
        fields: &[CHANNEL],
        one_of: None,
        example: r#"{"channel":"chat:general"}"#,
        answer: &[],
        has_key: false,
    },
    Command {
        kind: Kind::Presence,
        summary: "Ask who is present",
        about: "Who has entered the channel. In large channels only `count` is told.",
        fields: &[CHANNEL],
        one_of: None,
        example: r#"{"channel":"chat:general"}"#,
        answer: &[
            field("seq", ANY_NUMBER, "Rises with each change"),
            field("count", ANY_NUMBER, "How many have entered"),
            optional("entries", Shape::List { of: &Shape::Named("PresenceEntry"), min: 0, max: usize::MAX }, "Who"),
        ],
        has_key: false,
    },
    Command {
        kind: Kind::Channels,
        summary: "List channels",
        about: "The channels that live on this node now, in the order of their names' bytes. The body may be empty.",
        fields: &[
            optional("match", Shape::Pattern, "Only names of this pattern: `*` is one segment, `**` the rest"),
            optional("after", Shape::Channel, "Only names after this one: the last of the page before"),
            optional(
                "limit",
                Shape::Number { min: 1, max: CHANNELS_LIMIT_MAX as u64 },
                "At most so many; 100 where it is absent",
            ),
        ],
        one_of: None,
        example: r#"{"match":"chat:*","limit":50}"#,
        answer: &[
            field(
                "channels",
                Shape::List { of: &Shape::Named("ChannelInfo"), min: 0, max: CHANNELS_LIMIT_MAX as usize },
                "A page of them",
            ),
            optional("more", Shape::Flag, "True where there are more after the last one"),
        ],
        has_key: false,
    },
    Command {
        kind: Kind::Subscribe,
        summary: "Subscribe sessions to a channel",
        about: "As if they had asked and the rule let them: they get `subscribed` without an `id`. The options are those of the \
                native protocol.",
        fields: &[
            CHANNEL,
            CLIENT,
            USER_FIELD,
            optional("since", Shape::Named("Position"), "Where they are"),
            optional(
                "recent",
                Shape::Number { min: 0, max: u32::MAX as u64 },
                "The newest n publications, where `since` is absent or cannot be honoured",
            ),
            optional("presence", Shape::Flag, "Tell them joins and leaves; `false` where it is absent"),
            optional("signals", Shape::Flag, "Tell them signals; `true` where it is absent"),
        ],
        one_of: Some(["client", "user"]),
        example: r#"{"channel":"chat:general","user":"ada","recent":10}"#,
        answer: &[SESSIONS],
        has_key: false,
    },
    Command {
        kind: Kind::Unsubscribe,
        summary: "End subscriptions of sessions to a channel",
        about: "They get `unsubscribed` without an `id`.",
        fields: &[CHANNEL, CLIENT, USER_FIELD],
        one_of: Some(["client", "user"]),
        example: r#"{"channel":"chat:general","user":"ada"}"#,
        answer: &[SESSIONS],
        has_key: false,
    },
    Command {
        kind: Kind::Disconnect,
        summary: "End the connections of sessions",
        about: "Unless the reason lets them come back, their sessions end too.",
        fields: &[
            CLIENT,
            USER_FIELD,
            optional(
                "reason",
                Shape::Reason,
                "Why, as the client is told; `kicked` where it is absent. Only `overloaded` lets it come back",
            ),
        ],
        one_of: Some(["client", "user"]),
        example: r#"{"user":"ada"}"#,
        answer: &[SESSIONS],
        has_key: false,
    },
    Command {
        kind: Kind::Info,
        summary: "Ask for figures of the node",
        about: "All shards together. The body may be empty.",
        fields: &[],
        one_of: None,
        example: "{}",
        answer: &[
            field("version", ANY_TEXT, "Of Fanfare"),
            field("sessions", ANY_NUMBER, "Sessions, with and without connection"),
            field("connected", ANY_NUMBER, "Sessions with a connection"),
            field("subscriptions", ANY_NUMBER, "Of all sessions"),
            field("channels", ANY_NUMBER, "Channels that live here"),
            field("history_bytes", ANY_NUMBER, "Bytes of history"),
        ],
        has_key: false,
    },
];

/// The statuses of refusals, with what they mean for a request.
pub(super) const STATUSES: &[(u16, &str)] = &[
    (400, "The body, a field or a header is not as it should be; the message says which and why."),
    (401, "The API key is missing or wrong."),
    (403, "The key is for other commands or channels."),
    (404, "No rule matches the channel, or whom it is about is not there."),
    (405, "The method is not POST."),
    (408, "The body did not come in time."),
    (409, "The idempotency key was used for another payload."),
    (413, "The body, a payload or a text is too long; the message says how long it may be."),
    (
        415,
        "The body is said to be something else than JSON in UTF-8. Parameters of the type that change nothing are ignored.",
    ),
    (421, "The request names a host that is not served: the option `hosts` of the configuration lists it."),
    (429, "Too many or too much; `Retry-After` says when to come back."),
    (500, "The server failed."),
    (503, "Not now, or not known whether it was taken; `Retry-After` says when to ask again, with the same key."),
    (504, "A handler did not answer in time."),
];

/// The bounds of the shapes that have their own.
pub(super) const CHANNEL_MAX: usize = CHANNEL_NAME_BYTES_MAX;
pub(super) const EVENT_MAX: usize = EVENT_BYTES_MAX;
pub(super) const EPOCH_MAX: usize = EPOCH_BYTES_MAX;
