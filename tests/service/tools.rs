//! Other programs, which may be missing.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

/// With this in the environment, a missing tool is a failure instead of a remark.
const REQUIRE_TOOLS: &str = "RINOTIFYD_REQUIRE_TOOLS";

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_rinotifyd");

/// Whether this can be tested here. If not, says so on the real standard error; cargo hides what
/// `eprintln!` writes in a test that passes.
pub fn available(what: &str, is_there: bool) -> bool {
    if !is_there {
        assert!(std::env::var_os(REQUIRE_TOOLS).is_none(), "{what} is missing and {REQUIRE_TOOLS} is set");
        let text = format!("\n*** NOT TESTED, because it is missing: {what} ***\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    is_there
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    available("root", nix::unistd::geteuid().is_root())
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    available(program, found)
}

/// Both outputs of a command that has to succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let (succeeded, said) = run(command);
    assert!(succeeded, "{command:?}:\n{said}");
    said
}

/// Whether it succeeds, and both its outputs.
#[track_caller]
pub fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&said).into_owned())
}
