//! Looks at files before their tasks run.
//!
//! The loop never waits for a filesystem. Most looks need none: a file of which an event has just told is in
//! the kernel's memory, and the kernel says so without asking anything else. Where it cannot, a thread of its
//! own asks the filesystem. If that never answers, for which another user's FUSE program is enough, the engine
//! gives the look up, and the thread stays until the filesystem goes.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::children::start_error;
use crate::engine::TaskId;
use crate::engine::message::{Facts, FileKind, Inspect, StartError};
use crate::sys::eventfd::EventFd;
use crate::sys::kind::{kind_in_cache, kind_of};
use crate::sys::stat::Kind;
use crate::sys::{Errno, errno_of};

/// Looks that wait for filesystems at once. With so many filesystems that do not answer, the looks that have
/// to wait fail; the others do not notice.
const THREADS_MAX: usize = 64;

/// Enough for a thread that makes one system call.
const STACK_SIZE: usize = 64 * 1024;

/// Looks that threads make.
#[derive(Debug)]
pub struct Looks {
    answers: Arc<Answers>,
    threads: usize,
    /// The kernel or a sandbox does not know how to look without the filesystem.
    never_in_cache: bool,
}

#[derive(Debug)]
struct Answers {
    given: Mutex<Vec<(TaskId, Facts)>>,
    event: EventFd,
}

/// What comes of a look.
#[derive(Debug)]
pub enum Looked {
    /// The facts.
    Now(Facts),
    /// A thread asks for them.
    Later,
    /// There is no thread for it.
    Failed(StartError),
}

impl Looks {
    /// None yet.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        let answers = Answers { given: Mutex::default(), event: EventFd::new()? };
        Ok(Self { answers: Arc::new(answers), threads: 0, never_in_cache: false })
    }

    /// Looks at a file.
    pub fn look(&mut self, inspect: &Inspect) -> Looked {
        // No file has a path with a NUL.
        let Ok(path) = CString::new(inspect.path.as_slice()) else {
            return Looked::Now(facts(Err(Errno::EINVAL)));
        };
        if !inspect.quiet && !self.never_in_cache {
            match kind_in_cache(&path, inspect.follow) {
                Err(Errno::EAGAIN) => {}
                Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => self.never_in_cache = true,
                kind => return Looked::Now(facts(kind)),
            }
        }
        let (task, follow) = (inspect.task, inspect.follow);
        match self.start_thread(move |answers| answers.give(task, facts(kind_of(&path, follow)))) {
            Ok(()) => Looked::Later,
            Err(errno) => Looked::Failed(start_error("start a thread that looks at the file", errno)),
        }
    }

    fn start_thread(&mut self, look: impl FnOnce(&Answers) + Send + 'static) -> Result<(), Errno> {
        if self.threads >= THREADS_MAX {
            return Err(Errno::EAGAIN);
        }
        let answers = Arc::clone(&self.answers);
        let builder = thread::Builder::new().name("look".to_owned()).stack_size(STACK_SIZE);
        builder.spawn(move || look(&answers)).map_err(|error| errno_of(&error))?;
        self.threads += 1;
        Ok(())
    }

    /// The looks that threads have made since the last call.
    pub fn made(&mut self) -> Vec<(TaskId, Facts)> {
        self.answers.event.clear();
        let made = std::mem::take(&mut *self.answers.given.lock().unwrap_or_else(PoisonError::into_inner));
        self.threads -= made.len();
        made
    }
}

impl AsFd for Looks {
    /// Readable when a thread has made a look.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answers.event.as_fd()
    }
}

impl Answers {
    fn give(&self, task: TaskId, facts: Facts) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).push((task, facts));
        self.event.notify();
    }
}

fn facts(kind: Result<Kind, Errno>) -> Facts {
    let kind = match kind {
        Ok(kind) => file_kind(kind),
        // What the daemon may not look at, a command of the daemon's user cannot open either.
        Err(_) => FileKind::Unknown,
    };
    Facts { kind }
}

/// The kind of file in the engine's words.
#[must_use]
pub fn file_kind(kind: Kind) -> FileKind {
    match kind {
        Kind::File | Kind::Directory | Kind::Symlink => FileKind::Plain,
        Kind::Fifo => FileKind::Fifo,
        Kind::Other => FileKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::epoll::Interest;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn inspect(path: &Path, quiet: bool) -> Inspect {
        let path = path.as_os_str().as_bytes().to_vec();
        Inspect { task: TaskId::for_tests(), path, follow: true, quiet }
    }

    /// The answer of a thread.
    fn answer(looks: &mut Looks) -> Facts {
        let mut reactor = crate::shell::reactor::Reactor::new().unwrap();
        reactor.add(&*looks, crate::shell::reactor::Source::Looks, Interest::READ).unwrap();
        reactor.fetch(None, &mut Vec::new()).unwrap();
        let made = looks.made();
        assert_eq!(made.len(), 1);
        made[0].1
    }

    #[test]
    fn a_look_that_must_not_open_the_file_is_a_threads() {
        let scratch = tempfile::tempdir().unwrap();
        let fifo = scratch.path().join("fifo");
        let dir = std::fs::File::open(scratch.path()).unwrap();
        crate::sys::file::make_fifo(dir.as_fd(), c"fifo").unwrap();
        let mut looks = Looks::new().unwrap();
        for path in [&fifo, &scratch.path().join("none")] {
            let kind = if *path == fifo { FileKind::Fifo } else { FileKind::Unknown };
            assert!(matches!(looks.look(&inspect(path, true)), Looked::Later));
            assert_eq!(answer(&mut looks), Facts { kind });
            match looks.look(&inspect(path, false)) {
                Looked::Now(facts) => assert_eq!(facts, Facts { kind }),
                // A kernel before 5.12.
                Looked::Later => assert_eq!(answer(&mut looks), Facts { kind }),
                Looked::Failed(error) => panic!("{error:?}"),
            }
        }
        looks.threads = THREADS_MAX;
        assert!(matches!(looks.look(&inspect(&fifo, true)), Looked::Failed(error) if error.temporary));
    }
}
