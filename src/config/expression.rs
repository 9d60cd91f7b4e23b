//! Regular expressions over paths: as Python's `re.match` reads them, on bytes.
//!
//! An expression is anchored at the start of the path and nowhere else, `.` matches every byte, and
//! `\w`, `\d` and the like know ASCII only. A byte that is not UTF-8 stands for the same byte in
//! the path. A feature that Python has and this engine lacks is refused by its name.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use super::diagnostics::Bad;

/// Compiled size of one expression: ten times what a long list of alternatives needs, and small
/// enough for a router.
pub const SIZE_MAX: usize = 1 << 20;

/// Cache of one expression, or of one set of expressions. The cache grows with the paths that are matched,
/// up to this size. The automaton of the largest expression needs a cache of two and a half times its
/// compiled size. In a smaller cache the engine matches without automaton, a thousand times slower.
pub const CACHE_MAX: usize = 4 << 20;

/// Compiles an expression.
///
/// It is compiled as it stands first: that gives errors their place, and refuses an expression that
/// is only valid inside the group that anchors it, such as `a)|(b`.
pub fn compile(text: &[u8]) -> Result<Regex, Bad> {
    let translated = translate(text);
    compile_anywhere(text)?;
    // In verbose mode, `(?x)`, the expression may end in a comment, which the newline ends.
    let anchored = build(&format!(r"\A(?:{})", translated.pattern));
    anchored
        .or_else(|_| build(&format!("\\A(?:{}\n)", translated.pattern)))
        .map_err(|error| refusal(text, &translated, &error))
}

/// The text that [`compile`] gives to the engine.
pub fn anchored(text: &[u8]) -> Result<String, Bad> {
    compile(text).map(|regex| regex.as_str().to_owned())
}

/// Compiles an expression that may match anywhere, as Python's `re.sub` looks for it.
pub fn compile_anywhere(text: &[u8]) -> Result<Regex, Bad> {
    let translated = translate(text);
    build(&translated.pattern).map_err(|error| refusal(text, &translated, &error))
}

/// The expression inside the one that [`anchored`] has made.
pub fn shown(anchored: &str) -> &str {
    let inner = anchored.strip_prefix(r"\A(?:").and_then(|inner| inner.strip_suffix(')'));
    inner.map_or(anchored, |inner| inner.strip_suffix('\n').unwrap_or(inner))
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(SIZE_MAX)
        .dfa_size_limit(CACHE_MAX)
        .build()
}

/// An expression as the engine reads it, and where each of its characters came from.
struct Translated {
    pattern: String,
    origin: Vec<usize>,
}

impl Translated {
    fn push(&mut self, text: &str, origin: usize) {
        self.pattern.push_str(text);
        self.origin.extend(text.chars().map(|_| origin));
    }
}

/// Writes stray bytes as `\xHH`, and Python's `\Z` (the very end) as `\z`.
fn translate(text: &[u8]) -> Translated {
    let mut out = Translated { pattern: String::new(), origin: Vec::new() };
    let mut at = 0;
    let mut escaped = false;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let c_out = if escaped && c == 'Z' { 'z' } else { c };
            out.push(c_out.encode_utf8(&mut [0; 4]), at);
            escaped = c == '\\' && !escaped;
            at += c.len_utf8();
        }
        for byte in chunk.invalid() {
            // A backslash before it is there already.
            let hex = format!(r"\x{byte:02x}");
            out.push(if escaped { &hex[1..] } else { &hex }, at);
            escaped = false;
            at += 1;
        }
    }
    out
}

/// What the engine says, with its place in the text.
///
/// The engine shows the place only in its message: the expression, indented by four columns, and
/// below it a line of carets, one for each character to blame. Of several places (such as a group
/// name that stands twice) the last is taken.
fn refusal(text: &[u8], translated: &Translated, error: &regex::Error) -> Bad {
    let regex::Error::Syntax(shown) = error else {
        return Bad::whole(text, "this regular expression is too large when compiled");
    };
    let reason = shown.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("not valid");
    let carets = shown.lines().rev().filter_map(|line| line.strip_prefix("    "));
    let carets = carets.map(str::trim_end).find(|line| line.ends_with('^'));
    let mut range = carets.map_or(0..text.len(), |line| place(line, translated, text.len()));
    // The engine blames an unknown letter behind `(?` alone. Together they name the feature.
    if text[..range.start].ends_with(b"(?") {
        range.start -= 2;
    }
    let message = explain(reason, &text[range.start..], &text[range.clone()]);
    Bad { message: format!("bad regular expression: {message}"), range }
}

fn place(carets: &str, translated: &Translated, len: usize) -> Range<usize> {
    let last = carets.len() - 1;
    let first = carets.rfind(' ').map_or(0, |space| space + 1);
    let byte = |column: usize| translated.origin.get(column).copied().unwrap_or(len);
    let start = byte(first);
    start..byte(last + 1).max(start)
}

/// The engine's reason, or a clearer one for what Python users try.
fn explain(reason: &str, from: &[u8], blamed: &[u8]) -> String {
    let named = [
        ("(?<=", "look-behind, (?<=...), is not supported"),
        ("(?<!", "negative look-behind, (?<!...), is not supported"),
        ("(?=", "look-ahead, (?=...), is not supported"),
        ("(?!", "negative look-ahead, (?!...), is not supported"),
        ("(?P=", "a back-reference, (?P=NAME), is not supported"),
        ("(?(", "a conditional, (?(GROUP)...), is not supported"),
        ("(?>", "an atomic group, (?>...), is not supported"),
    ];
    if let Some((_, message)) = named.iter().find(|(start, _)| from.starts_with(start.as_bytes())) {
        return (*message).to_owned();
    }
    match reason {
        "backreferences are not supported" => {
            format!("a back-reference, {}, is not supported", String::from_utf8_lossy(blamed))
        }
        "Unicode not allowed here" => {
            "a class matches one byte, so it can hold ASCII only: write (?:x|y) for [xy]".to_owned()
        }
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(expression: &[u8], path: &[u8], expected: bool) {
        assert_eq!(compile(expression).unwrap().is_match(path), expected, "{expression:?} {path:?}");
    }

    fn refuse(expression: &[u8], blamed: &[u8], message: &str) {
        let bad = compile(expression).unwrap_err();
        let shown = (bad.message.as_str(), &expression[bad.range]);
        assert_eq!(shown, (format!("bad regular expression: {message}").as_str(), blamed));
    }

    #[test]
    fn anchored_at_the_start_only() {
        matches(b"/a", b"/ab", true);
        matches(b"a", b"/a", false);
        matches(b"^/a$", b"/a", true);
        matches(b"^/a$", b"/ab", false);
        matches(b"/a|/b", b"/x/b", false);
        matches(b"/a|/b", b"/b/x", true);
        matches(b"(?m)^b", b"a\nb", false);
    }

    #[test]
    fn works_on_bytes() {
        matches(b"^/a.b$", b"/a\nb", true);
        matches(b"^/a.b$", b"/a\xffb", true);
        matches(b"^/\xff+$", b"/\xff\xff", true);
        matches(b"^/\\\xff$", b"/\xff", true);
        matches("^/ä$".as_bytes(), "/ä".as_bytes(), true);
        matches(b"^/#;$", b"/#;", true);
    }

    #[test]
    fn pythons_spelling_is_understood() {
        matches(br"^/(?P<path>.*)\.x\Z", b"/a.x", true);
        matches(br"^/a\Z", b"/a\n", false);
        matches(br"^/\\Z", br"/\Z", true);
        matches(b"(?x) /a # comment", b"/a", true);
    }

    #[test]
    fn errors_point_into_the_expression() {
        refuse(b"^/a(b", b"(", "unclosed group");
        refuse(b"a)|(b", b")", "unopened group");
        refuse(b"/[z-a]", b"z-a", "invalid character class range, the start must be <= the end");
        refuse(b"\xff\xfe(?P<a>.)(?P<a>.)", b"a", "duplicate capture group name");
        refuse("ä/x**{".as_bytes(), b"{", "unclosed counted repetition");
        refuse(br"/\y", br"\y", "unrecognized escape sequence");
        refuse(b"*", b"*", "repetition operator missing expression");
        refuse(b"/a\\", b"\\", "incomplete escape sequence, reached end of pattern prematurely");
    }

    #[test]
    fn what_the_engine_lacks_is_refused_by_name() {
        refuse(b"/a(?=b)", b"(?=", "look-ahead, (?=...), is not supported");
        refuse(b"/a(?!b)", b"(?!", "negative look-ahead, (?!...), is not supported");
        refuse(b"(?<=a)b", b"(?<=", "look-behind, (?<=...), is not supported");
        refuse(b"(?<!a)b", b"(?<!", "negative look-behind, (?<!...), is not supported");
        refuse(br"(a)\1", br"\1", r"a back-reference, \1, is not supported");
        refuse(b"(?P<n>a)(?P=n)", b"(?P", "a back-reference, (?P=NAME), is not supported");
        refuse(b"(a)(?(1)b)", b"(?(", "a conditional, (?(GROUP)...), is not supported");
        refuse(b"(?>a)", b"(?>", "an atomic group, (?>...), is not supported");
        let class = "a class matches one byte, so it can hold ASCII only: write (?:x|y) for [xy]";
        refuse("[äb]".as_bytes(), "ä".as_bytes(), class);
    }

    #[test]
    fn size_is_bounded() {
        let bad = compile(b"(?:.{1000}){1000}").unwrap_err();
        assert_eq!(bad.message, "this regular expression is too large when compiled");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(text in prop::collection::vec(
            prop::sample::select(b"()[]{}?*+|\\.^$P<a>=!:-&~#x1Z\xff\xc3\xa4\x80 ".as_slice()), 0..24)
        ) {
            if let Err(bad) = compile(&text) {
                prop_assert!(bad.range.end <= text.len());
                prop_assert!(!bad.message.is_empty());
            }
        }
    }
}
