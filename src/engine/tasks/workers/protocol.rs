//! The lines that a worker reads and writes.
//!
//! A task is one line, either fields between tabs or a JSON object, and always printable text in
//! UTF-8, whatever bytes a path holds: what is not is escaped, so that it can be had back exactly.
//! An answer is `ID ok` or `ID error TEXT`.
//!
//! The ID of a task that is to be answered is its number, a dot and a token that follows from a secret
//! of the daemon's. What a worker's own commands write may get among its answers, and a name may hold
//! whatever its maker likes; but no name can hold a token.

use std::hash::Hasher;
#[expect(deprecated, reason = "as below")]
use std::hash::SipHasher;

use crate::config::Format;
use crate::template::Values;

/// The longest line, with its newline: a reader has to keep it whole. Paths that system calls take have at
/// most 4096 bytes, of which each may take six here; only trees that were made to be deep hold more.
pub const LINE_MAX: usize = 1 << 20;

/// The word that an answer for this task must repeat.
#[expect(deprecated, reason = "SipHash-2-4 with a key (Aumasson and Bernstein, 2012) is nowhere else in std")]
pub fn token(secret: [u64; 2], task_id: u64) -> u64 {
    let mut hasher = SipHasher::new_with_keys(secret[0], secret[1]);
    hasher.write_u64(task_id);
    hasher.finish()
}

/// What a worker says of one of its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Which task.
    pub id: u64,
    /// The proof that the worker was given this task.
    pub token: u64,
    /// It is done, or why not.
    pub result: Result<(), &'a [u8]>,
}

impl<'a> Ack<'a> {
    /// Reads a line without its newline; `None` when it is something else.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.trim_ascii_end();
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = str::from_utf8(&line[..digits]).ok()?.parse().ok()?;
        let (token, rest) = line[digits..].strip_prefix(b".")?.split_at_checked(TOKEN_LEN)?;
        let is_token = token.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
        let token = u64::from_str_radix(str::from_utf8(token).ok().filter(|_| is_token)?, 16).ok()?;
        let result = match rest.strip_prefix(b" ")? {
            b"ok" => Ok(()),
            b"error" => Err(b"".as_slice()),
            rest => Err(rest.strip_prefix(b"error ")?),
        };
        Some(Self { id, token, result })
    }
}

/// Hexadecimal digits of a token.
const TOKEN_LEN: usize = 16;

/// One task, with the newline. Without a secret, the task is not to be answered.
#[must_use]
pub fn line(format: Format, secret: Option<[u64; 2]>, task: &Values<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + task.path.len() + task.src_path.len());
    let token = secret.map(|secret| format!(".{:0TOKEN_LEN$x}", token(secret, task.task_id)));
    let id = format!("{}{}", task.task_id, token.unwrap_or_default());
    match format {
        Format::Tab => tab(&mut out, &id, task),
        Format::Json => json(&mut out, &id, task),
    }
    out.push(b'\n');
    out
}

fn tab(out: &mut Vec<u8>, id: &str, task: &Values<'_>) {
    out.extend_from_slice(id.as_bytes());
    let kind = if task.is_dir { b"\tdir\t" } else { b"\tfile\t".as_slice() };
    for part in [b"\t", task.kind.name().as_bytes(), kind] {
        out.extend_from_slice(part);
    }
    escape(out, task.path, tab_escape);
    out.push(b'\t');
    escape(out, task.src_path, tab_escape);
}

fn json(out: &mut Vec<u8>, id: &str, task: &Values<'_>) {
    let is_dir = if task.is_dir { "true" } else { "false" };
    let head = format!("{{\"id\":\"{id}\",\"event\":\"{}\",\"dir\":{is_dir},\"path\":\"", task.kind.name());
    out.extend_from_slice(head.as_bytes());
    escape(out, task.path, json_escape);
    out.extend_from_slice(b"\",\"src_path\":\"");
    escape(out, task.src_path, json_escape);
    out.extend_from_slice(b"\"}");
}

/// Appends `bytes`: characters as they are, unless `special` writes them in another way, and what is
/// not UTF-8 byte by byte, which `special` always does.
fn escape(out: &mut Vec<u8>, bytes: &[u8], special: fn(&mut Vec<u8>, u8) -> bool) {
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            if byte >= 0x80 || !special(out, byte) {
                out.push(byte);
            }
        }
        for &byte in chunk.invalid() {
            special(out, byte);
        }
    }
}

fn tab_escape(out: &mut Vec<u8>, byte: u8) -> bool {
    match byte {
        b'\t' => out.extend_from_slice(b"\\t"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\\' => out.extend_from_slice(b"\\\\"),
        0..0x20 | 0x7f.. => hex(out, b"\\x", byte),
        _ => return false,
    }
    true
}

/// A byte that is not UTF-8 becomes the surrogate that Python's `surrogateescape` has for it (PEP
/// 383), which the grammar allows (RFC 8259, 8.2).
fn json_escape(out: &mut Vec<u8>, byte: u8) -> bool {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        0..0x20 | 0x7f => hex(out, b"\\u00", byte),
        0x80.. => hex(out, b"\\udc", byte),
        _ => return false,
    }
    true
}

fn hex(out: &mut Vec<u8>, prefix: &[u8], byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(prefix);
    out.extend([byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::EventKind;

    fn values<'a>(path: &'a [u8], src_path: &'a [u8]) -> Values<'a> {
        Values {
            kind: EventKind::MovedTo,
            path,
            src_path,
            rel_path: b"",
            task_id: 7,
            is_dir: false,
            attempt: 1,
        }
    }

    fn check(path: &[u8], src_path: &[u8], tab: &str, json: &str) {
        let text = |format| String::from_utf8(line(format, None, &values(path, src_path))).expect("text");
        assert_eq!(text(Format::Tab), format!("7\tIN_MOVED_TO\tfile\t{tab}\n"));
        let head = r#"{"id":"7","event":"IN_MOVED_TO","dir":false,"#;
        assert_eq!(text(Format::Json), format!("{head}{json}}}\n"));
    }

    #[test]
    fn every_byte_arrives_and_every_line_is_one_line_of_text() {
        check(b"/a b", b"", "/a b\t", r#""path":"/a b","src_path":"""#);
        check(b"/a\tb\nc\\", b"/x", "/a\\tb\\nc\\\\\t/x", r#""path":"/a\u0009b\u000ac\\","src_path":"/x""#);
        check(
            b"/\xff\xc3\x1b\x7f\r\"",
            "/\u{fc}\u{1f600}".as_bytes(),
            "/\\xff\\xc3\\x1b\\x7f\\x0d\"\t/\u{fc}\u{1f600}",
            "\"path\":\"/\\udcff\\udcc3\\u001b\\u007f\\u000d\\\"\",\"src_path\":\"/\u{fc}\u{1f600}\"",
        );
        let dir = Values { is_dir: true, ..values(b"/d", b"") };
        assert_eq!(line(Format::Tab, None, &dir), b"7\tIN_MOVED_TO\tdir\t/d\t\n");
        assert!(
            line(Format::Json, None, &dir).starts_with(br#"{"id":"7","event":"IN_MOVED_TO","dir":true,"#)
        );
    }

    type Parts<'a> = (u64, u64, Result<(), &'a [u8]>);

    fn answer(line: &[u8], expected: Option<Parts<'_>>) {
        let expected = expected.map(|(id, token, result)| Ack { id, token, result });
        assert_eq!(Ack::parse(line), expected, "{}", line.escape_ascii());
    }

    #[test]
    fn answers_are_told_from_everything_else() {
        let token = 0xab_cdef;
        answer(b"7.0000000000abcdef ok", Some((7, token, Ok(()))));
        answer(b"7.0000000000abcdef ok\r", Some((7, token, Ok(()))));
        answer(b"18446744073709551615.ffffffffffffffff ok ", Some((u64::MAX, u64::MAX, Ok(()))));
        answer(b"7.0000000000abcdef error", Some((7, token, Err(b""))));
        answer(b"7.0000000000abcdef error no \xff room", Some((7, token, Err(b"no \xff room"))));
        let others: [&[u8]; 18] = [
            b"",
            b"7",
            b"7 ok",
            b"7. ok",
            b"7.abcdef ok",
            b"7.0000000000abcdef",
            b"7.0000000000abcdef ",
            b"7.0000000000ABCDEF ok",
            b"7.+000000000abcdef ok",
            b"7.0000000000abcdef0 ok",
            b" 7.0000000000abcdef ok",
            b"7.0000000000abcdef  ok",
            b"7.0000000000abcdef okay",
            b"7.0000000000abcdef errors",
            b"7.0000000000abcdef OK",
            b"-7.0000000000abcdef ok",
            b"+7.0000000000abcdef ok",
            b"18446744073709551616.0000000000abcdef ok",
        ];
        for other in others {
            answer(other, None);
        }
    }

    /// The test vectors of SipHash-2-4 (its reference implementation) are of bytes; what counts here is
    /// that nothing of it is left out.
    #[test]
    fn a_token_depends_on_all_of_the_secret_and_the_task() {
        let secret = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(token(secret, 0x0706_0504_0302_0100), 0x93f5_f579_9a93_2462);
        let mut seen = std::collections::BTreeSet::new();
        for bit in 0..64 {
            let one = 1 << bit;
            seen.extend([token([one, 0], 1), token([0, one], 1), token([0, 0], one)]);
        }
        assert_eq!(seen.len(), 3 * 64);
        let line = line(Format::Tab, Some(secret), &values(b"/a", b""));
        let id = line.split(|&byte| byte == b'\t').next().unwrap();
        let answer = [id, b" ok"].concat();
        let parsed = Ack::parse(&answer).unwrap();
        assert_eq!((parsed.id, parsed.token), (7, token(secret, 7)));
    }

    /// What `printf %b` or any other reader makes of the escapes.
    fn unescape(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        while let [first, tail @ ..] = rest {
            let (byte, len) = match (first, tail) {
                (b'\\', [b't', ..]) => (b'\t', 2),
                (b'\\', [b'n', ..]) => (b'\n', 2),
                (b'\\', [b'\\', ..]) => (b'\\', 2),
                (b'\\', [b'x', high, low, ..]) => {
                    let digits = [*high, *low];
                    (u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap(), 4)
                }
                _ => (*first, 1),
            };
            out.push(byte);
            rest = &rest[len..];
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_escaped_can_be_had_back(path in prop::collection::vec(1_u8.., 0..60)) {
            let line = line(Format::Tab, None, &values(&path, b""));
            let fields: Vec<_> = line.split(|&byte| byte == b'\t').collect();
            prop_assert_eq!(fields.len(), 5);
            prop_assert_eq!(unescape(fields[3]), path);
            let text = String::from_utf8(line).unwrap();
            prop_assert!(text.trim_end_matches('\n').chars().all(|char| char == '\t' || char >= ' '));
        }

        #[test]
        fn any_line_is_read(line in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Ack::parse(&line);
        }
    }
}
