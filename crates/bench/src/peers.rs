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
}

/// The role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Role {
    /// The chat on `/`.
    Chat,
    /// Sends every message back.
    Echo,
    /// The native protocol on `/v1/ws`, or as much of it as a publication to subscribers needs.
    Native,
}

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
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
    /// The folder of the scripts, with `node_modules` inside.
    pub peers: PathBuf,
    /// This program, which is also the floor.
    pub own: PathBuf,
}

impl ServerKind {
    /// The protocol between the load generator and it.
    pub fn dialect(self, role: Role) -> Dialect {
        match (self, role) {
            (_, Role::Native) => Dialect::Native,
            (Self::SocketIo, _) => Dialect::SocketIo,
            _ => Dialect::Chat,
        }
    }

    /// Whether it can take part in measurements of the native protocol.
    pub fn speaks_native(self) -> bool {
        matches!(self, Self::Fanfare | Self::FanfareTwo | Self::Floor | Self::Bun)
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
        })
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Chat => "chat",
            Self::Echo => "echo",
            Self::Native => "native",
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
        Ok(match (kind, role) {
            (ServerKind::Fanfare | ServerKind::FanfareTwo, Role::Chat | Role::Native) => Launch {
                program: need(self.fanfare.clone(), BUILD)?,
                args: self
                    .fanfare_args
                    .split_whitespace()
                    .map(|arg| arg.replace("{addr}", &addr.to_string()).replace("{shards}", shards))
                    .collect(),
            },
            (ServerKind::Fanfare | ServerKind::FanfareTwo, Role::Echo) => {
                Launch { program: need(self.fanfare_echo.clone(), BUILD_ECHO)?, args: vec![addr.to_string()] }
            }
            (ServerKind::Floor, _) => {
                Launch { program: self.own.clone(), args: vec!["floor".to_owned(), role.to_string(), addr.to_string()] }
            }
            (ServerKind::Bun, _) => {
                Launch { program: need(bun(&self.peers), INSTALL)?, args: script("bun", "bun.js")? }
            }
            (ServerKind::Ws, _) => Launch { program: "node".into(), args: script("ws", "ws.js")? },
            (ServerKind::SocketIo, _) => Launch { program: "node".into(), args: script("socket.io", "socketio.js")? },
        })
    }
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
