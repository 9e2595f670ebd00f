//! twos: two random servers by weight, of which the less loaded wins (behaviour notes 1.5).

use super::{Request, Scheduler};

/// Power of two choices.
pub(super) struct Twos;

impl Scheduler for Twos {
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let mut total: u64 = 0;
        each_eligible(request, |_, weight, _| total += weight);
        if total == 0 {
            return None;
        }
        let dice = &request.cell.dice;
        // Inclusive: 0 and 1 both mean the first server.
        let (first, second) = (dice.roll(total + 1), dice.roll(total + 1));
        let mut reached = 0;
        let mut chosen = [None; 2];
        each_eligible(request, |index, weight, overhead| {
            reached += weight;
            for (choice, mark) in chosen.iter_mut().zip([first, second]) {
                if choice.is_none() && mark <= reached {
                    *choice = Some((index, weight, overhead));
                }
            }
        });
        let [first, second] = chosen;
        match (first?, second?) {
            // Only a strictly less loaded second one replaces the first.
            ((_, weight, overhead), (second, its_weight, its_overhead))
                if overhead * its_weight > its_overhead * weight =>
            {
                Some(second)
            }
            ((first, ..), _) => Some(first),
        }
    }
}

/// Shows index, weight and overhead of every server that may be chosen, in list order.
#[inline(always)]
fn each_eligible(request: &Request<'_>, mut see: impl FnMut(usize, u64, u64)) {
    request.list.candidates.each(request.worker, |seen| {
        if seen.is_eligible() && !request.is_excluded(seen.index) {
            let overhead = match request.workers {
                1 => seen.counts.overhead_alone(),
                workers => seen.counts.overhead(workers),
            };
            see(seen.index, u64::from(seen.candidate.weight), overhead);
        }
    });
}
