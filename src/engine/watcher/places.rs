//! All that a task may ask of the tree. It reaches the tree and the covers, and nothing else.

use super::state::covers::{Covers, Role};
use super::state::tree::Tree;
use crate::engine::ids::{NodeId, WatchIndex};
use crate::engine::message::TrustedPath;

/// See the module's documentation.
#[derive(Debug)]
pub struct Places<'a> {
    tree: &'a mut Tree,
    covers: &'a Covers,
}

impl<'a> Places<'a> {
    /// The places of this tree.
    #[must_use]
    pub fn new(tree: &'a mut Tree, covers: &'a Covers) -> Self {
        Self { tree, covers }
    }

    /// Keeps the directory known until it is released, also when it is gone; it may be held several times.
    pub fn hold(&mut self, dir: NodeId) {
        self.tree.pin(dir);
    }

    /// Takes one hold away.
    pub fn release(&mut self, dir: NodeId) {
        self.tree.unpin(dir);
    }

    /// The path of a name in a directory as it is now; of the directory itself when the name is empty.
    #[must_use]
    pub fn path(&self, dir: NodeId, name: &[u8]) -> Vec<u8> {
        self.tree.path_of(dir, name)
    }

    /// The form in which equal paths are equal: the name in the directory around it. Only `/` has none.
    #[must_use]
    pub fn normal<'n>(&'n self, dir: NodeId, name: &'n [u8]) -> (NodeId, &'n [u8]) {
        match self.tree.parent(dir) {
            Some(parent) if name.is_empty() => (parent, self.tree.name(dir)),
            _ => (dir, name),
        }
    }

    /// The part of a path behind the watch path that it is in, of the watches for which `concerns`; the last
    /// name where that is the path of a file, `.` for the watch path itself.
    #[must_use]
    pub fn relative<'p>(
        &self,
        (dir, name): (NodeId, &[u8]),
        path: &'p [u8],
        concerns: impl Fn(WatchIndex) -> bool,
    ) -> &'p [u8] {
        let is_root = |node: NodeId| {
            let mut inside = self.covers.inside(self.tree.cover(node)).iter();
            inside.any(|member| member.role == Role::Root && concerns(member.watch))
        };
        if self.tree.child(dir, name).is_some_and(is_root) {
            return b".";
        }
        let mut above = Some(dir);
        while let Some(node) = above
            && !is_root(node)
        {
            above = self.tree.parent(node);
        }
        path.get(self.tree.path_len(above.unwrap_or(dir))..)
            .map_or(path, |path| path.strip_prefix(b"/").unwrap_or(path))
    }

    /// The path, with the part of it that may lead through symbolic links: the part by which the
    /// watcher looked for the watch path.
    #[must_use]
    pub fn trusted(&self, dir: NodeId, name: &[u8]) -> TrustedPath {
        let trusted = trusted_len(self.tree, self.covers, dir);
        // `/` is written as nothing.
        TrustedPath { path: self.tree.path_of(dir, name), trusted: if trusted == 1 { 0 } else { trusted } }
    }
}

/// How much of a directory's path leads to the deepest one above it that is a watch path or on the
/// way to one, in bytes.
pub(super) fn trusted_len(tree: &Tree, covers: &Covers, dir: NodeId) -> usize {
    let mut top = Some(dir);
    while let Some(dir) = top
        && !covers.leads_to_root(tree.cover(dir))
    {
        top = tree.parent(dir);
    }
    top.map_or(0, |dir| tree.path_len(dir))
}

/// Places without a watcher, for tests of what asks about them.
#[cfg(test)]
pub mod fixture {
    use super::{Covers, NodeId, Places, Tree};
    use crate::config::Config;
    use crate::engine::watcher::state::tree::ROOT;

    /// A tree that only the test changes.
    #[derive(Debug)]
    pub struct OwnTree {
        tree: Tree,
        covers: Covers,
    }

    impl OwnTree {
        /// A tree that holds `/` alone.
        pub fn new(config: &Config) -> Self {
            Self { tree: Tree::new(), covers: Covers::new(config) }
        }

        /// The directory of this name in `/`.
        pub fn dir(&mut self, name: &[u8]) -> NodeId {
            self.tree.child(ROOT, name).or_else(|| self.tree.insert(ROOT, name)).unwrap()
        }

        /// A directory was renamed.
        pub fn rename(&mut self, dir: NodeId, name: &[u8]) {
            self.tree.depart(dir);
            assert!(self.tree.arrive(dir, ROOT, name));
        }

        /// Whether anything holds the directory.
        pub fn is_held(&self, dir: NodeId) -> bool {
            self.tree.is_pinned(dir)
        }

        /// What tasks ask.
        pub fn places(&mut self) -> Places<'_> {
            Places::new(&mut self.tree, &self.covers)
        }
    }
}
