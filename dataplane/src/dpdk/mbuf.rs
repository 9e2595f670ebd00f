//! One packet buffer of DPDK's, owned.
//!
//! Everything per packet is plain field access in Rust: a call through the C shim costs more than the work. What DPDK
//! guarantees and this file keeps: `data_off + data_len <= buf_len` in every segment, `pkt_len` of the first is the sum of
//! all `data_len`, `nb_segs` their number, and an [`Mbuf`] is the only reference to its chain.
//!
//! The pointer arithmetic runs under Miri against buffers on the heap (`fake`, below).

use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::slice;

use dpdk_sys::rte_mbuf;

use crate::buffer::PacketBuffer;
use crate::steering::Errand;

/// A packet buffer (the first of its chain of segments). Dropping it returns all segments to their pools.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf is tied to no thread: pools and rings hand them from one to another. Not `Sync`: `&Mbuf` is not shared.
unsafe impl Send for Mbuf {}

/// What the port found out about a checksum on reception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RxChecksum {
    /// Nothing: software must verify it.
    Unknown,
    /// It is wrong.
    Bad,
    /// It is right.
    Good,
    /// The field is not filled in, but the bytes are known to be intact (a virtual device passed on an offload).
    Absent,
}

impl Mbuf {
    /// Takes ownership of a buffer.
    ///
    /// # Safety
    /// `raw` must be the first segment of a valid chain that nobody else refers to.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self(raw)
    }

    /// Gives up ownership; the buffer is not freed.
    #[inline]
    pub fn into_raw(self) -> NonNull<rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    /// Length of the whole frame in bytes, all segments.
    #[inline]
    #[expect(
        clippy::len_without_is_empty,
        reason = "no frame is empty; `len` is the field's word"
    )]
    pub fn len(&self) -> usize {
        self.raw().pkt_len as usize
    }

    /// Number of segments.
    #[inline]
    pub fn segments(&self) -> u16 {
        self.raw().nb_segs
    }

    /// Bytes free in front of the frame.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.raw().data_off as usize
    }

    /// Bytes free behind the first segment's part of the frame.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let raw = self.raw();
        (raw.buf_len as usize).saturating_sub(raw.data_off as usize + raw.data_len as usize)
    }

    /// Copies a frame into an empty buffer (one from [`Mempool`](super::Mempool)`::alloc`). False if it does not fit
    /// or the buffer is not empty; then nothing changed.
    #[must_use]
    pub fn fill(&mut self, frame: &[u8]) -> bool {
        if self.len() != 0 || !self.append(frame.len()) {
            return false;
        }
        self.data_mut().copy_from_slice(frame);
        true
    }

    /// The IPv4 header's checksum.
    #[inline]
    pub fn rx_ip_checksum(&self) -> RxChecksum {
        self.rx_checksum(
            dpdk_sys::RTE_MBUF_F_RX_IP_CKSUM_BAD,
            dpdk_sys::RTE_MBUF_F_RX_IP_CKSUM_GOOD,
        )
    }

    /// The TCP or UDP checksum.
    #[inline]
    pub fn rx_l4_checksum(&self) -> RxChecksum {
        self.rx_checksum(
            dpdk_sys::RTE_MBUF_F_RX_L4_CKSUM_BAD,
            dpdk_sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD,
        )
    }

    #[inline]
    fn rx_checksum(&self, bad: u64, good: u64) -> RxChecksum {
        let flags = self.raw().ol_flags;
        match (flags & bad != 0, flags & good != 0) {
            (false, false) => RxChecksum::Unknown,
            (true, false) => RxChecksum::Bad,
            (false, true) => RxChecksum::Good,
            (true, true) => RxChecksum::Absent,
        }
    }

    /// The hash by which the port chose the receive queue, if it has one.
    #[inline]
    pub fn rss_hash(&self) -> Option<u32> {
        let raw = self.raw();
        // SAFETY: every bit pattern is a `u32`; the flag says that this member of the union was written.
        (raw.ol_flags & dpdk_sys::RTE_MBUF_F_RX_RSS_HASH != 0)
            .then_some(unsafe { raw.__bindgen_anon_2.hash.rss })
    }

    #[inline]
    fn raw(&self) -> &rte_mbuf {
        // SAFETY: valid and ours (invariant of the type).
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn raw_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: valid and ours alone (invariant of the type).
        unsafe { self.0.as_mut() }
    }

    /// Cuts a chain to `len` bytes, which is less than it has, and frees the segments behind.
    fn truncate_chain(&mut self, len: usize) {
        let head = self.0.as_ptr();
        let mut last = head;
        let mut left = len;
        let mut segments = 1;
        // SAFETY: `last` walks the segments of our own chain, each valid, through `next` until null; no reference to any of
        // them is held meanwhile.
        let tail = unsafe {
            while left > (*last).data_len as usize && !(*last).next.is_null() {
                left -= (*last).data_len as usize;
                last = (*last).next;
                segments += 1;
            }
            // `left` is at most this segment's length, a u16.
            (*last).data_len = left as u16;
            (*head).pkt_len = len as u32;
            (*head).nb_segs = segments;
            std::mem::replace(&mut (*last).next, std::ptr::null_mut())
        };
        if let Some(tail) = NonNull::new(tail) {
            // SAFETY: the rest of the chain was ours and is linked from nowhere now.
            drop(unsafe { Self::from_raw(tail) });
        }
    }
}

impl PacketBuffer for Mbuf {
    #[inline]
    fn data(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: `data_off + data_len <= buf_len` bytes from `buf_addr` belong to this segment, initialised since the pool
        // was created, and live as long as `self`.
        unsafe {
            slice::from_raw_parts(
                raw.buf_addr.cast::<u8>().add(raw.data_off as usize),
                raw.data_len as usize,
            )
        }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        let raw = self.raw();
        // SAFETY: as in `data`, and nobody else refers to the buffer.
        unsafe {
            slice::from_raw_parts_mut(
                raw.buf_addr.cast::<u8>().add(raw.data_off as usize),
                raw.data_len as usize,
            )
        }
    }

    #[inline]
    fn is_contiguous(&self) -> bool {
        self.raw().nb_segs == 1
    }

    #[inline]
    fn vlan(&self) -> Option<u16> {
        let raw = self.raw();
        (raw.ol_flags & dpdk_sys::RTE_MBUF_F_RX_VLAN_STRIPPED != 0).then_some(raw.vlan_tci)
    }

    #[inline]
    fn clear_vlan(&mut self) {
        self.raw_mut().ol_flags &=
            !(dpdk_sys::RTE_MBUF_F_RX_VLAN | dpdk_sys::RTE_MBUF_F_RX_VLAN_STRIPPED);
    }

    #[inline]
    fn port(&self) -> u16 {
        self.raw().port
    }

    #[inline]
    fn set_port(&mut self, port: u16) {
        self.raw_mut().port = port;
    }

    #[inline]
    fn errand(&self) -> Errand {
        let raw = self.raw();
        // SAFETY: every bit pattern is a `u32`.
        Errand::from_word(unsafe { raw.__bindgen_anon_2.hash.usr })
    }

    #[inline]
    fn set_errand(&mut self, errand: Errand) {
        let raw = self.raw_mut();
        // The tag that DPDK leaves to programs lies where a port puts its hash.
        raw.ol_flags &= !dpdk_sys::RTE_MBUF_F_RX_RSS_HASH;
        raw.__bindgen_anon_2.hash.usr = errand.to_word();
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> bool {
        if len > self.headroom() {
            return false;
        }
        // `len` is at most a u16, and the sums at most `buf_len`.
        let raw = self.raw_mut();
        raw.data_off -= len as u16;
        raw.data_len += len as u16;
        raw.pkt_len += len as u32;
        true
    }

    #[inline]
    fn append(&mut self, len: usize) -> bool {
        if len > self.tailroom() || !self.is_contiguous() {
            return false;
        }
        let raw = self.raw_mut();
        raw.data_len += len as u16;
        raw.pkt_len += len as u32;
        true
    }

    #[inline]
    fn trim_front(&mut self, len: usize) {
        let raw = self.raw_mut();
        let len = len.min(raw.data_len as usize);
        raw.data_off += len as u16;
        raw.data_len -= len as u16;
        raw.pkt_len -= len as u32;
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        if !self.is_contiguous() {
            return self.truncate_chain(len);
        }
        let raw = self.raw_mut();
        raw.data_len = len as u16;
        raw.pkt_len = len as u32;
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { free_bulk(&mut [MaybeUninit::new(Self(self.0))]) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, segments, port, vlan) = (self.len(), self.segments(), self.port(), self.vlan());
        write!(
            f,
            "Mbuf({len} bytes, {segments} segments, port {port}, vlan {vlan:?})"
        )
    }
}

/// Returns whole chains to their pools, in one call.
///
/// # Safety
/// All must be initialised and owned by the caller, and not be used afterwards.
#[cfg(not(test))]
#[inline]
pub(super) unsafe fn free_bulk(mbufs: &mut [MaybeUninit<Mbuf>]) {
    // SAFETY: `Mbuf` is a transparent non-null pointer; ownership is the caller's promise.
    unsafe { dpdk_sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr().cast(), mbufs.len() as u32) };
}

#[cfg(test)]
pub(super) use fake::free_bulk;

/// Buffers on the heap. Unit tests have no EAL, so theirs are all of this kind, under Miri or not; the real pools are
/// exercised by the integration tests.
#[cfg(test)]
pub(super) mod fake {
    use std::cell::Cell;

    use super::{MaybeUninit, Mbuf, NonNull, rte_mbuf};

    thread_local! {
        static LIVE: Cell<usize> = const { Cell::new(0) };
    }

    /// Segments that this thread has made and not freed.
    pub(in crate::dpdk) fn live() -> usize {
        LIVE.get()
    }

    /// One segment with 128 bytes of room on either side.
    pub(in crate::dpdk) fn mbuf(bytes: &[u8]) -> Mbuf {
        let mut room = vec![0_u8; 128 + bytes.len() + 128];
        room[128..][..bytes.len()].copy_from_slice(bytes);
        let room = Box::leak(room.into_boxed_slice());
        let raw = Box::new(rte_mbuf {
            buf_len: room.len() as u16,
            buf_addr: room.as_mut_ptr().cast(),
            data_off: 128,
            data_len: bytes.len() as u16,
            pkt_len: bytes.len() as u32,
            nb_segs: 1,
            refcnt: 1,
            ..rte_mbuf::default()
        });
        LIVE.set(LIVE.get() + 1);
        Mbuf(NonNull::from(Box::leak(raw)))
    }

    /// A chain of these segments.
    pub(in crate::dpdk) fn chain(segments: &[&[u8]]) -> Mbuf {
        let mut next = std::ptr::null_mut();
        let mut len = 0;
        let mut head = None;
        for bytes in segments.iter().rev() {
            let mut mbuf = mbuf(bytes);
            len += bytes.len();
            mbuf.raw_mut().next = next;
            next = mbuf.0.as_ptr();
            if let Some(later) = head.replace(mbuf) {
                Mbuf::into_raw(later);
            }
        }
        let mut head = head.expect("at least one segment");
        head.raw_mut().pkt_len = len as u32;
        head.raw_mut().nb_segs = segments.len() as u16;
        head
    }

    /// Stands in for the function of that name.
    ///
    /// # Safety
    /// As there.
    pub(in crate::dpdk) unsafe fn free_bulk(mbufs: &mut [MaybeUninit<Mbuf>]) {
        for mbuf in mbufs {
            // SAFETY: initialised, by the caller's promise.
            let mut next = unsafe { mbuf.assume_init_ref() }.0.as_ptr();
            while !next.is_null() {
                // SAFETY: every segment came out of `mbuf` above: two boxes, given back once.
                unsafe {
                    let raw = Box::from_raw(next);
                    let room = std::ptr::slice_from_raw_parts_mut(
                        raw.buf_addr.cast::<u8>(),
                        raw.buf_len as usize,
                    );
                    drop(Box::from_raw(room));
                    next = raw.next;
                }
                LIVE.set(LIVE.get() - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mbuf_is_one_pointer_wide_and_cannot_be_null() {
        assert_eq!(size_of::<Mbuf>(), size_of::<*mut rte_mbuf>());
        assert_eq!(size_of::<Option<Mbuf>>(), size_of::<*mut rte_mbuf>());
    }

    #[test]
    fn data_is_the_frame_and_can_be_rewritten() {
        let mut mbuf = fake::mbuf(&[1, 2, 3]);
        mbuf.data_mut()[1] = 9;
        assert_eq!(mbuf.data(), [1, 9, 3]);
        assert_eq!(mbuf.len(), 3);
        drop(mbuf);
        assert_eq!(fake::live(), 0);
    }

    #[test]
    fn growing_stops_at_the_room_and_then_changes_nothing() {
        let mut mbuf = fake::mbuf(&[7; 60]);
        assert!(!mbuf.prepend(129));
        assert!(!mbuf.append(129));
        assert!(!mbuf.append(usize::MAX));
        assert_eq!(mbuf.data(), [7; 60]);
        assert!(mbuf.prepend(128));
        assert!(mbuf.append(128));
        assert_eq!((mbuf.headroom(), mbuf.tailroom()), (0, 0));
        assert_eq!((mbuf.len(), mbuf.data().len()), (316, 316));
        mbuf.data_mut().fill(1);
    }

    #[test]
    fn shrinking_is_clamped_to_the_frame() {
        let mut mbuf = fake::mbuf(&[1, 2, 3, 4, 5]);
        mbuf.trim_front(1);
        mbuf.truncate(3);
        mbuf.truncate(100);
        assert_eq!(mbuf.data(), [2, 3, 4]);
        assert_eq!(mbuf.len(), 3);
        mbuf.trim_front(usize::MAX);
        assert_eq!(mbuf.len(), 0);
        assert!(mbuf.data().is_empty());
    }

    #[test]
    fn filling_takes_an_empty_buffer_and_a_frame_that_fits() {
        let mut mbuf = fake::mbuf(&[]);
        assert!(!mbuf.fill(&[0; 129]));
        assert!(mbuf.fill(&[3; 128]));
        assert!(!mbuf.fill(&[4; 1]));
        assert_eq!(mbuf.data(), [3; 128]);
    }

    #[test]
    fn truncating_a_chain_frees_the_segments_behind() {
        for (len, segments, first) in [
            (0, 1, 0),
            (2, 1, 2),
            (3, 1, 3),
            (4, 2, 3),
            (6, 2, 3),
            (7, 3, 3),
            (9, 3, 3),
        ] {
            let mut mbuf = fake::chain(&[&[1; 3], &[2; 3], &[3; 3]]);
            assert!(!mbuf.is_contiguous());
            mbuf.truncate(len);
            assert_eq!(
                (mbuf.len(), mbuf.segments(), mbuf.data().len()),
                (len, segments, first),
                "to {len}"
            );
            assert_eq!(fake::live(), segments as usize, "to {len}");
        }
        assert_eq!(fake::live(), 0);
    }

    #[test]
    fn a_chain_grows_at_its_front_only() {
        let mut mbuf = fake::chain(&[&[1; 3], &[2; 4]]);
        assert!(!mbuf.append(1));
        assert!(mbuf.prepend(2));
        assert_eq!((mbuf.len(), mbuf.data().len()), (9, 5));
        mbuf.trim_front(100);
        assert_eq!((mbuf.len(), mbuf.data().len()), (4, 0));
    }

    #[test]
    fn a_tag_counts_only_when_it_was_stripped_and_can_be_forgotten() {
        let mut mbuf = fake::mbuf(&[0; 60]);
        mbuf.raw_mut().vlan_tci = 42;
        assert_eq!(mbuf.vlan(), None);
        mbuf.raw_mut().ol_flags = dpdk_sys::RTE_MBUF_F_RX_VLAN;
        assert_eq!(mbuf.vlan(), None);
        mbuf.raw_mut().ol_flags |= dpdk_sys::RTE_MBUF_F_RX_VLAN_STRIPPED;
        assert_eq!(mbuf.vlan(), Some(42));
        mbuf.clear_vlan();
        assert_eq!(mbuf.vlan(), None);
    }

    #[test]
    fn checksum_flags_have_four_meanings() {
        let mut mbuf = fake::mbuf(&[0; 60]);
        assert_eq!(mbuf.rx_ip_checksum(), RxChecksum::Unknown);
        mbuf.raw_mut().ol_flags =
            dpdk_sys::RTE_MBUF_F_RX_IP_CKSUM_BAD | dpdk_sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD;
        assert_eq!(
            (mbuf.rx_ip_checksum(), mbuf.rx_l4_checksum()),
            (RxChecksum::Bad, RxChecksum::Good)
        );
        mbuf.raw_mut().ol_flags =
            dpdk_sys::RTE_MBUF_F_RX_IP_CKSUM_NONE | dpdk_sys::RTE_MBUF_F_RX_L4_CKSUM_BAD;
        assert_eq!(
            (mbuf.rx_ip_checksum(), mbuf.rx_l4_checksum()),
            (RxChecksum::Absent, RxChecksum::Bad)
        );
    }

    #[test]
    fn the_hash_is_there_only_with_its_flag() {
        let mut mbuf = fake::mbuf(&[0; 60]);
        mbuf.raw_mut().__bindgen_anon_2.hash.rss = 7;
        assert_eq!(mbuf.rss_hash(), None);
        mbuf.raw_mut().ol_flags = dpdk_sys::RTE_MBUF_F_RX_RSS_HASH;
        assert_eq!(mbuf.rss_hash(), Some(7));
    }

    #[test]
    fn an_errand_takes_the_place_of_the_hash() {
        let mut mbuf = fake::mbuf(&[0; 60]);
        mbuf.raw_mut().__bindgen_anon_2.hash.rss = 7;
        mbuf.raw_mut().ol_flags = dpdk_sys::RTE_MBUF_F_RX_RSS_HASH;
        let errand = Errand::Search {
            start: crate::verdict::WorkerId(3),
            stop: 2,
        };
        mbuf.set_errand(errand);
        assert_eq!((mbuf.errand(), mbuf.rss_hash()), (errand, None));
    }

    #[test]
    fn the_port_is_what_was_set() {
        let mut mbuf = fake::mbuf(&[0; 60]);
        mbuf.set_port(3);
        assert_eq!(mbuf.port(), 3);
    }
}
