//! Components that depend on components of other topologies.

use super::fixture::{World, component, is_conflict, job};
use crate::{ComponentRecord, ForeignSpec, JobRecord, Store};
use std::sync::Arc;
use straas_schemas::job::JobKind;

/// What makes a component depend on another one.
fn link(to: &ComponentRecord) -> ForeignSpec {
    ForeignSpec {
        topology: to.topology.clone(),
        component: to.id.clone(),
        name: format!("{}/{}", to.topology, to.name),
    }
}

/// One more component of a topology, which depends on another one.
fn dependent(of: &World, name: &str, on: &ComponentRecord) -> (ComponentRecord, JobRecord) {
    let mut out = component(&of.topology, name, 1);
    out.spec.foreign = vec![link(on)];
    let creation = JobRecord { component: Some(out.id.clone()), ..job(&of.topology, 2, JobKind::Create) };
    (out, creation)
}

async fn near(world: &World) -> Vec<String> {
    let seen = world.store.snapshot(&world.topology.id).await.unwrap().unwrap();
    seen.neighbours.iter().map(|n| n.component.id.to_string()).collect()
}

pub(super) async fn both_ends_are_seen(store: Arc<dyn Store>) {
    let lower = World::new(store.clone(), "lower", 2).await;
    let upper = World::new(store.clone(), "upper", 0).await;
    let (kafka, creation) = dependent(&upper, "kf", &lower.component);
    store.add_component(&kafka, &creation).await.unwrap();
    // beside it, one that depends on it and one that does not
    let mut beside = component(&upper.topology, "st", 2);
    beside.spec.depends_on = vec!["kf".to_owned()];
    store.add_component(&beside, &job(&upper.topology, 3, JobKind::Create)).await.unwrap();
    let top = World::new(store.clone(), "top", 0).await;
    let (highest, creation) = dependent(&top, "hi", &beside);
    store.add_component(&highest, &creation).await.unwrap();

    let mut all = vec![kafka.id.to_string(), beside.id.to_string(), highest.id.to_string()];
    all.sort();
    assert_eq!(near(&lower).await, all, "who depends on it, through others as well");
    let mut of_upper = vec![lower.component.id.to_string(), highest.id.to_string()];
    of_upper.sort();
    assert_eq!(near(&upper).await, of_upper);
    assert_eq!(near(&top).await, [beside.id.to_string()], "what it depends on, and not what that depends on");
    let seen = store.snapshot(&upper.topology.id).await.unwrap().unwrap();
    let found = seen.neighbours.iter().find(|n| n.component == lower.component).unwrap();
    let nodes: Vec<_> = found.nodes.iter().map(|node| node.record.clone()).collect();
    assert_eq!((&found.topology, nodes), (&lower.topology, lower.nodes.clone()));
    let asked = [kafka.id.clone(), "c-nobody".into(), lower.component.id.clone()];
    let mut asked: Vec<_> = store.neighbours(&asked).await.unwrap().into_iter().map(|n| n.component).collect();
    asked.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(asked, [lower.component.clone(), kafka.clone()]);
    assert_eq!(store.component_by_name(&upper.topology.id, "kf").await.unwrap(), Some(kafka.clone()));
    assert_eq!(store.component_by_name(&lower.topology.id, "kf").await.unwrap(), None);
    let leads = async |from: &World, to: &World| store.leads_to(&from.topology.id, &to.topology.id).await.unwrap();
    assert!(leads(&top, &lower).await && leads(&lower, &lower).await && !leads(&lower, &top).await);

    // asked for together, each is as it is alone
    let many = [upper.topology.id.clone(), "t-nobody".into(), top.topology.id.clone(), lower.topology.id.clone()];
    let mut alone = Vec::new();
    for id in &many {
        alone.extend(store.snapshot(id).await.unwrap());
    }
    alone.sort_by(|a, b| a.topology.id.cmp(&b.topology.id));
    assert_eq!((store.snapshots(&many).await.unwrap(), alone.len()), (alone, 3));

    // what a change no longer names is no longer there
    let free =
        ComponentRecord { spec: crate::ComponentSpec { foreign: vec![], ..kafka.spec.clone() }, ..kafka.clone() };
    store.change_component(&free, 1, None).await.unwrap();
    assert!(near(&lower).await.is_empty() && !leads(&top, &lower).await);
    store.change_component(&kafka, 2, None).await.unwrap();
    assert_eq!(near(&lower).await, all);
}

pub(super) async fn what_others_need_stays(store: Arc<dyn Store>) {
    let lower = World::new(store.clone(), "needed", 1).await;
    let upper = World::new(store.clone(), "needs", 0).await;
    let (kafka, creation) = dependent(&upper, "kf", &lower.component);
    store.add_component(&kafka, &creation).await.unwrap();
    let deletion = lower.job(9, JobKind::Delete);
    assert!(is_conflict(&store.delete_topology(&lower.topology.id, &deletion, None).await));
    let mut removed = lower.component.clone();
    removed.spec.removed = true;
    let removal = lower.job(8, JobKind::Remove);
    assert!(is_conflict(&store.change_component(&removed, 1, Some(&removal)).await));
    assert_eq!(lower.job_ids(true).await.len(), 1, "nothing of a refused call happens");
    assert_eq!(store.component(&lower.component.id).await.unwrap(), Some(lower.component.clone()));
    // one that goes needs it until it is gone
    assert!(store.delete_topology(&upper.topology.id, &upper.job(9, JobKind::Delete), None).await.unwrap());
    assert!(is_conflict(&store.delete_topology(&lower.topology.id, &deletion, None).await));
    store.forget_topology(&upper.topology.id, 1, &[]).await.unwrap();
    store.change_component(&removed, 1, Some(&removal)).await.unwrap();
    assert!(store.delete_topology(&lower.topology.id, &deletion, None).await.unwrap());
}

pub(super) async fn nothing_depends_on_what_goes(store: Arc<dyn Store>) {
    let lower = World::new(store.clone(), "going", 0).await;
    let upper = World::new(store.clone(), "staying", 0).await;
    let refused = async |to: &ComponentRecord| {
        let (kafka, creation) = dependent(&upper, "kf", to);
        assert!(is_conflict(&store.add_component(&kafka, &creation).await));
        let mut changed = upper.component.clone();
        changed.spec.foreign = vec![link(to)];
        assert!(is_conflict(&store.change_component(&changed, 1, None).await));
        let mut created = super::fixture::topology("never");
        created.id = "t-never-made".into();
        let (mut part, _) = dependent(&upper, "kf", to);
        part.topology = created.id.clone();
        assert!(is_conflict(&store.create_topology(&created, &[part], &job(&created, 1, JobKind::Create)).await));
        assert_eq!(store.topology(&created.id).await.unwrap(), None);
    };
    let mut unknown = lower.component.clone();
    unknown.id = "c-nobody".into();
    refused(&unknown).await;
    let mut elsewhere = lower.component.clone();
    elsewhere.topology = upper.topology.id.clone();
    refused(&elsewhere).await;
    let mut removed = lower.component.clone();
    removed.spec.removed = true;
    store.change_component(&removed, 1, None).await.unwrap();
    refused(&lower.component).await;
    let second = World::new(store.clone(), "going2", 0).await;
    store.delete_topology(&second.topology.id, &second.job(2, JobKind::Delete), None).await.unwrap();
    refused(&second.component).await;
}

pub(super) async fn topologies_do_not_go_in_circles(store: Arc<dyn Store>) {
    let mut worlds = Vec::new();
    for name in ["circle-a", "circle-b", "circle-c"] {
        worlds.push(World::new(store.clone(), name, 0).await);
    }
    for (from, to) in [(0, 1), (1, 2)] {
        let (part, creation) = dependent(&worlds[from], "kf", &worlds[to].component);
        store.add_component(&part, &creation).await.unwrap();
    }
    for to in [0, 1, 2] {
        let (part, creation) = dependent(&worlds[2], "kf", &worlds[to].component);
        assert!(is_conflict(&store.add_component(&part, &creation).await), "2 → {to}");
    }
}

/// Links and deletions at once: nothing that is needed goes, and no circle is closed.
pub(super) async fn at_once(store: Arc<dyn Store>) {
    for round in 0..6 {
        let mut worlds = Vec::new();
        for name in ["a", "b", "c"] {
            worlds.push(World::new(store.clone(), &format!("once-{round}-{name}"), 0).await);
        }
        let links = (0..3).map(|from| {
            let (store, (part, creation)) =
                (store.clone(), dependent(&worlds[from], "kf", &worlds[(from + 1) % 3].component));
            tokio::spawn(async move { store.add_component(&part, &creation).await })
        });
        let links: Vec<_> = links.collect();
        let (id, deletion) = (worlds[1].topology.id.clone(), worlds[1].job(9, JobKind::Delete));
        let going = store.clone();
        let deleted = tokio::spawn(async move { going.delete_topology(&id, &deletion, None).await });
        let mut linked = Vec::new();
        for link in links {
            let answer = link.await.unwrap();
            assert!(answer.is_ok() || is_conflict(&answer), "{answer:?}");
            linked.push(answer.is_ok());
        }
        let deleted = deleted.await.unwrap();
        assert!(deleted.is_ok() || is_conflict(&deleted), "{deleted:?}");
        assert!(!(linked[0] && deleted.is_ok()), "what is needed does not go");
        assert!(linked.iter().any(|linked| !linked), "a circle");
        assert!(deleted.is_ok() || linked[0], "refused for nothing");
    }
}
