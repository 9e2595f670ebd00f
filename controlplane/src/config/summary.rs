//! What `sluiced --check` says about a good configuration.

use std::path::Path;

use super::model::Config;

/// One line: the file and what it describes.
pub fn summary(path: &Path, config: &Config) -> String {
    let services: usize = config
        .virtual_servers
        .iter()
        .map(|service| service.endpoints().len())
        .sum();
    let reals: usize = config
        .virtual_servers
        .iter()
        .map(|service| service.real_servers.len())
        .sum();
    let routers = match config.vrrp.len() {
        0 => String::new(),
        routers => format!(", {}", count(routers, "virtual router")),
    };
    format!(
        "{}: ok: {}, {}, {}{routers}",
        path.display(),
        count(config.ports.len(), "port"),
        count(services, "virtual service"),
        count(reals, "real server"),
    )
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
