//! A new configuration: every directory gets its new cover, and keeps its watch if it can.

use std::collections::HashMap;

use super::state::covers::{CoverId, Covers};
use super::state::tree::ROOT;
use super::state::visit_queue::VisitReason;
use super::state::{Step, Watcher};
use crate::config::Config;
use crate::engine::ids::WatchIndex;

impl Watcher {
    /// Gives every directory its new cover, from `/` down. Watches stay where they are: only
    /// directories to which something else matters now are visited again, and those that no watch
    /// covers any more are given up.
    pub(super) fn move_watches(&mut self, step: &mut Step<'_, '_>, old_config: &Config) {
        let config = step.cx.config;
        self.renumber_joins(old_config, config);
        let nodes = self.tree.subtree(ROOT);
        let old: Vec<(CoverId, u32)> =
            nodes.iter().map(|node| (self.cover(*node), self.mask(*node))).collect();
        let old_covers = std::mem::replace(&mut self.covers, Covers::new(config));
        self.found.clear();
        for &node in &nodes {
            let cover = self.cover_anew(step.cx, node);
            self.set_cover(node, cover);
        }
        for &node in &nodes {
            self.note_found(step.cx, node);
        }
        self.recount(step, old_config);
        let mut meanings = (HashMap::new(), HashMap::new());
        for (&node, (old, old_mask)) in nodes.iter().zip(old) {
            let new = self.cover(node);
            if new == CoverId::NONE {
                // A directory above may have been given up already, and this one with it.
                let is_there = self.tree.is_linked(node) || self.tree.wd(node).is_some();
                if old != CoverId::NONE && is_there {
                    self.abandon(step, node, "no watch covers it any more");
                }
                continue;
            }
            let before = meanings.0.entry(old).or_insert_with(|| old_covers.meaning(old_config, old));
            let after = meanings.1.entry(new).or_insert_with(|| self.covers.meaning(config, new));
            if before != after || old_mask != self.mask(node) {
                self.push_visit(node, VisitReason::Existing);
            }
        }
    }

    fn recount(&mut self, step: &mut Step<'_, '_>, old_config: &Config) {
        let numbers: HashMap<&str, WatchIndex> =
            WatchIndex::all(step.cx.config).map(|(index, watch)| (watch.name.as_str(), index)).collect();
        let new = |watch: WatchIndex| numbers.get(watch.of(old_config).name.as_str()).copied();
        self.count_anew(step.cx, &new);
    }

    fn renumber_joins(&mut self, old_config: &Config, config: &Config) {
        if self.joins.is_empty() {
            return;
        }
        let numbers: HashMap<&str, WatchIndex> =
            WatchIndex::all(config).map(|(index, watch)| (watch.name.as_str(), index)).collect();
        self.joins.renumber(&|watch| numbers.get(watch.of(old_config).name.as_str()).copied());
    }
}
