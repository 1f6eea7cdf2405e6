//! What a stream or a poll brings late: pushes for a subscription that the application has left, when it follows the
//! channel again.

use super::*;

/// A client of one of these transports that follows `c` with its presence.
struct Follower {
    world: World,
    kind: HttpKind,
    down: ExchangeId,
    polled: u64,
}

impl Follower {
    fn live(transport: Transport) -> Self {
        let (world, kind, down) = match transport {
            Poll => {
                let (world, poll) = World::polling();
                (world, HttpKind::Poll, poll.exchange)
            }
            _ => {
                let (world, stream) = World::streaming();
                (world, HttpKind::Sse, stream)
            }
        };
        let mut it = Follower { world, kind, down, polled: 1 };
        let send = of(HttpKind::Send, &it.world.call(with_presence()).1);
        let outputs = it.world.reply(&send, &replies(&send));
        let ask = of(HttpKind::Send, &outputs);
        let outputs = it.world.reply(&ask, &list(&format!(r#""id":{},"#, id_in(&ask.body)), 8));
        assert!(matches!(events(&outputs)[..], [Event::Presence(_)]), "{outputs:?}");
        it
    }

    /// The server pushes it.
    fn push(&mut self, text: &str) -> Vec<Output> {
        if self.kind == HttpKind::Sse {
            return self.world.message(self.down, text);
        }
        self.polled += 1;
        let outputs = self.world.answer(self.down, 200, &format!(r#"{{"n":{},"messages":[{text}]}}"#, self.polled));
        self.down = requests(&outputs).iter().find(|it| it.kind == HttpKind::Poll).map_or(self.down, |it| it.exchange);
        outputs
    }

    /// The application leaves the channel and follows it again.
    fn again(&mut self) -> Vec<HttpRequest> {
        let mut outputs = self.world.call(Call::Unsubscribe("c".into())).1;
        outputs.extend(self.world.call(with_presence()).1);
        requests(&outputs)
    }
}

fn with_presence() -> Call {
    Call::Subscribe(Box::new(Subscribe { presence: true, ..Subscribe::new("c") }))
}

/// The answers to the commands of a send, as far as these follow or leave a channel.
fn replies(send: &HttpRequest) -> String {
    let commands = send.body.split(r#"{"type":"#).skip(1);
    let replies = commands.filter_map(|command| {
        let id = id_in(command);
        if command.starts_with(r#""subscribe""#) {
            Some(format!(r#"{{"type":"subscribed","id":{id},"channel":"c","epoch":"e","offset":5,"publications":[]}}"#))
        } else if command.starts_with(r#""unsubscribe""#) {
            Some(format!(r#"{{"type":"unsubscribed","id":{id},"channel":"c","code":"requested"}}"#))
        } else {
            None
        }
    });
    replies.collect::<Vec<_>>().join(",")
}

fn list(id: &str, seq: u64) -> String {
    format!(r#"{{"type":"presence",{id}"channel":"c","seq":{seq},"count":1,"entries":[{{"client":"x"}}]}}"#)
}

fn join(seq: u64) -> String {
    format!(r#"{{"type":"join","channel":"c","client":"you","data":{{}},"seq":{seq}}}"#)
}

fn asks_presence(outputs: &[Output]) -> HttpRequest {
    let found = requests(outputs).into_iter().find(|it| it.body.contains(r#"{"type":"presence","#));
    found.unwrap_or_else(|| panic!("the presence is asked for: {outputs:?}"))
}

/// Between the two subscriptions somebody has left: only the list that the new one asks for knows of that.
#[test]
fn a_list_of_the_subscription_before_is_not_the_first_one() {
    let count = r#"{"type":"presence_update","channel":"c","count":2000,"seq":9}"#;
    for transport in [Poll, Sse] {
        for (what, late) in [("a list", list("", 9)), ("a change", join(9)), ("a count", count.to_owned())] {
            for comes_first in [true, false] {
                let case = format!("{transport:?}, {what}, first: {comes_first}");
                let mut it = Follower::live(transport);
                let mut outputs = Vec::new();
                let sends = it.again();
                if comes_first {
                    outputs.extend(it.push(&late));
                }
                for send in &sends {
                    outputs.extend(it.world.reply(send, &replies(send)));
                }
                let ask = asks_presence(&outputs);
                if !comes_first {
                    outputs.extend(it.push(&late));
                }
                outputs.extend(it.push(&join(11)));
                assert!(matches!(events(&outputs)[..], [Event::Live { .. }]), "{case}: {outputs:?}");
                // The answer is older than the change, so it is asked for again.
                let outputs = it.world.reply(&ask, &list(&format!(r#""id":{},"#, id_in(&ask.body)), 10));
                let again = asks_presence(&outputs);
                let id = id_in(&last_command(&again));
                let outputs = it.world.reply(&again, &list(&format!(r#""id":{id},"#), 11));
                assert!(
                    matches!(&events(&outputs)[..], [.., Event::Presence(it)] if it.seq == 11),
                    "{case}: {outputs:?}"
                );
                // From here on a list that the server pushes is as good.
                let outputs = it.push(&list("", 13));
                assert!(matches!(&events(&outputs)[..], [Event::Presence(it)] if it.seq == 13), "{case}: {outputs:?}");
                assert_eq!(events(&it.push(&list("", 9))), [], "{case}");
            }
        }
    }
}

/// There is no subscription before it, so a list that the server pushes is of this one.
#[test]
fn a_list_of_the_first_subscription_may_come_before_it_is_asked_for() {
    let (mut world, stream) = World::streaming();
    let send = of(HttpKind::Send, &world.call(with_presence()).1);
    world.message(stream, &list("", 9));
    let outputs = world.reply(&send, &replies(&send));
    assert!(matches!(&events(&outputs)[..], [Event::Live { .. }, Event::Presence(it)] if it.seq == 9), "{outputs:?}");
    assert_eq!(events(&world.message(stream, &join(10))).len(), 1);
}

/// The server ends the subscription before the application leaves the channel and follows it again, and says so late.
/// That its `unsubscribe` was for nothing shows to which subscription the end belongs.
#[test]
fn a_late_end_of_the_subscription_before_does_not_end_the_next_one() {
    let end = r#"{"type":"unsubscribed","channel":"c","code":"denied"}"#;
    for transport in [Poll, Sse] {
        for had_ended in [true, false] {
            for comes in ["before the answers", "between them", "after them"] {
                let case = format!("{transport:?}, ended: {had_ended}, {comes}");
                let mut it = Follower::live(transport);
                let answer = |send: &HttpRequest| match had_ended && send.body.contains(r#"{"type":"unsubscribe""#) {
                    true => {
                        let id = id_in(&send.body[send.body.find(r#"{"type":"unsubscribe""#).expect("it is there")..]);
                        format!(
                            r#"{{"type":"error","id":{id},"code":"not_subscribed","message":"","retryable":false}}"#
                        )
                    }
                    false => replies(send),
                };
                let [leave, follow] = &it.again()[..] else { panic!("{case}: two sends") };
                let mut outputs = Vec::new();
                for (when, send) in
                    [("before the answers", Some(leave)), ("between them", Some(follow)), ("after them", None)]
                {
                    if when == comes {
                        outputs.extend(it.push(end));
                    }
                    outputs.extend(send.map(|send| it.world.reply(send, &answer(send))).unwrap_or_default());
                }
                let is_left =
                    |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
                let told = events(&outputs);
                if had_ended {
                    assert!(matches!(told[..], [Event::Live { .. }]), "{case}: {told:?}");
                    assert!(!outputs.iter().any(is_left), "{case}: {outputs:?}");
                    // It is one end of two.
                    let told = events(&it.push(end));
                    assert!(matches!(told[..], [Event::Ended { .. }]), "{case}: {told:?}");
                } else if comes == "after them" {
                    assert!(matches!(told[..], [Event::Live { .. }, Event::Ended { .. }]), "{case}: {told:?}");
                } else {
                    assert!(outputs.iter().any(is_left), "{case}: which of the two has ended? {outputs:?}");
                }
            }
        }
    }
}

/// The answer to the next `subscribe` overtakes the one that says to which subscription the end belongs.
#[test]
fn an_end_that_may_be_of_either_subscription_is_settled_by_a_new_connection() {
    let mut it = Follower::live(Sse);
    let [_, follow] = &it.again()[..] else { panic!("two sends") };
    let told = events(&it.world.reply(follow, &replies(follow)));
    assert!(matches!(told[..], [Event::Live { .. }]), "{told:?}");
    let outputs = it.push(r#"{"type":"unsubscribed","channel":"c","code":"denied"}"#);
    let is_left = |it: &Output| matches!(it, Output::State(State::Waiting { why: Setback::Ambiguous { .. }, .. }));
    assert!(outputs.iter().any(is_left) && events(&outputs).is_empty(), "{outputs:?}");
}

/// A send of an earlier connection may have ended the subscription without a word, so no end is owed.
#[test]
fn an_unsubscribe_that_was_for_nothing_after_an_earlier_connections_hides_no_end() {
    let (mut world, stream) = World::streaming();
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    world.reply(&send, &replies(&send));
    world.call(Call::Unsubscribe("c".into()));
    world.call(subscribe("c"));
    world.lose(stream);
    let connect = world.wait_for(HttpKind::Sse);
    let connected = CONNECTED.replace("ID", &id_in(&connect.body).to_string()).replace("false", "true");
    let fillers = requests(&world.message(connect.exchange, &connected));
    let bare = r#"{"type":"subscribed","channel":"c","epoch":"e","offset":5,"publications":[]}"#;
    assert_eq!(events(&world.message(connect.exchange, bare)).len(), 1, "it is live");
    let mut outputs = world.call(Call::Unsubscribe("c".into())).1;
    let mut sent = Vec::new();
    for filler in &fillers {
        sent.extend(outputs);
        outputs = world.answer(filler.exchange, 200, &format!(r#"{{"n":{},"replies":[]}}"#, number_in(filler)));
    }
    sent.extend(outputs);
    let leave = requests(&sent).into_iter().find(|it| it.body.contains("unsubscribe")).expect("it leaves");
    let id = id_in(&leave.body);
    world.reply(
        &leave,
        &format!(r#"{{"type":"error","id":{id},"code":"not_subscribed","message":"","retryable":false}}"#),
    );
    let send = of(HttpKind::Send, &world.call(subscribe("c")).1);
    world.reply(&send, &replies(&send));
    let told = events(&world.message(connect.exchange, r#"{"type":"unsubscribed","channel":"c","code":"denied"}"#));
    assert!(matches!(told[..], [Event::Ended { .. }]), "{told:?}");
}
