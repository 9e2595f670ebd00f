//! From words to a request: the options of `ipvsadm`, their arguments, and its complaints.
//!
//! The order of the checks is the tool's, because of several slips it names only the first: each
//! argument as it is read, words left over, options that do not go with the command, and then
//! what does not fit together.

use super::Misuse;
use super::address::{self, number};
use super::flags;
use super::names::Names;
use super::popt::{Found, Spelling, Takes, Words};
use super::rules::{self, Given, Opt, Verb};
use crate::admin::api::{
    IpvsCommand, IpvsForward, IpvsKey, IpvsServerKey, IpvsServerSettings, IpvsSettings,
    IpvsTimeouts, IpvsTunnel, Netmask, Protocol, TunnelChecksum, TunnelType,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Request {
    /// A change of the tables.
    Change(IpvsCommand),
    /// A listing.
    List(Listing),
    /// The tables as commands.
    Save {
        /// Without names.
        numeric: bool,
    },
    /// Commands from standard input.
    Restore,
    /// Start connection sync.
    StartDaemon,
    /// Stop connection sync.
    StopDaemon,
    /// Usage.
    Help,
    /// Version.
    Version,
}

/// What to list, and how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Listing {
    /// What.
    pub(super) what: What,
    /// Without names.
    pub(super) numeric: bool,
    /// Numbers in full.
    pub(super) exact: bool,
    /// As the daemon lists them.
    pub(super) unsorted: bool,
    /// Which columns.
    pub(super) columns: Columns,
}

/// What a listing is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum What {
    /// All services.
    #[default]
    Services,
    /// One.
    Service(IpvsKey),
    /// Connections.
    Connections,
    /// The three timeouts.
    Timeouts,
    /// The sync daemons.
    Daemons,
}

/// Columns of a listing of services.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Columns {
    /// Method, weight, connections.
    #[default]
    Plain,
    /// Counters.
    Stats,
    /// Counters per second.
    Rate,
    /// Connection thresholds.
    Thresholds,
    /// Persistence templates.
    PersistentConn,
    /// Plain, and the encapsulation.
    TunnelInfo,
}

/// Everything with a dash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Verb(Verb),
    Help,
    Version,
    Service(Protocol),
    Fwmark,
    Ipv6,
    Scheduler,
    Persistent,
    Netmask,
    Engine,
    SchedulerFlags,
    RealServer,
    Forward(IpvsForward),
    Weight,
    UpperThreshold,
    LowerThreshold,
    TunnelType,
    TunnelPort,
    TunnelChecksum(Opt, TunnelChecksum),
    McastInterface,
    McastGroup,
    McastPort,
    McastTtl,
    SyncId,
    SyncMaxLength,
    /// One without an argument or a meaning of its own.
    Flag(Opt),
    Sort,
}

const fn word(
    short: Option<char>,
    long: &'static str,
    takes: Takes,
    option: Word,
) -> Spelling<Word> {
    Spelling {
        option,
        short,
        long,
        takes,
    }
}

#[rustfmt::skip]
const SPELLINGS: &[Spelling<Word>] = &[
    word(Some('A'), "add-service", Takes::Nothing, Word::Verb(Verb::AddService)),
    word(Some('E'), "edit-service", Takes::Nothing, Word::Verb(Verb::EditService)),
    word(Some('D'), "delete-service", Takes::Nothing, Word::Verb(Verb::DeleteService)),
    word(Some('C'), "clear", Takes::Nothing, Word::Verb(Verb::Clear)),
    word(Some('L'), "list", Takes::Nothing, Word::Verb(Verb::List)),
    word(Some('l'), "list", Takes::Nothing, Word::Verb(Verb::List)),
    word(Some('Z'), "zero", Takes::Nothing, Word::Verb(Verb::Zero)),
    word(Some('a'), "add-server", Takes::Nothing, Word::Verb(Verb::AddServer)),
    word(Some('e'), "edit-server", Takes::Nothing, Word::Verb(Verb::EditServer)),
    word(Some('d'), "delete-server", Takes::Nothing, Word::Verb(Verb::DeleteServer)),
    word(Some('R'), "restore", Takes::Nothing, Word::Verb(Verb::Restore)),
    word(Some('S'), "save", Takes::Nothing, Word::Verb(Verb::Save)),
    word(None, "set", Takes::Nothing, Word::Verb(Verb::SetTimeouts)),
    word(None, "start-daemon", Takes::Argument, Word::Verb(Verb::StartDaemon)),
    word(None, "stop-daemon", Takes::Argument, Word::Verb(Verb::StopDaemon)),
    word(Some('h'), "help", Takes::Nothing, Word::Help),
    word(Some('v'), "version", Takes::Nothing, Word::Version),
    word(Some('t'), "tcp-service", Takes::Argument, Word::Service(Protocol::Tcp)),
    word(Some('u'), "udp-service", Takes::Argument, Word::Service(Protocol::Udp)),
    word(None, "sctp-service", Takes::Argument, Word::Service(Protocol::Sctp)),
    word(Some('f'), "fwmark-service", Takes::Argument, Word::Fwmark),
    word(Some('6'), "ipv6", Takes::Nothing, Word::Ipv6),
    word(Some('s'), "scheduler", Takes::Argument, Word::Scheduler),
    word(Some('p'), "persistent", Takes::Optional, Word::Persistent),
    word(Some('M'), "netmask", Takes::Argument, Word::Netmask),
    word(None, "pe", Takes::Argument, Word::Engine),
    word(Some('b'), "sched-flags", Takes::Argument, Word::SchedulerFlags),
    word(Some('o'), "ops", Takes::Nothing, Word::Flag(Opt::Ops)),
    word(Some('r'), "real-server", Takes::Argument, Word::RealServer),
    word(Some('g'), "gatewaying", Takes::Nothing, Word::Forward(IpvsForward::Dr)),
    word(Some('i'), "ipip", Takes::Nothing, Word::Forward(IpvsForward::Tunnel)),
    word(Some('m'), "masquerading", Takes::Nothing, Word::Forward(IpvsForward::Nat)),
    word(Some('w'), "weight", Takes::Argument, Word::Weight),
    word(Some('x'), "u-threshold", Takes::Argument, Word::UpperThreshold),
    word(Some('y'), "l-threshold", Takes::Argument, Word::LowerThreshold),
    word(None, "tun-type", Takes::Argument, Word::TunnelType),
    word(None, "tun-port", Takes::Argument, Word::TunnelPort),
    word(None, "tun-nocsum", Takes::Nothing, Word::TunnelChecksum(Opt::TunnelNoChecksum, TunnelChecksum::None)),
    word(None, "tun-csum", Takes::Nothing, Word::TunnelChecksum(Opt::TunnelChecksum, TunnelChecksum::Full)),
    word(None, "tun-remcsum", Takes::Nothing, Word::TunnelChecksum(Opt::TunnelRemoteChecksum, TunnelChecksum::Remote)),
    word(None, "mcast-interface", Takes::Argument, Word::McastInterface),
    word(None, "mcast-group", Takes::Argument, Word::McastGroup),
    word(None, "mcast-port", Takes::Argument, Word::McastPort),
    word(None, "mcast-ttl", Takes::Argument, Word::McastTtl),
    word(None, "syncid", Takes::Argument, Word::SyncId),
    word(None, "sync-maxlen", Takes::Argument, Word::SyncMaxLength),
    word(Some('n'), "numeric", Takes::Nothing, Word::Flag(Opt::Numeric)),
    word(Some('c'), "connection", Takes::Nothing, Word::Flag(Opt::Connection)),
    word(None, "timeout", Takes::Nothing, Word::Flag(Opt::Timeout)),
    word(None, "daemon", Takes::Nothing, Word::Flag(Opt::Daemon)),
    word(None, "stats", Takes::Nothing, Word::Flag(Opt::Stats)),
    word(None, "rate", Takes::Nothing, Word::Flag(Opt::Rate)),
    word(None, "thresholds", Takes::Nothing, Word::Flag(Opt::Thresholds)),
    word(None, "persistent-conn", Takes::Nothing, Word::Flag(Opt::PersistentConn)),
    word(None, "tun-info", Takes::Nothing, Word::Flag(Opt::TunnelInfo)),
    word(None, "nosort", Takes::Nothing, Word::Flag(Opt::NoSort)),
    word(None, "sort", Takes::Nothing, Word::Sort),
    word(Some('X'), "exact", Takes::Nothing, Word::Flag(Opt::Exact)),
];

/// Longest persistence and timeout: 31 days.
const MOST_SECONDS: u64 = 31 * 86_400;
/// Persistence when `-p` stands alone.
const PERSISTENCE: u32 = 300;
/// One more than a weight can say, as the tool of Debian 12 has it.
const MOST_WEIGHT: u64 = 65_536;
/// Largest number of a C `int`.
const INT_MAX: u64 = 0x7fff_ffff;

/// Reads the words behind the program's name. `program` is that name, `restoring` is true for a
/// line of standard input.
pub(super) fn parse(
    program: &str,
    words: &[String],
    restoring: bool,
    names: &impl Names,
) -> Result<Request, Misuse> {
    let mut reader = Words::new(SPELLINGS, words);
    let Some(Ok(first)) = reader.option() else {
        return Err(Misuse::try_help(program));
    };
    let verb = match first.option {
        Word::Verb(Verb::Restore) if restoring => return Err(Misuse::try_help(program)),
        Word::Verb(verb) => verb,
        Word::Help => return Ok(Request::Help),
        Word::Version => return Ok(Request::Version),
        _ => return Err(Misuse::try_help(program)),
    };
    if matches!(verb, Verb::StartDaemon | Verb::StopDaemon)
        && !matches!(first.argument.as_deref(), Some("master" | "backup"))
    {
        let which = if verb == Verb::StartDaemon {
            "start"
        } else {
            "stop"
        };
        return Err(Misuse::usage(format!(
            "illegal {which}-daemon parameter specified"
        )));
    }
    let mut entry = Entry::default();
    while let Some(found) = reader.option() {
        let found = found.map_err(|bad| Misuse {
            text: format!("{}: {}", bad.word, bad.what),
            status: Misuse::REFUSED,
        })?;
        entry.read(found, names)?;
    }
    let mut arguments = reader.into_arguments().into_iter();
    let timeouts = match verb {
        Verb::SetTimeouts => Some(timeouts(&mut arguments)?),
        _ => None,
    };
    if let Some(extra) = arguments.next() {
        return Err(Misuse::usage(format!("unexpected argument {extra}")));
    }
    rules::check(verb, entry.given)?;
    entry.request(verb, timeouts)
}

fn timeouts(arguments: &mut impl Iterator<Item = String>) -> Result<IpvsTimeouts, Misuse> {
    let three = [arguments.next(), arguments.next(), arguments.next()];
    let [Some(tcp), Some(tcp_fin), Some(udp)] = three else {
        return Err(Misuse::usage("--set option requires 3 timeout values"));
    };
    Ok(IpvsTimeouts {
        tcp: seconds(&tcp, 0)?,
        tcp_fin: seconds(&tcp_fin, 0)?,
        udp: seconds(&udp, 0)?,
    })
}

fn seconds(text: &str, least: u64) -> Result<u32, Misuse> {
    match number(text, least, MOST_SECONDS) {
        Some(seconds) => Ok(seconds as u32),
        None => Err(Misuse::usage(format!(
            "invalid timeout value `{text}' specified"
        ))),
    }
}

/// Options as they are read.
#[derive(Debug)]
struct Entry {
    given: Given,
    key: IpvsKey,
    settings: IpvsSettings,
    scheduler_flags: String,
    server: Option<(IpAddr, Option<u16>)>,
    server_settings: IpvsServerSettings,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            given: Given::default(),
            key: IpvsKey {
                fwmark: None,
                protocol: Protocol::Tcp,
                address: Ipv4Addr::UNSPECIFIED.into(),
                port: 0,
            },
            settings: IpvsSettings::default(),
            scheduler_flags: String::new(),
            server: None,
            server_settings: IpvsServerSettings::default(),
        }
    }
}

impl Entry {
    fn read(&mut self, found: Found<Word>, names: &impl Names) -> Result<(), Misuse> {
        let text = found.argument.as_deref().unwrap_or_default();
        match found.option {
            Word::Verb(_) | Word::Help | Word::Version => {
                return Err(Misuse::usage(format!("invalid option `{}'", found.word)));
            }
            Word::Service(protocol) => {
                self.given.add(Opt::ServiceAddress)?;
                let (address, port) = address::parse(text, protocol, names).ok_or_else(|| {
                    Misuse::usage("illegal virtual server address[:port] specified")
                })?;
                self.key = IpvsKey {
                    fwmark: None,
                    protocol,
                    address,
                    port: port.unwrap_or(0),
                };
            }
            Word::Fwmark => {
                self.given.add(Opt::ServiceAddress)?;
                let mark = number(text, 1, u64::from(u32::MAX)).ok_or_else(|| {
                    Misuse::usage(format!("invalid fwmark value `{text}' specified"))
                })?;
                self.key = IpvsKey {
                    fwmark: Some(mark as u32),
                    protocol: Protocol::Ip,
                    address: Ipv4Addr::UNSPECIFIED.into(),
                    port: 0,
                };
            }
            Word::Ipv6 => {
                if self.key.fwmark.is_none() {
                    return Err(Misuse::usage("-6 used before -f\n"));
                }
                self.key.address = Ipv6Addr::UNSPECIFIED.into();
            }
            Word::Scheduler => {
                self.given.add(Opt::Scheduler)?;
                text.clone_into(&mut self.settings.scheduler);
            }
            Word::Persistent => {
                self.given.add(Opt::Persistent)?;
                self.settings.persistence = match &found.argument {
                    Some(text) => seconds(text, 1)?,
                    None => PERSISTENCE,
                };
            }
            Word::Netmask => {
                self.given.add(Opt::Netmask)?;
                self.settings.netmask = self.netmask(text, names)?;
            }
            Word::Engine => {
                self.given.add(Opt::Engine)?;
                self.settings.engine = Some(text.to_owned());
            }
            Word::SchedulerFlags => {
                self.given.add(Opt::SchedulerFlags)?;
                text.clone_into(&mut self.scheduler_flags);
            }
            Word::RealServer => {
                self.given.add(Opt::RealServer)?;
                let server = address::parse(text, self.key.protocol, names);
                self.server = Some(server.ok_or_else(|| {
                    Misuse::usage("illegal real server address[:port] specified")
                })?);
            }
            Word::Forward(forward) => {
                self.given.add(Opt::ForwardingMethod)?;
                self.server_settings.forward = forward;
            }
            Word::Weight => {
                let weight = self.bounded(Opt::Weight, text, 0, MOST_WEIGHT, "weight")?;
                self.server_settings.weight = weight;
            }
            Word::UpperThreshold => {
                let upper = self.bounded(Opt::UpperThreshold, text, 0, INT_MAX, "u_threshold")?;
                self.server_settings.upper_threshold = upper;
            }
            Word::LowerThreshold => {
                let lower = self.bounded(Opt::LowerThreshold, text, 0, INT_MAX, "l_threshold")?;
                self.server_settings.lower_threshold = lower;
            }
            Word::TunnelType => {
                self.given.add(Opt::TunnelType)?;
                self.server_settings.tunnel.kind = match text {
                    "ipip" => TunnelType::Ipip,
                    "gue" => TunnelType::Gue,
                    "gre" => TunnelType::Gre,
                    _ => return Err(Misuse::usage("illegal tunnel type specified")),
                };
            }
            Word::TunnelPort => {
                let port = self.bounded(Opt::TunnelPort, text, 1, 65_535, "tunnel port")?;
                self.server_settings.tunnel.port = port as u16;
            }
            Word::TunnelChecksum(option, checksum) => {
                self.given.add(option)?;
                self.server_settings.tunnel.checksum = checksum;
            }
            Word::McastInterface => self.given.add(Opt::McastInterface)?,
            Word::McastGroup => {
                self.given.add(Opt::McastGroup)?;
                group(text)?;
            }
            Word::McastPort => {
                self.bounded(Opt::McastPort, text, 1, 65_535, "mcast-port")?;
            }
            Word::McastTtl => {
                self.bounded(Opt::McastTtl, text, 1, 255, "mcast-ttl")?;
            }
            Word::SyncId => {
                self.bounded(Opt::SyncId, text, 0, 255, "syncid")?;
            }
            Word::SyncMaxLength => {
                self.bounded(Opt::SyncMaxLength, text, 1, 65_507, "sync-maxlen")?;
            }
            Word::Flag(option) => self.given.add(option)?,
            Word::Sort => {}
        }
        Ok(())
    }

    fn bounded(
        &mut self,
        option: Opt,
        text: &str,
        least: u64,
        most: u64,
        what: &str,
    ) -> Result<u32, Misuse> {
        self.given.add(option)?;
        match number(text, least, most) {
            Some(value) => Ok(value as u32),
            None => Err(Misuse::usage(format!("illegal {what} specified"))),
        }
    }

    /// The mask in the family known so far; one that leaves all of the address is none.
    fn netmask(&self, text: &str, names: &impl Names) -> Result<Option<Netmask>, Misuse> {
        if self.key.address.is_ipv6() {
            let length = number(text, 1, 128)
                .ok_or_else(|| Misuse::usage("illegal ipv6 netmask specified"))?;
            return Ok(Some(Netmask::V6(length as u8)).filter(|_| length < 128));
        }
        let mask = address::ipv4(text, names)
            .ok_or_else(|| Misuse::usage("illegal virtual server persistent mask specified"))?;
        Ok(Some(Netmask::V4(mask)).filter(|_| mask != Ipv4Addr::BROADCAST))
    }

    fn request(mut self, verb: Verb, timeouts: Option<IpvsTimeouts>) -> Result<Request, Misuse> {
        let service = self.key;
        let command = match verb {
            Verb::AddService | Verb::EditService => {
                self.finish_service()?;
                let settings = self.settings;
                if verb == Verb::AddService {
                    IpvsCommand::AddService { service, settings }
                } else {
                    IpvsCommand::EditService { service, settings }
                }
            }
            Verb::DeleteService => IpvsCommand::DeleteService { service },
            Verb::Clear => IpvsCommand::Clear,
            Verb::AddServer | Verb::EditServer | Verb::DeleteServer => {
                let server = self.finish_server(verb != Verb::DeleteServer)?;
                let settings = self.server_settings;
                match verb {
                    Verb::AddServer => IpvsCommand::AddServer {
                        service,
                        server,
                        settings,
                    },
                    Verb::EditServer => IpvsCommand::EditServer {
                        service,
                        server,
                        settings,
                    },
                    _ => IpvsCommand::DeleteServer { service, server },
                }
            }
            Verb::Zero => IpvsCommand::Zero {
                service: self.given.has(Opt::ServiceAddress).then_some(service),
            },
            Verb::SetTimeouts => IpvsCommand::SetTimeouts(timeouts.unwrap_or_default()),
            Verb::List => return Ok(Request::List(self.listing())),
            Verb::Save => {
                return Ok(Request::Save {
                    numeric: self.given.has(Opt::Numeric),
                });
            }
            Verb::Restore => return Ok(Request::Restore),
            Verb::StartDaemon => return Ok(Request::StartDaemon),
            Verb::StopDaemon => return Ok(Request::StopDaemon),
        };
        Ok(Request::Change(command))
    }

    fn finish_service(&mut self) -> Result<(), Misuse> {
        let is_mark = self.key.fwmark.is_some();
        if !is_mark && self.key.port == 0 && self.settings.persistence == 0 {
            return Err(Misuse::usage(
                "Zero port specified for non-persistent service",
            ));
        }
        self.settings.one_packet = self.given.has(Opt::Ops);
        if self.settings.one_packet && !is_mark && self.key.protocol != Protocol::Udp {
            return Err(Misuse::usage(
                "One-Packet Scheduling is only for UDP virtual services",
            ));
        }
        self.settings.flags = flags::parse(&self.scheduler_flags, &self.settings.scheduler)?;
        Ok(())
    }

    fn finish_server(&mut self, with_settings: bool) -> Result<IpvsServerKey, Misuse> {
        // The table of options has seen to it that there is one.
        let (address, port) = self.server.unwrap_or((Ipv4Addr::UNSPECIFIED.into(), None));
        let mut port = port.unwrap_or(self.key.port);
        if with_settings {
            self.check_tunnel()?;
            let forward = self.server_settings.forward;
            if address.is_ipv4() != self.key.address.is_ipv4() && forward != IpvsForward::Tunnel {
                return Err(Misuse::usage(
                    "Different address family is allowed only for tunneling servers",
                ));
            }
            // The kernel leaves the port alone then, so that another one would be a lie.
            if self.key.fwmark.is_none() && forward != IpvsForward::Nat {
                port = self.key.port;
            }
        }
        Ok(IpvsServerKey { address, port })
    }

    fn check_tunnel(&mut self) -> Result<(), Misuse> {
        let checksums = [
            Opt::TunnelNoChecksum,
            Opt::TunnelChecksum,
            Opt::TunnelRemoteChecksum,
        ];
        let given = self.given;
        if self.server_settings.forward != IpvsForward::Tunnel {
            if given.has_any(&[Opt::TunnelType, Opt::TunnelPort]) || given.has_any(&checksums) {
                return Err(Misuse::usage("Tunnel options conflict with forward method"));
            }
            self.server_settings.tunnel = IpvsTunnel::default();
            return Ok(());
        }
        let (kind, illegal): (_, &[Opt]) = match self.server_settings.tunnel.kind {
            TunnelType::Ipip => (
                "ipip",
                &[
                    Opt::TunnelPort,
                    Opt::TunnelNoChecksum,
                    Opt::TunnelChecksum,
                    Opt::TunnelRemoteChecksum,
                ],
            ),
            TunnelType::Gue => ("gue", &[]),
            TunnelType::Gre => ("gre", &[Opt::TunnelPort, Opt::TunnelRemoteChecksum]),
        };
        if kind == "gue" && !given.has(Opt::TunnelPort) {
            return Err(Misuse::usage(
                "You need to supply the 'tun-port' option for the 'gue' tunnel type",
            ));
        }
        if let Some(option) = illegal.iter().find(|option| given.has(**option)) {
            return Err(Misuse::usage(format!(
                "Illegal '{}' option with the '{kind}' tunnel type",
                option.name()
            )));
        }
        let mut several = checksums.into_iter().filter(|option| given.has(*option));
        if let (Some(first), Some(second)) = (several.next(), several.next()) {
            return Err(Misuse::usage(format!(
                "The option '{}' conflicts with the '{}' option in the '{kind}' tunnel type",
                second.name(),
                first.name()
            )));
        }
        Ok(())
    }

    fn listing(&self) -> Listing {
        let given = self.given;
        let what = if given.has(Opt::Connection) {
            What::Connections
        } else if given.has(Opt::ServiceAddress) {
            What::Service(self.key)
        } else if given.has(Opt::Timeout) {
            What::Timeouts
        } else if given.has(Opt::Daemon) {
            What::Daemons
        } else {
            What::Services
        };
        let columns = [
            (Opt::Stats, Columns::Stats),
            (Opt::Rate, Columns::Rate),
            (Opt::Thresholds, Columns::Thresholds),
            (Opt::PersistentConn, Columns::PersistentConn),
            (Opt::TunnelInfo, Columns::TunnelInfo),
        ];
        let chosen = columns.into_iter().find(|(option, _)| given.has(*option));
        Listing {
            what,
            numeric: given.has(Opt::Numeric),
            exact: given.has(Opt::Exact),
            unsorted: given.has(Opt::NoSort),
            columns: chosen.map_or(Columns::Plain, |(_, columns)| columns),
        }
    }
}

fn group(text: &str) -> Result<(), Misuse> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_multicast() => Ok(()),
        Ok(IpAddr::V6(_)) => Err(Misuse::usage(format!("invalid IPv6 mcast-group `{text}'"))),
        _ => Err(Misuse::usage(format!("invalid IPv4 mcast-group `{text}'"))),
    }
}
