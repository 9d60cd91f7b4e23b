//! What a visit found: a directory, another one than we thought, or none.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Engine;
use super::arrivals::{Held, HeldEntries, News, Visit};
use super::cover::{Member, Role};
use super::covering::Known;
use super::message::{Entry, EntryKind, ScanError, Seen};
use super::routing::Occurrence;
use super::tree::NodeId;
use crate::event::EventKind;
use crate::pattern::Component;
use crate::record::{Level, LogName, Record};
use crate::types::Wd;

/// So often a directory that is known under another name is looked at again, before both names are
/// taken for true: that one was misunderstood may show only when further events are read.
const TRIES_MAX: u8 = 4;

impl Engine {
    /// Takes what the shell found at the next directory of the last scan.
    pub(super) fn on_scanned(&mut self, node: NodeId, result: Result<Seen, ScanError>, mark: u64) {
        let Some(visit) = self.in_flight.pop_front() else { return };
        debug_assert_eq!(visit.node, node, "answers come in the order of the items");
        match result {
            Ok(seen) => self.on_seen(visit, seen, mark),
            Err(error) => self.on_unseen(visit, &error, mark),
        }
        self.tree.unpin(visit.node);
        self.note_visited();
    }

    fn on_seen(&mut self, visit: Visit, seen: Seen, mark: u64) {
        let node = visit.node;
        if !self.tree.is_linked(node) {
            self.unwatch_unused(seen.wd);
            return;
        }
        match self.tree.wd(node) {
            Some(known) if known != seen.wd => {
                self.replaced(node);
                // It is watched anew when it is looked at, if that is allowed.
                self.unwatch_unused(seen.wd);
                return;
            }
            Some(_) => {}
            None if self.known_elsewhere(visit, seen.wd, mark) => return,
            None => {
                self.tree.bind(node, seen.wd);
                self.found(node, seen.remote);
            }
        }
        if visit.news == News::Verify {
            return;
        }
        self.fed(Some(node));
        self.seek_children(node, visit.news);
        if visit.news == News::Changed {
            self.compare(node, seen.entries);
            self.hold(node, BTreeMap::new(), mark);
            return;
        }
        self.enter(node, visit.news, seen.entries, mark);
    }

    /// Deals with a directory that was found here but is known elsewhere: it was renamed. Returns
    /// `false` when it was not, because both are bind mounts of one directory.
    fn known_elsewhere(&mut self, visit: Visit, wd: Wd, mark: u64) -> bool {
        let mut known = Vec::new();
        self.tree.by_wd(wd, &mut known);
        known.retain(|known| !self.leads_to_root(*known));
        if known.is_empty() || self.leads_to_root(visit.node) {
            return false;
        }
        if mark > self.position && visit.tries == 0 {
            // The events that say so are in the queue.
            self.retry_when_read(Visit { tries: 1, known: Some(wd), ..visit }, mark);
            return true;
        }
        // They came before its new parent was watched: this is its arrival. Or something above it is
        // gone, and it had left that before.
        let is_nowhere = |known: &NodeId| self.half_above(*known).is_some() || !self.tree.is_attached(*known);
        if let Some(moved) = known.iter().copied().find(is_nowhere) {
            self.found_again(visit.node, moved);
            return true;
        }
        if visit.tries >= TRIES_MAX {
            return false;
        }
        // Or they were misunderstood: first see who is where.
        for node in known {
            self.push_visit(node, News::Verify);
        }
        self.tree.pin(visit.node);
        self.arrivals.push(Visit { tries: visit.tries + 1, known: Some(wd), ..visit });
        true
    }

    /// A directory that is between two names, below one that is, or below one that is gone, is what
    /// a listing shows as `node`.
    fn found_again(&mut self, node: NodeId, moved: NodeId) {
        self.take_out(moved);
        let Some(half) = self.pairing.take_of_node(moved) else { return };
        if let Some(parent) = self.tree.parent(node) {
            let name = self.tree.name(node).to_vec();
            self.tree.detach(node);
            self.arrived(moved, parent, &name);
        }
        self.release_half(half);
    }

    /// At the path of a watched directory there is another one by now.
    fn replaced(&mut self, node: NodeId) {
        let (Some(parent), name) = (self.tree.parent(node), self.tree.name(node).to_vec()) else { return };
        if self.leads_to_root(node) {
            self.abandon(node, "another directory took its place");
        } else {
            self.mislay(node);
        }
        self.adopt(parent, &name, News::Created, Known::Before);
    }

    /// The watch path, or a part of it, is there: its parent need not look out for it any more.
    fn found(&mut self, node: NodeId, remote: Option<&str>) {
        let config = Rc::clone(&self.config);
        for member in self.covers.members(self.tree.cover(node)).to_vec() {
            if member.role != Role::Root {
                continue;
            }
            let watch = member.watch(&config);
            self.note_watched(&member.pattern(&config).text);
            self.log_watch(Level::Info, &watch.logname, "watching", node, b"");
            if let Some(remote) = remote
                && watch.rescan_ms == 0
            {
                let message = format!(
                    "changes made elsewhere to {remote} are not reported; set rescan to look for them"
                );
                self.log_watch(Level::Warning, &watch.logname, &message, node, b"");
            }
        }
        self.note_found(node);
    }

    /// Looks for the next components of the watch paths that lead through here.
    fn seek_children(&mut self, node: NodeId, news: News) {
        let config = Rc::clone(&self.config);
        for member in self.covers.members(self.tree.cover(node)).to_vec() {
            if let Role::Seek { depth, .. } = member.role
                && let Component::Literal(name) = &member.pattern(&config).components[usize::from(depth)]
            {
                self.adopt(node, name, news, Known::Listed(news));
            }
        }
    }

    /// Deals with a directory's content: directories are visited, events made up for what is new.
    fn enter(&mut self, node: NodeId, news: News, entries: Vec<Entry>, mark: u64) {
        let catch_up = news == News::Existing && self.catches_up(node);
        let mut held = BTreeMap::new();
        for entry in entries {
            let is_dir = entry.kind == EntryKind::Directory;
            if is_dir || entry.kind == EntryKind::Other && self.leads_to_root(node) {
                self.adopt(node, &entry.name, news, Known::Listed(news));
            }
            let appeared = match news {
                News::Created => Some(EventKind::Create),
                News::Moved => Some(EventKind::MovedTo),
                News::Existing if catch_up => Some(EventKind::Create),
                News::Existing | News::Verify | News::Changed => continue,
            };
            let closed = news != News::Moved && entry.kind == EntryKind::File;
            held.insert(entry.name, Held { is_dir, appeared, closed, catch_up });
        }
        self.hold(node, held, mark);
    }

    /// Whether what is there at start is to be told, to a watch that covers the directory.
    pub(super) fn catches_up(&self, node: NodeId) -> bool {
        let wants = |member: &Member| member.is_inside() && member.watch(&self.config).catch_up;
        !self.ready && self.covers.members(self.tree.cover(node)).iter().any(wants)
    }

    /// Tells the events of a listing once the reader has passed its mark.
    pub(super) fn hold(&mut self, node: NodeId, held: HeldEntries, mark: u64) {
        if mark > self.position {
            if self.arrivals.hold(node, mark, held) {
                self.tree.pin(node);
                self.tree.set_fresh(node, true);
            }
        } else {
            self.make_up(node, held);
        }
    }

    /// Tells the held events of all directories whose mark the reader has passed.
    pub(super) fn tell_held(&mut self) {
        while let Some((node, fresh)) = self.arrivals.take_passed(self.position) {
            self.tree.set_fresh(node, false);
            self.tell_or_defer(node, fresh.held);
        }
    }

    pub(super) fn make_up(&mut self, node: NodeId, held: HeldEntries) {
        for (name, Held { is_dir, appeared, closed, catch_up }) in held {
            let close = closed.then_some(EventKind::CloseWrite);
            for kind in appeared.into_iter().chain(close) {
                self.counters.made_up += 1;
                self.deliver(&Occurrence { node, name: &name, kind, is_dir, src: None, catch_up });
            }
        }
    }

    fn on_unseen(&mut self, visit: Visit, error: &ScanError, mark: u64) {
        let node = visit.node;
        if let ScanError::Stale(Some(other)) = error {
            self.unwatch_unused(*other);
        }
        if let Some(half) = self.half_above(node) {
            half.visits.push(visit);
            self.tree.pin(node);
            return;
        }
        match error {
            ScanError::Stale(_) => {
                self.retry_when_read(visit, mark);
                return;
            }
            // What became of it is in the queue. If it was renamed, it takes the visit along.
            ScanError::NotFound | ScanError::NotDirectory
                if mark > self.position && !self.leads_to_root(node) =>
            {
                self.retry_when_read(visit, mark);
                return;
            }
            _ => {}
        }
        self.doubt_known(visit);
        self.note_trouble(node, error);
        let level = if self.leads_to_root(node) { Level::Warning } else { Level::Debug };
        match error {
            ScanError::Stale(_) => {}
            ScanError::NotFound | ScanError::NotDirectory
                if self.tree.wd(node).is_some() && !self.leads_to_root(node) =>
            {
                self.mislay(node);
            }
            ScanError::NotFound | ScanError::NotDirectory if self.tree.wd(node).is_some() => {
                self.look_again(node);
            }
            ScanError::NotFound | ScanError::NotDirectory => {
                self.tell_missing(node, error);
                self.drop_unseen(node);
            }
            ScanError::Denied if self.seeks(node) => {
                // Whoever may not read a directory may still pass through it.
                self.seek_children(node, visit.news);
            }
            ScanError::Denied => {
                // A change of mounts is a reason to look again, not to say it again.
                let level = if visit.news == News::Verify { Level::Debug } else { Level::Warning };
                self.log_unwatched(level, node, "no permission to read it");
                self.drop_unseen(node);
            }
            ScanError::NoSpace { limit } => self.on_no_space(node, *limit),
            ScanError::Exhausted(text) => {
                self.log_unwatched(Level::Warning, node, &format!("{text}; trying again"));
                self.postpone(visit);
            }
            ScanError::Other(text) => {
                self.log_unwatched(level.max(Level::Warning), node, text);
                self.drop_unseen(node);
            }
        }
    }

    /// Here was a directory that is known elsewhere, and no further visit will say which is true.
    fn doubt_known(&mut self, visit: Visit) {
        let mut known = Vec::new();
        if let Some(wd) = visit.known {
            self.tree.by_wd(wd, &mut known);
        }
        for node in known {
            self.push_visit(node, News::Verify);
        }
    }

    /// The parent is not where it was, or the directory was renamed: the event that says so is in
    /// the queue. If nothing is queued, we are wrong about the parent.
    fn retry_when_read(&mut self, visit: Visit, mark: u64) {
        self.tree.pin(visit.node);
        if mark > self.position {
            self.arrivals.push_at(mark, visit);
        } else if let Some(parent) = self.tree.parent(visit.node) {
            self.push_visit(parent, News::Verify);
            self.arrivals.push(visit);
        }
    }

    /// A watched directory is not at its path any more. While it was, its parent did not look out
    /// for it; what came there before the parent does so again is found by a second visit.
    fn look_again(&mut self, node: NodeId) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        self.abandon(node, "it is gone");
        self.lost_child(parent, &name);
    }

    fn drop_unseen(&mut self, node: NodeId) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        if self.tree.wd(node).is_some() {
            self.abandon(node, "it is gone");
        }
        self.tree.detach(node);
        self.set_found(parent, &name, false);
    }

    fn tell_missing(&mut self, node: NodeId, error: &ScanError) {
        let config = Rc::clone(&self.config);
        for member in self.covers.members(self.tree.cover(node)).to_vec() {
            let name = &member.watch(&config).logname;
            match (member.role, error) {
                (Role::Root, ScanError::NotDirectory) => {
                    // Told once: it may be replaced all the time.
                    let level = if self.ready { Level::Debug } else { Level::Info };
                    self.log_watch(level, name, "watching a single file", node, b"");
                }
                (Role::Root | Role::Seek { .. }, _) => {
                    let wanted = member.pattern(&config).text.clone();
                    self.log_watch(
                        Level::Warning,
                        name,
                        "watch path is missing; waiting for it",
                        node,
                        &wanted,
                    );
                }
                (Role::Below, _) => {}
            }
        }
    }

    fn log_watch(&mut self, level: Level, name: &LogName, message: &str, node: NodeId, wanted: &[u8]) {
        self.log(level, name, |engine| {
            let record = Record::new(level, name, message).field("path", engine.tree.path_of(node, b""));
            if wanted.is_empty() { record } else { record.field("watch_path", wanted) }
        });
    }

    fn log_unwatched(&mut self, level: Level, node: NodeId, why: &str) {
        let name = self.config.daemon.logname.clone();
        self.log(level, &name, |engine| {
            Record::new(level, &name, "directory is not watched")
                .field("path", engine.tree.path_of(node, b""))
                .field("reason", why)
        });
    }
}
