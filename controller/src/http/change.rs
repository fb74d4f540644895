//! The way of every change of a component: looked at, checked, written by compare-and-swap, answered.
//!
//! A change is a pure edit of what is wanted of a component (`wanted.rs`), made of what is there at
//! one moment. Should somebody else change the component meanwhile, the whole of it is looked at
//! again: what was allowed a moment ago may not be so any more. A dry run stops before the write
//! and asks the planner what would follow.
//!
//! Never here: what a request means; that is said by the edit.

use super::audit;
use super::auth::Caller;
use super::components::own;
use super::elsewhere;
use super::etag::{IfMatch, Tag};
use super::jobs::new_job;
use super::once::{self, Made};
use super::problem::ApiError;
use super::topologies::{How, accepted};
use crate::app::App;
use crate::error::Error;
use crate::snapshot::{self, Given};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::json;
use std::sync::Arc;
use straas_repos::{CatalogView, ConfigRepo, ScriptRepo};
use straas_schemas::config::Effective;
use straas_schemas::job::JobKind;
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::view::DryRun;
use straas_schemas::{ComponentId, JobId};
use straas_store::{ComponentRecord, ComponentSpec, JobRecord, NodeSnapshot, QuarantineRecord, Snapshot, StoreError};
use uuid::Uuid;

/// A change is tried so often while others change the same component.
pub const TRIES_MAX: u32 = 16;

/// What a change is decided on, as of one moment.
pub struct Situation {
    /// The topology with everything in it.
    pub snapshot: Snapshot,
    /// The component.
    pub component: ComponentRecord,
    /// The component types of now.
    pub view: CatalogView,
    /// What nobody should get any more.
    pub quarantine: Vec<QuarantineRecord>,
    /// The config repo.
    pub configs: ConfigRepo,
    /// The script repo.
    pub scripts: ScriptRepo,
    /// When it was asked for, in Unix ms.
    pub asked_ms: i64,
    /// The job that the change would begin.
    pub job: JobId,
    /// Nothing may be written.
    pub dry_run: bool,
    /// Who asks, as commits name him.
    pub author: String,
}

/// What an edit of a component's spec means.
pub struct Wanted {
    /// What happens to jobs.
    pub then: Then,
    /// In words, for dry runs: what is not seen by comparing nodes.
    pub notes: Vec<String>,
    /// What the component is configured with, where the commit is written only after a dry run.
    pub effective: Option<Arc<Effective>>,
}

/// What happens to jobs.
pub enum Then {
    /// A new one begins.
    Begin(Box<JobRecord>),
    /// One is cancelled, and another does what is left to do.
    TakeBack(JobId, Option<Box<JobRecord>>),
    /// None begins or ends.
    Go,
}

impl Then {
    /// The job that begins, if one does.
    pub fn job(self) -> Option<JobRecord> {
        match self {
            Self::Begin(job) | Self::TakeBack(_, Some(job)) => Some(*job),
            Self::TakeBack(_, None) | Self::Go => None,
        }
    }
}

impl Situation {
    /// What is known of the component's type.
    ///
    /// # Errors
    /// 409 if the catalog has it no more.
    pub fn meta(&self) -> Result<&ComponentMeta, ApiError> {
        let kind = &self.component.spec.kind;
        let gone = || ApiError::conflict(&format!("the catalog has no component type {kind} any more"));
        self.view.catalog.get(kind).ok_or_else(gone)
    }

    /// Its recorded nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeSnapshot> {
        self.snapshot.nodes.iter().filter(|node| node.record.component == self.component.id)
    }

    /// Refuses what failed its canaries.
    ///
    /// # Errors
    /// 409 with the reason and the way out of it.
    pub fn refuse_quarantined(&self, pointer: &str, what: &str, key: &str) -> Result<(), ApiError> {
        quarantined(&self.quarantine, pointer, what, key)
    }

    /// Refuses where what is changed, the component or one of its nodes, is not as it was seen. What
    /// follows is written over the very record that this looked at.
    fn refuse_unseen(&self, if_match: &IfMatch, about: &str) -> Result<(), ApiError> {
        if about == self.component.id.as_str() {
            return if_match.check(&format!("component {}", self.component.name), &Tag::of_component(&self.component));
        }
        let node = self.nodes().find(|node| node.record.id.as_str() == about);
        if_match.check_node(&self.component, node.map(|node| &node.record), &about.into())
    }

    /// A new job of the component.
    pub fn begin(&self, kind: JobKind, detail: String) -> Wanted {
        Wanted { then: Then::Begin(Box::new(self.record(kind, detail))), notes: Vec::new(), effective: None }
    }

    /// The record of a new job of the component.
    pub fn record(&self, kind: JobKind, detail: String) -> JobRecord {
        let job = new_job(self.asked_ms, kind, &self.snapshot.topology, Some(&self.component.id), detail);
        JobRecord { id: self.job.clone(), ..job }
    }
}

/// Refuses what is in quarantine.
///
/// # Errors
/// As [`Situation::refuse_quarantined`].
pub fn quarantined(all: &[QuarantineRecord], pointer: &str, what: &str, key: &str) -> Result<(), ApiError> {
    let Some(found) = all.iter().find(|record| record.what == what && record.key == key) else { return Ok(()) };
    let message = format!(
        "{what} {key} is in quarantine: {}; once that is mended, DELETE /straas/v1.0/quarantine/{what}/{key} releases it",
        found.reason
    );
    Err(ApiError::taken(pointer, &message))
}

/// What a request asks to be changed: told `None` if all is as asked for already.
pub trait Edit: Fn(&Situation, &mut ComponentSpec) -> Result<Option<Wanted>, ApiError> + Send + Sync + 'static {}
impl<F: Fn(&Situation, &mut ComponentSpec) -> Result<Option<Wanted>, ApiError> + Send + Sync + 'static> Edit for F {}

/// What became of a decision.
pub struct Decided {
    /// What it rests on.
    pub situation: Situation,
    /// The component as it should be, and what that means; `None` if it is so already.
    pub change: Option<(ComponentRecord, Wanted)>,
}

/// The caller's component as it is, with all that a change of it is decided on.
///
/// # Errors
/// 404 for what is not the caller's; 409 for what is being removed.
pub async fn look(app: &App, caller: &Caller, id: &ComponentId, dry_run: bool) -> Result<Situation, ApiError> {
    let missing = || ApiError::not_found("component", id.as_str());
    let topology = own(app, caller, id.as_str()).await?.0;
    let snapshot = app.store.snapshot(&topology.id).await?.ok_or_else(missing)?;
    let component = snapshot.components.iter().find(|c| c.id == *id).cloned().ok_or_else(missing)?;
    if snapshot.topology.deleting {
        return Err(ApiError::conflict("its topology is being deleted"));
    }
    if component.spec.removed {
        return Err(ApiError::conflict(&format!("the component {} is being removed", component.name)));
    }
    let configs = app.configs.clone();
    Ok(Situation {
        view: crate::app::blocking(move || configs.catalog_view()).await?,
        quarantine: app.store.quarantined().await?,
        configs: app.configs.clone(),
        scripts: app.scripts.clone(),
        asked_ms: app.now_ms(),
        job: JobId(Uuid::now_v7().to_string()),
        author: caller.name.clone(),
        snapshot,
        component,
        dry_run,
    })
}

/// Has an edit made of a situation; it may ask git.
///
/// # Errors
/// The edit's own.
pub async fn decide(situation: Situation, edit: Arc<impl Edit>) -> Result<Decided, ApiError> {
    let decided = tokio::task::spawn_blocking(move || {
        let mut component = situation.component.clone();
        // of nodes that have left nothing is wanted any more
        component.spec.want.nodes.retain(|id, _| situation.nodes().any(|node| node.record.id == *id));
        let wanted = edit(&situation, &mut component.spec)?;
        Ok::<_, ApiError>(Decided { situation, change: wanted.map(|wanted| (component, wanted)) })
    });
    decided.await.map_err(Error::from)?
}

/// Writes a decision over what was wanted `before`, for a request that makes `made`; `false` if the component was changed since it was looked at.
///
/// # Errors
/// The database's.
pub async fn write(
    app: &App,
    before: &ComponentSpec,
    component: &ComponentRecord,
    then: &Then,
    made: &Made,
) -> Result<bool, ApiError> {
    let expected = component.revision;
    let store = once::store(app, made);
    let written = match then {
        Then::Begin(job) => store.change_component(component, expected, Some(job)).await,
        Then::Go => store.change_component(component, expected, None).await,
        Then::TakeBack(cancelled, job) => {
            store.take_back(component, expected, cancelled, app.now_ms(), job.as_deref()).await
        }
    };
    match written {
        Ok(()) => {
            audit::changed(format!("component {}", component.name), json!(before), json!(component.spec));
            if let Then::Begin(job) | Then::TakeBack(_, Some(job)) = then {
                tracing::info!(component = %component.name, job = %job.id, "{}", job.detail);
            }
            app.wake.wake(&component.topology);
            Ok(true)
        }
        // another topology is in the way, or another controller carries the request out: nobody who was
        // faster, and the same again would be refused again
        Err(error @ StoreError::Conflict { what: "dependency" | "request", .. }) => Err(error.into()),
        Err(StoreError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Changes a component, or its node, whose id is `about`, and answers: 202 with the job, 200 without one if nothing is to be done.
///
/// # Errors
/// The edit's own; 409 if others are always faster.
pub async fn change(
    app: &App,
    Extension(caller): &Extension<Caller>,
    how: &How,
    component: &ComponentId,
    about: String,
    edit: impl Edit,
) -> Result<Response, ApiError> {
    let edit = Arc::new(edit);
    for _ in 0..TRIES_MAX {
        let situation = look(app, caller, component, how.dry_run).await?;
        situation.refuse_unseen(&how.if_match, &about)?;
        let Decided { situation, change } = decide(situation, edit.clone()).await?;
        if how.dry_run {
            let forecast = forecast(app, situation.snapshot, change.into_iter().collect()).await?;
            return Ok(Json(forecast).into_response());
        }
        let Some((component, wanted)) = change else { return Ok(unchanged(&about)) };
        let made = Made::Job { id: about.clone(), job: situation.job.clone() };
        if write(app, &situation.component.spec, &component, &wanted.then, &made).await? {
            return answer(app, about, &component, wanted.then).await;
        }
    }
    Err(outrun(component))
}

/// 409: others changed the component again and again.
pub fn outrun(component: &ComponentId) -> ApiError {
    ApiError::conflict(&format!("component {component} was changed by others {TRIES_MAX} times meanwhile; try again"))
}

/// 200: all is as asked for.
pub fn unchanged(about: &str) -> Response {
    (StatusCode::OK, Json(json!({ "id": about, "job": null }))).into_response()
}

async fn answer(app: &App, about: String, component: &ComponentRecord, then: Then) -> Result<Response, ApiError> {
    let Some(job) = then.job() else { return Ok(unchanged(&about)) };
    let missing = || ApiError::not_found("topology", component.topology.as_str());
    let snapshot = app.store.snapshot(&component.topology).await?.ok_or_else(missing)?;
    accepted(app, about, snapshot, &job).await
}

/// What would follow, were these components as given.
///
/// # Errors
/// The repos cannot be read.
pub async fn forecast(app: &App, now: Snapshot, changes: Vec<(ComponentRecord, Wanted)>) -> Result<DryRun, ApiError> {
    let mut wished = now.clone();
    let (mut notes, mut given) = (Vec::new(), Given::default());
    for (component, wanted) in changes {
        if let Some(effective) = wanted.effective {
            given.insert(component.id.clone(), effective);
        }
        if let Some(job) = wanted.then.job() {
            wished.jobs.retain(|open| open.component != job.component || !job.kind.takes_place_of(open.kind));
            wished.jobs.push(job);
        }
        notes.extend(wanted.notes);
        wished.components.iter_mut().filter(|c| c.id == component.id).for_each(|c| *c = component.clone());
    }
    elsewhere::complete(app, &mut wished).await?;
    let mut forecast = snapshot::forecast(app, now, wished, given).await?;
    forecast.changes.extend(notes);
    Ok(forecast)
}
