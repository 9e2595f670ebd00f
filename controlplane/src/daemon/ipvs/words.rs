//! Between the words of `ipvsadm` and those of the tables.
//!
//! What this release cannot do is refused here with a sentence, never left out.

use crate::admin::api::{
    IpvsForward, IpvsKey, IpvsRefusal, IpvsServerKey, IpvsServerSettings, IpvsSettings, IpvsTunnel,
    Netmask, Protocol, TunnelChecksum, TunnelType,
};
use crate::config::is_built;
use crate::tables::{DesiredServer, DesiredService};
use dataplane::address::{self, Family};
use dataplane::scheduler::{SchedulerFlags, SchedulerKind};
use dataplane::service::{Engine, Forward, Persistence, ServiceKey, Tunnel, TunnelKind};
use std::net::{IpAddr, Ipv4Addr};

/// Refuses what the file may not ask for either: key `key` of a service with this word.
fn need(key: &str, word: &str) -> Result<(), IpvsRefusal> {
    if is_built("virtual_server", key, word) {
        return Ok(());
    }
    let text = format!("{key} `{word}` is not supported yet");
    Err(IpvsRefusal::NotSupported(text))
}

/// The key in the tables.
pub(super) fn service_key(key: &IpvsKey) -> Result<ServiceKey, IpvsRefusal> {
    if let Some(mark) = key.fwmark {
        if mark == 0 {
            return Err(IpvsRefusal::Invalid);
        }
        return Ok(ServiceKey::of_mark(Family::of(key.address), mark));
    }
    let protocol = match key.protocol {
        Protocol::Tcp => address::Protocol::Tcp,
        Protocol::Udp => address::Protocol::Udp,
        Protocol::Sctp => address::Protocol::Sctp,
        Protocol::Ip => return Err(IpvsRefusal::Invalid),
    };
    need("protocol", &key.protocol.to_string())?;
    Ok(ServiceKey::new(protocol, key.address, key.port))
}

/// The key in listings.
pub(super) fn listed_key(key: &ServiceKey) -> IpvsKey {
    IpvsKey {
        fwmark: key.mark(),
        protocol: match key.protocol() {
            Some(address::Protocol::Tcp) => Protocol::Tcp,
            Some(address::Protocol::Udp) => Protocol::Udp,
            Some(address::Protocol::Sctp) => Protocol::Sctp,
            None => Protocol::Ip,
        },
        address: key.shown_address(),
        port: key.port(),
    }
}

/// A service without servers and with these settings, named after its address.
pub(super) fn service(
    key: ServiceKey,
    settings: &IpvsSettings,
) -> Result<DesiredService, IpvsRefusal> {
    let mut service = DesiredService::new(key, &service_name(&listed_key(&key)));
    apply(&mut service, settings)?;
    Ok(service)
}

/// Replaces the settings of a service.
pub(super) fn apply(
    service: &mut DesiredService,
    settings: &IpvsSettings,
) -> Result<(), IpvsRefusal> {
    let scheduler: SchedulerKind = settings
        .scheduler
        .parse()
        .map_err(|_| IpvsRefusal::NoEngine)?;
    need("scheduler", &settings.scheduler)?;
    let persistence = persistence(service.key.family(), settings)?;
    if persistence.is_some() {
        need("persistence", &settings.persistence.to_string())?;
    }
    if settings.one_packet {
        if !matches!(service.key.protocol(), None | Some(address::Protocol::Udp)) {
            return Err(IpvsRefusal::Invalid);
        }
        need("one_packet", "yes")?;
    }
    service.scheduler = scheduler;
    service.scheduler_flags = SchedulerFlags::with_bits(settings.flags);
    service.persistence = persistence;
    service.one_packet = settings.one_packet;
    Ok(())
}

fn persistence(
    family: Family,
    settings: &IpvsSettings,
) -> Result<Option<Persistence>, IpvsRefusal> {
    let engine = match settings.engine.as_deref() {
        None => None,
        Some("sip") => Some(Engine::Sip),
        Some(_) => return Err(IpvsRefusal::NoEngine),
    };
    let netmask = match (settings.netmask, family) {
        (None, _) => None,
        (Some(Netmask::V4(mask)), Family::V4) => {
            let length = mask.to_bits().leading_ones();
            if mask.to_bits().count_ones() != length {
                return Err(IpvsRefusal::NotSupported(format!(
                    "netmask {mask} is not supported: its ones do not stand together"
                )));
            }
            Some(length as u8).filter(|length| *length < 32)
        }
        (Some(Netmask::V6(length)), Family::V6) if (1..=128).contains(&length) => {
            Some(length).filter(|length| *length < 128)
        }
        (Some(_), _) => return Err(IpvsRefusal::Invalid),
    };
    if settings.persistence == 0 {
        if let Some(Engine::Sip) = engine {
            return Err(IpvsRefusal::NotSupported(
                "persistence engine sip does nothing without persistence: give -p with --pe"
                    .to_owned(),
            ));
        }
        return Ok(None);
    }
    let timeout = settings
        .persistence
        .checked_mul(1000)
        .ok_or(IpvsRefusal::Invalid)?;
    Ok(Some(Persistence {
        netmask,
        engine,
        ..Persistence::new(timeout)
    }))
}

/// The settings of a service, for listings.
pub(super) fn listed_settings(service: &DesiredService) -> IpvsSettings {
    let persistence = service.persistence;
    let length = persistence.and_then(|persistence| persistence.netmask);
    let netmask = length.map(|length| match service.key.family() {
        Family::V4 => Netmask::V4(Ipv4Addr::from_bits(
            u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0),
        )),
        Family::V6 => Netmask::V6(length),
    });
    let engine = persistence.and_then(|persistence| persistence.engine);
    IpvsSettings {
        scheduler: service.scheduler.name().to_owned(),
        flags: service.scheduler_flags.bits(),
        // Listed in whole seconds, a shorter one as the least there is.
        persistence: persistence.map_or(0, |persistence| persistence.timeout.div_ceil(1000)),
        netmask,
        engine: engine.map(|Engine::Sip| "sip".to_owned()),
        one_packet: service.one_packet,
    }
}

/// A server of a service with these settings, named after its address.
pub(super) fn server(
    service: &ServiceKey,
    key: IpvsServerKey,
    settings: &IpvsServerSettings,
) -> Result<DesiredServer, IpvsRefusal> {
    // In the kernel's order: numbers first, then whether there is such a server, then the address;
    // the last two are of no account to each other, because no such address is ever added.
    if settings.lower_threshold > settings.upper_threshold {
        return Err(IpvsRefusal::OutOfRange);
    }
    let unicast = match key.address {
        IpAddr::V4(address) => {
            !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
        }
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast(),
    };
    if !unicast {
        return Err(IpvsRefusal::Invalid);
    }
    let forward = match settings.forward {
        IpvsForward::Dr => Forward::Dr,
        IpvsForward::Nat => Forward::Nat,
        IpvsForward::Tunnel => Forward::Tunnel(tunnel(settings.tunnel)?),
        IpvsForward::Fullnat | IpvsForward::Local => return Err(IpvsRefusal::Invalid),
    };
    let is_tunnel = matches!(forward, Forward::Tunnel(_));
    if Family::of(key.address) != service.family() && !is_tunnel {
        return Err(IpvsRefusal::Invalid);
    }
    Ok(DesiredServer {
        name: server_name(key).into(),
        address: key.address,
        port: key.port,
        weight: settings.weight,
        forward,
        upper_threshold: settings.upper_threshold,
        lower_threshold: settings.lower_threshold,
    })
}

fn tunnel(tunnel: IpvsTunnel) -> Result<Tunnel, IpvsRefusal> {
    need("forward", "tunnel")?;
    let kind = match tunnel.kind {
        TunnelType::Ipip => TunnelKind::Ipip,
        TunnelType::Gre => TunnelKind::Gre,
        TunnelType::Gue if tunnel.port == 0 => return Err(IpvsRefusal::Invalid),
        TunnelType::Gue => TunnelKind::Gue(tunnel.port),
    };
    let checksum = match (tunnel.checksum, tunnel.kind) {
        (TunnelChecksum::None, _) => false,
        (TunnelChecksum::Full, TunnelType::Gre | TunnelType::Gue) => true,
        (TunnelChecksum::Remote, TunnelType::Gue) => {
            return Err(IpvsRefusal::NotSupported(
                "remote checksum offload is not supported yet".to_owned(),
            ));
        }
        (TunnelChecksum::Full | TunnelChecksum::Remote, _) => return Err(IpvsRefusal::Invalid),
    };
    Ok(Tunnel { kind, checksum })
}

/// The settings of a server, for listings.
pub(super) fn listed_server(server: &DesiredServer) -> IpvsServerSettings {
    let (forward, tunnel) = match server.forward {
        Forward::Dr => (IpvsForward::Dr, IpvsTunnel::default()),
        Forward::Nat => (IpvsForward::Nat, IpvsTunnel::default()),
        Forward::FullNat => (IpvsForward::Fullnat, IpvsTunnel::default()),
        Forward::Local => (IpvsForward::Local, IpvsTunnel::default()),
        Forward::Tunnel(tunnel) => (IpvsForward::Tunnel, listed_tunnel(tunnel)),
    };
    IpvsServerSettings {
        forward,
        tunnel,
        weight: server.weight,
        upper_threshold: server.upper_threshold,
        lower_threshold: server.lower_threshold,
    }
}

fn listed_tunnel(tunnel: Tunnel) -> IpvsTunnel {
    let (kind, port) = match tunnel.kind {
        TunnelKind::Ipip => (TunnelType::Ipip, 0),
        TunnelKind::Gre => (TunnelType::Gre, 0),
        TunnelKind::Gue(port) => (TunnelType::Gue, port),
    };
    let checksum = if tunnel.checksum {
        TunnelChecksum::Full
    } else {
        TunnelChecksum::None
    };
    IpvsTunnel {
        kind,
        port,
        checksum,
    }
}

/// What the file could call the section of a service that a command made: `tcp-10.0.1.50-80`.
fn service_name(key: &IpvsKey) -> String {
    match key.fwmark {
        Some(mark) if key.address.is_ipv6() => format!("fwm-{mark}-ipv6"),
        Some(mark) => format!("fwm-{mark}"),
        None => format!("{}-{}-{}", key.protocol, plain(key.address), key.port),
    }
}

fn server_name(key: IpvsServerKey) -> String {
    format!("{}-{}", plain(key.address), key.port)
}

/// An address in the letters that section names are made of.
fn plain(address: IpAddr) -> String {
    address.to_string().replace(':', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(netmask: Option<Netmask>) -> IpvsSettings {
        IpvsSettings {
            persistence: 60,
            netmask,
            ..IpvsSettings::default()
        }
    }

    fn listed_again(family: Family, settings: &IpvsSettings) -> IpvsSettings {
        let key = ServiceKey::of_mark(family, 1);
        listed_settings(&DesiredService {
            persistence: persistence(family, settings).unwrap(),
            ..DesiredService::new(key, "mark")
        })
    }

    #[test]
    fn persistence_is_listed_as_it_was_given() {
        let mask = |text: &str| Some(Netmask::V4(text.parse().unwrap()));
        for netmask in [
            None,
            mask("255.255.255.0"),
            mask("0.0.0.0"),
            mask("255.255.255.254"),
        ] {
            let given = settings(netmask);
            assert_eq!(listed_again(Family::V4, &given), given);
        }
        let given = IpvsSettings {
            engine: Some("sip".into()),
            ..settings(Some(Netmask::V6(64)))
        };
        assert_eq!(listed_again(Family::V6, &given), given);
        let whole = settings(mask("255.255.255.255"));
        assert_eq!(listed_again(Family::V4, &whole), settings(None));
    }

    #[test]
    fn masks_and_engines_that_make_no_sense_are_refused() {
        let refused = |family, netmask| persistence(family, &settings(Some(netmask))).unwrap_err();
        let gap = Netmask::V4("255.0.255.0".parse().unwrap());
        assert!(matches!(
            refused(Family::V4, gap),
            IpvsRefusal::NotSupported(_)
        ));
        assert_eq!(refused(Family::V4, Netmask::V6(24)), IpvsRefusal::Invalid);
        assert_eq!(refused(Family::V6, Netmask::V6(0)), IpvsRefusal::Invalid);
        let unknown = IpvsSettings {
            engine: Some("h323".into()),
            ..settings(None)
        };
        assert_eq!(
            persistence(Family::V4, &unknown),
            Err(IpvsRefusal::NoEngine)
        );
    }

    #[test]
    fn an_engine_without_persistence_is_refused_with_a_sentence() {
        let alone = IpvsSettings {
            persistence: 0,
            engine: Some("sip".into()),
            ..settings(None)
        };
        let refusal = persistence(Family::V4, &alone).unwrap_err();
        assert!(
            refusal.to_string().contains("give -p with --pe"),
            "{refusal}"
        );
    }

    #[test]
    fn made_names_are_such_as_sections_may_have() {
        let key = ServiceKey::new(address::Protocol::Tcp, "2001:db8::50".parse().unwrap(), 80);
        assert_eq!(service_name(&listed_key(&key)), "tcp-2001.db8..50-80");
        let mark = ServiceKey::of_mark(Family::V6, 8);
        assert_eq!(service_name(&listed_key(&mark)), "fwm-8-ipv6");
    }
}
