//! How a service keeps its clients on their servers (`persistence`, `persistence_netmask`,
//! `persistence_engine`).

use std::net::IpAddr;

/// Persistence of one service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Persistence {
    /// How long a client without connections is remembered, in milliseconds.
    pub timeout: u32,
    /// Prefix length by which clients are grouped; `None` = each for itself.
    pub netmask: Option<u8>,
    /// What recognises a client besides its address.
    pub engine: Option<Engine>,
    /// Which netmask and engine these are, of those the service has had: 1 to 3 in turn.
    /// Connections find their template by them, so one from before a change looks for none.
    pub generation: u8,
}

/// A persistence engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// The Call-ID of SIP over UDP.
    Sip,
}

impl Persistence {
    /// Persistence of `timeout` milliseconds by the full address.
    pub fn new(timeout: u32) -> Self {
        Self {
            timeout,
            netmask: None,
            engine: None,
            generation: 1,
        }
    }

    /// True if clients are told apart as by `other`.
    pub fn recognises_as(&self, other: &Self) -> bool {
        self.netmask == other.netmask && self.engine == other.engine
    }

    /// `client` without the bits that do not count.
    pub fn masked(&self, client: IpAddr) -> IpAddr {
        let Some(length) = self.netmask else {
            return client;
        };
        ipnet::IpNet::new(client, length).map_or(client, |net| net.network())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_grouped_by_the_mask() {
        let all = Persistence::new(300_000);
        let client: IpAddr = "10.0.1.100".parse().unwrap();
        assert_eq!(all.masked(client), client);
        let by = |netmask| Persistence {
            netmask: Some(netmask),
            ..all
        };
        assert_eq!(by(24).masked(client).to_string(), "10.0.1.0");
        let six: IpAddr = "2001:db8::1:2".parse().unwrap();
        assert_eq!(by(64).masked(six).to_string(), "2001:db8::");
    }
}
