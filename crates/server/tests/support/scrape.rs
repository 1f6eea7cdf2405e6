//! A strict scraper: it reads OpenMetrics text as `promtool` does, and returns the samples.

use super::{connect, response};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;

/// Every sample of a text, by `name{label="value",…}` with the labels in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Scraped(pub BTreeMap<String, f64>);

/// Scrapes a server.
pub fn scrape(address: SocketAddr) -> Scraped {
    let mut socket = connect(address);
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("the server reads");
    let response = response(&mut socket);
    assert_eq!(response.status(), 200, "{}", response.body);
    let kind = response.header("content-type").expect("a type");
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    Scraped::parse(&response.body)
}

impl Scraped {
    /// The value of one sample. It is 0 if it is missing, because a counter that never counted may be left out.
    pub fn get(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or(0.0)
    }

    /// The sum of all samples of a name.
    pub fn sum(&self, name: &str) -> f64 {
        self.0.iter().filter(|(sample, _)| sample.split('{').next() == Some(name)).map(|(_, value)| value).sum()
    }

    /// Reads a text and panics at the first fault that a scraper might find.
    pub fn parse(text: &str) -> Scraped {
        let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        let mut family = (String::new(), String::new());
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let (word, rest) = comment.split_once(' ').expect("a word");
                let (name, value) = rest.split_once(' ').expect("a name and what is said of it");
                match word {
                    "HELP" => {
                        assert!(is_name(name), "{line}");
                        assert!(families.insert(name.to_owned()), "{name} is described twice");
                        assert!(!value.is_empty() && value.ends_with('.'), "a sentence: {line}");
                        family = (name.to_owned(), String::new());
                    }
                    "TYPE" => {
                        assert_eq!((name, family.1.as_str()), (family.0.as_str(), ""), "one type, after the help");
                        assert!(matches!(value, "counter" | "gauge" | "histogram"), "{line}");
                        family.1 = value.to_owned();
                    }
                    "UNIT" => assert!(name == family.0 && name.ends_with(&format!("_{value}")), "{line}"),
                    _ => panic!("what is this? {line}"),
                }
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let name = sample.split('{').next().expect("a name");
            let suffix = name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{name} stands under {}", family.0));
            let fits = match family.1.as_str() {
                "counter" => suffix == "_total",
                "gauge" => suffix.is_empty(),
                "histogram" => matches!(suffix, "_sum" | "_count" | "_bucket"),
                _ => false,
            };
            assert!(fits, "{line} is not of a {}", family.1);
            check_labels(&sample[name.len()..], line);
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(value >= 0.0, "{line}");
            assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} stands there twice");
        }
        let scraped = Scraped(samples);
        scraped.check_histograms();
        scraped
    }

    fn check_histograms(&self) {
        for (sample, count) in self.0.iter().filter(|(sample, _)| sample.contains("_count")) {
            let (name, labels) = sample.split_once("_count").expect("it contains it");
            let labels = labels.trim_matches(['{', '}']);
            let of = |(sample, value): (&String, &f64)| {
                let rest = sample.strip_prefix(&format!("{name}_bucket{{"))?.strip_suffix('}')?;
                let (bound, others) = rest.strip_prefix("le=\"")?.split_once('"')?; // the encoder writes it first
                (others.trim_start_matches(',') == labels).then(|| (bound.parse::<f64>().expect("a bound"), *value))
            };
            let mut buckets: Vec<(f64, f64)> = self.0.iter().filter_map(of).collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{sample} is cumulative: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{sample} ends with all of them");
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `{a="b",c="d"}`, with quotes, backslashes and line breaks escaped; or nothing.
fn check_labels(mut labels: &str, line: &str) {
    if labels.is_empty() {
        return;
    }
    labels = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}')).unwrap_or_else(|| panic!("labels: {line}"));
    let mut names = BTreeSet::new();
    while !labels.is_empty() {
        let (name, rest) = labels.split_once("=\"").unwrap_or_else(|| panic!("a label: {line}"));
        assert!(is_name(name) && names.insert(name), "{line}");
        let mut end = None;
        let mut escaped = false;
        for (at, c) in rest.char_indices() {
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => {
                    end = Some(at);
                    break;
                }
                _ => escaped = false,
            }
        }
        let rest = &rest[end.unwrap_or_else(|| panic!("no end of a label: {line}")) + 1..];
        labels = rest.strip_prefix(',').unwrap_or(rest);
    }
}
