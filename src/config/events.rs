//! What was meant by a word that is no event.

use super::groups::GROUPS;
use super::suggest;
use crate::event::EventKind;

/// Names of inotify(7) that stand for several events, and what to write here.
const SEVERAL: [(&str, &str); 3] = [
    ("IN_ALL_EVENTS", "default_sched means every event"),
    ("IN_MOVE", "write IN_MOVED_FROM and IN_MOVED_TO"),
    ("IN_CLOSE", "write IN_CLOSE_WRITE and IN_CLOSE_NOWRITE"),
];

/// The end of an error message about an unknown event, or nothing. `separate` says how several events are
/// written where the word stands.
#[must_use]
pub fn hint(word: &[u8], separate: &str) -> String {
    let upper = String::from_utf8_lossy(word).to_ascii_uppercase();
    let full = if upper.starts_with("IN_") { upper } else { format!("IN_{upper}") };
    if let Some((_, meant)) = SEVERAL.iter().find(|(name, _)| *name == full) {
        return format!(": {meant}");
    }
    if let Some(kind) = EventKind::from_name(&full) {
        return format!(", did you mean {}?", kind.name());
    }
    let mut parts = word.split(|byte| b",|".contains(byte)).map(<[u8]>::trim_ascii);
    let is_event = |part: &[u8]| str::from_utf8(part).is_ok_and(|part| EventKind::from_name(part).is_some());
    if word.iter().any(|byte| b",|".contains(byte)) && parts.any(is_event) {
        return format!(": {separate}");
    }
    let groups = GROUPS.iter().map(|group| group.name);
    suggest::hint(word, EventKind::ALL.map(EventKind::name).into_iter().chain(groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_said() {
        let check =
            |word: &str, expected: &str| assert_eq!(hint(word.as_bytes(), "one a line"), expected, "{word}");
        check("MODIFY", ", did you mean IN_MODIFY?");
        check("close_write", ", did you mean IN_CLOSE_WRITE?");
        check("IN_WRITE_CLOSE", ", did you mean IN_CLOSE_WRITE?");
        check("IN_ALL_EVENTS", ": default_sched means every event");
        check("IN_MOVE", ": write IN_MOVED_FROM and IN_MOVED_TO");
        check("move", ": write IN_MOVED_FROM and IN_MOVED_TO");
        check("IN_CLOSE", ": write IN_CLOSE_WRITE and IN_CLOSE_NOWRITE");
        check("IN_CREATE,IN_DELETE", ": one a line");
        check("IN_CREATE | IN_DELETE", ": one a line");
        check("compleet", ", did you mean complete?");
        check("colour", "");
        check("a,b", "");
    }
}
