//! The signals of a server that runs, and the terminal that it may have been started from.
//!
//! In: SIGTERM and SIGINT, which end it, and SIGHUP, which means two things. From a person or a service manager it asks
//! to read the settings again. From a terminal that was closed it asks to end: nobody would see or stop the server any
//! more. They are told apart by the terminal: a server that had one and finds it gone ends, with a drain. A shell may
//! send SIGHUP a moment before its terminal goes, so after one the terminal is watched. A server under `nohup`, or a
//! service, has no terminal to lose: there SIGHUP never ends it.

use crate::failure::Failure;
use fanfare::LogGuard;
use std::fs::File;
use std::future::pending;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

/// The same signal twice within this time is once: `timeout`, a wrapper that passes the terminal's Ctrl-C on, and
/// others send it to the process and to its group.
const SAME: Duration = Duration::from_millis(200);
/// Between two looks at whether the terminal is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How long the last line is waited for where the process is to end at once.
const LAST_WORDS: Duration = Duration::from_millis(100);

const TERMINATE: &str = "SIGTERM";
const INTERRUPT: &str = "SIGINT";

/// The work that a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// To end, and the signal that asked for it.
    End(&'static str),
    /// To read the settings again, if there is a file that they come from.
    Reload,
}

/// The handling of signals, ready before the server is, so that no signal ends the process without a message.
pub(crate) struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    /// Not there where SIGHUP was ignored from the start and would change nothing.
    hangup: Option<Signal>,
    terminal: Terminal,
}

/// The terminal that the process was started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Terminal {
    /// There is none, or its loss has no effect.
    None,
    There,
    /// A SIGHUP has come: it may be about to go.
    Watched,
}

impl Signals {
    /// `reloads`: whether there is a file to read again.
    pub(crate) fn watch(reloads: bool) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::ours(format!("cannot watch for signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let guard = runtime.enter();
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let is_ignored = hangups_are_ignored();
        let hears = reloads || !is_ignored;
        let hangup = hears.then(|| signal(SignalKind::hangup())).transpose().map_err(failed)?;
        drop(guard);
        let terminal = if !is_ignored && has_terminal() { Terminal::There } else { Terminal::None };
        Ok(Signals { runtime, terminate, interrupt, hangup, terminal })
    }

    /// Waits for the next signal.
    pub(crate) fn wait(&mut self) -> Event {
        let Signals { runtime, terminate, interrupt, hangup, terminal } = self;
        runtime.block_on(async {
            let hung_up = async {
                match hangup {
                    Some(hangup) => hangup.recv().await,
                    None => pending().await,
                }
            };
            let gone = terminal_gone(*terminal);
            tokio::select! {
                _ = terminate.recv() => Event::End(TERMINATE),
                _ = interrupt.recv() => Event::End(INTERRUPT),
                () = gone => Event::End("the end of its terminal"),
                _ = hung_up => match *terminal {
                    Terminal::None => Event::Reload,
                    _ if !has_terminal() => Event::End("the end of its terminal"),
                    _ => {
                        *terminal = Terminal::Watched;
                        Event::Reload
                    }
                },
            }
        })
    }

    /// From here on a SIGTERM or SIGINT ends the process where it stands. (Not a SIGHUP: of a terminal that is closed
    /// there may come several.) `first` is what has ended it.
    pub(crate) fn exit_at_the_next(mut self, first: &'static str, log: LogGuard) {
        let begin = Instant::now();
        std::thread::spawn(move || {
            let Signals { runtime, terminate, interrupt, .. } = &mut self;
            let mut next = || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = terminate.recv() => TERMINATE,
                        _ = interrupt.recv() => INTERRUPT,
                    }
                })
            };
            while next() == first && begin.elapsed() < SAME {}
            tracing::warn!(
                "ended at once by a second signal: clients that were not notified yet see a broken connection"
            );
            log.flush(LAST_WORDS);
            std::process::exit(1);
        });
    }
}

async fn terminal_gone(terminal: Terminal) {
    if terminal != Terminal::Watched {
        return pending().await;
    }
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while has_terminal() {
        ticks.tick().await;
    }
}

/// Whether the process has a controlling terminal now. Nothing is read from it: a server in the background may ask.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether this process was started with SIGHUP ignored, as `nohup` does. Linux tells it; on other systems: no.
fn hangups_are_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangups(&status))
}

/// `SigIgn` is a mask in hex: signal 1 is its lowest bit.
fn ignores_hangups(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::ignores_hangups;

    #[test]
    fn nohup_is_recognised() {
        let rows = [
            ("Name:\tx\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000000000\n", true),
            ("SigIgn:\t0000000000001001\n", true),
            ("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n", false),
            ("SigIgn:\tnothing\n", false),
            ("", false),
        ];
        for (status, expected) in rows {
            assert_eq!(ignores_hangups(status), expected, "{status:?}");
        }
    }
}
