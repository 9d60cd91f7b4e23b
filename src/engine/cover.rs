//! Which watches cover a directory, and what the kernel is asked for on its account.
//!
//! A cover is a set of [`Member`]s. Most directories of a tree have the same one, so covers are
//! interned and a node holds a 16-bit number. The kernel mask is a function of the cover alone.

use std::collections::HashMap;

use crate::config::{Config, Watch};
use crate::event::EventKind;
use crate::pattern::PathPattern;

/// The number of an interned cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoverId(u16);

impl CoverId {
    /// No watch covers the directory.
    pub const NONE: Self = Self(0);
}

/// How one path of one watch concerns a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Index into [`Config::watches`].
    pub watch: u16,
    /// Index into [`Watch::paths`].
    pub path: u16,
    /// What the directory is to it.
    pub role: Role,
}

/// What a directory is to a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// On the way: `depth` components of the path lead here, and the next is looked for. `found`
    /// when it is there, is a directory, and can only be one (it holds no wildcard).
    Seek {
        /// Components that lead here.
        depth: u16,
        /// The next one is a directory that has a node.
        found: bool,
    },
    /// The path names this directory.
    Root,
    /// It is below a recursive root.
    Below,
}

impl Member {
    /// The path that this is about.
    #[must_use]
    pub fn pattern<'a>(&self, config: &'a Config) -> &'a PathPattern {
        &config.watches[usize::from(self.watch)].paths[usize::from(self.path)]
    }

    /// The watch that this is about.
    #[must_use]
    pub fn watch<'a>(&self, config: &'a Config) -> &'a Watch {
        &config.watches[usize::from(self.watch)]
    }

    /// Whether a file of this name is what the path names: a watch on a single file lives in the
    /// directory around it, so that it survives the file's replacement. What leads to a directory
    /// is no file, even if it is a link.
    #[must_use]
    pub fn names_file(&self, config: &Config, name: &[u8]) -> bool {
        let Role::Seek { depth, found: false } = self.role else { return false };
        let components = &self.pattern(config).components;
        usize::from(depth) + 1 == components.len() && components[usize::from(depth)].matches(name)
    }

    /// Events of things in the directory are events of the watch.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        matches!(self.role, Role::Root | Role::Below)
    }

    fn mask(&self, config: &Config) -> u32 {
        let watch = self.watch(config);
        let wanted = config.event_maps[watch.event_map].mask() & EventKind::REQUESTABLE;
        let own_end = EventKind::DeleteSelf.bit() | EventKind::MoveSelf.bit();
        let names = EventKind::Create.bit() | EventKind::MovedTo.bit() | EventKind::MovedFrom.bit();
        let tree = if watch.rec || watch.auto_add { names } else { 0 };
        // The next component may be replaced at any time, by a link or while somebody holds it open,
        // and then only its parent tells.
        let way = own_end | names | EventKind::Delete.bit();
        match self.role {
            Role::Seek { found: true, .. } => way,
            Role::Seek { depth, .. } if usize::from(depth) + 1 == self.pattern(config).components.len() => {
                way | wanted
            }
            Role::Seek { .. } => way,
            Role::Root => wanted | tree | own_end | sources(config),
            Role::Below => wanted | tree | sources(config),
        }
    }
}

/// Whoever gets IN_MOVED_TO is told where it came from, which may be any other watch's directory.
fn sources(config: &Config) -> u32 {
    let told = config.event_maps.iter().any(|map| map.mask() & EventKind::MovedTo.bit() != 0);
    if told { EventKind::MovedFrom.bit() } else { 0 }
}

#[derive(Debug)]
struct Cover {
    members: Box<[Member]>,
    mask: u32,
}

/// All covers in use.
#[derive(Debug)]
pub struct Covers {
    covers: Vec<Cover>,
    known: HashMap<Box<[Member]>, u16>,
}

impl Default for Covers {
    fn default() -> Self {
        let none = Cover { members: Box::default(), mask: 0 };
        Self { covers: vec![none], known: HashMap::from([(Box::default(), 0)]) }
    }
}

impl Covers {
    /// The number of this set; equal sets have equal numbers. `None` when 65,535 different sets
    /// are in use, which takes tens of thousands of configured watches.
    pub fn intern(&mut self, config: &Config, mut members: Vec<Member>) -> Option<CoverId> {
        members.sort_unstable();
        members.dedup();
        if let Some(&index) = self.known.get(members.as_slice()) {
            return Some(CoverId(index));
        }
        let index = u16::try_from(self.covers.len()).ok()?;
        let mask = members.iter().fold(0, |mask, member| mask | member.mask(config));
        let members: Box<[Member]> = members.into();
        self.covers.push(Cover { members: members.clone(), mask });
        self.known.insert(members, index);
        Some(CoverId(index))
    }

    /// The set behind a number.
    #[must_use]
    pub fn members(&self, id: CoverId) -> &[Member] {
        &self.covers[usize::from(id.0)].members
    }

    /// Whether some watch is told of what happens in directories with either cover.
    #[must_use]
    pub fn share_watch(&self, one: CoverId, other: CoverId) -> bool {
        self.members(one).iter().any(|member| member.is_inside() && self.tells(other, member.watch))
    }

    /// Whether the watch is told of what happens in directories with that cover.
    #[must_use]
    pub fn tells(&self, cover: CoverId, watch: u16) -> bool {
        self.members(cover).iter().any(|member| member.watch == watch && member.is_inside())
    }

    /// What the kernel is asked for.
    #[must_use]
    pub fn mask(&self, id: CoverId) -> u32 {
        self.covers[usize::from(id.0)].mask
    }

    /// What a cover says, in a form that can be compared with one of another configuration.
    #[must_use]
    pub fn meaning(&self, config: &Config, id: CoverId) -> Vec<u8> {
        let Cover { members, mask } = &self.covers[usize::from(id.0)];
        let mut meaning = mask.to_ne_bytes().to_vec();
        for member in members {
            let watch = member.watch(config);
            meaning.extend_from_slice(watch.name.as_bytes());
            meaning.push(0);
            meaning.extend_from_slice(&member.pattern(config).text);
            let excludes: Vec<&str> = watch.exclude.texts().collect();
            let rest = format!("\0{:?} {} {} {excludes:?}", member.role, watch.rec, watch.auto_add);
            meaning.extend_from_slice(rest.as_bytes());
        }
        meaning
    }
}
