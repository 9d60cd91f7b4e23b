//! File operations as the tasks see them: when one starts, how far it is, how it ended. What is done on
//! disk is the shell's.

use std::sync::Arc;

use super::ending::Moment;
use super::rules::{destination, rule_for};
use super::step::{TaskStep, seconds};
use super::table::State;
use crate::config::{Action, FileAction, Rule};
use crate::engine::context::{Context, Timer};
use crate::engine::ids::TaskId;
use crate::engine::message::{Effect, Operation, OperationDone, OperationEnd};
use crate::record::{Level, Record};
use crate::types::Millis;

/// Operations that the shell has at once: enough to keep its threads busy without waking the loop for
/// each, few enough that the others can still be re-scheduled and cancelled here.
pub(super) const OPERATIONS_MAX: usize = 64;

/// Between two lines of the log about a long operation.
const PROGRESS_MS: Millis = 10_000;

impl TaskStep<'_, '_, '_> {
    /// There is room for a files scheduler's task.
    pub fn start_operation(&mut self, id: TaskId, rules: &[Arc<Rule>], position: u64) {
        let now = Moment { mark: position, position };
        let Some(task) = self.table.get(id) else { return };
        let is_dir = task.subject.is_dir;
        let special = is_dir || self.scheduler_of(task).special;
        let source = self.places.trusted(task.subject.node, &task.subject.name);
        let Some(rule) = rule_for(rules, &source.path) else {
            // Its directory was renamed since the event.
            self.log(Level::Info, id, "no rule takes the path any more", &[]);
            return self.end(id, now);
        };
        let rule = Arc::clone(rule);
        let target = match destination(&rule, &source) {
            Ok(target) => target,
            Err(why) => {
                self.cx.counters.failed += 1;
                let more = [
                    ("operation", rule.action.verb().into()),
                    ("rule", rule.name.clone().into_bytes()),
                    ("error", why.into_bytes()),
                ];
                self.explain_start(id);
                self.log(Level::Error, id, "task failed", &more);
                return self.end(id, now);
            }
        };
        let operation = Operation { task: id, rule, source, is_dir, special, target };
        if self.cx.options.dry_run {
            self.explain_start(id);
            self.log(Level::Info, id, "dry run", &described(&operation, true));
            return self.end(id, now);
        }
        self.log_start(id);
        self.note_start(id);
        if self.wants(Level::Debug, id) {
            self.log(Level::Debug, id, "operation", &described(&operation, true));
            self.set_run_timer(id, PROGRESS_MS, Timer::Progress(id.slot));
        }
        self.cx.effects.push(Effect::Operate(Box::new(operation)));
    }

    /// A long operation is to say how far it is, for the log.
    pub fn on_progress_timer(&mut self, slot: u32) {
        let Some(id) = self.table.by_slot(slot) else { return };
        if let Some(run) = self.table.run_mut(id) {
            run.timer = None;
            self.cx.effects.push(Effect::Measure { task: id, asked_for: false });
            self.set_run_timer(id, PROGRESS_MS, Timer::Progress(slot));
        }
    }

    /// All operations are to say how far they are, for the status.
    pub fn measure_operations(&mut self) {
        let config = self.cx.config;
        let operates =
            |sched: u16| matches!(config.schedulers[usize::from(sched)].action, Action::Files { .. });
        for id in self.table.select(&|task| task.state == State::Running && operates(task.sched)) {
            self.cx.effects.push(Effect::Measure { task: id, asked_for: true });
        }
    }

    /// An operation is so far, in bytes.
    pub fn on_measured(&mut self, id: TaskId, done: u64, total: u64, asked_for: bool) {
        let Some(task) = self.table.get(id) else { return };
        let name = &self.cx.config.schedulers[usize::from(task.sched)].logname;
        if !asked_for && !self.cx.wants(Level::Debug, name) {
            return;
        }
        let record = if asked_for {
            Record::asked_for(name, "status of task")
        } else {
            Record::new(Level::Debug, name, "task is running")
        };
        let record = record
            .field("path", self.places.path(task.subject.node, &task.subject.name))
            .field("task_id", task.id.to_string())
            .field("bytes", done.to_string())
            .field("total", total.to_string());
        self.cx.effects.push(Effect::Log(record));
    }

    /// An operation of a task in the table has ended, or was taken back.
    pub fn on_operated(&mut self, operation: &Operation, end: OperationEnd, moment: Moment) {
        let id = operation.task;
        self.cancel_run_timer(id);
        if end == OperationEnd::Withdrawn {
            return self.wait_anew(id);
        }
        self.skip_events(id);
        match end {
            OperationEnd::Withdrawn => {}
            OperationEnd::LeftOut(kind) => {
                self.leave_out(id, kind.special().unwrap_or_default());
            }
            OperationEnd::Done(done) => self.log_done(operation, done),
            OperationEnd::Failed(error) | OperationEnd::Aborted(error) => {
                self.cx.counters.failed += 1;
                let mut more = described(operation, false);
                more.push(("error", error.into_bytes()));
                self.log(Level::Error, id, "task failed", &more);
            }
        }
        self.end(id, moment);
    }

    fn log_done(&mut self, operation: &Operation, done: OperationDone) {
        self.cx.counters.done += 1;
        let id = operation.task;
        let level = if done.remarks.is_empty() { Level::Info } else { Level::Warning };
        if !self.wants(level, id) {
            return;
        }
        let mut more = described(operation, false);
        if done.bytes > 0 {
            more.push(("bytes", done.bytes.to_string().into_bytes()));
        }
        if done.entries > 1 {
            more.push(("entries", done.entries.to_string().into_bytes()));
        }
        more.push(("seconds", self.run_seconds(id).unwrap_or_else(|| seconds(0))));
        more.extend(done.remarks.into_iter().map(|remark| ("remark", remark.into_bytes())));
        self.log(level, id, "task finished", &more);
    }
}

/// Logs the end of an operation whose scheduler was removed meanwhile.
pub(super) fn log_orphan(cx: &mut Context<'_>, operation: &Operation, end: OperationEnd) {
    let (level, message, text) = match end {
        OperationEnd::Withdrawn => (Level::Warning, "task cancelled: its scheduler was removed", None),
        OperationEnd::LeftOut(_) => return,
        OperationEnd::Done(_) => (Level::Info, "task finished", None),
        OperationEnd::Failed(text) | OperationEnd::Aborted(text) => (Level::Error, "task failed", Some(text)),
    };
    cx.log_daemon(level, message, |record| {
        let record = record
            .field("path", &operation.source.path)
            .field("task_id", operation.task.number().to_string());
        let mut record = text.map_or(record.clone(), |text| record.field("error", text));
        record.fields.extend(described(operation, false));
        record
    });
}

/// An operation for the log; with everything it would set, if `whole`.
fn described(operation: &Operation, whole: bool) -> Vec<(&'static str, Vec<u8>)> {
    let rule = &operation.rule;
    let mut fields = vec![("operation", rule.action.verb().into()), ("rule", rule.name.clone().into_bytes())];
    if let Some(target) = &operation.target {
        fields.push(("destination", target.path.clone()));
    }
    if whole {
        let octal = |mode: u32| format!("{mode:04o}").into_bytes();
        let number = |id: u32| id.to_string().into_bytes();
        fields.extend(rule.filemode.map(|mode| ("filemode", octal(mode))));
        fields.extend(rule.dirmode.map(|mode| ("dirmode", octal(mode))));
        fields.extend(rule.uid.map(|uid| ("uid", number(uid))));
        fields.extend(rule.gid.map(|gid| ("gid", number(gid))));
        let flags = [
            ("auto_create", rule.auto_create),
            ("override", rule.replace),
            ("rec", rule.action == FileAction::Delete && rule.rec),
        ];
        fields.extend(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, b"yes".to_vec())));
    }
    fields
}
