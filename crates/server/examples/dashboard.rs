//! A dashboard that a task feeds: every second, each open page gets the machine's load.
//!
//! `cargo run -p fanfare --example dashboard`, then open http://localhost:8080. A new page gets the last minute at once
//! (`recent`), and a page that was cut off for a while misses nothing.

use axum::response::Html;
use axum::routing::get;
use fanfare::{Fanfare, Handle, Who::*, mins};
use serde_json::json;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), fanfare::ServeError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let server = Fanfare::builder(()).channel("dash:*", |c| c.subscribe(Anyone).history(60, mins(1))).build()?;
    tokio::spawn(feed(server.handle()));
    let pages = axum::Router::new().route("/", get(|| async { Html(PAGE) }));
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    server.fallback(pages).serve_until(&address, async { drop(tokio::signal::ctrl_c().await) }).await
}

async fn feed(hub: Handle) {
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    loop {
        every_second.tick().await;
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: f64 = text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
        if let Err(error) = hub.publish("dash:load", &json!({"load": load})).await {
            tracing::warn!(%error, "the load could not be published");
        }
    }
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Load</title>
<style>body { font: 4rem system-ui; text-align: center } svg { width: 90vw; height: 40vh }</style>
<p id="load">…</p>
<svg viewBox="0 0 60 4" preserveAspectRatio="none"><polyline fill="none" stroke="teal" stroke-width=".05"/></svg>
<script>
  const seen = []
  const ws = new WebSocket(location.origin.replace('http', 'ws') + '/v1/ws', 'fanfare.v1')
  const show = ({ data }) => {
    seen.push(data.load)
    document.querySelector('#load').textContent = data.load.toFixed(2)
    const points = seen.slice(-60).map((load, x) => `${x},${4 - Math.min(load, 4)}`)
    document.querySelector('polyline').setAttribute('points', points.join(' '))
  }
  ws.onopen = () => ws.send('{"type":"connect","subscribe":[{"channel":"dash:load","recent":60}]}')
  ws.onmessage = ({ data }) => {
    const push = JSON.parse(data)
    if (push.type === 'subscribed') push.publications.forEach(show)
    if (push.type === 'message') show(push)
    if (push.type === 'ping') ws.send('{"type":"pong"}')
  }
</script>
"#;
