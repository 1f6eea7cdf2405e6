//! A program that embeds the server and reads a file: the file's rules come before those of the code, and a reload
//! changes only the file's.

use fanfare::hub::{Pattern, Rule, Rules};
use fanfare::{Address, Fanfare, Running, Who};
use fanfare_client::Client;
use fanfare_client::core::Event;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

fn start(name: &str, file: &str) -> Running {
    let path = std::env::temp_dir().join(format!("fanfare-{name}-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("written");
    let built = Fanfare::builder(())
        .config_file(path.to_str().expect("UTF-8"))
        .unwrap_or_else(|problems| panic!("{problems}"))
        .channel("a:*", |c| c.subscribe(Who::Anyone))
        .channel("b:*", |c| c.subscribe(Who::Anyone))
        .build()
        .expect("good");
    std::fs::remove_file(&path).expect("removed");
    let address: Address = "127.0.0.1:0".parse().expect("an address");
    built.start(&[address]).expect("a free port")
}

async fn connect(running: &Running) -> Client {
    let address = running.tcp_address().expect("TCP");
    Client::connect(format!("ws://{address}")).await.expect("it connects")
}

#[tokio::test]
async fn rules_of_the_file_stand_before_those_of_the_code_and_can_be_reloaded() {
    let running = start("rules", "shards = 2\n[[channels]]\nmatch = \"a:*\"\nsubscribe = \"nobody\"\n");
    let client = connect(&running).await;
    let refused = client.subscribe("a:1").await.expect_err("the file says nobody").to_string();
    assert!(refused.contains("a:*"), "{refused}");
    let mut b = client.subscribe("b:1").await.expect("the code says anyone");
    assert!(matches!(b.next().await, Some(Event::Live { .. })));

    // The file's rule for `a:*` is removed, so the code's rule applies; a rule for `b:*` is added.
    let mut closed = Rule::open(Pattern::new("b:*").expect("valid"));
    closed.subscribe = vec![Who::Nobody];
    running.reload_rules(&Rules::new(vec![closed]));
    let ended = tokio::time::timeout(DEADLINE, b.next()).await.expect("it is ended");
    assert!(matches!(&ended, Some(Event::Ended { code, .. }) if &**code == "denied"), "{ended:?}");
    client.subscribe("a:1").await.expect("the code's rule is there again");
    client.close().await;
    running.drain().await.expect("it stops");
}

#[test]
fn a_file_that_need_not_be_there_need_not_and_a_broken_one_is_told() {
    assert!(Fanfare::builder(()).config_file_if_exists("/nonexistent/fanfare.toml").is_ok());
    let problems = Fanfare::builder(()).config_file("/nonexistent/fanfare.toml").err().expect("it is not there");
    assert!(problems.to_string().contains("/nonexistent/fanfare.toml: the file: it cannot be read"), "{problems}");
}
