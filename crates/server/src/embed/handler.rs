//! From a function to a handler: any `Fn(extractors…) -> Future` of up to eight arguments.

use super::answer::Answers;
use super::extract::{Call, FromCall};
use fanfare_hub::HookAnswer;
use std::pin::Pin;
use std::sync::Arc;

/// Marks handlers of `connect` and `refresh`: who is this?
#[derive(Debug, Clone, Copy)]
pub enum OnConnect {}
/// Marks handlers of `subscribe`: may they?
#[derive(Debug, Clone, Copy)]
pub enum OnSubscribe {}
/// Marks handlers of `publish`: may they, and as it is?
#[derive(Debug, Clone, Copy)]
pub enum OnPublish {}
/// Marks handlers of `rpc`.
#[derive(Debug, Clone, Copy)]
pub enum OnRpc {}
/// Marks handlers of a session's end.
#[derive(Debug, Clone, Copy)]
pub enum OnDisconnect {}

/// What a handler is doing while it is awaited.
pub(crate) type Answering = Pin<Box<dyn Future<Output = HookAnswer> + Send>>;

/// A handler whose function, arguments and state are not seen any more.
pub(crate) type Erased = Arc<dyn Fn(Arc<Call>) -> Answering + Send + Sync>;

/// A function that answers questions of the kind `K`, in an application with the state `S`.
///
/// Implemented for every `Fn(T1, …) -> Fut` of up to eight arguments that are [extractors](FromCall) for `K`, and whose
/// future is `Send + 'static` with an output that [answers](Answers) `K`. An async closure that captures is not `Fn`:
/// what a handler needs comes by [`State`](crate::State).
#[diagnostic::on_unimplemented(
    message = "this function cannot be a handler here",
    note = "every argument must be an extractor for this kind of handler, the future `Send + 'static`, and the output a \
            `Result<…, fanfare::Refusal>` (or `()` for `on_disconnect`)",
    note = "an async closure that captures variables is not `Fn`: take them by `State`"
)]
pub trait Handler<K, S, Args>: Clone + Send + Sync + 'static {
    /// Begins to answer.
    #[doc(hidden)]
    fn begin(&self, state: S, call: Arc<Call>) -> Pin<Box<dyn Future<Output = HookAnswer> + Send>>;
}

/// Binds a handler to its state.
pub(crate) fn erase<K, S, Args>(handler: impl Handler<K, S, Args>, state: &S) -> Erased
where
    S: Clone + Send + Sync + 'static,
{
    let state = state.clone();
    Arc::new(move |call| handler.begin(state.clone(), call))
}

macro_rules! handlers {
    ($($T:ident)*) => {
        impl<K, S, F, Fut, $($T,)*> Handler<K, S, ($($T,)*)> for F
        where
            S: Clone + Send + Sync + 'static,
            F: Fn($($T),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: Answers<K>,
            $($T: FromCall<K, S>,)*
        {
            #[allow(non_snake_case, unused_variables)] // a type's name serves for its value too
            fn begin(&self, state: S, call: Arc<Call>) -> Answering {
                let handler = self.clone();
                // Everything happens in here, so that a panic anywhere is the handler's.
                Box::pin(async move {
                    let future = {
                        $(let $T = match $T::from_call(&state, &call) {
                            Ok(value) => value,
                            Err(refusal) => return refusal.into(),
                        };)*
                        handler($($T),*)
                    };
                    future.await.answer(&call)
                })
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
