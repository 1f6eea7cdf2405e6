//! Listening sockets: for TCP one for each shard on the same address, so that the kernel spreads connections over the
//! shards; for a Unix path one that all shards accept from.
//!
//! The first TCP socket is bound without `SO_REUSEPORT` and gets the option afterwards; the siblings bind with it. So
//! a second copy of the server on the same port fails with `EADDRINUSE` instead of silently taking a share of the
//! connections. A Unix path without a listener is taken over. A path that is in use, or is no socket, is an error.

use crate::config::address::Address;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Connections that the kernel may hold before they are accepted.
const BACKLOG: i32 = 4096;

/// One shard's listener.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// With its file, if the server is to remove it.
    Unix(UnixListener, Option<Arc<SocketFile>>),
}

/// One shard's listener, and how its connections begin.
#[derive(Debug)]
pub(crate) struct ShardListener {
    pub(crate) listener: Listener,
    /// They begin with a header of the PROXY protocol.
    pub(crate) expects_proxy: bool,
}

/// Removes the file of a Unix socket when the last listener of this server is closed: the listeners own it together.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// A successor may have put its own file at the path: then the identity is another.
    is: Option<FileId>,
}

/// Tells one file from another at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        SocketFile { path: path.to_owned(), is: identity(path) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is.is_some() && identity(&self.path) == self.is {
            let _ = std::fs::remove_file(&self.path); // it may be gone, or the directory not ours any more
        }
    }
}

fn identity(path: &Path) -> Option<FileId> {
    std::fs::symlink_metadata(path).ok().map(|file| FileId { device: file.dev(), inode: file.ino() })
}

/// The listeners of one address.
pub(crate) struct Listeners {
    /// With the port that was chosen.
    pub(crate) address: Address,
    /// One for each shard.
    pub(crate) sockets: Vec<Listener>,
}

/// Opens `count` listeners on one address; port 0 is chosen once and shared.
///
/// # Errors
/// The address is in use, not of this machine, or not permitted.
pub(crate) fn listen(address: &Address, count: usize) -> io::Result<Listeners> {
    match address {
        Address::Tcp(address) => {
            let sockets = listen_tcp(*address, count)?;
            let address = Address::Tcp(sockets[0].local_addr()?);
            Ok(Listeners { address, sockets: sockets.into_iter().map(Listener::Tcp).collect() })
        }
        Address::Unix(path) => {
            let first = bind_unix(path)?;
            let file = Some(Arc::new(SocketFile::new(path))); // from here on an error removes the file
            first.set_nonblocking(true)?;
            let mut sockets = Vec::new();
            for _ in 1..count {
                sockets.push(Listener::Unix(first.try_clone()?, file.clone()));
            }
            sockets.push(Listener::Unix(first, file));
            Ok(Listeners { address: address.clone(), sockets })
        }
    }
}

fn listen_tcp(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = socket(address)?;
    first.bind(&address.into())?;
    let bound = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    if count > 1 {
        sockets[0].set_reuse_port(true)?;
        for _ in 1..count {
            let sibling = socket(address)?;
            sibling.set_reuse_port(true)?;
            sibling.bind(&bound.into())?;
            sockets.push(sibling);
        }
    }
    sockets
        .into_iter()
        .map(|socket| {
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

/// True for a socket without a listener: its server ended without removing it.
fn is_left_over(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // a restart does not wait for the old connections' TIME_WAIT
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // the IPv4 address is another entry of the list
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_share_a_port_and_a_second_copy_is_refused() {
        let first = listen_tcp("127.0.0.1:0".parse().expect("valid"), 3).expect("a free port");
        let address = first[0].local_addr().expect("bound");
        assert!(first.iter().all(|l| l.local_addr().expect("bound") == address));
        for count in [1, 3] {
            let refused = listen_tcp(address, count).expect_err("the port is taken");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "a copy with {count} shards");
        }
    }

    #[test]
    fn a_left_over_socket_is_taken_over_and_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("fanfare-listen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let path = folder.join("left-over.sock");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("bound")); // the file stays, as after a crash
        let running = listen(&address, 2).expect("taken over");
        assert_eq!(running.sockets.len(), 2);
        let refused = listen(&address, 1).err().expect("in use");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let mut running = running;
        running.sockets.pop();
        assert!(path.exists(), "another shard still listens");
        drop(running);
        assert!(!path.exists(), "the file goes with its server");
        let running = listen(&address, 1).expect("free");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "a successor's").expect("written");
        drop(running);
        assert!(path.exists(), "what another one has put there is its own");
        std::fs::write(&path, "not a socket").expect("written");
        assert_eq!(listen(&address, 1).err().expect("refused").kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "not a socket");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["127.0.0.1:8080", "[::1]:0", "unix:/run/fanfare.sock", "unix:relative.sock"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        for text in ["", "localhost", "8080", "unix:", "::1:8080x"] {
            assert!(text.parse::<Address>().is_err(), "{text:?} was taken as an address");
        }
    }
}
