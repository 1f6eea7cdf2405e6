//! Close codes: the one table of their meanings and of whether to come back.
//!
//! RFC 6455 §7.4 and the IANA registry are in [`CLOSE_CODES`]; Fanfare's own are the hub's [`DISCONNECTS`]: 4000-4499
//! come back, 4500-4999 do not. Documentation and SDK constants are printed from both; a code in neither follows the
//! rule of its range ([`reconnect`]).

use fanfare_hub::{DISCONNECTS, DisconnectRow};

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

/// Every code below 4000 that has a name, ascending.
pub const CLOSE_CODES: &[CloseCode] = &[
    row(1000, "normal", true, "the connection has served its purpose"),
    row(1001, "going_away", true, "the server stops, or the user left the page"),
    row(1002, "protocol_error", false, "the peer broke RFC 6455"),
    row(
        1003,
        "unsupported_data",
        false,
        "the peer does not accept this kind of message, such as binary instead of text",
    ),
    row(1004, "reserved", true, "has no meaning; never on the wire"),
    row(1005, "no_status", true, "the close frame had no code; never on the wire"),
    row(1006, "abnormal", true, "the connection was lost without a close frame; never on the wire"),
    row(1007, "invalid_data", false, "a message does not fit its type, such as text that is not UTF-8"),
    row(1008, "policy_violation", false, "a message breaks a rule that has no code of its own"),
    row(1009, "message_too_big", false, "a message is longer than the limit"),
    row(1010, "extension_missing", false, "the client needs an extension that the server did not agree to"),
    row(1011, "internal_error", true, "the server met an unexpected condition"),
    row(1012, "service_restart", true, "the server restarts"),
    row(1013, "try_again_later", true, "the server is overloaded"),
    row(1014, "bad_gateway", true, "a gateway got an invalid answer from the server behind it"),
    row(1015, "tls_handshake", true, "the TLS handshake failed; never on the wire"),
    row(3000, "unauthorized", false, "not authenticated (IANA)"),
    row(3003, "forbidden", false, "not permitted (IANA)"),
    row(3008, "timeout", true, "the peer took too long (IANA)"),
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

/// The row of a code that has a name, Fanfare's own included.
pub fn find(code: u16) -> Option<CloseCode> {
    let ours = |row: &DisconnectRow| CloseCode {
        code: row.code,
        name: row.word,
        meaning: row.meaning,
        reconnect: row.reason.reconnect(),
    };
    let row = CLOSE_CODES.iter().find(|row| row.code == code).copied();
    row.or_else(|| DISCONNECTS.iter().find(|row| row.code == code).map(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_ascend_and_names_are_unique() {
        let codes: Vec<u16> =
            CLOSE_CODES.iter().map(|row| row.code).chain(DISCONNECTS.iter().map(|row| row.code)).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert!(CLOSE_CODES.iter().all(|row| row.code < 4000) && DISCONNECTS.iter().all(|row| row.code >= 4000));
        // IANA's 3000 and our 4502 are both `unauthorized`: to a program the same word, to come back the same rule.
        let rows: Vec<CloseCode> = codes.into_iter().filter(|code| *code != 3000).filter_map(find).collect();
        let names: std::collections::HashSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
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
    fn codes_that_may_be_on_the_wire() {
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
