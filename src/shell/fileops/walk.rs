//! Walks through a directory tree by descriptors. It follows no symbolic link and crosses no mount point,
//! even if other processes change the tree meanwhile. Memory grows only with the tree's depth.
//!
//! The way down is a [`Chain`] of open directories. Only the last few stay open. A higher one is opened
//! again through `..`, and must be the same inode as before, or the walk ends.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::control::Control;
use super::failure::{Failure, PathRef};
use crate::sys::dir::{self, LIST_BUFFER_SIZE};
use crate::sys::resolve::{Purpose, within};
use crate::sys::stat::{FileId, Kind, Stat, stat};
use crate::sys::{Errno, file};

/// How many directories of one chain are open at once. Two chains for each worker thread stay far below
/// the usual limit of 1,024 descriptors.
const OPEN_MAX: usize = 32;

/// Directories, each in the one before it.
#[derive(Debug)]
pub struct Chain {
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    id: FileId,
    fd: Option<OwnedFd>,
    /// Where its listing goes on; noted when it is closed.
    position: i64,
}

impl Chain {
    /// Begins with one directory, open for listing.
    ///
    /// # Errors
    ///
    /// As `stat(2)`.
    pub fn new(top: OwnedFd) -> Result<Self, Errno> {
        let mut chain = Self { links: Vec::new() };
        chain.push(top)?;
        Ok(chain)
    }

    /// The last directory.
    #[must_use]
    pub fn last(&self) -> BorrowedFd<'_> {
        let last = self.links.last().and_then(|link| link.fd.as_ref());
        last.expect("the last directory of a chain is open").as_fd()
    }

    /// The identity of the last directory.
    #[must_use]
    pub fn last_id(&self) -> Option<FileId> {
        self.links.last().map(|link| link.id)
    }

    /// How many there are.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.links.len()
    }

    /// Adds a directory in the last one, open for listing.
    ///
    /// # Errors
    ///
    /// As `stat(2)`.
    pub fn push(&mut self, fd: OwnedFd) -> Result<(), Errno> {
        let id = stat(fd.as_fd())?.id;
        self.links.push(Link { id, fd: Some(fd), position: 0 });
        if let Some(above) = self.links.len().checked_sub(OPEN_MAX + 1) {
            let link = &mut self.links[above];
            if let Some(fd) = link.fd.take() {
                link.position = file::position(fd.as_fd())?;
            }
        }
        Ok(())
    }

    /// Leaves the last directory. `false`: it was the first, and stays.
    ///
    /// # Errors
    ///
    /// EXDEV when the tree was rearranged, so that the way back leads elsewhere.
    pub fn pop(&mut self) -> Result<bool, Errno> {
        let [.., above, last] = self.links.as_mut_slice() else { return Ok(false) };
        if above.fd.is_none() {
            let last = last.fd.as_ref().ok_or(Errno::EBADF)?;
            let again = dir::open_child(last.as_fd(), c"..")?;
            if stat(again.as_fd())?.id != above.id {
                return Err(Errno::EXDEV);
            }
            file::set_position(again.as_fd(), above.position)?;
            above.fd = Some(again);
        }
        self.links.pop();
        Ok(true)
    }
}

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name in [`Walk::dir`].
    pub name: CString,
    /// What it was when it was listed.
    pub kind: Kind,
}

/// The names that were listed and are still to come, of all directories on the way down. They are packed,
/// the next one last: the name, one byte for its kind, two for its length.
#[derive(Debug, Default)]
struct Pending(Vec<u8>);

/// The kinds, each at the number that stands for it.
const KINDS: [Kind; 5] = [Kind::Directory, Kind::File, Kind::Symlink, Kind::Fifo, Kind::Other];

impl Pending {
    fn push(&mut self, name: &[u8], kind: Kind) {
        // A name has at most 255 bytes on Linux. Of a longer one no process could open the file.
        let Ok(len) = u16::try_from(name.len()) else { return };
        let kind = KINDS.iter().position(|one| *one == kind).unwrap_or_default();
        self.0.extend_from_slice(name);
        self.0.push(u8::try_from(kind).unwrap_or_default());
        self.0.extend_from_slice(&len.to_ne_bytes());
    }

    fn pop(&mut self) -> Option<DirEntry> {
        let (rest, tail) = self.0.split_last_chunk::<3>()?;
        let start = rest.len().checked_sub(usize::from(u16::from_ne_bytes([tail[1], tail[2]])))?;
        let kind = *KINDS.get(usize::from(tail[0]))?;
        // Names come from the kernel and hold no NUL.
        let name = CString::new(&rest[start..]).unwrap_or_default();
        self.0.truncate(start);
        Some(DirEntry { name, kind })
    }
}

/// Beyond so many bytes of pending names, directories are listed in small pieces, so that memory does not
/// grow by a whole buffer with every level.
const PENDING_MAX: usize = 64 * 1024;

/// A FUSE filesystem can show a tree without an end. More levels than this, which no filesystem on a disk
/// is used with, are refused.
const LEVELS_MAX: usize = 100_000;

/// A small piece of a listing; 280 bytes suffice for any name (`dir::list`).
const SMALL_BUFFER_SIZE: usize = 1024;

/// A walk through a tree: [`Walk::next_entry`] until there is nothing more in a directory, then
/// [`Walk::ascend`]; the caller decides where to [`Walk::descend`].
pub struct Walk<'a> {
    op: &'static str,
    control: &'a Control,
    chain: Chain,
    levels: Vec<WalkLevel>,
    levels_max: usize,
    pending: Pending,
    buffer: Vec<u8>,
    /// The path of the directory that the walk is in.
    path: Vec<u8>,
}

/// One directory on the way down.
#[derive(Clone, Copy, Debug)]
struct WalkLevel {
    /// Where the path of the directory above ends.
    path_end: usize,
    /// Where its own pending names begin.
    pending_start: usize,
}

impl<'a> Walk<'a> {
    /// Begins in `top`, which is open for listing. `op` and `path` are for failures.
    ///
    /// # Errors
    ///
    /// As `stat(2)`.
    pub fn new(
        top: OwnedFd,
        op: &'static str,
        path: PathRef<'_>,
        control: &'a Control,
    ) -> Result<Self, Failure> {
        let chain = Chain::new(top).map_err(|errno| Failure::new(op, path, errno))?;
        let levels = vec![WalkLevel { path_end: 0, pending_start: 0 }];
        let buffer = vec![0; LIST_BUFFER_SIZE];
        let (pending, path) = (Pending::default(), path.to_vec());
        Ok(Self { op, control, chain, levels, levels_max: LEVELS_MAX, pending, buffer, path })
    }

    /// The directory that the walk is in.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.chain.last()
    }

    /// How deep the walk is; 1 in the first directory.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.chain.depth()
    }

    /// The identity of the directory that the walk is in.
    #[must_use]
    pub fn dir_id(&self) -> Option<FileId> {
        self.chain.last_id()
    }

    /// The path of the directory that the walk is in.
    #[must_use]
    pub fn dir_path(&self) -> &[u8] {
        &self.path
    }

    /// The path of a name in it.
    #[must_use]
    pub fn path_of<'p>(&'p self, name: &'p CStr) -> PathRef<'p> {
        PathRef::in_dir(&self.path, name)
    }

    /// The next name in this directory, in no order; `None` when there is none left.
    ///
    /// # Errors
    ///
    /// As `getdents(2)`; [`super::failure::Why::Aborted`].
    pub fn next_entry(&mut self) -> Result<Option<DirEntry>, Failure> {
        loop {
            self.control.check(self.op, &self.path)?;
            let Self { chain, levels, pending, buffer, .. } = self;
            if levels.last().is_some_and(|level| pending.0.len() > level.pending_start) {
                return Ok(pending.pop());
            }
            let size = if pending.0.len() > PENDING_MAX { SMALL_BUFFER_SIZE } else { LIST_BUFFER_SIZE };
            let outcome = dir::list_some(chain.last(), &mut buffer[..size], |name, kind| {
                pending.push(name, kind);
            });
            // A piece may hold nothing but `.` and `..`.
            match outcome {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(errno) => return Err(self.failed("list", errno)),
            }
        }
    }

    /// Goes into a directory.
    ///
    /// # Errors
    ///
    /// ELOOP or ENOTDIR when it is none any more, EXDEV when it is a mount point, and what else
    /// `open(2)` says; refuses a tree of too many levels.
    pub fn descend(&mut self, name: &CStr) -> Result<(), Failure> {
        if self.levels.len() >= self.levels_max {
            let end = self.levels.get(1).map_or(self.path.len(), |level| level.path_end);
            return Err(Failure::refused(
                self.op,
                &self.path[..end],
                "it has too many levels of directories",
            ));
        }
        let opened = within(self.dir(), name, Purpose::List).and_then(|fd| self.chain.push(fd));
        match opened {
            Ok(()) => {}
            Err(Errno::EXDEV) => {
                let reason = "something is mounted there, and mount points are not crossed";
                return Err(Failure::refused(self.op, self.path_of(name), reason));
            }
            Err(errno) => return Err(Failure::new("open", self.path_of(name), errno)),
        }
        self.levels.push(WalkLevel { path_end: self.path.len(), pending_start: self.pending.0.len() });
        self.path.push(b'/');
        self.path.extend_from_slice(name.to_bytes());
        Ok(())
    }

    /// Leaves this directory for the one it is in, and says its name there. `None`: it was the first.
    ///
    /// # Errors
    ///
    /// Refuses to go on when the tree was rearranged meanwhile.
    pub fn ascend(&mut self) -> Result<Option<CString>, Failure> {
        match self.chain.pop() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(Errno::EXDEV) => {
                let reason = "the tree was rearranged meanwhile";
                return Err(Failure::refused(self.op, &self.path, reason));
            }
            Err(errno) => return Err(self.failed("open", errno)),
        }
        let Some(level) = self.levels.pop() else { return Ok(None) };
        // The caller may have left the directory before its end.
        self.pending.0.truncate(level.pending_start);
        let name = self.path.get(level.path_end + 1..).unwrap_or_default();
        let name = CString::new(name).unwrap_or_default();
        self.path.truncate(level.path_end);
        Ok(Some(name))
    }

    /// Lists this directory from its beginning again.
    ///
    /// # Errors
    ///
    /// As `lseek(2)`.
    pub fn rewind(&mut self) -> Result<(), Failure> {
        file::set_position(self.dir(), 0).map_err(|errno| self.failed("list", errno))
    }

    fn failed(&self, op: &'static str, errno: Errno) -> Failure {
        Failure::new(op, &self.path, errno)
    }
}

/// What a tree holds, as far as an operation needs to know beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeTotals {
    /// Everything below the first directory.
    pub entries: u64,
    /// Bytes of its regular files.
    pub bytes: u64,
}

/// Goes through a whole tree and calls `check` for everything in it except directories, so that an
/// operation that cannot succeed ends before it has changed anything.
///
/// # Errors
///
/// What `check` says; mount points; what cannot be listed.
pub fn survey(
    mut walk: Walk<'_>,
    mut check: impl FnMut(&DirEntry, BorrowedFd<'_>, PathRef<'_>) -> Result<Option<Stat>, Failure>,
) -> Result<TreeTotals, Failure> {
    let mut totals = TreeTotals::default();
    loop {
        while let Some(entry) = walk.next_entry()? {
            totals.entries += 1;
            if entry.kind == Kind::Directory {
                walk.descend(&entry.name)?;
                continue;
            }
            let path = walk.path_of(&entry.name);
            if let Some(found) = check(&entry, walk.dir(), path)?
                && found.kind == Kind::File
            {
                // The sum can overflow: a sparse file may claim any size.
                totals.bytes = totals.bytes.saturating_add(found.size);
            }
        }
        if walk.ascend()?.is_none() {
            return Ok(totals);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    fn names(top: &Path) -> Result<BTreeSet<String>, Failure> {
        let control = Control::default();
        let mut found = BTreeSet::new();
        let mut walk = Walk::new(open(top), "walk", b"".into(), &control)?;
        loop {
            while let Some(entry) = walk.next_entry()? {
                found.insert(String::from_utf8(walk.path_of(&entry.name).to_vec()).unwrap());
                if entry.kind == Kind::Directory {
                    walk.descend(&entry.name)?;
                }
            }
            if walk.ascend()?.is_none() {
                return Ok(found);
            }
        }
    }

    #[test]
    fn everything_is_found_once() {
        let scratch = tempfile::tempdir().unwrap();
        let mut expected = BTreeSet::new();
        for a in 0..5 {
            expected.insert(format!("/{a}"));
            for b in 0..40 {
                expected.insert(format!("/{a}/{b}"));
                fs::create_dir_all(scratch.path().join(format!("{a}/{b}"))).unwrap();
                expected.insert(format!("/{a}/{b}/file"));
                fs::write(scratch.path().join(format!("{a}/{b}/file")), "").unwrap();
            }
        }
        assert_eq!(names(scratch.path()).unwrap(), expected);
    }

    #[test]
    fn a_deep_tree_takes_few_descriptors_and_finds_its_way_back() {
        let scratch = tempfile::tempdir().unwrap();
        let mut at = scratch.path().to_owned();
        let mut expected = 0;
        for level in 0..5 * OPEN_MAX {
            for sibling in 0..3 {
                fs::write(at.join(format!("f{sibling}")), "").unwrap();
            }
            fs::create_dir(at.join("before")).unwrap();
            at.push(format!("d{}", level % 10));
            fs::create_dir(&at).unwrap();
            expected += 5;
        }
        assert_eq!(names(scratch.path()).unwrap().len(), expected);
    }

    #[test]
    fn a_tree_without_an_end_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("d/d/d/d")).unwrap();
        let control = Control::default();
        let mut walk = Walk::new(open(scratch.path()), "copy", b"/t".into(), &control).unwrap();
        walk.levels_max = 3;
        walk.descend(c"d").unwrap();
        walk.descend(c"d").unwrap();
        let text = walk.descend(c"d").unwrap_err().to_string();
        assert_eq!(text, "copy \"/t\": it has too many levels of directories");
    }

    #[test]
    fn names_that_wait_take_little_memory_at_any_depth() {
        const DEPTH: usize = 40;
        let scratch = tempfile::tempdir().unwrap();
        let mut at = scratch.path().to_owned();
        for _ in 0..DEPTH {
            for number in 0..100 {
                fs::write(at.join(format!("{number:0100}")), "").unwrap();
            }
            at.push("d");
            fs::create_dir(&at).unwrap();
        }
        let control = Control::default();
        let mut walk = Walk::new(open(scratch.path()), "walk", b"".into(), &control).unwrap();
        // Down, with as much waiting in each directory as can be.
        for _ in 0..DEPTH {
            while walk.next_entry().unwrap().is_some_and(|entry| entry.kind != Kind::Directory) {}
            walk.rewind().unwrap();
            walk.next_entry().unwrap();
            walk.descend(c"d").unwrap();
        }
        let size = walk.pending.0.len();
        assert!(size < PENDING_MAX + LIST_BUFFER_SIZE + DEPTH * SMALL_BUFFER_SIZE, "{size} bytes");
    }

    #[test]
    fn a_tree_that_is_rearranged_above_ends_the_walk() {
        let scratch = tempfile::tempdir().unwrap();
        let deep = ["d"; OPEN_MAX + 2].join("/");
        fs::create_dir_all(scratch.path().join(&deep)).unwrap();
        fs::create_dir(scratch.path().join("elsewhere")).unwrap();
        let control = Control::default();
        let mut walk = Walk::new(open(scratch.path()), "walk", b"".into(), &control).unwrap();
        for _ in 0..OPEN_MAX + 2 {
            walk.descend(c"d").unwrap();
        }
        let moved = ["d"; 2].join("/");
        fs::rename(scratch.path().join(moved), scratch.path().join("elsewhere/e")).unwrap();
        let mut outcome = Ok(Some(CString::default()));
        while matches!(outcome, Ok(Some(_))) {
            outcome = walk.ascend();
        }
        let text = outcome.unwrap_err().to_string();
        assert!(text.ends_with("the tree was rearranged meanwhile"), "{text}");
    }

    #[test]
    fn a_survey_counts_and_refuses() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("d")).unwrap();
        fs::write(scratch.path().join("d/a"), "12345").unwrap();
        fs::write(scratch.path().join("b"), "1").unwrap();
        let control = Control::default();
        let walk = || Walk::new(open(scratch.path()), "walk", b"".into(), &control).unwrap();
        let totals =
            survey(walk(), |entry, dir, _| Ok(Some(crate::sys::stat::stat_at(dir, &entry.name).unwrap())));
        assert_eq!(totals, Ok(TreeTotals { entries: 3, bytes: 6 }));
        let refused = Failure::refused("walk", b"/d/a", "no");
        let outcome = survey(
            walk(),
            |_, _, path| if path.to_vec() == b"/d/a" { Err(refused.clone()) } else { Ok(None) },
        );
        assert_eq!(outcome, Err(refused.clone()));
        control.abort();
        assert!(survey(walk(), |_, _, _| Ok(None)).is_err());
    }
}
