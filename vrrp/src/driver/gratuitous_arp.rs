//! Gratuitous ARP (RFC 826, RFC 5227 section 3) as keepalived sends it: a broadcast *request* for its own sender
//! address, whose target hardware address is the broadcast one too (behaviour notes 8.4).

use std::net::Ipv4Addr;

/// The Ethernet frame that tells the link that `address` is at `mac`.
pub(super) fn frame(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let address = address.octets();
    [
        &BROADCAST[..],
        &mac,
        &ETHERTYPE,
        &ETHERNET_IPV4_REQUEST,
        &mac,
        &address,
        &BROADCAST,
        &address,
    ]
    .concat()
}

const BROADCAST: [u8; 6] = [0xff; 6];
const ETHERTYPE: [u8; 2] = [0x08, 0x06];
/// Hardware Ethernet, protocol IPv4, their lengths, operation request.
const ETHERNET_IPV4_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_equals_the_recorded_one() {
        let frame = frame([0x92, 0xf2, 0x42, 0x70, 0xf2, 0x7c], [10, 0, 1, 62].into());
        assert_eq!(
            frame[..14],
            [
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x92, 0xf2, 0x42, 0x70, 0xf2, 0x7c, 8, 6
            ]
        );
        assert_eq!(
            frame[14..],
            [
                0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x92, 0xf2, 0x42, 0x70, 0xf2, 0x7c,
                0x0a, 0x00, 0x01, 0x3e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0a, 0x00, 0x01, 0x3e,
            ]
        );
    }
}
