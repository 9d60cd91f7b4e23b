//! What `contrib` has: Python jobs, and configurations of pyinotifyd and incron.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::scratch::{Daemon, Scratch, rinotifyd};

fn contrib(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/contrib/{name}", env!("CARGO_MANIFEST_DIR")))
}

/// Runs a program of `contrib` with the arguments given, where rinotifyd is installed.
fn convert(name: &str, args: &[&str]) -> Output {
    let installed = PathBuf::from(env!("CARGO_BIN_EXE_rinotifyd"));
    let path = format!("{}:{}", installed.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("python3");
    command.arg(contrib(name)).args(args).env("PATH", path);
    command.output().expect("python3 is installed")
}

/// Converts a configuration of pyinotifyd into the directory `new`.
fn convert_config(scratch: &Scratch, config: &str) -> (Option<i32>, String) {
    let config = scratch.write("config.py", scratch.expand(config));
    let target = scratch.path("new");
    drop(std::fs::remove_dir_all(&target));
    let output = convert("from-pyinotifyd", &["-o", target.to_str().unwrap(), config.to_str().unwrap()]);
    (output.status.code(), text(&output.stderr))
}

/// Converts a table of incron, in which AT stands for its placeholder, into the directory `new`.
fn convert_table(scratch: &Scratch, table: &str) -> (Option<i32>, String) {
    let table = scratch.write("table", scratch.expand(table).replace("$AT", "$@"));
    let target = scratch.path("new");
    drop(std::fs::remove_dir_all(&target));
    let output = convert("from-incrontab", &["-o", target.to_str().unwrap(), table.to_str().unwrap()]);
    (output.status.code(), text(&output.stderr))
}

/// A daemon with the configuration in the directory `new`.
fn start_converted(scratch: &Scratch) -> Daemon {
    let mut command = rinotifyd();
    command.arg("-c").arg(scratch.path("new/rinotifyd.conf"));
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    daemon
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `-t` says of a configuration.
fn tested(path: &PathBuf) -> (bool, String) {
    let output = rinotifyd().arg("-t").arg("-c").arg(path).output().unwrap();
    (output.status.success(), text(&output.stderr))
}

fn start(jobs: &str, function: &str, options: &str) -> (Scratch, Daemon) {
    let scratch = Scratch::new();
    scratch.dir("src");
    let jobs = scratch.write("jobs.py", scratch.expand(jobs));
    let cmd = format!("python3 {} {}:{function}", contrib("rinotifyd-py").display(), jobs.display());
    let config = format!(
        "[scheduler job]\ntype = worker\ncmd = {cmd}\ndirs = yes\n{options}\n[event_map map]\n\
         IN_CLOSE_WRITE = job\nIN_MOVED_TO = job\n[watch src]\npath = @/src\nevent_map = map\n"
    );
    let daemon = Daemon::start_ready(&scratch, &config, &[]);
    (scratch, daemon)
}

#[test]
fn a_python_job_sees_the_attributes_of_pyinotify() {
    let jobs = r#"
async def job(event, task_id):
    names = "dir mask maskname name path pathname".split()
    with open("@/seen", "a", errors="surrogateescape") as file:
        print(*[getattr(event, name) for name in names], getattr(event, "src_pathname", None),
              repr(task_id), sep="|", file=file)
"#;
    for format in ["tab", "json"] {
        let (scratch, mut daemon) = start(jobs, "job", &format!("max_jobs = 1\nformat = {format}"));
        scratch.write("src/a\\b \u{fc}", "");
        daemon.wait_lines(1, "task finished");
        scratch.rename("src/a\\b \u{fc}", "src/c");
        scratch.dir("d");
        scratch.rename("d", "src/d");
        daemon.wait_lines(3, "task finished");
        daemon.stop();
        let expected = [
            "False|8|IN_CLOSE_WRITE|a\\b \u{fc}|@/src|@/src/a\\b \u{fc}|None|'1'",
            "False|128|IN_MOVED_TO|c|@/src|@/src/c|@/src/a\\b \u{fc}|'2'",
            "True|1073741952|IN_MOVED_TO|IN_ISDIR|d|@/src|@/src/d|None|'3'",
        ];
        let expected = expected.map(|line| scratch.expand(&line.replace("|@/src|", "|@/src/|")));
        let expected = expected.map(|line| line.replace("/src/|", "/src|"));
        assert_eq!(scratch.lines("seen"), expected);
    }
}

#[test]
fn a_name_of_any_bytes_reaches_the_file_in_python() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let jobs = "import os\nasync def job(event, task_id):\n    os.rename(event.pathname, '@/got')\n";
    for format in ["tab", "json"] {
        let (scratch, mut daemon) = start(jobs, "job", &format!("format = {format}\nenv = LC_ALL=C"));
        scratch.write(scratch.path("src").join(OsStr::from_bytes(b"\xff\xc3\xbc\n\\x41\t\"'")), "here");
        daemon.wait_for(|| scratch.read("got") == "here", "the file under its new name");
        daemon.stop();
    }
}

#[test]
fn python_jobs_run_side_by_side_and_fail_by_themselves() {
    let jobs = r#"
import asyncio
together = asyncio.Event()
count = 0

async def job(event, task_id):
    global count
    print("begins", task_id)
    if event.name == "bad":
        raise ValueError("no\nroom")
    if event.name == "exit":
        raise SystemExit(3)
    count += 1
    if count == 3:
        together.set()
    await together.wait()
"#;
    let (scratch, mut daemon) = start(jobs, "job", "max_jobs = 10");
    for name in ["1", "2", "bad", "exit", "3"] {
        scratch.write(format!("src/{name}"), "");
    }
    daemon.wait_lines(3, "task finished");
    let failed = daemon.wait_lines(2, "task failed");
    assert!(failed[0].contains("error=\"ValueError: no room\""), "{failed:?}");
    assert!(failed[1].contains("error=\"SystemExit: 3\""), "{failed:?}");
    let log = daemon.stop();
    assert!(log.contains("line=\"begins 1\""), "print goes to the log: {log}");
    assert!(log.contains("raise ValueError"), "the traceback is in the log: {log}");
    assert_eq!(log.matches("start worker").count(), 1, "{log}");
}

#[test]
fn a_job_file_with_an_error_is_named_with_its_line() {
    for (jobs, expected) in [
        ("import os\n\nasync def job(event, task_id)\n    pass\n", "jobs.py:3: SyntaxError"),
        ("import os\nimport not_there\n", "jobs.py:2: ModuleNotFoundError: No module named 'not_there'"),
        ("def job(event, task_id):\n    pass\n", "job is not a function that begins with \\\"async def\\\""),
        ("async def jobb(event, task_id):\n    pass\n", "there is no job in it"),
    ] {
        let (scratch, mut daemon) = start(jobs, "job", "");
        scratch.write("src/file", "");
        daemon.wait_log(expected);
        daemon.wait_log("worker ended worker=job/1 result=\"exit status 1\" unanswered=1");
        // Nothing is lost meanwhile.
        scratch.replace("jobs.py", "async def job(event, task_id):\n    pass\n");
        daemon.wait_log("task finished");
        daemon.stop();
    }
}

const PYINOTIFYD: &str = r#"
import os
from logging import getLogger as get_logger
import pyinotify

PREFIX = "seen: "
LOG = get_logger("jobs")

def helper(text):
    return PREFIX + text

async def custom_job(event, task_id):
    with open("@/ran", "a") as file:
        file.write(helper(event.name) + "\n")

def unused():
    return shell

LOG.warning("not at the top of a job file")
task = TaskScheduler(job=custom_job, delay=1, global_vars=globals(), logname="jobs", dirs=True)
shell = ShellScheduler("echo '{pathname}' >>@/shell", None, True)
script = ShellScheduler(cmd="for name in {pathname}; do\n    echo \"$name\" >>@/script\ndone\n")
setLoglevel("WARNING", logname="daemon")
setLoglevel(INFO)
pyinotifyd = Pyinotifyd(shutdown_timeout=7)
pyinotifyd.add_watch(path=["@/src", "@/oth*"], default_sched=task, rec=True,
                     event_map={"IN_OPEN": None, "IN_CLOSE_WRITE": [task, shell, script], "IN_DELETE": Cancel(task)},
                     exclude_filter=pyinotify.ExcludeFilter(["^.* $", r".*\.tmp\Z"]))
"#;

#[test]
fn a_configuration_of_pyinotifyd_is_converted_and_runs() {
    let scratch = Scratch::new();
    scratch.dir("src");
    scratch.dir("other");
    let config = scratch.write("config.py", scratch.expand(PYINOTIFYD));
    let target = scratch.path("new");
    let output = convert("from-pyinotifyd", &["-o", target.to_str().unwrap(), config.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let conf = scratch.read("new/rinotifyd.conf");
    let conf_path = target.join("rinotifyd.conf");
    assert_eq!(tested(&conf_path), (true, String::new()), "{conf}");
    for line in [
        "shutdown_timeout = 7",
        "level = warning",
        "cmd = echo {pathname} >>@/shell",
        "path = @/oth*",
        "default_sched = task",
        "IN_OPEN = none",
        "IN_CLOSE_WRITE = task shell script",
        "IN_DELETE = cancel:task",
        r"exclude_filter = ^.* $",
        r"exclude_filter = .*\.tmp\z",
        "while_running = skip",
        "logname = jobs",
        "# its command has several lines, which are in script.sh now",
    ] {
        assert!(conf.lines().any(|found| found == scratch.expand(line)), "{line} in:\n{conf}");
    }
    let jobs = scratch.read("new/jobs.py");
    assert!(
        jobs.contains("def helper(text)") && jobs.contains("PREFIX = ") && !jobs.contains("unused"),
        "{jobs}"
    );
    assert!(
        jobs.contains("# Left out, as no job needs it by name: line ") && !jobs.contains("TaskSched"),
        "{jobs}"
    );
    let mut command = rinotifyd();
    command.arg("-c").arg(&conf_path);
    let mut daemon = Daemon::spawn(command);
    // The daemon's own level is warning.
    daemon.wait_log("watching path=");
    scratch.write("src/it's \"$(id)\"", "");
    scratch.write("src/x.tmp", "");
    assert_eq!(daemon.wait_ran(&scratch, "ran", 1), ["seen: it's \"$(id)\""]);
    assert_eq!(daemon.wait_ran(&scratch, "shell", 1), [scratch.expand("@/src/it's \"$(id)\"")]);
    assert_eq!(daemon.wait_ran(&scratch, "script", 1), [scratch.expand("@/src/it's \"$(id)\"")]);
    daemon.stop();
    let again = convert("from-pyinotifyd", &["-o", target.to_str().unwrap(), config.to_str().unwrap()]);
    assert!(text(&again.stderr).contains("rinotifyd.conf: File exists"), "nothing is overwritten");
}

#[test]
fn what_cannot_be_converted_is_said_with_its_line() {
    let scratch = Scratch::new();
    for (config, status, expected) in [
        ("import os\nimport not_there\n", 1, "config.py:2: ModuleNotFoundError: No module named 'not_there'"),
        ("x = (\n", 1, "config.py:1: SyntaxError"),
        ("import sys\n\nsys.exit(4)\n", 1, "config.py:3: SystemExit: 4"),
        (
            "s = ShellScheduler(cmd='x', wrong=1)\n",
            1,
            "config.py:1: TypeError: ShellScheduler takes no 'wrong'",
        ),
        (
            "p = {'IN_NOTHING': None}\nWatch('/', event_map=p)\n",
            1,
            "config.py:2: ValueError: there is no event",
        ),
        ("pyinotifyd = 7\n", 1, "\"pyinotifyd\" is no Pyinotifyd instance"),
        (
            "class Mine(ShellScheduler):\n    pass\npyinotifyd = Pyinotifyd(Watch('/', default_sched=Mine('id')))\n",
            3,
            "not converted: shell is a class of its own, Mine",
        ),
        (
            "s = ShellScheduler('id')\npyinotifyd = Pyinotifyd(Watch('/', default_sched=s, exclude_filter=['(?!x)']))\n",
            3,
            "not converted: exclude_filter (?!x) has look-ahead, which rinotifyd lacks",
        ),
    ] {
        let path = scratch.write("config.py", config);
        let target = scratch.path("new");
        drop(std::fs::remove_dir_all(&target));
        let output = convert("from-pyinotifyd", &["-o", target.to_str().unwrap(), path.to_str().unwrap()]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{config}: {said}");
        assert!(said.contains(expected), "{config}: {said}");
        if status == 3 {
            let (passes, said) = tested(&target.join("rinotifyd.conf"));
            assert!(passes, "{said}");
            assert!(scratch.read("new/rinotifyd.conf").contains("# NOT CONVERTED: "));
        }
    }
}

#[test]
fn a_table_of_incron_is_converted_and_runs() {
    let scratch = Scratch::new();
    scratch.dir("y");
    scratch.dir("src/a b/below");
    scratch.dir("src/a b/.hidden");
    scratch.dir("flat/below");
    scratch.dir("loop");
    let table = scratch.write(
        "table",
        scratch
            .expand(
                "# a comment\n\n\
             @/src/a\\ b IN_CLOSE_WRITE,IN_CREATE echo \"$AT\" '$#' \"$AT/$#\" $% $& $$HOME >>@/ran\n\
             @/flat\tIN_CLOSE,recursive=false echo $AT $# >>@/flat-ran\n\
             @/loop 8,IN_NO_LOOP echo $# >>@/loop-ran; until [ -e @/gate ]; do sleep 0.02; done\n\
             @/x IN_NONSENSE true\nrelative IN_OPEN true\n@/y IN_OPEN,IN_ONESHOT true\n",
            )
            .replace("$AT", "$@"),
    );
    let output = convert("from-incrontab", &[table.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("table:6: IN_NONSENSE is unknown in a mask"), "{said}");
    assert!(said.contains("table:7: the path relative is not absolute"), "{said}");
    assert!(said.contains("table:8: IN_ONESHOT: the command runs for each event"), "{said}");
    let config = scratch.write("rinotifyd.conf", output.stdout);
    assert_eq!(tested(&config), (true, String::new()));
    let mut command = rinotifyd();
    command.arg("-c").arg(&config).env("HOME", "/home/me");
    let mut daemon = Daemon::spawn(command);
    daemon.ready();
    scratch.write("src/a b/.hidden/no", "");
    scratch.dir("src/a b/new");
    daemon.wait_ran(&scratch, "ran", 1);
    scratch.write("src/a b/below/it's", "");
    let ran = daemon.wait_ran(&scratch, "ran", 2);
    assert_eq!(ran[0], scratch.expand("@/src/a b new @/src/a b/new IN_CREATE 1073742080 /home/me"));
    assert_eq!(ran[1], scratch.expand("@/src/a b/below it's @/src/a b/below/it's IN_CLOSE_WRITE 8 /home/me"));
    scratch.write("flat/below/no", "");
    scratch.write("flat/yes", "");
    assert_eq!(daemon.wait_ran(&scratch, "flat-ran", 1), [scratch.expand("@/flat yes")]);
    scratch.write("loop/1", "");
    daemon.wait_ran(&scratch, "loop-ran", 1);
    scratch.write("loop/2", "");
    daemon.wait_log("event skipped");
    scratch.write("gate", "");
    let log = daemon.stop();
    assert_eq!(scratch.lines("loop-ran"), ["1"], "{log}");
    assert!(!log.contains("hidden/no event"), "{log}");
    let user = convert("from-incrontab", &["--user", "nobody", table.to_str().unwrap()]);
    assert!(text(&user.stdout).contains("user = nobody\n"));
}

const USED_TWICE: &str = r#"
rule = FileManagerRule(action="move", src_re="^@/src/(.*)$", dst_re=r"@/dst/\1")
nothing = FileManagerScheduler(rules=[])
one = FileManagerScheduler(rules=[rule, rule], logname="mein Löffel")
two = FileManagerScheduler(rules=rule, logname="mein_L_ffel")
map = {"IN_CLOSE_WRITE": [one, nothing], "IN_DELETE": Cancel(one)}
shell = ShellScheduler(cmd="true", logname="a b")
other = EventMap({"IN_CREATE": [shell, two, nothing]})
watch = Watch("@/src", event_map=other, logname="a b")
setLoglevel(INFO, logname="a b")
setLoglevel("ERROR", logname="a_b")
enableSyslog("INFO", "/dev/log", "a b")
pyinotifyd = Pyinotifyd([watch, Watch("@", event_map=map), watch, Watch("@/x", event_map=map),
                         Watch("@/y", event_map=map, default_sched=shell), Watch("@/z", event_map=other)])
"#;

#[test]
fn what_a_configuration_of_pyinotifyd_uses_twice_is_written_once() {
    let scratch = Scratch::new();
    assert_eq!(convert_config(&scratch, USED_TWICE), (Some(0), String::new()));
    assert!(tested(&scratch.path("new/rinotifyd.conf")).0);
    let lines = scratch.lines("new/rinotifyd.conf");
    let count = |wanted: &str| lines.iter().filter(|line| *line == wanted).count();
    assert_eq!(["rule", "m"].map(|name| count(&format!("rules = {name}"))), [2, 0]);
    for once in [
        "[rule rule]",
        "[watch watch]",
        "[event_map map]",
        "[event_map map2]",
        "[event_map other]",
        "[log a_b]",
        "[log a_b2]",
        "[syslog a_b2]",
        "logname = mein_L_ffel",
        "logname = mein_L_ffel2",
        "# scheduler nothing has no rule, so it does nothing and is left out",
        "# the log name \"a b\" is a_b2 here",
        "IN_CREATE = shell two",
    ] {
        assert_eq!(count(once), 1, "{once} in {lines:#?}");
    }
    assert_eq!(count("event_map = map"), 2);
}

/// A name that is harmless only where it is quoted.
const HOSTILE: &str = "it's \"$(id)\" `id` a  b";

const QUOTES: &str = r#"
one = ShellScheduler(cmd="""printf '%s\\n' "file {pathname} done" 'is {pathname}: {maskname}' "$(basename "{pathname}")" """
    """`basename {pathname}` "{maskname}{pathname}" {{pathname} "${none:-{pathname}}" '{filename}' >@/one # {pathname}""")
inner = ShellScheduler(cmd="""sh -c 'printf "%s\\n" {pathname}' >@/inner; sh -c "printf '%s\\n' {pathname}" >>@/inner""")
script = ShellScheduler(cmd="""{
    printf '%s\\n' {pathname} "file {pathname} done" 'is {pathname}'  # {pathname}
    cat <<END
{maskname} of "{pathname}"
END
} >@/script""")
pyinotifyd = Pyinotifyd(Watch("@/src", event_map={"IN_CREATE": [one, inner, script]}))
"#;

#[test]
fn placeholders_within_quotes_are_converted() {
    let scratch = Scratch::new();
    scratch.dir("src");
    assert_eq!(
        convert_config(&scratch, QUOTES),
        (Some(0), String::new()),
        "{}",
        scratch.read("new/rinotifyd.conf")
    );
    let mut daemon = start_converted(&scratch);
    scratch.write(format!("src/{HOSTILE}"), "");
    daemon.wait_lines(3, "task finished");
    daemon.stop();
    let path = scratch.expand(&format!("@/src/{HOSTILE}"));
    let basename: Vec<_> = HOSTILE.split_whitespace().collect();
    let mut expected = vec![format!("file {path} done"), format!("is {path}: IN_CREATE"), HOSTILE.to_owned()];
    // Without quotes, as it was.
    expected.extend(basename.iter().map(|&word| word.to_owned()));
    expected.extend([format!("IN_CREATE{path}"), format!("{{{path}"), path.clone(), "{filename}".to_owned()]);
    assert_eq!(scratch.lines("one"), expected);
    assert_eq!(scratch.lines("inner"), [path.clone(), path.clone()]);
    let expected =
        [path.clone(), format!("file {path} done"), format!("is {path}"), format!("IN_CREATE of \"{path}\"")];
    assert_eq!(scratch.lines("script"), expected);
}

#[test]
fn a_table_of_incron_may_quote_and_watch_single_files() {
    let scratch = Scratch::new();
    scratch.dir("src/below");
    scratch.write("file", "");
    let table = "@/file IN_CLOSE_WRITE printf '%s\\n' $AT \"$AT\" $# \"$#\" \"$AT/$#\" 'is $AT' >@/ran-file\n\
                 @/src IN_CREATE printf '%s\\n' \"$AT/$#\" \"$AT\"/'$#' 'a $# b' \"in $AT\" \"${none:-$#}\" \
                 \"`basename \"$AT\"`\" \"$$(basename $#)\" {pathname} >@/ran\n";
    assert_eq!(
        convert_table(&scratch, table),
        (Some(0), String::new()),
        "{}",
        scratch.read("new/rinotifyd.conf")
    );
    let mut daemon = start_converted(&scratch);
    scratch.write("file", "changed");
    daemon.wait_lines(1, "task finished");
    let file = scratch.expand("@/file");
    let expected = [&file, &file, "", &file, &scratch.expand("is @/file")];
    assert_eq!(scratch.lines("ran-file"), expected);
    scratch.write(format!("src/below/{HOSTILE}"), "");
    daemon.wait_lines(2, "task finished");
    daemon.stop();
    let folder = scratch.expand("@/src/below");
    let path = format!("{folder}/{HOSTILE}");
    let expected = [
        path.clone(),
        path,
        format!("a {HOSTILE} b"),
        format!("in {folder}"),
        HOSTILE.to_owned(),
        "below".to_owned(),
        HOSTILE.to_owned(),
        "{pathname}".to_owned(),
    ];
    assert_eq!(scratch.lines("ran"), expected);
}

#[test]
fn a_result_that_does_not_load_is_an_error() {
    let scratch = Scratch::new();
    let rule = "FileManagerRule('move', '^/a$', '/b', user='no-such-user')";
    let config =
        format!("s = FileManagerScheduler({rule})\npyinotifyd = Pyinotifyd(Watch('/', default_sched=s))\n");
    let (status, said) = convert_config(&scratch, &config);
    assert_eq!(status, Some(3), "{said}");
    let file = scratch.path("new/rinotifyd.conf").display().to_string();
    let expected = format!("from-pyinotifyd: rinotifyd does not load the configuration:\n{file}:");
    assert!(said.starts_with(&expected), "{said}");
    let (status, said) = convert_table(&scratch, "/x IN_CREATE echo $((1+$#))\n");
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("{filename} stands in arithmetic"), "{said}");
    // A backslash between backquotes takes quotes away.
    let (status, said) = convert_table(&scratch, r"/x IN_CREATE echo `printf %s \\$#`");
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("{filename} stands behind a backslash"), "{said}");
    let table = scratch.path("table");
    let again = ["-o", scratch.path("new").to_str().unwrap(), table.to_str().unwrap()].map(str::to_owned);
    let again = convert("from-incrontab", &again.each_ref().map(String::as_str));
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("new/rinotifyd.conf: File exists"), "nothing is overwritten");
}

#[test]
fn a_result_that_cannot_be_tested_is_said() {
    let scratch = Scratch::new();
    let table = scratch.write("table", "/x IN_CREATE true\n");
    let output = convert("from-incrontab", &["--rinotifyd", "/no/such/program", table.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(
        said.contains("/no/such/program: No such file or directory: test the configuration with"),
        "{said}"
    );
    // As it is on most machines that run these tests.
    let output = Command::new("python3").arg(contrib("from-incrontab")).arg(&table).output().unwrap();
    let path = std::env::var("PATH").unwrap() + ":/usr/local/sbin:/usr/sbin";
    let is_installed = std::env::split_paths(&path).any(|folder| folder.join("rinotifyd").exists());
    let said = text(&output.stderr);
    assert!(
        is_installed || said.contains("rinotifyd is not installed here: test the configuration"),
        "{said}"
    );
}

#[test]
fn every_program_explains_itself() {
    for name in ["rinotifyd-py", "from-pyinotifyd", "from-incrontab"] {
        let output = convert(name, &["--help"]);
        assert!(output.status.success() && text(&output.stdout).contains("usage: "), "{name}");
    }
}
