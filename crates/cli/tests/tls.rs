//! TLS for an operator: two files that SIGHUP renews, or a certificate that the server orders by ACME, here from
//! Pebble, the test server of Let's Encrypt (Debian: `apt-get install pebble`).

mod support;

use fanfare_client::{Client, Trust};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use support::{DEADLINE, Folder, Server};

const CHANNELS: &str = "[[channels]]\nmatch = \"**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n";

/// A certificate for `localhost` that signs itself, with its key; both in PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Publishes over TLS to a server whose certificate must be of this authority.
fn publish(server: &Server, authority: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let port = server.address.rsplit(':').next().expect("a port");
        let trust = Trust::only_pem(authority.as_bytes()).expect("PEM");
        let connecting = Client::builder(format!("https://localhost:{port}")).trust(trust).connect();
        let client = tokio::time::timeout(DEADLINE, connecting).await.expect("an answer");
        let client = client.map_err(|error| format!("{error:?}"))?;
        client.publish("a", &1).await.expect("it is open");
        Ok(())
    })
}

#[test]
fn sighup_renews_the_certificate_or_keeps_the_old_one() {
    let ((first, first_key), (second, second_key)) = (certificate(), certificate());
    let folder = Folder::with(&format!(
        "listen = \"127.0.0.1:0\"\n[admin]\nlisten = \"off\"\n[tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n{CHANNELS}"
    ));
    let put = |chain: &str, key: &str| {
        folder.write("chain.pem", chain);
        folder.write("key.pem", key);
    };
    put(&first, &first_key);
    let mut server = Server::start(&mut folder.command_that_hears_hangups(&[], &["serve"]));
    publish(&server, &first).expect("its certificate");
    put(&second, &second_key);
    server.signal(Signal::HUP);
    server.wait_for("reloaded");
    publish(&server, &first).expect_err("it has another certificate");
    publish(&server, &second).expect("the renewed certificate");
    put(&second, &first_key);
    server.signal(Signal::HUP);
    let said = server.wait_for("tls.certificate");
    assert!(said.contains("do not fit"), "{said}");
    server.wait_for("not reloaded");
    publish(&server, &second).expect("the old one stays");
    assert_eq!(server.stop(), Some(0));
}

/// The certificate of `dev --tls` is in a file, which the commands and curl trust without switching checks off.
#[test]
fn the_certificate_of_dev_can_be_trusted_until_the_server_ends() {
    let folder = Folder::new();
    let words = ["dev", "--tls", "--listen", "127.0.0.1:0", "--api-key", "the-key-of-the-tests"];
    let mut server = Server::start(folder.command(&words).env("XDG_RUNTIME_DIR", folder.path("")));
    let line = server.wait_for("for --cacert: ");
    let path = line.split('\'').nth(1).expect("a quoted path").to_owned();
    assert!(path.starts_with(&folder.path("").display().to_string()), "{line}");
    let pem = std::fs::read_to_string(&path).expect("it is there");
    assert!(pem.contains("BEGIN CERTIFICATE") && !pem.contains("PRIVATE"), "{pem}");
    publish(&server, &pem).expect("its certificate");
    let said = folder.run(&["doctor", &format!("https://{}", server.address), "--cacert", &path, "--idle=0", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((said.status, &report["verdict"]), (Some(0), &serde_json::json!("well")), "{report}");
    let tls = &report["tls"];
    assert!(tls["expires_in_days"].as_u64().is_some_and(|days| (394..=397).contains(&days)), "{tls}");
    assert_eq!(tls["names"], serde_json::json!(["localhost", "127.0.0.1", "::1"]));
    assert!(tls["issuer"].as_str().is_some_and(|issuer| issuer.contains("localhost")), "{tls}");
    let health = format!("https://{}/healthz", server.address);
    let curl = Command::new("curl")
        .args(["-sS", "--cacert", &path, &health])
        .output()
        .expect("this test needs curl: apt-get install curl");
    assert!(curl.status.success(), "{curl:?}");
    assert_eq!(server.stop(), Some(0));
    assert!(!std::path::Path::new(&path).exists(), "nobody should go on trusting it");
}

#[test]
fn the_log_in_json_names_the_file_of_the_certificate_of_dev() {
    let folder = Folder::new();
    let words = ["dev", "--tls", "--listen", "127.0.0.1:0", "--log-format", "json"];
    let server = Server::start(folder.command(&words).env("XDG_RUNTIME_DIR", folder.path("")));
    let line = server.said.lines().find(|line| line.contains("for --cacert")).expect("before the address");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let path = line["certificate"].as_str().expect("a path");
    let pem = std::fs::read_to_string(path).expect("it is there");
    assert!(pem.contains("BEGIN CERTIFICATE"), "{pem}");
    assert_eq!(server.stop(), Some(0));
}

/// Pebble, and the root certificate of this start of it.
struct Pebble {
    child: Child,
    directory: String,
    root: String,
}

impl Pebble {
    /// It proves `localhost` at this port.
    fn start(folder: &Folder, proves_at: u16) -> Pebble {
        let (chain, key) = certificate();
        folder.write("pebble.pem", &chain);
        folder.write("pebble.key", &key);
        let [listen, manage, http] = [(); 3].map(|()| free_port());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{manage}"),
            "certificate": folder.path("pebble.pem"),
            "privateKey": folder.path("pebble.key"),
            "httpPort": http,
            "tlsPort": proves_at,
        }});
        folder.write("pebble.json", &config.to_string());
        let child = Command::new("pebble")
            .args(["-config", "pebble.json"])
            .current_dir(folder.path(""))
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.expect("this test needs Pebble: apt-get install pebble");
        let root = Command::new("curl")
            .args(["-sS", "--retry", "60", "--retry-connrefused", "--retry-delay", "1", "--cacert", "pebble.pem"])
            .arg(format!("https://localhost:{manage}/roots/0"))
            .current_dir(folder.path(""))
            .output()
            .expect("this test needs curl: apt-get install curl");
        let root = String::from_utf8(root.stdout).expect("PEM");
        assert!(root.contains("BEGIN CERTIFICATE"), "{root}");
        Pebble { child, directory: format!("https://localhost:{listen}/dir"), root }
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a free port").port()
}

/// The value of a metric of the admin port.
fn metric(admin: u16, sample: &str) -> Option<u64> {
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", admin)).expect("the admin port");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("written");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap_or_else(|_| panic!("{sample} {value}")))
}

#[test]
fn a_certificate_is_ordered_by_acme_and_kept_for_the_next_start() {
    let folder = Folder::new();
    let (port, admin) = (free_port(), free_port());
    let pebble = Pebble::start(&folder, port);
    let file = format!(
        "listen = \"127.0.0.1:{port}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[tls]\nacme_domains = [\"localhost\"]\nacme_cache = \"acme\"\n\
         acme_directory = \"{}\"\nacme_authority = \"pebble.pem\"\n{CHANNELS}",
        pebble.directory
    );
    folder.write("fanfare.toml", &file);
    let mut server = folder.start(&["serve"]);
    server.wait_for("a new certificate by ACME is in use");
    publish(&server, &pebble.root).expect("a certificate of Pebble");
    let proofs = metric(admin, "fanfare_tls_handshakes_total{result=\"proof\"}");
    assert!(proofs.is_some_and(|count| count >= 1), "the authority has looked: {proofs:?}");
    assert_eq!(metric(admin, "fanfare_tls_handshakes_total{result=\"failed\"}"), Some(0));
    let expires_s = metric(admin, "fanfare_tls_certificate_expires_seconds").expect("it is known");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(expires_s > now, "{expires_s} at {now}");
    assert_eq!(server.stop(), Some(0));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(folder.path("acme")).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o077, 0, "the key is for this user alone");
    let root = pebble.root.clone();
    drop(pebble);
    let mut server = folder.start(&["serve"]);
    server.wait_for("the certificate that was kept is in use");
    publish(&server, &root).expect("the same certificate");
    assert_eq!(metric(admin, "fanfare_tls_certificate_expires_seconds"), Some(expires_s));
    assert_eq!(server.stop(), Some(0));
}
