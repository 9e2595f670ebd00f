//! What the kernel did in a round, as the guest wrote it down.

use crate::traffic::ServerState;
use crate::{Failure, capture};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// A round of the kernel's.
#[derive(Debug)]
pub(crate) struct Record {
    /// Frames that came off each wire, in order.
    pub(crate) out: [Vec<Vec<u8>>; 2],
    /// `ipvsadm -Ln --nosort`: how the service's line begins → scheduler, servers.
    pub(crate) services: Services,
    /// `ipvsadm -Lcn`: (protocol, client, VIP) → the rest of the line.
    pub(crate) connections: Connections,
    /// Seconds from before the first packet to behind the listing.
    pub(crate) elapsed: f64,
}

/// A line of `ipvsadm -Lcn`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Connection {
    pub(crate) state: String,
    pub(crate) destination: SocketAddr,
    /// Seconds left.
    pub(crate) expires: u64,
}

impl Record {
    /// Reads the files of a round.
    pub(crate) fn read(directory: &Path) -> Result<Self, Failure> {
        let text = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let frames = |port: u8| {
            let path = directory.join(format!("out-{port}.pcap"));
            let file = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            capture::read(&file).ok_or(format!("{}: not a whole capture", path.display()))
        };
        Ok(Self {
            out: [frames(0)?, frames(1)?],
            services: services(&text("ln")?)?,
            connections: connections(&text("lcn")?)?,
            elapsed: text("elapsed")?.trim().parse()?,
        })
    }
}

type Services = BTreeMap<String, (String, Vec<ServerState>)>;

fn services(text: &str) -> Result<Services, Failure> {
    let mut services = Services::new();
    let mut last = None;
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let bad = || format!("ipvsadm -Ln: cannot read '{line}'");
        match words[..] {
            [protocol @ ("TCP" | "UDP" | "SCTP"), vip, scheduler, ..] => {
                let key = format!("{protocol} {vip}");
                services.insert(key.clone(), (scheduler.to_owned(), Vec::new()));
                last = Some(key);
            }
            ["FWM", mark, ref rest @ ..] => {
                let (key, rest) = match rest {
                    ["IPv6", rest @ ..] => (format!("FWM {mark} IPv6"), rest),
                    rest => (format!("FWM {mark}"), rest),
                };
                let scheduler = rest.first().ok_or_else(bad)?;
                services.insert(key.clone(), ((*scheduler).to_owned(), Vec::new()));
                last = Some(key);
            }
            // The heading begins so too.
            ["->", "RemoteAddress:Port", ..] => {}
            ["->", address, method, weight, active, inactive] => {
                let key = last.as_ref().ok_or_else(bad)?;
                let (_, servers) = services.get_mut(key).ok_or_else(bad)?;
                servers.push(ServerState {
                    address: address.parse()?,
                    method: method.to_owned(),
                    weight: weight.parse()?,
                    active: active.parse()?,
                    inactive: inactive.parse()?,
                });
            }
            ["IP" | "Prot", ..] | [] => {}
            _ => return Err(bad().into()),
        }
    }
    Ok(services)
}

type Connections = BTreeMap<(String, SocketAddr, SocketAddr), Connection>;

fn connections(text: &str) -> Result<Connections, Failure> {
    let mut connections = Connections::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [protocol, expires, state, client, vip, destination] = words[..] else {
            if line.starts_with("IPVS connection entries") {
                continue;
            }
            return Err(format!("ipvsadm -Lcn: cannot read '{line}'").into());
        };
        if protocol == "pro" {
            continue;
        }
        let (minutes, seconds) = expires.split_once(':').ok_or("no time")?;
        let connection = Connection {
            state: state.to_owned(),
            destination: destination.parse()?,
            expires: minutes.parse::<u64>()? * 60 + seconds.parse::<u64>()?,
        };
        let key = (protocol.to_owned(), client.parse()?, vip.parse()?);
        if connections.insert(key, connection).is_some() {
            return Err(format!("ipvsadm -Lcn: there twice: '{line}'").into());
        }
    }
    Ok(connections)
}
