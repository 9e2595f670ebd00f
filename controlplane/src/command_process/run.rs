//! Runs one command in the helper: as its user, in a process group of its own, for its time.
//!
//! A group is only ever signalled while its leader has not been reaped, so its number cannot have
//! been given to somebody else. What a command left running in the background when it exited
//! by itself is left alone; when its time was up nothing of it survives.

use super::frame::{Command, End, Outcome, Program};
use nix::unistd::{Group, Uid, User};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::sync::oneshot;

/// How much of each stream is kept, bytes.
const TAIL: usize = 4096;
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(250);
/// How long output is still read after the command's end: what it left in the background may
/// hold the pipes for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(50);

/// The process groups that live now.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(Arc<Mutex<Living>>);

#[derive(Debug, Default)]
struct Living {
    groups: HashSet<i32>,
    closed: bool,
}

impl Groups {
    /// Kills every group and lets no new one start.
    pub(super) fn kill_all(&self) {
        let mut living = self.lock();
        living.closed = true;
        for group in &living.groups {
            signal_group(*group, Signal::KILL);
        }
    }

    /// Starts a child in a group of its own and notes it, with [`Self::kill_all`] kept out.
    fn spawn(&self, command: std::process::Command) -> io::Result<(Child, i32)> {
        let mut living = self.lock();
        if living.closed {
            return Err(io::Error::other("the daemon has stopped"));
        }
        let child = tokio::process::Command::from(command).spawn()?;
        let group = child.id().map_or(0, u32::cast_signed);
        living.groups.insert(group);
        Ok((child, group))
    }

    fn forget(&self, group: i32) {
        self.lock().groups.remove(&group);
    }

    fn lock(&self) -> MutexGuard<'_, Living> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a command may start: behind the one before it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Closed when the one before has been started, or never will be.
    before: Option<oneshot::Receiver<()>>,
    /// Closes by being dropped.
    started: Option<oneshot::Sender<()>>,
}

impl Turn {
    /// The turn behind all that were given before; `self` only remembers the last.
    pub(super) fn next(&mut self) -> Self {
        let (started, next) = oneshot::channel();
        Self {
            before: self.before.replace(next),
            started: Some(started),
        }
    }

    async fn come(&mut self) {
        if let Some(before) = &mut self.before {
            // It is never sent to.
            let _ = before.await;
        }
    }

    /// The next one may start.
    fn end(self) {
        drop(self.started);
    }
}

/// Runs `command` to its end; `Err` says why it could not be started.
pub(super) async fn run(
    command: Command,
    groups: &Groups,
    mut cancelled: oneshot::Receiver<()>,
    mut turn: Turn,
) -> Result<Outcome, String> {
    let timeout = command.timeout;
    // The user database may be on the network: not on the one thread.
    let prepared = tokio::task::spawn_blocking(move || prepare(&command))
        .await
        .map_err(|error| error.to_string())
        .flatten();
    turn.come().await;
    let prepared = prepared?;
    if cancelled.try_recv().is_ok() {
        return Ok(Outcome {
            end: End::Cancelled,
            duration: Duration::ZERO,
            stdout: String::new(),
            stderr: String::new(),
        });
    }
    let name = prepared.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let (mut child, group) = groups
        .spawn(prepared)
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    turn.end();

    let (stdout, stderr) = (Tail::default(), Tail::default());
    let pipes = (child.stdout.take(), child.stderr.take());
    let mut output =
        std::pin::pin!(async { tokio::join!(stdout.drain(pipes.0), stderr.drain(pipes.1)) });
    let mut deadline = std::pin::pin!(tokio::time::sleep(timeout));
    let mut open = true;
    let early = loop {
        tokio::select! {
            status = child.wait() => break Ok(status),
            () = &mut deadline => break Err(End::TimedOut),
            Ok(()) = &mut cancelled => break Err(End::Cancelled),
            _ = &mut output, if open => open = false,
        }
    };
    let (end, status) = match early {
        Ok(status) => (None, status),
        Err(end) => {
            signal_group(group, Signal::TERM);
            // The leader is not waited for meanwhile, so that it keeps the group's number taken.
            let _ = tokio::time::timeout(GRACE, async {
                if open {
                    let _ = (&mut output).await;
                    open = false;
                }
                std::future::pending::<()>().await;
            })
            .await;
            signal_group(group, Signal::KILL);
            (Some(end), child.wait().await)
        }
    };
    groups.forget(group);
    if open {
        let _ = tokio::time::timeout(LAST_OUTPUT, &mut output).await;
    }
    let duration = started.elapsed();
    let end = end.unwrap_or_else(|| status.map_or(End::Signalled(0), natural_end));
    Ok(Outcome {
        end,
        duration,
        stdout: stdout.text(),
        stderr: stderr.text(),
    })
}

fn natural_end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signalled(signal.unwrap_or_default()),
    }
}

fn signal_group(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        // All of it may have ended just now.
        let _ = kill_process_group(group, signal);
    }
}

/// The end of a stream.
#[derive(Debug, Default)]
struct Tail(Mutex<VecDeque<u8>>);

impl Tail {
    async fn drain(&self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut chunk = [0; 2048];
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            let mut tail = self.lock();
            tail.extend(&chunk[..length]);
            let excess = tail.len().saturating_sub(TAIL);
            tail.drain(..excess);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.lock().make_contiguous()).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(command: &Command) -> Result<std::process::Command, String> {
    let mut prepared = match &command.program {
        Program::Shell(line) => {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.arg("-c").arg(line);
            shell
        }
        Program::Argv(words) => {
            let (program, arguments) = words.split_first().ok_or("the command is empty")?;
            let mut prepared = std::process::Command::new(program);
            prepared.args(arguments);
            prepared
        }
    };
    prepared.env_clear();
    prepared.env(
        "PATH",
        std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
    );
    for name in ["LANG", "LC_ALL", "TZ"] {
        if let Some(value) = std::env::var_os(name) {
            prepared.env(name, value);
        }
    }
    become_user(&mut prepared, command)?;
    prepared
        .envs(
            command
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    Ok(prepared)
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn become_user(prepared: &mut std::process::Command, command: &Command) -> Result<(), String> {
    let own = Uid::effective();
    let user = match &command.user {
        Some(name) => User::from_name(name)
            .map_err(|error| format!("cannot look up user {name}: {error}"))?
            .ok_or_else(|| format!("there is no user {name}"))?,
        None => match User::from_uid(own) {
            Ok(Some(user)) => user,
            // A user without a name is nothing a command needs to know.
            _ => return Ok(()),
        },
    };
    let gid = match &command.group {
        Some(name) => {
            Group::from_name(name)
                .map_err(|error| format!("cannot look up group {name}: {error}"))?
                .ok_or_else(|| format!("there is no group {name}"))?
                .gid
        }
        None => user.gid,
    };
    if user.uid != own || command.group.is_some() {
        if !own.is_root() {
            return Err(format!("only root may run a command as {}", user.name));
        }
        // With a user set, std also empties the list of supplementary groups.
        prepared.uid(user.uid.as_raw()).gid(gid.as_raw());
    }
    prepared
        .env("HOME", &user.dir)
        .env("USER", &user.name)
        .env("LOGNAME", &user.name)
        .env("SHELL", "/bin/sh");
    Ok(())
}
