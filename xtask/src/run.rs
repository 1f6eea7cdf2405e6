//! Running another program: the command line is printed first, then the program's own output passes through.
//!
//! No program gets our standard input: CI has none, and a step that waits for a key would hang there.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a program with a deadline is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) struct Run {
    command: Command,
    within: Option<String>,
    env: Vec<String>,
    words: Vec<String>,
}

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, within: None, env: Vec::new(), words: vec![quoted(program)] }
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Like [`Run::dir`], for a folder below the root that has to be named when the command is shown.
    pub(crate) fn within(mut self, root: &Path, folder: &str) -> Self {
        self.within = Some(folder.to_owned());
        self.dir(&root.join(folder))
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        for arg in args {
            let arg = arg.into();
            self.words.push(quoted(&arg));
            self.command.arg(arg);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push(format!("{name}={}", quoted(value.as_ref())));
        self.command.env(name, value);
        self
    }

    /// The command line as a person would type it.
    pub(crate) fn line(&self) -> String {
        let enter = self.within.iter().flat_map(|folder| ["cd", folder.as_str(), "&&"]);
        let words = self.env.iter().chain(&self.words).map(String::as_str);
        enter.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Runs to the end. A status other than 0 is an error.
    pub(crate) fn go(mut self) -> Result<()> {
        println!("$ {}", self.line());
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.line()))?;
        if !status.success() {
            bail!("`{}` failed: {status}", self.line());
        }
        Ok(())
    }

    /// Runs silently and returns stdout; on failure the error contains stderr.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.command.output().with_context(|| format!("cannot start `{}`", self.line()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` failed: {}\n{}", self.line(), output.status, said.trim_end());
        }
        String::from_utf8(output.stdout)
            .with_context(|| format!("`{}` printed something that is not UTF-8", self.line()))
    }

    /// Runs without a word until it ends, whatever its status, or until it is ended for having taken so long.
    pub(crate) fn until(mut self, deadline: Duration) -> Result<Ended> {
        let line = self.line();
        let started = Instant::now();
        let spawned = self.command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.with_context(|| format!("cannot start `{line}`"))?;
        let mut stdout = child.stdout.take();
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.as_mut().map(|stdout| stdout.read_to_end(&mut bytes));
            read.transpose().map(|_| String::from_utf8_lossy(&bytes).into_owned())
        });
        let status = loop {
            match child.try_wait().with_context(|| format!("cannot wait for `{line}`"))? {
                None if started.elapsed() < deadline => thread::sleep(LOOK_EVERY),
                None => {
                    child.kill().and_then(|()| child.wait()).with_context(|| format!("cannot end `{line}`"))?;
                    break None;
                }
                status => break status,
            }
        };
        let said = reader.join().ok().and_then(Result::ok).with_context(|| format!("cannot read from `{line}`"))?;
        Ok(Ended { status, said })
    }
}

/// How a program ended that had a deadline.
pub(crate) struct Ended {
    /// `None`: the deadline came first.
    pub(crate) status: Option<ExitStatus>,
    /// Its standard output.
    pub(crate) said: String,
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let run = Run::new("cargo").args(["test", "--test", "*"]).env("A", "1").env("B", "x y");
        assert_eq!(run.line(), "A=1 B='x y' cargo test --test '*'");
    }

    #[test]
    fn a_program_ends_or_is_ended() {
        let ended = Run::new("sh").args(["-c", "echo words; exit 3"]).until(Duration::from_secs(60)).unwrap();
        assert_eq!((ended.status.and_then(|status| status.code()), ended.said.as_str()), (Some(3), "words\n"));
        // `yes` never ends.
        let ended = Run::new("yes").until(Duration::ZERO).unwrap();
        assert!(ended.status.is_none());
    }

    #[test]
    fn a_failure_is_an_error_that_names_the_command() {
        let error = Run::new("false").go().unwrap_err().to_string();
        assert!(error.starts_with("`false` failed: exit status"), "{error}");
    }
}
