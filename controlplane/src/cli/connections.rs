//! `sluice connections` for people: the columns of `ipvsadm -Lcn`, and whose connection it is.

use super::number::count;
use super::table::{Align::Left, Align::Right, Table};
use crate::admin::api::{Connections, Deleted};

/// The listing.
pub(super) fn render(listed: &Connections) -> String {
    let mut table = Table::new(&[
        ("pro", Left),
        ("expire", Left),
        ("state", Left),
        ("source", Left),
        ("virtual", Left),
        ("destination", Left),
        ("forward", Left),
        ("packets", Right),
        ("worker", Right),
        ("server", Left),
    ]);
    for connection in &listed.connections {
        table.push([
            connection.protocol.lvs_name().into(),
            expire(connection.expires_seconds),
            connection.state.clone(),
            connection.client.to_string(),
            connection.vip.to_string(),
            connection.destination.to_string(),
            connection.forward.lvs_name().into(),
            count(connection.packets),
            connection.worker.to_string(),
            format!("{}/{}", connection.service, connection.real),
        ]);
    }
    if listed.connections.is_empty() {
        return "no connections\n".into();
    }
    table.render(0)
}

/// What the listing leaves out, if anything.
pub(super) fn note(listed: &Connections) -> Option<String> {
    listed.truncated.then(|| {
        format!(
            "{} of {} connections shown; limit=N shows more",
            listed.connections.len(),
            listed.total
        )
    })
}

/// The answer to a deletion.
pub(super) fn render_deleted(answer: Deleted) -> String {
    match answer.deleted {
        1 => "1 connection deleted\n".into(),
        n => format!("{n} connections deleted\n"),
    }
}

/// `MM:SS`, as the kernel's tools print it.
fn expire(seconds: u64) -> String {
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}
