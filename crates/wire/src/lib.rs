//! Bytes to frames to commands and back: the wire formats of Fanfare.
//!
//! In: bytes as a transport read them. Out: frames, messages, commands; and the way back. Everything here is pure: no
//! sockets, clocks, threads or randomness of its own. Each module is one format, each opens with what it promises, and
//! each comes with vectors, a round trip, cuts and a fuzz body.

pub mod admission;
pub mod chat;
pub mod engineio;
pub mod events;
pub mod json;
pub mod native;
pub mod proxy_protocol;
pub mod socketio;
pub mod sse;
pub mod stream;
pub mod texts;
pub mod ticket;
pub mod websocket;

#[cfg(test)]
mod docs;
