//! Routes that a box has while a virtual router is Active.

mod world;

use ipnet::IpNet;
use vrrp::{Input, RouterSettings, Standing, VirtualRoute};
use world::{Host, address, ms, router, settings};

fn route(destination: &str, gateway: &str) -> VirtualRoute {
    VirtualRoute {
        destination: destination.parse::<IpNet>().unwrap(),
        gateway: gateway.parse().unwrap(),
        interface: None,
    }
}

fn with(routes: &[(&str, &str)]) -> RouterSettings {
    RouterSettings {
        routes: routes
            .iter()
            .map(|(destination, gateway)| route(destination, gateway))
            .collect(),
        ..router(100)
    }
}

const TWO: [(&str, &str); 2] = [
    ("10.9.0.0/16", "10.0.1.254"),
    ("2001:db8:9::/48", "2001:db8::1"),
];

/// The changes of addresses and routes, in order.
fn changes(host: &mut Host) -> Vec<String> {
    let words = host.words().into_iter();
    words.filter(|word| word.starts_with(['+', '-'])).collect()
}

fn active(own: RouterSettings) -> Host {
    let mut host = Host::new(settings([own]));
    host.run(ms(5000));
    assert_eq!(host.standing(), Standing::Active);
    host
}

#[test]
fn routes_come_after_the_addresses_and_go_before_them() {
    let mut host = active(with(&TWO));
    assert_eq!(
        changes(&mut host),
        [
            "+10.0.1.60",
            "+10.9.0.0/16 via 10.0.1.254",
            "+2001:db8:9::/48 via 2001:db8::1",
        ]
    );
    assert_eq!(host.status().routes.len(), 2);
    host.hear("10.0.1.2", &router(200));
    assert_eq!(host.standing(), Standing::Backup);
    assert_eq!(
        changes(&mut host),
        [
            "-10.9.0.0/16 via 10.0.1.254",
            "-2001:db8:9::/48 via 2001:db8::1",
            "-10.0.1.60",
        ]
    );
    assert_eq!(host.status().routes, []);
}

#[test]
fn routes_stay_with_the_addresses_until_the_peer_speaks() {
    let mut host = active(with(&TWO[..1]));
    host.take();
    host.handle(Input::Stop);
    host.run(ms(500));
    assert_eq!(changes(&mut host), [""; 0]);
    host.hear("10.0.1.2", &router(90));
    host.run(ms(1));
    let gone = ["-10.9.0.0/16 via 10.0.1.254", "-10.0.1.60"];
    assert_eq!(changes(&mut host), gone);
}

#[test]
fn a_reload_changes_routes_and_nothing_else() {
    let mut host = active(with(&TWO));
    host.take();
    let other = [TWO[1], ("10.8.0.0/16", "10.0.1.254")];
    host.handle(Input::Reconfigure(settings([with(&other)])));
    let words = host.words();
    assert_eq!(
        words,
        ["-10.9.0.0/16 via 10.0.1.254", "+10.8.0.0/16 via 10.0.1.254"]
    );
    assert_eq!(host.standing(), Standing::Active);
}

#[test]
fn new_routes_wait_for_the_claim_of_new_addresses() {
    let mut host = active(with(&[]));
    host.take();
    host.claims = false;
    let mut new = with(&TWO[..1]);
    new.addresses.push(address("10.0.1.61/32"));
    host.handle(Input::Reconfigure(settings([new])));
    assert_eq!(changes(&mut host), [""; 0]);
    host.handle(Input::Claimed("VI_1".into()));
    let new = ["+10.0.1.61", "+10.9.0.0/16 via 10.0.1.254"];
    assert_eq!(changes(&mut host), new);
}

#[test]
fn a_backup_has_no_routes() {
    let mut host = Host::new(settings([with(&TWO)]));
    host.hear_until("10.0.1.2", &router(200), ms(500), ms(5000));
    assert_eq!(host.standing(), Standing::Backup);
    host.handle(Input::Reconfigure(settings([with(&TWO[..1])])));
    assert_eq!(changes(&mut host), [""; 0]);
}
