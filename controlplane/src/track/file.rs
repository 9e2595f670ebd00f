//! `[track_file NAME]`: a number in a file, written by whoever knows how well this box is.
//!
//! As in keepalived, a file that is not there or holds no number counts as 0, and numbers beyond
//! ±254 say no more than these.

use super::Sink;
use crate::config::TrackFileConfig;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use vrrp::{Report, Tracked};

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// More is no number, bytes.
const LONGEST: u64 = 64;
/// The largest that changes anything.
const LARGEST: i64 = 254;

/// Looks at the file for ever.
pub(super) async fn track(section: TrackFileConfig, tracked: Tracked, sink: Sink) {
    let mut told = None;
    let mut complained = false;
    let mut turns = interval(INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let path = section.file.clone();
        // It may be on a file system that hangs.
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let value = match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(value) => {
                complained = false;
                value
            }
            Err(why) => {
                if !std::mem::replace(&mut complained, true) {
                    let path = section.file.display();
                    log::warn!("track_file {}: {path}: {why}; it counts as 0", section.name);
                }
                0
            }
        };
        if !super::tell(&sink, &tracked, &mut told, Report::Value(value)).await {
            return;
        }
    }
}

fn read(path: &Path) -> Result<i32, String> {
    let mut text = String::new();
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.to_string()),
    };
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let value: i64 = text
        .trim()
        .parse()
        .map_err(|_| "does not hold a whole number".to_owned())?;
    Ok(value.clamp(-LARGEST, LARGEST) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_a_number_or_counts_as_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        assert_eq!(read(&path), Ok(0));
        for (text, value) in [("7\n", 7), ("-20", -20), ("100000", 254), ("-100000", -254)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path), Ok(value), "{text}");
        }
        for text in ["", "seven", "1 2", &"1".repeat(1000)] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
        assert!(read(directory.path()).is_err());
    }
}
