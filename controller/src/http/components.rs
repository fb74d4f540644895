//! Components: show one, change it, remove it.
//!
//! A change of what nodes are made of (version, configuration) is a rollout; a change of their
//! number holds at once. Both may come in one request, and are then one job.

use super::auth::Caller;
use super::body;
use super::change::{Situation, Then, Wanted, change};
use super::elsewhere::refuse_needed;
use super::etag::Tag;
use super::extract::{Body, Path};
use super::flex::resize;
use super::problem::ApiError;
use super::rollouts::{adopt, checked_config};
use super::topologies::How;
use crate::app::App;
use crate::{snapshot, wanted};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;
use straas_schemas::change::ComponentPatch;
use straas_schemas::job::JobKind;
use straas_schemas::{ComponentId, Fault};
use straas_store::{ComponentRecord, ComponentSpec, TopologyRecord};

/// The caller's component of this id, and its topology.
///
/// # Errors
/// 404.
pub async fn own(app: &App, caller: &Caller, id: &str) -> Result<(TopologyRecord, ComponentRecord), ApiError> {
    let missing = || ApiError::not_found("component", id);
    let component = app.store.component(&ComponentId(id.to_owned())).await?.ok_or_else(missing)?;
    let topology = super::topologies::own(app, caller, component.topology.as_str()).await.map_err(|_| missing())?;
    Ok((topology, component))
}

/// `GET /v1.0/components/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("component", &id);
    let topology = own(&app, &caller, &id).await?.0;
    let seen = snapshot::seen(&app, &topology.id).await?.ok_or_else(missing)?;
    let record = seen.components.iter().find(|component| component.id.as_str() == id).ok_or_else(missing)?;
    let view = seen.view.components.iter().find(|component| component.id.as_str() == id).ok_or_else(missing)?;
    Ok(Tag::of_component(record).shows(view))
}

/// `PATCH /v1.0/components/{id}`
pub async fn patch(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    how: How,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    // whose it is comes first: what is wrong with a body is nobody else's to learn
    let id = own(&app, &caller, &id).await?.1.id;
    let patch: ComponentPatch = body::typed(&bytes)?;
    if patch.version.is_none() && patch.size.is_none() && patch.config.is_none() {
        return Err(ApiError::invalid("", "nothing to change; name a version, a size or a config"));
    }
    change(&app, &caller, &how, &id.clone(), id.0, move |situation, spec| alter(situation, spec, &patch)).await
}

fn alter(situation: &Situation, spec: &mut ComponentSpec, patch: &ComponentPatch) -> Result<Option<Wanted>, ApiError> {
    let meta = situation.meta()?;
    let mut faults = Vec::new();
    let now = spec.want.clone();
    let version = patch.version.clone().unwrap_or_else(|| now.version.clone());
    if !meta.versions.contains_key(&version) {
        let known = meta.versions.keys().cloned().collect::<Vec<_>>().join(", ");
        faults.push(Fault::at("/version", format!("{} has no version {version:?}; there are: {known}", meta.kind)));
    }
    if patch.role.is_some() && patch.size.is_none() {
        faults.push(Fault::at("/role", "says which nodes `size` counts; name a size too"));
    }
    let sized = match patch.size.map(|size| resize(situation, spec, patch.role.as_deref(), size)) {
        Some(Err(fault)) => {
            faults.push(fault);
            None
        }
        Some(Ok(sized)) => sized,
        None => None,
    };
    let config = patch.config.as_deref().map(|config| checked_config(situation, config, &version, "/config"));
    let config = match config.transpose() {
        Ok(config) => config,
        Err(found) => {
            faults.extend(found?);
            None
        }
    };
    if !faults.is_empty() {
        return Err(ApiError::faults(faults));
    }
    let mut adopted = None;
    if version != now.version {
        situation.refuse_quarantined("/version", "version", &format!("{}@{version}", meta.kind))?;
        if config.is_none() {
            adopted = Some(adopt(situation, &now.version, &version)?);
        }
    }
    let backwards = match &config {
        Some(config) => situation.leads_back(&now.config, config)?,
        None => false,
    };
    let kind = match (version != now.version, &config, sized.as_ref().map(|(_, kind, _)| *kind)) {
        (true, None, None) => JobKind::Upgrade,
        (false, Some(_), None) if backwards => JobKind::Rollback,
        (false, Some(_), None) => JobKind::Configure,
        (false, None, Some(kind)) => kind,
        _ => JobKind::Change,
    };
    let config = config.or_else(|| adopted.as_ref().map(|adoption| adoption.commit.to_string()));
    let changed =
        wanted::roll_out(spec, &situation.job, patch.rollout.unwrap_or_default(), kind != JobKind::Rollback, |want| {
            want.version.clone_from(&version);
            want.config = config.unwrap_or_else(|| now.config.clone());
        });
    if !changed && sized.is_none() {
        return Ok(None);
    }
    let mut words = Vec::new();
    if version != now.version {
        words.push(format!("version {} → {version}", now.version));
    }
    if spec.want.config != now.config && adopted.is_none() {
        words.push(format!("configuration {:.10} → {:.10}", now.config, spec.want.config));
    }
    words.extend(sized.as_ref().map(|(_, _, words)| words.clone()));
    let mut wanted = situation.begin(kind, format!("{}: {}", situation.component.name, words.join(", ")));
    if let (Then::Begin(job), Some((undo, ..))) = (&mut wanted.then, sized) {
        job.undo = Some(undo);
    }
    if let Some(adoption) = adopted {
        wanted.notes = adoption.notes();
        wanted.effective = Some(adoption.effective);
    }
    Ok(Some(wanted))
}

/// `DELETE /v1.0/components/{id}`
pub async fn remove(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    how: How,
) -> Result<Response, ApiError> {
    let id = ComponentId(id);
    if let Some(open) = removal(&app, &caller, &id).await? {
        return Ok(open);
    }
    change(&app, &caller, &how, &id.clone(), id.0, |situation, spec| {
        let name = &situation.component.name;
        let others = || situation.snapshot.components.iter().filter(|other| other.id != situation.component.id);
        let depend: Vec<String> = others()
            .filter(|other| other.spec.depends_on.contains(name))
            .map(
                |other| if other.spec.removed { format!("{} (being removed)", other.name) } else { other.name.clone() },
            )
            .collect();
        if !depend.is_empty() {
            return Err(ApiError::conflict(&format!("{} depend on {name}; remove them first", depend.join(", "))));
        }
        refuse_needed(&situation.snapshot, Some(&situation.component.id))?;
        if others().all(|other| other.spec.removed) {
            return Err(ApiError::conflict(&format!("{name} is all that the topology has; delete the topology")));
        }
        spec.removed = true;
        Ok(Some(situation.begin(JobKind::Remove, format!("remove {name}"))))
    })
    .await
}

/// Removing twice answers with the job that is at it.
async fn removal(app: &App, caller: &Caller, id: &ComponentId) -> Result<Option<Response>, ApiError> {
    let (topology, component) = own(app, caller, id.as_str()).await?;
    if !component.spec.removed {
        return Ok(None);
    }
    let missing = || ApiError::not_found("component", id.as_str());
    let snapshot = app.store.snapshot(&topology.id).await?.ok_or_else(missing)?;
    let of_it = |open: &&straas_store::JobRecord| open.kind == JobKind::Remove && open.component.as_ref() == Some(id);
    let Some(open) = snapshot.jobs.iter().find(of_it).cloned() else { return Ok(None) };
    super::topologies::accepted(app, id.0.clone(), snapshot, &open).await.map(Some)
}
