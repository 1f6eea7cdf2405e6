//! Acts on members: joins, leaves and ends that are entries of a channel's log, questions with answers, and lists.
//!
//! In: the application's operations, and the entries that fan-outs and pages come to. Out: the changes of the sessions,
//! and the answers. A question is answered once, when all members that were asked have answered or left, or when its
//! time is over: each edge says how many it has asked, and each session answers to the shard that has asked. A list is
//! the sum of what the edges say.

use super::deliver::published;
use super::pending::{Asked, Listing, Pending};
use super::rooms::RoomChange;
use super::{Cx, Sessions};
use crate::act::{Act, Ask, List};
use crate::app::{AppAnswer, AppToken};
use crate::disconnect::Disconnect;
use crate::edge::ToDo;
use crate::effects::Effect;
use crate::error::{Error, ErrorCode};
use crate::hook::Ended;
use crate::ids::{Position, Room, SessionRef};
use crate::members::{AnswerPart, Answers, AskToken, MemberInfo, MembersCommand, MembersOp};
use crate::message::{Audience, Data, Publication, Publish};
use crate::peer::{PeerBody, PendingToken, Published, ReplyAddress, ToEdge, ToHome};
use crate::rules::SenderShown;
use crate::store::Entry;
use crate::timer::Timer;
use std::sync::Arc;

/// Questions to one session that it has not answered; beyond them the oldest counts as not to be answered, one whose
/// time is over before any other.
const ASKED_MAX: usize = 256;
/// The bytes of the answers to one question. Beyond them it is over.
const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// The bytes of an answer besides its payload.
const ANSWER_BYTES: usize = 64;
/// The time after which a question that found no room may be tried again.
const RETRY_AFTER_MS: u64 = 100;

impl Sessions {
    /// The application does something to members.
    pub(super) fn members(&mut self, cx: &mut Cx<'_>, app: AppToken, command: MembersCommand) -> Result<(), Error> {
        let MembersCommand { channel, audience, op } = command;
        if let MembersOp::Ask { data, .. } | MembersOp::Answer { data, .. } | MembersOp::Volatile { data } = &op {
            super::app::check_size(cx, &channel, data.bytes().len())?;
        }
        let entry = |data: Option<Data>, act: Option<Act>| {
            let data = data.unwrap_or(Data::Json("null".into()));
            let publish = Publish { channel: channel.clone(), data, event: None, idempotency_key: None, echo: true };
            let audience = (audience != Audience::default()).then(|| Box::new(audience.clone()));
            let act = act.map(Box::new);
            Box::new(Entry { publish, from: None, shown: SenderShown::Client, by: None, audience, act, ts_ms: 0 })
        };
        let (data, act) = match op {
            MembersOp::Ask { data, token, timeout_ms } => {
                super::app::has_rule(cx, &channel)?;
                let max = cx.limits.asked_max;
                if self.asks.len() >= max {
                    let message = format!("{max} questions to members wait for answers, the limit (asked_max)");
                    let error = Error::new(ErrorCode::Unavailable, message).by_limit("asked_max");
                    return Err(error.after_ms(RETRY_AFTER_MS));
                }
                let answers = Answers { answers: Vec::new(), asked: 0, left: 0, timed_out: false };
                let until_ms = cx.now.mono_ms.saturating_add(timeout_ms);
                let asked = Asked { token, edges: None, edges_done: 0, answers, bytes: 0, until_ms };
                let asked = self.pending.insert(Pending::Asked(Box::new(asked)));
                self.asks.insert(token, asked);
                cx.wheel.add(until_ms, Timer::Asked(asked));
                // Each shard has its own numbers.
                let id = self.next_ask * self.edges.shards().count() as u64 + u64::from(cx.me.0);
                self.next_ask += 1;
                let ask = Ask { id, to: ReplyAddress { shard: cx.me, token: asked }, until_ms };
                let entry = entry(Some(data), Some(Act::Ask(ask)));
                let token = self.pending.insert(Pending::Asking { app, asked });
                self.tell_home(cx, &channel, ToHome::Publish { token, entry });
                return Ok(());
            }
            MembersOp::Volatile { data } => {
                let entry = entry(Some(data), None);
                return self.ask_home(cx, &channel, Pending::App(app), |token| ToHome::Unlogged { token, entry });
            }
            MembersOp::List => {
                super::app::has_rule(cx, &channel)?;
                let list = Listing { app, edges: None, edges_done: 0, members: Vec::new() };
                let token = self.pending.insert(Pending::List(Box::new(list)));
                let entry = entry(None, Some(Act::List(List(ReplyAddress { shard: cx.me, token }))));
                self.tell_home(cx, &channel, ToHome::Unlogged { token, entry });
                return Ok(());
            }
            MembersOp::Answer { id, data } => (Some(data), Act::Answer { id }),
            MembersOp::Join { rooms } => (None, Act::Join(rooms)),
            MembersOp::Leave { rooms } => (None, Act::Leave(rooms)),
            MembersOp::Disconnect { whole } => (None, Act::Disconnect { whole }),
        };
        let entry = entry(data, Some(act));
        self.ask_home(cx, &channel, Pending::App(app), |token| ToHome::Publish { token, entry })
    }

    /// A fan-out has come to an act.
    pub(super) fn do_now(&mut self, cx: &mut Cx<'_>, edge: u32, ToDo { epoch, publication, is_last }: ToDo) {
        let place = Position { epoch, offset: publication.offset };
        let mut members = std::mem::take(&mut self.sessions.acted);
        members.sort_unstable();
        members.dedup(); // one in several of the rooms is meant once
        match publication.act.as_deref() {
            Some(Act::Ask(ask)) => {
                let asked = members.iter().filter(|&&session| self.is_asked(cx, session, ask)).count();
                let part = AnswerPart::Asked { members: asked as u64, is_last };
                cx.out.push_back((ask.to.shard, PeerBody::Answer { token: ask.to.token, part }));
            }
            Some(Act::List(List(to))) => {
                let members = members.iter().filter_map(|&session| self.member_info(session, edge)).collect();
                cx.out.push_back((to.shard, PeerBody::Members { token: to.token, members, is_last }));
            }
            Some(act) => members.iter().for_each(|&session| self.change(cx, session, edge, act, place)),
            None => {}
        }
        cx.slice.spend(members.len());
        if self.sessions.acted.is_empty() {
            self.sessions.acted = members;
            self.sessions.acted.clear();
        }
    }

    /// A member that was behind has come to an act in its page. False where its session has ended by that.
    pub(super) fn act_of_page(
        &mut self,
        cx: &mut Cx<'_>,
        at: SessionRef,
        edge: u32,
        publication: &Arc<Publication>,
        place: Position,
    ) -> bool {
        match publication.act.as_deref() {
            // Unless its edge has said so already.
            Some(Act::Ask(ask)) => {
                if self.is_asked(cx, at.index, ask) {
                    let part = AnswerPart::Asked { members: 1, is_last: false };
                    cx.out.push_back((ask.to.shard, PeerBody::Answer { token: ask.to.token, part }));
                }
            }
            Some(act) => self.change(cx, at.index, edge, act, place),
            None => {}
        }
        self.sessions.get(at).is_some()
    }

    /// Changes one member.
    fn change(&mut self, cx: &mut Cx<'_>, session: u32, edge: u32, act: &Act, place: Position) {
        let Some(entry) = self.sessions.slab.get(session as usize) else { return };
        let (at, conn) = (self.sessions.reference(session), entry.seat_id());
        let sub = entry.sub_on(edge).map(|slot| &entry.subs[slot]);
        // A recovery reads it once more. The rooms are what they were, and it has been left since or not.
        let keeps = sub.and_then(|sub| sub.rooms.as_ref()?.keeps.as_ref());
        let was_done = keeps.is_some_and(|keeps| keeps.has_done(place));
        let sub = sub.filter(|_| !was_done).map(|sub| sub.id);
        match (act, conn, sub) {
            (Act::Disconnect { whole: true }, Some(seat), _) => self.close(cx, seat.conn, Disconnect::Kicked),
            (Act::Disconnect { whole: false }, Some(seat), _) => {
                self.leave_seat(cx, seat, Ended::Closed(Disconnect::Kicked));
            }
            (Act::Join(rooms) | Act::Leave(rooms), _, Some(sub)) => {
                let channel = self.edges.edges[edge as usize].name.clone();
                for room in rooms {
                    let change = match act {
                        Act::Join(_) => RoomChange::Join(room.clone()),
                        _ => RoomChange::LeaveByAct(room.clone()),
                    };
                    self.room_changed(cx, &channel, (at, sub), change, place);
                }
            }
            _ => {}
        }
    }

    /// Notes that a session is asked this. False where it has been noted.
    fn is_asked(&mut self, cx: &mut Cx<'_>, session: u32, ask: &Ask) -> bool {
        let Some(session) = self.sessions.slab.get_mut(session as usize) else { return false };
        let asked = &mut session.extra().asked;
        if asked.iter().any(|other| other.id == ask.id) {
            return false;
        }
        // Those whose time is over go first. Where their asker waits for longer than they know, it hears of it.
        if asked.len() >= ASKED_MAX {
            let now_ms = cx.now.mono_ms;
            let oldest = asked.iter().position(|other| other.until_ms <= now_ms).unwrap_or(0);
            let Ask { to, .. } = asked.remove(oldest);
            cx.out.push_back((to.shard, PeerBody::Answer { token: to.token, part: AnswerPart::Left }));
        }
        asked.push(ask.clone());
        true
    }

    /// A client answers a question.
    pub(super) fn answers(&mut self, cx: &mut Cx<'_>, at: SessionRef, id: u64, data: Data) {
        let Some(session) = self.sessions.get(at) else { return };
        let client = session.client;
        let Some(extra) = session.extra.as_mut() else { return };
        let Some(place) = extra.asked.iter().position(|ask| ask.id == id) else { return };
        let Ask { to, .. } = extra.asked.remove(place);
        session.tidy();
        cx.out.push_back((to.shard, PeerBody::Answer { token: to.token, part: AnswerPart::Answered(client, data) }));
    }

    /// A question to members has its place, or has not.
    pub(super) fn question_published(
        &mut self,
        cx: &mut Cx<'_>,
        app: AppToken,
        asked: PendingToken,
        result: Result<Published, Error>,
    ) {
        match &result {
            Ok(published) => {
                if let Some(Pending::Asked(state)) = self.pending.get(asked) {
                    state.edges = Some(published.edges);
                }
            }
            Err(_) => {
                if let Some(Pending::Asked(asked)) = self.pending.take(asked) {
                    self.asks.remove(&asked.token);
                }
            }
        }
        self.answer_app(cx, app, result.map(published));
        self.asked_progress(cx, asked);
    }

    /// A part of the answers to a question of this shard.
    pub(crate) fn answer_part(&mut self, cx: &mut Cx<'_>, token: PendingToken, part: AnswerPart) {
        let Some(Pending::Asked(asked)) = self.pending.get(token) else { return };
        match part {
            AnswerPart::Asked { members, is_last } => {
                asked.answers.asked += members;
                asked.edges_done += u32::from(is_last);
            }
            AnswerPart::Answered(client, data) => {
                asked.bytes += ANSWER_BYTES + data.bytes().len();
                asked.answers.answers.push((client, data));
            }
            AnswerPart::Left => asked.answers.left += 1,
        }
        self.asked_progress(cx, token);
    }

    fn asked_progress(&mut self, cx: &mut Cx<'_>, token: PendingToken) {
        let Some(Pending::Asked(asked)) = self.pending.get(token) else { return };
        let Answers { answers, asked: members, left, .. } = &asked.answers;
        let is_whole =
            asked.edges.is_some_and(|edges| asked.edges_done >= edges) && answers.len() as u64 + left >= *members;
        if is_whole || asked.bytes > ANSWERS_BYTES_MAX {
            self.question_over(cx, token, !is_whole);
        }
    }

    /// The time for the answers to a question is over.
    pub(crate) fn asked_timeout(&mut self, cx: &mut Cx<'_>, token: PendingToken) {
        // Its publication may not be answered yet: then the answer to that comes first.
        if let Some(Pending::Asked(asked)) = self.pending.get(token) {
            if asked.until_ms > cx.now.mono_ms {
                return; // it has got more time, and another timer
            }
            if asked.edges.is_none() {
                return cx.wheel.add(cx.now.mono_ms + RETRY_AFTER_MS, Timer::Asked(token));
            }
            self.question_over(cx, token, true);
        }
    }

    /// The answers to a question are waited for so long from now on.
    pub(crate) fn ask_until(&mut self, cx: &mut Cx<'_>, token: AskToken, timeout_ms: u64) {
        let Some(&pending) = self.asks.get(&token) else { return };
        let Some(Pending::Asked(asked)) = self.pending.get(pending) else { return };
        asked.until_ms = cx.now.mono_ms.saturating_add(timeout_ms);
        match timeout_ms {
            0 => self.asked_timeout(cx, pending),
            _ => cx.wheel.add(asked.until_ms, Timer::Asked(pending)),
        }
    }

    fn question_over(&mut self, cx: &mut Cx<'_>, token: PendingToken, timed_out: bool) {
        let Some(Pending::Asked(asked)) = self.pending.take(token) else { return };
        self.asks.remove(&asked.token);
        let answers = Answers { timed_out, ..asked.answers };
        cx.effects.add(Effect::Answers { token: asked.token, answers: Box::new(answers) });
    }

    fn member_info(&self, session: u32, edge: u32) -> Option<MemberInfo> {
        let session = self.sessions.slab.get(session as usize)?;
        let sub = &session.subs[session.sub_on(edge)?];
        let mut rooms: Vec<Room> = Vec::new();
        for room in sub.rooms.iter().flat_map(|rooms| rooms.open()) {
            if !rooms.contains(room) {
                rooms.push(room.clone());
            }
        }
        let conn = session.conn.and_then(|id| self.conns.get(id.index as usize));
        let attachment = conn.and_then(|conn| conn.attachment.clone());
        Some(MemberInfo { client: session.client, user: session.user().cloned(), rooms, attachment })
    }

    /// One edge's part of a list.
    pub(crate) fn listed(&mut self, cx: &mut Cx<'_>, token: PendingToken, members: Vec<MemberInfo>, is_last: bool) {
        let Some(Pending::List(list)) = self.pending.get(token) else { return };
        list.members.extend(members);
        list.edges_done += u32::from(is_last);
        self.list_progress(cx, token);
    }

    pub(super) fn list_progress(&mut self, cx: &mut Cx<'_>, token: PendingToken) {
        let Some(Pending::List(list)) = self.pending.get(token) else { return };
        if list.edges.is_some_and(|edges| list.edges_done >= edges)
            && let Some(Pending::List(list)) = self.pending.take(token)
        {
            self.answer_app(cx, list.app, Ok(AppAnswer::Members(list.members)));
        }
    }

    /// A question has come, and the shard has no member.
    pub(super) fn asks_nobody(&mut self, cx: &mut Cx<'_>, message: &ToEdge) {
        let (ToEdge::Deliver { publication, .. } | ToEdge::Unlogged { publication, .. }) = message else { return };
        let (to, body): (_, fn(PendingToken) -> PeerBody) = match publication.act.as_deref() {
            Some(Act::Ask(ask)) => {
                (ask.to, |token| PeerBody::Answer { token, part: AnswerPart::Asked { members: 0, is_last: true } })
            }
            Some(Act::List(List(to))) => (*to, |token| PeerBody::Members { token, members: Vec::new(), is_last: true }),
            _ => return,
        };
        cx.out.push_back((to.shard, body(to.token)));
    }
}
