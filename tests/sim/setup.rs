//! Configurations for the simulation.

use std::sync::Arc;

use regex::bytes::Regex;
use rinotifyd::config::{
    Action, Config, Daemon, EventMap, FileAction, Rule, Run, Scheduler, Trigger, Watch, WhileRunning,
};
use rinotifyd::event::EventKind;
use rinotifyd::pattern::PathPattern;
use rinotifyd::record::{Level, LogLevels};
use rinotifyd::template::Template;

/// A scheduler that runs at once.
pub fn scheduler(name: &str) -> Scheduler {
    Scheduler {
        name: name.to_owned(),
        logname: name.into(),
        action: Action::Exec { words: vec![Template::parse(b"{pathname}")], run: Run::default() },
        files: true,
        dirs: false,
        special: true,
        delay_ms: 0,
        max_delay_ms: 0,
        singlejob: false,
        max_jobs: 0,
        while_running: WhileRunning::Rerun,
        timeout_ms: 0,
    }
}

/// What a files scheduler does: everything is deleted.
pub fn delete_all() -> Action {
    let any = || Regex::new("").expect("a valid expression");
    let rule = Rule {
        name: "all".to_owned(),
        action: FileAction::Delete,
        src: any(),
        src_anywhere: any(),
        dst: None,
        auto_create: false,
        rec: true,
        replace: false,
        hardlinks: false,
        filemode: None,
        dirmode: None,
        uid: None,
        gid: None,
    };
    Action::Files { rules: vec![Arc::new(rule)] }
}

/// A recursive watch with the first map.
pub fn watch(name: &str, path: &[u8]) -> Watch {
    Watch {
        name: name.to_owned(),
        logname: name.into(),
        paths: vec![PathPattern::literal(path).expect("an absolute path")],
        event_map: 0,
        rec: true,
        auto_add: true,
        rescan_ms: 0,
        max_dirs: 0,
        catch_up: false,
        exclude: Default::default(),
        exclude_glob: Default::default(),
        include_glob: Default::default(),
    }
}

/// All of this path below one recursive watch; `triggers` says what its events set off.
pub fn config(path: &[u8], schedulers: Vec<Scheduler>, triggers: &[(EventKind, Trigger)]) -> Config {
    let mut event_map = EventMap { name: "map".to_owned(), ..EventMap::default() };
    for (kind, trigger) in triggers {
        event_map.triggers[*kind as usize].push(*trigger);
    }
    Config {
        daemon: Daemon {
            shutdown_timeout_ms: 30_000,
            max_jobs: 4,
            file_workers: 2,
            logname: Arc::from("daemon"),
            control: None,
        },
        syslog: Vec::new(),
        log: LogLevels { default: Level::Debug, by_name: Vec::new() },
        schedulers,
        event_maps: vec![event_map],
        watches: vec![watch("watch", path)],
    }
}
