//! An rtnetlink(7) request channel: changes with acknowledgement, dumps that are consistent.
//!
//! Invariant: a dump the kernel flags as interrupted (`NLM_F_DUMP_INTR`) is never returned; it is
//! taken again.

use futures::StreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::Handle;
use rustix::io::Errno;
use std::io::{Error, ErrorKind, Result};

/// A connection to the kernel's routing tables, shared by cloning.
#[derive(Clone, Debug)]
pub struct Rtnl {
    handle: Handle,
}

impl Rtnl {
    /// Connects in the network namespace of the calling thread and serves the connection on the
    /// current tokio runtime until the last clone is dropped.
    pub fn connect() -> Result<Self> {
        let (mut connection, handle, _) = rtnetlink::new_connection()?;
        // Without these an answered request and a dead connection look the same.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Sends a change and waits until the kernel has taken or refused it.
    pub(super) async fn change(&self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request).map_err(|_| lost())?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                // Code 0 is the acknowledgement.
                return match error.code {
                    Some(_) => Err(error.to_io()),
                    None => Ok(()),
                };
            }
        }
        Err(lost())
    }

    /// What `decode` makes of all objects that `request` asks for; each is decoded as it comes,
    /// because half a million of them take much less room so.
    pub(super) async fn dump<T>(
        &self,
        request: RouteNetlinkMessage,
        decode: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(request.clone(), &decode).await? {
                return Ok(objects);
            }
        }
        Err(Error::new(
            ErrorKind::WouldBlock,
            "the kernel's tables change faster than they can be read",
        ))
    }

    async fn dump_once<T>(
        &self,
        request: RouteNetlinkMessage,
        decode: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request).map_err(|_| lost())?;
        let mut objects = Vec::new();
        let mut interrupted = false;
        while let Some(answer) = answers.next().await {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(object) => objects.extend(decode(object)),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok((!interrupted).then_some(objects)),
                _ => {}
            }
        }
        Err(lost())
    }
}

/// True if the kernel refused with this error number.
pub(super) fn is(error: &Error, number: Errno) -> bool {
    error.raw_os_error() == Some(number.raw_os_error())
}

fn lost() -> Error {
    Error::new(ErrorKind::NotConnected, "the netlink connection is lost")
}

/// Interrupted dumps in a row after which the caller is told.
const DUMP_ATTEMPTS: usize = 16;

/// Flags of a change that must not touch an object that exists.
pub(super) const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// Flags of a change that overwrites an object that exists.
pub(super) const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;
