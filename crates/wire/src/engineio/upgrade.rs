//! A session that polls, on its way to a WebSocket: which WebSocket is looked at, and when a GET is let go.
//!
//! In: a WebSocket comes, its client sends the probe ([`Probe`](super::Probe)), the WebSocket ends, a GET waits. Out:
//! whether the WebSocket may go on, and whether the GET is answered although no packet waits for it: a client that has
//! sent its probe goes on when its GET has ended. One WebSocket at a time. Until the session goes on with one, a
//! WebSocket costs it nothing: it polls as before. The same type serves the server and the simulation.

/// How far a session is on its way to a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upgrade(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    None,
    /// A WebSocket has come.
    Opened,
    /// Its client has sent the probe.
    Probed {
        /// A GET was let go because of it.
        has_released: bool,
    },
}

/// When a GET without packets is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// At once: it is the first one since the probe.
    Now,
    /// After a short time, as the reference does: the client has not stopped to poll.
    Later,
}

impl Upgrade {
    /// A WebSocket has come for the session. False: it is turned away, as there is one already.
    pub fn begin(&mut self) -> bool {
        let is_first = self.0 == State::None;
        if is_first {
            self.0 = State::Opened;
        }
        is_first
    }

    /// Its client has sent the probe. True where a GET that waits is to be looked at anew.
    pub fn probed(&mut self) -> bool {
        let is_new = self.0 == State::Opened;
        if is_new {
            self.0 = State::Probed { has_released: false };
        }
        is_new
    }

    /// The client has sent its probe, and goes on when its GET and its POST are answered.
    pub fn is_probed(&self) -> bool {
        matches!(self.0, State::Probed { .. })
    }

    /// Whether a GET that waits is let go.
    pub fn release(&mut self) -> Option<Release> {
        let State::Probed { has_released } = &mut self.0 else { return None };
        Some(if std::mem::replace(has_released, true) { Release::Later } else { Release::Now })
    }

    /// The WebSocket is over: the session polls as before, and another one may come.
    pub fn fail(&mut self) {
        self.0 = State::None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_websocket_at_a_time_and_the_first_get_after_its_probe_goes_at_once() {
        let mut upgrade = Upgrade::default();
        assert!(!upgrade.probed(), "nobody has come");
        for _ in 0..2 {
            assert!(upgrade.begin());
            assert_eq!((upgrade.begin(), upgrade.release(), upgrade.is_probed()), (false, None, false));
            assert!(upgrade.probed() && upgrade.is_probed());
            assert_eq!((upgrade.release(), upgrade.release()), (Some(Release::Now), Some(Release::Later)));
            assert_eq!((upgrade.probed(), upgrade.release()), (false, Some(Release::Later)), "a second probe");
            assert!(!upgrade.begin());
            upgrade.fail();
            assert_eq!(upgrade.release(), None, "it polls as before");
        }
    }
}
