//! Why a message of a Socket.IO client cannot be understood. The connection ends.

/// A malformed packet, or a message at the wrong moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// An empty message, or one whose first character stands for no kind.
    #[error("a packet of no known type")]
    Kind,
    /// No number of attachments before a `-`.
    #[error("a binary packet without its number of attachments")]
    AttachmentCount,
    /// More attachments than are allowed.
    #[error("{count} attachments exceed the limit of {max}")]
    TooManyAttachments {
        /// The number that was claimed.
        count: u64,
        /// The limit.
        max: usize,
    },
    /// A long namespace.
    #[error("a namespace of {len} bytes exceeds the limit of {max}")]
    NamespaceLength {
        /// The length that was found.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// An id that is above 2⁶⁴−1.
    #[error("an ack id of more than 64 bits")]
    AckId,
    /// An ack needs an id.
    #[error("an ack without the id of its event")]
    NoAckId,
    /// The payload is no JSON.
    #[error("the payload is not JSON: {0}")]
    Json(String),
    /// Deeply nested JSON.
    #[error("the payload is {0}")]
    TooDeep(#[from] crate::json::TooDeep),
    /// The payload has not the form that its kind demands.
    #[error("the payload is not {expected}")]
    Payload {
        /// The form that it should have.
        expected: &'static str,
    },
    /// An event with the name of one that the API raises itself.
    #[error("{0:?} is a reserved name of an event")]
    ReservedEvent(&'static str),
    /// A placeholder that stands for no attachment of its packet.
    #[error("a placeholder for an attachment that its packet does not have")]
    Placeholder,
    /// A text message where attachments are missing.
    #[error("a text message while {missing} attachments are missing")]
    TextWithinPacket {
        /// How many are missing.
        missing: usize,
    },
    /// A binary message that no packet announced.
    #[error("a binary message that is no attachment of a packet")]
    UnexpectedBinary,
    /// A packet and its attachments are too large together.
    #[error("a packet of {len} bytes with its attachments exceeds the limit of {max}")]
    TooLarge {
        /// The bytes so far.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// No packet of the msgpack parser.
    #[error("no packet of MessagePack: {0}")]
    Msgpack(#[from] super::msgpack::MsgpackError),
    /// A text message where the msgpack parser is spoken.
    #[error("a text message where packets are MessagePack (`socketio.parser`)")]
    TextForMsgpack,
}

impl DecodeError {
    /// One word for it, for figures.
    pub fn cause(&self) -> &'static str {
        match self {
            DecodeError::Kind => "packet_type",
            DecodeError::AttachmentCount | DecodeError::TooManyAttachments { .. } => "attachment_count",
            DecodeError::NamespaceLength { .. } => "namespace_length",
            DecodeError::AckId | DecodeError::NoAckId => "ack_id",
            DecodeError::Json(_) => "not_json",
            DecodeError::TooDeep(_) => "too_deep",
            DecodeError::Payload { .. } => "payload",
            DecodeError::ReservedEvent(_) => "reserved_event",
            DecodeError::Placeholder => "placeholder",
            DecodeError::TextWithinPacket { .. } | DecodeError::UnexpectedBinary => "attachment_order",
            DecodeError::TooLarge { .. } => "packet_size",
            DecodeError::Msgpack(_) | DecodeError::TextForMsgpack => "not_msgpack",
        }
    }
}
