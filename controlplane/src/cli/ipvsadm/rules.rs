//! Which options go with which command, and what `ipvsadm` says when they do not.

use super::Misuse;

/// A command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Clear,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    SetTimeouts,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
}

impl Verb {
    /// Its name in complaints.
    const fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Clear => "flush",
            Self::List => "list",
            Self::AddServer => "add-server",
            Self::DeleteServer => "delete-server",
            Self::EditServer => "edit-server",
            Self::SetTimeouts => "timeout",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Zero => "zero",
        }
    }
}

/// Options, in the order in which complaints about them are made.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Opt {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    Ops,
    Engine,
    SchedulerFlags,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
    SyncMaxLength,
    McastGroup,
    McastPort,
    McastTtl,
}

impl Opt {
    const ALL: [Self; 34] = [
        Self::Numeric,
        Self::Connection,
        Self::ServiceAddress,
        Self::Scheduler,
        Self::Persistent,
        Self::Netmask,
        Self::RealServer,
        Self::ForwardingMethod,
        Self::Weight,
        Self::UpperThreshold,
        Self::LowerThreshold,
        Self::McastInterface,
        Self::Timeout,
        Self::Daemon,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::PersistentConn,
        Self::NoSort,
        Self::SyncId,
        Self::Exact,
        Self::Ops,
        Self::Engine,
        Self::SchedulerFlags,
        Self::TunnelInfo,
        Self::TunnelType,
        Self::TunnelPort,
        Self::TunnelNoChecksum,
        Self::TunnelChecksum,
        Self::TunnelRemoteChecksum,
        Self::SyncMaxLength,
        Self::McastGroup,
        Self::McastPort,
        Self::McastTtl,
    ];

    /// Its name in complaints.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::ServiceAddress => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::RealServer => "real-server",
            Self::ForwardingMethod => "forwarding-method",
            Self::Weight => "weight",
            Self::UpperThreshold => "u-threshold",
            Self::LowerThreshold => "l-threshold",
            Self::McastInterface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConn => "persistent-conn",
            Self::NoSort => "nosort",
            Self::SyncId => "syncid",
            Self::Exact => "exact",
            Self::Ops => "ops",
            Self::Engine => "pe",
            Self::SchedulerFlags => "sched-flags",
            Self::TunnelInfo => "tun-info",
            Self::TunnelType => "tun-type",
            Self::TunnelPort => "tun-port",
            Self::TunnelNoChecksum => "tun-nocsum",
            Self::TunnelChecksum => "tun-csum",
            Self::TunnelRemoteChecksum => "tun-remcsum",
            Self::SyncMaxLength => "sync-maxlen",
            Self::McastGroup => "mcast-group",
            Self::McastPort => "mcast-port",
            Self::McastTtl => "mcast-ttl",
        }
    }
}

/// The options given.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Given(u64);

impl Given {
    /// Notes one; the second time is an error.
    pub(super) fn add(&mut self, option: Opt) -> Result<(), Misuse> {
        if self.has(option) {
            return Err(Misuse::usage(format!(
                "multiple '{}' options specified",
                option.name()
            )));
        }
        self.0 |= 1 << option as u32;
        Ok(())
    }

    pub(super) fn has(self, option: Opt) -> bool {
        self.0 & 1 << option as u32 != 0
    }

    pub(super) fn has_any(self, options: &[Opt]) -> bool {
        options.iter().any(|option| self.has(*option))
    }
}

/// How an option stands to a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Required,
    Optional,
    /// Only one of these.
    Exclusive,
    Illegal,
}

fn standing(verb: Verb, option: Opt) -> Standing {
    use Standing::{Exclusive, Illegal, Optional, Required};
    match (verb, option) {
        (
            Verb::AddService
            | Verb::EditService
            | Verb::DeleteService
            | Verb::AddServer
            | Verb::EditServer
            | Verb::DeleteServer,
            Opt::ServiceAddress,
        )
        | (Verb::AddServer | Verb::EditServer | Verb::DeleteServer, Opt::RealServer) => Required,
        (
            Verb::AddService | Verb::EditService,
            Opt::Scheduler
            | Opt::Persistent
            | Opt::Netmask
            | Opt::Ops
            | Opt::Engine
            | Opt::SchedulerFlags,
        )
        | (
            Verb::AddServer | Verb::EditServer,
            Opt::ForwardingMethod
            | Opt::Weight
            | Opt::UpperThreshold
            | Opt::LowerThreshold
            | Opt::TunnelType
            | Opt::TunnelPort
            | Opt::TunnelNoChecksum
            | Opt::TunnelChecksum
            | Opt::TunnelRemoteChecksum,
        )
        | (Verb::Zero, Opt::ServiceAddress)
        | (Verb::Save, Opt::Numeric)
        | (
            Verb::List,
            Opt::Numeric
            | Opt::Stats
            | Opt::Rate
            | Opt::Thresholds
            | Opt::PersistentConn
            | Opt::NoSort
            | Opt::Exact
            | Opt::TunnelInfo,
        )
        | (
            Verb::StartDaemon,
            Opt::McastInterface
            | Opt::SyncId
            | Opt::SyncMaxLength
            | Opt::McastGroup
            | Opt::McastPort
            | Opt::McastTtl,
        )
        | (Verb::StopDaemon, Opt::SyncId) => Optional,
        (Verb::List, Opt::Connection | Opt::ServiceAddress | Opt::Timeout | Opt::Daemon) => {
            Exclusive
        }
        _ => Illegal,
    }
}

/// Refuses options that do not go with the command.
pub(super) fn check(verb: Verb, given: Given) -> Result<(), Misuse> {
    let of = verb.name();
    let mut exclusive: Option<Opt> = None;
    for option in Opt::ALL {
        let name = option.name();
        match (standing(verb, option), given.has(option)) {
            (Standing::Required, false) => {
                return Err(Misuse::usage(format!(
                    "You need to supply the '{name}' option for the '{of}' command"
                )));
            }
            (Standing::Illegal, true) => {
                return Err(Misuse::usage(format!(
                    "Illegal '{name}' option with the '{of}' command"
                )));
            }
            (Standing::Exclusive, true) => {
                if let Some(first) = exclusive {
                    return Err(Misuse::usage(format!(
                        "The option '{name}' conflicts with the '{}' option in the '{of}' command",
                        first.name()
                    )));
                }
                exclusive = Some(option);
            }
            _ => {}
        }
    }
    // What lists no services has no columns to choose.
    let columns = [Opt::Stats, Opt::Rate, Opt::Thresholds, Opt::TunnelInfo];
    let conflict = given.has_any(&[Opt::Connection, Opt::Timeout, Opt::Daemon])
        && given.has_any(&columns)
        || given.has_any(&[Opt::Timeout, Opt::Daemon]) && given.has(Opt::PersistentConn);
    if verb == Verb::List && conflict {
        return Err(Misuse::usage("options conflicts in the list command"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_a_place_of_its_own() {
        for (index, option) in Opt::ALL.into_iter().enumerate() {
            assert_eq!(option as usize, index, "{option:?}");
        }
    }
}
