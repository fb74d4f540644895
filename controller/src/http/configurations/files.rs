//! `/configurations/tree/{ref}/{path}`: list a folder, read a file, write a file.

use super::{allowed, author, commits_of, etag, git, writable};
use crate::app::App;
use crate::http::audit;
use crate::http::auth::Caller;
use crate::http::body;
use crate::http::etag::IfMatch;
use crate::http::extract::{Body, Path};
use crate::http::problem::ApiError;
use crate::settings;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use std::sync::Arc;
use straas_repos::{Entry, Error};
use straas_schemas::configuration::{ConfigContent, ConfigEntry, ConfigNode, ConfigWrite, ConfigWritten, EntryKind};

/// `GET /v1.0/configurations/tree/{ref}`: the top folder.
pub async fn read_top(
    state: State<Arc<App>>,
    caller: Extension<Caller>,
    Path(reference): Path<String>,
) -> Result<Response, ApiError> {
    read(state, caller, Path((reference, String::new()))).await
}

/// `GET /v1.0/configurations/tree/{ref}/{path}`
pub async fn read(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((reference, path)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    allowed(&app, &caller, &reference).await?;
    let path = path.trim_end_matches('/').to_owned();
    let configs = app.configs.clone();
    let node = git(move || {
        let commit = configs.resolve(&reference)?;
        let content = match configs.list(&commit, &path)? {
            Some(entries) => Some(ConfigContent::Folder { entries: entries.into_iter().map(entry).collect() }),
            None => configs.read_shown(&commit, &path)?.map(|content| ConfigContent::File { content }),
        };
        let Some(content) = content else {
            let what = format!("file or folder {path} at {reference}");
            return Err(Error::NotFound { what, next: "list the folder above".into() });
        };
        Ok(ConfigNode { reference, commit: commit.into(), path, content })
    })
    .await?;
    Ok((etag(&node.commit), Json(node)).into_response())
}

fn entry(entry: Entry) -> ConfigEntry {
    let kind = if entry.folder { EntryKind::Folder } else { EntryKind::File };
    ConfigEntry { name: entry.name, kind, size: entry.size }
}

/// `PUT /v1.0/configurations/tree/{branch}/{path}`
pub async fn write(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((branch, path)): Path<(String, String)>,
    if_match: IfMatch,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    if branch.contains('&') || branch.len() == 40 && !branch.contains('@') {
        return Err(ApiError::invalid("", "a file is written to a branch, not to a tag or a commit"));
    }
    writable(&app, &caller, &branch).await?;
    let seen = commits_of(&if_match);
    let request: ConfigWrite = body::typed(&bytes)?;
    let (configs, by) = (app.configs.clone(), author(&caller));
    let (name, file) = (branch.clone(), path.clone());
    let (before, written) = git(move || {
        let mut before = configs.resolve(&name)?;
        if seen.as_ref().is_some_and(|seen| !seen.contains(&before)) {
            // who read it from another controller has seen what this one has not yet
            configs.catch_up(&name)?;
            before = configs.resolve(&name)?;
        }
        if seen.as_ref().is_some_and(|seen| !seen.contains(&before)) {
            return Ok((before, None));
        }
        let expect = seen.map(|_| before.clone());
        match configs.edit(&name, expect.as_ref(), &file, &request.content, &request.message, &by) {
            // where it is now; if it moved back meanwhile, the loss was real all the same
            Err(Error::Conflict { .. }) if expect.is_some() => Ok((configs.resolve(&name)?, None)),
            other => Ok((before, Some(other?))),
        }
    })
    .await?;
    let Some(commit) = written else {
        let text = format!(
            "{branch} is at {before}, not at the commit of If-Match: read the file again, apply the change to it, and try again"
        );
        return Err(ApiError::precondition_failed(&text, before.as_str()));
    };
    let changed = commit != before;
    if changed {
        audit::changed(format!("{path} on {branch}"), before.to_string().into(), commit.to_string().into());
    }
    tracing::info!(%branch, path, %commit, changed, "a configuration file was written");
    if !branch.contains('@') && changed {
        // metadata and service settings are read from master by everything that plans
        if let Err(error) = settings::look(&app).await {
            tracing::warn!(error = error.chain(), "cannot look at the settings that were written; trying again");
        }
        app.wake_all().await?;
    }
    let answer = ConfigWritten { branch, path, commit: commit.into(), changed };
    Ok((etag(&answer.commit), Json(answer)).into_response())
}
