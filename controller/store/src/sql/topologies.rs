//! Topologies and components.
//!
//! Whoever changes what is wanted of a topology locks its row first: so a change and a deletion
//! come one after the other, and the second sees the first.

use super::rows::{ComponentRow, TopologyRow, int, key, to_text};
use super::{Fail, SqlStore, jobs, neighbours, nodes};
use crate::{ComponentRecord, JobRecord, PAGE_MAX, PageRequest, Result, StoreError, TopologyFilter, TopologyRecord};
use sqlx::{query, query_as, query_scalar};
use straas_schemas::job::JobKind;
use straas_schemas::{ComponentId, JobId, TopologyId};

macro_rules! topology_columns {
    ($rest:literal) => {
        concat!(
            "select id, tenant, name, zone, branch, config_commit, deleting, created_ms, writes from topology ",
            $rest
        )
    };
}
macro_rules! component_columns {
    ($rest:literal) => {
        concat!("select id, topology, name, ordinal, revision, spec from component ", $rest)
    };
}

statements! {
    ADD = "insert into topology (id, tenant, name, zone, branch, config_commit, deleting, created_ms)
        values ($1, $2, $3, $4, $5, $6, $7, $8)";
    GET = topology_columns!("where id = $1");
    GET_BY_NAME = topology_columns!("where name = $1 and zone = $2");
    LIST = topology_columns!("where id > $1 and (cast($3 as text) is null or tenant = $3)
        and (cast($4 as text) is null or name = $4) and (cast($5 as text) is null or zone = $5) order by id limit $2");
    LIST_OF_TENANT = topology_columns!("where tenant = $3 and id > $1
        and (cast($4 as text) is null or name = $4) and (cast($5 as text) is null or zone = $5) order by id limit $2");
    MARK_DELETING = "update topology set deleting = 1 where id = $1";
    REMOVE = "delete from topology where id = $1";
    COMPONENT_ADD = "insert into component (id, topology, name, ordinal, revision, spec) values ($1, $2, $3, $4, $5, $6)";
    COMPONENT_GET = component_columns!("where id = $1");
    COMPONENT_BY_NAME = component_columns!("where topology = $1 and name = $2");
    COMPONENTS_OF = component_columns!("where topology = $1 order by ordinal, id");
    REVISIONS_OF = "select id, revision from component where topology = $1";
    COMPONENT_CHANGE = "update component set spec = $4, revision = revision + 1
        where id = $1 and topology = $2 and revision = $3";
    COMPONENT_REMOVE = "delete from component where id = $1";
    COMPONENT_THERE = "select count(*) from component where id = $1 and topology = $2";
    @ LOCK = sqlite "select deleting from topology where id = $1",
        postgres "select deleting from topology where id = $1 for no key update";
    @ GET_MANY = sqlite topology_columns!("where id in (select value from json_each($1))"),
        postgres topology_columns!("where id = any(array(select json_array_elements_text($1::json)))");
    @ COMPONENTS_OF_MANY = sqlite component_columns!("where topology in (select value from json_each($1))"),
        postgres component_columns!("where topology = any(array(select json_array_elements_text($1::json)))");
}

/// Records a component inside a transaction.
macro_rules! record_component {
    ($tx:ident, $on:ident, $component:expr) => {
        query($on(&COMPONENT_ADD))
            .bind($component.id.as_str())
            .bind($component.topology.as_str())
            .bind(&$component.name)
            .bind(i64::from($component.position))
            .bind(int($component.revision)?)
            .bind(to_text("the spec", &$component.spec)?)
            .execute(&mut *$tx)
            .await
            .map_err(|cause| {
                let topology = ("topology", $component.topology.as_str());
                Fail::or_duplicate_or_missing(cause, ("component", &$component.name), topology)
            })?
    };
}

fn no_topology(id: &TopologyId) -> StoreError {
    StoreError::NotFound { what: "topology", id: id.to_string() }
}

/// See [`crate::Store::create_topology`].
pub(super) async fn create(
    store: &SqlStore,
    topology: &TopologyRecord,
    components: &[ComponentRecord],
    job: &JobRecord,
) -> Result<()> {
    let full_name = format!("{}@{}", topology.name, topology.zone);
    writing!(store, "creating a topology", |tx, on| {
        query(on(&ADD))
            .bind(topology.id.as_str())
            .bind(&topology.tenant)
            .bind(&topology.name)
            .bind(&topology.zone)
            .bind(&topology.branch)
            .bind(&topology.config_commit)
            .bind(i64::from(topology.deleting))
            .bind(topology.created_ms)
            .execute(&mut *tx)
            .await
            .map_err(|cause| Fail::or_duplicate(cause, "topology", &full_name))?;
        for component in components {
            record_component!(tx, on, component);
            record_links!(tx, on, component);
        }
        record_job!(tx, on, job);
    })
}

/// See [`crate::Store::topology`].
pub(super) async fn get(store: &SqlStore, id: &TopologyId) -> Result<Option<TopologyRecord>> {
    let row: Option<TopologyRow> = asking!(store, "reading a topology", |pool, on| query_as(on(&GET))
        .bind(key(id.as_str()))
        .fetch_optional(pool))?;
    Ok(row.map(Into::into))
}

/// See [`crate::Store::topology_by_name`].
pub(super) async fn get_by_name(store: &SqlStore, name: &str, zone: &str) -> Result<Option<TopologyRecord>> {
    let row: Option<TopologyRow> = asking!(store, "reading a topology by its name", |pool, on| {
        query_as(on(&GET_BY_NAME)).bind(key(name)).bind(key(zone)).fetch_optional(pool)
    })?;
    Ok(row.map(Into::into))
}

/// See [`crate::Store::topologies`].
pub(super) async fn list(store: &SqlStore, filter: &TopologyFilter, page: &PageRequest) -> Result<Vec<TopologyRecord>> {
    let after = key(page.after.as_deref().unwrap_or(""));
    let statement = if filter.tenant.is_some() { &LIST_OF_TENANT } else { &LIST };
    let found: Vec<TopologyRow> = asking!(store, "listing topologies", |pool, on| query_as(on(statement))
        .bind(&*after)
        .bind(i64::from(page.limit.min(PAGE_MAX)))
        .bind(filter.tenant.as_deref().map(key))
        .bind(filter.name.as_deref().map(key))
        .bind(filter.zone.as_deref().map(key))
        .fetch_all(pool))?;
    Ok(found.into_iter().map(Into::into).collect())
}

/// See [`crate::Store::delete_topology`].
pub(super) async fn delete(
    store: &SqlStore,
    id: &TopologyId,
    job: &JobRecord,
    seen: Option<&[(ComponentId, u64)]>,
) -> Result<bool> {
    writing!(store, "marking a topology as to be deleted", |tx, on| {
        let deleting: Option<i64> = query_scalar(on(&LOCK)).bind(key(id.as_str())).fetch_optional(&mut *tx).await?;
        let first = deleting.ok_or_else(|| no_topology(id))? == 0;
        if let Some(seen) = seen {
            // who changes a component locks the topology's row too
            let mut now: Vec<(String, i64)> =
                query_as(on(&REVISIONS_OF)).bind(key(id.as_str())).fetch_all(&mut *tx).await?;
            now.sort_unstable();
            let mut seen: Vec<_> = seen.iter().map(|(id, revision)| (id.as_str(), *revision)).collect();
            seen.sort_unstable();
            let same = |((id, revision), seen): (&(String, i64), &(&str, u64))| {
                id == seen.0 && u64::try_from(*revision).is_ok_and(|revision| revision == seen.1)
            };
            if now.len() != seen.len() || !now.iter().zip(&seen).all(same) {
                return Err(StoreError::Conflict { what: "topology", id: id.to_string() }.into());
            }
        }
        if first {
            let needed: Option<String> =
                query_scalar(on(&neighbours::NEEDED)).bind(id.as_str()).fetch_optional(&mut *tx).await?;
            if let Some(by) = needed {
                return Err(neighbours::refused(&by).into());
            }
            query(on(&MARK_DELETING)).bind(id.as_str()).execute(&mut *tx).await?;
            supersede!(tx, on, id, job);
            record_job!(tx, on, job);
        }
        first
    })
}

/// Refuses while a node of what is to be forgotten may have a host, inside a transaction.
macro_rules! no_host {
    ($tx:ident, $on:ident, $which:expr, $of:expr) => {
        let found: Option<String> = query_scalar($on($which)).bind($of).fetch_optional(&mut *$tx).await?;
        if let Some(id) = found {
            return Err(StoreError::Conflict { what: "host", id }.into());
        }
    };
}

/// See [`crate::Store::forget_topology`].
pub(super) async fn forget(
    store: &SqlStore,
    id: &TopologyId,
    now_ms: i64,
    documents: &[(JobId, serde_json::Value)],
) -> Result<()> {
    writing!(store, "forgetting a topology", |tx, on| {
        let there: Option<i64> = query_scalar(on(&LOCK)).bind(key(id.as_str())).fetch_optional(&mut *tx).await?;
        there.ok_or_else(|| no_topology(id))?;
        no_host!(tx, on, &nodes::HOST_OF_TOPOLOGY, id.as_str());
        for (job, document) in documents {
            query(on(&jobs::PICTURE))
                .bind(key(job.as_str()))
                .bind(id.as_str())
                .bind(to_text("the last picture", document)?)
                .execute(&mut *tx)
                .await?;
        }
        query(on(&jobs::SUCCEED_ALL)).bind(id.as_str()).bind(now_ms).execute(&mut *tx).await?;
        query(on(&REMOVE)).bind(id.as_str()).execute(&mut *tx).await?;
    })
}

/// See [`crate::Store::change_component`] and, with `cancelled`, [`crate::Store::take_back`].
pub(super) async fn change(
    store: &SqlStore,
    component: &ComponentRecord,
    expected: u64,
    cancelled: Option<(&JobId, i64)>,
    job: Option<&JobRecord>,
) -> Result<()> {
    let id = key(component.id.as_str());
    let topology = key(component.topology.as_str());
    let conflict = || StoreError::Conflict { what: "component", id: component.id.to_string() };
    writing!(store, "changing a component", |tx, on| {
        let deleting: Option<i64> = query_scalar(on(&LOCK)).bind(&*topology).fetch_optional(&mut *tx).await?;
        if deleting.ok_or_else(|| no_topology(&component.topology))? != 0 {
            return Err(conflict().into());
        }
        let changed = query(on(&COMPONENT_CHANGE))
            .bind(&*id)
            .bind(&*topology)
            .bind(int(expected)?)
            .bind(to_text("the spec", &component.spec)?)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if changed == 0 {
            let there: i64 = query_scalar(on(&COMPONENT_THERE)).bind(&*id).bind(&*topology).fetch_one(&mut *tx).await?;
            let missing = || StoreError::NotFound { what: "component", id: component.id.to_string() };
            return Err(if there == 0 { missing() } else { conflict() }.into());
        }
        record_links!(tx, on, component);
        let needed: Option<String> =
            query_scalar(on(&neighbours::LINKS_TO)).bind(&*id).fetch_optional(&mut *tx).await?;
        if let Some(by) = needed.filter(|_| component.spec.removed) {
            return Err(neighbours::refused(&by).into());
        }
        if let Some((cancelled, at_ms)) = cancelled {
            let ended = query(on(&jobs::CANCEL)).bind(key(cancelled.as_str())).bind(at_ms).execute(&mut *tx).await?;
            if ended.rows_affected() == 0 {
                return Err(StoreError::Conflict { what: "job", id: cancelled.to_string() }.into());
            }
        }
        if let Some(job) = job {
            supersede!(tx, on, &component.topology, job);
            record_job!(tx, on, job);
        }
    })
}

/// See [`crate::Store::add_component`].
pub(super) async fn add_component(store: &SqlStore, component: &ComponentRecord, job: &JobRecord) -> Result<()> {
    let topology = key(component.topology.as_str());
    writing!(store, "adding a component", |tx, on| {
        let deleting: Option<i64> = query_scalar(on(&LOCK)).bind(&*topology).fetch_optional(&mut *tx).await?;
        if deleting.ok_or_else(|| no_topology(&component.topology))? != 0 {
            return Err(StoreError::Conflict { what: "topology", id: component.topology.to_string() }.into());
        }
        record_component!(tx, on, component);
        record_links!(tx, on, component);
        record_job!(tx, on, job);
    })
}

/// See [`crate::Store::forget_component`].
pub(super) async fn forget_component(store: &SqlStore, id: &ComponentId) -> Result<()> {
    writing!(store, "forgetting a component", |tx, on| {
        no_host!(tx, on, &nodes::HOST_OF_COMPONENT, key(id.as_str()));
        query(on(&COMPONENT_REMOVE)).bind(key(id.as_str())).execute(&mut *tx).await?;
    })
}

/// See [`crate::Store::component`].
pub(super) async fn component(store: &SqlStore, id: &ComponentId) -> Result<Option<ComponentRecord>> {
    reading!(store, "reading a component", |tx, on| {
        let row: Option<ComponentRow> =
            query_as(on(&COMPONENT_GET)).bind(key(id.as_str())).fetch_optional(&mut *tx).await?;
        row.map(ComponentRecord::try_from).transpose()?
    })
}
