//! The handlers of a namespace: the builder that collects them, and the registry that finds them.

use super::kinds::{Done, EventAnswers, OnEvent, OnGuard, OnSocket, OnSocketEnd, OnUse, Outcome, SocketAnswers};
use crate::config::namespace::NamespacePattern;
use crate::embed::extract::Call;
use crate::embed::handler::{Arguments, Handler};
use crate::protocol::socketio::{Opaque, SocketHandlers};
use fanfare_wire::socketio::RESERVED_EVENTS;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// A handler with its types of function, arguments and state erased.
pub(super) struct SocketHandler {
    run: Box<dyn Fn(Arc<Call>) -> OutcomeFuture + Send + Sync>,
    needs_request: bool,
}

pub(super) type OutcomeFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl SocketHandler {
    pub(super) fn run(&self, call: Arc<Call>) -> OutcomeFuture {
        (self.run)(call)
    }

    fn of<K, S, Args, H>(handler: H, state: &S, outcome: fn(<H::Future as Future>::Output) -> Outcome) -> Self
    where
        K: 'static,
        S: Clone + Send + Sync + 'static,
        Args: Arguments<K, S>,
        H: Handler<Args, Future: Send + 'static>,
        <H::Future as Future>::Output: 'static,
    {
        let state = state.clone();
        let run = move |call: Arc<Call>| -> OutcomeFuture {
            let (handler, state) = (handler.clone(), state.clone());
            // All of it runs in here, so that any panic counts as the handler's.
            Box::pin(async move {
                let future = match Args::from_call(&state, &call).await {
                    Ok(arguments) => handler.call(arguments),
                    Err(refusal) => return Outcome(Done::Refused(refusal)),
                };
                outcome(future.await)
            })
        };
        SocketHandler { run: Box::new(run), needs_request: Args::NEEDS_REQUEST }
    }
}

/// The handlers of a namespace, or of all namespaces of a pattern.
#[derive(Default)]
pub(crate) struct NamespaceHandlers {
    pub(super) guards: Vec<SocketHandler>,
    pub(super) uses: Vec<SocketHandler>,
    pub(super) connect: Option<SocketHandler>,
    pub(super) any: Vec<SocketHandler>,
    pub(super) events: HashMap<Box<str>, SocketHandler>,
    pub(super) disconnect: Option<SocketHandler>,
}

impl NamespaceHandlers {
    /// True if an argument of one of them is made of the request that the connection began with.
    fn need_request(&self) -> bool {
        let some = self.connect.iter().chain(&self.disconnect);
        let mut all = self.guards.iter().chain(&self.uses).chain(&self.any).chain(self.events.values()).chain(some);
        all.any(|handler| handler.needs_request)
    }
}

impl fmt::Debug for NamespaceHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceHandlers").field("events", &self.events.keys()).finish_non_exhaustive()
    }
}

/// Collects the handlers of a namespace, in [`Builder::socketio`](crate::Builder::socketio).
///
/// The handlers of one socket run one after the other, in the order of its events, and those of several sockets at
/// once. Their arguments are [extractors](crate::FromCall). A handler that panics, or takes longer than `limits.hook_timeout`
/// (5 s), is logged and counted; its event is lost, and no other.
pub struct Namespace<S> {
    state: S,
    handlers: NamespaceHandlers,
    pub(crate) wrong: Option<String>,
}

impl<S: Clone + Send + Sync + 'static> Namespace<S> {
    pub(crate) fn new(state: S) -> Self {
        Namespace { state, handlers: NamespaceHandlers::default(), wrong: None }
    }

    pub(crate) fn into_handlers(self) -> NamespaceHandlers {
        self.handlers
    }

    /// Decides whether a client may enter: `io.use` in JavaScript. Several guards are asked in order, and the first
    /// refusal counts: its client gets `connect_error` with the message of the [`Refusal`](crate::Refusal) and its
    /// [data](crate::Refusal::with_data). A guard may return the user, as `on_connect` of the server does.
    #[must_use]
    pub fn guard<Args: Arguments<OnGuard, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: SocketAnswers<OnGuard> + 'static> + Send + 'static>,
    ) -> Self {
        let handler = SocketHandler::of::<OnGuard, _, _, _>(handler, &self.state, SocketAnswers::<OnGuard>::outcome);
        self.handlers.guards.push(handler);
        self
    }

    /// Sees every event of a socket before its handler: `socket.use` in JavaScript. If it refuses, the event is not
    /// handled, and a client that asked for an ack gets the error. Several are asked in order.
    #[must_use]
    pub fn use_<Args: Arguments<OnUse, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: SocketAnswers<OnUse> + 'static> + Send + 'static>,
    ) -> Self {
        let handler = SocketHandler::of::<OnUse, _, _, _>(handler, &self.state, SocketAnswers::<OnUse>::outcome);
        self.handlers.uses.push(handler);
        self
    }

    /// Called for each socket that has entered, before its first event: `io.on("connection")` in JavaScript.
    #[must_use]
    pub fn on_connect<Args: Arguments<OnSocket, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: SocketAnswers<OnSocket> + 'static> + Send + 'static>,
    ) -> Self {
        let handler = SocketHandler::of::<OnSocket, _, _, _>(handler, &self.state, SocketAnswers::<OnSocket>::outcome);
        if self.handlers.connect.replace(handler).is_some() {
            self.wrong.get_or_insert("on_connect".to_owned());
        }
        self
    }

    /// Handles an event: `socket.on(event, …)` in JavaScript. The return value is the ack, if the client asked for one:
    /// a tuple is several arguments, `()` none, and a [`Refusal`](crate::Refusal) is `{"error": {"code", "message"}}`. A
    /// handler that takes an [`Ack`](super::Ack) acknowledges by that instead, or not at all.
    #[must_use]
    pub fn on<Args: Arguments<OnEvent, S>, M>(
        mut self,
        event: &str,
        handler: impl Handler<Args, Future: Future<Output: EventAnswers<M> + 'static> + Send + 'static>,
    ) -> Self {
        let handler = SocketHandler::of::<OnEvent, _, _, _>(handler, &self.state, EventAnswers::<M>::outcome);
        let is_reserved = RESERVED_EVENTS.contains(&event);
        if self.handlers.events.insert(event.into(), handler).is_some() || is_reserved {
            self.wrong.get_or_insert(format!("on({event:?})"));
        }
        self
    }

    /// Called for every event, before its handler, whether it has one or not: `socket.onAny` in JavaScript.
    #[must_use]
    pub fn on_any<Args: Arguments<OnEvent, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: SocketAnswers<OnEvent> + 'static> + Send + 'static>,
    ) -> Self {
        let handler = SocketHandler::of::<OnEvent, _, _, _>(handler, &self.state, SocketAnswers::<OnEvent>::outcome);
        self.handlers.any.push(handler);
        self
    }

    /// Called for each socket that has left, after all of its events: `socket.on("disconnect")` in JavaScript.
    #[must_use]
    pub fn on_disconnect<Args: Arguments<OnSocketEnd, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: SocketAnswers<OnSocketEnd> + 'static> + Send + 'static>,
    ) -> Self {
        let outcome = SocketAnswers::<OnSocketEnd>::outcome;
        let handler = SocketHandler::of::<OnSocketEnd, _, _, _>(handler, &self.state, outcome);
        if self.handlers.disconnect.replace(handler).is_some() {
            self.wrong.get_or_insert("on_disconnect".to_owned());
        }
        self
    }
}

/// The namespaces of the program, and their handlers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry(Vec<(NamespacePattern, Arc<NamespaceHandlers>)>);

impl Registry {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds handlers. False if there are some for this pattern.
    pub(crate) fn add(&mut self, pattern: NamespacePattern, handlers: NamespaceHandlers) -> bool {
        if self.0.iter().any(|(other, _)| *other == pattern) {
            return false;
        }
        self.0.push((pattern, Arc::new(handlers)));
        true
    }

    /// The handlers of a namespace: those for its very name, else of the first pattern that matches.
    fn find(&self, namespace: &str) -> Option<&Arc<NamespaceHandlers>> {
        let is_named = |pattern: &NamespacePattern| pattern.is_name() && pattern.matches(namespace);
        let named = self.0.iter().find(|(pattern, _)| is_named(pattern));
        named.or_else(|| self.0.iter().find(|(pattern, _)| pattern.matches(namespace))).map(|(_, handlers)| handlers)
    }
}

impl SocketHandlers for Registry {
    fn patterns(&self) -> Vec<NamespacePattern> {
        self.0.iter().map(|(pattern, _)| pattern.clone()).collect()
    }

    fn of(&self, namespace: &str) -> Option<Opaque> {
        self.find(namespace).map(|handlers| handlers.clone() as Opaque)
    }

    fn need_request(&self) -> bool {
        self.0.iter().any(|(_, handlers)| handlers.need_request())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_before_any_pattern() {
        let mut namespaces = Registry::default();
        let add = |namespaces: &mut Registry, name: &str| {
            namespaces.add(name.parse().expect("a pattern"), NamespaceHandlers::default())
        };
        assert!(add(&mut namespaces, "/room-*") && add(&mut namespaces, "/*") && add(&mut namespaces, "/room-1"));
        assert!(!add(&mut namespaces, "/room-1"), "there are some");
        let place = |name| {
            let found = namespaces.find(name)?;
            namespaces.0.iter().position(|(_, handlers)| Arc::ptr_eq(handlers, found))
        };
        assert_eq!([place("/room-1"), place("/room-2"), place("/x")], [Some(2), Some(0), Some(1)]);
    }
}
