//! Addresses as operators write them: services with ranges and prefixes, interface addresses, routes, MACs, devices.
//!
//! A refusal is `Err(None)` where "not valid" says enough, `Err(Some(sentence))` where more can be said.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::value::is_interface;

/// The most addresses one item of a service's list may stand for.
pub(crate) const MAX_EXPANSION: usize = 4096;

/// An address with the length of its subnet, e.g. `10.0.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Address and prefix length; host bits are kept.
    pub net: IpNet,
    /// False if the length was left out and the whole address is taken as its own network.
    pub has_length: bool,
}

impl InterfaceAddress {
    /// True if `ip` lies in the subnet of this address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.net.contains(&ip)
    }
}

/// `PREFIX via GATEWAY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; host bits are zero.
    pub destination: IpNet,
    /// Next hop, of the same family.
    pub gateway: IpAddr,
}

/// A VRRP address: `IP[/len][@INTERFACE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address with the length it is added with (32 or 128 if not given).
    pub net: IpNet,
    /// The interface that carries it, if not the instance's.
    pub interface: Option<String>,
}

type Parsed<T> = Result<T, Option<String>>;

/// Expands one item of `addresses`: `ip:port`, `first-last:port`, `prefix:port`; IPv6 in brackets.
pub(crate) fn services(item: &str) -> Parsed<Vec<SocketAddr>> {
    let (hosts, port, is_v6) = if let Some(rest) = item.strip_prefix('[') {
        let (inside, port) = rest.split_once(']').ok_or(None)?;
        (
            inside,
            port.strip_prefix(':').ok_or_else(|| Some(no_port(item)))?,
            true,
        )
    } else {
        if item.parse::<Ipv6Addr>().is_ok() {
            return Err(Some(format!(
                "`{item}` is an IPv6 address without brackets; expected [{item}]:PORT"
            )));
        }
        let (hosts, port) = item.rsplit_once(':').ok_or_else(|| Some(no_port(item)))?;
        (hosts, port, false)
    };
    let port = self::port(port).ok_or_else(|| {
        Some(format!(
            "`{port}` in `{item}` is not a port; expected a number from 0 to 65535"
        ))
    })?;
    let addresses = if hosts.contains('/') {
        prefix_hosts(item, hosts)?
    } else if let Some((first, last)) = hosts.split_once('-') {
        range_hosts(item, first, last)?
    } else {
        vec![hosts.parse::<IpAddr>().map_err(|_| None)?]
    };
    for ip in &addresses {
        if ip.is_ipv6() != is_v6 {
            return Err(None);
        }
        if !is_unicast(*ip) {
            return Err(Some(format!(
                "`{ip}` is not a unicast address; expected an address clients can reach"
            )));
        }
    }
    Ok(addresses
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect())
}

fn no_port(item: &str) -> String {
    format!("`{item}` has no port; expected ADDRESS:PORT, port 0 for any, IPv6 in brackets")
}

/// All addresses of the network, the first and last included: a service may use each of them.
fn prefix_hosts(item: &str, prefix: &str) -> Parsed<Vec<IpAddr>> {
    let net = network(prefix)?;
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    if bits > MAX_EXPANSION.ilog2() {
        return Err(Some(too_many(item)));
    }
    Ok((0..1u32 << bits)
        .filter_map(|offset| step(net.network(), offset))
        .collect())
}

/// `10.0.0.1-10` (last number) or `10.0.0.1-10.0.0.10`; IPv6 likewise with its last group in hexadecimal.
fn range_hosts(item: &str, first: &str, last: &str) -> Parsed<Vec<IpAddr>> {
    let first: IpAddr = first.trim().parse().map_err(|_| None)?;
    let last = last.trim();
    let last: IpAddr = match last.parse() {
        Ok(whole) => whole,
        Err(_) => match first {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                IpAddr::from([
                    a,
                    b,
                    c,
                    plain(last, 10)
                        .and_then(|n| u8::try_from(n).ok())
                        .ok_or(None)?,
                ])
            }
            IpAddr::V6(ip) => {
                let mut groups = ip.segments();
                groups[7] = plain(last, 16)
                    .and_then(|n| u16::try_from(n).ok())
                    .ok_or(None)?;
                IpAddr::from(groups)
            }
        },
    };
    let span = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            u128::from(b.to_bits()).checked_sub(u128::from(a.to_bits()))
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => b.to_bits().checked_sub(a.to_bits()),
        _ => return Err(None),
    };
    let span = span.ok_or_else(|| {
        Some(format!(
            "`{item}` ends before it begins; expected FIRST-LAST:PORT in rising order"
        ))
    })?;
    let count = u32::try_from(span)
        .ok()
        .filter(|span| (*span as usize) < MAX_EXPANSION);
    let last_offset = count.ok_or_else(|| Some(too_many(item)))?;
    Ok((0..=last_offset)
        .filter_map(|offset| step(first, offset))
        .collect())
}

fn too_many(item: &str) -> String {
    format!("`{item}` stands for too many addresses; expected at most {MAX_EXPANSION}")
}

fn step(ip: IpAddr, offset: u32) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => ip
            .to_bits()
            .checked_add(offset)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(ip) => ip
            .to_bits()
            .checked_add(offset.into())
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// A port number in plain digits.
fn port(text: &str) -> Option<u16> {
    plain(text, 10).and_then(|number| u16::try_from(number).ok())
}

fn plain(text: &str, radix: u32) -> Option<u32> {
    let digits = text.chars().all(|c| c.is_digit(radix));
    digits.then(|| u32::from_str_radix(text, radix).ok())?
}

/// True if a host can have this address.
pub(crate) fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast()),
    }
}

/// `ip[:port]`; a bare IPv6 address needs no brackets.
pub(crate) fn endpoint(text: &str) -> Parsed<(IpAddr, Option<u16>)> {
    let (ip, port) = if let Ok(ip) = text.parse::<IpAddr>() {
        (ip, None)
    } else if let Some(inside) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        (IpAddr::V6(inside.parse().map_err(|_| None)?), None)
    } else {
        let socket: SocketAddr = text.parse().map_err(|_| None)?;
        (socket.ip(), Some(socket.port()))
    };
    if !is_unicast(ip) {
        return Err(Some(format!(
            "`{ip}` is not a unicast address; expected the address of a host"
        )));
    }
    Ok((ip, port))
}

/// A network; a single address stands for itself. Bits behind the length are refused, as `ip route` does.
pub(crate) fn network(text: &str) -> Parsed<IpNet> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip.into());
    }
    let net: IpNet = text.parse().map_err(|_| None)?;
    if net.addr() != net.network() {
        let meant = net.trunc();
        return Err(Some(format!(
            "`{text}` has bits set behind its prefix length; expected a network such as {meant}"
        )));
    }
    Ok(net)
}

pub(crate) fn interface_address(text: &str) -> Parsed<InterfaceAddress> {
    let (net, has_length) = match text.parse::<IpAddr>() {
        Ok(ip) => (IpNet::from(ip), false),
        Err(_) => (text.parse::<IpNet>().map_err(|_| None)?, true),
    };
    if !is_unicast(net.addr()) {
        return Err(Some(format!(
            "`{text}` is not a unicast address; expected an address of this box"
        )));
    }
    Ok(InterfaceAddress { net, has_length })
}

pub(crate) fn route(text: &str) -> Parsed<Route> {
    let mut words = text.split_whitespace();
    let (Some(destination), Some("via"), Some(gateway), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(None);
    };
    let gateway: IpAddr = gateway.parse().map_err(|_| None)?;
    let destination = network(destination)?;
    if destination.addr().is_ipv4() != gateway.is_ipv4() {
        return Err(Some(format!(
            "`{text}` mixes IPv4 and IPv6; expected a gateway of the prefix's family"
        )));
    }
    if !is_unicast(gateway) || gateway.is_loopback() {
        return Err(Some(format!(
            "`{gateway}` is no neighbour's address; expected one"
        )));
    }
    Ok(Route {
        destination,
        gateway,
    })
}

pub(crate) fn virtual_address(text: &str) -> Parsed<VirtualAddress> {
    let (address, interface) = match text.split_once('@') {
        Some((address, interface)) if is_interface(interface) => {
            (address, Some(interface.to_owned()))
        }
        Some(_) => return Err(None),
        None => (text, None),
    };
    let net = interface_address(address)?.net;
    Ok(VirtualAddress { net, interface })
}

pub(crate) fn mac(text: &str) -> Parsed<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2).ok_or(None)?;
        *octet = plain(part, 16)
            .and_then(|n| u8::try_from(n).ok())
            .ok_or(None)?;
    }
    if parts.next().is_some() || octets[0] & 1 == 1 || octets == [0; 6] {
        return Err(None);
    }
    Ok(octets)
}

pub(crate) fn tunnel(text: &str) -> Option<(&'static str, Option<u16>)> {
    match text {
        "ipip" => Some(("ipip", None)),
        "gre" => Some(("gre", None)),
        _ => {
            let port = port(text.strip_prefix("gue:")?).filter(|port| *port != 0)?;
            Some(("gue", Some(port)))
        }
    }
}

/// True for a PCI address (domain optional), or a DPDK virtual device with its arguments.
pub(crate) fn is_device(text: &str) -> bool {
    is_pci(text) || is_virtual_device(text)
}

/// `[dddd:]bb:dd.f`.
pub(crate) fn is_pci(text: &str) -> bool {
    let Some((slot, function)) = text.rsplit_once('.') else {
        return false;
    };
    let parts: Vec<&str> = slot.split(':').collect();
    let hex = |part: &&str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let slot_ok = match parts.as_slice() {
        [domain, bus, device] => hex(domain, 4) && hex(bus, 2) && hex(device, 2),
        [bus, device] => hex(bus, 2) && hex(device, 2),
        _ => false,
    };
    slot_ok && function.len() == 1 && matches!(function.as_bytes(), [b'0'..=b'7'])
}

/// `net_driver0[,argument=value…]`; the arguments are DPDK's to judge.
pub(crate) fn is_virtual_device(text: &str) -> bool {
    let name = device_name(text);
    let driver = name
        .strip_prefix("net_")
        .or_else(|| name.strip_prefix("virtio_user").map(|_| name));
    driver.is_some_and(|driver| {
        driver.starts_with(|c: char| c.is_ascii_lowercase())
            && driver
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    })
}

/// The device without its arguments.
pub(crate) fn device_name(text: &str) -> &str {
    text.split_once(',').map_or(text, |(name, _)| name)
}

/// The value of one argument of a virtual device.
pub(crate) fn device_argument<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(',')
        .skip(1)
        .find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(item: &str) -> Vec<String> {
        services(item)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn services_are_single_addresses_ranges_and_prefixes() {
        assert_eq!(expand("10.0.0.1:80"), ["10.0.0.1:80"]);
        assert_eq!(
            expand("10.0.0.9-11:80"),
            ["10.0.0.9:80", "10.0.0.10:80", "10.0.0.11:80"]
        );
        assert_eq!(
            expand("10.0.0.255-10.0.1.0:0"),
            ["10.0.0.255:0", "10.0.1.0:0"]
        );
        assert_eq!(expand("10.0.0.0/30:80").len(), 4);
        assert_eq!(expand("10.0.0.0/20:80").len(), 4096);
        assert_eq!(expand("[2001:db8::1]:80"), ["[2001:db8::1]:80"]);
        assert_eq!(expand("[2001:db8::9-b]:80").len(), 3);
        assert_eq!(expand("[2001:db8::/126]:80").len(), 4);
    }

    #[test]
    fn bad_services_are_refused() {
        for bad in [
            "10.0.0.1",
            "10.0.0.1:",
            "10.0.0.1:http",
            "10.0.0.1:65536",
            "10.0.0.1:-1",
            "10.0.0.1:+1",
            "10.0.0.0/19:80",
            "10.0.0.1/24:80",
            "10.0.0.9-3:80",
            "10.0.0.1-256:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "2001:db8::1",
            "[10.0.0.1]:80",
            "[2001:db8::1]80",
            "[2001:db8::1",
            "[2001:db8::/64]:80",
            "300.0.0.1:80",
            "",
            ":",
            "[",
            "-:1",
            "/:1",
            "10.0.0.1-:80",
            "10.0.0.0-10.255.0.0:80",
        ] {
            assert!(services(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_are_pci_addresses_or_virtual_devices() {
        for good in [
            "0000:3b:00.0",
            "3b:00.1",
            "net_af_xdp0,iface=eth1",
            "net_tap0",
            "net_pcap0,rx_pcap=a.pcap",
            "net_bonding0,mode=4",
            "virtio_user0,path=/x",
        ] {
            assert!(is_device(good), "{good}");
        }
        for bad in [
            "eth0",
            "0000:3b:00.8",
            "0000:3b:0.0",
            "net_",
            "net_0",
            ",iface=x",
            "",
            "zz:00.0",
            "0000:3b:00.é",
        ] {
            assert!(!is_device(bad), "{bad}");
        }
        assert_eq!(
            device_argument("net_af_xdp0,iface=eth1,start_queue=0", "iface"),
            Some("eth1")
        );
    }

    #[test]
    fn macs_must_be_unicast() {
        assert_eq!(mac("02:00:00:00:00:0a"), Ok([2, 0, 0, 0, 0, 10]));
        for bad in [
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
        ] {
            assert!(mac(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn routes_need_via_and_one_family() {
        assert!(route("10.1.0.0/16 via 10.0.0.1").is_ok());
        for bad in [
            "10.1.0.0/16",
            "10.1.0.1/16 via 10.0.0.1",
            "10.1.0.0/16 via ::1",
            "10.1.0.0/16 dev eth0",
        ] {
            assert!(route(bad).is_err(), "{bad}");
        }
    }
}
