//! What both rooms share: configuration, time, timers, effects, log levels, counters.
//!
//! [`Shared`] lives as long as the engine. A step lends it as a [`Context`], together with the list
//! that takes the step's effects; the configuration does not change within a step.

use super::message::Effect;
use super::store::wheel::Wheel;
use crate::config::Config;
use crate::record::{Level, LogLevels, LogName, Record};
use crate::types::Millis;

/// What the engine is told at its start, beside the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Log what would be run instead of running it.
    pub dry_run: bool,
    /// Children at once when the configuration leaves it open.
    pub default_max_jobs: u32,
    /// When more visits than this wait, those that need not be made are dropped.
    pub sift_at: usize,
    /// So many events are kept for directories that are between two names, and as many for directories that may be
    /// elsewhere since the kernel dropped events. What comes beyond is looked for on disk.
    pub kept_max: usize,
    /// Random and secret: a worker that answers for a task has to repeat a word that follows from it.
    pub secret: [u64; 2],
}

/// [`Options::sift_at`] of the daemon: as many as events fit into the kernel's queue by default.
pub const SIFT_AT: usize = 16_384;

/// [`Options::kept_max`] of the daemon: the same, which is a few megabytes.
pub const KEPT_MAX: usize = 16_384;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A task's delay; the number is the task's slot.
    Delay(u32),
    /// A task's timeout, or the time between its SIGTERM and its SIGKILL; the number is the task's slot.
    Timeout(u32),
    /// The next log line about a long file operation; the number is the task's slot.
    Progress(u32),
    /// Renames of which one half is missing are looked through.
    Renames,
    /// Commands may be started again; the number is the scheduler's.
    Resume(u16),
    /// The number of lines left out is logged; the number is the scheduler's.
    LinesLeftOut(u16),
    /// The next stage of the shutdown.
    Shutdown,
    /// A directory for which there was no room is tried again.
    WatchLimit,
    /// Directories that were too many for their watch may have room.
    MaxDirs,
    /// Visits for which the machine was short of something are made again.
    Postponed,
    /// Files that may still be written to are asked about.
    Unsettled,
    /// A watch with `rescan`; the number is the watch's.
    Rescan(u16),
    /// The next stage of a worker's end; the number is the instance's.
    Worker(u32),
    /// Workers may be started again; the number is the scheduler's.
    Workers(u16),
}

/// Whether the daemon takes new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does.
    Running,
    /// Tasks may finish.
    Stopping,
    /// What still runs was sent SIGTERM.
    Terminating,
    /// What still runs was sent SIGKILL.
    Killing,
}

/// Numbers for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that the kernel reported.
    pub events: u64,
    /// Events that the daemon synthesized.
    pub synthesized: u64,
    /// How often the kernel dropped events.
    pub overflows: u64,
    /// Tasks that ended well.
    pub done: u64,
    /// Tasks that failed.
    pub failed: u64,
}

/// What both rooms share, from step to step.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force.
    pub config: Config,
    /// See [`Options`].
    pub options: Options,
    /// The log levels in force, which a client may have changed since the configuration was read.
    pub levels: LogLevels,
    /// The time of the step; it never goes back.
    pub now: Millis,
    /// All timers.
    pub timers: Wheel<Timer>,
    /// See [`Counters`].
    pub counters: Counters,
    /// See [`Phase`].
    pub phase: Phase,
    /// Decisions are explained.
    pub explaining: bool,
}

impl Shared {
    /// Before the first step.
    #[must_use]
    pub fn new(config: Config, options: Options, now: Millis) -> Self {
        Self {
            levels: config.log.clone(),
            config,
            options,
            now,
            timers: Wheel::new(now),
            counters: Counters::default(),
            phase: Phase::Running,
            explaining: false,
        }
    }

    /// What the rooms get for one step.
    pub fn context<'a>(&'a mut self, effects: &'a mut Vec<Effect>) -> Context<'a> {
        Context {
            config: &self.config,
            options: self.options,
            levels: &self.levels,
            now: self.now,
            phase: self.phase,
            explaining: self.explaining,
            timers: &mut self.timers,
            counters: &mut self.counters,
            effects,
        }
    }
}

/// What a room may reach in one step, beside its own state.
#[derive(Debug)]
pub struct Context<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// See [`Options`].
    pub options: Options,
    /// The time of the step.
    pub now: Millis,
    /// See [`Phase`].
    pub phase: Phase,
    /// All timers.
    pub timers: &'a mut Wheel<Timer>,
    /// See [`Counters`].
    pub counters: &'a mut Counters,
    /// What is to be done, in order.
    pub effects: &'a mut Vec<Effect>,
    /// Whether decisions are explained.
    pub explaining: bool,
    levels: &'a LogLevels,
}

impl Context<'_> {
    /// Whether a record of this level and name goes anywhere.
    #[must_use]
    pub fn wants(&self, level: Level, name: &LogName) -> bool {
        // The shell remembers errors for the status, whatever the levels say.
        level >= Level::Error || self.levels.enabled(level, name) || self.config.to_syslog(level, name)
    }

    /// Whether each line about a task under this name is wanted, however many there are.
    #[must_use]
    pub fn wants_every_line(&self, name: &LogName) -> bool {
        self.options.dry_run || self.wants(Level::Debug, name)
    }

    /// Logs under a name. The record is made only when it goes somewhere.
    pub fn log(&mut self, level: Level, name: &LogName, record: impl FnOnce() -> Record) {
        if self.wants(level, name) {
            self.effects.push(Effect::Log(record()));
        }
    }

    /// Logs under the daemon's name, with further fields.
    pub fn log_daemon(&mut self, level: Level, message: &str, fields: impl FnOnce(Record) -> Record) {
        let name = &self.config.daemon.logname;
        self.log(level, name, || fields(Record::new(level, name, message)));
    }

    /// Tells a decision to `--explain`. The text is made only when decisions are explained.
    pub fn explain(&mut self, text: impl FnOnce() -> String) {
        if self.explaining {
            self.effects.push(Effect::Explain(text()));
        }
    }

    /// A timer that runs out after so many milliseconds.
    pub fn timer_in(&mut self, delay_ms: Millis, timer: Timer) -> super::store::wheel::TimerId {
        self.timers.insert(self.now + delay_ms, timer)
    }
}
