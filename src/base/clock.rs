//! Time comes in. `Now` is read once per wake-up, here and nowhere else, and handed down.
//!
//! Dates go out as RFC 3339 in UTC with milliseconds (A2A 1.0 §5.6.1), in HTTP headers as IMF-fixdate (RFC 9110
//! §5.6.7).

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
    fill(&mut text, &fields);
    out.push_str(str::from_utf8(&text).unwrap_or_default());
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `unix_ms` as `Fri, 20 Nov 2026 09:16:50 GMT`.
pub fn http_date(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"ddd, 00 mmm 0000 00:00:00 GMT";
    let fields = [
        (5, 2, day),
        (12, 4, year),
        (17, 2, seconds / 3600),
        (20, 2, seconds / 60 % 60),
        (23, 2, seconds % 60),
    ];
    fill(&mut text, &fields);
    let name = |names: &[&'static str], at: u64| usize::try_from(at).map_or("", |at| names[at]);
    text[..3].copy_from_slice(name(&DAYS, days % 7).as_bytes());
    text[8..11].copy_from_slice(name(&MONTHS, month - 1).as_bytes());
    str::from_utf8(&text).unwrap_or_default().to_owned()
}

/// Whether the IMF-fixdate `date` is `other`, also one, or later.
///
/// False when `date` is none; the two older forms of HTTP are not read.
pub fn is_http_date_since(date: &str, other: &str) -> bool {
    // Year, month, day and time of day, which compare as the dates do.
    fn parts(date: &str) -> Option<(&str, usize, &str, &str)> {
        let rest = date.get(3..)?.strip_prefix(", ")?.strip_suffix(" GMT")?;
        let (day, rest) = rest.split_once(' ')?;
        let (month, rest) = rest.split_once(' ')?;
        let (year, time) = rest.split_once(' ')?;
        let is = |text: &str, length| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || b == b':')
        };
        let month = MONTHS.iter().position(|name| *name == month)?;
        (is(day, 2) && is(year, 4) && is(time, 8)).then_some((year, month, day, time))
    }
    parts(date).is_some_and(|date| parts(other).is_some_and(|other| date >= other))
}

/// Adds numbers to the zeros that stand at their places: start, width, value.
fn fill(text: &mut [u8], fields: &[(usize, usize, u64)]) {
    for &(start, width, value) in fields {
        let mut rest = value;
        for digit in text[start..start + width].iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
    }
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
    fn http_dates_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_795_166_210, "Fri, 20 Nov 2026 09:16:50 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        ] {
            assert_eq!(http_date(unix_s * 1000 + 999), text);
        }
    }

    #[test]
    fn http_dates_are_compared_as_times() {
        let mut last = http_date(0);
        for unix_s in (0_u64..5_000_000_000).step_by(12_345_678) {
            let date = http_date(unix_s * 1000);
            assert!(is_http_date_since(&date, &date), "{date}");
            assert!(is_http_date_since(&date, &last), "{date} {last}");
            assert_eq!(is_http_date_since(&last, &date), last == date, "{date} {last}");
            last = date;
        }
    }

    #[test]
    fn what_is_no_http_date_is_since_nothing() {
        let zero = http_date(0);
        for text in [
            "",
            "x",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "ééé, 06 Nov 1994",
        ] {
            assert!(!is_http_date_since(text, &zero), "{text}");
        }
    }

    #[test]
    fn time_does_not_run_backwards() {
        let first = Now::read();
        assert!(Now::read().mono >= first.mono);
    }
}
