//! How a host of the pool stands: what its polls say, what it is wanted for, which word that is. Pure.
//!
//! ```text
//!                allotment   holds     told
//!  free            -           -
//!  allotted        A           -       that it is to have A, before it can know of it
//!  serving         A           A
//!  leaving         -           A       that it is to release A
//!  free            -           -       (it said that it has released A)
//! ```
//! A host that was told of a node counts as holding it, once it is to have it no more, until it says that it has released
//! that very node: a poll that was sent before it heard of it, and comes late, says nothing of it.

use straas_schemas::NodeId;
use straas_schemas::pool::{HostCleaning, HostFacts, HostPollRequest, HostStanding, HostWish};
use straas_store::PoolHost;

/// What a host is wanted for.
pub fn wish(host: &PoolHost) -> HostWish {
    let node = host.allotment.as_ref().map(|allotted| allotted.node.clone());
    let release = host.holds.clone().filter(|held| node.as_ref() != Some(held));
    HostWish { node, release, cleaned: host.cleaned && host.cleaning.is_some() }
}

/// The word for how a host stands.
pub fn standing(host: &PoolHost) -> HostStanding {
    let wish = wish(host);
    match (&wish.node, &host.holds) {
        _ if wish.release.is_some() => HostStanding::Leaving,
        (Some(_), Some(_)) => HostStanding::Serving,
        (Some(_), None) => HostStanding::Allotted,
        _ if host.cleaning.is_some() => HostStanding::Cleaning,
        _ if host.joined_ms.is_none() => HostStanding::Expected,
        _ => HostStanding::Free,
    }
}

/// The host after what its poll says, if that changes anything; `incarnation` is of whoever polls.
pub fn noted(host: &PoolHost, said: &HostPollRequest, incarnation: u64, now_ms: i64) -> Option<PoolHost> {
    let holds = match (&host.holds, &said.holds) {
        (_, Some(holds)) => Some(holds.clone()),
        (Some(held), None) if said.released.as_ref() == Some(held) || host.told_as < incarnation => None,
        (held, None) => held.clone(),
    };
    // one that does not know its way to a controller just now is still where it was
    let known = if said.facts.address.is_empty() { &host.facts.address } else { &said.facts.address };
    let address = known.clone();
    let mut noted = PoolHost {
        name: said.hostname.clone(),
        facts: HostFacts { address, ..said.facts.clone() },
        told_as: if holds.is_some() && holds == said.holds { incarnation } else { host.told_as },
        holds,
        cleaning: said.cleaning.clone(),
        cleaned: host.cleaned && said.cleaning.is_some(),
        ..host.clone()
    };
    let busy = |host: &PoolHost| host.holds.is_some() || host.cleaning.is_some();
    if busy(host) && !busy(&noted) {
        noted.free_ms = now_ms;
    }
    (noted != *host).then_some(noted)
}

/// The host once it was told, or is about to be, which node it is to have; `None` if that is known already.
pub fn told(host: &PoolHost, incarnation: u64) -> Option<PoolHost> {
    let mut told = host.clone();
    told.allotment.as_mut().filter(|allotted| !allotted.told)?.told = true;
    told.told_as = incarnation;
    Some(told)
}

/// The host without the node it was to have; `None` if it was to have another one, or none.
pub fn released(host: &PoolHost, node: &NodeId, now_ms: i64) -> Option<PoolHost> {
    let allotted = host.allotted(node)?;
    let holds = if allotted.told { Some(node.clone()) } else { host.holds.clone() };
    let free_ms = if holds.is_none() { now_ms } else { host.free_ms };
    Some(PoolHost { allotment: None, holds, free_ms, ..host.clone() })
}

/// What keeps a host from being free, for people.
pub fn why_busy(host: &PoolHost) -> Option<String> {
    let HostCleaning { node, reason } = host.cleaning.as_ref()?;
    let reason = reason.as_deref().unwrap_or("under way");
    Some(format!("cleaning up after node {node}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use straas_store::Allotted;

    fn host() -> PoolHost {
        let host = PoolHost::announced("h".into(), "h".into(), "z".into(), None, 1);
        PoolHost { joined_ms: Some(1), incarnation: 1, ..host }
    }

    fn says(holds: Option<&str>, released: Option<&str>) -> HostPollRequest {
        HostPollRequest {
            protocol: 1,
            hostname: "h".into(),
            facts: HostFacts::default(),
            knows: None,
            holds: holds.map(Into::into),
            released: released.map(Into::into),
            wants_token: false,
            cleaning: None,
            trusts: None,
            wait_ms: 0,
        }
    }

    fn hears(host: &mut PoolHost, said: &HostPollRequest, incarnation: u64, expect: HostStanding) {
        if let Some(noted) = noted(host, said, incarnation, 9) {
            *host = noted;
        }
        assert_eq!(standing(host), expect);
    }

    fn allot(host: &mut PoolHost, node: &str) {
        let (name, owner) = ("n".into(), "o".into());
        host.allotment = Some(Allotted { node: node.into(), name, owner, spread: None, told: false });
        assert_eq!(standing(host), HostStanding::Allotted);
    }

    #[test]
    fn a_node_comes_and_goes() {
        use HostStanding::{Cleaning, Free, Leaving, Serving};
        let mut host = host();
        hears(&mut host, &says(None, None), 1, Free);
        assert_eq!(wish(&host), HostWish::default());
        allot(&mut host, "a");
        host = told(&host, 1).expect("news");
        assert_eq!((told(&host, 1), wish(&host).node), (None, Some("a".into())));
        hears(&mut host, &says(Some("a"), None), 1, Serving);
        assert_eq!(wish(&host), HostWish { node: Some("a".into()), ..HostWish::default() });
        assert_eq!(released(&host, &"b".into(), 5), None);
        host = released(&host, &"a".into(), 5).expect("it was to have it");
        assert_eq!(wish(&host), HostWish { release: Some("a".into()), ..HostWish::default() });
        hears(&mut host, &says(Some("a"), None), 1, Leaving);
        let reason = Some("no space".to_owned());
        let cleaning =
            HostPollRequest { cleaning: Some(HostCleaning { node: "a".into(), reason }), ..says(None, Some("a")) };
        hears(&mut host, &cleaning, 1, Cleaning);
        assert_eq!(why_busy(&host).as_deref(), Some("cleaning up after node a: no space"));
        host.cleaned = true;
        assert!(wish(&host).cleaned);
        hears(&mut host, &says(None, Some("a")), 1, Free);
        assert_eq!((host.free_ms, host.cleaned, wish(&host)), (9, false, HostWish::default()));
    }

    #[test]
    fn where_it_is_stays_known() {
        let at = |address: &str| {
            let facts = HostFacts { address: address.into(), ..HostFacts::default() };
            HostPollRequest { facts, ..says(None, None) }
        };
        let mut host = host();
        for (says, known) in [("10.0.0.1", "10.0.0.1"), ("", "10.0.0.1"), ("10.0.0.2", "10.0.0.2")] {
            hears(&mut host, &at(says), 1, HostStanding::Free);
            assert_eq!(host.facts.address, known);
        }
    }

    #[test]
    fn one_that_was_not_told_lets_go_at_once() {
        let mut host = host();
        allot(&mut host, "a");
        host = released(&host, &"a".into(), 5).expect("it was to have it");
        assert_eq!((standing(&host), host.free_ms), (HostStanding::Free, 5));
    }

    #[test]
    fn what_it_said_before_it_was_told_does_not_release_it() {
        use HostStanding::{Free, Leaving};
        let mut host = host();
        allot(&mut host, "a");
        host = told(&host, 1).expect("news");
        host = released(&host, &"a".into(), 5).expect("it was to have it");
        // sent before it was told, or after it released an earlier node
        hears(&mut host, &says(None, None), 1, Leaving);
        hears(&mut host, &says(None, Some("z")), 1, Leaving);
        let mut asked = host.clone();
        hears(&mut asked, &says(None, Some("a")), 1, Free);
        // it joined anew and has nothing: nothing is there
        hears(&mut host, &says(None, None), 2, Free);
    }

    #[test]
    fn one_that_joined_anew_and_runs_it_still_holds_it() {
        let mut host = host();
        hears(&mut host, &says(Some("a"), None), 2, HostStanding::Leaving);
        hears(&mut host, &says(None, None), 2, HostStanding::Leaving);
        assert_eq!(wish(&host).release, Some("a".into()), "nobody gave it that: it is to let go");
    }
}
