//! Operations that fail, told once per change: when one begins to fail, fails otherwise, or works again.

use std::collections::BTreeMap;
use std::io::Result;

/// What fails at present: what is done, where, and how it fails.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<(&'static str, String), String>);

impl Troubles {
    /// Takes the result of doing `what` at `place`; returns a sentence if it is news.
    pub(super) fn news(
        &mut self,
        what: &'static str,
        place: &str,
        result: &Result<()>,
    ) -> Option<String> {
        match result {
            // The usual case, without allocation.
            Ok(()) if self.0.is_empty() => None,
            Ok(()) => self
                .0
                .remove(&(what, place.to_owned()))
                .map(|_| format!("{what} {place} works again")),
            Err(error) => {
                let why = error.to_string();
                let before = self.0.insert((what, place.to_owned()), why.clone());
                (before.as_ref() != Some(&why)).then(|| format!("{what} {place} failed: {why}"))
            }
        }
    }

    /// It is not done there any more: when it is again, a failure is news.
    pub(super) fn forget(&mut self, what: &'static str, place: &str) {
        if !self.0.is_empty() {
            self.0.remove(&(what, place.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_failure_is_told_once_and_so_is_its_end() {
        let mut troubles = Troubles::default();
        let mut news = |result: &Result<()>| troubles.news("sending on", "eth0", result);
        let down = Err(Errno::NETDOWN.into());
        assert_eq!(news(&Ok(())), None);
        let told = news(&down).unwrap();
        assert!(
            told.starts_with("sending on eth0 failed: Network is down"),
            "{told}"
        );
        assert_eq!(news(&down), None);
        assert!(news(&Err(Errno::NODEV.into())).is_some());
        assert_eq!(news(&Ok(())).unwrap(), "sending on eth0 works again");
        assert_eq!(news(&Ok(())), None);
    }
}
