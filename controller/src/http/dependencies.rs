//! What a component depends on and what depends on it: shown, and changed where that is allowed.

use super::auth::Caller;
use super::body;
use super::change::{Situation, Wanted, change, look};
use super::extract::{Body, Path, Query};
use super::problem::ApiError;
use super::topologies::{Mutation, view};
use crate::app::App;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use straas_schemas::job::JobKind;
use straas_schemas::view::{ComponentView, Standing};
use straas_schemas::{ComponentId, Fault};
use straas_store::{ComponentRecord, ComponentSpec};

/// A component and its neighbours.
#[derive(Serialize)]
struct Dependencies {
    id: ComponentId,
    name: String,
    /// Those that must work first.
    depends_on: Vec<Neighbour>,
    /// Those that need it.
    dependents: Vec<Neighbour>,
}

/// A component on the other end of a dependency.
#[derive(Serialize)]
struct Neighbour {
    id: ComponentId,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    status: Standing,
    /// The type of the one that depends cannot run without.
    required: bool,
}

/// `POST /v1.0/components/{id}/dependencies`: with an empty body, or one without `depends_on`, it
/// only tells.
pub async fn dependencies(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let id = ComponentId(id);
    let situation = look(&app, &caller, &id, true).await?;
    let wanted = if bytes.is_empty() { None } else { body::dependencies(body::json(&bytes)?)?.depends_on };
    let Some(wanted) = wanted else { return told(&app, &situation).await };
    change(&app, &caller, query.dry_run, &id.clone(), id.0, move |situation, spec| set(situation, spec, &wanted)).await
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
        required,
    };
    let of = |wanted: &dyn Fn(&ComponentView) -> Option<bool>| {
        topology.components.iter().filter_map(|other| Some(neighbour(other, wanted(other)?))).collect()
    };
    let answer = Dependencies {
        id: id.clone(),
        name: name.clone(),
        depends_on: of(&|other| spec.depends_on.contains(&other.name).then(|| required(&spec.kind, &other.kind))),
        dependents: of(&|other| other.depends_on.contains(name).then(|| required(&other.kind, &spec.kind))),
    };
    Ok(Json(answer).into_response())
}

fn set(situation: &Situation, spec: &mut ComponentSpec, wanted: &[String]) -> Result<Option<Wanted>, ApiError> {
    let meta = situation.meta()?;
    let all = &situation.snapshot.components;
    let name = &situation.component.name;
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, other) in wanted.iter().enumerate() {
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
    let kinds: BTreeSet<&str> = all.iter().filter(|c| wanted.contains(&c.name)).map(|c| c.spec.kind.as_str()).collect();
    for needed in meta.dependencies.iter().filter(|d| d.required && !kinds.contains(d.kind.as_str())) {
        let message = format!("{} needs a component of type {} to depend on", meta.kind, needed.kind);
        faults.push(Fault::at("/depends_on", message));
    }
    if !faults.is_empty() {
        return Err(ApiError::faults(faults));
    }
    if spec.depends_on == wanted {
        return Ok(None);
    }
    spec.depends_on = wanted.to_vec();
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
