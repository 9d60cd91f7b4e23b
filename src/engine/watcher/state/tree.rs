//! The watched directories as a tree of nodes: which wd stands for which path.
//!
//! The tree hangs from one node for `/`, so two watches that overlap share their nodes. A node
//! knows its parent and its name; a path is made when it is needed, which is why renaming a
//! directory with thousands of others below it touches one node. Nodes are small (28 bytes, the
//! name apart) because a NAS may have a hundred thousand of them.
//!
//! Invariants:
//! - A node is *linked* (found by parent and name) or *detached*: its directory was deleted or is
//!   between the two halves of a rename. A detached node keeps its parent, so its path can still
//!   be told.
//! - A node is freed when it is detached, has no wd, no children and no pins. Code that keeps a
//!   [`NodeId`] across steps pins the node.

use std::collections::HashMap;

use super::covers::CoverId;
use crate::engine::ids::NodeId;
use crate::engine::store::index_table::{IndexTable, Seed, hash_number};
use crate::engine::store::names::{Name, NameArena};
use crate::types::Wd;

/// No node.
const NONE: u32 = u32::MAX;
/// A node without a watch.
const UNWATCHED: i32 = -1;

/// In the name table.
const LINKED: u8 = 1;
/// Between IN_MOVED_FROM and IN_MOVED_TO.
const TRANSIT: u8 = 2;
/// Is held, once or more.
const PINNED: u8 = 4;
/// Events about it were dropped: it may be elsewhere by now.
const DOUBTED: u8 = 8;
/// On the free list.
const FREE: u8 = 16;
/// Is held more than once, and has an entry in `more_pins`.
const MORE_PINS: u8 = 32;
/// When it ends, its name may lead to another.
const REPLACEABLE: u8 = 64;
/// May not be there at all.
const GUESSED: u8 = 128;

#[derive(Debug)]
struct Node {
    parent: u32,
    wd: i32,
    name_offset: u32,
    first_child: u32,
    next: u32,
    prev: u32,
    cover: CoverId,
    name_len: u8,
    flags: u8,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    free: u32,
    by_name: IndexTable,
    by_wd: IndexTable,
    names: NameArena,
    /// The pins of a node beyond its first. At the first scan of a large tree every node has one.
    more_pins: HashMap<u32, u32>,
    seed: Seed,
    watched: usize,
}

/// The node of `/`.
pub const ROOT: NodeId = NodeId(0);

/// The nodes that carry one watch. Nearly always it is one, for which nothing is allocated.
#[derive(Clone, Debug, Default)]
pub struct NodesOfWatch {
    first: Option<NodeId>,
    more: Vec<NodeId>,
}

impl NodesOfWatch {
    fn push(&mut self, node: NodeId) {
        match self.first {
            None => self.first = Some(node),
            Some(_) => self.more.push(node),
        }
    }

    /// Whether no node carries the watch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The nodes, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A tree that holds `/` alone, unwatched.
    #[must_use]
    pub fn new() -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            free: NONE,
            by_name: IndexTable::new(),
            by_wd: IndexTable::new(),
            names: NameArena::new(),
            more_pins: HashMap::new(),
            seed: Seed::new(),
            watched: 0,
        };
        tree.nodes.push(Node {
            parent: NONE,
            wd: UNWATCHED,
            name_offset: 0,
            first_child: NONE,
            next: NONE,
            prev: NONE,
            cover: CoverId::NONE,
            name_len: 0,
            flags: LINKED,
        });
        tree
    }

    /// How many nodes carry a watch.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.watched
    }

    /// The directory above; `None` for `/`.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        let parent = self.at(node).parent;
        (parent != NONE).then_some(NodeId(parent))
    }

    /// The last component; empty for `/`.
    #[must_use]
    pub fn name(&self, node: NodeId) -> &[u8] {
        let node = self.at(node);
        self.names.get(node.name_offset, node.name_len)
    }

    /// Which watches cover the directory.
    #[must_use]
    pub fn cover(&self, node: NodeId) -> CoverId {
        self.at(node).cover
    }

    /// Says which watches cover the directory.
    pub fn set_cover(&mut self, node: NodeId, cover: CoverId) {
        self.at_mut(node).cover = cover;
    }

    /// The watch on the directory.
    #[must_use]
    pub fn wd(&self, node: NodeId) -> Option<Wd> {
        let wd = self.at(node).wd;
        (wd != UNWATCHED).then_some(Wd(wd))
    }

    /// Whether the node is found by its parent and name.
    #[must_use]
    pub fn is_linked(&self, node: NodeId) -> bool {
        self.at(node).flags & LINKED != 0
    }

    /// Whether the node and all above it are linked: its directory is where its path leads.
    #[must_use]
    pub fn is_attached(&self, node: NodeId) -> bool {
        let mut at = Some(node);
        while let Some(node) = at {
            if !self.is_linked(node) {
                return false;
            }
            at = self.parent(node);
        }
        true
    }

    /// Whether the node, or one above it, is between the two halves of a rename; the node that is.
    #[must_use]
    pub fn in_transit(&self, node: NodeId) -> Option<NodeId> {
        let mut at = Some(node);
        while let Some(node) = at {
            if self.at(node).flags & TRANSIT != 0 {
                return Some(node);
            }
            at = self.parent(node);
        }
        None
    }

    /// The node and all above it, up to `/`.
    pub fn way_up(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(Some(node), |node| self.parent(*node))
    }

    /// Whether `node` is `top` or below it.
    #[must_use]
    pub fn is_below(&self, node: NodeId, top: NodeId) -> bool {
        self.way_up(node).any(|above| above == top)
    }

    /// When the directory's watch ends, its name may lead to another directory at once.
    pub fn note_replaceable(&mut self, node: NodeId) {
        self.set_flag(node, REPLACEABLE, true);
    }

    /// Whether the directory came by a rename, or its filesystem is being unmounted.
    #[must_use]
    pub fn is_replaceable(&self, node: NodeId) -> bool {
        self.at(node).flags & REPLACEABLE != 0
    }

    /// No event and no listing has said that the directory is there.
    pub fn guess(&mut self, node: NodeId) {
        self.set_flag(node, GUESSED, true);
    }

    /// Whether the directory was neither seen yet nor said to be there.
    #[must_use]
    pub fn is_guessed(&self, node: NodeId) -> bool {
        self.at(node).flags & GUESSED != 0
    }

    /// Every directory may be elsewhere by now.
    pub fn doubt_all(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.flags |= DOUBTED);
    }

    /// The directory may be elsewhere by now.
    pub fn doubt(&mut self, node: NodeId) {
        self.set_flag(node, DOUBTED, true);
    }

    /// The directory was found where it should be.
    pub fn trust(&mut self, node: NodeId) {
        self.set_flag(node, DOUBTED, false);
    }

    /// Whether the directory may be elsewhere.
    #[must_use]
    pub fn is_doubted(&self, node: NodeId) -> bool {
        self.at(node).flags & DOUBTED != 0
    }

    /// The directory of this name in `parent`.
    #[must_use]
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let found = self.by_name.find(self.name_hash(parent.0, name), |index| {
            let node = &self.nodes[index as usize];
            node.parent == parent.0 && self.names.get(node.name_offset, node.name_len) == name
        });
        found.map(NodeId)
    }

    /// Adds a directory; `None` when there is no room for more (4 GiB of names, 2^32 nodes) or the
    /// name is not one the kernel could have given.
    pub fn insert(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        debug_assert!(self.child(parent, name).is_none(), "a name stands for one directory");
        self.compact_names();
        let Name { offset, len: name_len } = self.names.push(name).ok()?;
        let node = Node {
            parent: parent.0,
            wd: UNWATCHED,
            name_offset: offset,
            first_child: NONE,
            next: NONE,
            prev: NONE,
            cover: CoverId::NONE,
            name_len,
            flags: 0,
        };
        let index = self.allocate(node)?;
        self.join_siblings(index);
        self.link(index);
        Some(NodeId(index))
    }

    /// Takes the node out of the name table; it keeps its wd and its path until it is freed.
    pub fn detach(&mut self, node: NodeId) {
        if self.is_linked(node) && node != ROOT {
            let hash = self.hash_of(node.0);
            let Self { by_name, nodes, names, seed, .. } = self;
            by_name.remove(hash, |index| index == node.0, |index| hash_node(seed, nodes, names, index));
            self.set_flag(node, LINKED, false);
        }
        self.free_if_unused(node);
    }

    /// The first half of a rename: detached, but not gone.
    pub fn depart(&mut self, node: NodeId) {
        self.pin(node);
        self.detach(node);
        self.set_flag(node, TRANSIT, true);
    }

    /// Undoes [`Tree::depart`] for a directory that left the watched trees; it stays detached.
    pub fn lose(&mut self, node: NodeId) {
        self.set_flag(node, TRANSIT, false);
        self.unpin(node);
    }

    /// The second half of a rename: the node and all below it now stand under `parent`. `false`
    /// when there is no room for the name; the node is then lost.
    pub fn arrive(&mut self, node: NodeId, parent: NodeId, name: &[u8]) -> bool {
        debug_assert!(self.child(parent, name).is_none(), "a name stands for one directory");
        self.compact_names();
        let Ok(Name { offset, len }) = self.names.push(name) else { return false };
        let old_parent = self.at(node).parent;
        self.names.release(self.at(node).name_len);
        self.leave_siblings(node.0);
        let moved = self.at_mut(node);
        moved.parent = parent.0;
        moved.name_offset = offset;
        moved.name_len = len;
        self.join_siblings(node.0);
        self.link(node.0);
        self.set_flag(node, TRANSIT, false);
        self.set_flag(node, REPLACEABLE, true);
        self.free_if_unused(NodeId(old_parent));
        self.unpin(node);
        true
    }

    /// Notes the watch that the kernel gave for this directory, in place of an earlier one.
    pub fn bind(&mut self, node: NodeId, wd: Wd) {
        if self.wd(node) == Some(wd) {
            return;
        }
        self.forget_wd(node);
        self.set_flag(node, GUESSED, false);
        self.at_mut(node).wd = wd.0;
        let Self { by_wd, nodes, .. } = self;
        by_wd.insert(hash_wd(wd.0), node.0, |index| hash_wd(nodes[index as usize].wd));
        self.watched += 1;
    }

    /// Forgets the watch; the node is freed if nothing else needs it.
    pub fn unbind(&mut self, node: NodeId) {
        self.forget_wd(node);
        self.free_if_unused(node);
    }

    /// Every node that carries this watch: more than one when the same directory is reached by several
    /// paths.
    #[must_use]
    pub fn nodes_of(&self, wd: Wd) -> NodesOfWatch {
        let mut nodes = NodesOfWatch::default();
        self.by_wd.find(hash_wd(wd.0), |index| {
            if self.nodes[index as usize].wd == wd.0 {
                nodes.push(NodeId(index));
            }
            false
        });
        nodes
    }

    /// Keeps the node from being freed.
    pub fn pin(&mut self, node: NodeId) {
        debug_assert!(self.at(node).flags & FREE == 0, "a free node is not pinned");
        if self.is_pinned(node) {
            *self.more_pins.entry(node.0).or_insert(0) += 1;
            self.set_flag(node, MORE_PINS, true);
        } else {
            self.set_flag(node, PINNED, true);
        }
    }

    /// Takes one pin away.
    pub fn unpin(&mut self, node: NodeId) {
        debug_assert!(self.is_pinned(node), "a pin is taken away by its holder");
        if self.at(node).flags & MORE_PINS == 0 {
            self.set_flag(node, PINNED, false);
            self.free_if_unused(node);
        } else if let Some(count) = self.more_pins.get_mut(&node.0) {
            *count -= 1;
            if *count == 0 {
                self.more_pins.remove(&node.0);
                self.set_flag(node, MORE_PINS, false);
            }
        }
    }

    /// Whether the node is pinned.
    #[must_use]
    pub fn is_pinned(&self, node: NodeId) -> bool {
        self.at(node).flags & PINNED != 0
    }

    /// Writes the directory's path into `path`, and `name` behind it unless that is empty.
    pub fn path(&self, node: NodeId, name: &[u8], path: &mut Vec<u8>) {
        path.clear();
        let mut length = if name.is_empty() { 0 } else { 1 + name.len() };
        let mut at = self.at(node);
        while at.parent != NONE {
            length += 1 + usize::from(at.name_len);
            at = &self.nodes[at.parent as usize];
        }
        path.resize(length.max(1), b'/');
        let mut end = length;
        let mut put = |name: &[u8]| {
            path[end - name.len()..end].copy_from_slice(name);
            end -= name.len() + 1;
        };
        if !name.is_empty() {
            put(name);
        }
        let mut at = self.at(node);
        while at.parent != NONE {
            put(self.names.get(at.name_offset, at.name_len));
            at = &self.nodes[at.parent as usize];
        }
    }

    /// How many bytes the directory's path has.
    #[must_use]
    pub fn path_len(&self, node: NodeId) -> usize {
        let lengths = self.way_up(node).filter(|node| *node != ROOT).map(|node| 1 + self.name(node).len());
        lengths.sum::<usize>().max(1)
    }

    /// The path as a new vector.
    #[must_use]
    pub fn path_of(&self, node: NodeId, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        self.path(node, name, &mut path);
        path
    }

    /// The node and all below it, parents first.
    #[must_use]
    pub fn subtree(&self, top: NodeId) -> Vec<NodeId> {
        let mut found = vec![top];
        let mut next = 0;
        while let Some(&node) = found.get(next) {
            self.children_into(node, &mut found);
            next += 1;
        }
        found
    }

    /// The next of the nodes below `top`, parents first; `node` is one of them, or `top` to begin with.
    #[must_use]
    pub fn next_in(&self, top: NodeId, node: NodeId) -> Option<NodeId> {
        if self.has_children(node) {
            return Some(NodeId(self.at(node).first_child));
        }
        let mut at = node;
        while at != top {
            let Node { next, parent, .. } = *self.at(at);
            if next != NONE {
                return Some(NodeId(next));
            }
            at = NodeId(parent);
        }
        None
    }

    /// Whether there is any directory directly below, also a detached one.
    #[must_use]
    pub fn has_children(&self, node: NodeId) -> bool {
        self.at(node).first_child != NONE
    }

    /// The directories directly below, detached ones too.
    #[must_use]
    pub fn children(&self, node: NodeId) -> Vec<NodeId> {
        let mut found = Vec::new();
        self.children_into(node, &mut found);
        found
    }

    fn children_into(&self, node: NodeId, found: &mut Vec<NodeId>) {
        let mut child = self.at(node).first_child;
        while child != NONE {
            found.push(NodeId(child));
            child = self.nodes[child as usize].next;
        }
    }

    fn at(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }

    fn at_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.0 as usize]
    }

    fn set_flag(&mut self, node: NodeId, flag: u8, on: bool) {
        let flags = &mut self.at_mut(node).flags;
        *flags = if on { *flags | flag } else { *flags & !flag };
    }

    fn name_hash(&self, parent: u32, name: &[u8]) -> u64 {
        self.seed.hash(parent, name)
    }

    fn hash_of(&self, index: u32) -> u64 {
        hash_node(&self.seed, &self.nodes, &self.names, index)
    }

    fn link(&mut self, index: u32) {
        let hash = self.hash_of(index);
        let Self { by_name, nodes, names, seed, .. } = self;
        by_name.insert(hash, index, |index| hash_node(seed, nodes, names, index));
        self.nodes[index as usize].flags |= LINKED;
    }

    fn forget_wd(&mut self, node: NodeId) {
        let wd = self.at(node).wd;
        if wd == UNWATCHED {
            return;
        }
        let Self { by_wd, nodes, .. } = self;
        let hash = |index: u32| hash_wd(nodes[index as usize].wd);
        by_wd.remove(hash_wd(wd), |index| index == node.0, hash);
        self.at_mut(node).wd = UNWATCHED;
        self.watched -= 1;
    }

    fn allocate(&mut self, node: Node) -> Option<u32> {
        if self.free == NONE {
            let index = u32::try_from(self.nodes.len()).ok().filter(|index| *index != NONE)?;
            self.nodes.push(node);
            return Some(index);
        }
        let index = self.free;
        self.free = self.nodes[index as usize].next;
        self.nodes[index as usize] = node;
        Some(index)
    }

    /// Frees the node if nothing needs it, and then its parent, as far up as that goes.
    fn free_if_unused(&mut self, node: NodeId) {
        let mut index = node.0;
        loop {
            let node = &self.nodes[index as usize];
            let unused = node.flags & (LINKED | TRANSIT | PINNED | FREE) == 0
                && node.wd == UNWATCHED
                && node.first_child == NONE;
            if !unused {
                return;
            }
            let parent = node.parent;
            self.names.release(node.name_len);
            self.leave_siblings(index);
            let node = &mut self.nodes[index as usize];
            node.flags = FREE;
            node.name_len = 0;
            node.next = self.free;
            self.free = index;
            index = parent;
        }
    }

    fn join_siblings(&mut self, index: u32) {
        let parent = self.nodes[index as usize].parent;
        let next = self.nodes[parent as usize].first_child;
        self.nodes[parent as usize].first_child = index;
        let node = &mut self.nodes[index as usize];
        node.next = next;
        node.prev = NONE;
        if next != NONE {
            self.nodes[next as usize].prev = index;
        }
    }

    fn leave_siblings(&mut self, index: u32) {
        let Node { parent, next, prev, .. } = self.nodes[index as usize];
        if prev == NONE {
            self.nodes[parent as usize].first_child = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
    }

    fn compact_names(&mut self) {
        if self.names.wants_compaction() {
            let live = self.nodes.iter_mut().filter(|node| node.flags & FREE == 0);
            self.names.compact(live.map(|node| (&mut node.name_offset, node.name_len)));
        }
    }
}

fn hash_node(seed: &Seed, nodes: &[Node], names: &NameArena, index: u32) -> u64 {
    let node = &nodes[index as usize];
    seed.hash(node.parent, names.get(node.name_offset, node.name_len))
}

fn hash_wd(wd: i32) -> u64 {
    hash_number(wd.cast_unsigned())
}

const _: () = assert!(size_of::<Node>() == 28, "a node costs 28 bytes in every watched directory");

#[cfg(test)]
mod tests;
