//! A deadline for each test program: one that waits or spins for ever fails, and is named.
//!
//! `cargo test` runs a program under a *runner* if its configuration names one. [`cargo_test`] names this program, with
//! [`NAME`] as its first argument.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::run::Run;
use crate::workspace::Workspace;

/// The command that cargo calls. It is not for people.
pub(crate) const NAME: &str = "within";

/// Test programs take seconds, and minutes on a machine that is very busy.
const DEADLINE: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// `cargo test` whose programs have a deadline. One that fails does not keep the others from running: one run then
/// names all that is broken.
pub(crate) fn cargo_test(workspace: &Workspace) -> Result<Run> {
    // Not the running program's own path: a step before this one may have built it anew, and Linux then calls the
    // running one "(deleted)". The new one lies at the same place.
    let this = workspace.built("debug", "xtask")?;
    Ok(workspace.cargo().args(["--config".to_owned(), runner(&this)]).args(["test", "--no-fail-fast"]))
}

fn runner(this: &Path) -> String {
    format!("target.'cfg(all())'.runner = [{:?}, {NAME:?}]", this.to_string_lossy())
}

/// Runs a program with its arguments until it ends or its time is over.
pub(crate) fn main(program: &[String]) -> Result<()> {
    within(program, DEADLINE)
}

fn within(program: &[String], deadline: Duration) -> Result<()> {
    let Some((path, args)) = program.split_first() else { bail!("`{NAME}` needs a program") };
    let started = Instant::now();
    let mut child = Command::new(path).args(args).spawn().with_context(|| format!("cannot start `{path}`"))?;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for `{path}`"))? {
            ensure!(status.success(), "`{path}` failed: {status}");
            return Ok(());
        }
        if started.elapsed() >= deadline {
            child.kill().and_then(|()| child.wait()).with_context(|| format!("cannot end `{path}`"))?;
            bail!("`{path}` had not ended after {} s: a test waits or spins for ever", deadline.as_secs());
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended_and_named() {
        let program = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        assert!(within(&program(&["true"]), DEADLINE).is_ok());
        let failed = within(&program(&["sh", "-c", "exit 3"]), DEADLINE).unwrap_err().to_string();
        assert_eq!(failed, "`sh` failed: exit status: 3");
        let ended = within(&program(&["sleep", "600"]), Duration::ZERO).unwrap_err().to_string();
        assert!(ended.starts_with("`sleep` had not ended after 0 s"), "{ended}");
    }
}
