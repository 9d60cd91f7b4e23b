//! File operations as the engine sees them: which rule takes a path, where that leads, what is told
//! of it. What is done on disk is the shell's.

use std::rc::Rc;
use std::sync::Arc;

use super::message::{Effect, Operation, OperationEnd, Place};
use super::scheduling::{SKIPPED, seconds};
use super::tasks::{JobId, State, Task};
use super::tree::NodeId;
use super::{Engine, Timer};
use crate::config::{Action, FileAction, Rule, WhileRunning};
use crate::quote::Quoted;
use crate::record::{Level, Record};
use crate::types::Millis;

/// Operations that the shell has at once: enough to keep its threads busy without waking the loop for
/// each, few enough that the others can still be re-scheduled and cancelled here.
pub(super) const OPERATIONS_MAX: usize = 64;

/// Between two lines of the log about a long operation.
const PROGRESS_MS: Millis = 10_000;

/// The first rule that matches a path.
#[must_use]
pub fn rule_for<'a>(rules: &'a [Arc<Rule>], path: &[u8]) -> Option<&'a Arc<Rule>> {
    rules.iter().find(|rule| rule.src.is_match(path))
}

/// Where a rule puts the source; `None` when it deletes.
///
/// # Errors
///
/// Why that is no place, in words.
pub fn destination(rule: &Rule, source: &Place) -> Result<Option<Place>, String> {
    let Some(dst) = &rule.dst else { return Ok(None) };
    let raw = dst.expand(&rule.src_anywhere, &source.path);
    let refuse = |why: &str| Err(format!("the destination {} {why}", Quoted(&raw)));
    if raw.is_empty() {
        return Err("the destination is empty".to_owned());
    }
    if !raw.starts_with(b"/") {
        return refuse("is not an absolute path");
    }
    if raw.ends_with(b"/") {
        return refuse("names no file: it ends in a slash");
    }
    let path = squeezed(&raw);
    if path.split(|&byte| byte == b'/').any(|name| name == b"." || name == b"..") {
        return refuse("holds a . or .. component");
    }
    if is_inside(&path, &source.path) {
        return refuse(if path == source.path { "is the source itself" } else { "is inside of the source" });
    }
    if is_inside(&source.path, &path) {
        return refuse("holds the source");
    }
    let root = &source.path[..source.trusted];
    let in_root = if is_inside(&path, root) { Some(root.len()) } else { None };
    let fixed = dst.fixed().map(|fixed| squeezed(fixed).len());
    match fixed.max(in_root) {
        Some(trusted) => Ok(Some(Place { path, trusted })),
        None => refuse("is outside of the watch path, and dst_re begins with no fixed directory"),
    }
}

/// Without empty components, as the kernel reads it.
fn squeezed(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        out.push(b'/');
        out.extend_from_slice(name);
    }
    out
}

/// Whether a path is another or below it. Everything is inside of `/`, which is written as nothing.
fn is_inside(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

impl Engine {
    /// Whether a scheduler has something to do for this path; a files scheduler needs a rule for it.
    pub(super) fn takes_path(&mut self, action: &Action, node: NodeId, name: &[u8]) -> bool {
        let Action::Files { rules } = action else { return true };
        let mut path = std::mem::take(&mut self.path);
        self.tree.path(node, name, &mut path);
        let rule = rule_for(rules, &path);
        let tried = rules.iter().take_while(|tried| rule.is_none_or(|rule| !Arc::ptr_eq(rule, tried)));
        for tried in tried {
            self.explain(|_| format!("rule {}: src_re does not match", tried.name));
        }
        self.explain(|_| match rule {
            Some(rule) => format!("rule {}: src_re matches", rule.name),
            None => "no rule takes the path".to_owned(),
        });
        self.path = path;
        rule.is_some()
    }

    /// Whether the task's action is a file operation.
    pub(super) fn is_operation(&self, task: &Task) -> bool {
        matches!(self.config.schedulers[usize::from(task.sched)].action, Action::Files { .. })
    }

    pub(super) fn operations_running(&self) -> usize {
        let schedulers = self.config.schedulers.iter().enumerate();
        let files = schedulers.filter(|(_, one)| matches!(one.action, Action::Files { .. }));
        files.map(|(index, _)| self.tasks.running_of(index)).sum()
    }

    /// A place for the shell: which part of the path may lead through symbolic links is the same as
    /// when the directory was looked for.
    fn place(&self, node: NodeId, name: &[u8]) -> Place {
        let path = self.tree.path_of(node, name);
        // The root is written as nothing.
        let trusted = self.trusted_len(node);
        Place { trusted: if trusted == 1 { 0 } else { trusted }, path }
    }

    /// A free place for a files scheduler's task.
    pub(super) fn begin_operation(&mut self, job: JobId, rules: &[Arc<Rule>]) {
        let Some(task) = self.tasks.get(job) else { return };
        let is_dir = task.subject.is_dir;
        let source = self.place(task.subject.node, &task.subject.name);
        let Some(rule) = rule_for(rules, &source.path) else {
            // Its directory was renamed since the event.
            self.log_task(Level::Info, job, "no rule takes the path any more", &[]);
            return self.end_task(job, self.position);
        };
        let rule = Arc::clone(rule);
        let target = match destination(&rule, &source) {
            Ok(target) => target,
            Err(why) => {
                self.counters.failed += 1;
                let more = [
                    ("operation", rule.action.verb().into()),
                    ("rule", rule.name.clone().into_bytes()),
                    ("error", why.into_bytes()),
                ];
                self.explain_begin(job);
                self.log_task(Level::Error, job, "task failed", &more);
                return self.end_task(job, self.position);
            }
        };
        let operation = Operation { id: job, rule, source, is_dir, target };
        if self.options.dry_run {
            let more = described(&operation, true);
            self.explain_begin(job);
            self.log_task(Level::Info, job, "dry run", &more);
            return self.end_task(job, self.position);
        }
        self.log_task(Level::Info, job, "start task", &[]);
        self.time_operation(job, &operation);
        self.out.push(Effect::Operate(Box::new(operation)));
    }

    /// Notes the beginning; and, for who wants to know, what exactly is done, and when to tell how far
    /// it is.
    fn time_operation(&mut self, job: JobId, operation: &Operation) {
        let now = self.now;
        if let Some(run) = self.tasks.run_mut(job) {
            run.started_at = now;
        }
        if self.wants_of_task(Level::Debug, job) {
            self.log_task(Level::Debug, job, "operation", &described(operation, true));
            let timer = self.wheel.insert(now + PROGRESS_MS, Timer::Progress(job.slot()));
            self.set_run_timer(job, timer);
        }
    }

    pub(super) fn on_progress_timer(&mut self, slot: u32) {
        let Some(job) = self.tasks.by_slot(slot) else { return };
        if let Some(run) = self.tasks.run_mut(job) {
            run.timer = None;
            self.out.push(Effect::Measure { job, asked_for: false });
            let timer = self.wheel.insert(self.now + PROGRESS_MS, Timer::Progress(slot));
            self.set_run_timer(job, timer);
        }
    }

    /// Asks how far all operations are, for the status.
    pub(super) fn measure_operations(&mut self) {
        let config = Rc::clone(&self.config);
        let operates = |task: &Task| {
            let scheduler = &config.schedulers[usize::from(task.sched)];
            task.state == State::Running && matches!(scheduler.action, Action::Files { .. })
        };
        for job in self.tasks.select(&operates) {
            self.out.push(Effect::Measure { job, asked_for: true });
        }
    }

    /// An operation is so far.
    pub(super) fn on_measured(&mut self, job: JobId, done: u64, total: u64, asked_for: bool) {
        let Some(task) = self.tasks.get(job) else { return };
        let name = self.config.schedulers[usize::from(task.sched)].logname.clone();
        if !asked_for && !self.wants(Level::Debug, &name) {
            return;
        }
        let record = if asked_for {
            Record::asked_for(&name, "status of task")
        } else {
            Record::new(Level::Debug, &name, "task is running")
        };
        let record = record
            .field("path", self.tree.path_of(task.subject.node, &task.subject.name))
            .field("task_id", task.id.to_string())
            .field("bytes", done.to_string())
            .field("total", total.to_string());
        self.out.push(Effect::Log(record));
    }

    /// An operation has ended, or was taken back.
    pub(super) fn on_operated(&mut self, operation: &Operation, end: OperationEnd, mark: u64) {
        let job = operation.id;
        let Some(started_at) = self.tasks.run_mut(job).map(|run| run.started_at) else {
            return self.on_orphan(operation, end);
        };
        self.cancel_run_timer(job);
        if end == OperationEnd::Withdrawn {
            return self.on_withdrawn(job);
        }
        self.skip_events(job);
        match end {
            OperationEnd::Withdrawn => {}
            OperationEnd::Done(done) => {
                self.counters.done += 1;
                let level = if done.remarks.is_empty() { Level::Info } else { Level::Warning };
                if self.wants_of_task(level, job) {
                    let mut more = described(operation, false);
                    if done.bytes > 0 {
                        more.push(("bytes", done.bytes.to_string().into_bytes()));
                    }
                    if done.entries > 1 {
                        more.push(("entries", done.entries.to_string().into_bytes()));
                    }
                    more.push(("seconds", seconds(self.now - started_at)));
                    more.extend(done.remarks.into_iter().map(|remark| ("remark", remark.into_bytes())));
                    self.log_task(level, job, "task finished", &more);
                }
            }
            OperationEnd::Failed(error) | OperationEnd::Aborted(error) => {
                self.counters.failed += 1;
                let mut more = described(operation, false);
                more.push(("error", error.into_bytes()));
                self.log_task(Level::Error, job, "task failed", &more);
            }
        }
        self.end_task(job, mark);
    }

    /// Its scheduler was removed meanwhile.
    fn on_orphan(&mut self, operation: &Operation, end: OperationEnd) {
        self.orphans = self.orphans.saturating_sub(1);
        let name = self.config.daemon.logname.clone();
        let (level, message, text) = match end {
            OperationEnd::Withdrawn => (Level::Warning, "task cancelled: its scheduler was removed", None),
            OperationEnd::Done(_) => (Level::Info, "task finished", None),
            OperationEnd::Failed(text) | OperationEnd::Aborted(text) => {
                (Level::Error, "task failed", Some(text))
            }
        };
        self.log(level, &name, |_| {
            let record = Record::new(level, &name, message)
                .field("path", &operation.source.path)
                .field("task_id", operation.id.task_id().to_string());
            let mut record = text.map_or(record.clone(), |text| record.field("error", text));
            record.fields.extend(described(operation, false));
            record
        });
    }

    /// Events came while it was carried out: with `while_running = skip` they do not count.
    fn skip_events(&mut self, job: JobId) {
        let Some(task) = self.tasks.get(job) else { return };
        if self.config.schedulers[usize::from(task.sched)].while_running == WhileRunning::Rerun {
            return;
        }
        if let Some((subject, _)) = self.tasks.run_mut(job).and_then(|run| run.rerun.take()) {
            self.tree.unpin(subject.node);
            self.log_task(Level::Warning, job, SKIPPED, &[]);
        }
    }

    /// It had not been begun: it waits anew for the event that came since, or was cancelled by it.
    fn on_withdrawn(&mut self, job: JobId) {
        let config = Rc::clone(&self.config);
        let Some((subject, event_at)) = self.tasks.run_mut(job).and_then(|run| run.rerun.take()) else {
            return self.remove_task(job, Level::Info, "task cancelled");
        };
        let Some(task) = self.tasks.get(job) else { return };
        let scheduler = &config.schedulers[usize::from(task.sched)];
        let mut due = event_at + scheduler.delay_ms;
        if scheduler.max_delay_ms > 0 {
            due = due.min(task.first_at + scheduler.max_delay_ms);
        }
        let node = subject.node;
        self.change_subject(job, subject);
        self.tree.unpin(node);
        let due = due.max(self.now);
        self.wait_until(job, due);
        self.log_task(Level::Info, job, "re-schedule task", &[("delay", seconds(due - self.now))]);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileAction;
    use crate::replacement::Replacement;
    use regex::bytes::Regex;

    fn rule(src: &str, dst: &str) -> Rule {
        let anywhere = Regex::new(&format!("(?s-u){src}")).unwrap();
        Rule {
            name: "r".into(),
            action: FileAction::Move,
            src: Regex::new(&format!(r"\A(?s-u:{src})")).unwrap(),
            dst: Some(Replacement::parse(dst.as_bytes(), &anywhere).unwrap()),
            src_anywhere: anywhere,
            auto_create: false,
            rec: false,
            replace: false,
            hardlinks: false,
            filemode: None,
            dirmode: None,
            uid: None,
            gid: None,
        }
    }

    fn check(src: &str, dst: &str, path: &[u8], expected: Result<(&[u8], usize), &str>) {
        let place = Place { path: path.to_vec(), trusted: b"/in".len() };
        let found = destination(&rule(src, dst), &place);
        let expected = expected.map(|(path, trusted)| Some(Place { path: path.to_vec(), trusted }));
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn a_destination_is_below_what_is_fixed() {
        check("^/in/(.*)$", r"/out/d/\1", b"/in/a/b", Ok((b"/out/d/a/b", 6)));
        check("^/in(/.*)$", r"/out\1", b"/in/a", Ok((b"/out/a", 0)));
        check("^/in/", "/out//", b"/in/a", Ok((b"/out/a", 4)));
        check("^(/in/.*)$", r"\1.done", b"/in/a", Ok((b"/in/a.done", 3)));
        check("^/in/(.*)$", r"/in/done/\1", b"/in/a\xff\n", Ok((b"/in/done/a\xff\n", 8)));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        check("^/in/(.*)$", r"\1", b"/in/", Err("the destination is empty"));
        check("^/in/(.*)$", r"\1", b"/in/x", Err(r#"the destination "x" is not an absolute path"#));
        check(
            "^/in/(.*)$",
            r"/o/",
            b"/in/x",
            Err(r#"the destination "/o/" names no file: it ends in a slash"#),
        );
        for (name, shown) in [("..", ".."), ("a/../../etc", "a/../../etc"), (".", ".")] {
            let expected = format!(r#"the destination "/o/{shown}" holds a . or .. component"#);
            check("^/in/x(.*)$", r"/o/\1", format!("/in/x{name}").as_bytes(), Err(&expected));
        }
        check("^/in/x$", "/in/x", b"/in/x", Err(r#"the destination "/in/x" is the source itself"#));
        check("^/in/x$", "/in/x/y", b"/in/x", Err(r#"the destination "/in/x/y" is inside of the source"#));
        check("^/in/x$", "/in", b"/in/x", Err(r#"the destination "/in" holds the source"#));
        let outside = "is outside of the watch path, and dst_re begins with no fixed directory";
        check("^/in(/.*)$", r"\1", b"/in/etc/x", Err(&format!(r#"the destination "/etc/x" {outside}"#)));
    }

    #[test]
    fn names_that_look_like_dots_are_names() {
        check("^/in/(.*)$", r"/o/\1", b"/in/..x", Ok((b"/o/..x", 2)));
        check("^/in/(.*)$", r"/o/\1", b"/in/x..", Ok((b"/o/x..", 2)));
        check("^/in/(.*)$", r"/o/\1", br"/in/\g<path>\1", Ok((br"/o/\g<path>\1", 2)));
    }
}
