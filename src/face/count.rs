//! How many directories a configuration would watch: for `--configtest`.
//!
//! A real engine visits the trees as it does at a start, so that every rule about what is watched is its
//! own. The directories are listed as the daemon lists them, but none is watched: its inode gets a number.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::config::Config;
use crate::engine::message::ScanError;
use crate::engine::{Effect, Engine, Input, KEPT_MAX, Options, SIFT_AT};
use crate::quote::Quoted;
use crate::record::{Level, LogLevels};
use crate::shell::scan::{Scanner, Watches};
use crate::sys::stat::FileId;
use crate::sys::{Errno, clock, dir};
use crate::types::Wd;

/// What a configuration would watch.
#[derive(Debug)]
pub struct Count {
    /// Directories, each once however many watches cover it; with those on the way to the watch paths.
    pub directories: usize,
    /// Symbolic links in watch paths that are not followed, in words.
    pub refused: BTreeSet<String>,
}

/// Visits all that would be watched.
#[must_use]
pub fn count(mut config: Config) -> Count {
    config.log = LogLevels { default: Level::Critical, by_name: Vec::new() };
    for watch in &mut config.watches {
        // What is in the directories is not the question.
        watch.catch_up = false;
    }
    let options = Options {
        dry_run: true,
        default_max_jobs: u32::MAX,
        sift_at: SIFT_AT,
        kept_max: KEPT_MAX,
        secret: [0; 2],
    };
    let mut counter = Counter {
        engine: Engine::new(config, options, 0),
        scanner: Scanner::default(),
        numbers: Numbers::default(),
        effects: Vec::new(),
        refused: BTreeSet::new(),
    };
    counter.step(Input::Start { wall_ns: clock::wall_ns() });
    while counter.engine.has_work() {
        counter.step(Input::Spare);
    }
    Count { directories: counter.engine.directories(), refused: counter.refused }
}

struct Counter {
    engine: Engine,
    scanner: Scanner,
    numbers: Numbers,
    effects: Vec<Effect>,
    refused: BTreeSet<String>,
}

impl Counter {
    /// An input, and the scans that follow from it. Nothing else is carried out.
    fn step(&mut self, input: Input<'_>) {
        self.engine.step(0, input, &mut self.effects);
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                let Effect::Scan(scan) = effect else { continue };
                let results = self.scanner.scan(&self.numbers, &scan);
                dir::leave();
                for (item, result) in scan.items.iter().zip(results) {
                    if let Err(ScanError::Untrusted { link, why }) = &result {
                        self.refused.insert(format!("{}: {why}", Quoted(link)));
                    }
                    let scanned = Input::Scanned { node: item.node, result, before: 0, queued: 0 };
                    self.engine.step(0, scanned, &mut self.effects);
                }
            }
        }
    }
}

/// Stands for the kernel's watches: one for each inode.
#[derive(Default)]
struct Numbers(RefCell<HashMap<FileId, Wd>>);

impl Numbers {
    /// The number of a directory that may be read; a watch needs that right too (`inotify_add_watch(2)`).
    fn number(&self, dir: BorrowedFd<'_>) -> Result<Wd, Errno> {
        let dir = dir::open_child(dir, c".")?;
        let mut numbers = self.0.borrow_mut();
        let next = Wd(i32::try_from(numbers.len()).map_err(|_| Errno::ENOSPC)? + 1);
        Ok(*numbers.entry(dir::identity(dir.as_fd())?).or_insert(next))
    }
}

impl Watches for Numbers {
    fn identify(&self, dir: BorrowedFd<'_>) -> Result<Wd, Errno> {
        self.number(dir)
    }

    fn enter_and_watch(&self, dir: BorrowedFd<'_>, _: u32) -> Result<Wd, Errno> {
        self.number(dir)
    }

    fn set_mask(&self, dir: BorrowedFd<'_>, _: u32) -> Result<Wd, Errno> {
        self.number(dir)
    }

    fn watch_by_name(&self, parent: BorrowedFd<'_>, name: &CStr, _: u32) -> Result<Wd, Errno> {
        self.number(dir::hold_child(parent, name)?.as_fd())
    }

    /// An inode keeps its number.
    fn unwatch(&self, _: Wd) -> Result<(), Errno> {
        Ok(())
    }
}
