//! Moving trees to another filesystem, again after an interruption, and at any depth.

use super::*;
use crate::shell::fileops::locate;
use crate::shell::fileops::parked::Parked;
use crate::shell::fileops::sweep::SweptDirs;

#[test]
fn what_was_changed_while_a_tree_is_removed_is_kept() {
    let dirs = TwoDirs::new();
    plant(&dirs.from("t"));
    let path = trusted_path(dirs.from.path(), "t");
    let entry = locate::source(&path, &dirs.shared.swept, &mut DirCache::default()).unwrap();
    let id = crate::sys::stat::stat_at(entry.dir(), c"t").unwrap().id;
    let other = crate::sys::stat::FileId { ino: id.ino + 1, ..id };
    let text = Parked::park(entry.borrowed(), other, b"/t".into()).err().unwrap().to_string();
    assert_eq!(text, "delete \"/t\": it was replaced meanwhile");
    check_planted(&dirs.from("t"));
    // A process that is in the tree still reaches it.
    let inside = File::open(dirs.from("t/sub")).unwrap();
    let parked = Parked::park(entry.borrowed(), id, b"/t".into()).unwrap();
    assert!(!dirs.from("t").exists());
    let file = crate::sys::file::create(inside.as_fd(), c"new").unwrap();
    // The kernel's clock for files may stand still for some milliseconds.
    let source = File::open(litter(dirs.from.path()).pop().unwrap().join("rinotifyd.source")).unwrap();
    let ctime = |fd| crate::sys::stat::stat(fd).unwrap().ctime_ns;
    while ctime(file.as_fd()) <= ctime(source.as_fd()) {
        crate::sys::file::set_mode(file.as_fd(), 0o600).unwrap();
    }
    let text = parked.remove(b"/t".into()).unwrap_err().to_string();
    assert!(text.ends_with("and is kept in the directory .rinotifyd-* beside the source"), "{text}");
    let kept = litter(dirs.from.path()).pop().unwrap().join("rinotifyd.kept");
    assert!(kept.join("sub/new").exists() && !kept.join("sub/file").exists());
    SweptDirs::default().sweep(File::open(dirs.from.path()).unwrap().as_fd());
    assert!(kept.join("sub/new").exists(), "a sweep removed it");
}

#[test]
fn a_move_that_was_finished_but_for_its_source_is_finished() {
    for override_ in [false, true] {
        let dirs = TwoDirs::across();
        plant(&dirs.from("t"));
        fs::write(dirs.from("f"), "content").unwrap();
        for name in ["t", "f"] {
            dirs.run(rule(FileAction::Copy), name, name).unwrap();
            let done = dirs.run(Rule { replace: override_, ..rule(FileAction::Move) }, name, name).unwrap();
            assert_eq!(done.remarks.is_empty(), override_, "{:?}", done.remarks);
            assert!(!dirs.from(name).exists());
        }
        check_planted(&dirs.to("t"));
    }
}

#[test]
fn what_only_looks_like_a_finished_copy_is_none() {
    let dirs = TwoDirs::across();
    plant(&dirs.from("t"));
    fs::write(dirs.from("f"), "content").unwrap();
    for (name, inner) in [("f", "f"), ("t", "t/sub/file")] {
        dirs.run(rule(FileAction::Copy), name, name).unwrap();
        let times = fs::metadata(dirs.to(inner)).unwrap().modified().unwrap();
        let file = fs::OpenOptions::new().write(true).open(dirs.to(inner)).unwrap();
        file.write_all_at(b"C", 0).unwrap();
        file.set_modified(times).unwrap();
        drop(file);
        dirs.fails(rule(FileAction::Move), name, name, "EEXIST");
        assert_eq!(fs::read_to_string(dirs.from(inner)).unwrap(), "content");
        assert_eq!(fs::read_to_string(dirs.to(inner)).unwrap(), "Content");
    }
}

#[test]
fn a_tree_that_a_process_writes_to_is_not_copied() {
    let dirs = TwoDirs::across();
    plant(&dirs.from("t"));
    let writing = fs::OpenOptions::new().append(true).open(dirs.from("t/sub/file")).unwrap();
    let control = Control::default();
    let text = dirs.run_with(rule(FileAction::Move), "t", "t", &control).unwrap_err();
    assert!(text.contains("a process is writing to it"), "{text}");
    assert_eq!(control.progress(), (0, 0), "it was copied in vain");
    drop(writing);
    dirs.run(rule(FileAction::Move), "t", "t").unwrap();
    check_planted(&dirs.to("t"));
}

/// Makes a tree with one directory in each other, and a file in each.
fn plant_deep(dir: &Path, depth: usize) {
    let mut at: std::os::fd::OwnedFd = File::open(dir).unwrap().into();
    for name in std::iter::once(c"t").chain(std::iter::repeat_n(c"a directory with a name", depth)) {
        crate::sys::file::make_dir(at.as_fd(), name, 0o755).unwrap();
        at = crate::sys::dir::open_child(at.as_fd(), name).unwrap();
        drop(crate::sys::file::create(at.as_fd(), c"f").unwrap());
    }
}

/// Microseconds for copying and deleting a tree of so many levels.
fn time_of_depth(depth: usize) -> u64 {
    let dirs = TwoDirs {
        from: tempfile::tempdir_in("/dev/shm").unwrap(),
        to: tempfile::tempdir_in("/dev/shm").unwrap(),
        shared: Shared::default(),
    };
    plant_deep(dirs.from.path(), depth);
    let run = |rule: Rule, source: &Path, target: Option<&Path>| {
        let operation = Operation {
            task: TaskId::for_tests(),
            rule: Arc::new(rule),
            source: trusted_path(source, "t"),
            is_dir: true,
            special: true,
            target: target.map(|target| trusted_path(target, "t")),
        };
        let end = carry_out(&operation, &Control::default(), &dirs.shared, &mut DirCache::default());
        assert!(matches!(end, OperationEnd::Done(_)), "{end:?}");
    };
    let start = crate::sys::clock::micros();
    run(rule(FileAction::Copy), dirs.from.path(), Some(dirs.to.path()));
    for dir in [&dirs.from, &dirs.to] {
        run(Rule { rec: true, ..rule(FileAction::Delete) }, dir.path(), None);
    }
    crate::sys::clock::micros() - start
}

#[test]
fn time_grows_with_the_depth_of_a_tree_and_not_with_its_square() {
    let fastest = |depth| (0..2).map(|_| time_of_depth(depth)).min().unwrap();
    let (low, deep) = (fastest(500), fastest(4000));
    // Linear is 8 times, the square 64 times.
    assert!(deep < 30 * low, "{low} us for 500 levels, {deep} us for 4,000");
}
