//! Exclude filters that can match no path below a watch path, and what was probably meant.

use crate::quote::plain;

/// The characters that are not themselves in a regular expression.
const SPECIAL: &[u8] = b".^$*+?()[]{}|\\";

/// What is wrong with an exclude filter; nothing when it may match, or is not simple enough to judge. `roots`
/// are the watch paths up to their first wildcard, with a slash at the end.
#[must_use]
pub fn doubt(filter: &[u8], roots: &[Vec<u8>]) -> Option<String> {
    let has = |pair: &[u8]| filter.windows(pair.len()).any(|window| window == pair);
    if has(b"$, ") || has(b"$,") && !filter.starts_with(b"/") {
        return Some("a comma does not separate filters: write each on a line of its own".to_owned());
    }
    let is_grouped = filter.iter().any(|byte| b"([".contains(byte));
    let alternatives = filter.split(|&byte| byte == b'|');
    let is_hard = filter.starts_with(b"(?") || is_grouped && filter.contains(&b'|');
    let mut lost = alternatives.filter(|one| !roots.iter().any(|root| can_match(one, root)));
    let one = if is_hard || roots.is_empty() { return None } else { lost.next()? };
    let hint = meant(one).map(|meant| format!(": did you mean {meant}?")).unwrap_or_default();
    Some(format!(
        "this filter matches no path below the watch path, since it matches from the first / on{hint}"
    ))
}

/// Whether an expression without alternatives can match a path below `root`, judged by how it begins.
fn can_match(expression: &[u8], root: &[u8]) -> bool {
    begin(expression).iter().zip(root).all(|(one, byte)| one.is_none_or(|one| one == *byte))
}

/// The bytes with which all matches begin; `None` is any byte.
fn begin(expression: &[u8]) -> Vec<Option<u8>> {
    let mut rest = expression.strip_prefix(b"^").unwrap_or(expression);
    let mut begin = Vec::new();
    loop {
        let (byte, after) = match rest {
            [b'\\', byte, after @ ..] if !byte.is_ascii_alphanumeric() => (Some(*byte), after),
            [b'.', after @ ..] => (None, after),
            [byte, after @ ..] if !SPECIAL.contains(byte) => (Some(*byte), after),
            _ => return begin,
        };
        match after.first() {
            Some(b'*' | b'?' | b'{') => return begin,
            Some(b'+') => {
                begin.push(byte);
                return begin;
            }
            _ => begin.push(byte),
        }
        rest = after;
    }
}

/// What was probably meant by an expression that does not begin with a slash.
fn meant(expression: &[u8]) -> Option<String> {
    let text = expression.strip_prefix(b"^").unwrap_or(expression);
    let is_name = |text: &[u8]| !text.is_empty() && !text.iter().any(|byte| SPECIAL.contains(byte));
    match text {
        [b'/', ..] | [] => None,
        [b'.', rest @ ..] if is_name(rest) => Some(format!("exclude_glob = {}", plain(text))),
        _ if is_name(text) => Some(format!("exclude_glob = {}", plain(text))),
        _ => Some(plain(&[b".*", text].concat())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, expected: Option<&str>) {
        let roots = [b"/srv/in/".to_vec(), b"/home/".to_vec()];
        let said = doubt(filter.as_bytes(), &roots);
        let meant = said.as_deref().and_then(|said| said.split_once(": did you mean "));
        let meant = meant.map(|(_, meant)| meant.trim_end_matches('?'));
        assert_eq!(meant.or(said.as_deref()), expected, "{filter}: {said:?}");
    }

    #[test]
    fn what_can_match_nothing_is_found() {
        check(r"\.tmp$", Some(r".*\.tmp$"));
        check(r"^\.tmp$", Some(r".*\.tmp$"));
        check("node_modules", Some("exclude_glob = node_modules"));
        check(".git", Some("exclude_glob = .git"));
        check("a$, b$", Some("a comma does not separate filters: write each on a line of its own"));
        check(r"\.tmp$|\.swp$", Some(r".*\.tmp$"));
        check(r".*\.tmp$|\.swp$", Some(r".*\.swp$"));
        let elsewhere =
            "this filter matches no path below the watch path, since it matches from the first / on";
        check("^/src/tmp", Some(elsewhere));
        check("/srv/inn/tmp", Some(elsewhere));
    }

    #[test]
    fn what_can_match_is_left_alone() {
        for filter in [
            r".*\.tmp$",
            "/srv/in/tmp",
            "^/srv/in/tmp$",
            "/srv",
            "/",
            "/home/ann",
            "",
            "^",
            "/s?srv/in",
            "/.*/x",
            "(a|b)",
            "(?i)tmp",
            "[/]srv",
            r"/srv\/in",
            ".home/a",
            ".+tmp",
            "x*/srv/in/y",
            r"\w",
            "(a)|b",
            "/srv/in/a|/home/b",
        ] {
            check(filter, None);
        }
        assert_eq!(doubt(b"a", &[]), None);
    }
}
