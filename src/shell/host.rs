//! The real machine, as the configuration loader asks for it.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::host::{Host, HostFile, Ownership};
use crate::pattern::{Component, PathPattern};
use crate::sys;
use crate::sys::limits::Limit;
use crate::types::Identity;

/// Largest file that is read: hundreds of times a long configuration, so that a mistake such as
/// `-c /dev/sda1` or a log file as `exclude_filter_file` ends at once.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// The machine this process runs on.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Host for Machine {
    fn read(&self, path: &Path) -> io::Result<HostFile> {
        // Asked before opening, which may have effects on a device, and again of what was opened,
        // which is what counts and may be a FIFO by now: that is not waited for (fifo(7)).
        regular(&fs::metadata(path)?)?;
        let file = OpenOptions::new().read(true).custom_flags(sys::NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        regular(&metadata)?;
        let mut text = Vec::new();
        file.take(FILE_SIZE_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > FILE_SIZE_MAX {
            return Err(io::Error::other(format!("it is larger than {} MiB", FILE_SIZE_MAX >> 20)));
        }
        Ok(HostFile { text, ownership: ownership(&metadata), directories: directories(path)? })
    }

    fn list(&self, base: &Path, pattern: &PathPattern) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![base.to_path_buf()];
        for component in &pattern.components {
            let mut next = Vec::new();
            for parent in &found {
                match component {
                    Component::Literal(name) => next.push(parent.join(std::ffi::OsStr::from_bytes(name))),
                    Component::Glob { .. } => next.extend(matching(parent, component)?),
                }
            }
            found = next;
        }
        found.sort();
        Ok(found)
    }

    fn watches_max(&self) -> Option<u64> {
        Limit::Watches.read().ok()
    }

    fn user(&self, name: &str, group: Option<u32>) -> io::Result<Option<Identity>> {
        sys::user::user(name, group)
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        sys::user::group(name)
    }

    fn is_root(&self) -> bool {
        sys::user::is_root()
    }
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
}

fn ownership(metadata: &Metadata) -> Ownership {
    Ownership { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 }
}

/// A bare name is in the working directory, which `""` does not open.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The directory a path names a file in, and the one the file is in.
fn directories(path: &Path) -> io::Result<Vec<(PathBuf, Ownership)>> {
    let mut found = Vec::new();
    let real = fs::canonicalize(path)?;
    for directory in [path.parent(), real.parent()].into_iter().flatten().map(or_here) {
        let canonical = fs::canonicalize(directory)?;
        if !found.iter().any(|(known, _)| *known == canonical) {
            let ownership = ownership(&fs::metadata(&canonical)?);
            found.push((canonical, ownership));
        }
    }
    Ok(found)
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
    fn a_file_comes_with_its_owner_and_directories() {
        let scratch = tempfile::tempdir().unwrap();
        let [real, links] = ["real", "links"].map(|name| scratch.path().join(name));
        fs::create_dir(&real).unwrap();
        fs::create_dir(&links).unwrap();
        fs::write(real.join("f.conf"), "[daemon]").unwrap();
        fs::set_permissions(real.join("f.conf"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o1777)).unwrap();
        symlink(real.join("f.conf"), links.join("g.conf")).unwrap();
        let file = Machine.read(&links.join("g.conf")).unwrap();
        assert_eq!((file.text.as_slice(), file.ownership.mode), (b"[daemon]".as_slice(), 0o640));
        let real = fs::canonicalize(real).unwrap();
        let links = fs::canonicalize(links).unwrap();
        let directories: Vec<_> = file.directories.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(directories, [links, real]);
        assert_eq!(file.directories[1].1.mode, 0o1777);
    }

    #[test]
    fn what_is_no_small_regular_file_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let large = scratch.path().join("large");
        fs::File::create(&large).unwrap().set_len(FILE_SIZE_MAX + 1).unwrap();
        assert_eq!(Machine.read(&large).unwrap_err().to_string(), "it is larger than 1 MiB");
        assert_eq!(Machine.read(scratch.path()).unwrap_err().to_string(), "it is not a regular file");
        assert_eq!(Machine.read(Path::new("/dev/zero")).unwrap_err().to_string(), "it is not a regular file");
        let missing = Machine.read(&scratch.path().join("missing")).unwrap_err();
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
