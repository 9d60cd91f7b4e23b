//! The files of the repository, and how a rule runs over them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// With this in the environment, a missing tool is a failure instead of a remark.
const REQUIRE_TOOLS: &str = "RINOTIFYD_REQUIRE_TOOLS";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `path`, which may itself be a file or not exist, relative to the repository.
pub fn files(path: &str) -> Vec<PathBuf> {
    let full = root().join(path);
    if full.is_file() {
        return vec![PathBuf::from(path)];
    }
    let Ok(entries) = fs::read_dir(&full) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.iter().flat_map(|name| files(&format!("{path}/{name}"))).collect()
}

pub fn sources() -> impl Iterator<Item = (String, String)> {
    texts(&["src"]).filter(|(path, _)| path.ends_with(".rs"))
}

/// Path and text of everything below `paths`.
pub fn texts(paths: &[&str]) -> impl Iterator<Item = (String, String)> {
    paths.iter().flat_map(|path| files(path)).map(|path| {
        let bytes = fs::read(root().join(&path)).unwrap();
        (path.into_os_string().into_string().unwrap(), String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// Runs a rule over files and fails with everything it found.
pub fn enforce(
    texts: impl Iterator<Item = (String, String)>,
    rule: impl Fn(&str, &str) -> Vec<(usize, String)>,
) {
    let mut count = 0;
    let mut findings = Vec::new();
    for (path, text) in texts {
        count += 1;
        findings.extend(rule(&path, &text).iter().map(|(line, what)| format!("{path}:{line}: {what}")));
    }
    assert!(count > 0, "there was nothing to check");
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// Says on the real standard error that a check could not be made; cargo hides what `eprintln!`
/// writes in a test that passes.
pub fn tool_is_missing(tool: &str) {
    assert!(std::env::var_os(REQUIRE_TOOLS).is_none(), "{tool} is not installed and {REQUIRE_TOOLS} is set");
    let text = format!("\n*** NOT CHECKED: {tool} is not installed ***\n");
    io::stderr().write_all(text.as_bytes()).unwrap();
}
