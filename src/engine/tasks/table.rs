//! The table of tasks: waiting, ready, running, ended.
//!
//! A task belongs to a scheduler and a path, the path being a directory's node and a name in it;
//! so tasks follow their directory when it is renamed. With `singlejob` it belongs to the scheduler
//! alone. There is at most one task for each key. This file keeps the books; when a task changes
//! its state is decided in `schedule` and `ending`.
//!
//! Invariants: a task that waits has a timer; one that is ready is in its scheduler's queue; one
//! that runs has a [`Running`]; the directory of every task is held, and lists the task.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::log_budget::LogBudget;
use crate::engine::ids::{NodeId, TaskId};
use crate::engine::store::index_table::{IndexTable, Seed, hash_number};
use crate::engine::store::wheel::TimerId;
use crate::event::EventKind;
use crate::types::Millis;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its delay runs.
    Waiting(TimerId),
    /// It will run as soon as there is room; the number is its rank in the queue.
    Ready(u64),
    /// Its action runs.
    Running,
    /// Its action has ended, but events from before that are still unread.
    Ended,
}

/// The event that a task is about, with what it happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The directory.
    pub node: NodeId,
    /// The name in it; empty for the directory itself, which only `/` needs.
    pub name: Box<[u8]>,
    /// Where it came from, when it was moved.
    pub src_path: Option<Box<[u8]>>,
    /// The newest event.
    pub kind: EventKind,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    /// Counted from 1, never used twice.
    pub id: u64,
    /// Index of its scheduler.
    pub sched: u16,
    /// It is the only one of its scheduler.
    pub single: bool,
    /// How many runs in a row were disturbed by events; see `ending`.
    pub reruns: u8,
    /// How many workers have ended while they had it, since it was last answered.
    pub lost_workers: u8,
    /// Where it stands.
    pub state: State,
    /// What it is about.
    pub subject: Subject,
    /// When it was first scheduled, for `max_delay`.
    pub first_at: Millis,
    /// How often further events have put it off since it last ran.
    pub put_off: u32,
    /// The brake: not to run before this.
    pub not_before: Millis,
    /// The other tasks of its directory, as a list through the slots.
    previous: u32,
    next: u32,
}

impl Task {
    /// Whether its action has not begun.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Ready(_))
    }
}

/// What is known only of a task that runs or has just ended.
#[derive(Debug, Default)]
pub struct Running {
    /// When it started.
    pub started_at: Millis,
    /// The timer of its timeout.
    pub timer: Option<TimerId>,
    /// It was told to end.
    pub terminated: bool,
    /// Whether its file is being looked at, so that its action has not begun.
    look: Look,
    /// An event came while it ran: run again for it.
    pub rerun: Option<(Subject, Millis)>,
}

/// Whether a task's file is being looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// No.
    #[default]
    None,
    /// The answer is awaited.
    Awaited,
    /// The same, but the task was cancelled meanwhile.
    Cancelled,
}

/// What carries out the tasks of a scheduler. Each has limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// A process for each task.
    Child,
    /// The threads for file operations.
    Operation,
    /// A program that is kept running.
    Worker,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Option<Task>>,
    free: Vec<u32>,
    by_key: IndexTable,
    /// The first task of each directory that has any.
    by_dir: IndexTable,
    seed: Seed,
    next_id: u64,
    first_rank: u64,
    last_rank: u64,
    runs: HashMap<u32, Running>,
    scheds: Vec<Sched>,
    /// How many of them start commands, of which none runs.
    idle: usize,
    /// The first ready task of each scheduler that has any, by its rank.
    heads: BTreeSet<(u64, u16)>,
    waiting: usize,
    ready: usize,
    /// How many tasks run, by [`Runner`].
    running: [usize; 3],
    /// Tasks whose run has ended at a position that the reader has not reached, oldest first.
    ended: VecDeque<(u64, TaskId)>,
}

/// The books of one scheduler.
#[derive(Debug)]
struct Sched {
    runner: Runner,
    /// Ready tasks by their rank.
    ready: BTreeMap<u64, u32>,
    running: usize,
    /// How many of those that run have their file looked at.
    looking: usize,
    log: LogBudget,
}

impl Sched {
    /// Whether it starts commands, of which none runs.
    fn is_idle(&self) -> bool {
        self.runner == Runner::Child && self.running == 0
    }
}

/// No slot.
const NONE: u32 = u32::MAX;
/// Ranks are given out on both sides of this one.
const RANKS_MIDDLE: u64 = 1 << 62;
/// Up to this many empty slots are kept for the next burst.
const SPARE_SLOTS_MAX: usize = 1024;

impl Default for Table {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: IndexTable::new(),
            by_dir: IndexTable::new(),
            seed: Seed::new(),
            next_id: 1,
            first_rank: RANKS_MIDDLE,
            last_rank: RANKS_MIDDLE,
            runs: HashMap::new(),
            scheds: Vec::new(),
            idle: 0,
            heads: BTreeSet::new(),
            waiting: 0,
            ready: 0,
            running: [0; 3],
            ended: VecDeque::new(),
        }
    }
}

/// What makes a task the same task.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// One for each path.
    Path(u16, NodeId, &'a [u8]),
    /// One for the scheduler.
    Single(u16),
}

impl Table {
    /// All tasks, whatever their state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// One more than the number of the last slot that may hold a task.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for their delay.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many wait for room.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.iter().sum()
    }

    /// How many run by such a runner.
    #[must_use]
    pub fn running_by(&self, runner: Runner) -> usize {
        self.running[runner as usize]
    }

    /// How many of the places for commands are kept for schedulers of which none runs: one for each, at most
    /// every fourth place, but at least one unless there is a single place.
    #[must_use]
    pub fn places_kept(&self, places: usize) -> usize {
        (places / 4).max(1).min(places.saturating_sub(1)).min(self.idle)
    }

    /// The task of this key.
    #[must_use]
    pub fn find(&self, key: Key<'_>) -> Option<TaskId> {
        let slot = self.by_key.find(hash_key(&self.seed, key), |slot| {
            let task = self.slots[slot as usize].as_ref();
            task.is_some_and(|task| match key {
                Key::Single(sched) => task.single && task.sched == sched,
                Key::Path(sched, node, name) => {
                    let subject = &task.subject;
                    !task.single && task.sched == sched && subject.node == node && *subject.name == *name
                }
            })
        })?;
        self.by_slot(slot)
    }

    /// The task in this slot, for a timer that ran out.
    #[must_use]
    pub fn by_slot(&self, slot: u32) -> Option<TaskId> {
        let number = self.slots.get(slot as usize)?.as_ref()?.id;
        Some(TaskId { slot, number })
    }

    /// The task; `None` when it is gone.
    #[must_use]
    pub fn get(&self, id: TaskId) -> Option<&Task> {
        self.slots.get(id.slot as usize)?.as_ref().filter(|task| task.id == id.number)
    }

    /// The task, to be changed; its key and its directory must stay.
    pub fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.slots.get_mut(id.slot as usize)?.as_mut().filter(|task| task.id == id.number)
    }

    /// What is known of a task that runs or has just ended.
    #[must_use]
    pub fn run(&self, id: TaskId) -> Option<&Running> {
        self.get(id)?;
        self.runs.get(&id.slot)
    }

    /// The same, to be changed.
    pub fn run_mut(&mut self, id: TaskId) -> Option<&mut Running> {
        self.get(id)?;
        self.runs.get_mut(&id.slot)
    }

    /// Whether the task's file is being looked at.
    #[must_use]
    pub fn look(&self, id: TaskId) -> Look {
        self.run(id).map_or(Look::None, |run| run.look)
    }

    /// Notes that the file of a task that runs is being looked at, or is not.
    pub fn set_look(&mut self, id: TaskId, look: Look) {
        let Some(sched) = self.get(id).map(|task| task.sched) else { return };
        let Some(run) = self.runs.get_mut(&id.slot) else { return };
        let old = std::mem::replace(&mut run.look, look);
        let looking = &mut self.scheds[usize::from(sched)].looking;
        *looking = *looking + usize::from(look != Look::None) - usize::from(old != Look::None);
    }

    /// How many lines the scheduler's tasks may add to the log.
    pub fn log_budget(&mut self, sched: u16) -> Option<&mut LogBudget> {
        self.scheds.get_mut(usize::from(sched)).map(|books| &mut books.log)
    }

    /// Whether the task's action runs.
    #[must_use]
    pub fn has_begun(&self, id: TaskId) -> bool {
        self.get(id).is_some_and(|task| task.state == State::Running) && self.look(id) == Look::None
    }

    /// Whether files of this scheduler's tasks are being looked at.
    #[must_use]
    pub fn is_looking(&self, sched: u16) -> bool {
        self.scheds[usize::from(sched)].looking > 0
    }

    /// Adds a task that waits. `timer` gets the number of the task's slot, which is what the
    /// timer's payload leads back to. `None` when 2^32 tasks are there.
    pub fn add(
        &mut self,
        sched: u16,
        single: bool,
        subject: Subject,
        now: Millis,
        timer: impl FnOnce(u32) -> TimerId,
    ) -> Option<TaskId> {
        let slot = self.allocate()?;
        let id = self.next_id;
        self.next_id += 1;
        let state = State::Waiting(timer(slot));
        self.waiting += 1;
        self.slots[slot as usize] = Some(Task {
            id,
            sched,
            single,
            reruns: 0,
            lost_workers: 0,
            state,
            subject,
            first_at: now,
            put_off: 0,
            not_before: 0,
            previous: NONE,
            next: NONE,
        });
        let Self { by_key, slots, seed, .. } = self;
        by_key.insert(hash_slot(seed, slots, slot), slot, |slot| hash_slot(seed, slots, slot));
        self.enter_dir(slot);
        Some(TaskId { slot, number: id })
    }

    /// Moves a task to another state; tells the one it had, whose timer is the caller's to cancel.
    pub fn set_state(&mut self, id: TaskId, state: State) -> Option<State> {
        let Task { state: old, sched, .. } = *self.get(id)?;
        self.leave(old, sched, id.slot);
        let books = &mut self.scheds[usize::from(sched)];
        match state {
            State::Waiting(_) => self.waiting += 1,
            State::Ready(rank) => {
                self.ready += 1;
                let old_head = books.ready.first_key_value().map(|(rank, _)| *rank);
                books.ready.insert(rank, id.slot);
                if old_head.is_none_or(|head| rank < head) {
                    if let Some(head) = old_head {
                        self.heads.remove(&(head, sched));
                    }
                    self.heads.insert((rank, sched));
                }
            }
            State::Running => {
                self.idle -= usize::from(books.is_idle());
                books.running += 1;
                self.running[books.runner as usize] += 1;
                self.runs.insert(id.slot, Running::default());
            }
            State::Ended => {}
        }
        if matches!(state, State::Waiting(_) | State::Ready(_)) {
            self.runs.remove(&id.slot);
        }
        self.get_mut(id)?.state = state;
        Some(old)
    }

    fn leave(&mut self, state: State, sched: u16, slot: u32) {
        let books = &mut self.scheds[usize::from(sched)];
        match state {
            State::Waiting(_) => self.waiting -= 1,
            State::Ready(rank) => {
                self.ready -= 1;
                let removed = books.ready.remove(&rank);
                debug_assert_eq!(removed, Some(slot), "a ready task is in its queue");
                if self.heads.remove(&(rank, sched)) {
                    self.heads.extend(books.ready.first_key_value().map(|(rank, _)| (*rank, sched)));
                }
            }
            State::Running => {
                let looks = self.runs.get(&slot).is_some_and(|run| run.look != Look::None);
                books.running -= 1;
                self.idle += usize::from(books.is_idle());
                books.looking -= usize::from(looks);
                self.running[books.runner as usize] -= 1;
            }
            State::Ended => {}
        }
    }

    /// A rank behind all others.
    pub fn last_rank(&mut self) -> u64 {
        self.last_rank += 2;
        self.last_rank
    }

    /// A rank behind all others, and behind so many that come after them.
    pub fn rank_behind(&mut self, count: u64) -> u64 {
        // Between those of the others.
        self.last_rank() + 2 * count + 1
    }

    /// A rank before all others.
    pub fn first_rank(&mut self) -> u64 {
        self.first_rank -= 1;
        self.first_rank
    }

    /// The first ready task among the schedulers for which `has_room`, given the task and how many
    /// tasks of its scheduler run.
    #[must_use]
    pub fn first_ready(&self, has_room: impl Fn(&Task, usize) -> bool) -> Option<TaskId> {
        let head = |(rank, sched): &(u64, u16)| {
            let Sched { ready, running, .. } = &self.scheds[usize::from(*sched)];
            let slot = *ready.get(rank)?;
            has_room(self.task(slot)?, *running).then_some(slot)
        };
        self.by_slot(self.heads.iter().find_map(head)?)
    }

    /// Takes a task out. Its timer and its directory's hold are the caller's to release.
    pub fn remove(&mut self, id: TaskId) -> Option<Task> {
        self.get(id)?;
        self.leave_dir(id.slot);
        let Self { by_key, slots, seed, .. } = self;
        let hash = hash_slot(seed, slots, id.slot);
        by_key.remove(hash, |slot| slot == id.slot, |slot| hash_slot(seed, slots, slot));
        let task = self.slots[id.slot as usize].take()?;
        self.leave(task.state, task.sched, id.slot);
        self.runs.remove(&id.slot);
        self.free.push(id.slot);
        if self.is_empty() && self.slots.len() > SPARE_SLOTS_MAX {
            // A burst must not keep its memory.
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        Some(task)
    }

    /// All tasks for which `wanted`, oldest first.
    #[must_use]
    pub fn select(&self, wanted: &dyn Fn(&Task) -> bool) -> Vec<TaskId> {
        let mut found = Vec::new();
        for (slot, task) in (0_u32..).zip(&self.slots) {
            if let Some(task) = task.as_ref().filter(|task| wanted(task)) {
                found.push(TaskId { slot, number: task.id });
            }
        }
        found.sort_by_key(|id| id.number);
        found
    }

    /// The tasks in these directories for which `wanted`, oldest first. Other directories' tasks are not
    /// looked at.
    #[must_use]
    pub fn select_in(&self, dirs: &[NodeId], wanted: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        let mut found = Vec::new();
        if self.by_dir.is_empty() {
            return found;
        }
        for &dir in dirs {
            let mut slot = self.first_in(dir).unwrap_or(NONE);
            while let Some(task) = self.slots.get(slot as usize).and_then(Option::as_ref) {
                if wanted(task) {
                    found.push(TaskId { slot, number: task.id });
                }
                slot = task.next;
            }
        }
        found.sort_by_key(|id| id.number);
        found
    }

    /// Gives a task a newer subject; returns the old one, whose hold is the caller's to release. For a
    /// task of a path, the new subject must be the same path.
    pub fn set_subject(&mut self, id: TaskId, subject: Subject) -> Option<Subject> {
        let task = self.get_mut(id)?;
        if task.subject.node == subject.node {
            return Some(std::mem::replace(&mut task.subject, subject));
        }
        self.leave_dir(id.slot);
        let old = std::mem::replace(&mut self.get_mut(id)?.subject, subject);
        self.enter_dir(id.slot);
        Some(old)
    }

    /// A run has ended, but events up to `mark` are still unread.
    pub fn push_ended(&mut self, mark: u64, id: TaskId) {
        self.ended.push_back((mark, id));
    }

    /// The next task that has ended before this position.
    pub fn pop_ended(&mut self, position: u64) -> Option<TaskId> {
        self.ended.pop_front_if(|(mark, _)| *mark <= position).map(|(_, id)| id)
    }

    /// The schedulers are others now: `runners` has one item for each, and `new` gives the new number of
    /// an old one. Tasks whose scheduler has none must have been removed.
    pub fn renumber(&mut self, runners: &[Runner], new: impl Fn(u16) -> Option<u16>) {
        let books = |&runner: &Runner| Sched {
            runner,
            ready: BTreeMap::new(),
            running: 0,
            looking: 0,
            log: LogBudget::new(),
        };
        let mut scheds: Vec<Sched> = runners.iter().map(books).collect();
        self.running = [0; 3];
        for (slot, task) in (0_u32..).zip(&mut self.slots) {
            let Some(task) = task else { continue };
            let Some(sched) = new(task.sched) else { continue };
            task.sched = sched;
            let books = &mut scheds[usize::from(sched)];
            match task.state {
                State::Ready(rank) => {
                    books.ready.insert(rank, slot);
                }
                State::Running => {
                    let looks = self.runs.get(&slot).is_some_and(|run| run.look != Look::None);
                    books.running += 1;
                    books.looking += usize::from(looks);
                    self.running[books.runner as usize] += 1;
                }
                State::Waiting(_) | State::Ended => {}
            }
        }
        let head = |(sched, books): (u16, &Sched)| Some((*books.ready.first_key_value()?.0, sched));
        self.heads = (0..).zip(&scheds).filter_map(head).collect();
        self.idle = scheds.iter().filter(|books| books.is_idle()).count();
        self.scheds = scheds;
        let Self { by_key, slots, seed, .. } = self;
        *by_key = IndexTable::new();
        for (slot, _) in (0_u32..).zip(slots.iter()).filter(|(_, task)| task.is_some()) {
            by_key.insert(hash_slot(seed, slots, slot), slot, |slot| hash_slot(seed, slots, slot));
        }
    }

    fn allocate(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot != NONE)?;
        self.slots.push(None);
        Some(slot)
    }

    fn first_in(&self, dir: NodeId) -> Option<u32> {
        let is_in = |slot: u32| self.task(slot).is_some_and(|task| task.subject.node == dir);
        self.by_dir.find(hash_dir(dir), is_in)
    }

    fn task(&self, slot: u32) -> Option<&Task> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn task_mut(&mut self, slot: u32) -> Option<&mut Task> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Puts a task into its directory's list: behind the first, which stays the one that is found.
    fn enter_dir(&mut self, slot: u32) {
        let Some(dir) = self.task(slot).map(|task| task.subject.node) else { return };
        let first = self.first_in(dir);
        let Some(first) = first else {
            self.link(NONE, slot);
            self.link(slot, NONE);
            return self.list_dir(dir, slot);
        };
        let second = self.task(first).map_or(NONE, |task| task.next);
        self.link(first, slot);
        self.link(slot, second);
    }

    /// Takes a task out of its directory's list.
    fn leave_dir(&mut self, slot: u32) {
        let Some(&Task { previous, next, ref subject, .. }) = self.task(slot) else { return };
        let dir = subject.node;
        if previous == NONE {
            let Self { by_dir, slots, .. } = self;
            by_dir.remove(hash_dir(dir), |first| first == slot, |slot| hash_dir_of(slots, slot));
            if next != NONE {
                self.list_dir(dir, next);
            }
        }
        self.link(previous, next);
    }

    fn list_dir(&mut self, dir: NodeId, first: u32) {
        let Self { by_dir, slots, .. } = self;
        by_dir.insert(hash_dir(dir), first, |slot| hash_dir_of(slots, slot));
    }

    /// Makes two tasks neighbours in their directory's list.
    fn link(&mut self, previous: u32, next: u32) {
        if let Some(task) = self.task_mut(previous) {
            task.next = next;
        }
        if let Some(task) = self.task_mut(next) {
            task.previous = previous;
        }
    }
}

fn hash_key(seed: &Seed, key: Key<'_>) -> u64 {
    match key {
        Key::Single(sched) => seed.hash(u32::from(sched), b""),
        // The scheduler is left out: few schedulers have a task for the same path.
        Key::Path(_, node, name) => seed.hash(node.index(), name),
    }
}

fn hash_dir(dir: NodeId) -> u64 {
    hash_number(dir.index())
}

fn hash_dir_of(slots: &[Option<Task>], slot: u32) -> u64 {
    slots[slot as usize].as_ref().map_or(0, |task| hash_dir(task.subject.node))
}

fn hash_slot(seed: &Seed, slots: &[Option<Task>], slot: u32) -> u64 {
    slots[slot as usize].as_ref().map_or(0, |task| {
        let Subject { node, name, .. } = &task.subject;
        let key = if task.single { Key::Single(task.sched) } else { Key::Path(task.sched, *node, name) };
        hash_key(seed, key)
    })
}
