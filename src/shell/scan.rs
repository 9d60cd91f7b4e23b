//! Carries out [`Effect::Scan`](crate::engine::Effect::Scan): watches directories and lists them.
//!
//! The directory that is watched is the one that is listed, however fast another process renames: it is
//! opened beneath its parent and without following links, watched through that descriptor and listed
//! through the same. The parent is known by its watch: asking for a watch on an inode that
//! has one gives the same number again (`inotify_add_watch(2)`).
//!
//! Where only subdirectories matter, a directory is watched by its name in the parent, and not even
//! opened when its link count says that it has none: that takes half as long. Another process may rename
//! in between, but the parent is watched: an event says so before the look is over, and then the engine
//! looks again.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::engine::message::{Entry, EntryKind, Item, List, Scan, ScanError, Seen};
use crate::sys::dir::{self, FsType};
use crate::sys::inotify::Inotify;
use crate::sys::lease::{OpenForWriting, open_for_writing};
use crate::sys::limits::Limit;
use crate::sys::resolve::{hold_trusted_links, refused_link};
use crate::sys::stat::{self, Kind, Stat};
use crate::sys::{Errno, Error};
use crate::types::Wd;

/// Directories that stay open until the work is done: as many chains of directories can be followed to their ends,
/// side by side, without looking up the way from the watch path to each directory again.
const KEPT_MAX: usize = 32;

/// One `getdents64(2)` fills so much.
const LIST_BUFFER_SIZE: usize = 32 * 1024;

/// Where directories are watched: the kernel, or a host that only counts them. Each directory has one
/// watch, whatever its names; [`Inotify`] says what each call does and how it fails.
#[allow(missing_docs, reason = "each is the method of Inotify of that name")]
#[allow(clippy::missing_errors_doc, reason = "each fails as the method of Inotify of that name")]
pub trait Watches {
    fn identify(&self, dir: BorrowedFd<'_>) -> Result<Wd, Errno>;
    fn enter_and_watch(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno>;
    fn set_mask(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno>;
    /// `parent` is the working directory.
    fn watch_by_name(&self, parent: BorrowedFd<'_>, name: &CStr, mask: u32) -> Result<Wd, Errno>;
    fn unwatch(&self, wd: Wd) -> Result<(), Errno>;
}

impl Watches for Inotify {
    fn identify(&self, dir: BorrowedFd<'_>) -> Result<Wd, Errno> {
        Inotify::identify(self, dir)
    }

    fn enter_and_watch(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno> {
        Inotify::enter_and_watch(self, dir, mask)
    }

    fn set_mask(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno> {
        Inotify::set_mask(self, dir, mask)
    }

    fn watch_by_name(&self, _: BorrowedFd<'_>, name: &CStr, mask: u32) -> Result<Wd, Errno> {
        Inotify::watch_by_name(self, name, mask)
    }

    fn unwatch(&self, wd: Wd) -> Result<(), Errno> {
        Inotify::unwatch(self, wd)
    }
}

/// Watches and lists directories.
#[derive(Debug)]
pub struct Scanner {
    buffer: Vec<u8>,
    /// By device: whether a directory's link count tells of its subdirectories.
    counts_links: HashMap<u64, bool>,
    /// What was visited last, oldest first: likely parents of what is visited next.
    kept: VecDeque<Kept>,
}

/// A directory that was watched.
#[derive(Debug)]
struct Kept {
    path: Vec<u8>,
    wd: Wd,
    fd: OwnedFd,
}

impl Default for Scanner {
    fn default() -> Self {
        let buffer = vec![0; LIST_BUFFER_SIZE];
        Self { buffer, counts_links: HashMap::new(), kept: VecDeque::new() }
    }
}

impl Scanner {
    /// Watches and lists directories, some of which may be the working directory afterwards. When this
    /// returns, each process that was changing the name of one of them has queued its events.
    pub fn scan(&mut self, watches: &dyn Watches, scan: &Scan) -> Vec<Result<Seen, ScanError>> {
        let parent = match self.parent(watches, scan) {
            Ok(parent) => parent,
            Err(error) => return scan.items.iter().map(|_| Err(error.clone())).collect(),
        };
        let fd = parent.as_ref().map(AsFd::as_fd);
        // Whether the parent is the working directory.
        let mut inside = false;
        let mut look = |item: &Item| {
            let watched = fd.filter(|_| scan.expect.is_some() && item.is_plain());
            inside = watched.is_some_and(|parent| inside || dir::enter(parent).is_ok());
            match watched {
                Some(parent) if inside => self.look_by_name(watches, &scan.base, parent, item),
                _ => self.look(watches, &scan.base, fd, item),
            }
        };
        let results = scan.items.iter().map(&mut look).collect();
        if let Some(parent) = parent {
            dir::await_changes(parent.as_fd());
            if let Some(wd) = scan.expect {
                self.keep(scan.base.clone(), wd, parent);
            }
        }
        results
    }

    /// Closes the directories that were kept open for the next scan: an open directory cannot be unmounted, and
    /// its watch outlives it.
    pub fn rest(&mut self) {
        self.kept.clear();
    }

    fn keep(&mut self, path: Vec<u8>, wd: Wd, fd: OwnedFd) {
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept { path, wd, fd });
    }

    /// Opens the parent of a scan's items: the first step, done once for all of them.
    fn parent(&mut self, watches: &dyn Watches, scan: &Scan) -> Result<Option<OwnedFd>, ScanError> {
        if scan.items.iter().all(|item| item.follow) && scan.expect.is_none() {
            return Ok(None);
        }
        let is_parent = |kept: &Kept| Some(kept.wd) == scan.expect && kept.path == scan.base;
        if let Some(kept) = self.kept.iter().rposition(is_parent).and_then(|index| self.kept.remove(index)) {
            return self.identified(watches, scan, kept.fd);
        }
        let lost = |error| match error {
            // It was there when it was watched.
            ScanError::NotFound | ScanError::NotDirectory | ScanError::Untrusted { .. }
                if scan.expect.is_some() =>
            {
                ScanError::Stale(None)
            }
            error => error,
        };
        let trusted = &scan.base[..scan.trusted];
        let top = hold_trusted_links(trusted).map_err(|errno| lost(failed_to_follow(trusted, errno)))?;
        let rest = scan.base[scan.trusted..].strip_prefix(b"/").unwrap_or(&scan.base[scan.trusted..]);
        let parent = if rest.is_empty() { Ok(top) } else { dir::hold_beneath(top.as_fd(), rest) };
        let parent = parent.map_err(|errno| lost(failed("open", &scan.base, errno)))?;
        self.identified(watches, scan, parent)
    }

    /// Whether this is the directory that is meant.
    fn identified(
        &self,
        watches: &dyn Watches,
        scan: &Scan,
        parent: OwnedFd,
    ) -> Result<Option<OwnedFd>, ScanError> {
        let Some(expect) = scan.expect else { return Ok(Some(parent)) };
        let wd = watches.identify(parent.as_fd()).map_err(|errno| failed("watch", &scan.base, errno))?;
        if wd == expect { Ok(Some(parent)) } else { Err(ScanError::Stale(Some(wd))) }
    }

    /// Watches and lists one directory. If that fails, it is not watched.
    fn look(
        &mut self,
        watches: &dyn Watches,
        base: &[u8],
        parent: Option<BorrowedFd<'_>>,
        item: &Item,
    ) -> Result<Seen, ScanError> {
        let path = || [base, b"/", &item.name].concat();
        let held = hold(base, parent, item)?;
        let fd = held.as_fd();
        let watched = if item.replace {
            watches.set_mask(fd, item.mask)
        } else {
            watches.enter_and_watch(fd, item.mask)
        };
        let wd = watched.map_err(|errno| failed("watch", &path(), errno))?;
        let entries = self.list(fd, item).map_err(|errno| {
            if !item.replace {
                // The engine will not know of this watch; EINVAL when the directory is gone already.
                let _ = watches.unwatch(wd);
            }
            failed("list", &path(), errno)
        })?;
        let remote = if item.follow { dir::fs_type(fd).ok().and_then(FsType::remote) } else { None };
        self.keep(path(), wd, held);
        Ok(Seen { wd, entries, remote })
    }

    /// Watches a subdirectory of a watched directory, which is the working directory, and lists its
    /// subdirectories.
    fn look_by_name(
        &mut self,
        watches: &dyn Watches,
        base: &[u8],
        parent: BorrowedFd<'_>,
        item: &Item,
    ) -> Result<Seen, ScanError> {
        let path = || [base, b"/", &item.name].concat();
        let name = c_path(&item.name);
        let watched = watches.watch_by_name(parent, &name, item.mask);
        let wd = watched.map_err(|errno| failed("watch", &path(), errno))?;
        let (entries, held) = self.list_by_name(parent, &name, item).map_err(|errno| match errno {
            // It is not there any more: the engine knows whose watch this is.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => ScanError::Stale(Some(wd)),
            errno => {
                let _ = watches.unwatch(wd);
                failed("list", &path(), errno)
            }
        })?;
        if let Some(held) = held {
            self.keep(path(), wd, held);
        }
        Ok(Seen { wd, entries, remote: None })
    }

    /// The entries, and the directory if it was opened.
    fn list_by_name(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        item: &Item,
    ) -> Result<(Vec<Entry>, Option<OwnedFd>), Errno> {
        if item.list == List::Nothing || self.is_leaf(&stat::stat_at(parent, name)?, parent)? {
            return Ok((Vec::new(), None));
        }
        let held = dir::hold_child(parent, name)?;
        Ok((self.list_entries(held.as_fd(), item)?, Some(held)))
    }

    fn list(&mut self, held: BorrowedFd<'_>, item: &Item) -> Result<Vec<Entry>, Errno> {
        match item.list {
            List::Nothing => Ok(Vec::new()),
            List::Named => Ok(item.names.iter().filter_map(|name| named(held, name)).collect()),
            List::Directories if self.is_leaf(&stat::stat(held)?, held)? => Ok(Vec::new()),
            List::Directories | List::Everything | List::Writers | List::Changes { .. } => {
                self.list_entries(held, item)
            }
        }
    }

    fn list_entries(&mut self, held: BorrowedFd<'_>, item: &Item) -> Result<Vec<Entry>, Errno> {
        let mut entries = Vec::new();
        let wanted = item.list;
        let dir = dir::open_child(held, c".")?;
        let dir = dir.as_fd();
        dir::list(dir, &mut self.buffer, |name, kind| {
            if wanted == List::Directories && kind != Kind::Directory {
                return;
            }
            let changed = match wanted {
                List::Changes { since_ns } => changed(dir, name, since_ns),
                _ => true,
            };
            let look_for_writers = matches!(wanted, List::Writers | List::Changes { .. });
            let kind = match kind {
                Kind::Directory => EntryKind::Directory,
                Kind::File if changed && look_for_writers => file_kind(dir, name),
                Kind::File => EntryKind::File,
                Kind::Symlink | Kind::Fifo | Kind::Other => EntryKind::Other,
            };
            entries.push(Entry { name: name.into(), kind, changed });
        })?;
        Ok(entries)
    }

    /// Whether the link count says that there are no directories in it: a directory has one link
    /// from its parent, one from itself, and one from each of its subdirectories, where the
    /// filesystem keeps it so. `near` is it, or its parent.
    fn is_leaf(&mut self, stat: &Stat, near: BorrowedFd<'_>) -> Result<bool, Errno> {
        if stat.kind != Kind::Directory || stat.links != 2 {
            return Ok(false);
        }
        let device = stat.id.dev;
        if let Some(counts) = self.counts_links.get(&device) {
            return Ok(*counts);
        }
        if stat::stat(near)?.id.dev != device {
            // A mount point below its parent.
            return Ok(false);
        }
        let counts = dir::fs_type(near)?.counts_links();
        self.counts_links.insert(device, counts);
        Ok(counts)
    }
}

/// Takes hold of a directory without reading from it.
fn hold(base: &[u8], parent: Option<BorrowedFd<'_>>, item: &Item) -> Result<OwnedFd, ScanError> {
    let path = [base, b"/", &item.name].concat();
    match parent {
        Some(parent) if !item.follow => {
            dir::hold_child(parent, &c_path(&item.name)).map_err(|errno| failed("open", &path, errno))
        }
        _ => hold_trusted_links(&path).map_err(|errno| failed_to_follow(&path, errno)),
    }
}

fn failed_to_follow(path: &[u8], errno: Errno) -> ScanError {
    match refused_link(path).filter(|_| errno == Errno::ELOOP) {
        Some(link) => ScanError::Untrusted { why: link.why(), link: link.path },
        None => failed("open", path, errno),
    }
}

/// A regular file, and whether a process holds it open for writing.
fn named(dir: BorrowedFd<'_>, name: &[u8]) -> Option<Entry> {
    let kind = match open_for_writing(dir, &c_path(name)) {
        Ok(OpenForWriting::Gone | OpenForWriting::NotAFile) => return None,
        outcome => kind_of(outcome),
    };
    Some(Entry { name: name.into(), kind, changed: true })
}

fn file_kind(dir: BorrowedFd<'_>, name: &[u8]) -> EntryKind {
    kind_of(open_for_writing(dir, &c_path(name)))
}

fn kind_of(outcome: Result<OpenForWriting, Errno>) -> EntryKind {
    match outcome {
        Ok(OpenForWriting::Yes | OpenForWriting::Gone) => EntryKind::OpenFile,
        Ok(OpenForWriting::Unknown { stamp }) => EntryKind::Unsure { stamp },
        // It can be asked again later.
        Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => EntryKind::OpenFile,
        Ok(OpenForWriting::No | OpenForWriting::NotAFile) | Err(_) => EntryKind::File,
    }
}

/// What cannot be asked has vanished, and a listing that comes later shows it so.
fn changed(dir: BorrowedFd<'_>, name: &[u8], since_ns: i64) -> bool {
    stat::stat_at(dir, &c_path(name)).is_ok_and(|stat| stat.ctime_ns >= since_ns)
}

fn failed(op: &'static str, path: &[u8], errno: Errno) -> ScanError {
    match errno {
        // RESOLVE_BENEATH says EXDEV when the directory was renamed out of there on the way to it,
        // and EAGAIN when something else was renamed (openat2(2)).
        Errno::ENOENT | Errno::EXDEV | Errno::EAGAIN => ScanError::NotFound,
        Errno::ENOTDIR | Errno::ELOOP => ScanError::NotDirectory,
        Errno::EACCES | Errno::EPERM => ScanError::Denied,
        Errno::ENOSPC if op == "watch" => ScanError::NoSpace { limit: Limit::Watches.read().ok() },
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => {
            ScanError::Exhausted(Error::new(op, path, errno).to_string())
        }
        _ => ScanError::Other(Error::new(op, path, errno).to_string()),
    }
}

/// Names come from the kernel and hold no NUL.
fn c_path(path: &[u8]) -> CString {
    CString::new(path).unwrap_or_default()
}
