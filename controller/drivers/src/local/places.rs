//! Fault domains: which of them a new host goes to.
//!
//! This machine is one, and whoever tries out what spreading means may have it taken for several
//! (`fault_domains` of the settings): a host belongs to one of them for its life. The least used by the hosts that are
//! to be spread with it is chosen, then the least used of all, then the lowest.
//!
//! Never here: what a domain is made of. Nothing fails with a domain unless somebody makes it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Owner and word of those it is spread with.
    pub group: Option<(String, String)>,
    /// Its domain, from 1.
    pub domain: u32,
}

/// Where each host is, by id.
#[derive(Debug, Default)]
pub struct Places(Mutex<BTreeMap<String, Place>>);

impl Places {
    /// Takes note of a host that is there.
    pub fn note(&self, id: &str, place: Option<Place>) {
        if let Some(place) = place {
            self.all().insert(id.to_owned(), place);
        }
    }

    /// Takes a place for a host; none where there is one domain only.
    pub fn take(&self, id: &str, group: Option<(String, String)>, domains: u32) -> Option<Place> {
        if domains < 2 {
            return None;
        }
        let mut all = self.all();
        let used = |domain: u32| {
            let there = all.values().filter(|place| place.domain == domain);
            let with_it = there.clone().filter(|place| place.group.is_some() && place.group == group).count();
            (with_it, there.count(), domain)
        };
        let domain = (1..=domains).min_by_key(|domain| used(*domain))?;
        let place = Place { group, domain };
        all.insert(id.to_owned(), place.clone());
        Some(place)
    }

    /// Gives a host's place back.
    pub fn free(&self, id: &str) {
        self.all().remove(id);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_spread_with_those_of_their_group_first() {
        let places = Places::default();
        let group = |name: &str| Some(("o".to_owned(), name.to_owned()));
        let take = |id: &str, name: &str| places.take(id, group(name), 3).map(|place| place.domain);
        assert_eq!(
            [take("a1", "a"), take("a2", "a"), take("a3", "a"), take("a4", "a")],
            [Some(1), Some(2), Some(3), Some(1)]
        );
        // another group begins where there is least
        assert_eq!([take("b1", "b"), take("b2", "b"), take("b3", "b")], [Some(2), Some(3), Some(1)]);
        // what leaves makes room for the next of its group
        places.free("a3");
        assert_eq!(take("a5", "a"), Some(3));
        // one that is not to be spread goes where there is least
        assert_eq!(places.take("c", None, 3).map(|place| place.domain), Some(2));
        assert_eq!(places.take("d", None, 3).map(|place| place.domain), Some(3));
        assert_eq!(places.take("e", group("a"), 1), None, "one domain is none");
    }
}
