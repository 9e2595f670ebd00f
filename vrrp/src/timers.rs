//! Skew_Time and Active_Down_Interval in exact durations (RFC 3768 section 6.1, RFC 9568 section 6.1).
//!
//! Version 2 skews by at most one second whatever the interval is; version 3 by at most one interval, and the interval
//! is the one the Active router advertises.

use crate::settings::Version;
use std::time::Duration;

/// `Skew_Time`: the higher the priority, the sooner a Backup router acts.
pub(crate) fn skew_time(
    version: Version,
    priority: u8,
    active_advert_interval: Duration,
) -> Duration {
    let unit = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => active_advert_interval,
    };
    unit * (256 - u32::from(priority)) / 256
}

/// `Active_Down_Interval`: without an advertisement for that long the Active router is taken to be down.
pub(crate) fn active_down_interval(
    version: Version,
    priority: u8,
    active_advert_interval: Duration,
    adverts: u8,
) -> Duration {
    active_advert_interval * u32::from(adverts)
        + skew_time(version, priority, active_advert_interval)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Centis;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn version_2_with_priority_100_waits_3_609_seconds() {
        let skew = skew_time(Version::V2, 100, SECOND);
        assert_eq!(skew, Duration::from_micros(609_375));
        let down = active_down_interval(Version::V2, 100, SECOND, 3);
        assert_eq!(down, Duration::from_micros(3_609_375));
    }

    #[test]
    fn version_3_with_half_a_second_waits_1_805_seconds() {
        let half = Centis(50).duration();
        let down = active_down_interval(Version::V3, 100, half, 3);
        assert_eq!(down, Duration::from_nanos(1_804_687_500));
    }

    #[test]
    fn version_3_at_its_default_advertises_every_second_not_every_hundred() {
        assert_eq!(Centis(100).duration(), SECOND);
        assert_eq!(Centis(1).duration(), Duration::from_millis(10));
        assert_eq!(Centis(4095).duration(), Duration::from_millis(40_950));
    }

    #[test]
    fn the_skew_of_every_priority_is_above_zero_and_falls_with_it() {
        for version in [Version::V2, Version::V3] {
            let skews: Vec<_> = (0..=255)
                .map(|priority| skew_time(version, priority, SECOND))
                .collect();
            assert!(skews.windows(2).all(|pair| pair[0] > pair[1]));
            assert_eq!(skews[0], SECOND);
            assert_eq!(skews[255], Duration::from_nanos(3_906_250));
        }
    }

    #[test]
    fn the_skew_of_version_2_does_not_grow_with_the_interval_and_that_of_version_3_does() {
        let ten = 10 * SECOND;
        assert_eq!(skew_time(Version::V2, 128, ten), Duration::from_millis(500));
        assert_eq!(skew_time(Version::V3, 128, ten), 5 * SECOND);
    }
}
