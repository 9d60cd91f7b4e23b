//! What clients ask of tasks: lists, the state for the log, one task now, one task no more.

use super::Tasks;
use super::table::State;
use crate::engine::context::Context;
use crate::engine::ids::TaskId;
use crate::engine::message::Effect;
use crate::engine::watcher::places::Places;
use crate::record::Level;
use crate::rows::{Rows, Value};

impl Tasks {
    /// The running file operations are to say how far they are, for the log.
    pub fn log_operations(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>) {
        self.step(cx, places).measure_operations();
    }

    /// Logs how the workers are.
    pub fn log_workers(&self, cx: &mut Context<'_>) {
        self.workers.log_status(cx);
    }

    /// Lists the tasks in so many slots from this one on. Returns whether more follow.
    pub fn list(
        &self,
        cx: &Context<'_>,
        places: &Places<'_>,
        from: u32,
        count: u32,
        rows: &mut Rows,
    ) -> bool {
        let next = from.saturating_add(count);
        for id in (from..next).filter_map(|slot| self.table.by_slot(slot)) {
            self.list_task(cx, places, id, rows);
        }
        (next as usize) < self.table.slots()
    }

    fn list_task(&self, cx: &Context<'_>, places: &Places<'_>, id: TaskId, rows: &mut Rows) {
        let Some(task) = self.table.get(id) else { return };
        let (state, due) = match task.state {
            State::Waiting(timer) => ("waiting", cx.timers.deadline(timer)),
            State::Ready(_) => ("ready", None),
            State::Running => ("running", None),
            State::Ended => return,
        };
        let subject = &task.subject;
        let path = places.path(subject.node, &subject.name);
        rows.push(
            "tasks",
            &[
                ("id", task.id.into()),
                ("scheduler", (&cx.config.schedulers[usize::from(task.sched)].name).into()),
                ("state", state.into()),
                ("due_ms", due.map_or(Value::None, |due| due.saturating_sub(cx.now).into())),
                ("event", subject.kind.name().into()),
                ("path", (&path).into()),
            ],
        );
    }

    fn find(&self, number: u64) -> Result<(TaskId, State), String> {
        let id = self.table.select(&|task| task.id == number && task.state != State::Ended).pop();
        let state = id.and_then(|id| self.table.get(id)).map(|task| task.state);
        id.zip(state).ok_or_else(|| format!("there is no task {number}"))
    }

    /// A client does not want to wait for a task's delay.
    ///
    /// # Errors
    ///
    /// Why the task cannot run now, in words.
    pub fn run_now(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        number: u64,
    ) -> Result<(), String> {
        match self.find(number)? {
            (id, State::Waiting(_)) => {
                let mut step = self.step(cx, places);
                step.log(Level::Info, id, "task runs now, on request", &[]);
                step.make_ready(id);
                Ok(())
            }
            (_, State::Ready(_)) => Ok(()),
            (_, State::Running | State::Ended) => Err(format!("task {number} is running")),
        }
    }

    /// A client does not want a task. One that runs is terminated as if it had timed out, and does
    /// not run again for the events that came meanwhile.
    ///
    /// # Errors
    ///
    /// Why the task cannot be cancelled, in words.
    pub fn cancel_now(
        &mut self,
        cx: &mut Context<'_>,
        places: &mut Places<'_>,
        number: u64,
    ) -> Result<(), String> {
        let (id, _) = self.find(number)?;
        let mut step = self.step(cx, places);
        if !step.table.has_begun(id) {
            step.remove(id, Level::Info, "task cancelled, on request");
            return Ok(());
        }
        step.drop_rerun(id);
        if step.table.run(id).is_some_and(|run| run.terminated) {
            return Err(format!("task {number} was told to end already"));
        }
        step.log(Level::Warning, id, "task terminated, on request", &[]);
        if !step.is_operation(id) {
            self.terminate(cx, places, id);
            return Ok(());
        }
        if let Some(run) = self.table.run_mut(id) {
            run.terminated = true;
        }
        cx.effects.push(Effect::Abort(id));
        Ok(())
    }
}
