//! The packet buffer as the pipeline sees it: bytes of one Ethernet frame, room before and behind them, and the little
//! metadata that a port delivers beside the bytes.
//!
//! The pipeline is generic over [`PacketBuffer`]. A worker instantiates it with `dpdk::Mbuf`; tests, benchmarks and fuzz
//! targets with [`Frame`], which lives on the heap and needs no EAL. Both follow the same rules:
//!
//! - `data()` starts at the Ethernet header and covers the first segment only. A frame that spans several segments says
//!   so through `is_contiguous()`; nobody may conclude the frame's length from `data().len()` without asking.
//! - Growing fails as a value, never by panicking, and changes nothing then. Bytes gained by growing are undefined.
//! - Shrinking is clamped to what is there, so no length field from the wire can reach a panic here.

use crate::steering::Errand;

/// One Ethernet frame with room to grow on both sides.
pub trait PacketBuffer: Sized {
    /// Bytes of the frame from the Ethernet header on (first segment).
    fn data(&self) -> &[u8];

    /// The same bytes, to be rewritten in place.
    fn data_mut(&mut self) -> &mut [u8];

    /// True if the whole frame is in `data()`.
    fn is_contiguous(&self) -> bool;

    /// VLAN TCI that the port stripped into metadata.
    fn vlan(&self) -> Option<u16>;

    /// Forgets a stripped tag.
    fn clear_vlan(&mut self);

    /// Index of the port it came from (see `set_port`).
    fn port(&self) -> u16;

    /// Sets the index of the port it came from, as the pipeline numbers ports.
    fn set_port(&mut self, port: u16);

    /// What the worker that handed the packet over asks of this one. Means nothing in a packet fresh from a port.
    fn errand(&self) -> Errand;

    /// Sets what the worker asks that the packet is handed to.
    fn set_errand(&mut self, errand: Errand);

    /// Grows the frame at its front by `len` bytes (contents undefined). False if there is no headroom; then nothing
    /// changed.
    #[must_use]
    fn prepend(&mut self, len: usize) -> bool;

    /// Grows the frame at its end by `len` bytes (contents undefined). False if there is no tailroom or the frame is not
    /// contiguous; then nothing changed.
    #[must_use]
    fn append(&mut self, len: usize) -> bool;

    /// Removes `len` bytes from the front (at most the length of `data()`).
    fn trim_front(&mut self, len: usize);

    /// Cuts the frame to `len` bytes; no effect if it is shorter.
    fn truncate(&mut self, len: usize);
}

/// A frame on the heap, for tests, benchmarks and fuzzing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Headroom, the frame, tailroom.
    room: Vec<u8>,
    start: usize,
    end: usize,
    /// Index of the port it came from.
    pub port: u16,
    errand: Errand,
    /// VLAN TCI that the port stripped.
    pub vlan: Option<u16>,
    /// Pretend that more of the frame follows in another segment.
    pub fragmented: bool,
}

impl Frame {
    /// Bytes free in front of a new frame, as DPDK leaves them.
    pub const HEADROOM: usize = 128;

    /// Bytes free behind a new frame.
    pub const TAILROOM: usize = 128;

    /// A frame of these bytes, received on port 0 without a stripped tag.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::with_tailroom(bytes, Self::TAILROOM)
    }

    /// A frame of these bytes with `tailroom` bytes free behind it.
    pub fn with_tailroom(bytes: &[u8], tailroom: usize) -> Self {
        let end = Self::HEADROOM + bytes.len();
        let mut room = Vec::with_capacity(end + tailroom);
        room.resize(Self::HEADROOM, 0);
        room.extend_from_slice(bytes);
        room.resize(end + tailroom, 0);
        Self {
            room,
            start: Self::HEADROOM,
            end,
            port: 0,
            errand: Errand::Own,
            vlan: None,
            fragmented: false,
        }
    }

    /// Replaces the contents and forgets the metadata, keeping the allocation: a benchmark's way to reuse a frame.
    pub fn refill(&mut self, bytes: &[u8]) {
        self.start = Self::HEADROOM;
        self.end = Self::HEADROOM + bytes.len();
        if self.room.len() < self.end {
            self.room.resize(self.end, 0);
        }
        self.room[self.start..self.end].copy_from_slice(bytes);
        self.vlan = None;
        self.fragmented = false;
    }
}

impl PacketBuffer for Frame {
    fn data(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.end]
    }

    fn is_contiguous(&self) -> bool {
        !self.fragmented
    }

    fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    fn clear_vlan(&mut self) {
        self.vlan = None;
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    fn errand(&self) -> Errand {
        self.errand
    }

    fn set_errand(&mut self, errand: Errand) {
        self.errand = errand;
    }

    fn prepend(&mut self, len: usize) -> bool {
        let Some(start) = self.start.checked_sub(len) else {
            return false;
        };
        self.start = start;
        true
    }

    fn append(&mut self, len: usize) -> bool {
        if self.fragmented || len > self.room.len() - self.end {
            return false;
        }
        self.end += len;
        true
    }

    fn trim_front(&mut self, len: usize) {
        self.start += len.min(self.end - self.start);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.start + len.min(self.end - self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_frame_holds_exactly_its_bytes() {
        let frame = Frame::from_bytes(&[1, 2, 3]);
        assert_eq!(frame.data(), [1, 2, 3]);
        assert!(frame.is_contiguous());
        assert_eq!((frame.port(), frame.vlan()), (0, None));
    }

    #[test]
    fn growing_stops_at_the_room_and_then_changes_nothing() {
        let mut frame = Frame::with_tailroom(&[7; 10], 4);
        assert!(!frame.append(5));
        assert!(frame.append(4));
        assert!(!frame.prepend(Frame::HEADROOM + 1));
        assert!(frame.prepend(Frame::HEADROOM));
        assert!(!frame.prepend(1));
        assert!(!frame.append(usize::MAX));
        assert_eq!(frame.data().len(), Frame::HEADROOM + 14);
        assert_eq!(frame.data()[Frame::HEADROOM..][..10], [7; 10]);
    }

    #[test]
    fn shrinking_is_clamped_to_the_frame() {
        let mut frame = Frame::from_bytes(&[1, 2, 3, 4]);
        frame.trim_front(1);
        frame.truncate(2);
        frame.truncate(9);
        assert_eq!(frame.data(), [2, 3]);
        frame.trim_front(usize::MAX);
        assert!(frame.data().is_empty());
    }

    #[test]
    fn a_fragmented_frame_cannot_grow_at_its_end() {
        let mut frame = Frame::from_bytes(&[0; 60]);
        frame.fragmented = true;
        assert!(!frame.is_contiguous());
        assert!(!frame.append(1));
    }

    #[test]
    fn a_refilled_frame_is_as_new() {
        let mut frame = Frame::from_bytes(&[1; 60]);
        frame.vlan = Some(5);
        frame.trim_front(10);
        frame.refill(&[2; 300]);
        assert_eq!(frame.data(), [2; 300]);
        assert_eq!(frame.vlan(), None);
        assert!(frame.prepend(Frame::HEADROOM));
    }
}
