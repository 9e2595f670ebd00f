//! `ipvsadm -Lc`: connections, byte for byte in the tool's columns.

use super::names::Names;
use super::syntax::{Columns, Listing};
use super::text::Writer;
use crate::admin::api::Connection;
use std::fmt::Write as _;

/// The listing, in the order given.
pub(super) fn render(connections: &[Connection], listing: Listing, names: &impl Names) -> String {
    let mut text = String::from("IPVS connection entries\n");
    let engines = if listing.columns == Columns::PersistentConn {
        "        pe name          pe_data"
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "pro expire state       source             virtual            destination{engines}"
    );
    let writer = Writer::new(names, listing.numeric);
    for connection in connections {
        let seconds = connection.expires_seconds;
        let expire = format!("{:02}:{:02}", seconds / 60, seconds % 60);
        let [source, vip, destination] =
            [connection.client, connection.vip, connection.destination].map(|endpoint| {
                writer.endpoint(endpoint.ip(), endpoint.port(), connection.protocol)
            });
        let _ = write!(
            text,
            "{:<3} {expire:<6} {:<11} {source:<18} {vip:<18} ",
            connection.protocol.lvs_name(),
            connection.state,
        );
        // There is one engine, and only its templates have data.
        let _ = match &connection.pe_data {
            Some(data) if !engines.is_empty() => {
                writeln!(text, "{destination:<18} {:<16} {data}", "sip")
            }
            _ => writeln!(text, "{destination}"),
        };
    }
    text
}
