//! The check of every delivery: each subscriber gets each publication once, whole, in the order published.
//!
//! In: the publications that were sent, and each content that reaches a subscriber. Out: the number of publications
//! that every subscriber has, or the first fault. A server that drops or repeats publications gets an error in place of
//! figures.

use thiserror::Error;

/// Length of a content: 16 hexadecimal digits of the sequence number, then filler.
pub const CONTENT_LEN: usize = 128;

const SEQ_LEN: usize = 16;
const FILLER: [u8; CONTENT_LEN - SEQ_LEN] = [b'x'; CONTENT_LEN - SEQ_LEN];

/// A wrong delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DeliveryError {
    /// The subscriber already had this one, or one after it.
    #[error("subscriber {subscriber} got publication {got} again, or late: {expected} was due")]
    Repeated {
        /// The subscriber.
        subscriber: usize,
        /// The sequence number that came.
        got: u64,
        /// The one that was due.
        expected: u64,
    },
    /// A publication before this one has not come.
    #[error("subscriber {subscriber} got publication {got} while {expected} was due: one is missing or overtaken")]
    Skipped {
        /// The subscriber.
        subscriber: usize,
        /// The sequence number that came.
        got: u64,
        /// The one that was due.
        expected: u64,
    },
    /// This was never published.
    #[error("subscriber {subscriber} got publication {got}, but only {published} were published")]
    NeverPublished {
        /// The subscriber.
        subscriber: usize,
        /// The sequence number that came.
        got: u64,
        /// How many there are.
        published: u64,
    },
    /// Publication n of a new channel has another place than n + 1.
    #[error("subscriber {subscriber} got publication {seq} at offset {offset}")]
    Misplaced {
        /// The subscriber.
        subscriber: usize,
        /// Its sequence number.
        seq: u64,
        /// Where it stood.
        offset: u64,
    },
    /// Not the bytes that were published.
    #[error("subscriber {subscriber} got a content that nobody published")]
    Damaged {
        /// The subscriber.
        subscriber: usize,
    },
}

/// Writes the content of publication `seq`.
pub fn content(seq: u64) -> String {
    let mut content = format!("{seq:016x}");
    content.extend(FILLER.iter().map(|&byte| char::from(byte)));
    content
}

/// Reads the sequence number out of a content; `None` unless it is exactly what [`content`] writes.
pub fn seq_of(content: &[u8]) -> Option<u64> {
    let (digits, filler) = content.split_at_checked(SEQ_LEN)?;
    if filler != FILLER {
        return None;
    }
    digits.iter().try_fold(0u64, |seq, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(seq << 4 | u64::from(value))
    })
}

/// Checks that a publication stands where it should, in a channel that only we publish to, from 0.
pub fn numbered(subscriber: usize, offset: u64, content: &[u8]) -> Result<u64, DeliveryError> {
    let seq = seq_of(content).ok_or(DeliveryError::Damaged { subscriber })?;
    if offset == seq + 1 { Ok(seq) } else { Err(DeliveryError::Misplaced { subscriber, seq, offset }) }
}

/// The publications so far, and their subscribers.
#[derive(Debug)]
pub struct Ledger {
    published: u64,
    complete: u64,
    /// Per subscriber, the sequence number due next.
    due: Vec<u64>,
    /// Per publication in flight, how many subscribers have yet to get it; the front is `complete`.
    missing: std::collections::VecDeque<usize>,
}

impl Ledger {
    /// Nothing published yet, to this many subscribers.
    pub fn new(subscribers: usize) -> Self {
        Self { published: 0, complete: 0, due: vec![0; subscribers], missing: std::collections::VecDeque::new() }
    }

    /// Enters one more publication and says its sequence number.
    pub fn publish(&mut self) -> u64 {
        self.missing.push_back(self.due.len());
        self.published += 1;
        self.published - 1
    }

    /// Enters one delivery.
    pub fn deliver(&mut self, subscriber: usize, content: &[u8]) -> Result<(), DeliveryError> {
        let got = seq_of(content).ok_or(DeliveryError::Damaged { subscriber })?;
        let expected = self.due[subscriber];
        if got < expected {
            return Err(DeliveryError::Repeated { subscriber, got, expected });
        }
        if got >= self.published {
            return Err(DeliveryError::NeverPublished { subscriber, got, published: self.published });
        }
        if got > expected {
            return Err(DeliveryError::Skipped { subscriber, got, expected });
        }
        self.due[subscriber] += 1;
        // `got` is due here, so this subscriber lacks it, so it is not complete yet.
        self.missing[(got - self.complete) as usize] -= 1;
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
            self.complete += 1;
        }
        Ok(())
    }

    /// How many were published.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Publications that some subscriber still lacks.
    pub fn in_flight(&self) -> usize {
        self.missing.len()
    }

    /// Deliveries of all complete publications.
    pub fn deliveries(&self) -> u64 {
        self.complete * self.due.len() as u64
    }

    /// For a message about a run that stopped: the number of deliveries that are still due.
    pub fn owed(&self) -> usize {
        self.missing.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(subscribers: usize, publications: u64) -> Ledger {
        let mut ledger = Ledger::new(subscribers);
        for seq in 0..publications {
            assert_eq!(ledger.publish(), seq);
        }
        ledger
    }

    fn deliver(ledger: &mut Ledger, subscriber: usize, seq: u64) -> Result<(), DeliveryError> {
        ledger.deliver(subscriber, content(seq).as_bytes())
    }

    #[test]
    fn a_content_is_as_long_as_promised_and_reads_back() {
        for seq in [0, 1, 0xdead_beef, u64::MAX] {
            assert_eq!(content(seq).len(), CONTENT_LEN);
            assert_eq!(seq_of(content(seq).as_bytes()), Some(seq));
        }
        assert_eq!(seq_of(b"0000000000000001"), None, "filler cut off");
        assert_eq!(seq_of(content(1).replace('x', "y").as_bytes()), None, "filler changed");
        assert_eq!(seq_of(content(1).to_uppercase().as_bytes()), None);
    }

    #[test]
    fn a_place_is_the_number_and_one() {
        assert_eq!(numbered(3, 8, content(7).as_bytes()), Ok(7));
        let error = DeliveryError::Misplaced { subscriber: 3, seq: 7, offset: 7 };
        assert_eq!(numbered(3, 7, content(7).as_bytes()), Err(error));
        assert_eq!(numbered(3, 8, b"hello"), Err(DeliveryError::Damaged { subscriber: 3 }));
    }

    #[test]
    fn a_publication_is_complete_when_everybody_has_it() {
        let mut ledger = ledger(2, 2);
        deliver(&mut ledger, 0, 0).expect("due");
        deliver(&mut ledger, 0, 1).expect("due");
        assert_eq!((ledger.in_flight(), ledger.owed(), ledger.deliveries()), (2, 2, 0));
        deliver(&mut ledger, 1, 0).expect("due");
        assert_eq!((ledger.in_flight(), ledger.owed(), ledger.deliveries()), (1, 1, 2));
        deliver(&mut ledger, 1, 1).expect("due");
        assert_eq!((ledger.in_flight(), ledger.owed(), ledger.deliveries()), (0, 0, 4));
    }

    #[test]
    fn a_repeated_delivery_is_caught() {
        let mut ledger = ledger(2, 2);
        deliver(&mut ledger, 1, 0).expect("due");
        let error = DeliveryError::Repeated { subscriber: 1, got: 0, expected: 1 };
        assert_eq!(deliver(&mut ledger, 1, 0), Err(error));
    }

    #[test]
    fn a_missing_delivery_is_caught_by_the_next_one() {
        let mut ledger = ledger(2, 3);
        deliver(&mut ledger, 0, 0).expect("due");
        let error = DeliveryError::Skipped { subscriber: 0, got: 2, expected: 1 };
        assert_eq!(deliver(&mut ledger, 0, 2), Err(error));
    }

    #[test]
    fn a_missing_last_delivery_stays_owed() {
        let mut ledger = ledger(2, 1);
        deliver(&mut ledger, 0, 0).expect("due");
        assert_eq!((ledger.in_flight(), ledger.owed(), ledger.deliveries()), (1, 1, 0));
    }

    #[test]
    fn a_reordered_delivery_is_caught() {
        let mut ledger = ledger(1, 2);
        let error = DeliveryError::Skipped { subscriber: 0, got: 1, expected: 0 };
        assert_eq!(deliver(&mut ledger, 0, 1), Err(error));
    }

    #[test]
    fn an_invented_or_damaged_delivery_is_caught() {
        let mut ledger = ledger(1, 1);
        let error = DeliveryError::NeverPublished { subscriber: 0, got: 1, published: 1 };
        assert_eq!(deliver(&mut ledger, 0, 1), Err(error));
        assert_eq!(ledger.deliver(0, b"hello"), Err(DeliveryError::Damaged { subscriber: 0 }));
    }
}
