//! A server's life as its operator sees it: its messages and their format, keys that are replaced while it runs, how it
//! leaves a balancer, and the effect of each signal. Nothing around it (a closed terminal, a log without a reader) ends
//! it by accident. Nothing here sleeps, and no test waits for a delay.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use support::{DEADLINE, Folder, Server};

const RULES: &str = "[[channels]]\nmatch = \"news:*\"\nsubscribe = \"anyone\"\npublish = \"server\"\n";

/// A configuration with these lines at the top, and these keys.
fn file(top: &str, keys: &str) -> String {
    let addresses = "listen = \"127.0.0.1:0\"\n";
    format!(
        "{addresses}{top}\n[admin]\nlisten = \"main\"\n[session]\ndrain_window = \"0s\"\n[api_keys]\n{keys}\n{RULES}"
    )
}

/// The answer to a request: status and body.
fn ask(address: &str, head: &str, body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    let request = format!("{head}host: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("read");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (answer[9..12].parse().expect("a status"), body)
}

fn get(server: &Server, path: &str) -> (u16, String) {
    ask(&server.address, &format!("GET {path} HTTP/1.1\r\n"), "")
}

/// The status of a publication with this key.
fn publish(server: &Server, key: &str) -> u16 {
    let head = format!("POST /api/v1/publish HTTP/1.1\r\nauthorization: Bearer {key}\r\n");
    ask(&server.address, &head, r#"{"channel":"news:a","data":1}"#).0
}

/// Asks for a reload, and waits for the line that ends it well or badly.
fn reload(server: &mut Server, says: &str) {
    server.signal(Signal::HUP);
    server.wait_for(says);
}

const RELOADED: &str = " of the file are in force";
const OLD: &str = "0123456789abcdef-old";
const NEW: &str = "fedcba9876543210-new";

#[test]
fn a_key_is_replaced_while_both_work() {
    let folder = Folder::with(&file("", &format!("backend = \"{OLD}\"")));
    let mut server = folder.start(&["serve", "--shards", "2", "--log-level", "debug"]);
    assert_eq!((publish(&server, OLD), publish(&server, NEW)), (200, 401));

    folder.write("fanfare.toml", &file("", &format!("backend = [\"{OLD}\", \"{NEW}\"]")));
    reload(&mut server, RELOADED);
    assert_eq!((publish(&server, OLD), publish(&server, NEW)), (200, 200));

    folder.write("fanfare.toml", &file("", "backend = \"short\""));
    reload(&mut server, "not reloaded: the old settings stay in force");
    assert_eq!((publish(&server, OLD), publish(&server, NEW)), (200, 200), "a broken file changes nothing");

    folder.write("fanfare.toml", &file("", &format!("backend = \"{NEW}\"")));
    reload(&mut server, RELOADED);
    assert_eq!((publish(&server, OLD), publish(&server, NEW)), (401, 200));

    folder.write("fanfare.toml", &file("", ""));
    reload(&mut server, "1 rule and 0 API keys of the file are in force");
    assert_eq!((publish(&server, OLD), publish(&server, NEW)), (401, 401), "there was an API: an old key is refused");
    let judged = |said: &str| said.matches("subscriptions were checked against the rules").count();
    server.signal(Signal::TERM);
    server.wait_for("stopped");
    assert_eq!(judged(&server.said), 3, "once for each reload, whatever the shards: {}", server.said);
    assert!(!server.said.contains("needs a restart"), "{}", server.said);
    assert!(!server.said.contains(OLD) && !server.said.contains(NEW), "{}", server.said);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_key_of_a_file_is_read_again_and_the_first_one_opens_the_api() {
    let folder = Folder::with(&file("", ""));
    let mut server = folder.start(&["serve"]);
    assert_eq!(publish(&server, OLD), 404, "without keys there is no API");
    folder.write("key", OLD);
    folder.write("fanfare.toml", &file("", "backend = { key_file = \"key\", commands = [\"publish\"] }"));
    reload(&mut server, RELOADED);
    assert_eq!(publish(&server, OLD), 200);
    folder.write("key", &format!("{NEW}\n"));
    reload(&mut server, RELOADED);
    assert_eq!((publish(&server, OLD), publish(&server, NEW)), (401, 200));
    std::fs::remove_file(folder.path("key")).expect("it was there");
    reload(&mut server, "not reloaded: the old settings stay in force");
    assert_eq!((publish(&server, OLD), publish(&server, NEW)), (401, 200));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn settings_that_need_a_restart_are_named_with_the_values_in_force() {
    let folder = Folder::with(&file("shards = 1", ""));
    let mut server = folder.start(&["serve", "--limits-signals-waiting-max", "7"]);
    folder.write("fanfare.toml", &file("# one line more\nshards = 2", "").replace("\"0s\"", "\"1s\""));
    reload(&mut server, "session.drain_window = ");
    let line = |words: &str| server.said.lines().find(|line| line.contains(words)).unwrap_or_default().to_owned();
    assert!(
        line("shards = 2").contains("shards = 2 (fanfare.toml:3) needs a restart: until then it is 1 (fanfare.toml:2)")
    );
    let window =
        "session.drain_window = \"1s\" (fanfare.toml:7) needs a restart: until then it is \"0s\" (fanfare.toml:6)";
    assert!(line("drain_window").contains(window), "{}", server.said);
    let (done, first) = (server.said.find(RELOADED), server.said.find("needs a restart"));
    assert!(done < first, "success first, then what is left: {}", server.said);
    assert!(!server.said.contains("signals_waiting_max"), "a flag stands in both: {}", server.said);
    assert_eq!(server.stop(), Some(0));
}

/// All output of a server from start to end, with one successful and one failed reload.
#[test]
fn in_json_every_line_is_an_object() {
    let folder = Folder::with(&file("", &format!("backend = \"{OLD}\"")));
    let mut server = folder.start(&["serve", "--log-format", "json", "--admin-listen", "127.0.0.1:0"]);
    reload(&mut server, RELOADED);
    folder.write("fanfare.toml", "shards = 0\n");
    reload(&mut server, "not reloaded");
    server.signal(Signal::TERM);
    server.wait_for("\"stopped\"");
    let words: Vec<String> = server.said.lines().map(message).collect();
    for expected in
        ["fanfare 0", "listening on http://", "monitoring at http://", "1 rule and 1 API key", "stopping on SIGTERM"]
    {
        assert!(words.iter().any(|words| words.contains(expected)), "{expected:?}: {}", server.said);
    }
    assert_eq!(server.wait(), Some(0));

    // A warning about the settings, and the reason for a failed start.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    folder.write("fanfare.toml", "");
    let said = folder.run(&["serve", "--log-format", "json", "--admin-listen", "off", "--listen", &address]);
    assert_eq!(said.status, Some(1));
    let words: Vec<String> = said.stderr.lines().map(message).collect();
    assert!(words[0].contains("there is no rule, so no channel can be used"), "{}", said.stderr);
    assert!(words[1].contains(&format!("cannot listen on {address}")), "{}", said.stderr);
    let hint: Value = serde_json::from_str(said.stderr.lines().nth(1).expect("two lines")).expect("JSON");
    assert!(hint["hint"].as_str().expect("a hint").contains("choose another port with --listen"), "{hint}");
    assert_eq!(words.len(), 2);
}

/// The message of a line, which is an object with a level.
fn message(line: &str) -> String {
    let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(object["level"].is_string(), "{line}");
    object["message"].as_str().unwrap_or_else(|| panic!("no message: {line}")).to_owned()
}

#[test]
fn dev_tells_its_new_key_in_json_once_and_never_again() {
    let folder = Folder::new();
    let mut server = folder.start(&["dev", "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug"]);
    let line = server.said.lines().find(|line| line.contains("an API key was made")).expect("before the address");
    let line: Value = serde_json::from_str(line).expect("JSON");
    let key = line["api_key"].as_str().expect("the key").to_owned();
    let head = format!("POST /api/v1/info HTTP/1.1\r\nauthorization: Bearer {key}\r\n");
    assert_eq!(ask(&server.address, &head, "{}").0, 200);
    assert_eq!(get(&server, &format!("/{key}")).0, 404);
    server.signal(Signal::TERM);
    server.wait_for("\"stopped\"");
    assert_eq!(server.said.matches(&key).count(), 1, "{}", server.said);
    assert!(server.said.contains("[redacted]"), "the page was logged: {}", server.said);
}

#[test]
fn a_server_with_a_delay_is_not_ready_and_serves_on() {
    let folder = Folder::with(&file("shutdown_delay = \"10m\"", &format!("backend = \"{OLD}\"")));
    let mut server = folder.start(&["serve"]);
    assert_eq!(get(&server, "/readyz"), (200, "ready\n".to_owned()));
    server.signal(Signal::TERM);
    server.wait_for("no longer ready");
    let (status, body) = get(&server, "/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.starts_with("stopping"), "{body}");
    assert_eq!(get(&server, "/healthz").0, 200);
    assert!(get(&server, "/metrics").1.contains("\nfanfare_ready 0\n"));
    assert_eq!(publish(&server, OLD), 200, "new connections, and publications");
    // The delay is ten minutes: the second signal ends the server at once, and with status 1.
    server.signal(Signal::INT);
    server.wait_for("ended at once by a second signal");
    assert_eq!(server.wait(), Some(1));
}

#[test]
fn after_the_delay_it_drains_and_says_how_that_went() {
    let folder = Folder::with(&file("shutdown_delay = \"20ms\"", ""));
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = folder.start(&["serve"]);
        let client = open(&server);
        server.signal(signal);
        sent_away(client);
        let line = server.wait_for("stopped ");
        assert!(line.contains("clients_notified=1 cut_off=0 answered=0 unanswered=0 seconds="), "{line}");
        assert_eq!(server.wait(), Some(0));
    }
    let mut server = folder.start(&["serve", "--limits-close-timeout", "100ms"]);
    let client = open(&server);
    server.signal(Signal::TERM);
    server.wait_for("these clients did not leave within 100ms and are disconnected");
    let line = server.wait_for("stopped ");
    assert!(line.contains("clients_notified=1 cut_off=1 "), "{line}");
    assert_eq!(server.wait(), Some(0));
    drop(client);
}

/// A native client's socket, after its upgrade.
fn open(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(&server.address).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    let head = "GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: fanfare.v1\r\n\r\n";
    socket.write_all(head.as_bytes()).expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    socket
}

/// Reads up to the close that tells the client to come back, and disconnects.
fn sent_away(mut client: TcpStream) {
    let close = [&[0x88, 10][..], &4000_u16.to_be_bytes(), b"shutdown"].concat();
    let mut received = Vec::new();
    while !received.ends_with(&close) {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a goodbye");
        received.push(byte[0]);
    }
}

fn manager_hears_of_everything(manager: &UnixDatagram, name: &std::ffi::OsStr) {
    let folder = Folder::with(&file("", ""));
    manager.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    let heard = || {
        let mut buffer = [0; 256];
        let len = manager.recv(&mut buffer).expect("it is told");
        String::from_utf8(buffer[..len].to_vec()).expect("UTF-8")
    };
    let server = Server::start(folder.command(&["serve"]).env("NOTIFY_SOCKET", name));
    assert_eq!(heard(), "READY=1\n");
    for text in [file("", ""), "nonsense".to_owned()] {
        folder.write("fanfare.toml", &text);
        server.signal(Signal::HUP);
        let reloading = heard();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the reload and its time");
        assert!(micros.trim_end().parse::<u64>().expect("a number") > 0, "{reloading:?}");
        assert_eq!(heard(), "READY=1\n", "whether or not the file was good: it is as ready as before");
    }
    server.signal(Signal::TERM);
    // 5 s for handlers, 3 s for clients that do not go, 3 s for events and notices that wait, and 2 s.
    assert_eq!(heard(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=13000000\n");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn the_service_manager_hears_of_everything() {
    let folder = Folder::new();
    let path = folder.path("notify");
    manager_hears_of_everything(&UnixDatagram::bind(&path).expect("a socket"), path.as_os_str());
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_manager_with_an_abstract_socket_hears_of_everything() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    let name = format!("fanfare-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = UnixDatagram::bind_addr(&address).expect("a socket");
    manager_hears_of_everything(&manager, format!("@{name}").as_ref());
}

#[test]
fn a_service_manager_that_is_not_there_or_of_another_kind_stops_nothing() {
    let folder = Folder::with(&file("", ""));
    for name in ["/nowhere/at/all", "vsock:2:1234", "relative", "@", ""] {
        let mut server = Server::start(folder.command(&["serve"]).env("NOTIFY_SOCKET", name));
        if !name.is_empty() {
            server.wait_for("the service manager could not be notified");
        }
        assert_eq!(get(&server, "/healthz").0, 200, "{name:?}");
        assert_eq!(server.stop(), Some(0), "{name:?}");
    }
}

#[test]
fn a_log_without_a_reader_ends_nothing() {
    let folder = Folder::with(&file("", ""));
    let mut command = folder.command(&["serve", "--log-level", "debug"]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert!(said.read_line(&mut line).expect("UTF-8") > 0, "it ended");
    }
    let address = line.trim().rsplit_once("http://").expect("an address").1.to_owned();
    drop(said);
    for _ in 0..3 {
        assert_eq!(ask(&address, "GET /healthz HTTP/1.1\r\n", "").0, 200);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// If there are too few open files to start with, the error says so, at every step of the start.
#[test]
fn a_process_that_may_open_few_files_is_told_so() {
    let folder = Folder::with(&file("shards = 2", ""));
    for files in [10, 14, 18] {
        let mut command = std::process::Command::new("/bin/sh");
        let limited = format!("ulimit -S -n {files} && ulimit -H -n {files} && exec \"$0\" serve");
        command.current_dir(folder.path("")).env_clear().args(["-c", &limited, env!("CARGO_BIN_EXE_fanfare")]);
        let said = support::Said::of(&mut command);
        assert!(matches!(said.status, Some(1 | 2)), "{said:?}");
        assert!(said.stderr.contains(&format!("at most {files} files may be open")), "{}", said.stderr);
        assert!(said.stderr.contains("hint: raise the hard limit of open files"), "{}", said.stderr);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    }
}

/// With its own terminal, which is then closed.
#[cfg(target_os = "linux")]
mod terminal {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::fs::OpenOptions;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt as _;

    /// The program as the leader of a session on a new terminal, and the other end of that terminal.
    fn start(folder: &Folder, before: &[&str], words: &[&str]) -> (Server, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("ours to use");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let name = std::ffi::OsStr::from_bytes(name.as_bytes());
        let slave = OpenOptions::new().read(true).write(true).open(name).expect("it opens");
        // `setsid --ctty` makes its standard input the session's terminal, and becomes the program.
        let before = [&["setsid", "--ctty"], before].concat();
        let mut command = folder.command_that_hears_hangups(&before, words);
        (Server::start(command.stdin(slave)), master)
    }

    #[test]
    fn dev_without_a_file_has_nothing_to_reload_and_says_so() {
        let folder = Folder::new();
        let mut command = folder.command_that_hears_hangups(&[], &["dev", "--listen", "127.0.0.1:0"]);
        let mut server = Server::start(&mut command);
        reload(&mut server, "SIGHUP: there is nothing to reload");
        assert_eq!(get(&server, "/healthz").0, 200);
        assert_eq!(server.stop(), Some(0));
    }

    #[test]
    fn a_terminal_that_is_closed_ends_its_server_in_order() {
        let folder = Folder::with(&file("", ""));
        let listen = ["--listen", "127.0.0.1:0"];
        for words in [&["dev"][..], &["dev", "--config", "fanfare.toml"], &["serve"]] {
            let words = [words, &listen].concat();
            let (mut server, terminal) = start(&folder, &[], &words);
            let client = open(&server);
            drop(terminal);
            server.wait_for("stopping on the end of its terminal");
            sent_away(client);
            server.wait_for("stopped clients_notified=1 cut_off=0");
            assert_eq!(server.wait(), Some(0), "{words:?}");
        }
    }

    #[test]
    fn a_hangup_before_the_terminal_goes_reloads_and_then_ends() {
        let folder = Folder::with(&file("", ""));
        let (mut server, terminal) = start(&folder, &[], &["serve"]);
        reload(&mut server, RELOADED);
        assert_eq!(get(&server, "/healthz").0, 200);
        drop(terminal);
        server.wait_for("stopping on the end of its terminal");
        assert_eq!(server.wait(), Some(0));
    }

    #[test]
    fn under_nohup_a_server_outlives_its_terminal() {
        let folder = Folder::with(&file("", ""));
        let (mut server, terminal) = start(&folder, &["nohup"], &["serve"]);
        drop(terminal);
        server.wait_for(RELOADED);
        reload(&mut server, RELOADED);
        assert_eq!(get(&server, "/healthz").0, 200);
        assert_eq!(server.stop(), Some(0));

        let (server, terminal) = start(&folder, &["nohup"], &["dev", "--listen", "127.0.0.1:0"]);
        drop(terminal);
        server.signal(Signal::HUP);
        assert_eq!(get(&server, "/healthz").0, 200);
        assert_eq!(server.stop(), Some(0));
    }
}
