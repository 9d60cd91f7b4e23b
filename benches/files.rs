//! File operations: many moves, one large copy and the latency of other tasks meanwhile, memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child::Children;
use crate::lab::Lab;
use crate::process::{Process, wait};
use crate::report::{self, median};

const MIB: usize = 1 << 20;

pub fn measure(lab: &Lab) {
    moves(lab);
    copy(lab);
    memory(lab);
}

/// A files scheduler with one rule, from `in` to `out`.
fn rules(dir: &Path, action: &str, dirs: bool) -> String {
    let dir = dir.display();
    let (files, dirs) = if dirs { ("no", "yes") } else { ("yes", "no") };
    format!(
        "[scheduler job]\ntype = files\nrules = one\nfiles = {files}\ndirs = {dirs}\n\
         [rule one]\naction = {action}\nsrc_re = ^{dir}/in/(.*)$\ndst_re = {dir}/out/\\1\n\
         [event_map map]\nIN_MOVED_TO = job\n[watch all]\npath = {dir}/in\nevent_map = map\n"
    )
}

fn folders(lab: &Lab) -> tempfile::TempDir {
    let dir = lab.dir();
    for name in ["in", "out", "source"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    dir
}

fn moves(lab: &Lab) {
    let count = lab.count(20_000);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..lab.runs() {
        let dir = folders(lab);
        let daemon = Process::daemon(lab, &rules(dir.path(), "move", false));
        ours.push(drop_files(dir.path(), count));
        drop(daemon);
        let dir = folders(lab);
        let paths = [dir.path().join("in"), dir.path().join("out")];
        let program = Process::program(lab, "mover", &[&paths[0], &paths[1]]);
        theirs.push(drop_files(dir.path(), count));
        drop(program);
    }
    let what = format!("files: {count} dropped and moved");
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    report::value_beside(&what, median(&ours), median(&theirs), "s", 0.3 * count as f64 / 20_000.0);
}

/// Seconds from the first file until all have been moved.
fn drop_files(dir: &Path, count: usize) -> f64 {
    let name = |number: usize| format!("file-{number}");
    for number in 0..count {
        File::create(dir.join("source").join(name(number))).unwrap();
    }
    let start = Instant::now();
    for number in 0..count {
        fs::rename(dir.join("source").join(name(number)), dir.join("in").join(name(number))).unwrap();
    }
    let entries = |name: &str| fs::read_dir(dir.join(name)).unwrap();
    wait(|| entries("in").next().is_none(), Duration::from_millis(1));
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(entries("out").count(), count);
    seconds
}

fn fill(path: &Path, mib: usize) {
    let file = File::create(path).unwrap();
    let piece: Vec<u8> = (0..MIB).map(|number| number.to_le_bytes()[1]).collect();
    for at in 0..mib {
        file.write_all_at(&piece, (at * MIB) as u64).unwrap();
    }
}

fn copy(lab: &Lab) {
    let mib = lab.count(1024);
    let (mut ours, mut theirs, mut slowest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..lab.runs() {
        let dir = folders(lab);
        let other = lab.dir();
        let mut children = Children::new(lab, "files");
        let text = format!(
            "{}[scheduler other]\n{}\n[event_map other]\nIN_MOVED_TO = other\n\
             [watch other]\npath = {}\nevent_map = other\n",
            rules(dir.path(), "copy", false),
            children.scheduler("exec"),
            other.path().display()
        );
        let daemon = Process::daemon(lab, &text);
        fill(&dir.path().join("source/big"), mib);
        let (out, start) = (dir.path().join("out/big"), Instant::now());
        fs::rename(dir.path().join("source/big"), dir.path().join("in/big")).unwrap();
        let mut latencies = vec![0.0];
        while !out.exists() {
            latencies.push(latency(lab, other.path(), &mut children, latencies.len()));
        }
        ours.push(start.elapsed().as_secs_f64());
        slowest.push(latencies.into_iter().fold(0.0, f64::max));
        drop(daemon);
        fs::remove_file(&out).unwrap();
        let start = Instant::now();
        for (program, args) in [("cp", vec![dir.path().join("in/big"), out.clone()]), ("sync", vec![out])] {
            assert!(Command::new(program).args(args).status().unwrap().success());
        }
        theirs.push(start.elapsed().as_secs_f64());
    }
    report::ratio(
        &format!("files: copy of {mib} MiB, beside cp and sync"),
        median(&ours),
        median(&theirs),
        "s",
        1.1,
    );
    report::value("files: slowest other task meanwhile", median(&slowest), "ms", 10.0);
}

/// Milliseconds from a rename to the child that it starts.
fn latency(lab: &Lab, dir: &Path, children: &mut Children, number: usize) -> f64 {
    let source = lab.folder().join("small");
    File::create(&source).unwrap();
    let start = Instant::now();
    fs::rename(source, dir.join(number.to_string())).unwrap();
    assert!(children.next(Duration::from_secs(10)).is_some(), "a child");
    start.elapsed().as_secs_f64() * 1000.0
}

/// Peak memory of the daemon, for a small and a large piece of work.
fn memory(lab: &Lab) {
    let peak = |mib: usize, entries: usize| {
        let dir = folders(lab);
        let daemon = Process::daemon(lab, &rules(dir.path(), "copy", true));
        let tree = dir.path().join("source/tree");
        fs::create_dir(&tree).unwrap();
        fill(&tree.join("big"), mib);
        for number in 0..entries {
            if number % 100 == 0 {
                fs::create_dir(tree.join(format!("{}", number / 100))).unwrap();
            }
            File::create(tree.join(format!("{}/{number}", number / 100))).unwrap();
        }
        fs::rename(tree, dir.path().join("in/tree")).unwrap();
        wait(|| dir.path().join("out/tree").exists(), Duration::from_millis(10));
        daemon.proc_status("VmHWM")
    };
    let small = peak(1, 100);
    let large = peak(lab.count(256), lab.count(50_000));
    report::value("files: peak RSS of a large tree over a small one", large - small, "KiB", 512.0);
}
