//! The helper process that starts every script and check command.
//!
//! `sluiced` must not fork once its tables exist: a fork with 2 GB of them stalls a worker for
//! tens of milliseconds. So a small helper is started before EAL by re-executing the same program
//! with a hidden argument, and asked over a Unix socket pair (its standard input) to run commands.
//! It is never started a second time: if it dies, commands fail with [`CommandError::HelperGone`]
//! and are counted. It dies with the daemon: end of file on the socket makes it kill every command
//! and exit.
//!
//! Two ordinary threads move the frames, so that any thread may ask, with or without an executor:
//! [`CommandProcess::run`] and [`CommandProcess::begin`] are for tokio, [`CommandProcess::submit`] never blocks and is for the
//! VRRP thread.

mod frame;
mod helper;
mod run;

pub use frame::{Command, End, Outcome, Program};

use frame::{Reply, Request};
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The hidden first argument of the helper.
pub const ARGUMENT: &str = "--command-process";

/// Commands that may be under way at once, queued ones included.
pub const MAX_COMMANDS: usize = 4096;

/// Becomes the helper if this process was started as one, and then never returns. Call it first
/// thing in `main`, before any thread exists.
pub fn run_if_child() {
    if std::env::args_os().nth(1).is_some_and(|a| a == ARGUMENT) {
        std::process::exit(serve_stdin());
    }
}

/// Serves as the helper on standard input until its other end is closed; returns the exit status.
pub fn serve_stdin() -> i32 {
    match helper::serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("sluiced: command process: {error}");
            2
        }
    }
}

/// The daemon's end. Dropping it ends the helper and kills every command still running.
#[derive(Debug)]
pub struct CommandProcess {
    shared: Arc<Shared>,
    stream: UnixStream,
    pid: u32,
}

impl CommandProcess {
    /// Starts the helper from this process's own program. Call it before EAL and before anything
    /// large is allocated.
    pub fn start() -> io::Result<Self> {
        let mut program = std::process::Command::new("/proc/self/exe");
        program.arg0("sluiced-commands").arg(ARGUMENT);
        Self::start_as(program)
    }

    /// Starts `program` as the helper: something that calls [`serve_stdin`].
    pub fn start_as(mut program: std::process::Command) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // A group of its own: Ctrl-C on the daemon's terminal must not end the helper before the
        // daemon has run its last scripts.
        let child = program
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        // Drops our copy of the helper's end: end of file must reach us when the helper dies.
        drop(program);

        let (sender, receiver) = sync_channel(MAX_COMMANDS);
        let shared = Arc::new(Shared {
            sender,
            waiting: Mutex::new(Waiting::default()),
            next_id: AtomicU64::new(1),
            failures: AtomicU64::new(0),
        });
        let write_to = ours.try_clone()?;
        let read_from = ours.try_clone()?;
        let reader = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("commands-tx".into())
            .spawn(move || write_requests(&receiver, write_to))?;
        std::thread::Builder::new()
            .name("commands-rx".into())
            .spawn(move || read_replies(&reader, read_from, child))?;
        Ok(Self {
            shared,
            stream: ours,
            pid,
        })
    }

    /// Runs `command` and waits for its end. Dropping the future kills the command.
    pub async fn run(&self, command: Command) -> Result<Outcome, CommandError> {
        self.begin(command)?.outcome().await
    }

    /// Hands `command` to the helper before it returns. Dropping what it returns kills the command.
    pub fn begin(&self, command: Command) -> Result<Begun, CommandError> {
        let (sender, receiver) = oneshot::channel();
        let id = self.request(command, Then::Wake(sender))?;
        let cancel = CancelOnDrop {
            shared: Arc::clone(&self.shared),
            id: Some(id),
        };
        Ok(Begun { receiver, cancel })
    }

    /// Runs `command` without waiting; anything but a clean exit is logged under `what`.
    pub fn submit(&self, what: &str, command: Command) -> Result<(), CommandError> {
        self.request(command, Then::Log(what.to_owned()))?;
        Ok(())
    }

    /// Commands that could not be given to the helper, or were lost with it.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Relaxed)
    }

    /// Whether the helper lives.
    pub fn is_alive(&self) -> bool {
        !self.shared.waiting().gone
    }

    /// The helper's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn request(&self, command: Command, then: Then) -> Result<u64, CommandError> {
        let outcome = self.shared.request(command, then);
        if outcome.is_err() {
            self.shared.failures.fetch_add(1, Relaxed);
        }
        outcome
    }
}

impl Drop for CommandProcess {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A command that the helper has.
#[derive(Debug)]
pub struct Begun {
    receiver: oneshot::Receiver<Result<Outcome, CommandError>>,
    cancel: CancelOnDrop,
}

impl Begun {
    /// Waits for its end.
    pub async fn outcome(mut self) -> Result<Outcome, CommandError> {
        let received = (&mut self.receiver).await;
        let outcome = received.unwrap_or(Err(CommandError::HelperGone));
        self.cancel.id = None;
        if let Err(CommandError::HelperGone) = outcome {
            self.cancel.shared.failures.fetch_add(1, Relaxed);
        }
        outcome
    }
}

/// Why a command has no outcome.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// The helper is dead. Nothing but a restart of the daemon brings it back.
    #[error("the command process is gone; no command can run until sluiced is restarted")]
    HelperGone,
    /// [`MAX_COMMANDS`] are under way.
    #[error("too many commands under way")]
    Busy,
    /// The command line and its environment are longer than a request may be.
    #[error("the command line is too long")]
    TooLong,
    /// It could not be started; the text says why.
    #[error("{0}")]
    NotStarted(String),
}

#[derive(Debug)]
struct Shared {
    sender: SyncSender<Vec<u8>>,
    waiting: Mutex<Waiting>,
    next_id: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    gone: bool,
    commands: HashMap<u64, Then>,
}

/// What to do with an outcome.
#[derive(Debug)]
enum Then {
    Wake(oneshot::Sender<Result<Outcome, CommandError>>),
    Log(String),
}

impl Then {
    fn finish(self, outcome: Result<Outcome, CommandError>) {
        match self {
            // The asker may have gone away meanwhile; then nobody misses the outcome.
            Self::Wake(sender) => drop(sender.send(outcome)),
            Self::Log(what) => match outcome {
                Ok(outcome) if outcome.is_success() => log::debug!("{what}: done"),
                Ok(outcome) => log::warn!("{what}: {outcome}"),
                Err(error) => log::warn!("{what}: {error}"),
            },
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, command: Command, then: Then) -> Result<u64, CommandError> {
        let id = self.next_id.fetch_add(1, Relaxed);
        let bytes = frame::encode(&Request::Run { id, command }).ok_or(CommandError::TooLong)?;
        let mut waiting = self.waiting();
        if waiting.gone {
            return Err(CommandError::HelperGone);
        }
        if waiting.commands.len() >= MAX_COMMANDS {
            return Err(CommandError::Busy);
        }
        match self.sender.try_send(bytes) {
            Ok(()) => {
                waiting.commands.insert(id, then);
                Ok(id)
            }
            Err(TrySendError::Full(_)) => Err(CommandError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(CommandError::HelperGone),
        }
    }
}

#[derive(Debug)]
struct CancelOnDrop {
    shared: Arc<Shared>,
    id: Option<u64>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        self.shared.waiting().commands.remove(&id);
        if let Some(bytes) = frame::encode(&Request::Cancel { id }) {
            // With the queue full it runs to its timeout instead.
            let _ = self.shared.sender.try_send(bytes);
        }
    }
}

fn write_requests(requests: &Receiver<Vec<u8>>, mut stream: UnixStream) {
    // Ends when the helper is gone (the reader then tells everyone) or the last sender is.
    while let Ok(bytes) = requests.recv() {
        if io::Write::write_all(&mut stream, &bytes).is_err() {
            return;
        }
    }
}

fn read_replies(shared: &Shared, mut stream: UnixStream, mut child: Child) {
    let why = loop {
        match frame::read(&mut stream) {
            Ok(Some(Reply { id, result })) => {
                let then = shared.waiting().commands.remove(&id);
                if let Some(then) = then {
                    then.finish(result.map_err(CommandError::NotStarted));
                }
            }
            Ok(None) => break "it closed its socket".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    let _ = stream.shutdown(Shutdown::Both);
    let lost = {
        let mut waiting = shared.waiting();
        waiting.gone = true;
        std::mem::take(&mut waiting.commands)
    };
    let orderly = child.wait().is_ok_and(|status| status.success());
    if !orderly {
        log::error!("the command process is gone ({why}); scripts cannot run until a restart");
    }
    for then in lost.into_values() {
        then.finish(Err(CommandError::HelperGone));
    }
}
