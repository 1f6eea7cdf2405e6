//! The native protocol by hand: the caller sends texts and gets JSON, and nothing happens by itself. Use
//! `fanfare-client` for recovery and retries.

use super::{Client, Server, connect};
use fanfare::{Builder, Config, Fanfare, Native};
use fanfare_wire::native::PROTOCOL;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Where the native protocol is spoken.
pub const PATH: &str = "/v1/ws";

/// A native protocol that never sends a heartbeat.
pub fn patient() -> Native {
    Native::default().heartbeat_ms(600_000)
}

/// Chat at `/`, native at `/v1/ws`, both without heartbeats.
pub fn builder(config: Config) -> Builder {
    Fanfare::builder(()).config(config).protocol("/", super::patient_chat()).protocol(PATH, patient())
}

impl Server {
    /// Chat and native clients in the same channels.
    pub fn native(config: Config) -> Server {
        Server::of(builder(config))
    }
}

impl Client {
    /// Opens a WebSocket for the native protocol, and sends nothing.
    pub fn native(address: SocketAddr) -> Client {
        Client::speaking(connect(address), address, PATH, &[PROTOCOL], b"")
    }

    /// Opens one and connects.
    pub fn connected(address: SocketAddr) -> Client {
        let mut client = Client::native(address);
        client.hello(json!({}));
        client
    }

    /// Sends `connect` with these fields, and returns the answer.
    pub fn hello(&mut self, fields: Value) -> Value {
        let connected = self.ask("connect", fields);
        assert_eq!(connected["type"], "connected", "{connected}");
        connected
    }

    /// Sends a command and returns its reply; skips messages before it.
    pub fn ask(&mut self, kind: &str, fields: Value) -> Value {
        self.text(&command(kind, fields, &json!("ask")).to_string());
        loop {
            let message = self.message();
            if message["id"] == "ask" {
                return message;
            }
        }
    }

    /// The same, but the very next message must be the reply.
    pub fn ask_next(&mut self, kind: &str, fields: Value) -> Value {
        self.text(&command(kind, fields, &json!("next")).to_string());
        let message = self.message();
        assert_eq!(message["id"], "next", "something came before the reply: {message}");
        message
    }

    /// Subscribes, and returns the position.
    pub fn follow(&mut self, channel: &str) -> Value {
        let subscribed = self.ask("subscribe", json!({"channel": channel, "presence": true}));
        assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
        json!({"epoch": subscribed["epoch"], "offset": subscribed["offset"]})
    }
}

/// A command with these fields.
pub fn command(kind: &str, mut fields: Value, id: &Value) -> Value {
    fields["type"] = kind.into();
    fields["id"] = id.clone();
    fields
}
