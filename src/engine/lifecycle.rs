//! Reload and shutdown: what concerns both rooms at once.

use super::Engine;
use super::context::{Phase, Timer};
use super::message::Effect;
use super::tasks::KILL_AFTER_MS;
use super::watcher::Step;
use crate::config::Config;
use crate::record::{Level, Record};

impl Engine {
    /// A new configuration: schedulers of the same name keep their tasks, directories that are
    /// still covered keep their watches.
    pub(super) fn reload(&mut self, config: Config, effects: &mut Vec<Effect>) {
        let Self { shared, watcher, tasks } = self;
        if shared.phase != Phase::Running {
            let text = "not reloading: shutdown is in progress";
            return shared.context(effects).log_daemon(Level::Warning, text, |record| record);
        }
        watcher.cover_all(&mut Step { cx: &mut shared.context(effects), audience: tasks });
        shared.levels = config.log.clone();
        tasks.drop_removed(&mut shared.context(effects), &mut watcher.places(), &config);
        let old_config = std::mem::replace(&mut shared.config, config);
        let mut cx = shared.context(effects);
        tasks.reload(&mut cx, &old_config);
        watcher.reload(&mut Step { cx: &mut cx, audience: tasks }, &old_config);
        cx.log_daemon(Level::Info, "configuration reloaded", |record| record);
    }

    /// The daemon is to end. Each further time it is asked, it waits less.
    pub(super) fn stop(&mut self, reason: &'static str, effects: &mut Vec<Effect>) {
        let timeout_ms = self.shared.config.daemon.shutdown_timeout_ms;
        match self.shared.phase {
            Phase::Running => {
                self.shared.phase = Phase::Stopping;
                let unfinished = self.tasks.unfinished();
                let mut cx = self.shared.context(effects);
                cx.timer_in(timeout_ms, Timer::Shutdown);
                cx.log_daemon(Level::Info, "shutdown", |record: Record| {
                    record
                        .field("reason", reason)
                        .field("tasks", unfinished.to_string())
                        .field("timeout", (timeout_ms / 1000).to_string())
                });
            }
            Phase::Stopping => {
                let text = "shutdown without waiting";
                let mut cx = self.shared.context(effects);
                cx.log_daemon(Level::Warning, text, |record| record.field("reason", reason));
                self.cancel_all(effects);
            }
            Phase::Terminating | Phase::Killing => self.kill_all(effects),
        }
    }

    /// The time of this stage of the shutdown is over.
    pub(super) fn on_shutdown_timer(&mut self, effects: &mut Vec<Effect>) {
        match self.shared.phase {
            Phase::Running => {}
            Phase::Stopping => self.cancel_all(effects),
            Phase::Terminating => self.kill_all(effects),
            // A child that survives SIGKILL hangs in the kernel.
            Phase::Killing => effects.push(Effect::Exit),
        }
    }

    /// Waiting tasks are cancelled, running ones told to end.
    fn cancel_all(&mut self, effects: &mut Vec<Effect>) {
        self.shared.phase = Phase::Terminating;
        let mut cx = self.shared.context(effects);
        self.tasks.cancel_all(&mut cx, &mut self.watcher.places());
        cx.timer_in(KILL_AFTER_MS, Timer::Shutdown);
    }

    fn kill_all(&mut self, effects: &mut Vec<Effect>) {
        self.shared.phase = Phase::Killing;
        let mut cx = self.shared.context(effects);
        self.tasks.kill_all(&mut cx, &mut self.watcher.places());
        cx.timer_in(KILL_AFTER_MS, Timer::Shutdown);
    }

    /// The process ends when nothing is left to do.
    pub(super) fn exit_when_done(&mut self, effects: &mut Vec<Effect>) {
        let stopping = self.shared.phase != Phase::Running;
        if stopping && self.tasks.unfinished() == 0 {
            let ended = self.tasks.close_workers(&mut self.shared.context(effects));
            if ended {
                effects.push(Effect::Exit);
            }
        }
    }
}
