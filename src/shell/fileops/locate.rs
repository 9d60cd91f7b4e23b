//! From the paths of an operation to descriptors of the directories that hold its two names.
//!
//! The administrator wrote the first part of each path: the watch path, or the fixed part of `dst_re`.
//! That part may lead through symbolic links that root or the daemon's user made. Behind it no link is
//! followed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::attributes;
use super::dir_cache::{DirCache, Side};
use super::entry::Entry;
use super::failure::{Failure, PathRef};
use super::private::{NEW, PrivateDir};
use super::sweep::SweptDirs;
use crate::config::Rule;
use crate::engine::message::TrustedPath;
use crate::sys::Errno;
use crate::sys::dir::{hold_beneath, hold_child};
use crate::sys::file::{self, Existing};
use crate::sys::resolve::hold_trusted_links;
use crate::sys::stat::stat;

/// How often another process may make, or remove, a missing directory just before the daemon does.
const TRIES: usize = 16;

/// Where the source goes, and the directories that were made for it.
#[derive(Debug)]
pub struct Destination {
    /// The name that the source gets.
    pub entry: Entry,
    /// The directories that were made on the way, outermost first.
    made: Vec<Entry>,
}

impl Destination {
    /// Removes the directories that were made for it, as far as they are empty.
    pub fn remove_made(&self) {
        for entry in self.made.iter().rev() {
            let _ = file::remove_dir(entry.dir(), &entry.name);
        }
    }

    /// Whether the directory has been removed, as by another operation that had made it and failed.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        stat(self.entry.dir()).is_ok_and(|found| found.links == 0)
    }
}

/// The trusted directory of a path, the way from there to the directory that holds the name, and the
/// name. The engine makes sure that a path ends in a name.
fn split(path: &TrustedPath) -> (&[u8], &[u8], CString) {
    let slash = directory(path).len();
    let name = c_name(&path.path[slash + 1..]);
    let trusted = path.trusted.min(slash);
    let beneath = &path.path[trusted..slash];
    let base = if trusted == 0 { b"/".as_slice() } else { &path.path[..trusted] };
    (base, beneath.strip_prefix(b"/").unwrap_or(beneath), name)
}

/// The path without the slash and the name at its end.
fn directory(path: &TrustedPath) -> &[u8] {
    let slash = path.path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
    &path.path[..slash]
}

/// Opens the directory that the source is in.
///
/// # Errors
///
/// As `open(2)`.
pub fn source(path: &TrustedPath, swept: &SweptDirs, cache: &mut DirCache) -> Result<Entry, Failure> {
    let (base, beneath, name) = split(path);
    let dir = cached(Side::Source, path, (base, beneath), cache, |dir| swept.sweep(dir))
        .map_err(|errno| Failure::new("open", &path.path, errno))?;
    Ok(Entry { dir, name })
}

/// Opens the directory of a path, on the way `(base, beneath)`, unless the cache has it. `opened` is
/// called with a directory that was not in the cache.
fn cached(
    side: Side,
    path: &TrustedPath,
    (base, beneath): (&[u8], &[u8]),
    cache: &mut DirCache,
    opened: impl FnOnce(BorrowedFd<'_>),
) -> Result<Rc<OwnedFd>, Errno> {
    let path = directory(path);
    if let Some(dir) = cache.get(side, path, base.len()) {
        return Ok(dir);
    }
    let dir = Rc::new(hold(base, beneath)?);
    opened(dir.as_fd());
    cache.keep(side, path, base.len(), &dir);
    Ok(dir)
}

fn hold(base: &[u8], beneath: &[u8]) -> Result<OwnedFd, Errno> {
    let base = hold_trusted_links(base)?;
    if beneath.is_empty() { Ok(base) } else { hold_beneath(base.as_fd(), beneath) }
}

/// Opens the directory that the destination will be in, and makes it if the rule says so.
///
/// # Errors
///
/// As `open(2)` and `mkdir(2)`.
pub fn destination(
    path: &TrustedPath,
    rule: &Rule,
    swept: &SweptDirs,
    cache: &mut DirCache,
) -> Result<Destination, Failure> {
    let (base, beneath, name) = split(path);
    match cached(Side::Destination, path, (base, beneath), cache, |dir| swept.sweep(dir)) {
        Err(Errno::ENOENT) if rule.auto_create => {}
        Err(Errno::ENOENT) => {
            let reason = "there is no such directory (auto_create = yes makes it)";
            let shown: &[u8] = if directory(path).is_empty() { b"/" } else { directory(path) };
            return Err(Failure::refused("open", shown, reason));
        }
        outcome => {
            let dir = outcome.map_err(|errno| Failure::new("open", &path.path, errno))?;
            return Ok(Destination { entry: Entry { dir, name }, made: Vec::new() });
        }
    }
    let maker = Maker { path: PathRef::from(&path.path), rule, swept };
    for _ in 0..TRIES {
        match maker.make(base, beneath) {
            // Another process has made, or removed, one of the directories.
            Err(failure) if failure.is(Errno::EEXIST) || failure.is(Errno::ENOENT) => {}
            outcome => {
                let (dir, made) = outcome?;
                return Ok(Destination { entry: Entry { dir: Rc::new(dir), name }, made });
            }
        }
    }
    Err(Failure::new("mkdir", &path.path, Errno::EAGAIN))
}

/// Makes missing directories.
struct Maker<'a> {
    /// Of the destination, for failures.
    path: PathRef<'a>,
    rule: &'a Rule,
    swept: &'a SweptDirs,
}

impl Maker<'_> {
    fn make(&self, base: &[u8], beneath: &[u8]) -> Result<(OwnedFd, Vec<Entry>), Failure> {
        let failed = |errno| Failure::new("open", self.path, errno);
        let mut wanted: Vec<&[u8]> = names(beneath);
        // Directories of the trusted part may be missing too.
        let mut base = base;
        let mut at = loop {
            match hold_trusted_links(base) {
                Err(Errno::ENOENT) if base != b"/" => {
                    let slash = base.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
                    wanted.insert(0, &base[slash + 1..]);
                    base = if slash == 0 { b"/" } else { &base[..slash] };
                }
                outcome => break outcome.map_err(failed)?,
            }
        };
        wanted.retain(|name| !name.is_empty());
        for (index, name) in wanted.iter().enumerate() {
            match hold_child(at.as_fd(), &c_name(name)) {
                Err(Errno::ENOENT) => return self.make_chain(at, &wanted[index..]),
                outcome => at = outcome.map_err(failed)?,
            }
        }
        Ok((at, Vec::new()))
    }

    /// Makes directories in each other in a private directory, complete with owner and mode, and then
    /// renames the first of them to its name in `parent`.
    fn make_chain(&self, parent: OwnedFd, names: &[&[u8]]) -> Result<(OwnedFd, Vec<Entry>), Failure> {
        let failed = |errno| Failure::new("mkdir", self.path, errno);
        let mut made: Vec<Entry> = Vec::new();
        self.swept.sweep(parent.as_fd());
        let private = PrivateDir::make_inheriting(parent.as_fd(), self.path)?;
        let mut at = self.make_one(private.dir(), NEW)?;
        for name in &names[1..] {
            let name = c_name(name);
            let next = self.make_one(at.as_fd(), &name)?;
            made.push(Entry { dir: Rc::new(std::mem::replace(&mut at, next)), name });
        }
        let first = c_name(names[0]);
        file::rename(private.dir(), NEW, parent.as_fd(), &first, Existing::Keep)
            .or_else(|errno| match errno {
                // rename(2) replaces nothing by a directory but an empty directory.
                Errno::EINVAL | Errno::ENOSYS => {
                    file::rename(private.dir(), NEW, parent.as_fd(), &first, Existing::Replace)
                }
                errno => Err(errno),
            })
            .map_err(failed)?;
        drop(private);
        made.insert(0, Entry { dir: Rc::new(parent), name: first });
        Ok((at, made))
    }

    fn make_one(&self, parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
        let failed = |op| move |errno| Failure::new(op, self.path, errno);
        file::make_dir(parent, name, 0o777).map_err(failed("mkdir"))?;
        let dir = hold_child(parent, name).map_err(failed("open"))?;
        let found = stat(dir.as_fd()).map_err(failed("stat"))?;
        attributes::set(self.rule, dir.as_fd(), &found, self.path)?;
        Ok(dir)
    }
}

fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect()
}

/// Names come from the kernel or the configuration and hold no NUL.
fn c_name(name: &[u8]) -> CString {
    CString::new(name).unwrap_or_default()
}
