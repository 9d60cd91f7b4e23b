//! The short form, groups of events, and commands of several lines.

use super::*;
use crate::config::Trigger::{Cancel, Schedule};

fn triggers(config: &Config, map: usize, kind: EventKind) -> &[Trigger] {
    config.event_maps[map].triggers(kind)
}

#[test]
fn a_job_is_a_watch_an_event_map_and_a_scheduler() {
    let config = config("[job scans]\npath = /srv/scans\ncmd = ocr {pathname}\n");
    let (watch, map, scheduler) = (&config.watches[0], &config.event_maps[0], &config.schedulers[0]);
    assert_eq!((watch.name.as_str(), &*watch.logname, watch.event_map), ("scans", "scans", 0));
    assert_eq!(
        (map.name.as_str(), scheduler.name.as_str(), &*scheduler.logname),
        ("scans", "scans", "scans")
    );
    assert!(watch.rec && watch.auto_add && scheduler.files && !scheduler.dirs);
    assert!(matches!(scheduler.action, Action::Shell { .. }));
    assert_eq!(watch.exclude_glob.texts().collect::<Vec<_>>(), [".*"]);
    for kind in EventKind::ALL {
        let expected: &[Trigger] = match kind {
            EventKind::CloseWrite | EventKind::MovedTo => &[Schedule(0)],
            EventKind::Modify | EventKind::Delete | EventKind::MovedFrom => &[Cancel(0)],
            _ => &[],
        };
        assert_eq!(map.triggers(kind), expected, "{kind:?}");
    }
}

#[test]
fn a_job_takes_every_key_of_its_parts() {
    let config = config(
        "[job a]\npath = /a\n  /b\ntype = exec\ncmd = echo\nrec = no\nauto_add = no\nexclude_glob =\nlogname = l\n\
         delay = 5\ndirs = yes\nrescan = 1m\non = gone IN_ATTRIB\n  IN_CREATE\n\
         [job b]\npath = /b\ntype = files\nrules = r\nexclude_glob = *.tmp\n\
         [rule r]\naction = delete\nsrc_re = /b/x\n",
    );
    let (watch, scheduler) = (&config.watches[0], &config.schedulers[0]);
    assert!(!watch.rec && !watch.auto_add && watch.exclude_glob.is_empty() && watch.paths.len() == 2);
    assert_eq!((watch.rescan_ms, scheduler.delay_ms, scheduler.dirs), (60_000, 5000, true));
    assert_eq!((&*watch.logname, &*scheduler.logname), ("l", "l"));
    assert_eq!(triggers(&config, 0, EventKind::Attrib), [Schedule(0)]);
    assert_eq!(triggers(&config, 0, EventKind::Delete), [Schedule(0)]);
    // What is named counts before what the group cancels.
    assert_eq!(triggers(&config, 0, EventKind::Create), [Schedule(0)]);
    assert_eq!(triggers(&config, 0, EventKind::MovedTo), [Cancel(0)]);
    assert!(matches!(&config.schedulers[1].action, Action::Files { rules } if rules.len() == 1));
    assert_eq!(config.watches[1].exclude_glob.texts().collect::<Vec<_>>(), ["*.tmp"]);
}

#[test]
fn a_job_stands_beside_sections_of_their_own() {
    let config = config(&format!(
        "[job j]\npath = /j\ncmd = id\n{SCHEDULER}{MAP}IN_OPEN = j\n{WATCH}[watch v]\npath = /v\nevent_map = j\n\
         [watch u]\npath = /u\ndefault_sched = j\n"
    ));
    let names: Vec<_> = config.watches.iter().map(|watch| watch.name.as_str()).collect();
    assert_eq!(names, ["w", "v", "u", "j"]);
    let maps: Vec<_> =
        config.watches.iter().map(|watch| config.event_maps[watch.event_map].name.as_str()).collect();
    assert_eq!(maps, ["m", "j", "u", "j"]);
    assert_eq!(triggers(&config, 0, EventKind::Open), [Schedule(1)]);
    assert_eq!(triggers(&config, 1, EventKind::CloseWrite), [Schedule(1)]);
    assert_eq!(config.schedulers[1].name, "j");
}

#[test]
fn one_task_for_all_paths_is_not_cancelled_by_one_of_them() {
    let config = config("[job j]\npath = /j\ncmd = id\nsinglejob = yes\n");
    assert_eq!(triggers(&config, 0, EventKind::CloseWrite), [Schedule(0)]);
    assert!(triggers(&config, 0, EventKind::Delete).is_empty());
}

#[test]
fn groups_are_keys_of_an_event_map() {
    let config = config(&format!(
        "{SCHEDULER}[scheduler t]\ntype = shell\ncmd = id\n[event_map m]\ndefault_sched = t\ncomplete = s\n\
         changed = none\nIN_MODIFY = t\nIN_MOVED_TO = none\nIN_DELETE = cancel:t\n{WATCH}"
    ));
    assert_eq!(triggers(&config, 0, EventKind::CloseWrite), [Schedule(0)]);
    assert_eq!(triggers(&config, 0, EventKind::Modify), [Cancel(0), Schedule(1)]);
    assert!(triggers(&config, 0, EventKind::MovedTo).is_empty());
    assert_eq!(triggers(&config, 0, EventKind::Delete), [Cancel(0), Cancel(1)]);
    assert_eq!(triggers(&config, 0, EventKind::MovedFrom), [Cancel(0)]);
    assert_eq!(triggers(&config, 0, EventKind::Open), [Schedule(1)]);
    map_says(
        "complete = cancel:s",
        "m:6:1: error: \"complete\" takes schedulers only, and says itself which events cancel their tasks",
    );
    map_says("gone = t", "m:6:8: error: there is no scheduler \"t\"");
    map_says("gone = s s", "m:6:10: error: \"s\" stands here twice");
}

#[test]
fn what_a_job_refuses() {
    let job = "[job j]\npath = /j\ncmd = id\n";
    let check = |lines: &str, expected: &str| says(format!("{job}{lines}\n"), expected);
    says("[job j]\ncmd = id\n", "m:1:1: error: [job j] needs path = PATH");
    says("[job j]\npath = /j\n", "m:1:1: error: [job j] needs cmd = COMMAND");
    says("[job j]\npath = /j\ntype = files\n", "m:1:1: error: [job j] needs rules = RULE");
    check("instances = 2", "m:4:1: error: \"instances\" is only for type = worker");
    check("on = complete complete", "m:4:15: error: \"complete\" stands here twice");
    check("on = compleet", "m:4:6: error: unknown event \"compleet\", did you mean complete?");
    check(
        "on = IN_WRITE_CLOSE",
        "m:4:6: error: unknown event \"IN_WRITE_CLOSE\", did you mean IN_CLOSE_WRITE?",
    );
    check("[job j]\npath = /j\ncmd = id", "m:4:1: error: duplicate [job j]: the first is at m:1:1");
    for (section, word) in [
        ("[scheduler j]\ntype = shell\ncmd = id", "scheduler"),
        ("[event_map j]\nIN_OPEN = j", "event map"),
        ("[watch j]\npath = /x\ndefault_sched = j", "watch"),
    ] {
        check(section, &format!("m:4:1: error: duplicate {word} j: [job j] at m:1:1 is one too"));
    }
    let rule = "[rule j]\naction = delete\nsrc_re = /j\n[scheduler s]\ntype = files\nrules = j\n";
    check(&format!("{rule}[event_map m]\ngone = s\n{WATCH}"), "");
}

#[test]
fn a_command_of_the_shell_has_several_lines() {
    let text = |kind: &str, second: &str| {
        format!("[job j]\npath = /j\ntype = {kind}\ncmd = set -e\n  {second}\n\n  # no line\n\techo b\n")
    };
    let config = config(&text("shell", "echo {pathname}"));
    let Action::Shell { cmd, .. } = &config.schedulers[0].action else { panic!("not a shell") };
    assert_eq!(cmd.argv()[2].to_bytes(), b"set -e\necho \"${RINOTIFYD_PATH}\"\necho b");
    says(
        text("exec", "a"),
        "m:5:3: error: \"cmd\" has several lines only with type = shell; a key is not indented",
    );
    says(
        text("shell", "a '{pathname}'"),
        "m:5:6: error: {pathname} stands between single quotes, where sh takes everything as it is written: \
         use double quotes or none",
    );
    says(
        text("shell", "a {pathnam}"),
        "m:5:5: warning: {pathnam} is not a placeholder, did you mean {pathname}?",
    );
    says(
        text("shell", "delay = 5"),
        "m:5:3: warning: this is an item of \"cmd\": keys and sections are not indented",
    );
    says(text("shell", "delay=5"), "");
}

#[test]
fn default_sched_of_a_command_that_reads_is_warned_of() {
    let warning = |line: usize, events: &str| {
        format!(
            "m:{line}:1: warning: default_sched also means {events}, which the command of scheduler s causes \
             when it reads a file: write an event map with the events that you need, such as complete = s"
        )
    };
    let all = warning(6, "IN_OPEN, IN_ACCESS and IN_CLOSE_NOWRITE");
    let watch = |kind: &str| format!("[scheduler s]\n{kind}\n[watch w]\npath = /p\ndefault_sched = s\n");
    says(watch("type = shell\ncmd = wc {pathname}"), &all);
    says(watch("type = exec\ncmd = wc {pathname}"), &all);
    says(watch("type = shell\ncmd = make all"), "");
    says(watch("type = shell\ncmd = echo {pathname} >>/log"), "");
    says(watch("type = worker\ncmd = wc"), "");
    let map = |lines: &str| {
        format!(
            "[scheduler s]\ntype = shell\ncmd = wc {{pathname}}\n[event_map m]\ndefault_sched = s\n{lines}{WATCH}"
        )
    };
    says(map(""), &warning(5, "IN_OPEN, IN_ACCESS and IN_CLOSE_NOWRITE"));
    says(map("IN_OPEN = none\nIN_CLOSE_NOWRITE = none\n"), &warning(5, "IN_ACCESS"));
    says(map("IN_OPEN = none\nIN_CLOSE_NOWRITE = none\nIN_ACCESS =\n"), "");
}
