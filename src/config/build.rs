//! From checked sections to the typed [`Config`].
//!
//! Every function here returns something even when a value is bad, so that all errors are found;
//! what is built is thrown away by `load` as soon as there was one error.

use std::collections::HashSet;
use std::ffi::CString;
use std::sync::Arc;

use super::command;
use super::diagnostics::{Bad, Diagnostics, quoted};
use super::expression;
use super::fields::Fields;
use super::filter::Filters;
use super::ini::{Text, words};
use super::names::Names;
use super::reader::Reader;
use super::rules::Rules;
use super::schema::Kind;
use super::suggest;
use super::value::{self, report};
use super::{
    Action, Address, Config, Daemon, EventMap, Format, Output, Run, Scheduler, Syslog, Trigger, Watch,
    WhileRunning, Worker,
};
use crate::event::{EVENT_KINDS, EventKind};
use crate::pattern::PathPattern;
use crate::record::{Level, LogLevels, LogName};
use crate::script::Script;
use crate::template::{Template, is_task_variable};
use crate::types::Identity;

/// The most schedulers, watches, or paths of one watch: far more than anybody writes, and their
/// numbers, and the next one, fit the 16 bits that a task and a watched directory have for them.
const SECTIONS_MAX: usize = 10_000;

/// The most exclude filters of one watch. As many are read within a second.
const FILTERS_MAX: usize = 10_000;

/// Builds the configuration. Errors go to the reader; when there are any, the result is incomplete.
pub fn config(sections: &[Fields], reader: &mut Reader<'_>) -> Config {
    let of = |kind: Kind| sections.iter().filter(move |fields| fields.section.kind == kind);
    let names_of = |kind: Kind| Names::new(of(kind).map(|fields| fields.name.as_str()));
    let (schedulers, event_maps) = (names_of(Kind::Scheduler), names_of(Kind::EventMap));
    let names = Referable { schedulers, event_maps };
    let out = &mut reader.out;
    for kind in [Kind::Scheduler, Kind::Watch] {
        if let Some(beyond) = of(kind).nth(SECTIONS_MAX) {
            let message = format!("there are more than {SECTIONS_MAX} sections [{}]", beyond.section.word);
            out.error(beyond.header, message);
        }
    }
    let daemon = of(Kind::Daemon).next().map_or_else(default_daemon, |fields| daemon(fields, out));
    let log = log(of(Kind::Log), out);
    let syslog = of(Kind::Syslog).map(|fields| syslog(fields, out)).collect();
    let mut event_maps: Vec<_> = of(Kind::EventMap).map(|fields| event_map(fields, &names, out)).collect();
    let rules = Rules::new(of(Kind::Rule), reader);
    let schedulers = of(Kind::Scheduler).filter_map(|fields| scheduler(fields, &rules, reader)).collect();
    let max_dirs = max_dirs(reader.host.watches_max(), of(Kind::Watch).count());
    let watches =
        of(Kind::Watch).map(|fields| watch(fields, &names, &mut event_maps, max_dirs, reader)).collect();
    Config { daemon, log, syslog, schedulers, event_maps, watches }
}

/// The directories that one of so many watches may have unless its section says so: half of what the kernel allows,
/// and a share of the other half. So no watch takes the room of all others, and one that is alone has it all.
fn max_dirs(watches_max: Option<u64>, watches: usize) -> u32 {
    let Some(half) = watches_max.map(|max| max / 2).filter(|_| watches > 1) else { return 0 };
    u32::try_from(half + half / watches as u64).unwrap_or(0)
}

/// Names that can be referred to; the place of each is its index in [`Config`].
struct Referable<'a> {
    schedulers: Names<'a>,
    event_maps: Names<'a>,
}

/// The defaults, for a configuration without `[daemon]`.
pub fn default_daemon() -> Daemon {
    let Some(section) = super::schema::Section::find(b"daemon") else {
        let logname = "daemon".into();
        return Daemon { shutdown_timeout_ms: 0, max_jobs: 0, file_workers: 1, logname, control: None };
    };
    daemon(&Fields::empty(section, ""), &mut Diagnostics::default())
}

fn daemon(fields: &Fields, out: &mut Diagnostics) -> Daemon {
    Daemon {
        shutdown_timeout_ms: fields.duration("shutdown_timeout", out),
        max_jobs: fields.number("max_jobs", out),
        file_workers: fields.number("file_workers", out),
        logname: log_name(fields, "daemon", out),
        control: control(fields, out),
    }
}

/// The path of the control socket. Nothing behind the `=` means that there is to be none.
fn control(fields: &Fields, out: &mut Diagnostics) -> Option<Vec<u8>> {
    if fields.has("control") {
        return fields.one("control", out, value::socket_path);
    }
    fields.section.key(b"control").map(|key| key.default.into())
}

fn log<'a>(sections: impl Iterator<Item = &'a Fields>, out: &mut Diagnostics) -> LogLevels {
    let mut levels = LogLevels::default();
    for fields in sections {
        let level = Level::from_name(fields.choice("level", out)).unwrap_or(Level::Info);
        if fields.name.is_empty() {
            levels.default = level;
        } else {
            levels.by_name.push((fields.name.as_str().into(), level));
        }
    }
    levels
}

fn syslog(fields: &Fields, out: &mut Diagnostics) -> Syslog {
    let default = || Address::Path(b"/dev/log".to_vec());
    Syslog {
        name: (!fields.name.is_empty()).then(|| fields.name.as_str().into()),
        address: fields.one("address", out, value::address).unwrap_or_else(default),
        level: Level::from_name(fields.choice("level", out)).unwrap_or(Level::Info),
        facility: fields.choice("facility", out),
    }
}

fn log_name(fields: &Fields, default: &str, out: &mut Diagnostics) -> LogName {
    let parse = |text: &[u8]| value::name(text).map(Arc::from);
    fields.one("logname", out, parse).unwrap_or_else(|| default.into())
}

/// A scheduler; `None` when it has no action, which is reported.
fn scheduler(fields: &Fields, rules: &Rules<'_>, reader: &mut Reader<'_>) -> Option<Scheduler> {
    let action = action(fields, rules, reader);
    let out = &mut reader.out;
    let scheduler = Scheduler {
        name: fields.name.clone(),
        logname: log_name(fields, &fields.name, out),
        files: fields.flag("files", out),
        dirs: fields.flag("dirs", out),
        delay_ms: fields.duration("delay", out),
        max_delay_ms: fields.duration("max_delay", out),
        singlejob: fields.flag("singlejob", out),
        max_jobs: fields.number("max_jobs", out),
        while_running: match fields.choice("while_running", out) {
            "skip" => WhileRunning::Skip,
            _ => WhileRunning::Rerun,
        },
        timeout_ms: fields.duration("timeout", out),
        action: action?,
    };
    if scheduler.max_delay_ms != 0 && scheduler.max_delay_ms < scheduler.delay_ms {
        out.error(fields.place("max_delay"), "max_delay is shorter than delay");
    }
    Some(scheduler)
}

fn action(fields: &Fields, rules: &Rules<'_>, reader: &mut Reader<'_>) -> Option<Action> {
    let kind = fields.choice("type", &mut reader.out);
    if kind == "files" {
        return Some(Action::Files { rules: rules.of_scheduler(fields, reader) });
    }
    let run = run(fields, reader);
    let out = &mut reader.out;
    let item = fields.items("cmd").first()?;
    for bad in command::misspelled_placeholders(&item.bytes) {
        out.warning(item.span.part(bad.range), bad.message);
    }
    match kind {
        "shell" => {
            let (cmd, remarks) = Script::parse(&item.bytes);
            for remark in remarks {
                out.remark(item.span, remark);
            }
            Some(Action::Shell { cmd, run })
        }
        "exec" => {
            if let Some(bad) = command::shell_operator(&item.bytes) {
                out.warning(item.span.part(bad.range), bad.message);
            }
            if let Some(bad) = command::remote_placeholders(&item.bytes) {
                out.warning(item.span.part(bad.range), bad.message);
            }
            report(item, command::split(&item.bytes), out).map(|words| Action::Exec { words, run })
        }
        "worker" => worker(fields, item, run, out).map(Action::Worker),
        _ => None,
    }
}

/// Its words are those of an exec command, without placeholders: it is started before there is a task.
fn worker(fields: &Fields, item: &Text, run: Run, out: &mut Diagnostics) -> Option<Worker> {
    for bad in command::placeholders(&item.bytes) {
        out.error(item.span.part(bad.range), bad.message);
    }
    if let Some(bad) = command::shell_operator(&item.bytes) {
        out.warning(item.span.part(bad.range), bad.message);
    }
    let worker = Worker {
        words: Vec::new(),
        run,
        instances: fields.number("instances", out),
        format: if fields.choice("format", out) == "json" { Format::Json } else { Format::Tab },
        ack: fields.flag("ack", out),
        eager: fields.choice("start", out) == "eager",
    };
    let words = report(item, command::split(&item.bytes), out)?;
    // The configuration holds no NUL.
    let word = |word: &Template| CString::new(word.literal().unwrap_or_default()).unwrap_or_default();
    Some(Worker { words: words.iter().map(word).collect(), ..worker })
}

fn run(fields: &Fields, reader: &mut Reader<'_>) -> Run {
    let identity = identity(fields, reader);
    let out = &mut reader.out;
    for item in fields.items("env") {
        let name = item.bytes.split(|&byte| byte == b'=').next().unwrap_or_default();
        if is_task_variable(name) {
            out.warning(item.span, format!("{} is set by the daemon for each task", quoted(name)));
        }
    }
    Run {
        identity,
        cwd: fields.one("cwd", out, value::absolute_path),
        umask: fields.mode("umask", out),
        env: fields.list("env", out, value::assignment),
        nice: fields.number("nice", out),
        output: match fields.choice("output", out) {
            "inherit" => Output::Inherit,
            "null" => Output::Null,
            _ => Output::Log,
        },
    }
}

/// Who the child runs as. A group alone keeps the daemon's user, who is root.
fn identity(fields: &Fields, reader: &mut Reader<'_>) -> Option<Identity> {
    let (host, out) = (reader.host, &mut reader.out);
    let [user, group] = ["user", "group"].map(|key| fields.items(key).first());
    let either = user.or(group)?;
    if !host.is_root() {
        out.error(either.span, "only root can run tasks as another user or group");
        return None;
    }
    let gid = match group {
        Some(item) => {
            let found = value::look_up(&item.bytes, "group", &item.bytes, |name| host.group(name));
            Some(report(item, found, out)?)
        }
        None => None,
    };
    let name = user.map_or(b"root".as_slice(), |item| &item.bytes);
    let found = value::look_up(&either.bytes, "user", name, |name| host.user(name, gid));
    report(either, found, out)
}

fn event_map(fields: &Fields, names: &Referable<'_>, out: &mut Diagnostics) -> EventMap {
    let default = triggers(fields, "default_sched", names, out);
    let triggers = EventKind::ALL.map(|kind| {
        if fields.has(kind.name()) { triggers(fields, kind.name(), names, out) } else { default.clone() }
    });
    EventMap { name: fields.name.clone(), triggers }
}

/// Reads the schedulers of one event, several in a line or over several lines. `none`, or nothing
/// at all, is an empty list.
fn triggers(fields: &Fields, key: &str, names: &Referable<'_>, out: &mut Diagnostics) -> Vec<Trigger> {
    let items: Vec<_> = fields.items(key).iter().flat_map(words).collect();
    if let [only] = items.as_slice()
        && only.bytes == b"none"
    {
        return Vec::new();
    }
    let mut triggers = Vec::new();
    let mut seen = HashSet::new();
    for item in &items {
        let Some(trigger) = report(item, trigger(&item.bytes, names), out) else { continue };
        if seen.insert(trigger) {
            triggers.push(trigger);
        } else {
            out.error(item.span, format!("{} stands here twice", quoted(&item.bytes)));
        }
    }
    triggers
}

fn trigger(text: &[u8], names: &Referable<'_>) -> Result<Trigger, Bad> {
    if text == b"none" {
        return Err(Bad::whole(text, "\"none\" must stand alone"));
    }
    let resolve_behind = |prefix: usize| {
        names.schedulers.find(&text[prefix..], "scheduler").map_err(|mut bad| {
            bad.range = prefix..text.len();
            bad
        })
    };
    match text.iter().position(|&byte| byte == b':') {
        None => resolve_behind(0).map(Trigger::Schedule),
        Some(6) if text.starts_with(b"cancel") => resolve_behind(7).map(Trigger::Cancel),
        Some(colon) => {
            let hint = suggest::hint(&text[..colon], ["cancel"]);
            Err(Bad {
                message: format!("only \"cancel:\" can stand before a scheduler{hint}"),
                range: 0..colon + 1,
            })
        }
    }
}

fn watch(
    fields: &Fields,
    names: &Referable<'_>,
    event_maps: &mut Vec<EventMap>,
    max_dirs: u32,
    reader: &mut Reader<'_>,
) -> Watch {
    let out = &mut reader.out;
    let parse_path =
        |text: &[u8]| PathPattern::parse(text).map_err(|error| value::pattern_error(text, error));
    let paths = fields.list("path", out, parse_path);
    if let Some(beyond) = fields.items("path").get(SECTIONS_MAX) {
        out.error(beyond.span, format!("there are more than {SECTIONS_MAX} paths"));
    }
    let event_map = watch_map(fields, names, event_maps, out);
    let (rec, auto_add) = (fields.flag("rec", out), fields.flag("auto_add", out));
    let rescan_ms = fields.duration("rescan", out);
    let max_dirs = if fields.has("max_dirs") { fields.number("max_dirs", out) } else { max_dirs };
    let catch_up = fields.choice("catch_up", out) == "all";
    let logname = log_name(fields, &fields.name, out);
    let exclude = exclude(fields, reader);
    Watch {
        name: fields.name.clone(),
        logname,
        paths,
        event_map,
        rec,
        auto_add,
        rescan_ms,
        max_dirs,
        catch_up,
        exclude,
    }
}

/// The exclude filters of a watch, of its section first and then of its files.
fn exclude(fields: &Fields, reader: &mut Reader<'_>) -> Filters {
    let own = fields.items("exclude_filter").to_vec();
    let files = fields.items("exclude_filter_file").iter().flat_map(|file| reader.lines(file));
    let all: Vec<Text> = own.into_iter().chain(files).collect();
    let out = &mut reader.out;
    if let Some(beyond) = all.get(FILTERS_MAX) {
        out.error(beyond.span, format!("there are more than {FILTERS_MAX} exclude filters"));
        return Filters::default();
    }
    let mut expressions = Vec::with_capacity(all.len());
    for item in &all {
        // A wrong expression takes longer than all else: no more of them than are shown.
        if out.is_full() {
            return Filters::default();
        }
        expressions.extend(report(item, expression::anchored(&item.bytes), out));
    }
    Filters::new(&expressions).unwrap_or_else(|large| {
        let message = format!("this exclude filter is too large when compiled: {}", quoted(large.as_bytes()));
        out.error(fields.header, message);
        Filters::default()
    })
}

/// The event map a watch names, or one made for its `default_sched`.
fn watch_map(
    fields: &Fields,
    names: &Referable<'_>,
    event_maps: &mut Vec<EventMap>,
    out: &mut Diagnostics,
) -> usize {
    match (fields.items("event_map").is_empty(), fields.items("default_sched").is_empty()) {
        (true, true) => {
            out.error(fields.header, format!("{} needs event_map or default_sched", fields.title()));
        }
        (false, false) => {
            let message = format!("{} has both event_map and default_sched", fields.title());
            out.error(fields.place("default_sched"), message);
        }
        _ => {}
    }
    let named = fields.one("event_map", out, |text| names.event_maps.find(text, "event map"));
    let triggers = triggers(fields, "default_sched", names, out);
    named.unwrap_or_else(|| {
        let triggers: [Vec<Trigger>; EVENT_KINDS] = std::array::from_fn(|_| triggers.clone());
        event_maps.push(EventMap { name: fields.name.clone(), triggers });
        event_maps.len() - 1
    })
}
