//! A hash table of `u32` indices whose keys live elsewhere, in the slab that the indices point into.
//!
//! The table costs 4 bytes per slot and stores neither keys nor hashes: the caller passes closures
//! that compare and hash what an index stands for. Open addressing with linear probing.
//!
//! The invariant: **between the home slot of an index, `hash % capacity`, and the slot it stands in
//! there is no empty slot.** So a search may end at the first empty one, and a removal closes the gap
//! it leaves by shifting back (Knuth, "The Art of Computer Programming" 3, 6.4, algorithm R), without
//! tombstones.
//!
//! There is no iteration: the order depends on the [`Seed`], and must not be seen.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Marks an empty slot, and is therefore no index.
const EMPTY: u32 = u32::MAX;

/// The first allocation. A power of two, as every capacity is.
const CAPACITY_MIN: usize = 8;

/// A secret for hashing. Any user who may write to a watched directory chooses file names; without the
/// seed, a user cannot choose names that collide.
///
/// The hash is std's SipHash-1-3 with a 128-bit key.
#[derive(Clone, Debug, Default)]
pub struct Seed(RandomState);

impl Seed {
    /// A fresh secret, one per table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The hash of a name within a scope, such as the directory it stands in.
    #[must_use]
    pub fn hash(&self, scope: u32, name: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u32(scope);
        hasher.write(name);
        hasher.finish()
    }
}

/// The hash of a number that the daemon or the kernel gave out, and no user could choose: no secret is
/// needed. Multiplying by the golden ratio spreads numbers that follow each other over the table (Knuth, "The
/// Art of Computer Programming" 3, 6.4).
#[must_use]
pub fn hash_number(number: u32) -> u64 {
    u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(32)
}

/// A set of indices, found by the hash of their keys. Empty, it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct IndexTable {
    slots: Box<[u32]>,
    len: usize,
}

impl IndexTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The count of indices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table has no index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The index with this hash for which `is_match` holds.
    pub fn find(&self, hash: u64, is_match: impl FnMut(u32) -> bool) -> Option<u32> {
        Some(self.slots[self.find_slot(hash, is_match)?])
    }

    /// Adds an index that is not in the table, below `u32::MAX`. `hash_of` is asked only for
    /// indices that are there already, when the table grows.
    pub fn insert(&mut self, hash: u64, index: u32, hash_of: impl FnMut(u32) -> u64) {
        debug_assert_ne!(index, EMPTY);
        if self.len >= len_max(self.slots.len()) {
            self.resize((self.slots.len() * 2).max(CAPACITY_MIN), hash_of);
        }
        self.place(hash, index);
        self.len += 1;
    }

    /// Removes and returns the index with this hash for which `is_match` holds. `hash_of` is asked
    /// for the other indices only.
    pub fn remove(
        &mut self,
        hash: u64,
        is_match: impl FnMut(u32) -> bool,
        mut hash_of: impl FnMut(u32) -> u64,
    ) -> Option<u32> {
        let slot = self.find_slot(hash, is_match)?;
        let index = self.slots[slot];
        self.close_gap(slot, &mut hash_of);
        self.len -= 1;
        if self.len < self.slots.len() / 8 && self.slots.len() > CAPACITY_MIN {
            self.resize(self.slots.len() / 2, hash_of);
        }
        Some(index)
    }

    fn find_slot(&self, hash: u64, mut is_match: impl FnMut(u32) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.home(hash);
        while self.slots[slot] != EMPTY {
            if is_match(self.slots[slot]) {
                return Some(slot);
            }
            slot = self.after(slot);
        }
        None
    }

    /// Puts an index into the first empty slot from its home on.
    fn place(&mut self, hash: u64, index: u32) {
        let mut slot = self.home(hash);
        while self.slots[slot] != EMPTY {
            slot = self.after(slot);
        }
        self.slots[slot] = index;
    }

    /// Empties a slot, and moves into the gap what could no longer be found behind it.
    fn close_gap(&mut self, mut gap: usize, mut hash_of: impl FnMut(u32) -> u64) {
        let mut slot = self.after(gap);
        while self.slots[slot] != EMPTY {
            let home = self.home(hash_of(self.slots[slot]));
            if self.distance(home, slot) >= self.distance(gap, slot) {
                self.slots[gap] = self.slots[slot];
                gap = slot;
            }
            slot = self.after(slot);
        }
        self.slots[gap] = EMPTY;
    }

    fn resize(&mut self, capacity: usize, mut hash_of: impl FnMut(u32) -> u64) {
        let slots = std::mem::replace(&mut self.slots, vec![EMPTY; capacity].into_boxed_slice());
        for index in slots.into_iter().filter(|&index| index != EMPTY) {
            self.place(hash_of(index), index);
        }
    }

    /// Where the search for a hash begins. The low bits are kept, so truncation does no harm.
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    /// How many steps a search takes from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }
}

/// At most 7 of 8 slots are taken, so that an empty one ends every search. More memory would buy
/// speed here: a search in vain compares 1 index at load 7/16, 7 at 3/4 and 31 at 7/8 (measured).
fn len_max(capacity: usize) -> usize {
    capacity / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn an_empty_table_allocates_nothing_and_finds_nothing() {
        let mut table = IndexTable::new();
        assert_eq!(table.slots.len(), 0);
        assert_eq!(table.find(0, |_| true), None);
        assert_eq!(table.remove(0, |_| true, |_| 0), None);
    }

    #[test]
    fn capacity_follows_the_count() {
        let mut table = IndexTable::new();
        let mut capacities = Vec::new();
        for index in 0..57 {
            table.insert(index.into(), index, u64::from);
            capacities.push(table.slots.len());
        }
        assert_eq!([capacities[5], capacities[6], capacities[47], capacities[48]], [8, 16, 64, 128]);
        for index in 0..57 {
            assert_eq!(table.remove(index.into(), |found| found == index, u64::from), Some(index));
        }
        assert_eq!(table.slots.len(), CAPACITY_MIN);
    }

    #[test]
    fn the_hash_depends_on_seed_scope_and_name() {
        let (seed, other) = (Seed::new(), Seed::new());
        assert_eq!(seed.hash(1, b"a"), seed.clone().hash(1, b"a"));
        assert_ne!(seed.hash(1, b"a"), seed.hash(2, b"a"));
        assert_ne!(seed.hash(1, b"a"), seed.hash(1, b"b"));
        assert_ne!(seed.hash(1, b"a"), other.hash(1, b"a"));
    }

    /// Keys of a slab that is never reused, and a hash that collides often and wraps around.
    struct Slab(Vec<u16>);

    impl Slab {
        fn hash_of(key: u16) -> u64 {
            (u64::from(key % 61) * 0x9e37_79b9) ^ u64::from(key >> 14)
        }

        fn key(&self, index: u32) -> u16 {
            self.0[index as usize]
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn agrees_with_a_hash_map(ops in prop::collection::vec((0..5u8, 0..300u16), 0..600)) {
            let mut slab = Slab(Vec::new());
            let mut table = IndexTable::new();
            let mut model = HashMap::new();
            // Fill first, empty later, so that the table both grows and shrinks.
            let count = ops.len();
            for (turn, (dice, key)) in ops.into_iter().enumerate() {
                let inserts = if turn < count / 2 { dice > 0 } else { dice > 3 };
                let hash = Slab::hash_of(key);
                let found = table.find(hash, |index| slab.key(index) == key);
                prop_assert_eq!(found, model.get(&key).copied());
                if inserts && found.is_none() {
                    let index = slab.0.len() as u32;
                    table.insert(hash, index, |index| Slab::hash_of(slab.key(index)));
                    slab.0.push(key);
                    model.insert(key, index);
                } else if !inserts {
                    let removed = table.remove(
                        hash,
                        |index| slab.key(index) == key,
                        |index| Slab::hash_of(slab.key(index)),
                    );
                    prop_assert_eq!(removed, model.remove(&key));
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.len() <= len_max(table.slots.len()));
            }
            for (key, index) in model {
                prop_assert_eq!(table.find(Slab::hash_of(key), |found| slab.key(found) == key), Some(index));
            }
        }
    }
}
