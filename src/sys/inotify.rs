//! The inotify instance. See `inotify(7)`.
//!
//! A watch that is set through a descriptor is on the directory that will be listed, whatever is renamed
//! meanwhile. A watch that is set by a name is on the directory that has the name in that moment.
//!
//! nix makes the instance and the watches. Reading is raw: `read_events` of nix allocates for every event and
//! has a buffer of 4 KiB. So is ending a watch: nix has no way from a number to its `WatchDescriptor`.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify as Kernel};
use nix::unistd::{chdir, read};

use super::{Errno, bytes_to_read, dir, proc_path, retry};
use crate::event::{EventKind, HEADER_SIZE, IN_ISDIR};
use crate::types::Wd;

const _: () = assert!(size_of::<libc::inotify_event>() == HEADER_SIZE);
const _: () = assert!(IN_ISDIR == libc::IN_ISDIR);
const _: () = assert!(EventKind::REQUESTABLE == libc::IN_ALL_EVENTS);
const _: () = {
    let bits = [
        (EventKind::Access, libc::IN_ACCESS),
        (EventKind::Modify, libc::IN_MODIFY),
        (EventKind::Attrib, libc::IN_ATTRIB),
        (EventKind::CloseWrite, libc::IN_CLOSE_WRITE),
        (EventKind::CloseNowrite, libc::IN_CLOSE_NOWRITE),
        (EventKind::Open, libc::IN_OPEN),
        (EventKind::MovedFrom, libc::IN_MOVED_FROM),
        (EventKind::MovedTo, libc::IN_MOVED_TO),
        (EventKind::Create, libc::IN_CREATE),
        (EventKind::Delete, libc::IN_DELETE),
        (EventKind::DeleteSelf, libc::IN_DELETE_SELF),
        (EventKind::MoveSelf, libc::IN_MOVE_SELF),
        (EventKind::Unmount, libc::IN_UNMOUNT),
        (EventKind::QOverflow, libc::IN_Q_OVERFLOW),
        (EventKind::Ignored, libc::IN_IGNORED),
    ];
    assert!(bits.len() == EventKind::ALL.len());
    let mut index = 0;
    while index < bits.len() {
        assert!(bits[index].0.bit() == bits[index].1);
        index += 1;
    }
};

/// Only directories, and no events for names that are already unlinked but still open.
const ALWAYS: u32 = libc::IN_ONLYDIR | libc::IN_EXCL_UNLINK;

/// One inotify instance, read without blocking.
#[derive(Debug)]
pub struct Inotify(Kernel);

impl Inotify {
    /// A new instance.
    ///
    /// # Errors
    /// EMFILE when `fs.inotify.max_user_instances` or the descriptors are used up, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        Kernel::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map(Self)
    }

    /// Watches an open directory for the events of `mask`, in addition to those it is watched for
    /// already: two names of one inode share one watch. `dir` may be an `O_PATH` descriptor.
    ///
    /// # Errors
    /// ENOSPC when `fs.inotify.max_user_watches` is reached, ENOMEM, EACCES without the right to
    /// read the directory, ENOTDIR, EINVAL for a mask without events.
    pub fn watch(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno> {
        self.watch_open(dir, with_events(mask)? | libc::IN_MASK_ADD)
    }

    /// As [`Inotify::watch`], but enters the directory for it, which spares the kernel a walk through
    /// `/proc`: watching 100,000 directories takes a third less. Only the thread that owns the
    /// working directory may do that, and it leaves the directory afterwards ([`super::dir::leave`]).
    ///
    /// # Errors
    /// As [`Inotify::watch`].
    pub fn enter_and_watch(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno> {
        match dir::enter(dir) {
            Ok(()) => self.add(c".", with_events(mask)? | libc::IN_MASK_ADD),
            // It may be read but not searched.
            Err(Errno::EACCES) => self.watch(dir, mask),
            Err(errno) => Err(errno),
        }
    }

    /// Watches a subdirectory of the working directory by its name; a symbolic link is not followed.
    /// Otherwise as [`Inotify::watch`]. Before and after the call the name may stand for another directory.
    ///
    /// # Errors
    /// As [`Inotify::watch`], and ENOENT. ENOTDIR for a symbolic link, too.
    pub fn watch_by_name(&self, name: &CStr, mask: u32) -> Result<Wd, Errno> {
        self.add(name, with_events(mask)? | libc::IN_MASK_ADD | libc::IN_DONT_FOLLOW)
    }

    /// As [`Inotify::watch`], but `mask` replaces the earlier mask of the inode.
    ///
    /// # Errors
    /// As [`Inotify::watch`].
    pub fn set_mask(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno> {
        self.watch_open(dir, with_events(mask)?)
    }

    /// The watch of an open directory. The kernel has no call that only asks: a directory without a watch
    /// gets one without events, which the caller must end.
    ///
    /// # Errors
    /// As [`Inotify::watch`].
    pub fn identify(&self, dir: BorrowedFd<'_>) -> Result<Wd, Errno> {
        self.watch_open(dir, libc::IN_MASK_ADD)
    }

    /// Ends a watch. Events that are queued still come, then IN_IGNORED.
    ///
    /// # Errors
    /// EINVAL when there is no such watch: the directory was deleted or unmounted meanwhile.
    pub fn unwatch(&self, wd: Wd) -> Result<(), Errno> {
        // SAFETY: inotify_rm_watch(2) takes no memory. Bionic alone declares the number unsigned.
        let outcome = unsafe { libc::inotify_rm_watch(self.as_fd().as_raw_fd(), wd.0) };
        Errno::result(outcome).map(drop)
    }

    /// Reads whole events, to be taken apart by [`crate::event::parse`]. Returns the bytes read, 0
    /// when there are none now.
    ///
    /// # Errors
    /// EINVAL when the buffer is too small for the next event (272 bytes always suffice).
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match retry(|| read(&self.0, buffer)) {
            Err(Errno::EAGAIN) => Ok(0),
            outcome => outcome,
        }
    }

    /// Bytes of events that are queued now.
    ///
    /// # Errors
    /// None that the kernel documents for a valid instance.
    pub fn queued(&self) -> Result<usize, Errno> {
        bytes_to_read(self.as_fd())
    }

    fn watch_open(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno> {
        match self.add(proc_path(dir).as_c_str(), mask) {
            // The directory is open and so it exists: /proc is not mounted.
            Err(Errno::ENOENT) => self.watch_by_cwd(dir, mask),
            outcome => outcome,
        }
    }

    /// For a system without `/proc`: enters the directory, and `/` afterwards. Only the thread that owns the
    /// working directory may call this.
    fn watch_by_cwd(&self, dir: BorrowedFd<'_>, mask: u32) -> Result<Wd, Errno> {
        dir::enter(dir)?;
        let outcome = self.add(c".", mask);
        retry(|| chdir(c"/"))?;
        outcome
    }

    fn add(&self, path: &CStr, mask: u32) -> Result<Wd, Errno> {
        // Flags that nix does not name, such as IN_MASK_ADD, are passed on as they are.
        let flags = AddWatchFlags::from_bits_retain(mask | ALWAYS);
        retry(|| self.0.add_watch(path, flags)).map(|wd| Wd(wd.as_raw()))
    }
}

/// EINVAL for a mask without events. The kernel gives that itself, except for a mask with IN_MASK_ADD.
fn with_events(mask: u32) -> Result<u32, Errno> {
    if mask & EventKind::REQUESTABLE == 0 { Err(Errno::EINVAL) } else { Ok(mask) }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;
    use crate::event::parse;

    const CREATE: u32 = EventKind::Create.bit();
    const DELETE: u32 = EventKind::Delete.bit();

    fn events(inotify: &Inotify) -> Vec<(Wd, u32, String)> {
        let mut buffer = [0; 4096];
        let queued = inotify.queued().unwrap();
        let size = inotify.read(&mut buffer).unwrap();
        assert_eq!(queued, size);
        parse(&buffer[..size])
            .map(|(event, _)| (event.wd, event.mask, String::from_utf8_lossy(event.name).into_owned()))
            .collect()
    }

    fn touch_and_remove(dir: &Path) {
        fs::write(dir.join("a"), b"").unwrap();
        fs::remove_file(dir.join("a")).unwrap();
    }

    #[test]
    fn masks_add_up_and_are_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = File::open(scratch.path()).unwrap();
        let inotify = Inotify::new().unwrap();
        assert_eq!(inotify.read(&mut [0; 512]), Ok(0));
        let wd = inotify.watch(dir.as_fd(), CREATE).unwrap();
        assert_eq!(inotify.watch(dir.as_fd(), DELETE), Ok(wd));
        touch_and_remove(scratch.path());
        assert_eq!(events(&inotify), [(wd, CREATE, "a".into()), (wd, DELETE, "a".into())]);
        assert_eq!(inotify.set_mask(dir.as_fd(), DELETE), Ok(wd));
        touch_and_remove(scratch.path());
        assert_eq!(events(&inotify), [(wd, DELETE, "a".into())]);
        inotify.unwatch(wd).unwrap();
        assert_eq!(events(&inotify), [(wd, libc::IN_IGNORED, String::new())]);
        assert_eq!(inotify.unwatch(wd), Err(Errno::EINVAL));
    }

    #[test]
    fn only_directories_and_only_for_events() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("file"), b"").unwrap();
        let file = File::open(scratch.path().join("file")).unwrap();
        let dir = File::open(scratch.path()).unwrap();
        let inotify = Inotify::new().unwrap();
        assert_eq!(inotify.watch(file.as_fd(), CREATE), Err(Errno::ENOTDIR));
        assert_eq!(inotify.watch(dir.as_fd(), 0), Err(Errno::EINVAL));
    }

    #[test]
    fn a_small_buffer_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = File::open(scratch.path()).unwrap();
        let inotify = Inotify::new().unwrap();
        inotify.watch(dir.as_fd(), CREATE).unwrap();
        fs::write(scratch.path().join("a"), b"").unwrap();
        assert_eq!(inotify.read(&mut [0; 8]), Err(Errno::EINVAL));
    }

    #[test]
    fn the_working_directory_serves_where_proc_does_not() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("sub")).unwrap();
        let sub = File::open(scratch.path().join("sub")).unwrap();
        let inotify = Inotify::new().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Gives this thread a working directory of its own (unshare(2)).
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
                let wd = inotify.watch_by_cwd(sub.as_fd(), CREATE | libc::IN_MASK_ADD).unwrap();
                assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
                assert_eq!(inotify.enter_and_watch(sub.as_fd(), CREATE), Ok(wd));
                assert_eq!(inotify.enter_and_watch(sub.as_fd(), 0), Err(Errno::EINVAL));
                super::super::dir::leave();
                assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
                assert_eq!(inotify.watch(sub.as_fd(), CREATE), Ok(wd));
            });
        });
    }
}
