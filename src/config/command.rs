//! Commands: splitting into words, and mistakes with placeholders.

use super::diagnostics::Bad;
use super::suggest;
use crate::template::{Placeholder, Template};

/// Programs whose `-c` takes code.
const SHELLS: [&[u8]; 7] = [b"sh", b"bash", b"dash", b"ash", b"ksh", b"mksh", b"zsh"];

/// Words that do something in a shell and nothing without one.
const SHELL_OPERATORS: [&[u8]; 9] = [b"|", b"||", b"&", b"&&", b";", b">", b">>", b"<", b"2>&1"];

/// Splits the command of an exec scheduler as sh does: blanks separate words; single quotes, double
/// quotes and backslashes keep bytes together (POSIX.1-2017, Shell Command Language, 2.2). Nothing
/// else is special. Placeholders are looked for in each word after that, so none splits a word.
pub fn split(text: &[u8]) -> Result<Vec<Template>, Bad> {
    let words = split_words(text)?;
    match words.first() {
        None => Err(Bad::whole(text, "the command is empty")),
        Some(program) if program.is_empty() => Err(Bad::whole(text, "the program's name is empty")),
        // The shell may stand behind another program, such as env or nice.
        Some(_) if (0..words.len()).any(|at| is_shell(&words[at]) && makes_code(&words[at + 1..])) => {
            Err(Bad::whole(
                text,
                "a file name would become shell code here: use type = shell, or give the placeholder as \
             an argument behind the code, where it is \"$1\"",
            ))
        }
        Some(_) => Ok(words.iter().map(|word| Template::parse(word)).collect()),
    }
}

fn is_shell(program: &[u8]) -> bool {
    let name = program.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    SHELLS.contains(&name)
}

/// Whether a placeholder stands in the word behind `-c`, which a shell reads as code.
fn makes_code(arguments: &[Vec<u8>]) -> bool {
    let is_code_next =
        |word: &[u8]| word.starts_with(b"-") && !word.starts_with(b"--") && word.contains(&b'c');
    let code = arguments.iter().position(|word| is_code_next(word)).and_then(|at| arguments.get(at + 1));
    code.is_some_and(|code| Template::parse(code).literal().is_none())
}

fn split_words(text: &[u8]) -> Result<Vec<Vec<u8>>, Bad> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\t' => {
                words.extend(word.take());
                at += 1;
            }
            b'\'' | b'"' => {
                let end = quoted_part(text, at, word.get_or_insert_default()).ok_or_else(|| Bad {
                    message: format!("the quote {} is never closed", char::from(byte)),
                    range: at..at + 1,
                })?;
                at = end;
            }
            b'\\' => {
                let Some(&next) = text.get(at + 1) else {
                    return Err(Bad {
                        message: "a backslash at the end escapes nothing".into(),
                        range: at..at + 1,
                    });
                };
                word.get_or_insert_default().push(next);
                at += 2;
            }
            _ => {
                word.get_or_insert_default().push(byte);
                at += 1;
            }
        }
    }
    words.extend(word);
    Ok(words)
}

/// Appends what stands between the quote at `start` and its partner, and returns the offset behind
/// that; `None` without a partner.
fn quoted_part(text: &[u8], start: usize, word: &mut Vec<u8>) -> Option<usize> {
    let quote = text[start];
    let mut at = start + 1;
    loop {
        match *text.get(at)? {
            byte if byte == quote => return Some(at + 1),
            b'\\' if quote == b'"' && text.get(at + 1).is_some_and(|next| b"\"\\$`".contains(next)) => {
                word.push(text[at + 1]);
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// Names that somebody may take a placeholder for, as the log and the environment have them.
const GUESSES: [(&str, &str); 8] = [
    ("path", "pathname"),
    ("file", "filename"),
    ("name", "filename"),
    ("dir", "dirname"),
    ("event", "maskname"),
    ("mask", "maskname"),
    ("src_path", "src_pathname"),
    ("src", "src_pathname"),
];

/// Placeholders that do not exist but look like one that does, such as `{pathnam}`. Other braces
/// are left alone: `${HOME}`, awk's `{print}`.
pub fn misspelled_placeholders(text: &[u8]) -> Vec<Bad> {
    let names = Placeholder::ALL.map(|(_, name)| name.trim_matches(['{', '}']));
    let mut found = Vec::new();
    for (open, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'{') {
        let body = &text[open + 1..];
        let Some(len) = body.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"_-".contains(byte)))
        else {
            continue;
        };
        let word = &body[..len];
        let known = names.iter().any(|name| name.as_bytes() == word);
        if body[len] != b'}' || known || text[..open].ends_with(b"$") {
            continue;
        }
        let guess = GUESSES.iter().find(|(guess, _)| guess.as_bytes() == word).map(|(_, meant)| *meant);
        if let Some(meant) = guess.or_else(|| suggest::nearest(word, names)) {
            let word = String::from_utf8_lossy(word);
            let message = format!("{{{word}}} is not a placeholder, did you mean {{{meant}}}?");
            found.push(Bad { message, range: open..open + len + 2 });
        }
    }
    found
}

/// Placeholders in a command that is started before there is a task.
pub fn placeholders(text: &[u8]) -> Vec<Bad> {
    let mut found = Vec::new();
    for at in 0..text.len() {
        let named = Placeholder::ALL.iter().find(|(_, name)| text[at..].starts_with(name.as_bytes()));
        if let Some((_, name)) = named {
            let message = format!("{name} has no value here: a worker gets its tasks on standard input");
            found.push(Bad { message, range: at..at + name.len() });
        }
    }
    found
}

/// Placeholders of a shell command that stand where quoting cannot protect their values: a file
/// called `$(id)` or `` `id` `` could run a command there. Each value is quoted with single quotes,
/// which is safe wherever sh reads a word, and only there.
pub fn unsafe_placeholders(text: &[u8]) -> Vec<Bad> {
    let mut found = Vec::new();
    let mut nesting = vec![Nesting::Plain];
    let (mut comment, mut unclear) = (false, None);
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let top = nesting.last().copied().unwrap_or(Nesting::Plain);
        if let Some((_, name)) = Placeholder::ALL.iter().find(|(_, name)| rest.starts_with(name.as_bytes())) {
            let before = at.checked_sub(1).map(|before| text[before]);
            if let Some(reason) = unclear.or_else(|| danger(&nesting, comment, before)) {
                found.push(Bad { message: format!("{name} {reason}"), range: at..at + name.len() });
            }
            at += name.len();
            continue;
        }
        let quoted = matches!(top, Nesting::Single | Nesting::Double | Nesting::Brace);
        comment = (comment || !quoted && comment_starts(text, at)) && text[at] != b'\n';
        if comment {
            // Quotes are text here.
            at += 1;
            continue;
        }
        unclear = unclear.or_else(|| what_hides_quotes(top, rest));
        at += step(&mut nesting, top, rest);
    }
    found
}

/// Why a value is not safe at this place of a shell command.
fn danger(nesting: &[Nesting], comment: bool, before: Option<u8>) -> Option<&'static str> {
    let top = nesting.last().copied().unwrap_or(Nesting::Plain);
    if comment {
        Some("in a comment is not safe: a name may hold a newline, which ends the comment")
    } else if nesting.contains(&Nesting::Backtick) {
        Some("between backquotes is not safe: use $( ) instead of them")
    } else if matches!(top, Nesting::Single | Nesting::Double | Nesting::Brace) {
        Some("is quoted already: take away the quotes around it")
    } else if top == Nesting::Arithmetic {
        Some("in an arithmetic expression is not safe")
    } else if matches!(before, Some(b'\\' | b'$')) {
        Some("behind a backslash or dollar sign is not safe: those change the quotes of its value")
    } else {
        None
    }
}

/// Why nothing behind this place is safe: quotes are text there, or shells do not agree where they
/// end, so that a value may stand between quotes in one of them.
fn what_hides_quotes(top: Nesting, rest: &[u8]) -> Option<&'static str> {
    match (top, rest) {
        (Nesting::Brace, [b'"' | b'\'' | b'\\', ..]) => {
            Some("behind quotes within a quoted ${ } is not safe: shells read those differently")
        }
        (Nesting::Single | Nesting::Double | Nesting::Brace, _) | (_, [b'<', b'<', b'<', ..]) => None,
        (_, [b'<', b'<', ..]) => Some("behind << is not safe: a here-document knows no quotes"),
        (_, [b'$', b'\'', ..]) => Some("behind $' is not safe: shells read that differently"),
        (_, [b'$', b'[', ..]) => Some("behind $[ is not safe: shells read that differently"),
        _ => None,
    }
}

/// What a byte of a shell command stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Plain,
    Single,
    Double,
    /// `${ }` between double quotes.
    Brace,
    Parenthesis,
    Backtick,
    Arithmetic,
}

/// Reads one token and returns its length.
fn step(nesting: &mut Vec<Nesting>, top: Nesting, rest: &[u8]) -> usize {
    use Nesting::{Arithmetic, Backtick, Brace, Double, Parenthesis, Plain, Single};
    match (top, rest) {
        (Arithmetic, [b')', b')', ..]) => {
            nesting.pop();
            return 2;
        }
        (Single, [b'\'', ..])
        | (Double, [b'"', ..])
        | (Brace, [b'}', ..])
        | (Parenthesis, [b')', ..])
        | (Backtick, [b'`', ..]) => {
            nesting.pop();
        }
        (Single, _) => {}
        (_, [b'<', b'<', b'<', ..]) => return 3,
        // What is escaped is text, unless it is a placeholder, which is looked at by itself.
        (_, [b'\\', b'{', ..]) => {}
        (_, [b'\\', ..]) => return 2,
        (_, [b'$', b'(', b'(', ..]) => {
            nesting.push(Arithmetic);
            return 3;
        }
        (_, [b'$', b'(', ..]) => {
            nesting.push(Parenthesis);
            return 2;
        }
        (Double | Brace, [b'$', b'{', ..]) => {
            nesting.push(Brace);
            return 2;
        }
        // In sh a subshell in a subshell, elsewhere an expression, whose names are evaluated.
        (Plain | Parenthesis | Backtick, [b'(', b'(', ..]) => {
            nesting.push(Arithmetic);
            return 2;
        }
        (_, [b'`', ..]) => nesting.push(Backtick),
        (Plain | Parenthesis | Backtick, [b'\'', ..]) => nesting.push(Single),
        (Plain | Parenthesis | Backtick, [b'"', ..]) => nesting.push(Double),
        (Plain | Parenthesis | Backtick | Arithmetic, [b'(', ..]) => nesting.push(Parenthesis),
        _ => {}
    }
    1
}

fn comment_starts(text: &[u8], at: usize) -> bool {
    text[at] == b'#' && (at == 0 || b" \t;&|(".contains(&text[at - 1]))
}

/// The first shell operator in the command of an exec scheduler, which starts no shell. One that
/// stands in quotes, as in `sh -c 'a | b'`, is meant as an argument.
pub fn shell_operator(text: &[u8]) -> Option<Bad> {
    let mut at = 0;
    while at < text.len() {
        let len = raw_word_len(&text[at..]);
        let word = &text[at..at + len];
        if SHELL_OPERATORS.contains(&word) {
            let word_shown = String::from_utf8_lossy(word);
            let message =
                format!("{word_shown} is an ordinary argument here: only type = shell runs a shell");
            return Some(Bad { message, range: at..at + len });
        }
        at += len + 1;
    }
    None
}

/// How far it is to the next blank that separates words; quotes and backslashes are still there.
fn raw_word_len(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at = match byte {
            b' ' | b'\t' => return at,
            // A quote that is never closed is an error of its own.
            b'\'' | b'"' => quoted_part(text, at, &mut Vec::new()).unwrap_or(text.len()),
            b'\\' => at + 2,
            _ => at + 1,
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is blamed, and why.
    fn shown(text: &[u8], bad: Vec<Bad>) -> Vec<(String, String)> {
        let blamed = |bad: &Bad| String::from_utf8_lossy(&text[bad.range.clone()]).into_owned();
        bad.into_iter().map(|bad| (blamed(&bad), bad.message)).collect()
    }

    fn check(text: &str, expected: &[&str]) {
        let words = split_words(text.as_bytes()).unwrap();
        let expected: Vec<_> = expected.iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(words, expected, "{text}");
    }

    fn refuse(text: &str, message: &str, blamed: &str) {
        let bad = split(text.as_bytes()).unwrap_err();
        assert_eq!((bad.message.as_str(), &text[bad.range]), (message, blamed));
    }

    #[test]
    fn words_are_split_as_sh_splits_them() {
        check("a b\t c ", &["a", "b", "c"]);
        check(r#"a "b c" 'd "e' f\ g"#, &["a", "b c", "d \"e", "f g"]);
        check(r#"a'b'"c"\d"#, &["abcd"]);
        check(r#""a\"b\\\$\`\c" 'a\b'"#, &["a\"b\\$`\\c", "a\\b"]);
        check("a '' \"\"", &["a", "", ""]);
        check("a $HOME ~ * | # ;", &["a", "$HOME", "~", "*", "|", "#", ";"]);
        check("", &[]);
    }

    #[test]
    fn a_command_that_cannot_be_split_is_refused() {
        refuse("a 'b", "the quote ' is never closed", "'");
        refuse(r#"a "b\""#, "the quote \" is never closed", "\"");
        refuse("a \\", "a backslash at the end escapes nothing", "\\");
        refuse(" ", "the command is empty", " ");
        refuse("'' a", "the program's name is empty", "'' a");
    }

    #[test]
    fn a_placeholder_never_splits_a_word() {
        let words = split(b"cp {pathname} 'to {filename}'").unwrap();
        let values = crate::template::Values {
            kind: crate::event::EventKind::Create,
            path: b"/a b/c d",
            src_path: b"",
            task_id: 1,
            is_dir: false,
        };
        let filled: Vec<_> = words.iter().map(|word| word.fill(&values)).collect();
        assert_eq!(filled, [b"cp".as_slice(), b"/a b/c d", b"to c d"]);
    }

    #[test]
    fn misspelled_placeholders_are_found_and_other_braces_left_alone() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let found = shown(text.as_bytes(), misspelled_placeholders(text.as_bytes()));
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(found, expected);
        };
        check("a {pathnam}", &[("{pathnam}", "{pathnam} is not a placeholder, did you mean {pathname}?")]);
        check("a {path}", &[("{path}", "{path} is not a placeholder, did you mean {pathname}?")]);
        check("a {Pathname}", &[("{Pathname}", "{Pathname} is not a placeholder, did you mean {pathname}?")]);
        check("a {pathname} ${pathnam} {print} {x {pathnam", &[]);
    }

    #[test]
    fn placeholders_where_quoting_does_not_help_are_found() {
        let count = |text: &str| unsafe_placeholders(text.as_bytes()).len();
        let cases = [
            ("a {pathname}", 0),
            ("a \"{pathname}\"", 1),
            ("a '{pathname}' {pathname}", 1),
            ("a \"$(basename {pathname})\"", 0),
            ("a `basename {pathname}`", 1),
            ("a \"`basename {pathname}`\"", 1),
            ("a \"$(echo \"{pathname}\")\"", 1),
            ("a \"x\"{pathname}'y'", 0),
            ("a \\\"{pathname}", 0),
            ("a \\{pathname}", 1),
            ("a \\\\{pathname}", 1),
            ("a ${pathname}", 1),
            ("a $(({task_id} + 1))", 1),
            ("a $(( (1) )) {pathname}", 0),
            ("(a \"b\" {pathname}) '{filename}'", 1),
            ("a {pathname} # don't {pathname} {filename}", 2),
            ("a x#{pathname}", 0),
            ("cat <<E\n{pathname}\nE", 1),
            ("a=$(cat <<'E'\n{pathname}\nE\n)", 1),
            ("cat <<< {pathname}", 0),
            ("a # b\nc {pathname}", 0),
            ("echo '<<' {pathname}", 0),
            ("a \"${x:-{pathname}}\"", 1),
            ("a \"${x:-\"{pathname}\"}\"", 1),
            ("a \"${x:-\"}\"} {pathname}\"", 1),
            ("a \"${x:-$(basename {pathname})}\" {pathname}", 0),
            ("a \"${x:-${y}}\" {pathname} ${z#\"b\"} {pathname}", 0),
            ("a \"${x:-${y}\" {pathname}", 1),
            ("a $'it\\'s' {pathname} 'b'", 1),
            ("a \"$'\" {pathname}", 0),
            ("a $[{task_id}]", 1),
            ("((x = {filename}))", 1),
            ("(a; (b {pathname}))", 0),
            ("# it's\na '{pathname}'", 1),
            ("# it's\na {pathname}", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(count(text), expected, "{text}");
        }
        let bad = unsafe_placeholders(b"a '{pathname}'").remove(0);
        assert_eq!(bad.message, "{pathname} is quoted already: take away the quotes around it");
        assert_eq!(bad.range, 3..13);
    }

    #[test]
    fn code_for_a_shell_holds_no_placeholder() {
        let message = "a file name would become shell code here: use type = shell, or give the placeholder \
                       as an argument behind the code, where it is \"$1\"";
        for text in [
            "sh -c 'wc {pathname}'",
            "/bin/bash -ec {pathname}",
            "dash -e -c \"cat {filename}\"",
            "env X=1 sh -c {filename}",
        ] {
            refuse(text, message, text);
        }
        for text in
            ["sh -c 'wc \"$1\"' sh {pathname}", "sh {pathname}", "gcc -c {pathname}", "sh --cc {pathname}"]
        {
            assert!(split(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn shell_operators_are_found() {
        let bad = shell_operator(b"a  | b").unwrap();
        assert_eq!(bad.message, "| is an ordinary argument here: only type = shell runs a shell");
        assert_eq!(bad.range, 3..4);
        assert_eq!(shell_operator(b"a '|' b|c"), None);
        assert_eq!(shell_operator(br#"sh -c 'a | b > "c"' "d ; e" \| 'f"#), None);
        assert_eq!(shell_operator(b"sh -c 'a | b' >> c").unwrap().range, 14..16);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(text in prop::collection::vec(
            prop::sample::select(b"'\"\\ $()`#{}pathnme_\xff\t".as_slice()), 0..60)
        ) {
            for bad in misspelled_placeholders(&text).into_iter().chain(unsafe_placeholders(&text)) {
                prop_assert!(bad.range.end <= text.len());
            }
            let _ = split(&text);
        }
    }
}
