//! Runs handlers: off the shard, with a deadline, and with an answer even after a panic.

use super::extract::{Call, Subject, Token};
use super::handler::Erased;
use super::news::{Event, News, Next, Place};
use super::notice::{NoticeHandlers, NoticeKind};
use crate::auth::{Authenticator, Verdict};
use crate::clock::Clock;
use crate::config::hooks::{PAUSE_MAX, PAUSE_MIN};
use crate::control::Control;
use crate::embed::handle::Handle;
use crate::embed::payload;
use crate::embed::socketio::desk::{Desk, SOCKET_EVENT};
use crate::embed::socketio::handler::Registry;
use crate::logs;
use crate::protocol::socketio::SocketHandlers as _;
use crate::request::RequestInfo;
use crate::watch::{HOOKS, Watch};
use fanfare_hub::{
    Attachment, Caller, ChannelEvent, ChannelNotices, Error, ErrorCode, HookAnswer, HookToken, Hooks, Notice, Pattern,
    Question,
};
use futures_util::FutureExt as _;
use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime;
use tokio::sync::mpsc::UnboundedSender;

/// The places of handlers of notices in [`HOOKS`] begin here.
const FIRST_NOTICE: usize = 9;
/// No event comes again sooner.
const PAUSE_FLOOR: Duration = Duration::from_millis(10);

/// A handler for the channels of a pattern.
pub(crate) struct ChannelHandler {
    pub(crate) pattern: Pattern,
    pub(crate) handler: Erased,
    /// It is called only where the rule says `hook`.
    pub(crate) is_by_rule: bool,
}

/// The handlers of an application, by their purpose. If several patterns match a channel, the first one's handler is
/// called.
#[derive(Default)]
pub(crate) struct Handlers {
    pub(crate) connect: Option<Erased>,
    pub(crate) subscribe: Vec<ChannelHandler>,
    pub(crate) publish: Vec<ChannelHandler>,
    pub(crate) rpc: HashMap<Box<str>, Erased>,
    /// For all other methods.
    pub(crate) other_rpc: Option<Erased>,
    pub(crate) disconnect: Option<Erased>,
    pub(crate) notices: NoticeHandlers,
    pub(crate) socketio: Registry,
    /// Some are the program's: they run on its runtime.
    pub(crate) are_of_program: bool,
}

impl Handlers {
    pub(crate) fn is_empty(&self) -> bool {
        self.connect.is_none()
            && self.subscribe.is_empty()
            && self.publish.is_empty()
            && !self.has_rpc()
            && self.disconnect.is_none()
            && self.notices.all().next().is_none()
            && self.socketio.is_empty()
    }

    /// Whether calls of methods are answered.
    pub(crate) fn has_rpc(&self) -> bool {
        !self.rpc.is_empty() || self.other_rpc.is_some()
    }

    /// True if any of them looks at the request that a connection began with.
    pub(crate) fn need_request(&self) -> bool {
        if self.socketio.need_request() {
            return true;
        }
        let by_pattern = self.subscribe.iter().chain(&self.publish).chain(self.notices.all());
        let by_pattern = by_pattern.map(|channel| &channel.handler);
        let calls = self.rpc.values().chain(&self.other_rpc);
        let mut all = self.connect.iter().chain(&self.disconnect).chain(calls).chain(by_pattern);
        all.any(|handler| handler.needs_request)
    }

    /// The questions that the hub must ask.
    pub(crate) fn hooks(&self) -> Hooks {
        let patterns = |handlers: &[ChannelHandler]| {
            handlers.iter().filter(|channel| !channel.is_by_rule).map(|channel| channel.pattern.clone()).collect()
        };
        let mut channels = ChannelNotices::default();
        self.notices.add_to(&mut channels);
        Hooks {
            connect: self.connect.is_some(),
            subscribe: patterns(&self.subscribe),
            publish: patterns(&self.publish),
            rpc: self.has_rpc(),
            disconnect: self.disconnect.is_some(),
            channels,
        }
    }

    /// The handler that answers, or why there is none.
    fn of(&self, subject: &Subject) -> Result<&Erased, Error> {
        let no_handler = |kind: &str| {
            Error::new(
                ErrorCode::Denied,
                format!("the rule says `hook`, and there is no `{kind}` handler for this channel"),
            )
        };
        let by_name = |handlers: &'_ [ChannelHandler], name: &str| {
            handlers.iter().position(|channel| channel.pattern.matches(name))
        };
        match subject {
            Subject::Connect { .. } => self.connect.as_ref().ok_or_else(|| {
                Error::new(ErrorCode::Unauthorized, "this server cannot check tokens; connect without one")
            }),
            Subject::Subscribe(options) => {
                let at = by_name(&self.subscribe, &options.channel);
                at.map(|at| &self.subscribe[at].handler).ok_or_else(|| no_handler("on_subscribe").on(&options.channel))
            }
            Subject::Publish(publish) => {
                let at = by_name(&self.publish, &publish.channel);
                at.map(|at| &self.publish[at].handler).ok_or_else(|| no_handler("on_publish").on(&publish.channel))
            }
            Subject::Rpc { method, .. } => {
                self.rpc.get(method).or(self.other_rpc.as_ref()).ok_or_else(|| {
                    Error::new(ErrorCode::NotFound, format!("there is no method {:?}", shortened(method)))
                })
            }
            Subject::Ended(_) => self.disconnect.as_ref().ok_or_else(|| no_handler("on_disconnect")),
            Subject::Notice { channel, event, .. } => {
                self.notices.find(channel, event).ok_or_else(|| no_handler(NoticeKind::of(event).word()).on(channel))
            }
            // These have a registry of their own.
            Subject::Socket { .. } => Err(Error::new(ErrorCode::NotFound, "there is no such handler")),
        }
    }

    /// Answers a question: the handler's answer, or why there is none. Never panics, and takes no longer than
    /// `deadline`.
    pub(crate) async fn answer(&self, call: impl Into<Arc<Call>>, deadline: Duration) -> HookAnswer {
        let call = call.into();
        let handler = match self.of(&call.subject) {
            Ok(handler) => handler,
            Err(error) => return HookAnswer::Refused(error),
        };
        let answering = AssertUnwindSafe(handler.answer(call.clone())).catch_unwind();
        match tokio::time::timeout(deadline, answering).await {
            Ok(Ok(answer)) => sendable(&call.subject, answer),
            Ok(Err(panic)) => {
                let handler = call.subject.handler();
                logs::limited!(Handler, ERROR, handler, panic = text(&*panic), "a handler panicked");
                HookAnswer::Refused(Error::new(ErrorCode::Internal, "the server failed; its log has the reason"))
            }
            Err(_) => {
                let ms = deadline.as_millis();
                let handler = call.subject.handler();
                logs::limited!(
                    Handler,
                    ERROR,
                    handler,
                    deadline_ms = ms as u64,
                    "a handler was too slow and was dropped"
                );
                HookAnswer::Refused(Error::new(
                    ErrorCode::Timeout,
                    format!("the handler did not answer within {ms} ms"),
                ))
            }
        }
    }
}

/// A handler's answer, if its JSON is valid. It may hold details that the caller must not see, so only the log has the
/// problem.
fn sendable(subject: &Subject, mut answer: HookAnswer) -> HookAnswer {
    let asked = match subject {
        Subject::Publish(publish) => Some(publish),
        _ => None,
    };
    let Err((part, problem)) = payload::of_answer(asked.map(|publish| &publish.data), &mut answer) else {
        return answer;
    };
    let (handler, channel) = (subject.handler(), asked.map(|publish| publish.channel.as_str()));
    logs::limited!(Handler, ERROR, handler, channel, part, %problem, "a handler answered with JSON that cannot be sent");
    HookAnswer::Refused(Error::new(ErrorCode::Internal, "the server failed; its log has the reason"))
}

/// The queues of events: a handler of the one kind delays none of the other.
#[derive(Clone)]
pub(crate) struct NewsOfHandlers {
    /// The ends of sessions.
    pub(crate) ends: Arc<News>,
    /// What happens in channels.
    pub(crate) channels: Arc<News>,
}

/// Takes notices, with the time of the clock. It returns at once.
pub(crate) type Notify = Arc<dyn Fn(u64, &Notice) + Send + Sync>;

/// Carries a shard's questions to the handlers, and their answers back.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    pub(crate) handlers: Arc<Handlers>,
    /// Where handlers run.
    pub(crate) runtime: runtime::Handle,
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    pub(crate) deadline: Duration,
    /// Events, which the hub does not bound.
    pub(crate) news: NewsOfHandlers,
    pub(crate) watch: Arc<Watch>,
    /// To the shard that asks. Its length is bounded by the open questions of the hub.
    pub(crate) back: UnboundedSender<Control>,
    /// Runs the handlers of Socket.IO.
    pub(crate) desk: Arc<Desk>,
    /// Notifies the application over HTTP, where it is to be.
    pub(crate) notify: Option<Notify>,
    /// Identifies clients by the configuration, where it does.
    pub(crate) authenticator: Option<Arc<Authenticator>>,
}

impl Dispatcher {
    /// Has a question answered. Returns at once.
    pub(crate) fn ask(&self, token: HookToken, question: Question, attachment: Option<&Attachment>) {
        if let Some(authenticator) = &self.authenticator {
            match &question {
                Question::Connect { token: shown } => return self.identify(authenticator, token, shown.as_deref()),
                Question::Refresh { token: shown, .. } => return self.identify(authenticator, token, Some(shown)),
                _ => {}
            }
        }
        let call = call(question, attachment, self.handle.clone(), self.clock.clone());
        let (handlers, deadline, back) = (self.handlers.clone(), self.deadline, self.back.clone());
        let watch = self.watch.clone();
        self.runtime.spawn(async move {
            let (hook, begin) = (place(&call.subject), Instant::now());
            let answer = handlers.answer(call, deadline).await;
            watch.hooks.done(hook, &answer, begin.elapsed());
            let _ = back.send(Control::HookAnswer(token, Box::new(answer))); // a shard that has ended needs no answer
        });
    }

    /// Identifies a client by its token, or without one. It is counted as a call of `on_connect`, whose place it takes.
    fn identify(&self, authenticator: &Authenticator, token: HookToken, shown: Option<&str>) {
        /// The place of `on_connect` in [`HOOKS`](crate::watch::HOOKS).
        const CONNECT: usize = 0;
        let begin = Instant::now();
        let (back, watch, deadline) = (self.back.clone(), self.watch.clone(), self.deadline);
        let done = move |answer: HookAnswer| {
            watch.hooks.done(CONNECT, &answer, begin.elapsed());
            let _ = back.send(Control::HookAnswer(token, Box::new(answer))); // a shard that has ended needs no answer
        };
        match authenticator.answer(shown) {
            Verdict::Now(answer) => done(answer),
            Verdict::Later(answer) => {
                self.runtime.spawn(async move {
                    let late =
                        |_| HookAnswer::Refused(Error::new(ErrorCode::Timeout, "the issuer's keys came too late"));
                    done(tokio::time::timeout(deadline, answer).await.unwrap_or_else(late));
                });
            }
        }
    }

    /// Calls a handler for an event. Returns at once.
    pub(crate) fn tell(&self, notice: Notice) {
        if let Some(notify) = &self.notify {
            notify(self.clock.now().wall_ms, &notice);
        }
        let (caller, subject, request, news) = match notice {
            Notice::SessionEnded { caller, why, attachment } if self.handlers.disconnect.is_some() => {
                (caller, Subject::Ended(why), request_of(attachment.as_ref()), &self.news.ends)
            }
            Notice::Channel { channel, ts_ms, event } if self.handlers.notices.find(&channel, &event).is_some() => {
                (caller_of(&event), Subject::Notice { channel, ts_ms, event }, None, &self.news.channels)
            }
            _ => return,
        };
        let (handle, clock) = (self.handle.clone(), self.clock.clone());
        let call = Call { caller, subject, request, handle, clock, socket: None };
        let hook = place(&call.subject);
        match news.put(Instant::now(), call) {
            Place::Now(event) => {
                let (handlers, deadline) = (self.handlers.clone(), self.deadline);
                let (news, watch, runtime) = (news.clone(), self.watch.clone(), self.runtime.clone());
                Arc::new(Telling { handlers, deadline, news, watch, runtime }).run(event);
            }
            Place::Waits => {}
            Place::Dropped => dropped(&self.watch, hook, 1),
        }
    }
}

/// Calls handlers for events.
struct Telling {
    handlers: Arc<Handlers>,
    deadline: Duration,
    news: Arc<News>,
    watch: Arc<Watch>,
    runtime: runtime::Handle,
}

impl Telling {
    /// Has this event handled, and those that wait for its place.
    fn run(self: Arc<Self>, event: Event) {
        self.runtime.clone().spawn(async move {
            let mut next = Some(event);
            while let Some(event) = next {
                let begin = Instant::now();
                let answer = self.handlers.answer(event.call.clone(), self.deadline).await;
                self.watch.hooks.done(place(&event.call.subject), &answer, begin.elapsed());
                let Next { event, late } = match pause_before_another(&answer, event.tries) {
                    Some(pause) => self.again(event, pause),
                    None => self.news.done(Instant::now(), &event),
                };
                for event in late {
                    dropped(&self.watch, place(&event.call.subject), 1);
                }
                next = event;
            }
        });
    }

    /// The handler cannot take the event now: it comes again after a pause.
    fn again(self: &Arc<Self>, mut event: Event, pause: Duration) -> Next {
        event.tries += 1;
        let (event, next) = self.news.again(Instant::now(), event);
        if let Some(event) = event {
            if event.tries == 1 {
                let handler = event.call.subject.handler();
                let channel = event.call.subject.channel().map(|channel| channel.as_str());
                logs::limited!(Handler, WARN, handler, channel, "a handler does not take an event: it comes again");
            }
            let telling = self.clone();
            self.runtime.spawn(async move {
                telling.news.pause(pause).await;
                if let Some(event) = telling.news.resume(event) {
                    telling.run(event);
                }
            });
        }
        next
    }
}

/// The pause after which a handler is called again for its event: where its refusal says that the same may succeed
/// later. One that failed or took too long has had the event.
fn pause_before_another(answer: &HookAnswer, tries: u32) -> Option<Duration> {
    let HookAnswer::Refused(error) = answer else { return None };
    if !error.code.row().retryable || matches!(error.code, ErrorCode::Internal | ErrorCode::Timeout) {
        return None;
    }
    let doubled = PAUSE_MIN.saturating_mul(2u32.saturating_pow(tries));
    Some(error.retry_after_ms.map_or(doubled, Duration::from_millis).clamp(PAUSE_FLOOR, PAUSE_MAX))
}

/// Events that no handler is called for: too many wait, or they have waited too long.
fn dropped(watch: &Watch, hook: usize, count: usize) {
    if count > 0 {
        watch.hooks.dropped(hook, count);
        let handler = HOOKS[hook];
        logs::limited!(Handler, ERROR, handler, count, "events for a handler are dropped: it is too slow");
    }
}

/// The call that a handler gets for a question.
pub(crate) fn call(question: Question, attachment: Option<&Attachment>, handle: Handle, clock: Clock) -> Call {
    let nobody = Caller { client: None, user: None, info: None, claims: None };
    let (caller, subject) = match question {
        Question::Connect { token } => (nobody, Subject::Connect { token: token.map(Token::new) }),
        Question::Refresh { caller, token } => (caller, Subject::Connect { token: Some(Token::new(token)) }),
        Question::Subscribe { caller, options } => (caller, Subject::Subscribe(options)),
        Question::Publish { caller, publish } => (caller, Subject::Publish(publish)),
        Question::Rpc { caller, method, data } => (caller, Subject::Rpc { method, data }),
    };
    Call { caller, subject, request: request_of(attachment), handle, clock, socket: None }
}

/// The client that has caused an event, as far as the channel's rule shows it.
fn caller_of(event: &ChannelEvent) -> Caller {
    let (client, user, info) = match event {
        ChannelEvent::Joined(entry) | ChannelEvent::Left(entry) => {
            (Some(entry.client), entry.user.clone(), entry.info.clone())
        }
        ChannelEvent::Published { publication, .. } => {
            let from = publication.from.as_ref();
            (from.and_then(|from| from.client), from.and_then(|from| from.user.clone()), None)
        }
        ChannelEvent::Occupied | ChannelEvent::Vacated => (None, None, None),
    };
    Caller { client, user, info, claims: None }
}

fn request_of(attachment: Option<&Attachment>) -> Option<Arc<RequestInfo>> {
    attachment?.get::<Arc<RequestInfo>>().cloned()
}

/// The handler's place in [`HOOKS`](crate::watch::HOOKS).
fn place(subject: &Subject) -> usize {
    match subject {
        Subject::Connect { .. } => 0,
        Subject::Subscribe(_) => 1,
        Subject::Publish(_) => 2,
        Subject::Rpc { .. } => 3,
        Subject::Ended(_) => 4,
        Subject::Notice { event, .. } => FIRST_NOTICE + NoticeKind::of(event) as usize,
        Subject::Socket { .. } => SOCKET_EVENT,
    }
}

/// The text of a panic, if it has one.
pub(crate) fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

/// A client's word in an error, at a bounded length.
fn shortened(text: &str) -> &str {
    const CHARS_MAX: usize = 64;
    text.char_indices().nth(CHARS_MAX).map_or(text, |(at, _)| &text[..at])
}
