//! `[track_script NAME]`: a command whose exit status says whether a router may be Active.
//!
//! keepalived's rules (behaviour notes 7.2): exit status 0 is a success; at the start one result
//! decides; then `fall` failures in a row are down and `rise` successes are up. A script that is
//! still running when its turn comes is not started twice; one that takes too long has failed. A
//! reload that leaves the command alone leaves what is known, and `init_fail` is for new ones only.

use super::Sink;
use crate::command_process::{Command, CommandProcess, End, Outcome};
use crate::config::TrackScriptConfig;
use std::sync::Arc;
use tokio::time::{MissedTickBehavior, interval};
use vrrp::{Report, Tracked};

/// What successes and failures come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Verdict {
    rise: u32,
    fall: u32,
    /// `None` = no result yet.
    up: Option<bool>,
    /// Results in a row that speak against `up`.
    against: u32,
}

impl Verdict {
    fn new(section: &TrackScriptConfig, known: Option<bool>) -> Self {
        Self {
            rise: section.rise,
            fall: section.fall,
            up: known.or(section.init_fail.then_some(false)),
            against: 0,
        }
    }

    fn take(&mut self, success: bool) -> bool {
        match self.up {
            None => self.up = Some(success),
            Some(up) if up == success => self.against = 0,
            Some(up) => {
                self.against += 1;
                if self.against >= if up { self.fall } else { self.rise } {
                    self.up = Some(success);
                    self.against = 0;
                }
            }
        }
        self.up == Some(true)
    }
}

/// What is told of a script that succeeds, or does not.
pub(super) fn report(section: &TrackScriptConfig, up: bool) -> Report {
    if up == section.reverse {
        Report::Down
    } else {
        Report::Up
    }
}

/// Whether a script succeeds of which this was told.
pub(super) fn succeeds(section: &TrackScriptConfig, told: Report) -> bool {
    told == report(section, true)
}

/// Runs the script for ever. `known` = whether it succeeded before a reload.
pub(super) async fn track(
    section: TrackScriptConfig,
    known: Option<bool>,
    user: Option<String>,
    commands: Arc<CommandProcess>,
    tracked: Tracked,
    sink: Sink,
) {
    let name = &section.name;
    let report = |up| report(&section, up);
    let mut verdict = Verdict::new(&section, known);
    // Whoever knew it has told it.
    let mut told = known.map(report);
    if let Some(up) = verdict.up
        && !super::tell(&sink, &tracked, &mut told, report(up)).await
    {
        return;
    }
    let mut succeeded = known;
    let mut turns = interval(section.interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        turns.tick().await;
        let timeout = section.timeout.unwrap_or(section.interval);
        let mut command = Command::shell(&section.command, timeout);
        command.user.clone_from(&user);
        let outcome = commands.run(command).await;
        let success = outcome.as_ref().is_ok_and(Outcome::is_success);
        if succeeded.replace(success) != Some(success) {
            match &outcome {
                Ok(_) if success => log::info!("VRRP_Script({name}) succeeded"),
                Ok(outcome) => log::warn!("VRRP_Script({name}) failed ({})", described(outcome)),
                Err(error) => log::warn!("VRRP_Script({name}) failed ({error})"),
            }
        }
        let up = verdict.take(success);
        if !super::tell(&sink, &tracked, &mut told, report(up)).await {
            return;
        }
    }
}

/// In keepalived's words.
fn described(outcome: &Outcome) -> String {
    match outcome.end {
        End::Exited(status) => format!("exited with status {status}"),
        End::Signalled(signal) => format!("due to signal {signal}"),
        End::TimedOut => "timed out".to_owned(),
        End::Cancelled => "cancelled".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(rise: u32, fall: u32, init_fail: bool) -> Verdict {
        Verdict {
            rise,
            fall,
            up: init_fail.then_some(false),
            against: 0,
        }
    }

    fn took(mut verdict: Verdict, results: &str) -> String {
        let results = results.chars();
        results
            .map(|result| {
                if verdict.take(result == '+') {
                    'U'
                } else {
                    'd'
                }
            })
            .collect()
    }

    #[test]
    fn the_first_result_decides_and_then_rise_and_fall_do() {
        assert_eq!(took(verdict(3, 2, false), "+-+--+++"), "UUUUdddU");
        assert_eq!(took(verdict(3, 2, false), "-++-+++"), "ddddddU");
        assert_eq!(took(verdict(1, 1, false), "+-+-"), "UdUd");
    }

    #[test]
    fn one_that_begins_as_failed_needs_its_successes() {
        assert_eq!(took(verdict(2, 1, true), "+-++-"), "dddUd");
    }
}
