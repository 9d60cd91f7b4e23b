//! Tasks of workers that die at any moment: each runs at least once for its last event, is never lost,
//! and is over once.

use std::cell::Cell;
use std::collections::BTreeMap;

use rinotifyd::config::{Action, Format, Run, Scheduler, Trigger, WhileRunning, Worker};
use rinotifyd::engine::message::Input;
use rinotifyd::event::EventKind;
use rinotifyd::types::Millis;

use crate::kernel::Ino;
use crate::programs::KILLER;
use crate::rng::{Rng, for_seeds};
use crate::setup::{config, scheduler};
use crate::shell::{Happening, Shell, is};
use crate::world::{WATCHED, World};

const SEEDS: u64 = 1_500;

struct Play {
    shell: Shell,
    max_jobs: usize,
    timeout: bool,
    ack: bool,
    /// One instance, and no delay: lines in the order of the events.
    in_order: bool,
    files: Vec<Ino>,
}

fn random_scheduler(rng: &mut Rng) -> Scheduler {
    let worker = Worker {
        words: vec![c"worker".to_owned()],
        run: Run::default(),
        instances: *rng.pick(&[1, 1, 2, 3]),
        format: Format::Tab,
        ack: !rng.one_in(3),
        eager: rng.one_in(2),
    };
    Scheduler {
        action: Action::Worker(worker),
        delay_ms: *rng.pick(&[0, 0, 7, 40]),
        max_jobs: *rng.pick(&[0, 1, 3, 100]),
        timeout_ms: *rng.pick(&[0, 0, 0, 200]),
        while_running: WhileRunning::Rerun,
        ..scheduler("run")
    }
}

fn prepare(seed: u64) -> Play {
    let mut rng = Rng::new(seed);
    let scheduler = random_scheduler(&mut rng);
    let mut world = World::new(&mut rng);
    let file = |number: usize| format!("file{number}").into_bytes();
    let count = 1 + rng.below(12);
    let files = (0..count)
        .map(|number| world.kernel.create(world.watched, &file(number), false).expect("a new name").0)
        .collect();
    let triggers = [(EventKind::CloseWrite, Trigger::Schedule(0))];
    let max_jobs = if scheduler.max_jobs == 0 { 4 } else { scheduler.max_jobs as usize };
    let timeout = scheduler.timeout_ms > 0;
    let one = scheduler.action.worker().is_some_and(|worker| worker.instances == 1);
    let in_order = one && scheduler.delay_ms == 0;
    let ack = scheduler.action.worker().is_some_and(|worker| worker.ack);
    let mut shell = Shell::new(config(WATCHED, vec![scheduler], &triggers), world, rng);
    shell.programs.trouble = shell.rng.below(30);
    shell.start();
    shell.settle();
    Play { shell, max_jobs, timeout, ack, in_order, files }
}

impl Play {
    fn act(&mut self) {
        let shell = &mut self.shell;
        match shell.rng.below(9) {
            0 | 1 => {
                let file = *shell.rng.pick(&self.files);
                shell.world.kernel.touch(file, EventKind::CloseWrite);
            }
            2..5 => shell.read_events(),
            5 => {
                let ms = shell.rng.below(30) as Millis;
                shell.wait_until(shell.now + ms);
            }
            _ => shell.tick(),
        }
    }

    /// Whether a task ran again for an event during its run, for which it keeps its number.
    fn reruns(&self) -> bool {
        let history = &self.shell.history;
        history
            .iter()
            .any(|(_, one)| matches!(one, Happening::Said { message, .. } if message == "re-schedule task"))
    }

    fn run(&mut self) {
        for _ in 0..20 + self.shell.rng.below(200) {
            self.act();
        }
        self.shell.settle();
    }
}

#[derive(Debug, Default)]
struct Story {
    /// A start since the last event that scheduled.
    started: bool,
    /// It was started, and has not ended.
    runs: bool,
    ends: usize,
    finished: usize,
    consumed: usize,
    answered: usize,
}

fn check(play: &Play) {
    let mut paths: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    let mut tasks: BTreeMap<u64, Story> = BTreeMap::new();
    for (_, happening) in &play.shell.history {
        match happening {
            Happening::Told(delivery) if is(delivery, EventKind::CloseWrite) => {
                paths.insert(delivery.path.clone(), false);
            }
            Happening::Said { message, path, id } => {
                let story = tasks.entry(*id).or_default();
                match message.as_str() {
                    "start task" => {
                        assert!(!std::mem::replace(&mut story.runs, true), "task {id} runs twice at once");
                        story.started = true;
                        paths.insert(path.clone(), true);
                    }
                    "task finished" | "task failed" => {
                        assert!(std::mem::replace(&mut story.runs, false), "task {id} ends and did not run");
                        story.ends += 1;
                        story.finished += usize::from(message == "task finished");
                        assert!(
                            !play.ack || story.finished <= story.answered,
                            "task {id} has finished without an answer"
                        );
                    }
                    "task runs again: its worker has ended" => {
                        assert!(std::mem::replace(&mut story.runs, false), "task {id} did not run");
                    }
                    _ => {}
                }
                let running = tasks.values().filter(|story| story.runs).count();
                assert!(running <= play.max_jobs, "{running} tasks are in flight");
            }
            Happening::Consumed(id) => tasks.entry(*id).or_default().consumed += 1,
            Happening::Answered(id) => tasks.entry(*id).or_default().answered += 1,
            _ => {}
        }
    }
    for (path, started) in paths {
        assert!(started, "{} did not run after its last event", path.escape_ascii());
    }
    for (id, story) in tasks {
        assert!(story.started && !story.runs, "task {id} is lost: {story:?}");
        if play.ack && !play.timeout {
            assert!(story.answered <= story.ends, "task {id} is over more seldom than it was answered");
        }
        if !play.ack && !play.timeout {
            assert!(story.consumed <= story.ends, "task {id} was written twice: {story:?}");
        }
    }
}

#[test]
fn no_task_is_lost_with_its_worker() {
    for_seeds(SEEDS, |seed| {
        let mut play = prepare(seed);
        play.run();
        check(&play);
    });
}

/// Without failed starts and timeouts, what a program without answers gets is exactly what ran.
#[test]
fn every_line_is_read_once_however_often_the_reader_dies() {
    let lines = Cell::new(0);
    for_seeds(SEEDS, |seed| {
        let mut play = prepare(seed);
        if play.ack || play.timeout {
            return;
        }
        play.run();
        let count = |wanted: fn(&Happening) -> bool| {
            play.shell.history.iter().filter(|(_, happening)| wanted(happening)).count()
        };
        let read = count(|happening| matches!(happening, Happening::Consumed(_)));
        let ended = count(
            |happening| matches!(happening, Happening::Said { message, .. } if message == "task finished"),
        );
        assert_eq!(read, ended);
        if play.in_order {
            let ids = |of: fn(&Happening) -> Option<u64>| -> Vec<u64> {
                play.shell.history.iter().filter_map(|(_, happening)| of(happening)).collect()
            };
            let consumed = ids(|one| if let Happening::Consumed(id) = one { Some(*id) } else { None });
            let told = ids(|one| match one {
                Happening::Said { message, id, .. } if message == "task finished" => Some(*id),
                _ => None,
            });
            assert_eq!(consumed, told, "out of order");
            let mut sorted = consumed.clone();
            sorted.sort_unstable();
            assert!(play.reruns() || consumed == sorted, "not in the order of the events: {consumed:?}");
        }
        lines.set(lines.get() + read);
    });
    assert!(lines.get() > 0 || std::env::var_os("SEED").is_some(), "nothing was read at all");
}

/// The checks are worth something: a lost start or a second end is noticed.
#[test]
fn a_forged_history_of_workers_is_noticed() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let notices = |play: &Play| catch_unwind(AssertUnwindSafe(|| check(play))).is_err();
    let (mut forged, mut noticed) = (0, 0);
    for seed in 0..100 {
        let mut play = prepare(seed);
        play.run();
        let says = |message: &str, happening: &Happening| matches!(happening, Happening::Said { message: said, .. } if said == message);
        let history = play.shell.history.clone();
        for message in ["start task", "task finished"] {
            let Some(at) = history.iter().rposition(|(_, one)| says(message, one)) else { continue };
            play.shell.history = history.clone();
            play.shell.history.remove(at);
            forged += 1;
            noticed += usize::from(notices(&play));
        }
    }
    assert!(forged > 50 && noticed == forged, "of {forged} forged histories {noticed} were noticed");
}

/// What kills its worker runs alone and has failed after three ends; what does not is answered, however
/// many of the others there are, and does not wait for all of them.
#[test]
fn tasks_that_kill_their_workers_fail_and_hold_up_no_others() {
    for_seeds(SEEDS / 15, |seed| {
        let mut rng = Rng::new(seed);
        let mut scheduler = random_scheduler(&mut rng);
        (scheduler.delay_ms, scheduler.timeout_ms) = (0, 0);
        if let Action::Worker(worker) = &mut scheduler.action {
            worker.ack = true;
        }
        let mut world = World::new(&mut rng);
        let create = |world: &mut World, name: String| {
            world.kernel.create(world.watched, name.as_bytes(), false).expect("a new name").0
        };
        let killers: Vec<_> = (0..20).map(|one| create(&mut world, format!("killer{one}"))).collect();
        let others: Vec<_> = (0..5).map(|one| create(&mut world, format!("file{one}"))).collect();
        let late = create(&mut world, "late".to_owned());
        let triggers = [(EventKind::CloseWrite, Trigger::Schedule(0))];
        let mut shell = Shell::new(config(WATCHED, vec![scheduler], &triggers), world, rng);
        shell.start();
        shell.settle();
        for file in killers.iter().chain(&others) {
            shell.world.kernel.touch(*file, EventKind::CloseWrite);
        }
        let count = |shell: &Shell, wanted: &str, name: &[u8]| {
            let is = |one: &Happening| {
                matches!(one, Happening::Said { message, path, .. }
                if message == wanted && path.windows(name.len()).any(|part| part == name))
            };
            shell.history.iter().filter(|(_, one)| is(one)).count()
        };
        // Until each has killed once, they come before the others in their turn.
        while count(&shell, "task runs again: its worker has ended", KILLER) < killers.len() {
            step(&mut shell);
        }
        shell.world.kernel.touch(late, EventKind::CloseWrite);
        let from = shell.now;
        while count(&shell, "task finished", b"late") + count(&shell, "task failed", b"late") == 0 {
            step(&mut shell);
        }
        let waited = shell.now - from;
        // Twenty runs and pauses may come before it, of sixty; a pause that grew would take minutes.
        assert!(waited <= 4_000, "a task waited for {waited} ms");
        // More come while the suspects run.
        let from = shell.now;
        while shell.now < from + 5_000 {
            let file = *shell.rng.pick(&others);
            shell.world.kernel.touch(file, EventKind::CloseWrite);
            step(&mut shell);
        }
        shell.settle();
        assert_eq!(count(&shell, "task failed", KILLER), killers.len());
        assert!(shell.programs.killed <= 3 * killers.len(), "{} ends", shell.programs.killed);
        let ends = |name: &[u8]| count(&shell, "task finished", name) + count(&shell, "task failed", name);
        for one in 0..others.len() {
            assert!(ends(format!("/file{one}").as_bytes()) > 0, "file{one} never ran to its end");
        }
    });
}

fn step(shell: &mut Shell) {
    let now = shell.now + 10;
    shell.wait_until(now);
    shell.read_events();
    shell.tick();
}

#[test]
fn workers_end_with_the_daemon() {
    for_seeds(SEEDS / 3, |seed| {
        let mut play = prepare(seed);
        for _ in 0..60 {
            play.act();
        }
        let stopped_at = play.shell.now;
        let hurry = play.shell.rng.one_in(2);
        play.shell.input(Input::Stop { reason: "test" });
        if hurry && !play.shell.exited {
            play.shell.input(Input::Stop { reason: "again" });
        }
        while !play.shell.exited {
            let now = play.shell.now + 50;
            play.shell.wait_until(now);
            play.shell.read_events();
            play.shell.tick();
        }
        let limit = stopped_at + if hurry { 0 } else { 30_000 } + 11_000;
        assert!(play.shell.now <= limit, "shutdown took {} ms", play.shell.now - stopped_at);
        assert!(play.shell.programs.running.is_empty(), "nothing is left");
    });
}
