//! From a function to a handler: any `Fn(extractors…) -> Future` of up to eight arguments.
//!
//! The requirements of a handler are three traits, so that the compiler names the part that does not fit: the function
//! ([`Handler`]), each of its arguments ([`FromCall`], gathered by [`Arguments`]), and its output ([`Answers`]).

use super::answer::{Answers, Refusal};
use super::extract::{Call, FromCall};
use fanfare_hub::HookAnswer;
use std::pin::Pin;
use std::sync::Arc;

/// Marks handlers of `connect` and `refresh`: they identify the caller.
#[derive(Debug, Clone, Copy)]
pub enum OnConnect {}
/// Marks handlers of `subscribe`: they permit it or refuse.
#[derive(Debug, Clone, Copy)]
pub enum OnSubscribe {}
/// Marks handlers of `publish`: they permit it, change the publication, or refuse.
#[derive(Debug, Clone, Copy)]
pub enum OnPublish {}
/// Marks handlers of `rpc`.
#[derive(Debug, Clone, Copy)]
pub enum OnRpc {}
/// Marks handlers of a session's end.
#[derive(Debug, Clone, Copy)]
pub enum OnDisconnect {}
/// Marks handlers of clients that have entered or left a channel's presence.
#[derive(Debug, Clone, Copy)]
pub enum OnPresence {}
/// Marks handlers of channels that have a first subscriber, or none any more.
#[derive(Debug, Clone, Copy)]
pub enum OnOccupancy {}
/// Marks handlers of publications that have been made.
#[derive(Debug, Clone, Copy)]
pub enum OnPublished {}

/// The future of a handler's answer.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = HookAnswer> + Send>>;

/// A handler with its types of function, arguments and state erased.
#[derive(Clone)]
pub(crate) struct Erased {
    answer: Arc<dyn Fn(Arc<Call>) -> AnswerFuture + Send + Sync>,
    /// One of its arguments is made of the request that the connection began with.
    pub(crate) needs_request: bool,
}

impl Erased {
    /// A handler that is no function of the program.
    pub(crate) fn new(needs_request: bool, answer: impl Fn(Arc<Call>) -> AnswerFuture + Send + Sync + 'static) -> Self {
        Erased { answer: Arc::new(answer), needs_request }
    }

    pub(crate) fn answer(&self, call: Arc<Call>) -> AnswerFuture {
        (self.answer)(call)
    }
}

/// A function with the arguments `Args` that can be a handler.
///
/// Implemented for every `Fn(T1, …) -> Future` of up to eight arguments. The builder's methods ask besides that each
/// argument is an [extractor](FromCall), that the future is `Send + 'static`, and that its output is one of the
/// [answers](Answers). An async closure that captures is not `Fn`: pass its values by [`State`](crate::State).
#[diagnostic::on_unimplemented(
    message = "this is no function that can be a handler",
    label = "not an `async` function or closure that can be called again and again",
    note = "a handler is an `async fn` or an `async |…|` closure of up to eight arguments",
    note = "an async closure that captures variables is not `Fn`: take what it needs by `State`"
)]
pub trait Handler<Args>: Clone + Send + Sync + 'static {
    /// The future that the function returns.
    type Future: Future;

    /// Calls the function.
    #[doc(hidden)]
    fn call(&self, arguments: Args) -> Self::Future;
}

/// The arguments of a handler of the kind `K`, in an application with the state `S`: a tuple of
/// [extractors](FromCall).
pub trait Arguments<K, S>: Sized + 'static {
    /// One of them [needs](FromCall::NEEDS_REQUEST) the request that the connection began with.
    #[doc(hidden)]
    const NEEDS_REQUEST: bool;

    /// Takes them out of the call, one after the other.
    #[doc(hidden)]
    fn from_call(state: &S, call: &Call) -> impl Future<Output = Result<Self, Refusal>> + Send;
}

/// Binds a handler to its state.
pub(crate) fn erase<K, S, Args, H>(handler: H, state: &S) -> Erased
where
    K: 'static,
    S: Clone + Send + Sync + 'static,
    Args: Arguments<K, S>,
    H: Handler<Args, Future: Future<Output: Answers<K>> + Send + 'static>,
{
    let state = state.clone();
    let answer = move |call: Arc<Call>| -> AnswerFuture {
        let (handler, state) = (handler.clone(), state.clone());
        // All of it runs in here, so that any panic counts as the handler's.
        Box::pin(async move {
            let future = match Args::from_call(&state, &call).await {
                Ok(arguments) => handler.call(arguments),
                Err(refusal) => return refusal.answer(&call),
            };
            future.await.answer(&call)
        })
    };
    Erased { answer: Arc::new(answer), needs_request: Args::NEEDS_REQUEST }
}

macro_rules! handlers {
    ($($T:ident)*) => {
        impl<F, Fut, $($T,)*> Handler<($($T,)*)> for F
        where
            F: Fn($($T),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future,
        {
            type Future = Fut;

            #[allow(non_snake_case)] // a type's name serves for its value too
            fn call(&self, ($($T,)*): ($($T,)*)) -> Fut {
                self($($T),*)
            }
        }

        impl<K, S: Sync, $($T,)*> Arguments<K, S> for ($($T,)*)
        where
            $($T: FromCall<K, S> + 'static,)*
        {
            const NEEDS_REQUEST: bool = false $(|| <$T as FromCall<K, S>>::NEEDS_REQUEST)*;

            #[allow(unused_variables)] // where there are no arguments
            async fn from_call(state: &S, call: &Call) -> Result<Self, Refusal> {
                Ok(($($T::from_call(state, call).await?,)*))
            }
        }
    };
}

handlers! {}
handlers! { A }
handlers! { A B }
handlers! { A B C }
handlers! { A B C D }
handlers! { A B C D E }
handlers! { A B C D E G }
handlers! { A B C D E G H }
handlers! { A B C D E G H I }
