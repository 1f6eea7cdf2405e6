//! The program as users call it: in its own folder, with an empty environment, to its end or as a server with its
//! output. Nothing here sleeps.

#![allow(dead_code)] // each test binary uses its own part

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The limit of every wait: a test that hangs fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Its own folder, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("fanfare-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    pub(crate) fn with(file: &str) -> Folder {
        let folder = Folder::new();
        folder.write("fanfare.toml", file);
        folder
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).expect("it is there")
    }

    /// The program with these words, in this folder.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.current_dir(&self.0).env_clear().args(words);
        command
    }

    /// The program with SIGHUP enabled. `nohup` ignores the signal for its children, and the tests may run below it.
    #[cfg(target_os = "linux")]
    pub(crate) fn command_that_hears_hangups(&self, before: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").args(before).arg(env!("CARGO_BIN_EXE_fanfare")).args(words);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.current_dir(&self.0).env_clear().env("PATH", path);
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Said {
        Said::of(&mut self.command(words))
    }

    /// Starts a server. A machine that is busy with other tests is no overload for it.
    pub(crate) fn start(&self, words: &[&str]) -> Server {
        Server::start(self.command(words).env("FANFARE__LIMITS__OVERLOAD_LAG", "0s"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command's output and exit status.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
}

impl Said {
    pub(crate) fn of(command: &mut Command) -> Said {
        let output = command.output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Said { stdout: text(output.stdout), stderr: text(output.stderr), status: output.status.code() }
    }
}

/// A server in a process of its own, killed at the end.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    /// All of its output.
    pub(crate) said: String,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Server { child, lines, said: String::new(), address: String::new() };
        let line = server.wait_for("listening on http");
        let address = line.split_once("://").expect("an address").1;
        server.address = address.split('"').next().unwrap_or_default().to_owned(); // in JSON there is more behind it
        server
    }

    /// The next line that contains this text.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(DEADLINE) else { panic!("{text:?} did not come:\n{}", self.said) };
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// All of its output, to its end.
    pub(crate) fn rest(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        self.said.clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    /// Stops it with SIGTERM; returns its status.
    pub(crate) fn stop(self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end; returns its status.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
