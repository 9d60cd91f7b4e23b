//! Opens a file by a path of which the caller judges every part.
//!
//! A user who can change a directory or a symbolic link on the way to a file can exchange the file. So the
//! walk goes down from `/`, one name at a time, through `O_PATH` descriptors. Each name is looked up in the
//! directory that was judged before. The caller judges each part before the walk uses it; a part that is
//! refused is neither followed nor opened. Only the name of the file is looked up twice, and both results
//! must be the same file.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::FsFlags;

use super::file::{hold, open, read_symlink};
use super::resolve::{LINKS_MAX, components, root};
use super::stat::{Kind, Stat, stat};
use super::{Errno, retry};

/// A part of the way: a directory, a symbolic link, or the file.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its path, without links and `..`.
    pub path: &'a [u8],
    /// What it is, and whose.
    pub stat: &'a Stat,
    /// The directory it was found in; for `/` itself.
    pub parent: &'a Stat,
    /// The part is on a FUSE filesystem that a user may have mounted, so that a program of that user may
    /// have chosen owner and mode. Such filesystems are `nosuid` (`fusermount3(1)`).
    pub is_hearsay: bool,
}

/// How the walk ended.
#[derive(Debug)]
pub enum Opened {
    /// The file, for reading.
    File(File),
    /// The path leads to something else.
    NoFile,
    /// The caller has refused a part.
    Refused,
}

/// Opens the regular file at an absolute path for reading. Symbolic links are followed, as the kernel
/// does, unless `may_pass` refuses them.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES and the like; ELOOP for more than 40 links; EAGAIN for a file that was
/// replaced meanwhile.
pub fn open_judged(path: &[u8], may_pass: &mut dyn FnMut(Part<'_>) -> bool) -> Result<Opened, Errno> {
    let mut at = root()?;
    let top = stat(at.as_fd())?;
    let mut parent = top;
    let mut shown: Vec<Vec<u8>> = Vec::new();
    if !may_pass(Part { path: b"/", stat: &top, parent: &top, is_hearsay: is_hearsay(at.as_fd())? }) {
        return Ok(Opened::Refused);
    }
    let mut rest = components(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let held = hold(at.as_fd(), &name)?;
        let found = stat(held.as_fd())?;
        if name.as_bytes() == b".." {
            shown.pop();
        } else {
            shown.push(name.as_bytes().to_vec());
        }
        let path = [b"/".as_slice(), &shown.join(&b'/')].concat();
        let is_hearsay = is_hearsay(held.as_fd())?;
        if !may_pass(Part { path: &path, stat: &found, parent: &parent, is_hearsay }) {
            return Ok(Opened::Refused);
        }
        match found.kind {
            Kind::Directory => (at, parent) = (held, found),
            Kind::Symlink => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP);
                }
                shown.pop();
                let target = read_symlink(held.as_fd(), c"")?;
                if target.starts_with(b"/") {
                    (at, parent) = (root()?, top);
                    shown.clear();
                }
                let mut way = components(&target);
                way.append(&mut rest);
                rest = way;
            }
            Kind::File if rest.is_empty() => return open_same(at.as_fd(), &name, &found),
            Kind::Fifo | Kind::Other if rest.is_empty() => return Ok(Opened::NoFile),
            Kind::File | Kind::Fifo | Kind::Other => return Err(Errno::ENOTDIR),
        }
    }
    Ok(Opened::NoFile)
}

/// Opens the file that was judged. An `O_PATH` descriptor cannot be read from (`open(2)`).
fn open_same(dir: BorrowedFd<'_>, name: &CStr, looked_at: &Stat) -> Result<Opened, Errno> {
    let fd = open(dir, name)?;
    let Stat { id, uid, gid, mode, .. } = stat(fd.as_fd())?;
    let is_same = (id, uid, gid, mode) == (looked_at.id, looked_at.uid, looked_at.gid, looked_at.mode);
    if is_same { Ok(Opened::File(File::from(fd))) } else { Err(Errno::EAGAIN) }
}

fn is_hearsay(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    // On an O_PATH descriptor since Linux 3.12 (open(2)).
    let found = retry(|| fstatfs(fd))?;
    Ok(found.filesystem_type() == FUSE_SUPER_MAGIC && found.flags().contains(FsFlags::ST_NOSUID))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(scratch.path()).unwrap();
        (scratch, path)
    }

    /// The parts below the scratch directory, and how it ended.
    fn walk(top: &Path, path: &Path, refused: &str) -> (Vec<String>, Result<Opened, Errno>) {
        let mut parts = Vec::new();
        let outcome = open_judged(path.as_os_str().as_bytes(), &mut |part: Part<'_>| {
            let shown = Path::new(std::ffi::OsStr::from_bytes(part.path));
            let below = shown.strip_prefix(top).map(|below| below.display().to_string());
            parts.extend(below.clone().ok().filter(|below| !below.is_empty()));
            below.as_deref() != Ok(refused)
        });
        (parts, outcome)
    }

    #[test]
    fn every_part_is_shown_in_the_order_of_the_walk() {
        let (_scratch, top) = scratch();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/f"), "text").unwrap();
        symlink("../a/./b", top.join("a/link")).unwrap();
        symlink(top.join("a/link"), top.join("far")).unwrap();
        let (parts, outcome) = walk(&top, &top.join("far//f"), "-");
        let Ok(Opened::File(mut file)) = outcome else { panic!("{outcome:?}") };
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert_eq!(parts, ["far", "a", "a/link", "a", "a/b", "a/b/f"]);
        let (parts, outcome) = walk(&top, &top.join("far/f"), "a/link");
        assert!(matches!(outcome, Ok(Opened::Refused)), "{outcome:?}");
        assert_eq!(parts, ["far", "a", "a/link"]);
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let (_scratch, top) = scratch();
        fs::write(top.join("f"), "").unwrap();
        nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        for path in [top.clone(), top.join("fifo"), "/dev/null".into(), "/".into()] {
            assert!(matches!(walk(&top, &path, "-").1, Ok(Opened::NoFile)), "{path:?}");
        }
        let cases = [("missing", Errno::ENOENT), ("f/x", Errno::ENOTDIR), ("loop", Errno::ELOOP)];
        for (path, expected) in cases {
            assert_eq!(walk(&top, &top.join(path), "-").1.unwrap_err(), expected, "{path}");
        }
    }

    #[test]
    fn a_file_that_is_replaced_after_the_look_is_not_read() {
        let (_scratch, top) = scratch();
        let file = top.join("f");
        fs::write(&file, "").unwrap();
        let outcome = open_judged(file.as_os_str().as_bytes(), &mut |part: Part<'_>| {
            if part.stat.kind == Kind::File {
                fs::rename(&file, top.join("old")).unwrap();
                fs::write(&file, "other").unwrap();
            }
            true
        });
        assert_eq!(outcome.unwrap_err(), Errno::EAGAIN);
    }
}
