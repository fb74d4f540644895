//! Script sync: nodes get another commit of the script repo, in waves, component by component.
//!
//! Commits are pinned: one that is pushed reaches nobody until somebody asks for it here.

use super::auth::Caller;
use super::body;
use super::change::{Situation, Wanted};
use super::extract::{Body, Query};
use super::problem::ApiError;
use super::rollouts::missing_scripts;
use super::scope::{change_each, meant};
use super::topologies::Mutation;
use crate::app::{App, blocking};
use crate::sync;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;
use straas_repos::CommitId;
use straas_schemas::NodeId;
use straas_schemas::change::{RolloutOptions, SyncRequest};
use straas_schemas::job::JobKind;
use straas_store::ComponentSpec;

/// `PUT /v1.0/nodes/scripts`
pub async fn put(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let request: SyncRequest = body::typed(&bytes)?;
    let meant = meant(&app, &caller, request.scope, &request.items).await?;
    let commit = commit(&app, request.commit.as_deref()).await?;
    super::change::quarantined(&app.store.quarantined().await?, "/commit", "scripts", &commit)?;
    let options = request.rollout.unwrap_or_default();
    let edit = |nodes| Arc::new(edit(Order { commit: commit.clone(), nodes, options }));
    let edits = meant.into_iter().map(|(component, nodes)| (component, edit(nodes))).collect();
    change_each(&app, &caller, query.dry_run, edits).await
}

/// What a component's nodes get.
#[derive(Clone)]
struct Order {
    commit: String,
    nodes: Option<Vec<NodeId>>,
    options: RolloutOptions,
}

fn edit(order: Order) -> impl super::change::Edit {
    move |situation: &Situation, spec: &mut ComponentSpec| roll_out(situation, spec, &order)
}

fn roll_out(situation: &Situation, spec: &mut ComponentSpec, order: &Order) -> Result<Option<Wanted>, ApiError> {
    let name = &situation.component.name;
    let missing = missing_scripts(situation, &order.commit, &spec.want.version)?;
    if !missing.is_empty() {
        let lack = format!("commit {:.10} lacks {}, which {name} needs", order.commit, missing.join(", "));
        return Err(ApiError::invalid("/commit", &lack));
    }
    let changed = sync::sync(spec, &situation.job, order.options, &order.commit, order.nodes.as_deref());
    let whom = match &order.nodes {
        None => name.clone(),
        Some(nodes) => {
            let of = |id: &NodeId| situation.nodes().find(|node| node.record.id == *id);
            let names = nodes.iter().filter_map(of).map(|node| node.record.name.as_str()).collect::<Vec<_>>();
            names.join(", ")
        }
    };
    Ok(changed.then(|| situation.begin(JobKind::Sync, format!("{whom}: scripts → {:.10}", order.commit))))
}

/// The commit asked for, or the newest.
///
/// # Errors
/// 422 if there is no such commit.
pub async fn commit(app: &App, asked: Option<&str>) -> Result<String, ApiError> {
    let scripts = app.scripts.clone();
    let Some(asked) = asked else { return Ok(blocking(move || scripts.head()).await?.into()) };
    let unknown = |_| ApiError::invalid("/commit", "is no commit of the script repo; give all 40 hex digits");
    let commit = CommitId::parse(asked).map_err(unknown)?;
    let there = commit.clone();
    blocking(move || scripts.must_have(&there)).await.map_err(|error| match error {
        crate::error::Error::Repos(straas_repos::Error::NotFound { .. }) => {
            ApiError::invalid("/commit", &format!("the script repo has no commit {commit}"))
        }
        other => other.into(),
    })?;
    Ok(asked.to_owned())
}
