//! A chat in the terminal: `cargo run -p fanfare-client --example chat -- ws://localhost:8080 chat:general Ada`.
//!
//! Publishes the lines that are typed, and shows the messages of others and their arrivals and departures. Stop the
//! server and start it again: the program reconnects by itself, and says if messages were lost.

use fanfare_client::core::{Event, State};
use fanfare_client::{Client, Data, PresenceKind, Subscribe};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://localhost:8080".to_owned());
    let channel = arguments.next().unwrap_or_else(|| "chat:general".to_owned());
    let name = arguments.next().unwrap_or_else(|| "somebody".to_owned());

    let client = Client::connect(url).await?;
    let options = Subscribe { presence: true, recent: Some(10), ..Subscribe::new(channel.as_str()) };
    let mut chat = client.subscribe_with(options).await?;
    client.presence_set(&channel, &json!({ "username": name })).await?;

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut status = client.status();
    loop {
        tokio::select! {
            event = chat.next() => match event {
                Some(event) => show(event),
                None => break,
            },
            line = lines.next_line() => match line? {
                Some(line) if line.is_empty() => {}
                Some(line) => {
                    let message = json!({ "content": line, "username": name });
                    // In a task of its own, so that others' messages are shown meanwhile; publishing may have to wait
                    // for a connection.
                    let (client, channel) = (client.clone(), channel.clone());
                    tokio::spawn(async move {
                        if let Err(error) = client.publish(&channel, &message).await {
                            eprintln!("not sent: {error}");
                        }
                    });
                }
                None => break,
            },
            Ok(()) = status.changed() => {
                if let State::Waiting { failures, .. } = &status.borrow_and_update().state {
                    eprintln!("* no connection, attempt {failures} failed");
                }
            }
        }
    }
    client.close().await;
    Ok(())
}

fn show(event: Event) {
    match event {
        Event::Message { publication, .. } => {
            let Data::Json(data) = &publication.data else { return };
            let Ok(message) = serde_json::from_slice::<Value>(data) else { return };
            let field = |name: &str| message[name].as_str().unwrap_or("?").to_owned();
            println!("{}: {}", field("username"), field("content"));
        }
        Event::PresenceChange(change) => {
            let verb = match change.kind {
                PresenceKind::Join => "came",
                PresenceKind::Leave => "left",
                PresenceKind::Update => "changed",
            };
            let data = change.entry.data.as_deref().and_then(|data| serde_json::from_slice::<Value>(data).ok());
            let name = data.and_then(|data| data["username"].as_str().map(Arc::<str>::from));
            println!("* {} {verb}", name.unwrap_or(change.entry.client));
        }
        Event::Presence(presence) => println!("* {} here", presence.count),
        Event::Gap { .. } => println!("* messages were missed"),
        Event::Ended { message, .. } => println!("* the end: {message}"),
        Event::Live { .. } | Event::Signal(_) | Event::PresenceCount { .. } => {}
    }
}
