//! The configuration: one INI file with includes, overridden from the environment and by `--set`.
//!
//! Text becomes a located tree (`ini`), the tree is checked against one table of sections and keys (`schema`), the
//! `config` crate lays the layers over each other (`format`), the effective settings are checked together
//! (`cross`) and become the typed [`Config`]. Invariant: a configuration is used whole or not at all, and everything
//! that is wrong with it is said at once.

mod address;
mod build;
mod cross;
mod diagnostic;
mod dump;
mod effective;
mod format;
mod ini;
mod layering;
mod location;
mod mail_server;
mod model;
mod monitoring;
mod netmask;
mod overrides;
mod redundancy;
pub mod reload;
mod report;
mod schema;
mod sources;
mod summary;
mod validate;
mod value;
mod words;

use std::path::PathBuf;

pub use self::address::{InterfaceAddress, Route, VirtualAddress};
pub(crate) use self::cross::MOST_SERVERS_OF_MH;
pub use self::diagnostic::{Diagnostic, Diagnostics};
pub use self::effective::EffectiveTable;
pub use self::location::{Origin, Place};
pub(crate) use self::mail_server::mail_server;
pub use self::model::{
    Config, DEFAULT_SCRIPT_USER, GlobalConfig, IpvsConfig, MarkConfig, NeighborConfig, PortConfig,
    RealServerConfig, TimeoutsConfig, VirtualServerConfig, VlanConfig,
};
pub use self::monitoring::{BfdConfig, CheckConfig, TrackFileConfig, TrackScriptConfig};
pub use self::netmask::PersistenceNetmask;
pub use self::redundancy::{NotifyConfig, Secret, SyncConfig, VrrpConfig, VrrpGroupConfig};
use self::report::Report;
pub(crate) use self::schema::is_built;
pub use self::summary::summary;
pub use self::words::{
    AuthType, CheckAddresses, CheckType, ClientAddress, Established, Family, Forward, Idle,
    InitialState, NoServer, Protocol, Scheduler, Serve, SyncPeer, Transit, Via, VrrpChecksum,
};

/// Where the file is unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/sluice/sluice.ini";

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The main file.
    pub path: PathBuf,
    /// The arguments of `--set`, in order.
    pub overrides: Vec<String>,
    /// The environment; only `SLUICE__SECTION__KEY` is looked at.
    pub environment: Vec<(String, String)>,
}

impl LoadOptions {
    /// The file alone, without overrides.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// Adds the process's environment. Variables that are not UTF-8 cannot be ours.
    pub fn with_process_environment(mut self) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        self.environment.extend(variables);
        self
    }
}

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The typed model.
    pub config: Config,
    /// Settings that will not do what their author thinks.
    pub warnings: Vec<Diagnostic>,
    /// Every setting with its text and origin.
    pub effective: EffectiveTable,
}

impl Loaded {
    /// The text of `--dump-config`.
    pub fn dump(&self) -> String {
        self.effective.dump()
    }
}

/// Reads, checks and resolves a configuration; refused, it is refused with everything that is wrong.
pub fn load(options: &LoadOptions) -> Result<Loaded, Diagnostics> {
    let mut report = Report::default();
    let effective = resolve(options, &mut report);
    let mut diagnostics = report.finish();
    match effective.map(|effective| (build::config(&effective), effective)) {
        Some((Some(config), effective)) if diagnostics.is_ok() => Ok(Loaded {
            config,
            warnings: diagnostics.warnings,
            effective,
        }),
        _ => {
            if diagnostics.is_ok() {
                // The schema promises a value the model did not find: our fault, but better said than a panic.
                diagnostics.errors.push(Diagnostic {
                    origin: validate::whole(&options.path),
                    section: None,
                    key: None,
                    message: "internal error: a setting has no value; please report this"
                        .to_owned(),
                });
            }
            Err(diagnostics)
        }
    }
}

/// The effective settings, as far as the files could be read.
fn resolve(options: &LoadOptions, report: &mut Report) -> Option<EffectiveTable> {
    let sources = sources::read(&options.path, report);
    if sources.is_empty() {
        return None;
    }
    let mut known = validate::sections(&sources, report);
    validate::add_implied(&mut known);
    let (environment, environment_layer) =
        overrides::environment(&options.environment, &mut known, report);
    let (set, set_layer) = overrides::set(&options.overrides, &mut known, report);
    let whole = validate::whole(&options.path);
    match layering::effective(
        &known,
        &sources,
        (&environment, environment_layer),
        (&set, set_layer),
    ) {
        Ok(effective) => {
            cross::check(&effective, &whole, report);
            Some(effective)
        }
        Err(error) => {
            report.error(&whole, None, None, error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model as it will be once every feature is built: what is refused now must be understood all the same.
    fn future(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.ini");
        std::fs::write(&path, text).unwrap();
        let mut report = Report::default();
        let effective = resolve(&LoadOptions::new(path), &mut report).unwrap();
        let errors = report.finish().errors;
        let unbuilt = |error: &Diagnostic| error.message.contains("not supported yet");
        assert!(errors.iter().all(unbuilt), "{errors:#?}");
        build::config(&effective).unwrap()
    }

    #[test]
    fn settings_of_later_features_reach_the_model() {
        let config = future(
            "[port lan]\ndevice = net_tap0\n[vlan v5]\nport = lan\nid = 5\n\
             [check web]\ntype = http\npath = /a\npath_2 = /b\ninterval = 5s\nstatus = 200-299,301\n\
             [check deep]\nextends = web\nretries = 1\n\
             [bfd b]\npeer = 10.0.0.9\n[track_file f]\nfile = /run/f\n[track_script s]\ncommand = /bin/true\n\
             [vrrp one]\ninterface = lan\nvirtual_router_id = 51\naddresses = 10.0.0.50/24@lan\nauth_type = PASS\n\
             auth_pass = 1111\ntrack_interfaces = eth0:-20\nnotify = /bin/n\n\
             [vrrp_group g]\nmembers = one\n[sync]\nfollow = one\n[mark m]\nmark = 7\nports = 80,1000-2000\n\
             protocol = tcp\n[virtual_server web]\naddresses = 10.0.0.50:0\nscheduler = sh\n\
             scheduler_flags = sh-port\npersistence = 5m\npersistence_netmask = 255.255.255.0\nchecks = deep, ping\n\
             sorry_server = 10.0.0.99:80\nforward = tunnel\n[real_server web/a]\naddress = 10.0.0.11\ntunnel = gue:6080\n\
             check_port = 81\n",
        );
        assert_eq!(config.vlans[0].id, 5);
        let deep = &config.checks[1];
        assert_eq!(
            (deep.paths.len(), deep.retries, deep.kind),
            (2, 1, CheckType::Http)
        );
        assert_eq!(deep.statuses, [[(200, 299), (301, 301)]]);
        assert_eq!(config.checks[0].retries, 3);
        let vrrp = &config.vrrp[0];
        assert_eq!((vrrp.version, vrrp.priority), (2, 100));
        assert_eq!(vrrp.track_interfaces, [("eth0".to_owned(), -20)]);
        assert_eq!(vrrp.auth_pass.as_ref().map(Secret::reveal), Some("1111"));
        assert!(!format!("{config:?}").contains("1111"));
        assert_eq!(config.vrrp_groups[0].members, ["one"]);
        assert_eq!(config.sync.as_ref().unwrap().mcast_port, 8848);
        assert_eq!(config.marks[0].ports, [(80, 80), (1000, 2000)]);
        assert_eq!(config.bfd[0].multiplier, 5);
        assert_eq!(
            (config.track_files[0].weight, config.track_scripts[0].rise),
            (1, 1)
        );
        let web = &config.virtual_servers[0];
        assert_eq!(web.persistence, Some(std::time::Duration::from_mins(5)));
        assert_eq!(
            (web.persistence_netmask, web.scheduler),
            (
                PersistenceNetmask {
                    v4: Some(24),
                    v6: None
                },
                Scheduler::SourceHash
            )
        );
        assert_eq!(web.checks, ["deep", "ping"]);
        let real = &web.real_servers[0];
        assert_eq!(real.tunnel, Some(("gue".to_owned(), Some(6080))));
        assert_eq!((real.forward, real.check_port), (Forward::Tunnel, Some(81)));
    }
}
