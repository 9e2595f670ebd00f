//! Longest-prefix match: a multibit trie, 16 bits at the root and 8 per level below.
//!
//! Leaves are pushed down at build time (a node entry is either a value or a child, never both),
//! so a look-up is one dependent load for prefixes up to /16 and one more per further byte, with
//! no backtracking. Built once by control, read-only afterwards, and shared by cloning.

use crate::address::Address;
use std::marker::PhantomData;
use std::sync::Arc;

/// A table from prefixes of family `A` to small values. A clone shares its memory.
#[derive(Clone, Debug)]
pub struct Lpm<A> {
    root: Arc<[Entry]>,
    nodes: Arc<[Node]>,
    family: PhantomData<A>,
}

/// One prefix to put into the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefix<A> {
    /// Address; bits behind `length` are ignored.
    pub address: A,
    /// Prefix length in bits.
    pub length: u8,
    /// What look-ups of addresses under it return, below [`Lpm::<A>::MAX_VALUE`].
    pub value: u32,
}

/// `0` = nothing, top bit set = child node, otherwise value + 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry(u32);

type Node = [Entry; 256];

const CHILD: u32 = 1 << 31;

impl<A: Address> Lpm<A> {
    /// Values must be below this.
    pub const MAX_VALUE: u32 = CHILD - 1;

    /// Builds the table. Of two equal prefixes the later one wins; prefixes longer than the
    /// address are cut to a host prefix.
    pub fn new(prefixes: &[Prefix<A>]) -> Self {
        let mut trie = Trie {
            root: vec![Entry(0); 1 << 16],
            nodes: Vec::new(),
        };
        // Short prefixes first: a longer one then overwrites just its own range.
        let mut ordered: Vec<_> = prefixes.iter().collect();
        ordered.sort_by_key(|prefix| prefix.length);
        for prefix in ordered {
            trie.insert(prefix);
        }
        Self {
            root: trie.root.into(),
            nodes: trie.nodes.into(),
            family: PhantomData,
        }
    }

    /// The value of the longest prefix that contains `address`.
    #[inline]
    pub fn lookup(&self, address: A) -> Option<u32> {
        let top = u16::from_be_bytes([address.octet(0), address.octet(1)]);
        let mut entry = self.root[usize::from(top)];
        let mut depth = 2;
        while entry.0 & CHILD != 0 {
            entry = self.nodes[(entry.0 & !CHILD) as usize][usize::from(address.octet(depth))];
            depth += 1;
        }
        entry.0.checked_sub(1)
    }
}

/// A table in the making.
struct Trie {
    root: Vec<Entry>,
    nodes: Vec<Node>,
}

impl Trie {
    fn insert<A: Address>(&mut self, prefix: &Prefix<A>) {
        let bits = usize::from(prefix.length).min(A::LEN * 8);
        let leaf = Entry(prefix.value + 1);
        let top = usize::from(u16::from_be_bytes([
            prefix.address.octet(0),
            prefix.address.octet(1),
        ]));
        if bits <= 16 {
            let span = 1 << (16 - bits);
            let first = top & !(span - 1);
            self.root[first..first + span].fill(leaf);
            return;
        }
        let mut node = self.child(None, top);
        let mut depth = 2;
        while bits > (depth + 1) * 8 {
            node = self.child(Some(node), usize::from(prefix.address.octet(depth)));
            depth += 1;
        }
        let span = 1 << ((depth + 1) * 8 - bits);
        let first = usize::from(prefix.address.octet(depth)) & !(span - 1);
        self.nodes[node][first..first + span].fill(leaf);
    }

    /// The child node under an entry of `parent` (`None` = root), made if need be from the value
    /// that stood there.
    fn child(&mut self, parent: Option<usize>, index: usize) -> usize {
        let entry = match parent {
            None => self.root[index],
            Some(node) => self.nodes[node][index],
        };
        if entry.0 & CHILD != 0 {
            return (entry.0 & !CHILD) as usize;
        }
        let node = self.nodes.len();
        self.nodes.push([entry; 256]);
        let pointer = Entry(CHILD | node as u32);
        match parent {
            None => self.root[index] = pointer,
            Some(parent) => self.nodes[parent][index] = pointer,
        }
        node
    }
}

impl<A: Address> Default for Lpm<A> {
    fn default() -> Self {
        Self::new(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn longest(prefixes: &[Prefix<Ipv4Addr>], address: Ipv4Addr) -> Option<u32> {
        let mut best: Option<&Prefix<Ipv4Addr>> = None;
        for prefix in prefixes {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix.length))
                .unwrap_or(0);
            let inside = (prefix.address.to_bits() ^ address.to_bits()) & mask == 0;
            if inside && best.is_none_or(|best| prefix.length >= best.length) {
                best = Some(prefix);
            }
        }
        best.map(|prefix| prefix.value)
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_linear_search(
            // Few distinct bits, so that prefixes nest and collide.
            raw in proptest::collection::vec((any::<u32>(), 0u8..=32, 0u32..1000), 0..40),
            probes in proptest::collection::vec(any::<u32>(), 0..40),
        ) {
            let squeeze = |bits: u32| Ipv4Addr::from_bits(bits & 0x0301_0387);
            let prefixes: Vec<_> = raw
                .iter()
                .map(|(bits, length, value)| Prefix { address: squeeze(*bits), length: *length, value: *value })
                .collect();
            let table = Lpm::new(&prefixes);
            for probe in probes {
                let address = squeeze(probe);
                prop_assert_eq!(table.lookup(address), longest(&prefixes, address));
            }
        }
    }

    #[test]
    fn ipv6_host_routes_lie_inside_their_subnet() {
        let at = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let table = Lpm::new(&[
            Prefix {
                address: at("2001:db8::"),
                length: 32,
                value: 1,
            },
            Prefix {
                address: at("2001:db8::7"),
                length: 128,
                value: 2,
            },
            Prefix {
                address: at("::"),
                length: 0,
                value: 3,
            },
        ]);
        assert_eq!(table.lookup(at("2001:db8::7")), Some(2));
        assert_eq!(table.lookup(at("2001:db8::8")), Some(1));
        assert_eq!(table.lookup(at("fe80::1")), Some(3));
    }
}
