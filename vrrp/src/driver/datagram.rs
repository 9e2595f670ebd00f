//! IP datagrams of raw sockets as bytes: the headers that are sent (RFC 791, RFC 8200), the IPv4 header that is
//! received.
//!
//! Advertisements carry class selector 6, neither `DF` nor a flow label (behaviour notes 8.1). Invariant: no bytes from
//! the network can make [`received_v4`] panic or read an IPv4 header of the wrong length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 datagram of protocol 112.
pub(super) fn v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    ttl: u8,
    identification: u16,
    message: &[u8],
) -> Vec<u8> {
    let mut header = [0; IPV4_HEADER];
    header[0] = 0x45;
    header[1] = CLASS;
    header[2..4].copy_from_slice(&((IPV4_HEADER + message.len()) as u16).to_be_bytes());
    header[4..6].copy_from_slice(&identification.to_be_bytes());
    header[8] = ttl;
    header[9] = PROTOCOL;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let checksum = checksum(&[&header]);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header, message].concat()
}

/// An IPv6 datagram of protocol 112.
pub(super) fn v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    message: &[u8],
) -> Vec<u8> {
    let mut header = v6_header(source, destination, PROTOCOL, hop_limit, message.len());
    // The traffic class stands across the first two bytes.
    header[0] |= CLASS >> 4;
    header[1] |= CLASS << 4;
    [&header, message].concat()
}

/// An IPv6 header of the lowest class.
pub(super) fn v6_header(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    hop_limit: u8,
    length: usize,
) -> [u8; IPV6_HEADER] {
    let mut header = [0; IPV6_HEADER];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    header[6] = protocol;
    header[7] = hop_limit;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}

/// What an IPv4 raw socket received.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) message: &'a [u8],
}

/// Takes the header off; `None` = it is no whole IPv4 header.
pub(super) fn received_v4(datagram: &[u8]) -> Option<Received<'_>> {
    let header: &[u8; IPV4_HEADER] = datagram.first_chunk()?;
    let words = usize::from(header[0] & 0x0f);
    if header[0] >> 4 != 4 || words < 5 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    Some(Received {
        source: address(header, 12),
        destination: address(header, 16),
        ttl: header[8],
        message: datagram.get(words * 4..total.min(datagram.len()))?,
    })
}

/// The Internet checksum (RFC 1071) over the parts one after the other; all but the last have an even length.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn address(header: &[u8; IPV4_HEADER], at: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(
        header[at],
        header[at + 1],
        header[at + 2],
        header[at + 3],
    ))
}

/// VRRP.
pub(super) const PROTOCOL: u8 = 112;
/// Class selector 6.
const CLASS: u8 = 0xc0;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from keepalived: 10.0.1.100 to the group, VRID 52.
    const RECORDED: [u8; 32] = [
        0x45, 0xc0, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0xff, 0x70, 0xcf, 0x36, 0x0a, 0x00, 0x01,
        0x64, 0xe0, 0x00, 0x00, 0x12, 0x31, 0x34, 0x5a, 0x01, 0x00, 0x32, 0x7d, 0x67, 0x0a, 0x00,
        0x01, 0x3e,
    ];

    #[test]
    fn an_ipv4_advertisement_equals_the_recorded_one() {
        let sent = v4(
            [10, 0, 1, 100].into(),
            [224, 0, 0, 18].into(),
            255,
            1,
            &RECORDED[20..],
        );
        assert_eq!(sent, RECORDED);
    }

    #[test]
    fn an_ipv6_header_has_the_class_and_no_flow_label() {
        let sent = v6(
            "fe80::1".parse().unwrap(),
            "ff02::12".parse().unwrap(),
            255,
            &[7; 24],
        );
        assert_eq!(sent[..8], [0x6c, 0, 0, 0, 0, 24, 112, 255]);
        assert_eq!(sent.len(), 64);
    }

    #[test]
    fn options_are_not_taken_for_the_message() {
        let mut datagram = RECORDED[..20].to_vec();
        datagram[0] = 0x46;
        datagram[3] = 36;
        datagram.extend([0x94, 4, 0, 0]);
        datagram.extend(&RECORDED[20..]);
        let received = received_v4(&datagram).unwrap();
        assert_eq!(received.message, &RECORDED[20..]);
        assert_eq!(received.source, IpAddr::from([10, 0, 1, 100]));
        assert_eq!(received.destination, IpAddr::from([224, 0, 0, 18]));
        assert_eq!(received.ttl, 255);
    }

    #[test]
    fn no_header_of_a_wrong_length_is_believed() {
        for first in 0..=255u8 {
            for length in 0..RECORDED.len() {
                let mut datagram = RECORDED[..length].to_vec();
                if let Some(byte) = datagram.first_mut() {
                    *byte = first;
                }
                let believed = received_v4(&datagram).is_some();
                let header = usize::from(first & 0x0f) * 4;
                assert_eq!(
                    believed,
                    first >> 4 == 4 && header >= 20 && length >= 20 && header <= length,
                    "{first:#x}, {length} bytes"
                );
            }
        }
    }

    #[test]
    fn what_stands_behind_the_datagram_is_not_part_of_it() {
        let padded = [&RECORDED[..], &[0; 14]].concat();
        assert_eq!(received_v4(&padded).unwrap().message, &RECORDED[20..]);
    }
}
