//! The demos' pages, in the binary: `fanfare dev` needs no file beside it.

use axum::Router;
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// The pages ask for none of these.
const NO_PERMISSIONS: &str = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()";

/// Scripts, styles and images only from here, nothing inline, and connections only to this host. Older browsers do not
/// count `ws:` and `wss:` of the page's own host as `'self'`, so the host is named.
fn policy(headers: &HeaderMap) -> String {
    let is_plain = |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).filter(is_plain);
    let sockets = host.map_or_else(String::new, |host| format!(" ws://{host} wss://{host}"));
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{sockets}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

macro_rules! files {
    ($($path:literal, $kind:literal, $file:literal;)*) => {
        const FILES: &[(&str, &str, &[u8])] = &[$(($path, $kind, include_bytes!(concat!("../../../demos/", $file))),)*];
    };
}

files! {
    "/", "text/html; charset=utf-8", "chat/index.html";
    "/style.css", "text/css; charset=utf-8", "chat/style.css";
    "/icon.svg", "image/svg+xml", "chat/icon.svg";
    "/chat.js", "text/javascript; charset=utf-8", "chat/chat.js";
    "/connection.js", "text/javascript; charset=utf-8", "chat/connection.js";
    "/outbox.js", "text/javascript; charset=utf-8", "chat/outbox.js";
    "/room.js", "text/javascript; charset=utf-8", "chat/room.js";
    "/snippets.js", "text/javascript; charset=utf-8", "chat/snippets.js";
    "/strings.js", "text/javascript; charset=utf-8", "chat/strings.js";
    "/view.js", "text/javascript; charset=utf-8", "chat/view.js";
}

/// The routes of the demos.
pub(crate) fn router() -> Router {
    FILES.iter().fold(Router::new(), |router, &(path, kind, bytes)| {
        router.route(
            path,
            get(move |asked: HeaderMap| async move {
                let headers = [
                    (CONTENT_TYPE, kind),
                    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                    (REFERRER_POLICY, "no-referrer"),
                    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
                    (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
                    (PERMISSIONS_POLICY, NO_PERMISSIONS),
                    (CACHE_CONTROL, "no-cache"), // a new build shows at the next reload
                ];
                (headers, [(CONTENT_SECURITY_POLICY, policy(&asked))], bytes)
            }),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_nothing_inline_and_connections_to_its_own_host_only() {
        let of = |host: &str| policy(&HeaderMap::from_iter([(HOST, host.parse().expect("a header"))]));
        let own = of("[::1]:8080");
        assert!(own.contains("connect-src 'self' ws://[::1]:8080 wss://[::1]:8080;"), "{own}");
        let odd = of("a; script-src *");
        for policy in [&own, &odd, &policy(&HeaderMap::new())] {
            assert!(!policy.contains("unsafe") && !policy.contains('*') && policy.starts_with("default-src 'none';"));
        }
        let page = std::str::from_utf8(FILES[0].2).expect("UTF-8");
        for inline in ["<style", " style=", "<script>", " onclick=", " onload=", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }

    /// A page that is added to the folder and not to the table would be missing from the binary only.
    #[test]
    fn every_file_of_the_chat_demo_is_in_the_binary() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demos/chat");
        for entry in std::fs::read_dir(folder).expect("the demo's folder") {
            let name = entry.expect("an entry").file_name();
            let path = match name.to_str().expect("UTF-8") {
                "index.html" => "/".to_owned(),
                name => format!("/{name}"),
            };
            assert!(super::FILES.iter().any(|(served, ..)| *served == path), "{path} is not served");
        }
    }
}
