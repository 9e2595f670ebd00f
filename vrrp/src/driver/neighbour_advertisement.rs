//! Unsolicited neighbour advertisements (RFC 4861 section 7.2.6) as keepalived sends them: from the address itself to
//! all nodes, with the override flag and the link-layer address (behaviour notes 8.4).

use super::datagram::{checksum, v6_header};
use std::net::Ipv6Addr;

/// The Ethernet frame that tells the link that `address` is at `mac`; `router` = this box forwards.
pub(super) fn frame(mac: [u8; 6], address: Ipv6Addr, router: bool) -> Vec<u8> {
    let flags = if router { OVERRIDE | ROUTER } else { OVERRIDE };
    let target = address.octets();
    let mut message = [
        &[ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0][..],
        &target,
        &[TARGET_LINK_LAYER_ADDRESS, 1],
        &mac,
    ]
    .concat();
    let pseudo_header = [
        &target[..],
        &ALL_NODES.octets(),
        &(message.len() as u32).to_be_bytes(),
        &[0, 0, 0, ICMPV6],
    ]
    .concat();
    let sum = checksum(&[&pseudo_header, &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // RFC 4861 section 7.1.2: receivers drop another hop limit than 255.
    let header = v6_header(address, ALL_NODES, ICMPV6, 255, message.len());
    [
        &ALL_NODES_MAC[..],
        &mac,
        &[0x86, 0xdd],
        &header[..],
        &message,
    ]
    .concat()
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x92, 0xf2, 0x42, 0x70, 0xf2, 0x7c];

    #[test]
    fn it_equals_the_recorded_one() {
        let frame = frame(MAC, "fe80::53".parse().unwrap(), false);
        assert_eq!(
            frame[..14],
            [
                0x33, 0x33, 0, 0, 0, 1, 0x92, 0xf2, 0x42, 0x70, 0xf2, 0x7c, 0x86, 0xdd
            ]
        );
        assert_eq!(
            frame[14..],
            [
                0x60, 0, 0, 0, 0, 0x20, 0x3a, 0xff, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0x53, 0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x88, 0, 0x91, 0x18,
                0x20, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53, 2, 1, 0x92,
                0xf2, 0x42, 0x70, 0xf2, 0x7c,
            ]
        );
    }

    #[test]
    fn a_global_address_has_the_recorded_checksum() {
        let frame = frame(MAC, "2001:db8::53".parse().unwrap(), false);
        assert_eq!(frame[56..58], [0x32, 0xa8]);
    }

    #[test]
    fn a_router_says_so_and_the_checksum_covers_it() {
        let frame = frame(MAC, "fe80::53".parse().unwrap(), true);
        assert_eq!(frame[58], 0xa0);
        // One's complement: 0x8000 more in the message, as much less in the checksum.
        assert_eq!(frame[56..58], [0x11, 0x18]);
    }
}
