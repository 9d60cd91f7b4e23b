//! Children: started, their output read, reaped.
//!
//! A task ends when its child ends. Its output may go on, if a grandchild keeps the pipe: it is
//! logged until the pipe is closed, which keeps the grandchild from dying of SIGPIPE.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use super::lines::Lines;
use super::log::Log;
use super::notify::VARIABLES;
use super::reactor::{Reactor, Source, Token};
use crate::config::{Output, Run};
use crate::engine::JobId;
use crate::engine::message::{Job, Signal, StartError};
use crate::record::{Level, LogName, Record};
use crate::sys::epoll::Interest;
use crate::sys::process::{self, Pid, Sig};
use crate::sys::spawn::{Spawn, Spawner};
use crate::sys::{Errno, Error};
use crate::types::ExitStatus;

/// Pipes of ended tasks that stay open for grandchildren; the oldest gives way.
const ORPHANS_MAX: usize = 64;

/// Read from one pipe in one turn, so that a child that only writes starves nobody.
const READ_SIZE: usize = 64 * 1024;

/// Where programs are looked for when the environment does not say: as `execvp(3)`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All children and their pipes.
#[derive(Debug)]
pub struct Children {
    spawner: Spawner,
    null: OwnedFd,
    jobs: HashMap<Pid, JobId>,
    pids: HashMap<JobId, Pid>,
    /// Told to end.
    terminated: HashSet<JobId>,
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
    job: JobId,
    logname: LogName,
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
            jobs: HashMap::new(),
            pids: HashMap::new(),
            terminated: HashSet::new(),
            outputs: HashMap::new(),
            next_output: 0,
            surroundings: Vec::new(),
            buffer: vec![0; READ_SIZE],
        })
    }

    /// Starts a job's child.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn start(&mut self, reactor: &mut Reactor, job: &Job) -> Result<(), StartError> {
        let pipe = match job.output() {
            Output::Log => Some(self.pipe(reactor).map_err(|errno| start_error("pipe", errno))?),
            Output::Inherit | Output::Null => None,
        };
        let pid = self.spawn(job, pipe.as_ref().map(|(_, write)| write))?;
        self.jobs.insert(pid, job.id);
        self.pids.insert(job.id, pid);
        if let Some((read, _)) = pipe {
            self.listen(reactor, File::from(read), job);
        }
        Ok(())
    }

    /// A pipe for output. When descriptors run out, those kept for grandchildren give way.
    fn pipe(&mut self, reactor: &mut Reactor) -> Result<(OwnedFd, OwnedFd), Errno> {
        loop {
            match process::pipe() {
                Err(Errno::EMFILE) if self.close_oldest_orphan(reactor, 0) => {}
                outcome => return outcome,
            }
        }
    }

    fn spawn(&mut self, job: &Job, output: Option<&OwnedFd>) -> Result<Pid, StartError> {
        let index = self.surroundings_of(&job.run);
        let (run, surroundings) = &self.surroundings[index];
        let mut env = surroundings.env.clone();
        env.extend_from_slice(&job.env);
        let null = (run.output == Output::Null).then_some(&self.null);
        let output = output.or(null).map(AsFd::as_fd);
        let spawn = Spawn {
            candidates: &candidates(&job.argv, &surroundings.path),
            argv: &job.argv,
            env: &env,
            cwd: &surroundings.cwd,
            umask: run.umask,
            nice: run.nice,
            identity: run.identity.as_ref(),
            stdin: Some(self.null.as_fd()),
            stdout: output,
            stderr: output,
        };
        self.spawner.spawn(&spawn).map_err(|error| {
            let program = job.argv.first().map(|word| word.to_string_lossy().into_owned());
            let text = format!("{error}: {}", program.unwrap_or_default());
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

    fn listen(&mut self, reactor: &mut Reactor, pipe: File, job: &Job) {
        let key = self.next_output;
        self.next_output = self.next_output.wrapping_add(1);
        // Without a place in epoll the output is lost, and the child goes on.
        if let Ok(token) = reactor.add(&pipe, Source::Output(key), Interest::READ) {
            let output = ChildOutput {
                pipe,
                token,
                lines: Lines::default(),
                job: job.id,
                logname: job.logname.clone(),
                ended: false,
            };
            self.outputs.insert(key, output);
        }
    }

    /// Sends a signal to a job's process group, if it still runs.
    pub fn signal(&mut self, job: JobId, signal: Signal) {
        if let Some(&pid) = self.pids.get(&job) {
            let signal = match signal {
                Signal::Terminate => Sig::Terminate,
                Signal::Kill => Sig::Kill,
            };
            self.terminated.insert(job);
            // ESRCH: it has ended by itself.
            let _ = process::signal_group(pid, signal);
        }
    }

    /// The next child that has ended, its output logged as far as it is there.
    pub fn reap(&mut self, reactor: &mut Reactor, log: &mut Log) -> Option<(JobId, ExitStatus)> {
        loop {
            let pid = process::ended().ok().flatten()?;
            let job = self.jobs.remove(&pid);
            if job.is_some_and(|job| self.terminated.remove(&job)) {
                // Its own children were told to end as well; what ignores that has nobody left to
                // wait for it. ESRCH: there is nothing left.
                let _ = process::signal_group(pid, Sig::Kill);
            }
            let status = process::reap(pid).ok().flatten()?;
            let Some(job) = job else { continue };
            self.pids.remove(&job);
            let key = self.outputs.iter().find(|(_, output)| output.job == job).map(|(key, _)| *key);
            if let Some(key) = key {
                self.read(reactor, log, key);
                if let Some(output) = self.outputs.get_mut(&key) {
                    output.ended = true;
                }
                self.close_oldest_orphan(reactor, ORPHANS_MAX);
            }
            return Some((job, status));
        }
    }

    /// Logs what a child has written.
    pub fn read(&mut self, reactor: &mut Reactor, log: &mut Log, key: u32) {
        let Some(output) = self.outputs.get_mut(&key) else { return };
        let ChildOutput { pipe, lines, job, logname, .. } = output;
        let mut give = |line: super::lines::Line<'_>| {
            let mut record = Record::new(Level::Info, logname, "output")
                .field("task_id", job.task_id().to_string())
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
        let oldest = orphans().min_by_key(|(key, output)| (output.job.task_id(), **key)).map(|(key, _)| *key);
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
        for (name, value) in &run.env {
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

fn start_error(step: &str, errno: Errno) -> StartError {
    StartError { temporary: is_temporary(errno), text: format!("{step}: {errno:?} ({})", errno.desc()) }
}

fn is_temporary(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
}
