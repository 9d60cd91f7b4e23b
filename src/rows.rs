//! Rows: how an answer of the daemon travels to `rinotifyctl`.
//!
//! A row is a line: its kind, then fields behind tabs, each `key=text`, `key#number`, or `key-` for
//! a key without a value. In a text a backslash, a tab and a newline are written `\\`, `\t`, `\n`;
//! all other bytes stand as they are, because paths are bytes.

use std::borrow::Cow;

/// What a key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Bytes: a path, a name, a sentence.
    Text(Cow<'a, [u8]>),
    /// A count, or a time in milliseconds if the key ends in `_ms`.
    Number(u64),
    /// The key means nothing here.
    None,
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Value<'a> {
    fn from(text: &'a T) -> Self {
        Self::Text(Cow::Borrowed(text.as_ref()))
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// Lines, as they travel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(Vec<u8>);

impl Rows {
    /// Adds one. Kind and keys are words of lower-case letters and underscores.
    pub fn push(&mut self, kind: &str, fields: &[(&str, Value<'_>)]) {
        self.0.extend_from_slice(kind.as_bytes());
        for (key, value) in fields {
            self.0.push(b'\t');
            self.0.extend_from_slice(key.as_bytes());
            match value {
                Value::Text(text) => {
                    self.0.push(b'=');
                    self.push_text(text);
                }
                Value::Number(number) => {
                    self.0.push(b'#');
                    self.0.extend_from_slice(number.to_string().as_bytes());
                }
                Value::None => self.0.push(b'-'),
            }
        }
        self.0.push(b'\n');
    }

    /// Adds all of another list.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn push_text(&mut self, text: &[u8]) {
        for &byte in text {
            match byte {
                b'\\' => self.0.extend_from_slice(b"\\\\"),
                b'\t' => self.0.extend_from_slice(b"\\t"),
                b'\n' => self.0.extend_from_slice(b"\\n"),
                _ => self.0.push(byte),
            }
        }
    }

    /// The bytes to send.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A row that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// What it is about.
    pub kind: &'a str,
    /// Keys and values, in the order in which they were sent.
    pub fields: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Row<'a> {
    /// Reads one line, without its newline; `None` when it is not a row.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.split(|&byte| byte == b'\t');
        let kind = word(parts.next()?)?;
        let fields = parts.map(field).collect::<Option<_>>()?;
        Some(Self { kind, fields })
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.fields.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }
}

fn word(text: &[u8]) -> Option<&str> {
    let valid = !text.is_empty() && text.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_');
    str::from_utf8(text).ok().filter(|_| valid)
}

fn field(text: &[u8]) -> Option<(&str, Value<'_>)> {
    let end = text.iter().position(|byte| b"=#-".contains(byte))?;
    let (key, rest) = (word(&text[..end])?, &text[end + 1..]);
    let value = match text[end] {
        b'=' => Value::Text(unescape(rest)?),
        b'#' => Value::Number(str::from_utf8(rest).ok()?.parse().ok()?),
        _ if rest.is_empty() => Value::None,
        _ => return None,
    };
    Some((key, value))
}

fn unescape(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.contains(&b'\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'\\' => b'\\',
                b't' => b'\t',
                b'n' => b'\n',
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(Cow::Owned(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_one_line() {
        let mut rows = Rows::default();
        rows.push(
            "task",
            &[("id", 7_u64.into()), ("due_ms", Value::None), ("path", b"/a\tb\n\\\xff".into())],
        );
        rows.push("ok", &[]);
        assert_eq!(rows.into_bytes(), b"task\tid#7\tdue_ms-\tpath=/a\\tb\\n\\\\\xff\nok\n");
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for line in [
            b"".as_slice(),
            b"\tid#7",
            b"Task",
            b"task\tid",
            b"task\t=7",
            b"task\tid#",
            b"task\tid#-1",
            b"task\tid#99999999999999999999",
            b"task\tid-7",
            b"task\tpath=\\",
            b"task\tpath=\\x",
            b"task\t\xff=1",
        ] {
            assert_eq!(Row::parse(line), None, "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_was_sent_arrives(texts: Vec<Vec<u8>>, number: u64) {
            let mut fields: Vec<(&str, Value)> = texts.iter().map(|text| ("text", text.into())).collect();
            fields.push(("number", number.into()));
            fields.push(("none", Value::None));
            let mut rows = Rows::default();
            rows.push("kind", &fields);
            let bytes = rows.into_bytes();
            let lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
            prop_assert_eq!(lines.len(), 2);
            let row = Row::parse(lines[0]).unwrap();
            prop_assert_eq!(row.kind, "kind");
            prop_assert_eq!(row.get("number"), Some(&Value::Number(number)));
            prop_assert_eq!(row.fields, fields);
        }

        #[test]
        fn any_line_is_judged(line: Vec<u8>) {
            let _ = Row::parse(&line);
        }
    }
}
