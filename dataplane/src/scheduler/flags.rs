//! Scheduler flags: the kernel's three bits, and their names (behaviour notes 1.7, 4).
//!
//! What a bit means is the scheduler's business: sh and mh call the first `fallback` and the second
//! `port`; for every other scheduler they are `flag-1` to `flag-3` and mean nothing.

use super::SchedulerKind;
use std::fmt::{Display, Formatter};
use thiserror::Error;

/// A set of scheduler flags.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SchedulerFlags(u8);

impl SchedulerFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// `IP_VS_SVC_F_SCHED1`: sh and mh look for another server if the client's is not to be had.
    pub const FALLBACK: Self = Self(1);
    /// `IP_VS_SVC_F_SCHED2`: sh and mh hash the client's port too.
    pub const PORT: Self = Self(1 << 1);
    /// `IP_VS_SVC_F_SCHED3`: no scheduler uses it.
    pub const THIRD: Self = Self(1 << 2);

    /// True if every flag of `other` is set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags of bits 0 to 2; others are none.
    pub const fn with_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// The flags as bits 0 to 2.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flag called `name`, which may be one of `scheduler`'s own or a generic one.
    ///
    /// # Errors
    /// If no flag has this name, or only one of another scheduler has.
    pub fn named(name: &str, scheduler: SchedulerKind) -> Result<Self, FlagError> {
        if let Some((flag, _)) = BITS.iter().find(|(_, generic)| *generic == name) {
            return Ok(*flag);
        }
        let owner = [SchedulerKind::Sh, SchedulerKind::Mh]
            .into_iter()
            .find_map(|kind| {
                let own = own_names(kind).iter().position(|own| *own == name)?;
                Some((kind, BITS[own].0))
            });
        match owner {
            Some((kind, flag)) if kind == scheduler => Ok(flag),
            Some(_) => Err(FlagError::Incompatible(name.to_owned())),
            None => Err(FlagError::Unknown(name.to_owned())),
        }
    }

    /// The flags of a list such as `sh-fallback,flag-2`.
    ///
    /// # Errors
    /// As [`Self::named`], for the first name that is wrong.
    pub fn list(names: &str, scheduler: SchedulerKind) -> Result<Self, FlagError> {
        names.split(',').try_fold(Self::NONE, |flags, name| {
            Ok(flags.union(Self::named(name, scheduler)?))
        })
    }

    /// The names of the flags as `ipvsadm` lists them for `scheduler`: its own where it has one.
    pub fn names(self, scheduler: SchedulerKind) -> impl Iterator<Item = &'static str> {
        let own = own_names(scheduler);
        BITS.into_iter()
            .enumerate()
            .filter(move |(_, (flag, _))| self.contains(*flag))
            .map(move |(index, (_, generic))| own.get(index).copied().unwrap_or(generic))
    }

    /// The same as `ipvsadm` prints them behind the scheduler: `(sh-fallback,sh-port)`; nothing
    /// if there are none.
    pub fn listed(self, scheduler: SchedulerKind) -> Listed {
        Listed {
            flags: self,
            scheduler,
        }
    }
}

/// See [`SchedulerFlags::listed`].
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    flags: SchedulerFlags,
    scheduler: SchedulerKind,
}

impl Display for Listed {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (index, name) in self.flags.names(self.scheduler).enumerate() {
            f.write_str(if index == 0 { "(" } else { "," })?;
            f.write_str(name)?;
        }
        f.write_str(if self.flags.is_empty() { "" } else { ")" })
    }
}

/// Why a name is no flag here.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FlagError {
    /// It is a flag of another scheduler.
    #[error("incompatible scheduler flag `{0}'")]
    Incompatible(String),
    /// No scheduler has it.
    #[error("no scheduler flag is called '{0}'")]
    Unknown(String),
}

const BITS: [(SchedulerFlags, &str); 3] = [
    (SchedulerFlags::FALLBACK, "flag-1"),
    (SchedulerFlags::PORT, "flag-2"),
    (SchedulerFlags::THIRD, "flag-3"),
];

/// The names a scheduler has of its own, in the order of [`BITS`].
const fn own_names(scheduler: SchedulerKind) -> &'static [&'static str] {
    match scheduler {
        SchedulerKind::Sh => &["sh-fallback", "sh-port"],
        SchedulerKind::Mh => &["mh-fallback", "mh-port"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_listed_as_recorded() {
        let flags = |names, kind| SchedulerFlags::list(names, kind).unwrap();
        for (kind, names, listed) in [
            (SchedulerKind::Wrr, "flag-1,flag-3", "(flag-1,flag-3)"),
            (
                SchedulerKind::Sh,
                "sh-port,sh-fallback",
                "(sh-fallback,sh-port)",
            ),
            (SchedulerKind::Mh, "mh-port", "(mh-port)"),
            (SchedulerKind::Mh, "flag-1,flag-3", "(mh-fallback,flag-3)"),
        ] {
            assert_eq!(flags(names, kind).listed(kind).to_string(), listed);
        }
        let none = SchedulerFlags::NONE;
        assert_eq!(none.listed(SchedulerKind::Sh).to_string(), "");
    }

    #[test]
    fn every_set_is_read_back_from_its_names() {
        for kind in SchedulerKind::ALL {
            for bits in 0..8 {
                let names: Vec<_> = SchedulerFlags(bits).names(kind).collect();
                let read = if names.is_empty() {
                    Ok(SchedulerFlags::NONE)
                } else {
                    SchedulerFlags::list(&names.join(","), kind)
                };
                assert_eq!(read.map(SchedulerFlags::bits), Ok(bits));
            }
        }
    }

    #[test]
    fn flags_of_another_scheduler_and_unknown_ones_are_refused() {
        assert_eq!(
            SchedulerFlags::named("sh-port", SchedulerKind::Mh)
                .unwrap_err()
                .to_string(),
            "incompatible scheduler flag `sh-port'"
        );
        for name in ["flag-4", "port", ""] {
            let error = SchedulerFlags::list(name, SchedulerKind::Sh).unwrap_err();
            assert_eq!(error, FlagError::Unknown(name.to_owned()));
        }
    }
}
