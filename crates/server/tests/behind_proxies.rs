//! The configurations of docs/proxies.md, as they stand there, with the real nginx, Caddy and HAProxy: only addresses,
//! ports, paths of certificates and times are replaced.
//!
//! These tests need the three programs, so they run by `cargo xtask test --only proxies`, and are ignored elsewhere.
//! Clients connect from 127.0.0.2, so that their address differs from the proxy's.

mod support;

use fanfare::settings::{Settings, SourceFile, Sources};
use fanfare::{AdminOn, Config, Fanfare, Identity, Native, Origins, RequestInfo, Running, Tls};
use fanfare_wire::native::PROTOCOL;
use fanfare_wire::websocket::{Decoder, Event, Limits, Opcode, Role, client_key, put_frame, request};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::fs::{create_dir_all, read_to_string, remove_dir_all, write};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use support::{DEADLINE, patient, shards};

const NAME: &str = "realtime.example";
/// The origin of a page of somewhere else that may connect.
const PAGE: &str = "https://page.example";
/// In place of the 75 s of the page, so that an idle connection is closed while the test waits.
const PROXY_TIMEOUT: &str = "3s";
/// A third of that.
const HEARTBEAT_MS: u32 = 1_000;
/// They outlast the proxy's timeout twice.
const HEARTBEATS: usize = 7;

/// The blocks of the page with this word behind the fence.
fn snippets(language: &str) -> Vec<String> {
    let page = read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/proxies.md")).expect("the page");
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("a block").to_owned());
    blocks.collect()
}

/// Replaces texts that must be there.
fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the snippet has no {from:?}:\n{text}");
        text.replace(from, to)
    })
}

/// Handlers run on it, and the clients block.
fn runtime() -> tokio::runtime::EnterGuard<'static> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime")).enter()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// A folder of a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanfare-{name}-{}", std::process::id()));
        create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        write(&path, text).expect("written");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}

/// Fanfare with the configuration of the page, whose users are called as the handler sees them.
fn start(toml: &str, more: impl FnOnce(Config) -> Config) -> Running {
    let file = Some(SourceFile { path: "fanfare.toml".to_owned(), text: toml.to_owned() });
    let sources = Sources {
        defaults: Settings::default(),
        file,
        environment: Vec::new(),
        flags: Vec::new(),
        dev_key: None,
        has_handlers: true,
    };
    let settings = Settings::load(sources).unwrap_or_else(|problems| panic!("{problems}"));
    let origins = Origins::List(vec![PAGE.parse().expect("an origin")]);
    let config = more(Config { shards: shards(), admin: AdminOn::Off, origins, ..settings.config });
    let _runtime = runtime();
    let server = Fanfare::builder(())
        .config(config)
        .channel("**", |c| c.open())
        .protocol("/v1/ws", Native::default().heartbeat_ms(HEARTBEAT_MS))
        .on_connect(async |request: Arc<RequestInfo>| Identity::user(format!("{} {}", request.peer, request.scheme)));
    server.build().expect("valid").start(&settings.listen).expect("it starts")
}

/// A certificate for the name, which signs itself.
struct Certificate {
    pem: String,
    key: String,
}

fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    Certificate { pem: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

/// A running proxy, ended with this value.
struct Proxy {
    child: Child,
    port: u16,
    /// The certificate that clients trust.
    root: String,
}

impl Proxy {
    fn run(command: &mut Command, port: u16, root: &str) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut proxy = Proxy { child, port, root: root.to_owned() };
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = proxy.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < deadline, "{command:?} does not listen: {ended:?}");
            std::thread::yield_now();
        }
        proxy
    }

    fn tcp(&self) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("an address of this machine");
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], self.port)).into()).expect("the proxy listens");
        patient(socket.into())
    }

    /// A connection over TLS.
    fn connect(&self) -> Stream {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.root.as_bytes()) {
            roots.add(root.expect("PEM")).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(NAME).expect("a name");
        StreamOwned::new(ClientConnection::new(Arc::new(client), name).expect("a client"), self.tcp())
    }

    /// One request; the answer's status and body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = self.connect();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{head}Content-Type: application/json\r\n\r\n{body}").as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // some proxies end without TLS's last word
        let answer = String::from_utf8(answer).expect("text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
        (status.unwrap_or_else(|| panic!("no status: {answer:?}")), body)
    }

    /// Waits until the server behind the proxy answers.
    fn until_healthy(&self, path: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (status, body) = self.ask("GET", path, "");
            match status {
                200 => return,
                502..=504 => assert!(Instant::now() < deadline, "{status} {body}"),
                _ => panic!("{status} {body}"),
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A client of the native protocol over a WebSocket.
struct Client {
    stream: Stream,
    decoder: Decoder,
}

/// Headers by which a client of the proxy could pretend.
const PRETENDED: [(&str, &str); 4] = [
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-Proto", "http"),
    ("Forwarded", "for=6.6.6.6;proto=http"),
    ("X-Forwarded-Host", "evil.example"),
];

impl Client {
    fn open(proxy: &Proxy, path: &str) -> Self {
        let mut stream = proxy.connect();
        let mut head = Vec::new();
        request(&mut head, NAME, path, &client_key([7; 16]), &[PROTOCOL], &PRETENDED);
        stream.write_all(&head).expect("the proxy reads");
        let answer = support::head(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Client { stream, decoder: Decoder::new(Role::Client, Limits { message_bytes_max: 1 << 20 }) }
    }

    fn send(&mut self, message: &Value) {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, Opcode::Text, message.to_string().as_bytes(), Some([1, 2, 3, 4]));
        self.stream.write_all(&bytes).expect("the proxy reads");
    }

    /// The next message; `None` at the end.
    fn next(&mut self) -> Option<Value> {
        loop {
            let mut byte = [0];
            if !matches!(self.stream.read(&mut byte), Ok(1)) {
                return None;
            }
            match self.decoder.decode(&mut &mut byte[..]).expect("WebSocket") {
                Some(Event::Text(text)) => return Some(serde_json::from_str(text).expect("JSON")),
                Some(Event::Close(_)) => return None,
                _ => {}
            }
        }
    }

    /// The next message of this type; pings are answered.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().unwrap_or_else(|| panic!("it ended before {kind}"));
            if message["type"] == "ping" {
                self.send(&json!({"type": "pong"}));
            }
            if message["type"] == kind {
                return message;
            }
            assert_ne!(message["type"], "error", "{message}");
        }
    }

    /// Connects, and returns the name that the handler gave.
    fn hello(&mut self) -> String {
        self.send(&json!({"type": "connect", "id": 1}));
        self.until("connected")["user"].as_str().expect("a user").to_owned()
    }

    fn publish(&mut self, channel: &str, data: &str) {
        self.send(&json!({"type": "publish", "id": 2, "channel": channel, "data": data}));
        self.until("published");
    }
}

/// Waits until no connection is left.
fn until_quiet(running: &Running) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let deadline = Instant::now() + DEADLINE;
    while runtime.block_on(running.stats()).iter().map(|stats| stats.connections).sum::<usize>() > 0 {
        assert!(Instant::now() < deadline, "a connection whose client has gone is still open");
        std::thread::yield_now();
    }
}

/// The ticket in an answer.
fn ticket_in(text: &str) -> String {
    let begin = text.find("\"ticket\":\"").expect("a ticket") + 10;
    text[begin..].split('"').next().expect("its end").to_owned()
}

/// Reads up to and with this.
fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut seen = String::new();
    while !seen.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {seen:?}, before {end:?}"));
        seen.push(char::from(byte[0]));
    }
    seen
}

/// Asks as the `EventSource` of a page does, which gives up for ever at any other answer.
fn event_source(proxy: &Proxy, path: &str) -> (String, Stream) {
    let mut stream = proxy.connect();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nOrigin: {PAGE}\r\n");
    stream.write_all(format!("{head}Accept: text/event-stream\r\n\r\n").as_bytes()).expect("the proxy reads");
    let head = support::head(&mut stream).to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 200 ") && head.contains("content-type: text/event-stream\r\n"),
        "{path}: {head}"
    );
    (head, stream)
}

/// A client that speaks HTTP/2 to the proxy, which speaks HTTP/1.1 to the server: a stream, polls and sends.
fn by_http2(proxy: &Proxy, base: &str, client: &mut Client) {
    let folder = Folder::new(&format!("curl-{}", proxy.port));
    let root = folder.file("root.pem", &proxy.root);
    let curl = |path: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--http2", "--no-buffer", "--max-time", "60", "--cacert", &root]);
        command.args(["--resolve", &format!("{NAME}:{}:127.0.0.1", proxy.port)]);
        command.arg(format!("https://{NAME}:{}{base}{path}", proxy.port)).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    };
    let post = |path: &str, body: &Value| {
        let mut command = curl(path);
        command.args(["--header", "Content-Type: application/json", "--write-out", "\n%{http_version} %{http_code}"]);
        let output = command.args(["--data", &body.to_string()]).output().expect("this test needs curl");
        let text = String::from_utf8(output.stdout).expect("text");
        text.strip_suffix("\n2 200").unwrap_or_else(|| panic!("{path}: {text}")).trim_end().to_owned()
    };
    let mut streaming = curl("/events?channel=chat:d").arg("--include").spawn().expect("this test needs curl");
    let mut stream = streaming.stdout.take().expect("a pipe");
    assert!(read_until(&mut stream, "connected").starts_with("HTTP/2 200"));
    for number in 1..=3 {
        let payload = format!("by HTTP/2 {number}");
        client.publish("chat:d", &payload);
        read_until(&mut stream, &payload);
    }
    let connected = post("/v1/poll", &json!({"type": "connect", "id": 1}));
    let ticket = ticket_in(&connected);
    let sent = post("/v1/send", &json!({"ticket": ticket, "n": 1, "commands": []}));
    assert_eq!(sent, r#"{"n":1,"replies":[]}"#);
    let polled = post("/v1/poll", &json!({"ticket": ticket, "ack": 1, "wait": 10}));
    assert_eq!(polled, r#"{"n":1,"messages":[]}"#);
    let _ = streaming.kill(); // its end is noticed with the others
    let _ = streaming.wait();
}

/// Everything that a proxy has to let through. `restart` stops the server, and starts it again at the same address.
fn suite(proxy: &Proxy, base: &str, mut running: Running, restart: impl Fn() -> Running) {
    let at = |path: &str| format!("{base}{path}");
    proxy.until_healthy(&at("/healthz"));
    for method in ["HEAD", "OPTIONS"] {
        assert_eq!(proxy.ask(method, &at("/healthz"), "").0, 200, "{method}");
    }

    // A WebSocket, both ways; the handler sees the client, not what the client pretends, and not the proxy.
    let mut client = Client::open(proxy, &at("/v1/ws"));
    assert_eq!(client.hello(), "127.0.0.2:0 https");
    client.send(&json!({"type": "subscribe", "id": 3, "channel": "chat:a"}));
    client.until("subscribed");
    client.publish("chat:a", "hello");
    client.send(&json!({"type": "publish", "id": 4, "channel": "chat:a", "data": "x".repeat(60_000)}));
    while client.until("message")["data"].as_str().map(str::len) != Some(60_000) {}

    // Streams: each publication arrives before the next is made.
    let mut streams = Vec::new();
    for path in ["/events?channel=chat:b", "/v1/sse?connect=", "/v1/stream?connect="] {
        let connect =
            "%7B%22type%22:%22connect%22,%22id%22:1,%22subscribe%22:%5B%7B%22channel%22:%22chat:b%22%7D%5D%7D";
        let path = if path.ends_with('=') { format!("{path}{connect}") } else { path.to_owned() };
        let mut stream = proxy.connect();
        let request = format!("GET {} HTTP/1.1\r\nHost: {NAME}\r\n\r\n", at(&path));
        stream.write_all(request.as_bytes()).expect("the proxy reads");
        let head = support::head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        let first = if path.starts_with("/events") { "connected" } else { "subscribed" };
        read_until(&mut stream, first); // the head comes before the subscription is made
        streams.push((path, stream));
    }
    for number in 1..=3 {
        let payload = format!("payload {number}");
        client.publish("chat:b", &payload);
        for (path, stream) in &mut streams {
            let seen = read_until(stream, &payload);
            assert!(!seen.contains("disconnect"), "{path}: {seen}");
        }
    }

    // A poll that waits is answered when there is something.
    let connect = json!({"type": "connect", "id": 1, "subscribe": [{"channel": "chat:c"}]}).to_string();
    let (status, body) = proxy.ask("POST", &at("/v1/poll"), &connect);
    assert_eq!(status, 200, "{body}");
    let (ticket, mut ack, mut told) = (ticket_in(&body), 1, body);
    let deadline = Instant::now() + DEADLINE;
    while !told.contains("polled") {
        assert!(Instant::now() < deadline, "{told}");
        if told.contains("subscribed") {
            client.publish("chat:c", "polled");
        }
        let poll = json!({"ticket": ticket, "ack": ack, "wait": 20_000}).to_string();
        let (status, body) = proxy.ask("POST", &at("/v1/poll"), &poll);
        assert_eq!(status, 200, "{body}");
        (ack, told) = (ack + 1, body);
    }

    let (_, sent) = proxy.ask("POST", &at("/v1/send"), &json!({"ticket": ticket, "commands": []}).to_string());
    assert!(sent.contains("replies"), "{sent}");
    drop(streams);

    by_http2(proxy, base, &mut client);

    // Clients that say nothing but their heartbeats stay, for longer than the proxy's timeout: over a WebSocket, and on
    // a stream, whose client answers by sends.
    let connect = json!({"type": "connect", "id": 1, "subscribe": [{"channel": "chat:e"}]}).to_string();
    let mut stream = proxy.connect();
    let head = format!("POST {} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {}\r\n", at("/v1/stream"), connect.len());
    stream.write_all(format!("{head}Content-Type: application/json\r\n\r\n{connect}").as_bytes()).expect("it reads");
    assert!(support::head(&mut stream).starts_with("HTTP/1.1 200 "));
    let pong = json!({"ticket": ticket_in(&read_until(&mut stream, "subscribed")), "commands": {"type": "pong"}});
    for _ in 0..HEARTBEATS {
        client.until("ping");
        read_until(&mut stream, r#"{"type":"ping"}"#);
        assert_eq!(proxy.ask("POST", &at("/v1/send"), &pong.to_string()).0, 200);
    }
    client.publish("chat:a", "still here");
    client.publish("chat:e", "still there");
    read_until(&mut stream, "still there");
    drop(stream);

    // Clients that go without a word, whole or by half, are noticed by the server behind the proxy.
    let mut half = Client::open(proxy, &at("/v1/ws"));
    half.hello();
    half.stream.conn.send_close_notify();
    let _ = half.stream.flush();
    half.stream.sock.shutdown(std::net::Shutdown::Write).expect("ours to end");
    while half.next().is_some() {}
    drop((half, client));
    until_quiet(&running);

    // The server is restarted under its clients, and is away for longer than its drain: a browser comes back meanwhile.
    let mut client = Client::open(proxy, &at("/v1/ws"));
    client.hello();
    let (head, mut stream) = event_source(proxy, &at("/events"));
    assert!(head.contains("\r\nx-accel-buffering: no\r\n") || head.contains("no-transform"), "{head}");
    read_until(&mut stream, "connected");
    running.drain_blocking().expect("no shard has failed");
    while client.next().is_some() {}
    read_until(&mut stream, "fanfare.disconnect");
    for path in ["/healthz", "/v1/sse", "/events/more"] {
        let (status, _) = proxy.ask("GET", &at(path), "");
        assert!((502..=504).contains(&status), "{path}: {status} without a server");
    }
    for path in ["/events", "/events?channel=chat:b", "/events"] {
        let (head, mut stream) = event_source(proxy, &at(path));
        for line in ["access-control-allow-origin: https://page.example", "access-control-allow-credentials: true"] {
            assert!(head.contains(line), "{path}: {head}");
        }
        assert_eq!(read_until(&mut stream, "\n\n"), "retry: 3000\n\n", "{path}");
    }
    running = restart();
    proxy.until_healthy(&at("/healthz"));
    let (_, mut stream) = event_source(proxy, &at("/events"));
    read_until(&mut stream, "connected");
    drop(stream);
    let mut client = Client::open(proxy, &at("/v1/ws"));
    assert_eq!(client.hello(), "127.0.0.2:0 https");
    drop(client);
    until_quiet(&running);
    running.drain_blocking().expect("no shard has failed");
}

/// The configuration of Fanfare, first on the page, at a free port.
fn fanfare_toml(more: &str) -> (String, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let toml = snippets("toml").first().expect("a configuration of Fanfare").clone();
    (replaced(&toml, &[("127.0.0.1:8080", &address)]) + more, address)
}

fn nginx(name: &str, base: &str, more: &str, location: &[(&str, &str)]) {
    let (folder, certificate, port) = (Folder::new(name), certificate(), free_port());
    let (toml, address) = fanfare_toml(more);
    let (pem, key) = (folder.file("cert.pem", &certificate.pem), folder.file("key.pem", &certificate.key));
    let server = replaced(
        snippets("nginx").first().expect("a configuration of nginx"),
        &[
            ("127.0.0.1:8080", &address),
            ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
            ("/etc/ssl/realtime.example.pem", &pem),
            ("/etc/ssl/realtime.example.key", &key),
            ("75s", PROXY_TIMEOUT),
        ],
    );
    let server = replaced(&server, location);
    let own = folder.0.display();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log stderr warn;\nevents {{ }}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {own};\nproxy_temp_path {own};\nfastcgi_temp_path {own};\nuwsgi_temp_path {own};\n\
         scgi_temp_path {own};\n{server}}}\n"
    );
    let running = start(&toml, |config| config);
    let config = folder.file("nginx.conf", &config);
    let proxy = Proxy::run(Command::new("nginx").args(["-e", "stderr", "-c", &config]), port, &certificate.pem);
    suite(&proxy, base, running, || start(&toml, |config| config));
}

#[test]
#[ignore = "needs nginx: cargo xtask test --only proxies"]
fn nginx_passes_everything_on() {
    nginx("nginx", "", "", &[]);
}

#[test]
#[ignore = "needs nginx: cargo xtask test --only proxies"]
fn nginx_passes_a_path_on() {
    let location =
        [("location / {", "location /realtime/ {"), ("location = /events {", "location = /realtime/events {")];
    nginx("nginx-path", "/realtime", "base_path = \"/realtime\"\n", &location);
}

#[test]
#[ignore = "needs Caddy: cargo xtask test --only proxies"]
fn caddy_passes_everything_on() {
    let (folder, port) = (Folder::new("caddy"), free_port());
    let (toml, address) = fanfare_toml("");
    let site =
        replaced(snippets("caddyfile").first().expect("a configuration of Caddy"), &[("127.0.0.1:8080", &address)]);
    let own = folder.0.display().to_string();
    // Certificates of an authority of its own, in place of one that would have to reach this machine.
    let global = format!(
        "{{\nadmin off\nlocal_certs\nskip_install_trust\nauto_https disable_redirects\nhttps_port {port}\n\
         default_bind 127.0.0.1\nstorage file_system {own}\n}}\n"
    );
    let file = folder.file("Caddyfile", &format!("{global}{site}"));
    let running = start(&toml, |config| config);
    let mut command = Command::new("caddy");
    command.args(["run", "--config", &file, "--adapter", "caddyfile"]);
    command.env("HOME", &own).env("XDG_DATA_HOME", &own).env("XDG_CONFIG_HOME", &own).stderr(Stdio::null());
    let mut proxy = Proxy::run(&mut command, port, "");
    proxy.root = read_to_string(folder.0.join("pki/authorities/local/root.crt")).expect("its root certificate");
    suite(&proxy, "", running, || start(&toml, |config| config));
}

#[test]
#[ignore = "needs HAProxy: cargo xtask test --only proxies"]
fn haproxy_passes_everything_on() {
    let (folder, certificate, port) = (Folder::new("haproxy"), certificate(), free_port());
    let (toml, address) = fanfare_toml("");
    let both = folder.file("both.pem", &format!("{}{}", certificate.pem, certificate.key));
    let config = replaced(
        snippets("haproxy").first().expect("a configuration of HAProxy"),
        &[
            ("127.0.0.1:8080", &address),
            ("bind :443", &format!("bind 127.0.0.1:{port}")),
            ("/etc/ssl/realtime.example.pem", &both),
            ("75s", PROXY_TIMEOUT),
            // A server that has come back is noticed sooner.
            (" check\n", " check inter 200ms\n"),
        ],
    );
    let running = start(&toml, |config| config);
    let file = folder.file("haproxy.cfg", &config);
    let proxy = Proxy::run(Command::new("haproxy").args(["-db", "-f", &file]), port, &certificate.pem);
    suite(&proxy, "", running, || start(&toml, |config| config));
}

/// TLS passes through, and the header of the PROXY protocol tells the client's address and port.
#[test]
#[ignore = "needs HAProxy: cargo xtask test --only proxies"]
fn haproxy_tells_the_client_by_the_proxy_protocol() {
    let (folder, certificate, port, behind) = (Folder::new("haproxy-tcp"), certificate(), free_port(), free_port());
    let toml = snippets("toml").into_iter().find(|block| block.contains("proxy_protocol")).expect("a configuration");
    let proxied = format!("127.0.0.1:{behind}");
    // Not every address of this machine: 127.0.0.2 is a client.
    let only = ("\"loopback\"", "\"127.0.0.1\"");
    let toml = replaced(&toml, &[("127.0.0.1:8443", &proxied), ("127.0.0.1:8080", "127.0.0.1:0"), only]);
    let tls = Tls::from_pem(certificate.pem.as_bytes(), certificate.key.as_bytes()).expect("a pair");
    let _running = start(&toml, |config| Config { tls: Some(tls), hosts: fanfare::Hosts::Any, ..config });
    let config = snippets("haproxy-tcp").first().expect("a configuration of HAProxy").clone();
    let listen = format!("bind 127.0.0.1:{port}");
    for version in ["send-proxy-v2", "send-proxy"] {
        let pairs = [("127.0.0.1:8443", &*proxied), ("bind :443", &*listen), ("send-proxy-v2", version)];
        let file = folder.file("haproxy.cfg", &replaced(&config, &pairs));
        let proxy = Proxy::run(Command::new("haproxy").args(["-db", "-f", &file]), port, &certificate.pem);
        let mut client = Client::open(&proxy, "/v1/ws");
        let own = client.stream.sock.local_addr().expect("bound");
        assert_eq!(client.hello(), format!("{own} https"), "{version}");
        client.publish("chat:a", "hello");
        assert_eq!(proxy.ask("GET", "/healthz", "").0, 200, "{version}");
    }
}
