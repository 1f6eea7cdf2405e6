//! Tickets: the sealed name of a session, with which its client comes back.
//!
//! [`seal`] writes the name as one text, [`open`] reads it back and believes nothing whose seal (HMAC-SHA256 over every
//! byte) is not of the same key, or whose time is up. A ticket resumes a living session and proves nothing else: the
//! session holds the client's identity and rights. A client that shows a ticket is taken for its owner; a ticket is not
//! to be logged. Its form is ours alone and may change with any version: a ticket that cannot be read costs its client
//! no more than a new session.
//!
//! Form: base64url without padding of `version(1) node(8) shard(2) client(8) expires(8) seal(32)`, integers big-endian.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_hub::{ClientId, Resume, ShardId};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

const VERSION: u8 = 3;
const SEAL_BYTES: usize = 32;
/// Keeps a ticket's seal from being the seal of something else under the same key.
const CONTEXT: &[u8] = b"fanfare ticket\0";

/// The contents of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// The node that made it.
    pub node: u64,
    /// The shard that owned the session.
    pub shard: ShardId,
    /// The session's public id.
    pub client: ClientId,
    /// From when on it is worthless, in ms since 1970.
    pub expires_ms: u64,
}

impl Claims {
    /// The part of it that the hub gets.
    pub fn resume(self) -> Resume {
        Resume { shard: self.shard, client: self.client }
    }
}

/// Why a ticket is not honoured. None of them is worth an alarm: the client gets a new session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Not of the form, or of another version of it.
    #[error("the ticket of {len} bytes is not of this server's form")]
    Malformed {
        /// Its length as a text.
        len: usize,
    },
    /// Made or changed by somebody without the key, or under an earlier key.
    #[error("the ticket's seal is not of this server's key")]
    WrongSeal,
    /// Its time is up.
    #[error("the ticket expired {ago_ms} ms ago")]
    Expired {
        /// How long ago.
        ago_ms: u64,
    },
}

/// Writes a ticket. The key should have 32 random bytes or more, the same on every node.
pub fn seal(claims: &Claims, key: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(VERSION);
    bytes.extend_from_slice(&claims.node.to_be_bytes());
    bytes.extend_from_slice(&claims.shard.0.to_be_bytes());
    bytes.extend_from_slice(&claims.client.0.to_be_bytes());
    bytes.extend_from_slice(&claims.expires_ms.to_be_bytes());
    let tag = mac(key, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&tag);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a ticket that [`seal`] wrote with the same key.
///
/// # Errors
/// [`TicketError`]; the seal is compared in constant time, and before anything in the ticket is believed.
pub fn open(text: &str, key: &[u8], now_ms: u64) -> Result<Claims, TicketError> {
    let malformed = || TicketError::Malformed { len: text.len() };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed())?;
    let (body, tag) = bytes.split_last_chunk::<SEAL_BYTES>().ok_or_else(malformed)?;
    if body.first() != Some(&VERSION) {
        return Err(malformed());
    }
    mac(key, body).verify_slice(tag).map_err(|_| TicketError::WrongSeal)?;
    let claims = read(&body[1..]).ok_or_else(malformed)?;
    match now_ms.checked_sub(claims.expires_ms) {
        Some(ago_ms) => Err(TicketError::Expired { ago_ms }),
        None => Ok(claims),
    }
}

fn mac(key: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(CONTEXT);
    mac.update(body);
    mac
}

fn read(mut body: &[u8]) -> Option<Claims> {
    let claims = Claims {
        node: u64::from_be_bytes(take(&mut body)?),
        shard: ShardId(u16::from_be_bytes(take(&mut body)?)),
        client: ClientId(u64::from_be_bytes(take(&mut body)?)),
        expires_ms: u64::from_be_bytes(take(&mut body)?),
    };
    body.is_empty().then_some(claims)
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = body.split_first_chunk::<N>()?;
    *body = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key of the test";

    const CLAIMS: Claims =
        Claims { node: 7, shard: ShardId(3), client: ClientId(0x0123_4567_89ab_cdef), expires_ms: 2_000 };

    #[test]
    fn sealed_claims_are_opened() {
        let text = seal(&CLAIMS, KEY);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text} fits a URL");
        assert_eq!(open(&text, KEY, 1_999), Ok(CLAIMS));
    }

    /// The form, written out: a change of it must be a change of the version.
    #[test]
    fn the_form_is_pinned() {
        let text = seal(&CLAIMS, KEY);
        assert!(text.starts_with("AwAAAAAAAAAHAAMBI0VniavN7wAAAAAAAAfQ"), "{text}");
        assert_eq!(text.len(), 79, "{text}");
    }

    #[test]
    fn it_expires() {
        let text = seal(&CLAIMS, KEY);
        assert_eq!(open(&text, KEY, 2_000), Err(TicketError::Expired { ago_ms: 0 }));
        assert_eq!(open(&text, KEY, 2_500), Err(TicketError::Expired { ago_ms: 500 }));
    }

    #[test]
    fn nothing_in_it_can_be_changed_or_cut() {
        let text = seal(&CLAIMS, KEY);
        assert_eq!(open(&text, b"another key", 1_500), Err(TicketError::WrongSeal));
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert!(open(&URL_SAFE_NO_PAD.encode(&forged), KEY, 1_500).is_err(), "byte {at}");
            assert!(open(&URL_SAFE_NO_PAD.encode(&bytes[..at]), KEY, 1_500).is_err(), "cut at {at}");
        }
        for text in ["", "?", "AA", &format!("{text}="), &format!("{text}A"), &format!(" {text}")] {
            assert!(matches!(open(text, KEY, 1_500), Err(TicketError::Malformed { .. } | TicketError::WrongSeal)));
        }
    }

    /// Only somebody with the key could write these, and still they panic nobody.
    #[test]
    fn a_sealed_body_of_another_form_is_malformed() {
        let good = URL_SAFE_NO_PAD.decode(seal(&CLAIMS, KEY)).unwrap();
        let body = &good[..good.len() - SEAL_BYTES];
        let longer = [body, b"x"].concat();
        for body in [&body[..1], &body[..20], &body[..body.len() - 1], &longer] {
            let tag = mac(KEY, body).finalize().into_bytes();
            let text = URL_SAFE_NO_PAD.encode([body, &tag].concat());
            assert_eq!(open(&text, KEY, 1_500), Err(TicketError::Malformed { len: text.len() }));
        }
    }
}
