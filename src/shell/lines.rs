//! A child's output, cut into lines of bounded length.
//!
//! A program that writes gigabytes without a newline costs [`LINE_LEN_MAX`] bytes of memory: the
//! rest of the line is counted and forgotten.

use std::fmt;

use crate::quote::{Style, escape};

/// Longest line that is given whole. As long as the longest path, so that a message about one is
/// not cut, and short enough for a record of the log.
pub const LINE_LEN_MAX: usize = 4096;

/// One line, without its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The first [`LINE_LEN_MAX`] bytes.
    pub bytes: &'a [u8],
    /// How many more there were.
    pub cut: u64,
}

impl fmt::Display for Line<'_> {
    /// Escaped for the log; ends in `... N bytes cut` when some were.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.bytes.len());
        escape(&mut text, self.bytes, Style::Plain, usize::MAX);
        f.write_str(&text)?;
        if self.cut > 0 { write!(f, "... {} bytes cut", self.cut) } else { Ok(()) }
    }
}

/// Puts chunks together to lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line whose end has not come, at most [`LINE_LEN_MAX`] bytes.
    partial: Vec<u8>,
    /// What came of that line beyond `partial`.
    cut: u64,
}

impl Lines {
    /// Takes the next chunk and gives every line that ends in it.
    pub fn push(&mut self, mut chunk: &[u8], mut give: impl FnMut(Line<'_>)) {
        while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            if self.partial.is_empty() && self.cut == 0 {
                give(bounded(line));
            } else {
                self.keep(line);
                self.end(&mut give);
            }
            chunk = rest;
        }
        self.keep(chunk);
    }

    /// Gives the last line, if it has no newline. Call it at the end of the output.
    pub fn finish(&mut self, mut give: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            self.end(&mut give);
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE_LEN_MAX - self.partial.len();
        let (kept, cut) = part.split_at(part.len().min(room));
        self.partial.extend_from_slice(kept);
        self.cut = self.cut.saturating_add(cut.len() as u64);
    }

    fn end(&mut self, give: &mut impl FnMut(Line<'_>)) {
        give(Line { bytes: &self.partial, cut: self.cut });
        self.partial.clear();
        self.cut = 0;
    }
}

fn bounded(line: &[u8]) -> Line<'_> {
    let (bytes, cut) = line.split_at(line.len().min(LINE_LEN_MAX));
    Line { bytes, cut: cut.len() as u64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut give = |line: Line<'_>| found.push((line.bytes.to_vec(), line.cut));
        for chunk in chunks {
            lines.push(chunk, &mut give);
        }
        lines.finish(&mut give);
        found
    }

    fn check(chunks: &[&[u8]], expected: &[&[u8]]) {
        let expected: Vec<_> = expected.iter().map(|line| (line.to_vec(), 0)).collect();
        assert_eq!(split(chunks), expected);
    }

    #[test]
    fn lines_end_at_newlines_wherever_the_chunks_do() {
        check(&[], &[]);
        check(&[b""], &[]);
        check(&[b"\n"], &[b""]);
        check(&[b"a\n\nb"], &[b"a", b"", b"b"]);
        check(&[b"a", b"b", b"\nc\n"], &[b"ab", b"c"]);
        check(&[b"a", b"\n"], &[b"a"]);
        check(&[b"\xff\r\n\0"], &[b"\xff\r", b"\0"]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        for extra in [0, 1, 5000] {
            let long = vec![b'x'; LINE_LEN_MAX + extra];
            let expected = [(vec![b'x'; LINE_LEN_MAX], extra as u64), (b"next".to_vec(), 0)];
            assert_eq!(split(&[&long, b"\nnext\n"]), expected, "in pieces, {extra}");
            let whole = [&long[..], b"\nnext\n"].concat();
            assert_eq!(split(&[&whole]), expected, "at once, {extra}");
        }
        let cut = Line { bytes: b"x\x1b", cut: 7 };
        assert_eq!(cut.to_string(), r"x\x1b... 7 bytes cut");
        assert_eq!(Line { bytes: b"x", cut: 0 }.to_string(), "x");
    }

    #[test]
    fn ten_megabytes_without_a_newline_cost_constant_memory() {
        let mut lines = Lines::default();
        for _ in 0..10_240 {
            lines.push(&[b'x'; 1024], |_| panic!("there is no newline"));
            assert!(lines.partial.capacity() <= 2 * LINE_LEN_MAX);
        }
        let mut found = None;
        lines.finish(|line| found = Some((line.bytes.len(), line.cut)));
        assert_eq!(found, Some((LINE_LEN_MAX, 10_485_760 - LINE_LEN_MAX as u64)));
        lines.finish(|_| panic!("given already"));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            text in prop::collection::vec(prop::sample::select(b"ab\n\xff".to_vec()), 0..200),
            size in 1_usize..20,
        ) {
            let chunks: Vec<_> = text.chunks(size).collect();
            prop_assert_eq!(split(&chunks), split(&[&text]));
        }
    }
}
