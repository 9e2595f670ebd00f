//! The log: lines on standard error, with a filter that can be changed while running.

use env_logger::Logger;
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::{OnceLock, PoisonError, RwLock};

static OUTPUT: OnceLock<Switchable> = OnceLock::new();

/// An `env_logger` that can be exchanged.
struct Switchable(RwLock<Logger>);

/// Starts logging with `filter` (as `RUST_LOG` of env_logger); called again it changes the filter.
pub fn set(filter: &str) {
    let logger = env_logger::Builder::new()
        .filter_level(LevelFilter::Info)
        // It warns of every attribute that is newer than itself.
        .filter_module("netlink_packet_route", LevelFilter::Error)
        .parse_filters(filter)
        .format_target(false)
        .format_timestamp_millis()
        .build();
    let level = logger.filter();
    let mut fresh = Some(logger);
    let output = OUTPUT.get_or_init(|| {
        let logger = fresh.take().expect("the closure runs at most once");
        Switchable(RwLock::new(logger))
    });
    if let Some(logger) = fresh {
        *output.0.write().unwrap_or_else(PoisonError::into_inner) = logger;
    } else {
        // Fails only if somebody else installed a logger, whose output then is as good.
        let _ = log::set_logger(output);
    }
    log::set_max_level(level);
}

impl Log for Switchable {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .log(record);
    }

    fn flush(&self) {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .flush();
    }
}
