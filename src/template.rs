//! Commands with placeholders: parsed once, filled in for each task.
//!
//! A template is filled in one pass, so a file called `{src_pathname}` is only a name. For sh, each
//! value is put between single quotes; a single quote inside becomes `'\''`, which leaves no byte
//! that sh could read as anything but itself (POSIX.1-2017, Shell Command Language, 2.2.2).

use crate::event::EventKind;

/// A placeholder that commands may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{maskname}`, the event name.
    Maskname,
    /// `{pathname}`, the path.
    Pathname,
    /// `{src_pathname}`, where a moved path came from; empty when it was not moved.
    SrcPathname,
    /// `{dirname}`, the path's directory.
    Dirname,
    /// `{filename}`, the path's last component.
    Filename,
    /// `{task_id}`.
    TaskId,
    /// `{is_dir}`, `1` or `0`.
    IsDir,
}

impl Placeholder {
    /// All of them, with the text that stands for each.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Maskname, "{maskname}"),
        (Self::Pathname, "{pathname}"),
        (Self::SrcPathname, "{src_pathname}"),
        (Self::Dirname, "{dirname}"),
        (Self::Filename, "{filename}"),
        (Self::TaskId, "{task_id}"),
        (Self::IsDir, "{is_dir}"),
    ];
}

/// A command, or one word of it, ready to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Value(Placeholder),
}

/// What the placeholders of one task stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The event.
    pub kind: EventKind,
    /// The path, absolute.
    pub path: &'a [u8],
    /// Where a moved path came from; empty when it was not moved.
    pub src_path: &'a [u8],
    /// The task.
    pub task_id: u64,
    /// Whether the path is a directory.
    pub is_dir: bool,
}

impl Values<'_> {
    fn append(&self, placeholder: Placeholder, put: &mut dyn FnMut(&[u8])) {
        match placeholder {
            Placeholder::Maskname => put(self.kind.name().as_bytes()),
            Placeholder::Pathname => put(self.path),
            Placeholder::SrcPathname => put(self.src_path),
            Placeholder::Dirname => put(split_path(self.path).0),
            Placeholder::Filename => put(split_path(self.path).1),
            Placeholder::TaskId => put(self.task_id.to_string().as_bytes()),
            Placeholder::IsDir => put(if self.is_dir { b"1" } else { b"0" }),
        }
    }
}

/// Directory and last component of an absolute path; `/` is its own directory.
#[must_use]
pub fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl Template {
    /// Finds the placeholders. Any other brace is text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(&byte) = rest.first() {
            let found = Placeholder::ALL.into_iter().find(|(_, name)| rest.starts_with(name.as_bytes()));
            if let Some((placeholder, name)) = found {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Value(placeholder));
                rest = &rest[name.len()..];
            } else {
                literal.push(byte);
                rest = &rest[1..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Self { parts }
    }

    /// The text, when there is nothing to fill in.
    #[must_use]
    pub fn literal(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Fills in the values as they are.
    #[must_use]
    pub fn fill(&self, values: &Values<'_>) -> Vec<u8> {
        self.fill_with(values, |out, bytes| out.extend_from_slice(bytes))
    }

    /// Fills in the values, each quoted for sh.
    #[must_use]
    pub fn fill_quoted(&self, values: &Values<'_>) -> Vec<u8> {
        self.fill_with(values, quote)
    }

    fn fill_with(&self, values: &Values<'_>, mut put: impl FnMut(&mut Vec<u8>, &[u8])) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Value(placeholder) => values.append(*placeholder, &mut |bytes| put(&mut out, bytes)),
            }
        }
        out
    }
}

/// Appends `value` as one word of sh.
fn quote(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'\'');
    for &byte in value {
        if byte == b'\'' {
            out.extend_from_slice(br"'\''");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'_> = Values {
        kind: EventKind::MovedTo,
        path: b"/d/it's {src_pathname}\xff",
        src_path: b"/s/$(id)",
        task_id: 7,
        is_dir: false,
    };

    fn check(template: &str, plain: &[u8], quoted: &[u8]) {
        let template = Template::parse(template.as_bytes());
        assert_eq!(template.fill(&VALUES), plain);
        assert_eq!(template.fill_quoted(&VALUES), quoted);
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        check("{maskname}", b"IN_MOVED_TO", b"'IN_MOVED_TO'");
        check("{dirname}:{filename}", b"/d:it's {src_pathname}\xff", b"'/d':'it'\\''s {src_pathname}\xff'");
        check("{task_id} {is_dir}", b"7 0", b"'7' '0'");
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays_a_value() {
        check(
            "c {pathname} {src_pathname}",
            b"c /d/it's {src_pathname}\xff /s/$(id)",
            b"c '/d/it'\\''s {src_pathname}\xff' '/s/$(id)'",
        );
    }

    #[test]
    fn other_braces_are_text() {
        check("${x} {y} {pathname", b"${x} {y} {pathname", b"${x} {y} {pathname");
    }

    #[test]
    fn paths_split_at_the_last_slash() {
        assert_eq!(split_path(b"/a"), (b"/".as_slice(), b"a".as_slice()));
        assert_eq!(split_path(b"/a/b"), (b"/a".as_slice(), b"b".as_slice()));
    }
}
