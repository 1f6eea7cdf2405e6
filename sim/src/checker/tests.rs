//! Histories of a few messages that the judge must accept, and others that it must not.

use super::{Checker, Verdict};
use crate::chances::Chances;
use crate::model::Policy;
use crate::plan::StoreFaults;
use crate::store::Stores;
use crate::wire::ToClient;
use fanfare_hub::{
    Audience, Batch, ChannelName, ClientId, Command, Connect, Connected, Data, Entry, Epoch, Error, ErrorCode, Limits,
    Now, Op, OpToken, Position, PresenceEntry, PresenceSnapshot, Proof, Publication, Publish, Push, Reply, ReplyBody,
    Request, RequestId, Resume, Retain, Room, RoomCommand, Sender, SenderShown, ShardId, Signal, SignalPush, Slow,
    Store, SubOptions, Subscribed, UserId, UserToken,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

const ADA: ClientId = ClientId(0xada);

/// A judge and the little world that it looks at: one channel, in which nothing is published.
struct Court {
    checker: Checker,
    stores: Rc<RefCell<Stores>>,
    asked: u64,
}

impl Court {
    fn new(grant: Option<ChannelName>) -> Self {
        let stores = Stores::new(1, &Limits::default(), StoreFaults::default(), Chances::new(1, 0));
        Court { checker: Checker::new(grant, 1024), stores, asked: 0 }
    }

    fn sends(&mut self, pipe: usize, command: Command) -> u64 {
        self.asked += 1;
        let request = Request { id: Some(RequestId::Number(self.asked)), command };
        self.checker.sent(pipe, &request, &self.stores.borrow());
        self.asked
    }

    /// A command that gets at most an error as an answer.
    fn says(&mut self, pipe: usize, command: Command) {
        self.checker.sent(pipe, &Request { id: None, command }, &self.stores.borrow());
    }

    fn hears(&mut self, pipe: usize, id: Option<u64>, body: ReplyBody) {
        self.gets(pipe, &ToClient::Reply(Reply { id: id.map(RequestId::Number), body }));
    }

    fn is_told(&mut self, pipe: usize, push: Push) {
        self.gets(pipe, &ToClient::Push(push));
    }

    fn gets(&mut self, pipe: usize, message: &ToClient) {
        assert_eq!(self.verdict(pipe, message), Ok(()), "{message:?}");
    }

    fn verdict(&mut self, pipe: usize, message: &ToClient) -> Verdict {
        let now = Now { mono_ms: 0, wall_ms: 0 };
        self.checker.got(now, pipe, message, &self.stores.borrow(), &Policy::default())
    }

    fn asks(&mut self, pipe: usize, command: Command, body: ReplyBody) {
        let id = self.sends(pipe, command);
        self.hears(pipe, Some(id), body);
    }

    /// A connection resumes Ada's session, or begins it, and requests these channels.
    fn connects(&mut self, pipe: usize, resumed: bool, token: Option<&str>, subscribe: &[&ChannelName]) -> u64 {
        self.checker.opened(pipe, 0);
        let resume = resumed.then_some(Resume { shard: ShardId(0), client: ADA });
        let subscribe = subscribe.iter().map(|channel| SubOptions::new((*channel).clone())).collect();
        let token = token.map(UserToken::from);
        let id =
            self.sends(pipe, Command::Connect(Box::new(Connect { token, resume, subscribe, ..Connect::default() })));
        self.checker.taken_up(pipe, ADA);
        id
    }

    fn bob_connects(&mut self) {
        self.checker.opened(2, 0);
        let connect = self.sends(2, Command::Connect(Box::default()));
        let ReplyBody::Connected(hello) = connected(false, None) else { unreachable!("it is `connected`") };
        self.hears(2, Some(connect), ReplyBody::Connected(Box::new(Connected { client: BOB, ..*hello })));
    }

    fn judges(&mut self) -> Verdict {
        self.checker.finish(&self.stores.borrow(), &[chat()])
    }
}

fn chat() -> ChannelName {
    ChannelName::new("chat:0").expect("a name")
}

fn connected(resumed: bool, user: Option<&str>) -> ReplyBody {
    let user = user.map(|user| UserId(user.into()));
    let proof = Proof::default();
    let (incarnation, expires_in_ms) = (u32::from(resumed), None);
    ReplyBody::Connected(Box::new(Connected {
        client: ADA,
        user,
        resumed,
        incarnation,
        ping_ms: 0,
        proof,
        expires_in_ms,
        message_rate: None,
        byte_rate: None,
        before: None,
    }))
}

fn subscribe() -> Command {
    Command::Subscribe { subs: vec![SubOptions::new(chat())], many: false }
}

fn subscribed() -> ReplyBody {
    let position = Position { epoch: Epoch(1), offset: 0 };
    let (recovered, publications, more) = (None, Vec::new(), false);
    ReplyBody::Subscribed(Box::new(Subscribed {
        channel: chat(),
        position,
        recovered,
        publications,
        more,
        rooms: Vec::new(),
    }))
}

fn enter() -> Command {
    Command::PresenceSet { channel: chat(), data: b"1".as_slice().into(), person: None }
}

fn present(clients: &[ClientId]) -> ReplyBody {
    let entry = |client: &ClientId| PresenceEntry {
        client: *client,
        user: None,
        info: None,
        data: b"1".as_slice().into(),
        person: None,
    };
    let entries = clients.iter().map(|client| Arc::new(entry(client))).collect();
    // Each is of another number: two statements of one number must be the same.
    thread_local! { static SEQ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) }; }
    let seq = SEQ.replace(SEQ.get() + 1) + 1;
    let snapshot = PresenceSnapshot { seq, count: clients.len() as u64, entries: Some(entries) };
    ReplyBody::Presence { channel: chat(), snapshot }
}

/// The reported presence, and whether it is right.
fn verdicts(court: &mut Court, pipe: usize, truth: &[ClientId], lie: &[ClientId]) {
    court.asks(pipe, Command::Presence { channel: chat() }, present(lie));
    assert!(court.judges().is_err_and(|what| what.starts_with("promise 5")), "{lie:?} are present");
    court.asks(pipe, Command::Presence { channel: chat() }, present(truth));
    assert_eq!(court.judges(), Ok(()), "{truth:?} are present");
}

/// Ada has entered on pipe 0, which gets the answer late, and another connection resumes her session.
fn entered_and_moved(subscribe_again: &[&ChannelName]) -> Court {
    let mut court = Court::new(None);
    let connect = court.connects(0, false, None, &[]);
    court.hears(0, Some(connect), connected(false, None));
    court.asks(0, subscribe(), subscribed());
    let entering = court.sends(0, enter());
    let connect = court.connects(1, true, None, subscribe_again);
    court.hears(1, Some(connect), connected(true, None));
    court.hears(0, Some(entering), ReplyBody::Done);
    court.checker.closed(0, false);
    court
}

#[test]
fn what_an_earlier_connection_hears_late_was_before_the_session_went_on() {
    let mut court = entered_and_moved(&[]);
    verdicts(&mut court, 1, &[], &[ADA]);
}

#[test]
fn what_an_earlier_connection_hears_late_counts_where_the_presence_goes_on() {
    let mut court = entered_and_moved(&[&chat()]);
    court.hears(1, None, subscribed());
    verdicts(&mut court, 1, &[ADA], &[]);
}

#[test]
fn a_connection_that_has_lost_its_session_does_not_speak_for_it() {
    let mut court = Court::new(None);
    let connect = court.connects(0, false, None, &[]);
    court.hears(0, Some(connect), connected(false, None));
    court.asks(0, subscribe(), subscribed());
    let connect = court.connects(1, true, None, &[&chat()]);
    court.hears(1, Some(connect), connected(true, None));
    court.hears(1, None, subscribed());
    court.asks(1, enter(), ReplyBody::Done);
    // It has not received the message yet. Its command reaches no shard, and its messages describe the time before.
    court.sends(0, Command::PresenceClear { channel: chat() });
    court.is_told(0, Push::Unsubscribed { channel: chat(), error: Error::new(ErrorCode::Denied, "no") });
    court.checker.closed(0, false);
    verdicts(&mut court, 1, &[ADA], &[]);
}

#[test]
fn a_subscription_by_token_that_is_refused_ends_no_presence_of_later_commands() {
    let mut court = Court::new(Some(chat()));
    let connect = court.connects(0, false, Some("ada"), &[]);
    court.hears(0, Some(connect), connected(false, Some("ada")));
    // The subscription for which the new token is good is refused, and commands that were sent meanwhile take effect
    // after that.
    let refresh = court.sends(0, Command::Refresh { token: UserToken::from("ada+info") });
    let subscribing = court.sends(0, subscribe());
    let entering = court.sends(0, enter());
    let call = court.sends(0, Command::Rpc { method: "echo".into(), data: b"2".as_slice().into() });
    court.hears(0, Some(refresh), ReplyBody::Refreshed { expires_in_ms: None });
    court.hears(0, None, ReplyBody::Error(Error::new(ErrorCode::Unavailable, "not now").on(&chat())));
    court.hears(0, Some(subscribing), subscribed());
    court.hears(0, Some(entering), ReplyBody::Done);
    court.hears(0, Some(call), ReplyBody::Result(b"2".as_slice().into()));
    verdicts(&mut court, 0, &[ADA], &[]);
}

/// Ada's subscription in `connect`, in batches of 50.
fn connects_with_batch() -> Court {
    let mut court = Court::new(Some(chat()));
    court.checker.opened(0, 0);
    let batch = Some(Batch { size: 50, delay_ms: 100 });
    let subscribe = vec![SubOptions { batch, ..SubOptions::new(chat()) }];
    court.sends(0, Command::Connect(Box::new(Connect { subscribe, ..Connect::default() })));
    court.checker.taken_up(0, ADA);
    assert_eq!(court.checker.habit(0, None, &chat()).batch, batch);
    court
}

fn refused() -> Reply {
    Reply { id: None, body: ReplyBody::Error(Error::new(ErrorCode::Timeout, "too late").on(&chat())) }
}

#[test]
fn a_subscription_of_connect_is_settled_when_the_shard_answers_and_not_when_the_client_reads() {
    for answer in [refused(), Reply { id: None, body: subscribed() }] {
        let mut court = connects_with_batch();
        court.checker.said(0, &answer, &court.stores.borrow());
        assert_eq!(court.checker.habit(0, None, &chat()).batch, None, "after {answer:?}");
    }
}

#[test]
fn an_error_to_a_silent_signal_does_not_settle_the_subscription_of_connect() {
    let mut court = connects_with_batch();
    let signal = Signal { channel: chat(), event: "move".into(), data: b"1".as_slice().into(), to: None };
    let request = Request { id: None, command: Command::Signal(Box::new(signal)) };
    court.checker.sent(0, &request, &court.stores.borrow());
    court.checker.said(0, &refused(), &court.stores.borrow());
    assert!(court.checker.habit(0, None, &chat()).batch.is_some());
    court.checker.said(0, &Reply { id: None, body: subscribed() }, &court.stores.borrow());
    assert!(court.checker.habit(0, None, &chat()).batch.is_none());
}

const BOB: ClientId = ClientId(0xb0b);

fn to_ada(data: &'static [u8]) -> Signal {
    Signal { channel: chat(), event: "offer".into(), data: data.into(), to: Some(ADA) }
}

/// Ada is subscribed on pipes 0 and 1, of which the second has resumed her session; Bob sends her "1" and "2".
fn two_signals_to_ada() -> Court {
    let mut court = Court::new(None);
    for (pipe, resumed) in [(0, false), (1, true)] {
        let connect = court.connects(pipe, resumed, None, &[]);
        court.hears(pipe, Some(connect), connected(resumed, None));
        court.asks(pipe, subscribe(), subscribed());
    }
    court.bob_connects();
    for data in [b"1", b"2"] {
        court.sends(2, Command::Signal(Box::new(to_ada(data))));
    }
    court
}

fn from_bob(data: &'static [u8]) -> Push {
    let from = Sender { client: Some(BOB), user: None };
    Push::Signal(Arc::new(SignalPush { signal: to_ada(data), from, ts_ms: 0 }))
}

#[test]
fn a_directed_signal_that_an_earlier_connection_reads_late_is_not_out_of_order() {
    let mut court = two_signals_to_ada();
    court.is_told(1, from_bob(b"2"));
    court.is_told(0, from_bob(b"1"));
}

#[test]
fn directed_signals_out_of_order_on_one_connection_and_one_told_twice_are_faults() {
    for (pipe, data, fault) in [(1, b"1", "out of order"), (0, b"2", "twice")] {
        let mut court = two_signals_to_ada();
        court.is_told(1, from_bob(b"2"));
        let verdict = court.verdict(pipe, &ToClient::Push(from_bob(data)));
        assert!(verdict.as_ref().is_err_and(|what| what.contains(fault)), "{verdict:?}");
    }
}

/// The second connection began without `ack`: the signal is said anew there, and an answer to a poll may still have it.
#[test]
fn a_directed_signal_that_was_said_anew_may_be_in_an_answer_that_is_read_later() {
    let mut court = two_signals_to_ada();
    court.checker.is_apart(0);
    court.is_told(1, from_bob(b"2"));
    let twice = court.verdict(1, &ToClient::Push(from_bob(b"2")));
    assert!(twice.is_err(), "on one connection");
    let mut court = two_signals_to_ada();
    court.checker.is_apart(0);
    court.is_told(1, from_bob(b"2"));
    court.is_told(0, from_bob(b"2"));
    assert!(court.verdict(0, &ToClient::Push(from_bob(b"2"))).is_err(), "once");
}

/// Ada polls, and leaves the channel or not; then she comes back and subscribes by `connect`. Bob's last signal does
/// not reach her.
fn last_signal_unheard(leaves: bool) -> Verdict {
    let mut court = Court::new(None);
    let connect = court.connects(0, false, None, &[]);
    court.checker.is_apart(0);
    court.hears(0, Some(connect), connected(false, None));
    court.asks(0, subscribe(), subscribed());
    if leaves {
        court.sends(0, Command::Unsubscribe { channel: chat() });
    }
    court.checker.closed(0, false);
    let connect = court.connects(1, true, None, &[&chat()]);
    court.hears(1, Some(connect), connected(true, None));
    court.hears(1, None, subscribed());
    court.bob_connects();
    let signal = Signal { to: None, ..to_ada(b"1") };
    let asked = court.sends(2, Command::Signal(Box::new(signal.clone())));
    court.checker.sends_last_signal((2, asked), &chat(), &signal.data);
    court.hears(2, Some(asked), ReplyBody::Done);
    court.checker.finish_last_signal()
}

#[test]
fn the_last_signal_is_owed_unless_a_late_request_may_have_ended_the_subscription() {
    assert!(last_signal_unheard(false).is_err());
    assert_eq!(last_signal_unheard(true), Ok(()));
}

/// A tab has polled long ago, and another one since: the answer that the first one acknowledges is not the last one.
#[test]
fn a_directed_signal_comes_again_to_a_tab_that_acknowledges_no_answer_that_may_have_it() {
    for is_read_before in [true, false] {
        for (ack, comes_again) in [(None, true), (Some(1), true), (Some((1 << 32) + 1), false)] {
            let mut court = two_signals_to_ada();
            court.checker.is_apart(1);
            if is_read_before {
                court.is_told(1, from_bob(b"1"));
            }
            court.checker.opened(3, 0);
            let resume = Some(Resume { shard: ShardId(0), client: ADA });
            let connect = court.sends(3, Command::Connect(Box::new(Connect { resume, ack, ..Connect::default() })));
            court.checker.taken_up(3, ADA);
            let ReplyBody::Connected(hello) = connected(true, None) else { unreachable!("it is `connected`") };
            court.hears(3, Some(connect), ReplyBody::Connected(Box::new(Connected { incarnation: 2, ..*hello })));
            court.asks(3, subscribe(), subscribed());
            if !is_read_before {
                court.is_told(3, from_bob(b"1"));
            }
            let pipe = if is_read_before { 3 } else { 1 };
            let again = court.verdict(pipe, &ToClient::Push(from_bob(b"1")));
            assert_eq!(again.is_ok(), comes_again, "{ack:?}, {is_read_before}: {again:?}");
        }
    }
}

fn publish() -> Publish {
    let data = Data::Json(b"1".as_slice().into());
    Publish { channel: chat(), data, event: None, idempotency_key: None, echo: true }
}

#[test]
fn a_gap_over_publications_that_were_lost_with_their_epoch_leads_to_none_of_them() {
    let mut court = Court::new(None);
    let connect = court.connects(0, false, None, &[]);
    court.hears(0, Some(connect), connected(false, None));
    let latest = SubOptions { slow: Some(Slow::Latest), ..SubOptions::new(chat()) };
    court.asks(0, Command::Subscribe { subs: vec![latest], many: false }, subscribed());
    // A publication of the epoch that Ada follows. The store then loses it and begins another epoch.
    let entry = Entry {
        publish: publish(),
        from: None,
        shown: SenderShown::Client,
        by: None,
        audience: None,
        act: None,
        ts_ms: 0,
    };
    let lost = Arc::new(entry.clone().at(0, 1, Some(Epoch(1))));
    court.stores.borrow_mut().ledger.accepted(0, &chat(), Epoch(1), lost, None);
    let now = Now { mono_ms: 0, wall_ms: 0 };
    let append = Op::Append { entry: Box::new(entry), retain: Retain::default() };
    Stores::store(&court.stores, 0).submit(now, OpToken(1), append);
    let position = Position { epoch: Epoch(1), offset: 1 };
    court.is_told(0, Push::Gap { channel: chat(), position, reset: false });
    court.is_told(0, Push::Ping);
}

#[test]
fn a_connection_that_hears_late_that_it_had_the_session_does_not_take_it_back() {
    let mut court = Court::new(None);
    let earlier = court.connects(0, true, None, &[]);
    let later = court.connects(1, true, None, &[]);
    court.hears(1, Some(later), connected(true, None));
    court.hears(0, Some(earlier), connected(true, None));
    court.checker.closed(0, false);
    court.asks(1, subscribe(), subscribed());
    court.asks(1, enter(), ReplyBody::Done);
    verdicts(&mut court, 1, &[ADA], &[]);
}

/// A list of those who are present, two lists of one number, and changes that cannot follow them.
#[test]
fn presence_is_judged_change_by_change() {
    use fanfare_hub::{PresenceKind, PresencePush};
    let change = |kind, client: ClientId, seq| {
        let ReplyBody::Presence { snapshot, .. } = present(&[client]) else { panic!("a presence") };
        let entry = snapshot.entries.expect("names")[0].clone();
        PresencePush { channel: chat(), kind, entry, still_there: false, seq, ts_ms: 0 }
    };
    let listed = |clients: &[ClientId]| {
        let ReplyBody::Presence { snapshot, .. } = present(clients) else { panic!("a presence") };
        PresenceSnapshot { seq: 7, ..snapshot }
    };
    let seen = || {
        let mut presences = super::presence::Presences::default();
        presences.subscribed(0, &chat(), true, 1);
        assert_eq!(presences.snapshot(0, &chat(), &listed(&[ADA])), Ok(()));
        presences
    };
    for (kind, client, is_right) in [
        (PresenceKind::Join, BOB, true),
        (PresenceKind::Join, ADA, false),
        (PresenceKind::Update, ADA, true),
        (PresenceKind::Update, BOB, false),
        (PresenceKind::Leave, ADA, true),
        (PresenceKind::Leave, BOB, false),
    ] {
        assert_eq!(seen().changed(0, &change(kind, client, 8)).is_ok(), is_right, "{kind:?} of {client:?}");
    }
    assert!(seen().snapshot(0, &chat(), &listed(&[ADA])).is_ok());
    assert!(seen().snapshot(0, &chat(), &listed(&[BOB])).is_err(), "another list of the same number");
    let mut ended = seen();
    ended.end_told(0, &chat());
    assert!(ended.snapshot(0, &chat(), &listed(&[BOB])).is_ok(), "the numbers may be those of another home");
    ended.end_heard(0, &chat());
    assert!(ended.snapshot(0, &chat(), &listed(&[BOB])).is_err(), "it is subscribed again");
    assert!(seen().is_subscribed_after(0, &chat(), 0) && !seen().is_subscribed_after(0, &chat(), 1));
    let wrong = PresenceSnapshot { count: 2, ..listed(&[ADA]) };
    assert!(seen().snapshot(0, &chat(), &wrong).is_err(), "two are present, and one is listed");
}

fn red() -> Room {
    Room::new("red").expect("a short name")
}

/// The publication at this offset, for this audience.
fn entry_for(offset: u64, audience: Option<Audience>) -> Arc<Publication> {
    let from = Some(Sender { client: None, user: None });
    let data = Data::Json(format!("{offset}").into());
    let (prev, begins) = (offset - 1, (offset == 1).then(|| Box::new(Epoch(1))));
    let (event, idempotency_key, ts_ms, echo, act) = (None, None, 0, true, None);
    let audience = audience.map(Box::new);
    Arc::new(Publication {
        offset,
        prev,
        ts_ms,
        data,
        event,
        idempotency_key,
        from,
        hidden: None,
        audience,
        echo,
        begins,
        act,
    })
}

fn to_red(offset: u64) -> Arc<Publication> {
    entry_for(offset, Some(Audience { rooms: vec![red()], ..Audience::default() }))
}

fn message(publication: &Arc<Publication>) -> ToClient {
    ToClient::Push(Push::Message { channel: chat(), epoch: Epoch(1), publication: publication.clone() })
}

impl Court {
    fn accepts(&mut self, publication: Arc<Publication>) {
        let author = publication.from.clone();
        self.stores.borrow_mut().ledger.accepted(0, &chat(), Epoch(1), publication, author);
    }

    /// Ada is subscribed on pipe 0.
    fn with_ada() -> Court {
        let mut court = Court::new(None);
        let id = court.connects(0, false, None, &[]);
        court.hears(0, Some(id), connected(false, None));
        court.asks(0, subscribe(), subscribed());
        court
    }

    /// A shard is given a command about rooms. Its answer is to be [heard](Self::room_is_answered).
    fn room_is_given(&mut self, command: RoomCommand) -> Reply {
        let id = self.sends(0, Command::Room(Box::new(command.clone())));
        let request = Request { id: Some(RequestId::Number(id)), command: Command::Room(Box::new(command)) };
        self.checker.given(0, &request, &self.stores.borrow());
        Reply { id: request.id, body: ReplyBody::Done }
    }

    fn room_is_answered(&mut self, reply: Reply) {
        self.checker.said(0, &reply, &self.stores.borrow());
        self.gets(0, &ToClient::Reply(reply));
    }
}

/// Publications to a room: before the shard was given the join, before it answered, and after it answered.
#[test]
fn a_stay_in_a_room_begins_between_its_command_and_its_answer() {
    let table = [([true, true], Err("not for it")), ([false, true], Ok(())), ([false, false], Ok(()))];
    for (told, expected) in table {
        let mut court = Court::with_ada();
        court.accepts(to_red(1));
        let done = court.room_is_given(RoomCommand::Join { channel: chat(), room: red() });
        court.accepts(to_red(2));
        court.room_is_answered(done);
        court.accepts(to_red(3));
        let mut verdicts = Vec::new();
        for offset in (1..=2).zip(told).filter(|(_, told)| *told).map(|(offset, _)| offset).chain([3]) {
            verdicts.push(court.verdict(0, &message(&to_red(offset))));
        }
        let wrong = verdicts.into_iter().find_map(Result::err);
        match expected {
            Ok(()) => assert_eq!(wrong, None, "{told:?}"),
            Err(part) => assert!(wrong.as_deref().is_some_and(|wrong| wrong.contains(part)), "{told:?}: {wrong:?}"),
        }
    }
}

/// A late request of Ada's earlier connection may leave the channel. Meanwhile the application subscribes her, and she
/// subscribes too: what was told before that comes behind its answer, or the other way round.
#[test]
fn a_subscription_of_the_application_in_doubt_may_be_told_behind_the_answer_to_ones_own() {
    for is_told_first in [true, false] {
        let mut court = Court::new(None);
        let connect = court.connects(0, false, None, &[]);
        court.checker.is_apart(0);
        court.hears(0, Some(connect), connected(false, None));
        court.asks(0, subscribe(), subscribed());
        court.sends(0, Command::Unsubscribe { channel: chat() });
        court.checker.closed(0, false);
        let connect = court.connects(1, true, None, &[]);
        court.checker.is_apart(1);
        court.hears(1, Some(connect), connected(true, None));
        court.checker.app_lets_in(&chat());
        let ReplyBody::Subscribed(made) = subscribed() else { unreachable!("it is `subscribed`") };
        let mut asked = (!is_told_first).then(|| court.sends(1, subscribe()));
        court.is_told(1, Push::Subscribed(made.clone()));
        let asked = *asked.get_or_insert_with(|| court.sends(1, subscribe()));
        court.accepts(entry_for(1, None));
        let position = Position { offset: 1, ..made.position };
        court.hears(1, Some(asked), ReplyBody::Subscribed(Box::new(Subscribed { position, ..*made })));
        court.gets(1, &message(&entry_for(1, None)));
    }
}

/// The application has subscribed Ada, and she subscribes again with a position from before she left a room. The stay
/// there may be forgotten as far as it had been read, and nothing else.
#[test]
fn a_stay_that_was_over_when_the_subscription_began_anew_may_be_forgotten_as_far_as_it_was_read() {
    let not_red = |offset| entry_for(offset, Some(Audience { except_rooms: vec![red()], ..Audience::default() }));
    let for_all = |offset| entry_for(offset, None);
    // (what the second and the third entry are, whether she had read the third, whether she leaves, what is told anew,
    // the verdict)
    type Row = (&'static str, [Arc<Publication>; 2], bool, bool, &'static [u64], Result<(), &'static str>);
    let rows: [Row; 9] = [
        ("read there, and told again", [to_red(2), to_red(3)], true, true, &[2, 3], Ok(())),
        ("read there, and not told again", [to_red(2), to_red(3)], true, true, &[], Ok(())),
        ("not read there, and told", [to_red(2), to_red(3)], false, true, &[3], Ok(())),
        ("not read there, and not told", [to_red(2), to_red(3)], false, true, &[], Err("3 was left out")),
        ("she is still there", [to_red(2), to_red(3)], true, false, &[], Err("2 was left out")),
        ("for all", [for_all(2), for_all(3)], true, true, &[3], Err("2 was left out")),
        ("kept from her there, and not told", [to_red(2), not_red(3)], true, true, &[], Ok(())),
        ("kept from her there, and told", [to_red(2), not_red(3)], true, true, &[3], Ok(())),
        ("kept from her where she still is", [to_red(2), not_red(3)], true, false, &[2, 3], Err("not for it")),
    ];
    for (name, entries, has_read_all, leaves, told, expected) in rows {
        let mut court = Court::with_ada();
        court.checker.app_lets_in(&chat());
        court.accepts(for_all(1));
        court.gets(0, &message(&for_all(1)));
        let done = court.room_is_given(RoomCommand::Join { channel: chat(), room: red() });
        court.room_is_answered(done);
        for entry in &entries {
            court.accepts(entry.clone());
            let is_kept_from_her = entry.audience.as_ref().is_some_and(|audience| !audience.except_rooms.is_empty());
            if (has_read_all || entry.offset == 2) && !is_kept_from_her {
                court.gets(0, &message(entry));
            }
        }
        if leaves {
            let done = court.room_is_given(RoomCommand::Leave { channel: chat(), room: red() });
            court.room_is_answered(done);
        }
        let since = Some(Position { epoch: Epoch(1), offset: 1 });
        let subs = vec![SubOptions { since, ..SubOptions::new(chat()) }];
        let id = court.sends(0, Command::Subscribe { subs, many: false });
        let publications = entries.iter().filter(|entry| told.contains(&entry.offset)).cloned().collect();
        let position = Position { epoch: Epoch(1), offset: 3 };
        let (recovered, more, rooms) = (Some(true), false, Vec::new());
        let anew = Subscribed { channel: chat(), position, recovered, publications, more, rooms };
        let reply = Reply { id: Some(RequestId::Number(id)), body: ReplyBody::Subscribed(Box::new(anew)) };
        let verdict = court.verdict(0, &ToClient::Reply(reply));
        match expected {
            Ok(()) => assert_eq!(verdict, Ok(()), "{name}"),
            Err(part) => assert!(verdict.as_ref().is_err_and(|wrong| wrong.contains(part)), "{name}: {verdict:?}"),
        }
    }
}

/// A chat client enters and leaves before its shard has given it a session. (whether it leaves again, whether the
/// answer about the room names anybody, whether it stands there)
#[test]
fn what_a_chat_client_does_before_it_has_a_session_counts_from_the_session_on() {
    let data = || bytes::Bytes::from_static(b"{}");
    for (leaves, is_named, is_there) in [(false, true, true), (false, false, true), (true, true, false)] {
        let mut court = Court::new(None);
        court.checker.opened(1, 0);
        court.checker.is_chat(1);
        let connect = court.sends(1, Command::Connect(Box::default()));
        let subscribe = court.sends(1, subscribe());
        court.says(1, Command::PresenceSet { channel: chat(), data: data(), person: None });
        let asks = court.sends(1, Command::Presence { channel: chat() });
        if leaves {
            court.says(1, Command::Unsubscribe { channel: chat() });
        }
        court.checker.taken_up(1, ADA);
        court.hears(1, Some(connect), connected(false, None));
        court.hears(1, Some(subscribe), subscribed());
        let entry = Arc::new(PresenceEntry { client: ADA, user: None, info: None, data: data(), person: None });
        let snapshot = PresenceSnapshot { seq: 1, count: 1, entries: is_named.then(|| vec![entry]) };
        court.hears(1, Some(asks), ReplyBody::Presence { channel: chat(), snapshot });
        let present = BTreeMap::from([(ADA, data().to_vec())]);
        let agrees = [BTreeMap::new(), present].map(|names| court.checker.presence_agrees(&chat(), &names).is_ok());
        assert_eq!(agrees, [!is_there, is_there], "leaves: {leaves}, named: {is_named}");
    }
}
