//! The certificate of `fanfare dev --tls`: made anew at each start, for the names of this machine.

use crate::failure::Failure;
use fanfare::{Address, Tls};

/// For `localhost`, the loopback addresses and the addresses that are listened on.
pub(crate) fn self_signed(listen: &[Address]) -> Result<Tls, Failure> {
    let addresses = listen.iter().filter_map(|address| match address {
        Address::Tcp(address) if !address.ip().is_unspecified() => Some(address.ip().to_string()),
        Address::Tcp(_) | Address::Unix(_) => None,
    });
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.extend(addresses);
    names.sort();
    names.dedup();
    let failed = |error: String| Failure::ours(format!("no certificate could be made: {error}"));
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| failed(error.to_string()))?;
    Tls::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes())
        .map_err(|error| failed(error.to_string()))
}
