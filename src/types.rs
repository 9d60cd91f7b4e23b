//! The small vocabulary that every layer shares: time, watch descriptors, identities.

use std::fmt;

/// Milliseconds: a duration, or an instant on the boot-time clock. Never wall-clock time.
pub type Millis = u64;

/// A duration for people: seconds, with decimals if they are not whole. Not by way of a floating-point
/// number, whose formatting is 10 KB of code.
#[must_use]
pub fn seconds(ms: Millis) -> String {
    match ms % 1000 {
        0 => (ms / 1000).to_string(),
        rest => format!("{}.{rest:03}", ms / 1000),
    }
}

/// A long duration for people: the two largest units, such as `6d 23h`. Below a minute, [`seconds`].
#[must_use]
pub fn duration(ms: Millis) -> String {
    const UNITS: [(Millis, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    if ms < 60_000 {
        return seconds(ms) + "s";
    }
    let mut rest = ms;
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
        // The units follow each other: a day and some seconds are a day.
        if rest >= unit || !parts.is_empty() {
            parts.push((rest / unit, name));
        }
        rest %= unit;
    }
    let shown = parts.iter().take(2).filter(|(count, _)| *count > 0);
    shown.map(|(count, name)| format!("{count}{name}")).collect::<Vec<_>>().join(" ")
}

/// The kernel's number for one watched inode, unique within the one inotify instance
/// (`inotify(7)`). Numbers rise and are not reused before they wrap at `INT_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wd(pub i32);

/// How the names begin of what the daemon itself makes for a moment in other people's directories.
/// Nothing of that name is watched or told of.
pub const RESERVED_PREFIX: &[u8] = b".rinotifyd-";

/// Who a child runs as. Resolved from names once, when the configuration is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Login name, for `USER` and `LOGNAME`.
    pub name: String,
    /// Home directory, for `HOME`.
    pub home: Vec<u8>,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// `exit(n)`, 0 to 255.
    Exited(i32),
    /// Killed by this signal number.
    Signaled(i32),
}

impl ExitStatus {
    /// Whether the child reported success.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Signaled(number) => write!(f, "signal {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_durations_have_two_units() {
        let check = |ms, expected| assert_eq!(duration(ms), expected);
        check(0, "0s");
        check(1500, "1.500s");
        check(59_999, "59.999s");
        check(60_000, "1m");
        check(90_000, "1m 30s");
        check(3_600_000, "1h");
        check(601_200_000, "6d 23h");
        check(604_800_000, "7d");
        check(86_400_000 + 59_000, "1d");
    }

    #[test]
    fn durations_have_decimals_if_they_are_not_whole() {
        let check = |ms, expected| assert_eq!(seconds(ms), expected);
        check(0, "0");
        check(5, "0.005");
        check(500, "0.500");
        check(10_000, "10");
        check(10_010, "10.010");
        check(100_000, "100");
    }
}
