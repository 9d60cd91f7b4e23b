//! What the binary may be made of.

use crate::repository::{enforce, texts};

const DEPENDENCIES: [&str; 5] = ["getopts", "libc", "nix", "regex", "syslog"];

/// What the build script may use; nothing of it is in the binary.
const BUILD_DEPENDENCIES: [&str; 1] = ["flate2"];

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
        "[build-dependencies]\nflate2 = \"0.8\"\ncc = \"1\"\n[build-dependencies.libc]\nversion = \"1\"",
        2,
    );
}
