//! Hooks over HTTP, end to end on real sockets: a receiver in this process answers, and real clients of several
//! protocols see what comes of it.

#![allow(clippy::unwrap_used)] // helpers stand outside of `#[test]`; a panic in one fails the test

#[path = "../support/mod.rs"]
mod support;

mod decisions;
mod failures;
mod notices;
mod receiver;

use fanfare::hooks::{HookSecret, HooksConfig, HttpUrl};
use fanfare::hub::{Pattern, Rule, Rules};
use fanfare::{Config, Fanfare, SocketIoConfig, Who};
use receiver::Receiver;
use std::sync::Arc;
use std::time::Duration;
use support::native::{PATH, patient};
use support::{Server, config, patient_chat};

/// `whsec_` and 24 bytes.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Another one, with which requests are signed too.
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// Every hook at this receiver.
fn all(receiver: &Receiver) -> HooksConfig {
    let url = || Some(HttpUrl::new(&receiver.url("/hook")).unwrap());
    HooksConfig {
        connect: url(),
        subscribe: url(),
        publish: url(),
        rpc: url(),
        secrets: [SECRET, OTHER_SECRET].iter().map(|text| HookSecret::new(text).unwrap()).collect(),
        forward_headers: vec!["user-agent".to_owned(), "x-absent".to_owned()],
        forward_cookies: vec!["session".to_owned()],
        timeout: Duration::from_secs(4), // less than limits.hook_timeout
        ..HooksConfig::default()
    }
}

fn rule(pattern: &str, subscribe: Who, publish: Who) -> Rule {
    Rule { subscribe: vec![subscribe], publish: vec![publish], ..Rule::open(Pattern::new(pattern).unwrap()) }
}

/// `asked:*` is decided by the hook, `open:*` by nobody, `told:*` by a grant.
fn settings(hooks: HooksConfig) -> Config {
    let rules = vec![
        rule("asked:*", Who::Hook, Who::Hook),
        rule("open:*", Who::Anyone, Who::Anyone),
        rule("granted:*", Who::Grant, Who::Grant),
        rule("chat:*", Who::Anyone, Who::Anyone),
    ];
    let socketio = SocketIoConfig { enabled: true, ..SocketIoConfig::default() };
    Config { hooks, rules: Arc::new(Rules::new(rules)), socketio, ..config() }
}

/// A server without a runtime of the program.
fn serve(config: Config) -> Server {
    Server::of(Fanfare::builder(()).config(config).protocol("/", patient_chat()).protocol(PATH, patient()))
}
