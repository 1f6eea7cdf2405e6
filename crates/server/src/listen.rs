//! Listening sockets: one for each shard on the same address, so that the kernel spreads connections over the shards.
//!
//! The first socket is bound without `SO_REUSEPORT` and gets the option afterwards; the siblings bind with it. So a second
//! copy of the server on the same port fails with `EADDRINUSE` instead of silently taking a share of the connections.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel may hold before they are accepted.
const BACKLOG: i32 = 4096;

/// Opens `count` listeners on one address; port 0 is chosen once and shared.
///
/// # Errors
/// The address is in use, not of this machine, or not permitted.
pub(crate) fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
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
        let first = listen("127.0.0.1:0".parse().expect("valid"), 3).expect("a free port");
        let address = first[0].local_addr().expect("bound");
        assert!(first.iter().all(|l| l.local_addr().expect("bound") == address));
        for count in [1, 3] {
            let refused = listen(address, count).expect_err("the port is taken");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "a copy with {count} shards");
        }
    }
}
