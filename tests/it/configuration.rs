//! What `-t` says about files on a real disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::scratch::{Daemon, Scratch, field, is_root, rinotifyd};

/// All of them, in the order of `-l`.
pub const EVENTS: [&str; 15] = [
    "IN_ACCESS",
    "IN_MODIFY",
    "IN_ATTRIB",
    "IN_CLOSE_WRITE",
    "IN_CLOSE_NOWRITE",
    "IN_OPEN",
    "IN_MOVED_FROM",
    "IN_MOVED_TO",
    "IN_CREATE",
    "IN_DELETE",
    "IN_DELETE_SELF",
    "IN_MOVE_SELF",
    "IN_UNMOUNT",
    "IN_Q_OVERFLOW",
    "IN_IGNORED",
];

const GOOD: &str = "[scheduler run]\ntype = shell\ncmd = true\n\
                    [event_map map]\nIN_CLOSE_WRITE = run\n[watch src]\npath = @/src\nevent_map = map\n";

/// Exit status and standard error of `-t`.
fn test(scratch: &Scratch, config: &str) -> (i32, String) {
    let Output { status, stdout, stderr } =
        rinotifyd().arg("-t").arg("-c").arg(scratch.config(config)).output().unwrap();
    let status = status.code().unwrap();
    assert_eq!(stdout.starts_with(b"configuration ok, "), status == 0, "{stdout:?}");
    (status, String::from_utf8(stderr).unwrap())
}

#[test]
fn every_event_can_be_mapped() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let maps: String = EVENTS.map(|event| format!("{event} = run\n")).concat();
    let (status, said) = test(&scratch, &GOOD.replace("IN_CLOSE_WRITE = run\n", &maps));
    assert_eq!((status, said.as_str()), (0, ""));
    let (status, said) = test(&scratch, &GOOD.replace("IN_CLOSE_WRITE", "IN_CLOSE"));
    assert_eq!(status, 2);
    assert!(said.contains("IN_CLOSE"), "{said}");
}

#[test]
fn all_errors_are_told_at_once_with_line_and_caret() {
    let scratch = Scratch::new();
    let bad = "[scheduler run]\ntype = shell\ncmd = true\ndelay = soon\n\
               [event_map map]\nIN_WRITE_CLOSE = run\nIN_DELETE = rnu\n\
               [watch src]\npath = src\nevent_map = map\nexlude_filter = ^/(\nexclude_filter = ^/(a\n";
    let (status, said) = test(&scratch, bad);
    let file = scratch.path("rinotifyd.conf").display().to_string();
    assert_eq!(status, 2);
    for expected in [
        ":4:9: error: ",
        ":6:1: error: ",
        "did you mean IN_CLOSE_WRITE?",
        ":7:13: error: ",
        "did you mean run?",
        ":9:8: error: ",
        ":11:1: error: ",
        "did you mean exclude_filter?",
        ":12:",
    ] {
        let expected =
            if expected.starts_with(':') { format!("{file}{expected}") } else { expected.to_owned() };
        assert!(said.contains(&expected), "no {expected:?} in\n{said}");
    }
    assert!(said.lines().any(|line| line.ends_with("delay = soon")), "{said}");
    assert!(
        said.lines().any(|line| line.contains('^') && line.trim_start_matches([' ', '|', '^']).is_empty()),
        "{said}"
    );
}

#[test]
fn a_bad_configuration_starts_no_daemon() {
    let scratch = Scratch::new();
    let mut daemon = Daemon::start(&scratch, "[daemon]\nshutdown_timeout = never\n", &[]);
    assert_eq!(daemon.wait().code(), Some(2));
    assert!(daemon.log().contains(":2:20: error: "), "{}", daemon.log());
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let scratch = Scratch::new();
    let text =
        "[daemon]\nshutdown_timeout = 5\n[scheduler spare]\ntype = exec\ncmd = true\ndelay = 60\n".to_owned();
    let (status, said) = test(&scratch, &(text.clone() + GOOD));
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("warning: nothing starts scheduler spare"), "{said}");
    assert!(said.contains("longer than shutdown_timeout"), "{said}");
    scratch.dir("src");
    let daemon = Daemon::start_ready(&scratch, &(text + GOOD), &[]);
    assert!(daemon.stop().contains("warning daemon: "));
}

#[test]
fn files_are_included_relative_to_the_main_one() {
    let scratch = Scratch::new();
    scratch.dir("src");
    scratch.dir("conf.d");
    let (scheduler, rest) = GOOD.split_at(GOOD.find("[event_map").unwrap());
    let main = format!("[daemon]\ninclude = conf.d/*.conf\n{rest}");
    assert_eq!(test(&scratch, &main).0, 2, "the scheduler is missing");
    scratch.write("conf.d/one.conf.bak", "nonsense");
    scratch.write(
        "conf.d/one.conf",
        scheduler.replace("true", "echo included >>@/ran").replace("@/", &scratch.expand("@/")),
    );
    assert_eq!(test(&scratch, &main), (0, String::new()));
    let mut daemon = Daemon::start_ready(&scratch, &main, &[]);
    scratch.write("src/file", "");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["included"]);
    daemon.stop();
    scratch.write("conf.d/one.conf", format!("{scheduler}dealy = 1\n"));
    let (status, said) = test(&scratch, &main);
    assert_eq!(status, 2);
    assert!(said.contains("/conf.d/one.conf:4:1: error: ") && said.contains("did you mean delay?"), "{said}");
}

#[test]
fn root_trusts_only_what_no_other_user_can_write() {
    if !is_root("that root refuses a configuration that others can write to") {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.config(GOOD);
    let folder = scratch.path("");
    let check = |mode_of_file: u32, mode_of_folder: u32, expected: i32, reason: &str| {
        fs::set_permissions(&file, Permissions::from_mode(mode_of_file)).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(mode_of_folder)).unwrap();
        let output = rinotifyd().arg("-t").arg("-c").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(expected), "{mode_of_file:o} {mode_of_folder:o} {said}");
        assert!(said.contains(reason), "{said}");
    };
    check(0o644, 0o755, 0, "");
    check(0o646, 0o755, 2, "chmod go-w");
    check(0o644, 0o777, 2, "root cannot trust the directory");
    check(0o644, 0o1777, 2, "although that is sticky");
    check(0o600, 0o700, 0, "");
    std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    check(0o644, 0o755, 2, "chown root");
}

#[test]
fn an_unknown_user_is_an_error() {
    let scratch = Scratch::new();
    let text = GOOD.replace("cmd = true", "cmd = true\nuser = nobody-of-that-name");
    let (status, said) = test(&scratch, &text);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains(":4:8: error: "), "{said}");
}

#[test]
fn as_many_directories_are_counted_as_the_daemon_watches() {
    let scratch = Scratch::new();
    for dir in ["src/a/b/c", "src/left-out/below", "src/d", "other/1/in", "other/2/in"] {
        scratch.dir(dir);
    }
    scratch.write("src/d/file", "");
    std::os::unix::fs::symlink(scratch.path("other"), scratch.path("src/d/link")).unwrap();
    let above = scratch.path("").ancestors().count() - 1;
    let check = |watches: &str, below: usize| {
        let config = format!("[scheduler run]\ntype = shell\ncmd = true {{pathname}}\n{watches}");
        let config = config.replace("default\n", "default_sched = run\nauto_add = no\n");
        let output = rinotifyd().arg("-t").arg("-c").arg(scratch.config(&config)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let counted: usize = text.split(' ').nth(2).and_then(|word| word.parse().ok()).expect(&text);
        let mut daemon = Daemon::start_ready(&scratch, &config, &[]);
        let watched = field(&daemon.status(), "directories").parse().unwrap();
        assert_eq!((counted, counted), (watched, above + below), "{watches}: {text}");
        daemon.stop();
    };
    // The scratch directory itself is on the way.
    check("[watch w]\npath = @/src\ndefault\n", 2);
    check("[watch w]\npath = @/src\nrec = yes\ndefault\n", 8);
    check("[watch w]\npath = @/src\nrec = yes\nexclude_filter = ^@/src/left-out$\ndefault\n", 6);
    check("[watch v]\npath = @/src/a\nrec = yes\ndefault\n[watch w]\npath = @/src\nrec = yes\ndefault\n", 8);
    check("[watch w]\npath = @/other/*/in\ndefault\n", 6);
    check("[watch w]\npath = @/src/d/file\ndefault\n", 3);
    check("[watch w]\npath = @/missing/below\ndefault\n", 1);
    check("[watch w]\npath = @/src/d/link\nrec = yes\ndefault\n", 8);
}

#[test]
fn what_is_not_there_is_warned_of() {
    let scratch = Scratch::new();
    scratch.dir("src");
    assert_eq!(test(&scratch, GOOD), (0, String::new()));
    let warned = |config: &str, expected: &str| {
        let (status, said) = test(&scratch, config);
        assert_eq!(status, 0, "{said}");
        assert_eq!(said.matches("warning: ").count(), 1, "{said}");
        assert!(said.contains(&scratch.expand(expected)), "no {expected} in {said}");
    };
    warned(
        &GOOD.replace("@/src", "@/away"),
        "warning: \"@/away\" of watch src is not there yet: the watch waits for it",
    );
    warned(
        &GOOD.replace("@/src", "@/s*/x"),
        ":7:8: warning: nothing matches this pattern yet: the watch waits for it",
    );
    warned(
        &GOOD.replace("true", "no-such-program-is-here a"),
        "the program \"no-such-program-is-here\" is not in PATH",
    );
    warned(&GOOD.replace("true", "/no/such/program"), "the program \"/no/such/program\" is not there");
    warned(&GOOD.replace("true", "true\ncwd = @/away"), ":4:7: warning: this directory is not there");
    warned(&format!("{GOOD}rec = yes\n"), ":9:1: warning: rec without auto_add");
    warned(
        &format!("{GOOD}[daemon]\ninclude = none/*.conf\n"),
        "warning: no file matches, so this includes nothing",
    );
    let there =
        GOOD.replace("@/src", "@/s*").replace("true", "true\ncwd = @/src") + "rec = yes\nauto_add = yes\n";
    assert_eq!(test(&scratch, &there), (0, String::new()));
}
