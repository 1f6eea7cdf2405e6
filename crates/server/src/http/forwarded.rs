//! The client for whom a proxy speaks, by the proxy's headers: `Forwarded` (RFC 7239), or `X-Forwarded-For` and
//! `X-Forwarded-Proto`.
//!
//! In: the ends of a connection, the headers of a request that came over it, and the trusted proxies. Out: the client's
//! ends. Each proxy appends the peer that it sees. So the walk begins at the right, where the trusted peer wrote, and
//! continues to the left as long as the address is a trusted proxy's too. The first other address is the client. An
//! address left of it was written by the client, or by a peer that no trusted proxy vouches for. An element that names
//! no address (`unknown`, an obfuscated name, garbage) ends the walk at the last address before it.
//!
//! Several lines of a header are one list, in their order (RFC 9110 §5.3). A line of `Forwarded` with a fault in its
//! syntax says nothing at all: a client could otherwise open a quotation into which a proxy's element disappears.
//!
//! A proxy that writes the one header passes the other one through, as its client wrote it. So where both are present
//! and do not agree, neither is believed: the address is the proxy's own.
//!
//! `X-Forwarded-Host` is never read. The proxy passes `Host` on, by which origins and hosts are judged.

use crate::config::proxies::TrustedProxy;
use crate::request::Peer;
use crate::transport::socket::Ends;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The ends of the client that a request is from.
pub(crate) fn ends_of_client<'h>(
    ends: Ends,
    proxies: &[TrustedProxy],
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
) -> Ends {
    if !trusts(proxies, &ends.peer) {
        return ends;
    }
    let told = told(proxies, headers);
    Ends { peer: told.client.map_or(ends.peer, Peer::Tcp), is_tls: told.is_tls.unwrap_or(ends.is_tls), ..ends }
}

/// Whether one of these proxies is this peer.
pub(crate) fn trusts(proxies: &[TrustedProxy], peer: &Peer) -> bool {
    proxies.iter().any(|proxy| match peer {
        Peer::Tcp(address) => proxy.is_at(address.ip()),
        Peer::Unix(_) => proxy.is_unix(),
        Peer::Unknown => false,
    })
}

/// The statement of the headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    /// Port 0 where it is not told.
    client: Option<SocketAddr>,
    /// The client speaks TLS.
    is_tls: Option<bool>,
}

/// One proxy's element of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Hop {
    peer: Option<SocketAddr>,
    is_tls: Option<bool>,
}

fn told<'h>(proxies: &[TrustedProxy], headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Told {
    let (mut forwarded, mut addresses, mut schemes) = (None, None, None);
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("forwarded") {
            put_hops(value, forwarded.get_or_insert_with(Vec::new));
        } else if name.eq_ignore_ascii_case("x-forwarded-for") {
            let list: &mut Vec<Hop> = addresses.get_or_insert_with(Vec::new);
            list.extend(elements(value).map(|element| Hop { peer: address(element), is_tls: None }));
        } else if name.eq_ignore_ascii_case("x-forwarded-proto") {
            schemes.get_or_insert_with(Vec::new).extend(elements(value).map(scheme));
        }
    }
    let by_x = |mut hops: Vec<Hop>| {
        let schemes: &[Option<bool>] = schemes.as_deref().unwrap_or_default();
        match schemes {
            // Most proxies put one in place of the others: it is the client's.
            [one] => hops.iter_mut().for_each(|hop| hop.is_tls = *one),
            all if all.len() == hops.len() => hops.iter_mut().zip(all).for_each(|(hop, one)| hop.is_tls = *one),
            _ => {}
        }
        walk(proxies, &hops)
    };
    match (forwarded, addresses) {
        (Some(hops), None) => walk(proxies, &hops),
        (None, Some(hops)) => by_x(hops),
        (None, None) => by_x(vec![Hop::default()]),
        (Some(forwarded), Some(hops)) => {
            let (one, other) = (walk(proxies, &forwarded), by_x(hops));
            let is_same = one.client.map(|client| client.ip()) == other.client.map(|client| client.ip());
            if !is_same {
                return Told::default();
            }
            Told { is_tls: one.is_tls.filter(|_| one.is_tls == other.is_tls), ..one }
        }
    }
}

fn walk(proxies: &[TrustedProxy], hops: &[Hop]) -> Told {
    let mut told = Told { client: None, is_tls: hops.last().and_then(|hop| hop.is_tls) };
    for Hop { peer, is_tls } in hops.iter().rev() {
        let Some(peer) = peer else { break };
        told = Told { client: Some(*peer), is_tls: *is_tls };
        if !proxies.iter().any(|proxy| proxy.is_at(peer.ip())) {
            break;
        }
    }
    told
}

/// The elements of a list (RFC 9110 §5.6.1): empty ones do not count.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

fn scheme(text: &[u8]) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    match () {
        () if is("https") || is("wss") => Some(true),
        () if is("http") || is("ws") => Some(false),
        () => None,
    }
}

/// An address, with or without a port; one of IPv6 with a port has brackets, and may have them without.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let canonical = |ip: IpAddr, port| Some(SocketAddr::new(ip.to_canonical(), port));
    if let Ok(ip) = text.parse::<IpAddr>() {
        return canonical(ip, 0);
    }
    let (ip, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']')?;
            (IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?), rest)
        }
        None => {
            let at = text.find(':')?;
            (IpAddr::V4(text[..at].parse().ok()?), &text[at..])
        }
    };
    match rest.strip_prefix(':') {
        None if rest.is_empty() => canonical(ip, 0),
        None => None,
        // RFC 7239 §6.2: a port may be obfuscated too.
        Some(port) if port.len() > 1 && port.starts_with('_') && port.bytes().skip(1).all(is_of_obfuscated) => {
            canonical(ip, 0)
        }
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => canonical(ip, port.parse().ok()?),
        Some(_) => None,
    }
}

/// The node of `Forwarded`: there an address of IPv6 has brackets (RFC 7239 §6).
fn node(text: &[u8]) -> Option<SocketAddr> {
    let is_bare = std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    address(text).filter(|_| !is_bare)
}

fn is_of_obfuscated(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Adds the elements of one line of `Forwarded`. A line with a fault is one element that says nothing.
fn put_hops(line: &[u8], hops: &mut Vec<Hop>) {
    let before = hops.len();
    if parse_line(line, hops).is_none() {
        hops.truncate(before);
        hops.push(Hop::default());
    }
}

fn parse_line(mut line: &[u8], hops: &mut Vec<Hop>) -> Option<()> {
    loop {
        line = line.trim_ascii_start();
        match line.split_first() {
            None => return Some(()),
            Some((b',', rest)) => line = rest,
            Some(_) => {
                let (hop, rest) = parse_element(line)?;
                hops.push(hop);
                line = rest;
            }
        }
    }
}

/// `for=192.0.2.1;proto=https`, up to a comma or the end. Each name may stand once (RFC 7239 §4).
fn parse_element(mut line: &[u8]) -> Option<(Hop, &[u8])> {
    let mut hop = Hop::default();
    let mut names: Vec<&[u8]> = Vec::new();
    loop {
        line = line.trim_ascii_start();
        let end = line.iter().position(|byte| !is_of_token(*byte)).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        // RFC 7239 allows an empty pair: `for=a;;by=b`, `for=a;`.
        if !name.is_empty() {
            let rest = rest.strip_prefix(b"=")?;
            let (value, rest) = parse_value(rest, name.eq_ignore_ascii_case(b"host"))?;
            if names.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                return None;
            }
            if name.eq_ignore_ascii_case(b"for") {
                hop.peer = node(&value);
            } else if name.eq_ignore_ascii_case(b"proto") {
                hop.is_tls = scheme(&value);
            }
            names.push(name);
            line = rest.trim_ascii_start();
        } else {
            line = rest;
        }
        match line.split_first() {
            Some((b';', rest)) => line = rest,
            None | Some((b',', _)) => return Some((hop, line)),
            Some(_) => return None,
        }
    }
}

/// A token or a quoted string, without its quotes. Proxies forget the quotes that the port of a host needs, so there
/// `:`, `[` and `]` count as parts of a token: nothing else can be meant, and the host is not read.
fn parse_value(text: &[u8], is_host: bool) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| !(is_of_token(*byte) || is_host && b":[]".contains(byte)));
        let end = end.unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_vec(), &text[end..]));
    };
    let mut value = Vec::new();
    loop {
        quoted = match quoted {
            [b'"', rest @ ..] => return Some((value, rest)),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
            [] => return None,
        };
    }
}

/// RFC 9110 §5.6.2.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1:4000";

    fn proxies() -> Vec<TrustedProxy> {
        ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect(text)).into()
    }

    fn proxy(text: &str) -> TrustedProxy {
        text.parse().expect(text)
    }

    #[test]
    fn a_peer_is_trusted_by_its_kind() {
        let proxies = [proxy("unix"), proxy("10.0.0.0/8")];
        let rows = [
            (Peer::Tcp("10.0.0.1:80".parse().expect("an address")), true),
            (Peer::Tcp("127.0.0.1:80".parse().expect("an address")), false),
            (Peer::Unix(None), true),
            (Peer::Unknown, false),
        ];
        for (peer, expected) in rows {
            assert_eq!(trusts(&proxies, &peer), expected, "{peer}");
            assert!(!trusts(&[], &peer), "{peer}: by default nobody is trusted");
        }
        assert!(!trusts(&[proxy("0.0.0.0/0"), proxy("::/0"), proxy("loopback")], &Peer::Unix(None)));
    }

    /// The client of a request with these headers, from a peer: its address, with `+` where it speaks TLS.
    fn client(peer: Peer, headers: &[(&str, &str)]) -> String {
        let ends = Ends { peer, local: None, is_tls: false };
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let ends = ends_of_client(ends, &proxies(), headers);
        format!("{}{}", ends.peer, if ends.is_tls { "+" } else { "" })
    }

    fn peer(text: &str) -> Peer {
        Peer::Tcp(text.parse().expect(text))
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_no_trusted_proxy() {
        const X: &str = "x-FORWARDED-for";
        const F: &str = "ForwardeD";
        const P: &str = "X-Forwarded-Proto";
        const TOLD: &str = "192.0.2.1:0";
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a str);
        #[rustfmt::skip]
        let rows: &[Row<'_>] = &[
            (&[], PEER),
            // X-Forwarded-For.
            (&[(X, "192.0.2.1")], TOLD),
            (&[(X, " 192.0.2.1\t")], TOLD),
            (&[(X, "192.0.2.1:4711")], "192.0.2.1:4711"),
            (&[(X, "2001:db8::1")], "[2001:db8::1]:0"),
            (&[(X, "[2001:db8::1]")], "[2001:db8::1]:0"),
            (&[(X, "[2001:db8::1]:80")], "[2001:db8::1]:80"),
            (&[(X, "::ffff:192.0.2.1")], TOLD),
            (&[(X, "6.6.6.6, 192.0.2.1")], TOLD),
            (&[(X, "6.6.6.6,192.0.2.1, 10.0.0.2,fd00::7")], TOLD),
            (&[(X, "10.0.0.3, 10.0.0.2")], "10.0.0.3:0"),
            (&[(X, "6.6.6.6"), (X, "192.0.2.1"), (X, "10.0.0.2")], TOLD),
            (&[(X, "192.0.2.1,, ,")], TOLD),
            (&[(X, "")], PEER),
            (&[(X, ",")], PEER),
            // An element without an address ends the walk.
            (&[(X, "192.0.2.1, unknown")], PEER),
            (&[(X, "192.0.2.1, garbage, 10.0.0.2")], "10.0.0.2:0"),
            (&[(X, "192.0.2.1, 10.0.0.2, 10.0.0.3:x")], PEER),
            (&[(X, "192.0.2.1:")], PEER),
            (&[(X, "192.0.2.1:65536")], PEER),
            (&[(X, "192.0.2.1:+80")], PEER),
            (&[(X, "192.0.2.1:8_0")], PEER),
            (&[(X, "192.0.2.256")], PEER),
            (&[(X, "192.0.2.01")], PEER),
            (&[(X, "0xC0000201")], PEER),
            (&[(X, "3221225985")], PEER),
            (&[(X, "[192.0.2.1]")], PEER),
            (&[(X, "[2001:db8::1")], PEER),
            (&[(X, "[2001:db8::1]x")], PEER),
            (&[(X, "2001:db8::1]:80")], PEER),
            (&[(X, "fe80::1%eth0")], PEER),
            (&[(X, "\"192.0.2.1\"")], PEER),
            (&[(X, "192.0.2.1 10.0.0.2")], PEER),
            (&[(X, "192.0.2.1;")], PEER),
            (&[(X, "для")], PEER),
            // Forwarded.
            (&[(F, "for=192.0.2.1")], TOLD),
            (&[(F, "For=\"192.0.2.1:4711\"")], "192.0.2.1:4711"),
            // The port and the brackets need quotes (RFC 7239 §4). A line is believed whole or not at all.
            (&[(F, "for=192.0.2.1:4711")], PEER),
            (&[(F, "for=[2001:db8::1]")], PEER),
            (&[(F, "for=\"2001:db8::1\"")], PEER),
            (&[(F, "for=192.0.2.1;by=10.0.0.9:80")], PEER),
            (&[(F, "for=6.6.6.6:80, for=192.0.2.1")], PEER),
            // Only a host's port is taken without them.
            (&[(F, "for=192.0.2.1;host=a.example:8443;proto=http")], TOLD),
            (&[(F, "for=192.0.2.1;Host=[2001:db8::9]:80")], TOLD),
            (&[(F, "for=\"[2001:db8::1]:80\"")], "[2001:db8::1]:80"),
            (&[(F, "for=\"[2001:db8::1]\"")], "[2001:db8::1]:0"),
            (&[(F, "for=\"192.0.2.1:_port\"")], TOLD),
            (&[(F, "for=\"192.0.2.1:_\"")], PEER),
            (&[(F, "for=\"192.0.2.1:_p:1\"")], PEER),
            (&[(F, "for=\"192.\\0.2.1\"")], TOLD),
            (&[(F, "by=10.0.0.9;for=192.0.2.1;host=\"a, for=6.6.6.6\";proto=http")], TOLD),
            (&[(F, " for=6.6.6.6 ; by=_x , for=192.0.2.1;, for=10.0.0.2 ")], TOLD),
            (&[(F, "for=6.6.6.6"), (F, "for=192.0.2.1"), (F, "for=10.0.0.2")], TOLD),
            (&[(F, "for=192.0.2.1;ext=\"\"")], TOLD),
            (&[(F, ",, for=192.0.2.1,")], TOLD),
            (&[(F, "for=192.0.2.1, for=unknown")], PEER),
            (&[(F, "for=192.0.2.1, for=_hidden, for=10.0.0.2")], "10.0.0.2:0"),
            (&[(F, "for=192.0.2.1, by=10.0.0.2")], PEER),
            (&[(F, "")], PEER),
            // A fault in a line: nothing of it is believed, and the walk ends there.
            (&[(F, "for=192.0.2.1 for=10.0.0.2")], PEER),
            (&[(F, "for=\"192.0.2.1")], PEER),
            (&[(F, "for=\"192.0.2.1\\")], PEER),
            (&[(F, "for=\"192.0.2.1\"x")], PEER),
            (&[(F, "for=192.0.2.1;for=192.0.2.1")], PEER),
            (&[(F, "for=192.0.2.1;FOR=6.6.6.6")], PEER),
            (&[(F, "for = 192.0.2.1")], PEER),
            (&[(F, "for=")], PEER),
            (&[(F, "for")], PEER),
            (&[(F, "=192.0.2.1")], PEER),
            (&[(F, "192.0.2.1")], PEER),
            (&[(F, "for=192.0.2.1, @")], PEER),
            (&[(F, "for=2001:db8::1")], PEER),
            (&[(F, "garbage\""), (F, "for=10.0.0.2")], "10.0.0.2:0"),
            (&[(F, "for=192.0.2.1"), (F, "\"garbage"), (F, "for=10.0.0.2")], "10.0.0.2:0"),
            // A quotation that the client has opened takes in what a proxy appends to its line.
            (&[(F, "for=6.6.6.6;by=\", for=192.0.2.1")], PEER),
            (&[(F, "for=6.6.6.6;by=\", for=\"[2001:db8::1]:80\"")], PEER),
            (&[(F, "for=6.6.6.6;by=\"\\\", for=\"192.0.2.1:1\"")], PEER),
            // Both: only what they agree on.
            (&[(F, "for=192.0.2.1"), (X, "192.0.2.1")], TOLD),
            (&[(X, "6.6.6.6, 192.0.2.1"), (F, "for=\"192.0.2.1:4711\"")], "192.0.2.1:4711"),
            (&[(F, "for=6.6.6.6"), (X, "192.0.2.1")], PEER),
            (&[(F, "for=192.0.2.1"), (X, "6.6.6.6")], PEER),
            (&[(F, "for=unknown"), (X, "192.0.2.1")], PEER),
            (&[(F, ""), (X, "192.0.2.1")], PEER),
            (&[(F, "for=192.0.2.1"), (X, "")], PEER),
            // The scheme.
            (&[(P, "https")], "10.0.0.1:4000+"),
            (&[(X, "192.0.2.1"), (P, "HTTPS")], "192.0.2.1:0+"),
            (&[(X, "192.0.2.1"), (P, "wss")], "192.0.2.1:0+"),
            (&[(X, "192.0.2.1"), (P, "http")], TOLD),
            (&[(X, "192.0.2.1"), (P, "gopher")], TOLD),
            (&[(X, "192.0.2.1, 10.0.0.2"), (P, "https")], "192.0.2.1:0+"),
            (&[(X, "192.0.2.1, 10.0.0.2"), (P, "https, http")], "192.0.2.1:0+"),
            (&[(X, "6.6.6.6, 192.0.2.1"), (P, "https"), (P, "http")], TOLD),
            (&[(X, "192.0.2.1"), (P, "https, http")], TOLD),
            (&[(F, "for=192.0.2.1;proto=https")], "192.0.2.1:0+"),
            (&[(F, "for=6.6.6.6;proto=https, for=192.0.2.1")], TOLD),
            (&[(F, "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http")], "192.0.2.1:0+"),
            (&[(F, "proto=https")], "10.0.0.1:4000+"),
            (&[(F, "for=192.0.2.1"), (P, "https")], TOLD),
            (&[(F, "for=192.0.2.1;proto=https"), (X, "192.0.2.1"), (P, "https")], "192.0.2.1:0+"),
            (&[(F, "for=192.0.2.1;proto=https"), (X, "192.0.2.1")], TOLD),
            // Not believed from anybody.
            (&[("X-Forwarded-Host", "a"), ("X-Real-IP", "6.6.6.6"), ("X-Client-IP", "6.6.6.6")], PEER),
        ];
        for (headers, expected) in rows {
            assert_eq!(client(peer(PEER), headers), *expected, "{headers:?}");
            // The same from somebody else changes nothing.
            for other in [peer("192.0.2.9:1"), peer("[fe00::1]:1"), Peer::Unix(None), Peer::Unknown] {
                assert_eq!(client(other, headers), other.to_string(), "{headers:?}");
            }
        }
    }

    #[test]
    fn no_line_panics_and_no_cut_of_a_good_one_names_somebody_else() {
        let line = "for=6.6.6.6;by=\"a\\\"b\", for=\"192.0.2.1:47\";proto=https;host=x";
        for from in 0..=line.len() {
            for to in from..=line.len() {
                for header in ["forwarded", "x-forwarded-for"] {
                    client(peer(PEER), &[(header, &line[from..to])]);
                }
            }
        }
        // A client writes the beginning, the proxy appends its own to the same line.
        let own = ", for=\"192.0.2.1:47\";proto=https";
        for to in 0..=line.len() {
            let told = client(peer(PEER), &[("forwarded", &format!("{}{own}", &line[..to]))]);
            assert!(["192.0.2.1:47+", PEER].contains(&&*told), "{}: {told}", &line[..to]);
        }
    }
}
