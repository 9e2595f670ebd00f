//! A box under test: routers, an interface, and what they want done with the time they wanted it.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part of this"
)]

use std::net::IpAddr;
use std::time::{Duration, Instant};
use vrrp::{
    Action, AddressCheck, Announcing, Centis, Checksum, Event, Family, GroupSettings, Initial,
    Input, Interface, Name, Packet, RouterSettings, RouterStatus, Routers, Settings, Standing,
    Transmission, Version, VirtualAddress,
};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn address(net: &str) -> VirtualAddress {
    VirtualAddress {
        net: net.parse().unwrap(),
        interface: None,
    }
}

/// Version 2, VRID 51, every second, one address.
pub(crate) fn router(priority: u8) -> RouterSettings {
    RouterSettings {
        name: "VI_1".into(),
        interface: "eth0".into(),
        family: Family::V4,
        version: Version::V2,
        initial: Initial::Backup,
        vrid: 51,
        priority,
        advert_interval: Centis(100),
        down_timer_adverts: 3,
        password: None,
        addresses: vec![address("10.0.1.60/32")],
        excluded: vec![],
        routes: vec![],
        preempt: true,
        preempt_delay: Duration::ZERO,
        accept: true,
        source: None,
        peers: vec![],
        unicast_ttl: 255,
        virtual_mac: false,
        announcing: Announcing {
            delay: Duration::from_secs(5),
            repeat: 5,
            refresh: None,
        },
        address_check: AddressCheck::Warn,
        checksum: Checksum::PseudoHeader,
        tracked: vec![],
    }
}

/// Version 3, every half second.
pub(crate) fn router_v3(priority: u8) -> RouterSettings {
    RouterSettings {
        version: Version::V3,
        advert_interval: Centis(50),
        ..router(priority)
    }
}

pub(crate) fn settings(routers: impl IntoIterator<Item = RouterSettings>) -> Settings {
    Settings {
        routers: routers.into_iter().collect(),
        groups: vec![],
    }
}

pub(crate) fn group(members: &[&str]) -> GroupSettings {
    GroupSettings {
        name: "VG".into(),
        members: members.iter().map(|&name| name.into()).collect(),
    }
}

pub(crate) fn interface(address: &str) -> Interface {
    Interface {
        index: 2,
        up: true,
        mac: Some([2, 0, 0, 0, 0, 1]),
        addresses: vec![
            format!("{address}/24").parse().unwrap(),
            "fe80::1/64".parse().unwrap(),
        ],
    }
}

pub(crate) struct Host {
    pub(crate) routers: Routers,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) actions: Vec<(Duration, Action)>,
    /// Answers claims at once, as without a data plane.
    pub(crate) claims: bool,
}

impl Host {
    /// With `eth0` at 10.0.1.1 told of at time 0.
    pub(crate) fn new(settings: Settings) -> Self {
        let mut host = Self::bare(settings);
        host.handle(Input::Interface("eth0".into(), interface("10.0.1.1")));
        host
    }

    pub(crate) fn bare(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            routers: Routers::new(settings, now),
            start: now,
            now,
            actions: vec![],
            claims: true,
        }
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.routers.handle(input, self.now);
        self.collect();
    }

    pub(crate) fn collect(&mut self) {
        while let Some(action) = self.routers.next_action() {
            let claim = match &action {
                Action::Claim { router, .. } if self.claims => Some(router.clone()),
                _ => None,
            };
            self.actions.push((self.now - self.start, action));
            if let Some(router) = claim {
                self.routers.handle(Input::Claimed(router), self.now);
            }
        }
    }

    /// Lets time pass, doing what is due when it is due.
    pub(crate) fn run_until(&mut self, at: Duration) {
        let end = self.start + at;
        while let Some(next) = self.routers.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.routers.expire(self.now);
            self.collect();
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn run(&mut self, length: Duration) {
        self.run_until(self.now - self.start + length);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn receive(&mut self, source: &str, message: &[u8]) {
        self.receive_at("eth0", source, message);
    }

    pub(crate) fn receive_at(&mut self, interface: &str, source: &str, message: &[u8]) {
        let source = ip(source);
        self.handle(Input::Packet(Packet {
            interface,
            source,
            destination: if source.is_ipv4() {
                ip("224.0.0.18")
            } else {
                ip("ff02::12")
            },
            hop_limit: 255,
            message,
        }));
    }

    /// An advertisement of the router with these settings.
    pub(crate) fn hear(&mut self, source: &str, settings: &RouterSettings) {
        let message = advert(source, settings);
        let interface = settings.interface.clone();
        self.receive_at(&interface, source, &message);
    }

    /// Hears it now and every `interval` until then.
    pub(crate) fn hear_until(
        &mut self,
        source: &str,
        settings: &RouterSettings,
        interval: Duration,
        end: Duration,
    ) {
        while self.elapsed() <= end {
            self.hear(source, settings);
            self.run(interval);
        }
    }

    pub(crate) fn status(&self) -> RouterStatus {
        self.routers.status(self.now).remove(0)
    }

    pub(crate) fn standing(&self) -> Standing {
        self.status().standing
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.routers.next_deadline().map(|next| next - self.start)
    }

    /// What was wanted since last asked.
    pub(crate) fn take(&mut self) -> Vec<Action> {
        self.actions.drain(..).map(|(_, action)| action).collect()
    }

    /// In words, without complaints and notices.
    pub(crate) fn words(&mut self) -> Vec<String> {
        self.take().iter().filter_map(word).collect()
    }

    pub(crate) fn sent(&self) -> Vec<(Duration, Transmission)> {
        let all = self.actions.iter();
        all.filter_map(|(at, action)| match action {
            Action::Send(transmission) => Some((*at, transmission.clone())),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn transitions(&self) -> Vec<(Duration, Standing)> {
        let all = self.actions.iter();
        all.filter_map(|(at, action)| match action {
            Action::Tell(Event::Transition(transition)) => Some((*at, transition.to)),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.status().counters[name]
    }
}

/// One action in a few words: `send 100`, `claim`, `+10.0.1.60`, `-10.0.1.60`, `tell 10.0.1.60`, `VI_1 MASTER`, ...
pub(crate) fn word(action: &Action) -> Option<String> {
    Some(match action {
        Action::Send(transmission) => format!("send {}", transmission.message[2]),
        Action::Claim { .. } => "claim".into(),
        Action::Disclaim { .. } => "disclaim".into(),
        Action::AddAddress { address, .. } => format!("+{}", address.addr()),
        Action::RemoveAddress { address, .. } => format!("-{}", address.addr()),
        Action::Announce { address, .. } => format!("announce {address}"),
        Action::AddRoute { route, .. } => format!("+{route}"),
        Action::RemoveRoute { route, .. } => format!("-{route}"),
        Action::MakeInterface(made) => format!("make {}", made.name),
        Action::RemoveInterface { name } => format!("unmake {name}"),
        Action::Refuse { addresses, .. } if addresses.is_empty() => "accept".into(),
        Action::Refuse { .. } => "refuse".into(),
        Action::Tell(Event::Transition(to)) => format!("{} {}", to.name, to.to.word()),
        Action::Tell(_) => return None,
    })
}

/// What a router with these settings sends from this address: it is made Active and listened to.
pub(crate) fn advert(source: &str, settings: &RouterSettings) -> Vec<u8> {
    let mut own = settings.clone();
    own.source = Some(ip(source));
    own.priority = own.priority.max(1);
    own.tracked = vec![];
    own.virtual_mac = false;
    let name: Name = own.interface.clone();
    let mut host = Host::bare(self::settings([own]));
    host.handle(Input::Interface(name, interface("10.0.1.254")));
    let end = host.routers.next_deadline().unwrap() - host.start;
    host.run_until(end);
    if settings.priority == 0 {
        host.handle(Input::Stop);
    }
    host.sent().last().unwrap().1.message.clone()
}
