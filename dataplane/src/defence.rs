//! When the kernel's defences against floods are in effect (spec 3.6): `drop_entry`, `drop_packet`
//! and `secure_tcp`, with the kernel's modes.
//!
//! The kernel's automatic modes ask how much memory is free. Here the connection tables are
//! allocated at the start, so what can run out is their room: a table is short of room when its free
//! entries would fit into less than the worker's share of `amemthresh` pages. Of a small table that
//! could be all of it, so never more than an eighth. Each worker judges its own tables, those of IPv4
//! and IPv6 apart, once a second.

/// Mode of a defence, the kernel's 0 to 3.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// 0: never in effect.
    #[default]
    Off,
    /// 1 and 2: in effect while the table is short of room (the kernel itself sets 2 for 1 then, and
    /// back).
    Auto,
    /// 3: in effect.
    Always,
}

impl Mode {
    /// The mode that the kernel's number means.
    pub const fn of(number: u8) -> Self {
        match number {
            0 => Self::Off,
            1 | 2 => Self::Auto,
            _ => Self::Always,
        }
    }

    /// True if the defence is in effect for a table.
    pub const fn in_effect(self, short_of_room: bool) -> bool {
        match self {
            Self::Off => false,
            Self::Auto => short_of_room,
            Self::Always => true,
        }
    }
}

/// The defences as configured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Defences {
    /// `drop_entry`: connections that a flood leaves behind are deleted.
    pub drop_entry: Mode,
    /// `drop_packet`: some of the packets that ask for a new connection are dropped.
    pub drop_packet: Mode,
    /// `secure_tcp`: no client reaches ESTABLISHED by itself.
    pub secure_tcp: Mode,
    /// `amemthresh`: pages of 4096 bytes for the whole box.
    pub amemthresh: u32,
    /// `am_droprate`: with `drop_packet = 3` one packet of so many is dropped; 0 = none.
    pub am_droprate: u32,
}

impl Default for Defences {
    /// The kernel's.
    fn default() -> Self {
        Self {
            drop_entry: Mode::Off,
            drop_packet: Mode::Off,
            secure_tcp: Mode::Off,
            amemthresh: 1024,
            am_droprate: 10,
        }
    }
}

impl Defences {
    /// Free entries of a table, of `capacity` in `bytes`, below which it is short of room, on a box
    /// of `workers` workers.
    pub fn threshold(&self, capacity: usize, bytes: usize, workers: u8) -> usize {
        let share = self.amemthresh as usize * PAGE / usize::from(workers.max(1));
        let entry = (bytes / capacity.max(1)).max(1);
        (share / entry).min(capacity / 8)
    }

    /// One packet of how many that ask for a new connection is dropped (0 = none), when the table is
    /// `short` of room or not, has `free` entries left, and `threshold` is [`Self::threshold`].
    ///
    /// As in the kernel the rate rises with the shortage, but to no more than every second packet:
    /// the kernel drops all when it has no memory left, while a full table still makes room by
    /// eviction, so that a flood costs clients a retransmission and not the service.
    pub fn drop_rate(&self, short: bool, free: usize, threshold: usize) -> u32 {
        match self.drop_packet {
            Mode::Always => self.am_droprate,
            Mode::Auto if short => {
                let missing = threshold.saturating_sub(free).max(1);
                u32::try_from(threshold / missing).map_or(u32::MAX, |rate| rate.max(2))
            }
            Mode::Off | Mode::Auto => 0,
        }
    }
}

/// Names of the defences: bit `n` of [`WorkerCounters::defence`](crate::counters::WorkerCounters)
/// is set while the `n`th is in effect for one of the worker's tables.
pub const NAMES: [&str; 3] = ["drop_entry", "drop_packet", "secure_tcp"];

/// Bytes `amemthresh` counts in.
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_2_is_1_that_has_begun() {
        let modes = [0, 1, 2, 3].map(Mode::of);
        assert_eq!(modes, [Mode::Off, Mode::Auto, Mode::Auto, Mode::Always]);
        for (mode, calm, short) in [
            (Mode::Off, false, false),
            (Mode::Auto, false, true),
            (Mode::Always, true, true),
        ] {
            assert_eq!((mode.in_effect(false), mode.in_effect(true)), (calm, short));
        }
    }

    #[test]
    fn pages_become_entries_and_never_more_than_an_eighth_of_the_table() {
        let defences = Defences::default();
        // 4 MiB of a million entries of 100 bytes.
        assert_eq!(
            defences.threshold(1_000_000, 100_000_000, 1),
            1024 * 4096 / 100
        );
        assert_eq!(
            defences.threshold(500_000, 50_000_000, 2),
            2048 * 1024 / 100
        );
        assert_eq!(defences.threshold(10_000, 1_000_000, 1), 1250);
        assert_eq!(defences.threshold(0, 0, 1), 0);
        let never = Defences {
            amemthresh: 0,
            ..defences
        };
        assert_eq!(never.threshold(1_000_000, 100_000_000, 1), 0);
    }

    #[test]
    fn the_drop_rate_rises_with_the_shortage_up_to_every_second_packet() {
        let auto = Defences {
            drop_packet: Mode::Auto,
            ..Defences::default()
        };
        let rates = [1100, 999, 900, 500, 400, 0].map(|free| auto.drop_rate(true, free, 1000));
        assert_eq!(rates, [1000, 1000, 10, 2, 2, 2]);
        assert_eq!(auto.drop_rate(false, 1100, 1000), 0);
        let always = Defences {
            drop_packet: Mode::Always,
            ..auto
        };
        assert_eq!(
            [false, true].map(|short| always.drop_rate(short, 0, 1000)),
            [10, 10]
        );
        assert_eq!(Defences::default().drop_rate(true, 0, 1000), 0);
    }
}
