//! How the run of a task ends: again, or kept until what it caused is read, or gone.
//!
//! What a task caused itself may be read only after it has ended. So a task stays in the table, ended,
//! until the reader has passed all that was queued at its end.

use super::step::TaskStep;
use super::table::State;
use crate::config::WhileRunning;
use crate::engine::context::Phase;
use crate::engine::ids::TaskId;
use crate::record::Level;

/// How far the stream of events is: `mark` was the end of what was queued when a run ended, `position` is
/// the end of what was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub mark: u64,
    pub position: u64,
}

impl TaskStep<'_, '_, '_> {
    /// A run of a command or of a worker ended well, or failed with these further fields.
    pub fn finish(&mut self, id: TaskId, result: Result<(), Vec<(&'static str, Vec<u8>)>>, moment: Moment) {
        let Some(seconds) = self.run_seconds(id) else { return };
        self.cancel_run_timer(id);
        match result {
            Ok(()) => {
                self.cx.counters.done += 1;
                self.log(Level::Info, id, "task finished", &[("seconds", seconds)]);
            }
            Err(mut fields) => {
                self.cx.counters.failed += 1;
                fields.push(("seconds", seconds));
                self.log(Level::Error, id, "task failed", &fields);
            }
        }
        self.end(id, moment);
    }

    /// The run is over.
    pub fn end(&mut self, id: TaskId, moment: Moment) {
        if let Some((subject, event_at)) = self.take_rerun(id) {
            let node = subject.node;
            if self.cx.phase == Phase::Running {
                self.change_subject(id, subject);
                self.places.release(node);
                self.run_again(id, event_at);
                return;
            }
            self.places.release(node);
            self.log(Level::Warning, id, "task does not run again: shutdown", &[]);
        }
        if moment.mark > moment.position {
            self.table.set_state(id, State::Ended);
            self.table.push_ended(moment.mark, id);
        } else {
            self.forget(id);
        }
    }

    /// The reader has passed this position, and with it the ends of some runs.
    pub fn forget_ended(&mut self, position: u64) {
        while let Some(id) = self.table.pop_ended(position) {
            if self.table.get(id).is_some_and(|task| task.state == State::Ended) {
                self.forget(id);
            }
        }
    }

    /// A task that runs is ready again, for the newest event.
    pub fn put_back(&mut self, id: TaskId, rank: u64) {
        if let Some((subject, _)) = self.take_rerun(id) {
            let node = subject.node;
            self.change_subject(id, subject);
            self.places.release(node);
        }
        self.table.set_state(id, State::Ready(rank));
    }

    /// Events came while a file operation was carried out: with `while_running = skip` they do not count.
    pub fn skip_events(&mut self, id: TaskId) {
        let Some(task) = self.table.get(id) else { return };
        if self.scheduler_of(task).while_running == WhileRunning::Skip && self.drop_rerun(id) {
            self.log_skipped(id);
        }
    }
}
