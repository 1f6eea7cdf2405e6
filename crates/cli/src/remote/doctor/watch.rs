//! A connection that is idle: does it stay open, do heartbeats arrive, and when?
//!
//! In: the signs of life of a connection as they come. Out: how long it was watched, and a finding if it was ended, or
//! if heartbeats are missing or come in lumps. Without `--idle` a watch ends at the first heartbeat: a proxy that ends
//! idle connections does it before, or never.

use super::kinds::kind;
use super::report::{Finding, Idle, ms, seconds};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How much later than it is due a heartbeat may come.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Heartbeat,
    /// Any other message.
    Message,
    /// The server says good-bye.
    Farewell,
}

/// How long to watch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// The value of `--idle`.
    pub(super) asked: Option<Duration>,
    /// Between the heartbeats of this transport.
    pub(super) interval: Duration,
}

impl Watch {
    /// Watches a connection until it has been idle for long enough, or is over.
    pub(super) async fn run(
        self,
        name: &'static str,
        mut next: impl AsyncFnMut() -> Result<Option<Life>, String>,
    ) -> (Idle, Option<Finding>) {
        let start = Instant::now();
        let deadline = start + self.asked.unwrap_or(self.interval + MARGIN);
        let (mut heartbeats, mut last, mut gaps) = (0, start, Vec::new());
        let tried = format!("an idle connection, for {} at most", seconds(deadline - start));
        let idle = |heartbeats, cut: Option<Duration>| Idle {
            watched_ms: ms(start.elapsed()),
            heartbeats,
            cut_after_ms: cut.map(ms),
        };
        let ended = loop {
            let now = match timeout_at(deadline, next()).await {
                Err(_) => break None,
                Ok(Ok(None)) => break Some("the connection ended".to_owned()),
                Ok(Err(error)) => break Some(error),
                Ok(Ok(Some(Life::Farewell))) => {
                    let seen = format!("a farewell of the server after {}", seconds(start.elapsed()));
                    return (idle(heartbeats, None), Some(Finding::new(&kind::server_ends, name, tried, seen)));
                }
                Ok(Ok(Some(Life::Message))) => {
                    last = Instant::now();
                    continue;
                }
                Ok(Ok(Some(Life::Heartbeat))) => Instant::now(),
            };
            gaps.push(now - last);
            (heartbeats, last) = (heartbeats + 1, now);
            if self.asked.is_none() {
                break None;
            }
        };
        let finding = match ended {
            Some(error) => {
                let silence = last.elapsed();
                let seen = format!(
                    "{error} after {} of silence, {} after its start",
                    seconds(silence),
                    seconds(start.elapsed())
                );
                let kind = if heartbeats == 0 { &kind::idle_cut } else { &kind::lifetime_cut };
                return (idle(heartbeats, Some(silence)), Some(Finding::new(kind, name, tried, seen)));
            }
            None if heartbeats == 0 && last == start && start.elapsed() >= self.interval + MARGIN => {
                let seen =
                    format!("nothing within {}; one is due after {}", seconds(start.elapsed()), seconds(self.interval));
                Some(Finding::new(&kind::heartbeat_missing, name, tried, seen))
            }
            None => lumps(&gaps, self.interval).map(|seen| Finding::new(&kind::stream_late, name, tried, seen)),
        };
        (idle(heartbeats, None), finding)
    }
}

/// Heartbeats that came late, and then at once.
fn lumps(gaps: &[Duration], interval: Duration) -> Option<String> {
    let late = gaps.iter().any(|gap| *gap > interval + interval / 2);
    let early = gaps.iter().skip(1).filter(|gap| **gap < interval / 4).count();
    (late && early > 0).then(|| {
        let longest = gaps.iter().max().copied().unwrap_or_default();
        format!(
            "heartbeats are due each {}; none came for {}, then {} together",
            seconds(interval),
            seconds(longest),
            early + 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(asked: Option<u64>, lives: Vec<(u64, Result<Option<Life>, String>)>) -> (Idle, Option<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let mut lives = lives.into_iter();
            let next = async || match lives.next() {
                Some((after, life)) => {
                    tokio::time::sleep(Duration::from_secs(after)).await;
                    life
                }
                None => std::future::pending().await,
            };
            let watch = Watch { asked: asked.map(Duration::from_secs), interval: Duration::from_secs(25) };
            let (idle, finding) = watch.run("websocket", next).await;
            (idle, finding.map(|finding| format!("{finding:?}")))
        })
    }

    #[test]
    fn an_idle_connection_is_judged_by_its_heartbeats() {
        let beat = || Ok(Some(Life::Heartbeat));
        // The first heartbeat is enough.
        let (idle, finding) = run(None, vec![(25, beat()), (1, Ok(None))]);
        assert_eq!((idle.watched_ms, idle.heartbeats, idle.cut_after_ms, finding), (25_000, 1, None, None));
        // Without one, the time until it was cut.
        let (idle, finding) = run(None, vec![(2, Ok(Some(Life::Message))), (10, Ok(None))]);
        assert_eq!((idle.watched_ms, idle.cut_after_ms), (12_000, Some(10_000)));
        assert!(finding.expect("a finding").contains("idle_cut"));
        // Neither.
        let (idle, finding) = run(None, vec![]);
        assert_eq!((idle.watched_ms, idle.heartbeats), (30_000, 0));
        assert!(finding.expect("a finding").contains("heartbeat_missing"));
        // As long as was asked for; a heartbeat that is not due yet is not missed.
        let (idle, finding) = run(Some(3), vec![]);
        assert_eq!((idle.watched_ms, finding), (3_000, None));
        let (idle, finding) = run(Some(90), vec![(25, beat()), (25, beat()), (10, Err("reset".to_owned()))]);
        assert_eq!((idle.heartbeats, idle.cut_after_ms), (2, Some(10_000)));
        assert!(finding.expect("a finding").contains("lifetime_cut"));
        // Late, and then together.
        let (_, finding) = run(Some(90), vec![(75, beat()), (0, beat()), (0, beat())]);
        assert!(finding.expect("a finding").contains("none came for 75.0 s, then 3 together"));
        let (_, finding) = run(Some(90), vec![(25, beat()), (26, beat()), (24, beat())]);
        assert_eq!(finding, None);
        let (_, finding) = run(None, vec![(1, Ok(Some(Life::Farewell)))]);
        assert!(finding.expect("a finding").contains("server_ends"));
    }
}
