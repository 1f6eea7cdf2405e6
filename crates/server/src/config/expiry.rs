//! When a certificate expires, and when that is worth a line of the log.
//!
//! In: a certificate in DER (RFC 5280 §4.1), and the time. Out: its [`Validity`], and the [`Stage`] that it has reached
//! since the last look. Nothing else of the certificate is read.

use crate::config::tls::Tls;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;
/// Between two looks at the certificate in use.
const LOOK: Duration = Duration::from_secs(3600);

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from_s: u64,
    pub(crate) until_s: u64,
}

impl Validity {
    /// The validity of a certificate in DER.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        const SEQUENCE: u8 = 0x30;
        const VERSION: u8 = 0xA0;
        let (certificate, _) = value(SEQUENCE, der)?;
        let (mut rest, _) = value(SEQUENCE, certificate)?;
        if rest.first() == Some(&VERSION) {
            rest = element(rest)?.rest;
        }
        for _ in ["serialNumber", "signature", "issuer"] {
            rest = element(rest)?.rest;
        }
        let (validity, _) = value(SEQUENCE, rest)?;
        let (from, until) = (element(validity)?, element(element(validity)?.rest)?);
        Some(Validity { from_s: time(&from)?, until_s: time(&until)? })
    }

    /// The validity of the first certificate in a text of PEM.
    #[cfg(feature = "acme")]
    pub(crate) fn of_pem(pem: &[u8]) -> Option<Self> {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        Self::of(&CertificateDer::pem_slice_iter(pem).next()?.ok()?)
    }
}

/// One element of DER (X.690 §8.1), and the bytes behind it.
struct Element<'a> {
    tag: u8,
    value: &'a [u8],
    rest: &'a [u8],
}

fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (len, bytes) = match first {
        0..=0x7F => (usize::from(first), bytes),
        // No certificate has a length of more than four bytes.
        0x81..=0x84 => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), bytes)
        }
        _ => return None,
    };
    let (value, rest) = bytes.split_at_checked(len)?;
    Some(Element { tag, value, rest })
}

/// The content of an element that must have this tag, and the bytes behind it.
fn value(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let found = element(bytes)?;
    (found.tag == tag).then_some((found.value, found.rest))
}

/// Seconds since 1970 of a time, of which there are two forms (RFC 5280 §4.1.2.5): `YYMMDDHHMMSSZ` for the years from
/// 1950 to 2049, and `YYYYMMDDHHMMSSZ`. A time before 1970 is 0.
fn time(element: &Element<'_>) -> Option<u64> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let number = |digits: &[u8]| {
        let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        text.parse::<u64>().ok()
    };
    let (year, rest) = match element.tag {
        UTC_TIME => {
            let (year, rest) = element.value.split_at_checked(2)?;
            (number(year).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = element.value.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    if rest.len() != 11 || rest[10] != b'Z' {
        return None;
    }
    let part = |at: usize, max: u64| number(&rest[at..at + 2]).filter(|part| *part <= max);
    let (month, day) = (part(0, 12)?, part(2, 31)?);
    let (hour, minute, second) = (part(4, 23)?, part(6, 59)?, part(8, 59)?);
    if month == 0 || day == 0 {
        return None;
    }
    Some(days_since_1970(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second)
}

/// Days from 1 January 1970 to a date of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March: the day that some years have more is their last one.
    let (year, month) = if month < 3 { (year.saturating_sub(1), month + 9) } else { (year, month - 3) };
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days(year) + (month * 153 + 2) / 5 + day - 1;
    days.saturating_sub(719_468) // those of 1 January 1970, counted so
}

/// How near the end of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// 14 days, or a quarter of its life where that is shorter.
    Soon,
    /// 3 days, or an eighth.
    VerySoon,
    Expired,
}

impl Stage {
    fn of(validity: Validity, now_s: u64) -> Option<Stage> {
        let Validity { from_s, until_s } = validity;
        let (life_s, left_s) = (until_s.saturating_sub(from_s), until_s.saturating_sub(now_s));
        match left_s {
            0 => Some(Stage::Expired),
            _ if left_s <= (3 * DAY_S).min(life_s / 8) => Some(Stage::VerySoon),
            _ if left_s <= (14 * DAY_S).min(life_s / 4) => Some(Stage::Soon),
            _ => None,
        }
    }
}

/// The last stage that was logged, and of which certificate.
#[derive(Debug, Default)]
struct Logged(Option<(Validity, Stage)>);

impl Logged {
    /// A stage that is to be logged now: each once for each certificate.
    fn next(&mut self, validity: Validity, now_s: u64) -> Option<Stage> {
        let stage = Stage::of(validity, now_s)?;
        let is_logged = self.0.is_some_and(|(of, logged)| of == validity && logged >= stage);
        (!is_logged).then(|| {
            self.0 = Some((validity, stage));
            stage
        })
    }
}

/// Looks at the certificate in use each hour, for ever.
pub(crate) async fn watch(tls: Tls) {
    let mut logged = Logged::default();
    loop {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some(validity) = tls.validity()
            && let Some(stage) = logged.next(validity, now_s)
        {
            let at = UNIX_EPOCH + Duration::from_secs(validity.until_s);
            let (expires, days) = (httpdate::fmt_http_date(at), validity.until_s.saturating_sub(now_s) / DAY_S);
            match stage {
                Stage::Soon | Stage::VerySoon => tracing::warn!(expires, days, "the TLS certificate expires soon"),
                Stage::Expired => tracing::error!(expires, "the TLS certificate has expired"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut made = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        made.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        made.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate().expect("a key");
        made.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_validity_of_a_certificate_is_read_from_both_forms_of_time() {
        let rows = [
            ((1970, 1, 1), (1970, 1, 2), (0, DAY_S)),
            ((2000, 2, 29), (2000, 3, 1), (951_782_400, 951_868_800)),
            ((2026, 11, 29), (2049, 12, 31), (1_795_910_400, 2_524_521_600)),
            ((2050, 1, 1), (2100, 3, 1), (2_524_608_000, 4_107_542_400)), // 2100 is no leap year
        ];
        for (from, until, (from_s, until_s)) in rows {
            assert_eq!(Validity::of(&der(from, until)), Some(Validity { from_s, until_s }), "{from:?} {until:?}");
        }
    }

    #[test]
    fn a_broken_certificate_has_no_validity_and_harms_nobody() {
        let whole = der((2026, 1, 1), (2027, 1, 1));
        for len in 0..whole.len() {
            let _ = Validity::of(&whole[..len]);
            let mut broken = whole.clone();
            broken[len] ^= 0xFF;
            let _ = Validity::of(&broken);
        }
        assert_eq!(Validity::of(&whole[..20]), None);
        let text = |tag, text: &str| time(&Element { tag, value: text.as_bytes(), rest: &[] });
        assert_eq!(text(0x17, "700101000001Z"), Some(1));
        for wrong in ["", "7", "700101000000", "701301000000Z", "700100000000Z", "70010100000+Z", "700101240000Z"] {
            assert_eq!(text(0x17, wrong), None, "{wrong}");
        }
        assert_eq!(text(0x02, "700101000001Z"), None, "no time");
    }

    #[test]
    fn each_stage_of_a_certificate_is_logged_once_and_those_of_its_successor_anew() {
        let of = |days: u64| Validity { from_s: 0, until_s: days * DAY_S };
        let mut logged = Logged::default();
        let mut at = |validity, day: u64, second: u64| logged.next(validity, day * DAY_S + second);
        let (long, week) = (of(90), of(98 + 6));
        assert_eq!(at(long, 75, 0), None);
        assert_eq!(at(long, 76, 0), Some(Stage::Soon));
        assert_eq!(at(long, 86, 0), None, "it is logged");
        assert_eq!(at(long, 87, 0), Some(Stage::VerySoon));
        assert_eq!(at(long, 89, 0), None);
        assert_eq!(at(long, 90, 0), Some(Stage::Expired));
        assert_eq!(at(long, 91, 0), None);
        assert_eq!(at(week, 100, 0), Some(Stage::Soon), "another certificate");
        // One that lives for 8 days is not near its end from its beginning.
        let short = of(8);
        let mut logged = Logged::default();
        let stages: Vec<_> = (0..9).map(|day| logged.next(short, day * DAY_S)).collect();
        let mut expected = vec![None; 9];
        (expected[6], expected[7], expected[8]) = (Some(Stage::Soon), Some(Stage::VerySoon), Some(Stage::Expired));
        assert_eq!(stages, expected);
    }
}
