//! What a path leads to, asked in two ways: of the kernel's memory alone, which never waits, and of the
//! filesystem, which a dead server or another user's program may let wait for ever.
//!
//! See `openat2(2)` and `statx(2)`. Neither asks the filesystem for attributes: what kind of file an inode is
//! never changes.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use super::stat::{self, Kind};
use super::{Errno, retry};

/// The kind of file at a path, if the kernel can tell without the filesystem. The file is opened with
/// `O_PATH`, of which inotify tells as IN_CLOSE_NOWRITE before Linux 6.10.
///
/// # Errors
/// EAGAIN when only the filesystem can tell; EINVAL, ENOSYS or EPERM when the kernel (before 5.12) or a
/// sandbox does not know the question; ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG.
pub fn kind_in_cache(path: &CStr, follow: bool) -> Result<Kind, Errno> {
    let last = if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC | last);
    let how = how.resolve(ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED));
    let fd = retry(|| openat2(AT_FDCWD, path, how))?;
    stat::kind(fd.as_fd(), c"", false)
}

/// The kind of file at a path. This may wait for ever; the file is not opened.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, and EIO, ESTALE and the like from the filesystem.
pub fn kind_of(path: &CStr, follow: bool) -> Result<Kind, Errno> {
    stat::kind(AT_FDCWD, path, follow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn both_ways_tell_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(std::os::unix::net::UnixListener::bind(path("socket")).unwrap());
        symlink("fifo", path("link")).unwrap();
        symlink("link", path("chain")).unwrap();
        symlink("none", path("dangling")).unwrap();
        symlink("loop", path("loop")).unwrap();
        let check = |name: &str, follow: bool, expected: Result<Kind, Errno>| {
            let path = CString::new(path(name).as_os_str().as_bytes()).unwrap();
            assert_eq!(kind_of(&path, follow), expected, "{name}");
            match kind_in_cache(&path, follow) {
                Err(Errno::EAGAIN | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {
                    eprintln!("the kernel does not tell of {name} without the filesystem");
                }
                outcome => assert_eq!(outcome, expected, "{name}"),
            }
        };
        for follow in [true, false] {
            check("", follow, Ok(Kind::Directory));
            check("file", follow, Ok(Kind::File));
            check("fifo", follow, Ok(Kind::Fifo));
            check("socket", follow, Ok(Kind::Other));
            check("none", follow, Err(Errno::ENOENT));
            check("file/x", follow, Err(Errno::ENOTDIR));
        }
        check("link", true, Ok(Kind::Fifo));
        check("chain", true, Ok(Kind::Fifo));
        check("link", false, Ok(Kind::Symlink));
        check("dangling", true, Err(Errno::ENOENT));
        check("loop", true, Err(Errno::ELOOP));
    }
}
