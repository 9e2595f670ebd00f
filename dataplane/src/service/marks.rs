//! Firewall marks: which packets belong to the service of a mark (`[mark NAME]`).
//!
//! What iptables' MARK did for LVS: rules are tried in file order and the first that fits decides,
//! also if no service has its mark (spec 2.2: the packet then goes on to the services on addresses,
//! not to the next rule). Only packets of no connection ask.
//!
//! Rules lie in one hash table per prefix length of their destinations, so that a box with a
//! thousand marked VIPs asks as many tables as it has lengths, not as many rules as it has marks.

use crate::address::{Family, Protocol};
use hashbrown::HashMap;
use ipnet::IpNet;
use rustc_hash::FxBuildHasher;
use std::net::IpAddr;

/// One rule. What is empty or `None` fits everything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MarkRule {
    /// The mark of packets that fit.
    pub mark: u32,
    /// Destination networks.
    pub addresses: Vec<IpNet>,
    /// Destination ports, first and last.
    pub ports: Vec<(u16, u16)>,
    /// Transport protocol.
    pub protocol: Option<Protocol>,
    /// Source network.
    pub source: Option<IpNet>,
    /// Family of the packets.
    pub family: Option<Family>,
}

/// The rules, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// In file order.
    rules: Box<[MarkRule]>,
    /// By destination, longest prefixes first.
    tables: Box<[Table]>,
    /// Those for any destination.
    anywhere: Box<[u32]>,
}

/// Rules by destination network of one family and prefix length, each list in file order.
#[derive(Clone, Debug)]
struct Table {
    family: Family,
    length: u8,
    rules: HashMap<IpAddr, Vec<u32>, FxBuildHasher>,
}

impl Marks {
    /// Sorts rules given in file order.
    pub fn new(rules: Vec<MarkRule>) -> Self {
        let mut tables: Vec<Table> = Vec::new();
        let mut anywhere = Vec::new();
        for (index, rule) in (0..).zip(&rules) {
            if rule.addresses.is_empty() {
                anywhere.push(index);
            }
            for net in &rule.addresses {
                let (family, length) = (Family::of(net.addr()), net.prefix_len());
                let found = tables.iter().position(|t| t.is(family, length));
                let position = found.unwrap_or_else(|| {
                    tables.push(Table {
                        family,
                        length,
                        rules: HashMap::with_hasher(FxBuildHasher),
                    });
                    tables.len() - 1
                });
                let listed = tables[position].rules.entry(net.network()).or_default();
                if listed.last() != Some(&index) {
                    listed.push(index);
                }
            }
        }
        tables.sort_by_key(|table| std::cmp::Reverse(table.length));
        Self {
            rules: rules.into(),
            tables: tables.into(),
            anywhere: anywhere.into(),
        }
    }

    /// True if there are no rules.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules in file order.
    pub fn rules(&self) -> &[MarkRule] {
        &self.rules
    }

    /// True if some packet to this address has a mark.
    #[inline]
    pub fn may_mark(&self, destination: IpAddr) -> bool {
        !self.is_empty()
            && (!self.anywhere.is_empty()
                || self.tables.iter().any(|table| {
                    table.family == Family::of(destination)
                        && IpNet::new(destination, table.length)
                            .is_ok_and(|net| table.rules.contains_key(&net.network()))
                }))
    }

    /// The mark of a packet from `source` to `destination` and `port` (host order).
    #[inline]
    pub fn of(
        &self,
        protocol: Protocol,
        source: IpAddr,
        destination: IpAddr,
        port: u16,
    ) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        self.search(protocol, source, destination, port)
    }

    #[inline(never)]
    fn search(
        &self,
        protocol: Protocol,
        source: IpAddr,
        destination: IpAddr,
        port: u16,
    ) -> Option<u32> {
        let family = Family::of(destination);
        let mut best = u32::MAX;
        let mut consider = |listed: &[u32]| {
            // In file order: those behind the best one so far need no look.
            let before = listed.iter().take_while(|index| **index < best);
            let fits = |index: &&u32| {
                let rule = self.rules.get(**index as usize);
                rule.is_some_and(|rule| rule.fits(protocol, source, port, family))
            };
            if let Some(index) = { before }.find(fits) {
                best = *index;
            }
        };
        consider(&self.anywhere);
        for table in self.tables.iter().filter(|table| table.family == family) {
            let Ok(net) = IpNet::new(destination, table.length) else {
                continue;
            };
            if let Some(listed) = table.rules.get(&net.network()) {
                consider(listed);
            }
        }
        self.rules.get(best as usize).map(|rule| rule.mark)
    }
}

impl Table {
    fn is(&self, family: Family, length: u8) -> bool {
        self.family == family && self.length == length
    }
}

impl MarkRule {
    /// The single addresses among its destinations: VIPs.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> {
        let nets = self.addresses.iter();
        nets.filter(|net| net.prefix_len() == net.max_prefix_len())
            .map(IpNet::addr)
    }

    /// True if it may fit packets of this family.
    pub fn may_be(&self, family: Family) -> bool {
        let mut nets = self.addresses.iter();
        self.family.is_none_or(|own| own == family)
            && (self.addresses.is_empty() || nets.any(|net| Family::of(net.addr()) == family))
            && (self.source).is_none_or(|net| Family::of(net.addr()) == family)
    }

    /// True if it fits but for the destination address.
    fn fits(&self, protocol: Protocol, source: IpAddr, port: u16, family: Family) -> bool {
        let mut ports = self.ports.iter();
        self.protocol.is_none_or(|own| own == protocol)
            && self.family.is_none_or(|own| own == family)
            && (self.ports.is_empty()
                || ports.any(|(first, last)| (*first..=*last).contains(&port)))
            && self.source.is_none_or(|net| net.contains(&source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn rule(mark: u32, addresses: &[&str]) -> MarkRule {
        MarkRule {
            mark,
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            ports: Vec::new(),
            protocol: None,
            source: None,
            family: None,
        }
    }

    fn of(marks: &Marks, protocol: Protocol, to: &str, port: u16) -> Option<u32> {
        let to: IpAddr = to.parse().unwrap();
        let from: IpAddr = match Family::of(to) {
            Family::V4 => "10.0.1.100".parse().unwrap(),
            Family::V6 => "2001:db8::100".parse().unwrap(),
        };
        marks.of(protocol, from, to, port)
    }

    #[test]
    fn the_first_rule_that_fits_decides_however_narrow_a_later_one_is() {
        let web = MarkRule {
            ports: vec![(80, 80), (443, 443)],
            protocol: Some(Protocol::Tcp),
            ..rule(1, &["10.0.1.50/32"])
        };
        let inside = MarkRule {
            source: Some("10.0.1.0/24".parse().unwrap()),
            ..rule(2, &["10.0.0.0/16"])
        };
        let six = MarkRule {
            family: Some(Family::V6),
            ports: vec![(10_000, 20_000)],
            ..rule(3, &[])
        };
        let marks = Marks::new(vec![web, inside, rule(4, &["10.0.1.50/32"]), six]);
        let tcp = |to, port| of(&marks, Protocol::Tcp, to, port);
        assert_eq!(tcp("10.0.1.50", 80), Some(1));
        assert_eq!(tcp("10.0.1.50", 443), Some(1));
        assert_eq!(tcp("10.0.1.50", 81), Some(2));
        assert_eq!(of(&marks, Protocol::Udp, "10.0.1.50", 80), Some(2));
        let from_afar = marks.of(
            Protocol::Tcp,
            "192.0.2.1".parse().unwrap(),
            "10.0.1.50".parse().unwrap(),
            22,
        );
        assert_eq!(from_afar, Some(4));
        assert_eq!(tcp("10.1.0.1", 80), None);
        assert_eq!(tcp("2001:db8::1", 20_000), Some(3));
        assert_eq!(tcp("2001:db8::1", 20_001), None);
    }

    #[test]
    fn only_whole_addresses_are_vips() {
        let rule = rule(1, &["10.0.1.50/32", "10.0.2.0/24", "2001:db8::1/128"]);
        let vips: Vec<String> = rule.vips().map(|vip| vip.to_string()).collect();
        assert_eq!(vips, ["10.0.1.50", "2001:db8::1"]);
        assert!(rule.may_be(Family::V4) && rule.may_be(Family::V6));
        assert!(
            !Marks::default()
                .rules()
                .iter()
                .any(|r| r.may_be(Family::V4))
        );
    }

    fn any_rule() -> impl Strategy<Value = MarkRule> {
        let nets = prop::collection::vec((0_u32..8, 28_u8..=32), 0..3);
        let ports = prop::collection::vec((0_u16..6, 0_u16..3), 0..3);
        let protocol = prop::option::of(prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]));
        let source = prop::option::of((0_u32..8, 28_u8..=32));
        let net = |(host, length): (u32, u8)| {
            IpNet::new(Ipv4Addr::from(0x0a00_0000 + host).into(), length).unwrap()
        };
        (nets, ports, protocol, source).prop_map(move |(nets, ports, protocol, source)| MarkRule {
            mark: 0,
            addresses: nets.into_iter().map(net).collect(),
            ports: ports
                .into_iter()
                .map(|(from, more)| (from, from + more))
                .collect(),
            protocol,
            source: source.map(net),
            family: None,
        })
    }

    proptest! {
        #[test]
        fn the_tables_find_what_trying_every_rule_in_order_finds(
            rules in prop::collection::vec(any_rule(), 0..12),
            source in 0_u32..8,
            destination in 0_u32..8,
            port in 0_u16..8,
        ) {
            let rules: Vec<MarkRule> =
                (1..).zip(rules).map(|(mark, rule)| MarkRule { mark, ..rule }).collect();
            let address = |host| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + host));
            let (from, to) = (address(source), address(destination));
            let expected = rules.iter().find(|rule| {
                rule.fits(Protocol::Tcp, from, port, Family::V4)
                    && (rule.addresses.is_empty()
                        || rule.addresses.iter().any(|net| net.contains(&to)))
            });
            let expected = expected.map(|rule| rule.mark);
            prop_assert_eq!(Marks::new(rules).of(Protocol::Tcp, from, to, port), expected);
        }
    }
}
