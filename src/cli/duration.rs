//! Times as the operator writes them.

use std::time::Duration;

/// A number of minutes, hours or days.
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    let units = [('m', 60), ('h', 3_600), ('d', 86_400)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(*unit)?.parse::<u32>().ok().map(|number| u64::from(number) * seconds)
    });
    parsed.map(Duration::from_secs).ok_or("a time is written as 30m, 12h or 7d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(parse("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(parse("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "d", "7", "-1h", "1.5h", "7w", "99999999999d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
