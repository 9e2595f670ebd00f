//! What a worker asks of the one it hands a packet to; also of itself, when a packet waits.
//!
//! Nearly always that it owns the packet's connection. But some packets do not say whose they are:
//! of a later fragment only the datagram is known, and the connection of an ICMP error or of a first
//! fragment may be with any worker (DESIGN §5, rules 5 and 6). The errand travels in the buffer, 32
//! bits of metadata beside the frame.

use crate::service::RealId;
use crate::verdict::WorkerId;

/// The errand of a packet between workers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Errand {
    /// Decide: whatever connection the packet needs is the receiver's.
    #[default]
    Own,
    /// The receiver is where the fragments of this datagram meet.
    Gather,
    /// Take the packet if its connection is here, else send it on its round.
    Search {
        /// Where the round began.
        start: WorkerId,
        /// How many were asked before.
        stop: u8,
    },
    /// It has waited for this server, which was chosen for it alone.
    Chosen(RealId),
}

impl Errand {
    /// As it lies in the buffer.
    pub fn to_word(self) -> u32 {
        match self {
            Self::Own => 0,
            Self::Gather => 1,
            Self::Search { start, stop } => 2 | u32::from(start.0) << 8 | u32::from(stop) << 16,
            Self::Chosen(real) if real.0 < 1 << 24 => 3 | real.0 << 8,
            // It will be chosen for again: there are no tables as large as that.
            Self::Chosen(_) => 0,
        }
    }

    /// Out of the buffer. Words that mean nothing are [`Self::Own`].
    pub fn from_word(word: u32) -> Self {
        let [kind, start, stop, high] = word.to_le_bytes();
        match kind {
            1 => Self::Gather,
            2 => Self::Search {
                start: WorkerId(start),
                stop,
            },
            3 => Self::Chosen(RealId(u32::from_le_bytes([start, stop, high, 0]))),
            _ => Self::Own,
        }
    }
}

/// The worker at `stop` of a round that begins at `start`: the computed `owner` is asked first,
/// because connections are nearly always there, then all others, each once. `None`: all were asked.
pub fn stop_of_round(start: WorkerId, owner: WorkerId, workers: u8, stop: u8) -> Option<WorkerId> {
    let others = (1..workers).map(|step| {
        let worker = (u16::from(start.0) + u16::from(step)) % u16::from(workers);
        WorkerId(worker as u8)
    });
    let first = std::iter::once(start).chain((owner != start).then_some(owner));
    first
        .chain(others.filter(|worker| *worker != owner))
        .nth(usize::from(stop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_survives_the_buffer() {
        let search = Errand::Search {
            start: WorkerId(7),
            stop: 200,
        };
        let chosen = Errand::Chosen(RealId(0x00ab_cdef));
        for errand in [Errand::Own, Errand::Gather, search, chosen] {
            assert_eq!(Errand::from_word(errand.to_word()), errand);
        }
        assert_eq!(Errand::from_word(0xdead_be77), Errand::Own);
        assert_eq!(Errand::Chosen(RealId(1 << 24)).to_word(), 0);
    }

    #[test]
    fn a_round_asks_every_worker_once_and_the_owner_right_after_the_first() {
        for workers in 1..=8 {
            for start in (0..workers).map(WorkerId) {
                for owner in (0..workers).map(WorkerId) {
                    let stops = (0..=workers)
                        .map_while(|stop| stop_of_round(start, owner, workers, stop))
                        .collect::<Vec<_>>();
                    assert_eq!(stops[0], start);
                    assert!(stops[..2.min(stops.len())].contains(&owner));
                    let mut sorted = stops.clone();
                    sorted.sort_unstable();
                    let all: Vec<_> = (0..workers).map(WorkerId).collect();
                    assert_eq!(sorted, all, "from {start:?} for {owner:?}");
                }
            }
        }
    }
}
