//! The helper's own life: read requests, run commands, answer; at end of file kill and exit.
//!
//! It has one thread of tokio's plus a few for user look-ups, and little memory, so its forks are
//! cheap. It outlives SIGTERM and SIGINT, which systemd sends to the whole control group: the daemon
//! still wants its last scripts run, and ends the helper itself.

use super::frame::{self, Reply, Request};
use super::run::{Groups, Turn, run};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// Commands running at once; each takes two or three file descriptors of the usual 1024.
const MAX_RUNNING: usize = 256;

pub(super) fn serve() -> io::Result<()> {
    let stream: std::os::unix::net::UnixStream = io::stdin().as_fd().try_clone_to_owned()?.into();
    // Not a socket: somebody typed the hidden argument.
    stream.peer_addr()?;
    stream.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(converse(stream))
}

async fn converse(stream: std::os::unix::net::UnixStream) -> io::Result<()> {
    // Once registered a handler stays, and exec gives commands the default action again.
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::user_defined1(),
    ] {
        let _ = signal(kind)?;
    }
    let (read_half, write_half) = UnixStream::from_std(stream)?.into_split();
    let (replies, to_write) = mpsc::channel(MAX_RUNNING);
    let writer = tokio::spawn(write_replies(to_write, write_half));
    let groups = Groups::default();
    let mut commands = JoinSet::new();
    let ended = serve_requests(read_half, replies, &groups, &mut commands).await;
    // Nobody is left to answer.
    writer.abort();
    groups.kill_all();
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        while commands.join_next().await.is_some() {}
    })
    .await;
    ended
}

async fn serve_requests(
    mut stream: OwnedReadHalf,
    replies: mpsc::Sender<Reply>,
    groups: &Groups,
    commands: &mut JoinSet<()>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(MAX_RUNNING));
    let cancels: Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>> = Arc::default();
    let mut turn = Turn::default();
    while let Some(request) = read_request(&mut stream).await? {
        while commands.try_join_next().is_some() {}
        match request {
            Request::Run { id, command } => {
                let (cancel, cancelled) = oneshot::channel();
                lock(&cancels).insert(id, cancel);
                let (places, cancels) = (Arc::clone(&places), Arc::clone(&cancels));
                let (groups, replies) = (groups.clone(), replies.clone());
                let own = if command.in_order {
                    turn.next()
                } else {
                    Turn::default()
                };
                commands.spawn(async move {
                    let place = places.acquire_owned().await;
                    let result = run(command, &groups, cancelled, own).await;
                    drop(place);
                    lock(&cancels).remove(&id);
                    let _ = replies.send(Reply { id, result }).await;
                });
            }
            Request::Cancel { id } => {
                if let Some(cancel) = lock(&cancels).remove(&id) {
                    let _ = cancel.send(());
                }
            }
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read_request(stream: &mut OwnedReadHalf) -> io::Result<Option<Request>> {
    let mut word = [0; 4];
    // However the daemon died, there is nothing more to do.
    if stream.read_exact(&mut word).await.is_err() {
        return Ok(None);
    }
    let mut body = vec![0; frame::length(word)?];
    if stream.read_exact(&mut body).await.is_err() {
        return Ok(None);
    }
    frame::decode(&body).map(Some)
}

async fn write_replies(mut replies: mpsc::Receiver<Reply>, mut stream: OwnedWriteHalf) {
    while let Some(reply) = replies.recv().await {
        // Replies are bounded by the two tails, far below the longest frame.
        let Some(bytes) = frame::encode(&reply) else {
            continue;
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
