//! Prints what the store takes for what there is most of: heartbeats in full batches, single
//! reports, and the snapshot of a topology of 1,000 nodes; and a rollout over 5,000 components.
//!
//! `cargo run --release -p straas-store --example bench`. Figures for people to compare, never a
//! test: nothing here fails because a machine is slow.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/support/temp_pg.rs"]
mod temp_pg;

use std::sync::Arc;
use std::time::{Duration, Instant};
use straas_schemas::rollout::{FleetMemberPhase, FleetRolloutKind};
use straas_schemas::{ComponentId, Stage};
use straas_store::conformance::{World, heartbeat, rollout, silent, stage_report};
use straas_store::{HEARTBEAT_BATCH_MAX, MemoryStore, SqlStore, Store};

const NODES: usize = 1_000;
const BATCHES: usize = 100;
const REPORTS: u64 = 1_000;
const WRITERS: usize = 8;
const SNAPSHOTS: u32 = 20;
const MEMBERS: usize = 5_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(".")?;
    let server = temp_pg::TempPg::start()?;
    measure("memory", Arc::new(MemoryStore::new())).await;
    measure("SQLite", Arc::new(SqlStore::connect(&format!("sqlite:{}/bench.db", dir.path().display())).await?)).await;
    measure("PostgreSQL", Arc::new(SqlStore::connect(&server.create_database("bench").await?).await?)).await;
    Ok(())
}

async fn measure(name: &str, store: Arc<dyn Store>) {
    let start = Instant::now();
    let world = World::new(store.clone(), "bench", u32::try_from(NODES).unwrap()).await;
    for at in 0..NODES {
        world.enrol(at, 10).await;
    }
    println!("{name}: {NODES} nodes recorded and enrolled in {:.0?}", start.elapsed());

    let (start, cpu) = (Instant::now(), processor_time());
    for round in 0..BATCHES {
        let beats: Vec<_> = (0..HEARTBEAT_BATCH_MAX)
            .map(|at| {
                let id = world.id((round * HEARTBEAT_BATCH_MAX + at) % NODES).clone();
                (id, i64::try_from(round).unwrap(), heartbeat(1, "run", u64::try_from(round).unwrap()))
            })
            .collect();
        store.record_heartbeats(&beats).await.unwrap();
    }
    let (took, cpu) = (start.elapsed(), processor_time().saturating_sub(cpu));
    let each = cpu / u32::try_from(BATCHES * HEARTBEAT_BATCH_MAX).unwrap();
    println!(
        "{name}: {} heartbeats/s, a batch of {HEARTBEAT_BATCH_MAX} in {:.1?}, {each:.1?} of this process's CPU each",
        per_second(BATCHES * HEARTBEAT_BATCH_MAX, took),
        took / u32::try_from(BATCHES).unwrap()
    );

    let start = Instant::now();
    for seq in 1..=REPORTS {
        store.record_reports(world.id(0), 1, &[report(seq)], &silent, 20).await.unwrap();
    }
    println!(
        "{name}: {} reports/s one after the other",
        per_second(usize::try_from(REPORTS).unwrap(), start.elapsed())
    );

    let start = Instant::now();
    let tasks: Vec<_> = (1..=WRITERS)
        .map(|at| {
            let (store, id) = (store.clone(), world.id(at).clone());
            tokio::spawn(async move {
                for seq in 1..=REPORTS {
                    store.record_reports(&id, 1, &[report(seq)], &silent, 20).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let all = WRITERS * usize::try_from(REPORTS).unwrap();
    println!("{name}: {} reports/s from {WRITERS} at once", per_second(all, start.elapsed()));

    for at in 0..NODES {
        for (seq, stage) in (2_001..).zip(Stage::ALL) {
            store.record_reports(world.id(at), 1, &[stage_report(seq, 1, stage, "")], &silent, 20).await.unwrap();
        }
    }
    let start = Instant::now();
    for _ in 0..SNAPSHOTS {
        let seen = store.snapshot(&world.topology.id).await.unwrap().unwrap();
        assert!(
            seen.nodes.len() == NODES
                && seen.nodes.iter().all(|node| node.stages.len() == 4 && node.heartbeat.is_some())
        );
    }
    println!("{name}: snapshot of {NODES} nodes with 4 results each in {:.1?}", start.elapsed() / SNAPSHOTS);
    rollouts(name, &*store).await;
}

/// A rollout over thousands of components: begun, looked for by another one, read, and a batch of it changed.
async fn rollouts(name: &str, store: &dyn Store) {
    let ids: Vec<String> = (0..MEMBERS).map(|at| format!("bench-{at:05}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let start = Instant::now();
    store.add_rollout(&rollout("bench", "bench", &ids)).await.unwrap();
    let added = start.elapsed();
    // the worst that can be asked: as many again, none of which is in it
    let others: Vec<ComponentId> = (0..MEMBERS).map(|at| format!("other-{at:05}").as_str().into()).collect();
    let start = Instant::now();
    for _ in 0..SNAPSHOTS {
        assert_eq!(store.open_rollout_of(FleetRolloutKind::Scripts, &others).await.unwrap(), None);
    }
    let looked = start.elapsed() / SNAPSHOTS;
    let start = Instant::now();
    let mut record = store.rollout("bench").await.unwrap().unwrap();
    let read = start.elapsed();
    let changed: Vec<usize> = (0..MEMBERS / 20).collect();
    record.members[..changed.len()].iter_mut().for_each(|member| member.phase = FleetMemberPhase::Begun);
    let start = Instant::now();
    store.change_rollout(&record, &changed, 1).await.unwrap();
    println!(
        "{name}: a rollout of {MEMBERS} members recorded in {added:.1?}, who is in the way of as many found in {looked:.1?}, \
         read in {read:.1?}, {} members changed in {:.1?}",
        changed.len(),
        start.elapsed()
    );
}

fn report(seq: u64) -> straas_schemas::report::Report {
    stage_report(seq, 1, Stage::ALL[usize::try_from(seq % 4).unwrap()], "")
}

fn per_second(count: usize, took: Duration) -> u64 {
    let rate = u128::try_from(count).unwrap() * 1_000_000_000 / took.as_nanos();
    u64::try_from(rate).unwrap()
}

/// Processor time of this process, all threads, from the kernel's clock ticks (10 ms).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
