//! Watch paths: absolute, literal or with `*`, `?` and `[...]`, split into components.
//!
//! A component with a wildcard is translated into a regular expression over bytes once, as
//! `glob(7)` defines the three forms: a wildcard never matches `/`, and a leading dot must be
//! matched explicitly.

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

    /// A path in which no byte is special.
    ///
    /// # Errors
    ///
    /// As [`PathPattern::parse`].
    pub fn literal(text: &[u8]) -> Result<Self, PatternError> {
        let mut pattern = Self::parse(text)?;
        for (component, name) in
            pattern.components.iter_mut().zip(text.split(|&b| b == b'/').filter(|n| !n.is_empty()))
        {
            *component = Component::Literal(name.into());
        }
        Ok(pattern)
    }
}

fn component(name: &[u8]) -> Result<Component, PatternError> {
    match name {
        b"." | b".." => Err(PatternError::Dots),
        _ if name.len() > 255 => Err(PatternError::TooLong),
        _ if name.iter().any(|byte| b"*?[\\".contains(byte)) => Ok(glob(name)),
        _ => Ok(Component::Literal(name.into())),
    }
}

/// Translates one component. A `[` without its `]` stands for itself, as in `glob(7)`; a backslash
/// takes the next byte literally.
fn glob(name: &[u8]) -> Component {
    let mut regex = String::from(r"\A");
    let mut plain = true;
    let mut literal = Vec::new();
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'*' => {
                plain = false;
                regex.push_str(".*");
            }
            b'?' => {
                plain = false;
                regex.push('.');
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
    regex.push_str(r"\z");
    let built = RegexBuilder::new(&regex).unicode(false).dot_matches_new_line(true).build();
    match built {
        Ok(regex) if !plain => {
            Component::Glob { regex, hidden: name.starts_with(b".") || name.starts_with(br"\.") }
        }
        // Only backslashes, or a reversed range such as `[z-a]`, which matches itself at most.
        _ => Component::Literal(literal.into()),
    }
}

/// The class behind a `[`, and what follows its `]`; `None` when there is no `]`.
fn class(rest: &[u8]) -> Option<(String, &[u8])> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let body = if negated { &rest[1..] } else { rest };
    // A `]` that comes first stands for itself.
    let end = 1 + body.get(1..)?.iter().position(|&byte| byte == b']')?;
    let mut text = String::from(if negated { "[^" } else { "[" });
    for &byte in &body[..end] {
        if byte == b'-' { text.push('-') } else { push_byte(&mut text, byte) }
    }
    text.push(']');
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
        assert_eq!(
            PathPattern::parse(&[b"/".as_slice(), &[b'x'; 256]].concat()).unwrap_err(),
            PatternError::TooLong
        );
    }

    #[test]
    fn a_literal_path_may_hold_wildcard_bytes() {
        let pattern = PathPattern::literal(b"/a*/[b]").unwrap();
        assert!(pattern.components[0].matches(b"a*"));
        assert!(!pattern.components[0].matches(b"ab"));
        assert!(pattern.components[1].matches(b"[b]"));
    }
}
