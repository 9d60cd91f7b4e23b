//! A machine that exists only here: one configuration file, every user, a small tree that never changes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use rinotifyd::config::Config;
use rinotifyd::config::host::Host;
use rinotifyd::config::load::load;
use rinotifyd::config::trust::Part;
use rinotifyd::engine::message::{Entry, EntryKind, Facts, FileKind, Item, List, Scan, ScanError, Seen};
use rinotifyd::engine::{Effect, Engine, Input, Options};
use rinotifyd::event;
use rinotifyd::pattern::PathPattern;
use rinotifyd::types::{Identity, Millis, Wd};

/// The text of the configuration file.
pub struct OneFile<'a>(pub &'a [u8]);

impl Host for OneFile<'_> {
    fn read(&self, path: &Path, _: &mut dyn FnMut(Part<'_>) -> bool) -> io::Result<Option<Vec<u8>>> {
        if path != Path::new("/etc/fuzz.conf") {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Some(self.0.into()))
    }

    fn list(&self, _: &Path, _: &PathPattern) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn exists(&self, _: &[u8]) -> bool {
        false
    }

    fn has_match(&self, _: &PathPattern) -> bool {
        true
    }

    fn finds_program(&self, _: &[u8]) -> bool {
        true
    }

    fn user(&self, name: &str, _: Option<u32>) -> io::Result<Option<Identity>> {
        let (name, home) = (name.to_owned(), b"/".to_vec());
        Ok(Some(Identity { uid: 1, gid: 1, groups: Vec::new(), name, home }))
    }

    fn group(&self, _: &str) -> io::Result<Option<u32>> {
        Ok(Some(1))
    }

    fn is_root(&self) -> bool {
        true
    }
}

/// What a good configuration says.
pub fn config(text: &str) -> Config {
    load(Path::new("/etc/fuzz.conf"), &OneFile(text.as_bytes())).expect("it is valid").config
}

/// More steps than one input may lead to.
const STEPS_MAX: usize = 10_000;

/// Pieces of work after one read. The tree here never changes, whatever the events say, so that the engine may
/// visit a directory again and again; whether work ends on a true tree is for the simulation to show.
const PIECES_MAX: usize = 100;

/// An engine on a tree of which `/w` is watched: two directories in each directory, three levels deep, and a
/// file. Watches are numbered from 1 in the order of the visits.
pub struct Machine {
    engine: Engine,
    watches: HashMap<Vec<u8>, Wd>,
    now: Millis,
    effects: Vec<Effect>,
    /// What is not carried out here.
    pub others: Vec<Effect>,
}

impl Machine {
    pub fn start(config: Config) -> Self {
        let options = Options { dry_run: false, default_max_jobs: 4, sift_at: 64, kept_max: 64, secret: [0; 2] };
        let mut machine = Self {
            engine: Engine::new(config, options, 0),
            watches: HashMap::new(),
            now: 0,
            effects: Vec::new(),
            others: Vec::new(),
        };
        machine.step(Input::Start { wall_ns: 0 });
        machine.work();
        machine
    }

    pub fn step(&mut self, input: Input<'_>) {
        self.engine.step(self.now, input, &mut self.effects);
        for _ in 0..STEPS_MAX {
            if self.effects.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Scan(scan) => self.scan(&scan),
                    Effect::Inspect(inspect) => {
                        let facts = Facts { kind: FileKind::Plain };
                        self.engine.step(
                            self.now,
                            Input::Inspected { task: inspect.task, facts },
                            &mut self.effects,
                        );
                    }
                    Effect::Log(_) => {}
                    effect => self.others.push(effect),
                }
            }
        }
        panic!("one input leads to effects without end");
    }

    /// Long work.
    pub fn work(&mut self) {
        for _ in 0..PIECES_MAX {
            if !self.engine.has_work() {
                return;
            }
            self.step(Input::Spare);
        }
    }

    pub fn pass(&mut self, time: Millis) {
        self.now += time;
        self.step(Input::Tick { queued: 0, wall_ns: 0 });
    }

    /// One read of the inotify descriptor. The kernel gives whole events only.
    pub fn read(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..event::parse(bytes).map(|(_, size)| size).sum()];
        self.step(Input::Filled { bytes: bytes.len(), emptied: true, wall_ns: 0 });
        for (event, size) in event::parse(bytes) {
            self.step(Input::Event { event, size });
        }
        self.step(Input::Drained);
        self.work();
    }

    fn scan(&mut self, scan: &Scan) {
        for item in &scan.items {
            let result = self.visit(&scan.base, item);
            let scanned = Input::Scanned { node: item.node, result, before: 0, queued: 0 };
            self.engine.step(self.now, scanned, &mut self.effects);
        }
    }

    fn visit(&mut self, base: &[u8], item: &Item) -> Result<Seen, ScanError> {
        let path = [base, b"/", item.name.as_slice()].concat();
        let names: Vec<_> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        match names.split_first() {
            None => {}
            Some((&b"w", below))
                if below.len() <= 3 && below.iter().all(|name| *name == b"a" || *name == b"b") => {}
            Some((&b"w", [.., b"f"])) => return Err(ScanError::NotDirectory),
            Some(_) => return Err(ScanError::NotFound),
        }
        let next = Wd(self.watches.len() as i32 + 1);
        let wd = *self.watches.entry(names.join(&b'/')).or_insert(next);
        let entry = |name: &[u8], kind| Entry { name: name.into(), kind, changed: true };
        let mut entries = match names.len() {
            0 => vec![entry(b"w", EntryKind::Directory)],
            1..=3 => vec![entry(b"a", EntryKind::Directory), entry(b"b", EntryKind::Directory)],
            _ => Vec::new(),
        };
        match item.list {
            List::Nothing => entries.clear(),
            List::Directories => {}
            List::Named => entries = item.names.iter().map(|name| entry(name, EntryKind::File)).collect(),
            _ => entries.push(entry(b"f", EntryKind::File)),
        }
        Ok(Seen { wd, entries, remote: None })
    }
}
