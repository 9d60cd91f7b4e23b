//! One absolute timer on the boot-time clock, readable when its deadline has come.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Errno, retry};
use crate::types::Millis;

/// A timer that is armed for one instant or not at all. See `timerfd_create(2)`.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// A disarmed timer.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).map(Self)
    }

    /// Arms it for `deadline`, in milliseconds of [`super::clock::now`], or disarms it.
    ///
    /// A deadline that has passed makes it readable at once.
    ///
    /// # Errors
    /// None that the kernel documents for a valid timer.
    pub fn set(&self, deadline: Option<Millis>) -> Result<(), Errno> {
        let Some(deadline) = deadline else { return self.0.unset() };
        self.0.set(Expiration::OneShot(instant(deadline)), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }

    /// Takes the expiry, so that the timer is no longer readable. Returns whether there was one.
    ///
    /// # Errors
    /// None that the kernel documents for a valid timer.
    pub fn acknowledge(&self) -> Result<bool, Errno> {
        match retry(|| self.0.wait()) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Zero would disarm the timer (`timerfd_create(2)`), so it becomes one nanosecond. A deadline out of the
/// range of `time_t`, which has 32 bits on 32-bit ARM, becomes the end of that range, 68 years after boot.
#[allow(clippy::useless_conversion, reason = "time_t has 32 bits on 32-bit ARM")]
fn instant(deadline: Millis) -> TimeSpec {
    let secs = (deadline / 1000).try_into().unwrap_or(i32::MAX.into());
    // Below 1000, so that it fits everywhere.
    let millis = libc::c_long::try_from(deadline % 1000).unwrap_or_default();
    TimeSpec::new(secs, (millis * 1_000_000).max(1))
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::sys::clock;

    fn expires_within(timer: &Timer, timeout_ms: u16) -> bool {
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        retry(|| poll(&mut fds, PollTimeout::from(timeout_ms))).unwrap() == 1
    }

    #[test]
    fn a_past_deadline_expires_at_once() {
        let timer = Timer::new().unwrap();
        for deadline in [0, 1, 999, 1000, clock::now()] {
            timer.set(Some(deadline)).unwrap();
            assert!(expires_within(&timer, 5000), "deadline {deadline}");
            assert_eq!(timer.acknowledge(), Ok(true));
            assert_eq!(timer.acknowledge(), Ok(false));
        }
    }

    #[test]
    fn a_future_deadline_is_kept() {
        let timer = Timer::new().unwrap();
        let deadline = clock::now() + 30;
        timer.set(Some(deadline)).unwrap();
        assert!(expires_within(&timer, 5000));
        assert!(clock::now() >= deadline);
    }

    #[test]
    fn disarmed_and_far_away_timers_are_silent() {
        let timer = Timer::new().unwrap();
        timer.set(Some(1)).unwrap();
        timer.set(None).unwrap();
        assert!(!expires_within(&timer, 0));
        timer.set(Some(Millis::MAX)).unwrap();
        assert!(!expires_within(&timer, 0));
    }
}
