//! Rollouts over the fleet in memory.

use super::{MemoryStore, conflict, duplicate, missing, most};
use crate::{PageRequest, Result, RolloutFilter, RolloutRecord, RolloutStore, RolloutSummary};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::ComponentId;
use straas_schemas::rollout::{FleetMemberPhase, FleetRolloutKind};

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn summary(rollout: &RolloutRecord) -> RolloutSummary {
    let verified = rollout.members.iter().filter(|member| member.phase == FleetMemberPhase::Verified).count();
    let head = RolloutRecord { members: Vec::new(), ..rollout.clone() };
    RolloutSummary { rollout: head, total: number(rollout.members.len()), verified: number(verified) }
}

/// An open rollout of a kind that goes through one of these components.
fn open_of<'c>(
    rollouts: &BTreeMap<String, RolloutRecord>,
    kind: FleetRolloutKind,
    components: impl Iterator<Item = &'c ComponentId>,
) -> Option<String> {
    let components: BTreeSet<_> = components.collect();
    let mut open = rollouts.values().filter(|other| other.ended_ms.is_none() && other.kind == kind);
    let found = open.find(|other| other.members.iter().any(|member| components.contains(&member.component)));
    found.map(|other| other.id.clone())
}

#[async_trait]
impl RolloutStore for MemoryStore {
    async fn add_rollout(&self, rollout: &RolloutRecord) -> Result<()> {
        self.write(|tables| {
            if let Some(other) = open_of(&tables.rollouts, rollout.kind, rollout.members.iter().map(|m| &m.component)) {
                return Err(duplicate("open rollout", &other));
            }
            if tables.rollouts.contains_key(&rollout.id) {
                return Err(duplicate("rollout", &rollout.id));
            }
            tables.rollouts.insert(rollout.id.clone(), RolloutRecord { revision: 1, ..rollout.clone() });
            Ok(())
        })
    }

    async fn open_rollout_of(&self, kind: FleetRolloutKind, components: &[ComponentId]) -> Result<Option<String>> {
        Ok(open_of(&self.tables().rollouts, kind, components.iter()))
    }

    async fn rollout(&self, id: &str) -> Result<Option<RolloutRecord>> {
        Ok(self.tables().rollouts.get(id).cloned())
    }

    async fn rollout_revision(&self, id: &str) -> Result<Option<u64>> {
        Ok(self.tables().rollouts.get(id).map(|rollout| rollout.revision))
    }

    async fn rollouts(&self, filter: &RolloutFilter, page: &PageRequest) -> Result<Vec<RolloutSummary>> {
        let wanted = |rollout: &&RolloutRecord| {
            page.after.as_ref().is_none_or(|after| rollout.id < *after)
                && filter.tenant.as_ref().is_none_or(|tenant| rollout.tenant == *tenant)
                && !(filter.open_only && rollout.ended_ms.is_some())
        };
        Ok(self.tables().rollouts.values().rev().filter(wanted).take(most(page.limit)).map(summary).collect())
    }

    async fn change_rollout(&self, rollout: &RolloutRecord, changed: &[usize], expected: u64) -> Result<()> {
        self.write(|tables| {
            let kept = tables.rollouts.get_mut(&rollout.id).ok_or_else(|| missing("rollout", &rollout.id))?;
            if kept.revision != expected {
                return Err(conflict("rollout", &rollout.id));
            }
            let mut members = std::mem::take(&mut kept.members);
            for at in changed {
                if let (Some(old), Some(new)) = (members.get_mut(*at), rollout.members.get(*at)) {
                    old.clone_from(new);
                }
            }
            *kept = RolloutRecord { members, revision: expected + 1, ..rollout.clone() };
            Ok(())
        })
    }
}
