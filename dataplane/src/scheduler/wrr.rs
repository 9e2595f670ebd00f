//! wrr: weighted round robin by falling thresholds (behaviour notes 1.3).
//!
//! A threshold `cw` falls from the largest weight in steps of the gcd; each round through the list
//! serves the servers whose weight reaches it. The arithmetic is the kernel's, including where a
//! sequence goes on after the list has changed: every recorded change is applied in order.

use super::{Request, Scheduler, position};
use crate::service::{ListChange, ServerList};
use std::sync::atomic::Ordering::Relaxed;

/// Weighted round robin.
pub(super) struct Wrr;

impl Scheduler for Wrr {
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let list = request.list;
        let cell = request.cell;
        let mut turn = Turn {
            last: position::of(cell.last.load(Relaxed), list),
            threshold: cell.current_weight.load(Relaxed),
            step: i64::from(list.gcd.max(1)),
            highest: highest(list.gcd, list.max_weight),
        };
        let seen = cell.generation.load(Relaxed);
        if seen != list.generation {
            turn.last = None;
            turn.threshold = carried_over(turn.threshold, seen, list);
            cell.generation.store(list.generation, Relaxed);
        }
        let chosen = turn.next(list, |index| request.may_choose(&list.servers[index]));
        cell.last.store(position::mark(turn.last, list), Relaxed);
        cell.current_weight.store(turn.threshold, Relaxed);
        chosen
    }
}

/// The kernel's `cl`, `cw`, `di` and `mw`.
struct Turn {
    last: Option<usize>,
    threshold: i64,
    step: i64,
    highest: i64,
}

impl Turn {
    fn next(&mut self, list: &ServerList, may_choose: impl Fn(usize) -> bool) -> Option<usize> {
        if self.highest <= 0 {
            return None;
        }
        let serves = |index: usize, threshold: i64| {
            i64::from(list.servers[index].weight) >= threshold && may_choose(index)
        };
        let mut from = self.last.map_or(0, |last| last + 1);
        let mut until = list.servers.len();
        // At the lowest threshold every weight above 0 serves. Once a round at it has met every
        // server, there is none; after a start in mid-list that takes a second, shorter round.
        let mut lowest_round = false;
        let mut wrapped = false;
        loop {
            if let Some(index) = (from..until).find(|index| serves(*index, self.threshold)) {
                self.last = Some(index);
                return Some(index);
            }
            if until < list.servers.len() {
                return None;
            }
            self.threshold -= self.step;
            if self.threshold <= 0 {
                self.threshold = self.highest;
                if lowest_round || self.last.is_none() {
                    return None;
                }
                wrapped = true;
            }
            from = 0;
            lowest_round = self.threshold <= self.step;
            if let (true, true, Some(last)) = (lowest_round, wrapped, self.last) {
                until = last + 1;
            }
        }
    }
}

/// `mw`: the largest threshold, of the form k * gcd + 1.
fn highest(gcd: u32, max_weight: u32) -> i64 {
    i64::from(max_weight) - (i64::from(gcd.max(1)) - 1)
}

/// The threshold after every change since generation `seen`.
pub(super) fn carried_over(threshold: i64, seen: u64, list: &ServerList) -> i64 {
    let newest = ListChange {
        generation: list.generation,
        gcd: list.gcd,
        max_weight: list.max_weight,
    };
    list.history
        .iter()
        .filter(|change| change.generation > seen)
        // Applying the newest twice changes nothing; a list without history has only it.
        .chain([&newest])
        .fold(threshold, |threshold, change| {
            let highest = highest(change.gcd, change.max_weight);
            let step = i64::from(change.gcd.max(1));
            if threshold > highest || threshold == 0 {
                highest
            } else if step > 1 {
                threshold / step * step + 1
            } else {
                threshold
            }
        })
}
