//! Bytes made safe to show: in the log, in error messages, on a terminal.
//!
//! Names come from people who may wish the reader ill: a newline would forge a log line, an
//! escape sequence would drive the terminal, a bidirectional control would show another name than
//! the one on disk. So these are shown as `\n`, `\xHH`, and so is what is not UTF-8.

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

/// Whether a `key=value` needs quotes around the value to be read back without doubt.
#[must_use]
pub fn needs_quotes(bytes: &[u8]) -> bool {
    bytes.is_empty()
        || std::str::from_utf8(bytes).is_err()
        || String::from_utf8_lossy(bytes)
            .chars()
            .any(|char| matches!(char, ' ' | '"' | '=' | '\\') || is_unsafe(char))
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

/// Characters that act instead of being seen: C0 and C1 controls, DEL, line and paragraph
/// separators, bidirectional controls (Unicode, Bidi_Control), and the byte order mark.
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for doubtful in [&b""[..], b"a b", b"a=b", b"a\"", b"\\", b"\xff", b"\n", "\u{202e}".as_bytes()] {
            assert!(needs_quotes(doubtful), "{doubtful:?}");
        }
    }
}
