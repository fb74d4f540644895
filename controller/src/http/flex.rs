//! How many nodes there are: flexup, flexdown, and what a number in a `PATCH` means.
//!
//! Sizes are the component type's to allow (`sizes` of its metadata). A node that leaves takes its
//! ordinal with it. How nodes join and leave without harm (one at a time, drained first) is the
//! planner's.

use super::auth::Caller;
use super::body;
use super::change::{Situation, Then, Wanted, change};
use super::components::own;
use super::etag::IfMatch;
use super::extract::{Body, Path, Query};
use super::problem::ApiError;
use super::topologies::How;
use crate::app::App;
use crate::wanted;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use straas_schemas::change::FlexupRequest;
use straas_schemas::job::JobKind;
use straas_schemas::metadata::{ComponentMeta, Sizes};
use straas_schemas::topology::size_fault;
use straas_schemas::{Fault, NodeId};
use straas_store::{ComponentSpec, GroupSpec, Undo};

/// `POST /v1.0/components/{id}`: flexup.
pub async fn up(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    how: How,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    // whose it is comes first: what is wrong with a body is nobody else's to learn
    let id = own(&app, &caller, &id).await?.1.id;
    let request: FlexupRequest = body::typed(&bytes)?;
    change(&app, &caller, &how, &id.clone(), id.0, move |situation, spec| grow(situation, spec, &request).map(Some))
        .await
}

fn grow(situation: &Situation, spec: &mut ComponentSpec, request: &FlexupRequest) -> Result<Wanted, ApiError> {
    let meta = situation.meta()?;
    let group = group(spec, request.role.as_deref()).map_err(|fault| ApiError::faults(vec![fault]))?;
    let size = u64::from(group.size) + u64::from(request.count);
    if let Some(why) = refusal(meta, group, size) {
        return Err(ApiError::invalid("/count", &why));
    }
    let detail = format!("add {} {} to {}", request.count, group.role, situation.component.name);
    let undo = wanted::join(group, request.count);
    Ok(with_undo(situation.begin(JobKind::Flexup, detail), undo))
}

/// Query of a flexdown.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Down {
    /// Only show what would be done.
    #[serde(default)]
    dry_run: bool,
    /// Ids of other nodes of the same role that leave together with it, separated by commas.
    #[serde(default)]
    with: String,
}

/// `DELETE /v1.0/nodes/{id}`: flexdown.
pub async fn down(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<Down>,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    let how = How { dry_run: query.dry_run, if_match };
    let node = super::nodes::own(&app, &caller, &id).await?;
    let with = query.with.split(',').filter(|id| !id.is_empty()).map(NodeId::from);
    let gone: BTreeSet<NodeId> = with.chain([node.record.id.clone()]).collect();
    change(&app, &caller, &how, &node.record.component, id, move |situation, spec| {
        shrink(situation, spec, &node.record.group, &gone).map(Some)
    })
    .await
}

fn shrink(
    situation: &Situation,
    spec: &mut ComponentSpec,
    group: &str,
    gone: &BTreeSet<NodeId>,
) -> Result<Wanted, ApiError> {
    let meta = situation.meta()?;
    let name = &situation.component.name;
    let missing = || ApiError::conflict(&format!("{name} has no nodes of {group} any more"));
    let group = spec.want.groups.iter_mut().find(|g| g.name == group).ok_or_else(missing)?;
    let ordinals = wanted::ordinals(group);
    let mut leaving = Vec::new();
    for id in gone {
        let node = situation.nodes().find(|node| node.record.id == *id && node.record.group == group.name);
        match node {
            Some(node) if ordinals.contains(&node.record.ordinal) => leaving.push(node),
            Some(node) => return Err(ApiError::conflict(&format!("{} is leaving already", node.record.name))),
            None => return Err(ApiError::not_found("node", &format!("{id} of the role {} in {name}", group.role))),
        }
    }
    let size = u64::from(group.size).saturating_sub(leaving.len() as u64);
    if let Some(why) = refusal(meta, group, size) {
        let way = "name others that leave with it (DELETE …?with=ID,ID), or PATCH the component's size";
        return Err(ApiError::conflict(&format!("{why}; {way}")));
    }
    let names: Vec<&str> = leaving.iter().map(|node| node.record.name.as_str()).collect();
    let detail = format!("take {} out of {name}", names.join(", "));
    let ordinals: Vec<u32> = leaving.iter().map(|node| node.record.ordinal).collect();
    let undo = wanted::leave(group, &ordinals);
    Ok(with_undo(situation.begin(JobKind::Flexdown, detail), undo))
}

/// What a `PATCH` of the size makes of a group: what undoes it and whether it grows, or nothing.
///
/// # Errors
/// The fault of the body.
pub fn resize(
    situation: &Situation,
    spec: &mut ComponentSpec,
    role: Option<&str>,
    size: u32,
) -> Result<Option<(Undo, JobKind, String)>, Fault> {
    let group = group(spec, role)?;
    let meta = situation.view.catalog.get(&situation.component.spec.kind);
    if let Some(why) = meta.and_then(|meta| refusal(meta, group, size.into())) {
        return Err(Fault::at("/size", why));
    }
    let detail = format!("{} → {size} {}", group.size, group.role);
    if size > group.size {
        let undo = wanted::join(group, size - group.size);
        return Ok(Some((undo, JobKind::Flexup, detail)));
    }
    if size == group.size {
        return Ok(None);
    }
    let gone = wanted::last(group, group.size - size);
    Ok(Some((wanted::leave(group, &gone), JobKind::Flexdown, detail)))
}

/// The nodes of a role; of the only one if none is named.
fn group<'a>(spec: &'a mut ComponentSpec, role: Option<&str>) -> Result<&'a mut GroupSpec, Fault> {
    let roles: Vec<String> = spec.want.groups.iter().map(|group| group.role.clone()).collect();
    let role = match (role, roles.as_slice()) {
        (Some(role), _) => role.to_owned(),
        (None, [only]) => only.clone(),
        (None, _) => return Err(Fault::at("/role", format!("which role? There are: {}", roles.join(", ")))),
    };
    let message = || format!("it has no nodes of the role {role:?}; there are: {}", roles.join(", "));
    spec.want.groups.iter_mut().find(|group| group.role == role).ok_or_else(|| Fault::at("/role", message()))
}

/// Why there cannot be so many, with the nearest numbers that there can be.
fn refusal(meta: &ComponentMeta, group: &GroupSpec, size: u64) -> Option<String> {
    let sizes = meta.sizes_of(&group.role);
    let why = size_fault(&group.role, sizes, size)?;
    let fits = |size: &u64| size_fault(&group.role, sizes, *size).is_none() && *size != u64::from(group.size);
    let Sizes { min, max, .. } = sizes;
    let below = (u64::from(min)..size).rev().find(fits);
    let above = (size + 1..=u64::from(max)).find(fits);
    let near: Vec<String> = below.into_iter().chain(above).map(|size| size.to_string()).collect();
    let now = group.size;
    Some(match near.as_slice() {
        [] => format!("{why}; it has {now}"),
        near => format!("{why}; it has {now} and may have {}", near.join(" or ")),
    })
}

fn with_undo(mut wanted: Wanted, undo: Undo) -> Wanted {
    if let Then::Begin(job) = &mut wanted.then {
        job.undo = Some(undo);
    }
    wanted
}
