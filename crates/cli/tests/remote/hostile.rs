//! Servers that are not Fanfare, or that are failing: one line says what was tried, what came back, and whether the
//! command tries again.

use super::support::{Ended, KEY, answering, response, run, start};

fn subscribe(url: &str) -> Ended {
    run(&["subscribe", "a", "--url", url], "")
}

fn publish(url: &str) -> Ended {
    run(&["publish", "a", "1", "--url", url, "--api-key", KEY], "")
}

/// An error of one sentence with a hint, no other text, and an empty stdout.
#[track_caller]
fn is_one_sentence(ended: &Ended) {
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(lines[0].starts_with("error: ") && ended.stdout.is_empty(), "{ended:?}");
    assert!(matches!(lines[1..], [] | ["", _]) && lines.len() < 4, "{ended:?}");
}

#[test]
fn a_server_that_is_no_fanfare_is_told_apart() {
    let rows = [
        (response("404 Not Found", "<html>no such page</html>"), "404 Not Found"),
        (response("200 OK", "<html>welcome</html>"), ""),
        (response("401 Unauthorized", "<html>log in</html>"), "401 Unauthorized"),
        (response("403 Forbidden", ""), "403 Forbidden"),
        ("SSH-2.0-OpenSSH_9\r\n".to_owned(), ""),
    ];
    for (answer, part) in rows {
        let (url, _) = answering(vec![answer.clone()]);
        let ended = subscribe(&url);
        ended.bad(1, &[&url, part, "hint: "]);
        is_one_sentence(&ended);
        let (url, _) = answering(vec![answer]);
        let ended = publish(&url);
        ended.bad(1, &[&format!("the server at {url} is not Fanfare's HTTP API"), part, "hint: "]);
        is_one_sentence(&ended);
    }
}

/// A redirect could loop, and an API key must go only to the server that it is for.
#[test]
fn redirects_are_told_and_not_followed() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: https://else.example/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        // Each of the three transports that a subscriber tries is asked for once.
        for (command, most) in [(subscribe as fn(&str) -> Ended, 3), (publish, 1)] {
            let (url, requests) = answering(vec![answer.clone(), answer.clone()]);
            let ended = command(&url);
            ended.bad(
                1,
                &[&url, status, "https://else.example/x", "redirects are not followed", "hint: give that address"],
            );
            is_one_sentence(&ended);
            assert_eq!(requests.try_iter().count(), most);
        }
    }
}

#[test]
fn an_answer_of_somebody_else_is_not_taken_for_success() {
    for body in [r#"{"ok":true}"#, "[1]", "null", r#"{"subscribers":1}"#] {
        let (url, _) = answering(vec![response("200 OK", body)]);
        publish(&url)
            .bad(1, &[&format!("the server at {url} is not Fanfare's HTTP API"), "its answer has no \"offset\""]);
    }
    // A server's text cannot send control sequences to the terminal.
    let refusal = r#"{"code":"denied","message":"\u001b[2Jgone\u009b","retryable":false}"#;
    let (url, _) = answering(vec![response("403 Forbidden", refusal)]);
    let ended = publish(&url);
    ended.bad(1, &["the server refused:  [2Jgone  (denied)"]);
    assert!(!ended.stderr.contains(|c: char| c.is_control() && c != '\n'), "{ended:?}");
}

#[test]
fn a_name_that_leads_nowhere_is_told() {
    for ended in [subscribe("http://fanfare.invalid"), publish("http://fanfare.invalid")] {
        ended.bad(1, &["cannot reach http://fanfare.invalid: the name fanfare.invalid has no address", "hint: "]);
        is_one_sentence(&ended);
    }
}

/// A proxy whose server is just starting: the command waits as long as the proxy says.
#[test]
fn a_proxy_that_says_later_is_asked_again() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (url, _) = answering(vec![busy.to_owned(), busy.to_owned(), response("404 Not Found", "")]);
    let subscriber = start(&["subscribe", "a", "--url", &url]);
    let line = subscriber.note_with("not connected");
    assert!(
        line.starts_with(&format!("not connected to {url}: the answer is 503 Service Unavailable; trying again in 1.")),
        "{line}"
    );
    subscriber.note_with("not connected");
    let (status, stdout, _) = subscriber.end();
    assert_eq!((status.code(), stdout), (Some(1), Vec::new()));

    let (url, _) =
        answering(vec![busy.to_owned(), response("502 Bad Gateway", "<html>"), response("404 Not Found", "")]);
    let ended = publish(&url);
    ended.bad(
        1,
        &[
            "the answer is 503 Service Unavailable; trying again in 1.0 s",
            "the answer is 502 Bad Gateway; trying again",
            "404",
        ],
    );
    // Longer than a command waits: then it fails at once.
    let later = busy.replace("Retry-After: 1\r", "Retry-After: 3600\r");
    let (url, _) = answering(vec![later]);
    let ended = publish(&url);
    ended.bad(2, &[&format!("{url} exists but does not serve: the answer is 503 Service Unavailable")]);
    is_one_sentence(&ended);
}
