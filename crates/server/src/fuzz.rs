//! The bodies of the fuzz targets of what this crate reads itself: heads of requests, and answers of the application
//! and of the issuer of tokens. Tokens have theirs in `auth`.

use crate::{auth, hooks, http};

/// The body of the fuzz target `request_head`.
pub fn request_head(data: &[u8]) {
    http::fuzz::head(data);
}

/// The body of the fuzz target `application_answers`: answers to hooks, and the keys of an issuer.
pub fn application_answers(data: &[u8]) {
    hooks::fuzz(data);
    auth::fuzz_keys(data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_comes_is_read_without_harm(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::request_head(&data);
            super::application_answers(&data);
        }

        #[test]
        fn near_heads_are_read_without_harm(
            target in "(/events|/v1/sse|http://a:1/|\\*)(\\?[a-z%0-9=&+]{0,30})?",
            lines in proptest::collection::vec(
                "(Host|Origin|Forwarded|X-Forwarded-For|Cookie|Authorization|Content-Length|Transfer-Encoding|Last-Event-ID|\
                 Sec-WebSocket-Protocol): [ -~]{0,30}\r?",
                0..6,
            ),
        ) {
            let head = format!("GET {target} HTTP/1.1\r\n{}\n\r\n", lines.join("\n"));
            super::request_head(head.as_bytes());
        }

        #[test]
        fn near_answers_are_read_without_harm(
            inner in r#"\{("(user|info|channels|subscribe|claims|labels|data|data64|event|expires_in)":("a"|1|null|\[\]|\{\}),?){0,4}\}"#,
            name in "(result|error|keys)",
        ) {
            super::application_answers(format!(r#"{{"{name}":{inner}}}"#).as_bytes());
        }
    }
}
