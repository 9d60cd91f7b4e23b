//! What an attacker, a killed daemon or another operation may have prepared.

use super::*;
use crate::shell::fileops::dir_cache::Ticket;

/// An access list that lets user 1234 in, as `xattr(7)` gives it: struct `posix_acl_xattr_header` and
/// entries for u::rwx u:1234:rwx g::r-x m::rwx o::---.
fn access_list() -> Vec<u8> {
    let entries =
        [(1_u16, 7_u16, u32::MAX), (2, 7, 1234), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    list
}

#[test]
fn no_access_list_opens_what_the_original_or_the_rule_closes() {
    let dirs = TwoDirs::new();
    let set = |path: &Path, name: &std::ffi::CStr| {
        xattr::set(File::open(path).unwrap().as_fd(), name, &access_list())
    };
    if set(dirs.to.path(), c"system.posix_acl_default").is_err() {
        return eprintln!("this filesystem has no access lists");
    }
    let lists = |name: &str| {
        let file = File::open(dirs.to(name)).unwrap();
        let has = |name| xattr::get(file.as_fd(), name).is_ok();
        (has(c"system.posix_acl_access"), has(c"system.posix_acl_default"))
    };
    // One that the destination would give to what is made there.
    fs::create_dir(dirs.from("t")).unwrap();
    fs::write(dirs.from("t/f"), "secret").unwrap();
    set_mode(&dirs.from("t/f"), 0o640);
    dirs.run(rule(FileAction::Copy), "t", "copied").unwrap();
    assert_eq!((lists("copied"), lists("copied/f")), ((false, false), (false, false)));
    assert_eq!(mode(&dirs.to("copied/f")), 0o640);
    // One that the source has, where the rule says who may do what.
    set(&dirs.from("t"), c"system.posix_acl_default").unwrap();
    for name in ["t", "t/f"] {
        set(&dirs.from(name), c"system.posix_acl_access").unwrap();
    }
    for action in [FileAction::Copy, FileAction::Move] {
        let setting = Rule { filemode: Some(0o660), dirmode: Some(0o770), replace: true, ..rule(action) };
        dirs.run(setting, "t", "set").unwrap();
        assert_eq!((lists("set"), lists("set/f")), ((false, false), (false, false)), "{action:?}");
        assert_eq!((mode(&dirs.to("set")), mode(&dirs.to("set/f"))), (0o770, 0o660));
    }
}

#[test]
fn sizes_that_add_up_to_nonsense_are_survived() {
    let dirs = TwoDirs { from: tempfile::tempdir_in("/dev/shm").unwrap(), ..TwoDirs::new() };
    fs::create_dir(dirs.from("t")).unwrap();
    for name in ["t/1", "t/2", "t/3"] {
        File::create(dirs.from(name)).unwrap().set_len(i64::MAX as u64).unwrap();
    }
    // The other filesystem may not store so large a file; the daemon lives either way.
    let control = Control::default();
    let _ = dirs.run_with(rule(FileAction::Copy), "t", "t", &control);
    assert_eq!(control.progress().1, u64::MAX);
}

#[test]
fn what_a_killed_daemon_put_aside_goes_back() {
    for (now, expected) in [(None, "old"), (Some(false), "old"), (Some(true), "new")] {
        let dirs = TwoDirs::new();
        let private = dirs.to(".rinotifyd-killed");
        fs::create_dir_all(private.join("rinotifyd.old/tree")).unwrap();
        set_mode(&private, 0o700);
        fs::write(private.join("rinotifyd.old/tree/old"), "").unwrap();
        if let Some(is_full) = now {
            fs::create_dir(dirs.to("tree")).unwrap();
            if is_full {
                fs::write(dirs.to("tree/new"), "").unwrap();
            }
        }
        fs::write(dirs.from("f"), "").unwrap();
        dirs.run(rule(FileAction::Copy), "f", "f").unwrap();
        let found: Vec<_> =
            fs::read_dir(dirs.to("tree")).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(found, [expected], "{now:?}");
    }
}

#[test]
fn a_replaced_tree_comes_back_when_the_new_one_cannot_stay() {
    if !is_root() {
        return eprintln!("not root: owners cannot be tested");
    }
    let dirs = TwoDirs::new();
    plant(&dirs.from("t"));
    fs::remove_file(dirs.from("t/sub/deep/again")).unwrap();
    fs::create_dir_all(dirs.to("t/old")).unwrap();
    let id = crate::sys::stat::stat_at(File::open(dirs.from("t/sub")).unwrap().as_fd(), c"file").unwrap().id;
    // Another operation has a file in the tree.
    let shared = Shared::default();
    let _lock = shared.inode_locks.lock(id);
    let setting = Rule { uid: Some(99), replace: true, ..rule(FileAction::Move) };
    let operation = Operation {
        task: TaskId::for_tests(),
        rule: Arc::new(setting),
        source: trusted_path(dirs.from.path(), "t"),
        is_dir: false,
        special: true,
        target: Some(trusted_path(dirs.to.path(), "t")),
    };
    let end = carry_out(&operation, &Control::default(), &shared, &mut DirCache::default());
    let OperationEnd::Failed(text) = end else { panic!("{end:?}") };
    assert!(text.contains("another operation works on it"), "{text}");
    assert!(dirs.to("t/old").exists() && dirs.from("t/sub/file").exists());
    assert_eq!(fs::metadata(dirs.from("t")).unwrap().uid(), 0);
    assert_eq!(mode(&dirs.from("t")), 0o711);
    assert_eq!(litter(dirs.to.path()), Vec::<PathBuf>::new());
}

#[test]
fn set_id_bits_are_not_given_back() {
    if !is_root() {
        return eprintln!("not root: owners cannot be tested");
    }
    let dirs = TwoDirs::new();
    fs::write(dirs.from("f"), "").unwrap();
    std::os::unix::fs::chown(dirs.from("f"), Some(1234), Some(1234)).unwrap();
    set_mode(&dirs.from("f"), 0o4755);
    let dir = File::open(dirs.from.path()).unwrap();
    let held = crate::sys::file::hold(dir.as_fd(), c"f").unwrap();
    let was = crate::sys::stat::stat(held.as_fd()).unwrap();
    attributes::set(&Rule { uid: Some(0), ..rule(FileAction::Move) }, held.as_fd(), &was, b"f".into())
        .unwrap();
    attributes::restore(held.as_fd(), &was);
    assert_eq!((fs::metadata(dirs.from("f")).unwrap().uid(), mode(&dirs.from("f"))), (1234, 0o755));
}

#[test]
fn a_descriptor_of_the_former_owner_writes_to_nothing_of_the_new_one() {
    if !is_root() {
        return eprintln!("not root: owners cannot be tested");
    }
    let dirs = TwoDirs::new();
    fs::create_dir_all(dirs.from("t/sub")).unwrap();
    for (name, inner) in [("f", "f"), ("t", "t/sub/f")] {
        let writing = File::create(dirs.from(inner)).unwrap();
        let giving = || Rule { uid: Some(99), ..rule(FileAction::Move) };
        dirs.fails(giving(), name, name, "a process has it open for writing");
        assert!(dirs.from(inner).exists() && !dirs.to(name).exists());
        assert_eq!(fs::metadata(dirs.from(name)).unwrap().uid(), 0);
        drop(writing);
        dirs.run(giving(), name, name).unwrap();
        assert_eq!(fs::metadata(dirs.to(inner)).unwrap().uid(), 99);
    }
}

#[test]
fn a_failure_names_the_side_that_failed() {
    for dirs in [TwoDirs::new(), TwoDirs::across()] {
        let long = "n".repeat(256);
        let of = |dir: &tempfile::TempDir, name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for action in BOTH {
            dirs.fails(rule(action), "f", "g", &format!("\"{}\": ENOENT", of(&dirs.from, "f")));
            fs::write(dirs.from("f"), "x").unwrap();
            let expected = format!("{}\": ENAMETOOLONG", of(&dirs.to, &long));
            dirs.fails(rule(action), "f", &long, &expected);
            fs::remove_file(dirs.from("f")).unwrap();
        }
    }
}

/// One thread, two operations: the destination's directory is replaced in between.
#[test]
fn what_is_submitted_after_a_directory_was_replaced_goes_to_the_new_one() {
    let check = |number: u64, expected: &str| {
        let dirs = TwoDirs::new();
        fs::create_dir(dirs.to("out")).unwrap();
        let mut cache = DirCache::default();
        let mut run = |name: &str, ticket: Ticket| {
            fs::write(dirs.from(name), "x").unwrap();
            let operation = Operation {
                task: TaskId::for_tests(),
                rule: Arc::new(rule(FileAction::Move)),
                source: trusted_path(dirs.from.path(), name),
                is_dir: false,
                special: true,
                target: Some(trusted_path(dirs.to.path(), &format!("out/{name}"))),
            };
            cache.ticket = ticket;
            let end = carry_out(&operation, &Control::default(), &dirs.shared, &mut cache);
            assert!(matches!(end, OperationEnd::Done(_)), "{end:?}");
        };
        run("first", Ticket { number: 1, newest: 2, trees: 0 });
        fs::rename(dirs.to("out"), dirs.to("old")).unwrap();
        fs::create_dir(dirs.to("out")).unwrap();
        run("second", Ticket { number, newest: number, trees: 0 });
        assert!(dirs.to(expected).exists(), "operation {number}");
    };
    check(3, "out/second");
    // Submitted before the first was begun: as if it had been begun before the directory was replaced.
    check(2, "old/second");
}
