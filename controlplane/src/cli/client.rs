//! One HTTP/1.1 request to the admin socket.

use super::Failure;
use axum::http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a connection may take; only a daemon that accepts nobody is slow here.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long the whole answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The daemon's admin socket.
pub(super) struct Client<'a> {
    socket: &'a Path,
}

/// What the daemon answered.
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The JSON text.
    pub(super) body: Bytes,
}

impl<'a> Client<'a> {
    pub(super) fn new(socket: &'a Path) -> Self {
        Self { socket }
    }

    pub(super) fn get(&self, resource: &str) -> Result<Answer, Failure> {
        self.request(Method::GET, resource, Vec::new())
    }

    pub(super) fn post(&self, resource: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        self.request(Method::POST, resource, body)
    }

    fn request(&self, method: Method, resource: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(resource)
            .header(header::HOST, "sluice")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Refused(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Refused(error.to_string()))?;
        runtime.block_on(async {
            let stream = match timeout(CONNECT_TIME, connect(self.socket)).await {
                Ok(connected) => connected.map_err(|error| self.cannot_connect(&error))?,
                Err(_) => return Err(self.no_answer()),
            };
            match timeout(ANSWER_TIME, exchange(stream, request)).await {
                Ok(answer) => answer.map_err(|error| {
                    Failure::NoDaemon(format!(
                        "the daemon on {} hung up: {error}",
                        self.socket.display()
                    ))
                }),
                Err(_) => Err(self.no_answer()),
            }
        })
    }

    fn cannot_connect(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Failure::NoDaemon(format!("no sluiced is running: nobody listens on {socket}"))
            }
            io::ErrorKind::PermissionDenied => Failure::Refused(format!(
                "permission denied on {socket}: you must be root or in the admin or monitor group"
            )),
            _ => Failure::Refused(format!("cannot connect to {socket}: {error}")),
        }
    }

    fn no_answer(&self) -> Failure {
        Failure::NoDaemon(format!(
            "the daemon on {} does not answer",
            self.socket.display()
        ))
    }
}

/// Unlike TCP, a full backlog is an immediate error here, and worth another try.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors come out of the request too.
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok(Answer { status, body })
}
