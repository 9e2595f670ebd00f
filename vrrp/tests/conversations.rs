//! Whatever happens to a box, in whatever order: nothing panics, time never stands still, each address and route that was
//! put in place is taken away again, and a stop lets go of everything within five seconds.

mod world;

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;
use vrrp::{
    Action, Centis, Input, Interface, Name, Report, RouterSettings, Settings, Tracked, Version,
    VirtualRoute,
};
use world::{Host, address, advert, group, interface, ms, router};

#[derive(Clone, Debug)]
enum Step {
    Hear(usize, u8),
    Wait(u64),
    /// The box slept: time went by and nothing ran.
    Sleep(u64),
    Link(bool, bool),
    Script(bool),
    Maintenance(bool),
    Release,
    Reload(u8),
    Claimed,
}

fn any_step() -> impl Strategy<Value = Step> {
    let priority = prop_oneof![Just(0), Just(90), Just(100), Just(255), any::<u8>()];
    prop_oneof![
        4 => (0..3_usize, priority).prop_map(|(which, priority)| Step::Hear(which, priority)),
        4 => (0..6000_u64).prop_map(Step::Wait),
        1 => (0..30_000_u64).prop_map(Step::Sleep),
        2 => any::<(bool, bool)>().prop_map(|(up, bare)| Step::Link(up, bare)),
        1 => any::<bool>().prop_map(Step::Script),
        1 => any::<bool>().prop_map(Step::Maintenance),
        1 => Just(Step::Release),
        2 => any::<u8>().prop_map(Step::Reload),
        1 => Just(Step::Claimed),
    ]
}

fn three(variant: u8) -> Settings {
    let script = || vec![(Tracked::Script("s".into()), i32::from(variant & 1) * 10)];
    let mut routers: Vec<_> = (1..=3)
        .map(|number: u8| RouterSettings {
            name: format!("VI_{number}").into(),
            vrid: 50 + number,
            addresses: vec![address(&format!("10.0.1.{}/32", 60 + number))],
            routes: (1..=variant & 3).map(route).collect(),
            tracked: script(),
            accept: variant & 2 == 0,
            ..router(100)
        })
        .collect();
    if variant & 4 != 0 {
        routers[0].version = Version::V3;
        routers[0].advert_interval = Centis(30);
    }
    if variant & 8 != 0 {
        routers[1].virtual_mac = true;
    }
    if variant & 16 != 0 {
        routers[2].addresses.push(address("10.0.1.99/32"));
    }
    if variant & 32 != 0 {
        routers.remove(0);
    }
    if variant & 64 != 0 {
        routers[0].name = "renamed".into();
    }
    let names: Vec<Name> = routers.iter().map(|router| router.name.clone()).collect();
    let members: Vec<&str> = names.iter().skip(1).map(|name| &**name).collect();
    let groups = if variant & 128 != 0 {
        vec![group(&members)]
    } else {
        vec![]
    };
    Settings { routers, groups }
}

/// The same for all who want it.
fn route(number: u8) -> VirtualRoute {
    VirtualRoute {
        destination: format!("10.{number}.0.0/16").parse().unwrap(),
        gateway: world::ip("10.0.1.254"),
        interface: None,
    }
}

fn script(host: &mut Host, up: bool) {
    let report = if up { Report::Up } else { Report::Down };
    host.handle(Input::Tracked(Tracked::Script("s".into()), report));
}

fn take(host: &mut Host, placed: &mut BTreeSet<(Name, String)>, claimed: &mut BTreeSet<Name>) {
    for action in host.take() {
        match action {
            Action::AddAddress { interface, address } => {
                placed.insert((interface, address.to_string()));
            }
            Action::RemoveAddress { interface, address } => {
                placed.remove(&(interface, address.to_string()));
            }
            Action::AddRoute { router, route } => {
                assert!(placed.insert((router, route.to_string())), "it has it");
            }
            Action::RemoveRoute { router, route } => {
                assert!(placed.remove(&(router, route.to_string())), "it has not");
            }
            Action::Claim { router, .. } => {
                claimed.insert(router);
            }
            Action::Disclaim { router } => {
                claimed.remove(&router);
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn any_conversation_ends_with_everything_let_go(
        first in any::<u8>(),
        claims in any::<bool>(),
        steps in prop::collection::vec(any_step(), 0..40),
    ) {
        let mut host = Host::new(three(first));
        host.claims = claims;
        script(&mut host, true);
        let (mut placed, mut claimed) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Hear(which, priority) => {
                    let heard = RouterSettings {
                        priority,
                        tracked: vec![],
                        ..three(0).routers[which].clone()
                    };
                    let message = advert("10.0.1.2", &heard);
                    host.receive("10.0.1.2", &message);
                }
                Step::Wait(length) => host.run(ms(length)),
                Step::Sleep(length) => host.now += ms(length),
                Step::Link(up, is_bare) => {
                    let mut told = Interface { up, ..interface("10.0.1.1") };
                    if is_bare {
                        told.addresses.clear();
                    }
                    host.handle(Input::Interface("eth0".into(), told));
                }
                Step::Script(up) => script(&mut host, up),
                Step::Maintenance(on) => host.handle(Input::Maintenance(on)),
                Step::Release => host.handle(Input::Release("VI_2".into())),
                Step::Reload(variant) => host.handle(Input::Reconfigure(three(variant))),
                Step::Claimed => host.handle(Input::Claimed("VI_3".into())),
            }
            take(&mut host, &mut placed, &mut claimed);
            // What is due is done at once, and then the next is ahead.
            host.run(Duration::ZERO);
            prop_assert!(host.next().is_none_or(|next| next > host.elapsed()));
        }
        host.handle(Input::Stop);
        host.run(ms(5000));
        take(&mut host, &mut placed, &mut claimed);
        prop_assert!(host.routers.is_idle());
        prop_assert_eq!(host.next(), None);
        prop_assert_eq!(placed, BTreeSet::new());
        prop_assert_eq!(claimed, BTreeSet::new());
    }
}
