//! How long a file may be; clippy measures functions (`too_many_lines`).

use crate::repository::{enforce, texts};

const FILE_LINES_MAX: usize = 700;

fn check_length(_path: &str, text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().count();
    let too_long = lines > FILE_LINES_MAX;
    too_long.then(|| (1, format!("{lines} lines, at most {FILE_LINES_MAX}"))).into_iter().collect()
}

#[test]
fn no_file_is_too_long() {
    let rust = texts(&["build.rs", "src", "tests", "benches"]).filter(|(path, _)| path.ends_with(".rs"));
    enforce(rust, check_length);
}

#[test]
fn the_length_rule_finds_what_is_wrong() {
    let check = |lines: usize, expected: usize| {
        assert_eq!(check_length("tests/it/main.rs", &"\n".repeat(lines)).len(), expected, "{lines}");
    };
    check(FILE_LINES_MAX, 0);
    check(FILE_LINES_MAX + 1, 1);
}
