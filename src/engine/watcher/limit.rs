//! The kernel's limit of watches: what has no room waits, and is tried again.

use std::collections::HashSet;

use super::state::Watcher;
use super::state::repair::{Pass, WatchLimit};
use super::state::tree::ROOT;
use super::state::visit_queue::VisitReason;
use crate::engine::context::{Context, Timer};
use crate::engine::ids::NodeId;
use crate::record::Level;
use crate::types::Millis;

/// Between two tries to watch a directory for which there was no room; doubled up to the last.
const RETRY_FIRST_MS: Millis = 1_000;
const RETRY_LAST_MS: Millis = 60_000;

/// So many directories without a watch are named in the log; the others are counted.
const NAMED_MAX: usize = 10;

/// What is logged when there was room for all.
const ALL_WATCHED: &str = "all directories are watched again";

impl Watcher {
    /// There is no room for this watch (ENOSPC). The directory keeps its node and is tried again.
    pub(super) fn on_no_space(&mut self, cx: &mut Context<'_>, node: NodeId, value: Option<u64>) {
        if let Some(limit) = &mut self.repair.limit {
            if limit.probing {
                limit.probing = false;
                limit.tried.clear();
                limit.delay_ms = RETRY_LAST_MS.min(limit.delay_ms * 2);
                cx.timers.cancel(limit.timer);
                limit.timer = cx.timer_in(limit.delay_ms, Timer::WatchLimit);
            }
            return;
        }
        let timer = cx.timer_in(RETRY_FIRST_MS, Timer::WatchLimit);
        let emptied_at_ns = self.stream.emptied_at_ns();
        // Changes to a directory that waited before this are still looked for from then on.
        let since_ns = self.repair.pass.map_or(emptied_at_ns, |pass| pass.since_ns.min(emptied_at_ns));
        self.repair.limit = Some(WatchLimit {
            since_ns,
            timer,
            delay_ms: RETRY_FIRST_MS,
            probing: false,
            tried: HashSet::new(),
        });
        let text = "no room for more watches; raise fs.inotify.max_user_watches";
        cx.log_daemon(Level::Error, text, |record| {
            record
                .field("max_user_watches", value.map_or("unknown".to_owned(), |value| value.to_string()))
                .field("watched", self.tree.watched().to_string())
                .field("path", self.tree.path_of(node, b""))
        });
    }

    /// Whether a directory has to wait for room: until there is, one directory at a time is tried.
    pub(super) fn is_held_back(&self, node: NodeId) -> bool {
        self.tree.wd(node).is_none() && self.repair.limit.as_ref().is_some_and(|limit| !limit.probing)
    }

    /// The next of the directories without a watch is tried again.
    pub(super) fn on_limit_timer(&mut self, cx: &mut Context<'_>) {
        let unwatched = self.unwatched();
        let Some(limit) = &mut self.repair.limit else { return };
        let next = unwatched.iter().copied().find(|node| limit.tried.insert(*node));
        if next.is_some() && !limit.probing {
            self.log_unwatched_dirs(cx, &unwatched);
        }
        let Some(limit) = &mut self.repair.limit else { return };
        limit.probing = true;
        // The directory may be gone when it is visited: then the next one is tried after this.
        limit.timer = cx.timer_in(limit.delay_ms, Timer::WatchLimit);
        match next {
            None => self.on_room(cx, None),
            Some(node) => self.push_visit(node, VisitReason::Changed),
        }
    }

    /// The directories that should be watched and are not.
    pub(super) fn unwatched(&self) -> Vec<NodeId> {
        let mut nodes = self.tree.subtree(ROOT);
        nodes.retain(|node| {
            self.tree.is_linked(*node) && self.tree.wd(*node).is_none() && self.is_covered(*node)
        });
        nodes
    }

    fn log_unwatched_dirs(&self, cx: &mut Context<'_>, unwatched: &[NodeId]) {
        cx.log_daemon(Level::Warning, "directories without a watch", |record| {
            let record = record
                .field("watched", self.tree.watched().to_string())
                .field("unwatched", unwatched.len().to_string());
            let named = unwatched.iter().take(NAMED_MAX);
            named.fold(record, |record, node| record.field("path", self.tree.path_of(*node, b"")))
        });
    }

    /// A directory was watched that had to wait: there may be room for the others. It is visited
    /// once more itself, for only now what changed meanwhile is asked for.
    pub(super) fn on_room(&mut self, cx: &mut Context<'_>, node: Option<NodeId>) {
        let Some(WatchLimit { since_ns, timer, .. }) = self.repair.limit.take_if(|limit| limit.probing)
        else {
            return;
        };
        cx.timers.cancel(timer);
        let mut nodes = self.unwatched();
        nodes.extend(node);
        self.start_pass(&nodes, Pass { since_ns, last_words: Some(ALL_WATCHED), is_blind: false });
    }
}
