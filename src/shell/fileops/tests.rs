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

use super::attributes;
use super::control::Control;
use super::dir_cache::DirCache;
use super::execute::carry_out;
use super::op_run::Shared;
use crate::config::{FileAction, Rule};
use crate::engine::TaskId;
use crate::engine::message::{FileKind, Operation, OperationDone, OperationEnd, TrustedPath};
use crate::sys::xattr;

mod doubtful;
mod trees;

/// A source and a destination directory, on the same filesystem or on two.
struct TwoDirs {
    from: tempfile::TempDir,
    to: tempfile::TempDir,
    shared: Shared,
}

impl TwoDirs {
    fn new() -> Self {
        Self {
            from: tempfile::tempdir().unwrap(),
            to: tempfile::tempdir().unwrap(),
            shared: Shared::default(),
        }
    }

    /// `/dev/shm` is a filesystem of its own on every Linux.
    fn across() -> Self {
        let to = tempfile::tempdir_in("/dev/shm").unwrap();
        let dirs = Self { from: tempfile::tempdir().unwrap(), to, shared: Shared::default() };
        let device = |dir: &tempfile::TempDir| fs::metadata(dir.path()).unwrap().dev();
        assert_ne!(device(&dirs.from), device(&dirs.to), "two filesystems are needed");
        dirs
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
        let target = (rule.action != FileAction::Delete).then(|| trusted_path(self.to.path(), target));
        let operation = Operation {
            task: TaskId::for_tests(),
            rule: Arc::new(rule),
            source: trusted_path(self.from.path(), name),
            is_dir: false,
            special: true,
            target,
        };
        let end = carry_out(&operation, control, &self.shared, &mut DirCache::default());
        for dir in [&self.from, &self.to] {
            assert_eq!(litter(dir.path()), Vec::<PathBuf>::new());
        }
        match end {
            OperationEnd::Done(done) => Ok(done),
            OperationEnd::Failed(text) | OperationEnd::Aborted(text) => Err(text),
            OperationEnd::Withdrawn | OperationEnd::LeftOut(_) => panic!("{end:?}"),
        }
    }

    fn fails(&self, rule: Rule, name: &str, target: &str, expected: &str) {
        let text = self.run(rule, name, target).unwrap_err();
        assert!(text.contains(expected), "{text}");
    }
}

fn trusted_path(root: &Path, name: &str) -> TrustedPath {
    let root = fs::canonicalize(root).unwrap();
    let root = root.as_os_str().as_encoded_bytes();
    TrustedPath { path: [root, b"/", name.as_bytes()].concat(), trusted: root.len() }
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
    for dirs in [TwoDirs::new(), TwoDirs::across()] {
        for action in BOTH {
            let (from, to) = (dirs.from("f"), dirs.to("g"));
            fs::write(&from, "content").unwrap();
            set_mode(&from, 0o604);
            let was = fs::metadata(&from).unwrap();
            dirs.run(rule(action), "f", "g").unwrap();
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
    for dirs in [TwoDirs::new(), TwoDirs::across()] {
        for action in BOTH {
            plant(&dirs.from("t"));
            let sub = fs::metadata(dirs.from("t/sub")).unwrap();
            dirs.run(rule(action), "t", "u").unwrap();
            check_planted(&dirs.to("u"));
            let is = fs::metadata(dirs.to("u/sub")).unwrap();
            assert_eq!((is.mtime(), is.mtime_nsec()), (sub.mtime(), sub.mtime_nsec()));
            assert_eq!(dirs.from("t").exists(), action == FileAction::Copy);
            fs::remove_dir_all(dirs.to("u")).unwrap();
            let _ = fs::remove_dir_all(dirs.from("t"));
        }
    }
}

#[test]
fn a_link_and_a_fifo_are_copied_as_what_they_are() {
    for dirs in [TwoDirs::new(), TwoDirs::across()] {
        for action in BOTH {
            fs::write(dirs.from("victim"), "secret").unwrap();
            symlink("victim", dirs.from("l")).unwrap();
            make_fifo(&dirs.from("p"), 0o700);
            for name in ["l", "p"] {
                dirs.run(rule(action), name, name).unwrap();
                fs::symlink_metadata(dirs.from(name)).map_or_else(
                    |_| assert_eq!(action, FileAction::Move),
                    |_| assert_eq!(action, FileAction::Copy),
                );
                let _ = fs::remove_file(dirs.from(name));
            }
            assert_eq!(fs::read_link(dirs.to("l")).unwrap(), Path::new("victim"));
            assert!(fs::symlink_metadata(dirs.to("p")).unwrap().file_type().is_fifo());
            fs::remove_file(dirs.to("l")).unwrap();
            fs::remove_file(dirs.to("p")).unwrap();
        }
    }
}

#[test]
fn what_is_no_file_is_left_out_unless_it_is_asked_for() {
    let dirs = TwoDirs::new();
    make_fifo(&dirs.from("p"), 0o700);
    drop(UnixListener::bind(dirs.from("s")).unwrap());
    symlink("p", dirs.from("l")).unwrap();
    fs::write(dirs.from("f"), "").unwrap();
    let left = |name: &str, action| {
        let operation = Operation {
            task: TaskId::for_tests(),
            rule: Arc::new(Rule { rec: true, ..rule(action) }),
            source: trusted_path(dirs.from.path(), name),
            is_dir: false,
            special: false,
            target: (action != FileAction::Delete).then(|| trusted_path(dirs.to.path(), name)),
        };
        match carry_out(&operation, &Control::default(), &dirs.shared, &mut DirCache::default()) {
            OperationEnd::LeftOut(kind) => Some(kind),
            OperationEnd::Done(_) => None,
            end => panic!("{end:?}"),
        }
    };
    for action in [FileAction::Copy, FileAction::Move, FileAction::Delete] {
        assert_eq!((left("p", action), left("s", action)), (Some(FileKind::Fifo), Some(FileKind::Other)));
    }
    assert!(dirs.from("p").exists() && !dirs.to("p").exists());
    // A link is moved as a link, wherever it leads.
    assert_eq!((left("l", FileAction::Move), left("f", FileAction::Move)), (None, None));
}

#[test]
fn sockets_and_devices_are_moved_but_not_copied() {
    let dirs = TwoDirs::new();
    let socket = UnixListener::bind(dirs.from("s")).unwrap();
    dirs.fails(rule(FileAction::Copy), "s", "s", "it is a socket or a device");
    fs::create_dir(dirs.from("t")).unwrap();
    fs::rename(dirs.from("s"), dirs.from("t/s")).unwrap();
    dirs.fails(rule(FileAction::Copy), "t", "t", "t/s\": it is a socket or a device");
    dirs.run(rule(FileAction::Move), "t/s", "s").unwrap();
    assert!(fs::symlink_metadata(dirs.to("s")).unwrap().file_type().is_socket());
    let across = TwoDirs::across();
    fs::rename(dirs.to("s"), across.from("s")).unwrap();
    across.fails(rule(FileAction::Move), "s", "s", "it is a socket or a device");
    assert!(across.from("s").exists());
    drop(socket);
    if is_root() {
        let (kind, null) = (FileType::CharacterDevice, makedev(1, 3));
        // Even root may lack this right, as in a container.
        if mknodat(CWD, dirs.from("null"), kind, Mode::RUSR, null).is_ok() {
            dirs.fails(rule(FileAction::Copy), "null", "null", "it is a socket or a device");
            dirs.run(rule(FileAction::Move), "null", "null").unwrap();
        }
    }
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    for dirs in [TwoDirs::new(), TwoDirs::across()] {
        for action in BOTH {
            fs::write(dirs.from("f"), "new").unwrap();
            fs::write(dirs.to("f"), "old").unwrap();
            dirs.fails(rule(action), "f", "f", "f\": EEXIST (File exists; override = yes replaces it)");
            assert_eq!(fs::read_to_string(dirs.from("f")).unwrap(), "new");
            assert_eq!(fs::read_to_string(dirs.to("f")).unwrap(), "old");
            let replacing = || Rule { replace: true, ..rule(action) };
            dirs.run(replacing(), "f", "f").unwrap();
            assert_eq!(fs::read_to_string(dirs.to("f")).unwrap(), "new");

            plant(&dirs.from("t"));
            fs::create_dir_all(dirs.to("t/old/deep")).unwrap();
            dirs.fails(rule(action), "t", "t", "EEXIST");
            assert!(dirs.to("t/old/deep").exists());
            dirs.run(replacing(), "t", "t").unwrap();
            check_planted(&dirs.to("t"));
            assert!(!dirs.to("t/old").exists());

            fs::write(dirs.from("f"), "new").unwrap();
            dirs.fails(replacing(), "f", "t", "a directory is in the way");
            check_planted(&dirs.to("t"));
            fs::create_dir(dirs.from("d")).unwrap();
            dirs.fails(replacing(), "d", "f", "a file is in the way");
            assert_eq!(fs::read_to_string(dirs.to("f")).unwrap(), "new");
            for name in ["t", "d"] {
                let _ = fs::remove_dir_all(dirs.from(name));
            }
            fs::remove_dir_all(dirs.to("t")).unwrap();
            fs::remove_file(dirs.to("f")).unwrap();
        }
    }
}

#[test]
fn an_empty_directory_is_replaced_without_ado() {
    let dirs = TwoDirs::new();
    plant(&dirs.from("t"));
    fs::create_dir(dirs.to("t")).unwrap();
    dirs.fails(rule(FileAction::Move), "t", "t", "EEXIST");
    dirs.run(Rule { replace: true, ..rule(FileAction::Move) }, "t", "t").unwrap();
    check_planted(&dirs.to("t"));
}

#[test]
fn missing_directories_are_made_when_allowed_and_removed_after_a_failure() {
    for action in BOTH {
        let dirs = TwoDirs::new();
        fs::write(dirs.from("f"), "x").unwrap();
        dirs.fails(rule(action), "f", "a/b/c/f", "there is no such directory (auto_create = yes makes it)");
        let creating = || Rule { auto_create: true, dirmode: Some(0o751), ..rule(action) };
        dirs.fails(creating(), "none", "a/b/c/f", "ENOENT");
        assert!(!dirs.to("a").exists());
        dirs.run(creating(), "f", "a/b/c/f").unwrap();
        assert_eq!(fs::read_to_string(dirs.to("a/b/c/f")).unwrap(), "x");
        for name in ["a", "a/b", "a/b/c"] {
            assert_eq!(mode(&dirs.to(name)), 0o751, "{name}");
        }
        fs::write(dirs.from("g"), "y").unwrap();
        dirs.run(creating(), "g", "a/b/other/g").unwrap();
        assert_eq!(mode(&dirs.to("a/b/other")), 0o751);
        // A socket cannot be copied, whatever was made for it.
        let _socket = UnixListener::bind(dirs.from("s")).unwrap();
        dirs.fails(Rule { auto_create: true, ..rule(FileAction::Copy) }, "s", "x/y/s", "socket");
        assert!(!dirs.to("x").exists());
    }
}

#[test]
fn a_missing_fixed_directory_is_made_too() {
    let dirs = TwoDirs::new();
    fs::write(dirs.from("f"), "x").unwrap();
    let mut target = trusted_path(dirs.to.path(), "a/b/f");
    target.trusted = target.path.len() - "/f".len();
    let creating = Rule { auto_create: true, ..rule(FileAction::Move) };
    let source = trusted_path(dirs.from.path(), "f");
    let operation = Operation {
        task: TaskId::for_tests(),
        rule: Arc::new(creating),
        source,
        is_dir: false,
        special: true,
        target: Some(target),
    };
    let end = carry_out(&operation, &Control::default(), &dirs.shared, &mut DirCache::default());
    assert!(matches!(end, OperationEnd::Done(_)), "{end:?}");
    assert_eq!(fs::read_to_string(dirs.to("a/b/f")).unwrap(), "x");
}

#[test]
fn modes_are_set_on_everything_that_is_moved_or_copied() {
    for dirs in [TwoDirs::new(), TwoDirs::across()] {
        for action in BOTH {
            plant(&dirs.from("t"));
            let setting = || Rule { filemode: Some(0o604), dirmode: Some(0o705), ..rule(action) };
            dirs.fails(setting(), "t", "t", "more than one name (hard link)");
            check_planted(&dirs.from("t"));
            dirs.run(Rule { hardlinks: true, ..setting() }, "t", "t").unwrap();
            for (name, expected) in [("", 0o705), ("sub/deep", 0o705), ("sub/file", 0o604), ("fifo", 0o604)] {
                assert_eq!(mode(&dirs.to("t").join(name)), expected, "{action:?} {name}");
            }
            if action == FileAction::Copy {
                check_planted(&dirs.from("t"));
                fs::remove_dir_all(dirs.from("t")).unwrap();
            }
            fs::remove_dir_all(dirs.to("t")).unwrap();
            fs::write(dirs.from("f"), "x").unwrap();
            dirs.run(setting(), "f", "f").unwrap();
            assert_eq!(mode(&dirs.to("f")), 0o604);
            fs::remove_file(dirs.to("f")).unwrap();
        }
    }
}

#[test]
fn an_existing_name_leaves_the_attributes_of_the_source_alone() {
    let dirs = TwoDirs::new();
    fs::write(dirs.from("f"), "new").unwrap();
    set_mode(&dirs.from("f"), 0o641);
    fs::write(dirs.to("f"), "old").unwrap();
    dirs.fails(Rule { filemode: Some(0o600), ..rule(FileAction::Move) }, "f", "f", "EEXIST");
    assert_eq!(mode(&dirs.from("f")), 0o641);
}

#[test]
fn owners_are_kept_or_set_and_set_id_bits_go_with_them() {
    if !is_root() {
        return eprintln!("not root: owners cannot be tested");
    }
    for dirs in [TwoDirs::new(), TwoDirs::across()] {
        for action in BOTH {
            let make = |name: &str| {
                fs::write(dirs.from(name), "x").unwrap();
                std::os::unix::fs::chown(dirs.from(name), Some(1234), Some(1235)).unwrap();
                set_mode(&dirs.from(name), 0o6755);
                let file = File::open(dirs.from(name)).unwrap();
                // Version 2 of struct vfs_cap_data with CAP_NET_BIND_SERVICE (capabilities(7)).
                let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                xattr::set(file.as_fd(), c"security.capability", &value).unwrap();
            };
            make("kept");
            dirs.run(rule(action), "kept", "kept").unwrap();
            let is = fs::metadata(dirs.to("kept")).unwrap();
            assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (1234, 1235, 0o6755), "{action:?}");
            let capability =
                |name: &str| xattr::get(File::open(dirs.to(name)).unwrap().as_fd(), c"security.capability");
            assert!(capability("kept").is_ok());
            make("given");
            dirs.run(Rule { uid: Some(99), gid: Some(98), ..rule(action) }, "given", "given").unwrap();
            let is = fs::metadata(dirs.to("given")).unwrap();
            assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (99, 98, 0o755), "{action:?}");
            assert!(capability("given").is_err());
            for name in ["kept", "given"] {
                fs::remove_file(dirs.to(name)).unwrap();
                let _ = fs::remove_file(dirs.from(name));
            }
        }
    }
}

#[test]
fn extended_attributes_and_access_lists_are_kept() {
    let dirs = TwoDirs::new();
    fs::create_dir(dirs.from("t")).unwrap();
    fs::write(dirs.from("t/f"), "x").unwrap();
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
        let file = File::open(dirs.from(name)).unwrap();
        if xattr::set(file.as_fd(), c"user.note", b"hello").is_err() {
            return eprintln!("this filesystem has no extended attributes");
        }
        xattr::set(file.as_fd(), c"system.posix_acl_access", &acl).unwrap();
    }
    let mode_before = mode(&dirs.from("t/f"));
    dirs.run(rule(FileAction::Copy), "t", "t").unwrap();
    for name in ["t", "t/f"] {
        let file = File::open(dirs.to(name)).unwrap();
        assert_eq!(xattr::get(file.as_fd(), c"user.note").unwrap(), b"hello");
        assert_eq!(xattr::get(file.as_fd(), c"system.posix_acl_access").unwrap(), acl);
    }
    assert_eq!(mode(&dirs.to("t/f")), mode_before);
}

#[test]
fn holes_stay_holes() {
    for dirs in [TwoDirs::new(), TwoDirs::across()] {
        let file = File::create(dirs.from("f")).unwrap();
        file.write_all_at(b"x", 64 << 20).unwrap();
        file.set_len(128 << 20).unwrap();
        let done = dirs.run(rule(FileAction::Copy), "f", "f").unwrap();
        assert_eq!(done.bytes, 128 << 20);
        let is = fs::metadata(dirs.to("f")).unwrap();
        assert_eq!(is.len(), 128 << 20);
        assert!(is.blocks() < 2048, "{} blocks", is.blocks());
    }
}

#[test]
fn deleting_takes_what_it_may() {
    let dirs = TwoDirs::new();
    fs::write(dirs.from("victim"), "x").unwrap();
    fs::write(dirs.from("f"), "x").unwrap();
    symlink("victim", dirs.from("l")).unwrap();
    for name in ["f", "l"] {
        dirs.run(rule(FileAction::Delete), name, "").unwrap();
        assert!(fs::symlink_metadata(dirs.from(name)).is_err());
    }
    assert!(dirs.from("victim").exists());
    fs::create_dir(dirs.from("empty")).unwrap();
    dirs.run(rule(FileAction::Delete), "empty", "").unwrap();
    plant(&dirs.from("t"));
    symlink("..", dirs.from("t/up")).unwrap();
    dirs.fails(rule(FileAction::Delete), "t", "", "the directory is not empty (rec = yes allows it)");
    check_planted(&dirs.from("t"));
    dirs.run(Rule { rec: true, ..rule(FileAction::Delete) }, "t", "").unwrap();
    assert!(!dirs.from("t").exists() && dirs.from("victim").exists());
    dirs.fails(rule(FileAction::Delete), "t", "", "ENOENT");
}

#[test]
fn a_tree_deeper_than_a_path_is_copied_moved_and_deleted() {
    let dirs = TwoDirs::across();
    let top = File::open(dirs.from.path()).unwrap();
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
    let done = dirs.run(rule(FileAction::Copy), "t", "copied").unwrap();
    assert_eq!((done.bytes, done.entries), (240, 121));
    dirs.run(rule(FileAction::Move), "t", "moved").unwrap();
    assert!(!dirs.from("t").exists());
    for name in ["copied", "moved"] {
        let operation = Operation {
            task: TaskId::for_tests(),
            rule: Arc::new(Rule { rec: true, ..rule(FileAction::Delete) }),
            source: trusted_path(dirs.to.path(), name),
            is_dir: false,
            special: true,
            target: None,
        };
        let end = carry_out(&operation, &Control::default(), &dirs.shared, &mut DirCache::default());
        assert!(matches!(end, OperationEnd::Done(_)), "{end:?}");
    }
}

#[test]
fn a_source_that_changes_is_left() {
    let dirs = TwoDirs::across();
    let file = File::create(dirs.from("f")).unwrap();
    (&file).write_all(b"begin").unwrap();
    dirs.fails(rule(FileAction::Move), "f", "f", "a process is writing to it");
    assert!(dirs.from("f").exists() && !dirs.to("f").exists());
    dirs.run(rule(FileAction::Copy), "f", "f").unwrap();
    drop(file);
    dirs.run(rule(FileAction::Move), "f", "g").unwrap();
    assert!(!dirs.from("f").exists());
}

#[test]
fn links_on_the_way_are_not_followed() {
    let dirs = TwoDirs::new();
    fs::create_dir(dirs.from("real")).unwrap();
    fs::write(dirs.from("real/f"), "x").unwrap();
    symlink("real", dirs.from("link")).unwrap();
    fs::create_dir(dirs.to("real")).unwrap();
    symlink("real", dirs.to("link")).unwrap();
    for action in BOTH {
        dirs.fails(rule(action), "link/f", "f", "a symbolic link that is not followed");
        dirs.fails(rule(action), "real/f", "link/f", "a symbolic link that is not followed");
        let creating = Rule { auto_create: true, ..rule(action) };
        dirs.fails(creating, "real/f", "link/a/f", "a symbolic link that is not followed");
    }
    dirs.fails(rule(FileAction::Delete), "link/f", "", "a symbolic link that is not followed");
    assert!(dirs.from("real/f").exists());
    assert_eq!(fs::read_dir(dirs.to("real")).unwrap().count(), 0);
}

#[test]
fn a_full_name_has_room() {
    let dirs = TwoDirs::across();
    let name = "n".repeat(255);
    fs::write(dirs.from(&name), "x").unwrap();
    dirs.run(rule(FileAction::Copy), &name, &name).unwrap();
    assert_eq!(fs::read_to_string(dirs.to(&name)).unwrap(), "x");
}

#[test]
fn an_operation_that_is_told_to_end_leaves_all_as_it_was() {
    let dirs = TwoDirs::across();
    plant(&dirs.from("t"));
    fs::write(dirs.from("f"), vec![1; 100_000]).unwrap();
    let control = Control::default();
    control.abort();
    for (name, action) in [("t", FileAction::Copy), ("t", FileAction::Move), ("f", FileAction::Move)] {
        let text = dirs.run_with(rule(action), name, "to", &control).unwrap_err();
        assert!(text.contains("given up: the daemon ends"), "{text}");
        assert!(dirs.from(name).exists() && !dirs.to("to").exists());
    }
    check_planted(&dirs.from("t"));
}
