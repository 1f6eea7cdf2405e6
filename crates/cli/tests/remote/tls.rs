//! The commands against a server behind TLS, as in production: with a company's own certificate authority, through
//! cuts, and against servers with a wrong certificate.

#[path = "../../../client/tests/support/tls.rs"]
mod behind_tls;

use super::support::{Ended, KEY, Server, fanfare, run, run_command, start};
use behind_tls::{Authority, NOW, TlsProxy, Valid};
use serde_json::json;
use std::path::PathBuf;

/// A file that is removed at the end of the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanfare-cli-tls-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("written");
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn every_command_goes_through_tls_and_comes_back_after_a_cut() {
    let (server, authority) = (Server::start(), Authority::new());
    let proxy = TlsProxy::start(server.address, authority.server(&["localhost"], NOW));
    let ca = File::new("ca.pem", &authority.pem());
    let url = format!("https://localhost:{}", proxy.port);
    let subscriber = start(&["subscribe", "a", "--url", &url, "--cacert", ca.path()]);
    assert!(subscriber.note_with("connected to").contains(&format!("connected to {url} as")));
    subscriber.note_with("a: live at ");
    let call = |args: &[&str], stdin: &str| {
        let mut command = fanfare(args);
        command.env("FANFARE_CACERT", ca.path()).env("FANFARE_URL", &url).env("FANFARE_API_KEY", KEY);
        run_command(command, stdin).good()
    };
    call(&["publish", "a"], "1\n2\n");
    assert_eq!([&subscriber.json()["data"], &subscriber.json()["data"]], [&json!(1), &json!(2)]);
    proxy.cut();
    call(&["publish", "a"], "3\n4\n");
    assert!(subscriber.note_with("a: live at ").ends_with("nothing was missed"));
    assert_eq!([&subscriber.json()["data"], &subscriber.json()["data"]], [&json!(3), &json!(4)]);
    // `dev` publishes to a channel of its own after a while.
    assert_eq!(call(&["channels", "--match", "a"], "").lines().count(), 1);
    assert_eq!(call(&["disconnect", "--user", "nobody"], ""), "{\"sessions\":0}\n");
    // Without `--cacert` the system's authorities are trusted; on this system a variable can name their file.
    let mut command = fanfare(&["channels", "--match", "a", "--url", &url, "--api-key", KEY]);
    command.env("SSL_CERT_FILE", ca.path()).env_remove("SSL_CERT_DIR");
    assert_eq!(run_command(command, "").good().lines().count(), 1);
    let mut command = fanfare(&["channels", "--match", "a", "--url", &url, "--api-key", KEY]);
    command.env("SSL_CERT_FILE", "/nowhere/ca.pem").env_remove("SSL_CERT_DIR");
    run_command(command, "").bad(1, &["this system names no certificate authority to trust: ", "hint: install"]);
    // The `wss://` address of a browser's program names the same server.
    let native = format!("wss://localhost:{}/v1/ws", proxy.port);
    run(&["publish", "a", "5", "--url", &native, "--cacert", ca.path(), "--api-key", KEY], "").good();
    assert_eq!(subscriber.json()["data"], json!(5));
}

#[test]
fn an_untrusted_certificate_is_reported_with_the_remedy() {
    let (server, authority) = (Server::start(), Authority::new());
    let ca = File::new("trusted.pem", &authority.pem());
    let both = |url: &str, more: &[&str]| -> [Ended; 2] {
        let subscribe = run(&[&["subscribe", "a", "--url", url], more].concat(), "");
        let publish = run(&[&["publish", "a", "1", "--url", url, "--api-key", KEY], more].concat(), "");
        [subscribe, publish]
    };
    let rows = [
        (
            "another authority",
            Authority::new().server(&["localhost"], NOW),
            "not signed by an authority that is trusted here",
            "--cacert FILE",
        ),
        (
            "another name",
            authority.server(&["fanfare.example"], NOW),
            "is for another name: fanfare.example",
            "--url URL",
        ),
        ("expired", authority.server(&["localhost"], Valid(2020, 2021)), "expired", "clock"),
        ("the authority's own", authority.itself(), "is one for an authority", "let the authority sign"),
    ];
    for (name, config, problem, remedy) in rows {
        let proxy = TlsProxy::start(server.address, config);
        let url = format!("https://localhost:{}", proxy.port);
        for ended in both(&url, &["--cacert", ca.path()]) {
            ended.bad(1, &[&format!("cannot trust {url}: the certificate of localhost"), problem, "hint: ", remedy]);
            assert!(!ended.stderr.contains("trying again"), "{name}: {ended:?}");
        }
    }
    // TLS on one side only.
    let url = format!("https://{}", server.address);
    for ended in both(&url, &["--cacert", ca.path()]) {
        ended.bad(
            1,
            &[&format!("cannot reach {url}: no TLS with"), "hint: without TLS its address begins with http://"],
        );
    }
    let proxy = TlsProxy::start(server.address, authority.server(&["localhost"], NOW));
    let url = format!("http://localhost:{}", proxy.port);
    run(&["subscribe", "a", "--url", &url], "").bad(1, &[&url, "it speaks TLS: write https://"]);
    run(&["publish", "a", "1", "--url", &url, "--api-key", KEY], "").bad(1, &[&url, "is not Fanfare's HTTP API"]);
    // Files given as authorities that hold no certificate, or do not exist.
    let none = File::new("none.pem", "nothing\n");
    for ended in both("https://localhost", &["--cacert", none.path()]) {
        ended.bad(1, &[none.path(), "holds no certificate", "hint: --cacert"]);
    }
    for ended in both("https://localhost", &["--cacert", "/nowhere/ca.pem"]) {
        ended.bad(1, &["cannot read the certificates of /nowhere/ca.pem: No such file", "hint: --cacert"]);
    }
}
