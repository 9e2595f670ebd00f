//! The netdev beneath a `net_af_xdp` or `net_af_packet` device, which must not speak too.
//!
//! Linux answers ARP and sends resets for addresses it has itself; frames that both Sluice and
//! Linux receive would be answered twice. Invariant: after [`silence`] Linux neither has an address
//! there nor, with af_packet, sees what arrives.

use super::ingress_drop::IngressDrop;
use super::sysctl;
use super::view::KernelView;
use ipnet::IpNet;
use std::io::Result;
use std::net::IpAddr;

/// The netdev beneath a virtual device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Underlying {
    /// How DPDK gets at its frames.
    pub driver: Driver,
    /// Its name.
    pub interface: String,
}

/// Drivers that work on a netdev of the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Driver {
    /// XDP socket: frames it takes never reach Linux.
    AfXdp,
    /// Packet socket: Linux gets a copy of every frame.
    AfPacket,
}

impl Underlying {
    /// The netdev that a device of the configuration names, if it is of such a kind.
    pub fn of(device: &str) -> Option<Self> {
        let mut parts = device.split(',').map(str::trim);
        let name = parts.next()?;
        let driver = if name.starts_with("net_af_xdp") {
            Driver::AfXdp
        } else if name.starts_with("net_af_packet") {
            Driver::AfPacket
        } else {
            return None;
        };
        let interface = parts.find_map(|part| part.strip_prefix("iface="))?.trim();
        Some(Self {
            driver,
            interface: interface.to_owned(),
        })
    }

    /// Whether the netdev carries frames. Linux knows; DPDK 22.11 takes the devices it has on one
    /// to be up whatever happens to it.
    pub fn has_carrier(&self, view: &KernelView) -> bool {
        view.link_named(&self.interface)
            .is_some_and(|link| link.up && link.lower_up)
    }

    /// Checks that the netdev may be used beside `kernel_interface`.
    ///
    /// Link-local IPv6 addresses do not count: they go when [`silence`] switches IPv6 off.
    pub fn inspect(
        &self,
        view: &KernelView,
        kernel_interface: Option<&str>,
    ) -> std::result::Result<(), Unusable> {
        let interface = self.interface.clone();
        if kernel_interface == Some(&*self.interface) {
            return Err(Unusable::SameName { interface });
        }
        let Some(link) = view.link_named(&self.interface) else {
            return Err(Unusable::Absent { interface });
        };
        let addresses: Vec<_> = view
            .addresses_of(link.index)
            .map(|address| address.address)
            .filter(|address| !is_link_local(address.addr()))
            .collect();
        if addresses.is_empty() {
            Ok(())
        } else {
            Err(Unusable::HasAddresses {
                interface,
                addresses,
            })
        }
    }
}

/// Why the netdev beneath a device may not be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// There is none of that name.
    #[error("interface {interface} does not exist")]
    Absent {
        /// Its name.
        interface: String,
    },
    /// It is also the name of the port's own kernel interface.
    #[error(
        "kernel_interface {interface} is the very interface the device works on; choose another name"
    )]
    SameName {
        /// Its name.
        interface: String,
    },
    /// Linux would answer for its addresses beside Sluice.
    #[error(
        "interface {interface} has addresses ({}); remove them, or start with --take-over to move them to the port",
        list(addresses)
    )]
    HasAddresses {
        /// Its name.
        interface: String,
        /// What it has.
        addresses: Vec<IpNet>,
    },
}

/// Makes Linux silent on the netdev: no IPv6, and with af_packet its ingress is dropped.
pub fn silence(underlying: &Underlying) -> Result<Silence> {
    let had_ipv6 = sysctl::disable_ipv6(&underlying.interface)?;
    let ingress_drop = match underlying.driver {
        Driver::AfPacket => Some(IngressDrop::set(&underlying.interface)?),
        Driver::AfXdp => None,
    };
    Ok(Silence {
        interface: underlying.interface.clone(),
        had_ipv6,
        ingress_drop,
    })
}

/// A netdev on which Linux has been made silent.
#[derive(Debug)]
#[must_use = "the netdev stays silent until it is released"]
pub struct Silence {
    interface: String,
    had_ipv6: bool,
    ingress_drop: Option<IngressDrop>,
}

impl Silence {
    /// Gives the netdev back to Linux as it was.
    pub fn release(self) -> Result<()> {
        if let Some(ingress_drop) = self.ingress_drop {
            ingress_drop.release()?;
        }
        if self.had_ipv6 {
            sysctl::set(sysctl::Half::Ipv6, &self.interface, "disable_ipv6", "0")?;
        }
        Ok(())
    }
}

/// True for addresses that go away with IPv6 on the interface.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn list(addresses: &[IpNet]) -> String {
    let texts: Vec<_> = addresses.iter().map(IpNet::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::view::{InterfaceAddress, Link};

    fn view(addresses: &[&str]) -> KernelView {
        let link = Link {
            index: 4,
            name: "eth1".into(),
            mac: None,
            alias: None,
            mtu: 1500,
            up: true,
            lower_up: true,
        };
        KernelView {
            links: [(4, link)].into(),
            addresses: addresses
                .iter()
                .map(|address| InterfaceAddress {
                    interface: 4,
                    address: address.parse().unwrap(),
                    flags: 0,
                    protocol: 0,
                })
                .collect(),
            ..KernelView::default()
        }
    }

    #[test]
    fn only_devices_on_a_netdev_have_one_beneath() {
        assert_eq!(
            Underlying::of("net_af_packet0,iface=eth1,blocksz=4096"),
            Some(Underlying {
                driver: Driver::AfPacket,
                interface: "eth1".into()
            })
        );
        assert_eq!(
            Underlying::of("net_af_xdp1, iface=eth2 ,start_queue=0")
                .unwrap()
                .driver,
            Driver::AfXdp
        );
        assert_eq!(Underlying::of("0000:3b:00.0"), None);
        assert_eq!(Underlying::of("net_memif0,role=client"), None);
    }

    #[test]
    fn a_netdev_carries_frames_while_it_is_there_up_and_connected() {
        let eth1 = Underlying::of("net_af_xdp0,iface=eth1").unwrap();
        let with = |up, lower_up| {
            let mut view = view(&[]);
            let link = view.links.get_mut(&4).unwrap();
            (link.up, link.lower_up) = (up, lower_up);
            eth1.has_carrier(&view)
        };
        assert!(with(true, true));
        assert!(!with(true, false));
        assert!(!with(false, false));
        assert!(!eth1.has_carrier(&KernelView::default()));
    }

    #[test]
    fn a_netdev_with_addresses_or_the_ports_own_name_is_refused() {
        let eth1 = Underlying::of("net_af_xdp0,iface=eth1").unwrap();
        assert_eq!(eth1.inspect(&view(&["fe80::1/64"]), Some("lan")), Ok(()));
        let refused = eth1.inspect(&view(&["10.0.0.1/24"]), Some("lan"));
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("has addresses (10.0.0.1/24)")
        );
        assert!(matches!(
            eth1.inspect(&view(&[]), Some("eth1")),
            Err(Unusable::SameName { .. })
        ));
        let gone = Underlying::of("net_af_xdp0,iface=eth9").unwrap();
        assert!(matches!(
            gone.inspect(&view(&[]), None),
            Err(Unusable::Absent { .. })
        ));
    }
}
