//! Questions from outside, and what is asked for: one task now, one task no more, other log levels.
//!
//! Answers are told in pieces of bounded size, so that neither many tasks nor a slow listener cost
//! more than a piece at a time. A task or watch path that is there all the while is told once; what
//! comes and goes meanwhile may be told or not.

use std::rc::Rc;

use super::cover::Role;
use super::message::{Answer, AnswerEnd, Effect, Question, ScanError};
use super::tasks::{JobId, State};
use super::tree::{NodeId, ROOT};
use super::{Engine, Phase};
use crate::record::{Level, LogLevels, LogName};
use crate::rows::{Rows, Value};

/// Slots of the table of tasks, or watch paths, in one piece: some 50 KiB, a millisecond at most.
const PIECE: u32 = 512;

/// Watch paths that are named in the status because something is the matter with them; all are in
/// the list of watches.
const STATUS_PATHS_MAX: usize = 100;

/// Why a watch path is not watched as a directory, in the order of the paths' texts, which mean the
/// same in every watch and in the next configuration.
pub(super) type Troubles = Vec<(Vec<u8>, Trouble)>;

/// See [`Troubles`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is no directory: it is watched from the directory around it.
    SingleFile,
    /// It is not there.
    Missing,
    /// It is there, and cannot be watched.
    Failed(String),
}

/// How one path of one watch is.
#[derive(Clone, Debug, Default)]
struct PathState {
    /// Directories with a watch, the path itself and those below.
    watched: usize,
    /// Directories that should have one.
    unwatched: usize,
    /// The path itself is watched.
    armed: bool,
}

impl Engine {
    pub(super) fn on_ask(&mut self, client: u32, question: &Question) {
        let mut rows = Rows::default();
        let end = match question {
            Question::Status => {
                self.tell_status(&mut rows);
                AnswerEnd::Done
            }
            Question::Tasks { from } => self.tell_tasks(*from, &mut rows),
            Question::Watches { from } => self.tell_watches(*from, &mut rows),
            Question::Run(id) => done_or_refused(self.run_now(*id)),
            Question::Cancel(id) => done_or_refused(self.cancel_now(*id)),
            Question::LogLevel { name, level } => done_or_refused(self.set_level(name.as_ref(), *level)),
        };
        self.out.push(Effect::Answer(Answer { client, rows, end }));
    }

    fn tell_status(&self, rows: &mut Rows) {
        let states = self.path_states();
        let stages = states.iter().map(|(at, state)| self.stage(*at, state).0);
        let mut counts = [0_usize; 3];
        stages.clone().for_each(|stage| counts[stage as usize] += 1);
        let stopping = self.phase != Phase::Running;
        rows.push(
            "status",
            &[
                (
                    "state",
                    if stopping {
                        "stopping"
                    } else if self.ready {
                        "ready"
                    } else {
                        "starting"
                    }
                    .into(),
                ),
                ("watches_armed", counts[Stage::Armed as usize].into()),
                ("watches_waiting", counts[Stage::Waiting as usize].into()),
                ("watches_failed", counts[Stage::Failed as usize].into()),
                ("directories", self.tree.watched().into()),
                ("directories_to_visit", self.arrivals.len().into()),
                ("tasks_waiting", self.tasks.waiting().into()),
                ("tasks_ready", self.tasks.ready().into()),
                ("tasks_running", self.tasks.running().into()),
                ("tasks_done", self.counters.done.into()),
                ("tasks_failed", self.counters.failed.into()),
                ("events_read", self.counters.events.into()),
                ("events_made_up", self.counters.made_up.into()),
                ("overflows", self.counters.overflows.into()),
            ],
        );
        let troubled = states
            .iter()
            .zip(stages)
            .filter(|((_, state), stage)| *stage != Stage::Armed || state.unwatched > 0);
        for ((at, state), _) in troubled.take(STATUS_PATHS_MAX) {
            self.tell_path(*at, state, rows);
        }
    }

    fn tell_watches(&self, from: u32, rows: &mut Rows) -> AnswerEnd {
        let states = self.path_states();
        for (at, state) in states.iter().skip(from as usize).take(PIECE as usize) {
            self.tell_path(*at, state, rows);
        }
        let next = from.saturating_add(PIECE);
        let more = states.len() > next as usize;
        if more { AnswerEnd::More(Question::Watches { from: next }) } else { AnswerEnd::Done }
    }

    fn tell_path(&self, at: (u16, u16), state: &PathState, rows: &mut Rows) {
        let watch = &self.config.watches[usize::from(at.0)];
        let (stage, why) = self.stage(at, state);
        rows.push(
            "watches",
            &[
                ("name", (&watch.name).into()),
                ("path", (&watch.paths[usize::from(at.1)].text).into()),
                ("state", stage.word().into()),
                ("directories", state.watched.into()),
                ("unwatched", state.unwatched.into()),
                ("why", if why.is_empty() { Value::None } else { why.into() }),
            ],
        );
    }

    /// Every path of every watch, in the order of the configuration.
    fn path_states(&self) -> Vec<((u16, u16), PathState)> {
        let mut states = Vec::new();
        let mut first_of = Vec::new();
        for (watch, config) in (0_u16..).zip(&self.config.watches) {
            first_of.push(states.len());
            states
                .extend((0_u16..).zip(&config.paths).map(|(path, _)| ((watch, path), PathState::default())));
        }
        for node in self.tree.subtree(ROOT) {
            let watched = self.tree.wd(node).is_some();
            for member in self.covers.members(self.tree.cover(node)) {
                if !member.is_inside() {
                    continue;
                }
                let (_, state) = &mut states[first_of[usize::from(member.watch)] + usize::from(member.path)];
                state.armed |= watched && member.role == Role::Root;
                state.watched += usize::from(watched);
                state.unwatched += usize::from(!watched && self.tree.is_linked(node));
            }
        }
        states
    }

    fn stage(&self, (watch, path): (u16, u16), state: &PathState) -> (Stage, &str) {
        let text = &self.config.watches[usize::from(watch)].paths[usize::from(path)].text;
        let trouble = self.trouble_of(text).ok().map(|at| &self.troubles[at].1);
        match trouble {
            Some(Trouble::Failed(why)) => (if state.armed { Stage::Armed } else { Stage::Failed }, why),
            _ if state.armed && state.unwatched > 0 && self.starvation.is_some() => (Stage::Armed, NO_ROOM),
            _ if state.armed => (Stage::Armed, ""),
            Some(Trouble::SingleFile) => (Stage::Armed, "a single file"),
            _ if state.unwatched > 0 && self.starvation.is_some() => (Stage::Failed, NO_ROOM),
            Some(Trouble::Missing) => (Stage::Waiting, "it does not exist"),
            None => (Stage::Waiting, "nothing there was found yet"),
        }
    }

    /// Its place among the troubles, or where it would be.
    fn trouble_of(&self, text: &[u8]) -> Result<usize, usize> {
        self.troubles.binary_search_by(|(known, _)| known.as_slice().cmp(text))
    }

    /// A visit to a watch path, or to one on the way to it, did not end with a watch.
    pub(super) fn note_trouble(&mut self, node: NodeId, error: &ScanError) {
        let config = Rc::clone(&self.config);
        for member in self.covers.members(self.tree.cover(node)).to_vec() {
            let trouble = match error {
                _ if member.role == Role::Below => continue,
                ScanError::NotDirectory if member.role == Role::Root => Trouble::SingleFile,
                ScanError::NotFound | ScanError::NotDirectory => Trouble::Missing,
                ScanError::Denied => Trouble::Failed("no permission to read it".to_owned()),
                ScanError::Exhausted(text) | ScanError::Other(text) => Trouble::Failed(text.clone()),
                ScanError::Stale(_) | ScanError::NoSpace { .. } => continue,
            };
            let text = &member.pattern(&config).text;
            match self.trouble_of(text) {
                Ok(at) => self.troubles[at].1 = trouble,
                Err(at) => self.troubles.insert(at, (text.clone(), trouble)),
            }
        }
    }

    /// A watch path is watched.
    pub(super) fn note_watched(&mut self, text: &[u8]) {
        if let Ok(at) = self.trouble_of(text) {
            self.troubles.remove(at);
        }
    }

    fn tell_tasks(&self, from: u32, rows: &mut Rows) -> AnswerEnd {
        let next = from.saturating_add(PIECE);
        for job in (from..next).filter_map(|slot| self.tasks.by_slot(slot)) {
            self.tell_task(job, rows);
        }
        let more = (next as usize) < self.tasks.slots();
        if more { AnswerEnd::More(Question::Tasks { from: next }) } else { AnswerEnd::Done }
    }

    fn tell_task(&self, job: JobId, rows: &mut Rows) {
        let Some(task) = self.tasks.get(job) else { return };
        let (state, due) = match task.state {
            State::Waiting(timer) => ("waiting", self.wheel.deadline(timer)),
            State::Ready(_) => ("ready", None),
            State::Running => ("running", None),
            State::Ended => return,
        };
        let subject = &task.subject;
        let path = self.tree.path_of(subject.node, &subject.name);
        rows.push(
            "tasks",
            &[
                ("id", task.id.into()),
                ("scheduler", (&self.config.schedulers[usize::from(task.sched)].name).into()),
                ("state", state.into()),
                ("due_ms", due.map_or(Value::None, |due| due.saturating_sub(self.now).into())),
                ("event", subject.kind.name().into()),
                ("path", (&path).into()),
            ],
        );
    }

    fn find_task(&self, id: u64) -> Result<(JobId, State), String> {
        let job = self.tasks.select(&|task| task.id == id && task.state != State::Ended).pop();
        let state = job.and_then(|job| self.tasks.get(job)).map(|task| task.state);
        job.zip(state).ok_or_else(|| format!("there is no task {id}"))
    }

    /// Somebody does not want to wait for a task's delay.
    fn run_now(&mut self, id: u64) -> Result<(), String> {
        match self.find_task(id)? {
            (job, State::Waiting(_)) => {
                self.log_task(Level::Info, job, "task runs now: somebody asked for it", &[]);
                self.make_ready(job);
                Ok(())
            }
            (_, State::Ready(_)) => Ok(()),
            (_, State::Running | State::Ended) => Err(format!("task {id} is running")),
        }
    }

    /// Somebody does not want a task. One that runs is terminated as if it had timed out, and does
    /// not run again for the events that came meanwhile.
    fn cancel_now(&mut self, id: u64) -> Result<(), String> {
        let (job, state) = self.find_task(id)?;
        if state != State::Running {
            self.remove_task(job, Level::Info, "task cancelled: somebody asked for it");
            return Ok(());
        }
        self.drop_rerun(job);
        if self.tasks.run_mut(job).is_some_and(|run| run.terminated) {
            return Err(format!("task {id} was told to end already"));
        }
        self.log_task(Level::Warning, job, "task terminated: somebody asked for it", &[]);
        if !self.tasks.get(job).is_some_and(|task| self.is_operation(task)) {
            self.terminate(job);
            return Ok(());
        }
        if let Some(run) = self.tasks.run_mut(job) {
            run.terminated = true;
        }
        self.out.push(Effect::Abort(job));
        Ok(())
    }

    fn set_level(&mut self, name: Option<&LogName>, level: Level) -> Result<(), String> {
        let LogLevels { default, by_name } = &mut self.levels;
        match name {
            None => *default = level,
            Some(name) => {
                let config = &self.config;
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
        self.out.push(Effect::Levels(self.levels.clone()));
        let what = name.map_or(String::new(), |name| format!(" of {name}"));
        self.log_daemon(Level::Info, format!("log level{what} is {level} until the next reload"));
        Ok(())
    }
}

/// See [`Engine::stage`].
const NO_ROOM: &str = "no room for more watches; raise fs.inotify.max_user_watches";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Armed,
    Waiting,
    Failed,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

fn done_or_refused(outcome: Result<(), String>) -> AnswerEnd {
    outcome.map_or_else(AnswerEnd::Refused, |()| AnswerEnd::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::inline::{Inline, from_command_line};
    use crate::engine::message::Seen;
    use crate::engine::{Input, Options, SIFT_AT};
    use crate::event::{EventKind, HEADER_SIZE, RawEvent};
    use crate::rows::Row;
    use crate::types::Wd;

    /// An engine that watches `/`, for which events schedule tasks in an hour.
    fn watching() -> Engine {
        let inline = Inline {
            watch: vec![b"/".to_vec()],
            delay: Some(b"1h".to_vec()),
            command: b"true".to_vec(),
            ..Inline::default()
        };
        let config = from_command_line(&inline).unwrap().config;
        let mut engine = Engine::new(
            config,
            Options { dry_run: false, default_max_jobs: 4, sift_at: SIFT_AT, secret: [0; 2] },
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

    fn ask(engine: &mut Engine, question: Question) -> (Vec<u8>, AnswerEnd) {
        let mut effects = Vec::new();
        engine.step(2, Input::Ask { client: 7, question }, &mut effects);
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(answer) => Some(answer),
            _ => None,
        });
        let Answer { client, rows, end } = answer.unwrap();
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
                AnswerEnd::More(next) => question = next,
                end => break assert_eq!(end, AnswerEnd::Done),
            }
            if told.len() == PIECE as usize {
                // Meanwhile one that was told goes, and one that was not; one comes.
                assert_eq!(ask(&mut engine, Question::Cancel(1)).1, AnswerEnd::Done);
                assert_eq!(ask(&mut engine, Question::Cancel(TASKS - 1)).1, AnswerEnd::Done);
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
            Effect::Start(job) => Some(job.id),
            _ => None,
        });
        assert_eq!(started.map(JobId::task_id), Some(2));
        assert_eq!(engine.tasks.waiting(), 1);
        // Its timer is gone: an hour later only the other one is due.
        effects.clear();
        engine.step(3_700_000, Input::Tick { queued: 0, wall_ns: 0 }, &mut effects);
        let starts = effects.iter().filter(|effect| matches!(effect, Effect::Start(_))).count();
        assert_eq!((starts, engine.tasks.running()), (1, 2));
        let refused = |why: &str| AnswerEnd::Refused(why.to_owned());
        assert_eq!(ask(&mut engine, Question::Run(2)).1, refused("task 2 is running"));
        assert_eq!(ask(&mut engine, Question::Run(3)).1, refused("there is no task 3"));
        assert_eq!(ask(&mut engine, Question::Run(0)).1, refused("there is no task 0"));
        // One that would run again will not once it is cancelled.
        write(&mut engine, b"b");
        assert_eq!(ask(&mut engine, Question::Cancel(2)).1, AnswerEnd::Done);
        assert_eq!(ask(&mut engine, Question::Cancel(2)).1, refused("task 2 was told to end already"));
        let status = crate::types::ExitStatus::Signaled(15);
        let job = started.unwrap();
        engine.step(3_700_001, Input::Ended { job, status, queued: 0 }, &mut effects);
        assert_eq!((engine.tasks.len(), engine.tasks.waiting()), (1, 0));
        assert_eq!(ask(&mut engine, Question::Cancel(2)).1, refused("there is no task 2"));
    }
}
