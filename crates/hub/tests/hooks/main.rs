//! Hooks: the questions to the application, the effects of its answers, and the commands that do not wait for them.

// Clippy allows unwrap in tests, but does not recognise helpers of tests.
#![allow(clippy::unwrap_used)]

mod claims;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod connect;
mod ends;
mod grants;
mod limits;
mod notices;
mod tokens;

use bytes::Bytes;
use common::*;
use fanfare_hub::*;

fn hooks(connect: bool, subscribe: &[&str], publish: &[&str]) -> Hooks {
    let patterns = |all: &[&str]| all.iter().map(|text| Pattern::new(text).unwrap()).collect();
    let (subscribe, publish) = (patterns(subscribe), patterns(publish));
    Hooks { connect, subscribe, publish, rpc: true, disconnect: true, ..Hooks::default() }
}

fn net(shards: usize, hooks: Hooks) -> Net {
    Net::with_hooks(shards, Limits::default(), open_rules(), hooks)
}

fn with_token(token: &str) -> Connect {
    Connect { token: Some(token.into()), ..Connect::default() }
}

fn ada() -> Identified {
    Identified { user: Some(UserId("ada".into())), ..Identified::default() }
}

fn denied() -> HookAnswer {
    HookAnswer::Refused(Error::new(ErrorCode::Denied, "no"))
}

/// Connects with a token that the application resolves to `identified`.
fn connect_as(net: &mut Net, shard: usize, connect: Connect, identified: Identified) -> (usize, Connected) {
    let peer = net.open(shard);
    let connect = Connect { page: connect.page.or(the_page()), ..connect };
    let id = net.send(peer, Command::Connect(Box::new(connect)));
    assert_eq!(net.answer_to(peer, id), None, "the application is asked");
    net.answer(HookAnswer::Identity(identified));
    match net.answer_to(peer, id) {
        Some(ReplyBody::Connected(connected)) => {
            net.peers[peer].client = Some(connected.client);
            (peer, *connected)
        }
        other => panic!("not connected but {other:?}"),
    }
}

/// The application's answer: the publication, changed.
fn edited(question: &Question, json: &str) -> HookAnswer {
    let Question::Publish { publish, .. } = question else { panic!("{question:?}") };
    HookAnswer::Publish(Box::new(Publish { data: Data::Json(Bytes::from(json.to_owned())), ..(**publish).clone() }))
}

/// The application allows the first publication that it was asked about, changed to this.
fn let_through(net: &mut Net, json: &str) {
    let (shard, token, question) = net.asked();
    net.answer_as(shard, token, edited(&question, json));
}

fn subscribe(name: &str) -> Command {
    Command::Subscribe { subs: vec![SubOptions::new(channel(name))], many: false }
}

fn rpc(json: &'static str) -> Command {
    Command::Rpc { method: "quote".into(), data: Bytes::from_static(json.as_bytes()) }
}

/// Connects while questions of others are open, and leaves those as they are.
fn connect_as_last(net: &mut Net, shard: usize) -> (usize, u64) {
    let peer = net.open(shard);
    let id = net.send(peer, Command::Connect(Box::default()));
    let (shard, token, _) = net.questions.pop_back().expect("the application is asked");
    net.answer_as(shard, token, HookAnswer::Identity(ada()));
    assert!(matches!(net.answer_to(peer, id), Some(ReplyBody::Connected(_))));
    (peer, id)
}
