//! Which host of the pool gets a node. Pure.
//!
//! Of those that can have it: one of the fault domain in which fewest of the same kind are; there the smallest that is
//! large enough, so that the large ones stay for who needs them; of equal ones the one that has been free longest, so
//! that a replacement does not get the very host that its predecessor gave back.

use std::collections::BTreeMap;
use straas_drivers::Flavor;
use straas_store::PoolHost;

/// A host that was not heard of for so long gets no node, in ms: more than two polls that are held to their end.
const SILENT_MS: i64 = 90_000;
/// Percent of a flavor's memory that a host has to have: a machine of 4 GiB says less of itself, since firmware and
/// kernel keep some.
const MEMORY_PERCENT: u64 = 85;

/// Whether a host that was heard of then, if it was, is silent by now.
pub fn is_silent(seen_ms: Option<i64>, now_ms: i64) -> bool {
    seen_ms.is_none_or(|seen| seen + SILENT_MS < now_ms)
}

/// A node that wants a host.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// In this zone.
    pub zone: &'a str,
    /// Of this size.
    pub flavor: Flavor,
    /// Whose it is.
    pub owner: &'a str,
    /// Nodes with the same word are spread.
    pub spread: Option<&'a str>,
}

/// Why a host cannot have it; the words come after a number of hosts.
fn refusal(host: &PoolHost, wanted: &Wanted<'_>, now_ms: i64) -> Option<&'static str> {
    let large = u64::from(host.facts.memory_mib) * 100 >= u64::from(wanted.flavor.memory_mib) * MEMORY_PERCENT
        && host.facts.vcpus >= wanted.flavor.vcpus;
    if host.joined_ms.is_none() {
        Some("announced and not joined")
    } else if host.allotment.is_some() || host.holds.is_some() {
        Some("in use")
    } else if host.cleaning.is_some() {
        Some("not clean yet")
    } else if host.cordoned {
        Some("cordoned")
    } else if is_silent(host.seen_ms, now_ms) {
        Some("silent")
    } else if host.facts.address.is_empty() {
        Some("without an address")
    } else if !large {
        Some("too small")
    } else {
        None
    }
}

/// The host of these, all of the zone, that gets the node.
///
/// # Errors
/// None can have it; why, for people.
pub fn choose<'a>(hosts: &'a [PoolHost], wanted: &Wanted<'_>, now_ms: i64) -> Result<&'a PoolHost, String> {
    let mut near: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    if wanted.spread.is_some() {
        for host in hosts {
            let same = |a: &straas_store::Allotted| a.owner == wanted.owner && a.spread.as_deref() == wanted.spread;
            if host.allotment.as_ref().is_some_and(same) {
                *near.entry(host.fault_domain.as_deref()).or_default() += 1;
            }
        }
    }
    let free = hosts.iter().filter(|host| refusal(host, wanted, now_ms).is_none());
    let best = free.min_by_key(|host| {
        let size = (host.facts.memory_mib, host.facts.vcpus);
        (near.get(&host.fault_domain.as_deref()).copied().unwrap_or(0), size, host.free_ms, &host.id)
    });
    best.ok_or_else(|| {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        hosts.iter().filter_map(|host| refusal(host, wanted, now_ms)).for_each(|why| {
            *reasons.entry(why).or_default() += 1;
        });
        let reasons: Vec<String> = reasons.into_iter().map(|(why, count)| format!("{count} {why}")).collect();
        let there = if reasons.is_empty() { "the pool has none there".to_owned() } else { reasons.join(", ") };
        let Flavor { memory_mib, vcpus } = wanted.flavor;
        format!("no host of zone {} can have it ({memory_mib} MiB, {vcpus} processors): {there}", wanted.zone)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use straas_schemas::pool::{HostCleaning, HostFacts};
    use straas_store::Allotted;

    fn host(id: &str, domain: &str, memory_mib: u32, free_ms: i64) -> PoolHost {
        let host = PoolHost::announced(id.into(), id.into(), "z".into(), Some(domain.into()), free_ms);
        let facts = HostFacts { address: "10.0.0.1".into(), memory_mib, vcpus: 2, ..HostFacts::default() };
        PoolHost { facts, joined_ms: Some(1), incarnation: 1, seen_ms: Some(100_000), ..host }
    }

    fn with(node: &str, spread: &str, host: PoolHost) -> PoolHost {
        let (name, owner) = (node.into(), "o".into());
        PoolHost {
            allotment: Some(Allotted { node: node.into(), name, owner, spread: Some(spread.into()), told: true }),
            ..host
        }
    }

    fn check(hosts: &[PoolHost], expect: Result<&str, &str>) {
        let flavor = Flavor { memory_mib: 1024, vcpus: 2 };
        let wanted = Wanted { zone: "z", flavor, owner: "o", spread: Some("kafka") };
        let chosen = choose(hosts, &wanted, 150_000).map(|host| host.id.as_str());
        assert_eq!(
            chosen.map_err(|why| why.split(": ").nth(1).unwrap_or_default().to_owned()),
            expect.map_err(str::to_owned)
        );
    }

    #[test]
    fn apart_then_small_then_long_free() {
        let (a, b, c) = (host("a", "r1", 4096, 5), host("b", "r1", 1024, 9), host("c", "r1", 1024, 7));
        check(&[a.clone(), b.clone(), c.clone()], Ok("c"));
        let far = host("far", "r2", 9999, 99);
        let there = with("n1", "kafka", host("d", "r1", 1024, 1));
        check(&[there.clone(), b.clone(), c.clone(), far.clone()], Ok("far"));
        let strangers = with("n1", "zookeeper", host("d", "r1", 1024, 1));
        check(&[strangers, b.clone(), c, far.clone()], Ok("c"));
        check(&[there, with("n2", "kafka", host("e", "r2", 1024, 1)), b, far], Ok("b"));
    }

    #[test]
    fn who_cannot_have_it_is_counted_by_the_reason() {
        let good = host("a", "r", 1024, 1);
        let facts = |facts: HostFacts| PoolHost { facts, ..good.clone() };
        let small = facts(HostFacts { memory_mib: 870, ..good.facts.clone() });
        let cleaning = Some(HostCleaning { node: "n".into(), reason: None });
        check(&[], Err("the pool has none there"));
        check(&[PoolHost { facts: HostFacts { memory_mib: 871, ..good.facts.clone() }, ..good.clone() }], Ok("a"));
        check(
            &[
                small,
                facts(HostFacts { vcpus: 1, ..good.facts.clone() }),
                facts(HostFacts { address: String::new(), ..good.facts.clone() }),
                PoolHost { cordoned: true, ..good.clone() },
                PoolHost { seen_ms: Some(59_999), ..good.clone() },
                PoolHost { seen_ms: None, ..good.clone() },
                PoolHost { joined_ms: None, ..good.clone() },
                PoolHost { holds: Some("n".into()), ..good.clone() },
                with("n", "kafka", good.clone()),
                PoolHost { cleaning, ..good.clone() },
            ],
            Err(
                "1 announced and not joined, 1 cordoned, 2 in use, 1 not clean yet, 2 silent, 2 too small, 1 without an address",
            ),
        );
    }
}
