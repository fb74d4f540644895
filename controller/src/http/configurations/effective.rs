//! What changed, when, by whom; and what a component is configured with in the end.

use super::{allowed, etag, git, owner};
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::components::own;
use crate::http::extract::{Path, Query};
use crate::http::lists::ListQuery;
use crate::http::problem::ApiError;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use std::sync::Arc;
use straas_repos::{CommitId, Error};
use straas_schemas::configuration::{CommitView, ConfigDiff, EffectiveView};
use straas_schemas::view::Page;

/// Commits of a page, where nothing else is asked for: each is looked into.
const COMMITS: u32 = 50;

/// `GET /v1.0/configurations/diff/{a}...{b}`
pub async fn diff(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(range): Path<String>,
) -> Result<Json<ConfigDiff>, ApiError> {
    let Some((from, to)) = range.split_once("...").filter(|(from, to)| !from.is_empty() && !to.is_empty()) else {
        return Err(ApiError::unreadable("name two refs with ... between them: master...demo@az1"));
    };
    allowed(&app, &caller, from).await?;
    allowed(&app, &caller, to).await?;
    let (configs, from, to) = (app.configs.clone(), from.to_owned(), to.to_owned());
    let found = git(move || configs.diff(&configs.resolve(&from)?, &configs.resolve(&to)?)).await?;
    Ok(Json(found))
}

/// `GET /v1.0/configurations/log/{ref}`: of everything.
pub async fn log_top(
    state: State<Arc<App>>,
    caller: Extension<Caller>,
    Path(reference): Path<String>,
    query: Query<ListQuery>,
) -> Result<Json<Page<CommitView>>, ApiError> {
    log(state, caller, Path((reference, String::new())), query).await
}

/// `GET /v1.0/configurations/log/{ref}/{path}`
pub async fn log(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((reference, path)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<CommitView>>, ApiError> {
    allowed(&app, &caller, &reference).await?;
    let limit = query.limit.unwrap_or(COMMITS) as usize;
    let path = path.trim_end_matches('/').to_owned();
    let configs = app.configs.clone();
    let (items, next) = git(move || {
        let after = query.marker.as_deref().map(CommitId::parse).transpose()?;
        configs.log(&configs.resolve(&reference)?, &path, after.as_ref(), limit)
    })
    .await?;
    Ok(Json(Page { items, next: next.map(String::from) }))
}

/// `GET /v1.0/configurations/effective/{component_id}`
pub async fn effective(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (topology, component) = own(&app, &caller, &id).await?;
    owner(&app, &caller, &topology.branch).await?;
    let (configs, branch) = (app.configs.clone(), topology.branch.clone());
    let (kind, version) = (component.spec.kind.clone(), component.spec.want.version.clone());
    let wanted = component.spec.want.config.clone();
    let view = git(move || {
        let commit = CommitId::parse(&wanted)?;
        let head = match configs.branch(&branch) {
            Ok(head) => head.map(String::from),
            Err(Error::Invalid { .. }) => None,
            Err(other) => return Err(other),
        };
        let values = configs.origins(&commit, &kind, &version)?;
        Ok(EffectiveView { component: id, kind, version, commit: commit.into(), branch, head, values })
    })
    .await?;
    Ok((etag(&view.commit), Json(view)).into_response())
}
