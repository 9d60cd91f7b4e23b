//! The loader as a whole: every refusal and every warning, by its text, against a made-up machine.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;

use super::*;
use crate::config::schema::{Kind, Naming, SECTIONS, Value};
use crate::config::trust::{Kind as PartKind, Ownership, Part};
use crate::config::{Action, Address, Format, Output, Trigger, WhileRunning};
use crate::event::EventKind;
use crate::pattern::{Component, PathPattern};
use crate::quote::{hostile, is_unsafe};
use crate::record::Level;
use crate::types::Identity;

mod files;
mod hints;
mod jobs;
mod ownership;
mod rules;
mod watches;

const ROOTS: Ownership = Ownership { uid: 0, gid: 0, mode: 0o644 };

/// A machine with some files, the user `ann`, the group `staff`, and a broken user database for
/// the name `broken`. The main file is `m`.
struct Fake {
    files: BTreeMap<PathBuf, FakeFile>,
    root: bool,
    /// Paths outside the configuration that lead to something.
    there: Vec<&'static str>,
}

/// What a file holds, and whose it and its directory, `/etc`, are.
#[derive(Clone)]
struct FakeFile {
    text: Vec<u8>,
    own: Ownership,
    directory: Ownership,
}

impl Fake {
    fn new(main: impl AsRef<[u8]>) -> Self {
        Self { files: BTreeMap::new(), root: true, there: vec!["/books", "/tmp", "/"] }.with("m", main)
    }

    fn with(mut self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let directory = Ownership { mode: 0o755, ..ROOTS };
        let file = FakeFile { text: text.as_ref().to_vec(), own: ROOTS, directory };
        self.files.insert(path.into(), file);
        self
    }

    fn owned(mut self, path: &str, file: Ownership, directory: Ownership) -> Self {
        let known = self.files.get_mut(Path::new(path)).unwrap();
        (known.own, known.directory) = (file, directory);
        self
    }

    fn load(&self) -> Result<Loaded, Diagnostics> {
        load(Path::new("m"), self)
    }

    /// The headlines of all errors and warnings.
    fn said(&self) -> String {
        let said = self.load().map_or_else(|errors| errors, |loaded| loaded.warnings);
        said.iter().map(|item| said.headline(item)).collect::<Vec<_>>().join("\n")
    }
}

impl Host for Fake {
    fn read(&self, path: &Path, may_pass: &mut dyn FnMut(Part<'_>) -> bool) -> io::Result<Option<Vec<u8>>> {
        let found = self.files.get(path).ok_or_else(|| io::Error::other("no such file"))?;
        let parent = found.directory;
        let (kind, own) = (PartKind::Directory, found.directory);
        let directory = Part { path: Path::new("/etc"), kind, own, parent: ROOTS, is_hearsay: false };
        let file = Part { path, kind: PartKind::File, own: found.own, parent, is_hearsay: false };
        Ok((may_pass(directory) && may_pass(file)).then(|| found.text.clone()))
    }

    fn list(&self, base: &Path, pattern: &PathPattern) -> io::Result<Vec<PathBuf>> {
        let [components @ .., last] = pattern.components.as_slice() else { return Ok(Vec::new()) };
        let mut folder = base.to_path_buf();
        for component in components {
            let Component::Literal(name) = component else { return Err(io::Error::other("too deep")) };
            folder.push(std::ffi::OsStr::from_bytes(name));
        }
        if let Component::Literal(name) = last {
            return Ok(vec![folder.join(std::ffi::OsStr::from_bytes(name))]);
        }
        let inside = |path: &&PathBuf| {
            path.parent() == Some(&folder)
                && path.file_name().is_some_and(|name| last.matches(name.as_encoded_bytes()))
        };
        Ok(self.files.keys().filter(inside).cloned().collect())
    }

    fn exists(&self, path: &[u8]) -> bool {
        self.there.iter().any(|there| there.as_bytes() == path)
    }

    fn has_match(&self, pattern: &PathPattern) -> bool {
        self.there.iter().any(|path| {
            let names: Vec<&[u8]> = path.as_bytes().split(|&byte| byte == b'/').skip(1).collect();
            names.len() == pattern.components.len()
                && names.iter().zip(&pattern.components).all(|(name, component)| component.matches(name))
        })
    }

    fn finds_program(&self, name: &[u8]) -> bool {
        !name.starts_with(b"no-such")
    }

    fn user(&self, name: &str, group: Option<u32>) -> io::Result<Option<Identity>> {
        let (uid, own) = match name {
            "ann" | "1000" => (1000, 100),
            "root" => (0, 0),
            "broken" => return Err(io::Error::other("out of order")),
            _ => return Ok(None),
        };
        let gid = group.unwrap_or(own);
        Ok(Some(Identity { uid, gid, groups: vec![gid, 44], name: name.into(), home: b"/".to_vec() }))
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        Ok((name == "staff").then_some(50))
    }

    fn watches_max(&self) -> Option<u64> {
        Some(1_000)
    }

    fn is_root(&self) -> bool {
        self.root
    }
}

/// A scheduler `s`, a map `m` that uses it, a watch `w` that uses that: nothing to warn of.
const SCHEDULER: &str = "[scheduler s]\ntype = shell\ncmd = id\n";
const MAP: &str = "[event_map m]\nIN_CREATE = s\n";
const WATCH: &str = "[watch w]\npath = /p\nevent_map = m\n";

fn says(text: impl AsRef<[u8]>, expected: &str) {
    let text = text.as_ref();
    assert_eq!(Fake::new(text).said(), expected, "{}", String::from_utf8_lossy(text));
}

/// A further line in the scheduler is line 4 of the file.
fn scheduler_says(line: &str, expected: &str) {
    says(format!("{SCHEDULER}{line}\n{MAP}{WATCH}"), expected);
}

/// A further line in the event map is line 6.
fn map_says(line: &str, expected: &str) {
    says(format!("{SCHEDULER}{MAP}{line}\n{WATCH}"), expected);
}

/// A further line in the watch is line 9.
fn watch_says(line: &str, expected: &str) {
    says(format!("{SCHEDULER}{MAP}{WATCH}{line}\n"), expected);
}

fn config(text: &str) -> Config {
    let loaded = Fake::new(text).load().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings.to_string(), "");
    loaded.config
}

#[test]
fn defaults_are_the_originals() {
    let config = config(&format!("{SCHEDULER}{MAP}{WATCH}"));
    assert_eq!((config.daemon.shutdown_timeout_ms, config.daemon.max_jobs), (30_000, 0));
    assert_eq!((&*config.daemon.logname, config.log.default), ("daemon", Level::Info));
    let scheduler = &config.schedulers[0];
    assert!(scheduler.files && !scheduler.dirs && !scheduler.singlejob);
    assert_eq!((scheduler.delay_ms, scheduler.max_delay_ms, scheduler.timeout_ms), (0, 0, 86_400_000));
    assert_eq!((scheduler.while_running, &*scheduler.logname), (WhileRunning::Rerun, "s"));
    assert_eq!(*scheduler.action.run().unwrap(), crate::config::Run { cwd: None, ..Default::default() });
    let watch = &config.watches[0];
    assert!(!watch.rec && !watch.auto_add && watch.exclude.is_empty());
    assert_eq!((&*watch.logname, watch.event_map, watch.paths.len()), ("w", 0, 1));
}

#[test]
fn every_key_is_taken_over() {
    let config = config(
        "[daemon]\nshutdown_timeout = 1m\nmax_jobs = 8\nlogname = d\n\
         [log]\nlevel = warning\n[log L]\nlevel = debug\n[syslog]\n\
         [syslog L]\naddress = tcp:h:1\nlevel = debug\nfacility = local1\n\
         [scheduler s]\ntype = exec\ncmd = echo 'b c' {pathname}\nfiles = no\ndirs = yes\ndelay = 1.5\n\
         max_delay = 9\nsinglejob = yes\nmax_jobs = 2\nwhile_running = skip\ntimeout = 1h\nlogname = L\n\
         user = ann\ngroup = staff\ncwd = /tmp\numask = 027\nenv = A=1\n  B=2 3\nenv = C=\nnice = -5\n\
         output = null\n\
         [watch w]\npath = /a\n  /b*\npath = /c\ndefault_sched = s\nrec = yes\nauto_add = on\n\
         exclude_filter = /a/x\n  /a/y\nlogname = L\n",
    );
    assert_eq!((config.daemon.shutdown_timeout_ms, config.daemon.max_jobs), (60_000, 8));
    assert!(config.log.enabled(Level::Debug, "L") && !config.log.enabled(Level::Info, "d"));
    let scheduler = &config.schedulers[0];
    assert!(!scheduler.files && scheduler.dirs && scheduler.singlejob);
    assert_eq!((scheduler.delay_ms, scheduler.max_delay_ms, scheduler.timeout_ms), (1500, 9000, 3_600_000));
    assert_eq!((scheduler.max_jobs, scheduler.while_running), (2, WhileRunning::Skip));
    assert!(matches!(&scheduler.action, Action::Exec { words, .. } if words.len() == 3));
    let run = scheduler.action.run().unwrap();
    let identity = run.identity.clone().unwrap();
    assert_eq!((identity.uid, identity.gid, identity.groups), (1000, 50, vec![50, 44]));
    assert_eq!((run.cwd.as_deref(), run.umask, run.nice), (Some(b"/tmp".as_slice()), Some(0o27), -5));
    assert_eq!(
        run.env.iter().map(|(_, value)| value.as_slice()).collect::<Vec<_>>(),
        [b"1".as_slice(), b"2 3", b""]
    );
    assert_eq!(run.output, Output::Null);
    let [all, own] = config.syslog.as_slice() else { panic!("{:?}", config.syslog) };
    let default = Address::Path(b"/dev/log".to_vec());
    assert_eq!((&all.name, &all.address, all.level, all.facility), (&None, &default, Level::Info, "daemon"));
    let tcp = Address::Tcp("h".into(), 1);
    assert_eq!(
        (own.name.as_deref(), &own.address, own.level, own.facility),
        (Some("L"), &tcp, Level::Debug, "local1")
    );
    assert!(config.to_syslog(Level::Info, "x") && !config.to_syslog(Level::Debug, "x"));
    assert!(config.to_syslog(Level::Debug, "L"));
    let watch = &config.watches[0];
    let paths: Vec<_> = watch.paths.iter().map(|path| path.text.clone()).collect();
    assert_eq!(paths, [b"/a".as_slice(), b"/b*", b"/c"]);
    assert!(watch.rec && watch.auto_add && watch.excludes(b"/a/yz") && !watch.excludes(b"/b/a/y"));
    assert_eq!(
        config.event_maps[watch.event_map].mask(),
        EventKind::ALL.into_iter().fold(0, |mask, kind| mask | kind.bit())
    );
}

#[test]
fn single_events_override_the_default_of_a_map() {
    let config = config(&format!(
        "{SCHEDULER}[scheduler t]\ntype = shell\ncmd = id\n{WATCH}\
         [event_map m]\ndefault_sched = s\nIN_OPEN = none\nIN_ACCESS =\nIN_MODIFY = cancel:s t\nIN_CREATE = t\n  s\n"
    ));
    let map = &config.event_maps[0];
    assert_eq!(map.triggers(EventKind::Delete), [Trigger::Schedule(0)]);
    assert!(map.triggers(EventKind::Open).is_empty() && map.triggers(EventKind::Access).is_empty());
    assert_eq!(map.triggers(EventKind::Modify), [Trigger::Cancel(0), Trigger::Schedule(1)]);
    assert_eq!(map.triggers(EventKind::Create), [Trigger::Schedule(1), Trigger::Schedule(0)]);
}

#[test]
fn who_a_task_runs_as() {
    let identity = |lines: &str| {
        let config = config(&format!("{SCHEDULER}{lines}\n{MAP}{WATCH}"));
        config.schedulers[0].action.run().unwrap().identity.clone().map(|who| (who.uid, who.gid))
    };
    assert_eq!(identity(""), None);
    assert_eq!(identity("user = ann"), Some((1000, 100)));
    assert_eq!(identity("user = 1000"), Some((1000, 100)));
    assert_eq!(identity("user = ann\ngroup = staff"), Some((1000, 50)));
    assert_eq!(identity("group = staff"), Some((0, 50)));
}

#[test]
fn sections_that_cannot_be() {
    let rest = format!("{SCHEDULER}{MAP}{WATCH}");
    says(
        format!("[deamon]\nx = 1\n{rest}"),
        "m:1:2: error: unknown section \"deamon\", did you mean daemon?",
    );
    says(format!("[xyz]\n{rest}"), "m:1:2: error: unknown section \"xyz\"");
    says(format!("[daemon d]\n{rest}"), "m:1:9: error: [daemon] has no name");
    says(
        format!("[watch]\npath = /a\nevent_map = m\n{rest}"),
        "m:1:1: error: a name is missing: [watch NAME]",
    );
    says(format!("[log a/b]\n{rest}"), "m:1:7: error: \"a/b\" is not a name: letters, digits, _ . - only");
    says(format!("{rest}{WATCH}"), "m:9:1: error: duplicate [watch w]: the first is at m:6:1");
    says(
        format!("{rest}[watch w]\npath = a\nevent_map = m\n"),
        "m:9:1: error: duplicate [watch w]: the first is at m:6:1\n\
         m:10:8: error: \"a\" is not an absolute path: it must start with /",
    );
    says(format!("[log]\n{rest}[log]\n"), "m:10:1: error: duplicate [log]: the first is at m:1:1");
    says(
        format!("[syslog]\naddress = udp:x\n{rest}"),
        "m:2:15: error: \"x\" is not HOST:PORT; an IPv6 address stands between brackets",
    );
    says(
        format!("[syslog s]\nfacility = demon\n{rest}"),
        "m:2:12: error: \"demon\" is none of: kern, user, mail, daemon, auth, syslog, lpr, news, uucp, cron, \
         authpriv, ftp, local0, local1, local2, local3, local4, local5, local6, local7, did you mean daemon?",
    );
}

#[test]
fn keys_that_cannot_be() {
    watch_says(
        "exlude_filter = x",
        "m:9:1: error: unknown key \"exlude_filter\" in [watch], did you mean exclude_filter?",
    );
    watch_says("colour = red", "m:9:1: error: unknown key \"colour\" in [watch]");
    map_says(
        "IN_WRITE_CLOSE = s",
        "m:6:1: error: unknown key \"IN_WRITE_CLOSE\" in [event_map], did you mean IN_CLOSE_WRITE?",
    );
    scheduler_says("cmd = ls", "m:4:1: error: duplicate key \"cmd\": the first is at m:3:1");
    scheduler_says(
        "delay = 1\n  files = no",
        "m:5:3: error: \"delay\" takes one value, but this line continues it: a key is not indented",
    );
    scheduler_says("settle = no", "m:4:1: error: \"settle\" is not supported yet");
}

#[test]
fn what_is_not_built_is_refused_everywhere() {
    for section in SECTIONS.iter().filter(|section| section.built) {
        for key in section.keys.iter().filter(|key| !key.built) {
            let said = Fake::new(format!("[{} x]\n{} = 1\n", section.word, key.name)).said();
            let expected = format!("m:2:1: error: \"{}\" is not supported yet", key.name);
            assert!(said.lines().any(|line| line == expected), "{said}");
        }
    }
}

/// A key that the schema lists and nothing reads would be ignored without a word.
#[test]
fn every_key_is_read() {
    for section in SECTIONS.iter().filter(|section| section.built) {
        for key in section.keys.iter().filter(|key| key.built) {
            let bad = match key.value {
                Value::Path | Value::Address | Value::File => "no/such/path",
                Value::Assignment => "no assignment",
                Value::Regex => "(",
                Value::Glob => "**",
                Value::Replacement => r"\x",
                Value::Command => "{pathnam}",
                _ => "!nothing",
            };
            let variants: &[&str] = if key.types.is_empty() { &["", "shell", "delete"] } else { key.types };
            let name = if section.naming == Naming::Never { "" } else { " x" };
            let is_read = |variant: &&str| {
                let chooser = match section.kind {
                    Kind::Scheduler | Kind::Job if key.name != "type" => {
                        format!("type = {variant}\ncmd = /bin/true\n")
                    }
                    Kind::Rule if key.name != "action" => format!("action = {variant}\nsrc_re = /(.)\n"),
                    _ => String::new(),
                };
                let chooser = chooser.replace(&format!("{} = /bin/true\n", key.name), "");
                let chooser = chooser.replace(&format!("{} = /(.)\n", key.name), "");
                let before = format!("[{}{name}]\n{chooser}", section.word);
                let said = Fake::new(format!("{before}{} = {bad}\n", key.name)).said();
                let place = format!("m:{}:{}", before.lines().count() + 1, key.name.len() + 4);
                said.lines().any(|line| line.starts_with(&place))
            };
            assert!(variants.iter().any(is_read), "[{}] {}", section.word, key.name);
        }
    }
}

#[test]
fn what_a_scheduler_refuses() {
    scheduler_says(
        "delay = soon",
        "m:4:9: error: \"soon\" is not a duration: a number of seconds, or with ms, s, m, h or d",
    );
    scheduler_says("timeout = -1", "m:4:11: error: \"-1\" is a negative duration");
    scheduler_says("delay = 4000d", "m:4:9: error: \"4000d\" is longer than ten years");
    scheduler_says(
        "max_jobs = -1",
        "m:4:12: error: \"-1\" is out of range: it must be between 0 and 4194304",
    );
    scheduler_says("nice = 20", "m:4:8: error: \"20\" is out of range: it must be between -20 and 19");
    scheduler_says("umask = 088", "m:4:9: error: \"088\" is not an octal number up to 0777");
    scheduler_says("files = maybe", "m:4:9: error: \"maybe\" is neither yes nor no");
    scheduler_says(
        "output = nul",
        "m:4:10: error: \"nul\" is none of: log, inherit, null, did you mean null?",
    );
    scheduler_says("cwd = tmp", "m:4:7: error: \"tmp\" is not an absolute path: it must start with /");
    scheduler_says("env = A", "m:4:7: error: \"A\" is not NAME=VALUE");
    scheduler_says("logname = a b", "m:4:12: error: \"a b\" is not a name: letters, digits, _ . - only");
    scheduler_says("delay = 2\nmax_delay = 1", "m:5:1: error: max_delay is shorter than delay");
    scheduler_says("user = bob", "m:4:8: error: there is no user \"bob\" on this machine");
    scheduler_says("user = broken", "m:4:8: error: cannot look up user \"broken\": out of order");
    scheduler_says("group = bob", "m:4:9: error: there is no group \"bob\" on this machine");
}

#[test]
fn a_command_that_cannot_be() {
    let rest = format!("{MAP}{WATCH}");
    let check =
        |scheduler: &str, expected: &str| says(format!("[scheduler s]\n{scheduler}\n{rest}"), expected);
    check("type = shell", "m:1:1: error: [scheduler s] needs cmd = COMMAND");
    check("type = shell\ncmd =", "m:3:1: error: [scheduler s] needs cmd = COMMAND");
    check("cmd = x", "m:1:1: error: [scheduler s] needs type = shell, exec, files, worker");
    check("type = files", "m:1:1: error: [scheduler s] needs rules = RULE");
    check(
        "type = shel\ncmd = x",
        "m:2:8: error: \"shel\" is none of: shell, exec, files, worker, did you mean shell?",
    );
    check("type = exec\ncmd = a 'b", "m:3:9: error: the quote ' is never closed");
    check("type = exec\ncmd = a \"b", "m:3:9: error: the quote \" is never closed");
    check("type = exec\ncmd = a\\", "m:3:8: error: a backslash at the end escapes nothing");
    check("type = exec\ncmd = ''", "m:3:7: error: the program's name is empty");
}

#[test]
fn a_worker_has_keys_of_its_own() {
    let rest = format!("{MAP}{WATCH}");
    let text = |lines: &str| format!("[scheduler s]\ntype = worker\ncmd = a 'b c'\n{lines}\n{rest}");
    let worker = |lines: &str| config(&text(lines)).schedulers[0].action.worker().cloned().expect("a worker");
    let default = worker("");
    assert_eq!(default.words, [c"a".to_owned(), c"b c".to_owned()]);
    assert_eq!((default.instances, default.ack, default.eager), (1, true, false));
    assert_eq!(default.format, Format::Tab);
    let other = worker("instances = 3\nack = no\nstart = eager\nformat = json");
    assert_eq!((other.instances, other.ack, other.eager), (3, false, true));
    assert_eq!(other.format, Format::Json);
    let check = |lines: &str, expected: &str| says(text(lines), expected);
    check("instances = 0", "m:4:13: error: \"0\" is out of range: it must be between 1 and 1000");
    check("format = text", "m:4:10: error: \"text\" is none of: tab, json");
    check("start = boot", "m:4:9: error: \"boot\" is none of: lazy, eager");
    check(
        "instances = 3\nmax_jobs = 2",
        "m:4:1: warning: only 2 of the 3 instances can have a task, because max_jobs = 2",
    );
    scheduler_says("instances = 2", "m:4:1: error: \"instances\" is only for type = worker");
    says(
        text("").replace("'b c'", "{pathname}"),
        "m:3:9: error: {pathname} has no value here: a worker gets its tasks on standard input",
    );
    says(
        text("").replace("'b c'", "| b"),
        "m:3:9: warning: | is an ordinary argument here: only type = shell runs a shell",
    );
}

#[test]
fn what_an_event_map_refuses() {
    map_says("IN_OPEN = t", "m:6:11: error: there is no scheduler \"t\"");
    map_says("IN_OPEN = s t", "m:6:13: error: there is no scheduler \"t\"");
    map_says("IN_OPEN = cancel:t", "m:6:18: error: there is no scheduler \"t\"");
    map_says("IN_OPEN = s none", "m:6:13: error: \"none\" must stand alone");
    map_says("IN_OPEN = s s", "m:6:13: error: \"s\" stands here twice");
    map_says(
        "IN_OPEN = cansel:s",
        "m:6:11: error: only \"cancel:\" can stand before a scheduler, did you mean cancel?",
    );
    says(
        format!("[scheduler convert]\ntype = shell\ncmd = id\n[event_map m]\nIN_OPEN = convrt\n{WATCH}"),
        "m:5:11: error: there is no scheduler \"convrt\", did you mean convert?",
    );
}

#[test]
fn what_a_watch_refuses() {
    let check = |lines: &str, expected: &str| says(format!("{SCHEDULER}{MAP}[watch w]\n{lines}\n"), expected);
    check("event_map = m", "m:6:1: error: [watch w] needs path = PATH");
    check("path = /a", "m:6:1: error: [watch w] needs event_map or default_sched");
    check(
        "path = /a\nevent_map = m\ndefault_sched = s",
        "m:9:1: error: [watch w] has both event_map and default_sched",
    );
    check("path = /a\nevent_map = n", "m:8:13: error: there is no event map \"n\"");
    check("path = /a\ndefault_sched = t", "m:8:17: error: there is no scheduler \"t\"");
    check("path = a\nevent_map = m", "m:7:8: error: \"a\" is not an absolute path: it must start with /");
    check(
        "path = /a/../b\nevent_map = m",
        "m:7:8: error: \"/a/../b\" holds a . or .. component: write the path out",
    );
    watch_says("exclude_filter = /p(b", "m:9:20: error: bad regular expression: unclosed group");
    watch_says(
        "exclude_filter = /p/a\n  /b(?=c)",
        "m:10:5: error: bad regular expression: look-ahead, (?=...), is not supported",
    );
    watch_says("exclude_filter_file = x", "m:9:23: error: cannot read \"x\": no such file");
}

#[test]
fn there_are_only_so_many_sections_and_paths() {
    let sections = |text: &dyn Fn(usize) -> String| (0..=10_000).map(text).collect::<String>();
    let map = "[scheduler s]\ntype = exec\ncmd = c\n[event_map m]\nIN_OPEN = s\n";
    let cases = [
        (sections(&|at| format!("[scheduler s{at}]\ntype = exec\ncmd = c\n")), "sections [scheduler]"),
        (sections(&|at| format!("[watch w{at}]\npath = /d\nevent_map = m\n")) + map, "sections [watch]"),
        (format!("{map}[watch w]\nevent_map = m\n") + &sections(&|_| "path = /d\n".to_owned()), "paths"),
    ];
    for (text, what) in cases {
        let said = Fake::new(&text).said();
        assert!(said.contains(&format!("error: there are more than 10000 {what}")), "{said:.300}");
    }
}

#[test]
fn errors_of_an_exclude_file_point_into_it() {
    let text = format!("{SCHEDULER}{MAP}{WATCH}exclude_filter_file = x\n");
    let fake = Fake::new(&text).with("x", "# (\n\n  /p/a#b  \r\n /c(\n");
    assert_eq!(fake.said(), "x:4:4: error: bad regular expression: unclosed group");
    let fake = Fake::new(&text).with("x", "# (\n\n  /p/a#b  \r\n");
    let watch = &fake.load().unwrap().config.watches[0];
    assert_eq!(watch.exclude.texts().count(), 1);
    assert!(watch.excludes(b"/p/a#b"));
}

#[test]
fn all_errors_are_reported_at_once_with_their_lines() {
    let errors =
        Fake::new("[scheduler s]\ntype = shell\ncmd = id\ndelya = 1\n[watch w]\npath = a\nevent_map = x\n");
    let shown = errors.load().unwrap_err().to_string();
    let expected = "\
m:4:1: error: unknown key \"delya\" in [scheduler], did you mean delay?
    delya = 1
    ^~~~~
m:6:8: error: \"a\" is not an absolute path: it must start with /
    path = a
           ^
m:7:13: error: there is no event map \"x\"
    event_map = x
                ^
";
    assert_eq!(shown, expected);
}

#[test]
fn everything_that_leads_nowhere_is_warned_of() {
    let rest = format!("{SCHEDULER}{MAP}{WATCH}");
    says("", "m: warning: there is no [watch NAME] and no [job NAME]: nothing is watched");
    says(
        format!("{rest}[scheduler t]\ntype = shell\ncmd = id\n"),
        "m:9:1: warning: nothing starts scheduler t",
    );
    says(
        format!("{rest}[scheduler t]\ntype = shell\ncmd = id\n[event_map n]\nIN_OPEN = cancel:t\n"),
        "m:9:1: warning: nothing starts scheduler t\nm:12:1: warning: no watch uses event map n",
    );
    says(
        format!("{rest}[event_map n]\n[watch v]\npath = /v\nevent_map = n\n"),
        "m:10:1: warning: watch v triggers nothing: its events start no task",
    );
    watch_says(
        "exclude_filter = /[a-z]",
        "m:6:1: warning: its exclude filter leaves out the watch path \"/p\" itself",
    );
    scheduler_says(
        "files = no",
        "m:4:1: warning: scheduler s takes neither files nor directories\n\
         m:7:1: warning: watch w triggers nothing: its events start no task",
    );
    scheduler_says(
        "delay = 31",
        "m:4:1: warning: tasks of scheduler s that wait at shutdown are cancelled: \
         its delay (31s) is longer than shutdown_timeout (30s)",
    );
    says(
        "[scheduler t]\ntype = shell\ncmd = id\nlogname = sched\n[log shced]\n[watch w]\npath = /a\ndefault_sched = t\n",
        "m:5:1: warning: nothing logs under the name shced, did you mean sched?",
    );
}

#[test]
fn mistakes_in_commands_and_lists_are_warned_of() {
    let rest = format!("{MAP}{WATCH}");
    let check = |lines: &str, expected: &str| says(format!("[scheduler s]\n{lines}\n{rest}"), expected);
    check(
        "type = exec\ncmd = a {pathnam}",
        "m:3:9: warning: {pathnam} is not a placeholder, did you mean {pathname}?",
    );
    check(
        "type = shell\ncmd = a '{pathname}' \"{pathname}\"",
        "m:3:10: error: {pathname} stands between single quotes, where sh takes everything as it is written: \
         use double quotes or none",
    );
    check(
        "type = shell\ncmd = a\nenv = RINOTIFYD_PATH=x",
        "m:4:7: warning: \"RINOTIFYD_PATH\" is set by the daemon for each task",
    );
    for kind in ["exec", "shell"] {
        let column = if kind == "exec" { 7 } else { 19 };
        check(
            &format!("type = {kind}\ncmd = ssh host rm {{pathname}}"),
            &format!(
                "m:3:{column}: warning: {{pathname}} is read once more by the shell of the other machine, so \
                 that a name could run a command there: write {{pathname@Q}}, which is quoted for that shell"
            ),
        );
    }
    check(
        "type = exec\ncmd = a > b",
        "m:3:9: warning: > is an ordinary argument here: only type = shell runs a shell",
    );
    watch_says(
        "exclude_glob = a\n  rec = yes",
        "m:10:3: warning: this is an item of \"exclude_glob\": keys and sections are not indented",
    );
    watch_says(
        "exclude_filter = /p/a\n  [watch v]",
        "m:10:3: warning: this is an item of \"exclude_filter\": keys and sections are not indented",
    );
}

#[test]
fn only_root_can_run_tasks_as_others() {
    for (key, value, column) in [("user", "ann", 8), ("group", "staff", 9)] {
        let mut fake = Fake::new(format!("{SCHEDULER}{key} = {value}\n{MAP}{WATCH}"));
        fake.root = false;
        assert_eq!(
            fake.said(),
            format!("m:4:{column}: error: only root can run tasks as another user or group")
        );
    }
}

#[test]
fn values_that_are_no_text_arrive_unchanged() {
    let text = [
        SCHEDULER.as_bytes(),
        MAP.as_bytes(),
        b"[watch w]\npath = /\xff\nevent_map = m\nexclude_filter = /\xff/\xfe",
    ]
    .concat();
    let config = Fake::new(text).load().unwrap().config;
    assert_eq!(config.watches[0].paths[0].text, b"/\xff");
    assert!(config.watches[0].excludes(b"/\xff/\xfe"));
}

#[test]
fn every_shipped_file_loads() {
    says(
        include_str!("../../../conf/rinotifyd.conf"),
        "m: warning: there is no [watch NAME] and no [job NAME]: nothing is watched",
    );
    says(include_str!("../../../conf/examples/all-events.conf"), "");
    says(include_str!("../../../conf/examples/shell-command.conf"), "");
}

/// The default configuration shows each key as a comment; what it shows must be valid too.
#[test]
fn the_shipped_comments_are_valid_settings() {
    let shipped = include_str!("../../../conf/rinotifyd.conf");
    let is_setting = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let uncomment = |line: &str| match line.strip_prefix('#').filter(|rest| is_setting(rest)) {
        Some(setting) => format!("{setting}\n"),
        None => format!("{line}\n"),
    };
    let text: String = shipped.lines().map(uncomment).collect();
    let text = text.replace("nobody", "ann").replace("nogroup", "staff");
    let fake = Fake::new(text).with("exclude", "").with("conf.d/a.conf", "");
    assert_eq!(fake.said(), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_a_name_holds_is_safe_to_show(name in hostile(), word in hostile()) {
        let text = [b"[scheduler x", &*name, b"]\n[rule ", &*name, b"y]\nuser = ", &*word, b"\n[event_map m]\nIN_OPEN = x",
            &*word, b"\nx", &*word, b" = 1\n[watch w]\npath = /", &*word, b"\nexclude_filter = /", &*name].concat();
        let said = Fake::new(text).load().map_or_else(|errors| errors, |loaded| loaded.warnings).to_string();
        prop_assert!(!said.replace('\n', "").chars().any(is_unsafe), "{said:?}");
    }

    #[test]
    fn any_mutation_of_a_valid_configuration_is_judged(
        edits in prop::collection::vec((0_usize..2000, 0_usize..40, prop::collection::vec(
            prop::sample::select(b"[]=#; \n\t\r\0\xff{}'\"\\()$*?.:-0a_cancel".as_slice()), 0..6)), 0..8),
    ) {
        let shipped = include_str!("../../../conf/rinotifyd.conf").replace("\n#", "\n");
        let mut text = shipped.into_bytes();
        for (at, removed, added) in edits {
            let start = at % text.len().max(1);
            let end = (start + removed).min(text.len());
            text.splice(start.min(end)..end, added);
        }
        let said = Fake::new(text).said();
        prop_assert!(!said.replace('\n', "").chars().any(is_unsafe), "{said:?}");
    }
}

/// The kernel of these tests allows 1000 watches.
#[test]
fn no_watch_may_take_the_room_of_all_others() {
    let max_dirs = |text: &str| {
        let config = config(&format!("{SCHEDULER}{MAP}{text}"));
        config.watches.iter().map(|watch| watch.max_dirs).collect::<Vec<_>>()
    };
    assert_eq!(max_dirs(WATCH), [0]);
    let other = WATCH.replace("[watch w]", "[watch v]");
    assert_eq!(max_dirs(&format!("{WATCH}{other}")), [750, 750]);
    assert_eq!(max_dirs(&format!("{WATCH}max_dirs = 0\n{other}max_dirs = 999999\n")), [0, 999_999]);
    let range = "it must be between 0 and 2147483647";
    watch_says("max_dirs = -1", &format!("m:9:12: error: \"-1\" is out of range: {range}"));
}
