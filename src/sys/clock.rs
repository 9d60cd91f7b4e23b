//! The clocks: time since boot for decisions, wall time for the log.

use std::fmt;
use std::time::UNIX_EPOCH;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use crate::types::Millis;

/// Now, on the clock that also counts while the machine sleeps (`CLOCK_BOOTTIME`).
#[must_use]
pub fn now() -> Millis {
    micros() / 1000
}

/// The same clock in microseconds, for measuring.
#[must_use]
pub fn micros() -> u64 {
    micros_of(boot_time())
}

fn micros_of(time: TimeSpec) -> u64 {
    let secs = u64::try_from(time.tv_sec()).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or_default();
    secs * 1_000_000 + nanos / 1000
}

/// `CLOCK_BOOTTIME` exists since Linux 2.6.39 and cannot fail (`clock_gettime(2)`).
fn boot_time() -> TimeSpec {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap_or(TimeSpec::new(0, 0))
}

/// Microseconds on the clock that stops while the machine sleeps (`CLOCK_MONOTONIC`), as `sd_notify(3)`
/// wants.
#[must_use]
pub fn monotonic_micros() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(TimeSpec::new(0, 0));
    micros_of(time)
}

/// Local wall time. It can jump, so it is used for text only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// Seconds since 1970, UTC.
    pub secs: i64,
    /// Milliseconds of the second, below 1000.
    pub millis: u32,
    /// Seconds east of Greenwich.
    pub offset_secs: i32,
}

/// The wall clock, in the time zone of `TZ` or `/etc/localtime`.
#[must_use]
pub fn wall() -> WallTime {
    #[allow(clippy::disallowed_methods, reason = "the one function that asks for wall time")]
    let now = std::time::SystemTime::now();
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let secs = i64::try_from(since_epoch.as_secs()).unwrap_or_default();
    WallTime { secs, millis: since_epoch.subsec_millis(), offset_secs: zone_offset(secs) }
}

/// The wall clock in nanoseconds since 1970, to be compared with the times of files.
#[must_use]
#[allow(clippy::useless_conversion, reason = "time_t and long have 32 bits on 32-bit ARM")]
pub fn wall_ns() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap_or(TimeSpec::new(0, 0));
    i64::from(now.tv_sec()).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec().into())
}

/// Seconds east of Greenwich at that moment. Raw, because nix has no `localtime_r(3)`. Beyond the range of a
/// 32-bit `time_t` this is the offset of the last second in the range: it may be an hour wrong in summer.
#[allow(clippy::useless_conversion, reason = "time_t and long have 32 bits on 32-bit ARM")]
fn zone_offset(secs: i64) -> i32 {
    let time = secs.try_into().unwrap_or(i32::MAX.into());
    // SAFETY: `struct tm` holds integers and a pointer, for which all zeroes are valid (tm(3type)).
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call and localtime_r(3) keeps neither.
    let filled = unsafe { libc::localtime_r(&raw const time, &raw mut broken_down) };
    if filled.is_null() {
        return 0;
    }
    i32::try_from(broken_down.tm_gmtoff).unwrap_or_default()
}

impl fmt::Display for WallTime {
    /// As `2026-11-23T14:05:09.123+01:00` (RFC 3339), without allocating.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.secs.saturating_add(i64::from(self.offset_secs));
        let (year, month, day) = civil_from_days(local.div_euclid(86_400));
        let second = local.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}", self.millis)?;
        let sign = if self.offset_secs < 0 { '-' } else { '+' };
        let offset = self.offset_secs.unsigned_abs() / 60;
        write!(f, "{sign}{:02}:{:02}", offset / 60, offset % 60)
    }
}

impl WallTime {
    /// As `Nov  3 14:05:09` (RFC 3164, section 4.1.2).
    #[must_use]
    pub fn rfc_3164(&self) -> String {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let local = self.secs.saturating_add(i64::from(self.offset_secs));
        let (_, month, day) = civil_from_days(local.div_euclid(86_400));
        let second = local.rem_euclid(86_400);
        let at = usize::try_from((month - 1) * 3).unwrap_or_default();
        let month = MONTHS.get(at..at + 3).unwrap_or_default();
        format!("{month} {day:2} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(secs: i64, millis: u32, offset_secs: i32, expected: &str) {
        assert_eq!(WallTime { secs, millis, offset_secs }.to_string(), expected);
    }

    #[test]
    fn wall_time_for_syslog() {
        let check = |secs, offset_secs, expected: &str| {
            assert_eq!(WallTime { secs, millis: 0, offset_secs }.rfc_3164(), expected);
        };
        check(0, 0, "Jan  1 00:00:00");
        check(1_795_439_109, 3600, "Nov 23 14:05:09");
        check(1_735_689_599, 0, "Dec 31 23:59:59");
    }

    #[test]
    fn wall_time_is_rfc_3339() {
        check(0, 0, 0, "1970-01-01T00:00:00.000+00:00");
        check(1_795_439_109, 123, 3600, "2026-11-23T14:05:09.123+01:00");
        check(951_782_399, 999, 0, "2000-02-28T23:59:59.999+00:00");
        check(951_782_400, 0, 0, "2000-02-29T00:00:00.000+00:00");
        check(951_868_800, 0, -12_600, "2000-02-29T20:30:00.000-03:30");
        check(4_107_542_399, 0, 0, "2100-02-28T23:59:59.000+00:00");
        check(4_107_542_400, 0, 0, "2100-03-01T00:00:00.000+00:00");
        check(2_147_483_648, 0, 0, "2038-01-19T03:14:08.000+00:00");
    }

    #[test]
    fn boot_time_rises_and_both_units_agree() {
        let (before, middle, after) = (micros(), now(), micros());
        assert!(before > 0);
        assert!(before / 1000 <= middle && middle <= after / 1000);
    }

    #[test]
    fn wall_time_is_plausible() {
        let time = wall();
        assert!(time.secs > 1_700_000_000);
        assert!(time.millis < 1000);
        assert!(time.offset_secs.abs() <= 15 * 3600);
    }
}
