//! By how much of their address persistent clients are grouped: `full`, an IPv4 mask, an IPv6 prefix
//! length, or one of each for a section that lists addresses of both families.
//!
//! IPv4 has masks and IPv6 lengths, as for `ipvsadm -M`, so that neither can be taken for the other.

use std::net::{IpAddr, Ipv4Addr};

/// Prefix lengths by which clients are grouped; `None` = by the full address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PersistenceNetmask {
    /// Of IPv4 clients, 1 to 32.
    pub v4: Option<u8>,
    /// Of IPv6 clients, 1 to 128.
    pub v6: Option<u8>,
}

impl PersistenceNetmask {
    /// That of the clients of a service at `address`.
    pub fn of(self, address: IpAddr) -> Option<u8> {
        match address {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }

    /// What operators write; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut masks = Self::default();
        if text == "full" {
            return Some(masks);
        }
        for part in text.split(',').map(str::trim) {
            let (place, length) = match part.parse::<Ipv4Addr>() {
                Ok(mask) => (&mut masks.v4, mask_length(mask)?),
                Err(_) => (&mut masks.v6, prefix_length(part)?),
            };
            if place.replace(length).is_some() {
                return None;
            }
        }
        Some(masks)
    }

    /// What is wrong with it for a section with addresses of these families, IPv4 and IPv6.
    pub(crate) fn misfit(self, families: (bool, bool)) -> Option<String> {
        if self == Self::default() {
            return None;
        }
        match (families, self.v4, self.v6) {
            ((true, true), Some(_), None) | ((true, true), None, Some(_)) => Some(
                "one of two families has none; expected an IPv4 mask and an IPv6 prefix length such as \
                 255.255.255.0, 64"
                    .to_owned(),
            ),
            ((false, true), Some(_), _) => Some(
                "an IPv4 mask with IPv6 addresses; expected a prefix length from 1 to 128".to_owned(),
            ),
            ((true, false), _, Some(bits)) => Some(format!(
                "`{bits}` is an IPv6 prefix length; expected a mask such as 255.255.255.0"
            )),
            _ => None,
        }
    }
}

fn mask_length(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let contiguous = bits.leading_ones() + bits.trailing_zeros() == 32 && bits != 0;
    contiguous.then(|| bits.leading_ones() as u8)
}

fn prefix_length(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text
        .parse()
        .ok()
        .filter(|_| digits && !text.starts_with('0'))?;
    (1..=128).contains(&length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_a_length_one_of_each_and_full_are_read() {
        let masks = |text| PersistenceNetmask::parse(text).map(|masks| (masks.v4, masks.v6));
        assert_eq!(masks("full"), Some((None, None)));
        assert_eq!(masks("255.255.255.0"), Some((Some(24), None)));
        assert_eq!(masks("255.255.255.255"), Some((Some(32), None)));
        assert_eq!(masks("64"), Some((None, Some(64))));
        for pair in ["255.255.255.0, 64", "64,255.255.255.0"] {
            assert_eq!(masks(pair), Some((Some(24), Some(64))));
        }
        for bad in [
            "0.0.0.0",
            "255.0.255.0",
            "0",
            "064",
            "+64",
            "129",
            "/24",
            "",
            "64,",
            "64, 64",
            "255.255.255.0, 255.255.0.0",
            "full, 64",
            "64, 255.255.255.0, 48",
        ] {
            assert_eq!(masks(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_family_has_its_own() {
        let masks = PersistenceNetmask::parse("255.255.0.0, 48").unwrap();
        assert_eq!(masks.of("10.0.0.1".parse().unwrap()), Some(16));
        assert_eq!(masks.of("fd00::1".parse().unwrap()), Some(48));
    }
}
