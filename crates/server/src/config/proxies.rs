//! The proxies that are believed when they say whom they speak for.
//!
//! In: addresses, networks (`10.0.0.0/8`), `loopback` and `unix`. Out: whether an address is one of them. Everybody
//! else can write the same headers, and is not believed. An IPv4 address within IPv6 counts as IPv4.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A proxy that is believed: an address, a network (`10.0.0.0/8`, `fd00::/8`), `loopback` (this machine), or `unix`
/// (every peer of a Unix socket). Made by [`parse`](str::parse).
///
/// ```
/// use fanfare::TrustedProxy;
///
/// let balancers: TrustedProxy = "10.1.0.0/16".parse()?;
/// assert_eq!(balancers.to_string(), "10.1.0.0/16");
/// # Ok::<(), fanfare::TrustedProxyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxy(Of);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    /// The addresses whose first `prefix` bits are those of `base`.
    Network {
        base: IpAddr,
        prefix: u8,
    },
    Loopback,
    Unix,
}

/// The error for a text that is no proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a proxy: {problem}")]
pub struct TrustedProxyError {
    /// As it was given.
    pub found: String,
    /// The problem, and the correct form.
    pub problem: String,
}

impl TrustedProxy {
    /// Whether it is this address.
    pub(crate) fn is_at(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match &self.0 {
            Of::Network { base, prefix } => is_within(address, *base, *prefix),
            Of::Loopback => address.is_loopback(),
            Of::Unix => false,
        }
    }

    /// Whether it is every peer of a Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        self.0 == Of::Unix
    }

    /// Whether it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        match &self.0 {
            Of::Loopback | Of::Unix => true,
            Of::Network { base, .. } => base.is_loopback(),
        }
    }

    /// Whether it is every address of a kind.
    pub(crate) fn is_everybody(&self) -> bool {
        matches!(self.0, Of::Network { prefix: 0, .. })
    }
}

fn is_within(address: IpAddr, base: IpAddr, prefix: u8) -> bool {
    masked(address, prefix) == masked(base, prefix) && address.is_ipv4() == base.is_ipv4()
}

/// The first bits of an address; the others are zero.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = TrustedProxyError;

    fn from_str(text: &str) -> Result<Self, TrustedProxyError> {
        let wrong = |problem: String| TrustedProxyError { found: text.to_owned(), problem };
        match text {
            "loopback" => return Ok(TrustedProxy(Of::Loopback)),
            "unix" => return Ok(TrustedProxy(Of::Unix)),
            _ => {}
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(wrong(match address.parse::<std::net::SocketAddr>() {
                Ok(with_port) => format!("ports do not matter: write \"{}\"", with_port.ip()),
                Err(_) => {
                    "names are not looked up: write an address, a network (\"10.0.0.0/8\"), \"loopback\" or \"unix\""
                        .to_owned()
                }
            }));
        };
        let canonical = address.to_canonical();
        let Some(prefix) = prefix else {
            let prefix = if canonical.is_ipv4() { 32 } else { 128 };
            return Ok(TrustedProxy(Of::Network { base: canonical, prefix }));
        };
        if canonical != address {
            return Err(wrong(format!("it is an IPv4 network: write it so (\"{canonical}/…\")")));
        }
        let max = if address.is_ipv4() { 32 } else { 128 };
        let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let Some(prefix) = prefix.parse::<u8>().ok().filter(|prefix| is_number && *prefix <= max) else {
            return Err(wrong(format!(
                "a network ends with the number of its bits, 0 to {max}: \"{address}/{}\"",
                max / 2
            )));
        };
        let base = masked(address, prefix);
        if base != address {
            return Err(wrong(format!("the network of {prefix} bits begins at \"{base}/{prefix}\"")));
        }
        Ok(TrustedProxy(Of::Network { base, prefix }))
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Of::Network { base: IpAddr::V4(base), prefix: 32 } => base.fmt(f),
            Of::Network { base: IpAddr::V6(base), prefix: 128 } => base.fmt(f),
            Of::Network { base, prefix } => write!(f, "{base}/{prefix}"),
            Of::Loopback => f.write_str("loopback"),
            Of::Unix => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> TrustedProxy {
        text.parse().expect(text)
    }

    #[test]
    fn an_address_is_within_a_network_by_its_first_bits() {
        #[rustfmt::skip]
        let rows = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("2001:db8::/33", "2001:db8:7fff::", true),
            ("2001:db8::/33", "2001:db8:8000::", false),
            ("loopback", "127.3.2.1", true),
            ("loopback", "::1", true),
            ("loopback", "::ffff:127.0.0.1", true),
            ("loopback", "10.0.0.1", false),
            ("unix", "127.0.0.1", false),
        ];
        for (text, address, expected) in rows {
            assert_eq!(proxy(text).is_at(address.parse().expect(address)), expected, "{text} {address}");
        }
    }

    #[test]
    fn a_proxy_is_read_as_it_is_shown_and_nothing_else_is_one() {
        for text in ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "2001:db8::1", "loopback", "unix", "0.0.0.0/0"] {
            assert_eq!(proxy(text).to_string(), text);
        }
        assert_eq!(proxy("192.0.2.7/32").to_string(), "192.0.2.7");
        #[rustfmt::skip]
        let rows = [
            ("10.0.0.1/8", "begins at \"10.0.0.0/8\""),
            ("fd00::1/8", "begins at \"fd00::/8\""),
            ("10.0.0.0/33", "0 to 32"),
            ("fd00::/129", "0 to 128"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("10.0.0.0/8/8", "0 to 32"),
            ("10.0.0.0/255.0.0.0", "0 to 32"),
            ("::ffff:10.0.0.0/104", "IPv4 network"),
            ("10.0.0.1:80", "write \"10.0.0.1\""),
            ("[::1]:80", "write \"::1\""),
            ("10.0.0", "names are not looked up"),
            ("proxy.example", "names are not looked up"),
            ("*", "names are not looked up"),
            ("", "names are not looked up"),
            (" unix", "names are not looked up"),
        ];
        for (text, expected) in rows {
            let error = text.parse::<TrustedProxy>().expect_err(text);
            assert!(error.problem.contains(expected), "{text}: {error}");
        }
    }
}
