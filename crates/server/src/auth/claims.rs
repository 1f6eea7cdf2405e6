//! The claims of a token whose signature is proven: who the caller is, until when, and what it may do.
//!
//! In: the JSON of a token's second part. Out: [`Claims`], or the claim that is at fault. `sub`, `exp`, `nbf`, `iss`
//! and `aud` are those of RFC 7519 §4.1; `info`, `channels`, `subscribe` and `labels` are Fanfare's; others are kept
//! as they are. A claim that is there twice is refused: two readers could take it for two different ones.

use super::error::{TokenError, shortened};
use bytes::Bytes;
use fanfare_hub::{Action, ChannelName, Grant, Labels, Limits, Pattern, UserId, is_format};
use fanfare_wire::json;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;

/// The longest user, in bytes.
const USER_BYTES_MAX: usize = 255;
/// A token has at most so many values of `aud`.
const AUDIENCES_MAX: usize = 64;

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Claims {
    pub(super) user: Option<UserId>,
    /// Seconds since 1970, as ms.
    pub(super) exp_ms: Option<u64>,
    pub(super) nbf_ms: Option<u64>,
    pub(super) iss: Option<String>,
    pub(super) aud: Vec<String>,
    pub(super) info: Option<Bytes>,
    pub(super) grants: Vec<Grant>,
    pub(super) subscribe: Vec<ChannelName>,
    pub(super) labels: Labels,
    /// The others, as one JSON object.
    pub(super) others: Option<Bytes>,
}

/// The fields of a JSON object, in order, each with its raw value.
struct Fields<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Fields<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reads)
    }
}

#[derive(Deserialize)]
struct WrittenGrant {
    r#match: String,
    allow: Vec<String>,
}

/// One audience, or several (RFC 7519 §4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Claims {
    /// Reads the claims. The numbers of grants and subscriptions are bounded by `limits`.
    pub(super) fn parse(text: &[u8], limits: &Limits) -> Result<Self, TokenError> {
        let not = |problem| TokenError::NotJwt { problem };
        let text = std::str::from_utf8(text).map_err(|_| not("its claims are not UTF-8"))?;
        let Fields(fields) = serde_json::from_str(text).map_err(|_| not("its claims are not a JSON object"))?;
        if json::payload(text.as_bytes()).is_err() {
            return Err(not("its claims are nested too deep"));
        }
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(invalid(&shortened(twice[0]), "it is there twice"));
        }
        let mut claims = Claims::default();
        let mut others = Vec::new();
        for (name, value) in &fields {
            match name.as_str() {
                "sub" => claims.user = Some(user(value)?),
                "exp" => claims.exp_ms = Some(date("exp", value)?),
                "nbf" => claims.nbf_ms = Some(date("nbf", value)?),
                "iss" => claims.iss = Some(read("iss", value, "it is no text")?),
                "aud" => claims.aud = audience(value)?,
                "info" => claims.info = Some(on_one_line(value)),
                "channels" => claims.grants = grants(value, limits.grants_max)?,
                "labels" => claims.labels = labels(value)?,
                "subscribe" => claims.subscribe = channels(value, limits.subscriptions_max)?,
                _ => others.push((name, value)),
            }
        }
        if !others.is_empty() {
            claims.others = Some(written(&others));
        }
        Ok(claims)
    }
}

fn invalid(claim: &str, problem: impl Into<String>) -> TokenError {
    TokenError::Claim { claim: claim.to_owned(), problem: problem.into() }
}

fn read<'t, T: Deserialize<'t>>(claim: &str, value: &'t RawValue, problem: &str) -> Result<T, TokenError> {
    serde_json::from_str(value.get()).map_err(|_| invalid(claim, problem))
}

/// A user is compared as a whole, with one segment of a channel's name: a `:` or a `*` in it matches nothing else. Text
/// that nobody sees, or that moves what stands beside it, is refused: it would pass for another user.
pub(crate) fn user(value: &RawValue) -> Result<UserId, TokenError> {
    let text: String = read("sub", value, "it is no text (a number goes in quotes)")?;
    if text.is_empty() {
        return Err(invalid("sub", "it is empty"));
    }
    if text.len() > USER_BYTES_MAX {
        return Err(invalid("sub", format!("it has {} bytes, the limit is {USER_BYTES_MAX}", text.len())));
    }
    if let Some(odd) = text.chars().find(|c| c.is_control() || is_format(*c)) {
        return Err(invalid("sub", format!("U+{:04X} is a control or format character", u32::from(odd))));
    }
    Ok(UserId(text.into()))
}

/// A NumericDate: seconds since 1970, maybe with a fraction.
fn date(claim: &'static str, value: &RawValue) -> Result<u64, TokenError> {
    /// Year 9999: later ones are a mistake in the unit, and "for ever" has another word.
    const SECONDS_MAX: f64 = 253_402_300_800.0;
    let seconds: f64 = read(claim, value, "it is no number of seconds since 1970")?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(invalid(claim, "it is no number of seconds since 1970 (is it in milliseconds?)"));
    }
    Ok((seconds * 1000.0) as u64)
}

fn audience(value: &RawValue) -> Result<Vec<String>, TokenError> {
    match read("aud", value, "it is neither a text nor a list of texts")? {
        Audience::One(one) => Ok(vec![one]),
        Audience::Several(several) if several.len() > AUDIENCES_MAX => {
            Err(invalid("aud", format!("it has {} values, the limit is {AUDIENCES_MAX}", several.len())))
        }
        Audience::Several(several) => Ok(several),
    }
}

pub(crate) fn grants(value: &RawValue, max: usize) -> Result<Vec<Grant>, TokenError> {
    const FORM: &str = "it is no list of {\"match\": \"chat:*\", \"allow\": [\"subscribe\"]}";
    let written: Vec<&RawValue> = read("channels", value, FORM)?;
    if written.len() > max {
        return Err(invalid(
            "channels",
            format!("it has {} grants, the limit (limits.grants_max) is {max}", written.len()),
        ));
    }
    let one = |value: &&RawValue| {
        let WrittenGrant { r#match, allow } = read("channels", value, FORM)?;
        let wrong = |error| invalid("channels", format!("{:?} is not a pattern: {error}", shortened(&r#match)));
        let pattern = Pattern::new(&r#match).map_err(wrong)?;
        let mut actions = Vec::new();
        for word in &allow {
            let action = Action::ALL.into_iter().find(|action| action.option() == word).ok_or_else(|| {
                let words = Action::ALL.map(Action::option).join(", ");
                invalid("channels", format!("{:?} is not one of {words}", shortened(word)))
            })?;
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
        Ok(Grant { pattern, allow: actions })
    };
    written.iter().map(one).collect()
}

pub(crate) fn channels(value: &RawValue, max: usize) -> Result<Vec<ChannelName>, TokenError> {
    let names: Vec<String> = read("subscribe", value, "it is no list of channels")?;
    if names.len() > max {
        let problem = format!("it has {} channels, the limit (limits.subscriptions_max) is {max}", names.len());
        return Err(invalid("subscribe", problem));
    }
    let mut channels = Vec::new();
    for name in &names {
        let wrong = |error| invalid("subscribe", format!("{:?} is not a channel: {error}", shortened(name)));
        let channel = ChannelName::new(name).map_err(wrong)?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

pub(crate) fn labels(value: &RawValue) -> Result<Labels, TokenError> {
    let names: Vec<String> = read("labels", value, "it is no list of texts")?;
    Labels::new(names).map_err(|error| invalid("labels", error.to_string()))
}

/// A value of valid JSON that is not nested too deep.
pub(crate) fn on_one_line(value: &RawValue) -> Bytes {
    let json = value.get().as_bytes();
    Bytes::from(json::payload(json).map_or_else(|_| json.to_vec(), std::borrow::Cow::into_owned))
}

/// The other claims as one object.
fn written(others: &[(&String, &&RawValue)]) -> Bytes {
    struct Object<'a>(&'a [(&'a String, &'a &'a RawValue)]);
    impl Serialize for Object<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().copied())
        }
    }
    // Names are texts and values are JSON already, so that nothing of it can fail.
    Bytes::from(serde_json::to_vec(&Object(others)).unwrap_or_default())
}

/// The body of the fuzz target `token_claims`: no text panics, what is read keeps to its bounds, and what is kept reads
/// as the same again.
pub(super) fn fuzz(text: &[u8]) {
    let limits = Limits { grants_max: 4, subscriptions_max: 3, ..Limits::default() };
    let Ok(claims) = Claims::parse(text, &limits) else { return };
    assert!(claims.grants.len() <= limits.grants_max && claims.subscribe.len() <= limits.subscriptions_max);
    if let Some(UserId(user)) = &claims.user {
        assert!((1..=USER_BYTES_MAX).contains(&user.len()) && !user.chars().any(char::is_control), "{user:?}");
    }
    for json in claims.info.iter().chain(&claims.others) {
        assert!(serde_json::from_slice::<&RawValue>(json).is_ok(), "not JSON any more");
        assert!(!json.contains(&b'\n') || claims.info.as_ref() != Some(json), "a line break in `info`");
    }
    if let Some(others) = &claims.others {
        let again = Claims::parse(others, &limits).expect("the rest has none of our claims");
        assert_eq!(again, Claims { others: Some(others.clone()), ..Claims::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Claims, String> {
        Claims::parse(text.as_bytes(), &Limits::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn claims_are_read_and_others_are_kept() {
        let text = r#"{"sub":"ada","exp":2000.5,"nbf":1,"iss":"https://id.example","aud":["a","b"],"info":{"name":
            "Ada"},"channels":[{"match":"chat:*","allow":["subscribe","publish","subscribe"],"more":1}],
            "subscribe":["inbox:ada","inbox:ada"],"role":"admin","iat":7}"#;
        let claims = parse(text).unwrap();
        assert_eq!(claims.user, Some(UserId("ada".into())));
        assert_eq!((claims.exp_ms, claims.nbf_ms), (Some(2_000_500), Some(1_000)));
        assert_eq!(
            (claims.iss.as_deref(), &claims.aud[..]),
            (Some("https://id.example"), &["a".to_owned(), "b".to_owned()][..])
        );
        assert_eq!(claims.info.as_deref(), Some(&br#"{"name":             "Ada"}"#[..]));
        let grant = Grant { pattern: Pattern::new("chat:*").unwrap(), allow: vec![Action::Subscribe, Action::Publish] };
        assert_eq!((&claims.grants[..], claims.subscribe.len()), (&[grant][..], 1));
        assert_eq!(claims.others.as_deref(), Some(&br#"{"role":"admin","iat":7}"#[..]));
        assert_eq!(parse("{}").unwrap(), Claims::default());
    }

    #[test]
    fn a_claim_of_another_form_is_refused_by_its_name() {
        let long = format!(r#"{{"sub":"{}"}}"#, "a".repeat(256));
        let many = format!(r#"{{"channels":[{}]}}"#, vec![r#"{"match":"a","allow":[]}"#; 10_000].join(","));
        let deep = format!(r#"{{"info":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let rows: &[(&str, &str)] = &[
            ("[]", "not a JSON object"),
            ("", "not a JSON object"),
            (r#"{"sub":"a"} {}"#, "not a JSON object"),
            (r#"{"sub":42}"#, "claim `sub` is not valid: it is no text"),
            (r#"{"sub":""}"#, "claim `sub` is not valid: it is empty"),
            (r#"{"sub":"a\u0000b"}"#, "U+0000 is a control or format character"),
            (r#"{"sub":"a\nb"}"#, "U+000A"),
            (r#"{"sub":"ada\u202e"}"#, "U+202E"),
            (&long, "it has 256 bytes, the limit is 255"),
            (r#"{"sub":"ada","sub":"bob"}"#, "claim `sub` is not valid: it is there twice"),
            (r#"{"sub":"ada","s\u0075b":"bob"}"#, "claim `sub` is not valid: it is there twice"),
            (r#"{"exp":"tomorrow"}"#, "claim `exp`"),
            (r#"{"exp":-1}"#, "claim `exp`"),
            (r#"{"exp":1e300}"#, "is it in milliseconds?"),
            (r#"{"exp":1753000000000}"#, "is it in milliseconds?"),
            (r#"{"nbf":null}"#, "claim `nbf`"),
            (r#"{"iss":1}"#, "claim `iss`"),
            (r#"{"aud":{}}"#, "claim `aud`"),
            (r#"{"channels":{}}"#, "claim `channels`"),
            (r#"{"channels":[{"match":"a:**:b","allow":[]}]}"#, "\"a:**:b\" is not a pattern"),
            (
                r#"{"channels":[{"match":"a","allow":["read"]}]}"#,
                "\"read\" is not one of subscribe, publish, signal, enter",
            ),
            (r#"{"channels":[{"match":"a"}]}"#, "claim `channels`"),
            (&many, "it has 10000 grants, the limit (limits.grants_max) is 128"),
            (r#"{"subscribe":["a b"]}"#, "\"a b\" is not a channel"),
            (&deep, "nested too deep"),
        ];
        for (text, expected) in rows {
            let shown = &text[..text.len().min(80)];
            let error = parse(text).expect_err(shown);
            assert!(error.contains(expected), "{shown}: {error}");
            assert!(error.len() < 400, "{shown}: the error is too long");
        }
    }

    /// The user is an id of another world: what looks like a pattern or a path of channels is one id and no more.
    #[test]
    fn a_user_may_hold_any_visible_text() {
        for user in ["a:b", "*", "**", "{user}", "did:example:1", "Ada Lovelace", "auth0|1", "阿达"] {
            let claims = parse(&serde_json::json!({ "sub": user }).to_string()).unwrap();
            assert_eq!(claims.user, Some(UserId(user.into())));
            let inbox = Pattern::new("inbox:{user}").unwrap();
            let grants = [Grant { pattern: inbox.clone(), allow: vec![Action::Subscribe] }];
            let rule = fanfare_hub::Rule { subscribe: vec![fanfare_hub::Who::Grant], ..fanfare_hub::Rule::open(inbox) };
            let caller = fanfare_hub::Entitlement { user: claims.user.as_ref(), grants: &grants, claims: None };
            let rules = fanfare_hub::Rules::new(vec![rule]);
            for name in ["inbox:a", "inbox:b", "inbox:ada", "inbox:did"] {
                assert!(rules.judge(name, Action::Subscribe, caller).is_err(), "{user} on {name}");
            }
        }
    }

    #[test]
    fn the_fuzzed_body_holds_for_what_tests_read() {
        for text in [
            "",
            "{}",
            r#"{"sub":"ada","role":1,"info":{"a":
            1}}"#,
            r#"{"channels":[{"match":"a","allow":[]}],"x":"\ud800"}"#,
            r#"{"a":1,"a":2}"#,
        ] {
            fuzz(text.as_bytes());
        }
    }
}
