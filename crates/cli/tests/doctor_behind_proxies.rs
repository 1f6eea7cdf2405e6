//! `fanfare doctor` through the real nginx, Caddy and HAProxy, well configured and with a mistake each.
//!
//! These tests need the three programs, so they run by `cargo xtask test --only proxies`, and are ignored elsewhere.

mod support;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use support::{DEADLINE, Folder, Server};

/// A running proxy, ended with this value.
struct Proxy {
    child: Child,
    url: String,
    _folder: Folder,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// Runs it with a configuration in which `LISTEN` and `SERVER` are addresses, and `FOLDER` is a folder of its own. It
/// listens at `host`, by `scheme`.
fn start(
    program: &str,
    args: &[&str],
    file: &str,
    config: &str,
    (scheme, host): (&str, IpAddr),
    server: &str,
) -> Proxy {
    let (folder, free) = (Folder::new(), TcpListener::bind((host, 0)).expect("a free port"));
    let listen = free.local_addr().expect("bound");
    drop(free);
    let own = folder.path("").display().to_string();
    let config = config.replace("LISTEN", &listen.to_string()).replace("SERVER", server);
    folder.write(file, &config.replace("FOLDER", own.trim_end_matches('/')));
    let mut command = Command::new(program);
    command.args(args).arg(folder.path(file)).env("HOME", &own).env("XDG_DATA_HOME", &own).env("XDG_CONFIG_HOME", &own);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the proxy");
    let name = if scheme == "https" { format!("localhost:{}", listen.port()) } else { listen.to_string() };
    let mut proxy = Proxy { child, url: format!("{scheme}://{name}"), _folder: folder };
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(listen).is_err() {
        let ended = proxy.child.try_wait().expect("a child");
        assert!(ended.is_none() && Instant::now() < deadline, "{program} does not listen: {ended:?}\n{config}");
        std::thread::yield_now();
    }
    proxy
}

const HERE: (&str, IpAddr) = ("http", IpAddr::V4(Ipv4Addr::LOCALHOST));
/// The doctor's own address is not that of the proxy, which is here at 127.0.0.1 for the server.
const OVER_IPV6: (&str, IpAddr) = ("http", IpAddr::V6(Ipv6Addr::LOCALHOST));
const TLS: (&str, IpAddr) = ("https", IpAddr::V4(Ipv4Addr::LOCALHOST));

/// nginx with these lines of its `server`.
fn nginx_of(at: (&str, IpAddr), lines: &str, server: &str) -> Proxy {
    let config = format!(
        "daemon off;\nmaster_process off;\npid FOLDER/pid;\nerror_log stderr;\nevents {{ }}\nhttp {{\naccess_log off;\n\
         client_body_temp_path FOLDER;\nproxy_temp_path FOLDER;\nfastcgi_temp_path FOLDER;\nuwsgi_temp_path FOLDER;\n\
         scgi_temp_path FOLDER;\nmap $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
         server {{\n{lines}\n}}\n}}\n"
    );
    start("nginx", &["-e", "stderr", "-c"], "nginx.conf", &config, at, server)
}

fn nginx(server: &Server, location: &str) -> Proxy {
    nginx_of(HERE, &in_nginx(location), &server.address)
}

fn in_nginx(location: &str) -> String {
    format!("listen LISTEN; location / {{ proxy_pass http://SERVER;\n{location}\n}}")
}

/// The lines of docs/proxies.md that matter without TLS.
const NGINX: &str = "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; \
                     proxy_set_header Connection $connection_upgrade;";

/// HAProxy with these lines, of which `times` are of its `defaults`.
fn haproxy_of(at: (&str, IpAddr), times: &str, lines: &str, server: &str) -> Proxy {
    let config = format!("defaults\nmode http\ntimeout connect 5s\n{times}\nlisten realtime\n{lines}\n");
    start("haproxy", &["-db", "-f"], "haproxy.cfg", &config, at, server)
}

const HAPROXY: &str = "bind LISTEN\nserver one SERVER";

fn times(time: &str) -> String {
    format!("timeout client {time}\ntimeout server {time}\ntimeout tunnel {time}")
}

fn haproxy(server: &Server, time: &str) -> Proxy {
    haproxy_of(HERE, &times(time), HAPROXY, &server.address)
}

/// Caddy with these lines of its site.
fn caddy_of(at: (&str, IpAddr), lines: &str, server: &str) -> Proxy {
    let config = format!(
        "{{\n admin off\n auto_https off\n storage file_system FOLDER\n}}\n{}://LISTEN {{\n{lines}\n}}\n",
        at.0
    );
    start("caddy", &["run", "--adapter", "caddyfile", "--config"], "Caddyfile", &config, at, server)
}

fn caddy(server: &Server, more: &str) -> Proxy {
    caddy_of(HERE, &in_caddy(more), &server.address)
}

fn in_caddy(more: &str) -> String {
    format!("reverse_proxy SERVER {{\n {more}\n}}")
}

fn server() -> Server {
    server_with(&[])
}

fn server_with(more: &[&str]) -> Server {
    let words = ["dev", "--listen", "127.0.0.1:0", "--api-key", "the-key-of-the-tests"];
    Folder::new().start(&[&words[..], more].concat())
}

fn report(proxy: &Proxy, more: &[&str]) -> (Value, Option<i32>) {
    let said = Folder::new().run(&[&["doctor", &proxy.url, "--json", "--channel", "quiet"], more].concat());
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    println!("{report}");
    (report, said.status)
}

fn findings(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect()
}

/// The codes of the findings, and the status.
fn codes(proxy: &Proxy, more: &[&str]) -> (Vec<String>, Option<i32>) {
    let (report, status) = report(proxy, more);
    (findings(&report), status)
}

/// The mistake of a configuration is found, and the line that is printed for it is the remedy: `proxy` makes the
/// configuration with the mistake, and then with the line in its place. (A line that says what to remove is none.)
fn mended(code: &str, program: &str, words: &[&str], proxy: impl Fn(Option<&str>) -> Proxy) {
    let (bad, _) = report(&proxy(None), words);
    let finding = bad["findings"].as_array().expect("a list").iter().find(|finding| finding["code"] == code);
    let finding = finding.unwrap_or_else(|| panic!("{program}: {code} is not found: {bad}"));
    let lines = finding["lines"].as_array().expect("a list");
    let line = lines.iter().find(|line| line["program"] == program).unwrap_or_else(|| panic!("{program}: {finding}"));
    let line = line["text"].as_str().expect("a text");
    let line = if line.starts_with("# remove") { "" } else { line };
    let (good, _) = report(&proxy(Some(line)), words);
    assert!(!findings(&good).iter().any(|found| found == code), "{program}: {line:?} does not mend {code}: {good}");
    for transport in good["transports"].as_array().expect("a list") {
        assert!(
            transport["state"] == "works" || findings(&good).iter().any(|it| it == "upgrade_stripped"),
            "{code}: {good}"
        );
    }
}

fn expect(proxy: &Proxy, more: &[&str], codes_expected: &[&str], status: i32) {
    let (found, ended) = codes(proxy, more);
    assert_eq!(
        (found.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), ended),
        (codes_expected, Some(status))
    );
}

#[test]
#[ignore = "needs nginx: cargo xtask test --only proxies"]
fn nginx_that_buffers_or_strips_is_found() {
    let server = server();
    expect(&nginx(&server, NGINX), &["--idle", "1s"], &[], 0);
    // It holds back answers of HTTP/1.0, unless it heeds the header by which Fanfare forbids that.
    let buffers = "proxy_set_header Host $http_host; proxy_ignore_headers X-Accel-Buffering;";
    let held = ["stream_buffered", "upgrade_stripped"];
    let (mut found, status) = codes(&nginx(&server, buffers), &["--idle", "0", "--timeout", "5s"]);
    found.sort();
    assert_eq!((found, status), (held.map(str::to_owned).to_vec(), Some(1)));
    // As nginx is without any further line: HTTP/1.0, and no `Upgrade`.
    expect(&nginx(&server, ""), &["--idle", "0"], &["upgrade_stripped"], 1);
    let named = Folder::new().start(&[
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--api-key",
        "the-key-of-the-tests",
        "--hosts",
        "other.example",
        "--origins",
        "https://app.example",
    ]);
    let another = NGINX.replace("$http_host", "other.example");
    expect(&nginx(&named, &another), &["--idle", "0"], &["host_rewritten"], 1);
}

#[test]
#[ignore = "needs HAProxy: cargo xtask test --only proxies"]
fn haproxy_that_cuts_idle_connections_is_found() {
    let server = server();
    expect(&haproxy(&server, "75s"), &["--idle", "1s"], &[], 0);
    expect(&haproxy(&server, "2s"), &["--idle", "10s"], &["idle_cut", "poll_cut"], 1);
}

#[test]
#[ignore = "needs Caddy: cargo xtask test --only proxies"]
fn caddy_that_adds_headers_is_found() {
    let server = server();
    expect(&caddy(&server, ""), &["--idle", "1s"], &[], 0);
    let adds = "header_down Cache-Control \"public, max-age=60\"\n header_down +Access-Control-Allow-Origin *";
    let (mut found, status) = codes(&caddy(&server, adds), &["--idle", "0"]);
    found.sort();
    assert_eq!((found, status), (vec!["cors_doubled".to_owned(), "headers_changed".to_owned()], Some(1)));
}

const NO_WATCH: [&str; 4] = ["--idle", "0", "--timeout", "5s"];

#[test]
#[ignore = "needs nginx: cargo xtask test --only proxies"]
fn lines_for_nginx_mend_what_they_are_printed_for() {
    let plain = server();
    let named = server_with(&["--hosts", "other.example", "--origins", "https://app.example"]);
    let believing = server_with(&["--trusted-proxies", "127.0.0.1"]);
    let without = |part: &str| NGINX.replace(part, "");
    let (host, stripped) = ("proxy_set_header Host $http_host;", "proxy_set_header Host $http_host;");
    let x = "proxy_set_header X-Forwarded-For $remote_addr;";
    let gzip = "gzip on; gzip_proxied any; gzip_types text/event-stream application/x-ndjson;";
    let wrong = NGINX.replace("$http_host", "wrong.example");
    let another = NGINX.replace("$http_host", "other.example");
    let more = |lines: &str| format!("{NGINX} {lines}");
    let watch = ["--idle", "6s"];
    // (code, server, with the mistake, without it, words)
    #[rustfmt::skip]
    let rows: [(&str, &Server, String, String, &[&str]); 14] = [
        ("host_not_served", &plain, wrong, without(host), &NO_WATCH),
        ("host_rewritten", &named, another, without(host), &NO_WATCH),
        ("upgrade_stripped", &plain, stripped.to_owned(), stripped.to_owned(), &NO_WATCH),
        ("stream_buffered", &plain, format!("{host} proxy_ignore_headers X-Accel-Buffering;"),
            format!("{host} proxy_ignore_headers X-Accel-Buffering;"), &NO_WATCH),
        ("stream_compressed", &plain, more(gzip), NGINX.to_owned(), &NO_WATCH),
        ("headers_changed", &plain, more("proxy_hide_header Cache-Control; expires 1h;"), NGINX.to_owned(), &NO_WATCH),
        ("last_event_id_stripped", &plain, more("proxy_set_header Last-Event-ID \"\";"), NGINX.to_owned(), &NO_WATCH),
        ("cors_doubled", &plain, more("add_header Access-Control-Allow-Origin *;"), NGINX.to_owned(), &NO_WATCH),
        ("send_fails", &plain, more("limit_except GET { deny all; }"), NGINX.to_owned(), &NO_WATCH),
        ("body_limited", &plain, more("client_max_body_size 10;"), NGINX.to_owned(), &NO_WATCH),
        ("idle_cut", &plain, more("proxy_read_timeout 2s;"), NGINX.to_owned(), &watch),
        ("poll_cut", &plain, more("proxy_read_timeout 2s;"), NGINX.to_owned(), &watch),
        ("address_of_proxy", &believing, NGINX.to_owned(), NGINX.to_owned(), &NO_WATCH),
        ("address_forgeable", &believing, more(x), NGINX.to_owned(), &NO_WATCH),
    ];
    for (code, server, bad, good, words) in rows {
        let at = if code.starts_with("address") { OVER_IPV6 } else { HERE };
        mended(code, "nginx", words, |line| {
            let location = line.map_or(bad.clone(), |line| format!("{good}\n{line}\n"));
            nginx_of(at, &in_nginx(&location), &server.address)
        });
    }
    let nobody = "proxy_pass http://127.0.0.1:1;";
    mended("server_down", "nginx", &NO_WATCH, |line| {
        let pass = line.unwrap_or(nobody).replace("127.0.0.1:8080", &plain.address);
        nginx_of(HERE, &format!("listen LISTEN; location / {{ {pass} {NGINX} }}"), &plain.address)
    });
    let below = server_with(&["--base-path", "/realtime"]);
    mended("wrong_path", "nginx", &NO_WATCH, |line| {
        let takes_it_off = "location /realtime/ { proxy_pass http://SERVER/; }";
        let location = line.unwrap_or(takes_it_off).replace("http://fanfare", "http://SERVER");
        let mut proxy = nginx_of(HERE, &format!("listen LISTEN; {NGINX} {location}"), &below.address);
        proxy.url += "/realtime";
        proxy
    });
}

#[test]
#[ignore = "needs HAProxy: cargo xtask test --only proxies"]
fn lines_for_haproxy_mend_what_they_are_printed_for() {
    let (plain, believing) = (server(), server_with(&["--trusted-proxies", "127.0.0.1"]));
    let with = |at, server: &Server, lines: &str| {
        haproxy_of(at, &times("75s"), &format!("{HAPROXY}\n{}", lines.replace("; ", "\n")), &server.address)
    };
    for (code, mistake) in [
        ("upgrade_stripped", "http-request del-header Upgrade"),
        ("cors_doubled", "http-response add-header Access-Control-Allow-Origin *"),
    ] {
        mended(code, "HAProxy", &NO_WATCH, |line| with(HERE, &plain, line.unwrap_or(mistake)));
    }
    for (code, mistake) in [("address_of_proxy", ""), ("address_forgeable", "option forwardfor")] {
        mended(code, "HAProxy", &NO_WATCH, |line| with(OVER_IPV6, &believing, line.unwrap_or(mistake)));
    }
    for code in ["idle_cut", "poll_cut"] {
        mended(code, "HAProxy", &["--idle", "6s"], |line| {
            // Of a line of one time the others are long already.
            let long =
                line.map_or_else(|| times("2s"), |line| format!("{}\n{}", times("75s"), line.replace("; ", "\n")));
            haproxy_of(HERE, &long, HAPROXY, &plain.address)
        });
    }
    mended("server_down", "HAProxy", &NO_WATCH, |line| {
        let server = line.unwrap_or("server one 127.0.0.1:1").replace("127.0.0.1:8080", "SERVER");
        haproxy_of(HERE, &times("75s"), &format!("bind LISTEN\n{server}"), &plain.address)
    });
}

#[test]
#[ignore = "needs Caddy: cargo xtask test --only proxies"]
fn lines_for_caddy_mend_what_they_are_printed_for() {
    let (plain, believing) = (server(), server_with(&["--trusted-proxies", "127.0.0.1"]));
    let named = server_with(&["--hosts", "other.example", "--origins", "https://app.example"]);
    let body = |line: &str| line.trim_start_matches("reverse_proxy … { ").trim_end_matches(" }").to_owned();
    #[rustfmt::skip]
    let rows: [(&str, &Server, &str); 4] = [
        ("host_rewritten", &named, "header_up Host other.example"),
        ("cors_doubled", &plain, "header_down +Access-Control-Allow-Origin *"),
        ("stream_buffered", &plain, "buffer_responses"),
        ("address_forgeable", &believing, ""),
    ];
    for (code, server, mistake) in rows {
        let at = if code.starts_with("address") { OVER_IPV6 } else { HERE };
        mended(code, "Caddy", &NO_WATCH, |line| {
            caddy_of(at, &in_caddy(&line.map_or(mistake.to_owned(), body)), &server.address)
        });
    }
    let gzip = "encode {\n gzip\n minimum_length 1\n match {\n header Content-Type text/event-stream*\n }\n}";
    mended("stream_compressed", "Caddy", &NO_WATCH, |line| {
        caddy_of(HERE, &format!("{}\n{}", line.unwrap_or(gzip), in_caddy("")), &plain.address)
    });
    mended("server_down", "Caddy", &NO_WATCH, |line| {
        let pass = line.unwrap_or("reverse_proxy 127.0.0.1:1").replace("127.0.0.1:8080", "SERVER");
        caddy_of(HERE, &pass, &plain.address)
    });
    let below = server_with(&["--base-path", "/realtime"]);
    mended("wrong_path", "Caddy", &NO_WATCH, |line| {
        let takes_it_off = "handle_path /realtime/* { reverse_proxy 127.0.0.1:8080 }";
        let route = line.unwrap_or(takes_it_off).replace("127.0.0.1:8080", "SERVER");
        let route = route.replace("{ ", "{\n").replace(" }", "\n}");
        let mut proxy = caddy_of(HERE, &route, &below.address);
        proxy.url += "/realtime";
        proxy
    });
}

/// A chain without its middle, and HTTP/2.
#[test]
#[ignore = "needs nginx and HAProxy: cargo xtask test --only proxies"]
fn lines_about_tls_mend_what_they_are_printed_for() {
    let (plain, folder) = (server(), Folder::new());
    let path = |name: &str| folder.path(name).display().to_string();
    Chain::new().write(&folder);
    let words = |ca: &str| vec!["--idle".to_owned(), "0".to_owned(), "--cacert".to_owned(), ca.to_owned()];
    let words = words(&path("root.pem"));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let nginx = |certificate: &str, listen: &str| {
        let (certificate, key) = (path(certificate), path("key.pem"));
        let location = format!("location / {{ proxy_pass http://SERVER; {NGINX} }}");
        let lines = format!("{listen} ssl_certificate {certificate}; ssl_certificate_key {key}; {location}");
        nginx_of(TLS, &lines, &plain.address)
    };
    let haproxy = |file: &str, alpn: &str| {
        let bind = format!("bind LISTEN ssl crt {} {alpn}", path(file));
        haproxy_of(TLS, &times("75s"), &format!("{bind}\nserver one SERVER"), &plain.address)
    };
    mended("certificate_invalid", "nginx", &words, |line| match line {
        None => nginx("leaf.pem", "listen LISTEN ssl http2;"),
        Some(line) => {
            let name = line.strip_prefix("ssl_certificate ").and_then(|it| it.strip_suffix(';')).expect("a file");
            nginx(name, "listen LISTEN ssl http2;")
        }
    });
    mended("certificate_invalid", "HAProxy", &words, |line| match line {
        None => haproxy("leaf-and-key.pem", "alpn h2,http/1.1"),
        Some(line) => haproxy(line.rsplit(' ').next().expect("a file"), "alpn h2,http/1.1"),
    });
    mended("no_http_2", "nginx", &words, |line| {
        nginx("fullchain.pem", &line.unwrap_or("listen 443 ssl;").replace("443", "LISTEN"))
    });
    mended("no_http_2", "HAProxy", &words, |line| {
        let alpn = line.and_then(|line| line.split_once("… ")).map_or("", |(_, alpn)| alpn);
        haproxy("fullchain-and-key.pem", alpn)
    });
}

/// An authority, one that it has signed, and a certificate of that one for `localhost`.
struct Chain {
    root: String,
    middle: String,
    leaf: String,
    key: String,
}

impl Chain {
    fn new() -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let key = || KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(authority("root"), key()).expect("a certificate");
        let middle = CertifiedIssuer::signed_by(authority("middle"), key(), &root).expect("a certificate");
        let (params, key) = (CertificateParams::new(["localhost".to_owned()]).expect("a name"), key());
        let leaf = params.signed_by(&key, &middle).expect("a certificate");
        Chain { root: root.pem(), middle: middle.pem(), leaf: leaf.pem(), key: key.serialize_pem() }
    }

    fn write(&self, folder: &Folder) {
        let Chain { root, middle, leaf, key } = self;
        folder.write("root.pem", root);
        folder.write("key.pem", key);
        folder.write("leaf.pem", leaf);
        folder.write("leaf-and-key.pem", &format!("{leaf}{key}"));
        folder.write("fullchain.pem", &format!("{leaf}{middle}"));
        folder.write("fullchain-and-key.pem", &format!("{leaf}{middle}{key}"));
    }
}
