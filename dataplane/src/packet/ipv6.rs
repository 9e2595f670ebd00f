//! IPv6 header (RFC 8200 3) and its extension headers (RFC 8200 4, RFC 4302 for AH).
//!
//! ```text
//! |Version| Traffic Class |           Flow Label                  |
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! |                       Source Address (16)                     |
//! |                    Destination Address (16)                   |
//! ```
//!
//! [`transport`] walks the extension headers: hop-by-hop only first, at most one fragment header, at
//! most [`MAX_EXTENSIONS`] in all, so that its time is bounded. It stops at what it cannot look into
//! (ESP, "no next header", unknown protocols, routing headers with stops left, later fragments) and
//! reports that as the protocol.

use super::bytes::{array, load, load16, load32, store, store16, store32};
use std::net::Ipv6Addr;

/// Length of the fixed header.
pub const LEN: usize = 40;
/// How many extension headers are walked; a packet with more is refused.
pub const MAX_EXTENSIONS: usize = 8;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: encapsulating security payload, opaque.
pub const ESP: u8 = 50;
/// Next header: authentication header.
pub const AUTHENTICATION: u8 = 51;
/// Next header: ICMPv6.
pub const ICMPV6: u8 = 58;
/// Next header: nothing follows.
pub const NO_NEXT: u8 = 59;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

pub(super) mod field {
    pub(in crate::packet) const PAYLOAD_LENGTH: usize = 4;
    pub(in crate::packet) const NEXT_HEADER: usize = 6;
    pub(in crate::packet) const HOP_LIMIT: usize = 7;
    pub(in crate::packet) const SOURCE: usize = 8;
    pub(in crate::packet) const DESTINATION: usize = 24;
}

/// The fixed header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Version, 6 in a legal header.
    pub version: u8,
    /// Traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Length of everything after this header, extension headers included.
    pub payload_length: u16,
    /// Protocol number of the next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Sender.
    pub source: Ipv6Addr,
    /// Receiver.
    pub destination: Ipv6Addr,
}

impl Header {
    /// Reads the header without judging it.
    #[inline]
    pub fn read(header: &[u8; LEN]) -> Self {
        let first = load32(header, 0);
        Self {
            version: (first >> 28) as u8,
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0xf_ffff,
            payload_length: load16(header, field::PAYLOAD_LENGTH),
            next_header: header[field::NEXT_HEADER],
            hop_limit: header[field::HOP_LIMIT],
            source: Ipv6Addr::from_octets(load(header, field::SOURCE)),
            destination: Ipv6Addr::from_octets(load(header, field::DESTINATION)),
        }
    }

    /// Writes the header; bits that do not fit their field are cut off.
    #[inline]
    pub fn write(self, header: &mut [u8; LEN]) {
        store32(
            header,
            0,
            u32::from(self.version) << 28
                | u32::from(self.traffic_class) << 20
                | self.flow_label & 0xf_ffff,
        );
        store16(header, field::PAYLOAD_LENGTH, self.payload_length);
        header[field::NEXT_HEADER] = self.next_header;
        header[field::HOP_LIMIT] = self.hop_limit;
        store(header, field::SOURCE, self.source.octets());
        store(header, field::DESTINATION, self.destination.octets());
    }
}

/// What the extension headers lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transport {
    /// Transport protocol number. Of a later fragment: the next header of its fragment header, which
    /// may itself be an extension header.
    pub protocol: u8,
    /// Length of the extension headers.
    pub offset: usize,
    /// The fragment header, if there is one.
    pub fragment: Option<FragmentHeader>,
}

/// The fragment header (RFC 8200 4.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FragmentHeader {
    /// Where the fragment starts, in units of 8 bytes.
    pub offset: u16,
    /// Not the last fragment.
    pub more: bool,
    /// Identification of the packet that fragments belong to.
    pub id: u32,
}

/// Extension headers that are out of bounds, out of order, too many or refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadExtension;

/// Walks the extension headers at the start of `payload`, the first of which is `next_header`.
#[inline]
pub fn transport(next_header: u8, payload: &[u8]) -> Result<Transport, BadExtension> {
    let found = Transport {
        protocol: next_header,
        offset: 0,
        fragment: None,
    };
    match next_header {
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS => {
            walk(found, payload)
        }
        _ => Ok(found),
    }
}

/// A fragment header and what surrounds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FoundFragment {
    /// The header.
    pub header: FragmentHeader,
    /// The protocol number of what follows it.
    pub carries: u8,
    /// Length of the extension headers up to its end.
    pub offset: usize,
}

/// The fragment header among the extension headers at the start of `payload`, if there is one. Of
/// each fragment the extension headers in front of it are the same (RFC 8200 4.5).
pub fn fragment(next_header: u8, payload: &[u8]) -> Option<FoundFragment> {
    let (mut kind, mut offset) = (next_header, 0);
    for _ in 0..MAX_EXTENSIONS {
        let length = match kind {
            FRAGMENT => {
                let bytes: [u8; 8] = head(payload, offset).ok()?;
                let word = load16(&bytes, 2);
                let header = FragmentHeader {
                    offset: word >> 3,
                    more: word & 1 != 0,
                    id: load32(&bytes, 4),
                };
                return Some(FoundFragment {
                    header,
                    carries: bytes[0],
                    offset: offset + bytes.len(),
                });
            }
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => options_length(payload, offset).ok()?,
            AUTHENTICATION => {
                let [_, words, ..]: [u8; 8] = head(payload, offset).ok()?;
                (usize::from(words) + 2) * 4
            }
            _ => return None,
        };
        let [next, ..]: [u8; 2] = head(payload, offset).ok()?;
        kind = next;
        offset += length;
    }
    None
}

/// The rare part of [`transport`], out of line.
#[inline(never)]
fn walk(mut found: Transport, payload: &[u8]) -> Result<Transport, BadExtension> {
    for position in 0..=MAX_EXTENSIONS {
        let length = match found.protocol {
            HOP_BY_HOP if position == 0 => options_length(payload, found.offset)?,
            HOP_BY_HOP => return Err(BadExtension),
            ROUTING => {
                let [_, _, kind, segments_left] = head(payload, found.offset)?;
                // RFC 5095: type 0 has to be refused while it still routes.
                if kind == 0 && segments_left != 0 {
                    return Err(BadExtension);
                }
                // The transport checksum covers the last stop's address, not the one in the header
                // (RFC 8200 8.1), so nothing behind it may be translated.
                if segments_left != 0 {
                    return Ok(found);
                }
                options_length(payload, found.offset)?
            }
            DESTINATION_OPTIONS => options_length(payload, found.offset)?,
            AUTHENTICATION => {
                let [_, words, ..]: [u8; 8] = head(payload, found.offset)?;
                (usize::from(words) + 2) * 4
            }
            FRAGMENT if found.fragment.is_none() => {
                let header: [u8; 8] = head(payload, found.offset)?;
                let word = load16(&header, 2);
                found.fragment = Some(FragmentHeader {
                    offset: word >> 3,
                    more: word & 1 != 0,
                    id: load32(&header, 4),
                });
                8
            }
            FRAGMENT => return Err(BadExtension),
            _ => return Ok(found),
        };
        if position == MAX_EXTENSIONS {
            return Err(BadExtension);
        }
        let [next, ..]: [u8; 2] = head(payload, found.offset)?;
        found.protocol = next;
        found.offset += length;
        if found.offset > payload.len() {
            return Err(BadExtension);
        }
        // What a later fragment starts with is data.
        if found.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return Ok(found);
        }
    }
    Err(BadExtension)
}

/// Whether no single host can send from this address: multicast, loopback, unspecified, and
/// IPv4-mapped, which is for use inside a host only.
#[inline]
pub fn never_a_host(address: Ipv6Addr) -> bool {
    address.is_multicast() || address.to_bits() <= 1 || address.to_bits() >> 32 == 0xffff
}

fn options_length(payload: &[u8], at: usize) -> Result<usize, BadExtension> {
    let [_, eights]: [u8; 2] = head(payload, at)?;
    Ok((usize::from(eights) + 1) * 8)
}

fn head<const N: usize>(payload: &[u8], at: usize) -> Result<[u8; N], BadExtension> {
    array(payload, at).copied().ok_or(BadExtension)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; LEN] = [
        0x6b, 0x81, 0x23, 0x45, 0x00, 0x14, 0x06, 0x3f, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0x01, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02,
    ];

    #[test]
    fn the_header_reads_and_writes_literal_bytes() {
        let header = Header {
            version: 6,
            traffic_class: 0xb8,
            flow_label: 0x1_2345,
            payload_length: 20,
            next_header: 6,
            hop_limit: 63,
            source: "2001:db8::1".parse().unwrap(),
            destination: "fe80::2".parse().unwrap(),
        };
        assert_eq!(Header::read(&BYTES), header);
        let mut written = [0; LEN];
        header.write(&mut written);
        assert_eq!(written, BYTES);
    }

    #[test]
    fn every_extension_header_is_walked() {
        let payload = [
            60, 0, 5, 2, 0, 0, 1, 0, // hop-by-hop: router alert
            43, 0, 1, 4, 0, 0, 0, 0, // destination options
            51, 0, 4, 0, 0, 0, 0, 0, // routing type 4, at the last stop
            44, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, // authentication, 12 bytes
            6, 0, 0x00, 0x01, 0, 0, 0, 9, // fragment: first
        ];
        assert_eq!(
            transport(HOP_BY_HOP, &payload),
            Ok(Transport {
                protocol: 6,
                offset: payload.len(),
                fragment: Some(FragmentHeader {
                    offset: 0,
                    more: true,
                    id: 9
                }),
            })
        );
    }

    #[test]
    fn nothing_is_walked_behind_opaque_protocols_and_in_later_fragments() {
        for protocol in [ESP, NO_NEXT, 6, 253] {
            let found = transport(protocol, &[]).unwrap();
            assert_eq!((found.protocol, found.offset), (protocol, 0));
        }
        let stops_left = [6, 0, 4, 1, 0, 0, 0, 0];
        let found = transport(ROUTING, &stops_left).unwrap();
        assert_eq!((found.protocol, found.offset), (ROUTING, 0));
        let later = transport(FRAGMENT, &[60, 0, 0x05, 0xc8, 0, 0, 0, 9]).unwrap();
        assert_eq!((later.protocol, later.offset), (60, 8));
        assert_eq!(later.fragment.unwrap().offset, 185);
    }

    #[test]
    fn malformed_chains_are_refused() {
        // Out of bounds.
        assert_eq!(transport(HOP_BY_HOP, &[]), Err(BadExtension));
        assert_eq!(transport(HOP_BY_HOP, &[6, 0, 0, 0]), Err(BadExtension));
        assert_eq!(transport(FRAGMENT, &[6, 0, 0, 0]), Err(BadExtension));
        assert_eq!(transport(ROUTING, &[6, 0]), Err(BadExtension));
        assert_eq!(
            transport(AUTHENTICATION, &[6, 4, 0, 0, 0, 0, 0, 0]),
            Err(BadExtension)
        );
        // Hop-by-hop anywhere but first.
        let hop_second = [0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            transport(DESTINATION_OPTIONS, &hop_second),
            Err(BadExtension)
        );
        // Two fragment headers.
        let twice = [44, 0, 0, 1, 0, 0, 0, 1, 6, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(transport(FRAGMENT, &twice), Err(BadExtension));
        // Routing type 0 that still routes.
        assert_eq!(
            transport(ROUTING, &[6, 0, 0, 1, 0, 0, 0, 0]),
            Err(BadExtension)
        );
        assert!(transport(ROUTING, &[6, 0, 0, 0, 0, 0, 0, 0]).is_ok());
    }

    #[test]
    fn eight_extension_headers_are_walked_and_nine_refused() {
        let chain = |count: usize| {
            let mut payload = Vec::new();
            for left in (0..count).rev() {
                payload.extend([if left == 0 { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
            }
            payload
        };
        assert_eq!(transport(60, &chain(8)).unwrap().protocol, 17);
        assert_eq!(transport(60, &chain(9)), Err(BadExtension));
    }

    #[test]
    fn groups_loopback_unspecified_and_mapped_addresses_are_no_hosts() {
        for bad in ["ff02::1", "::1", "::", "::ffff:10.0.0.1"] {
            assert!(never_a_host(bad.parse().unwrap()), "{bad}");
        }
        for good in ["2001:db8::1", "fe80::1", "fd00::1", "64:ff9b::a00:1"] {
            assert!(!never_a_host(good.parse().unwrap()), "{good}");
        }
    }
}
