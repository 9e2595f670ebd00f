//! Doing what was asked: one request to the daemon, or one per batch of lines of a restore.

use super::names::{Names, System};
use super::syntax::{self, Columns, Listing, Request, What};
use super::{Misuse, connections, listing, usage};
use crate::admin::api::{
    ConnectionFilter, Connections, ErrorBody, IpvsBatch, IpvsCommand, IpvsOutcomes, IpvsTables,
    PREFIX,
};
use crate::cli::client::{Answer, Client};
use crate::cli::{Failure, write_out};
use serde::de::DeserializeOwned;
use std::io::BufRead as _;
use std::path::Path;
use std::process::ExitCode;

/// The programs this one is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli) enum Program {
    /// `ipvsadm`.
    Ipvsadm,
    /// `ipvsadm-save`: `ipvsadm -S`.
    Save,
    /// `ipvsadm-restore`: `ipvsadm -C`, then `ipvsadm -R` without the comments.
    Restore,
}

impl Program {
    /// The program of that name.
    pub(in crate::cli) fn named(name: &str) -> Option<Self> {
        match name {
            "ipvsadm" => Some(Self::Ipvsadm),
            "ipvsadm-save" => Some(Self::Save),
            "ipvsadm-restore" => Some(Self::Restore),
            _ => None,
        }
    }
}

/// Runs a program with the words behind its name.
pub(in crate::cli) fn run(program: Program, words: &[String], socket: &Path) -> ExitCode {
    let session = Session {
        client: Client::new(socket),
        names: System::new(),
    };
    let outcome = match program {
        Program::Ipvsadm => session.ipvsadm(words),
        Program::Save => {
            let words = [&["-S".to_owned()], words].concat();
            session.ipvsadm(&words)
        }
        Program::Restore => match words.first() {
            Some(word) => Err(Misuse::usage(format!("unexpected argument {word}"))),
            None => session.restore(vec![IpvsCommand::Clear], true),
        },
    };
    ExitCode::from(outcome.unwrap_or_else(|misuse| {
        eprintln!("{}", misuse.text);
        misuse.status
    }))
}

struct Session<'a, N> {
    client: Client<'a>,
    names: N,
}

/// An exit status that has been explained already, or why there is none.
type Outcome = Result<u8, Misuse>;

impl<N: Names> Session<'_, N> {
    fn ipvsadm(&self, words: &[String]) -> Outcome {
        if words.is_empty() {
            return self.perform(Request::List(Listing::default()));
        }
        self.perform(syntax::parse("ipvsadm", words, false, &self.names)?)
    }

    fn perform(&self, request: Request) -> Outcome {
        match request {
            Request::Change(command) => self.apply(vec![command]),
            Request::List(listing) => self.list(listing),
            Request::Save { numeric } => {
                let tables = self.tables(false)?;
                print(&listing::save(&tables.services, numeric, &self.names))
            }
            Request::Restore => self.restore(Vec::new(), false),
            Request::Help => print(&format!("{}{}", usage::VERSION, usage::HELP)),
            Request::Version => print(usage::VERSION),
            Request::StartDaemon => Err(Misuse {
                text: "connection sync is not supported yet".to_owned(),
                status: Misuse::REFUSED,
            }),
            Request::StopDaemon => Err(Misuse {
                text: "No daemon is running".to_owned(),
                status: Misuse::REFUSED,
            }),
        }
    }

    /// Reads commands line by line. All changes are made at once, in one epoch; only a line that
    /// asks for something else, or that makes no sense, has those before it made first.
    fn restore(&self, mut pending: Vec<IpvsCommand>, comments: bool) -> Outcome {
        let mut status = 0;
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Misuse {
                text: format!("standard input: {error}"),
                status: Misuse::REFUSED,
            })?;
            if comments && line.starts_with('#') {
                continue;
            }
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if words.is_empty() {
                continue;
            }
            match syntax::parse("ipvsadm", &words, true, &self.names) {
                Ok(Request::Change(command)) => pending.push(command),
                other => {
                    self.apply(std::mem::take(&mut pending))?;
                    status = self.perform(other?)?;
                }
            }
        }
        if !pending.is_empty() {
            status = self.apply(pending)?;
        }
        Ok(status)
    }

    /// Makes changes; the status is the last one's.
    fn apply(&self, commands: Vec<IpvsCommand>) -> Outcome {
        if commands.is_empty() {
            return Ok(0);
        }
        let body = serde_json::to_vec(&IpvsBatch { commands })
            .map_err(|error| cannot_initialize(&error.to_string()))?;
        let answer = self.client.post(&format!("{PREFIX}/ipvs"), body);
        let outcomes: IpvsOutcomes = understand(answer)?;
        let mut status = 0;
        for refusal in outcomes.refusals {
            status = match refusal {
                Some(refusal) => {
                    eprintln!("{refusal}");
                    Misuse::REFUSED
                }
                None => 0,
            };
        }
        Ok(status)
    }

    fn list(&self, listing: Listing) -> Outcome {
        let text = match listing.what {
            What::Services => {
                let tables = self.tables(listing.columns == Columns::Rate)?;
                listing::render(&tables.services, true, listing, &self.names)
            }
            What::Service(key) => {
                let tables = self.tables(listing.columns == Columns::Rate)?;
                let services: Vec<_> = tables
                    .services
                    .into_iter()
                    .filter(|service| service.key == key)
                    .collect();
                if services.is_empty() {
                    return Err(Misuse {
                        text: "No such service".to_owned(),
                        status: 1,
                    });
                }
                listing::render(&services, false, listing, &self.names)
            }
            What::Connections => {
                let limit = ConnectionFilter::MAX_LIMIT;
                let resource = format!("{PREFIX}/connections?limit={limit}");
                let listed: Connections = understand(self.client.get(&resource))?;
                if listed.truncated {
                    eprintln!(
                        "ipvsadm: {limit} of {} connections are listed",
                        listed.total
                    );
                }
                connections::render(&listed.connections, listing, &self.names)
            }
            What::Timeouts => {
                let timeouts = self.tables(false)?.timeouts;
                let (tcp, tcp_fin, udp) = (timeouts.tcp, timeouts.tcp_fin, timeouts.udp);
                format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
            }
            // There is no sync yet, so that none can run.
            What::Daemons => String::new(),
        };
        print(&text)
    }

    fn tables(&self, rates: bool) -> Result<IpvsTables, Misuse> {
        let query = if rates { "?rates=true" } else { "" };
        understand(self.client.get(&format!("{PREFIX}/ipvs{query}")))
    }
}

/// The daemon's document, or why there is none, in the tool's words for a kernel without IPVS.
fn understand<T: DeserializeOwned>(answer: Result<Answer, Failure>) -> Result<T, Misuse> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failure::NoDaemon(text)) => return Err(cannot_initialize(&text)),
        Err(Failure::Refused(text) | Failure::Usage(text)) if text.contains("permission") => {
            return Err(permission_denied());
        }
        Err(Failure::Refused(text) | Failure::Usage(text)) => {
            return Err(cannot_initialize(&text));
        }
        Err(Failure::RefusedSilently) => return Err(cannot_initialize("refused")),
    };
    match answer.status {
        200..300 => serde_json::from_slice(&answer.body)
            .map_err(|error| cannot_initialize(&format!("the answer is not understood: {error}"))),
        403 => Err(permission_denied()),
        status => {
            let text = match serde_json::from_slice::<ErrorBody>(&answer.body) {
                Ok(body) => body.error,
                Err(_) => format!("the daemon answered with status {status}"),
            };
            Err(Misuse {
                text,
                status: Misuse::REFUSED,
            })
        }
    }
}

fn permission_denied() -> Misuse {
    cannot_initialize("Permission denied (you must be root)")
}

fn cannot_initialize(why: &str) -> Misuse {
    Misuse::usage(format!(
        "Can't initialize ipvs: {why}\n\
         Are you sure that IP Virtual Server is built in the kernel or as module?"
    ))
}

fn print(text: &str) -> Outcome {
    match write_out(text.as_bytes()) {
        Ok(()) => Ok(0),
        Err(_) => Err(Misuse {
            text: "cannot write".to_owned(),
            status: 1,
        }),
    }
}
