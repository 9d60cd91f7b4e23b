//! From checked sections to the typed [`Config`].
//!
//! Every function here returns a result even when a value is bad, so that all errors are found. `load`
//! drops the result if there was an error.

use std::collections::HashSet;
use std::ffi::CString;
use std::sync::Arc;

use super::command;
use super::diagnostics::{Bad, Diagnostics, quoted};
use super::events;
use super::expression;
use super::fields::Fields;
use super::filter::Filters;
use super::globs::{self, Glob, Globs};
use super::groups::{COMPLETE, GROUPS, Group, Triggers};
use super::ini::{Text, words};
use super::names::Names;
use super::reader::Reader;
use super::rules::Rules;
use super::schema::Kind;
use super::suggest;
use super::unmatchable;
use super::value::{self, report};
use super::{
    Action, Address, Config, Daemon, EventMap, Format, Output, Run, Scheduler, Syslog, Trigger, Watch,
    WhileRunning, Worker,
};
use crate::event::{EVENT_KINDS, EventKind};
use crate::pattern::PathPattern;
use crate::quote::plain;
use crate::record::{Level, LogLevels, LogName};
use crate::script::Script;
use crate::template::{Template, is_task_variable};
use crate::types::Identity;

/// The most schedulers, watches, or paths of one watch. Their numbers, and the next one, fit into the 16
/// bits that a task and a watched directory have for them.
const SECTIONS_MAX: usize = 10_000;

/// The most exclude filters of one watch. The loader compiles this many within a second.
const FILTERS_MAX: usize = 10_000;

/// Builds the configuration. Errors go to the reader; when there are any, the result is incomplete.
pub fn config(sections: &[Fields], reader: &mut Reader<'_>) -> Config {
    let of = |kind: Kind| of_kind(sections, kind);
    let names_of = |kind: Kind| Names::new(of(kind).map(|fields| fields.name.as_str()));
    let names = Referable { schedulers: names_of(Kind::Scheduler), event_maps: names_of(Kind::EventMap) };
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
    let rules = Rules::new(of(Kind::Rule), reader);
    let schedulers: Vec<_> =
        of(Kind::Scheduler).filter_map(|fields| scheduler(fields, &rules, reader)).collect();
    let maps = of(Kind::EventMap).map(|fields| match fields.section.kind {
        Kind::Job => job_map(fields, &names, &schedulers, &mut reader.out),
        _ => event_map(fields, &names, &schedulers, &mut reader.out),
    });
    let mut event_maps: Vec<_> = maps.collect();
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

/// The sections of a kind, in the order in which they are numbered. A job is a scheduler, an event map and a
/// watch, and comes after those with sections of their own.
pub fn of_kind(sections: &[Fields], kind: Kind) -> impl Iterator<Item = &Fields> + Clone {
    let is_part = matches!(kind, Kind::Scheduler | Kind::EventMap | Kind::Watch);
    let own = sections.iter().filter(move |fields| fields.section.kind == kind);
    own.chain(sections.iter().filter(move |fields| is_part && fields.section.kind == Kind::Job))
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

/// The path of the control socket. An empty value means no socket.
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
        special: fields.flag("special", out),
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
    let items = fields.items("cmd");
    let item = items.first()?;
    for item in items {
        for bad in command::misspelled_placeholders(&item.bytes) {
            out.warning(item.span.part(bad.range), bad.message);
        }
    }
    if kind == "shell" {
        return Some(Action::Shell { cmd: script(items, out), run });
    }
    if let Some(second) = items.get(1) {
        let message = "\"cmd\" has several lines only with type = shell; a key is not indented";
        out.error(second.span, message);
    }
    match kind {
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

/// The lines of a command, as one command of the shell.
fn script(lines: &[Text], out: &mut Diagnostics) -> Script {
    let text = lines.iter().map(|line| line.bytes.as_slice()).collect::<Vec<_>>().join(&b'\n');
    let (script, remarks) = Script::parse(&text);
    for mut remark in remarks {
        let mut start = 0;
        for line in lines {
            let end = start + line.bytes.len();
            if remark.range.start <= end {
                remark.range = remark.range.start - start..remark.range.end - start;
                out.remark(line.span, remark);
                break;
            }
            start = end + 1;
        }
    }
    script
}

/// The command has the words of an exec command. It has no placeholders, because the program starts before
/// there is a task.
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

/// The user and groups of the child. With a group alone, the user is the daemon's: root.
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

fn event_map(
    fields: &Fields,
    names: &Referable<'_>,
    schedulers: &[Scheduler],
    out: &mut Diagnostics,
) -> EventMap {
    let default = triggers(fields, "default_sched", names, out);
    let mut groups = Triggers::default();
    for group in &GROUPS {
        for scheduler in group_schedulers(fields, group.name, names, out) {
            groups.add(group, scheduler, is_for_all_paths(schedulers, scheduler));
        }
    }
    let triggers = EventKind::ALL.map(|kind| {
        let own = fields.has(kind.name()).then(|| triggers(fields, kind.name(), names, out));
        groups.with(kind, own).unwrap_or_else(|| default.clone())
    });
    EventMap { name: fields.name.clone(), triggers }
}

/// The schedulers of a group; `none` and nothing at all are an empty list.
fn group_schedulers(fields: &Fields, key: &str, names: &Referable<'_>, out: &mut Diagnostics) -> Vec<usize> {
    let triggers = triggers(fields, key, names, out);
    if triggers.iter().any(|trigger| matches!(trigger, Trigger::Cancel(_))) {
        let message =
            format!("\"{key}\" takes schedulers only, and says itself which events cancel their tasks");
        out.error(fields.place(key), message);
    }
    triggers.into_iter().map(Trigger::scheduler).collect()
}

/// Whether a scheduler has one task for all paths. One that has an error is not there.
fn is_for_all_paths(schedulers: &[Scheduler], index: usize) -> bool {
    schedulers.get(index).is_some_and(|scheduler| scheduler.singlejob)
}

/// The event map of a job: what `on` says.
fn job_map(
    fields: &Fields,
    names: &Referable<'_>,
    schedulers: &[Scheduler],
    out: &mut Diagnostics,
) -> EventMap {
    let own = names.schedulers.find(fields.name.as_bytes(), "scheduler").unwrap_or_default();
    let mut on = Triggers::default();
    let mut seen = HashSet::new();
    let words: Vec<_> = fields.items("on").iter().flat_map(words).collect();
    for word in &words {
        if !seen.insert(&word.bytes) {
            out.error(word.span, format!("{} stands here twice", quoted(&word.bytes)));
        }
        match report(word, event_or_group(&word.bytes), out) {
            Some(Events::One(kind)) => on.schedule(kind, own),
            Some(Events::Group(group)) => on.add(&group, own, is_for_all_paths(schedulers, own)),
            None => {}
        }
    }
    if words.is_empty() {
        on.add(&COMPLETE, own, is_for_all_paths(schedulers, own));
    }
    let triggers = EventKind::ALL.map(|kind| on.with(kind, None).unwrap_or_default());
    EventMap { name: fields.name.clone(), triggers }
}

/// A word of `on`.
#[derive(Debug)]
pub enum Events {
    /// One event.
    One(EventKind),
    /// Several.
    Group(Group),
}

/// Reads an event or a group of events.
pub fn event_or_group(text: &[u8]) -> Result<Events, Bad> {
    let event = || str::from_utf8(text).ok().and_then(EventKind::from_name).map(Events::One);
    let found = Group::find(text).map(Events::Group).or_else(event);
    found.ok_or_else(|| {
        let hint = events::hint(text, "blanks separate events");
        Bad::whole(text, format!("unknown event {}{hint}", quoted(text)))
    })
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
        None => resolve_behind(0).map(Trigger::Schedule).map_err(|bad| match cancelled(text) {
            Some(name) => Bad::whole(text, format!("{}, did you mean cancel:{}?", bad.message, plain(name))),
            None => bad,
        }),
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

/// The scheduler in `Cancel(NAME)`, as pyinotifyd writes it.
fn cancelled(text: &[u8]) -> Option<&[u8]> {
    let (word, rest) = text.split_at_checked(b"cancel(".len())?;
    if word.eq_ignore_ascii_case(b"cancel(") { rest.strip_suffix(b")") } else { None }
}

fn watch(
    fields: &Fields,
    names: &Referable<'_>,
    event_maps: &mut Vec<EventMap>,
    max_dirs: u32,
    reader: &mut Reader<'_>,
) -> Watch {
    let (host, out) = (reader.host, &mut reader.out);
    let parse_path = |text: &[u8]| {
        PathPattern::parse_on(text, &|path| host.exists(path))
            .map_err(|error| value::pattern_error(text, error))
    };
    let paths = fields.list("path", out, parse_path);
    for (item, path) in fields.items("path").iter().zip(&paths).take(SECTIONS_MAX) {
        // After an error they are no pairs, and no warning counts.
        if out.has_errors() {
            break;
        }
        let is_there = if path.is_wild() { host.has_match(path) } else { host.exists(&path.text) };
        if is_there {
            continue;
        }
        if let Some(why) = value::odd_path(&item.bytes) {
            out.warning(item.span, why);
        } else if path.is_wild() {
            out.warning(item.span, "nothing matches this pattern yet: the watch waits for it");
        }
    }
    if let Some(beyond) = fields.items("path").get(SECTIONS_MAX) {
        out.error(beyond.span, format!("there are more than {SECTIONS_MAX} paths"));
    }
    let event_map = watch_map(fields, names, event_maps, out);
    let (rec, auto_add) = (fields.flag("rec", out), fields.flag("auto_add", out));
    let rescan_ms = fields.duration("rescan", out);
    let max_dirs = if fields.has("max_dirs") { fields.number("max_dirs", out) } else { max_dirs };
    let catch_up = fields.choice("catch_up", out) == "all";
    let logname = log_name(fields, &fields.name, out);
    let roots: Vec<Vec<u8>> = paths.iter().map(PathPattern::fixed).collect();
    let exclude = exclude(fields, &roots, reader);
    let exclude_glob = globs(fields, "exclude_glob", &roots, &mut reader.out);
    let include_glob = globs(fields, "include_glob", &roots, &mut reader.out);
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
        exclude_glob,
        include_glob,
    }
}

/// The shell patterns of a key.
fn globs(fields: &Fields, key: &str, roots: &[Vec<u8>], out: &mut Diagnostics) -> Globs {
    let items = fields.items(key);
    if !fields.has(key) {
        // A job leaves out hidden names, unless it says what it leaves out.
        let default =
            fields.section.key(key.as_bytes()).map(|key| key.default).filter(|text| !text.is_empty());
        let default: Vec<Glob> =
            default.into_iter().filter_map(|text| Glob::parse(text.as_bytes()).ok()).collect();
        return Globs::new(&default).unwrap_or_default();
    }
    if let Some(beyond) = items.get(FILTERS_MAX) {
        out.error(beyond.span, format!("there are more than {FILTERS_MAX} patterns"));
        return Globs::default();
    }
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let Some(glob) = report(item, Glob::parse(&item.bytes), out) else { continue };
        if key == "include_glob" && glob.is_dir() {
            let message =
                "include_glob names files; directories are followed all the same: leave out the slash";
            out.error(item.span, message);
        } else if let Some(doubt) = globs::doubt(&item.bytes, roots) {
            out.warning(item.span, doubt);
        }
        all.push(glob);
    }
    Globs::new(&all).unwrap_or_else(|large| {
        out.error(fields.place(key), format!("this pattern is too large when compiled: {large}"));
        Globs::default()
    })
}

/// The exclude filters of a watch, of its section first and then of its files.
fn exclude(fields: &Fields, roots: &[Vec<u8>], reader: &mut Reader<'_>) -> Filters {
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
        // Judging a wrong expression takes long, and no further error would be shown.
        if out.is_full() {
            return Filters::default();
        }
        let Some(expression) = report(item, expression::anchored(&item.bytes), out) else { continue };
        expressions.push(expression);
        if let Some(doubt) = unmatchable::doubt(&item.bytes, roots) {
            out.warning(item.span, doubt);
        }
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
    if fields.section.kind == Kind::Job {
        return names.event_maps.find(fields.name.as_bytes(), "event map").unwrap_or_default();
    }
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
