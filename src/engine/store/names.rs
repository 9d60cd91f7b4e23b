//! An arena for file names: each is stored once, end to end, and costs its own bytes only.
//!
//! The owner of a name keeps where it begins and how long it is, 5 bytes, and says when it lets go.
//! The arena only counts what was let go; it does not know its owners. When more than half is
//! garbage, the owners are asked to come by once and [`NameArena::compact`] moves what they hold.
//!
//! The invariant: **the live bytes, `bytes.len() - garbage`, are exactly those that owners hold**, and
//! no two owners hold the same ones. It is the owners' part to release once, and to come all.

use std::fmt;

/// A smaller arena is not worth compacting.
const GARBAGE_MIN: usize = 64 * 1024;

/// Where a name stands. An owner short of space may keep the two fields apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Where it begins, in bytes from the start of the arena.
    pub offset: u32,
    /// Its length in bytes; Linux has no longer names (`NAME_MAX` is 255).
    pub len: u8,
}

/// Why a name was not stored. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It has more than 255 bytes.
    TooLong,
    /// It would end beyond 4 GiB, or there is no memory for it.
    Full,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "name longer than 255 bytes",
            Self::Full => "no room for more names",
        })
    }
}

impl std::error::Error for NameError {}

/// Many short byte strings in one allocation.
#[derive(Debug, Default)]
pub struct NameArena {
    bytes: Vec<u8>,
    garbage: usize,
}

impl NameArena {
    /// An empty arena, which allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of all names not released.
    #[must_use]
    pub fn live(&self) -> usize {
        self.bytes.len() - self.garbage
    }

    /// Stores a name.
    ///
    /// # Errors
    ///
    /// See [`NameError`].
    pub fn push(&mut self, name: &[u8]) -> Result<Name, NameError> {
        let len = u8::try_from(name.len()).map_err(|_| NameError::TooLong)?;
        let offset = offset_for(self.bytes.len(), len)?;
        self.bytes.try_reserve(name.len()).map_err(|_| NameError::Full)?;
        self.bytes.extend_from_slice(name);
        Ok(Name { offset, len })
    }

    /// The name that [`push`](Self::push) or [`compact`](Self::compact) put there.
    #[must_use]
    pub fn get(&self, offset: u32, len: u8) -> &[u8] {
        let begin = offset as usize;
        self.bytes.get(begin..begin + usize::from(len)).expect("owners hold only what the arena gave them")
    }

    /// Lets go of a name of this length. It must not be asked for again.
    pub fn release(&mut self, len: u8) {
        self.garbage += usize::from(len);
        debug_assert!(self.garbage <= self.bytes.len());
    }

    /// Whether it is time to [`compact`](Self::compact): when that gives back more than it copies.
    /// Its cost is thus spread over the releases before it.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        self.garbage > self.live() && self.garbage > GARBAGE_MIN
    }

    /// Moves all live names together and returns the garbage. `owners` are the offset and length of
    /// every name not released, each once, in any order; the offsets are changed in place.
    pub fn compact<'a>(&mut self, owners: impl Iterator<Item = (&'a mut u32, u8)>) {
        let mut bytes = Vec::with_capacity(self.live());
        for (offset, len) in owners {
            let moved = offset_for(bytes.len(), len).expect("what is live fitted before");
            bytes.extend_from_slice(self.get(*offset, len));
            *offset = moved;
        }
        debug_assert_eq!(bytes.len(), self.live());
        *self = Self { bytes, garbage: 0 };
    }
}

/// The offset of a name appended to `used` bytes, if it also ends within reach of an offset.
fn offset_for(used: usize, len: u8) -> Result<u32, NameError> {
    let offset = u32::try_from(used).map_err(|_| NameError::Full)?;
    offset.checked_add(len.into()).ok_or(NameError::Full)?;
    Ok(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_does_not_fit() {
        let mut names = NameArena::new();
        assert_eq!(names.push(&[b'a'; 256]), Err(NameError::TooLong));
        assert_eq!(names.push(&[b'a'; 255]), Ok(Name { offset: 0, len: 255 }));
        assert_eq!(names.push(b""), Ok(Name { offset: 255, len: 0 }));
        let full = u32::MAX as usize;
        assert_eq!(offset_for(full - 9, 9), Ok(u32::MAX - 9));
        assert_eq!(offset_for(full - 9, 10), Err(NameError::Full));
    }

    #[test]
    fn wants_compaction_when_most_is_garbage_and_it_is_much() {
        let mut names = NameArena::new();
        let count = 2 * GARBAGE_MIN / 128;
        for _ in 0..count {
            names.push(&[b'a'; 128]).unwrap();
        }
        for _ in 0..count / 2 {
            names.release(128);
            assert!(!names.wants_compaction());
        }
        names.release(128);
        assert!(names.wants_compaction());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(Vec<u8>),
        Release(prop::sample::Index),
        Compact,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => prop::collection::vec(any::<u8>(), 0..=255).prop_map(Op::Push),
            4 => any::<prop::sample::Index>().prop_map(Op::Release),
            1 => Just(Op::Compact),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn agrees_with_a_list_of_strings(ops in prop::collection::vec(op(), 0..100)) {
            let mut names = NameArena::new();
            let mut owners: Vec<Name> = Vec::new();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for op in ops {
                match op {
                    Op::Push(name) => {
                        owners.push(names.push(&name).unwrap());
                        model.push(name);
                    }
                    Op::Release(pick) if !model.is_empty() => {
                        let index = pick.index(model.len());
                        names.release(owners.swap_remove(index).len);
                        model.swap_remove(index);
                    }
                    Op::Release(_) => {}
                    Op::Compact => {
                        names.compact(owners.iter_mut().map(|name| (&mut name.offset, name.len)));
                        prop_assert_eq!(names.bytes.len(), names.live());
                    }
                }
                prop_assert_eq!(names.live(), model.iter().map(Vec::len).sum::<usize>());
                for (owner, name) in owners.iter().zip(&model) {
                    prop_assert_eq!(names.get(owner.offset, owner.len), &name[..]);
                }
            }
        }
    }
}
