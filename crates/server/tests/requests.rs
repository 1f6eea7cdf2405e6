//! The destination of a request: `Host`, the target's form, the served hosts and the allowed pages. The first request
//! of a connection and a later one are judged alike, for pages, the API, probes and upgrades, on every port.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

mod support;

use fanfare::{Address, AdminOn, ApiKey, Config, Echo, Fanfare, Hosts, Origins, Running};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use support::{DEADLINE, Response, Server, config, connect, patient_chat, response};

const KEY: &str = "a-key-of-sixteen-characters";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The server's default configuration for hosts.
fn plain() -> Config {
    Config { hosts: Hosts::ByListener, ..config() }
}

fn server(config: Config) -> Server {
    let page = axum::Router::new().route("/page", axum::routing::any(seen));
    let builder = Fanfare::builder(()).config(config).admin(AdminOn::MainPort).fallback(page);
    Server::of(builder.api_key(ApiKey::new("backend", KEY).unwrap()).protocol("/echo", Echo::default()))
}

/// A page's view of a request.
async fn seen(request: axum::extract::Request) -> String {
    let host = request.headers().get("host").map_or("-", |host| host.to_str().unwrap());
    format!("{} for {host}\n", request.uri())
}

/// Asks on a fresh connection, or with `later` after another request.
fn ask(address: SocketAddr, request: &str, later: bool) -> (TcpStream, Response) {
    let mut socket = connect(address);
    if later {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(response(&mut socket).status(), 200);
    }
    socket.write_all(request.as_bytes()).unwrap();
    let answer = response(&mut socket);
    (socket, answer)
}

/// The same request to every part that answers: a name, the request, and the status if it is allowed. `target` makes
/// the request's target of a path; `rest` has all headers except those that an upgrade needs.
fn everywhere(target: impl Fn(&str) -> String, version: &str, rest: &str) -> Vec<(&'static str, String, u16)> {
    let get = |path: &str| format!("GET {} HTTP/{version}\r\n{rest}\r\n", target(path));
    let upgraded = if version == "1.1" { 101 } else { 426 };
    vec![
        ("a page", get("/page"), 200),
        ("nothing", get("/nowhere"), 404),
        ("a probe", get("/healthz"), 200),
        ("another probe", get("/readyz"), 200),
        ("metrics", get("/metrics"), 200),
        ("the API's document", get("/api/openapi.json"), 200),
        (
            "the API",
            get("/api/v1/info")
                .replace("GET", "POST")
                .replace("\r\n\r\n", &format!("\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 0\r\n\r\n")),
            200,
        ),
        ("an upgrade", format!("GET {} HTTP/{version}\r\n{UPGRADE}{rest}\r\n", target("/echo")), upgraded),
    ]
}

/// RFC 9112 §3.2.
#[test]
fn a_request_of_http11_has_one_good_host() {
    let server = server(plain());
    type Row<'a> = (&'a str, &'a str, &'a str, Option<(u16, &'a str)>);
    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        ("good", "1.1", "Host: localhost\r\n", None),
        ("in another case", "1.1", "hOST:LOCALHOST.:8080 \r\n", None),
        ("an address", "1.1", "Host: 192.0.2.1:80\r\n", None),
        ("of IPv6", "1.1", "Host: [::1]\r\n", None),
        ("none", "1.1", "", Some((400, "no `Host`"))),
        ("empty", "1.1", "Host:\r\n", Some((400, "is empty"))),
        ("two", "1.1", "Host: localhost\r\nHost: evil.example\r\n", Some((400, "more than one"))),
        ("the same twice", "1.1", "Host: localhost\r\nX-Y: z\r\nhost: localhost\r\n", Some((400, "more than one"))),
        ("a space in it", "1.1", "Host: local host\r\n", Some((400, "local host"))),
        ("a path", "1.1", "Host: localhost/x\r\n", Some((400, "localhost/x"))),
        ("a scheme", "1.1", "Host: http://localhost\r\n", Some((400, "http://localhost"))),
        ("a user", "1.1", "Host: me@localhost\r\n", Some((400, "me@localhost"))),
        ("no port", "1.1", "Host: localhost:http\r\n", Some((400, "port"))),
        ("no number of a port", "1.1", "Host: localhost:65536\r\n", Some((400, "port"))),
        ("no address", "1.1", "Host: [::g]\r\n", Some((400, "IPv6"))),
        ("no text", "1.1", "Host: b\u{fc}cher.example\r\n", Some((400, "character"))),
        ("another one", "1.1", "Host: evil.example\r\n", Some((421, "`hosts`"))),
        ("HTTP/1.0 without", "1.0", "", None),
        ("HTTP/1.0 with", "1.0", "Host: localhost\r\n", None),
        ("HTTP/1.0 with two", "1.0", "Host: localhost\r\nHost: localhost\r\n", Some((400, "more than one"))),
        ("HTTP/1.0 with a bad one", "1.0", "Host: a b\r\n", Some((400, "a b"))),
        ("HTTP/1.0 with another one", "1.0", "Host: evil.example\r\n", Some((421, "evil.example"))),
    ];
    for (name, version, headers, expected) in rows {
        for (place, request, good) in everywhere(str::to_owned, version, headers) {
            for later in [false, true] {
                let (_, answer) = ask(server.address, &request, later);
                let (status, words) = expected.unwrap_or((good, ""));
                assert_eq!(answer.status(), status, "{name}, {place}, later: {later}: {}", answer.body);
                assert!(answer.body.contains(words), "{name}, {place}, later: {later}: {}", answer.body);
                if expected.is_some() {
                    assert!(answer.header("x-request-id").is_some(), "{name}, {place}: {}", answer.head);
                }
            }
        }
    }
}

/// RFC 9112 §3.2.2: the target's authority replaces `Host`.
#[test]
fn a_target_may_be_a_whole_address() {
    let server = server(plain());
    #[rustfmt::skip]
    let rows: &[(&str, &str, &str, Option<u16>)] = &[
        ("good", "http://localhost", "Host: localhost\r\n", None),
        ("with a port, in capitals", "HTTP://LOCALHOST:8080", "Host: localhost\r\n", None),
        ("behind TLS that ended", "https://localhost", "Host: localhost\r\n", None),
        ("a WebSocket's", "ws://127.0.0.1:8080", "Host: localhost\r\n", None),
        ("it wins over a host that is not served", "http://localhost", "Host: evil.example\r\n", None),
        ("it wins over one that is", "http://evil.example", "Host: localhost\r\n", Some(421)),
        ("Host must be there", "http://localhost", "", Some(400)),
        ("Host must be one", "http://localhost", "Host: a b\r\n", Some(400)),
        ("another scheme", "ftp://localhost", "Host: localhost\r\n", Some(400)),
        ("a user", "http://me@localhost", "Host: localhost\r\n", Some(400)),
    ];
    for (name, authority, headers, expected) in rows {
        for (place, request, good) in everywhere(|path| format!("{authority}{path}"), "1.1", headers) {
            for later in [false, true] {
                let (_, answer) = ask(server.address, &request, later);
                assert_eq!(
                    answer.status(),
                    expected.unwrap_or(good),
                    "{name}, {place}, later: {later}: {}",
                    answer.body
                );
            }
        }
    }
    let request = "GET http://LocalHost:81/page?a=b HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    for later in [false, true] {
        assert_eq!(ask(server.address, request, later).1.body, "/page?a=b for LocalHost:81\n", "a page sees one form");
    }
}

#[test]
fn other_targets_and_bad_heads_are_refused_alike_first_and_later() {
    let server = server(plain());
    let host = "Host: localhost\r\n";
    let plain = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\n{headers}\r\n");
    let upgrade = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\n{UPGRADE}{headers}\r\n");
    #[rustfmt::skip]
    let rows: &[(&str, String, u16)] = &[
        ("OPTIONS *", plain("OPTIONS *", host), 204),
        ("OPTIONS * of nobody", plain("OPTIONS *", "Host:\r\n"), 204),
        ("OPTIONS * elsewhere", plain("OPTIONS *", "Host: evil.example\r\n"), 421),
        ("OPTIONS * without Host", plain("OPTIONS *", ""), 400),
        ("GET *", plain("GET *", host), 400),
        ("OPTIONS * with an upgrade, which only GET has", upgrade("OPTIONS *", host), 204),
        ("GET * with an upgrade", upgrade("GET *", host), 400),
        ("CONNECT", plain("CONNECT localhost:80", host), 501),
        ("CONNECT with an upgrade", upgrade("CONNECT localhost:80", host), 501),
        ("CONNECT without a port", plain("CONNECT localhost", host), 400),
        ("CONNECT of a path", plain("CONNECT /page", host), 400),
        ("CONNECT without Host", plain("CONNECT localhost:80", ""), 400),
        ("authority form of GET", plain("GET localhost:80", host), 400),
        ("authority form with an upgrade", upgrade("GET localhost:80", host), 400),
        ("no path", plain("GET page", host), 400),
        ("a whole address without a host", plain("GET http:///page", host), 400),
        ("the same with an upgrade", upgrade("GET http:///echo", host), 400),
        ("a brace in the target", plain("GET /{page}", host), 404),
        ("a control character in the target", plain("GET /\u{1}", host), 400),
        ("the same with an upgrade", upgrade("GET /\u{1}", host), 400),
        ("a space before the colon", plain("GET /page", &format!("{host}X-Y : z\r\n")), 400),
        ("the same with an upgrade", upgrade("GET /echo", &format!("{host}X-Y : z\r\n")), 400),
        ("Host with a space before the colon", plain("GET /page", "Host : localhost\r\n"), 400),
        ("a folded line", plain("GET /page", &format!("{host}X-Y: a\r\n b\r\n")), 400),
        ("the same with an upgrade", upgrade("GET /echo", &format!("{host}X-Y: a\r\n b\r\n")), 400),
        ("a line without a colon", plain("GET /page", &format!("{host}X-Y\r\n")), 400),
        ("an empty name", plain("GET /page", &format!("{host}: x\r\n")), 400),
        ("a zero in a value", plain("GET /page", &format!("{host}X-Y: a\0b\r\n")), 400),
        ("the same with an upgrade", upgrade("GET /echo", &format!("{host}X-Y: a\0b\r\n")), 400),
        ("two lengths", plain("POST /page", &format!("{host}Content-Length: 0\r\nContent-Length: 1\r\n")), 400),
        ("no length", plain("POST /page", &format!("{host}Content-Length: +1\r\n")), 400),
        ("a coding that does not end", plain("POST /page", &format!("{host}Transfer-Encoding: gzip\r\n")), 400),
        ("an upgrade with a length", upgrade("GET /echo", &format!("{host}Content-Length: 1\r\n")) + "x", 400),
        ("an upgrade with no length", upgrade("GET /echo", &format!("{host}Content-Length: +1\r\n")), 400),
        ("an upgrade with two lengths", upgrade("GET /echo", &format!("{host}Content-Length: 0\r\nContent-Length: 1\r\n")), 400),
        ("an upgrade with a coding", upgrade("GET /echo", &format!("{host}Transfer-Encoding: chunked\r\n")) + "0\r\n\r\n", 400),
        ("an upgrade with both", upgrade("GET /echo", &format!("{host}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n")) + "0\r\n\r\n", 400),
        ("an upgrade with the length 0", upgrade("GET /echo", &format!("{host}Content-Length: 0\r\n")), 101),
    ];
    for (name, request, status) in rows {
        for later in [false, true] {
            let (_, answer) = ask(server.address, request, later);
            assert_eq!(answer.status(), *status, "{name}, later: {later}: {}", answer.body);
            if *status == 204 {
                assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, OPTIONS"), "{name}");
            }
        }
    }
    // A proxy may go by the length, and the server by the coding (RFC 9112 §6.1): a refusal, and the end.
    let both = plain("POST /page", &format!("{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")) + "0\r\n\r\n";
    for later in [false, true] {
        let (mut socket, answer) = ask(server.address, &both, later);
        assert!(answer.status() == 400 && answer.body.contains("`Transfer-Encoding`"), "{}", answer.body);
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "the end");
    }
}

/// RFC 9112 §3.2.2 and RFC 6454: the hosts that are allowed, for first and later requests, on every listener.
#[test]
fn pages_are_let_in_by_their_origin() {
    let list = ["https://app.example", "capacitor://localhost", "chrome-extension://abc", "null"];
    let listed = Origins::List(list.iter().map(|origin| origin.parse().unwrap()).collect());
    let open = Hosts::Any;
    let same = server(Config { hosts: open.clone(), ..config() });
    let listing = server(Config { hosts: open, origins: listed, ..config() });
    #[rustfmt::skip]
    let rows: &[(&Server, &str, &str, u16)] = &[
        (&same, "app.example:443", "https://app.example", 101),
        (&same, "app.example", "https://app.example:443", 101),
        (&same, "app.example:80", "http://APP.example.", 101),
        (&same, "app.example", "http://app.example", 101),
        (&same, "app.example:443", "http://app.example", 403),
        (&same, "app.example:8080", "https://app.example", 403),
        (&same, "localhost", "capacitor://localhost", 403),
        (&same, "app.example", "null", 403),
        (&listing, "rt.example", "https://app.example:443", 101),
        (&listing, "rt.example", "capacitor://localhost", 101),
        (&listing, "rt.example", "chrome-extension://abc", 101),
        (&listing, "rt.example", "chrome-extension://abd", 403),
        (&listing, "rt.example", "null", 101),
        (&listing, "rt.example", "http://app.example", 403),
        (&listing, "rt.example", "https://app.example\r\nOrigin: https://evil.example", 403),
    ];
    for (server, host, origin, status) in rows {
        for later in [false, true] {
            let request = format!("GET /echo HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{UPGRADE}\r\n");
            let (_, answer) = ask(server.address, &request, later);
            assert_eq!(answer.status(), *status, "{host} {origin}, later: {later}: {}", answer.body);
            let sent = origin.rsplit("Origin: ").next().unwrap();
            assert!(
                *status != 403 || (answer.body.contains("`origins`") && answer.body.contains(sent)),
                "{}",
                answer.body
            );
            // The page's origin is compared with the target's authority.
            let request =
                format!("GET http://{host}/echo HTTP/1.1\r\nHost: other\r\nOrigin: {origin}\r\n{UPGRADE}\r\n");
            assert_eq!(ask(server.address, &request, later).1.status(), *status, "{host} {origin}, later: {later}");
        }
    }
}

/// A page of `evil.example` whose name points to this machine has the same host as the request, and is refused
/// everywhere.
#[test]
fn a_rebound_name_is_let_in_nowhere() {
    let servers = [
        ("by default", server(plain()), "evil.example", "127.0.0.1"),
        (
            "in dev",
            server(Config {
                hosts: Hosts::List(vec!["localhost".parse().unwrap()]),
                origins: Origins::Localhost,
                ..config()
            }),
            "evil.example",
            "app.localhost",
        ),
        (
            "with a list",
            server(Config { hosts: Hosts::List(vec!["app.example".parse().unwrap()]), ..config() }),
            "evil.example",
            "APP.example",
        ),
        (
            "with origins",
            server(Config { origins: Origins::List(vec!["https://app.example:8443".parse().unwrap()]), ..plain() }),
            "evil.example",
            "app.example",
        ),
    ];
    for (name, server, bad, good) in &servers {
        for (host, expected) in [(bad, Some(421)), (good, None)] {
            let headers = format!("Host: {host}:8080\r\nOrigin: http://{host}:8080\r\n");
            for (place, request, status) in everywhere(str::to_owned, "1.1", &headers) {
                for later in [false, true] {
                    let (_, answer) = ask(server.address, &request, later);
                    assert_eq!(
                        answer.status(),
                        expected.unwrap_or(status),
                        "{name}, {host}, {place}, later: {later}: {}",
                        answer.body
                    );
                    let is_explained = answer.body.contains("`hosts`") && answer.body.contains(*bad);
                    assert!(expected.is_none() || is_explained, "{name}, {place}: {}", answer.body);
                    let is_json = answer.header("content-type") == Some("application/json");
                    assert!(is_json || !place.contains("API"), "{name}, {place}: {}", answer.head);
                }
            }
        }
    }
    let any = server(Config { hosts: Hosts::Any, ..config() });
    assert_eq!(ask(any.address, "GET /page HTTP/1.1\r\nHost: evil.example\r\n\r\n", false).1.status(), 200);
}

fn start(config: Config, listen: &str) -> Running {
    let server = Fanfare::builder(()).config(config).protocol("/", patient_chat()).build().unwrap();
    server.start(&[listen.parse().unwrap()]).unwrap()
}

#[test]
fn a_listener_on_every_address_serves_any_host_unless_a_list_says_otherwise() {
    let request = "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let listed = Hosts::List(vec!["app.example".parse().unwrap()]);
    for (hosts, status) in [(Hosts::ByListener, 200), (listed, 421)] {
        let running = start(Config { hosts, ..config() }, "0.0.0.0:0");
        let port = running.tcp_address().unwrap().port();
        assert_eq!(ask(([127, 0, 0, 1], port).into(), request, true).1.status(), status);
        running.drain_blocking().unwrap();
    }
}

#[test]
fn a_socket_file_serves_any_host() {
    let path = std::env::temp_dir().join(format!("fanfare-hosts-{}.sock", std::process::id()));
    let listed = Hosts::List(vec!["app.example".parse().unwrap()]);
    let running = start(Config { hosts: listed, ..config() }, &format!("unix:{}", path.display()));
    for (host, status) in [("Host: evil.example\r\n", "200"), ("", "400")] {
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
    running.drain_blocking().unwrap();
}

/// Balancers probe in many ways: by address, and on a port of their choice.
#[test]
fn probes_are_answered_on_both_ports_and_strangers_are_not() {
    let admin: Address = "127.0.0.1:0".parse().unwrap();
    let of_its_own = Server::of(Fanfare::builder(()).config(plain()).admin(AdminOn::Address(admin)));
    let Some(Address::Tcp(admin)) = of_its_own.running().admin_address().cloned() else { panic!("no admin port") };
    let on_main = server(plain());
    #[rustfmt::skip]
    let rows: &[(&str, &str, u16)] = &[
        ("GET", "HTTP/1.1\r\nHost: 10.0.0.7:8080\r\n\r\n", 200),
        ("GET", "HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET", "HTTP/1.0\r\n\r\n", 200),
        ("OPTIONS", "HTTP/1.0\r\n\r\n", 200),
        ("OPTIONS", "HTTP/1.1\r\nHost: [2001:db8::7]\r\n\r\n", 200),
        ("POST", "HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET", "HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET", "HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421),
        ("GET", "HTTP/1.1\r\n\r\n", 400),
        ("OPTIONS", "HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ];
    let all = ["/healthz", "/healthz/", "/readyz", "/readyz/"];
    for (port, address, paths) in [
        ("main", of_its_own.address, &all[..2]),
        ("admin", admin, &all[..]),
        ("one for all", on_main.address, &all[..]),
    ] {
        for path in paths {
            for (method, rest, status) in rows {
                let answer = ask(address, &format!("{method} {path} {rest}"), false).1;
                assert_eq!(answer.status(), *status, "{port}, {method} {path} {rest}: {}", answer.body);
                if *method == "OPTIONS" && *status == 200 {
                    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"), "{port}, {path}");
                }
            }
            let mut socket = connect(address);
            socket.write_all(format!("HEAD {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("\r\n\r\n"), "{port}, {path}: {answer}");
        }
        let request = "GET http://localhost/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        assert_eq!(ask(address, request, false).1.status(), 200, "{port}: the whole address");
        let others = [
            ("OPTIONS *", 204),
            ("GET *", 400),
            ("CONNECT localhost:80", 501),
            ("CONNECT /", 400),
            ("GET localhost:80", 400),
        ];
        for (line, status) in others {
            let answer = ask(address, &format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"), false).1;
            assert_eq!(answer.status(), status, "{port}, {line}: {}", answer.body);
        }
    }
    let metrics = |host: &str| ask(admin, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"), false).1.status();
    assert_eq!((metrics("127.0.0.1:8081"), metrics("evil.example")), (200, 421));
    let page = "GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(ask(admin, page, false).1.status(), 421, "also where there is nothing");
}

/// Another server knows its own hosts: only an explicit list is checked, and requests that RFC 9112 forbids are
/// refused.
#[tokio::test(flavor = "multi_thread")]
async fn within_another_server_hosts_are_judged_where_they_are_listed() {
    let listed = || Hosts::List(vec!["app.example".parse().unwrap()]);
    #[rustfmt::skip]
    let rows: Vec<(Hosts, &str, u16, u16)> = vec![
        (Hosts::ByListener, "Host: evil.example\r\n", 200, 101),
        (Hosts::ByListener, "", 400, 400),
        (Hosts::ByListener, "Host: a\r\nHost: b\r\n", 400, 400),
        (Hosts::ByListener, "Host: a b\r\n", 400, 400),
        (listed(), "Host: evil.example\r\n", 421, 421),
        (listed(), "Host: app.example\r\n", 200, 101),
    ];
    for (hosts, headers, page, upgrade) in rows {
        let builder = Fanfare::builder(()).config(Config { hosts, ..config() }).protocol("/echo", Echo::default());
        let (service, running) = builder.build().unwrap().into_service().unwrap();
        let app = axum::Router::new().fallback_service(service);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(axum::serve(listener, app).into_future());
        let clients = tokio::task::spawn_blocking(move || {
            let get = format!("GET /healthz HTTP/1.1\r\n{headers}\r\n");
            assert_eq!(ask(address, &get, false).1.status(), page, "{headers}");
            let get = format!("GET /echo HTTP/1.1\r\n{UPGRADE}{headers}\r\n");
            assert_eq!(ask(address, &get, false).1.status(), upgrade, "{headers}, an upgrade");
        });
        clients.await.unwrap();
        running.drain().await.unwrap();
        serving.abort();
    }
}
