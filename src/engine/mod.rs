//! The engine: decides everything, does nothing.
//!
//! [`Engine::step`] takes the time and one [`Input`] and appends [`Effect`]s; what becomes of an
//! effect comes back as a further input. There are no system calls, threads or clocks in here, so a
//! simulation can drive it with a model of the kernel.
//!
//! The engine has two rooms. The [`watcher`](watcher::Watcher) turns the kernel's events into told
//! events: "this watch sees this event at this place". The [`tasks`](tasks::Tasks) turn told events into
//! work. The wall between them has two openings: the watcher tells through [`told::Audience`], and tasks
//! ask about paths through [`watcher::places::Places`]. No file in a room knows the engine.
//!
//! Read in this order: `message` (what goes in and out), `ids`, `context` (what both rooms share), `told`,
//! `watcher`, `tasks`; then `lifecycle` (reload, shutdown) and `queries` (questions from outside), which
//! concern both rooms. `store` has the data structures.

pub mod context;
pub mod ids;
mod lifecycle;
pub mod message;
mod queries;
pub mod store;
pub mod tasks;
pub mod told;
pub mod watcher;

use crate::config::Config;
use crate::types::{Millis, Wd};
pub use context::{KEPT_MAX, Options, SIFT_AT};
use context::{Phase, Shared, Timer};
pub use ids::{NodeId, TaskId, WorkerId};
pub use message::{Effect, Input};
pub use tasks::TASKS_MAX;
use tasks::Tasks;
use watcher::{Step, Watcher};

/// See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    shared: Shared,
    watcher: Watcher,
    tasks: Tasks,
}

impl Engine {
    /// An engine that has done nothing yet; [`Input::Start`] begins.
    #[must_use]
    pub fn new(config: Config, options: Options, now: Millis) -> Self {
        let (watcher, tasks) = (Watcher::new(&config), Tasks::new(&config));
        Self { shared: Shared::new(config, options, now), watcher, tasks }
    }

    /// Takes one input and appends what is to be done about it.
    ///
    /// `now` must not go back. Effects are to be carried out in order.
    pub fn step(&mut self, now: Millis, input: Input<'_>, effects: &mut Vec<Effect>) {
        self.shared.now = self.shared.now.max(now);
        // Events that were read together are one moment: a task starts for the last of them.
        let within_read = matches!(input, Input::Filled { .. } | Input::Event { .. });
        match input {
            Input::Start { .. }
            | Input::Filled { .. }
            | Input::Event { .. }
            | Input::Drained
            | Input::Mounts { .. }
            | Input::Spare
            | Input::Scanned { .. } => self.step_watcher(input, effects),
            Input::Tick { queued, wall_ns } => self.on_tick(queued, wall_ns, effects),
            Input::Reload(config) => self.reload(*config, effects),
            Input::Stop { reason } => self.stop(reason, effects),
            Input::Status => self.log_status(effects),
            Input::Ask { client, question } => self.on_ask(client, &question, effects),
            input => self.step_tasks(input, effects),
        }
        if !within_read {
            let Self { shared, watcher, tasks } = self;
            tasks.dispatch(&mut shared.context(effects), &mut watcher.places());
            self.exit_when_done(effects);
        }
    }

    /// What the watcher takes.
    fn step_watcher(&mut self, input: Input<'_>, effects: &mut Vec<Effect>) {
        let Self { shared, watcher, tasks } = self;
        let mut cx = shared.context(effects);
        if let Input::Start { wall_ns } = input {
            tasks.start(&mut cx);
            return watcher.start(&mut cx, wall_ns);
        }
        let step = &mut Step { cx: &mut cx, audience: tasks };
        match input {
            Input::Filled { bytes, emptied, wall_ns } => {
                watcher.on_filled(bytes, emptied.then_some(wall_ns));
            }
            Input::Event { event, size } => watcher.on_event(step, &event, size),
            Input::Drained => watcher.on_drained(step),
            Input::Mounts { points } => watcher.on_mounts(step.cx, &points),
            Input::Spare => watcher.on_spare(step),
            Input::Scanned { node, result, before, queued } => {
                let marks = (watcher.mark(before), watcher.mark(queued));
                watcher.on_scanned(step, node, result, marks);
            }
            _ => {}
        }
    }

    /// What the tasks take.
    fn step_tasks(&mut self, input: Input<'_>, effects: &mut Vec<Effect>) {
        let Self { shared, watcher, tasks } = self;
        let mark = |queued| watcher.mark(queued);
        let mark = match &input {
            Input::Ended { queued, .. }
            | Input::Operated { queued, .. }
            | Input::Line { queued, .. }
            | Input::WorkerEnded { queued, .. } => mark(*queued),
            _ => 0,
        };
        let cx = &mut shared.context(effects);
        let places = &mut watcher.places();
        match input {
            Input::Inspected { task, facts } => tasks.on_inspected(cx, places, task, facts),
            Input::Started { task } => tasks.on_started(task),
            Input::NotStarted { task, error } => tasks.on_not_started(cx, places, task, &error),
            Input::Ended { task, status, .. } => tasks.on_ended(cx, places, task, status, mark),
            Input::Operated { operation, end, .. } => tasks.on_operated(cx, places, &operation, end, mark),
            Input::Measured { task, done, total, asked_for } => {
                tasks.on_measured(cx, places, task, (done, total), asked_for);
            }
            Input::WorkerNotStarted { worker, error } => {
                tasks.on_worker_not_started(cx, places, worker, &error);
            }
            Input::Written { worker, lines } => tasks.on_written(cx, places, worker, lines),
            Input::Line { worker, line, cut, .. } => tasks.on_line(cx, places, worker, (line, cut), mark),
            Input::WorkerBroken { worker, what } => tasks.on_worker_broken(cx, worker, what),
            Input::WorkerEnded { worker, status, unread, begun, .. } => {
                tasks.on_worker_ended(cx, places, (worker, status), (unread, begun), mark);
            }
            _ => {}
        }
    }

    fn on_tick(&mut self, queued: usize, wall_ns: i64, effects: &mut Vec<Effect>) {
        while let Some((_, timer)) = self.shared.timers.pop_expired(self.shared.now) {
            let Self { shared, watcher, tasks } = self;
            let mut cx = shared.context(effects);
            match timer {
                Timer::Delay(_)
                | Timer::Timeout(_)
                | Timer::Progress(_)
                | Timer::Resume(_)
                | Timer::LinesLeftOut(_)
                | Timer::Worker(_)
                | Timer::Workers(_) => tasks.on_timer(&mut cx, &mut watcher.places(), timer),
                Timer::Renames
                | Timer::WatchLimit
                | Timer::MaxDirs
                | Timer::Postponed
                | Timer::Unsettled
                | Timer::Rescan(_) => {
                    let queued_to = watcher.mark(queued);
                    let step = &mut Step { cx: &mut cx, audience: tasks };
                    watcher.on_timer(step, timer, queued_to, wall_ns);
                }
                Timer::Shutdown => self.on_shutdown_timer(effects),
            }
        }
    }

    /// When [`Input::Tick`] is due; `None` when only something else can wake the engine.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.shared.timers.next_deadline()
    }

    /// Whether [`Input::Spare`] would have something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.watcher.has_work()
    }

    /// Explains every decision about an event from now on.
    pub fn explain_decisions(&mut self) {
        self.shared.explaining = true;
    }

    /// Says why a directory that is there, in one that is watched, is not watched itself.
    pub fn explain_gap(&mut self, parent: Wd, name: &[u8], effects: &mut Vec<Effect>) {
        self.watcher.explain_gap(&mut self.shared.context(effects), parent, name);
    }

    /// Whether there is any task.
    #[must_use]
    pub fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// How many directories are watched.
    #[must_use]
    pub fn directories(&self) -> usize {
        self.watcher.directories()
    }

    /// Whether the first look at all watch paths is done.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.watcher.is_ready()
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.phase != Phase::Running
    }

    /// Every watched directory with its watch, for tests: under all names by which it is known.
    #[must_use]
    pub fn watched(&self) -> Vec<(Vec<u8>, Wd)> {
        self.watcher.watched()
    }

    /// Whether the event queue may be read. If not, the kernel keeps the events, and an overflow of
    /// its queue is repaired later; the daemon's memory is not.
    #[must_use]
    pub fn accepts_events(&self) -> bool {
        self.tasks.have_room()
    }
}
