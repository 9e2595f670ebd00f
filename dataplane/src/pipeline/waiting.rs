//! The waiting room: packets held until their next hop's MAC address is known.
//!
//! Bounded as the kernel's ARP queue is: three packets per address, 256 in all, three seconds.
//! Whoever enters first for an address causes one question to the control plane; the answer comes
//! as a new forwarding snapshot. All memory is allocated at start.
//!
//! An address that has failed before is asked for again, as the kernel does: its server may be
//! back. Such packets get half of the room at most, so that dead servers do not take the seats of
//! those that only have to be looked up.

use crate::connection::Millis;
use crate::forwarding::{Forwarding, NeighbourState};
use crate::verdict::Neighbour;

/// Packets that may wait for one address.
const PER_NEIGHBOUR: usize = 3;
/// Packets that may wait in all.
const CAPACITY: usize = 256;
/// Those among them whose address has failed before.
const FAILED_BEFORE: usize = CAPACITY / 2;
/// How long a packet waits, in milliseconds.
const PATIENCE_MS: u64 = 3_000;
/// The question is repeated after this time, in milliseconds.
const ASK_AGAIN_MS: u64 = 1_000;

/// Packets waiting for neighbours.
#[derive(Debug)]
pub struct WaitingRoom<P> {
    seats: Vec<Seat<P>>,
}

#[derive(Debug)]
struct Seat<P> {
    packet: P,
    neighbour: Neighbour,
    since: Millis,
    asked: Millis,
    /// That it failed is old news: the answer to our question is not there yet.
    failed_before: bool,
}

/// How the wait of a packet ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The neighbour is known now.
    Resolved,
    /// It does not answer.
    Failed,
}

impl<P> Default for WaitingRoom<P> {
    fn default() -> Self {
        Self {
            seats: Vec::with_capacity(CAPACITY),
        }
    }
}

impl<P> WaitingRoom<P> {
    /// Takes a packet in.
    ///
    /// `failed_before`: the neighbour is known not to have answered. `Ok(true)`: the control plane
    /// must be asked for the neighbour; `Ok(false)`: it was asked already; `Err(packet)`: no room.
    pub fn enter(
        &mut self,
        packet: P,
        neighbour: Neighbour,
        failed_before: bool,
        now: Millis,
    ) -> Result<bool, P> {
        let (mut same, mut failed) = (0, 0);
        for seat in &self.seats {
            same += usize::from(seat.neighbour == neighbour);
            failed += usize::from(seat.failed_before);
        }
        if same >= PER_NEIGHBOUR
            || self.seats.len() >= CAPACITY
            || (failed_before && failed >= FAILED_BEFORE)
        {
            return Err(packet);
        }
        self.seats.push(Seat {
            packet,
            neighbour,
            since: now,
            asked: now,
            failed_before,
        });
        Ok(same == 0)
    }

    /// Takes out up to `limit` packets whose wait is over, oldest first.
    ///
    /// `ask` is called for neighbours whose question should be repeated.
    pub fn leave(
        &mut self,
        forwarding: &Forwarding,
        now: Millis,
        limit: usize,
        mut out: impl FnMut(P, Outcome),
        mut ask: impl FnMut(Neighbour),
    ) {
        let mut left = 0;
        let mut index = 0;
        while index < self.seats.len() && left < limit {
            let seat = &mut self.seats[index];
            let state = forwarding.neighbour(seat.neighbour);
            // Once it is being looked for, a failure is news.
            seat.failed_before &= state == Some(NeighbourState::Failed);
            let outcome = match state {
                Some(NeighbourState::Reachable(_)) => Some(Outcome::Resolved),
                Some(NeighbourState::Failed) if !seat.failed_before => Some(Outcome::Failed),
                _ if now.since(seat.since) >= PATIENCE_MS => Some(Outcome::Failed),
                _ => None,
            };
            let Some(outcome) = outcome else {
                if now.since(seat.asked) >= ASK_AGAIN_MS {
                    seat.asked = now;
                    ask(seat.neighbour);
                }
                index += 1;
                continue;
            };
            // Order matters: packets of one flow must not overtake each other.
            let seat = self.seats.remove(index);
            out(seat.packet, outcome);
            left += 1;
        }
    }

    /// Packets waiting now.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Empties the room (at stop).
    pub fn clear(&mut self) {
        self.seats.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::MacAddress;
    use crate::verdict::PortId;
    use std::net::{IpAddr, Ipv4Addr};

    fn neighbour(last: u8) -> Neighbour {
        Neighbour {
            port: PortId(0),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 1, last)),
        }
    }

    fn knows(last: u8, state: NeighbourState) -> Forwarding {
        Forwarding::new(vec![], [], vec![], [(neighbour(last), state)])
    }

    fn drain(
        room: &mut WaitingRoom<u32>,
        forwarding: &Forwarding,
        now: u64,
    ) -> Vec<(u32, Outcome)> {
        let mut out = Vec::new();
        room.leave(
            forwarding,
            Millis(now),
            CAPACITY,
            |packet, outcome| out.push((packet, outcome)),
            |_| {},
        );
        out
    }

    #[test]
    fn three_packets_wait_per_address_and_the_first_one_asks() {
        let mut room = WaitingRoom::default();
        assert_eq!(room.enter(1, neighbour(1), false, Millis(0)), Ok(true));
        assert_eq!(room.enter(2, neighbour(1), false, Millis(0)), Ok(false));
        assert_eq!(room.enter(3, neighbour(1), false, Millis(0)), Ok(false));
        assert_eq!(room.enter(4, neighbour(1), false, Millis(0)), Err(4));
        assert_eq!(room.enter(5, neighbour(2), false, Millis(0)), Ok(true));
    }

    #[test]
    fn the_room_never_holds_more_than_its_capacity() {
        let mut room = WaitingRoom::default();
        let mut refused = 0;
        for packet in 0..1000_u32 {
            let neighbour = Neighbour {
                port: PortId(0),
                address: IpAddr::V4(Ipv4Addr::from_bits(packet)),
            };
            refused += u32::from(room.enter(packet, neighbour, false, Millis(0)).is_err());
        }
        assert_eq!((room.len(), refused), (CAPACITY, 1000 - CAPACITY as u32));
    }

    #[test]
    fn an_answer_frees_the_packets_in_order_and_a_failure_says_so() {
        let mut room = WaitingRoom::default();
        for packet in 1..=3 {
            room.enter(packet, neighbour(1), false, Millis(0)).unwrap();
        }
        assert_eq!(drain(&mut room, &Forwarding::default(), 10), []);
        let known = knows(1, NeighbourState::Reachable(MacAddress([2, 0, 0, 0, 0, 1])));
        assert_eq!(
            drain(&mut room, &known, 20),
            [1, 2, 3].map(|packet| (packet, Outcome::Resolved))
        );
        room.enter(4, neighbour(1), false, Millis(30)).unwrap();
        assert_eq!(
            drain(&mut room, &knows(1, NeighbourState::Failed), 40),
            [(4, Outcome::Failed)]
        );
    }

    #[test]
    fn patience_ends_after_three_seconds_and_the_question_is_repeated_meanwhile() {
        let mut room = WaitingRoom::default();
        room.enter(1, neighbour(1), false, Millis(0)).unwrap();
        let mut asked = 0;
        for now in (0..3000).step_by(100) {
            room.leave(
                &Forwarding::default(),
                Millis(now),
                CAPACITY,
                |_, _| panic!("too early"),
                |_| asked += 1,
            );
        }
        assert_eq!(asked, 2);
        assert_eq!(
            drain(&mut room, &Forwarding::default(), 3000),
            [(1, Outcome::Failed)]
        );
    }

    #[test]
    fn a_failure_known_before_is_no_answer_until_it_is_news_or_patience_ends() {
        let failed = knows(1, NeighbourState::Failed);
        let mut room = WaitingRoom::default();
        room.enter(1, neighbour(1), true, Millis(0)).unwrap();
        assert_eq!(drain(&mut room, &failed, 2999), []);
        assert_eq!(drain(&mut room, &failed, 3000), [(1, Outcome::Failed)]);

        // The kernel looks for it again, in vain.
        room.enter(2, neighbour(1), true, Millis(0)).unwrap();
        assert_eq!(drain(&mut room, &Forwarding::default(), 10), []);
        assert_eq!(drain(&mut room, &failed, 20), [(2, Outcome::Failed)]);

        // It is back.
        room.enter(3, neighbour(1), true, Millis(0)).unwrap();
        let known = knows(1, NeighbourState::Reachable(MacAddress([2, 0, 0, 0, 0, 1])));
        assert_eq!(drain(&mut room, &known, 10), [(3, Outcome::Resolved)]);
    }

    #[test]
    fn addresses_that_failed_before_leave_half_of_the_room_to_others() {
        let mut room = WaitingRoom::default();
        let address = |host| Neighbour {
            port: PortId(0),
            address: IpAddr::V4(Ipv4Addr::from_bits(host)),
        };
        let entered = (0..1000)
            .filter(|host| room.enter(*host, address(*host), true, Millis(0)).is_ok())
            .count();
        assert_eq!(entered, FAILED_BEFORE);
        let others = (1000..2000)
            .filter(|host| room.enter(*host, address(*host), false, Millis(0)).is_ok())
            .count();
        assert_eq!(others, CAPACITY - FAILED_BEFORE);
    }
}
