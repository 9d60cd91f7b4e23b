//! What is wrong with a configuration, where, and how it is shown.
//!
//! A place is a [`Span`] of bytes in a source; lines and columns are worked out only when something
//! is shown. Invariant: nothing that is shown holds a character that is not safe to show ([`is_unsafe`]), whatever the
//! configuration holds.

use std::cell::OnceCell;
use std::fmt;
use std::ops::Range;
use std::str::Utf8Chunk;
use std::sync::Arc;

use super::suggest;
use crate::quote::{Style, escape, is_unsafe, plain};
use crate::script::Remark;

/// Widest source line that is shown whole; of a longer one, the part around the caret.
const EXCERPT_COLUMNS_MAX: usize = 160;

/// What of a line is looked at on each side of the caret: as many bytes as the columns can hold.
const EXCERPT_BYTES_MAX: usize = EXCERPT_COLUMNS_MAX * 4;

/// The most errors, and the most warnings, that are kept and shown. A reader mends fewer at a time, and at
/// a reload the log has room for other records.
pub const SHOWN_MAX: usize = 100;

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
    pub fn part(self, range: Range<usize>) -> Self {
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
    /// What is wrong and, where known, the likely correction. Holds no unsafe character.
    pub message: String,
}

/// Why a value is refused, and which of its bytes are to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// What is wrong.
    pub message: String,
    /// Offsets in the value.
    pub range: Range<usize>,
}

impl Bad {
    /// The value as a whole is to blame.
    pub fn whole(text: &[u8], message: impl Into<String>) -> Self {
        Self { message: message.into(), range: 0..text.len() }
    }
}

/// A text that diagnostics point into.
#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: Arc<[u8]>,
    /// Where each line starts, once this was asked.
    lines: OnceCell<Vec<usize>>,
}

impl Source {
    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let ends = self.text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        })
    }
}

/// All that is wrong with a configuration, with the texts it is about.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    sources: Vec<Source>,
    /// At most [`SHOWN_MAX`] errors and as many warnings.
    items: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// Registers a text and returns its index. `name` may hold any bytes.
    pub fn add_source(&mut self, name: &[u8], text: Arc<[u8]>) -> usize {
        self.sources.push(Source { name: plain(name), text, lines: OnceCell::new() });
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
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= SHOWN_MAX {
            let message = plain(message.as_bytes());
            self.items.push(Diagnostic { severity, place, message });
        }
    }

    /// `, did you mean X?`, or nothing: also when no further error is shown.
    #[must_use]
    pub fn hint<'a>(&self, word: &[u8], candidates: impl IntoIterator<Item = &'a str>) -> String {
        if self.is_full() { String::new() } else { suggest::hint(word, candidates) }
    }

    /// Whether a further error is only counted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.errors >= SHOWN_MAX
    }

    /// The number of errors and warnings that are not shown, in words.
    #[must_use]
    pub fn omitted(&self) -> Option<String> {
        let counts = [(self.errors, "error"), (self.warnings, "warning")];
        let counts = counts.map(|(count, what)| (count.saturating_sub(SHOWN_MAX), what));
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let words =
            counts.map(|(count, what)| format!("{count} more {what}{}", if count == 1 { "" } else { "s" }));
        let words: Vec<String> = words.collect();
        (!words.is_empty())
            .then(|| format!("{}: only the first {SHOWN_MAX} of a kind are shown", words.join(", ")))
    }

    /// Whether the configuration is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
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
        let (_, start, line) = self.line(span);
        Some(excerpt(line, span.start.saturating_sub(start), span.end.saturating_sub(start)))
    }

    fn name(&self, file: usize) -> &str {
        self.sources.get(file).map_or("?", |source| &source.name)
    }

    /// The line that an offset is in: its number from 0, its start, and what it holds.
    fn line(&self, span: Span) -> (usize, usize, &[u8]) {
        let Some(source) = self.sources.get(span.file) else { return (0, 0, &[]) };
        let at = span.start.min(source.text.len());
        let starts = source.lines();
        let number = starts.partition_point(|start| *start <= at).saturating_sub(1);
        let start = starts.get(number).copied().unwrap_or_default();
        let end = starts.get(number + 1).map_or(source.text.len(), |next| next - 1);
        let line = &source.text[start..end];
        (number, start, line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn position(&self, span: Span) -> (usize, usize) {
        let (number, start, line) = self.line(span);
        let before = &line[..span.start.saturating_sub(start).min(line.len())];
        let chars = |chunk: Utf8Chunk<'_>| chunk.valid().chars().count() + chunk.invalid().len();
        (number + 1, before.utf8_chunks().map(chars).sum::<usize>() + 1)
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
        match self.omitted() {
            Some(omitted) => writeln!(f, "{omitted}"),
            None => Ok(()),
        }
    }
}

/// The longest text that a message repeats. The place of the error says the rest.
const QUOTED_LEN_MAX: usize = 200;

/// Bytes between double quotes, safe to show. A long text is cut.
#[must_use]
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    let is_whole = escape(&mut text, bytes, Style::Quoted, QUOTED_LEN_MAX);
    text + if is_whole { "\"" } else { "...\"" }
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
            let text = match c {
                '\t' => " ".repeat(4),
                _ => plain(c.encode_utf8(&mut [0; 4]).as_bytes()),
            };
            let width = if is_unsafe(c) { text.len() } else { width(c) };
            cells.push(Cell { at, text, width });
            at += c.len_utf8();
        }
        for &byte in chunk.invalid() {
            let text = plain(&[byte]);
            cells.push(Cell { at, width: text.len(), text });
            at += 1;
        }
    }
    cells
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

/// A line and its caret line, cut to a width that a terminal can show. Of a long line only the part
/// around the caret is looked at.
fn excerpt(line: &[u8], start: usize, end: usize) -> (String, String) {
    let first = char_start(line, start.saturating_sub(EXCERPT_BYTES_MAX)).min(start);
    let last = char_start(line, start.saturating_add(EXCERPT_BYTES_MAX));
    let (start, end) = (start - first, end.saturating_sub(first));
    let cells = cells(&line[first..last]);
    let total: usize = cells.iter().map(|cell| cell.width).sum();
    let before: usize = cells.iter().take_while(|cell| cell.at < start).map(|cell| cell.width).sum();
    let cut = if total > EXCERPT_COLUMNS_MAX { before.saturating_sub(EXCERPT_COLUMNS_BEFORE) } else { 0 };
    let mut shown = String::from(if cut > 0 || first > 0 { "..." } else { "" });
    let (mut indent, mut marked, mut column, mut used) = (shown.len(), 0, 0, 0);
    let mut is_whole = last == line.len();
    for cell in &cells {
        column += cell.width;
        if column <= cut {
            continue;
        }
        if used + cell.width > EXCERPT_COLUMNS_MAX {
            is_whole = false;
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
    shown.push_str(if is_whole { "" } else { "..." });
    let carets = format!("{}^{}", " ".repeat(indent), "~".repeat(marked.saturating_sub(1)));
    (shown, carets)
}

/// The first offset from `at` on that is not within a character of UTF-8, which has 4 bytes at most.
fn char_start(line: &[u8], at: usize) -> usize {
    let is_start = |at: &usize| line.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    (at..at + 4).find(is_start).unwrap_or(at).min(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quote::hostile;
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
        check(b"a\xff\x1bb", 3..4, "f:1:4: error: bad\n    a\\xff\\x1bb\n             ^\n");
        check("ä日b".as_bytes(), 5..6, "f:1:3: error: bad\n    ä日b\n       ^\n");
        check("\u{202e}b".as_bytes(), 3..4, "f:1:2: error: bad\n    \\xe2\\x80\\xaeb\n                ^\n");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_caret_is_shown() {
        let line = [vec![b'a'; 500], b"X".to_vec(), vec![b'b'; 500]].concat();
        let (shown, carets) = excerpt(&line, 500, 501);
        assert_eq!(shown.find('X'), carets.find('^'));
        assert!(shown.starts_with("...aaa") && shown.ends_with("bbb..."), "{shown}");
        assert!(shown.len() <= EXCERPT_COLUMNS_MAX + 6);
        // Cut within characters of several bytes, far from both ends.
        let line = ["\u{65e5}".repeat(10_000), "X".into(), "\u{65e5}".repeat(10_000)].concat();
        let (shown, carets) = excerpt(line.as_bytes(), 30_000, 30_001);
        let columns = |text: &str| text.chars().map(width).sum::<usize>();
        assert_eq!(columns(&shown[..shown.find('X').unwrap()]), carets.find('^').unwrap());
        assert!(!shown.contains('\\') && shown.ends_with("..."), "{shown}");
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
        assert_eq!(diagnostics.to_string(), "a\\x1b: error: bad\nb: warning: odd\n");
    }

    #[test]
    fn only_so_many_are_kept_and_the_others_counted() {
        let mut diagnostics = Diagnostics::default();
        let file = diagnostics.add_source(b"f", b"".as_slice().into());
        for _ in 0..SHOWN_MAX {
            assert!(!diagnostics.is_full());
            diagnostics.error(Place::File(file), "bad");
        }
        assert!(diagnostics.is_full() && diagnostics.omitted().is_none());
        assert_eq!(diagnostics.hint(b"rce", ["rec"]), "");
        (0..=SHOWN_MAX).for_each(|_| diagnostics.warning(Place::File(file), "odd"));
        let expected = "1 more warning: only the first 100 of a kind are shown";
        assert_eq!(diagnostics.omitted().as_deref(), Some(expected));
        (0..2).for_each(|_| diagnostics.error(Place::File(file), "bad"));
        let expected = "2 more errors, 1 more warning: only the first 100 of a kind are shown";
        assert_eq!(diagnostics.to_string().lines().last(), Some(expected));
        assert_eq!(diagnostics.iter().count(), 2 * SHOWN_MAX);
    }

    #[test]
    fn a_part_stays_inside_its_span() {
        let span = Span { file: 0, start: 10, end: 14 };
        assert_eq!(span.part(1..2), Span { file: 0, start: 11, end: 12 });
        assert_eq!(span.part(3..usize::MAX), Span { file: 0, start: 13, end: 14 });
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_shown(text in hostile(), message in hostile(), start in 0_usize..80, len in 0_usize..80) {
            let mut diagnostics = Diagnostics::default();
            let file = diagnostics.add_source(&text, text.as_slice().into());
            diagnostics.error(Span { file, start, end: start + len }, quoted(&text));
            diagnostics.warning(Place::File(file), String::from_utf8_lossy(&message));
            let shown = diagnostics.to_string().replace('\n', "");
            prop_assert!(!shown.chars().any(is_unsafe), "{shown:?}");
        }
    }
}
