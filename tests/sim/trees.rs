//! Watched trees under change: at rest exactly the directories that are there are watched, and
//! every file's events were told once.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rinotifyd::config::filter::Filters;
use rinotifyd::config::{EventMap, Trigger};
use rinotifyd::event::EventKind;

use crate::kernel::{Ino, Kernel, TOP};
use crate::rng::{Rng, for_seeds};
use crate::setup::{config, scheduler, watch};
use crate::shell::{Delivery, Faults, Shell, is};
use crate::world::{OUTSIDE, Story, WATCHED, World};

const SEEDS: u64 = 1_500;

/// What one run is like.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// The world waits until the first visit is done.
    orderly: bool,
    early: bool,
    queue_max: usize,
    kept_max: usize,
    faults: Faults,
    /// At most so many things happen; the seed says how many.
    scripts: usize,
    /// What is outside is another watch's.
    neighbour: bool,
    /// What [`is_excluded`] says is.
    excludes: bool,
    /// The limit of the watch; 0 is none.
    max_dirs: u32,
}

const PLAIN: Plan = Plan {
    orderly: true,
    early: false,
    queue_max: usize::MAX,
    kept_max: usize::MAX,
    faults: Faults { watch: 0, start: 0, look: 0, leases: false },
    scripts: 14,
    neighbour: false,
    excludes: false,
    max_dirs: 0,
};

fn prepare(seed: u64, plan: Plan) -> Shell {
    let mut rng = Rng::new(seed);
    let mut world = World::new(&mut rng);
    world.early = plan.early;
    world.neighbour = plan.neighbour;
    world.budget = rng.below(8);
    world.finish(&mut rng);
    world.age();
    world.kernel.queue_max = plan.queue_max;
    world.kept_max = plan.kept_max;
    let mut kinds = vec![EventKind::Create, EventKind::CloseWrite, EventKind::MovedTo];
    let more = [
        EventKind::MovedFrom,
        EventKind::Delete,
        EventKind::DeleteSelf,
        EventKind::MoveSelf,
        EventKind::Ignored,
        EventKind::Modify,
    ];
    kinds.extend(more.into_iter().filter(|_| rng.one_in(2)));
    // Some runs without tasks, which keep their directories in memory.
    let schedules = rng.one_in(2);
    let trigger = if schedules { Trigger::Schedule(0) } else { Trigger::Cancel(0) };
    let triggers: Vec<_> = kinds.into_iter().map(|kind| (kind, trigger)).collect();
    let mut config = config(WATCHED, vec![scheduler("run")], &triggers);
    if plan.neighbour {
        config.watches.push(watch("other", OUTSIDE));
        if rng.one_in(2) {
            // The kernel is not asked for what the first watch wants to know.
            config.event_maps.push(EventMap { name: "little".to_owned(), ..EventMap::default() });
            config.watches[1].event_map = 1;
        }
    }
    config.watches[0].max_dirs = plan.max_dirs;
    if plan.excludes {
        let filter = r"\A(?:^/top/watched/(?-u:.*/)?a/b$)".to_owned();
        config.watches[0].exclude = Filters::new(&[filter]).expect("a valid expression");
    }
    let mut shell = Shell::new(config, world, rng);
    shell.faults = plan.faults;
    shell
}

/// Runs a seed until all is at rest.
fn run(seed: u64, plan: Plan) -> Shell {
    let mut shell = prepare(seed, plan);
    go(&mut shell, plan, seed);
    shell
}

fn go(shell: &mut Shell, plan: Plan, seed: u64) {
    shell.start();
    if plan.orderly {
        shell.settle();
        assert!(shell.ready);
    }
    shell.world.budget = 1 + seed as usize % plan.scripts;
    shell.settle();
}

/// The directories below the watched one, with those on the way to it.
fn expected(kernel: &Kernel, watched: usize) -> HashSet<Vec<u8>> {
    let mut paths: HashSet<Vec<u8>> = kernel
        .subtree(watched)
        .into_iter()
        .filter(|ino| kernel.is_dir(*ino))
        .map(|ino| kernel.path(ino))
        .collect();
    let mut above = watched;
    while above != TOP {
        above = kernel.inodes[above].parent;
        paths.insert(kernel.path(above));
    }
    paths
}

/// Directories called b in those called a, and all below them.
fn is_excluded(path: &[u8]) -> bool {
    let is_it = |path: &[u8]| path.ends_with(b"/a/b") || path.windows(5).any(|part| part == b"/a/b/");
    path.strip_prefix(WATCHED).is_some_and(is_it)
}

/// What the engine watches is what the kernel watches, each under its path.
fn check_watches(shell: &Shell) -> HashSet<Vec<u8>> {
    let kernel = &shell.world.kernel;
    let mut known = BTreeMap::new();
    for (path, wd) in shell.engine.watched() {
        assert_eq!(known.insert(wd, path), None, "{wd:?} stands for two paths");
    }
    let real: BTreeMap<_, _> = kernel.watches().map(|(wd, ino)| (wd, kernel.path(ino))).collect();
    let text = |map: &BTreeMap<_, Vec<u8>>| {
        map.iter().map(|(wd, path)| format!("{wd:?} {}", path.escape_ascii())).collect::<Vec<_>>()
    };
    assert_eq!(text(&known), text(&real), "the engine's watches, and the kernel's");
    known.into_values().collect()
}

pub fn check_tree(shell: &Shell) {
    check_trees(shell, &[shell.world.watched]);
}

fn check_trees(shell: &Shell, roots: &[Ino]) {
    let expected = roots.iter().flat_map(|root| expected(&shell.world.kernel, *root)).collect();
    check_watched(shell, &expected);
}

fn check_watched(shell: &Shell, expected: &HashSet<Vec<u8>>) {
    let watched = check_watches(shell);
    let text = |paths: &HashSet<Vec<u8>>| {
        let mut lines: Vec<_> = paths.iter().map(|path| path.escape_ascii().to_string()).collect();
        lines.sort();
        lines
    };
    assert_eq!(text(&watched), text(expected), "what is watched, and what should be");
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn number_in(path: &[u8]) -> Option<usize> {
    let digits = name_of(path).strip_prefix(b"f")?.split(|&byte| byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Every path that was told was one some time. After an overflow an event is told where its directory is
/// by then, which may have moved since its file was deleted or moved away: only what is in it can be right.
fn check_paths(shell: &Shell, overflowed: bool) {
    let wanted = |delivery: &&Delivery| !overflowed || is(delivery, EventKind::CloseWrite);
    for delivery in shell.deliveries.iter().filter(wanted) {
        let known = shell.world.unseen || shell.world.kernel.paths.contains(&delivery.path);
        assert!(known, "{} never existed", delivery.path.escape_ascii());
    }
}

pub fn check_events(shell: &Shell) {
    check_paths(shell, false);
    for (&number, story) in &shell.world.stories {
        check_story(shell, number, story);
    }
}

/// After an overflow an event may be told twice, and a file may seem created that was moved; but
/// a task for files that are written and closed gets them all.
fn check_nothing_is_lost(shell: &Shell) {
    check_paths(shell, true);
    check_all_is_told(shell, |_| true);
}

/// A task for files that are written and closed, or moved, gets all those that are wanted.
fn check_all_is_told(shell: &Shell, wanted: impl Fn(&[u8]) -> bool) {
    let kernel = &shell.world.kernel;
    for (&number, story) in shell.world.stories.iter().filter(|(_, story)| !story.old) {
        let inode = &kernel.inodes[story.ino];
        let path = kernel.path(story.ino);
        let is_told = |delivery: &&Delivery| {
            let kind = is(delivery, EventKind::CloseWrite) || is(delivery, EventKind::MovedTo);
            kind && number_in(&delivery.path) == Some(number)
        };
        if inode.linked && kernel.is_below(story.ino, shell.world.watched) && wanted(&path) {
            let told = shell.deliveries.iter().any(|delivery| is_told(&delivery));
            assert!(told, "{} was lost: {story:?}", path.escape_ascii());
        }
    }
}

fn check_story(shell: &Shell, number: usize, story: &Story) {
    let kernel = &shell.world.kernel;
    let is_told = |delivery: &&Delivery| {
        delivery.path.starts_with(WATCHED) && number_in(&delivery.path) == Some(number)
    };
    let told: Vec<_> = shell.deliveries.iter().filter(is_told).collect();
    let count = |kind| told.iter().filter(|delivery| is(delivery, kind)).count();
    let closes = count(EventKind::CloseWrite);
    let context = || {
        let told: Vec<_> = told
            .iter()
            .map(|delivery| format!("{} {}", delivery.event, delivery.path.escape_ascii()))
            .collect();
        format!("f{number}, at {}: {story:?}\ntold: {told:#?}", kernel.path(story.ino).escape_ascii())
    };
    // A file that was renamed into an unvisited directory is found there as a new one.
    let mut closes_by_name: BTreeMap<&[u8], usize> = BTreeMap::new();
    for delivery in told.iter().filter(|delivery| is(delivery, EventKind::CloseWrite)) {
        *closes_by_name.entry(name_of(&delivery.path)).or_default() += 1;
    }
    let often = closes_by_name.values().any(|closes| *closes > story.closes * story.entries.max(1));
    assert!(!often, "IN_CLOSE_WRITE too often: {}", context());
    let inode = &kernel.inodes[story.ino];
    let inside = inode.linked && kernel.is_below(story.ino, shell.world.watched);
    // Each name that the file had was told when it appeared, once unless it came from outside again.
    let mut appeared: BTreeMap<&[u8], usize> = BTreeMap::new();
    for delivery in &told {
        if is(delivery, EventKind::Create) || is(delivery, EventKind::MovedTo) {
            *appeared.entry(name_of(&delivery.path)).or_default() += 1;
        }
    }
    for count in appeared.values() {
        assert!(*count <= story.entries.max(1), "its appearance was told too often: {}", context());
    }
    if !inside || story.old {
        return;
    }
    let named = appeared.contains_key(inode.name.as_slice());
    assert!(named, "its appearance was not told: {}", context());
    // A directory that moved in looks like one that was made and moved before its visit.
    if story.always_inside {
        let moved = story.moved && count(EventKind::MovedTo) > 0;
        assert!(closes > 0 || moved, "no IN_CLOSE_WRITE: {}", context());
    }
}

#[test]
fn every_directory_is_watched_and_every_event_told_once() {
    for_seeds(SEEDS, |seed| {
        let shell = run(seed, PLAIN);
        check_tree(&shell);
        check_events(&shell);
    });
}

/// What a watch is told does not depend on who else watches.
#[test]
fn a_watch_sees_its_own_events_beside_another() {
    for_seeds(SEEDS, |seed| {
        let shell = run(seed, Plan { neighbour: true, ..PLAIN });
        check_trees(&shell, &[shell.world.watched, shell.world.outside]);
        check_events(&shell);
    });
}

/// A rename may make an excluded directory one that is not, and the other way round, at any depth.
#[test]
fn what_is_excluded_depends_on_its_path_of_now() {
    for_seeds(SEEDS, |seed| {
        let shell = run(seed, Plan { excludes: true, ..PLAIN });
        let mut expected = expected(&shell.world.kernel, shell.world.watched);
        expected.retain(|path| !is_excluded(path));
        check_watched(&shell, &expected);
        check_all_is_told(&shell, |path| !is_excluded(path));
    });
}

/// As many as there is room for, also when others are gone; and the watches of others have what they need.
#[test]
fn a_watch_has_as_many_directories_as_it_may() {
    for_seeds(SEEDS, |seed| {
        let max_dirs = 1 + seed as u32 % 7;
        let (orderly, neighbour) = (seed % 3 > 0, seed % 2 > 0);
        let shell = run(seed, Plan { max_dirs, orderly, neighbour, scripts: 20, ..PLAIN });
        let (kernel, watched) = (&shell.world.kernel, check_watches(&shell));
        let [own, others] = [shell.world.watched, shell.world.outside].map(|root| {
            let path = kernel.path(root);
            let dirs = expected(kernel, root).into_iter().filter(|dir| dir.starts_with(&path));
            dirs.collect::<HashSet<_>>()
        });
        let (found, allowed) = (own.intersection(&watched).count(), own.len().min(max_dirs as usize));
        if neighbour {
            // What is watched already keeps its watch when it moves over.
            assert!(others.is_subset(&watched) && found >= allowed, "{watched:?} of {own:?}");
        } else {
            assert_eq!(found, allowed, "{watched:?} of {own:?}");
        }
    });
}

#[test]
fn the_first_visit_may_be_disturbed() {
    for_seeds(SEEDS, |seed| check_tree(&run(seed, Plan { orderly: false, ..PLAIN })));
}

#[test]
fn a_change_may_be_seen_before_its_event() {
    for_seeds(SEEDS, |seed| check_tree(&run(seed, Plan { early: true, ..PLAIN })));
}

#[test]
fn an_overflow_loses_no_directory_and_no_file() {
    for_seeds(SEEDS, |seed| {
        let (queue_max, kept_max) = (4 + seed as usize % 13, seed as usize % 5);
        let shell = run(seed, Plan { queue_max, kept_max, scripts: 20, ..PLAIN });
        check_tree(&shell);
        check_nothing_is_lost(&shell);
    });
}

#[test]
fn events_that_cannot_be_kept_are_looked_for() {
    for_seeds(SEEDS, |seed| {
        let shell = run(seed, Plan { kept_max: seed as usize % 3, scripts: 20, ..PLAIN });
        check_tree(&shell);
        check_nothing_is_lost(&shell);
    });
}

#[test]
fn what_cannot_be_watched_leaves_the_rest_alone() {
    for_seeds(SEEDS, |seed| {
        let faults = Faults { watch: 8, start: 3, look: 0, leases: false };
        let shell = run(seed, Plan { faults, ..PLAIN });
        let watched = check_watches(&shell);
        let expected = expected(&shell.world.kernel, shell.world.watched);
        assert!(watched.is_subset(&expected), "{watched:?}\n{expected:?}");
    });
}

/// Where the filesystem does not say who writes, size and times decide: a file may be told before its writer is
/// done, and again when he is. But it is told.
#[test]
fn without_leases_every_file_is_told() {
    for_seeds(SEEDS, |seed| {
        let shell = run(seed, Plan { faults: Faults { leases: true, ..PLAIN.faults }, ..PLAIN });
        check_tree(&shell);
        check_nothing_is_lost(&shell);
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for_seeds(SEEDS / 10, |seed| {
        let [first, second] = [(); 2].map(|()| {
            let mut shell = prepare(seed, PLAIN);
            shell.trace = Some(Vec::new());
            go(&mut shell, PLAIN, seed);
            shell.trace.take()
        });
        assert_eq!(first, second);
    });
}

/// The checks are worth something: an event that never reaches the engine is noticed.
#[test]
fn a_stolen_event_is_noticed() {
    let (mut stolen, mut noticed) = (0, 0);
    for seed in 0..400 {
        let mut shell = prepare(seed, PLAIN);
        shell.start();
        shell.settle();
        shell.steals = true;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            shell.world.budget = 6;
            shell.settle();
            check_tree(&shell);
            check_events(&shell);
        }));
        stolen += usize::from(!shell.steals);
        noticed += usize::from(!shell.steals && outcome.is_err());
    }
    // Not one about a file that was deleted or went on elsewhere.
    assert!(stolen > 100 && noticed * 2 > stolen, "of {stolen} thefts {noticed} were noticed");
}
