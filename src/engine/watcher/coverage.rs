//! Whom a directory concerns: from the cover of a directory to that of one in it.
//!
//! Every watch path is looked for from `/` on, component by component, the same way at start and
//! whenever a part of it appears later.

use super::state::Watcher;
use super::state::covers::{CoverId, Member, Role};
use super::state::visit_queue::VisitReason;
use crate::config::Config;
use crate::engine::context::Context;
use crate::engine::ids::{NodeId, WatchIndex};
use crate::quote::Quoted;
use crate::record::Level;
use crate::types::{RESERVED_PREFIX, Wd};

/// How a child of a covered directory became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// By listing its parent.
    Listed(VisitReason),
    /// By an event.
    Appeared,
    /// It was watched before.
    Before,
    /// It was watched before, with this cover.
    Moved(CoverId),
}

impl Watcher {
    /// The cover of `/`.
    pub(super) fn root_cover(&mut self, cx: &mut Context<'_>) -> CoverId {
        let mut members = Vec::new();
        for (index, watch) in WatchIndex::all(cx.config) {
            for (pattern, path) in watch.paths.iter().zip(0_u16..) {
                let role = if pattern.components.is_empty() { Role::Root } else { Role::Seek { depth: 0 } };
                members.push(Member { watch: index, path, role });
            }
        }
        self.intern(cx, members)
    }

    fn intern(&mut self, cx: &mut Context<'_>, members: Vec<Member>) -> CoverId {
        self.covers.intern(cx.config, members).unwrap_or_else(|| {
            let text = "too many different watch paths overlap; some are not watched";
            cx.log_daemon(Level::Error, text, |record| record);
            CoverId::NONE
        })
    }

    /// Which watches cover a child of `parent`.
    pub(super) fn cover_of_child(
        &mut self,
        cx: &mut Context<'_>,
        parent: NodeId,
        name: &[u8],
        known: Known,
    ) -> CoverId {
        if name.starts_with(RESERVED_PREFIX) {
            return CoverId::NONE;
        }
        let config = cx.config;
        let cover = self.cover(parent);
        let mut members: Vec<Member> = Vec::new();
        for member in self.covers.seeking_name(config, cover, name) {
            if let Role::Seek { depth } = member.role {
                let depth = depth + 1;
                let is_last = usize::from(depth) == member.pattern(config).components.len();
                members.push(Member {
                    role: if is_last { Role::Root } else { Role::Seek { depth } },
                    ..*member
                });
            }
        }
        let mut path = Vec::new();
        for member in self.covers.inside(cover) {
            let watch = member.watch(config);
            let left_out = if !covers_below(config, member, self.known_to(member, known)) {
                let unless = if watch.auto_add { ", unless it appears later" } else { "" };
                Some(format!("rec = no{unless}"))
            } else if watch.has_excludes() {
                self.tree.path(parent, name, &mut path);
                watch.left_out(member.pattern(config), &path, true).map(|why| why.to_string())
            } else {
                None
            };
            match left_out {
                None => members.push(Member { role: Role::Below, ..*member }),
                Some(why) => cx.explain(|| {
                    let path = self.tree.path_of(parent, name);
                    format!("watch {} leaves out the directory {}: {why}", watch.name, Quoted(&path))
                }),
            }
        }
        self.intern(cx, members)
    }

    /// To a watch to which a directory comes by a rename, the directory appears.
    fn known_to(&self, member: &Member, known: Known) -> Known {
        match known {
            Known::Moved(old) if !self.covers.tells(old, member.watch) => Known::Appeared,
            known => known,
        }
    }

    /// Says why a directory that is there, in one that is watched, is not watched itself.
    pub fn explain_gap(&mut self, cx: &mut Context<'_>, parent: Wd, name: &[u8]) {
        for node in self.tree.nodes_of(parent).iter() {
            self.cover_of_child(cx, node, name, Known::Listed(VisitReason::Existing));
        }
    }

    /// Whether some watch covers a directory that appears under this name.
    pub(super) fn covers_child(&mut self, cx: &mut Context<'_>, parent: NodeId, name: &[u8]) -> bool {
        self.cover_of_child(cx, parent, name, Known::Appeared) != CoverId::NONE
    }

    /// The directory's cover in a new configuration; its parent's is known already.
    pub(super) fn cover_anew(&mut self, cx: &mut Context<'_>, node: NodeId) -> CoverId {
        let Some(parent) = self.tree.parent(node) else { return self.root_cover(cx) };
        if !self.tree.is_linked(node) {
            return CoverId::NONE;
        }
        let name = self.tree.name(node).to_vec();
        self.cover_of_child(cx, parent, &name, Known::Before)
    }

    /// Whether a watch that covers the directory has exclude filters.
    pub(super) fn has_excludes(&self, config: &Config, cover: CoverId) -> bool {
        self.covers.inside(cover).iter().any(|member| member.watch(config).has_excludes())
    }

    /// Whether a file of this name is what a path names: a watch on a single file lives in the
    /// directory around it, so that it survives the file's replacement. What leads to a directory
    /// is no file, even if it is a link.
    pub(super) fn names_file(&self, config: &Config, node: NodeId, member: &Member, name: &[u8]) -> bool {
        member.seeks_last(config)
            && member.sought(config).is_some_and(|sought| sought.matches(name))
            && (member.sought_literal(config).is_none() || !self.found.contains(node, name))
    }

    /// Whether what happens to this name is a watch's business.
    pub(super) fn is_inside(&self, config: &Config, node: NodeId, name: &[u8]) -> bool {
        let cover = self.cover(node);
        let mut files = self.covers.seeking_name(config, cover, name);
        !self.covers.inside(cover).is_empty()
            || files.any(|member| self.names_file(config, node, member, name))
    }
}

/// Whether a watch goes on below a directory that is in it.
fn covers_below(config: &Config, member: &Member, known: Known) -> bool {
    let watch = member.watch(config);
    match known {
        Known::Listed(VisitReason::Existing) => watch.rec,
        Known::Listed(_) | Known::Before | Known::Moved(_) => watch.rec || watch.auto_add,
        Known::Appeared => watch.auto_add,
    }
}
