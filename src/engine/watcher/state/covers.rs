//! Which watches cover a directory, and what the kernel is asked for on its account.
//!
//! A cover is a set of [`Member`]s: one for each path of a watch that concerns the directory. Most
//! directories of a tree have the same one, so covers are interned and a node holds a 16-bit number.
//!
//! A directory on the way to thousands of watch paths has a cover with thousands of members. So the
//! members on the way are kept sorted by the name that they look for, and are found by bisection, and
//! which of these names are there is noted apart from the cover ([`FoundNames`]). Every set is thus
//! interned once, and the cost is linear in the number of watch paths.

use std::collections::{BTreeSet, HashMap};

use crate::config::{Config, Watch};
use crate::engine::ids::{NodeId, WatchIndex};
use crate::event::EventKind;
use crate::pattern::{Component, PathPattern};

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
    /// The watch.
    pub watch: WatchIndex,
    /// Index into [`Watch::paths`].
    pub path: u16,
    /// What the directory is to that path.
    pub role: Role,
}

/// What a directory is to a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// On the way: so many components of the path lead here, and the next is looked for.
    Seek {
        /// Components that lead here.
        depth: u16,
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
        &config.watches[self.watch.index()].paths[usize::from(self.path)]
    }

    /// The watch that this is about.
    #[must_use]
    pub fn watch<'a>(&self, config: &'a Config) -> &'a Watch {
        self.watch.of(config)
    }

    /// Events of things in the directory are events of the watch.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        matches!(self.role, Role::Root | Role::Below)
    }

    /// The component that is looked for, on the way to a watch path.
    #[must_use]
    pub fn sought<'a>(&self, config: &'a Config) -> Option<&'a Component> {
        match self.role {
            Role::Seek { depth } => self.pattern(config).components.get(usize::from(depth)),
            Role::Root | Role::Below => None,
        }
    }

    /// Whether the component that is looked for is the path's last: it may be a single file.
    #[must_use]
    pub fn seeks_last(&self, config: &Config) -> bool {
        match self.role {
            Role::Seek { depth } => usize::from(depth) + 1 == self.pattern(config).components.len(),
            Role::Root | Role::Below => false,
        }
    }

    /// The same, if it has no wildcards.
    #[must_use]
    pub fn sought_literal<'a>(&self, config: &'a Config) -> Option<&'a [u8]> {
        match self.sought(config) {
            Some(Component::Literal(name)) => Some(name),
            _ => None,
        }
    }
}

/// One interned set.
#[derive(Debug, Default)]
struct Cover {
    /// The paths that the directory is, or is below.
    inside: Box<[Member]>,
    /// The paths to which it leads by a component without wildcards, sorted by that component.
    literal: Box<[Member]>,
    /// The paths to which it leads by a component with wildcards.
    wild: Box<[Member]>,
    /// What the kernel is asked for when all literal names are there, and when one is missing.
    mask_found: u32,
    mask_missing: u32,
    /// How many different literal names are the last component of a path.
    last_names: u32,
    has_root: bool,
}

/// All covers in use.
#[derive(Debug, Default)]
pub struct Covers {
    covers: Vec<Cover>,
    known: HashMap<Box<[Member]>, u16>,
    /// IN_MOVED_FROM when some event map names IN_MOVED_TO, whose source may be any directory.
    sources: u32,
}

impl Covers {
    /// No cover yet but [`CoverId::NONE`].
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let told = config.event_maps.iter().any(|map| map.mask() & EventKind::MovedTo.bit() != 0);
        Self {
            covers: vec![Cover::default()],
            known: HashMap::from([(Box::default(), 0)]),
            sources: if told { EventKind::MovedFrom.bit() } else { 0 },
        }
    }

    /// The number of this set; equal sets have equal numbers. `None` when 65,535 different sets
    /// are in use, which takes tens of thousands of configured watches.
    pub fn intern(&mut self, config: &Config, mut members: Vec<Member>) -> Option<CoverId> {
        members.sort_unstable();
        members.dedup();
        if let Some(&index) = self.known.get(members.as_slice()) {
            return Some(CoverId(index));
        }
        let index = u16::try_from(self.covers.len()).ok()?;
        self.covers.push(self.cover(config, &members));
        self.known.insert(members.into(), index);
        Some(CoverId(index))
    }

    fn cover(&self, config: &Config, members: &[Member]) -> Cover {
        let (inside, seek): (Vec<Member>, Vec<Member>) = members.iter().partition(|one| one.is_inside());
        let (mut literal, wild): (Vec<Member>, Vec<Member>) =
            seek.into_iter().partition(|one| one.sought_literal(config).is_some());
        literal.sort_by_key(|one| one.sought_literal(config));
        let mut last: Vec<_> = literal
            .iter()
            .filter(|one| one.seeks_last(config))
            .map(|one| one.sought_literal(config))
            .collect();
        last.dedup();
        let all = |found: bool| members.iter().fold(0, |mask, one| mask | self.mask_of(config, one, found));
        Cover {
            mask_found: all(true),
            mask_missing: all(false),
            last_names: u32::try_from(last.len()).unwrap_or(u32::MAX),
            has_root: inside.iter().any(|one| one.role == Role::Root),
            inside: inside.into(),
            literal: literal.into(),
            wild: wild.into(),
        }
    }

    fn mask_of(&self, config: &Config, member: &Member, found: bool) -> u32 {
        let watch = member.watch(config);
        let wanted = config.event_maps[watch.event_map].mask() & EventKind::REQUESTABLE;
        let own_end = EventKind::DeleteSelf.bit() | EventKind::MoveSelf.bit();
        let names = EventKind::Create.bit() | EventKind::MovedTo.bit() | EventKind::MovedFrom.bit();
        let tree = if watch.rec || watch.auto_add { names } else { 0 };
        // The next component may be replaced at any time, by a link or while a process holds it open,
        // and then only its parent tells.
        let way = own_end | names | EventKind::Delete.bit();
        match member.role {
            Role::Seek { .. } => {
                let found = found && member.sought_literal(config).is_some();
                if member.seeks_last(config) && !found { way | wanted } else { way }
            }
            Role::Root => wanted | tree | own_end | self.sources,
            Role::Below => wanted | tree | self.sources,
        }
    }

    /// The paths that a directory with this cover is, or is below.
    #[must_use]
    pub fn inside(&self, id: CoverId) -> &[Member] {
        &self.at(id).inside
    }

    /// The paths on the way to which a directory with this cover stands.
    pub fn seeking(&self, id: CoverId) -> impl Iterator<Item = &Member> {
        let Cover { literal, wild, .. } = self.at(id);
        literal.iter().chain(wild)
    }

    /// Those of them whose next component this name may be.
    pub fn seeking_name<'a>(
        &'a self,
        config: &'a Config,
        id: CoverId,
        name: &'a [u8],
    ) -> impl Iterator<Item = &'a Member> {
        let Cover { literal, wild, .. } = self.at(id);
        let from = literal.partition_point(|one| one.sought_literal(config) < Some(name));
        let literal = literal[from..].iter().take_while(move |one| one.sought_literal(config) == Some(name));
        let wild = wild.iter().filter(move |one| one.sought(config).is_some_and(|next| next.matches(name)));
        literal.chain(wild)
    }

    /// The names without wildcards that are looked for, each once.
    #[must_use]
    pub fn literal_names<'a>(&self, config: &'a Config, id: CoverId) -> Vec<&'a [u8]> {
        let names = self.at(id).literal.iter().filter_map(|one| one.sought_literal(config));
        let mut names: Vec<_> = names.collect();
        names.dedup();
        names
    }

    /// Whether a name with wildcards is looked for.
    #[must_use]
    pub fn has_wildcards(&self, id: CoverId) -> bool {
        !self.at(id).wild.is_empty()
    }

    /// Whether the directory is on the way to a watch path.
    #[must_use]
    pub fn seeks(&self, id: CoverId) -> bool {
        let Cover { literal, wild, .. } = self.at(id);
        !literal.is_empty() || !wild.is_empty()
    }

    /// Whether the directory is a watch path or on the way to one.
    #[must_use]
    pub fn leads_to_root(&self, id: CoverId) -> bool {
        self.at(id).has_root || self.seeks(id)
    }

    /// Whether some watch is told of what happens in directories with either cover.
    #[must_use]
    pub fn share_watch(&self, one: CoverId, other: CoverId) -> bool {
        self.inside(one).iter().any(|member| self.tells(other, member.watch))
    }

    /// Whether the watch is told of what happens in directories with that cover.
    #[must_use]
    pub fn tells(&self, cover: CoverId, watch: WatchIndex) -> bool {
        self.inside(cover).iter().any(|member| member.watch == watch)
    }

    /// Whether the directory is on the way to a path of the watch, or in one.
    #[must_use]
    pub fn concerns(&self, cover: CoverId, watch: WatchIndex) -> bool {
        self.inside(cover).iter().chain(self.seeking(cover)).any(|member| member.watch == watch)
    }

    /// What the kernel is asked for. While one of the names is missing, this is what all of them would
    /// need: a single file is told of by the directory around it.
    #[must_use]
    pub fn mask(&self, id: CoverId, found_last: u32) -> u32 {
        let cover = self.at(id);
        if found_last >= cover.last_names { cover.mask_found } else { cover.mask_missing }
    }

    /// What a cover says, in a form that can be compared with one of another configuration.
    #[must_use]
    pub fn meaning(&self, config: &Config, id: CoverId) -> Vec<u8> {
        let mut meaning = Vec::new();
        for member in self.inside(id).iter().chain(self.seeking(id)) {
            let watch = member.watch(config);
            meaning.extend_from_slice(watch.name.as_bytes());
            meaning.push(0);
            meaning.extend_from_slice(&member.pattern(config).text);
            let excludes: Vec<&str> = watch.exclude.texts().chain(watch.exclude_glob.texts()).collect();
            let rest = format!("\0{:?} {} {} {excludes:?}", member.role, watch.rec, watch.auto_add);
            meaning.extend_from_slice(rest.as_bytes());
        }
        meaning
    }

    fn at(&self, id: CoverId) -> &Cover {
        &self.covers[usize::from(id.0)]
    }
}

/// Which last components of watch paths are there and are directories, by the directory around them.
///
/// The entry of a directory is right as long as its cover is: code that gives a node another cover
/// drops the entry with [`FoundNames::forget`].
#[derive(Debug, Default)]
pub struct FoundNames(HashMap<NodeId, BTreeSet<Box<[u8]>>>);

impl FoundNames {
    /// How many names were found in this directory.
    #[must_use]
    pub fn count(&self, dir: NodeId) -> u32 {
        if self.0.is_empty() {
            return 0;
        }
        self.0.get(&dir).map_or(0, |names| u32::try_from(names.len()).unwrap_or(u32::MAX))
    }

    /// Whether this name was found in this directory.
    #[must_use]
    pub fn contains(&self, dir: NodeId, name: &[u8]) -> bool {
        self.0.get(&dir).is_some_and(|names| names.contains(name))
    }

    /// Notes that a name is there, or is not there any more.
    pub fn set(&mut self, dir: NodeId, name: &[u8], found: bool) {
        if found {
            self.0.entry(dir).or_default().insert(name.into());
        } else if let Some(names) = self.0.get_mut(&dir) {
            names.remove(name);
        }
    }

    /// The directory's cover is another one now.
    pub fn forget(&mut self, dir: NodeId) {
        if !self.0.is_empty() {
            self.0.remove(&dir);
        }
    }

    /// Forgets everything: all covers are other ones now.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
