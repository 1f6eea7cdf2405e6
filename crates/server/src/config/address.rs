//! Where a server listens, TCP or a Unix socket: parsed, and shown as it is written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a server listens: `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/fanfare.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP; port 0 is chosen by the system.
    Tcp(SocketAddr),
    /// A Unix domain socket at this path. The permissions of its directory and the umask decide who may connect.
    Unix(PathBuf),
}

/// The error for a text that is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not an address: write ADDRESS:PORT (127.0.0.1:8080, [::1]:8080) or unix:PATH")]
pub struct InvalidAddress {
    /// The text.
    pub found: String,
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Address::Unix(path.into())),
            Some(_) => Err(InvalidAddress { found: text.to_owned() }),
            None => text.parse().map(Address::Tcp).map_err(|_| InvalidAddress { found: text.to_owned() }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp(address)
    }
}
