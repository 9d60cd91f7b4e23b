//! The wall between the two rooms: what the watcher tells, and who listens.

use super::context::Context;
use super::ids::{NodeId, WatchIndex};
use super::watcher::places::Places;
use crate::event::EventKind;

/// "This watch sees this event at this place." The watch's filters let it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// The watch that sees it.
    pub watch: WatchIndex,
    /// What happened.
    pub kind: EventKind,
    /// The directory in which it happened.
    pub dir: NodeId,
    /// The name in that directory; empty for the directory itself.
    pub name: &'a [u8],
    /// Whether it happened to a directory.
    pub is_dir: bool,
    /// Where that was before, for a rename of which both halves were seen.
    pub src: Option<(NodeId, &'a [u8])>,
}

/// A file for which something waits: a repair has to look whether it is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwaitedFile {
    /// The directory it is in.
    pub dir: NodeId,
    /// Its name there.
    pub name: Box<[u8]>,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Whom the watcher tells: the tasks, or a recorder in a test.
///
/// Everything is told in place, not queued: paths are those of that moment.
pub trait Audience {
    /// A watch sees an event.
    fn told(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, event: &Told<'_>);

    /// These directories left the watched trees; `why` says how, for the log.
    fn left(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, dirs: &[NodeId], why: &str);

    /// The files in these directories for which something waits.
    fn waiting_in(&self, dirs: &[NodeId]) -> Vec<AwaitedFile>;

    /// Everything in the stream of events up to this position has been told.
    fn passed(&mut self, cx: &mut Context<'_>, places: &mut Places<'_>, position: u64);
}
