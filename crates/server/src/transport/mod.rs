//! Carrying bytes: sockets, listeners, which connections are let in, and deadlines for a peer that is slow.
//!
//! `listen` opens the listeners of an address, `admission` counts connections against their limits, `places` keeps a
//! few places open for newcomers, `spare` refuses a connection for which there is no file descriptor, `pace` gives an
//! HTTP connection its deadlines, and `upload` gives the body of a request its own. `head` judges the heads of HTTP/1,
//! and `chunks` finds the end of a body in chunks. `taking` tells whether a peer takes what waits for it. `socket` is a
//! connection's socket, of any kind, and `tls` the kind that encrypts.

pub(crate) mod admission;
mod arrivals;
pub(crate) mod chunks;
pub(crate) mod head;
pub(crate) mod listen;
pub(crate) mod listen_on;
pub(crate) mod overload;
pub(crate) mod pace;
pub(crate) mod places;
pub(crate) mod socket;
pub(crate) mod spare;
pub(crate) mod taking;
pub(crate) mod tls;
pub(crate) mod unread;
pub(crate) mod upload;
