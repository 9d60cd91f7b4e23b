//! What is done with the bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};
use rinotifyd::config::inline::from_command_line;
use rinotifyd::config::load::load;
use rinotifyd::engine::{Effect, Input};
use rinotifyd::face::cli::{self, Command, Setup};
use rinotifyd::face::explain::explain;
use rinotifyd::pattern::PathPattern;
use rinotifyd::replacement::Replacement;
use rinotifyd::rows::Row;
use rinotifyd::shell::control::Request;

use crate::machine::{Machine, OneFile, config};

const WATCHED: &str = "[scheduler run]\ntype = exec\ncmd = true {pathname}\ndirs = yes\ndelay = 1\n\
                       [event_map map]\ndefault_sched = run\nIN_DELETE = cancel:run\n\
                       [watch w]\npath = /w\nevent_map = map\nrec = yes\nauto_add = yes\n\
                       exclude_filter = .*/a/b/a$\n";

const WORKER: &str = "[scheduler run]\ntype = worker\ncmd = true\nmax_jobs = 8\nstart = eager\n\
                      [event_map map]\nIN_CLOSE_WRITE = run\n[watch w]\npath = /w\nevent_map = map\n";

/// Reads of the inotify descriptor: a byte says how long the next one is, and how much time passes before it.
pub fn events(data: &[u8]) {
    let mut machine = Machine::start(config(WATCHED));
    let mut rest = data;
    while let Some((&first, after)) = rest.split_first() {
        let (bytes, after) = after.split_at(usize::from(first & 0x7f).min(after.len()));
        if first & 0x80 != 0 {
            machine.pass(1_000);
        }
        machine.read(bytes);
        rest = after;
    }
    machine.pass(100_000);
    machine.work();
}

/// The text of a configuration file, and what an event would do under it.
pub fn configuration(data: &[u8]) {
    match load(Path::new("/etc/fuzz.conf"), &OneFile(data)) {
        Ok(loaded) => {
            let _ = loaded.warnings.to_string();
            let kind = rinotifyd::event::EventKind::CloseWrite;
            let _ = explain(loaded.config, kind, b"/nowhere/w/file");
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// Arguments of the command line, each ended by NUL; `-w` and `-e` go on to the engine.
pub fn arguments(data: &[u8]) {
    let args = data.split(|&byte| byte == 0).map(|arg| OsString::from_vec(arg.to_vec()));
    match cli::parse(args) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(Command::Explain { asked, .. }) => {
            // Not what exists on this machine.
            let path = [b"/nowhere/", asked.path.as_slice()].concat();
            if !path.split(|&byte| byte == b'/').any(|name| [&b"."[..], b".."].contains(&name)) {
                let _ = explain(config(&WATCHED.replace("/w\n", "/nowhere\n")), asked.kind, &path);
            }
        }
        Ok(Command::Run(run)) => {
            if let Setup::Inline(inline) = run.setup
                && let Err(errors) = from_command_line(&inline)
            {
                assert!(!errors.to_string().is_empty());
            }
        }
        Ok(_) => {}
    }
}

/// A watch path with wildcards, and after a newline names that its components may match.
pub fn globs(data: &[u8]) {
    let mut parts = data.split(|&byte| byte == b'\n');
    let Ok(pattern) = PathPattern::parse(parts.next().unwrap_or_default()) else { return };
    let again = PathPattern::parse(&pattern.text).expect("a normal form is a pattern");
    for name in parts {
        for (component, same) in pattern.components.iter().zip(&again.components) {
            assert_eq!(component.matches(name), same.matches(name));
        }
    }
}

/// A `dst_re`, and after a newline a path.
pub fn replacement(data: &[u8]) {
    static REGEXES: OnceLock<Vec<Regex>> = OnceLock::new();
    let build = |text: &&str| RegexBuilder::new(text).unicode(false).dot_matches_new_line(true).build();
    let texts = ["", "^/a/(?P<rest>.*)$", "(.)(.)?", "([a-z]*)/", "(((((((((.)))))))))"];
    let regexes = REGEXES.get_or_init(|| texts.iter().map(|text| build(text).expect("valid")).collect());
    let Some((&first, rest)) = data.split_first() else { return };
    let regex = &regexes[usize::from(first) % regexes.len()];
    let (text, path) = rest.split_at(rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()));
    match Replacement::parse(text, regex) {
        Ok(replacement) => {
            let _ = (replacement.fixed(), replacement.expand(regex, path));
        }
        Err(bad) => assert!(bad.range.end <= text.len() && bad.range.start <= bad.range.end, "{bad:?}"),
    }
}

/// Lines of a worker that has three tasks.
pub fn answers(data: &[u8]) {
    let mut machine = Machine::start(config(WORKER));
    let worker = machine.others.iter().find_map(|effect| match effect {
        Effect::StartWorker(start) => Some(start.id),
        _ => None,
    });
    let worker = worker.expect("it is started with the daemon");
    // `/` is watch 1, `/w` watch 2: IN_CLOSE_WRITE of three files.
    for name in [b"1", b"2", b"3"] {
        let words = [2_u32, 8, 0, 16].map(u32::to_ne_bytes).concat();
        machine.read(&[words.as_slice(), name, &[0; 15]].concat());
    }
    machine.pass(1);
    let lines = machine.others.iter().filter(|effect| matches!(effect, Effect::Hand { .. })).count();
    assert_eq!(lines, 3, "the tasks are handed over");
    machine.step(Input::Written { worker, lines });
    for line in data.split(|&byte| byte == b'\n') {
        machine.step(Input::Line { worker, line, cut: line.len() as u64 / 64, queued: 0 });
    }
    machine.pass(10_000);
}

/// Lines of a client, and the rows that answer them; then the bytes as an answer.
pub fn control(data: &[u8]) {
    let mut machine = Machine::start(config(WATCHED));
    for line in data.split(|&byte| byte == b'\n') {
        let _ = Row::parse(line);
        if let Ok(Request::Ask(question)) = Request::parse(line) {
            machine.step(Input::Ask { client: 1, question });
        }
    }
    for effect in std::mem::take(&mut machine.others) {
        if let Effect::Reply(answer) = effect {
            let bytes = answer.rows.into_bytes();
            let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| assert!(Row::parse(line).is_some(), "{}", line.escape_ascii()));
        }
    }
}
