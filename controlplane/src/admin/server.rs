//! The admin API's server.
//!
//! One connection carries one request and has [`CONNECTION_TIME`] in all, so a slow or silent
//! client costs its user one of [`MAX_CONNECTIONS`] places for that long and delays nobody. Calls of the
//! backend run as tasks of their own: a panic in one becomes an answer 500 and a line in the log,
//! and a client that hangs up cancels nothing half way.

use super::access::{Access, AccessGroups};
use super::api::{
    ConnectionFilter, ErrorBody, IpvsBatch, IpvsQuery, MaintenanceRequest, PREFIX, ReleaseRequest,
    ReloadReport, ReloadRequest,
};
use super::backend::{Backend, BackendError};
use super::socket::AdminSocket;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};

/// How long one connection may last, from accept to the last byte of the answer.
pub const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How long a client may take to send its request's headers.
pub const HEADER_TIME: Duration = Duration::from_secs(5);
/// Connections one user may have open; one more is closed at once.
pub const MAX_CONNECTIONS: usize = 64;
/// The longest request body, bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// The longest batch of commands, bytes: a hundred thousand servers.
pub const MAX_BATCH: usize = 64 * 1024 * 1024;

/// Serves `backend` on `socket` until `shutdown` completes. Connections that are open then are
/// left to end by themselves on the runtime; the socket's file is gone when this returns.
pub async fn serve<B: Backend>(
    socket: AdminSocket,
    groups: AccessGroups,
    backend: Arc<B>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener()?)?;
    let places = Places::default();
    let app = router(backend);
    let mut failing = false;
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                admit(stream, &places, groups, &app);
            }
            Err(error) => {
                // Out of descriptors, most likely: waiting is all that helps, spinning does not.
                if !std::mem::replace(&mut failing, true) {
                    log::error!("admin: cannot accept: {error}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(stream: UnixStream, places: &Places, groups: AccessGroups, app: &Router) {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => {
            log::warn!("admin: a caller without credentials: {error}");
            return;
        }
    };
    match places.take(peer.uid()) {
        Some(place) => {
            tokio::spawn(serve_connection(stream, peer, place, groups, app.clone()));
        }
        None => log::debug!("admin: user {} has too many connections", peer.uid()),
    }
}

/// The connections of each user: nobody can keep root out by opening many.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<HashMap<u32, usize>>>);

impl Places {
    fn take(&self, uid: u32) -> Option<Place> {
        let mut taken = self.lock();
        let count = taken.entry(uid).or_default();
        if *count >= MAX_CONNECTIONS {
            return None;
        }
        *count += 1;
        Some(Place {
            places: self.clone(),
            uid,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Entry::Occupied(mut count) = taken.entry(self.uid) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

async fn serve_connection(
    stream: UnixStream,
    peer: UCred,
    place: Place,
    groups: AccessGroups,
    app: Router,
) {
    // The user database may be on the network: not on an executor thread.
    let access = tokio::task::spawn_blocking(move || groups.access(peer.uid(), peer.gid()))
        .await
        .unwrap_or(Access::Nothing);
    let app = app.layer(from_fn(move |request: Request, next: Next| {
        authorise(access, request, next)
    }));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    // Errors here are clients that went away or spoke no HTTP: theirs, not ours.
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("admin: connection ended: {error}"),
        Err(_) => log::debug!("admin: connection timed out"),
    }
    drop(place);
}

async fn authorise(access: Access, request: Request, next: Next) -> Response {
    let needed = match *request.method() {
        Method::GET | Method::HEAD => Access::Read,
        _ => Access::Change,
    };
    if access >= needed {
        return next.run(request).await;
    }
    let why = if access == Access::Read {
        "permission denied: members of the monitor group may only read"
    } else {
        "permission denied: you are neither root nor a member of the admin or monitor group"
    };
    error(StatusCode::FORBIDDEN, why)
}

fn router<B: Backend>(backend: Arc<B>) -> Router {
    // Not `nest`: it would hide the prefix from the sentences about wrong requests.
    let at = |resource: &str| format!("{PREFIX}{resource}");
    let changes = post(change_ipvs::<B>).layer(DefaultBodyLimit::max(MAX_BATCH));
    let resources = Router::new()
        .route(&at("/status"), get(status::<B>))
        .route(&at("/services"), get(services::<B>))
        .route(&at("/stats"), get(stats::<B>))
        .route(&at("/connections"), get(connections::<B>))
        .route(&at("/connections/delete"), post(delete_connections::<B>))
        .route(&at("/ipvs"), get(ipvs::<B>).merge(changes))
        .route(&at("/vrrp"), get(vrrp::<B>))
        .route(&at("/vrrp/release"), post(release::<B>))
        .route(&at("/maintenance"), post(maintenance::<B>))
        .route(&at("/reload"), post(reload::<B>));
    #[cfg(feature = "test-hooks")]
    let resources = resources.merge(crate::test_hooks::routes());
    resources
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(backend)
}

async fn status<B: Backend>(State(backend): State<Arc<B>>) -> Response {
    answer(guarded(async move { backend.status().await }).await)
}

async fn services<B: Backend>(State(backend): State<Arc<B>>) -> Response {
    answer(guarded(async move { backend.services().await }).await)
}

async fn stats<B: Backend>(State(backend): State<Arc<B>>) -> Response {
    answer(guarded(async move { backend.stats().await }).await)
}

async fn connections<B: Backend>(
    State(backend): State<Arc<B>>,
    filter: Result<Query<ConnectionFilter>, QueryRejection>,
) -> Response {
    match filter {
        Ok(Query(filter)) => {
            let listed = guarded(async move { backend.connections(filter).await }).await;
            answer_at_length(listed).await
        }
        Err(rejection) => error(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

async fn delete_connections<B: Backend>(
    State(backend): State<Arc<B>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return error(rejection.status(), rejection.body_text()),
    };
    let filter: ConnectionFilter = match serde_json::from_slice(&body) {
        Ok(filter) => filter,
        Err(cause) => return error(StatusCode::BAD_REQUEST, format!("filter: {cause}")),
    };
    // One forgotten word must not cut every client off.
    if filter.selects_all() {
        return error(
            StatusCode::BAD_REQUEST,
            "a deletion needs at least one criterion",
        );
    }
    answer(guarded(async move { backend.delete_connections(filter).await }).await)
}

async fn ipvs<B: Backend>(
    State(backend): State<Arc<B>>,
    query: Result<Query<IpvsQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => {
            answer_at_length(guarded(async move { backend.ipvs(query).await }).await).await
        }
        Err(rejection) => error(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

async fn change_ipvs<B: Backend>(
    State(backend): State<Arc<B>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return error(rejection.status(), rejection.body_text()),
    };
    let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice::<IpvsBatch>(&body));
    match parsed.await {
        Ok(Ok(batch)) => answer(guarded(async move { backend.change_ipvs(batch).await }).await),
        Ok(Err(cause)) => error(StatusCode::BAD_REQUEST, format!("commands: {cause}")),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn vrrp<B: Backend>(State(backend): State<Arc<B>>) -> Response {
    answer(guarded(async move { backend.vrrp().await }).await)
}

async fn release<B: Backend>(
    State(backend): State<Arc<B>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match read::<ReleaseRequest>("release", body) {
        Ok(request) => answer(guarded(async move { backend.release(request).await }).await),
        Err(refusal) => refusal,
    }
}

async fn maintenance<B: Backend>(
    State(backend): State<Arc<B>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match read::<MaintenanceRequest>("maintenance", body) {
        Ok(request) => answer(guarded(async move { backend.maintenance(request).await }).await),
        Err(refusal) => refusal,
    }
}

#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn read<T: DeserializeOwned>(
    what: &str,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Response> {
    let body = body.map_err(|rejection| error(rejection.status(), rejection.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|cause| error(StatusCode::BAD_REQUEST, format!("{what}: {cause}")))
}

async fn reload<B: Backend>(
    State(backend): State<Arc<B>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return error(rejection.status(), rejection.body_text()),
    };
    let request = if body.is_empty() {
        ReloadRequest::default()
    } else {
        match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(cause) => return error(StatusCode::BAD_REQUEST, format!("reload: {cause}")),
        }
    };
    let report: Result<ReloadReport, Failure> =
        guarded(async move { backend.reload(request).await }).await;
    match report {
        Ok(report) if !report.ok => json(StatusCode::CONFLICT, &report),
        other => answer(other),
    }
}

async fn not_found(request: Request) -> Response {
    error(
        StatusCode::NOT_FOUND,
        format!("no such resource: {}", request.uri().path()),
    )
}

async fn method_not_allowed(request: Request) -> Response {
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "{} does not take {}",
            request.uri().path(),
            request.method()
        ),
    )
}

/// A call of the backend that gave no answer.
enum Failure {
    Backend(BackendError),
    Panic,
}

/// Runs a call of the backend as a task of its own.
async fn guarded<T: Send + 'static>(
    call: impl Future<Output = Result<T, BackendError>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::spawn(call).await {
        Ok(outcome) => outcome.map_err(Failure::Backend),
        Err(error) => {
            if error.is_panic() {
                log::error!(
                    "admin: a request panicked: {}",
                    panic_text(error.into_panic())
                );
            }
            Err(Failure::Panic)
        }
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

fn answer<T: Serialize>(outcome: Result<T, Failure>) -> Response {
    match outcome {
        Ok(value) => json(StatusCode::OK, &value),
        Err(Failure::Backend(cause)) => {
            let status = match cause {
                BackendError::Invalid(_) => StatusCode::BAD_REQUEST,
                BackendError::NotFound(_) => StatusCode::NOT_FOUND,
                BackendError::Refused(_) => StatusCode::CONFLICT,
                BackendError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            error(status, cause.to_string())
        }
        Err(Failure::Panic) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal error; the daemon's log says more",
        ),
    }
}

/// Up to tens of megabytes of text: not on an executor thread.
async fn answer_at_length<T: Serialize + Send + 'static>(outcome: Result<T, Failure>) -> Response {
    tokio::task::spawn_blocking(move || answer(outcome))
        .await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn error(status: StatusCode, text: impl Into<String>) -> Response {
    json(status, &ErrorBody { error: text.into() })
}

/// Pretty, so that `curl --unix-socket` and `sluice --json` show the very same text.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(cause) => {
            log::error!("admin: cannot write an answer as JSON: {cause}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_anothers_places() {
        let places = Places::default();
        let mut taken: Vec<Place> = std::iter::repeat_with(|| places.take(1000))
            .map_while(|place| place)
            .collect();
        assert_eq!(taken.len(), MAX_CONNECTIONS);
        assert!(places.take(0).is_some());
        taken.pop();
        assert!(places.take(1000).is_some());
        drop(taken);
        assert!(places.lock().is_empty());
    }
}
