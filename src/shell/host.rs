//! The real machine, as the configuration loader asks for it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::host::Host;
use crate::config::trust::{Kind, Ownership, Part};
use crate::pattern::{Component, PathPattern};
use crate::sys::limits::Limit;
use crate::sys::stat::{self, Stat};
use crate::sys::trusted_file::{self, Opened, open_judged};
use crate::sys::user;
use crate::types::Identity;

/// Largest file that is read: hundreds of times a long configuration, so that a mistake such as
/// `-c /dev/sda1` or a log file as `exclude_filter_file` ends at once.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// The machine this process runs on.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Host for Machine {
    fn read(&self, path: &Path, may_pass: &mut dyn FnMut(Part<'_>) -> bool) -> io::Result<Option<Vec<u8>>> {
        let path = std::path::absolute(path)?;
        let opened = open_judged(path.as_os_str().as_bytes(), &mut |found| may_pass(part(&found)))?;
        let file = match opened {
            Opened::File(file) => file,
            Opened::NoFile => return Err(io::Error::other("it is not a regular file")),
            Opened::Refused => return Ok(None),
        };
        let mut text = Vec::new();
        file.take(FILE_SIZE_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > FILE_SIZE_MAX {
            return Err(io::Error::other(format!("it is larger than {} MiB", FILE_SIZE_MAX >> 20)));
        }
        Ok(Some(text))
    }

    fn list(&self, base: &Path, pattern: &PathPattern) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![base.to_path_buf()];
        for component in &pattern.components {
            let mut next = Vec::new();
            for parent in &found {
                match component {
                    Component::Literal(name) => next.push(parent.join(OsStr::from_bytes(name))),
                    Component::Glob { .. } => next.extend(matching(parent, component)?),
                }
            }
            found = next;
        }
        found.sort();
        Ok(found)
    }

    fn exists(&self, path: &[u8]) -> bool {
        Path::new(OsStr::from_bytes(path)).exists()
    }

    fn has_match(&self, pattern: &PathPattern) -> bool {
        // Where a directory cannot be read, nothing is known, and the daemon says so when it starts.
        self.list(Path::new("/"), pattern).is_ok_and(|found| found.iter().any(|path| path.exists()))
    }

    fn finds_program(&self, name: &[u8]) -> bool {
        let name = Path::new(OsStr::from_bytes(name));
        // Without PATH, execvp(3) looks in these.
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        name.is_absolute() && name.exists()
            || name.components().count() == 1
                && std::env::split_paths(&path).any(|dir| dir.join(name).exists())
            || name.components().count() > 1 && !name.is_absolute()
    }

    fn watches_max(&self) -> Option<u64> {
        Limit::Watches.read().ok()
    }

    fn user(&self, name: &str, group: Option<u32>) -> io::Result<Option<Identity>> {
        user::user(name, group)
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        user::group(name)
    }

    fn is_root(&self) -> bool {
        user::is_root()
    }
}

fn part<'a>(found: &trusted_file::Part<'a>) -> Part<'a> {
    let own = |stat: &Stat| Ownership { uid: stat.uid, gid: stat.gid, mode: stat.mode };
    Part {
        path: Path::new(OsStr::from_bytes(found.path)),
        kind: match found.stat.kind {
            stat::Kind::Directory => Kind::Directory,
            stat::Kind::Symlink => Kind::Link,
            stat::Kind::File | stat::Kind::Fifo | stat::Kind::Other => Kind::File,
        },
        own: own(found.stat),
        parent: own(found.parent),
        is_hearsay: found.is_hearsay,
    }
}

/// A bare name is in the working directory, which `""` does not open.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The entries of a directory that a component means. What does not exist, or is no directory,
/// has none.
fn matching(directory: &Path, component: &Component) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(or_here(directory)) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if component.matches(name.as_bytes()) {
            found.push(directory.join(name));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_comes_after_every_part_of_its_path() {
        let scratch = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(scratch.path()).unwrap();
        fs::create_dir(top.join("real")).unwrap();
        fs::write(top.join("real/f.conf"), "[daemon]").unwrap();
        fs::set_permissions(top.join("real/f.conf"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(top.join("real"), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("real/f.conf", top.join("g.conf")).unwrap();
        let mut seen = Vec::new();
        let read = Machine.read(&top.join("g.conf"), &mut |part| {
            if let Ok(below) = part.path.strip_prefix(&top) {
                let mode = if part.kind == Kind::Link { 0 } else { part.own.mode };
                seen.push((below.to_owned(), part.kind, mode, part.parent.mode));
            }
            true
        });
        assert_eq!(read.unwrap().as_deref(), Some(b"[daemon]".as_slice()));
        let own = fs::metadata(&top).unwrap().permissions().mode() & 0o7777;
        let expected = [
            ("g.conf", Kind::Link, 0, own),
            ("real", Kind::Directory, 0o1777, own),
            ("real/f.conf", Kind::File, 0o640, 0o1777),
        ];
        let seen = &seen[1..];
        assert_eq!(seen, expected.map(|(path, kind, mode, parent)| (path.into(), kind, mode, parent)));
        assert!(matches!(Machine.read(&top.join("g.conf"), &mut |part| part.kind != Kind::Link), Ok(None)));
    }

    fn refusal(path: &Path) -> io::Error {
        Machine.read(path, &mut |_| true).unwrap_err()
    }

    #[test]
    fn what_is_no_small_regular_file_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let large = scratch.path().join("large");
        fs::File::create(&large).unwrap().set_len(FILE_SIZE_MAX + 1).unwrap();
        assert_eq!(refusal(&large).to_string(), "it is larger than 1 MiB");
        assert_eq!(refusal(scratch.path()).to_string(), "it is not a regular file");
        assert_eq!(refusal(Path::new("/dev/zero")).to_string(), "it is not a regular file");
        let missing = refusal(&scratch.path().join("missing"));
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn patterns_are_expanded_in_order() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("d")).unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            fs::write(scratch.path().join("d").join(name), "").unwrap();
        }
        let check = |pattern: &str, expected: &[&str]| {
            let pattern = PathPattern::parse(pattern.as_bytes()).unwrap();
            let found = Machine.list(scratch.path(), &pattern).unwrap();
            let expected: Vec<_> = expected.iter().map(|name| scratch.path().join(name)).collect();
            assert_eq!(found, expected);
        };
        check("/d/*.conf", &["d/a.conf", "d/b.conf"]);
        check("/*/a.conf", &["d/a.conf"]);
        check("/missing/*.conf", &[]);
        check("/d/a.conf/*", &[]);
        check("/missing.conf", &["missing.conf"]);
    }

    #[test]
    fn a_configuration_is_loaded_from_real_files() {
        let scratch = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = scratch.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let main = file("main.conf", "[daemon]\ninclude = *.conf\n");
        file("other.conf", include_str!("../../conf/examples/shell-command.conf"));
        let loaded = load(&main, &Machine).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.config.watches.len(), 1);
    }
}
