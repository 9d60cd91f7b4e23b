//! Start, reload, shutdown, status.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::cover::{CoverId, Role};
use super::tasks::State;
use super::tree::ROOT;
use super::{Engine, Phase, Timer};
use crate::config::Config;
use crate::record::{Level, Record};

use super::arrivals::News;
use super::message::{Effect, Signal};
use super::scheduling::KILL_AFTER_MS;

impl Engine {
    pub(super) fn start(&mut self, wall_ns: i64) {
        self.emptied_at_ns = wall_ns;
        self.arm_rescans();
        self.start_workers();
        self.seek_all();
    }

    /// Prepares what belongs to the configured schedulers.
    pub(super) fn adopt_schedulers(&mut self) {
        let schedulers = &self.config.schedulers;
        self.runs = schedulers.iter().map(|one| one.action.run().cloned().map(Arc::new)).collect();
        self.tasks.resize(schedulers.len());
    }

    /// A new configuration: schedulers of the same name keep their tasks, directories that are
    /// still covered keep their watches.
    pub(super) fn reload(&mut self, config: Config) {
        if self.phase != Phase::Running {
            self.log_daemon(Level::Warning, "not reloading: shutdown is in progress");
            return;
        }
        self.levels = config.log.clone();
        let old_config = std::mem::replace(&mut self.config, Rc::new(config));
        self.move_tasks(&old_config);
        self.adopt_schedulers();
        self.move_workers(&old_config);
        self.move_watches(&old_config);
        self.arm_rescans();
        self.log_daemon(Level::Info, "configuration reloaded");
    }

    fn move_tasks(&mut self, old_config: &Rc<Config>) {
        let place = |name: &str| self.config.schedulers.iter().position(|scheduler| scheduler.name == name);
        let new_of: Vec<Option<u16>> = old_config
            .schedulers
            .iter()
            .map(|scheduler| place(&scheduler.name).and_then(|index| u16::try_from(index).ok()))
            .collect();
        let new_config = std::mem::replace(&mut self.config, Rc::clone(old_config));
        for job in self.tasks.select(&|task| new_of[usize::from(task.sched)].is_none()) {
            self.drop_task(job);
        }
        self.config = new_config;
        self.tasks.renumber(self.config.schedulers.len(), |sched| new_of[usize::from(sched)]);
    }

    /// A task whose scheduler is gone. A child that runs is left to end by itself.
    fn drop_task(&mut self, job: super::JobId) {
        let running = self.tasks.get(job).is_some_and(|task| task.state == State::Running);
        let message = if running {
            "task left to itself: its scheduler was removed"
        } else {
            "task cancelled: its scheduler was removed"
        };
        if running && self.tasks.get(job).is_some_and(|task| self.is_operation(task)) {
            // What was not begun is not begun; the end of what was is still logged.
            self.out.push(Effect::Withdraw(job));
            self.orphans += 1;
        }
        self.drop_run(job);
        self.remove_task(job, Level::Warning, message);
    }

    /// Gives every directory its new cover, from `/` down. Watches stay where they are: only
    /// directories to which something else matters now are visited again, and those that no watch
    /// covers any more are given up.
    fn move_watches(&mut self, old_config: &Config) {
        let old_covers = std::mem::take(&mut self.covers);
        let new_of = |watch: u16| {
            let name = &old_config.watches[usize::from(watch)].name;
            (0..).zip(&self.config.watches).find(|(_, watch)| watch.name == *name).map(|(number, _)| number)
        };
        self.joinings.renumber(&new_of);
        let nodes = self.tree.subtree(ROOT);
        let old: Vec<CoverId> = nodes.iter().map(|node| self.tree.cover(*node)).collect();
        for &node in &nodes {
            let cover = self.cover_anew(node);
            self.tree.set_cover(node, cover);
        }
        for &node in &nodes {
            self.note_found(node);
        }
        let mut meanings = (HashMap::new(), HashMap::new());
        for (&node, old) in nodes.iter().zip(old) {
            let new = self.tree.cover(node);
            if new == CoverId::NONE {
                if old != CoverId::NONE {
                    self.abandon(node, "no watch covers it any more");
                }
                continue;
            }
            let before = meanings.0.entry(old).or_insert_with(|| old_covers.meaning(old_config, old));
            let after = meanings.1.entry(new).or_insert_with(|| self.covers.meaning(&self.config, new));
            if before != after {
                self.push_visit(node, News::Existing);
            }
        }
    }

    pub(super) fn stop(&mut self, reason: &'static str) {
        let name = self.config.daemon.logname.clone();
        match self.phase {
            Phase::Running => {
                self.phase = Phase::Stopping;
                let timeout = self.config.daemon.shutdown_timeout_ms;
                self.wheel.insert(self.now + timeout, Timer::Shutdown);
                self.log(Level::Info, &name, |engine| {
                    let count = engine.unfinished();
                    Record::new(Level::Info, &name, "shutdown")
                        .field("reason", reason)
                        .field("tasks", count.to_string())
                        .field("timeout", (timeout / 1000).to_string())
                });
            }
            Phase::Stopping => {
                self.log(Level::Warning, &name, |_| {
                    Record::new(Level::Warning, &name, "shutdown without waiting").field("reason", reason)
                });
                self.cancel_all();
            }
            Phase::Terminating | Phase::Killing => self.kill_all(),
        }
    }

    pub(super) fn on_shutdown_timeout(&mut self) {
        match self.phase {
            Phase::Running => {}
            Phase::Stopping => self.cancel_all(),
            Phase::Terminating => self.kill_all(),
            // A child that survives SIGKILL hangs in the kernel.
            Phase::Killing => self.out.push(Effect::Exit),
        }
    }

    /// Waiting tasks are cancelled, running ones told to end.
    fn cancel_all(&mut self) {
        self.phase = Phase::Terminating;
        for job in self.tasks.select(&super::tasks::Task::waits) {
            self.remove_task(job, Level::Warning, "task cancelled: shutdown");
        }
        for job in self.tasks.select(&|task| task.state == State::Running) {
            self.log_task(Level::Warning, job, "task terminated: shutdown", &[]);
            self.end_run(job, Signal::Terminate);
        }
        self.terminate_workers();
        self.wheel.insert(self.now + KILL_AFTER_MS, Timer::Shutdown);
    }

    fn kill_all(&mut self) {
        self.phase = Phase::Killing;
        for job in self.tasks.select(&|task| task.state == State::Running) {
            self.log_task(Level::Error, job, "task killed: shutdown", &[]);
            self.end_run(job, Signal::Kill);
        }
        self.kill_workers();
        self.wheel.insert(self.now + KILL_AFTER_MS, Timer::Shutdown);
    }

    fn unfinished(&self) -> usize {
        self.tasks.waiting() + self.tasks.ready() + self.tasks.running() + self.orphans
    }

    pub(super) fn exit_when_done(&mut self) {
        if self.phase != Phase::Running && self.unfinished() == 0 && self.close_workers() {
            self.out.push(Effect::Exit);
        }
    }

    pub(super) fn log_status(&mut self) {
        let name = self.config.daemon.logname.clone();
        let config = Rc::clone(&self.config);
        let record = Record::asked_for(&name, "status")
            .field("directories", self.tree.watched().to_string())
            .field("to_visit", self.arrivals.len().to_string())
            .field("waiting", self.tasks.waiting().to_string())
            .field("ready", self.tasks.ready().to_string())
            .field("running", self.tasks.running().to_string())
            .field("done", self.counters.done.to_string())
            .field("failed", self.counters.failed.to_string())
            .field("events", self.counters.events.to_string())
            .field("made_up", self.counters.made_up.to_string())
            .field("overflows", self.counters.overflows.to_string());
        self.out.push(Effect::Log(record));
        self.measure_operations();
        let counts = self.directories_by_watch();
        for (watch, count) in config.watches.iter().zip(counts) {
            let record = Record::asked_for(&watch.logname, "status of watch")
                .field("watch", &watch.name)
                .field("directories", count.to_string());
            self.out.push(Effect::Log(record));
        }
        self.log_workers_status();
    }

    fn directories_by_watch(&self) -> Vec<usize> {
        let mut counts = vec![0; self.config.watches.len()];
        for node in self.tree.subtree(ROOT) {
            if self.tree.wd(node).is_none() {
                continue;
            }
            for member in self.covers.members(self.tree.cover(node)) {
                if member.role == Role::Root || member.role == Role::Below {
                    counts[usize::from(member.watch)] += 1;
                }
            }
        }
        counts
    }
}
