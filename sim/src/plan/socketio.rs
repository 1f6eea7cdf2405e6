//! The parts of a world that come from Socket.IO: subscriptions that are kept, and connections that begin by requests.

use super::Plan;
use fanfare_hub::{ChannelName, Rng};

impl Plan {
    /// In some worlds subscriptions are kept while their sessions have no connection, and there are rooms.
    pub(super) fn draw_keeps(&mut self, mut rng: Rng) {
        if rng.below(5) > 0 {
            return;
        }
        for client in 0..self.clients {
            let kept = self.channels.iter().filter(|_| rng.below(4) > 0).cloned().collect();
            self.keeps.insert(client, kept);
        }
        self.faults.cuts = true;
        self.rooms = true;
        self.limits.rooms_max = [4, 8, 1024][rng.below(3) as usize];
        self.limits.room_message_bytes_max = self.limits.message_bytes_max;
        self.limits.pong_timeout_ms = self.limits.heartbeat_ms;
    }

    /// In some worlds clients begin by requests, always or now and then, and go on over a WebSocket.
    pub(super) fn draw_engine(&mut self, mut rng: Rng) {
        if rng.below(4) > 0 {
            return;
        }
        self.engine = [30, 100][rng.below(2) as usize];
        self.limits.pong_timeout_ms = self.limits.heartbeat_ms;
    }

    /// The channels to which a client has subscriptions that are kept.
    pub(crate) fn kept(&self, client: usize) -> &[ChannelName] {
        self.keeps.get(&client).filter(|_| client < self.clients).map_or(&[], Vec::as_slice)
    }
}
