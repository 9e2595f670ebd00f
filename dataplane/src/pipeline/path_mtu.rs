//! What routers on the way to tunnelled servers said of their MTU (RFC 1191, RFC 8201), for ten
//! minutes.
//!
//! Each worker has a table of its own and learns from the errors about its own connections, which find
//! it wherever they arrive; until a router has complained to it, too, its packets to the same server
//! may be too big once more. That costs each worker one lost packet per path and saves all of them
//! a shared table. The table is small: of two servers that share a line the later one is known, and the other one's routers will
//! say it again.

use crate::connection::Millis;
use crate::service::RealId;

/// The table.
#[derive(Debug)]
pub(super) struct PathMtus {
    lines: Box<[Line; LINES]>,
    /// Nothing in the table is valid from then on: for most boxes, always.
    until: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    real: RealId,
    mtu: u16,
    until: Millis,
}

const LINES: usize = 64;
/// Linux's `mtu_expires`, in milliseconds.
const LIFETIME: u64 = 600_000;

impl PathMtus {
    /// Allocates.
    pub(super) fn new() -> Self {
        let void = Line {
            real: RealId(0),
            mtu: 0,
            until: Millis(0),
        };
        Self {
            lines: Box::new([void; LINES]),
            until: Millis(0),
        }
    }

    /// Bytes of an IP packet that get to `real`, if a router said so.
    #[inline]
    pub(super) fn get(&self, real: RealId, now: Millis) -> Option<u16> {
        if now >= self.until {
            return None;
        }
        let line = &self.lines[real.0 as usize % LINES];
        (line.real == real && now < line.until).then_some(line.mtu)
    }

    /// A router on the way to `real` said so. An MTU that grows is believed after it has expired
    /// only: this may be the router before the narrow one.
    pub(super) fn learn(&mut self, real: RealId, mtu: u16, now: Millis) {
        let mtu = self.get(real, now).map_or(mtu, |known| known.min(mtu));
        let until = Millis(now.0 + LIFETIME);
        self.lines[real.0 as usize % LINES] = Line { real, mtu, until };
        self.until = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_mtu_said_is_known_for_ten_minutes() {
        let mut mtus = PathMtus::new();
        let now = Millis(5_000);
        assert_eq!(mtus.get(RealId(0), now), None);
        mtus.learn(RealId(3), 1400, now);
        mtus.learn(RealId(3), 1450, now);
        assert_eq!(mtus.get(RealId(3), now), Some(1400));
        assert_eq!(mtus.get(RealId(3 + LINES as u32), now), None);
        assert_eq!(mtus.get(RealId(3), Millis(604_999)), Some(1400));
        assert_eq!(mtus.get(RealId(3), Millis(605_000)), None);
        mtus.learn(RealId(3), 1450, Millis(605_000));
        assert_eq!(mtus.get(RealId(3), Millis(605_000)), Some(1450));
    }
}
