//! Timers: a hierarchical wheel of 6 levels with 64 slots each, where one tick is 1 ms.
//!
//! A slot of level 0 holds the timers of one tick, a slot of level 1 those of 64 ticks, and so on;
//! the sixth level ends at a multiple of 2^36 ms (2.2 years), the horizon. What lies beyond waits
//! in one more list, `FAR`, and what is due but not yet popped stands in `DUE`.
//!
//! The invariant: **the list a timer stands in is a function of its deadline and of `elapsed`**
//! (`Wheel::list_of`), so a timer stores neither level nor slot. It holds because `elapsed` only ever
//! moves to just before the next occupied slot, which keeps every timer where it was, or to its
//! start, and then that slot is taken whole and its timers are placed anew: they cascade.
//!
//! Two things follow. Each occupied slot of a level lies ahead of all slots of the levels below it,
//! so the next one is the lowest bit of the first bitmap that is not zero. And timers with equal
//! deadlines always share a list; lists are queues and cascading keeps their order, so they fire in
//! the order in which they were inserted or last rescheduled.
//!
//! Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987), scheme 7. Choosing the
//! level by XOR and leading zeros, and emptying a slot before cascading, are tokio's
//! (`runtime/time/wheel`).

use crate::types::Millis;

/// A slot index takes 6 bits, so that the occupancy of a level is one `u64`.
const SLOT_BITS: u32 = 6;
const SLOT_COUNT: usize = 1 << SLOT_BITS;

/// Six levels reach 2.2 years; a seventh would cost every daemon 512 bytes and serve none.
const LEVEL_COUNT: usize = 6;
const HORIZON_BITS: u32 = SLOT_BITS * LEVEL_COUNT as u32;

/// The list of timers whose deadline `elapsed` has reached.
const DUE: usize = LEVEL_COUNT * SLOT_COUNT;

/// The list of timers beyond the horizon.
const FAR: usize = DUE + 1;

const LIST_COUNT: usize = FAR + 1;

/// A slot with no more timers than this is searched for its earliest, which saves an idle daemon the
/// wakeups for cascades; a fuller one is not, so that asking stays cheap.
const SEARCH_MAX: usize = 8;

/// Ends a list.
const NIL: u32 = u32::MAX;

/// Names one timer of one wheel, and never a later one that takes over its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

/// A timer, or a free place in the slab: then it is in no list but the free one, linked by `next`,
/// and its generation is one that no id has yet.
#[derive(Clone, Copy, Debug)]
struct TimerEntry<T> {
    deadline: Millis,
    prev: u32,
    next: u32,
    generation: u32,
    payload: T,
}

const _: () = assert!(size_of::<TimerEntry<u32>>() == 24);

/// A queue of timers, linked through the slab.
#[derive(Clone, Copy, Debug)]
struct TimerList {
    head: u32,
    tail: u32,
}

impl TimerList {
    const EMPTY: Self = Self { head: NIL, tail: NIL };
}

/// A set of timers that tells which is due next.
///
/// Inserting, cancelling and rescheduling are O(1); a timer is moved at most once per level before
/// it fires. Memory is 3 KiB and 24 bytes per timer (with a payload of 4 bytes); it is reused but
/// not given back.
#[derive(Debug)]
pub struct Wheel<T> {
    /// How far the wheel has been turned. Never goes back.
    elapsed: Millis,
    /// Bit `s` of `occupied[l]` is set if and only if slot `s` of level `l` has a timer.
    occupied: [u64; LEVEL_COUNT],
    /// The slots, level by level, then `DUE` and `FAR`.
    lists: [TimerList; LIST_COUNT],
    timers: Vec<TimerEntry<T>>,
    free: u32,
    len: usize,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that stands at `now`.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self {
            elapsed: now,
            occupied: [0; LEVEL_COUNT],
            lists: [TimerList::EMPTY; LIST_COUNT],
            timers: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// The count of timers that have neither been popped nor cancelled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a timer. A deadline that has passed counts as one that has just been reached: the timer
    /// is popped next, after those already due.
    pub fn insert(&mut self, deadline: Millis, payload: T) -> TimerId {
        let index = self.allocate(deadline, payload);
        self.push_back(index);
        TimerId { index, generation: self.timer(index).generation }
    }

    /// Removes a timer and returns its payload, or nothing if it was popped or cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.resolve(id)?;
        let (_, payload) = self.remove(id.index);
        Some(payload)
    }

    /// Moves a timer to a new deadline, as if cancelled and inserted but under the same id. False if
    /// it was popped or cancelled before.
    #[must_use]
    pub fn reschedule(&mut self, id: TimerId, deadline: Millis) -> bool {
        if self.resolve(id).is_none() {
            return false;
        }
        self.unlink(id.index);
        self.timer_mut(id.index).deadline = deadline;
        self.push_back(id.index);
        true
    }

    /// The deadline as it was asked for, or nothing if the timer was popped or cancelled before.
    #[must_use]
    pub fn deadline(&self, id: TimerId) -> Option<Millis> {
        Some(self.resolve(id)?.deadline)
    }

    /// The instant at which [`pop_expired`](Self::pop_expired) must be called next, or nothing if
    /// the wheel is empty. An instant already reached means at once.
    ///
    /// Never later than the earliest deadline. Earlier only if the next slot is above level 0 and
    /// has more than `SEARCH_MAX` (8) timers: then it is the slot's start, where they cascade. On the
    /// way to a deadline that is at most one wakeup per level, and one per horizon.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.lists[DUE].head != NIL {
            return Some(self.elapsed);
        }
        let (start, list) = self.next_list()?;
        Some(self.earliest_if_few(list).unwrap_or(start))
    }

    /// Removes the next timer whose deadline is at or before `now`, and returns its id, now stale,
    /// and its payload. Nothing if none is left, and then the wheel stands at `now`.
    ///
    /// Timers come in order of their deadlines, equal ones in the order in which they were inserted
    /// or last rescheduled. Between two calls timers may be inserted, cancelled and rescheduled; a
    /// caller who keeps inserting past deadlines will never see the end. A `now` before that of an
    /// earlier call counts as that earlier one.
    pub fn pop_expired(&mut self, now: Millis) -> Option<(TimerId, T)> {
        let now = now.max(self.elapsed);
        while self.lists[DUE].head == NIL {
            match self.next_list() {
                Some((start, list)) if start <= now => self.cascade(start, list, now),
                _ => {
                    self.elapsed = now;
                    return None;
                }
            }
        }
        Some(self.remove(self.lists[DUE].head))
    }

    /// Turns the wheel to `start`, where `list` begins, and places the timers of `list` anew: due
    /// now, or on a lower level.
    fn cascade(&mut self, start: Millis, list: usize, now: Millis) {
        let start = if list == FAR { self.far_start(now) } else { start };
        let mut index = self.take(list);
        self.elapsed = start;
        while index != NIL {
            let next = self.timer(index).next;
            self.push_back(index);
            index = next;
        }
    }

    /// The first non-empty list ahead, and the instant at which it begins. `DUE` is not ahead.
    fn next_list(&self) -> Option<(Millis, usize)> {
        if let Some(level) = self.occupied.iter().position(|&slots| slots != 0) {
            let slot = self.occupied[level].trailing_zeros();
            let shift = SLOT_BITS * level as u32;
            let turn = self.elapsed >> shift >> SLOT_BITS;
            let start = (turn << SLOT_BITS | u64::from(slot)) << shift;
            return Some((start, level * SLOT_COUNT + slot as usize));
        }
        // A far timer is proof of a later horizon, so the sum cannot overflow.
        (self.lists[FAR].head != NIL).then(|| (((self.elapsed >> HORIZON_BITS) + 1) << HORIZON_BITS, FAR))
    }

    /// Where to stop for the far timers: the last horizon that passes neither `now` nor any of
    /// them. A leap over many horizons thus costs one cascade.
    fn far_start(&self, now: Millis) -> Millis {
        let earliest = self.deadlines(FAR).fold(now, Millis::min);
        earliest >> HORIZON_BITS << HORIZON_BITS
    }

    /// The earliest deadline in `list`, if that is short enough to search.
    fn earliest_if_few(&self, list: usize) -> Option<Millis> {
        match self.deadlines(list).nth(SEARCH_MAX) {
            Some(_) => None,
            None => self.deadlines(list).min(),
        }
    }

    fn deadlines(&self, list: usize) -> impl Iterator<Item = Millis> {
        let mut index = self.lists[list].head;
        std::iter::from_fn(move || {
            let timer = self.timers.get(index as usize)?;
            index = timer.next;
            Some(timer.deadline)
        })
    }

    /// The list in which a timer with this deadline stands.
    fn list_of(&self, deadline: Millis) -> usize {
        if deadline <= self.elapsed {
            return DUE;
        }
        let level = (deadline ^ self.elapsed).ilog2() / SLOT_BITS;
        if level as usize >= LEVEL_COUNT {
            return FAR;
        }
        let slot = (deadline >> (SLOT_BITS * level)) as usize % SLOT_COUNT;
        level as usize * SLOT_COUNT + slot
    }

    /// Appends a timer that is in no list to the one where it belongs.
    fn push_back(&mut self, index: u32) {
        let list = self.list_of(self.timer(index).deadline);
        let prev = self.lists[list].tail;
        let timer = self.timer_mut(index);
        (timer.prev, timer.next) = (prev, NIL);
        self.lists[list].tail = index;
        match prev {
            NIL => self.lists[list].head = index,
            prev => self.timer_mut(prev).next = index,
        }
        self.mark(list);
    }

    /// Takes a timer out of its list.
    fn unlink(&mut self, index: u32) {
        let TimerEntry { deadline, prev, next, .. } = *self.timer(index);
        let list = self.list_of(deadline);
        match prev {
            NIL => self.lists[list].head = next,
            prev => self.timer_mut(prev).next = next,
        }
        match next {
            NIL => self.lists[list].tail = prev,
            next => self.timer_mut(next).prev = prev,
        }
        self.mark(list);
    }

    /// Empties a list and returns its first timer, which still leads to the others.
    fn take(&mut self, list: usize) -> u32 {
        let head = std::mem::replace(&mut self.lists[list], TimerList::EMPTY).head;
        self.mark(list);
        head
    }

    /// Makes the bitmap agree with a list that has changed.
    fn mark(&mut self, list: usize) {
        if let Some(occupied) = self.occupied.get_mut(list / SLOT_COUNT) {
            let bit = 1 << (list % SLOT_COUNT);
            match self.lists[list].head {
                NIL => *occupied &= !bit,
                _ => *occupied |= bit,
            }
        }
    }

    /// Takes a timer out of the wheel, and makes its id stale.
    fn remove(&mut self, index: u32) -> (TimerId, T) {
        self.unlink(index);
        let free = std::mem::replace(&mut self.free, index);
        self.len -= 1;
        let timer = self.timer_mut(index);
        let id = TimerId { index, generation: timer.generation };
        timer.generation = timer.generation.wrapping_add(1);
        timer.next = free;
        (id, timer.payload)
    }

    /// A timer that is in no list yet, in a free place or a new one.
    fn allocate(&mut self, deadline: Millis, payload: T) -> u32 {
        self.len += 1;
        if self.free == NIL {
            self.timers.push(TimerEntry { deadline, prev: NIL, next: NIL, generation: 0, payload });
            return u32::try_from(self.timers.len() - 1).expect("2^32 timers would fill 96 GiB");
        }
        let index = self.free;
        let timer = self.timer_mut(index);
        (timer.deadline, timer.payload) = (deadline, payload);
        self.free = timer.next;
        index
    }

    fn resolve(&self, id: TimerId) -> Option<&TimerEntry<T>> {
        self.timers.get(id.index as usize).filter(|timer| timer.generation == id.generation)
    }

    fn timer(&self, index: u32) -> &TimerEntry<T> {
        &self.timers[index as usize]
    }

    fn timer_mut(&mut self, index: u32) -> &mut TimerEntry<T> {
        &mut self.timers[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HORIZON: Millis = 1 << HORIZON_BITS;

    fn drain(wheel: &mut Wheel<u32>, now: Millis) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop_expired(now)).map(|(_, payload)| payload).collect()
    }

    #[test]
    fn fires_at_its_deadline_and_not_a_tick_before() {
        for deadline in [1, 63, 64, 65, 4095, 4096, HORIZON - 1, HORIZON, HORIZON + 1, 9 * HORIZON, u64::MAX]
        {
            let mut wheel = Wheel::new(0);
            wheel.insert(deadline, 7);
            assert_eq!(wheel.next_deadline(), Some(deadline));
            assert_eq!(drain(&mut wheel, deadline - 1), []);
            assert_eq!(drain(&mut wheel, deadline), [7]);
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn a_slot_too_full_to_search_wakes_at_its_start() {
        for (deadline, expected) in [(63, 63), (64, 64), (127, 64), (5000, 4096), (HORIZON + 9, HORIZON)] {
            let mut wheel = Wheel::new(0);
            for _ in 0..=SEARCH_MAX {
                wheel.insert(deadline, 7);
            }
            assert_eq!(wheel.next_deadline(), Some(expected));
        }
    }

    #[test]
    fn equal_deadlines_fire_in_order_of_insertion_across_levels() {
        let mut wheel = Wheel::new(0);
        wheel.insert(5000, 1);
        assert_eq!(drain(&mut wheel, 4100), []);
        wheel.insert(5000, 2);
        assert_eq!(drain(&mut wheel, 4990), []);
        wheel.insert(5000, 3);
        assert_eq!(drain(&mut wheel, 5000), [1, 2, 3]);
    }

    #[test]
    fn a_past_deadline_fires_at_once() {
        let mut wheel = Wheel::new(100);
        let id = wheel.insert(5, 1);
        assert_eq!(wheel.deadline(id), Some(5));
        assert_eq!(wheel.next_deadline(), Some(100));
        assert_eq!(drain(&mut wheel, 100), [1]);
    }

    #[test]
    fn a_clock_that_steps_back_fires_nothing_early() {
        let mut wheel = Wheel::new(100);
        wheel.insert(101, 1);
        assert_eq!(drain(&mut wheel, 3), []);
        assert_eq!(drain(&mut wheel, 101), [1]);
    }

    #[test]
    fn a_stale_id_does_not_reach_the_next_owner_of_its_place() {
        let mut wheel = Wheel::new(0);
        let stale = wheel.insert(10, 1);
        assert_eq!(wheel.cancel(stale), Some(1));
        let fresh = wheel.insert(20, 2);
        assert_eq!(fresh.index, stale.index);
        assert_eq!(wheel.cancel(stale), None);
        assert!(!wheel.reschedule(stale, 5));
        assert_eq!(wheel.deadline(stale), None);
        assert_eq!(wheel.deadline(fresh), Some(20));
    }

    #[test]
    fn memory_is_reused() {
        let mut wheel = Wheel::new(0);
        for now in 0..1000 {
            wheel.insert(now + 1, 0);
            wheel.insert(now + 1, 1);
            assert_eq!(drain(&mut wheel, now + 1), [0, 1]);
        }
        assert_eq!(wheel.timers.len(), 2);
    }

    #[test]
    fn a_leap_over_many_horizons_is_one_cascade() {
        let mut wheel = Wheel::new(0);
        wheel.insert(u64::MAX, 1);
        wheel.insert(u64::MAX - HORIZON, 2);
        assert_eq!(drain(&mut wheel, u64::MAX), [2, 1]);
    }

    /// An instant or a distance of any magnitude, with the edges of slots and levels.
    fn distance() -> impl Strategy<Value = Millis> {
        let magnitude = (0..52u32, any::<u64>()).prop_map(|(bits, noise)| noise & ((1 << bits) - 1));
        let edge = (0..52u32, 0..3u64).prop_map(|(bits, offset)| (1u64 << bits) + offset - 1);
        prop_oneof![0..200u64, magnitude, edge]
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert {
            distance: Millis,
        },
        InsertPast {
            distance: Millis,
        },
        Cancel {
            pick: prop::sample::Index,
        },
        Reschedule {
            pick: prop::sample::Index,
            distance: Millis,
        },
        /// Pops what is due after `distance`, and inserts a timer for each of `inserts` meanwhile.
        Advance {
            distance: Millis,
            inserts: Vec<Millis>,
        },
        /// Goes where `next_deadline` points.
        AdvanceToNext,
    }

    fn op() -> impl Strategy<Value = Op> {
        let pick = any::<prop::sample::Index>;
        prop_oneof![
            4 => distance().prop_map(|distance| Op::Insert { distance }),
            1 => distance().prop_map(|distance| Op::InsertPast { distance }),
            2 => pick().prop_map(|pick| Op::Cancel { pick }),
            2 => (pick(), distance()).prop_map(|(pick, distance)| Op::Reschedule { pick, distance }),
            1 => (distance(), prop::collection::vec(distance(), 0..3))
                .prop_map(|(distance, inserts)| Op::Advance { distance, inserts }),
            2 => Just(Op::AdvanceToNext),
        ]
    }

    /// The wheel beside a list of `(deadline, order of arrival, id)`, where deadlines that had passed
    /// count as just reached.
    struct Pair {
        wheel: Wheel<u32>,
        model: Vec<(Millis, u32, TimerId)>,
        gone: Vec<TimerId>,
        arrivals: u32,
        now: Millis,
    }

    impl Pair {
        fn new(now: Millis) -> Self {
            Self { wheel: Wheel::new(now), model: Vec::new(), gone: Vec::new(), arrivals: 0, now }
        }

        fn apply(&mut self, op: Op) {
            match op {
                Op::Insert { distance } => self.insert(self.now + distance),
                Op::InsertPast { distance } => self.insert(self.now.saturating_sub(distance)),
                Op::Cancel { pick } => self.cancel(pick),
                Op::Reschedule { pick, distance } => self.reschedule(pick, distance),
                Op::Advance { distance, inserts } => self.advance(self.now + distance, inserts),
                Op::AdvanceToNext => {
                    let next = self.wheel.next_deadline().unwrap_or(self.now);
                    self.advance(next, Vec::new());
                }
            }
            self.check();
        }

        fn insert(&mut self, deadline: Millis) {
            let id = self.wheel.insert(deadline, self.arrivals);
            assert_eq!(self.wheel.deadline(id), Some(deadline));
            self.model.push((deadline.max(self.wheel.elapsed), self.arrivals, id));
            self.arrivals += 1;
        }

        fn cancel(&mut self, pick: prop::sample::Index) {
            if !self.model.is_empty() {
                let (_, _, id) = self.model.swap_remove(pick.index(self.model.len()));
                assert!(self.wheel.cancel(id).is_some());
                self.gone.push(id);
            }
        }

        fn reschedule(&mut self, pick: prop::sample::Index, distance: Millis) {
            if !self.model.is_empty() {
                let index = pick.index(self.model.len());
                let timer = &mut self.model[index];
                assert!(self.wheel.reschedule(timer.2, self.now + distance));
                (timer.0, timer.1) = (self.now + distance, self.arrivals);
                self.arrivals += 1;
            }
        }

        fn advance(&mut self, now: Millis, mut inserts: Vec<Millis>) {
            self.now = now;
            while let Some((id, _)) = self.wheel.pop_expired(now) {
                let first = *self.model.iter().min_by_key(|timer| (timer.0, timer.1)).unwrap();
                assert!(first.0 <= now, "fired early");
                assert_eq!(id, first.2, "fired out of order");
                self.model.retain(|timer| timer.2 != id);
                self.gone.push(id);
                if let Some(distance) = inserts.pop() {
                    self.insert(self.wheel.elapsed + distance);
                }
            }
            assert!(self.model.iter().all(|timer| timer.0 > now), "fired late");
        }

        fn check(&mut self) {
            let earliest = self.model.iter().map(|timer| timer.0).min();
            assert_eq!(self.wheel.next_deadline().is_some(), earliest.is_some());
            assert!(self.wheel.next_deadline() <= earliest, "would wake late");
            assert_eq!(self.wheel.len(), self.model.len());
            if let Some(&id) = self.gone.last() {
                assert_eq!(self.wheel.cancel(id), None);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..Default::default() })]

        #[test]
        fn agrees_with_a_sorted_list(now in distance(), ops in prop::collection::vec(op(), 0..120)) {
            let mut pair = Pair::new(now);
            ops.into_iter().for_each(|op| pair.apply(op));
            pair.advance(u64::MAX, Vec::new());
            prop_assert!(pair.wheel.is_empty());
        }

        #[test]
        fn wakes_at_most_once_per_level(start in distance(), wait in 0..HORIZON, crowd in 1..20usize) {
            let mut wheel = Wheel::new(start);
            for _ in 0..crowd {
                wheel.insert(start + wait, 0u32);
            }
            let mut wakeups = 0;
            while let Some(now) = wheel.next_deadline() {
                drain(&mut wheel, now);
                wakeups += 1;
            }
            // The horizon itself may be crossed, and the last wakeup is the deadline.
            let wakeups_max = if crowd <= SEARCH_MAX { 1 } else { LEVEL_COUNT + 1 };
            prop_assert!(wakeups <= wakeups_max, "{} wakeups", wakeups);
        }
    }
}
