//! The netdevs beneath virtual devices while they are ours: silent, perhaps without the addresses
//! that `--take-over` moved. Dropping it gives them back, also when the start fails half way.

use super::linux::Linux;
use super::start::Error;
use crate::instance::RUN_DIRECTORY;
use crate::kernel::left_behind::{self, LeftBehind};
use crate::kernel::netlink::Rtnl;
use crate::kernel::take_over::TakeOver;
use crate::kernel::tap::Tap;
use crate::kernel::underlying::{self, Silence, Underlying};
use std::path::{Path, PathBuf};
use tokio::runtime::{Handle, Runtime};

/// What must be undone.
pub(super) struct Beneath {
    silenced: Vec<Silence>,
    moved: Vec<TakeOver>,
    /// The same on disk, for the next start if this process is killed.
    record: Option<LeftBehind>,
    rtnl: Rtnl,
    runtime: Handle,
}

impl Beneath {
    /// Nothing done yet.
    pub(super) fn new(linux: &Linux, runtime: &Runtime, prefix: &str) -> Self {
        Self {
            silenced: Vec::new(),
            moved: Vec::new(),
            record: Some(LeftBehind::at(&record_of(prefix))),
            rtnl: linux.rtnl().clone(),
            runtime: runtime.handle().clone(),
        }
    }

    /// Moves the addresses of the netdevs to the interfaces of their ports. Before
    /// [`Self::silence`], which takes IPv6 away.
    pub(super) async fn take_over(
        &mut self,
        linux: &Linux,
        underlying: &[(usize, Underlying)],
        taps: &[Option<Tap>],
    ) -> Result<(), Error> {
        let view = linux.view();
        for (port, beneath) in underlying {
            let tap = taps.get(*port).and_then(Option::as_ref);
            let (Some(link), Some(tap)) = (view.link_named(&beneath.interface), tap) else {
                continue;
            };
            let plan = TakeOver::plan(&view, link.index, tap.index());
            let failed = |error| format!("taking over {}: {error}", beneath.interface);
            if let Some(record) = &mut self.record {
                record
                    .taking(&beneath.interface, tap.name(), &plan)
                    .map_err(failed)?;
            }
            let moved = plan.begin(&self.rtnl).await.map_err(failed)?;
            for address in &moved.addresses {
                log::info!(
                    "moved {address} from {} to {}",
                    beneath.interface,
                    tap.name()
                );
            }
            self.moved.push(moved);
        }
        Ok(())
    }

    /// Keeps the netdevs from speaking for themselves.
    pub(super) fn silence(&mut self, underlying: &[(usize, Underlying)]) -> Result<(), Error> {
        for (_, beneath) in underlying {
            let failed = |error| format!("interface {}: {error}", beneath.interface);
            if let Some(record) = &mut self.record {
                record.silencing(&beneath.interface).map_err(failed)?;
            }
            let silence = underlying::silence(beneath).map_err(failed)?;
            self.silenced.push(silence);
        }
        Ok(())
    }
}

impl Drop for Beneath {
    fn drop(&mut self) {
        let mut undone = true;
        for silence in self.silenced.drain(..) {
            if let Err(error) = silence.release() {
                log::warn!("the interface beneath a port stays silent: {error}");
                undone = false;
            }
        }
        for moved in self.moved.drain(..) {
            if let Err(error) = self.runtime.block_on(moved.give_back(&self.rtnl)) {
                log::warn!("addresses that were taken over stay where they are: {error}");
                undone = false;
            }
        }
        // What could not be undone is left to the next start.
        if undone
            && let Some(record) = self.record.take()
            && let Err(error) = record.forget()
        {
            log::warn!("the record of interfaces in use stays: {error}");
        }
    }
}

/// Undoes what a process of this EAL prefix left when it was killed; before the kernel's tables are
/// looked at.
pub(super) async fn undo_left_behind(prefix: &str) {
    for problem in left_behind::undo(&record_of(prefix)).await {
        log::warn!("{problem}");
    }
}

fn record_of(prefix: &str) -> PathBuf {
    Path::new(RUN_DIRECTORY).join(format!("beneath-{prefix}.json"))
}
