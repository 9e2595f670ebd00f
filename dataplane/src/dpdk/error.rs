//! DPDK's error numbers as a value: an errno or one of DPDK's own above it, with DPDK's text for it.

use std::ffi::CStr;
use std::fmt;

/// A positive DPDK error number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// Device or resource busy.
    pub const BUSY: Self = Self(16);
    /// Not supported.
    pub const NOTSUP: Self = Self(95);
    /// Not implemented.
    pub const NOSYS: Self = Self(38);

    /// What the calling thread's last failed DPDK call left in `rte_errno`. To be read at once: any further call may
    /// overwrite it.
    pub(super) fn last() -> Self {
        // SAFETY: reads a thread-local of libdpdk.
        Self(unsafe { dpdk_sys::dpdk_errno() })
    }

    /// Judges a return code that is negative on failure.
    pub(super) fn check(code: i32) -> Result<i32, Self> {
        if code < 0 {
            Err(Self(code.saturating_neg()))
        } else {
            Ok(code)
        }
    }

    /// The number: an `errno` value, or above 1000 one of DPDK's.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: returns a NUL-terminated string that stays valid until this thread's next call of the same function.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(f, "{} (error {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({self})")
    }
}
