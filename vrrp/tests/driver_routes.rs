//! Routes of virtual routers in the kernel: put there, put back, taken away, and what is somebody else's.

mod netns;
mod puppet;

use netns::{Peer, eventually, in_namespace, ip, run};
use puppet::{Stage, add, both, of, remove, router};
use std::time::Duration;
use vrrp::driver::{Options, remove_leftovers};
use vrrp::{Action, Family, Settings, VirtualRoute};

fn route(destination: &str, gateway: &str, interface: Option<&str>) -> VirtualRoute {
    VirtualRoute {
        destination: destination.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        interface: interface.map(Into::into),
    }
}

fn want(name: &str, route: &VirtualRoute) -> Action {
    Action::AddRoute {
        router: name.into(),
        route: route.clone(),
    }
}

fn give_back(name: &str, route: &VirtualRoute) -> Action {
    Action::RemoveRoute {
        router: name.into(),
        route: route.clone(),
    }
}

/// What the kernel shows of the routes to there.
fn shown(destination: &str) -> String {
    let family = if destination.contains(':') {
        "-6"
    } else {
        "-4"
    };
    run("ip", &format!("{family} route show {destination}"))
        .trim()
        .to_owned()
}

#[test]
fn routes_are_put_into_the_main_table_and_taken_away() {
    in_namespace("routes_are_put_into_the_main_table_and_taken_away", || {
        let _peer = Peer::start();
        let near = Stage::start(&both("lan"), Options::default());
        near.interface(|_, interface| interface.up);
        let routes = [
            route("10.9.0.0/16", "10.0.1.2", None),
            route("0.0.0.0/0", "10.0.1.2", None),
            // The gateway is reached by an address that comes with it.
            route("10.8.0.0/16", "10.0.2.2", None),
            route("2001:db8:9::/48", "fe80::2", Some("lan")),
        ];
        near.act([add("lan", "10.0.2.60/24")]);
        near.act(routes.iter().map(|route| want("VI_1", route)));
        let marked = |destination| shown(destination).contains("proto 112");
        for destination in ["10.9.0.0/16", "default", "10.8.0.0/16", "2001:db8:9::/48"] {
            assert!(marked(destination), "{}", shown(destination));
        }
        assert!(shown("10.9.0.0/16").starts_with("10.9.0.0/16 via 10.0.1.2 dev lan"));
        // Two want it: it stays for the other.
        near.act([want("VI_6", &routes[0]), give_back("VI_1", &routes[0])]);
        assert!(marked("10.9.0.0/16"));
        near.act([give_back("VI_6", &routes[0])]);
        near.act(routes[1..].iter().map(|route| give_back("VI_1", route)));
        for destination in ["10.9.0.0/16", "default", "10.8.0.0/16", "2001:db8:9::/48"] {
            assert_eq!(shown(destination), "");
        }
        near.act([remove("lan", "10.0.2.60/24")]);
        assert_eq!(near.driver.counters().netlink_failures, 0);
    });
}

#[test]
fn a_route_that_went_comes_back_and_one_of_somebody_else_stays() {
    in_namespace(
        "a_route_that_went_comes_back_and_one_of_somebody_else_stays",
        || {
            let _peer = Peer::start();
            ip("route add 10.7.0.0/16 via 10.0.1.2");
            let own = route("10.9.0.0/16", "10.0.1.2", None);
            let taken = route("10.7.0.0/16", "10.0.1.3", None);
            let unreachable = route("10.6.0.0/16", "192.0.2.1", None);
            let mut settings = router("VI_1", "lan", Family::V4, 51);
            settings.routes = [&own, &taken, &unreachable].map(Clone::clone).to_vec();
            let near = Stage::start(&of([settings]), Options::default());
            near.interface(|_, interface| interface.up);
            near.act([want("VI_1", &own)]);
            ip("route del 10.9.0.0/16");
            eventually("the route is put back", || !shown("10.9.0.0/16").is_empty());
            // The kernel forgets routes of an interface that goes down.
            ip("link set lan down; link set lan up");
            eventually("it is put back again", || !shown("10.9.0.0/16").is_empty());

            near.act([want("VI_1", &unreachable)]);
            let told = near.notice("adding the route 10.6.0.0/16 via 192.0.2.1 failed");
            assert_eq!(&*told, "VI_1");
            ip("addr add 192.0.2.9/24 dev lan");
            near.notice("adding the route 10.6.0.0/16 via 192.0.2.1 works again");
            assert!(!shown("10.6.0.0/16").is_empty());

            ip("route replace 10.7.0.0/16 via 10.0.1.2");
            near.act([want("VI_1", &taken)]);
            near.notice("failed: another route to there exists");
            near.act([give_back("VI_1", &taken)]);
            assert!(shown("10.7.0.0/16").contains("via 10.0.1.2"));
            // It is as much news the next time.
            near.act([want("VI_1", &taken)]);
            near.notice("failed: another route to there exists");
            near.act([give_back("VI_1", &taken)]);
            // Somebody puts another one where ours was.
            ip("route replace 10.9.0.0/16 via 10.0.1.3");
            near.notice(
                "adding the route 10.9.0.0/16 via 10.0.1.2 failed: another route to there exists",
            );
            ip("route del 10.9.0.0/16; addr add 192.0.2.10/24 dev lan");
            near.notice("adding the route 10.9.0.0/16 via 10.0.1.2 works again");
            // However the thread ends.
            drop(near);
            assert_eq!(shown("10.9.0.0/16") + &shown("10.6.0.0/16"), "");
            assert!(shown("10.7.0.0/16").contains("via 10.0.1.2"));
        },
    );
}

/// Both cannot be there, and which one is not is said once.
#[test]
fn of_two_default_routes_by_neighbours_of_one_name_one_is_refused_once() {
    in_namespace(
        "of_two_default_routes_by_neighbours_of_one_name_one_is_refused_once",
        || {
            let _peer = Peer::start();
            ip("link add other type veth peer name rehto; link set other up; link set rehto up");
            let routes = ["lan", "other"].map(|at| route("::/0", "fe80::2", Some(at)));
            let mut settings = both("lan");
            for (router, route) in settings.routers.iter_mut().zip(&routes) {
                router.routes = vec![route.clone()];
            }
            let near = Stage::start(&settings, Options::default());
            near.interface(|_, interface| interface.up);
            eventually("other is up", || {
                run("ip", "-6 addr show dev other").contains("scope link")
                    && !run("ip", "-6 addr show dev other").contains("tentative")
            });
            near.act([want("VI_1", &routes[0]), want("VI_6", &routes[1])]);
            let expected =
                "adding the route ::/0 via fe80::2 dev other failed: another route to there exists";
            assert_eq!(&*near.notice(expected), "VI_6");
            // Three times looked for again.
            std::thread::sleep(Duration::from_millis(3500));
            let more: Vec<_> = near.driver.outcomes().try_iter().collect();
            assert!(!format!("{more:?}").contains("route"), "{more:?}");
            assert!(shown("default").is_empty());
            assert!(run("ip", "-6 route show default").contains("dev lan"));
        },
    );
}

#[test]
fn routes_that_a_killed_process_left_are_removed() {
    in_namespace("routes_that_a_killed_process_left_are_removed", || {
        let _peer = Peer::start();
        ip("route add 10.9.0.0/16 via 10.0.1.2 proto 112");
        ip("route add default via 10.0.1.2 proto 112");
        ip("-6 route add 2001:db8:9::/48 via fe80::2 dev lan proto 112");
        ip("route add 10.7.0.0/16 via 10.0.1.2; route add 10.6.0.0/16 via 10.0.1.2 proto 18");
        let done = remove_leftovers(&Settings::default()).unwrap();
        assert_eq!(done.len(), 3, "{done:?}");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        assert!(!run("ip", "route").contains("112") && !run("ip", "-6 route").contains("112"));
        assert!(!shown("10.7.0.0/16").is_empty());
        assert!(!shown("10.6.0.0/16").is_empty());
        assert!(remove_leftovers(&Settings::default()).unwrap().is_empty());
    });
}
