//! The table of tasks: waiting, ready, running, ended.
//!
//! A task belongs to a scheduler and a path, the path being a directory's node and a name in it;
//! so tasks follow their directory when it is renamed. With `singlejob` it belongs to the scheduler
//! alone. There is at most one task for each key. This file keeps the books; when a task changes
//! its state is decided in `scheduling`.
//!
//! Invariants: a task that waits has a timer; one that is ready is in its scheduler's queue; one
//! that runs has a [`Running`]; the node of every task is pinned.

use std::collections::{BTreeMap, HashMap};

use super::index_table::{IndexTable, Seed};
use super::tree::NodeId;
use super::wheel::TimerId;
use crate::event::EventKind;
use crate::types::Millis;

/// A task at one time; never the same again once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    index: u32,
    id: u64,
}

impl JobId {
    /// One for tests of what carries operations out.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        Self { index: 0, id: 1 }
    }

    /// The task id that the user sees.
    #[must_use]
    pub fn task_id(self) -> u64 {
        self.id
    }

    /// Its slot in the table, which is the payload of its timers.
    pub(super) fn slot(self) -> u32 {
        self.index
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its delay runs.
    Waiting(TimerId),
    /// It will run as soon as a place is free; the number is its place in the queue.
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
    /// How many runs in a row were disturbed by events; see `scheduling`.
    pub reruns: u8,
    /// How many workers have ended while they had it, since it was last answered.
    pub lost_workers: u8,
    /// Where it stands.
    pub state: State,
    /// What it is about.
    pub subject: Subject,
    /// When it was first scheduled, for `max_delay`.
    pub first_at: Millis,
    /// The brake: not to run before this.
    pub not_before: Millis,
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
    /// An event came while it ran: run again for it.
    pub rerun: Option<(Subject, Millis)>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<u32>,
    by_key: IndexTable,
    seed: Seed,
    next_id: u64,
    first_place: u64,
    last_place: u64,
    runs: HashMap<u32, Running>,
    scheds: Vec<Sched>,
    waiting: usize,
}

/// The books of one scheduler.
#[derive(Debug, Default)]
struct Sched {
    /// Ready tasks by their place.
    ready: BTreeMap<u64, u32>,
    running: usize,
}

/// Places are given out on both sides of this one.
const PLACES_MIDDLE: u64 = 1 << 62;
/// Up to this many empty slots are kept for the next burst.
const SPARE_SLOTS_MAX: usize = 1024;

impl Default for Tasks {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: IndexTable::new(),
            seed: Seed::new(),
            next_id: 1,
            first_place: PLACES_MIDDLE,
            last_place: PLACES_MIDDLE,
            runs: HashMap::new(),
            scheds: Vec::new(),
            waiting: 0,
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

impl Tasks {
    /// Makes room for this many schedulers.
    pub fn resize(&mut self, schedulers: usize) {
        self.scheds.resize_with(schedulers, Sched::default);
    }

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

    /// How many wait for a place.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.scheds.iter().map(|sched| sched.ready.len()).sum()
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.scheds.iter().map(|sched| sched.running).sum()
    }

    /// How many of one scheduler run.
    #[must_use]
    pub fn running_of(&self, sched: usize) -> usize {
        self.scheds.get(sched).map_or(0, |sched| sched.running)
    }

    /// The task of this key.
    #[must_use]
    pub fn find(&self, key: Key<'_>) -> Option<JobId> {
        let index = self.by_key.find(self.hash(key), |index| {
            let task = self.slots[index as usize].as_ref();
            task.is_some_and(|task| match key {
                Key::Single(sched) => task.single && task.sched == sched,
                Key::Path(sched, node, name) => {
                    let subject = &task.subject;
                    !task.single && task.sched == sched && subject.node == node && *subject.name == *name
                }
            })
        })?;
        self.job(index)
    }

    fn job(&self, index: u32) -> Option<JobId> {
        let id = self.slots.get(index as usize)?.as_ref()?.id;
        Some(JobId { index, id })
    }

    /// The task in this slot, for a timer that fired.
    #[must_use]
    pub fn by_slot(&self, index: u32) -> Option<JobId> {
        self.job(index)
    }

    /// The task; `None` when it is gone.
    #[must_use]
    pub fn get(&self, job: JobId) -> Option<&Task> {
        self.slots.get(job.index as usize)?.as_ref().filter(|task| task.id == job.id)
    }

    /// The task, to be changed; its key must stay.
    pub fn get_mut(&mut self, job: JobId) -> Option<&mut Task> {
        self.slots.get_mut(job.index as usize)?.as_mut().filter(|task| task.id == job.id)
    }

    /// What is known of a task that runs or has just ended.
    pub fn run_mut(&mut self, job: JobId) -> Option<&mut Running> {
        self.get(job)?;
        self.runs.get_mut(&job.index)
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
    ) -> Option<JobId> {
        let index = self.allocate()?;
        let id = self.next_id;
        self.next_id += 1;
        let state = State::Waiting(timer(index));
        self.waiting += 1;
        let task = Task {
            id,
            sched,
            single,
            reruns: 0,
            lost_workers: 0,
            state,
            subject,
            first_at: now,
            not_before: 0,
        };
        self.slots[index as usize] = Some(task);
        let Self { by_key, slots, seed, .. } = self;
        by_key.insert(hash_slot(seed, slots, index), index, |index| hash_slot(seed, slots, index));
        Some(JobId { index, id })
    }

    /// Moves a task to another state; tells the one it had, whose timer is the caller's to cancel.
    pub fn set_state(&mut self, job: JobId, state: State) -> Option<State> {
        let Task { state: old, sched, .. } = *self.get(job)?;
        self.leave(old, sched, job.index);
        let books = &mut self.scheds[usize::from(sched)];
        match state {
            State::Waiting(_) => self.waiting += 1,
            State::Ready(place) => {
                books.ready.insert(place, job.index);
            }
            State::Running => {
                books.running += 1;
                self.runs.insert(job.index, Running::default());
            }
            State::Ended => {}
        }
        if matches!(state, State::Waiting(_) | State::Ready(_)) {
            self.runs.remove(&job.index);
        }
        self.get_mut(job)?.state = state;
        Some(old)
    }

    fn leave(&mut self, state: State, sched: u16, index: u32) {
        let books = &mut self.scheds[usize::from(sched)];
        match state {
            State::Waiting(_) => self.waiting -= 1,
            State::Ready(place) => {
                debug_assert_eq!(books.ready.get(&place), Some(&index), "a ready task is in its queue");
                books.ready.remove(&place);
            }
            State::Running => books.running -= 1,
            State::Ended => {}
        }
    }

    /// A place behind all others.
    pub fn last_place(&mut self) -> u64 {
        self.last_place += 2;
        self.last_place
    }

    /// A place behind all others, and behind so many that come after them.
    pub fn place_behind(&mut self, count: u64) -> u64 {
        // Between those of the others.
        self.last_place() + 2 * count + 1
    }

    /// A place before all others.
    pub fn first_place(&mut self) -> u64 {
        self.first_place -= 1;
        self.first_place
    }

    /// The first ready task among the schedulers for which `has_room`.
    #[must_use]
    pub fn first_ready(&self, has_room: impl Fn(&Task, usize) -> bool) -> Option<JobId> {
        let mut first: Option<(u64, u32)> = None;
        for books in &self.scheds {
            let Some((&place, &index)) = books.ready.first_key_value() else { continue };
            let has_room = || {
                let task = self.slots[index as usize].as_ref();
                task.is_some_and(|task| has_room(task, books.running))
            };
            if first.is_none_or(|(other, _)| place < other) && has_room() {
                first = Some((place, index));
            }
        }
        self.job(first?.1)
    }

    /// Takes a task out. Its timer and its node's pin are the caller's to release.
    pub fn remove(&mut self, job: JobId) -> Option<Task> {
        self.get(job)?;
        let Self { by_key, slots, seed, .. } = self;
        let hash = hash_slot(seed, slots, job.index);
        by_key.remove(hash, |index| index == job.index, |index| hash_slot(seed, slots, index));
        let task = self.slots[job.index as usize].take()?;
        self.leave(task.state, task.sched, job.index);
        self.runs.remove(&job.index);
        self.free.push(job.index);
        if self.is_empty() && self.slots.len() > SPARE_SLOTS_MAX {
            // A burst must not hold its memory for ever.
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        Some(task)
    }

    /// All tasks for which `wanted`, oldest first.
    #[must_use]
    pub fn select(&self, wanted: &dyn Fn(&Task) -> bool) -> Vec<JobId> {
        let mut found = Vec::new();
        for (index, slot) in (0_u32..).zip(&self.slots) {
            if let Some(task) = slot.as_ref().filter(|task| wanted(task)) {
                found.push(JobId { index, id: task.id });
            }
        }
        found.sort_by_key(|job| job.id);
        found
    }

    /// Gives the only task of a scheduler a newer subject; returns the old one, whose pin is the
    /// caller's to release. For a task of a path, the new subject must be the same path.
    pub fn set_subject(&mut self, job: JobId, subject: Subject) -> Option<Subject> {
        self.get_mut(job).map(|task| std::mem::replace(&mut task.subject, subject))
    }

    /// After a reload the schedulers have other numbers. Tasks whose scheduler has none must have
    /// been removed.
    pub fn renumber(&mut self, schedulers: usize, new: impl Fn(u16) -> Option<u16>) {
        let mut scheds: Vec<Sched> = Vec::new();
        scheds.resize_with(schedulers, Sched::default);
        for (index, slot) in (0_u32..).zip(&mut self.slots) {
            let Some(task) = slot else { continue };
            let Some(sched) = new(task.sched) else { continue };
            task.sched = sched;
            let books = &mut scheds[usize::from(sched)];
            match task.state {
                State::Ready(place) => {
                    books.ready.insert(place, index);
                }
                State::Running => books.running += 1,
                State::Waiting(_) | State::Ended => {}
            }
        }
        self.scheds = scheds;
        let Self { by_key, slots, seed, .. } = self;
        *by_key = IndexTable::new();
        for (index, _) in (0_u32..).zip(slots.iter()).filter(|(_, slot)| slot.is_some()) {
            by_key.insert(hash_slot(seed, slots, index), index, |index| hash_slot(seed, slots, index));
        }
    }

    fn allocate(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(None);
        Some(index)
    }

    fn hash(&self, key: Key<'_>) -> u64 {
        hash_key(&self.seed, key)
    }
}

fn hash_key(seed: &Seed, key: Key<'_>) -> u64 {
    match key {
        Key::Single(sched) => seed.hash(u32::from(sched), b""),
        // The scheduler is left out: few schedulers have a task for the same path.
        Key::Path(_, node, name) => seed.hash(node.index(), name),
    }
}

fn hash_slot(seed: &Seed, slots: &[Option<Task>], index: u32) -> u64 {
    slots[index as usize].as_ref().map_or(0, |task| {
        let Subject { node, name, .. } = &task.subject;
        let key = if task.single { Key::Single(task.sched) } else { Key::Path(task.sched, *node, name) };
        hash_key(seed, key)
    })
}
