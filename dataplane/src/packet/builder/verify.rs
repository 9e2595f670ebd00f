//! The judge of frames: every length and every checksum, computed in the plainest way.

/// Checks the lengths and checksums of an Ethernet frame (up to two VLAN tags) with an IP packet
/// in it. Transport checksums of fragments cannot be checked and are not.
///
/// # Errors
/// What is wrong, in words.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let mut l3 = 14;
    while matches!(word(frame, l3 - 2)?, 0x8100 | 0x88a8) && l3 < 22 {
        l3 += 4;
    }
    let packet = frame.get(l3..).unwrap_or_default();
    match word(frame, l3 - 2)? {
        0x0800 => verify_ipv4(packet),
        0x86dd => verify_ipv6(packet),
        other => Err(format!("EtherType {other:#06x} is not IP")),
    }
}

fn verify_ipv4(packet: &[u8]) -> Result<(), String> {
    let first = byte(packet, 0)?;
    let header_length = usize::from(first & 15) * 4;
    let total = usize::from(word(packet, 2)?);
    if first >> 4 != 4 || header_length < 20 || total < header_length {
        return Err(format!("bad IPv4 header: {first:#x}, total length {total}"));
    }
    let packet = part(packet, 0, total)?;
    let sum = sum(0, part(packet, 0, header_length)?);
    if sum != 0xffff {
        return Err(format!("IPv4 header sums to {sum:#06x}"));
    }
    if word(packet, 6)? & 0x3fff != 0 {
        return Ok(());
    }
    let addresses = part(packet, 12, 20)?;
    let data = part(packet, header_length, total)?;
    match byte(packet, 9)? {
        1 => verify_sum("ICMP", self::sum(0, data)),
        protocol => verify_transport(protocol, addresses, data),
    }
}

fn verify_ipv6(packet: &[u8]) -> Result<(), String> {
    if byte(packet, 0)? >> 4 != 6 {
        return Err("bad IPv6 version".to_owned());
    }
    let end = 40 + usize::from(word(packet, 4)?);
    let mut next = byte(packet, 6)?;
    let mut at = 40;
    loop {
        let length = match next {
            0 | 43 | 60 => (usize::from(byte(packet, at + 1)?) + 1) * 8,
            51 => (usize::from(byte(packet, at + 1)?) + 2) * 4,
            44 => {
                if word(packet, at + 2)? & 0xfff9 != 0 {
                    return part(packet, at + 8, end).map(|_| ());
                }
                8
            }
            _ => break,
        };
        next = byte(packet, at)?;
        at += length;
    }
    verify_transport(next, part(packet, 8, 40)?, part(packet, at, end)?)
}

fn verify_transport(protocol: u8, addresses: &[u8], data: &[u8]) -> Result<(), String> {
    let over = |data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        sum(sum_only(addresses) + u32::from(protocol) + length, data)
    };
    match protocol {
        6 => {
            let header_length = usize::from(byte(data, 12)? >> 4) * 4;
            if header_length < 20 || header_length > data.len() {
                return Err(format!("TCP data offset {header_length}"));
            }
            verify_sum("TCP", over(data))
        }
        17 => {
            let length = usize::from(word(data, 4)?);
            if length < 8 {
                return Err(format!("UDP length {length}"));
            }
            let data = part(data, 0, length)?;
            match word(data, 6)? {
                0 if addresses.len() == 8 => Ok(()),
                // RFC 6935 allows it for tunnels: GUE with a packet in it.
                0 => match part(data, 8, 12).unwrap_or_default() {
                    [0, 4 | 41, 0, 0] => Ok(()),
                    _ => Err("UDP over IPv6 without a checksum".to_owned()),
                },
                _ => verify_sum("UDP", over(data)),
            }
        }
        58 if addresses.len() == 32 => verify_sum("ICMPv6", over(data)),
        47 if data.first() == Some(&0x80) => verify_sum("GRE", sum(0, data)),
        132 => {
            let mut zeroed = data.to_vec();
            let stored = part(data, 8, 12)?
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u32::from(*byte));
            zeroed.splice(8..12, [0; 4]);
            let computed = crc32c(&zeroed);
            if stored == computed {
                Ok(())
            } else {
                Err(format!(
                    "SCTP checksum {stored:#010x}, computed {computed:#010x}"
                ))
            }
        }
        _ => Ok(()),
    }
}

fn verify_sum(what: &str, sum: u16) -> Result<(), String> {
    if sum == 0xffff {
        Ok(())
    } else {
        Err(format!("{what} sums to {sum:#06x}"))
    }
}

fn sum_only(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

fn sum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start + sum_only(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = register & 1 == 1;
            register >>= 1;
            if odd {
                register ^= 0x82f6_3b78;
            }
        }
    }
    !register
}

fn part(bytes: &[u8], from: usize, to: usize) -> Result<&[u8], String> {
    bytes
        .get(from..to)
        .ok_or_else(|| format!("bytes {from} to {to} of {}", bytes.len()))
}

fn byte(bytes: &[u8], at: usize) -> Result<u8, String> {
    part(bytes, at, at + 1).map(|part| part[0])
}

fn word(bytes: &[u8], at: usize) -> Result<u16, String> {
    part(bytes, at, at + 2).map(|part| u16::from(part[0]) << 8 | u16::from(part[1]))
}
