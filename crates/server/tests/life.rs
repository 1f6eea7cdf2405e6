//! The life of a server: dropping it ends it in every case, and a start that fails leaves nothing behind.

mod support;

use fanfare::{Address, AdminOn, ApiKey, Config, Fanfare, Publish, Running};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use support::{DEADLINE, config, shards};

/// The tests count the threads of all servers of the process, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until a condition holds: an end takes a moment.
fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < deadline, "{what} never came about");
        std::thread::yield_now();
    }
}

/// Threads of servers that run in this process.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("shard-") || name.starts_with("admin")).count()
}

fn any_port() -> Address {
    "127.0.0.1:0".parse().expect("an address")
}

/// A server with everything that holds a reference to it: a handler, an API key, an admin port.
fn server() -> Fanfare {
    Fanfare::builder(())
        .config(Config { close_timeout: std::time::Duration::from_millis(500), ..config() })
        .admin(AdminOn::Address(any_port()))
        .api_key(ApiKey::new("app", "a-key-of-sixteen-bytes-or-more").expect("a key"))
        .on_publish("**", async |publish: Publish| Ok(publish))
        .build()
        .expect("good settings")
}

fn ports(running: &Running) -> [SocketAddr; 2] {
    let Some(&Address::Tcp(admin)) = running.admin_address() else { panic!("an admin port") };
    [running.tcp_address().expect("TCP"), admin]
}

#[test]
fn dropping_ends_the_server_whatever_else_is_held_of_it() {
    let _alone = alone();
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let ended = |name: &str, ports: &[SocketAddr]| {
        for port in ports {
            until(&format!("{name}: the end of {port}"), || TcpListener::bind(port).is_ok());
        }
        until(&format!("{name}: the end of the threads"), || threads() == 0);
    };

    let fanfare = server();
    let handle = fanfare.handle();
    let running = fanfare.start(&[any_port()]).expect("it starts");
    let taken = ports(&running);
    let client = TcpStream::connect(taken[0]).expect("it listens");
    drop(running);
    ended("start", &taken);
    let refused = runtime.block_on(handle.publish("a", "b").into_future()).expect_err("nobody is there");
    assert_eq!(refused.code, fanfare::hub::ErrorCode::Unavailable);
    drop(client);

    let (service, running) = server().into_service().expect("it starts");
    until("the threads of a service", || threads() == shards() + 1);
    drop(running);
    ended("into_service", &[]);
    drop(service);

    let test = server().test().expect("it starts");
    let handle = test.handle();
    drop(test);
    ended("test", &[]);
    drop(handle);

    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    for stopped in [false, true] {
        let (fanfare, address) = (server(), free.to_string());
        let serving = runtime.spawn(async move {
            match stopped {
                false => fanfare.serve(&address).await,
                true => fanfare.serve_until(&address, std::future::ready(())).await,
            }
        });
        match stopped {
            false => {
                until("a server that serves", || TcpStream::connect(free).is_ok());
                serving.abort();
            }
            true => runtime.block_on(serving).expect("no panic").expect("a clean end"),
        }
        ended("serve", &[free]);
    }

    for join in [false, true] {
        let running = server().start(&[any_port()]).expect("it starts");
        let taken = ports(&running);
        runtime.block_on(async {
            // The future is polled once, and dropped.
            tokio::select! {
                biased;
                _ = async { if join { running.join().await } else { running.drain().await } } => {}
                () = std::future::ready(()) => {}
            }
        });
        ended("a drain or join that is given up", &taken);
    }
}

#[test]
fn a_start_that_fails_leaves_no_thread_port_or_file() {
    let _alone = alone();
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let folder = std::env::temp_dir().join(format!("fanfare-life-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let (first, second) = (folder.join("first.sock"), folder.join("second.sock"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = Address::Tcp(taken.local_addr().expect("bound")).to_string().parse::<Address>().map(|a| (taken, a));
    let (_listener, taken) = taken.expect("an address");
    let unix = |path: &std::path::Path| Address::Unix(path.to_owned());
    let nowhere = Address::Unix("/nowhere/at/all.sock".into());
    let with_admin = |on| {
        Fanfare::builder(()).config(config()).admin(on).on_publish("**", async |publish: Publish| Ok(publish)).build()
    };
    let rows = [
        ("the second address is taken", AdminOn::Off, vec![unix(&first), taken.clone()]),
        ("the second socket has no folder", AdminOn::Off, vec![unix(&first), nowhere.clone()]),
        ("the admin port is taken", AdminOn::Address(taken.clone()), vec![unix(&first), any_port()]),
        ("the admin socket has no folder", AdminOn::Address(nowhere), vec![unix(&first)]),
        ("the admin socket is the server's", AdminOn::Address(unix(&first)), vec![unix(&first)]),
        (
            "the second address fails, the admin port would do",
            AdminOn::Address(unix(&second)),
            vec![unix(&first), taken],
        ),
    ];
    for (name, on, addresses) in rows {
        let fanfare = with_admin(on).expect("good settings");
        let handle = fanfare.handle();
        assert!(fanfare.start(&addresses).is_err(), "{name}");
        until(&format!("{name}: the end of the threads"), || threads() == 0);
        assert!(!first.exists() && !second.exists(), "{name}: a file stays");
        let refused = runtime.block_on(handle.publish("a", "b").into_future()).expect_err("nobody is there");
        assert_eq!(refused.code, fanfare::hub::ErrorCode::Unavailable, "{name}");
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// The child process of this test has few descriptors, so that one of its many shards cannot make its runtime.
#[test]
fn a_shard_that_cannot_start_takes_the_others_with_it() {
    const CHILD: &str = "FANFARE_TEST_FEW_FILES";
    const NAME: &str = "a_shard_that_cannot_start_takes_the_others_with_it";
    let _alone = alone();
    if std::env::var_os(CHILD).is_some() {
        let of = |shards| Fanfare::builder(()).config(Config { shards, ..config() }).build().expect("good settings");
        // The first runtime of a process opens the descriptors that all runtimes share.
        of(1).start(&[any_port()]).expect("it starts").drain_blocking().expect("a clean end");
        let fanfare = of(40);
        let before = std::fs::read_dir("/proc/self/fd").expect("Linux").count();
        let started = fanfare.start(&[any_port()]);
        let refused = started.err().expect("forty shards need more files than there are");
        assert!(refused.to_string().contains("runtime for a shard"), "{refused}");
        until("the end of the threads", || threads() == 0);
        assert_eq!(std::fs::read_dir("/proc/self/fd").expect("Linux").count(), before, "open files");
        return;
    }
    let program = std::env::current_exe().expect("a test knows its program");
    let script = format!("ulimit -n 100; exec {:?} --exact {NAME}", program);
    let child = std::process::Command::new("sh").args(["-c", &script]).env(CHILD, "1").output().expect("it runs");
    assert!(
        child.status.success(),
        "{}{}",
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr)
    );
}
