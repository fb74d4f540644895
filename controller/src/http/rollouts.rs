//! What nodes are made of: another configuration, another version, checked before anybody gets it.
//!
//! A commit has to be on the topology's own branch, and what it says has to be readable for the
//! version; so a tenant's mistake is told at the door and not by a node.

use super::auth::Caller;
use super::body;
use super::change::{Situation, Wanted, change};
use super::components::own;
use super::extract::{Body, Path};
use super::problem::ApiError;
use super::topologies::How;
use crate::app::App;
use crate::error::chain;
use crate::{sync, wanted};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;
use straas_repos::{Adoption, CommitId};
use straas_schemas::Fault;
use straas_schemas::change::RolloutOptions;
use straas_schemas::config::Effective;
use straas_schemas::job::JobKind;
use straas_store::ComponentSpec;

/// `PUT /v1.0/components/{id}/tree/{ref}`
pub async fn configure(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path((id, reference)): Path<(String, String)>,
    how: How,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let id = own(&app, &caller, &id).await?.1.id;
    let options = if bytes.is_empty() { RolloutOptions::default() } else { body::typed(&bytes)? };
    change(&app, &caller, &how, &id.clone(), id.0, move |situation, spec| apply(situation, spec, &reference, options))
        .await
}

fn apply(
    situation: &Situation,
    spec: &mut ComponentSpec,
    reference: &str,
    options: RolloutOptions,
) -> Result<Option<Wanted>, ApiError> {
    situation.meta()?;
    let now = spec.want.config.clone();
    let commit = match checked_config(situation, reference, &spec.want.version, "/ref") {
        Ok(commit) => commit,
        Err(found) => return Err(ApiError::faults(found?)),
    };
    let back = situation.leads_back(&now, &commit)?;
    let kind = if back { JobKind::Rollback } else { JobKind::Configure };
    if !wanted::roll_out(spec, &situation.job, options, !back, |want| want.config.clone_from(&commit)) {
        return Ok(None);
    }
    let name = &situation.component.name;
    Ok(Some(situation.begin(kind, format!("{name}: configuration {now:.10} → {commit:.10} ({reference})"))))
}

impl Situation {
    /// Whether a commit is one before another.
    ///
    /// # Errors
    /// The repo cannot be read.
    pub fn leads_back(&self, from: &str, to: &str) -> Result<bool, ApiError> {
        Ok(from != to && self.configs.leads_to(&CommitId::parse(from)?, &CommitId::parse(to)?)?)
    }
}

/// The commit that a ref stands for, if the component may have it at this version.
///
/// # Errors
/// The faults at `pointer`, or that the repo cannot be read.
pub fn checked_config(
    situation: &Situation,
    reference: &str,
    version: &str,
    pointer: &str,
) -> Result<String, Result<Vec<Fault>, ApiError>> {
    let fault = |message: String| Err(Ok(vec![Fault::at(pointer, message)]));
    let refused = |error: straas_repos::Error| match &error {
        straas_repos::Error::NotFound { .. } | straas_repos::Error::Invalid { .. } => {
            Ok(vec![Fault::at(pointer, chain(&error))])
        }
        _ => Err(error.into()),
    };
    let (configs, branch) = (&situation.configs, &situation.snapshot.topology.branch);
    let commit = configs.resolve(reference).map_err(refused)?;
    if !configs.on_branch(branch, &commit).map_err(refused)? {
        return fault(format!("commit {commit} is not on the topology's branch {branch}"));
    }
    configs.effective(&commit, &situation.component.spec.kind, version).map_err(refused)?;
    Ok(commit.into())
}

/// What another version is configured with.
pub struct Adopted {
    /// The commit that has it.
    pub commit: CommitId,
    /// What it says.
    pub effective: Arc<Effective>,
    found: Adoption,
}

impl Adopted {
    /// What becomes of the user's own values, in words.
    pub fn notes(&self) -> Vec<String> {
        let line = |value: &straas_schemas::configuration::CarriedValue| {
            let what = format!("{}.{}={}", value.section, value.key, value.value);
            match &value.dropped {
                None => format!("{what} is taken along"),
                Some(why) => format!("{what} is left behind: {why}"),
            }
        };
        self.found.values.iter().map(line).collect()
    }
}

/// Brings the configuration of another version onto the topology's branch, and looks whether the
/// scripts that the component has can make that version.
///
/// # Errors
/// 422 if they cannot, or the version's configuration is broken.
pub fn adopt(situation: &Situation, from: &str, to: &str) -> Result<Adopted, ApiError> {
    let kind = &situation.component.spec.kind;
    let want = &situation.component.spec.want;
    let at = |why: String| ApiError::invalid("/version", &why);
    let missing = missing_scripts(situation, &want.scripts, to)?;
    if !missing.is_empty() {
        return Err(at(format!(
            "the component's scripts ({:.10}) lack {}; sync newer ones first (PUT /straas/v1.0/nodes/scripts)",
            want.scripts,
            missing.join(", ")
        )));
    }
    let (branch, master) = (&situation.snapshot.topology.branch, &situation.view.commit);
    let adopt = |write| situation.configs.adopt_version(branch, kind, from, to, master, &situation.author, write);
    // looked at first: a refused request writes nothing
    let found = adopt(false).map_err(|error| match &error {
        straas_repos::Error::NotFound { .. } | straas_repos::Error::Invalid { .. } => at(chain(&error)),
        _ => error.into(),
    })?;
    let found = if situation.dry_run || !found.changed { found } else { adopt(true)? };
    Ok(Adopted { commit: found.commit.clone(), effective: found.effective.clone(), found })
}

/// What the script repo lacks at a commit for the component's roles at a version.
///
/// # Errors
/// The repo cannot be read, or has no such commit.
pub fn missing_scripts(situation: &Situation, commit: &str, version: &str) -> Result<Vec<String>, ApiError> {
    let spec = &situation.component.spec;
    Ok(sync::missing_scripts(&situation.scripts, situation.meta()?, spec, commit, version)?)
}
