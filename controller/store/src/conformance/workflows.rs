//! Changes of what runs: jobs of one component, changes taken back, components that come and go,
//! quarantine.

use super::fixture::{World, component, is_conflict, is_duplicate, is_missing, job};
use crate::{ComponentRecord, JobRecord, NodeSpec, QuarantineRecord, Reverted, RolloutSpec, Store, Undo};
use std::sync::Arc;
use straas_schemas::JobId;
use straas_schemas::job::{JobKind, JobStanding};

async fn standing(store: &Arc<dyn Store>, id: &JobId) -> Option<JobStanding> {
    store.job(id).await.unwrap().unwrap().ended.map(|ended| ended.standing)
}

pub(super) async fn jobs_supersede_those_of_their_component(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "own", 0).await;
    let second = component(&world.topology, "kf", 1);
    let creation = JobRecord { component: Some(second.id.clone()), ..job(&world.topology, 2, JobKind::Create) };
    store.add_component(&second, &creation).await.unwrap();
    let mut revisions = [1, 1];
    let mut number = 2;
    let mut begin = async |which: usize, kind: JobKind| {
        number += 1;
        let of = [&world.component, &second][which];
        let begun = JobRecord { component: Some(of.id.clone()), ..job(&world.topology, number, kind) };
        store.change_component(of, revisions[which], Some(&begun)).await.unwrap();
        revisions[which] += 1;
        begun.id
    };
    let upgrade = begin(0, JobKind::Upgrade).await;
    let other = begin(1, JobKind::Upgrade).await;
    let flexup = begin(0, JobKind::Flexup).await;
    let stop = begin(0, JobKind::Stop).await;
    let replace = begin(0, JobKind::Replace).await;
    let sync = begin(0, JobKind::Sync).await;
    assert_eq!(standing(&store, &upgrade).await, Some(JobStanding::Superseded));
    let flexdown = begin(0, JobKind::Flexdown).await;
    let restart = begin(0, JobKind::Restart).await;
    for ended in [&flexup, &stop] {
        assert_eq!(standing(&store, ended).await, Some(JobStanding::Superseded));
    }
    for open in [&other, &replace, &sync, &flexdown, &restart] {
        assert_eq!(standing(&store, open).await, None);
    }
    let removal = begin(0, JobKind::Remove).await;
    for ended in [&replace, &sync, &flexdown, &restart] {
        assert_eq!(standing(&store, ended).await, Some(JobStanding::Superseded));
    }
    for open in [&other, &creation.id, &world.job(1, JobKind::Create).id, &removal] {
        assert_eq!(standing(&store, open).await, None);
    }
    // a change without a job ends none
    store.change_component(&world.component, revisions[0], None).await.unwrap();
    assert_eq!(standing(&store, &removal).await, None);
    let deletion = world.job(99, JobKind::Delete);
    store.delete_topology(&world.topology.id, &deletion, None).await.unwrap();
    assert_eq!(world.job_ids(true).await, [deletion.id]);
}

pub(super) async fn the_whole_spec_is_kept(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "spec", 0).await;
    let mut wanted = world.component.clone();
    let before = wanted.spec.want.clone();
    wanted.spec.removed = true;
    wanted.spec.want.nodes.insert(
        "n1".into(),
        NodeSpec { stopped: true, restarts: 2, replacements: 3, scripts: Some("6".repeat(40)), files: Vec::new() },
    );
    wanted.spec.rollout = Some(RolloutSpec {
        job: "j".into(),
        before: Box::new(before),
        canary: true,
        max_failures: 4,
        paused: true,
        reverted: Some(Reverted { reason: "no \"good\"".to_owned(), by_user: true }),
    });
    let mut begun = world.job(2, JobKind::Change);
    begun.undo = Some(Undo::Stopped { nodes: [("n1".into(), false)].into() });
    store.change_component(&wanted, 1, Some(&begun)).await.unwrap();
    let kept = store.component(&wanted.id).await.unwrap().unwrap();
    assert_eq!(kept, ComponentRecord { revision: 2, ..wanted });
    assert_eq!(store.job(&begun.id).await.unwrap(), Some(begun.clone()));
    assert_eq!(store.snapshot(&world.topology.id).await.unwrap().unwrap().jobs.last(), Some(&begun));
}

pub(super) async fn a_job_is_taken_back_whole(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "back", 0).await;
    let flexup = world.job(2, JobKind::Flexup);
    let mut wanted = world.component.clone();
    wanted.spec.want.groups[0].size = 5;
    store.change_component(&wanted, 1, Some(&flexup)).await.unwrap();
    let flexdown = world.job(3, JobKind::Flexdown);
    let taken = store.take_back(&world.component, 1, &flexup.id, 50, Some(&flexdown)).await;
    assert!(is_conflict(&taken), "another revision");
    assert_eq!((standing(&store, &flexup.id).await, store.job(&flexdown.id).await.unwrap()), (None, None));
    store.take_back(&world.component, 2, &flexup.id, 50, Some(&flexdown)).await.unwrap();
    let ended = store.job(&flexup.id).await.unwrap().unwrap().ended.unwrap();
    assert_eq!((ended.standing, ended.at_ms), (JobStanding::Cancelled, 50), "cancelled, not superseded");
    assert_eq!(standing(&store, &flexdown.id).await, None);
    let again = store.take_back(&wanted, 3, &flexup.id, 51, None).await;
    assert!(is_conflict(&again), "it has ended");
    let kept = store.component(&wanted.id).await.unwrap().unwrap();
    assert_eq!((kept.revision, kept.spec), (3, world.component.spec.clone()), "nothing of a refused call happens");
    store.take_back(&wanted, 3, &flexdown.id, 52, None).await.unwrap();
    assert_eq!(standing(&store, &flexdown.id).await, Some(JobStanding::Cancelled));
    // every end is kept
    let picture = serde_json::json!({});
    let creation = world.job(1, JobKind::Create).id;
    assert!(store.finish_job(&creation, JobStanding::RolledBack, 60, &picture).await.unwrap());
    assert_eq!(standing(&store, &creation).await, Some(JobStanding::RolledBack));
}

pub(super) async fn components_come_and_go(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "come", 2).await;
    let second = component(&world.topology, "kf", 1);
    let creation = JobRecord { component: Some(second.id.clone()), ..job(&world.topology, 2, JobKind::Create) };
    store.add_component(&second, &creation).await.unwrap();
    assert!(is_duplicate(&store.add_component(&second, &job(&world.topology, 3, JobKind::Create)).await));
    let mut twin = component(&world.topology, "kf", 2);
    twin.id = "another".into();
    assert!(is_duplicate(&store.add_component(&twin, &job(&world.topology, 3, JobKind::Create)).await));
    assert!(
        is_duplicate(&store.add_component(&component(&world.topology, "kx", 2), &creation).await),
        "its job is known"
    );
    let mut lost = second.clone();
    lost.topology = "nobody".into();
    assert!(is_missing(&store.add_component(&lost, &job(&world.topology, 3, JobKind::Create)).await));
    let seen = store.snapshot(&world.topology.id).await.unwrap().unwrap();
    assert_eq!(seen.components, [world.component.clone(), second.clone()]);
    store.add_nodes(&[super::fixture::node(&second, 1)]).await.unwrap();
    store.add_join_token("come-token", world.id(0), 1_000).await.unwrap();

    store.forget_component(&world.component.id).await.unwrap();
    store.forget_component(&world.component.id).await.unwrap();
    let seen = store.snapshot(&world.topology.id).await.unwrap().unwrap();
    assert_eq!(seen.components, [second]);
    assert_eq!(seen.nodes.len(), 1, "the nodes of the other stay");
    assert!(store.node(world.id(0)).await.unwrap().is_none());
    assert_eq!(store.enrol("come-token", "key", 1).await.unwrap(), crate::EnrolOutcome::Unknown);
    assert_eq!(world.job_ids(true).await.len(), 2, "jobs stay, open ones too");
    store.delete_topology(&world.topology.id, &world.job(9, JobKind::Delete), None).await.unwrap();
    let late = component(&world.topology, "late", 3);
    assert!(is_conflict(&store.add_component(&late, &job(&world.topology, 10, JobKind::Create)).await));
}

pub(super) async fn quarantine_holds_until_released(store: Arc<dyn Store>) {
    let record = |what: &str, key: &str, reason: &str| QuarantineRecord {
        what: what.to_owned(),
        key: key.to_owned(),
        reason: reason.to_owned(),
        topology: "t-gone".into(),
        at_ms: 7,
    };
    let (version, scripts) = (record("version", "q-zookeeper@3.9", "it \0fell"), record("scripts", "q-abc", "x"));
    store.quarantine(&[version.clone(), scripts.clone()]).await.unwrap();
    store.quarantine(&[record("version", "q-zookeeper@3.9", "another reason")]).await.unwrap();
    store.quarantine(&[]).await.unwrap();
    let kept = async || {
        let all = store.quarantined().await.unwrap();
        all.into_iter().filter(|record| record.key.starts_with("q-")).collect::<Vec<_>>()
    };
    let version = QuarantineRecord { reason: "it \u{fffd}fell".to_owned(), ..version };
    assert_eq!(kept().await, [scripts.clone(), version], "by what and key; the first reason stays");
    assert!(store.release("version", "q-zookeeper@3.9").await.unwrap());
    assert!(!store.release("version", "q-zookeeper@3.9").await.unwrap());
    assert!(!store.release("version", "q-abc").await.unwrap());
    assert_eq!(kept().await, [scripts]);
    assert!(store.release("scripts", "q-abc").await.unwrap());
}
