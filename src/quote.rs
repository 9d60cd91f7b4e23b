//! Bytes made safe to show: in the log, in error messages, in tables and JSON, on a terminal.
//!
//! A user who may choose a name may wish the reader ill: a newline would forge a log line, an escape
//! sequence would drive the terminal, a bidirectional control would show another name than the one on
//! disk, and of two names that differ in a character without width one would pass for the other. So
//! these characters are shown as `\n` or `\xHH`, as are bytes that are not UTF-8. [`is_unsafe`] is the one
//! rule that says which characters are unsafe. All output of the daemon and of its client follows it.

use std::fmt::{self, Write};

/// Where the text will stand, which decides about quotes and backslashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Free text: a backslash and a quote stay as they are.
    Plain,
    /// Between double quotes: both get a backslash, so that the bytes can be had back exactly.
    Quoted,
}

/// Appends `bytes` to `out`, at most `max` bytes of text, never half of a character or escape.
///
/// Returns whether everything fitted.
pub fn escape(out: &mut String, bytes: &[u8], style: Style, max: usize) -> bool {
    let end = out.len().saturating_add(max);
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if !push(out, end, |out| escape_char(out, char, style)) {
                return false;
            }
        }
        for &byte in chunk.invalid() {
            if !push(out, end, |out| escape_byte(out, byte)) {
                return false;
            }
        }
    }
    true
}

/// Bytes as free text, whole.
#[must_use]
pub fn plain(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    escape(&mut text, bytes, Style::Plain, usize::MAX);
    text
}

/// As [`plain`], line by line: a newline stays one.
#[must_use]
pub fn lines(bytes: &[u8]) -> String {
    bytes.split(|&byte| byte == b'\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Whether a `key=value` needs quotes around the value to be read back without doubt.
#[must_use]
pub fn needs_quotes(bytes: &[u8]) -> bool {
    bytes.is_empty()
        || std::str::from_utf8(bytes).is_err()
        || String::from_utf8_lossy(bytes)
            .chars()
            .any(|char| char.is_whitespace() || matches!(char, '"' | '=' | '\\') || is_unsafe(char))
}

/// Shows bytes between double quotes.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.0.len());
        escape(&mut text, self.0, Style::Quoted, usize::MAX);
        write!(f, "\"{text}\"")
    }
}

/// Appends one piece unless it would reach beyond `end`.
fn push(out: &mut String, end: usize, piece: impl FnOnce(&mut String)) -> bool {
    let before = out.len();
    piece(out);
    if out.len() > end {
        out.truncate(before);
    }
    out.len() > before
}

fn escape_char(out: &mut String, char: char, style: Style) {
    match char {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '"' | '\\' if style == Style::Quoted => {
            out.push('\\');
            out.push(char);
        }
        _ if is_unsafe(char) => {
            let mut buffer = [0; 4];
            for byte in char.encode_utf8(&mut buffer).bytes() {
                escape_byte(out, byte);
            }
        }
        _ => out.push(char),
    }
}

fn escape_byte(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

/// Characters that have an effect or no width instead of a shape: controls (C0, DEL, C1), line and
/// paragraph separators, format characters with the bidirectional controls, and all others that are
/// ignorable by default, such as fillers, variation selectors and tags. (Unicode 16: Cc, Zl, Zp, Cf, Default_Ignorable_Code_Point.)
#[must_use]
pub const fn is_unsafe(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_control();
    }
    matches!(char,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}'
        | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Bytes that a hostile user might choose, for the tests of all that shows them.
#[cfg(test)]
pub(crate) fn hostile() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let known = "\u{1b}\n\t\u{9b}\u{ad}\u{200b}\u{2028}\u{202e}\u{2060}\u{feff}\u{e0001}a \"\\="
        .chars()
        .collect::<Vec<_>>();
    let char = prop_oneof![prop::sample::select(known), any::<char>()]
        .prop_map(|char| char.to_string().into_bytes());
    let piece = prop_oneof![4 => char, 1 => prop::collection::vec(any::<u8>(), 0..4)];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8], plain: &str, quoted: &str) {
        let mut out = String::new();
        assert!(escape(&mut out, bytes, Style::Plain, usize::MAX));
        assert_eq!(out, plain);
        assert_eq!(Quoted(bytes).to_string(), quoted);
    }

    #[test]
    fn escapes_what_acts_and_keeps_what_is_read() {
        check(b"a b", "a b", "\"a b\"");
        check(b"\n\r\t\x1b[0m\x7f\0", r"\n\r\t\x1b[0m\x7f\x00", "\"\\n\\r\\t\\x1b[0m\\x7f\\x00\"");
        check(b"\"\\", "\"\\", "\"\\\"\\\\\"");
        check("gr\u{fc}n \u{1f600}".as_bytes(), "gr\u{fc}n \u{1f600}", "\"gr\u{fc}n \u{1f600}\"");
        check(b"\xff\xc3", r"\xff\xc3", "\"\\xff\\xc3\"");
        check("\u{9b}\u{202e}\u{2028}".as_bytes(), r"\xc2\x9b\xe2\x80\xae\xe2\x80\xa8", {
            "\"\\xc2\\x9b\\xe2\\x80\\xae\\xe2\\x80\\xa8\""
        });
    }

    #[test]
    fn what_acts_or_hides_is_unsafe() {
        let unsafe_ones = "\0\u{1b}\n\u{7f}\u{80}\u{9b}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200b}\u{200d}\u{200e}\
            \u{2028}\u{2029}\u{202e}\u{2060}\u{2066}\u{206f}\u{3164}\u{fe0f}\u{feff}\u{fff9}\u{e0001}\u{e01ef}";
        for char in unsafe_ones.chars() {
            assert!(is_unsafe(char), "{char:?}");
        }
        for char in " a~\u{a0}\u{a1}\u{ae}\u{e9}\u{301}\u{5d0}\u{627}\u{2026}\u{3000}\u{65e5}\u{fffd}\u{1f600}\u{10fffd}".chars() {
            assert!(!is_unsafe(char), "{char:?}");
        }
        assert!((0..=0x10_ffff).filter_map(char::from_u32).all(|char| is_unsafe(char) || !char.is_control()));
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(lines(b"a\n\x1b\xff\tb\r\n"), "a\n\\x1b\\xff\\tb\\r\n");
        assert_eq!(lines(b""), "");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in hostile()) {
            let shown = [plain(&text), Quoted(&text).to_string(), lines(&text).replace('\n', "")];
            prop_assert!(!shown.concat().chars().any(is_unsafe), "{shown:?}");
        }
    }

    #[test]
    fn stops_before_the_piece_that_does_not_fit() {
        for (max, expected) in [(0, ""), (1, "a"), (2, "a"), (3, r"a\n"), (4, r"a\n"), (5, "a\\n\u{fc}")] {
            let mut out = String::new();
            let whole = escape(&mut out, "a\n\u{fc}".as_bytes(), Style::Plain, max);
            assert_eq!((out.as_str(), whole), (expected, max == 5), "max {max}");
        }
    }

    #[test]
    fn quotes_are_for_values_that_would_be_misread() {
        for plain in [&b"/a/b"[..], b"7", "gr\u{fc}n".as_bytes()] {
            assert!(!needs_quotes(plain), "{plain:?}");
        }
        for doubtful in [
            &b""[..],
            b"a b",
            b"a=b",
            b"a\"",
            b"\\",
            b"\xff",
            b"\n",
            "\u{202e}".as_bytes(),
            "a\u{a0}".as_bytes(),
            "\u{ad}".as_bytes(),
        ] {
            assert!(needs_quotes(doubtful), "{doubtful:?}");
        }
    }
}
