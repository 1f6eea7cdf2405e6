//! Whether the body of a request was read to its end.
//!
//! In: the body of a request. Out: the same body, and a [`BodyEnd`] that tells whether its reader has given it up
//! before its end. hyper closes a connection of HTTP/1 whose request was not read to its end, unless the rest has come
//! already: then the answer should say so (RFC 9112 §9.6), and not for how long the connection stays open.
//!
//! Over HTTP/2 the end of a body also shows that the request is whole: a connection over a limit keeps its place from
//! then on.

use crate::transport::places::Place;
use axum::body::HttpBody;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

/// A body that notes how its reader leaves it.
pub(crate) struct Watched<B> {
    body: B,
    has_ended: bool,
    given_up: Option<Arc<AtomicBool>>,
    /// That of its connection, which is told when the body has ended.
    place: Option<Arc<Place>>,
}

/// See the module's description.
pub(crate) struct BodyEnd(Option<Arc<AtomicBool>>);

/// Watches the reader of a body. `place`: that of its connection, where nothing else tells it that the request is
/// whole.
pub(crate) fn watch<B: HttpBody>(body: B, place: Option<Arc<Place>>) -> (Watched<B>, BodyEnd) {
    let given_up = (!body.is_end_stream()).then(Arc::default);
    let end = BodyEnd(given_up.clone());
    (Watched { body, has_ended: false, given_up, place }, end)
}

impl BodyEnd {
    /// True where nobody reads the rest of the body any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.0.as_ref().is_some_and(|given_up| given_up.load(Relaxed))
    }
}

impl<B: HttpBody + Unpin> HttpBody for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            self.has_ended = frame.is_none() || self.body.is_end_stream();
            if self.has_ended
                && let Some(place) = self.place.take()
            {
                place.serves();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        if let Some(given_up) = self.given_up.as_ref().filter(|_| !self.has_ended) {
            given_up.store(true, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, Bytes};
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    #[test]
    fn a_body_is_given_up_where_it_is_dropped_before_its_end() {
        let (empty, end) = watch(Body::empty(), None);
        drop(empty);
        assert!(!end.is_given_up());
        let (unread, end) = watch(Body::from("abc"), None);
        assert!(!end.is_given_up(), "somebody may read it");
        drop(unread);
        assert!(end.is_given_up());
        let (mut read, end) = watch(Body::from("abc"), None);
        let frame = read.frame().now_or_never().expect("it is there").expect("a frame").expect("no error");
        assert_eq!(frame.into_data().ok(), Some(Bytes::from_static(b"abc")));
        drop(read);
        assert!(!end.is_given_up());
    }
}
