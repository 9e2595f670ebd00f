//! What the daemon answers the admin API with.

use super::api::{
    ConnectionFilter, Connections, Deleted, Done, IpvsBatch, IpvsOutcomes, IpvsQuery, IpvsTables,
    MaintenanceRequest, ReleaseRequest, ReloadReport, ReloadRequest, Services, Stats, Status, Vrrp,
};
use std::future::Future;

/// The daemon, as the admin API sees it.
///
/// Each call runs as a task of its own: it may take its time, a caller that hangs up does not
/// cancel it half way, and a panic in it is one answer 500 and one line in the log. Calls may
/// overlap; an implementation that must not do two reloads at once serialises them itself.
pub trait Backend: Send + Sync + 'static {
    /// Is the box well?
    fn status(&self) -> impl Future<Output = Result<Status, BackendError>> + Send;

    /// Virtual services and real servers.
    fn services(&self) -> impl Future<Output = Result<Services, BackendError>> + Send;

    /// Every counter.
    fn stats(&self) -> impl Future<Output = Result<Stats, BackendError>> + Send;

    /// The connections `filter` selects, up to its limit ([`Connections::select`] does that).
    fn connections(
        &self,
        filter: ConnectionFilter,
    ) -> impl Future<Output = Result<Connections, BackendError>> + Send;

    /// Deletes the connections `filter` selects; it never selects all, and its limit means nothing.
    fn delete_connections(
        &self,
        filter: ConnectionFilter,
    ) -> impl Future<Output = Result<Deleted, BackendError>> + Send;

    /// The tables in the words of `ipvsadm`.
    fn ipvs(
        &self,
        query: IpvsQuery,
    ) -> impl Future<Output = Result<IpvsTables, BackendError>> + Send;

    /// Does commands of `ipvsadm`, each done or refused by itself, all in one epoch.
    fn change_ipvs(
        &self,
        batch: IpvsBatch,
    ) -> impl Future<Output = Result<IpvsOutcomes, BackendError>> + Send;

    /// The virtual routers.
    fn vrrp(&self) -> impl Future<Output = Result<Vrrp, BackendError>> + Send;

    /// Has a virtual router yield to a peer once.
    fn release(
        &self,
        request: ReleaseRequest,
    ) -> impl Future<Output = Result<Done, BackendError>> + Send;

    /// Takes the box out, or lets it take part again.
    fn maintenance(
        &self,
        request: MaintenanceRequest,
    ) -> impl Future<Output = Result<Done, BackendError>> + Send;

    /// Loads the configuration again. A refused configuration is an answer (`ok` false), not an
    /// error.
    fn reload(
        &self,
        request: ReloadRequest,
    ) -> impl Future<Output = Result<ReloadReport, BackendError>> + Send;
}

/// Why the daemon cannot answer. The text is one sentence for a person.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BackendError {
    /// The request makes no sense: 400.
    #[error("{0}")]
    Invalid(String),
    /// It names something that does not exist: 404.
    #[error("{0}")]
    NotFound(String),
    /// It makes sense but must not be done now: 409.
    #[error("{0}")]
    Refused(String),
    /// A part of the daemon does not answer in time, or it is starting or stopping: 503.
    #[error("{0}")]
    Unavailable(String),
}
