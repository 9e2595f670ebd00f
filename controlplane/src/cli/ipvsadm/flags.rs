//! Scheduler flags by name: `sh-fallback`, `sh-port`, `mh-fallback`, `mh-port`, and `flag-1` to
//! `flag-3` for any scheduler.

use super::Misuse;

/// Name, the scheduler it belongs to, bit.
const FLAGS: [(&str, Option<&str>, u8); 7] = [
    ("sh-fallback", Some("sh"), 1),
    ("sh-port", Some("sh"), 2),
    ("mh-fallback", Some("mh"), 1),
    ("mh-port", Some("mh"), 2),
    ("flag-1", None, 1),
    ("flag-2", None, 2),
    ("flag-3", None, 4),
];

/// The bits of a comma-separated list.
pub(super) fn parse(list: &str, scheduler: &str) -> Result<u8, Misuse> {
    let mut bits = 0;
    for name in list.split(',').filter(|name| !name.is_empty()) {
        match FLAGS.iter().find(|(known, ..)| *known == name) {
            None => return Err(Misuse::usage(format!("invalid scheduler flag `{name}'"))),
            Some((_, Some(of), _)) if *of != scheduler => {
                return Err(Misuse::usage(format!(
                    "incompatible scheduler flag `{name}'"
                )));
            }
            Some((.., bit)) => bits |= bit,
        }
    }
    Ok(bits)
}

/// The list for these bits, in the scheduler's own words where it has some.
pub(super) fn list(bits: u8, scheduler: &str) -> String {
    let name = |bit: u8| {
        let mut known = FLAGS.iter();
        known
            .find(|(_, of, value)| *value == bit && of.is_none_or(|of| of == scheduler))
            .map(|(name, ..)| *name)
    };
    let set = [1, 2, 4].into_iter().filter(|bit| bits & bit != 0);
    set.filter_map(name).collect::<Vec<_>>().join(",")
}
