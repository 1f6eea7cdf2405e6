//! Close codes: the one table of what they mean and whether to come back.
//!
//! RFC 6455 §7.4 and the IANA registry, then Fanfare's own: 4000-4499 come back, 4500-4999 do not. Documentation and SDK
//! constants are printed from [`CLOSE_CODES`]; what is not in it follows the rule of its range ([`reconnect`]).

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode {
    /// As on the wire.
    pub code: u16,
    /// A stable snake_case word.
    pub name: &'static str,
    /// For a person.
    pub meaning: &'static str,
    /// Whether a client should connect again by itself (after a delay).
    pub reconnect: bool,
}

const fn row(code: u16, name: &'static str, reconnect: bool, meaning: &'static str) -> CloseCode {
    CloseCode { code, name, meaning, reconnect }
}

/// Every code that has a name, ascending.
pub const CLOSE_CODES: &[CloseCode] = &[
    row(1000, "normal", true, "the purpose is fulfilled"),
    row(1001, "going_away", true, "the server goes down, or the page was left"),
    row(1002, "protocol_error", false, "the peer broke RFC 6455"),
    row(
        1003,
        "unsupported_data",
        false,
        "a kind of message that cannot be accepted, such as binary where text is spoken",
    ),
    row(1004, "reserved", true, "has no meaning; never on the wire"),
    row(1005, "no_status", true, "the close frame had no code; never on the wire"),
    row(1006, "abnormal", true, "the connection was lost without a close frame; never on the wire"),
    row(1007, "invalid_data", false, "a message does not agree with its type, such as text that is not UTF-8"),
    row(1008, "policy_violation", false, "a message breaks a rule that has no code of its own"),
    row(1009, "message_too_big", false, "a message is longer than the limit"),
    row(1010, "extension_missing", false, "the client needs an extension that the server did not agree to"),
    row(1011, "internal_error", true, "the server met something it did not expect"),
    row(1012, "service_restart", true, "the server restarts"),
    row(1013, "try_again_later", true, "the server is overloaded"),
    row(1014, "bad_gateway", true, "a gateway got an invalid answer from the server behind it"),
    row(1015, "tls_handshake", true, "the TLS handshake failed; never on the wire"),
    row(3000, "unauthorized", false, "not authenticated (IANA)"),
    row(3003, "forbidden", false, "not permitted (IANA)"),
    row(3008, "timeout", true, "the peer took too long (IANA)"),
    row(4000, "draining", true, "the server is being stopped; another one, or its successor, will answer"),
    row(4001, "silent", true, "no sign of life within the heartbeat's time"),
    row(4002, "behind", true, "the client read too slowly and its protocol cannot catch up: join again"),
    row(4003, "expired", true, "the token ran out: come back with a new one"),
    row(4500, "denied", false, "the server refuses this client"),
    row(4501, "banned", false, "an administrator ended this session"),
    row(4502, "replaced", false, "the session went on over another connection"),
    row(4503, "bad_command", false, "the client does not speak the protocol it asked for"),
];

/// Whether a peer may send this code in a close frame (§7.4.1, §7.4.2 and the IANA registry).
///
/// 1004, 1005, 1006 and 1015 are for local use only, 1016-2999 are not assigned.
pub const fn may_receive(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Whether a client that was closed with this code should connect again by itself.
///
/// A code without a name: 4500-4999 do not come back, everything else does.
pub fn reconnect(code: u16) -> bool {
    find(code).map_or(!matches!(code, 4500..=4999), |row| row.reconnect)
}

/// The row of a code that has a name.
pub fn find(code: u16) -> Option<&'static CloseCode> {
    CLOSE_CODES.binary_search_by_key(&code, |row| row.code).ok().and_then(|index| CLOSE_CODES.get(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_ascend_and_names_are_unique() {
        assert!(CLOSE_CODES.is_sorted_by(|a, b| a.code < b.code));
        let names: std::collections::HashSet<_> = CLOSE_CODES.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), CLOSE_CODES.len());
    }

    #[test]
    fn the_ranges_decide() {
        for code in 1000..3000 {
            assert_eq!(reconnect(code), !matches!(code, 1002 | 1003 | 1007..=1010), "{code}");
        }
        assert!((4000..4500).all(reconnect));
        assert!(!(4500..5000).any(reconnect));
    }

    #[test]
    fn what_may_be_on_the_wire() {
        for (codes, allowed) in [
            (0..=999, false),
            (1000..=1003, true),
            (1004..=1006, false),
            (1007..=1014, true),
            (1015..=2999, false),
            (3000..=4999, true),
            (5000..=u16::MAX, false),
        ] {
            for code in codes {
                assert_eq!(may_receive(code), allowed, "{code}");
            }
        }
    }
}
