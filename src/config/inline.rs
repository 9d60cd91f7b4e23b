//! The form without a file: `rinotifyd -w PATH... [-r] [-E EVENT]... [-D DELAY] [-1] [-X GLOB]... -x COMMAND`.

use std::sync::Arc;

use super::build::{Events, default_daemon, event_or_group};
use super::command;
use super::diagnostics::{Bad, Diagnostics, Span};
use super::filter::Filters;
use super::globs::{Glob, Globs};
use super::groups::{COMPLETE, Triggers};
use super::load::Loaded;
use super::schema::DEFAULT_TIMEOUT;
use super::value;
use super::{Action, Config, Daemon, EventMap, Run, Scheduler, Watch, WhileRunning};
use crate::event::EventKind;
use crate::pattern::PathPattern;
use crate::record::LogLevels;
use crate::script::Script;
use crate::types::Millis;

/// Name of the one scheduler, event map and watch, and with it of their log.
const NAME: &str = "command";

/// A daemon described by options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inline {
    /// `-w`, at least one, absolute.
    pub watch: Vec<Vec<u8>>,
    /// `-r`
    pub recursive: bool,
    /// `-E`, events and groups of events; empty: the group `complete`.
    pub events: Vec<Vec<u8>>,
    /// `-D`
    pub delay: Option<Vec<u8>>,
    /// `-1`: one task for all paths.
    pub single: bool,
    /// `-X`: shell patterns to leave out.
    pub exclude: Vec<Vec<u8>>,
    /// `-x`
    pub command: Vec<u8>,
}

/// Builds the configuration: one watch of literal paths, one shell scheduler for files.
///
/// # Errors
///
/// Everything that is wrong with the options.
pub fn from_command_line(inline: &Inline) -> Result<Loaded, Diagnostics> {
    let mut options = Options::default();
    let parse_path =
        |text: &[u8]| PathPattern::literal(text).map_err(|error| value::pattern_error(text, error));
    let paths: Vec<_> = inline.watch.iter().filter_map(|text| options.read("-w", text, parse_path)).collect();
    if inline.watch.is_empty() {
        options.read("-w", b"", |text| Err::<(), _>(Bad::whole(text, "there is no path to watch")));
    }
    let mut on = Triggers::default();
    for text in &inline.events {
        match options.read("-E", text, event_or_group) {
            Some(Events::One(kind)) => on.schedule(kind, 0),
            Some(Events::Group(group)) => on.add(&group, 0, inline.single),
            None => {}
        }
    }
    if inline.events.is_empty() {
        on.add(&COMPLETE, 0, inline.single);
    } else if !inline.single {
        for kind in [EventKind::Delete, EventKind::MovedFrom] {
            on.cancel(kind, 0);
        }
    }
    let delay_ms = inline.delay.as_ref().and_then(|text| options.read("-D", text, value::duration));
    let globs: Vec<Glob> =
        inline.exclude.iter().filter_map(|text| options.read("-X", text, Glob::parse)).collect();
    let exclude_glob = Globs::new(&globs).unwrap_or_else(|large| {
        options
            .read("-X", large.as_bytes(), |text| Err::<(), _>(Bad::whole(text, "the pattern is too large")));
        Globs::default()
    });
    let cmd = options.command(&inline.command);
    if options.out.has_errors() {
        return Err(options.out);
    }
    let triggers = EventKind::ALL.map(|kind| on.with(kind, None).unwrap_or_default());
    let map = EventMap { name: NAME.into(), triggers };
    let config = Config {
        // A user can start many such daemons, beside each other and beside the service.
        daemon: Daemon { control: None, ..default_daemon() },
        log: LogLevels::default(),
        syslog: Vec::new(),
        schedulers: vec![Scheduler {
            singlejob: inline.single,
            ..scheduler(cmd, delay_ms.unwrap_or_default())
        }],
        event_maps: vec![map],
        watches: vec![Watch {
            name: NAME.into(),
            logname: NAME.into(),
            paths,
            event_map: 0,
            rec: inline.recursive,
            auto_add: inline.recursive,
            rescan_ms: 0,
            max_dirs: 0,
            catch_up: false,
            exclude: Filters::default(),
            exclude_glob,
            include_glob: Globs::default(),
        }],
    };
    Ok(Loaded { config, warnings: options.out })
}

fn scheduler(cmd: Script, delay_ms: Millis) -> Scheduler {
    Scheduler {
        name: NAME.into(),
        logname: NAME.into(),
        action: Action::Shell { cmd, run: Run::default() },
        files: true,
        dirs: false,
        special: false,
        delay_ms,
        max_delay_ms: 0,
        singlejob: false,
        max_jobs: 0,
        while_running: WhileRunning::Rerun,
        timeout_ms: value::duration(DEFAULT_TIMEOUT.as_bytes()).unwrap_or_default(),
    }
}

/// Reads option values. Each is a source of its own, so that a caret can point into it.
#[derive(Default)]
struct Options {
    out: Diagnostics,
}

impl Options {
    fn read<T>(&mut self, option: &str, text: &[u8], parse: impl Fn(&[u8]) -> Result<T, Bad>) -> Option<T> {
        let parsed = parse(text);
        parsed
            .map_err(|bad| {
                let span = self.span(option, text).part(bad.range);
                self.out.error(span, bad.message);
            })
            .ok()
    }

    fn span(&mut self, option: &str, text: &[u8]) -> Span {
        let file = self.out.add_source(option.as_bytes(), Arc::from(text));
        Span { file, start: 0, end: text.len() }
    }

    fn command(&mut self, text: &[u8]) -> Script {
        if text.trim_ascii().is_empty() {
            self.read("-x", text, |text| Err::<(), _>(Bad::whole(text, "the command is empty")));
        }
        let misspelled = command::misspelled_placeholders(text);
        for bad in misspelled {
            let span = self.span("-x", text).part(bad.range);
            self.out.warning(span, bad.message);
        }
        let (script, remarks) = Script::parse(text);
        for remark in remarks {
            let span = self.span("-x", text);
            self.out.remark(span, remark);
        }
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Trigger;

    fn triggers(config: &Config, kind: EventKind) -> &[Trigger] {
        config.event_maps[0].triggers(kind)
    }

    fn inline() -> Inline {
        Inline { watch: vec![b"/a*/b".to_vec()], command: b"echo {pathname}".to_vec(), ..Inline::default() }
    }

    fn refuse(inline: &Inline, expected: &str) {
        let shown = from_command_line(inline).unwrap_err();
        let lines: Vec<_> = shown.iter().map(|item| shown.headline(item)).collect();
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn a_watch_and_a_command_are_enough() {
        let loaded = from_command_line(&inline()).unwrap();
        assert!(loaded.warnings.is_empty());
        let config = loaded.config;
        assert!(config.watches[0].paths[0].components[0].matches(b"a*"));
        assert!(!config.watches[0].rec && !config.watches[0].auto_add);
        assert_eq!(triggers(&config, EventKind::CloseWrite), [Trigger::Schedule(0)]);
        assert_eq!(triggers(&config, EventKind::MovedTo), [Trigger::Schedule(0)]);
        for kind in [EventKind::Modify, EventKind::Delete, EventKind::MovedFrom] {
            assert_eq!(triggers(&config, kind), [Trigger::Cancel(0)]);
        }
        assert!(triggers(&config, EventKind::Create).is_empty() && !config.schedulers[0].singlejob);
        let scheduler = &config.schedulers[0];
        assert!(scheduler.files && !scheduler.dirs && scheduler.delay_ms == 0);
        assert_eq!(scheduler.timeout_ms, 24 * 60 * 60 * 1000);
        assert_eq!(config.daemon.shutdown_timeout_ms, 30_000);
    }

    #[test]
    fn options_are_taken_over() {
        let options = Inline {
            recursive: true,
            events: vec![b"IN_CREATE".to_vec()],
            delay: Some(b"1.5".to_vec()),
            exclude: vec![b"*.tmp".to_vec(), b".*".to_vec()],
            ..inline()
        };
        let config = from_command_line(&options).unwrap().config;
        assert!(config.watches[0].rec && config.watches[0].auto_add);
        assert_eq!(triggers(&config, EventKind::Create), [Trigger::Schedule(0)]);
        // A file that is gone before its task runs needs none.
        assert_eq!(triggers(&config, EventKind::Delete), [Trigger::Cancel(0)]);
        assert!(triggers(&config, EventKind::Modify).is_empty());
        assert_eq!(config.schedulers[0].delay_ms, 1500);
        assert_eq!(config.watches[0].exclude_glob.texts().collect::<Vec<_>>(), ["*.tmp", ".*"]);
    }

    #[test]
    fn one_task_for_all_paths_is_not_cancelled_by_one_of_them() {
        let config = from_command_line(&Inline { single: true, ..inline() }).unwrap().config;
        assert!(config.schedulers[0].singlejob);
        assert_eq!(config.event_maps[0].mask(), EventKind::CloseWrite.bit() | EventKind::MovedTo.bit());
        let events = vec![b"gone".to_vec()];
        let config = from_command_line(&Inline { single: true, events, ..inline() }).unwrap().config;
        assert_eq!(config.event_maps[0].mask(), EventKind::Delete.bit() | EventKind::MovedFrom.bit());
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let options = Inline {
            watch: vec![b"a".to_vec()],
            events: vec![b"IN_WRITE_CLOSE".to_vec()],
            delay: Some(b"x".to_vec()),
            exclude: vec![b"**".to_vec()],
            command: b" ".to_vec(),
            recursive: false,
            single: false,
        };
        refuse(
            &options,
            "-w:1:1: error: \"a\" is not an absolute path: it must start with /\n\
             -E:1:1: error: unknown event \"IN_WRITE_CLOSE\", did you mean IN_CLOSE_WRITE?\n\
             -D:1:1: error: \"x\" is not a duration: a number of seconds, or with ms, s, m, h or d\n\
             -X:1:1: error: ** has no meaning of its own: a pattern without a slash matches at any depth\n\
             -x:1:1: error: the command is empty",
        );
        refuse(&Inline { watch: Vec::new(), ..inline() }, "-w:1:1: error: there is no path to watch");
    }

    #[test]
    fn mistakes_in_the_command_are_warned_of() {
        let options = Inline { command: b"echo {pathname} {pathnam}".to_vec(), ..inline() };
        let warnings = from_command_line(&options).unwrap().warnings;
        assert_eq!(warnings.iter().count(), 1);
        refuse(
            &Inline { command: b"echo '{pathname}'".to_vec(), ..inline() },
            "-x:1:7: error: {pathname} stands between single quotes, where sh takes everything as it is written: \
             use double quotes or none",
        );
    }
}
