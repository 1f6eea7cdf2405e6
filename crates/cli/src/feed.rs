//! The demo feed of `fanfare dev`: an update every few seconds, for those who try an event stream.
//!
//! It publishes `{"type":"update","value":…,"timestamp":…}` to the channel that `/events` follows, from a thread of its
//! own, until the server takes no more. Without a rule for that channel there is no feed.

use fanfare::Handle;
use serde_json::json;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The channel of an event stream that names none.
pub(crate) const CHANNEL: &str = "events";
const EVERY: Duration = Duration::from_secs(5);

/// Begins it. A machine that cannot start one more thread has a server without a feed.
pub(crate) fn begin(handle: Handle) {
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(publish(&handle)),
            Err(error) => tracing::warn!(%error, "there is no demo feed"),
        }
    };
    if let Err(error) = std::thread::Builder::new().name("feed".to_owned()).spawn(body) {
        tracing::warn!(%error, "there is no demo feed");
    }
}

async fn publish(handle: &Handle) {
    loop {
        tokio::time::sleep(EVERY).await;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = u64::try_from(timestamp.as_millis()).unwrap_or(u64::MAX);
        // A random number from 0 to 100.
        let value = (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64 * 100.0;
        let update = json!({ "type": "update", "value": value, "timestamp": timestamp });
        if let Err(error) = handle.publish(CHANNEL, &update).await {
            return tracing::debug!(%error, "the demo feed ends");
        }
    }
}
