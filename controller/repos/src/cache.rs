//! A map that keeps the entries used last, up to a fixed number.
//!
//! Keys are content addresses (commits, trees), so an entry never becomes wrong, only unused.
//! Eviction looks at every entry: fine for the few hundred entries of our caches, on a miss only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Least-recently-used map behind a lock.
pub(crate) struct Bounded<K, V> {
    entries_max: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    // counts uses; each entry remembers the count at its last one
    tick: u64,
    entries: BTreeMap<K, (u64, V)>,
}

impl<K: Ord + Clone, V: Clone> Bounded<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max, inner: Mutex::new(Inner { tick: 0, entries: BTreeMap::new() }) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut guard = locked(&self.inner);
        let Inner { tick, entries } = &mut *guard;
        *tick += 1;
        entries.get_mut(key).map(|(used, value)| {
            *used = *tick;
            value.clone()
        })
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        let mut guard = locked(&self.inner);
        let Inner { tick, entries } = &mut *guard;
        *tick += 1;
        entries.insert(key, (*tick, value));
        if entries.len() > self.entries_max
            && let Some(oldest) = entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone())
        {
            entries.remove(&oldest);
        }
    }
}

/// Locks; a thread that panicked while it held the lock left no half-made value in our caches.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_not_used_longest_goes() {
        let cache = Bounded::new(2);
        cache.insert("a", 1);
        cache.insert("b", 2);
        assert_eq!(cache.get(&"a"), Some(1));
        cache.insert("c", 3);
        assert_eq!((cache.get(&"a"), cache.get(&"b"), cache.get(&"c")), (Some(1), None, Some(3)));
    }
}
