//! Raw bindings to DPDK 22.11 LTS, made by the build script from the installed headers. No logic, nothing safe.
//!
//! DPDK's per-packet functions are `static inline` in C; here each is a real function compiled from DPDK's own source with
//! DPDK's own flags (`wrap_static_fns`). Such a call costs a few cycles: nothing per burst, something per packet, so
//! callers use the bulk forms and touch `rte_mbuf`'s fields directly.
//!
//! Invariant: the structures whose fields are touched have the layout of the 22.11 ABI; the assertions below turn any
//! other set of headers into a build error.

#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    reason = "the names and the lack of documentation are C's"
)]
#![allow(
    unsafe_code,
    reason = "a foreign interface is unsafe by nature; `dataplane::dpdk` is its only user"
)]
#![allow(clippy::all, clippy::pedantic, reason = "generated code")]

use core::mem::{offset_of, size_of};

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// The one flag word with the topmost bit, which bindgen takes for a negative number and leaves out; `wrapper.h` asserts
/// its value.
pub const RTE_ETH_RSS_L3_SRC_ONLY: u64 = 1 << 63;

const _: () = {
    assert!(size_of::<rte_mbuf>() == 128);
    assert!(offset_of!(rte_mbuf, buf_addr) == 0);
    assert!(offset_of!(rte_mbuf, data_off) == 16);
    assert!(offset_of!(rte_mbuf, refcnt) == 18);
    assert!(offset_of!(rte_mbuf, nb_segs) == 20);
    assert!(offset_of!(rte_mbuf, port) == 22);
    assert!(offset_of!(rte_mbuf, ol_flags) == 24);
    assert!(offset_of!(rte_mbuf, pkt_len) == 36);
    assert!(offset_of!(rte_mbuf, data_len) == 40);
    assert!(offset_of!(rte_mbuf, vlan_tci) == 42);
    assert!(offset_of!(rte_mbuf, buf_len) == 54);
    assert!(offset_of!(rte_mbuf, pool) == 56);
    assert!(offset_of!(rte_mbuf, next) == 64);
    assert!(RTE_PKTMBUF_HEADROOM == 128);
};
