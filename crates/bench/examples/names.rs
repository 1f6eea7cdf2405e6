//! What a flood of channel names costs a server, and what of it is left when the names are forgotten.
//!
//! The release binary with one shard, and clients that use a new name in each command: half publish to it, half ask for
//! its history. First one client with the default limits, then as many names as are asked for without limits of rates.
//! The figures are the server's memory (Pss) before, with all names, and after the life of their metadata, which is
//! the shortest that can be set: `cargo run --release --package fanfare-bench --example names -- target/release/fanfare
//! 1000000`. It takes some minutes.

use anyhow::{Context as _, Result, ensure};
use fanfare_bench::load::dialect::Dialect;
use fanfare_bench::load::native::{self, Heard};
use fanfare_bench::load::{Handler, Load, LoadError, Outgoing, Wait};
use fanfare_bench::peers::Launch;
use fanfare_bench::server::Server;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Clients of the second part.
const CLIENTS: usize = 8;
/// Commands of a client that are under way.
const WINDOW: u64 = 16;
/// What one client tries with the default limits.
const TRIES: u64 = 5_000;
/// The life of a name, and the time that the server may take to forget all of them.
const TTL: Duration = Duration::from_secs(60);
const SLACK: Duration = Duration::from_secs(45);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let program: PathBuf = args.next().context("the release binary is needed")?.into();
    let names: u64 = args.next().map_or(Ok(1_000_000), |count| count.parse()).context("how many names?")?;
    println!("| part | names | refused | memory before | with all names | after {} s |", TTL.as_secs());
    println!("|---|---|---|---|---|---|");
    part("one client, default limits", &program, &[], 1, TRIES)?;
    let off = ["MESSAGES_PER_CONNECTION", "BYTES_PER_CONNECTION", "NEW_CHANNELS_PER_USER"];
    let off = off.map(|limit| format!("FANFARE__LIMITS__{limit}"));
    part("many clients, no limits of rates", &program, &off, CLIENTS, names)
}

fn part(name: &str, program: &Path, off: &[String], clients: usize, names: u64) -> Result<()> {
    let addr = Server::free_addr()?;
    let args = ["dev", "--listen", &addr.to_string(), "--shards", "1"].map(str::to_owned).into();
    // `Launch` has names that live as long as the program.
    let off = off.iter().map(|limit| (&*limit.clone().leak(), "off".to_owned()));
    let ttl = ("FANFARE__LIMITS__METADATA_TTL", format!("{}s", TTL.as_secs()));
    let launch = Launch { envs: off.chain([ttl]).collect(), ..Launch::of(program.to_owned(), args) };
    let server = Server::start(&launch, addr, &[0])?;
    let mut load = Load::new(addr, Dialect::Native, Wait::Sleep)?;
    let mut flood = Flood { each: names / clients as u64, asked: vec![0; clients], ready: 0, done: 0, refused: 0 };
    for _ in 0..clients {
        load.open()?;
    }
    while flood.ready < clients {
        load.turn(&mut flood)?;
    }
    let before = server.memory_bytes()?;
    let mut out = Outgoing::default();
    for conn in 0..clients {
        (0..WINDOW).for_each(|_| flood.ask(conn, &mut out));
        load.send(conn, &mut out)?;
    }
    load.drive(&mut flood)?;
    let with = server.memory_bytes()?;
    // Pings are answered meanwhile; the least counts, as the allocator gives pages back in its own time.
    let (ended, mut least) = (Instant::now(), with);
    while ended.elapsed() < TTL + SLACK {
        match load.turn(&mut flood) {
            Err(LoadError::Stalled { owed: 0, .. }) => {} // there is nothing but a ping now and then
            turned => turned?,
        }
        if ended.elapsed() > TTL {
            least = least.min(server.memory_bytes()?);
        }
    }
    ensure!(flood.done == flood.each * clients as u64, "every command is answered");
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let made = flood.done - flood.refused;
    println!("| {name} | {made} | {} | {} | {} | {} |", flood.refused, mib(before), mib(with), mib(least));
    Ok(())
}

struct Flood {
    /// Names of each client.
    each: u64,
    asked: Vec<u64>,
    ready: usize,
    done: u64,
    refused: u64,
}

impl Flood {
    fn ask(&mut self, conn: usize, out: &mut Outgoing) {
        let n = self.asked[conn];
        if n == self.each {
            return;
        }
        self.asked[conn] += 1;
        let mut text = String::new();
        let channel = format!("flood:{conn}:{n:09}");
        if n.is_multiple_of(2) {
            native::publish(n, &channel, "a message of a flood", &mut text);
        } else {
            let _ = write!(text, r#"{{"type":"history","id":{n},"channel":"{channel}","limit":1}}"#);
        }
        out.text(&text);
    }
}

impl Handler for Flood {
    fn on_ready(&mut self, _conn: usize, out: &mut Outgoing) -> Result<(), LoadError> {
        let mut text = String::new();
        native::connect(None, None, &mut text);
        out.text(&text);
        Ok(())
    }

    fn on_message(&mut self, conn: usize, payload: &[u8], out: &mut Outgoing) -> Result<(), LoadError> {
        match native::read(payload) {
            Heard::Connected { .. } => {
                self.ready += 1;
                return Ok(());
            }
            Heard::Refused => self.refused += 1,
            _ if payload.starts_with(br#"{"type":"ticket""#) => return Ok(()),
            _ => {}
        }
        self.done += 1;
        self.ask(conn, out);
        Ok(())
    }

    fn owed(&self) -> (u64, &'static str) {
        (self.each * self.asked.len() as u64 - self.done, "answers")
    }
}
