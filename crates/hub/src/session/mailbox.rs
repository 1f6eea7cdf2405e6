//! Signals for a client that is slow or away: the latest of each (channel, client, event); directed ones all, in order.
//!
//! They are sent only while the channel is subscribed: those for a client that is away wait until it has subscribed
//! again.

use crate::limits::Limits;
use crate::message::SignalPush;
use crate::name::ChannelName;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many signals a mailbox holds, and how many bytes of them, so that the signals for one client are bounded like
/// its outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MailboxMax {
    pub(crate) signals: usize,
    pub(crate) bytes: usize,
}

impl MailboxMax {
    pub(crate) fn of(limits: &Limits) -> Self {
        MailboxMax { signals: limits.signals_waiting_max, bytes: limits.outbox_bytes_max }
    }
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Mailbox(VecDeque<Arc<SignalPush>>);

impl Mailbox {
    /// Keeps a signal. Beyond `max` the oldest goes: signals are of the moment. Returns how many went.
    pub(crate) fn put(&mut self, signal: Arc<SignalPush>, max: MailboxMax) -> u64 {
        if signal.signal.to.is_none() {
            let same = |old: &Arc<SignalPush>| {
                old.signal.to.is_none()
                    && old.from.client == signal.from.client
                    && old.signal.event == signal.signal.event
                    && old.signal.channel == signal.signal.channel
            };
            self.0.retain(|old| !same(old));
        }
        self.0.push_back(signal);
        let mut bytes: usize = self.0.iter().map(|signal| signal.signal.data.len()).sum();
        let mut dropped = 0;
        while self.0.len() > max.signals || bytes > max.bytes {
            let Some(gone) = self.0.pop_front() else { break };
            bytes -= gone.signal.data.len();
            dropped += 1;
        }
        dropped
    }

    /// Drops the signals that wait for this channel; directed signals stay where the client is only away.
    pub(crate) fn forget(&mut self, channel: &ChannelName, away: bool) {
        self.0.retain(|old| old.signal.channel != *channel || (away && old.signal.to.is_some()));
    }

    /// Takes out the signals that wait for this channel.
    pub(crate) fn take_of(&mut self, channel: &ChannelName) -> Vec<Arc<SignalPush>> {
        let (taken, kept): (VecDeque<_>, VecDeque<_>) =
            self.0.drain(..).partition(|old| old.signal.channel == *channel);
        self.0 = kept;
        taken.into()
    }

    /// How many signals it holds.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes of their payloads.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|signal| signal.signal.data.len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<Arc<SignalPush>> {
        std::mem::take(&mut self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClientId;
    use crate::message::{Sender, Signal};
    use bytes::Bytes;

    fn signal(client: u64, event: &str, text: &'static str, to: Option<u64>) -> Arc<SignalPush> {
        signal_in("a", client, event, text, to)
    }

    fn signal_in(name: &str, client: u64, event: &str, text: &'static str, to: Option<u64>) -> Arc<SignalPush> {
        let channel = ChannelName::new(name).expect("valid");
        let data = Bytes::from_static(text.as_bytes());
        let signal = Signal { channel, event: event.into(), data, to: to.map(ClientId) };
        Arc::new(SignalPush { signal, from: Sender { client: Some(ClientId(client)), user: None }, ts_ms: 0 })
    }

    #[test]
    fn the_latest_of_each_client_and_event_wins_and_directed_ones_stay() {
        let mut mailbox = Mailbox::default();
        for (client, event, text, to) in [
            (1, "m", "1", None),
            (1, "offer", "2", Some(9)),
            (2, "m", "3", None),
            (1, "m", "4", None),
            (1, "offer", "5", Some(9)),
        ] {
            mailbox.put(signal(client, event, text, to), MailboxMax { signals: 64, bytes: 1_000 });
        }
        let texts: Vec<_> = mailbox.take().iter().map(|s| s.signal.data.clone()).collect();
        assert_eq!(texts, ["2", "3", "4", "5"]);
    }

    /// The mailbox with one signal of the moment and one directed signal in each of two channels. Client and event are
    /// the same everywhere.
    fn of_two_channels() -> Mailbox {
        let mut mailbox = Mailbox::default();
        for (name, text, to) in [("a", "1", None), ("b", "2", None), ("a", "3", Some(9)), ("b", "4", Some(9))] {
            mailbox.put(signal_in(name, 1, "m", text, to), MailboxMax { signals: 64, bytes: 1_000 });
        }
        mailbox
    }

    fn texts(signals: &[Arc<SignalPush>]) -> Vec<&[u8]> {
        signals.iter().map(|signal| &signal.signal.data[..]).collect()
    }

    #[test]
    fn a_signal_replaces_none_of_another_channel() {
        let mut mailbox = of_two_channels();
        assert_eq!(texts(&mailbox.take()), [b"1", b"2", b"3", b"4"]);
    }

    #[test]
    fn signals_of_other_channels_stay_when_those_of_one_are_taken_or_forgotten() {
        let b = ChannelName::new("b").expect("valid");
        let mut mailbox = of_two_channels();
        assert_eq!(texts(&mailbox.take_of(&b)), [b"2", b"4"]);
        assert_eq!(texts(&mailbox.take()), [b"1", b"3"]);
        for (away, left) in [(false, vec![b"1", b"3"]), (true, vec![b"1", b"3", b"4"])] {
            let mut mailbox = of_two_channels();
            mailbox.forget(&b, away);
            assert_eq!(texts(&mailbox.take()), left, "away: {away}");
        }
    }

    #[test]
    fn beyond_its_bound_the_oldest_goes() {
        let mut mailbox = Mailbox::default();
        for i in 0..10 {
            mailbox.put(signal(i, "m", "123", Some(9)), MailboxMax { signals: 4, bytes: 1_000 });
        }
        let mut bytes_left = mailbox.clone();
        bytes_left.put(signal(10, "m", "1234", Some(9)), MailboxMax { signals: 64, bytes: 10 });
        let clients =
            |mut mailbox: Mailbox| -> Vec<_> { mailbox.take().iter().filter_map(|s| s.from.client).collect() };
        assert_eq!(clients(mailbox), [6, 7, 8, 9].map(ClientId));
        assert_eq!(clients(bytes_left), [8, 9, 10].map(ClientId), "two of 3 bytes and one of 4");
    }
}
