//! Starts the server of some settings, and where an address cannot be had says what to do about it.

use crate::failure::Failure;
use fanfare::settings::{Setting, Settings, Source};
use fanfare::{Address, AdminOn, Builder, Chat, Fanfare, Running, ServeError};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

/// How far from a port that is taken another one is looked for.
const PORTS_LOOKED_AT: u16 = 100;
/// No more files for this process.
const EMFILE: i32 = 24;
/// The longest path of a Unix socket, in bytes: the room in `sockaddr_un` without the zero at the end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Starts it. Where nobody said where to listen, a machine without IPv6 does without that address.
pub(crate) fn start(settings: &Settings, pages: Option<axum::Router>) -> Result<Running, Failure> {
    try_start(settings, pages).map_err(|error| {
        let hint = hint(&error, settings);
        let failure = Failure::from(error);
        Failure { hint: hint.or(failure.hint), ..failure }
    })
}

fn try_start(settings: &Settings, pages: Option<axum::Router>) -> Result<Running, ServeError> {
    let build = || builder(settings, pages.clone()).build();
    let is_default = Setting::of("listen").is_some_and(|listen| *settings.source(listen) == Source::Default);
    match build()?.start(&settings.listen) {
        // Not every machine and container has IPv6; nobody asked for it by name.
        Err(ServeError::Listen { address, source }) if is_default && is_v6(&address) && is_missing(&source) => {
            let others: Vec<Address> = settings.listen.iter().filter(|other| !is_v6(other)).cloned().collect();
            build()?.start(&others)
        }
        started => started,
    }
}

fn builder(settings: &Settings, pages: Option<axum::Router>) -> Builder {
    let mut builder = Fanfare::builder(()).config(settings.config.clone());
    if settings.chat.enabled {
        let heartbeat_ms = u32::try_from(settings.chat.heartbeat_ms).unwrap_or(u32::MAX); // an hour at most
        let chat = Chat::default()
            .heartbeat_ms(heartbeat_ms)
            .username_chars_max(settings.chat.username_chars_max)
            .content_chars_max(settings.chat.content_chars_max);
        builder = builder.protocol("/", chat);
    }
    match pages {
        Some(pages) => builder.fallback(pages),
        None => builder,
    }
}

fn is_v6(address: &Address) -> bool {
    matches!(address, Address::Tcp(SocketAddr::V6(_)))
}

fn is_missing(error: &std::io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// The remedy for files that may not be opened, or an address that cannot be listened on. It is one of two settings'.
fn hint(error: &ServeError, settings: &Settings) -> Option<String> {
    if let ServeError::Listen { source, .. } | ServeError::System { source, .. } = error
        && source.raw_os_error() == Some(EMFILE)
    {
        return Some(
            "raise the hard limit of open files (ulimit -Hn, LimitNOFILE=), or take fewer --shards".to_owned(),
        );
    }
    let ServeError::Listen { address, source } = error else { return None };
    let own: Vec<&Address> = own_addresses(settings).collect();
    let is_admin = settings.config.admin == AdminOn::Address(address.clone());
    let flag = if is_admin { "--admin-listen" } else { "--listen" };
    let or_off = if is_admin { ", or \"off\" to have no metrics" } else { "" };
    Some(match (source.kind(), address) {
        (ErrorKind::AddrInUse, _) if own.iter().filter(|other| **other == address).count() > 1 => {
            format!("this server would listen there twice; give another address with {flag}{or_off}")
        }
        (ErrorKind::AddrInUse, Address::Tcp(address)) => {
            let what =
                if is_admin { "that is the address for monitoring, and another program" } else { "another program" };
            let other = free_beside(*address, &own).map(|free| format!(" {free}")).unwrap_or_default();
            format!(
                "{what} listens there already; choose another port with {flag}{other}{or_off}, or end the other program"
            )
        }
        (ErrorKind::AddrInUse, Address::Unix(_)) => {
            format!(
                "another server listens there, or the file is not a socket; choose another path with {flag} unix:PATH"
            )
        }
        (ErrorKind::PermissionDenied, Address::Tcp(_)) => format!(
            "ports below 1024 need a permission (CAP_NET_BIND_SERVICE); choose a higher one with {flag}, or give it"
        ),
        (ErrorKind::PermissionDenied, Address::Unix(_)) => {
            format!(
                "this user may not make the socket in that folder; give it the right, or choose another path with {flag}"
            )
        }
        (ErrorKind::NotFound, Address::Unix(_)) => {
            format!("its folder does not exist; make it, or choose another path with {flag} unix:PATH")
        }
        (ErrorKind::InvalidInput, Address::Unix(path)) => format!(
            "a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes, this one has {}; choose a shorter one with {flag}",
            path.as_os_str().len()
        ),
        (ErrorKind::AddrNotAvailable, _) => {
            "this machine has no such address; 127.0.0.1 is always there, 0.0.0.0 is all of them".to_owned()
        }
        _ => return None,
    })
}

fn own_addresses(settings: &Settings) -> impl Iterator<Item = &Address> {
    let admin = match &settings.config.admin {
        AdminOn::Address(address) => Some(address),
        AdminOn::MainPort | AdminOn::Off => None,
    };
    settings.listen.iter().chain(admin)
}

/// A port near one that is taken, which is free just now and which this server does not want for something else.
fn free_beside(taken: SocketAddr, own: &[&Address]) -> Option<SocketAddr> {
    let is_own = |port: u16| own.iter().any(|own| matches!(own, Address::Tcp(own) if own.port() == port));
    let beside = (1..=PORTS_LOOKED_AT).filter_map(|step| taken.port().checked_add(step));
    let beside = beside.filter(|port| !is_own(*port)).map(|port| SocketAddr::new(taken.ip(), port));
    beside.into_iter().find(|address| TcpListener::bind(address).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_of(address: &str, kind: ErrorKind, settings: &Settings) -> String {
        let error = ServeError::Listen { address: address.parse().expect("an address"), source: kind.into() };
        hint(&error, settings).unwrap_or_default()
    }

    #[test]
    fn the_port_that_is_offered_is_none_of_our_own() {
        let settings = Settings::default();
        let hint = hint_of("127.0.0.1:8080", ErrorKind::AddrInUse, &settings);
        assert!(hint.contains("--listen 127.0.0.1:80") && !hint.contains(":8081"), "{hint}");
        let hint = hint_of("127.0.0.1:8081", ErrorKind::AddrInUse, &settings);
        assert!(hint.contains("monitoring") && hint.contains("--admin-listen 127.0.0.1:80"), "{hint}");
    }

    #[test]
    fn each_way_to_be_refused_has_a_remedy_of_its_own() {
        let mut settings = Settings::default();
        let long = format!("unix:/{}", "x".repeat(200));
        let rows = [
            ("127.0.0.1:80", ErrorKind::PermissionDenied, "below 1024"),
            ("unix:/root/a.sock", ErrorKind::PermissionDenied, "may not make the socket"),
            ("unix:/nowhere/a.sock", ErrorKind::NotFound, "folder does not exist"),
            ("unix:/run/a.sock", ErrorKind::AddrInUse, "not a socket"),
            (&long, ErrorKind::InvalidInput, "at most 107 bytes, this one has 201"),
            ("192.0.2.1:8080", ErrorKind::AddrNotAvailable, "no such address"),
        ];
        for (address, kind, words) in rows {
            let hint = hint_of(address, kind, &settings);
            assert!(hint.contains(words), "{address}: {hint}");
        }
        let source = std::io::Error::from_raw_os_error(EMFILE);
        let few = hint(&ServeError::System { what: "thread", source }, &settings).unwrap_or_default();
        assert!(few.contains("hard limit of open files"), "{few}");
        settings.listen = vec!["127.0.0.1:8081".parse().expect("an address")];
        let hint = hint_of("127.0.0.1:8081", ErrorKind::AddrInUse, &settings);
        assert!(hint.contains("twice") && hint.contains("--admin-listen"), "{hint}");
    }
}
