//! Defaults that moved under a topology: shown, and taken up when its owner wants that.

use super::{author, git, writable};
use crate::app::App;
use crate::http::audit;
use crate::http::auth::Caller;
use crate::http::components::own;
use crate::http::extract::{Path, Query};
use crate::http::problem::ApiError;
use crate::http::topologies::Mutation;
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::json;
use std::sync::Arc;
use straas_repos::{CommitId, ConfigRepo, Error};
use straas_schemas::configuration::{Blame, MovedValue, UpdatesView};

/// `GET /v1.0/configurations/blame/{ref}/{path}`
pub async fn blame(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((reference, path)): Path<(String, String)>,
) -> Result<Json<Blame>, ApiError> {
    super::allowed(&app, &caller, &reference).await?;
    let configs = app.configs.clone();
    let found = git(move || {
        let commit = configs.resolve(&reference)?;
        let values = configs.blame(&commit, &path)?;
        Ok(Blame { commit: commit.into(), path, values })
    });
    found.await.map(Json)
}

/// `GET /v1.0/configurations/updates/{component_id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<UpdatesView>, ApiError> {
    let (topology, component) = own(&app, &caller, &id).await?;
    let (configs, branch, spec) = (app.configs.clone(), topology.branch, component.spec);
    git(move || foreseen(&configs, &branch, &spec.kind, &spec.want.version)).await.map(Json)
}

/// `POST /v1.0/configurations/updates/{component_id}`
pub async fn take_up(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<Mutation>,
) -> Result<Json<UpdatesView>, ApiError> {
    let (topology, component) = own(&app, &caller, &id).await?;
    writable(&app, &caller, &topology.branch).await?;
    let (configs, branch, spec, author) = (app.configs.clone(), topology.branch, component.spec, author(&caller));
    let (kind, version) = (spec.kind, spec.want.version);
    if query.dry_run {
        return git(move || foreseen(&configs, &branch, &kind, &version)).await.map(Json);
    }
    let view = git(move || {
        let (commit, moved) = configs.update(&branch, &kind, &version, &author)?;
        Ok(view(branch, commit, moved))
    })
    .await?;
    let moved: Vec<_> = view.moved.iter().map(|moved| format!("{}.{}", moved.section, moved.key)).collect();
    audit::changed(format!("branch {}", view.branch), json!({}), json!({ "commit": view.commit, "moved": moved }));
    Ok(Json(view))
}

fn foreseen(configs: &ConfigRepo, branch: &str, kind: &str, version: &str) -> Result<UpdatesView, Error> {
    let moved = configs.updates(branch, kind, version)?;
    let missing = || Error::NotFound { what: format!("branch {branch}"), next: "its topology is gone".into() };
    let head = configs.branch(branch)?.ok_or_else(missing)?;
    Ok(view(branch.to_owned(), head, moved))
}

fn view(branch: String, commit: CommitId, moved: Vec<MovedValue>) -> UpdatesView {
    let conflicts = moved.iter().filter(|moved| moved.is_conflict()).count();
    UpdatesView { branch, commit: commit.into(), moved, conflicts }
}
