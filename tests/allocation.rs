//! An event that leads nowhere allocates nothing: a storm of events that no event map names must cost no
//! memory and little time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use rinotifyd::config::inline::{Inline, from_command_line};
use rinotifyd::engine::message::{Scan, Seen};
use rinotifyd::engine::{Effect, Engine, Input, KEPT_MAX, Options, SIFT_AT};
use rinotifyd::event::{EventKind, HEADER_SIZE, RawEvent};
use rinotifyd::types::Wd;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code, reason = "a global allocator can be counted no other way")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Gives every directory of a scan the next wd and finds it empty.
fn answer(engine: &mut Engine, scan: &Scan, next_wd: &mut i32, effects: &mut Vec<Effect>) {
    for item in &scan.items {
        let result = Ok(Seen { wd: Wd(*next_wd), entries: Vec::new(), remote: None });
        *next_wd += 1;
        engine.step(0, Input::Scanned { node: item.node, result, before: 0, queued: 0 }, effects);
    }
}

/// An engine that watches `/w`, which has the returned wd, for IN_CLOSE_WRITE.
fn watching() -> (Engine, Wd) {
    let inline = Inline {
        watch: vec![b"/w".to_vec()],
        recursive: true,
        events: vec![b"IN_CLOSE_WRITE".to_vec()],
        command: b"true".to_vec(),
        ..Inline::default()
    };
    let config = from_command_line(&inline).unwrap().config;
    let mut engine = Engine::new(
        config,
        Options { dry_run: false, default_max_jobs: 4, sift_at: SIFT_AT, kept_max: KEPT_MAX, secret: [0; 2] },
        0,
    );
    let mut effects = Vec::new();
    let mut next_wd = 1;
    engine.step(0, Input::Start { wall_ns: 0 }, &mut effects);
    while engine.has_work() || !effects.is_empty() {
        for effect in std::mem::take(&mut effects) {
            if let Effect::Scan(scan) = effect {
                answer(&mut engine, &scan, &mut next_wd, &mut effects);
            }
        }
        engine.step(0, Input::Spare, &mut effects);
    }
    // `/` is visited first, `/w` second.
    (engine, Wd(2))
}

/// The allocations that these events of `/w` cost.
fn cost(engine: &mut Engine, wd: Wd, events: &[(EventKind, u32, &[u8])]) -> usize {
    let mut effects = Vec::with_capacity(64);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for &(kind, cookie, name) in events {
        let event = RawEvent { wd, mask: kind.bit(), cookie, name };
        let size = HEADER_SIZE + 16;
        engine.step(1, Input::Filled { bytes: size, emptied: true, wall_ns: 0 }, &mut effects);
        engine.step(1, Input::Event { event, size }, &mut effects);
        engine.step(1, Input::Drained, &mut effects);
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn an_event_that_leads_nowhere_allocates_nothing() {
    let (mut engine, wd) = watching();
    let storm = [
        (EventKind::Create, 0, b"file".as_slice()),
        (EventKind::Modify, 0, b"file"),
        (EventKind::MovedFrom, 7, b"file"),
        (EventKind::MovedTo, 7, b"other"),
        (EventKind::Delete, 0, b"other"),
    ];
    // The first round makes room that is used again.
    cost(&mut engine, wd, &storm);
    assert_eq!(cost(&mut engine, wd, &storm), 0);
    // The counter counts, and the watch is alive.
    assert_ne!(cost(&mut engine, wd, &[(EventKind::CloseWrite, 0, b"file")]), 0);
}
