//! The other processes: they make, fill, rename and delete directories in and around the watched
//! one, each system call in pieces that others may come between.
//!
//! What is serialised is what Linux serialises: a directory is locked from the change of its content
//! until the events that tell of it are queued, and a rename between two directories excludes
//! others of its sort (`lock_rename()`).

use std::collections::{BTreeMap, HashSet, VecDeque};

use rinotifyd::event::{EventKind, IN_ISDIR};
use rinotifyd::types::Wd;

use crate::kernel::{Ino, Kernel, Micro, TOP};
use crate::rng::Rng;

/// Names of directories are few, so that they come again.
const DIRECTORY_NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];

/// The watched directory, and two that are not.
pub const WATCHED: &[u8] = b"/top/watched";
pub const OUTSIDE: &[u8] = b"/top/outside";

/// Directories at once.
const DIRECTORIES_MAX: usize = 24;

/// A rename between directories holds this beside the directories.
const RENAME_MUTEX: Ino = usize::MAX;

#[derive(Clone, Debug)]
enum Op {
    /// `mkdir -p`, each level with a file; then perhaps something else with it.
    Chain {
        dir: Ino,
        depth: usize,
    },
    /// Opens a new file.
    Create {
        dir: Ino,
    },
    Write(Ino),
    Close(Ino),
    Reopen(Ino),
    Remove(Ino),
    /// `rm -r`.
    Clear(Ino),
    Rename {
        ino: Ino,
        dir: Ino,
        name: Vec<u8>,
        exchange: bool,
    },
    /// A rename to a random place.
    Move(Ino),
    Hold(Ino),
    Release(Ino),
}

#[derive(Debug, Default)]
struct Process {
    script: VecDeque<Op>,
    micros: VecDeque<Micro>,
    locks: Vec<Ino>,
}

/// What became of one file; its number is in its name.
#[derive(Clone, Debug)]
pub struct Story {
    pub ino: Ino,
    /// It was below the watched directory from its creation on.
    pub always_inside: bool,
    /// It was there before the daemon.
    pub old: bool,
    /// How often it came into the watched directory: created, moved, or with a directory.
    pub entries: usize,
    /// It was renamed, or a directory above it, before or after its creation.
    pub moved: bool,
    /// How often it was closed after writing.
    pub closes: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct World {
    pub kernel: Kernel,
    pub watched: Ino,
    pub outside: Ino,
    processes: Vec<Process>,
    /// How many scripts are still to be begun.
    pub budget: usize,
    /// A change may be seen before its first event is queued.
    pub early: bool,
    /// So many events the engine keeps for directories whose path is not known.
    pub kept_max: usize,
    /// What is outside has a watch of its own.
    pub neighbour: bool,
    /// By number.
    pub stories: BTreeMap<usize, Story>,
    /// A directory was renamed to where nothing is watched, outside or yet, or over one that was not
    /// seen, which looks like an exchange when it goes on from there. It is found there later, and what is told
    /// of it has the path of that time, although a directory above may be another one by then.
    pub unseen: bool,
    /// Watches whose directories got another one by a rename.
    receivers: HashSet<Wd>,
    /// What had another name once.
    renamed: HashSet<Ino>,
    /// Say everything on standard output.
    pub verbose: bool,
}

impl World {
    pub fn new(rng: &mut Rng) -> Self {
        let mut kernel = Kernel::new();
        kernel.parent_first = rng.one_in(4);
        let mut make = |path: &[u8]| {
            let mut at = TOP;
            for name in path.split(|&byte| byte == b'/').skip(1) {
                at = kernel.child(at, name).or_else(|| Some(kernel.create(at, name, true)?.0)).expect("new");
            }
            at
        };
        let (watched, outside) = (make(WATCHED), make(OUTSIDE));
        let processes = (0..1 + rng.below(3)).map(|_| Process::default()).collect();
        Self {
            kernel,
            watched,
            outside,
            processes,
            budget: 0,
            early: false,
            kept_max: usize::MAX,
            neighbour: false,
            stories: BTreeMap::new(),
            unseen: false,
            receivers: HashSet::new(),
            renamed: HashSet::new(),
            verbose: std::env::var_os("TRACE").is_some(),
        }
    }

    /// The engine gives a watch up, perhaps one that it had made but a moment ago, whose events it never
    /// took for those of a directory that it knew.
    pub fn unwatch(&mut self, wd: Wd) {
        self.unseen |= self.receivers.contains(&wd);
        self.kernel.rm_watch(wd);
    }

    /// Everything there is now was there before the daemon.
    pub fn age(&mut self) {
        for story in self.stories.values_mut() {
            story.old = true;
        }
    }

    /// Whether nothing will happen any more.
    pub fn is_quiet(&self) -> bool {
        self.budget == 0
            && self.processes.iter().all(|process| process.script.is_empty() && process.micros.is_empty())
    }

    /// A piece of something, if there is anything left to do.
    pub fn step(&mut self, rng: &mut Rng) {
        let index = rng.below(self.processes.len());
        if self.advance(index) {
            return;
        }
        let op = self.processes[index].script.pop_front();
        match op {
            Some(op) => self.begin(index, op, rng),
            None if self.budget > 0 => {
                self.budget -= 1;
                let script = self.script(rng);
                self.processes[index].script.extend(script);
            }
            None => {}
        }
    }

    /// Until nothing happens any more.
    pub fn finish(&mut self, rng: &mut Rng) {
        while !self.is_quiet() {
            self.step(rng);
        }
    }

    /// Ends the system calls that have begun.
    pub fn end_calls(&mut self) {
        for index in 0..self.processes.len() {
            while self.advance(index) {}
        }
    }

    /// getdents(2), which waits for processes that change the directory.
    pub fn list(&mut self, dir: Ino) -> Vec<(Vec<u8>, Ino)> {
        self.await_changes(dir);
        self.kernel.list(dir)
    }

    /// Lets processes that change the directory finish that.
    pub fn await_changes(&mut self, dir: Ino) {
        for index in 0..self.processes.len() {
            while self.processes[index].locks.contains(&dir) {
                self.advance(index);
            }
        }
    }

    /// The next piece of a system call that has begun.
    fn advance(&mut self, index: usize) -> bool {
        let process = &mut self.processes[index];
        let Some(micro) = process.micros.pop_front() else { return false };
        if process.micros.is_empty() {
            process.locks.clear();
        }
        self.note(|| format!("  world {micro:?}"));
        if let Micro::Emit { ino, mask, .. } = micro
            && mask == EventKind::MovedTo.bit() | IN_ISDIR
        {
            let comes_to_a_watch = self.kernel.is_below(ino, self.watched)
                || self.neighbour && self.kernel.is_below(ino, self.outside);
            match self.kernel.wd(ino) {
                Some(wd) => drop(self.receivers.insert(wd)),
                None => self.unseen |= comes_to_a_watch,
            }
        }
        self.kernel.perform(micro);
        true
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            println!("{}", line());
        }
    }

    // What the processes do.

    fn begin(&mut self, index: usize, op: Op, rng: &mut Rng) {
        let locks = self.locks(&op);
        if self.processes.iter().any(|other| other.locks.iter().any(|lock| locks.contains(lock))) {
            self.processes[index].script.push_front(op);
            return;
        }
        self.note(|| format!("world {op:?}"));
        let exchanges = matches!(op, Op::Rename { exchange: true, .. });
        let mut next = Vec::new();
        let micros = self.perform(op, &mut next, rng);
        for op in next.into_iter().rev() {
            self.processes[index].script.push_front(op);
        }
        if micros.is_empty() {
            return;
        }
        // Nothing is locked while a file is let go of, and the thread may be interrupted before.
        let lets_go = matches!(micros[..], [Micro::Release(_)]);
        self.processes[index].micros.extend(micros);
        if lets_go {
            return;
        }
        self.processes[index].locks = locks;
        if !(self.early && rng.one_in(3)) {
            self.advance(index);
        }
        // Between its two pairs of events an exchange cannot be known to have happened.
        if rng.one_in(2) || exchanges && !self.early {
            while self.advance(index) {}
        }
    }

    fn locks(&self, op: &Op) -> Vec<Ino> {
        let parent = |ino: Ino| self.kernel.inodes[ino].parent;
        match *op {
            Op::Chain { dir, .. } | Op::Create { dir } => vec![dir],
            Op::Remove(ino) => vec![parent(ino), ino],
            Op::Rename { ino, dir, .. } => {
                let file = (!self.kernel.is_dir(ino)).then_some(ino);
                let mutex = (parent(ino) != dir).then_some(RENAME_MUTEX);
                [parent(ino), dir].into_iter().chain(file).chain(mutex).collect()
            }
            // Linux takes no such lock: a file closed between the events of its own rename is told
            // under its new name before that is. What becomes of such a file is not modelled.
            Op::Write(file) | Op::Close(file) | Op::Reopen(file) => vec![file],
            Op::Clear(_) | Op::Move(_) | Op::Hold(_) | Op::Release(_) => Vec::new(),
        }
    }

    /// Returns the events to come; `next` is what the process does then.
    fn perform(&mut self, op: Op, next: &mut Vec<Op>, rng: &mut Rng) -> Vec<Micro> {
        let made = match op {
            Op::Chain { dir, depth } => self.chain(dir, depth, next, rng),
            Op::Create { dir } => self.create(dir, next, rng),
            Op::Write(file) => {
                self.kernel.touch(file, EventKind::Modify);
                None
            }
            Op::Close(file) => self.close(file),
            Op::Reopen(file) if self.kernel.inodes[file].linked => {
                self.kernel.hold(file);
                self.kernel.touch(file, EventKind::Open);
                next.extend([Op::Write(file), Op::Close(file)]);
                None
            }
            Op::Remove(ino) => self.kernel.remove(ino),
            Op::Clear(top) => {
                if self.kernel.inodes[top].linked {
                    next.extend(self.kernel.subtree(top).into_iter().rev().map(Op::Remove));
                }
                None
            }
            Op::Rename { ino, dir, name, exchange } => {
                let name = self.fresh_name(ino).unwrap_or(name);
                self.rename(ino, dir, &name, exchange)
            }
            Op::Move(ino) => {
                let dir = self.random_directory(rng);
                let name = rng.pick(&DIRECTORY_NAMES).to_vec();
                next.push(Op::Rename { ino, dir, name, exchange: false });
                None
            }
            Op::Hold(ino) if self.kernel.inodes[ino].linked => {
                self.kernel.hold(ino);
                next.push(Op::Release(ino));
                None
            }
            Op::Release(ino) => {
                self.kernel.release(ino);
                None
            }
            Op::Reopen(_) | Op::Hold(_) => None,
        };
        made.unwrap_or_default()
    }

    fn chain(&mut self, dir: Ino, depth: usize, next: &mut Vec<Op>, rng: &mut Rng) -> Option<Vec<Micro>> {
        let name = *rng.pick(&DIRECTORY_NAMES);
        let (ino, micros) = self.kernel.create(dir, name, true)?;
        next.push(Op::Create { dir: ino });
        if depth > 1 {
            next.push(Op::Chain { dir: ino, depth: depth - 1 });
        }
        match rng.below(6) {
            0 => next.push(Op::Move(ino)),
            1 => next.extend([Op::Move(ino), Op::Chain { dir, depth: 1 }]),
            2 => next.push(Op::Clear(ino)),
            _ => {}
        }
        Some(micros)
    }

    fn create(&mut self, dir: Ino, next: &mut Vec<Op>, rng: &mut Rng) -> Option<Vec<Micro>> {
        let number = self.stories.len();
        let (ino, micros) = self.kernel.create(dir, format!("f{number}").as_bytes(), false)?;
        let inside = self.kernel.is_below(dir, self.watched);
        let story = Story {
            ino,
            always_inside: inside,
            moved: self.renamed.iter().any(|top| self.kernel.is_below(dir, *top)),
            old: false,
            entries: usize::from(inside),
            closes: 0,
        };
        self.stories.insert(number, story);
        if rng.one_in(2) {
            next.push(Op::Write(ino));
        }
        next.push(Op::Close(ino));
        if rng.one_in(8) {
            next.push(Op::Reopen(ino));
        }
        Some(micros)
    }

    /// The kernel tells of a close before it lets go of the file (`__fput()`).
    fn close(&mut self, file: Ino) -> Option<Vec<Micro>> {
        self.kernel.touch(file, EventKind::CloseWrite);
        if let Some(story) = self.stories.values_mut().find(|story| story.ino == file) {
            story.closes += 1;
        }
        Some(vec![Micro::Release(file)])
    }

    fn rename(&mut self, ino: Ino, dir: Ino, name: &[u8], exchange: bool) -> Option<Vec<Micro>> {
        let target = self.kernel.child(dir, name);
        let other = target.filter(|_| exchange);
        let moved: Vec<Ino> = [ino].into_iter().chain(other).collect();
        let was_inside: Vec<bool> =
            moved.iter().map(|ino| self.kernel.is_below(*ino, self.watched)).collect();
        let micros = self.kernel.rename(ino, dir, name, exchange)?;
        self.unseen |= !exchange && target.is_some_and(|target| self.kernel.wd(target).is_none());
        for (&top, was_inside) in moved.iter().zip(was_inside) {
            self.note_journey(top, was_inside);
        }
        Some(micros)
    }

    /// A file or directory with all below it has come or gone.
    fn note_journey(&mut self, top: Ino, was_inside: bool) {
        let is_inside = self.kernel.is_below(top, self.watched);
        let moved = self.kernel.subtree(top);
        let comes_back = |ino: &Ino| self.kernel.is_dir(*ino) && self.kernel.wd(*ino).is_some();
        self.unseen |= !was_inside && is_inside && moved.iter().any(comes_back);
        self.renamed.insert(top);
        for story in self.stories.values_mut().filter(|story| moved.contains(&story.ino)) {
            story.moved = true;
        }
        if was_inside == is_inside {
            return;
        }
        for story in self.stories.values_mut().filter(|story| moved.contains(&story.ino)) {
            story.always_inside = false;
            story.entries += usize::from(is_inside);
        }
    }

    // What they choose.

    fn script(&mut self, rng: &mut Rng) -> Vec<Op> {
        let full = self.directories(TOP).len() > DIRECTORIES_MAX;
        let dir = self.random_directory(rng);
        let some = self.random_inside(rng);
        match rng.below(14) {
            0..4 if !full => vec![Op::Chain { dir, depth: 1 + rng.below(4) }],
            4 => vec![Op::Create { dir }],
            5 | 6 if some != self.watched => vec![Op::Move(some)],
            7 => {
                let other = self.random_directory(rng);
                let (dir, name) = (self.kernel.inodes[other].parent, self.kernel.inodes[other].name.clone());
                let movable = ![self.watched, self.outside].contains(&other) && some != self.watched;
                let exchange = rng.one_in(2);
                if movable { vec![Op::Rename { ino: some, dir, name, exchange }] } else { Vec::new() }
            }
            0..4 | 8 if some != self.watched => vec![Op::Clear(some)],
            9 | 10 => self.random_file(rng).map(Op::Move).into_iter().collect(),
            11 => self.random_file(rng).map(Op::Remove).into_iter().collect(),
            12 => self.random_file(rng).map(Op::Reopen).into_iter().collect(),
            13 => vec![Op::Hold(some)],
            _ => self.random_outside(rng).map(Op::Move).into_iter().collect(),
        }
    }

    /// Every name that a file gets is new.
    fn fresh_name(&self, ino: Ino) -> Option<Vec<u8>> {
        if self.kernel.is_dir(ino) {
            return None;
        }
        let old = String::from_utf8_lossy(&self.kernel.inodes[ino].name).into_owned();
        let (number, count) = old.split_once('.').unwrap_or((&old, "0"));
        Some(format!("{number}.{}", count.parse::<u32>().expect("a count") + 1).into_bytes())
    }

    fn directories(&self, top: Ino) -> Vec<Ino> {
        self.kernel.subtree(top).into_iter().filter(|ino| self.kernel.is_dir(*ino)).collect()
    }

    fn random_inside(&self, rng: &mut Rng) -> Ino {
        *rng.pick(&self.directories(self.watched))
    }

    fn random_outside(&self, rng: &mut Rng) -> Option<Ino> {
        let all = self.directories(self.outside);
        (all.len() > 1).then(|| all[1 + rng.below(all.len() - 1)])
    }

    fn random_directory(&self, rng: &mut Rng) -> Ino {
        if rng.one_in(4) { *rng.pick(&self.directories(self.outside)) } else { self.random_inside(rng) }
    }

    fn random_file(&self, rng: &mut Rng) -> Option<Ino> {
        let top = if rng.one_in(4) { self.outside } else { self.watched };
        let files: Vec<Ino> =
            self.kernel.subtree(top).into_iter().filter(|ino| !self.kernel.is_dir(*ino)).collect();
        (!files.is_empty()).then(|| *rng.pick(&files))
    }
}
