//! The configuration: one INI file with includes, overridden from the environment and by `--set`.
//!
//! Text becomes a located tree ([`ini`]), the tree is checked against one table of sections and keys ([`schema`]), the
//! `config` crate lays the layers over each other ([`format`]), the effective settings are checked together
//! ([`cross`]) and become the typed [`Config`]. Invariant: a configuration is used whole or not at all, and everything
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
mod model;
mod overrides;
pub mod reload;
mod report;
mod schema;
mod sources;
mod summary;
mod validate;
mod value;
mod words;

use std::path::PathBuf;

pub use self::diagnostic::{Diagnostic, Diagnostics};
pub use self::effective::EffectiveTable;
pub use self::location::{Origin, Place};
pub use self::model::{
    Config, GlobalConfig, InterfaceAddress, IpvsConfig, NeighborConfig, PortConfig,
    RealServerConfig, Route, TimeoutsConfig, VirtualAddress, VirtualServerConfig,
};
use self::report::Report;
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
    let sources = sources::read(&options.path, &mut report);
    if sources.is_empty() {
        return Err(report.finish());
    }
    let mut known = validate::sections(&sources, &mut report);
    validate::add_implied(&mut known);
    let (environment, environment_layer) =
        overrides::environment(&options.environment, &mut known, &mut report);
    let (set, set_layer) = overrides::set(&options.overrides, &mut known, &mut report);
    let layers = layering::effective(
        &known,
        &sources,
        (&environment, environment_layer),
        (&set, set_layer),
    );
    let whole = validate::whole(&options.path);
    let effective = match layers {
        Ok(effective) => effective,
        Err(error) => {
            report.error(&whole, None, None, error.to_string());
            return Err(report.finish());
        }
    };
    cross::check(&effective, &whole, &mut report);
    let config = build::config(&effective);
    let mut diagnostics = report.finish();
    match config {
        Some(config) if diagnostics.is_ok() => Ok(Loaded {
            config,
            warnings: diagnostics.warnings,
            effective,
        }),
        _ => {
            if diagnostics.is_ok() {
                // The schema promises a value the model did not find: our fault, but better said than a panic.
                diagnostics.errors.push(Diagnostic {
                    origin: whole,
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
