//! The files that CONTRIBUTING.md names exist.

use crate::repository::{enforce, root, texts};

/// A name in backquotes is a path if it begins with one of these.
const FOLDERS: [&str; 5] = ["src/", "tests/", "man/", "conf/", "tools/"];

/// The paths that a text names.
fn named_paths(text: &str) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate();
    let names = lines
        .flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |name| (number + 1, name)));
    names.filter(|(_, name)| FOLDERS.iter().any(|folder| name.starts_with(folder))).collect()
}

fn check_paths(_path: &str, text: &str) -> Vec<(usize, String)> {
    let missing = named_paths(text).into_iter().filter(|(_, name)| !root().join(name).exists());
    missing.map(|(line, name)| (line, format!("there is no {name}"))).collect()
}

#[test]
fn the_files_that_contributors_are_sent_to_exist() {
    enforce(texts(&["CONTRIBUTING.md"]), check_paths);
}

#[test]
fn the_rule_of_named_files_finds_what_is_missing() {
    let check = |text: &str, expected: usize| {
        assert_eq!(check_paths("CONTRIBUTING.md", text).len(), expected, "{text}");
    };
    check("`src/lib.rs` and `src/config/`, then `perform` and `man/rinotifyd.8`.", 0);
    check("`src/lib.rs`: see\n`src/none.rs` and `tests/none`", 2);
}
