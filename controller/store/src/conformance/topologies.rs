//! Topologies and components: created whole, found, paged, changed by revision, deleted, forgotten.

use super::fixture::{
    World, assignment, component, heartbeat, is_conflict, is_duplicate, is_missing, job, silent, stage_report, topology,
};
use crate::{EnrolOutcome, NewEvent, PageRequest, Store, StoreError, TopologyFilter};
use std::sync::Arc;
use straas_schemas::Stage;
use straas_schemas::job::{JobKind, JobStanding};

pub(super) async fn created_and_read(store: Arc<dyn Store>) {
    store.ping().await.unwrap();
    let world = World::new(store.clone(), "created", 0).await;
    let id = &world.topology.id;
    assert_eq!(store.topology(id).await.unwrap().as_ref(), Some(&world.topology));
    assert_eq!(store.topology_by_name("created", "az1").await.unwrap().as_ref(), Some(&world.topology));
    assert_eq!(store.component(&world.component.id).await.unwrap().as_ref(), Some(&world.component));
    assert_eq!(store.job(&"j-created-001".into()).await.unwrap(), Some(world.job(1, JobKind::Create)));
    assert_eq!(store.topology(&"nobody".into()).await.unwrap(), None);
    assert_eq!(store.topology_by_name("created", "az2").await.unwrap(), None);
    assert_eq!(store.component(&"nobody".into()).await.unwrap(), None);
    assert_eq!(store.job(&"nobody".into()).await.unwrap(), None);
    assert!(store.snapshot(&"nobody".into()).await.unwrap().is_none());
    assert!(store.node(&"nobody".into()).await.unwrap().is_none());
    assert!(store.assignment(&"nobody".into()).await.unwrap().is_none());
}

pub(super) async fn names_are_unique_in_a_zone(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "unique", 0).await;
    let mut twin = topology("unique");
    twin.id = "t-unique-twin".into();
    let mut second = job(&twin, 2, JobKind::Create);
    assert!(is_duplicate(&store.create_topology(&twin, &[], &second).await));
    twin.zone = "az2".to_owned();
    store.create_topology(&twin, &[], &second).await.unwrap();
    // A topology that is being deleted still has its name; a forgotten one does not.
    twin.id = "t-unique-third".into();
    twin.zone = "az1".to_owned();
    second.id = "j-unique-003".into();
    assert!(store.delete_topology(&world.topology.id, &world.job(4, JobKind::Delete), None).await.unwrap());
    assert!(is_duplicate(&store.create_topology(&twin, &[], &second).await));
    store.forget_topology(&world.topology.id, 5, &[]).await.unwrap();
    store.create_topology(&twin, &[], &second).await.unwrap();
    assert_eq!(store.topology_by_name("unique", "az1").await.unwrap().unwrap().id, twin.id);
}

pub(super) async fn a_refused_creation_leaves_nothing(store: Arc<dyn Store>) {
    let new = topology("whole");
    let (first, mut second) = (component(&new, "a", 0), component(&new, "b", 1));
    second.name = "a".to_owned();
    let begun = job(&new, 1, JobKind::Create);
    assert!(is_duplicate(&store.create_topology(&new, &[first.clone(), second.clone()], &begun).await));
    assert_eq!(store.topology(&new.id).await.unwrap(), None);
    assert_eq!(store.component(&first.id).await.unwrap(), None);
    assert_eq!(store.job(&begun.id).await.unwrap(), None);
    second.topology = "nobody".into();
    assert!(is_missing(&store.create_topology(&new, &[second], &begun).await));
    let other = World::new(store.clone(), "whole-other", 0).await;
    assert!(
        is_duplicate(&store.create_topology(&new, &[], &other.job(1, JobKind::Create)).await),
        "the job's id is taken"
    );
    assert_eq!(store.topology(&new.id).await.unwrap(), None);
    store.create_topology(&new, &[first], &begun).await.unwrap();
}

pub(super) async fn paged_by_id_and_tenant(store: Arc<dyn Store>) {
    for number in 0..5 {
        let mut new = topology(&format!("paged-{number}"));
        new.tenant = if number == 2 { "paged-b" } else { "paged-a" }.to_owned();
        store.create_topology(&new, &[], &job(&new, 1, JobKind::Create)).await.unwrap();
    }
    let ids = async |tenant: Option<&str>, after: Option<&str>, limit| {
        let page = PageRequest { after: after.map(str::to_owned), limit };
        let found = store.topologies(&TopologyFilter::of(tenant), &page).await.unwrap();
        found.into_iter().map(|topology| topology.id.0).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some("paged-a"), None, 2).await, ["t-paged-0", "t-paged-1"]);
    assert_eq!(ids(Some("paged-a"), Some("t-paged-1"), 9).await, ["t-paged-3", "t-paged-4"]);
    assert_eq!(ids(Some("paged-b"), None, 9).await, ["t-paged-2"]);
    assert_eq!(ids(Some("paged-c"), None, 9).await, [""; 0]);
    assert_eq!(ids(None, Some("t-paged-0"), 3).await, ["t-paged-1", "t-paged-2", "t-paged-3"]);
    assert_eq!(ids(None, None, 0).await, [""; 0]);
    assert!(ids(None, None, u32::MAX).await.len() >= 5);
    for (tenant, name, zone, expect) in [
        (Some("paged-a"), Some("paged-3"), None, vec!["t-paged-3"]),
        (None, Some("paged-2"), Some("az1"), vec!["t-paged-2"]),
        (Some("paged-a"), None, Some("az1"), vec!["t-paged-0", "t-paged-1", "t-paged-3", "t-paged-4"]),
        (Some("paged-a"), Some("paged-2"), None, vec![]),
        (Some("paged-a"), None, Some("az2"), vec![]),
    ] {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let filter = TopologyFilter { tenant: text(tenant), name: text(name), zone: text(zone) };
        let found = store.topologies(&filter, &PageRequest::default()).await.unwrap();
        assert_eq!(found.iter().map(|topology| topology.id.as_str()).collect::<Vec<_>>(), expect, "{filter:?}");
    }
}

pub(super) async fn deleted_as_it_was_seen(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "tds", 0).await;
    let (id, component) = (&world.topology.id, world.component.id.clone());
    let job = world.job(2, JobKind::Delete);
    let other = ("c-another".into(), 1);
    for wrong in [vec![], vec![(component.clone(), 2)], vec![(component.clone(), 1), other]] {
        let refused = store.delete_topology(id, &job, Some(&wrong)).await;
        assert!(matches!(refused, Err(StoreError::Conflict { what: "topology", .. })), "{wrong:?}: {refused:?}");
    }
    assert!(!store.topology(id).await.unwrap().unwrap().deleting);
    store.change_component(&world.component, 1, None).await.unwrap();
    assert!(is_conflict(&store.delete_topology(id, &job, Some(&[(component.clone(), 1)])).await));
    assert!(store.delete_topology(id, &job, Some(&[(component, 2)])).await.unwrap());
}

pub(super) async fn deleted_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "deleted", 1).await;
    let (first, second) = (world.job(2, JobKind::Delete), world.job(3, JobKind::Delete));
    assert!(is_missing(&store.delete_topology(&"nobody".into(), &first, None).await));
    assert!(is_duplicate(&store.delete_topology(&world.topology.id, &world.job(1, JobKind::Delete), None).await));
    assert!(!store.topology(&world.topology.id).await.unwrap().unwrap().deleting, "nothing of a refused call happens");
    assert!(store.delete_topology(&world.topology.id, &first, None).await.unwrap());
    assert!(!store.delete_topology(&world.topology.id, &second, None).await.unwrap());
    assert!(store.topology(&world.topology.id).await.unwrap().unwrap().deleting);
    assert_eq!(store.job(&second.id).await.unwrap(), None);
    assert_eq!(world.job_ids(true).await, std::slice::from_ref(&first.id));
    let ended = store.job(&"j-deleted-001".into()).await.unwrap().unwrap().ended.unwrap();
    assert_eq!((ended.standing, ended.at_ms, ended.document), (JobStanding::Superseded, first.created_ms, None));
    assert!(store.node(world.id(0)).await.unwrap().is_some(), "marking removes nothing");
}

pub(super) async fn forgotten_with_all_that_is_theirs(store: Arc<dyn Store>) {
    let (world, bystander) =
        (World::new(store.clone(), "forgotten", 2).await, World::new(store.clone(), "bystander", 1).await);
    for world in [&world, &bystander] {
        let incarnation = world.enrol(0, 50).await;
        store.put_assignment(&assignment(world.id(0), 1, ""), 0, 0, 1).await.unwrap();
        store
            .record_reports(world.id(0), incarnation, &[stage_report(1, 1, Stage::Install, "r")], &silent, 60)
            .await
            .unwrap();
        store.record_heartbeats(&[(world.id(0).clone(), 61, heartbeat(incarnation, "r", 1))]).await.unwrap();
    }
    store.add_join_token("hash-forgotten", world.id(1), 1_000).await.unwrap();
    let event =
        NewEvent { at_ms: 1, topology: world.topology.id.clone(), node: None, kind: "job", text: "x".to_owned() };
    store.add_events(&[event]).await.unwrap();
    let removal = world.job(2, JobKind::Delete);
    store.delete_topology(&world.topology.id, &removal, None).await.unwrap();
    let picture = serde_json::json!({"steps": [1, 2]});
    let pictures = [(removal.id.clone(), picture.clone()), ("j-bystander-001".into(), picture.clone())];
    store.forget_topology(&world.topology.id, 99, &pictures).await.unwrap();

    assert_eq!(store.topology(&world.topology.id).await.unwrap(), None);
    assert_eq!(store.component(&world.component.id).await.unwrap(), None);
    assert!(store.snapshot(&world.topology.id).await.unwrap().is_none());
    assert!(store.node(world.id(0)).await.unwrap().is_none());
    assert_eq!(store.assignment(world.id(0)).await.unwrap(), None);
    assert_eq!(store.enrol("hash-forgotten", "key", 2).await.unwrap(), EnrolOutcome::Unknown);
    assert!(is_missing(&store.record_reports(world.id(0), 1, &[], &silent, 1).await));
    assert!(store.node_index().await.unwrap().iter().all(|node| node.topology != world.topology.id));
    assert!(store.assignments().await.unwrap().iter().all(|assignment| assignment.node != *world.id(0)));
    let ended = store.job(&removal.id).await.unwrap().unwrap().ended.unwrap();
    assert_eq!((ended.standing, ended.at_ms, ended.document), (JobStanding::Succeeded, 99, Some(picture)));
    assert_eq!(world.job_ids(false).await.len(), 2, "jobs stay");
    assert_eq!(store.events(&world.topology.id, 0, 9).await.unwrap().len(), 1, "events stay");
    assert!(is_missing(&store.forget_topology(&world.topology.id, 100, &[]).await));

    let left = bystander.seen(0).await;
    assert!(left.heartbeat.is_some() && left.assigned.is_some() && left.stages.len() == 1);
    assert_eq!(store.job(&"j-bystander-001".into()).await.unwrap().unwrap().ended, None);
}

pub(super) async fn components_change_by_revision(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "changed", 0).await;
    let mut wanted = world.component.clone();
    wanted.spec.want.version = "3.9.0".to_owned();
    let (first, second, third) =
        (world.job(2, JobKind::Change), world.job(3, JobKind::Change), world.job(4, JobKind::Change));
    store.change_component(&wanted, 1, Some(&first)).await.unwrap();
    let seen = store.component(&wanted.id).await.unwrap().unwrap();
    assert_eq!((seen.revision, &seen.spec, &seen.name), (2, &wanted.spec, &wanted.name));
    wanted.spec.want.version = "lost".to_owned();
    assert!(is_conflict(&store.change_component(&wanted, 1, Some(&second)).await));
    assert_eq!(store.component(&wanted.id).await.unwrap().unwrap(), seen);
    assert_eq!(store.job(&second.id).await.unwrap(), None);
    store.change_component(&wanted, 2, Some(&third)).await.unwrap();
    // The open change is superseded; the open creation is not.
    assert_eq!(world.job_ids(true).await, [third.id.clone(), "j-changed-001".into()]);
    assert_eq!(store.job(&first.id).await.unwrap().unwrap().ended.unwrap().standing, JobStanding::Superseded);
    wanted.id = "nobody".into();
    assert!(is_missing(&store.change_component(&wanted, 3, Some(&second)).await));
    wanted.topology = "nobody".into();
    assert!(is_missing(&store.change_component(&wanted, 3, Some(&second)).await));
}

pub(super) async fn nothing_changes_while_deleting(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "closing", 0).await;
    let removal = world.job(2, JobKind::Delete);
    store.delete_topology(&world.topology.id, &removal, None).await.unwrap();
    assert!(is_conflict(&store.change_component(&world.component, 1, Some(&world.job(3, JobKind::Change))).await));
    assert_eq!(world.job_ids(true).await, [removal.id]);
}

pub(super) async fn snapshot_has_everything(store: Arc<dyn Store>) {
    let new = topology("snapshot");
    let components = [component(&new, "b", 1), component(&new, "a", 0)];
    let begun = job(&new, 1, JobKind::Create);
    store.create_topology(&new, &components, &begun).await.unwrap();
    let nodes: Vec<_> = (1..=4).rev().map(|ordinal| super::fixture::node(&components[0], ordinal)).collect();
    store.add_nodes(&nodes).await.unwrap();
    let world = World { store: store.clone(), topology: new.clone(), component: components[0].clone(), nodes };
    let incarnation = world.enrol(2, 50).await;
    store.put_assignment(&assignment(world.id(2), 1, ""), 0, 0, 1).await.unwrap();
    let reports = [stage_report(1, 1, Stage::Install, "r"), stage_report(2, 1, Stage::Validate, "r")];
    store.record_reports(world.id(2), incarnation, &reports, &silent, 60).await.unwrap();
    store.record_heartbeats(&[(world.id(2).clone(), 61, heartbeat(incarnation, "r", 1))]).await.unwrap();

    let seen = store.snapshot(&new.id).await.unwrap().unwrap();
    assert_eq!(seen.topology, new);
    assert_eq!(seen.components, [components[1].clone(), components[0].clone()]);
    assert_eq!(seen.jobs, [begun]);
    assert_eq!(seen.nodes.iter().map(|node| node.record.ordinal).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(seen.nodes[1], world.seen(2).await);
    assert_eq!(seen.nodes[1].stages.len(), 2);
    assert_eq!(seen.nodes[1].heartbeat, Some((heartbeat(incarnation, "r", 1), 61)));
    assert!(seen.nodes[0].stages.is_empty() && seen.nodes[0].heartbeat.is_none() && seen.nodes[0].assigned.is_none());
}

pub(super) async fn odd_texts_survive(store: Arc<dyn Store>) {
    let odd = "quote ' double \" back \\ percent % {} $1 ; -- \u{1F600} \u{202e} line\nbreak\ttab é";
    let mut new = topology("odd");
    new.tenant = odd.to_owned();
    let mut part = component(&new, "zk", 0);
    part.spec.want.version = format!("{odd}\0{odd}");
    let mut begun = job(&new, 1, JobKind::Create);
    begun.detail = format!("{odd}\0");
    store.create_topology(&new, std::slice::from_ref(&part), &begun).await.unwrap();
    assert_eq!(store.topologies(&TopologyFilter::of(Some(odd)), &PageRequest::default()).await.unwrap(), [new.clone()]);
    assert_eq!(store.component(&part.id).await.unwrap().unwrap(), part, "documents keep even U+0000");
    assert_eq!(store.job(&begun.id).await.unwrap().unwrap().detail, format!("{odd}\u{fffd}"), "texts replace it");
    assert_eq!(store.topology(&"a\0b".into()).await.unwrap(), None);
    assert_eq!(store.topology_by_name("odd\0", "az1").await.unwrap(), None);
    let large = serde_json::json!({"text": odd.repeat(1 << 14)});
    assert!(store.finish_job(&begun.id, JobStanding::Succeeded, 1, &large).await.unwrap());
    assert_eq!(store.job(&begun.id).await.unwrap().unwrap().ended.unwrap().document, Some(large));
}
