//! What a commit of the script repo means for a component: whether it can have it, and what is wanted of it then.
//!
//! Shared by who asks for it in a request (`http/scripts.rs`) and by rollouts over the fleet (`tasks/rollouts.rs`).
//!
//! Never here: writing; that is by compare-and-swap on the component's revision, with whoever decided.

use crate::wanted;
use std::collections::{BTreeMap, BTreeSet};
use straas_repos::{CommitId, ScriptRepo};
use straas_schemas::change::RolloutOptions;
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::{JobId, NodeId};
use straas_store::ComponentSpec;

/// What the script repo lacks at a commit for the component's roles at a version.
///
/// # Errors
/// The repo cannot be read, or has no such commit.
pub fn missing_scripts(
    scripts: &ScriptRepo,
    meta: &ComponentMeta,
    spec: &ComponentSpec,
    commit: &str,
    version: &str,
) -> straas_repos::Result<Vec<String>> {
    let commit = CommitId::parse(commit)?;
    let mut missing = BTreeSet::new();
    for role in spec.want.groups.iter().filter_map(|group| meta.role(&group.role)) {
        missing.extend(scripts.missing(&commit, &spec.kind, &role.script_role, version)?);
    }
    Ok(missing.into_iter().collect())
}

/// Has a component, or these nodes of it, want a commit; `false` if they do already.
pub fn sync(
    spec: &mut ComponentSpec,
    job: &JobId,
    options: RolloutOptions,
    commit: &str,
    nodes: Option<&[NodeId]>,
) -> bool {
    wanted::roll_out(spec, job, options, true, |want| match nodes {
        None => {
            commit.clone_into(&mut want.scripts);
            want.nodes.values_mut().for_each(|node| node.scripts = None);
        }
        Some(nodes) => {
            for id in nodes {
                let own = (want.scripts != commit).then(|| commit.to_owned());
                wanted::of_node(want, id).scripts = own;
            }
        }
    })
}

/// The commits of single nodes that are not their component's.
pub fn of_nodes(spec: &ComponentSpec) -> BTreeMap<NodeId, String> {
    let own = spec.want.nodes.iter().filter_map(|(id, node)| Some((id.clone(), node.scripts.clone()?)));
    own.collect()
}

/// Has a component want again what it did: a commit, and others for single nodes. Nobody goes first; it is known to
/// work. `false` if it does already.
pub fn put_back(spec: &mut ComponentSpec, job: &JobId, commit: &str, nodes: &BTreeMap<NodeId, String>) -> bool {
    let options = RolloutOptions { canary: Some(false), max_failures: None };
    wanted::roll_out(spec, job, options, false, |want| {
        commit.clone_into(&mut want.scripts);
        want.nodes.values_mut().for_each(|node| node.scripts = None);
        for (id, own) in nodes {
            wanted::of_node(want, id).scripts = Some(own.clone());
        }
    })
}
