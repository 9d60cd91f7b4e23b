//! Groups of events, for what most configurations repeat: `complete`, `changed`, `gone`.

use super::Trigger;
use crate::event::{EVENT_KINDS, EventKind};

/// A group.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The word in `on`, and the key of an event map.
    pub name: &'static str,
    /// One line for the manual.
    pub help: &'static str,
    /// The events that schedule a task.
    pub schedules: &'static [EventKind],
    /// The events that cancel a waiting one.
    pub cancels: &'static [EventKind],
}

/// All groups.
pub const GROUPS: [Group; 3] = [COMPLETE, CHANGED, GONE];

/// A file is complete under its name.
pub const COMPLETE: Group = Group {
    name: "complete",
    help: "a file is complete: written and closed, or moved in; it changes or goes: the task is cancelled",
    schedules: &[EventKind::CloseWrite, EventKind::MovedTo],
    cancels: &[EventKind::Modify, EventKind::Delete, EventKind::MovedFrom],
};

const CHANGED: Group = Group {
    name: "changed",
    help: "anything came, went, was written, or has other metadata",
    schedules: &[
        EventKind::Create,
        EventKind::CloseWrite,
        EventKind::MovedTo,
        EventKind::MovedFrom,
        EventKind::Delete,
        EventKind::Attrib,
    ],
    cancels: &[],
};

const GONE: Group = Group {
    name: "gone",
    help: "a path was deleted or moved away; it comes back: the task is cancelled",
    schedules: &[EventKind::Delete, EventKind::MovedFrom],
    cancels: &[EventKind::Create, EventKind::MovedTo],
};

impl Group {
    /// The group of this name.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<Self> {
        GROUPS.into_iter().find(|group| group.name.as_bytes() == name)
    }
}

/// What the events of groups set off. An event that no group names has no entry.
#[derive(Debug, Default)]
pub struct Triggers([Option<Vec<Trigger>>; EVENT_KINDS]);

impl Triggers {
    /// Adds the events of a group for a scheduler. If its tasks are for all paths, no event of one path cancels
    /// the task, because it is about the others too.
    pub fn add(&mut self, group: &Group, scheduler: usize, is_for_all_paths: bool) {
        for kind in group.schedules {
            self.schedule(*kind, scheduler);
        }
        for kind in group.cancels.iter().filter(|_| !is_for_all_paths) {
            self.cancel(*kind, scheduler);
        }
    }

    /// Adds an event that cancels, unless it is known for this scheduler.
    pub fn cancel(&mut self, kind: EventKind, scheduler: usize) {
        let triggers = self.of_mut(kind);
        if !triggers.iter().any(|trigger| trigger.scheduler() == scheduler) {
            triggers.push(Trigger::Cancel(scheduler));
        }
    }

    /// Adds one event. It counts before what a group cancels.
    pub fn schedule(&mut self, kind: EventKind, scheduler: usize) {
        let triggers = self.of_mut(kind);
        triggers.retain(|trigger| trigger.scheduler() != scheduler);
        triggers.push(Trigger::Schedule(scheduler));
    }

    fn of_mut(&mut self, kind: EventKind) -> &mut Vec<Trigger> {
        self.0[kind as usize].get_or_insert_default()
    }

    /// What an event sets off, together with what its own key says. `own` counts where both name a scheduler;
    /// if it is there and empty, nothing is set off.
    #[must_use]
    pub fn with(&self, kind: EventKind, own: Option<Vec<Trigger>>) -> Option<Vec<Trigger>> {
        match (&self.0[kind as usize], own) {
            (Some(group), Some(own)) if !own.is_empty() => {
                let is_own =
                    |trigger: &&Trigger| own.iter().any(|one| one.scheduler() == trigger.scheduler());
                let others: Vec<Trigger> = group.iter().filter(|one| !is_own(one)).copied().collect();
                Some([others, own].concat())
            }
            (group, None) => group.clone(),
            (_, own) => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Trigger::{Cancel, Schedule};

    #[test]
    fn groups_add_up() {
        let mut triggers = Triggers::default();
        triggers.add(&COMPLETE, 0, false);
        triggers.add(&GONE, 0, false);
        triggers.add(&COMPLETE, 1, true);
        let check = |kind, own: Option<Vec<Trigger>>, expected: Option<Vec<Trigger>>| {
            assert_eq!(triggers.with(kind, own), expected, "{kind:?}");
        };
        check(EventKind::CloseWrite, None, Some(vec![Schedule(0), Schedule(1)]));
        // To schedule counts before to cancel, whatever the order.
        check(EventKind::Delete, None, Some(vec![Schedule(0)]));
        check(EventKind::MovedTo, None, Some(vec![Schedule(0), Schedule(1)]));
        check(EventKind::Modify, None, Some(vec![Cancel(0)]));
        check(EventKind::Create, None, Some(vec![Cancel(0)]));
        check(EventKind::Open, None, None);
        check(EventKind::Open, Some(vec![Schedule(1)]), Some(vec![Schedule(1)]));
        check(EventKind::Modify, Some(vec![Schedule(1)]), Some(vec![Cancel(0), Schedule(1)]));
        check(EventKind::Modify, Some(vec![Schedule(0)]), Some(vec![Schedule(0)]));
        check(EventKind::Modify, Some(vec![]), Some(vec![]));
    }

    #[test]
    fn names_are_found() {
        assert!(GROUPS.iter().all(|group| Group::find(group.name.as_bytes()).is_some()));
        assert!(Group::find(b"IN_OPEN").is_none());
    }
}
