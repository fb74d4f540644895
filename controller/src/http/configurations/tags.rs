//! `/configurations/tree/{branch}/tags`: names for commits of a branch.
//!
//! In git a tag is called `{role}&{branch}&{tag}`; users say `{branch}&{tag}`.

use super::{allowed, author, commits_of, git, writable};
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::etag::IfMatch;
use crate::http::extract::{Body, Path, Query};
use crate::http::lists::ListQuery;
use crate::http::problem::ApiError;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use straas_repos::{CommitId, TagFilter};
use straas_schemas::configuration::{TagRequest, TagView};
use straas_schemas::view::Page;

/// Whose a tag is.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum TagRole {
    /// A topology's user's.
    User,
    /// The platform's.
    Admin,
}

impl TagRole {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// Query of a branch's tags.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TagsQuery {
    #[serde(flatten)]
    list: ListQuery,
    /// Only those of users, or only the platform's.
    role: Option<TagRole>,
    /// Only those whose name begins so.
    prefix: Option<String>,
}

/// `GET /v1.0/configurations/tree/{branch}/tags`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(branch): Path<String>,
    Query(TagsQuery { list, role, prefix }): Query<TagsQuery>,
) -> Result<Json<Page<TagView>>, ApiError> {
    allowed(&app, &caller, &branch).await?;
    let limit = list.page().limit as usize - 1;
    let configs = app.configs.clone();
    let (items, more) = git(move || {
        let only = TagFilter { role: role.map(TagRole::name), prefix: prefix.as_deref().unwrap_or_default() };
        configs.tags(&branch, only, list.marker.as_deref(), limit)
    })
    .await?;
    let next = items.last().filter(|_| more).map(|tag| tag.tag.clone());
    Ok(Json(Page { items, next }))
}

/// `POST /v1.0/configurations/tree/{branch}/tags`
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(branch): Path<String>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let topology = writable(&app, &caller, &branch).await?;
    let request: TagRequest = body::typed(&bytes)?;
    // a topology's branch is its user's, the others are the administrator's
    let role = if topology.is_some() { "user" } else { "admin" };
    let (configs, by) = (app.configs.clone(), author(&caller));
    let made = git(move || {
        let commit = request.commit.as_deref().map(CommitId::parse).transpose()?;
        configs.create_tag(role, &branch, &request.tag, commit.as_ref(), &request.message, &by)
    })
    .await?;
    let place = format!("/straas/v1.0/configurations/tree/{}", made.reference);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(made)).into_response())
}

/// `DELETE /v1.0/configurations/tree/{branch}/tags/{tag}`
pub async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((branch, tag)): Path<(String, String)>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    writable(&app, &caller, &branch).await?;
    let (configs, seen) = (app.configs.clone(), commits_of(&if_match));
    let (of, name) = (branch.clone(), tag.clone());
    if let Some(now) = git(move || configs.delete_tag(&of, &name, seen.as_deref())).await? {
        let text =
            format!("the tag {tag} of {branch} is of commit {now}, not of the one of If-Match; look at it again");
        return Err(ApiError::precondition_failed(&text, now.as_str()));
    }
    Ok(StatusCode::NO_CONTENT)
}
