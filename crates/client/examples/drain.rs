//! Measures thousands of clients whose server is stopped while another takes its place on the same port:
//!
//! ```sh
//! cargo build --release
//! cargo run --release -p fanfare-client --example drain -- target/release/fanfare 5000 2
//! ```
//!
//! The arguments: the program, the number of clients, the number of shards. Starts it, connects the clients (each
//! follows one channel and asks for the recent messages if it cannot recover), publishes all the time, sends SIGTERM,
//! starts the successor, and waits until every client is back and has the last message. Then it prints the times of
//! absence and the missed messages. The exit code is 1 if a client missed an acknowledged message or got one twice.

#![allow(clippy::print_stdout)]

use fanfare_client::core::{Event, State};
use fanfare_client::{Client, Subscribe};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CHANNEL: &str = "drain:news";
/// Five a second: the publications during the longest absence fit in the history of 100.
const PAUSE: Duration = Duration::from_millis(200);
/// Handshakes under way together.
const CONNECTING: usize = 64;

/// The events of one subscriber.
#[derive(Default)]
struct Seen {
    numbers: Vec<u64>,
    gaps: u64,
    /// The times at which it was disconnected, was told to come back, and was back.
    away: Option<Instant>,
    due_ms: u64,
    back: Option<Instant>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let program = args.next().ok_or("usage: drain PROGRAM [CLIENTS [SHARDS]]")?;
    let count: usize = args.next().map_or(Ok(5_000), |text| text.parse())?;
    let shards = args.next().unwrap_or_else(|| "1".to_owned());
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;

    let (mut first, address) = start(&program, "127.0.0.1:0", &shards)?;
    let url = format!("ws://{address}");
    let began = Instant::now();
    // The number after which all clients may stop listening, once it is known.
    let (last, is_last) = watch::channel(None);
    let mut subscribers = Vec::new();
    while subscribers.len() < count {
        let many = CONNECTING.min(count - subscribers.len());
        let joining: Vec<_> = (0..many).map(|_| tokio::spawn(subscribe(url.clone(), is_last.clone()))).collect();
        for joining in joining {
            subscribers.push(joining.await??);
        }
    }
    println!("{count} clients subscribed after {:.1?}, {shards} shards", began.elapsed());

    let published = Arc::new(Mutex::new(BTreeSet::new()));
    let publishing = tokio::spawn(publish(url.clone(), 0, published.clone(), is_last.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let term = Instant::now();
    kill_process(Pid::from_child(&first), Signal::TERM)?;
    let status = tokio::task::spawn_blocking(move || first.wait()).await??;
    println!("SIGTERM: {} after {:.1?}", exit_text(status), term.elapsed());
    let before = published.lock().map_err(|_| "a task panicked")?.len();
    publishing.abort(); // its client was sent away like all others; another publisher continues at the successor
    let (mut second, _) = start(&program, &address, &shards)?;
    println!("successor on {address} after {:.1?}", term.elapsed());
    let going_on = tokio::spawn(publish(url, 1_000_000, published.clone(), is_last));

    let mut all = Vec::new();
    let is_back = |seen: &Arc<Mutex<Seen>>| seen.lock().is_ok_and(|seen| seen.back.is_some());
    while !subscribers.iter().all(|(_, _, seen)| is_back(seen)) {
        tokio::time::sleep(PAUSE).await;
    }
    println!("everybody is back after {:.1?}", term.elapsed());
    tokio::time::sleep(2 * PAUSE).await; // some that all clients get live
    let known = published.lock().map_err(|_| "a task panicked")?.clone();
    last.send_replace(known.last().copied());
    going_on.await??;
    for (client, listening, seen) in subscribers {
        listening.await?;
        client.close().await;
        all.push(std::mem::take(&mut *seen.lock().map_err(|_| "a task panicked")?));
    }
    kill_process(Pid::from_child(&second), Signal::TERM)?;
    let status = tokio::task::spawn_blocking(move || second.wait()).await??;
    println!("successor: {}", exit_text(status));
    report(&all, &known, before, term)
}

/// Starts a server, and returns it with its address when it listens.
fn start(program: &str, listen: &str, shards: &str) -> Result<(Child, String), Failure> {
    let mut child = Command::new(program)
        .args(["dev", "--listen", listen, "--shards", shards])
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
    let address = loop {
        let line = lines.next().ok_or("it ended before it listened")??;
        if let Some(address) = line.strip_prefix("listening on http://") {
            break address.to_owned();
        }
    };
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("  | {line}")));
    Ok((child, address))
}

fn exit_text(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

type Subscriber = (Client, tokio::task::JoinHandle<()>, Arc<Mutex<Seen>>);

/// Connects, subscribes, and listens until it has the last number.
async fn subscribe(url: String, mut last: watch::Receiver<Option<u64>>) -> Result<Subscriber, Failure> {
    let start = Instant::now(); // about when the client's own clock starts
    let client = Client::connect(url).await?;
    let options = Subscribe { recent: Some(1_000), ..Subscribe::new(CHANNEL) };
    let mut subscription = client.subscribe_with(options).await?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (notes, mut status) = (seen.clone(), client.status());
    let note = move |change: &dyn Fn(&mut Seen)| {
        if let Ok(mut seen) = notes.lock() {
            change(&mut seen);
        }
    };
    let listening = tokio::spawn(async move {
        let mut heard = None;
        loop {
            tokio::select! {
                event = subscription.next() => match event {
                    Some(Event::Message { publication, .. }) => {
                        let text = String::from_utf8_lossy(publication.data.bytes()).into_owned();
                        heard = text.parse::<u64>().ok();
                        note(&|seen| seen.numbers.extend(heard));
                    }
                    Some(Event::Gap { .. }) => note(&|seen| seen.gaps += 1),
                    Some(_) => {}
                    None => return,
                },
                Ok(()) = status.changed() => match &status.borrow_and_update().state {
                    State::Waiting { until_ms, failures: 1, .. } => {
                        let due_ms = until_ms.saturating_sub(start.elapsed().as_millis() as u64);
                        note(&|seen| {
                            seen.away.get_or_insert_with(Instant::now);
                            seen.due_ms = due_ms;
                        });
                    }
                    State::Online(_) => note(&|seen| seen.back = seen.back.or(seen.away.map(|_| Instant::now()))),
                    _ => {}
                },
                Ok(()) = last.changed() => {}
            }
            if last.borrow().is_some_and(|last| heard.is_some_and(|heard| heard >= last)) {
                return;
            }
        }
    });
    Ok((client, listening, seen))
}

/// Publishes numbers from `from` on, and notes those that were acknowledged.
async fn publish(
    url: String,
    from: u64,
    published: Arc<Mutex<BTreeSet<u64>>>,
    last: watch::Receiver<Option<u64>>,
) -> Result<(), Failure> {
    let client = Client::connect(url).await?;
    for number in from.. {
        client.publish(CHANNEL, &number).await?;
        published.lock().map_err(|_| "a task panicked")?.insert(number);
        if last.borrow().is_some() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    client.close().await;
    Ok(())
}

fn report(all: &[Seen], known: &BTreeSet<u64>, before: usize, term: Instant) -> Result<(), Failure> {
    let ms = |at: Option<Instant>| at.map_or(0, |at| at.saturating_duration_since(term).as_millis() as u64);
    let spread = |what: &str, times: Vec<u64>| {
        let mut buckets = [0_usize; 16];
        times.iter().for_each(|ms| buckets[(*ms as usize / 1_000).min(15)] += 1);
        let (first, last) = (times.iter().min().unwrap_or(&0), times.iter().max().unwrap_or(&0));
        println!("{what}: {first} to {last} ms after SIGTERM");
        buckets.iter().enumerate().filter(|(_, count)| **count > 0).for_each(|(second, count)| {
            println!("  {second:>2} s {count:>5} {}", "#".repeat(count * 60 / all.len().max(1)));
        });
    };
    spread("sent away", all.iter().map(|seen| ms(seen.away)).collect());
    spread("asked to come back", all.iter().map(|seen| ms(seen.away) + seen.due_ms).collect());
    spread("back", all.iter().map(|seen| ms(seen.back)).collect());
    let late = all.iter().map(|seen| ms(seen.back).saturating_sub(ms(seen.away) + seen.due_ms)).max().unwrap_or(0);
    println!("the latest came {late} ms after it was asked to");

    let sum = |of: fn(&Seen) -> u64| all.iter().map(of).sum::<u64>();
    let missed: usize = all.iter().map(|seen| known.iter().filter(|n| !seen.numbers.contains(n)).count()).sum();
    let disordered = all.iter().filter(|seen| !seen.numbers.is_sorted_by(|a, b| a < b)).count();
    println!(
        "acknowledged: {} ({before} before the end); missed by anybody: {missed}; out of order or twice: {disordered}; \
         exit_text of the new epoch: {} of {}",
        known.len(),
        sum(|seen| seen.gaps),
        all.len()
    );
    if missed + disordered > 0 {
        return Err("something was missed, or came twice".into());
    }
    Ok(())
}
