//! The negotiation (RFC 7692 §7.1): a client's offers, and the answer to the first one that is acceptable.
//!
//! In: the elements of `Sec-WebSocket-Extensions` as they were sent. Out: what was agreed on, or `None`. An offer that
//! breaks the grammar, repeats a parameter or has an unknown one is declined (§7.1), and the next one is looked at. No
//! offer fails a handshake: a connection without an acceptable one is not compressed.

use super::Window;
use crate::websocket::handshake::{split_unquoted, token, trim};

/// An offer was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The window for the messages to this client.
    pub window: Window,
    /// The value of `Sec-WebSocket-Extensions` in the response.
    pub answer: &'static str,
}

/// Picks the first acceptable offer; `offers` as in [`Accepted::extensions`](crate::websocket::Accepted::extensions).
///
/// The answer always says `server_no_context_takeover` and `client_no_context_takeover`: §7.1.1 lets a server add both,
/// and without them each connection would hold a window of 32 KiB or more in each direction. An offer that asks for a
/// window of 8 bits is declined: zlib cannot make such messages.
pub fn negotiate(offers: &[&str]) -> Option<Agreed> {
    offers.iter().find_map(|offer| Some(Offer::parse(offer)?.answer()))
}

/// An offer that follows the rules.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offer {
    server_max_window_bits: Option<u8>,
}

impl Offer {
    /// `None`: another extension, or an offer that must be declined.
    fn parse(offer: &str) -> Option<Self> {
        let mut parts = split_unquoted(offer.as_bytes(), b';').map(trim);
        if parts.next() != Some(b"permessage-deflate") {
            return None;
        }
        let mut parsed = Self::default();
        let mut seen = Vec::new();
        for part in parts {
            let (name, value) = parameter(part)?;
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                // §7.1.1: these have no value.
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                // §7.1.2.1: this has one.
                ("server_max_window_bits", Some(value)) => {
                    parsed.server_max_window_bits = Some(window_bits(&value)?).filter(|bits| *bits > 8);
                    parsed.server_max_window_bits?;
                }
                // §7.1.2.2: this may have one, a hint. We never limit the client's window.
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(value)) => drop(window_bits(&value)?),
                _ => return None,
            }
        }
        Some(parsed)
    }

    fn answer(&self) -> Agreed {
        // §7.1.2.1: accepting the parameter is answering it, with the same value or a smaller one.
        let (window, answer) = match self.server_max_window_bits {
            None => (Window::Full, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
            Some(15) => (
                Window::Full,
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
            ),
            Some(_) => (
                Window::Small,
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
            ),
        };
        Agreed { window, answer }
    }
}

/// A parameter with its value, unquoted (RFC 6455 §9.1). `None`: it breaks the grammar.
fn parameter(part: &[u8]) -> Option<(&str, Option<Vec<u8>>)> {
    let mut sides = part.splitn(2, |&byte| byte == b'=');
    let name = token(trim(sides.next()?))?;
    let Some(value) = sides.next().map(trim) else { return Some((name, None)) };
    let value = match value {
        [b'"', quoted @ .., b'"'] => unquoted(quoted)?,
        value => value.to_vec(),
    };
    // §9.1: the value of a quoted string must be a token too.
    token(&value)?;
    Some((name, Some(value)))
}

/// The text between two quotes, without its escapes (RFC 9110 §5.6.4).
fn unquoted(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => value.push(*bytes.next()?),
            b'"' => return None,
            byte => value.push(byte),
        }
    }
    Some(value)
}

/// 8 to 15 in decimal, without leading zeros (§7.1.2.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn offers() {
        let full = Some((Window::Full, ""));
        let full_asked = Some((Window::Full, "; server_max_window_bits=15"));
        let small = Some((Window::Small, "; server_max_window_bits=9"));
        type Row<'a> = (&'a str, &'a [&'a str], Option<(Window, &'a str)>);
        let rows: &[Row<'_>] = &[
            ("none", &[], None),
            ("another extension", &["x-webkit-deflate-frame"], None),
            ("another case", &["Permessage-Deflate"], None),
            ("bare", &["permessage-deflate"], full),
            ("Chromium", &["permessage-deflate; client_max_window_bits"], full),
            (
                "both without takeover",
                &["permessage-deflate;server_no_context_takeover ;client_no_context_takeover"],
                full,
            ),
            ("a hint", &["permessage-deflate; client_max_window_bits=10"], full),
            ("a quoted hint", &[r#"permessage-deflate; client_max_window_bits="1\0""#], full),
            ("window of 15", &["permessage-deflate; server_max_window_bits=15"], full_asked),
            ("window of 14", &["permessage-deflate; server_max_window_bits=14"], small),
            ("window of 9, quoted", &[r#"permessage-deflate; server_max_window_bits = "9""#], small),
            ("window of 8", &["permessage-deflate; server_max_window_bits=8"], None),
            ("window of 8, or any", &["permessage-deflate; server_max_window_bits=8", "permessage-deflate"], full),
            ("window of 16", &["permessage-deflate; server_max_window_bits=16"], None),
            ("window of 7", &["permessage-deflate; server_max_window_bits=7"], None),
            ("window of 010", &["permessage-deflate; server_max_window_bits=010"], None),
            ("window of +9", &["permessage-deflate; server_max_window_bits=+9"], None),
            ("window without a value", &["permessage-deflate; server_max_window_bits"], None),
            ("window with an empty value", &["permessage-deflate; server_max_window_bits="], None),
            ("window with an empty quoted value", &[r#"permessage-deflate; server_max_window_bits="""#], None),
            ("a hint of 16", &["permessage-deflate; client_max_window_bits=16"], None),
            ("takeover with a value", &["permessage-deflate; server_no_context_takeover=1"], None),
            ("a parameter twice", &["permessage-deflate; client_max_window_bits; client_max_window_bits=10"], None),
            ("an unknown parameter", &["permessage-deflate; unknown"], None),
            ("an unknown one, or none", &["permessage-deflate; unknown=1", "permessage-deflate"], full),
            ("an empty parameter", &["permessage-deflate;"], None),
            ("two equal signs", &["permessage-deflate; server_max_window_bits=9=9"], None),
            ("an unfinished quote", &[r#"permessage-deflate; server_max_window_bits="9"#], None),
            ("a quote in the middle", &[r#"permessage-deflate; server_max_window_bits=9"9""#], None),
            ("a semicolon in quotes", &[r#"permessage-deflate; server_max_window_bits="9;x""#], None),
            ("an escape at the end", &[r#"permessage-deflate; server_max_window_bits="9\""#], None),
            (
                "the first one that fits",
                &["x", "permessage-deflate; server_max_window_bits=10", "permessage-deflate"],
                small,
            ),
        ];
        for (name, offers, expected) in rows {
            let expected = expected.map(|(window, more)| (window, format!("{PLAIN}{more}")));
            let agreed = negotiate(offers).map(|agreed| (agreed.window, agreed.answer.to_owned()));
            assert_eq!(agreed, expected, "{name}");
        }
    }

    #[test]
    fn the_answer_names_the_window_that_is_used() {
        for bits in 9..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let agreed = negotiate(&[&offer]).expect("an acceptable offer");
            assert!(agreed.window.bits() <= bits, "{bits}");
            assert!(agreed.answer.ends_with(&format!("server_max_window_bits={}", agreed.window.bits())), "{bits}");
        }
    }
}
