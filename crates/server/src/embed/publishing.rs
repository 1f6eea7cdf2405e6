//! Builds publications of the application: `hub.publish(channel, &data).event("goal").await`, and `hub.broadcast`
//! for several channels.
//!
//! In: channels and a payload, checked at once; then the options. Out: the hub's commands when it is awaited, and the
//! position of each publication.

use super::handle::{Handle, Published, name, published, to_json};
use super::payload;
use fanfare_hub::{AppCommand, Audience, ChannelName, ClientId, Data, Error, ErrorCode, Publish};
use serde::Serialize;
use std::pin::Pin;

/// A publication that is sent when it is awaited; see [`Handle::publish`].
#[must_use = "a publication is sent when it is awaited"]
#[derive(Debug)]
pub struct Publishing<'a> {
    handle: &'a Handle,
    /// A problem with the channel or the payload is returned when it is awaited.
    target: Result<Target, Error>,
    options: Options,
}

/// Publications to several channels that are sent when they are awaited; see [`Handle::broadcast`].
#[must_use = "publications are sent when they are awaited"]
#[derive(Debug)]
pub struct Broadcasting<'a> {
    handle: &'a Handle,
    /// A channel with an invalid name has its problem in its place. A problem with the payload is one for all.
    targets: Result<Vec<Result<Target, Error>>, Error>,
    options: Options,
}

/// A payload, and the channel that it is for.
#[derive(Debug)]
struct Target {
    channel: ChannelName,
    data: Data,
}

/// The options, which are set before the `await`.
#[derive(Debug, Default)]
struct Options {
    event: Option<Box<str>>,
    idempotency_key: Option<Box<str>>,
    audience: Option<Audience>,
    /// True after `only` without a client. For the hub an empty list means all subscribers.
    is_for_nobody: bool,
}

impl Options {
    fn only(&mut self, clients: impl IntoIterator<Item = ClientId>) {
        let audience = self.audience.get_or_insert_default();
        audience.only.extend(clients);
        self.is_for_nobody |= audience.only.is_empty();
    }

    fn except(&mut self, clients: impl IntoIterator<Item = ClientId>) {
        self.audience.get_or_insert_default().except.extend(clients);
    }

    /// The hub's command for one channel.
    fn command(&self, Target { channel, data }: Target) -> AppCommand {
        let (event, idempotency_key) = (self.event.clone(), self.idempotency_key.clone());
        let publish = Publish { channel, data, event, idempotency_key, echo: true };
        AppCommand::Publish { publish: Box::new(publish), audience: self.audience.clone().map(Box::new), by: None }
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_for_nobody {
            return Err(Error::new(ErrorCode::BadRequest, "`only` names no client: nobody would get it"));
        }
        Ok(())
    }
}

/// The options that [`Publishing`] and [`Broadcasting`] share.
macro_rules! options {
    ($type:ident) => {
        impl $type<'_> {
            /// Under the name of an event: 1 to 64 bytes without control characters, quotes and backslashes.
            pub fn event(mut self, event: impl Into<Box<str>>) -> Self {
                self.options.event = Some(event.into());
                self
            }

            /// With an idempotency key: a second publication with it, to the same channel, is not stored and is
            /// answered with the position of the first. So it can be sent again if its outcome is unknown.
            pub fn idempotency_key(mut self, key: impl Into<Box<str>>) -> Self {
                self.options.idempotency_key = Some(key.into());
                self
            }

            /// For these clients and no others. An empty list is `bad_request`.
            pub fn only(mut self, clients: impl IntoIterator<Item = ClientId>) -> Self {
                self.options.only(clients);
                self
            }

            /// Not for these clients.
            pub fn except(mut self, clients: impl IntoIterator<Item = ClientId>) -> Self {
                self.options.except(clients);
                self
            }
        }
    };
}

options!(Publishing);
options!(Broadcasting);

impl<'a> Publishing<'a> {
    pub(super) fn json<T: Serialize + ?Sized>(handle: &'a Handle, channel: &str, data: &T) -> Self {
        Self::new(handle, channel, |channel| to_json(channel, data))
    }

    pub(super) fn data(handle: &'a Handle, channel: &str, data: Data) -> Self {
        Self::new(handle, channel, |channel| match &data {
            Data::Json(json) => match payload::checked(json) {
                Ok(json) => Ok(Data::Json(json)),
                Err(problem) => Err(payload::refused(&problem).on(channel)),
            },
            Data::Binary(_) => Ok(data),
        })
    }

    fn new(handle: &'a Handle, channel: &str, data: impl FnOnce(&ChannelName) -> Result<Data, Error>) -> Self {
        let target = name(channel).and_then(|channel| Ok(Target { data: data(&channel)?, channel }));
        Publishing { handle, target, options: Options::default() }
    }
}

impl<'a> Broadcasting<'a> {
    /// The payload is encoded once, for the first channel with a valid name.
    pub(super) fn json<T: Serialize + ?Sized>(handle: &'a Handle, channels: &[&str], data: &T) -> Self {
        let mut encoded = None;
        let mut target = |channel: ChannelName| {
            let data = match &encoded {
                Some(data) => Data::clone(data),
                None => encoded.insert(to_json(&channel, data)?).clone(),
            };
            Ok(Target { channel, data })
        };
        let one = |channel: &&str| match name(channel) {
            Ok(channel) => target(channel).map(Ok),
            Err(error) => Ok(Err(error)),
        };
        let targets = channels.iter().map(one).collect();
        Broadcasting { handle, targets, options: Options::default() }
    }
}

impl<'a> IntoFuture for Publishing<'a> {
    type Output = Result<Published, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Publishing { handle, target, options } = self;
            let target = target?;
            options.check()?;
            published(handle.put(options.command(target)).await)
        })
    }
}

impl<'a> IntoFuture for Broadcasting<'a> {
    type Output = Result<Vec<Result<Published, Error>>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Broadcasting { handle, targets, options } = self;
            let targets = targets?;
            options.check()?;
            let commands = targets.into_iter().map(|target| target.map(|target| options.command(target)));
            Ok(handle.put_all(commands.collect()).await.into_iter().map(published).collect())
        })
    }
}
