//! Sync groups: routers that are Active together or not at all (behaviour notes 8.5).
//!
//! A member whose wait is over wants to be Active; the group moves when all want. One that falls back takes all with
//! it, one that cannot take part keeps all from it.

use crate::event::Standing;
use crate::router::Router;
use crate::settings::Name;

/// A sync group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Name,
    /// Places in the collection.
    pub(crate) members: Vec<usize>,
    /// What was told last.
    pub(crate) standing: Standing,
}

impl Group {
    /// Whether all members may be Active now: each is, or wants to be.
    pub(crate) fn may_be_active(&self, routers: &[Router]) -> bool {
        self.members(routers)
            .all(|member| member.is_ready() && (member.state.is_active() || member.state.wants()))
    }

    /// Some are Active and some are not.
    pub(crate) fn is_mixed(&self, routers: &[Router]) -> bool {
        let active = self
            .members(routers)
            .filter(|member| member.state.is_active())
            .count();
        active != 0 && active != self.members.len()
    }

    /// The member that cannot take part, of these other than `except`.
    pub(crate) fn failing<'a>(
        &'a self,
        routers: &'a [Router],
        except: usize,
    ) -> impl Iterator<Item = &'a Router> {
        let others = self.members.iter().filter(move |&&member| member != except);
        others
            .map(|&member| &routers[member])
            .filter(|router| !router.faults.is_empty())
    }

    /// What it is to be told as now; `None` = its members have not come to the same yet.
    pub(crate) fn settled(&self, routers: &[Router]) -> Option<Standing> {
        common(self.members(routers).map(Router::told_standing))
    }

    fn members<'a>(&'a self, routers: &'a [Router]) -> impl Iterator<Item = &'a Router> + Clone {
        self.members.iter().map(|&member| &routers[member])
    }
}

fn common(standings: impl Iterator<Item = Standing> + Clone) -> Option<Standing> {
    if standings
        .clone()
        .any(|standing| standing == Standing::Fault)
    {
        return Some(Standing::Fault);
    }
    let mut rest = standings;
    let first = rest.next()?;
    rest.all(|standing| standing == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Active, Backup, Fault, Initialize};

    #[test]
    fn a_group_is_what_all_its_members_are_and_in_fault_if_one_is() {
        let of = |standings: &[Standing]| common(standings.iter().copied());
        assert_eq!(of(&[Active, Active]), Some(Active));
        assert_eq!(of(&[Active, Backup]), None);
        assert_eq!(of(&[Backup, Initialize]), None);
        assert_eq!(of(&[Backup, Backup]), Some(Backup));
        assert_eq!(of(&[Backup, Fault, Initialize]), Some(Fault));
        assert_eq!(of(&[]), None);
    }
}
