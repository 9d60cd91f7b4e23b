//! Workers: programs that are kept running, with and without errors of their own.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scratch::{Daemon, Scratch, field, is_root, make_deep, remove_deep, wait_for};

/// Reads tasks, notes the paths' names in `ran`, answers.
pub const GOOD: &str = r#"
while read -r id event kind path src; do
    echo "${path##*/}" >>@/ran
    echo "$id ok"
done
"#;

/// A scheduler whose worker is the script `worker` in the scratch directory.
pub fn config(options: &str) -> String {
    format!(
        "[daemon]\nshutdown_timeout = 10\n[log]\nlevel = debug\n\
         [scheduler run]\ntype = worker\ncmd = /bin/sh @/worker\n{options}\n\
         [event_map map]\nIN_CLOSE_WRITE = run\nIN_MOVED_TO = run\n\
         [watch src]\npath = @/src\nevent_map = map\n"
    )
}

pub fn start(script: &str, options: &str) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    scratch.dir("src");
    scratch.write("worker", scratch.expand(script));
    let daemon = Daemon::start_ready(&scratch, &config(options), &[]);
    (scratch, daemon)
}

/// Makes a file by renaming. Files that are written and closed are no order: a child that another thread
/// starts may hold one open a moment longer.
fn create(scratch: &Scratch, name: &str) {
    scratch.write("new", "");
    scratch.rename("new", format!("src/{name}"));
}

/// What the test notes in `ran`, sorted.
fn ran(scratch: &Scratch) -> Vec<String> {
    let mut lines = scratch.lines("ran");
    lines.sort();
    lines
}

#[test]
fn one_process_does_all_tasks_and_ends_with_its_input() {
    let (scratch, mut daemon) = start(&format!("echo $$ >>@/pids{GOOD}echo end >>@/pids"), "");
    for number in 0..50 {
        scratch.write(format!("src/{number}"), "");
    }
    daemon.wait_lines(50, "task finished");
    assert_eq!(scratch.lines("pids").len(), 1, "no process is left or started again");
    let log = daemon.stop();
    assert_eq!(scratch.lines("ran").len(), 50);
    assert_eq!(scratch.lines("pids").last().unwrap(), "end", "it saw the end of its input");
    assert!(log.contains("worker ended worker=run/1 result=\"exit status 0\" unanswered=0"), "{log}");
    assert_eq!(log.matches("start worker").count(), 1);
}

#[test]
fn a_lazy_worker_starts_with_the_first_task_an_eager_one_with_the_daemon() {
    let (scratch, mut daemon) = start(&format!("echo x >>@/started{GOOD}"), "");
    assert!(!daemon.log().contains("start worker"));
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    daemon.stop();
    let (scratch, mut daemon) =
        start(&format!("echo x >>@/started{GOOD}"), "start = eager\ninstances = 3\nenv = A=b");
    daemon.wait_ran(&scratch, "started", 3);
    let log = daemon.stop();
    assert_eq!(log.matches("start worker").count(), 3);
    assert_eq!(log.matches("worker ended").count(), 3);
}

#[test]
fn a_task_fails_with_the_text_of_its_answer() {
    let script = "while read -r id rest; do echo \"$id error no room for ${id%%.*}\"; done";
    let (scratch, mut daemon) = start(script, "");
    scratch.write("src/file", "");
    let line = daemon.wait_line("task failed");
    assert!(line.contains("path=") && line.contains("error=\"no room for 1\""), "{line}");
    daemon.stop();
}

#[test]
fn names_of_any_bytes_arrive_in_both_formats() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = OsStr::from_bytes(b" a\tb\nc\\d\xff\"$(id) ");
    for (format, expected) in [
        ("tab", "1\tIN_CLOSE_WRITE\tfile\t@/src/ a\\tb\\nc\\\\d\\xff\"$(id) \t\n"),
        (
            "json",
            "{\"id\":\"1\",\"event\":\"IN_CLOSE_WRITE\",\"dir\":false,\
             \"path\":\"@/src/ a\\u0009b\\u000ac\\\\d\\udcff\\\"$(id) \",\"src_path\":\"\"}\n",
        ),
    ] {
        let script = "head -n 1 >@/seen; LC_ALL=C\n\
                      id=$(sed 's/^[^0-9]*\\([0-9]*[.][0-9a-f]*\\).*/\\1/' @/seen); echo $id >@/id; echo $id ok";
        let (scratch, mut daemon) = start(script, &format!("format = {format}"));
        scratch.write(scratch.path("src").join(name), "");
        daemon.wait_log("task finished");
        let id = scratch.read("id");
        assert_eq!(scratch.read("seen").replacen(id.trim(), "1", 1), scratch.expand(expected));
        daemon.stop();
    }
}

#[test]
fn a_renamed_file_has_its_source_and_a_directory_says_so() {
    let (scratch, mut daemon) = start("cat >@/seen", "dirs = yes\nack = no");
    scratch.write("src/a", "");
    daemon.wait_log("task finished");
    scratch.rename("src/a", "src/b");
    scratch.dir("d");
    scratch.rename("d", "src/d");
    let seen = daemon.wait_ran(&scratch, "seen", 3);
    assert_eq!(seen[1], scratch.expand("2\tIN_MOVED_TO\tfile\t@/src/b\t@/src/a"));
    assert_eq!(seen[2], scratch.expand("3\tIN_MOVED_TO\tdir\t@/src/d\t"));
    daemon.stop();
}

/// Runs the example with a shell that knows all the escapes.
#[test]
fn the_example_decodes_names_in_busybox() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let (scratch, mut daemon) = start("", "");
    let example = format!("{}/conf/examples/worker.sh", env!("CARGO_MANIFEST_DIR"));
    daemon.reload(
        &scratch,
        &config("max_jobs = 1").replace("/bin/sh @/worker", &format!("busybox ash {example}")),
    );
    let names: [(&[u8], &str); 5] = [
        (b"plain", "plain "),
        (b" two  blanks ", " two  blanks  "),
        (b"a\tb\\c\\x41", "a\\tb\\\\c\\\\x41 "),
        (b"-n $(id) `id` 'x\" *", "-n $(id) `id` 'x\\\" * "),
        (b"\xff\x1b\r%s", "\\xff\\x1b\\r%s "),
    ];
    for (name, _) in names {
        scratch.write(scratch.path("src").join(OsStr::from_bytes(name)), "");
    }
    scratch.write(scratch.path("src").join("new\nline\n"), "");
    daemon.wait_lines(6, "task finished");
    let log = daemon.stop();
    for (_, shown) in names {
        let line = scratch.expand(&format!("line=\"IN_CLOSE_WRITE file @/src/{shown}\""));
        assert!(log.contains(&line), "{line} in {log}");
    }
    let folder = scratch.expand("@/src");
    assert!(log.contains(&format!("line=\"IN_CLOSE_WRITE file {folder}/new\"\n")), "{log}");
    assert!(log.contains("line=line\n"), "{log}");
}

#[test]
fn as_many_tasks_are_in_flight_as_allowed_and_answers_come_in_any_order() {
    // Answers the last of three first.
    let script = "read -r a x; read -r b x; read -r c x; echo $c ok; echo $b ok; echo $a ok; cat >@/rest";
    let (scratch, mut daemon) = start(script, "max_jobs = 3");
    for number in 0..4 {
        scratch.write(format!("src/{number}"), "");
    }
    let finished = daemon.wait_lines(3, "task finished");
    let ids: Vec<_> = finished.iter().map(|line| field(line, "task_id")).collect();
    assert_eq!(ids, ["3", "2", "1"]);
    daemon.wait_ran(&scratch, "rest", 1);
    let log = daemon.log();
    let place = |text: &str| log.find(text).unwrap();
    assert!(place("start task event=IN_CLOSE_WRITE") < place("task finished"));
    let fourth = log.lines().position(|line| line.contains("start task") && line.contains("task_id=4"));
    let first_end = log.lines().position(|line| line.contains("task finished"));
    assert!(first_end < fourth, "{log}");
}

#[test]
fn instances_share_the_tasks() {
    let script = "echo $$ >>@/pids; until [ -e @/gate ]; do sleep 0.02; done\n\
                  while read -r id rest; do echo $$ >>@/ran; echo $id ok; done";
    let (scratch, mut daemon) = start(script, "instances = 3\nmax_jobs = 9");
    for number in 0..9 {
        scratch.write(format!("src/{number}"), "");
    }
    daemon.wait_ran(&scratch, "pids", 3);
    scratch.write("gate", "");
    let ran = daemon.wait_ran(&scratch, "ran", 9);
    for pid in scratch.lines("pids") {
        assert_eq!(ran.iter().filter(|line| **line == pid).count(), 3, "{ran:?}");
    }
    daemon.stop();
}

#[test]
fn workers_do_not_take_the_places_of_other_tasks() {
    let script = "cat >/dev/null";
    let (scratch, mut daemon) = start(script, "max_jobs = 8");
    let more = "[scheduler other]\ntype = shell\ncmd = echo {filename} >>@/other\n";
    let text = config("max_jobs = 8").replace("[daemon]", "[daemon]\nmax_jobs = 1");
    daemon.reload(&scratch, &(text.replace("IN_CLOSE_WRITE = run", "IN_CLOSE_WRITE = run other") + more));
    for number in 0..8 {
        scratch.write(format!("src/{number}"), "");
    }
    daemon.wait_ran(&scratch, "other", 8);
    daemon.wait_status(" running=8 ");
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}

#[test]
fn what_a_worker_says_beside_answers_is_logged() {
    let script = "echo starting; echo trouble >&2\n\
                  while read -r id rest; do echo; echo \"task ${id%%.*} ok\"; echo \"$id ok\"; done";
    let (scratch, mut daemon) = start(script, "logname = named");
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    for text in ["starting", "trouble", "\"task 1 ok\"", "\"\""] {
        daemon.wait_log(&format!("info named: output worker=run/1 line={text}"));
    }
    daemon.stop();
}

#[test]
fn output_null_and_inherit_are_about_what_is_not_an_answer() {
    let script = "while read -r id rest; do echo trouble >&2; echo \"$id ok\"; done";
    for (output, expected) in [("null", 0), ("inherit", 1)] {
        let (scratch, mut daemon) = start(script, &format!("output = {output}"));
        scratch.write("src/file", "");
        daemon.wait_log("task finished");
        let log = daemon.stop();
        assert_eq!(log.lines().filter(|line| *line == "trouble").count(), expected, "{log}");
        assert!(!log.contains("line=trouble"), "{log}");
    }
    let (scratch, mut daemon) = start("echo said; cat >/dev/null", "ack = no\noutput = log");
    scratch.write("src/file", "");
    daemon.wait_log("line=said");
    daemon.stop();
}

#[test]
fn the_environment_is_that_of_a_command() {
    let script = "{ umask; pwd; nice; echo $ONE $RINOTIFYD_SCHEDULER; id -un; } >&2; cat";
    let user = if is_root("that a worker runs as another user") { "user = nobody\n" } else { "" };
    let options = format!("{user}umask = 027\ncwd = @/src\nnice = 3\nenv = ONE=1\nstart = eager");
    let scratch = Scratch::new();
    scratch.open_to_all();
    scratch.dir("src");
    scratch.write("worker", script);
    let mut daemon = Daemon::start_ready(&scratch, &config(&options), &[]);
    for text in ["line=0027".to_owned(), scratch.expand("line=@/src"), "line=\"1 run\"".to_owned()] {
        daemon.wait_log(&text);
    }
    if !user.is_empty() {
        daemon.wait_log("line=nobody");
    }
    daemon.stop();
}

// Bad workers: a clear error, and no lost task.

#[test]
fn answers_for_tasks_that_it_does_not_have_change_nothing() {
    let script = "while read -r id rest; do zeros=0000000000000000; echo 99.$zeros ok; echo 99.$zeros error x\n\
                  echo 18446744073709551616.$zeros ok; echo ${id%%.*} ok; echo ${id%%.*}.$zeros error x\n\
                  echo $id ok; echo $id ok; done";
    let (scratch, mut daemon) = start(script, "");
    scratch.write("src/file", "");
    daemon.wait_lines(4, "worker answers for a task that it does not have worker=run/1 line=");
    let log = daemon.stop();
    assert_eq!(log.matches("task finished").count(), 1, "{log}");
    assert!(!log.contains("task failed"), "{log}");
    assert!(log.contains("output worker=run/1 line=\"18446744073709551616.0000000000000000 ok\""), "{log}");
    assert!(log.contains("output worker=run/1 line=\"1 ok\""), "{log}");
}

/// Even where a worker lets what its commands write go among its answers, a name cannot answer.
#[test]
fn a_name_answers_for_no_task() {
    let script = "while IFS=$(printf '\\t') read -r id event kind path src; do printf '%b\\n' \"$path\"; kept=\"$kept $id\"\n\
                  [ -e @/last ] && break; done; for id in $kept; do echo $id ok; done";
    let (scratch, mut daemon) = start(script, "max_jobs = 100");
    let numbers: Vec<_> = (1..9).map(|one| format!("{one} ok\n{one}.0000000000000000 ok\n")).collect();
    scratch.write("src/victim", "");
    daemon.wait_log("start task");
    scratch.write(format!("src/x\n{}", numbers.concat()), "");
    daemon.wait_lines(2, "worker answers for a task that it does not have");
    assert!(!daemon.log().contains("task finished"), "{}", daemon.log());
    scratch.write("last", "");
    scratch.write("src/last", "");
    daemon.wait_lines(3, "task finished");
    daemon.stop();
}

/// The token is another one each time that the daemon starts.
#[test]
fn nobody_can_know_a_token_before() {
    let script = "while read -r id rest; do echo $id >>@/ids; echo $id ok; done";
    let (scratch, mut daemon) = start(script, "");
    scratch.write("src/1", "");
    scratch.write("src/2", "");
    daemon.wait_lines(2, "task finished");
    daemon.stop();
    let mut daemon = Daemon::start_ready(&scratch, &config(""), &[]);
    scratch.write("src/1", "");
    daemon.wait_log("task finished");
    daemon.stop();
    let tokens: BTreeSet<_> =
        scratch.lines("ids").iter().map(|id| id.split_once('.').unwrap().1.to_owned()).collect();
    assert_eq!(tokens.len(), 3, "{tokens:?}");
    assert!(tokens.iter().all(|token| token.len() == 16), "{tokens:?}");
}

/// A line that is longer than a pipe, for a worker that ends in the middle of it.
#[test]
fn a_long_line_comes_whole_or_not_at_all() {
    for ack in ["yes", "no"] {
        let script = "[ -e @/second ] && exec sh @/good; head -c 1000 >/dev/null; >@/second; kill -9 $$";
        let (scratch, mut daemon) = start(script, &format!("ack = {ack}"));
        let good = "while read -r id event kind path src; do echo \"$event $kind ${#path} ${path##*/}\" >>@/ran\n\
                    echo $id ok; done";
        scratch.write("good", scratch.expand(good));
        let text = config(&format!("ack = {ack}"))
            .replace("path = @/src", "path = @/src\nrec = yes\nauto_add = yes");
        daemon.reload(&scratch, &text);
        make_deep(&scratch.path("src"), 'n', 520);
        let len = scratch.path("src").as_os_str().len() + 520 * 256 + "/file".len();
        let ran = daemon.wait_ran(&scratch, "ran", 1);
        assert_eq!(ran, [format!("IN_CLOSE_WRITE file {len} file")], "ack = {ack}");
        daemon.wait_log("task finished");
        daemon.stop();
        remove_deep(&scratch.path("src"));
    }
}

#[test]
fn a_line_beyond_the_limit_fails_its_task() {
    let (scratch, mut daemon) = start(GOOD, "");
    let text = config("").replace("path = @/src", "path = @/src\nrec = yes\nauto_add = yes");
    daemon.reload(&scratch, &text);
    // Four bytes each in the line.
    make_deep(&scratch.path("src"), '\x01', 1040);
    let line = daemon.wait_line("task failed");
    assert!(
        line.contains("error=\"the path is too long for a worker: more than 1048576 bytes\""),
        "{}",
        line.len()
    );
    scratch.write("src/after", "");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["after"]);
    daemon.stop();
    remove_deep(&scratch.path("src"));
}

#[test]
fn garbage_is_logged_and_the_answer_behind_it_counts() {
    let script = "while read -r id rest; do printf '\\377\\376 %s ok\\0\\033[1m\\n' $id\n\
                  head -c 1000000 /dev/zero | tr '\\0' x; echo; echo $id ok; done";
    let (scratch, mut daemon) = start(script, "");
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    let line = daemon.wait_line("line=xxx");
    assert_eq!(field(&line, "bytes_cut"), (1_000_000 - 4096).to_string());
    assert!(daemon.log().contains("ok\\x00\\x1b[1m\""), "{}", daemon.log());
    let log = daemon.stop();
    assert_eq!(log.matches("task finished").count(), 1);
}

#[test]
fn a_megabyte_without_a_newline_before_the_end_is_no_answer() {
    let script = "[ -e @/second ] && exec sh @/good; >@/second; read -r id rest\n\
                  printf '%s ok' \"$id\"; head -c 1000000 /dev/zero | tr '\\0' x";
    let (scratch, mut daemon) = start(script, "");
    scratch.write("good", scratch.expand(GOOD));
    scratch.write("src/file", "");
    daemon.wait_log("task finished");
    let log = daemon.stop();
    assert!(log.contains("task runs again: its worker has ended"), "{log}");
    assert_eq!(scratch.read("ran"), "file\n");
}

#[test]
fn a_worker_that_dies_is_replaced_and_its_tasks_run_again() {
    let script = "[ -e @/second ] && exec sh @/good; >@/second\n\
                  read -r a rest; read -r b rest; echo $a ok; read -r rest; kill -9 $$";
    let (scratch, mut daemon) = start(script, "max_jobs = 4");
    scratch.write("good", scratch.expand(GOOD));
    for number in 1..=4 {
        create(&scratch, &number.to_string());
    }
    daemon.wait_lines(4, "task finished");
    let line = daemon.wait_line("worker ended worker=run/1");
    assert!(line.contains("error") && line.contains("result=\"signal 9\" unanswered=3"), "{line}");
    let log = daemon.stop();
    assert_eq!(log.matches("task runs again: its worker has ended").count(), 3, "{log}");
    assert_eq!(ran(&scratch), ["2", "3", "4"], "the first was answered");
}

#[test]
fn a_worker_that_exits_at_once_is_started_again_more_and_more_slowly() {
    let script = "[ -e @/mended ] && exec sh @/good; exit 3";
    let (scratch, mut daemon) = start(script, "");
    scratch.write("good", scratch.expand(GOOD));
    for number in 0..10 {
        scratch.write(format!("src/{number}"), "");
    }
    let ended = daemon.wait_lines(3, "worker ended");
    assert!(ended[0].contains("error run: ") && ended[0].contains("result=\"exit status 3\""), "{ended:?}");
    let slower = daemon.wait_lines(2, "worker is not started again at once");
    assert_eq!(field(&slower[0], "delay"), "0.200");
    assert_eq!(field(&slower[1], "delay"), "0.400");
    scratch.write("mended", "");
    daemon.wait_lines(10, "task finished");
    daemon.stop();
    assert_eq!(scratch.lines("ran").len(), 10);
}

#[test]
fn a_task_that_kills_its_worker_does_not_keep_the_others_from_running() {
    let script = "while read -r id event kind path src; do case $path in */poison) kill -9 $$;; esac\n\
                  echo \"${path##*/}\" >>@/ran; echo $id ok; done";
    let (scratch, mut daemon) = start(script, "max_jobs = 4");
    scratch.write("src/poison", "");
    for number in 0..9 {
        scratch.write(format!("src/{number}"), "");
    }
    daemon.wait_ran(&scratch, "ran", 9);
    let line = daemon.wait_line("task failed");
    assert!(line.contains("/src/poison ") && line.contains("its worker has ended 3 times"), "{line}");
    scratch.write("src/poison", "");
    daemon.wait_lines(2, "task failed");
    daemon.stop();
    assert_eq!(ran(&scratch), (0..9).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_worker_that_cannot_be_started_fails_its_tasks() {
    let (scratch, mut daemon) = start("", "");
    let text = config("").replace("/bin/sh @/worker", "@/missing");
    daemon.reload(&scratch, &text);
    scratch.write("src/1", "");
    scratch.write("src/2", "");
    let lines = daemon.wait_lines(2, "task failed");
    assert!(lines[0].contains("error=\"cannot start the worker\""), "{lines:?}");
    let line = daemon.wait_line("error run: cannot start the worker worker=");
    assert!(line.contains("ENOENT") && line.contains("/missing"), "{line}");
    // It is there, and may be started at once.
    scratch.write("missing", format!("#!/bin/sh\n{}", scratch.expand(GOOD)));
    fs::set_permissions(scratch.path("missing"), Permissions::from_mode(0o755)).unwrap();
    scratch.write("src/3", "");
    daemon.wait_log("task finished");
    daemon.stop();
}

#[test]
fn an_eager_worker_that_cannot_be_started_is_tried_again() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let text = config("start = eager").replace("/bin/sh @/worker", "@/missing");
    let mut daemon = Daemon::start_ready(&scratch, &text, &[]);
    daemon.wait_lines(2, "error run: cannot start the worker");
    scratch.write("new", format!("#!/bin/sh\necho here >&2\n{}", scratch.expand(GOOD)));
    fs::set_permissions(scratch.path("new"), Permissions::from_mode(0o755)).unwrap();
    scratch.rename("new", "missing");
    daemon.wait_log("line=here");
    daemon.stop();
}

#[test]
fn a_worker_that_says_nothing_times_out_and_is_replaced() {
    let script = "[ -e @/second ] && exec sh @/good; >@/second; trap '' TERM; cat >/dev/null";
    let (scratch, mut daemon) = start(script, "timeout = 300ms\nmax_jobs = 1");
    scratch.write("good", scratch.expand(GOOD));
    scratch.write("src/1", "");
    daemon.wait_log("start task");
    scratch.write("src/2", "");
    daemon.wait_log("error run: task timed out, its worker is terminated");
    daemon.wait_log("worker ignores SIGTERM, killed");
    let failed = daemon.wait_line("task failed");
    assert_eq!(field(&failed, "task_id"), "1");
    daemon.wait_log("task finished");
    daemon.stop();
    assert_eq!(scratch.read("ran"), "2\n");
}

#[test]
fn a_timeout_fails_one_task_and_the_others_of_the_worker_run_again() {
    let script = "[ -e @/second ] && exec sh @/good; >@/second; cat >/dev/null";
    let (scratch, mut daemon) = start(script, "timeout = 1\nmax_jobs = 2");
    scratch.write("good", scratch.expand(GOOD));
    scratch.write("src/1", "");
    daemon.wait_log("start task");
    // Half of the first one's time is over before the second begins.
    let (from, mut to) = (daemon.wait_line("start task"), String::new());
    while to.is_empty() || crate::scratch::millis_between(&from, &to) < 500 {
        to = daemon.status();
    }
    scratch.write("src/2", "");
    daemon.wait_log("task finished");
    let log = daemon.stop();
    assert_eq!(log.matches("task timed out").count(), 1, "{log}");
    assert_eq!(scratch.read("ran"), "2\n");
    assert!(log.contains("task runs again"), "{log}");
}

#[test]
fn a_worker_that_closes_its_output_and_keeps_running_is_terminated() {
    let script = "[ -e @/second ] && exec sh @/good; >@/second; read -r x; exec >&-; sleep 60";
    let (scratch, mut daemon) = start(script, "");
    scratch.write("good", scratch.expand(GOOD));
    scratch.write("src/file", "");
    daemon.wait_log("error run: worker has closed its standard output and lives on, terminated worker=run/1");
    daemon.wait_log("task finished");
    daemon.stop();
    assert_eq!(scratch.read("ran"), "file\n");
}

#[test]
fn a_worker_that_closes_its_input_and_keeps_running_is_terminated() {
    for ack in ["yes", "no"] {
        let script = "[ -e @/second ] && exec sh @/good; exec <&-; >@/second; sleep 60";
        let (scratch, mut daemon) = start(script, &format!("start = eager\nack = {ack}"));
        scratch.write("good", scratch.expand(GOOD));
        daemon.wait_for(|| scratch.path("second").exists(), "the first worker");
        scratch.write("src/file", "");
        daemon.wait_log("error run: worker has closed its standard input and lives on, terminated");
        daemon.wait_ran(&scratch, "ran", 1);
        daemon.stop();
    }
}

#[test]
fn a_process_that_keeps_the_pipes_does_not_keep_the_tasks() {
    // The child inherits both pipes and outlives its parent, first in its group, then out of it.
    for child in ["sleep 60", "setsid sleep 60"] {
        let script = format!(
            "[ -e @/second ] && exec sh @/good; read -r x; {child} & echo $! >@/child; >@/second; exit 1"
        );
        let (scratch, mut daemon) = start(&script, "output = null");
        scratch.write("good", scratch.expand(GOOD));
        scratch.write("src/file", "");
        daemon.wait_log("task finished");
        daemon.stop();
        assert_eq!(scratch.read("ran"), "file\n");
        let pid = Pid::from_raw(scratch.read("child").trim().parse().unwrap());
        if child.starts_with("setsid") {
            kill(pid, Signal::SIGKILL).unwrap();
        } else {
            wait_for(|| is_gone(pid), "what a dead worker leaves in its group is killed");
        }
    }
}

/// There is no such process, or it is a zombie.
fn is_gone(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

#[test]
fn a_worker_that_does_not_read_delays_no_other_task() {
    let script = "until [ -e @/gate ]; do sleep 0.02; done\ncat >@/seen";
    let (scratch, mut daemon) = start(script, "ack = no\nmax_jobs = 100000");
    let long = "x".repeat(200);
    for number in 0..2_000 {
        create(&scratch, &format!("{long}{number}"));
    }
    wait_taken(&mut daemon, 2_000);
    let status = daemon.status();
    let number = |key| field(&status, key).parse::<u64>().unwrap();
    assert_eq!(number("done") + number("ready") + number("running"), 2_000, "{status}");
    assert!((1..=64).contains(&number("running")) && number("ready") > 1_000, "{status}");
    scratch.write("gate", "");
    daemon.wait_status(" done=2000 ");
    daemon.stop();
    let numbers = scratch.lines("seen").iter().map(|line| field_number(line)).collect::<Vec<_>>();
    assert_eq!(numbers, (0..2_000).collect::<Vec<_>>(), "all, in order");
}

/// Waits until the daemon has made this many tasks; they may have ended.
fn wait_taken(daemon: &mut Daemon, count: u64) {
    wait_for(
        || {
            let status = daemon.status();
            let number = |key| field(&status, key).parse::<u64>().unwrap();
            number("done") + number("ready") + number("running") == count
        },
        "all tasks are there",
    );
}

/// The number at the end of the path of a line for a worker.
fn field_number(line: &str) -> u32 {
    line.split('\t').nth(3).unwrap().rsplit('x').next().unwrap().parse().unwrap()
}

#[test]
fn a_worker_that_neither_reads_nor_answers_leaves_its_tasks_to_the_next() {
    let script = "[ -e @/second ] && exec sh @/good; >@/second; echo $$ >@/pid; exec sleep 60";
    let (scratch, mut daemon) = start(script, "max_jobs = 1000");
    scratch.write("good", scratch.expand(GOOD));
    let long = "x".repeat(200);
    for number in 0..1_000 {
        scratch.write(format!("src/{long}{number}"), "");
    }
    wait_taken(&mut daemon, 1_000);
    let pid: i32 = daemon.wait_ran(&scratch, "pid", 1)[0].parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    daemon.wait_status(" done=1000 ");
    daemon.stop();
    let ran: BTreeSet<_> = scratch.lines("ran").into_iter().collect();
    assert_eq!((ran.len(), scratch.lines("ran").len()), (1_000, 1_000), "each once");
}

#[test]
fn lines_that_a_dead_worker_had_not_read_go_to_the_next() {
    let script = "[ -e @/second ] && exec cat >>@/seen; >@/second\n\
                  read -r line; printf '%s\\n' \"$line\" >>@/seen; echo $$ >@/pid; exec sleep 60";
    let (scratch, mut daemon) = start(script, "ack = no");
    scratch.write("src/0", "");
    let pid: i32 = daemon.wait_ran(&scratch, "pid", 1)[0].parse().unwrap();
    for number in 1..100 {
        scratch.write(format!("src/{number}"), "");
    }
    daemon.wait_status(" done=100 ");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let seen = daemon.wait_ran(&scratch, "seen", 100);
    let ids: Vec<u32> = seen.iter().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    daemon.stop();
}

#[test]
fn the_status_tells_of_workers() {
    let (scratch, mut daemon) = start("cat >/dev/null", "instances = 2");
    scratch.write("src/1", "");
    scratch.write("src/2", "");
    daemon.wait_lines(2, "start task");
    daemon.status();
    daemon.wait_log("status of worker worker=run instances=2 starts=2 unanswered=2");
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}

#[test]
fn a_dry_run_starts_no_worker_and_shows_the_line() {
    let scratch = Scratch::new();
    scratch.dir("src");
    let mut daemon = Daemon::start_ready(&scratch, &config("start = eager"), &["-n"]);
    scratch.write("src/file", "");
    let line = daemon.wait_line("dry run");
    assert!(
        line.contains("command=\"/bin/sh ") && line.contains(r#"line="1\tIN_CLOSE_WRITE\tfile\t/"#),
        "{line}"
    );
    assert!(!daemon.stop().contains("start worker"));
}

#[test]
fn while_running_and_singlejob_are_as_for_commands() {
    let script = "while read -r id event kind path src; do echo \"$id ${path##*/}\" >>@/ran\n\
                  until [ -e @/gate ]; do sleep 0.02; done; echo $id ok; done";
    for (option, expected) in [("rerun", 2), ("skip", 1)] {
        let (scratch, mut daemon) = start(script, &format!("while_running = {option}"));
        scratch.write("src/file", "");
        daemon.wait_ran(&scratch, "ran", 1);
        scratch.write("src/file", "");
        daemon.wait_log(if option == "skip" { "event skipped" } else { "will run again" });
        scratch.write("gate", "");
        daemon.wait_lines(expected, "task finished");
        daemon.stop();
        assert_eq!(scratch.lines("ran").len(), expected);
    }
    let (scratch, mut daemon) = start(GOOD, "singlejob = yes\ndelay = 300ms");
    create(&scratch, "1");
    create(&scratch, "2");
    daemon.wait_log("task finished");
    daemon.stop();
    assert_eq!(scratch.read("ran"), "2\n");
}
