//! What a component depends on and what depends on it: shown, and changed where that is allowed.

use super::auth::Caller;
use super::body;
use super::change::{Situation, Wanted, change, look};
use super::elsewhere::{self, Found, Place};
use super::extract::{Body, Path};
use super::problem::ApiError;
use super::topologies::{How, view};
use crate::app::App;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use straas_schemas::job::JobKind;
use straas_schemas::view::{ComponentView, Standing, TopologyView};
use straas_schemas::{ComponentId, Fault, TopologyId};
use straas_store::{ComponentRecord, ComponentSpec, Neighbour as StoredNeighbour};

/// A component and its neighbours.
#[derive(Serialize, JsonSchema)]
pub struct Dependencies {
    id: ComponentId,
    name: String,
    /// Those that must work first.
    depends_on: Vec<Neighbour>,
    /// Those that need it.
    dependents: Vec<Neighbour>,
}

/// A component on the other end of a dependency.
#[derive(Serialize, JsonSchema)]
pub struct Neighbour {
    id: ComponentId,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    status: Standing,
    /// Its topology, if that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    topology: Option<TopologyId>,
    /// The type of the one that depends cannot run without.
    required: bool,
}

/// What a component is to depend on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DependenciesRequest {
    /// The names of all components that must work first, `topology/component` of those of other
    /// topologies; absent to be told only.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub depends_on: Option<Vec<String>>,
}

/// `POST /v1.0/components/{id}/dependencies`: with an empty body, or one without `depends_on`, it
/// only tells.
pub async fn dependencies(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    how: How,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let id = ComponentId(id);
    let situation = look(&app, &caller, &id, true).await?;
    let wanted = if bytes.is_empty() { None } else { body::typed::<DependenciesRequest>(&bytes)?.depends_on };
    let Some(wanted) = wanted else { return told(&app, &situation).await };
    let found = elsewhere::resolve(&app, &Place::from(&situation.snapshot.topology), &wanted).await?;
    let edit = move |situation: &Situation, spec: &mut ComponentSpec| set(situation, spec, &wanted, &found);
    change(&app, &caller, &how, &id.clone(), id.0, edit).await
}

async fn told(app: &App, situation: &Situation) -> Result<Response, ApiError> {
    let ComponentRecord { id, name, spec, .. } = &situation.component;
    let missing = || ApiError::not_found("component", id.as_str());
    let topology = view(app, &situation.snapshot.topology.id).await?.ok_or_else(missing)?;
    let required = |by: &str, kind: &str| {
        let meta = situation.view.catalog.get(by);
        meta.is_some_and(|meta| meta.dependencies.iter().any(|d| d.kind == kind && d.required))
    };
    let neighbour = |other: &ComponentView, required| Neighbour {
        id: other.id.clone(),
        name: other.name.clone(),
        kind: other.kind.clone(),
        status: other.status,
        topology: None,
        required,
    };
    let of = |wanted: &dyn Fn(&ComponentView) -> Option<bool>| {
        topology.components.iter().filter_map(|other| Some(neighbour(other, wanted(other)?))).collect()
    };
    let mut answer = Dependencies {
        id: id.clone(),
        name: name.clone(),
        depends_on: of(&|other| spec.depends_on.contains(&other.name).then(|| required(&spec.kind, &other.kind))),
        dependents: of(&|other| other.depends_on.contains(name).then(|| required(&other.kind, &spec.kind))),
    };
    let mut views: BTreeMap<&TopologyId, TopologyView> = BTreeMap::new();
    for StoredNeighbour { topology, component, .. } in &situation.snapshot.neighbours {
        let needed = spec.foreign.iter().find(|foreign| foreign.component == component.id);
        if needed.is_none() && !component.spec.foreign.iter().any(|foreign| foreign.component == *id) {
            continue;
        }
        if !views.contains_key(&topology.id) {
            // gone meanwhile: then it is not told of
            let Some(found) = view(app, &topology.id).await? else { continue };
            views.insert(&topology.id, found);
        }
        let found = views.get(&topology.id).and_then(|view| view.components.iter().find(|c| c.id == component.id));
        let Some(found) = found else { continue };
        let (list, name, required) = match needed {
            Some(foreign) => (&mut answer.depends_on, foreign.name.clone(), required(&spec.kind, &found.kind)),
            None => {
                let name = format!("{}/{}", topology.name, component.name);
                (&mut answer.dependents, name, required(&found.kind, &spec.kind))
            }
        };
        list.push(Neighbour { name, topology: Some(topology.id.clone()), ..neighbour(found, required) });
    }
    Ok(Json(answer).into_response())
}

fn set(
    situation: &Situation,
    spec: &mut ComponentSpec,
    wanted: &[String],
    found: &Found,
) -> Result<Option<Wanted>, ApiError> {
    let meta = situation.meta()?;
    let all = &situation.snapshot.components;
    let name = &situation.component.name;
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    let (own, foreign) = found.split(wanted.iter().map(String::as_str));
    for (index, other) in wanted.iter().enumerate() {
        if let Some(found) = found.get(other) {
            let message = match found {
                Err(message) => message.to_owned(),
                Ok((spec, _)) if !seen.insert(&spec.name) => format!("{} is named twice", spec.name),
                Ok(_) => continue,
            };
            faults.push(Fault::at(format!("/depends_on/{index}"), message));
            continue;
        }
        let fault = match all.iter().find(|component| component.name == *other) {
            None => format!("no component {:?} in this topology", other.chars().take(40).collect::<String>()),
            Some(_) if other == name => "a component cannot depend on itself".to_owned(),
            Some(found) if found.spec.removed => format!("{other} is being removed"),
            Some(found) if reaches(all, found, name) => format!("dependency cycle: {other} depends on {name}"),
            Some(_) if !seen.insert(other) => format!("{other} is named twice"),
            Some(_) => continue,
        };
        faults.push(Fault::at(format!("/depends_on/{index}"), fault));
    }
    let kinds = all.iter().filter(|c| wanted.contains(&c.name)).map(|c| c.spec.kind.as_str());
    let abroad = wanted.iter().filter_map(|name| Some(found.get(name)?.ok()?.1));
    let kinds: BTreeSet<&str> = kinds.chain(abroad).collect();
    for needed in meta.dependencies.iter().filter(|d| d.required && !kinds.contains(d.kind.as_str())) {
        let message = format!("{} needs a component of type {} to depend on", meta.kind, needed.kind);
        faults.push(Fault::at("/depends_on", message));
    }
    if !faults.is_empty() {
        return Err(ApiError::faults(faults));
    }
    if (&spec.depends_on, &spec.foreign) == (&own, &foreign) {
        return Ok(None);
    }
    (spec.depends_on, spec.foreign) = (own, foreign);
    // the job takes the place of that of a rollout under way, so it carries that one on
    if let Some(rollout) = &mut spec.rollout {
        rollout.job = situation.job.clone();
    }
    let words = if wanted.is_empty() { "nothing".to_owned() } else { wanted.join(", ") };
    Ok(Some(situation.begin(JobKind::Change, format!("{name}: depends on {words}"))))
}

/// Whether a component depends on the one called `name`, over however many others.
fn reaches(all: &[ComponentRecord], from: &ComponentRecord, name: &str) -> bool {
    let mut open = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if !seen.insert(&next.id) {
            continue;
        }
        if next.spec.depends_on.iter().any(|other| other == name) {
            return true;
        }
        open.extend(all.iter().filter(|other| next.spec.depends_on.contains(&other.name)));
    }
    false
}
