//! Secrets that older keys sealed, sealed with the newest on every branch.

use super::{author, git};
use crate::app::App;
use crate::http::audit;
use crate::http::auth::Caller;
use crate::http::problem::ApiError;
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::json;
use std::sync::Arc;
use straas_schemas::configuration::{BranchCommit, ResealView};

/// Branches of one request: each is a commit, which upstream may have to take.
const BRANCHES_MAX: usize = 100;

/// `POST /v1.0/configurations/reseal`
pub async fn reseal(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ResealView>, ApiError> {
    let (configs, by) = (app.configs.clone(), author(&caller));
    let done = git(move || configs.reseal(&by, BRANCHES_MAX)).await?;
    let one = |(branch, commit): (String, straas_repos::CommitId)| BranchCommit { branch, commit: commit.into() };
    let view = ResealView { resealed: done.commits.into_iter().map(one).collect(), more: done.more };
    if !view.resealed.is_empty() {
        audit::changed("secrets of configurations".to_owned(), json!({}), json!({ "resealed": view.resealed }));
    }
    Ok(Json(view))
}
