//! The threads that carry out file operations, and their queue.
//!
//! The reactor submits operations, and an event descriptor wakes it when some have ended. The engine
//! bounds how many are queued. Operations start in their order, but none starts while another works on a
//! path inside its own, or around it. A thread is started when an operation finds none that waits, and
//! waits on a condition variable when the queue is empty.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::control::Control;
use super::dir_cache::{DirCache, Ticket};
use super::execute::carry_out;
use super::op_run::Shared;
use crate::engine::TaskId;
use crate::engine::message::{Operation, OperationEnd};
use crate::sys::eventfd::EventFd;
use crate::sys::{Errno, Error};

/// Enough for a thread: no function here recurses, and buffers are on the heap.
const STACK_SIZE: usize = 128 * 1024;

/// The threads, as the reactor sees them.
#[derive(Debug)]
pub struct Pool {
    state: Arc<PoolState>,
}

#[derive(Debug)]
struct PoolState {
    queue: Mutex<Queue>,
    wake: Condvar,
    ended: Mutex<Vec<(Box<Operation>, OperationEnd)>>,
    ended_event: EventFd,
    shared: Shared,
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
    /// The number of the operation that was submitted last.
    newest: u64,
    /// How many operations on directories have ended.
    trees: u64,
    /// The operations that are being carried out: no more than there are threads.
    running: Vec<UnderWay>,
    idle: usize,
    threads: usize,
    threads_max: usize,
}

#[derive(Debug)]
struct UnderWay {
    task: TaskId,
    paths: [Vec<u8>; 2],
    control: Arc<Control>,
}

/// Source and destination.
type Paths<'a> = [&'a [u8]; 2];

fn paths(operation: &Operation) -> Paths<'_> {
    let target = operation.target.as_ref().unwrap_or(&operation.source);
    [&operation.source.path, &target.path]
}

/// Whether one operation works on a path that is a path of the other, or inside one.
fn overlap(one: Paths<'_>, other: Paths<'_>) -> bool {
    let within = |path: &[u8], tree: &[u8]| {
        path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    one.iter().any(|one| other.iter().any(|other| within(one, other) || within(other, one)))
}

impl Queue {
    /// Takes the first operation that overlaps with none that runs and none that waits before it.
    fn pop(&mut self) -> Option<Waiting> {
        let running = || self.running.iter().map(|one| [&one.paths[0][..], &one.paths[1][..]]);
        let is_free = |index: &usize| {
            let own = paths(&self.waiting[*index].operation);
            let before = self.waiting.iter().take(*index).map(|one| paths(&one.operation));
            !running().chain(before).any(|other| overlap(own, other))
        };
        let index = (0..self.waiting.len()).find(is_free)?;
        let next = self.waiting.remove(index)?;
        let control = Arc::clone(&next.control);
        let paths = paths(&next.operation).map(<[u8]>::to_vec);
        self.running.push(UnderWay { task: next.operation.task, paths, control });
        Some(next)
    }

    /// Of an operation that waits or is being carried out.
    fn control(&self, task: TaskId) -> Option<&Control> {
        let running = self.running.iter().find(|one| one.task == task).map(|one| &one.control);
        let waiting = || self.waiting.iter().find(|one| one.operation.task == task).map(|one| &one.control);
        running.or_else(waiting).map(|control| &**control)
    }
}

impl Pool {
    /// A pool that has no thread yet.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        let state = PoolState {
            queue: Mutex::default(),
            wake: Condvar::new(),
            ended: Mutex::default(),
            ended_event: EventFd::new()?,
            shared: Shared::default(),
        };
        Ok(Self { state: Arc::new(state) })
    }

    /// Queues an operation; at most `threads_max` threads work at once.
    pub fn submit(&self, operation: Box<Operation>, threads_max: u32) {
        let control = Arc::new(Control::default());
        let id = operation.task;
        let (is_wanted, threads) = {
            let mut queue = lock(&self.state.queue);
            queue.newest += 1;
            let number = queue.newest;
            queue.waiting.push_back(Waiting { operation, control, number });
            queue.threads_max = threads_max as usize;
            if queue.idle > 0 {
                self.state.wake.notify_one();
            }
            (queue.waiting.len() > queue.idle && queue.threads < queue.threads_max, queue.threads)
        };
        if is_wanted {
            match self.start_thread() {
                Ok(()) => lock(&self.state.queue).threads += 1,
                Err(errno) if threads == 0 => self.fail(id, errno),
                Err(_) => {}
            }
        }
    }

    fn start_thread(&self) -> Result<(), Errno> {
        let state = Arc::clone(&self.state);
        let builder = thread::Builder::new().name("file worker".to_owned()).stack_size(STACK_SIZE);
        let started = builder.spawn(move || state.work());
        started.map(drop).map_err(|error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw))
    }

    /// Lets an operation fail because there is no thread, and none can be started.
    fn fail(&self, id: TaskId, errno: Errno) {
        let text = Error::new("start a thread", b"", errno).to_string();
        if let Some(operation) = self.withdraw(id) {
            self.state.end(operation, OperationEnd::Failed(text));
        }
    }

    /// Takes back an operation that no thread has started. `None` if one has.
    pub fn withdraw(&self, task: TaskId) -> Option<Box<Operation>> {
        let mut queue = lock(&self.state.queue);
        let index = queue.waiting.iter().position(|one| one.operation.task == task)?;
        let taken = queue.waiting.remove(index);
        // Another operation may have waited for this one.
        if queue.idle > 0 && !queue.waiting.is_empty() {
            self.state.wake.notify_one();
        }
        taken.map(|one| one.operation)
    }

    /// Asks an operation to end.
    pub fn abort(&self, task: TaskId) {
        if let Some(control) = lock(&self.state.queue).control(task) {
            control.abort();
        }
    }

    /// Bytes that were copied, and bytes in all.
    #[must_use]
    pub fn progress(&self, task: TaskId) -> Option<(u64, u64)> {
        lock(&self.state.queue).control(task).map(Control::progress)
    }

    /// The operations that have ended since the last call.
    pub fn ended(&self) -> Vec<(Box<Operation>, OperationEnd)> {
        self.state.ended_event.clear();
        std::mem::take(&mut *lock(&self.state.ended))
    }
}

impl AsFd for Pool {
    /// Readable when an operation has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.ended_event.as_fd()
    }
}

impl PoolState {
    fn work(&self) {
        let mut cache = DirCache::default();
        let mut before = None;
        while let Some(next) = self.next(before, &mut cache) {
            let Waiting { operation, control, .. } = next;
            before = Some((operation.task, operation.is_dir));
            let end = carry_out(&operation, &control, &self.shared, &mut cache);
            self.end(operation, end);
        }
    }

    /// Waits for an operation. `before` is the one that this thread has just ended: its id, and whether it
    /// was on a directory. `None` if a reload has reduced the number of threads.
    fn next(&self, before: Option<(TaskId, bool)>, cache: &mut DirCache) -> Option<Waiting> {
        let mut queue = lock(&self.queue);
        if let Some((id, is_dir)) = before {
            queue.running.retain(|one| one.task != id);
            queue.trees += u64::from(is_dir);
        }
        loop {
            if queue.threads > queue.threads_max {
                queue.threads -= 1;
                self.wake.notify_one();
                return None;
            }
            if let Some(next) = queue.pop() {
                // The other operations may have waited for the one that has ended.
                if queue.idle > 0 && !queue.waiting.is_empty() {
                    self.wake.notify_one();
                }
                cache.ticket = Ticket { number: next.number, newest: queue.newest, trees: queue.trees };
                return Some(next);
            }
            cache.clear();
            queue.idle += 1;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn end(&self, operation: Box<Operation>, end: OperationEnd) {
        let mut ended = lock(&self.ended);
        ended.push((operation, end));
        // One notification is enough for all that the reactor takes together.
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
