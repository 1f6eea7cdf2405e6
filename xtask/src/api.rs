//! schemathesis against a real `fanfare dev`: thousands of requests, some that fit the OpenAPI document and some that
//! do not.
//!
//! In: the program that was built, and tests/api (expectations, and pinned versions from PyPI, installed below cargo's
//! target folder). Out: an error if an answer differs from the document, if a fitting request is refused or an
//! unfitting one is accepted, if any answer is a 500, or if the server is not alive at the end.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::run::Run;
use crate::tools;
use crate::workspace::Workspace;

/// schemathesis's expectations, and the pinned versions.
pub(crate) const FOLDER: &str = "tests/api";
/// The time after which generating stops.
const SECONDS: &str = "50";
const EXAMPLES: &str = "100";
/// The same requests in each run, so a failure can be repeated. Set another seed by hand: `SCHEMATHESIS_SEED=7`.
const SEED: &str = "1";
const KEY: &str = "key-of-the-api-step";

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let folder = tools::python_packages(workspace, FOLDER)?;
    let mut server = Server::start(workspace)?;
    let seed = std::env::var("SCHEMATHESIS_SEED").unwrap_or_else(|_| SEED.to_owned());
    let config = workspace.path(FOLDER).join("schemathesis.toml");
    Run::new(folder.join("bin/schemathesis"))
        .dir(&folder) // it leaves files in its working directory
        .env("PYTHONPATH", workspace.path(FOLDER))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("NO_PROXY", "127.0.0.1")
        .args(["--config-file".into(), config.into_os_string()])
        .args(["run", &format!("{}/api/openapi.json", server.url), "--header", &format!("Authorization: Bearer {KEY}")])
        .args(["--mode", "all", "--checks", "all", "--max-examples", EXAMPLES, "--max-time", SECONDS, "--seed", &seed])
        .go()?;
    server.is_alive()
}

/// A server that ends with this value.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts one on a free port, and reads the port from its output.
    fn start(workspace: &Workspace) -> Result<Self> {
        let program = workspace.built("debug", "fanfare")?;
        let mut command = Command::new(&program);
        command.args(["dev", "--listen", "127.0.0.1:0", "--shards", "2", "--api-key", KEY]);
        command.env("FANFARE__LOG__LEVEL", "warn").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Server { child, url: String::new() };
        let errors = server.child.stderr.take().context("a pipe was asked for")?;
        let mut lines = BufReader::new(errors).lines();
        for line in lines.by_ref() {
            let line = line?;
            println!("{line}");
            if let Some(url) = line.strip_prefix("listening on ") {
                url.clone_into(&mut server.url);
                break;
            }
        }
        ensure!(!server.url.is_empty(), "the server did not say where it listens");
        // To the end of its life: a full pipe would block it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("server: {line}")));
        Ok(server)
    }

    fn is_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("the server ended meanwhile: {status}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
