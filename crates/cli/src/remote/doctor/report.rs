//! The report of `fanfare doctor`: transports, findings and facts, as text and as JSON.
//!
//! Texts of the server are excerpts without control characters. Equal findings about several transports are one.
//! The JSON is described in docs/doctor.md; fields are only ever added.

use super::kinds::{Kind, Severity};
use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// How much of a peer's text is shown.
const EXCERPT_CHARS: usize = 160;

/// A finding: its kind, and the place where it was seen.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) kind: &'static Kind,
    /// Transports, or parts of the way.
    about: Vec<&'static str>,
    tried: String,
    seen: String,
}

impl Finding {
    pub(super) fn new(
        kind: &'static Kind,
        about: &'static str,
        tried: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Finding { kind, about: vec![about], tried: tried.into(), seen: seen.into() }
    }
}

/// The result for a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Works,
    /// Messages pass, with a fault.
    Degraded,
    Fails,
    /// Fanfare itself refuses this client.
    Refused,
    /// The server does not serve it, or a refusal came first.
    Untried,
}

/// A connection that was watched while it was idle.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Idle {
    pub(super) watched_ms: u64,
    pub(super) heartbeats: u32,
    /// The time without a byte after which it was ended.
    pub(super) cut_after_ms: Option<u64>,
}

/// A transport that was tried.
#[derive(Debug, Serialize)]
pub(super) struct Transport {
    #[serde(rename = "transport")]
    pub(super) name: &'static str,
    pub(super) path: String,
    pub(super) state: State,
    /// From the request to the first message.
    pub(super) first_message_ms: Option<u64>,
    /// `permessage-deflate`, or the content encoding.
    pub(super) compression: Option<String>,
    pub(super) idle: Option<Idle>,
}

impl Transport {
    pub(super) fn new(name: &'static str, path: impl Into<String>) -> Self {
        let path = path.into();
        Transport { name, path, state: State::Untried, first_message_ms: None, compression: None, idle: None }
    }

    fn serves(&self) -> bool {
        matches!(self.state, State::Works | State::Degraded)
    }
}

/// The certificate, and what was agreed upon.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TlsFacts {
    pub(super) version: Option<String>,
    pub(super) names: Vec<String>,
    pub(super) issuer: Option<String>,
    /// Certificates that the server sends, its own included.
    pub(super) chain: usize,
    pub(super) expires_in_days: Option<i64>,
}

/// All that was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) url: String,
    /// IP address and port.
    pub(super) address: Option<String>,
    /// The versions of HTTP that were seen: `1.0`, `1.1`, `2`.
    pub(super) http: Vec<&'static str>,
    /// Programs in between that name themselves.
    pub(super) proxies: Vec<String>,
    pub(super) tls: Option<TlsFacts>,
    /// The server's clock minus this one's.
    pub(super) clock_offset_ms: Option<i64>,
    /// The address by which the server knows this client.
    pub(super) seen_as: Option<IpAddr>,
    /// Between heartbeats.
    pub(super) ping_ms: Option<u64>,
    pub(super) transports: Vec<Transport>,
    #[serde(serialize_with = "grouped")]
    pub(super) findings: Vec<Finding>,
}

/// The result of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Well,
    Degraded,
    Broken,
}

impl Report {
    pub(super) fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(super) fn verdict(&self) -> Verdict {
        // Plain event streams carry one direction only: they do not stand in for a whole transport.
        let serves = self.transports.iter().any(|transport| transport.name != "events" && transport.serves());
        let worst = self.findings.iter().map(|finding| finding.kind.severity).max();
        match (serves, worst) {
            (false, _) => Verdict::Broken,
            (true, Some(Severity::Problem | Severity::Warning)) => Verdict::Degraded,
            (true, Some(Severity::Note) | None) => Verdict::Well,
        }
    }

    /// 0 well, 1 degraded, 2 broken.
    pub(super) fn status(&self) -> u8 {
        match self.verdict() {
            Verdict::Well => 0,
            Verdict::Degraded => 1,
            Verdict::Broken => 2,
        }
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'r> {
            verdict: Verdict,
            status: u8,
            #[serde(flatten)]
            report: &'r Report,
        }
        let whole = Whole { verdict: self.verdict(), status: self.status(), report: self };
        let json = serde_json::to_string(&whole).expect("text, numbers and lists are JSON");
        json + "\n"
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{}{}\n", self.url, self.facts());
        if !self.transports.is_empty() {
            out.push('\n');
        }
        for transport in &self.transports {
            let state = format!("{:?}", transport.state).to_lowercase();
            let line = format!("  {:<10} {:<9} {}", transport.name, state, told(transport));
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for finding in self.groups() {
            let Finding { kind, about, tried, seen } = finding;
            let severity = format!("{:?}", kind.severity).to_lowercase();
            let _ = writeln!(out, "\n{severity}: {} ({})", kind.title, about.join(", "));
            let _ = writeln!(
                out,
                "  tried:  {tried}\n  seen:   {seen}\n  means:  {}\n  change: {}",
                kind.means, kind.change
            );
            for (program, line) in self.lines(kind) {
                let label = format!("{program}:");
                for (number, line) in line.lines().enumerate() {
                    let _ = writeln!(out, "  {:<8} {line}", if number == 0 { label.as_str() } else { "" });
                }
            }
        }
        let last = match self.verdict() {
            Verdict::Well => "All is well.",
            Verdict::Degraded => "Clients are served, and not as well as they could be.",
            Verdict::Broken => "No client is served.",
        };
        let _ = writeln!(out, "\n{last}");
        out
    }

    fn facts(&self) -> String {
        let mut facts = Vec::new();
        facts.extend(self.address.clone());
        facts.extend(self.http.iter().map(|version| format!("HTTP/{version}")));
        if let Some(tls) = &self.tls {
            facts.extend(tls.version.clone());
            facts.extend(tls.expires_in_days.map(|days| format!("certificate valid for {days} days")));
        }
        if !self.proxies.is_empty() {
            facts.push(format!("through {}", self.proxies.join(", ")));
        }
        facts.extend(self.seen_as.map(|address| format!("seen as {address}")));
        facts.extend(self.clock_offset_ms.map(|ms| format!("clock {:+.1} s", ms as f64 / 1000.0)));
        if facts.is_empty() { String::new() } else { format!(" ({})", facts.join("; ")) }
    }

    fn groups(&self) -> Vec<Finding> {
        grouped_by_kind(&self.findings)
    }

    /// The lines for the proxies that are there; where none names itself, for all.
    fn lines(&self, kind: &'static Kind) -> Vec<(&'static str, &'static str)> {
        let known = |program: &str| {
            let named = |proxy: &String| proxy.to_ascii_lowercase().contains(&program.to_ascii_lowercase());
            program == "Fanfare" || self.proxies.iter().any(named)
        };
        let any = ["nginx", "Caddy", "HAProxy"].iter().any(|program| known(program));
        kind.lines.iter().copied().filter(|(program, _)| !any || known(program)).collect()
    }
}

fn told(transport: &Transport) -> String {
    let mut told = vec![transport.path.clone()];
    told.extend(transport.first_message_ms.map(|ms| format!("first message after {ms} ms")));
    told.extend(transport.compression.clone());
    told.extend(transport.idle.map(|idle| match idle.cut_after_ms {
        Some(ms) => format!("cut after {:.1} s of silence", ms as f64 / 1000.0),
        None => format!("open for {:.1} s", idle.watched_ms as f64 / 1000.0),
    }));
    told.join(", ")
}

/// Findings of one kind are one, with the first one's words. The worst come first.
fn grouped_by_kind(findings: &[Finding]) -> Vec<Finding> {
    let mut groups: Vec<Finding> = Vec::new();
    for finding in findings {
        match groups.iter_mut().find(|group| group.kind == finding.kind) {
            Some(group) => {
                let new = finding.about.iter().filter(|about| !group.about.contains(about));
                let new: Vec<_> = new.copied().collect();
                group.about.extend(new);
            }
            None => groups.push(Finding {
                kind: finding.kind,
                about: finding.about.clone(),
                tried: finding.tried.clone(),
                seen: finding.seen.clone(),
            }),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.kind.severity));
    groups
}

fn grouped<S: Serializer>(findings: &[Finding], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(grouped_by_kind(findings))
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line {
            program: &'static str,
            text: &'static str,
        }
        let lines: Vec<Line> = self.kind.lines.iter().map(|&(program, text)| Line { program, text }).collect();
        let mut out = serializer.serialize_struct("Finding", 9)?;
        out.serialize_field("code", self.kind.code)?;
        out.serialize_field("severity", &self.kind.severity)?;
        out.serialize_field("about", &self.about)?;
        out.serialize_field("title", self.kind.title)?;
        out.serialize_field("tried", &self.tried)?;
        out.serialize_field("seen", &self.seen)?;
        out.serialize_field("means", self.kind.means)?;
        out.serialize_field("change", self.kind.change)?;
        out.serialize_field("lines", &lines)?;
        out.end()
    }
}

/// The beginning of a peer's text, in one line.
pub(super) fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let plain: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT_CHARS).collect();
    if text.trim().chars().count() > EXCERPT_CHARS { plain + "…" } else { plain }
}

/// Whole milliseconds.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `1.5 s`.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
