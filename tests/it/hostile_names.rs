//! Names are bytes: whatever a file is called, the command gets exactly that, and runs nothing of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::scratch::{Daemon, Scratch, make_deep, remove_deep, rinotifyd};

/// Names of files of an attacker. `x` is a file that must not appear.
const NAMES: [&[u8]; 26] = [
    b"plain",
    b" two  blanks ",
    b"it's",
    b"\"quoted\"",
    b"'; touch x; '",
    b"new\nline",
    b"ends in a newline\n",
    b"tab\tand\rreturn",
    b"-rf",
    b"--help",
    b"$(touch x)",
    b"`touch x`",
    b"; touch x",
    b"& touch x",
    b"| touch x",
    b"$RINOTIFYD_PATH ${HOME}",
    b"#comment",
    b"*?[a-z]~",
    b"back\\slash\\",
    b"\\",
    b"{src_pathname}",
    b"{pathname}{task_id}",
    b"%s%n",
    b"\xff\xfe not UTF-8 \xc3",
    b"\x1b[31mred\x07\x7f",
    &[0xe9; 255],
];

/// Eight fields end in NUL for every event: what the command line says, then the environment.
fn config(kind: &str, cmd: &str) -> String {
    format!(
        "[scheduler run]\ntype = {kind}\ncmd = {cmd}\nmax_jobs = 1\ncwd = @/cwd\nenv = OUT=@/out\n\
         [event_map map]\nIN_CLOSE_WRITE = run\nIN_MOVED_TO = run\n\
         [watch src]\npath = @/src\npath = @/dst\nevent_map = map\n"
    )
}

fn check(kind: &str, cmd: &str) {
    let scratch = Scratch::new();
    let [src, dst, cwd] = ["src", "dst", "cwd"].map(|name| scratch.dir(name));
    // sh reads it: a file that was just written may be busy when it is executed (ETXTBSY).
    scratch.write(
        "helper",
        "printf '%s\\0' \"$@\" \"$RINOTIFYD_EVENT\" \"$RINOTIFYD_PATH\" \"$RINOTIFYD_SRC_PATH\" >>\"$OUT\"\n",
    );
    let mut daemon = Daemon::start_ready(&scratch, &config(kind, cmd), &[]);
    let mut expected = Vec::new();
    for name in NAMES {
        let path = src.join(OsStr::from_bytes(name));
        fs::write(&path, "").unwrap();
        expected.extend(fields("IN_CLOSE_WRITE", &path, Path::new("")));
    }
    for (from, to) in NAMES.iter().zip(NAMES.iter().rev()) {
        let (from, to) = (src.join(OsStr::from_bytes(from)), dst.join(OsStr::from_bytes(to)));
        fs::rename(&from, &to).unwrap();
        expected.extend(fields("IN_MOVED_TO", &to, &from));
    }
    daemon.wait_lines(2 * NAMES.len(), "task finished");
    let log = daemon.stop();
    let (shown, wanted) = (show(&scratch.bytes("out")), show(&expected));
    for (shown, wanted) in shown.iter().zip(&wanted) {
        assert_eq!(shown, wanted);
    }
    assert_eq!(shown.len(), wanted.len());
    assert_eq!(fs::read_dir(cwd).unwrap().count(), 0, "a name was executed");
    assert!(!scratch.path("x").exists() && !src.join("x").exists());
    assert!(!log.contains(['\x1b', '\x07', '\x7f']), "{log:?}");
}

/// What the helper writes for one event.
fn fields(event: &str, path: &Path, src: &Path) -> Vec<u8> {
    let [path, src] = [path, src].map(|path| path.as_os_str().as_bytes());
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap();
    let (dirname, filename) = (&path[..slash], &path[slash + 1..]);
    [event.as_bytes(), path, src, dirname, filename, event.as_bytes(), path, src]
        .map(|field| [field, b"\0"].concat())
        .concat()
}

fn show(fields: &[u8]) -> Vec<String> {
    fields.split(|&byte| byte == 0).map(|field| field.escape_ascii().to_string()).collect()
}

const PLACEHOLDERS: &str = "{maskname} {pathname} {src_pathname} {dirname} {filename}";

#[test]
fn a_shell_command_gets_the_exact_bytes_and_runs_nothing_else() {
    check("shell", &format!("set -- {PLACEHOLDERS}; . @/helper"));
}

#[test]
fn quotes_around_a_placeholder_change_nothing() {
    let quoted = PLACEHOLDERS.replace('{', "\"{").replace('}', "}\"");
    check("shell", &format!("set -- {quoted}; . @/helper"));
}

#[test]
fn a_program_gets_the_exact_bytes_each_value_as_one_argument() {
    check("exec", &format!("/bin/sh @/helper {PLACEHOLDERS}"));
}

#[test]
fn a_program_gets_a_placeholder_inside_a_word_as_part_of_it() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let cmd =
        r#"/bin/sh -c 'printf "%s\\0" "$@" >>@/out' sh in={pathname}! 'a  b' "" {is_dir}{is_dir} {task_id}"#;
    let text = config("exec", cmd).replace("cwd = @/cwd\n", "");
    let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
    let file = scratch.write("src/two words", "");
    daemon.wait_log("task finished");
    daemon.stop();
    let expected = format!("in={}!\0a  b\0\x0000\x001\0", file.display());
    assert_eq!(show(&scratch.bytes("out")), show(expected.as_bytes()));
}

/// Both of these once ran the code in a name, as root where the daemon was root's.
#[test]
fn a_command_that_is_given_with_x_runs_nothing_of_a_name() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let watch = |command: &str| {
        let mut daemon = rinotifyd();
        daemon.current_dir(scratch.path("")).arg("-w").arg(scratch.path("src")).arg("-x").arg(command);
        daemon
    };
    let output = watch("echo $(( (1 + {filename}) * 2 ))").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("-x:1:15: error: {filename} stands in arithmetic"), "{text}");

    let mut daemon = Daemon::spawn(watch(&scratch.expand(
        "(wc -c {pathname})#{task_id} of {filename}\n# {filename} is next\ncat <<E >>@/ran\n{filename}\nE",
    )));
    daemon.ready();
    let names = NAMES.map(|name| [name, b"\ntouch x\n"].concat());
    let names: Vec<_> = names.iter().filter(|name| name.len() < 256).collect();
    for name in &names {
        fs::write(scratch.path("src").join(OsStr::from_bytes(name)), "").unwrap();
    }
    daemon.wait_lines(names.len(), "task finished");
    daemon.stop();
    let mut ran = scratch.bytes("ran");
    for name in names {
        let at = ran.windows(name.len()).position(|part| part == name.as_slice());
        let at = at.unwrap_or_else(|| panic!("{} is missing", name.escape_ascii()));
        ran.drain(at..at + name.len());
    }
    assert!(!scratch.path("x").exists() && !Path::new("/x").exists(), "a name was executed");
}

/// `PATH_MAX` is a limit of system calls, not of trees.
#[test]
fn what_does_not_fit_into_the_environment_fails_its_task() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = "[scheduler run]\ntype = shell\ncmd = printf %s {pathname} | wc -c >>@/ran\n\
                [event_map map]\nIN_CLOSE_WRITE = run\n\
                [watch src]\npath = @/src\nevent_map = map\nrec = yes\nauto_add = yes\n";
    let mut daemon = Daemon::start_ready(&scratch, text, &[]);
    make_deep(&scratch.path("src"), 'n', 16);
    let len = scratch.path("src").as_os_str().len() + 16 * 256 + "/file".len();
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), [len.to_string()]);
    let deep = scratch.dir("src/deep");
    make_deep(&deep, 'n', 520);
    let line = daemon.wait_line("task failed");
    let end = "execve: E2BIG (Argument list too long): /bin/sh; the path, or what else the command gets as \
               arguments and environment, is too long: the kernel takes 128 KiB for each\"";
    assert!(line.ends_with(end), "{}", &line[line.len().saturating_sub(300)..]);
    scratch.write("src/after", "");
    daemon.wait_ran(&scratch, "ran", 2);
    daemon.stop();
    remove_deep(&scratch.path("src"));
}

#[test]
fn the_relative_path_begins_at_the_watch_path() {
    let scratch = Scratch::new();
    for dir in ["src/a/b", "src/own", "other"] {
        scratch.dir(dir);
    }
    scratch.write("other/alone", "");
    let text = "[scheduler run]\ntype = shell\ncmd = echo {relpath} \"$RINOTIFYD_REL_PATH\" >>@/ran\n\
                dirs = yes\n[scheduler no]\ntype = exec\ncmd = /bin/true\n\
                [event_map map]\nIN_CLOSE_WRITE = run\nIN_ATTRIB = run\n[event_map none]\nIN_CREATE = no\n\
                [watch src]\npath = @/src\nevent_map = map\nrec = yes\nauto_add = yes\n\
                [watch own]\npath = @/src/own\nevent_map = none\n\
                [watch alone]\npath = @/other/alone\nevent_map = map\n";
    let mut daemon = Daemon::start_ready(&scratch, text, &[]);
    let mut expect = |count: usize, path: &str| {
        let ran = daemon.wait_ran(&scratch, "ran", count);
        assert_eq!(ran.last().unwrap(), &format!("{path} {path}"));
    };
    scratch.write("src/x", "");
    expect(1, "x");
    scratch.write("src/a/b/y", "");
    expect(2, "a/b/y");
    scratch.write("src/own/z", "");
    expect(3, "own/z");
    scratch.write("other/alone", "");
    expect(4, "alone");
    fs::set_permissions(scratch.path("src"), fs::Permissions::from_mode(0o700)).unwrap();
    expect(5, ".");
    daemon.stop();
}
