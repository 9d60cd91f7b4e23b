//! How a directory comes to be watched, and ceases to be.
//!
//! Everything starts at `/`, which is on the way to every watch path: from there the components of
//! the paths are looked for one by one, the same way whether they exist at start or appear later.
//! Directories wait in the arrivals' queue; [`Engine::visit_some`] hands a few with the same parent
//! to the shell; [`Engine::on_scanned`] takes what was found, which leads to further ones.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::Engine;
use super::arrivals::{Held, HeldEntries, News, Visit};
use super::cover::{CoverId, Member, Role};
use super::message::{Effect, Entry, EntryKind, Item, List, Scan, ScanError, Seen};
use super::routing::Occurrence;
use super::tree::{NodeId, ROOT};
use crate::config::Config;
use crate::event::EventKind;
use crate::pattern::Component;
use crate::record::{Level, LogName, Record};
use crate::types::Wd;

/// Directories in one [`Scan`]: enough that the way to their parent is walked once for many, few
/// enough that events are answered in between.
const SCAN_ITEMS_MAX: usize = 64;

/// So often a directory that is known under another name is looked at again, before both names are
/// taken for true: that one was misunderstood may show only when further events are read.
const TRIES_MAX: u8 = 4;

/// How a child of a covered directory became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// By listing its parent.
    Listed(News),
    /// By an event.
    Appeared,
    /// It was watched before.
    Before,
}

impl Engine {
    /// Looks for all watch paths from `/` on.
    pub(super) fn seek_all(&mut self) {
        let cover = self.root_cover();
        self.tree.set_cover(ROOT, cover);
        self.push_visit(ROOT, News::Existing);
    }

    pub(super) fn root_cover(&mut self) -> CoverId {
        let config = Rc::clone(&self.config);
        let mut members = Vec::new();
        for (watch, at) in config.watches.iter().zip(0_u16..) {
            for (pattern, path) in watch.paths.iter().zip(0_u16..) {
                let on_the_way = Role::Seek { depth: 0, found: false };
                let role = if pattern.components.is_empty() { Role::Root } else { on_the_way };
                members.push(Member { watch: at, path, role });
            }
        }
        self.intern(&config, members)
    }

    fn intern(&mut self, config: &Config, members: Vec<Member>) -> CoverId {
        let cover = self.covers.intern(config, members);
        if cover.is_none() {
            self.log_daemon(Level::Error, "too many different watch paths overlap; some are not watched");
        }
        cover.unwrap_or(CoverId::NONE)
    }

    /// Which watches cover a child of `parent`.
    fn cover_of_child(&mut self, parent: NodeId, name: &[u8], known: Known) -> CoverId {
        let config = Rc::clone(&self.config);
        let mut path = Vec::new();
        let mut members = Vec::new();
        for member in self.covers.members(self.tree.cover(parent)) {
            let Some(role) = role_of_child(&config, member, name, known) else { continue };
            let watch = member.watch(&config);
            if !watch.exclude.is_empty() && !matches!(role, Role::Seek { .. }) {
                self.tree.path(parent, name, &mut path);
                if watch.excludes(&path) {
                    continue;
                }
            }
            members.push(Member { role, ..*member });
        }
        self.intern(&config, members)
    }

    /// Whether some watch covers a directory that appears under this name.
    pub(super) fn covers_child(&mut self, parent: NodeId, name: &[u8]) -> bool {
        self.cover_of_child(parent, name, Known::Appeared) != CoverId::NONE
    }

    pub(super) fn push_visit(&mut self, node: NodeId, news: News) {
        self.tree.pin(node);
        self.arrivals.push(Visit { node, news, tries: 0 });
    }

    /// An event says that there is a directory of this name now.
    pub(super) fn appeared(&mut self, parent: NodeId, name: &[u8], news: News) {
        if let Some(child) = self.tree.child(parent, name) {
            if self.is_younger(child) {
                // A listing has shown already what the event says.
                return;
            }
            self.make_way(parent, name);
        }
        self.adopt(parent, name, news, Known::Appeared);
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
        let Some(child) = self.tree.child(parent, name) else { return };
        if !self.is_younger(child) {
            self.tree.detach(child);
            self.lost_child(parent, name);
        }
    }

    /// Something other than an event says that there is a directory of this name.
    pub(super) fn discover(&mut self, parent: NodeId, name: &[u8], news: News) {
        self.adopt(parent, name, news, Known::Before);
    }

    /// Gives a child a node, if a watch covers it, and queues a visit unless it had one already.
    fn adopt(&mut self, parent: NodeId, name: &[u8], news: News, known: Known) {
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

    /// Asks the shell to look at the next directories that have the same parent.
    pub(super) fn visit_some(&mut self) {
        let mut scan: Option<(Option<NodeId>, Scan)> = None;
        while let Some(&Visit { node, .. }) = self.arrivals.peek() {
            let parent = self.tree.parent(node);
            if scan
                .as_ref()
                .is_some_and(|(first, scan)| *first != parent || scan.items.len() >= SCAN_ITEMS_MAX)
            {
                break;
            }
            let Some(visit) = self.arrivals.pop() else { break };
            if !self.can_visit(visit) {
                continue;
            }
            let item = self.item(visit);
            self.in_flight.push_back(visit);
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
    fn note_visited(&mut self) {
        self.give_up_pairs();
        if self.in_flight.is_empty() {
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
        let wanted = self.tree.is_attached(visit.node)
            && self.tree.cover(visit.node) != CoverId::NONE
            && self.can_be_in(self.tree.parent(visit.node));
        let goes = wanted && !self.must_starve(visit.node);
        if !goes {
            self.tree.unpin(visit.node);
        }
        goes
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
        // The deepest directory above that is a watch path or on the way to one.
        let mut top = Some(parent);
        while let Some(node) = top
            && !self.leads_to_root(node)
        {
            top = self.tree.parent(node);
        }
        let trusted = top.map_or(0, |node| self.tree.path_of(node, b"").len());
        Scan { base, trusted, expect: self.tree.wd(parent), items: vec![first] }
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

    /// Whether the directory is a watch path or on the way to one.
    pub(super) fn leads_to_root(&self, node: NodeId) -> bool {
        self.covers.members(self.tree.cover(node)).iter().any(|member| member.role != Role::Below)
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
            News::Changed => List::Changes { since_ns: self.changed_since_ns() },
            News::Existing if self.catches_up(visit.node) => List::Writers,
            News::Existing if self.covers.members(cover).iter().any(looks_in) => self.existing_list(cover),
            News::Existing => List::Nothing,
            News::Created if closes => List::Writers,
            News::Created | News::Moved => List::Everything,
        }
    }

    /// A wildcard may mean a link to a directory, which a listing of directories alone leaves out.
    fn existing_list(&self, cover: CoverId) -> List {
        let seeks = |member: &Member| matches!(member.role, Role::Seek { .. });
        if self.covers.members(cover).iter().any(seeks) { List::Everything } else { List::Directories }
    }

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
        self.fed();
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
            self.retry_when_read(Visit { tries: 1, ..visit }, mark);
            return true;
        }
        // They came before its new parent was watched: this is its arrival.
        // Or something above it is gone, and it left that before.
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
        self.arrivals.push(Visit { tries: visit.tries + 1, ..visit });
        true
    }

    /// A directory that is between two names, or below one that is, or below one that is gone, is what a listing shows as `node`.
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

    /// A directory was lost that may have been a watch path, or led to one: look for it again.
    pub(super) fn lost_child(&mut self, parent: NodeId, name: &[u8]) {
        if self.set_found(parent, name, false) {
            self.adopt(parent, name, News::Created, Known::Before);
        }
    }

    /// Changes what the parent's watch looks out for. Returns whether anything is sought there.
    fn set_found(&mut self, parent: NodeId, name: &[u8], now_found: bool) -> bool {
        let config = Rc::clone(&self.config);
        let old = self.tree.cover(parent);
        let mut members = self.covers.members(old).to_vec();
        let mut sought = false;
        for member in &mut members {
            if let Role::Seek { depth, found } = &mut member.role
                && let Component::Literal(literal) = &config.watches[usize::from(member.watch)].paths
                    [usize::from(member.path)]
                .components[usize::from(*depth)]
                && **literal == *name
            {
                *found = now_found;
                sought = true;
            }
        }
        let new = self.intern(&config, members);
        if new != old {
            self.tree.set_cover(parent, new);
            if self.covers.mask(new) != self.covers.mask(old) {
                self.push_visit(parent, News::Verify);
            }
        }
        sought
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
    fn catches_up(&self, node: NodeId) -> bool {
        let wants = |member: &Member| member.is_inside() && member.watch(&self.config).catch_up;
        !self.ready && self.covers.members(self.tree.cover(node)).iter().any(wants)
    }

    /// Tells the events of a listing once the reader has passed its mark.
    fn hold(&mut self, node: NodeId, held: HeldEntries, mark: u64) {
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
                self.log_unwatched(Level::Warning, node, "no permission to read it");
                self.drop_unseen(node);
            }
            ScanError::NoSpace { limit } => self.on_no_space(node, *limit),
            ScanError::Other(text) => {
                self.log_unwatched(level.max(Level::Warning), node, text);
                self.drop_unseen(node);
            }
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

    fn seeks(&self, node: NodeId) -> bool {
        let seeks = |member: &Member| matches!(member.role, Role::Seek { .. });
        self.covers.members(self.tree.cover(node)).iter().any(seeks)
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

    /// A directory with all below it moved: the watches that cover it may be others now.
    pub(super) fn cover_again(&mut self, top: NodeId) {
        for node in self.tree.subtree(top) {
            let Some(parent) = self.tree.parent(node) else { continue };
            let name = self.tree.name(node).to_vec();
            let old = self.tree.cover(node);
            let new = self.cover_of_child(parent, &name, Known::Before);
            if node == top && new == old && !self.has_excludes(new) {
                // All below has the same cover too: nothing to do for any of them.
                return;
            }
            if new == old || !self.tree.is_linked(node) {
                continue;
            }
            if new == CoverId::NONE {
                self.abandon(node, "no watch covers its new place");
                continue;
            }
            self.tree.set_cover(node, new);
            self.push_visit(node, News::Existing);
        }
    }

    /// The directory's cover in a new configuration; its parent's is known already.
    pub(super) fn cover_anew(&mut self, node: NodeId) -> CoverId {
        let Some(parent) = self.tree.parent(node) else { return self.root_cover() };
        if !self.tree.is_linked(node) {
            return CoverId::NONE;
        }
        let name = self.tree.name(node).to_vec();
        self.cover_of_child(parent, &name, Known::Before)
    }

    /// Tells the parent that a watched directory on the way to a watch path is there.
    pub(super) fn note_found(&mut self, node: NodeId) {
        if self.tree.wd(node).is_some()
            && self.leads_to_root(node)
            && let Some(parent) = self.tree.parent(node)
        {
            let name = self.tree.name(node).to_vec();
            self.set_found(parent, &name, true);
        }
    }

    fn has_excludes(&self, cover: CoverId) -> bool {
        let excludes = |member: &Member| !member.watch(&self.config).exclude.is_empty();
        self.covers.members(cover).iter().any(excludes)
    }

    /// A directory and all below it are not watched any more; tasks that wait there are cancelled.
    pub(super) fn abandon(&mut self, top: NodeId, why: &str) {
        let mut nodes = self.tree.subtree(top);
        let pinned: HashSet<NodeId> =
            nodes.iter().copied().filter(|node| self.tree.is_pinned(*node)).collect();
        for job in self.tasks.select(&|task| task.waits() && pinned.contains(&task.subject.node)) {
            self.remove_task(job, Level::Warning, &format!("task cancelled: its directory left: {why}"));
        }
        nodes.reverse();
        for &node in &nodes {
            self.tree.pin(node);
        }
        for &node in &nodes {
            if let Some(wd) = self.tree.wd(node) {
                self.tree.unbind(node);
                self.unwatch_unused(wd);
            }
            self.tree.set_cover(node, CoverId::NONE);
            self.tree.detach(node);
        }
        for &node in &nodes {
            self.tree.unpin(node);
        }
    }

    fn unwatch_unused(&mut self, wd: Wd) {
        // Another item of the scan that is under way may yet turn out to be this directory.
        self.unwanted.push(wd);
        if self.in_flight.is_empty() {
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
        if !self.ready && self.arrivals.is_empty() && self.in_flight.is_empty() {
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

/// What a child is to the watch that its parent is something to.
fn role_of_child(config: &Config, member: &Member, name: &[u8], known: Known) -> Option<Role> {
    let watch = member.watch(config);
    match member.role {
        Role::Seek { depth, .. } => {
            let components = &member.pattern(config).components;
            if !components[usize::from(depth)].matches(name) {
                return None;
            }
            let depth = depth + 1;
            let last = usize::from(depth) == components.len();
            Some(if last { Role::Root } else { Role::Seek { depth, found: false } })
        }
        Role::Root | Role::Below => {
            let covered = match known {
                Known::Listed(News::Existing) => watch.rec,
                Known::Listed(_) | Known::Before => watch.rec || watch.auto_add,
                Known::Appeared => watch.auto_add,
            };
            covered.then_some(Role::Below)
        }
    }
}
