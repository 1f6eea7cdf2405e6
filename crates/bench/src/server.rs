//! A server under measurement: a process on its core or cores, its CPU time and its memory.
//!
//! Started by a [`Launch`], reachable when `start` returns, ended when dropped. CPU time is that of all its threads, in
//! nanoseconds from the scheduler if the kernel provides them, else in ticks. Everything is read from `/proc`: Linux
//! only.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thiserror::Error;

use crate::peers::Launch;

/// Why a server could not be started or watched.
#[derive(Debug, Error)]
pub enum ServerError {
    /// A system call failed.
    #[error("cannot {doing}")]
    Io {
        /// The attempted operation.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// It ended, or never listened. Its output may have the reason.
    #[error("{program} does not serve on {addr}: {why}\n{printed}")]
    NotServing {
        /// The program.
        program: String,
        /// Where it should be.
        addr: SocketAddr,
        /// `exit status …` or `no answer in …`.
        why: String,
        /// The end of its output.
        printed: String,
    },
    /// `/proc` has an unexpected content.
    #[error("{path} is not understood")]
    Proc {
        /// The file.
        path: String,
    },
}

/// Pins this thread, and what it spawns from now on, to these cores.
pub fn pin(cores: &[usize]) -> Result<(), ServerError> {
    let mut cpus = CpuSet::new();
    cores.iter().for_each(|&core| cpus.set(core));
    sched_setaffinity(None, &cpus).map_err(io_error(format!("run on core {cores:?}")))
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pid: u32,
    /// The process, if this program must end it, and the file of its output.
    child: Option<(Child, PathBuf)>,
    /// The folder of its files.
    files: Option<PathBuf>,
    /// The server behind it, which counts as a part of it.
    behind: Option<Box<Server>>,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// The load average of the last minute.
pub fn load_average() -> Result<f64, ServerError> {
    let path = "/proc/loadavg";
    let text = fs::read_to_string(path).map_err(io_error(format!("read {path}")))?;
    text.split_whitespace().next().and_then(|average| average.parse().ok()).ok_or_else(|| proc_error(path))
}

const START_MAX: Duration = Duration::from_secs(15);

impl Server {
    /// A free port of the loopback. Another program may take it before the server does; the start then fails.
    pub fn free_addr() -> Result<SocketAddr, ServerError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(io_error("find a free port"))?;
        listener.local_addr().map_err(io_error("find a free port"))
    }

    /// Starts it on `cores` and waits until it accepts connections.
    pub fn start(launch: &Launch, addr: SocketAddr, cores: &[usize]) -> Result<Self, ServerError> {
        let behind = match &launch.behind {
            None => None,
            Some(behind) => {
                let backend = Self::free_addr()?;
                let mut behind = Launch::clone(behind);
                behind.args.iter_mut().for_each(|arg| *arg = arg.replace("{backend}", &backend.to_string()));
                Some(Box::new(Self::start(&behind, backend, cores)?))
            }
        };
        let program = launch.program.display().to_string();
        let files = std::env::temp_dir().join(format!("fanfare-bench-{}-{}", std::process::id(), addr.port()));
        let backend = behind.as_ref().map_or(String::new(), |behind| behind.addr.to_string());
        let filled = |text: &str| text.replace("{files}", &files.to_string_lossy()).replace("{backend}", &backend);
        if !launch.files.is_empty() {
            fs::create_dir_all(&files).map_err(io_error(format!("create {}", files.display())))?;
        }
        for (name, text) in &launch.files {
            let path = files.join(name);
            fs::write(&path, filled(text)).map_err(io_error(format!("write {}", path.display())))?;
        }
        let log = std::env::temp_dir().join(format!("fanfare-bench-{}-{}.log", std::process::id(), addr.port()));
        let output = fs::File::create(&log).map_err(io_error(format!("create {}", log.display())))?;
        let errors = output.try_clone().map_err(io_error("share a file"))?;
        // A child inherits the affinity of the thread that spawns it, and so do the threads that it starts before they
        // could be pinned from outside.
        let ours = sched_getaffinity(None).map_err(io_error("ask for our core"))?;
        pin(cores)?;
        let spawned = Command::new(&launch.program)
            .args(launch.args.iter().map(|arg| filled(arg)))
            .env("NODE_ENV", "production")
            .envs(launch.envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        sched_setaffinity(None, &ours).map_err(io_error("return to our core"))?;
        let child = spawned.map_err(io_error(format!("start {program}")))?;
        let files = (!launch.files.is_empty()).then_some(files);
        let mut server = Self { pid: child.id(), child: Some((child, log)), files, behind, addr };
        server.await_listening(&program)?;
        Ok(server)
    }

    /// A server that is already running: dropping this does not end it.
    pub fn attached(pid: u32, addr: SocketAddr) -> Self {
        Self { pid, child: None, files: None, behind: None, addr }
    }

    fn await_listening(&mut self, program: &str) -> Result<(), ServerError> {
        let started = Instant::now();
        let why = loop {
            if let Some((child, _)) = &mut self.child
                && let Some(status) = child.try_wait().map_err(io_error("ask for a child's state"))?
            {
                break status.to_string();
            }
            if TcpStream::connect(self.addr).is_ok() {
                return Ok(());
            }
            if started.elapsed() > START_MAX {
                break format!("no answer in {START_MAX:?}");
            }
            sleep(Duration::from_millis(5));
        };
        Err(ServerError::NotServing { program: program.to_owned(), addr: self.addr, why, printed: self.printed() })
    }

    /// If it has ended: its exit status, and the end of its output.
    pub fn ended(&mut self) -> Option<String> {
        // The last bytes of a connection may arrive shortly before its process has ended.
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(500) {
            if let Ok(Some(status)) = self.child.as_mut()?.0.try_wait() {
                return Some(format!("{status}\n{}", self.printed()));
            }
            sleep(Duration::from_millis(10));
        }
        None
    }

    fn printed(&self) -> String {
        let printed = self.child.as_ref().and_then(|(_, log)| fs::read_to_string(log).ok()).unwrap_or_default();
        let tail = printed.char_indices().rev().nth(1000).map_or(0, |(at, _)| at);
        printed[tail..].to_owned()
    }

    /// CPU time of all its threads so far, once it has come to rest: two equal readings, or the reading after 50 ms.
    /// The time of a running thread is not up to date, and work after the last delivery counts too.
    pub fn cpu(&self) -> Result<Duration, ServerError> {
        let started = Instant::now();
        let mut last = self.cpu_now()?;
        while started.elapsed() < Duration::from_millis(50) {
            sleep(Duration::from_millis(5));
            let now = self.cpu_now()?;
            if now == last {
                break;
            }
            last = now;
        }
        Ok(last)
    }

    /// The same at once, for a server that continues to work.
    pub fn cpu_now(&self) -> Result<Duration, ServerError> {
        Ok(self.figures(cpu_of)?.into_iter().sum())
    }

    /// Bytes of its own user memory: the proportional set size. The buffers of the kernel's sockets are not included.
    pub fn memory_bytes(&self) -> Result<u64, ServerError> {
        Ok(self.figures(memory_of)?.into_iter().sum())
    }

    /// Of each of its processes and of the server behind it. Those that end meanwhile count nothing, except a server's
    /// own.
    fn figures<T>(&self, figure: fn(u32) -> Result<T, ServerError>) -> Result<Vec<T>, ServerError> {
        let mut figures = Vec::new();
        for pid in self.processes()? {
            match figure(pid) {
                Err(ServerError::Io { source, .. }) if pid != self.pid && has_ended(&source) => {}
                figure => figures.push(figure?),
            }
        }
        if let Some(behind) = &self.behind {
            figures.extend(behind.figures(figure)?);
        }
        Ok(figures)
    }

    /// Its process, and those that it started (the workers of nginx).
    fn processes(&self) -> Result<Vec<u32>, ServerError> {
        let mut found = vec![self.pid];
        let mut next = 0;
        while let Some(&pid) = found.get(next) {
            match children_of(pid) {
                Err(ServerError::Io { source, .. }) if pid != self.pid && has_ended(&source) => {}
                children => found.extend(children?),
            }
            next += 1;
        }
        Ok(found)
    }
}

/// CPU time of all threads of a process. A thread that ends between the listing and its reading counts nothing.
fn cpu_of(pid: u32) -> Result<Duration, ServerError> {
    let mut total = Duration::ZERO;
    for task in tasks_of(pid)? {
        let path = task.join("schedstat");
        match fs::read_to_string(&path) {
            Ok(text) => total += parse_schedstat(&text).ok_or_else(|| proc_error(path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && task.exists() => return cpu_in_ticks(pid),
            Err(error) if has_ended(&error) => {}
            Err(source) => return Err(ServerError::Io { doing: format!("read {}", path.display()), source }),
        }
    }
    Ok(total)
}

/// For kernels without `schedstat`.
fn cpu_in_ticks(pid: u32) -> Result<Duration, ServerError> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(io_error(format!("read {path}")))?;
    let ticks = parse_stat(&text).ok_or_else(|| proc_error(path))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn memory_of(pid: u32) -> Result<u64, ServerError> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(io_error(format!("read {path}")))?;
    parse_pss(&text).ok_or_else(|| proc_error(path))
}

/// The processes that a process has started. None where the kernel does not tell.
fn children_of(pid: u32) -> Result<Vec<u32>, ServerError> {
    let mut children = Vec::new();
    for task in tasks_of(pid)? {
        let text = fs::read_to_string(task.join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Whether a file of proc(5) is gone because its thread or process has ended: before it was opened, or after.
fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn tasks_of(pid: u32) -> Result<Vec<PathBuf>, ServerError> {
    let tasks = format!("/proc/{pid}/task");
    fs::read_dir(&tasks)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(io_error(format!("read {tasks}")))
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, log)) = &mut self.child {
            // A program with processes of its own must end them itself.
            if children_of(self.pid).is_ok_and(|children| !children.is_empty()) {
                terminate(child);
            }
            // Both fail only if it has already ended.
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_file(log);
        }
        if let Some(files) = &self.files {
            let _ = fs::remove_dir_all(files);
        }
    }
}

/// Asks a process to end, and waits a while until it has.
fn terminate(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if pid.is_none_or(|pid| kill_process(pid, Signal::TERM).is_err()) {
        return;
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) && matches!(child.try_wait(), Ok(None)) {
        sleep(Duration::from_millis(5));
    }
}

/// Time on a CPU in ns, time waiting for one in ns, number of slices.
fn parse_schedstat(text: &str) -> Option<Duration> {
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// proc_pid_stat(5): fields 14 and 15 are utime and stime. The name in field 2 may hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn io_error<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> ServerError {
    let doing = doing.into();
    move |source| ServerError::Io { doing, source: source.into() }
}

fn proc_error(path: impl ToString) -> ServerError {
    ServerError::Proc { path: path.to_string() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn threads_and_processes_that_end_during_a_reading() {
        let server = Server::attached(std::process::id(), "127.0.0.1:1".parse().expect("an address"));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        thread::spawn(|| {}).join().expect("no panic");
                    }
                });
            }
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    Command::new("true").status().expect("it runs");
                }
            });
            let readings: Vec<_> = (0..300).map(|_| server.cpu_now().and(server.memory_bytes())).collect();
            done.store(true, Ordering::Relaxed);
            for reading in readings {
                assert!(reading.expect("a reading") > 0);
            }
        });
    }

    #[test]
    fn files_of_proc() {
        assert_eq!(parse_schedstat("516328 33139 2\n"), Some(Duration::from_nanos(516_328)));
        assert_eq!(parse_schedstat(""), None);
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 900 0 1 0 7 5 0 0 20 0 1 0 100 1 1";
        assert_eq!(parse_stat(stat), Some(12));
        let rollup = "55d-7ff ---p 00000000 00:00 0 [rollup]\nRss:   5000 kB\nPss:   4096 kB\nPss_Dirty: 10 kB\n";
        assert_eq!(parse_pss(rollup), Some(4096 * 1024));
    }

    #[test]
    fn our_own_process_can_be_read() {
        let path = format!("/proc/{}/smaps_rollup", std::process::id());
        let text = fs::read_to_string(path).expect("Linux");
        assert!(parse_pss(&text).expect("understood") > 0);
    }
}
