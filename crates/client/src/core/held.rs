//! Messages that wait for the answer to a `subscribe`: over HTTP, which brings it by another request than the messages,
//! and behind a `subscribed` of the server's own making.
//!
//! In: what the server sends, and the channels whose `subscribe` is answered. Out: the messages to handle, in order.
//! Holds [`HELD_BYTES_MAX`] in all. If they are more, the channel is subscribed to again from the place that the answer
//! names.

use super::subscription::{State, Subscription, is_behind, weight};
use super::subscriptions::Subscriptions;
use fanfare_wire::native::client::ServerMessage;

/// Messages held for channels whose `subscribe` is not answered, in bytes, about.
const HELD_BYTES_MAX: usize = 1 << 20;

impl Subscriptions {
    /// Gives the message back, unless it is held: it is of a channel whose `subscribe` is not answered, and came by
    /// another way than the answer will, or is of a subscription that the server has made. Or a command of an earlier
    /// connection may have ended the subscription, and begun another one, before which something is missing: then the
    /// channel is soon subscribed to [`again`](Self::again), from the place before the message.
    pub(super) fn hold(
        &mut self,
        message: ServerMessage,
        over_http: bool,
        may_be_left: impl Fn(&str) -> bool,
    ) -> Option<ServerMessage> {
        let channel = match &message {
            ServerMessage::Unsubscribed(push) if over_http && push.id.is_none() && self.leaving.ends(&push.channel) => {
                return None;
            }
            ServerMessage::Message { channel, .. }
            | ServerMessage::Gap { channel, .. }
            | ServerMessage::PresenceCount { channel, .. } => channel,
            ServerMessage::PresenceChange(change) => &change.channel,
            ServerMessage::Presence(presence) if presence.id.is_none() => &presence.channel,
            ServerMessage::Signal(signal) => &signal.channel,
            ServerMessage::Unsubscribed(unsubscribed) if unsubscribed.id.is_none() => &unsubscribed.channel,
            _ => return Some(message),
        };
        let is_held = |it: &Subscription| match it.state {
            State::Requested => over_http || it.is_crossed(),
            State::Live => over_http && may_be_left(channel),
            _ => it.is_crossed(),
        };
        if self.all.get(channel).is_none_or(|subscription| !is_held(subscription)) {
            return Some(message);
        }
        let held_bytes = self.held_bytes();
        let Some(subscription) = self.all.get_mut(channel) else { return Some(message) };
        let is_of_ours = over_http && matches!(subscription.state, State::Requested | State::Live);
        if matches!(message, ServerMessage::Unsubscribed(_)) && !is_of_ours {
            subscription.uncross();
            return None;
        }
        subscription.overflowed |= held_bytes + weight(&message) > HELD_BYTES_MAX;
        if !subscription.overflowed {
            subscription.held.push(message);
        }
        None
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.all.values().flat_map(|subscription| &subscription.held).map(weight).sum()
    }

    /// The answer to a `subscribe` has come: the messages that came before it, for a live subscription.
    pub(super) fn take_held(&mut self, channel: &str) -> Vec<ServerMessage> {
        let is_answered =
            |it: &&mut Subscription| it.state == State::Live || it.state != State::Requested && !it.is_crossed();
        let Some(subscription) = self.all.get_mut(channel).filter(is_answered) else { return Vec::new() };
        let known = subscription.position.as_ref();
        let is_passed = |message: &ServerMessage| match message {
            ServerMessage::Gap { position, .. } => is_behind(position, known),
            ServerMessage::Subscribed(_) => true, // ours has begun it anew
            _ => false,
        };
        let mut held = std::mem::take(&mut subscription.held);
        held.retain(|message| !is_passed(message));
        held
    }
}
