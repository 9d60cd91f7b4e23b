//! `exclude_glob` and `include_glob`: shell patterns for names, or for paths below the watch path.
//!
//! A pattern without a slash is about names: a directory that is left out is not watched, so that the last
//! name of a path is enough. All patterns of a kind are one automaton, see `filter`.

use super::diagnostics::{Bad, quoted};
use super::filter::Filters;
use crate::pattern::glob_expression;
use crate::quote::plain;

/// What stands in front of a pattern that ignores case.
const ANY_CASE: &[u8] = b"(?i)";

/// The patterns of one key.
#[derive(Clone, Debug, Default)]
pub struct Globs {
    /// Of names, then of paths; each of anything, then of directories only.
    parts: [Part; 4],
}

/// Patterns that are matched in the same way.
#[derive(Clone, Debug, Default)]
struct Part {
    filters: Filters,
    /// As they stand in the configuration.
    texts: Vec<String>,
}

impl Part {
    fn find(&self, text: &[u8]) -> Option<&str> {
        let place = self.filters.find_place(text)?;
        self.texts.get(place).map(String::as_str)
    }
}

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// As it stands in the configuration.
    text: String,
    expression: String,
    is_path: bool,
    is_dir: bool,
}

impl Glob {
    /// Translates a pattern.
    pub fn parse(text: &[u8]) -> Result<Self, Bad> {
        let (prefix, case, body) = match text.strip_prefix(ANY_CASE) {
            Some(body) => (ANY_CASE.len(), "i", body),
            None => (0, "", text),
        };
        let (is_dir, inner) = body.strip_suffix(b"/").map_or((false, body), |inner| (true, inner));
        let is_path = inner.contains(&b'/');
        let inner = inner.strip_prefix(b"/").unwrap_or(inner);
        let bad = |message: &str| Bad { message: message.to_owned(), range: prefix..text.len() };
        if inner.windows(2).any(|pair| pair == b"**") {
            return Err(bad("** has no meaning of its own: a pattern without a slash matches at any depth"));
        }
        if inner.split(|&byte| byte == b'/').any(|name| matches!(name, b"" | b"." | b"..")) {
            return Err(bad("a pattern is a name, or names with a slash between them, and none is . or .."));
        }
        let expression = format!(r"\A(?{case}:{})\z", glob_expression(inner));
        Ok(Self { text: plain(text), expression, is_path, is_dir })
    }

    /// Whether it is about directories only.
    #[must_use]
    pub const fn is_dir(&self) -> bool {
        self.is_dir
    }
}

impl Globs {
    /// From patterns in the order of the configuration.
    ///
    /// # Errors
    ///
    /// The pattern that is too large.
    pub fn new(globs: &[Glob]) -> Result<Self, String> {
        let mut parts: [Part; 4] = Default::default();
        for (index, part) in parts.iter_mut().enumerate() {
            let (of_paths, of_dirs) = (index >= 2, index % 2 == 1);
            let own = || globs.iter().filter(|glob| (glob.is_path, glob.is_dir) == (of_paths, of_dirs));
            let expressions: Vec<String> = own().map(|glob| glob.expression.clone()).collect();
            part.filters = Filters::new(&expressions).map_err(|large| {
                let text = own().find(|glob| glob.expression == large).map(|glob| glob.text.clone());
                text.unwrap_or(large)
            })?;
            part.texts = own().map(|glob| glob.text.clone()).collect();
        }
        Ok(Self { parts })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.texts.is_empty())
    }

    /// Whether one of them matches. `below` is relative to the watch path.
    #[must_use]
    pub fn matches(&self, below: &[u8], is_dir: bool) -> bool {
        self.applying(below, is_dir).any(|(part, text)| part.filters.matches(text))
    }

    /// One that matches, as it stands in the configuration.
    #[must_use]
    pub fn find(&self, below: &[u8], is_dir: bool) -> Option<&str> {
        self.applying(below, is_dir).find_map(|(part, text)| part.find(text))
    }

    /// What is matched with what.
    fn applying<'a, 'b>(
        &'a self,
        below: &'b [u8],
        is_dir: bool,
    ) -> impl Iterator<Item = (&'a Part, &'b [u8])> {
        let name = below.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let parts = self.parts.iter().zip([(name, false), (name, true), (below, false), (below, true)]);
        parts
            .filter(move |(part, (_, of_dirs))| !part.texts.is_empty() && (is_dir || !of_dirs))
            .map(|(part, (text, _))| (part, text))
    }

    /// All of them, as they stand in the configuration.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| &part.texts).map(String::as_str)
    }
}

/// What was probably meant by a pattern that can match nothing, or not what its author wants.
/// `roots` are the watch paths up to their first wildcard, with a slash at the end.
#[must_use]
pub fn doubt(text: &[u8], roots: &[Vec<u8>]) -> Option<String> {
    let inner = text.strip_prefix(ANY_CASE).unwrap_or(text);
    let shown = |text: &[u8]| plain(text);
    if inner.windows(2).any(|pair| pair == b", ") || inner.windows(2).any(|pair| pair == b",*") {
        return Some("a comma does not separate patterns: write each on a line of its own".to_owned());
    }
    if inner.windows(2).any(|pair| pair == b" *") && inner.starts_with(b"*") {
        return Some("a blank does not separate patterns: write each on a line of its own".to_owned());
    }
    let is_regex = inner.ends_with(b"$") || inner.starts_with(b"^") || inner.starts_with(b".*");
    if is_regex {
        let stripped = inner.strip_prefix(b"^").unwrap_or(inner);
        let stripped = stripped.strip_prefix(b".*").map_or(stripped.to_vec(), |rest| [b"*", rest].concat());
        let stripped = stripped.strip_suffix(b"$").unwrap_or(&stripped);
        let glob: Vec<u8> = stripped.iter().copied().filter(|byte| *byte != b'\\').collect();
        // The pattern for hidden names is no mistake.
        return (inner != b".*")
            .then(|| format!("this looks like a regular expression; the pattern is {}", shown(&glob)));
    }
    let root = roots.iter().find(|root| root.len() > 1 && inner.starts_with(root))?;
    let rest = &inner[root.len()..];
    let message = "a pattern is relative to the watch path";
    Some(if rest.is_empty() { message.to_owned() } else { format!("{message}: write {}", quoted(rest)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Globs {
        Globs::new(&texts.iter().map(|text| Glob::parse(text.as_bytes()).unwrap()).collect::<Vec<_>>())
            .unwrap()
    }

    /// A slash at the end of the path says that it is a directory.
    fn check(texts: &[&str], path: &str, expected: Option<&str>) {
        let (globs, is_dir) = (globs(texts), path.ends_with('/'));
        let below = path.trim_end_matches('/').as_bytes();
        assert_eq!(globs.find(below, is_dir), expected, "{texts:?} {path}");
        assert_eq!(globs.matches(below, is_dir), expected.is_some(), "{texts:?} {path}");
    }

    #[test]
    fn names_match_at_any_depth() {
        check(&["*.tmp"], "a.tmp", Some("*.tmp"));
        check(&["*.tmp"], "a/b/.c.tmp", Some("*.tmp"));
        check(&["*.tmp"], "a.tmp/b", None);
        check(&["*.tmp"], "a.TMP", None);
        check(&["(?i)*.tmp"], "a.TMP", Some("(?i)*.tmp"));
        check(&[".*"], ".git/", Some(".*"));
        check(&[".*"], "a.git", None);
        check(&["a", "b?", "c"], "x/bb", Some("b?"));
        check(&[], "a", None);
    }

    #[test]
    fn paths_match_from_the_watch_path_on() {
        check(&["a/*.o"], "a/x.o", Some("a/*.o"));
        check(&["a/*.o"], "b/a/x.o", None);
        check(&["a/*.o"], "a/b/x.o", None);
        check(&["/a"], "a", Some("/a"));
        check(&["/a"], "b/a", None);
        check(&["(?i)A/B/"], "a/b/", Some("(?i)A/B/"));
    }

    #[test]
    fn a_slash_at_the_end_is_for_directories() {
        check(&["build/"], "x/build/", Some("build/"));
        check(&["build/"], "x/build", None);
        check(&["x/build/"], "x/build/", Some("x/build/"));
        check(&["x/build/"], "x/build", None);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let check = |text: &str, expected: &str| {
            let bad = Glob::parse(text.as_bytes()).unwrap_err();
            assert!(bad.message.contains(expected), "{text}: {}", bad.message);
        };
        check("**/a", "matches at any depth");
        check("a/**/b", "matches at any depth");
        for text in ["", "/", "//", "a//b", "./a", "a/..", "(?i)"] {
            check(text, "a pattern is a name");
        }
    }

    #[test]
    fn doubts_name_what_was_meant() {
        let check = |text: &str, expected: Option<&str>| {
            let said = doubt(text.as_bytes(), &[b"/".to_vec(), b"/srv/in/".to_vec()]);
            assert_eq!(said.as_deref(), expected, "{text}");
        };
        check("*.tmp, *.swp", Some("a comma does not separate patterns: write each on a line of its own"));
        check("*.tmp,*.swp", Some("a comma does not separate patterns: write each on a line of its own"));
        check("*.tmp *.swp", Some("a blank does not separate patterns: write each on a line of its own"));
        let regex = "this looks like a regular expression; the pattern is";
        check(r".*\.tmp$", Some(&format!("{regex} *.tmp")));
        check("^a$", Some(&format!("{regex} a")));
        check("/srv/in/tmp/", Some("a pattern is relative to the watch path: write \"tmp/\""));
        for text in ["*.tmp", ".*", ".git", "a b", "a,b", "/srv", "node_modules/", "(?i)*.TMP", "a $b"] {
            check(text, None);
        }
    }
}
