//! A daemon that runs nothing and logs every event that a map names.

use crate::scratch::{Daemon, Scratch, field};

/// Map and watches; every watch has `logname = event`, every event of the map goes to `run`.
pub fn config(events: &[&str], watches: &str) -> String {
    let map: String = events.iter().map(|event| format!("{event} = run\n")).collect();
    format!(
        "[daemon]\nshutdown_timeout = 0\n[log]\nlevel = info\n[log run]\nlevel = error\n[log event]\nlevel = debug\n\
         [scheduler run]\ntype = shell\ncmd = :\ndirs = yes\n[event_map map]\n{map}{watches}"
    )
}

/// A recursive watch that adds what is new.
pub fn watch(name: &str) -> String {
    format!("[watch {name}]\npath = @/{name}\nevent_map = map\nrec = yes\nauto_add = yes\nlogname = event\n")
}

/// Starts it in dry-run mode.
pub fn start(scratch: &Scratch, config: &str) -> Daemon {
    Daemon::start_ready(scratch, config, &["-n"])
}

/// The events so far: name, path and source path below the scratch directory.
pub fn told(scratch: &Scratch, daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    assert!(!log.contains("log lines dropped"), "{log}");
    let prefix = scratch.expand("@/");
    let below = |path: &str| path.strip_prefix(&prefix).unwrap_or(path).to_owned();
    let of_line = |line: &str| {
        let src = line.split(' ').find_map(|word| word.strip_prefix("src_path="));
        let src = src.map_or(String::new(), |src| format!(" {}", below(src)));
        format!("{} {}{src}", field(line, "event"), below(field(line, "path")))
    };
    log.lines().filter(|line| line.contains(" debug event: event ")).map(of_line).collect()
}

/// Waits until an event is told.
#[track_caller]
pub fn wait_told(scratch: &Scratch, daemon: &mut Daemon, event: &str) {
    let line = scratch.expand(&event.replacen(' ', " path=@/", 1));
    daemon.wait_log(&format!("debug event: event event={line}"));
}

/// Ends the daemon and compares all that was told.
#[track_caller]
pub fn finish(scratch: &Scratch, mut daemon: Daemon, expected: &[&str]) {
    daemon.wait_lines(expected.len(), " debug event: event ");
    let told = told(scratch, &daemon);
    assert_eq!(told, expected, "{}", daemon.log());
    daemon.stop();
}

/// How many directories there are from `top` on, itself included.
pub fn directories_on_disk(top: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(top).unwrap().map(Result::unwrap);
    let below = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    1 + below.map(|entry| directories_on_disk(&entry.path())).sum::<usize>()
}
