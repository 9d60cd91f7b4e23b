//! The attributes of files, without following symbolic links. See `statx(2)`, `stat(2)`.
//!
//! On 32-bit ARM the older call fails for files beyond 2 GiB and for times after 2038, so this asks `statx`.
//! Where the kernel (before 4.11) or a sandbox does not know `statx`, it asks the older call. Both are raw:
//! nix lacks `statx`, and its `fstatat` has 32-bit fields there.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, retry};

/// Identifies an inode on this machine for as long as the inode exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device, encoded as `st_dev`.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A FIFO, also called a named pipe.
    Fifo,
    /// A socket or device.
    Other,
}

/// The attributes that the daemon uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device and inode.
    pub id: FileId,
    /// The type.
    pub kind: Kind,
    /// Permission bits, with set-user-id and the like: `mode & 0o7777`.
    pub mode: u32,
    /// Hard links; 0 once the last name is gone.
    pub links: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last access to the data, in nanoseconds since 1970.
    pub atime_ns: i64,
    /// Last change of the data, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of data or attributes, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// The attributes of an open file. `fd` may be an `O_PATH` descriptor.
///
/// # Errors
/// EIO, ESTALE and the like from the filesystem.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    stat_at(fd, c"")
}

/// The attributes of `name` in `dir`; of a symbolic link, those of the link. An empty name means `dir`
/// itself.
///
/// # Errors
/// ENOENT, EACCES, ENAMETOOLONG, and EIO, ESTALE and the like from the filesystem.
pub fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat, Errno> {
    match retry(|| statx(dir, name)) {
        // Sandboxes give EPERM for calls that they do not know; statx itself never does.
        Err(Errno::ENOSYS | Errno::EPERM) => retry(|| fstatat(dir, name, FLAGS)),
        outcome => outcome,
    }
}

const FLAGS: libc::c_int = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;

fn statx(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat, Errno> {
    raw_statx(dir, name, FLAGS, libc::STATX_BASIC_STATS).map(|found| from_statx(&found))
}

/// Called by number, because musl has the function only since 1.2.5.
fn raw_statx(dir: BorrowedFd<'_>, name: &CStr, flags: libc::c_int, mask: u32) -> Result<libc::statx, Errno> {
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name ends in NUL and the buffer holds a struct statx, as statx(2) wants.
    let outcome = unsafe {
        libc::syscall(libc::SYS_statx, dir.as_raw_fd(), name.as_ptr(), flags, mask, buffer.as_mut_ptr())
    };
    Errno::result(outcome)?;
    // SAFETY: statx(2) succeeded and filled it; all zeroes were valid before.
    Ok(unsafe { buffer.assume_init() })
}

/// What `name` in `dir` is, as [`stat_at`], but without asking a server for newer attributes than the kernel
/// has.
///
/// # Errors
/// As [`stat_at`].
pub(super) fn kind(dir: BorrowedFd<'_>, name: &CStr, follow: bool) -> Result<Kind, Errno> {
    let flags = if follow { FLAGS & !libc::AT_SYMLINK_NOFOLLOW } else { FLAGS };
    match retry(|| raw_statx(dir, name, flags | libc::AT_STATX_DONT_SYNC, libc::STATX_TYPE)) {
        Err(Errno::ENOSYS | Errno::EPERM) => retry(|| fstatat(dir, name, flags)).map(|found| found.kind),
        found => Ok(kind_of_mode(u32::from(found?.stx_mode))),
    }
}

fn from_statx(stat: &libc::statx) -> Stat {
    let time = |time: &libc::statx_timestamp| nanoseconds(time.tv_sec, i64::from(time.tv_nsec));
    #[allow(clippy::useless_conversion, reason = "dev_t has other widths elsewhere")]
    let dev = u64::from(libc::makedev(stat.stx_dev_major, stat.stx_dev_minor));
    Stat {
        id: FileId { dev, ino: stat.stx_ino },
        kind: kind_of_mode(u32::from(stat.stx_mode)),
        mode: u32::from(stat.stx_mode) & 0o7777,
        links: u64::from(stat.stx_nlink),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        atime_ns: time(&stat.stx_atime),
        mtime_ns: time(&stat.stx_mtime),
        ctime_ns: time(&stat.stx_ctime),
    }
}

fn fstatat(dir: BorrowedFd<'_>, name: &CStr, flags: libc::c_int) -> Result<Stat, Errno> {
    let mut buffer = MaybeUninit::<libc::stat64>::zeroed();
    // SAFETY: the name ends in NUL and the buffer holds a struct stat64, as fstatat(2) wants.
    let outcome = unsafe { libc::fstatat64(dir.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr(), flags) };
    Errno::result(outcome)?;
    // SAFETY: fstatat(2) succeeded and filled it; all zeroes were valid before.
    Ok(from_stat(&unsafe { buffer.assume_init() }))
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_cast,
    clippy::cast_sign_loss,
    reason = "the widths differ between architectures and C libraries; sizes are not negative"
)]
fn from_stat(stat: &libc::stat64) -> Stat {
    Stat {
        id: FileId { dev: u64::from(stat.st_dev), ino: u64::from(stat.st_ino) },
        kind: kind_of_mode(stat.st_mode),
        mode: stat.st_mode & 0o7777,
        links: u64::from(stat.st_nlink),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        atime_ns: nanoseconds(i64::from(stat.st_atime), stat.st_atime_nsec as i64),
        mtime_ns: nanoseconds(i64::from(stat.st_mtime), stat.st_mtime_nsec as i64),
        ctime_ns: nanoseconds(i64::from(stat.st_ctime), stat.st_ctime_nsec as i64),
    }
}

/// A filesystem may give any numbers; a time out of range becomes the end of the range.
fn nanoseconds(secs: i64, nanos: i64) -> i64 {
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}

fn kind_of_mode(mode: u32) -> Kind {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFREG => Kind::File,
        libc::S_IFLNK => Kind::Symlink,
        libc::S_IFIFO => Kind::Fifo,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn both_calls_agree_with_the_standard_library() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = File::open(scratch.path()).unwrap();
        fs::write(scratch.path().join("file"), b"12345").unwrap();
        fs::set_permissions(scratch.path().join("file"), fs::Permissions::from_mode(0o4711)).unwrap();
        symlink("file", scratch.path().join("link")).unwrap();
        fs::create_dir(scratch.path().join("dir")).unwrap();
        nix::unistd::mkfifo(&scratch.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        for (name, kind) in [
            (c"file", Kind::File),
            (c"link", Kind::Symlink),
            (c"dir", Kind::Directory),
            (c"fifo", Kind::Fifo),
        ] {
            let found = stat_at(dir.as_fd(), name).unwrap();
            assert_eq!(found, statx(dir.as_fd(), name).unwrap());
            assert_eq!(found, fstatat(dir.as_fd(), name, FLAGS).unwrap());
            let expected = fs::symlink_metadata(scratch.path().join(name.to_str().unwrap())).unwrap();
            assert_eq!(found.kind, kind);
            assert_eq!((found.id.dev, found.id.ino), (expected.dev(), expected.ino()));
            assert_eq!(found.mode, expected.mode() & 0o7777);
            assert_eq!((found.links, found.size), (expected.nlink(), expected.size()));
            assert_eq!(found.mtime_ns, expected.mtime() * 1_000_000_000 + expected.mtime_nsec());
            assert_eq!(found.ctime_ns, expected.ctime() * 1_000_000_000 + expected.ctime_nsec());
        }
        assert_eq!(stat_at(dir.as_fd(), c"none"), Err(Errno::ENOENT));
    }

    #[test]
    fn an_open_file_that_was_deleted_has_no_links() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(stat(file.as_fd()).unwrap().links, 0);
        assert_eq!(fstatat(file.as_fd(), c"", FLAGS).unwrap().links, 0);
    }

    #[test]
    fn times_of_a_broken_filesystem_do_not_overflow() {
        assert_eq!(nanoseconds(i64::MAX, 5), i64::MAX);
        assert_eq!(nanoseconds(i64::MIN, 5), i64::MIN + 5);
        assert_eq!(nanoseconds(-1, 999_999_999), -1);
    }
}
