//! Two boxes that elect, in two namespaces of a real kernel.

mod netns;
mod puppet;

use netns::{Peer, eventually, in_namespace, ip, reached_in_the_end, run};
use puppet::{SOON, router, vip};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vrrp::driver::{Control, Driver, Options, Outcome};
use vrrp::{Event, Family, RouterSettings, Settings, Standing, Version};

/// Every 100 ms, so that Active_Down_Interval is at most 400 ms.
const INTERVAL: Duration = Duration::from_millis(100);
/// What the machine may add to what the protocol says.
const SLACK: Duration = Duration::from_millis(250);

fn settings(interface: &str, priority: u8, change: impl Fn(&mut RouterSettings)) -> Settings {
    let mut routers = vec![
        router("VI_1", interface, Family::V4, 51),
        router("VI_6", interface, Family::V6, 51),
    ];
    for router in &mut routers {
        router.priority = priority;
        router.excluded = vec![match router.family {
            Family::V4 => vip("10.0.1.61/24"),
            Family::V6 => vip("2001:db8::60/128"),
        }];
        change(router);
    }
    Settings {
        routers,
        groups: Vec::new(),
    }
}

/// A box with a driver.
struct Host<'a> {
    driver: Driver,
    /// The namespace it is in, unless it is this one.
    peer: Option<&'a Peer>,
}

impl<'a> Host<'a> {
    fn near(settings: Settings) -> Self {
        let driver = Driver::start(settings, Options::default()).unwrap();
        Self { driver, peer: None }
    }

    fn far(peer: &'a Peer, settings: Settings, options: Options) -> Self {
        Self {
            driver: peer.inside(|| Driver::start(settings, options).unwrap()),
            peer: Some(peer),
        }
    }

    /// The virtual addresses it has.
    fn addresses(&self) -> Vec<&'static str> {
        let show = || run("ip", "addr show");
        let shown = self.peer.map_or_else(show, |peer| peer.inside(show));
        let all = ["10.0.1.60", "10.0.1.61", "fe80::60", "2001:db8::60"];
        let is_shown = |address: &&str| shown.contains(&format!(" {address}/"));
        all.into_iter().filter(is_shown).collect()
    }

    fn standings(&self) -> Vec<Standing> {
        let status = self.driver.status(SOON).unwrap();
        status.iter().map(|router| router.standing).collect()
    }

    fn is(&self, standing: Standing) -> bool {
        self.standings().iter().all(|is| *is == standing)
    }

    /// When all of its routers have become this since `since`.
    fn became(&self, to: Standing, since: Instant) -> Duration {
        let outcomes = self.driver.outcomes();
        let mut last = Duration::ZERO;
        for _ in 0..2 {
            loop {
                let outcome = outcomes.recv_timeout(SOON).expect("a transition");
                if let Outcome::Event {
                    at,
                    event: Event::Transition(transition),
                } = outcome
                    && transition.to == to
                    && at.instant >= since
                {
                    last = last.max(at.instant - since);
                    break;
                }
            }
        }
        last
    }
}

/// Does it up to three times; each time that it measures must once have been within its limit. A busy machine adds to
/// one now and then, what is wrong with a hand-over to each.
fn in_time<const N: usize>(limits: [Duration; N], mut attempt: impl FnMut() -> [Duration; N]) {
    let mut quickest = [Duration::MAX; N];
    for _ in 0..3 {
        for (quickest, took) in quickest.iter_mut().zip(attempt()) {
            *quickest = took.min(*quickest);
        }
        if quickest
            .iter()
            .zip(limits)
            .all(|(took, limit)| *took <= limit)
        {
            return;
        }
    }
    panic!("took {quickest:?}, not {limits:?}");
}

static HELD: AtomicBool = AtomicBool::new(false);

fn hold() {
    while HELD.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn one_of_two_is_active_and_the_other_follows_when_it_cannot_run() {
    in_namespace(
        "one_of_two_is_active_and_the_other_follows_when_it_cannot_run",
        || {
            let peer = Peer::start();
            let near = Host::near(settings("lan", 100, |_| ()));
            let options = Options {
                pause: Some(hold),
                ..Options::default()
            };
            let far = Host::far(&peer, settings("far", 150, |_| ()), options);
            let skew = INTERVAL * (256 - 100) / 256;
            let limits = [3 * INTERVAL + skew + SLACK, INTERVAL + SLACK];
            in_time(limits, || {
                eventually("the higher priority is Active", || far.is(Standing::Active));
                eventually("the lower is Backup", || near.is(Standing::Backup));
                assert_eq!(far.addresses().len(), 4);
                assert!(near.addresses().is_empty());

                let since = Instant::now();
                HELD.store(true, Ordering::Release);
                let taken_over = near.became(Standing::Active, since);
                println!("took over after {taken_over:?}");
                assert_eq!(near.addresses().len(), 4);
                // It has them still: it cannot do anything.
                assert_eq!(far.addresses().len(), 4);

                let since = Instant::now();
                HELD.store(false, Ordering::Release);
                // What waited for it says that its priority is higher than what spoke: it goes on.
                let given_back = near.became(Standing::Backup, since);
                println!("one owner again after {given_back:?}");
                eventually("one has the addresses", || near.addresses().is_empty());
                assert_eq!(far.addresses().len(), 4);
                [taken_over, given_back]
            });
        },
    );
}

#[test]
fn who_stops_hands_over_at_once() {
    in_namespace("who_stops_hands_over_at_once", || {
        let peer = Peer::start();
        let near = Host::near(settings("lan", 100, |_| ()));
        let skew = INTERVAL * (256 - 100) / 256;
        in_time([skew + SLACK], || {
            let far = Host::far(&peer, settings("far", 254, |_| ()), Options::default());
            eventually("the higher priority is Active", || far.is(Standing::Active));
            eventually("the lower is Backup", || near.is(Standing::Backup));
            let since = Instant::now();
            assert!(far.driver.stop());
            let stopped = since.elapsed();
            assert!(
                near.is(Standing::Active),
                "the addresses stay until somebody else has them"
            );
            let took = near.became(Standing::Active, since);
            println!("stopped after {stopped:?}, taken over after {took:?}");
            assert_eq!(near.addresses().len(), 4);
            let left = peer.inside(|| run("ip", "addr show dev far"));
            assert!(!left.contains("10.0.1.6"), "{left}");
            [took]
        });
        // It comes back and takes over again.
        let far = Host::far(&peer, settings("far", 254, |_| ()), Options::default());
        eventually("the higher priority is Active", || far.is(Standing::Active));
        eventually("the lower is Backup", || near.is(Standing::Backup));
        eventually("one has the addresses", || near.addresses().is_empty());
        assert_eq!(far.addresses().len(), 4);
    });
}

#[test]
fn an_address_the_kernel_refused_is_told_and_tried_again() {
    in_namespace(
        "an_address_the_kernel_refused_is_told_and_tried_again",
        || {
            let _peer = Peer::start();
            let disable = |value| {
                std::fs::write("/proc/sys/net/ipv6/conf/lan/disable_ipv6", value).unwrap();
            };
            disable("1");
            let mut settings = settings("lan", 200, |_| ());
            settings.routers.truncate(1);
            settings.routers[0].excluded = vec![vip("2001:db8::60/128")];
            let near = Host::near(settings);
            eventually("it is Active", || near.is(Standing::Active));
            eventually("the other address", || near.addresses() == ["10.0.1.60"]);
            let told = || {
                let outcomes = near.driver.outcomes();
                let notices = outcomes
                    .try_iter()
                    .filter_map(|outcome| match outcome {
                        Outcome::Event {
                            event: Event::Notice { what, .. } | Event::Trouble { what, .. },
                            ..
                        } => Some(what),
                        _ => None,
                    })
                    .filter(|what| what.starts_with("adding an address on lan"));
                notices.collect::<Vec<_>>()
            };
            eventually("the failure is told", || told().len() == 1);
            disable("0");
            eventually("both addresses", || near.addresses().len() == 2);
            assert_eq!(told(), ["adding an address on lan works again"]);
        },
    );
}

#[test]
fn an_address_the_kernel_goes_on_refusing_is_a_fault_until_it_would_be_taken() {
    in_namespace(
        "an_address_the_kernel_goes_on_refusing_is_a_fault_until_it_would_be_taken",
        || {
            let peer = Peer::start();
            let disable = |value| {
                std::fs::write("/proc/sys/net/ipv6/conf/lan/disable_ipv6", value).unwrap();
            };
            disable("1");
            let v4 = |interface, priority| {
                let mut settings = settings(interface, priority, |_| ());
                settings.routers.truncate(1);
                settings.routers[0].excluded = vec![vip("2001:db8::60/128")];
                settings
            };
            let near = Host::near(v4("lan", 200));
            eventually("it is Active", || near.is(Standing::Active));
            let far = Host::far(&peer, v4("far", 100), Options::default());
            eventually("it gives way", || near.is(Standing::Fault));
            let faults = || {
                near.driver.status(Duration::from_secs(1)).unwrap()[0]
                    .faults
                    .clone()
            };
            assert_eq!(faults(), ["2001:db8::60/128 cannot be put on lan"]);
            eventually("the other has them", || far.addresses().len() == 2);
            assert!(near.addresses().is_empty());
            let told: Vec<_> = near.driver.outcomes().try_iter().collect();
            assert!(told.iter().any(|outcome| matches!(
                outcome,
                Outcome::Event { event: Event::Trouble { what, .. }, .. }
                    if what.starts_with("adding an address on lan failed")
            )));
            disable("0");
            // IPv4 elections need no IPv6 address; it is gone by that.
            eventually("it has them again", || near.addresses().len() == 2);
            eventually("and is Active", || near.is(Standing::Active));
            eventually("the other has none", || far.addresses().is_empty());
        },
    );
}

#[test]
fn who_is_no_longer_configured_lets_go_when_the_other_speaks() {
    in_namespace(
        "who_is_no_longer_configured_lets_go_when_the_other_speaks",
        || {
            let peer = Peer::start();
            let near = Host::near(settings("lan", 100, |_| ()));
            let far = Host::far(&peer, settings("far", 150, |_| ()), Options::default());
            let all = settings("far", 150, |_| ());
            let mut less = all.clone();
            less.routers.remove(0);
            // Without hearing the other it would be the longest Active_Down_Interval and a second: 1.4 s.
            in_time([Duration::from_millis(1_200)], || {
                far.driver.send(Control::Reconfigure(all.clone()));
                eventually("the higher priority is Active", || far.is(Standing::Active));
                eventually("the lower is Backup", || near.is(Standing::Backup));
                let since = Instant::now();
                far.driver.send(Control::Reconfigure(less.clone()));
                eventually("the other has them", || near.addresses().len() == 2);
                eventually("it has them no longer", || {
                    far.addresses() == ["fe80::60", "2001:db8::60"]
                });
                let took = since.elapsed();
                println!("handed over after {took:?}");
                [took]
            });
        },
    );
}

#[test]
fn dozens_crosswise_share_a_socket_and_fail_over_together() {
    in_namespace(
        "dozens_crosswise_share_a_socket_and_fail_over_together",
        || {
            const ROUTERS: u8 = 48;
            let peer = Peer::start();
            let crosswise = |interface: &'static str, even: u8, odd: u8| Settings {
                routers: (1..=ROUTERS)
                    .map(|vrid| {
                        let name = format!("VI_{vrid}");
                        let mut router = router(&name, interface, Family::V4, vrid);
                        router.priority = if vrid % 2 == 0 { even } else { odd };
                        router.addresses = vec![vip(&format!("10.0.2.{vrid}/32"))];
                        router
                    })
                    .collect(),
                groups: Vec::new(),
            };
            let near = Host::near(crosswise("lan", 200, 100));
            let far = Host::far(&peer, crosswise("far", 100, 200), Options::default());
            let active = |host: &Host<'_>| {
                let standings = host.standings();
                let active = standings.iter().filter(|is| **is == Standing::Active);
                active.count()
            };
            let half = usize::from(ROUTERS) / 2;
            eventually("half are Active here and half there", || {
                active(&near) == half && active(&far) == half
            });
            let here = run("ip", "addr show dev lan");
            assert_eq!(here.matches("inet 10.0.2.").count(), half);
            let sockets = std::fs::read_to_string("/proc/self/net/raw").unwrap();
            // In hexadecimal, 112 is the protocol, which raw sockets have in place of a port.
            assert_eq!(sockets.matches(":0070 ").count(), 1, "{sockets}");
            let before = far.driver.counters();
            eventually("the Active ones speak", || {
                far.driver.counters().packets_received >= before.packets_received + 48
            });
            assert_eq!(
                near.driver.ignored(SOON).unwrap().values().sum::<u64>(),
                0,
                "each packet found its router"
            );
            drop(far);
            eventually("all are Active here", || {
                active(&near) == usize::from(ROUTERS)
            });
            assert_eq!(near.driver.counters().netlink_failures, 0);
        },
    );
}

#[test]
fn version_2_with_a_password_elects_too() {
    in_namespace("version_2_with_a_password_elects_too", || {
        let peer = Peer::start();
        let change = |router: &mut RouterSettings| {
            if router.family == Family::V4 {
                router.version = Version::V2;
                router.advert_interval = vrrp::Centis(100);
                router.password = Some(vrrp::Password(*b"abcd1234"));
            }
        };
        let far = Host::far(&peer, settings("far", 254, change), Options::default());
        let near = Host::near(settings("lan", 100, change));
        eventually("the higher priority is Active", || far.is(Standing::Active));
        assert!(near.is(Standing::Backup));
        let status = near.driver.status(SOON).unwrap();
        let active = |address: &str| Some((address.parse::<IpAddr>().unwrap(), 254));
        eventually("it knows who is Active", || {
            let status = near.driver.status(SOON).unwrap();
            status[0].active == active("10.0.1.2") && status[1].active == active("fe80::2")
        });
        assert_eq!((status[0].version, status[1].version), (2, 3));
    });
}

#[test]
fn unicast_peers_elect_too() {
    in_namespace("unicast_peers_elect_too", || {
        let peer = Peer::start();
        let to = |v4: &'static str, v6: &'static str| {
            move |router: &mut RouterSettings| {
                let peer = match router.family {
                    Family::V4 => v4,
                    Family::V6 => v6,
                };
                router.peers = vec![peer.parse().unwrap()];
            }
        };
        let near = Host::near(settings("lan", 100, to("10.0.1.2", "fe80::2")));
        let there = settings("far", 150, to("10.0.1.1", "fe80::1"));
        let far = Host::far(&peer, there, Options::default());
        eventually("the higher priority is Active", || far.is(Standing::Active));
        eventually("the lower is Backup", || near.is(Standing::Backup));
        assert!(near.addresses().is_empty());
    });
}

#[test]
fn virtual_macs_move_with_the_addresses() {
    in_namespace("virtual_macs_move_with_the_addresses", || {
        let peer = Peer::start();
        let change = |router: &mut RouterSettings| router.virtual_mac = true;
        let near = Host::near(settings("lan", 100, change));
        let far = Host::far(&peer, settings("far", 150, change), Options::default());
        eventually("the higher priority is Active", || far.is(Standing::Active));
        eventually("the lower is Backup", || near.is(Standing::Backup));
        assert!(near.addresses().is_empty());
        for driver in [&near.driver, &far.driver] {
            for outcome in driver.outcomes().try_iter() {
                let is_fault = matches!(&outcome, Outcome::Event { event: Event::Transition(transition), .. }
                    if transition.to == Standing::Fault);
                assert!(!is_fault, "{outcome:?}");
            }
        }
        let own = peer.inside(|| run("ip", "addr show dev vrrp.51"));
        assert!(
            own.contains("10.0.1.60") && own.contains("00:00:5e:00:01:33"),
            "{own}"
        );
        let own = peer.inside(|| run("ip", "addr show dev vrrp6.51"));
        assert!(
            own.contains("fe80::60") && own.contains("00:00:5e:00:02:33"),
            "{own}"
        );
        far.driver.send(Control::Release("VI_1".into()));
        far.driver.send(Control::Release("VI_6".into()));
        eventually("the other is Active", || near.is(Standing::Active));
        assert_eq!(near.addresses().len(), 4);
        assert!(reached_in_the_end("10.0.1.2"));
        assert!(near.driver.stop() && far.driver.stop());
        for shown in [
            run("ip", "link show"),
            peer.inside(|| run("ip", "link show")),
        ] {
            assert!(!shown.contains("vrrp"), "{shown}");
        }
    });
}

#[test]
fn a_link_that_fails_moves_the_addresses_and_back() {
    in_namespace("a_link_that_fails_moves_the_addresses_and_back", || {
        let peer = Peer::start();
        let far = Host::far(&peer, settings("far", 150, |_| ()), Options::default());
        eventually("it is Active", || far.is(Standing::Active));
        ip("link set lan down");
        eventually("no carrier is a fault", || far.is(Standing::Fault));
        eventually("the addresses are gone", || far.addresses().is_empty());
        ip("link set lan up");
        eventually("it is Active again", || far.is(Standing::Active));
        eventually("with its addresses", || far.addresses().len() == 4);
        peer.inside(|| ip("addr del 10.0.1.60/32 dev far; addr del fe80::60/128 dev far"));
        eventually("what somebody took is back", || far.addresses().len() == 4);
        ip("link del lan");
        eventually("it is a fault", || far.is(Standing::Fault));
        peer.link();
        eventually("it is Active again", || far.is(Standing::Active));
        eventually("with its addresses", || far.addresses().len() == 4);
        assert!(far.driver.is_running());
    });
}
