//! The tools that the tests need besides Rust: finds each, installs it if that is allowed, or prints the command for
//! it.
//!
//! As root on Debian a missing package is installed (in containers and CI). On any other system nothing is changed: the
//! error is the command to run. npm packages come from lock files only, and only if the lock has changed since.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::run::Run;
use crate::workspace::Workspace;

struct Tool {
    command: &'static str,
    /// Debian's name of the package with the command; several stand with a space between.
    package: &'static str,
    /// A variable that may name another program in its place.
    instead: Option<&'static str>,
    needed_by: &'static str,
}

const NPM_USERS: &str = "the TypeScript SDK, tests/clients and the peers of the bench";

const PROXIES: &str = "the configurations of docs/proxies.md, which a test runs";

/// Debian ships Python without the module that makes environments.
const PYTHON_PACKAGE: &str = "python3-venv";

/// The command is of the first one; the second one brings HTTP/2.
const HTTPX_PACKAGES: &str = "python3-httpx python3-h2";

const TOOLS: &[Tool] = &[
    Tool { command: "git", package: "git", instead: None, needed_by: "the house checks" },
    Tool { command: "node", package: "nodejs", instead: None, needed_by: NPM_USERS },
    Tool { command: "npm", package: "npm", instead: None, needed_by: NPM_USERS },
    Tool { command: "curl", package: "curl", instead: None, needed_by: "the lines of the README, which tests run" },
    Tool {
        command: "python3",
        package: PYTHON_PACKAGE,
        instead: None,
        needed_by: "schemathesis, which tries the HTTP API, and the Socket.IO client in tests/clients",
    },
    Tool { command: "pebble", package: "pebble", instead: None, needed_by: "the tests of certificates by ACME" },
    Tool { command: "httpx", package: HTTPX_PACKAGES, instead: None, needed_by: "the Python client in tests/clients" },
    Tool { command: "go", package: "golang-go", instead: None, needed_by: "the Go client in tests/clients" },
    Tool { command: "nginx", package: "nginx-light", instead: None, needed_by: PROXIES },
    Tool { command: "caddy", package: "caddy", instead: None, needed_by: PROXIES },
    Tool { command: "haproxy", package: "haproxy", instead: None, needed_by: PROXIES },
    Tool {
        command: "chromium",
        package: "chromium",
        instead: Some("CHROMIUM"),
        needed_by: "the browser tests in tests/clients",
    },
];

impl Tool {
    fn is_there(&self) -> bool {
        let instead = self.instead.and_then(std::env::var_os);
        instead.map_or_else(|| found(self.command), |program| is_executable(Path::new(&program)))
    }
}

/// `node --test` as the client tests use it.
const NODE_MAJOR_MIN: u32 = 20;

/// Makes sure that each of `commands` (rows of [`TOOLS`]) can be run.
pub(crate) fn require(workspace: &Workspace, commands: &[&str]) -> Result<()> {
    let missing: Vec<&Tool> =
        TOOLS.iter().filter(|tool| commands.contains(&tool.command) && !tool.is_there()).collect();
    for tool in &missing {
        println!("{} is missing, needed by {}", tool.command, tool.needed_by);
    }
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.package.split(' ')).collect();
    if !packages.is_empty() {
        install(workspace, &packages)?;
    }
    if let Some(tool) = missing.iter().find(|tool| !tool.is_there()) {
        let place =
            tool.instead.map_or_else(|| "in PATH".to_owned(), |name| format!("in PATH, or where {name} points"));
        bail!("installed {}, but there is still no command `{}` {place}", tool.package, tool.command);
    }
    if commands.contains(&"node") {
        check_node(&workspace.run("node").args(["--version"]).output()?)?;
    }
    Ok(())
}

pub(crate) fn found(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| is_executable(&dir.join(command)))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file() || path.with_extension("exe").is_file() || path.with_extension("cmd").is_file()
}

fn install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let root = found("id") && workspace.run("id").args(["-u"]).output()?.trim() == "0";
    if !(is_debian(&os_release) && root) {
        bail!("{}", advice(packages, is_debian(&os_release), root, found));
    }
    // Once per run, and only when something is missing: the lists of a fresh image are empty or old.
    workspace.run("apt-get").args(["update"]).go()?;
    workspace
        .run("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages)
        .go()
}

/// Debian itself: some of its descendants ship Chromium as a snap, which does not run in a container.
fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| line == "ID=debian")
}

fn advice(packages: &[&str], debian: bool, root: bool, found: impl Fn(&str) -> bool) -> String {
    const MANAGERS: [(&str, &str); 5] = [
        ("apt-get", "apt-get update && SUDO apt-get install -y --no-install-recommends"),
        ("dnf", "dnf install"),
        ("pacman", "pacman -S"),
        ("apk", "apk add"),
        ("brew", "brew install"),
    ];
    let list = packages.join(" ");
    let Some((manager, install)) = MANAGERS.iter().find(|(manager, _)| found(manager)) else {
        return format!("install these first (Debian's names): {list}");
    };
    let sudo = if root || *manager == "brew" { "" } else { "sudo " };
    let command = format!("{sudo}{} {list}", install.replace("SUDO ", sudo));
    let names = if debian { "" } else { " (Debian's package names: yours may differ)" };
    format!("something is missing; run this, then try again{names}:\n\n    {command}")
}

fn check_node(version: &str) -> Result<()> {
    let version = version.trim();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    let major = major.with_context(|| format!("`node --version` printed `{version}`"))?;
    ensure!(major >= NODE_MAJOR_MIN, "node {version} is too old: {NODE_MAJOR_MIN} or newer is needed");
    Ok(())
}

/// `npm ci` in `dir`, unless the installed packages came from this very lock file.
pub(crate) fn npm_ci(workspace: &Workspace, dir: &str) -> Result<()> {
    let folder = workspace.path(dir);
    let lock_path = folder.join("package-lock.json");
    let lock = std::fs::read(&lock_path).with_context(|| format!("cannot read {}", lock_path.display()))?;
    if is_current(&folder, &lock) {
        println!("{dir}: node_modules is up to date with package-lock.json");
        return Ok(());
    }
    Run::new("npm").dir(&workspace.root).args(["ci", "--no-audit", "--no-fund", "--prefix", dir]).go()?;
    // A lock without packages leaves no node_modules behind.
    let stamp = stamp(&folder);
    std::fs::create_dir_all(folder.join("node_modules"))?;
    std::fs::write(&stamp, &lock).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The stamp is a copy of the lock, written after npm succeeded. Times would not work: git gives a file the time of the
/// checkout, and an interrupted `npm ci` leaves a fresh but incomplete node_modules.
fn is_current(folder: &Path, lock: &[u8]) -> bool {
    std::fs::read(stamp(folder)).is_ok_and(|installed| installed == lock)
}

fn stamp(folder: &Path) -> PathBuf {
    folder.join("node_modules/.installed-package-lock.json")
}

/// An environment with the packages of `dir/requirements.txt`, below cargo's target folder, unless it has exactly
/// these. Returns its path.
pub(crate) fn python_packages(workspace: &Workspace, dir: &str) -> Result<PathBuf> {
    let list = workspace.path(dir).join("requirements.txt");
    let wanted = std::fs::read(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let folder = workspace.target()?.join("python").join(dir.replace('/', "-"));
    // A copy of the list, written after pip succeeded.
    let stamp = folder.join(".installed-requirements.txt");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("{dir}: the Python packages are up to date with requirements.txt");
        return Ok(folder);
    }
    if workspace.run("python3").args(["-c", "import ensurepip, venv"]).output().is_err() {
        println!("python3 cannot make environments");
        install(workspace, &[PYTHON_PACKAGE])?;
    }
    workspace.run("python3").args(["-m".as_ref(), "venv".as_ref(), "--clear".as_ref(), folder.as_os_str()]).go()?;
    Run::new(folder.join("bin/python"))
        .dir(&workspace.root)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"])
        .args([list])
        .go()?;
    std::fs::write(&stamp, &wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_a_command_to_paste() {
        let only = |name: &'static str| move |command: &str| command == name;
        let rows = [
            (
                "debian, not root",
                true,
                false,
                "apt-get",
                "sudo apt-get update && sudo apt-get install -y --no-install-recommends a b",
            ),
            (
                "ubuntu, root",
                false,
                true,
                "apt-get",
                "    apt-get update && apt-get install -y --no-install-recommends a b",
            ),
            ("fedora", false, false, "dnf", "sudo dnf install a b"),
            ("mac", false, false, "brew", "    brew install a b"),
            ("unknown", false, false, "none", "install these first (Debian's names): a b"),
        ];
        for (name, debian, root, manager, expected) in rows {
            let text = advice(&["a", "b"], debian, root, only(manager));
            assert!(text.ends_with(expected), "{name}: {text}");
        }
    }

    #[test]
    fn only_debian_itself_is_debian() {
        assert!(is_debian("NAME=x\nID=debian\n"));
        assert!(!is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn node_must_be_new_enough() {
        check_node("v20.1.2\n").unwrap();
        check_node("v22.0.0").unwrap();
        assert_eq!(check_node("v18.9.0").unwrap_err().to_string(), "node v18.9.0 is too old: 20 or newer is needed");
        assert!(check_node("what").is_err());
    }

    #[test]
    fn every_step_needs_known_tools() {
        for command in crate::test::STEPS.iter().flat_map(|step| step.needs) {
            assert!(TOOLS.iter().any(|tool| tool.command == *command), "{command} has no row in TOOLS");
        }
    }
}
