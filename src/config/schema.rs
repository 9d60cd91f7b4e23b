//! The one table of every section and every key: what it is called, what it takes, what it means.
//!
//! The loader, "did you mean" and the check of the manual derive from [`SECTIONS`]. The
//! loader refuses a key that is listed but not built yet with "not supported yet".

use super::groups::{COMPLETE, GROUPS};
use crate::event::{EVENT_KINDS, EventKind};
use crate::types::Millis;

/// A kind of section.
#[derive(Debug)]
pub struct Section {
    /// Which one.
    pub kind: Kind,
    /// First word between the brackets.
    pub word: &'static str,
    /// Whether a second one follows.
    pub naming: Naming,
    /// Whether the feature exists yet.
    pub built: bool,
    /// One line for the manual.
    pub help: &'static str,
    /// What it may hold.
    pub keys: &'static [Key],
}

/// The kinds of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[daemon]`
    Daemon,
    /// `[log]`, `[log NAME]`
    Log,
    /// `[syslog]`, `[syslog NAME]`
    Syslog,
    /// `[scheduler NAME]`
    Scheduler,
    /// `[rule NAME]`
    Rule,
    /// `[event_map NAME]`
    EventMap,
    /// `[watch NAME]`
    Watch,
    /// `[job NAME]`
    Job,
}

/// Whether a section has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `[daemon]`
    Never,
    /// `[log]`, `[log NAME]`
    Optional,
    /// `[watch NAME]`
    Always,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// What stands before the `=`.
    pub name: &'static str,
    /// What may stand behind it.
    pub value: Value,
    /// What holds without the key; empty: nothing, or what `help` says.
    pub default: &'static str,
    /// Whether it takes several items and may be repeated.
    pub list: bool,
    /// Whether there must be a value.
    pub required: bool,
    /// Whether the feature exists yet.
    pub built: bool,
    /// The values of the section's `type` or `action` it belongs to; empty: all.
    pub types: &'static [&'static str],
    /// One line for the manual.
    pub help: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// yes, no, true, false, on, off, 1, 0
    Flag,
    /// Seconds, or with a unit.
    Duration,
    /// A decimal number.
    Number {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// An octal number.
    Mode {
        /// The greatest.
        max: u32,
    },
    /// One of these words.
    Choice(&'static [Choice]),
    /// A log name or the like.
    Name,
    /// `SCHEDULER`, `cancel:SCHEDULER`, or `none`; several in a line.
    Triggers,
    /// Names of schedulers, several in a line.
    Schedulers,
    /// Names of rules, several in a line.
    Rules,
    /// Events and groups of events, several in a line.
    Events,
    /// The name of an event map.
    EventMap,
    /// An absolute path; in a watch with wildcards.
    Path,
    /// A file, relative to the main configuration file.
    File,
    /// A regular expression, anchored at the start of the path.
    Regex,
    /// A shell pattern for a name or a path below the watch path.
    Glob,
    /// What a matched path is replaced with.
    Replacement,
    /// A command with placeholders.
    Command,
    /// A user name or number.
    User,
    /// A group name or number.
    Group,
    /// `NAME=VALUE`
    Assignment,
    /// `/dev/log`, `udp:HOST:PORT`, `tcp:HOST:PORT`
    Address,
}

/// One word a key may have.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The word.
    pub word: &'static str,
    /// Whether the feature exists yet.
    pub built: bool,
}

/// The longest duration, ten years: no task waits longer, and sums of a few never overflow.
pub const DURATION_MAX_MS: Millis = 10 * 365 * 24 * 60 * 60 * 1000;

/// The control socket that `rinotifyctl` uses without `-s`.
pub const DEFAULT_CONTROL: &str = "/run/rinotifyd/control.sock";

/// The time after which a task is terminated, unless its scheduler says something else. Nothing that is at
/// work takes so long; what hangs, on a FIFO or a server that is away, does not hold its place for ever.
pub const DEFAULT_TIMEOUT: &str = "1d";

/// The most jobs, instances or threads: more processes than `pid_max` (4194304 at most, `proc(5)`)
/// never run.
const JOBS_MAX: i64 = 4_194_304;

/// Types of schedulers that start a program.
const PROGRAMS: &[&str] = &["shell", "exec", "worker"];

/// Types of schedulers that start a program for each task.
const CHILDREN: &[&str] = &["shell", "exec"];

const FILES: &[&str] = &["files"];

/// Actions of rules that have a destination.
const TO: &[&str] = &["move", "copy"];
const DELETE: &[&str] = &["delete"];
const WORKER: &[&str] = &["worker"];

const COUNT: Value = Value::Number { min: 0, max: JOBS_MAX };
/// A watch descriptor is a positive `int` (`inotify_add_watch(2)`).
const DIRS: Value = Value::Number { min: 0, max: i32::MAX as i64 };
/// More threads than this do not make a disk faster.
const THREADS: Value = Value::Number { min: 1, max: 64 };
/// The most programs of one worker scheduler. A number with a digit too many does not fill the process
/// table.
const INSTANCES: Value = Value::Number { min: 1, max: 1_000 };

const LEVELS: Value =
    Value::Choice(&[now("debug"), now("info"), now("warning"), now("error"), now("critical")]);

/// Every kind of section.
pub static SECTIONS: &[Section] = &[
    Section {
        kind: Kind::Daemon,
        word: "daemon",
        naming: Naming::Never,
        built: true,
        help: "the daemon itself",
        keys: &[
            key("shutdown_timeout", Value::Duration, "30", "how long to wait for tasks at shutdown"),
            key("max_jobs", COUNT, "0", "children at once over all schedulers; 0 = 2 x CPUs, at least 4"),
            key("logname", Value::Name, "daemon", "log name of the daemon"),
            key("include", Value::File, "", "further files, only names ending in .conf").list(),
            key("file_workers", THREADS, "2", "threads for file operations"),
            key("state_dir", Value::Path, "", "where waiting tasks survive a restart").later(),
            key("control", Value::Path, DEFAULT_CONTROL, "socket for rinotifyctl; empty: none"),
        ],
    },
    Section {
        kind: Kind::Log,
        word: "log",
        naming: Naming::Optional,
        built: true,
        help: "what is logged, by all or by one log name",
        keys: &[key("level", LEVELS, "info", "the least that is logged")],
    },
    Section {
        kind: Kind::Syslog,
        word: "syslog",
        naming: Naming::Optional,
        built: true,
        help: "log to syslog too, all or one log name",
        keys: &[
            key("address", Value::Address, "/dev/log", "where syslog listens"),
            key("level", LEVELS, "info", "the least that is sent"),
            key("facility", FACILITY, "daemon", "syslog facility"),
        ],
    },
    Section {
        kind: Kind::Scheduler,
        word: "scheduler",
        naming: Naming::Always,
        built: true,
        help: "when a task runs, and what it does",
        keys: SCHEDULER_KEYS,
    },
    Section {
        kind: Kind::Rule,
        word: "rule",
        naming: Naming::Always,
        built: true,
        help: "one operation of a files scheduler",
        keys: RULE_KEYS,
    },
    Section {
        kind: Kind::EventMap,
        word: "event_map",
        naming: Naming::Always,
        built: true,
        help: "which event sets off which schedulers",
        keys: &EVENT_MAP_KEYS,
    },
    Section {
        kind: Kind::Watch,
        word: "watch",
        naming: Naming::Always,
        built: true,
        help: "what is watched, and with which event map",
        keys: WATCH_KEYS,
    },
    Section {
        kind: Kind::Job,
        word: "job",
        naming: Naming::Always,
        built: true,
        help: "a watch, an event map and a scheduler in one",
        keys: &JOB_KEYS,
    },
];

const WATCH_KEYS: &[Key] = &[
    key("path", Value::Path, "", "a path, or a glob with * ? [...]").list().required(),
    key("event_map", Value::EventMap, "", "what its events set off"),
    key("default_sched", Value::Triggers, "", "instead of event_map: what every event sets off").list(),
    key("rec", Value::Flag, "no", "watch the directories below too"),
    key("auto_add", Value::Flag, "no", "watch directories that appear below later"),
    key("exclude_filter", Value::Regex, "", "paths that are left out").list(),
    key("exclude_glob", Value::Glob, "", "names, or paths below the watch path, that are left out").list(),
    key("include_glob", Value::Glob, "", "the only files that are meant").list(),
    key("exclude_filter_file", Value::File, "", "files with one exclude_filter a line").list(),
    key("max_dirs", DIRS, "", "directories at most; 0 = no limit"),
    key("logname", Value::Name, "", "log name; the section's name unless set"),
    key("rescan", Value::Duration, "0", "compare with the disk this often; 0 = never"),
    key("catch_up", CATCH_UP, "no", "events to make up at start"),
];

const SCHEDULER_KEYS: &[Key] = &[
    key("type", TYPES, "", "what a task does").required(),
    key("cmd", Value::Command, "", "the command, with placeholders").required().only(PROGRAMS),
    key("files", Value::Flag, "yes", "take events about files"),
    key("dirs", Value::Flag, "no", "take events about directories"),
    key("special", Value::Flag, "no", "FIFOs, devices and sockets are files too"),
    key("delay", Value::Duration, "0", "quiet time before a task runs"),
    key("max_delay", Value::Duration, "0", "the longest that re-scheduling puts a task off; 0 = for ever"),
    key("singlejob", Value::Flag, "no", "one task for all paths, with the newest event").only(PROGRAMS),
    key("max_jobs", COUNT, "0", "tasks at once; 0 = only the daemon's limit"),
    key("while_running", WHILE_RUNNING, "rerun", "what events for a path do while its task runs"),
    key("timeout", Value::Duration, DEFAULT_TIMEOUT, "a task that runs longer is terminated; 0 = never")
        .only(PROGRAMS),
    key("logname", Value::Name, "", "log name; the section's name unless set"),
    key("user", Value::User, "", "run as this user; needs root").only(PROGRAMS),
    key("group", Value::Group, "", "run with this primary group; needs root").only(PROGRAMS),
    key("cwd", Value::Path, "/", "working directory").only(PROGRAMS),
    key("umask", Value::Mode { max: 0o777 }, "", "file mode creation mask; inherited unless set")
        .only(PROGRAMS),
    key("env", Value::Assignment, "", "added to the environment, one a line").list().only(PROGRAMS),
    key("nice", Value::Number { min: -20, max: 19 }, "0", "added to the nice value").only(PROGRAMS),
    key("output", OUTPUT, "log", "where standard output and error go").only(PROGRAMS),
    key("settle", Value::Flag, "no", "wait on while a file is being written").later(),
    key("retry", COUNT, "0", "how often a failed task is tried again").later(),
    key("retry_delay", Value::Duration, "1", "wait before the first retry, doubling").later(),
    key("on_success", Value::Schedulers, "", "schedulers that get the event next").list().later(),
    key("on_failure", Value::Schedulers, "", "schedulers that get the event of a failed task").list().later(),
    key("batch", Value::Flag, "no", "one task for all waiting paths, on standard input")
        .later()
        .only(CHILDREN),
    key("rules", Value::Rules, "", "the first that matches is executed").list().required().only(FILES),
    key("instances", INSTANCES, "1", "how many programs are kept running").only(WORKER),
    key("format", FORMAT, "tab", "how a task is written to the worker").only(WORKER),
    key("ack", Value::Flag, "yes", "the worker answers each task").only(WORKER),
    key("start", START, "lazy", "start the worker with the first task, or with the daemon").only(WORKER),
];

const RULE_KEYS: &[Key] = &[
    key("action", ACTION, "", "what is done").required(),
    key("src_re", Value::Regex, "", "which paths").required(),
    key("dst_re", Value::Replacement, "", "where to").required().only(TO),
    key("auto_create", Value::Flag, "no", "make missing directories").only(TO),
    key("rec", Value::Flag, "no", "delete directories with their contents").only(DELETE),
    key("override", Value::Flag, "no", "replace what exists").only(TO),
    key("hardlinks", Value::Flag, "no", "set owner and mode also of files that have other names").only(TO),
    key("filemode", Value::Mode { max: 0o7777 }, "", "mode of files; as it was unless set").only(TO),
    key("dirmode", Value::Mode { max: 0o7777 }, "", "mode of directories; as it was unless set").only(TO),
    key("user", Value::User, "", "owner; as it was unless set; needs root").only(TO),
    key("group", Value::Group, "", "group; as it was unless set; needs root").only(TO),
];

/// `default_sched`, the groups, and the events.
const EVENT_MAP_KEYS: [Key; 1 + GROUPS.len() + EVENT_KINDS] = {
    let first = key("default_sched", Value::Triggers, "", "what every event sets off").list();
    let mut keys = [first; 1 + GROUPS.len() + EVENT_KINDS];
    let mut index = 0;
    while index < GROUPS.len() {
        let group = &GROUPS[index];
        index += 1;
        keys[index] = key(group.name, Value::Schedulers, "", group.help).list();
    }
    index = 0;
    while index < EVENT_KINDS {
        let kind = EventKind::ALL[index];
        index += 1;
        keys[GROUPS.len() + index] = key(kind.name(), Value::Triggers, "", kind.help()).list();
    }
    keys
};

/// The keys of a watch that a job has not: it is its own event map, and has the scheduler's log name.
const NOT_IN_A_JOB: [&str; 3] = ["event_map", "default_sched", "logname"];

/// `on`, and the keys of a watch and of a scheduler, with what most people mean as defaults.
const JOB_KEYS: [Key; 1 + WATCH_KEYS.len() - NOT_IN_A_JOB.len() + SCHEDULER_KEYS.len()] = {
    let first =
        key("on", Value::Events, COMPLETE.name, "the events that start it, and groups of events").list();
    let mut keys = [first; 1 + WATCH_KEYS.len() - NOT_IN_A_JOB.len() + SCHEDULER_KEYS.len()];
    let (mut index, mut count) = (0, 1);
    while index < WATCH_KEYS.len() + SCHEDULER_KEYS.len() {
        let mut key = if index < WATCH_KEYS.len() {
            WATCH_KEYS[index]
        } else {
            SCHEDULER_KEYS[index - WATCH_KEYS.len()]
        };
        if index >= WATCH_KEYS.len() || !is_one_of(key.name, &NOT_IN_A_JOB) {
            if is_one_of(key.name, &["rec", "auto_add"]) {
                key.default = "yes";
            } else if is_one_of(key.name, &["exclude_glob"]) {
                key.default = ".*";
            } else if is_one_of(key.name, &["type"]) {
                key.default = "shell";
                key.required = false;
            }
            keys[count] = key;
            count += 1;
        }
        index += 1;
    }
    keys
};

const fn is_one_of(name: &str, names: &[&str]) -> bool {
    let mut index = 0;
    while index < names.len() {
        if is_same(name.as_bytes(), names[index].as_bytes()) {
            return true;
        }
        index += 1;
    }
    false
}

/// The `==` of slices is not for constants.
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// The facilities of RFC 3164, section 4.1.1, that programs use, by the names of `syslog.conf(5)`.
const FACILITY: Value = Value::Choice(&[
    now("kern"),
    now("user"),
    now("mail"),
    now("daemon"),
    now("auth"),
    now("syslog"),
    now("lpr"),
    now("news"),
    now("uucp"),
    now("cron"),
    now("authpriv"),
    now("ftp"),
    now("local0"),
    now("local1"),
    now("local2"),
    now("local3"),
    now("local4"),
    now("local5"),
    now("local6"),
    now("local7"),
]);

const TYPES: Value = Value::Choice(&[now("shell"), now("exec"), now("files"), now("worker")]);
const WHILE_RUNNING: Value = Value::Choice(&[now("rerun"), now("skip")]);
const OUTPUT: Value = Value::Choice(&[now("log"), now("inherit"), now("null")]);
const FORMAT: Value = Value::Choice(&[now("tab"), now("json")]);
const START: Value = Value::Choice(&[now("lazy"), now("eager")]);
const ACTION: Value = Value::Choice(&[now("move"), now("copy"), now("delete")]);
const CATCH_UP: Value = Value::Choice(&[now("no"), now("all"), later("changed")]);

const fn now(word: &'static str) -> Choice {
    Choice { word, built: true }
}

const fn later(word: &'static str) -> Choice {
    Choice { word, built: false }
}

const fn key(name: &'static str, value: Value, default: &'static str, help: &'static str) -> Key {
    Key { name, value, default, list: false, required: false, built: true, types: &[], help }
}

impl Key {
    const fn list(mut self) -> Self {
        self.list = true;
        self
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn later(mut self) -> Self {
        self.built = false;
        self
    }

    const fn only(mut self, types: &'static [&'static str]) -> Self {
        self.types = types;
        self
    }
}

impl Section {
    /// The section with this word between its brackets.
    #[must_use]
    pub fn find(word: &[u8]) -> Option<&'static Self> {
        SECTIONS.iter().find(|section| section.word.as_bytes() == word)
    }

    /// The key with this name.
    #[must_use]
    pub fn key(&self, name: &[u8]) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name.as_bytes() == name)
    }
}

impl Value {
    /// What to write behind the `=`, for the manual and for error messages.
    #[must_use]
    pub fn syntax(&self) -> String {
        let fixed = match self {
            Self::Flag => "yes or no",
            Self::Duration => "DURATION",
            Self::Number { .. } => "NUMBER",
            Self::Mode { .. } => "OCTAL",
            Self::Choice(choices) => return words(choices).join(", "),
            Self::Name => "NAME",
            Self::Triggers => "SCHEDULER, cancel:SCHEDULER, none",
            Self::Schedulers => "SCHEDULER",
            Self::Rules => "RULE",
            Self::Events => "EVENT, complete, changed, gone",
            Self::EventMap => "EVENT_MAP",
            Self::Path => "PATH",
            Self::File => "FILE",
            Self::Regex => "REGEX",
            Self::Glob => "GLOB",
            Self::Replacement => "REPLACEMENT",
            Self::Command => "COMMAND",
            Self::User => "USER",
            Self::Group => "GROUP",
            Self::Assignment => "NAME=VALUE",
            Self::Address => "PATH, udp:HOST:PORT, tcp:HOST:PORT",
        };
        fixed.to_owned()
    }
}

fn words(choices: &[Choice]) -> Vec<&'static str> {
    choices.iter().map(|choice| choice.word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_stands_twice() {
        let mut words = HashSet::new();
        for section in SECTIONS {
            assert!(words.insert(section.word), "{}", section.word);
            let mut names = HashSet::new();
            for key in section.keys {
                assert!(names.insert(key.name), "{} {}", section.word, key.name);
                assert!(!key.help.is_empty() && !key.help.ends_with('.'), "{}", key.name);
                assert!(!key.value.syntax().is_empty());
            }
        }
    }

    #[test]
    fn an_event_map_takes_every_event() {
        let section = Section::find(b"event_map").unwrap();
        for kind in EventKind::ALL {
            assert!(section.key(kind.name().as_bytes()).is_some_and(|key| key.list && key.built));
        }
    }

    #[test]
    fn a_job_takes_the_keys_of_a_watch_and_of_a_scheduler() {
        let job = Section::find(b"job").unwrap();
        for word in ["watch", "scheduler"] {
            for key in Section::find(word.as_bytes()).unwrap().keys {
                let is_left_out = word == "watch" && ["event_map", "default_sched"].contains(&key.name);
                assert_eq!(job.key(key.name.as_bytes()).is_none(), is_left_out, "{}", key.name);
            }
        }
    }

    #[test]
    fn nothing_of_an_unbuilt_section_is_built() {
        for section in SECTIONS.iter().filter(|section| !section.built) {
            assert!(section.keys.iter().all(|key| !key.built), "{}", section.word);
        }
    }
}
