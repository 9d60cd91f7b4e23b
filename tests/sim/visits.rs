//! The model's shell visits directories as the daemon's shell does: the same tree is made on a disk and in
//! the model, both carry out the same scans, and all answers and all masks of the watches must be equal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rinotifyd::engine::message::{Effect, Entry, EntryKind, Input, Item, List, Scan, ScanError, Seen};
use rinotifyd::engine::{Engine, NodeId, Options};
use rinotifyd::event::EventKind;
use rinotifyd::shell::scan::Scanner;
use rinotifyd::sys::dir;
use rinotifyd::sys::inotify::Inotify;
use rinotifyd::types::Wd;

use crate::kernel::{Ino, TOP};
use crate::rng::{Rng, for_seeds};
use crate::setup::config;
use crate::shell::Shell;
use crate::world::World;

const NAMES: [&str; 6] = ["a", "b", "c", "f", "g", "h"];

/// All events; the flags beside them are not the model's.
const EVENTS: u32 = 0xfff;

/// One tree in two places, each with a shell.
struct Both {
    top: PathBuf,
    real: (Inotify, Scanner),
    model: Shell,
    /// The directories, relative to `top`.
    dirs: Vec<PathBuf>,
    /// Files that are held open for writing.
    writers: Vec<File>,
    node: NodeId,
}

impl Both {
    fn new(top: &Path, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut world = World::new(&mut rng);
        // Nothing happens but what the test does.
        world.budget = 0;
        let mut both = Self {
            top: top.to_owned(),
            real: (Inotify::new().unwrap(), Scanner::default()),
            model: Shell::new(config(top.as_os_str().as_bytes(), Vec::new(), &[]), world, rng),
            dirs: vec![PathBuf::new()],
            writers: Vec::new(),
            node: some_node(),
        };
        for path in top.ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
            both.make_in_model(path, true);
        }
        for _ in 0..12 {
            both.make_something();
        }
        both
    }

    fn ino(&self, path: &Path) -> Option<Ino> {
        self.model.world.kernel.resolve(path.as_os_str().as_bytes())
    }

    fn make_in_model(&mut self, path: &Path, is_dir: bool) -> Ino {
        let kernel = &mut self.model.world.kernel;
        let parent = path.parent().map_or(Some(TOP), |parent| kernel.resolve(parent.as_os_str().as_bytes()));
        let (parent, name) = (parent.expect("made before"), path.file_name().expect("a name").as_bytes());
        let there = kernel.child(parent, name);
        there.or_else(|| Some(kernel.create(parent, name, is_dir)?.0)).expect("it can be made")
    }

    fn make_something(&mut self) {
        let parent = self.model.rng.pick(&self.dirs).clone();
        let path = parent.join(*self.model.rng.pick(&NAMES));
        let full = self.top.join(&path);
        if full.exists() {
            return;
        }
        let is_dir = self.model.rng.one_in(2);
        let ino = self.make_in_model(&full, is_dir);
        if is_dir {
            fs::create_dir(&full).unwrap();
            self.dirs.push(path);
            return;
        }
        let file = File::create(&full).unwrap();
        if self.model.rng.one_in(2) {
            self.writers.push(file);
        } else {
            self.model.world.kernel.release(ino);
        }
    }

    /// A directory at random, or what is none.
    fn any_path(&mut self) -> PathBuf {
        let path = self.top.join(self.model.rng.pick(&self.dirs));
        if self.model.rng.one_in(4) { path.join(*self.model.rng.pick(&NAMES)) } else { path }
    }

    fn item(&mut self) -> Item {
        let rng = &mut self.model.rng;
        let since_ns = *rng.pick(&[0, i64::MAX]);
        let lists = [
            List::Nothing,
            List::Directories,
            List::Everything,
            List::Writers,
            List::Named,
            List::Changes { since_ns },
        ];
        let kinds = [EventKind::Create, EventKind::CloseWrite, EventKind::MovedTo, EventKind::Delete];
        Item {
            node: self.node,
            name: rng.pick(&NAMES).as_bytes().to_vec(),
            mask: rng.pick(&kinds).bit() | rng.pick(&kinds).bit(),
            replace: rng.one_in(3),
            follow: rng.one_in(4),
            list: *rng.pick(&lists),
            names: NAMES.iter().map(|name| name.as_bytes().into()).collect(),
        }
    }

    /// A scan, for the real shell and for the model: they differ in the numbers of watches.
    fn scans(&mut self) -> [Scan; 2] {
        let base = self.any_path();
        let expected = match self.model.rng.below(4) {
            0 => None,
            // Perhaps not the watch of the base.
            1 => Some(self.any_path()),
            _ => Some(base.clone()),
        };
        let expected = expected.and_then(|path| self.watches().into_iter().find(|(of, _)| *of == path));
        let items: Vec<[Item; 2]> = (0..=self.model.rng.below(3))
            .map(|_| {
                let item = self.item();
                [copy(&item), item]
            })
            .collect();
        let (real, model): (Vec<_>, Vec<_>) = items.into_iter().map(|[real, model]| (real, model)).unzip();
        let scan = |expect, items| Scan {
            base: base.as_os_str().as_bytes().to_vec(),
            trusted: self.top.as_os_str().len(),
            expect,
            items,
        };
        let wds = expected.map(|(_, wds)| wds);
        [scan(wds.map(|[wd, _]| wd), real), scan(wds.map(|[_, wd]| wd), model)]
    }

    /// The watched directories, with the number of each in the kernel and in the model.
    fn watches(&self) -> BTreeMap<PathBuf, [Wd; 2]> {
        let real = self.real_watches();
        let mut found = BTreeMap::new();
        for dir in &self.dirs {
            let path = self.top.join(dir);
            let model = self.ino(&path).and_then(|ino| self.model.world.kernel.wd(ino));
            let real = real.iter().find(|(_, (of, _))| *of == path).map(|(wd, _)| Wd(*wd));
            match (real, model) {
                (Some(real), Some(model)) => drop(found.insert(path, [real, model])),
                (None, None) => {}
                other => panic!("{}: watched in one place only: {other:?}", path.display()),
            }
        }
        found
    }

    /// By watch: the path and the mask, as /proc tells.
    fn real_watches(&self) -> BTreeMap<i32, (PathBuf, u32)> {
        use std::os::unix::fs::MetadataExt;
        let fd = std::os::fd::AsFd::as_fd(&self.real.0).as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("inotify "));
        let watches = lines.filter_map(|line| {
            let number = |key: &str| {
                let word = line.split(' ').find_map(|word| word.strip_prefix(key)).unwrap();
                u64::from_str_radix(word, 16).unwrap()
            };
            let is_it = |dir: &&PathBuf| fs::metadata(self.top.join(dir)).unwrap().ino() == number("ino:");
            let dir = self.dirs.iter().find(is_it)?;
            Some((number("wd:") as i32, (self.top.join(dir), number("mask:") as u32)))
        });
        watches.collect()
    }

    fn compare(&mut self) {
        let [real_scan, model_scan] = self.scans();
        let real = self.real.1.scan(&self.real.0, &real_scan);
        dir::leave();
        let model = self.model.visit(&model_scan);
        let watches = self.watches();
        let path_of =
            |wd: Wd, place: usize| watches.iter().find(|(_, wds)| wds[place] == wd).map(|(path, _)| path);
        let real: Vec<_> = real.into_iter().map(|result| told(result, |wd| path_of(wd, 0))).collect();
        let model: Vec<_> = model.into_iter().map(|result| told(result, |wd| path_of(wd, 1))).collect();
        assert_eq!(real, model, "{}", shown(&real_scan));
        for (path, [real, model]) in &watches {
            let real = self.real_watches()[&real.0].1 & EVENTS;
            let model = self.model.world.kernel.mask(*model).unwrap_or_default() & EVENTS;
            assert_eq!(real, model, "{}: the masks after {}", path.display(), shown(&real_scan));
        }
    }
}

/// A scan for a person.
fn shown(scan: &Scan) -> String {
    let item = |item: &Item| {
        let Item { name, mask, replace, follow, list, .. } = item;
        format!("{} mask={mask:x} replace={replace} follow={follow} {list:?}", name.escape_ascii())
    };
    let items: Vec<_> = scan.items.iter().map(item).collect();
    format!("{} expect={:?}\n  {}", scan.base.escape_ascii(), scan.expect, items.join("\n  "))
}

fn copy(item: &Item) -> Item {
    Item { name: item.name.clone(), names: item.names.clone(), ..*item }
}

/// Any node: a shell only passes it on.
fn some_node() -> NodeId {
    let options = Options { dry_run: false, default_max_jobs: 1, sift_at: 1, kept_max: 1, secret: [0; 2] };
    let mut engine = Engine::new(config(b"/top", Vec::new(), &[]), options, 0);
    let mut effects = Vec::new();
    engine.step(0, Input::Start { wall_ns: 0 }, &mut effects);
    engine.step(0, Input::Spare, &mut effects);
    let scan = effects.into_iter().find_map(|effect| match effect {
        Effect::Scan(scan) => Some(scan),
        _ => None,
    });
    scan.expect("the root is visited first").items[0].node
}

/// A result without the numbers of watches, and without the order of a listing.
fn told<'a>(result: Result<Seen, ScanError>, path: impl Fn(Wd) -> Option<&'a PathBuf>) -> String {
    match result {
        Ok(Seen { wd, mut entries, remote }) => {
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            let entry = |Entry { name, kind, changed }: &Entry| {
                // The stamps of the two are of different files.
                let kind = match kind {
                    EntryKind::Unsure { .. } => "unsure".to_owned(),
                    kind => format!("{kind:?}"),
                };
                format!("{} {kind} {changed}", name.escape_ascii())
            };
            format!("{:?} {remote:?} {:?}", path(wd), entries.iter().map(entry).collect::<Vec<_>>())
        }
        Err(ScanError::Stale(wd)) => format!("stale {:?}", wd.map(&path)),
        Err(error) => format!("{error:?}"),
    }
}

/// The only test that uses the working directory.
#[test]
fn the_model_visits_directories_as_the_daemon_does() {
    for_seeds(60, |seed| {
        let scratch = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(scratch.path()).unwrap();
        let mut both = Both::new(&top, seed);
        for _ in 0..20 {
            both.compare();
        }
    });
}

/// The way to a directory thousands of levels deep is not walked once for each.
#[test]
fn a_directory_that_was_visited_is_the_parent_of_the_next_without_looking_it_up() {
    let scratch = tempfile::tempdir().unwrap();
    let top = fs::canonicalize(scratch.path()).unwrap();
    fs::create_dir_all(top.join("a/b/c")).unwrap();
    let (inotify, mut scanner) = (Inotify::new().unwrap(), Scanner::default());
    let node = some_node();
    let mut visit = |base: &str, expect, name: &str, rests| {
        if rests {
            scanner.rest();
        }
        let item = Item {
            node,
            name: name.as_bytes().to_vec(),
            mask: EventKind::Create.bit(),
            replace: false,
            follow: false,
            list: List::Everything,
            names: Vec::new(),
        };
        let base = top.join(base).as_os_str().as_bytes().to_vec();
        let scan = Scan { base, trusted: top.as_os_str().len(), expect, items: vec![item] };
        scanner.scan(&inotify, &scan).remove(0)
    };
    let a = visit("", None, "a", false).unwrap().wd;
    let b = visit("a", Some(a), "b", false).unwrap().wd;
    fs::rename(top.join("a"), top.join("elsewhere")).unwrap();
    // It is the directory that has the watch, wherever it is: what became of its path is told by events.
    visit("a/b", Some(b), "c", false).unwrap();
    visit("a/b", Some(b), "c", false).unwrap();
    assert_eq!(visit("a/b", Some(a), "c", false), Err(ScanError::Stale(None)));
    assert_eq!(visit("a/b", Some(b), "c", true), Err(ScanError::Stale(None)));
    visit("elsewhere/b", Some(b), "c", true).unwrap();
}
