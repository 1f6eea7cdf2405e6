//! The log: what the hub notes, said at a fitting level and never too often; and the process's log as a whole.
//!
//! Whatever a peer can cause goes through [`admit`]: of each kind a few lines at once and then one a second for each thread,
//! and the next line tells how many were left out. So an attack cannot fill a disk, whatever subscriber the embedding
//! program has. [`Logs`] sets one up: text for people or JSON for machines on stderr, with secrets blotted out and a bound
//! on all lines together. Texts of peers are quoted, so that no line break of theirs begins a line of ours.

use super::request::RequestId;
use fanfare_hub::{Disconnect, Note, Noted};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tracing::field::display;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What is limited together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Denied,
    Unsubscribed,
    NotRecovered,
    Gap,
    Behind,
    Closed,
    Ignored,
    Upgrade,
    Request,
    Accept,
    Handler,
}

const KINDS: usize = Kind::Handler as usize + 1;
/// Lines of one kind that may come at once.
const BURST: f64 = 10.0;
/// Lines of one kind in a second, in the long run.
const PER_SECOND: f64 = 1.0;

/// Lines that were left out, by whatever limit.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn lines_left_out() -> u64 {
    LEFT_OUT.load(Relaxed)
}

/// Fills with time and is emptied by lines.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    room: f64,
    seen: Option<Instant>,
    left_out: u64,
}

impl Bucket {
    const fn full(burst: f64) -> Self {
        Bucket { room: burst, seen: None, left_out: 0 }
    }

    /// Whether there is room for one more line, and how many found none since the last one that did.
    fn take(&mut self, now: Instant, per_second: f64, burst: f64) -> Option<u64> {
        let since = self.seen.map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        self.seen = Some(now);
        self.room = (self.room + since.as_secs_f64() * per_second).min(burst);
        if self.room < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.room -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Whether one more line of this kind may be logged, and how many were left out before it, if any.
pub(crate) fn admit(kind: Kind) -> Option<Option<u64>> {
    thread_local! {
        static BUCKETS: RefCell<[Bucket; KINDS]> = const { RefCell::new([Bucket::full(BURST); KINDS]) };
    }
    let admitted = BUCKETS.with_borrow_mut(|buckets| buckets[kind as usize].take(Instant::now(), PER_SECOND, BURST));
    if admitted.is_none() {
        LEFT_OUT.fetch_add(1, Relaxed);
    }
    admitted.map(|left_out| (left_out > 0).then_some(left_out))
}

/// Logs, unless there were too many of the kind; looks at the limit only where anybody listens.
macro_rules! limited {
    ($kind:ident, $level:ident, $($line:tt)*) => {
        if tracing::enabled!(tracing::Level::$level)
            && let Some(left_out) = $crate::watch::logs::admit($crate::watch::logs::Kind::$kind)
        {
            tracing::event!(tracing::Level::$level, left_out, $($line)*);
        }
    };
}
pub(crate) use limited;

/// Says what the hub has noted.
pub(crate) fn say(note: &Note) {
    let client = note.client.map(display);
    let user = note.user.as_ref().map(|user| &*user.0);
    match &note.what {
        Noted::Denied(error) | Noted::Unsubscribed(error) => {
            let channel = error.channel.as_ref().map(|channel| channel.as_str());
            let (code, rule) = (error.code.row().word, error.rule.as_deref());
            let (option, why) = (error.option, &*error.message);
            // A line's words are fixed where it is written, so that nothing is put together for a level that nobody reads.
            macro_rules! refused {
                ($kind:ident, $words:literal) => {
                    limited!($kind, INFO, client, user, channel, code, rule, option, why, $words)
                };
            }
            match &note.what {
                Noted::Denied(_) => refused!(Denied, "denied"),
                _ => refused!(Unsubscribed, "a subscription was ended"),
            }
        }
        Noted::NotRecovered { channel } => {
            let channel = channel.as_str();
            limited!(NotRecovered, INFO, client, user, channel, "not recovered: what it missed is not kept any more");
        }
        Noted::Gap { channel, reset } => {
            let channel = channel.as_str();
            limited!(Gap, INFO, client, user, channel, reset, "a gap: it was told that messages are lost to it");
        }
        Noted::Behind => limited!(Behind, INFO, client, user, "reads too slowly: it pulls what it misses as it reads"),
        Noted::Closed(reason) => {
            let word = reason.row().word;
            match reason {
                Disconnect::Internal => limited!(Closed, ERROR, client, user, reason = word, "disconnected"),
                Disconnect::Abuse | Disconnect::Overloaded => {
                    limited!(Closed, WARN, client, user, reason = word, "disconnected");
                }
                Disconnect::Slow
                | Disconnect::Lost
                | Disconnect::Unauthorized
                | Disconnect::Kicked
                | Disconnect::BadProtocol => limited!(Closed, INFO, client, user, reason = word, "disconnected"),
                _ => limited!(Closed, DEBUG, client, user, reason = word, "disconnected"),
            }
        }
        // `Reloaded` is each shard's part of what the node says once (`crate::reload`).
        _ => {}
    }
}

/// Logs a message of a client that was ignored.
pub(crate) fn ignored(why: &dyn fmt::Display) {
    limited!(Ignored, INFO, why = &*why.to_string(), "message ignored");
}

/// Logs a request that was answered.
pub(crate) fn request(id: &RequestId, method: &str, path: &str, status: u16, took: Duration) {
    let (request_id, ms) = (id.as_str(), took.as_millis() as u64);
    if status >= 500 {
        limited!(Request, WARN, request_id, method, path, status, ms, "request failed");
    } else {
        tracing::debug!(request_id, method, path, status, ms, "request");
    }
}

/// Logs an upgrade that was refused: why a page or a client cannot connect.
pub(crate) fn upgrade_refused(id: &RequestId, path: &str, status: u16, why: &str) {
    let path = &path[..path.char_indices().nth(128).map_or(path.len(), |(at, _)| at)];
    limited!(Upgrade, INFO, request_id = id.as_str(), path, status, why, "a WebSocket was refused");
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: time, level, words, then `client=… user="…" channel="…"`.
    #[default]
    Text,
    /// For machines: one object a line, the same fields beside `timestamp`, `level` and `message`.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(LogError::Format { found: text.to_owned() }),
        }
    }
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Not a word for a format.
    #[error("{found:?} is no format of logs: write text or json")]
    Format {
        /// The text.
        found: String,
    },
    /// Not a filter.
    #[error("{found:?} is no filter of logs: write a level (error, warn, info, debug, trace) or TARGET=LEVEL,…: {why}")]
    Filter {
        /// The text.
        found: String,
        /// What is wrong with it.
        why: String,
    },
    /// The process has a log already.
    #[error("this process has set up its log before")]
    Twice,
}

/// The log of a process that has no subscriber of its own: to stderr.
///
/// ```no_run
/// use fanfare::{LogFormat, Logs};
///
/// Logs::default().format(LogFormat::Json).filter("info").init()?;
/// # Ok::<(), fanfare::LogError>(())
/// ```
#[derive(Clone)]
pub struct Logs {
    format: LogFormat,
    filter: String,
    secrets: LogSecrets,
}

/// The texts that a log blots out: keys that come later, as by a reload, are added here.
#[derive(Clone, Default)]
pub struct LogSecrets(Arc<RwLock<Vec<Box<str>>>>);

impl fmt::Debug for LogSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSecrets(hidden)")
    }
}

impl LogSecrets {
    /// One more text that must not appear from here on. Those that are known stay: a key that is good no more may still be
    /// shown by who has it. Texts of less than 8 bytes are not looked for.
    pub fn add(&self, secret: &str) {
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if secret.len() >= SECRET_BYTES_MIN && secrets.iter().all(|other| **other != *secret) {
            secrets.push(secret.into());
        }
    }

    fn redact<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        redact(line, &self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Logs {
    /// Text, from `info` up.
    fn default() -> Self {
        Logs { format: LogFormat::Text, filter: "info".to_owned(), secrets: LogSecrets::default() }
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (format, filter) = (&self.format, &self.filter);
        f.debug_struct("Logs").field("format", format).field("filter", filter).finish_non_exhaustive()
    }
}

impl Logs {
    /// How lines are written.
    #[must_use]
    pub fn format(self, format: LogFormat) -> Self {
        Logs { format, ..self }
    }

    /// Which lines: a level, or a list like `info,fanfare=debug`.
    #[must_use]
    pub fn filter(self, filter: &str) -> Self {
        Logs { filter: filter.to_owned(), ..self }
    }

    /// A text that must not appear in the log, wherever it comes from: an API key, a secret of the configuration. Texts of
    /// less than 8 bytes are not looked for.
    #[must_use]
    pub fn secret(self, secret: &str) -> Self {
        self.secrets.add(secret);
        self
    }

    /// Where further ones can be added while the log is written.
    pub fn secrets(&self) -> LogSecrets {
        self.secrets.clone()
    }

    /// Sets it up.
    ///
    /// # Errors
    /// [`LogError::Filter`] and [`LogError::Twice`].
    pub fn init(self) -> Result<(), LogError> {
        self.init_to(io::stderr)
    }

    fn init_to<W: Write>(self, writer: impl Fn() -> W + Send + Sync + 'static) -> Result<(), LogError> {
        let wrong = |error: tracing_subscriber::filter::ParseError| LogError::Filter {
            found: self.filter.clone(),
            why: error.to_string(),
        };
        let filter = EnvFilter::try_new(&self.filter).map_err(wrong)?;
        let secrets = self.secrets;
        let budget = Mutex::new(Bucket::full(ALL_BURST));
        let out = Out { writer, secrets, format: self.format, budget: Arc::new(budget) };
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
        let colours = io::stderr().is_terminal();
        let done = match self.format {
            LogFormat::Text => builder.with_ansi(colours).with_writer(out).try_init(),
            LogFormat::Json => builder.json().flatten_event(true).with_writer(out).try_init(),
        };
        done.map_err(|_| LogError::Twice)
    }
}

const SECRET_BYTES_MIN: usize = 8;
/// What stands for a secret.
const BLOT: &[u8] = b"[redacted]";
/// Lines of all kinds that may come at once, and in a second in the long run: whatever level somebody has chosen.
const ALL_BURST: f64 = 2_000.0;
const ALL_PER_SECOND: f64 = 100.0;

/// Where finished lines go.
struct Out<F> {
    writer: F,
    secrets: LogSecrets,
    format: LogFormat,
    budget: Arc<Mutex<Bucket>>,
}

/// Writes one line.
struct Line<'a, W> {
    writer: W,
    secrets: &'a LogSecrets,
    format: LogFormat,
    budget: &'a Mutex<Bucket>,
}

impl<'a, W: Write, F: Fn() -> W + 'static> MakeWriter<'a> for Out<F> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line { writer: (self.writer)(), secrets: &self.secrets, format: self.format, budget: &self.budget }
    }
}

impl<W: Write> Write for Line<'_, W> {
    /// The subscriber gives whole lines. One that cannot be written (a terminal that was closed, a pipe without a reader, a
    /// full disk) is left out: the subscriber would tell of an error by `eprintln!`, which panics where stderr is gone, and
    /// a server must not end because nobody reads its log.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let admitted = {
            let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.take(Instant::now(), ALL_PER_SECOND, ALL_BURST)
        };
        match admitted.map(|left_out| self.put(line, left_out)) {
            Some(Ok(())) => {}
            None | Some(Err(_)) => {
                LEFT_OUT.fetch_add(1, Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.writer.flush(); // as above
        Ok(())
    }
}

impl<W: Write> Line<'_, W> {
    fn put(&mut self, line: &[u8], left_out: u64) -> io::Result<()> {
        if left_out > 0 {
            match self.format {
                LogFormat::Text => writeln!(self.writer, "{left_out} lines were left out here: too many at once")?,
                LogFormat::Json => writeln!(
                    self.writer,
                    "{{\"level\":\"WARN\",\"message\":\"lines were left out here: too many at once\",\"left_out\":{left_out}}}"
                )?,
            }
        }
        self.writer.write_all(&self.secrets.redact(line))
    }
}

/// A line without what must not be read by whoever reads logs. Nothing of the sort is logged on purpose; this is for what
/// comes in a text of somebody else: known secrets, what follows `Bearer` or `token=`, and what looks like a JWT or a ticket.
fn redact<'a>(line: &'a [u8], secrets: &[Box<str>]) -> Cow<'a, [u8]> {
    let mut out = Cow::Borrowed(line);
    for secret in secrets {
        // On from behind the blot, which may hold the secret itself.
        let mut searched = 0;
        while let Some(at) = memchr::memmem::find(&out[searched..], secret.as_bytes()) {
            let at = searched + at;
            out = Cow::Owned([&out[..at], BLOT, &out[at + secret.len()..]].concat());
            searched = at + BLOT.len();
        }
    }
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < out.len() {
        let len = out[at..].iter().take_while(|byte| is_of_token(**byte)).count();
        if len > 0 && (follows_a_name(&out[..at]) || looks_secret(&out[at..at + len])) {
            cuts.push((at, at + len));
        }
        at += len.max(1);
    }
    if cuts.is_empty() {
        return out;
    }
    let (mut clean, mut kept) = (Vec::with_capacity(out.len()), 0);
    for (from, to) in cuts {
        clean.extend_from_slice(&out[kept..from]);
        clean.extend_from_slice(BLOT);
        kept = to;
    }
    clean.extend_from_slice(&out[kept..]);
    Cow::Owned(clean)
}

/// Of what tokens are made: base64 of both kinds, and the dots of a JWT.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+' | b'/')
}

/// True where what stands before says that a secret follows.
fn follows_a_name(before: &[u8]) -> bool {
    const NAMES: [&str; 8] =
        ["bearer ", "token=", "ticket=", "api_key=", "token\":\"", "ticket\":\"", "token\\\":\\\"", "ticket\\\":\\\""];
    NAMES.iter().any(|name| {
        before.len() >= name.len() && before[before.len() - name.len()..].eq_ignore_ascii_case(name.as_bytes())
    })
}

/// A JWT begins with the base64 of `{"`, and has three parts; a ticket of ours with its version (2, and four bits of what
/// follows), and is long.
fn looks_secret(word: &[u8]) -> bool {
    let jwt = word.starts_with(b"eyJ") && word.iter().filter(|byte| **byte == b'.').count() >= 2;
    let ticket = word.len() >= 90
        && word[0] == b'A'
        && (b'g'..=b'v').contains(&word[1])
        && !word.contains(&b'.')
        && !word.contains(&b'/');
    jwt || ticket
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_hub::{ClientId, Proof, ShardId};
    use fanfare_wire::ticket::{self, Claims};

    #[test]
    fn a_flood_logs_a_few_lines_and_the_next_one_tells_how_many_were_left_out() {
        let mut bucket = Bucket::full(BURST);
        let born = Instant::now();
        let at = |ms| born + Duration::from_millis(ms);
        let logged = (0..1_000).filter(|&ms| bucket.take(at(ms), PER_SECOND, BURST).is_some()).count();
        assert_eq!(logged, 10);
        assert_eq!(bucket.take(at(1_100), PER_SECOND, BURST), Some(990));
        assert_eq!(bucket.take(at(1_101), PER_SECOND, BURST), None);
        assert_eq!(bucket.take(at(60_000), PER_SECOND, BURST), Some(1));
        let logged = (0..100).filter(|_| bucket.take(at(60_000), PER_SECOND, BURST).is_some()).count();
        assert_eq!(logged, 9, "quiet does not save up more than a burst");
    }

    #[test]
    fn secrets_are_blotted_out_and_nothing_else_is() {
        let claims = Claims {
            node: u64::MAX,
            shard: ShardId(1),
            client: ClientId(7),
            user: None,
            issued_ms: 1_700_000_000_000,
            expires_ms: 1_700_003_600_000,
            proof: Proof::default(),
        };
        let ticket = ticket::seal(&claims, b"key");
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
        let secrets = ["s3cret-of-the-file".into()];
        let rows = [
            (format!("took {ticket} of it"), "took [redacted] of it".to_owned()),
            (format!("why=\"{jwt}\""), "why=\"[redacted]\"".to_owned()),
            ("authorization: bearer abc123+/==".into(), "authorization: bearer [redacted]==".into()),
            ("/v1/sse?token=abc&x=1".into(), "/v1/sse?token=[redacted]&x=1".into()),
            (r#"{"token":"abc","a":1}"#.into(), r#"{"token":"[redacted]","a":1}"#.into()),
            ("s3cret-of-the-file s3cret-of-the-file".into(), "[redacted] [redacted]".into()),
            ("denied client=00c0ffee00c0ffee user=\"ada\" channel=\"chat:a\"".into(), String::new()),
            ("Ag is short, eyJ has no dots".into(), String::new()),
        ];
        for (line, expected) in rows {
            let expected = if expected.is_empty() { line.clone() } else { expected };
            assert_eq!(String::from_utf8_lossy(&redact(line.as_bytes(), &secrets)), expected);
        }
        // A secret that the blot holds is blotted out once, and then it is done.
        for (secret, line, expected) in [
            ("redacted", "redacted, redacted", "[redacted], [redacted]"),
            ("[redacted]", "a [redacted] b", "a [redacted] b"),
        ] {
            assert_eq!(String::from_utf8_lossy(&redact(line.as_bytes(), &[secret.into()])), expected);
        }
    }

    #[test]
    fn all_lines_together_have_a_bound_and_it_is_said() {
        let budget = Mutex::new(Bucket::full(3.0));
        let mut out = Vec::new();
        let line = |out: &mut Vec<u8>| {
            let secrets = &LogSecrets::default();
            let mut line = Line { writer: out, secrets, format: LogFormat::Json, budget: &budget };
            line.write_all(b"{}\n").expect("a vector takes all");
        };
        (0..10).for_each(|_| line(&mut out));
        assert_eq!(out, b"{}\n{}\n{}\n");
        budget.lock().expect("not poisoned").room = 2.0;
        line(&mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(text.ends_with("\"left_out\":7}\n{}\n"), "{text}");
    }

    #[test]
    fn a_secret_that_comes_later_is_blotted_out_from_then_on() {
        let (logs, budget) = (Logs::default().secret("the-first-key"), Mutex::new(Bucket::full(3.0)));
        let secrets = logs.secrets();
        let mut out = Vec::new();
        let say = |out: &mut Vec<u8>| {
            let mut line = Line { writer: out, secrets: &secrets, format: LogFormat::Text, budget: &budget };
            line.write_all(b"the-first-key, the-second-key\n").expect("a log takes all");
        };
        say(&mut out);
        logs.secrets().add("the-second-key");
        logs.secrets().add("short"); // a word of that length may stand anywhere
        say(&mut out);
        assert_eq!(out, b"[redacted], the-second-key\n[redacted], [redacted]\n");
    }

    /// A writer whose other end is gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_is_no_failure() {
        let (secrets, budget) = (LogSecrets::default(), Mutex::new(Bucket::full(1.0)));
        let before = lines_left_out();
        let mut line = Line { writer: Gone, secrets: &secrets, format: LogFormat::Text, budget: &budget };
        line.write_all(b"unheard\n").expect("the line is left out");
        line.flush().expect("nothing waits");
        assert!(lines_left_out() > before);
    }
}
