//! The runtime that handlers and pages run on: the one from which the server is started.

use crate::error::ServeError;
use std::time::Duration;

/// The runtime that this is called on, if it can run handlers.
pub(crate) fn runtime_of_handlers() -> Result<tokio::runtime::Handle, ServeError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
    // tokio reports a missing time driver only by a panic, and deadlines need one.
    let has_time = std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok();
    if has_time { Ok(runtime) } else { Err(ServeError::NoRuntime) }
}
