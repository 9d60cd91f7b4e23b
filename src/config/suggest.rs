//! "Did you mean ...?": the known word nearest to an unknown one.

use crate::quote::plain;

/// Longer words are not compared: no key, event or sensible name is longer, and the comparison is
/// quadratic.
const WORD_LEN_MAX: usize = 64;

/// Words of which one is never proposed for the other.
const OPPOSITES: [(&[u8], &[u8]); 4] =
    [(b"include", b"exclude"), (b"min", b"max"), (b"src", b"dst"), (b"success", b"failure")];

/// The candidate that was probably meant: the same letters in another case, the same parts in
/// another order, or else the one with the fewest typing errors, at most one for three letters.
pub fn nearest<'a>(word: &[u8], candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_LEN_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let limit = word.len() / 3;
    let scored = candidates.into_iter().filter_map(|candidate| {
        // The difference in length is the least number of errors.
        if candidate.len().abs_diff(word.len()) > limit {
            return None;
        }
        let lower = candidate.to_ascii_lowercase().into_bytes();
        let errors = if parts(&lower) == parts(&word) { 0 } else { distance(&lower, &word) };
        (errors <= limit && !is_opposite(&lower, &word)).then_some((errors, candidate))
    });
    scored.min_by_key(|(errors, _)| *errors).map(|(_, candidate)| candidate)
}

/// The end of an error message: `, did you mean X?`, or nothing.
pub fn hint<'a>(word: &[u8], candidates: impl IntoIterator<Item = &'a str>) -> String {
    let found = nearest(word, candidates);
    found.map(|found| format!(", did you mean {}?", plain(found.as_bytes()))).unwrap_or_default()
}

/// Whether a part of the word is nearer to the opposite of the candidate's part than to that part.
fn is_opposite(candidate: &[u8], word: &[u8]) -> bool {
    let pairs = OPPOSITES.iter().flat_map(|&(one, other)| [(one, other), (other, one)]);
    let (candidate, word) = (parts(candidate), parts(word));
    pairs.filter(|(one, _)| candidate.contains(one)).any(|(one, other)| {
        let nearest_to = |to: &[u8]| word.iter().map(|part| distance(part, to)).min().unwrap_or(usize::MAX);
        nearest_to(other) < nearest_to(one)
    })
}

fn parts(word: &[u8]) -> Vec<&[u8]> {
    let mut parts: Vec<_> = word.split(|byte| b"_-.".contains(byte)).collect();
    parts.sort_unstable();
    parts
}

/// Typing errors between two words: a letter missing, added, wrong, or two swapped (the optimal
/// string alignment distance).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    fn check(word: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(nearest(word.as_bytes(), candidates.iter().copied()), expected, "{word}");
    }

    #[test]
    fn distance_counts_typing_errors() {
        let cases =
            [("", "", 0), ("a", "", 1), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)];
        for (a, b, expected) in cases {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_word_that_was_meant_is_found() {
        let keys = ["exclude_filter", "exclude_filter_file", "rec", "path"];
        check("exlude_filter", &keys, Some("exclude_filter"));
        check("exclude-filter-file", &keys, Some("exclude_filter_file"));
        check("filter_exclude", &keys, Some("exclude_filter"));
        check("REC", &keys, Some("rec"));
        check("rce", &keys, Some("rec"));
        check("colour", &keys, None);
        check("x", &["y"], None);
        check("", &keys, None);
        check(&"x".repeat(65), &[&"x".repeat(65)], None);
    }

    #[test]
    fn the_opposite_is_never_proposed() {
        let keys = ["exclude_filter", "max_jobs", "dst_re", "include"];
        for word in ["include_filter", "min_jobs", "src_re", "exclude", "inclde_filter"] {
            check(word, &keys, None);
        }
        check("exclde_filter", &keys, Some("exclude_filter"));
        check("maxjobs", &keys, Some("max_jobs"));
        check("includ", &keys, Some("include"));
    }

    #[test]
    fn a_suggestion_is_safe_to_show() {
        assert_eq!(hint(b"convrt", ["conv\u{1b}rt"]), ", did you mean conv\\x1brt?");
    }

    #[test]
    fn swapped_words_of_an_event_are_found() {
        let events = EventKind::ALL.map(EventKind::name);
        check("IN_WRITE_CLOSE", &events, Some("IN_CLOSE_WRITE"));
        check("in_create", &events, Some("IN_CREATE"));
        check("CLOSE_WRITE", &events, Some("IN_CLOSE_WRITE"));
        check("IN_MOVE_TO", &events, Some("IN_MOVED_TO"));
    }
}
