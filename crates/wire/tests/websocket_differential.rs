//! The WebSocket codec beside another implementation, `tokio-websockets`, over an in-memory pipe.
//!
//! Four promises: each understands the other's frames, in both roles; each accepts the other's handshake, in both
//! roles; and for invalid bytes, both read the same before them and refuse them for the same kind of reason.

use fanfare_wire::websocket::fuzz::{Said, decode_in_pieces};
use fanfare_wire::websocket::{self, Limits, MaskSource, Opcode, ProtocolError, Role};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_websockets as oracle;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20 };

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// The other implementation at the other end, in the other role, after the handshake.
fn oracle_on(stream: DuplexStream, its_role: Role, frame_size: usize) -> oracle::WebSocketStream<DuplexStream> {
    let config = oracle::Config::default().frame_size(frame_size);
    let limits = oracle::Limits::default().max_payload_len(Some(LIMITS.message_bytes_max));
    match its_role {
        Role::Server => oracle::ServerBuilder::new().config(config).limits(limits).serve(stream),
        Role::Client => oracle::ClientBuilder::new().config(config).limits(limits).take_over(stream),
    }
}

fn said(message: &oracle::Message) -> Said {
    let payload = || message.as_payload().to_vec();
    if let Some(text) = message.as_text() {
        Said::Text(text.to_owned())
    } else if message.is_binary() {
        Said::Binary(payload())
    } else if message.is_ping() {
        Said::Ping(payload())
    } else if message.is_pong() {
        Said::Pong(payload())
    } else if message.as_payload().is_empty() {
        // `as_close` makes 1005 of it, which must not be sent.
        Said::Close(None)
    } else {
        let (code, reason) = message.as_close().expect("the only kind left");
        Said::Close(Some((code.into(), reason.to_owned())))
    }
}

fn message(said: &Said) -> oracle::Message {
    match said {
        Said::Text(text) => oracle::Message::text(text.clone()),
        Said::Binary(bytes) => oracle::Message::binary(bytes.clone()),
        Said::Ping(bytes) => oracle::Message::ping(bytes.clone()),
        Said::Pong(bytes) => oracle::Message::pong(bytes.clone()),
        Said::Close(None) => oracle::Message::close(None, ""),
        Said::Close(Some((code, reason))) => {
            oracle::Message::close(Some((*code).try_into().expect("a valid code")), reason)
        }
    }
}

/// All that the other implementation reads from `bytes`, and the close code of its error if it has one.
async fn oracle_decode(its_role: Role, bytes: &[u8], pipe_bytes: usize) -> (Vec<Said>, Option<u16>) {
    let (ours, its) = tokio::io::duplex(pipe_bytes);
    let (mut back, mut forth) = tokio::io::split(ours);
    let mut stream = oracle_on(its, its_role, 1 << 22);
    let write = async {
        // It closes on invalid bytes, so this may fail.
        let _ = forth.write_all(bytes).await;
        let _ = forth.shutdown().await;
    };
    // Its pongs and closes; unread they would fill the pipe.
    let drain = async { back.read_to_end(&mut Vec::new()).await };
    let read = async {
        let (mut heard, mut failure) = (Vec::new(), None);
        while let Some(next) = stream.next().await {
            match next {
                Ok(message) => heard.push(said(&message)),
                Err(oracle::Error::Protocol(oracle::proto::ProtocolError::InvalidUtf8)) => failure = Some(1007),
                Err(oracle::Error::Protocol(_)) => failure = Some(1002),
                Err(oracle::Error::PayloadTooLong { .. }) => failure = Some(1009),
                // The bytes end inside a frame: ours asks for more, the other calls that an error.
                Err(_) => {}
            }
            if failure.is_some() {
                break;
            }
        }
        drop(stream);
        (heard, failure)
    };
    let ((), _, result) = tokio::join!(write, drain, read);
    result
}

struct Source(MaskSource);

impl Source {
    fn below(&mut self, bound: usize) -> usize {
        u32::from_ne_bytes(self.0.next_mask()) as usize % bound
    }

    fn text(&mut self, chars: usize) -> String {
        (0..chars).map(|_| ['a', '"', 'é', '€', '😀', '\u{10ffff}', '\0'][self.below(7)]).collect()
    }

    /// Any message but a close.
    fn said(&mut self) -> Said {
        let len = [0, 5, 125, 126, 1000, 65_535, 65_536][self.below(7)];
        match self.below(5) {
            0 | 1 => Said::Text(self.text(len / 4)),
            2 => Said::Binary((0..len).map(|_| self.below(256) as u8).collect()),
            3 => Said::Ping((0..self.below(126)).map(|i| i as u8).collect()),
            _ => Said::Pong((0..self.below(126)).map(|i| i as u8).collect()),
        }
    }

    /// `said` as bytes: fragmented anywhere, with pings between the fragments. No text ends with an empty fragment:
    /// there the other implementation (0.13.3) does not check whether the text ends inside a character.
    fn put(&mut self, out: &mut Vec<u8>, expected: &mut Vec<Said>, said: Said, masked: bool) {
        let (mut opcode, payload) = match &said {
            Said::Text(text) => (Opcode::Text, text.as_bytes()),
            Said::Binary(bytes) => (Opcode::Binary, &bytes[..]),
            control => {
                let mask = masked.then(|| self.0.next_mask());
                control.put(out, mask);
                return expected.push(said);
            }
        };
        let mut rest = payload;
        while rest.len() > 1 && self.below(3) == 0 {
            let (part, tail) = rest.split_at(1 + self.below(rest.len() - 1));
            let (mask, ping_mask) = (masked.then(|| self.0.next_mask()), masked.then(|| self.0.next_mask()));
            websocket::put_frame_parts(out, false, false, opcode, part, mask);
            websocket::put_frame(out, Opcode::Ping, b"between", ping_mask);
            expected.push(Said::Ping(b"between".to_vec()));
            (opcode, rest) = (Opcode::Continuation, tail);
        }
        websocket::put_frame_parts(out, true, false, opcode, rest, masked.then(|| self.0.next_mask()));
        expected.push(said);
    }
}

#[test]
fn it_understands_what_we_write() {
    for seed in 0..40 {
        let mut source = Source(MaskSource::new(seed));
        let its_role = [Role::Server, Role::Client][source.below(2)];
        let masked = its_role == Role::Server;
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..source.below(8) {
            let said = source.said();
            source.put(&mut bytes, &mut expected, said, masked);
        }
        let close = [Said::Close(None), Said::Close(Some((4001, "silent é".to_owned())))][source.below(2)].clone();
        source.put(&mut bytes, &mut expected, close, masked);
        let pipe_bytes = [1, 7, 1000, 1 << 20][source.below(4)];
        let heard = run(oracle_decode(its_role, &bytes, pipe_bytes));
        assert!(heard == (expected, None), "seed {seed}");
    }
}

#[test]
fn we_understand_what_it_writes() {
    for seed in 0..40 {
        let mut source = Source(MaskSource::new(seed));
        let its_role = [Role::Server, Role::Client][source.below(2)];
        let our_role = if its_role == Role::Server { Role::Client } else { Role::Server };
        let mut sent: Vec<Said> = (0..source.below(8)).map(|_| source.said()).collect();
        sent.push([Said::Close(None), Said::Close(Some((1001, "bye €".to_owned())))][source.below(2)].clone());
        let frame_size = [1, 64, 1000, 1 << 22][source.below(4)];
        let bytes = run(async {
            let (mut ours, its) = tokio::io::duplex(1 << 26);
            let mut stream = oracle_on(its, its_role, frame_size);
            for said in &sent {
                stream.feed(message(said)).await.expect("it can be sent");
            }
            stream.flush().await.expect("the pipe is long enough");
            drop(stream);
            let mut bytes = Vec::new();
            ours.read_to_end(&mut bytes).await.expect("from memory");
            bytes
        });
        let heard = decode_in_pieces(our_role, LIMITS, &bytes, || 1 + source.below(3000));
        assert!(heard == (sent, None), "seed {seed}, frames of {frame_size}");
    }
}

/// One byte of a valid stream is changed: both read the same and stop for the same reason.
#[test]
fn we_refuse_what_it_refuses() {
    let (mut refused, mut accepted) = (0, 0);
    for seed in 0..3000 {
        let mut source = Source(MaskSource::new(seed));
        let our_role = [Role::Server, Role::Client][source.below(2)];
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..1 + source.below(4) {
            let len = source.below(20);
            let said = match source.below(4) {
                0 => Said::Ping(vec![b'p'; len]),
                1 => Said::Binary(vec![b'b'; len * len]),
                2 if source.below(5) == 0 => Said::Close(Some((1000, source.text(len)))),
                _ => Said::Text(source.text(len)),
            };
            source.put(&mut bytes, &mut expected, said, our_role == Role::Server);
        }
        let at = source.below(bytes.len().min(40));
        bytes[at] = source.below(256) as u8;

        let (ours, failure) = decode_in_pieces(our_role, LIMITS, &bytes, || 1 + source.below(50));
        let ours = (ours, failure.as_ref().map(|error| error.close_code()));
        let mut its = run(oracle_decode(our_role, &bytes, 1 + source.below(100)));
        if let Some(ProtocolError::LengthTopBit { .. }) = failure {
            // It calls lengths of 2^63 and more too long; the RFC calls them invalid.
            its.1 = its.1.map(|_| 1002);
        }
        assert!(ours == its, "seed {seed}, byte {at} of {bytes:02x?}: {failure:?}\nours {ours:?}\nits  {its:?}");
        if failure.is_some() { refused += 1 } else { accepted += 1 }
    }
    assert!(refused > 300 && accepted > 300, "{refused} refused, {accepted} accepted: not a test of both");
}

/// Reads up to the end of a head, no further.
async fn read_head(stream: &mut DuplexStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    head
}

#[test]
fn it_accepts_our_request_and_we_its_response() {
    run(async {
        let (mut ours, its) = tokio::io::duplex(4096);
        let key = websocket::client_key([9; 16]);
        let client = async {
            let mut head = Vec::new();
            websocket::request(&mut head, "localhost:8080", "/chat?a=b", &key, &[], &[("Origin", "http://localhost")]);
            websocket::put_frame(&mut head, Opcode::Text, b"early", Some([1, 2, 3, 4]));
            ours.write_all(&head).await.expect("to memory");
            let head = read_head(&mut ours).await;
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut response = httparse::Response::new(&mut headers);
            response.parse(&head).expect("a response");
            let headers = response.headers.iter().map(|header| (header.name, header.value));
            websocket::verify(response.code.expect("a status"), headers, &key, &[]).expect("a good response");
        };
        let server = async {
            let (request, mut stream) = oracle::ServerBuilder::new().accept(its).await.expect("a good request");
            assert_eq!(request.uri(), "/chat?a=b");
            let message = stream.next().await.expect("a message").expect("a good one");
            assert_eq!(message.as_text(), Some("early"));
        };
        tokio::join!(client, server);
    });
}

#[test]
fn we_accept_its_request_and_it_our_response() {
    run(async {
        let (mut ours, its) = tokio::io::duplex(4096);
        let server = async {
            let head = read_head(&mut ours).await;
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut headers);
            request.parse(&head).expect("a request");
            let headers = || request.headers.iter().map(|header| (header.name, header.value));
            assert!(websocket::is_upgrade(headers()));
            let (method, minor) = (request.method.expect("a method"), request.version.expect("a version"));
            let accepted = websocket::accept(method, minor, headers()).expect("a good request");
            let mut answer = Vec::new();
            accepted.respond(&mut answer, None, &[("Server", "fanfare")]);
            answer.extend_from_slice(&websocket::frame(Opcode::Text, b"early"));
            ours.write_all(&answer).await.expect("to memory");
        };
        let client = async {
            let builder = oracle::ClientBuilder::new().uri("ws://localhost:8080/chat").expect("a URI");
            let (mut stream, _) = builder.connect_on(its).await.expect("a good response");
            let message = stream.next().await.expect("a message").expect("a good one");
            assert_eq!(message.as_text(), Some("early"));
        };
        tokio::join!(server, client);
    });
}
