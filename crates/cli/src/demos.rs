//! The demos' pages, in the binary: `fanfare dev` needs no file beside it.

use axum::Router;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

/// Scripts and styles only from here, and connections only to this host.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'";

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
            get(move || async move {
                let headers = [
                    (CONTENT_TYPE, kind),
                    (CONTENT_SECURITY_POLICY, POLICY),
                    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                    (REFERRER_POLICY, "no-referrer"),
                    (CACHE_CONTROL, "no-cache"), // a new build shows at the next reload
                ];
                (headers, bytes)
            }),
        )
    })
}

#[cfg(test)]
mod tests {
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
