//! Server lists as the kernel would have built them.
//!
//! A configuration names servers in file order; IPVS puts each added server at the head, keeps the
//! place of an edited one and lets a removed one leave. [`ServerList::rebuilt`] replays the
//! difference between two configurations in that way (removals, then edits and additions in file
//! order, as keepalived reloads) and records what the schedulers' carry-over needs.

use super::candidates::Candidates;
use super::hashed::HashTable;
use super::{MaglevTables, SchedulerKind};
use crate::address::Family;
use crate::service::{ListChange, RealId, RealServer, ServerList};
use hashbrown::{HashMap, HashSet};
use rustc_hash::FxBuildHasher;

impl ServerList {
    /// The list after a change of configuration to `servers`, in file order; `previous` is the
    /// list so far. Of two servers with one id the first counts.
    ///
    /// If neither membership nor a weight changes, generation and history stay as they are.
    /// `scheduler` is who shall choose from it, for a service of `family`; `tables` are those of
    /// other lists, to be shared.
    pub fn rebuilt_for(
        scheduler: SchedulerKind,
        family: Family,
        previous: Option<&Self>,
        servers: Vec<RealServer>,
        tables: &mut MaglevTables,
    ) -> Self {
        let mut list = Self::rebuilt(previous, servers);
        list.table = scheduler.table(family, &list.servers, &list.last_weights, tables);
        list
    }

    /// The same list for another scheduler, or the same one anew: the servers stay in their order,
    /// and nobody remembers how they got there, as when the kernel changes a service's scheduler.
    #[must_use]
    pub fn restarted(mut self) -> Self {
        self.history = Box::default();
        self.predecessors.clear();
        self.table = HashTable::None;
        self
    }

    /// [`Self::rebuilt_for`] without what only some schedulers need.
    pub(crate) fn rebuilt(previous: Option<&Self>, servers: Vec<RealServer>) -> Self {
        let mut replay = Replay::new(previous);
        let mut wanted = HashMap::with_capacity_and_hasher(servers.len(), FxBuildHasher);
        for server in &servers {
            wanted.entry(server.id).or_insert(server.weight);
        }
        replay.remove_all_but(&wanted);
        let mut weights: HashMap<RealId, u32, FxBuildHasher> =
            replay.weights.iter().map(|w| (w.id, w.weight)).collect();
        for server in &servers {
            let weight = wanted[&server.id];
            match weights.insert(server.id, weight) {
                None => replay.add(server.id, weight),
                Some(old) if old != weight => replay.edit(server.id, weight),
                Some(_) => {}
            }
        }
        replay.finish(servers)
    }
}

/// A list in the making, oldest first: additions to the head are pushes.
struct Replay {
    weights: Vec<Weighted>,
    generation: u64,
    next_generation: u64,
    history: Vec<ListChange>,
    predecessors: HashMap<RealId, Option<RealId>, FxBuildHasher>,
    tally: Tally,
}

#[derive(Clone, Copy)]
struct Weighted {
    id: RealId,
    weight: u32,
    /// The latest weight above 0 since it was added; 0 if there was none.
    last_weight: u32,
}

impl Replay {
    fn new(previous: Option<&ServerList>) -> Self {
        let Some(list) = previous else {
            return Self {
                weights: Vec::new(),
                generation: 0,
                next_generation: 1,
                history: Vec::new(),
                predecessors: HashMap::default(),
                tally: Tally::default(),
            };
        };
        let weights: Vec<_> = list
            .servers
            .iter()
            .zip(&list.last_weights)
            .rev()
            .map(|(server, last_weight)| Weighted {
                id: server.id,
                weight: server.weight,
                last_weight: *last_weight,
            })
            .collect();
        Self {
            tally: weights.iter().map(|w| w.weight).collect(),
            weights,
            generation: list.generation,
            next_generation: list.generation + 1,
            history: list.history.to_vec(),
            predecessors: list.predecessors.clone(),
        }
    }

    fn remove_all_but(&mut self, wanted: &HashMap<RealId, u32, FxBuildHasher>) {
        if self.predecessors.len() > PREDECESSORS {
            // Cells that have not decided since so many removals start from the head again.
            self.predecessors.clear();
        }
        let mut kept: Vec<Weighted> = Vec::with_capacity(self.weights.len());
        let mut gone = HashSet::with_hasher(FxBuildHasher);
        let mut left = Vec::new();
        // Newest first, so that `kept` ends with the one before that stays.
        for server in self.weights.iter().rev() {
            if wanted.contains_key(&server.id) {
                kept.push(*server);
            } else {
                self.predecessors
                    .insert(server.id, kept.last().map(|before| before.id));
                gone.insert(server.id);
                left.push(server.weight);
            }
        }
        kept.reverse();
        self.weights = kept;
        // Those that stood behind one that leaves now move on with it, so that what is recorded is
        // always in the list and a worker needs one step however much it has missed.
        let moves: Vec<_> = self
            .predecessors
            .iter()
            .filter_map(|(id, before)| Some((*id, (*before)?)))
            .filter(|(_, before)| gone.contains(before))
            .map(|(id, before)| (id, self.predecessors[&before]))
            .collect();
        self.predecessors.extend(moves);
        for weight in left {
            self.tally.remove(weight);
            self.record();
        }
    }

    fn add(&mut self, id: RealId, weight: u32) {
        self.predecessors.remove(&id);
        self.weights.push(Weighted {
            id,
            weight,
            last_weight: weight,
        });
        self.tally.add(weight);
        self.record();
    }

    fn edit(&mut self, id: RealId, weight: u32) {
        for server in self.weights.iter_mut().filter(|server| server.id == id) {
            self.tally.remove(server.weight);
            self.tally.add(weight);
            server.weight = weight;
            if weight > 0 {
                server.last_weight = weight;
            }
        }
        self.record();
    }

    /// Notes what the kernel's schedulers would have been told.
    fn record(&mut self) {
        self.generation = self.next_generation;
        let change = ListChange {
            generation: self.generation,
            gcd: self.tally.gcd(),
            max_weight: self.tally.max(),
        };
        match self.history.last_mut() {
            // The carry-over rule applied twice gives what it gave once.
            Some(last) if (last.gcd, last.max_weight) == (change.gcd, change.max_weight) => {
                *last = change;
            }
            _ => self.history.push(change),
        }
    }

    fn finish(mut self, servers: Vec<RealServer>) -> ServerList {
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
        let mut by_id: HashMap<RealId, RealServer, FxBuildHasher> = HashMap::default();
        for server in servers {
            by_id.entry(server.id).or_insert(server);
        }
        let servers: Box<[RealServer]> = self
            .weights
            .iter()
            .rev()
            .filter_map(|server| by_id.remove(&server.id))
            .collect();
        ServerList {
            candidates: Candidates::new(&servers),
            last_weights: self.weights.iter().rev().map(|w| w.last_weight).collect(),
            table: HashTable::None,
            servers,
            generation: self.generation.max(1),
            history: self.history.into(),
            predecessors: self.predecessors,
            gcd: self.tally.gcd(),
            max_weight: self.tally.max(),
        }
    }
}

/// The weights in a list by value, so that a change of one server in thousands does not cost a
/// walk over all of them.
#[derive(Default)]
struct Tally {
    counts: std::collections::BTreeMap<u32, usize>,
}

impl Tally {
    fn add(&mut self, weight: u32) {
        *self.counts.entry(weight).or_default() += 1;
    }

    fn remove(&mut self, weight: u32) {
        if let Some(count) = self.counts.get_mut(&weight) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&weight);
            }
        }
    }

    /// gcd of the weights above 0, at least 1.
    fn gcd(&self) -> u32 {
        self.counts.keys().copied().fold(0, gcd).max(1)
    }

    fn max(&self) -> u32 {
        self.counts.keys().next_back().copied().unwrap_or(0)
    }
}

impl FromIterator<u32> for Tally {
    fn from_iter<I: IntoIterator<Item = u32>>(weights: I) -> Self {
        let mut tally = Self::default();
        for weight in weights {
            tally.add(weight);
        }
        tally
    }
}

pub(super) fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Most steps of history kept; a worker further behind starts from the oldest kept one.
const HISTORY: usize = 256;
/// Most departed servers remembered before the record is begun afresh.
const PREDECESSORS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::super::tests::{servers, with_weights};
    use super::*;

    fn ids(list: &ServerList) -> Vec<u32> {
        list.servers.iter().map(|server| server.id.0).collect()
    }

    fn history(list: &ServerList) -> Vec<(u64, u32, u32)> {
        let step = |change: &ListChange| (change.generation, change.gcd, change.max_weight);
        list.history.iter().map(step).collect()
    }

    #[test]
    fn a_fresh_list_is_the_file_reversed_with_a_step_for_each_addition() {
        let list = with_weights(&[(11, 4), (12, 3), (13, 2)]);
        assert_eq!(ids(&list), [13, 12, 11]);
        // The last addition changes neither gcd nor maximum.
        assert_eq!(history(&list), [(1, 4, 4), (1, 1, 4)]);
        assert_eq!((list.generation, list.gcd, list.max_weight), (1, 1, 4));
    }

    #[test]
    fn an_unchanged_list_keeps_generation_and_history() {
        let list = with_weights(&[(11, 4), (12, 3)]);
        let mut same = servers(&[(12, 3), (11, 4)]);
        same[0].upper_threshold = 7;
        let again = ServerList::rebuilt(Some(&list), same);
        assert_eq!(again.generation, list.generation);
        assert_eq!(again.history, list.history);
        assert_eq!(ids(&again), [12, 11]);
        assert_eq!(again.servers[0].upper_threshold, 7);
    }

    #[test]
    fn an_edited_server_keeps_its_place_and_a_new_one_goes_to_the_head() {
        let list = with_weights(&[(11, 1), (12, 1), (13, 1)]);
        let edited = servers(&[(14, 1), (11, 5), (12, 1), (13, 1)]);
        let list = ServerList::rebuilt(Some(&list), edited);
        assert_eq!(ids(&list), [14, 13, 12, 11]);
        assert_eq!(list.servers[3].weight, 5);
        assert_eq!((list.generation, list.max_weight), (2, 5));
    }

    #[test]
    fn a_server_that_leaves_names_the_one_before_and_one_that_returns_is_the_newest() {
        let list = with_weights(&[(11, 1), (12, 1), (13, 1)]);
        let list = ServerList::rebuilt(Some(&list), servers(&[(13, 1)]));
        assert_eq!(list.predecessors[&RealId(12)], Some(RealId(13)));
        assert_eq!(list.predecessors[&RealId(11)], Some(RealId(13)));
        let list = ServerList::rebuilt(Some(&list), servers(&[(11, 1)]));
        assert_eq!(list.predecessors[&RealId(13)], None);
        assert_eq!(list.predecessors[&RealId(12)], None);
        assert_eq!(ids(&list), [11]);
        assert!(!list.predecessors.contains_key(&RealId(11)));
    }

    #[test]
    fn a_list_may_become_empty_and_full_again() {
        let list = ServerList::rebuilt(None, Vec::new());
        assert_eq!((list.generation, list.gcd, list.max_weight), (1, 1, 0));
        let list = ServerList::rebuilt(Some(&list), servers(&[(11, 0), (11, 3)]));
        assert_eq!(ids(&list), [11]);
        assert_eq!((list.gcd, list.max_weight), (1, 0));
        let list = ServerList::rebuilt(Some(&list), Vec::new());
        assert_eq!((list.generation, list.servers.len()), (3, 0));
    }

    #[test]
    fn history_and_departures_are_bounded() {
        let mut list = ServerList::rebuilt(None, Vec::new());
        for n in 0..1500 {
            list = ServerList::rebuilt(Some(&list), servers(&[(n, n % 7 + 1)]));
            let present = |before: &RealId| list.servers.iter().any(|s| s.id == *before);
            assert!(list.predecessors.values().flatten().all(present));
        }
        assert_eq!(list.generation, 1501);
        assert_eq!(list.history.len(), HISTORY);
        assert_eq!(list.history[HISTORY - 1].generation, 1501);
        assert!(list.predecessors.len() <= PREDECESSORS + 1);
    }
}
