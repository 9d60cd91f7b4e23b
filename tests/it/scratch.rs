//! A scratch directory, and the daemon as a child of the test.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::Pid;

/// Long enough for a busy machine; a test that passes does not wait for it.
const DEADLINE: Duration = Duration::from_secs(20);

/// Of the pipe through which the daemon logs.
const PIPE_SIZE: i32 = 8 << 20;

/// Waits until the condition holds.
///
/// # Panics
///
/// When it does not within the deadline; `what` says what was expected.
#[track_caller]
pub fn wait_for(mut condition: impl FnMut() -> bool, what: &str) {
    assert!(poll(&mut condition), "still not after {DEADLINE:?}: {what}");
}

/// Whether the condition came to hold before the deadline.
#[allow(clippy::disallowed_methods, reason = "the only place in the tests that knows of time")]
fn poll(condition: &mut dyn FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > DEADLINE {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

thread_local! {
    /// Makes the descriptors of this thread its own, at the first use. Otherwise what a test closes is
    /// held open by any child that another test is about to start: the IN_CLOSE_WRITE of a file comes
    /// late, under the name that it has by then.
    static OWN_DESCRIPTORS: () = unshare(CloneFlags::CLONE_FILES).unwrap();
}

/// A temporary directory that is gone when the test is over.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        OWN_DESCRIPTORS.with(|()| ());
        Self { folder: tempfile::Builder::new().prefix("rinotifyd-it-").tempdir().unwrap() }
    }

    /// The path of `name` in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a directory, and those above it.
    pub fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Writes a file as a program would: open, write, close.
    pub fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// What the file holds; empty when it is not there.
    pub fn read(&self, name: impl AsRef<Path>) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// What the file holds, as bytes; empty when it is not there.
    pub fn bytes(&self, name: impl AsRef<Path>) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    /// The complete lines of the file.
    pub fn lines(&self, name: impl AsRef<Path>) -> Vec<String> {
        let text = self.read(name);
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.split_terminator('\n').map(str::to_owned).collect()
    }

    /// Moves `from` to `to`, both in the scratch directory.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> PathBuf {
        let to = self.path(to);
        fs::rename(self.path(from), &to).unwrap();
        to
    }

    /// Puts a file there whole, by renaming: no reader sees half of it.
    pub fn replace(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.write(format!("{name}.new"), text);
        self.rename(format!("{name}.new"), name)
    }

    /// `text` with the path of the scratch directory for the `@` of every `@/`.
    pub fn expand(&self, text: &str) -> String {
        let folder = self.folder.path().to_str().expect("TMPDIR is UTF-8");
        text.replace("@/", &format!("{folder}/"))
    }

    /// Writes the configuration, see [`Scratch::expand`], with a control socket of its own unless it
    /// says something about that.
    pub fn config(&self, text: &str) -> PathBuf {
        let text = if text.contains("\ncontrol =") { text.to_owned() } else { with_control(text) };
        self.replace("rinotifyd.conf", self.expand(&text))
    }

    /// `rinotifyctl` with these arguments, for the daemon of [`Scratch::config`].
    pub fn ctl(&self, args: &[&str]) -> Command {
        self.ctl_at("control.sock", args)
    }

    /// The same for a daemon with another socket.
    pub fn ctl_at(&self, socket: &str, args: &[&str]) -> Command {
        let mut command = rinotifyd();
        command.arg0("rinotifyctl").arg("-s").arg(self.path(socket)).args(args);
        command
    }

    /// What it says; it must succeed.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.ctl(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lets other users enter it.
    pub fn open_to_all(&self) {
        fs::set_permissions(self.folder.path(), Permissions::from_mode(0o755)).unwrap();
    }
}

/// The lines above and in `[daemon]` keep their numbers.
fn with_control(text: &str) -> String {
    const LINE: &str = "control = @/control.sock\n";
    let Some(daemon) = text.find("[daemon]\n") else { return format!("{text}\n[daemon]\n{LINE}") };
    let end = text[daemon + 1..].find("\n[").map_or(text.len(), |at| daemon + 1 + at + 1);
    format!("{}\n{LINE}{}", text[..end].trim_end_matches('\n'), &text[end..])
}

/// Whether the test runs as root. If not, says so.
pub fn is_root(what: &str) -> bool {
    nix::unistd::geteuid().is_root() || not_tested("root", what)
}

/// Whether the daemon's system calls can be tampered with. If not, says so.
pub fn can_tamper(what: &str) -> bool {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    is_root(what) && (found || not_tested("strace", what))
}

/// Says on the real standard error what is not tested; cargo hides what `eprintln!` writes in a test
/// that passes. Where everything has to be tested, that is a failure.
fn not_tested(needs: &str, what: &str) -> bool {
    assert!(std::env::var_os("RINOTIFYD_REQUIRE_TOOLS").is_none(), "only {needs} can test: {what}");
    let text = format!("\n*** NOT TESTED, because it takes {needs}: {what} ***\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    false
}

/// The binary under test, without any arguments.
pub fn rinotifyd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rinotifyd"));
    command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    command
}

/// A running daemon. Its log is collected while it runs.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Ends once no process holds the daemon's standard error.
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it with this configuration, see [`Scratch::config`]; does not wait for anything.
    pub fn start(scratch: &Scratch, config: &str, args: &[&str]) -> Self {
        let mut command = rinotifyd();
        command.arg("-c").arg(scratch.config(config)).args(args);
        Self::spawn(command)
    }

    /// Starts a command that is, or becomes, the daemon; does not wait for anything.
    pub fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        // So that the daemon need not drop lines in a burst. Only root gets as much.
        let _ = fcntl(&stderr, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || collect(stderr, &log)
        });
        Self { child, log, reader: Some(reader) }
    }

    /// Starts it and waits until every initial watch is set.
    #[track_caller]
    pub fn start_ready(scratch: &Scratch, config: &str, args: &[&str]) -> Self {
        let mut daemon = Self::start(scratch, config, args);
        daemon.ready();
        daemon
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a log line with the word `ready`.
    #[track_caller]
    pub fn ready(&mut self) {
        self.wait_log_line("ready", |line| line.split_whitespace().any(|word| word == "ready"));
    }

    /// Waits for a log line that holds `text`.
    #[track_caller]
    pub fn wait_log(&mut self, text: &str) {
        self.wait_log_line(text, |line| line.contains(text));
    }

    /// The logged lines that hold `text`.
    pub fn lines(&self, text: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Waits until as many lines as that hold `text`.
    #[track_caller]
    pub fn wait_lines(&mut self, count: usize, text: &str) -> Vec<String> {
        self.wait_alive(
            |daemon| daemon.lines(text).len() >= count,
            &format!("{count} lines with {text:?} in the log"),
        );
        self.lines(text)
    }

    /// Waits for a line that holds `text`, and returns the first. What a command has written may be
    /// there before the log says that it was started.
    #[track_caller]
    pub fn wait_line(&mut self, text: &str) -> String {
        self.wait_lines(1, text).remove(0)
    }

    /// Asks for the status and returns its line.
    #[track_caller]
    pub fn status(&mut self) -> String {
        self.ask_status(": status directories=")
    }

    /// Asks how many directories are watched for this watch.
    #[track_caller]
    pub fn directories(&mut self, watch: &str) -> usize {
        let line = self.ask_status(&format!(": status of watch watch={watch} "));
        field(&line, "directories").parse().unwrap()
    }

    /// Waits until as many directories are watched for this watch.
    #[track_caller]
    pub fn wait_directories(&mut self, watch: &str, count: usize) {
        let mut last = 0;
        let holds = poll(&mut || {
            last = self.directories(watch);
            last == count
        });
        assert!(holds, "{last} directories for {watch}, not {count}; it logged:\n{}", self.log());
    }

    #[track_caller]
    fn ask_status(&mut self, text: &str) -> String {
        let known = self.lines(text).len();
        self.signal(Signal::SIGUSR1);
        self.wait_lines(known + 1, text).remove(known)
    }

    /// Asks for the status until its line has `text`.
    #[track_caller]
    pub fn wait_status(&mut self, text: &str) {
        let mut last = String::new();
        let holds = poll(&mut || {
            last = self.status();
            last.contains(text)
        });
        assert!(holds, "no {text:?} in {last:?}; it logged:\n{}", self.log());
    }

    /// Asks for the status until its line is as wanted.
    #[track_caller]
    pub fn wait_for_status(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        let holds = poll(&mut || wanted(&self.status()));
        assert!(holds, "it logged:\n{}", self.log());
    }

    /// Gives it another configuration and waits until it says so.
    #[track_caller]
    pub fn reload(&mut self, scratch: &Scratch, config: &str) {
        scratch.config(config);
        let known = self.lines("configuration reloaded").len();
        self.signal(Signal::SIGHUP);
        self.wait_lines(known + 1, "configuration reloaded");
    }

    /// Waits for a condition; the message of a failure has the log.
    #[track_caller]
    pub fn wait_for(&mut self, mut condition: impl FnMut() -> bool, what: &str) {
        self.wait_alive(|_| condition(), what);
    }

    /// Waits for a condition on what was logged so far.
    #[track_caller]
    pub fn wait_for_log(&mut self, mut condition: impl FnMut(&str) -> bool, what: &str) {
        self.wait_alive(|daemon| condition(&daemon.log()), what);
    }

    /// Waits until a file in the scratch directory has as many lines, and returns them.
    #[track_caller]
    pub fn wait_ran(&mut self, scratch: &Scratch, name: &str, count: usize) -> Vec<String> {
        self.wait_for(|| scratch.lines(name).len() >= count, &format!("{count} lines in {name}"));
        scratch.lines(name)
    }

    /// Waits for a condition on what was logged so far, or for the end of the daemon.
    #[track_caller]
    pub fn wait_for_log_or_end(&mut self, mut condition: impl FnMut(&str) -> bool) {
        wait_for(|| condition(&self.log()) || self.child.try_wait().unwrap().is_some(), "the end");
    }

    #[track_caller]
    fn wait_log_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        self.wait_for_log(|log| log.lines().any(&wanted), &format!("{what:?} in the log"));
    }

    /// Waits for a condition until the daemon has ended; its last lines may fulfil the condition.
    #[track_caller]
    fn wait_alive(&mut self, mut condition: impl FnMut(&Self) -> bool, what: &str) {
        let mut ended = None;
        let mut holds = false;
        poll(&mut || {
            ended = self.child.try_wait().unwrap();
            if ended.is_some() {
                self.join_reader();
            }
            holds = condition(self);
            holds || ended.is_some()
        });
        let state = ended.map_or("runs".to_owned(), |status| format!("ended, {status}"));
        assert!(holds, "no {what}; the daemon {state} and logged:\n{}", self.log());
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end and says how it ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        poll(&mut || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let status = ended.unwrap_or_else(|| panic!("it does not end; it logged:\n{}", self.log()));
        self.join_reader();
        status
    }

    /// Ends it with SIGTERM, asserts that it ended well, and returns what it logged.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        let log = self.log();
        assert!(status.success(), "{status} after SIGTERM; it logged:\n{log}");
        log
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for the end of the log, unless a child of the daemon outlives it and holds it open.
    fn join_reader(&mut self) {
        if let Some(reader) = self.reader.take_if(|reader| poll(&mut || reader.is_finished())) {
            reader.join().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // kill() does nothing to a child that was reaped: the number may be another process's.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The value of `key=value` in a logged line; only for values that need no quotes.
#[track_caller]
pub fn field<'a>(line: &'a str, key: &str) -> &'a str {
    let found = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key} in {line:?}"))
}

/// Milliseconds from one logged line to another, from the times they begin with. The wall clock
/// is not the clock of the daemon's delays, so a delay may seem a few milliseconds shorter.
pub fn millis_between(from: &str, to: &str) -> i64 {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    (time_of_day(to) - time_of_day(from)).rem_euclid(DAY)
}

/// Of a line such as `2026-11-23T14:05:09.123+01:00 info sched: started`.
fn time_of_day(line: &str) -> i64 {
    let part = |range: std::ops::Range<usize>| line[range].parse::<i64>().unwrap();
    ((part(11..13) * 60 + part(14..16)) * 60 + part(17..19)) * 1000 + part(20..23)
}

/// Appends line by line until the end; bytes that are not UTF-8 are replaced.
fn collect(stderr: ChildStderr, log: &Mutex<String>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        log.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

/// Directories of the longest name of such characters, each in the one before, and a file in the last.
pub fn make_deep(top: &Path, letter: char, depth: usize) {
    let mode = Mode::from_bits_truncate(0o755);
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
    let mut dir = open(top, flags, Mode::empty()).unwrap();
    let name = letter.to_string().repeat(255);
    for _ in 0..depth {
        mkdirat(&dir, name.as_str(), mode).unwrap();
        dir = openat(&dir, name.as_str(), flags, Mode::empty()).unwrap();
    }
    openat(&dir, "file", OFlag::O_CREAT | OFlag::O_WRONLY, mode).unwrap();
}

/// A scratch directory is removed by paths, for which such a tree is too deep.
pub fn remove_deep(top: &Path) {
    assert!(Command::new("rm").arg("-rf").arg(top).status().unwrap().success());
}
