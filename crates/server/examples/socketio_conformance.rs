//! Everything that a handler of Socket.IO can do, as the conformance suites of `tests/clients/socketio` use it.
//!
//! `tests/clients/support/node-server.mjs` is the same for the reference server. Arguments: HOST:PORT. Settings come
//! from the environment, as in `FANFARE__SOCKETIO__PING_INTERVAL=1s`.

use fanfare::socketio::{Ack, Args, Auth, Binary, Data, Io, Reason, Socket};
use fanfare::{Fanfare, Refusal};
use serde::ser::{Serialize, SerializeMap as _, SerializeTuple as _, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let server = Fanfare::builder(())
        .config_file_if_exists("no-file-but-the-environment.toml")?
        .socketio("/", |io| {
            io.on_connect(say_auth)
                .on("echo", async |socket: Socket, args: Args| {
                    socket.emit("echoed", Spread(&args, 0));
                })
                .on("ack", async |ack: Ack, args: Args| {
                    ack.send(Spread(&args, 0));
                })
                .on("no-ack", async || {})
                .on("join", async |socket: Socket, Data(room): Data<String>| {
                    socket.join(&room);
                })
                .on("leave", async |socket: Socket, Data(room): Data<String>| {
                    socket.leave(&room);
                })
                .on("rooms", async |socket: Socket| {
                    socket.rooms().iter().map(|room| room.as_str().to_owned()).collect::<Vec<String>>()
                })
                .on("to", async |socket: Socket, args: Args| {
                    let (rooms, except) = rooms(&args)?;
                    socket.to(rooms).except(except).emit("sent", Spread(&args, 2));
                    Ok::<_, Refusal>(())
                })
                .on("in", async |io: Io, args: Args| {
                    let (rooms, except) = rooms(&args)?;
                    io.in_(rooms).except(except).emit("sent", Spread(&args, 2));
                    Ok::<_, Refusal>(())
                })
                .on("broadcast", async |socket: Socket, args: Args| {
                    socket.broadcast().emit("sent", Spread(&args, 0));
                })
                .on("all", async |io: Io, args: Args| {
                    io.emit("sent", Spread(&args, 0));
                })
                .on("ask", async |socket: Socket, args: Args| {
                    let (timeout,): (u64,) = args.read()?;
                    let asking = socket.emit_with_ack::<Value>("question", Spread(&args, 1));
                    let to = socket.clone();
                    // The answer is an event of this socket, which comes behind this handler.
                    tokio::spawn(async move {
                        match asking.timeout(Duration::from_millis(timeout)).await {
                            Ok(answer) => to.emit("answer", (answer,)),
                            Err(_) => to.emit("no-answer", ()),
                        }
                    });
                    Ok::<_, Refusal>(())
                })
                .on("ask-bytes", async |socket: Socket| {
                    let asking = socket.emit_with_ack::<Binary>("question", ());
                    let to = socket.clone();
                    tokio::spawn(async move {
                        if let Ok(bytes) = asking.await {
                            to.emit("answer", (bytes,));
                        }
                    });
                })
                .on("ask-room", async |socket: Socket, io: Io, Data(asked): Data<(String, u64, Value)>| {
                    let (room, timeout, arg) = asked;
                    let asking = io.to(&room).emit_with_ack::<Value>("question", (arg,));
                    tokio::spawn(async move {
                        if let Ok(acks) = asking.timeout(Duration::from_millis(timeout)).await {
                            let some_fail = (acks.answers.len() as u64) < acks.asked;
                            socket.emit("answers", (some_fail, acks.answers));
                        }
                    });
                })
                .on("sequence", async |socket: Socket, io: Io, Data(room): Data<String>| {
                    io.to(&room).emit("sent", 1);
                    socket.emit("sent", 2);
                    io.to(&room).emit("sent", 3);
                    let _ = io.in_(&room).sockets_leave(&room).await; // it fails with the server only
                    io.to(&room).emit("sent", 4);
                    socket.emit("sent", 5);
                })
                .on("sockets-join", async |io: Io, Data((room, other)): Data<(String, String)>| {
                    let _ = io.in_(&room).sockets_join(&other).await;
                })
                .on("disconnect-room", async |io: Io, Data((room, close)): Data<(String, bool)>| {
                    let _ = io.in_(&room).disconnect_sockets(close).await;
                })
                .on("disconnect-me", async |socket: Socket, Data(close): Data<bool>| {
                    socket.disconnect(close);
                })
                .on_disconnect(async |io: Io, Auth(auth): Auth<Value>, reason: Reason| {
                    io.to("watchers").emit("gone", (&auth["name"], reason.as_str()));
                })
                .on("fetch", async |io: Io, Data(room): Data<String>| {
                    let sockets = io.in_(&room).fetch_sockets().await?;
                    let told = sockets.iter().map(|socket| {
                        let mut rooms: Vec<String> =
                            socket.rooms().iter().map(|room| room.as_str().to_owned()).collect();
                        rooms.sort();
                        json!([socket.id(), rooms])
                    });
                    Ok::<_, Refusal>(told.collect::<Vec<Value>>())
                })
        })
        .socketio("/custom", |io| {
            io.on_connect(say_auth)
                .on("echo", async |socket: Socket, args: Args| {
                    socket.emit("echoed", Spread(&args, 0));
                })
                .on("ack", async |ack: Ack, args: Args| {
                    ack.send(Spread(&args, 0));
                })
        })
        .socketio("/guarded", |io| {
            io.guard(async |Auth(auth): Auth<Value>| match (auth["token"].as_str(), auth["more"].as_bool()) {
                (Some("let me in"), _) => Ok(()),
                (_, Some(true)) => Err(Refusal::unauthorized("not authorized")
                    .with_data(&json!({ "content": "Please retry later", "n": 1 }))),
                _ => Err(Refusal::unauthorized("not authorized")),
            })
            .on_connect(say_auth)
        })
        .socketio("/visits", |io| {
            io.guard(async |Auth(name): Auth<Name>| {
                *visits().entry(name.name).or_default() += 1;
            })
            .on_connect(async |socket: Socket, Auth(name): Auth<Name>| {
                let visits = visits().get(&name.name).copied();
                socket.emit("visits", (visits, socket.recovered()));
            })
        })
        .socketio("/dynamic-*", |io| {
            io.on_connect(async |socket: Socket| {
                socket.emit("auth", socket.namespace());
            })
        })
        .build()?;
    let address = std::env::args().nth(1).ok_or("HOST:PORT is missing")?;
    server.serve_until(&address, async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}

#[derive(serde::Deserialize)]
struct Name {
    name: String,
}

/// How often the guard was asked about each name.
fn visits() -> MutexGuard<'static, BTreeMap<String, u32>> {
    static VISITS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    VISITS.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn say_auth(socket: Socket, Auth(auth): Auth<Value>) {
    socket.emit("auth", auth);
}

/// The first two arguments: names of rooms to send to, and of those to leave out.
fn rooms(args: &Args) -> Result<(Vec<String>, Vec<String>), Refusal> {
    args.read()
}

/// The arguments of an event from the one with this number on, each as an argument.
struct Spread<'a>(&'a Args, usize);

impl Serialize for Spread<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all: Vec<Value> =
            self.0.iter().skip(self.1).map(|json| serde_json::from_str(json).unwrap_or_default()).collect();
        let mut tuple = serializer.serialize_tuple(all.len())?;
        for value in &all {
            tuple.serialize_element(&Given(value, self.0))?;
        }
        tuple.end()
    }
}

/// A value of an event, with its attachments in place of the placeholders.
struct Given<'a>(&'a Value, &'a Args);

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Given(value, args) = *self;
        match value {
            Value::Array(values) => serializer.collect_seq(values.iter().map(|value| Given(value, args))),
            Value::Object(fields) => {
                let num = fields.get("_placeholder").and(fields.get("num")).and_then(Value::as_u64);
                if let Some(bytes) = num.and_then(|num| args.attachments().get(usize::try_from(num).ok()?)) {
                    return Binary(bytes.clone()).serialize(serializer);
                }
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, &Given(value, args))?;
                }
                map.end()
            }
            other => other.serialize(serializer),
        }
    }
}
