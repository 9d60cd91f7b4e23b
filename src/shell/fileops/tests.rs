//! Operations on real files: what ends up where, with which attributes, and what is refused.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::bytes::Regex;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::*;
use crate::config::FileAction;
use crate::engine::JobId;
use crate::engine::message::Place;
use crate::sys::xattr;

mod doubtful;

/// A source and a destination directory, on the same filesystem or on two.
struct Bench {
    from: tempfile::TempDir,
    to: tempfile::TempDir,
    ground: Ground,
}

impl Bench {
    fn new() -> Self {
        Self {
            from: tempfile::tempdir().unwrap(),
            to: tempfile::tempdir().unwrap(),
            ground: Ground::default(),
        }
    }

    /// `/dev/shm` is a filesystem of its own on every Linux.
    fn across() -> Self {
        let to = tempfile::tempdir_in("/dev/shm").unwrap();
        let bench = Self { from: tempfile::tempdir().unwrap(), to, ground: Ground::default() };
        let device = |dir: &tempfile::TempDir| fs::metadata(dir.path()).unwrap().dev();
        assert_ne!(device(&bench.from), device(&bench.to), "two filesystems are needed");
        bench
    }

    fn from(&self, name: &str) -> PathBuf {
        self.from.path().join(name)
    }

    fn to(&self, name: &str) -> PathBuf {
        self.to.path().join(name)
    }

    fn run(&self, rule: Rule, name: &str, target: &str) -> Result<OperationDone, String> {
        self.run_with(rule, name, target, &Control::default())
    }

    fn run_with(
        &self,
        rule: Rule,
        name: &str,
        target: &str,
        control: &Control,
    ) -> Result<OperationDone, String> {
        let target = (rule.action != FileAction::Delete).then(|| place(self.to.path(), target));
        let operation = Operation {
            id: JobId::for_tests(),
            rule: Arc::new(rule),
            source: place(self.from.path(), name),
            is_dir: false,
            target,
        };
        let end = carry_out(&operation, control, &self.ground, &mut Grips::default());
        for dir in [&self.from, &self.to] {
            assert_eq!(litter(dir.path()), Vec::<PathBuf>::new());
        }
        match end {
            OperationEnd::Done(done) => Ok(done),
            OperationEnd::Failed(text) | OperationEnd::Aborted(text) => Err(text),
            OperationEnd::Withdrawn => panic!("nobody withdraws here"),
        }
    }

    fn fails(&self, rule: Rule, name: &str, target: &str, expected: &str) {
        let text = self.run(rule, name, target).unwrap_err();
        assert!(text.contains(expected), "{text}");
    }
}

fn place(root: &Path, name: &str) -> Place {
    let root = fs::canonicalize(root).unwrap();
    let root = root.as_os_str().as_encoded_bytes();
    Place { path: [root, b"/", name.as_bytes()].concat(), trusted: root.len() }
}

/// Everything the daemon has left behind.
fn litter(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(litter(&path));
        }
        if entry.file_name().as_encoded_bytes().starts_with(b".rinotifyd-") {
            found.push(path);
        }
    }
    found
}

fn rule(action: FileAction) -> Rule {
    let any = Regex::new("").unwrap();
    Rule {
        name: "r".into(),
        action,
        src: any.clone(),
        src_anywhere: any,
        dst: None,
        auto_create: false,
        rec: false,
        replace: false,
        hardlinks: false,
        filemode: None,
        dirmode: None,
        uid: None,
        gid: None,
    }
}

const BOTH: [FileAction; 2] = [FileAction::Move, FileAction::Copy];

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn make_fifo(path: &Path, mode: u32) {
    let dir = File::open(path.parent().unwrap()).unwrap();
    let name = std::ffi::CString::new(path.file_name().unwrap().as_encoded_bytes()).unwrap();
    crate::sys::file::make_fifo(dir.as_fd(), &name).unwrap();
    set_mode(path, mode);
}

fn is_root() -> bool {
    crate::sys::user::is_root()
}

/// A tree with one of everything that can be copied.
fn plant(top: &Path) {
    fs::create_dir_all(top.join("sub/deep")).unwrap();
    fs::write(top.join("sub/file"), "content").unwrap();
    set_mode(&top.join("sub/file"), 0o640);
    fs::hard_link(top.join("sub/file"), top.join("sub/deep/again")).unwrap();
    symlink("../nowhere", top.join("sub/link")).unwrap();
    make_fifo(&top.join("fifo"), 0o400);
    File::create(top.join("empty")).unwrap();
    set_mode(&top.join("sub/deep"), 0o2750);
    set_mode(top, 0o711);
}

fn check_planted(top: &Path) {
    assert_eq!(fs::read_to_string(top.join("sub/file")).unwrap(), "content");
    assert_eq!(mode(&top.join("sub/file")), 0o640);
    let ino = |name: &str| fs::metadata(top.join(name)).unwrap().ino();
    assert_eq!(ino("sub/file"), ino("sub/deep/again"));
    assert_eq!(fs::read_link(top.join("sub/link")).unwrap(), Path::new("../nowhere"));
    let fifo = fs::symlink_metadata(top.join("fifo")).unwrap();
    assert!(fifo.file_type().is_fifo());
    assert_eq!(mode(&top.join("fifo")), 0o400);
    assert_eq!(fs::metadata(top.join("empty")).unwrap().len(), 0);
    assert_eq!(mode(&top.join("sub/deep")), 0o2750);
    assert_eq!(mode(top), 0o711);
}

#[test]
fn a_file_is_moved_and_copied_within_a_filesystem_and_across() {
    for bench in [Bench::new(), Bench::across()] {
        for action in BOTH {
            let (from, to) = (bench.from("f"), bench.to("g"));
            fs::write(&from, "content").unwrap();
            set_mode(&from, 0o604);
            let was = fs::metadata(&from).unwrap();
            bench.run(rule(action), "f", "g").unwrap();
            assert_eq!(from.exists(), action == FileAction::Copy);
            assert_eq!(fs::read_to_string(&to).unwrap(), "content");
            let is = fs::metadata(&to).unwrap();
            assert_eq!((is.mode(), is.uid(), is.gid()), (was.mode(), was.uid(), was.gid()));
            assert_eq!((is.mtime(), is.mtime_nsec()), (was.mtime(), was.mtime_nsec()));
            fs::remove_file(&to).unwrap();
        }
    }
}

#[test]
fn a_tree_keeps_all_it_holds() {
    for bench in [Bench::new(), Bench::across()] {
        for action in BOTH {
            plant(&bench.from("t"));
            let sub = fs::metadata(bench.from("t/sub")).unwrap();
            bench.run(rule(action), "t", "u").unwrap();
            check_planted(&bench.to("u"));
            let is = fs::metadata(bench.to("u/sub")).unwrap();
            assert_eq!((is.mtime(), is.mtime_nsec()), (sub.mtime(), sub.mtime_nsec()));
            assert_eq!(bench.from("t").exists(), action == FileAction::Copy);
            fs::remove_dir_all(bench.to("u")).unwrap();
            let _ = fs::remove_dir_all(bench.from("t"));
        }
    }
}

#[test]
fn a_link_and_a_fifo_are_copied_as_what_they_are() {
    for bench in [Bench::new(), Bench::across()] {
        for action in BOTH {
            fs::write(bench.from("victim"), "secret").unwrap();
            symlink("victim", bench.from("l")).unwrap();
            make_fifo(&bench.from("p"), 0o700);
            for name in ["l", "p"] {
                bench.run(rule(action), name, name).unwrap();
                fs::symlink_metadata(bench.from(name)).map_or_else(
                    |_| assert_eq!(action, FileAction::Move),
                    |_| assert_eq!(action, FileAction::Copy),
                );
                let _ = fs::remove_file(bench.from(name));
            }
            assert_eq!(fs::read_link(bench.to("l")).unwrap(), Path::new("victim"));
            assert!(fs::symlink_metadata(bench.to("p")).unwrap().file_type().is_fifo());
            fs::remove_file(bench.to("l")).unwrap();
            fs::remove_file(bench.to("p")).unwrap();
        }
    }
}

#[test]
fn sockets_and_devices_are_moved_but_not_copied() {
    let bench = Bench::new();
    let socket = UnixListener::bind(bench.from("s")).unwrap();
    bench.fails(rule(FileAction::Copy), "s", "s", "it is a socket or a device");
    fs::create_dir(bench.from("t")).unwrap();
    fs::rename(bench.from("s"), bench.from("t/s")).unwrap();
    bench.fails(rule(FileAction::Copy), "t", "t", "t/s\": it is a socket or a device");
    bench.run(rule(FileAction::Move), "t/s", "s").unwrap();
    assert!(fs::symlink_metadata(bench.to("s")).unwrap().file_type().is_socket());
    let across = Bench::across();
    fs::rename(bench.to("s"), across.from("s")).unwrap();
    across.fails(rule(FileAction::Move), "s", "s", "it is a socket or a device");
    assert!(across.from("s").exists());
    drop(socket);
    if is_root() {
        let (kind, null) = (FileType::CharacterDevice, makedev(1, 3));
        // Somebody may have taken this right even from root.
        if mknodat(CWD, bench.from("null"), kind, Mode::RUSR, null).is_ok() {
            bench.fails(rule(FileAction::Copy), "null", "null", "it is a socket or a device");
            bench.run(rule(FileAction::Move), "null", "null").unwrap();
        }
    }
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    for bench in [Bench::new(), Bench::across()] {
        for action in BOTH {
            fs::write(bench.from("f"), "new").unwrap();
            fs::write(bench.to("f"), "old").unwrap();
            bench.fails(rule(action), "f", "f", "f\": EEXIST (File exists; override = yes replaces it)");
            assert_eq!(fs::read_to_string(bench.from("f")).unwrap(), "new");
            assert_eq!(fs::read_to_string(bench.to("f")).unwrap(), "old");
            let replacing = || Rule { replace: true, ..rule(action) };
            bench.run(replacing(), "f", "f").unwrap();
            assert_eq!(fs::read_to_string(bench.to("f")).unwrap(), "new");

            plant(&bench.from("t"));
            fs::create_dir_all(bench.to("t/old/deep")).unwrap();
            bench.fails(rule(action), "t", "t", "EEXIST");
            assert!(bench.to("t/old/deep").exists());
            bench.run(replacing(), "t", "t").unwrap();
            check_planted(&bench.to("t"));
            assert!(!bench.to("t/old").exists());

            fs::write(bench.from("f"), "new").unwrap();
            bench.fails(replacing(), "f", "t", "a directory is in the way");
            check_planted(&bench.to("t"));
            fs::create_dir(bench.from("d")).unwrap();
            bench.fails(replacing(), "d", "f", "a file is in the way");
            assert_eq!(fs::read_to_string(bench.to("f")).unwrap(), "new");
            for name in ["t", "d"] {
                let _ = fs::remove_dir_all(bench.from(name));
            }
            fs::remove_dir_all(bench.to("t")).unwrap();
            fs::remove_file(bench.to("f")).unwrap();
        }
    }
}

#[test]
fn an_empty_directory_is_replaced_without_ado() {
    let bench = Bench::new();
    plant(&bench.from("t"));
    fs::create_dir(bench.to("t")).unwrap();
    bench.fails(rule(FileAction::Move), "t", "t", "EEXIST");
    bench.run(Rule { replace: true, ..rule(FileAction::Move) }, "t", "t").unwrap();
    check_planted(&bench.to("t"));
}

#[test]
fn missing_directories_are_made_when_allowed_and_removed_after_a_failure() {
    for action in BOTH {
        let bench = Bench::new();
        fs::write(bench.from("f"), "x").unwrap();
        bench.fails(rule(action), "f", "a/b/c/f", "there is no such directory (auto_create = yes makes it)");
        let creating = || Rule { auto_create: true, dirmode: Some(0o751), ..rule(action) };
        bench.fails(creating(), "none", "a/b/c/f", "ENOENT");
        assert!(!bench.to("a").exists());
        bench.run(creating(), "f", "a/b/c/f").unwrap();
        assert_eq!(fs::read_to_string(bench.to("a/b/c/f")).unwrap(), "x");
        for name in ["a", "a/b", "a/b/c"] {
            assert_eq!(mode(&bench.to(name)), 0o751, "{name}");
        }
        fs::write(bench.from("g"), "y").unwrap();
        bench.run(creating(), "g", "a/b/other/g").unwrap();
        assert_eq!(mode(&bench.to("a/b/other")), 0o751);
        // A socket cannot be copied, whatever was made for it.
        let _socket = UnixListener::bind(bench.from("s")).unwrap();
        bench.fails(Rule { auto_create: true, ..rule(FileAction::Copy) }, "s", "x/y/s", "socket");
        assert!(!bench.to("x").exists());
    }
}

#[test]
fn a_missing_fixed_directory_is_made_too() {
    let bench = Bench::new();
    fs::write(bench.from("f"), "x").unwrap();
    let mut target = place(bench.to.path(), "a/b/f");
    target.trusted = target.path.len() - "/f".len();
    let creating = Rule { auto_create: true, ..rule(FileAction::Move) };
    let source = place(bench.from.path(), "f");
    let operation = Operation {
        id: JobId::for_tests(),
        rule: Arc::new(creating),
        source,
        is_dir: false,
        target: Some(target),
    };
    let end = carry_out(&operation, &Control::default(), &bench.ground, &mut Grips::default());
    assert!(matches!(end, OperationEnd::Done(_)), "{end:?}");
    assert_eq!(fs::read_to_string(bench.to("a/b/f")).unwrap(), "x");
}

#[test]
fn modes_are_set_on_everything_that_is_moved_or_copied() {
    for bench in [Bench::new(), Bench::across()] {
        for action in BOTH {
            plant(&bench.from("t"));
            let setting = || Rule { filemode: Some(0o604), dirmode: Some(0o705), ..rule(action) };
            bench.fails(setting(), "t", "t", "more than one name (hard link)");
            check_planted(&bench.from("t"));
            bench.run(Rule { hardlinks: true, ..setting() }, "t", "t").unwrap();
            for (name, expected) in [("", 0o705), ("sub/deep", 0o705), ("sub/file", 0o604), ("fifo", 0o604)] {
                assert_eq!(mode(&bench.to("t").join(name)), expected, "{action:?} {name}");
            }
            if action == FileAction::Copy {
                check_planted(&bench.from("t"));
                fs::remove_dir_all(bench.from("t")).unwrap();
            }
            fs::remove_dir_all(bench.to("t")).unwrap();
            fs::write(bench.from("f"), "x").unwrap();
            bench.run(setting(), "f", "f").unwrap();
            assert_eq!(mode(&bench.to("f")), 0o604);
            fs::remove_file(bench.to("f")).unwrap();
        }
    }
}

#[test]
fn an_existing_name_leaves_the_attributes_of_the_source_alone() {
    let bench = Bench::new();
    fs::write(bench.from("f"), "new").unwrap();
    set_mode(&bench.from("f"), 0o641);
    fs::write(bench.to("f"), "old").unwrap();
    bench.fails(Rule { filemode: Some(0o600), ..rule(FileAction::Move) }, "f", "f", "EEXIST");
    assert_eq!(mode(&bench.from("f")), 0o641);
}

#[test]
fn owners_are_kept_or_set_and_set_id_bits_go_with_them() {
    if !is_root() {
        return eprintln!("not root: owners cannot be tested");
    }
    for bench in [Bench::new(), Bench::across()] {
        for action in BOTH {
            let make = |name: &str| {
                fs::write(bench.from(name), "x").unwrap();
                std::os::unix::fs::chown(bench.from(name), Some(1234), Some(1235)).unwrap();
                set_mode(&bench.from(name), 0o6755);
                let file = File::open(bench.from(name)).unwrap();
                // Version 2 of struct vfs_cap_data with CAP_NET_BIND_SERVICE (capabilities(7)).
                let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                xattr::set(file.as_fd(), c"security.capability", &value).unwrap();
            };
            make("kept");
            bench.run(rule(action), "kept", "kept").unwrap();
            let is = fs::metadata(bench.to("kept")).unwrap();
            assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (1234, 1235, 0o6755), "{action:?}");
            let capability =
                |name: &str| xattr::get(File::open(bench.to(name)).unwrap().as_fd(), c"security.capability");
            assert!(capability("kept").is_ok());
            make("given");
            bench.run(Rule { uid: Some(99), gid: Some(98), ..rule(action) }, "given", "given").unwrap();
            let is = fs::metadata(bench.to("given")).unwrap();
            assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (99, 98, 0o755), "{action:?}");
            assert!(capability("given").is_err());
            for name in ["kept", "given"] {
                fs::remove_file(bench.to(name)).unwrap();
                let _ = fs::remove_file(bench.from(name));
            }
        }
    }
}

#[test]
fn extended_attributes_and_access_lists_are_kept() {
    let bench = Bench::new();
    fs::create_dir(bench.from("t")).unwrap();
    fs::write(bench.from("t/f"), "x").unwrap();
    // struct posix_acl_xattr_header and entries: u::rw- u:1234:rw- g::r-- m::rw- o::--- (acl(5)).
    let acl: Vec<u8> = [2_u32.to_le_bytes().to_vec(), vec![]]
        .concat()
        .into_iter()
        .chain(
            [(1_u16, 6_u16, u32::MAX), (2, 6, 1234), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)]
                .into_iter()
                .flat_map(|(tag, perm, id)| {
                    [tag.to_le_bytes().to_vec(), perm.to_le_bytes().to_vec(), id.to_le_bytes().to_vec()]
                        .concat()
                }),
        )
        .collect();
    for name in ["t", "t/f"] {
        let file = File::open(bench.from(name)).unwrap();
        if xattr::set(file.as_fd(), c"user.note", b"hello").is_err() {
            return eprintln!("this filesystem has no extended attributes");
        }
        xattr::set(file.as_fd(), c"system.posix_acl_access", &acl).unwrap();
    }
    let mode_before = mode(&bench.from("t/f"));
    bench.run(rule(FileAction::Copy), "t", "t").unwrap();
    for name in ["t", "t/f"] {
        let file = File::open(bench.to(name)).unwrap();
        assert_eq!(xattr::get(file.as_fd(), c"user.note").unwrap(), b"hello");
        assert_eq!(xattr::get(file.as_fd(), c"system.posix_acl_access").unwrap(), acl);
    }
    assert_eq!(mode(&bench.to("t/f")), mode_before);
}

#[test]
fn holes_stay_holes() {
    for bench in [Bench::new(), Bench::across()] {
        let file = File::create(bench.from("f")).unwrap();
        file.write_all_at(b"x", 64 << 20).unwrap();
        file.set_len(128 << 20).unwrap();
        let done = bench.run(rule(FileAction::Copy), "f", "f").unwrap();
        assert_eq!(done.bytes, 128 << 20);
        let is = fs::metadata(bench.to("f")).unwrap();
        assert_eq!(is.len(), 128 << 20);
        assert!(is.blocks() < 2048, "{} blocks", is.blocks());
    }
}

#[test]
fn deleting_takes_what_it_may() {
    let bench = Bench::new();
    fs::write(bench.from("victim"), "x").unwrap();
    fs::write(bench.from("f"), "x").unwrap();
    symlink("victim", bench.from("l")).unwrap();
    for name in ["f", "l"] {
        bench.run(rule(FileAction::Delete), name, "").unwrap();
        assert!(fs::symlink_metadata(bench.from(name)).is_err());
    }
    assert!(bench.from("victim").exists());
    fs::create_dir(bench.from("empty")).unwrap();
    bench.run(rule(FileAction::Delete), "empty", "").unwrap();
    plant(&bench.from("t"));
    symlink("..", bench.from("t/up")).unwrap();
    bench.fails(rule(FileAction::Delete), "t", "", "the directory is not empty (rec = yes allows it)");
    check_planted(&bench.from("t"));
    bench.run(Rule { rec: true, ..rule(FileAction::Delete) }, "t", "").unwrap();
    assert!(!bench.from("t").exists() && bench.from("victim").exists());
    bench.fails(rule(FileAction::Delete), "t", "", "ENOENT");
}

#[test]
fn a_tree_deeper_than_a_path_is_copied_moved_and_deleted() {
    let bench = Bench::across();
    let top = File::open(bench.from.path()).unwrap();
    let name = std::ffi::CString::new("d".repeat(200)).unwrap();
    let mut at: std::os::fd::OwnedFd = top.into();
    crate::sys::file::make_dir(at.as_fd(), c"t", 0o755).unwrap();
    at = crate::sys::dir::open_child(at.as_fd(), c"t").unwrap();
    for _ in 0..60 {
        crate::sys::file::make_dir(at.as_fd(), &name, 0o755).unwrap();
        at = crate::sys::dir::open_child(at.as_fd(), &name).unwrap();
        let file = crate::sys::file::create(at.as_fd(), c"f").unwrap();
        File::from(file).write_all(b"deep").unwrap();
    }
    drop(at);
    let done = bench.run(rule(FileAction::Copy), "t", "copied").unwrap();
    assert_eq!((done.bytes, done.entries), (240, 121));
    bench.run(rule(FileAction::Move), "t", "moved").unwrap();
    assert!(!bench.from("t").exists());
    for name in ["copied", "moved"] {
        let operation = Operation {
            id: JobId::for_tests(),
            rule: Arc::new(Rule { rec: true, ..rule(FileAction::Delete) }),
            source: place(bench.to.path(), name),
            is_dir: false,
            target: None,
        };
        let end = carry_out(&operation, &Control::default(), &bench.ground, &mut Grips::default());
        assert!(matches!(end, OperationEnd::Done(_)), "{end:?}");
    }
}

#[test]
fn a_source_that_changes_is_left() {
    let bench = Bench::across();
    let file = File::create(bench.from("f")).unwrap();
    (&file).write_all(b"begin").unwrap();
    bench.fails(rule(FileAction::Move), "f", "f", "somebody is writing to it");
    assert!(bench.from("f").exists() && !bench.to("f").exists());
    bench.run(rule(FileAction::Copy), "f", "f").unwrap();
    drop(file);
    bench.run(rule(FileAction::Move), "f", "g").unwrap();
    assert!(!bench.from("f").exists());
}

#[test]
fn links_on_the_way_are_not_followed() {
    let bench = Bench::new();
    fs::create_dir(bench.from("real")).unwrap();
    fs::write(bench.from("real/f"), "x").unwrap();
    symlink("real", bench.from("link")).unwrap();
    fs::create_dir(bench.to("real")).unwrap();
    symlink("real", bench.to("link")).unwrap();
    for action in BOTH {
        bench.fails(rule(action), "link/f", "f", "a symbolic link that is not followed");
        bench.fails(rule(action), "real/f", "link/f", "a symbolic link that is not followed");
        let creating = Rule { auto_create: true, ..rule(action) };
        bench.fails(creating, "real/f", "link/a/f", "a symbolic link that is not followed");
    }
    bench.fails(rule(FileAction::Delete), "link/f", "", "a symbolic link that is not followed");
    assert!(bench.from("real/f").exists());
    assert_eq!(fs::read_dir(bench.to("real")).unwrap().count(), 0);
}

#[test]
fn a_full_name_has_room() {
    let bench = Bench::across();
    let name = "n".repeat(255);
    fs::write(bench.from(&name), "x").unwrap();
    bench.run(rule(FileAction::Copy), &name, &name).unwrap();
    assert_eq!(fs::read_to_string(bench.to(&name)).unwrap(), "x");
}

#[test]
fn an_operation_that_is_told_to_end_leaves_all_as_it_was() {
    let bench = Bench::across();
    plant(&bench.from("t"));
    fs::write(bench.from("f"), vec![1; 100_000]).unwrap();
    let control = Control::default();
    control.abort();
    for (name, action) in [("t", FileAction::Copy), ("t", FileAction::Move), ("f", FileAction::Move)] {
        let text = bench.run_with(rule(action), name, "to", &control).unwrap_err();
        assert!(text.contains("given up: the daemon ends"), "{text}");
        assert!(bench.from(name).exists() && !bench.to("to").exists());
    }
    check_planted(&bench.from("t"));
}

#[test]
fn only_the_tree_that_was_copied_is_removed() {
    let bench = Bench::new();
    let spot =
        |dir: &tempfile::TempDir| place::source(&place(dir.path(), "t"), &mut Grips::default()).unwrap();
    for dir in [&bench.from, &bench.to] {
        plant(&dir.path().join("t"));
    }
    let id = |dir: &tempfile::TempDir| crate::sys::stat::stat_at(spot(dir).dir(), c"t").unwrap().id;
    let remove = |id| {
        let control = Control::default();
        settle::remove_copied(&spot(&bench.from), id, &spot(&bench.to), false, b"t", &control)
    };
    let text = remove(id(&bench.to)).unwrap_err().to_string();
    assert_eq!(text, "delete \"t\": it was replaced meanwhile");
    check_planted(&bench.from("t"));
    fs::write(bench.from("t/sub/new"), "new").unwrap();
    fs::write(bench.from("t/sub/file"), "changed").unwrap();
    fs::write(bench.to("t/sub/file"), "other size").unwrap();
    let text = remove(id(&bench.from)).unwrap_err().to_string();
    assert!(text.ends_with("and stays"), "{text}");
    assert_eq!(fs::read_to_string(bench.from("t/sub/new")).unwrap(), "new");
    assert_eq!(fs::read_to_string(bench.from("t/sub/file")).unwrap(), "changed");
    assert!(!bench.from("t/fifo").exists());
}
