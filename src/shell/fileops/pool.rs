//! The threads that carry out file operations, and their queue.
//!
//! The loop submits operations and is woken by a bell when some have ended. The engine bounds how many
//! are queued. Threads are started when there is something to do for the first time, and wait for
//! more without waking up.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::carry_out;
use super::control::Control;
use super::private::Swept;
use crate::engine::JobId;
use crate::engine::message::{Operation, OperationEnd};
use crate::sys::eventfd::Bell;
use crate::sys::{Errno, Error};

/// What a thread's stack may hold: nothing here recurses, buffers are on the heap.
const STACK_SIZE: usize = 128 * 1024;

/// The threads, as the loop sees them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    /// Of operations that have been submitted and not been taken back or ended.
    controls: HashMap<JobId, Arc<Control>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    ended: Mutex<Vec<(Box<Operation>, OperationEnd)>>,
    bell: Bell,
    swept: Swept,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Box<Operation>, Arc<Control>)>,
    idle: usize,
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
            bell: Bell::new()?,
            swept: Swept::default(),
        };
        Ok(Self { shared: Arc::new(shared), threads: 0, controls: HashMap::new() })
    }

    /// Queues an operation; at most `threads_max` threads work at once.
    pub fn submit(&mut self, operation: Box<Operation>, threads_max: u32) {
        let control = Arc::new(Control::default());
        let id = operation.id;
        self.controls.insert(id, Arc::clone(&control));
        let wanted = {
            let mut queue = lock(&self.shared.queue);
            queue.waiting.push_back((operation, control));
            queue.waiting.len() > queue.idle
        };
        if wanted && self.threads < threads_max as usize {
            match self.start_thread() {
                Ok(()) => self.threads += 1,
                Err(errno) if self.threads == 0 => return self.fail(id, errno),
                Err(_) => {}
            }
        }
        self.shared.wake.notify_one();
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
        let index = queue.waiting.iter().position(|(operation, _)| operation.id == job)?;
        self.controls.remove(&job);
        queue.waiting.remove(index).map(|(operation, _)| operation)
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
        self.shared.bell.quiet();
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
        self.shared.bell.as_fd()
    }
}

impl Shared {
    fn work(&self) -> ! {
        loop {
            let (operation, control) = self.next();
            let end = carry_out(&operation, &control, &self.swept);
            self.end(operation, end);
        }
    }

    fn next(&self) -> (Box<Operation>, Arc<Control>) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(next) = queue.waiting.pop_front() {
                return next;
            }
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
            self.bell.ring();
        }
    }
}

/// A thread that panics ends the process, so no lock is ever poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
