//! What random runs have found, each as the few steps that it takes.

use rinotifyd::config::Trigger;
use rinotifyd::engine::message::Input;
use rinotifyd::event::EventKind;

use crate::kernel::{Ino, Micro};
use crate::rng::Rng;
use crate::setup::{config, scheduler};
use crate::shell::{Delivery, Shell};
use crate::trees::check_tree;
use crate::world::{WATCHED, World};

/// A watched directory in which nothing happens by itself.
struct Scene(Shell);

impl Scene {
    fn new(queue_max: usize) -> Self {
        let mut rng = Rng::new(1);
        let mut world = World::new(&mut rng);
        world.kernel.queue_max = queue_max;
        let kinds = [EventKind::Create, EventKind::CloseWrite, EventKind::MovedTo];
        let triggers = kinds.map(|kind| (kind, Trigger::Cancel(0)));
        let mut shell = Shell::new(config(WATCHED, vec![scheduler("run")], &triggers), world, rng);
        shell.start();
        shell.settle();
        Self(shell)
    }

    fn perform(&mut self, micros: Vec<Micro>) {
        micros.into_iter().for_each(|micro| self.0.world.kernel.perform(micro));
    }

    fn mkdir(&mut self, dir: Ino, name: &str) -> Ino {
        let (ino, micros) = self.0.world.kernel.create(dir, name.as_bytes(), true).expect("a new name");
        self.perform(micros);
        ino
    }

    fn write(&mut self, dir: Ino, name: &str) {
        let (ino, micros) = self.0.world.kernel.create(dir, name.as_bytes(), false).expect("a new name");
        self.perform(micros);
        self.0.world.kernel.touch(ino, EventKind::CloseWrite);
        self.0.world.kernel.release(ino);
    }

    fn rename(&mut self, ino: Ino, dir: Ino, name: &str, exchange: bool) {
        let micros = self.0.world.kernel.rename(ino, dir, name.as_bytes(), exchange);
        self.perform(micros.expect("a rename that is allowed"));
    }

    fn remove(&mut self, ino: Ino) {
        let micros = self.0.world.kernel.remove(ino).expect("it is empty");
        self.perform(micros);
    }

    fn read(&mut self) {
        while self.0.world.kernel.queued() > 0 {
            self.0.read_events();
        }
    }

    /// Reads what is queued, visits what is new, and returns what was delivered for `name` so far.
    fn read_and_look(&mut self, name: &str) -> Vec<String> {
        self.read();
        while self.0.engine.has_work() {
            self.0.input(Input::Spare);
            self.read();
        }
        self.delivered(name)
    }

    /// Lets everything come to rest, and tells what was delivered for `name`.
    fn told(&mut self, name: &str) -> Vec<String> {
        self.0.settle();
        check_tree(&self.0);
        self.delivered(name)
    }

    fn delivered(&self, name: &str) -> Vec<String> {
        let is_it = |delivery: &&Delivery| delivery.path.ends_with(name.as_bytes());
        let line = |delivery: &Delivery| format!("{} {}", delivery.event, delivery.path.escape_ascii());
        self.0.deliveries.iter().filter(is_it).map(line).collect()
    }
}

const OVERFLOWS_NEVER: usize = usize::MAX;

#[test]
fn directories_are_exchanged() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let (a, b) = (scene.mkdir(top, "a"), scene.mkdir(top, "b"));
    scene.0.settle();
    scene.rename(a, top, "b", true);
    scene.0.settle();
    scene.write(a, "in_a");
    scene.write(b, "in_b");
    let path = |event: &str, tail: &str| format!("{event} /top/watched/{tail}");
    assert_eq!(scene.told("in_a"), [path("IN_CREATE", "b/in_a"), path("IN_CLOSE_WRITE", "b/in_a")]);
    assert_eq!(scene.told("in_b"), [path("IN_CREATE", "a/in_b"), path("IN_CLOSE_WRITE", "a/in_b")]);
}

#[test]
fn a_directory_is_exchanged_for_one_from_outside() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let outside = scene.0.world.kernel.resolve(b"/top/outside").expect("it is there");
    let inner = scene.mkdir(top, "a");
    let outer = scene.mkdir(outside, "x");
    scene.0.settle();
    scene.rename(inner, outside, "x", true);
    scene.0.settle();
    scene.write(outer, "file");
    scene.write(inner, "nothing");
    assert_eq!(scene.told("file").len(), 2);
    assert!(scene.told("nothing").is_empty());
}

#[test]
fn a_directory_is_renamed_before_its_visit() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let dir = scene.mkdir(top, "a");
    scene.write(dir, "file");
    scene.read();
    scene.rename(dir, top, "b", false);
    scene.0.input(Input::Spare);
    let path = "/top/watched/b/file";
    assert_eq!(scene.told("file"), [format!("IN_CREATE {path}"), format!("IN_CLOSE_WRITE {path}")]);
}

#[test]
fn a_directory_is_renamed_into_a_new_unwatched_one() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let known = scene.mkdir(top, "known");
    scene.write(known, "file");
    scene.0.settle();
    let new = scene.mkdir(top, "new");
    scene.rename(known, new, "moved", false);
    scene.0.settle();
    scene.write(known, "later");
    let path = "/top/watched/known/file";
    assert_eq!(scene.told("file"), [format!("IN_CREATE {path}"), format!("IN_CLOSE_WRITE {path}")]);
    assert_eq!(scene.told("later").len(), 2);
}

#[test]
fn a_name_changes_its_directory_within_one_visit() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    // Both are asked for in one scan, at a time when the second already has the name of the first.
    let (first, second) = (scene.mkdir(top, "a"), scene.mkdir(top, "b"));
    scene.write(first, "one");
    scene.write(second, "two");
    scene.read();
    scene.rename(first, top, "c", false);
    scene.rename(second, top, "a", false);
    assert_eq!(scene.told("one").len(), 2);
    assert_eq!(scene.told("two").len(), 2);
}

#[test]
fn the_end_of_a_watch_is_among_what_was_dropped() {
    let mut scene = Scene::new(4);
    let top = scene.0.world.watched;
    let dir = scene.mkdir(top, "a");
    let below = scene.mkdir(dir, "b");
    scene.0.settle();
    (0..8).for_each(|number| scene.write(top, &format!("file{number}")));
    scene.remove(below);
    scene.remove(dir);
    assert!(scene.told("file7").len() >= 2);
}

#[test]
fn a_file_is_released_after_an_unwatched_close() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let dir = scene.mkdir(top, "a");
    let (file, micros) = scene.0.world.kernel.create(dir, b"file", false).expect("a new name");
    scene.perform(micros);
    scene.0.world.kernel.touch(file, EventKind::CloseWrite);
    assert_eq!(scene.read_and_look("file"), ["IN_CREATE /top/watched/a/file"]);
    scene.0.world.kernel.release(file);
    let path = "/top/watched/a/file";
    assert_eq!(scene.told("file"), [format!("IN_CREATE {path}"), format!("IN_CLOSE_WRITE {path}")]);
}

#[test]
fn a_file_that_stays_open_is_forgotten_until_its_close_is_told() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let dir = scene.mkdir(top, "a");
    let (file, micros) = scene.0.world.kernel.create(dir, b"file", false).expect("a new name");
    scene.perform(micros);
    let path = "/top/watched/a/file";
    // At rest means that no timer runs.
    assert_eq!(scene.told("file"), [format!("IN_CREATE {path}")]);
    scene.0.world.kernel.touch(file, EventKind::CloseWrite);
    scene.0.world.kernel.release(file);
    assert_eq!(scene.told("file"), [format!("IN_CREATE {path}"), format!("IN_CLOSE_WRITE {path}")]);
}

#[test]
fn a_file_that_may_have_been_closed_is_renamed() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let dir = scene.mkdir(top, "a");
    let (file, micros) = scene.0.world.kernel.create(dir, b"file", false).expect("a new name");
    scene.perform(micros);
    scene.0.world.kernel.touch(file, EventKind::CloseWrite);
    assert_eq!(scene.read_and_look("file"), ["IN_CREATE /top/watched/a/file"]);
    scene.rename(file, top, "renamed", false);
    scene.0.world.kernel.release(file);
    let path = "/top/watched/renamed";
    assert_eq!(scene.told("renamed"), [format!("IN_MOVED_TO {path}"), format!("IN_CLOSE_WRITE {path}")]);
}

#[test]
fn an_unwatched_directory_moves_on_and_another_takes_its_name() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let outside = scene.0.world.kernel.resolve(b"/top/outside").expect("it is there");
    let old = scene.mkdir(outside, "x");
    scene.rename(old, top, "a", false);
    scene.read();
    scene.rename(old, top, "b", false);
    let new = scene.mkdir(top, "a");
    scene.write(new, "file");
    scene.0.input(Input::Spare);
    let path = "/top/watched/a/file";
    assert_eq!(scene.told("file"), [format!("IN_CREATE {path}"), format!("IN_CLOSE_WRITE {path}")]);
}

#[test]
fn two_directories_are_renamed_to_one_name_and_told_as_one() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let outside = scene.0.world.kernel.resolve(b"/top/outside").expect("it is there");
    let (first, second) = (scene.mkdir(top, "a"), scene.mkdir(outside, "b"));
    scene.write(second, "file");
    scene.0.settle();
    scene.rename(first, top, "c", false);
    scene.rename(second, top, "c", false);
    let path = "/top/watched/c/file";
    assert_eq!(scene.told("file"), [format!("IN_CREATE {path}"), format!("IN_CLOSE_WRITE {path}")]);
}

#[test]
fn a_directory_is_exchanged_for_an_unwatched_one_right_after_its_rename() {
    let mut scene = Scene::new(OVERFLOWS_NEVER);
    let top = scene.0.world.watched;
    let renamed = scene.mkdir(top, "a");
    scene.0.settle();
    let new = scene.mkdir(top, "new");
    let unwatched = scene.mkdir(new, "b");
    // Two arrivals as one, and no event tells of the way back.
    scene.rename(renamed, top, "c", false);
    scene.rename(unwatched, top, "c", true);
    scene.write(unwatched, "file");
    let path = "/top/watched/c/file";
    assert_eq!(scene.told("file"), [format!("IN_CREATE {path}"), format!("IN_CLOSE_WRITE {path}")]);
}

/// A directory that another watch has yet to visit comes to a watch like any other.
#[test]
fn a_directory_that_another_watch_has_yet_to_visit_is_moved_in() {
    let mut rng = Rng::new(1);
    let mut world = World::new(&mut rng);
    let (top, outside) = (world.watched, world.outside);
    let mut make = |dir, name: &[u8], is_dir| {
        let (ino, micros) = world.kernel.create(dir, name, is_dir).expect("a new name");
        micros.into_iter().for_each(|micro| world.kernel.perform(micro));
        if !is_dir {
            world.kernel.release(ino);
        }
        ino
    };
    let dir = make(outside, b"x", true);
    make(dir, b"file", false);
    let kinds = [EventKind::Create, EventKind::CloseWrite, EventKind::MovedTo];
    let triggers = kinds.map(|kind| (kind, Trigger::Cancel(0)));
    let watched = config(WATCHED, vec![scheduler("run")], &triggers);
    let mut both = config(WATCHED, vec![scheduler("run")], &triggers);
    both.watches.push(crate::setup::watch("other", crate::world::OUTSIDE));
    let mut scene = Scene(Shell::new(watched, world, rng));
    scene.0.start();
    scene.0.settle();
    scene.0.input(Input::Reload(Box::new(both)));
    // Until the new watch knows of it and has not visited it.
    for turn in 0.. {
        assert!(turn < 100, "it was never known but unwatched");
        let known = scene.0.world.kernel.wd(outside).is_some();
        if known && scene.0.world.kernel.wd(dir).is_none() {
            break;
        }
        scene.0.input(Input::Spare);
    }
    scene.rename(dir, top, "y", false);
    scene.read();
    scene.0.settle();
    assert_eq!(scene.delivered("/file"), ["IN_MOVED_TO /top/watched/y/file"]);
}
