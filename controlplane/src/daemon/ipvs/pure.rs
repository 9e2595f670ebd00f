//! A director without traffic, for the tests of the tool.

use super::{Effects, Objects, apply, describe};
use crate::admin::api::{IpvsCommand, IpvsRefusal, IpvsTables};
use crate::tables::Desired;
use dataplane::service::Orphans;
use std::collections::HashMap;

/// The tables of a director whose file has no services.
#[derive(Debug)]
pub(crate) struct Director(Objects);

impl Director {
    pub(crate) fn new() -> Self {
        Self(Objects::new(Desired::default(), Orphans::Keep))
    }

    pub(crate) fn apply(&mut self, command: &IpvsCommand) -> Result<(), IpvsRefusal> {
        apply(&mut self.0, command, &mut Effects::default())
    }

    pub(crate) fn tables(&self) -> IpvsTables {
        describe(&self.0, &HashMap::new())
    }
}
