//! A directory to play in, and the daemon as a child of the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Long enough for a busy machine; a test that passes does not wait for it.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until the condition holds.
///
/// # Panics
///
/// When it does not within the deadline; `what` says what was hoped for.
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

/// A temporary directory that is gone when the test is over.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
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

    /// Writes the configuration; `@` in it stands for the scratch directory.
    pub fn config(&self, text: &str) -> PathBuf {
        let folder = self.folder.path().to_str().expect("TMPDIR is UTF-8");
        self.write("rinotifyd.conf", text.replace('@', folder))
    }
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
    /// Ends when nobody holds the daemon's standard error any more.
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it with this configuration, see [`Scratch::config`]; does not wait for anything.
    pub fn start(scratch: &Scratch, config: &str, args: &[&str]) -> Self {
        let mut command = rinotifyd();
        command.arg("-c").arg(scratch.config(config)).args(args);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
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

    /// Waits for a condition; the log is shown when it does not come.
    #[track_caller]
    pub fn wait_for(&mut self, condition: impl Fn() -> bool, what: &str) {
        self.wait_alive(|_| condition(), what);
    }

    #[track_caller]
    fn wait_log_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        self.wait_alive(
            |daemon| daemon.log.lock().unwrap().lines().any(&wanted),
            &format!("{what:?} in the log"),
        );
    }

    /// Waits for a condition as long as the daemon lives; the condition may come with its last breath.
    #[track_caller]
    fn wait_alive(&mut self, condition: impl Fn(&Self) -> bool, what: &str) {
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

    fn pid(&self) -> Pid {
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
        // A child that was waited for is left alone by kill(); its number may be another's.
        drop(self.child.kill());
        drop(self.child.wait());
    }
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
