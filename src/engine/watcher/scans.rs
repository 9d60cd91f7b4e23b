//! From the queue of visits to the scans that the shell makes: which visit is made next, and what it asks.

use super::places::trusted_len;
use super::state::covers::CoverId;
use super::state::visit_queue::{Asked, Visit, VisitReason};
use super::state::{Step, Watcher};
use crate::engine::context::Context;
use crate::engine::ids::NodeId;
use crate::engine::message::{Effect, Item, List, Scan};
use crate::event::EventKind;

/// Directories in one [`Scan`]: enough that the way to their parent is walked once for many, few
/// enough that events are answered in between.
const SCAN_ITEMS_MAX: usize = 64;

/// The same where files are listed too: what was seen is held until all have been visited.
const LISTINGS_MAX: usize = 16;

fn is_full(scan: &Scan) -> bool {
    let few = |item: &Item| matches!(item.list, List::Nothing | List::Directories | List::Named);
    let len_max = if scan.items.iter().all(few) { SCAN_ITEMS_MAX } else { LISTINGS_MAX };
    scan.items.len() >= len_max
}

impl Watcher {
    /// Asks the shell to visit the next directories that have the same parent.
    pub(super) fn ask_some(&mut self, step: &mut Step<'_, '_>) {
        let mut scan: Option<(Option<NodeId>, Scan)> = None;
        while let Some(&Visit { node, .. }) = self.visits.peek() {
            let parent = self.tree.parent(node);
            if scan.as_ref().is_some_and(|(first, scan)| *first != parent || is_full(scan)) {
                break;
            }
            let Some(visit) = self.visits.pop() else { break };
            if self.is_between_names(node)
                && let Some(top) = self.tree.in_transit(node)
                && self.renames.keep_visit(top, visit)
            {
                continue;
            }
            self.resolve_cover(step, node);
            if self.tree.wd(node).is_none()
                && self.can_visit(visit)
                && let Some(watch) = self.full_watch(step.cx, node)
            {
                self.hold_back(step.cx, node, watch);
                self.drop_visit(step.cx, visit);
                continue;
            }
            if !self.can_visit(visit) {
                self.drop_visit(step.cx, visit);
                continue;
            }
            let item = self.item(step.cx, visit);
            self.visits.ask(Asked { visit, parent, name: item.name.clone().into() });
            match &mut scan {
                Some((_, scan)) => scan.items.push(item),
                None => scan = Some((parent, self.scan(parent, item))),
            }
        }
        if let Some((_, scan)) = scan {
            step.cx.effects.push(Effect::Scan(scan));
        }
    }

    /// Whether a queued visit is still to be made.
    fn can_visit(&self, visit: Visit) -> bool {
        // A directory without a watch is visited for other reasons, or cannot be.
        (visit.reason != VisitReason::Verify || self.tree.wd(visit.node).is_some())
            && self.tree.is_attached(visit.node)
            && self.is_covered(visit.node)
            && self.can_be_in(self.tree.parent(visit.node))
            && !self.is_held_back(visit.node)
    }

    /// A visit is not made.
    pub(super) fn drop_visit(&mut self, cx: &mut Context<'_>, visit: Visit) {
        let node = visit.node;
        match visit.reason {
            VisitReason::Unsettled => self.forget_unsettled(cx, node),
            VisitReason::Joined | VisitReason::Moved => self.joins.forget(node),
            VisitReason::Verify
                if self.tree.wd(node).is_some()
                    && !self.tree.is_attached(node)
                    && !self.is_between_names(node) =>
            {
                // The directory that it was in is gone. Since that was empty, it had left before.
                self.detach_unknown(cx, node);
            }
            _ => {}
        }
        self.tree.unpin(node);
    }

    fn scan(&self, parent: Option<NodeId>, first: Item) -> Scan {
        let Some(parent) = parent else {
            return Scan { base: Vec::new(), trusted: 0, expect: None, items: vec![first] };
        };
        Scan {
            base: self.tree.path_of(parent, b""),
            trusted: trusted_len(&self.tree, &self.covers, parent),
            expect: self.tree.wd(parent),
            items: vec![first],
        }
    }

    fn item(&self, cx: &Context<'_>, visit: Visit) -> Item {
        let node = visit.node;
        let wd = self.tree.wd(node);
        // The kernel has one mask for a directory, whatever its names.
        let aliases = wd.map(|wd| self.tree.nodes_of(wd)).unwrap_or_default();
        let mask = aliases.iter().fold(self.mask(node), |mask, alias| mask | self.mask(alias));
        Item {
            node,
            name: self.tree.name(node).to_vec(),
            mask,
            replace: wd.is_some(),
            follow: self.leads_to_root(node),
            list: self.list_wanted(cx, visit),
            names: if visit.reason == VisitReason::Unsettled {
                self.unsettled.asked(node)
            } else {
                Vec::new()
            },
        }
    }

    fn list_wanted(&self, cx: &Context<'_>, visit: Visit) -> List {
        let node = visit.node;
        let cover = self.cover(node);
        match visit.reason {
            VisitReason::Verify => List::Nothing,
            VisitReason::Unsettled => List::Named,
            VisitReason::Changed => List::Changes { since_ns: self.changed_since_ns(node) },
            VisitReason::Existing if self.catches_up(cx, node) => List::Writers,
            VisitReason::Existing if self.looks_in(cx, cover) => self.list_existing(cover),
            VisitReason::Existing => List::Nothing,
            VisitReason::Joined => self.joins.list_wanted(node).unwrap_or_else(|| self.list_existing(cover)),
            VisitReason::Created if self.mask(node) & EventKind::CloseWrite.bit() != 0 => List::Writers,
            VisitReason::Created | VisitReason::Moved => List::Everything,
        }
    }

    /// Whether what is in a directory at start concerns a watch.
    fn looks_in(&self, cx: &Context<'_>, cover: CoverId) -> bool {
        let is_recursive = self.covers.inside(cover).iter().any(|member| member.watch(cx.config).rec);
        is_recursive || self.covers.has_wildcards(cover)
    }

    /// A wildcard may mean a link to a directory, which a listing of directories alone leaves out.
    fn list_existing(&self, cover: CoverId) -> List {
        if self.covers.seeks(cover) { List::Everything } else { List::Directories }
    }
}
