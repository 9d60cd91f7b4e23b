//! What the reactor and a worker thread share about one operation: how far it is, and whether to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::failure::{Failure, PathRef};

/// No field depends on another, so no memory ordering is needed. Only the worker changes the numbers.
#[derive(Debug, Default)]
pub struct Control {
    aborted: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

impl Control {
    /// Asks the operation to end as soon as it can, as if it had failed.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
    }

    /// Asked between steps, each of which is short.
    ///
    /// # Errors
    ///
    /// [`super::failure::Why::Aborted`] once [`Control::abort`] was called.
    pub fn check<'a>(&self, op: &'static str, path: impl Into<PathRef<'a>>) -> Result<(), Failure> {
        if self.aborted.load(Ordering::Relaxed) {
            return Err(Failure::aborted(op, path));
        }
        Ok(())
    }

    /// Adds bytes that are to be copied.
    pub fn expect(&self, bytes: u64) {
        self.total.store(self.progress().1.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Adds bytes that were copied.
    pub fn advance(&self, bytes: u64) {
        self.done.store(self.progress().0.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Sets the progress back to `done`: what was copied since then is copied again.
    pub fn fall_back(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Bytes that were copied, and bytes in all as far as is known.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}
