//! Components of other topologies: what their names mean, and who needs what.
//!
//! A name is read once, when it is written down: `topology/component`, where the topology is called
//! by its name, by `name@zone` if it is in another zone, or by its id. What is recorded are ids.
//!
//! Never here: what belongs to another tenant. It is answered as if it were not there.

use super::problem::ApiError;
use crate::app::App;
use std::collections::BTreeMap;
use straas_schemas::topology::Elsewhere;
use straas_schemas::{ComponentId, TopologyId};
use straas_store::{ForeignSpec, Snapshot, TopologyRecord};

/// Most components of other topologies that one request may name: each is looked for.
const NAMES_MAX: usize = 64;
/// Longest name that is looked for; with a topology's id it has 57 characters at most.
const NAME_BYTES_MAX: usize = 80;

/// Where a name is read.
pub struct Place<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The zone.
    pub zone: &'a str,
    /// The topology, if it is there already.
    pub own: Option<&'a TopologyId>,
}

impl<'a> From<&'a TopologyRecord> for Place<'a> {
    fn from(topology: &'a TopologyRecord) -> Self {
        Self { tenant: &topology.tenant, zone: &topology.zone, own: Some(&topology.id) }
    }
}

/// What names mean: the component and its type, or why it cannot be depended on.
#[derive(Default)]
pub struct Found(BTreeMap<String, Result<(ForeignSpec, String), String>>);

impl Found {
    /// What a name means; `None` if it was not asked for.
    pub fn get(&self, name: &str) -> Option<Result<(&ForeignSpec, &str), &str>> {
        let found = self.0.get(name)?;
        Some(found.as_ref().map(|(spec, kind)| (spec, kind.as_str())).map_err(String::as_str))
    }

    /// The types, for checks of a whole body.
    pub fn kinds(&self) -> Elsewhere {
        let kind = |(name, found): (&String, &Result<(ForeignSpec, String), String>)| {
            (name.clone(), found.as_ref().map(|(_, kind)| kind.clone()).map_err(Clone::clone))
        };
        self.0.iter().map(kind).collect()
    }

    /// Names as recorded: those of the same topology, and what those of others mean, each once.
    pub fn split<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> (Vec<String>, Vec<ForeignSpec>) {
        let (mut own, mut foreign): (Vec<String>, Vec<ForeignSpec>) = Default::default();
        for name in names {
            match self.get(name) {
                Some(Ok((spec, _))) if foreign.iter().any(|f| f.component == spec.component) => {}
                Some(Ok((spec, _))) => foreign.push(spec.clone()),
                _ => own.push(name.to_owned()),
            }
        }
        (own, foreign)
    }
}

/// Reads the names that have a `/`.
///
/// # Errors
/// The database's; 422 for more names than are looked for.
pub async fn resolve(app: &App, place: &Place<'_>, names: &[String]) -> Result<Found, ApiError> {
    let mut found = Found::default();
    for name in names.iter().filter(|name| name.contains('/')) {
        if found.0.len() >= NAMES_MAX {
            let message = format!("at most {NAMES_MAX} components of other topologies in one request");
            return Err(ApiError::invalid("", &message));
        }
        if !found.0.contains_key(name) {
            found.0.insert(name.clone(), one(app, place, name).await?);
        }
    }
    Ok(found)
}

async fn one(app: &App, place: &Place<'_>, name: &str) -> Result<Result<(ForeignSpec, String), String>, ApiError> {
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    let unknown = || Ok(Err(format!("no component {shown:?} in another topology of yours")));
    let Some((of, component)) = name.split_once('/').filter(|_| name.len() <= NAME_BYTES_MAX) else { return unknown() };
    let (called, zone) = of.split_once('@').unwrap_or((of, place.zone));
    let topology = match app.store.topology_by_name(called, zone).await? {
        Some(topology) => Some(topology),
        None => app.store.topology(&TopologyId(of.to_owned())).await?,
    };
    let Some(topology) = topology.filter(|topology| topology.tenant == place.tenant) else { return unknown() };
    let Some(component) = app.store.component_by_name(&topology.id, component).await? else { return unknown() };
    if place.own == Some(&topology.id) {
        return Ok(Err(format!("{0} is a component of this topology; call it {0:?}", component.name)));
    }
    if topology.deleting || component.spec.removed {
        return Ok(Err(format!("{shown} is being removed")));
    }
    if let Some(own) = place.own
        && app.store.leads_to(&topology.id, own).await?
    {
        let message = format!("dependency cycle: components of topology {} depend on this topology", topology.name);
        return Ok(Err(message));
    }
    let at = if topology.zone == place.zone { String::new() } else { format!("@{}", topology.zone) };
    let name = format!("{}{at}/{}", topology.name, component.name);
    Ok(Ok((ForeignSpec { topology: topology.id, component: component.id, name }, component.spec.kind)))
}

/// Adds to a snapshot that is only imagined what its components depend on in other topologies.
///
/// # Errors
/// The database's.
pub async fn complete(app: &App, snapshot: &mut Snapshot) -> Result<(), ApiError> {
    let links = snapshot.components.iter().flat_map(|component| &component.spec.foreign);
    let known = |link: &&ForeignSpec| snapshot.neighbours.iter().any(|n| n.component.id == link.component);
    let ids: Vec<ComponentId> = links.filter(|link| !known(link)).map(|link| link.component.clone()).collect();
    if !ids.is_empty() {
        snapshot.neighbours.extend(app.store.neighbours(&ids).await?);
    }
    Ok(())
}

/// Refuses to take away what components of other topologies depend on: all of a topology, or one
/// component of it.
///
/// # Errors
/// 409 that names them.
pub fn refuse_needed(snapshot: &Snapshot, component: Option<&ComponentId>) -> Result<(), ApiError> {
    let mut needed = Vec::new();
    for own in snapshot.components.iter().filter(|own| component.is_none_or(|id| own.id == *id)) {
        let needs =
            snapshot.neighbours.iter().filter(|n| n.component.spec.foreign.iter().any(|f| f.component == own.id));
        needed.extend(needs.map(|n| {
            let going = if n.topology.deleting || n.component.spec.removed { " (being removed)" } else { "" };
            format!("{} of topology {}{going} depends on {}", n.component.name, n.topology.name, own.name)
        }));
    }
    if needed.is_empty() {
        return Ok(());
    }
    Err(ApiError::conflict(&format!("{}; remove what depends on it first", needed.join(", "))))
}
