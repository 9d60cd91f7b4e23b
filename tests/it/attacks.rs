//! A user with a directory of their own, in which a daemon that runs as root moves, copies and deletes:
//! whatever they exchange, nothing outside of it is touched, and nothing that they may not read gets
//! into it.
//!
//! The attacker is a thread of the test with another user's rights, that changes things as fast as it
//! can while the daemon works.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::files::{config, strace, tree};
use crate::fuse;
use crate::mounting::Mount;
use crate::scratch::{Daemon, Scratch, can_tamper, is_root, rinotifyd};

/// A user without rights, who need not be in any database.
pub const USER: u32 = 54_321;

/// What only root may read.
const SECRET: &str = "only root knows this";

/// How many operations the daemon carries out in each attack. Names are new each time: a task that is
/// triggered again and again is slowed down.
const OPERATIONS: usize = 100;

/// The daemon may have missed what the attacker made: then the attack continues.
const TURNS_MAX: usize = 300;

/// A directory of root's with a secret, and one of the attacker's, in which the daemon works.
struct Scene {
    /// In memory: the daemon waits for no disk, and the attacker does not get ahead of it.
    _memory: Mount,
    scratch: Scratch,
    victim: Vec<(PathBuf, Victim)>,
}

/// What must stay as it is.
type Victim = (u32, u32, u32, u64, Option<String>);

fn victim(path: &Path) -> Victim {
    let found = fs::symlink_metadata(path).unwrap();
    let text = if found.is_file() { fs::read_to_string(path).ok() } else { None };
    (found.mode(), found.uid(), found.gid(), found.nlink(), text)
}

impl Scene {
    fn new() -> Self {
        let scratch = Scratch::new();
        let _memory = Mount::tmpfs(scratch.path(""));
        scratch.open_to_all();
        for name in ["in", "out", "spare"] {
            chown(scratch.dir(name), Some(USER), Some(USER)).unwrap();
        }
        // The same names as in the tree that is attacked.
        scratch.dir("victim/sub/sub");
        for name in ["victim/file", "victim/sub/file", "victim/sub/sub/file"] {
            fs::set_permissions(scratch.write(name, SECRET), PermissionsExt::from_mode(0o600)).unwrap();
        }
        let all = tree(&scratch.path("victim")).into_iter().map(|name| scratch.path("victim").join(name));
        let victim = all.map(|path| (path.clone(), victim(&path))).collect();
        Self { _memory, scratch, victim }
    }

    /// `events` trigger tasks. The daemon waits for a moment in the system calls of `slow`, so that the
    /// attacker can act between any two of them.
    fn start_slow(&self, scheduler: &str, events: &[&str], slow: &[&str]) -> Daemon {
        let text = uncancelled(scheduler, &all_rules());
        let wanted =
            |line: &&str| !line.ends_with("= archive") || events.iter().any(|event| line.starts_with(event));
        let text: Vec<&str> = text.lines().filter(wanted).collect();
        let mut daemon = strace(&self.scratch, &text.join("\n"), slow);
        daemon.ready();
        daemon
    }

    fn start(&self, scheduler: &str, rules: &str) -> Daemon {
        Daemon::start_ready(&self.scratch, &uncancelled(scheduler, rules), &[])
    }

    /// Fails if something of the victim has changed or been added, or if its secret is elsewhere too.
    fn check(&self, daemon: Daemon) {
        let log = daemon.stop();
        for (path, was) in &self.victim {
            assert_eq!(&victim(path), was, "{}\n{log}", path.display());
        }
        assert_eq!(tree(&self.scratch.path("victim")).len(), self.victim.len(), "{log}");
        for dir in ["in", "out", "spare"] {
            for name in tree(&self.scratch.path(dir)) {
                let path = self.scratch.path(dir).join(name);
                let found = fs::symlink_metadata(&path).unwrap();
                let told = found.is_file() && fs::read(&path).unwrap() == SECRET.as_bytes();
                assert!(!told, "{} tells the secret\n{log}", path.display());
            }
        }
    }
}

/// The attacker's changes must not cancel tasks.
fn uncancelled(scheduler: &str, rules: &str) -> String {
    let text = config(scheduler, rules);
    let lines = text.lines().filter(|line| !line.contains("cancel:"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A function that a thread repeats, at most until the value is dropped.
struct Attack {
    over: Arc<AtomicBool>,
    /// How many operations have ended.
    ended: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Attack {
    /// `attack` gets the number of the round and a function to call between two exchanges of names. The
    /// function says whether the daemon still works on this round. All attackers together make `tasks` tasks a
    /// round, so that the daemon is attacked during its work and never has more than it can do.
    fn new(tasks: usize, mut attack: impl FnMut(usize, &dyn Fn() -> bool) + Send + 'static) -> Self {
        let (over, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = thread::spawn({
            let (over, ended) = (Arc::clone(&over), Arc::clone(&ended));
            move || {
                become_user();
                let mut round = 0;
                while !over.load(Ordering::Relaxed) {
                    let turns = Cell::new(0);
                    attack(round, &|| {
                        leave_processor();
                        turns.set(turns.get() + 1);
                        let is_behind =
                            ended.load(Ordering::Relaxed) < (round + 1) * tasks && turns.get() < TURNS_MAX;
                        is_behind && !over.load(Ordering::Relaxed)
                    });
                    round += 1;
                }
            }
        });
        Self { over, ended, thread: Some(thread) }
    }
}

/// Waits until enough operations have ended, and tells the attackers how many it were.
fn withstand(daemon: &mut Daemon, attacks: Vec<Attack>) {
    daemon.wait_for_log(
        |log| {
            let ended = log.lines().filter(|line| line.contains("task f")).count();
            attacks.iter().for_each(|attack| attack.ended.store(ended, Ordering::Relaxed));
            ended >= OPERATIONS
        },
        "operations",
    );
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Leaves processor time to the daemon, and room in the queue of events.
#[allow(clippy::disallowed_methods, reason = "nothing is waited for")]
fn leave_processor() {
    thread::sleep(std::time::Duration::from_micros(100));
}

/// Takes this thread's rights away; the C library's functions would take those of all threads.
#[allow(unsafe_code, reason = "the rights of a single thread")]
pub fn become_user() {
    // SAFETY: these calls take numbers, and no memory (setresuid(2)).
    let outcomes = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, USER, USER, USER),
            libc::syscall(libc::SYS_setresuid, USER, USER, USER),
        ]
    };
    assert_eq!(outcomes, [0; 3]);
}

/// Exchanges two names.
pub fn exchange(one: &Path, other: &Path) {
    let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
    let here = nix::fcntl::AT_FDCWD;
    // One of them may be gone: the daemon moves and deletes them.
    let _ = nix::fcntl::renameat2(here, one, here, other, flags);
}

/// Removes a file or a directory.
fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

fn rule(name: &str, action: &str, more: &str) -> String {
    let dst = if action == "delete" { "" } else { "dst_re = @/out/\\g<path>\nauto_create = yes\n" };
    format!("[rule {name}]\naction = {action}\nsrc_re = ^@/in/(?P<path>.*)\\.{name}$\n{dst}{more}\n")
}

/// Every operation, with and without attributes.
fn all_rules() -> String {
    let attributes = "filemode = 0666\ndirmode = 0777\nuser = 54321\ngroup = 54321\noverride = yes";
    [
        rule("move", "move", ""),
        rule("set", "move", attributes),
        rule("copy", "copy", "override = yes"),
        rule("give", "copy", attributes),
        rule("delete", "delete", "rec = yes"),
    ]
    .concat()
}

const ENDINGS: [&str; 5] = ["move", "set", "copy", "give", "delete"];

#[test]
fn a_file_that_becomes_a_link_is_not_followed() {
    if !can_tamper("attacks on the daemon") {
        return;
    }
    let scene = Scene::new();
    let mut daemon = scene.start_slow("", &["IN_CREATE"], &["statx:delay_exit=1000"]);
    let (dir, spare) = (scene.scratch.path("in"), scene.scratch.path("spare"));
    let secret = scene.scratch.path("victim/file");
    let attacks: Vec<Attack> = (0..2)
        .map(|thread| {
            let (dir, spare, secret) = (dir.clone(), spare.clone(), secret.clone());
            Attack::new(2, move |round, busy| {
                let name = dir.join(format!("{thread}-{round}.{}", ENDINGS[round % 5]));
                let link = spare.join(format!("link{thread}"));
                remove(&link);
                remove(&name);
                let _ = symlink(&secret, &link);
                let _ = fs::write(&name, "mine");
                exchange(&name, &link);
                while busy() {
                    exchange(&name, &link);
                }
            })
        })
        .collect();
    withstand(&mut daemon, attacks);
    scene.check(daemon);
}

#[test]
fn a_directory_that_becomes_a_link_is_not_followed() {
    if !is_root("attacks on the daemon") {
        return;
    }
    let scene = Scene::new();
    let scratch = &scene.scratch;
    let rules = ENDINGS.map(|ending| {
        let more = "filemode = 0666\nuser = 54321\n";
        let action = match ending {
            "set" => "move",
            "give" => "copy",
            action => action,
        };
        let more = if ["set", "give"].contains(&ending) { more } else { "" };
        let replace = if action == "delete" { "" } else { "override = yes\n" };
        // The names below are those of the victim.
        let rule = rule(ending, action, &format!("{more}{replace}"));
        let rule = rule.replace(&format!("\\.{ending}$"), &format!("/{ending}/file$"));
        rule.replace("\\g<path>", &format!("\\g<path>/{ending}/file"))
    });
    let mut daemon = scene.start("", &rules.concat());
    for ending in ENDINGS {
        scratch.dir(format!("victim/{ending}"));
        scratch.write(format!("victim/{ending}/file"), SECRET);
    }
    let victims = tree(&scratch.path("victim")).len();
    let attacks: Vec<Attack> = ["in", "out"]
        .map(|side| {
            let (dir, spare) = (scratch.path(side), scratch.path("spare").join(side));
            let victim = scratch.path("victim");
            Attack::new(5, move |round, busy| {
                let name = dir.join(format!("d{round}"));
                remove(&spare);
                let _ = symlink(&victim, &spare);
                for ending in ENDINGS {
                    let _ = fs::create_dir_all(name.join(ending));
                    if side == "in" {
                        let _ = fs::write(name.join(ending).join("file"), "mine");
                    }
                }
                let mut turn = 0;
                while busy() {
                    // With pauses: a directory that is renamed without end is not visited.
                    if turn % 64 < 16 {
                        exchange(&name, &spare);
                    }
                    turn += 1;
                }
                if fs::symlink_metadata(&name).is_ok_and(|found| found.is_symlink()) {
                    remove(&name);
                }
            })
        })
        .into();
    withstand(&mut daemon, attacks);
    for ending in ENDINGS {
        assert_eq!(scratch.read(format!("victim/{ending}/file")), SECRET);
    }
    assert_eq!(tree(&scratch.path("victim")).len(), victims, "{}", daemon.log());
    for ending in ENDINGS {
        fs::remove_dir_all(scratch.path(format!("victim/{ending}"))).unwrap();
    }
    scene.check(daemon);
}

#[test]
fn a_tree_that_is_exchanged_meanwhile_is_not_followed() {
    if !can_tamper("attacks on the daemon") {
        return;
    }
    let scene = Scene::new();
    let slow = ["getdents64:delay_exit=500", "statx:delay_exit=200"];
    let mut daemon = scene.start_slow("dirs = yes\nfiles = no", &["IN_MOVED_TO"], &slow);
    let (dir, spare, victim) =
        (scene.scratch.path("in"), scene.scratch.path("spare"), scene.scratch.path("victim"));
    let names = |round: usize| format!("{round}.{}", ENDINGS[round % 5]);
    let swap = {
        let (dir, spare, victim) = (dir.clone(), spare.clone(), victim.clone());
        Attack::new(1, move |round, busy| {
            let link = spare.join("link");
            remove(&link);
            let _ = symlink(if round % 2 == 0 { &victim } else { Path::new("..") }, &link);
            let tree = dir.join(names(round));
            for inner in ["sub", "sub/sub", "sub/sub/file", "file"].iter().cycle() {
                exchange(&tree.join(inner), &link);
                if !busy() {
                    break;
                }
            }
        })
    };
    let plant = Attack::new(1, move |round, busy| {
        let top = spare.join("plant");
        let _ = fs::create_dir_all(top.join("sub/sub"));
        for name in ["file", "sub/file", "sub/sub/file"] {
            let _ = fs::write(top.join(name), "mine");
        }
        if fs::rename(&top, dir.join(names(round))).is_err() {
            remove(&dir.join(names(round)));
        }
        while busy() {}
    });
    withstand(&mut daemon, vec![swap, plant]);
    scene.check(daemon);
}

#[test]
fn a_watch_path_that_another_user_has_made_a_link_is_not_watched() {
    if !is_root("attacks on the daemon") {
        return;
    }
    let scene = Scene::new();
    let scratch = &scene.scratch;
    let home = scratch.dir("home");
    chown(&home, Some(USER), Some(USER)).unwrap();
    let text = config("", &all_rules()).replace("@/in", "@/home/in").replace("@/out", "@/home/out");
    let mut daemon = Daemon::start_ready(scratch, &text, &[]);
    let victim = scratch.path("victim");
    let home_in = home.join("in");
    let lead = move || {
        become_user();
        ["in", "out"].iter().for_each(|name| symlink(&victim, home.join(name)).unwrap());
    };
    thread::spawn(lead).join().unwrap();
    let why = format!("reason=\"a symbolic link of user {USER} is not followed\"");
    let link = format!("home/in {why} link={}", home_in.display());
    let said = daemon.wait_line(&link);
    assert!(said.contains(" warning "), "{said}");
    for ending in ENDINGS {
        scratch.write(format!("victim/file.{ending}"), SECRET);
    }
    // Once it is the user's own directory, the daemon works there. What was seen before would come first.
    let home = scratch.path("home");
    let own = move || {
        become_user();
        fs::remove_file(home.join("in")).unwrap();
        fs::create_dir(home.join("in")).unwrap();
    };
    thread::spawn(own).join().unwrap();
    daemon.wait_log("watching path");
    scratch.write(format!("home/in/own.{}", ENDINGS[0]), "");
    daemon.wait_line(&format!("home/in/own.{} task_id=", ENDINGS[0]));
    for ending in ENDINGS {
        assert_eq!(daemon.lines(&format!("home/in/file.{ending}")), [""; 0]);
        assert_eq!(scratch.read(format!("victim/file.{ending}")), SECRET);
        fs::remove_file(scratch.path(format!("victim/file.{ending}"))).unwrap();
    }
    assert_eq!(daemon.lines(&link).len(), 1);
    scene.check(daemon);
}

#[test]
fn a_link_to_a_file_of_another_user_is_refused() {
    if !is_root("attacks on the daemon") {
        return;
    }
    let scene = Scene::new();
    let scratch = &scene.scratch;
    let mut daemon = scene.start("dirs = yes", &all_rules());
    // The kernel may forbid the attacker to make such links (protected_hardlinks, proc(5)); root makes
    // them here.
    let secret = scratch.write("secret", SECRET);
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    scratch.dir("spare/tree");
    fs::hard_link(&secret, scratch.path("spare/tree/file")).unwrap();
    scratch.rename("spare/tree", "in/tree.set");
    daemon.wait_lines(1, " error ");
    scratch.rename("in/tree.set", "in/tree.give");
    daemon.wait_lines(2, " error ");
    scratch.rename("in/tree.give", "in/tree");
    for (count, ending) in [(3, "set"), (4, "give")] {
        let name = scratch.path(format!("in/file.{ending}"));
        fs::hard_link(&secret, &name).unwrap();
        daemon.wait_lines(count, " error ");
        fs::remove_file(name).unwrap();
    }
    for line in daemon.lines(" error ") {
        assert!(line.contains("it has more than one name (hard link)"), "{line}");
    }
    fs::remove_dir_all(scratch.path("in/tree")).unwrap();
    assert_eq!(victim(&secret), (0o100_600, 0, 0, 1, Some(SECRET.to_owned())));
    scene.check(daemon);
}

#[test]
fn a_mount_point_in_a_tree_is_not_crossed() {
    if !is_root("a mount point in a tree") {
        return;
    }
    let scene = Scene::new();
    let scratch = &scene.scratch;
    let mut daemon = scene.start("dirs = yes", &all_rules());
    for (count, ending) in (1..).zip(["copy", "give", "set", "delete"]) {
        scratch.dir("spare/tree/mounted");
        let at = Mount::bind(&scratch.path("victim"), scratch.path("spare/tree/mounted"));
        let mount = at.moved(scratch.path(format!("in/tree.{ending}/mounted")));
        scratch.rename("spare/tree", format!("in/tree.{ending}"));
        let line = daemon.wait_lines(count, " error ").remove(count - 1);
        assert!(line.contains("mount points are not crossed"), "{line}");
        mount.unmount();
        scratch.rename(format!("in/tree.{ending}"), "spare/tree");
    }
    fs::remove_dir_all(scratch.path("spare/tree")).unwrap();
    scene.check(daemon);
}

#[test]
fn a_set_id_bit_without_effect_has_none_in_the_copy() {
    if !is_root("a filesystem of the attacker's, such as a stick") {
        return;
    }
    let scene = Scene::new();
    let scratch = &scene.scratch;
    scratch.dir("in/stick.copy");
    let _mount = Mount::new(&["-t", "tmpfs", "-o", "nosuid", "tmpfs"], scratch.path("in/stick.copy"));
    let shell = scratch.write("in/stick.copy/shell", "");
    let other = scratch.write("in/stick.copy/other.copy", "");
    for path in [&shell, &other] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o6755)).unwrap();
    }
    let mut daemon = scene.start("dirs = yes", &all_rules());
    daemon.wait_lines(2, "task finished");
    for name in ["out/stick/shell", "out/stick/other.copy", "out/stick.copy/other"] {
        let mode = fs::metadata(scratch.path(name)).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o755, "{name}\n{}", daemon.log());
    }
    scene.check(daemon);
}

#[test]
fn a_file_of_a_users_filesystem_that_lies_is_copied_as_the_users() {
    if !is_root("a FUSE filesystem of the attacker's") {
        return;
    }
    let scene = Scene::new();
    let Some(_mount) = fuse::mount_lying_file(USER, &scene.scratch.path("in")) else {
        return eprintln!("no FUSE here");
    };
    let mut daemon = scene.start("", &all_rules());
    let line = daemon.wait_line("task f");
    assert!(line.contains("task finished") && line.contains("not kept: owner"), "{line}");
    let copy = scene.scratch.path("out/file");
    assert!(fs::read(&copy).unwrap() == fuse::content());
    let found = fs::metadata(&copy).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (USER, USER, 0o755));
    assert_eq!(tree(&scene.scratch.path("out")).len(), 1);
    scene.check(daemon);
}

/// The daemon would start root's commands with paths there.
#[test]
fn the_home_of_a_user_leads_nowhere_else() {
    if !is_root("attacks on the daemon") {
        return;
    }
    let scratch = Scratch::new();
    scratch.open_to_all();
    for user in ["honest", "attacker"] {
        chown(scratch.dir(format!("home/{user}")), Some(USER), Some(USER)).unwrap();
    }
    scratch.dir("victim/sub");
    let (home, victim) = (scratch.path("home"), scratch.path("victim"));
    let lead = move || {
        become_user();
        fs::create_dir(home.join("honest/Public")).unwrap();
        symlink(&victim, home.join("attacker/Public")).unwrap();
    };
    thread::spawn(lead).join().unwrap();
    let text = "[scheduler run]\ntype = shell\ncmd = echo {pathname} >>@/ran\n\
                [watch homes]\npath = @/home/*/Public\nrec = yes\ndefault_sched = run\n";
    let why = format!("a symbolic link of user {USER} is not followed");
    for arguments in [&["-t"][..], &["-e", &scratch.expand("IN_CLOSE_WRITE:@/home/attacker/Public/file")]] {
        let output = rinotifyd().args(arguments).arg("-c").arg(scratch.config(text)).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(said.matches(&format!("attacker/Public\": {why}")).count(), 1, "{said}");
    }
    let mut daemon = Daemon::start_ready(&scratch, text, &[]);
    let said = daemon.wait_line(&why);
    assert!(said.contains("home/attacker/Public "), "{said}");
    scratch.write("victim/sub/secret", SECRET);
    scratch.write("victim/secret", SECRET);
    scratch.write("home/honest/Public/file", "");
    daemon.wait_for(|| !scratch.lines("ran").is_empty(), "a command");
    let honest = scratch.expand("@/home/honest/Public/file");
    assert!(scratch.lines("ran").iter().all(|path| *path == honest), "{:?}", scratch.lines("ran"));
    assert_eq!(daemon.lines(&why).len(), 1);
    daemon.stop();
}
