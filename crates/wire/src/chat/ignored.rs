//! Messages of chat clients that are ignored, and why: one sentence for the log, one word for figures.

use super::{NAME_BYTES_MAX, ROOM_BYTES_MAX};
use fanfare_hub::InvalidName;

/// Why a frame was ignored, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ignored {
    /// Not a JSON object.
    #[error("not a chat message: {0}")]
    Json(String),
    /// Without a string `type`.
    #[error("a chat message needs a string \"type\"")]
    NoType,
    /// Nothing that a chat knows.
    #[error("unknown type {0:?}")]
    UnknownType(String),
    /// A field that this type needs.
    #[error("{kind:?} needs a string {field:?}")]
    Missing {
        /// The message's type.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field that is needed occurs twice: two readers could take different ones of them.
    #[error("{field:?} occurs twice")]
    Twice {
        /// The field.
        field: &'static str,
    },
    /// A text that is compared and holds half a character.
    #[error("{field:?} is not Unicode text: it holds a lone surrogate")]
    NotUnicode {
        /// The field.
        field: &'static str,
    },
    /// A name that is too long or empty.
    #[error("{field:?} has {len} bytes, allowed are 1 to {NAME_BYTES_MAX}")]
    Length {
        /// The field.
        field: &'static str,
        /// The value that was found.
        len: usize,
    },
    /// A text that is shown and has too many characters.
    #[error("{field:?} has {len} characters, allowed are at most {max}")]
    TextLength {
        /// The field.
        field: &'static str,
        /// The value that was found.
        len: usize,
        /// The limit.
        max: u32,
    },
    /// A room that no channel can be named after.
    #[error("room: {0}")]
    Room(InvalidName),
    /// A room that is too long.
    #[error("roomId has {len} bytes when percent-encoded, allowed are 1 to {ROOM_BYTES_MAX}")]
    RoomLength {
        /// The value that was found.
        len: usize,
    },
    /// Anything but `join` before the first one.
    #[error("{0:?} before join")]
    NotJoined(&'static str),
}

impl Ignored {
    /// Whether it counts as abuse: a message that no chat client would send does, a message at the wrong moment does
    /// not.
    pub fn is_bad(&self) -> bool {
        // Somebody may well paste a long text.
        !matches!(self, Ignored::NotJoined(_) | Ignored::TextLength { .. })
    }

    /// One word for it, for figures.
    pub fn cause(&self) -> &'static str {
        match self {
            Ignored::Json(_) => "not_json",
            Ignored::NoType | Ignored::UnknownType(_) => "unknown_type",
            Ignored::Missing { .. } => "missing_field",
            Ignored::Twice { .. } => "duplicate_field",
            Ignored::NotUnicode { .. } => "not_unicode",
            Ignored::Length { .. } => "name_length",
            Ignored::TextLength { .. } => "text_length",
            Ignored::Room(_) | Ignored::RoomLength { .. } => "room_name",
            Ignored::NotJoined(_) => "not_joined",
        }
    }
}
