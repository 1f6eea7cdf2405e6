//! The Rust client in tests of the server: every wait has the deadline, and a loss that is reported fails the test.

use super::DEADLINE;
use fanfare_client::core::{Config, Event, State};
use fanfare_client::{Builder, Client, Connected, Position, Subscription, Transport};
use std::net::SocketAddr;

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes no minute")
}

pub fn builder(address: SocketAddr, transports: &[Transport]) -> Builder {
    Client::builder(format!("http://{address}")).transports(transports)
}

/// A client that is online over this transport.
pub async fn connect(address: SocketAddr, transport: Transport) -> Client {
    let client = within(builder(address, &[transport]).connect()).await.expect("the server is there");
    assert_eq!(client.status().borrow().transport, transport);
    client
}

/// Comes back after milliseconds.
pub fn quick(config: &mut Config) {
    (config.backoff_min_ms, config.backoff_max_ms) = (2, 20);
}

/// Waits until it is online, over one of these transports.
pub async fn online(client: &Client, transports: &[Transport]) -> Connected {
    let mut status = client.status();
    let is_it = |state: &State, transport| matches!(state, State::Online(_)) && transports.contains(&transport);
    let found = within(status.wait_for(|status| is_it(&status.state, status.transport))).await.expect("it goes on");
    let State::Online(connected) = &found.state else { panic!("{:?}", found.state) };
    (**connected).clone()
}

/// Waits until it is not online.
pub async fn offline(client: &Client) {
    let mut status = client.status();
    within(status.wait_for(|status| !matches!(status.state, State::Online(_)))).await.expect("it goes on");
}

/// The next event that is wanted.
pub async fn next<T>(subscription: &mut Subscription, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    loop {
        let event = within(subscription.next()).await.expect("it goes on");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

/// The first presence of a subscription: from then on each change is an event of its own.
pub async fn first_presence(subscription: &mut Subscription) {
    next(subscription, |event| matches!(event, Event::Presence(_)).then_some(())).await;
}

/// The next publication's data and place; nothing may be lost before it.
pub async fn publication(subscription: &mut Subscription) -> (String, Position) {
    next(subscription, |event| match event {
        Event::Message { publication, position } => {
            Some((String::from_utf8_lossy(publication.data.bytes()).into_owned(), position.clone()))
        }
        Event::Gap { .. } | Event::Ended { .. } => panic!("nothing was to be lost: {event:?}"),
        _ => None,
    })
    .await
}

/// The next publication's data; nothing may be lost before it.
pub async fn data(subscription: &mut Subscription) -> String {
    publication(subscription).await.0
}
