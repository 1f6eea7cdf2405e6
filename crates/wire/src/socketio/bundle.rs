//! A bundle: the payload of a packet and its attachments as one piece of bytes, for a publication.
//!
//! It never leaves the process: the server makes it of a packet that it has read, and writes packets of it. Lengths are
//! 32 bits, little-endian, and each stands before its part; the payload is the first part.

use bytes::Bytes;

/// Puts a payload and its attachments together. `None` where a part is longer than 32 bits can say.
pub fn bundle(data: &str, attachments: &[Bytes]) -> Option<Bytes> {
    let parts = || std::iter::once(data.as_bytes()).chain(attachments.iter().map(|attachment| &attachment[..]));
    let mut out = Vec::with_capacity(parts().map(|part| part.len() + 4).sum());
    for part in parts() {
        out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
        out.extend_from_slice(part);
    }
    Some(out.into())
}

/// The parts of a bundle: the payload, then the attachments. It ends where the bytes are none.
pub fn parts(bundle: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut rest = bundle;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        rest = after;
        Some(part)
    })
}
