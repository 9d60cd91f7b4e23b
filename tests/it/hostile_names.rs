//! Names are bytes: whatever a file is called, the command gets exactly that, and runs nothing of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::scratch::{Daemon, Scratch};

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
