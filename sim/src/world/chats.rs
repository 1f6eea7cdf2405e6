//! Chat clients in the world: the shell's part of their connections, and what they read.
//!
//! The shell decides nothing. It asks `fanfare_wire::chat` for the commands of a message, the words of a push and who
//! may read them, as the server's protocol does, and compares them with the simulation's own idea. The judges get the
//! hub's own messages, also those for which a chat has no word: each as soon as all before it was read.

use super::{Verdict, World};
use crate::chat::{ChatAct, Form, Said, Say, Told, is_counted, pushed};
use crate::pipe::FromChat;
use crate::wire::{self, ToClient};
use bytes::Bytes;
use fanfare_hub::{
    Appended, ChannelName, Command, ConnId, Connect, Disconnect, HeartbeatKind, Input, Push, Reply, ReplyBody, Request,
    RequestId,
};
use fanfare_wire::chat::{self, Chat, Written};
use fanfare_wire::websocket::{self, Opcode};
use std::collections::VecDeque;
use std::rc::Rc;

/// A push in the form in which all chat clients get it, encoded once.
pub(super) struct ChatPush {
    told: Told,
    frame: Option<Bytes>,
}

impl World {
    /// The number of a chat client among its kind.
    pub(super) fn chat_of(&self, client: usize) -> Option<usize> {
        client.checked_sub(self.clients.len() + self.cores.len()).filter(|chat| *chat < self.chats.len())
    }

    pub(super) fn open_chat(&mut self, client: usize, chat: usize, shard: usize) -> Verdict {
        let pipe = self.new_pipe(client, shard);
        self.checker.opened(pipe, shard);
        self.checker.is_chat(pipe);
        self.pipes[pipe].speak_chat(self.plan.limits.message_bytes_max);
        self.chats[chat].opened(pipe, self.now_ms);
        self.bind(pipe, HeartbeatKind::Asks)?;
        // Opening the socket connects the client.
        let user = self.chats[chat].user.clone();
        let connect = match self.plan.hooks.hooks.connect {
            true => Connect { token: user.map(|user| (&*user.0).into()), ..Connect::default() },
            false => Connect { user, ..Connect::default() },
        };
        self.chat_command(pipe, Chat::open(connect))?;
        let (now_ms, rng) = (self.now_ms, &mut self.client_rngs[client]);
        match self.chats[chat].greets(now_ms, rng, &self.plan, self.calm) {
            Some(ChatAct::Say(say)) => self.chat_says(pipe, say),
            _ => Ok(()),
        }
    }

    pub(super) fn tick_chat(&mut self, client: usize, chat: usize) -> Verdict {
        let now_ms = self.now_ms;
        let Some(pipe) = self.chats[chat].pipe else {
            if now_ms < self.chats[chat].retry_ms {
                return Ok(());
            }
            let shard = self.any_shard(client);
            return self.open(client, shard);
        };
        self.hears_enough(pipe)?;
        let (rng, numbers) = (&mut self.client_rngs[client], &mut self.numbers[client]);
        for act in self.chats[chat].acts(now_ms, rng, numbers, &self.plan, self.calm) {
            match act {
                ChatAct::Say(say) => self.chat_says(pipe, say)?,
                ChatAct::Close { finally } => return self.cut(pipe, finally),
            }
        }
        Ok(())
    }

    fn chat_says(&mut self, index: usize, say: Say) -> Verdict {
        let text = say.text();
        let client = self.pipes[index].client;
        self.trace.note(self.now_ms, || {
            let shown: String = text.chars().take(300).collect();
            format!("chat client {client} sends on pipe {index}: {shown}")
        });
        let pipe = &mut self.pipes[index];
        if let Some(end) = pipe.chat.as_mut().filter(|_| !pipe.half_open && pipe.server_open) {
            end.sent.push_back(say);
        }
        self.carry_up(index, &text)
    }

    /// The server reads what has arrived.
    pub(super) fn read_chat(&mut self, pipe: usize) -> Verdict {
        while let Some(from) = self.pipes[pipe].read_chat(self.now_ms)? {
            let text = match from {
                FromChat::Pong => continue,
                FromChat::Broken(code) => return self.chat_is_broken(pipe, code),
                FromChat::Text(text) => text,
            };
            let Some(end) = &mut self.pipes[pipe].chat else { return Ok(()) };
            let say = end.sent.pop_front().filter(|say| say.text() == text);
            let say = say.ok_or_else(|| format!("wire: chat: nobody said {text}"))?;
            let joins = end.mirror.joins;
            let meant = end.mirror.reads(&say);
            let mut requests = Vec::new();
            let read = end.server.read(text.as_bytes(), &mut requests).map_err(|ignored| ignored.cause());
            let agrees = match (&meant, &read) {
                (Ok(meant), Ok(())) => *meant == requests,
                (Err("not_joined"), Err("not_joined")) => requests.is_empty(),
                (Err(meant), Err(cause)) => meant == cause && is_counted(&requests),
                _ => false,
            };
            if !agrees {
                return Err(format!("wire: chat: {say:?} is {meant:?}, and was read as {read:?}: {requests:?}"));
            }
            self.counts.chat_ignored += u64::from(read.is_err());
            for request in requests {
                if let Command::Unsubscribe { channel } = &request.command {
                    self.pipes[pipe].watch.forget(channel);
                    let end = self.pipes[pipe].chat.as_mut();
                    end.into_iter().for_each(|end| end.leaves.push((channel.clone(), joins)));
                }
                if self.pipes[pipe].server_open {
                    self.chat_command(pipe, request)?;
                }
            }
        }
        Ok(())
    }

    fn chat_command(&mut self, pipe: usize, request: Request) -> Verdict {
        self.trace.note(self.now_ms, || format!("chat on pipe {pipe} asks for {request:?}"));
        self.application.shown(pipe, &request);
        self.checker.sent(pipe, &request, &self.stores.borrow());
        self.command(pipe, request)
    }

    /// A message is larger than one may be: the server hangs up.
    fn chat_is_broken(&mut self, pipe: usize, code: u16) -> Verdict {
        const TOO_LARGE: u16 = 1009;
        let max = self.plan.limits.message_bytes_max;
        let said = self.pipes[pipe].chat.as_mut().and_then(|end| end.sent.pop_front());
        if code != TOO_LARGE || said.as_ref().is_none_or(|say| say.text().len() <= max) {
            return Err(format!("wire: chat: pipe {pipe} is closed with {code} for {said:?}"));
        }
        self.counts.chat_too_large += 1;
        let mut frame = Vec::new();
        websocket::put_close(&mut frame, code, "", None);
        self.chat_ends(pipe, frame.into());
        let (shard, conn) = (self.pipes[pipe].shard, self.pipes[pipe].conn);
        self.handle(shard, Input::Closed { conn, finally: true })
    }

    /// A push for chat clients, in the words of their protocol.
    pub(super) fn chat_push(&self, push: &Push) -> Result<ChatPush, String> {
        let mut text = Vec::new();
        let (told, frame) = match chat::encode_push(push, self.wall_ms, &mut text) {
            Written::Message => {
                let frame = websocket::frame(Opcode::Text, &text);
                (Told::Text(String::from_utf8_lossy(&text).into_owned()), Some(frame))
            }
            Written::Messages => return Err(format!("wire: chat: {push:?} is several messages")),
            Written::Nothing => (Told::Nothing, None),
            Written::Ping => (Told::Ping, Some(websocket::frame(Opcode::Ping, &[]))),
            Written::Close(reason) => (Told::Close(reason), None),
        };
        let meant = pushed(push, self.wall_ms);
        if meant != told {
            return Err(format!("wire: chat: {push:?} is to be told as {meant:?}, and is told as {told:?}"));
        }
        Ok(ChatPush { told, frame })
    }

    /// A shard tells a chat client something.
    pub(super) fn chat_is_told(
        &mut self,
        (shard, conn): (usize, ConnId),
        message: &Rc<ToClient>,
        push: &ChatPush,
        inputs: &mut VecDeque<Input>,
    ) -> Verdict {
        let (Some(index), ToClient::Push(said)) = (self.pipe_of(shard, conn), &**message) else { return Ok(()) };
        let Some(end) = &mut self.pipes[index].chat else { return Ok(()) };
        // The server asks each conversation about people only.
        let is_of_people = matches!(said, Push::Presence(_) | Push::PresenceSnapshot { .. });
        let takes = !is_of_people || end.server.takes(said);
        let form = match &push.told {
            _ if !takes => Form::Skipped,
            Told::Text(text) => Form::Text(text.clone()),
            Told::Ping => Form::Ping,
            Told::Nothing | Told::Texts(_) | Told::Close(_) => Form::Nothing,
        };
        self.counts.chat_skipped += u64::from(!takes);
        let frame = push.frame.clone().filter(|_| takes);
        self.chat_append(index, message, (form, Vec::new()), frame, inputs)?;
        if let Told::Close(reason) = push.told {
            self.chat_parts(index, reason);
            inputs.push_back(Input::Closed { conn, finally: !reason.reconnect() });
        }
        Ok(())
    }

    /// A shard answers a chat client.
    pub(super) fn chat_is_answered(&mut self, index: usize, reply: &Reply, inputs: &mut VecDeque<Input>) -> Verdict {
        let wall_ms = self.wall_ms;
        let Some(end) = &mut self.pipes[index].chat else { return Ok(()) };
        let (mut text, join) = (Vec::new(), 2 * end.mirror.joins);
        let meant = end.mirror.replied(reply, wall_ms);
        end.mirror.answered(reply);
        let told = match end.server.encode_reply(reply, wall_ms, &mut text) {
            Ok(Written::Message) => Told::Text(String::from_utf8_lossy(&text).into_owned()),
            Ok(Written::Messages) => Told::Texts(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()),
            Ok(Written::Nothing) | Err(_) => Told::Nothing,
            Ok(other) => return Err(format!("wire: chat: {reply:?} is {other:?}")),
        };
        if meant != told {
            return Err(format!("wire: chat: {reply:?} is to be told as {meant:?}, and is told as {told:?}"));
        }
        let mut texts = match told {
            Told::Text(text) => VecDeque::from([text]),
            Told::Texts(texts) => texts.into(),
            _ => VecDeque::new(),
        };
        let mut frames = Vec::new();
        texts.iter().for_each(|text| frames.extend_from_slice(&websocket::frame(Opcode::Text, text.as_bytes())));
        let mut form = texts.pop_front().map_or(Form::Nothing, Form::Text);
        let channel = match &reply.body {
            ReplyBody::Subscribed(subscribed) => Some(&subscribed.channel),
            ReplyBody::Error(error) => error.channel.as_ref(),
            _ => None,
        };
        if let (Some(RequestId::Number(id)), Some(channel)) = (&reply.id, channel) {
            // Commands on one channel are done in their order.
            let before = |(of, joins): &mut (ChannelName, u64)| of == channel && 2 * *joins < *id;
            let done: Vec<_> = end.leaves.extract_if(.., before).collect();
            // Refused: the earlier subscription is over, and there is none in its place.
            if matches!(reply.body, ReplyBody::Error(_)) && !done.is_empty() {
                self.pipes[index].watch.forget(channel);
            }
            let Some(end) = &mut self.pipes[index].chat else { return Ok(()) };
            end.said.extend(done.into_iter().map(|(channel, _)| Said::Left(channel)));
            if *id != join {
                form = Form::Skipped; // it has joined another room since
            }
        }
        let frame = form.is_sent().then(|| frames.into());
        let more = texts.into_iter().map(Said::More).collect();
        self.chat_append(index, &Rc::new(ToClient::Reply(reply.clone())), (form, more), frame, inputs)
    }

    fn chat_append(
        &mut self,
        index: usize,
        message: &Rc<ToClient>,
        (form, more): (Form, Vec<Said>),
        frame: Option<Bytes>,
        inputs: &mut VecDeque<Input>,
    ) -> Verdict {
        self.overhears(index, message);
        let pipe = &mut self.pipes[index];
        if let Some(end) = &mut pipe.chat {
            // The application can only subscribe somebody who is not subscribed: earlier leaves are done. One behind a
            // join without an answer is later: both have waited for the application's command.
            if let ToClient::Push(Push::Subscribed(subscribed)) = &**message {
                let desk = &pipe.desk;
                let is_done =
                    |(of, joins): &mut (ChannelName, u64)| *of == subscribed.channel && !desk.waits_for(of, 2 * *joins);
                let done: Vec<_> = end.leaves.extract_if(.., is_done).collect();
                end.said.extend(done.into_iter().map(|(channel, _)| Said::Left(channel)));
            }
            end.said.push_back(Said::Message { message: message.clone(), form });
            end.said.extend(more);
        }
        if let Some(frame) = frame {
            let largest = if wire::is_page(message) { &mut pipe.page_frame_max } else { &mut pipe.frame_max };
            *largest = (*largest).max(frame.len());
            let conn = pipe.conn;
            if pipe.outbox.push(frame, self.plan.limits.outbox_bytes_max) == Appended::Full {
                self.counts.full += 1;
                self.trace.note(self.now_ms, || format!("pipe {index} is full"));
                inputs.push_back(Input::Full(conn));
            }
            self.flush_later(index);
        }
        self.chat_knows(index)
    }

    /// There is no word for what a client must not miss: it is closed, and joins again.
    fn chat_parts(&mut self, index: usize, reason: Disconnect) {
        self.trace.note(self.now_ms, || format!("chat on pipe {index} is closed: {reason}"));
        match reason {
            Disconnect::Lost => self.counts.chat_lost += 1,
            Disconnect::Kicked => self.counts.chat_kicked += 1,
            _ => {}
        }
        self.chat_ends(index, wire::encode_close(reason));
    }

    /// Writes the end of the connection behind everything else.
    fn chat_ends(&mut self, index: usize, close: Bytes) {
        self.over(index);
        self.ends(index, true);
        let pipe = &mut self.pipes[index];
        pipe.outbox.push(close, usize::MAX);
        self.has_written_its_end(index);
    }

    /// A shard closes the connection: a chat has no word for that.
    pub(super) fn chat_farewell(&mut self, index: usize, farewell: Rc<ToClient>) {
        if let Some(end) = &mut self.pipes[index].chat {
            end.said.push_back(Said::Message { message: farewell, form: Form::Nothing });
        }
    }

    /// A chat client reads a text, or (`None`) a ping, which it answers.
    pub(super) fn chat_hears(&mut self, index: usize, text: Option<&str>) -> Verdict {
        let (client, now_ms) = (self.pipes[index].client, self.now_ms);
        let pipe = &mut self.pipes[index];
        pipe.heard_ms = now_ms;
        pipe.heard_count += 1;
        let Some(end) = &mut pipe.chat else { return Err(format!("wire: a ping on pipe {index}, which is no chat")) };
        let (message, form) = match (end.said.pop_front(), text) {
            (Some(Said::Message { message, form: Form::Text(said) }), Some(text)) if said == text => {
                (message, Form::Text(said))
            }
            (Some(Said::Message { message, form: Form::Ping }), None) => (message, Form::Ping),
            (Some(Said::More(said)), Some(text)) if said == text => {
                self.trace.note(now_ms, || format!("chat client {client} receives on pipe {index}: {text}"));
                return self.chat_knows(index);
            }
            (said, text) => return Err(format!("wire: chat: {said:?} was read as {text:?}")),
        };
        self.trace
            .note(now_ms, || format!("chat client {client} receives on pipe {index}: {}", text.unwrap_or("a ping")));
        if let Some(chat) = self.chat_of(client) {
            self.chats[chat].reads(now_ms, answered_join(&message));
        }
        self.chat_counts(&message, &form);
        self.chat_learns(index, &message, &form)?;
        self.chat_knows(index)?;
        match form {
            Form::Ping => self.carry_pong(index),
            _ => Ok(()),
        }
    }

    /// A reply or push for which there are no bytes is known when all before it was read.
    fn chat_knows(&mut self, index: usize) -> Verdict {
        while self.pipes[index].client_open
            && let Some(said) = self.pipes[index].chat.as_mut().and_then(|end| end.next_silent())
        {
            match said {
                Said::Message { message, form } => self.chat_learns(index, &message, &form)?,
                Said::More(_) => {}
                Said::Left(channel) => {
                    self.checker.left(index, &channel);
                    self.pipes[index].chat.iter_mut().for_each(|end| end.people.left(&channel));
                }
            }
        }
        Ok(())
    }

    fn chat_learns(&mut self, index: usize, message: &Rc<ToClient>, form: &Form) -> Verdict {
        if let Some(end) = &mut self.pipes[index].chat {
            end.people.hears(message, form)?;
        }
        let now = self.now();
        self.checker.got(now, index, message, &self.stores.borrow(), &self.policy)
    }

    fn chat_counts(&mut self, message: &ToClient, form: &Form) {
        if !matches!(form, Form::Text(_)) {
            return;
        }
        match message {
            ToClient::Reply(Reply { body: ReplyBody::Error(_), .. }) => self.counts.chat_refused += 1,
            ToClient::Reply(_) => self.counts.chat_joined += 1,
            ToClient::Push(Push::Message { publication, .. }) => {
                self.counts.chat_messages += 1;
                let is_of_chat = publication.data.bytes().windows(10).any(|part| part == b"\"content\":");
                self.counts.chat_foreign += u64::from(!is_of_chat);
            }
            ToClient::Push(Push::Signal(_)) => self.counts.chat_typing += 1,
            ToClient::Push(Push::Presence(_)) => self.counts.chat_people += 1,
            ToClient::Push(_) => {}
        }
    }

    /// Rooms that clients have left: where a shard has no earlier command on the channel to decide, it has done it.
    pub(super) fn chats_leave(&mut self, shard: usize) -> Verdict {
        for chat in 0..self.chats.len() {
            let Some(index) = self.chats[chat].pipe.filter(|pipe| self.pipes[*pipe].shard == shard) else { continue };
            let pipe = &mut self.pipes[index];
            let Some(end) = &mut pipe.chat else { continue };
            let desk = &pipe.desk;
            let done: Vec<_> = end.leaves.extract_if(.., |(channel, _)| desk.decides_at_once(channel)).collect();
            done.iter().for_each(|(channel, _)| pipe.watch.forget(channel));
            end.said.extend(done.into_iter().map(|(channel, _)| Said::Left(channel)));
            self.chat_knows(index)?;
        }
        Ok(())
    }

    /// All has been calm for long: shards have done every leave.
    pub(super) fn chats_have_left(&mut self) {
        for index in self.chats.iter().filter_map(|chat| chat.pipe) {
            let Some(end) = &mut self.pipes[index].chat else { continue };
            for (channel, _) in std::mem::take(&mut end.leaves) {
                self.checker.left(index, &channel);
                end.people.left(&channel);
            }
        }
    }

    /// All has been calm for long: every chat client is in a room, has read all that was said there, and knows who is
    /// there.
    pub(super) fn judge_chats(&mut self) -> Verdict {
        for chat in 0..self.chats.len() {
            let Some(index) = self.chats[chat].pipe.filter(|_| self.chats[chat].is_in) else {
                return Err(format!("promise 3: chat client {chat} is in no room: {:?}", self.chats[chat]));
            };
            let Some(end) = &mut self.pipes[index].chat else { continue };
            // A ping is always under way somewhere.
            if let Some(said) = end.said.iter().find(|said| said.is_text()) {
                return Err(format!("promise 3: chat client {chat} has not read {said:?}"));
            }
            let Some(channel) = end.mirror.channel().cloned() else {
                return Err(format!("promise 3: chat client {chat} is in a room, and the server knows of none"));
            };
            self.checker.follows(index, &channel, &self.stores.borrow())?;
            if end.people.misses_changes() {
                return Err(format!(
                    "promise 5: chat client {chat} has missed people in {channel}, and is not told the whole"
                ));
            }
            let own = end.people.own().zip(end.mirror.entry());
            if let Some((room, mut names)) = end.people.everybody() {
                names.extend(own.map(|(client, data)| (client, data.to_vec())));
                self.counts.chat_lists += 1;
                self.checker.chat_presence_agrees(room, &names)?;
            }
        }
        Ok(())
    }
}

/// The number of the join that this answers with a `room_state`.
fn answered_join(message: &ToClient) -> Option<u64> {
    match message {
        ToClient::Reply(Reply { id: Some(RequestId::Number(id)), body: ReplyBody::Presence { .. } }) => Some(id / 2),
        _ => None,
    }
}
