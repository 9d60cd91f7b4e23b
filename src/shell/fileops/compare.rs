//! Compares what was copied with its copy.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use super::control::Control;
use super::copy::check_not_written;
use super::entry::EntryRef;
use super::failure::{Failure, PathRef};
use super::walk::{Chain, Walk};
use crate::sys::dir::open_child;
use crate::sys::resolve::{Purpose, within};
use crate::sys::stat::{Kind, Stat, stat, stat_at};
use crate::sys::{Errno, file, transfer};

/// How much of two files is compared at once.
const BUFFER_SIZE: usize = 64 * 1024;

/// How two trees, or two files, are compared.
#[derive(Clone, Copy)]
pub struct Comparison<'a> {
    /// The copy has the times of the source.
    pub times: bool,
    /// The bytes are compared too, not only kind, size and time.
    pub bytes: bool,
    /// What is done, in one word, for failures.
    pub op: &'static str,
    /// The path of the source, for failures.
    pub path: PathRef<'a>,
    /// Whether to stop.
    pub control: &'a Control,
}

impl Comparison<'_> {
    /// Whether everything in the tree `from` is in the tree `copy`, and no process writes to it. What the
    /// copy has beside that does not matter.
    ///
    /// # Errors
    ///
    /// A file to which a process writes; what cannot be read.
    pub fn trees(self, from: EntryRef<'_>, copy: EntryRef<'_>) -> Result<bool, Failure> {
        let failed = |errno| Failure::new("open", self.path, errno);
        let top = open_child(from.dir, from.name).map_err(failed)?;
        let mut walk = Walk::new(top, self.op, self.path, self.control)?;
        let Ok(top) = open_child(copy.dir, copy.name) else { return Ok(false) };
        let mut copies = Chain::new(top).map_err(failed)?;
        loop {
            while let Some(entry) = walk.next_entry()? {
                let name = &*entry.name;
                if entry.kind == Kind::Directory {
                    let Ok(copy) = open_child(copies.last(), name) else { return Ok(false) };
                    walk.descend(name)?;
                    copies.push(copy).map_err(|errno| Failure::new("open", walk.dir_path(), errno))?;
                    continue;
                }
                let from = EntryRef { dir: walk.dir(), name };
                let copy = EntryRef { dir: copies.last(), name };
                if !self.entries(from, copy, walk.path_of(name))? {
                    return Ok(false);
                }
                if entry.kind == Kind::File {
                    check_not_written(from, self.op, walk.path_of(name))?;
                }
            }
            if walk.ascend()?.is_none() {
                return Ok(true);
            }
            copies.pop().map_err(|errno| Failure::new("open", walk.dir_path(), errno))?;
        }
    }

    /// Whether one is equal to the other, neither being a directory.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn entries(self, from: EntryRef<'_>, copy: EntryRef<'_>, path: PathRef<'_>) -> Result<bool, Failure> {
        let (Ok(one), Ok(other)) = (stat_at(from.dir, from.name), stat_at(copy.dir, copy.name)) else {
            return Ok(false);
        };
        if !is_same(&one, &other, self.times) {
            return Ok(false);
        }
        match one.kind {
            Kind::File if self.bytes => {
                self.same_bytes(from, copy).map_err(|errno| Failure::new("read", path, errno))?
            }
            Kind::Symlink => {
                let target = |dir: BorrowedFd<'_>, name: &CStr| file::read_symlink(dir, name).ok();
                Ok(target(from.dir, from.name) == target(copy.dir, copy.name))
            }
            _ => Ok(true),
        }
    }

    /// Whether two regular files hold the same bytes. The inner error is that the operation was told to
    /// stop.
    fn same_bytes(self, from: EntryRef<'_>, copy: EntryRef<'_>) -> Result<Result<bool, Failure>, Errno> {
        let one = within(from.dir, from.name, Purpose::Read)?;
        let other = within(copy.dir, copy.name, Purpose::Read)?;
        if [&one, &other].into_iter().any(|fd| !stat(fd.as_fd()).is_ok_and(|found| found.kind == Kind::File))
        {
            return Ok(Ok(false));
        }
        let mut buffers = [vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]];
        let mut at = 0;
        loop {
            if let Err(failure) = self.control.check(self.op, self.path) {
                return Ok(Err(failure));
            }
            let [left, right] = &mut buffers;
            let size = transfer::read_at(one.as_fd(), left, at)?;
            let size_there = transfer::read_fully_at(other.as_fd(), &mut right[..size], at)?;
            if left[..size] != right[..size_there] {
                return Ok(Ok(false));
            }
            if size == 0 {
                return Ok(Ok(true));
            }
            at += size as u64;
        }
    }
}

/// The units to which filesystems round times down: FAT, those that store seconds, exFAT, UDF, NTFS and
/// SMB.
const GRAINS_NS: [i64; 5] = [2_000_000_000, 1_000_000_000, 10_000_000, 1_000, 100];

/// Whether the copy of an entry is still equal to its original, as far as kind, size and time tell.
fn is_same(original: &Stat, copy: &Stat, times: bool) -> bool {
    if original.kind != copy.kind {
        return false;
    }
    if !matches!(original.kind, Kind::File | Kind::Symlink) {
        return true;
    }
    original.size == copy.size && (!times || is_same_time(original.mtime_ns, copy.mtime_ns))
}

/// Whether a copy's time is the original's, as exactly as the copy's filesystem stores it.
fn is_same_time(original_ns: i64, copy_ns: i64) -> bool {
    let grain_ns = GRAINS_NS.into_iter().find(|grain| copy_ns % grain == 0).unwrap_or(1);
    (0..grain_ns).contains(&original_ns.saturating_sub(copy_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_as_exactly_as_they_are_kept() {
        let check = |original, copy, expected| assert_eq!(is_same_time(original, copy), expected);
        let original = 1_700_000_001_234_567_891;
        check(original, original, true);
        for rounded in [1_700_000_001_234_567_800, 1_700_000_001_230_000_000, 1_700_000_001_000_000_000] {
            check(original, rounded, true);
        }
        check(original, 1_700_000_000_000_000_000, true);
        check(original - 1, original, false);
        check(original + 1, original, false);
        check(original, 1_700_000_001_234_567_700, false);
        check(original, 1_700_000_001_220_000_000, false);
        check(original + 1_000_000_000, 1_700_000_001_000_000_000, false);
        check(original + 1_000_000_000, 1_700_000_000_000_000_000, false);
    }
}
