//! Where a server listens: an address, a name with a port, or a listener that the program has opened.
//!
//! For an address each shard opens a socket of its own. All shards accept from an opened listener. It keeps its options
//! and is closed when the server ends; the file of a Unix socket stays.

use crate::config::address::Address;
use crate::transport::listen::{Listener, Listeners};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The argument of [`Fanfare::serve`](crate::Fanfare::serve): a text (`127.0.0.1:8080`, `localhost:8080`, `unix:PATH`),
/// an [`Address`](crate::Address), a `SocketAddr`, or a `TcpListener` or `UnixListener` of std or tokio.
#[derive(Debug)]
pub struct ListenOn(pub(crate) Target);

#[derive(Debug)]
pub(crate) enum Target {
    Address(Address),
    /// A name to look up, with a port.
    Name(String),
    Opened(Opened),
    /// tokio did not give its listener back.
    Failed(io::Error),
}

/// A listener that the program has opened.
#[derive(Debug)]
pub(crate) enum Opened {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Opened {
    /// A handle of it for each of `count` shards.
    ///
    /// # Errors
    /// The system gives no further descriptor, or it is no listener.
    pub(crate) fn share(self, count: usize) -> io::Result<Listeners> {
        let address = match &self {
            Opened::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Address::Tcp(listener.local_addr()?)
            }
            Opened::Unix(listener) => {
                listener.set_nonblocking(true)?;
                // One without a name has no path.
                let address = listener.local_addr()?;
                Address::Unix(address.as_pathname().map_or_else(PathBuf::new, PathBuf::from))
            }
        };
        let one = || {
            Ok(match &self {
                Opened::Tcp(listener) => Listener::Tcp(listener.try_clone()?),
                Opened::Unix(listener) => Listener::Unix(listener.try_clone()?, None),
            })
        };
        Ok(Listeners { address, sockets: (0..count).map(|_| one()).collect::<io::Result<_>>()? })
    }
}

impl ListenOn {
    /// The address as it was asked for, before the system has chosen a port.
    pub(crate) fn address(&self) -> Option<&Address> {
        match &self.0 {
            Target::Address(address) => Some(address),
            Target::Name(_) | Target::Opened(_) | Target::Failed(_) => None,
        }
    }
}

impl From<&str> for ListenOn {
    fn from(text: &str) -> Self {
        ListenOn(text.parse().map_or_else(|_| Target::Name(text.to_owned()), Target::Address))
    }
}

impl From<String> for ListenOn {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for ListenOn {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Address> for ListenOn {
    fn from(address: Address) -> Self {
        ListenOn(Target::Address(address))
    }
}

impl From<&Address> for ListenOn {
    fn from(address: &Address) -> Self {
        address.clone().into()
    }
}

impl From<SocketAddr> for ListenOn {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp(address).into()
    }
}

impl From<std::net::TcpListener> for ListenOn {
    fn from(listener: std::net::TcpListener) -> Self {
        ListenOn(Target::Opened(Opened::Tcp(listener)))
    }
}

impl From<std::os::unix::net::UnixListener> for ListenOn {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        ListenOn(Target::Opened(Opened::Unix(listener)))
    }
}

impl From<tokio::net::TcpListener> for ListenOn {
    fn from(listener: tokio::net::TcpListener) -> Self {
        listener.into_std().map_or_else(|error| ListenOn(Target::Failed(error)), Into::into)
    }
}

impl From<tokio::net::UnixListener> for ListenOn {
    fn from(listener: tokio::net::UnixListener) -> Self {
        listener.into_std().map_or_else(|error| ListenOn(Target::Failed(error)), Into::into)
    }
}
