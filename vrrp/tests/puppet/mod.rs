//! A state machine that only writes down what it is told and says what the test has it say, with a driver around it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "compiled into several test programs, none of which uses all of it"
)]

use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vrrp::driver::{Driver, Machine, Options, Outcome};
use vrrp::{
    Action, AddressCheck, Announcing, Centis, Checksum, Event, Family, Initial, Input, Interface,
    Name, Report, RouterSettings, RouterStatus, Settings, Tracked, Transmission, Version,
    VirtualAddress,
};

pub const SOON: Duration = Duration::from_secs(20);
/// Long enough for what must not happen to have happened.
pub const WHILE: Duration = Duration::from_millis(150);

/// What the state machine was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Packet {
        interface: String,
        source: IpAddr,
        destination: IpAddr,
        hop_limit: u8,
        message: Vec<u8>,
    },
    Interface(Name, Interface),
    Claimed(Name),
    Tracked(Tracked, Report),
    Maintenance,
    Stop,
    Expired,
}

/// A state machine without a mind of its own.
struct Puppet {
    told: Sender<(Told, Instant)>,
    actions: Receiver<Action>,
    deadline: Arc<Mutex<Option<Instant>>>,
}

impl Machine for Puppet {
    fn handle(&mut self, input: Input<'_>, _now: Instant) {
        let told = match input {
            Input::Packet(packet) => Told::Packet {
                interface: packet.interface.into(),
                source: packet.source,
                destination: packet.destination,
                hop_limit: packet.hop_limit,
                message: packet.message.to_vec(),
            },
            Input::Interface(name, interface) => Told::Interface(name, interface),
            Input::Claimed(name) => Told::Claimed(name),
            Input::Tracked(tracked, report) => Told::Tracked(tracked, report),
            Input::Maintenance(_) => Told::Maintenance,
            Input::Stop => Told::Stop,
            _ => return,
        };
        let _ = self.told.send((told, Instant::now()));
    }

    fn expire(&mut self, now: Instant) {
        let mut deadline = self.deadline.lock().unwrap();
        if deadline.is_some_and(|deadline| deadline <= now) {
            *deadline = None;
            let _ = self.told.send((Told::Expired, Instant::now()));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap()
    }

    fn next_action(&mut self) -> Option<Action> {
        self.actions.try_recv().ok()
    }

    fn status(&self, _now: Instant) -> Vec<RouterStatus> {
        Vec::new()
    }

    fn counters(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}

/// A driver with its puppet.
pub struct Stage {
    pub driver: Driver,
    pub told: Receiver<(Told, Instant)>,
    pub actions: Sender<Action>,
    pub deadline: Arc<Mutex<Option<Instant>>>,
}

impl Stage {
    pub fn start(settings: &Settings, options: Options) -> Self {
        let (told_by, told) = unbounded();
        let (actions, to_do) = unbounded();
        let deadline = Arc::default();
        let puppet = Puppet {
            told: told_by,
            actions: to_do,
            deadline: Arc::clone(&deadline),
        };
        let driver = Driver::start_with(puppet, settings, options).unwrap();
        Self {
            driver,
            told,
            actions,
            deadline,
        }
    }

    /// Has it do something, and waits until it has been done.
    pub fn act(&self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            self.actions.send(action).unwrap();
        }
        // Answered at the end of a round.
        self.driver.status(SOON).unwrap();
        assert!(self.actions.is_empty(), "an answer before what was to do");
    }

    /// The next that is told and satisfies `wanted`.
    pub fn told<T>(&self, wanted: impl Fn(Told) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        let mut others = Vec::new();
        loop {
            match self.told.recv_deadline(end) {
                Ok((told, _)) => match wanted(told.clone()) {
                    Some(wanted) => return wanted,
                    None => others.push(told),
                },
                Err(error) => panic!("not told ({error}); but: {others:#?}"),
            }
        }
    }

    pub fn interface(&self, wanted: impl Fn(&str, &Interface) -> bool) -> Interface {
        self.told(|told| match told {
            Told::Interface(name, interface) if wanted(&name, &interface) => Some(interface),
            _ => None,
        })
    }

    pub fn packet(&self) -> Told {
        self.told(|told| matches!(told, Told::Packet { .. }).then_some(told))
    }

    pub fn no_packet(&self) {
        let end = Instant::now() + WHILE;
        while let Ok((told, _)) = self.told.recv_deadline(end) {
            assert!(!matches!(told, Told::Packet { .. }), "{told:?}");
        }
    }

    pub fn notice(&self, containing: &str) -> Name {
        let end = Instant::now() + SOON;
        let outcomes = self.driver.outcomes();
        loop {
            if let Outcome::Event {
                event: Event::Notice { router, what } | Event::Trouble { router, what },
                ..
            } = outcomes
                .recv_deadline(end)
                .unwrap_or_else(|_| panic!("not told: {containing}"))
                && what.contains(containing)
            {
                return router;
            }
        }
    }
}

pub fn router(name: &str, interface: &str, family: Family, vrid: u8) -> RouterSettings {
    RouterSettings {
        name: name.into(),
        interface: interface.into(),
        family,
        version: Version::V3,
        initial: Initial::Backup,
        vrid,
        priority: 100,
        advert_interval: Centis(10),
        down_timer_adverts: 3,
        password: None,
        addresses: vec![match family {
            Family::V4 => vip("10.0.1.60/32"),
            Family::V6 => vip("fe80::60/128"),
        }],
        excluded: Vec::new(),
        routes: Vec::new(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        accept: true,
        source: None,
        peers: Vec::new(),
        unicast_ttl: 255,
        virtual_mac: false,
        announcing: Announcing {
            delay: Duration::from_secs(5),
            repeat: 5,
            refresh: None,
        },
        address_check: AddressCheck::Warn,
        checksum: Checksum::PseudoHeader,
        tracked: Vec::new(),
    }
}

pub fn vip(net: &str) -> VirtualAddress {
    VirtualAddress {
        net: net.parse().unwrap(),
        interface: None,
    }
}

pub fn of(routers: impl IntoIterator<Item = RouterSettings>) -> Settings {
    Settings {
        routers: routers.into_iter().collect(),
        groups: Vec::new(),
    }
}

pub fn both(interface: &str) -> Settings {
    of([
        router("VI_1", interface, Family::V4, 51),
        router("VI_6", interface, Family::V6, 51),
    ])
}

pub fn advert(interface: &str, source: &str, destination: &str, vrid: u8) -> Transmission {
    Transmission {
        interface: interface.into(),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        hop_limit: 255,
        identification: 0x1234,
        message: vec![0x31, vrid, 100, 1, 0, 10, 0, 0, 10, 0, 1, 60],
    }
}

pub fn add(interface: &str, address: &str) -> Action {
    Action::AddAddress {
        interface: interface.into(),
        address: address.parse().unwrap(),
    }
}

pub fn remove(interface: &str, address: &str) -> Action {
    Action::RemoveAddress {
        interface: interface.into(),
        address: address.parse().unwrap(),
    }
}
