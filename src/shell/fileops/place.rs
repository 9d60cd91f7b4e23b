//! From the paths of an operation to descriptors of the directories that hold its two names.
//!
//! The first part of a path is the administrator's: the watch path, or the fixed part of `dst_re`. It
//! may go through symbolic links that root or the daemon's user made. Behind it none is followed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::attributes;
use super::failure::Failure;
use super::grips::{Grips, Side};
use super::private::{NEW, Private, Swept};
use crate::config::Rule;
use crate::engine::message::Place;
use crate::sys::Errno;
use crate::sys::dir::{hold_beneath, hold_child};
use crate::sys::file::{self, Existing};
use crate::sys::resolve::hold_trusted_links;
use crate::sys::stat::stat;

/// So often a missing directory may be made, or removed, by somebody else just then.
const TRIES: usize = 16;

/// A directory that is held, and a name in it.
#[derive(Debug)]
pub struct Spot {
    /// The directory.
    pub dir: Rc<OwnedFd>,
    /// The name.
    pub name: CString,
}

impl Spot {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Where something is to be put, and the directories that were made for it.
#[derive(Debug)]
pub struct Target {
    /// Where.
    pub spot: Spot,
    /// Made on the way, outermost first: what [`Target::undo`] removes.
    made: Vec<Spot>,
}

impl Target {
    /// Removes the directories that were made for it, as far as they are empty.
    pub fn undo(&self) {
        for spot in self.made.iter().rev() {
            let _ = file::remove_dir(spot.dir(), &spot.name);
        }
    }

    /// Whether the directory was removed by somebody: another operation that had made it and failed.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        stat(self.spot.dir()).is_ok_and(|found| found.links == 0)
    }
}

/// Directory and last component of a place. A path ends in a name: the engine has seen to that.
fn split(place: &Place) -> (&[u8], &[u8], CString) {
    let slash = directory(place).len();
    let name = CString::new(&place.path[slash + 1..]).unwrap_or_default();
    let trusted = place.trusted.min(slash);
    let beneath = &place.path[trusted..slash];
    let base = if trusted == 0 { b"/".as_slice() } else { &place.path[..trusted] };
    (base, beneath.strip_prefix(b"/").unwrap_or(beneath), name)
}

/// Holds the directory that the source is in.
///
/// # Errors
///
/// As `open(2)`.
pub fn source(place: &Place, grips: &mut Grips) -> Result<Spot, Failure> {
    let (base, beneath, name) = split(place);
    let dir = grip(Side::Source, place, (base, beneath), grips, |_| ())
        .map_err(|errno| Failure::new("open", &place.path, errno))?;
    Ok(Spot { dir, name })
}

/// Holds the directory of a place, on the way `(base, beneath)`, if it is not held already. `opened` is
/// told when it was not.
fn grip(
    side: Side,
    place: &Place,
    (base, beneath): (&[u8], &[u8]),
    grips: &mut Grips,
    opened: impl FnOnce(BorrowedFd<'_>),
) -> Result<Rc<OwnedFd>, Errno> {
    let path = directory(place);
    if let Some(dir) = grips.get(side, path, base.len()) {
        return Ok(dir);
    }
    let dir = Rc::new(hold(base, beneath)?);
    opened(dir.as_fd());
    grips.keep(side, path, base.len(), &dir);
    Ok(dir)
}

/// The path without the slash and the name at its end.
fn directory(place: &Place) -> &[u8] {
    let slash = place.path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
    &place.path[..slash]
}

fn hold(base: &[u8], beneath: &[u8]) -> Result<OwnedFd, Errno> {
    let base = hold_trusted_links(base)?;
    if beneath.is_empty() { Ok(base) } else { hold_beneath(base.as_fd(), beneath) }
}

/// Holds the directory that the destination is to be in, and makes it if the rule says so.
///
/// # Errors
///
/// As `open(2)` and `mkdir(2)`.
pub fn target(place: &Place, rule: &Rule, swept: &Swept, grips: &mut Grips) -> Result<Target, Failure> {
    let (base, beneath, name) = split(place);
    match grip(Side::Target, place, (base, beneath), grips, |dir| swept.sweep(dir)) {
        Err(Errno::ENOENT) if rule.auto_create => {}
        Err(Errno::ENOENT) => {
            let reason = "there is no such directory (auto_create = yes makes it)";
            let path = if directory(place).is_empty() { b"/" } else { directory(place) };
            return Err(Failure::refused("open", path, reason));
        }
        outcome => {
            let dir = outcome.map_err(|errno| Failure::new("open", &place.path, errno))?;
            return Ok(Target { spot: Spot { dir, name }, made: Vec::new() });
        }
    }
    let mut maker = Maker { place, rule, swept };
    for _ in 0..TRIES {
        match maker.make(base, beneath) {
            // Somebody else was faster, or tidied up.
            Err(failure) if failure.is(Errno::EEXIST) || failure.is(Errno::ENOENT) => {}
            outcome => {
                let (dir, made) = outcome?;
                return Ok(Target { spot: Spot { dir: Rc::new(dir), name }, made });
            }
        }
    }
    Err(Failure::new("mkdir", &place.path, Errno::EAGAIN))
}

/// Makes missing directories.
struct Maker<'a> {
    place: &'a Place,
    rule: &'a Rule,
    swept: &'a Swept,
}

impl Maker<'_> {
    fn make(&mut self, base: &[u8], beneath: &[u8]) -> Result<(OwnedFd, Vec<Spot>), Failure> {
        let failed = |errno| Failure::new("open", &self.place.path, errno);
        let mut wanted: Vec<&[u8]> = names(beneath);
        // The administrator's part may be missing too, from some component on.
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

    /// Makes directories in each other, complete with owner and mode, and then puts the first of them
    /// in place.
    fn make_chain(&self, parent: OwnedFd, names: &[&[u8]]) -> Result<(OwnedFd, Vec<Spot>), Failure> {
        let path = &self.place.path;
        let failed = |op| move |errno| Failure::new(op, path, errno);
        let mut made: Vec<Spot> = Vec::new();
        self.swept.sweep(parent.as_fd());
        let private = Private::make_inheriting(parent.as_fd(), path)?;
        let mut at = self.make_one(private.dir(), NEW)?;
        for name in &names[1..] {
            let name = c_name(name);
            let next = self.make_one(at.as_fd(), &name)?;
            made.push(Spot { dir: Rc::new(std::mem::replace(&mut at, next)), name });
        }
        let first = c_name(names[0]);
        file::rename(private.dir(), NEW, parent.as_fd(), &first, Existing::Keep)
            .or_else(|errno| match errno {
                // A directory never replaces anything but an empty one.
                Errno::EINVAL | Errno::ENOSYS => {
                    file::rename(private.dir(), NEW, parent.as_fd(), &first, Existing::Replace)
                }
                errno => Err(errno),
            })
            .map_err(failed("mkdir"))?;
        drop(private);
        made.insert(0, Spot { dir: Rc::new(parent), name: first });
        Ok((at, made))
    }

    fn make_one(&self, parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
        let path = &self.place.path;
        let failed = |op| move |errno| Failure::new(op, path, errno);
        file::make_dir(parent, name, 0o777).map_err(failed("mkdir"))?;
        let dir = hold_child(parent, name).map_err(failed("open"))?;
        let found = stat(dir.as_fd()).map_err(failed("stat"))?;
        attributes::set(self.rule, dir.as_fd(), &found, path)?;
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
