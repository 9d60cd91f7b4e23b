//! `rinotifyctl`: asks a running daemon, and shows its answer as tables or as JSON.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cli::{self, Flag, Given, Role, UsageError, flag, usage};
use super::exit::{Exit, complain, print};
use super::show::{json, table};
use crate::config::diagnostics::quoted;
use crate::config::schema::DEFAULT_CONTROL;
use crate::config::suggest;
use crate::quote::Quoted;
use crate::rows::{Row, Value};
use crate::shell::control::{REQUEST_LEN_MAX, Request, UNKNOWN};

/// The name under which the program is this one.
pub const NAME: &str = "rinotifyctl";

/// Longer than the daemon ever takes between two pieces of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Every option, in the order of `--help`.
pub static FLAGS: &[Flag] = &[
    flag("s", "socket", "PATH", Role::File, "the daemon's control socket"),
    flag("", "json", "", Role::Any, "show the answer as JSON"),
    flag("v", "version", "", Role::Mode, "show the version and exit"),
    flag("h", "help", "", Role::Mode, "show this help and exit"),
];

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    /// The first word.
    pub word: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// What the daemon answers with, in the order in which it is shown.
    kinds: &'static [&'static str],
    /// For `--help`.
    pub help: &'static str,
}

/// Every command, in the order of `--help`.
pub static VERBS: &[Verb] = &[
    verb("status", "", &["daemon", "status", "watches", "errors"], "how the daemon is"),
    verb("tasks", "", &["tasks"], "list the tasks"),
    verb("watches", "", &["watches"], "list the watched paths"),
    verb("run", "ID", &[], "run a waiting task now"),
    verb("cancel", "ID", &[], "take a waiting task out, terminate a running one"),
    verb("loglevel", "[NAME] LEVEL", &[], "log more or less, until the next reload"),
    verb("reload", "", &[], "read the configuration again"),
];

const fn verb(
    word: &'static str,
    arguments: &'static str,
    kinds: &'static [&'static str],
    help: &'static str,
) -> Verb {
    Verb { word, arguments, kinds, help }
}

/// What the user wants.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Help,
    Version,
    Ask { socket: PathBuf, json: bool, kinds: &'static [&'static str], request: Vec<u8> },
}

/// Runs the program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    match parse(args) {
        Err(UsageError(message)) => {
            complain(&format!("{NAME}: {message}; see {NAME} --help"));
            Exit::Usage
        }
        Ok(Wanted::Help) => print(help().as_bytes()),
        Ok(Wanted::Version) => print(cli::version(NAME).as_bytes()),
        Ok(Wanted::Ask { socket, json, kinds, request }) => match ask(&socket, &request) {
            Ok(answer) => show(&answer, json, kinds),
            Err(error) => {
                complain(&format!("{NAME}: {}: {error}", Quoted(socket.as_os_str().as_bytes())));
                Exit::Failure
            }
        },
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Wanted, UsageError> {
    let given = Given::parse(FLAGS, args)?;
    let mode = given.mode()?;
    let words = given.arguments();
    match mode {
        "help" => return Ok(Wanted::Help),
        "version" => return Ok(Wanted::Version),
        _ => {}
    }
    let Some(first) = words.first() else { return usage("a command is missing") };
    let Some(verb) = VERBS.iter().find(|verb| verb.word.as_bytes() == first) else {
        let hint = suggest::hint(first, VERBS.iter().map(|verb| verb.word));
        return usage(format!("unknown command {}{hint}", quoted(first)));
    };
    let request = words.join(&b' ');
    if words.iter().any(|word| word.iter().any(|byte| b" \n".contains(byte)))
        || request.len() > REQUEST_LEN_MAX
    {
        return usage(format!("an argument of {} is none", verb.word));
    }
    if let Err(why) = Request::parse(&request) {
        let why =
            if why == UNKNOWN { format!("write: {} {}", verb.word, verb.arguments) } else { why.to_owned() };
        return usage(why.trim_end());
    }
    let socket = given.value("socket").unwrap_or_else(|| DEFAULT_CONTROL.into());
    let socket = PathBuf::from(OsString::from_vec(socket));
    Ok(Wanted::Ask { socket, json: given.has("json"), kinds: verb.kinds, request })
}

/// The daemon's whole answer.
fn ask(socket: &Path, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).map_err(|error| {
        io::Error::other(format!("no daemon answers there: {error}; -s names another socket"))
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A daemon that takes no more clients has said so already, and closed.
    let sent = stream.write_all(&[request, b"\n"].concat());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() { sent.and(read).map(|_| answer) } else { Ok(answer) }
}

/// Shows the rows, whose last says how it went.
fn show(answer: &[u8], as_json: bool, kinds: &[&str]) -> Exit {
    let lines = answer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let Some(mut rows) = lines.map(Row::parse).collect::<Option<Vec<_>>>() else {
        complain(&format!("{NAME}: the answer cannot be read; is the daemon of another version?"));
        return Exit::Failure;
    };
    match rows.pop() {
        Some(Row { kind: "ok", .. }) => {}
        Some(Row { kind: "refused", fields }) => {
            let why = fields.first().map(|(_, value)| value);
            let Some(Value::Text(why)) = why else { return Exit::Failure };
            complain(&format!("{NAME}: {}", String::from_utf8_lossy(why)));
            return Exit::Failure;
        }
        _ => {
            complain(&format!("{NAME}: the daemon broke off"));
            return Exit::Failure;
        }
    }
    if kinds.is_empty() {
        return Exit::Success;
    }
    // The engine tells tasks in the order of its table.
    rows.sort_by_key(|row| if let Some(Value::Number(id)) = row.get("id") { *id } else { 0 });
    print(&if as_json { json(&rows, kinds) } else { table(&rows, kinds) })
}

fn help() -> String {
    let mut text = format!("Usage: {NAME} [-s PATH] [--json] COMMAND\n\nAsks a running rinotifyd.\n\n");
    for verb in VERBS {
        let names = format!("  {} {}", verb.word, verb.arguments);
        text.push_str(&format!("{names:<28}{}\n", verb.help));
    }
    text.push('\n');
    FLAGS.iter().for_each(|flag| text.push_str(&flag.line()));
    text.push_str(&format!("\nThe control socket is {DEFAULT_CONTROL} unless -s names another.\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &str) -> Result<Wanted, UsageError> {
        parse(args.split_whitespace().map(OsString::from))
    }

    fn refuse(args: &str, expected: &str) {
        assert_eq!(read(args), Err(UsageError(expected.to_owned())), "{args}");
    }

    #[test]
    fn every_command_is_a_request_that_the_daemon_knows() {
        for verb in VERBS {
            let arguments = verb.arguments.replace("ID", "7").replace("[NAME] LEVEL", "own debug");
            let line = format!("{} {arguments}", verb.word);
            let request = line.trim_end().as_bytes().to_vec();
            let (socket, json, kinds) = (PathBuf::from("/s"), true, verb.kinds);
            let expected = Wanted::Ask { socket, json, kinds, request };
            assert_eq!(read(&format!("--json {line} -s /s")), Ok(expected), "{line}");
            assert!(help().contains(verb.help) && help().contains(verb.word));
        }
        let Ok(Wanted::Ask { socket, json: false, .. }) = read("status") else { panic!() };
        assert_eq!(socket, Path::new(DEFAULT_CONTROL));
        assert_eq!(read("-h"), Ok(Wanted::Help));
        assert_eq!(read("--version"), Ok(Wanted::Version));
    }

    #[test]
    fn every_refusal() {
        refuse("", "a command is missing");
        refuse("stauts", "unknown command \"stauts\", did you mean status?");
        refuse("status now", "write: status");
        refuse("run", "write: run ID");
        refuse("run x", "that is no task id");
        refuse("loglevel loud", "that is no log level");
        refuse("loglevel", "write: loglevel [NAME] LEVEL");
        refuse("-x status", "unknown option -x");
        refuse("--jsn status", "unknown option --jsn, did you mean --json?");
        refuse("-s", "-s needs a value");
        refuse("-h -v", "-v and -h exclude each other");
        for argument in ["a b", "a\nstatus", &"x".repeat(REQUEST_LEN_MAX)] {
            let args = ["loglevel", argument, "debug"].map(OsString::from);
            assert_eq!(parse(args), Err(UsageError("an argument of loglevel is none".into())));
        }
    }
}
