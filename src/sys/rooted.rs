//! Files below a chosen root directory, replaced atomically.
//!
//! Paths are looked up as if the root were `/`: no symbolic link leads out of it, absolute links and `..`
//! included. The last component is never followed; a symbolic link there is replaced. A new file is written
//! under a temporary name beside the old one and renamed over it.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{
    AccessFlags, UnlinkatFlags, faccessat, fchown, fsync, getegid, geteuid, symlinkat, unlinkat,
};

use super::stat::{Kind, Stat, stat, stat_at};
use super::{Errno, errno_of, retry};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// A FIFO is not waited for, and a symbolic link is not followed.
const FILE: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// The mode of new directories.
const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o755);

/// The directory that stands for `/`.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// The root is `/` itself: no lookup can leave it, so `openat2(2)` is not needed.
    whole: bool,
}

impl Root {
    /// Opens the root.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EACCES and what else `open(2)` says.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let fd = retry(|| nix::fcntl::open(path, DIRECTORY, Mode::empty()))?;
        let top = retry(|| nix::fcntl::open(c"/", DIRECTORY, Mode::empty()))?;
        let whole = stat(fd.as_fd())?.id == stat(top.as_fd())?.id;
        Ok(Self { fd, whole })
    }

    /// Opens a directory, `path` being relative to the root.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ELOOP, EACCES; ENOSYS for a root other than `/` where the kernel (before
    /// 5.6) or a sandbox does not know `openat2(2)`.
    pub fn directory(&self, path: &Path) -> Result<Directory, Errno> {
        let how = OpenHow::new().flags(DIRECTORY).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let opened = match retry(|| openat2(&self.fd, path, how)) {
            Err(Errno::ENOSYS | Errno::EPERM) if self.whole => {
                retry(|| openat(&self.fd, path, DIRECTORY, Mode::empty()))
            }
            // From a sandbox: openat2(2) itself gives EPERM only for O_NOATIME.
            Err(Errno::EPERM) => Err(Errno::ENOSYS),
            outcome => outcome,
        };
        opened.map(|fd| Directory { fd })
    }

    /// As [`Root::directory`], but makes missing directories, with mode 0755.
    ///
    /// # Errors
    /// As there, and EEXIST for a symbolic link to nothing, EROFS, ENOSPC and the like.
    pub fn make_directory(&self, path: &Path) -> Result<Directory, Errno> {
        match (self.directory(path), path.parent(), path.file_name()) {
            (Err(Errno::ENOENT), Some(parent), Some(name)) => {
                let parent = self.make_directory(parent)?;
                mkdirat(&parent.fd, name, DIRECTORY_MODE)?;
                let made = self.directory(path)?;
                // The umask may have taken some bits.
                fchmod(&made.fd, DIRECTORY_MODE)?;
                Ok(made)
            }
            (outcome, ..) => outcome,
        }
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
}

impl Directory {
    /// The attributes of `name`; `None` when it does not exist.
    ///
    /// # Errors
    /// EACCES, ENAMETOOLONG and what the filesystem says.
    pub fn look(&self, name: &Path) -> Result<Option<Stat>, Errno> {
        match stat_at(self.fd.as_fd(), &c_name(name)?) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Checks that entries can be made here.
    ///
    /// # Errors
    /// EROFS, EACCES and what else `access(2)` says.
    pub fn check_writable(&self) -> Result<(), Errno> {
        retry(|| faccessat(&self.fd, c".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::empty()))
    }

    /// The contents of a regular file: at most `size_max` bytes and one more, which shows that there are
    /// more.
    ///
    /// # Errors
    /// ENOENT, ELOOP for a symbolic link, EINVAL for anything but a regular file, and what `read(2)` says.
    pub fn read(&self, name: &Path, size_max: usize) -> Result<Vec<u8>, Errno> {
        let fd = retry(|| openat(&self.fd, name, OFlag::O_RDONLY | FILE, Mode::empty()))?;
        if stat(fd.as_fd())?.kind != Kind::File {
            return Err(Errno::EINVAL);
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(size_max).unwrap_or(u64::MAX).saturating_add(1);
        File::from(fd).take(limit).read_to_end(&mut bytes).map_err(|error| errno_of(&error))?;
        Ok(bytes)
    }

    /// Makes a file of the process's own user and group, and waits until it is on disk; a file or symbolic
    /// link of that name is replaced.
    ///
    /// # Errors
    /// EISDIR, EROFS, ENOSPC and the like; no temporary file is left then.
    pub fn put_file(&self, name: &Path, bytes: &[u8], mode: u32) -> Result<(), Errno> {
        self.put(name, |dir, temporary| {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | FILE;
            let fd = retry(|| openat(dir, temporary, flags, Mode::S_IRUSR | Mode::S_IWUSR))?;
            let mut file = File::from(fd);
            file.write_all(bytes).map_err(|error| errno_of(&error))?;
            // A set-group-id bit of the directory would give the file the group of the directory.
            fchown(&file, Some(geteuid()), Some(getegid()))?;
            fchmod(&file, Mode::from_bits_truncate(mode))?;
            retry(|| fsync(&file))
        })
    }

    /// Makes a symbolic link, as [`Directory::put_file`] makes a file.
    ///
    /// # Errors
    /// As there.
    pub fn put_link(&self, name: &Path, target: &Path) -> Result<(), Errno> {
        self.put(name, |dir, temporary| symlinkat(target, dir, temporary))
    }

    /// Where the symbolic link points to; `None` for anything else.
    #[must_use]
    pub fn link_target(&self, name: &Path) -> Option<Vec<u8>> {
        nix::fcntl::readlinkat(&self.fd, name).ok().map(|target| target.as_bytes().to_vec())
    }

    fn put(
        &self,
        name: &Path,
        make: impl FnOnce(BorrowedFd<'_>, &Path) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let temporary = [b".", name.as_os_str().as_bytes(), b".new"].concat();
        let temporary = Path::new(std::ffi::OsStr::from_bytes(&temporary));
        // A process that was killed may have left one.
        match self.remove(temporary) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let outcome = make(self.fd.as_fd(), temporary)
            .and_then(|()| renameat(&self.fd, temporary, &self.fd, name))
            .and_then(|()| retry(|| fsync(&self.fd)));
        if outcome.is_err() {
            let _ = self.remove(temporary);
        }
        outcome
    }

    /// Removes a file or link.
    ///
    /// # Errors
    /// ENOENT, EISDIR, EROFS and the like.
    pub fn remove(&self, name: &Path) -> Result<(), Errno> {
        retry(|| unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir))
    }

    /// Removes a directory if it is empty. `false` when it is not, or does not exist.
    ///
    /// # Errors
    /// ENOTDIR, EROFS, EBUSY and the like.
    pub fn remove_if_empty(&self, name: &Path) -> Result<bool, Errno> {
        match retry(|| unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

fn c_name(name: &Path) -> Result<CString, Errno> {
    CString::new(name.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        (scratch, root)
    }

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let (scratch, root) = root();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("real/dir")).unwrap();
        symlink("/real", scratch.path().join("absolute")).unwrap();
        symlink("../../../../real", scratch.path().join("dotted")).unwrap();
        symlink(outside.path(), scratch.path().join("outside")).unwrap();
        let id = |path: &str| stat(root.directory(Path::new(path)).unwrap().fd.as_fd()).unwrap().id;
        assert_eq!(id("absolute/dir"), id("real/dir"));
        assert_eq!(id("dotted/dir"), id("real/dir"));
        // That path does not exist below the root, and is not made through a dangling link.
        assert_eq!(root.directory(Path::new("outside")).unwrap_err(), Errno::ENOENT);
        assert_eq!(root.make_directory(Path::new("outside/new")).unwrap_err(), Errno::EEXIST);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn missing_directories_are_made_and_files_in_the_way_refused() {
        let (scratch, root) = root();
        root.make_directory(Path::new("a/b/c")).unwrap().check_writable().unwrap();
        root.make_directory(Path::new("a/b/c")).unwrap();
        assert_eq!(fs::metadata(scratch.path().join("a/b")).unwrap().mode() & 0o7777, 0o755);
        fs::write(scratch.path().join("file"), "").unwrap();
        assert_eq!(root.make_directory(Path::new("file/dir")).unwrap_err(), Errno::ENOTDIR);
        assert_eq!(Root::open(&scratch.path().join("none")).unwrap_err(), Errno::ENOENT);
        assert_eq!(Root::open(&scratch.path().join("file")).unwrap_err(), Errno::ENOTDIR);
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_link_not_followed() {
        let (scratch, root) = root();
        let (name, path) = (Path::new("name"), scratch.path().join("name"));
        let dir = root.directory(Path::new("")).unwrap();
        assert_eq!(dir.look(name), Ok(None));
        dir.put_file(name, b"one", 0o600).unwrap();
        let held = File::open(&path).unwrap();
        dir.put_file(name, b"two", 0o755).unwrap();
        let mut first = String::new();
        (&held).read_to_string(&mut first).unwrap();
        assert_eq!((first.as_str(), dir.read(name, 3)), ("one", Ok(b"two".to_vec())));
        assert_eq!(dir.read(name, 1), Ok(b"tw".to_vec()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
        fs::write(scratch.path().join("precious"), "kept").unwrap();
        fs::remove_file(&path).unwrap();
        symlink("precious", &path).unwrap();
        assert_eq!(dir.read(name, 9), Err(Errno::ELOOP));
        assert_eq!(dir.link_target(name), Some(b"precious".to_vec()));
        dir.put_file(name, b"three", 0o644).unwrap();
        assert_eq!(fs::read_to_string(scratch.path().join("precious")).unwrap(), "kept");
        dir.put_link(name, Path::new("elsewhere")).unwrap();
        assert_eq!(dir.look(name).unwrap().unwrap().kind, Kind::Symlink);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "a temporary file was left");
    }

    #[test]
    fn a_failure_leaves_no_temporary_file() {
        let (scratch, root) = root();
        let dir = root.directory(Path::new("")).unwrap();
        fs::create_dir_all(scratch.path().join("name/full")).unwrap();
        assert_eq!(dir.put_file(Path::new("name"), b"", 0o644), Err(Errno::EISDIR));
        assert_eq!(dir.remove(Path::new("name")), Err(Errno::EISDIR));
        assert_eq!(dir.remove_if_empty(Path::new("name")), Ok(false));
        assert_eq!(dir.remove(Path::new("none")), Err(Errno::ENOENT));
        nix::unistd::mkfifo(&scratch.path().join("fifo"), Mode::S_IRWXU).unwrap();
        assert_eq!(dir.read(Path::new("fifo"), 9), Err(Errno::EINVAL));
        // Left by a process that was killed.
        fs::write(scratch.path().join(".file.new"), "half").unwrap();
        dir.put_file(Path::new("file"), b"whole", 0o644).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["fifo", "file", "name"]);
    }
}
