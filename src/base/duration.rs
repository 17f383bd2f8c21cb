//! Times as the operator writes them.

use std::time::Duration;

/// A number of minutes, hours or days.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let units = [('m', 60), ('h', 3_600), ('d', 86_400)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(*unit)?.parse::<u32>().ok().map(|number| u64::from(number) * seconds)
    });
    parsed.map(Duration::from_secs).ok_or("a time is written as 30m, 12h or 7d")
}

/// The same as it is written, in the largest unit of which it is a number.
pub fn text(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match minutes {
        _ if minutes > 0 && minutes.is_multiple_of(24 * 60) => format!("{}d", minutes / (24 * 60)),
        _ if minutes > 0 && minutes.is_multiple_of(60) => format!("{}h", minutes / 60),
        _ => format!("{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(parse("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(parse("7d"), Ok(Duration::from_secs(604_800)));
        for written in ["0m", "30m", "36h", "7d"] {
            assert_eq!(parse(written).map(text).as_deref(), Ok(written));
        }
        for bad in ["", "d", "7", "-1h", "1.5h", "7w", "99999999999d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
