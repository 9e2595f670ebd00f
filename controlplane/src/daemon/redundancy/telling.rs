//! What virtual routers tell, in keepalived's words: for the log, and as mail.

use crate::mail::Mail;
use std::time::SystemTime;
use vrrp::{Event, Standing, Transition};

/// Writes an event into the log.
pub(super) fn log(event: &Event) {
    let level = level(event);
    match event {
        Event::Transition(transition) => log::log!(level, "{}", sentence(transition)),
        Event::Complaint {
            router,
            source,
            what,
        } => {
            let source = source.to_string();
            // Most sentences name it already.
            if what.contains(&source) {
                log::log!(level, "({router}) {what}");
            } else {
                log::log!(level, "({router}) {what} (from {source})");
            }
        }
        Event::Trouble { router, what } | Event::Notice { router, what } => {
            log::log!(level, "({router}) {what}");
        }
    }
}

/// What somebody should look at is a warning.
fn level(event: &Event) -> log::Level {
    match event {
        Event::Transition(transition) if transition.to == Standing::Fault => log::Level::Warn,
        Event::Complaint { .. } | Event::Trouble { .. } => log::Level::Warn,
        Event::Transition(_) | Event::Notice { .. } => log::Level::Info,
    }
}

fn sentence(transition: &Transition) -> String {
    let Transition { name, why, .. } = transition;
    let state = transition.to.word();
    if transition.group {
        return format!("VRRP_Group({name}) Syncing instances to {state} state ({why})");
    }
    match transition.to {
        Standing::Stop => format!("({name}) Stopped ({why})"),
        Standing::Deleted => format!("({name}) Removed ({why})"),
        _ => format!("({name}) Entering {state} STATE ({why})"),
    }
}

/// The mail about a change of state; `None` if it is of no interest to readers of mail.
pub(super) fn mail(router_id: &str, transition: &Transition, at: SystemTime) -> Option<Mail> {
    let Transition {
        group,
        name,
        to,
        why,
        priority,
    } = transition;
    let what = match to {
        Standing::Initialize => return None,
        Standing::Active | Standing::Backup | Standing::Fault => {
            format!("Entering {} state", to.word())
        }
        Standing::Stop => "Stopping".to_owned(),
        Standing::Deleted => "Deleted".to_owned(),
    };
    let kind = if *group { "Group" } else { "Instance" };
    Some(Mail {
        subject: format!("[{router_id}] VRRP {kind} {name} - {what}"),
        body: format!(
            "VRRP {kind} {name} on {router_id}: {what}, priority {priority}.\nReason: {why}.\n"
        ),
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(group: bool, to: Standing) -> Transition {
        Transition {
            group,
            name: "VI_1".into(),
            to,
            why: "init".into(),
            priority: 101,
        }
    }

    #[test]
    fn the_log_has_keepalived_s_words() {
        for (group, to, expected) in [
            (
                false,
                Standing::Active,
                "(VI_1) Entering MASTER STATE (init)",
            ),
            (
                false,
                Standing::Backup,
                "(VI_1) Entering BACKUP STATE (init)",
            ),
            (false, Standing::Fault, "(VI_1) Entering FAULT STATE (init)"),
            (
                true,
                Standing::Active,
                "VRRP_Group(VI_1) Syncing instances to MASTER state (init)",
            ),
            (false, Standing::Stop, "(VI_1) Stopped (init)"),
        ] {
            assert_eq!(sentence(&transition(group, to)), expected);
        }
    }

    #[test]
    fn what_does_not_work_is_a_warning() {
        let (router, what) = ("VI_1".into(), "adding an address on lan failed".into());
        assert_eq!(level(&Event::Trouble { router, what }), log::Level::Warn);
        let (router, what) = ("VI_1".into(), "adding an address on lan works again".into());
        assert_eq!(level(&Event::Notice { router, what }), log::Level::Info);
        let of = |to| level(&Event::Transition(transition(false, to)));
        assert_eq!(of(Standing::Fault), log::Level::Warn);
        assert_eq!(of(Standing::Active), log::Level::Info);
    }

    #[test]
    fn mails_have_keepalived_s_subjects() {
        let subject = |group, to| {
            let mail = mail("lb1", &transition(group, to), SystemTime::UNIX_EPOCH);
            mail.map(|mail| mail.subject)
        };
        for (group, to, expected) in [
            (
                false,
                Standing::Active,
                "[lb1] VRRP Instance VI_1 - Entering MASTER state",
            ),
            (
                true,
                Standing::Backup,
                "[lb1] VRRP Group VI_1 - Entering BACKUP state",
            ),
            (
                false,
                Standing::Fault,
                "[lb1] VRRP Instance VI_1 - Entering FAULT state",
            ),
            (false, Standing::Stop, "[lb1] VRRP Instance VI_1 - Stopping"),
        ] {
            assert_eq!(subject(group, to).as_deref(), Some(expected));
        }
        assert_eq!(subject(false, Standing::Initialize), None);
    }
}
