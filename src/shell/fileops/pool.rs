//! The threads that carry out file operations, and their queue.
//!
//! The loop submits operations and is woken by an eventfd when some have ended. The engine bounds how many
//! are queued. They are begun in their order, but never one while another works on a path that is inside of
//! its own, or around it. Threads are started when there is something to do for the first time, and wait for
//! more without waking up.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::control::Control;
use super::grips::{Grips, Turn};
use super::{Ground, carry_out};
use crate::engine::JobId;
use crate::engine::message::{Operation, OperationEnd};
use crate::sys::eventfd::EventFd;
use crate::sys::{Errno, Error};

/// What a thread's stack may hold: nothing here recurses, buffers are on the heap.
const STACK_SIZE: usize = 128 * 1024;

/// The threads, as the loop sees them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    /// Of operations that have been submitted and not been taken back or ended.
    controls: HashMap<JobId, Arc<Control>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    ended: Mutex<Vec<(Box<Operation>, OperationEnd)>>,
    ended_event: EventFd,
    ground: Ground,
}

#[derive(Debug)]
struct Waiting {
    operation: Box<Operation>,
    control: Arc<Control>,
    number: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The number of the newest.
    newest: u64,
    /// How many operations on directories have ended.
    trees: u64,
    /// The paths of what is being carried out, by operation.
    running: Vec<(JobId, [Vec<u8>; 2])>,
    idle: usize,
    threads: usize,
    threads_max: usize,
}

/// Source and destination.
type Paths<'a> = [&'a [u8]; 2];

fn paths(operation: &Operation) -> Paths<'_> {
    let target = operation.target.as_ref().unwrap_or(&operation.source);
    [&operation.source.path, &target.path]
}

/// Whether one works within what the other works on: a tree and what is in it, or two that have the
/// same place.
fn overlap(one: Paths<'_>, other: Paths<'_>) -> bool {
    let within = |path: &[u8], tree: &[u8]| {
        path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    one.iter().any(|one| other.iter().any(|other| within(one, other) || within(other, one)))
}

impl Queue {
    /// Takes the first operation that overlaps with none that runs or that waits before it.
    fn pop(&mut self) -> Option<Waiting> {
        let running = || self.running.iter().map(|(_, [source, target])| [&source[..], &target[..]]);
        let is_free = |index: &usize| {
            let own = paths(&self.waiting[*index].operation);
            let before = self.waiting.iter().take(*index).map(|one| paths(&one.operation));
            !running().chain(before).any(|other| overlap(own, other))
        };
        let index = (0..self.waiting.len()).find(is_free)?;
        let next = self.waiting.remove(index)?;
        self.running.push((next.operation.id, paths(&next.operation).map(<[u8]>::to_vec)));
        Some(next)
    }
}

impl Pool {
    /// No thread yet.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        let shared = Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            ended: Mutex::default(),
            ended_event: EventFd::new()?,
            ground: Ground::default(),
        };
        Ok(Self { shared: Arc::new(shared), controls: HashMap::new() })
    }

    /// Queues an operation; at most `threads_max` threads work at once.
    pub fn submit(&mut self, operation: Box<Operation>, threads_max: u32) {
        let control = Arc::new(Control::default());
        let id = operation.id;
        self.controls.insert(id, Arc::clone(&control));
        let (is_wanted, threads) = {
            let mut queue = lock(&self.shared.queue);
            queue.newest += 1;
            let number = queue.newest;
            queue.waiting.push_back(Waiting { operation, control, number });
            queue.threads_max = threads_max as usize;
            if queue.idle > 0 {
                self.shared.wake.notify_one();
            }
            (queue.waiting.len() > queue.idle && queue.threads < queue.threads_max, queue.threads)
        };
        if is_wanted {
            match self.start_thread() {
                Ok(()) => lock(&self.shared.queue).threads += 1,
                Err(errno) if threads == 0 => self.fail(id, errno),
                Err(_) => {}
            }
        }
    }

    fn start_thread(&self) -> Result<(), Errno> {
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new().name("file worker".to_owned()).stack_size(STACK_SIZE);
        let started = builder.spawn(move || shared.work());
        started.map(drop).map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw))
    }

    /// There is not a single thread: the operation fails.
    fn fail(&mut self, id: JobId, errno: Errno) {
        let text = Error::new("start a thread", b"", errno).to_string();
        if let Some(operation) = self.withdraw(id) {
            self.shared.end(operation, OperationEnd::Failed(text));
        }
    }

    /// Takes an operation back that no thread has begun. `None`: it is being carried out, or has
    /// ended.
    pub fn withdraw(&mut self, job: JobId) -> Option<Box<Operation>> {
        let mut queue = lock(&self.shared.queue);
        let index = queue.waiting.iter().position(|one| one.operation.id == job)?;
        self.controls.remove(&job);
        let taken = queue.waiting.remove(index);
        // Another may have waited for just this one.
        if queue.idle > 0 && !queue.waiting.is_empty() {
            self.shared.wake.notify_one();
        }
        taken.map(|one| one.operation)
    }

    /// Asks an operation to end.
    pub fn abort(&self, job: JobId) {
        if let Some(control) = self.controls.get(&job) {
            control.abort();
        }
    }

    /// Bytes done and in all.
    #[must_use]
    pub fn progress(&self, job: JobId) -> Option<(u64, u64)> {
        self.controls.get(&job).map(|control| control.progress())
    }

    /// Those that have ended since this was last called.
    pub fn ended(&mut self) -> Vec<(Box<Operation>, OperationEnd)> {
        self.shared.ended_event.clear();
        let ended = std::mem::take(&mut *lock(&self.shared.ended));
        for (operation, _) in &ended {
            self.controls.remove(&operation.id);
        }
        ended
    }
}

impl AsFd for Pool {
    /// Readable when some have ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.ended_event.as_fd()
    }
}

impl Shared {
    fn work(&self) {
        let mut grips = Grips::default();
        let mut before = None;
        while let Some(next) = self.next(before, &mut grips) {
            let Waiting { operation, control, .. } = next;
            before = Some((operation.id, operation.is_dir));
            let end = carry_out(&operation, &control, &self.ground, &mut grips);
            self.end(operation, end);
        }
    }

    /// The operation after the one `before`, which is known by its id and whether it was on a directory.
    /// `None`: there are more threads than there should be, since a reload.
    fn next(&self, before: Option<(JobId, bool)>, grips: &mut Grips) -> Option<Waiting> {
        let mut queue = lock(&self.queue);
        if let Some((id, is_dir)) = before {
            queue.running.retain(|(job, _)| *job != id);
            queue.trees += u64::from(is_dir);
        }
        loop {
            if queue.threads > queue.threads_max {
                queue.threads -= 1;
                self.wake.notify_one();
                return None;
            }
            if let Some(next) = queue.pop() {
                // What is left may have waited for just the one before.
                if queue.idle > 0 && !queue.waiting.is_empty() {
                    self.wake.notify_one();
                }
                grips.turn = Turn { number: next.number, newest: queue.newest, trees: queue.trees };
                return Some(next);
            }
            grips.release();
            queue.idle += 1;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn end(&self, operation: Box<Operation>, end: OperationEnd) {
        let mut ended = lock(&self.ended);
        ended.push((operation, end));
        // One ring is enough for all that are taken together.
        if ended.len() == 1 {
            self.ended_event.notify();
        }
    }
}

/// A thread that panics ends the process, so no lock is ever poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_and_what_is_in_it_overlap() {
        let check = |one: [&str; 2], other: [&str; 2], expected: bool| {
            let (one, other) = (one.map(str::as_bytes), other.map(str::as_bytes));
            assert_eq!(overlap(one, other), expected, "{one:?} {other:?}");
            assert_eq!(overlap(other, one), expected, "{other:?} {one:?}");
        };
        check(["/in/a", "/out/a"], ["/in/b", "/out/b"], false);
        check(["/in/a", "/out/a"], ["/in/ab", "/out/ab"], false);
        check(["/in/a", "/out/a"], ["/in/a/b", "/out/x"], true);
        check(["/in/a", "/out/a"], ["/in/b", "/out/a"], true);
        check(["/in/a", "/out/a"], ["/out/a/b", "/far/b"], true);
        check(["/in/a", "/in/a"], ["/in/a", "/out/a"], true);
    }
}
