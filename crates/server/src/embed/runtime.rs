//! The runtime that handlers and pages run on: the one from which the server is started. What needs none of the
//! program's has one on a thread of its own where there is none.

use crate::error::ServeError;
use std::time::Duration;
use tokio::runtime;
use tokio::sync::oneshot;

/// The runtime that this is called on, if it can run handlers.
pub(crate) fn runtime_of_handlers() -> Result<tokio::runtime::Handle, ServeError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
    // tokio reports a missing time driver only by a panic, and deadlines need one.
    let has_time = std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok();
    if has_time { Ok(runtime) } else { Err(ServeError::NoRuntime) }
}

/// A runtime on a thread of its own, which ends with the sender.
pub(crate) fn runtime_on_a_thread(name: &str) -> Result<(runtime::Handle, oneshot::Sender<()>), ServeError> {
    let failed = |source| ServeError::System { what: "thread", source };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let body = move || {
        let _ = runtime.block_on(stopped); // it ends when its sender is dropped
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(failed)?;
    Ok((handle, stop))
}
