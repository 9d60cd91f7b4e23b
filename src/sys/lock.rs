//! The pid file: holds the daemon's process id, and its lock keeps a second daemon from starting.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fmt, process};

use nix::poll::poll;

use super::stat::{FileId, Kind, stat};
use super::{Errno, Error, errno_of};

/// Why there is no lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockError {
    /// Another daemon holds it.
    Held {
        /// The pid in the file, if the daemon has written it yet.
        pid: Option<u32>,
        /// The note behind the pid.
        note: Vec<u8>,
    },
    /// The file cannot be used.
    System(Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { pid: Some(pid), .. } => write!(f, "already running, with process id {pid}"),
            Self::Held { pid: None, .. } => f.write_str("already running"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

/// A pid file that is locked (`flock(2)`) for as long as this value lives, and then removed.
#[derive(Debug)]
pub struct PidFile {
    file: File,
    path: PathBuf,
    owner: u32,
}

/// The mode of the file. A user who can open the file, be it for reading, can lock it (`flock(2)`), and so
/// keep the daemon from starting.
const MODE: u32 = 0o600;

/// How long to wait before reading the file again, when its owner has not written its pid yet.
const OWNER_WRITES_MS: u8 = 20;

/// How often the file may vanish between open and lock. Each time, a daemon has ended in that moment.
const TRIES: usize = 10;

impl PidFile {
    /// Locks the file, creating it with mode 0600, and writes the process id into it. A file that
    /// a killed daemon left behind is taken over.
    ///
    /// # Errors
    /// [`LockError::Held`], or why the file cannot be used: ENOENT, EACCES, ELOOP for a symbolic
    /// link, EMLINK for a file with several names, EINVAL for anything but a regular file, EAGAIN
    /// when it keeps vanishing.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        Self::acquire_noting(path, b"")
    }

    /// As [`PidFile::acquire`], with a note that a second daemon finds in [`LockError::Held`].
    ///
    /// # Errors
    /// As [`PidFile::acquire`].
    pub fn acquire_noting(path: &Path, note: &[u8]) -> Result<Self, LockError> {
        for tries in (1..=TRIES).rev() {
            let mut file = open(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => match held(&mut file) {
                    // The owner has not written into it yet.
                    LockError::Held { pid: None, .. } if tries > 1 => {
                        poll(&mut [], OWNER_WRITES_MS).map_err(|errno| system("poll", path, errno))?;
                        continue;
                    }
                    error => return Err(error),
                },
                Err(TryLockError::Error(error)) => return Err(system("flock", path, errno_of(&error))),
                Ok(()) => {}
            }
            // The last owner may have removed the file after this process has opened it. Then the lock is on
            // a file without a name, which the next daemon would not find.
            if named(path) == id(&file) {
                let mut lock = Self { file, path: path.to_owned(), owner: process::id() };
                lock.write(note).map_err(|error| system("write", path, errno_of(&error)))?;
                return Ok(lock);
            }
        }
        Err(system("flock", path, Errno::EAGAIN))
    }

    fn write(&mut self, note: &[u8]) -> std::io::Result<()> {
        let text = [self.owner.to_string().as_bytes(), b"\n", note].concat();
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)
    }
}

impl Drop for PidFile {
    /// Removes the file, unless this process is a fork of the owner or the name stands for another file by
    /// now. The lock ends after the name, so that no daemon can lock a file that is about to be removed.
    fn drop(&mut self) {
        if self.owner == process::id() && named(&self.path) == id(&self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        // O_NONBLOCK, so that a FIFO is not waited for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| system("open", path, errno_of(&error)))?;
    let found = stat(file.as_fd()).map_err(|errno| system("stat", path, errno))?;
    match (found.kind, found.links) {
        // A file that was removed meanwhile has no link.
        (Kind::File, 0 | 1) => Ok(file),
        // A hard link may be another user's file, as the target of a symbolic link may be.
        (Kind::File, _) => Err(system("open", path, Errno::EMLINK)),
        _ => Err(system("open", path, Errno::EINVAL)),
    }
}

fn system(op: &'static str, path: &Path, errno: Errno) -> LockError {
    LockError::System(Error::new(op, path.as_os_str().as_bytes(), errno))
}

/// So many bytes are read: the pid and a newline, and a note as long as a path.
const NOTE_SIZE_MAX: u64 = 4096 + 16;

/// The contents of the file, as far as the owner has written them.
fn held(file: &mut File) -> LockError {
    let mut text = Vec::new();
    let _ = file.rewind().and_then(|()| file.take(NOTE_SIZE_MAX).read_to_end(&mut text));
    let mut parts = text.splitn(2, |&byte| byte == b'\n');
    let pid = parts.next().and_then(|line| str::from_utf8(line).ok()?.trim().parse().ok());
    LockError::Held { pid, note: parts.next().unwrap_or_default().to_vec() }
}

fn id(file: &File) -> Option<FileId> {
    stat(file.as_fd()).ok().map(|stat| stat.id)
}

fn named(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some(FileId { dev: metadata.dev(), ino: metadata.ino() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_second_gets_the_pid_of_the_first() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("pid");
        let first = PidFile::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = PidFile::acquire(&path).unwrap_err();
        assert_eq!(error, LockError::Held { pid: Some(process::id()), note: Vec::new() });
        assert_eq!(error.to_string(), format!("already running, with process id {}", process::id()));
        drop(first);
        assert!(!path.exists());
        PidFile::acquire(&path).unwrap();
    }

    #[test]
    fn the_second_is_given_the_note_of_the_first() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let _first = PidFile::acquire_noting(&path, b"/a\nb\xff").unwrap();
        let error = PidFile::acquire_noting(&path, b"other").unwrap_err();
        assert_eq!(error, LockError::Held { pid: Some(process::id()), note: b"/a\nb\xff".to_vec() });
    }

    #[test]
    fn a_file_left_behind_is_taken_over() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("pid");
        fs::write(&path, "1234567890\n and more").unwrap();
        let _lock = PidFile::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
    }

    #[test]
    fn only_the_owner_removes_and_only_its_own() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("pid");
        let mut copy = PidFile::acquire(&path).unwrap();
        copy.owner += 1;
        drop(copy);
        assert!(path.exists(), "a forked copy removed it");
        let lock = PidFile::acquire(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        drop(lock);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
    }

    #[test]
    fn only_regular_files() {
        let scratch = tempfile::tempdir().unwrap();
        let check = |name: &str, errno| {
            let path = scratch.path().join(name);
            match PidFile::acquire(&path).unwrap_err() {
                LockError::System(error) => assert_eq!(error.errno, errno, "{name}"),
                LockError::Held { .. } => panic!("{name} is not locked"),
            }
        };
        symlink("target", scratch.path().join("link")).unwrap();
        nix::unistd::mkfifo(&scratch.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        check("link", Errno::ELOOP);
        fs::write(scratch.path().join("precious"), "kept").unwrap();
        fs::hard_link(scratch.path().join("precious"), scratch.path().join("hard")).unwrap();
        check("fifo", Errno::EINVAL);
        check("hard", Errno::EMLINK);
        assert_eq!(fs::read_to_string(scratch.path().join("precious")).unwrap(), "kept");
        check("no/file", Errno::ENOENT);
        assert!(!scratch.path().join("target").exists());
    }
}
