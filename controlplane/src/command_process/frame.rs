//! What the daemon and the helper say to each other: a big-endian `u32` length, then JSON.
//!
//! Both ends are the same program, so there is no version. A frame over [`MAX_FRAME`] is never
//! sent, and ends the conversation if received.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};
use std::io::{self, Read};
use std::time::Duration;

/// The longest frame, bytes, without its length word.
pub(super) const MAX_FRAME: usize = 256 * 1024;

/// A command to run. Its standard input is empty, its directory `/`, its environment only what
/// a shell needs (PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_ALL, TZ) and `environment`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Command {
    /// What to run.
    pub program: Program,
    /// As whom; the daemon's own user if none. The user's own group is taken and no
    /// supplementary ones.
    pub user: Option<String>,
    /// Another group than the user's own.
    pub group: Option<String>,
    /// How long it may run. Then its whole process group gets SIGTERM, and soon SIGKILL.
    pub timeout: Duration,
    /// Variables for it.
    pub environment: Vec<(String, String)>,
    /// It is started after every such command that was asked for before it, though not after their
    /// end.
    pub in_order: bool,
}

impl Command {
    /// A command given as words, for at most `timeout`, as the daemon's own user.
    pub fn argv<S: Into<String>>(words: impl IntoIterator<Item = S>, timeout: Duration) -> Self {
        Self::of(
            Program::Argv(words.into_iter().map(Into::into).collect()),
            timeout,
        )
    }

    /// A command given as a line for `/bin/sh`, for at most `timeout`, as the daemon's own user.
    pub fn shell(line: impl Into<String>, timeout: Duration) -> Self {
        Self::of(Program::Shell(line.into()), timeout)
    }

    /// The same command as another user.
    pub fn as_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The same command with one more variable.
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The same command, started after all of these that were asked for before it.
    pub fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    fn of(program: Program, timeout: Duration) -> Self {
        Self {
            program,
            user: None,
            group: None,
            timeout,
            environment: Vec::new(),
            in_order: false,
        }
    }
}

/// What to run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Program {
    /// A program and its arguments; PATH is searched.
    Argv(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

/// How a command went.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// How long it ran.
    pub duration: Duration,
    /// The end of its standard output, at most 4 KiB.
    pub stdout: String,
    /// The end of its standard error, at most 4 KiB.
    pub stderr: String,
}

impl Outcome {
    /// Whether it exited with status 0.
    pub fn is_success(&self) -> bool {
        self.end == End::Exited(0)
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.end {
            End::Exited(status) => write!(f, "exit status {status}")?,
            End::Signalled(signal) => write!(f, "killed by signal {signal}")?,
            End::TimedOut => write!(f, "timed out after {:?}", self.duration)?,
            End::Cancelled => f.write_str("cancelled")?,
        }
        match self.stderr.trim_end().lines().next_back() {
            Some(line) => write!(f, ": {line}"),
            None => Ok(()),
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal, not ours.
    Signalled(i32),
    /// Killed because its time was up.
    TimedOut,
    /// Killed because nobody waited for it any more.
    Cancelled,
}

/// From the daemon.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Request {
    Run { id: u64, command: Command },
    Cancel { id: u64 },
}

/// From the helper, one for each `Run`; `Err` says why it could not be started.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Reply {
    pub(super) id: u64,
    pub(super) result: Result<Outcome, String>,
}

/// The bytes of a frame, or `None` if it would be too long.
pub(super) fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).ok()?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        return None;
    }
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Some(bytes)
}

/// The length a frame's first word announces, if it is legal.
pub(super) fn length(word: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(word) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame is too long",
        ));
    }
    Ok(length)
}

/// The message in a frame's body.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(io::Error::from)
}

/// Reads one frame, or `None` at the end.
pub(super) fn read<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<T>> {
    let mut word = [0; 4];
    match stream.read_exact(&mut word) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut body = vec![0; length(word)?];
    stream.read_exact(&mut body)?;
    decode(&body).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip() {
        let command = Command::argv(["/bin/echo", "ä \"x\""], Duration::from_millis(1500))
            .as_user("nobody")
            .with_variable("A", "b");
        let bytes = encode(&Request::Run {
            id: 7,
            command: command.clone(),
        })
        .unwrap();
        let Some(Request::Run { id, command: read }) = read(&mut bytes.as_slice()).unwrap() else {
            panic!("not a request to run");
        };
        assert_eq!((id, read), (7, command));
    }

    #[test]
    fn the_end_of_the_stream_is_no_error_but_half_a_frame_is() {
        assert!(read::<Reply>(&mut [].as_slice()).unwrap().is_none());
        assert!(read::<Reply>(&mut [0, 0, 0, 9, b'{'].as_slice()).is_err());
    }

    #[test]
    fn a_frame_that_is_too_long_is_neither_sent_nor_read() {
        let command = Command::shell("x".repeat(MAX_FRAME), Duration::ZERO);
        assert!(encode(&Request::Run { id: 1, command }).is_none());
        assert!(read::<Reply>(&mut [0xff; 8].as_slice()).is_err());
    }

    #[test]
    fn an_outcome_reads_as_one_line() {
        let outcome = Outcome {
            end: End::Exited(1),
            duration: Duration::from_secs(1),
            stdout: String::new(),
            stderr: "first\nlast\n".into(),
        };
        assert_eq!(outcome.to_string(), "exit status 1: last");
    }
}
