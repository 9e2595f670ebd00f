//! The socket filters (classic BPF, linux/filter.h) of receive sockets.
//!
//! A socket on an interface with a virtual MAC takes only frames *from* that MAC: Linux hands those to the macvlan that
//! has it and to nobody else, and all others to the interface beneath too. So each packet is handled once.
//! Other VRIDs are not filtered out: they have to be counted.

use socket2::SockFilter;

/// Lets pass what comes from this MAC.
pub(super) fn only_from(mac: [u8; 6]) -> [SockFilter; 6] {
    let high = u32::from_be_bytes([mac[0], mac[1], mac[2], mac[3]]);
    let low = u32::from(u16::from_be_bytes([mac[4], mac[5]]));
    [
        SockFilter::new(LOAD_WORD, 0, 0, SOURCE_MAC),
        SockFilter::new(JUMP_EQUAL, 0, 3, high),
        SockFilter::new(LOAD_HALF, 0, 0, SOURCE_MAC + 4),
        SockFilter::new(JUMP_EQUAL, 0, 1, low),
        SockFilter::new(RETURN, 0, 0, ACCEPT),
        SockFilter::new(RETURN, 0, 0, REJECT),
    ]
}

/// Lets everything pass.
pub(super) fn everything() -> [SockFilter; 1] {
    [SockFilter::new(RETURN, 0, 0, ACCEPT)]
}

/// Lets nothing pass.
pub(super) fn nothing() -> [SockFilter; 1] {
    [SockFilter::new(RETURN, 0, 0, REJECT)]
}

/// `SKF_LL_OFF` plus the offset of the source address in an Ethernet header.
const SOURCE_MAC: u32 = (-0x20_0000_i32).cast_unsigned() + 6;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ACCEPT: u32 = u32::MAX;
const REJECT: u32 = 0;
