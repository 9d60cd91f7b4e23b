//! How a directory ceases to be watched.

use super::state::covers::CoverId;
use super::state::{Step, Watcher};
use crate::engine::ids::NodeId;

impl Watcher {
    /// A directory and all below it are not watched any more. The audience is told.
    pub(super) fn abandon(&mut self, step: &mut Step<'_, '_>, top: NodeId, why: &str) {
        let mut nodes = self.tree.subtree(top);
        nodes.reverse();
        // Each is needed until the end, whatever the audience lets go of.
        for &node in &nodes {
            self.tree.pin(node);
        }
        step.audience.left(step.cx, &mut self.places(), &nodes, why);
        for &node in &nodes {
            if let Some(wd) = self.tree.wd(node) {
                self.count_out(step.cx, node);
                self.tree.unbind(node);
                self.unwatch_unused(step.cx, wd);
            }
            self.forget_unsettled(step.cx, node);
            self.set_cover(node, CoverId::NONE);
            self.tree.detach(node);
        }
        for &node in &nodes {
            self.tree.unpin(node);
        }
    }

    /// A directory that is between two names will not arrive under the second.
    pub(super) fn abandon_departed(&mut self, step: &mut Step<'_, '_>, node: NodeId, why: &str) {
        self.tree.pin(node);
        self.tree.lose(node);
        self.abandon(step, node, why);
        self.tree.unpin(node);
    }
}
