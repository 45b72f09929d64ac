//! The date of a signed request.
//!
//! `X-Amz-Date` is `YYYYMMDDThhmmssZ`. Where it is missing, `Date` counts, in either form.

use actix_web::http::header::HttpDate;
use std::time::SystemTime;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// Parses either form of a date.
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    parse_basic(text).or_else(|| {
        let date: HttpDate = text.parse().ok()?;
        Some(OffsetDateTime::from(SystemTime::from(date)))
    })
}

/// Parses `YYYYMMDDThhmmssZ`.
fn parse_basic(text: &str) -> Option<OffsetDateTime> {
    let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
    if bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let year = number(&bytes[..4])?;
    let month = Month::try_from(u8::try_from(number(&bytes[4..6])?).ok()?).ok()?;
    let part = |at: usize| u8::try_from(number(&bytes[at..at + 2])?).ok();
    let date = Date::from_calendar_date(i32::from(year), month, part(6)?).ok()?;
    let time = Time::from_hms(part(9)?, part(11)?, part(13)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

/// Reads up to four digits.
fn number(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| 10 * number + u16::from(digit - b'0'))
    })
}

/// Returns `YYYYMMDDThhmmssZ`.
pub fn basic(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}{:02}{day:02}T{hour:02}{minute:02}{second:02}Z", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same_second() {
        let basic_form = parse("20261123T040506Z").unwrap();
        assert_eq!(parse("Mon, 23 Nov 2026 04:05:06 GMT"), Some(basic_form));
        assert_eq!(basic(basic_form), "20261123T040506Z");
        assert_eq!(basic_form.unix_timestamp(), 1_795_406_706);
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "20261123",
            "20261323T040506Z",
            "20260229T000000Z",
            "20261123T240000Z",
            "20261123T0405060",
            "2026112\u{ff13}T0405Z",
            "+0261123T040506Z",
            "20261123t040506z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
