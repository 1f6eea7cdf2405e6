//! Builds one publication of the application: `hub.publish(channel, &data).event("goal").await`.
//!
//! In: a channel and a payload, checked at once; then its options. Out: the hub's command when it is awaited, and the
//! position of the publication.

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
    publish: Result<Publish, Error>,
    audience: Option<Audience>,
}

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
        let publish = name(channel).and_then(|channel| {
            let data = data(&channel)?;
            Ok(Publish { channel, data, event: None, idempotency_key: None, echo: true })
        });
        Publishing { handle, publish, audience: None }
    }

    /// Under the name of an event: 1 to 64 bytes without control characters, quotes and backslashes.
    pub fn event(mut self, event: impl Into<Box<str>>) -> Self {
        if let Ok(publish) = &mut self.publish {
            publish.event = Some(event.into());
        }
        self
    }

    /// With an idempotency key: a second publication with it, to the same channel, is not stored and is answered with
    /// the position of the first. So it can be sent again if its outcome is unknown.
    pub fn idempotency_key(mut self, key: impl Into<Box<str>>) -> Self {
        if let Ok(publish) = &mut self.publish {
            publish.idempotency_key = Some(key.into());
        }
        self
    }

    /// For these clients and no others. An empty list is `bad_request`.
    pub fn only(mut self, clients: impl IntoIterator<Item = ClientId>) -> Self {
        let audience = self.audience.get_or_insert_default();
        audience.only.extend(clients);
        // To the hub an empty list means everybody.
        if audience.only.is_empty() && self.publish.is_ok() {
            self.publish = Err(Error::new(ErrorCode::BadRequest, "`only` names no client: nobody would get it"));
        }
        self
    }

    /// Not for these clients.
    pub fn except(mut self, clients: impl IntoIterator<Item = ClientId>) -> Self {
        self.audience.get_or_insert_default().except.extend(clients);
        self
    }
}

impl<'a> IntoFuture for Publishing<'a> {
    type Output = Result<Published, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Publishing { handle, publish, audience } = self;
            let (publish, audience) = (Box::new(publish?), audience.map(Box::new));
            published(handle.put(AppCommand::Publish { publish, audience, by: None }).await)
        })
    }
}
