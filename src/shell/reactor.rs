//! The epoll loop's bookkeeping: who is waited for, and who is ready.
//!
//! A turn has two halves. First readiness is fetched for all descriptors at once; then each source
//! that was ready is dispatched once. A source may be removed while the turn's other sources are
//! dispatched, and its slot may be taken by a new one: a token carries the slot's generation, so
//! readiness that was fetched for the old source never reaches the new one.

use std::os::fd::AsFd;

use crate::engine::WorkerId;
use crate::sys::Errno;
use crate::sys::epoll::{Epoll, Events, Interest};
use crate::types::Millis;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Events of watched directories.
    Inotify,
    /// The engine's next deadline.
    Timer,
    /// Signals to the daemon.
    Signals,
    /// A change of mounts.
    Mounts,
    /// The log can be written to again.
    Log,
    /// File operations have ended.
    Operations,
    /// Looks at files have been made.
    Looks,
    /// A client connects to the control socket.
    Control,
    /// A client; the number is the control socket's.
    Client(u32),
    /// A child's output; the number is the children's.
    Output(u32),
    /// Answers of a worker.
    Answers(WorkerId),
    /// A worker's standard input has room.
    Tasks(WorkerId),
}

/// A source that is registered; never equal to one that was registered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
    fn unpack(packed: u64) -> Self {
        Self { slot: packed as u32, generation: (packed >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    source: Option<Source>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Reactor {
    epoll: Epoll,
    events: Events,
    slots: Vec<Slot>,
}

/// Readiness that is fetched at once; more is fetched in the next turn.
const EVENTS_MAX: usize = 64;

impl Reactor {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// As `epoll_create1(2)`.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: Epoll::new()?, events: Events::new(EVENTS_MAX), slots: Vec::new() })
    }

    /// Waits for a descriptor from now on.
    ///
    /// # Errors
    ///
    /// As `epoll_ctl(2)`: EPERM for a regular file, ENOSPC at the limit of watches.
    pub fn add(&mut self, fd: impl AsFd, source: Source, interest: Interest) -> Result<Token, Errno> {
        let free = self.slots.iter().position(|slot| slot.source.is_none());
        let index = free.unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, source: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        let token = Token { slot: u32::try_from(index).unwrap_or(u32::MAX), generation: slot.generation };
        self.epoll.add(fd, token.pack(), interest)?;
        slot.source = Some(source);
        Ok(token)
    }

    /// Waits for a descriptor no longer until [`Reactor::resume`]; its token stays.
    ///
    /// It leaves epoll altogether: inotify wakes its waiters without saying what for, so that an
    /// interest in nothing would still wake the sleeper for each event (`ep_poll_callback` in the
    /// kernel's `fs/eventpoll.c`).
    ///
    /// # Errors
    ///
    /// As `epoll_ctl(2)`.
    pub fn pause(&self, fd: impl AsFd) -> Result<(), Errno> {
        self.epoll.delete(fd)
    }

    /// Waits again for a descriptor that was paused.
    ///
    /// # Errors
    ///
    /// As `epoll_ctl(2)`.
    pub fn resume(&self, token: Token, fd: impl AsFd, interest: Interest) -> Result<(), Errno> {
        self.epoll.add(fd, token.pack(), interest)
    }

    /// Waits for a descriptor no longer; to be called before it is closed.
    pub fn remove(&mut self, token: Token, fd: impl AsFd) {
        if self.source(token).is_some() {
            self.forget(token);
            // A descriptor that is closed anyway; ENOENT and EBADF change nothing.
            let _ = self.epoll.delete(fd);
        }
    }

    /// The same for a descriptor that is closed already.
    pub fn forget(&mut self, token: Token) {
        let slot = &mut self.slots[token.slot as usize];
        if slot.generation == token.generation {
            slot.generation = slot.generation.wrapping_add(1);
            slot.source = None;
        }
    }

    /// Waits until something is ready or the time is over, and puts what is ready into `ready`.
    ///
    /// # Errors
    ///
    /// As `epoll_wait(2)`; the loop cannot go on then.
    pub fn fetch(&mut self, timeout: Option<Millis>, ready: &mut Vec<Token>) -> Result<(), Errno> {
        ready.clear();
        self.epoll.wait(&mut self.events, timeout)?;
        ready.extend(self.events.iter().map(|event| Token::unpack(event.token)));
        Ok(())
    }

    /// The source behind a token, unless it was removed meanwhile.
    #[must_use]
    pub fn source(&self, token: Token) -> Option<Source> {
        let slot = self.slots.get(token.slot as usize)?;
        if slot.generation == token.generation { slot.source } else { None }
    }
}
