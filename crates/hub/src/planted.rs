//! Planted bugs: slips that a reviewer could miss, switched on by name to see that the simulation finds them.
//!
//! Without the feature `planted` [`planted`] is the constant `false` and nothing of this is compiled in. With it, a bug
//! exists only on a thread that has [`choose`]n it: a build that unifies features changes nothing for anybody else.

macro_rules! rows {
    ($($variant:ident, $breaks:literal;)*) => {
        /// One bug each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Planted {
            $(#[doc = $breaks] $variant,)*
        }

        /// Every planted bug with its name and what it breaks.
        #[cfg(feature = "planted")]
        pub const PLANTED: &[(Planted, &str, &str)] = &[$((Planted::$variant, stringify!($variant), $breaks),)*];
    };
}

rows! {
    MemberTakesOld, "A member takes a delivery that it has already: the comparison with its place is missing.";
}

#[cfg(feature = "planted")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Switches one bug on for this thread, or all off.
#[cfg(feature = "planted")]
pub fn choose(bug: Option<Planted>) {
    CHOSEN.set(bug);
}

/// True where this bug is switched on.
#[cfg(feature = "planted")]
pub(crate) fn planted(bug: Planted) -> bool {
    CHOSEN.get() == Some(bug)
}

/// There are none in this build.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) fn planted(_: Planted) -> bool {
    false
}
