//! The limits of the configuration, and where each is counted when it is reached.
//!
//! [`REACHED`] has every limit that `fanfare_limits_reached_total` names, by its label: the option's name, with its
//! section where that is not `[limits]`. [`ELSEWHERE`] has all other options of `[limits]`, and why they are not
//! there. A test compares both with the table of settings.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The labels of `fanfare_limits_reached_total`.
#[cfg(test)]
const REACHED: &[&str] = &[
    "app_outstanding_max",
    "asked_max",
    "away_bytes_max",
    "bad_requests_per_minute_max",
    "bytes_per_connection",
    "bytes_per_user",
    "connections_per_user_max",
    "fanout_waiting_bytes_max",
    "fanout_waiting_max",
    "forwarded_max",
    "grants_max",
    "head_bytes_max",
    "head_timeout",
    "history_bytes_max",
    "idempotency_keys_bytes_max",
    "link_bytes_max",
    "message_bytes_max",
    "messages_per_connection",
    "messages_per_user",
    "moved_bytes_max",
    "new_channels_per_user",
    "outbox_bytes_max",
    "outstanding_max",
    "page_bytes_max",
    "pages_outstanding_max",
    "polls_per_connection",
    "presence_bytes_max",
    "presence_entries_max",
    "presence_left_max",
    "questions_max",
    "rooms_max",
    "session_questions_max",
    "signals_waiting_max",
    "socketio.max_payload",
    "store_waiting_bytes_max",
    "subscriptions_max",
];

/// The other options of `[limits]`.
#[cfg(test)]
const ELSEWHERE: &[(&str, &str)] = &[
    ("connections_max", "fanfare_connections_refused_total"),
    ("connections_per_address_max", "fanfare_connections_refused_total"),
    ("new_connections", "fanfare_connections_refused_total"),
    ("new_connections_per_address", "fanfare_connections_refused_total"),
    ("memory_max", "fanfare_connections_refused_total"),
    ("overload_lag", "fanfare_connections_refused_total"),
    ("http_idle_timeout", "the usual end of a connection that nobody uses"),
    ("write_timeout", "fanfare_connections_ended_total"),
    ("close_timeout", "only at the end"),
    ("hook_timeout", "fanfare_hook_results_total"),
    ("store_timeout", "fanfare_store_failures_total"),
    ("forward_timeout", "fanfare_errors_total: another shard does not answer"),
    ("batch_size_max", "a client's wish is met as far as this goes"),
    ("batch_delay_max", "as above"),
    ("scan_slice", "work is cut here, and goes on"),
    ("fanout_slice", "as above"),
    ("list_looks_max", "as above"),
    ("idempotency_keys_ttl", "the usual end of a key"),
    ("metadata_ttl", "the usual end of a channel that nobody uses"),
    ("linger", "as above"),
];

/// Labels that no option stands for: bounds that are fixed.
#[cfg(test)]
const FIXED: &[&str] = &["headers"];

/// A limit of HTTP requests, which the hub does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpLimit {
    HeadBytes,
    HeadTime,
    /// The number of headers, which is fixed.
    Headers,
    MessageBytes,
    PagesOutstanding,
    SocketIoPayload,
}

impl HttpLimit {
    const ALL: [HttpLimit; 6] = [
        HttpLimit::HeadBytes,
        HttpLimit::HeadTime,
        HttpLimit::Headers,
        HttpLimit::MessageBytes,
        HttpLimit::PagesOutstanding,
        HttpLimit::SocketIoPayload,
    ];

    /// The option with its section. `None`: it is fixed.
    pub(crate) fn option(self) -> Option<&'static str> {
        match self {
            HttpLimit::HeadBytes => Some("limits.head_bytes_max"),
            HttpLimit::HeadTime => Some("limits.head_timeout"),
            HttpLimit::Headers => None,
            HttpLimit::MessageBytes => Some("limits.message_bytes_max"),
            HttpLimit::PagesOutstanding => Some("limits.pages_outstanding_max"),
            HttpLimit::SocketIoPayload => Some("socketio.max_payload"),
        }
    }

    fn label(self) -> &'static str {
        self.option().map_or("headers", |option| option.trim_start_matches("limits."))
    }
}

/// How often each limit of HTTP requests was reached.
#[derive(Debug, Default)]
pub(crate) struct HttpLimitCounts([AtomicU64; HttpLimit::ALL.len()]);

impl HttpLimitCounts {
    pub(crate) fn reached(&self, limit: HttpLimit) {
        self.0[limit as usize].fetch_add(1, Relaxed);
    }

    /// By their labels.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        HttpLimit::ALL.into_iter().zip(&self.0).map(|(limit, count)| (limit.label(), count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SETTINGS;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_limit_of_the_configuration_is_counted_or_says_why_not() {
        let sections: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        let options: BTreeSet<&str> = sections.iter().filter_map(|key| key.strip_prefix("limits.")).collect();
        let counted: BTreeSet<&str> = REACHED.iter().copied().collect();
        let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(option, _)| *option).collect();
        assert_eq!(counted.len() + elsewhere.len(), REACHED.len() + ELSEWHERE.len(), "each once");
        assert_eq!(counted.intersection(&elsewhere).collect::<Vec<_>>(), Vec::<&&str>::new());
        for label in counted.iter().chain(&elsewhere) {
            assert!(options.contains(label) || sections.contains(label), "{label} is no option");
        }
        for option in options {
            assert!(counted.contains(option) || elsewhere.contains(option), "limits.{option} is counted nowhere");
        }
        for limit in HttpLimit::ALL {
            let known = if limit.option().is_some() { REACHED } else { FIXED };
            assert!(known.contains(&limit.label()), "{limit:?}");
        }
    }

    /// The names in the sources of a folder that stand behind one of these words.
    fn names(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                names(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source");
            for word in [".by_limit(\"", ".limited(\"", ".limited_times(\"", ".limit_reached(\""] {
                let behind = text.split(word).skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(behind.map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_limit_that_the_hub_counts_is_an_option() {
        let mut found = BTreeSet::new();
        names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../hub/src"), &mut found);
        assert!(found.len() > 20, "{found:?}");
        found.retain(|name| !REACHED.contains(&&**name));
        assert_eq!(found, BTreeSet::new(), "they are in no table");
    }
}
