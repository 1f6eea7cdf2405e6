//! `cargo xtask sim --renew …`: makes patches anew after the code that they change was changed itself.
//!
//! In: patches that may apply no more. The newest commit to which a patch applies gives the code that it was made for;
//! a three-way merge brings slip and changes together. Out: the patch, with its header and the lines of today. Where
//! both changed the same lines, the merged file is left below the target folder for a person to mend, and the same
//! command takes it from there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::slip::{self, Slip};
use crate::workspace::Workspace;

pub(crate) const HINT: &str = "cargo xtask sim --renew all";

/// How many commits of the patched files are tried.
const COMMITS_MAX: &str = "200";

pub(crate) fn main(workspace: &Workspace, which: &str) -> Result<()> {
    let folders = workspace.target()?.join("planted/renew");
    let (mut open, mut renewed) = (Vec::new(), 0);
    for slip in super::choose(slip::all(workspace)?, which, "")? {
        match renew(workspace, &folders, &slip).with_context(|| slip.file()) {
            Ok(true) => {
                renewed += 1;
                println!("renewed {}", slip.file());
            }
            Ok(false) => {}
            Err(error) => open.push(format!("{error:#}")),
        }
    }
    println!("{renewed} renewed");
    ensure!(open.is_empty(), "{} are left:\n  {}", open.len(), open.join("\n  "));
    Ok(())
}

/// True where the patch was written anew.
fn renew(workspace: &Workspace, folders: &Path, slip: &Slip) -> Result<bool> {
    let folder = Folder(folders.join(&slip.name));
    let now = |path: &str| {
        std::fs::read_to_string(workspace.path(path)).with_context(|| format!("{path}: there is no such file"))
    };
    let applied = slip.apply(now);
    if applied.is_err() && folder.is_open() {
        folder.take_mended(now)?;
    } else {
        folder.clear()?;
        let slipped = match applied {
            Ok(slipped) => slipped,
            Err(_) => merged(workspace, slip, &folder)?,
        };
        for (path, text) in slipped {
            folder.put("a", &path, &now(&path)?)?;
            folder.put("b", &path, &text)?;
        }
    }
    folder.check_mended()?;
    let patch = folder.diff()?;
    ensure!(!patch.is_empty(), "the code says today what the slip says: it is no slip any more");
    let (path, text) = (workspace.path(&slip.file()), format!("{}{patch}", slip.header));
    Slip::parse(&slip.file(), &text)?.apply(now)?;
    folder.clear()?;
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// The files of today with the slip, possibly with the marks of a conflict.
fn merged(workspace: &Workspace, slip: &Slip, folder: &Folder) -> Result<Vec<(String, String)>> {
    let base = base(workspace, slip)?;
    let then = |path: &str| workspace.run("git").args(["show", &format!("{base}:{path}")]).output();
    let mut out = Vec::new();
    for (path, slipped) in slip.apply(then)? {
        let today = renamed(workspace, &base, &path)?;
        folder.put("base", &path, &then(&path)?)?;
        folder.put("slipped", &path, &slipped)?;
        let names = |side: &str| folder.path(side, &path);
        let merge = Command::new("git")
            .args(["merge-file", "-p", "-q", "-L", "today", "-L", "then", "-L", "slip"])
            .args([workspace.path(&today), names("base"), names("slipped")])
            .output()
            .context("cannot start `git merge-file`")?;
        ensure!(merge.status.code().is_some_and(|code| code < 128), "git merge-file failed: {}", merge.status);
        out.push((today, String::from_utf8(merge.stdout).context("the merged file is not UTF-8")?));
    }
    Ok(out)
}

/// The newest commit to which the slip applies.
fn base(workspace: &Workspace, slip: &Slip) -> Result<String> {
    let paths = slip.files.iter().map(|file| file.path.as_str());
    let log = workspace.run("git").args(["rev-list", "-n", COMMITS_MAX, "HEAD", "--"]).args(paths).output()?;
    let applies = |commit: &&str| {
        slip.apply(|path| workspace.run("git").args(["show", &format!("{commit}:{path}")]).output()).is_ok()
    };
    let commit = log.lines().find(applies).context("it applies to no commit of the files that it names")?;
    Ok(commit.to_owned())
}

/// The present name of a file of that commit.
fn renamed(workspace: &Workspace, commit: &str, path: &str) -> Result<String> {
    if workspace.path(path).is_file() {
        return Ok(path.to_owned());
    }
    let renames =
        workspace.run("git").args(["diff", "--name-status", "--find-renames", "--diff-filter=R", commit]).output()?;
    let names = renames.lines().filter_map(|line| line.split_once('\t')?.1.split_once('\t'));
    let found = names.into_iter().find(|(old, _)| *old == path);
    let (_, new) = found.with_context(|| format!("{path} is gone: plant the slip in another file by hand"))?;
    Ok(new.to_owned())
}

/// Where a slip is made anew: the files of today below `a`, with the slip below `b`.
struct Folder(PathBuf);

impl Folder {
    fn path(&self, side: &str, path: &str) -> PathBuf {
        self.0.join(side).join(path)
    }

    fn put(&self, side: &str, path: &str, text: &str) -> Result<()> {
        let path = self.path(side, path);
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            std::fs::write(&path, text)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn is_open(&self) -> bool {
        self.0.join("b").is_dir()
    }

    fn clear(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }

    /// A person has mended what is below `b`, as long as the code has not changed once more.
    fn take_mended(&self, now: impl Fn(&str) -> Result<String>) -> Result<()> {
        for path in self.files()? {
            let is_of_today =
                now(&path).is_ok_and(|text| std::fs::read_to_string(self.path("a", &path)).is_ok_and(|a| a == text));
            if !is_of_today {
                let folder = self.0.display();
                bail!("{path} has changed since {folder} was made: remove that folder, and begin again");
            }
        }
        Ok(())
    }

    fn check_mended(&self) -> Result<()> {
        for path in self.files()? {
            let file = self.path("b", &path);
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            if text.lines().any(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ")) {
                bail!("slip and code changed the same lines: mend {}, and renew it again", file.display());
            }
        }
        Ok(())
    }

    /// The files below `b`, relative to it.
    fn files(&self) -> Result<Vec<String>> {
        fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> std::io::Result<()> {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    walk(root, &path, found)?;
                } else if let Ok(name) = path.strip_prefix(root) {
                    found.push(name.to_string_lossy().replace('\\', "/"));
                }
            }
            Ok(())
        }
        let (root, mut found) = (self.0.join("b"), Vec::new());
        walk(&root, &root, &mut found).with_context(|| format!("cannot list {}", root.display()))?;
        Ok(found)
    }

    /// The output of `git diff` for `a` and `b`, without the names of git's objects.
    fn diff(&self) -> Result<String> {
        let mut git = Command::new("git");
        // One line of context: the fewer lines a patch shows, the fewer changes it does not survive.
        git.args(["diff", "--no-index", "--no-prefix", "--no-color", "--no-ext-diff", "--unified=1", "a", "b"]);
        let output = git.current_dir(&self.0).output().context("cannot start `git diff`")?;
        ensure!(output.status.code().is_some_and(|code| code <= 1), "git diff failed: {}", output.status);
        let text = String::from_utf8(output.stdout).context("the diff is not UTF-8")?;
        let lines = text.lines().filter(|line| !line.starts_with("index "));
        Ok(lines.map(|line| format!("{line}\n")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "It breaks.\n\nseed: 7\n\n--- a/x.rs\n+++ b/x.rs\n\
                         @@ -2,4 +2,4 @@\n before\n-right\n+wrong\n between\n after\n";

    /// A repository in which the slip applies to the first commit.
    struct Repository {
        workspace: Workspace,
        folders: PathBuf,
    }

    impl Repository {
        fn new(name: &str) -> Self {
            let home = std::env::temp_dir().join(format!("fanfare-renew-{}-{name}", std::process::id()));
            let root = home.join("repository");
            std::fs::create_dir_all(root.join("sim/planted")).unwrap();
            let repository = Self { workspace: Workspace { root }, folders: home.join("renew") };
            repository.git(&["init", "--quiet"]);
            repository.write("sim/planted/s.patch", PATCH);
            repository.commit("a\nbefore\nright\nbetween\nafter\nb\n");
            repository
        }

        fn git(&self, args: &[&str]) {
            let name = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
            self.workspace.run("git").args(name).args(args).output().unwrap();
        }

        fn write(&self, path: &str, text: &str) {
            std::fs::write(self.workspace.path(path), text).unwrap();
        }

        fn commit(&self, text: &str) {
            self.write("x.rs", text);
            self.git(&["add", "--all"]);
            self.git(&["commit", "--quiet", "--message", "a commit"]);
        }

        fn patch(&self) -> String {
            std::fs::read_to_string(self.workspace.path("sim/planted/s.patch")).unwrap()
        }

        fn renew(&self) -> Result<bool> {
            renew(&self.workspace, &self.folders, &Slip::parse("sim/planted/s.patch", &self.patch())?)
        }

        /// The file with the slip.
        fn slipped(&self) -> String {
            let slip = Slip::parse("sim/planted/s.patch", &self.patch()).unwrap();
            let text = std::fs::read_to_string(self.workspace.path("x.rs")).unwrap();
            slip.apply(|_| Ok(text.clone())).unwrap()[0].1.clone()
        }
    }

    impl Drop for Repository {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.workspace.root.parent().unwrap());
        }
    }

    #[test]
    fn a_change_beside_the_slip_is_merged_and_the_header_stays() {
        let repository = Repository::new("merged");
        repository.commit("a\nnew\nbefore\nright\nbetween\nafter all\nb\n");
        assert!(repository.renew().unwrap());
        assert_eq!(repository.slipped(), "a\nnew\nbefore\nwrong\nbetween\nafter all\nb\n");
        assert!(repository.patch().starts_with("It breaks.\n\nseed: 7\n\ndiff --git a/x.rs b/x.rs\n--- a/x.rs\n"));
        assert!(!repository.renew().unwrap(), "it is up to date");
    }

    #[test]
    fn a_conflict_is_mended_by_a_person_and_taken_from_there() {
        let repository = Repository::new("conflict");
        repository.commit("a\nbefore\nquite right\nbetween\nafter\nb\n");
        let error = repository.renew().unwrap_err().to_string();
        let mended = repository.folders.join("s/b/x.rs");
        assert!(error.contains(&mended.display().to_string()), "{error}");
        assert!(repository.renew().is_err(), "the marks are still there");
        std::fs::write(&mended, "a\nbefore\nquite wrong\nbetween\nafter\nb\n").unwrap();
        assert!(repository.renew().unwrap());
        assert_eq!(repository.slipped(), "a\nbefore\nquite wrong\nbetween\nafter\nb\n");
    }

    #[test]
    fn a_slip_that_the_code_has_become_is_told() {
        let repository = Repository::new("become");
        repository.commit("a\nbefore\nwrong\nbetween\nafter\nb\n");
        assert!(repository.renew().unwrap_err().to_string().contains("no slip any more"));
    }
}
