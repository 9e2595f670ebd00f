//! VLAN tags: 802.1Q (customer) and 802.1ad (service), at most two in a frame.
//!
//! ```text
//! after the MAC addresses, or after the first tag:
//!  0       2                 4
//! | TPID  | PCP:3 DEI:1 ID:12 | EtherType of what follows
//! ```

use super::bytes::{load16, store16};

/// Length of a tag.
pub const LEN: usize = 4;
/// How many tags a frame may carry, one taken out by the device included.
pub const MAX: usize = 2;
/// Tag protocol identifier of 802.1Q.
pub const CUSTOMER: u16 = 0x8100;
/// Tag protocol identifier of 802.1ad, the outer one of two.
pub const SERVICE: u16 = 0x88a8;
/// The reserved VLAN id (802.1Q table 9-2), illegal on the wire.
pub const RESERVED: u16 = 0xfff;

mod field {
    pub(super) const TPID: usize = 0;
    pub(super) const TCI: usize = 2;
}

/// Whether this EtherType announces a tag.
#[inline]
pub fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, CUSTOMER | SERVICE)
}

/// One tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tag {
    /// Tag protocol identifier: [`CUSTOMER`] or [`SERVICE`].
    pub tpid: u16,
    /// Priority, 0 to 7.
    pub priority: u8,
    /// May be dropped first under congestion.
    pub drop_eligible: bool,
    /// VLAN id, 0 to 4095; 0 is a priority tag, which names no VLAN.
    pub id: u16,
}

impl Tag {
    /// An 802.1Q tag of the lowest priority.
    pub fn new(id: u16) -> Self {
        Self {
            tpid: CUSTOMER,
            priority: 0,
            drop_eligible: false,
            id: id & RESERVED,
        }
    }

    /// Reads a tag.
    #[inline]
    pub fn read(tag: &[u8; LEN]) -> Self {
        let control = load16(tag, field::TCI);
        Self {
            tpid: load16(tag, field::TPID),
            priority: (control >> 13) as u8,
            drop_eligible: control & 0x1000 != 0,
            id: control & RESERVED,
        }
    }

    /// Writes a tag; bits that do not fit their field are cut off.
    #[inline]
    pub fn write(self, tag: &mut [u8; LEN]) {
        store16(tag, field::TPID, self.tpid);
        store16(
            tag,
            field::TCI,
            u16::from(self.priority) << 13
                | u16::from(self.drop_eligible) << 12
                | self.id & RESERVED,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_reads_and_writes_literal_bytes() {
        for (bytes, tag) in [
            ([0x81, 0x00, 0x00, 0x64], Tag::new(100)),
            (
                [0x88, 0xa8, 0xb0, 0x05],
                Tag {
                    tpid: SERVICE,
                    priority: 5,
                    drop_eligible: true,
                    id: 5,
                },
            ),
        ] {
            assert_eq!(Tag::read(&bytes), tag);
            let mut written = [0; LEN];
            tag.write(&mut written);
            assert_eq!(written, bytes);
        }
    }

    #[test]
    fn only_the_two_tag_types_announce_tags() {
        assert!(is_tag(0x8100));
        assert!(is_tag(0x88a8));
        assert!(!is_tag(0x0800));
        assert!(!is_tag(0x9100));
    }
}
