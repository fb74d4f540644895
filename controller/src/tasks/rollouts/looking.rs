//! How the members of a rollout stand: what `rollout.rs` decides on, read from the store, the repos and the newest plans.

use crate::app::{App, blocking};
use crate::error::Error;
use crate::goods::has;
use crate::rollout::{JobSeen, Looked, Seen, looks_at};
use crate::sync;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::build::{self, BuildStatus};
use straas_schemas::health::HealthStatus;
use straas_schemas::rollout::{FleetMemberPhase as Phase, FleetRolloutKind as Kind};
use straas_schemas::{ComponentId, Digest, NodeId, TopologyId};
use straas_store::{ComponentSpec, HealthRecord, Neighbour, NodeSnapshot, RolloutMember, RolloutRecord};

/// Components are read so many at once.
const READ_AT_ONCE: usize = 64;
/// A member is looked at so often in one look, while it is changed.
const TRIES_MAX: u32 = 4;
/// A node that fell silent while its agent was being replaced, and has been unreachable for so long, is not awaited:
/// by then a build that does not work would have been given up, and the one before be heard again, twice over.
const SILENT_MS_MAX: i64 = 15 * 60_000;

/// Looks at those members that have to be looked at, of all topologies or of some.
pub async fn look(
    app: &App,
    record: &RolloutRecord,
    only: Option<&BTreeSet<TopologyId>>,
    fenced: &BTreeSet<ComponentId>,
) -> Result<Looked, Error> {
    let concerned =
        |member: &&RolloutMember| looks_at(record, member) && only.is_none_or(|only| only.contains(&member.topology));
    let members: Vec<&RolloutMember> = record.members.iter().filter(concerned).collect();
    let mut seen = BTreeMap::new();
    for members in members.chunks(READ_AT_ONCE) {
        let ids: Vec<ComponentId> = members.iter().map(|member| member.component.clone()).collect();
        let found = app.store.neighbours(&ids).await?;
        let found: BTreeMap<_, _> = found.into_iter().map(|found| (found.component.id.clone(), found)).collect();
        for member in members {
            let one = of_one_moment(app, record, member, found.get(&member.component)).await?;
            let fenced = fenced.contains(&member.component);
            seen.extend(one.map(|one| (member.component.clone(), Seen { fenced, ..one })));
        }
    }
    let quarantine = app.store.quarantined().await?;
    let bad = quarantine.into_iter().find(|bad| bad.what == record.kind.name() && bad.key == record.wanted);
    Ok(Looked { now_ms: app.now_ms(), quarantined: bad.map(|bad| (bad.reason, bad.at_ms)), seen })
}

/// How a member stands. Its component and its job are read one after the other, and begin and end together: what was
/// changed in between is looked at again, and no news if that goes on.
async fn of_one_moment(
    app: &App,
    record: &RolloutRecord,
    member: &RolloutMember,
    found: Option<&Neighbour>,
) -> Result<Option<Seen>, Error> {
    let mut found = found.cloned();
    for _ in 0..TRIES_MAX {
        let seen = one(app, record, member, found.as_ref()).await?;
        let now = app.store.component(&member.component).await?;
        if now.map(|now| now.revision) == found.map(|found| found.component.revision) {
            return Ok(Some(seen));
        }
        found = app.store.neighbours(std::slice::from_ref(&member.component)).await?.pop();
    }
    Ok(None)
}

async fn one(
    app: &App,
    record: &RolloutRecord,
    member: &RolloutMember,
    found: Option<&Neighbour>,
) -> Result<Seen, Error> {
    let found = found.filter(|found| !found.topology.deleting && !found.component.spec.removed);
    let mut seen = Seen {
        wants: None,
        changing: false,
        reverted: None,
        job: JobSeen::Missing,
        held: None,
        refused: None,
        lacks: None,
        unhealthy: None,
        fenced: false,
    };
    if let Some(id) = &member.job
        && let Some(job) = app.store.job(id).await?
    {
        seen.job = job.ended.map_or(JobSeen::Open, |end| JobSeen::Ended(end.standing));
    }
    let Some(found) = found else { return Ok(seen) };
    let spec = &found.component.spec;
    let wants = has(record.kind, &spec.want);
    let rollout = spec.rollout.as_ref().filter(|_| record.kind == Kind::Scripts);
    if let Some(rollout) = rollout {
        seen.changing = true;
        seen.held = app.held.why(&member.topology, &rollout.job);
        let own = member.job.as_ref() == Some(&rollout.job);
        seen.reverted = rollout.reverted.as_ref().filter(|_| own).map(|reverted| reverted.reason.clone());
    }
    match record.kind {
        Kind::Scripts if member.phase == Phase::Begun && seen.job == JobSeen::Missing && wants == member.before => {
            seen.lacks = lacks(app, spec.clone(), &record.wanted).await?;
        }
        Kind::Agents if seen.job != JobSeen::Missing && wants == record.wanted => {
            let unreachable = i64::from(app.settings.timing(&found.topology.zone).unreachable_after_ms);
            let silent_since = app.now_ms() - unreachable - SILENT_MS_MAX;
            seen.refused = found.nodes.iter().find_map(|node| refused(record, node, silent_since));
        }
        Kind::Scripts | Kind::Agents => {}
    }
    seen.wants = Some(wants);
    if member.phase == Phase::Verified && record.watched_ms.is_some() {
        seen.unhealthy = unhealthy(app, record, found).await?;
    }
    Ok(seen)
}

/// Why a node cannot have the build that it was told to run, if it is known not to: it says so, or is heard of no more.
fn refused(record: &RolloutRecord, node: &NodeSnapshot, silent_since: i64) -> Option<String> {
    let (beat, at_ms) = node.heartbeat.as_ref()?;
    let said = beat.agent.as_ref().filter(|_| beat.incarnation == node.incarnation)?;
    let newest = node.assigned.as_ref().is_none_or(|(generation, _)| beat.generation >= *generation);
    let why = no_good(record.build.as_ref().map(|build| &build.sha256), said, newest, *at_ms < silent_since)?;
    Some(format!("{}: {why}", node.record.name))
}

/// Why a build is no good, by what an agent said last of its own: with the `newest` assignment, and `silent` since.
fn no_good(wanted: Option<&Digest>, said: &BuildStatus, newest: bool, silent: bool) -> Option<String> {
    // what it says of an earlier assignment may be of an earlier try
    if let Some(reason) = said.refuses(wanted).filter(|_| newest) {
        return Some(reason.to_owned());
    }
    let replacing = said.coming.is_some() || said.trial;
    (replacing && silent).then(|| format!("fell silent while its agent was being replaced by {}", build::name(wanted)))
}

/// What the commit lacks for a component as it is now.
async fn lacks(app: &App, spec: ComponentSpec, commit: &str) -> Result<Option<String>, Error> {
    let (configs, scripts, commit) = (app.configs.clone(), app.scripts.clone(), commit.to_owned());
    blocking(move || {
        let catalog = configs.catalog_view()?.catalog;
        let Some(meta) = catalog.get(&spec.kind) else {
            return Ok(Some(format!("a component type {}, as does the catalog", spec.kind)));
        };
        let missing = sync::missing_scripts(&scripts, meta, &spec, &commit, &spec.want.version)?;
        Ok((!missing.is_empty()).then(|| missing.join(", ")))
    })
    .await
}

/// A node that does not work, by the newest word of the built-in check, or by what another one said since the batch
/// has been watched.
async fn unhealthy(app: &App, record: &RolloutRecord, found: &Neighbour) -> Result<Option<String>, Error> {
    let since = record.watched_ms.unwrap_or(i64::MAX);
    let mut newest: BTreeMap<NodeId, HealthRecord> = BTreeMap::new();
    for said in app.store.health(std::slice::from_ref(&found.topology.id)).await? {
        let counts = said.built_in || said.at_ms >= since;
        if counts && newest.get(&said.node).is_none_or(|known| known.at_ms < said.at_ms) {
            newest.insert(said.node.clone(), said);
        }
    }
    let bad = found.nodes.iter().find_map(|node| {
        let said = newest.get(&node.record.id)?;
        let word = match said.status {
            HealthStatus::Inactive => "INACTIVE",
            HealthStatus::Unreachable => "UNREACHABLE",
            HealthStatus::Active | HealthStatus::Skipped => return None,
        };
        Some(format!("{} became {word} ({})", node.record.name, said.source))
    });
    Ok(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use straas_schemas::build::RefusedBuild;

    #[test]
    fn a_build_is_no_good_where_a_node_says_so_or_fell_silent_over_it() {
        let (one, other) = (Some(Digest::sha256(b"one")), Some(Digest::sha256(b"other")));
        let runs = BuildStatus::default;
        let refuses = |sha256: &Option<Digest>| {
            let refused = Some(RefusedBuild { sha256: sha256.clone(), reason: "it ends".to_owned() });
            BuildStatus { refused, ..BuildStatus::default() }
        };
        let coming = BuildStatus { coming: Some("it is being fetched".to_owned()), ..runs() };
        let trial = BuildStatus { trial: true, sha256: one.clone(), ..runs() };
        for (said, newest, silent, expect) in [
            (refuses(&one), true, false, Some("it ends")),
            (refuses(&one), false, false, None),
            (refuses(&other), true, true, None),
            (refuses(&None), true, true, None),
            (coming.clone(), true, false, None),
            (coming, false, true, Some("fell silent")),
            (trial.clone(), true, false, None),
            (trial, true, true, Some("fell silent")),
            // it was not told, and is waited for
            (runs(), false, true, None),
        ] {
            let found = no_good(one.as_ref(), &said, newest, silent);
            assert_eq!(found.is_some(), expect.is_some(), "{said:?} {newest} {silent}: {found:?}");
            assert!(found.unwrap_or_default().contains(expect.unwrap_or_default()));
        }
        assert!(no_good(None, &refuses(&None), true, false).is_some(), "the packaged agent can be no good, too");
    }
}
