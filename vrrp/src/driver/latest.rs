//! What is tracked may change faster than a thread that is held up reads: of each thing only the latest report waits.
//!
//! A report that waits is a cell that both sides have; a newer one takes its place in it. Invariants: neither side ever
//! waits for the other; what is reported after a new configuration is not handed in before it.

use crate::input::Report;
use crate::settings::Tracked;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The host's side: reports that were sent, with their cells.
#[derive(Debug, Default)]
pub(super) struct Latest(BTreeMap<Tracked, Waiting>);

/// A report on its way.
#[derive(Clone, Debug)]
pub(super) struct Waiting(Arc<AtomicU64>);

impl Latest {
    /// Notes a report; `Some` has to be sent, `None` = it goes with one that still waits.
    pub(super) fn note(&mut self, tracked: &Tracked, report: Report) -> Option<Waiting> {
        let code = encode(report);
        if let Some(Waiting(cell)) = self.0.get(tracked)
            && cell.swap(code, Ordering::AcqRel) != TAKEN
        {
            return None;
        }
        let waiting = Waiting(Arc::new(AtomicU64::new(code)));
        self.0.insert(tracked.clone(), waiting.clone());
        Some(waiting)
    }

    /// Whatever is reported from now on waits behind what was sent so far.
    pub(super) fn begin(&mut self) {
        self.0.clear();
    }
}

impl Waiting {
    /// The latest report; it waits no more.
    pub(super) fn take(&self) -> Option<Report> {
        decode(self.0.swap(TAKEN, Ordering::AcqRel))
    }
}

fn encode(report: Report) -> u64 {
    match report {
        Report::Up => UP,
        Report::Down => DOWN,
        Report::Value(value) => VALUE | u64::from(value.cast_unsigned()),
    }
}

fn decode(code: u64) -> Option<Report> {
    match code {
        TAKEN => None,
        UP => Some(Report::Up),
        DOWN => Some(Report::Down),
        value => Some(Report::Value((value as u32).cast_signed())),
    }
}

const TAKEN: u64 = 0;
const UP: u64 = 1;
const DOWN: u64 = 2;
/// Above any number of a file.
const VALUE: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_thing_the_latest_report_waits_and_no_other() {
        let mut latest = Latest::default();
        let (file, script) = (Tracked::File("f".into()), Tracked::Script("s".into()));
        let first = latest.note(&file, Report::Up).unwrap();
        for value in [i32::MIN, -1, 0, 1, 2, i32::MAX] {
            assert!(latest.note(&file, Report::Value(value)).is_none());
        }
        let other = latest.note(&script, Report::Down).unwrap();
        assert_eq!(first.take(), Some(Report::Value(i32::MAX)));
        assert_eq!(first.take(), None);
        assert_eq!(other.take(), Some(Report::Down));
        // Read, a new one has to be sent; so it has behind a new configuration.
        assert!(latest.note(&file, Report::Value(-7)).is_some());
        latest.begin();
        let behind = latest.note(&file, Report::Value(-8)).unwrap();
        assert_eq!(behind.take(), Some(Report::Value(-8)));
    }
}
