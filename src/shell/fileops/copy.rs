//! Copying one file, link or FIFO, or a tree. The copy is complete, with its attributes and on the disk,
//! when this returns; it is made in a private directory.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use super::attributes::{self, NotKept, Original};
use super::control::Control;
use super::data::{self, Copied};
use super::entry::EntryRef;
use super::failure::{Failure, PathRef};
use super::walk::{Chain, DirEntry, TreeTotals, Walk, survey};
use crate::config::Rule;
use crate::sys::dir::{hold_beneath, open_child};
use crate::sys::lease::{OpenForWriting, open_for_writing};
use crate::sys::origin::Origin;
use crate::sys::resolve::{Purpose, within};
use crate::sys::stat::{FileId, Kind, Stat, stat, stat_at};
use crate::sys::{Errno, file};

/// How often a file is copied that changes while it is being copied.
const TRIES: usize = 3;

/// How many bytes of paths are remembered of files with several names: those of some 200,000 usual
/// files. Beyond that, a further name becomes a file of its own.
const LINKED_SIZE_MAX: usize = 16 << 20;

/// What a remembered file takes beside its path.
const LINKED_SIZE: usize = 64;

/// One copy operation.
pub struct Copy<'a> {
    rule: &'a Rule,
    op: &'static str,
    control: &'a Control,
    /// What could not be kept.
    pub not_kept: NotKept,
    /// Files, directories and other things that were made.
    pub entries: u64,
    /// The source is removed afterwards, so no process may have a file of it open for writing.
    is_move: bool,
    /// Of the mount that the source was opened by.
    origin: Origin,
    /// Files of which further names are expected: how many, and the path of the copy below its top.
    linked: HashMap<FileId, (u64, Vec<u8>)>,
    linked_size: usize,
}

impl<'a> Copy<'a> {
    /// Nothing is copied yet.
    #[must_use]
    pub fn new(rule: &'a Rule, op: &'static str, is_move: bool, control: &'a Control) -> Self {
        Self {
            rule,
            op,
            control,
            not_kept: NotKept::new(),
            entries: 0,
            is_move,
            origin: Origin::UNKNOWN,
            linked: HashMap::new(),
            linked_size: 0,
        }
    }

    /// Copies what has this name, and waits until it is on the disk. Returns what it was when it was
    /// copied.
    ///
    /// # Errors
    ///
    /// What the kernel says of reading and writing; refuses sockets and devices.
    pub fn copy(&mut self, from: EntryRef<'_>, to: EntryRef<'_>, path: PathRef<'_>) -> Result<Stat, Failure> {
        let EntryRef { dir, name } = from;
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let failed_copy = |op| move |errno| Failure::new(op, path, errno).of_copy();
        let found = stat_at(dir, name).map_err(failed("stat"))?;
        match found.kind {
            Kind::Directory => {
                let top = open_child(dir, name).map_err(failed("open"))?;
                // Asked of what is open: the name may be a mount point.
                self.origin = Origin::of(top.as_fd()).unwrap_or(Origin::UNKNOWN);
                self.tree(&top, to, path)?;
            }
            Kind::File => {
                let open = file::open(dir, name).map_err(failed("open"))?;
                self.origin = Origin::of(open.as_fd()).unwrap_or(Origin::UNKNOWN);
                self.control.expect(found.size);
                let (copy, found) = self.file(&open, to, path)?;
                file::sync(copy.as_fd()).map_err(failed_copy("fsync"))?;
                return Ok(found);
            }
            kind => {
                self.origin = Origin::of(dir).unwrap_or(Origin::UNKNOWN);
                self.special(from, kind, to, path)?;
            }
        }
        Ok(found)
    }

    /// Copies an open regular file. Returns the copy, and what the original was.
    fn file(
        &mut self,
        from: &OwnedFd,
        to: EntryRef<'_>,
        path: PathRef<'_>,
    ) -> Result<(OwnedFd, Stat), Failure> {
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let failed_copy = |op| move |errno| Failure::new(op, path, errno).of_copy();
        for _ in 0..TRIES {
            let found = stat(from.as_fd()).map_err(failed("stat"))?;
            if found.kind != Kind::File {
                return Err(self.replaced(path));
            }
            attributes::check_links(self.rule, &found, self.op, path)?;
            let copy = file::create(to.dir, to.name).map_err(failed_copy("create"))?;
            let before = self.control.progress().0;
            let is_whole = match data::copy(from.as_fd(), copy.as_fd(), found.size, self.control) {
                Ok(Copied::Whole) => true,
                Ok(Copied::Longer) => false,
                Ok(Copied::Aborted) => return Err(Failure::aborted(self.op, path)),
                Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG | Errno::EROFS)) => {
                    return Err(failed_copy("write")(errno));
                }
                Err(errno) => return Err(failed("copy")(errno)),
            };
            let now = stat(from.as_fd()).map_err(failed("stat"))?;
            if is_whole && is_unchanged(&found, &now) {
                let original = Original { open: Some(from.as_fd()), found: &found, origin: self.origin };
                attributes::give(self.rule, original, copy.as_fd(), path, &mut self.not_kept)?;
                attributes::give_times(copy.as_fd(), &found, path, &mut self.not_kept)?;
                self.entries += 1;
                return Ok((copy, found));
            }
            self.control.fall_back(before);
            file::remove(to.dir, to.name).map_err(failed_copy("delete"))?;
        }
        Err(Failure::refused(
            self.op,
            path,
            "it changes while it is being copied (a longer delay would help), or tells a wrong size",
        ))
    }

    /// Copies a symbolic link or a FIFO.
    fn special(
        &mut self,
        from: EntryRef<'_>,
        kind: Kind,
        to: EntryRef<'_>,
        path: PathRef<'_>,
    ) -> Result<(), Failure> {
        let EntryRef { dir, name } = from;
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let failed_copy = |op| move |errno| Failure::new(op, path, errno).of_copy();
        let held = within(dir, name, Purpose::Hold).map_err(failed("open"))?;
        let found = stat(held.as_fd()).map_err(failed("stat"))?;
        if found.kind != kind {
            return Err(self.replaced(path));
        }
        attributes::check_links(self.rule, &found, self.op, path)?;
        match kind {
            Kind::Symlink => {
                let target = file::read_symlink(held.as_fd(), c"").map_err(failed("readlink"))?;
                let target = CString::new(target).unwrap_or_default();
                file::make_symlink(&target, to.dir, to.name).map_err(failed_copy("symlink"))?;
            }
            Kind::Fifo => file::make_fifo(to.dir, to.name).map_err(failed_copy("mkfifo"))?,
            _ => return Err(Failure::refused(self.op, path, "it is a socket or a device")),
        }
        let copy = file::hold(to.dir, to.name).map_err(failed_copy("open"))?;
        let original = Original { open: None, found: &found, origin: self.origin };
        attributes::give(self.rule, original, copy.as_fd(), path, &mut self.not_kept)?;
        if file::set_times(to.dir, to.name, found.atime_ns, found.mtime_ns).is_err() {
            self.not_kept.insert("times");
        }
        self.entries += 1;
        Ok(())
    }

    fn replaced(&self, path: PathRef<'_>) -> Failure {
        Failure::refused(self.op, path, "it was replaced meanwhile")
    }

    /// Copies a directory with all in it.
    fn tree(&mut self, top: &OwnedFd, to: EntryRef<'_>, path: PathRef<'_>) -> Result<(), Failure> {
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let failed_copy = |op| move |errno| Failure::new(op, path, errno).of_copy();
        let walk = || top.try_clone().map_err(|_| Failure::new("open", path, Errno::EMFILE));
        let totals = self.survey(Walk::new(walk()?, self.op, path, self.control)?)?;
        self.control.expect(totals.bytes);
        file::make_dir(to.dir, to.name, 0o700).map_err(failed_copy("mkdir"))?;
        let copy = open_child(to.dir, to.name).map_err(failed("open"))?;
        let avoid = stat(copy.as_fd()).map_err(failed("stat"))?.id;
        let again = open_child(top.as_fd(), c".").map_err(failed("open"))?;
        let mut tree = CopiedTree {
            walk: Walk::new(again, self.op, path, self.control)?,
            made: Chain::new(open_child(copy.as_fd(), c".").map_err(failed("open"))?)
                .map_err(failed("stat"))?,
            top: copy,
            avoid,
            path_len: path.to_vec().len(),
        };
        while self.step(&mut tree)? {}
        file::sync_filesystem(tree.top.as_fd()).map_err(failed_copy("syncfs"))
    }

    /// Whether everything in the tree can be copied, and how much there is.
    fn survey(&self, walk: Walk<'_>) -> Result<TreeTotals, Failure> {
        survey(walk, |entry, dir, path| {
            let found = match stat_at(dir, &entry.name) {
                Err(Errno::ENOENT) => return Ok(None),
                outcome => outcome.map_err(|errno| Failure::new("stat", path, errno))?,
            };
            if found.kind == Kind::Other {
                return Err(Failure::refused(self.op, path, "it is a socket or a device"));
            }
            attributes::check_links(self.rule, &found, self.op, path)?;
            if self.is_move && found.kind == Kind::File {
                check_not_written(EntryRef { dir, name: &entry.name }, self.op, path)?;
            }
            Ok(Some(found))
        })
    }

    /// Copies one entry, or completes a directory. `false` at the end of the tree.
    fn step(&mut self, tree: &mut CopiedTree<'_>) -> Result<bool, Failure> {
        if let Some(entry) = tree.walk.next_entry()? {
            match self.entry(tree, &entry) {
                // An entry that was removed after it was listed is not copied.
                Err(failure) if failure.is(Errno::ENOENT) && !tree.has(&entry) => {}
                outcome => outcome?,
            }
            return Ok(true);
        }
        let path = PathRef::from(tree.walk.dir_path());
        let found = stat(tree.walk.dir()).map_err(|errno| Failure::new("stat", path, errno))?;
        let original = Original { open: Some(tree.walk.dir()), found: &found, origin: self.origin };
        attributes::give(self.rule, original, tree.made.last(), path, &mut self.not_kept)?;
        attributes::give_times(tree.made.last(), &found, path, &mut self.not_kept)?;
        self.entries += 1;
        if tree.walk.ascend()?.is_none() {
            return Ok(false);
        }
        tree.made.pop().map_err(|errno| Failure::new("open", tree.walk.dir_path(), errno))
    }

    fn entry(&mut self, tree: &mut CopiedTree<'_>, entry: &DirEntry) -> Result<(), Failure> {
        if entry.kind == Kind::Directory {
            return self.directory(tree, entry);
        }
        let path = tree.walk.path_of(&entry.name);
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let from = EntryRef { dir: tree.walk.dir(), name: &entry.name };
        let to = EntryRef { dir: tree.made.last(), name: &entry.name };
        if entry.kind != Kind::File {
            return self.special(from, entry.kind, to, path);
        }
        let open = within(from.dir, from.name, Purpose::Read).map_err(failed("open"))?;
        let found = stat(open.as_fd()).map_err(failed("stat"))?;
        if found.links > 1 && self.link(tree, &found, to)? {
            return Ok(());
        }
        let (_, found) = self.file(&open, to, path)?;
        if found.links > 1 {
            self.remember(&found, path.to_vec().get(tree.path_len + 1..).unwrap_or_default());
        }
        Ok(())
    }

    /// Goes into a directory, and makes its copy.
    fn directory(&mut self, tree: &mut CopiedTree<'_>, entry: &DirEntry) -> Result<(), Failure> {
        tree.walk.descend(&entry.name)?;
        let path = PathRef::from(tree.walk.dir_path());
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let failed_copy = |op| move |errno| Failure::new(op, path, errno).of_copy();
        if tree.walk.dir_id() == Some(tree.avoid) {
            return Err(Failure::refused(self.op, path, "the destination is inside of the source"));
        }
        let dir = tree.made.last();
        file::make_dir(dir, &entry.name, 0o700).map_err(failed_copy("mkdir"))?;
        let made = open_child(dir, &entry.name).map_err(failed("open"))?;
        tree.made.push(made).map_err(failed("stat"))
    }

    /// Links a file to a copy that was made of it under another name. `false` if there is none.
    fn link(&mut self, tree: &CopiedTree<'_>, found: &Stat, to: EntryRef<'_>) -> Result<bool, Failure> {
        let Some((more, path)) = self.linked.get_mut(&found.id) else { return Ok(false) };
        let split = path.iter().rposition(|&byte| byte == b'/');
        let (dir, name) =
            split.map_or((b"".as_slice(), path.as_slice()), |at| (&path[..at], &path[at + 1..]));
        let name = CString::new(name).unwrap_or_default();
        let linked = hold_beneath(tree.top.as_fd(), dir)
            .and_then(|dir| file::link(dir.as_fd(), &name, to.dir, to.name));
        match linked {
            // Too many links, or a filesystem without: the name gets a copy of its own.
            Err(Errno::EMLINK | Errno::EPERM | Errno::EOPNOTSUPP) => {
                self.not_kept.insert("hard links");
                return Ok(false);
            }
            outcome => outcome.map_err(|errno| Failure::new("link", path.as_slice(), errno))?,
        }
        *more -= 1;
        if *more == 0 {
            self.linked.remove(&found.id);
        }
        self.control.advance(found.size);
        self.entries += 1;
        Ok(true)
    }

    fn remember(&mut self, found: &Stat, path: &[u8]) {
        let size = LINKED_SIZE + path.len();
        if self.linked_size + size <= LINKED_SIZE_MAX {
            self.linked_size += size;
            self.linked.entry(found.id).or_insert_with(|| (found.links - 1, path.to_vec()));
        } else {
            self.not_kept.insert("hard links");
        }
    }
}

/// A tree that is being copied: a walk through the source, and the directories of the copy.
struct CopiedTree<'a> {
    walk: Walk<'a>,
    made: Chain,
    /// The copy's first directory.
    top: OwnedFd,
    /// Its identity: a tree must not be copied into itself.
    avoid: FileId,
    /// The length of the source's path; what follows it is relative to the source.
    path_len: usize,
}

impl CopiedTree<'_> {
    fn has(&self, entry: &DirEntry) -> bool {
        stat_at(self.walk.dir(), &entry.name).is_ok()
    }
}

/// Whether a file is still what it was. A change of the data changes ctime too, which unlike mtime no
/// process can set (`inode(7)`).
#[must_use]
pub fn is_unchanged(was: &Stat, now: &Stat) -> bool {
    (was.id, was.size, was.mtime_ns, was.ctime_ns) == (now.id, now.size, now.mtime_ns, now.ctime_ns)
}

/// Whether no process has a file open for writing, as far as its filesystem can tell.
///
/// # Errors
///
/// Refuses a file to which a process may still write.
pub fn check_not_written(from: EntryRef<'_>, op: &'static str, path: PathRef<'_>) -> Result<(), Failure> {
    if open_for_writing(from.dir, from.name) == Ok(OpenForWriting::Yes) {
        let reason = "a process is writing to it, and on another filesystem that would be lost";
        return Err(Failure::refused(op, path, reason));
    }
    Ok(())
}
