//! A server list as the least-connection schedulers walk it: weights side by side in list order,
//! and where the counts of each stand ([`crate::connection_counts`]).
//!
//! A choice among a hundred servers is a loop over two arrays, and what it costs is decided by how
//! little is done for each. So the list is cut into runs: servers whose counts follow one another
//! in memory, forwards or backwards (a list has its newest server first). Mostly it is one run.
//!
//! Invariant: `all[i]` describes `ServerList::servers[i]`, and the runs cover `all` without gaps.

use crate::connection_counts::{CountBlock, WorkerCounts};
use crate::service::RealServer;
use crate::verdict::WorkerId;
use std::ops::Range;
use std::sync::Arc;

/// What a choice needs of a list's servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    all: Box<[Candidate]>,
    runs: Box<[Run]>,
    any_limited: bool,
    /// No weight is 0.
    all_weighted: bool,
    /// All weights are the same.
    equal_weights: bool,
}

/// One server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) weight: u32,
    /// It has a threshold, so its flag must be read.
    is_limited: bool,
}

/// Neighbours in the list whose counts are neighbours in a block.
#[derive(Clone, Debug)]
struct Run {
    block: Arc<CountBlock>,
    indices: Range<usize>,
    places: Range<u32>,
    /// The first in the list has the last place.
    backwards: bool,
}

/// One server as a choice comes by it.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Its index in the list.
    pub(crate) index: usize,
    pub(crate) candidate: Candidate,
    /// What the asking worker has.
    pub(crate) counts: &'a WorkerCounts,
    block: &'a CountBlock,
    place: u32,
}

impl Candidates {
    /// Those of `servers`.
    pub(crate) fn new(servers: &[RealServer]) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            let at = server.shared.count_place();
            if !runs
                .last_mut()
                .is_some_and(|run| run.take(&at.block, at.place))
            {
                runs.push(Run {
                    block: Arc::clone(&at.block),
                    indices: index..index + 1,
                    places: at.place..at.place + 1,
                    backwards: false,
                });
            }
        }
        let all = servers.iter().map(|server| Candidate {
            weight: server.weight,
            is_limited: server.upper_threshold > 0,
        });
        let all: Box<[Candidate]> = all.collect();
        Self {
            any_limited: all.iter().any(|candidate| candidate.is_limited),
            all_weighted: all.iter().all(|candidate| candidate.weight > 0),
            equal_weights: all.windows(2).all(|pair| pair[0].weight == pair[1].weight),
            all,
            runs: runs.into(),
        }
    }

    /// True if any server has a threshold.
    #[inline]
    pub(crate) fn is_any_limited(&self) -> bool {
        self.any_limited
    }

    /// True if no weight is 0.
    #[inline]
    pub(crate) fn is_all_weighted(&self) -> bool {
        self.all_weighted
    }

    /// True if all weights are the same.
    #[inline]
    pub(crate) fn has_equal_weights(&self) -> bool {
        self.equal_weights
    }

    /// Shows every server, in list order.
    #[inline(always)]
    pub(crate) fn each<'a>(&'a self, worker: WorkerId, mut see: impl FnMut(Seen<'a>)) {
        for run in &self.runs {
            let Range { start, end } = run.places;
            debug_assert!(usize::from(worker.0) < run.block.workers());
            let counts = &run.block.worker(worker)[start as usize..end as usize];
            let candidates = &self.all[run.indices.clone()];
            let last = counts.len().wrapping_sub(1);
            // Counts by index: iterators zipped and turned round are kept in memory by the compiler.
            for (at, candidate) in candidates.iter().enumerate() {
                let place = if run.backwards {
                    last.wrapping_sub(at)
                } else {
                    at
                };
                see(Seen {
                    index: run.indices.start + at,
                    candidate: *candidate,
                    counts: &counts[place],
                    block: &run.block,
                    place: start + place as u32,
                });
            }
        }
    }

    /// Tells every worker what the others have.
    pub(crate) fn share(&self) {
        for run in &self.runs {
            for place in run.places.clone() {
                run.block.share(place);
            }
        }
    }

    /// The list indices of the servers with a threshold.
    pub(crate) fn limited(&self) -> impl Iterator<Item = usize> {
        let all = self.all.iter().enumerate();
        all.filter_map(|(index, candidate)| candidate.is_limited.then_some(index))
    }
}

impl Run {
    /// Takes the next server of the list in, if its counts are the next too.
    fn take(&mut self, block: &Arc<CountBlock>, place: u32) -> bool {
        let alone = self.indices.len() == 1;
        if !Arc::ptr_eq(&self.block, block) {
            return false;
        }
        if place == self.places.end && (alone || !self.backwards) {
            self.places.end += 1;
        } else if place + 1 == self.places.start && (alone || self.backwards) {
            self.places.start -= 1;
            self.backwards = true;
        } else {
            return false;
        }
        self.indices.end += 1;
        true
    }
}

impl Seen<'_> {
    /// True if it may be scheduled: weight above 0 and not overloaded.
    #[inline]
    pub(crate) fn is_eligible(&self) -> bool {
        let Candidate { weight, is_limited } = self.candidate;
        weight > 0 && !(is_limited && self.block.is_overloaded(self.place))
    }
}
