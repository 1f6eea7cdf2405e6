//! `fanfare doctor` through the real nginx, Caddy and HAProxy, well configured and with a mistake each.
//!
//! These tests need the three programs, so they run by `cargo xtask test --only proxies`, and are ignored elsewhere.

mod support;

use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
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

/// Runs it with a configuration in which `LISTEN` and `SERVER` are addresses, and `FOLDER` is a folder of its own.
fn start(program: &str, args: &[&str], file: &str, config: &str, server: &Server) -> Proxy {
    let (folder, free) = (Folder::new(), TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let own = folder.path("").display().to_string();
    let config = config.replace("LISTEN", &format!("127.0.0.1:{port}")).replace("SERVER", &server.address);
    folder.write(file, &config.replace("FOLDER", own.trim_end_matches('/')));
    let mut command = Command::new(program);
    command.args(args).arg(folder.path(file)).env("HOME", &own).env("XDG_DATA_HOME", &own).env("XDG_CONFIG_HOME", &own);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the proxy");
    let mut proxy = Proxy { child, url: format!("http://127.0.0.1:{port}"), _folder: folder };
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let ended = proxy.child.try_wait().expect("a child");
        assert!(ended.is_none() && Instant::now() < deadline, "{program} does not listen: {ended:?}\n{config}");
        std::thread::yield_now();
    }
    proxy
}

fn nginx(server: &Server, location: &str) -> Proxy {
    let config = format!(
        "daemon off;\nmaster_process off;\npid FOLDER/pid;\nerror_log stderr;\nevents {{ }}\nhttp {{\naccess_log off;\n\
         client_body_temp_path FOLDER;\nproxy_temp_path FOLDER;\nfastcgi_temp_path FOLDER;\nuwsgi_temp_path FOLDER;\n\
         scgi_temp_path FOLDER;\nmap $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
         server {{ listen LISTEN; location / {{ proxy_pass http://SERVER; {location} }} }}\n}}\n"
    );
    start("nginx", &["-e", "stderr", "-c"], "nginx.conf", &config, server)
}

/// The lines of docs/proxies.md that matter without TLS.
const NGINX: &str = "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; \
                     proxy_set_header Connection $connection_upgrade;";

fn haproxy(server: &Server, time: &str) -> Proxy {
    let config = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client {time}\n timeout server {time}\n timeout tunnel {time}\n\
         listen realtime\n bind LISTEN\n server one SERVER\n"
    );
    start("haproxy", &["-db", "-f"], "haproxy.cfg", &config, server)
}

fn caddy(server: &Server, more: &str) -> Proxy {
    let config = format!(
        "{{\n admin off\n auto_https off\n storage file_system FOLDER\n}}\nhttp://LISTEN {{\n reverse_proxy SERVER {{\n {more}\n }}\n}}\n"
    );
    start("caddy", &["run", "--adapter", "caddyfile", "--config"], "Caddyfile", &config, server)
}

fn server() -> Server {
    Folder::new().start(&["dev", "--listen", "127.0.0.1:0", "--api-key", "the-key-of-the-tests"])
}

/// The codes of the findings, and the status.
fn codes(proxy: &Proxy, more: &[&str]) -> (Vec<String>, Option<i32>) {
    let said = Folder::new().run(&[&["doctor", &proxy.url, "--json", "--channel", "quiet"], more].concat());
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let findings = report["findings"].as_array().expect("a list");
    let codes: Vec<_> = findings.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect();
    println!("{report}");
    (codes, said.status)
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
