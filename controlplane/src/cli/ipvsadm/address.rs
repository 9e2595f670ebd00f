//! `host[:port]` as `ipvsadm` reads it: `10.0.1.50:80`, `www:http`, `[2001:db8::50]:80`, and IPv6
//! without brackets and without a port.
//!
//! Invariant: whatever the C library takes for an IPv4 address (`10.1`, `0x7f.1`) is one here too.

use super::names::Names;
use crate::admin::api::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, and a port if one was given.
pub(super) fn parse(
    text: &str,
    protocol: Protocol,
    names: &impl Names,
) -> Option<(IpAddr, Option<u16>)> {
    // A number alone is a forgotten address, not one of the C library's short forms.
    if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, port) = bracketed.split_once("]:")?;
        let address = match host.parse::<Ipv6Addr>() {
            Ok(address) => address.into(),
            Err(_) => ipv4(host, names)?.into(),
        };
        return Some((address, Some(parse_port(port, protocol, names)?)));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((address.into(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(parse_port(port, protocol, names)?)),
        None => (text, None),
    };
    Some((ipv4(host, names)?.into(), port))
}

/// An IPv4 address in figures or by name.
pub(super) fn ipv4(text: &str, names: &impl Names) -> Option<Ipv4Addr> {
    aton(text).or_else(|| names.host_address(text).filter(|_| !text.is_empty()))
}

fn parse_port(text: &str, protocol: Protocol, names: &impl Names) -> Option<u16> {
    match number(text, 0, u64::from(u16::MAX)) {
        Some(port) => Some(port as u16),
        None => names.service_port(text, protocol),
    }
}

/// A decimal number as `strtol` reads it, between `least` and `most`.
pub(super) fn number(text: &str, least: u64, most: u64) -> Option<u64> {
    let digits = text.trim_start();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    (least..=most).contains(&value).then_some(value)
}

/// `inet_aton`: one to four numbers in decimal, octal or hexadecimal, the last one filling what is
/// left of the address.
fn aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(aton_part).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let left = 32 - 8 * leading.len() as u32;
    if left < 32 && *last >= 1 << left {
        return None;
    }
    let high = leading
        .iter()
        .enumerate()
        .map(|(i, part)| part << (24 - 8 * i));
    Some(Ipv4Addr::from_bits(high.sum::<u32>() + last))
}

fn aton_part(text: &str) -> Option<u32> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    if let Some(hexadecimal) = lower.strip_prefix("0x") {
        u32::from_str_radix(hexadecimal, 16).ok()
    } else if text.len() > 1 && text.starts_with('0') {
        u32::from_str_radix(text, 8).ok()
    } else {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Recorded;
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        for (text, expected) in [
            ("10.0.1.50:80", Some(("10.0.1.50", Some(80)))),
            ("10.0.1.50:http", Some(("10.0.1.50", Some(80)))),
            ("10.0.1.50", Some(("10.0.1.50", None))),
            ("10.0.1.50:0", Some(("10.0.1.50", Some(0)))),
            ("localhost:80", Some(("127.0.0.1", Some(80)))),
            ("10.1:80", Some(("10.0.0.1", Some(80)))),
            ("0x7f.1", Some(("127.0.0.1", None))),
            ("[2001:db8::1]:80", Some(("2001:db8::1", Some(80)))),
            ("2001:db8::1", Some(("2001:db8::1", None))),
            ("[2001:db8::1]", None),
            ("80", None),
            ("", None),
            (":80", None),
            ("10.0.1.50:99999", None),
            ("10.0.1.50:http2x", None),
            ("10.0.1.50:-1", None),
            ("300.1.1.1:80", None),
            ("10.0.1.50.1:80", None),
        ] {
            let expected = expected.map(|(address, port)| (address.parse().unwrap(), port));
            assert_eq!(parse(text, Protocol::Tcp, &Recorded), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_strtol_reads_them() {
        assert_eq!(number("65535", 0, 65535), Some(65535));
        assert_eq!(number(" +5", 0, 9), Some(5));
        for bad in ["", "-1", "65536", "5x", "x", "+", "99999999999999999999"] {
            assert_eq!(number(bad, 0, 65535), None, "{bad}");
        }
    }
}
