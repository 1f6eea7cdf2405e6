//! A chat server on a page of code: proven names, rooms with history and presence, a filter, and a method.
//!
//! `cargo run -p fanfare --example chat_server`, then in a browser's console, in two windows:
//!
//! ```js
//! const ws = new WebSocket('ws://localhost:8080/v1/ws', 'fanfare.v1')
//! ws.onmessage = e => console.log(e.data)
//! ws.onopen = () => {
//!   ws.send('{"type":"connect","id":1,"token":"ada:wonderland"}')
//!   ws.send('{"type":"subscribe","id":2,"channel":"chat:general","recent":10,"presence":true}')
//!   ws.send('{"type":"publish","id":3,"channel":"chat:general","data":{"text":"hello"}}')
//! }
//! ```

use fanfare::{Fanfare, Handle, Identity, Json, Publish, Refusal, State, Token, User, Who::*, mins};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The users and their passwords. A real application asks its database.
#[derive(Clone)]
struct App {
    passwords: Arc<HashMap<&'static str, &'static str>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), fanfare::ServeError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let app = App { passwords: Arc::new(HashMap::from([("ada", "wonderland"), ("bob", "builder")])) };
    let server = Fanfare::builder(app)
        .channel("chat:*", |c| c.subscribe(Authenticated).publish(Subscriber).history(100, mins(10)).presence(true))
        .channel("inbox:{user}", |c| c.subscribe(Authenticated))
        .on_connect(connect)
        .on_publish("chat:*", only_polite_words)
        .rpc("remind", remind)
        .build()?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    server.serve_until(&address, async { drop(tokio::signal::ctrl_c().await) }).await
}

/// A token is `name:password` here; a client without one is refused.
async fn connect(State(app): State<App>, token: Token) -> Result<Identity, Refusal> {
    match token.as_str().split_once(':') {
        Some((name, password)) if app.passwords.get(name) == Some(&password) => {
            Ok(Identity::user(name).info(&json!({"name": name})))
        }
        _ => Err(Refusal::unauthorized("no such name and password")),
    }
}

/// May edit what is published, or refuse it.
async fn only_polite_words(publish: Publish) -> Result<Publish, Refusal> {
    let message: Value = serde_json::from_slice(publish.data.bytes())?;
    match message["text"].as_str() {
        None => Err(Refusal::bad_request("a message is {\"text\": \"…\"}")),
        Some(text) if text.to_lowercase().contains("darn") => Err(Refusal::denied("mind your language")),
        Some(_) => Ok(publish),
    }
}

/// Publishes to the caller's own inbox, to which only the application can publish.
async fn remind(user: User, hub: Handle, Json(what): Json<Value>) -> Result<Json<Value>, Refusal> {
    let published = hub.publish(&format!("inbox:{}", &*user), &json!({"remember": what})).await?;
    Ok(Json(json!({"offset": published.position.offset})))
}
