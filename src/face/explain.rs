//! `--explain`: what an event would do, decided by the engine.
//!
//! A real engine makes a dry run with a simulated clock. It sees a tree of the path and the directories above
//! it, then the event, and explains each decision. An entry that exists on disk has the kind that it has
//! there. An entry that does not exist is assumed to exist.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::config::Config;
use crate::engine::message::{Entry, EntryKind, Facts, FileKind, Inspect, Item, List, Scan, ScanError, Seen};
use crate::engine::{Effect, Engine, Input, KEPT_MAX, Options, SIFT_AT};
use crate::event::{EventKind, HEADER_SIZE, IN_ISDIR, RawEvent};
use crate::quote::{Quoted, plain};
use crate::record::{Level, LogLevels};
use crate::sys::resolve::refused_link;
use crate::types::{Millis, Wd};

/// A task may be decided on in several steps, but not in more than these.
const STEPS_MAX: usize = 1_000;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The event.
    pub kind: EventKind,
    /// The path as typed. A slash at its end says that it is a directory, if it does not exist.
    pub path: Vec<u8>,
}

/// The names that lead to the path, and what it is.
struct Target {
    names: Vec<Vec<u8>>,
    is_dir: bool,
}

struct Explainer {
    engine: Engine,
    target: Target,
    /// By depth: the watch of the directory that many names lead to.
    watches: Vec<Option<Wd>>,
    next_wd: i32,
    now: Millis,
    effects: Vec<Effect>,
    lines: Vec<String>,
    runs: bool,
}

/// The decisions, one a line, and whether something would run. `path` is absolute, without `.` and
/// `..`.
#[must_use]
pub fn explain(mut config: Config, kind: EventKind, path: &[u8]) -> (String, bool) {
    config.log = LogLevels { default: Level::Debug, by_name: Vec::new() };
    for watch in &mut config.watches {
        // What is there at start is not the question.
        watch.catch_up = false;
    }
    let names =
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    let mut target = Target { names, is_dir: path.ends_with(b"/") };
    let shown = target.path(target.names.len());
    if let Ok(metadata) = fs::symlink_metadata(Path::new(OsStr::from_bytes(&shown))) {
        target.is_dir = metadata.is_dir();
    }
    let is = if target.is_dir { "directory" } else { "file" };
    let mut explainer = Explainer {
        engine: Engine::new(
            config,
            Options {
                dry_run: true,
                default_max_jobs: u32::MAX,
                sift_at: SIFT_AT,
                kept_max: KEPT_MAX,
                secret: [0; 2],
            },
            0,
        ),
        watches: vec![None; target.names.len() + 1],
        target,
        next_wd: 1,
        now: 0,
        effects: Vec::new(),
        lines: vec![format!("{} of the {is} {}", kind.name(), Quoted(&shown))],
        runs: false,
    };
    explainer.start();
    explainer.engine.explain_decisions();
    explainer.explain_gap();
    explainer.happen(kind);
    explainer.finish();
    let Explainer { mut lines, runs, .. } = explainer;
    if lines.len() == 1 {
        lines.push("no watch covers it".to_owned());
    }
    if !runs {
        lines.push("nothing would run".to_owned());
    }
    (lines.join("\n") + "\n", runs)
}

impl Target {
    /// The path that so many names lead to.
    fn path(&self, depth: usize) -> Vec<u8> {
        let path: Vec<u8> =
            self.names[..depth].iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect();
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    /// How many names lead to what an item of a scan is, if that is on the way.
    fn depth(&self, base: &[u8], item: &Item) -> Option<usize> {
        let path = [base, b"/", &item.name].concat();
        let names: Vec<_> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let leads = names.len() <= self.names.len() && names.iter().zip(&self.names).all(|(a, b)| a == b);
        leads.then_some(names.len())
    }

    fn is_directory(&self, depth: usize) -> bool {
        depth < self.names.len() || self.is_dir
    }
}

impl Explainer {
    fn start(&mut self) {
        self.step(Input::Start { wall_ns: 0 });
        while self.engine.has_work() {
            self.step(Input::Spare);
        }
    }

    /// Explains which of the directories above the path is the first that is not watched.
    fn explain_gap(&mut self) {
        let depth = self.target.names.len();
        let gap = (1..depth).find(|depth| self.watches[*depth].is_none());
        if let Some((gap, wd)) = gap.and_then(|gap| Some((gap, self.watches[gap - 1]?))) {
            let name = self.target.names[gap - 1].clone();
            self.engine.explain_gap(wd, &name, &mut self.effects);
            self.carry_out();
        }
    }

    /// Delivers the event as the kernel would: to the directory that holds the entry, and to the entry
    /// itself if it is a watched directory.
    fn happen(&mut self, kind: EventKind) {
        let depth = self.target.names.len();
        let name = self.target.names.last().cloned().unwrap_or_default();
        let flag = if self.target.is_dir { IN_ISDIR } else { 0 };
        // A file has no watch of its own. The directory that holds it reports its end.
        let around = match kind {
            EventKind::DeleteSelf if !self.target.is_dir => Some(EventKind::Delete),
            EventKind::MoveSelf if !self.target.is_dir => Some(EventKind::MovedFrom),
            EventKind::DeleteSelf | EventKind::MoveSelf | EventKind::Unmount | EventKind::Ignored => None,
            EventKind::QOverflow => return self.event(Wd(-1), kind.bit(), b""),
            kind => Some(kind),
        };
        let parent = depth.checked_sub(1).and_then(|above| self.watches[above]);
        if let (Some(around), Some(wd)) = (around, parent) {
            self.event(wd, around.bit() | flag, &name);
        }
        let told_itself = !matches!(
            kind,
            EventKind::Create
                | EventKind::Delete
                | EventKind::MovedFrom
                | EventKind::MovedTo
                | EventKind::Modify
        );
        if let Some(wd) = self.watches[depth].filter(|_| told_itself) {
            self.event(wd, kind.bit() | flag, b"");
        }
    }

    fn event(&mut self, wd: Wd, mask: u32, name: &[u8]) {
        let size = HEADER_SIZE + name.len();
        self.step(Input::Filled { bytes: size, emptied: true, wall_ns: 0 });
        self.step(Input::Event { event: RawEvent { wd, mask, cookie: 1, name }, size });
        self.step(Input::Drained);
    }

    /// Advances the clock until no task waits.
    fn finish(&mut self) {
        for _ in 0..STEPS_MAX {
            let Some(deadline) = self.engine.next_deadline().filter(|_| self.engine.has_tasks()) else {
                return;
            };
            self.now = self.now.max(deadline);
            self.step(Input::Tick { queued: 0, wall_ns: 0 });
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.engine.step(self.now, input, &mut self.effects);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Scan(scan) => self.scan(&scan),
                Effect::Explain(line) => self.lines.push(line),
                Effect::Inspect(inspect) => self.inspect(&inspect),
                Effect::Log(record) if matches!(record.message.as_str(), "dry run" | "task failed") => {
                    self.runs |= record.message == "dry run";
                    let known = ["event", "path", "task_id"];
                    let fields = record.fields.iter().filter(|(key, _)| !known.contains(key));
                    self.lines.extend(fields.map(|(key, value)| format!("    {key}: {}", plain(value))));
                }
                _ => {}
            }
        }
    }

    /// What is not there is taken to be a file.
    fn inspect(&mut self, inspect: &Inspect) {
        let path = Path::new(OsStr::from_bytes(&inspect.path));
        let found = if inspect.follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let kind = match found.map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_fifo() => FileKind::Fifo,
            Ok(kind) if kind.is_socket() || kind.is_char_device() || kind.is_block_device() => {
                FileKind::Other
            }
            _ => FileKind::Plain,
        };
        self.step(Input::Inspected { task: inspect.task, facts: Facts { kind } });
    }

    fn scan(&mut self, scan: &Scan) {
        for item in &scan.items {
            let result = self.look(&scan.base, item);
            self.step(Input::Scanned { node: item.node, result, before: 0, queued: 0 });
        }
    }

    fn look(&mut self, base: &[u8], item: &Item) -> Result<Seen, ScanError> {
        let depth = self.target.depth(base, item).ok_or(ScanError::NotFound)?;
        let path = self.target.path(depth);
        if item.follow
            && let Some(link) = refused_link(&path)
        {
            let line = link.to_string();
            if !self.lines.contains(&line) {
                self.lines.push(line);
            }
            return Err(ScanError::Untrusted { why: link.why(), link: link.path });
        }
        let path = Path::new(OsStr::from_bytes(&path));
        let found = if item.follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
        if !found.map_or(self.target.is_directory(depth), |metadata| metadata.is_dir()) {
            return Err(ScanError::NotDirectory);
        }
        let wd = *self.watches[depth].get_or_insert(Wd(self.next_wd));
        self.next_wd += 1;
        let mut entries = Vec::new();
        if item.list != List::Nothing
            && depth < self.target.names.len()
            && self.target.is_directory(depth + 1)
        {
            let name = self.target.names[depth].clone().into();
            entries.push(Entry { name, kind: EntryKind::Directory, changed: false });
        }
        Ok(Seen { wd, entries, remote: None })
    }
}
