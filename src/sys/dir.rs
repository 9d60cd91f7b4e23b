//! Directories: opened without following links, listed without allocating.
//!
//! `open_trusted` is for paths that the administrator wrote. Everything below such a path is opened relative
//! to a descriptor, so that no other user can put a symbolic link in between.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek};

use super::stat::{FileId, Kind, stat, stat_at};
use super::{Errno, retry};

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

/// Opens a directory for listing. Symbolic links are followed, because the administrator wrote the path.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EMFILE, ENFILE and what the filesystem says.
pub fn open_trusted(path: &CStr) -> Result<OwnedFd, Errno> {
    retry(|| nix::fcntl::open(path, DIRECTORY, Mode::empty()))
}

/// Opens a subdirectory for listing; `name` is one component.
///
/// # Errors
/// As [`open_trusted`]; ENOTDIR when it is a symbolic link.
pub fn open_child(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    retry(|| openat(dir, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()))
}

/// Opens a subdirectory with `O_PATH`, which is enough to watch it, to get its attributes and to open its
/// entries. That costs less than opening it for listing, and makes no events. `name` is one component.
///
/// # Errors
/// As [`open_child`], but the directory need not be readable.
pub fn hold_child(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    retry(|| openat(dir, name, SEARCH, Mode::empty()))
}

/// As [`hold_child`] for a directory at any depth below `dir`. No symbolic link is followed, and the path
/// cannot lead out of `dir`. An empty path means `dir` itself.
///
/// # Errors
/// As [`open_trusted`]; ELOOP or ENOTDIR when a component is a symbolic link; EXDEV when the path
/// is absolute or holds `..`; EINVAL when it holds a NUL; ENAMETOOLONG when one component is
/// longer than a filesystem can store.
pub fn hold_beneath(dir: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    /// Set once the kernel (before 5.6) or a sandbox turned out not to know `openat2(2)`.
    static NO_OPENAT2: AtomicBool = AtomicBool::new(false);
    check_beneath(path)?;
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        match hold_beneath_in_steps(dir, path) {
            // Sandboxes give EPERM; openat2 itself gives it only for O_NOATIME.
            Err(Errno::ENOSYS | Errno::EPERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
            outcome => return outcome,
        }
    }
    hold_beneath_by_components(dir, path)
}

/// The paths that [`hold_beneath`] refuses whatever is on disk.
fn check_beneath(path: &[u8]) -> Result<(), Errno> {
    if path.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let escapes = path.starts_with(b"/") || path.split(|&byte| byte == b'/').any(|part| part == b"..");
    if escapes { Err(Errno::EXDEV) } else { Ok(()) }
}

/// Longest path one call takes, without the final NUL (`path_resolution(7)`).
const STEP_LEN_MAX: usize = libc::PATH_MAX as usize - 1;

/// `openat2(2)`, once for every 4095 bytes of path.
fn hold_beneath_in_steps(dir: BorrowedFd<'_>, mut path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let mut own = None;
    while path.len() > STEP_LEN_MAX {
        let slash = path[..=STEP_LEN_MAX].iter().rposition(|&byte| byte == b'/');
        let slash = slash.ok_or(Errno::ENAMETOOLONG)?;
        let how = OpenHow::new().flags(SEARCH).resolve(resolve);
        own = Some(retry(|| openat2(here(dir, &own), or_here(&path[..slash]), how))?);
        path = &path[slash + 1..];
    }
    let how = OpenHow::new().flags(SEARCH).resolve(resolve);
    retry(|| openat2(here(dir, &own), or_here(path), how))
}

/// The same without `openat2(2)`: one component at a time.
fn hold_beneath_by_components(dir: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut own = None;
    let mut parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let next = hold_component(here(dir, &own), part)?;
        if parts.peek().is_none() {
            return Ok(next);
        }
        own = Some(next);
    }
    hold_child(here(dir, &own), c".")
}

fn hold_component(dir: BorrowedFd<'_>, part: &[u8]) -> Result<OwnedFd, Errno> {
    retry(|| openat(dir, part, SEARCH, Mode::empty()))
}

/// `O_PATH` needs no right to read the directory, and makes no event.
const SEARCH: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

fn or_here(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// The directory that a walk has reached; at first that is its start.
fn here<'a>(start: BorrowedFd<'a>, own: &'a Option<OwnedFd>) -> BorrowedFd<'a> {
    own.as_ref().map_or(start, AsFd::as_fd)
}

/// Makes a directory the working directory. Only the thread that watches may call this, and it calls
/// [`leave`] soon.
///
/// # Errors
/// EACCES without the right to search it.
pub fn enter(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    retry(|| nix::unistd::fchdir(dir))
}

/// Makes `/` the working directory again, so that the filesystem of the entered directory can be unmounted.
pub fn leave() {
    // Every process can search its root.
    let _ = retry(|| nix::unistd::chdir(c"/"));
}

/// Waits until a process that is changing names in a directory is done, and the kernel has queued its events:
/// the kernel does both under the directory's lock, which a listing takes too. Opens and closes the
/// directory.
pub fn await_changes(dir: BorrowedFd<'_>) {
    // The buffer is too small for an entry: the kernel takes the lock and then gives EINVAL. A directory that
    // cannot be read cannot be watched either.
    if let Ok(dir) = open_child(dir, c".") {
        let _ = getdents(dir.as_fd(), &mut [0; 1]);
    }
}

/// A good size for the buffer of [`list`]: what glibc's `readdir(3)` uses, some 1000 entries.
pub const LIST_BUFFER_SIZE: usize = 32 * 1024;

/// Calls `visit` with name and kind of every entry but `.` and `..`, from the beginning.
///
/// Entries that are made or removed meanwhile may or may not be among them. The contents of the buffer are
/// overwritten.
///
/// # Errors
/// EINVAL when the buffer is too small for one entry (280 bytes always suffice), ENOTDIR, EBADF
/// for an `O_PATH` descriptor, EIO and what the filesystem says.
pub fn list(dir: BorrowedFd<'_>, buffer: &mut [u8], mut visit: impl FnMut(&[u8], Kind)) -> Result<(), Errno> {
    lseek(dir, 0, Whence::SeekSet)?;
    while list_some(dir, buffer, &mut visit)? {}
    Ok(())
}

/// As [`list`], but begins at the position of the descriptor and fills the buffer once: so a directory of a
/// million entries can be read in pieces. Returns whether there may be more.
///
/// # Errors
/// As [`list`].
pub fn list_some(
    dir: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut visit: impl FnMut(&[u8], Kind),
) -> Result<bool, Errno> {
    let filled = match retry(|| getdents(dir, buffer)) {
        // The directory was removed, and so it is empty; glibc's readdir(3) takes it so too.
        Err(Errno::ENOENT) => 0,
        outcome => outcome?,
    };
    for (name, d_type) in entries(&buffer[..filled]) {
        if let Some(kind) = kind_of_type(d_type).or_else(|| look_up(dir, name)) {
            visit(name.to_bytes(), kind);
        }
    }
    Ok(filled > 0)
}

/// `getdents64(2)`. Raw: nix has `readdir(3)`, which allocates, and not all C libraries have this call.
fn getdents(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer may be written up to its length, which is all getdents64(2) does.
    let size =
        unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(size).map(|size| usize::try_from(size).unwrap_or_default())
}

/// Offsets in `struct linux_dirent64` (`getdents(2)`): ino 8, off 8, reclen 2, type 1, then the name.
const RECLEN_AT: usize = 16;
const TYPE_AT: usize = 18;
const NAME_AT: usize = 19;

/// The entries in a buffer that `getdents64(2)` has filled, without `.` and `..`.
fn entries(mut buffer: &[u8]) -> impl Iterator<Item = (&CStr, u8)> {
    std::iter::from_fn(move || {
        loop {
            let reclen = [*buffer.get(RECLEN_AT)?, *buffer.get(RECLEN_AT + 1)?];
            let (entry, rest) = buffer.split_at_checked(usize::from(u16::from_ne_bytes(reclen)))?;
            let name = CStr::from_bytes_until_nul(entry.get(NAME_AT..)?).ok()?;
            buffer = rest;
            if !matches!(name.to_bytes(), b"." | b"..") {
                return Some((name, entry[TYPE_AT]));
            }
        }
    })
}

/// `None` when the filesystem does not give the type.
fn kind_of_type(d_type: u8) -> Option<Kind> {
    match d_type {
        libc::DT_UNKNOWN => None,
        libc::DT_DIR => Some(Kind::Directory),
        libc::DT_REG => Some(Kind::File),
        libc::DT_LNK => Some(Kind::Symlink),
        libc::DT_FIFO => Some(Kind::Fifo),
        _ => Some(Kind::Other),
    }
}

/// `None` when the entry has vanished meanwhile. In a directory that may be listed but not searched every
/// entry counts as [`Kind::Other`]: its subdirectories cannot be opened anyway.
fn look_up(dir: BorrowedFd<'_>, name: &CStr) -> Option<Kind> {
    match stat_at(dir, name) {
        Ok(stat) => Some(stat.kind),
        Err(Errno::ENOENT) => None,
        Err(_) => Some(Kind::Other),
    }
}

/// Device and inode of a directory.
///
/// # Errors
/// As [`stat`].
pub fn identity(dir: BorrowedFd<'_>) -> Result<FileId, Errno> {
    stat(dir).map(|stat| stat.id)
}

/// The magic number of a filesystem (`statfs(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FsType(pub u32);

impl FsType {
    /// The name of a filesystem on which files may change without events, because the changes are made on
    /// another machine or by a process that serves the filesystem.
    #[must_use]
    pub const fn remote(self) -> Option<&'static str> {
        Some(match self.0 {
            0x6969 => "nfs",
            0x517b => "smb",
            0xff53_4d42 => "cifs",
            0xfe53_4d42 => "smb2",
            0x6573_5546 => "fuse",
            0x0102_1997 => "9p",
            0x00c3_6400 => "ceph",
            0x5346_414f | 0x6b41_4653 => "afs",
            0x7375_7245 => "coda",
            0x786f_4256 => "vboxsf",
            0x7461_636f => "ocfs2",
            0x0116_1970 => "gfs2",
            0x0bd0_0bd0 => "lustre",
            0x4750_4653 => "gpfs",
            _ => return None,
        })
    }

    /// Whether each file has its own owner and mode. FAT and the like have one for all files, and a server
    /// may ignore them.
    #[must_use]
    pub const fn keeps_owners(self) -> bool {
        self.remote().is_none() && !matches!(self.0, 0x4d44 | 0x2011_bab0 | 0x7366_746e | 0x5346_544e)
    }

    /// Whether a directory's link count of 2 proves that it has no subdirectory. So it is on ext2 to ext4,
    /// xfs and tmpfs; on btrfs and others the count is always 1, and other filesystems are not trusted.
    #[must_use]
    pub const fn counts_links(self) -> bool {
        matches!(self.0, 0xef53 | 0x5846_5342 | 0x0102_1994)
    }
}

/// The type of the filesystem of a file.
///
/// # Errors
/// ENOSYS and what the filesystem says.
pub fn fs_type(fd: BorrowedFd<'_>) -> Result<FsType, Errno> {
    let found = retry(|| nix::sys::statfs::fstatfs(fd))?.filesystem_type();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "32 bits that the C libraries sign-extend, or not, into fields of various widths"
    )]
    Ok(FsType(found.0 as u32))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::CString;
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    type Opener = fn(BorrowedFd<'_>, &[u8]) -> Result<OwnedFd, Errno>;

    /// Both ways, so that the one for old kernels is tested on a new one.
    fn openers() -> Vec<Opener> {
        if hold_beneath_in_steps(open(Path::new("/")).as_fd(), b"").err() == Some(Errno::ENOSYS) {
            eprintln!("this kernel has no openat2: only the other way is tested");
            return vec![hold_beneath_by_components];
        }
        vec![hold_beneath_in_steps, hold_beneath_by_components]
    }

    fn open(path: &Path) -> OwnedFd {
        open_trusted(&CString::new(path.as_os_str().as_bytes()).unwrap()).unwrap()
    }

    fn listed(dir: BorrowedFd<'_>, buffer_size: usize) -> BTreeMap<Vec<u8>, Kind> {
        let mut found = BTreeMap::new();
        list(dir, &mut vec![0; buffer_size], |name, kind| {
            assert!(found.insert(name.to_vec(), kind).is_none(), "{name:?} came twice");
        })
        .unwrap();
        found
    }

    #[test]
    fn beneath_finds_the_directory_and_refuses_every_link() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("a/b c/d")).unwrap();
        fs::write(scratch.path().join("a/file"), b"").unwrap();
        symlink("a", scratch.path().join("link")).unwrap();
        symlink("/", scratch.path().join("a/root")).unwrap();
        let root = open(scratch.path());
        for opener in openers() {
            for path in ["a", "a/b c", "a/b c/d", "a//b c/./d", "a/"] {
                let expected = identity(open(&scratch.path().join(path)).as_fd()).unwrap();
                let found = opener(root.as_fd(), path.as_bytes()).unwrap();
                assert_eq!(identity(found.as_fd()).unwrap(), expected, "{path}");
            }
            let found = opener(root.as_fd(), b"").unwrap();
            assert_eq!(identity(found.as_fd()), identity(root.as_fd()));
            assert_eq!(opener(root.as_fd(), b"a/none/d").unwrap_err(), Errno::ENOENT);
            assert_eq!(opener(root.as_fd(), b"a/file").unwrap_err(), Errno::ENOTDIR);
            for path in ["link", "link/b c", "a/root", "a/root/tmp"] {
                let errno = opener(root.as_fd(), path.as_bytes()).unwrap_err();
                assert!(matches!(errno, Errno::ELOOP | Errno::ENOTDIR), "{path}: {errno}");
            }
        }
        assert_eq!(open_child(root.as_fd(), c"link").unwrap_err(), Errno::ENOTDIR);
    }

    #[test]
    fn beneath_refuses_ways_out() {
        let root = open(Path::new("/"));
        for (path, errno) in [
            (&b"/etc"[..], Errno::EXDEV),
            (b"..", Errno::EXDEV),
            (b"etc/../etc", Errno::EXDEV),
            (b"etc\0", Errno::EINVAL),
        ] {
            assert_eq!(hold_beneath(root.as_fd(), path).unwrap_err(), errno, "{path:?}");
        }
        assert!(hold_beneath(root.as_fd(), b"..etc").is_err_and(|errno| errno == Errno::ENOENT));
    }

    #[test]
    fn beneath_reaches_deeper_than_one_path_can_say() {
        let scratch = tempfile::tempdir().unwrap();
        let root = open(scratch.path());
        let name = CString::new([b'x'; 200]).unwrap();
        let mut path = Vec::new();
        let mut at = root.try_clone().unwrap();
        for _ in 0..50 {
            nix::sys::stat::mkdirat(&at, name.as_c_str(), Mode::S_IRWXU).unwrap();
            at = open_child(at.as_fd(), &name).unwrap();
            path.extend(name.as_bytes());
            path.push(b'/');
        }
        path.pop();
        assert!(path.len() > 10_000);
        for opener in openers() {
            let found = opener(root.as_fd(), &path).unwrap();
            assert_eq!(identity(found.as_fd()), identity(at.as_fd()));
        }
        let long = [b'x'; 5000];
        for opener in openers() {
            assert_eq!(opener(root.as_fd(), &long).unwrap_err(), Errno::ENAMETOOLONG);
        }
        drop(at);
        remove_deep(root.as_fd(), &name);
    }

    /// `remove_dir_all` takes paths and fails here.
    fn remove_deep(root: BorrowedFd<'_>, name: &CStr) {
        let mut chain = vec![root.try_clone_to_owned().unwrap()];
        while let Ok(next) = open_child(chain[chain.len() - 1].as_fd(), name) {
            chain.push(next);
        }
        chain.pop();
        while let Some(dir) = chain.pop() {
            nix::unistd::unlinkat(&dir, name, nix::unistd::UnlinkatFlags::RemoveDir).unwrap();
        }
    }

    #[test]
    fn lists_every_name_and_kind_whatever_the_buffer() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path();
        let mut expected = BTreeMap::new();
        for number in 0..300 {
            let name = format!("{number}-{}", "y".repeat(number % 250));
            fs::write(path.join(&name), b"").unwrap();
            expected.insert(name.into_bytes(), Kind::File);
        }
        for name in [&b"a b"[..], b"new\nline", b"\xff\xfe", b"...", b"-rf"] {
            fs::create_dir(path.join(std::ffi::OsStr::from_bytes(name))).unwrap();
            expected.insert(name.to_vec(), Kind::Directory);
        }
        symlink("none", path.join("link")).unwrap();
        nix::unistd::mkfifo(&path.join("fifo"), Mode::S_IRUSR).unwrap();
        expected.insert(b"link".to_vec(), Kind::Symlink);
        expected.insert(b"fifo".to_vec(), Kind::Fifo);
        let dir = open(path);
        for buffer_size in [280, 1000, LIST_BUFFER_SIZE] {
            assert_eq!(listed(dir.as_fd(), buffer_size), expected, "{buffer_size}");
        }
        assert_eq!(list(dir.as_fd(), &mut [0; 8], |_, _| {}), Err(Errno::EINVAL));
    }

    #[test]
    fn a_removed_directory_lists_as_empty() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("gone")).unwrap();
        let dir = open(&scratch.path().join("gone"));
        fs::remove_dir(scratch.path().join("gone")).unwrap();
        assert_eq!(listed(dir.as_fd(), 1024), BTreeMap::new());
    }

    #[test]
    fn an_unknown_type_is_looked_up() {
        let scratch = tempfile::tempdir().unwrap();
        symlink("x", scratch.path().join("link")).unwrap();
        let dir = open(scratch.path());
        assert_eq!(kind_of_type(libc::DT_UNKNOWN), None);
        assert_eq!(look_up(dir.as_fd(), c"link"), Some(Kind::Symlink));
        assert_eq!(look_up(dir.as_fd(), c"none"), None);
    }

    #[test]
    fn a_broken_buffer_ends_the_reading() {
        let mut entry = vec![0; 24];
        entry[RECLEN_AT..TYPE_AT].copy_from_slice(&24_u16.to_ne_bytes());
        entry[TYPE_AT] = libc::DT_REG;
        entry[NAME_AT] = b'a';
        assert_eq!(entries(&entry).collect::<Vec<_>>(), [(c"a", libc::DT_REG)]);
        assert_eq!(entries(&entry[..20]).count(), 0);
        let mut unterminated = entry.clone();
        unterminated[NAME_AT..].fill(b'a');
        assert_eq!(entries(&unterminated).count(), 0);
        entry[RECLEN_AT..TYPE_AT].fill(0);
        assert_eq!(entries(&entry).count(), 0);
    }

    #[test]
    fn link_counts_are_trusted_only_where_they_count() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = open(scratch.path());
        if fs_type(dir.as_fd()).unwrap().counts_links() {
            assert_eq!(stat(dir.as_fd()).unwrap().links, 2);
            fs::create_dir(scratch.path().join("sub")).unwrap();
            assert_eq!(stat(dir.as_fd()).unwrap().links, 3);
        }
        let proc = File::open("/proc").unwrap();
        assert_eq!(fs_type(proc.as_fd()), Ok(FsType(0x9fa0)));
        assert!(!FsType(0x9fa0).counts_links());
        assert_eq!(FsType(0x6969).remote(), Some("nfs"));
        assert_eq!(FsType(0xef53).remote(), None);
    }
}
