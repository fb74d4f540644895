//! The config repo over HTTP: folders, files, tags, history, differences, effective values.
//!
//! ```text
//!  tree/{ref}/{path}   ref = branch | {branch}&{tag} | commit; '@' and '&' may stand in a path as they are
//! ```
//! Git is blocking and answers from its own files: every call goes to a thread for that. What is read
//! carries the commit as its `ETag`; a write takes it back as `If-Match`, so that nobody writes over
//! what he has not seen. Values that are secret are never shown. Decides nothing about nodes: a write
//! changes a branch, a component takes it up when it is told to.

mod effective;
mod files;
mod reseal;
mod settings;
mod tags;
mod updates;

pub use effective::{diff, effective, log, log_top};
pub use files::{read, read_top, write};
pub use reseal::reseal;
pub use settings::{SettingsQuery, settings};
pub use tags::{TagsQuery, create as create_tag, delete as delete_tag, list as list_tags};
pub use updates::{blame, show as updates, take_up};

use super::auth::Caller;
use super::etag::IfMatch;
use super::problem::ApiError;
use crate::app::{App, blocking};
use axum::http::{HeaderValue, header};
use straas_repos::{CommitId, Error, Result};
use straas_store::TopologyRecord;

/// Refuses a branch of a topology that is not the caller's: as if it were not there.
async fn allowed(app: &App, caller: &Caller, reference: &str) -> std::result::Result<(), ApiError> {
    owner(app, caller, reference).await.map(|_| ())
}

/// The topology of a ref, if it is of one, and of the caller's.
async fn owner(app: &App, caller: &Caller, reference: &str) -> std::result::Result<Option<TopologyRecord>, ApiError> {
    let Some(branch) = reference.split('&').find(|part| part.contains('@')) else {
        return readable(app, caller, reference).await.map(|()| None);
    };
    let missing = || ApiError::not_found("branch", branch);
    let (name, zone) = branch.split_once('@').ok_or_else(missing)?;
    let found = app.store.topology_by_name(name, zone).await?;
    found.filter(|topology| caller.may(&topology.tenant)).map(Some).ok_or_else(missing)
}

/// Refuses a bare commit that is neither the platform's nor on a branch of the caller's, as if it were not there:
/// a hash that was overheard opens nobody's configuration.
async fn readable(app: &App, caller: &Caller, reference: &str) -> std::result::Result<(), ApiError> {
    let Some(commit) = CommitId::parse(reference).ok().filter(|_| !caller.may_common()) else { return Ok(()) };
    let mut branches = vec!["master".to_owned()];
    branches.extend(app.topologies(Some(&caller.tenant)).await?.into_iter().map(|topology| topology.branch));
    let configs = app.configs.clone();
    let on_one = move || {
        // a branch that is not made yet holds nothing
        let holds = |branch: &String| configs.on_branch(branch, &commit).unwrap_or(false);
        Ok(branches.iter().any(holds))
    };
    match git(on_one).await? {
        true => Ok(()),
        false => Err(ApiError::not_found("commit", reference)),
    }
}

/// As [`owner`], for who writes: a branch that is no topology's is the platform's.
async fn writable(app: &App, caller: &Caller, branch: &str) -> std::result::Result<Option<TopologyRecord>, ApiError> {
    let topology = owner(app, caller, branch).await?;
    match &topology {
        None if !caller.may_common() => {
            let text = format!("{branch} is the platform's; your topologies' branches are called name@zone");
            Err(ApiError::forbidden(&text))
        }
        Some(topology) if topology.deleting => Err(ApiError::conflict("its topology is being deleted")),
        _ => Ok(topology),
    }
}

/// Who a commit is by.
fn author(caller: &Caller) -> String {
    caller.name.clone()
}

fn etag(commit: &str) -> [(header::HeaderName, HeaderValue); 1] {
    // 40 hex digits
    let value = HeaderValue::from_str(&format!("\"{commit}\"")).unwrap_or(HeaderValue::from_static("\"\""));
    [(header::ETAG, value)]
}

/// The commits that `If-Match` names; `None` where any will do. What is no commit matches none.
fn commits_of(if_match: &IfMatch) -> Option<Vec<CommitId>> {
    if_match.any_of().map(|tags| tags.iter().filter_map(|tag| CommitId::parse(tag).ok()).collect())
}

/// Runs blocking work of a repository.
async fn git<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> std::result::Result<T, ApiError> {
    match blocking(work).await {
        Ok(done) => Ok(done),
        Err(crate::error::Error::Repos(error)) => Err(problem(error)),
        Err(other) => Err(other.into()),
    }
}

/// A repository's refusal, for who named what it refused.
fn problem(error: Error) -> ApiError {
    match &error {
        Error::NotFound { what, .. } => ApiError::absent(&format!("{what} does not exist")),
        _ => error.into(),
    }
}
