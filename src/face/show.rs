//! Rows for people, as tables, and for programs, as JSON.
//!
//! Paths are bytes. For people they are shown as in the log: between quotes with escapes where they
//! would be misread. In JSON they are strings; one that is not UTF-8, which no string of JSON can
//! hold, is an array of its bytes, so that no program takes another path for it.

use crate::quote::{Quoted, is_unsafe, needs_quotes, plain};
use crate::rows::{Row, Value};

/// Kinds of which there is one row.
const SINGLE: [&str; 2] = ["daemon", "status"];

/// One object with a member for each kind: an object where there is one row, else an array.
pub(super) fn json(rows: &[Row<'_>], kinds: &[&str]) -> Vec<u8> {
    let mut out = b"{".to_vec();
    for (at, kind) in kinds.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",\n" } else { b"\n" });
        push_string(&mut out, kind);
        out.push(b':');
        let is_single = SINGLE.contains(kind);
        out.extend_from_slice(if is_single { b"" } else { b"[" });
        let rows = of(rows, kind);
        if is_single && rows.clone().next().is_none() {
            out.extend_from_slice(b"null");
        }
        for (at, row) in rows.enumerate() {
            out.extend_from_slice(match (at, is_single) {
                (0, true) => b"",
                (0, false) => b"\n",
                _ => b",\n",
            });
            push_object(&mut out, row);
        }
        out.extend_from_slice(if is_single { b"" } else { b"]" });
    }
    out.extend_from_slice(b"\n}\n");
    out
}

fn push_object(out: &mut Vec<u8>, row: &Row<'_>) {
    out.push(b'{');
    for (at, (key, value)) in row.fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_string(out, key);
        out.push(b':');
        match value {
            Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::None => out.extend_from_slice(b"null"),
            Value::Text(bytes) => match str::from_utf8(bytes) {
                Ok(text) => push_string(out, text),
                Err(_) => {
                    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
                    out.extend_from_slice(format!("[{}]", numbers.join(",")).as_bytes());
                }
            },
        }
    }
    out.push(b'}');
}

/// A string of RFC 8259, section 7. All characters that are not safe to show are escaped, more than the RFC
/// asks for.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend_from_slice(&[b'\\', char as u8]),
            _ if is_unsafe(char) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
            _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// The rows of one kind.
fn of<'a>(rows: &'a [Row<'a>], kind: &'a str) -> impl Iterator<Item = &'a Row<'a>> + Clone {
    rows.iter().filter(move |row| row.kind == kind)
}

/// Lines of keys and values where there is one row, else a table for each kind that has any.
pub(super) fn table(rows: &[Row<'_>], kinds: &[&str]) -> Vec<u8> {
    let (single, several): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| SINGLE.contains(kind));
    let mut cells: Vec<Vec<String>> = Vec::new();
    for row in single.into_iter().flat_map(|kind| of(rows, kind)) {
        cells.extend(row.fields.iter().map(|(key, value)| vec![title(key), cell(key, value)]));
    }
    let mut lines = Vec::new();
    align(&cells, &mut lines);
    for kind in several {
        let Some(first) = of(rows, kind).next() else { continue };
        cells.clear();
        if !lines.is_empty() {
            cells.push(Vec::new());
        }
        cells.push(first.fields.iter().map(|(key, _)| title(key).to_ascii_uppercase()).collect());
        cells.extend(
            of(rows, kind).map(|row| row.fields.iter().map(|(key, value)| cell(key, value)).collect()),
        );
        align(&cells, &mut lines);
    }
    (lines.join("\n") + if lines.is_empty() { "" } else { "\n" }).into_bytes()
}

fn title(key: &str) -> String {
    let key = key.strip_suffix("_ms").unwrap_or(key);
    key.chars().map(|char| if char == '_' { ' ' } else { char }).collect()
}

fn cell(key: &str, value: &Value<'_>) -> String {
    match value {
        Value::None => "-".to_owned(),
        Value::Number(ms) if key.ends_with("_ms") => format!("{}.{:03} s", ms / 1000, ms % 1000),
        Value::Number(number) => number.to_string(),
        // A sentence needs no quotes.
        Value::Text(text) if matches!(key, "error" | "why") => plain(text),
        Value::Text(text) if needs_quotes(text) => Quoted(text).to_string(),
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
    }
}

/// Columns as wide as their widest cell, the last one as it comes.
fn align(rows: &[Vec<String>], lines: &mut Vec<String>) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        line.truncate(line.trim_end().len());
        lines.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quote::hostile;
    use crate::rows::Rows;
    use proptest::prelude::*;

    const KINDS: &[&str] = &["status", "tasks", "errors"];

    fn check(show: fn(&[Row<'_>], &[&str]) -> Vec<u8>, fill: impl FnOnce(&mut Rows), expected: &str) {
        let mut rows = Rows::default();
        fill(&mut rows);
        let bytes = rows.into_bytes();
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let rows: Vec<_> = lines.map(|line| Row::parse(line).unwrap()).collect();
        assert_eq!(String::from_utf8(show(&rows, KINDS)).unwrap(), expected);
    }

    fn some(rows: &mut Rows) {
        rows.push("status", &[("state", "ready".into()), ("tasks_done", 7_u64.into())]);
        rows.push(
            "tasks",
            &[("id", 1_u64.into()), ("due_ms", 1500_u64.into()), ("path", b"/a b\n\xff".into())],
        );
        rows.push("tasks", &[("id", 20_u64.into()), ("due_ms", Value::None), ("path", "/\"\u{1}\\".into())]);
    }

    #[test]
    fn json_holds_every_kind_and_every_byte() {
        check(json, |_| (), "{\n\"status\":null,\n\"tasks\":[],\n\"errors\":[]\n}\n");
        check(
            json,
            some,
            concat!(
                "{\n\"status\":{\"state\":\"ready\",\"tasks_done\":7},\n\"tasks\":[\n",
                "{\"id\":1,\"due_ms\":1500,\"path\":[47,97,32,98,10,255]},\n",
                "{\"id\":20,\"due_ms\":null,\"path\":\"/\\\"\\u0001\\\\\"}],\n\"errors\":[]\n}\n",
            ),
        );
    }

    #[test]
    fn json_escapes_what_is_not_safe_to_show() {
        let mut out = Vec::new();
        push_string(&mut out, "\u{9b}\u{202e}\u{200b}\u{ad}\u{7f}\u{e0001}\u{e9}");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"\\u009b\\u202e\\u200b\\u00ad\\u007f\\udb40\\udc01\u{e9}\""
        );
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_shown(path in hostile(), why in hostile()) {
            let mut rows = Rows::default();
            rows.push("status", &[("path", (&path).into()), ("why", (&why).into())]);
            rows.push("tasks", &[("path", (&path).into()), ("error", (&why).into())]);
            let bytes = rows.into_bytes();
            let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            let rows: Vec<_> = lines.map(|line| Row::parse(line).unwrap()).collect();
            for shown in [json(&rows, KINDS), table(&rows, KINDS)] {
                let shown = String::from_utf8(shown).unwrap().replace('\n', "");
                prop_assert!(!shown.chars().any(is_unsafe), "{shown:?}");
            }
        }
    }

    #[test]
    fn tables_are_aligned_and_escaped() {
        check(table, |_| (), "");
        check(
            table,
            some,
            concat!(
                "state       ready\ntasks done  7\n\n",
                "ID  DUE      PATH\n",
                "1   1.500 s  \"/a b\\n\\xff\"\n",
                "20  -        \"/\\\"\\x01\\\\\"\n",
            ),
        );
    }
}
