//! The server's own channels: clients cannot name them, rules for every channel do not govern them, and the
//! application's list does not show them.

mod common;

use common::*;
use fanfare_hub::*;

/// The server's own channels are no part of a rule for every channel, nor of the list of channels.
#[test]
fn reserved_channels_have_rules_of_their_own() {
    let own = || ChannelName::reserved("$sio:/").expect("a reserved name");
    assert!(ChannelName::new("$sio:/").is_err() && ChannelName::reserved("sio").is_err());
    assert!(own().is_reserved() && !channel("chat:a").is_reserved());
    for (rules, code) in [
        (vec![open_rule("**")], Some(ErrorCode::NoRule)),
        (vec![open_rule("*:*")], Some(ErrorCode::NoRule)),
        (vec![open_rule("**"), open_rule("$sio:**")], None),
    ] {
        let mut net = Net::with(1, Limits::default(), Rules::new(rules));
        let ada = net.connect(0);
        let body = net.ask(ada, Command::Subscribe { subs: vec![SubOptions::new(own())], many: false });
        match code {
            Some(code) => assert_eq!(error_code(&body), code),
            None => assert!(matches!(body, ReplyBody::Subscribed(_)), "{body:?}"),
        }
        net.subscribe(ada, "chat:a");
        let AppAnswer::Channels { channels, more: false } =
            net.app(0, AppCommand::Channels { pattern: None, after: None, limit: 10 })
        else {
            panic!("no list");
        };
        assert_eq!(channels.iter().map(|info| &*info.channel).collect::<Vec<_>>(), ["chat:a"]);
    }
}
