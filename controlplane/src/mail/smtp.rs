//! The client's side of one SMTP conversation (RFC 5321), as keepalived has it: HELO, no TLS, no login.
//!
//! Invariant: every step is bounded in time and in bytes; whatever the server says, the answer is
//! a value.

use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest answer that is read, bytes.
const LONGEST_ANSWER: u64 = 16 * 1024;

/// Whom to talk to and as whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) helo: String,
    /// For the connection, and for each answer.
    pub(super) timeout: Duration,
}

/// Why a mail was not taken.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no answer within {} s to {step}", timeout.as_secs_f32())]
    Silent {
        step: &'static str,
        timeout: Duration,
    },
    #[error("the server answered {step} with: {answer}")]
    Refused { step: &'static str, answer: String },
    /// The server may have the mail: it was sent to its last byte, and no answer came.
    #[error("the server has not said whether it took the mail: {0}")]
    Unknown(Box<Self>),
}

impl Refusal {
    /// Whether sending it again cannot make two mails of one.
    pub(super) fn may_be_repeated(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

impl Server {
    /// Hands one message over, to whom the server takes it for. Returns what it said of the others.
    pub(super) async fn deliver(
        &self,
        from: &str,
        to: &[String],
        message: &str,
    ) -> Result<Vec<String>, Refusal> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(self.timeout, connect)
            .await
            .map_err(|_| self.silent("the connection"))??;
        let mut talk = Talk {
            server: self,
            stream: BufReader::new(stream),
        };
        talk.expect("the connection", 220).await?;
        talk.say(&format!("HELO {}\r\n", self.helo), "HELO", 250)
            .await?;
        talk.say(&format!("MAIL FROM:<{from}>\r\n"), "MAIL", 250)
            .await?;
        let mut refused = Vec::new();
        for (position, address) in to.iter().enumerate() {
            let text = format!("RCPT TO:<{address}>\r\n");
            match talk.say(&text, "RCPT", 250).await {
                Ok(()) => {}
                // Those who can be reached are told, as long as there is one.
                Err(Refusal::Refused { answer, .. })
                    if refused.len() < position || position + 1 < to.len() =>
                {
                    refused.push(format!("{address}: {answer}"));
                }
                Err(why) => return Err(why),
            }
        }
        talk.say("DATA\r\n", "DATA", 354).await?;
        talk.write(message, "the message").await?;
        match talk.expect("the message", 250).await {
            Ok(()) => {}
            Err(why @ Refusal::Refused { .. }) => return Err(why),
            Err(why) => return Err(Refusal::Unknown(Box::new(why))),
        }
        // It has been taken; how the good-bye goes is of no interest.
        let _ = talk.say("QUIT\r\n", "QUIT", 221).await;
        Ok(refused)
    }

    fn silent(&self, step: &'static str) -> Refusal {
        Refusal::Silent {
            step,
            timeout: self.timeout,
        }
    }
}

struct Talk<'a> {
    server: &'a Server,
    stream: BufReader<TcpStream>,
}

impl Talk<'_> {
    async fn say(&mut self, text: &str, step: &'static str, code: u16) -> Result<(), Refusal> {
        self.write(text, step).await?;
        self.expect(step, code).await
    }

    async fn write(&mut self, text: &str, step: &'static str) -> Result<(), Refusal> {
        timeout(
            self.server.timeout,
            self.stream.get_mut().write_all(text.as_bytes()),
        )
        .await
        .map_err(|_| self.server.silent(step))??;
        Ok(())
    }

    /// The last line of an answer has a space behind its code. Any code of the same hundred will do.
    async fn expect(&mut self, step: &'static str, code: u16) -> Result<(), Refusal> {
        let answer = timeout(self.server.timeout, self.answer())
            .await
            .map_err(|_| self.server.silent(step))??;
        let given: Option<u16> = answer.get(..3).and_then(|digits| digits.parse().ok());
        if given.is_some_and(|given| given / 100 == code / 100) {
            return Ok(());
        }
        let answer = answer.trim_end().replace(|c: char| c.is_control(), " ");
        Err(Refusal::Refused { step, answer })
    }

    async fn answer(&mut self) -> std::io::Result<String> {
        let mut read = (&mut self.stream).take(LONGEST_ANSWER);
        loop {
            let mut line = Vec::new();
            read.read_until(b'\n', &mut line).await?;
            if line.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line.get(3) != Some(&b'-') {
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
        }
    }
}
