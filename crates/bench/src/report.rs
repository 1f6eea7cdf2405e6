//! The report: a table per metric, a verdict per target, and the same as JSON.
//!
//! A ratio is the median of the ratios of each round, not the ratio of the medians: the servers of one round ran within
//! seconds of each other, so a temporary slowdown of the machine cancels out. "Not above Bun" is judged by medians, and
//! overlapping quartiles count as equal.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::json;

use crate::load::flood::{Bad, End};
use crate::load::transport::{Over, Transport};
use crate::peers::ServerKind;
use crate::stats::Summary;
use crate::suite::Sample;

/// Something measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// The server's CPU time for one delivery.
    FanoutCpu {
        /// Which of them.
        of: Fanout,
        /// Publications in flight.
        window: usize,
    },
    /// Deliveries per second of wall clock; the load generator may be the limit.
    FanoutRate {
        /// Which of them.
        of: Fanout,
        /// Publications in flight.
        window: usize,
    },
    /// Payload of one delivery, which shows that equal traffic is compared.
    FanoutBytes {
        /// Which of them.
        of: Fanout,
    },
    /// Echoes per second.
    EchoRate,
    /// The server's CPU time for one echo.
    EchoCpu,
    /// Connections made and closed per second.
    ConnectRate,
    /// The server's CPU time for one of them.
    ConnectCpu,
    /// User memory of one joined, silent connection.
    IdleMemory {
        /// Whether each has a room of its own: the figure then includes a room for each connection.
        own_room: bool,
    },
    /// User memory of one silent Socket.IO client in a room, over a WebSocket.
    SocketMemory,
    /// User memory of one native connection with one subscription.
    SubscribedMemory {
        /// Publications that each has got before, and a pause.
        published: usize,
    },
    /// From publishing until a subscriber has read it: the 99th percentile of all subscribers that read.
    DeliveryP99 {
        /// Whether one more subscriber does not read.
        stuck: bool,
    },
    /// The server's CPU time for one of these deliveries.
    DeliveryCpu {
        /// Whether one more subscriber does not read.
        stuck: bool,
    },
    /// The most additional user memory of the server since one subscriber stopped reading.
    StuckMemory,
    /// From the first connect until every client has its last missed publication.
    StormTime,
    /// The server's CPU time for that.
    StormCpu,
    /// User memory of one native connection with one subscription, over TLS.
    TlsMemory,
    /// TLS handshakes per second.
    HandshakeRate {
        /// With a ticket, or with the certificate.
        resumed: bool,
    },
    /// The server's CPU time for one of them.
    HandshakeCpu {
        /// With a ticket, or with the certificate.
        resumed: bool,
    },
    /// The server's CPU time for one delivery of JSON.
    CompressionCpu {
        /// The length of the JSON, in bytes.
        length: usize,
        /// Whether the receivers asked for permessage-deflate.
        deflated: bool,
    },
    /// Bytes on the wire for one delivery.
    CompressionBytes {
        /// The length of the JSON, in bytes.
        length: usize,
        /// Whether the receivers asked for permessage-deflate.
        deflated: bool,
    },
    /// User memory of one idle stream, or of a session whose poll waits, with one subscription.
    StreamMemory {
        /// Which of them.
        by: Transport,
        /// On which connections.
        over: Over,
    },
    /// From sending until a good client has read it.
    FloodDelay {
        /// Without or with the flood.
        part: FloodPart,
        /// Which percentile; 100 is the longest.
        percent: u8,
    },
    /// The same by the server's own histogram: from a publication's arrival until it is written.
    FloodServer {
        /// Without or with the flood.
        part: FloodPart,
        /// Which percentile: the bound of its bucket.
        percent: u8,
    },
    /// From the connect of a good newcomer until it is subscribed.
    FloodWelcome {
        /// Without or with the flood.
        part: FloodPart,
        /// Which percentile; 100 is the longest.
        percent: u8,
    },
    /// Good newcomers that were refused or closed.
    FloodRefused {
        /// Without or with the flood.
        part: FloodPart,
    },
    /// The server's user memory.
    FloodMemory {
        /// Its most during the flood, its least in the other parts.
        part: FloodPart,
    },
    /// The server's CPU time, as a share of one core.
    FloodCpu {
        /// Without or with the flood.
        part: FloodPart,
    },
    /// Connects and commands of the bad clients of this kind.
    FloodActs {
        /// Of which kind.
        bad: Bad,
    },
    /// How often the server answered these, or ended their connections, in this way.
    FloodEnds {
        /// Which clients.
        bad: Bad,
        /// The answer.
        end: End,
    },
    /// Deliveries, each once and in order, of those that are due to clients that go offline and return.
    JitterShare {
        /// By which transport.
        by: Transport,
    },
    /// From publishing until a client that is online has read it.
    JitterDelay {
        /// By which transport.
        by: Transport,
        /// Which percentile of all deliveries.
        percent: u8,
    },
    /// From the first connect of a return until the client has everything that it missed.
    JitterRecovery {
        /// By which transport.
        by: Transport,
        /// Which percentile of all returns.
        percent: u8,
    },
    /// The server's CPU time for all of this, for each delivery.
    JitterCpu {
        /// By which transport.
        by: Transport,
    },
    /// Requests of Socket.IO's clients that poll: as many POSTs with an event as GETs that bring it back.
    SocketPollRate,
    /// The server's CPU time for one of them.
    SocketPollCpu,
    /// User memory of one channel with one subscriber.
    ChannelMemory {
        /// Publications in it.
        published: usize,
    },
}

/// The parts of a flood's measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FloodPart {
    /// No client is connected.
    Empty,
    /// The good clients alone.
    Before,
    /// Beside the bad ones.
    During,
    /// Alone again.
    After,
}

/// The fan-outs that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fanout {
    /// A chat room.
    Chat,
    /// A channel with history, by the native protocol.
    Native,
    /// The same on two cores, by one shard and by two.
    Shards,
    /// The same to event streams, by the publisher's WebSocket.
    Sse,
    /// The same over TLS.
    Tls,
    /// A room of Socket.IO.
    SocketIo,
}

/// Fanfare's targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At most this many times the floor.
    TimesFloor(f64),
    /// Not worse than Bun.
    LikeBun,
    /// At most this value.
    AtMost(f64),
    /// At least this value.
    AtLeast(f64),
    /// Not worse than the same without a subscriber that does not read.
    LikeWithout,
    /// At most this many times the same over WebSockets, by the native protocol.
    TimesWebSocket(f64),
    /// At most this many times Socket.IO on Node.
    TimesNode(f64),
}

/// Whether it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Yes.
    Held,
    /// The medians fail the target, but the quartiles overlap, which counts as equal.
    Equal,
    /// No.
    Missed,
}

impl Metric {
    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Self::FanoutCpu { .. }
            | Self::EchoCpu
            | Self::ConnectCpu
            | Self::DeliveryCpu { .. }
            | Self::HandshakeCpu { .. }
            | Self::CompressionCpu { .. }
            | Self::SocketPollCpu
            | Self::JitterCpu { .. } => "µs",
            Self::FanoutRate { .. }
            | Self::EchoRate
            | Self::ConnectRate
            | Self::SocketPollRate
            | Self::FloodActs { .. }
            | Self::HandshakeRate { .. } => "/s",
            Self::FanoutBytes { .. }
            | Self::IdleMemory { .. }
            | Self::SubscribedMemory { .. }
            | Self::SocketMemory
            | Self::StreamMemory { .. }
            | Self::TlsMemory
            | Self::CompressionBytes { .. }
            | Self::ChannelMemory { .. } => "B",
            Self::DeliveryP99 { .. }
            | Self::JitterDelay { .. }
            | Self::JitterRecovery { .. }
            | Self::FloodDelay { .. }
            | Self::FloodServer { .. }
            | Self::FloodWelcome { .. } => "ms",
            Self::JitterShare { .. } | Self::FloodCpu { .. } => "%",
            Self::FloodMemory { .. } => "MiB",
            Self::FloodRefused { .. } | Self::FloodEnds { .. } => "",
            Self::StuckMemory => "KiB",
            Self::StormTime | Self::StormCpu => "s",
        }
    }

    fn more_is_better(self) -> bool {
        self.unit() == "/s"
    }

    /// The targets of the project. The throughput of a fan-out has none, because the generator limits it.
    pub fn targets(self) -> &'static [Target] {
        match self {
            Self::FanoutCpu { of: Fanout::Shards | Fanout::Tls, .. } => &[],
            Self::FanoutCpu { of: Fanout::Sse, .. } => &[Target::TimesWebSocket(1.15)],
            Self::FanoutCpu { of: Fanout::SocketIo, window: 1 } => &[Target::TimesNode(0.60)],
            // Either of the two is enough.
            Self::FanoutCpu { of: Fanout::SocketIo, .. } => &[Target::TimesNode(0.10), Target::TimesWebSocket(1.15)],
            Self::SocketMemory => &[Target::AtMost(3072.0)],
            Self::SocketPollRate | Self::SocketPollCpu => &[],
            Self::FanoutCpu { window: 1, .. } => &[Target::TimesFloor(1.10), Target::LikeBun],
            Self::FanoutCpu { .. } | Self::EchoRate | Self::EchoCpu | Self::ConnectRate | Self::ConnectCpu => {
                &[Target::LikeBun]
            }
            Self::FanoutRate { .. } | Self::FanoutBytes { .. } => &[],
            Self::IdleMemory { own_room: false } | Self::SubscribedMemory { published: 0 } => &[Target::AtMost(2048.0)],
            Self::IdleMemory { own_room: true } => &[Target::AtMost(2355.0)], // 2.3 KiB
            Self::ChannelMemory { published: 0 } => &[Target::AtMost(600.0)],
            Self::SubscribedMemory { .. } | Self::StreamMemory { .. } => &[Target::AtMost(2560.0)],
            Self::TlsMemory => &[Target::AtMost(12.0 * 1024.0)],
            Self::CompressionCpu { .. } => &[Target::LikeBun],
            Self::HandshakeRate { .. } | Self::HandshakeCpu { .. } | Self::CompressionBytes { .. } => &[],
            Self::JitterShare { .. } => &[Target::AtLeast(100.0)],
            Self::JitterRecovery { percent: 99, .. } => &[Target::AtMost(1000.0)],
            Self::JitterDelay { .. } | Self::JitterRecovery { .. } | Self::JitterCpu { .. } => &[],
            Self::DeliveryP99 { stuck: true } | Self::DeliveryCpu { stuck: true } => &[Target::LikeWithout],
            // An outbox and a page of 256 KiB each, and as much again for the allocator's rounding.
            Self::StuckMemory => &[Target::AtMost(1024.0)],
            Self::DeliveryP99 { .. } | Self::DeliveryCpu { .. } => &[],
            Self::FloodDelay { .. }
            | Self::FloodServer { .. }
            | Self::FloodWelcome { .. }
            | Self::FloodRefused { .. }
            | Self::FloodMemory { .. }
            | Self::FloodCpu { .. }
            | Self::FloodActs { .. }
            | Self::FloodEnds { .. } => &[],
            Self::StormTime | Self::StormCpu | Self::ChannelMemory { .. } => &[],
        }
    }

    /// The same without a subscriber that does not read.
    fn without(self) -> Option<Self> {
        match self {
            Self::DeliveryP99 { .. } => Some(Self::DeliveryP99 { stuck: false }),
            Self::DeliveryCpu { .. } => Some(Self::DeliveryCpu { stuck: false }),
            _ => None,
        }
    }

    /// The same over WebSockets, measured in the same round.
    fn by_websocket(self) -> Option<Self> {
        match self {
            Self::FanoutCpu { of: Fanout::Sse | Fanout::SocketIo, window } => {
                Some(Self::FanoutCpu { of: Fanout::Native, window })
            }
            _ => None,
        }
    }

    /// The servers of a round are compared with these; with the words for a table's column.
    fn references(self) -> &'static [(ServerKind, &'static str)] {
        match self {
            Self::FanoutCpu { of: Fanout::Shards, .. }
            | Self::FanoutRate { of: Fanout::Shards, .. }
            | Self::FanoutBytes { of: Fanout::Shards } => &[(ServerKind::Fanfare, "x one")],
            Self::SocketMemory
            | Self::SocketPollRate
            | Self::SocketPollCpu
            | Self::JitterShare { by: Transport::SocketIo }
            | Self::JitterDelay { by: Transport::SocketIo, .. }
            | Self::JitterRecovery { by: Transport::SocketIo, .. }
            | Self::JitterCpu { by: Transport::SocketIo }
            | Self::FanoutCpu { of: Fanout::SocketIo, .. }
            | Self::FanoutRate { of: Fanout::SocketIo, .. }
            | Self::FanoutBytes { of: Fanout::SocketIo } => &[(ServerKind::SocketIo, "x node")],
            Self::TlsMemory
            | Self::HandshakeRate { .. }
            | Self::HandshakeCpu { .. }
            | Self::FanoutCpu { of: Fanout::Tls, .. }
            | Self::FanoutRate { of: Fanout::Tls, .. }
            | Self::FanoutBytes { of: Fanout::Tls } => {
                &[(ServerKind::Plain, "x plain"), (ServerKind::Nginx, "x nginx")]
            }
            Self::CompressionCpu { .. } | Self::CompressionBytes { .. } => {
                &[(ServerKind::Ws, "x ws"), (ServerKind::Bun, "x bun")]
            }
            Self::JitterShare { .. }
            | Self::JitterDelay { .. }
            | Self::JitterRecovery { .. }
            | Self::JitterCpu { .. } => &[(ServerKind::Centrifugo, "x centri")],
            _ => &[(ServerKind::Floor, "x floor"), (ServerKind::Bun, "x bun")],
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FanoutCpu { of, window } => write!(f, "{of}, window {window}: server CPU per delivery"),
            Self::FanoutRate { of, window } => write!(f, "{of}, window {window}: deliveries per second"),
            Self::FanoutBytes { of } => write!(f, "{of}: payload of a delivery"),
            Self::EchoRate => f.write_str("echo: echoes per second"),
            Self::EchoCpu => f.write_str("echo: server CPU per echo"),
            Self::ConnectRate => f.write_str("connect: connections made and closed per second"),
            Self::ConnectCpu => f.write_str("connect: server CPU per connection made and closed"),
            Self::IdleMemory { own_room: false } => f.write_str("idle: user memory per joined connection"),
            Self::IdleMemory { own_room: true } => f.write_str("idle: user memory per connection in a room of its own"),
            Self::SocketPollRate => f.write_str("socket.io polls: requests per second"),
            Self::SocketPollCpu => f.write_str("socket.io polls: server CPU per request"),
            Self::SocketMemory => f.write_str("socket.io idle: user memory per client in a room"),
            Self::SubscribedMemory { published: 0 } => {
                f.write_str("native idle: user memory per subscribed connection")
            }
            Self::SubscribedMemory { published } => {
                write!(f, "native idle: user memory per connection after {published} publications")
            }
            Self::DeliveryP99 { stuck: false } => f.write_str("slow: p99 of a delivery, all read"),
            Self::DeliveryP99 { stuck: true } => f.write_str("slow: p99 of a delivery, one more does not read"),
            Self::DeliveryCpu { stuck: false } => f.write_str("slow: server CPU per delivery, all read"),
            Self::DeliveryCpu { stuck: true } => f.write_str("slow: server CPU per delivery, one more does not read"),
            Self::StuckMemory => f.write_str("slow: user memory held for the one that does not read"),
            Self::StormTime => f.write_str("storm: until all have recovered"),
            Self::StormCpu => f.write_str("storm: server CPU until all have recovered"),
            Self::TlsMemory => f.write_str("tls: user memory per subscribed connection"),
            Self::HandshakeRate { resumed } => write!(f, "tls: {} handshakes per second", handshake(*resumed)),
            Self::HandshakeCpu { resumed } => write!(f, "tls: server CPU per {} handshake", handshake(*resumed)),
            Self::CompressionCpu { length, deflated } => {
                write!(f, "compression, {length} B of JSON, {}: server CPU per delivery", form(*deflated))
            }
            Self::CompressionBytes { length, deflated } => {
                write!(f, "compression, {length} B of JSON, {}: bytes on the wire", form(*deflated))
            }
            Self::StreamMemory { by: by @ Transport::Poll, .. } => {
                write!(f, "stream idle: user memory per session whose poll waits, {by}")
            }
            Self::StreamMemory { by, over } => write!(f, "stream idle: user memory per stream, {by}, {over}"),
            Self::FloodDelay { part, percent } => write!(f, "flood, {part}: {} of a delivery", percentile(*percent)),
            Self::FloodServer { part, percent } => {
                write!(f, "flood, {part}: {} in the server, at most", percentile(*percent))
            }
            Self::FloodWelcome { part, percent } => {
                write!(f, "flood, {part}: {} from connect to subscribed", percentile(*percent))
            }
            Self::FloodRefused { part } => write!(f, "flood, {part}: good newcomers refused"),
            Self::FloodMemory { part } => write!(f, "flood, {part}: user memory"),
            Self::FloodCpu { part } => write!(f, "flood, {part}: server CPU"),
            Self::FloodActs { bad } => write!(f, "flood, {bad}: connects and commands"),
            Self::FloodEnds { bad, end } => write!(f, "flood, {bad}: {end}"),
            Self::JitterShare { by } => write!(f, "jitter, {by}: delivered once and in order"),
            Self::JitterDelay { by, percent } => write!(f, "jitter, {by}: p{percent} from publishing to reading"),
            Self::JitterRecovery { by, percent } => write!(f, "jitter, {by}: p{percent} of a recovery"),
            Self::JitterCpu { by } => write!(f, "jitter, {by}: server CPU per delivery, all included"),
            Self::ChannelMemory { published: 0 } => f.write_str("channels: user memory per channel with a subscriber"),
            Self::ChannelMemory { published } => {
                write!(f, "channels: user memory per channel with a subscriber, {published} published")
            }
        }
    }
}

fn percentile(percent: u8) -> String {
    if percent == 100 { "the longest".to_owned() } else { format!("p{percent}") }
}

impl fmt::Display for FloodPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no client",
            Self::Before => "good ones alone",
            Self::During => "beside bad ones",
            Self::After => "good ones alone again",
        })
    }
}

fn handshake(resumed: bool) -> &'static str {
    if resumed { "resumed" } else { "full" }
}

fn form(deflated: bool) -> &'static str {
    if deflated { "deflated" } else { "plain" }
}

impl fmt::Display for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chat => "fan-out",
            Self::Native => "native fan-out",
            Self::Shards => "native fan-out on two cores",
            Self::Sse => "fan-out to event streams",
            Self::Tls => "tls: native fan-out",
            Self::SocketIo => "socket.io fan-out",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimesFloor(times) => write!(f, "at most {times:.2} x the floor"),
            Self::LikeBun => f.write_str("not worse than bun"),
            Self::AtMost(max) => write!(f, "at most {max}"),
            Self::AtLeast(min) => write!(f, "at least {min}"),
            Self::LikeWithout => f.write_str("not worse than without"),
            Self::TimesWebSocket(times) => write!(f, "at most {times:.2} x the same over WebSockets"),
            Self::TimesNode(times) => write!(f, "at most {times:.2} x Socket.IO on Node"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Held => "held",
            Self::Equal => "equal (quartiles overlap)",
            Self::Missed => "MISSED",
        })
    }
}

/// The load of the machine by all programs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// Cores that this program may use.
    pub cores: usize,
    /// The load average of the last minute when the measurement began: that of other programs.
    pub load_before: f64,
    /// The same at its end; the measurement itself keeps about two cores busy.
    pub load_after: f64,
}

/// All samples of a measurement.
#[derive(Debug, Default)]
pub struct Report {
    /// Where known.
    pub machine: Option<Machine>,
    samples: BTreeMap<Metric, BTreeMap<ServerKind, Vec<f64>>>,
}

impl Report {
    /// Adds a round's samples; every server's rounds in order.
    pub fn add(&mut self, kind: ServerKind, samples: &[Sample]) {
        for sample in samples {
            self.samples.entry(sample.metric).or_default().entry(kind).or_default().push(sample.value);
        }
    }

    /// Whether it has no samples.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    fn summary(&self, metric: Metric, kind: ServerKind) -> Option<Summary> {
        Summary::of(self.samples.get(&metric)?.get(&kind)?)
    }

    /// The summary of the rounds' ratios.
    fn ratio(&self, metric: Metric, kind: ServerKind, to: ServerKind) -> Option<Summary> {
        let of = self.samples.get(&metric)?;
        let ratios: Vec<f64> = of.get(&kind)?.iter().zip(of.get(&to)?).map(|(ours, theirs)| ours / theirs).collect();
        Summary::of(&ratios)
    }

    /// `None` if a needed server did not take part.
    pub fn verdict(&self, metric: Metric, target: Target) -> Option<Verdict> {
        let ours = self.summary(metric, ServerKind::Fanfare)?;
        let held = match target {
            Target::TimesFloor(times) => self.ratio(metric, ServerKind::Fanfare, ServerKind::Floor)?.median <= times,
            Target::TimesNode(times) => self.ratio(metric, ServerKind::Fanfare, ServerKind::SocketIo)?.median <= times,
            Target::AtMost(max) => ours.median <= max,
            Target::AtLeast(min) => ours.median >= min,
            Target::TimesWebSocket(times) => {
                let other = self.summary(metric.by_websocket()?, ServerKind::Fanfare)?;
                ours.median <= times * other.median
            }
            Target::LikeBun | Target::LikeWithout => {
                let other = match target {
                    Target::LikeBun => self.summary(metric, ServerKind::Bun)?,
                    _ => self.summary(metric.without()?, ServerKind::Fanfare)?,
                };
                let better =
                    if metric.more_is_better() { ours.median >= other.median } else { ours.median <= other.median };
                if !better && ours.overlaps(&other) {
                    return Some(Verdict::Equal);
                }
                better
            }
        };
        Some(if held { Verdict::Held } else { Verdict::Missed })
    }

    /// Every target that can be judged.
    pub fn verdicts(&self) -> impl Iterator<Item = (Metric, Target, Verdict)> + '_ {
        self.samples
            .keys()
            .flat_map(|&metric| metric.targets().iter().map(move |&target| (metric, target)))
            .filter_map(|(metric, target)| Some((metric, target, self.verdict(metric, target)?)))
    }

    /// A metric as a block: a line for each server, with the ratios.
    fn write_compared(&self, f: &mut fmt::Formatter<'_>, metric: Metric) -> fmt::Result {
        let of = &self.samples[&metric];
        let rounds = of.values().map(Vec::len).max().unwrap_or(0);
        writeln!(f, "{metric} ({}; median [q1 - q3] of {rounds} rounds)", metric.unit())?;
        write!(f, "  {:<9} {:>10}   {:<23}", "", "median", "[q1 - q3]")?;
        for (_, column) in metric.references() {
            write!(f, " {column:>8}")?;
        }
        writeln!(f)?;
        for &kind in of.keys() {
            let Some(Summary { q1, median, q3, .. }) = self.summary(metric, kind) else { continue };
            let range = format!("[{} - {}]", value(q1), value(q3));
            write!(f, "  {kind:<9} {:>10}   {range:<23}", value(median))?;
            for &(to, _) in metric.references() {
                match self.ratio(metric, kind, to) {
                    Some(ratio) => write!(f, " {:>8.2}", ratio.median)?,
                    None => write!(f, " {:>8}", "-")?,
                }
            }
            writeln!(f)?;
        }
        writeln!(f)
    }

    /// Figures of Fanfare alone: a line for each metric.
    fn write_alone(&self, f: &mut fmt::Formatter<'_>, metrics: &[&Metric]) -> fmt::Result {
        if metrics.is_empty() {
            return Ok(());
        }
        writeln!(f, "fanfare alone (median [q1 - q3] of so many samples)")?;
        for &&metric in metrics {
            let Some(Summary { count, q1, median, q3 }) = self.summary(metric, ServerKind::Fanfare) else { continue };
            let (range, unit) = (format!("[{} - {}]", value(q1), value(q3)), metric.unit());
            writeln!(f, "  {:<65} {:>8} {unit:<4} {range:<19} {count:>3}", metric.to_string(), value(median))?;
        }
        writeln!(f)
    }

    /// For programs: every sample, summary, ratio and verdict.
    pub fn to_json(&self) -> serde_json::Value {
        let metrics: Vec<_> = self
            .samples
            .iter()
            .map(|(&metric, of)| {
                let servers: Vec<_> = of
                    .iter()
                    .map(|(&kind, samples)| {
                        json!({
                            "server": kind,
                            "samples": samples,
                            "summary": Summary::of(samples),
                            "to_floor": self.ratio(metric, kind, ServerKind::Floor),
                            "to_bun": self.ratio(metric, kind, ServerKind::Bun),
                            "to_fanfare": self.ratio(metric, kind, ServerKind::Fanfare),
                        })
                    })
                    .collect();
                json!({ "metric": metric.to_string(), "unit": metric.unit(), "servers": servers })
            })
            .collect();
        let verdicts: Vec<_> = self
            .verdicts()
            .map(|(metric, target, verdict)| {
                json!({ "metric": metric.to_string(), "target": target.to_string(), "verdict": verdict })
            })
            .collect();
        json!({ "machine": self.machine, "metrics": metrics, "verdicts": verdicts })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Machine { cores, load_before, load_after }) = self.machine {
            writeln!(f, "{cores} cores, load average {load_before:.1} before and {load_after:.1} after")?;
            if load_before > 0.5 || load_after > 2.5 {
                writeln!(f, "others were at work: trust ratios of CPU time, not figures per second")?;
            }
            writeln!(f)?;
        }
        let (alone, compared): (Vec<&Metric>, Vec<&Metric>) =
            self.samples.keys().partition(|metric| self.samples[metric].keys().eq([&ServerKind::Fanfare]));
        for metric in compared {
            self.write_compared(f, *metric)?;
        }
        self.write_alone(f, &alone)?;
        for (metric, target, verdict) in self.verdicts() {
            writeln!(f, "{verdict:<26} {metric}: {target}")?;
        }
        Ok(())
    }
}

/// Three or four digits are as exact as such a measurement is.
fn value(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(metric: Metric, of: &[(ServerKind, &[f64])]) -> Report {
        let mut report = Report::default();
        for &(kind, values) in of {
            for &value in values {
                report.add(kind, &[Sample { metric, value }]);
            }
        }
        report
    }

    #[test]
    fn verdicts_against_bun() {
        let table = [
            ("less CPU", Metric::EchoCpu, [1.0, 2.0], [3.0, 4.0], Verdict::Held),
            ("more CPU", Metric::EchoCpu, [5.0, 6.0], [3.0, 4.0], Verdict::Missed),
            ("more CPU, overlapping", Metric::EchoCpu, [3.0, 5.0], [3.0, 4.0], Verdict::Equal),
            ("more per second", Metric::EchoRate, [5.0, 6.0], [3.0, 4.0], Verdict::Held),
            ("fewer per second", Metric::EchoRate, [1.0, 2.0], [3.0, 4.0], Verdict::Missed),
            ("fewer per second, overlapping", Metric::EchoRate, [2.0, 4.0], [3.0, 4.0], Verdict::Equal),
        ];
        for (name, metric, ours, bun, expected) in table {
            let report = report(metric, &[(ServerKind::Fanfare, &ours), (ServerKind::Bun, &bun)]);
            assert_eq!(report.verdict(metric, Target::LikeBun), Some(expected), "{name}");
        }
    }

    #[test]
    fn the_floor_is_compared_round_by_round() {
        let metric = Metric::FanoutCpu { of: Fanout::Chat, window: 1 };
        // The machine was half as fast in two of three rounds; the ratio of each round is 1.05.
        let report = report(metric, &[(ServerKind::Fanfare, &[4.2, 8.4, 8.4]), (ServerKind::Floor, &[4.0, 8.0, 8.0])]);
        assert_eq!(report.verdict(metric, Target::TimesFloor(1.10)), Some(Verdict::Held));
        assert_eq!(report.verdict(metric, Target::TimesFloor(1.04)), Some(Verdict::Missed));
        assert_eq!(report.verdict(metric, Target::LikeBun), None, "bun did not take part");
    }

    #[test]
    fn a_latency_is_compared_with_the_one_without_the_stuck_subscriber() {
        let table = [
            ("better", [1.0, 2.0], [3.0, 4.0], Verdict::Held),
            ("worse, overlapping", [3.0, 5.0], [3.0, 4.0], Verdict::Equal),
            ("worse", [5.0, 6.0], [3.0, 4.0], Verdict::Missed),
        ];
        for (name, with, without, expected) in table {
            let mut report = report(Metric::DeliveryP99 { stuck: true }, &[(ServerKind::Fanfare, &with)]);
            for value in without {
                report.add(ServerKind::Fanfare, &[Sample { metric: Metric::DeliveryP99 { stuck: false }, value }]);
            }
            let verdicts: Vec<_> = report.verdicts().map(|(.., verdict)| verdict).collect();
            assert_eq!(verdicts, [expected], "{name}");
        }
    }

    #[test]
    fn a_figure_of_fanfare_alone_is_one_line() {
        let report = report(Metric::SubscribedMemory { published: 0 }, &[(ServerKind::Fanfare, &[1500.0])]);
        let expected = "\
fanfare alone (median [q1 - q3] of so many samples)
  native idle: user memory per subscribed connection                    1500 B    [1500 - 1500]         1

held                       native idle: user memory per subscribed connection: at most 2048
";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn two_shards_are_compared_with_one() {
        let metric = Metric::FanoutCpu { of: Fanout::Shards, window: 1 };
        let report = report(metric, &[(ServerKind::Fanfare, &[4.0, 8.0]), (ServerKind::FanfareTwo, &[5.0, 10.0])]);
        let text = report.to_string();
        let line = text.lines().find(|line| line.contains("fanfare-2")).expect("a line of its own");
        assert!(text.contains("x one") && line.ends_with("1.25"), "{text}");
    }

    #[test]
    fn the_table() {
        let metric = Metric::IdleMemory { own_room: false };
        let report = report(
            metric,
            &[(ServerKind::Fanfare, &[1000.0, 1100.0, 1200.0]), (ServerKind::Floor, &[20.0, 20.0, 20.0])],
        );
        let expected = "\
idle: user memory per joined connection (B; median [q1 - q3] of 3 rounds)
                median   [q1 - q3]                x floor    x bun
  fanfare         1100   [1050 - 1150]              55.00        -
  floor          20.00   [20.00 - 20.00]             1.00        -

held                       idle: user memory per joined connection: at most 2048
";
        assert_eq!(report.to_string(), expected);
    }
}
