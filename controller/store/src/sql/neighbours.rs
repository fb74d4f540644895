//! Components of other topologies: what is depended on, and by whom.
//!
//! A dependency is written under the lock of the topology that it points to, and a deletion looks
//! for dependencies under the same lock: one of the two comes first, and the other one sees it.
//! New dependencies are recorded one at a time, so that no circle is closed by two at once.

use super::rows::{ComponentRow, key};
use super::{SqlStore, topologies};
use crate::{ComponentRecord, Neighbour, Result, StoreError};
use sqlx::query_as;
use std::collections::BTreeSet;
use straas_schemas::{ComponentId, TopologyId};

statements! {
    LINK = "insert into dependency (component, topology, on_component, on_topology) values ($1, $2, $3, $4)
        on conflict (component, on_component) do nothing";
    UNLINK = "delete from dependency where component = $1 and on_component = $2";
    LINKS_OF = "select on_component from dependency where component = $1";
    LINKS_TO = "select component from dependency where on_component = $1 limit 1";
    NEEDED = "select component from dependency where on_topology = $1 limit 1";
    DOWN = "select on_topology, on_component from dependency where topology = $1";
    UP = "select topology from dependency where on_topology = $1";
    ONE_AT_A_TIME = "update counter set value = value + 1 where name = 'dependency'";
    @ LINKED = sqlite "select topology from dependency where topology in (select value from json_each($1))
            union all select on_topology from dependency where on_topology in (select value from json_each($1))",
        postgres "select topology from dependency where topology = any(array(select json_array_elements_text($1::json)))
            union all select on_topology from dependency
            where on_topology = any(array(select json_array_elements_text($1::json)))";
}

/// What is said of a dependency that cannot be.
pub(super) fn refused(id: &str) -> StoreError {
    StoreError::Conflict { what: "dependency", id: id.to_owned() }
}

/// Makes the recorded dependencies of a component those of its spec, inside a transaction.
macro_rules! record_links {
    ($tx:ident, $on:ident, $component:expr) => {
        let links = &$component.spec.foreign;
        let have: Vec<String> = query_scalar($on(&$crate::sql::neighbours::LINKS_OF))
            .bind($component.id.as_str())
            .fetch_all(&mut *$tx)
            .await?;
        let new: Vec<_> = links.iter().filter(|link| !have.iter().any(|id| id == link.component.as_str())).collect();
        if !new.is_empty() {
            query($on(&$crate::sql::neighbours::ONE_AT_A_TIME)).execute(&mut *$tx).await?;
        }
        for link in new {
            let deleting: Option<i64> = query_scalar($on(&$crate::sql::topologies::LOCK))
                .bind(link.topology.as_str())
                .fetch_optional(&mut *$tx)
                .await?;
            let found: Option<$crate::sql::rows::ComponentRow> = query_as($on(&$crate::sql::topologies::COMPONENT_GET))
                .bind(link.component.as_str())
                .fetch_optional(&mut *$tx)
                .await?;
            let found = found.map($crate::ComponentRecord::try_from).transpose()?;
            let stays = found.is_some_and(|found| found.topology == link.topology && !found.spec.removed);
            let circle = reaches!($tx, $on, &link.topology, &$component.topology);
            if deleting != Some(0) || !stays || circle {
                return Err($crate::sql::neighbours::refused(link.component.as_str()).into());
            }
            query($on(&$crate::sql::neighbours::LINK))
                .bind($component.id.as_str())
                .bind($component.topology.as_str())
                .bind(link.component.as_str())
                .bind(link.topology.as_str())
                .execute(&mut *$tx)
                .await?;
        }
        for gone in have.iter().filter(|id| !links.iter().any(|link| link.component.as_str() == **id)) {
            query($on(&$crate::sql::neighbours::UNLINK))
                .bind($component.id.as_str())
                .bind(gone)
                .execute(&mut *$tx)
                .await?;
        }
    };
}

/// Whether a topology is another one or depends on it, over however many others, inside a transaction.
macro_rules! reaches {
    ($tx:ident, $on:ident, $from:expr, $to:expr) => {{
        let mut open = vec![$from.0.clone()];
        let mut seen = std::collections::BTreeSet::new();
        let mut found = false;
        while let Some(next) = open.pop() {
            found |= next == $to.as_str();
            if !found && seen.insert(next.clone()) {
                let down: Vec<(String, String)> =
                    query_as($on(&$crate::sql::neighbours::DOWN)).bind(&next).fetch_all(&mut *$tx).await?;
                open.extend(down.into_iter().map(|(topology, _)| topology));
            }
        }
        found
    }};
}

/// Components with their topologies and nodes, inside a transaction; those that are gone are left out.
macro_rules! neighbours {
    ($tx:ident, $on:ident, $ids:expr) => {{
        let mut out: Vec<$crate::Neighbour> = Vec::new();
        for id in $ids {
            let component: Option<$crate::sql::rows::ComponentRow> =
                query_as($on(&$crate::sql::topologies::COMPONENT_GET))
                    .bind($crate::sql::rows::key(id.as_str()))
                    .fetch_optional(&mut *$tx)
                    .await?;
            let Some(component) = component.map($crate::ComponentRecord::try_from).transpose()? else { continue };
            let of = component.topology.as_str();
            let topology = match out.iter().find(|other| other.topology.id == component.topology) {
                Some(other) => other.topology.clone(),
                None => {
                    let row: $crate::sql::rows::TopologyRow =
                        query_as($on(&$crate::sql::topologies::GET)).bind(of).fetch_one(&mut *$tx).await?;
                    row.into()
                }
            };
            let id = component.id.as_str();
            let found: Vec<$crate::sql::rows::NodeRow> =
                query_as($on(&$crate::sql::nodes::OF_COMPONENT)).bind(id).fetch_all(&mut *$tx).await?;
            let stages: Vec<$crate::sql::nodes::StageRow> =
                query_as($on(&$crate::sql::nodes::STAGES_OF_COMPONENT)).bind(id).fetch_all(&mut *$tx).await?;
            let mut nodes: Vec<$crate::NodeSnapshot> = $crate::sql::rows::all(found)?;
            nodes.sort_by(|a, b| a.record.id.cmp(&b.record.id));
            $crate::sql::nodes::attach(&mut nodes, stages)?;
            out.push($crate::Neighbour { topology, component, nodes });
        }
        out
    }};
}

/// The components of other topologies that those of a topology have to do with, inside a transaction.
macro_rules! near {
    ($tx:ident, $on:ident, $topology:expr, $components:expr) => {{
        let mut ids: std::collections::BTreeSet<straas_schemas::ComponentId> = std::collections::BTreeSet::new();
        let down: Vec<(String, String)> =
            query_as($on(&$crate::sql::neighbours::DOWN)).bind(&*$topology).fetch_all(&mut *$tx).await?;
        ids.extend(down.into_iter().map(|(_, component)| straas_schemas::ComponentId(component)));
        // those that depend on this one may have others that depend on them
        let mut above: Vec<$crate::ComponentRecord> = Vec::new();
        let mut seen: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
        let mut open = vec![$topology.to_string()];
        while let Some(next) = open.pop() {
            let up: Vec<String> =
                query_scalar($on(&$crate::sql::neighbours::UP)).bind(&next).fetch_all(&mut *$tx).await?;
            for topology in up {
                if seen.insert(topology.clone()) {
                    let rows: Vec<$crate::sql::rows::ComponentRow> =
                        query_as($on(&$crate::sql::topologies::COMPONENTS_OF))
                            .bind(&topology)
                            .fetch_all(&mut *$tx)
                            .await?;
                    let rows: Vec<$crate::ComponentRecord> = $crate::sql::rows::all(rows)?;
                    above.extend(rows);
                    open.push(topology);
                }
            }
        }
        ids.extend($crate::sql::neighbours::dependents($components, &above));
        neighbours!($tx, $on, ids)
    }};
}

/// Those of other components that depend on some of these, through others as well.
pub(super) fn dependents(own: &[ComponentRecord], others: &[ComponentRecord]) -> BTreeSet<ComponentId> {
    let mut out = BTreeSet::new();
    let mut open: Vec<&ComponentRecord> = own.iter().collect();
    while let Some(on) = open.pop() {
        let needs = |other: &&ComponentRecord| {
            let beside = other.topology == on.topology && other.spec.depends_on.contains(&on.name);
            beside || other.spec.foreign.iter().any(|link| link.component == on.id)
        };
        for other in others.iter().filter(needs) {
            if out.insert(other.id.clone()) {
                open.push(other);
            }
        }
    }
    out
}

/// See [`crate::Store::component_by_name`].
pub(super) async fn by_name(store: &SqlStore, topology: &TopologyId, name: &str) -> Result<Option<ComponentRecord>> {
    reading!(store, "reading a component by its name", |tx, on| {
        let row: Option<ComponentRow> = query_as(on(&topologies::COMPONENT_BY_NAME))
            .bind(key(topology.as_str()))
            .bind(key(name))
            .fetch_optional(&mut *tx)
            .await?;
        row.map(ComponentRecord::try_from).transpose()?
    })
}

/// See [`crate::Store::neighbours`].
pub(super) async fn get(store: &SqlStore, ids: &[ComponentId]) -> Result<Vec<Neighbour>> {
    reading!(store, "reading components with their nodes", |tx, on| { neighbours!(tx, on, ids) })
}

/// See [`crate::Store::leads_to`].
pub(super) async fn leads_to(store: &SqlStore, from: &TopologyId, to: &TopologyId) -> Result<bool> {
    reading!(store, "following dependencies", |tx, on| { reaches!(tx, on, from, to) })
}
