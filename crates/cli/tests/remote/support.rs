//! Shared by the tests of the command: the real binary as the server and as every client, and a network that can be
//! cut.
//!
//! Nothing here sleeps. Every wait has a deadline that only a failure reaches.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

pub(crate) const KEY: &str = "the-key-of-the-tests";
const DEADLINE: Duration = Duration::from_secs(60);

/// The binary, without variables of the test's own environment.
pub(crate) fn fanfare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Asserts success.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.stdout
    }

    /// Asserts this status, and an stderr that contains all of these texts.
    #[track_caller]
    pub(crate) fn bad(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {:?}", self.stderr);
        }
    }
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str], stdin: &str) -> Ended {
    run_command(fanfare(args), stdin)
}

pub(crate) fn run_command(mut command: Command, stdin: &str) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary");
    let mut pipe = child.stdin.take().expect("stdin");
    let text = stdin.to_owned();
    let writing = std::thread::spawn(move || drop(pipe.write_all(text.as_bytes()))); // the command may not read all
    let output = child.wait_with_output().expect("its end");
    writing.join().expect("the writer");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    stdout: Option<Receiver<String>>,
    stderr: Receiver<String>,
}

pub(crate) fn start(args: &[&str]) -> Running {
    start_command(fanfare(args), true)
}

/// Without `read_stdout` the pipe stays in `take_stdout`.
pub(crate) fn start_command(mut command: Command, read_stdout: bool) -> Running {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
    let stdout = read_stdout.then(|| lines(child.stdout.take().expect("stdout")));
    let stderr = lines(child.stderr.take().expect("stderr"));
    Running { child, stdout, stderr }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Running {
    /// The next line of stdout.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.stdout.as_ref().expect("stdout is read").recv_timeout(DEADLINE).expect("a line on stdout")
    }

    /// The next line of stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next line of stdout as JSON, if there is one by now.
    pub(crate) fn try_json(&self) -> Option<serde_json::Value> {
        let line = self.stdout.as_ref().expect("stdout is read").try_recv().ok()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next line of stderr that contains this text; skips lines before it.
    #[track_caller]
    pub(crate) fn note_with(&self, part: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.stderr.recv_timeout(DEADLINE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before.push(line),
                Err(_) => panic!("no {part:?} in {before:?}"),
            }
        }
    }

    /// Writes to its stdin, which stays open.
    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().expect("stdin").write_all(text.as_bytes()).expect("written");
    }

    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("stdout is not read")
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a process to signal");
    }

    /// Waits for its end, and returns the rest of its output.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let status = self.child.wait().expect("its end");
        (
            status,
            self.stdout.take().map(|lines| lines.iter().collect()).unwrap_or_default(),
            self.stderr.iter().collect(),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `fanfare dev` on a port of its own, until it is dropped.
pub(crate) struct Server {
    running: Running,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    pub(crate) fn start_at(listen: &str) -> Self {
        // An idle channel stays listed for as long as a test takes.
        let running = start(&["dev", "--listen", listen, "--shards", "1", "--api-key", KEY, "--limits-linger", "1h"]);
        let line = running.note_with("listening on http://");
        let address = line.rsplit('/').next().expect("an address").parse().expect("an address");
        Server { running, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Kills it, and returns its address.
    pub(crate) fn kill(mut self) -> String {
        self.running.child.kill().expect("a process to kill");
        self.running.child.wait().expect("its end");
        self.address.to_string()
    }

    /// Runs a command of the application, which must succeed.
    #[track_caller]
    pub(crate) fn call(&self, args: &[&str], stdin: &str) -> String {
        self.try_call(args, stdin).good()
    }

    pub(crate) fn try_call(&self, args: &[&str], stdin: &str) -> Ended {
        let url = self.url();
        run(&[args, &["--url", &url, "--api-key", KEY]].concat(), stdin)
    }

    /// Subscribes, and waits until all channels are live.
    pub(crate) fn subscribe(&self, channels: &[&str], more: &[&str]) -> Running {
        let running = start(&[&["subscribe", "--url", &self.url()], more, channels].concat());
        for _ in channels {
            running.note_with(": live at ");
        }
        running
    }
}

/// A server that gives these answers, one for each connection, and the requests that it got. An empty answer closes the
/// connection.
pub(crate) fn answering(answers: Vec<String>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        // The last one again and again: a client tries several transports.
        let last = answers.last().cloned().expect("an answer");
        for answer in answers.into_iter().chain(std::iter::repeat(last)) {
            let Ok((stream, _)) = listener.accept() else { return };
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|len| len > 0) {}
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            let _ = reader.read_exact(&mut body);
            let _ = sender.send(head + &String::from_utf8_lossy(&body));
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    (url, requests)
}

/// An HTTP answer.
pub(crate) fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
