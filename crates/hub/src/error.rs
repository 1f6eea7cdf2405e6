//! The errors of commands: each has one stable word, the same on WebSocket, HTTP and in SDKs.
//!
//! [`ERRORS`] is the table; the docs and the SDKs' constants are printed from it.

use crate::name::ChannelName;
use crate::quota::Quotas;
use std::fmt;

macro_rules! error_codes {
    ($($variant:ident, $word:literal, $status:literal, $retryable:literal, $meaning:literal;)*) => {
        /// Which error it is. The words are stable; new ones may come.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $meaning] $variant,)*
        }

        /// Every error code, in the order of the documentation.
        pub const ERRORS: &[ErrorRow] = &[
            $(ErrorRow { code: ErrorCode::$variant, word: $word, status: $status, retryable: $retryable, meaning: $meaning },)*
        ];
    };
}

/// A row of [`ERRORS`].
#[derive(Debug, Clone, Copy)]
pub struct ErrorRow {
    /// The code.
    pub code: ErrorCode,
    /// Its word on every wire.
    pub word: &'static str,
    /// The HTTP status it answers with.
    pub status: u16,
    /// Whether the same command may succeed later, unchanged.
    pub retryable: bool,
    /// One sentence for the documentation.
    pub meaning: &'static str,
}

error_codes! {
    BadRequest, "bad_request", 400, false, "The message is invalid: a field is missing, has another type or is out of range.";
    UnknownCommand, "unknown_command", 400, false, "There is no command of this type.";
    NotConnected, "not_connected", 401, false, "The first command must be `connect`; or a poll or send came for a session that is over or has no connection.";
    AlreadyConnected, "already_connected", 409, false, "`connect` was sent twice on one connection; or a poll came for a session with another connection.";
    Unauthorized, "unauthorized", 401, false, "The token or key is missing or wrong.";
    TokenExpired, "token_expired", 401, false, "The token has expired; connect again, or refresh, with a new one.";
    Denied, "denied", 403, false, "A rule or a handler does not allow this; `rule` names the rule.";
    NoRule, "no_rule", 404, false, "No rule of the configuration matches the channel, so it cannot be used.";
    NotFound, "not_found", 404, false, "The channel, client, method or publication does not exist.";
    NotSubscribed, "not_subscribed", 409, false, "The command needs a live subscription to the channel.";
    AlreadySubscribed, "already_subscribed", 409, false, "This connection is already subscribed to the channel.";
    KeyConflict, "key_conflict", 409, false, "The idempotency key was used for another payload.";
    OutOfOrder, "out_of_order", 409, true, "A `send` came before an earlier one; send again all from the number that the message names.";
    TooLarge, "too_large", 413, false, "The message or a field of it exceeds a limit.";
    InvalidData, "invalid_data", 422, false, "The data breaks the schema or a text rule of the channel's rule; the message names the place in the data.";
    LimitExceeded, "limit_exceeded", 429, false, "A limit on how much may be held at once is reached.";
    TooManyConnections, "too_many_connections", 429, true, "The user has as many connections as one may have; `retry_after` says when to try again.";
    RateLimited, "rate_limited", 429, true, "Too many commands in too short a time; `retry_after` says when to try again.";
    Internal, "internal", 500, true, "The server failed; its log has the reason.";
    Timeout, "timeout", 504, true, "A handler did not answer in time; it may have acted or not.";
    Unknown, "unknown", 503, true, "The store did not say whether it took the publication; send it again with the same key.";
    Unavailable, "unavailable", 503, true, "The store, a broker or the application cannot take the command now; nothing was done.";
    Overloaded, "overloaded", 503, true, "The server takes no new connections for a while, so that those who are connected stay served.";
    HookUnavailable, "hook_unavailable", 503, true, "The application's hook gives no valid answer now; nothing was done.";
}

impl ErrorCode {
    /// The code's row of the table.
    pub fn row(self) -> &'static ErrorRow {
        ERRORS.iter().find(|row| row.code == self).expect("the table holds every variant: one macro makes both")
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().word)
    }
}

/// A refusal, with the facts that a person needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Which error.
    pub code: ErrorCode,
    /// One sentence with the limit, the value or the option.
    pub message: Box<str>,
    /// Milliseconds after which the same command may succeed.
    pub retry_after_ms: Option<u64>,
    /// The channel it is about.
    pub channel: Option<ChannelName>,
    /// The rule that decided, as its pattern.
    pub rule: Option<Box<str>>,
    /// The option of that rule. For logs and figures; not on the wire.
    pub option: Option<&'static str>,
    /// The limit of the server that is reached, by the name of its option in `[limits]`, or with its section if that is
    /// another one. Not on the wire either: the message names it.
    pub limit: Option<&'static str>,
}

impl Error {
    /// An error of this code, with one sentence that names the value that was found and the allowed ones.
    pub fn new(code: ErrorCode, message: impl Into<Box<str>>) -> Self {
        Error {
            code,
            message: message.into(),
            retry_after_ms: None,
            channel: None,
            rule: None,
            option: None,
            limit: None,
        }
    }

    /// A client may use no new name of a channel at the moment.
    pub(crate) fn too_many_names(quotas: &Quotas) -> Self {
        let (count, window_ms) = quotas.new_channels_per_user.map_or((0, 0), |rate| (rate.count(), rate.window_ms()));
        let message = format!(
            "one user may use {count} new channel names in {window_ms} ms, the limit (limits.new_channels_per_user)"
        );
        Error::new(ErrorCode::RateLimited, message).by_limit("new_channels_per_user")
    }

    /// The same, about `channel`.
    #[must_use]
    pub fn on(mut self, channel: &ChannelName) -> Self {
        self.channel = Some(channel.clone());
        self
    }

    /// The same, decided by the rule with this pattern.
    #[must_use]
    pub fn by_rule(mut self, pattern: &str) -> Self {
        self.rule = Some(pattern.into());
        self
    }

    /// The same, at this limit of the server.
    #[must_use]
    pub fn by_limit(mut self, limit: &'static str) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The same, after this time.
    #[must_use]
    pub fn after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// The same, by this option of the rule.
    #[must_use]
    pub fn by_option(mut self, option: &'static str) -> Self {
        self.option = Some(option);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}
