//! What a router answers for as far as others have to know: all its addresses, and the interface with its virtual MAC
//! (RFC 9568 section 7.3).

use crate::action::{Action, VirtualInterface};
use crate::settings::{Family, RouterSettings};
use std::net::IpAddr;

/// Asks the data plane to forward.
pub(crate) fn claim(settings: &RouterSettings) -> Action {
    Action::Claim {
        router: settings.name.clone(),
        addresses: all_addresses(settings),
        own: settings.virtual_mac.then(|| virtual_interface(settings)),
    }
}

/// Those that advertisements name first.
pub(crate) fn all_addresses(settings: &RouterSettings) -> Vec<IpAddr> {
    let all = settings.addresses.iter().chain(&settings.excluded);
    all.map(|address| address.net.addr()).collect()
}

/// The interface of its own that a router with a virtual MAC has.
pub(crate) fn virtual_interface(settings: &RouterSettings) -> VirtualInterface {
    let (prefix, kind) = match settings.family {
        Family::V4 => ("vrrp", 1),
        Family::V6 => ("vrrp6", 2),
    };
    VirtualInterface {
        name: format!("{prefix}.{}", settings.vrid).into(),
        on: settings.interface.clone(),
        mac: [0, 0, 0x5e, 0, kind, settings.vrid],
        family: settings.family,
    }
}
