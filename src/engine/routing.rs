//! Whom an event concerns: from a directory's cover over event maps to schedulers.

use std::rc::Rc;

use super::Engine;
use super::cover::{CoverId, Member, Role};
use super::tree::NodeId;
use crate::config::{Config, EventMap, Trigger};
use crate::event::EventKind;
use crate::quote::Quoted;
use crate::record::{Level, Record};
use crate::types::RESERVED_PREFIX;

/// An event as the maps see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occurrence<'a> {
    /// The directory it happened in.
    pub node: NodeId,
    /// To what in it; empty for the directory itself.
    pub name: &'a [u8],
    /// What happened.
    pub kind: EventKind,
    /// Whether to a directory.
    pub is_dir: bool,
    /// Where it was before, for a rename that was seen whole.
    pub src: Option<(NodeId, &'a [u8])>,
    /// Made up at start, for watches with `catch_up`.
    pub catch_up: bool,
}

impl Engine {
    /// Hands an event to all watches that cover its directory. Allocates nothing if it leads nowhere.
    pub(super) fn deliver(&mut self, event: &Occurrence<'_>) {
        self.deliver_where(event, &|_| true);
    }

    /// Hands an event to those watches only.
    pub(super) fn deliver_where(&mut self, event: &Occurrence<'_>, wanted: &dyn Fn(&Member) -> bool) {
        if event.name.starts_with(RESERVED_PREFIX) {
            self.explain(|_| "the name is the daemon's own and is left out".to_owned());
            return;
        }
        let config = Rc::clone(&self.config);
        let cover = self.tree.cover(event.node);
        for index in 0..self.covers.members(cover).len() {
            let member = self.covers.members(cover)[index];
            if wanted(&member) && self.concerns(&config, &member, event) {
                self.deliver_to(&config, &member, event);
            }
        }
    }

    fn concerns(&self, config: &Config, member: &Member, event: &Occurrence<'_>) -> bool {
        if event.catch_up && !member.watch(config).catch_up {
            return false;
        }
        if event.name.is_empty() {
            return member.is_inside() && !self.parent_tells(event, member);
        }
        member.is_inside() || !event.is_dir && member.names_file(config, event.name)
    }

    /// Whether what happens to this name is some watch's business.
    pub(super) fn is_inside(&self, node: NodeId, name: &[u8]) -> bool {
        let members = self.covers.members(self.tree.cover(node));
        members.iter().any(|member| member.is_inside() || member.names_file(&self.config, name))
    }

    /// The kernel reports most of what happens to a directory twice: to its own watch, and with
    /// its name to its parent's. A watch that has both takes the parent's.
    fn parent_tells(&self, event: &Occurrence<'_>, member: &Member) -> bool {
        let told_twice = matches!(
            event.kind,
            EventKind::Access
                | EventKind::Attrib
                | EventKind::Open
                | EventKind::CloseWrite
                | EventKind::CloseNowrite
        );
        let parent = self.tree.parent(event.node).map_or(CoverId::NONE, |parent| self.tree.cover(parent));
        told_twice && self.covers.tells(parent, member.watch)
    }

    pub(super) fn deliver_to(&mut self, config: &Rc<Config>, member: &Member, event: &Occurrence<'_>) {
        self.explain(|_| {
            let how = match member.role {
                Role::Seek { .. } => "it is what the path names",
                Role::Root if event.name.is_empty() => "it is the path itself",
                Role::Root => "it is in it",
                Role::Below => "it is below it",
            };
            let pattern = Quoted(&member.pattern(config).text);
            format!("watch {} covers it with path {pattern}: {how}", member.watch(config).name)
        });
        self.deliver_kind(config, member, event);
        if member.is_inside() {
            return;
        }
        // A watched file has no watch of its own that could tell these.
        let own = match event.kind {
            EventKind::Delete => EventKind::DeleteSelf,
            EventKind::MovedFrom => EventKind::MoveSelf,
            _ => return,
        };
        self.deliver_kind(config, member, &Occurrence { kind: own, ..*event });
    }

    fn deliver_kind(&mut self, config: &Rc<Config>, member: &Member, event: &Occurrence<'_>) {
        let watch = member.watch(config);
        let map = &config.event_maps[watch.event_map];
        let triggers = map.triggers(event.kind);
        self.explain(|_| explain_map(config, map, event.kind));
        if triggers.is_empty() {
            return;
        }
        let mut path = std::mem::take(&mut self.path);
        self.tree.path(event.node, event.name, &mut path);
        let filter = watch.excluded_by(&path);
        let excluded = filter.is_some();
        if !watch.exclude.is_empty() {
            self.explain(|_| match filter {
                Some(filter) => format!("watch {} leaves it out: exclude_filter {filter}", watch.name),
                None => format!("watch {} does not leave it out: no exclude_filter matches", watch.name),
            });
        }
        self.log(Level::Debug, &watch.logname, |engine| {
            let message = if excluded { "event excluded" } else { "event" };
            let record = Record::new(Level::Debug, &watch.logname, message);
            let record = record.field("event", event.kind.name()).field("path", &path);
            match event.src {
                Some((node, name)) => record.field("src_path", engine.tree.path_of(node, name)),
                None => record,
            }
        });
        self.path = path;
        if excluded {
            return;
        }
        for trigger in triggers {
            match *trigger {
                Trigger::Schedule(sched) => self.schedule(sched, event),
                Trigger::Cancel(sched) => self.cancel(sched, event),
            }
        }
    }
}

/// What a map says about an event, as it stands in the configuration.
fn explain_map(config: &Config, map: &EventMap, kind: EventKind) -> String {
    let words = map.triggers(kind).iter().map(|trigger| match trigger {
        Trigger::Schedule(sched) => config.schedulers[*sched].name.clone(),
        Trigger::Cancel(sched) => format!("cancel:{}", config.schedulers[*sched].name),
    });
    let words: Vec<_> = words.collect();
    let words = if words.is_empty() { "none".to_owned() } else { words.join(" ") };
    format!("event map {}: {} = {words}", map.name, kind.name())
}
