//! How long something takes, as flags say it: `10s`, `5m`, `1h`, `500ms`.

use super::super::plan::MAX_DURATION;
use std::time::Duration;

/// Reads a time that something takes.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a time like 10s, 5m, 1h or 500ms";
    let unit_at = text.find(|it: char| it.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    let duration =
        Duration::try_from_secs_f64(number * seconds).map_err(|_| EXPECTED.to_owned())?;
    if duration.is_zero() || duration > MAX_DURATION {
        return Err(format!(
            "expected a time above 0 and up to {} h",
            MAX_DURATION.as_secs() / 3600
        ));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let seconds = |text| period(text).map(|it| it.as_secs_f64());
        assert_eq!(seconds("10s"), Ok(10.0));
        assert_eq!(seconds("1.5m"), Ok(90.0));
        assert_eq!(seconds("250ms"), Ok(0.25));
        for bad in ["", "s", "1d", "-1s", "NaNs", "1e99h", "10 s "] {
            assert!(period(bad).is_err(), "{bad}");
        }
    }
}
