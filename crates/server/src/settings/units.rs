//! Numbers with units, as people write them: bytes, times and rates, to and fro.
//!
//! A time always has a unit, because without one its meaning is unclear; a number of bytes needs none. A printed value
//! reads back as the same value.

use fanfare_hub::{Rate, RateLimit};

const BYTES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The problem of a text, and the correct form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) problem: String,
    pub(super) hint: String,
}

fn wrong(problem: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong { problem: problem.into(), hint: hint.into() }
}

/// `64KiB`, `1MB`, `1.5 GB`, `65536`.
pub(super) fn bytes(text: &str) -> Result<u64, Wrong> {
    let (number, unit) =
        split(text).ok_or_else(|| wrong("it is not a number of bytes", "write it like \"64KiB\" or 65536"))?;
    let scale = match BYTES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some((_, scale)) => *scale,
        None if unit.is_empty() => 1,
        None => {
            let hint = match unit.chars().next().map(|c| c.to_ascii_uppercase()) {
                Some(c @ ('K' | 'M' | 'G')) => {
                    let small = if c == 'K' { 'k' } else { c };
                    format!("write \"{number}{c}iB\" (of 1,024) or \"{number}{small}B\" (of 1,000)")
                }
                _ => "the units are B, kB, MB, GB (of 1,000) and KiB, MiB, GiB (of 1,024)".to_owned(),
            };
            return Err(wrong(format!("{unit:?} is not a unit of bytes"), hint));
        }
    };
    scaled(number, scale).ok_or_else(|| wrong("it is not a whole number of bytes", "write it like \"64KiB\" or 65536"))
}

/// `500ms`, `10s`, `1.5h`.
pub(super) fn millis(text: &str) -> Result<u64, Wrong> {
    let (number, unit) = split(text).ok_or_else(|| wrong("it is not a time", "write it like \"10s\" or \"500ms\""))?;
    if unit.is_empty() && number != "0" {
        return Err(wrong(
            "it has no unit",
            format!("write \"{number}s\" for seconds or \"{number}ms\" for milliseconds"),
        ));
    }
    let scale = match TIMES.iter().find(|(name, _)| *name == unit) {
        Some((_, scale)) => *scale,
        None if unit.is_empty() => 1,
        None => {
            return Err(wrong(
                format!("{unit:?} is not a unit of time"),
                "the units are ms, s, m, h and d; use one of them",
            ));
        }
    };
    scaled(number, scale)
        .ok_or_else(|| wrong("it is not a whole number of milliseconds", "write it like \"10s\" or \"500ms\""))
}

const RATE_HINT: &str = "write it like \"20/s\", \"100/m\" or \"100/10s\"";
const BYTE_RATE_HINT: &str = "write it like \"1MB/s\" or \"10MiB/10s\"";

/// `20/s`, `100/10s`.
pub(super) fn rate(text: &str) -> Result<RateLimit, Wrong> {
    let (count, window_ms) = per_time(text, RATE_HINT)?;
    let count_max = count.parse().map_err(|_| wrong(format!("{count:?} is not a count"), RATE_HINT))?;
    match count_max > 0 && window_ms > 0 {
        true => Ok(RateLimit { count_max, window_ms }),
        false => Err(wrong("it allows nothing", "leave `rate` out for no limit, or say who may with `publish`")),
    }
}

/// `20/s`, of bytes `1MB/s`; `off`: no limit.
pub(super) fn quota(text: &str, of_bytes: bool) -> Result<Option<Rate>, Wrong> {
    if text.trim() == "off" {
        return Ok(None);
    }
    let hint = if of_bytes { BYTE_RATE_HINT } else { RATE_HINT };
    let (count, window_ms) = per_time(text, hint)?;
    let number = match of_bytes {
        true => bytes(count).ok(),
        false => count.parse().ok(),
    };
    let number = number.ok_or_else(|| {
        wrong(format!("{count:?} is not a {}", if of_bytes { "number of bytes" } else { "count" }), hint)
    })?;
    match number > 0 && window_ms > 0 {
        true => Ok(Some(Rate::new(number, window_ms))),
        false => Err(wrong("it allows nothing", "write \"off\" for no limit")),
    }
}

/// What stands before the `/`, and the time behind it.
fn per_time<'t>(text: &'t str, hint: &str) -> Result<(&'t str, u64), Wrong> {
    let (count, time) = text.split_once('/').ok_or_else(|| wrong("it has no \"/\" with a time", hint))?;
    let time = time.trim();
    let time_ms =
        if time.starts_with(|c: char| c.is_ascii_digit()) { millis(time) } else { millis(&format!("1{time}")) };
    Ok((count.trim(), time_ms.map_err(|_| wrong(format!("{time:?} is not a time"), hint))?))
}

/// A number in front, a unit behind.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let is_number = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.');
    is_number.then(|| (number, unit.trim()))
}

/// `number * scale`, exactly: `1.5` needs a scale that makes it whole.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut value = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    if !fraction.is_empty() {
        let parts = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let more = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
        if !more.is_multiple_of(parts) {
            return None;
        }
        value = value.checked_add(more / parts)?;
    }
    Some(value)
}

pub(super) fn show_bytes(bytes: u64) -> String {
    show(bytes, &BYTES, "B")
}

pub(super) fn show_millis(ms: u64) -> String {
    show(ms, &TIMES, "s")
}

pub(super) fn show_rate(rate: RateLimit) -> String {
    show_per_time(&rate.count_max.to_string(), rate.window_ms)
}

pub(super) fn show_quota(rate: Option<Rate>, of_bytes: bool) -> String {
    let shown = |count: u64| if of_bytes { show_bytes(count) } else { count.to_string() };
    rate.map_or_else(|| "off".to_owned(), |rate| show_per_time(&shown(rate.count()), rate.window_ms()))
}

fn show_per_time(count: &str, window_ms: u64) -> String {
    let time = show_millis(window_ms);
    format!("{count}/{}", time.strip_prefix('1').filter(|unit| unit.starts_with(char::is_alphabetic)).unwrap_or(&time))
}

/// In the largest unit that leaves a whole number.
fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    match units.iter().find(|(_, scale)| value != 0 && value.is_multiple_of(*scale)) {
        Some((unit, scale)) => format!("{}{unit}", value / scale),
        None => format!("0{zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_their_units() {
        let rows = [
            ("0", Some(0)),
            ("65536", Some(65536)),
            ("64KiB", Some(65536)),
            ("64 kib", Some(65536)),
            ("1MB", Some(1_000_000)),
            ("1.5GB", Some(1_500_000_000)),
            ("0.5KiB", Some(512)),
            ("12B", Some(12)),
            ("0.3B", None),
            ("1M", None),
            ("apples", None),
            ("64 apples", None),
            ("-1", None),
            ("1e9", None),
            ("99999999999GiB", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(bytes(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        let rows = [
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("1.5h", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("0", Some(0)),
            ("10", None),
            ("10 minutes", None),
            ("1m30s", None),
            ("0.0001s", None),
        ];
        for (text, expected) in rows {
            assert_eq!(millis(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn rates_are_counts_in_a_time() {
        let rows = [
            ("20/s", Some((20, 1000))),
            ("100 / 10s", Some((100, 10_000))),
            ("5/m", Some((5, 60_000))),
            ("0/s", None),
            ("20", None),
            ("20/0s", None),
            ("many/s", None),
            ("20/second", None),
        ];
        for (text, expected) in rows {
            assert_eq!(rate(text).ok().map(|rate| (rate.count_max, rate.window_ms)), expected, "{text:?}");
        }
    }

    #[test]
    fn a_shown_value_reads_back() {
        for value in
            [0, 1, 999, 1000, 1024, 65_536, 1_000_000, 1_048_576, 268_435_456, 5_000_000_000, 86_400_000, 90_000]
        {
            assert_eq!(bytes(&show_bytes(value)), Ok(value));
            assert_eq!(millis(&show_millis(value)), Ok(value));
            if value > 0 {
                let limit = RateLimit { count_max: 7, window_ms: value };
                assert_eq!(rate(&show_rate(limit)), Ok(limit), "{}", show_rate(limit));
            }
        }
    }
}
