//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//!  0       2       4  5  6       8          14        18         24        28
//! | 1     | 0800  | 6| 4| op    | sender MAC| sender IP| target MAC| target IP|
//! ```

use super::bytes::{load, load16, store, store16};
use super::ethernet::{self, MacAddress};
use std::net::Ipv4Addr;

/// Length of the message; Ethernet padding may follow.
pub const LEN: usize = 28;
/// Operation: who has the target IP?
pub const REQUEST: u16 = 1;
/// Operation: the sender has the sender IP.
pub const REPLY: u16 = 2;

const HARDWARE_ETHERNET: u16 = 1;

mod field {
    pub(super) const HARDWARE: usize = 0;
    pub(super) const PROTOCOL: usize = 2;
    pub(super) const HARDWARE_LENGTH: usize = 4;
    pub(super) const PROTOCOL_LENGTH: usize = 5;
    pub(super) const OPERATION: usize = 6;
    pub(super) const SENDER_MAC: usize = 8;
    pub(super) const SENDER_IP: usize = 14;
    pub(super) const TARGET_MAC: usize = 18;
    pub(super) const TARGET_IP: usize = 24;
}

/// An ARP message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Message {
    /// [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// Who says so.
    pub sender_mac: MacAddress,
    /// Whose address the sender claims to have.
    pub sender_ip: Ipv4Addr,
    /// Whom the message is for; zero in a request.
    pub target_mac: MacAddress,
    /// The address asked for.
    pub target_ip: Ipv4Addr,
}

impl Message {
    /// Reads a message; `None` if it is not about IPv4 over Ethernet.
    pub fn read(message: &[u8; LEN]) -> Option<Self> {
        let ours = load16(message, field::HARDWARE) == HARDWARE_ETHERNET
            && load16(message, field::PROTOCOL) == ethernet::IPV4
            && message[field::HARDWARE_LENGTH] == 6
            && message[field::PROTOCOL_LENGTH] == 4;
        ours.then(|| Self {
            operation: load16(message, field::OPERATION),
            sender_mac: MacAddress(load(message, field::SENDER_MAC)),
            sender_ip: Ipv4Addr::from_octets(load(message, field::SENDER_IP)),
            target_mac: MacAddress(load(message, field::TARGET_MAC)),
            target_ip: Ipv4Addr::from_octets(load(message, field::TARGET_IP)),
        })
    }

    /// Writes the message.
    pub fn write(self, message: &mut [u8; LEN]) {
        store16(message, field::HARDWARE, HARDWARE_ETHERNET);
        store16(message, field::PROTOCOL, ethernet::IPV4);
        message[field::HARDWARE_LENGTH] = 6;
        message[field::PROTOCOL_LENGTH] = 4;
        store16(message, field::OPERATION, self.operation);
        store(message, field::SENDER_MAC, self.sender_mac.0);
        store(message, field::SENDER_IP, self.sender_ip.octets());
        store(message, field::TARGET_MAC, self.target_mac.0);
        store(message, field::TARGET_IP, self.target_ip.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 10, 0, 1, 100, 0, 0, 0, 0, 0, 0, 10, 0, 1, 50,
    ];

    #[test]
    fn a_request_reads_and_writes_literal_bytes() {
        let message = Message {
            operation: REQUEST,
            sender_mac: MacAddress([2, 0, 0, 0, 0, 7]),
            sender_ip: Ipv4Addr::new(10, 0, 1, 100),
            target_mac: MacAddress::ZERO,
            target_ip: Ipv4Addr::new(10, 0, 1, 50),
        };
        assert_eq!(Message::read(&BYTES), Some(message));
        let mut written = [0; LEN];
        message.write(&mut written);
        assert_eq!(written, BYTES);
    }

    #[test]
    fn other_hardware_and_protocols_are_not_ours() {
        for at in [1, 2, 4, 5] {
            let mut bytes = BYTES;
            bytes[at] ^= 0x10;
            assert_eq!(Message::read(&bytes), None, "byte {at}");
        }
    }
}
