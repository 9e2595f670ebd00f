//! The addresses of virtual routers (VRRP), as far as the workers care (DESIGN §6, "Serving a VIP").
//!
//! Invariant: a claim is about forwarding only. What is for the Linux stack is decided by the
//! addresses the box has, never by a claim: a packet for a claimed address that is neither on the
//! box nor for a service is dropped, and never goes back to the LAN.

use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;
use std::net::IpAddr;

/// Which addresses belong to virtual routers, and for which of them this box forwards.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VirtualAddresses {
    /// Those of all virtual routers of the configuration, Active here or not.
    configured: HashSet<IpAddr, FxBuildHasher>,
    /// Those this box forwards for: its routers are Active, or leave and wait for a peer to speak.
    claimed: HashSet<IpAddr, FxBuildHasher>,
}

impl VirtualAddresses {
    /// `claimed` need not be part of `configured`: a router that is no longer configured may still
    /// be on its way out.
    pub fn new(
        configured: impl IntoIterator<Item = IpAddr>,
        claimed: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        Self {
            configured: configured.into_iter().collect(),
            claimed: claimed.into_iter().collect(),
        }
    }

    /// True if this box forwards for the address.
    #[inline]
    pub fn is_claimed(&self, address: IpAddr) -> bool {
        !self.claimed.is_empty() && self.claimed.contains(&address)
    }

    /// True if the address is a virtual router's.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.configured.contains(&address) || self.is_claimed(address)
    }
}
