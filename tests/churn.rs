//! Threads that create, write, rename, exchange, move in and out and delete at random, below and
//! beside a watched tree; what the daemon told and watches in the end is compared with the disk.
//!
//! `make churn SEED=1 SECONDS=60` repeats it for longer and with another seed. The threads race, so
//! that a seed says what each of them tries, not in which order.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use events::{config, directories_on_disk, told, watch};
use scratch::{Daemon, Scratch};

#[path = "it/events.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod events;
#[path = "it/scratch.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod scratch;

const THREADS: u64 = 4;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const DEPTH_MAX: u64 = 4;

/// Microseconds between two attempts of one thread, so that the kernel's queue does not overflow.
const PAUSE_MICROS: u64 = 300;

/// `xorshift64*`, as in Vigna, "An experimental exploration of Marsaglia's xorshift generators".
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len() as u64) as usize]
    }
}

/// What all threads share.
struct World {
    top: PathBuf,
    /// Files have names of their own.
    files: AtomicU64,
    /// Every path that ever was.
    existed: Mutex<HashSet<PathBuf>>,
    /// Held for writing while directories get other names, so that `existed` is complete.
    names: RwLock<()>,
}

impl World {
    fn new(top: PathBuf) -> Self {
        Self { top, files: AtomicU64::new(0), existed: Mutex::default(), names: RwLock::default() }
    }

    /// A path of directories that may be there, three of four times in the watched tree.
    fn folder(&self, rng: &mut Rng) -> PathBuf {
        let mut path = self.top.join(if rng.below(4) == 0 { "out" } else { "src" });
        (0..rng.below(DEPTH_MAX)).for_each(|_| path.push(rng.name()));
        path
    }

    fn new_file(&self) -> String {
        format!("f{}", self.files.fetch_add(1, Ordering::Relaxed))
    }

    fn any_file(&self, folder: &Path, rng: &mut Rng) -> Option<PathBuf> {
        let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        let files: Vec<_> = entries.filter(|path| !path.is_dir()).collect();
        files.get(rng.below(files.len().max(1) as u64) as usize).cloned()
    }

    fn note(&self, path: PathBuf) {
        self.existed.lock().unwrap().insert(path);
    }

    /// Notes a directory and all that is below it.
    fn note_tree(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.note_tree(&entry.path());
            }
            self.note(entry.path());
        }
        self.note(folder.to_owned());
    }

    fn write(&self, folder: &Path) {
        let path = folder.join(self.new_file());
        // Noted first: it may be gone already.
        self.note(path.clone());
        drop(fs::write(path, "content"));
    }

    fn make_tree(&self, rng: &mut Rng) {
        let mut folder = self.folder(rng);
        for _ in 0..=rng.below(DEPTH_MAX) {
            folder.push(rng.name());
            let made = folder.ancestors().take_while(|path| *path != self.top);
            made.for_each(|path| self.note(path.to_owned()));
            drop(fs::create_dir_all(&folder));
            self.write(&folder);
        }
    }

    fn rename_file(&self, rng: &mut Rng) {
        let Some(from) = self.any_file(&self.folder(rng), rng) else { return };
        let to = self.folder(rng).join(self.new_file());
        self.note(to.clone());
        drop(fs::rename(from, to));
    }

    fn rename_folder(&self, rng: &mut Rng) {
        let (from, to) = (self.folder(rng).join(rng.name()), self.folder(rng).join(rng.name()));
        let _alone = self.names.write().unwrap();
        if fs::rename(from, &to).is_ok() {
            self.note_tree(&to);
        }
    }

    #[cfg(target_env = "gnu")]
    fn exchange_folders(&self, rng: &mut Rng) {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        let (one, other) = (self.folder(rng).join(rng.name()), self.folder(rng).join(rng.name()));
        let _alone = self.names.write().unwrap();
        if renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).is_ok() {
            self.note_tree(&one);
            self.note_tree(&other);
        }
    }

    #[cfg(not(target_env = "gnu"))]
    fn exchange_folders(&self, rng: &mut Rng) {
        self.rename_folder(rng);
    }

    fn act(&self, rng: &mut Rng) {
        match rng.below(20) {
            0..4 => self.rename_folder(rng),
            4 => self.exchange_folders(rng),
            _ => {
                let _names_stay = self.names.read().unwrap();
                match rng.below(15) {
                    0..3 => self.make_tree(rng),
                    3 => drop(fs::remove_dir_all(self.folder(rng).join(rng.name()))),
                    4..6 => self.rename_file(rng),
                    6 => drop(self.any_file(&self.folder(rng), rng).map(fs::remove_file)),
                    _ => self.write(&self.folder(rng)),
                }
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "it goes on for a time that the user chose")]
    fn run(&self, seed: u64, time: Duration) {
        let pause = Duration::from_micros(number("CHURN_PAUSE", PAUSE_MICROS));
        let start = Instant::now();
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        while start.elapsed() < time {
            self.act(&mut rng);
            thread::sleep(pause);
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// All directories and files below `folder`.
fn everything_below(folder: &Path, folders: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) {
    folders.push(folder.to_owned());
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            everything_below(&entry.path(), folders, files);
        } else {
            files.push(entry.path());
        }
    }
}

/// Waits until no visit is pending: the events of a file that is written now have come.
fn settle(scratch: &Scratch, daemon: &mut Daemon, name: &str) {
    let file = scratch.write(format!("src/{name}"), "");
    daemon.wait_log(&format!("event=IN_CLOSE_WRITE path={}", file.display()));
    daemon.wait_status("to_visit=0");
}

#[test]
fn the_daemon_knows_the_disk_after_any_churn() {
    let (seed, time) = (number("CHURN_SEED", 1), Duration::from_secs(number("CHURN_SECONDS", 5)));
    let scratch = Scratch::new();
    scratch.dir("src");
    scratch.dir("out");
    let text = config(&["IN_CREATE", "IN_CLOSE_WRITE", "IN_MOVED_TO"], &watch("src"));
    let mut daemon = Daemon::start_ready(&scratch, &text, &["-n"]);
    let world = World::new(scratch.path(""));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let world = &world;
            scope.spawn(move || world.run(seed.wrapping_mul(THREADS) + number + 1, time));
        }
    });
    settle(&scratch, &mut daemon, "settled");
    daemon.wait_directories("src", directories_on_disk(&scratch.path("src")));
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    everything_below(&scratch.path("src"), &mut folders, &mut files);
    check_told(&scratch, &daemon, &world, &files);
    for folder in &folders {
        fs::write(folder.join("mark"), "").unwrap();
    }
    daemon.wait_lines(folders.len(), "/mark");
    settle(&scratch, &mut daemon, "last");
    let log = daemon.log();
    let marks: HashSet<_> = log.lines().filter(|line| line.contains("event=IN_CLOSE_WRITE")).collect();
    for folder in &folders {
        let mark = format!("path={}", folder.join("mark").display());
        assert!(marks.iter().any(|line| line.ends_with(&mark)), "seed {seed}: no {mark} in {log}");
    }
    daemon.stop();
}

/// Every file that is left was told, no file was written twice, and no path was invented.
fn check_told(scratch: &Scratch, daemon: &Daemon, world: &World, left: &[PathBuf]) {
    let told = told(scratch, daemon);
    let overflows = daemon.lines("queue overflowed").len();
    let existed = world.existed.lock().unwrap();
    let mut written = HashMap::new();
    let mut names = HashSet::new();
    let mut invented = Vec::new();
    for event in &told {
        let mut words = event.split(' ');
        let (kind, path) = (words.next().unwrap(), scratch.path(words.next().unwrap()));
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if kind == "IN_CLOSE_WRITE" {
            *written.entry(name.clone()).or_insert(0) += 1;
        }
        names.insert(name);
        // A rename that the kernel dropped shows only when the tree is compared.
        if overflows == 0 && !path.ends_with("settled") && !existed.contains(&path) {
            invented.push(event);
        }
    }
    let name_of = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let missing: Vec<_> = left.iter().filter(|path| !names.contains(&name_of(path))).collect();
    // What left and came back in a new directory looks as if it had been made there.
    let out = world.top.join("out");
    let outside: HashSet<_> = existed.iter().filter(|path| path.starts_with(&out)).map(name_of).collect();
    let is_twice = |name: &str, times: u32| overflows == 0 && times > 1 && !outside.contains(name);
    let twice: Vec<_> = written.iter().filter(|(name, times)| is_twice(name, **times)).collect();
    let (events, paths) = (told.len(), existed.len());
    eprintln!("{events} events, {paths} paths, {} files left, {overflows} overflows", left.len());
    for &(name, _) in &twice {
        let of_file: Vec<_> = told.iter().filter(|event| event.ends_with(&format!("/{name}"))).collect();
        eprintln!("{of_file:#?}");
    }
    assert!(
        missing.is_empty() && twice.is_empty() && invented.is_empty(),
        "missing: {missing:?}\ntwice: {twice:?}\ninvented: {invented:?}"
    );
}
