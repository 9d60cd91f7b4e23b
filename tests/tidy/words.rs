//! Words that must not stay. What clippy finds (`dbg_macro`, `todo` and the like in Cargo.toml, sleeps in
//! clippy.toml) is left to it.

use crate::repository::{enforce, texts};
use crate::rust::{line_of, word_positions};

/// Put together here, so that this file does not hold them.
const BANNED: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

/// A test may be left out of the run only if another one runs it, in a process of its own.
fn is_run_by_another(text: &str, at: usize) -> bool {
    let attribute = text[at..].lines().next().unwrap_or_default();
    let runner = attribute.split_once("= \"run by ").and_then(|(_, rest)| rest.split_once('"'));
    runner.is_some_and(|(name, _)| text.contains(&format!("fn {name}()")) && text.contains("alone(\""))
}

fn check_words(_path: &str, text: &str) -> Vec<(usize, String)> {
    let mut findings = Vec::new();
    let mut report = |at, what: String| findings.push((line_of(text, at), what));
    for word in BANNED {
        word_positions(text, word).into_iter().for_each(|at| report(at, format!("{word} must not stay")));
    }
    let skip = concat!("#[", "ignore");
    for at in word_positions(text, skip) {
        if !is_run_by_another(text, at) {
            report(at, format!("{skip} needs a test that runs this one"));
        }
    }
    let later = concat!("TO", "DO");
    for at in word_positions(text, later) {
        let line = text[at..].lines().next().unwrap_or_default();
        let numbered =
            line.split_once('#').is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
        if !numbered {
            report(at, format!("{later} without the #number of an issue"));
        }
    }
    findings
}

#[test]
fn no_banned_word_is_left() {
    let paths = ["src", "tests", "man", "README.md", "ARCHITECTURE.md", "CHANGELOG.md"];
    enforce(texts(&paths), check_words);
}

#[test]
fn the_word_rule_finds_what_is_wrong() {
    let check = |path, text: &str, expected: usize| {
        assert_eq!(check_words(path, text).len(), expected, "{path}: {text}");
    };
    for word in BANNED {
        check("tests/it/main.rs", &format!("a\n{word} b"), 1);
    }
    let skipped = concat!("#[", "ignore");
    check("src/sys/mod.rs", &format!("{skipped}]"), 1);
    check("src/sys/mod.rs", &format!("{skipped} = \"run by other\"]"), 1);
    check("src/sys/mod.rs", &format!("{skipped} = \"run by other\"]\nfn other() {{ alone(\"x\") }}"), 0);
    check("README.md", concat!("TO", "DO: later"), 1);
    check("README.md", concat!("TO", "DO(#): later"), 1);
    check("README.md", concat!("TO", "DO(#17): later"), 0);
    check("README.md", "mktemp XXXXXX", 0);
}
