//! A server whose stderr is not read, or cannot be written, serves as before, reports that, and stops when it is told
//! to; a reader that resumes gets the lines. The other commands behave alike, and a signal ends a command whose stdout
//! is not read. Nothing here sleeps: the service manager's socket reports when the server is ready.

mod support;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use support::{DEADLINE, Folder};

const RULES: &str =
    "[[channels]]\nmatch = \"news:*\"\nsubscribe = \"anyone\"\npublish = \"server\"\nhistory = { size = 1 }\n";
const KEY: &str = "0123456789abcdef-key";

/// A pipe that is full.
fn full_pipe() -> (PipeReader, PipeWriter, usize) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("a pipe takes flags");
    let mut filled = 0;
    for chunk in [&b"old\n".repeat(1024)[..], b"\n"] {
        while let Ok(len) = writer.write(chunk) {
            filled += len;
        }
    }
    fcntl_setfl(&writer, flags).expect("a pipe takes flags");
    (reader, writer, filled)
}

/// The status of a process that ends by itself.
fn ended(mut child: Child) -> Option<i32> {
    let pid = Pid::from_child(&child);
    let (sender, end) = channel();
    std::thread::spawn(move || sender.send(child.wait()));
    let Ok(status) = end.recv_timeout(DEADLINE) else {
        let _ = kill_process(pid, Signal::KILL); // it may have ended just now
        panic!("it does not end");
    };
    status.expect("it ends").code()
}

struct Stuck {
    folder: Folder,
    manager: UnixDatagram,
    child: Child,
}

impl Stuck {
    /// Returns when it is ready, as it tells the service manager.
    fn start(stderr: Stdio, command: &str, top: &str) -> Stuck {
        let folder = Folder::new();
        let socket = folder.path("socket");
        folder.write(
            "fanfare.toml",
            &format!(
                "listen = \"unix:{}\"\n{top}\n[admin]\nlisten = \"main\"\n[session]\ndrain_window = \"0s\"\n[api_keys]\nbackend = \"{KEY}\"\n{RULES}",
                socket.display()
            ),
        );
        let path = folder.path("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        manager.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        let mut started = folder.command(&[command, "--config", "fanfare.toml", "--log-level", "trace"]);
        let child = started.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).stderr(stderr).spawn().expect("it starts");
        let stuck = Stuck { folder, manager, child };
        assert_eq!(stuck.heard(), "READY=1");
        stuck
    }

    fn heard(&self) -> String {
        let mut buffer = [0; 256];
        let len = self.manager.recv(&mut buffer).expect("it is told");
        String::from_utf8_lossy(&buffer[..len]).trim_end().to_owned()
    }

    fn connect(&self) -> UnixStream {
        let socket = UnixStream::connect(self.folder.path("socket")).expect("it listens");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        socket
    }

    fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let mut socket = self.connect();
        let request =
            format!("{head}host: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("read");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        (answer[9..12].parse().expect("a status"), body)
    }

    fn publish(&self, data: &str) {
        let head = format!("POST /api/v1/publish HTTP/1.1\r\nauthorization: Bearer {KEY}\r\n");
        let body = format!(r#"{{"channel":"news:a","data":{data}}}"#);
        assert_eq!(self.ask(&head, &body).0, 200);
    }

    /// A command that calls the server.
    fn command(&self, words: &[&str], stdout: Stdio, stderr: Stdio) -> Child {
        let url = format!("unix:{}", self.folder.path("socket").display());
        let mut command = self.folder.command(words);
        command.args(["--url", &url]).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("it starts")
    }

    /// Checks everything that a server does.
    fn serves(&self) {
        (0..50).for_each(|number| self.publish(&number.to_string()));
        assert_eq!(self.ask("GET /healthz HTTP/1.1\r\n", ""), (200, "ok\n".to_owned()));
        assert_eq!(self.ask("GET /readyz HTTP/1.1\r\n", ""), (200, "ready\n".to_owned()));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn end(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_that_nobody_reads_keeps_nothing_from_going_on() {
    for command in ["serve", "dev"] {
        for format in ["text", "json"] {
            let (_unread, writer, _) = full_pipe();
            let mut server = Stuck::start(writer.into(), command, &format!("log.format = \"{format}\""));
            server.serves();
            server.signal(Signal::HUP);
            assert!(server.heard().starts_with("RELOADING=1"));
            assert_eq!(server.heard(), "READY=1");
            server.signal(Signal::TERM);
            assert!(server.heard().starts_with("STOPPING=1"));
            assert_eq!(server.end(), Some(0), "{command}, {format}");
        }
    }
}

#[test]
fn a_second_signal_ends_it_though_nobody_reads_the_log() {
    let (_unread, writer, _) = full_pipe();
    let mut server = Stuck::start(writer.into(), "serve", "shutdown_delay = \"10m\"");
    server.signal(Signal::TERM);
    assert!(server.heard().starts_with("STOPPING=1"));
    // A signal other than the first: within 200 ms the same one would be ignored as its echo.
    while server.child.try_wait().expect("a child").is_none() {
        server.signal(Signal::INT);
        std::thread::yield_now();
    }
    assert_eq!(server.end(), Some(1));
}

#[test]
fn a_reader_that_resumes_finds_the_lines_from_the_start_to_the_end() {
    let (reader, writer, filled) = full_pipe();
    let mut server = Stuck::start(writer.into(), "serve", "");
    server.serves();
    let mut reader = BufReader::new(reader);
    reader.read_exact(&mut vec![0; filled]).expect("what was there before");
    let mut lines = reader.lines().map(|line| line.expect("UTF-8"));
    assert!(lines.by_ref().any(|line| line.starts_with("fanfare ")), "its start");
    assert!(lines.next().expect("a line").starts_with("listening on unix:"));
    assert!(lines.by_ref().any(|line| line.contains("path=\"/readyz\"")), "the log goes on");
    server.signal(Signal::TERM);
    let last = lines.last().expect("a line");
    assert!(last.contains(" stopped clients_notified=0"), "{last}");
    assert_eq!(server.end(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_lines_and_they_are_counted() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut server = Stuck::start(full.into(), "serve", "");
    server.serves();
    let lost = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("fanfare_log_lines_lost_total "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0_u64)
    };
    while lost(&server.ask("GET /metrics HTTP/1.1\r\n", "").1) < 50 {}
    server.signal(Signal::TERM);
    assert_eq!(server.end(), Some(0));
}

#[test]
fn a_subscriber_whose_stderr_is_not_read_prints_and_ends_at_a_signal() {
    let server = Stuck::start(Stdio::null(), "serve", "");
    server.publish("1");
    for signal in [Signal::TERM, Signal::INT] {
        let (_unread, writer, _) = full_pipe();
        let words = ["subscribe", "news:a", "--recent", "1"];
        let mut child = server.command(&words, Stdio::piped(), writer.into());
        let stdout = child.stdout.take().expect("piped");
        let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
        let readable = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&timeout)).expect("a pipe");
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        assert_eq!(ended(child), Some(0), "{signal:?}");
        assert_eq!(readable, 1, "it prints");
        let line = BufReader::new(stdout).lines().next().expect("a line").expect("UTF-8");
        assert!(line.contains(r#""offset":1"#), "{line}");
    }
}

#[test]
fn commands_that_nobody_hears_end_with_their_status() {
    let server = Stuck::start(Stdio::null(), "serve", "");
    let unread = |words: &[&str]| {
        let (reader, writer, _) = full_pipe();
        let status = ended(server.command(words, Stdio::null(), writer.into()));
        drop(reader);
        status
    };
    assert_eq!(unread(&["publish", "news:a", "1", "--api-key", KEY]), Some(0));
    assert_eq!(unread(&["publish", "news:a", "1", "--api-key", "another-key-of-16"]), Some(1));
    assert_eq!(unread(&["channels", "nonsense"]), Some(1));
    assert_eq!(unread(&["subscribe", "chat:a"]), Some(1));
    server.folder.write("bad.toml", &format!("listen = \"192.0.2.1:8080\"\n{RULES}"));
    for words in [
        &["serve", "--config", "missing.toml"][..],
        &["serve", "--config", "bad.toml"],
        &["serve", "--config", "bad.toml", "--log-format", "json"],
        &["dev", "--listen", "nowhere"],
        &["check", "missing.toml"],
        &["config", "missing.toml"],
        &["why", "subscribe", "news:a", "--config", "missing.toml"],
        &["init", "bad.toml"],
    ] {
        let (_unread, writer, _) = full_pipe();
        let child = server.folder.command(words).stdout(Stdio::null()).stderr(writer).spawn().expect("it starts");
        assert_eq!(ended(child), Some(1), "{words:?}");
    }
}

#[test]
fn one_signal_ends_a_subscriber_whose_stdout_is_not_read() {
    let server = Stuck::start(Stdio::null(), "serve", "limits.message_bytes_max = \"250KiB\"");
    server.publish(&format!("\"{}\"", "x".repeat(200_000))); // a pipe does not hold the whole line
    for signal in [Signal::TERM, Signal::INT] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let words = ["subscribe", "news:a", "--recent", "1"];
        let mut child = server.command(&words, writer.into(), Stdio::piped());
        let stderr = child.stderr.take().expect("piped");
        let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
        let begun = poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&timeout)).expect("a pipe");
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        assert_eq!(ended(child), Some(0), "{signal:?}");
        assert_eq!(begun, 1, "it prints");
        let last = BufReader::new(stderr).lines().last().expect("a line").expect("UTF-8");
        assert_eq!(last, "ended before all lines were written: stdout is not read");
    }
}

/// The error that ends a server before it serves comes at the end of the queue.
#[test]
fn why_it_does_not_start_is_told() {
    let folder = Folder::new();
    folder.write("fanfare.toml", &format!("listen = \"192.0.2.1:8080\"\n{RULES}"));
    for format in ["text", "json"] {
        let said = folder.run(&["serve", "--log-format", format]);
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.stderr.contains("192.0.2.1:8080") && said.stderr.contains("no such address"), "{}", said.stderr);
    }
}
