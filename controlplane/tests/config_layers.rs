//! What counts when a setting is given in several places: includes, the environment, `--set`, the dump, a reload.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use controlplane::config::reload::{What, compare};
use controlplane::config::{Forward, Idle, LoadOptions, Loaded, Scheduler, load, summary};
use tempfile::TempDir;

const BASE: &str = "\
[global]
idle = adaptive
router_id = lb1
[port lan]
device = net_tap0
addresses = 10.0.0.2/24
[virtual_server web]
addresses = 10.0.0.50-51:80
scheduler = wlc
[real_server web/a]
address = 10.0.0.11
[real_server web/b]
address = 10.0.0.12
weight = 2
";

struct File {
    directory: TempDir,
    options: LoadOptions,
}

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.ini");
        fs::write(&path, text).unwrap();
        Self {
            directory,
            options: LoadOptions::new(path),
        }
    }

    fn set(mut self, argument: &str) -> Self {
        self.options.overrides.push(argument.to_owned());
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.options
            .environment
            .push((name.to_owned(), value.to_owned()));
        self
    }

    fn with(self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    #[track_caller]
    fn load(&self) -> Loaded {
        load(&self.options).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
    }

    #[track_caller]
    fn refused(&self) -> Vec<String> {
        let text = load(&self.options).expect_err("accepted").to_string();
        self.plain(&text).lines().map(str::to_owned).collect()
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn the_model_has_what_the_file_says_and_defaults_for_the_rest() {
    let config = File::new(BASE).load().config;
    assert_eq!(config.global.router_id, "lb1");
    assert_eq!(config.global.connections, 1_000_000);
    assert_eq!(config.global.worker_cores, None);
    assert_eq!(config.global.http_listen, None);
    assert_eq!(config.timeouts.tcp_established, Duration::from_mins(15));
    assert_eq!(config.timeouts.tcp_syn_recv, Duration::from_mins(1));
    assert_eq!(config.ipvs.conn_reuse_mode, 1);
    assert_eq!(config.ipvs.expire_nodest_conn, None);
    assert!(config.ipvs.pmtu_disc);
    let port = &config.ports[0];
    assert_eq!(
        (port.devices.as_slice(), port.mtu),
        (["net_tap0".to_owned()].as_slice(), 1500)
    );
    assert_eq!(port.kernel_interface.as_deref(), Some("lan"));
    let web = &config.virtual_servers[0];
    let addresses: Vec<SocketAddr> = vec![
        "10.0.0.50:80".parse().unwrap(),
        "10.0.0.51:80".parse().unwrap(),
    ];
    assert_eq!(web.addresses, addresses);
    assert_eq!(web.scheduler, Scheduler::WeightedLeastConnection);
    assert_eq!(web.real_servers[1].weight, 2);
    assert!(web.real_servers[1].place.to_string().ends_with("t.ini:12"));
}

#[test]
fn set_wins_over_the_environment_and_both_over_the_file() {
    let file = File::new(BASE)
        .variable("SLUICE__GLOBAL__IDLE", "busy")
        .variable("SLUICE__GLOBAL__LOG", "debug")
        .variable("SLUICE__IPVS__SLOPPY_TCP", "1")
        .variable("HOME", "/root")
        .set("global.log=trace")
        .set("virtual_server web.scheduler=rr")
        .set("virtual_server web.forward = nat")
        .set("port lan.device_2=net_tap1")
        .set("real_server web/a.weight=7");
    let config = file.load().config;
    assert_eq!(config.global.idle, Idle::Busy);
    assert_eq!(config.global.log, "trace");
    assert!(config.ipvs.sloppy_tcp);
    assert_eq!(config.virtual_servers[0].scheduler, Scheduler::RoundRobin);
    assert_eq!(config.virtual_servers[0].real_servers[0].weight, 7);
    assert_eq!(
        config.virtual_servers[0].real_servers[0].forward,
        Forward::Nat
    );
    assert_eq!(config.ports[0].devices, ["net_tap0", "net_tap1"]);
}

#[test]
fn an_override_that_matches_nothing_is_an_error() {
    let file = File::new(BASE)
        .variable("SLUICE__GLOBAL__IDEL", "busy")
        .variable("SLUICE__PORT__MTU", "9000")
        .variable("SLUICE__GLOBAL__IDLE", "bussy")
        .set("virtual_server wbe.scheduler=rr")
        .set("virtual_server web.schedular=rr")
        .set("virtual_server web.scheduler=rrr")
        .set("globl.idle=busy")
        .set("nonsense");
    assert_eq!(
        file.refused(),
        [
            "SLUICE__GLOBAL__IDEL: [global] idel: unknown key; did you mean `idle`?".to_owned(),
            "SLUICE__PORT__MTU: matches nothing; expected SLUICE__SECTION__KEY with SECTION one of GLOBAL, TIMEOUTS, IPVS, \
             SYNC".to_owned(),
            "SLUICE__GLOBAL__IDLE: [global] idle: `bussy` is not valid; expected busy or adaptive; did you mean `busy`?"
                .to_owned(),
            "--set virtual_server wbe.scheduler=rr: [virtual_server wbe]: matches nothing: no such section; expected one \
             of the file's; did you mean `web`?".to_owned(),
            "--set virtual_server web.schedular=rr: [virtual_server web] schedular: unknown key; did you mean \
             `scheduler`?".to_owned(),
            "--set virtual_server web.scheduler=rrr: [virtual_server web] scheduler: `rrr` is not valid; expected rr, \
             wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh or twos; did you mean `rr`?".to_owned(),
            "--set globl.idle=busy: [globl]: matches nothing: unknown section; expected 'SECTION.key=value'; did you mean \
             `global`?".to_owned(),
            "--set nonsense: matches nothing; expected 'SECTION.key=value' such as 'virtual_server web.scheduler=rr'"
                .to_owned(),
        ]
    );
}

#[test]
fn a_section_name_may_contain_dots() {
    let text = BASE.replace("web", "web.example-1.org");
    let config = File::new(&text)
        .set("virtual_server web.example-1.org.scheduler=wrr")
        .load()
        .config;
    assert_eq!(
        config.virtual_servers[0].scheduler,
        Scheduler::WeightedRoundRobin
    );
}

#[test]
fn the_dump_shows_every_value_with_its_origin() {
    let file = File::new(BASE)
        .variable("SLUICE__GLOBAL__LOG", "debug")
        .set("virtual_server web.scheduler=rr")
        .set("global.router_id=lb # one");
    let dump = file.plain(&file.load().dump());
    let has = |line: &str| {
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            dump.lines().any(|other| squeezed(other) == line),
            "{line}\n{dump}"
        );
    };
    has("[global] # t.ini:1");
    has("idle = adaptive # t.ini:2");
    has("log = debug # environment SLUICE__GLOBAL__LOG");
    has("router_id = \"lb # one\" # --set");
    has("connections = 1000000 # default");
    has("eal_args = # default");
    has("[timeouts] # default");
    has("tcp = 900 # default");
    has("kernel_interface = lan # default");
    has("scheduler = rr # --set");
    has("forward = dr # default");
    has("[real_server web/b] # t.ini:12");
    has("weight = 2 # t.ini:14");
    let again = File::new(&dump).load();
    assert_eq!(again.config, file.load().config);
}

#[test]
fn secrets_are_never_shown() {
    let file = File::new(&format!(
        "{BASE}[vrrp v]\ninterface = lan\nvirtual_router_id = 1\npriority = 100\n\
        addresses = 10.0.0.9\nauth_type = PASS\nauth_pass = hunter2\n"
    ));
    assert!(!file.refused().join("\n").contains("hunter2"));
}

#[test]
fn included_files_stand_before_the_including_one_in_alphabetical_order() {
    let file = File::new("include = conf.d/*.ini, extra.ini\n[port lan]\ndevice = net_tap0\n")
        .with(
            "conf.d/20-b.ini",
            "[virtual_server b]\naddresses = 10.0.0.2:80\n[real_server b/x]\naddress = 10.1.0.1\n",
        )
        .with(
            "conf.d/10-a.ini",
            "[virtual_server a]\naddresses = 10.0.0.1:80\n[real_server a/x]\naddress = 10.1.0.1\n",
        )
        .with("conf.d/.hidden.ini", "nonsense")
        .with("conf.d/backup.ini~", "nonsense")
        .with(
            "extra.ini",
            "[virtual_server c]\naddresses = 10.0.0.3:80\n[real_server c/x]\naddress = 10.1.0.1\n",
        );
    let loaded = file.load();
    let names: Vec<_> = loaded
        .config
        .virtual_servers
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(
        file.plain(&loaded.config.virtual_servers[1].place.to_string())
            .ends_with("conf.d/20-b.ini:1")
    );
}

#[test]
fn includes_that_cannot_be_read_cycles_and_repeats_are_errors() {
    let file = File::new("include = none.ini\ninclude_2 = nothing/*.ini, loop.ini\n[global]\nlog = info\n[port lan]\ndevice = net_tap0\n")
        .with("loop.ini", "include = t.ini\n[global]\nlog = debug\n");
    assert_eq!(
        file.refused(),
        [
            "t.ini:1: include: cannot read `none.ini`: no such file; expected a readable file",
            "t.ini:3: [global]: the section is repeated; expected it once, first at loop.ini:2",
            "loop.ini:1: include: `t.ini` includes itself; expected no cycle",
        ]
    );
}

#[test]
fn the_summary_counts_services_and_servers() {
    let file = File::new(BASE);
    let line = summary(&file.options.path, &file.load().config);
    assert_eq!(
        file.plain(&line),
        "t.ini: ok: 1 port, 2 virtual services, 2 real servers"
    );
}

#[test]
fn a_reload_names_its_changes() {
    let old = File::new(BASE).load();
    let text = BASE
        .replace("scheduler = wlc", "scheduler = wrr")
        .replace("weight = 2", "weight = 3")
        + "[real_server web/c]\naddress = 10.0.0.13\n[timeouts]\ntcp = 600\n";
    let changes = compare(&old, &File::new(&text).load()).unwrap();
    let shown: Vec<_> = changes.list.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "[timeouts] tcp: 900 -> 600",
            "[virtual_server web] scheduler: wlc -> wrr",
            "[real_server web/b] weight: 2 -> 3",
            "[real_server web/c] added",
        ]
    );
    assert!(changes.touches("timeouts") && !changes.touches("port"));
    assert!(changes.touches_key("real_server", "weight"));
    assert!(changes.list.iter().any(|change| change.what == What::Added));
}

#[test]
fn writing_the_same_differently_changes_nothing() {
    let old = File::new(BASE).load();
    let text = BASE.replace("weight = 2", "# moved\n\nweight = \"2\"")
        + "[timeouts]\ntcp = 15m\n[ipvs]\nsloppy_tcp = off\n";
    let changes = compare(&old, &File::new(&text).load()).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
}

#[test]
fn what_the_running_process_cannot_change_needs_a_restart() {
    for (before, after, expected) in [
        (
            "[global]\n",
            "[global]\nworker_cores = 1\n",
            "t.ini:2: [global] worker_cores: needs a restart: `auto` is running, `1` is wanted",
        ),
        (
            "[global]\n",
            "[global]\ncontrol_core = 1\n",
            "t.ini:2: [global] control_core: needs a restart: `0` is running, `1` is wanted",
        ),
        (
            "[global]\n",
            "[global]\nmemory = 1GB\n",
            "t.ini:2: [global] memory: needs a restart: `auto` is running, `1GB` is wanted",
        ),
        (
            "[global]\n",
            "[global]\nhugepages = no\n",
            "t.ini:2: [global] hugepages: needs a restart: `auto` is running, `no` is wanted",
        ),
        (
            "[global]\n",
            "[global]\nconnections = 5\n",
            "t.ini:2: [global] connections: needs a restart: `1000000` is running, `5` is wanted",
        ),
        (
            "[global]\n",
            "[global]\neal_args = --no-pci\n",
            "t.ini:2: [global] eal_args: needs a restart: nothing is running, `--no-pci` is wanted",
        ),
        (
            "[global]\n",
            "[global]\nadmin_socket = /run/x\n",
            "t.ini:2: [global] admin_socket: needs a restart: `/run/sluice/admin.sock` is running, `/run/x` is wanted",
        ),
        (
            "net_tap0",
            "net_tap9",
            "t.ini:5: [port lan] device: needs a restart: `net_tap0` is running, `net_tap9` is wanted",
        ),
        (
            "net_tap0\n",
            "net_tap0\nrx_queues = 2\n",
            "t.ini:6: [port lan] rx_queues: needs a restart: `auto` is running, `2` is wanted",
        ),
        (
            "net_tap0\n",
            "net_tap0\nkernel_interface = x\n",
            "t.ini:6: [port lan] kernel_interface: needs a restart: `lan` is running, `x` is wanted",
        ),
        (
            "net_tap0\n",
            "net_tap0\ndevice_2 = net_tap1\n",
            "t.ini:6: [port lan] device_2: needs a restart: nothing is running, `net_tap1` is wanted",
        ),
        (
            "[virtual",
            "[port p2]\ndevice = net_tap5\n[virtual",
            "t.ini:7: [port p2]: needs a restart: a new port",
        ),
    ] {
        let old = File::new(BASE).load();
        let new = File::new(&BASE.replacen(before, after, 1));
        let refused = compare(&old, &new.load()).unwrap_err();
        let shown: Vec<_> = refused
            .iter()
            .map(|refusal| new.plain(&refusal.to_string()))
            .collect();
        assert_eq!(shown, [expected]);
    }
}

#[test]
fn what_can_change_at_run_time_does_not_need_a_restart() {
    let old = File::new(BASE).load();
    for (before, after) in [
        (
            "10.0.0.2/24\n",
            "10.0.0.2/24, 10.9.0.1/24\ngateway = 10.0.0.1\nroutes = 10.1.0.0/16 via 10.0.0.1\nmtu = 9000\n",
        ),
        ("router_id = lb1", "router_id = lb2\nlog = debug"),
        (
            "scheduler = wlc",
            "scheduler = rr\nforward = nat\nno_server = drop\non_real_removed = expire",
        ),
        ("[real_server web/a]\naddress = 10.0.0.11\n", ""),
    ] {
        let changes = compare(&old, &File::new(&BASE.replacen(before, after, 1)).load()).unwrap();
        assert!(!changes.is_empty());
    }
}
