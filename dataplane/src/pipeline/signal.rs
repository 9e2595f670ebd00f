//! What a packet of a balanced flow tells the state machine.
//!
//! For TCP and UDP the parser has judged all that matters. SCTP says what a packet means in its
//! chunks and protects everything by one checksum, which is verified here before a packet may
//! create a connection or move its state: a damaged chunk type must not close an association, and
//! a server would throw the packet away anyway (RFC 9260 6.8). The kernel does not look, and gives
//! a damaged packet a right checksum when it changes the port.

use crate::address::Protocol;
use crate::connection::{SctpEvent, Signal};
use crate::packet::{Fragment, Headers, sctp, tcp};
use crate::verdict::DropReason;

/// Reads the signal of a packet with ports, whose `headers` are those of `frame`.
///
/// # Errors
/// The reason to drop it: SCTP with a wrong checksum, or whose first chunk is not there in full.
/// Fragments of SCTP cannot be verified and are taken as they are.
#[inline]
pub(super) fn signal(frame: &[u8], headers: &Headers) -> Result<Signal, DropReason> {
    const TCP: u8 = Protocol::Tcp as u8;
    const SCTP: u8 = Protocol::Sctp as u8;
    match headers.protocol {
        TCP => Ok(Signal::Tcp(headers.tcp_flags)),
        SCTP => sctp_signal(headers.transport(frame), headers.fragment),
        _ => Ok(Signal::Udp),
    }
}

#[inline(never)]
fn sctp_signal(packet: &[u8], fragment: Fragment) -> Result<Signal, DropReason> {
    let whole = fragment == Fragment::Whole;
    // Fuzzers could never get past a checksum.
    if whole && !cfg!(fuzzing) && !sctp::is_checksum_good(packet) {
        return Err(DropReason::TransportChecksum);
    }
    let (first, second) = sctp::first_chunks(packet, !whole).ok_or(DropReason::TransportHeader)?;
    let event = SctpEvent::of_chunks(first.kind, second.map(|chunk| chunk.kind));
    Ok(Signal::Sctp(event))
}

/// True if the packet asks for a new connection (the kernel's `is_new_conn`): SYN, whatever else
/// is set, or INIT.
#[inline]
pub(super) fn is_opening(signal: Signal) -> bool {
    match signal {
        Signal::Tcp(flags) => flags & tcp::SYN != 0,
        Signal::Sctp(event) => event == SctpEvent::Init,
        Signal::Udp => false,
    }
}

/// True for packets after which there is no connection: RST and ABORT.
pub(super) fn is_ending(signal: Signal) -> bool {
    match signal {
        Signal::Tcp(flags) => flags & tcp::RST != 0,
        Signal::Sctp(event) => event == SctpEvent::Abort,
        Signal::Udp => false,
    }
}
