//! A chat for Socket.IO clients: rooms, messages, who is typing. The same server in JavaScript has as many lines.
//!
//! `cargo run -p fanfare --example socketio`, then with `npm install socket.io-client`:
//!
//! ```js
//! const { io } = require('socket.io-client')
//! const socket = io('http://localhost:3001', { auth: { token: 'let me in' } })
//! socket.onAny((event, data) => console.log(event, data))
//! socket.emit('join-room', 'lobby')
//! socket.emit('message', { text: 'hello' })
//! ```

use fanfare::socketio::{Auth, Data, Io, Socket};
use fanfare::{Config, Fanfare, Origins, Refusal, ServeError};
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

#[tokio::main]
async fn main() -> Result<(), ServeError> {
    let client_url = std::env::var("CLIENT_URL").unwrap_or("http://localhost:3000".to_owned());
    let origins = Origins::List(vec![client_url.parse().expect("CLIENT_URL is an origin")]);
    let server = Fanfare::builder(())
        .config(Config { origins, ..Config::default() })
        .socketio("/", |io| {
            // Middleware.
            io.guard(async |Auth(auth): Auth<Login>| match is_valid_token(auth.token.as_deref()) {
                true => Ok(()),
                false => Err(Refusal::unauthorized("认证错误")),
            })
            .on_connect(async |socket: Socket| println!("connected: {}", socket.id()))
            // A client enters a room.
            .on("join-room", async |socket: Socket, Data(room_id): Data<String>| {
                socket.join(&room_id);
                socket.to(&room_id).emit("user-joined", json!({ "userId": socket.id(), "timestamp": now() }));
            })
            // A message for the room.
            .on("message", async |socket: Socket, io: Io, Data(mut data): Data<Map<String, Value>>| {
                let Some(room_id) = socket.rooms().into_iter().nth(1) else { return }; // the first is that of its id
                data.extend([("userId".into(), socket.id().into()), ("timestamp".into(), now().into())]);
                io.to(&room_id).emit("message", data);
            })
            // Somebody is typing.
            .on("typing", async |socket: Socket, Data(is_typing): Data<bool>| {
                let Some(room_id) = socket.rooms().into_iter().nth(1) else { return };
                socket.to(&room_id).emit("user-typing", json!({ "userId": socket.id(), "isTyping": is_typing }));
            })
            .on_disconnect(async |socket: Socket| println!("disconnected: {}", socket.id()))
        })
        .build()?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3001".to_owned());
    server.serve(&address).await
}

#[derive(serde::Deserialize)]
struct Login {
    token: Option<String>,
}

/// A real application checks a signature, or asks its database.
fn is_valid_token(token: Option<&str>) -> bool {
    token == Some("let me in")
}

/// Ms since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
