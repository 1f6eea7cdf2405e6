//! Signatures of Standard Webhooks (version 1): HMAC-SHA256 of `id.timestamp.body`, one for each secret.

use crate::config::hooks::HookSecret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The value of `webhook-signature`: a signature by each secret, so that a receiver may know either while one is
/// replaced by the other. `None` without secrets.
pub(super) fn signature(secrets: &[HookSecret], id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
    let mut message = format!("{id}.{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    let signed = secrets.iter().filter_map(|secret| Some(format!("v1,{}", STANDARD.encode(secret.sign(&message)?))));
    let all: Vec<String> = signed.collect();
    (!all.is_empty()).then(|| all.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_request_is_signed_as_the_specification_has_it() {
        let secret = |text| HookSecret::new(text).unwrap();
        let first = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let (id, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature(std::slice::from_ref(&first), id, at, body).as_deref(), Some(expected));
        let second = secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
        let both = signature(&[second, first], id, at, body).unwrap();
        let parts: Vec<&str> = both.split(' ').collect();
        assert_eq!((parts.len(), parts[1], parts[0].starts_with("v1,")), (2, expected, true));
        assert_ne!(parts[0], expected);
        assert_eq!(signature(&[], id, at, body), None);
    }
}
