//! Commands of sh with placeholders, run by the shells of this machine: every value arrives as it is, and
//! none becomes code.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use rinotifyd::event::EventKind;
use rinotifyd::script::Script;
use rinotifyd::template::{Values, split_path};

/// The shells that can be `/bin/sh`, as far as this machine has them; dash and bash it must have.
fn shells() -> Vec<Vec<&'static str>> {
    let all =
        [vec!["/bin/dash"], vec!["/bin/bash"], vec!["/bin/bash", "--posix"], vec!["/bin/busybox", "sh"]];
    all.into_iter().filter(|shell| shell[0] != "/bin/busybox" || Path::new(shell[0]).exists()).collect()
}

/// Runs a command for a path, and gives what it writes.
fn run(shell: &[&str], script: &Script, path: &[u8], src_path: &[u8], dir: &Path) -> Vec<u8> {
    let rel_path = split_path(path).1;
    let kind = EventKind::MovedTo;
    let values = Values { kind, path, src_path, rel_path, task_id: 7, is_dir: false, attempt: 1 };
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).current_dir(dir).stdin(Stdio::null());
    for word in &script.argv()[1..] {
        command.arg(OsStr::from_bytes(word.as_bytes()));
    }
    surround(&mut command, script, &values);
    command.output().unwrap().stdout
}

fn surround(command: &mut Command, script: &Script, values: &Values<'_>) {
    for variable in values.environment("s", script.values()) {
        let variable = variable.into_bytes();
        let equals = variable.iter().position(|&byte| byte == b'=').unwrap();
        command.env(OsStr::from_bytes(&variable[..equals]), OsStr::from_bytes(&variable[equals + 1..]));
    }
}

/// Every byte that a name can hold, and what a shell might take for something else.
fn names() -> Vec<Vec<u8>> {
    let every: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let others: [&[u8]; 8] = [
        b"plain",
        b" two  blanks ",
        b"*",
        b"it's \"quoted\" \\ `touch ran` $(touch ran) ${HOME}",
        b"ends in newlines\n\n",
        b"\nE\n}\n)\ntouch ran\n",
        b"{src_pathname}",
        b"\x81\x82\x83\x84\x85\x86\x87\x88\x01\x7f",
    ];
    others.iter().map(|name| name.to_vec()).chain([every, vec![b'x'; 4096]]).collect()
}

/// A command must write exactly what `expected` makes of the file's name, in every shell.
fn check(command: &str, expected: fn(&[u8]) -> Vec<u8>) {
    let (script, remarks) = Script::parse(command.as_bytes());
    assert_eq!(remarks, [], "{command}");
    let dir = tempfile::tempdir().unwrap();
    for shell in shells() {
        for name in names() {
            let path = [b"/d/".as_slice(), &name].concat();
            let written = run(&shell, &script, &path, b"/s", dir.path());
            let (written, expected) = (written.escape_ascii(), expected(&name));
            assert_eq!(written.to_string(), expected.escape_ascii().to_string(), "{shell:?} {command}");
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{command} made a file");
}

fn itself(name: &[u8]) -> Vec<u8> {
    [b"[", name, b"]"].concat()
}

#[test]
fn a_value_arrives_whatever_quotes_are_around_it() {
    check("printf '[%s]' {filename}", itself);
    check("printf '[%s]' \"{filename}\"", itself);
    check("printf %s \"[{filename}]\"", itself);
    check("x={filename}; printf '[%s]' \"$x\"", itself);
    check("printf '[%s]' ${x:-{filename}}", itself);
    check("printf '[%s]' \"${x:-{filename}}\"", itself);
    check("printf '[%s]' \"${x:-\"{filename}\"}\"", itself);
    check("x=a; printf '[%s]' \"${x:+{filename}}\"", itself);
    check("f() { printf '[%s]' \"$1\"; }; f {filename}", itself);
    check("for x in {filename}; do printf '[%s]' \"$x\"; done # it's {filename}", itself);
    check("(printf '[%s]' {filename})#{task_id} of {filename}", itself);
    check("# it's {filename} \"\nprintf '[%s]' {filename}", itself);
    check("printf '[%s]' \"$(printf %s {filename}; echo x)\" | sed '$s/x]$/]/'", itself);
}

#[test]
fn a_value_is_a_name_in_a_pattern_too() {
    check("x={filename}y; printf '[%s]' \"${x#{filename}}\"", |_| b"[y]".to_vec());
    check("x=x{filename}; printf '[%s]' \"${x%{filename}}\"", |_| b"[x]".to_vec());
    check("case {filename} in {filename}) printf 1;; *) printf 2;; esac", |_| b"1".to_vec());
    check("case {filename} in \"{filename}\") printf 1;; *) printf 2;; esac", |_| b"1".to_vec());
    check("case \"a{filename}\" in {filename}) printf 1;; *) printf 2;; esac", |_| b"2".to_vec());
}

/// What a substitution leaves of an output.
fn trimmed(name: &[u8]) -> Vec<u8> {
    let end = name.iter().rposition(|&byte| byte != b'\n').map_or(0, |last| last + 1);
    itself(&name[..end])
}

#[test]
fn a_value_arrives_in_substitutions() {
    check("printf '[%s]' \"$(printf %s {filename})\"", trimmed);
    check("printf '[%s]' \"$(printf %s \"{filename}\")\"", trimmed);
    check("printf '[%s]' \"`printf %s {filename}`\"", trimmed);
    check("printf '[%s]' \"`printf %s \\\"{filename}\\\"`\"", trimmed);
    check("x=`printf %s \"{filename}\"`; printf '[%s]' \"$x\"", trimmed);
    check("x=`echo \\`printf %s 1 {filename} >/dev/null\\``; printf '[%s]' \"{filename}\"", itself);
    check("printf '[%s]' \"$(case x in x) printf %s {filename};; esac)\"", trimmed);
    check("printf '[%s]' \"$(case x in (x) printf %s {filename};; esac)\"", trimmed);
}

#[test]
fn a_value_arrives_in_here_documents() {
    let line = |name: &[u8]| [name, b"\n"].concat();
    check("cat <<E\n{filename}\nE", line);
    check("cat <<-E\n{filename}\n\tE\n", line);
    check("cat <<E\n${x:-{filename}}\nE\n: \"{filename}\"", line);
    check("cat <<E | cat\n\"{filename}'\nE\n: \"{filename}\"", |name| [b"\"", name, b"'\n"].concat());
    check("cat <<E\n$(printf %s {filename})\nE\n", |name| {
        let mut out = trimmed(name);
        out.remove(0);
        out.pop();
        out.push(b'\n');
        out
    });
    check("printf '[%s]' \"$(cat <<E\n{filename}\nE\n)\"", trimmed);
}

#[test]
fn a_quoted_value_can_be_read_once_more() {
    check("eval_it() { sh -c \"$1\"; }; eval_it \"printf '[%s]' {filename@Q}\"", itself);
}

#[test]
fn every_placeholder_has_its_value() {
    let command = "printf '%s|' {maskname} {pathname} {src_pathname} {dirname} {filename} {relpath} \
                   {task_id} {is_dir} {attempt} {dirname@Q} $(({task_id}+1))";
    check(command, |name| {
        let path = [b"/d/", name].concat();
        let fields: [&[u8]; 11] =
            [b"IN_MOVED_TO", &path, b"/s", b"/d", name, name, b"7", b"0", b"1", b"'/d'", b"8"];
        fields.iter().flat_map(|field| [field, b"|".as_slice()].concat()).collect()
    });
}

/// Whether a command that is accepted runs code of a name. `ran` is a file that only names want to make.
fn runs_code(command: &str, path: &[u8]) -> bool {
    let (script, remarks) = Script::parse(command.as_bytes());
    if remarks.iter().any(|remark| remark.is_error) {
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    shells().iter().any(|shell| {
        let path = [dir.path().as_os_str().as_bytes(), b"/", path].concat();
        run(shell, &script, &path, &path, dir.path());
        dir.path().join("ran").exists()
    })
}

const EVIL: [&[u8]; 9] = [
    b"$(touch ran)",
    b"`touch ran`",
    b"a[$(touch ran)]",
    b"\ntouch ran\n",
    b"'\ntouch ran\n'",
    b"\"\ntouch ran\n\"",
    b"x;touch ran;",
    b"\nE\ntouch ran\n",
    b"{src_pathname}$(touch ran)",
];

/// Each was run by a reader of commands that put quoted values into the text.
#[test]
fn what_once_made_code_of_names_does_not() {
    for command in [
        "(wc -c {pathname})#{task_id} of {filename}",
        "echo $(( (1 + {filename}) * 2 ))",
        "echo a\n# {pathname} is it\necho b",
        "((a); (echo {filename}))",
        "[[ {filename} -eq 1 ]]",
        "cat <<E\n{filename}\nE",
        "echo \"${x:-'{filename}'}\"",
        "echo $'it\\'s' {filename} 'b'",
    ] {
        for name in EVIL {
            assert!(!runs_code(command, name), "{command} {}", name.escape_ascii());
        }
    }
}

/// The test can tell.
#[test]
fn code_that_runs_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (script, _) = Script::parse(b"eval \"echo {filename}\"");
    run(&["/bin/dash"], &script, b"/d/$(touch ran)", b"", dir.path());
    assert!(dir.path().join("ran").exists());
}

/// Pieces of commands: whatever opens, closes or changes quotes, and little that does something.
const PIECES: [&str; 47] = [
    "{filename}",
    "{pathname}",
    "{src_pathname}",
    "{relpath}",
    "{filename@Q}",
    " ",
    " ",
    "\n",
    ";",
    "|",
    "&&",
    "echo ",
    "echo ",
    "printf %s ",
    "cat ",
    "x=",
    "$x",
    "'",
    "\"",
    "\\",
    "`",
    "$(",
    ")",
    "(",
    "((",
    "))",
    "$((",
    "${x:-",
    "${x#",
    "${",
    "}",
    "{",
    "#",
    " #",
    " <<E\n",
    "\nE\n",
    " <<'E'\n",
    " <<-E\n",
    "$'",
    "$\"",
    "case x in x) ",
    ";; esac",
    "[[ x = ",
    " ]]",
    "<",
    ">",
    "$",
];

fn command(wanted: fn(&str) -> bool) -> impl Strategy<Value = String> {
    let pieces: Vec<_> = PIECES.into_iter().filter(|piece| wanted(piece)).collect();
    prop::collection::vec(prop::sample::select(pieces), 1..16).prop_map(|pieces| pieces.concat())
}

/// Without expressions, whether of numbers or of names of variables.
fn evaluates_nothing(piece: &str) -> bool {
    let evaluates = ["(", "[[", "${"].iter().any(|part| piece.contains(part));
    !evaluates || ["${x:-", "$("].contains(&piece)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(&EVIL[..]).prop_map(<[u8]>::to_vec);
    let byte = prop::sample::select(b"'\"`$(){}\\\n; #E".as_slice()).prop_map(|byte| vec![byte]);
    prop::collection::vec(prop_oneof![piece, byte], 1..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_name_is_ever_code(command in command(|_| true), name in name()) {
        prop_assert!(!runs_code(&command, &name));
    }

    /// Even a reader that is wrong about every place makes no code of names.
    #[test]
    fn what_is_refused_would_not_be_code_either(command in command(evaluates_nothing), name in name()) {
        let dir = tempfile::tempdir().unwrap();
        let (script, _) = Script::parse(command.as_bytes());
        let path = [dir.path().as_os_str().as_bytes(), b"/", &name].concat();
        for shell in shells() {
            run(&shell, &script, &path, &path, dir.path());
        }
        prop_assert!(!dir.path().join("ran").exists());
    }
}

#[test]
fn the_shown_command_does_the_same() {
    for command in ["printf '[%s]' {filename}", "printf %s \"[{filename}]\"", "cat <<E\n[{filename}]\nE\n"] {
        let (script, _) = Script::parse(command.as_bytes());
        for name in names() {
            let path = [b"/d/".as_slice(), &name].concat();
            let kind = EventKind::Create;
            let rel_path = name.as_slice();
            let values =
                Values { kind, path: &path, src_path: b"", rel_path, task_id: 7, is_dir: false, attempt: 1 };
            let shown = script.shown(&values);
            let code = OsString::from_vec(shown.strip_prefix(b"/bin/sh -c ").unwrap().to_vec());
            let mut shell = Command::new("/bin/sh");
            surround(&mut shell, &script, &values);
            let output = shell.arg("-c").arg(code).output().unwrap().stdout;
            let output = output.strip_suffix(b"\n").filter(|_| command.starts_with("cat")).unwrap_or(&output);
            assert_eq!(
                output.escape_ascii().to_string(),
                itself(&name).escape_ascii().to_string(),
                "{command}"
            );
        }
    }
}
