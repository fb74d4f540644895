//! Rollouts over the fleet: what is kept of them, and what the store promises.
//!
//! A rollout is changed by compare-and-swap on its revision as a whole: its head, and those of its members that changed.
//!
//! Never here: what a rollout does next, nor what a component wants; that is the component's record.

use crate::{PageRequest, Result};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use straas_schemas::build::AgentBuild;
use straas_schemas::rollout::{FleetBatch, FleetMemberPhase, FleetRolloutKind, FleetRolloutStanding};
use straas_schemas::{ComponentId, JobId, NodeId, TopologyId};

/// A rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Its id; ids rise with time.
    pub id: String,
    /// What is rolled out.
    pub kind: FleetRolloutKind,
    /// What its members are to have: a commit, or what the build is called.
    #[serde(rename = "commit")]
    pub wanted: String,
    /// The build, if that is what they are to have and it is not the packaged one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<AgentBuild>,
    /// Where that was in the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Who asked for it.
    pub author: String,
    /// The tenant he asked for.
    pub tenant: String,
    /// It goes to everybody's components, not to those of a tenant or those that were named.
    pub all_tenants: bool,
    /// Its batches, none of them empty.
    pub batches: Vec<FleetBatch>,
    /// So many seconds a batch is watched after all of it was verified.
    pub soak_s: u32,
    /// Which batch it is at, from 0.
    pub batch: u32,
    /// Since when that one has been watched, Unix ms.
    pub watched_ms: Option<i64>,
    /// How it stands.
    pub standing: FleetRolloutStanding,
    /// Why it is or was turned back.
    pub reason: Option<String>,
    /// Unix ms.
    pub created_ms: i64,
    /// Unix ms.
    pub ended_ms: Option<i64>,
    /// Rises with each change.
    #[serde(skip)]
    pub revision: u64,
    /// Its members in their order; kept one by one.
    #[serde(skip)]
    pub members: Vec<RolloutMember>,
}

/// A component in a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutMember {
    /// The component.
    pub component: ComponentId,
    /// Its name.
    pub component_name: String,
    /// Its topology.
    pub topology: TopologyId,
    /// That topology's name.
    pub topology_name: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Its batch, from 0.
    pub batch: u32,
    /// How many nodes it had when the rollout was asked for.
    pub nodes: u32,
    /// What it had then: a commit, or what the build is called.
    pub before: String,
    /// The build that it had then, if it was not the packaged one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_build: Option<AgentBuild>,
    /// The commits of single nodes that were not the component's then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before_nodes: BTreeMap<NodeId, String>,
    /// How far it is.
    pub phase: FleetMemberPhase,
    /// Why it failed, was skipped or turned back.
    pub reason: Option<String>,
    /// The job that brings it: named before the component is changed, so that whoever comes after a crash
    /// knows whether it was.
    pub job: Option<JobId>,
}

impl RolloutRecord {
    /// The hashes of the builds that it brings or may give back.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        let before = self.members.iter().filter_map(|member| member.before_build.as_ref());
        self.build.iter().chain(before).map(|build| build.sha256.as_str())
    }
}

/// A rollout in a list: without members, but with how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutSummary {
    /// The rollout; its members are left out.
    pub rollout: RolloutRecord,
    /// How many members there are.
    pub total: u32,
    /// How many of them are verified.
    pub verified: u32,
}

/// Which rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutFilter {
    /// Asked for in this tenant.
    pub tenant: Option<String>,
    /// Only those that have not ended.
    pub open_only: bool,
}

/// What the store promises of rollouts.
#[async_trait]
pub trait RolloutStore: Send + Sync {
    /// Records a rollout with its members, at revision 1. `Duplicate` of an `open rollout`, with the other one's id as
    /// its name, if one of its components is in another of its kind that has not ended.
    async fn add_rollout(&self, rollout: &RolloutRecord) -> Result<()>;
    /// The id of a rollout of a kind that has not ended and goes through one of these components; of several, any.
    async fn open_rollout_of(&self, kind: FleetRolloutKind, components: &[ComponentId]) -> Result<Option<String>>;
    /// One rollout with its members.
    async fn rollout(&self, id: &str) -> Result<Option<RolloutRecord>>;
    /// The revision of a rollout.
    async fn rollout_revision(&self, id: &str) -> Result<Option<u64>>;
    /// Rollouts, newest first, filtered.
    async fn rollouts(&self, filter: &RolloutFilter, page: &PageRequest) -> Result<Vec<RolloutSummary>>;
    /// Writes a rollout and its members at these positions if its revision is still `expected`, and raises that by
    /// one; `Conflict` otherwise, `NotFound` if there is none. Of one that has ended, no component is in it any more.
    async fn change_rollout(&self, rollout: &RolloutRecord, changed: &[usize], expected: u64) -> Result<()>;
}
