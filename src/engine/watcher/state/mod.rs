//! What the watcher knows. The files here keep books and check what belongs together; they decide
//! nothing. The rules stand in the files around this folder, in the order that `watcher` gives.

pub mod covers;
pub mod joins;
pub mod renames;
pub mod repair;
pub mod room;
pub mod stale;
pub mod stream;
pub mod tree;
pub mod unsettled;
pub mod visit_queue;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::engine::context::{Context, Timer};
use crate::engine::ids::{NodeId, WatchIndex};
use crate::engine::told::Audience;
use crate::engine::watcher::places::Places;
use crate::types::Millis;
use covers::{CoverId, Covers, FoundNames};
use joins::Joins;
use renames::{PendingRename, Renames};
use repair::Repair;
use room::Room;
use stale::Stale;
use stream::Stream;
use tree::Tree;
use unsettled::Unsettled;
use visit_queue::VisitQueue;

/// From the first directory that a full watch loses to the visits of those that wait for room.
pub const ROOM_MS: Millis = 1_000;

/// Why a watch path is not watched as a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is no directory: it is watched from the directory around it.
    SingleFile,
    /// It is not there.
    Missing,
    /// It is there, and cannot be watched.
    Failed(String),
}

/// So many links are named in the log; who makes links without end does not fill it.
const SAID_LINKS_MAX: usize = 1_000;

/// Links that the log has named.
#[derive(Debug, Default)]
pub struct SaidLinks(BTreeSet<Vec<u8>>);

impl SaidLinks {
    /// Notes that this link is named. Returns whether it is to be: for the first time, and when there is room.
    pub fn insert(&mut self, link: &[u8]) -> bool {
        self.0.len() < SAID_LINKS_MAX && !self.0.contains(link) && self.0.insert(link.to_vec())
    }

    /// A new configuration is in force: what is still so is said again.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The room that turns the kernel's events into told events.
#[derive(Debug)]
pub struct Watcher {
    pub(super) tree: Tree,
    pub(super) covers: Covers,
    pub(super) found: FoundNames,
    pub(super) stream: Stream,
    pub(super) visits: VisitQueue,
    pub(super) unsettled: Unsettled,
    pub(super) renames: Renames,
    pub(super) joins: Joins,
    pub(super) stale: Stale,
    pub(super) room: Room,
    pub(super) repair: Repair,
    /// By the text of the path, which means the same in every watch and in the next configuration.
    pub(super) troubles: BTreeMap<Vec<u8>, Trouble>,
    /// Symbolic links that are not followed, as far as the log has named them.
    pub(super) said_links: SaidLinks,
    /// The first look at all watch paths is done.
    pub(super) ready: bool,
    /// Reused for the path of every event.
    pub(super) path: Vec<u8>,
}

/// What a rule may reach beside the watcher's own state.
pub struct Step<'a, 'b> {
    /// What both rooms share.
    pub cx: &'a mut Context<'b>,
    /// Who is told.
    pub audience: &'a mut dyn Audience,
}

impl Watcher {
    /// A watcher that has watched nothing yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            tree: Tree::new(),
            covers: Covers::new(config),
            found: FoundNames::default(),
            stream: Stream::default(),
            visits: VisitQueue::default(),
            unsettled: Unsettled::default(),
            renames: Renames::default(),
            joins: Joins::default(),
            stale: Stale::default(),
            room: Room::default(),
            repair: Repair::default(),
            troubles: BTreeMap::new(),
            said_links: SaidLinks::default(),
            ready: false,
            path: Vec::new(),
        }
    }

    /// What a task may ask of the tree.
    pub fn places(&mut self) -> Places<'_> {
        Places::new(&mut self.tree, &self.covers)
    }

    /// Which watches cover the directory.
    pub(super) fn cover(&self, node: NodeId) -> CoverId {
        self.tree.cover(node)
    }

    /// Says which watches cover the directory. What was found there belonged to the old cover.
    pub(super) fn set_cover(&mut self, node: NodeId, cover: CoverId) {
        self.tree.set_cover(node, cover);
        self.found.forget(node);
    }

    /// Whether any watch covers the directory.
    pub(super) fn is_covered(&self, node: NodeId) -> bool {
        self.cover(node) != CoverId::NONE
    }

    /// What the kernel is asked for in this directory.
    pub(super) fn mask(&self, node: NodeId) -> u32 {
        self.covers.mask(self.cover(node), self.found.count(node))
    }

    /// Whether the directory is a watch path or on the way to one.
    pub(super) fn leads_to_root(&self, node: NodeId) -> bool {
        self.covers.leads_to_root(self.cover(node))
    }

    /// Whether the directory is on the way to a watch path.
    pub(super) fn seeks(&self, node: NodeId) -> bool {
        self.covers.seeks(self.cover(node))
    }

    /// Whether findings are missing: of the shell, or of the reader.
    pub(super) fn awaits_scans(&self) -> bool {
        self.visits.is_asking() || self.stream.has_scans()
    }

    /// The rename that moves this directory or one above it, of which one half is missing.
    pub(super) fn rename_above(&mut self, node: NodeId) -> Option<&mut PendingRename> {
        if !self.renames.has_directories() {
            return None;
        }
        self.renames.of_node(self.tree.in_transit(node)?)
    }

    /// Whether a rename of which one half is missing moves this directory or one above it.
    pub(super) fn is_between_names(&self, node: NodeId) -> bool {
        self.renames.has_directories()
            && self.tree.in_transit(node).is_some_and(|top| self.renames.contains(top))
    }

    /// The watches that see what happens in a directory with this cover, each once.
    pub(super) fn watches_of(&self, cover: CoverId) -> Vec<WatchIndex> {
        let mut watches: Vec<_> = self.covers.inside(cover).iter().map(|member| member.watch).collect();
        watches.dedup();
        watches
    }

    /// A directory got its watch, or another cover.
    pub(super) fn count_in(&mut self, node: NodeId) {
        for watch in self.watches_of(self.cover(node)) {
            self.room.add(watch);
        }
    }

    /// A directory loses its watch, or gets another cover.
    pub(super) fn count_out(&mut self, cx: &mut Context<'_>, node: NodeId) {
        for watch in self.watches_of(self.cover(node)) {
            self.room.take(watch);
            if self.room.full(watch).is_some() && self.room.timer.is_none() {
                self.room.timer = Some(cx.timer_in(ROOM_MS, Timer::MaxDirs));
            }
        }
    }
}
