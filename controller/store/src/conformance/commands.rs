//! Guest commands: queued in bounds, ended once, by report or by assumption.

use super::fixture::{World, is_missing, report, silent};
use crate::commands::{COMMAND_AGE_MS_MAX, Cancelled, CommandFilter, CommandRecord, Queued};
use crate::{PageRequest, Store};
use serde_json::json;
use std::sync::Arc;
use straas_schemas::command::{COMMANDS_WAITING_MAX, CommandEnd, CommandOutcome, CommandStanding};
use straas_schemas::report::ReportBody;
use straas_schemas::{CommandId, Digest, FileRef};

impl World {
    /// A command of this world that is not queued yet.
    pub(super) fn command(&self, at: usize, number: u32) -> CommandRecord {
        let args = json!({ "name": "a\"b\u{0}é", "count": 3 });
        CommandRecord {
            id: format!("g-{}-{number:05}", self.topology.name).into(),
            batch: None,
            operation: None,
            tenant: self.topology.tenant.clone(),
            topology: self.topology.id.clone(),
            component: self.component.id.clone(),
            node: self.id(at).clone(),
            node_name: self.nodes[at].name.clone(),
            command: "zk-cmd/create-namespace".to_owned(),
            args: args.as_object().cloned().unwrap(),
            files: vec![FileRef { path: "x.jar".to_owned(), sha256: Digest::of(&["x"]), size: 3, mode: 0o600 }],
            timeout_s: 30,
            idempotent: false,
            by: "somebody".to_owned(),
            created_ms: 1_000 + i64::from(number),
            deadline_ms: 100_000,
            standing: CommandStanding::Queued,
            held: false,
            cancelling: false,
            started_ms: None,
            ended_ms: None,
            end: None,
            assumed: false,
            output_bytes: 0,
        }
    }

    pub(super) async fn queue(&self, commands: &[CommandRecord]) {
        assert_eq!(self.store.queue_commands(commands, None).await.unwrap(), Queued::New);
    }

    async fn standing(&self, id: &CommandId) -> CommandStanding {
        self.store.command(id).await.unwrap().unwrap().standing
    }

    pub(super) async fn ended(&self, at: usize, incarnation: u64, seq: u64, end: &CommandEnd, now_ms: i64) {
        let report = report(seq, ReportBody::Command(end.clone()));
        self.store.record_reports(self.id(at), incarnation, &[report], &silent, now_ms).await.unwrap();
    }
}

/// The end of a command as its node reports it.
pub(super) fn end(id: &CommandId, outcome: CommandOutcome) -> CommandEnd {
    CommandEnd {
        id: id.clone(),
        outcome,
        exit_code: Some(0),
        reason: "why\0".to_owned(),
        hint: Some("do".to_owned()),
        duration_ms: 5,
        result: json!({ "a": [1, "\u{0}"] }).as_object().cloned().unwrap(),
        output_bytes: 7,
    }
}

pub(super) async fn queued_and_read(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gq", 2).await;
    let [a, b] = [world.command(0, 1), world.command(1, 2)];
    assert_eq!(store.queue_commands(&[], None).await.unwrap(), Queued::New);
    world.queue(&[a.clone(), b.clone()]).await;
    assert_eq!(store.command(&a.id).await.unwrap(), Some(a.clone()));
    assert_eq!(store.command(&"nobody\0".into()).await.unwrap(), None);
    // what is known is left as it is
    world.queue(&[CommandRecord { timeout_s: 9, ..a.clone() }]).await;
    assert_eq!(store.waiting_commands(&a.node).await.unwrap(), std::slice::from_ref(&a));
    // none if one of the nodes is gone
    let gone = CommandRecord { node: "nobody".into(), ..world.command(0, 3) };
    assert!(is_missing(&store.queue_commands(&[world.command(0, 4), gone], None).await));
    assert_eq!(store.command(&world.command(0, 4).id).await.unwrap(), None);
    let operation = CommandRecord { operation: Some(("join a".to_owned(), 1)), ..world.command(0, 5) };
    world.queue(std::slice::from_ref(&operation)).await;
    let seen = store.snapshot(&world.topology.id).await.unwrap().unwrap();
    assert_eq!(seen.operations, std::slice::from_ref(&operation));
    let next = CommandRecord { operation: Some(("join a".to_owned(), 2)), ..world.command(1, 6) };
    let other = CommandRecord { operation: Some(("join b".to_owned(), 10)), ..world.command(1, 7) };
    world.queue(&[next.clone(), other.clone()]).await;
    assert_eq!(store.snapshot(&world.topology.id).await.unwrap().unwrap().operations, [next, other]);
}

pub(super) async fn listed_newest_first(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gl", 2).await;
    let all: Vec<_> = (0..9).map(|n| world.command(n as usize % 2, n)).collect();
    world.queue(&all).await;
    let mine = CommandFilter { tenant: Some(world.topology.tenant.clone()), ..CommandFilter::default() };
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store.commands(&mine, &PageRequest { after: after.clone(), limit: 4 }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.marker());
        pages.extend(page);
    }
    let newest: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(pages, newest);
    let page = PageRequest::default();
    let filters = [
        (CommandFilter { node: Some(world.id(0).clone()), ..mine.clone() }, 5),
        (CommandFilter { component: Some(world.component.id.clone()), ..CommandFilter::default() }, 9),
        (CommandFilter { topology: Some(world.topology.id.clone()), ..CommandFilter::default() }, 9),
        (CommandFilter { topology: Some("nobody".into()), ..mine.clone() }, 0),
        (
            CommandFilter {
                tenant: Some("nobody".to_owned()),
                node: Some(world.id(0).clone()),
                ..CommandFilter::default()
            },
            0,
        ),
        (CommandFilter { standing: Some(CommandStanding::Queued), ..mine.clone() }, 9),
        (CommandFilter { standing: Some(CommandStanding::Failed), ..mine.clone() }, 0),
        (CommandFilter { command: Some("nobody/runs".to_owned()), ..mine.clone() }, 0),
        (CommandFilter { batch: Some("nobody".to_owned()), ..mine.clone() }, 0),
    ];
    for (filter, count) in filters {
        assert_eq!(store.commands(&filter, &page).await.unwrap().len(), count, "{filter:?}");
    }
    for marker in ["x", "", "1.2.3", "x.y", "9999999999999999999999.a"] {
        let page = PageRequest { after: Some(marker.to_owned()), limit: 4 };
        store.commands(&mine, &page).await.unwrap();
    }
    assert!(!store.commands(&CommandFilter::default(), &page).await.unwrap().is_empty());
}

pub(super) async fn queues_are_bounded(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gb", 2).await;
    let most = u32::try_from(COMMANDS_WAITING_MAX).unwrap();
    let all: Vec<_> = (0..most).map(|number| world.command(0, number)).collect();
    let over = [all.clone(), vec![world.command(1, 900), world.command(0, 901)]].concat();
    let full = Queued::Full(world.id(0).clone());
    assert_eq!(store.queue_commands(&over, None).await.unwrap(), full);
    assert!(store.waiting_commands(world.id(0)).await.unwrap().is_empty(), "all or none");
    world.queue(&all).await;
    let more = [world.command(0, 902)];
    assert_eq!(store.queue_commands(&more, None).await.unwrap(), full);
    // an operation comes through
    world.queue(&[CommandRecord { operation: Some(("o".to_owned(), 1)), ..world.command(0, 903) }]).await;
    world.queue(&[world.command(1, 904)]).await;
    store.cancel_command(&all[0].id, 5).await.unwrap();
    assert_eq!(store.queue_commands(&more, None).await.unwrap(), Queued::New);
}

pub(super) async fn started_and_ended_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "ge", 2).await;
    let incarnation = world.enrol(0, 10).await;
    let [a, b] = [world.command(0, 1), world.command(0, 2)];
    world.queue(&[a.clone(), b.clone()]).await;
    let named = [(world.id(1).clone(), a.id.clone()), (world.id(0).clone(), "nobody".into())];
    assert_eq!(store.start_commands(&named, 50).await.unwrap(), [], "another node does not have it");
    assert_eq!(store.start_commands(&[], 50).await.unwrap(), []);
    let named = [(world.id(0).clone(), a.id.clone()), (world.id(0).clone(), a.id.clone())];
    let started = store.start_commands(&named, 50).await.unwrap();
    assert_eq!((started.len(), started[0].standing, started[0].started_ms), (1, CommandStanding::Running, Some(50)));
    assert_eq!(store.start_commands(&named, 60).await.unwrap(), [], "once");
    // ended in the same transaction as the report
    let good = end(&a.id, CommandOutcome::Succeeded);
    world.ended(0, incarnation, 1, &good, 70).await;
    let record = store.command(&a.id).await.unwrap().unwrap();
    assert_eq!((record.standing, record.ended_ms, record.started_ms), (CommandStanding::Succeeded, Some(70), Some(50)));
    assert_eq!((record.end, record.assumed), (Some(good.clone()), false));
    // a second end, a late start, another node's report change nothing
    world.ended(0, incarnation, 2, &end(&a.id, CommandOutcome::Failed), 80).await;
    assert_eq!(store.start_commands(&named, 90).await.unwrap(), []);
    let other = world.enrol(1, 10).await;
    world.ended(1, other, 1, &end(&b.id, CommandOutcome::Failed), 80).await;
    world.ended(0, incarnation, 3, &end(&"nobody".into(), CommandOutcome::Failed), 80).await;
    assert_eq!(store.command(&a.id).await.unwrap().unwrap().end, Some(good));
    assert_eq!(world.standing(&b.id).await, CommandStanding::Queued);
    // an end without a start: it began when it must have begun
    world.ended(0, incarnation, 4, &end(&b.id, CommandOutcome::Failed), 95).await;
    assert_eq!(store.command(&b.id).await.unwrap().unwrap().started_ms, Some(90));
    assert!(store.waiting_commands(world.id(0)).await.unwrap().is_empty());
}

pub(super) async fn assumptions_give_way_to_the_truth(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "ga", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let all: Vec<_> = (0..4).map(|number| world.command(0, number)).collect();
    world.queue(&all).await;
    assert_eq!(store.next_deadline().await.unwrap(), Some(100_000));
    let named = |at: usize| [(world.id(0).clone(), all[at].id.clone())];
    store.start_commands(&named(3), 20).await.unwrap();
    assert!(mine(&world, store.settle_commands(100_004, 5).await.unwrap()).is_empty(), "the grace is not over");
    let ended = mine(&world, store.settle_commands(100_005, 5).await.unwrap());
    assert_eq!(ended.len(), 3, "what runs is not overdue");
    for record in &ended {
        let end = record.end.as_ref().unwrap();
        assert_eq!(
            (record.standing, end.outcome, record.assumed),
            (CommandStanding::Expired, CommandOutcome::Expired, true)
        );
        assert!(record.ended_ms == Some(100_005) && end.reason.contains("deadline"));
    }
    assert!(mine(&world, store.settle_commands(100_006, 5).await.unwrap()).is_empty());
    // the node turns out to have it
    let running = store.start_commands(&named(0), 200_000).await.unwrap();
    assert_eq!((running[0].standing, &running[0].end, running[0].ended_ms), (CommandStanding::Running, &None, None));
    // the node says how it ended; then that is final
    world.ended(0, incarnation, 1, &end(&all[1].id, CommandOutcome::Succeeded), 200_000).await;
    assert_eq!(world.standing(&all[1].id).await, CommandStanding::Succeeded);
    assert_eq!(store.start_commands(&named(1), 200_001).await.unwrap(), []);
}

/// What is of this world: the store may hold others.
fn mine(world: &World, records: Vec<CommandRecord>) -> Vec<CommandRecord> {
    records.into_iter().filter(|record| record.topology == world.topology.id).collect()
}

pub(super) async fn cancelled_at_once_or_by_the_agent(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gc", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let [a, b] = [world.command(0, 1), world.command(0, 2)];
    world.queue(&[a.clone(), b.clone()]).await;
    store.start_commands(&[(world.id(0).clone(), b.id.clone())], 20).await.unwrap();
    let Cancelled::Wanted(queued) = store.cancel_command(&a.id, 30).await.unwrap() else { panic!() };
    assert_eq!((queued.standing, queued.assumed, queued.cancelling), (CommandStanding::Cancelled, true, true));
    let Cancelled::Wanted(running) = store.cancel_command(&b.id, 30).await.unwrap() else { panic!() };
    assert_eq!((running.standing, running.cancelling), (CommandStanding::Running, true));
    assert!(matches!(store.cancel_command(&b.id, 31).await.unwrap(), Cancelled::Wanted(_)), "twice is the same");
    assert_eq!(store.cancel_command(&a.id, 31).await.unwrap(), Cancelled::Ended(queued));
    assert_eq!(store.cancel_command(&"nobody".into(), 31).await.unwrap(), Cancelled::Unknown);
    assert_eq!(store.waiting_commands(world.id(0)).await.unwrap(), [running]);
    // the agent had taken the first one: it runs, and is still to be ended
    store.start_commands(&[(world.id(0).clone(), a.id.clone())], 40).await.unwrap();
    let waiting = store.waiting_commands(world.id(0)).await.unwrap();
    assert!(waiting.len() == 2 && waiting.iter().all(|command| command.cancelling));
    world.ended(0, incarnation, 1, &end(&a.id, CommandOutcome::Cancelled), 50).await;
    assert!(!store.command(&a.id).await.unwrap().unwrap().assumed);
}

pub(super) async fn what_a_lost_agent_may_have_run_is_unknown(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gu", 2).await;
    let all: Vec<_> = (0..4).map(|number| world.command(0, number)).collect();
    let twice = CommandRecord { idempotent: true, ..world.command(0, 5) };
    let held = CommandRecord { held: true, ..world.command(0, 6) };
    world.queue(&[all.clone(), vec![twice.clone(), held.clone()]].concat()).await;
    assert_eq!(world.enrol(0, 10).await, 1);
    assert_eq!(store.waiting_commands(world.id(0)).await.unwrap().len(), 5, "nobody had them before the first");
    store.start_commands(&[(world.id(0).clone(), all[0].id.clone())], 20).await.unwrap();
    world.ended(0, 1, 1, &end(&all[1].id, CommandOutcome::Succeeded), 20).await;
    assert_eq!(world.enrol(0, 30).await, 2);
    let standings = async |expect: [CommandStanding; 6]| {
        let ids = all.iter().chain([&twice, &held]).map(|command| &command.id);
        for (id, expect) in ids.zip(expect) {
            assert_eq!(world.standing(id).await, expect, "{id}");
        }
    };
    use CommandStanding::{Queued as Q, Succeeded as S, Unknown as U};
    standings([U, S, U, U, Q, Q]).await;
    assert!(store.command(&all[0].id).await.unwrap().unwrap().end.unwrap().reason.contains("enrolled"));
    // a lost journal
    let [more, running] = [world.command(0, 7), CommandRecord { idempotent: true, ..world.command(0, 8) }];
    world.queue(&[more.clone(), running.clone()]).await;
    store.start_commands(&[(world.id(0).clone(), running.id.clone())], 40).await.unwrap();
    let lost = report(1, ReportBody::LedgerLost { reason: "torn".to_owned() });
    store.record_reports(world.id(0), 2, &[lost], &silent, 50).await.unwrap();
    assert_eq!((world.standing(&more.id).await, world.standing(&running.id).await), (U, U));
    standings([U, S, U, U, Q, Q]).await;
}

pub(super) async fn a_removed_node_ends_its_commands(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gr", 3).await;
    world.queue(&[world.command(0, 1), world.command(0, 2), world.command(1, 3)]).await;
    store.start_commands(&[(world.id(0).clone(), world.command(0, 2).id)], 20).await.unwrap();
    store.remove_nodes(std::slice::from_ref(world.id(0))).await.unwrap();
    let ended = mine(&world, store.settle_commands(30, 5).await.unwrap());
    let standings: Vec<_> = ended.iter().map(|record| record.standing).collect();
    assert_eq!(standings, [CommandStanding::Expired, CommandStanding::Unknown]);
    store.forget_topology(&world.topology.id, 40, &[]).await.unwrap();
    let ended = mine(&world, store.settle_commands(50, 5).await.unwrap());
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].end.as_ref().unwrap().reason, "its node was removed");
    // what was done stays known, for a time
    let filter = CommandFilter { topology: Some(world.topology.id.clone()), ..CommandFilter::default() };
    assert_eq!(store.commands(&filter, &PageRequest::default()).await.unwrap().len(), 3);
    store.settle_commands(31 + COMMAND_AGE_MS_MAX, i64::MAX).await.unwrap();
    assert_eq!(store.commands(&filter, &PageRequest::default()).await.unwrap().len(), 1);
}
