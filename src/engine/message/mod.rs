//! What the shell tells the engine, and what the engine asks of the shell.

mod child;
mod look;
mod operation;
mod query;
mod scan;

pub use child::{Signal, StartChild, StartError, StartWorker};
pub use look::{Facts, FileKind, Inspect};
pub use operation::{Operation, OperationDone, OperationEnd, TrustedPath};
pub use query::{Question, Reply, ReplyEnd};
pub use scan::{Entry, EntryKind, Item, List, Scan, ScanError, Seen};

use super::ids::{NodeId, TaskId, WorkerId};
use crate::config::Config;
use crate::event::RawEvent;
use crate::record::{LogLevels, Record};
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
        /// See [`Input`]; taken after all was looked at, and after each process that was changing the
        /// parent then had queued its events: what the look has shown is in the queue up to here.
        queued: usize,
    },
    /// An answer to [`Effect::Inspect`].
    Inspected {
        /// The task that is about the file.
        task: TaskId,
        /// What was found.
        facts: Facts,
    },
    /// An [`Effect::Start`] was carried out.
    Started {
        /// Which one.
        task: TaskId,
    },
    /// An [`Effect::Start`] or an [`Effect::Inspect`] could not be carried out.
    NotStarted {
        /// Which one.
        task: TaskId,
        /// Why.
        error: StartError,
    },
    /// A child ended.
    Ended {
        /// Which one.
        task: TaskId,
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
        task: TaskId,
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
    /// A client asks a question or gives a command; answered by one [`Effect::Reply`].
    Ask {
        /// The client, for the reply.
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
    /// Look at a file; answered by [`Input::Inspected`] or [`Input::NotStarted`]. The answer may never come.
    Inspect(Box<Inspect>),
    /// Start a child; answered by [`Input::NotStarted`] or, later, [`Input::Ended`].
    Start(Box<StartChild>),
    /// Send a signal to the child's process group.
    Signal {
        /// Which child.
        task: TaskId,
        /// Which signal.
        signal: Signal,
    },
    /// Carry out a file operation; answered by [`Input::Operated`].
    Operate(Box<Operation>),
    /// Take a file operation back, if it has not started; then it ends as
    /// [`OperationEnd::Withdrawn`].
    Withdraw(TaskId),
    /// End a file operation as soon as possible; [`OperationEnd::Aborted`] unless it is too late.
    Abort(TaskId),
    /// Say how far a file operation is, if it has not ended; answered by [`Input::Measured`].
    Measure {
        /// Which operation.
        task: TaskId,
        /// A client or a signal asked for the status.
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
    /// Reply to a client.
    Reply(Reply),
    /// A decision, in words; only after [`super::Engine::explain_decisions`].
    Explain(String),
    /// Other log levels from now on.
    Levels(LogLevels),
}
