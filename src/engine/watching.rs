//! How a directory comes to be watched, and ceases to be.
//!
//! Everything starts at `/`, which is on the way to every watch path: from there the components of
//! the paths are looked for one by one, the same way whether they exist at start or appear later.
//! Directories wait in the arrivals' queue; [`Engine::visit_some`] hands a few with the same parent
//! to the shell; [`Engine::on_scanned`] takes what was found, which leads to further ones.

use std::collections::HashSet;

use super::arrivals::{Asked, News, Visit};
use super::cover::{CoverId, Member, Role};
use super::covering::Known;
use super::message::{Effect, Item, List, Scan};
use super::tree::{NodeId, ROOT};
use super::{Engine, Timer};
use crate::event::EventKind;
use crate::pattern::Component;
use crate::record::{Level, Record};
use crate::types::{Millis, Wd};

/// Directories in one [`Scan`]: enough that the way to their parent is walked once for many, few
/// enough that events are answered in between.
const SCAN_ITEMS_MAX: usize = 64;

/// The same where files are listed too: what was seen is held until all have been looked at.
const LISTINGS_MAX: usize = 16;

/// Until a visit is made again for which descriptors or memory were wanting.
const POSTPONED_MS: Millis = 1_000;

fn is_full(scan: &Scan) -> bool {
    let few = |item: &Item| matches!(item.list, List::Nothing | List::Directories | List::Named);
    let len_max = if scan.items.iter().all(few) { SCAN_ITEMS_MAX } else { LISTINGS_MAX };
    scan.items.len() >= len_max
}

impl Engine {
    /// Looks for all watch paths from `/` on.
    pub(super) fn seek_all(&mut self) {
        let cover = self.root_cover();
        self.tree.set_cover(ROOT, cover);
        self.push_visit(ROOT, News::Existing);
    }

    pub(super) fn push_visit(&mut self, node: NodeId, news: News) {
        self.visit_again(Visit { node, news, tries: 0, known: None });
    }

    pub(super) fn visit_again(&mut self, visit: Visit) {
        self.tree.pin(visit.node);
        self.arrivals.push(visit);
    }

    /// Makes a visit again once the reader has passed `mark`.
    pub(super) fn visit_after(&mut self, mark: u64, visit: Visit) {
        self.tree.pin(visit.node);
        self.arrivals.push_at(mark, visit);
    }

    /// Visits of directories that are gone, and doubts that are the same, are dropped before their turn
    /// when there are many: whoever renames directories to and fro faster than they can be looked at
    /// would have all the memory there is.
    pub(super) fn sift_visits(&mut self) {
        if self.arrivals.len() < self.sift_at {
            return;
        }
        let mut doubted = HashSet::new();
        for visit in self.arrivals.take_all() {
            let is_news = visit.news != News::Verify || doubted.insert(visit.node);
            let can_be_found = self.tree.is_attached(visit.node) || self.half_above(visit.node).is_some();
            if is_news && can_be_found {
                self.arrivals.push(visit);
            } else {
                self.drop_visit(visit);
            }
        }
        self.sift_at = self.options.sift_at.max(2 * self.arrivals.len());
    }

    /// An event says that a directory was made. What had its name is gone.
    pub(super) fn created(&mut self, parent: NodeId, name: &[u8]) {
        match self.tree.child(parent, name) {
            Some(child) if self.leads_to_root(child) => self.disappeared(parent, name),
            Some(child) => self.take_for_gone(child),
            None => {}
        }
        self.adopt(parent, name, News::Created, Known::Appeared);
    }

    /// Something else has a directory's name. What is watched may yet be found elsewhere.
    pub(super) fn take_for_gone(&mut self, node: NodeId) {
        if self.tree.wd(node).is_some() {
            self.mislay(node);
        } else {
            self.abandon(node, "it is gone");
        }
    }

    /// There may be a directory of this name, which is looked at.
    pub(super) fn guess(&mut self, parent: NodeId, name: &[u8], news: News, known: Known) {
        self.adopt(parent, name, news, known);
        if let Some(child) = self.tree.child(parent, name)
            && self.tree.wd(child).is_none()
        {
            self.tree.guess(child);
        }
    }

    /// Something that is no directory appeared or went; on the way to a watch path it may be a link
    /// to one.
    pub(super) fn file_changed(&mut self, parent: NodeId, name: &[u8]) {
        let config = &self.config;
        let sought = |member: &Member| match member.role {
            Role::Seek { depth, .. } => member.pattern(config).components[usize::from(depth)].matches(name),
            _ => false,
        };
        if !self.covers.members(self.tree.cover(parent)).iter().any(sought) {
            return;
        }
        match self.tree.child(parent, name) {
            Some(child) => self.push_visit(child, News::Verify),
            None => self.adopt(parent, name, News::Created, Known::Appeared),
        }
    }

    /// An event says that there is no directory of this name any more.
    pub(super) fn disappeared(&mut self, parent: NodeId, name: &[u8]) {
        if let Some(child) = self.tree.child(parent, name) {
            self.tree.detach(child);
            self.lost_child(parent, name);
        }
    }

    /// Something other than an event says that there is a directory of this name.
    pub(super) fn discover(&mut self, parent: NodeId, name: &[u8], news: News) {
        self.adopt(parent, name, news, Known::Before);
    }

    /// Gives a child a node, if a watch covers it, and queues a visit unless it had one already.
    pub(super) fn adopt(&mut self, parent: NodeId, name: &[u8], news: News, known: Known) {
        let cover = self.cover_of_child(parent, name, known);
        if cover == CoverId::NONE {
            return;
        }
        let node = match self.tree.child(parent, name) {
            // Seen before. A visit may still be queued; another one would find nothing new.
            Some(node) if self.tree.cover(node) == cover => return,
            Some(node) => node,
            None => match self.tree.insert(parent, name) {
                Some(node) => node,
                None => {
                    self.log_daemon(Level::Error, "no room for more directories; some are not watched");
                    return;
                }
            },
        };
        self.tree.set_cover(node, cover);
        self.push_visit(node, news);
    }

    /// Makes a visit again in a while: the machine was short of something.
    pub(super) fn postpone(&mut self, visit: Visit) {
        self.tree.pin(visit.node);
        if self.postponed.is_empty() {
            self.wheel.insert(self.now + POSTPONED_MS, Timer::Postponed);
        }
        self.postponed.push(visit);
    }

    pub(super) fn on_postponed(&mut self) {
        for visit in std::mem::take(&mut self.postponed) {
            self.arrivals.push(visit);
        }
    }

    /// Asks the shell to look at the next directories that have the same parent.
    pub(super) fn visit_some(&mut self) {
        let mut scan: Option<(Option<NodeId>, Scan)> = None;
        while let Some(&Visit { node, .. }) = self.arrivals.peek() {
            let parent = self.tree.parent(node);
            if scan.as_ref().is_some_and(|(first, scan)| *first != parent || is_full(scan)) {
                break;
            }
            let Some(visit) = self.arrivals.pop() else { break };
            if !self.can_visit(visit) {
                continue;
            }
            let item = self.item(visit);
            self.arrivals.ask(Asked { visit, parent, name: item.name.clone().into() });
            match &mut scan {
                Some((_, scan)) => scan.items.push(item),
                None => scan = Some((parent, self.scan(parent, item))),
            }
        }
        if let Some((_, scan)) = scan {
            self.out.push(Effect::Scan(scan));
        }
        self.note_visited();
    }

    /// Perhaps that was the last visit.
    pub(super) fn note_visited(&mut self) {
        self.arrivals.resume(self.position);
        if self.arrivals.is_empty() {
            self.sift_at = self.options.sift_at;
        }
        self.give_up_pairs();
        if !self.awaits_answers() {
            self.unwatch_unwanted();
        }
        self.tell_ready();
    }

    /// Whether a queued visit is still to be made now; if not, it is dropped or waits elsewhere.
    fn can_visit(&mut self, visit: Visit) -> bool {
        if let Some(half) = self.half_above(visit.node) {
            half.visits.push(visit);
            return false;
        }
        // A directory without a watch is visited for other reasons, or cannot be.
        let wanted = (visit.news != News::Verify || self.tree.wd(visit.node).is_some())
            && self.tree.is_attached(visit.node)
            && self.tree.cover(visit.node) != CoverId::NONE
            && self.can_be_in(self.tree.parent(visit.node));
        let goes = wanted && !self.must_starve(visit.node);
        if !goes {
            self.drop_visit(visit);
        }
        goes
    }

    fn drop_visit(&mut self, visit: Visit) {
        match visit.news {
            News::Writers => self.forget_writers(visit.node),
            News::Joined | News::Moved => self.joinings.forget(visit.node),
            _ => {}
        }
        if visit.news == News::Verify
            && self.tree.wd(visit.node).is_some()
            && !self.tree.is_attached(visit.node)
            && self.half_above(visit.node).is_none()
        {
            // The directory that it was in is gone. Since that was empty, it had left before.
            self.mislay(visit.node);
        }
        self.tree.unpin(visit.node);
    }

    /// Whether there is a way to a directory through its parent. One that has no watch is dead,
    /// except on the way to a watch path, where it need not be readable.
    fn can_be_in(&self, parent: Option<NodeId>) -> bool {
        parent.is_none_or(|parent| self.tree.wd(parent).is_some() || self.seeks(parent))
    }

    fn scan(&self, parent: Option<NodeId>, first: Item) -> Scan {
        let Some(parent) = parent else {
            return Scan { base: Vec::new(), trusted: 0, expect: None, items: vec![first] };
        };
        let base = self.tree.path_of(parent, b"");
        Scan { base, trusted: self.trusted_len(parent), expect: self.tree.wd(parent), items: vec![first] }
    }

    /// How much of a directory's path leads to the deepest one above it that is a watch path or on the
    /// way to one.
    pub(super) fn trusted_len(&self, node: NodeId) -> usize {
        let mut top = Some(node);
        while let Some(node) = top
            && !self.leads_to_root(node)
        {
            top = self.tree.parent(node);
        }
        top.map_or(0, |node| self.tree.path_of(node, b"").len())
    }

    fn item(&self, visit: Visit) -> Item {
        let node = visit.node;
        let own = self.covers.mask(self.tree.cover(node));
        let wd = self.tree.wd(node);
        let mut mask = own;
        if let Some(wd) = wd {
            let mut aliases = Vec::new();
            self.tree.by_wd(wd, &mut aliases);
            mask = aliases.iter().fold(own, |mask, alias| mask | self.covers.mask(self.tree.cover(*alias)));
        }
        Item {
            node,
            name: self.tree.name(node).to_vec(),
            mask,
            replace: wd.is_some(),
            follow: self.leads_to_root(node),
            list: self.list_wanted(visit),
            names: if visit.news == News::Writers { self.writers.asked(node) } else { Vec::new() },
        }
    }

    /// Asks whether the directory of this name is still the one we think.
    pub(super) fn verify_child(&mut self, parent: NodeId, name: &[u8]) {
        if let Some(child) = self.tree.child(parent, name)
            && self.tree.wd(child).is_some()
        {
            self.push_visit(child, News::Verify);
        }
    }

    fn list_wanted(&self, visit: Visit) -> List {
        let cover = self.tree.cover(visit.node);
        let looks_in = |member: &Member| match member.role {
            Role::Seek { depth, .. } => {
                !matches!(member.pattern(&self.config).components[usize::from(depth)], Component::Literal(_))
            }
            Role::Root | Role::Below => {
                let watch = member.watch(&self.config);
                watch.rec || watch.auto_add && visit.news != News::Existing
            }
        };
        let closes = self.covers.mask(cover) & EventKind::CloseWrite.bit() != 0;
        match visit.news {
            News::Verify => List::Nothing,
            News::Writers => List::Named,
            News::Changed if self.tree.wd(visit.node).is_none() && self.unseen.contains(&visit.node) => {
                List::Changes { since_ns: i64::MIN }
            }
            News::Changed => List::Changes { since_ns: self.changed_since_ns() },
            News::Existing if self.catches_up(visit.node) => List::Writers,
            News::Existing if self.covers.members(cover).iter().any(looks_in) => self.existing_list(cover),
            News::Existing => List::Nothing,
            News::Joined => {
                self.joinings.list_wanted(visit.node).unwrap_or_else(|| self.existing_list(cover))
            }
            News::Created if closes => List::Writers,
            News::Created | News::Moved => List::Everything,
        }
    }

    /// A wildcard may mean a link to a directory, which a listing of directories alone leaves out.
    fn existing_list(&self, cover: CoverId) -> List {
        let seeks = |member: &Member| matches!(member.role, Role::Seek { .. });
        if self.covers.members(cover).iter().any(seeks) { List::Everything } else { List::Directories }
    }

    /// A directory was lost that may have been a watch path, or led to one: look for it again.
    pub(super) fn lost_child(&mut self, parent: NodeId, name: &[u8]) {
        if self.set_found(parent, name, false) {
            self.adopt(parent, name, News::Created, Known::Before);
        }
    }

    /// The kernel took the watch away: the directory was deleted or its filesystem unmounted.
    pub(super) fn on_ignored(&mut self, node: NodeId) {
        self.tree.pin(node);
        self.tree.unbind(node);
        if self.tree.is_linked(node)
            && let Some(parent) = self.tree.parent(node)
        {
            let name = self.tree.name(node).to_vec();
            self.tree.detach(node);
            self.lost_child(parent, &name);
            if self.tree.is_replaceable(node) || self.pass.is_some() {
                // Another one may have been renamed over it: inotify makes one event of two that
                // are alike but for the cookie, and so of the ends of both renames. Or it was
                // mounted over it, and what was below is there again.
                self.guess(parent, &name, News::Created, Known::Before);
            }
        }
        self.tree.unpin(node);
    }

    /// A directory says that it moved. Below a recursive watch its parents have told more already;
    /// a watch path must be looked at again.
    pub(super) fn on_move_self(&mut self, node: NodeId) {
        if self.tree.is_linked(node) && self.leads_to_root(node) {
            self.push_visit(node, News::Verify);
        }
    }

    /// A directory and all below it are not watched any more; tasks that wait there are cancelled.
    pub(super) fn abandon(&mut self, top: NodeId, why: &str) {
        let mut nodes = self.tree.subtree(top);
        let pinned: HashSet<NodeId> =
            nodes.iter().copied().filter(|node| self.tree.is_pinned(*node)).collect();
        nodes.reverse();
        for &node in &nodes {
            self.tree.pin(node);
        }
        for job in self.tasks.select(&|task| task.waits() && pinned.contains(&task.subject.node)) {
            self.remove_task(job, Level::Warning, &format!("task cancelled: its directory left: {why}"));
        }
        for &node in &nodes {
            if let Some(wd) = self.tree.wd(node) {
                self.tree.unbind(node);
                self.unwatch_unused(wd);
            }
            self.forget_writers(node);
            self.tree.set_cover(node, CoverId::NONE);
            self.tree.detach(node);
        }
        for &node in &nodes {
            self.tree.unpin(node);
        }
    }

    pub(super) fn unwatch_unused(&mut self, wd: Wd) {
        // Another answer may yet say that it is this directory.
        self.unwanted.push(wd);
        if !self.awaits_answers() {
            self.unwatch_unwanted();
        }
    }

    fn unwatch_unwanted(&mut self) {
        let mut others = Vec::new();
        for wd in std::mem::take(&mut self.unwanted) {
            others.clear();
            self.tree.by_wd(wd, &mut others);
            if others.is_empty() {
                self.out.push(Effect::Unwatch(wd));
            }
        }
    }

    fn tell_ready(&mut self) {
        self.end_pass();
        if !self.ready && self.arrivals.is_empty() && !self.awaits_answers() {
            self.ready = true;
            let name = self.config.daemon.logname.clone();
            self.log(Level::Info, &name, |engine| {
                Record::new(Level::Info, &name, "ready")
                    .field("directories", engine.tree.watched().to_string())
            });
            self.out.push(Effect::Ready);
        }
    }
}
