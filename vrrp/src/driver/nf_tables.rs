//! What is said to nf_tables by netlink (nfnetlink, linux/netfilter/nf_tables.h): tables, chains and rules.
//!
//! Public for what else of a box is hidden from Linux; written by hand as all of [`netlink`](super::netlink) is.

use super::netlink::{NETFILTER, NLM_F_APPEND, NLM_F_CREATE, Netlink, attribute, nested, text};
use std::io::Result;

/// A socket to nf_tables. What it owns ([`Table::create_owned`]) goes when it is dropped, whatever ended its process.
#[derive(Debug)]
pub struct NfTables(Netlink);

impl NfTables {
    /// Opens one. That nf_tables is missing shows only with the first transaction.
    pub fn open() -> Result<Self> {
        Netlink::open(NETFILTER).map(Self)
    }

    /// Makes all of these changes or none; an error is the first refusal.
    pub fn transaction(&mut self, changes: &[Change]) -> Result<()> {
        let messages = changes.iter().map(|it| (it.kind, it.flags, &it.body[..]));
        self.0.transaction(SUBSYSTEM, messages)
    }

    /// A number for the names of its tables: no other such socket of the network namespace has it.
    pub fn id(&self) -> Result<u32> {
        self.0.port()
    }
}

/// One of the changes of a transaction.
#[derive(Clone, Debug)]
pub struct Change {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// All frames of an interface.
    Netdev = 5,
}

/// A table, by its name.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// Which packets it sees.
    pub family: Family,
    /// Its name, its family's own.
    pub name: &'a str,
}

impl Table<'_> {
    /// Makes it if it is not there.
    pub fn create(self) -> Change {
        self.change(NEW_TABLE, NLM_F_CREATE, &[])
    }

    /// The same, owned by the socket (`NFT_TABLE_F_OWNER`, Linux 5.12).
    pub fn create_owned(self) -> Change {
        self.change(NEW_TABLE, NLM_F_CREATE, &[number(TABLE_FLAGS, OWNER)])
    }

    /// Removes it with all that is in it.
    pub fn delete(self) -> Change {
        self.change(DELETE_TABLE, 0, &[])
    }

    /// Makes a chain on a hook; `policy` ([`ACCEPT`], [`DROP`]) decides what no rule does.
    pub fn chain(self, name: &str, hook: Hook<'_>, policy: u32) -> Change {
        let attributes = [
            text(CHAIN_NAME, name),
            nested(CHAIN_HOOK, &hook.attributes()),
            text(CHAIN_TYPE, "filter"),
            number(CHAIN_POLICY, policy),
        ];
        self.change(NEW_CHAIN, NLM_F_CREATE, &attributes)
    }

    /// Appends a rule.
    pub(super) fn rule(self, chain: &str, expressions: &[Vec<u8>]) -> Change {
        let attributes = [
            text(RULE_CHAIN, chain),
            nested(RULE_EXPRESSIONS, expressions),
        ];
        self.change(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, &attributes)
    }

    fn change(self, kind: u16, flags: u16, attributes: &[Vec<u8>]) -> Change {
        // `struct nfgenmsg`.
        let mut body = vec![self.family as u8, 0, 0, 0];
        body.extend(text(NAME, self.name));
        body.extend(attributes.concat());
        Change { kind, flags, body }
    }
}

/// Where a chain sees packets.
#[derive(Clone, Copy, Debug)]
pub enum Hook<'a> {
    /// On their way to a program of this box.
    LocalIn,
    /// On their way from one.
    LocalOut,
    /// As they arrive on this interface, before Linux looks at them; packet sockets see them earlier.
    Ingress(&'a str),
}

impl Hook<'_> {
    fn attributes(self) -> Vec<Vec<u8>> {
        let at = |hook| vec![number(HOOK_NUMBER, hook), number(HOOK_PRIORITY, 0)];
        match self {
            Self::LocalIn => at(1),
            Self::LocalOut => at(3),
            Self::Ingress(interface) => [at(0), vec![text(HOOK_DEVICE, interface)]].concat(),
        }
    }
}

/// Loads something about the packet.
pub(super) fn meta(key: u32) -> Vec<u8> {
    expression("meta", &[number(1, REGISTER), number(2, key)])
}

/// Loads bytes of the packet.
pub(super) fn payload(base: u32, offset: u32, length: u32) -> Vec<u8> {
    expression(
        "payload",
        &[
            number(1, REGISTER),
            number(2, base),
            number(3, offset),
            number(4, length),
        ],
    )
}

/// Goes on with the rule only if this holds for what was loaded.
pub(super) fn compare(operator: u32, value: &[u8]) -> Vec<u8> {
    let data = nested(3, &[attribute(1, value)]);
    expression("cmp", &[number(1, REGISTER), number(2, operator), data])
}

/// What becomes of the packet.
pub(super) fn verdict(code: u32) -> Vec<u8> {
    let data = nested(2, &[nested(2, &[number(1, code)])]);
    expression("immediate", &[number(1, 0), data])
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, data)])
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
/// The table's name: the first attribute of tables, chains and rules alike.
const NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const OWNER: u32 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
/// The packet goes no further.
pub const DROP: u32 = 0;
/// The packet goes on.
pub const ACCEPT: u32 = 1;
const REGISTER: u32 = 1;
pub(super) const OUT_NAME: u32 = 7;
pub(super) const NFPROTO: u32 = 15;
pub(super) const L4PROTO: u32 = 16;
pub(super) const NETWORK: u32 = 1;
pub(super) const TRANSPORT: u32 = 2;
pub(super) const EQUAL: u32 = 0;
pub(super) const AT_MOST: u32 = 3;
pub(super) const AT_LEAST: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        assert_eq!(text(3, "a"), [6, 0, 3, 0, b'a', 0, 0, 0]);
        assert_eq!(number(1, 0x0102_0304), [8, 0, 1, 0, 1, 2, 3, 4]);
        assert_eq!(
            nested(4, &[number(2, 0)]),
            [12, 0, 4, 0x80, 8, 0, 2, 0, 0, 0, 0, 0]
        );
    }
}
