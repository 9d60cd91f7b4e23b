//! Whom a directory concerns, as paths change: gives nodes their covers.

use std::rc::Rc;

use super::Engine;
use super::arrivals::News;
use super::cover::{CoverId, Member, Role};
use super::message::Effect;
use super::tree::NodeId;
use crate::config::Config;
use crate::pattern::Component;
use crate::quote::Quoted;
use crate::record::Level;
use crate::types::{RESERVED_PREFIX, Wd};

/// How a child of a covered directory became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// By listing its parent.
    Listed(News),
    /// By an event.
    Appeared,
    /// It was watched before.
    Before,
    /// It was watched before, with this cover.
    Moved(CoverId),
}

impl Engine {
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

    pub(super) fn intern(&mut self, config: &Config, members: Vec<Member>) -> CoverId {
        let cover = self.covers.intern(config, members);
        if cover.is_none() {
            self.log_daemon(Level::Error, "too many different watch paths overlap; some are not watched");
        }
        cover.unwrap_or(CoverId::NONE)
    }

    /// Which watches cover a child of `parent`.
    pub(super) fn cover_of_child(&mut self, parent: NodeId, name: &[u8], known: Known) -> CoverId {
        if name.starts_with(RESERVED_PREFIX) {
            return CoverId::NONE;
        }
        let config = Rc::clone(&self.config);
        let mut path = Vec::new();
        let mut members = Vec::new();
        let mut left_out = Vec::new();
        for member in self.covers.members(self.tree.cover(parent)) {
            let watch = member.watch(&config);
            // To a watch that it comes to it appears.
            let known = match known {
                Known::Moved(old) if !self.covers.tells(old, member.watch) => Known::Appeared,
                known => known,
            };
            let Some(role) = role_of_child(&config, member, name, known) else {
                if self.explaining && member.is_inside() {
                    let unless = if watch.auto_add { ", unless it appears later" } else { "" };
                    left_out.push((watch, format!("rec = no{unless}")));
                }
                continue;
            };
            if !watch.exclude.is_empty() && !matches!(role, Role::Seek { .. }) {
                self.tree.path(parent, name, &mut path);
                if let Some(filter) = watch.excluded_by(&path) {
                    if self.explaining {
                        left_out.push((watch, format!("exclude_filter {filter}")));
                    }
                    continue;
                }
            }
            members.push(Member { role, ..*member });
        }
        for (watch, why) in left_out {
            self.explain(|engine| {
                let path = engine.tree.path_of(parent, name);
                format!("watch {} leaves out the directory {}: {why}", watch.name, Quoted(&path))
            });
        }
        self.intern(&config, members)
    }

    /// Says why a directory that is there, in one that is watched, is not watched itself.
    pub fn explain_gap(&mut self, parent: Wd, name: &[u8], effects: &mut Vec<Effect>) {
        std::mem::swap(&mut self.out, effects);
        let mut nodes = Vec::new();
        self.tree.by_wd(parent, &mut nodes);
        for node in nodes {
            self.cover_of_child(node, name, Known::Listed(News::Existing));
        }
        std::mem::swap(&mut self.out, effects);
    }

    /// Whether some watch covers a directory that appears under this name.
    pub(super) fn covers_child(&mut self, parent: NodeId, name: &[u8]) -> bool {
        self.cover_of_child(parent, name, Known::Appeared) != CoverId::NONE
    }

    /// Whether the directory is a watch path or on the way to one.
    pub(super) fn leads_to_root(&self, node: NodeId) -> bool {
        self.covers.members(self.tree.cover(node)).iter().any(|member| member.role != Role::Below)
    }

    pub(super) fn seeks(&self, node: NodeId) -> bool {
        let seeks = |member: &Member| matches!(member.role, Role::Seek { .. });
        self.covers.members(self.tree.cover(node)).iter().any(seeks)
    }

    fn has_excludes(&self, cover: CoverId) -> bool {
        let excludes = |member: &Member| !member.watch(&self.config).exclude.is_empty();
        self.covers.members(cover).iter().any(excludes)
    }

    /// A directory with all below it moved: the watches that cover it may be others now.
    pub(super) fn cover_again(&mut self, top: NodeId) {
        for node in self.tree.subtree(top) {
            let Some(parent) = self.tree.parent(node) else { continue };
            let name = self.tree.name(node).to_vec();
            let old = self.tree.cover(node);
            // What is below has not moved in it.
            let known = if node == top { Known::Moved(old) } else { Known::Before };
            let new = self.cover_of_child(parent, &name, known);
            let excludes = self.has_excludes(new);
            if node == top && new == old && !excludes {
                // All below has the same cover too: nothing to do for any of them.
                return;
            }
            if new == old && !excludes || !self.tree.is_linked(node) {
                continue;
            }
            if new == CoverId::NONE {
                self.abandon(node, "no watch covers its new place");
                continue;
            }
            self.tree.set_cover(node, new);
            self.join(node, old);
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

    /// Changes what the parent's watch looks out for. Returns whether anything is sought there.
    pub(super) fn set_found(&mut self, parent: NodeId, name: &[u8], now_found: bool) -> bool {
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
                Known::Listed(_) | Known::Before | Known::Moved(_) => watch.rec || watch.auto_add,
                Known::Appeared => watch.auto_add,
            };
            covered.then_some(Role::Below)
        }
    }
}
