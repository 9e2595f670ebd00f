//! A box of several workers with rings between them, in memory, and the cutting and joining of
//! datagrams: shared by the tests of fragments and of ICMP errors.

#![allow(dead_code, reason = "each test uses its own part")]

use dataplane::buffer::{Frame, PacketBuffer};
use dataplane::packet::ipv4;
use dataplane::pipeline::Pass;
use dataplane::pipeline::world::{Plan, World};
use dataplane::verdict::{DropReason, Verdict, WorkerId};
use std::collections::{BTreeMap, VecDeque};

/// A fixed sequence of random numbers (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((word ^ (word >> 31)) % sides as u64) as usize
    }
}

/// Several workers, the rings between them, and what has left.
pub(crate) struct Workers {
    pub(crate) worlds: Vec<World>,
    /// By receiver and sender; a worker's own place is its device.
    rings: Vec<Vec<VecDeque<Frame>>>,
    /// Frames sent, in order: the port and the bytes.
    pub(crate) sent: Vec<(u8, Vec<u8>)>,
    /// Frames for the Linux stack, in order.
    pub(crate) punted: Vec<Vec<u8>>,
    /// Frames dropped, by reason.
    pub(crate) dropped: BTreeMap<DropReason, usize>,
    /// Frames handed over.
    pub(crate) redirects: usize,
}

impl Workers {
    pub(crate) fn new(plan: Plan, workers: u8) -> Self {
        let first = World::of_workers(plan, WorkerId(0), workers);
        let others: Vec<_> = (1..workers)
            .map(|worker| first.beside(WorkerId(worker)))
            .collect();
        let worlds: Vec<_> = std::iter::once(first).chain(others).collect();
        let rings = worlds
            .iter()
            .map(|_| vec![VecDeque::new(); worlds.len()])
            .collect();
        Self {
            worlds,
            rings,
            sent: Vec::new(),
            punted: Vec::new(),
            dropped: BTreeMap::new(),
            redirects: 0,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.worlds.len()
    }

    /// Puts a frame into the device queue of a worker.
    pub(crate) fn arrive(&mut self, worker: usize, port: u8, bytes: &[u8]) {
        let mut frame = Frame::from_bytes(bytes);
        frame.set_port(port.into());
        self.rings[worker][worker].push_back(frame);
    }

    /// Serves the rings, in random order, until all are empty.
    pub(crate) fn run(&mut self, dice: &mut Dice) {
        let count = self.count();
        while self.rings.iter().flatten().any(|ring| !ring.is_empty()) {
            let (to, from) = (dice.roll(count), dice.roll(count));
            let Some(frame) = self.rings[to][from].pop_front() else {
                continue;
            };
            let pass = if to == from {
                Pass::First
            } else {
                Pass::Redirected
            };
            for (verdict, frame) in self.worlds[to].process(frame, pass) {
                self.settle(to, verdict, frame);
            }
            let made = self.worlds[to].tray.sent.drain(..);
            let made = made.map(|(port, frame)| (port.0, frame.data().to_vec()));
            self.sent.extend(made);
        }
    }

    /// One frame arrives at a worker and goes all its way; what left meanwhile.
    pub(crate) fn receive(&mut self, worker: usize, port: u8, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let before = self.sent.len();
        self.arrive(worker, port, bytes);
        self.run(&mut Dice(worker as u64));
        self.sent[before..].to_vec()
    }

    /// Lets time pass at all workers.
    pub(crate) fn sleep(&mut self, milliseconds: u64) {
        for world in &mut self.worlds {
            world.sleep(milliseconds);
            world.expire();
        }
    }

    /// Fragments that wait for the first of their datagram.
    pub(crate) fn held(&self) -> usize {
        self.worlds.iter().map(World::held).sum()
    }

    /// Counts of all workers, drops included.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let moved = self
            .worlds
            .iter()
            .flat_map(|world| world.counters().moved());
        let named = moved.filter(|(found, _)| found == name);
        named.map(|(_, count)| count).sum()
    }

    fn settle(&mut self, at: usize, verdict: Verdict, frame: Frame) {
        match verdict {
            Verdict::Tx(port) => self.sent.push((port.0, frame.data().to_vec())),
            Verdict::Punt(_) => self.punted.push(frame.data().to_vec()),
            Verdict::Drop(reason) => *self.dropped.entry(reason).or_default() += 1,
            Verdict::Redirect(worker) => {
                assert_ne!(usize::from(worker.0), at, "to itself");
                self.redirects += 1;
                self.rings[usize::from(worker.0)][at].push_back(frame);
            }
            Verdict::Hold(_) => {}
            Verdict::Wait(_) => panic!("{verdict:?}"),
        }
    }
}

/// Cuts an untagged frame into fragments that begin at these offsets of its data (multiples of 8)
/// and at 0.
pub(crate) fn cut(frame: &[u8], offsets: &[usize], id: u16) -> Vec<Vec<u8>> {
    let v6 = frame[14] >> 4 == 6;
    let header = if v6 { 54 } else { 34 };
    let data = &frame[header..];
    let mut starts = vec![0];
    starts.extend(offsets.iter().filter(|at| **at > 0 && **at < data.len()));
    let ends = starts[1..].iter().copied().chain([data.len()]);
    let pieces = starts.iter().zip(ends).map(|(start, end)| {
        let (more, mut piece) = (end < data.len(), frame[..header].to_vec());
        let word = (*start as u16) | u16::from(more);
        if v6 {
            piece[20] = 44;
            piece[18..20].copy_from_slice(&((end - start + 8) as u16).to_be_bytes());
            piece.extend([frame[20], 0]);
            piece.extend(word.to_be_bytes());
            piece.extend([0, 0]);
            piece.extend(id.to_be_bytes());
        } else {
            let word = (start / 8) as u16 | u16::from(more) << 13;
            piece[16..18].copy_from_slice(&((end - start + 20) as u16).to_be_bytes());
            piece[18..20].copy_from_slice(&id.to_be_bytes());
            piece[20..22].copy_from_slice(&word.to_be_bytes());
            ipv4::fill_checksum(&mut piece[14..]);
        }
        piece.extend(&data[*start..end]);
        if !v6 {
            ipv4::fill_checksum(&mut piece[14..34]);
        }
        piece
    });
    pieces.collect()
}

/// Identification, offset and whether more follow.
pub(crate) fn place(frame: &[u8]) -> (u16, usize, bool) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if frame[14] >> 4 == 6 {
        assert_eq!(frame[20], 44, "a fragment");
        (word(60), usize::from(word(56) & !7), word(56) & 1 != 0)
    } else {
        let more = word(20) & 0x2000 != 0;
        (word(18), usize::from(word(20) & 0x1fff) * 8, more)
    }
}

/// Joins the fragments of a datagram to the frame it was; of IPv4 the identification stays.
pub(crate) fn join<'a>(pieces: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut pieces: Vec<_> = pieces.into_iter().collect();
    pieces.sort_by_key(|piece| place(piece).1);
    pieces.dedup();
    let v6 = pieces[0][14] >> 4 == 6;
    let (header, skip) = if v6 { (54, 62) } else { (34, 34) };
    let mut whole = pieces[0][..header].to_vec();
    for (index, piece) in pieces.iter().enumerate() {
        let (_, offset, more) = place(piece);
        assert_eq!(offset, whole.len() - header, "no gap");
        assert_eq!(more, index + 1 < pieces.len());
        assert_eq!(piece[..12], pieces[0][..12], "one way for all");
        whole.extend(&piece[skip..]);
    }
    if v6 {
        whole[20] = pieces[0][54];
        let length = (whole.len() - 54) as u16;
        whole[18..20].copy_from_slice(&length.to_be_bytes());
    } else {
        let length = (whole.len() - 14) as u16;
        whole[16..18].copy_from_slice(&length.to_be_bytes());
        whole[20..22].copy_from_slice(&[0, 0]);
        ipv4::fill_checksum(&mut whole[14..34]);
    }
    whole
}
