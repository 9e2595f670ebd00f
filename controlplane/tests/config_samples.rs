//! The sample files in `conf/` load as they are, and loading survives whatever is done to them.

use std::path::{Path, PathBuf};

use controlplane::config::{Forward, LoadOptions, Scheduler, load};
use proptest::prelude::*;

fn samples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ini"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_sample_loads_without_errors_or_warnings() {
    let samples = samples();
    assert!(samples.len() >= 3);
    for path in samples {
        match load(&LoadOptions::new(&path)) {
            Ok(loaded) => assert_eq!(loaded.warnings, [], "{}", path.display()),
            Err(diagnostics) => panic!("{diagnostics}"),
        }
    }
}

#[test]
fn the_dump_of_every_sample_is_the_same_configuration() {
    for path in samples() {
        let loaded = load(&LoadOptions::new(&path)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let dumped = directory.path().join("dump.ini");
        std::fs::write(&dumped, loaded.dump()).unwrap();
        let again = load(&LoadOptions::new(&dumped)).unwrap();
        assert_eq!(loaded.config, again.config);
    }
}

#[test]
fn the_commented_reference_names_the_true_defaults() {
    let path = samples()
        .into_iter()
        .find(|path| path.ends_with("sluice.ini"))
        .unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let plain = load(&LoadOptions::new(&path)).unwrap();
    let uncommented: Vec<String> = text
        .lines()
        .map(|line| {
            let setting = line.strip_prefix('#').filter(|rest| {
                let key = rest.split(' ').next().unwrap_or_default();
                !key.is_empty()
                    && rest[key.len()..].starts_with(" =")
                    && !["include", "router_id", "expire_nodest_conn"].contains(&key)
            });
            setting.unwrap_or(line).to_owned()
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.ini");
    std::fs::write(&file, uncommented.join("\n")).unwrap();
    let all = load(&LoadOptions::new(&file)).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert_eq!(plain.config, all.config);
}

#[test]
fn the_direct_routing_sample_means_what_it_says() {
    let path = samples()
        .into_iter()
        .find(|path| path.ends_with("web-dr.ini"))
        .unwrap();
    let config = load(&LoadOptions::new(path)).unwrap().config;
    let web = &config.virtual_servers[0];
    assert_eq!(web.addresses.len(), 2);
    assert_eq!(web.scheduler, Scheduler::WeightedRoundRobin);
    let weights: Vec<_> = web
        .real_servers
        .iter()
        .map(|real| (real.name.as_str(), real.weight, real.forward))
        .collect();
    assert_eq!(
        weights,
        [("web1", 1, Forward::Dr), ("web2", 2, Forward::Dr)]
    );
    assert_eq!(
        web.real_servers[0].endpoint(web.addresses[1]).to_string(),
        "10.0.0.11:443"
    );
}

/// Loads bytes as a file; whatever comes out, it comes out as a value.
fn load_bytes(bytes: &[u8]) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mutated.ini");
    std::fs::write(&path, bytes).unwrap();
    match load(&LoadOptions::new(&path)) {
        Ok(loaded) => {
            let dumped = directory.path().join("dump.ini");
            std::fs::write(&dumped, loaded.dump()).unwrap();
            let again = load(&LoadOptions::new(&dumped)).unwrap_or_else(|diagnostics| {
                panic!("the dump does not load: {diagnostics}\n{}", loaded.dump())
            });
            assert_eq!(loaded.config, again.config);
            true
        }
        Err(diagnostics) => {
            assert!(!diagnostics.errors.is_empty());
            let text = diagnostics.to_string();
            assert_eq!(
                text.lines().count(),
                diagnostics.errors.len() + diagnostics.warnings.len(),
                "{text}"
            );
            false
        }
    }
}

/// Lines an operator might write, good and bad, in any order.
fn line() -> impl Strategy<Value = String> {
    let words: &'static [&'static str] = &[
        "[global]",
        "[virtual_server web]",
        "[real_server web/a]",
        "[real_server web/b]",
        "[port lan]",
        "[ipvs]",
        "[vrrp v]",
        "[check c]",
        "[neighbor 10.0.0.9]",
        "[sync]",
        "[vlan v5]",
        "[mark m]",
        "[bfd b]",
        "[vrrp_group g]",
        "[track_script s]",
        "[track_file f]",
    ];
    let keys: &'static [&'static str] = &[
        "addresses",
        "address",
        "weight",
        "scheduler",
        "forward",
        "device",
        "device_2",
        "mac",
        "idle",
        "worker_cores",
        "log",
        "routes",
        "gateway",
        "members",
        "type",
        "extends",
        "interface",
        "priority",
        "persistence",
        "eal_args",
        "lower_threshold",
        "upper_threshold",
        "quorum",
        "follow",
        "track_scripts",
        "virtual_router_id",
        "checks",
        "kernel_interface",
        "mtu",
        "include",
        "port",
        "id",
        "mark",
        "file",
        "peer",
        "command",
        "status_2",
        "digest",
    ];
    let values: &'static [&'static str] = &[
        "10.0.0.1:80",
        "10.0.0.1",
        "[2001:db8::1]:80",
        "10.0.0.0/30:80",
        "10.0.0.1-9:80",
        "3",
        "0",
        "rr",
        "nat",
        "dr",
        "net_tap0",
        "02:00:00:00:00:01",
        "1-3,6",
        "busy",
        "\"quoted # text\"",
        "",
        ",",
        "web",
        "v",
        "c, tcp",
        "a:5",
        "10.0.0.0/8 via 10.0.0.1",
        "10.0.0.2/24",
        "off",
        "auto",
        "none",
        "http",
        "99999999999999999999",
        "-1",
        "5m",
    ];
    prop_oneof![
        3 => proptest::sample::select(words).prop_map(str::to_owned),
        8 => (proptest::sample::select(keys), proptest::sample::select(values)).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => proptest::sample::select(values).prop_map(|value| format!("  {value}")),
        1 => "[ -~]{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        load_bytes(&bytes);
    }

    #[test]
    fn arbitrary_settings_never_panic(lines in proptest::collection::vec(line(), 0..40)) {
        load_bytes(lines.join("\n").as_bytes());
    }

    #[test]
    fn mutated_samples_never_panic(
        sample in any::<proptest::sample::Index>(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0u8..4, any::<u8>()), 1..8),
    ) {
        let samples = samples();
        let mut bytes = std::fs::read(&samples[sample.index(samples.len())]).unwrap();
        for (at, kind, byte) in edits {
            // Cut to one byte and that one removed: nothing is left to edit.
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => { bytes.remove(at); }
                _ => bytes.truncate(at + 1),
            }
        }
        load_bytes(&bytes);
    }

    #[test]
    fn samples_with_lines_dropped_or_repeated_never_panic(
        sample in any::<proptest::sample::Index>(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>()), 1..6),
    ) {
        let samples = samples();
        let text = std::fs::read_to_string(&samples[sample.index(samples.len())]).unwrap();
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        for (at, repeat) in edits {
            if lines.is_empty() {
                break;
            }
            let at = at.index(lines.len());
            if repeat { lines.insert(at, lines[at]); } else { lines.remove(at); }
        }
        load_bytes(lines.join("\n").as_bytes());
    }
}

#[test]
fn the_persistence_sample_means_what_it_says() {
    let path = samples()
        .into_iter()
        .find(|path| path.ends_with("web-persistent.ini"))
        .unwrap();
    let loaded = load(&LoadOptions::new(&path)).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    let [shop, desktops, sip] = &config.virtual_servers[..] else {
        panic!("three services")
    };
    let minutes = |service: &controlplane::config::VirtualServerConfig| {
        service.persistence.map(|timeout| timeout.as_secs() / 60)
    };
    assert_eq!((shop.fwmark, minutes(shop)), (Some(1), Some(30)));
    assert_eq!(
        config.vips(shop),
        ["203.0.113.80".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(shop.endpoints()[0].to_string(), "0.0.0.0:0");
    assert_eq!(minutes(desktops), Some(5));
    assert_eq!(desktops.persistence_netmask.v4, Some(24));
    assert_eq!(sip.persistence_engine.as_deref(), Some("sip"));
    assert!(sip.one_packet && config.ipvs.expire_quiescent_template);
    let summary = controlplane::config::summary(&path, &config);
    assert!(
        summary.ends_with("ok: 2 ports, 3 virtual services, 6 real servers"),
        "{summary}"
    );
}
