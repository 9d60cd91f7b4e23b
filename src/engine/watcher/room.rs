//! The limit of directories that one watch may have (`max_dirs`): it keeps room for the others.
//!
//! A directory that is too many keeps its node and is not visited. One that is watched already and comes from another
//! watch keeps its watch. When the watch loses directories, those that
//! had to wait are visited, for what has changed meanwhile.

use super::state::repair::Pass;
use super::state::tree::ROOT;
use super::state::{ROOM_MS, Watcher};
use crate::engine::context::{Context, Timer};
use crate::engine::ids::{NodeId, WatchIndex};
use crate::record::{Level, Record};

/// So many directories of a watch are remembered that wait for room: the kernel does not tell when they are gone.
/// Others are found by listing again when there is room.
const HELD_MAX: usize = 10_000;

impl Watcher {
    /// The first of the watches that cover the directory, if all of them have as many directories as they may.
    /// The watch paths themselves, and what leads to them, are always watched.
    pub(super) fn full_watch(&self, cx: &Context<'_>, node: NodeId) -> Option<WatchIndex> {
        if self.leads_to_root(node) {
            return None;
        }
        let is_full = |watch: &WatchIndex| {
            let max = watch.of(cx.config).max_dirs;
            max > 0 && self.room.count(*watch) >= max
        };
        let mut watches = self.covers.inside(self.cover(node)).iter().map(|member| member.watch);
        let first = watches.next()?;
        (is_full(&first) && watches.all(|watch| is_full(&watch))).then_some(first)
    }

    /// A directory is too many for this watch. That is said once.
    pub(super) fn hold_back(&mut self, cx: &mut Context<'_>, node: NodeId, watch: WatchIndex) {
        let is_first = self.room.note_full(watch, self.stream.emptied_at_ns());
        if let Some(full) = self.room.full_mut(watch).filter(|full| full.held > HELD_MAX)
            && !self.tree.has_children(node)
        {
            full.forgot = true;
            self.tree.detach(node);
        }
        if !is_first {
            return;
        }
        let name = &watch.of(cx.config).logname;
        cx.log(Level::Warning, name, || {
            let text = "the watch has as many directories as max_dirs allows; further ones are not watched";
            Record::new(Level::Warning, name, text)
                .field("max_dirs", watch.of(cx.config).max_dirs.to_string())
                .field("path", self.tree.path_of(node, b""))
        });
    }

    /// There may be room for directories that had to wait.
    pub(super) fn on_room_timer(&mut self, cx: &mut Context<'_>) {
        self.room.timer = None;
        let full = self.room.all_full();
        let mut waiting = vec![0_usize; full.len()];
        let mut nodes = Vec::new();
        for node in self.unwatched() {
            if !self.tree.is_attached(node) || !self.can_be_in(self.tree.parent(node)) {
                continue;
            }
            let watches = self.watches_of(self.cover(node));
            let Some(at) = full.iter().position(|watch| watches.contains(watch)) else { continue };
            waiting[at] += 1;
            let max = full[at].of(cx.config).max_dirs;
            let room =
                if max == 0 { usize::MAX } else { max.saturating_sub(self.room.count(full[at])) as usize };
            if waiting[at] <= room {
                nodes.push(node);
            }
        }
        let since_ns = full.iter().filter_map(|watch| Some(self.room.full(*watch)?.since_ns)).min();
        for (watch, waiting) in full.iter().zip(waiting) {
            let name = &watch.of(cx.config).logname;
            let Some(full) = self.room.full_mut(*watch) else { continue };
            full.held = waiting;
            if waiting == 0 && std::mem::take(&mut full.forgot) {
                let mut all = self.tree.subtree(ROOT);
                all.retain(|node| self.covers.tells(self.cover(*node), *watch));
                nodes.extend(all);
            } else if waiting == 0 {
                self.room.end_full(*watch);
                let text = "all directories of the watch are watched again";
                cx.log(Level::Info, name, || Record::new(Level::Info, name, text));
            } else {
                cx.log(Level::Debug, name, || {
                    let text = "directories wait for room";
                    Record::new(Level::Debug, name, text).field("unwatched", waiting.to_string())
                });
            }
        }
        if let (false, Some(since_ns)) = (nodes.is_empty(), since_ns) {
            self.start_pass(&nodes, Pass { since_ns, last_words: None, is_blind: false });
            // What found room is said when it is known.
            self.room.timer = Some(cx.timer_in(ROOM_MS, Timer::MaxDirs));
        }
    }

    /// A new configuration is in force: all directories are counted anew, and there may be more room.
    pub(super) fn count_anew(
        &mut self,
        cx: &mut Context<'_>,
        new: &dyn Fn(WatchIndex) -> Option<WatchIndex>,
    ) {
        self.room.renumber(new);
        for node in self.tree.subtree(ROOT) {
            if self.tree.wd(node).is_some() {
                self.count_in(node);
            }
        }
        if !self.room.all_full().is_empty() && self.room.timer.is_none() {
            self.room.timer = Some(cx.timer_in(ROOM_MS, Timer::MaxDirs));
        }
    }
}
