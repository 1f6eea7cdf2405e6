//! A copy of the working tree below the target folder, in which slips are built: the checkout itself is never touched.
//!
//! [`Tree::sync`] makes it equal to the files that git knows, edits that are not committed included. A file that is
//! the same already is not written, so cargo builds only what differs. Its own target folder lies beside it. One run at
//! a time has the copy: a second one waits for the first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::slip::Slip;
use crate::run::Run;
use crate::workspace::Workspace;

/// The profile of Cargo.toml for programs that are built once for each slip.
pub(crate) const PROFILE: &str = "planted";

pub(crate) struct Tree {
    root: PathBuf,
    target: PathBuf,
    /// Held while the tree is in use.
    _lock: File,
}

impl Tree {
    pub(crate) fn sync(workspace: &Workspace) -> Result<Self> {
        let home = workspace.target()?.join("planted");
        let tree = Self { root: home.join("tree"), target: home.join("target"), _lock: lock(&home)? };
        let files: BTreeSet<String> = workspace.files()?.into_iter().collect();
        for file in &files {
            let bytes = fs::read(workspace.path(file)).with_context(|| format!("cannot read {file}"))?;
            write(&tree.root.join(file), &bytes)?;
        }
        tree.remove_others(&tree.root, &files)?;
        Ok(tree)
    }

    /// Removes what is not among `files`: it has been deleted or renamed since.
    fn remove_others(&self, folder: &Path, files: &BTreeSet<String>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.remove_others(&path, files)?;
                continue;
            }
            let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            if !files.contains(&name) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| format!("{path}: there is no such file"))
    }

    /// Applies a slip until the result is dropped.
    pub(crate) fn plant(&self, slip: &Slip) -> Result<Planted<'_>> {
        let changed = slip.apply(|path| self.read(path)).with_context(|| slip.file())?;
        let mut planted = Planted { tree: self, before: Vec::new() };
        for (path, text) in changed {
            planted.before.push((path.clone(), self.read(&path)?));
            write(&self.root.join(&path), text.as_bytes())?;
        }
        Ok(planted)
    }

    pub(crate) fn cargo(&self, command: &str) -> Run {
        // Incremental: from one slip to the next little changes, also on a machine that builds everything else once.
        let run = Run::new("cargo").dir(&self.root).env("CARGO_INCREMENTAL", "1");
        run.args([command, "--quiet", "--profile", PROFILE, "--target-dir"]).args([&self.target])
    }

    /// The program that cargo built for this tree.
    pub(crate) fn built(&self, program: &str) -> PathBuf {
        self.target.join(PROFILE).join(program)
    }

    pub(crate) fn run(&self, program: &Path) -> Run {
        Run::new(program).dir(&self.root)
    }
}

/// A slip in a tree.
pub(crate) struct Planted<'t> {
    tree: &'t Tree,
    before: Vec<(String, String)>,
}

impl Drop for Planted<'_> {
    fn drop(&mut self) {
        for (path, text) in &self.before {
            if let Err(error) = write(&self.tree.root.join(path), text.as_bytes()) {
                eprintln!("warning: {error:#}; the next run writes it again");
            }
        }
    }
}

fn lock(home: &Path) -> Result<File> {
    let path = home.join("lock");
    let lock = || {
        fs::create_dir_all(home)?;
        let file = File::create(&path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    };
    lock().with_context(|| format!("cannot lock {}", path.display()))
}

/// Only if it differs: the time of a file says whether it must be built.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, bytes)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
