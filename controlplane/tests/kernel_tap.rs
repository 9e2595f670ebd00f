//! TAPs and the slow-path thread against a real kernel in a namespace of its own.

mod kernel_netns;

use controlplane::kernel::link::{Links, left_over};
use controlplane::kernel::netlink::Rtnl;
use controlplane::kernel::slow_path::{InjectSink, PuntSource, SlowPath};
use controlplane::kernel::tap::{Tap, TapError};
use controlplane::kernel::view::KernelView;
use dataplane::packet::MacAddress;
use dataplane::verdict::{PortId, PuntClass};
use kernel_netns::{in_namespace, ip};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 99];

/// "Who has 10.0.1.1? Tell 10.0.1.99" as broadcast by the client.
fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(CLIENT);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(CLIENT);
    frame.extend([10, 0, 1, 99, 0, 0, 0, 0, 0, 0, 10, 0, 1, 1]);
    frame.resize(60, 0);
    frame
}

/// The kernel's answer: an ARP reply to the client from the port's MAC.
fn is_arp_reply(frame: &[u8]) -> bool {
    frame.len() >= 42
        && frame[..6] == CLIENT
        && frame[6..12] == MAC.0
        && frame[12..14] == [0x08, 0x06]
        && frame[20..22] == [0, 2]
        && frame[28..32] == [10, 0, 1, 1]
}

/// True if the kernel answers an ARP request written into the TAP, again and again like a client's: directly after the
/// carrier came, Linux takes frames but drops its own until it has got round to starting the queue.
fn answers(tap: &Tap) -> bool {
    let mut frame = [0; 2048];
    let start = Instant::now();
    let mut next = start;
    while start.elapsed() < Duration::from_secs(20) {
        if Instant::now() >= next {
            assert_eq!(tap.write(&arp_request()).unwrap(), 60);
            next = Instant::now() + Duration::from_millis(100);
        }
        match tap.read(&mut frame) {
            Ok(length) if is_arp_reply(&frame[..length]) => return true,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    false
}

#[test]
fn the_stack_behind_a_tap_answers_arp_and_survives_a_reopen() {
    in_namespace(
        "the_stack_behind_a_tap_answers_arp_and_survives_a_reopen",
        async || {
            let tap = Tap::open("lan", MAC, 1400).unwrap();
            ip("addr add 10.0.1.1/24 dev lan");
            assert!(answers(&tap));
            let busy = Tap::open("lan", MAC, 1400).unwrap_err();
            assert!(matches!(busy, TapError::Busy { .. }), "{busy}");
            let links = Links::new(Rtnl::connect().unwrap());
            let found = links.find("lan").await.unwrap().unwrap();
            assert_eq!((found.mac, found.mtu, found.up), (Some(MAC), 1400, true));
            assert_eq!(found.index, tap.index());

            links.claim(tap.index()).await.unwrap();
            let index = tap.index();
            drop(tap);
            let tap = Tap::open("lan", MAC, 1500).unwrap();
            assert_eq!(tap.index(), index, "the same interface");
            assert!(answers(&tap), "with its address");
            let found = links.find("lan").await.unwrap().unwrap();
            let view = KernelView {
                links: [(index, found.clone())].into(),
                ..KernelView::default()
            };
            assert!(left_over(&view, &["lan"]).is_empty());
            assert_eq!(left_over(&view, &["wan"]), [&found]);
            tap.remove(&links).await.unwrap();
            assert_eq!(links.find("lan").await.unwrap(), None);
        },
    );
}

#[test]
fn the_carrier_follows_and_keeps_addresses() {
    in_namespace("the_carrier_follows_and_keeps_addresses", async || {
        let tap = Tap::open("lan", MAC, 1500).unwrap();
        ip("addr add 10.0.1.1/24 dev lan; addr add fd00:1::1/64 dev lan nodad");
        let links = Links::new(Rtnl::connect().unwrap());
        links.set_carrier(tap.index(), false).await.unwrap();
        let found = links.find("lan").await.unwrap().unwrap();
        assert!(found.up && !found.lower_up);
        links.set_carrier(tap.index(), true).await.unwrap();
        assert!(links.find("lan").await.unwrap().unwrap().lower_up);
        assert!(answers(&tap));
    });
}

#[test]
fn an_interface_of_another_kind_is_not_taken_over() {
    in_namespace(
        "an_interface_of_another_kind_is_not_taken_over",
        async || {
            ip("link add lan type veth peer name far");
            let refused = Tap::open("lan", MAC, 1500).unwrap_err();
            assert!(matches!(refused, TapError::Taken { .. }), "{refused}");
        },
    );
}

type Punt = (PuntClass, PortId, Vec<u8>);
type Injected = (PortId, Vec<u8>);

/// Frames to deliver and frames injected, seen from the test.
#[derive(Clone, Default)]
struct Rings {
    punts: Arc<Mutex<VecDeque<Punt>>>,
    order: Arc<Mutex<Vec<PuntClass>>>,
    injected: Arc<Mutex<Vec<Injected>>>,
    full: Arc<AtomicBool>,
}

impl Rings {
    fn punt(&self, class: PuntClass, port: u8, frame: Vec<u8>) {
        self.punts
            .lock()
            .unwrap()
            .push_back((class, PortId(port), frame));
    }
}

impl PuntSource for Rings {
    fn receive(
        &mut self,
        class: PuntClass,
        budget: usize,
        deliver: &mut dyn FnMut(PortId, &[u8]),
    ) -> usize {
        let mut punts = self.punts.lock().unwrap();
        let mut taken = 0;
        while taken < budget {
            let Some(index) = punts.iter().position(|(have, ..)| *have == class) else {
                break;
            };
            let (_, port, frame) = punts.remove(index).unwrap();
            self.order.lock().unwrap().push(class);
            deliver(port, &frame);
            taken += 1;
        }
        taken
    }
}

impl InjectSink for Rings {
    fn inject(&mut self, port: PortId, frame: &[u8]) -> bool {
        if self.full.load(Ordering::Relaxed) {
            return false;
        }
        self.injected.lock().unwrap().push((port, frame.to_vec()));
        true
    }
}

/// Runs `slow_path` beside `body`.
fn beside<S: PuntSource + Send, I: InjectSink + Send>(
    slow_path: &mut SlowPath<S, I>,
    body: impl FnOnce(),
) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| slow_path.run(&stop));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what}: not seen"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_slow_path_delivers_punts_by_importance_and_injects_answers() {
    in_namespace(
        "the_slow_path_delivers_punts_by_importance_and_injects_answers",
        async || {
            use PuntClass::{Arp, Icmp, Rest, Vrrp};
            let tap = Tap::open("lan", MAC, 1500).unwrap();
            ip("addr add 10.0.1.1/24 dev lan");
            let rings = Rings::default();
            rings.punt(Rest, 1, arp_request());
            rings.punt(Arp, 1, arp_request());
            rings.punt(Vrrp, 0, arp_request());
            let mut slow_path = SlowPath::new(vec![None, Some(tap)], rings.clone(), rings.clone());
            let counters = slow_path.counters();
            let replies = || {
                let injected = rings.injected.lock().unwrap();
                injected
                    .iter()
                    .filter(|(port, frame)| *port == PortId(1) && is_arp_reply(frame))
                    .count()
            };
            beside(&mut slow_path, || {
                until("two replies", || replies() == 2);
                rings.full.store(true, Ordering::Relaxed);
                rings.punt(Arp, 1, arp_request());
                until("a reply that finds no room", || {
                    counters.inject_failures.load(Ordering::Relaxed) > 0
                });
                rings.punt(Icmp, 1, vec![0; 5]);
                until("a frame the TAP refuses", || {
                    counters.class(Icmp).failed.load(Ordering::Relaxed) == 1
                });
            });
            assert_eq!(*rings.order.lock().unwrap(), [Vrrp, Arp, Rest, Arp, Icmp]);
            let delivered = |class| counters.class(class).delivered.load(Ordering::Relaxed);
            assert_eq!(
                (delivered(Arp), delivered(Rest), delivered(Vrrp)),
                (2, 1, 0)
            );
            let lost = &counters.class(Vrrp).no_interface;
            assert_eq!(lost.load(Ordering::Relaxed), 1);
            let injected = counters.injected.load(Ordering::Relaxed) as usize;
            assert_eq!(injected, rings.injected.lock().unwrap().len());
            assert_eq!(counters.read_failures.load(Ordering::Relaxed), 0);
        },
    );
}

#[test]
fn frames_larger_than_the_port_allows_are_counted_and_not_sent() {
    in_namespace(
        "frames_larger_than_the_port_allows_are_counted_and_not_sent",
        async || {
            let tap = Tap::open("lan", MAC, 1500).unwrap();
            // The port was reconfigured; Linux has not heard of it yet.
            tap.mtu().store(20, Ordering::Relaxed);
            ip("addr add 10.0.1.1/24 dev lan");
            let rings = Rings::default();
            let mut slow_path = SlowPath::new(vec![Some(tap)], rings.clone(), rings.clone());
            let counters = slow_path.counters();
            beside(&mut slow_path, || {
                rings.punt(PuntClass::Arp, 0, arp_request());
                until("the oversize reply", || {
                    counters.oversize.load(Ordering::Relaxed) > 0
                });
            });
            let injected = rings.injected.lock().unwrap();
            assert!(!injected.iter().any(|(_, frame)| is_arp_reply(frame)));
        },
    );
}

#[test]
fn a_tap_that_is_removed_under_the_slow_path_is_made_again() {
    in_namespace(
        "a_tap_that_is_removed_under_the_slow_path_is_made_again",
        async || {
            let tap = Tap::open("lan", MAC, 1500).unwrap();
            ip("addr add 10.0.1.1/24 dev lan");
            let rings = Rings::default();
            let mut slow_path = SlowPath::new(vec![Some(tap)], rings.clone(), rings.clone());
            let counters = slow_path.counters();
            beside(&mut slow_path, || {
                ip("link del lan");
                until("the new TAP", || {
                    counters.reopened.load(Ordering::Relaxed) == 1
                });
                ip("addr add 10.0.1.1/24 dev lan");
                rings.injected.lock().unwrap().clear();
                rings.punt(PuntClass::Arp, 0, arp_request());
                until("a reply", || {
                    let injected = rings.injected.lock().unwrap();
                    injected.iter().any(|(_, frame)| is_arp_reply(frame))
                });
            });
            assert_eq!(slow_path.into_taps().len(), 1);
        },
    );
}

#[test]
fn an_idle_slow_path_uses_little_processor_time() {
    in_namespace("an_idle_slow_path_uses_little_processor_time", async || {
        let tap = Tap::open("lan", MAC, 1500).unwrap();
        let rings = Rings::default();
        let mut slow_path = SlowPath::new(vec![Some(tap)], rings.clone(), rings.clone());
        let used = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            Duration::new(
                u64::try_from(time.tv_sec).unwrap(),
                u32::try_from(time.tv_nsec).unwrap(),
            )
        };
        let mut spent = Vec::new();
        beside(&mut slow_path, || {
            std::thread::sleep(Duration::from_millis(200));
            // A virtual machine's clock counts what its host takes away, so one bad second says nothing. A spinning
            // thread would use all of each, or its share beside others: much more than a quarter.
            for _ in 0..5 {
                let before = used();
                std::thread::sleep(Duration::from_secs(1));
                spent.push(used().checked_sub(before).unwrap());
                if spent.last() < Some(&Duration::from_millis(250)) {
                    return;
                }
            }
            panic!("{spent:?} in a second each");
        });
    });
}
