//! Handlers without a server: each kind is asked directly.

use super::dispatch::{Handlers, call};
use crate::embed::handle::Handle;
use crate::{Channel, Fanfare, Identity, Json, Publish, Refusal, State, SubOptions, Token, User};
use fanfare_hub::{Caller, ChannelName, ClientId, Data, ErrorCode, HookAnswer, Question, UserId};
use std::time::Duration;

#[derive(Clone)]
struct App {
    secret: &'static str,
}

impl App {
    async fn user_of(&self, token: &Token) -> Result<Identity, Refusal> {
        match token.as_str().split_once('/') {
            Some((secret, name)) if secret == self.secret => Ok(Identity::user(name)),
            _ => Err(Refusal::unauthorized("this token is none of ours")),
        }
    }
}

#[derive(serde::Deserialize)]
struct Ask {
    symbol: String,
}

#[derive(serde::Serialize)]
struct Quote {
    symbol: String,
    cents: u32,
}

fn handlers() -> std::sync::Arc<Handlers> {
    let server = Fanfare::builder(App { secret: "s3cret" })
        .on_connect(async |State(app): State<App>, token: Token| app.user_of(&token).await)
        .on_subscribe("vip:*", async |user: User, options: SubOptions| match &*user {
            "ada" => Ok(()),
            other => Err(Refusal::denied(format!("{other} is not on the list of {}", options.channel))),
        })
        .on_publish("chat:*", async |p: Publish| Ok(p))
        .on_publish("loud:*", async |mut p: Publish, Channel(channel): Channel| {
            let text: String = serde_json::from_slice(p.data.bytes())?;
            p.data = Data::Json(serde_json::to_vec(&format!("{channel}: {}", text.to_uppercase()))?.into());
            Ok(p)
        })
        .on_publish("panic:*", async |_: Publish| -> Result<(), Refusal> { panic!("on purpose") })
        .on_publish("slow:*", async || -> Result<(), Refusal> { std::future::pending().await })
        .rpc("quote", async |State(_): State<App>, Json(ask): Json<Ask>| {
            if ask.symbol.is_empty() {
                return Err(Refusal::not_found("an empty symbol"));
            }
            Ok(Json(Quote { symbol: ask.symbol, cents: 4_200 }))
        })
        .build()
        .expect("a valid server");
    server.handlers
}

fn caller(user: &str) -> Caller {
    Caller { client: Some(ClientId(7)), user: Some(UserId(user.into())), info: None }
}

fn publish(channel: &str, json: &'static str) -> Question {
    let channel = ChannelName::new(channel).expect("a name");
    let data = Data::Json(json.as_bytes().into());
    let publish = Box::new(Publish { channel, data, event: None, idempotency_key: None, echo: true });
    Question::Publish { caller: caller("ada"), publish }
}

async fn ask(question: Question) -> HookAnswer {
    let call = call(question, Handle::new(Vec::new(), 0, 1), crate::clock::Clock::system());
    handlers().answer(call, Duration::from_secs(5)).await
}

async fn refused(question: Question) -> (ErrorCode, String) {
    match ask(question).await {
        HookAnswer::Refused(error) => (error.code, error.message.into()),
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn on_connect_tells_who_a_token_is() {
    let connect = |token: Option<&str>| Question::Connect { token: token.map(Into::into) };
    match ask(connect(Some("s3cret/ada"))).await {
        HookAnswer::Identity(found) => assert_eq!(found.user, Some(UserId("ada".into()))),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(connect(Some("wrong/ada"))).await.0, ErrorCode::Unauthorized);
    let (code, message) = refused(connect(None)).await;
    assert_eq!((code, message.as_str()), (ErrorCode::Unauthorized, "`connect` needs a `token` here"));
}

#[tokio::test]
async fn on_subscribe_decides_by_user_and_channel() {
    let subscribe = |user: &str| {
        let options = Box::new(SubOptions::new(ChannelName::new("vip:lounge").expect("a name")));
        Question::Subscribe { caller: caller(user), options }
    };
    assert_eq!(ask(subscribe("ada")).await, HookAnswer::Allowed);
    let (code, message) = refused(subscribe("bob")).await;
    assert_eq!((code, message.as_str()), (ErrorCode::Denied, "bob is not on the list of vip:lounge"));
}

#[tokio::test]
async fn on_publish_lets_through_edits_and_fails_without_telling_why() {
    let data = |answer| match answer {
        HookAnswer::Publish(publish) => String::from_utf8(publish.data.bytes().to_vec()).expect("UTF-8"),
        other => panic!("{other:?}"),
    };
    assert_eq!(data(ask(publish("chat:a", r#""hi""#)).await), r#""hi""#);
    assert_eq!(data(ask(publish("loud:a", r#""hi""#)).await), r#""loud:a: HI""#);
    // `?` on serde's error: the log has it, the client gets no more than that it failed.
    let (code, message) = refused(publish("loud:a", "17")).await;
    assert_eq!((code, message.as_str()), (ErrorCode::Internal, "the server failed; its log has the reason"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_or_never_ends_is_answered_for() {
    assert_eq!(refused(publish("panic:a", "1")).await.0, ErrorCode::Internal);
    let (code, message) = refused(publish("slow:a", "1")).await;
    assert_eq!((code, message.as_str()), (ErrorCode::Timeout, "the handler did not answer within 5000 ms"));
    assert_eq!(refused(publish("none:a", "1")).await.0, ErrorCode::Denied);
}

#[tokio::test]
async fn rpc_decodes_answers_and_says_what_is_wrong_with_the_payload() {
    let rpc = |method: &str, data: &'static str| Question::Rpc {
        caller: caller("ada"),
        method: method.into(),
        data: data.as_bytes().into(),
    };
    let HookAnswer::Result(result) = ask(rpc("quote", r#"{"symbol":"ACME"}"#)).await else { panic!("no result") };
    assert_eq!(&*result, br#"{"symbol":"ACME","cents":4200}"#);
    let (code, message) = refused(rpc("quote", r#"{"symbl":1}"#)).await;
    assert_eq!(code, ErrorCode::BadRequest);
    assert!(message.contains("missing field `symbol`"), "{message}");
    let (code, message) = refused(rpc("qote", "{}")).await;
    assert_eq!((code, message.as_str()), (ErrorCode::NotFound, "no method is called \"qote\""));
    assert_eq!(refused(rpc(&"x".repeat(100_000), "{}")).await.1.len(), "no method is called \"\"".len() + 64);
}

#[test]
fn what_is_wrong_with_a_builder_is_told_by_build() {
    let ok = async || -> Result<(), Refusal> { Ok(()) };
    let wrong = |server: crate::Builder| server.build().err().expect("refused").to_string();
    assert_eq!(
        wrong(Fanfare::builder(()).channel("a::b", |c| c.open())),
        "\"a::b\" is no pattern of channels: segment \"\" cannot occur in a channel name; `*` stands for a whole segment"
    );
    assert_eq!(
        wrong(Fanfare::builder(()).on_publish("a:*", ok).on_publish("a:*", ok)),
        "there are two on_publish handlers for \"a:*\""
    );
    let builder = Fanfare::builder(()).protocol("/", crate::Echo::default()).on_subscribe("**", ok);
    let refused = builder.build().expect("valid").start(&[]).err().expect("no runtime is here");
    assert!(matches!(refused, crate::ServeError::NoRuntime), "{refused}");
}
