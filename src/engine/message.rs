//! What the shell tells the engine, and what the engine asks of the shell.

use std::ffi::CString;
use std::sync::Arc;

use super::tasks::JobId;
use super::tree::NodeId;
use super::workers::WorkerId;
use crate::config::{Config, Rule, Run};
use crate::event::RawEvent;
use crate::record::{Level, LogLevels, LogName, Record};
use crate::rows::Rows;
use crate::types::{ExitStatus, Wd};

/// Something happened.
///
/// `queued` is what FIONREAD said at that moment: the bytes of events that the kernel held and the
/// engine has not been given. It makes a stream position out of a moment.
#[derive(Debug)]
pub enum Input<'a> {
    /// Begin: look for the watch paths.
    Start {
        /// Nanoseconds of the wall clock, with which changes on disk are compared.
        wall_ns: i64,
    },
    /// One `read(2)` of the inotify descriptor took this many bytes; its events follow.
    Filled {
        /// Bytes read.
        bytes: usize,
        /// The kernel's queue is empty now.
        emptied: bool,
        /// Nanoseconds of the wall clock, before the read.
        wall_ns: i64,
    },
    /// One event of that read.
    Event {
        /// The event.
        event: RawEvent<'a>,
        /// Bytes it took.
        size: usize,
    },
    /// The read's events are all told.
    Drained,
    /// The deadline of [`super::Engine::next_deadline`] has come, or another moment after it.
    Tick {
        /// See [`Input`].
        queued: usize,
        /// Nanoseconds of the wall clock.
        wall_ns: i64,
    },
    /// Something was mounted or unmounted.
    Mounts {
        /// Where.
        points: Vec<Vec<u8>>,
    },
    /// There is time for a piece of long work; see [`super::Engine::has_work`].
    Spare,
    /// One directory of an [`Effect::Scan`] was looked at.
    Scanned {
        /// Which one.
        node: NodeId,
        /// What was found.
        result: Result<Seen, ScanError>,
        /// See [`Input`]; taken before anything was looked at.
        before: usize,
        /// See [`Input`]; taken after all was looked at, and after whoever was changing the parent
        /// then had told of it: what the look has shown is in the queue up to here.
        queued: usize,
    },
    /// An [`Effect::Start`] was carried out.
    Started {
        /// Which one.
        job: JobId,
    },
    /// An [`Effect::Start`] could not be carried out.
    NotStarted {
        /// Which one.
        job: JobId,
        /// Why.
        error: StartError,
    },
    /// A child ended.
    Ended {
        /// Which one.
        job: JobId,
        /// How.
        status: ExitStatus,
        /// See [`Input`]; taken after the child had ended.
        queued: usize,
    },
    /// An [`Effect::Operate`] has ended.
    Operated {
        /// Which one.
        operation: Box<Operation>,
        /// How.
        end: OperationEnd,
        /// See [`Input`]; taken after it had ended.
        queued: usize,
    },
    /// An answer to [`Effect::Measure`].
    Measured {
        /// Which operation.
        job: JobId,
        /// Bytes that are copied.
        done: u64,
        /// Bytes to be copied, as far as that is known yet.
        total: u64,
        /// As in the effect.
        asked_for: bool,
    },
    /// An [`Effect::StartWorker`] could not be carried out.
    WorkerNotStarted {
        /// Which one.
        worker: WorkerId,
        /// Why.
        error: StartError,
    },
    /// So many further lines of [`Effect::Hand`] are wholly in the worker's pipe.
    Written {
        /// Which worker.
        worker: WorkerId,
        /// How many lines.
        lines: usize,
    },
    /// A worker that answers has written a line.
    Line {
        /// Which worker.
        worker: WorkerId,
        /// The line without its newline, as much of it as is kept.
        line: &'a [u8],
        /// How many bytes more it had.
        cut: u64,
        /// See [`Input`]; taken after the line was read.
        queued: usize,
    },
    /// A worker has closed one of its pipes.
    WorkerBroken {
        /// Which worker.
        worker: WorkerId,
        /// What is said if it does not end now.
        what: &'static str,
    },
    /// A worker ended, after all its lines were told.
    WorkerEnded {
        /// Which worker.
        worker: WorkerId,
        /// How.
        status: ExitStatus,
        /// See [`Input`]; taken after the worker had ended.
        queued: usize,
        /// Whole lines that it had not read, of those that were told as written.
        unread: Vec<u8>,
        /// How many of the lines of [`Effect::Hand`] it had begun to read.
        begun: u64,
    },
    /// A new configuration takes the place of the old one.
    Reload(Box<Config>),
    /// Finish what is there and end.
    Stop {
        /// Why, for the log.
        reason: &'static str,
    },
    /// Say how things are, in the log.
    Status,
    /// Somebody asks, or asks for something; answered by one [`Effect::Answer`].
    Ask {
        /// Who, for the answer.
        client: u32,
        /// What.
        question: Question,
    },
}

/// Something to do.
#[derive(Debug)]
pub enum Effect {
    /// Watch directories and list them; answered by one [`Input::Scanned`] for each, in order.
    Scan(Scan),
    /// Take a watch away. The kernel answers with IN_IGNORED.
    Unwatch(Wd),
    /// Start a child; answered by [`Input::NotStarted`] or, later, [`Input::Ended`].
    Start(Box<Job>),
    /// Send a signal to the child's process group.
    Signal {
        /// Which child.
        job: JobId,
        /// Which signal.
        signal: Signal,
    },
    /// Carry out a file operation; answered by [`Input::Operated`].
    Operate(Box<Operation>),
    /// Take a file operation back, if it has not been begun; then it ends as
    /// [`OperationEnd::Withdrawn`].
    Withdraw(JobId),
    /// End a file operation as soon as possible; [`OperationEnd::Aborted`] unless it is too late.
    Abort(JobId),
    /// Say how far a file operation is, if it has not ended; answered by [`Input::Measured`].
    Measure {
        /// Which operation.
        job: JobId,
        /// Somebody asked for the status.
        asked_for: bool,
    },
    /// Start a worker; answered by [`Input::WorkerNotStarted`] or, later, [`Input::WorkerEnded`].
    StartWorker(Box<StartWorker>),
    /// Write a line to a worker's standard input; answered by [`Input::Written`].
    Hand {
        /// Which worker.
        worker: WorkerId,
        /// The line with its newline.
        line: Vec<u8>,
    },
    /// Close a worker's standard input behind all that is still to be written.
    CloseWorker(WorkerId),
    /// Send a signal to the worker's process group.
    SignalWorker {
        /// Which worker.
        worker: WorkerId,
        /// Which signal.
        signal: Signal,
    },
    /// Write to the log.
    Log(Record),
    /// The first look at all watch paths is done.
    Ready,
    /// Nothing is left to do: end the process.
    Exit,
    /// Say something to whoever asked.
    Answer(Answer),
    /// A decision, in words; only after [`super::Engine::explain_decisions`].
    Explain(String),
    /// Other log levels from now on.
    Levels(LogLevels),
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// How things are.
    Status,
    /// Which tasks there are. A long list is told in pieces.
    Tasks {
        /// Where the piece begins; 0 at first.
        from: u32,
    },
    /// How the watch paths are. A long list is told in pieces.
    Watches {
        /// Where the piece begins; 0 at first.
        from: u32,
    },
    /// Run a waiting task now.
    Run(u64),
    /// Take a waiting task out, terminate one that runs.
    Cancel(u64),
    /// Log more or less, under one name or all others.
    LogLevel {
        /// The name; all that have no level of their own.
        name: Option<LogName>,
        /// The least that is logged.
        level: Level,
    },
}

/// The answer to a [`Question`].
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who had asked.
    pub client: u32,
    /// What there is to say.
    pub rows: Rows,
    /// What follows.
    pub end: AnswerEnd,
}

/// What follows an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    /// Nothing: that was all.
    Done,
    /// More, for this question.
    More(Question),
    /// It cannot be done, and why.
    Refused(String),
}

/// The two signals a task can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// A file operation to carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Whose it is, for the answer.
    pub id: JobId,
    /// What is done, and how.
    pub rule: Arc<Rule>,
    /// With what.
    pub source: Place,
    /// Whether that was a directory, when there was an event for it.
    pub is_dir: bool,
    /// Where to; nowhere when it is deleted.
    pub target: Option<Place>,
}

/// A path, and how far it may be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Absolute, without `.`, `..` and empty components, ending in a name.
    pub path: Vec<u8>,
    /// So many bytes of it lead to a directory that the configuration names, possibly through
    /// symbolic links; none is followed behind them. 0 is `/`.
    pub trusted: usize,
}

/// How a file operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationEnd {
    /// It is done.
    Done(OperationDone),
    /// It is not, for this reason; as far as nothing else is said, nothing has changed.
    Failed(String),
    /// The same, because it was told to end.
    Aborted(String),
    /// It was not begun.
    Withdrawn,
}

/// What is told of an operation that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationDone {
    /// Bytes that were copied.
    pub bytes: u64,
    /// Files, directories and all else that was made.
    pub entries: u64,
    /// What a person should know, such as attributes that could not be kept.
    pub remarks: Vec<String>,
}

/// Directories with one parent, to be watched and listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// The parent's path; empty when the item is `/`.
    pub base: Vec<u8>,
    /// So many bytes of `base` lead to the watch path, which may go through symbolic links; none
    /// is followed behind them.
    pub trusted: usize,
    /// The watch that the parent carries: if the directory at `base` is another one by now, or there
    /// is none, every item is [`ScanError::Stale`].
    pub expect: Option<Wd>,
    /// What to look at.
    pub items: Vec<Item>,
}

/// One directory to be watched and listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// Whose it is, for the answer.
    pub node: NodeId,
    /// Its name in the parent.
    pub name: Vec<u8>,
    /// What to ask the kernel for, in addition to what is asked already or instead of it.
    pub mask: u32,
    /// The mask replaces the one there is.
    pub replace: bool,
    /// The name may be a symbolic link: it is a watch path or leads to one.
    pub follow: bool,
    /// What to list.
    pub list: List,
    /// For [`List::Named`].
    pub names: Vec<Box<[u8]>>,
}

impl Item {
    /// Whether nothing but its subdirectories matters, so that it may be watched by its name in a watched
    /// parent: each step may then find another directory, of which an event of the parent's tells.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.follow && !self.replace && matches!(self.list, List::Nothing | List::Directories)
    }
}

/// How much of a directory's content is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Nothing.
    Nothing,
    /// The directories in it.
    Directories,
    /// All entries.
    Everything,
    /// All entries, and whether somebody holds a regular file open for writing.
    Writers,
    /// The entries of these names, as [`List::Writers`]; what is gone or no regular file is left out.
    Named,
    /// As [`List::Writers`], and which entries were made, moved or changed since.
    Changes {
        /// Nanoseconds of the wall clock.
        since_ns: i64,
    },
}

/// What was found in a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its watch.
    pub wd: Wd,
    /// Its content, as much as was asked for.
    pub entries: Vec<Entry>,
    /// For a watch path or one on the way to it: the name of a filesystem on which changes may be
    /// made that the kernel does not see.
    pub remote: Option<&'static str>,
}

/// One directory entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Box<[u8]>,
    /// What it is.
    pub kind: EntryKind,
    /// Its inode has changed since the moment that was asked for.
    pub changed: bool,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file that nobody holds open for writing, as far as anybody looked.
    File,
    /// A regular file that somebody holds open for writing, or whose name was gone when that was
    /// asked.
    OpenFile,
    /// A regular file on a filesystem that cannot say who writes to it, or does not say it to us.
    Unsure {
        /// Stands for size and times: another number when they are others.
        stamp: u64,
    },
    /// A symbolic link, a device, a socket, a FIFO.
    Other,
}

/// Why a directory could not be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// There is nothing of this name.
    NotFound,
    /// It is no directory, or a link where none is followed.
    NotDirectory,
    /// The parent is not where it was, or something else has taken the name while it was looked at.
    /// The directory that was found instead has this watch, which may be new.
    Stale(Option<Wd>),
    /// No right to read it.
    Denied,
    /// `fs.inotify.max_user_watches` is reached (ENOSPC).
    NoSpace {
        /// Its value, if it can be read.
        limit: Option<u64>,
    },
    /// The machine is short of descriptors or memory: worth another try.
    Exhausted(String),
    /// Anything else, in words.
    Other(String),
}

/// Why a child could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// The machine is short of something (EAGAIN, ENOMEM, EMFILE, ENFILE): worth another try.
    pub temporary: bool,
    /// Operation and reason, in words.
    pub text: String,
}

/// A child to start.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    /// Whose it is, for the answer.
    pub id: JobId,
    /// The program and its arguments.
    pub argv: Vec<CString>,
    /// The task's variables, in addition to the scheduler's.
    pub env: Vec<CString>,
    /// How to set it up.
    pub run: Arc<Run>,
    /// Under which name its output is logged.
    pub logname: LogName,
}

/// A worker to start.
#[derive(Debug, PartialEq, Eq)]
pub struct StartWorker {
    /// Which one, for the answer.
    pub id: WorkerId,
    /// What the log calls it.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<CString>,
    /// Variables in addition to the scheduler's.
    pub env: Vec<CString>,
    /// How to set it up.
    pub run: Arc<Run>,
    /// Under which name its output is logged.
    pub logname: LogName,
    /// Its standard output has answers.
    pub ack: bool,
    /// Lines to write before all others, which [`Input::Written`] does not count.
    pub first: Vec<u8>,
}
