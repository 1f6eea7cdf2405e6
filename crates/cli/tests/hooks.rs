//! Hooks of the real program: SIGHUP sends them elsewhere and signs them with another secret; over TLS the application
//! must be of an authority that the system names.

mod support;

use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use support::{DEADLINE, Folder, Server};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

const SECRETS: [&str; 2] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"];

/// An application that lets everybody in as this user, and the signatures of the questions that it got.
struct Application {
    url: String,
    signatures: Receiver<String>,
}

impl Application {
    fn start(user: &'static str, tls: Option<Arc<ServerConfig>>) -> Application {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (sender, signatures) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, tls, sender) = (socket.expect("a connection"), tls.clone(), sender.clone());
                std::thread::spawn(move || {
                    let answer = |signature| drop(sender.send(signature));
                    match tls {
                        None => serve(user, socket, answer),
                        Some(tls) => {
                            let session = ServerConnection::new(tls).expect("good settings");
                            serve(user, StreamOwned::new(session, socket), answer);
                        }
                    }
                });
            }
        });
        Application { url: format!("{scheme}://localhost:{port}/hooks"), signatures }
    }

    fn signature(&self) -> String {
        self.signatures.recv_timeout(DEADLINE).expect("it is asked")
    }
}

/// Answers questions until the connection ends.
fn serve(user: &str, stream: impl Read + Write, asked: impl Fn(String)) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut signature) = (0, String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a number"),
                Some(("webhook-signature", value)) => signature = value.to_owned(),
                None if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("the whole body");
        asked(signature);
        let answer = format!("{{\"result\":{{\"user\":{user:?}}}}}");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        let stream = stream.get_mut();
        stream.write_all(format!("{head}{answer}").as_bytes()).expect("written");
        stream.flush().expect("written");
    }
}

fn file(url: &str, more: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\n[admin]\nlisten = \"off\"\n[hooks]\nurl = {url:?}\nask = [\"connect\"]\n{more}\n\
         [[channels]]\nmatch = \"news:*\"\nsubscribe = \"authenticated\"\n"
    )
}

/// Whether a client is let in, and as whom: the answer to its `connect`.
fn connect(server: &Server) -> String {
    let mut socket = TcpStream::connect(&server.address).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    let body = r#"{"type":"connect","id":1,"token":"a token"}"#;
    let head = "POST /v1/poll HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("read");
    answer
}

#[test]
fn sighup_puts_other_addresses_secrets_and_times_in_force() {
    let [first, second] = ["ada", "bob"].map(|user| Application::start(user, None));
    let folder = Folder::with(&file(&first.url, &format!("secret = {:?}", SECRETS[0])));
    let mut server = Server::start(&mut folder.command_that_hears_hangups(&[], &["serve"]));
    assert!(connect(&server).contains("\"user\":\"ada\""));
    let signed = first.signature();
    assert!(signed.starts_with("v1,") && !signed.contains(' '), "{signed}");

    let more = format!("secret = [{:?}, {:?}]\ntimeout = \"2s\"", SECRETS[0], SECRETS[1]);
    folder.write("fanfare.toml", &file(&second.url, &more));
    server.signal(Signal::HUP);
    server.wait_for("of the file are in force");
    for _ in 0..3 {
        assert!(connect(&server).contains("\"user\":\"bob\""), "{}", server.said);
        assert_eq!(second.signature().split(' ').count(), 2, "by each secret");
    }
    assert!(first.signatures.try_recv().is_err(), "it is not asked any more");

    // What is asked needs a restart, and the log says so.
    folder.write("fanfare.toml", &file(&second.url, &more).replace("[\"connect\"]", "[\"connect\", \"publish\"]"));
    server.signal(Signal::HUP);
    server.wait_for("hooks.ask = ");
    // A mistake changes nothing.
    folder.write("fanfare.toml", &file("ftp://nowhere", &more));
    server.signal(Signal::HUP);
    server.wait_for("not reloaded");
    assert!(connect(&server).contains("\"user\":\"bob\""));
    for words in ["hooks.url = ", "hooks.timeout = ", "hooks.secret"] {
        let restarts = server.said.lines().filter(|line| line.contains(words) && line.contains("needs a restart"));
        assert_eq!(restarts.count(), 0, "{words}: {}", server.said);
    }
    assert!(SECRETS.iter().all(|secret| !server.said.contains(secret)), "{}", server.said);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn an_application_over_tls_is_asked_where_its_authority_is_known() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(
        vec![CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM")],
        PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
    );
    let application = Application::start("ada", Some(Arc::new(tls.expect("they fit"))));
    let folder = Folder::with(&file(&application.url, ""));
    folder.write("ca.pem", &chain);
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    folder.write("other.pem", &other.cert.pem());
    for (authority, is_known) in [("ca.pem", true), ("other.pem", false)] {
        let mut command = folder.command(&["serve"]);
        let mut server = Server::start(command.env("SSL_CERT_FILE", folder.path(authority)));
        let answer = connect(&server);
        if is_known {
            assert!(answer.contains("\"user\":\"ada\""), "{answer}");
        } else {
            assert!(answer.contains("hook_unavailable"), "{answer}");
            server.wait_for("a hook gave no valid answer");
            assert!(server.said.contains("TLS with localhost"), "{}", server.said);
        }
        assert_eq!(server.stop(), Some(0));
    }
}
