//! Model workers: they read when they like, answer in any order, talk nonsense, and die at any moment.

use std::collections::{BTreeMap, VecDeque};

use rinotifyd::engine::WorkerId;
use rinotifyd::engine::message::{Input, Signal, StartError, StartWorker};
use rinotifyd::types::ExitStatus;

use crate::shell::{Happening, Shell};

/// A process with a pipe for its input.
#[derive(Debug)]
pub struct Program {
    ack: bool,
    /// What the daemon holds back for it.
    buffer: VecDeque<Vec<u8>>,
    pipe: VecDeque<Vec<u8>>,
    /// Read and not answered.
    taken: Vec<String>,
    answered: Vec<String>,
    handed: u64,
    closed: bool,
    told: Option<Signal>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Programs {
    pub running: BTreeMap<WorkerId, Program>,
    /// So many more bad things happen.
    pub trouble: usize,
    /// So many were killed by what they read.
    pub killed: usize,
    /// How often each task was in the hands of a program that was killed so.
    pub deaths: BTreeMap<String, usize>,
}

/// What a line or an answer begins with.
fn word_of(line: &[u8]) -> String {
    let word = line.split(|&byte| byte == b'\t').next().unwrap();
    String::from_utf8(word.to_vec()).unwrap()
}

fn task_of(word: &str) -> u64 {
    word.split('.').next().unwrap().parse().expect("a line begins with a number")
}

/// What kills its reader has such a name.
pub const KILLER: &[u8] = b"killer";

fn kills(line: &[u8]) -> bool {
    line.windows(KILLER.len()).any(|part| part == KILLER)
}

impl Programs {
    pub fn is_at_rest(&self) -> bool {
        self.running.values().all(|program| {
            let Program { buffer, pipe, taken, closed, told, .. } = program;
            buffer.is_empty() && pipe.is_empty() && taken.is_empty() && !closed && told.is_none()
        })
    }

    pub fn hand(&mut self, id: WorkerId, line: Vec<u8>) {
        if let Some(program) = self.running.get_mut(&id) {
            assert!(!program.closed, "a line behind the end of the input");
            program.buffer.push_back(line);
            program.handed += 1;
            assert!(program.buffer.len() <= 64, "the daemon holds back too much");
        }
    }

    pub fn close(&mut self, id: WorkerId) {
        if let Some(program) = self.running.get_mut(&id) {
            program.closed = true;
        }
    }

    pub fn signal(&mut self, id: WorkerId, signal: Signal) {
        if let Some(program) = self.running.get_mut(&id) {
            assert!(program.told != Some(signal), "told twice");
            program.told = Some(signal);
        }
    }

    fn in_trouble(&mut self, is: bool) -> bool {
        let is = is && self.trouble > 0;
        self.trouble -= usize::from(is);
        is
    }
}

impl Shell {
    pub fn start_program(&mut self, start: StartWorker) {
        let id = start.id;
        let fails = self.rng.one_in(4);
        if self.programs.in_trouble(fails) {
            let temporary = self.rng.one_in(2);
            let error = StartError { temporary, text: "no".to_owned() };
            self.step(Input::WorkerNotStarted { worker: id, error });
            return;
        }
        let pipe = start.first.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        let program = Program {
            ack: start.ack,
            buffer: VecDeque::new(),
            pipe,
            taken: Vec::new(),
            answered: Vec::new(),
            handed: 0,
            closed: false,
            told: None,
        };
        let known = self.programs.running.insert(id, program);
        assert!(known.is_none(), "{id:?} was started twice");
    }

    /// Each program may do something.
    pub fn programs_act(&mut self) {
        let ids: Vec<_> = self.programs.running.keys().copied().collect();
        for id in ids {
            match self.rng.below(7) {
                0 | 1 => self.write_lines(id),
                2 | 3 => self.take_lines(id),
                4 => self.answer(id),
                5 => self.talk_nonsense(id),
                _ => self.perhaps_end(id),
            }
        }
    }

    fn write_lines(&mut self, id: WorkerId) {
        let room = 1 + self.rng.below(5);
        let Some(program) = self.programs.running.get_mut(&id) else { return };
        let lines = program.buffer.len().min(room.saturating_sub(program.pipe.len()));
        program.pipe.extend(program.buffer.drain(..lines));
        if lines > 0 {
            self.input(Input::Written { worker: id, lines });
        }
    }

    fn take_lines(&mut self, id: WorkerId) {
        let count = self.rng.below(4);
        let Some(program) = self.programs.running.get_mut(&id) else { return };
        let count = count.min(program.pipe.len());
        let taken: Vec<_> = program.pipe.drain(..count).collect();
        let dies = program.ack && taken.iter().any(|line| kills(line));
        let words = taken.iter().map(|line| word_of(line));
        if program.ack {
            program.taken.extend(words);
            if dies {
                let alone = program.taken.len() == 1;
                for word in program.taken.clone() {
                    let deaths = self.programs.deaths.entry(word).or_default();
                    *deaths += 1;
                    assert!(*deaths == 1 || alone, "a suspect did not run alone");
                }
                self.programs.killed += 1;
                self.end_program(id, ExitStatus::Signaled(9));
            }
            return;
        }
        for task in words.map(|word| task_of(&word)).collect::<Vec<_>>() {
            self.happens(Happening::Consumed(task));
        }
    }

    fn say(&mut self, worker: WorkerId, line: &str) {
        let queued = self.world.kernel.queued();
        self.input(Input::Line { worker, line: line.as_bytes(), cut: 0, queued });
    }

    fn answer(&mut self, id: WorkerId) {
        let index = self.rng.below(100);
        let Some(program) = self.programs.running.get_mut(&id) else { return };
        if program.taken.is_empty() {
            return;
        }
        let word = program.taken.swap_remove(index % program.taken.len());
        program.answered.push(word.clone());
        self.happens(Happening::Answered(task_of(&word)));
        let result = if self.rng.one_in(5) { "error no" } else { "ok" };
        self.say(id, &format!("{word} {result}"));
    }

    fn talk_nonsense(&mut self, id: WorkerId) {
        let says = self.rng.one_in(3);
        if !self.programs.in_trouble(says) {
            return;
        }
        let Some(program) = self.programs.running.get(&id).filter(|program| program.ack) else { return };
        // Not what it has, which would be an answer: what it had, what no program has, and what it has, but
        // without the token.
        let twice = program.answered.iter().rev().find(|word| !program.has(word)).cloned();
        let forged = program.taken.first().map(|word| task_of(word));
        let line = match (twice, forged) {
            (Some(word), _) if self.rng.one_in(2) => format!("{word} ok"),
            (_, Some(task)) if self.rng.one_in(2) => format!("{task} ok"),
            (_, Some(task)) if self.rng.one_in(2) => format!("{task}.0000000000000000 ok"),
            _ => (*self.rng.pick(&["987654321.0000000000000000 ok", "", "ok", "1", "x 1 ok"])).to_owned(),
        };
        self.say(id, &line);
    }

    fn perhaps_end(&mut self, id: WorkerId) {
        let (breaks, dies) = (self.rng.one_in(8), self.rng.one_in(4));
        let Some(program) = self.programs.running.get(&id) else { return };
        let done = program.closed && program.buffer.is_empty() && program.pipe.is_empty();
        let (obeys, ends) = (program.told.is_some(), done && program.taken.is_empty());
        if ends {
            self.end_program(id, ExitStatus::Exited(0));
        } else if obeys || self.programs.in_trouble(dies) {
            self.end_program(id, ExitStatus::Signaled(9));
        } else if self.programs.in_trouble(breaks) {
            self.input(Input::WorkerBroken { worker: id, what: "broken" });
        }
    }

    fn end_program(&mut self, id: WorkerId, status: ExitStatus) {
        let Some(program) = self.programs.running.remove(&id) else { return };
        let left = (program.pipe.len() + program.buffer.len()) as u64;
        let unread = if program.ack { Vec::new() } else { Vec::from(program.pipe).concat() };
        let begun = program.handed.saturating_sub(left);
        let queued = self.world.kernel.queued();
        self.input(Input::WorkerEnded { worker: id, status, queued, unread, begun });
    }
}

impl Program {
    fn has(&self, word: &String) -> bool {
        let lines = self.buffer.iter().chain(&self.pipe);
        self.taken.contains(word) || lines.into_iter().any(|line| word_of(line) == *word)
    }
}
