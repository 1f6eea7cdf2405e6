//! A panic in a shard ends the process: a node never runs with some of its shards.
//!
//! The test starts itself as a child process, whose server has a protocol that panics at its first message. In one of
//! two runs the child has the log of `fanfare::Logs`, and its stderr is a full pipe that nothing reads.

use fanfare::hub::{Now, Push, Reply};
use fanfare::{Actions, Conversation, Encoded, Fanfare, Message, Place, Protocol};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "FANFARE_TEST_PANIC";
const SIGABRT: i32 = 6;

struct Explosive;

impl Protocol for Explosive {
    fn open(
        &self,
        _place: &Place,
        _: Option<&std::sync::Arc<fanfare::RequestInfo>>,
        _actions: &mut Actions,
    ) -> Box<dyn Conversation> {
        Box::new(Explosive)
    }

    fn encode_push(&self, _push: &Push, _now: Now, _out: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}

impl Conversation for Explosive {
    fn message(&mut self, message: Message<'_>, _actions: &mut Actions) {
        panic!("a bug in a protocol, met by {message:?}");
    }

    fn encode_reply(&mut self, _reply: &Reply, _now: Now, _out: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}

#[test]
fn a_panic_on_a_shard_ends_the_process() {
    match std::env::var(CHILD).as_deref() {
        Ok("with a log") => {
            let _log = fanfare::Logs::default().panics().init().expect("the first in this process");
            return send_one_message();
        }
        Ok(_) => return send_one_message(),
        Err(_) => {}
    }
    let test = std::env::current_exe().expect("this test has a path");
    let child = Command::new(test).args(["--exact", "a_panic_on_a_shard_ends_the_process"]).env(CHILD, "1").output();
    let child = child.expect("this test can be run again");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(SIGABRT), "{}\n{said}", child.status);

    // This pipe is full, and stays full.
    let (_unread, mut full) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&full).expect("flags");
    fcntl_setfl(&full, flags | OFlags::NONBLOCK).expect("a pipe takes flags");
    while full.write(&[b'x'; 1]).is_ok() {}
    fcntl_setfl(&full, flags).expect("a pipe takes flags");
    let test = std::env::current_exe().expect("this test has a path");
    let mut command = Command::new(test);
    command.args(["--exact", "a_panic_on_a_shard_ends_the_process"]).env(CHILD, "with a log");
    let status = command.stdout(Stdio::null()).stderr(full).status().expect("this test can be run again");
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
}

/// The child's part: returns only if the process survives the panic.
fn send_one_message() {
    let server = Fanfare::builder(()).protocol("/", Explosive).build().expect("a valid server");
    let running = server.start(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
    let mut socket = TcpStream::connect(running.tcp_address().expect("TCP")).expect("it accepts");
    let head = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let message = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(&message)).expect("it is read");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero"); // reached only if the process survives
    let _ = socket.read_to_end(&mut Vec::new()); // until the end of the connection, in any way
}
