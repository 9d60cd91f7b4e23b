//! A record as a line.
//!
//! `2026-11-23T14:05:09.123+01:00 info sched: message key=value key="va lue\n"`

use std::fmt::Write;

use ::syslog::Severity;

use crate::quote::{Style, escape, needs_quotes};
use crate::record::{Level, Record};
use crate::sys::clock::WallTime;

/// The longest line, with its newline. Two of the longest paths (`PATH_MAX`) fit into it; it is an eighth of
/// the ring; rsyslog takes 8 KiB too.
pub(super) const LINE_LEN_MAX: usize = 8192;

/// Stands at the end of a part that was cut.
const MARK: &str = "...";

/// How a line begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Prefix<'a> {
    /// With the time.
    Time(WallTime),
    /// With the severity in `<>`, for the journal, which adds the time itself (`sd-daemon(3)`).
    Severity,
    /// With this header.
    Header(&'a str),
}

/// Fills `line` with the record and a newline. If that is longer than [`LINE_LEN_MAX`], the longest parts are
/// cut, all to the same length, so that a long path does not push out the task id.
pub(super) fn format(line: &mut String, prefix: Prefix<'_>, record: &Record) {
    let mut part_len_max = LINE_LEN_MAX;
    loop {
        line.clear();
        format_parts(line, prefix, record, part_len_max);
        if line.len() < LINE_LEN_MAX {
            break;
        }
        part_len_max -= part_len_max / 4;
        // Some 50 fields of the least length fit. Further fields are left out.
        if part_len_max < PART_LEN_MIN {
            let end = line.floor_char_boundary(LINE_LEN_MAX - MARK.len() - 1);
            line.truncate(end);
            line.push_str(MARK);
            break;
        }
    }
    line.push('\n');
}

/// A part is not cut to less: a shorter piece of a path does not identify a file.
const PART_LEN_MIN: usize = 128;

fn format_parts(line: &mut String, prefix: Prefix<'_>, record: &Record, part_len_max: usize) {
    // Writing to a String cannot fail.
    let _ = match prefix {
        Prefix::Time(time) => write!(line, "{time} {} ", record.level),
        Prefix::Severity => write!(line, "<{}>{} ", severity(record.level) as u8, record.level),
        Prefix::Header(text) => write!(line, "{text}{} ", record.level),
    };
    push_part(line, record.name.as_bytes(), Style::Plain, part_len_max);
    line.push_str(": ");
    push_part(line, record.message.as_bytes(), Style::Plain, part_len_max);
    for (key, value) in &record.fields {
        let _ = write!(line, " {key}=");
        if needs_quotes(value) {
            line.push('"');
            push_part(line, value, Style::Quoted, part_len_max);
            line.push('"');
        } else {
            push_part(line, value, Style::Plain, part_len_max);
        }
    }
}

fn push_part(line: &mut String, bytes: &[u8], style: Style, len_max: usize) {
    if !escape(line, bytes, style, len_max) {
        line.push_str(MARK);
    }
}

/// The severity of a level (`syslog(3)`).
pub(super) const fn severity(level: Level) -> Severity {
    match level {
        Level::Debug => Severity::LOG_DEBUG,
        Level::Info => Severity::LOG_INFO,
        Level::Warning => Severity::LOG_WARNING,
        Level::Error => Severity::LOG_ERR,
        Level::Critical => Severity::LOG_CRIT,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quote::{hostile, is_unsafe};

    fn formatted(prefix: Prefix<'_>, record: &Record) -> String {
        let mut line = String::from("left over");
        format(&mut line, prefix, record);
        line
    }

    fn check(record: &Record, expected: &str) {
        assert_eq!(formatted(Prefix::Severity, record), expected);
    }

    fn record(message: &str) -> Record {
        Record::new(Level::Info, &"sched".into(), message)
    }

    #[test]
    fn a_line_begins_with_time_or_severity() {
        let time = WallTime { secs: 1_795_439_109, millis: 123, offset_secs: 3600 };
        let line = formatted(Prefix::Time(time), &record("started").field("task_id", "7"));
        assert_eq!(line, "2026-11-23T14:05:09.123+01:00 info sched: started task_id=7\n");
        let expected = ["<7>debug", "<6>info", "<4>warning", "<3>error", "<2>critical"];
        for (level, expected) in Level::ALL.into_iter().zip(expected) {
            check(&Record::new(level, &"n".into(), "m"), &format!("{expected} n: m\n"));
        }
    }

    #[test]
    fn values_are_quoted_and_escaped_when_needed() {
        let line = record("two\nlines")
            .field("path", b"/a/b")
            .field("src", b"a b\n\xff")
            .field("empty", b"")
            .field("odd", b"k=\"v\"\\");
        check(
            &line,
            concat!(
                r#"<6>info sched: two\nlines path=/a/b src="a b\n\xff" empty="" "#,
                r#"odd="k=\"v\"\\""#,
                "\n"
            ),
        );
    }

    #[test]
    fn long_values_are_cut_and_short_ones_kept() {
        let long = record("m").field("path", [b'p'; 9000]).field("src", [b'\xff'; 5000]).field("id", "7");
        let line = formatted(Prefix::Severity, &long);
        assert!(line.len() > LINE_LEN_MAX / 2 && line.len() <= LINE_LEN_MAX, "{}", line.len());
        assert!(line.starts_with("<6>info sched: m path=ppp"));
        assert!(line.contains("ppp... src=\"\\xff\\xff"));
        assert!(line.ends_with("\\xff...\" id=7\n"));
        let fits = record("m").field("path", [b'p'; 4096]).field("src", [b'q'; 4000]);
        assert!(!formatted(Prefix::Severity, &fits).contains(MARK));
    }

    #[test]
    fn any_number_of_fields_stays_within_bounds() {
        let mut many = record("m");
        for _ in 0..200 {
            many = many.field("key", [b'v'; 300]);
        }
        let line = formatted(Prefix::Severity, &many);
        assert!(line.len() <= LINE_LEN_MAX && line.ends_with("...\n"), "{}", line.len());
    }

    proptest! {
        #[test]
        fn a_record_is_one_line_whatever_it_holds(
            message in hostile(),
            values in prop::collection::vec(
                prop_oneof![hostile(), prop::collection::vec(any::<u8>(), 0..5000)], 0..5),
        ) {
            let mut record = record(&String::from_utf8_lossy(&message));
            for value in values {
                record = record.field("key", value);
            }
            let line = formatted(Prefix::Severity, &record);
            prop_assert!(line.len() <= LINE_LEN_MAX);
            prop_assert_eq!(line.find(is_unsafe), Some(line.len() - 1));
        }
    }
}
