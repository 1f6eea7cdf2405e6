//! The program's own values of a socket: `socket.data` in JavaScript, by type instead of by name.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Values = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

/// The program's values of one socket, one of each type. A clone is of the same socket. A guard can put a value here,
/// and every handler of the socket finds it.
///
/// ```
/// use fanfare::socketio::{Auth, Socket, SocketData, SocketExtensions};
/// use fanfare::Fanfare;
///
/// #[derive(serde::Deserialize)]
/// struct Login { name: String }
///
/// #[derive(Clone)]
/// struct Player(String);
///
/// let server = Fanfare::builder(()).socketio("/game", |io| {
///     io.guard(async |Auth(login): Auth<Login>, data: SocketExtensions| {
///         data.insert(Player(login.name));
///     })
///     .on("move", async |socket: Socket, SocketData(Player(name)): SocketData<Player>| {
///         socket.broadcast().emit("moved", name);
///     })
/// });
/// ```
#[derive(Clone, Default)]
pub struct SocketExtensions(Arc<Mutex<Option<Values>>>);

impl SocketExtensions {
    /// Puts a value here, and returns the one of its type that was here before.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<T> {
        let before = self.lock().get_or_insert_default().insert(TypeId::of::<T>(), Box::new(value))?;
        before.downcast().ok().map(|before| *before)
    }

    /// A copy of the value of this type.
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.with(T::clone)
    }

    /// Reads the value of this type in place. `look` must not use these values again.
    pub fn with<T: Send + Sync + 'static, R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.lock().as_ref()?.get(&TypeId::of::<T>())?.downcast_ref().map(look)
    }

    /// Changes the value of this type in place. `change` must not use these values again.
    pub fn with_mut<T: Send + Sync + 'static, R>(&self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.lock().as_mut()?.get_mut(&TypeId::of::<T>())?.downcast_mut().map(change)
    }

    /// Takes the value of this type away.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<T> {
        let value = self.lock().as_mut()?.remove(&TypeId::of::<T>())?;
        value.downcast().ok().map(|value| *value)
    }

    /// Takes all values of another socket, in place of its own of the same types.
    pub(super) fn take_from(&self, other: &SocketExtensions) {
        if Arc::ptr_eq(&self.0, &other.0) {
            return;
        }
        let newer = other.lock().take();
        if let Some(newer) = newer.filter(|newer| !newer.is_empty()) {
            self.lock().get_or_insert_default().extend(newer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Values>> {
        // After a panic in `with_mut` the value is as that has left it, as after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SocketExtensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketExtensions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_value_of_each_type() {
        let data = SocketExtensions::default();
        assert_eq!(data.get::<u8>(), None);
        assert_eq!(data.insert(1_u8), None);
        assert_eq!(data.insert("text"), None);
        assert_eq!(data.clone().insert(2_u8), Some(1));
        assert_eq!(data.with_mut::<u8, _>(|value| *value += 1), Some(()));
        assert_eq!((data.get::<u8>(), data.get::<&str>()), (Some(3), Some("text")));
        assert_eq!((data.remove::<u8>(), data.remove::<u8>()), (Some(3), None));
    }
}
