//! Handlers without a server: each kind is asked directly.

use super::dispatch::{Handlers, call};
use crate::embed::handle::Handle;
use crate::{
    Call, Channel, Claims, Fanfare, FromCall, FromRef, Identity, Json, Publish, Refusal, State, SubOptions, Token, User,
};
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
    Caller { client: Some(ClientId(7)), user: Some(UserId(user.into())), info: None, claims: None }
}

fn publish(channel: &str, json: &'static str) -> Question {
    let channel = ChannelName::new(channel).expect("a name");
    let data = Data::Json(json.as_bytes().into());
    let publish = Box::new(Publish { channel, data, event: None, idempotency_key: None, echo: true });
    Question::Publish { caller: caller("ada"), publish }
}

async fn ask(question: Question) -> HookAnswer {
    let call = call(question, None, Handle::new(Vec::new(), 0, 1), crate::clock::Clock::system());
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
    assert_eq!((code, message.as_str()), (ErrorCode::NotFound, "there is no method \"qote\""));
    assert_eq!(refused(rpc(&"x".repeat(100_000), "{}")).await.1.len(), "there is no method \"\"".len() + 64);
}

/// Errors as an application has them: one wraps the other.
#[derive(Debug, thiserror::Error)]
#[error("the list cannot be read")]
struct NoList(#[source] std::num::ParseIntError);

async fn read(text: &str) -> Result<u32, NoList> {
    text.parse().map_err(NoList)
}

/// An extractor that awaits.
struct Admin(User);

impl<K, S: Sync> FromCall<K, S> for Admin
where
    App: FromRef<S>,
{
    const NEEDS_REQUEST: bool = false;

    async fn from_call(state: &S, call: &Call) -> Result<Self, Refusal> {
        let user = <User as FromCall<K, S>>::from_call(state, call).await?;
        tokio::task::yield_now().await;
        if *user == *App::from_ref(state).secret { Ok(Admin(user)) } else { Err(Refusal::denied("no administrator")) }
    }
}

#[tokio::test]
async fn handlers_that_cannot_fail_need_no_ok_and_extractors_may_await() {
    let server = Fanfare::builder(App { secret: "ada" })
        .on_connect(async |token: Token| token.as_str().to_owned())
        .on_subscribe("a", async |_: Admin| ())
        .on_publish("a", async |p: Publish, Admin(by): Admin| Publish { event: Some(by.to_string().into()), ..p })
        .on_publish("b", async || ())
        .rpc("sum", async |Json(numbers): Json<Vec<u32>>| Json(numbers.iter().sum::<u32>()))
        .on_disconnect(async || ())
        .build()
        .expect("a valid server");
    let ask = async |question| {
        let call = call(question, None, Handle::new(Vec::new(), 0, 1), crate::clock::Clock::system());
        server.handlers.answer(call, Duration::from_secs(5)).await
    };
    match ask(Question::Connect { token: Some("bob".into()) }).await {
        HookAnswer::Identity(found) => assert_eq!(found.user, Some(UserId("bob".into()))),
        other => panic!("{other:?}"),
    }
    let options = || Box::new(SubOptions::new(ChannelName::new("a").expect("a name")));
    assert_eq!(ask(Question::Subscribe { caller: caller("ada"), options: options() }).await, HookAnswer::Allowed);
    match ask(Question::Subscribe { caller: caller("bob"), options: options() }).await {
        HookAnswer::Refused(error) => assert_eq!(&*error.message, "no administrator"),
        other => panic!("{other:?}"),
    }
    let events = [("a", Some("ada".into())), ("b", None)];
    for (channel, event) in events {
        match ask(publish(channel, "1")).await {
            HookAnswer::Publish(publish) => assert_eq!(publish.event, event, "{channel}"),
            other => panic!("{other:?}"),
        }
    }
    let rpc = Question::Rpc { caller: caller("ada"), method: "sum".into(), data: "[1,2,3]".into() };
    assert_eq!(ask(rpc).await, HookAnswer::Result("6".into()));
}

#[tokio::test]
async fn any_error_goes_through_the_question_mark_and_only_the_log_has_its_text() {
    let server = Fanfare::builder(())
        .on_connect(async |token: Token| Ok(Identity::user(read(token.as_str()).await?.to_string())))
        .on_subscribe("**", async || {
            read("x").await?;
            Ok(())
        })
        .on_publish("**", async |p: Publish| {
            read("x").await?;
            Ok(p)
        })
        .rpc("m", async || Ok(Json(read("x").await?)))
        .on_disconnect(async || {
            read("x").await?;
            Ok(())
        })
        .build()
        .expect("a valid server");
    let options = Box::new(SubOptions::new(ChannelName::new("a").expect("a name")));
    for question in [
        Question::Connect { token: Some("x".into()) },
        Question::Subscribe { caller: caller("ada"), options },
        publish("a", "1"),
        Question::Rpc { caller: caller("ada"), method: "m".into(), data: "1".into() },
    ] {
        let call = call(question.clone(), None, Handle::new(Vec::new(), 0, 1), crate::clock::Clock::system());
        match server.handlers.answer(call, Duration::from_secs(5)).await {
            HookAnswer::Refused(error) => {
                assert_eq!(
                    (error.code, &*error.message),
                    (ErrorCode::Internal, "the server failed; its log has the reason"),
                    "{question:?}"
                );
            }
            other => panic!("{question:?}: {other:?}"),
        }
    }
}

/// A request that no handler asks for is not kept: an idle connection must not pay for it.
#[test]
fn the_request_is_kept_only_where_a_handler_asks_for_it() {
    struct OfOurs;
    impl<K, S: Sync> FromCall<K, S> for OfOurs {
        async fn from_call(_state: &S, _call: &Call) -> Result<Self, Refusal> {
            Ok(OfOurs)
        }
    }
    let need = |builder: crate::Builder<App>| builder.build().expect("valid").handlers.need_request();
    let builder = || Fanfare::builder(App { secret: "" });
    assert!(!handlers().need_request());
    assert!(!need(builder().on_connect(async |_: Option<Token>, _: Handle| "ada").on_disconnect(async |_: Admin| ())));
    assert!(need(builder().on_connect(async |_: Token, _: crate::Cookies| "ada")));
    assert!(need(builder().on_subscribe("a", async |_: crate::Headers| ())));
    assert!(need(builder().on_publish("a", async |_: crate::Query<()>, _: Publish| ())));
    assert!(need(builder().rpc("a", async |_: crate::Peer| Json(1))));
    assert!(need(builder().on_disconnect(async |_: std::sync::Arc<crate::RequestInfo>| ())));
    assert!(need(builder().rpc("a", async |_: OfOurs| Json(1))), "nobody knows what it looks at");
}

#[test]
fn a_refusal_keeps_the_whole_cause_for_the_log_and_an_error_of_the_hub_has_none() {
    let cause = |refusal: Refusal| refusal.cause;
    let digits = || "x".parse::<u32>().expect_err("no number");
    assert_eq!(
        cause(NoList(digits()).into()).as_deref(),
        Some("the list cannot be read: invalid digit found in string")
    );
    assert_eq!(cause(Refusal::internal("of any type")).as_deref(), Some("of any type"));
    let error = fanfare_hub::Error::new(ErrorCode::NoRule, "no rule");
    assert_eq!((Refusal::from(error.clone()).error().code, cause(error.into())), (ErrorCode::NoRule, None));
}

#[test]
fn mistakes_of_a_builder_are_reported_by_build() {
    let ok = async || -> Result<(), Refusal> { Ok(()) };
    let wrong = |server: crate::Builder| server.build().err().expect("refused").to_string();
    assert_eq!(
        wrong(Fanfare::builder(()).channel("a::b", |c| c.open())),
        "\"a::b\" is not a channel pattern: segment \"\" cannot occur in a channel name; `*` stands for a whole segment"
    );
    assert_eq!(
        wrong(Fanfare::builder(()).on_publish("a:*", ok).on_publish("a:*", ok)),
        "there are two on_publish handlers for \"a:*\""
    );
    let builder = Fanfare::builder(()).protocol("/", crate::Echo::default()).on_subscribe("**", ok);
    let refused = builder.build().expect("valid").start(&[]).err().expect("no runtime is here");
    assert!(matches!(refused, crate::ServeError::NoRuntime), "{refused}");
}

/// By name or as a whole, of the program's types; a handler that needs others than the caller has is not run.
#[tokio::test]
async fn handlers_read_the_claims_of_their_caller() {
    #[derive(serde::Deserialize)]
    struct Staff {
        team: String,
    }

    #[derive(serde::Deserialize)]
    struct Plan {
        plan: Option<String>,
    }

    let server = Fanfare::builder(())
        .rpc("team", async |Claims(staff): Claims<Staff>| Json(staff.team))
        .rpc("plan", async |Claims(it): Claims<Plan>| Json(it.plan.unwrap_or_else(|| "free".to_owned())))
        .rpc("level", async |caller: Caller| Json(caller.claim::<u32>("access.level")))
        .build()
        .expect("a valid server");
    let ask = async |method: &str, claims: Option<&'static str>| {
        let caller = Caller { claims: claims.map(Into::into), ..caller("ada") };
        let question = Question::Rpc { caller, method: method.into(), data: "null".into() };
        let call = call(question, None, Handle::new(Vec::new(), 0, 1), crate::clock::Clock::system());
        match server.handlers.answer(call, Duration::from_secs(5)).await {
            HookAnswer::Result(result) => String::from_utf8(result.to_vec()).expect("UTF-8"),
            HookAnswer::Refused(error) => format!("{}: {}", error.code, error.message),
            other => panic!("{other:?}"),
        }
    };
    let denied = format!("{}: this needs claims that the caller does not have", ErrorCode::Denied);
    let claims = Some(r#"{"team":"red","plan":"pro","access":{"level":7}}"#);
    let rows = [
        ("team", claims, r#""red""#),
        ("team", Some(r#"{"team":7}"#), &denied),
        ("team", None, &denied),
        ("plan", claims, r#""pro""#),
        ("plan", None, r#""free""#),
        ("level", claims, "7"),
        ("level", Some(r#"{"access":{"level":"7"}}"#), "null"),
        ("level", None, "null"),
    ];
    for (method, claims, expected) in rows {
        assert_eq!(ask(method, claims).await, expected, "{method} by {claims:?}");
    }
}
