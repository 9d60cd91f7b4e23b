//! What a visit found: a directory, another one than we thought, or none.

use std::rc::Rc;

use super::Engine;
use super::answers::{Touch, Touched};
use super::arrivals::{News, Visit};
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
    /// A directory is where it should be. `touched` is what happens in it while it is looked at.
    pub(super) fn on_seen(&mut self, visit: Visit, seen: Seen, touched: Touched) {
        let node = visit.node;
        match self.tree.wd(node) {
            Some(known) if known != seen.wd => {
                self.joinings.forget(node);
                self.replaced(node);
                // It is watched anew when it is looked at, if that is allowed.
                self.unwatch_unused(seen.wd);
                return;
            }
            // Asked for twice, and told once.
            Some(_) if matches!(visit.news, News::Created | News::Moved) => return,
            Some(_) => {}
            None if self.known_elsewhere(visit, seen.wd) => return,
            None => {
                self.tree.bind(node, seen.wd);
                self.found(node, seen.remote);
                self.join_first(node, visit.news);
            }
        }
        match visit.news {
            News::Verify => return,
            News::Writers => return self.judge_writers(node, &seen.entries, &touched),
            News::Existing | News::Created | News::Moved | News::Joined | News::Changed => {}
        }
        self.fed(Some(node));
        self.seek_children(node, visit.news);
        if visit.news == News::Changed {
            self.end_doubt(node);
            self.compare(node, seen.entries, &touched);
        } else {
            self.enter(node, visit.news, seen.entries, touched);
        }
        if visit.news == News::Joined {
            self.end_joining(node);
        }
    }

    /// Deals with a directory that was found here but is known elsewhere: it was renamed. Returns
    /// `false` when it was not, because both are bind mounts of one directory.
    fn known_elsewhere(&mut self, visit: Visit, wd: Wd) -> bool {
        let mut known = Vec::new();
        self.tree.by_wd(wd, &mut known);
        known.retain(|known| !self.leads_to_root(*known));
        if known.is_empty() || self.leads_to_root(visit.node) {
            return false;
        }
        // It came before its new parent was watched: this is its arrival. Or something above it is
        // gone, and it had left that before.
        let is_nowhere = |known: &NodeId| self.half_above(*known).is_some() || !self.tree.is_attached(*known);
        if let Some(moved) = known.iter().copied().find(is_nowhere) {
            self.found_again(visit.node, moved);
            return true;
        }
        if visit.tries >= TRIES_MAX {
            return false;
        }
        // Or events about it were dropped: first see who is where.
        for node in known {
            self.push_visit(node, News::Verify);
        }
        self.visit_again(Visit { tries: visit.tries + 1, known: Some(wd), ..visit });
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
            self.visit_unseen(moved);
        }
        self.release_half(half);
    }

    /// Below a directory that was nowhere, some may have been skipped.
    fn visit_unseen(&mut self, top: NodeId) {
        let mut nodes = self.tree.subtree(top);
        nodes.retain(|node| self.tree.is_linked(*node));
        for node in nodes {
            if self.tree.wd(node).is_none() {
                self.push_visit(node, News::Created);
            } else if self.pass.is_some() {
                self.push_visit(node, News::Changed);
            }
        }
    }

    /// At the path of a watched directory there is another one by now.
    fn replaced(&mut self, node: NodeId) {
        let (Some(parent), name) = (self.tree.parent(node), self.tree.name(node).to_vec()) else { return };
        if self.leads_to_root(node) {
            self.abandon(node, "another directory took its place");
        } else {
            self.mislay(node);
        }
        self.guess(parent, &name, News::Created, Known::Before);
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
                let news = if news == News::Joined { News::Moved } else { news };
                self.adopt(node, name, news, Known::Listed(news));
            }
        }
    }

    /// Deals with what was in a directory before the events that are still to come: directories are
    /// visited, events made up for what is new.
    fn enter(&mut self, node: NodeId, news: News, mut entries: Vec<Entry>, mut touched: Touched) {
        // For people, and for tests: a directory's own order is none.
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for Entry { name, kind, .. } in entries {
            let touch = touched.remove(&name).unwrap_or_default();
            self.meet(node, news, &name, Some(kind), touch);
        }
        // What had left when the directory was listed.
        for (name, touch) in touched.into_iter().filter(|(_, touch)| touch.first.is_some()) {
            self.meet(node, news, &name, None, touch);
        }
    }

    /// An entry of a new directory, listed as `kind`.
    fn meet(&mut self, node: NodeId, news: News, name: &[u8], kind: Option<EntryKind>, touch: Touch) {
        if touch.is_new() {
            return;
        }
        let is_dir = touch.first.map_or(kind == Some(EntryKind::Directory), |(_, is_dir)| is_dir);
        if is_dir || kind == Some(EntryKind::Other) && self.leads_to_root(node) {
            match news {
                // What is known has been dealt with, and what is not appears by the rename.
                News::Joined if self.tree.child(node, name).is_some() => {}
                News::Joined => self.adopt(node, name, News::Moved, Known::Appeared),
                _ => self.adopt(node, name, news, Known::Listed(news)),
            }
        }
        let catch_up = news == News::Existing && self.catches_up(node);
        let appeared = match news {
            News::Created => EventKind::Create,
            News::Existing if catch_up => EventKind::Create,
            News::Moved => EventKind::MovedTo,
            News::Joined => return self.tell_joined(node, name, kind, is_dir, touch),
            News::Existing | News::Verify | News::Writers | News::Changed => return,
        };
        self.counters.made_up += 1;
        self.deliver(&Occurrence { node, name, kind: appeared, is_dir, src: None, catch_up });
        if !is_dir && news != News::Moved && !touch.closed {
            // What was listed may be another file of this name.
            self.tell_written(node, name, kind.filter(|_| !touch.comes), catch_up);
        }
    }

    /// Tells of a file that may have been written when nobody looked, or remembers to ask.
    pub(super) fn tell_written(
        &mut self,
        node: NodeId,
        name: &[u8],
        kind: Option<EntryKind>,
        catch_up: bool,
    ) {
        match kind {
            Some(EntryKind::File) => self.tell_close(node, name, catch_up),
            Some(EntryKind::OpenFile) | None => self.remember_writer(node, name, None, catch_up),
            Some(EntryKind::Unsure { stamp }) => self.remember_writer(node, name, Some(stamp), catch_up),
            Some(EntryKind::Directory | EntryKind::Other) => {}
        }
    }

    /// Whether what is there at start is to be told, to a watch that covers the directory.
    pub(super) fn catches_up(&self, node: NodeId) -> bool {
        let wants = |member: &Member| member.is_inside() && member.watch(&self.config).catch_up;
        !self.ready && self.covers.members(self.tree.cover(node)).iter().any(wants)
    }

    /// A directory could not be looked at; `mark` is the position of that moment.
    pub(super) fn on_unseen(&mut self, visit: Visit, error: &ScanError, mark: u64) {
        let node = visit.node;
        if let ScanError::Stale(other) = error {
            other.iter().for_each(|other| self.unwatch_unused(*other));
            // An event to come says so, or we are wrong about the parent.
            if mark <= self.position
                && let Some(parent) = self.tree.parent(node)
            {
                self.push_visit(parent, News::Verify);
            }
            self.visit_after(mark, visit);
            return;
        }
        self.doubt_known(visit);
        self.note_trouble(node, error);
        let is_watched_below = self.tree.wd(node).is_some() && !self.leads_to_root(node);
        let is_repeated = match error {
            ScanError::Exhausted(_) => true,
            ScanError::NotFound | ScanError::NotDirectory => is_watched_below,
            _ => false,
        };
        if visit.news == News::Joined && !is_repeated {
            self.joinings.forget(node);
        }
        let level = if self.leads_to_root(node) { Level::Warning } else { Level::Debug };
        match error {
            ScanError::Stale(_) => {}
            ScanError::NotFound | ScanError::NotDirectory if is_watched_below => {
                self.mislay(node);
                self.visit_again(visit);
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
                self.leave_unseen(node);
            }
            ScanError::NoSpace { limit } => self.on_no_space(node, *limit),
            ScanError::Exhausted(text) => {
                self.log_unwatched(Level::Warning, node, &format!("{text}; trying again"));
                self.postpone(visit);
            }
            ScanError::Other(text) => {
                self.log_unwatched(level.max(Level::Warning), node, text);
                self.leave_unseen(node);
            }
        }
    }

    /// A directory is there but cannot be looked at. What is known of it stays true: it may be
    /// renamed, and a watch that it has goes on.
    fn leave_unseen(&mut self, node: NodeId) {
        if self.leads_to_root(node) {
            self.drop_unseen(node);
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
