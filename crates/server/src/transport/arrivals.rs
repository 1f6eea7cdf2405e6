//! How fast new connections may come: to the node, and from one address.
//!
//! In: each new connection, with its client's address and the time. Out: it may come in, or which rate is used up and
//! for how long. A refusal takes nothing of a rate. Addresses whose buckets are empty are forgotten; beyond
//! [`ADDRESSES_MAX`] of others a new address is not counted by itself, only in all: a flood of addresses takes no
//! memory and keeps no other address out. Loopback addresses are not counted by themselves: what comes from this
//! machine is no attack, and a proxy that `trusted_proxies` does not list would share one rate among all its clients.

use super::admission::Block;
use crate::config::NewConnections;
use fanfare_hub::{Bucket, Rate};
use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses that are counted at once.
const ADDRESSES_MAX: usize = 65_536;
/// Addresses before the first look at which of them may be forgotten.
const SWEEP_FROM: usize = 1_024;
/// The least time between two such looks.
const SWEEP_MS: u64 = 1_000;

/// The arrivals of one kind.
#[derive(Debug)]
pub(super) struct Arrivals {
    rates: NewConnections,
    in_all: Bucket,
    by_address: HashMap<Block, Bucket>,
    sweep_at: usize,
    swept_ms: Option<u64>,
}

/// The rate that has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooFast {
    pub(super) of_address: bool,
    pub(super) rate: Rate,
    pub(super) retry_after_ms: u64,
}

/// The addresses of which one is counted, if it is.
pub(super) fn counted(address: IpAddr) -> Option<Block> {
    (!address.to_canonical().is_loopback()).then(|| Block::of(address))
}

impl Arrivals {
    pub(super) fn new(rates: NewConnections) -> Self {
        let (in_all, by_address) = (Bucket::default(), HashMap::new());
        Arrivals { rates, in_all, by_address, sweep_at: SWEEP_FROM, swept_ms: None }
    }

    pub(super) fn set(&mut self, rates: NewConnections) {
        self.rates = rates;
    }

    /// One comes, or one of before turns out to be of this address (then it is not counted in all once more).
    pub(super) fn take(&mut self, now_ms: u64, block: Option<Block>, in_all: bool) -> Result<(), TooFast> {
        let too_fast = |of_address| move |(rate, wait_ms)| TooFast { of_address, rate, retry_after_ms: wait_ms };
        let waits = |bucket: Bucket, rate: Rate| Some((rate, bucket.waits_ms(now_ms, rate, 1)?));
        let all = self.rates.in_all.filter(|_| in_all);
        let of_all = all.and_then(|rate| waits(self.in_all, rate)).map(too_fast(false));
        let one = self.rates.per_address.zip(block);
        let of_one =
            one.and_then(|(rate, block)| waits(self.by_address.get(&block).copied().unwrap_or_default(), rate));
        if let Some(refused) = of_all.into_iter().chain(of_one.map(too_fast(true))).max_by_key(|it| it.retry_after_ms) {
            return Err(refused);
        }
        if let Some(rate) = all {
            self.in_all.take(now_ms, rate, 1);
        }
        if let Some((rate, block)) = one
            && (self.by_address.contains_key(&block) || self.has_room(now_ms))
        {
            self.by_address.entry(block).or_default().take(now_ms, rate, 1);
        }
        Ok(())
    }

    fn has_room(&mut self, now_ms: u64) -> bool {
        if self.by_address.len() >= self.sweep_at && self.swept_ms.is_none_or(|at| now_ms >= at + SWEEP_MS) {
            self.by_address.retain(|_, bucket| !bucket.is_empty(now_ms));
            self.sweep_at = (2 * self.by_address.len()).clamp(SWEEP_FROM, ADDRESSES_MAX);
            self.swept_ms = Some(now_ms);
        }
        self.by_address.len() < ADDRESSES_MAX
    }

    #[cfg(test)]
    pub(super) fn addresses(&self) -> usize {
        self.by_address.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(in_all: Option<Rate>, per_address: Option<Rate>) -> Arrivals {
        Arrivals::new(NewConnections { in_all, per_address })
    }

    fn at(address: &str) -> Option<Block> {
        counted(address.parse().expect(address))
    }

    #[test]
    fn each_rate_has_its_burst_and_then_what_drains() {
        let mut arrivals = arrivals(Some(Rate::new(3, 3_000)), Some(Rate::new(2, 4_000)));
        let (one, other) = (at("192.0.2.1"), at("192.0.2.2"));
        assert!(arrivals.take(0, one, true).is_ok() && arrivals.take(0, one, true).is_ok());
        let refused = arrivals.take(0, one, true).expect_err("two at once");
        assert_eq!((refused.of_address, refused.retry_after_ms), (true, 2_000));
        assert!(arrivals.take(0, other, true).is_ok(), "another address");
        let refused = arrivals.take(0, other, true).expect_err("three in all");
        assert_eq!((refused.of_address, refused.retry_after_ms), (false, 1_000));
        assert!(arrivals.take(0, other, false).is_ok(), "it is counted in all already");
        assert!(arrivals.take(1_000, None, true).is_ok(), "a Unix socket has no address");
        assert!(arrivals.take(1_000, None, true).is_err());
        assert!(arrivals.take(2_000, one, true).is_ok(), "what was refused took nothing");
    }

    #[test]
    fn loopback_has_no_rate_of_its_own() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(at(address), None, "{address}");
        }
        assert!(at("10.0.0.1").is_some() && at("2001:db8::1").is_some());
    }

    #[test]
    fn a_flood_of_addresses_takes_no_memory_and_keeps_nobody_out() {
        let mut arrivals = arrivals(None, Some(Rate::new(1, 60_000)));
        for number in 0..3 * ADDRESSES_MAX as u32 {
            assert!(arrivals.take(u64::from(number) / 100, Some(Block::V4(number)), true).is_ok(), "{number}");
        }
        assert_eq!(arrivals.addresses(), ADDRESSES_MAX);
        assert!(arrivals.take(2_000, Some(Block::V4(1)), true).is_err(), "those of before are still counted");
        assert!(arrivals.take(200_000, Some(Block::V4(u32::MAX)), true).is_ok());
        assert_eq!(arrivals.addresses(), 1, "the others have been quiet");
    }
}
