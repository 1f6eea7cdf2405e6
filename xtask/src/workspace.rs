//! Where things are: the root of the repository, cargo's target folder, the files that git knows.
//!
//! Paths handed out by [`Workspace::files`] are relative to the root and use `/`, as in links and in `git ls-files`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::run::Run;

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// cargo gives the manifest's place at run time; the path known at compile time would be wrong in a moved clone.
    pub(crate) fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask …`")?;
        let root = Path::new(&manifest).parent().context("xtask has no parent folder")?;
        ensure!(root.join("Cargo.toml").is_file(), "no Cargo.toml in {}", root.display());
        Ok(Self { root: root.to_owned() })
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A command that runs at the root.
    pub(crate) fn run(&self, program: &str) -> Run {
        Run::new(program).dir(&self.root)
    }

    pub(crate) fn cargo(&self) -> Run {
        self.run("cargo")
    }

    /// `cargo metadata` of the whole dependency graph. `--locked`: a Cargo.lock that does not fit is an error here.
    /// Otherwise every machine would test other versions.
    pub(crate) fn metadata(&self) -> Result<Value> {
        let json = self.cargo().args(["metadata", "--format-version", "1", "--locked"]).output()?;
        serde_json::from_str(&json).context("cargo metadata printed something that is not JSON")
    }

    /// The folder that cargo builds in, whatever CARGO_TARGET_DIR says.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        let json = self.cargo().args(["metadata", "--format-version", "1", "--no-deps"]).output()?;
        let metadata: Value =
            serde_json::from_str(&json).context("cargo metadata printed something that is not JSON")?;
        metadata["target_directory"].as_str().map(PathBuf::from).context("cargo metadata names no target_directory")
    }

    /// The program that cargo built there.
    pub(crate) fn built(&self, profile: &str, program: &str) -> Result<PathBuf> {
        let path = self.target()?.join(profile).join(program);
        ensure!(path.is_file(), "{} was not built", path.display());
        Ok(path)
    }

    /// Committed files and files to be committed: tracked ones, and new ones that .gitignore does not exclude.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let listing =
            self.run("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).output()?;
        let mut files: Vec<String> = listing.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        files.retain(|name| self.path(name).is_file()); // deleted, but not yet in the index
        files.sort_unstable();
        files.dedup();
        Ok(files)
    }
}
