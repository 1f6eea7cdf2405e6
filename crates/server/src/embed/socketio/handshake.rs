//! What a client brought when it entered a namespace: its `auth`, and the request that its connection began with.

use crate::embed::answer::Refusal;
use crate::request::{Peer, RequestInfo};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// What a client brought when it entered a namespace: `socket.handshake` in JavaScript. `Debug` does not show `auth`.
#[derive(Clone)]
pub struct Handshake(pub(crate) Arc<HandshakeParts>);

pub(crate) struct HandshakeParts {
    pub(crate) namespace: Arc<str>,
    /// A JSON object.
    pub(crate) auth: Option<Box<str>>,
    pub(crate) peer: Peer,
    pub(crate) request: Option<Arc<RequestInfo>>,
    /// In ms since 1970.
    pub(crate) time_ms: u64,
}

impl Handshake {
    /// The namespace that the client enters: `/` or `/admin`.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The client's `auth` as JSON: an object, `{}` where it has none. The client chose it: it proves nothing before it
    /// is checked.
    pub fn auth_json(&self) -> &str {
        self.0.auth.as_deref().unwrap_or("{}")
    }

    /// The client's `auth`.
    ///
    /// # Errors
    /// `bad_request`, with the field that is wrong.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_str(self.auth_json()).map_err(|error| Refusal::bad_request(format!("`auth`: {error}")))
    }

    /// The other end of the connection.
    pub fn peer(&self) -> Peer {
        self.0.peer
    }

    /// The request that the connection began with: its headers, its query, its address. The server keeps it if an
    /// argument of some handler needs it (`Handshake`, `Headers`, `Query<T>`, …), so that other programs need no memory
    /// for it.
    pub fn request(&self) -> Option<&Arc<RequestInfo>> {
        self.0.request.as_ref()
    }

    /// When the client came, in ms since 1970.
    pub fn time_ms(&self) -> u64 {
        self.0.time_ms
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HandshakeParts { namespace, peer, time_ms, .. } = &*self.0;
        f.debug_struct("Handshake")
            .field("namespace", namespace)
            .field("peer", peer)
            .field("time_ms", time_ms)
            .finish_non_exhaustive()
    }
}
