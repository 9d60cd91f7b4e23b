//! Whom an event concerns: from a directory's cover, mask and filters to what is told.

use super::state::covers::{CoverId, Member, Role};
use super::state::{Step, Watcher};
use crate::config::{Config, EventMap, Trigger};
use crate::engine::context::Context;
use crate::engine::ids::NodeId;
use crate::engine::told::Told;
use crate::event::EventKind;
use crate::quote::Quoted;
use crate::record::{Level, Record};
use crate::types::RESERVED_PREFIX;

/// An event at a place, before it is known which watches see it.
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
    /// Where it was before, for a rename of which both halves were seen.
    pub src: Option<(NodeId, &'a [u8])>,
    /// Synthesized at start, for watches with `catch_up`.
    pub catch_up: bool,
}

impl<'a> Occurrence<'a> {
    /// Something happened to this name.
    pub fn new(node: NodeId, name: &'a [u8], kind: EventKind, is_dir: bool) -> Self {
        Self { node, name, kind, is_dir, src: None, catch_up: false }
    }
}

impl Watcher {
    /// Hands an event to all watches that cover its directory. Allocates nothing if it leads nowhere.
    pub(super) fn deliver(&mut self, step: &mut Step<'_, '_>, event: &Occurrence<'_>) {
        self.deliver_where(step, event, &|_| true);
    }

    /// Hands an event that the kernel did not report to all watches that cover its directory.
    pub(super) fn deliver_synthesized(&mut self, step: &mut Step<'_, '_>, event: &Occurrence<'_>) {
        step.cx.counters.synthesized += 1;
        self.deliver(step, event);
    }

    /// Hands an event to those watches only.
    pub(super) fn deliver_where(
        &mut self,
        step: &mut Step<'_, '_>,
        event: &Occurrence<'_>,
        wanted: &dyn Fn(&Member) -> bool,
    ) {
        if event.name.starts_with(RESERVED_PREFIX) {
            step.cx.explain(|| "the name is the daemon's own and is left out".to_owned());
            return;
        }
        let config = step.cx.config;
        let cover = self.cover(event.node);
        for index in 0..self.covers.inside(cover).len() {
            let member = self.covers.inside(cover)[index];
            if wanted(&member) && self.concerns(config, &member, event) {
                self.deliver_to(step, &member, event);
            }
        }
        if event.is_dir || event.name.is_empty() || !self.covers.seeks(cover) {
            return;
        }
        let files = self.covers.seeking_name(config, cover, event.name).copied();
        let files: Vec<Member> = files
            .filter(|member| {
                wanted(member)
                    && told_at_start(config, member, event)
                    && self.names_file(config, event.node, member, event.name)
            })
            .collect();
        for member in files {
            self.deliver_file(step, &member, event);
        }
    }

    fn concerns(&self, config: &Config, member: &Member, event: &Occurrence<'_>) -> bool {
        told_at_start(config, member, event) && (!event.name.is_empty() || !self.parent_tells(event, member))
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
        let parent = self.tree.parent(event.node).map_or(CoverId::NONE, |parent| self.cover(parent));
        told_twice && self.covers.tells(parent, member.watch)
    }

    /// Hands an event to a watch on a single file.
    fn deliver_file(&mut self, step: &mut Step<'_, '_>, member: &Member, event: &Occurrence<'_>) {
        self.deliver_to(step, member, event);
        // A watched file has no watch of its own that could tell these.
        let own = match event.kind {
            EventKind::Delete => EventKind::DeleteSelf,
            EventKind::MovedFrom => EventKind::MoveSelf,
            _ => return,
        };
        self.deliver_kind(step, member, &Occurrence { kind: own, ..*event });
    }

    /// Hands an event to one watch.
    pub(super) fn deliver_to(&mut self, step: &mut Step<'_, '_>, member: &Member, event: &Occurrence<'_>) {
        let config = step.cx.config;
        step.cx.explain(|| {
            let how = match member.role {
                Role::Seek { .. } => "it is what the path names",
                Role::Root if event.name.is_empty() => "it is the path itself",
                Role::Root => "it is in it",
                Role::Below => "it is below it",
            };
            let pattern = Quoted(&member.pattern(config).text);
            format!("watch {} covers it with path {pattern}: {how}", member.watch(config).name)
        });
        self.deliver_kind(step, member, event);
    }

    fn deliver_kind(&mut self, step: &mut Step<'_, '_>, member: &Member, event: &Occurrence<'_>) {
        let cx = &mut *step.cx;
        let config = cx.config;
        let watch = member.watch(config);
        let map = &config.event_maps[watch.event_map];
        cx.explain(|| explain_map(config, map, event.kind));
        if map.triggers(event.kind).is_empty() {
            return;
        }
        self.tree.path(event.node, event.name, &mut self.path);
        // What has no name in a directory is the directory itself.
        let is_dir = event.is_dir || event.name.is_empty();
        let left_out = watch.left_out(member.pattern(config), &self.path, is_dir);
        if watch.has_filters() {
            cx.explain(|| watch.explain(left_out));
        }
        self.log_event(cx, member, event, left_out.is_some());
        if left_out.is_none() {
            let Occurrence { node: dir, name, kind, is_dir, src, .. } = *event;
            let told = Told { watch: member.watch, kind, dir, name, is_dir, src };
            step.audience.told(step.cx, &mut self.places(), &told);
        }
    }

    fn log_event(&self, cx: &mut Context<'_>, member: &Member, event: &Occurrence<'_>, excluded: bool) {
        let name = &member.watch(cx.config).logname;
        cx.log(Level::Debug, name, || {
            let message = if excluded { "event excluded" } else { "event" };
            let record = Record::new(Level::Debug, name, message)
                .field("event", event.kind.name())
                .field("path", &self.path);
            match event.src {
                Some((node, name)) => record.field("src_path", self.tree.path_of(node, name)),
                None => record,
            }
        });
    }

    /// What the tasks wait for in these directories, and for which `is_gone`, sees IN_DELETE.
    pub(super) fn deliver_deleted(
        &mut self,
        step: &mut Step<'_, '_>,
        dirs: &[NodeId],
        is_gone: impl Fn(&[u8]) -> bool,
    ) {
        for file in step.audience.waiting_in(dirs) {
            if is_gone(&file.name) {
                let event = Occurrence::new(file.dir, &file.name, EventKind::Delete, file.is_dir);
                self.deliver_synthesized(step, &event);
            }
        }
    }
}

/// An event that is synthesized at start is told to watches with `catch_up` only.
fn told_at_start(config: &Config, member: &Member, event: &Occurrence<'_>) -> bool {
    !event.catch_up || member.watch(config).catch_up
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
