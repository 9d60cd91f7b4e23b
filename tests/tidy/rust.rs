//! Reading Rust, as far as the rules need it.

/// Marks where the tests of a source file begin.
pub const TESTS_MARK: &str = "#[cfg(test)]";

/// The same text, of the same length and lines, with comments and the contents of string and
/// character literals blanked out.
pub fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = at + literal_len(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(out).unwrap()
}

/// How long the comment or literal is that starts here; 0 when none does.
fn literal_len(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let inside_word = at > 0 && is_word(bytes[at - 1]);
    let len = match rest {
        [b'/', b'/', ..] => rest.iter().position(|&byte| byte == b'\n'),
        [b'/', b'*', ..] => Some(block_comment_len(rest)),
        [b'r', b'"' | b'#', ..] if !inside_word || matches!(bytes[at - 1], b'b' | b'c') => {
            let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return 0; // a raw identifier
            }
            let end = [b"\"".as_slice(), &rest[1..=hashes]].concat();
            rest[2 + hashes..]
                .windows(end.len())
                .position(|window| window == end)
                .map(|len| 2 + hashes + len + end.len())
        }
        [b'"', ..] => quoted_len(rest, b'"'),
        [b'\'', b'\\', ..] => quoted_len(rest, b'\''),
        [b'\'', first, ..] => {
            // A character literal, unless it is a lifetime: one character, then the quote.
            let width = match first {
                0..0xc0 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            return if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 };
        }
        _ => return 0,
    };
    len.unwrap_or(rest.len())
}

fn block_comment_len(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted_len(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands in `text`, not as a part of a longer word.
pub fn word_positions(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let whole = |at: usize| {
        let end = at + word.len();
        let before = at == 0 || !is_word(bytes[at - 1]) || !is_word(bytes[at]);
        before && bytes.get(end).is_none_or(|&byte| !is_word(byte) || !is_word(bytes[end - 1]))
    };
    text.match_indices(word).map(|(at, _)| at).filter(|&at| whole(at)).collect()
}

pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The first names of all paths that start with `prefix` (such as `crate::`), groups in braces
/// taken apart; each with its line.
pub fn names_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for at in prefix_positions(code, prefix) {
        let rest = &code[at + prefix.len()..];
        let line = line_of(code, at);
        match rest.strip_prefix('{') {
            None => names.push((line, first_word(rest))),
            Some(group) => names.extend(group_items(group).map(|item| (line, first_word(item)))),
        }
    }
    names
}

/// Where `prefix` stands without a word character before it.
pub fn prefix_positions(code: &str, prefix: &str) -> Vec<usize> {
    let starts = |at: usize| at == 0 || !is_word(code.as_bytes()[at - 1]);
    code.match_indices(prefix).map(|(at, _)| at).filter(|&at| starts(at)).collect()
}

/// The items of a brace group whose opening brace is already gone.
pub fn group_items(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let mut end = group.len();
    let mut cuts = vec![0];
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                end = at;
                break;
            }
            b'}' => depth -= 1,
            b',' if depth == 0 => cuts.push(at + 1),
            _ => {}
        }
    }
    let ends = cuts.clone().into_iter().skip(1).map(|cut| cut - 1).chain([end]);
    let items = cuts.into_iter().zip(ends).map(|(start, end)| group[start..end].trim());
    items.filter(|item| !item.is_empty())
}

pub fn first_word(text: &str) -> String {
    text.bytes().take_while(|&byte| is_word(byte)).map(char::from).collect()
}

/// The text before its tests.
pub fn before_tests(text: &str) -> &str {
    text.split(TESTS_MARK).next().unwrap_or_default()
}

#[test]
fn literals_and_comments_are_blanked_out() {
    let check = |text: &str, expected: &str| {
        assert_eq!(code_of(text).split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
        assert_eq!(code_of(text).len(), text.len());
    };
    check("a // b\nc /* d /* e */ f */ g", "a c g");
    check(r##"a "b \" c" d r#"e " f"# g b"h" i"##, "a d g b i");
    check(r"x('\'', b'\n', 'ä', '{') 'life: &'a T", "x( , b , , ) 'life: &'a T");
    check("var\"x\" r#type", "var r#type");
}
