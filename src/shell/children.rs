//! Children: started, their output read, reaped.
//!
//! A task ends when its child ends. Its output may go on, if a grandchild keeps the pipe: it is
//! logged until the pipe is closed, which keeps the grandchild from dying of SIGPIPE.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use super::lines::Lines;
use super::log::Log;
use super::notify::VARIABLES;
use super::reactor::{Reactor, Source, Token};
use crate::config::{Output, Run};
use crate::engine::message::{Signal, StartChild, StartError};
use crate::engine::{TaskId, WorkerId};
use crate::record::{Level, LogName, Record};
use crate::sys::epoll::Interest;
use crate::sys::process::{self, Pid, Sig};
use crate::sys::spawn::{Spawn, Spawner};
use crate::sys::{Errno, Error};
use crate::template::is_task_variable;
use crate::types::ExitStatus;

/// Pipes of ended tasks that stay open for grandchildren; the oldest gives way.
const ORPHANS_MAX: usize = 64;

/// Read from one pipe in one turn, so that a child that only writes does not hold up the others.
const READ_SIZE: usize = 64 * 1024;

/// Where programs are looked for when the environment does not say: as `execvp(3)`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Said when arguments or environment are larger than the kernel takes (`execve(2)`, MAX_ARG_STRLEN).
const TOO_LONG: &str = "; the path, or what else the command gets as arguments and environment, is too long: \
                        the kernel takes 128 KiB for each";

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Child {
    /// One task.
    Task(TaskId),
    /// The tasks of a worker.
    Worker(WorkerId),
}

/// What to start, and whose it is.
#[derive(Debug)]
pub struct Program<'a> {
    /// What it is for.
    pub child: Child,
    /// The program and its arguments.
    pub argv: &'a [CString],
    /// Variables in addition to the scheduler's.
    pub env: &'a [CString],
    /// How to set it up.
    pub run: &'a Arc<Run>,
    /// Under which name its output is logged.
    pub logname: &'a LogName,
    /// What the log says whose output it is.
    pub label: (&'static str, String),
    /// Standard input; `/dev/null` without one.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output; with standard error without one.
    pub stdout: Option<BorrowedFd<'a>>,
}

/// All children and their pipes.
#[derive(Debug)]
pub struct Children {
    spawner: Spawner,
    null: OwnedFd,
    children: HashMap<Pid, Child>,
    pids: HashMap<Child, Pid>,
    /// Whose process group does not outlive them.
    doomed: HashSet<Child>,
    outputs: HashMap<u32, ChildOutput>,
    next_output: u32,
    surroundings: Vec<(Arc<Run>, Surroundings)>,
    buffer: Vec<u8>,
}

/// What all children of a scheduler have in common.
#[derive(Debug)]
struct Surroundings {
    env: Vec<CString>,
    cwd: CString,
    path: Vec<u8>,
}

#[derive(Debug)]
struct ChildOutput {
    pipe: File,
    token: Token,
    lines: Lines,
    child: Child,
    logname: LogName,
    label: (&'static str, String),
    ended: bool,
}

impl Children {
    /// None yet.
    ///
    /// # Errors
    ///
    /// ENOMEM; whatever keeps `/dev/null` from being opened.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            spawner: Spawner::new().map_err(|errno| Error::new("mmap", b"", errno))?,
            null: process::dev_null().map_err(|errno| Error::new("open", b"/dev/null", errno))?,
            children: HashMap::new(),
            pids: HashMap::new(),
            doomed: HashSet::new(),
            outputs: HashMap::new(),
            next_output: 0,
            surroundings: Vec::new(),
            buffer: vec![0; READ_SIZE],
        })
    }

    /// Starts a task's child.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn start(&mut self, reactor: &mut Reactor, child: &StartChild) -> Result<(), StartError> {
        let program = Program {
            child: Child::Task(child.task),
            argv: &child.argv,
            env: &child.env,
            run: &child.run,
            logname: &child.logname,
            label: ("task_id", child.task.number().to_string()),
            stdin: None,
            stdout: None,
        };
        self.launch(reactor, program)
    }

    /// Starts a child.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn launch(&mut self, reactor: &mut Reactor, program: Program<'_>) -> Result<(), StartError> {
        let pipe = match program.run.output {
            Output::Log => Some(self.pipe(reactor).map_err(|errno| start_error("pipe", errno))?),
            Output::Inherit | Output::Null => None,
        };
        let pid = self.spawn(&program, pipe.as_ref().map(|(_, write)| write))?;
        self.children.insert(pid, program.child);
        self.pids.insert(program.child, pid);
        if let Some((read, _)) = pipe {
            self.listen(reactor, File::from(read), program);
        }
        Ok(())
    }

    /// A pipe for output. When descriptors run out, those kept for grandchildren give way.
    fn pipe(&mut self, reactor: &mut Reactor) -> Result<(OwnedFd, OwnedFd), Errno> {
        self.make_pipe(reactor, process::pipe)
    }

    /// One of either kind, as [`Children::launch`] makes its own.
    ///
    /// # Errors
    ///
    /// ENFILE, and EMFILE when no other pipe can give way.
    pub fn make_pipe(
        &mut self,
        reactor: &mut Reactor,
        make: fn() -> Result<(OwnedFd, OwnedFd), Errno>,
    ) -> Result<(OwnedFd, OwnedFd), Errno> {
        loop {
            match make() {
                Err(Errno::EMFILE) if self.close_oldest_orphan(reactor, 0) => {}
                outcome => return outcome,
            }
        }
    }

    fn spawn(&mut self, program: &Program<'_>, output: Option<&OwnedFd>) -> Result<Pid, StartError> {
        let index = self.surroundings_of(program.run);
        let (run, surroundings) = &self.surroundings[index];
        let mut env = surroundings.env.clone();
        env.extend_from_slice(program.env);
        let null = (run.output == Output::Null).then_some(&self.null);
        let output = output.or(null).map(AsFd::as_fd);
        let spawn = Spawn {
            candidates: &candidates(program.argv, &surroundings.path),
            argv: program.argv,
            env: &env,
            cwd: &surroundings.cwd,
            umask: run.umask,
            nice: run.nice,
            identity: run.identity.as_ref(),
            stdin: program.stdin.or(Some(self.null.as_fd())),
            stdout: program.stdout.or(output),
            stderr: output,
        };
        self.spawner.spawn(&spawn).map_err(|error| {
            let program = program.argv.first().map(|word| word.to_string_lossy().into_owned());
            let hint = match error.errno {
                Errno::E2BIG => TOO_LONG,
                _ => "",
            };
            let text = format!("{error}: {}{hint}", program.unwrap_or_default());
            StartError { temporary: is_temporary(error.errno), text }
        })
    }

    fn surroundings_of(&mut self, run: &Arc<Run>) -> usize {
        let known = self.surroundings.iter().position(|(known, _)| Arc::ptr_eq(known, run));
        known.unwrap_or_else(|| {
            // What only this table still holds belongs to a configuration that is gone.
            self.surroundings.retain(|(known, _)| Arc::strong_count(known) > 1);
            self.surroundings.push((Arc::clone(run), Surroundings::new(run)));
            self.surroundings.len() - 1
        })
    }

    fn listen(&mut self, reactor: &mut Reactor, pipe: File, program: Program<'_>) {
        let key = self.next_output;
        self.next_output = self.next_output.wrapping_add(1);
        // Without a place in epoll the output is lost, and the child goes on.
        if let Ok(token) = reactor.add(&pipe, Source::Output(key), Interest::READ) {
            let output = ChildOutput {
                pipe,
                token,
                lines: Lines::default(),
                child: program.child,
                logname: program.logname.clone(),
                label: program.label,
                ended: false,
            };
            self.outputs.insert(key, output);
        }
    }

    /// What is left of the child's process group when it ends is killed, or left alone.
    pub fn doom(&mut self, child: Child, doomed: bool) {
        self.doomed.remove(&child);
        self.doomed.extend(doomed.then_some(child));
    }

    /// Sends a signal to a child's process group, if it still runs.
    pub fn signal(&mut self, child: Child, signal: Signal) {
        if let Some(&pid) = self.pids.get(&child) {
            let signal = match signal {
                Signal::Terminate => Sig::Terminate,
                Signal::Kill => Sig::Kill,
            };
            self.doomed.insert(child);
            // ESRCH: it has ended by itself.
            let _ = process::signal_group(pid, signal);
        }
    }

    /// The next child that has ended, its output logged as far as it is there.
    pub fn reap(&mut self, reactor: &mut Reactor, log: &mut Log) -> Option<(Child, ExitStatus)> {
        loop {
            let pid = process::ended().ok().flatten()?;
            let child = self.children.remove(&pid);
            if child.is_some_and(|child| self.doomed.remove(&child)) {
                // Its own children were told to end as well; no process is left that would wait for
                // one that ignores it. ESRCH: there is nothing left.
                let _ = process::signal_group(pid, Sig::Kill);
            }
            let status = process::reap(pid).ok().flatten()?;
            let Some(child) = child else { continue };
            self.pids.remove(&child);
            let key = self.outputs.iter().find(|(_, output)| output.child == child).map(|(key, _)| *key);
            if let Some(key) = key {
                self.read(reactor, log, key);
                if let Some(output) = self.outputs.get_mut(&key) {
                    output.ended = true;
                }
                self.close_oldest_orphan(reactor, ORPHANS_MAX);
            }
            return Some((child, status));
        }
    }

    /// Logs what a child has written.
    pub fn read(&mut self, reactor: &mut Reactor, log: &mut Log, key: u32) {
        let Some(output) = self.outputs.get_mut(&key) else { return };
        let ChildOutput { pipe, lines, label, logname, .. } = output;
        let mut give = |line: super::lines::Line<'_>| {
            let mut record = Record::new(Level::Info, logname, "output")
                .field(label.0, &label.1)
                .field("line", line.bytes);
            if line.cut > 0 {
                record = record.field("bytes_cut", line.cut.to_string());
            }
            log.write(&record);
        };
        match pipe.read(&mut self.buffer) {
            Ok(0) => {
                lines.finish(&mut give);
                self.close(reactor, key);
            }
            Ok(count) => lines.push(&self.buffer[..count], &mut give),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.close(reactor, key),
        }
    }

    fn close(&mut self, reactor: &mut Reactor, key: u32) {
        if let Some(output) = self.outputs.remove(&key) {
            reactor.remove(output.token, &output.pipe);
        }
    }

    /// Closes the oldest pipe of an ended task if there are more than so many; tells whether.
    fn close_oldest_orphan(&mut self, reactor: &mut Reactor, kept: usize) -> bool {
        let orphans = || self.outputs.iter().filter(|(_, output)| output.ended);
        let oldest = orphans().min_by_key(|(key, _)| **key).map(|(key, _)| *key);
        let Some(key) = oldest.filter(|_| orphans().count() > kept) else { return false };
        self.close(reactor, key);
        true
    }
}

impl Surroundings {
    fn new(run: &Run) -> Self {
        let mut env: Vec<(Vec<u8>, Vec<u8>)> = std::env::vars_os()
            .filter(|(name, _)| !VARIABLES.iter().any(|own| name == own))
            .map(|(name, value)| (name.into_vec(), value.into_vec()))
            // A daemon may be a task of another.
            .filter(|(name, _)| !is_task_variable(name))
            .collect();
        if let Some(identity) = &run.identity {
            let name = identity.name.as_bytes();
            for (variable, value) in [
                (b"HOME".as_slice(), identity.home.as_slice()),
                (b"USER".as_slice(), name),
                (b"LOGNAME".as_slice(), name),
            ] {
                set(&mut env, variable, value);
            }
        }
        // Of a task's own variables, the first would count for some programs, the last for others.
        for (name, value) in run.env.iter().filter(|(name, _)| !is_task_variable(name)) {
            set(&mut env, name, value);
        }
        let path = env.iter().find(|(name, _)| name == b"PATH").map(|(_, value)| value.clone());
        let cwd = run.cwd.as_deref().unwrap_or(b"/");
        Self {
            env: env.iter().map(|(name, value)| c_string(&[name.as_slice(), b"=", value].concat())).collect(),
            cwd: c_string(cwd),
            path: path.unwrap_or_else(|| DEFAULT_PATH.to_vec()),
        }
    }
}

fn set(env: &mut Vec<(Vec<u8>, Vec<u8>)>, name: &[u8], value: &[u8]) {
    env.retain(|(known, _)| known != name);
    env.push((name.to_vec(), value.to_vec()));
}

/// The paths at which the program may be: itself if it holds a slash, else one for each directory
/// of PATH, as `execvp(3)`.
fn candidates(argv: &[CString], path: &[u8]) -> Vec<CString> {
    let program = argv.first().map_or(b"".as_slice(), |word| word.as_bytes());
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains(&b'/') {
        return vec![c_string(program)];
    }
    path.split(|&byte| byte == b':')
        .map(|dir| if dir.is_empty() { c_string(program) } else { c_string(&[dir, b"/", program].concat()) })
        .collect()
}

/// Neither the configuration nor the environment holds a NUL.
fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

pub(super) fn start_error(step: &str, errno: Errno) -> StartError {
    StartError { temporary: is_temporary(errno), text: format!("{step}: {errno:?} ({})", errno.desc()) }
}

fn is_temporary(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
}
