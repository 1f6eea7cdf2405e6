//! The application's side: a small HTTP server that keeps what it was asked, checks its signature, and answers as the
//! test says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver as Queue, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A test fails after so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request of the server.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether one of its signatures is that of this secret, by a second implementation.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let (id, at) = (self.header("webhook-id").unwrap(), self.header("webhook-timestamp").unwrap());
        let message = format!("{id}.{at}.{}", self.text);
        let expected = format!("v1,{}", STANDARD.encode(sign(&key, message.as_bytes())));
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().abs_diff(at.parse().unwrap());
        age < 300 && self.header("webhook-signature").unwrap().split(' ').any(|one| one == expected)
    }
}

/// HMAC (RFC 2104) by hand.
fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::new_with_prefix(pad(0x36)).chain_update(message).finalize();
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner).finalize().into()
}

/// How it answers.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// 200 with this JSON.
    Json(Value),
    /// Any bytes of HTTP.
    Raw(String),
    /// Any bytes of HTTP, and then the connection is closed.
    Cut(String),
    /// Nothing, and the connection stays open.
    Nothing,
    /// Nothing, and the connection is closed.
    Hangup,
}

impl Says {
    pub(crate) fn result(result: Value) -> Self {
        Says::Json(json!({ "result": result }))
    }

    pub(crate) fn error(code: &str, message: &str) -> Self {
        Says::Json(json!({"error": {"code": code, "message": message}}))
    }

    /// A status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Says::Raw(format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n"))
    }
}

type Answer = Box<dyn Fn(&Asked) -> Says + Send>;

/// See the module's description. Its threads end with the test's process.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Mutex<Queue<Asked>>,
    connections: Arc<AtomicUsize>,
    /// Connections that were answered with [`Says::Nothing`]: they must not close.
    _held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Receiver {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Says + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let (sender, asked) = channel();
        let (connections, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let shared = (answer.clone(), connections.clone(), held.clone());
        std::thread::spawn(move || {
            let (answer, connections, held) = shared;
            for socket in listener.incoming() {
                connections.fetch_add(1, SeqCst);
                let (answer, sender, held) = (answer.clone(), sender.clone(), held.clone());
                std::thread::spawn(move || serve(socket.unwrap(), &answer, &sender, &held));
            }
        });
        Receiver { address, answer, asked: Mutex::new(asked), connections, _held: held }
    }

    /// One that allows everything, and identifies a client by its token.
    pub(crate) fn kind() -> Self {
        Self::new(|asked| match asked.body["type"].as_str() {
            Some("connect" | "refresh") => Says::result(json!({"user": asked.body["token"]})),
            Some("rpc") => Says::result(json!({"data": asked.body["data"]})),
            _ => Says::result(json!({})),
        })
    }

    pub(crate) fn says(&self, answer: impl Fn(&Asked) -> Says + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request that has come.
    pub(crate) fn next(&self) -> Asked {
        self.asked.lock().unwrap().recv_timeout(PATIENCE).expect("the server asks")
    }

    /// Requests that have come and were not taken.
    pub(crate) fn rest(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().try_iter().collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

fn serve(socket: TcpStream, answer: &Mutex<Answer>, asked: &Sender<Asked>, held: &Mutex<Vec<TcpStream>>) {
    let mut writer = socket.try_clone().unwrap();
    let mut reader = BufReader::new(socket);
    while let Some(request) = read(&mut reader) {
        let says = answer.lock().unwrap()(&request);
        let _ = asked.send(request);
        let bytes = match says {
            Says::Json(value) => {
                let body = value.to_string();
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            Says::Raw(bytes) => bytes,
            Says::Nothing => return held.lock().unwrap().push(writer),
            Says::Cut(bytes) => return drop(writer.write_all(bytes.as_bytes())),
            Says::Hangup => return,
        };
        if writer.write_all(bytes.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let path = first.strip_prefix("POST ")?.split(' ').next()?.to_owned();
    let mut headers = Vec::new();
    while let Some(header) = line().filter(|line| !line.is_empty()) {
        let (name, value) = header.split_once(": ")?;
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let text = String::from_utf8(body).ok()?;
    Some(Asked { path, headers, body: serde_json::from_str(&text).ok()?, text })
}
