//! The netdevs beneath virtual devices while they are ours: silent, perhaps without the addresses
//! that `--take-over` moved. Dropping it gives them back, also when the start fails half way.

use super::linux::Linux;
use super::start::Error;
use crate::kernel::netlink::Rtnl;
use crate::kernel::take_over::TakeOver;
use crate::kernel::tap::Tap;
use crate::kernel::underlying::{self, Silence, Underlying};
use tokio::runtime::{Handle, Runtime};

/// What must be undone.
pub(super) struct Beneath {
    silenced: Vec<Silence>,
    moved: Vec<TakeOver>,
    rtnl: Rtnl,
    runtime: Handle,
}

impl Beneath {
    /// Nothing done yet.
    pub(super) fn new(linux: &Linux, runtime: &Runtime) -> Self {
        Self {
            silenced: Vec::new(),
            moved: Vec::new(),
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
            let moved = TakeOver::begin(&self.rtnl, &view, link.index, tap.index())
                .await
                .map_err(|error| format!("taking over {}: {error}", beneath.interface))?;
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
            let silence = underlying::silence(beneath)
                .map_err(|error| format!("interface {}: {error}", beneath.interface))?;
            self.silenced.push(silence);
        }
        Ok(())
    }
}

impl Drop for Beneath {
    fn drop(&mut self) {
        for silence in self.silenced.drain(..) {
            if let Err(error) = silence.release() {
                log::warn!("the interface beneath a port stays silent: {error}");
            }
        }
        for moved in self.moved.drain(..) {
            if let Err(error) = self.runtime.block_on(moved.give_back(&self.rtnl)) {
                log::warn!("addresses that were taken over stay where they are: {error}");
            }
        }
    }
}
