//! Settings from which no server is built, the independence of two servers, and the ends of a server.

mod support;

use fanfare::hub::{Now, Push, Reply};
use fanfare::{Actions, Chat, Config, Conversation, Echo, Encoded, Fanfare, Message, Place, Protocol, ServeError};
use support::{Client, Server, config, shards};

#[test]
fn settings_out_of_range_are_refused_with_the_range() {
    for (found, sentence) in
        [(0, "shards = 0 is not between 1 and 1024"), (2000, "shards = 2000 is not between 1 and 1024")]
    {
        let refused = Fanfare::builder(()).config(Config { shards: found, ..config() }).build().err().expect("refused");
        assert!(matches!(refused, ServeError::OutOfRange { option: "shards", max: 1024, .. }), "{refused:?}");
        assert_eq!(refused.to_string(), sentence);
    }
    let many = (0..64).fold(Fanfare::builder(()), |builder, n| builder.protocol(&format!("/{n}"), Echo::default()));
    assert_eq!(many.build().err().expect("refused").to_string(), "protocols = 64 is not between 0 and 62");
}

#[test]
fn two_protocols_of_one_name_at_one_path_are_refused() {
    let builder = || Fanfare::builder(()).config(config()).protocol("/a", Echo::default());
    let refused = builder().protocol("/a", Chat::default()).build().err().expect("refused");
    assert!(matches!(&refused, ServeError::Ambiguous { path, subprotocol: None } if path == "/a"), "{refused:?}");
    assert!(builder().protocol("/b", Chat::default()).build().is_ok());
}

#[test]
fn an_address_in_use_is_named() {
    let first = Server::start(config());
    let second = Fanfare::builder(()).config(config()).protocol("/", Chat::default()).build().expect("good settings");
    let refused = second.start(&[first.address.into()]).err().expect("the port is taken");
    assert!(refused.to_string().contains(&first.address.to_string()), "{refused}");
    let more = Fanfare::builder(()).config(config()).protocol("/", Chat::default()).build().expect("good settings");
    let free = "127.0.0.1:0".parse().expect("an address");
    assert!(more.start(&[free, first.address.into()]).is_err(), "all of the addresses or none");
}

#[test]
fn two_servers_in_one_process_do_not_hear_each_other() {
    let (one, two) = (Server::start(config()), Server::start(config()));
    let mut ada = Client::join(one.address, "ada", "r");
    let mut bo = Client::join(two.address, "bo", "r");
    for n in 0..10 {
        ada.say(&format!("a{n}"));
        bo.say(&format!("b{n}"));
    }
    for n in 0..10 {
        assert_eq!(ada.until("message")["content"], format!("a{n}"));
        assert_eq!(bo.until("message")["content"], format!("b{n}"));
    }
    assert_eq!(one.open(), (1, 1), "with {} shards", shards());
    ada.close();
    one.drain();
    bo.say("still here");
    assert_eq!(bo.until("message")["content"], "still here");
}

/// Fails as soon as a message arrives.
struct Faulty;

impl Protocol for Faulty {
    fn open(
        &self,
        _: &Place,
        _: Option<&std::sync::Arc<fanfare::RequestInfo>>,
        _: &mut Actions,
    ) -> Box<dyn Conversation> {
        Box::new(Faulty)
    }

    fn encode_push(&self, _: &Push, _: Now, _: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}

impl Conversation for Faulty {
    fn message(&mut self, _: Message<'_>, _: &mut Actions) {
        panic!("a fault of a protocol, on purpose");
    }

    fn encode_reply(&mut self, _: &Reply, _: Now, _: &mut Vec<u8>) -> Encoded {
        Encoded::Nothing
    }
}

/// A node never runs with some of its shards. The process that ends is a child of this test: the same test, with a
/// variable in its environment.
#[cfg(unix)]
#[test]
fn a_panic_on_a_shard_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;

    const CHILD: &str = "FANFARE_TEST_PANIC";
    const NAME: &str = "a_panic_on_a_shard_ends_the_process";
    if std::env::var_os(CHILD).is_some() {
        let server = Server::of(Fanfare::builder(()).config(config()).protocol("/", Faulty));
        let mut client = Client::open(server.address, "/");
        client.text("hello");
        panic!("the process goes on, and this came: {:?}", client.next());
    }
    let program = std::env::current_exe().expect("a test knows its program");
    let child = std::process::Command::new(program).args(["--exact", NAME]).env(CHILD, "1").output().expect("it runs");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(6), "ended by SIGABRT: {said}");
}
