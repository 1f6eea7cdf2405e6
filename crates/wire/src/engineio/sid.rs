//! Ids of sessions: each names the shard and the connection that it is of, under a seal.
//!
//! [`Sid::seal`] writes the id, [`Sid::open`] reads it back and believes nothing whose seal (HMAC-SHA256 over the node
//! and the name, its first 12 bytes) is not of the same key. So a request finds its session on any shard without a
//! table of ids, a guessed id is found out before anything is looked up, and an id of an earlier run or of another node
//! is unknown. An id is what its client shows with each request: it is not to be logged.
//!
//! Form: base64url without padding of `shard(2) index(4) generation(4) seal(12)`, integers big-endian.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_hub::{ConnId, ShardId};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

const NAME_BYTES: usize = 2 + 4 + 4;
const SEAL_BYTES: usize = 12;
/// Keeps the seal of an id from being the seal of something else under the same key.
const CONTEXT: &[u8] = b"fanfare engine.io sid\0";

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sid {
    /// The shard of the session.
    pub shard: ShardId,
    /// Its connection there.
    pub conn: ConnId,
}

impl Sid {
    /// The characters of an id.
    pub const LEN: usize = ((NAME_BYTES + SEAL_BYTES) * 4).div_ceil(3);

    /// Writes the id. The key should have 32 random bytes or more.
    pub fn seal(self, node: u64, key: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(NAME_BYTES + SEAL_BYTES);
        bytes.extend_from_slice(&self.shard.0.to_be_bytes());
        bytes.extend_from_slice(&self.conn.index.to_be_bytes());
        bytes.extend_from_slice(&self.conn.generation.to_be_bytes());
        let seal = mac(node, key, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&seal[..SEAL_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads an id that [`seal`](Self::seal) wrote for the same node with the same key. The seal is compared in constant
    /// time.
    pub fn open(text: &str, node: u64, key: &[u8]) -> Option<Sid> {
        let mut bytes = [0; NAME_BYTES + SEAL_BYTES];
        if text.len() != Self::LEN {
            return None;
        }
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (name, seal) = bytes.get(..len)?.split_first_chunk::<NAME_BYTES>()?;
        mac(node, key, name).verify_truncated_left(seal).ok().filter(|()| seal.len() == SEAL_BYTES)?;
        let [s0, s1, i0, i1, i2, i3, g0, g1, g2, g3] = *name;
        let conn =
            ConnId { index: u32::from_be_bytes([i0, i1, i2, i3]), generation: u32::from_be_bytes([g0, g1, g2, g3]) };
        Some(Sid { shard: ShardId(u16::from_be_bytes([s0, s1])), conn })
    }
}

fn mac(node: u64, key: &[u8], name: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(CONTEXT);
    mac.update(&node.to_be_bytes());
    mac.update(name);
    mac
}
