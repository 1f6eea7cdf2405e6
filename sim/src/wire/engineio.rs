//! Packets of Engine.IO around the texts of the native protocol: for connections that begin by requests.

use super::{ToClient, encode_text};
use bytes::Bytes;
use fanfare_wire::engineio::{Packet, Payload, SEPARATOR, put_payload};
use fanfare_wire::websocket::{self, Opcode};

/// A message of the server as a packet that waits for a GET.
pub(crate) fn encode_packet(message: &ToClient, shard: usize, wall_ms: u64, limits: &fanfare_hub::Limits) -> Bytes {
    let text = encode_text(message, shard, wall_ms, limits);
    let mut packet = Vec::with_capacity(text.len() + 2);
    Packet::Text(&String::from_utf8_lossy(&text)).put(&mut packet);
    packet.push(SEPARATOR as u8);
    packet.into()
}

/// The body of a POST with these texts.
pub(crate) fn write_post(texts: &[String]) -> String {
    let mut body = Vec::new();
    texts.iter().for_each(|text| put_payload(&mut body, &Packet::Text(text)));
    String::from_utf8_lossy(&body).into_owned()
}

/// The texts in a payload.
pub(crate) fn read_payload(body: &str) -> Result<Vec<String>, String> {
    let text = |packet| match packet {
        Ok(Packet::Text(text)) => Ok(text.to_owned()),
        other => Err(format!("wire: a payload with {other:?}")),
    };
    Payload::new(body).map(text).collect()
}

/// Packets of the server as the frames that carry their texts.
pub(crate) fn reframed(packets: &[u8]) -> Result<Bytes, String> {
    let body = std::str::from_utf8(packets).map_err(|error| format!("wire: packets that are no text: {error}"))?;
    let texts = read_payload(body.strip_suffix(SEPARATOR).unwrap_or(body))?;
    Ok(texts.iter().map(|text| websocket::frame(Opcode::Text, text.as_bytes())).collect::<Vec<_>>().concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_holds_the_texts_that_were_put_in() {
        let texts = ["{\"type\":\"pong\"}", "#7", "{\"data\":\"\\u001e\"}"].map(str::to_owned);
        assert_eq!(read_payload(&write_post(&texts)), Ok(texts.to_vec()));
        assert!(read_payload("").is_err() && read_payload("4a\u{1e}9").is_err());
    }
}
