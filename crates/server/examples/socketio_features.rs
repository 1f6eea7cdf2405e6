//! Every feature of the handlers for Socket.IO, each by an event of its own. `tests/clients` uses it with the client of
//! npm.
//!
//! `cargo run -p fanfare --example socketio_features`, then with `npm install socket.io-client`:
//!
//! ```js
//! const { io } = require('socket.io-client')
//! const socket = io('http://localhost:3001', { auth: { name: 'ada' } })
//! socket.on('question', (a, b, answer) => answer(a + b))
//! console.log(await socket.emitWithAck('ask me'))
//! ```

use fanfare::socketio::{
    Ack, Args, Auth, Binary, Data, EventName, Io, Namespace, Reason, Socket, SocketData, SocketExtensions,
};
use fanfare::{Fanfare, Identity, Refusal, ServeError, User};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), ServeError> {
    let server = Fanfare::builder(())
        .socketio("/", features)
        .socketio("/room-*", |io| io.on("where", async |socket: Socket| socket.namespace().to_owned()))
        .build()?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3001".to_owned());
    server.serve(&address).await
}

#[derive(serde::Deserialize)]
struct Login {
    name: Option<String>,
}

/// The events that a socket has sent: a value of `socket.data`.
#[derive(Clone)]
struct Sent(Vec<String>);

fn features(io: Namespace<()>) -> Namespace<()> {
    io.guard(async |Auth(login): Auth<Login>, data: SocketExtensions| match login.name {
        Some(name) => {
            data.insert(Sent(Vec::new()));
            Ok(Identity::user(name))
        }
        None => Err(Refusal::unauthorized("what is your name?").with_data(&json!({"field": "name"}))),
    })
    .use_(async |event: EventName| match event.starts_with("secret") {
        true => Err(Refusal::denied("this is not for you").with_data(&json!({"event": *event.0}))),
        false => Ok(()),
    })
    .on_any(async |socket: Socket, event: EventName| {
        socket.data().with_mut(|sent: &mut Sent| sent.0.push(event.to_string()));
    })
    .on("sent", async |SocketData(Sent(sent)): SocketData<Sent>| sent)
    .on("who am i", async |user: User| user.to_string())
    // Acks.
    .on("echo", async |args: Args| args.iter().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>().ok())
    .on("sum", async |Data((a, b)): Data<(i64, i64)>| (a + b, a - b))
    .on("later", async |ack: Ack| tokio::spawn(async move { ack.send("later") }).is_finished())
    .on("reverse", async |Data((name, Binary(bytes))): Data<(String, Binary)>| {
        (name, Binary(bytes.iter().rev().copied().collect::<Vec<u8>>().into()))
    })
    .on("ask me", async |socket: Socket| match socket.emit_with_ack::<i64>("question", (3, 4)).await {
        Ok(answer) => Ok(answer),
        Err(error) => Err(Refusal::not_found(error.to_string())),
    })
    .on("ask me shortly", async |socket: Socket| {
        let answer = socket.emit_with_ack::<Value>("question", (3, 4)).timeout(Duration::from_millis(50)).await;
        answer.map_err(|error| error.to_string())
    })
    .on("ask the others", async |socket: Socket, Data(room): Data<String>| {
        let acks = socket.to(&room).emit_with_ack::<i64>("question", (3, 4)).timeout(Duration::from_secs(4)).await;
        acks.map(|acks| (acks.answers, acks.asked)).map_err(|error| error.to_string())
    })
    // Order.
    .on("count", async |socket: Socket, Data(to): Data<u32>| {
        (0..to).for_each(|n| drop(socket.emit("n", n)));
        "counted"
    })
    .on("say goodbye", async |socket: Socket| {
        socket.emit("goodbye", ());
        socket.disconnect(false);
    })
    // Rooms.
    .on("join", async |socket: Socket, Data(rooms): Data<Vec<String>>| drop(socket.join(rooms)))
    .on("leave", async |socket: Socket, Data(room): Data<String>| drop(socket.leave(&room)))
    .on("rooms", async |socket: Socket| socket.rooms().iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>())
    .on("tell", async |socket: Socket, Data((rooms, except, what)): Data<(Vec<String>, Vec<String>, Value)>| {
        socket.to(rooms).except(except).emit("told", what);
    })
    .on("tell now", async |socket: Socket, Data(what): Data<Value>| {
        socket.broadcast().volatile().emit("told", what);
    })
    // Once, although its client may say it again: `{ retries: 10, ackTimeout: 10_000 }`.
    .on("say once", async |io: Io, Data((what, id)): Data<(Value, String)>| {
        io.idempotency_key(id).emit("said", what);
    })
    // Other sockets.
    .on("list", async |io: Io, Data(room): Data<String>| {
        let name = |user: Option<&fanfare::UserId>| user.map(|user| user.0.to_string());
        let sockets = io.in_(&room).fetch_sockets().await?;
        Ok::<_, Refusal>(sockets.iter().map(|socket| name(socket.user())).collect::<Vec<_>>())
    })
    .on("move", async |io: Io, Data((from, to)): Data<(String, String)>| {
        io.in_(&from).sockets_join(&to);
        io.in_(&from).sockets_leave(&from);
    })
    .on("close", async |io: Io, Data(room): Data<String>| {
        io.to(&room).emit("closing", &room);
        io.in_(&room).disconnect_sockets(false);
    })
    // Handlers that fail.
    .on("panic", async || -> u8 { panic!("on purpose") })
    .on("sleep", async |Data(ms): Data<u64>| tokio::time::sleep(Duration::from_millis(ms)).await)
    .on_disconnect(async |io: Io, user: User, reason: Reason| drop(io.emit("gone", (&*user, reason.as_str()))))
}
