//! The log of a process: text for people or JSON for machines on stderr, without secrets, quoted, bounded, and without
//! a wait for its reader.

use super::queue::{Queue, Stderr};
use super::quote::{TextFields, escape};
use super::redact::LogSecrets;
use super::{Bucket, LEFT_OUT};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing::dispatcher::{Dispatch, set_global_default};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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

/// An error of the setup of the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The text names no format.
    #[error("{found:?} is not a log format: write text or json")]
    Format {
        /// The text.
        found: String,
    },
    /// The text is no filter.
    #[error("{found:?} is not a log filter: write a level (error, warn, info, debug, trace) or TARGET=LEVEL,…: {why}")]
    Filter {
        /// The text.
        found: String,
        /// Why it is none.
        why: String,
    },
    /// The process has a log already.
    #[error("this process has already set up its log")]
    Twice,
    /// The thread that writes lines could not be started.
    #[error("the log has no thread to write its lines: {0}")]
    Thread(#[source] io::Error),
}

/// The log of a process that has no subscriber of its own: to stderr. A thread that logs never waits for the reader:
/// lines wait in a queue of at most 1 MiB for a thread that writes them. Lines without room are lost and counted
/// (`fanfare_log_lines_lost_total`), and a line in their place has their number. Every value is quoted, and control
/// characters are escaped.
///
/// ```no_run
/// use fanfare::{LogFormat, Logs};
///
/// let _log = Logs::default().format(LogFormat::Json).filter("info").init()?;
/// # Ok::<(), fanfare::LogError>(())
/// ```
#[derive(Clone)]
pub struct Logs {
    format: LogFormat,
    filter: String,
    secrets: LogSecrets,
    panics: bool,
}

impl Default for Logs {
    /// Text, from `info` up.
    fn default() -> Self {
        Logs { format: LogFormat::Text, filter: "info".to_owned(), secrets: LogSecrets::default(), panics: false }
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

    /// A text that must not appear in the log, wherever it comes from: an API key, a secret of the configuration.
    /// Texts of less than 8 bytes are not looked for.
    #[must_use]
    pub fn secret(self, secret: &str) -> Self {
        self.secrets.add(secret);
        self
    }

    /// Takes further secrets while the log is written.
    pub fn secrets(&self) -> LogSecrets {
        self.secrets.clone()
    }

    /// Logs panics as events too, at `error`. The default hook writes to stderr itself: if stderr is a full pipe, it
    /// waits for ever, and the process with it.
    #[must_use]
    pub fn panics(self) -> Self {
        Logs { panics: true, ..self }
    }

    /// Sets it up. Keep what it returns until the end of the process: dropping it waits for the last lines.
    ///
    /// # Errors
    /// [`LogError::Filter`], [`LogError::Twice`] and [`LogError::Thread`].
    pub fn init(self) -> Result<LogGuard, LogError> {
        let wrong = |error: tracing_subscriber::filter::ParseError| LogError::Filter {
            found: self.filter.clone(),
            why: error.to_string(),
        };
        let filter = EnvFilter::try_new(&self.filter).map_err(wrong)?;
        let (format, panics) = (self.format, self.panics);
        let queue = Queue::new(format);
        let out = self.out(queue.clone(), io::stderr().is_terminal());
        set_global_default(dispatch(filter, out)).map_err(|_| LogError::Twice)?;
        let writing = queue.clone();
        let body = move || writing.write_to(Stderr);
        std::thread::Builder::new().name("log".to_owned()).spawn(body).map_err(LogError::Thread)?;
        let _ = CURRENT.set(queue.clone()); // there is one subscriber in a process, so there is one of these
        if panics {
            let of_panics = queue.clone();
            std::panic::set_hook(Box::new(move |panic| tell_panic(panic, &of_panics)));
        }
        Ok(LogGuard { queue })
    }

    fn out(self, queue: Arc<Queue>, colours: bool) -> Out {
        let budget = Mutex::new(Bucket::full(ALL_BURST));
        Out { queue, secrets: self.secrets, format: self.format, colours, budget }
    }
}

/// Formats the events that pass the filter, and gives them to `out`.
fn dispatch(filter: EnvFilter, out: Out) -> Dispatch {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(false);
    match out.format {
        LogFormat::Text => builder.fmt_fields(TextFields).with_writer(out).into(),
        LogFormat::Json => builder.json().flatten_event(true).with_writer(out).into(),
    }
}

fn tell_panic(panic: &std::panic::PanicHookInfo<'_>, queue: &Queue) {
    if !tracing::enabled!(tracing::Level::ERROR) {
        return queue.push(format!("{}\n", escape(&panic.to_string(), LogFormat::Text)).as_bytes());
    }
    let what = panic.payload_as_str().unwrap_or("(a panic without a message)");
    let at = panic.location().map(tracing::field::display);
    let thread = std::thread::current();
    tracing::error!(what, at, thread = thread.name(), "panicked");
    let backtrace = Backtrace::capture(); // where RUST_BACKTRACE asks for it
    if backtrace.status() == BacktraceStatus::Captured {
        backtrace.to_string().lines().for_each(|frame| tracing::error!(frame, "backtrace"));
    }
}

/// The queue of the process's log.
static CURRENT: OnceLock<Arc<Queue>> = OnceLock::new();

/// Waits for the last lines, for at most a second, if this process has such a log. Called before the process ends.
pub(crate) fn flush_last_words() {
    if let Some(queue) = CURRENT.get() {
        queue.flush(LAST_WORDS);
    }
}

/// The running log. A thread of its own writes the lines. A drop of this waits for the last lines, for at most a
/// second. Keep it until then, as `let _log = …`: a process that ends without it may lose its last lines.
#[derive(Debug, Clone)]
#[must_use = "lines that are logged just before the process ends are lost without it"]
pub struct LogGuard {
    queue: Arc<Queue>,
}

/// How long the end of a process waits for its log.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl LogGuard {
    /// Writes whole lines that are no events, in their place between the events, without the filter and without a wait
    /// for the reader. Control characters other than line breaks are escaped. Secrets are *not* removed.
    pub fn say(&self, lines: &str) {
        let quoted: Vec<_> = lines.lines().map(|line| escape(line, LogFormat::Text)).collect();
        self.queue.push((quoted.join("\n") + "\n").as_bytes());
    }

    /// Waits until every line is written, for at most so long, and returns whether they are.
    pub fn flush(&self, within: Duration) -> bool {
        self.queue.flush(within)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queue.flush(LAST_WORDS);
    }
}

/// Lines of all kinds that may come at once, and in a second in the long run, at any level.
const ALL_BURST: f64 = 2_000.0;
const ALL_PER_SECOND: f64 = 100.0;

/// The target of finished lines.
struct Out {
    queue: Arc<Queue>,
    secrets: LogSecrets,
    format: LogFormat,
    colours: bool,
    budget: Mutex<Bucket>,
}

/// Writes one line.
struct Line<'a>(&'a Out);

impl<'a> MakeWriter<'a> for Out {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Write for Line<'_> {
    /// The subscriber gives whole lines. None is refused: the subscriber would tell of an error by `eprintln!`, which
    /// panics where stderr is gone, and a server must not end because nobody reads its log.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let admitted = {
            let mut budget = self.0.budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.take(Instant::now(), ALL_PER_SECOND, ALL_BURST)
        };
        match admitted {
            Some(left_out) => self.0.put(line, left_out),
            None => {
                LEFT_OUT.fetch_add(1, Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out {
    fn put(&self, line: &[u8], left_out: u64) {
        let redacted = self.secrets.redact(line);
        let text = String::from_utf8_lossy(&redacted);
        let line = escape(text.strip_suffix('\n').unwrap_or(&text), self.format);
        let notice = match (left_out, self.format) {
            (0, _) => String::new(),
            (_, LogFormat::Text) => format!("{left_out} lines were left out here: too many at once\n"),
            (_, LogFormat::Json) => format!(
                "{{\"level\":\"WARN\",\"message\":\"lines were left out here: too many at once\",\"left_out\":{left_out}}}\n"
            ),
        };
        let line = if self.colours && self.format == LogFormat::Text { coloured(&line) } else { line.into_owned() };
        self.queue.push(format!("{notice}{line}\n").as_bytes());
    }
}

/// A line of text, after it was escaped, with its time dimmed and its level in a colour.
fn coloured(line: &str) -> String {
    const COLOURS: [(&str, u8); 5] = [("ERROR", 31), ("WARN", 33), ("INFO", 32), ("DEBUG", 34), ("TRACE", 35)];
    let parts = line.split_once(' ').and_then(|(time, rest)| {
        let words = rest.trim_start();
        let (level, colour) = COLOURS.into_iter().find(|(level, _)| words.starts_with(level))?;
        Some((time, &rest[..rest.len() - words.len()], level, colour, &words[level.len()..]))
    });
    match parts {
        Some((time, space, level, colour, rest)) => {
            format!("\x1b[2m{time}\x1b[0m {space}\x1b[{colour}m{level}\x1b[0m{rest}")
        }
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Asked, EndWeight, EndedLine, Ender};
    use super::*;
    use crate::request::{Peer, RequestId};
    use fanfare_hub::{Caller, ChannelName, ClientId, Error, ErrorCode, Note, Noted, UserId, is_format};

    fn out(format: LogFormat, room: f64) -> Out {
        let logs = Logs::default().format(format).secret("the-first-key");
        let out = logs.out(Queue::new(format), false);
        Out { budget: Mutex::new(Bucket::full(room)), ..out }
    }

    fn write(out: &Out, line: &str) {
        Line(out).write_all(line.as_bytes()).expect("a log takes all");
    }

    #[test]
    fn all_lines_together_have_a_bound_and_it_is_said() {
        let out = out(LogFormat::Json, 3.0);
        (0..10).for_each(|_| write(&out, "{}\n"));
        assert_eq!(out.queue.taken(), "{}\n{}\n{}\n");
        out.budget.lock().expect("not poisoned").room = 2.0;
        write(&out, "{}\n");
        let text = out.queue.taken();
        assert!(text.ends_with("\"left_out\":7}\n{}\n"), "{text}");
    }

    #[test]
    fn a_secret_that_comes_later_is_blotted_out_from_then_on() {
        let out = out(LogFormat::Text, 3.0);
        write(&out, "the-first-key, the-second-key\n");
        out.secrets.add("the-second-key");
        out.secrets.add("short"); // a word of that length may stand anywhere
        write(&out, "the-first-key, the-second-key, short\n");
        let expected = "[redacted], the-second-key\n[redacted], [redacted], short\n";
        assert_eq!(out.queue.taken(), expected);
    }

    #[test]
    fn colours_are_added_after_a_line_was_escaped() {
        let out = Out { colours: true, ..out(LogFormat::Text, 3.0) };
        write(&out, "2026-11-24T10:52:11Z  INFO stopped \u{1b}[2J\n");
        let expected = "\u{1b}[2m2026-11-24T10:52:11Z\u{1b}[0m  \u{1b}[32mINFO\u{1b}[0m stopped \\u{1b}[2J\n";
        assert_eq!(out.queue.taken(), expected);
        assert_eq!(coloured("INFO"), "INFO");
    }

    /// Runs `log` with a log of this format, and gives what it wrote.
    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let queue = Queue::new(format);
        let out = Logs::default().format(format).out(queue.clone(), false);
        tracing::dispatcher::with_default(&dispatch(EnvFilter::new("trace"), out), log);
        queue.taken()
    }

    /// The same with another subscriber.
    fn logged_elsewhere(log: impl FnOnce()) -> String {
        let queue = Queue::new(LogFormat::Text);
        let to = queue.clone();
        let writer = move || Plain(to.clone());
        let builder = tracing_subscriber::fmt().with_env_filter("trace").with_ansi(false).with_writer(writer);
        tracing::subscriber::with_default(builder.finish(), log);
        queue.taken()
    }

    struct Plain(Arc<Queue>);

    impl Write for Plain {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.push(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Begins a line, makes fields, ends quotes, clears the screen, turns the direction.
    const HOSTILE: &str = "x\n2026-11-24T10:52:11Z  INFO forged=1\r\\\" forged=\"1\" \\\\\" forged=2\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{2028}\u{2029}\u{85}\u{feff}\t\0";

    fn note(what: Noted) -> Note {
        Note { conn: None, client: Some(ClientId(7)), user: Some(UserId(HOSTILE.into())), what }
    }

    /// Every kind of note, with hostile texts where it has texts.
    fn notes() -> Vec<Note> {
        let refused = || Error {
            channel: ChannelName::new("a:b").ok(),
            rule: Some(HOSTILE.into()),
            ..Error::new(ErrorCode::Denied, HOSTILE)
        };
        let channel = || ChannelName::new("a:b").expect("a name");
        vec![
            note(Noted::Denied(refused())),
            note(Noted::Unsubscribed(refused())),
            note(Noted::NotRecovered { channel: channel() }),
            note(Noted::Gap { channel: channel(), reset: true }),
            note(Noted::Behind),
            note(Noted::Throttled(refused())),
        ]
    }

    /// Everything that logs a text of a peer or of a handler.
    fn everything_hostile() {
        notes().iter().for_each(|note| super::super::say(note, Some(&Peer::Unknown)));
        let user = UserId(HOSTILE.into());
        for weight in [EndWeight::Fault, EndWeight::Excess, EndWeight::Notable, EndWeight::Everyday] {
            super::super::ended(&EndedLine {
                by: Ender::Client,
                reason: "left",
                code: Some(1000),
                why: Some(HOSTILE),
                client: Some(ClientId(7)),
                user: Some(&user),
                peer: &Peer::Unknown,
                transport: "websocket",
                protocol: "native",
                lived_ms: 1,
                weight,
            });
        }
        super::super::ignored(&HOSTILE, &Peer::Unknown);
        super::super::request(&RequestId::new(), None, HOSTILE, HOSTILE, 503, Duration::ZERO);
        super::super::request(&RequestId::new(), None, HOSTILE, HOSTILE, 200, Duration::ZERO);
        for asked in [Asked::WebSocket, Asked::Stream, Asked::Poll, Asked::Send] {
            super::super::refused(asked, &RequestId::new(), &Peer::Unknown, HOSTILE, 403, HOSTILE);
        }
        let caller = Caller { client: Some(ClientId(7)), user: Some(UserId(HOSTILE.into())), info: None, claims: None };
        super::super::handler_failed(HOSTILE, Some("a:b"), &caller, None, HOSTILE);
    }

    /// A line of text without its quoted parts.
    fn outside_quotes(line: &str) -> String {
        let (mut out, mut is_inside, mut chars) = (String::new(), false, line.chars());
        while let Some(c) = chars.next() {
            match c {
                '"' => is_inside = !is_inside,
                '\\' if is_inside => drop(chars.next()),
                c if !is_inside => out.push(c),
                _ => {}
            }
        }
        assert!(!is_inside, "a quote is not closed: {line}");
        out
    }

    fn assert_harmless(name: &str, line: &str) {
        let found = line.chars().find(|c| c.is_control() || is_format(*c) || "\u{2028}\u{2029}".contains(*c));
        assert_eq!(found, None, "{name}: {line}");
    }

    #[test]
    fn no_text_of_a_peer_or_a_handler_begins_a_line_or_makes_a_field() {
        // Limits of floods are per thread, and this is the first to log on it.
        let in_a_thread = |log: fn() -> String| std::thread::spawn(log).join().expect("no panic");
        let text = in_a_thread(|| logged(LogFormat::Text, everything_hostile));
        let json = in_a_thread(|| logged(LogFormat::Json, everything_hostile));
        let other = in_a_thread(|| logged_elsewhere(everything_hostile));
        assert!(text.lines().count() > 12, "{text}");
        assert_eq!(text.lines().count(), json.lines().count());
        assert_eq!(text.lines().count(), other.lines().count(), "{other}");
        for line in text.lines() {
            assert_harmless("text", line);
            assert!(line.starts_with("20") && !outside_quotes(line).contains("forged"), "{line}");
        }
        for line in json.lines() {
            assert_harmless("json", line);
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).expect("an object");
            assert!(!object.contains_key("forged"), "{line}");
        }
        assert!(json.lines().any(|line| {
            let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
            object["cause"] == HOSTILE // quoted, and still the same text for a machine
        }));
        for line in other.lines() {
            assert!(line.starts_with("20") && !outside_quotes(line).contains("forged"), "{line}");
        }
    }

    /// The log's format alone quotes values, for every kind of event.
    #[test]
    fn every_kind_of_value_is_quoted() {
        let error = io::Error::other(HOSTILE);
        let (text, long) = (HOSTILE.to_owned(), "ä".repeat(20_000));
        let log = || {
            let span = tracing::info_span!("request", id = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE);
            let _entered = span.enter();
            tracing::info!(string = HOSTILE, owned = text, shown = %HOSTILE, debugged = ?[HOSTILE], "words");
            tracing::info!(error = &error as &dyn std::error::Error, %error, number = 7, yes = true, "words");
            tracing::info!("{HOSTILE}");
            tracing::info!(long, shown = %long, "{long}");
        };
        let written = logged(LogFormat::Text, log);
        assert_eq!(written.lines().count(), 4, "{written}");
        for (number, line) in written.lines().enumerate() {
            assert_harmless("text", line);
            assert!(number == 2 || !outside_quotes(line).contains("forged"), "{line}"); // a message is the code's own
            assert!(line.len() < 40_000, "{}", line.len());
        }
        let json = logged(LogFormat::Json, log);
        assert_eq!(json.lines().count(), 4, "{json}");
        for line in json.lines() {
            assert_harmless("json", line);
            let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(object["span"]["id"], HOSTILE);
        }
    }

    #[test]
    fn plain_words_stay_plain_and_everything_else_stands_in_quotes() {
        let address: std::net::SocketAddr = "[::1]:8080".parse().expect("an address");
        let written = logged(LogFormat::Text, || {
            tracing::info!(user = "ada", %address, none = %"", text = %"two words", number = -1, half = 0.5, "listening");
        });
        let expected =
            " INFO listening user=\"ada\" address=[::1]:8080 none=\"\" text=\"two words\" number=-1 half=0.5\n";
        assert!(written.ends_with(expected), "{written}");
    }
}
