//! Nodes, their hosts and their assignments.
//!
//! An assignment is written by compare-and-swap in the where-clause; no lock is held meanwhile.

use super::rows::{self, AssignmentRow, NodeRow, from_text, int, key, phase_name, stage, to_text};
use super::{Fail, SqlStore, history};
use crate::input::{check_generation, clean};
use crate::{
    ASSIGNMENTS_PER_NODE_MAX, HostPhase, HostRecord, Lease, NodeIndex, NodeRecord, NodeSnapshot, Result, StoreError,
    StoredAssignment, Target,
};
use sqlx::{FromRow, query, query_as, query_scalar};
use straas_schemas::{Assignment, NodeId};

macro_rules! node_columns {
    ($rest:literal) => {
        concat!(
            "select n.id, n.topology, n.component, n.group_name, n.role, n.name, n.ordinal,
                n.host_phase, n.host_address, n.host_domain, n.host_error, n.host_attempt, n.host_next_ms, n.host_number, n.host_changed_ms,
                n.incarnation, n.enrolled_ms, n.converged_generation, n.worked, n.refused_generation,
                n.refused_reason,
                a.generation as assigned_generation, a.digest as assigned_digest,
                h.received_ms as heartbeat_ms, h.document as heartbeat
            from node n
            left join assignment a on a.node = n.id
            left join heartbeat h on h.node = n.id and h.incarnation = n.incarnation ",
            $rest
        )
    };
}

macro_rules! target_columns {
    ($rest:literal) => {
        concat!(
            "select n.id as node, n.name, n.role, n.host_address as address, c.name as component,
                t.name as topology, t.zone, t.tenant
            from node n join component c on c.id = n.component join topology t on t.id = n.topology
            where n.host_address is not null ",
            $rest
        )
    };
}

statements! {
    ADD = "insert into node (id, topology, component, group_name, role, name, ordinal, host_phase, host_changed_ms,
            incarnation, report_seq, converged_generation, refused_seq)
        values ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, 0, 0) on conflict (id) do nothing";
    REMOVE = "delete from node where id = $1 and host_phase = 'absent'";
    HOST_OF_TOPOLOGY = "select id from node where topology = $1 and host_phase <> 'absent' limit 1";
    HOST_OF_COMPONENT = "select id from node where component = $1 and host_phase <> 'absent' limit 1";
    GET = node_columns!("where n.id = $1");
    OF_COMPONENT = node_columns!("where n.component = $1");
    STAGES_OF = "select node, stage, received_ms, document from stage_result where node = $1";
    STAGES_OF_COMPONENT = "select s.node, s.stage, s.received_ms, s.document
        from node n join stage_result s on s.node = n.id where n.component = $1";
    INDEX = "select id, topology, incarnation from node order by id";
    THERE = "select count(*) from node where id = $1";
    COUNT_WRITE = "update topology set writes = writes + 1
                   where id = (select topology from node where id = $1) and writes = coalesce($2, writes)";
    SET_HOST = "update node set host_phase = $2, host_address = $3, host_error = $4, host_number = $5,
            host_changed_ms = $6, host_attempt = $7, host_next_ms = $8, host_domain = $9 where id = $1";
    ASSIGN_FIRST = "insert into assignment (node, generation, digest, document, written_ms)
        values ($1, $2, $3, $4, $5) on conflict (node) do nothing";
    ASSIGN_NEXT = "update assignment set generation = $2, digest = $3, document = $4, written_ms = $5
        where node = $1 and generation = $6";
    ASSIGNMENT = "select node, generation, digest, document from assignment where node = $1";
    TARGETS = target_columns!("order by n.id");
    TARGETS_OF = target_columns!("and t.tenant = $1 order by n.id");
    ASSIGNMENTS = "select node, generation, digest, document from assignment order by node";
    @ HOST_NUMBER = sqlite "select host_number, incarnation, enrolled_ms from node where id = $1",
        postgres "select host_number, incarnation, enrolled_ms from node where id = $1 for no key update";
    @ OF_TOPOLOGIES = sqlite node_columns!("where n.topology in (select value from json_each($1))"),
        postgres node_columns!("where n.topology = any(array(select json_array_elements_text($1::json)))");
    @ STAGES_OF_TOPOLOGIES = sqlite "select s.node, s.stage, s.received_ms, s.document
            from node n join stage_result s on s.node = n.id where n.topology in (select value from json_each($1))",
        postgres "select s.node, s.stage, s.received_ms, s.document
            from node n join stage_result s on s.node = n.id
            where n.topology = any(array(select json_array_elements_text($1::json)))";
}

#[derive(FromRow)]
struct TargetRow {
    node: String,
    name: String,
    role: String,
    address: String,
    component: String,
    topology: String,
    zone: String,
    tenant: String,
}

/// A row of `stage_result`.
#[derive(FromRow)]
pub(super) struct StageRow {
    node: String,
    stage: String,
    received_ms: i64,
    document: String,
}

/// Gives each node, in the order of ids, its results.
pub(super) fn attach(nodes: &mut [NodeSnapshot], results: Vec<StageRow>) -> Result<(), Fail> {
    for row in results {
        if let Ok(at) = nodes.binary_search_by(|node| node.record.id.as_str().cmp(&row.node)) {
            let result = from_text(|| format!("the {} result of node {}", row.stage, row.node), &row.document)?;
            nodes[at].stages.insert(stage(&row.stage)?, (result, row.received_ms));
        }
    }
    Ok(())
}

fn no_node(id: &NodeId) -> StoreError {
    StoreError::NotFound { what: "node", id: id.to_string() }
}

/// See [`crate::Store::add_nodes`].
pub(super) async fn add(store: &SqlStore, nodes: &[NodeRecord]) -> Result<()> {
    let mut nodes: Vec<_> = nodes.iter().collect();
    // One order for all writers: no deadlocks.
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    writing!(store, "recording nodes", |tx, on| {
        for node in &nodes {
            query(on(&ADD))
                .bind(node.id.as_str())
                .bind(node.topology.as_str())
                .bind(node.component.as_str())
                .bind(&node.group)
                .bind(&node.role)
                .bind(&node.name)
                .bind(i64::from(node.ordinal))
                .bind(phase_name(HostPhase::Absent))
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_missing(cause, "component", node.component.as_str()))?;
        }
    })
}

/// See [`crate::Store::remove_nodes`].
pub(super) async fn remove(store: &SqlStore, nodes: &[NodeId]) -> Result<()> {
    let mut nodes: Vec<_> = nodes.iter().collect();
    nodes.sort();
    writing!(store, "removing nodes", |tx, on| {
        for node in &nodes {
            query(on(&REMOVE)).bind(key(node.as_str())).execute(&mut *tx).await?;
        }
    })
}

/// See [`crate::Store::node`].
pub(super) async fn get(store: &SqlStore, id: &NodeId) -> Result<Option<NodeSnapshot>> {
    let id = key(id.as_str());
    reading!(store, "reading a node", |tx, on| {
        let row: Option<NodeRow> = query_as(on(&GET)).bind(&*id).fetch_optional(&mut *tx).await?;
        let Some(row) = row else { return Ok(None) };
        let results: Vec<StageRow> = query_as(on(&STAGES_OF)).bind(&*id).fetch_all(&mut *tx).await?;
        let mut node = [NodeSnapshot::try_from(row)?];
        attach(&mut node, results)?;
        let [node] = node;
        Some(node)
    })
}

/// See [`crate::Store::node_index`].
pub(super) async fn index(store: &SqlStore) -> Result<Vec<NodeIndex>> {
    reading!(store, "listing all nodes", |tx, on| {
        let found: Vec<(String, String, i64)> = query_as(on(&INDEX)).fetch_all(&mut *tx).await?;
        let mut index = Vec::with_capacity(found.len());
        for (id, topology, incarnation) in found {
            index.push(NodeIndex { id: id.into(), topology: topology.into(), incarnation: rows::count(incarnation)? });
        }
        index
    })
}

/// See [`crate::Store::set_host`].
pub(super) async fn set_host(store: &SqlStore, node: &NodeId, host: &HostRecord, lease: &Lease) -> Result<()> {
    writing!(store, "writing what is known of a host", |tx, on| {
        fence!(tx, on, lease);
        let id = key(node.as_str());
        let seen: Option<(i64, i64, Option<i64>)> =
            query_as(on(&HOST_NUMBER)).bind(&*id).fetch_optional(&mut *tx).await?;
        let another = |(number, incarnation, enrolled): (i64, i64, Option<i64>)| {
            (number < i64::from(host.number) && incarnation > 0) || (host.is_gone() && enrolled.is_some())
        };
        if seen.is_some_and(another) {
            let _ = begin_incarnation!(tx, on, &*id, None);
        }
        let changed = query(on(&SET_HOST))
            .bind(&*id)
            .bind(phase_name(host.phase))
            .bind(host.address.as_deref().map(clean))
            .bind(host.error.as_deref().map(clean))
            .bind(i64::from(host.number))
            .bind(host.changed_ms)
            .bind(i64::from(host.attempt))
            .bind(host.next_ms)
            .bind(host.fault_domain.as_deref().map(clean))
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if changed == 0 {
            return Err(no_node(node).into());
        }
    })
}

/// See [`crate::Store::put_assignment`].
pub(super) async fn put_assignment(
    store: &SqlStore,
    assignment: &Assignment,
    expected: u64,
    writes: u64,
    now_ms: i64,
) -> Result<()> {
    check_generation(assignment.generation, expected)?;
    write_assignment(store, assignment, expected, Some(writes), now_ms).await
}

/// See [`SqlStore::raise_generations`].
pub(super) async fn raise_generations(store: &SqlStore, by: u64, now_ms: i64) -> Result<usize> {
    let all = assignments(store).await?;
    for stored in &all {
        let as_it_is: Assignment = from_text(|| format!("assignment of {}", stored.node), &stored.document)
            .map_err(|fail| fail.into_error("raising generations"))?;
        let raised = Assignment { generation: stored.generation.saturating_add(by), ..as_it_is };
        write_assignment(store, &raised, stored.generation, None, now_ms).await?;
    }
    Ok(all.len())
}

/// `writes`: only if so many were written for its topology before.
async fn write_assignment(
    store: &SqlStore,
    assignment: &Assignment,
    expected: u64,
    writes: Option<u64>,
    now_ms: i64,
) -> Result<()> {
    let id = key(assignment.node.as_str());
    let digest = assignment.content_digest();
    let what = "writing an assignment";
    let document = to_text("its document", assignment).map_err(|fail| fail.into_error(what))?;
    writing!(store, what, |tx, on| {
        // first the topology, as whoever removes nodes does it, or the two would wait for each other
        let counted = query(on(&COUNT_WRITE)).bind(&*id).bind(writes.map(int).transpose()?);
        if counted.execute(&mut *tx).await?.rows_affected() == 0 {
            let there: i64 = query_scalar(on(&THERE)).bind(&*id).fetch_one(&mut *tx).await?;
            let conflict = || StoreError::Conflict { what: "plan", id: id.to_string() };
            return Err(if there == 0 { no_node(&assignment.node) } else { conflict() }.into());
        }
        let statement = query(on(if expected == 0 { &ASSIGN_FIRST } else { &ASSIGN_NEXT }))
            .bind(&*id)
            .bind(int(assignment.generation)?)
            .bind(digest.as_str())
            .bind(&document)
            .bind(now_ms);
        let statement = if expected == 0 { statement } else { statement.bind(int(expected)?) };
        let done = statement.execute(&mut *tx).await.map_err(|cause| Fail::or_missing(cause, "node", &id))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Conflict { what: "assignment", id: id.to_string() }.into());
        }
        let generation = int(assignment.generation)?;
        query(on(&history::ADD))
            .bind(&*id)
            .bind(generation)
            .bind(digest.as_str())
            .bind(&document)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        let kept = i64::from(ASSIGNMENTS_PER_NODE_MAX);
        if generation > kept {
            query(on(&history::PRUNE)).bind(&*id).bind(kept).execute(&mut *tx).await?;
        }
    })
}

/// See [`crate::Store::assignment`].
pub(super) async fn assignment(store: &SqlStore, node: &NodeId) -> Result<Option<StoredAssignment>> {
    reading!(store, "reading an assignment", |tx, on| {
        let row: Option<AssignmentRow> =
            query_as(on(&ASSIGNMENT)).bind(key(node.as_str())).fetch_optional(&mut *tx).await?;
        row.map(StoredAssignment::try_from).transpose()?
    })
}

/// See [`crate::Store::assignments`].
pub(super) async fn assignments(store: &SqlStore) -> Result<Vec<StoredAssignment>> {
    reading!(store, "reading all assignments", |tx, on| {
        let found: Vec<AssignmentRow> = query_as(on(&ASSIGNMENTS)).fetch_all(&mut *tx).await?;
        rows::all(found)?
    })
}

/// See [`crate::Store::targets`].
pub(super) async fn targets(store: &SqlStore, tenant: Option<&str>) -> Result<Vec<Target>> {
    let found: Vec<TargetRow> = asking!(store, "listing nodes with their addresses", |pool, on| async {
        match tenant {
            None => query_as(on(&TARGETS)).fetch_all(pool).await,
            Some(tenant) => query_as(on(&TARGETS_OF)).bind(key(tenant)).fetch_all(pool).await,
        }
    })?;
    let target = |row: TargetRow| Target {
        node: row.node.into(),
        name: row.name,
        role: row.role,
        address: row.address,
        component: row.component,
        topology: row.topology,
        zone: row.zone,
        tenant: row.tenant,
    };
    Ok(found.into_iter().map(target).collect())
}
