//! The kernel's settings, changed for a while.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by every test of this program.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no other test runs.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has its old value again when this is dropped.
pub struct Sysctl {
    path: PathBuf,
    old: String,
}

impl Sysctl {
    /// Gives a setting of `fs.inotify` another value.
    pub fn set(name: &str, value: u64) -> Self {
        let path = PathBuf::from("/proc/sys/fs/inotify").join(name);
        let old = fs::read_to_string(&path).unwrap();
        let this = Self { path, old };
        fs::write(&this.path, value.to_string()).unwrap();
        this
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        fs::write(&self.path, &self.old).unwrap();
    }
}
