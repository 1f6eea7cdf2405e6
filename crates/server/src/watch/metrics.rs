//! The metrics: one table of their names, meanings and remedies, and the text that a scraper gets.
//!
//! [`METRICS`] is the only definition: the text is written from it (OpenMetrics, which Prometheus reads), and
//! `docs/monitoring.md` is printed from it and checked by a test. Labels are fixed words, patterns of the rules and
//! numbers of shards, never names of channels or users. So the operator bounds their number.

use super::hooks::OUTCOMES;
use super::{HOOK_RESULTS, HOOKS, Last, ShardState, State, Watch};
use crate::config::tls::Tls;
use crate::counters::{BOUNDS_NS, Figures, Histogram, HttpOpen, STORE_OPS, StoreTimes, WireCounts};
use crate::framing::WireLabel;
use crate::logs;
use crate::transport::admission::{HANDSHAKES, OpenCount, PROXY_HEADERS, REASONS};
use fanfare_hub::{Counts, ERRORS};
use fanfare_wire::websocket::deflate::Totals;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

/// The content type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A metric. Its name on the wire has the unit behind it, and `_total` where it counts.
pub(crate) struct Metric {
    name: &'static str,
    kind: MetricKind,
    unit: Option<Unit>,
    /// The names of its labels.
    labels: &'static [&'static str],
    /// One sentence, for the scraper and the documentation.
    help: &'static str,
    /// The remedy for an alert at night. For the documentation.
    #[cfg_attr(not(test), allow(dead_code))]
    night: &'static str,
    samples: fn(&Scrape, &mut Samples),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    Histogram,
}

/// The data for all samples.
pub(crate) struct Scrape {
    /// By wire.
    labels: Vec<WireLabel>,
    /// By shard, as far as it is known.
    shards: Vec<Last>,
    state: State,
    started: SystemTime,
    /// By [`HOOKS`].
    hooks: Vec<HookScrape>,
    /// Hooks over HTTP.
    lines: Vec<LineScrape>,
    notices: Option<NoticeScrape>,
    requests: RequestScrape,
    http_limits: Vec<(&'static str, u64)>,
    refused: [u64; REASONS.len()],
    admitted: OpenCount,
    handshakes: [u64; HANDSHAKES.len()],
    certificate_expires_s: Option<u64>,
    proxy_headers: [u64; PROXY_HEADERS.len()],
    admin_open: u64,
    lines_left_out: u64,
    lines_lost: u64,
    process: Process,
}

/// One handler's times, and how its calls ended, by [`HOOK_RESULTS`].
struct HookScrape {
    seconds: Histogram,
    results: [u64; HOOK_RESULTS.len()],
}

/// One hook over HTTP: how its requests ended, by [`OUTCOMES`], and whether any are sent.
struct LineScrape {
    hook: &'static str,
    seconds: Histogram,
    outcomes: [u64; OUTCOMES.len()],
    /// As it is counted.
    breaker: u64,
}

/// Notices over HTTP.
struct NoticeScrape {
    waiting: u64,
    sent: u64,
    dropped: u64,
    failures: u64,
    seconds: Histogram,
}

/// HTTP requests, by the first digit of their status, and their times.
struct RequestScrape {
    by_class: [u64; 6],
    seconds: Histogram,
}

/// The values of one metric with their labels. The same labels twice are added up: two rules may have one pattern.
#[derive(Default)]
struct Samples(BTreeMap<Vec<String>, Value>);

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Whole(u64),
    Real(f64),
    Times(Histogram),
}

impl Samples {
    fn add(&mut self, labels: &[&dyn fmt::Display], value: Value) {
        let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
        match (self.0.get_mut(&labels), value) {
            (Some(Value::Whole(sum)), Value::Whole(more)) => *sum += more,
            (Some(Value::Real(sum)), Value::Real(more)) => *sum += more,
            (Some(Value::Times(sum)), Value::Times(more)) => sum.add(&more),
            (_, value) => {
                self.0.insert(labels, value);
            }
        }
    }

    fn whole(&mut self, labels: &[&dyn fmt::Display], value: u64) {
        self.add(labels, Value::Whole(value));
    }
}

impl Scrape {
    /// Shards with their last figures: the totals of a silent or ended shard stay.
    fn known(&self) -> impl Iterator<Item = (usize, &Figures)> {
        self.shards.iter().enumerate().filter_map(|(shard, last)| Some((shard, last.figures.as_ref()?)))
    }

    fn in_state(&self, state: ShardState) -> u64 {
        self.shards.iter().filter(|last| last.state == state).count() as u64
    }

    /// A number of each shard.
    fn per_shard(&self, out: &mut Samples, value: impl Fn(&Figures) -> u64) {
        self.known().for_each(|(shard, figures)| out.whole(&[&shard], value(figures)));
    }

    /// A number of all shards together, with these labels.
    fn sum(&self, out: &mut Samples, labels: &[&dyn fmt::Display], value: impl Fn(&Counts) -> u64) {
        out.whole(labels, self.known().map(|(_, figures)| value(&figures.hub.counts)).sum());
    }

    /// A number of compressed messages of each transport, by their direction.
    fn per_direction(&self, out: &mut Samples, value: impl Fn(&Totals) -> u64) {
        for (wire, WireLabel { transport, .. }) in self.labels.iter().enumerate() {
            for (_, figures) in self.known() {
                let Some(counts) = figures.wires.get(wire) else { continue };
                out.whole(&[transport, &"sent"], value(&counts.deflated));
                out.whole(&[transport, &"received"], value(&counts.inflated));
            }
        }
    }

    /// A number of each protocol, over all shards.
    fn per_protocol(&self, out: &mut Samples, value: impl Fn(&WireCounts) -> u64) {
        for (wire, WireLabel { protocol, .. }) in self.labels.iter().enumerate() {
            let of = |(_, figures): (usize, &Figures)| figures.wires.get(wire).map_or(0, &value);
            out.whole(&[protocol], self.known().map(of).sum());
        }
    }
}

macro_rules! metrics {
    ($($kind:ident $name:literal $([$unit:ident])? ($($label:literal),*) $help:literal; night $night:literal; $samples:expr;)*) => {
        /// Every metric, in the order in which it is written.
        pub(crate) const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: MetricKind::$kind,
            unit: metrics!(@unit $($unit)?),
            labels: &[$($label),*],
            help: $help,
            night: $night,
            samples: $samples,
        },)*];
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit) };
}

metrics! {
    Gauge "fanfare_ready" () "1 while `/readyz` answers that clients may be sent here; 0 while the server starts, stops or drains.";
        night "0 outside of a deployment: a person or a program sent SIGTERM.";
        |scrape, out| out.whole(&[], u64::from(scrape.state == State::Ready));
    Gauge "fanfare_shards" ("state") "Shards, by whether they answered this scrape within 2 s. The figures of a `silent` or `ended` shard are the last known ones.";
        night "A `silent` shard is stuck or overloaded, and its connections are not served. Take a profile, then restart.";
        |scrape, out| {
            out.whole(&[&"answering"], scrape.in_state(ShardState::Answering));
            out.whole(&[&"silent"], scrape.in_state(ShardState::Silent));
            out.whole(&[&"ended"], scrape.in_state(ShardState::Ended));
        };
    Gauge "fanfare_connections" ("transport", "protocol", "shard") "Connections that are open.";
        night "A sudden fall: the network, a proxy or a bad deployment; see `fanfare_connections_ended_total`. Near the limit of open files: see `process_max_fds`.";
        |scrape, out| for (shard, figures) in scrape.known() {
            for (WireLabel { transport, protocol }, counts) in scrape.labels.iter().zip(&figures.wires) {
                out.whole(&[transport, protocol, &shard], counts.open);
            }
        };
    Counter "fanfare_connections_opened" ("transport", "protocol") "Connections that were opened: by an upgrade (`websocket`), or by a request for an event stream (`sse`) or for lines of JSON (`stream`), or by the `connect` of a poll session (`poll`).";
        night "Far more than usual with as many open: clients reconnect in a loop. `fanfare_connections_ended_total` has the reasons.";
        |scrape, out| for (wire, WireLabel { transport, protocol }) in scrape.labels.iter().enumerate() {
            let opened = scrape.known().map(|(_, figures)| figures.wires.get(wire).map_or(0, |counts| counts.opened));
            out.whole(&[transport, protocol], opened.sum());
        };
    Counter "fanfare_connections_ended" ("reason") "Ends of connections. The peer caused `left` (with a closing handshake) and `gone` (without one). The server caused the others: `protocol_error` (frames or requests that break the rules of the transport), `refused` (a request for a stream or for polls was refused), and those that are named as its close codes are.";
        night "`heartbeat_timeout` and `gone`: the network. `abuse`, `protocol_error`: a broken or hostile client, the log has its id. `slow`, `lost`: readers that cannot keep up. `overloaded`, `internal`: the server.";
        |scrape, out| for (_, figures) in scrape.known() {
            figures.ended.iter().for_each(|ended| out.whole(&[&ended.reason], ended.count));
        };
    Gauge "fanfare_http_connections" ("version", "shard") "Open HTTP connections, by version. A connection of version `none` has sent no head yet, so it may become a WebSocket. Connections to the admin port have the shard `admin`.";
        night "Many of `none`: clients open connections and send nothing; `limits.head_timeout` ends them. Many of the others: see `limits.http_idle_timeout`.";
        |scrape, out| {
            for (shard, figures) in scrape.known() {
                let HttpOpen { unknown, http1, http2 } = figures.http_connections;
                for (version, open) in [("none", unknown), ("1", http1), ("2", http2)] {
                    out.whole(&[&version, &shard], open as u64);
                }
            }
            out.whole(&[&"1", &"admin"], scrape.admin_open);
        };
    Counter "fanfare_connections_accepted" ("shard") "Connections that were accepted on the server's own listeners, in any protocol.";
        night "Far more than `fanfare_connections_opened_total`: probes, pages, or a client that only connects.";
        |scrape, out| scrape.per_shard(out, |figures| figures.accepted);
    Counter "fanfare_connections_refused" ("reason") "Connections over a limit, by its setting: each is asked to come back, but probes and the API are served. `no_reserve`: of these, closed without an answer. `no_descriptor`: answered 503 and closed, because the system had no descriptor left. `accept_failed`: attempts to accept that failed for another reason.";
        night "`connections_max`: the node is full; raise the limit of open files or add a node. `connections_per_address_max`: one client, or a NAT that has many, or a proxy that `trusted_proxies` does not list. `accept_failed`: the limit of open files is lower than the settings need. `new_connections`, `new_connections_per_address`: clients come back in a loop, or somebody only opens connections. `overload_lag`: a shard is late, take a profile. `memory_max`: see `process_resident_memory_bytes`; add memory or a node.";
        |scrape, out| for (reason, count) in REASONS.iter().zip(scrape.refused) {
            out.whole(&[reason], count);
        };
    Counter "fanfare_tls_handshakes" ("result") "TLS handshakes, with `[tls]`: `done`; `failed` (the peer spoke no TLS, refused the certificate, was too slow or left); `proof` (an ACME authority has proven a domain, which is all of its connection).";
        night "Many `failed`: clients do not trust the certificate (expired, another name, a missing intermediate one), or a probe speaks plain HTTP. `FANFARE__LOG__LEVEL=debug` logs the reason of each.";
        |scrape, out| for (result, count) in HANDSHAKES.iter().zip(scrape.handshakes) {
            out.whole(&[result], count);
        };
    Gauge "fanfare_tls_certificate_expires" [Seconds] () "Time at which the TLS certificate in use expires, in seconds since 1970. Absent without `[tls]`, and until the first certificate by ACME is there.";
        night "Alert 14 days ahead: `fanfare_tls_certificate_expires_seconds - time() < 14 * 86400`. With files: renew them and send SIGHUP. With ACME: the log has a line for each attempt that failed. The log warns 14 and 3 days ahead (a quarter and an eighth of the life of a certificate that lives for less than 8 weeks).";
        |scrape, out| if let Some(expires_s) = scrape.certificate_expires_s {
            out.whole(&[], expires_s);
        };
    Counter "fanfare_proxy_headers" ("result") "Connections to the addresses of `proxy_protocol`: `done`; `failed` (no PROXY header, a broken one, or not in time); `untrusted` (the peer is none of `trusted_proxies`). The last two are closed.";
        night "`untrusted`: the proxy has another address than `trusted_proxies` says, or somebody goes past it. `failed`: the proxy does not send the header (`send-proxy-v2`, `proxy_protocol on`), or its probes do not. The log has the peer and the reason.";
        |scrape, out| for (result, count) in PROXY_HEADERS.iter().zip(scrape.proxy_headers) {
            out.whole(&[result], count);
        };
    Gauge "fanfare_connections_admitted" () "Connections of all kinds that count into `limits.connections_max`.";
        night "Near `fanfare_connections_limit`: the next clients are asked to come back later.";
        |scrape, out| out.whole(&[], scrape.admitted.open as u64);
    Gauge "fanfare_polling_sessions_admitted" () "Sessions without a socket: those of clients that poll. They count into `limits.connections_max` by themselves.";
        night "Near `fanfare_connections_limit`: the next clients that poll are refused. Many more than clients: somebody opens sessions and does not use them; set `limits.connections_per_address_max`.";
        |scrape, out| out.whole(&[], scrape.admitted.sessions as u64);
    Gauge "fanfare_connections_limit" () "The limit of connections: `limits.connections_max`, or the number that the limit of open files allows.";
        night "Lower than expected: see `process_max_fds`.";
        |scrape, out| out.whole(&[], scrape.admitted.max as u64);
    Gauge "fanfare_sessions" ("shard") "Sessions, with a connection or within their grace.";
        night "Many more than connections: many clients were cut off at once, and may all come back together.";
        |scrape, out| scrape.per_shard(out, |figures| figures.hub.sessions as u64);
    Gauge "fanfare_sessions_away" [Bytes] ("shard") "Memory of the sessions without a connection, by an estimate.";
        night "At `limits.away_bytes_max` the oldest of them end early.";
        |scrape, out| scrape.per_shard(out, |figures| figures.hub.away_bytes as u64);
    Counter "fanfare_sessions_shed" () "Sessions without a connection that ended before their time, because all of them together took too much memory.";
        night "Rises: more clients are cut off at once than `limits.away_bytes_max` has room for, and those that come back later begin anew. Raise it.";
        |scrape, out| out.whole(&[], scrape.known().map(|(_, figures)| figures.hub.away_shed).sum());
    Gauge "fanfare_subscriptions" ("shard") "Subscriptions.";
        night "After a restart: shows whether clients have subscribed to all their channels again.";
        |scrape, out| scrape.per_shard(out, |figures| figures.hub.subscriptions as u64);
    Gauge "fanfare_channels" ("shard") "Channels that live on the shard.";
        night "Grows without end: clients make up names; tighten the rules.";
        |scrape, out| scrape.per_shard(out, |figures| figures.hub.homes as u64);
    Gauge "fanfare_history" [Bytes] ("shard") "Publications kept as history, with their overhead.";
        night "At `limits.history_bytes_max` the oldest are dropped first, and clients that were away for long get a gap.";
        |scrape, out| scrape.per_shard(out, |figures| figures.hub.history_bytes as u64);
    Counter "fanfare_messages_received" ("protocol") "Whole messages of clients.";
        night "A flood shows here first; `fanfare_errors_total` counts the refusals.";
        |scrape, out| scrape.per_protocol(out, |counts| counts.messages_in);
    Counter "fanfare_messages_ignored" ("protocol", "cause") "Messages of clients that were ignored; a protocol without error messages does not answer them.";
        night "A client sends messages that are not of the protocol; the log has `message ignored` with the reason. Messages that count as abuse are in `fanfare_errors_total` too, as `bad_request`.";
        |scrape, out| for (_, figures) in scrape.known() {
            for ignored in &figures.ignored {
                out.whole(&[&scrape.labels[usize::from(ignored.wire.0)].protocol, &ignored.cause], ignored.count);
            }
        };
    Counter "fanfare_received" [Bytes] ("protocol") "Bytes read from clients.";
        night "See `fanfare_messages_received_total`.";
        |scrape, out| scrape.per_protocol(out, |counts| counts.bytes_in);
    Counter "fanfare_messages_sent" ("protocol") "Messages given to connections, answers and heartbeats among them.";
        night "Divided by `fanfare_publications_total` it is the fan-out: one publication to a million clients counts a million here.";
        |scrape, out| scrape.per_protocol(out, |counts| counts.messages_out);
    Counter "fanfare_sent" [Bytes] ("protocol") "Bytes written to the sockets of clients.";
        night "Near the bandwidth of the machine: that is the bottleneck, and `fanfare_outbox_bytes` rises.";
        |scrape, out| scrape.per_protocol(out, |counts| counts.bytes_out);
    Counter "fanfare_compression_plain" [Bytes] ("transport", "direction") "Bytes of the messages that were compressed (`sent`, once for all receivers) or decompressed (`received`), without compression.";
        night "Compare with `fanfare_compression_compressed_bytes_total`: where both are nearly equal, compression costs processor time for nothing; see `compression.websocket`.";
        |scrape, out| scrape.per_direction(out, |totals| totals.plain);
    Counter "fanfare_compression_compressed" [Bytes] ("transport", "direction") "The same messages, compressed. A message that compression would not make shorter counts with its own length.";
        night "See `fanfare_compression_plain_bytes_total`.";
        |scrape, out| scrape.per_direction(out, |totals| totals.compressed);
    Counter "fanfare_publications" ("shard") "Publications that got a place in a channel of the shard.";
        night "Stands still although the application publishes: see `fanfare_errors_total` and `fanfare_store_failures_total`. One shard far above the others: one channel is very busy.";
        |scrape, out| scrape.per_shard(out, |figures| figures.hub.counts.publications);
    Counter "fanfare_duplicates" () "Publications with an idempotency key that had been used: they were answered and not published again.";
        night "Many: publishers do not get their answers, or use one key for everything.";
        |scrape, out| scrape.sum(out, &[], |counts| counts.duplicates);
    Counter "fanfare_deliveries" ("protocol") "Publications given to connections, counted once for each receiver.";
        night "Falls while publications do not: subscribers are missing, or behind.";
        |scrape, out| scrape.per_protocol(out, |counts| counts.deliveries);
    Counter "fanfare_signals" () "Signals that channels accepted.";
        night "A flood: give the rule a `rate`.";
        |scrape, out| scrape.sum(out, &[], |counts| counts.signals);
    Counter "fanfare_signals_shed" () "Signals that were dropped because too many deliveries waited for the fan-out.";
        night "Rises: more signals than can be delivered to the channel's subscribers. Signals may be lost by design; a `rate` avoids the work.";
        |scrape, out| out.whole(&[], scrape.known().map(|(_, figures)| figures.hub.signals_shed).sum());
    Counter "fanfare_idempotency_keys_forgotten" () "Idempotency keys that were forgotten early because they took too much memory.";
        night "Rises: a publication that is sent again may be stored twice. Raise `limits.idempotency_keys_bytes_max`, or `limits.history_bytes_max`, a quarter of which bounds the keys of all channels.";
        |scrape, out| out.whole(&[], scrape.known().map(|(_, figures)| figures.hub.keys_shed).sum());
    Histogram "fanfare_publish_deliver" [Seconds] ("shard") "Time from the reading of a publication, on any shard, to the end of its first writes on this shard; measured once for each publication and shard.";
        night "Rises on all shards: the processors are busy, or a very large fan-out runs. On one: a busy channel or a slow call on its thread. Compare with `process_cpu_seconds_total`.";
        |scrape, out| scrape.known().for_each(|(shard, figures)| out.add(&[&shard], Value::Times(figures.delivered)));
    Gauge "fanfare_outbox" [Bytes] ("shard") "Bytes that wait in the outboxes of connections.";
        night "Rises with `fanfare_connections_behind`: readers or their network are slow. It is bounded by `limits.outbox_bytes_max` for each connection; other connections do not wait.";
        |scrape, out| scrape.per_shard(out, |figures| figures.outbox_bytes as u64);
    Gauge "fanfare_sends" [Bytes] ("shard") "Bytes that requests to `/v1/send` hold: the answers that are kept for repeats, the last 8 of each session, and the sends that wait for an earlier one. An answer to a poll is kept in the outbox until it is acknowledged, so `fanfare_outbox_bytes` counts it.";
        night "Grows with the sessions that send. It is bounded by twice `limits.outbox_bytes_max` for each session: half for answers, half for sends that wait.";
        |scrape, out| scrape.per_shard(out, |figures| figures.hub.sends_bytes as u64);
    Gauge "fanfare_connections_behind" ("shard") "Connections whose outbox is over its limit: they get missed publications from the history as they read.";
        night "A few are normal. Many at once: their network, or more traffic than they can read; see `slow` in the rules.";
        |scrape, out| scrape.per_shard(out, |figures| figures.hub.behind as u64);
    Counter "fanfare_behind" ("who") "Times that a `connection` read too slowly, or that a `shard` stopped accepting a channel's deliveries from another shard, and read the history instead.";
        night "`shard` rises: one shard cannot keep up with the others; see its processor.";
        |scrape, out| {
            scrape.sum(out, &[&"connection"], |counts| counts.behind);
            scrape.sum(out, &[&"shard"], |counts| counts.edge_behind);
        };
    Counter "fanfare_pulls" ("who") "Pages of history that were read to catch up.";
        night "High for long: a reader never catches up. With rising `fanfare_gaps_total`: the history is too short for slow readers.";
        |scrape, out| {
            scrape.sum(out, &[&"connection"], |counts| counts.pulls);
            scrape.sum(out, &[&"shard"], |counts| counts.edge_pulls);
        };
    Counter "fanfare_gaps" ("protocol") "Times that a connected client was notified that messages are lost to it.";
        night "Messages were lost to connected clients. Raise `history` of the rule, or `limits.history_bytes_max`; the log names client and channel.";
        |scrape, out| scrape.per_protocol(out, |counts| counts.gaps);
    Counter "fanfare_recoveries" ("result") "Subscriptions with a position: `recovered` got all missed publications; for `lost` they are no longer kept.";
        night "`lost` rises: clients are away for longer than the history reaches, or the server was restarted (memory forgets).";
        |scrape, out| {
            scrape.sum(out, &[&"recovered"], |counts| counts.recovered);
            scrape.sum(out, &[&"lost"], |counts| counts.not_recovered);
        };
    Counter "fanfare_denials" ("rule", "option") "Refusals by the rules, by rule and option. A Socket.IO client that waits for the option `rate` counts once for the while. Rule `(none)` with option `match`: no rule matched. Option `hook`: a handler refused.";
        night "Rises after a deployment: the rules no longer fit the clients; `fanfare why` shows the decision, and the log names the client. Rises alone: a client probes for access.";
        |scrape, out| for (_, figures) in scrape.known() {
            figures.hub.counts.denials.iter().for_each(|d| out.whole(&[&d.rule, &d.option], d.count));
        };
    Counter "fanfare_limits_reached" ("limit") "How often a limit was reached, by its option in `[limits]` (one of another section has the section's name before it; `headers` is the fixed bound of 100 headers in a request): something was refused, dropped, or went the way that the option describes. A chat or Socket.IO client that is not read for a while, as it has done too much, counts once for the while. Limits of connections are in `fanfare_connections_refused_total`. Times that are over count where they end something: see `fanfare_connections_ended_total`, handlers and store.";
        night "One limit rises steadily: one client sends too much (the log names it), or the limit is too small for what clients do. `outbox_bytes_max` and `outstanding_max`: slow readers and fast senders wait, and nothing is lost. `questions_max`, `app_outstanding_max`, `store_waiting_bytes_max`: the application or the store is too slow. `link_bytes_max`, `fanout_waiting_max`, `fanout_waiting_bytes_max`: a shard is slower than the others, and catches up by pages. `history_bytes_max`: the oldest publications go first; raise it, or keep less by the rules. `away_bytes_max`, `moved_bytes_max`: many clients were cut off at once.";
        |scrape, out| {
            scrape.known().for_each(|(_, figures)| figures.hub.counts.limits.iter().for_each(|(limit, count)| out.whole(&[limit], *count)));
            scrape.http_limits.iter().for_each(|(limit, count)| out.whole(&[limit], *count));
        };
    Counter "fanfare_errors" ("code") "Errors sent to clients, by code.";
        night "`internal`, `timeout`, `unavailable`, `unknown`: faults of the server, see handlers and store below. `bad_request`: a client of another version. `rate_limited`, `limit_exceeded`: a limit is too small, or a client sends too much.";
        |scrape, out| for (place, row) in ERRORS.iter().enumerate() {
            scrape.sum(out, &[&row.word], |counts| counts.errors.get(place).copied().unwrap_or(0));
        };
    Histogram "fanfare_store" [Seconds] ("op") "Time for an answer of the store. One answer in 16 is measured, so read the distribution, not the count.";
        night "Memory answers within microseconds. Far more: the machine swaps, or has no processor left.";
        |scrape, out| for (_, figures) in scrape.known() {
            let times: &StoreTimes = &figures.store;
            STORE_OPS.iter().zip(times).for_each(|(op, times)| out.add(&[op], Value::Times(*times)));
        };
    Counter "fanfare_store_failures" () "Store operations that were refused, or whose outcome is unknown.";
        night "Publishers get `unavailable` or `unknown` and try again. Check the store.";
        |scrape, out| scrape.sum(out, &[], |counts| counts.store_failures);
    Counter "fanfare_epochs_lost" () "Channels that began a new epoch because the store may have lost publications that it had acknowledged.";
        night "Acknowledged messages may be lost; clients got a gap. Find out why the store restarted.";
        |scrape, out| scrape.sum(out, &[], |counts| counts.epochs_lost);
    Histogram "fanfare_hook" [Seconds] ("handler") "Time of the application's handlers, from the question to the answer.";
        night "Only the client that asked waits this long. Near the deadline (5 s): the service that the handler calls is slow.";
        |scrape, out| for (handler, hook) in HOOKS.iter().zip(&scrape.hooks) {
            out.add(&[handler], Value::Times(hook.seconds));
        };
    Counter "fanfare_hook_results" ("handler", "result") "Calls of the application's handlers, by their outcome.";
        night "`failed`: it panicked, the log has the text. `timeout`: it did not answer by the deadline. `dropped`: a handler of events (`on_disconnect`, `on_join`, `on_published`, …) is too slow for their number, and was not called for some.";
        |scrape, out| for (handler, hook) in HOOKS.iter().zip(&scrape.hooks) {
            HOOK_RESULTS.iter().zip(hook.results).for_each(|(result, count)| out.whole(&[handler, result], count));
        };
    Gauge "fanfare_questions" () "Questions that wait for handlers.";
        night "At `limits.questions_max` further ones are refused as `unavailable`.";
        |scrape, out| out.whole(&[], scrape.known().map(|(_, figures)| figures.hub.questions as u64).sum());
    Histogram "fanfare_hook_request" [Seconds] ("hook") "Time of the questions to hooks over HTTP, with the time in the queue.";
        night "Near `hooks.timeout` (3 s): the application is slow. Only the clients that asked wait this long.";
        |scrape, out| for line in &scrape.lines {
            out.add(&[&line.hook], Value::Times(line.seconds));
        };
    Counter "fanfare_hook_requests" ("hook", "outcome") "Questions to hooks over HTTP, by their outcome.";
        night "`answered` and `refused` are the application's decisions. All others were refused as `hook_unavailable`: `timeout` (`hooks.timeout`), `unreachable` (no connection), `status` (not 200), `invalid` (the log says what is wrong with the answer), `busy` (`hooks.queue_max`), `open` (see `fanfare_hook_breaker`).";
        |scrape, out| for line in &scrape.lines {
            OUTCOMES.iter().zip(line.outcomes).for_each(|(outcome, count)| out.whole(&[&line.hook, outcome], count));
        };
    Gauge "fanfare_hook_breaker" ("hook") "Whether questions to a hook are sent: 0 yes, 1 one is being tried, 2 no, because they failed.";
        night "2: the application does not answer; clients get `hook_unavailable`. It is asked again by itself.";
        |scrape, out| for line in &scrape.lines {
            out.whole(&[&line.hook], line.breaker);
        };
    Gauge "fanfare_notices_waiting" () "Notices that wait for the application, with those on their way.";
        night "Rises: the application takes none, or not enough of them. Beyond `hooks.notices_bytes_max` they are dropped.";
        |scrape, out| if let Some(notices) = &scrape.notices { out.whole(&[], notices.waiting) };
    Counter "fanfare_notices" ("result") "Notices to the application: `sent` were taken, `dropped` found no room or were not taken in time.";
        night "`dropped`: the application missed what has happened. A notice `dropped` tells it where.";
        |scrape, out| if let Some(notices) = &scrape.notices {
            out.whole(&[&"sent"], notices.sent);
            out.whole(&[&"dropped"], notices.dropped);
        };
    Counter "fanfare_notice_failures" () "Requests with notices that were not taken: they are sent again.";
        night "The log has the first reason of each batch.";
        |scrape, out| if let Some(notices) = &scrape.notices { out.whole(&[], notices.failures) };
    Histogram "fanfare_notice_request" [Seconds] () "Time of the requests with notices.";
        night "The next batch waits this long: a slow application delays its own notices only.";
        |scrape, out| if let Some(notices) = &scrape.notices { out.add(&[], Value::Times(notices.seconds)) };
    Counter "fanfare_http_requests" ("status") "HTTP requests, by the class of their status. Successful upgrades are connections and are not counted here.";
        night "`5xx`: the log has a line with the request's id for some of them.";
        |scrape, out| for (class, count) in scrape.requests.by_class.iter().enumerate().skip(1) {
            out.whole(&[&format_args!("{class}xx")], *count);
        };
    Histogram "fanfare_http_request" [Seconds] () "Time from an HTTP request to the start of its answer.";
        night "The application's backend waits this long when it publishes.";
        |scrape, out| out.add(&[], Value::Times(scrape.requests.seconds));
    Counter "fanfare_log_lines_left_out" () "Lines that were not logged because there were too many of their kind.";
        night "There is a flood of one kind of event; the lines that were logged show which kind.";
        |scrape, out| out.whole(&[], scrape.lines_left_out);
    Counter "fanfare_log_lines_lost" () "Log lines that were lost because the queue was full or the write failed.";
        night "No program reads stderr, or its disk is full. The server continues. The log has a gap and says so when it can be written again.";
        |scrape, out| out.whole(&[], scrape.lines_lost);
    Counter "process_cpu" [Seconds] () "Processor time of this process.";
        night "Near one second a second for each shard: the processor is the bottleneck.";
        |scrape, out| if let Some(cpu) = scrape.process.cpu { out.add(&[], Value::Real(cpu.as_secs_f64())) };
    Gauge "process_resident_memory" [Bytes] () "Memory of this process that is in RAM.";
        night "About 2 KB a connection, 22 KB for a client whose poll waits, and 6 KB for an event stream over HTTP/2 (23 KB for its connection); plus `fanfare_history_bytes` and `fanfare_outbox_bytes`. More than that is a leak: report it.";
        |scrape, out| if let Some(bytes) = scrape.process.resident_bytes { out.whole(&[], bytes) };
    Gauge "process_open_fds" () "Files and sockets that are open.";
        night "At `process_max_fds` no client can connect.";
        |scrape, out| if let Some(count) = scrape.process.open_files { out.whole(&[], count) };
    Gauge "process_max_fds" () "The limit of open files and sockets.";
        night "Raise it: `LimitNOFILE` of the systemd unit, `ulimit -n` of a shell.";
        |scrape, out| if let Some(count) = scrape.process.files_max { out.whole(&[], count) };
    Gauge "process_start_time" [Seconds] () "When the server was started, in seconds since 1970.";
        night "Changes without a deployment: the server crashed and was restarted. The last lines of the log say why.";
        |scrape, out| {
            let since = scrape.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            out.add(&[], Value::Real(since.as_secs_f64()));
        };
    Gauge "fanfare_build" ("version") "1, with the version of this server.";
        night "Shows which version runs where.";
        |_, out| out.whole(&[&env!("CARGO_PKG_VERSION")], 1);
}

impl Watch {
    /// Asks every shard and writes the text.
    pub(crate) async fn metrics(&self) -> String {
        let shards = self.ask_shards().await;
        let read = |counts: &[std::sync::atomic::AtomicU64]| counts.iter().map(|c| c.load(Relaxed)).collect::<Vec<_>>();
        let mut hooks = Vec::new();
        for (seconds, results) in self.hooks.seconds.iter().zip(&self.hooks.results) {
            let mut hook = HookScrape { seconds: seconds.read(), results: [0; HOOK_RESULTS.len()] };
            hook.results.copy_from_slice(&read(results));
            hooks.push(hook);
        }
        let lines = self.http_hooks.questions.iter().map(|line| {
            let mut outcomes = [0; OUTCOMES.len()];
            outcomes.copy_from_slice(&read(&line.outcomes));
            let breaker = u64::from(line.breaker.load(Relaxed));
            LineScrape { hook: line.hook, seconds: line.seconds.read(), outcomes, breaker }
        });
        let lines = lines.collect();
        let notices = self.http_hooks.notices.as_ref().map(|notices| NoticeScrape {
            waiting: notices.waiting.load(Relaxed),
            sent: notices.sent.load(Relaxed),
            dropped: notices.dropped.load(Relaxed),
            failures: notices.failures.load(Relaxed),
            seconds: notices.seconds.read(),
        });
        let mut requests = RequestScrape { by_class: [0; 6], seconds: self.requests.seconds.read() };
        requests.by_class.copy_from_slice(&read(&self.requests.by_class));
        Scrape {
            labels: self.labels.clone(),
            shards,
            state: self.state(),
            started: self.started,
            hooks,
            lines,
            notices,
            requests,
            http_limits: self.requests.limits.all().collect(),
            refused: self.connections.refused(),
            handshakes: self.connections.handshakes(),
            certificate_expires_s: self.tls.as_ref().and_then(Tls::validity).map(|validity| validity.until_s),
            proxy_headers: self.connections.proxy_headers(),
            admitted: self.connections.open(),
            admin_open: self.admin_open.load(Relaxed) as u64,
            lines_left_out: logs::lines_left_out(),
            lines_lost: logs::lines_lost(),
            process: Process::read(),
        }
        .into_text()
    }
}

impl Scrape {
    fn into_text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::new(self)));
        let mut out = String::with_capacity(16 << 10);
        match text::encode(&mut out, &registry) {
            Ok(()) => out,
            Err(fmt::Error) => String::new(), // writing to a String cannot fail
        }
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let mut samples = Samples::default();
            (metric.samples)(self, &mut samples);
            if samples.0.is_empty() {
                continue;
            }
            let kind = match metric.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)?;
            for (values, value) in &samples.0 {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                match labels.is_empty() {
                    true => value.encode(metric.kind, &mut family)?,
                    false => value.encode(metric.kind, &mut family.encode_family(&labels)?)?,
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: MetricKind, to: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match (self, kind) {
            (Value::Whole(value), MetricKind::Counter) => to.encode_counter::<NoLabelSet, _, u64>(value, None),
            (Value::Whole(value), _) => to.encode_gauge(&i64::try_from(*value).unwrap_or(i64::MAX)),
            (Value::Real(value), MetricKind::Counter) => to.encode_counter::<NoLabelSet, _, u64>(value, None),
            (Value::Real(value), _) => to.encode_gauge(value),
            (Value::Times(times), _) => {
                let bounds = BOUNDS_NS.iter().map(|&ns| ns as f64 / 1e9).chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
                to.encode_histogram::<NoLabelSet>(times.sum_ns as f64 / 1e9, times.count(), &buckets, None)
            }
        }
    }
}

/// The operating system's figures of this process; empty if the system is not like Linux.
#[derive(Debug, Clone, Copy, Default)]
struct Process {
    cpu: Option<Duration>,
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
    files_max: Option<u64>,
}

impl Process {
    fn read() -> Process {
        let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
        let status = text("status").unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        let limits = text("limits").unwrap_or_default();
        let files_max = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
        Process { cpu: cpu(), resident_bytes: kib.map(|kib: u64| kib * 1024), open_files: open_files(), files_max }
    }
}

/// The processor time of all threads, in ticks of 10 ms (`USER_HZ`, the same on every Linux that we run on).
fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Since Linux 6.2 the size of the directory is their number; before, they are counted.
fn open_files() -> Option<u64> {
    match std::fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/monitoring.md");

    impl Metric {
        /// The name that a scraper sees.
        fn full_name(&self) -> String {
            let unit = self.unit.as_ref().map_or(String::new(), |unit| format!("_{}", unit.as_str()));
            format!("{}{unit}{}", self.name, if self.kind == MetricKind::Counter { "_total" } else { "" })
        }
    }

    /// The tables of the page are printed from the source: this fails where they differ, and writes them anew under
    /// `UPDATE_DOCS=1 cargo test -p fanfare monitoring`.
    #[test]
    fn the_page_on_monitoring_has_every_metric_as_the_source_has_it() {
        let mut table = String::new();
        for metric in METRICS {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!(" by {}", labels.join(", ")) };
            let (name, help, night) = (metric.full_name(), metric.help, metric.night);
            let _ = writeln!(table, "### `{name}`\n\n{kind}{labels}. {help}\n\n*At night:* {night}\n");
        }
        let page = std::fs::read_to_string(PAGE).expect("the page");
        let (before, rest) = page.split_once("<!-- generated: metrics -->\n").expect("the table's begin");
        let (_, after) = rest.split_once("<!-- /generated -->").expect("the table's end");
        let printed = format!("{before}<!-- generated: metrics -->\n{table}<!-- /generated -->{after}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            return std::fs::write(PAGE, printed).expect("the page can be written");
        }
        assert!(page == printed, "docs/monitoring.md is out of date: UPDATE_DOCS=1 cargo test -p fanfare monitoring");
        for word in page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            if word.starts_with("fanfare_") || word.starts_with("process_") {
                let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
                let is_known = METRICS.iter().any(|m| m.full_name() == word || m.full_name() == base);
                assert!(is_known, "docs/monitoring.md speaks of {word}, which is no metric");
            }
        }
    }

    #[test]
    fn every_metric_says_what_it_is_and_what_to_do() {
        for metric in METRICS {
            assert!(metric.help.ends_with('.') && metric.night.ends_with('.'), "{} has sentences", metric.name);
            assert!(!metric.help.contains(['\n', '\\']), "{}: the encoder does not escape its help", metric.name);
            assert!(metric.labels.iter().all(|label| !matches!(*label, "channel" | "user" | "client")), "a bound");
        }
    }

    #[test]
    fn the_same_labels_twice_are_one_sample() {
        let mut samples = Samples::default();
        for (rule, count) in [("a", 1), ("b", 2), ("a", 3)] {
            samples.whole(&[&rule, &"publish"], count);
        }
        let values: Vec<_> = samples.0.into_values().collect();
        assert_eq!(values, [Value::Whole(4), Value::Whole(2)]);
    }
}
