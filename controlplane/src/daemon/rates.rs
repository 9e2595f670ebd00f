//! Rates over the last seconds, from samples of the counters.

use crate::admin::api;
use std::collections::VecDeque;
use std::time::Instant;

/// Seconds the rates are taken over.
const WINDOW: usize = 5;

/// The counters at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) rx_packets: u64,
    pub(super) rx_bytes: u64,
    pub(super) tx_packets: u64,
    pub(super) tx_bytes: u64,
    pub(super) connections: u64,
    pub(super) drops: u64,
    /// Per worker: polls that found packets, polls that did not.
    pub(super) busy: Vec<(u64, u64)>,
}

/// The last samples, one a second.
#[derive(Debug, Default)]
pub(super) struct RateWindow {
    samples: VecDeque<(Instant, Sample)>,
}

impl RateWindow {
    /// Adds a sample taken now.
    pub(super) fn add(&mut self, sample: Sample) {
        self.samples.push_back((Instant::now(), sample));
        while self.samples.len() > WINDOW + 1 {
            self.samples.pop_front();
        }
    }

    /// The rates between the oldest and the newest sample.
    pub(super) fn rates(&self) -> api::Rates {
        let (Some((since, old)), Some((until, new))) = (self.samples.front(), self.samples.back())
        else {
            return api::Rates::default();
        };
        let seconds = (*until - *since).as_secs_f64();
        if seconds <= 0.0 {
            return api::Rates::default();
        }
        let rate = |old: u64, new: u64| new.saturating_sub(old) as f64 / seconds;
        api::Rates {
            interval_seconds: seconds,
            rx_pps: rate(old.rx_packets, new.rx_packets),
            tx_pps: rate(old.tx_packets, new.tx_packets),
            rx_bps: rate(old.rx_bytes, new.rx_bytes) * 8.0,
            tx_bps: rate(old.tx_bytes, new.tx_bytes) * 8.0,
            cps: rate(old.connections, new.connections),
            drop_pps: rate(old.drops, new.drops),
        }
    }

    /// Share of a worker's polls that found packets, in percent.
    pub(super) fn busy_percent(&self, worker: usize) -> Option<f64> {
        let old = self.samples.front()?.1.busy.get(worker)?;
        let new = self.samples.back()?.1.busy.get(worker)?;
        let busy = new.0.saturating_sub(old.0);
        let all = busy + new.1.saturating_sub(old.1);
        (all > 0).then(|| busy as f64 * 100.0 / all as f64)
    }
}
