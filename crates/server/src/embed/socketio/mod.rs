//! Handlers of Socket.IO in the manner of its server: `io.on("connection")`, `socket.on(event)`, rooms, acks.
//!
//! [`Builder::socketio`](crate::Builder::socketio) collects them for a [`Namespace`]. Their arguments are the extractors
//! here and those of all handlers ([`FromCall`](crate::FromCall)), and they work with a [`Socket`] and its [`Io`].
//! docs/socketio-handlers.md is the guide.
//!
//! ```
//! use fanfare::Fanfare;
//! use fanfare::socketio::{Data, Socket};
//!
//! let server = Fanfare::builder(()).socketio("/", |io| {
//!     io.on("join-room", async |socket: Socket, Data(room): Data<String>| {
//!         socket.join(&room);
//!         socket.to(&room).emit("user-joined", socket.id());
//!     })
//! });
//! ```

// In: what clients do in a namespace that the program has handlers for (`desk`). Out: operations, in the order in which
// handlers make them (`sequence`). `places` bounds how many handlers run, and `kept` is what a socket gives to the one
// that its client is after a cut. `handler` collects handlers and finds them, `extract` has their arguments and `kinds`
// what they may return. The seam to the protocol is `protocol/socketio/seam.rs`.

mod args;
mod asking;
mod data;
pub(crate) mod desk;
mod extract;
pub(crate) mod handler;
mod handshake;
mod io;
mod kept;
mod kinds;
mod operator;
pub(crate) mod places;
pub(crate) mod sequence;
mod socket;
pub(crate) mod sockets;

pub use crate::protocol::socketio::Reason;
pub use args::Binary;
pub use asking::{AckError, Acks, Asking, AskingAll};
pub use data::SocketExtensions;
pub use extract::{Ack, Args, Attachments, Auth, Data, EventName, SocketData};
pub use handler::Namespace;
pub use handshake::Handshake;
pub use io::Io;
pub use kinds::{EventAnswers, Fallible, OnEvent, OnGuard, OnSocket, OnSocketEnd, OnUse, Plain, SocketAnswers};
pub use operator::{BroadcastOperator, IntoRooms};
pub use sequence::Sending;
pub use socket::Socket;
pub use sockets::{Changing, RemoteSocket};

pub(crate) use extract::SocketCall;
