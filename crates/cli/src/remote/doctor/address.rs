//! The client's address, as the server sees it: a proxy's in its place, or one that the client can choose.
//!
//! The server tells each client by which address it knows it, and whether that is a trusted proxy's (`/v1/address`). It
//! is asked with nothing, then with headers of a proxy, which must not change the answer: only the headers that the
//! proxy nearest to the server writes are to be believed. A machine in `trusted_proxies` is believed itself, so nothing
//! is judged there.

use super::Doctor;
use super::http::Ask;
use super::kinds::{Kind, kind};
use super::report::Finding;
use serde::Deserialize;
use std::net::IpAddr;

const ABOUT: &str = "client address";
/// An address of a network for documentation (RFC 5737), which nobody has.
const FORGED: &str = "192.0.2.77";

/// The findings.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The address by which the server knows this client.
    pub(super) address: Option<IpAddr>,
    pub(super) findings: Vec<Finding>,
}

/// The server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Told {
    address: Option<IpAddr>,
    trusted_proxy: bool,
}

impl Doctor {
    pub(super) async fn address(&self) -> Seen {
        let ask = Ask::get(self.way.path("/v1/address"));
        let tried = ask.to_string();
        // Another server, or an older one; or the transports tell that there is no answer.
        let Some(Told { address: Some(address), trusted_proxy }) = self.told(&ask).await else {
            return Seen::default();
        };
        let mut seen = Seen { address: Some(address), findings: Vec::new() };
        let own = self.way.local;
        if trusted_proxy && own == Some(address) {
            return seen;
        }
        if let Some(words) = proxys(address, trusted_proxy, own) {
            seen.findings.push(finding(&kind::address_of_proxy, tried.clone(), words));
        }
        for (name, value) in [("X-Forwarded-For", FORGED.to_owned()), ("Forwarded", format!("for={FORGED}"))] {
            let mut ask = Ask::get(self.way.path("/v1/address"));
            let tried = format!("{tried} with `{name}: {value}`");
            ask.headers.push((name, value));
            let Some(Told { address: Some(found), .. }) = self.told(&ask).await else { continue };
            if found != address {
                let words = format!("{found}, and without the header {address}");
                seen.findings.push(finding(&kind::address_forgeable, tried, words));
                break;
            }
        }
        seen
    }

    async fn told(&self, ask: &Ask<'_>) -> Option<Told> {
        let answer = self.way.fetch(ask).await.ok().filter(|answer| answer.head.status == 200)?;
        serde_json::from_slice(&answer.body).ok()
    }
}

fn finding(kind: &'static Kind, tried: String, seen: String) -> Finding {
    Finding::new(kind, ABOUT, tried, seen)
}

/// Says why an address is a proxy's, if that is known.
fn proxys(address: IpAddr, trusted_proxy: bool, own: Option<IpAddr>) -> Option<String> {
    if trusted_proxy {
        return Some(format!(
            "{address}, which is one of its `trusted_proxies`: that proxy does not tell the client's"
        ));
    }
    let is_other = own.is_some_and(|own| own != address);
    (address.is_loopback() && is_other)
        .then(|| format!("{address}, an address of the server's own machine, which `trusted_proxies` does not list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_proxys_where_that_is_certain() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        #[rustfmt::skip]
        let rows = [
            ("the client's own", "198.51.100.1", false, "198.51.100.1", false),
            ("behind NAT", "203.0.113.9", false, "192.168.1.2", false),
            ("a private network", "10.0.0.5", false, "10.0.0.9", false),
            ("the machine itself", "127.0.0.1", false, "127.0.0.1", false),
            ("a proxy on the server's machine", "127.0.0.1", false, "192.168.1.2", true),
            ("the same over IPv6", "::1", false, "192.168.1.2", true),
            ("a trusted proxy elsewhere", "10.0.0.5", true, "192.168.1.2", true),
        ];
        for (name, address, trusted, own, expected) in rows {
            assert_eq!(proxys(ip(address), trusted, Some(ip(own))).is_some(), expected, "{name}");
        }
        assert!(proxys(ip("127.0.0.1"), false, None).is_none(), "over a Unix socket nothing is certain");
    }
}
