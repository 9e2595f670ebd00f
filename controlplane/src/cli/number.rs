//! Numbers and durations as people read them.

/// A count: exact below 100 000, then three significant digits and a decimal unit.
pub(super) fn count(n: u64) -> String {
    if n < 100_000 {
        n.to_string()
    } else {
        scaled(n as f64)
    }
}

/// A rate: below 1000 one decimal, then three significant digits and a decimal unit.
pub(super) fn rate(value: f64) -> String {
    if value <= 0.0 {
        "0".into()
    } else if value < 1000.0 {
        format!("{value:.1}")
    } else {
        scaled(value)
    }
}

fn scaled(value: f64) -> String {
    let mut value = value / 1e3;
    let mut units = ["K", "M", "G", "T", "P", "E"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // 999.5 would print as 1000.
    while value >= 999.5
        && let Some(next) = units.next()
    {
        value /= 1e3;
        unit = next;
    }
    let decimals = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{unit}")
}

/// A memory size, in the units of the configuration file (1 KB is 1024 bytes).
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let value = bytes as f64 / *unit as f64;
            if bytes.is_multiple_of(*unit) {
                format!("{value:.0} {name}")
            } else {
                format!("{value:.1} {name}")
            }
        }
        None => format!("{bytes} B"),
    }
}

/// A duration, in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days}d {hours}h")
    } else if hours > 0 {
        format!("{hours}h {minutes}m")
    } else if minutes > 0 {
        format!("{minutes}m {rest}s")
    } else {
        format!("{rest}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_while_they_are_short() {
        for (n, text) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100K"),
            (999_499, "999K"),
            (999_500, "1.00M"),
            (1_234_567, "1.23M"),
            (12_345_678, "12.3M"),
            (9_995_000_000, "10.0G"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn rates_keep_a_decimal_while_they_are_small() {
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(0.25), "0.2");
        assert_eq!(rate(999.9), "999.9");
        assert_eq!(rate(1_500_000.0), "1.50M");
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(2 << 30), "2 GB");
        assert_eq!(size(3 << 29), "1.5 GB");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(5), "5s");
        assert_eq!(duration(65), "1m 5s");
        assert_eq!(duration(3_720), "1h 2m");
        assert_eq!(duration(90_000), "1d 1h");
    }
}
