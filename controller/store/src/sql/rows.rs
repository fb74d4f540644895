//! Between rows and records: numbers, documents, and the words of small enums.
//!
//! A row that cannot be read says which one it is; nothing is guessed or left out.

use super::Fail;
use crate::input::clean;
use crate::records::{
    ComponentRecord, HostPhase, HostRecord, JobEnd, JobRecord, NodeRecord, QuarantineRecord, StoredAssignment,
    TopologyRecord,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::FromRow;
use std::borrow::Cow;
use straas_schemas::job::{JobKind, JobStanding};
use straas_schemas::{Digest, Stage};

/// A counter for a BIGINT.
pub(super) fn int(number: u64) -> Result<i64, Fail> {
    i64::try_from(number).map_err(|cause| Fail::Value(format!("the number {number}"), Box::new(cause)))
}

/// A counter from a BIGINT.
pub(super) fn count<N: TryFrom<i64>>(number: i64) -> Result<N, Fail> {
    N::try_from(number).map_err(|_| Fail::Value(format!("the number {number}"), "out of its range".into()))
}

/// A document for a TEXT.
pub(super) fn to_text<T: Serialize + ?Sized>(which: &str, value: &T) -> Result<String, Fail> {
    serde_json::to_string(value).map_err(|cause| Fail::Value(which.to_owned(), Box::new(cause)))
}

/// A document from a TEXT; `which` names it for people.
pub(super) fn from_text<T: DeserializeOwned>(which: impl FnOnce() -> String, text: &str) -> Result<T, Fail> {
    serde_json::from_str(text).map_err(|cause| Fail::Value(which(), Box::new(cause)))
}

/// A stage by its name.
pub(super) fn stage(name: &str) -> Result<Stage, Fail> {
    word(name, &Stage::ALL, |stage| stage.name())
}

/// A host's phase as kept.
pub(super) const fn phase_name(phase: HostPhase) -> &'static str {
    match phase {
        HostPhase::Absent => "absent",
        HostPhase::Failed => "failed",
        HostPhase::Up => "up",
    }
}

/// Every end of a job.
const ENDS: [JobStanding; 4] =
    [JobStanding::Succeeded, JobStanding::Superseded, JobStanding::RolledBack, JobStanding::Cancelled];

/// The value of a small enum by its word.
pub(super) fn word<T: Copy>(name: &str, all: &[T], text: impl Fn(T) -> &'static str) -> Result<T, Fail> {
    let found = all.iter().copied().find(|value| text(*value) == name);
    found.ok_or_else(|| Fail::Value(format!("the word {name:?}"), "not known to this version".into()))
}

/// A text that may be asked for: never fails on PostgreSQL, and finds what was kept.
pub(super) fn key(text: &str) -> Cow<'_, str> {
    clean(text)
}

/// A row of `topology`.
#[derive(FromRow)]
pub(super) struct TopologyRow {
    id: String,
    tenant: String,
    name: String,
    zone: String,
    branch: String,
    config_commit: String,
    deleting: i64,
    created_ms: i64,
    writes: i64,
}

impl TopologyRow {
    /// How many assignments were written for it.
    pub(super) fn writes(&self) -> Result<u64, Fail> {
        count(self.writes)
    }
}

impl From<TopologyRow> for TopologyRecord {
    fn from(row: TopologyRow) -> Self {
        Self {
            id: row.id.into(),
            tenant: row.tenant,
            name: row.name,
            zone: row.zone,
            branch: row.branch,
            config_commit: row.config_commit,
            deleting: row.deleting != 0,
            created_ms: row.created_ms,
        }
    }
}

/// A row of `component`.
#[derive(FromRow)]
pub(super) struct ComponentRow {
    id: String,
    topology: String,
    name: String,
    ordinal: i64,
    revision: i64,
    spec: String,
}

impl TryFrom<ComponentRow> for ComponentRecord {
    type Error = Fail;
    fn try_from(row: ComponentRow) -> Result<Self, Fail> {
        Ok(Self {
            spec: from_text(|| format!("the spec of component {}", row.id), &row.spec)?,
            id: row.id.into(),
            topology: row.topology.into(),
            name: row.name,
            position: count(row.ordinal)?,
            revision: count(row.revision)?,
        })
    }
}

/// A row of `job`.
#[derive(FromRow)]
pub(super) struct JobRow {
    id: String,
    kind: String,
    component: Option<String>,
    topology: String,
    topology_name: String,
    tenant: String,
    detail: String,
    created_ms: i64,
    undo: Option<String>,
    standing: Option<String>,
    ended_ms: Option<i64>,
    document: Option<String>,
}

impl TryFrom<JobRow> for JobRecord {
    type Error = Fail;
    fn try_from(row: JobRow) -> Result<Self, Fail> {
        let ended = match (row.standing, row.ended_ms) {
            (Some(standing), Some(at_ms)) => Some(JobEnd {
                standing: word(&standing, &ENDS, |standing| standing.name())?,
                at_ms,
                document: row
                    .document
                    .map(|text| from_text(|| format!("the last picture of job {}", row.id), &text))
                    .transpose()?,
            }),
            _ => None,
        };
        let undo = row.undo.map(|text| from_text(|| format!("what undoes job {}", row.id), &text)).transpose()?;
        Ok(Self {
            id: row.id.into(),
            kind: word(&row.kind, &JobKind::ALL, |kind| kind.name())?,
            component: row.component.map(Into::into),
            topology: row.topology.into(),
            topology_name: row.topology_name,
            tenant: row.tenant,
            detail: row.detail,
            created_ms: row.created_ms,
            undo,
            ended,
        })
    }
}

/// A row of `node` with its assignment's number and its heartbeat.
#[derive(FromRow)]
pub(super) struct NodeRow {
    id: String,
    topology: String,
    component: String,
    group_name: String,
    role: String,
    name: String,
    ordinal: i64,
    host_phase: String,
    host_address: Option<String>,
    host_domain: Option<String>,
    host_error: Option<String>,
    host_attempt: i64,
    host_next_ms: Option<i64>,
    host_number: i64,
    host_changed_ms: i64,
    incarnation: i64,
    enrolled_ms: Option<i64>,
    converged_generation: i64,
    worked: i64,
    refused_generation: Option<i64>,
    refused_reason: Option<String>,
    assigned_generation: Option<i64>,
    assigned_digest: Option<String>,
    heartbeat_ms: Option<i64>,
    heartbeat: Option<String>,
}

impl TryFrom<NodeRow> for crate::NodeSnapshot {
    type Error = Fail;
    fn try_from(row: NodeRow) -> Result<Self, Fail> {
        let heartbeat = match (row.heartbeat, row.heartbeat_ms) {
            (Some(text), Some(at_ms)) => {
                Some((from_text(|| format!("the heartbeat of node {}", row.id), &text)?, at_ms))
            }
            _ => None,
        };
        let refused = match (row.refused_generation, row.refused_reason) {
            (Some(generation), Some(reason)) => Some((count(generation)?, reason)),
            _ => None,
        };
        let assigned = match (row.assigned_generation, row.assigned_digest) {
            (Some(generation), Some(digest)) => Some((count(generation)?, Digest(digest))),
            _ => None,
        };
        Ok(Self {
            host: HostRecord {
                phase: word(&row.host_phase, &[HostPhase::Absent, HostPhase::Failed, HostPhase::Up], phase_name)?,
                address: row.host_address,
                fault_domain: row.host_domain,
                error: row.host_error,
                attempt: count(row.host_attempt)?,
                next_ms: row.host_next_ms,
                number: count(row.host_number)?,
                changed_ms: row.host_changed_ms,
            },
            record: NodeRecord {
                id: row.id.into(),
                topology: row.topology.into(),
                component: row.component.into(),
                group: row.group_name,
                role: row.role,
                name: row.name,
                ordinal: count(row.ordinal)?,
            },
            incarnation: count(row.incarnation)?,
            enrolled_ms: row.enrolled_ms,
            assigned,
            converged_generation: count(row.converged_generation)?,
            worked: row.worked != 0,
            stages: std::collections::BTreeMap::new(),
            refused,
            heartbeat,
        })
    }
}

/// A row of `assignment`.
#[derive(FromRow)]
pub(super) struct AssignmentRow {
    node: String,
    generation: i64,
    digest: String,
    document: String,
}

impl TryFrom<AssignmentRow> for StoredAssignment {
    type Error = Fail;
    fn try_from(row: AssignmentRow) -> Result<Self, Fail> {
        Ok(Self {
            node: row.node.into(),
            generation: count(row.generation)?,
            digest: Digest(row.digest),
            document: row.document,
        })
    }
}

/// A row of `quarantine`.
#[derive(FromRow)]
pub(super) struct QuarantineRow {
    what: String,
    name: String,
    reason: String,
    topology: String,
    at_ms: i64,
}

impl From<QuarantineRow> for QuarantineRecord {
    fn from(row: QuarantineRow) -> Self {
        Self { what: row.what, key: row.name, reason: row.reason, topology: row.topology.into(), at_ms: row.at_ms }
    }
}

/// Ids of topologies as the statements that take many of them do: a JSON list.
pub(super) fn ids<'i>(ids: impl IntoIterator<Item = &'i str>) -> Result<String, Fail> {
    let ids: Vec<_> = ids.into_iter().map(key).collect();
    to_text("ids", &ids)
}

/// Turns all rows of an answer.
pub(super) fn all<R, T>(rows: Vec<R>) -> Result<Vec<T>, Fail>
where
    T: TryFrom<R>,
    Fail: From<T::Error>,
{
    rows.into_iter().map(|row| T::try_from(row).map_err(Fail::from)).collect()
}
