//! What is told of the virtual routers, as values; who prints, mails or runs scripts decides elsewhere.

use crate::settings::Name;
use std::net::IpAddr;

/// Something worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A router or a group is something else now.
    Transition(Transition),
    /// A router's packets are ignored or odd for a reason that is new. Told once per change of the reason.
    Complaint {
        /// The router.
        router: Name,
        /// Who sent it.
        source: IpAddr,
        /// What is wrong with it, one sentence.
        what: String,
    },
    /// Something that ought to work does not, one sentence. Told once; that it works again is a notice.
    Trouble {
        /// The router.
        router: Name,
        /// The sentence.
        what: String,
    },
    /// Anything else for the log, one sentence.
    Notice {
        /// The router.
        router: Name,
        /// The sentence.
        what: String,
    },
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whether it is a group's.
    pub group: bool,
    /// Name of the router or the group.
    pub name: Name,
    /// What it is now.
    pub to: Standing,
    /// Why, one sentence without a full stop.
    pub why: String,
    /// The priority that is sent now.
    pub priority: u8,
}

/// What a virtual router or a group is, in keepalived's words when shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not begun yet.
    Initialize,
    /// It forwards.
    Active,
    /// It waits.
    Backup,
    /// It cannot take part.
    Fault,
    /// It has ended with the daemon.
    Stop,
    /// It is no longer configured.
    Deleted,
}

impl Standing {
    /// The word that keepalived's scripts and mails use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Initialize => "INIT",
            Self::Active => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::Deleted => "DELETED",
        }
    }
}
