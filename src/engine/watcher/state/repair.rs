//! What is known of a repair that is under way; see the rules of the same name.

use std::collections::{HashMap, HashSet};

use super::stream::Kept;
use crate::engine::ids::{NodeId, WatchIndex};
use crate::engine::store::wheel::TimerId;
use crate::types::Millis;

/// A comparison of trees with the disk that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// What changed since then, in nanoseconds of the wall clock, is told.
    pub since_ns: i64,
    /// What to log at the end, if the beginning was logged.
    pub last_words: Option<&'static str>,
    /// The kernel dropped events: where a directory is, is not known before it was visited.
    pub is_blind: bool,
}

/// A watch with `rescan`.
#[derive(Clone, Copy, Debug)]
pub struct Rescan {
    /// The watch.
    pub watch: WatchIndex,
    /// Runs out when the next comparison is due.
    pub timer: TimerId,
    /// When the last one began.
    pub since_ns: i64,
}

/// The kernel has no room for more watches.
#[derive(Debug)]
pub struct WatchLimit {
    /// Since when directories have gone unwatched.
    pub since_ns: i64,
    /// Runs out when one directory is tried again.
    pub timer: TimerId,
    /// The time between two tries.
    pub delay_ms: Millis,
    /// One directory is being tried.
    pub probing: bool,
    /// The directories that were tried since there was no room: they cannot be watched for another reason,
    /// or are gone.
    pub tried: HashSet<NodeId>,
}

/// All that belongs to repairs.
#[derive(Debug, Default)]
pub struct Repair {
    /// The comparison that is under way.
    pub pass: Option<Pass>,
    /// Since when a change counts, by directory that the pass has still to visit. That is later than for others if
    /// the directory was visited already, and the kernel has dropped events again.
    pub since_ns: HashMap<NodeId, i64>,
    /// Events of directories that may be elsewhere by now, since the kernel dropped some.
    pub doubted: HashMap<NodeId, Vec<Kept>>,
    /// How many events these are.
    pub doubted_len: usize,
    /// Renamed directories, pinned, and since when events of what is in them were not kept.
    pub missed: Vec<(NodeId, i64)>,
    /// Directories that had appeared when the pass began, and had not been visited.
    pub unseen: HashSet<NodeId>,
    /// The limit of watches that was reached.
    pub limit: Option<WatchLimit>,
    /// The watches that are compared with the disk again and again.
    pub rescans: Vec<Rescan>,
}
