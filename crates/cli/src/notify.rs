//! Tells the service manager how the server is: `READY=1`, `RELOADING=1`, `STOPPING=1` (sd_notify(3)).
//!
//! In: `$NOTIFY_SOCKET`, the name of a Unix datagram socket: a path, or abstract where it begins with `@`. Out: one
//! datagram for each state, by `sd-notify`, which knows paths only: this module itself sends to an abstract name.
//! Without the variable nothing is sent. A failure is logged, and the server goes on serving.

use sd_notify::NotifyState;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Notify {
    manager: Option<OsString>,
}

impl Notify {
    /// The manager that the environment names. A variable that is empty is not set.
    pub(crate) fn from_env() -> Self {
        Notify { manager: std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) }
    }

    /// Connections are accepted (again).
    pub(crate) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The settings are being read again; [`ready`](Self::ready) ends it.
    pub(crate) fn reloading(&self) {
        // `Type=notify-reload` wants the time, by which it tells this reload from an earlier one.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// It was told to end, and has ended after so long at the most: the manager is not to lose patience before,
    /// whatever its own limit is.
    pub(crate) fn stopping(&self, within: Duration) {
        let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX); // 71 minutes
        self.tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(name) = &self.manager else { return };
        let sent = match name.as_bytes() {
            [b'@', rest @ ..] => send_abstract(rest, states),
            _ => sd_notify::notify(states),
        };
        if let Err(error) = sent {
            let (error, socket) = (error.to_string(), name.to_string_lossy().into_owned());
            tracing::warn!(error, socket, "the service manager could not be notified");
        }
    }
}

/// Sends to an abstract name of Linux.
#[cfg(target_os = "linux")]
fn send_abstract(name: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let manager = SocketAddr::from_abstract_name(name)?;
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &manager).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send_abstract(_name: &[u8], _states: &[NotifyState<'_>]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
