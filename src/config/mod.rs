//! The configuration: from text to a typed [`Config`].
//!
//! Read in this order: `ini` (text to sections with spans), `schema` (the one table of every
//! section and key), `diagnostics` (what is wrong, where) with `suggest` (the likely correction),
//! `fields` (sections held against the schema), `value`, `expression` and `command` (single
//! values), `filter` and `globs` (what a watch leaves out), `unmatchable` (filters without effect), `names` (what sections refer to), `trust` and
//! `reader` (files), `groups` and `events` (of inotify), `rules` and `build` (sections to [`Config`]), `usage` (warnings about the whole),
//! `load` (calls all of them in order), `inline` (a configuration from options, without a file).
//!
//! Nothing here touches the filesystem or the user database: `reader` asks a [`host::Host`] for them.
//! The invariant: a `Config` that was returned is complete and valid; every index in it points to
//! something.

mod build;
mod command;
pub mod diagnostics;
pub mod events;
mod expression;
mod fields;
pub mod filter;
pub mod globs;
pub mod groups;
pub mod host;
pub mod ini;
pub mod inline;
pub mod load;
mod names;
mod reader;
mod rules;
pub mod schema;
pub mod suggest;
pub mod trust;
mod unmatchable;
mod usage;
mod value;

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

use regex::bytes::Regex;

use self::filter::Filters;
use self::globs::Globs;
use crate::event::{EVENT_KINDS, EventKind};
use crate::pattern::PathPattern;
use crate::quote::Quoted;
use crate::record::{Level, LogLevels, LogName};
use crate::replacement::Replacement;
use crate::script::Script;
use crate::template::Template;
use crate::types::{Identity, Millis};

/// The configuration of a daemon.
#[derive(Debug)]
pub struct Config {
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[log]` and `[log NAME]`.
    pub log: LogLevels,
    /// `[syslog]` and `[syslog NAME]`.
    pub syslog: Vec<Syslog>,
    /// `[scheduler NAME]`, in the order of the files. [`Trigger`] holds indices into it.
    pub schedulers: Vec<Scheduler>,
    /// `[event_map NAME]`, and one for every watch with `default_sched`.
    pub event_maps: Vec<EventMap>,
    /// `[watch NAME]`.
    pub watches: Vec<Watch>,
}

impl Config {
    /// Whether syslog gets a record of this level and name.
    #[must_use]
    pub fn to_syslog(&self, level: Level, name: &str) -> bool {
        Syslog::of(&self.syslog, name).is_some_and(|(_, syslog)| level >= syslog.level)
    }
}

/// `[syslog]` or `[syslog NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// The log name it is for; without one, all that have no section of their own.
    pub name: Option<LogName>,
    /// Where syslog listens.
    pub address: Address,
    /// The least that is sent.
    pub level: Level,
    /// The name of the facility (RFC 3164, section 4.1.1).
    pub facility: &'static str,
}

impl Syslog {
    /// The section that is about a log name, and its place.
    #[must_use]
    pub fn of<'a>(sections: &'a [Self], name: &str) -> Option<(usize, &'a Self)> {
        let is = |wanted: Option<&str>| {
            sections.iter().enumerate().find(|(_, section)| section.name.as_deref() == wanted)
        };
        is(Some(name)).or_else(|| is(None))
    }
}

/// Where syslog listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    Path(Vec<u8>),
    /// Datagrams to this host and port.
    Udp(String, u16),
    /// A connection to this host and port.
    Tcp(String, u16),
}

impl fmt::Display for Address {
    /// As in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = |host: &str| if host.contains(':') { ["[", "]"] } else { ["", ""] };
        match self {
            Self::Path(path) => Quoted(path).fmt(f),
            Self::Udp(host, port) => {
                let [open, close] = bracket(host);
                write!(f, "udp:{open}{host}{close}:{port}")
            }
            Self::Tcp(host, port) => {
                let [open, close] = bracket(host);
                write!(f, "tcp:{open}{host}{close}:{port}")
            }
        }
    }
}

/// `[daemon]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// How long tasks may take to finish at shutdown.
    pub shutdown_timeout_ms: Millis,
    /// Children at once over all schedulers; 0 means "decide by the number of CPUs".
    pub max_jobs: u32,
    /// Threads for file operations.
    pub file_workers: u32,
    /// Log name of the daemon itself.
    pub logname: LogName,
    /// Path of the socket for `rinotifyctl`; none without it.
    pub control: Option<Vec<u8>>,
}

/// `[scheduler NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    /// Section name.
    pub name: String,
    /// Log name; the section name unless set.
    pub logname: LogName,
    /// What a task of this scheduler does.
    pub action: Action,
    /// Take events about anything that is not a directory.
    pub files: bool,
    /// Take events about directories.
    pub dirs: bool,
    /// FIFOs, devices and sockets are files too.
    pub special: bool,
    /// Quiet time before a task runs.
    pub delay_ms: Millis,
    /// The longest that re-scheduling can put a task off; 0 = for ever.
    pub max_delay_ms: Millis,
    /// One task for the whole scheduler instead of one for each path.
    pub singlejob: bool,
    /// Tasks running at once; 0 = only the daemon's limit.
    pub max_jobs: u32,
    /// What becomes of events for a path whose task is running.
    pub while_running: WhileRunning,
    /// A task that runs longer is terminated; 0 = never.
    pub timeout_ms: Millis,
}

/// `while_running`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileRunning {
    /// Run again once when the running task has ended.
    Rerun,
    /// Log and ignore.
    Skip,
}

/// What a task does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `/bin/sh -c`.
    Shell {
        /// The command line.
        cmd: Script,
        /// How the child is set up.
        run: Run,
    },
    /// A program and its arguments, no shell.
    Exec {
        /// At least one word; a placeholder never splits one.
        words: Vec<Template>,
        /// How the child is set up.
        run: Run,
    },
    /// The file operation of the first rule that matches the path.
    Files {
        /// In the order in which they are asked.
        rules: Vec<Arc<Rule>>,
    },
    /// A line to a program that is kept running.
    Worker(Worker),
}

impl Action {
    /// How the child is set up, if there is one.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Shell { run, .. } | Self::Exec { run, .. } | Self::Worker(Worker { run, .. }) => Some(run),
            Self::Files { .. } => None,
        }
    }

    /// The program that is kept running, if there is one.
    #[must_use]
    pub fn worker(&self) -> Option<&Worker> {
        match self {
            Self::Worker(worker) => Some(worker),
            _ => None,
        }
    }
}

/// `[rule NAME]`: one operation of a files scheduler.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Section name.
    pub name: String,
    /// What is done.
    pub action: FileAction,
    /// Which paths, anchored at the start.
    pub src: Regex,
    /// The same, not anchored: every match in the path is replaced.
    pub src_anywhere: Regex,
    /// Where to; nowhere when something is deleted.
    pub dst: Option<Replacement>,
    /// Make missing directories of the destination.
    pub auto_create: bool,
    /// Delete directories with their contents.
    pub rec: bool,
    /// Replace what has the destination's name (`override`).
    pub replace: bool,
    /// Set owner and mode also of files that have further names.
    pub hardlinks: bool,
    /// Mode of all but directories.
    pub filemode: Option<u32>,
    /// Mode of directories.
    pub dirmode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        let plain = |rule: &Self| {
            let flags = (rule.auto_create, rule.rec, rule.replace, rule.hardlinks);
            (rule.action, flags, rule.filemode, rule.dirmode, rule.uid, rule.gid)
        };
        let texts = (self.name == other.name, self.src.as_str() == other.src.as_str(), self.dst == other.dst);
        texts == (true, true, true) && plain(self) == plain(other)
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// The source has the destination's name afterwards.
    Move,
    /// There is the same at the destination afterwards.
    Copy,
    /// There is no source afterwards.
    Delete,
}

impl FileAction {
    /// The word in the configuration and in the log.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Copy => "copy",
            Self::Delete => "delete",
        }
    }
}

/// A program that is kept running and gets tasks as lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The program and its arguments; at least one word.
    pub words: Vec<CString>,
    /// How it is set up.
    pub run: Run,
    /// How many of it run at once.
    pub instances: u32,
    /// How a task is written.
    pub format: Format,
    /// It answers each task; otherwise a task is done when its line is written.
    pub ack: bool,
    /// It is started with the daemon, not with the first task.
    pub eager: bool,
}

/// `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Fields between tabs.
    Tab,
    /// One JSON object a line.
    Json,
}

/// How a child is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Run as another user; needs root.
    pub identity: Option<Identity>,
    /// Working directory; `/` unless set.
    pub cwd: Option<Vec<u8>>,
    /// File mode creation mask; inherited unless set.
    pub umask: Option<u32>,
    /// Added to the daemon's environment, later entries win.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Added to the daemon's nice value.
    pub nice: i32,
    /// Where standard output and standard error go.
    pub output: Output,
}

/// `output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Line by line to the log.
    #[default]
    Log,
    /// The daemon's own.
    Inherit,
    /// `/dev/null`.
    Null,
}

/// `[event_map NAME]`: what each event sets off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventMap {
    /// Section name.
    pub name: String,
    /// Indexed by `EventKind as usize`; empty where the event triggers nothing.
    pub triggers: [Vec<Trigger>; EVENT_KINDS],
}

impl EventMap {
    /// What this event sets off.
    #[must_use]
    pub fn triggers(&self, kind: EventKind) -> &[Trigger] {
        &self.triggers[kind as usize]
    }

    /// The mask bits of all events that trigger a scheduler.
    #[must_use]
    pub fn mask(&self) -> u32 {
        let wanted = EventKind::ALL.into_iter().filter(|kind| !self.triggers(*kind).is_empty());
        wanted.fold(0, |mask, kind| mask | kind.bit())
    }
}

/// One item of an event map's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Schedule or re-schedule a task.
    Schedule(usize),
    /// Remove a waiting task.
    Cancel(usize),
}

impl Trigger {
    /// The scheduler that it is about.
    #[must_use]
    pub const fn scheduler(self) -> usize {
        match self {
            Self::Schedule(scheduler) | Self::Cancel(scheduler) => scheduler,
        }
    }
}

/// `[watch NAME]`.
#[derive(Debug)]
pub struct Watch {
    /// Section name.
    pub name: String,
    /// Log name; the section name unless set.
    pub logname: LogName,
    /// What is watched; at least one.
    pub paths: Vec<PathPattern>,
    /// Index into [`Config::event_maps`].
    pub event_map: usize,
    /// Directories below that are there when the watch starts are watched too.
    pub rec: bool,
    /// Directories that appear below later are watched too.
    pub auto_add: bool,
    /// Compare with the disk this often; 0 = never.
    pub rescan_ms: Millis,
    /// The most directories; 0 = no limit.
    pub max_dirs: u32,
    /// Synthesize events at start for every entry that exists.
    pub catch_up: bool,
    /// Paths that are left out: no events, and no watch on a directory. Anchored at the start, from
    /// `exclude_filter` and `exclude_filter_file`.
    pub exclude: Filters,
    /// The same, as shell patterns.
    pub exclude_glob: Globs,
    /// The files that are meant; all, when there is none. Directories are followed all the same.
    pub include_glob: Globs,
}

/// Why a watch leaves something out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut<'a> {
    /// This exclude filter matches.
    Filter(&'a str),
    /// This `exclude_glob` matches.
    Glob(&'a str),
    /// It is a file, and no `include_glob` matches.
    NotIncluded,
}

impl fmt::Display for LeftOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(filter) => write!(f, "exclude_filter {filter}"),
            Self::Glob(glob) => write!(f, "exclude_glob {glob}"),
            Self::NotIncluded => f.write_str("no include_glob matches"),
        }
    }
}

impl Watch {
    /// Whether the exclude filter names this path.
    #[must_use]
    pub fn excludes(&self, path: &[u8]) -> bool {
        self.exclude.matches(path)
    }

    /// Whether anything is left out, directories included.
    #[must_use]
    pub fn has_excludes(&self) -> bool {
        !self.exclude.is_empty() || !self.exclude_glob.is_empty()
    }

    /// Whether any file could be left out.
    #[must_use]
    pub fn has_filters(&self) -> bool {
        self.has_excludes() || !self.include_glob.is_empty()
    }

    /// Why this path is left out. The watch path itself, and a single file that is one, match no glob.
    #[must_use]
    pub fn left_out(&self, pattern: &PathPattern, path: &[u8], is_dir: bool) -> Option<LeftOut<'_>> {
        if let Some(filter) = self.exclude.find(path) {
            return Some(LeftOut::Filter(filter));
        }
        if self.exclude_glob.is_empty() && self.include_glob.is_empty() {
            return None;
        }
        let below = pattern.relative(path);
        if below.is_empty() {
            return None;
        }
        if let Some(glob) = self.exclude_glob.find(below, is_dir) {
            return Some(LeftOut::Glob(glob));
        }
        let is_meant = is_dir || self.include_glob.is_empty() || self.include_glob.matches(below, false);
        (!is_meant).then_some(LeftOut::NotIncluded)
    }

    /// Says whether something is left out, and why.
    #[must_use]
    pub fn explain(&self, left_out: Option<LeftOut<'_>>) -> String {
        let name = &self.name;
        if let Some(why) = left_out {
            return format!("watch {name} leaves it out: {why}");
        }
        let keys = [
            (!self.exclude.is_empty(), "no exclude_filter matches"),
            (!self.exclude_glob.is_empty(), "no exclude_glob matches"),
            (!self.include_glob.is_empty(), "include_glob allows it"),
        ];
        let said: Vec<_> = keys.into_iter().filter(|(is_set, _)| *is_set).map(|(_, text)| text).collect();
        format!("watch {name} does not leave it out: {}", said.join(", "))
    }
}
