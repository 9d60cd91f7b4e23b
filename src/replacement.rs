//! `dst_re`: what a matched path is replaced with, as Python's `re.sub` reads it, on bytes.
//!
//! `\g<NAME>`, `\g<1>` and `\1` stand for what a group of `src_re` has matched, `\g<0>` for the whole
//! match, `\\` for a backslash; there are no other escapes. A group that took no part in the match is
//! empty. Everything is replaced in one pass: what a file is called is never read as a template. An
//! empty match right behind another match is not replaced, as in Python before 3.7: `.*` matches once.

use std::ops::Range;

use regex::bytes::Regex;

/// A parsed `dst_re`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Group(usize),
}

/// What is wrong with a `dst_re`, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadReplacement {
    /// In words.
    pub message: String,
    /// The bytes to blame.
    pub range: Range<usize>,
    /// The name of a group that `src_re` has not.
    pub unknown_group: Option<String>,
}

impl Replacement {
    /// Reads a template for the matches of `regex`.
    ///
    /// # Errors
    ///
    /// An escape that does not exist, or a group that `regex` has not.
    pub fn parse(text: &[u8], regex: &Regex) -> Result<Self, BadReplacement> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if text[at] != b'\\' {
                literal.push(text[at]);
                at += 1;
                continue;
            }
            let (group, len) = match text.get(at + 1) {
                Some(b'\\') => {
                    literal.push(b'\\');
                    at += 2;
                    continue;
                }
                Some(b'g') => named(text, at, regex)?,
                Some(b'1'..=b'9') => numbered(text, at, regex)?,
                _ => {
                    let end = text.len().min(at + 2);
                    return Err(bad(r"only \g<NAME>, \1 to \99 and \\ can stand here", at..end));
                }
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Group(group));
            at += len;
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// The directory that every result is in, whatever is matched: what stands before the first group,
    /// up to its last slash, without it. `Some(b"")` is `/`; `None`: the template begins with a group,
    /// or is no absolute path.
    #[must_use]
    pub fn fixed(&self) -> Option<&[u8]> {
        let Some(Part::Text(text)) = self.parts.first() else { return None };
        let slash = text.iter().rposition(|&byte| byte == b'/')?;
        text.starts_with(b"/").then_some(&text[..slash])
    }

    /// `path` with every match of `regex` replaced.
    #[must_use]
    pub fn expand(&self, regex: &Regex, path: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut copied = 0;
        for captures in regex.captures_iter(path) {
            let Some(whole) = captures.get(0) else { continue };
            out.extend_from_slice(&path[copied..whole.start()]);
            for part in &self.parts {
                match part {
                    Part::Text(text) => out.extend_from_slice(text),
                    Part::Group(index) => {
                        out.extend_from_slice(captures.get(*index).map_or(b"", |found| found.as_bytes()));
                    }
                }
            }
            copied = whole.end();
        }
        out.extend_from_slice(&path[copied..]);
        out
    }
}

fn bad(message: impl Into<String>, range: Range<usize>) -> BadReplacement {
    BadReplacement { message: message.into(), range, unknown_group: None }
}

/// `\g<NAME>` or `\g<NUMBER>` at `at`: the group, and how long that was.
fn named(text: &[u8], at: usize, regex: &Regex) -> Result<(usize, usize), BadReplacement> {
    let rest = &text[at..];
    let end = rest.iter().position(|&byte| byte == b'>');
    let Some(end) = end.filter(|_| rest.get(2) == Some(&b'<')) else {
        return Err(bad(r"a group is written \g<NAME> or \g<1>", at..text.len().min(at + 3)));
    };
    let name = &rest[3..end];
    let (range, len) = (at + 3..at + end, end + 1);
    if !name.is_empty() && name.iter().all(u8::is_ascii_digit) {
        let number = str::from_utf8(name).ok().and_then(|digits| digits.parse().ok());
        return group(number.unwrap_or(usize::MAX), regex, range).map(|index| (index, len));
    }
    let index = regex.capture_names().position(|known| known.is_some_and(|known| known.as_bytes() == name));
    index.map(|index| (index, len)).ok_or_else(|| {
        let name = String::from_utf8_lossy(name).into_owned();
        BadReplacement { unknown_group: Some(name), ..bad("src_re has no group of this name", range) }
    })
}

/// `\1` to `\99` at `at`.
fn numbered(text: &[u8], at: usize, regex: &Regex) -> Result<(usize, usize), BadReplacement> {
    let digits = text[at + 1..].iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
    let number =
        text[at + 1..=at + digits].iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    group(number, regex, at..at + 1 + digits).map(|index| (index, 1 + digits))
}

fn group(number: usize, regex: &Regex, range: Range<usize>) -> Result<usize, BadReplacement> {
    let groups = regex.captures_len() - 1;
    if number <= groups {
        return Ok(number);
    }
    let has = match groups {
        0 => "no groups".to_owned(),
        1 => "only one group".to_owned(),
        more => format!("only {more} groups"),
    };
    Err(bad(format!("src_re has {has}"), range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(regex: &str, template: &[u8], path: &[u8], expected: &[u8]) {
        let regex = Regex::new(&format!("(?s-u){regex}")).unwrap();
        let replacement = Replacement::parse(template, &regex).unwrap();
        let found = replacement.expand(&regex, path);
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(expected));
    }

    fn refuse(template: &str, blamed: &str, message: &str) {
        let regex = Regex::new("^/(?P<path>.*)/(.*)$").unwrap();
        let bad = Replacement::parse(template.as_bytes(), &regex).unwrap_err();
        assert_eq!((&template[bad.range], bad.message.as_str()), (blamed, message));
    }

    #[test]
    fn groups_are_filled_in_by_name_and_number() {
        check("^/src/(?P<path>.*)\\.x$", br"/dst/\g<path>", b"/src/a/b.x", b"/dst/a/b");
        check("^/(.)(.)$", br"/\2\1\g<2>\g<0>", b"/ab", b"/bab/ab");
        check("^/a", br"/\\1", b"/a/b", br"/\1/b");
        check("^/(a)|(b)", br"/[\1\2]", b"/a", b"/[a]");
    }

    #[test]
    fn every_match_is_replaced_and_the_rest_stays() {
        check("/a", b"/x", b"/a/b/a/c", b"/x/b/x/c");
        check("^/in", b"/out", b"/in/in", b"/out/in");
        check(".*", b"/x", b"/a/b", b"/x");
    }

    #[test]
    fn names_are_not_read_as_templates() {
        check("^/s/(.*)$", br"/d/\1", br"/s/\g<path>\1", br"/d/\g<path>\1");
        check("^/s/(.*)$", br"/d/\1", b"/s/\xff\n$1", b"/d/\xff\n$1");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        refuse(r"/d/\g<pth>", "pth", "src_re has no group of this name");
        refuse(r"/d/\3", r"\3", "src_re has only 2 groups");
        refuse(r"/d/\g<9>", "9", "src_re has only 2 groups");
        refuse(r"/d/\gpath", r"\gp", r"a group is written \g<NAME> or \g<1>");
        refuse(r"/d/\g<path", r"\g<", r"a group is written \g<NAME> or \g<1>");
        refuse(r"/d/\n", r"\n", r"only \g<NAME>, \1 to \99 and \\ can stand here");
        refuse("/d\\", "\\", r"only \g<NAME>, \1 to \99 and \\ can stand here");
    }

    #[test]
    fn the_fixed_part_ends_before_what_can_change() {
        let fixed = |template: &[u8]| {
            let regex = Regex::new("(a)").unwrap();
            Replacement::parse(template, &regex).unwrap().fixed().map(<[u8]>::to_vec)
        };
        assert_eq!(fixed(br"/dst/\1"), Some(b"/dst".to_vec()));
        assert_eq!(fixed(br"/a/b/c\1/d"), Some(b"/a/b".to_vec()));
        assert_eq!(fixed(b"/a/b"), Some(b"/a".to_vec()));
        assert_eq!(fixed(br"/dst\1"), Some(Vec::new()));
        assert_eq!(fixed(br"\1/dst"), None);
        assert_eq!(fixed(b"dst/x"), None);
        assert_eq!(fixed(b""), None);
    }

    proptest! {
        #[test]
        fn any_template_is_judged(
            text in prop::collection::vec(prop::sample::select(b"\\g<pathx>019/.\xff".as_slice()), 0..16),
            path in prop::collection::vec(prop::sample::select(b"/ab\\g<1>\xff".as_slice()), 0..12),
        ) {
            let regex = Regex::new("(?s-u)(?P<path>.)(b?)").unwrap();
            match Replacement::parse(&text, &regex) {
                Ok(replacement) => drop(replacement.expand(&regex, &path)),
                Err(bad) => prop_assert!(bad.range.end <= text.len() && !bad.message.is_empty()),
            }
        }
    }
}
