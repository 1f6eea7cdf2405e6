//! Tells the service manager how the server is: `READY=1`, `RELOADING=1`, `STOPPING=1` (sd_notify(3)).
//!
//! In: `$NOTIFY_SOCKET`, the name of a Unix datagram socket: a path, or abstract where it begins with `@`. Out: one datagram
//! for each state. Where nobody asked for it nothing is done; where it fails the log says so and the server goes on: a
//! manager that is not told is no reason to refuse clients.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// To whom the environment names.
    pub(crate) fn from_env() -> Self {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Self::to(&name),
            _ => Notify { manager: None },
        }
    }

    fn to(name: &OsStr) -> Self {
        let opened = address(name).and_then(|address| Ok((UnixDatagram::unbound()?, address)));
        if let Err(error) = &opened {
            tracing::warn!(%error, socket = %name.display(), "the service manager cannot be told of anything");
        }
        Notify { manager: opened.ok() }
    }

    /// Connections are accepted (again).
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The settings are being read again; [`ready`](Self::ready) ends it.
    pub(crate) fn reloading(&self) {
        // `Type=notify-reload` wants the time, by which it tells this reload from an earlier one.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It was told to end, and has ended after so long at the most: the manager is not to lose patience before, whatever its
    /// own limit is.
    pub(crate) fn stopping(&self, within: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    fn tell(&self, state: &str) {
        if let Some((socket, manager)) = &self.manager
            && let Err(error) = socket.send_to_addr(state.as_bytes(), manager)
        {
            tracing::warn!(%error, state, "the service manager could not be told");
        }
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', rest @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(rest)
        }
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "NOTIFY_SOCKET is neither an absolute path nor an abstract name (@…)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let len = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..len].to_vec()).expect("UTF-8")
    }

    /// One after another through a socket of the kind, as a service manager hears them.
    fn hears_everything(socket: &UnixDatagram, name: &OsStr) {
        let notify = Notify::to(name);
        notify.ready();
        assert_eq!(heard(socket), "READY=1");
        notify.reloading();
        let reloading = heard(socket);
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the reload and its time");
        assert!(micros.parse::<u64>().expect("a number") > 0, "{reloading:?}");
        notify.stopping(Duration::from_millis(1_500));
        assert_eq!(heard(socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000");
    }

    #[test]
    fn a_socket_in_the_file_system_is_told() {
        let path = std::env::temp_dir().join(format!("fanfare-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        hears_everything(&socket, path.as_os_str());
        std::fs::remove_file(path).expect("its file");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_told() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("fanfare-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        hears_everything(&socket, OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn a_manager_that_is_not_there_or_of_another_kind_stops_nothing() {
        for name in ["/nowhere/at/all", "vsock:2:1234", "relative", "@"] {
            let notify = Notify::to(OsStr::new(name));
            notify.ready();
            notify.stopping(Duration::ZERO);
        }
    }
}
