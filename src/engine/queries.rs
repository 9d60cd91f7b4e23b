//! Questions from outside, and what is asked for: one task now, one task no more, other log levels.
//!
//! Replies come in pieces of bounded size, so that neither many tasks nor a slow client cost more than a
//! piece at a time. A task or watch path that is there all the while is listed once; what comes and goes
//! meanwhile may be listed or not.

use super::Engine;
use super::context::{Counters, Phase};
use super::message::{Effect, Question, Reply, ReplyEnd};
use crate::record::{Level, LogLevels, LogName, Record};
use crate::rows::Rows;

/// Slots of the table of tasks, or watch paths, in one piece: some 50 KiB, a millisecond at most.
const PIECE: u32 = 512;

/// Watch paths that are named in the status because something is the matter with them; all are in
/// the list of watches.
const STATUS_PATHS_MAX: usize = 100;

impl Engine {
    /// Replies to a client's question.
    pub(super) fn on_ask(&mut self, client: u32, question: &Question, effects: &mut Vec<Effect>) {
        let mut rows = Rows::default();
        let end = match question {
            Question::Status => {
                self.list_status(&mut rows);
                ReplyEnd::Done
            }
            Question::Tasks { from } => {
                let (cx, places) = (self.shared.context(effects), self.watcher.places());
                let more = self.tasks.list(&cx, &places, *from, PIECE, &mut rows);
                more_or_done(more, Question::Tasks { from: from.saturating_add(PIECE) })
            }
            Question::Watches { from } => {
                let more = self.watcher.list_paths(&self.shared.config, *from, PIECE, &mut rows);
                more_or_done(more, Question::Watches { from: from.saturating_add(PIECE) })
            }
            Question::Run(number) => {
                let (mut cx, mut places) = (self.shared.context(effects), self.watcher.places());
                done_or_refused(self.tasks.run_now(&mut cx, &mut places, *number))
            }
            Question::Cancel(number) => {
                let (mut cx, mut places) = (self.shared.context(effects), self.watcher.places());
                done_or_refused(self.tasks.cancel_now(&mut cx, &mut places, *number))
            }
            Question::LogLevel { name, level } => {
                done_or_refused(self.set_level(name.as_ref(), *level, effects))
            }
        };
        effects.push(Effect::Reply(Reply { client, rows, end }));
    }

    fn list_status(&self, rows: &mut Rows) {
        let summary = self.watcher.summary(&self.shared.config, STATUS_PATHS_MAX);
        let state = if self.shared.phase != Phase::Running {
            "stopping"
        } else if self.watcher.is_ready() {
            "ready"
        } else {
            "starting"
        };
        let [waiting, ready, running] = self.tasks.counts();
        let Counters { events, synthesized, overflows, done, failed } = self.shared.counters;
        rows.push(
            "status",
            &[
                ("state", state.into()),
                ("watches_armed", summary.armed.into()),
                ("watches_waiting", summary.waiting.into()),
                ("watches_failed", summary.failed.into()),
                ("directories", self.watcher.directories().into()),
                ("directories_to_visit", self.watcher.to_visit().into()),
                ("tasks_waiting", waiting.into()),
                ("tasks_ready", ready.into()),
                ("tasks_running", running.into()),
                ("tasks_done", done.into()),
                ("tasks_failed", failed.into()),
                ("events_read", events.into()),
                ("events_synthesized", synthesized.into()),
                ("overflows", overflows.into()),
            ],
        );
        rows.append(summary.troubled);
    }

    /// Logs how things are.
    pub(super) fn log_status(&mut self, effects: &mut Vec<Effect>) {
        let config = &self.shared.config;
        let [waiting, ready, running] = self.tasks.counts();
        let Counters { events, synthesized, overflows, done, failed } = self.shared.counters;
        let record = Record::asked_for(&config.daemon.logname, "status")
            .field("directories", self.watcher.directories().to_string())
            .field("to_visit", self.watcher.to_visit().to_string())
            .field("waiting", waiting.to_string())
            .field("ready", ready.to_string())
            .field("running", running.to_string())
            .field("done", done.to_string())
            .field("failed", failed.to_string())
            .field("events", events.to_string())
            .field("synthesized", synthesized.to_string())
            .field("overflows", overflows.to_string());
        effects.push(Effect::Log(record));
        let counts = self.watcher.directories_by_watch(config);
        let watches = config.watches.iter().zip(counts).map(|(watch, count)| {
            let record = Record::asked_for(&watch.logname, "status of watch");
            record.field("watch", &watch.name).field("directories", count.to_string())
        });
        let watches: Vec<Record> = watches.collect();
        let mut cx = self.shared.context(effects);
        self.tasks.log_operations(&mut cx, &mut self.watcher.places());
        cx.effects.extend(watches.into_iter().map(Effect::Log));
        self.tasks.log_workers(&mut cx);
    }

    fn set_level(
        &mut self,
        name: Option<&LogName>,
        level: Level,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let config = &self.shared.config;
        let LogLevels { default, by_name } = &mut self.shared.levels;
        match name {
            None => *default = level,
            Some(name) => {
                let known = *name == config.daemon.logname
                    || config.schedulers.iter().any(|scheduler| scheduler.logname == *name)
                    || config.watches.iter().any(|watch| watch.logname == *name);
                if !known {
                    return Err(format!("nothing logs under the name {name}"));
                }
                by_name.retain(|(known, _)| known != name);
                by_name.push((name.clone(), level));
            }
        }
        effects.push(Effect::Levels(self.shared.levels.clone()));
        let what = name.map_or(String::new(), |name| format!(" of {name}"));
        let text = format!("log level{what} is {level} until the next reload");
        self.shared.context(effects).log_daemon(Level::Info, &text, |record| record);
        Ok(())
    }
}

fn more_or_done(more: bool, next: Question) -> ReplyEnd {
    if more { ReplyEnd::More(next) } else { ReplyEnd::Done }
}

fn done_or_refused(outcome: Result<(), String>) -> ReplyEnd {
    outcome.map_or_else(ReplyEnd::Refused, |()| ReplyEnd::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::inline::{Inline, from_command_line};
    use crate::engine::ids::TaskId;
    use crate::engine::message::Seen;
    use crate::engine::{Input, KEPT_MAX, Options, SIFT_AT};
    use crate::event::{EventKind, HEADER_SIZE, RawEvent};
    use crate::rows::{Row, Value};
    use crate::types::Wd;

    /// An engine that watches `/`, for which events schedule tasks in an hour.
    fn watching() -> Engine {
        let inline = Inline {
            watch: vec![b"/".to_vec()],
            delay: Some(b"1h".to_vec()),
            command: b"true".to_vec(),
            ..Inline::default()
        };
        let mut config = from_command_line(&inline).unwrap().config;
        // So that no look has to be answered.
        config.schedulers[0].special = true;
        let mut engine = Engine::new(
            config,
            Options {
                dry_run: false,
                default_max_jobs: 4,
                sift_at: SIFT_AT,
                kept_max: KEPT_MAX,
                secret: [0; 2],
            },
            0,
        );
        let mut effects = Vec::new();
        engine.step(0, Input::Start { wall_ns: 0 }, &mut effects);
        engine.step(0, Input::Spare, &mut effects);
        let asked = effects.iter().find_map(|effect| match effect {
            Effect::Scan(scan) => Some(scan.items[0].node),
            _ => None,
        });
        let node = asked.unwrap();
        let result = Ok(Seen { wd: Wd(1), entries: Vec::new(), remote: None });
        engine.step(0, Input::Scanned { node, result, before: 0, queued: 0 }, &mut effects);
        engine
    }

    fn write(engine: &mut Engine, name: &[u8]) {
        let size = HEADER_SIZE + 16;
        let event = RawEvent { wd: Wd(1), mask: EventKind::CloseWrite.bit(), cookie: 0, name };
        let mut effects = Vec::new();
        engine.step(1, Input::Filled { bytes: size, emptied: true, wall_ns: 0 }, &mut effects);
        engine.step(1, Input::Event { event, size }, &mut effects);
        engine.step(1, Input::Drained, &mut effects);
    }

    fn ask(engine: &mut Engine, question: Question) -> (Vec<u8>, ReplyEnd) {
        let mut effects = Vec::new();
        engine.step(2, Input::Ask { client: 7, question }, &mut effects);
        let reply = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(reply) => Some(reply),
            _ => None,
        });
        let Reply { client, rows, end } = reply.unwrap();
        assert_eq!(client, 7);
        (rows.into_bytes(), end)
    }

    fn numbers(rows: &[u8], key: &str) -> Vec<u64> {
        let lines = rows.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let number = |line| match Row::parse(line).unwrap().get(key) {
            Some(Value::Number(number)) => *number,
            other => panic!("{other:?}"),
        };
        lines.map(number).collect()
    }

    #[test]
    fn a_long_list_is_told_in_pieces_each_task_once() {
        const TASKS: u64 = 3 * PIECE as u64 + 1;
        let mut engine = watching();
        (0..TASKS).for_each(|number| write(&mut engine, number.to_string().as_bytes()));
        let mut told = Vec::new();
        let mut question = Question::Tasks { from: 0 };
        loop {
            let (rows, end) = ask(&mut engine, question);
            let piece = numbers(&rows, "id");
            assert!(piece.len() <= PIECE as usize);
            told.extend(piece);
            match end {
                ReplyEnd::More(next) => question = next,
                end => break assert_eq!(end, ReplyEnd::Done),
            }
            if told.len() == PIECE as usize {
                // Meanwhile one that was told goes, and one that was not; one comes.
                assert_eq!(ask(&mut engine, Question::Cancel(1)).1, ReplyEnd::Done);
                assert_eq!(ask(&mut engine, Question::Cancel(TASKS - 1)).1, ReplyEnd::Done);
                write(&mut engine, b"new");
            }
        }
        told.retain(|id| *id <= TASKS);
        let stayed = (1..=TASKS).filter(|id| *id != TASKS - 1);
        assert_eq!(told, stayed.collect::<Vec<_>>());
    }

    #[test]
    fn tasks_are_run_and_cancelled_by_their_id() {
        let mut engine = watching();
        write(&mut engine, b"a");
        write(&mut engine, b"b");
        let mut effects = Vec::new();
        engine.step(3, Input::Ask { client: 0, question: Question::Run(2) }, &mut effects);
        let started = effects.iter().find_map(|effect| match effect {
            Effect::Start(child) => Some(child.task),
            _ => None,
        });
        assert_eq!(started.map(TaskId::number), Some(2));
        assert_eq!(engine.tasks.counts()[0], 1);
        // Its timer is gone: an hour later only the other one is due.
        effects.clear();
        engine.step(3_700_000, Input::Tick { queued: 0, wall_ns: 0 }, &mut effects);
        let starts = effects.iter().filter(|effect| matches!(effect, Effect::Start(_))).count();
        assert_eq!((starts, engine.tasks.counts()[2]), (1, 2));
        let refused = |why: &str| ReplyEnd::Refused(why.to_owned());
        assert_eq!(ask(&mut engine, Question::Run(2)).1, refused("task 2 is running"));
        assert_eq!(ask(&mut engine, Question::Run(3)).1, refused("there is no task 3"));
        assert_eq!(ask(&mut engine, Question::Run(0)).1, refused("there is no task 0"));
        // One that would run again will not once it is cancelled.
        write(&mut engine, b"b");
        assert_eq!(ask(&mut engine, Question::Cancel(2)).1, ReplyEnd::Done);
        assert_eq!(ask(&mut engine, Question::Cancel(2)).1, refused("task 2 was told to end already"));
        let status = crate::types::ExitStatus::Signaled(15);
        let task = started.unwrap();
        engine.step(3_700_001, Input::Ended { task, status, queued: 0 }, &mut effects);
        assert_eq!((engine.tasks.unfinished(), engine.tasks.counts()[0]), (1, 0));
        assert_eq!(ask(&mut engine, Question::Cancel(2)).1, refused("there is no task 2"));
    }
}
