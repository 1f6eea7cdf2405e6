//! The servers that take part, and the way to start each.
//!
//! Every server is an ordinary program that gets an address and serves one role on it. The caller gives Fanfare's
//! command line, so that a renamed flag needs no change here; the peers are the scripts in `crates/bench/peers`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use thiserror::Error;

use crate::load::dialect::Dialect;

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum ServerKind {
    /// Ourselves, with one shard.
    Fanfare,
    /// Ourselves, with two shards.
    #[serde(rename = "fanfare-2")]
    #[value(skip)] // not a choice of the command line
    FanfareTwo,
    /// A loop that only writes: the kernel's cost alone.
    Floor,
    /// Bun's own WebSocket server.
    Bun,
    /// The `ws` package on Node.
    Ws,
    /// Socket.IO on Node.
    SocketIo,
    /// Debian's nginx, which speaks TLS in front of a plain Fanfare.
    Nginx,
    /// Ourselves without TLS, beside those that speak it.
    #[value(skip)]
    Plain,
    /// Centrifugo, if its binary is given.
    #[value(skip)]
    Centrifugo,
}

/// The key of the HTTP API in [`Role::Api`].
pub const API_KEY: &str = "key-of-the-benchmark";

/// The role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Role {
    /// The chat on `/`.
    Chat,
    /// Sends every message back.
    Echo,
    /// The native protocol on `/v1/ws`, or as much of it as a publication to subscribers needs.
    Native,
    /// The same, and an HTTP API with [`API_KEY`].
    Api,
    /// The same as `Native` over TLS.
    Tls,
    /// The same as `Native` with permessage-deflate.
    Deflate,
    /// The native protocol with tokens, default limits and a rule with a rate: `serve` as on the internet.
    Guarded,
    /// Rooms of Socket.IO, by the events that Fanfare has built in.
    Rooms,
}

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment.
    pub envs: Vec<(&'static str, String)>,
    /// Files that it needs, with their names, in a folder of its own. In them, and in `args`, `{files}` stands for that
    /// folder, and `{backend}` for the address of the server behind it.
    pub files: Vec<(&'static str, String)>,
    /// The server behind it, with `{backend}` as its own address.
    pub behind: Option<Box<Launch>>,
}

impl Launch {
    /// A program with these arguments, which needs nothing else.
    pub fn of(program: PathBuf, args: Vec<String>) -> Self {
        Launch { program, args, envs: Vec::new(), files: Vec::new(), behind: None }
    }
}

/// A server cannot take part.
#[derive(Debug, Error)]
#[error("{kind} is not there: {} is missing\n\nhint: {hint}", path.display())]
pub struct Absent {
    kind: ServerKind,
    path: PathBuf,
    hint: &'static str,
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Roster {
    /// The release binary `fanfare`.
    pub fanfare: PathBuf,
    /// Its arguments; `{addr}` stands for HOST:PORT, `{shards}` for a number.
    pub fanfare_args: String,
    /// The release build of the example `echo`, called with HOST:PORT.
    pub fanfare_echo: PathBuf,
    /// The binary `centrifugo`, if there is one.
    pub centrifugo: Option<PathBuf>,
    /// The folder of the scripts, with `node_modules` inside.
    pub peers: PathBuf,
    /// This program, which is also the floor.
    pub own: PathBuf,
}

impl ServerKind {
    /// The protocol between the load generator and it.
    pub fn dialect(self, role: Role) -> Dialect {
        match (self, role) {
            (Self::Centrifugo, _) => Dialect::Centrifugo,
            (_, Role::Rooms) => Dialect::Rooms,
            (_, Role::Native | Role::Api | Role::Tls | Role::Deflate | Role::Guarded) => Dialect::Native,
            (Self::SocketIo, _) => Dialect::SocketIo,
            _ => Dialect::Chat,
        }
    }

    /// Whether it can take part in measurements of the native protocol.
    pub fn speaks_native(self) -> bool {
        matches!(self, Self::Fanfare | Self::FanfareTwo | Self::Floor | Self::Bun)
    }

    /// Whether it is measured as a server of the chat and of echoes.
    pub fn serves_chat(self) -> bool {
        matches!(self, Self::Fanfare | Self::Floor | Self::Bun | Self::Ws | Self::SocketIo)
    }

    /// Whether it knows rooms; the floor only knows sockets.
    pub fn joins(self) -> bool {
        self != Self::Floor
    }
}

impl std::fmt::Display for ServerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Fanfare => "fanfare",
            Self::FanfareTwo => "fanfare-2",
            Self::Floor => "floor",
            Self::Bun => "bun",
            Self::Ws => "ws",
            Self::SocketIo => "socketio",
            Self::Nginx => "nginx",
            Self::Plain => "plain",
            Self::Centrifugo => "centrifugo",
        })
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Chat => "chat",
            Self::Echo => "echo",
            Self::Native => "native",
            Self::Api => "api",
            Self::Tls => "tls",
            Self::Deflate => "deflate",
            Self::Guarded => "guarded",
            Self::Rooms => "rooms",
        })
    }
}

impl Roster {
    /// Before the first round: the programs that are missing, and the way to get them.
    pub fn check(&self, kinds: &[ServerKind], role: Role) -> Result<(), Absent> {
        kinds.iter().try_for_each(|&kind| self.launch(kind, role, SocketAddr::from(([127, 0, 0, 1], 0))).map(drop))
    }

    /// The program that is `kind` in `role` on `addr`.
    pub fn launch(&self, kind: ServerKind, role: Role, addr: SocketAddr) -> Result<Launch, Absent> {
        const BUILD: &str = "cargo build --release --package fanfare-cli";
        const BUILD_ECHO: &str = "cargo build --release --package fanfare --example echo";
        const INSTALL: &str = "npm ci --prefix crates/bench/peers";
        let need = |path: PathBuf, hint| match path.exists() {
            true => Ok(path),
            false => Err(Absent { kind, path, hint }),
        };
        let script = |package: &str, name: &str| {
            need(self.peers.join("node_modules").join(package), INSTALL)?;
            Ok(vec![self.peers.join(name).to_string_lossy().into_owned(), role.to_string(), addr.to_string()])
        };
        let shards = if kind == ServerKind::FanfareTwo { "2" } else { "1" };
        let fanfare = |addr: &str, more: &[&str]| -> Result<Launch, Absent> {
            let given = self.fanfare_args.split_whitespace();
            let given = given.map(|arg| arg.replace("{addr}", addr).replace("{shards}", shards));
            let args = given.chain(more.iter().map(|&arg| arg.to_owned())).collect();
            // One client of a measurement sends what many would: the others have no such limits either.
            let off = ["FANFARE__LIMITS__MESSAGES_PER_CONNECTION", "FANFARE__LIMITS__BYTES_PER_CONNECTION"];
            let envs = off.map(|limit| (limit, "off".to_owned())).into();
            Ok(Launch { envs, ..Launch::of(need(self.fanfare.clone(), BUILD)?, args) })
        };
        Ok(match (kind, role) {
            (ServerKind::Fanfare | ServerKind::FanfareTwo, Role::Echo) => {
                Launch::of(need(self.fanfare_echo.clone(), BUILD_ECHO)?, vec![addr.to_string()])
            }
            (ServerKind::Fanfare, Role::Guarded) => Launch {
                files: vec![("fanfare.toml", guarded(addr))],
                ..Launch::of(
                    need(self.fanfare.clone(), BUILD)?,
                    ["serve", "--config", "{files}/fanfare.toml"].map(str::to_owned).into(),
                )
            },
            (ServerKind::Fanfare, Role::Api) => fanfare(&addr.to_string(), &["--api-key", API_KEY])?,
            (ServerKind::Fanfare, Role::Tls) => fanfare(&addr.to_string(), &["--tls"])?,
            (ServerKind::Fanfare | ServerKind::FanfareTwo | ServerKind::Plain, _) => fanfare(&addr.to_string(), &[])?,
            (ServerKind::Floor, _) => {
                Launch::of(self.own.clone(), vec!["floor".to_owned(), role.to_string(), addr.to_string()])
            }
            (ServerKind::Bun, _) => Launch::of(need(bun(&self.peers), INSTALL)?, script("bun", "bun.js")?),
            (ServerKind::Ws, _) => Launch::of("node".into(), script("ws", "ws.js")?),
            (ServerKind::SocketIo, _) => Launch::of("node".into(), script("socket.io", "socketio.js")?),
            (ServerKind::Nginx, _) => {
                let args = ["-e", "stderr", "-c", "{files}/nginx.conf"].map(str::to_owned).into();
                Launch {
                    files: nginx(addr),
                    behind: Some(Box::new(fanfare("{backend}", &[])?)),
                    ..Launch::of(need("/usr/sbin/nginx".into(), "apt-get install nginx-light")?, args)
                }
            }
            (ServerKind::Centrifugo, _) => {
                let given = self.centrifugo.clone().unwrap_or_else(|| "centrifugo".into());
                let program = need(given, "--centrifugo PATH, with a release of version 6")?;
                Launch { envs: centrifugo(addr), ..Launch::of(program, Vec::new()) }
            }
        })
    }
}

/// A server with default limits, for clients with and without tokens.
fn guarded(addr: SocketAddr) -> String {
    format!(
        "listen = [\"{addr}\"]\nshards = 1\n\
         [admin]\nlisten = \"main\"\n\
         [auth]\nanonymous = true\n[auth.keys]\nmain = {{ secret = \"a-secret-of-the-benchmark-of-enough-bytes\" }}\n\
         [[channels]]\nmatch = \"flood:*\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\nhistory_read = \"anyone\"\nrate = \"20/s\"\n\
         [[channels]]\nmatch = \"*\"\nsubscribe = \"anyone\"\npublish = \"subscriber\"\n"
    )
}

/// The configuration of docs/proxies.md, with one worker, and a certificate of the same kind as `fanfare dev --tls`
/// makes.
fn nginx(addr: SocketAddr) -> Vec<(&'static str, String)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a valid name");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {{files}}/{name};\n"))
        .concat();
    let configuration = format!(
        "daemon off;\nworker_processes 1;\nworker_rlimit_nofile 65536;\npid {{files}}/nginx.pid;\n\
         events {{ worker_connections 65536; }}\n\
         http {{\n\
         {temporary}\
         \x20   access_log off;\n\
         \x20   ssl_certificate {{files}}/certificate.pem;\n\
         \x20   ssl_certificate_key {{files}}/key.pem;\n\
         \x20   ssl_protocols TLSv1.2 TLSv1.3;\n\
         \x20   ssl_session_cache shared:TLS:10m;\n\
         \x20   map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
         \x20   upstream fanfare {{ server {{backend}}; }}\n\
         \x20   server {{\n\
         \x20       listen {addr} ssl backlog=4096;\n\
         \x20       location / {{\n\
         \x20           proxy_pass http://fanfare;\n\
         \x20           proxy_http_version 1.1;\n\
         \x20           proxy_set_header Host $http_host;\n\
         \x20           proxy_set_header Upgrade $http_upgrade;\n\
         \x20           proxy_set_header Connection $connection_upgrade;\n\
         \x20           proxy_read_timeout 1h;\n\
         \x20       }}\n\
         \x20   }}\n\
         }}\n"
    );
    vec![
        ("nginx.conf", configuration),
        ("certificate.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
    ]
}

/// Its settings, by variables of version 6: anybody may connect and subscribe, the history is that of `fanfare dev`,
/// and subscribers recover.
fn centrifugo(addr: SocketAddr) -> Vec<(&'static str, String)> {
    let settings = [
        ("CENTRIFUGO_HTTP_SERVER_ADDRESS", addr.ip().to_string()),
        ("CENTRIFUGO_HTTP_SERVER_PORT", addr.port().to_string()),
        ("CENTRIFUGO_CLIENT_INSECURE", "true".to_owned()),
        ("CENTRIFUGO_HTTP_API_KEY", API_KEY.to_owned()),
        ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_HISTORY_SIZE", "100".to_owned()),
        ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_HISTORY_TTL", "60s".to_owned()),
        ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_FORCE_RECOVERY", "true".to_owned()),
        ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_ALLOW_SUBSCRIBE_FOR_CLIENT", "true".to_owned()),
        ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_ALLOW_SUBSCRIBE_FOR_ANONYMOUS", "true".to_owned()),
        ("CENTRIFUGO_LOG_LEVEL", "warn".to_owned()),
    ];
    settings.into()
}

/// Bun's executable. npm unpacks it in a package for the platform. Where npm runs install scripts, that of `bun` moves
/// it into `bun/bin`; otherwise a script that only prints an error lies there. So the place in the platform's package
/// is tried first.
fn bun(peers: &Path) -> PathBuf {
    let modules = peers.join("node_modules");
    ["@oven/bun-linux-x64/bin/bun", "@oven/bun-linux-aarch64/bin/bun"]
        .iter()
        .map(|name| modules.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| modules.join("bun/bin/bun.exe"))
}
