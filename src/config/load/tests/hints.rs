//! Messages that say how to mend, and warnings with their harmless neighbours.

use super::*;

#[test]
fn an_unknown_key_says_where_it_belongs() {
    watch_says(
        "delay = 5",
        "m:9:1: error: unknown key \"delay\" in [watch]: it is a key of [scheduler NAME]",
    );
    watch_says(
        "max_jobs = 5",
        "m:9:1: error: unknown key \"max_jobs\" in [watch]: it is a key of [daemon] and [scheduler NAME]",
    );
    scheduler_says(
        "rescan = 5",
        "m:4:1: error: unknown key \"rescan\" in [scheduler]: it is a key of [watch NAME]",
    );
    scheduler_says("on = complete", "m:4:1: error: unknown key \"on\" in [scheduler]");
    scheduler_says(
        "IN_CREATE = s",
        "m:4:1: error: unknown key \"IN_CREATE\" in [scheduler]: events are keys of [event_map NAME]",
    );
    watch_says(
        "gone = s",
        "m:9:1: error: unknown key \"gone\" in [watch]: events are keys of [event_map NAME]",
    );
    watch_says(
        "exclude = *.tmp",
        "m:9:1: error: unknown key \"exclude\" in [watch], did you mean exclude_glob?",
    );
    watch_says("include_filter = a", "m:9:1: error: unknown key \"include_filter\" in [watch]");
    watch_says("recursive = yes", "m:9:1: error: unknown key \"recursive\" in [watch], did you mean rec?");
    let job = |line: &str| format!("[job j]\npath = /j\ncmd = id\n{line}\n");
    says(job("IN_CREATE = j"), "m:4:1: error: unknown key \"IN_CREATE\" in [job]: write on = IN_CREATE");
    says(
        job("event_map = m"),
        "m:4:1: error: unknown key \"event_map\" in [job]: \"on\" says which events start a job",
    );
}

#[test]
fn an_unknown_event_says_what_to_write() {
    let map = |key: &str, hint: &str| {
        map_says(&format!("{key} = s"), &format!("m:6:1: error: unknown key \"{key}\" in [event_map]{hint}"));
    };
    map("IN_OPEN,IN_ACCESS", ": write a line for each event");
    map("IN_ALL_EVENTS", ": default_sched means every event");
    map("IN_MOVE", ": write IN_MOVED_FROM and IN_MOVED_TO");
    map("IN_CLOSE", ": write IN_CLOSE_WRITE and IN_CLOSE_NOWRITE");
    map("MODIFY", ", did you mean IN_MODIFY?");
    map_says(
        "IN_OPEN = Cancel(s)",
        "m:6:11: error: there is no scheduler \"Cancel(s)\", did you mean cancel:s?",
    );
    says(
        "[job j]\npath = /j\ncmd = id\non = IN_OPEN,IN_ACCESS\n",
        "m:4:6: error: unknown event \"IN_OPEN,IN_ACCESS\": blanks separate events",
    );
}

#[test]
fn a_value_says_what_was_meant() {
    let duration = "is not a duration: a number of seconds, or with ms, s, m, h or d";
    scheduler_says("delay = 5 sec", &format!("m:4:9: error: \"5 sec\" {duration}, did you mean 5s?"));
    let path = |path: &str, hint: &str| {
        let shown = path.replace('"', "\\\"");
        let text = format!("{SCHEDULER}{MAP}[watch w]\npath = {path}\nevent_map = m\n");
        says(text, &format!("m:7:8: error: \"{shown}\" is not an absolute path: {hint}"));
    };
    path("\"/srv/in\"", "quotes are part of a value, write /srv/in");
    path("~/in", "~ is not replaced, write the home directory, such as /home/NAME/in");
    says(
        format!("{SCHEDULER}{MAP}{WATCH}exclude_glob = a\nb\n"),
        "m:10:1: error: expected KEY = VALUE, but there is no \"=\": to continue the value above, indent the line",
    );
}

#[test]
fn rec_without_auto_add_is_warned_of() {
    let warning = "rec without auto_add: directories that appear later are not watched; write auto_add = yes, \
                   or auto_add = no if that is meant";
    watch_says("rec = yes", &format!("m:9:1: warning: {warning}"));
    watch_says("rec = yes\nauto_add = no", "");
    watch_says("rec = yes\nauto_add = yes", "");
    watch_says("auto_add = yes", "");
}

#[test]
fn an_odd_path_is_warned_of_if_it_is_not_there() {
    let check = |path: &str, there: Vec<&'static str>, expected: &str| {
        let mut fake = Fake::new(format!("{SCHEDULER}{MAP}[watch w]\npath = {path}\nevent_map = m\n"));
        fake.there = there;
        assert_eq!(fake.said(), expected, "{path}");
    };
    let comment = "this path is not there: a comment is a line of its own, and here it is part of the path";
    check("/p # scans", vec![], &format!("m:7:8: warning: {comment}"));
    check("/p # scans", vec!["/p # scans"], "");
    check("/p#scans", vec![], "");
    let comma = "this path is not there: a comma does not separate paths, write each on a line of its own";
    check("/p, /q", vec![], &format!("m:7:8: warning: {comma}"));
    check("/p*,/q*", vec![], &format!("m:7:8: warning: {comma}"));
    check("/p, /q", vec!["/p, /q"], "");
    check("/p,q", vec![], "");
}

#[test]
fn a_program_that_is_not_there_is_warned_of() {
    let check = |kind: &str, cmd: &str, more: &str, expected: &str| {
        says(format!("[scheduler s]\ntype = {kind}\ncmd = {cmd}\n{more}{MAP}{WATCH}"), expected);
    };
    let warning = "m:3:7: warning: the program \"no-such\" is not in PATH";
    check("exec", "no-such a", "", warning);
    check("shell", "no-such a; b", "", warning);
    check("worker", "no-such", "", warning);
    check("exec", "no-such/a", "", "m:3:7: warning: the program \"no-such/a\" is not there");
    check("exec", "such a", "", "");
    check("shell", "x=no-such; $x", "", "");
    check("shell", "cd /p; no-such", "", "");
    check("exec", "no-such a", "env = PATH=/opt\n", "");
}

#[test]
fn a_working_directory_that_is_not_there_is_warned_of() {
    scheduler_says("cwd = /nowhere", "m:4:7: warning: this directory is not there");
    scheduler_says("cwd = /tmp", "");
}

#[test]
fn an_include_that_matches_nothing_is_warned_of() {
    let text = format!("[daemon]\ninclude = d/*.conf\n{SCHEDULER}{MAP}{WATCH}");
    says(&text, "m:2:11: warning: no file matches, so this includes nothing");
    assert_eq!(Fake::new(&text).with("d/a.conf", "").said(), "");
}
