//! The server's own histogram of the time from a publication's arrival until its last frame is written: a figure
//! without the load generator's part. Read from `/metrics`, between the measured phases.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const NAME: &str = "fanfare_publish_deliver_seconds_bucket{";
const PATIENCE: Duration = Duration::from_secs(20);

/// Publications so far: by the upper bound of a bucket in µs, how many took as long at most.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Buckets(BTreeMap<u64, u64>);

impl Buckets {
    /// Asks the server. Empty where it tells nothing.
    pub(super) fn of(addr: SocketAddr) -> io::Result<Self> {
        let mut socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(Self::parse(&answer))
    }

    fn parse(text: &str) -> Self {
        let mut buckets = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(NAME)) {
            let bound = line.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')?.0.parse::<f64>().ok());
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
            if let (Some(bound), Some(count)) = (bound, count) {
                // The last bucket has no bound: the conversion gives the largest number.
                *buckets.entry((bound * 1e6) as u64).or_default() += count as u64;
            }
        }
        Self(buckets)
    }

    /// The bound in µs of the bucket in which this percentile of all publications since `earlier` lies. `None` if there
    /// are none.
    pub(super) fn percentile_since(&self, earlier: &Self, percent: u8) -> Option<u64> {
        let since = |bound, count: u64| count - earlier.0.get(bound).copied().unwrap_or_default().min(count);
        let all = self.0.iter().next_back().map(|(bound, &count)| since(bound, count))?;
        let place = (all * u64::from(percent)).div_ceil(100);
        let found = self.0.iter().find(|&(bound, &count)| since(bound, count) >= place);
        found.filter(|_| all > 0).map(|(&bound, _)| bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_that_of_the_publications_in_between() {
        let text = |counts: [u64; 3]| {
            let [a, b, c] = counts;
            format!(
                "# TYPE x histogram\nfanfare_publish_deliver_seconds_sum 1\n\
                 fanfare_publish_deliver_seconds_bucket{{le=\"0.001\"}} {a}\n\
                 fanfare_publish_deliver_seconds_bucket{{le=\"0.005\"}} {b}\n\
                 fanfare_publish_deliver_seconds_bucket{{le=\"+Inf\"}} {c}\n"
            )
        };
        let (before, after) = (Buckets::parse(&text([10, 10, 10])), Buckets::parse(&text([60, 109, 110])));
        let bound = |percent| after.percentile_since(&before, percent);
        assert_eq!((bound(50), bound(51), bound(99), bound(100)), (Some(1000), Some(5000), Some(5000), Some(u64::MAX)));
        assert_eq!(after.percentile_since(&after, 99), None, "there were none");
        assert_eq!(Buckets::parse("HTTP/1.1 404 Not Found\r\n").percentile_since(&before, 99), None);
    }
}
