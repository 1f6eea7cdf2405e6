//! Random numbers of the operating system.

use crate::error::ServeError;
use std::io;

/// A random number.
pub(crate) fn random() -> Result<u64, ServeError> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Fills `bytes` at random.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), ServeError> {
    let failed = |error: getrandom::Error| ServeError::System {
        what: "random number",
        source: io::Error::other(error.to_string()),
    };
    getrandom::fill(bytes).map_err(failed)
}
