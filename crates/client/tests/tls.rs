//! The client over TLS: it connects, it reconnects, and it rejects every server without a valid certificate.

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "tls")]

mod support;

use fanfare_client::core::Event;
use fanfare_client::{CertificateFault, Client, ConnectError, Data, Problem, Subscription, Trust};
use support::Server;
use support::tls::{Authority, NOW, TlsProxy, Valid};

/// The limit of every wait: a test that hangs fails. It has no other effect.
const LONG: std::time::Duration = std::time::Duration::from_secs(30);

fn trust(authority: &Authority) -> Trust {
    Trust::only_pem(authority.pem().as_bytes()).unwrap()
}

async fn connect(url: String, trust: Trust) -> Result<Client, ConnectError> {
    Client::builder(url).trust(trust).config(|config| config.backoff_min_ms = 10).connect().await
}

/// The next publication's payload.
async fn data(subscription: &mut Subscription) -> String {
    loop {
        let event = tokio::time::timeout(LONG, subscription.next()).await.expect("an event").expect("it goes on");
        match event {
            Event::Message { publication, .. } => {
                let Data::Json(data) = &publication.data else { panic!("JSON was published") };
                return String::from_utf8(data.to_vec()).unwrap();
            }
            end @ (Event::Gap { .. } | Event::Ended { .. }) => panic!("nothing was lost: {end:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn messages_pass_through_tls_also_large_ones_and_those_after_a_cut() {
    let (server, authority) = (Server::start().await, Authority::new());
    let proxy = TlsProxy::start(server.address, authority.server(&["localhost", "127.0.0.1"], NOW));
    let ada = connect(format!("wss://localhost:{}", proxy.port), trust(&authority)).await.unwrap();
    // An address in place of a name is checked too; and `https` names the same server.
    let bob = connect(format!("https://127.0.0.1:{}/", proxy.port), trust(&authority)).await.unwrap();
    let mut chat = bob.subscribe("chat").await.unwrap();
    // More than a socket takes at once: the bytes that TLS still holds must be written too.
    let large = "x".repeat(60_000);
    for n in 0..100 {
        ada.publish("chat", &n).await.unwrap();
        ada.publish("chat", &large).await.unwrap();
        if n % 25 == 20 {
            proxy.cut();
        }
    }
    for n in 0..100 {
        assert_eq!(data(&mut chat).await, n.to_string());
        assert_eq!(data(&mut chat).await.len(), large.len() + 2);
    }
}

async fn problem(url: String, trust: Trust) -> Problem {
    match connect(url, trust).await {
        Err(ConnectError::Failed { problem }) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_is_believed_who_cannot_show_who_they_are() {
    let (server, authority) = (Server::start().await, Authority::new());
    let rows = [
        (
            "unknown",
            Authority::named("x").server(&["localhost"], NOW),
            "not signed by an authority that is trusted here",
        ),
        (
            "of the same name",
            Authority::new().server(&["localhost"], NOW),
            "not signed by an authority that is trusted here",
        ),
        ("another", authority.server(&["fanfare.example", "10.1.2.3"], NOW), "another name: fanfare.example, 10.1.2.3"),
        ("old", authority.server(&["localhost"], Valid(2020, 2021)), "expired"),
        ("early", authority.server(&["localhost"], Valid(2110, 2120)), "is not valid for another"),
        ("itself", authority.itself(), "is one for an authority, not for a server"),
    ];
    for (name, config, part) in rows {
        let proxy = TlsProxy::start(server.address, config);
        let problem = problem(format!("wss://localhost:{}", proxy.port), trust(&authority)).await;
        let Problem::Certificate { host, .. } = &problem else { panic!("{name}: {problem:?}") };
        assert_eq!(&**host, "localhost", "{name}");
        assert!(problem.to_string().contains(part), "{name}: {problem}");
        assert!(!problem.is_final(), "{name}: a network that makes one log in first shows such certificates too");
    }
    // If an authority is given, the system's are not used. Without a given one, the system does not know the test's
    // authority.
    let proxy = TlsProxy::start(server.address, authority.server(&["localhost"], NOW));
    match Client::connect(format!("wss://localhost:{}", proxy.port)).await {
        Err(ConnectError::Failed { problem: Problem::Certificate { fault: CertificateFault::Issuer, .. } }) => {}
        Err(ConnectError::Trust(_)) => {} // a system without certificates
        other => panic!("{other:?}"),
    }
    assert_eq!(server.accepted.load(std::sync::atomic::Ordering::SeqCst), 0, "nothing was sent to anybody");
}

#[tokio::test]
async fn tls_where_there_is_none_and_none_where_there_is_are_told_apart() {
    let (server, authority) = (Server::start().await, Authority::new());
    let without = problem(format!("wss://{}", server.address), trust(&authority)).await;
    assert!(matches!(&without, Problem::Tls { .. }), "{without:?}");
    let proxy = TlsProxy::start(server.address, authority.server(&["localhost"], NOW));
    let error = Client::connect(format!("ws://localhost:{}", proxy.port)).await.unwrap_err().to_string();
    assert!(error.contains("it speaks TLS: write https:// or wss://"), "{error}");
}
