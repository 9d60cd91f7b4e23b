//! What all measurements share: the binary, the C programs, a folder for files.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs of each side of a comparison.
pub const RUNS: usize = 5;

/// See the module's documentation.
pub struct Lab {
    pub binary: PathBuf,
    pub quick: bool,
    folder: tempfile::TempDir,
    programs: PathBuf,
}

impl Lab {
    /// Finds the binary, compiles the C programs.
    pub fn new() -> Self {
        let base = env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
        let base = if base.is_dir() { base } else { env::temp_dir() };
        let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
        fs::create_dir_all(&programs).unwrap();
        for name in ["reader", "spawn", "table", "mover"] {
            compile(&programs, name, &["-static"]);
        }
        compile(&programs, "worker", &["-static"]);
        compile(&programs, "child", &["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"]);
        Self {
            binary: binary(),
            quick: env::var_os("QUICK").is_some(),
            folder: tempfile::Builder::new().prefix("rinotifyd-bench-").tempdir_in(base).unwrap(),
            programs,
        }
    }

    /// The temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new empty directory, gone with the value.
    pub fn dir(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(self.folder()).unwrap()
    }

    /// A compiled C program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// `count`, or a tenth of it in a quick run.
    pub fn count(&self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }

    /// How often both sides of a comparison run.
    pub fn runs(&self) -> usize {
        if self.quick { 1 } else { RUNS }
    }
}

fn binary() -> PathBuf {
    if let Some(given) = env::var_os("BINARY").filter(|given| !given.is_empty()) {
        return fs::canonicalize(given).expect("BINARY exists");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixed = root.join(format!("target/static/{}-unknown-linux-musl/rinotifyd", env::consts::ARCH));
    if fixed.exists() { fixed } else { PathBuf::from(env!("CARGO_BIN_EXE_rinotifyd")) }
}

fn compile(folder: &Path, name: &str, flags: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/c/{name}.c"));
    let mut command = Command::new(env::var_os("CC").unwrap_or_else(|| "gcc".into()));
    command.args(["-O2", "-Wall", "-Wextra", "-Werror"]).args(flags);
    let status = command.arg("-o").arg(folder.join(name)).arg(source).status();
    assert!(status.expect("gcc is installed").success(), "{name}.c compiles");
}

/// Directories named 0 to `count` in `base`.
pub fn make_dirs(base: &Path, count: usize) -> Vec<PathBuf> {
    let make = |number: usize| {
        let path = base.join(number.to_string());
        fs::create_dir(&path).unwrap();
        path
    };
    (0..count).map(make).collect()
}
