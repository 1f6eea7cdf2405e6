//! Streams as the protocols see them: the commands of a request for a stream, and the form of its answer.
//!
//! `http::streams` makes a [`StreamRequest`] of a request, and `shard::streams` a connection and an answer of it.

use crate::harden;
use crate::protocol::events;
use crate::protocol::piece::Taker;
use crate::protocol::{Actions, Conversation, Message, Place, Protocol};
use crate::refusal::{Asker, HttpRefusal};
use crate::request::{Peer, REQUEST_ID, RequestId, RequestInfo};
use axum::body::HttpBody;
use bytes::Bytes;
use fanfare_hub::{HeartbeatKind, WireId};
use fanfare_wire::admission::AdmissionReply;
use fanfare_wire::events::{Events, EventsRequest};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The request of a client.
pub(crate) enum StreamContent {
    Events(Events, Box<EventsRequest>),
    /// By the text of its `connect`.
    Native(Box<str>),
}

/// A request for a stream that has been understood.
pub(crate) struct StreamRequest {
    pub(crate) wire: WireId,
    pub(crate) start: StreamStart,
    pub(crate) answer: StreamAnswer,
}

/// Its commands to the hub.
pub(crate) struct StreamStart {
    pub(crate) content: StreamContent,
    pub(crate) native: Arc<dyn Protocol>,
    pub(crate) peer: Peer,
    /// Made only where a handler asks for it.
    pub(crate) request: Option<Arc<RequestInfo>>,
}

/// The parts of its answer that do not depend on the hub.
pub(crate) struct StreamAnswer {
    pub(crate) media_type: &'static str,
    /// Its body comes in chunks.
    pub(crate) chunked: bool,
    /// By which pages of other origins may read it.
    pub(crate) cors: HeaderMap,
    pub(crate) id: RequestId,
    pub(crate) asker: Asker,
}

impl StreamStart {
    /// The kind of this stream's heartbeats.
    pub(crate) fn heartbeat(&self) -> HeartbeatKind {
        match self.content {
            StreamContent::Events(..) => HeartbeatKind::Marks,
            // The client answers by a send: a proxy takes bytes for clients that have gone.
            StreamContent::Native(..) => HeartbeatKind::Asks,
        }
    }

    pub(crate) fn admitted_by(&self) -> AdmissionReply {
        match self.content {
            StreamContent::Events(..) => AdmissionReply::Subscribed,
            StreamContent::Native(..) => AdmissionReply::Connected,
        }
    }

    /// Begins its conversation.
    pub(crate) fn begin(self, place: &Place, actions: &mut Actions) -> Box<dyn Conversation> {
        match self.content {
            StreamContent::Events(variant, request) => events::begin(variant, *request, actions),
            StreamContent::Native(connect) => {
                let mut conversation = self.native.open(place, self.request.as_ref(), actions);
                conversation.message(Message::Text(&connect), actions);
                conversation
            }
        }
    }
}

impl StreamAnswer {
    /// The answer to a client that is let in, but for how its body ends.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = headers(self.media_type, self.cors.clone());
        headers.insert(REQUEST_ID, self.id.value());
        headers
    }

    /// The same on a raw socket, in HTTP/1.1. The connection ends with the stream.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut headers = self.headers();
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
            headers.insert(header::DATE, date);
        }
        if self.chunked {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let mut out = b"HTTP/1.1 200 OK\r\n".to_vec();
        for (name, value) in &headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// A refusal that this client's page may read.
    pub(crate) fn refusal(&self, refused: HttpRefusal) -> HttpRefusal {
        refused.identified(self.id.clone()).to(self.asker).with_all(&self.cors)
    }
}

/// A stream for hyper: the head of its answer, and its body.
pub(crate) struct Bridged {
    pub(crate) headers: HeaderMap,
    pub(crate) body: StreamBody,
}

/// The body of a stream that hyper writes.
pub(crate) struct StreamBody(pub(crate) Taker);

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_take(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The headers of every stream. Proxies are asked to pass it on as it comes and as it is.
pub(crate) fn headers(media_type: &'static str, mut headers: HeaderMap) -> HeaderMap {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // `no-cache` as the usual servers of event streams say it, and proxies know it. Nothing can keep what has no end.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    harden::data(&mut headers);
    headers
}
