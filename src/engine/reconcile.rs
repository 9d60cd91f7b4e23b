//! Comparing the tree on disk with what the engine knows, and making up what was missed.
//!
//! A *pass* lists directories again: after the kernel dropped events, for `rescan`, when the limit
//! of watches is lifted. What changed since a moment of the wall clock gets its events made up,
//! unknown directories are watched, vanished ones dropped. Here an event may be told twice; none
//! may be lost.

use std::collections::HashSet;

use super::answers::{Kept, Touched};
use super::arrivals::{News, Visit};
use super::cover::{CoverId, Role};
use super::joining::Joinings;
use super::message::{Entry, EntryKind};
use super::routing::Occurrence;
use super::tree::{NodeId, ROOT};
use super::wheel::TimerId;
use super::{Engine, Timer};
use crate::event::{EventKind, IN_ISDIR, RawEvent};
use crate::record::{Level, Record};
use crate::types::{Millis, Wd};

/// A change of inode is stamped with a clock that ticks every few milliseconds, so it can seem older
/// than it is; a remote filesystem has a clock of its own.
const CLOCK_MARGIN_NS: i64 = 1_000_000_000;

/// Between two attempts to watch directories for which there was no room; doubled up to the last.
const STARVED_FIRST_MS: Millis = 1_000;
const STARVED_LAST_MS: Millis = 60_000;

/// So many directories without a watch are named in the log; the others are counted.
const STARVED_NAMED_MAX: usize = 10;

/// What is told at the end of a pass.
const SAME_AGAIN: &str = "the trees and the disk are the same again";
const FED_AGAIN: &str = "all directories are watched again";

/// A comparison that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    /// What changed since then, in nanoseconds of the wall clock, is told.
    pub since_ns: i64,
    /// What to tell people at the end, if they were told of the beginning.
    last_words: Option<&'static str>,
    /// The kernel dropped events: where a directory is, is not known before it was looked at.
    is_blind: bool,
}

/// A watch with `rescan`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rescan {
    watch: u16,
    timer: TimerId,
    /// When it was last begun.
    since_ns: i64,
}

/// The kernel has no room for more watches.
#[derive(Debug)]
pub(super) struct Starvation {
    /// Since when directories have gone unwatched.
    since_ns: i64,
    timer: TimerId,
    delay_ms: Millis,
    /// One directory is being tried.
    probing: bool,
}

impl Engine {
    /// The kernel dropped events (IN_Q_OVERFLOW): all that happened since its queue was last seen
    /// empty is looked for on disk.
    pub(super) fn on_overflow(&mut self) {
        self.counters.overflows += 1;
        let name = self.config.daemon.logname.clone();
        self.log(Level::Error, &name, |engine| {
            let text = "the kernel's event queue overflowed; the trees are compared with the disk \
                        (to make this rare, raise fs.inotify.max_queued_events)";
            Record::new(Level::Error, &name, text)
                .field("overflows", engine.counters.overflows.to_string())
                .field("directories", engine.tree.watched().to_string())
        });
        self.deliver_overflow();
        let nodes = self.tree.subtree(ROOT);
        self.tree.doubt_all();
        self.start_pass(&nodes, self.emptied_at_ns, Some(SAME_AGAIN), true);
    }

    /// IN_Q_OVERFLOW belongs to no directory: every watch gets it once, for its first root.
    fn deliver_overflow(&mut self) {
        let config = std::rc::Rc::clone(&self.config);
        let kind = EventKind::QOverflow;
        let mut told = HashSet::new();
        for node in self.tree.subtree(ROOT) {
            for member in self.covers.members(self.tree.cover(node)).to_vec() {
                if member.role == Role::Root && told.insert(member.watch) {
                    let event =
                        Occurrence { node, name: b"", kind, is_dir: false, src: None, catch_up: false };
                    self.deliver_to(&config, &member, &event);
                }
            }
        }
    }

    /// Looks at these directories again. A pass that is under way reaches back further, if need be,
    /// and begins anew for what it has seen already.
    fn start_pass(
        &mut self,
        nodes: &[NodeId],
        since_ns: i64,
        last_words: Option<&'static str>,
        is_blind: bool,
    ) {
        let since_ns = self.pass.map_or(since_ns, |pass| pass.since_ns.min(since_ns));
        let last_words = last_words.or(self.pass.and_then(|pass| pass.last_words));
        let is_blind = is_blind || self.pass.is_some_and(|pass| pass.is_blind);
        self.pass = Some(Pass { since_ns, last_words, is_blind });
        self.note_unseen();
        let anew: HashSet<&NodeId> = nodes.iter().collect();
        let under_way = self.arrivals.take_all_of(News::Changed);
        let (begun, kept): (Vec<Visit>, _) =
            under_way.into_iter().partition(|visit| anew.contains(&visit.node));
        kept.into_iter().for_each(|visit| self.arrivals.push(visit));
        for &node in nodes {
            // One that is between two names is looked at when it is found.
            let is_somewhere = self.tree.is_linked(node) || self.tree.in_transit(node).is_some();
            if is_somewhere && self.tree.cover(node) != CoverId::NONE {
                self.push_visit(node, News::Changed);
            }
        }
        // Some may have been all that kept their directory's node.
        begun.into_iter().for_each(|visit| self.tree.unpin(visit.node));
    }

    /// Notes the directories that have appeared and wait for their first look: whatever is in them is new,
    /// whoever looks first.
    fn note_unseen(&mut self) {
        let visits = self.arrivals.all().chain(self.answers.visits()).chain(self.pairing.visits());
        let appeared = |visit: &&Visit| matches!(visit.news, News::Created | News::Moved);
        for visit in visits.chain(&self.postponed).filter(appeared) {
            if self.tree.wd(visit.node).is_none() {
                self.unseen.insert(visit.node);
            }
        }
    }

    /// What [`Engine::start_pass`] looks for.
    pub(super) fn changed_since_ns(&self) -> i64 {
        self.pass.map_or(i64::MAX, |pass| pass.since_ns.saturating_sub(CLOCK_MARGIN_NS))
    }

    /// Nothing is left to be looked at.
    pub(super) fn end_pass(&mut self) {
        let is_over = !self.arrivals.has_visits() && !self.awaits_answers() && !self.pairing.holds_visits();
        if !is_over {
            return;
        }
        if self.postponed.is_empty() {
            // Whatever became of their visits.
            self.joinings = Joinings::default();
        }
        let Some(pass) = self.pass.take() else { return };
        self.unseen.clear();
        self.bury();
        // What could not be looked at is where it was, as far as anybody knows.
        // Some of what was kept for one may turn out to be another's.
        loop {
            let known = self.doubted.keys().copied().filter(|node| self.tree.is_attached(*node));
            let mut unseen: Vec<NodeId> = known.collect();
            if unseen.is_empty() {
                break;
            }
            unseen.sort_unstable();
            unseen.into_iter().for_each(|node| self.end_doubt(node));
        }
        self.doubted.clear();
        if self.starvation.is_some() {
            return;
        }
        let level = if pass.last_words.is_some() { Level::Info } else { Level::Debug };
        self.log_daemon(level, pass.last_words.unwrap_or(SAME_AGAIN));
    }

    /// Forgets directories that are gone: their IN_IGNORED may be among what the kernel dropped.
    fn bury(&mut self) {
        for node in self.tree.subtree(ROOT) {
            let is_gone = !self.tree.is_attached(node) && self.tree.in_transit(node).is_none();
            if self.tree.wd(node).is_some() && is_gone {
                self.abandon(node, "it is gone");
            }
        }
    }

    /// A directory was listed again. What is in `touched` is told by events that are still to come.
    pub(super) fn compare(&mut self, node: NodeId, mut entries: Vec<Entry>, touched: &Touched) {
        let come_or_go = |name: &[u8]| touched.get(name).is_some_and(|touch| touch.first.is_some());
        let names: HashSet<&[u8]> = entries.iter().map(|entry| &*entry.name).collect();
        let gone = |name: &[u8]| !names.contains(name) && !come_or_go(name);
        for child in self.tree.children(node) {
            if self.tree.is_linked(child) && gone(self.tree.name(child)) {
                self.vanished(child);
            }
        }
        self.tell_deleted(&[node], gone);
        drop(names);
        entries.retain(|entry| !come_or_go(&entry.name));
        for entry in &entries {
            let is_dir = entry.kind == EntryKind::Directory;
            if is_dir || entry.kind == EntryKind::Other && self.leads_to_root(node) {
                // A directory that was moved here brings older files along, which are new here.
                let news = if entry.changed { News::Created } else { News::Changed };
                self.discover(node, &entry.name, news);
            }
            if entry.changed {
                let closed = touched.contains_key(&entry.name);
                self.tell_changed(node, entry, is_dir, closed);
            }
        }
    }

    fn tell_changed(&mut self, node: NodeId, entry: &Entry, is_dir: bool, closed: bool) {
        // Whether it was made or moved here, nobody knows any more.
        for kind in [EventKind::Create, EventKind::MovedTo] {
            self.counters.made_up += 1;
            self.deliver(&Occurrence { node, name: &entry.name, kind, is_dir, src: None, catch_up: false });
        }
        if !closed {
            self.tell_written(node, &entry.name, Some(entry.kind), false);
        }
    }

    /// A directory is not listed any more. If it has a watch, it may be found elsewhere.
    fn vanished(&mut self, child: NodeId) {
        if self.tree.wd(child).is_some() && !self.leads_to_root(child) {
            self.mislay(child);
            return;
        }
        let nodes = self.tree.subtree(child);
        self.tell_deleted(&nodes, |_| true);
        let parent = self.tree.parent(child);
        let name = self.tree.name(child).to_vec();
        self.abandon(child, "it is gone");
        if let Some(parent) = parent {
            self.lost_child(parent, &name);
        }
    }

    /// A directory that was sought is nowhere.
    pub(super) fn tell_lost(&mut self, node: NodeId) {
        let nodes = self.tree.subtree(node);
        self.tell_deleted(&nodes, |_| true);
    }

    /// A directory is where it should be, and those above it are: what was kept since the kernel
    /// dropped events can be told under its path. Its content was listed after that.
    pub(super) fn end_doubt(&mut self, node: NodeId) {
        self.tree.trust(node);
        for kept in self.doubted.remove(&node).unwrap_or_default() {
            let Some(kind) = EventKind::from_mask(kept.mask) else { continue };
            let Some(node) = self.bearer(node, kept.wd) else { continue };
            if self.tree.is_doubted(node) {
                self.doubted.entry(node).or_default().push(kept);
                continue;
            }
            let is_dir = kept.mask & IN_ISDIR != 0 || kept.name.is_empty();
            self.deliver(&Occurrence { node, name: &kept.name, kind, is_dir, src: None, catch_up: false });
        }
    }

    /// Which directory has this watch by now, if it is anywhere: `node`, or the one that was there before
    /// and was found elsewhere.
    fn bearer(&self, node: NodeId, wd: Wd) -> Option<NodeId> {
        if self.tree.wd(node) == Some(wd) {
            return Some(node);
        }
        let mut nodes = Vec::new();
        self.tree.by_wd(wd, &mut nodes);
        nodes.into_iter().find(|node| self.tree.is_attached(*node))
    }

    /// Keeps an event of a directory that may be elsewhere by now. Returns whether it did.
    pub(super) fn doubts(&mut self, node: NodeId, kind: EventKind, event: &RawEvent<'_>) -> bool {
        // The end of a watch is certain, wherever it was.
        let doubts = self.pass.is_some_and(|pass| pass.is_blind)
            && kind != EventKind::Ignored
            && self.tree.is_doubted(node);
        if doubts {
            self.settle_writer(node, event.name, kind);
            self.doubted.entry(node).or_default().push(Kept::new(event, self.position));
        }
        doubts
    }

    /// Tasks that wait for something that is gone see IN_DELETE.
    fn tell_deleted(&mut self, nodes: &[NodeId], gone: impl Fn(&[u8]) -> bool) {
        if !nodes.iter().any(|node| self.tree.is_pinned(*node)) {
            return;
        }
        let nodes: HashSet<NodeId> = nodes.iter().copied().collect();
        let concerns = |task: &super::tasks::Task| {
            task.waits() && nodes.contains(&task.subject.node) && gone(&task.subject.name)
        };
        for job in self.tasks.select(&concerns) {
            let Some(task) = self.tasks.get(job) else { continue };
            let (node, name, is_dir) = (task.subject.node, task.subject.name.clone(), task.subject.is_dir);
            self.counters.made_up += 1;
            self.deliver(&Occurrence {
                node,
                name: &name,
                kind: EventKind::Delete,
                is_dir,
                src: None,
                catch_up: false,
            });
        }
    }

    /// Something was mounted or unmounted at these places.
    pub(super) fn on_mounts(&mut self, points: &[Vec<u8>]) {
        for node in self.tree.subtree(ROOT) {
            if self.tree.is_linked(node) && self.leads_to_root(node) {
                self.push_visit(node, News::Verify);
            }
        }
        for point in points {
            self.doubt_path(point);
        }
    }

    /// Looks again at what is at this path, if it is in a watched tree.
    fn doubt_path(&mut self, path: &[u8]) {
        let mut node = ROOT;
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            match self.tree.child(node, name) {
                Some(child) => node = child,
                None if names.peek().is_none() => return self.discover(node, name, News::Created),
                None => return,
            }
        }
        if !self.leads_to_root(node) {
            self.push_visit(node, News::Verify);
        }
    }

    /// There is no room for this watch (ENOSPC); the directory keeps its node and is tried again.
    pub(super) fn on_no_space(&mut self, node: NodeId, limit: Option<u64>) {
        if let Some(starvation) = &mut self.starvation {
            if starvation.probing {
                starvation.probing = false;
                starvation.delay_ms = STARVED_LAST_MS.min(starvation.delay_ms * 2);
                starvation.timer = self.wheel.insert(self.now + starvation.delay_ms, Timer::Starved);
            }
            return;
        }
        let timer = self.wheel.insert(self.now + STARVED_FIRST_MS, Timer::Starved);
        // What starved before this, and was fed too little, is still looked at from then on.
        let since_ns = self.pass.map_or(self.emptied_at_ns, |pass| pass.since_ns.min(self.emptied_at_ns));
        let delay_ms = STARVED_FIRST_MS;
        self.starvation = Some(Starvation { since_ns, timer, delay_ms, probing: false });
        let name = self.config.daemon.logname.clone();
        self.log(Level::Error, &name, |engine| {
            let limit = limit.map_or("unknown".to_owned(), |limit| limit.to_string());
            Record::new(Level::Error, &name, "no room for more watches; raise fs.inotify.max_user_watches")
                .field("max_user_watches", limit)
                .field("watched", engine.tree.watched().to_string())
                .field("path", engine.tree.path_of(node, b""))
        });
    }

    /// While there is no room, only one directory at a time is tried.
    pub(super) fn must_starve(&mut self, node: NodeId) -> bool {
        self.tree.wd(node).is_none() && self.starvation.as_ref().is_some_and(|starvation| !starvation.probing)
    }

    pub(super) fn on_starved(&mut self) {
        let hungry = self.hungry();
        let Some(starvation) = &mut self.starvation else { return };
        starvation.probing = true;
        match hungry.first() {
            None => self.fed(None),
            Some(&node) => {
                self.log_hungry(&hungry);
                self.push_visit(node, News::Changed);
            }
        }
    }

    /// Directories that should be watched and are not.
    fn hungry(&self) -> Vec<NodeId> {
        let mut nodes = self.tree.subtree(ROOT);
        nodes.retain(|node| {
            self.tree.is_linked(*node)
                && self.tree.wd(*node).is_none()
                && self.tree.cover(*node) != CoverId::NONE
        });
        nodes
    }

    fn log_hungry(&mut self, hungry: &[NodeId]) {
        let name = self.config.daemon.logname.clone();
        self.log(Level::Warning, &name, |engine| {
            let named = hungry.iter().take(STARVED_NAMED_MAX);
            let record = Record::new(Level::Warning, &name, "directories without a watch")
                .field("watched", engine.tree.watched().to_string())
                .field("unwatched", hungry.len().to_string());
            named.fold(record, |record, node| record.field("path", engine.tree.path_of(*node, b"")))
        });
    }

    /// A directory was watched that had to wait: there may be room for the others. It is looked at
    /// once more itself, for only now what changed meanwhile is asked for.
    pub(super) fn fed(&mut self, node: Option<NodeId>) {
        let Some(Starvation { since_ns, timer, .. }) =
            self.starvation.take_if(|starvation| starvation.probing)
        else {
            return;
        };
        self.wheel.cancel(timer);
        let mut nodes = self.hungry();
        nodes.extend(node);
        self.start_pass(&nodes, since_ns, Some(FED_AGAIN), false);
    }

    /// Starts the clocks of all watches with `rescan`.
    pub(super) fn arm_rescans(&mut self) {
        for rescan in std::mem::take(&mut self.rescans) {
            self.wheel.cancel(rescan.timer);
        }
        for (watch, config) in (0_u16..).zip(&self.config.watches) {
            if config.rescan_ms > 0 {
                let timer = self.wheel.insert(self.now + config.rescan_ms, Timer::Rescan(watch));
                self.rescans.push(Rescan { watch, timer, since_ns: self.emptied_at_ns });
            }
        }
    }

    pub(super) fn on_rescan(&mut self, watch: u16, wall_ns: i64) {
        let every_ms = self.config.watches[usize::from(watch)].rescan_ms;
        let Some(rescan) = self.rescans.iter_mut().find(|rescan| rescan.watch == watch) else { return };
        let since_ns = std::mem::replace(&mut rescan.since_ns, wall_ns);
        rescan.timer = self.wheel.insert(self.now + every_ms, Timer::Rescan(watch));
        let mut nodes = self.tree.subtree(ROOT);
        nodes.retain(|node| {
            let members = self.covers.members(self.tree.cover(*node));
            members.iter().any(|member| member.watch == watch)
        });
        self.start_pass(&nodes, since_ns, None, false);
    }
}
