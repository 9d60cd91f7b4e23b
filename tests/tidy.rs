//! The house rules that neither the compiler nor clippy checks: layers, the one door to the kernel,
//! words that must not stay, lengths, dependencies, manual pages.
//!
//! Each rule is a function from text to findings. It runs over the repository, and next to it over
//! bad input, so that a rule that finds nothing is known to be able to find something.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rinotifyd::config::load::{Host, HostFile, Ownership, load};
use rinotifyd::config::schema::{Kind, SECTIONS, Section};
use rinotifyd::face::cli::FLAGS;
use rinotifyd::face::ctl;
use rinotifyd::pattern::PathPattern;
use rinotifyd::types::Identity;

/// The modules that `lib.rs` declares, each with its layer.
const LAYERS: [(&str, u8); 14] = [
    ("event", WORDS),
    ("types", WORDS),
    ("record", WORDS),
    ("quote", WORDS),
    ("rows", WORDS),
    ("template", PURE),
    ("script", PURE),
    ("replacement", PURE),
    ("pattern", PURE),
    ("config", PURE),
    ("engine", PURE),
    ("sys", 2),
    ("shell", 3),
    ("face", 4),
];
const WORDS: u8 = 0;
const PURE: u8 = 1;
const SYS: u8 = 2;

/// What the pure layers must not touch, and the words even less.
const IMPURE: [&str; 5] = ["fs", "env", "thread", "time", "process"];

const DEPENDENCIES: [&str; 5] = ["getopts", "libc", "nix", "regex", "syslog"];

/// What the build script may use; nothing of it is in the binary.
const BUILD_DEPENDENCIES: [&str; 1] = ["miniz_oxide"];

const FILE_LINES_MAX: usize = 700;
const FUNCTION_LINES_MAX: usize = 70;

/// With this in the environment, a missing tool is a failure instead of a remark.
const REQUIRE_TOOLS: &str = "RINOTIFYD_REQUIRE_TOOLS";

/// Marks where the tests of a source file begin.
const TESTS_MARK: &str = "#[cfg(test)]";

// The repository.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `path`, which may itself be a file or not exist, relative to the repository.
fn files(path: &str) -> Vec<PathBuf> {
    let full = root().join(path);
    if full.is_file() {
        return vec![PathBuf::from(path)];
    }
    let Ok(entries) = fs::read_dir(&full) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.iter().flat_map(|name| files(&format!("{path}/{name}"))).collect()
}

fn sources() -> impl Iterator<Item = (String, String)> {
    texts(&["src"]).filter(|(path, _)| path.ends_with(".rs"))
}

/// Path and text of everything below `paths`.
fn texts(paths: &[&str]) -> impl Iterator<Item = (String, String)> {
    paths.iter().flat_map(|path| files(path)).map(|path| {
        let bytes = fs::read(root().join(&path)).unwrap();
        (path.into_os_string().into_string().unwrap(), String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// Runs a rule over files and fails with everything it found.
fn enforce(texts: impl Iterator<Item = (String, String)>, rule: impl Fn(&str, &str) -> Vec<(usize, String)>) {
    let mut count = 0;
    let mut findings = Vec::new();
    for (path, text) in texts {
        count += 1;
        findings.extend(rule(&path, &text).iter().map(|(line, what)| format!("{path}:{line}: {what}")));
    }
    assert!(count > 0, "there was nothing to check");
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

// Reading Rust, as far as the rules need it.

/// The same text, of the same length and lines, with comments and the contents of string and
/// character literals blanked out.
fn code_of(text: &str) -> String {
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

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands in `text`, not as a part of a longer word.
fn word_positions(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let whole = |at: usize| {
        let end = at + word.len();
        let before = at == 0 || !is_word(bytes[at - 1]) || !is_word(bytes[at]);
        before && bytes.get(end).is_none_or(|&byte| !is_word(byte) || !is_word(bytes[end - 1]))
    };
    text.match_indices(word).map(|(at, _)| at).filter(|&at| whole(at)).collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The first names of all paths that start with `prefix` (such as `crate::`), groups in braces
/// taken apart; each with its line.
fn names_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
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
fn prefix_positions(code: &str, prefix: &str) -> Vec<usize> {
    let starts = |at: usize| at == 0 || !is_word(code.as_bytes()[at - 1]);
    code.match_indices(prefix).map(|(at, _)| at).filter(|&at| starts(at)).collect()
}

/// The items of a brace group whose opening brace is already gone.
fn group_items(group: &str) -> impl Iterator<Item = &str> {
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
    let items = cuts.into_iter().map(move |cut| group[cut..end].trim_start());
    items.filter(|item| !item.is_empty())
}

fn first_word(text: &str) -> String {
    text.bytes().take_while(|&byte| is_word(byte)).map(char::from).collect()
}

/// The text before its tests.
fn before_tests(text: &str) -> &str {
    text.split(TESTS_MARK).next().unwrap_or_default()
}

// Layers.

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The top-level module that a file of `src` belongs to.
fn module_of(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Words and pure modules may import from their own layer, everything from lower ones; `sys` only
/// words. `lib.rs` declares, and `main.rs` stands on top of all.
fn check_layers(path: &str, text: &str) -> Vec<(usize, String)> {
    let module = module_of(path);
    if module == "lib" || module == "main" {
        return Vec::new();
    }
    let Some(own) = layer(module) else {
        return vec![(1, format!("module {module} has no layer, tests/tidy.rs has the table"))];
    };
    let code = code_of(text);
    let mut findings = Vec::new();
    for (line, name) in names_after(&code, "crate::") {
        let allowed = match layer(&name) {
            _ if name == module => true,
            Some(other) if own == SYS => other == WORDS,
            Some(other) if own <= PURE => other <= own,
            Some(other) => other < own,
            // A macro or a re-export at the root would hide where it comes from.
            None => false,
        };
        if !allowed {
            findings.push((line, format!("{module} must not import crate::{name}")));
        }
    }
    findings.extend(supers_to_the_root(path, &code));
    if own <= PURE {
        let banned = names_after(before_tests(&code), "std::");
        let banned = banned.into_iter().filter(|(_, name)| IMPURE.contains(&name.as_str()));
        findings.extend(
            banned.map(|(line, name)| (line, format!("{module} is pure, it must not use std::{name}"))),
        );
    }
    findings
}

/// Chains of `super::` that reach the root of the crate, where the layer no longer shows.
fn supers_to_the_root(path: &str, code: &str) -> Vec<(usize, String)> {
    let module = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = module.split('/').count();
    let tests = before_tests(code).len();
    let mut findings = Vec::new();
    let mut after_chain = 0;
    for at in prefix_positions(code, "super::") {
        if at < after_chain {
            continue;
        }
        let count = code[at..].split("super::").take_while(|between| between.is_empty()).count();
        after_chain = at + count * "super::".len();
        // The tests are a module of their own below the file's.
        if count >= depth + usize::from(at > tests) {
            findings
                .push((line_of(code, at), "too many super::, write crate:: so that the layer shows".into()));
        }
    }
    findings
}

#[test]
fn every_module_imports_only_from_layers_below() {
    enforce(sources(), check_layers);
    let declared = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules = declared.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut modules: Vec<_> = modules.collect();
    let mut table: Vec<_> = LAYERS.iter().map(|(name, _)| *name).collect();
    modules.sort_unstable();
    table.sort_unstable();
    assert_eq!(modules, table, "src/lib.rs against the table of layers");
}

#[test]
fn the_layer_rule_finds_what_is_wrong() {
    let check = |path, text, expected: usize| {
        assert_eq!(check_layers(path, text).len(), expected, "{path}: {text}");
    };
    check("src/engine/tree.rs", "use crate::types::Wd; use crate::config::Config;", 0);
    check("src/engine/tree.rs", "use crate::{types::Wd, sys::{epoll, shell}, shell};", 2);
    check("src/engine/tree.rs", "// crate::sys\nlet text = \"crate::sys\";", 0);
    check("src/engine/mod.rs", "use std::{io, fs};", 1);
    check("src/engine/mod.rs", "fn f() { std::thread::yield_now() }", 1);
    check("src/engine/mod.rs", "#[cfg(test)]\nmod tests { use std::fs; }", 0);
    check("src/engine/mod.rs", "#[cfg(test)]\nmod tests { use crate::sys; }", 1);
    check("src/event.rs", "use crate::engine;", 1);
    check("src/event.rs", "use std::time::Duration;", 1);
    check("src/sys/clock.rs", "use crate::types::Millis; use std::time::Instant; use crate::sys::errno;", 0);
    check("src/sys/clock.rs", "use crate::config::Config;", 1);
    check("src/shell/mod.rs", "use crate::{engine, sys, config};", 0);
    check("src/shell/mod.rs", "use crate::face::cli;", 1);
    check("src/shell/a/b.rs", "use super::super::c;", 0);
    check("src/shell/a/b.rs", "use super::super::super::face;", 1);
    check("src/engine/mod.rs", "use super::sys;", 1);
    check("src/engine/tree.rs", "use super::wheel;\n#[cfg(test)]\nmod tests { use super::super::wheel; }", 0);
    check("src/engine/tree.rs", "#[cfg(test)]\nmod tests { use super::super::super::sys; }", 1);
    check("src/face/mod.rs", "use crate::shell; use crate::newcomer::Thing;", 1);
    check("src/newcomer.rs", "", 1);
}

// The one door to the kernel.

fn check_door(path: &str, text: &str) -> Vec<(usize, String)> {
    if path.starts_with("src/sys/") {
        return Vec::new();
    }
    let code = code_of(text);
    let find = |word| {
        let found = word_positions(&code, word);
        found.into_iter().map(|at| (line_of(&code, at), format!("{word} belongs into src/sys"))).collect()
    };
    ["unsafe", "libc", "nix"].into_iter().flat_map(|word| -> Vec<_> { find(word) }).collect()
}

#[test]
fn only_sys_talks_to_the_kernel() {
    enforce(sources(), check_door);
}

#[test]
fn the_door_rule_finds_what_is_wrong() {
    let check = |path, text, expected: usize| {
        assert_eq!(check_door(path, text).len(), expected, "{path}: {text}");
    };
    check("src/shell/mod.rs", "fn f() { unsafe { g() } }", 1);
    check("src/shell/mod.rs", "use libc;\nuse nix::{errno, fcntl};\nlet x = libc::EIO;", 3);
    check("src/shell/mod.rs", "#![deny(unsafe_code)] // unsafe\n", 0);
    check("src/sys/epoll.rs", "unsafe { libc::close(1) }", 0);
}

// Words that must not stay.

/// Put together here, so that this file does not hold them.
fn banned_words() -> [&'static str; 5] {
    [
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("dbg", "!"),
        concat!("todo", "!"),
        concat!("unimplemented", "!"),
    ]
}

/// A test may be left out of the run only if another one runs it, in a process of its own.
fn is_run_by_another(text: &str, at: usize) -> bool {
    let attribute = text[at..].lines().next().unwrap_or_default();
    let runner = attribute.split_once("= \"run by ").and_then(|(_, rest)| rest.split_once('"'));
    runner.is_some_and(|(name, _)| text.contains(&format!("fn {name}()")) && text.contains("alone(\""))
}

fn check_words(path: &str, text: &str) -> Vec<(usize, String)> {
    let mut findings = Vec::new();
    let mut report = |at, what: String| findings.push((line_of(text, at), what));
    for word in banned_words() {
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
    if path.starts_with("src/") {
        let code = code_of(text);
        let sleeps = code.match_indices(concat!("thread::", "sleep"));
        sleeps.for_each(|(at, _)| report(at, "the daemon waits in epoll, it never sleeps".into()));
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
    for word in banned_words() {
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
    check("src/shell/mod.rs", concat!("std::thread::", "sleep(second)"), 1);
    check("tests/it/main.rs", concat!("std::thread::", "sleep(poll)"), 0);
}

// Lengths.

fn check_lengths(_path: &str, text: &str) -> Vec<(usize, String)> {
    let mut findings = Vec::new();
    let lines = before_tests(text).lines().count();
    if lines > FILE_LINES_MAX {
        findings.push((1, format!("{lines} lines before the tests, at most {FILE_LINES_MAX}")));
    }
    for (line, name, lines) in functions(&code_of(text)) {
        if lines > FUNCTION_LINES_MAX {
            findings.push((line, format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}")));
        }
    }
    findings
}

/// Line, name and number of lines of every function with a body.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for at in word_positions(code, "fn") {
        let name = first_word(code[at + 2..].trim_start());
        if name.is_empty() {
            continue; // a function pointer type
        }
        if let Some(len) = function_len(&code[at..]) {
            found.push((line_of(code, at), name, code[at..at + len].lines().count()));
        }
    }
    found
}

/// How many bytes the function takes that starts here; nothing when it has no body.
fn function_len(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_body = false;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            // Less than nothing: a macro's pattern, not a function.
            b')' | b']' => depth = depth.checked_sub(1)?,
            b';' if depth == 0 && !in_body => return None,
            b'{' => {
                in_body |= depth == 0;
                depth += 1;
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && in_body {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn files_and_functions_fit_on_a_screen() {
    enforce(sources(), check_lengths);
}

#[test]
fn the_length_rule_finds_what_is_wrong() {
    let check = |text: &str, expected: usize| {
        assert_eq!(check_lengths("src/shell/mod.rs", text).len(), expected, "{text:.80}");
    };
    check(&"\n".repeat(FILE_LINES_MAX), 0);
    check(&"\n".repeat(FILE_LINES_MAX + 1), 1);
    check(&format!("{TESTS_MARK}{}", "\n".repeat(FILE_LINES_MAX + 1)), 0);
    let body =
        |lines: usize| format!("fn f(a: [u8; 4], b: fn(u8)) {{{}}}\nfn g();\n", "\n".repeat(lines - 1));
    check(&body(FUNCTION_LINES_MAX), 0);
    check(&body(FUNCTION_LINES_MAX + 1), 1);
    check(&format!("fn a() {{ '{{'; \"}}\"; r#\"}}\"#; b'\\''; }}{}", "\n".repeat(100)), 0);
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

// Dependencies.

fn check_dependencies(_path: &str, text: &str) -> Vec<(usize, String)> {
    let mut section = "";
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let name = if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            // [dependencies.NAME], also of a target.
            section
                .rsplit_once("dependencies.")
                .filter(|(kind, _)| !kind.ends_with("dev-"))
                .map(|(_, name)| name)
        } else if section.ends_with("dependencies") && !section.ends_with("dev-dependencies") {
            line.split(['=', '.'])
                .next()
                .map(str::trim)
                .filter(|name| !name.is_empty() && !name.starts_with('#'))
        } else {
            None
        };
        let build = section.contains("build-dependencies");
        let agreed: &[&str] = if build { &BUILD_DEPENDENCIES } else { &DEPENDENCIES };
        if let Some(name) = name.filter(|name| !agreed.contains(name)) {
            findings.push((number + 1, format!("{name} is not one of the agreed dependencies")));
        }
    }
    findings
}

#[test]
fn the_binary_has_only_the_agreed_dependencies() {
    enforce(texts(&["Cargo.toml"]), check_dependencies);
}

#[test]
fn the_dependency_rule_finds_what_is_wrong() {
    let check = |text, expected: usize| {
        assert_eq!(check_dependencies("Cargo.toml", text).len(), expected, "{text}");
    };
    check("[dependencies]\nnix = \"1\"\nregex.version = \"1\"\n[dev-dependencies]\nserde = \"1\"", 0);
    check("[dependencies]\n# why\nserde = \"1\"", 1);
    check("[dependencies.serde]\nversion = \"1\"", 1);
    check("[dev-dependencies.serde]\nversion = \"1\"", 0);
    check("[target.'cfg(unix)'.dependencies]\nserde.version = \"1\"", 1);
    check("[build-dependencies]\n[dependencies]\nlibc = \"0.2\"\ncc = \"1\"", 1);
    check(
        "[build-dependencies]\nminiz_oxide = \"0.8\"\ncc = \"1\"\n[build-dependencies.libc]\nversion = \"1\"",
        2,
    );
}

// Manual pages.

/// The words of a page's lines, by the macro that the line starts with.
fn page_items(page: &str) -> Vec<Vec<&str>> {
    let items = page.lines().filter_map(|line| line.strip_prefix(".It "));
    items.map(|item| item.split_whitespace().collect()).collect()
}

/// Which flags, given as `c` or `json`, no `.It Fl c` (or `.It Fl -json`) of the page explains.
fn missing_flags<'a>(page: &str, flags: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let items = page_items(page);
    let explained = |flag: &str| {
        let long = format!("-{flag}");
        items
            .iter()
            .any(|item| item.windows(2).any(|pair| pair[0] == "Fl" && (pair[1] == flag || pair[1] == long)))
    };
    flags.into_iter().filter(|flag| !explained(flag)).map(str::to_owned).collect()
}

/// Which keys no `.It` of the page names, whatever macro marks them.
fn missing_keys<'a>(page: &str, keys: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let items = page_items(page);
    let explained = |key: &str| items.iter().any(|item| item.contains(&key));
    keys.into_iter().filter(|key| !explained(key)).map(str::to_owned).collect()
}

#[test]
fn the_page_rules_find_what_is_missing() {
    let page = ".Sh OPTIONS\n.It Fl c Ar file\n.It Fl e Ar event , Fl -explain\n.Fl x\n.It Cm delay\nrules\n";
    assert_eq!(missing_flags(page, ["c", "e", "explain"]), [""; 0]);
    assert_eq!(missing_flags(page, ["c", "x", "file"]), ["x", "file"]);
    assert_eq!(missing_keys(page, ["delay"]), [""; 0]);
    assert_eq!(missing_keys(page, ["delay", "rules"]), ["rules"]);
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("man").join(name)).unwrap()
}

#[test]
fn every_option_is_in_the_manual() {
    let names = FLAGS.iter().flat_map(|flag| [flag.short, flag.long]).filter(|name| !name.is_empty());
    assert_eq!(missing_flags(&page("rinotifyd.8"), names), [""; 0]);
}

#[test]
fn every_option_and_command_of_the_client_is_in_its_manual() {
    let page = page("rinotifyctl.8");
    let names = ctl::FLAGS.iter().flat_map(|flag| [flag.short, flag.long]).filter(|name| !name.is_empty());
    assert_eq!(missing_flags(&page, names), [""; 0]);
    assert_eq!(missing_keys(&page, ctl::VERBS.iter().map(|verb| verb.word)), [""; 0]);
}

/// What is wrong with a file of `conf/completions`: options of this table that it lacks, and long
/// ones that it has and the table has not.
fn wrong_completions(path: &str, text: &str, flags: &[(&str, &str)]) -> Vec<String> {
    let fish = path.ends_with(".fish");
    let (short_mark, long_mark) = if fish { ("-s ", "-l ") } else { ("-", "--") };
    let is_separate =
        |text: &str, at: usize| at == 0 || !is_word(text.as_bytes()[at - 1]) && !text[..at].ends_with('-');
    let marked = |mark: &str, name: &str| {
        let option = format!("{mark}{name}");
        let ends = |at: usize| {
            text[at + option.len()..].bytes().next().is_none_or(|byte| !is_word(byte) && byte != b'-')
        };
        text.match_indices(&option).any(|(at, _)| is_separate(text, at) && ends(at))
    };
    let mut wrong = Vec::new();
    for (short, long) in flags {
        wrong.extend((!short.is_empty() && !marked(short_mark, short)).then(|| format!("no -{short}")));
        wrong.extend((!marked(long_mark, long)).then(|| format!("no --{long}")));
    }
    // In fish, only the lines that are about the programs; elsewhere, every long option in the text.
    let lines = text.lines().filter(|line| !fish || line.starts_with("complete -c rinotify"));
    let lines = lines.filter(|line| !line.trim_start().starts_with('#'));
    let lines = lines.filter(|line| fish || !line.contains("compgen") && !line.contains("_describe"));
    for line in lines {
        for (at, _) in line.match_indices(long_mark).filter(|(at, _)| is_separate(line, *at)) {
            let rest = &line[at + long_mark.len()..];
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let known = name.is_empty() || flags.iter().any(|(_, long)| *long == name);
            wrong.extend((!known).then(|| format!("unknown --{name}")));
        }
    }
    wrong
}

#[test]
fn every_option_is_completed() {
    let flags: Vec<_> = FLAGS.iter().chain(ctl::FLAGS).map(|flag| (flag.short, flag.long)).collect();
    let verbs: Vec<_> = ctl::VERBS.iter().map(|verb| verb.word).collect();
    for (path, text) in texts(&["conf/completions"]) {
        assert_eq!(wrong_completions(&path, &text, &flags), [""; 0], "{path}");
        assert!(text.contains(&verbs.join(" ")), "{path}: {verbs:?}");
    }
}

#[test]
fn the_completion_rule_finds_what_is_wrong() {
    let flags = [("c", "config"), ("", "pidfile")];
    let check = |path, text, expected: &[&str]| {
        assert_eq!(wrong_completions(path, text, &flags), expected, "{path}: {text}");
    };
    check("x.bash", "'--config --pidfile -c'", &[]);
    check(
        "x.bash",
        "'--configtest --pid -c'",
        &["no --config", "no --pidfile", "unknown --configtest", "unknown --pid"],
    );
    check("_x", "{-c,--config=}[x] '--pidfile=[y]'", &[]);
    check("_x", "{-x,--config=}[x] '--pidfile=[y]'", &["no -c"]);
    check("x.fish", "complete -c rinotifyd -s c -l config\ncomplete -c rinotifyd -l pidfile", &[]);
    check("x.fish", "complete -c rinotifyd -s c -l config -l pidfile -l other", &["unknown --other"]);
}

/// The subsection whose title holds `[word]` or `[word NAME]`.
fn subsection<'a>(page: &'a str, word: &str) -> Option<&'a str> {
    let is_about = |line: &str| {
        let title = line.strip_prefix(".Ss ").unwrap_or_default();
        title.contains(&format!("[{word}]")) || title.contains(&format!("[{word} NAME]"))
    };
    let title = page.lines().find(|line| is_about(line))?;
    let (_, rest) = page.split_once(title)?;
    let end = [rest.find("\n.Ss "), rest.find("\n.Sh ")].into_iter().flatten().min();
    Some(&rest[..end.unwrap_or(rest.len())])
}

/// Which keys that exist the page does not explain below the title of their section, and which it
/// explains that do not exist yet.
fn wrong_keys(page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for section in SECTIONS {
        let Some(text) = subsection(page, section.word) else {
            wrong.extend(section.built.then(|| format!("[{}]", section.word)));
            continue;
        };
        let built = section.keys.iter().filter(|key| key.built).map(|key| key.name);
        let missing = missing_keys(text, built);
        wrong.extend(missing.iter().map(|key| format!("{key} in [{}]", section.word)));
        for key in section.keys.iter().filter(|key| !key.built) {
            let explained = missing_keys(text, [key.name]).is_empty();
            wrong.extend(explained.then(|| format!("{} in [{}] is not built", key.name, section.word)));
        }
    }
    wrong
}

#[test]
fn every_key_is_in_the_manual() {
    assert_eq!(wrong_keys(&page("rinotifyd.conf.5")), [""; 0]);
    let bad =
        ".Ss The [log] and [log NAME] sections\n.It Cm level\n.Ss The [daemon] section\n.It Cm state_dir\n";
    let wrong = wrong_keys(bad);
    assert!(wrong.contains(&"max_jobs in [daemon]".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"state_dir in [daemon] is not built".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"[watch]".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"[syslog]".to_owned()), "{wrong:?}");
    assert!(!wrong.iter().any(|key| key.contains("level")), "{wrong:?}");
}

// Configurations that are shown.

/// The literal blocks of a page in mdoc, and the fenced ones of Markdown.
fn literal_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        let fence = line.starts_with("```");
        match &mut block {
            None if line.starts_with(".Bd -literal") || fence => block = Some(String::new()),
            Some(_) if line == ".Ed" || fence => blocks.extend(block.take()),
            Some(lines) => {
                lines.push_str(line);
                lines.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// What a reader sees of a literal line in mdoc; see `mandoc_char(7)`.
fn unescape(text: &str) -> String {
    let escapes = [
        ("\\&", ""),
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(dq", "\""),
        ("\\(ha", "^"),
        ("\\(ti", "~"),
        ("\\(ga", "`"),
        ("\\e", "\\"),
    ];
    escapes.iter().fold(text.to_owned(), |text, (escape, seen)| text.replace(escape, seen))
}

/// The whole configurations among a text's blocks.
fn configurations(path: &str, text: &str) -> Vec<String> {
    let blocks = literal_blocks(text).into_iter();
    let blocks = blocks.map(|block| if path.ends_with(".md") { block } else { unescape(&block) });
    blocks.filter(|block| block.lines().any(|line| line.starts_with('['))).collect()
}

/// A machine that has one file and every user.
struct Shown<'a>(&'a str);

impl Host for Shown<'_> {
    fn read(&self, _: &Path) -> io::Result<HostFile> {
        let ownership = Ownership { uid: 0, gid: 0, mode: 0o644 };
        Ok(HostFile { text: self.0.into(), ownership, directories: Vec::new() })
    }

    fn list(&self, _: &Path, _: &PathPattern) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn user(&self, name: &str, _: Option<u32>) -> io::Result<Option<Identity>> {
        let (name, home) = (name.to_owned(), b"/".to_vec());
        Ok(Some(Identity { uid: 1, gid: 1, groups: Vec::new(), name, home }))
    }

    fn group(&self, _: &str) -> io::Result<Option<u32>> {
        Ok(Some(1))
    }

    fn is_root(&self) -> bool {
        true
    }
}

/// What the loader says about the configurations of a text, warnings too: nobody learns from an
/// example that starts nothing.
fn check_configurations(path: &str, text: &str) -> Vec<(usize, String)> {
    let loaded = configurations(path, text);
    let said = loaded.iter().map(|text| match load(Path::new(path), &Shown(text)) {
        Ok(loaded) => loaded.warnings.to_string(),
        Err(errors) => errors.to_string(),
    });
    said.filter(|said| !said.is_empty()).map(|said| (1, said)).collect()
}

#[test]
fn configurations_that_are_shown_are_valid() {
    let pages = || texts(&["README.md", "man"]);
    enforce(pages(), check_configurations);
    let counts: Vec<_> = pages().map(|(path, text)| configurations(&path, &text).len()).collect();
    assert!(counts.iter().filter(|count| **count > 0).count() >= 3, "{counts:?}");
    let files = texts(&["conf/examples", "conf/rinotifyd.conf"]).filter(|(path, _)| path.ends_with(".conf"));
    enforce(files, |path, text| {
        load(Path::new(path), &Shown(text)).err().map(|errors| (1, errors.to_string())).into_iter().collect()
    });
}

#[test]
fn the_cookbook_has_twelve_recipes() {
    let page = page("rinotifyd-cookbook.7");
    let recipes: Vec<_> = page.split("\n.Ss ").skip(1).collect();
    assert_eq!(recipes.len(), 12);
    for recipe in recipes {
        assert_eq!(configurations(".7", recipe).len(), 1, "{recipe}");
    }
}

/// The keys that the manual shows with a value, section by section, put together again.
fn shown_keys(page: &str) -> String {
    let mut config =
        String::from("[scheduler backup]\ntype = exec\ncmd = true\n[scheduler show]\ntype = exec\n");
    config.push_str("cmd = true\n[watch second]\npath = /\ndefault_sched = show backup\n");
    for section in SECTIONS.iter().filter(|section| section.built) {
        // A section of each type, as the manual's other examples name them.
        let variants: &[(&str, &str)] = match section.kind {
            Kind::Daemon | Kind::Log | Kind::Syslog => &[("", "")],
            Kind::EventMap => &[(" incoming", "")],
            Kind::Scheduler => &[(" convert", "exec"), (" archive", "files"), (" jobs", "worker")],
            Kind::Rule => &[(" to_move", "move"), (" to_delete", "delete")],
            Kind::Watch => &[(" in", "")],
        };
        for (name, variant) in variants {
            config.push_str(&format!("[{}{name}]\n", section.word));
            config.push_str(&shown_lines(page, section, variant));
        }
    }
    config
}

/// The lines that the manual shows for one type of a section.
fn shown_lines(page: &str, section: &Section, variant: &str) -> String {
    let chooser = ["type", "action"].into_iter().find(|name| section.key(name.as_bytes()).is_some());
    let mut lines = chooser.map_or(String::new(), |key| format!("{key} = {variant}\n"));
    let shown = subsection(page, section.word).unwrap_or_default();
    for line in shown.lines().filter_map(|line| line.strip_prefix(".Dl ")) {
        // A watch has one or the other, and a file is read only if it is there.
        let left_out = ["default_sched = show", "exclude_filter_file = exclude"];
        let name = line.split(" = ").next().unwrap_or_default();
        let belongs = section.key(name.as_bytes()).is_none_or(|key| {
            chooser != Some(key.name) && (key.types.is_empty() || key.types.contains(&variant))
        });
        if belongs && !left_out.contains(&line) {
            // A worker is started before there is a task.
            let line = if variant == "worker" { line.replace(" {pathname}", "") } else { line.to_owned() };
            lines.push_str(&format!("{}\n", unescape(&line)));
        }
    }
    lines
}

#[test]
fn every_key_is_shown_with_a_value_that_it_takes() {
    let page = page("rinotifyd.conf.5");
    let config = shown_keys(&page);
    load(Path::new("shown"), &Shown(&config)).unwrap_or_else(|errors| panic!("{errors}"));
    for section in SECTIONS.iter().filter(|section| section.built && section.kind != Kind::EventMap) {
        let text = unescape(subsection(&page, section.word).unwrap());
        for key in section.keys.iter().filter(|key| key.built) {
            let start = format!(".Dl {} = ", key.name);
            assert!(text.lines().any(|line| line.starts_with(&start)), "{} in [{}]", key.name, section.word);
        }
    }
}

#[test]
fn a_configuration_that_is_shown_and_wrong_is_found() {
    let check = |path: &str, text: &str, expected: usize| {
        assert_eq!(check_configurations(path, text).len(), expected, "{path}: {text}");
    };
    let good = "[scheduler s]\ntype = exec\ncmd = true\n[watch w]\npath = /\ndefault_sched = s\n";
    check("README.md", &format!("```ini\n{good}```\n```\n$ make\n```\n"), 0);
    check("README.md", &format!("```ini\n{good}pth = /\n```\n```ini\n[x]\n```\n"), 2);
    check("a.5", &format!(".Bd -literal -offset indent\n{good}.Ed\n.Bd -literal\nkey = value\n.Ed\n"), 0);
    check("a.5", &format!(".Bd -literal\n{good}exclude_filter = \\(ha.*\\e.git$\n.Ed\n"), 0);
    check("a.5", &format!(".Bd -literal\n{good}exclude_filter = (\n.Ed\n"), 1);
    check("a.5", ".Bd -literal\n[scheduler s]\ntype = exec\ncmd = true\n.Ed\n", 1);
}

/// What `mandoc -T lint` says about a page; nothing when mandoc is not installed.
fn mandoc_lint(page: &Path) -> Option<Vec<String>> {
    let output = Command::new("mandoc").args(["-T", "lint"]).arg(page).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    // Which other pages are installed here says nothing about this one.
    Some(
        text.lines()
            .filter(|line| !line.contains("referenced manual not found"))
            .filter(|line| !line.contains("outdated mandoc.db lacks"))
            .map(str::to_owned)
            .collect(),
    )
}

/// Says on the real standard error that a check could not be made; cargo hides what `eprintln!`
/// writes in a test that passes.
fn tool_is_missing(tool: &str) {
    assert!(std::env::var_os(REQUIRE_TOOLS).is_none(), "{tool} is not installed and {REQUIRE_TOOLS} is set");
    let text = format!("\n*** NOT CHECKED: {tool} is not installed ***\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

#[test]
fn mandoc_has_nothing_to_say_about_the_pages() {
    let mut findings = BTreeMap::new();
    for page in files("man") {
        match mandoc_lint(&root().join(&page)) {
            None => return tool_is_missing("mandoc"),
            Some(messages) if messages.is_empty() => {}
            Some(messages) => drop(findings.insert(page, messages)),
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn mandoc_finds_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("bad.8");
    fs::write(&page, ".Dd $Mdocdate$\n.Dt BAD 8\n.Os\n.Sh NAME\n.Nm bad\n.Nd bad\n.Bl -tag\n.It Fl c\n")
        .unwrap();
    match mandoc_lint(&page) {
        None => tool_is_missing("mandoc"),
        Some(messages) => assert!(!messages.is_empty()),
    }
}
