//! The builder of a server: collects settings, protocols, rules, handlers and pages, and then checks them as a whole.

use crate::api::CurrentApi;
use crate::clock::Clock;
use crate::config::api_key::ApiKey;
use crate::config::{AdminOn, Config};
use crate::embed::handle::Handle;
use crate::embed::socketio::Namespace;
use crate::embed::{
    Answers, Arguments, ChannelHandler, ChannelRule, Erased, Handler, Handlers, NoticeKind, OnConnect, OnDisconnect,
    OnOccupancy, OnPresence, OnPublish, OnPublished, OnRpc, OnSubscribe, erase,
};
use crate::error::ServeError;
use crate::hooks::HttpHooks;
use crate::http::streams::StreamWires;
use crate::protocol::native::Native;
use crate::protocol::socketio::{Asks, Namespaces, SocketIo};
use crate::protocol::{Protocol, ProtocolAtPath};
use crate::random::random;
use crate::server::Fanfare;
use crate::server::reload::Code;
use crate::settings::Setting;
use fanfare_hub::{Pattern, Rule};
use std::sync::Arc;
use tokio::sync::mpsc::unbounded_channel;

/// The most shards that a node may have.
const SHARDS_MAX: usize = 1024;
/// The path of the native protocol, unless the builder sets another protocol there.
pub(super) const NATIVE_PATH: &str = "/v1/ws";
/// The most protocols that a server may have, besides the native one and Socket.IO: each has a wire for every framing
/// of WebSocket, and there are 256 wires with those of streams.
const PROTOCOLS_MAX: usize = 62;
const _: () = assert!(3 * (PROTOCOLS_MAX + 2) + StreamWires::COUNT < 256); // one more is for polling

/// Collects the parts of a server. `S` is the application's state, which handlers take by [`State`](crate::State);
/// nothing is generic after [`build`](Self::build).
pub struct Builder<S = ()> {
    state: S,
    config: Config,
    protocols: Vec<ProtocolAtPath>,
    pages: Option<axum::Router>,
    channels: Vec<Rule>,
    api_keys: Vec<ApiKey>,
    handlers: Handlers,
    /// The first error: `build` returns it, so that the calls can be chained.
    wrong: Option<ServeError>,
}

impl<S: Clone + Send + Sync + 'static> Builder<S> {
    pub(super) fn new(state: S) -> Self {
        Builder {
            state,
            config: Config::default(),
            protocols: Vec::new(),
            pages: None,
            channels: Vec::new(),
            api_keys: Vec::new(),
            handlers: Handlers::default(),
            wrong: None,
        }
    }

    /// Takes these settings in place of the defaults.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Takes the settings of this file, of the environment (`FANFARE__…`) and of the defaults, as `docs/config.md`
    /// describes. Its rules come before those of the code. [`Fanfare::serve`] sets the addresses, not the file.
    ///
    /// # Errors
    /// [`Problems`](crate::settings::Problems) list all problems; an unreadable file is one.
    pub fn config_file(self, path: &str) -> Result<Self, crate::settings::Problems> {
        Ok(self.config(crate::settings::of_embedder(path, true)?))
    }

    /// The same for a file that may be missing.
    ///
    /// # Errors
    /// See [`config_file`](Self::config_file).
    pub fn config_file_if_exists(self, path: &str) -> Result<Self, crate::settings::Problems> {
        Ok(self.config(crate::settings::of_embedder(path, false)?))
    }

    /// Adds a key of the HTTP API, below `/api/v1/`, to those of the settings ([`Config::api_keys`]). It stays after a
    /// reload.
    #[must_use]
    pub fn api_key(mut self, key: ApiKey) -> Self {
        self.api_keys.push(key);
        self
    }

    /// Serves `protocol` to WebSockets that are opened at `path`. The native protocol is always served at `/v1/ws`; to
    /// replace it, give [`Native`] with other times for that path.
    #[must_use]
    pub fn protocol(mut self, path: &str, protocol: impl Protocol) -> Self {
        self.protocols.push(ProtocolAtPath { path: path.to_owned(), protocol: Arc::new(protocol), engine_io: None });
        self
    }

    /// Adds a rule for the channels of a pattern, after those of the configuration and of earlier calls: the first that
    /// matches a name governs it. A rule of the configuration with the same pattern takes this one's place, so that an
    /// operator can change the rules of the code.
    ///
    /// ```
    /// use fanfare::{Fanfare, Who::*, mins};
    ///
    /// let server = Fanfare::builder(())
    ///     .channel("chat:*", |c| c.subscribe(Anyone).publish(Subscriber).history(100, mins(10)).presence(true))
    ///     .channel("inbox:{user}", |c| c.subscribe(Authenticated).publish(Server));
    /// ```
    #[must_use]
    pub fn channel(mut self, pattern: &str, rule: impl FnOnce(ChannelRule) -> ChannelRule) -> Self {
        match ChannelRule::new(pattern) {
            Ok(new) => self.channels.push(rule(new).into_rule()),
            Err(source) => self.fail(ServeError::Pattern { pattern: pattern.to_owned(), source }),
        }
        self
    }

    /// Calls `handler` to identify a connection by its token (or without one), and again when the client sends a newer
    /// one. Without such a handler, and without keys in [`Config::auth`], every client is anonymous, and a token is
    /// refused.
    ///
    /// The handler is not called if a client resumes its living session by the ticket alone. To exclude a user for
    /// good, refuse its tokens here. Then [`Handle::disconnect`] it for a reason that does not let it come back, which
    /// ends its sessions.
    #[must_use]
    pub fn on_connect<Args: Arguments<OnConnect, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnConnect>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        if self.handlers.connect.replace(handler).is_some() {
            self.fail(ServeError::TwoHandlers { kind: "on_connect", name: String::new() });
        }
        self
    }

    /// Calls `handler` to decide whether a caller may subscribe to a channel of this pattern, if its rule names `hook`
    /// or allows the caller anyway. Of several handlers the first whose pattern matches is called.
    #[must_use]
    pub fn on_subscribe<Args: Arguments<OnSubscribe, S>>(
        mut self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnSubscribe>> + Send + 'static>,
    ) -> Self {
        match self.handled(pattern, "on_subscribe", |handlers| &handlers.subscribe) {
            Ok(pattern) => {
                self.handlers.subscribe.push(ChannelHandler {
                    pattern,
                    handler: erase(handler, &self.state),
                    is_by_rule: false,
                });
            }
            Err(error) => self.fail(error),
        }
        self
    }

    /// Calls `handler` to decide whether a caller may publish to a channel of this pattern, if its rule names `hook` or
    /// allows the caller anyway. The publication that it returns is the one that is published. The application's own
    /// publications are not checked.
    #[must_use]
    pub fn on_publish<Args: Arguments<OnPublish, S>>(
        mut self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnPublish>> + Send + 'static>,
    ) -> Self {
        match self.handled(pattern, "on_publish", |handlers| &handlers.publish) {
            Ok(pattern) => {
                self.handlers.publish.push(ChannelHandler {
                    pattern,
                    handler: erase(handler, &self.state),
                    is_by_rule: false,
                });
            }
            Err(error) => self.fail(error),
        }
        self
    }

    /// Answers calls of `method`.
    #[must_use]
    pub fn rpc<Args: Arguments<OnRpc, S>>(
        mut self,
        method: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnRpc>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        if self.handlers.rpc.insert(method.into(), handler).is_some() {
            self.fail(ServeError::TwoHandlers { kind: "rpc", name: method.to_owned() });
        }
        self
    }

    /// Calls `handler` for every session that has ended: not for each lost connection, but when its client has not come
    /// back in time. An error that says `unavailable` brings the event again, as for [`on_join`](Self::on_join).
    #[must_use]
    pub fn on_disconnect<Args: Arguments<OnDisconnect, S>>(
        mut self,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnDisconnect>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        if self.handlers.disconnect.replace(handler).is_some() {
            self.fail(ServeError::TwoHandlers { kind: "on_disconnect", name: String::new() });
        }
        self
    }

    /// Calls `handler` when a client has entered the presence of a channel of this pattern. Of several handlers the
    /// first whose pattern matches is called, once for each notice.
    ///
    /// For this and the other notices of channels: the notices of one channel come one after the other, in the order in
    /// which things happened, also those of different kinds; those of different channels at the same time. Nobody waits
    /// for a handler: those that wait take at most
    /// [`notices_bytes_max`](crate::hooks::NoticesConfig::bytes_max), of which one channel may have an eighth. A notice
    /// without room is dropped, logged and counted ([`Handle::notices_dropped`]). An error that may be retried
    /// ([`Refusal::unavailable`](crate::Refusal::unavailable)) brings the notice again, for
    /// [`notice_age_max`](crate::hooks::NoticesConfig::age_max) at most. Another error, a panic or a handler that takes
    /// too long is logged, and the next notice comes.
    #[must_use]
    pub fn on_join<Args: Arguments<OnPresence, S>>(
        self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnPresence>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        self.on_notice(NoticeKind::Join, pattern, handler)
    }

    /// The same when a client has left the presence, or its session has ended.
    #[must_use]
    pub fn on_leave<Args: Arguments<OnPresence, S>>(
        self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnPresence>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        self.on_notice(NoticeKind::Leave, pattern, handler)
    }

    /// The same when a channel has its first subscriber.
    #[must_use]
    pub fn on_occupied<Args: Arguments<OnOccupancy, S>>(
        self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnOccupancy>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        self.on_notice(NoticeKind::Occupied, pattern, handler)
    }

    /// The same when a channel has no subscriber any more: up to some seconds after the last one has gone, and not if
    /// one comes back meanwhile.
    #[must_use]
    pub fn on_vacated<Args: Arguments<OnOccupancy, S>>(
        self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnOccupancy>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        self.on_notice(NoticeKind::Vacated, pattern, handler)
    }

    /// The same when something was published, by a client, by the API or by the program. It cannot be changed any more:
    /// see [`on_publish`](Self::on_publish). A handler that publishes to a channel of its own pattern is called for
    /// that too.
    #[must_use]
    pub fn on_published<Args: Arguments<OnPublished, S>>(
        self,
        pattern: &str,
        handler: impl Handler<Args, Future: Future<Output: Answers<OnPublished>> + Send + 'static>,
    ) -> Self {
        let handler = erase(handler, &self.state);
        self.on_notice(NoticeKind::Published, pattern, handler)
    }

    fn on_notice(mut self, kind: NoticeKind, pattern: &str, handler: Erased) -> Self {
        match self.handled(pattern, kind.word(), |handlers| handlers.notices.of_kind(kind)) {
            Ok(pattern) => {
                self.handlers.notices.add(kind, ChannelHandler { pattern, handler, is_by_rule: false });
            }
            Err(error) => self.fail(error),
        }
        self
    }

    /// Handles the clients of Socket.IO in a namespace: `/`, `/admin`, or a pattern like `/room-*`, where `*` is any
    /// text. Socket.IO is served then, whatever the settings say. The events of a chat room, which are built in
    /// otherwise, are off in a namespace with handlers. docs/socketio-handlers.md has the details.
    ///
    /// ```
    /// use fanfare::socketio::{Data, Reason, Socket};
    /// use fanfare::Fanfare;
    ///
    /// let server = Fanfare::builder(()).socketio("/", |io| {
    ///     io.on_connect(async |s: Socket| println!("{} has come", s.id()))
    ///         .on("join-room", async |s: Socket, Data(room): Data<String>| {
    ///             s.join(&room);
    ///             s.to(&room).emit("user-joined", s.id());
    ///         })
    ///         .on_disconnect(async |s: Socket, reason: Reason| println!("{} has left: {reason}", s.id()))
    /// });
    /// ```
    #[must_use]
    pub fn socketio(mut self, namespace: &str, handlers: impl FnOnce(Namespace<S>) -> Namespace<S>) -> Self {
        let handlers = handlers(Namespace::new(self.state.clone()));
        let name = || namespace.to_owned();
        if let Some(twice) = &handlers.wrong {
            self.fail(ServeError::SocketHandler { namespace: name(), handler: twice.clone() });
        }
        let slash = if namespace.starts_with('/') { "" } else { "/" };
        match format!("{slash}{namespace}").parse() {
            Ok(pattern) => {
                if !self.handlers.socketio.add(pattern, handlers.into_handlers()) {
                    self.fail(ServeError::TwoHandlers { kind: "socketio", name: name() });
                }
            }
            Err(error) => self.fail(ServeError::Namespace(error)),
        }
        self
    }

    fn handled(
        &self,
        pattern: &str,
        kind: &'static str,
        handlers: impl FnOnce(&Handlers) -> &Vec<ChannelHandler>,
    ) -> Result<Pattern, ServeError> {
        let parsed = Pattern::new(pattern);
        let parsed = parsed.map_err(|source| ServeError::Pattern { pattern: pattern.to_owned(), source })?;
        if handlers(&self.handlers).iter().any(|other| other.pattern == parsed) {
            return Err(ServeError::TwoHandlers { kind, name: pattern.to_owned() });
        }
        Ok(parsed)
    }

    fn fail(&mut self, error: ServeError) {
        self.wrong.get_or_insert(error);
    }

    /// Checks all settings and builds the server.
    ///
    /// # Errors
    /// [`ServeError`] names the first problem.
    pub fn build(mut self) -> Result<Fanfare, ServeError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        self.handlers.are_of_program = !self.handlers.is_empty();
        let hooks = HttpHooks::add_to(&mut self.handlers, &self.config.hooks, &self.config.limits)?;
        if self.handlers.connect.is_some() && self.config.auth.is_on() {
            return Err(ServeError::TwoIdentities {
                first: if self.config.hooks.connect.is_some() { "the hook `connect`" } else { "`on_connect`" },
                second: "the section [auth] of the configuration",
            });
        }
        self.config.socketio.enabled |= !self.handlers.socketio.is_empty();
        if self.config.socketio.enabled {
            self.channels.push(SocketIo::rule(&self.config.socketio, &self.config.limits));
        }
        let code = Code { rules: self.channels.into(), keys: self.api_keys.into() };
        self.config.rules = Arc::new(code.with_rules(&self.config.rules));
        let in_range = |option, found, min, max| {
            if (min..=max).contains(&found) { Ok(()) } else { Err(ServeError::OutOfRange { option, found, min, max }) }
        };
        in_range("shards", self.config.shards, 1, SHARDS_MAX)?;
        in_range("protocols", self.protocols.len(), 0, PROTOCOLS_MAX)?;
        if let Some((setting, found)) = Setting::first_in_vain(&self.config) {
            return Err(ServeError::InVain { option: setting.key, found, allowed: setting.allowed() });
        }
        let limits = &self.config.limits;
        let ms = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        let native = Native::default().heartbeat_ms(ms(limits.heartbeat_ms)).grace_ms(ms(limits.grace_ms));
        if !self.protocols.iter().any(|at| at.is(NATIVE_PATH, native.subprotocol())) {
            let (path, protocol) = (NATIVE_PATH.to_owned(), Arc::new(native));
            self.protocols.push(ProtocolAtPath { path, protocol, engine_io: None });
        }
        if self.config.socketio.enabled {
            let guard = self.handlers.connect.is_some() || self.config.auth.is_on();
            let asks = Asks { guard, calls: self.handlers.has_rpc() };
            let namespaces =
                Namespaces::new(&self.config.socketio.namespaces, Arc::new(self.handlers.socketio.clone()));
            let socketio = SocketIo::new(&self.config.socketio, &self.config.limits, asks, namespaces);
            let path = format!("/{}", self.config.socketio.path.trim_start_matches('/'));
            let protocol = Arc::new(socketio.clone());
            self.protocols.push(ProtocolAtPath { path, protocol, engine_io: Some(socketio) });
        }
        for (place, ProtocolAtPath { path, protocol, .. }) in self.protocols.iter().enumerate() {
            let subprotocol = protocol.subprotocol();
            if self.protocols[..place].iter().any(|earlier| earlier.is(path, subprotocol)) {
                return Err(ServeError::Ambiguous { path: path.clone(), subprotocol });
            }
        }
        let (controls, inboxes) = (0..self.config.shards).map(|_| unbounded_channel()).unzip();
        let handle = Handle::new(controls, random()?, self.config.limits.app_outstanding_max);
        let api = CurrentApi::default();
        api.replace(code.endpoint(&self.config.api_keys, &self.config, &handle)?);
        let handlers = Arc::new(self.handlers);
        Ok(Fanfare {
            handlers,
            hooks,
            handle,
            inboxes,
            clock: Clock::system(),
            config: Arc::new(self.config),
            code,
            protocols: self.protocols,
            api,
            pages: self.pages,
        })
    }

    /// Serves `/metrics`, `/healthz` and `/readyz` there. Default: the configuration's value, which is off.
    #[must_use]
    pub fn admin(mut self, on: AdminOn) -> Self {
        self.config.admin = on;
        self
    }

    /// Serves all other requests by an axum router. Its pages run on the runtime that the server is started on, as
    /// handlers do, or on a thread of their own if there is none. So a slow page delays only its own client.
    #[must_use]
    pub fn fallback(mut self, pages: axum::Router) -> Self {
        self.pages = Some(pages);
        self
    }
}
