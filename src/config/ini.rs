//! From bytes to sections with keys and values, each with the place where it stands.
//!
//! The language, line by line:
//!
//! - `[kind]` or `[kind name]` starts a section.
//! - `key = value` sets a key. Blanks around key and value do not count. The value goes to the end
//!   of the line; no byte in it is special, and it need not be UTF-8. No value: nothing is set.
//! - A line that starts with a blank continues the value above it as a further item of a list.
//! - A line whose first byte that is not blank is `#` or `;` is a comment, indented or not. It and
//!   blank lines may stand anywhere, also between the items of a list.
//!
//! A line ends with LF or CR LF, and a byte order mark at the start is skipped, so that a file
//! edited on another system reads the same. A NUL byte is an error: no path and no argument can
//! hold one.
//!
//! Nothing here knows which sections and keys exist; that is `schema`. The parser goes on after
//! every error, and keeps quiet about what follows only from it.

use super::diagnostics::{Diagnostics, Span, quoted};

/// Some bytes and where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Without the blanks around them.
    pub bytes: Vec<u8>,
    /// Exactly these bytes.
    pub span: Span,
}

/// `[kind name]` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// First word between the brackets.
    pub kind: Text,
    /// Second word.
    pub name: Option<Text>,
    /// The brackets and what they enclose.
    pub header: Span,
    /// In the order of the file; a key that was repeated is there repeatedly.
    pub entries: Vec<Entry>,
}

/// `key = value` and the lines that continue it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What stands before the `=`.
    pub key: Text,
    /// What stands behind it and in each further line, empty ones left out.
    pub values: Vec<Text>,
}

/// Reads one source. Errors go to `out`; what could be read is returned.
pub fn parse(file: usize, text: &[u8], out: &mut Diagnostics) -> Vec<Section> {
    let mut parser = Parser { out, sections: Vec::new(), state: State::Start };
    for line in lines(file, text) {
        parser.line(&line);
    }
    parser.sections
}

/// The lines without their ends and without blanks behind them, but with those before them.
fn lines(file: usize, text: &[u8]) -> impl Iterator<Item = Text> {
    let mut start = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    text[start..].split(|&byte| byte == b'\n').map(move |line| {
        let kept = trim_end(line.strip_suffix(b"\r").unwrap_or(line));
        let span = Span { file, start, end: start + kept.len() };
        start += line.len() + 1;
        Text { bytes: kept.to_vec(), span }
    })
}

/// What a line that is no header can belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No section yet.
    Start,
    /// A header that could not be read: what follows it is passed over.
    Unreadable,
    /// A section.
    Section,
    /// A section whose keys are indented, which has been reported.
    Indented,
}

struct Parser<'a> {
    out: &'a mut Diagnostics,
    sections: Vec<Section>,
    state: State,
}

impl Parser<'_> {
    fn line(&mut self, line: &Text) {
        let body = line.trimmed();
        if matches!(body.bytes.first(), None | Some(b'#' | b';')) {
            return;
        }
        if let Some(at) = body.bytes.iter().position(|&byte| byte == 0) {
            self.out.error(body.span.part(at..at + 1), "a NUL byte cannot be part of a value");
            return;
        }
        let indented = body.span.start > line.span.start;
        match self.state {
            _ if body.bytes.first() == Some(&b'[') && !indented => self.header(&body),
            State::Start => {
                self.out.error(body.span, "this stands before the first section, such as [daemon]");
                self.state = State::Unreadable;
            }
            State::Unreadable => {}
            State::Section if indented => self.continuation(body),
            State::Section | State::Indented => self.entry(&body),
        }
    }

    fn header(&mut self, line: &Text) {
        self.state = State::Unreadable;
        let Some(inner) = line.bytes.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) else {
            self.out.error(line.span, "a section starts with [KIND] or [KIND NAME] on a line of its own");
            return;
        };
        let mut words = words(&Text { bytes: inner.to_vec(), span: line.span.part(1..1 + inner.len()) });
        let mut next = || if words.is_empty() { None } else { Some(words.remove(0)) };
        match (next(), next(), next()) {
            (Some(kind), name, None) => {
                self.sections.push(Section { kind, name, header: line.span, entries: Vec::new() });
                self.state = State::Section;
            }
            (None, ..) => self.out.error(line.span, "a section needs a kind, such as [daemon]"),
            (.., Some(third)) => self.out.error(third.span, "a section has a kind and at most one name"),
        }
    }

    fn continuation(&mut self, body: Text) {
        let entry = self.sections.last_mut().and_then(|section| section.entries.last_mut());
        if let Some(entry) = entry {
            entry.values.push(body);
            return;
        }
        self.out.error(body.span, "an indented line continues the value above it, but there is none");
        self.state = State::Indented;
        self.entry(&body);
    }

    /// What was meant by a line without `=`: `KEY: VALUE`, or a further item of the list above.
    fn meant(&self, body: &Text) -> String {
        let colon = body.bytes.iter().position(|&byte| byte == b':');
        if let Some((key, value)) = colon.map(|at| (&body.bytes[..at], body.bytes[at + 1..].trim_ascii()))
            && !key.is_empty()
            && key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            && !value.starts_with(b"/")
        {
            return format!(", did you mean {}?", quoted(&[key, b" = ", value].concat()));
        }
        let has_value = self.sections.last().is_some_and(|section| !section.entries.is_empty());
        let continues = has_value && self.state == State::Section;
        if continues { ": to continue the value above, indent the line".to_owned() } else { String::new() }
    }

    fn entry(&mut self, body: &Text) {
        let Some(equals) = body.bytes.iter().position(|&byte| byte == b'=') else {
            let hint = self.meant(body);
            self.out.error(body.span, format!("expected KEY = VALUE, but there is no \"=\"{hint}"));
            return;
        };
        let key = body.slice(0..equals).trimmed();
        if key.bytes.is_empty() {
            self.out.error(body.span.part(0..1), "there is no key before the \"=\"");
            return;
        }
        let value = body.slice(equals + 1..body.bytes.len()).trimmed();
        let values = if value.bytes.is_empty() { Vec::new() } else { vec![value] };
        if let Some(section) = self.sections.last_mut() {
            section.entries.push(Entry { key, values });
        }
    }
}

impl Text {
    /// Part of it; the range must lie within.
    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self { bytes: self.bytes[range.clone()].to_vec(), span: self.span.part(range) }
    }

    /// Without the blanks around it.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        let end = trim_end(&self.bytes).len();
        let start = self.bytes[..end].iter().position(|&byte| !is_blank(byte)).unwrap_or(end);
        self.slice(start..end)
    }
}

/// The words of a text, separated by blanks.
#[must_use]
pub fn words(text: &Text) -> Vec<Text> {
    let mut words = Vec::new();
    let mut start = 0;
    for part in text.bytes.split(|&byte| is_blank(byte)) {
        if !part.is_empty() {
            words.push(text.slice(start..start + part.len()));
        }
        start += part.len() + 1;
    }
    words
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |last| last + 1);
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(text: &Text) -> String {
        String::from_utf8_lossy(&text.bytes).into_owned()
    }

    /// `kind name: key=value|value, key=value`, one section a line.
    fn outline(text: &[u8]) -> (String, String) {
        let mut out = Diagnostics::default();
        let file = out.add_source(b"f", text.into());
        let sections = parse(file, text, &mut out);
        let mut lines = Vec::new();
        for section in sections {
            let entry = |entry: &Entry| {
                let values: Vec<_> = entry.values.iter().map(show).collect();
                format!("{}={}", show(&entry.key), values.join("|"))
            };
            let entries: Vec<_> = section.entries.iter().map(entry).collect();
            let name = section.name.as_ref().map(show).unwrap_or_default();
            lines.push(format!("{} {name}: {}", show(&section.kind), entries.join(", ")));
        }
        let errors: Vec<_> = out.iter().map(|item| out.headline(item)).collect();
        (lines.join("\n"), errors.join("\n"))
    }

    fn check(text: impl AsRef<[u8]>, expected: &str) {
        assert_eq!(outline(text.as_ref()), (expected.to_owned(), String::new()));
    }

    fn refuse(text: &str, expected: &str) {
        assert_eq!(outline(text.as_bytes()).1, expected, "{text}");
    }

    #[test]
    fn sections_keys_and_values() {
        check("", "");
        check("[daemon]", "daemon : ");
        check("[ watch \t src ]\na=1\nb = 2 3 \n", "watch src: a=1, b=2 3");
        check("[a]\nx = y = z", "a : x=y = z");
        check("[a]\nx =\ny=1", "a : x=, y=1");
        check("[a]\nx=1\n[b]\nx=2\nx=3", "a : x=1\nb : x=2, x=3");
    }

    #[test]
    fn comments_are_whole_lines_only() {
        check("# c\n[a]\n; c\n  # c\nx = 1 # 2 ; 3\n", "a : x=1 # 2 ; 3");
    }

    #[test]
    fn an_indented_line_is_a_further_item() {
        check("[a]\nx = 1\n 2\n\t3  \ny = 4", "a : x=1|2|3, y=4");
        check("[a]\nx =\n 1\n\n # c\n 2", "a : x=1|2");
    }

    #[test]
    fn other_systems_files_read_the_same() {
        check("\u{feff}[a]\r\nx = 1\r\n 2\r\n\r\ny=3\r", "a : x=1|2, y=3");
    }

    #[test]
    fn values_are_bytes() {
        let mut out = Diagnostics::default();
        let sections = parse(0, b"[a]\nx = \xff\r\xfe", &mut out);
        assert!(out.is_empty());
        assert_eq!(sections[0].entries[0].values[0].bytes, b"\xff\r\xfe");
        assert_eq!(sections[0].entries[0].values[0].span, Span { file: 0, start: 8, end: 11 });
    }

    #[test]
    fn every_refusal() {
        refuse("[a]\nx = 1\0", "f:2:6: error: a NUL byte cannot be part of a value");
        refuse("x = 1\ny = 1", "f:1:1: error: this stands before the first section, such as [daemon]");
        refuse("[a\nx = 1", "f:1:1: error: a section starts with [KIND] or [KIND NAME] on a line of its own");
        refuse("[a] # c", "f:1:1: error: a section starts with [KIND] or [KIND NAME] on a line of its own");
        refuse("[ ]", "f:1:1: error: a section needs a kind, such as [daemon]");
        refuse("[a b c]", "f:1:6: error: a section has a kind and at most one name");
        refuse(
            "[a]\n  x = 1\n  y = 2",
            "f:2:3: error: an indented line continues the value above it, but there is none",
        );
        refuse("[a]\nx", "f:2:1: error: expected KEY = VALUE, but there is no \"=\"");
        refuse(
            "[a]\nx = 1\ny",
            "f:3:1: error: expected KEY = VALUE, but there is no \"=\": to continue the value above, indent the line",
        );
        refuse(
            "[a]\nx = 1\ndelay: 5",
            "f:3:1: error: expected KEY = VALUE, but there is no \"=\", did you mean \"delay = 5\"?",
        );
        refuse("[a]\n= 1", "f:2:1: error: there is no key before the \"=\"");
    }

    #[test]
    fn reading_goes_on_after_an_error() {
        let (outline, errors) = outline(b"[a\nx=1\n[b]\ny\nz=1\n=2\n");
        assert_eq!(outline, "b : z=1");
        assert_eq!(errors.lines().count(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_spans_are_exact(
            text in prop::collection::vec(
                prop::sample::select(b"[]a =#\n\r\t\0\xff\xef\xbb\xbf".as_slice()), 0..80)
        ) {
            let mut out = Diagnostics::default();
            for section in parse(0, &text, &mut out) {
                for entry in section.entries {
                    for part in entry.values.iter().chain([&entry.key]) {
                        prop_assert_eq!(&text[part.span.start..part.span.end], &part.bytes[..]);
                    }
                }
            }
        }
    }
}
