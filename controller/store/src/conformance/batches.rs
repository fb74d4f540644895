//! Guest commands: their output, what is pruned, batches, the numbers of changes, many at once.

use super::commands::end;
use super::fixture::{World, is_missing};
use crate::commands::{
    BatchRecord, COMMANDS_PER_NODE_MAX, CommandFilter, CommandRecord, OUTPUTS_PER_NODE_BYTES_MAX, Queued,
    TRIES_PER_OPERATION_MAX,
};
use crate::{PageRequest, Store};
use std::collections::BTreeSet;
use std::sync::Arc;
use straas_schemas::CommandId;
use straas_schemas::command::{COMMAND_OUTPUT_BYTES_MAX, CommandOutcome, CommandStanding};

pub(super) async fn output_has_no_gaps(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "go", 2).await;
    let [a, b] = [world.command(0, 1), world.command(0, 2)];
    world.queue(&[a.clone(), b.clone()]).await;
    let add = async |offset, bytes: &[u8]| store.append_output(world.id(0), &a.id, offset, bytes).await.unwrap();
    assert_eq!(store.output(&a.id, 0, 10).await.unwrap(), b"");
    assert_eq!(add(0, b"hello\0\xff").await, 7);
    assert_eq!(add(0, b"hello\0\xff").await, 7, "twice is once");
    assert_eq!(add(9, b"gap").await, 7, "go on from there");
    assert_eq!(add(5, b"\0\xff world").await, 13, "what is new of it");
    assert_eq!(add(13, b"").await, 13);
    assert_eq!(store.output(&a.id, 0, 100).await.unwrap(), b"hello\0\xff world");
    assert_eq!(store.output(&a.id, 6, 4).await.unwrap(), b"\xff wo");
    assert_eq!(store.output(&a.id, 7, 2).await.unwrap(), b" w");
    for beyond in [13, 14, u64::MAX] {
        assert_eq!(store.output(&a.id, beyond, 2).await.unwrap(), b"");
    }
    assert_eq!(store.output(&b.id, 0, 10).await.unwrap(), b"");
    assert!(is_missing(&store.append_output(world.id(1), &a.id, 0, b"x").await), "of another node");
    assert!(is_missing(&store.append_output(world.id(0), &"nobody".into(), 0, b"x").await));
    // up to the limit, then acknowledged and dropped
    let piece = vec![b'x'; 60_000];
    let mut next = 13;
    while next < COMMAND_OUTPUT_BYTES_MAX as u64 + 70_000 {
        next = add(next, &piece).await;
    }
    assert_eq!(add(u64::MAX, &piece).await, u64::MAX);
    let record = store.command(&a.id).await.unwrap().unwrap();
    assert_eq!(record.output_bytes, COMMAND_OUTPUT_BYTES_MAX as u64);
    assert_eq!(store.output(&a.id, 0, usize::MAX).await.unwrap().len(), COMMAND_OUTPUT_BYTES_MAX);
    assert_eq!(store.output(&a.id, 1_000_000, 1 << 20).await.unwrap().len(), COMMAND_OUTPUT_BYTES_MAX - 1_000_000);
}

pub(super) async fn pruned_per_node(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gp", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let many = COMMANDS_PER_NODE_MAX + 10;
    for number in 0..many {
        let command = world.command(0, number);
        world.queue(std::slice::from_ref(&command)).await;
        world.ended(0, incarnation, u64::from(number) + 1, &end(&command.id, CommandOutcome::Failed), 20).await;
    }
    let open = world.command(0, 0);
    let tries = TRIES_PER_OPERATION_MAX + 3;
    for attempt in 1..=tries {
        let command =
            CommandRecord { operation: Some(("leave".to_owned(), attempt)), ..world.command(0, 900 + attempt) };
        world.queue(std::slice::from_ref(&command)).await;
        world.ended(0, incarnation, u64::from(many + attempt), &end(&command.id, CommandOutcome::Failed), 20).await;
    }
    store.prune_commands(&[world.id(0).clone(), "nobody".into()]).await.unwrap();
    let filter = CommandFilter { node: Some(world.id(0).clone()), ..CommandFilter::default() };
    let left = store.commands(&filter, &PageRequest { after: None, limit: 1000 }).await.unwrap();
    let (operations, users): (Vec<_>, Vec<_>) = left.into_iter().partition(|record| record.operation.is_some());
    assert_eq!(operations.len(), TRIES_PER_OPERATION_MAX as usize);
    assert_eq!(users.len(), COMMANDS_PER_NODE_MAX as usize);
    assert!(users.iter().all(|record| record.id > world.command(0, 9).id), "the oldest went");
    assert_eq!(store.command(&open.id).await.unwrap(), None);
    // outputs: the newest stay within the limit
    let full = vec![b'x'; COMMAND_OUTPUT_BYTES_MAX];
    let kept = usize::try_from(OUTPUTS_PER_NODE_BYTES_MAX).unwrap() / full.len();
    for record in users.iter().take(kept + 2) {
        store.append_output(world.id(0), &record.id, 0, &full).await.unwrap();
    }
    store.prune_commands(&[world.id(0).clone()]).await.unwrap();
    for (at, record) in users.iter().take(kept + 2).enumerate() {
        let bytes = store.output(&record.id, 0, 10).await.unwrap().len();
        assert_eq!(bytes, if at < kept { 10 } else { 0 }, "{at}");
    }
}

fn batch(world: &World, concurrency: Option<u32>, max_errors: Option<u32>) -> BatchRecord {
    BatchRecord {
        id: format!("batch-{}", world.topology.name),
        tenant: world.topology.tenant.clone(),
        topology: world.topology.id.clone(),
        component: Some(world.component.id.clone()),
        command: "zk-cmd/x".to_owned(),
        concurrency,
        max_errors,
        by: "somebody".to_owned(),
        created_ms: 1_000,
        ended_ms: None,
    }
}

pub(super) async fn batches_go_forward_and_stop(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gbatch", 5).await;
    let batch = batch(&world, Some(2), Some(2));
    let commands: Vec<_> = (0..5)
        .map(|n| CommandRecord { batch: Some(batch.id.clone()), held: n >= 2, ..world.command(n as usize, n) })
        .collect();
    assert_eq!(store.queue_commands(&commands, Some(&batch)).await.unwrap(), Queued::New);
    assert_eq!(store.batch(&batch.id).await.unwrap(), Some(batch.clone()));
    assert_eq!(store.batch("nobody").await.unwrap(), None);
    assert!(store.open_batches().await.unwrap().contains(&batch.id));
    assert_eq!(store.advance_batch("nobody", 5).await.unwrap(), []);
    assert_eq!(store.advance_batch(&batch.id, 5).await.unwrap(), [], "two are on their way");
    assert!(store.waiting_commands(world.id(2)).await.unwrap().is_empty(), "held ones are not offered");
    let finish = async |at: usize, outcome| {
        let incarnation = world.enrol(at, 10).await;
        world.ended(at, incarnation, 1, &end(&commands[at].id, outcome), 20).await;
        let changed = store.advance_batch(&batch.id, 30).await.unwrap();
        changed.into_iter().map(|record| (record.id, record.standing)).collect::<Vec<_>>()
    };
    let id = |at: usize| commands[at].id.clone();
    assert_eq!(finish(1, CommandOutcome::Failed).await, [(id(2), CommandStanding::Queued)]);
    assert_eq!(store.waiting_commands(world.id(2)).await.unwrap().len(), 1);
    assert_eq!(store.advance_batch(&batch.id, 30).await.unwrap(), []);
    store.start_commands(&[(world.id(2).clone(), id(2))], 25).await.unwrap();
    // the second error stops it: those that have not begun are over, the one that runs goes on
    assert_eq!(
        finish(0, CommandOutcome::Unknown).await,
        [(id(3), CommandStanding::Cancelled), (id(4), CommandStanding::Cancelled)]
    );
    assert!(store.batch(&batch.id).await.unwrap().unwrap().ended_ms.is_none());
    assert_eq!(finish(2, CommandOutcome::Succeeded).await, []);
    assert_eq!(store.batch(&batch.id).await.unwrap().unwrap().ended_ms, Some(30));
    assert!(!store.open_batches().await.unwrap().contains(&batch.id));
}

pub(super) async fn changes_are_numbered(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "gn", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let since = store.last_command_change().await.unwrap();
    let [a, b] = [world.command(0, 1), world.command(0, 2)];
    let mut seen = (since, String::new());
    let mut news = async || {
        let mut ids = Vec::new();
        loop {
            let changes = store.command_changes((seen.0, &seen.1), 1).await.unwrap();
            let Some(last) = changes.last() else { return ids };
            seen = (last.number, last.id.to_string());
            ids.extend(changes.into_iter().map(|change| (change.id, change.standing)));
        }
    };
    world.queue(&[a.clone(), b.clone()]).await;
    let ours = |ids: Vec<(CommandId, CommandStanding)>| {
        let mine: BTreeSet<_> = [a.id.clone(), b.id.clone()].into();
        ids.into_iter().filter(|(id, _)| mine.contains(id)).collect::<Vec<_>>()
    };
    assert_eq!(ours(news().await), [(a.id.clone(), CommandStanding::Queued), (b.id.clone(), CommandStanding::Queued)]);
    assert_eq!(ours(news().await), []);
    store.start_commands(&[(world.id(0).clone(), b.id.clone())], 20).await.unwrap();
    store.cancel_command(&a.id, 20).await.unwrap();
    let mut changed = ours(news().await);
    changed.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(changed, [(a.id.clone(), CommandStanding::Cancelled), (b.id.clone(), CommandStanding::Running)]);
    world.ended(0, incarnation, 1, &end(&b.id, CommandOutcome::Succeeded), 30).await;
    assert_eq!(ours(news().await), [(b.id.clone(), CommandStanding::Succeeded)]);
}

/// Two controllers hear of the same start, end and cancel at once: one history comes out.
pub(super) async fn many_at_once(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store.clone(), "gm", 4).await);
    for at in 0..4 {
        world.enrol(at, 10).await;
    }
    let batch = batch(&world, Some(2), None);
    let commands: Vec<_> = (0..40)
        .map(|n| CommandRecord { batch: Some(batch.id.clone()), held: n >= 2, ..world.command(n as usize % 4, n) })
        .collect();
    store.queue_commands(&commands, Some(&batch)).await.unwrap();
    let tasks: Vec<_> = (0..4_usize)
        .map(|at| {
            let (world, batch, store) = (world.clone(), batch.id.clone(), store.clone());
            tokio::spawn(async move {
                let mut seq = 0;
                while store.batch(&batch).await.unwrap().unwrap().ended_ms.is_none() {
                    for command in store.waiting_commands(world.id(at)).await.unwrap() {
                        store.start_commands(&[(command.node.clone(), command.id.clone())], 20).await.unwrap();
                        let going = (0..4).map(|at| store.waiting_commands(world.id(at)));
                        let mut count = 0;
                        for waiting in going {
                            count += waiting.await.unwrap().len();
                        }
                        assert!(count <= 4, "at most two at one moment; read one after the other, few more");
                        seq += 1;
                        world.ended(at, 1, seq, &end(&command.id, CommandOutcome::Succeeded), 30).await;
                        store.advance_batch(&batch, 30).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let filter =
        CommandFilter { batch: Some(batch.id), standing: Some(CommandStanding::Succeeded), ..Default::default() };
    assert_eq!(store.commands(&filter, &PageRequest::default()).await.unwrap().len(), 40);
}
