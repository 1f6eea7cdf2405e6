//! An axum application and Fanfare on one port: the application's routes take orders, and publish them.
//!
//! `cargo run -p fanfare --example axum`, then `curl -d '{"item":"tea"}' -H 'content-type: application/json'
//! localhost:8080/orders` while a client is subscribed to `orders:all`. Here axum serves and Fanfare is a service in it
//! (`into_service`). With `server.fallback(router)`, Fanfare serves and axum gets the other requests; a WebSocket then
//! skips axum.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use fanfare::{Fanfare, Handle, Who::*};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Order {
    item: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let server = Fanfare::builder(()).channel("orders:*", |c| c.subscribe(Anyone)).build()?;
    let hub = server.handle();
    let (realtime, running) = server.into_service()?;
    let app = Router::new().route("/orders", post(order)).with_state(hub).fallback_service(realtime);
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let until_interrupted = async { drop(tokio::signal::ctrl_c().await) };
    match address.strip_prefix("unix:") {
        Some(path) => {
            let listener = tokio::net::UnixListener::bind(path)?;
            axum::serve(listener, app).with_graceful_shutdown(until_interrupted).await?;
        }
        None => {
            let listener = tokio::net::TcpListener::bind(&address).await?;
            axum::serve(listener, app).with_graceful_shutdown(until_interrupted).await?;
        }
    }
    running.drain().await?;
    Ok(())
}

async fn order(State(hub): State<Handle>, Json(order): Json<Order>) -> Result<StatusCode, (StatusCode, String)> {
    let published = hub.publish("orders:all", &order).await;
    published.map(|_| StatusCode::CREATED).map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}
