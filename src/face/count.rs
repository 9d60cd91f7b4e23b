//! How many directories a configuration would watch: for `--configtest`.
//!
//! Walks the trees by path, which is right for a number and would be wrong for a watch: the daemon
//! itself never looks up a path twice.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::host::Host;
use crate::config::{Config, Watch};
use crate::shell::host::Machine;

/// Directories, each once however many watches cover it; with those on the way to the watch paths.
#[must_use]
pub fn directories(config: &Config) -> usize {
    let mut all = Found::new();
    for watch in &config.watches {
        for root in watch.paths.iter().flat_map(|path| Machine.list(Path::new("/"), path)).flatten() {
            all.extend(root.ancestors().skip(1).filter_map(|above| inode(fs::metadata(above))));
            all.extend(below(watch, root));
        }
    }
    all.len()
}

/// Device and inode: a directory has one watch, whatever its names.
type Found = HashSet<(u64, u64)>;

fn inode(metadata: io::Result<fs::Metadata>) -> Option<(u64, u64)> {
    let metadata = metadata.ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// The directory, and what is watched below it.
fn below(watch: &Watch, root: PathBuf) -> Found {
    let mut found: Found = inode(fs::metadata(&root)).into_iter().collect();
    let mut rest = if watch.rec { vec![root] } else { Vec::new() };
    while let Some(dir) = rest.pop() {
        let is_new = |dir: &PathBuf| inode(fs::symlink_metadata(dir)).is_some_and(|id| found.insert(id));
        rest.extend(subdirectories(watch, &dir).filter(is_new));
    }
    found
}

/// What cannot be listed cannot be watched either.
fn subdirectories(watch: &Watch, dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| !watch.excludes(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::inline::{Inline, from_command_line};

    #[test]
    fn every_directory_is_counted_once() {
        let scratch = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(scratch.path()).unwrap();
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/file"), "").unwrap();
        std::os::unix::fs::symlink(&root, root.join("d/link")).unwrap();
        let count = |paths: &[&str], recursive| {
            let watch = paths.iter().map(|path| root.join(path).as_os_str().as_bytes().to_vec()).collect();
            let inline = Inline { watch, recursive, command: b"true".to_vec(), ..Inline::default() };
            directories(&from_command_line(&inline).unwrap().config)
        };
        let above = root.ancestors().skip(1).count();
        assert_eq!(count(&[""], false), above + 1);
        assert_eq!(count(&[""], true), above + 5);
        assert_eq!(count(&["", "a", "a/b/c"], true), above + 5);
        assert_eq!(count(&["a/b", "a"], true), above + 1 + 3);
        assert_eq!(count(&["missing"], true), above + 1);
    }
}
