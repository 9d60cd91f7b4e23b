//! Pauses of schedulers whose commands could not be started for want of something: processes, memory,
//! descriptors.
//!
//! A pause is its scheduler's alone. A user who is at a limit of theirs, such as RLIMIT_NPROC, does not keep
//! the commands of others from being started.

use std::collections::HashMap;

use crate::engine::context::{Context, Timer};
use crate::engine::store::wheel::TimerId;
use crate::types::Millis;

/// The pause after a command could not be started, doubled up to the last.
const FIRST_MS: Millis = 100;
const LAST_MS: Millis = 10_000;

/// By scheduler, those that failed last.
#[derive(Debug, Default)]
pub struct Pauses(HashMap<u16, Pause>);

#[derive(Debug, Default)]
struct Pause {
    /// No command is started before this timer runs out.
    timer: Option<TimerId>,
    /// How often in a row it was so.
    failures: u32,
}

impl Pauses {
    /// Whether no command of the scheduler is to be started now.
    #[must_use]
    pub fn hold(&self, sched: u16) -> bool {
        self.0.get(&sched).is_some_and(|pause| pause.timer.is_some())
    }

    /// A command could not be started. Tells how long the pause is that begins, if there is none yet.
    pub fn begin(&mut self, cx: &mut Context<'_>, sched: u16) -> Option<Millis> {
        let pause = self.0.entry(sched).or_default();
        if pause.timer.is_some() {
            return None;
        }
        let delay_ms = LAST_MS.min(FIRST_MS << pause.failures.min(16));
        pause.failures += 1;
        pause.timer = Some(cx.timer_in(delay_ms, Timer::Resume(sched)));
        Some(delay_ms)
    }

    /// The pause is over.
    pub fn end(&mut self, sched: u16) {
        if let Some(pause) = self.0.get_mut(&sched) {
            pause.timer = None;
        }
    }

    /// A command of the scheduler was started: the next pause is a short one.
    pub fn forget(&mut self, sched: u16) {
        if let Some(pause) = self.0.get_mut(&sched) {
            pause.failures = 0;
        }
    }

    /// The schedulers are others now, and the administrator may have mended what was wrong.
    pub fn clear(&mut self, cx: &mut Context<'_>) {
        for timer in self.0.drain().filter_map(|(_, pause)| pause.timer) {
            cx.timers.cancel(timer);
        }
    }
}
