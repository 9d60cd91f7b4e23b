//! Commands: splitting into words, and mistakes with placeholders.

use super::diagnostics::Bad;
use super::suggest;
use crate::script::evaluated::{self, Argument};
use crate::template::{Placeholder, Template, Value};

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
        Some(_) if !evaluated::code(&arguments(&words)).is_empty() => {
            Err(Bad::whole(text, evaluated::EXEC_CODE))
        }
        Some(_) => Ok(words.iter().map(|word| Template::parse(word)).collect()),
    }
}

fn arguments(words: &[Vec<u8>]) -> Vec<Argument> {
    let argument = |word: &Vec<u8>| {
        let values = || Template::parse(word).values().collect::<Vec<_>>().into_iter();
        let has = |wanted: fn(&Value) -> bool| values().any(|value| wanted(&value));
        Argument {
            text: word.clone(),
            begins_with_value: Value::at(word).is_some(),
            has_value: has(|value| !value.placeholder.is_number()),
            has_raw_value: has(|value| !value.placeholder.is_number() && !value.quoted),
            found: 0..0,
        }
    };
    words.iter().map(argument).collect()
}

/// Placeholders of an exec command that another machine's shell would read.
pub fn remote_placeholders(text: &[u8]) -> Option<Bad> {
    let words = split_words(text).ok()?;
    let words = arguments(&words);
    let mut remote = evaluated::remote(&words);
    let text_of = &remote.next()?.text;
    let mut names = (0..text_of.len()).filter_map(|at| {
        let (value, len) = Value::at(&text_of[at..])?;
        (!value.quoted && !value.placeholder.is_number()).then(|| &text_of[at..at + len])
    });
    let name = names.next()?;
    Some(Bad::whole(text, evaluated::remote_warning(&String::from_utf8_lossy(name))))
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

/// Names that a user may take for a placeholder, as the log and the environment have them.
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
    let names = Placeholder::ALL.map(|(_, name)| name);
    let mut found = Vec::new();
    for (open, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'{') {
        let body = &text[open + 1..];
        let Some(len) = body.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"_-".contains(byte)))
        else {
            continue;
        };
        let word = &body[..len];
        let known = names.iter().any(|name| name.as_bytes() == word);
        let suffix = if body[len..].starts_with(b"@Q") { "@Q" } else { "" };
        let end = len + suffix.len();
        if body.get(end) != Some(&b'}') || known || text[..open].ends_with(b"$") {
            continue;
        }
        let guess = GUESSES.iter().find(|(guess, _)| guess.as_bytes() == word).map(|(_, meant)| *meant);
        if let Some(meant) = guess.or_else(|| suggest::nearest(word, names)) {
            let word = String::from_utf8_lossy(word);
            let message =
                format!("{{{word}{suffix}}} is not a placeholder, did you mean {{{meant}{suffix}}}?");
            found.push(Bad { message, range: open..open + end + 2 });
        }
    }
    found
}

/// Words at the start of a command that the shell itself knows (POSIX.1-2017, 2.4 and 2.14, and `sh(1)`).
const SHELL_WORDS: [&str; 47] = [
    "alias", "bg", "break", "case", "cd", "command", "continue", "echo", "eval", "exec", "exit", "export",
    "false", "fc", "fg", "for", "function", "getopts", "hash", "if", "jobs", "kill", "local", "printf",
    "pwd", "read", "readonly", "return", "set", "shift", "test", "time", "times", "trap", "true", "type",
    "ulimit", "umask", "unalias", "unset", "until", "wait", "while", "let", "source", "select", "declare",
];

/// The program that a shell command begins with, if it can be told without reading the command as sh does.
pub fn plain_program(text: &[u8]) -> Option<Vec<u8>> {
    let word = text.split(|byte| b" \t;&|".contains(byte)).next().filter(|word| !word.is_empty())?;
    let is_plain = word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.+-/".contains(byte));
    let is_known = SHELL_WORDS.iter().any(|known| known.as_bytes() == word) || word == b".";
    // A function is defined at the start.
    let is_function = text[word.len()..].trim_ascii_start().starts_with(b"(");
    (is_plain && !is_known && !is_function).then(|| word.to_vec())
}

/// Programs that do nothing with a path but write it.
const WRITERS: [&[u8]; 4] = [b"echo", b"printf", b"logger", b"true"];

/// Whether a command may read the file that it is started for: it gets its path, and does not only print it.
pub fn may_read(text: &[u8]) -> bool {
    let mut words = text.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    let only_writes = words.next().is_none_or(|word| WRITERS.contains(&word));
    let is_path = |at: usize| {
        let name = Value::at(&text[at..]).map(|(_, len)| &text[at..at + len]);
        name.is_some_and(|name| {
            !name.starts_with(b"{mask") && !name.starts_with(b"{task") && !name.starts_with(b"{is_")
        })
    };
    !only_writes && (0..text.len()).any(is_path)
}

/// Placeholders in a command that is started before there is a task.
pub fn placeholders(text: &[u8]) -> Vec<Bad> {
    let mut found = Vec::new();
    for at in 0..text.len() {
        if let Some((_, len)) = Value::at(&text[at..]) {
            let name = String::from_utf8_lossy(&text[at..at + len]);
            let message = format!("{name} has no value here: a worker gets its tasks on standard input");
            found.push(Bad { message, range: at..at + len });
        }
    }
    found
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
    fn the_program_of_a_shell_command() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(plain_program(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        };
        check("wc -c {pathname}", Some("wc"));
        check("/opt/a.sh; b", Some("/opt/a.sh"));
        check("a|b", Some("a"));
        for text in [
            "",
            "if a; then b; fi",
            "x=1",
            "$HOME/a",
            "'a b' c",
            "(a)",
            "f() { a; }",
            "f () { a; }",
            "! a",
            "{ a; }",
            "> b",
            ". a",
            "[ a ]",
            "{pathname}",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_command_that_gets_a_path_may_read_the_file() {
        let check = |text: &str, expected| assert_eq!(may_read(text.as_bytes()), expected, "{text}");
        check("wc -c {pathname}", true);
        check("  a {dirname}/{filename@Q}", true);
        check("", false);
        check("make all", false);
        check("echo {pathname}", false);
        check("logger {pathname} {maskname}", false);
        check("a {maskname} {task_id} {is_dir}", false);
    }

    #[test]
    fn a_placeholder_never_splits_a_word() {
        let words = split(b"cp {pathname} 'to {filename}'").unwrap();
        let values = crate::template::Values {
            kind: crate::event::EventKind::Create,
            path: b"/a b/c d",
            src_path: b"",
            rel_path: b"c d",
            task_id: 1,
            is_dir: false,
            attempt: 1,
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
        let message = "{pathnam@Q} is not a placeholder, did you mean {pathname@Q}?";
        check("a {pathnam@Q}", &[("{pathnam@Q}", message)]);
        check("a {pathname} {pathname@Q} ${pathnam} {print} {x {pathnam", &[]);
    }

    #[test]
    fn code_for_a_shell_holds_no_placeholder() {
        for text in [
            "sh -c 'wc {pathname}'",
            "/bin/bash -ec {pathname}",
            "dash -e -c \"cat {filename}\"",
            "bash -c -e {pathname}",
            "bash -c +x -- {pathname}",
            "bash -o errexit -c {pathname}",
            "bash --rcfile /x -c {pathname}",
            "bash -O extglob -c{pathname}",
            "env X=1 sh -c {filename}",
            "env -S 'sh -c {filename}'",
            "nice -n 5 timeout 3 sh -c {filename}",
            "busybox sh -c {filename}",
            "sudo -u x zsh -c {filename@Q}",
            "su nobody -s /bin/sh -c {filename}",
            "flock /lock -c 'wc {pathname}'",
            "python3.11 -Ic \"print('{filename}')\"",
            "perl -ne {filename}",
            "perl -e{filename}",
            "awk '/{filename}/' x",
            "sed -i s/x/{filename}/ x",
            "find /x -exec sh -c 'wc {}; echo {filename}' ;",
        ] {
            refuse(text, evaluated::EXEC_CODE, text);
        }
        for text in [
            "sh -c 'wc \"$1\"' sh {pathname}",
            "sh -c 'echo {task_id}'",
            "sh {pathname}",
            "bash -o errexit {pathname}",
            "gcc -c {pathname}",
            "sh --cc {pathname}",
            "su nobody -s /bin/sh -c 'wc \"$1\"' sh {pathname}",
            "flock /lock wc -c {pathname}",
            "awk -v x={filename} '{print x}' {pathname}",
            "ssh host rm {pathname}",
        ] {
            assert!(split(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn another_machine_reads_its_command_again() {
        let bad = remote_placeholders(b"ssh host rm -- {pathname}").unwrap();
        assert!(bad.message.contains("write {pathname@Q}"), "{}", bad.message);
        for text in
            ["ssh host rm -- {pathname@Q}", "rsync -e ssh {pathname} host:", "ssh host echo {task_id}"]
        {
            assert_eq!(remote_placeholders(text.as_bytes()), None, "{text}");
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
            for bad in misspelled_placeholders(&text).into_iter().chain(remote_placeholders(&text)) {
                prop_assert!(bad.range.end <= text.len());
            }
            let _ = split(&text);
        }
    }
}
