//! How the watch paths are, for the status and for the list of watches.

use super::state::covers::Role;
use super::state::tree::ROOT;
use super::state::{Trouble, Watcher};
use crate::config::Config;
use crate::engine::ids::WatchIndex;
use crate::rows::{Rows, Value};

/// Why directories have no watch when the kernel's limit is reached.
const NO_ROOM: &str = "no room for more watches; raise fs.inotify.max_user_watches";

/// The same when the watch has as many directories as it may have.
const TOO_MANY: &str = "max_dirs directories are watched; raise max_dirs, or exclude some";

/// How one path of one watch is.
#[derive(Clone, Debug, Default)]
struct PathState {
    /// Directories with a watch, the path itself and those below.
    watched: usize,
    /// Directories that should have one.
    unwatched: usize,
    /// The path itself is watched.
    armed: bool,
}

/// One path of one watch.
type PathIndex = (WatchIndex, u16);

/// How far a watch path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Armed,
    Waiting,
    Failed,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

/// How many watch paths are armed, wait for something to appear, or cannot be watched; and the paths
/// that are not all right, as many as were asked for.
#[derive(Debug, Default)]
pub struct WatchSummary {
    /// The path is watched.
    pub armed: usize,
    /// The path is waited for.
    pub waiting: usize,
    /// The path cannot be watched.
    pub failed: usize,
    /// Rows about paths that are not all right.
    pub troubled: Rows,
}

impl Watcher {
    /// How the watch paths are, with rows about at most `troubled_max` that are not all right.
    #[must_use]
    pub fn summary(&self, config: &Config, troubled_max: usize) -> WatchSummary {
        let mut summary = WatchSummary::default();
        let mut troubled = 0;
        for (at, state) in self.path_states(config) {
            let stage = self.stage(config, at, &state).0;
            match stage {
                Stage::Armed => summary.armed += 1,
                Stage::Waiting => summary.waiting += 1,
                Stage::Failed => summary.failed += 1,
            }
            if (stage != Stage::Armed || state.unwatched > 0) && troubled < troubled_max {
                troubled += 1;
                self.list_path(config, at, &state, &mut summary.troubled);
            }
        }
        summary
    }

    /// Lists so many watch paths, the first of them being number `from`. Returns whether more follow.
    pub fn list_paths(&self, config: &Config, from: u32, count: u32, rows: &mut Rows) -> bool {
        let states = self.path_states(config);
        for (at, state) in states.iter().skip(from as usize).take(count as usize) {
            self.list_path(config, *at, state, rows);
        }
        states.len() > from.saturating_add(count) as usize
    }

    fn list_path(&self, config: &Config, at: PathIndex, state: &PathState, rows: &mut Rows) {
        let watch = at.0.of(config);
        let (stage, why) = self.stage(config, at, state);
        rows.push(
            "watches",
            &[
                ("name", (&watch.name).into()),
                ("path", (&watch.paths[usize::from(at.1)].text).into()),
                ("state", stage.word().into()),
                ("directories", state.watched.into()),
                ("unwatched", state.unwatched.into()),
                ("why", if why.is_empty() { Value::None } else { why.into() }),
            ],
        );
    }

    /// Every path of every watch, in the order of the configuration.
    fn path_states(&self, config: &Config) -> Vec<(PathIndex, PathState)> {
        let mut states = Vec::new();
        let mut first_of = Vec::new();
        for (index, watch) in WatchIndex::all(config) {
            first_of.push(states.len());
            states.extend((0..).zip(&watch.paths).map(|(path, _)| ((index, path), PathState::default())));
        }
        for node in self.tree.subtree(ROOT) {
            let watched = self.tree.wd(node).is_some();
            for member in self.covers.inside(self.cover(node)) {
                let (_, state) = &mut states[first_of[member.watch.index()] + usize::from(member.path)];
                state.armed |= watched && member.role == Role::Root;
                state.watched += usize::from(watched);
                state.unwatched += usize::from(!watched && self.tree.is_linked(node));
            }
        }
        states
    }

    fn stage(&self, config: &Config, (watch, path): PathIndex, state: &PathState) -> (Stage, &str) {
        let text = &watch.of(config).paths[usize::from(path)].text;
        let is_full = state.unwatched > 0 && self.room.full(watch).is_some();
        let has_no_room = state.unwatched > 0 && self.repair.limit.is_some();
        match self.troubles.get(text) {
            Some(Trouble::Failed(why)) => (if state.armed { Stage::Armed } else { Stage::Failed }, why),
            _ if state.armed && has_no_room => (Stage::Armed, NO_ROOM),
            _ if state.armed && is_full => (Stage::Armed, TOO_MANY),
            _ if state.armed => (Stage::Armed, ""),
            Some(Trouble::SingleFile) => (Stage::Armed, "a single file"),
            _ if has_no_room => (Stage::Failed, NO_ROOM),
            Some(Trouble::Missing) => (Stage::Waiting, "it does not exist"),
            None => (Stage::Waiting, "nothing there was found yet"),
        }
    }

    /// How many directories each watch has.
    #[must_use]
    pub fn directories_by_watch(&self, config: &Config) -> Vec<usize> {
        let mut counts = vec![0; config.watches.len()];
        for node in self.tree.subtree(ROOT) {
            if self.tree.wd(node).is_some() {
                for member in self.covers.inside(self.cover(node)) {
                    counts[member.watch.index()] += 1;
                }
            }
        }
        counts
    }
}
