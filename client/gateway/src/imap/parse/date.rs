//! Dates as IMAP writes them (RFC 9051, `date` and `date-time`), and the days between them.
//!
//! Inside, a moment is a number of milliseconds since 1970 in UTC. The zone that a client gave
//! is not kept: what it gets back is the same moment, written in UTC.

use std::fmt::Write;

use super::Bad;
use super::token::Cursor;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * 3600 * 1000;

/// Days from 1970-01-01 to a date of the Gregorian calendar. The year is counted from March, so
/// that the odd day of leap years comes last.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let (m, year) = match month > 2 {
        true => (i64::from(month) - 3, year),
        false => (i64::from(month) + 9, year - 1),
    };
    let (cycle, y) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * m + 2) / 5 + i64::from(day) - 1;
    cycle * 146_097 + y * 365 + y / 4 - y / 100 + in_year - 719_468
}

/// The date that is so many days after 1970-01-01: year, month, day.
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let (cycle, d) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let y = (d - d / 1_460 + d / 36_524 - d / 146_096) / 365;
    let in_year = d - (365 * y + y / 4 - y / 100);
    let m = (5 * in_year + 2) / 153;
    let day = (in_year - (153 * m + 2) / 5 + 1) as u32;
    let month = if m < 10 { m + 3 } else { m - 9 } as u32;
    (cycle * 400 + y + i64::from(month <= 2), month, day)
}

fn days_in(year: i64, month: u32) -> u32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn digits(cursor: &mut Cursor<'_>, n: usize) -> Result<u32, Bad> {
    let rest = cursor.rest();
    match rest.len() >= n && rest[..n].iter().all(u8::is_ascii_digit) {
        true => {
            let mut value = 0;
            for &b in &rest[..n] {
                value = value * 10 + u32::from(b - b'0');
                cursor.eat(b);
            }
            Ok(value)
        }
        false => Err(Bad("a date was expected")),
    }
}

fn month_and_year(cursor: &mut Cursor<'_>, day: u32) -> Result<i64, Bad> {
    const WHY: Bad = Bad("a date was expected");
    cursor.expect(b'-', WHY.0)?;
    let month = MONTHS.iter().position(|m| cursor.eat_word(m)).ok_or(WHY)? as u32 + 1;
    cursor.expect(b'-', WHY.0)?;
    let year = i64::from(digits(cursor, 4)?);
    match (1..=days_in(year, month)).contains(&day) {
        true => Ok(days_from_civil(year, month, day)),
        false => Err(Bad("there is no such day")),
    }
}

/// `1-Feb-1994`, perhaps in quotes: days since 1970.
pub fn date(cursor: &mut Cursor<'_>) -> Result<i64, Bad> {
    let quoted = cursor.eat(b'"');
    let mut day = digits(cursor, 1)?;
    if cursor.peek().is_some_and(|b| b.is_ascii_digit()) {
        day = day * 10 + digits(cursor, 1)?;
    }
    let days = month_and_year(cursor, day)?;
    if quoted {
        cursor.expect(b'"', "a date was expected")?;
    }
    Ok(days)
}

/// `" 7-Feb-1994 21:52:25 -0800"` with its quotes: milliseconds since 1970, in UTC.
pub fn date_time(cursor: &mut Cursor<'_>) -> Result<i64, Bad> {
    const WHY: &str = "a date and time was expected";
    cursor.expect(b'"', WHY)?;
    let day = match cursor.eat(b' ') {
        true => digits(cursor, 1)?,
        false => {
            let first = digits(cursor, 1)?;
            // Some clients write one digit alone.
            match cursor.peek() {
                Some(b'-') => first,
                _ => first * 10 + digits(cursor, 1)?,
            }
        }
    };
    let days = month_and_year(cursor, day)?;
    cursor.expect(b' ', WHY)?;
    let hour = digits(cursor, 2)?;
    cursor.expect(b':', WHY)?;
    let minute = digits(cursor, 2)?;
    cursor.expect(b':', WHY)?;
    let second = digits(cursor, 2)?;
    cursor.expect(b' ', WHY)?;
    let west = match cursor.peek() {
        Some(b'+') => false,
        Some(b'-') => true,
        _ => return Err(Bad(WHY)),
    };
    cursor.eat(if west { b'-' } else { b'+' });
    let (zone_hours, zone_minutes) = (digits(cursor, 2)?, digits(cursor, 2)?);
    cursor.expect(b'"', WHY)?;
    // A second 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 || zone_minutes > 59 {
        return Err(Bad("there is no such time"));
    }
    let zone = i64::from(zone_hours * 60 + zone_minutes) * if west { -1 } else { 1 };
    let minutes = i64::from(hour * 60 + minute) - zone;
    Ok(days * DAY_MS + (minutes * 60 + i64::from(second)) * 1000)
}

/// Writes a moment as a date and time in UTC, with its quotes.
pub fn write_date_time(out: &mut String, ms: u64) {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let (year, month, day) = civil_from_days(ms.div_euclid(DAY_MS));
    let s = ms.rem_euclid(DAY_MS) / 1000;
    let month = MONTHS[month as usize - 1];
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    // Four digits are all that the syntax has.
    let year = year.min(9999);
    let _ = write!(
        out,
        "\"{day:2}-{month}-{year:04} {h:02}:{m:02}:{s:02} +0000\""
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(s: &str) -> Result<i64, Bad> {
        let mut cursor = Cursor::new(s.as_bytes());
        let ms = date_time(&mut cursor)?;
        cursor.end()?;
        Ok(ms)
    }

    #[test]
    fn known_moments() {
        assert_eq!(read("\" 1-Jan-1970 00:00:00 +0000\""), Ok(0));
        assert_eq!(read("\"17-Jul-1996 02:44:25 -0700\""), Ok(837_596_665_000));
        assert_eq!(read("\"29-Feb-2000 23:59:60 +0100\""), Ok(951_865_200_000));
        for bad in [
            "\"29-Feb-1900 00:00:00 +0000\"",
            "\"31-Apr-2000 00:00:00 +0000\"",
            "\"00-Apr-2000 00:00:00 +0000\"",
            "\"01-Apr-2000 24:00:00 +0000\"",
            "\"01-Apr-2000 00:00:00 0000\"",
            "\"01-Foo-2000 00:00:00 +0000\"",
            "01-Apr-2000",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(date(&mut Cursor::new(b"1-Jan-1970")), Ok(0));
        assert_eq!(date(&mut Cursor::new(b"\"31-Dec-1969\"")), Ok(-1));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0i64..253_402_300_800) {
            let mut out = String::new();
            write_date_time(&mut out, seconds as u64 * 1000);
            prop_assert_eq!(read(&out), Ok(seconds * 1000));
        }
    }
}
