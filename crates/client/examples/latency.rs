//! Measures the time until a publication comes back: `cargo run --release -p fanfare-client --example latency --
//! ws://localhost:8080`.

use fanfare_client::Client;
use fanfare_client::core::Event;
use std::time::{Duration, Instant};

const ROUNDS: usize = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://localhost:8080".to_owned());
    let client = Client::connect(url).await?;
    let channel = format!("latency:{}", std::process::id());
    let mut subscription = client.subscribe(&channel).await?;
    let mut taken = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let start = Instant::now();
        client.publish(&channel, &round).await?;
        while !matches!(subscription.next().await, Some(Event::Message { .. }) | None) {}
        taken.push(start.elapsed());
    }
    taken.sort_unstable();
    let at = |share: f64| taken[((ROUNDS - 1) as f64 * share) as usize];
    let mean = taken.iter().sum::<Duration>() / ROUNDS as u32;
    println!("{ROUNDS} publications: mean {mean:?}, median {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(1.0));
    client.close().await;
    Ok(())
}
