//! Leases: taken by one, fenced by their number.

use super::fixture::{World, is_conflict};
use crate::{HostPhase, HostRecord, Lease, Store};
use std::sync::Arc;

pub(super) async fn one_has_it_until_it_ends(store: Arc<dyn Store>) {
    let take = async |holder: &str, now| store.take_lease("leases/one", holder, now, now + 10).await.unwrap();
    let first = take("a", 100).await.expect("nobody has it");
    assert_eq!(first.name, "leases/one");
    assert_eq!(take("b", 109).await, None);
    assert_eq!(take("a", 109).await, None, "nor does it get it twice");
    assert!(store.keep_lease(&first, 130).await.unwrap());
    assert_eq!(take("b", 129).await, None);
    let second = take("b", 130).await.expect("it has ended by itself");
    assert!(second.epoch > first.epoch);
    // the first one does not know it yet
    assert!(!store.keep_lease(&first, 1000).await.unwrap());
    store.end_lease(&first).await.unwrap();
    assert_eq!(take("c", 139).await, None, "it ended nothing but its own");
    store.end_lease(&second).await.unwrap();
    let third = take("c", 139).await.expect("it was ended");
    assert!(third.epoch > second.epoch, "no number comes twice, also where nothing was left of the last");
    // of a controller that died
    let other = store.take_lease("leases/other", "d", 100, 1000).await.unwrap().expect("free");
    store.end_leases("c").await.unwrap();
    assert!(!store.keep_lease(&third, 1000).await.unwrap());
    assert!(store.keep_lease(&other, 1000).await.unwrap());
    store.end_lease(&other).await.unwrap();
}

pub(super) async fn one_of_many_takes_it(store: Arc<dyn Store>) {
    let takers = (0..8).map(|taker| {
        let store = store.clone();
        tokio::spawn(async move { store.take_lease("leases/many", &format!("taker {taker}"), 100, 200).await.unwrap() })
    });
    let mut taken = 0;
    for taker in takers.collect::<Vec<_>>() {
        taken += u32::from(taker.await.unwrap().is_some());
    }
    assert_eq!(taken, 1);
}

pub(super) async fn what_is_written_under_a_lost_one_is_refused(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "fenced", 1).await;
    let name = Lease::on_host(world.id(0));
    let up = |number| HostRecord { phase: HostPhase::Up, number, ..HostRecord::default() };
    let stood_still = store.take_lease(&name, "a", 100, 110).await.unwrap().expect("free");
    store.set_host(world.id(0), &up(1), &stood_still).await.unwrap();
    store.set_host(world.id(0), &up(2), &stood_still).await.expect("late, but nobody has taken it");
    let other = store.take_lease(&name, "b", 120, 200).await.unwrap().expect("it has ended");
    assert!(is_conflict(&store.set_host(world.id(0), &HostRecord::default(), &stood_still).await));
    assert_eq!(world.seen(0).await.host, up(2), "nothing changed");
    store.set_host(world.id(0), &up(3), &other).await.unwrap();
    store.end_lease(&other).await.unwrap();
    assert!(is_conflict(&store.set_host(world.id(0), &up(4), &other).await), "nor after it was given back");
}
