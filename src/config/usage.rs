//! Warnings about a valid configuration that probably does not do what its author wants.

use std::collections::HashSet;

use super::build::of_kind as of;
use super::command;
use super::diagnostics::{Diagnostics, Place, quoted};
use super::fields::Fields;
use super::host::Host;
use super::ini::words;
use super::names::Names;
use super::schema::Kind;
use super::{Action, Config, EventMap, Run, Scheduler, Trigger};
use crate::event::EventKind;
use crate::types::duration;

/// Warns of sections without effect. `sections` are those the configuration was built from.
pub fn check(config: &Config, sections: &[Fields], host: &dyn Host, out: &mut Diagnostics) {
    unused_schedulers(config, sections, out);
    unused_event_maps(config, sections, out);
    unused_rules(sections, out);
    idle_watches(config, sections, out);
    excluded_watches(config, sections, out);
    unknown_log_names(config, sections, out);
    short_shutdown(config, sections, out);
    idle_instances(config, sections, out);
    own_events(config, sections, out);
    one_sided_watches(config, sections, out);
    for (fields, scheduler) in of(sections, Kind::Scheduler).zip(&config.schedulers) {
        if let Some(run) = scheduler.action.run() {
            missing_program(fields, scheduler, run, host, out);
        }
    }
    if config.watches.is_empty() {
        out.warning(Place::File(0), "there is no [watch NAME] and no [job NAME]: nothing is watched");
    }
}

/// The schedulers that a map starts.
fn started(map: &EventMap) -> impl Iterator<Item = usize> {
    map.triggers.iter().flatten().filter_map(|trigger| match trigger {
        Trigger::Schedule(index) => Some(*index),
        Trigger::Cancel(_) => None,
    })
}

/// A watch path that its own filter leaves out is never watched.
fn excluded_watches(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    for (fields, watch) in of(sections, Kind::Watch).zip(&config.watches) {
        for path in watch.paths.iter().filter(|path| watch.excludes(&path.text)) {
            let path = quoted(&path.text);
            out.warning(fields.header, format!("its exclude filter leaves out the watch path {path} itself"));
        }
    }
}

fn unused_schedulers(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    let used: HashSet<usize> = config.event_maps.iter().flat_map(started).collect();
    let all = of(sections, Kind::Scheduler).zip(&config.schedulers).enumerate();
    for (index, (fields, scheduler)) in all {
        if !used.contains(&index) {
            out.warning(fields.header, format!("nothing starts scheduler {}", scheduler.name));
        }
        if !scheduler.files && !scheduler.dirs {
            let message = format!("scheduler {} takes neither files nor directories", scheduler.name);
            out.warning(fields.place("files"), message);
        }
    }
}

fn unused_event_maps(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    let used: HashSet<usize> = config.watches.iter().map(|watch| watch.event_map).collect();
    for (index, fields) in of(sections, Kind::EventMap).enumerate() {
        if !used.contains(&index) {
            out.warning(fields.header, format!("no watch uses event map {}", fields.name));
        }
    }
}

fn unused_rules(sections: &[Fields], out: &mut Diagnostics) {
    let schedulers = of(sections, Kind::Scheduler);
    let used: HashSet<_> =
        schedulers.flat_map(|fields| fields.items("rules")).flat_map(words).map(|item| item.bytes).collect();
    for fields in of(sections, Kind::Rule) {
        if !used.contains(fields.name.as_bytes()) {
            out.warning(fields.header, format!("no scheduler uses rule {}", fields.name));
        }
    }
}

fn idle_watches(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    for (fields, watch) in of(sections, Kind::Watch).zip(&config.watches) {
        let takes = |index: usize| config.schedulers.get(index).is_some_and(|one| one.files || one.dirs);
        let map = config.event_maps.get(watch.event_map);
        if !map.is_some_and(|map| started(map).any(takes)) {
            out.warning(
                fields.header,
                format!("watch {} triggers nothing: its events start no task", watch.name),
            );
        }
    }
}

fn unknown_log_names(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    let schedulers = config.schedulers.iter().map(|scheduler| &scheduler.logname);
    let watches = config.watches.iter().map(|watch| &watch.logname);
    let known = Names::new(schedulers.chain(watches).chain([&config.daemon.logname]).map(|name| &**name));
    for fields in of(sections, Kind::Log).filter(|fields| !fields.name.is_empty()) {
        if !known.contains(fields.name.as_bytes()) {
            let hint = known.hint(fields.name.as_bytes());
            out.warning(fields.header, format!("nothing logs under the name {}{hint}", fields.name));
        }
    }
}

/// No more instances are busy than tasks are in flight.
fn idle_instances(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    for (fields, scheduler) in of(sections, Kind::Scheduler).zip(&config.schedulers) {
        let (max, instances) = (scheduler.max_jobs, scheduler.action.worker().map_or(0, |one| one.instances));
        if (1..instances).contains(&max) {
            let message =
                format!("only {max} of the {instances} instances can have a task, because max_jobs = {max}");
            out.warning(fields.place("instances"), message);
        }
    }
}

/// With `rec` and without `auto_add`, new directories are not watched, which few expect.
fn one_sided_watches(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    for (fields, watch) in of(sections, Kind::Watch).zip(&config.watches) {
        if watch.rec && !watch.auto_add && !fields.has("auto_add") {
            let message = "rec without auto_add: directories that appear later are not watched; write \
                           auto_add = yes, or auto_add = no if that is meant";
            out.warning(fields.place("rec"), message);
        }
    }
}

/// A program or a working directory that is not there.
fn missing_program(
    fields: &Fields,
    scheduler: &Scheduler,
    run: &Run,
    host: &dyn Host,
    out: &mut Diagnostics,
) {
    if let (Some(cwd), Some(item)) = (&run.cwd, fields.items("cwd").first())
        && !host.exists(cwd)
    {
        out.warning(item.span, "this directory is not there");
    }
    let program = match &scheduler.action {
        Action::Exec { words, .. } => words.first().and_then(|word| word.literal()).map(<[u8]>::to_vec),
        Action::Worker(worker) => worker.words.first().map(|word| word.to_bytes().to_vec()),
        Action::Shell { .. } => {
            fields.items("cmd").first().and_then(|line| command::plain_program(&line.bytes))
        }
        Action::Files { .. } => None,
    };
    // With a PATH of its own, the place is for the command to know.
    let has_path = run.env.iter().any(|(name, _)| name == b"PATH");
    if let (Some(program), Some(item), false) = (program, fields.items("cmd").first(), has_path)
        && !host.finds_program(&program)
    {
        let place = if program.contains(&b'/') { "is not there" } else { "is not in PATH" };
        out.warning(item.span, format!("the program {} {place}", quoted(&program)));
    }
}

/// The events that a command causes by reading its file.
const BY_READING: [EventKind; 3] = [EventKind::Open, EventKind::Access, EventKind::CloseNowrite];

/// `default_sched` starts a command for the events that the command causes by reading.
fn own_events(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    let reads: Vec<bool> = of(sections, Kind::Scheduler)
        .zip(&config.schedulers)
        .map(|(fields, scheduler)| {
            let runs = matches!(scheduler.action, Action::Shell { .. } | Action::Exec { .. });
            runs && fields.items("cmd").iter().any(|line| command::may_read(&line.bytes))
        })
        .collect();
    let of_maps = of(sections, Kind::EventMap).zip(&config.event_maps);
    let maps = config.watches.iter().filter_map(|watch| config.event_maps.get(watch.event_map));
    let of_watches = of(sections, Kind::Watch).zip(maps);
    for (fields, map) in of_maps.chain(of_watches) {
        if fields.section.kind == Kind::Job || fields.items("default_sched").is_empty() {
            continue;
        }
        let by_default = |kind: &EventKind| fields.section.kind == Kind::Watch || !fields.has(kind.name());
        let kinds: Vec<EventKind> = BY_READING.into_iter().filter(by_default).collect();
        let started = kinds.iter().flat_map(|kind| map.triggers(*kind)).find_map(|trigger| match trigger {
            Trigger::Schedule(index) if reads.get(*index) == Some(&true) => config.schedulers.get(*index),
            _ => None,
        });
        if let Some(scheduler) = started {
            let (last, others) = kinds.split_last().map_or(("", &[][..]), |(last, rest)| (last.name(), rest));
            let others: Vec<_> = others.iter().map(|kind| kind.name()).collect();
            let names =
                if others.is_empty() { last.to_owned() } else { format!("{} and {last}", others.join(", ")) };
            let message = format!(
                "default_sched also means {}, which the command of scheduler {} causes when it reads a file: \
                 write an event map with the events that you need, such as complete = {1}",
                names, scheduler.name
            );
            out.warning(fields.place("default_sched"), message);
        }
    }
}

/// A task whose delay is longer than the time it gets at shutdown never runs then.
fn short_shutdown(config: &Config, sections: &[Fields], out: &mut Diagnostics) {
    let all = of(sections, Kind::Scheduler).zip(&config.schedulers);
    let Some((fields, longest)) = all.max_by_key(|(_, scheduler)| scheduler.delay_ms) else { return };
    let limit_ms = config.daemon.shutdown_timeout_ms;
    if longest.delay_ms > limit_ms {
        let message = format!(
            "tasks of scheduler {} that wait at shutdown are cancelled: \
             its delay ({}) is longer than shutdown_timeout ({})",
            longest.name,
            duration(longest.delay_ms),
            duration(limit_ms)
        );
        out.warning(fields.place("delay"), message);
    }
}
