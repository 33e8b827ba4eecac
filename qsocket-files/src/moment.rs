//! Points in time as files write them: RFC 3339, as in `2027-01-31T00:00:00Z`.

use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads date, time and offset from UTC; `None` for anything else, and for what [`show`] could not write.
pub fn parse(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from).filter(|at| show(*at).is_some())
}

/// The seconds from 1970 to the first and the last second of the years that RFC 3339 can write, 0 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Writes a point in time, in UTC, to the second; `None` outside the years 0 to 9999.
pub fn show(at: SystemTime) -> Option<String> {
    let seconds = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok()?,
        Err(before) => -i64::try_from(before.duration().as_secs()).ok()?,
    };
    if !SECONDS.contains(&seconds) {
        return None;
    }
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

/// To the second, as files hold it.
pub fn whole_seconds(at: SystemTime) -> SystemTime {
    show(at).and_then(|text| parse(&text)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_written_is_read() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_703_640_750);
        assert_eq!(show(at).as_deref(), Some("2026-11-26T14:34:00Z"));
        assert_eq!(parse("2026-11-26T15:34:00+01:00"), Some(whole_seconds(at)));
        assert_eq!(parse("2026-11-26"), None);
        assert_eq!(parse("2026-11-26T15:34:00"), None, "without an offset it is no point in time");
    }

    #[test]
    fn what_no_date_expresses_is_none() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(show(far), None);
        assert_eq!(whole_seconds(far), far);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(show(before).as_deref(), Some("1969-12-31T23:59:59Z"));
        assert!(parse("0000-01-01T00:00:00Z").is_some());
        assert_eq!(parse("0000-01-01T00:00:00+01:00"), None);
        assert_eq!(parse("9999-12-31T23:59:59-01:00"), None);
    }
}
