//! The workers' clock: milliseconds since the process started, read once per burst.

use std::ops::Add;

/// A moment on the process clock, in milliseconds. It never runs backwards.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Millis(pub u64);

impl Millis {
    /// The low 32 bits, which connections keep; they wrap after 49.7 days.
    #[inline]
    pub fn low(self) -> u32 {
        self.0 as u32
    }

    /// Milliseconds from `earlier` to this moment; 0 if that was later.
    #[inline]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u32> for Millis {
    type Output = Self;

    /// The moment this many milliseconds later.
    fn add(self, milliseconds: u32) -> Self {
        Self(self.0 + u64::from(milliseconds))
    }
}
