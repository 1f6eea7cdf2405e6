//! The commands that call a server: the real binary against a real `fanfare dev`.

mod hostile;
mod support;
mod tls;

use fanfare_fault_proxy::{FaultProxy, Faults};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use support::{KEY, Server, answering, fanfare, response, run, run_command, start, start_command};

fn data(line: Value) -> Value {
    assert_eq!(line["type"], "message", "{line}");
    line["data"].clone()
}

#[test]
fn the_lines_of_stdin_arrive_in_order() {
    let server = Server::start();
    let subscriber = server.subscribe(&["chat:general"], &[]);
    let lines: String = (0..100).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let answers = server.call(&["publish", "chat:general"], &lines);
    let offsets: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["offset"].clone()).collect();
    assert_eq!(offsets, (1..=100).map(Value::from).collect::<Vec<_>>());
    for n in 0..100 {
        let line = subscriber.json();
        assert_eq!((&line["channel"], &line["offset"]), (&json!("chat:general"), &json!(n + 1)), "{line}");
        assert_eq!(data(line), json!({"n": n}));
    }
}

#[test]
fn payloads_are_json_or_text_and_have_events_and_keys() {
    let server = Server::start();
    let subscriber = server.subscribe(&["a", "b"], &[]);
    let first: Value =
        serde_json::from_str(&server.call(&["publish", "a", "-5", "--event", "n", "--idempotency-key", "k"], ""))
            .expect("JSON");
    assert_eq!((&first["offset"], &first["subscribers"]), (&json!(1), &json!(1)));
    let line = subscriber.json();
    assert_eq!(
        (&line["event"], &line["idempotency_key"], &line["data"], &line["epoch"]),
        (&json!("n"), &json!("k"), &json!(-5), &first["epoch"])
    );
    let again = server.call(&["publish", "a", "-5", "--event", "n", "--idempotency-key", "k"], "");
    assert!(again.contains(r#""duplicate":true"#), "{again}");
    server
        .try_call(&["publish", "a", "6", "--idempotency-key", "k"], "")
        .bad(1, &["key_conflict", "hint: choose another --idempotency-key"]);
    server.call(&["publish", "b", "--text", "say \"hi\""], "");
    assert_eq!(data(subscriber.json()), json!("say \"hi\""));
    // A blank line is a text; between JSON values it is ignored.
    server.call(&["publish", "b", "--text"], "one\r\n\nthree");
    server.call(&["publish", "b"], "\u{feff}\n\n4\n"); // a byte order mark is ignored too
    let rest = [json!("one"), json!(""), json!("three"), json!(4)];
    assert_eq!(rest.clone().map(|_| data(subscriber.json())), rest);
    let keyed = server.call(&["publish", "a", "--idempotency-key", "file"], "1\n2\n");
    let repeated = server.call(&["publish", "a", "--idempotency-key", "file"], "1\n2\n");
    assert_eq!((keyed.lines().count(), repeated.matches("\"duplicate\":true").count()), (2, 2), "{repeated}");
}

#[test]
fn publications_during_a_cut_of_the_network_are_recovered() {
    let server = Server::start();
    let proxy = FaultProxy::start(server.address, |_| Faults::default()).expect("a free port");
    let subscriber = start(&["subscribe", "a", "--url", &format!("http://{}", proxy.address)]);
    subscriber.note_with("a: live at ");
    server.call(&["publish", "a", "1"], "");
    assert_eq!(data(subscriber.json()), json!(1));
    proxy.cut();
    server.call(&["publish", "a"], "2\n3\n");
    let live = subscriber.note_with("a: live at ");
    assert!(live.ends_with("nothing was missed"), "{live}");
    server.call(&["publish", "a", "4"], "");
    assert_eq!([2, 3, 4].map(|_| data(subscriber.json())), [2, 3, 4].map(Value::from));
}

#[test]
fn a_server_that_comes_back_at_its_port_is_found_again_and_what_is_lost_is_told() {
    let server = Server::start();
    let subscriber = server.subscribe(&["a"], &[]);
    server.call(&["publish", "a", "1"], "");
    assert_eq!(data(subscriber.json()), json!(1));
    let address = server.kill();
    subscriber.note_with("not connected");
    let server = Server::start_at(&address);
    subscriber.note_with("something was missed");
    let gap = subscriber.json();
    assert_eq!((&gap["type"], &gap["channel"], &gap["reset"]), (&json!("gap"), &json!("a"), &json!(true)), "{gap}");
    server.call(&["publish", "a", "2"], "");
    assert_eq!(data(subscriber.json()), json!(2));
}

/// The server has restarted without its history, and another client has published before the subscriber is back: the
/// new publications lie above the gap.
#[test]
fn after_a_restart_the_gap_comes_first_and_then_the_newest() {
    let server = Server::start();
    let proxy = FaultProxy::start(server.address, |_| Faults::default()).expect("a free port");
    server.call(&["publish", "a"], "1\n2\n3\n");
    let url = format!("http://{}", proxy.address);
    let subscriber = start(&["subscribe", "a", "--recent", "2", "--url", &url]);
    assert_eq!([data(subscriber.json()), data(subscriber.json())], [json!(2), json!(3)]);
    proxy.block(true);
    let address = server.kill();
    subscriber.note_with("not connected");
    let server = Server::start_at(&address);
    server.call(&["publish", "a"], "4\n5\n6\n");
    proxy.block(false);
    let lines = [subscriber.json(), subscriber.json(), subscriber.json()];
    assert_eq!((&lines[0]["type"], &lines[0]["reset"]), (&json!("gap"), &json!(true)), "{lines:?}");
    let offsets: Vec<u64> = lines.iter().map(|line| line["offset"].as_u64().expect("an offset")).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "{lines:?}");
    assert!(lines.iter().all(|line| line["epoch"] == lines[0]["epoch"]), "{lines:?}");
    assert_eq!([data(lines[1].clone()), data(lines[2].clone())], [json!(5), json!(6)]);
    // A subscription from the gap's position gets the publications after it.
    let place = format!("{}:{}", lines[0]["epoch"].as_str().expect("an epoch"), offsets[0]);
    let since = server.subscribe(&["a"], &["--since", &place]);
    assert_eq!([data(since.json()), data(since.json())], [json!(5), json!(6)]);
    // The line about the connection comes before the lines about its channels.
    let (status, _, notes) = {
        subscriber.signal(Signal::INT);
        subscriber.end()
    };
    assert_eq!(status.code(), Some(0));
    let place = |part: &str| notes.iter().rposition(|line| line.contains(part)).expect(part);
    assert!(place("connected to") < place("a: live at"), "{notes:?}");
}

#[test]
fn a_subscriber_can_begin_in_the_past() {
    let server = Server::start();
    let answers = server.call(&["publish", "a"], "1\n2\n3\n");
    let recent = server.subscribe(&["a"], &["--recent", "2"]);
    assert_eq!([data(recent.json()), data(recent.json())], [json!(2), json!(3)]);
    let first: Value = serde_json::from_str(answers.lines().next().expect("an answer")).expect("JSON");
    let place = format!("{}:1", first["epoch"].as_str().expect("an epoch"));
    let since = server.subscribe(&["a"], &["--since", &place]);
    assert_eq!([data(since.json()), data(since.json())], [json!(2), json!(3)]);
    run(&["subscribe", "a", "b", "--since", &place], "").bad(1, &["--since", "2 channels are named"]);
    run(&["subscribe", "a", "--since", "41"], "").bad(1, &["--since", "colon"]);
    run(&["subscribe", "chat:*"], "").bad(1, &["one by one", "channels --match"]);
}

#[test]
fn joins_and_leaves_are_told_with_presence() {
    let server = Server::start();
    let subscriber = server.subscribe(&["a"], &["--presence"]);
    assert_eq!(subscriber.json(), json!({"type": "presence", "channel": "a", "seq": 0, "count": 0, "entries": []}));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = fanfare_client::Client::connect(format!("ws://{}", server.address)).await.expect("a client");
        let _subscription = client.subscribe("a").await.expect("a subscription");
        client.presence_set("a", &json!({"mood": "good"})).await.expect("entered");
        client.signal("a", "typing", &json!(true)).await.expect("sent");
        client.presence_clear("a").await.expect("left");
        client.close().await;
    });
    let mut lines = [subscriber.json(), subscriber.json(), subscriber.json()];
    lines.sort_by_key(|line| line["type"].to_string()); // signals and presence have no order between them
    let [join, leave, signal] = &lines;
    assert_eq!((&join["type"], &join["data"]), (&json!("join"), &json!({"mood": "good"})), "{join}");
    assert_eq!((&leave["type"], &leave["client"]), (&json!("leave"), &join["client"]), "{leave}");
    assert_eq!(
        (&signal["type"], &signal["event"], &signal["data"]),
        (&json!("signal"), &json!("typing"), &json!(true))
    );
}

#[test]
fn bad_json_is_told_before_anything_is_sent() {
    let server = Server::start();
    server
        .try_call(&["publish", "a", "{not json}"], "")
        .bad(1, &["the payload is not JSON", "column 2", "hint: --text"]);
    let ended = server.try_call(&["publish", "a"], "1\n2\n{\n4\n");
    ended.bad(1, &["line 3 is not JSON", "the lines before it are published"]);
    assert_eq!(ended.stdout.lines().count(), 2, "{ended:?}");
    server.try_call(&["publish", "bad name", "1"], "").bad(1, &["the server refused", "bad_request"]);
}

#[test]
fn without_a_server_or_the_key_the_remedy_is_told() {
    let server = Server::start();
    let url = server.url();
    run(&["publish", "a", "1", "--url", &url], "").bad(1, &["needs a key", "hint: give --api-key KEY"]);
    for args in [&["publish", "a", "1"][..], &["publish", "a"], &["channels"], &["disconnect", "--user", "ada"]] {
        run(&[args, &["--url", &url, "--api-key", "wrong"]].concat(), "1").bad(1, &["unauthorized", "--api-key KEY"]);
    }
    // The key comes from the environment, and an invalid one is not shown.
    let mut command = fanfare(&["channels", "--url", &url]);
    run_command(
        {
            command.env("FANFARE_API_KEY", KEY);
            command
        },
        "",
    )
    .good();
    let mut command = fanfare(&["channels", "--url", &url]);
    let ended = run_command(
        {
            command.env("FANFARE_API_KEY", "secret\nkey");
            command
        },
        "",
    );
    ended.bad(1, &["holds a control character or a line end"]);
    assert!(!ended.stderr.contains("secret"), "{ended:?}");

    let nowhere = format!("http://{}", server.kill());
    let there_is_none = format!("there is no server at {nowhere}");
    for args in [&["publish", "a", "1"][..], &["channels"], &["disconnect", "--client", "x"]] {
        let ended = run(&[args, &["--url", &nowhere, "--api-key", KEY]].concat(), "");
        ended.bad(1, &[&there_is_none, "hint: start one with `fanfare dev`", "--url URL"]);
    }
    run(&["subscribe", "a", "--url", &nowhere], "").bad(1, &[&there_is_none, "--url URL"]);
    run(&["subscribe", "a", "--url", "localhost:8080"], "").bad(1, &["--url", "does not begin with http://"]);
}

#[test]
fn a_publication_is_repeated_under_its_key_until_it_is_answered() {
    let refusal = r#"{"code":"unavailable","message":"not now","retryable":true,"retry_after":1}"#;
    let (url, requests) = answering(vec![
        response("503 Service Unavailable", refusal),
        String::new(),
        response("502 Bad Gateway", "starting"),
        response("200 OK", r#"{"epoch":"e","offset":1,"subscribers":0}"#),
    ]);
    let ended = run(&["publish", "a", "1", "--url", &url, "--api-key", KEY], "");
    assert_eq!(
        (ended.stdout.as_str(), ended.status),
        ("{\"epoch\":\"e\",\"offset\":1,\"subscribers\":0}\n", Some(0)),
        "{ended:?}"
    );
    let bodies: Vec<String> =
        requests.try_iter().map(|request| request.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()).collect();
    assert_eq!(bodies.len(), 4);
    assert!(bodies[0].contains("\"idempotency_key\":\"") && bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(ended.stderr.matches("trying again").count(), 3, "{ended:?}");
    // A permanent refusal is not retried; a failure of the server is not reported as the user's mistake.
    let internal = r#"{"code":"internal","message":"oh","retryable":false}"#;
    let (url, _) = answering(vec![response("500 Internal Server Error", internal)]);
    run(&["publish", "a", "1", "--url", &url, "--api-key", KEY], "")
        .bad(2, &["oh (internal)", "hint: publish again with --idempotency-key"]);
}

#[test]
fn lines_go_on_when_the_server_is_back() {
    let server = Server::start();
    let mut publisher = start(&["publish", "a", "--url", &server.url(), "--api-key", KEY]);
    publisher.write("1\n");
    assert_eq!(publisher.json()["offset"], 1);
    let address = server.kill();
    publisher.write("2\n");
    publisher.note_with("trying again");
    let server = Server::start_at(&address);
    assert_eq!(publisher.json()["offset"], 1, "the new server has lost the first one");
    let subscriber = server.subscribe(&["a"], &["--recent", "10"]);
    assert_eq!(data(subscriber.json()), json!(2));
    publisher.write("3\n");
    assert_eq!(publisher.json()["offset"], 2);
    assert_eq!(publisher.end().0.code(), Some(0));
}

#[test]
fn channels_are_listed_page_by_page() {
    let server = Server::start();
    let names: Vec<String> = (0..1000).map(|n| format!("room:{n:04}")).collect();
    broadcast(&server, &names);
    server.call(&["publish", "room:1000", "1"], "");
    server.call(&["publish", "other", "1"], "");
    let listed = server.call(&["channels", "--match", "room:*"], "");
    let found: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expected = names.iter().map(String::as_str).chain(["room:1000"]);
    assert!(found.iter().map(|channel| channel["channel"].as_str().expect("a name")).eq(expected), "{}", found.len());
    assert_eq!((&found[1000]["offset"], &found[1000]["subscribers"]), (&json!(1), &json!(0)));
    assert_eq!(server.call(&["channels"], "").lines().count(), 1002);
    server.try_call(&["channels", "--match", "a:**:b"], "").bad(1, &["bad_request"]);
}

/// One request, as any HTTP client would send it.
fn broadcast(server: &Server, channels: &[String]) {
    use std::io::{Read as _, Write as _};
    let body = json!({"channels": channels, "data": 1}).to_string();
    let mut stream = std::net::TcpStream::connect(server.address).expect("a connection");
    let head = format!(
        "POST /api/v1/broadcast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_client_that_is_disconnected_does_not_come_back() {
    let server = Server::start();
    let subscriber = start(&["subscribe", "a", "--url", &server.url()]);
    let line = subscriber.note_with("connected to");
    let client = line.rsplit(' ').next().expect("an id");
    subscriber.note_with("a: live at ");
    assert_eq!(server.call(&["disconnect", "--client", client], ""), "{\"sessions\":1}\n");
    let (status, stdout, stderr) = subscriber.end();
    assert_eq!((status.code(), stdout), (Some(1), Vec::new()));
    assert!(stderr.iter().any(|line| line.contains("kicked")), "{stderr:?}");
    assert_eq!(server.call(&["disconnect", "--user", "nobody"], ""), "{\"sessions\":0}\n");
    run(&["disconnect"], "").bad(1, &["--user", "--client"]);
}

#[test]
fn bans_are_made_listed_and_ended() {
    let server = Server::start();
    let told = server.call(&["disconnect", "--user", "ada", "--ban", "1h"], "");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["sessions"], &told["durable"]), (&json!(0), &json!(false)));
    let until = &told["banned_until"];
    let list = server.call(&["bans"], "");
    let ban: Value = serde_json::from_str(&list).expect("one line of JSON");
    assert_eq!(ban["user"], "ada");
    let difference = ban["until"].as_u64().unwrap_or(0).abs_diff(until.as_u64().expect("a time"));
    assert!(difference < 60_000, "{list} after {told}");
    assert_eq!(server.call(&["bans", "--client", "00000000000000aa"], ""), "");
    assert_eq!(server.call(&["unban", "--user", "ada"], ""), "{\"was_banned\":true}\n");
    assert_eq!(server.call(&["unban", "--user", "ada"], ""), "{\"was_banned\":false}\n");
    assert_eq!(server.call(&["bans"], ""), "");
}

#[test]
fn what_a_client_is_doing_and_what_happened_to_it_is_shown() {
    let server = Server::start();
    let subscriber = start(&["subscribe", "chat:a", "--url", &server.url()]);
    let line = subscriber.note_with("connected to");
    let client = line.rsplit(' ').next().expect("an id");
    subscriber.note_with("chat:a: live at ");
    let tail = start(&["tail", "--url", &server.url(), "--api-key", KEY]);
    server.call(&["publish", "chat:a", "1"], "");
    subscriber.json();
    let text = server.call(&["inspect", "client", client], "");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(&format!("client {client}: connected for ")), "{text}");
    assert!(lines[0].contains(" by websocket (native) from 127.0.0.1:"), "{text}");
    assert_eq!(lines[1], "  outbox 0 bytes, 0 commands outstanding, 0 grants");
    assert!(lines[2].starts_with("  chat:a: live, at 1@") && lines[2].ends_with("; by rule, rule **"), "{text}");
    assert_eq!(lines.len(), 3, "{text}");
    let text = server.call(&["inspect", "channel", "chat:a"], "");
    assert!(text.starts_with("channel chat:a: rule **, newest place 1@"), "{text}");
    assert!(text.contains(", 1 subscribers, 0 present\n") && text.contains(client), "{text}");
    let json = server.call(&["inspect", "channel", "chat:a", "--json"], "");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["top"]["offset"], &json["some"][0]["client"]), (&json!(1), &json!(client)));
    let nobody = server.call(&["inspect", "user", "a b&c"], "");
    assert_eq!(nobody, "no session: it is not connected, and its grace is over\n");
    // The tail watches by now, or sees a later one: each is another client.
    let seen = loop {
        server.call(&["disconnect", "--client", client], "");
        let short = start(&["subscribe", "chat:b", "--url", &server.url()]);
        let line = short.note_with("connected to");
        let other = line.rsplit(' ').next().expect("an id").to_owned();
        server.call(&["disconnect", "--client", &other], "");
        short.end();
        // Each has rows of its begin, of the command that ends it, and of its end.
        let ended = std::iter::from_fn(|| tail.try_json()).find(|line| line["type"] == "disconnected");
        if let Some(line) = ended {
            break line;
        }
    };
    assert_eq!(
        (&seen["type"], &seen["reason"], &seen["by"]),
        (&json!("disconnected"), &json!("kicked"), &json!("application"))
    );
    subscriber.end();
    let lately = server.call(&["inspect", "lately"], "");
    assert!(lately.contains(&format!(" disconnected client={client} peer=127.0.0.1:")), "{lately}");
    assert!(lately.contains(" by=application reason=kicked code=4503 "), "{lately}");
}

#[test]
fn an_address_that_shows_no_state_is_told_where_it_is() {
    let server = Server::start();
    let wrong = format!("{}/nowhere", server.url());
    run(&["inspect", "lately", "--url", &wrong, "--api-key", KEY], "")
        .bad(1, &["does not show its state", "admin.listen"]);
    run(&["tail", "--url", &wrong, "--api-key", KEY], "").bad(1, &["does not show its state", "admin.listen"]);
    run(&["tail", "--url", &server.url(), "--api-key", "another key of 16"], "").bad(1, &["the API key is unknown"]);
    run(&["inspect", "client", "7", "--url", &server.url(), "--api-key", KEY], "").bad(1, &["is not a client's id"]);
    run(&["inspect", "lately", "--url", &server.url()], "").bad(1, &["this needs a key"]);
    run(&["inspect", "lately", "--url", "http://127.0.0.1:1", "--api-key", KEY], "").bad(1, &["admin.listen"]);
}

#[test]
fn signals_end_a_subscription_well() {
    let server = Server::start();
    for signal in [Signal::INT, Signal::TERM] {
        let subscriber = server.subscribe(&["a"], &[]);
        server.call(&["publish", "a", "1"], "");
        subscriber.line();
        subscriber.signal(signal);
        let (status, _, stderr) = subscriber.end();
        assert_eq!((status.code(), stderr), (Some(0), Vec::new()), "{signal:?}");
    }
    // Signals while it is connected were tested above; here they come while it waits for another attempt, and before
    // its first connection.
    let subscriber = server.subscribe(&["a"], &[]);
    server.kill();
    subscriber.note_with("not connected");
    subscriber.signal(Signal::INT);
    assert_eq!(subscriber.end().0.code(), Some(0));
    let later = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 500\r\nContent-Length: 0\r\n\r\n";
    for end in [Signal::INT, Signal::TERM] {
        let (url, _) = answering(vec![later.to_owned()]);
        let subscriber = start(&["subscribe", "a", "--url", &url]);
        subscriber.note_with("not connected");
        subscriber.signal(end);
        assert_eq!(subscriber.end().0.code(), Some(0));
    }
    let (url, _) = answering(vec![later.to_owned()]);
    let mut subscriber = start_command(fanfare(&["subscribe", "a", "--url", &url]), false);
    subscriber.note_with("not connected");
    drop(subscriber.take_stdout());
    assert_eq!(subscriber.end().0.code(), Some(0), "nobody reads");
}

#[test]
fn a_reader_that_goes_ends_a_subscription_quietly_even_while_nothing_happens() {
    let server = Server::start();
    let mut subscriber = start_command(fanfare(&["subscribe", "a", "--url", &server.url()]), false);
    subscriber.note_with("a: live at ");
    server.call(&["publish", "a", "1"], "");
    let mut line = String::new();
    BufReader::new(subscriber.take_stdout()).read_line(&mut line).expect("a line");
    assert!(line.contains("\"offset\":1"), "{line}");
    let (status, _, stderr) = subscriber.end();
    assert_eq!((status.code(), stderr), (Some(0), Vec::new()));
    // The other commands, with a pipe whose reader has gone.
    let lists = fanfare(&["channels", "--url", &server.url(), "--api-key", KEY]);
    let mut lists = start_command(lists, false);
    drop(lists.take_stdout());
    assert_eq!(lists.end().0.code(), Some(0));
}

/// `2>&1 | head -1`: an stderr without a reader changes nothing.
#[test]
fn nobody_has_to_read_stderr() {
    let nobody = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let server = Server::start();
    let mut command = fanfare(&["subscribe", "a", "--url", &server.url(), "--recent", "1"]);
    server.call(&["publish", "a", "1"], "");
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(nobody()).spawn().expect("the binary");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
    stdout.read_line(&mut line).expect("a line");
    assert!(line.contains("\"data\":1"), "{line}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).expect("a process to signal");
    assert_eq!(child.wait().expect("its end").code(), Some(0));

    let nowhere = format!("http://{}", server.kill());
    let mut command = fanfare(&["publish", "a", "1", "--url", &nowhere, "--api-key", KEY]);
    assert_eq!(command.stderr(nobody()).status().expect("its end").code(), Some(1));
}

#[test]
fn the_service_manager_is_told_of_the_start_and_the_end() {
    let path = std::env::temp_dir().join(format!("fanfare-cli-notify-{}", std::process::id()));
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
    let mut command = fanfare(&["dev", "--listen", "127.0.0.1:0", "--shards", "1"]);
    command.env("NOTIFY_SOCKET", &path);
    let server = start_command(command, true);
    assert_eq!(heard(&socket), "READY=1\n");
    server.signal(Signal::TERM);
    assert!(heard(&socket).starts_with("STOPPING=1\n"));
    assert_eq!(server.end().0.code(), Some(0));
    std::fs::remove_file(path).expect("its file");
}

#[test]
fn a_reload_is_told_from_its_begin_to_its_end() {
    let folder = std::env::temp_dir().join(format!("fanfare-cli-reload-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let (file, path) = (folder.join("fanfare.toml"), folder.join("notify"));
    std::fs::write(&file, "[[channels]]\nmatch = \"**\"\nsubscribe = \"anyone\"\n").expect("written");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
    let file = file.to_str().expect("UTF-8");
    let mut command = fanfare(&["serve", "--config", file, "--listen", "127.0.0.1:0", "--shards", "1"]);
    command.args(["--admin-listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", &path);
    let server = start_command(command, true);
    assert_eq!(heard(&socket), "READY=1\n");
    server.signal(Signal::HUP);
    let reloading = heard(&socket);
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(heard(&socket), "READY=1\n");
    server.signal(Signal::TERM);
    assert!(heard(&socket).starts_with("STOPPING=1\n"));
    assert_eq!(server.end().0.code(), Some(0));
    std::fs::remove_dir_all(folder).expect("the folder");
}

fn heard(socket: &std::os::unix::net::UnixDatagram) -> String {
    let mut buffer = [0; 128];
    let len = socket.recv(&mut buffer).expect("a datagram");
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn a_server_on_a_socket_is_spoken_to_like_any_other() {
    let path = std::env::temp_dir().join(format!("fanfare-cli-socket-{}", std::process::id()));
    let url = format!("unix:{}", path.to_str().expect("UTF-8"));
    let server = start(&["dev", "--listen", &url, "--shards", "1", "--api-key", KEY]);
    server.note_with("listening on");
    let subscriber = start(&["subscribe", "a", "--url", &url]);
    subscriber.note_with("a: live at ");
    run(&["publish", "a", "--url", &url, "--api-key", KEY], "1\n2\n").good();
    assert_eq!([data(subscriber.json()), data(subscriber.json())], [json!(1), json!(2)]);
    subscriber.signal(Signal::INT);
    assert_eq!(subscriber.end().0.code(), Some(0));
    server.signal(Signal::TERM);
    assert_eq!(server.end().0.code(), Some(0));
    run(&["subscribe", "a", "--url", &url], "").bad(1, &[&format!("there is no server at {url}")]);
    run(&["channels", "--url", &url, "--api-key", KEY], "").bad(1, &[&format!("there is no server at {url}")]);
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell], "").good();
        for word in ["fanfare", "subscribe", "api-key", "presence"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    run(&["completions", "cmd"], "").bad(1, &["possible values: bash"]);
}

#[test]
fn the_transport_can_be_chosen_and_a_wrong_name_is_told() {
    let server = Server::start();
    for transport in ["auto", "websocket", "sse", "stream", "poll"] {
        let channel = format!("chat:{transport}");
        let subscriber = server.subscribe(&[&channel], &["--transport", transport]);
        server.call(&["publish", &channel, "1"], "");
        assert_eq!(data(subscriber.json()), json!(1), "{transport}");
    }
    let output = fanfare(&["subscribe", "chat:a", "--transport", "carrier"]).output().expect("the binary");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{message}");
    assert!(message.contains("'carrier'") && message.contains("auto, websocket, sse, stream, poll"), "{message}");
}
