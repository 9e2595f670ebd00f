//! Which defences of `[ipvs]` are in effect, for `sluice status` and the log.

use super::Daemon;
use crate::admin::api;
use dataplane::defence::NAMES;

impl Daemon {
    /// The defences in effect now, by worker, a bit for each of [`NAMES`].
    pub(super) fn defences(&self) -> Vec<u64> {
        let workers = self.workers.iter();
        workers
            .map(|worker| worker.counters.defence.value())
            .collect()
    }

    /// Logs what has changed since the last call, one line for each defence. Call a few times a second.
    pub(super) fn watch_defences(&self) {
        let now = self.defences();
        let before = std::mem::replace(&mut self.state().defences, now.clone());
        for line in changes(&before, &now) {
            log::warn!("{line}");
        }
    }
}

/// The defences in effect, those of no worker left out.
pub(super) fn in_effect(workers: &[u64]) -> Vec<api::Defence> {
    let of = |bit: usize| -> Vec<u32> {
        let workers = (0..).zip(workers);
        let workers = workers.filter(|(_, mask)| **mask >> bit & 1 != 0);
        workers.map(|(id, _)| id).collect()
    };
    let defences = NAMES.iter().enumerate().map(|(bit, name)| api::Defence {
        name: (*name).to_owned(),
        workers: of(bit),
    });
    defences
        .filter(|defence| !defence.workers.is_empty())
        .collect()
}

/// One line for each defence that begins to be in effect anywhere, or no longer is.
fn changes(before: &[u64], now: &[u64]) -> Vec<String> {
    let any = |masks: &[u64], bit: usize| masks.iter().any(|mask| mask >> bit & 1 != 0);
    let lines = NAMES.iter().enumerate().filter_map(|(bit, name)| {
        match (any(before, bit), any(now, bit)) {
            (false, true) => Some(format!("[ipvs] {name} is in effect")),
            (true, false) => Some(format!("[ipvs] {name} is no longer in effect")),
            (false, false) | (true, true) => None,
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_defence_is_told_once_however_many_workers_it_is_in_effect_on() {
        assert!(changes(&[0, 0], &[0, 0]).is_empty());
        assert_eq!(
            changes(&[0, 0], &[0b101, 0b1]),
            [
                "[ipvs] drop_entry is in effect",
                "[ipvs] secure_tcp is in effect"
            ]
        );
        assert!(changes(&[0b1, 0b0], &[0b0, 0b1]).is_empty());
        assert_eq!(
            changes(&[0b10, 0b0], &[0b0, 0b0]),
            ["[ipvs] drop_packet is no longer in effect"]
        );
    }

    #[test]
    fn status_names_the_workers() {
        let shown: Vec<_> = in_effect(&[0b11, 0b1])
            .into_iter()
            .map(|defence| (defence.name, defence.workers))
            .collect();
        let expected = [("drop_entry", vec![0, 1]), ("drop_packet", vec![0])];
        assert_eq!(shown, expected.map(|(name, of)| (name.to_owned(), of)));
    }
}
