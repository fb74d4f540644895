//! Guest commands in memory.

use super::{MemoryStore, conflict, missing, most};
use crate::commands::{
    BatchRecord, COMMAND_AGE_MS_MAX, COMMANDS_PER_NODE_MAX, Cancelled, CommandChange, CommandFilter, CommandRecord,
    CommandStore, OUTPUTS_PER_NODE_BYTES_MAX, Queued, TRIES_PER_OPERATION_MAX, assumption, because, marked,
};
use crate::{PageRequest, Result};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::command::{COMMAND_OUTPUT_BYTES_MAX, COMMANDS_WAITING_MAX, CommandStanding};
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::{CommandId, NodeId, TopologyId};

/// Everything about guest commands.
#[derive(Debug, Default)]
pub(super) struct Guest {
    commands: BTreeMap<CommandId, Kept>,
    batches: BTreeMap<String, BatchRecord>,
    change: i64,
}

#[derive(Debug)]
struct Kept {
    record: CommandRecord,
    output: Vec<u8>,
    changed: i64,
}

impl Kept {
    fn assume(&mut self, standing: CommandStanding, reason: &str, now_ms: i64, change: i64) {
        let record = &mut self.record;
        record.standing = standing;
        record.held = false;
        record.ended_ms = Some(now_ms);
        record.end = assumption(&record.id, standing, reason);
        record.assumed = true;
        self.changed = change;
    }

    fn is_open(&self) -> bool {
        self.record.ended_ms.is_none()
    }
}

impl Guest {
    fn number(&mut self) -> i64 {
        self.change += 1;
        self.change
    }

    /// The newest try of each operation of a topology, by key.
    pub(super) fn operations(&self, topology: &TopologyId) -> Vec<CommandRecord> {
        let mut newest: BTreeMap<&str, &CommandRecord> = BTreeMap::new();
        for record in self.commands.values().map(|kept| &kept.record).filter(|record| record.topology == *topology) {
            let Some((key, attempt)) = &record.operation else { continue };
            let slot = newest.entry(key).or_insert(record);
            if slot.operation.as_ref().is_some_and(|(_, other)| attempt > other) {
                *slot = record;
            }
        }
        newest.into_values().cloned().collect()
    }

    /// Ends what an agent that is gone, or that lost its journal, may have run.
    pub(super) fn lose(&mut self, node: &NodeId, reason: &str, now_ms: i64) {
        let change = self.number();
        for kept in self.commands.values_mut().filter(|kept| kept.record.node == *node && kept.is_open()) {
            let maybe_ran = kept.record.standing == CommandStanding::Running || !kept.record.idempotent;
            if maybe_ran && !kept.record.held {
                kept.assume(CommandStanding::Unknown, reason, now_ms, change);
            }
        }
    }

    /// Takes in what reports say of commands.
    pub(super) fn reported(&mut self, node: &NodeId, fresh: &[Report], now_ms: i64) {
        for report in fresh {
            match &report.body {
                ReportBody::LedgerLost { .. } => self.lose(node, because::LEDGER, now_ms),
                ReportBody::Command(end) => {
                    let change = self.number();
                    let Some(kept) = self.commands.get_mut(&end.id).filter(|kept| kept.record.node == *node) else {
                        continue;
                    };
                    if kept.record.end.is_some() && !kept.record.assumed {
                        continue;
                    }
                    let record = &mut kept.record;
                    record.standing = end.outcome.into();
                    record.held = false;
                    record.assumed = false;
                    record.ended_ms = Some(now_ms);
                    let began = now_ms.saturating_sub(i64::try_from(end.duration_ms).unwrap_or(0));
                    let began = (record.standing != CommandStanding::Expired).then_some(began);
                    record.started_ms = record.started_ms.or(began);
                    record.end = Some(end.clone());
                    kept.changed = change;
                }
                _ => {}
            }
        }
    }

    fn cancel(&mut self, id: &CommandId, now_ms: i64) -> Cancelled {
        let number = self.number();
        let Some(kept) = self.commands.get_mut(id) else { return Cancelled::Unknown };
        if kept.record.standing.is_final() {
            return Cancelled::Ended(kept.record.clone());
        }
        kept.record.cancelling = true;
        kept.changed = number;
        if kept.record.standing == CommandStanding::Queued {
            kept.assume(CommandStanding::Cancelled, because::CANCELLED, now_ms, number);
        }
        Cancelled::Wanted(kept.record.clone())
    }

    fn full(&self, commands: &[CommandRecord]) -> Option<NodeId> {
        let mut waiting: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for record in self.commands.values().filter(|kept| kept.is_open()).map(|kept| &kept.record).chain(commands) {
            if record.operation.is_none() {
                *waiting.entry(&record.node).or_default() += 1;
            }
        }
        let full = |node: &&NodeId| waiting.get(node).is_some_and(|count| *count > COMMANDS_WAITING_MAX);
        commands.iter().filter(|c| c.operation.is_none()).map(|c| &c.node).find(full).cloned()
    }

    fn queue(&mut self, commands: &[CommandRecord], batch: Option<&BatchRecord>) {
        if let Some(batch) = batch {
            self.batches.insert(batch.id.clone(), batch.clone());
        }
        let changed = self.number();
        for command in commands {
            let kept = Kept { record: command.clone(), output: Vec::new(), changed };
            self.commands.entry(command.id.clone()).or_insert(kept);
            let Some((key, attempt)) = &command.operation else { continue };
            self.commands.retain(|_, kept| {
                let older = kept.record.operation.as_ref().is_some_and(|(other, number)| {
                    other == key && number.saturating_add(TRIES_PER_OPERATION_MAX) <= *attempt
                });
                !(older && kept.record.topology == command.topology && !kept.is_open())
            });
        }
    }

    fn ids(&self, wanted: impl Fn(&Kept) -> bool) -> Vec<CommandId> {
        self.commands.iter().filter(|(_, kept)| wanted(kept)).map(|(id, _)| id.clone()).collect()
    }

    /// Changes these and returns them as they are then.
    fn change(&mut self, ids: &[CommandId], mut change: impl FnMut(&mut Kept, i64)) -> Vec<CommandRecord> {
        let number = self.number();
        let mut changed = Vec::new();
        for id in ids {
            if let Some(kept) = self.commands.get_mut(id) {
                change(kept, number);
                changed.push(kept.record.clone());
            }
        }
        changed
    }

    fn newest_first(&self, wanted: impl Fn(&CommandRecord) -> bool) -> Vec<&CommandRecord> {
        let mut found: Vec<_> =
            self.commands.values().map(|kept| &kept.record).filter(|record| wanted(record)).collect();
        found.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
        found
    }
}

#[async_trait]
impl CommandStore for MemoryStore {
    async fn queue_commands(&self, commands: &[CommandRecord], batch: Option<&BatchRecord>) -> Result<Queued> {
        if commands.is_empty() {
            return Ok(Queued::New);
        }
        let mut full = None;
        let queued = self.write(|tables| {
            if let Some(gone) = commands.iter().find(|command| !tables.nodes.contains_key(&command.node)) {
                return Err(missing("node", &gone.node));
            }
            full = tables.guest.full(commands);
            // an error, so that nothing is noted of a request that changes nothing
            full.as_ref().map_or(Ok(()), |node| Err(conflict("node", node)))?;
            tables.guest.queue(commands, batch);
            Ok(Queued::New)
        });
        full.map_or(queued, |node| Ok(Queued::Full(node)))
    }

    async fn command(&self, id: &CommandId) -> Result<Option<CommandRecord>> {
        Ok(self.tables().guest.commands.get(id).map(|kept| kept.record.clone()))
    }

    async fn commands(&self, filter: &CommandFilter, page: &PageRequest) -> Result<Vec<CommandRecord>> {
        let before = marked(page.after.as_deref());
        let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
        let wanted = |record: &CommandRecord| {
            (record.created_ms, record.id.as_str()) < before
                && is(filter.tenant.as_deref(), &record.tenant)
                && filter.topology.as_ref().is_none_or(|id| record.topology == *id)
                && filter.component.as_ref().is_none_or(|id| record.component == *id)
                && filter.node.as_ref().is_none_or(|id| record.node == *id)
                && filter.batch.as_ref().is_none_or(|id| record.batch.as_ref() == Some(id))
                && filter.standing.is_none_or(|standing| record.standing == standing)
                && is(filter.command.as_deref(), &record.command)
        };
        Ok(self.tables().guest.newest_first(wanted).into_iter().take(most(page.limit)).cloned().collect())
    }

    async fn waiting_commands(&self, node: &NodeId) -> Result<Vec<CommandRecord>> {
        let tables = self.tables();
        let waits = |record: &CommandRecord| record.node == *node && record.ended_ms.is_none() && !record.held;
        Ok(tables.guest.newest_first(waits).into_iter().rev().cloned().collect())
    }

    async fn start_commands(&self, named: &[(NodeId, CommandId)], now_ms: i64) -> Result<Vec<CommandRecord>> {
        let guest = &mut self.tables().guest;
        let named: BTreeSet<_> = named.iter().collect();
        let ids = guest.ids(|kept| {
            let record = &kept.record;
            (record.standing == CommandStanding::Queued || record.assumed)
                && named.contains(&(record.node.clone(), record.id.clone()))
        });
        Ok(guest.change(&ids, |kept, number| {
            kept.record.standing = CommandStanding::Running;
            kept.record.held = false;
            kept.record.started_ms.get_or_insert(now_ms);
            kept.record.ended_ms = None;
            kept.record.end = None;
            kept.record.assumed = false;
            kept.changed = number;
        }))
    }

    async fn cancel_command(&self, id: &CommandId, now_ms: i64) -> Result<Cancelled> {
        let known = self.tables().guest.commands.get(id).map(|kept| kept.record.clone());
        match known {
            None => Ok(Cancelled::Unknown),
            Some(record) if record.standing.is_final() => Ok(Cancelled::Ended(record)),
            Some(_) => self.write(|tables| Ok(tables.guest.cancel(id, now_ms))),
        }
    }

    async fn append_output(&self, node: &NodeId, id: &CommandId, offset: u64, bytes: &[u8]) -> Result<u64> {
        let guest = &mut self.tables().guest;
        let kept = guest.commands.get_mut(id).filter(|kept| kept.record.node == *node);
        let kept = kept.ok_or_else(|| missing("command", id))?;
        let (have, end) = (kept.output.len() as u64, offset.saturating_add(bytes.len() as u64));
        if have >= COMMAND_OUTPUT_BYTES_MAX as u64 {
            return Ok(end.max(have));
        }
        if offset > have || end <= have {
            return Ok(have);
        }
        let new = usize::try_from(have - offset).ok().and_then(|skip| bytes.get(skip..)).unwrap_or_default();
        kept.output.extend_from_slice(&new[..new.len().min(COMMAND_OUTPUT_BYTES_MAX - kept.output.len())]);
        kept.record.output_bytes = kept.output.len() as u64;
        Ok(end)
    }

    async fn output(&self, id: &CommandId, offset: u64, limit: usize) -> Result<Vec<u8>> {
        let tables = self.tables();
        let output = tables.guest.commands.get(id).map(|kept| kept.output.as_slice()).unwrap_or_default();
        let rest = usize::try_from(offset).ok().and_then(|offset| output.get(offset..)).unwrap_or_default();
        Ok(rest[..rest.len().min(limit.max(1))].to_vec())
    }

    async fn settle_commands(&self, now_ms: i64, grace_ms: i64) -> Result<Vec<CommandRecord>> {
        let tables = &mut *self.tables();
        let guest = &mut tables.guest;
        let overdue = guest.ids(|kept| {
            kept.record.standing == CommandStanding::Queued
                && kept.record.deadline_ms <= now_ms.saturating_sub(grace_ms)
        });
        let mut ended = guest.change(&overdue, |kept, number| {
            kept.assume(CommandStanding::Expired, because::EXPIRED, now_ms, number);
        });
        let nodes = &tables.nodes;
        let orphans = guest.ids(|kept| kept.is_open() && !nodes.contains_key(&kept.record.node));
        ended.extend(guest.change(&orphans, |kept, number| {
            let running = kept.record.standing == CommandStanding::Running;
            let standing = if running { CommandStanding::Unknown } else { CommandStanding::Expired };
            kept.assume(standing, because::REMOVED, now_ms, number);
        }));
        let old_ms = now_ms.saturating_sub(COMMAND_AGE_MS_MAX);
        guest.commands.retain(|_, kept| kept.record.ended_ms.is_none_or(|ended| ended >= old_ms));
        guest.batches.retain(|_, batch| batch.ended_ms.is_none() || batch.created_ms >= old_ms);
        ended.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(ended)
    }

    async fn next_deadline(&self) -> Result<Option<i64>> {
        let tables = self.tables();
        let queued = tables.guest.commands.values().filter(|kept| kept.record.standing == CommandStanding::Queued);
        Ok(queued.map(|kept| kept.record.deadline_ms).min())
    }

    async fn prune_commands(&self, nodes: &[NodeId]) -> Result<()> {
        let guest = &mut self.tables().guest;
        for node in nodes {
            let ended = guest.newest_first(|record| record.node == *node && record.ended_ms.is_some());
            let users = ended.iter().filter(|record| record.operation.is_none());
            let old: Vec<_> = users.skip(COMMANDS_PER_NODE_MAX as usize).map(|record| record.id.clone()).collect();
            let (mut kept, mut without) = (0, Vec::new());
            for record in ended.iter().filter(|record| !old.contains(&record.id)) {
                kept += record.output_bytes;
                if kept > OUTPUTS_PER_NODE_BYTES_MAX {
                    without.push(record.id.clone());
                }
            }
            guest.commands.retain(|id, _| !old.contains(id));
            for id in without {
                if let Some(kept) = guest.commands.get_mut(&id) {
                    kept.output.clear();
                    kept.record.output_bytes = 0;
                }
            }
        }
        Ok(())
    }

    async fn batch(&self, id: &str) -> Result<Option<BatchRecord>> {
        Ok(self.tables().guest.batches.get(id).cloned())
    }

    async fn open_batches(&self) -> Result<Vec<String>> {
        let tables = self.tables();
        let open = tables.guest.batches.values().filter(|batch| batch.ended_ms.is_none());
        Ok(open.map(|batch| batch.id.clone()).collect())
    }

    async fn advance_batch(&self, id: &str, now_ms: i64) -> Result<Vec<CommandRecord>> {
        let guest = &mut self.tables().guest;
        let Some(batch) = guest.batches.get(id).filter(|batch| batch.ended_ms.is_none()).cloned() else {
            return Ok(Vec::new());
        };
        let of = |kept: &Kept| kept.record.batch.as_deref() == Some(id);
        let stands = |kept: &Kept, standing| of(kept) && kept.record.standing == standing;
        let bad = |kept: &Kept| of(kept) && !kept.is_open() && !stands(kept, CommandStanding::Succeeded);
        let errors = guest.ids(bad).len();
        let mut changed = Vec::new();
        if batch.max_errors.is_some_and(|most| errors >= most as usize) {
            let queued = guest.ids(|kept| stands(kept, CommandStanding::Queued));
            changed = guest.change(&queued, |kept, number| {
                kept.assume(CommandStanding::Cancelled, because::BATCH, now_ms, number);
            });
        } else {
            let going = guest.ids(|kept| of(kept) && kept.is_open() && !kept.record.held).len();
            let room = batch.concurrency.map_or(usize::MAX, |most| most as usize).saturating_sub(going);
            let held = guest.newest_first(|record| record.batch.as_deref() == Some(id) && record.held);
            let next: Vec<_> = held.into_iter().rev().take(room).map(|record| record.id.clone()).collect();
            if !next.is_empty() {
                changed = guest.change(&next, |kept, number| {
                    kept.record.held = false;
                    kept.changed = number;
                });
            }
        }
        if guest.ids(|kept| of(kept) && kept.is_open()).is_empty()
            && let Some(batch) = guest.batches.get_mut(id)
        {
            batch.ended_ms = Some(now_ms);
        }
        changed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(changed)
    }

    async fn command_changes(&self, after: (i64, &str), limit: u32) -> Result<Vec<CommandChange>> {
        let tables = self.tables();
        let mut found: Vec<_> =
            tables.guest.commands.iter().filter(|(id, kept)| (kept.changed, id.as_str()) > after).collect();
        found.sort_by_key(|(id, kept)| (kept.changed, (*id).clone()));
        let change = |(id, kept): (&CommandId, &Kept)| CommandChange {
            number: kept.changed,
            id: id.clone(),
            node: kept.record.node.clone(),
            batch: kept.record.batch.clone(),
            standing: kept.record.standing,
            held: kept.record.held,
            cancelling: kept.record.cancelling,
        };
        Ok(found.into_iter().take(most(limit)).map(change).collect())
    }

    async fn last_command_change(&self) -> Result<i64> {
        Ok(self.tables().guest.change)
    }
}
