//! Hides from Linux what arrives on an interface: an nf_tables chain at its ingress whose policy is
//! to drop.
//!
//! Packet sockets are served before the ingress hook, so `net_af_packet` still gets every frame.
//! nf_tables rather than tc, because the chain alone does it: no classifier and no action, which
//! small kernels lack. One table of the `netdev` family, `sluice`, with a chain per interface;
//! setting what is set already changes nothing (nfnetlink, linux/netfilter/nf_tables.h).

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use std::io::{Error, ErrorKind, Result};

/// Drops what arrives on `interface` before Linux sees it.
pub fn set(interface: &str) -> Result<()> {
    commit(&[
        message(NEWTABLE, NLM_F_CREATE, &text(TABLE_NAME, TABLE)),
        message(
            NEWCHAIN,
            NLM_F_CREATE,
            &[
                text(CHAIN_TABLE, TABLE),
                text(CHAIN_NAME, interface),
                nested(
                    CHAIN_HOOK,
                    &[
                        number(HOOK_NUMBER, NETDEV_INGRESS),
                        number(HOOK_PRIORITY, 0),
                        text(HOOK_DEVICE, interface),
                    ]
                    .concat(),
                ),
                text(CHAIN_TYPE, "filter"),
                number(CHAIN_POLICY, NF_DROP),
            ]
            .concat(),
        ),
    ])
    .map_err(|error| describe(interface, &error))
}

/// Lets Linux see again what arrives on `interface`. One that was not set is no error.
pub fn unset(interface: &str) -> Result<()> {
    let chain = [text(CHAIN_TABLE, TABLE), text(CHAIN_NAME, interface)].concat();
    match commit(&[message(DELCHAIN, 0, &chain)]) {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
        result => result.map_err(|error| describe(interface, &error)),
    }
}

fn describe(interface: &str, error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!("cannot change the ingress filter of {interface} (nf_tables): {error}"),
    )
}

/// Sends a transaction and waits for the answer to each of its messages.
fn commit(messages: &[Message]) -> Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    let mut batch = Vec::new();
    frame(
        &mut batch,
        BATCH_BEGIN,
        NLM_F_REQUEST,
        0,
        &header(0, SUBSYSTEM),
    );
    for (index, message) in messages.iter().enumerate() {
        let body = [&header(FAMILY_NETDEV, 0)[..], &message.attributes].concat();
        let kind = SUBSYSTEM << 8 | message.kind;
        let flags = NLM_F_REQUEST | NLM_F_ACK | message.flags;
        frame(&mut batch, kind, flags, index as u32 + 1, &body);
    }
    let last = messages.len() as u32 + 1;
    frame(
        &mut batch,
        BATCH_END,
        NLM_F_REQUEST,
        last,
        &header(0, SUBSYSTEM),
    );
    socket.send_to(&batch, &SocketAddr::new(0, 0), 0)?;
    let mut answered = 0;
    while answered < messages.len() {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while let Some(answer) = Answer::first(rest) {
            if answer.kind == NLMSG_ERROR {
                // The kernel reports refusals as negative numbers, success as 0.
                if answer.code != 0 {
                    return Err(Error::from_raw_os_error(-answer.code));
                }
                answered += 1;
            }
            rest = rest.get(answer.length..).unwrap_or_default();
        }
        if bytes.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// One message of a transaction.
struct Message {
    kind: u16,
    flags: u16,
    attributes: Vec<u8>,
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Message {
    Message {
        kind,
        flags,
        attributes: attributes.to_vec(),
    }
}

struct Answer {
    kind: u16,
    length: usize,
    code: i32,
}

impl Answer {
    fn first(bytes: &[u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
        let code = bytes.get(16..).and_then(<[u8]>::first_chunk);
        (length >= NLMSG_HEADER).then_some(Self {
            kind,
            length: length.next_multiple_of(4),
            code: code.map_or(0, |code| i32::from_ne_bytes(*code)),
        })
    }
}

/// Appends a netlink message.
fn frame(batch: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    batch.extend(((NLMSG_HEADER + body.len()) as u32).to_ne_bytes());
    batch.extend(kind.to_ne_bytes());
    batch.extend(flags.to_ne_bytes());
    batch.extend(sequence.to_ne_bytes());
    batch.extend(0u32.to_ne_bytes());
    batch.extend(body);
    batch.resize(batch.len().next_multiple_of(4), 0);
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, value)
}

const TABLE: &str = "sluice";

const NLMSG_HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 1 << 15;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;
const FAMILY_NETDEV: u8 = 5;
const NEWTABLE: u16 = 0;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const NETDEV_INGRESS: u32 = 0;
const NF_DROP: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        assert_eq!(text(3, "a"), [6, 0, 3, 0, b'a', 0, 0, 0]);
        assert_eq!(number(1, 0x0102_0304), [8, 0, 1, 0, 1, 2, 3, 4]);
        assert_eq!(
            nested(4, &number(2, 0)),
            [12, 0, 4, 0x80, 8, 0, 2, 0, 0, 0, 0, 0]
        );
    }
}
