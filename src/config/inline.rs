//! The form without a file: `rinotifyd -w PATH... [-r] [-E EVENT]... [-D DELAY] -x COMMAND`.

use std::sync::Arc;

use super::build::default_daemon;
use super::command;
use super::diagnostics::{Bad, Diagnostics, Span, quoted};
use super::filter::Filters;
use super::load::Loaded;
use super::suggest;
use super::value;
use super::{Action, Config, Daemon, EventMap, Run, Scheduler, Trigger, Watch, WhileRunning};
use crate::event::EventKind;
use crate::pattern::PathPattern;
use crate::record::LogLevels;
use crate::script::Script;
use crate::types::Millis;

/// Name of the one scheduler, event map and watch, and with it of their log.
const NAME: &str = "command";

/// What runs when no event is named: a file is complete under its name.
const DEFAULT_EVENTS: [EventKind; 2] = [EventKind::CloseWrite, EventKind::MovedTo];

/// A daemon described by options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inline {
    /// `-w`, at least one, absolute.
    pub watch: Vec<Vec<u8>>,
    /// `-r`
    pub recursive: bool,
    /// `-E`; empty: IN_CLOSE_WRITE and IN_MOVED_TO.
    pub events: Vec<Vec<u8>>,
    /// `-D`
    pub delay: Option<Vec<u8>>,
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
    let mut events: Vec<_> =
        inline.events.iter().filter_map(|text| options.read("-E", text, event)).collect();
    if inline.events.is_empty() {
        events.extend(DEFAULT_EVENTS);
    }
    let delay_ms = inline.delay.as_ref().and_then(|text| options.read("-D", text, value::duration));
    let cmd = options.command(&inline.command);
    if options.out.has_errors() {
        return Err(options.out);
    }
    let mut map = EventMap { name: NAME.into(), ..EventMap::default() };
    for kind in events {
        map.triggers[kind as usize] = vec![Trigger::Schedule(0)];
    }
    let config = Config {
        // Many may be started by hand, beside each other and beside the service.
        daemon: Daemon { control: None, ..default_daemon() },
        log: LogLevels::default(),
        syslog: Vec::new(),
        schedulers: vec![scheduler(cmd, delay_ms.unwrap_or_default())],
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
        delay_ms,
        max_delay_ms: 0,
        singlejob: false,
        max_jobs: 0,
        while_running: WhileRunning::Rerun,
        timeout_ms: 0,
    }
}

fn event(text: &[u8]) -> Result<EventKind, Bad> {
    let kind = str::from_utf8(text).ok().and_then(EventKind::from_name);
    kind.ok_or_else(|| {
        let hint = suggest::hint(text, EventKind::ALL.map(EventKind::name));
        Bad::whole(text, format!("unknown event {}{hint}", quoted(text)))
    })
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
        assert_eq!(config.event_maps[0].mask(), EventKind::CloseWrite.bit() | EventKind::MovedTo.bit());
        let scheduler = &config.schedulers[0];
        assert!(scheduler.files && !scheduler.dirs && scheduler.delay_ms == 0);
        assert_eq!(config.daemon.shutdown_timeout_ms, 30_000);
    }

    #[test]
    fn options_are_taken_over() {
        let options = Inline {
            recursive: true,
            events: vec![b"IN_CREATE".to_vec()],
            delay: Some(b"1.5".to_vec()),
            ..inline()
        };
        let config = from_command_line(&options).unwrap().config;
        assert!(config.watches[0].rec && config.watches[0].auto_add);
        assert_eq!(config.event_maps[0].mask(), EventKind::Create.bit());
        assert_eq!(config.schedulers[0].delay_ms, 1500);
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let options = Inline {
            watch: vec![b"a".to_vec()],
            events: vec![b"IN_WRITE_CLOSE".to_vec()],
            delay: Some(b"x".to_vec()),
            command: b" ".to_vec(),
            recursive: false,
        };
        refuse(
            &options,
            "-w:1:1: error: \"a\" is not an absolute path: it must start with /\n\
             -E:1:1: error: unknown event \"IN_WRITE_CLOSE\", did you mean IN_CLOSE_WRITE?\n\
             -D:1:1: error: \"x\" is not a duration: a number of seconds, or with ms, s, m, h or d\n\
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
