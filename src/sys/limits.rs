//! The kernel's limits on inotify, for messages that name them. See `inotify(7)`.

use super::{Error, errno_of};

const DIRECTORY: &str = "/proc/sys/fs/inotify";

/// One of the limits of inotify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Watches of one user.
    Watches,
    /// Inotify instances of one user.
    Instances,
    /// Events in one instance's queue.
    QueuedEvents,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Watches, Self::Instances, Self::QueuedEvents];

    /// The name that `sysctl(8)` takes.
    #[must_use]
    pub const fn sysctl(self) -> &'static str {
        match self {
            Self::Watches => "fs.inotify.max_user_watches",
            Self::Instances => "fs.inotify.max_user_instances",
            Self::QueuedEvents => "fs.inotify.max_queued_events",
        }
    }

    /// The present value.
    ///
    /// # Errors
    /// ENOENT when `/proc` is not mounted or the kernel has no inotify; EINVAL when there is no
    /// number in it.
    pub fn read(self) -> Result<u64, Error> {
        let name = self.sysctl().rsplit('.').next().unwrap_or_default();
        let path = format!("{DIRECTORY}/{name}");
        let text =
            std::fs::read_to_string(&path).map_err(|error| Error::new("read", &path, errno_of(&error)))?;
        text.trim().parse().map_err(|_| Error::new("read", &path, super::Errno::EINVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_value() {
        for limit in Limit::ALL {
            assert!(limit.read().unwrap() > 0, "{}", limit.sysctl());
        }
    }
}
