//! `sluice`, the operator's tool: asks the daemon over its admin socket and prints the answer.
//!
//! Answers go to standard output, everything else to standard error. Exit status: 0 done, 1
//! refused, 2 wrong usage, 3 no daemon (none listens, or it does not answer in time). `--json`
//! prints the API's own text. Tables are for people and may change; scripts should use `--json`.

mod arguments;
mod client;
mod connections;
mod ipvsadm;
mod meaning;
mod number;
mod reload;
mod services;
mod stats;
mod status;
mod table;
mod vrrp;

use crate::admin::api::{
    ConnectionFilter, Done, ErrorBody, MaintenanceRequest, PREFIX, ReleaseRequest, ReloadReport,
    ReloadRequest,
};
use arguments::{Arguments, Command, Switch, VrrpChange};
use clap::Parser as _;
use client::{Answer, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// Runs the tool with the process's own arguments.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match words.first().and_then(|word| called_as(word)) {
        Some("genhash") => {
            eprintln!("genhash: not supported yet");
            return ExitCode::from(Failure::REFUSED);
        }
        Some(name) => {
            if let Some(program) = ipvsadm::Program::named(name) {
                return ipvsadm::run(program, &texts(&words[1..]), &arguments::socket());
            }
        }
        None => {}
    }
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors: clap knows the stream and the status.
            let status = error.exit_code();
            let _ = error.print();
            return ExitCode::from(u8::try_from(status).unwrap_or(Failure::USAGE));
        }
    };
    if let Command::Other(words) = &arguments.command
        && let Some(program) = words.first().and_then(|word| word.to_str())
        && let Some(program) = ipvsadm::Program::named(program)
    {
        return ipvsadm::run(program, &texts(&words[1..]), &arguments.socket);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Words of `ipvsadm`: bytes that are no text are none of its either.
fn texts(words: &[OsString]) -> Vec<String> {
    let words = words.iter();
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// The other programs this one is, by the name it is called under.
fn called_as(word: &OsStr) -> Option<&'static str> {
    let name = Path::new(word).file_name()?;
    ["ipvsadm", "ipvsadm-save", "ipvsadm-restore", "genhash"]
        .into_iter()
        .find(|known| name == *known)
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let ask = Asker {
        client: Client::new(&arguments.socket),
        json: arguments.json,
    };
    match &arguments.command {
        Command::Status => ask.show("/status", status::render),
        Command::Services => ask.show("/services", services::render),
        Command::Stats => ask.show("/stats", stats::render),
        Command::Connections { words } => match words.split_first() {
            Some((first, filter)) if first == "delete" => ask.delete_connections(filter),
            _ => ask.list_connections(words),
        },
        Command::Reload { discard_overrides } => ask.reload(*discard_overrides),
        Command::Vrrp { change: None } => ask.show("/vrrp", vrrp::render),
        Command::Vrrp {
            change: Some(VrrpChange::Release { name }),
        } => ask.tell(
            "/vrrp/release",
            &ReleaseRequest {
                router: name.clone(),
            },
        ),
        Command::Maintenance { switch } => {
            let on = matches!(switch, Switch::On);
            ask.tell("/maintenance", &MaintenanceRequest { on })
        }
        Command::Other(words) => Err(arguments::other(words)),
    }
}

fn not_supported(what: &str) -> Failure {
    Failure::Refused(format!("'{what}' is not supported yet"))
}

/// Why the tool does not exit with 0.
#[derive(Debug)]
enum Failure {
    /// The daemon, or this release, does not do it.
    Refused(String),
    /// The same, but everything has been said already.
    RefusedSilently,
    /// The command line makes no sense.
    Usage(String),
    /// Nobody answers.
    NoDaemon(String),
}

impl Failure {
    const REFUSED: u8 = 1;
    const USAGE: u8 = 2;
    const NO_DAEMON: u8 = 3;

    fn report(self) -> ExitCode {
        let (text, status) = match self {
            Self::Refused(text) => (text, Self::REFUSED),
            Self::RefusedSilently => return ExitCode::from(Self::REFUSED),
            Self::Usage(text) => (text, Self::USAGE),
            Self::NoDaemon(text) => (text, Self::NO_DAEMON),
        };
        eprintln!("sluice: {text}");
        ExitCode::from(status)
    }
}

/// Asks the daemon and prints.
struct Asker<'a> {
    client: Client<'a>,
    json: bool,
}

impl Asker<'_> {
    fn show<T: DeserializeOwned>(
        &self,
        resource: &str,
        render: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let answer = self.client.get(&format!("{PREFIX}{resource}"))?;
        self.print(answer, |value: &T| Ok(render(value)))
    }

    fn list_connections(&self, words: &[String]) -> Result<(), Failure> {
        let filter = filter(words)?;
        let mut resource = format!("{PREFIX}/connections");
        let query = filter.to_query();
        if !query.is_empty() {
            resource = format!("{resource}?{query}");
        }
        let answer = self.client.get(&resource)?;
        self.print(answer, |listed| {
            if let Some(note) = connections::note(listed) {
                eprintln!("sluice: {note}");
            }
            Ok(connections::render(listed))
        })
    }

    fn delete_connections(&self, words: &[String]) -> Result<(), Failure> {
        let filter = filter(words)?;
        if filter.selects_all() {
            return Err(Failure::Usage(
                "connections delete: a deletion needs at least one criterion".into(),
            ));
        }
        let answer = self.post("/connections/delete", &filter)?;
        self.print(answer, |deleted| Ok(connections::render_deleted(*deleted)))
    }

    fn reload(&self, discard_overrides: bool) -> Result<(), Failure> {
        let answer = self.post("/reload", &ReloadRequest { discard_overrides })?;
        if answer.status == 409
            && !self.json
            && let Ok(report) = serde_json::from_slice::<ReloadReport>(&answer.body)
            && !report.message.is_empty()
        {
            eprint!("{}", reload::render_refusal(&report));
            return Err(Failure::RefusedSilently);
        }
        self.print(answer, |report: &ReloadReport| {
            eprint!("{}", reload::render_warnings(report));
            Ok(reload::render(report))
        })
    }

    /// Has the daemon do something that is over with one sentence.
    fn tell(&self, resource: &str, request: &impl Serialize) -> Result<(), Failure> {
        let answer = self.post(resource, request)?;
        self.print(answer, |done: &Done| Ok(format!("{}\n", done.message)))
    }

    fn post(&self, resource: &str, body: &impl Serialize) -> Result<Answer, Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Failure::Refused(e.to_string()))?;
        self.client.post(&format!("{PREFIX}{resource}"), body)
    }

    fn print<T: DeserializeOwned>(
        &self,
        answer: Answer,
        render: impl FnOnce(&T) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        let good = (200..300).contains(&answer.status);
        if self.json {
            write_out(&answer.body)?;
            return if good {
                Ok(())
            } else {
                Err(Failure::RefusedSilently)
            };
        }
        if !good {
            let text = match serde_json::from_slice::<ErrorBody>(&answer.body) {
                Ok(body) => body.error,
                Err(_) => format!("the daemon answered with status {}", answer.status),
            };
            return Err(Failure::Refused(text));
        }
        let value = serde_json::from_slice(&answer.body).map_err(|error| {
            Failure::Refused(format!("the daemon's answer is not understood: {error}"))
        })?;
        write_out(render(&value)?.as_bytes())
    }
}

fn filter(words: &[String]) -> Result<ConnectionFilter, Failure> {
    ConnectionFilter::from_words(words)
        .map_err(|error| Failure::Usage(format!("connections: {error}")))
}

/// A reader that has seen enough (`| head`) is no failure.
fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Refused(format!("cannot write: {error}")))
        }
        _ => Ok(()),
    }
}
