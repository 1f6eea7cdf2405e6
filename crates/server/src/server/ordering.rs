//! The thread that orders and renews certificates by ACME while the server runs. It ends when it is dropped.

use crate::config::tls::Tls;
use crate::error::ServeError;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// See the module's description.
pub(super) struct Ordering {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ordering {
    /// `None` where nothing is ordered.
    ///
    /// # Errors
    /// The folder for the account cannot be made, or the system gives no thread.
    pub(super) fn start(tls: Option<&Tls>) -> Result<Option<Self>, ServeError> {
        let Some(order) = tls.and_then(Tls::order).cloned() else { return Ok(None) };
        order.prepare().map_err(|source| ServeError::System { what: "folder `tls.acme_cache`", source })?;
        let failed = |source| ServeError::System { what: "thread", source };
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = order.run() => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("acme".to_owned()).spawn(body).map_err(failed)?;
        Ok(Some(Ordering { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Ordering {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it ends at once; a panic of it was told by its hook
        }
    }
}
