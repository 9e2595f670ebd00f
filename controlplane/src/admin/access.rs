//! Who may do what through the admin socket.
//!
//! The kernel says who is at the other end (`SO_PEERCRED`), so there are no passwords. Root and
//! the daemon's own user may change things, as may members of `admin_group`; members of
//! `monitor_group` may read; nobody else may do anything, even if the socket's file mode was
//! opened up by hand. Supplementary groups come from the user database, because no safe
//! interface to `SO_PEERGROUPS` exists: a user just added to a group need not log in again.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;

/// What a caller may do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Access {
    /// Nothing.
    Nothing,
    /// Requests that change nothing.
    Read,
    /// Everything.
    Change,
}

/// The groups of the configuration, resolved once at start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AccessGroups {
    /// Id of `admin_group`, if the group exists.
    pub admin: Option<u32>,
    /// Id of `monitor_group`, if the group exists.
    pub monitor: Option<u32>,
}

impl AccessGroups {
    /// Looks the names up in the group database. May block; call it before serving.
    pub fn resolve(admin: &str, monitor: &str) -> Self {
        Self {
            admin: group_id(admin),
            monitor: group_id(monitor),
        }
    }

    /// What a caller with these ids may do. May ask the user database: not for an executor
    /// thread.
    pub fn access(&self, uid: u32, gid: u32) -> Access {
        if uid == 0 || Uid::from_raw(uid) == Uid::effective() {
            return Access::Change;
        }
        let mut groups = supplementary_groups(uid);
        groups.push(gid);
        self.access_of_groups(&groups)
    }

    fn access_of_groups(&self, groups: &[u32]) -> Access {
        let member = |group: Option<u32>| group.is_some_and(|group| groups.contains(&group));
        if member(self.admin) {
            Access::Change
        } else if member(self.monitor) {
            Access::Read
        } else {
            Access::Nothing
        }
    }
}

fn group_id(name: &str) -> Option<u32> {
    match Group::from_name(name) {
        Ok(group) => group.map(|group| group.gid.as_raw()),
        Err(error) => {
            log::warn!("admin: cannot look up group {name}: {error}");
            None
        }
    }
}

fn supplementary_groups(uid: u32) -> Vec<u32> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return Vec::new();
    };
    let Ok(name) = CString::new(user.name) else {
        return Vec::new();
    };
    getgrouplist(&name, user.gid)
        .unwrap_or_default()
        .into_iter()
        .map(Gid::as_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: AccessGroups = AccessGroups {
        admin: Some(4001),
        monitor: Some(4002),
    };

    #[test]
    fn root_may_change() {
        assert_eq!(GROUPS.access(0, 0), Access::Change);
    }

    #[test]
    fn groups_decide_for_everyone_else() {
        assert_eq!(GROUPS.access_of_groups(&[1000, 4001]), Access::Change);
        assert_eq!(GROUPS.access_of_groups(&[4002, 1000]), Access::Read);
        assert_eq!(GROUPS.access_of_groups(&[4002, 4001]), Access::Change);
        assert_eq!(GROUPS.access_of_groups(&[1000]), Access::Nothing);
    }

    #[test]
    fn a_user_outside_the_groups_may_do_nothing() {
        assert_eq!(GROUPS.access(54_321, 54_321), Access::Nothing);
        assert_eq!(GROUPS.access(54_321, 4002), Access::Read);
    }

    #[test]
    fn groups_of_the_user_database_count() {
        // Debian's nobody (65534) is in nogroup (65534), whatever group it runs with.
        let groups = AccessGroups {
            admin: None,
            monitor: Some(65_534),
        };
        assert_eq!(groups.access(65_534, 54_321), Access::Read);
    }

    #[test]
    fn a_group_that_does_not_exist_lets_nobody_in() {
        let groups = AccessGroups::resolve("sluice-no-such-group", "sluice-no-such-group");
        assert_eq!(groups, AccessGroups::default());
        assert_eq!(groups.access(54_321, 54_321), Access::Nothing);
    }
}
