//! The findings of `fanfare doctor`: for each its code, its weight, its meaning for users, and the remedy.
//!
//! One table. `docs/doctor.md` lists the same codes with the same titles, and a test compares them.

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// Good to know.
    Note,
    /// Everything works, for some users or for the present time only.
    Warning,
    /// Something does not work.
    Problem,
}

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    pub(super) title: &'static str,
    /// The consequence for users.
    pub(super) means: &'static str,
    pub(super) change: &'static str,
    /// Lines of configuration, by program.
    pub(super) lines: &'static [(&'static str, &'static str)],
}

/// The constant and its row in `ALL`.
macro_rules! kinds {
    ($($name:ident: $severity:ident, $title:literal, means $means:literal, change $change:literal,
        lines [$(($program:literal, $line:literal)),* $(,)?];)*) => {
        $(pub(in crate::remote::doctor) static $name: Kind = Kind {
            code: stringify!($name),
            severity: Severity::$severity,
            title: $title,
            means: $means,
            change: $change,
            lines: &[$(($program, $line)),*],
        };)*

        /// Every kind, in the order of the page.
        #[cfg(test)]
        pub(in crate::remote::doctor) static ALL: &[&Kind] = &[$(&$name),*];
    };
}

// The names are the codes as JSON has them.
#[allow(non_upper_case_globals, reason = "the name of a kind is its code")]
pub(super) mod kind {
    use super::{Kind, Severity};

    kinds! {
        name_unknown: Problem, "the name of the server has no address",
            means "No client can connect.",
            change "Check the spelling, the DNS record, and whether this machine has a network and a resolver.",
            lines [];
        unreachable: Problem, "nobody accepts connections there",
            means "No client can connect.",
            change "Start the server or the proxy, or give its right address and port. A firewall may be in the way.",
            lines [];
        no_answer: Problem, "a connection is made or tried, and no answer comes",
            means "Clients wait for their timeouts, and do not connect.",
            change "Look for a firewall that drops packets, for a proxy that cannot reach Fanfare, and at the server's log.",
            lines [];
        ended_unanswered: Problem, "a connection is made, and ended without an answer",
            means "No client connects.",
            change "Look for a firewall or a proxy that ends connections, and at the server's log. If Fanfare's option `proxy_protocol` lists this address, only a proxy can connect to it: try the address of the proxy.",
            lines [];
        address_silent: Warning, "one of several addresses of the server does not answer",
            means "Clients that try this address first connect late, and some never.",
            change "Make the server listen on this address, or remove it from the DNS.",
            lines [];
        certificate_invalid: Problem, "the certificate is not accepted",
            means "Browsers and other clients refuse to connect.",
            change "Install a valid certificate for this name, with the certificates that signed it. With an authority of your own, name it by --cacert FILE.",
            lines [
                ("nginx", "ssl_certificate fullchain.pem;"),
                ("HAProxy", "bind :443 ssl crt fullchain-and-key.pem"),
            ];
        certificate_expires: Warning, "the certificate expires soon",
            means "From that day on no client connects.",
            change "Renew the certificate, and see that it is renewed automatically in future.",
            lines [];
        tls_failed: Problem, "no TLS can be agreed upon",
            means "No client can connect over https:// and wss://.",
            change "Let the server speak TLS 1.2 or 1.3 there, or write http:// if it has no TLS. An address of Fanfare's option `proxy_protocol` ends connections of all but proxies: try the address of the proxy.",
            lines [];
        speaks_tls: Problem, "the server speaks TLS, and the address says http://",
            means "Clients with this address do not connect.",
            change "Write https:// (wss:// in a page's program).",
            lines [];
        redirected: Problem, "the answer is a redirect",
            means "WebSockets and many clients do not follow redirects.",
            change "Give clients the final address.",
            lines [];
        proxy_refuses: Problem, "something in front of Fanfare refuses the request",
            means "Clients are refused before they reach Fanfare.",
            change "Exempt Fanfare's paths from this login, firewall or access list. Fanfare has tokens of its own.",
            lines [];
        body_limited: Problem, "something in front of Fanfare refuses the body of a request as too long",
            means "Clients of streams and polls cannot publish longer messages, or nothing at all. Pings of a stream stay unanswered, and the server ends it.",
            change "Let the proxy take bodies as long as `limits.message_bytes_max` of Fanfare, and a little more.",
            lines [
                ("nginx", "client_max_body_size 1m;"),
                ("Caddy", "request_body { max_size 1MB }"),
            ];
        server_down: Problem, "a proxy answers, and cannot reach Fanfare",
            means "No client is served.",
            change "Start Fanfare, or correct the address to which the proxy passes requests.",
            lines [
                ("nginx", "proxy_pass http://127.0.0.1:8080;"),
                ("Caddy", "reverse_proxy 127.0.0.1:8080"),
                ("HAProxy", "server one 127.0.0.1:8080 check"),
            ];
        overloaded: Problem, "Fanfare serves no more clients at present",
            means "New clients wait, and try again.",
            change "The server stops, or has reached a limit; its log and docs/monitoring.md say which.",
            lines [];
        host_not_served: Problem, "Fanfare does not serve this host name",
            means "Clients that use this name are refused.",
            change "Add the name to the option `hosts` of Fanfare, or let the proxy pass on the `Host` that the client sent.",
            lines [
                ("Fanfare", "hosts = [\"realtime.example\"]"),
                ("nginx", "proxy_set_header Host $http_host;"),
            ];
        wrong_path: Problem, "Fanfare is there, and below another path",
            means "Clients with this address find nothing.",
            change "Correct the path of the address, or `base_path` of Fanfare. A proxy that takes the path off needs no `base_path`.",
            lines [
                ("Fanfare", "base_path = \"/realtime\""),
                ("nginx", "location /realtime/ { proxy_pass http://fanfare; }"),
                ("Caddy", "handle /realtime/* { reverse_proxy 127.0.0.1:8080 }"),
            ];
        not_fanfare: Problem, "the answer is not Fanfare's",
            means "Clients reach another program.",
            change "Correct the address, or the proxy's route to Fanfare.",
            lines [];
        http_1_0: Warning, "answers come in HTTP/1.0",
            means "Each request needs a connection of its own, and no WebSocket passes.",
            change "Let the proxy speak HTTP/1.1 on both sides.",
            lines [];
        no_http_2: Note, "no HTTP/2",
            means "A browser has at most six connections to a host over HTTP/1.1. A page that streams in more tabs waits. WebSockets are not affected.",
            change "Enable HTTP/2 with TLS.",
            lines [
                ("nginx", "listen 443 ssl http2;"),
                ("HAProxy", "bind :443 ssl crt … alpn h2,http/1.1"),
            ];
        http_2_fails: Problem, "HTTP/2 is agreed upon, and a stream over it does not work",
            means "Browsers choose HTTP/2, so their event streams and polls fail.",
            change "Correct HTTP/2 in the proxy, or disable it there.",
            lines [];
        clock_differs: Warning, "the clocks of this machine and of the server differ",
            means "Tokens are refused, or valid for too long, where one clock made them and the other checks them.",
            change "Synchronise both clocks (NTP).",
            lines [];
        token_needed: Problem, "the server asks for a token",
            means "Clients without a token are refused. Nothing behind this refusal was tried.",
            change "Give a client's token by --token TOKEN or FANFARE_TOKEN.",
            lines [];
        token_refused: Problem, "the server refuses the token",
            means "A client with this token is refused.",
            change "Give a valid token by --token TOKEN. It may have expired, or the proxy may remove the header `Authorization`.",
            lines [];
        token_unchecked: Problem, "the server checks no tokens, and refuses clients that show one",
            means "A client with any token is refused. Clients without one are anonymous.",
            change "Give the server a key in [auth.keys], or leave --token out.",
            lines [("Fanfare", "[auth.keys]\nmain = { secret_file = \"jwt.secret\" }")];
        origin_refused: Problem, "pages of this origin may not connect",
            means "Browsers that show a page of this origin get no connection. Other clients do.",
            change "Add the origin to the option `origins` of Fanfare.",
            lines [("Fanfare", "origins = [\"https://app.example\"]")];
        host_rewritten: Problem, "the server's own pages may not connect: `Host` does not arrive as the client sent it",
            means "Browsers get no connection, because Fanfare compares the page's origin with `Host`.",
            change "Let the proxy pass `Host` on, or list the origin in the option `origins` of Fanfare.",
            lines [
                ("nginx", "proxy_set_header Host $http_host;"),
                ("Caddy", "# remove: header_up Host …"),
            ];
        cors_stripped: Warning, "the headers of CORS do not arrive",
            means "Pages of other origins cannot read streams and polls.",
            change "Let the proxy pass `Origin` to Fanfare, and `Access-Control-*` back.",
            lines [];
        cors_doubled: Problem, "`Access-Control-Allow-Origin` comes twice, or with another value",
            means "Browsers refuse the answers of streams and polls to pages of other origins.",
            change "Remove the header from the proxy: Fanfare sends it by its option `origins`.",
            lines [
                ("nginx", "# remove: add_header Access-Control-Allow-Origin …;"),
                ("Caddy", "# remove: header Access-Control-Allow-Origin …"),
                ("HAProxy", "# remove: http-response add-header Access-Control-Allow-Origin …"),
            ];
        preflight_blocked: Warning, "a preflight (OPTIONS) does not reach Fanfare",
            means "Pages of other origins cannot poll and send.",
            change "Let the proxy pass OPTIONS on.",
            lines [];
        address_of_proxy: Warning, "the server takes a proxy's address for the client's",
            means "The log and the handlers see one address for all clients, and a limit of connections for each address counts them together.",
            change "Let the proxy write the client's address into `X-Forwarded-For`, and name the proxy in the option `trusted_proxies` of Fanfare.",
            lines [
                ("Fanfare", "trusted_proxies = [\"loopback\"]"),
                ("nginx", "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Forwarded \"\";"),
                ("HAProxy", "http-request set-header X-Forwarded-For %[src]"),
            ];
        address_forgeable: Problem, "a header of the client changes the address that the server sees",
            means "Clients can take the address of others in the log, and pass limits that count by address.",
            change "Let the proxy write its own `X-Forwarded-For` in place of the client's, and delete `Forwarded`. Name nobody but your proxies in `trusted_proxies`.",
            lines [
                ("nginx", "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Forwarded \"\";"),
                ("Caddy", "reverse_proxy … { header_up -Forwarded }"),
                ("HAProxy", "http-request set-header X-Forwarded-For %[src]; http-request del-header Forwarded"),
            ];
        upgrade_stripped: Problem, "the upgrade to a WebSocket does not reach Fanfare",
            means "No WebSocket opens. Clients that can fall back use streams or polls.",
            change "Let the proxy pass `Upgrade` and `Connection` on, over HTTP/1.1.",
            lines [
                ("nginx", "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"),
                ("HAProxy", "# remove: http-request del-header Upgrade"),
            ];
        websocket_refused: Problem, "the upgrade to a WebSocket is refused on the way",
            means "No WebSocket opens. Clients that can fall back use streams or polls.",
            change "Allow WebSockets in the program that gave this answer.",
            lines [];
        websocket_broken: Problem, "the WebSocket opens wrongly",
            means "Browsers close it at once. Clients that can fall back use streams or polls.",
            change "Look for a proxy that answers in Fanfare's place, or that removes `Sec-WebSocket-*`.",
            lines [];
        websocket_silent: Problem, "the WebSocket opens, and no message passes",
            means "Clients wait for their timeouts; those that can fall back use streams or polls.",
            change "Look for a proxy or a firewall that inspects connections and does not know WebSockets. TLS usually hides them from it.",
            lines [];
        no_compression: Note, "messages of WebSockets are not compressed",
            means "Large messages need more bytes.",
            change "`compression.websocket` enables permessage-deflate, unless a proxy removes `Sec-WebSocket-Extensions`.",
            lines [("Fanfare", "[compression]\nwebsocket = true")];
        stream_buffered: Problem, "a stream is held back on the way",
            means "Its messages do not arrive while the stream is open, so clients of it get nothing.",
            change "Switch the buffering of answers off for /events, /v1/sse and /v1/stream. The header `X-Accel-Buffering: no` of Fanfare must not be ignored.",
            lines [
                ("nginx", "proxy_buffering off; proxy_http_version 1.1; # and no: proxy_ignore_headers X-Accel-Buffering;"),
                ("Caddy", "# remove: buffer_responses, response_buffers"),
            ];
        stream_late: Warning, "messages of a stream arrive late, or several at once",
            means "Users see messages late.",
            change "Switch the buffering of answers off for /events, /v1/sse and /v1/stream.",
            lines [];
        stream_compressed: Warning, "a stream is compressed on the way",
            means "Compressors hold messages back until there is more, and each stream costs the proxy memory.",
            change "Do not compress text/event-stream and application/x-ndjson.",
            lines [
                ("nginx", "gzip off;"),
                ("Caddy", "@rest not path /events /v1/sse /v1/stream\nencode @rest gzip"),
            ];
        stream_refused: Problem, "a stream is refused on the way",
            means "Clients cannot use this stream.",
            change "Let the proxy pass this path on to Fanfare.",
            lines [];
        streams_off: Note, "the server serves no streams",
            means "Clients use WebSockets and polls.",
            change "`streams.enabled` switches them on.",
            lines [("Fanfare", "[streams]\nenabled = true")];
        channel_denied: Note, "the rules deny the channel",
            means "Plain event streams of this channel were not tried further.",
            change "Name a channel that a client may follow by --channel NAME.",
            lines [];
        headers_changed: Warning, "`Cache-Control: no-transform` of a stream does not arrive",
            means "Caches and other proxies further on may store, compress or hold back the stream.",
            change "Let the proxy pass `Cache-Control` on unchanged.",
            lines [("nginx", "# remove for streams: proxy_hide_header Cache-Control; expires …;")];
        last_event_id_stripped: Warning, "`Last-Event-ID` does not reach Fanfare",
            means "`EventSource` comes back without its place after each lost connection, so messages are lost.",
            change "Let the proxy pass `Last-Event-ID` on. Clients of your own can use the parameter `lastEventId`.",
            lines [("nginx", "proxy_set_header Last-Event-ID $http_last_event_id;")];
        idle_cut: Problem, "an idle connection is ended on the way",
            means "Clients reconnect again and again, and messages arrive late.",
            change "Let the proxy wait for 75 s at least. Or set `heartbeat.interval` below its limit.",
            lines [
                ("nginx", "proxy_read_timeout 75s; proxy_send_timeout 75s;"),
                ("HAProxy", "timeout client 75s; timeout server 75s; timeout tunnel 75s"),
                ("Fanfare", "[heartbeat]\ninterval = \"10s\""),
            ];
        lifetime_cut: Note, "a connection that is not idle is ended on the way",
            means "Clients reconnect each time, and recover what they missed.",
            change "If the proxy has a limit for the life of connections, raise it.",
            lines [];
        heartbeat_missing: Problem, "no heartbeat arrives on an idle connection",
            means "Clients give the connection up, and reconnect again and again.",
            change "Look for a proxy that holds small messages back, or a firewall that forgets connections without a word.",
            lines [];
        server_ends: Warning, "the server ended the connection",
            means "The server stops or sends this client away; what follows was not tried.",
            change "Try again later; the server's log has the reason.",
            lines [];
        poll_fails: Problem, "polls do not work",
            means "Clients without WebSockets and streams get no connection.",
            change "Let the proxy pass POST of /v1/poll and /v1/send on, with bodies.",
            lines [];
        poll_cut: Problem, "a poll that waits is ended on the way",
            means "Clients that poll see errors, and messages arrive late.",
            change "Let the proxy wait for 75 s at least.",
            lines [
                ("nginx", "proxy_read_timeout 75s;"),
                ("HAProxy", "timeout server 75s"),
            ];
        send_fails: Problem, "sends do not work",
            means "Clients of streams and polls receive, and cannot publish or subscribe. Pings of a stream stay unanswered, and the server ends it.",
            change "Let the proxy pass POST of /v1/send on, with bodies.",
            lines [
                ("nginx", "# remove: limit_except GET { deny all; }"),
                ("HAProxy", "# remove: http-request deny if METH_POST"),
            ];
        api_absent: Note, "the HTTP API is not reached here",
            means "Clients are not affected. Your backend must use another address, or there is no API key.",
            change "If your backend publishes through this address, let the proxy pass /api/ on, and give Fanfare an API key.",
            lines [];
    }
}

#[cfg(test)]
mod tests {
    use super::kind::ALL;
    use std::collections::BTreeSet;

    /// `docs/doctor.md` has a row for each: code, severity, title.
    #[test]
    fn the_page_lists_every_finding() {
        let page = include_str!("../../../../../docs/doctor.md");
        let expected: Vec<String> = ALL
            .iter()
            .map(|kind| {
                let severity = format!("{:?}", kind.severity).to_lowercase();
                format!("| `{}` | {severity} | {} |", kind.code, kind.title)
            })
            .collect();
        let rows: Vec<&str> =
            page.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 2).collect();
        let codes = |row: &str| ALL.iter().any(|kind| row.starts_with(&format!("| `{}` |", kind.code)));
        let rows: Vec<&str> = rows.into_iter().filter(|row| codes(row)).collect();
        assert_eq!(rows, expected, "docs/doctor.md should list:\n{}", expected.join("\n"));
        let codes: BTreeSet<&str> = ALL.iter().map(|kind| kind.code).collect();
        assert_eq!(codes.len(), ALL.len());
    }

    #[test]
    fn each_finding_says_what_to_do_in_whole_sentences() {
        for kind in ALL {
            for text in [kind.means, kind.change] {
                assert!(text.ends_with('.'), "{}: {text}", kind.code);
            }
            assert!(!kind.title.ends_with('.'), "{}", kind.code);
        }
    }
}
