//! Watch paths: absolute, literal or with `*`, `?` and `[...]`, split into components.
//!
//! A component with a wildcard is translated into a regular expression over bytes once, as
//! `glob(7)` defines the three forms: a wildcard never matches `/`, and a leading dot must be
//! matched explicitly. A name that is written like the pattern itself matches too, because `[HD]` in a name
//! is more common than a class of two letters.

use regex::bytes::{Regex, RegexBuilder};

/// One watch path, split at `/`.
#[derive(Clone, Debug)]
pub struct PathPattern {
    /// As written, without doubled or trailing slashes.
    pub text: Vec<u8>,
    /// The names between the slashes; empty for `/` itself.
    pub components: Vec<Component>,
}

/// One name in a watch path.
#[derive(Clone, Debug)]
pub enum Component {
    /// Exactly this name.
    Literal(Box<[u8]>),
    /// Any name this expression matches; one that starts with a dot only if the pattern does.
    Glob {
        /// The whole name, anchored at both ends.
        regex: Regex,
        /// Whether the pattern starts with a dot.
        hidden: bool,
    },
}

impl Component {
    /// Whether a directory entry of this name is meant.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => **literal == *name,
            Self::Glob { regex, hidden } => (*hidden || !name.starts_with(b".")) && regex.is_match(name),
        }
    }
}

/// Why a text is not a watch path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It does not start with `/`.
    Relative,
    /// It holds a `.` or `..` component, which events never show.
    Dots,
    /// A component is longer than the 255 bytes that Linux allows.
    TooLong,
    /// It holds `**`, which would mean the same as `*`.
    DoubleStar,
    /// It holds a NUL byte, which no path can.
    Nul,
}

impl PathPattern {
    /// Splits and translates a path.
    ///
    /// # Errors
    ///
    /// When no directory entry could ever be meant; see [`PatternError`].
    pub fn parse(text: &[u8]) -> Result<Self, PatternError> {
        Self::of_names(text, component)
    }

    /// A path in which no byte is special.
    ///
    /// # Errors
    ///
    /// As [`PathPattern::parse`].
    pub fn literal(text: &[u8]) -> Result<Self, PatternError> {
        Self::of_names(text, literal)
    }

    /// A path of which the first components have no special bytes, as long as what they name is there.
    ///
    /// # Errors
    ///
    /// As [`PathPattern::parse`].
    pub fn parse_on(text: &[u8], exists: &dyn Fn(&[u8]) -> bool) -> Result<Self, PatternError> {
        let mut prefix = Vec::new();
        let mut is_there = true;
        Self::of_names(text, |name| {
            prefix.extend([b"/", name].concat());
            if !has_wildcards(name) {
                return literal(name);
            }
            // A name that the pattern matches needs no exception, and takes none of the others away.
            let parsed = component(name);
            is_there &= !parsed.as_ref().is_ok_and(|parsed| is_own_match(name, parsed)) && exists(&prefix);
            if is_there { literal(name) } else { parsed }
        })
    }

    fn of_names(
        text: &[u8],
        component: impl FnMut(&[u8]) -> Result<Component, PatternError>,
    ) -> Result<Self, PatternError> {
        if text.first() != Some(&b'/') {
            return Err(PatternError::Relative);
        }
        if text.contains(&0) {
            return Err(PatternError::Nul);
        }
        let names = text.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let components = names.clone().map(component).collect::<Result<Vec<_>, _>>()?;
        let text = if components.is_empty() {
            b"/".to_vec()
        } else {
            names.flat_map(|name| [b"/", name].concat()).collect()
        };
        Ok(Self { text, components })
    }

    /// What of a path lies below the part that this pattern names; empty for that part itself.
    #[must_use]
    pub fn relative<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.nth(self.components.len()).map_or(&[], |(at, _)| &path[at + 1..])
    }

    /// Whether a component has wildcards.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.components.iter().any(|component| matches!(component, Component::Glob { .. }))
    }

    /// The components before the first that has wildcards, as a path that ends in a slash.
    #[must_use]
    pub fn fixed(&self) -> Vec<u8> {
        let mut fixed = b"/".to_vec();
        for component in &self.components {
            let Component::Literal(name) = component else { break };
            fixed.extend([name, b"/".as_slice()].concat());
        }
        fixed
    }
}

fn has_wildcards(name: &[u8]) -> bool {
    name.iter().any(|byte| b"*?[\\".contains(byte))
}

/// Whether the wildcards of a pattern match the pattern's own text, as `*` and `?` do.
fn is_own_match(name: &[u8], parsed: &Component) -> bool {
    matches!(parsed, Component::Glob { .. }) && !name.iter().any(|byte| b"[\\".contains(byte))
}

fn literal(name: &[u8]) -> Result<Component, PatternError> {
    match name {
        b"." | b".." => Err(PatternError::Dots),
        _ if name.len() > 255 => Err(PatternError::TooLong),
        _ => Ok(Component::Literal(name.into())),
    }
}

fn component(name: &[u8]) -> Result<Component, PatternError> {
    match literal(name) {
        Ok(_) if name.windows(2).any(|pair| pair == b"**") => Err(PatternError::DoubleStar),
        Ok(_) if has_wildcards(name) => Ok(glob(name)),
        other => other,
    }
}

/// A name with wildcards, translated.
struct Translated {
    /// An expression without anchors. It matches no slash.
    regex: String,
    /// What it means if it has no wildcards.
    literal: Option<Vec<u8>>,
}

fn glob(name: &[u8]) -> Component {
    let translated = translate(name);
    let mut own = String::new();
    name.iter().for_each(|byte| push_byte(&mut own, *byte));
    let regex = format!(r"\A(?:{}|{own})\z", translated.regex);
    let built = RegexBuilder::new(&regex).unicode(false).dot_matches_new_line(true).build();
    match (translated.literal, built) {
        (None, Ok(regex)) => {
            Component::Glob { regex, hidden: name.starts_with(b".") || name.starts_with(br"\.") }
        }
        (Some(literal), _) => Component::Literal(literal.into()),
        // A reversed range such as `[z-a]`.
        (None, Err(_)) => Component::Literal(name.into()),
    }
}

/// An expression for a name or a path, as `glob(7)` defines the wildcards, except that they match a leading
/// dot too. It has no anchors, and is for bytes: with `unicode(false)` and `dot_matches_new_line(true)`.
#[must_use]
pub fn glob_expression(text: &[u8]) -> String {
    let names = text.split(|&byte| byte == b'/').map(|name| translate(name).regex);
    names.collect::<Vec<_>>().join("/")
}

/// Translates one component. A `[` without its `]` stands for itself, as in `glob(7)`; a backslash
/// takes the next byte literally.
fn translate(name: &[u8]) -> Translated {
    let mut regex = String::new();
    let mut plain = true;
    let mut literal = Vec::new();
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'*' => {
                plain = false;
                regex.push_str("[^/]*");
            }
            b'?' => {
                plain = false;
                regex.push_str("[^/]");
            }
            b'[' if class(rest).is_some() => {
                plain = false;
                let (text, tail) = class(rest).unwrap_or_default();
                regex.push_str(&text);
                rest = tail;
            }
            b'\\' if !rest.is_empty() => {
                literal.push(rest[0]);
                push_byte(&mut regex, rest[0]);
                rest = &rest[1..];
            }
            _ => {
                literal.push(byte);
                push_byte(&mut regex, byte);
            }
        }
    }
    Translated { regex, literal: plain.then_some(literal) }
}

/// The class behind a `[`, and what follows its `]`; `None` when there is no `]`.
fn class(rest: &[u8]) -> Option<(String, &[u8])> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let body = if negated { &rest[1..] } else { rest };
    // A `]` that comes first stands for itself.
    let end = 1 + body.get(1..)?.iter().position(|&byte| byte == b']')?;
    let mut text = String::from(if negated { "[[^" } else { "[[" });
    for &byte in &body[..end] {
        if byte == b'-' { text.push('-') } else { push_byte(&mut text, byte) }
    }
    text.push_str("]&&[^/]]");
    Some((text, &body[end + 1..]))
}

fn push_byte(regex: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || byte == b'_' {
        regex.push(char::from(byte));
    } else {
        regex.push_str(&format!(r"\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &[u8], expected: bool) {
        let parsed = PathPattern::parse(format!("/{pattern}").as_bytes()).unwrap();
        assert_eq!(parsed.components[0].matches(name), expected, "{pattern} against {name:?}");
    }

    #[test]
    fn wildcards_match_as_glob_7_says() {
        check("*", b"a", true);
        check("*", b".a", false);
        check("*", b"a\nb\xff", true);
        check("*.txt", b"x.txt", true);
        check("*.txt", b".txt", false);
        check("*.txt", b"x.txt2", false);
        check("a*", b"a", true);
        check("a*b*c", b"axxbyyc", true);
        check("?", b"a", true);
        check("?", b".", false);
        check("a?", b"a.", true);
        check("[ab]c", b"bc", true);
        check("[!ab]c", b"bc", false);
        check("[!ab]c", b"cc", true);
        check("[a-c]", b"b", true);
        check("[]x]", b"]", true);
        check("[x", b"[x", true);
        check("[z-a]", b"[z-a]", true);
        check("[z-a]", b"z", false);
        check(r"\*", b"*", true);
        check(r"\*", b"a", false);
        check("a.c", b"abc", false);
    }

    #[test]
    fn paths_are_normalised_and_bad_ones_refused() {
        assert_eq!(PathPattern::parse(b"//a///b/").unwrap().text, b"/a/b");
        assert_eq!(PathPattern::parse(b"/").unwrap().text, b"/");
        assert_eq!(PathPattern::parse(b"a/b").unwrap_err(), PatternError::Relative);
        assert_eq!(PathPattern::parse(b"/a/../b").unwrap_err(), PatternError::Dots);
        assert_eq!(PathPattern::parse(b"/a\0").unwrap_err(), PatternError::Nul);
        assert_eq!(PathPattern::parse(b"/a/**").unwrap_err(), PatternError::DoubleStar);
        assert_eq!(PathPattern::literal(b"/a/**").unwrap().text, b"/a/**");
        assert_eq!(
            PathPattern::parse(&[b"/".as_slice(), &[b'x'; 256]].concat()).unwrap_err(),
            PatternError::TooLong
        );
    }

    #[test]
    fn a_name_like_the_pattern_itself_is_meant_too() {
        check("Movies [HD]", b"Movies [HD]", true);
        check("Movies [HD]", b"Movies H", true);
        check("Movies [HD]", b"Movies HD", false);
        check("a?[b]", b"a?[b]", true);
        let on = |pattern: &str, there: &'static [&str]| {
            let exists = |path: &[u8]| there.iter().any(|one| one.as_bytes() == path);
            PathPattern::parse_on(pattern.as_bytes(), &exists).unwrap()
        };
        let check = |pattern, there, expected: &str| {
            let parsed = on(pattern, there);
            let kinds = parsed.components.iter().map(|one| match one {
                Component::Literal(_) => 'l',
                Component::Glob { .. } => 'g',
            });
            assert_eq!(kinds.collect::<String>(), expected, "{pattern}");
        };
        check("/a [b]", &["/a [b]"], "l");
        check("/a [b]", &[], "g");
        check("/x/[b]/y/[c]", &["/x/[b]", "/x/[b]/y/[c]"], "llll");
        check("/x/[b]/y/[c]", &["/x/[b]/y/[c]"], "lglg");
        check("/[b]/*", &["/[b]", "/[b]/*"], "lg");
        // A user who makes a directory with this name does not take the others away.
        check("/*", &["/*"], "g");
        check("/a?", &["/a?"], "g");
        check("/a", &[], "l");
    }

    #[test]
    fn an_expression_for_paths_matches_no_slash_by_a_wildcard() {
        let check = |glob: &str, path: &str, expected: bool| {
            let mut regex = RegexBuilder::new(&format!(r"\A(?:{})\z", glob_expression(glob.as_bytes())));
            let regex = regex.unicode(false).dot_matches_new_line(true).build().unwrap();
            assert_eq!(regex.is_match(path.as_bytes()), expected, "{glob} against {path}");
        };
        check("*.tmp", ".x.tmp", true);
        check("*.tmp", "a/b.tmp", false);
        check("a/*", "a/b", true);
        check("a/*", "a/b/c", false);
        check("a?b", "a/b", false);
        check("a[!x]b", "a/b", false);
        check("a[+-9]b", "a/b", false);
        check("a[+-9]b", "a5b", true);
        check("a[b/c]d", "a[b/c]d", true);
        check("a.c", "abc", false);
    }

    #[test]
    fn parts_of_a_path() {
        let pattern = PathPattern::parse(b"/srv/*/x").unwrap();
        assert_eq!((pattern.fixed(), pattern.is_wild()), (b"/srv/".to_vec(), true));
        assert_eq!(pattern.relative(b"/srv/a/x/b/c"), b"b/c");
        assert_eq!((pattern.relative(b"/srv/a/x"), pattern.relative(b"/srv")), (&[][..], &[][..]));
        assert_eq!(PathPattern::parse(b"/").unwrap().relative(b"/a/b"), b"a/b");
        assert_eq!(PathPattern::literal(b"/a/[b]").unwrap().fixed(), b"/a/[b]/");
    }

    #[test]
    fn a_literal_path_may_hold_wildcard_bytes() {
        let pattern = PathPattern::literal(b"/a*/[b]").unwrap();
        assert!(pattern.components[0].matches(b"a*"));
        assert!(!pattern.components[0].matches(b"ab"));
        assert!(pattern.components[1].matches(b"[b]"));
    }
}
