//! `/inspect` beside `/metrics`: what a client, a user or a channel is doing, what happened lately, and what happens.
//!
//! In: a GET with an API key that may `info`. Out: JSON of `watch::inspect`, or for `/inspect/tail` a line of JSON for
//! each event, as long as the caller reads. docs/monitoring.md has the fields.

use crate::api::CurrentApi;
use crate::harden;
use crate::journal::ROWS_MAX;
use crate::refusal::{Asker, HttpRefusal};
use crate::watch::{State as ServerState, Watch};
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use fanfare_hub::{ChannelName, ClientId, UserId, Whom};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Rows of each kind, where the caller does not say how many.
const ROWS: usize = 50;
/// A tail on which nothing happens says so, so that its reader notices when the server is gone.
const QUIET: Duration = Duration::from_secs(15);

/// What the routes need.
#[derive(Clone)]
struct Desk {
    watch: Arc<Watch>,
    api: CurrentApi,
}

/// The routes.
pub(super) fn router(watch: Arc<Watch>, api: CurrentApi) -> Router {
    let desk = Desk { watch, api };
    Router::new().route("/inspect", get(inspect)).route("/inspect/tail", get(tail)).with_state(desk)
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    Sessions(Whom),
    Channel(ChannelName),
    Lately,
}

/// Reads the query.
fn question(uri: &Uri) -> Result<(Question, usize), String> {
    let (mut asked, mut limit) = (None, ROWS);
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| error.body_text())?;
    for (name, value) in pairs {
        let question = match &*name {
            "client" => match value.parse::<ClientId>() {
                Ok(client) => Question::Sessions(Whom::Client(client)),
                Err(_) => return Err(format!("{value:?} is not a client's id: these have 16 hexadecimal digits")),
            },
            "user" => Question::Sessions(Whom::User(UserId(value.into()))),
            "channel" => Question::Channel(ChannelName::new(&value).map_err(|error| error.to_string())?),
            "limit" => {
                limit =
                    value.parse().ok().filter(|limit| (0..=ROWS_MAX).contains(limit)).ok_or_else(|| {
                        format!("`limit` is {value:?}, and must be a whole number from 0 to {ROWS_MAX}")
                    })?;
                continue;
            }
            other => {
                return Err(format!("{other:?} is no parameter: there are `client`, `user`, `channel` and `limit`"));
            }
        };
        if asked.replace(question).is_some() {
            return Err("one of `client`, `user` and `channel` at a time".to_owned());
        }
    }
    Ok((asked.unwrap_or(Question::Lately), limit))
}

async fn inspect(State(desk): State<Desk>, asker: Asker, headers: HeaderMap, uri: Uri) -> Response {
    match answer(&desk, &headers, &uri).await {
        Ok(mut json) => {
            json.push('\n');
            typed(Body::from(json), "application/json")
        }
        Err(refusal) => refusal.to(asker).into_response(),
    }
}

async fn answer(desk: &Desk, headers: &HeaderMap, uri: &Uri) -> Result<String, HttpRefusal> {
    desk.api.permits_info(headers)?;
    let (question, limit) = question(uri).map_err(|why| HttpRefusal::because(400, why))?;
    Ok(match question {
        Question::Sessions(whom) => desk.watch.sessions(whom, limit).await,
        Question::Channel(channel) => desk.watch.channel(channel).await,
        Question::Lately => desk.watch.lately(limit).await,
    })
}

async fn tail(State(desk): State<Desk>, asker: Asker, headers: HeaderMap, uri: Uri) -> Response {
    let asked = desk.api.permits_info(&headers).and_then(|()| match question(&uri) {
        Ok((Question::Lately, _)) => Ok(()),
        Ok(_) => Err(HttpRefusal::because(400, "a tail shows everything: it takes no parameters")),
        Err(why) => Err(HttpRefusal::because(400, why)),
    });
    if let Err(refusal) = asked {
        return refusal.to(asker).into_response();
    }
    let rows = desk.watch.tail.watch();
    if desk.watch.state() == ServerState::Draining {
        return HttpRefusal::stopping().to(asker).into_response();
    }
    let lines = futures_util::stream::unfold(rows, async |mut rows| {
        let line = match tokio::time::timeout(QUIET, rows.recv()).await {
            Ok(Ok(row)) if row.is_empty() => return None,
            Ok(Ok(row)) => format!("{row}\n"),
            Ok(Err(RecvError::Lagged(count))) => format!("{{\"type\":\"left_out\",\"count\":{count}}}\n"),
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => "\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), rows))
    });
    typed(Body::new(StreamBody::new(Box::pin(lines))), "application/x-ndjson")
}

fn typed(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    harden::shown(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_thing_or_nothing() {
        let whom = |whom| Ok((Question::Sessions(whom), ROWS));
        let rows = [
            ("/inspect", Ok((Question::Lately, ROWS))),
            ("/inspect?limit=0", Ok((Question::Lately, 0))),
            ("/inspect?client=00000000000000ab", whom(Whom::Client(ClientId(0xab)))),
            ("/inspect?user=ada%20b", whom(Whom::user("ada b"))),
            ("/inspect?channel=chat:a&limit=7", Ok((Question::Channel(ChannelName::new("chat:a").unwrap()), 7))),
            ("/inspect?client=ab", Err("\"ab\" is not a client's id")),
            ("/inspect?user=a&channel=b", Err("one of `client`, `user` and `channel` at a time")),
            ("/inspect?chanel=b", Err("\"chanel\" is no parameter")),
            ("/inspect?channel=a%20b", Err("")),
            ("/inspect?limit=1001", Err("from 0 to 1000")),
        ];
        for (uri, expected) in rows {
            match (question(&uri.parse().expect("a path")), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{uri}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{uri}: {found}"),
                (found, _) => panic!("{uri}: {found:?}"),
            }
        }
    }
}
