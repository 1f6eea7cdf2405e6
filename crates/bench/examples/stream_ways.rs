//! Idle memory of event streams over HTTP/1.1 that are the second request of their connection, as behind a proxy that
//! keeps connections. Those of `stream-idle` are the first one.
//!
//! In: the release binary `fanfare`. Out: a table of the server's user memory for each stream of `/v1/sse` with one
//! subscription: the first request of its connection, and the second one. The memory of the connection is part of it.
//! Each way has a server of its own.
//!
//! ```sh
//! cargo build --release --package fanfare-cli
//! cargo run --release --package fanfare-bench --example stream_ways -- [STREAMS]
//! ```

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fanfare_bench::peers::Launch;
use fanfare_bench::server::Server;
use memchr::memmem;

/// `connect` with one subscription, in a query.
const TARGET: &str =
    "/v1/sse?connect=%7B%22type%22:%22connect%22,%22id%22:1,%22subscribe%22:%5B%7B%22channel%22:%22c%22%7D%5D%7D";
/// The last message before the silence.
const SUBSCRIBED: &[u8] = br#""type":"subscribed""#;
/// The memory is the least in this time.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Way {
    First,
    Second,
}

fn main() -> Result<()> {
    let count: usize = std::env::args().nth(1).map_or(Ok(2_000), |text| text.parse())?;
    let own = std::env::current_exe()?;
    let program = own.parent().and_then(Path::parent).context("no target folder")?.join("fanfare");
    ensure!(program.exists(), "{} is missing: cargo build --release --package fanfare-cli", program.display());
    println!("{:<44} {:>22}", format!("{count} event streams"), "user memory of each");
    for (name, way) in
        [("HTTP/1.1, first request of the connection", Way::First), ("HTTP/1.1, second request", Way::Second)]
    {
        println!("{name:<44} {:>20} B", measure(&program, way, count)?);
    }
    Ok(())
}

fn measure(program: &Path, way: Way, count: usize) -> Result<u64> {
    let addr = Server::free_addr()?;
    let listen = addr.to_string();
    let args = ["dev", "--listen", &listen, "--shards", "1", "--heartbeat-interval", "10m"];
    let launch = Launch::of(program.to_owned(), args.map(str::to_owned).into());
    let server = Server::start(&launch, addr, &[0])?;
    // The first ones make the tables of the server grow.
    let warm: Vec<_> = (0..20).map(|_| open(addr, way)).collect::<Result<_>>()?;
    let before = least(&server)?;
    let open: Vec<_> = (0..count).map(|_| open(addr, way)).collect::<Result<_>>()?;
    let used = least(&server)?.saturating_sub(before);
    drop((warm, open));
    Ok(used / count as u64)
}

fn least(server: &Server) -> Result<u64> {
    let (started, mut least) = (Instant::now(), u64::MAX);
    while started.elapsed() < QUIET {
        least = least.min(server.memory_bytes()?);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(least)
}

/// A connection whose stream is subscribed.
fn open(addr: SocketAddr, way: Way) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    match way {
        Way::First => socket.write_all(get(TARGET).as_bytes())?,
        Way::Second => {
            socket.write_all(get("/healthz").as_bytes())?;
            read(&mut socket, b"ok\n")?;
            socket.write_all(get(TARGET).as_bytes())?;
        }
    }
    read(&mut socket, SUBSCRIBED)?;
    Ok(socket)
}

/// Reads until `text` has come.
fn read(socket: &mut TcpStream, text: &[u8]) -> Result<()> {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while memmem::find(&seen, text).is_none() {
        let len = socket.read(&mut piece)?;
        ensure!(len > 0, "the connection ended after {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..len]);
    }
    Ok(())
}
