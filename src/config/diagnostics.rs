//! What is wrong with a configuration, where, and how it is shown.
//!
//! A place is a [`Span`] of bytes in a source; lines and columns are worked out only when something
//! is shown. Invariant: nothing that is shown holds a raw control character, whatever the
//! configuration holds.

use std::fmt;
use std::sync::Arc;

use crate::script::Remark;

/// Widest source line that is shown whole; of a longer one, the part around the caret.
const EXCERPT_COLUMNS_MAX: usize = 160;

/// What of a longer line is shown in front of the caret.
const EXCERPT_COLUMNS_BEFORE: usize = 60;

/// Some bytes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Index of the source, in the order they were read.
    pub file: usize,
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

impl Span {
    /// Part of this span, counted from its start and cut at its end.
    #[must_use]
    pub fn part(self, range: std::ops::Range<usize>) -> Self {
        let limit = |at: usize| self.start.saturating_add(at).min(self.end);
        Self { file: self.file, start: limit(range.start), end: limit(range.end) }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration works, though perhaps not as it was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In this source as a whole.
    File(usize),
    /// In these bytes.
    Span(Span),
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Self::Span(span)
    }
}

impl Place {
    /// In the order of the sources, and from top to bottom in each.
    fn order(self) -> (usize, usize) {
        match self {
            Self::File(file) => (file, 0),
            Self::Span(span) => (span.file, span.start),
        }
    }
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What is wrong and, where known, the likely correction. Holds no raw control character.
    pub message: String,
}

/// A text that diagnostics point into.
#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: Arc<[u8]>,
}

/// All that is wrong with a configuration, with the texts it is about.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    sources: Vec<Source>,
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Registers a text and returns its index. `name` may hold any bytes.
    pub fn add_source(&mut self, name: &[u8], text: Arc<[u8]>) -> usize {
        self.sources.push(Source { name: escape(name), text });
        self.sources.len() - 1
    }

    /// Notes an error.
    pub fn error(&mut self, place: impl Into<Place>, message: impl Into<String>) {
        self.add(Severity::Error, place.into(), message.into());
    }

    /// Notes a warning.
    pub fn warning(&mut self, place: impl Into<Place>, message: impl Into<String>) {
        self.add(Severity::Warning, place.into(), message.into());
    }

    /// Notes what is wrong with a placeholder of the command at `span`.
    pub fn remark(&mut self, span: Span, remark: Remark) {
        let severity = if remark.is_error { Severity::Error } else { Severity::Warning };
        self.add(severity, span.part(remark.range).into(), remark.message);
    }

    fn add(&mut self, severity: Severity, place: Place, message: String) {
        self.items.push(Diagnostic { severity, place, message });
    }

    /// Whether the configuration is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.severity == Severity::Error)
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Everything, in the order of the sources.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        let mut sorted: Vec<_> = self.items.iter().collect();
        sorted.sort_by_key(|item| item.place.order());
        sorted.into_iter()
    }

    /// `FILE:LINE:COLUMN: error: message`, in one line.
    #[must_use]
    pub fn headline(&self, item: &Diagnostic) -> String {
        format!("{}: {}: {}", self.locate(item.place), item.severity, item.message)
    }

    /// `FILE:LINE:COLUMN`, or `FILE` alone. Columns count characters, from 1.
    #[must_use]
    pub fn locate(&self, place: Place) -> String {
        match place {
            Place::File(file) => self.name(file).to_owned(),
            Place::Span(span) => {
                let (line, column) = self.position(span);
                format!("{}:{line}:{column}", self.name(span.file))
            }
        }
    }

    /// The source line, and below it a caret line; `None` for what concerns a whole file.
    #[must_use]
    pub fn excerpt(&self, item: &Diagnostic) -> Option<(String, String)> {
        let Place::Span(span) = item.place else { return None };
        let (start, line) = self.line(span);
        Some(excerpt(line, span.start - start, span.end.saturating_sub(start)))
    }

    fn name(&self, file: usize) -> &str {
        self.sources.get(file).map_or("?", |source| &source.name)
    }

    fn text(&self, file: usize) -> &[u8] {
        self.sources.get(file).map_or(&[], |source| &source.text)
    }

    /// The line in which a span starts, and where that line starts.
    fn line(&self, span: Span) -> (usize, &[u8]) {
        let text = self.text(span.file);
        let at = span.start.min(text.len());
        let start = text[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let end = text[at..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |len| at + len);
        let line = &text[start..end];
        (start, line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn position(&self, span: Span) -> (usize, usize) {
        let text = self.text(span.file);
        let at = span.start.min(text.len());
        let lines = text[..at].iter().filter(|&&byte| byte == b'\n').count();
        let (start, line) = self.line(span);
        let column = cells(line).iter().take_while(|cell| start + cell.at < at).count();
        (lines + 1, column + 1)
    }
}

impl fmt::Display for Diagnostics {
    /// Each headline with its excerpt, every line ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in self.iter() {
            writeln!(f, "{}", self.headline(item))?;
            if let Some((line, carets)) = self.excerpt(item) {
                writeln!(f, "    {line}\n    {carets}")?;
            }
        }
        Ok(())
    }
}

/// Bytes as text that is safe to show: control characters and what is not UTF-8 are escaped.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    cells(bytes).into_iter().map(|cell| cell.text).collect()
}

/// As [`escape`], between double quotes.
#[must_use]
pub fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", escape(bytes))
}

/// One character or stray byte, as it is shown.
struct Cell {
    /// Offset in the bytes it was made from.
    at: usize,
    text: String,
    /// Columns it takes on a terminal.
    width: usize,
}

fn cells(bytes: &[u8]) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let (text, width) = show(c);
            cells.push(Cell { at, text, width });
            at += c.len_utf8();
        }
        for &byte in chunk.invalid() {
            let text = format!(r"\x{byte:02x}");
            cells.push(Cell { at, width: text.len(), text });
            at += 1;
        }
    }
    cells
}

/// A character as it is shown, and its width. Escaped are control characters, and those that change
/// the direction of the text or take no room, which could hide what a line says.
fn show(c: char) -> (String, usize) {
    let direction = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    let hidden = direction || matches!(c, '\u{ad}' | '\u{feff}');
    let text = match c {
        '\t' => " ".repeat(4),
        _ if c.is_control() || hidden => c.escape_default().to_string(),
        _ => return (c.to_string(), width(c)),
    };
    let width = text.len();
    (text, width)
}

/// Columns of a printable character: the blocks of Unicode's East Asian Width table that are wide
/// as a whole, and the main block of combining marks. A miss shifts a caret, nothing else.
fn width(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A line and its caret line, cut to a width that a terminal can show.
fn excerpt(line: &[u8], start: usize, end: usize) -> (String, String) {
    let cells = cells(line);
    let total: usize = cells.iter().map(|cell| cell.width).sum();
    let before: usize = cells.iter().take_while(|cell| cell.at < start).map(|cell| cell.width).sum();
    let cut = if total > EXCERPT_COLUMNS_MAX { before.saturating_sub(EXCERPT_COLUMNS_BEFORE) } else { 0 };
    let mut shown = String::from(if cut > 0 { "..." } else { "" });
    let (mut indent, mut marked, mut column, mut used) = (shown.len(), 0, 0, 0);
    for cell in &cells {
        column += cell.width;
        if column <= cut {
            continue;
        }
        if used + cell.width > EXCERPT_COLUMNS_MAX {
            shown.push_str("...");
            break;
        }
        used += cell.width;
        shown.push_str(&cell.text);
        match cell.at {
            at if at < start => indent += cell.width,
            at if at < end => marked += cell.width,
            _ => {}
        }
    }
    let carets = format!("{}^{}", " ".repeat(indent), "~".repeat(marked.saturating_sub(1)));
    (shown, carets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &[u8], range: std::ops::Range<usize>, expected: &str) {
        let mut diagnostics = Diagnostics::default();
        let file = diagnostics.add_source(b"f", text.into());
        diagnostics.error(Span { file, start: range.start, end: range.end }, "bad");
        assert_eq!(diagnostics.to_string(), expected);
    }

    #[test]
    fn the_caret_stands_below_what_is_meant() {
        check(b"[a]\nkey = v\n", 4..7, "f:2:1: error: bad\n    key = v\n    ^~~\n");
        check(b"k = ab", 4..6, "f:1:5: error: bad\n    k = ab\n        ^~\n");
        check(b"k =\r\nx", 3..3, "f:1:4: error: bad\n    k =\n       ^\n");
        check(b"", 0..0, "f:1:1: error: bad\n    \n    ^\n");
    }

    #[test]
    fn tabs_control_characters_and_stray_bytes_keep_the_caret_aligned() {
        check(b"\tkey", 1..4, "f:1:2: error: bad\n        key\n        ^~~\n");
        check(b"a\xff\x1bb", 3..4, "f:1:4: error: bad\n    a\\xff\\u{1b}b\n               ^\n");
        check("ä日b".as_bytes(), 5..6, "f:1:3: error: bad\n    ä日b\n       ^\n");
        check("\u{202e}b".as_bytes(), 3..4, "f:1:2: error: bad\n    \\u{202e}b\n            ^\n");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_caret_is_shown() {
        let line = [vec![b'a'; 500], b"X".to_vec(), vec![b'b'; 500]].concat();
        let (shown, carets) = excerpt(&line, 500, 501);
        assert_eq!(shown.find('X'), carets.find('^'));
        assert!(shown.starts_with("...aaa") && shown.ends_with("bbb..."), "{shown}");
        assert!(shown.len() <= EXCERPT_COLUMNS_MAX + 6);
    }

    #[test]
    fn warnings_are_told_from_errors_and_files_come_in_order() {
        let mut diagnostics = Diagnostics::default();
        let first = diagnostics.add_source(b"a\x1b", b"x".as_slice().into());
        let second = diagnostics.add_source(b"b", b"".as_slice().into());
        diagnostics.warning(Place::File(second), "odd");
        assert!(!diagnostics.has_errors());
        diagnostics.error(Place::File(first), "bad");
        assert!(diagnostics.has_errors());
        assert_eq!(diagnostics.to_string(), "a\\u{1b}: error: bad\nb: warning: odd\n");
    }

    #[test]
    fn a_part_stays_inside_its_span() {
        let span = Span { file: 0, start: 10, end: 14 };
        assert_eq!(span.part(1..2), Span { file: 0, start: 11, end: 12 });
        assert_eq!(span.part(3..usize::MAX), Span { file: 0, start: 13, end: 14 });
    }

    proptest! {
        #[test]
        fn nothing_raw_reaches_the_terminal(text: Vec<u8>, start in 0_usize..400, len in 0_usize..400) {
            let mut diagnostics = Diagnostics::default();
            let file = diagnostics.add_source(&text, text.as_slice().into());
            diagnostics.error(Span { file, start, end: start + len }, quoted(&text));
            let shown = diagnostics.to_string();
            prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        }
    }
}
