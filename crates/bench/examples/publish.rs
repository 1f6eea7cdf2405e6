//! The server's cost of a publication over HTTP, compared with WebSocket.
//!
//! In: the release binary `fanfare`. Out: a table of publications per second and server CPU for each, by way: one
//! request or command in flight on each connection, or many in one. No client is subscribed, so only taking in is
//! measured. Every connection has its own channel, and the position in every answer is checked. The server runs alone
//! on core 0, with one shard; this program runs on core 1. The ways take turns, round by round, each with a new server.
//!
//! ```sh
//! cargo build --release --package fanfare-cli
//! cargo run --release --package fanfare-bench --example publish -- [ROUNDS [SECONDS]]
//! ```

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fanfare_bench::load::check::content;
use fanfare_bench::load::frame;
use fanfare_bench::peers::Launch;
use fanfare_bench::server::{self, Server};
use fanfare_bench::stats::Summary;
use memchr::memmem;

const KEY: &str = "key-of-the-bench";
const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
const WARM_UP: Duration = Duration::from_millis(300);
const PLACE: &[u8] = b"\"offset\":";

/// A way to publish.
struct Way {
    name: &'static str,
    connections: usize,
    /// Publications in one request or message.
    together: u64,
    open: fn(&Server, usize, u64) -> Result<Caller>,
}

const WAYS: [Way; 5] = [
    Way { name: "HTTP, one by one", connections: 32, together: 1, open: http },
    Way { name: "WebSocket, one by one", connections: 32, together: 1, open: websocket },
    Way { name: "HTTP, batches of 100", connections: 4, together: 100, open: http },
    Way { name: "HTTP, batches of 1000", connections: 4, together: 1000, open: http },
    Way { name: "WebSocket, arrays of 32", connections: 4, together: 32, open: websocket },
];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().map_or(Ok(5), |text| text.parse()).context("ROUNDS is a number")?;
    let seconds: f64 = args.next().map_or(Ok(1.5), |text| text.parse()).context("SECONDS is a number")?;
    let own = std::env::current_exe()?;
    let program = own.parent().and_then(Path::parent).context("no target folder")?.join("fanfare");
    ensure!(program.exists(), "{} is missing: cargo build --release --package fanfare-cli", program.display());
    server::pin(&[LOAD_CORE])?;
    let mut samples: Vec<(Vec<f64>, Vec<f64>)> = WAYS.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for round in 0..rounds {
        for turn in 0..WAYS.len() {
            let place = (round + turn) % WAYS.len();
            let way = &WAYS[place];
            let (rate, cpu) = measure(way, &program, Duration::from_secs_f64(seconds))
                .with_context(|| format!("{}, round {}", way.name, round + 1))?;
            eprintln!("round {} {:<24} {rate:>9.0} /s {cpu:>7.2} µs", round + 1, way.name);
            samples[place].0.push(rate);
            samples[place].1.push(cpu);
        }
    }
    println!("{:<24} {:>12} {:>30}", "", "per second", "server CPU for each");
    for (way, (rates, cpus)) in WAYS.iter().zip(&samples) {
        let (rate, cpu) = (Summary::of(rates).context("no round")?, Summary::of(cpus).context("no round")?);
        println!("{:<24} {:>12.0} {:>9.2} µs [{:.2} – {:.2}]", way.name, rate.median, cpu.median, cpu.q1, cpu.q3);
    }
    println!("load average {:.1}", server::load_average()?);
    Ok(())
}

/// Publications per second, and the server's CPU time for one in µs.
fn measure(way: &Way, program: &Path, phase: Duration) -> Result<(f64, f64)> {
    let addr = Server::free_addr()?;
    let listen = addr.to_string();
    let args = ["dev", "--listen", &listen, "--shards", "1", "--api-key", KEY];
    let launch = Launch::of(program.to_owned(), args.map(str::to_owned).into());
    let server = Server::start(&launch, addr, &[SERVER_CORE])?;
    let mut callers = Vec::new();
    for conn in 0..way.connections {
        callers.push((way.open)(&server, conn, way.together)?);
    }
    let mut published = 0;
    let mut run = |phase: Duration| -> Result<(u64, Duration)> {
        let (started, before) = (Instant::now(), published);
        while started.elapsed() < phase {
            // All are sent before the first answer is awaited: so many are in flight, from one thread.
            callers.iter_mut().try_for_each(Caller::send)?;
            published += way.together;
            for caller in &mut callers {
                let last = caller.answered(way.together)?;
                ensure!(last == published, "the last of {published} publications stands at {last}");
            }
        }
        Ok(((published - before) * way.connections as u64, started.elapsed()))
    };
    run(WARM_UP)?;
    let cpu = server.cpu()?;
    let (count, took) = run(phase)?;
    let cpu = server.cpu()?.saturating_sub(cpu);
    Ok((count as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / count as f64))
}

/// Takes one answer off the front of the bytes that were read: its length, the number of publications that it answers,
/// and the offset of the last one.
type Take = fn(&[u8]) -> Result<Option<(usize, u64, u64)>>;

/// A connection with at most one request or message in flight.
struct Caller {
    socket: TcpStream,
    /// The bytes that it sends each time.
    sent: Vec<u8>,
    read: Vec<u8>,
    take: Take,
}

impl Caller {
    fn send(&mut self) -> Result<()> {
        Ok(self.socket.write_all(&self.sent)?)
    }

    /// Reads the answers to `count` publications, and returns the offset of the last one.
    fn answered(&mut self, count: u64) -> Result<u64> {
        let (mut answered, mut last, mut taken) = (0, 0, 0);
        while answered < count {
            match (self.take)(&self.read[taken..])? {
                Some((len, publications, place)) => {
                    answered += publications;
                    last = place;
                    taken += len;
                }
                None => self.more()?,
            }
        }
        self.read.drain(..taken);
        Ok(last)
    }

    fn more(&mut self) -> Result<()> {
        let mut buffer = [0; 64 << 10];
        match self.socket.read(&mut buffer)? {
            0 => bail!("the server closed a connection"),
            count => self.read.extend_from_slice(&buffer[..count]),
        }
        Ok(())
    }
}

fn connect(server: &Server) -> Result<TcpStream> {
    let socket = TcpStream::connect(server.addr)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(socket)
}

fn publish(conn: usize, more: &str) -> String {
    format!(r#"{{{more}"channel":"bench:{conn}","data":{{"content":"{}"}}}}"#, content(conn as u64))
}

fn http(server: &Server, conn: usize, together: u64) -> Result<Caller> {
    let (path, body) = match together {
        1 => ("publish", publish(conn, "")),
        _ => {
            let one = publish(conn, r#""type":"publish","#);
            ("batch", format!(r#"{{"commands":[{}]}}"#, vec![one; together as usize].join(",")))
        }
    };
    let (host, len) = (server.addr, body.len());
    let head = format!("POST /api/v1/{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n");
    let sent = format!("{head}Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}");
    Ok(Caller { socket: connect(server)?, sent: sent.into(), read: Vec::new(), take: take_response })
}

/// Counts the positions in a batch's answer and reads the last one: parsing it would cost more here than in the server.
fn take_response(read: &[u8]) -> Result<Option<(usize, u64, u64)>> {
    let Some(head_len) = memmem::find(read, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let head = std::str::from_utf8(&read[..head_len])?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "the answer begins {head:?}");
    let (_, len) = head.split_once("content-length: ").context("an answer without a length")?;
    let len: usize = len.lines().next().unwrap_or_default().parse()?;
    let Some(body) = read.get(head_len..head_len + len) else { return Ok(None) };
    Ok(Some((head_len + len, memmem::find_iter(body, PLACE).count() as u64, place(body)?)))
}

/// The last offset in an answer.
fn place(body: &[u8]) -> Result<u64> {
    let at = memmem::rfind(body, PLACE).with_context(|| format!("the answer is {}", String::from_utf8_lossy(body)))?;
    let digits = body[at + PLACE.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |number, byte| number * 10 + u64::from(byte - b'0')))
}

fn websocket(server: &Server, conn: usize, together: u64) -> Result<Caller> {
    let mut caller = Caller { socket: connect(server)?, sent: Vec::new(), read: Vec::new(), take: take_published };
    let host = server.addr;
    let head = format!("GET /v1/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    caller.sent = format!("{head}{key}Sec-WebSocket-Protocol: fanfare.v1\r\n\r\n").into();
    frame::encode_masked(frame::TEXT, br#"{"type":"connect","id":0}"#, &mut caller.sent);
    caller.send()?;
    let head_len = loop {
        match memmem::find(&caller.read, b"\r\n\r\n") {
            Some(at) => break at + 4,
            None => caller.more()?,
        }
    };
    ensure!(caller.read.starts_with(b"HTTP/1.1 101 "), "no WebSocket");
    let connected_len = loop {
        match frame::decode(&caller.read[head_len..])? {
            Some((_, len)) => break len,
            None => caller.more()?,
        }
    };
    caller.read.drain(..head_len + connected_len);
    let one = publish(conn, r#""type":"publish","id":1,"#);
    let message = if together == 1 { one } else { format!("[{}]", vec![one; together as usize].join(",")) };
    caller.sent.clear();
    frame::encode_masked(frame::TEXT, message.as_bytes(), &mut caller.sent);
    Ok(caller)
}

fn take_published(read: &[u8]) -> Result<Option<(usize, u64, u64)>> {
    let Some((frame, len)) = frame::decode(read)? else { return Ok(None) };
    Ok(Some((len, 1, place(frame.payload)?)))
}
