//! Plain event streams, `/events`, on raw sockets, as `EventSource` and curl read them, and recovery after a loss.

mod support;

use fanfare::hub::{ChannelName, Data, Disconnect, Pattern, Rule, Rules, Whom};
use fanfare::{Builder, Config, Fanfare, Handle, Identity, Origins, Refusal, RequestInfo, Running, Token, Who, secs};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use support::stream::{Block, Stream, WAYS, Way};
use support::{config, connect, response, rules};

struct Hub {
    running: Option<Running>,
    handle: Handle,
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
}

impl Hub {
    fn new() -> Hub {
        Hub::of(Fanfare::builder(()).config(config()).channel("**", |c| c.open()))
    }

    fn of(builder: Builder) -> Hub {
        let server = builder.build().expect("good settings");
        let handle = server.handle();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime"); // for handlers too
        let entered = runtime.enter();
        let running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
        drop(entered);
        let address = running.tcp_address().expect("TCP");
        Hub { running: Some(running), handle, runtime, address }
    }

    fn publish(&self, channel: &str, value: impl Into<Value>) {
        self.runtime.block_on(async { self.handle.publish(channel, &value.into()).await }).expect("published");
    }

    /// A stream that has got `connected`.
    fn events(&self, target: &str, headers: &str) -> (Stream, Block) {
        self.events_by(Way::First, target, headers)
    }

    fn events_by(&self, way: Way, target: &str, headers: &str) -> (Stream, Block) {
        let mut stream = Stream::by(way, self.address, target, headers);
        assert_eq!(stream.status(), 200, "{}", stream.head);
        let connected = stream.message();
        assert_eq!(connected.json()["type"], "connected", "{connected:?}");
        (stream, connected)
    }

    fn open(&self) -> usize {
        let stats = self.runtime.block_on(self.running.as_ref().expect("it runs").stats());
        stats.iter().map(|stats| stats.connections).sum()
    }
}

fn shown(id: &str) -> String {
    format!("Last-Event-ID: {id}\r\n")
}

#[test]
fn a_stream_begins_with_connected_and_goes_on_with_payloads_on_every_way() {
    let hub = Hub::new();
    for way in WAYS {
        let (mut stream, connected) = hub.events_by(way, "/events", "");
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache, no-transform"),
            ("x-accel-buffering", "no"),
        ] {
            assert_eq!(stream.header(name), Some(value), "{way:?}");
        }
        assert_eq!(stream.header("transfer-encoding").is_some(), way != Way::Http10, "{way:?}");
        let data = connected.json();
        assert!(data["clientId"].as_str().is_some_and(|id| !id.is_empty()), "{data}");
        assert!(data["timestamp"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{data}");
        assert!(connected.id.is_some() && connected.event.is_none(), "{connected:?}");
        assert!(connected.retry.is_some_and(|ms| (1_000..3_000).contains(&ms)), "{connected:?}");
        hub.publish("events", json!({"n": 1}));
        let block = stream.message();
        assert_eq!((block.json(), block.event.as_deref()), (json!({"n": 1}), None), "{way:?}");
        assert_ne!(block.id, connected.id);
        hub.runtime.block_on(async { hub.handle.publish("events", "x").event("photo").await }).expect("published");
        let block = stream.message();
        assert_eq!((block.json(), block.event.as_deref()), (json!("x"), Some("photo")), "{way:?}");
    }
}

#[test]
fn binary_data_is_base64_and_the_servers_own_names_are_not_for_publications() {
    let hub = Hub::new();
    let (mut stream, _) = hub.events("/events?channel=pictures", "");
    hub.runtime.block_on(async {
        let data = Data::Binary(vec![0xff, 0xd8, 0xff].into());
        hub.handle.publish_data("pictures", data).event("fanfare.gap").await.expect("published");
    });
    let block = stream.message();
    assert_eq!((block.data.as_deref(), block.event), (Some("/9j/"), None));
}

#[test]
fn the_last_id_brings_what_was_missed_once_and_in_order() {
    let hub = Hub::new();
    for (round, way) in WAYS.into_iter().enumerate() {
        let one = format!("one{round}");
        let target = format!("/events?channel={one}");
        let (mut stream, connected) = hub.events_by(way, &target, "");
        hub.publish(&one, 1);
        let first = stream.message();
        drop(stream);
        (2..=4).for_each(|n| hub.publish(&one, n));
        for (id, from) in [(connected.id(), 1), (first.id(), 2)] {
            for (target, headers) in
                [(target.clone(), shown(&id)), (format!("{target}&lastEventId={id}"), String::new())]
            {
                let (mut stream, again) = hub.events_by(way, &target, &headers);
                assert_eq!(again.id(), id, "it is where it was");
                for n in from..=4 {
                    assert_eq!(stream.message().json(), n, "{way:?}");
                }
            }
        }
    }
}

#[test]
fn an_id_of_several_channels_says_where_the_client_is_in_each() {
    let hub = Hub::new();
    for (round, way) in WAYS.into_iter().enumerate() {
        let names = [format!("a{round}"), format!("b{round}")];
        let target = format!("/events?channel={}&channel={}", names[0], names[1]);
        let (mut stream, connected) = hub.events_by(way, &target, "");
        let mut ids = vec![connected.id()];
        for n in 0..6 {
            hub.publish(&names[n % 2], n);
            ids.push(stream.message().id());
        }
        drop(stream);
        for (had, id) in ids.iter().enumerate() {
            let (mut stream, _) = hub.events_by(way, &target, &shown(id));
            let mut missed: Vec<u64> =
                (had..6).map(|_| stream.message().json()["data"].as_u64().expect("a number")).collect();
            for parity in 0..2 {
                assert!(missed.iter().filter(|n| *n % 2 == parity).is_sorted(), "{missed:?}");
            }
            missed.sort_unstable();
            assert_eq!(missed, (had as u64..6).collect::<Vec<_>>(), "{way:?}");
        }
    }
}

#[test]
fn a_loss_is_reported_and_never_passed_over() {
    let hub = Hub::of(Fanfare::builder(()).config(Config { rules: rules(2), ..config() }));
    let gap_in = |stream: &mut Stream, channel: &str| {
        let gap = stream.message();
        assert_eq!((gap.event.as_deref(), &gap.json()["channel"]), (Some("fanfare.gap"), &json!(channel)));
        gap
    };
    // (the cursor, the rest of the query, the publications after the gap)
    type Row = (&'static str, fn(String, String) -> String, &'static str, &'static [u64]);
    let rows: [Row; 6] = [
        ("a position that history does not reach", |_, first| first, "", &[]),
        ("the same, and the newest", |_, first| first, "&recent=2", &[4, 5]),
        ("where it was connected", |connected, _| connected, "", &[]),
        ("garbage", |_, _| "17".to_owned(), "&recent=1", &[5]),
        ("an epoch of another server", |_, first| first.replacen('.', ".0", 1), "", &[]),
        ("no channel", |_, _| "0".to_owned(), "", &[]),
    ];
    for (row, (name, id, more, expected)) in rows.into_iter().enumerate() {
        let (channel, target) = (format!("c{row}"), format!("/events?channel=c{row}{more}"));
        let (mut stream, connected) = hub.events(&target, "");
        hub.publish(&channel, 1);
        let first = stream.message().id();
        drop(stream);
        (2..=5).for_each(|n| hub.publish(&channel, n));
        let (mut stream, again) = hub.events(&target, &shown(&id(connected.id(), first)));
        let gap = gap_in(&mut stream, &channel);
        for n in expected {
            assert_eq!(stream.message().json(), *n, "{name}");
        }
        // Until the loss has been sent, a client that comes back gets it again.
        gap_in(&mut hub.events(&target, &shown(&again.id())).0, &channel);
        // From then on it is known, and nothing of another channel is.
        let (mut stream, _) = hub.events(&format!("{target}&channel=other"), &shown(&gap.id()));
        gap_in(&mut stream, "other");
        let (mut stream, _) = hub.events(&target, &shown(&gap.id()));
        hub.publish(&channel, 6);
        for n in expected.iter().chain(&[6]) {
            assert_eq!(stream.message().json(), *n, "{name}");
        }
    }
}

#[test]
fn recent_brings_the_newest_where_there_is_no_id() {
    let hub = Hub::new();
    (1..=5).for_each(|n| hub.publish("a", n));
    let (mut stream, connected) = hub.events("/events?channel=a&recent=2", "");
    assert_eq!((stream.message().json(), stream.message().json()), (json!(4), json!(5)));
    // Cut off before any of them, it gets them all the same.
    let (mut stream, _) = hub.events("/events?channel=a", &shown(&connected.id()));
    assert_eq!((stream.message().json(), stream.message().json()), (json!(4), json!(5)));
    // An id is exacter.
    let (mut stream, last) = hub.events("/events?channel=a", "");
    drop(stream);
    hub.publish("a", 6);
    (stream, _) = hub.events("/events?channel=a&recent=4", &shown(&last.id()));
    assert_eq!(stream.message().json(), 6);
}

#[test]
fn an_envelope_is_the_message_of_the_native_protocol() {
    let hub = Hub::new();
    let (mut one, _) = hub.events("/events?channel=a&envelope=1", "");
    let (mut several, _) = hub.events("/events?channel=a&channel=b", "");
    hub.publish("a", "x");
    for stream in [&mut one, &mut several] {
        let message = stream.message().json();
        assert_eq!(
            (&message["type"], &message["channel"], &message["data"]),
            (&json!("message"), &json!("a"), &json!("x"))
        );
        assert_eq!(message["offset"], 1);
    }
    hub.publish("b", "y");
    assert_eq!(several.message().json()["channel"], "b");
}

/// A rule by which only the application may read.
fn closed(pattern: &str) -> Rule {
    let mut rule = Rule::open(Pattern::new(pattern).expect("a pattern"));
    rule.subscribe = vec![Who::Nobody];
    rule
}

#[test]
fn a_lasting_denial_has_its_status_and_a_passing_one_is_a_stream_that_ends() {
    let identify = async |token: Option<Token>| match token.as_ref().map(Token::as_str) {
        Some("wrong") => Err(Refusal::unauthorized("no such token")),
        Some("later") => Err(Refusal::unavailable("come back", secs(1))),
        Some(user) => Ok(Identity::user(user)),
        None => Ok(Identity::anonymous()),
    };
    let open = Rule::open(Pattern::new("open").expect("a pattern"));
    let rules = Arc::new(Rules::new(vec![open, closed("closed")]));
    let hub = Hub::of(Fanfare::builder(()).config(Config { rules, ..config() }).on_connect(identify));
    let rows = [
        ("/events?channel=open&token=wrong", 401, "no such token"),
        ("/events?channel=closed", 403, "closed"),
        ("/events?channel=open&channel=closed", 403, "closed"),
        ("/events?channel=other", 404, "other"),
        ("/events?channel=no%20name", 400, "channel"),
        ("/events?channel=open&recent=x", 400, "`recent`"),
    ];
    for way in WAYS {
        for (target, status, words) in rows {
            let mut stream = Stream::by(way, hub.address, target, "");
            assert_eq!(stream.status(), status, "{way:?} {target}: {}", stream.head);
            let body = stream.rest();
            assert!(body.contains(words), "{way:?} {target}: {body}");
        }
        let mut stream = Stream::by(way, hub.address, "/events?channel=open", "Authorization: Bearer later\r\n");
        assert_eq!(stream.status(), 200);
        let block = stream.block().expect("a word");
        assert!(block.retry.is_some_and(|ms| ms >= 1_000), "{block:?}");
        assert_eq!(block.event.as_deref(), Some("fanfare.disconnect"));
        assert_eq!(stream.block(), None, "{way:?}");
    }
    assert_eq!(hub.open(), 0, "nothing is left of them");
}

/// The id of a block is about the channels that the client named.
#[test]
fn the_application_grants_channels_to_a_stream_and_makes_no_subscriptions_on_it() {
    let granted = async || Identity::user("ada").subscribe(ChannelName::new("granted").expect("a name"));
    let closed = Arc::new(Rules::new(vec![closed("granted"), Rule::open(Pattern::new("**").expect("a pattern"))]));
    let hub = Hub::of(Fanfare::builder(()).config(Config { rules: closed, ..config() }).on_connect(granted));
    for way in WAYS {
        let (mut asked, _) = hub.events_by(way, "/events?channel=granted", "");
        let (mut other, _) = hub.events_by(way, "/events?channel=other", "");
        let subscribed = hub.handle.subscribe(Whom::user("ada"), "third");
        assert_eq!(hub.runtime.block_on(subscribed), Ok(0), "{way:?}");
        for (n, channel) in ["granted", "third", "other"].into_iter().enumerate() {
            hub.publish(channel, n);
        }
        assert_eq!((asked.message().json(), other.message().json()), (json!(0), json!(2)), "{way:?}");
    }
}

#[test]
fn handlers_see_the_request_and_its_token_by_either_way() {
    let identify = async |token: Option<Token>, request: Arc<RequestInfo>| -> Result<Identity, Refusal> {
        let token = token.as_ref().map_or("nobody", Token::as_str).to_owned();
        let (agent, query) = (request.header("user-agent").unwrap_or(""), request.uri.query().unwrap_or(""));
        let local = request.local.is_some();
        Err(Refusal::denied(format!("{token} {agent} {query} {:?} {local}", request.version)))
    };
    let hub = Hub::of(Fanfare::builder(()).config(config()).on_connect(identify));
    for (way, version) in [(Way::First, "1.1"), (Way::Http10, "1.0"), (Way::KeptAlive, "1.1")] {
        for (query, header, token) in [("token=ada", "", "ada"), ("x=y", "Authorization: Bearer ada\r\n", "ada")] {
            let target = format!("/events?{query}");
            let mut stream = Stream::by(way, hub.address, &target, &format!("User-Agent: test\r\n{header}"));
            let expected = format!("{token} test {query} HTTP/{version} true\n");
            assert_eq!((stream.status(), stream.rest()), (403, expected), "{way:?}");
        }
    }
}

#[test]
fn at_most_32_channels_and_the_limit_is_named() {
    let hub = Hub::new();
    let target = |count: usize| {
        let channels: Vec<String> = (0..count).map(|n| format!("channel=c:{n}")).collect();
        format!("/events?{}", channels.join("&"))
    };
    hub.events(&target(32), "");
    let mut stream = Stream::get(hub.address, &target(33), "Accept: application/json\r\n");
    assert_eq!(stream.status(), 400);
    let body: Value = serde_json::from_str(&stream.rest()).expect("JSON");
    assert_eq!((&body["limit"], &body["code"]), (&json!(32), &json!("bad_request")));
}

#[test]
fn a_program_can_have_pages_of_its_own_in_the_place_of_streams() {
    let page = axum::Router::new().route("/events", axum::routing::get(|| async { "a page" }));
    let config = Config { streams: false, ..config() };
    let hub = Hub::of(Fanfare::builder(()).config(config).channel("**", |c| c.open()).fallback(page));
    for way in WAYS {
        let mut page = Stream::by(way, hub.address, "/events", "Connection: close\r\n");
        assert_eq!((page.status(), page.rest()), (200, "a page".to_owned()), "{way:?}");
        assert_eq!(Stream::by(way, hub.address, "/v1/sse", "").status(), 404, "{way:?}");
    }
}

#[test]
fn pages_of_the_origins_may_read_and_others_may_not() {
    let origins = Origins::List(vec!["https://app.example".parse().expect("an origin")]);
    let hub = Hub::of(Fanfare::builder(()).config(Config { origins, ..config() }).channel("**", |c| c.open()));
    for way in WAYS {
        let (stream, _) = hub.events_by(way, "/events", "Origin: https://app.example\r\n");
        assert_eq!(stream.header("access-control-allow-origin"), Some("https://app.example"), "{way:?}");
        assert_eq!(stream.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(stream.header("vary"), Some("origin"));
        let (stream, _) = hub.events_by(way, "/events", "");
        assert_eq!(stream.header("access-control-allow-origin"), None);
        let mut stream = Stream::by(way, hub.address, "/events", "Origin: https://evil.example\r\n");
        assert_eq!(stream.status(), 403, "{way:?}");
        assert!(stream.rest().contains("`origins`"));
        // A refusal can be read by the page that may ask.
        let stream = Stream::by(way, hub.address, "/events?recent=x", "Origin: https://app.example\r\n");
        let allowed = stream.header("access-control-allow-origin");
        assert_eq!((stream.status(), allowed), (400, Some("https://app.example")), "{way:?}");
    }
    const ASKS: &str = "Access-Control-Request-Method: GET\r\n";
    let ask = |method: &str, origin: &str| {
        let request = format!("{method} /events HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n{ASKS}\r\n");
        Stream::asked(connect(hub.address), &request)
    };
    let preflight = ask("OPTIONS", "https://app.example");
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.header("access-control-allow-methods"), Some("get, head, options"));
    assert!(preflight.header("access-control-allow-headers").is_some_and(|names| names.contains("last-event-id")));
    assert_eq!(ask("OPTIONS", "https://evil.example").status(), 403);
    let head = ask("HEAD", "https://app.example");
    assert_eq!((head.status(), head.header("content-type")), (200, Some("text/event-stream")));
    let other = ask("PUT", "https://app.example");
    assert_eq!((other.status(), other.header("allow")), (405, Some("get, head, options")));
}

/// HEAD is answered as GET is, by the address, the page, the rules and the limits, and leaves no stream behind.
#[test]
fn head_has_the_status_and_the_headers_of_get() {
    let many: String = (0..33).map(|n| format!("&channel=c:{n}")).collect();
    let rows = [
        ("/events", 200),
        ("/v1/sse", 200),
        ("/v1/stream", 200),
        ("/events?channel=secret", 403),
        ("/events?channel=other", 404),
        (&*format!("/events?{many}"), 400),
        ("/events?channel=a%20b", 400),
        ("/v1/sse?connect=%7B%7D", 400),
        ("/v1/stream?connect=x", 400),
    ];
    const NAMES: [&str; 6] =
        ["content-type", "cache-control", "x-accel-buffering", "vary", "retry-after", "access-control-allow-origin"];
    let limited = |connections_max| {
        let open = Rule::open(Pattern::new("events").expect("a pattern"));
        let rules = Arc::new(Rules::new(vec![open, closed("secret")]));
        Hub::of(Fanfare::builder(()).config(Config { connections_max, rules, ..config() }))
    };
    let same = |hub: &Hub, target: &str, status: u16, origin: &str| {
        let [get, head] = ["GET", "HEAD"].map(|method| {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n");
            Stream::asked(connect(hub.address), &request)
        });
        let told = |answer: &Stream| (answer.status(), NAMES.map(|name| answer.header(name).map(str::to_owned)));
        assert_eq!((told(&head), head.status()), (told(&get), status), "{target}, {origin}");
        drop(get);
        while hub.open() > 0 {
            std::thread::yield_now();
        }
        head
    };
    let hub = limited(0);
    for (target, status) in rows {
        let mut head = same(&hub, target, status, "");
        // The answer has no body: the connection takes another request.
        if status == 200 {
            head.socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
            assert_eq!(response(&mut head.socket).status(), 200, "{target}");
        }
        same(&hub, target, 403, "Origin: https://evil.example\r\n");
    }
    let full = limited(1);
    let (_only, _) = full.events("/events", "");
    for (target, _) in &rows[..3] {
        let request = format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(Stream::asked(connect(full.address), &request).status(), 200, "{target}");
    }
}

#[test]
fn over_a_limit_a_stream_ends_at_once_and_says_when_to_come_back() {
    let hub =
        Hub::of(Fanfare::builder(()).config(Config { connections_max: 1, ..config() }).channel("**", |c| c.open()));
    let (_first, _) = hub.events("/events", "");
    // The last one has a body, so that hyper reads it.
    for request in
        ["GET /events HTTP/1.1\r\n", "GET /events HTTP/1.0\r\n", "GET /events HTTP/1.1\r\nContent-Length: 1\r\n"]
    {
        let mut stream = Stream::asked(connect(hub.address), &format!("{request}Host: localhost\r\n\r\nx"));
        assert_eq!(stream.status(), 200, "{request}: {}", stream.head);
        let block = stream.block().expect("a word");
        assert!(block.retry.is_some(), "{block:?}");
        assert_eq!(stream.block(), None, "{request}");
    }
}

#[test]
fn a_server_that_stops_ends_its_streams_and_says_when_to_come_back() {
    let mut hub = Hub::new();
    let mut streams: Vec<_> = WAYS.map(|way| hub.events_by(way, "/events", "").0).into();
    let running = hub.running.take().expect("it runs");
    let draining = std::thread::spawn(move || running.drain_blocking());
    for stream in &mut streams {
        let block = stream.block().expect("a last word");
        assert_eq!((block.event.as_deref(), &block.json()["reason"]), (Some("fanfare.disconnect"), &json!("shutdown")));
        assert!(block.retry.is_some(), "{block:?}");
        assert_eq!(stream.block(), None);
    }
    drop(streams);
    draining.join().expect("it ends").expect("no shard failed");
}

#[test]
fn a_client_that_the_application_sends_away_is_told_and_its_stream_ends() {
    let hub = Hub::new();
    for way in WAYS {
        let (mut stream, connected) = hub.events_by(way, "/events", "");
        let client = connected.json()["clientId"].as_str().expect("an id").parse().expect("an id");
        let gone = hub.handle.disconnect(Whom::Client(client), Disconnect::Kicked);
        assert_eq!(hub.runtime.block_on(gone), Ok(1));
        let block = stream.message();
        assert_eq!((block.event.as_deref(), &block.json()["code"]), (Some("fanfare.disconnect"), &json!(4503)));
        assert_eq!(stream.block(), None, "{way:?}");
    }
}

#[test]
fn a_client_that_stops_reading_pulls_what_it_missed() {
    let hub = Hub::of(Fanfare::builder(()).config(Config { rules: rules(10_000), ..config() }));
    for way in WAYS {
        let (mut stream, _) = hub.events_by(way, "/events?channel=a", "");
        let text = "x".repeat(50_000);
        // More than the sockets and the outbox take.
        for n in 0..400 {
            hub.publish("a", format!("{n} {text}"));
        }
        for n in 0..400 {
            let block = stream.message();
            assert_eq!(block.event, None, "nothing is lost");
            let data = block.data.expect("a payload");
            assert!(data.starts_with(&format!("\"{n} ")), "{way:?}: {n} was to come, not {}", &data[..20]);
        }
    }
}

#[test]
fn input_on_a_stream_is_ignored_within_a_bound() {
    use std::io::Write as _;
    let hub = Hub::new();
    let (mut stream, _) = hub.events("/events", "");
    stream.socket.write_all(&[b'x'; 1000]).expect("it is read");
    hub.publish("events", 1);
    assert_eq!(stream.message().json(), 1);
    let flood = vec![b'x'; 300 << 10];
    let _ = stream.socket.write_all(&flood); // the server may have closed by then
    while stream.block().is_some() {}
}

#[test]
fn a_stream_whose_client_has_gone_is_forgotten() {
    let hub = Hub::new();
    let streams: Vec<_> = WAYS.map(|way| hub.events_by(way, "/events", "").0).into();
    assert_eq!(hub.open(), 3);
    drop(streams);
    let end = std::time::Instant::now() + support::DEADLINE;
    while hub.open() > 0 {
        assert!(std::time::Instant::now() < end, "{} are left", hub.open());
        hub.publish("events", 0); // a body that hyper writes finds it out by writing
    }
}

/// A half-close is what a socket shows when its client has left; nothing else would end a quiet stream.
#[test]
fn a_stream_ends_when_its_client_ends_its_sending_side() {
    let hub = Hub::new();
    for path in ["/events", "/v1/sse", "/v1/stream"] {
        let mut socket = connect(hub.address);
        socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("written");
        let (mut text, mut buffer) = (String::new(), [0; 1024]);
        while !text.contains("connected") {
            let len = socket.read(&mut buffer).expect("in time");
            assert!(len > 0, "{path} ended: {text}");
            text += &String::from_utf8_lossy(&buffer[..len]);
        }
        socket.shutdown(std::net::Shutdown::Write).expect("half closed");
        socket.read_to_string(&mut text).unwrap_or_else(|error| panic!("{path} goes on: {error}"));
    }
}

#[test]
fn a_slip_in_a_parameter_is_refused_by_its_name() {
    let hub = Hub::new();
    let ask = |target: &str| {
        let mut socket = connect(hub.address);
        socket.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("written");
        response(&mut socket)
    };
    for (target, words) in [
        ("/events?chanel=a", "no parameter \"chanel\"; did you mean \"channel\"?"),
        ("/v1/sse?conect=x", "no parameter \"conect\"; did you mean \"connect\"?"),
    ] {
        let answer = ask(target);
        assert!(answer.status() == 400 && answer.body.contains(words), "{target}: {}", answer.body);
    }
}
