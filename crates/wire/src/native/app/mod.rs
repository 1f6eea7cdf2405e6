//! The application's commands: JSON bodies to [`AppCommand`]s, and [`AppAnswer`](fanfare_hub::AppAnswer)s to JSON
//! bodies.
//!
//! The fields are those of the native protocol, read by the same code: payloads are kept as they came, unknown fields
//! are ignored, `null` counts as absent except for a payload, a field that occurs twice is refused. The command's name
//! is outside of the body (in the path of a request), or in `type` if several commands are in one body. Answers carry
//! no `type`, because the caller knows its command. Transport: HTTP, docs/http-api.md.
//!
//! ```
//! use fanfare_wire::native::app::{ApiRequest, Caller, ApiCommand, decode};
//! use fanfare_wire::native::Limits;
//!
//! let caller = Caller { name: &"backend".into(), idempotency_key: Some("order-17") };
//! let body = br#"{"channel":"orders:17","data":{"state":"paid"}}"#;
//! let decoded = decode(ApiCommand::Publish, body, &caller, &Limits::default());
//! let Ok(ApiRequest::One(command)) = decoded else { panic!("a publish") };
//! ```

mod decode;
mod encode;
#[doc(hidden)]
pub mod fuzz;

#[cfg(test)]
mod tests;

pub use decode::decode;
pub use encode::{encode_answer, encode_error, encode_refusal, encode_results};

use fanfare_hub::{AppCommand, Disconnect, Error};
use std::sync::Arc;

/// Commands in one `batch`.
pub const BATCH_COMMANDS_MAX: usize = 1000;
/// Channels in one `broadcast`.
pub const BROADCAST_CHANNELS_MAX: usize = 1000;
/// Clients that an audience may name, in each of its lists.
pub const AUDIENCE_CLIENTS_MAX: usize = 1000;
/// Channels that one page of `channels` may hold.
pub const CHANNELS_LIMIT_MAX: u32 = fanfare_hub::CHANNELS_MAX;
/// Bans that one answer to `bans` may hold.
pub const BANS_LIMIT_MAX: u32 = fanfare_hub::BANS_LIMIT_MAX;
/// Connections or users that one page may hold.
pub const LISTED_LIMIT_MAX: u32 = fanfare_hub::LISTED_MAX;
/// Users whose status one command may ask for.
pub const STATUS_USERS_MAX: usize = fanfare_hub::STATUS_USERS_MAX;
/// The limit of a list without `limit`.
pub const LIMIT_DEFAULT: u32 = 100;
/// The time over which `reconnect` spreads where it does not say: the same as of a stop of the server.
pub const SPREAD_MS_DEFAULT: u64 = 10_000;
/// The length of a ban, and of a spread: a whole number of up to 6 digits, and a unit. As a regular
/// expression of JSON Schema.
pub const TIME_PATTERN: &str = "^[1-9][0-9]{0,5}(ms|s|m|h|d)$";
/// Bytes of a user's id.
pub const USER_BYTES_MAX: usize = 255;

/// The time over which `reconnect` may spread: the same, up to an hour.
pub const SPREAD_PATTERN: &str =
    "^([1-9][0-9]{0,5}ms|([1-9][0-9]{0,2}|[12][0-9]{3}|3[0-5][0-9]{2}|3600)s|([1-9]|[1-5][0-9]|60)m|1h)$";
/// The form of a cursor of `connections`, as a regular expression of JSON Schema.
pub const CURSOR_PATTERN: &str = "^(0|[1-9a-f][0-9a-f]{0,7})-(0|[1-9a-f][0-9a-f]{0,3})$";

/// Why the application may end a connection: the first one is what it means when it does not say. Others are the
/// server's to find.
pub const REASONS: [Disconnect; 4] =
    [Disconnect::Kicked, Disconnect::Unauthorized, Disconnect::Abuse, Disconnect::Overloaded];

macro_rules! api_commands {
    ($($variant:ident $word:literal,)*) => {
        /// A command of the application, without its fields.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ApiCommand {
            $(#[doc = concat!("`", $word, "`")] $variant,)*
        }

        impl ApiCommand {
            /// All of them, in the order of the documentation.
            pub const ALL: &[ApiCommand] = &[$(ApiCommand::$variant),*];

            /// As in paths and in `type`.
            pub fn word(self) -> &'static str {
                match self { $(ApiCommand::$variant => $word,)* }
            }

            /// The command with this word.
            pub fn find(word: &str) -> Option<ApiCommand> {
                match word { $($word => Some(ApiCommand::$variant),)* _ => None }
            }
        }
    };
}

api_commands! {
    Publish "publish",
    Broadcast "broadcast",
    Emit "emit",
    Batch "batch",
    Signal "signal",
    History "history",
    HistoryRemove "history_remove",
    Presence "presence",
    Channels "channels",
    Subscribe "subscribe",
    Unsubscribe "unsubscribe",
    Disconnect "disconnect",
    Reconnect "reconnect",
    Unban "unban",
    Bans "bans",
    Connections "connections",
    Users "users",
    UserStatus "user_status",
    Info "info",
}

impl ApiCommand {
    /// True for those whose body has [reserved fields](crate::native::reserved_fields).
    pub fn reserves_fields(self) -> bool {
        matches!(
            self,
            ApiCommand::Publish
                | ApiCommand::Broadcast
                | ApiCommand::Emit
                | ApiCommand::Subscribe
                | ApiCommand::History
        )
    }

    /// True for those whose body may be empty.
    pub fn may_be_empty(self) -> bool {
        matches!(
            self,
            ApiCommand::Channels | ApiCommand::Bans | ApiCommand::Connections | ApiCommand::Users | ApiCommand::Info
        )
    }

    /// True for those whose body holds several commands.
    pub fn is_many(self) -> bool {
        matches!(self, ApiCommand::Batch | ApiCommand::Broadcast)
    }
}

/// The caller, with the facts that stand outside of the body.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The name of the API key: idempotency keys are unique in its scope.
    pub name: &'a Arc<str>,
    /// The idempotency key of the request, where it stands outside of the body.
    pub idempotency_key: Option<&'a str>,
}

/// The commands of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiRequest {
    /// One command.
    One(AppCommand),
    /// Several: one answer each, in this order. An invalid command does not affect the others.
    Many(Vec<Result<AppCommand, Error>>),
}
