//! Path lookups that no other user can redirect.
//!
//! A path that the administrator wrote may lead through symbolic links, if they belong to root or the
//! daemon's user and are in directories in which no other user can rename them: any other link may be another
//! user's. Below such a path no link is followed at all (`sys::dir::hold_beneath`), and within a tree no
//! mount point is crossed either ([`within`]).

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use super::file::{READ, hold, own_uid, read_symlink};
use super::stat::{Kind, Stat, stat};
use super::{Errno, retry};
use crate::quote::Quoted;

/// As many symbolic links as the kernel follows in one path (`path_resolution(7)`).
pub(super) const LINKS_MAX: usize = 40;

const HOLD: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The purpose of opening a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To get attributes, whatever its type.
    Hold,
    /// To read a file.
    Read,
    /// To list a directory.
    List,
}

impl Purpose {
    fn flags(self) -> OFlag {
        match self {
            Self::Hold => HOLD,
            Self::Read => READ,
            Self::List => READ | OFlag::O_DIRECTORY,
        }
    }
}

/// Opens the directory at an absolute path with `O_PATH`. Symbolic links in the path, the last component too,
/// are followed if root or the user of this process owns them.
///
/// # Errors
/// ELOOP for a link of another user, or for more than 40 links; ENOENT, ENOTDIR, EACCES and what
/// else `open(2)` says.
pub fn hold_trusted_links(path: &[u8]) -> Result<OwnedFd, Errno> {
    let whole = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let how = OpenHow::new().flags(HOLD | OFlag::O_DIRECTORY);
    let how = how.resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match retry(|| openat2(AT_FDCWD, whole.as_c_str(), how)) {
        Err(Errno::ELOOP | Errno::ENOSYS | Errno::EPERM | Errno::ENAMETOOLONG) => {}
        // With O_NOFOLLOW and O_DIRECTORY, ENOTDIR may mean a link as the last component.
        Err(Errno::ENOTDIR) => {}
        outcome => return outcome,
    }
    hold_by_components(path)
}

/// A symbolic link that is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedLink {
    /// Its path, by the way on which it was met.
    pub path: Vec<u8>,
    /// The user who owns it.
    pub owner: u32,
}

impl RefusedLink {
    /// Why it is not followed, in words.
    #[must_use]
    pub fn why(&self) -> String {
        if is_trusted(self.owner) {
            return "a symbolic link where other users can make links is not followed".to_owned();
        }
        format!("a symbolic link of user {} is not followed", self.owner)
    }
}

impl fmt::Display for RefusedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Quoted(&self.path), self.why())
    }
}

/// The link for which [`hold_trusted_links`] gives ELOOP, if no link was changed meanwhile.
#[must_use]
pub fn refused_link(path: &[u8]) -> Option<RefusedLink> {
    match walk(path) {
        Err(Stop::Link(link)) => Some(link),
        _ => None,
    }
}

/// Why a walk did not reach its end.
enum Stop {
    Errno(Errno),
    Link(RefusedLink),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

fn hold_by_components(path: &[u8]) -> Result<OwnedFd, Errno> {
    walk(path).map_err(|stop| match stop {
        Stop::Errno(errno) => errno,
        Stop::Link(_) => Errno::ELOOP,
    })
}

fn walk(path: &[u8]) -> Result<OwnedFd, Stop> {
    let mut at = root()?;
    let mut way = Vec::new();
    let mut rest = components(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let held = hold(at.as_fd(), &name)?;
        let found = stat(held.as_fd())?;
        match found.kind {
            Kind::Directory => {
                at = held;
                step(&mut way, name.as_bytes());
            }
            Kind::Symlink => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP.into());
                }
                if !is_trusted(found.uid) || !keeps_links(&stat(at.as_fd())?) {
                    step(&mut way, name.as_bytes());
                    return Err(Stop::Link(RefusedLink { path: way, owner: found.uid }));
                }
                let target = read_symlink(held.as_fd(), c"")?;
                if target.starts_with(b"/") {
                    at = root()?;
                    way.clear();
                }
                let mut onward = components(&target);
                onward.append(&mut rest);
                rest = onward;
            }
            Kind::File | Kind::Fifo | Kind::Other => return Err(Errno::ENOTDIR.into()),
        }
    }
    Ok(at)
}

/// Goes on to this name.
fn step(way: &mut Vec<u8>, name: &[u8]) {
    if name == b".." {
        way.truncate(way.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
    } else {
        way.push(b'/');
        way.extend_from_slice(name);
    }
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == own_uid()
}

/// Whether a symbolic link in this directory was put there by its owner: no other user may rename a link in
/// the directory or into it.
fn keeps_links(dir: &Stat) -> bool {
    const STICKY: u32 = 0o1000;
    let others = dir.mode & 0o002 != 0 || dir.mode & 0o020 != 0 && dir.gid != 0;
    is_trusted(dir.uid) && (!others || dir.mode & STICKY != 0)
}

pub(super) fn root() -> Result<OwnedFd, Errno> {
    retry(|| nix::fcntl::open(c"/", HOLD | OFlag::O_DIRECTORY, Mode::empty()))
}

pub(super) fn components(path: &[u8]) -> VecDeque<CString> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.map(|name| CString::new(name).unwrap_or_default()).collect()
}

/// Opens `name`, one component, in `dir`. No symbolic link is followed and no mount point crossed.
///
/// # Errors
/// ELOOP for a symbolic link, unless the purpose is [`Purpose::Hold`]; EXDEV for a mount point; ENOTDIR for a
/// file that is to be listed; and what else `open(2)` says.
pub fn within(dir: BorrowedFd<'_>, name: &CStr, purpose: Purpose) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(purpose.flags()).resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match retry(|| openat2(dir, name, how)) {
        Err(Errno::ENOSYS | Errno::EPERM) => within_by_mount(dir, name, purpose),
        outcome => outcome,
    }
}

/// As [`within`], for kernels and sandboxes without `openat2(2)`.
fn within_by_mount(dir: BorrowedFd<'_>, name: &CStr, purpose: Purpose) -> Result<OwnedFd, Errno> {
    // With O_PATH first: a mount point must not be opened for reading.
    let held = hold(dir, name)?;
    let same = match (mount_id(dir), mount_id(held.as_fd())) {
        (Some(one), Some(other)) => one == other,
        _ => stat(dir)?.id.dev == stat(held.as_fd())?.id.dev,
    };
    if !same {
        return Err(Errno::EXDEV);
    }
    if purpose == Purpose::Hold {
        return Ok(held);
    }
    let opened = retry(|| openat(dir, name, purpose.flags(), Mode::empty()))?;
    let is_same = stat(opened.as_fd())?.id == stat(held.as_fd())?.id;
    if is_same { Ok(opened) } else { Err(Errno::EAGAIN) }
}

/// The mount through which a descriptor was opened (`proc(5)`, `/proc/PID/fdinfo`).
pub(super) fn mount_id(fd: BorrowedFd<'_>) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{lchown, symlink};
    use std::path::Path;

    use super::*;
    use crate::sys::dir::identity;
    use crate::sys::user::is_root;

    fn bytes(path: &Path) -> &[u8] {
        path.as_os_str().as_encoded_bytes()
    }

    fn check(path: &Path, expected: Result<&Path, Errno>) {
        for hold in [hold_trusted_links, hold_by_components] {
            let found = hold(bytes(path)).map(|found| identity(found.as_fd()).unwrap());
            let expected = expected.map(|path| identity(File::open(path).unwrap().as_fd()).unwrap());
            assert_eq!(found, expected, "{}", path.display());
        }
    }

    #[test]
    fn only_links_of_root_and_of_the_own_user_are_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(scratch.path()).unwrap();
        fs::create_dir_all(base.join("real/sub")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("real", base.join("relative")).unwrap();
        symlink(base.join("real/sub"), base.join("absolute")).unwrap();
        symlink("../real", base.join("real/up")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        check(&base.join("real/sub"), Ok(&base.join("real/sub")));
        check(&base.join("relative/sub"), Ok(&base.join("real/sub")));
        check(&base.join("relative"), Ok(&base.join("real")));
        check(&base.join("absolute"), Ok(&base.join("real/sub")));
        check(&base.join("relative/up/up/sub/"), Ok(&base.join("real/sub")));
        check(&base.join("loop"), Err(Errno::ELOOP));
        check(&base.join("file"), Err(Errno::ENOTDIR));
        check(&base.join("none"), Err(Errno::ENOENT));
        if is_root() {
            lchown(base.join("relative"), Some(12_345), None).unwrap();
            check(&base.join("relative/sub"), Err(Errno::ELOOP));
            check(&base.join("relative"), Err(Errno::ELOOP));
            let found = refused_link(bytes(&base.join("real/up/../relative/sub")));
            let path = bytes(&base.join("relative")).to_vec();
            assert_eq!(found, Some(RefusedLink { path, owner: 12_345 }));
            assert_eq!(refused_link(bytes(&base.join("absolute"))), None);
        }
    }

    #[test]
    fn within_follows_no_link_and_leaves_no_mount() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("d")).unwrap();
        fs::write(scratch.path().join("f"), "").unwrap();
        symlink("d", scratch.path().join("l")).unwrap();
        let dir = File::open(scratch.path()).unwrap();
        let root = File::open("/").unwrap();
        for open in [within, within_by_mount] {
            open(dir.as_fd(), c"d", Purpose::List).unwrap();
            open(dir.as_fd(), c"f", Purpose::Read).unwrap();
            let link = open(dir.as_fd(), c"l", Purpose::Hold).unwrap();
            assert_eq!(stat(link.as_fd()).unwrap().kind, Kind::Symlink);
            assert_eq!(open(dir.as_fd(), c"l", Purpose::Read).unwrap_err(), Errno::ELOOP);
            assert!(open(dir.as_fd(), c"l", Purpose::List).is_err());
            assert_eq!(open(dir.as_fd(), c"f", Purpose::List).unwrap_err(), Errno::ENOTDIR);
            for purpose in [Purpose::Hold, Purpose::List] {
                assert_eq!(open(root.as_fd(), c"proc", purpose).unwrap_err(), Errno::EXDEV);
            }
        }
    }
}
