//! Time is an argument: every input comes with a [`Now`], and no machine reads a clock.

/// The time, passed in: no machine reads a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds that only go forward.
    pub mono_ms: u64,
    /// Milliseconds since 1970; may jump.
    pub wall_ms: u64,
}
