//! The mirror, addresses, routes and neighbours against a real kernel in a namespace of its own.

mod kernel_netns;

use controlplane::kernel::addresses::{Addresses, Put};
use controlplane::kernel::forwarding_view::{Builder, PortBinding};
use controlplane::kernel::ingress_drop::IngressDrop;
use controlplane::kernel::left_behind::{self, LeftBehind};
use controlplane::kernel::link::Links;
use controlplane::kernel::mirror::Mirror;
use controlplane::kernel::neighbours::Neighbours;
use controlplane::kernel::netlink::Rtnl;
use controlplane::kernel::routes::{Routes, StaticRoute};
use controlplane::kernel::take_over::TakeOver;
use controlplane::kernel::view::{
    InterfaceAddress, KernelHop, KernelView, NudState, RouteKind, RouteTable,
};
use controlplane::kernel::{PROTOCOL, sysctl, underlying};
use dataplane::forwarding::Resolution;
use dataplane::packet::MacAddress;
use dataplane::verdict::{Neighbour, PortId};
use ipnet::IpNet;
use kernel_netns::{Peer, at, eventually, in_namespace, ip};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What operators are promised.
const SECOND: Duration = Duration::from_secs(1);
/// What a busy machine is given where nothing is promised.
const SOON: Duration = Duration::from_secs(20);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn main_route<'a>(
    view: &'a KernelView,
    prefix: &str,
) -> Option<&'a controlplane::kernel::view::KernelRoute> {
    let prefix = net(prefix);
    view.routes
        .iter()
        .find(|route| route.table == RouteTable::Main && route.prefix == prefix)
}

#[test]
fn addresses_show_within_a_second_of_being_added_and_removed() {
    in_namespace(
        "addresses_show_within_a_second_of_being_added_and_removed",
        async || {
            ip("link add lan type veth peer name far; link set lan up; link set far up");
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let lan = views.borrow().link_named("lan").unwrap().clone();
            assert!(lan.up && lan.mtu == 1500 && lan.mac.is_some());
            ip("addr add 10.0.1.1/24 dev lan");
            eventually(&mut views, "the address", SECOND, |view| {
                view.has_address(at("10.0.1.1"))
            })
            .await;
            // Routes that take long to read come in a later view.
            let view = eventually(&mut views, "the connected route", SOON, |view| {
                main_route(view, "10.0.1.0/24").is_some()
            })
            .await;
            let connected = main_route(&view, "10.0.1.0/24").unwrap();
            assert_eq!(connected.preferred_source, Some(at("10.0.1.1")));
            assert!(view.routes.iter().any(|route| {
                route.table == RouteTable::Local
                    && route.kind == RouteKind::Local
                    && route.prefix == net("10.0.1.1/32")
            }));
            ip("addr del 10.0.1.1/24 dev lan");
            eventually(&mut views, "its removal", SECOND, |view| {
                !view.has_address(at("10.0.1.1"))
            })
            .await;
            eventually(&mut views, "the route goes with it", SOON, |view| {
                main_route(view, "10.0.1.0/24").is_none()
            })
            .await;
            ip("link set lan mtu 1400");
            eventually(&mut views, "the new MTU", SECOND, |view| {
                view.links[&lan.index].mtu == 1400
            })
            .await;
        },
    );
}

#[test]
fn routes_with_one_and_several_hops_are_mirrored_and_the_lowest_metric_wins() {
    in_namespace(
        "routes_with_one_and_several_hops_are_mirrored_and_the_lowest_metric_wins",
        async || {
            ip("link add lan type veth peer name far; link set lan up; link set far up");
            ip("addr add 10.0.1.1/24 dev lan; addr add fd00:1::1/64 dev lan nodad");
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let lan = views.borrow().link_named("lan").unwrap().index;
            let hop = |gateway: &str, weight| KernelHop {
                interface: lan,
                gateway: Some(at(gateway)),
                weight,
            };
            ip("route add 10.5.0.0/16 via 10.0.1.9 metric 20");
            ip("route add 10.5.0.0/16 via 10.0.1.8 metric 10 mtu 1300");
            ip("route add 10.6.0.0/16 nexthop via 10.0.1.7 weight 1 nexthop via 10.0.1.8 weight 3");
            ip("route add blackhole 10.7.0.0/16");
            ip("-6 route add fd00:6::/64 nexthop via fd00:1::7 nexthop via fd00:1::8");
            ip("nexthop add id 5 via 10.0.1.6 dev lan; route add 10.8.0.0/16 nhid 5");
            let view = eventually(&mut views, "all routes", SOON, |view| {
                main_route(view, "10.8.0.0/16").is_some()
            })
            .await;
            let best = main_route(&view, "10.5.0.0/16").unwrap();
            assert_eq!((best.metric, best.mtu), (10, Some(1300)));
            assert_eq!(best.hops, [hop("10.0.1.8", 1)]);
            let ecmp = main_route(&view, "10.6.0.0/16").unwrap();
            assert_eq!(ecmp.hops, [hop("10.0.1.7", 1), hop("10.0.1.8", 3)]);
            let six = main_route(&view, "fd00:6::/64").unwrap();
            assert_eq!(six.hops, [hop("fd00:1::7", 1), hop("fd00:1::8", 1)]);
            let black = main_route(&view, "10.7.0.0/16").unwrap();
            assert_eq!(black.kind, RouteKind::Blackhole);
            let object = main_route(&view, "10.8.0.0/16").unwrap();
            assert_eq!(object.hops, [hop("10.0.1.6", 1)]);

            ip("-6 route del fd00:6::/64 via fd00:1::7");
            eventually(&mut views, "one IPv6 hop less", SOON, |view| {
                main_route(view, "fd00:6::/64").is_some_and(|route| route.hops.len() == 1)
            })
            .await;
            // Linux removes IPv4 routes of an interface that goes down without a notification.
            ip("link set lan down");
            eventually(&mut views, "the routes go with the link", SOON, |view| {
                main_route(view, "10.5.0.0/16").is_none()
                    && main_route(view, "10.6.0.0/16").is_none()
            })
            .await;
        },
    );
}

#[test]
fn addresses_put_are_marked_kept_across_a_restart_and_foreign_ones_never_removed() {
    in_namespace(
        "addresses_put_are_marked_kept_across_a_restart_and_foreign_ones_never_removed",
        async || {
            ip("link add lan type veth peer name far; link set lan up; link set far up");
            ip("addr add 10.0.1.9/24 dev lan");
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let rtnl = Rtnl::connect().unwrap();
            let lan = Links::new(rtnl.clone()).find("lan").await.unwrap().unwrap();
            let mut addresses = Addresses::new(rtnl.clone());
            let put = addresses.put(lan.index, net("10.0.1.1/24")).await;
            assert_eq!(put.unwrap(), Put::Added);
            let put = addresses.put(lan.index, net("10.0.1.1/24")).await;
            assert_eq!(put.unwrap(), Put::Kept);
            let put = addresses.put(lan.index, net("10.0.1.9/24")).await;
            assert_eq!(put.unwrap(), Put::Foreign);
            for vip in ["10.0.1.50", "fd00:1::50"] {
                let put = addresses.put_vip(lan.index, at(vip)).await;
                assert_eq!(put.unwrap(), Put::Added, "{vip}");
            }
            let view = eventually(&mut views, "the VIPs", SOON, |view| {
                view.has_address(at("fd00:1::50"))
            })
            .await;
            let six = view.addresses_of(lan.index);
            let six = six.into_iter().find(|have| have.ip() == at("fd00:1::50"));
            let six = six.unwrap();
            assert_eq!(six.address.prefix_len(), 128);
            assert_eq!(six.flags & 0x40, 0, "tentative although nodad");
            assert_eq!(six.protocol, PROTOCOL);

            // The process dies; the next one wants one VIP less.
            drop(addresses);
            let mut addresses = Addresses::new(rtnl.clone());
            addresses.adopt(&view, &[lan.index]);
            assert_eq!(addresses.ours().len(), 3);
            let wanted = BTreeSet::from([
                (lan.index, net("10.0.1.1/24")),
                (lan.index, net("10.0.1.50/32")),
            ]);
            assert!(addresses.apply(&wanted).await.is_empty());
            eventually(&mut views, "one VIP less", SOON, |view| {
                !view.has_address(at("fd00:1::50")) && view.has_address(at("10.0.1.50"))
            })
            .await;
            assert!(addresses.clear().await.is_empty());
            eventually(&mut views, "only the foreign one", SOON, |view| {
                let four = view
                    .addresses_of(lan.index)
                    .filter(|have| have.ip().is_ipv4());
                four.map(InterfaceAddress::ip).eq([at("10.0.1.9")])
            })
            .await;
        },
    );
}

#[test]
fn routes_put_are_replaced_and_removed_but_never_those_of_others() {
    in_namespace(
        "routes_put_are_replaced_and_removed_but_never_those_of_others",
        async || {
            ip("link add lan type veth peer name far; link set lan up; link set far up");
            ip("addr add 10.0.1.1/24 dev lan; addr add fd00:1::1/64 dev lan nodad");
            ip("route add 10.9.0.0/16 via 10.0.1.9");
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let lan = views.borrow().link_named("lan").unwrap().index;
            let rtnl = Rtnl::connect().unwrap();
            let mut routes = Routes::new(rtnl.clone());
            let default = StaticRoute::default_through(at("10.0.1.254"), lan);
            assert_eq!(routes.put(default).await.unwrap(), Put::Added);
            assert_eq!(routes.put(default).await.unwrap(), Put::Kept);
            let other = StaticRoute::default_through(at("10.0.1.253"), lan);
            assert_eq!(routes.put(other).await.unwrap(), Put::Added);
            let six = StaticRoute::default_through(at("fd00:1::254"), lan);
            assert_eq!(routes.put(six).await.unwrap(), Put::Added);
            let same = StaticRoute::new(net("10.9.0.0/16"), lan, Some(at("10.0.1.9")));
            assert_eq!(routes.put(same).await.unwrap(), Put::Foreign);
            let conflict = StaticRoute::new(net("10.9.0.0/16"), lan, Some(at("10.0.1.8")));
            assert!(routes.put(conflict).await.is_err());
            // IPv4 routes are read before IPv6 ones: a view may have the second default route and not yet the
            // replacement of the first.
            let view = eventually(&mut views, "the default routes", SOON, |view| {
                let four = main_route(view, "0.0.0.0/0");
                main_route(view, "::/0").is_some()
                    && four.is_some_and(|route| route.hops[0].gateway == Some(at("10.0.1.253")))
            })
            .await;
            let route = main_route(&view, "0.0.0.0/0").unwrap();
            assert_eq!(route.protocol, PROTOCOL);

            let mut routes = Routes::new(rtnl);
            routes.adopt(&view, &[lan]);
            assert_eq!(routes.ours(), &BTreeSet::from([other, six]));
            assert!(routes.clear().await.is_empty());
            let view = eventually(&mut views, "their removal", SOON, |view| {
                main_route(view, "::/0").is_none() && main_route(view, "0.0.0.0/0").is_none()
            })
            .await;
            assert!(main_route(&view, "10.9.0.0/16").is_some());
        },
    );
}

#[test]
fn neighbours_are_learnt_fail_and_are_tried_again() {
    in_namespace(
        "neighbours_are_learnt_fail_and_are_tried_again",
        async || {
            let peer = Peer::start();
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let lan = views.borrow().link_named("lan").unwrap().index;
            let mut neighbours = Neighbours::new(Rtnl::connect().unwrap());
            for address in ["10.0.1.2", "fd00:1::2"] {
                let key = (lan, at(address));
                neighbours.resolve(key).await.unwrap();
                eventually(&mut views, address, SOON, |view| {
                    let found = view.neighbours.get(&key);
                    found.is_some_and(|have| have.reachable().is_some())
                })
                .await;
            }
            let absent = (lan, at("10.0.1.77"));
            neighbours.resolve(absent).await.unwrap();
            let state = |view: &KernelView| view.neighbours.get(&absent).map(|have| have.state);
            eventually(&mut views, "the failure", 2 * SOON, |view| {
                state(view) == Some(NudState::Failed)
            })
            .await;
            // It comes up; the next packet that waits has it tried again.
            peer.ip("addr add 10.0.1.77/24 dev far");
            neighbours.resolve(absent).await.unwrap();
            eventually(&mut views, "the second attempt", SOON, |view| {
                let found = view.neighbours.get(&absent);
                found.is_some_and(|have| have.reachable().is_some())
            })
            .await;
        },
    );
}

#[test]
fn the_mirrored_tables_become_a_forwarding_table_that_reaches_the_peer() {
    in_namespace(
        "the_mirrored_tables_become_a_forwarding_table_that_reaches_the_peer",
        async || {
            let _peer = Peer::start();
            ip("route add default via 10.0.1.2");
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let lan = views.borrow().link_named("lan").unwrap().clone();
            let port = PortBinding {
                port: PortId(0),
                name: "lan".into(),
                interface: Some(lan.index),
                mac: lan.mac.unwrap(),
                mtu: 1500,
                up: true,
                queues: 1,
                virtual_macs: vec![],
            };
            let peer = Neighbour {
                port: PortId(0),
                address: at("10.0.1.2"),
            };
            let build = |view: &KernelView| {
                Builder::default().build(view, std::slice::from_ref(&port), &[])
            };
            // Linux makes the link-local address when the carrier comes.
            let link_local = |view: &KernelView| {
                view.addresses_of(lan.index)
                    .map(InterfaceAddress::ip)
                    .find(|address| address.to_string().starts_with("fe80:"))
            };
            let view = eventually(&mut views, "the link-local address", SOON, |view| {
                link_local(view).is_some()
            })
            .await;
            let before = build(&view);
            let far = at("198.51.100.7");
            assert_eq!(before.resolve(far, 0), Resolution::Unresolved(peer));
            assert_eq!(before.resolve(at("10.0.1.1"), 0), Resolution::Local);
            assert_eq!(before.resolve(at("10.0.1.255"), 0), Resolution::Local);
            assert_eq!(before.resolve(at("127.0.0.9"), 0), Resolution::Local);
            assert!(before.is_local(link_local(&view).unwrap()));

            let mut neighbours = Neighbours::new(Rtnl::connect().unwrap());
            neighbours.resolve((lan.index, peer.address)).await.unwrap();
            let view = eventually(&mut views, "the peer's MAC", SOON, |view| {
                let found = view.neighbours.get(&(lan.index, peer.address));
                found.is_some_and(|have| have.reachable().is_some())
            })
            .await;
            let Resolution::Ready(adjacency) = build(&view).resolve(far, 0) else {
                panic!("the peer is known");
            };
            assert_eq!(adjacency.source, lan.mac.unwrap());
            assert_eq!((adjacency.port, adjacency.mtu), (PortId(0), 1500));
        },
    );
}

#[test]
fn managed_neighbours_stay_managed_and_come_back_after_the_link_was_down() {
    in_namespace(
        "managed_neighbours_stay_managed_and_come_back_after_the_link_was_down",
        async || {
            let _peer = Peer::start();
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let lan = views.borrow().link_named("lan").unwrap().index;
            let mut neighbours = Neighbours::new(Rtnl::connect().unwrap());
            let key = (lan, at("10.0.1.2"));
            let managed = move |view: &KernelView| {
                let found = view.neighbours.get(&key);
                found.is_some_and(|have| have.managed && have.reachable().is_some())
            };
            assert!(neighbours.manage([key].into()).await.is_empty());
            assert!(
                neighbours.kernel_manages(),
                "this kernel manages neighbours"
            );
            eventually(&mut views, "the managed entry", SOON, managed).await;
            // A waiting packet must not end the management.
            neighbours.resolve(key).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(managed(&views.borrow_and_update()));
            assert!(
                neighbours
                    .maintain(&views.borrow().clone())
                    .await
                    .is_empty()
            );

            ip("link set lan down");
            let view = eventually(&mut views, "the entry is lost", SOON, |view| {
                !view.neighbours.contains_key(&key) && !view.links[&lan].up
            })
            .await;
            assert!(neighbours.maintain(&view).await.is_empty());
            ip("link set lan up");
            let view = eventually(&mut views, "the link", SOON, |view| view.links[&lan].up).await;
            assert!(neighbours.maintain(&view).await.is_empty());
            eventually(&mut views, "the entry again", SOON, managed).await;

            assert!(neighbours.manage(BTreeSet::new()).await.is_empty());
            eventually(&mut views, "the release", SOON, |view| !managed(view)).await;
        },
    );
}

#[test]
fn static_neighbours_are_permanent_until_they_are_removed() {
    in_namespace(
        "static_neighbours_are_permanent_until_they_are_removed",
        async || {
            let _peer = Peer::start();
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let lan = views.borrow().link_named("lan").unwrap().index;
            let mut neighbours = Neighbours::new(Rtnl::connect().unwrap());
            let key = (lan, at("10.0.1.3"));
            let mac = MacAddress([2, 0, 0, 0, 0, 3]);
            assert!(neighbours.fix([(key, mac)].into()).await.is_empty());
            eventually(&mut views, "the static entry", SOON, |view| {
                let found = view.neighbours.get(&key);
                found.is_some_and(|have| {
                    have.state == NudState::Permanent && have.reachable() == Some(mac)
                })
            })
            .await;
            assert!(neighbours.clear().await.is_empty());
            eventually(&mut views, "its removal", SOON, |view| {
                !view.neighbours.contains_key(&key)
            })
            .await;
        },
    );
}

#[test]
fn an_overflow_of_notifications_ends_with_the_right_tables() {
    in_namespace(
        "an_overflow_of_notifications_ends_with_the_right_tables",
        async || {
            ip("link add lan type veth peer name far; link set lan up; link set far up");
            ip("addr add 10.0.0.1/8 dev lan");
            let mirror = Mirror::with_buffer(4096).await.unwrap();
            let mut views = mirror.views();
            let commands: Vec<_> = (0..2000)
                .map(|n| format!("route add 172.16.{}.{}/32 via 10.0.0.2", n / 250, n % 250))
                .collect();
            let commands = commands.join("\n") + "\n";
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), commands).unwrap();
            // The runtime has one thread and this blocks it: nobody reads the socket meanwhile.
            ip(&format!("-batch {}", file.path().display()));
            eventually(&mut views, "2000 routes", SOON, |view| {
                let found = view
                    .routes
                    .iter()
                    .filter(|route| route.prefix.addr().to_string().starts_with("172.16."));
                found.count() == 2000
            })
            .await;
            let counters = mirror.counters();
            assert!(counters.overflows.load(Ordering::Relaxed) >= 1);
            assert!(counters.resyncs.load(Ordering::Relaxed) >= 1);
            assert_eq!(counters.undecodable.load(Ordering::Relaxed), 0);
            ip("addr add 10.0.0.9/8 dev lan");
            eventually(&mut views, "later changes", SOON, |view| {
                view.has_address(at("10.0.0.9"))
            })
            .await;
        },
    );
}

#[test]
fn a_burst_is_published_as_few_views() {
    in_namespace("a_burst_is_published_as_few_views", async || {
        ip("link add lan type veth peer name far; link set lan up; link set far up");
        let mirror = Mirror::start().await.unwrap();
        let mut views = mirror.views();
        let commands: Vec<_> = (1..=200)
            .map(|n| format!("addr add 10.0.1.{n}/32 dev lan"))
            .collect();
        let commands = commands.join("\n") + "\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), commands).unwrap();
        let before = mirror.counters().published.load(Ordering::Relaxed);
        ip(&format!("-batch {}", file.path().display()));
        eventually(&mut views, "the last address", SOON, |view| {
            view.has_address(at("10.0.1.200"))
        })
        .await;
        let published = mirror.counters().published.load(Ordering::Relaxed) - before;
        assert!(published <= 3, "{published} views for one burst");
    });
}

#[test]
fn a_silenced_netdev_shows_linux_nothing_until_it_is_released() {
    in_namespace(
        "a_silenced_netdev_shows_linux_nothing_until_it_is_released",
        async || {
            let peer = Peer::start();
            let beneath = underlying::Underlying::of("net_af_packet0,iface=lan").unwrap();
            let silence = underlying::silence(&beneath).unwrap();
            let again = underlying::silence(&beneath).unwrap();
            let disabled = sysctl::get(sysctl::Half::Ipv6, "lan", "disable_ipv6");
            assert_eq!(disabled.unwrap(), "1");
            let mut tap = packet_socket();
            assert!(!answers_ping("10.0.1.2"), "replies must not get in");
            assert!(sees_arp_reply(&mut tap), "packet sockets still get them");
            silence.release().unwrap();
            let disabled = sysctl::get(sysctl::Half::Ipv6, "lan", "disable_ipv6");
            assert_eq!(disabled.unwrap(), "0");
            again.release().unwrap();
            peer.ip("neigh flush dev far");
            assert!(answers_ping_in_the_end("10.0.1.2"), "replies get in again");
        },
    );
}

#[test]
fn taking_over_moves_addresses_and_routes_and_gives_them_back() {
    in_namespace(
        "taking_over_moves_addresses_and_routes_and_gives_them_back",
        async || {
            ip("link add nic type veth peer name far; link set nic up; link set far up");
            ip("link add lan type veth peer name user; link set lan up; link set user up");
            ip("addr add 10.0.1.1/24 dev nic; addr add fd00:1::1/64 dev nic nodad");
            ip("route add default via 10.0.1.254 mtu 1400; route add 10.9.0.0/16 dev nic");
            ip("-6 route add default via fd00:1::254");
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let view = views.borrow().clone();
            let [nic, lan] = ["nic", "lan"].map(|name| view.link_named(name).unwrap().index);
            let beneath = underlying::Underlying::of("net_af_xdp0,iface=nic").unwrap();
            assert!(beneath.inspect(&view, Some("lan")).is_err());
            let rtnl = Rtnl::connect().unwrap();
            let plan = TakeOver::plan(&view, nic, lan);
            let taken = plan.begin(&rtnl).await.unwrap();
            assert_eq!((taken.addresses.len(), taken.routes.len()), (2, 3));
            let all_on = |view: &KernelView, interface| {
                let address_on = |address| {
                    let mut found = view
                        .addresses
                        .iter()
                        .filter(|have| have.ip() == at(address));
                    view.has_address(at(address)) && found.all(|have| have.interface == interface)
                };
                let leads = |prefix| {
                    let route = main_route(view, prefix);
                    route.is_some_and(|route| {
                        route.hops.len() == 1 && route.hops[0].interface == interface
                    })
                };
                ["10.0.1.1", "fd00:1::1"].into_iter().all(address_on)
                    && ["0.0.0.0/0", "10.9.0.0/16", "10.0.1.0/24", "::/0"]
                        .into_iter()
                        .all(leads)
            };
            let view = eventually(&mut views, "the move", SOON, |view| all_on(view, lan)).await;
            assert_eq!(main_route(&view, "0.0.0.0/0").unwrap().mtu, Some(1400));
            assert_eq!(beneath.inspect(&view, Some("lan")), Ok(()));
            let mut addresses = Addresses::new(rtnl.clone());
            addresses.adopt(&view, &[lan]);
            assert!(addresses.ours().is_empty(), "they stay the operator's");
            taken.give_back(&rtnl).await.unwrap();
            eventually(&mut views, "the return", SOON, |view| all_on(view, nic)).await;
        },
    );
}

#[test]
fn what_a_killed_process_left_on_a_netdev_is_undone_from_its_record() {
    in_namespace(
        "what_a_killed_process_left_on_a_netdev_is_undone_from_its_record",
        async || {
            ip("link add nic type veth peer name far; link set nic up; link set far up");
            ip("link add lan type veth peer name user; link set lan up; link set user up");
            ip("addr add 10.0.1.1/24 dev nic; addr add fd00:1::1/64 dev nic nodad");
            ip("route add default via 10.0.1.254 mtu 1400");
            let mirror = Mirror::start().await.unwrap();
            let mut views = mirror.views();
            let before = views.borrow().clone();
            let [nic, lan] = ["nic", "lan"].map(|name| before.link_named(name).unwrap().index);
            let rtnl = Rtnl::connect().unwrap();
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("record.json");
            assert!(left_behind::undo(&path).await.is_empty(), "nothing yet");

            // As a start does it; then the process is gone.
            let beneath = underlying::Underlying::of("net_af_packet0,iface=nic").unwrap();
            let mut record = LeftBehind::at(&path);
            let plan = TakeOver::plan(&before, nic, lan);
            record.taking("nic", "lan", &plan).unwrap();
            plan.begin(&rtnl).await.unwrap();
            record.silencing("nic").unwrap();
            drop(underlying::silence(&beneath).unwrap());
            drop(record);
            let disabled = || sysctl::get(sysctl::Half::Ipv6, "nic", "disable_ipv6").unwrap();
            assert_eq!(disabled(), "1");

            assert_eq!(left_behind::undo(&path).await, Vec::<String>::new());
            assert_eq!(disabled(), "0");
            let of = |view: &KernelView, interface| {
                let mut addresses: Vec<_> = view
                    .addresses_of(interface)
                    .map(|address| address.address.to_string())
                    .filter(|address| !address.starts_with("fe80"))
                    .collect();
                addresses.sort();
                addresses
            };
            let view = eventually(&mut views, "the return", SOON, |view| {
                let route = main_route(view, "0.0.0.0/0");
                of(view, nic) == ["10.0.1.1/24", "fd00:1::1/64"]
                    && route.is_some_and(|route| route.hops[0].interface == nic)
            })
            .await;
            assert_eq!(main_route(&view, "0.0.0.0/0").unwrap().mtu, Some(1400));
            assert!(of(&view, lan).is_empty());
            assert!(!path.exists(), "done is done");
        },
    );
}

#[test]
fn an_ingress_drop_ends_with_whoever_set_it() {
    in_namespace("an_ingress_drop_ends_with_whoever_set_it", async || {
        let peer = Peer::start();
        let ingress_drop = IngressDrop::set("lan").unwrap();
        assert!(!answers_ping("10.0.1.2"), "replies must not get in");
        // What the end of a process does, whatever its cause.
        drop(ingress_drop);
        peer.ip("neigh flush dev far");
        assert!(answers_ping_in_the_end("10.0.1.2"), "replies get in again");
    });
}

#[test]
fn a_port_is_prepared_for_forwarding_by_somebody_else() {
    in_namespace(
        "a_port_is_prepared_for_forwarding_by_somebody_else",
        async || {
            ip("link add lan type veth peer name far");
            sysctl::prepare_port("lan").unwrap();
            for interface in ["all", "lan"] {
                for key in ["send_redirects", "rp_filter"] {
                    let value = sysctl::get(sysctl::Half::Ipv4, interface, key);
                    assert_eq!(value.unwrap(), "0", "{interface} {key}");
                }
            }
        },
    );
}

/// One ping may be lost on a busy machine; none gets an answer while the drop is there.
fn answers_ping_in_the_end(address: &str) -> bool {
    (0..10).any(|_| answers_ping(address))
}

fn answers_ping(address: &str) -> bool {
    Command::new("ping")
        .args(["-c", "1", "-W", "1", address])
        .stdout(Stdio::null())
        .status()
        .expect("ping (iputils-ping) must be installed")
        .success()
}

/// What `net_af_packet` reads from: every frame of every interface.
fn packet_socket() -> Socket {
    let every_protocol = i32::from(0x0003_u16.to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(every_protocol.into())).unwrap();
    socket.set_read_timeout(Some(SECOND)).unwrap();
    socket
}

/// Looks through what has arrived for an ARP reply.
fn sees_arp_reply(socket: &mut Socket) -> bool {
    let mut frame = [0; 2048];
    while let Ok(length) = socket.read(&mut frame) {
        if length >= 42 && frame[12..14] == [0x08, 0x06] && frame[20..22] == [0, 2] {
            return true;
        }
    }
    false
}
