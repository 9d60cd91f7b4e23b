//! What a visit found: a directory, another one than the tree has, or none.

use super::coverage::Known;
use super::deliver::Occurrence;
use super::state::covers::{Member, Role};
use super::state::stream::{Touch, Touched};
use super::state::visit_queue::{Visit, VisitReason};
use super::state::{Step, Trouble, Watcher};
use crate::engine::context::Context;
use crate::engine::ids::NodeId;
use crate::engine::message::{Entry, EntryKind, ScanError, Seen};
use crate::event::EventKind;
use crate::record::{Level, LogName, Record};
use crate::types::Wd;

/// So often a directory that is known under another name is visited again, before both names are
/// taken for true: that one was misunderstood may show only when further events are read.
const TRIES_MAX: u8 = 4;

/// So often, once a second, a visit is made again that failed for a reason such as EIO. A shorter fault of a
/// disk or a server loses nothing; a filesystem that always fails takes no time after that.
const FAILURES_MAX: u8 = 10;

impl Watcher {
    /// A directory is where it should be. `touched` is what happens in it while it is visited.
    pub(super) fn on_seen(&mut self, step: &mut Step<'_, '_>, visit: Visit, seen: Seen, touched: Touched) {
        let node = visit.node;
        match self.tree.wd(node) {
            Some(known) if known != seen.wd => {
                self.joins.forget(node);
                self.replaced(step, node);
                // It is watched anew when it is visited, if that is allowed.
                self.unwatch_unused(step.cx, seen.wd);
                return;
            }
            // Asked for twice, and told once.
            Some(_) if matches!(visit.reason, VisitReason::Created | VisitReason::Moved) => return,
            Some(_) => {}
            None if self.take_known_elsewhere(step, visit, seen.wd) => return,
            None => {
                if let Some(watch) = self.full_watch(step.cx, node) {
                    self.hold_back(step.cx, node, watch);
                    self.joins.forget(node);
                    return self.unwatch_unused(step.cx, seen.wd);
                }
                self.tree.bind(node, seen.wd);
                self.count_in(node);
                self.note_watched(step.cx, node, seen.remote);
                self.join_first(node, visit.reason);
            }
        }
        match visit.reason {
            VisitReason::Verify => return,
            VisitReason::Unsettled => return self.settle_by_visit(step, node, &seen.entries, &touched),
            _ => {}
        }
        self.on_room(step.cx, Some(node));
        self.seek_children(step.cx, node, visit.reason);
        if visit.reason == VisitReason::Changed {
            self.end_doubt(step, node);
            self.repair.since_ns.remove(&node);
            self.compare(step, node, seen.entries, &touched);
        } else {
            self.enter(step, node, visit.reason, seen.entries, touched);
        }
        if visit.reason == VisitReason::Joined {
            self.end_join(node);
        }
    }

    /// Deals with a directory that was found here but is known elsewhere: it was renamed. Returns
    /// `false` when it was not, because both are bind mounts of one directory.
    fn take_known_elsewhere(&mut self, step: &mut Step<'_, '_>, visit: Visit, wd: Wd) -> bool {
        let mut known: Vec<NodeId> = self.tree.nodes_of(wd).iter().collect();
        known.retain(|known| !self.leads_to_root(*known));
        if known.is_empty() || self.leads_to_root(visit.node) {
            return false;
        }
        // It came before its new parent was watched: this is its arrival. Or something above it is
        // gone, and it had left that before.
        let is_nowhere = |known: &NodeId| self.is_between_names(*known) || !self.tree.is_attached(*known);
        if let Some(moved) = known.iter().copied().find(is_nowhere) {
            self.found_again(step, visit.node, moved);
            return true;
        }
        if visit.tries >= TRIES_MAX {
            return false;
        }
        // Or events about it were dropped: first see which directory is where.
        for node in known {
            self.push_visit(node, VisitReason::Verify);
        }
        self.visit_again(Visit { tries: visit.tries + 1, known: Some(wd), ..visit });
        true
    }

    /// A directory that is between two names, below one that is, or below one that is gone, is what
    /// a listing shows as `node`.
    fn found_again(&mut self, step: &mut Step<'_, '_>, node: NodeId, moved: NodeId) {
        self.split_pending(step.cx, moved);
        let Some(rename) = self.renames.take_of_node(moved) else { return };
        if let Some(parent) = self.tree.parent(node) {
            let name = self.tree.name(node).to_vec();
            self.tree.detach(node);
            self.arrived(step, moved, parent, &name);
            self.visit_unseen(moved);
        }
        self.release_rename(step.cx, rename);
    }

    /// Below a directory that was nowhere, some may have been skipped.
    fn visit_unseen(&mut self, top: NodeId) {
        let mut nodes = self.tree.subtree(top);
        nodes.retain(|node| self.tree.is_linked(*node));
        for node in nodes {
            if self.tree.wd(node).is_none() {
                self.push_visit(node, VisitReason::Created);
            } else if self.repair.pass.is_some() {
                self.push_visit(node, VisitReason::Changed);
            }
        }
    }

    /// At the path of a watched directory there is another one by now.
    fn replaced(&mut self, step: &mut Step<'_, '_>, node: NodeId) {
        let (Some(parent), name) = (self.tree.parent(node), self.tree.name(node).to_vec()) else { return };
        if self.leads_to_root(node) {
            self.abandon(step, node, "another directory took its place");
        } else {
            self.detach_unknown(step.cx, node);
        }
        self.guess(step.cx, parent, &name, VisitReason::Created, Known::Before);
    }

    /// The watch path, or a part of it, is there: its parent need not look out for it any more.
    fn note_watched(&mut self, cx: &mut Context<'_>, node: NodeId, remote: Option<&str>) {
        for member in self.covers.inside(self.cover(node)).iter().filter(|member| member.role == Role::Root) {
            let watch = member.watch(cx.config);
            self.troubles.remove(&member.pattern(cx.config).text);
            self.log_watch(cx, (Level::Info, &watch.logname), "watching", node, b"");
            if let Some(remote) = remote
                && watch.rescan_ms == 0
            {
                let message = format!(
                    "changes made elsewhere to {remote} are not reported; set rescan to look for them"
                );
                self.log_watch(cx, (Level::Warning, &watch.logname), &message, node, b"");
            }
        }
        self.note_found(cx, node);
    }

    /// Looks for the next components of the watch paths that lead through here.
    fn seek_children(&mut self, cx: &mut Context<'_>, node: NodeId, reason: VisitReason) {
        let reason = if reason == VisitReason::Joined { VisitReason::Moved } else { reason };
        for name in self.covers.literal_names(cx.config, self.cover(node)) {
            self.adopt(cx, node, name, reason, Known::Listed(reason));
        }
    }

    /// Deals with what was in a directory before the events that are still to come: directories are
    /// visited, events synthesized for what is new.
    fn enter(
        &mut self,
        step: &mut Step<'_, '_>,
        node: NodeId,
        reason: VisitReason,
        mut entries: Vec<Entry>,
        mut touched: Touched,
    ) {
        // For people, and for tests: a directory's own order is none.
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for Entry { name, kind, .. } in entries {
            let touch = touched.remove(&name).unwrap_or_default();
            self.meet(step, (node, reason), &name, Some(kind), touch);
        }
        // What had left when the directory was listed.
        for (name, touch) in touched.into_iter().filter(|(_, touch)| touch.first.is_some()) {
            self.meet(step, (node, reason), &name, None, touch);
        }
    }

    /// An entry of a new directory, listed as `kind`.
    fn meet(
        &mut self,
        step: &mut Step<'_, '_>,
        (node, reason): (NodeId, VisitReason),
        name: &[u8],
        kind: Option<EntryKind>,
        touch: Touch,
    ) {
        if touch.is_new() {
            return;
        }
        let is_dir = touch.first.map_or(kind == Some(EntryKind::Directory), |(_, is_dir)| is_dir);
        if is_dir || kind == Some(EntryKind::Other) && self.leads_to_root(node) {
            self.meet_directory(step.cx, node, reason, name);
        }
        let catch_up = reason == VisitReason::Existing && self.catches_up(step.cx, node);
        let appeared = match reason {
            VisitReason::Created => EventKind::Create,
            VisitReason::Existing if catch_up => EventKind::Create,
            VisitReason::Moved => EventKind::MovedTo,
            VisitReason::Joined => return self.deliver_joined(step, node, name, (kind, is_dir), touch),
            VisitReason::Existing | VisitReason::Verify | VisitReason::Unsettled | VisitReason::Changed => {
                return;
            }
        };
        let event = Occurrence { catch_up, ..Occurrence::new(node, name, appeared, is_dir) };
        self.deliver_synthesized(step, &event);
        if !is_dir && reason != VisitReason::Moved && !touch.closed {
            // What was listed may be another file of this name.
            self.deliver_written(step, node, name, kind.filter(|_| !touch.comes), catch_up);
        }
    }

    fn meet_directory(&mut self, cx: &mut Context<'_>, node: NodeId, reason: VisitReason, name: &[u8]) {
        match reason {
            // What is known has been dealt with, and what is not appears by the rename.
            VisitReason::Joined if self.tree.child(node, name).is_some() => {}
            VisitReason::Joined => self.adopt(cx, node, name, VisitReason::Moved, Known::Appeared),
            _ => self.adopt(cx, node, name, reason, Known::Listed(reason)),
        }
    }

    /// Whether what is there at start is to be told, to a watch that covers the directory.
    pub(super) fn catches_up(&self, cx: &Context<'_>, node: NodeId) -> bool {
        let wants = |member: &Member| member.watch(cx.config).catch_up;
        !self.ready && self.covers.inside(self.cover(node)).iter().any(wants)
    }

    /// A directory could not be visited; `mark` is the position of that moment.
    pub(super) fn on_unseen(&mut self, step: &mut Step<'_, '_>, visit: Visit, error: &ScanError, mark: u64) {
        let node = visit.node;
        if let ScanError::Stale(other) = error {
            return self.on_stale(step.cx, visit, *other, mark);
        }
        self.doubt_known(visit);
        self.note_trouble(step.cx, node, error);
        let is_watched = self.tree.wd(node).is_some();
        let is_watched_below = is_watched && !self.leads_to_root(node);
        let is_repeated = match error {
            ScanError::Exhausted(_) => true,
            ScanError::Other(_) => visit.failures < FAILURES_MAX,
            ScanError::NotFound | ScanError::NotDirectory => is_watched_below,
            _ => false,
        };
        if visit.reason == VisitReason::Joined && !is_repeated {
            self.joins.forget(node);
        }
        match error {
            ScanError::Stale(_) => {}
            ScanError::NotFound | ScanError::NotDirectory if is_watched_below => {
                self.detach_unknown(step.cx, node);
                self.visit_again(visit);
            }
            ScanError::NotFound | ScanError::NotDirectory if is_watched => self.look_again(step, node),
            ScanError::NotFound | ScanError::NotDirectory => {
                self.log_missing(step.cx, node, error);
                self.drop_unseen(step, node);
            }
            ScanError::Denied if self.seeks(node) => {
                // A directory that may not be read may still be passed through.
                self.seek_children(step.cx, node, visit.reason);
            }
            ScanError::Denied => {
                // A change of mounts is a reason to visit again, not to log it again.
                let level = if visit.reason == VisitReason::Verify { Level::Debug } else { Level::Warning };
                self.log_unwatched(step.cx, level, node, "no permission to read it");
                self.leave_unseen(step, node);
            }
            ScanError::Untrusted { link, why } => {
                let level = if self.said_links.insert(link) { Level::Warning } else { Level::Debug };
                step.cx.log_daemon(level, "directory is not watched", |record| {
                    record
                        .field("path", self.tree.path_of(node, b""))
                        .field("reason", why)
                        .field("link", link)
                });
                self.leave_unseen(step, node);
            }
            ScanError::NoSpace { limit } => self.on_no_space(step.cx, node, *limit),
            ScanError::Exhausted(text) => {
                self.log_unwatched(step.cx, Level::Warning, node, &format!("{text}; trying again"));
                self.postpone(step.cx, visit);
            }
            ScanError::Other(text) if visit.failures < FAILURES_MAX => {
                if visit.failures == 0 {
                    self.log_unwatched(step.cx, Level::Warning, node, &format!("{text}; trying again"));
                }
                self.postpone(step.cx, Visit { failures: visit.failures + 1, ..visit });
            }
            ScanError::Other(text) => {
                self.log_unwatched(step.cx, Level::Warning, node, text);
                self.leave_unseen(step, node);
            }
        }
    }

    /// The parent is not where it was, or something took the name meanwhile.
    fn on_stale(&mut self, cx: &mut Context<'_>, visit: Visit, other: Option<Wd>, mark: u64) {
        other.iter().for_each(|other| self.unwatch_unused(cx, *other));
        // An event to come says so, or the tree is wrong about the parent.
        if mark <= self.stream.position()
            && let Some(parent) = self.tree.parent(visit.node)
        {
            self.push_visit(parent, VisitReason::Verify);
        }
        self.visit_after(mark, visit);
    }

    /// A directory is there but cannot be visited. What is known of it stays true: it may be
    /// renamed, and a watch that it has goes on.
    fn leave_unseen(&mut self, step: &mut Step<'_, '_>, node: NodeId) {
        if self.leads_to_root(node) {
            self.drop_unseen(step, node);
        }
    }

    /// Here was a directory that is known elsewhere, and no further visit will say which is true.
    fn doubt_known(&mut self, visit: Visit) {
        let known = visit.known.map(|wd| self.tree.nodes_of(wd)).unwrap_or_default();
        for node in known.iter() {
            self.push_visit(node, VisitReason::Verify);
        }
    }

    /// A watched directory is not at its path any more. While it was, its parent did not look out
    /// for it; what came there before the parent does so again is found by a second visit.
    fn look_again(&mut self, step: &mut Step<'_, '_>, node: NodeId) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        self.abandon(step, node, "it is gone");
        self.lost_child(step.cx, parent, &name);
    }

    fn drop_unseen(&mut self, step: &mut Step<'_, '_>, node: NodeId) {
        let Some(parent) = self.tree.parent(node) else { return };
        let name = self.tree.name(node).to_vec();
        if self.tree.wd(node).is_some() {
            self.abandon(step, node, "it is gone");
        }
        self.tree.detach(node);
        self.set_found(step.cx, parent, &name, false);
    }

    /// A visit to a watch path, or to a directory on the way to it, did not end with a watch.
    fn note_trouble(&mut self, cx: &Context<'_>, node: NodeId, error: &ScanError) {
        let cover = self.cover(node);
        let roots = self.covers.inside(cover).iter().filter(|member| member.role == Role::Root);
        for member in roots.chain(self.covers.seeking(cover)) {
            let trouble = match error {
                ScanError::NotDirectory if member.role == Role::Root => Trouble::SingleFile,
                ScanError::NotFound | ScanError::NotDirectory => Trouble::Missing,
                ScanError::Denied => Trouble::Failed("no permission to read it".to_owned()),
                ScanError::Untrusted { why, .. } => Trouble::Failed(why.clone()),
                ScanError::Exhausted(text) | ScanError::Other(text) => Trouble::Failed(text.clone()),
                ScanError::Stale(_) | ScanError::NoSpace { .. } => continue,
            };
            self.troubles.insert(member.pattern(cx.config).text.clone(), trouble);
        }
    }

    fn log_missing(&self, cx: &mut Context<'_>, node: NodeId, error: &ScanError) {
        let cover = self.cover(node);
        let roots = self.covers.inside(cover).iter().filter(|member| member.role == Role::Root);
        for member in roots.chain(self.covers.seeking(cover)) {
            let name = &member.watch(cx.config).logname;
            if member.role == Role::Root && *error == ScanError::NotDirectory {
                // Logged once: it may be replaced all the time.
                let level = if self.ready { Level::Debug } else { Level::Info };
                self.log_watch(cx, (level, name), "watching a single file", node, b"");
            } else {
                let wanted = &member.pattern(cx.config).text;
                let text = "watch path is missing; waiting for it";
                self.log_watch(cx, (Level::Warning, name), text, node, wanted);
            }
        }
    }

    fn log_watch(
        &self,
        cx: &mut Context<'_>,
        (level, name): (Level, &LogName),
        message: &str,
        node: NodeId,
        wanted: &[u8],
    ) {
        cx.log(level, name, || {
            let record = Record::new(level, name, message).field("path", self.tree.path_of(node, b""));
            if wanted.is_empty() { record } else { record.field("watch_path", wanted) }
        });
    }

    fn log_unwatched(&self, cx: &mut Context<'_>, level: Level, node: NodeId, why: &str) {
        cx.log_daemon(level, "directory is not watched", |record| {
            record.field("path", self.tree.path_of(node, b"")).field("reason", why)
        });
    }
}
