//! Names in directories, and the attributes of open files.
//!
//! Every call takes the descriptor of a directory and one component, and follows no symbolic link. Calls that
//! change attributes take the descriptor of the file, so that they change the file that was checked.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AtFlags, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, Whence, lseek64};

use super::{Errno, proc_path, retry};

/// Opens a name with `O_PATH`, whatever its type: enough to get attributes, to change owner and mode, and to
/// compare.
///
/// # Errors
/// ENOENT, EACCES, ENAMETOOLONG, EMFILE, ENFILE.
pub fn hold(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    retry(|| openat(dir, name, flags, Mode::empty()))
}

/// Opens a file for reading. A FIFO is not waited for; the caller checks the type.
///
/// # Errors
/// As [`hold`]; ELOOP for a symbolic link, ENXIO for a socket.
pub fn open(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    retry(|| openat(dir, name, READ, Mode::empty()))
}

/// For reading, whatever the type.
pub(super) const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_LARGEFILE);

/// Makes a file that only its owner can open, and opens it for writing.
///
/// # Errors
/// EEXIST, ENOSPC, EDQUOT, EROFS, EACCES and what else `open(2)` says.
pub fn create(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_CREAT
        | OFlag::O_EXCL
        | OFlag::O_NOFOLLOW
        | OFlag::O_CLOEXEC
        | OFlag::O_LARGEFILE;
    retry(|| openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR))
}

/// Makes a directory with these permission bits, less the umask of the process.
///
/// # Errors
/// As `mkdir(2)`.
pub fn make_dir(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Errno> {
    retry(|| nix::sys::stat::mkdirat(dir, name, permissions(mode)))
}

/// Makes a FIFO that only its owner can open.
///
/// # Errors
/// As `mknod(2)`.
pub fn make_fifo(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    retry(|| nix::sys::stat::mknodat(dir, name, SFlag::S_IFIFO, mode, 0))
}

/// Makes a symbolic link.
///
/// # Errors
/// As `symlink(2)`.
pub fn make_symlink(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    retry(|| nix::unistd::symlinkat(target, dir, name))
}

/// The target of a symbolic link; an empty name means the link that `dir` is open on.
///
/// # Errors
/// EINVAL for anything but a symbolic link, ENOENT, EACCES.
pub fn read_symlink(dir: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    use std::os::unix::ffi::OsStringExt;
    retry(|| nix::fcntl::readlinkat(dir, name)).map(OsStringExt::into_vec)
}

/// Makes a hard link. Of a symbolic link, the link itself gets the new name.
///
/// # Errors
/// EEXIST, EXDEV, EMLINK, EPERM and what else `link(2)` says.
pub fn link(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, new_name: &CStr) -> Result<(), Errno> {
    retry(|| nix::unistd::linkat(from, name, to, new_name, AtFlags::empty()))
}

/// What [`rename`] does when the new name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It fails with EEXIST.
    Keep,
    /// A file replaces a file, a directory replaces an empty directory, as with `rename(2)`.
    Replace,
    /// Both exchange their names.
    Exchange,
}

/// Renames. `renameat2(2)` is called by number: nix and libc have it for glibc alone. [`Existing::Replace`]
/// does not need it.
///
/// # Errors
/// EEXIST, EXDEV, EBUSY for a mount point, EINVAL where the filesystem cannot do it that way,
/// ENOSYS before Linux 3.15, and what else `rename(2)` says.
pub fn rename(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
    existing: Existing,
) -> Result<(), Errno> {
    let flags = match existing {
        Existing::Keep => libc::RENAME_NOREPLACE,
        Existing::Replace => return retry(|| nix::fcntl::renameat(from, name, to, new_name)),
        Existing::Exchange => libc::RENAME_EXCHANGE,
    };
    retry(|| {
        // SAFETY: both names end in NUL; renameat2(2) keeps none of its arguments.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_renameat2,
                from.as_raw_fd(),
                name.as_ptr(),
                to.as_raw_fd(),
                new_name.as_ptr(),
                flags,
            )
        };
        Errno::result(outcome).map(drop)
    })
}

/// Removes the name of anything but a directory.
///
/// # Errors
/// EISDIR for a directory, and what else `unlink(2)` says.
pub fn remove(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    retry(|| nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir))
}

/// Removes an empty directory.
///
/// # Errors
/// ENOTEMPTY (or EEXIST), EBUSY for a mount point, and what else `rmdir(2)` says.
pub fn remove_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    retry(|| nix::unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir))
}

/// Changes owner and group of a file; of a symbolic link, those of the link. `fd` may be an `O_PATH`
/// descriptor.
///
/// # Errors
/// EPERM without the right, or where the filesystem has no owners; EROFS.
pub fn set_owner(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    retry(|| nix::unistd::fchownat(fd, c"", uid, gid, AtFlags::AT_EMPTY_PATH))
}

/// The number of `fchmodat2(2)`, the same on every architecture. nix lacks the call, and libc has the number
/// on some architectures only.
const SYS_FCHMODAT2: libc::c_long = 452;

/// Changes the permission bits of a file. `fd` may be an `O_PATH` descriptor. A symbolic link has no such
/// bits.
///
/// # Errors
/// EPERM, EROFS; EOPNOTSUPP for a symbolic link. For an `O_PATH` descriptor, ENOENT where the kernel
/// (before 6.6) does not know `fchmodat2(2)` and `/proc` is not mounted.
pub fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    // fchmod(2) refuses an O_PATH descriptor (open(2)).
    match retry(|| nix::sys::stat::fchmod(fd, permissions(mode))) {
        Err(Errno::EBADF) => {}
        outcome => return outcome,
    }
    let outcome = retry(|| {
        // SAFETY: the name ends in NUL and is not kept (fchmodat2(2)).
        let outcome =
            unsafe { libc::syscall(SYS_FCHMODAT2, fd.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH) };
        Errno::result(outcome).map(drop)
    });
    match outcome {
        // Sandboxes give EPERM for calls that they do not know.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let path = proc_path(fd);
            let flag = nix::sys::stat::FchmodatFlags::FollowSymlink;
            retry(|| nix::sys::stat::fchmodat(fd, path.as_c_str(), permissions(mode), flag))
        }
        outcome => outcome,
    }
}

/// Sets the times of last access and last change of data, in nanoseconds since 1970, of `name` in `dir`; of a
/// symbolic link, those of the link.
///
/// # Errors
/// EPERM, EROFS, EINVAL for a time that the filesystem cannot store.
pub fn set_times(dir: BorrowedFd<'_>, name: &CStr, accessed_ns: i64, modified_ns: i64) -> Result<(), Errno> {
    let (accessed, modified) = (time(accessed_ns), time(modified_ns));
    retry(|| nix::sys::stat::utimensat(dir, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink))
}

/// As [`set_times`] for an open file.
///
/// # Errors
/// As [`set_times`].
pub fn set_open_times(fd: BorrowedFd<'_>, accessed_ns: i64, modified_ns: i64) -> Result<(), Errno> {
    let (accessed, modified) = (time(accessed_ns), time(modified_ns));
    retry(|| nix::sys::stat::futimens(fd, &accessed, &modified))
}

#[allow(clippy::useless_conversion, reason = "time_t and long have 32 bits on 32-bit ARM")]
fn time(ns: i64) -> TimeSpec {
    const SECOND: i64 = 1_000_000_000;
    // With a 32-bit `time_t`, a later time becomes the last one that fits.
    let secs = ns.div_euclid(SECOND).try_into().unwrap_or(i32::MAX.into());
    let nanos = ns.rem_euclid(SECOND).try_into().unwrap_or_default();
    TimeSpec::new(secs, nanos)
}

/// Waits until everything that was written to a file or directory is on the disk.
///
/// # Errors
/// EIO, ENOSPC, EDQUOT: some of it is lost. EINVAL for files that cannot be synchronised.
pub fn sync(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    retry(|| nix::unistd::fsync(fd))
}

/// Waits until everything that was written to the filesystem is on the disk.
///
/// # Errors
/// As [`sync`]; errors of writing only since Linux 5.8 (`syncfs(2)`).
pub fn sync_filesystem(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    retry(|| nix::unistd::syncfs(fd))
}

/// Whether set-user-id bits and capabilities have no effect on this filesystem (`mount(8)`, nosuid).
///
/// # Errors
/// What the filesystem says.
pub fn is_nosuid(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let flags = retry(|| nix::sys::statvfs::fstatvfs(fd))?.flags();
    Ok(flags.contains(nix::sys::statvfs::FsFlags::ST_NOSUID))
}

/// Locks an open file or directory until its last descriptor is closed (`flock(2)`). `false`: another process
/// holds the lock.
///
/// # Errors
/// ENOLCK; EOPNOTSUPP where the filesystem has no locks.
#[allow(deprecated, reason = "nix::fcntl::Flock owns the descriptor, and panics if unlocking fails")]
pub fn try_lock(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    match retry(|| nix::fcntl::flock(fd.as_raw_fd(), FlockArg::LockExclusiveNonblock)) {
        Ok(()) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The user this process acts as.
#[must_use]
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Checks that this process may make and remove names in a directory.
///
/// # Errors
/// EACCES, EROFS and what else `access(2)` says.
pub fn check_writable(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let mode = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
    retry(|| nix::unistd::faccessat(dir, c".", mode, AtFlags::AT_EACCESS))
}

/// The position at which the next listing of a directory begins.
///
/// # Errors
/// None that the kernel documents for an open directory.
pub fn position(dir: BorrowedFd<'_>) -> Result<i64, Errno> {
    retry(|| lseek64(dir, 0, Whence::SeekCur))
}

/// Makes the next listing begin at a [`position`] of the same directory.
///
/// # Errors
/// EINVAL for a number that is not such a position.
pub fn set_position(dir: BorrowedFd<'_>, position: i64) -> Result<(), Errno> {
    retry(|| lseek64(dir, position, Whence::SeekSet)).map(drop)
}

#[allow(
    clippy::useless_conversion,
    clippy::cast_possible_truncation,
    reason = "mode_t is narrow on some systems"
)]
fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode as libc::mode_t)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::sys::stat::{Kind, stat, stat_at};

    fn scratch() -> (tempfile::TempDir, File) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = File::open(scratch.path()).unwrap();
        (scratch, dir)
    }

    #[test]
    fn a_rename_keeps_replaces_or_exchanges() {
        let (scratch, dir) = scratch();
        let dir = dir.as_fd();
        let read = |name: &str| fs::read_to_string(scratch.path().join(name)).ok();
        fs::write(scratch.path().join("a"), "a").unwrap();
        fs::write(scratch.path().join("b"), "b").unwrap();
        assert_eq!(rename(dir, c"a", dir, c"b", Existing::Keep), Err(Errno::EEXIST));
        rename(dir, c"a", dir, c"b", Existing::Exchange).unwrap();
        assert_eq!((read("a").unwrap(), read("b").unwrap()), ("b".into(), "a".into()));
        rename(dir, c"a", dir, c"b", Existing::Replace).unwrap();
        assert_eq!((read("a"), read("b").unwrap()), (None, "b".into()));
        rename(dir, c"b", dir, c"c", Existing::Keep).unwrap();
        assert_eq!(read("c").unwrap(), "b");
    }

    #[test]
    fn attributes_of_an_o_path_descriptor_change_and_link_targets_do_not() {
        let (scratch, dir) = scratch();
        let dir = dir.as_fd();
        fs::write(scratch.path().join("f"), "").unwrap();
        symlink("f", scratch.path().join("l")).unwrap();
        let held = hold(dir, c"f").unwrap();
        set_mode(held.as_fd(), 0o4751).unwrap();
        assert_eq!(stat(held.as_fd()).unwrap().mode, 0o4751);
        let link = hold(dir, c"l").unwrap();
        assert_eq!(stat(link.as_fd()).unwrap().kind, Kind::Symlink);
        assert!(set_mode(link.as_fd(), 0o777).is_err());
        assert_eq!(stat(held.as_fd()).unwrap().mode, 0o4751);
        set_times(dir, c"l", 5, -1).unwrap();
        assert_eq!(stat_at(dir, c"l").unwrap().mtime_ns, -1);
        assert_ne!(stat(held.as_fd()).unwrap().mtime_ns, -1);
        let open = open(dir, c"f").unwrap();
        set_open_times(open.as_fd(), 1_000_000_001, 2_999_999_999).unwrap();
        assert_eq!(stat(held.as_fd()).unwrap().mtime_ns, 2_999_999_999);
        assert_eq!(super::open(dir, c"l").unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn new_files_and_directories_are_private() {
        let (scratch, dir) = scratch();
        let dir = dir.as_fd();
        create(dir, c"f").unwrap();
        make_fifo(dir, c"p").unwrap();
        make_dir(dir, c"d", 0o700).unwrap();
        make_symlink(c"to", dir, c"l").unwrap();
        for (name, mode) in [("f", 0o600), ("p", 0o600), ("d", 0o700)] {
            let found = fs::metadata(scratch.path().join(name)).unwrap();
            assert_eq!(found.permissions().mode() & 0o7777, mode, "{name}");
        }
        assert_eq!(read_symlink(dir, c"l").unwrap(), b"to");
        assert_eq!(create(dir, c"l").unwrap_err(), Errno::EEXIST);
        link(dir, c"f", dir, c"g").unwrap();
        assert_eq!(fs::metadata(scratch.path().join("g")).unwrap().nlink(), 2);
        assert_eq!(remove(dir, c"d").unwrap_err(), Errno::EISDIR);
        remove_dir(dir, c"d").unwrap();
        remove(dir, c"l").unwrap();
    }

    #[test]
    fn one_lock_at_a_time() {
        let (scratch, dir) = scratch();
        assert_eq!(try_lock(dir.as_fd()), Ok(true));
        let again = File::open(scratch.path()).unwrap();
        assert_eq!(try_lock(again.as_fd()), Ok(false));
        drop(dir);
        assert_eq!(try_lock(again.as_fd()), Ok(true));
    }
}
