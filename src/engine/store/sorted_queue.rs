//! A map for keys that come nearly in order and leave soon: a sorted ring. Keys are found by bisection, and a
//! ring that was filled and emptied once allocates nothing more, which a tree does at each first key.

use std::collections::VecDeque;

/// See the module's documentation.
#[derive(Debug)]
pub struct SortedQueue<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for SortedQueue<K, V> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: Ord, V> SortedQueue<K, V> {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest key, with its value.
    #[must_use]
    pub fn first(&self) -> Option<&(K, V)> {
        self.0.front()
    }

    /// Takes the smallest key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.0.pop_front()
    }

    /// Adds a key that is not there. Cheap if few keys are greater.
    pub fn insert(&mut self, key: K, value: V) {
        let at = self.0.partition_point(|(other, _)| *other < key);
        self.0.insert(at, (key, value));
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.at(key).map(|at| &self.0[at].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.at(key)?;
        Some(&mut self.0[at].1)
    }

    /// Takes a key out. Cheap if few keys are greater, or few are smaller.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.at(key)?;
        let removed = self.0.remove(at).map(|(_, value)| value);
        if self.0.is_empty() {
            // A burst must not keep its memory.
            self.0.shrink_to(16);
        }
        removed
    }

    fn at(&self, key: &K) -> Option<usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_tree(steps in prop::collection::vec((any::<bool>(), 0_u8..20), 0..100)) {
            let (mut queue, mut tree) = (SortedQueue::default(), BTreeMap::new());
            for (adds, key) in steps {
                if adds && !tree.contains_key(&key) {
                    queue.insert(key, u32::from(key));
                    tree.insert(key, u32::from(key));
                } else if adds {
                    prop_assert_eq!(queue.pop_first(), tree.pop_first());
                } else {
                    prop_assert_eq!(queue.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!(queue.len(), tree.len());
                prop_assert_eq!(queue.get(&key), tree.get(&key));
                prop_assert_eq!(queue.first().map(|(key, _)| key), tree.keys().next());
            }
        }
    }
}
