//! Lines of the log: their form, and that a reader who does not read them does not stop the daemon.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scratch::{Daemon, Scratch, rinotifyd, wait_for};

const CONFIG: &str = "[scheduler run]\ntype = shell\ncmd = echo {filename} >>@/ran\nlogname = own name\n\
                      [event_map map]\nIN_CLOSE_WRITE = run\n[watch src]\npath = @/src\nevent_map = map\n";

fn config() -> String {
    CONFIG.replace("own name", "own")
}

/// A daemon whose standard error is a pipe that the test reads, or does not.
struct Piped {
    child: Child,
    log: PipeReader,
}

impl Piped {
    fn start(scratch: &Scratch, config: &str, args: &[&str], journal: impl Fn(&str) -> String) -> Self {
        let (log, write) = std::io::pipe().unwrap();
        let write = File::from(OwnedFd::from(write));
        let metadata = write.metadata().unwrap();
        let mut command: Command = rinotifyd();
        command.arg("-c").arg(scratch.config(config)).args(args);
        command.env("JOURNAL_STREAM", journal(&format!("{}:{}", metadata.dev(), metadata.ino())));
        command.stdout(Stdio::null()).stderr(write);
        Self { child: command.spawn().unwrap(), log }
    }

    /// Ends it and returns what it logged and the test has not read.
    fn stop(&mut self) -> String {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let mut text = Vec::new();
        self.log.read_to_end(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        String::from_utf8(text).unwrap()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Writes a file until the daemon has noticed one: there is no log to read that from.
fn write_until_noticed(scratch: &Scratch) {
    wait_for(
        || {
            scratch.write("src/first", "");
            !scratch.read("ran").is_empty()
        },
        "command for a file",
    );
}

#[test]
fn a_line_has_time_level_name_message_and_fields() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let mut daemon = Daemon::start_ready(&scratch, &config(), &[]);
    let file = scratch.write("src/file", "");
    daemon.wait_log("task finished");
    let line = daemon.lines("start task").remove(0);
    daemon.stop();
    let (time, rest) = line.split_once(' ').unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(shape == "0000-00-00T00:00:00.000+00:00" || shape == "0000-00-00T00:00:00.000-00:00", "{line}");
    let expected = format!("info own: start task event=IN_CLOSE_WRITE path={} task_id=1", file.display());
    assert_eq!(rest, expected);
}

#[test]
fn names_cannot_forge_lines_or_control_a_terminal() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let mut daemon = Daemon::start_ready(&scratch, &config(), &["-d"]);
    scratch.write("src/a\n2026-01-01T00:00:00.000+00:00 info own: forged \x1b[2J\r\u{202e}\"=", "");
    daemon.wait_log("task finished");
    let log = daemon.stop();
    assert!(log.contains(r#"a\n2026-01-01T00:00:00.000+00:00 info own: forged \x1b[2J\r"#), "{log:?}");
    assert!(log.contains(r#"\"=" task_id=1"#), "{log:?}");
    assert!(!log.contains(['\x1b', '\r', '\u{202e}']), "{log:?}");
    assert!(
        !log.lines().any(|line| line.contains("own: forged") && line.starts_with("2026-01-01")),
        "{log:?}"
    );
}

#[test]
fn the_journal_gets_priorities_instead_of_times() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let failing = config().replace("[event_map", "[scheduler fails]\ntype = shell\ncmd = false\n[event_map");
    let failing = failing.replace("= run", "= run fails");
    let mut daemon = Piped::start(&scratch, &failing, &["-d"], str::to_owned);
    write_until_noticed(&scratch);
    let log = daemon.stop();
    for expected in ["<6>info daemon: ready ", "<7>debug own: command ", "<3>error fails: task failed "] {
        assert!(log.lines().any(|line| line.starts_with(expected)), "{expected}\n{log}");
    }
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    std::fs::remove_file(scratch.path("ran")).unwrap();
    // A process that only inherited the variable does not write to the journal.
    let mut daemon = Piped::start(&scratch, &config(), &[], |id| format!("{id}0"));
    write_until_noticed(&scratch);
    let log = daemon.stop();
    assert!(log.starts_with("20") && !log.contains("<6>"), "{log}");
}

#[test]
fn an_unread_log_stops_nothing_and_counts_what_it_dropped() {
    const FILES: usize = 1_000;
    let scratch = Scratch::new();
    scratch.dir("src");
    let mut daemon = Piped::start(&scratch, &config(), &["-d"], |_| String::new());
    write_until_noticed(&scratch);
    for number in 0..FILES {
        scratch.write(format!("src/{number}"), "");
    }
    let last = (FILES - 1).to_string();
    wait_for(|| scratch.lines("ran").contains(&last), "command for the last file, while the log is not read");
    let log = daemon.stop();
    let notice = log.lines().find(|line| line.contains("log lines dropped"));
    let notice =
        notice.unwrap_or_else(|| panic!("{} lines, nothing about dropped ones", log.lines().count()));
    let dropped = notice.split_once(": ").unwrap().1.split(' ').next().unwrap().parse::<usize>().unwrap();
    assert!(notice.contains(" warning ") && dropped > FILES, "{notice}");
    assert!(log.lines().all(|line| line.starts_with("20")), "half a line");
}
