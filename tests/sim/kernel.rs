//! A model of a file tree and of one inotify instance on it, which speaks the wire format.
//!
//! What it does in which order was read off Linux 6.18 and 5.15; see the notes at each event.

use std::collections::{BTreeMap, HashSet, VecDeque};

use rinotifyd::event::{EventKind, HEADER_SIZE, IN_ISDIR};
use rinotifyd::types::Wd;

/// The number of an inode; never used again.
pub type Ino = usize;

/// The inode of `/`.
pub const TOP: Ino = 0;

/// A file or directory.
#[derive(Debug)]
pub struct Inode {
    /// What is in it; `None` for a file.
    pub entries: Option<BTreeMap<Vec<u8>, Ino>>,
    pub parent: Ino,
    pub name: Vec<u8>,
    /// It has a name.
    pub linked: bool,
    /// When the inode was changed last (ctime), in the kernel's time.
    pub changed_ms: u64,
    /// Who holds a file open for writing, or a directory open at all.
    pub holders: usize,
}

#[derive(Debug)]
struct Watch {
    ino: Ino,
    mask: u32,
}

/// A piece of a system call that the world sees at once.
#[derive(Clone, Debug)]
pub enum Micro {
    /// An event is queued for the watch on `ino`, if there is one.
    Emit { ino: Ino, mask: u32, cookie: u32, name: Vec<u8> },
    /// The inode's last name is gone; so is its watch, unless a process holds the inode.
    Gone(Ino),
    /// A process that held the inode does so no more.
    Release(Ino),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Kernel {
    pub inodes: Vec<Inode>,
    watches: BTreeMap<i32, Watch>,
    next_wd: i32,
    next_cookie: u32,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    /// `fs.inotify.max_queued_events`.
    pub queue_max: usize,
    /// IN_Q_OVERFLOW is in the queue.
    overflowed: bool,
    /// How often events were lost.
    pub overflows: usize,
    /// The wall clock.
    pub now_ms: u64,
    /// Every path that ever led to something.
    pub paths: HashSet<Vec<u8>>,
    /// Kernels before 5.3 or so tell a directory's end after its parent's IN_DELETE, later before.
    pub parent_first: bool,
}

impl Kernel {
    /// A tree of `/` alone.
    pub fn new() -> Self {
        let top = Inode {
            entries: Some(BTreeMap::new()),
            parent: TOP,
            name: Vec::new(),
            linked: true,
            changed_ms: 0,
            holders: 0,
        };
        Self {
            inodes: vec![top],
            watches: BTreeMap::new(),
            next_wd: 1,
            next_cookie: 1,
            queue: VecDeque::new(),
            queued: 0,
            queue_max: usize::MAX,
            overflowed: false,
            overflows: 0,
            now_ms: 0,
            paths: HashSet::new(),
            parent_first: false,
        }
    }

    pub fn is_dir(&self, ino: Ino) -> bool {
        self.inodes[ino].entries.is_some()
    }

    pub fn child(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        self.inodes[dir].entries.as_ref()?.get(name).copied()
    }

    /// What is in a directory.
    pub fn list(&self, dir: Ino) -> Vec<(Vec<u8>, Ino)> {
        let entries = self.inodes[dir].entries.iter().flatten();
        entries.map(|(name, ino)| (name.clone(), *ino)).collect()
    }

    pub fn resolve(&self, path: &[u8]) -> Option<Ino> {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(TOP, |dir, name| self.child(dir, name))
    }

    /// Whether a component of the path that is not the last is a file (ENOTDIR).
    pub fn leads_through_a_file(&self, top: Ino, path: &[u8]) -> bool {
        let mut at = top;
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        for name in names {
            let Some(next) = self.child(at, name) else { return !self.is_dir(at) };
            at = next;
        }
        false
    }

    pub fn path(&self, ino: Ino) -> Vec<u8> {
        if ino == TOP {
            return b"/".to_vec();
        }
        let Inode { parent, name, .. } = &self.inodes[ino];
        let mut path = if *parent == TOP { Vec::new() } else { self.path(*parent) };
        path.push(b'/');
        path.extend_from_slice(name);
        path
    }

    /// The inode and all below it, parents first.
    pub fn subtree(&self, top: Ino) -> Vec<Ino> {
        let mut found = vec![top];
        let mut next = 0;
        while let Some(&ino) = found.get(next) {
            found.extend(self.inodes[ino].entries.iter().flat_map(BTreeMap::values));
            next += 1;
        }
        found
    }

    /// Whether `ino` is `top` or below it.
    pub fn is_below(&self, mut ino: Ino, top: Ino) -> bool {
        while ino != top && ino != TOP {
            ino = self.inodes[ino].parent;
        }
        ino == top
    }

    // System calls that change the tree: at once, with the events that are still to come.

    pub fn create(&mut self, dir: Ino, name: &[u8], is_dir: bool) -> Option<(Ino, Vec<Micro>)> {
        if !self.inodes[dir].linked || self.child(dir, name).is_some() {
            return None;
        }
        let ino = self.inodes.len();
        self.inodes.push(Inode {
            entries: is_dir.then(BTreeMap::new),
            parent: dir,
            name: name.to_vec(),
            linked: true,
            changed_ms: self.now_ms,
            holders: usize::from(!is_dir),
        });
        self.entries_mut(dir).insert(name.to_vec(), ino);
        self.note_paths(ino);
        let mut micros = vec![self.named(dir, EventKind::Create, ino, name, 0)];
        if !is_dir {
            micros.push(self.named(dir, EventKind::Open, ino, name, 0));
        }
        Some((ino, micros))
    }

    /// unlink(2) or rmdir(2).
    pub fn remove(&mut self, ino: Ino) -> Option<Vec<Micro>> {
        let Inode { parent, ref name, linked, ref entries, .. } = self.inodes[ino];
        if !linked || entries.as_ref().is_some_and(|entries| !entries.is_empty()) {
            return None;
        }
        let name = name.clone();
        self.entries_mut(parent).remove(&name);
        self.inodes[ino].linked = false;
        let mut micros = vec![Micro::Gone(ino), self.named(parent, EventKind::Delete, ino, &name, 0)];
        if self.parent_first {
            micros.reverse();
        }
        Some(micros)
    }

    /// renameat2(2). The events come after the deed, and a replaced directory's end after them.
    pub fn rename(&mut self, ino: Ino, dir: Ino, name: &[u8], exchange: bool) -> Option<Vec<Micro>> {
        let (old_dir, old_name) = (self.inodes[ino].parent, self.inodes[ino].name.clone());
        let target = self.child(dir, name);
        let allowed = self.inodes[ino].linked
            && self.inodes[dir].linked
            && target != Some(ino)
            && !self.is_below(dir, ino)
            && match target {
                Some(target) if exchange => !self.is_below(old_dir, target),
                Some(target) => {
                    self.is_dir(ino) && self.inodes[target].entries.as_ref().is_some_and(BTreeMap::is_empty)
                }
                None => !exchange,
            };
        if !allowed {
            return None;
        }
        self.entries_mut(old_dir).remove(&old_name);
        self.put(ino, dir, name);
        let mut micros = self.renamed(ino, (old_dir, &old_name), (dir, name));
        match target {
            Some(target) if exchange => {
                self.put(target, old_dir, &old_name);
                micros.extend(self.renamed(target, (dir, name), (old_dir, &old_name)));
                self.note_paths(target);
            }
            Some(target) => {
                self.inodes[target].linked = false;
                micros.push(Micro::Gone(target));
            }
            None => {}
        }
        self.note_paths(ino);
        Some(micros)
    }

    fn put(&mut self, ino: Ino, dir: Ino, name: &[u8]) {
        self.entries_mut(dir).insert(name.to_vec(), ino);
        self.inodes[ino].changed_ms = self.now_ms;
        self.inodes[ino].parent = dir;
        self.inodes[ino].name = name.to_vec();
    }

    fn renamed(&mut self, ino: Ino, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Vec<Micro> {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        vec![
            self.named(from.0, EventKind::MovedFrom, ino, from.1, cookie),
            self.named(to.0, EventKind::MovedTo, ino, to.1, cookie),
            Micro::Emit { ino, mask: EventKind::MoveSelf.bit(), cookie: 0, name: Vec::new() },
        ]
    }

    /// An event about `ino` for the watch of the directory it is in.
    fn named(&self, dir: Ino, kind: EventKind, ino: Ino, name: &[u8], cookie: u32) -> Micro {
        let flag = if self.is_dir(ino) { IN_ISDIR } else { 0 };
        Micro::Emit { ino: dir, mask: kind.bit() | flag, cookie, name: name.to_vec() }
    }

    fn entries_mut(&mut self, dir: Ino) -> &mut BTreeMap<Vec<u8>, Ino> {
        self.inodes[dir].changed_ms = self.now_ms;
        self.inodes[dir].entries.as_mut().expect("only a directory is asked")
    }

    fn note_paths(&mut self, top: Ino) {
        for ino in self.subtree(top) {
            let path = self.path(ino);
            self.paths.insert(path);
        }
    }

    /// Something done through an open file. Its directory is told under the name the file has now;
    /// with IN_EXCL_UNLINK, not when it has none.
    pub fn touch(&mut self, file: Ino, kind: EventKind) {
        if kind == EventKind::Modify {
            self.inodes[file].changed_ms = self.now_ms;
        }
        let Inode { parent, ref name, linked, .. } = self.inodes[file];
        if linked {
            let micro = self.named(parent, kind, file, &name.clone(), 0);
            self.perform(micro);
        }
    }

    pub fn hold(&mut self, ino: Ino) {
        self.inodes[ino].holders += 1;
    }

    pub fn release(&mut self, ino: Ino) {
        self.inodes[ino].holders -= 1;
        self.perform(Micro::Gone(ino));
    }

    pub fn perform(&mut self, micro: Micro) {
        match micro {
            Micro::Emit { ino, mask, cookie, name } => {
                let watch = self.watches.iter().find(|(_, watch)| watch.ino == ino);
                if let Some((&wd, watch)) = watch
                    && watch.mask & mask & !IN_ISDIR != 0
                {
                    self.queue(wd, mask, cookie, &name);
                    // A name that is gone already may be told below a directory renamed since.
                    let slash: &[u8] = if name.is_empty() { b"" } else { b"/" };
                    let path = [self.path(ino).as_slice(), slash, &name].concat();
                    self.paths.insert(path);
                }
            }
            Micro::Release(ino) => self.release(ino),
            Micro::Gone(ino) => {
                if !self.inodes[ino].linked && self.inodes[ino].holders == 0 {
                    let mask = EventKind::DeleteSelf.bit();
                    self.perform(Micro::Emit { ino, mask, cookie: 0, name: Vec::new() });
                    if let Some(wd) = self.wd(ino) {
                        self.rm_watch(wd);
                    }
                }
            }
        }
    }

    // inotify(7).

    /// The watch on an inode.
    pub fn wd(&self, ino: Ino) -> Option<Wd> {
        self.watches.iter().find(|(_, watch)| watch.ino == ino).map(|(wd, _)| Wd(*wd))
    }

    /// What a watch asks for.
    pub fn mask(&self, Wd(wd): Wd) -> Option<u32> {
        Some(self.watches.get(&wd)?.mask)
    }

    /// All watches and what they are on.
    pub fn watches(&self) -> impl Iterator<Item = (Wd, Ino)> {
        self.watches.iter().map(|(wd, watch)| (Wd(*wd), watch.ino))
    }

    /// One watch for each inode: asking again gives the same number.
    pub fn add_watch(&mut self, ino: Ino, mask: u32, add: bool) -> Wd {
        if let Some(Wd(wd)) = self.wd(ino) {
            let watch = self.watches.get_mut(&wd).expect("it was found just now");
            watch.mask = if add { watch.mask | mask } else { mask };
            return Wd(wd);
        }
        let wd = self.next_wd;
        self.next_wd += 1;
        self.watches.insert(wd, Watch { ino, mask });
        Wd(wd)
    }

    /// What is queued stays, and IN_IGNORED comes behind it.
    pub fn rm_watch(&mut self, Wd(wd): Wd) {
        if let Some(Watch { ino, .. }) = self.watches.remove(&wd) {
            let path = self.path(ino);
            self.paths.insert(path);
            self.queue(wd, EventKind::Ignored.bit(), 0, b"");
        }
    }

    /// FIONREAD.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Reads as many whole events as fit; the first always does.
    pub fn read(&mut self, size_max: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(event) = self.queue.front() {
            if !bytes.is_empty() && bytes.len() + event.len() > size_max {
                break;
            }
            self.overflowed &= !is_overflow(event);
            bytes.extend(self.queue.pop_front().into_iter().flatten());
        }
        self.queued -= bytes.len();
        bytes
    }

    /// Takes the next event of this kind out of the queue, as no kernel does.
    pub fn steal(&mut self, kind: EventKind) -> bool {
        let is_kind = |event: &Vec<u8>| event[4..8] == kind.bit().to_ne_bytes();
        let Some(index) = self.queue.iter().position(is_kind) else { return false };
        let event = self.queue.remove(index).unwrap_or_default();
        self.queued -= event.len();
        true
    }

    fn queue(&mut self, wd: i32, mask: u32, cookie: u32, name: &[u8]) {
        if self.queue.len() >= self.queue_max {
            self.overflows += 1;
            if !std::mem::replace(&mut self.overflowed, true) {
                self.push(wire(-1, EventKind::QOverflow.bit(), 0, b""));
            }
            return;
        }
        let event = wire(wd, mask, cookie, name);
        // inotify_merge() compares all but the cookie, and never merges IN_IGNORED.
        let same = |last: &Vec<u8>| last[..8] == event[..8] && last[12..] == event[12..];
        if mask & EventKind::Ignored.bit() == 0 && self.queue.back().is_some_and(same) {
            return;
        }
        self.push(event);
    }

    fn push(&mut self, event: Vec<u8>) {
        self.queued += event.len();
        self.queue.push_back(event);
    }
}

fn is_overflow(event: &[u8]) -> bool {
    event[..4] == (-1_i32).to_ne_bytes()
}

/// A `struct inotify_event`: the name is followed by one NUL or more, up to a multiple of 16.
fn wire(wd: i32, mask: u32, cookie: u32, name: &[u8]) -> Vec<u8> {
    let padded = if name.is_empty() { 0 } else { (name.len() + 1).next_multiple_of(HEADER_SIZE) };
    let mut bytes = Vec::with_capacity(HEADER_SIZE + padded);
    bytes.extend(wd.to_ne_bytes());
    bytes.extend(mask.to_ne_bytes());
    bytes.extend(cookie.to_ne_bytes());
    bytes.extend((padded as u32).to_ne_bytes());
    bytes.extend(name);
    bytes.resize(HEADER_SIZE + padded, 0);
    bytes
}
