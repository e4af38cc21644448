//! Time comes in. `Now` is read once per wake-up, here and nowhere else, and handed down.
//!
//! Dates go out as RFC 3339 in UTC with milliseconds (A2A 1.0 §5.6.1).

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Both times of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time that only runs forward, for deadlines; its zero is arbitrary.
    pub mono: Duration,
    /// Milliseconds since 1970-01-01T00:00:00Z, zero for a clock set before that.
    pub unix_ms: u64,
}

impl Now {
    /// Reads both clocks of the machine.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    pub fn read() -> Self {
        let mono = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        let unix = Duration::try_from(clock_gettime(ClockId::Realtime)).unwrap_or_default();
        Self { mono, unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// Appends `unix_ms` as `2026-11-20T09:16:50.123Z`.
pub fn rfc3339_into(out: &mut String, unix_ms: u64) {
    let (days, ms_of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let fields = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, ms_of_day / 3_600_000),
        (14, 2, ms_of_day / 60_000 % 60),
        (17, 2, ms_of_day / 1000 % 60),
        (20, 3, ms_of_day % 1000),
    ];
    for (start, width, value) in fields {
        let mut rest = value;
        for digit in text[start..start + width].iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
    }
    out.push_str(str::from_utf8(&text).unwrap_or_default());
}

/// Reads an RFC 3339 date-time; of a fraction the milliseconds. `None` for anything else, and before 1970.
pub fn unix_ms_of(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |start: usize, width: usize| {
        let digits = bytes.get(start..start + width)?;
        digits.iter().try_fold(0_u64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
        })
    };
    let is = |at: usize, wanted: &[u8]| {
        bytes.get(at).is_some_and(|byte| wanted.contains(&byte.to_ascii_uppercase()))
    };
    if !(is(4, b"-") && is(7, b"-") && is(10, b"T ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let days = days_from_civil(year, month, day)?;
    if civil_from_days(days) != (year, month, day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut ms = 0;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let kept = digits.min(3);
        ms = number(at + 1, kept)? * [100, 10, 1][kept - 1];
        at += 1 + digits;
    }
    let local = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms;
    if is(at, b"Z") && bytes.len() == at + 1 {
        return Some(local);
    }
    if !is(at, b"+-") || !is(at + 3, b":") || bytes.len() != at + 6 {
        return None;
    }
    let (hours, minutes) = (number(at + 1, 2)?, number(at + 4, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = (hours * 60 + minutes) * 60_000;
    if bytes[at] == b'+' { local.checked_sub(offset) } else { Some(local + offset) }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` before it.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let march_month = (month + 9) % 12;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * march_month + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Year, month and day of a count of days since 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from March in 400-year cycles, so that the leap day is the last of its year.
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_ms: u64) -> String {
        let mut out = String::new();
        rfc3339_into(&mut out, unix_ms);
        out
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(1_795_166_210_123), "2026-11-20T09:16:50.123Z");
        assert_eq!(text(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(text(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_date_that_was_written_is_read() {
        for unix_ms in [0, 951_782_400_000, 1_795_166_210_123, 4_107_542_399_999] {
            assert_eq!(unix_ms_of(&text(unix_ms)), Some(unix_ms));
        }
        assert_eq!(unix_ms_of("1970-01-01T01:00:00.5+01:00"), Some(500));
        assert_eq!(unix_ms_of("1969-12-31T23:30:00-00:30"), None);
        assert_eq!(unix_ms_of("1970-01-01t00:00:01.123456789z"), Some(1123));
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-02-30T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-01-00T00:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00Zx",
            "1970-01-01T00:00:00+1:00",
            "-970-01-01T00:00:00Z",
            "1970-01-01T00:00:00é",
        ] {
            assert_eq!(unix_ms_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn time_does_not_run_backwards() {
        let first = Now::read();
        assert!(Now::read().mono >= first.mono);
    }
}
