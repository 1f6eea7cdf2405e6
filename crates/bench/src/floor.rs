//! The floor: the cost of the same traffic in the kernel alone.
//!
//! One thread, one poll, and hardly any protocol. In a chat (and natively: there the generator sends ready-made
//! messages of a server) every frame of any client is unmasked once, framed once, and written to every socket by one
//! plain write each. The frames of one read are written together, as by a server that batches. In an echo each frame
//! goes back to its sender. The floor has no joins, no parsing and no lookups: a server near its figures has almost no
//! cost left to save.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use base64::Engine as _;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use sha1::{Digest as _, Sha1};
use slab::Slab;

use crate::load::frame;
use crate::peers::Role;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 64 * 1024;

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Serves until the process is ended.
pub fn serve(addr: SocketAddr, role: Role) -> io::Result<()> {
    let poll = Poll::new()?;
    let mut listener = TcpListener::bind(addr)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut floor = Floor { poll, listener, conns: Slab::new(), buf: vec![0; READ_BYTES], cast: Vec::new(), role };
    let mut events = Events::with_capacity(1024);
    loop {
        match floor.poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                floor.accept()?;
                continue;
            }
            let id = event.token().0;
            if event.is_writable() {
                floor.flush(id);
            }
            if event.is_readable() {
                floor.read(id, event.is_read_closed());
            }
        }
        floor.broadcast();
    }
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    conns: Slab<Conn>,
    buf: Vec<u8>,
    /// The frames of this turn for all clients.
    cast: Vec<u8>,
    role: Role,
}

struct Conn {
    stream: TcpStream,
    upgraded: bool,
    partial: Vec<u8>,
    unsent: Vec<u8>,
}

/// The connection is over: closed, reset, or not speaking WebSocket.
struct Gone;

impl Floor {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            // Without it, writes would wait for acknowledgements and be merged: cheaper, and not a delivery.
            stream.set_nodelay(true)?;
            let entry = self.conns.vacant_entry();
            self.poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE | Interest::WRITABLE)?;
            entry.insert(Conn { stream, upgraded: false, partial: Vec::new(), unsent: Vec::new() });
        }
    }

    fn read(&mut self, id: usize, ending: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let gone = loop {
            let len = match conn.stream.read(&mut self.buf) {
                Ok(0) => break true,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break true,
            };
            if conn.take(&mut self.buf[..len], self.role, &mut self.cast).is_err() {
                break true;
            }
            if len < self.buf.len() && !ending {
                break false; // emptied; but an end that came with the data triggers no event of its own
            }
        };
        if gone {
            self.conns.remove(id);
        }
    }

    fn flush(&mut self, id: usize) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let unsent = std::mem::take(&mut conn.unsent);
        // The next read reports a closed socket too, and removes it.
        let _ = conn.write(&unsent);
    }

    fn broadcast(&mut self) {
        if self.cast.is_empty() {
            return;
        }
        for (_, conn) in &mut self.conns {
            if conn.upgraded {
                let _ = conn.write(&self.cast); // see `flush`
            }
        }
        self.cast.clear();
    }
}

impl Conn {
    fn take(&mut self, bytes: &mut [u8], role: Role, cast: &mut Vec<u8>) -> Result<(), Gone> {
        if self.partial.is_empty() {
            let used = self.consume(bytes, role, cast)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            let used = self.consume(&mut joined, role, cast)?;
            if used < joined.len() {
                joined.drain(..used);
                self.partial = joined;
            }
        }
        Ok(())
    }

    fn consume(&mut self, bytes: &mut [u8], role: Role, cast: &mut Vec<u8>) -> Result<usize, Gone> {
        let mut used = 0;
        if !self.upgraded {
            let Some((answer, len)) = upgrade(bytes)? else { return Ok(0) };
            used = len;
            self.upgraded = true;
            self.write(answer.as_bytes())?;
        }
        let mut back = Vec::new();
        while let Some((frame, len)) = frame::decode(&bytes[used..]).map_err(|_| Gone)? {
            if frame.compressed {
                return Err(Gone); // it agrees to no extension
            }
            let (opcode, mask, payload_len) = (frame.opcode, frame.mask.ok_or(Gone)?, frame.payload.len());
            used += len;
            let payload = &mut bytes[used - payload_len..used];
            frame::apply_mask(payload, mask);
            match opcode {
                frame::CLOSE => {
                    frame::encode(frame::CLOSE, payload, &mut back);
                    self.write(&back)?;
                    return Err(Gone);
                }
                frame::PING => frame::encode(frame::PONG, payload, &mut back),
                frame::PONG => {}
                _ if role == Role::Echo => frame::encode(opcode, payload, &mut back),
                _ => frame::encode(opcode, payload, cast),
            }
        }
        self.write(&back)?;
        Ok(used)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() && self.unsent.is_empty() {
            match self.stream.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }
}

/// The answer to an upgrade request and the request's length; `None` if it is not whole.
fn upgrade(bytes: &[u8]) -> Result<Option<(String, usize)>, Gone> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(len) = request.parse(bytes).map_err(|_| Gone)? else { return Ok(None) };
    let key =
        request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key")).ok_or(Gone)?;
    let digest = Sha1::new().chain_update(key.value).chain_update(GUID).finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok(Some((answer, len)))
}
