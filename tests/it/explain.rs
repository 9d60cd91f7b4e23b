//! What `-e` says an event would do.

use std::os::unix::fs::symlink;
use std::process::Output;

use crate::scratch::{Daemon, Scratch, rinotifyd};

const CONFIG: &str = "[scheduler import]\ntype = exec\ncmd = import {maskname} {pathname}\ndelay = 10\n\
     [scheduler note]\ntype = shell\ncmd = echo {filename} {src_pathname} {is_dir}\nfiles = no\ndirs = yes\n\
     [event_map incoming]\nIN_CLOSE_WRITE = import note\nIN_DELETE = cancel:import\nIN_CREATE = note\n\
     IN_DELETE_SELF = import note\n\
     [watch in]\npath = @/in\nevent_map = incoming\nrec = yes\nauto_add = yes\n\
     exclude_filter = .*\\.tmp$\n  @/in/secret\n\
     [watch flat]\npath = @/flat\nevent_map = incoming\nauto_add = yes\n\
     [watch single]\npath = @/single\nevent_map = incoming\n\
     [watch some]\npath = @/glob/*/x\ndefault_sched = import\n";

/// Exit status and what is printed, the scratch directory as `@`, without the command's quotes.
fn explain(scratch: &Scratch, event: &str) -> (i32, String) {
    let file = scratch.config(CONFIG);
    let output = rinotifyd().arg("-c").arg(file).arg("-e").arg(scratch.expand(event)).output().unwrap();
    let Output { status, stdout, stderr } = output;
    assert_eq!(stderr, b"", "{}", String::from_utf8_lossy(&stderr));
    let text = String::from_utf8(stdout).unwrap();
    (status.code().unwrap(), text.replace(&scratch.expand("@/"), "@/"))
}

#[track_caller]
fn check(scratch: &Scratch, event: &str, status: i32, expected: &str) {
    assert_eq!(explain(scratch, event), (status, expected.to_owned()), "{event}");
}

#[test]
fn each_decision_is_told_in_order() {
    let scratch = Scratch::new();
    check(
        &scratch,
        "IN_CLOSE_WRITE:@/in/deep/er/a b",
        0,
        "IN_CLOSE_WRITE of the file \"@/in/deep/er/a b\"\n\
         watch in covers it with path \"@/in\": it is below it\n\
         event map incoming: IN_CLOSE_WRITE = import note\n\
         watch in does not leave it out: no exclude_filter matches\n\
         scheduler import: a task is scheduled, with a delay of 10 s\n\
         scheduler note takes no events about files (files = no)\n\
         scheduler import runs its task\n    command: import IN_CLOSE_WRITE @/in/deep/er/a b\n",
    );
    check(
        &scratch,
        "IN_CREATE:@/in/new/",
        0,
        "IN_CREATE of the directory \"@/in/new\"\n\
         watch in covers it with path \"@/in\": it is in it\n\
         event map incoming: IN_CREATE = note\n\
         watch in does not leave it out: no exclude_filter matches\n\
         scheduler note: a task is scheduled, with a delay of 0 s\n\
         scheduler note runs its task\n    command: /bin/sh -c echo 'new' '' '1'\n",
    );
}

#[test]
fn what_runs_nothing_says_why() {
    let scratch = Scratch::new();
    check(
        &scratch,
        "IN_CLOSE_WRITE:@/in/a.tmp",
        1,
        "IN_CLOSE_WRITE of the file \"@/in/a.tmp\"\n\
         watch in covers it with path \"@/in\": it is in it\n\
         event map incoming: IN_CLOSE_WRITE = import note\n\
         watch in leaves it out: exclude_filter .*\\.tmp$\nnothing would run\n",
    );
    check(
        &scratch,
        "IN_CLOSE_WRITE:@/in/secret/below/file",
        1,
        &scratch
            .expand(
                "IN_CLOSE_WRITE of the file \"#/in/secret/below/file\"\n\
                 watch in leaves out the directory \"#/in/secret\": exclude_filter #/in/secret\n\
                 nothing would run\n",
            )
            .replace('#', "@"),
    );
    check(
        &scratch,
        "IN_CLOSE_WRITE:@/flat/below/file",
        1,
        "IN_CLOSE_WRITE of the file \"@/flat/below/file\"\n\
         watch flat leaves out the directory \"@/flat/below\": rec = no, unless it appears later\n\
         nothing would run\n",
    );
    check(
        &scratch,
        "IN_OPEN:@/in/file",
        1,
        "IN_OPEN of the file \"@/in/file\"\n\
         watch in covers it with path \"@/in\": it is in it\n\
         event map incoming: IN_OPEN = none\nnothing would run\n",
    );
    check(
        &scratch,
        "IN_DELETE:@/in/file",
        1,
        "IN_DELETE of the file \"@/in/file\"\n\
         watch in covers it with path \"@/in\": it is in it\n\
         event map incoming: IN_DELETE = cancel:import\n\
         watch in does not leave it out: no exclude_filter matches\n\
         scheduler import: a waiting task is cancelled\nnothing would run\n",
    );
    for path in ["@/elsewhere/file", "/", "@/glob/a/y/file"] {
        let (status, text) = explain(&scratch, &format!("IN_CLOSE_WRITE:{path}"));
        assert!(status == 1 && text.ends_with("\nno watch covers it\nnothing would run\n"), "{path}: {text}");
    }
}

#[test]
fn single_files_globs_and_the_path_itself_are_explained() {
    let scratch = Scratch::new();
    let (status, text) = explain(&scratch, "IN_CLOSE_WRITE:@/single");
    assert_eq!(status, 0, "{text}");
    assert!(
        text.contains("watch single covers it with path \"@/single\": it is what the path names"),
        "{text}"
    );
    // The end of a single file is told by the directory around it.
    let (status, text) = explain(&scratch, "IN_DELETE_SELF:@/single");
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("IN_DELETE_SELF = import note\n"), "{text}");
    let (status, text) = explain(&scratch, "IN_DELETE_SELF:@/in/");
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("watch in covers it with path \"@/in\": it is the path itself"), "{text}");
    assert!(text.contains("scheduler import takes no events about directories (dirs = no)"), "{text}");
    let (status, text) = explain(&scratch, "IN_OPEN:@/glob/a/x/file");
    assert!(status == 0 && text.contains("watch some covers it with path \"@/glob/*/x\""), "{text}");
    let (status, text) = explain(&scratch, "IN_Q_OVERFLOW:@/glob/a/x/");
    assert!(status == 0 && text.contains("event map some: IN_Q_OVERFLOW = import"), "{text}");
}

#[test]
fn rules_of_a_files_scheduler_are_explained() {
    let scratch = Scratch::new();
    let text = "[rule photo]\naction = move\nsrc_re = ^@/in/(.*)\\.jpg$\ndst_re = @/out/\\1.jpg\n\
                filemode = 0644\n[rule up]\naction = copy\nsrc_re = ^@/in/(.*)\\.up$\ndst_re = \\1\n\
                [scheduler sort]\ntype = files\nrules = photo up\ndelay = 60\n\
                [event_map incoming]\nIN_CLOSE_WRITE = sort\n[watch in]\npath = @/in\nevent_map = incoming\n";
    let file = scratch.config(text);
    let explain = |name: &str| {
        let event = scratch.expand(&format!("IN_CLOSE_WRITE:@/in/{name}"));
        let output = rinotifyd().arg("-c").arg(&file).arg("-e").arg(event).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, rest) = text.split_once("IN_CLOSE_WRITE = sort\n").unwrap_or_else(|| panic!("{text}"));
        (output.status.code().unwrap(), rest.replace(&scratch.expand("@/"), "@/"))
    };
    let expected = "rule photo: src_re matches\n\
                    scheduler sort: a task is scheduled, with a delay of 60 s\nscheduler sort runs its task\n\
                    \u{20}   operation: move\n    rule: photo\n    destination: @/out/a.jpg\n    filemode: 0644\n";
    assert_eq!(explain("a.jpg"), (0, expected.to_owned()));
    let expected = "rule photo: src_re does not match\nrule up: src_re does not match\n\
                    no rule takes the path\nnothing would run\n";
    assert_eq!(explain("a.txt"), (1, expected.to_owned()));
    let (status, text) = explain("a.up");
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("    error: the destination \"a\" is not an absolute path\n"), "{text}");
}

#[test]
fn what_exists_is_taken_from_the_disk() {
    let scratch = Scratch::new();
    scratch.dir("in/really");
    scratch.write("in/file", "");
    symlink(scratch.dir("elsewhere"), scratch.path("in/link")).unwrap();
    let first = |event: &str| explain(&scratch, event).1.lines().next().unwrap().to_owned();
    assert_eq!(first("IN_CREATE:@/in/really"), "IN_CREATE of the directory \"@/in/really\"");
    assert_eq!(first("IN_CREATE:@/in/file/"), "IN_CREATE of the file \"@/in/file\"");
    assert_eq!(first("IN_CREATE:@/in/link"), "IN_CREATE of the file \"@/in/link\"");
    // No link is followed below a watch path.
    let (status, text) = explain(&scratch, "IN_CLOSE_WRITE:@/in/link/file");
    assert_eq!(status, 1, "{text}");
}

#[test]
fn the_daemon_does_what_was_explained() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = "[scheduler run]\ntype = shell\ncmd = echo {maskname} {pathname} >>@/ran\n\
                [watch src]\npath = @/src\ndefault_sched = run\n[log src]\nlevel = debug\n";
    let mut daemon = Daemon::start_ready(&scratch, text, &["-n"]);
    scratch.write("src/a'b", "");
    let line = daemon.wait_line("dry run event=IN_CLOSE_WRITE");
    daemon.stop();
    let file = scratch.path("rinotifyd.conf");
    let event = scratch.expand("IN_CLOSE_WRITE:@/src/a'b");
    let output = rinotifyd().arg("-c").arg(file).arg("-e").arg(event).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let command = text.lines().find_map(|line| line.strip_prefix("    command: ")).unwrap();
    assert!(line.ends_with(&format!("command=\"{}\"", command.replace('\\', "\\\\"))), "{line}\n{text}");
}

#[test]
fn it_works_without_a_file_and_refuses_what_it_cannot_explain() {
    let run = |args: &[&str]| {
        let Output { status, stdout, stderr } = rinotifyd().args(args).output().unwrap();
        let text = String::from_utf8([stdout, stderr].concat()).unwrap();
        (status.code().unwrap(), text)
    };
    let (status, text) = run(&["-w", "/in", "-x", "cat {pathname}", "-e", "IN_CLOSE_WRITE:/in/x"]);
    assert!(status == 0 && text.ends_with("    command: /bin/sh -c cat '/in/x'\n"), "{text}");
    assert_eq!(run(&["-w", "/in", "-x", "true", "-e", "IN_WRITE:/in/x"]).0, 2);
    assert_eq!(run(&["-w", "/in", "-x", "true", "-e", "IN_OPEN:/in/../x"]).0, 2);
    assert_eq!(run(&["-c", "/no/such/file", "-e", "IN_OPEN:/in"]).0, 2);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = rinotifyd();
    command.args(["-w", "/in", "-x", "true", "-e", "IN_CLOSE_WRITE:/in/x"]);
    assert_eq!(command.stdout(full).status().unwrap().code(), Some(1));
}

#[test]
fn the_pattern_that_decides_is_named() {
    let scratch = Scratch::new();
    let config = "[scheduler s]\ntype = exec\ncmd = true {pathname}\n\
         [event_map m]\nIN_CLOSE_WRITE = s\n[watch w]\npath = @/in\nevent_map = m\nrec = yes\n\
         exclude_glob = *.tmp\n  build/\ninclude_glob = *.pdf\n";
    let file = scratch.config(config);
    let last = |path: &str| {
        let event = scratch.expand(&format!("IN_CLOSE_WRITE:@/in/{path}"));
        let Output { stdout, .. } = rinotifyd().arg("-c").arg(&file).arg("-e").arg(event).output().unwrap();
        let text = String::from_utf8(stdout).unwrap();
        text.lines().find(|line| line.contains("leave")).map(str::to_owned).unwrap_or(text)
    };
    assert_eq!(last("a.tmp"), "watch w leaves it out: exclude_glob *.tmp");
    assert_eq!(last("a/b.doc"), "watch w leaves it out: no include_glob matches");
    assert_eq!(
        last("build/a.pdf"),
        scratch.expand("watch w leaves out the directory \"@/in/build\": exclude_glob build/")
    );
    assert_eq!(
        last("a.pdf"),
        "watch w does not leave it out: no exclude_glob matches, include_glob allows it"
    );
}

#[test]
fn a_job_is_explained_by_its_name() {
    let scratch = Scratch::new();
    let file = scratch.config("[job scans]\npath = @/in\ncmd = cat {pathname}\ndelay = 2\n");
    let explain = |event: &str| {
        let event = scratch.expand(event);
        let output = rinotifyd().arg("-c").arg(&file).arg("-e").arg(event).output().unwrap();
        String::from_utf8(output.stdout).unwrap().replace(&scratch.expand("@/"), "@/")
    };
    assert_eq!(
        explain("IN_CLOSE_WRITE:@/in/a"),
        "IN_CLOSE_WRITE of the file \"@/in/a\"\n\
         watch scans covers it with path \"@/in\": it is in it\n\
         event map scans: IN_CLOSE_WRITE = scans\n\
         watch scans does not leave it out: no exclude_glob matches\n\
         scheduler scans: a task is scheduled, with a delay of 2 s\n\
         scheduler scans runs its task\n    command: /bin/sh -c cat '@/in/a'\n"
    );
    assert!(explain("IN_DELETE:@/in/a").contains("event map scans: IN_DELETE = cancel:scans\n"));
    assert!(explain("IN_CLOSE_WRITE:@/in/.a").contains("watch scans leaves it out: exclude_glob .*\n"));
}
