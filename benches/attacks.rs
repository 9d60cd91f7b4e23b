//! What one user can do to a daemon that watches a directory of theirs; see `neighbours`.
//!
//! An attack is carried out by a process of its own, which is killed when the measurement is over.

use std::env::set_current_dir;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// With this argument the program attacks: the attack's name, the directory and the size follow.
pub const TOOL: &str = "attack";

/// No attack fills more of the temporary folder than this.
const NEW_MAX: usize = 100_000;

/// Where an attack takes place.
pub struct Ground {
    pub dir: PathBuf,
    /// What the daemon watches for the attacker.
    pub watched: PathBuf,
    /// What it does not watch, on the same filesystem.
    pub outside: PathBuf,
    pub size: usize,
}

impl Ground {
    pub fn new(dir: &Path, size: usize) -> Self {
        let (watched, outside) = (dir.join("watched"), dir.join("outside"));
        for path in [&watched, &outside] {
            fs::create_dir_all(path).unwrap();
        }
        Self { dir: dir.to_owned(), watched, outside, size }
    }

    /// Makes so many directories in `base`.
    fn directories(base: &Path, count: usize) {
        for number in 0..count {
            fs::create_dir_all(base.join(format!("{}/{}", number / 100, number % 100))).unwrap();
        }
    }

    /// All directories that [`Ground::directories`] has made there.
    fn each_directory(base: &Path, count: usize) -> impl Iterator<Item = PathBuf> {
        (0..count).map(move |number| base.join(format!("{}/{}", number / 100, number % 100)))
    }
}

/// One attack. What it does not need is [`nothing`].
pub struct Attack {
    pub name: &'static str,
    /// How much of it: in a whole run, and in a quick one.
    pub sizes: [usize; 2],
    /// Before the daemon starts.
    pub prepare: fn(&Ground),
    /// The attacker's part of the configuration.
    pub config: fn(&Ground) -> String,
    /// Once the daemon watches, before the attack.
    pub fill: fn(&Ground),
    /// In a process of its own.
    pub attack: fn(&Ground),
    /// After the daemon has ended.
    pub clean: fn(&Ground),
    /// The attack is that the administrator takes the attacker's watch away, by a reload.
    pub reloads: bool,
    /// The kernel's queue of events is shorter than usual, so that it overflows on a fast machine too.
    pub queue_is_short: bool,
}

impl Attack {
    pub fn size(&self, quick: bool) -> usize {
        self.sizes[usize::from(quick)]
    }
}

const PLAIN: Attack = Attack {
    name: "",
    sizes: [0, 0],
    prepare: nothing,
    config: waiting,
    fill: nothing,
    attack: nothing,
    clean: nothing,
    reloads: false,
    queue_is_short: false,
};

/// In the order in which they are measured; the first is none, for comparison.
pub const ATTACKS: &[Attack] = &[
    Attack { name: "no attack", ..PLAIN },
    Attack { name: "mkdir without end", sizes: [NEW_MAX, NEW_MAX], attack: make_directories, ..PLAIN },
    Attack {
        name: "one file renamed without end",
        sizes: [1_000_000, 100_000],
        attack: rename_file,
        ..PLAIN
    },
    Attack { name: "create, close, unlink in a loop", config: logged, attack: make_and_unlink, ..PLAIN },
    Attack {
        name: "a large tree renamed to and fro",
        sizes: [10_000, 1_000],
        prepare: make_tree,
        config: filtered,
        attack: rename_tree,
        ..PLAIN
    },
    Attack {
        name: "a deep chain of directories",
        sizes: [16_000, 2_000],
        attack: make_chain,
        clean: unmake_chain,
        ..PLAIN
    },
    Attack {
        name: "a large directory moved in",
        sizes: [500_000, 20_000],
        prepare: make_listing,
        attack: move_listing_in,
        ..PLAIN
    },
    Attack {
        name: "overflows over many directories",
        sizes: [20_000, 1_000],
        prepare: make_tree,
        attack: flood,
        queue_is_short: true,
        ..PLAIN
    },
    Attack {
        name: "FIFOs that commands open",
        sizes: [64, 64],
        prepare: make_fifos,
        config: reading,
        attack: move_fifos_in,
        clean: release_readers,
        ..PLAIN
    },
    Attack {
        name: "a reload drops directories with tasks",
        sizes: [10_000, 1_000],
        prepare: make_tree,
        fill: fill_tree,
        reloads: true,
        ..PLAIN
    },
    Attack {
        name: "directories with tasks moved out",
        sizes: [2_000, 200],
        prepare: make_tree,
        fill: fill_tree_well,
        attack: move_tree_out,
        ..PLAIN
    },
];

/// Carries out the attack that the arguments name.
pub fn main(name: &str, dir: &Path, size: usize) {
    let attack = ATTACKS.iter().find(|attack| attack.name == name).expect("a known attack");
    (attack.attack)(&Ground::new(dir, size));
}

fn nothing(_: &Ground) {}

// Configurations.

fn watch(ground: &Ground, scheduler: &str, more: &str) -> String {
    format!(
        "[scheduler attacker]\n{scheduler}\n[event_map attacker]\nIN_CLOSE_WRITE = attacker\n\
         IN_MOVED_TO = attacker\n[watch attacker]\npath = {}\nevent_map = attacker\nrec = yes\n\
         auto_add = yes\n{more}",
        ground.watched.display()
    )
}

const WAITING: &str = "type = exec\ncmd = /bin/true {pathname}\ndelay = 1h";

fn waiting(ground: &Ground) -> String {
    watch(ground, WAITING, "")
}

fn logged(ground: &Ground) -> String {
    watch(ground, WAITING, "[log attacker]\nlevel = debug\n")
}

fn filtered(ground: &Ground) -> String {
    watch(ground, WAITING, &format!("exclude_filter = ^{}/left-out$\n", ground.watched.display()))
}

/// A command that opens the file.
fn reading(ground: &Ground) -> String {
    watch(ground, "type = exec\ncmd = /usr/bin/wc -c {pathname}\noutput = null", "")
}

// Before the daemon starts, and between its start and the attack.

fn make_tree(ground: &Ground) {
    Ground::directories(&ground.watched.join("tree"), ground.size);
}

fn make_listing(ground: &Ground) {
    let dir = ground.outside.join("listing");
    fs::create_dir(&dir).unwrap();
    for number in 0..ground.size {
        File::create(dir.join(number.to_string())).unwrap();
    }
}

fn make_fifos(ground: &Ground) {
    for number in 0..ground.size {
        mkfifo(&ground.outside.join(number.to_string()), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    }
}

fn fill_tree(ground: &Ground) {
    fill_directories(ground, 10);
}

fn fill_tree_well(ground: &Ground) {
    fill_directories(ground, 200);
}

/// So many waiting tasks for each directory of the tree: one file with one name after the other.
fn fill_directories(ground: &Ground, tasks: usize) {
    for dir in Ground::each_directory(&ground.watched.join("tree"), ground.size) {
        let mut path = dir.join("0");
        File::create(&path).unwrap();
        for number in 1..tasks {
            let next = dir.join(number.to_string());
            fs::rename(&path, &next).unwrap();
            path = next;
        }
    }
}

// The attacks.

fn make_directories(ground: &Ground) {
    Ground::directories(&ground.watched, ground.size);
}

fn rename_file(ground: &Ground) {
    let mut path = ground.watched.join("0");
    File::create(&path).unwrap();
    for number in 1..ground.size {
        let next = ground.watched.join(number.to_string());
        fs::rename(&path, &next).unwrap();
        path = next;
    }
}

fn make_and_unlink(ground: &Ground) {
    let path = ground.watched.join("file");
    loop {
        File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
    }
}

fn rename_tree(ground: &Ground) {
    let names = ["tree", "other"].map(|name| ground.watched.join(name));
    loop {
        fs::rename(&names[0], &names[1]).unwrap();
        fs::rename(&names[1], &names[0]).unwrap();
    }
}

/// One level at a time, since the path is longer than one system call takes.
fn make_chain(ground: &Ground) {
    set_current_dir(&ground.watched).unwrap();
    for _ in 0..ground.size {
        fs::create_dir("d").unwrap();
        set_current_dir("d").unwrap();
    }
}

/// From the bottom up: `remove_dir_all` holds a descriptor for each level.
fn unmake_chain(ground: &Ground) {
    let before = std::env::current_dir().unwrap();
    set_current_dir(&ground.watched).unwrap();
    let mut depth = 0;
    while set_current_dir("d").is_ok() {
        depth += 1;
    }
    for _ in 0..depth {
        set_current_dir("..").unwrap();
        fs::remove_dir("d").unwrap();
    }
    set_current_dir(before).unwrap();
}

fn move_listing_in(ground: &Ground) {
    fs::rename(ground.outside.join("listing"), ground.watched.join("listing")).unwrap();
}

fn flood(ground: &Ground) {
    let dirs: &Vec<_> = &Ground::each_directory(&ground.watched.join("tree"), ground.size).collect();
    let names = ["one", "two", "three"];
    thread::scope(|scope| {
        for name in names {
            scope.spawn(move || {
                for dir in dirs.iter().cycle() {
                    let path = dir.join(name);
                    File::create(&path).unwrap();
                    fs::remove_file(&path).unwrap();
                }
            });
        }
    });
}

fn move_fifos_in(ground: &Ground) {
    for number in 0..ground.size {
        let name = number.to_string();
        fs::rename(ground.outside.join(&name), ground.watched.join(&name)).unwrap();
    }
}

/// Lets the commands go that the daemon has started: they wait for a writer.
fn release_readers(ground: &Ground) {
    for entry in fs::read_dir(&ground.watched).unwrap().flatten() {
        let mut options = OpenOptions::new();
        // ENXIO where no command waits.
        drop(options.write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(entry.path()));
    }
}

fn move_tree_out(ground: &Ground) {
    for (number, dir) in Ground::each_directory(&ground.watched.join("tree"), ground.size).enumerate() {
        fs::rename(dir, ground.outside.join(number.to_string())).unwrap();
    }
}
