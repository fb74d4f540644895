//! Nodes, hosts and assignments.

use super::fixture::{
    World, assignment, heartbeat, is_broken, is_conflict, is_missing, node, report, silent, stage_report,
};
use crate::{HostPhase, HostRecord, Store, Target};
use std::sync::Arc;
use straas_schemas::Stage;
use straas_schemas::report::ReportBody;

pub(super) async fn added_once_and_removed(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "nodes", 2).await;
    let incarnation = world.enrol(0, 10).await;
    assert_eq!(incarnation, 1);
    let mut again = world.nodes.clone();
    again[0].name = "another".to_owned();
    again.push(node(&world.component, 3));
    store.add_nodes(&again).await.unwrap();
    let seen = world.seen(0).await;
    assert_eq!((seen.record, seen.incarnation), (world.nodes[0].clone(), 1), "one that exists is left as it is");
    let fresh = store.node(&again[2].id).await.unwrap().unwrap();
    assert_eq!((fresh.incarnation, fresh.enrolled_ms, fresh.converged_generation), (0, None, 0));
    assert_eq!((fresh.host, fresh.assigned, fresh.refused, fresh.heartbeat), (HostRecord::default(), None, None, None));
    let ours = store.node_index().await.unwrap().into_iter().filter(|node| node.topology == world.topology.id);
    assert_eq!(ours.map(|node| node.incarnation).collect::<Vec<_>>(), [1, 0, 0]);
    store.put_assignment(&assignment(world.id(0), 1, ""), 0, 0, 1).await.unwrap();
    store.remove_nodes(&[world.id(0).clone(), "nobody".into()]).await.unwrap();
    store.remove_nodes(&[world.id(0).clone()]).await.unwrap();
    assert!(store.node(world.id(0)).await.unwrap().is_none());
    assert_eq!(store.assignment(world.id(0)).await.unwrap(), None);
    assert_eq!(store.snapshot(&world.topology.id).await.unwrap().unwrap().nodes.len(), 2);
    store.add_nodes(&[]).await.unwrap();
    store.remove_nodes(&[]).await.unwrap();
    // A node recorded anew begins from nothing.
    store.add_nodes(&world.nodes).await.unwrap();
    assert_eq!(world.seen(0).await.incarnation, 0);
    store.put_assignment(&assignment(world.id(0), 1, ""), 0, 1, 1).await.unwrap();
}

pub(super) async fn orphans_are_refused(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "orphans", 0).await;
    let good = node(&world.component, 1);
    let mut orphan = node(&world.component, 2);
    orphan.component = "nobody".into();
    assert!(is_missing(&store.add_nodes(&[good.clone(), orphan]).await));
    assert!(store.node(&good.id).await.unwrap().is_none(), "none of a refused batch is recorded");
}

pub(super) async fn hosts_are_written(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "hosts", 1).await;
    let failed = HostRecord {
        phase: HostPhase::Failed,
        error: Some("no \"room\"".to_owned()),
        attempt: 3,
        next_ms: Some(i64::MAX),
        number: 7,
        changed_ms: 5,
        ..HostRecord::default()
    };
    world.host(0, &failed).await;
    assert_eq!(world.seen(0).await.host, failed);
    let up = HostRecord {
        phase: HostPhase::Up,
        address: Some("10.77.0.11".to_owned()),
        number: 8,
        changed_ms: 6,
        ..HostRecord::default()
    };
    world.host(0, &up).await;
    world.enrol(0, 10).await;
    assert_eq!(world.seen(0).await.host, up, "the provider observed it, not the earlier agent");
    world.host(0, &HostRecord { error: Some("a\0b".to_owned()), ..up }).await;
    assert_eq!(world.seen(0).await.host.error.unwrap(), "a\u{fffd}b");
    let lease = store.take_lease("host/nobody", "hosts", 0, 1).await.unwrap().expect("free");
    assert!(is_missing(&store.set_host(&"nobody".into(), &failed, &lease).await));
}

pub(super) async fn another_host_is_another_incarnation(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "another", 2).await;
    let up = |number| HostRecord { phase: HostPhase::Up, number, ..HostRecord::default() };
    world.host(1, &up(1)).await;
    assert_eq!(world.seen(1).await.incarnation, 0, "nobody had enrolled");
    let first = world.enrol(0, 10).await;
    let reports = [stage_report(1, 1, Stage::Install, "old"), report(2, ReportBody::Converged { generation: 3 })];
    store.record_reports(world.id(0), first, &reports, &silent, 20).await.unwrap();
    store.record_heartbeats(&[(world.id(0).clone(), 30, heartbeat(first, "r", 1))]).await.unwrap();
    store.put_assignment(&assignment(world.id(0), 1, ""), 0, 0, 1).await.unwrap();
    world.host(0, &up(0)).await;
    assert_eq!((world.seen(0).await.incarnation, world.seen(0).await.stages.len()), (first, 1), "the same host");
    world.host(0, &up(1)).await;
    let seen = world.seen(0).await;
    assert_eq!((seen.incarnation, seen.enrolled_ms, seen.converged_generation), (first + 1, None, 0));
    assert!(seen.stages.is_empty() && seen.heartbeat.is_none() && seen.assigned.is_some());
    assert!(
        is_conflict(&store.record_reports(world.id(0), first, &reports, &silent, 40).await),
        "the earlier agent is out"
    );
    assert_eq!(world.enrol(0, 50).await, first + 2);
    assert_eq!(store.record_reports(world.id(0), first + 2, &reports, &silent, 60).await.unwrap().len(), 2);
}

pub(super) async fn of_a_host_that_is_gone_nothing_comes_back(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gone", 2).await;
    let up = HostRecord { phase: HostPhase::Up, address: Some("10.0.0.1".to_owned()), ..HostRecord::default() };
    world.host(0, &up).await;
    let first = world.enrol(0, 10).await;
    let reports = [stage_report(1, 1, Stage::Install, "old"), report(2, ReportBody::Converged { generation: 3 })];
    store.record_reports(world.id(0), first, &reports, &silent, 20).await.unwrap();
    store.record_heartbeats(&[(world.id(0).clone(), 30, heartbeat(first, "r", 1))]).await.unwrap();
    let down = HostRecord { phase: HostPhase::Absent, ..up.clone() };
    let stuck = HostRecord { phase: HostPhase::Failed, error: Some("no".to_owned()), ..up.clone() };
    for same in [&down, &stuck, &up] {
        world.host(0, same).await;
        let seen = world.seen(0).await;
        assert_eq!(
            (seen.incarnation, seen.converged_generation, seen.stages.len()),
            (first, 3, 1),
            "it is the same host"
        );
    }
    for _ in 0..2 {
        world.host(0, &HostRecord::default()).await;
        let seen = world.seen(0).await;
        assert_eq!((seen.incarnation, seen.enrolled_ms, seen.converged_generation), (first + 1, None, 0), "once");
        assert!(seen.stages.is_empty() && seen.heartbeat.is_none());
    }
    // one is made again under the same number: it has not worked
    world.host(0, &up).await;
    let seen = world.seen(0).await;
    assert_eq!((seen.incarnation, seen.enrolled_ms, seen.converged_generation), (first + 1, None, 0));
    assert!(
        is_conflict(&store.record_reports(world.id(0), first, &reports, &silent, 40).await),
        "the earlier agent is out"
    );
    assert_eq!(world.enrol(0, 50).await, first + 2);
    // of a node whose agent never enrolled there is nothing to clear
    world.host(1, &up).await;
    world.host(1, &HostRecord::default()).await;
    assert_eq!(world.seen(1).await.incarnation, 0);
}

pub(super) async fn what_has_a_host_is_not_forgotten(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "hosted", 2).await;
    for phase in [HostPhase::Up, HostPhase::Failed] {
        world.host(0, &HostRecord { phase, ..HostRecord::default() }).await;
        store.remove_nodes(&[world.id(0).clone()]).await.unwrap();
        assert_eq!(world.seen(0).await.host.phase, phase, "it stays");
        assert!(is_conflict(&store.forget_component(&world.component.id).await));
        assert!(is_conflict(&store.forget_topology(&world.topology.id, 1, &[]).await));
        assert_eq!(store.snapshot(&world.topology.id).await.unwrap().unwrap().nodes.len(), 2, "nothing of it went");
    }
    world.host(0, &HostRecord::default()).await;
    store.remove_nodes(&[world.id(0).clone()]).await.unwrap();
    assert!(store.node(world.id(0)).await.unwrap().is_none());
    store.forget_component(&world.component.id).await.unwrap();
    store.forget_topology(&world.topology.id, 1, &[]).await.unwrap();
}

pub(super) async fn assignments_swap_by_generation(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "assigned", 2).await;
    let of = |generation, text| assignment(world.id(0), generation, text);
    assert_eq!(store.assignment(world.id(0)).await.unwrap(), None);
    assert!(is_broken(&store.put_assignment(&of(2, "gap"), 0, 0, 1).await));
    assert!(is_broken(&store.put_assignment(&of(0, "zero"), 0, 0, 1).await));
    assert!(is_conflict(&store.put_assignment(&of(2, "early"), 1, 0, 1).await));
    store.put_assignment(&of(1, "first"), 0, 0, 1).await.unwrap();
    assert!(is_conflict(&store.put_assignment(&of(1, "second first"), 0, 1, 1).await));
    store.put_assignment(&of(2, "second"), 1, 1, 1).await.unwrap();
    assert!(is_conflict(&store.put_assignment(&of(2, "late"), 1, 2, 1).await));
    let stored = store.assignment(world.id(0)).await.unwrap().unwrap();
    let wanted = of(2, "second");
    assert_eq!((stored.generation, &stored.digest), (2, &wanted.content_digest()));
    assert_eq!(stored.document, serde_json::to_string(&wanted).unwrap());
    assert_eq!(world.seen(0).await.assigned, Some((2, wanted.content_digest())));
    let ours = store.assignments().await.unwrap().into_iter().filter(|one| one.node == *world.id(0));
    assert_eq!(ours.collect::<Vec<_>>(), [stored]);
    assert_eq!(store.assignment(world.id(1)).await.unwrap(), None);
    for (generation, expected) in [(1, 0), (2, 1)] {
        assert!(is_missing(&store.put_assignment(&assignment(&"nobody".into(), generation, ""), expected, 0, 1).await));
    }
}

pub(super) async fn a_plan_holds_while_no_other_assignment_was_written(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "planned", 2).await;
    let elsewhere = World::new(store.clone(), "planned-elsewhere", 1).await;
    let writes = async || store.snapshot(&world.topology.id).await.unwrap().unwrap().writes;
    let first = |at: usize| assignment(world.id(at), 1, "x");
    // two plans of one moment are about different nodes: the one that comes later was made without the other
    assert_eq!(writes().await, 0);
    store.put_assignment(&first(0), 0, 0, 1).await.unwrap();
    assert!(is_conflict(&store.put_assignment(&first(1), 0, 0, 1).await));
    assert_eq!((store.assignment(world.id(1)).await.unwrap(), writes().await), (None, 1));
    // what is written for another topology is nothing to it
    store.put_assignment(&assignment(elsewhere.id(0), 1, "x"), 0, 0, 1).await.unwrap();
    store.put_assignment(&first(1), 0, 1, 1).await.unwrap();
    assert_eq!(writes().await, 2);
    // one that is refused for its generation does not count
    assert!(is_conflict(&store.put_assignment(&first(1), 0, 2, 1).await));
    assert_eq!(writes().await, 2);
}

pub(super) async fn large_assignments(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "large", 1).await;
    let text = "é\"\\\u{1F600}\0".repeat(1 << 17);
    let wanted = assignment(world.id(0), 1, &text);
    store.put_assignment(&wanted, 0, 0, 1).await.unwrap();
    let stored = store.assignment(world.id(0)).await.unwrap().unwrap();
    assert!(stored.document.len() > 1 << 20);
    assert_eq!(serde_json::from_str::<straas_schemas::Assignment>(&stored.document).unwrap(), wanted);
}

pub(super) async fn listed_in_bytewise_order(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "ordered", 0).await;
    let order = ["A-2", "A1", "B", "a-1", "a1", "b", "ä"];
    let nodes = order.iter().rev().map(|id| {
        let mut node = node(&world.component, 1);
        node.id = (*id).into();
        node
    });
    store.add_nodes(&nodes.collect::<Vec<_>>()).await.unwrap();
    let seen = store.snapshot(&world.topology.id).await.unwrap().unwrap().nodes;
    assert_eq!(
        seen.iter().map(|node| node.record.id.as_str()).collect::<Vec<_>>(),
        order,
        "whatever the database's locale"
    );
}

pub(super) async fn nodes_with_addresses_are_targets(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "targets", 2).await;
    World::new(store.clone(), "targets-other", 1).await;
    let up = HostRecord { phase: HostPhase::Up, address: Some("10.1.2.3".to_owned()), ..HostRecord::default() };
    world.host(1, &up).await;
    let expect = Target {
        node: world.id(1).clone(),
        name: world.nodes[1].name.clone(),
        role: world.nodes[1].role.clone(),
        address: "10.1.2.3".to_owned(),
        component: world.component.name.clone(),
        topology: world.topology.name.clone(),
        zone: world.topology.zone.clone(),
        tenant: world.topology.tenant.clone(),
    };
    assert_eq!(store.targets(Some(&world.topology.tenant)).await.unwrap(), std::slice::from_ref(&expect));
    assert_eq!(store.targets(Some("tenant-targets-other")).await.unwrap(), []);
    assert!(store.targets(None).await.unwrap().contains(&expect));
}
