//! What a rollout over the fleet does next: a pure function of its record and of how its members' components stand.
//!
//! It gives the record as it should be, and, where the record says so already, what is to be done to components. The
//! record is always written first: whoever comes after a crash finds what was meant to be done and does it, once.
//!
//! ```text
//! batch n: Waiting ─► Begun ─► all Verified (or Skipped) ─► watched for soak_s ─► batch n + 1 … Succeeded
//!                       └► one Failed ─► TurningBack: whoever begun still wants it gets back what it had
//! ```
//! It is the same for every kind of rollout; what is wanted has a name here and no more (`goods.rs`).
//! Never here: IO, clocks, ids. Who carries it out is `tasks/rollouts.rs`.

pub mod batches;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use straas_schemas::ComponentId;
use straas_schemas::job::JobStanding;
use straas_schemas::rollout::{FleetMemberPhase as Phase, FleetRolloutStanding as Standing};
use straas_store::{RolloutMember, RolloutRecord};

/// How a member's component stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it wants, by its name; none if it is gone or going.
    pub wants: Option<String>,
    /// A change of it is on its way through its nodes.
    pub changing: bool,
    /// Why the change that the member's job brings is being turned back, if it is.
    pub reverted: Option<String>,
    /// The member's job.
    pub job: JobSeen,
    /// Why the change on its way is held, if it is.
    pub held: Option<String>,
    /// Which node cannot have it, and why: it is no good.
    pub refused: Option<String>,
    /// What the commit lacks for it.
    pub lacks: Option<String>,
    /// Which of its nodes does not work, and how.
    pub unhealthy: Option<String>,
    /// Nobody can change it any more who has decided on an earlier record of the rollout.
    pub fenced: bool,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobSeen {
    /// There is none: it was named, and its component not changed yet.
    Missing,
    /// It is under way.
    Open,
    /// It has ended.
    Ended(JobStanding),
}

/// So long after something came into quarantine a member may still say that it was its canary that failed: quarantine is
/// written before the component is turned back. Nobody begins meanwhile.
const QUARANTINE_SETTLES_MS: i64 = 5_000;

/// What is known at a moment.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// Unix ms.
    pub now_ms: i64,
    /// Why it is in quarantine, if it is, and since when, Unix ms.
    pub quarantined: Option<(String, i64)>,
    /// Components that were looked at; of others there is no news.
    pub seen: BTreeMap<ComponentId, Seen>,
}

/// What is to be done to a member's component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Have it want what is rolled out, by the job that the member names.
    Begin,
    /// Have it want what it did before.
    TurnBack,
    /// Raise its revision, so that nobody begins it who has decided so before.
    Fence,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The record as it should be. A member that has begun and names no job is to be given a new one.
    pub record: RolloutRecord,
    /// What is to be done to which members, once the record is so.
    pub acts: Vec<(usize, Act)>,
    /// When time alone changes something, Unix ms.
    pub look_again_ms: Option<i64>,
}

/// Whether a member has to be looked at, to know what is next.
pub fn looks_at(record: &RolloutRecord, member: &RolloutMember) -> bool {
    match (record.standing, member.phase) {
        (Standing::Running | Standing::Paused, Phase::Begun) => true,
        (Standing::Running | Standing::Paused, Phase::Verified) => member.batch == record.batch,
        (Standing::TurningBack | Standing::Cancelling, phase) => phase_is_to_be_turned(phase),
        _ => false,
    }
}

const fn phase_is_to_be_turned(phase: Phase) -> bool {
    matches!(phase, Phase::Begun | Phase::Verified | Phase::Failed)
}

/// What is next.
pub fn next(record: &RolloutRecord, looked: &Looked) -> Step {
    let mut step = Step { record: record.clone(), acts: Vec::new(), look_again_ms: None };
    match record.standing {
        Standing::Running | Standing::Paused => forward(&mut step, looked),
        Standing::TurningBack | Standing::Cancelling => back(&mut step, looked),
        Standing::Succeeded | Standing::TurnedBack | Standing::Cancelled => {}
    }
    // a component is touched only for a record that says so already
    if step.record != *record {
        step.acts.clear();
    }
    step
}

/// What has become of a member.
enum Verdict {
    Stays,
    Does(Act),
    Becomes(Phase, Option<String>),
}

fn becomes(phase: Phase, reason: &str) -> Verdict {
    Verdict::Becomes(phase, Some(reason.to_owned()))
}

/// What is rolled out, by its name.
struct Wanted {
    name: String,
    thing: &'static str,
}

impl Wanted {
    fn of(record: &RolloutRecord) -> Self {
        Self { name: record.wanted.clone(), thing: record.kind.thing() }
    }

    fn had(&self) -> String {
        format!("it had the {} already", self.thing)
    }

    fn changed(&self) -> String {
        format!("somebody changed it to another {}", self.thing)
    }
}

const GONE: &str = "it is gone";

fn forward(step: &mut Step, looked: &Looked) {
    let record = &step.record;
    let (goods, batch) = (Wanted::of(record), record.batch);
    for (at, member) in step.record.members.iter_mut().enumerate() {
        let Some(seen) = looked.seen.get(&member.component) else { continue };
        let verdict = match member.phase {
            Phase::Begun => begun(member, seen, &goods),
            Phase::Verified if member.batch == batch => verified(seen, &goods),
            _ => Verdict::Stays,
        };
        match verdict {
            Verdict::Stays => {}
            Verdict::Does(act) => step.acts.push((at, act)),
            Verdict::Becomes(phase, reason) => (member.phase, member.reason) = (phase, reason),
        }
    }
    let failed = step.record.members.iter().find(|member| member.phase == Phase::Failed);
    let why = |member: &RolloutMember| {
        let name = format!("{}/{}", member.topology_name, member.component_name);
        format!("{name}: {}", member.reason.as_deref().unwrap_or("it failed"))
    };
    let mut reason = failed.map(why);
    if let (None, Some((why, since_ms))) = (&reason, &looked.quarantined) {
        // nobody gets it any more, whoever found out that it is no good
        step.acts.clear();
        let settles_ms = since_ms + QUARANTINE_SETTLES_MS;
        if looked.now_ms < settles_ms {
            step.look_again_ms = Some(settles_ms);
            return;
        }
        reason = Some(format!("its {} is in quarantine: {why}", goods.thing));
    }
    match reason {
        Some(reason) => {
            step.record.standing = Standing::TurningBack;
            step.record.reason = Some(reason);
        }
        None => advance(step, looked.now_ms),
    }
}

/// A member that was told to begin.
fn begun(member: &RolloutMember, seen: &Seen, goods: &Wanted) -> Verdict {
    let Some(now) = &seen.wants else { return becomes(Phase::Skipped, GONE) };
    let wants = *now == goods.name;
    match &seen.job {
        JobSeen::Missing if wants => becomes(Phase::Skipped, &goods.had()),
        JobSeen::Missing if *now != member.before => becomes(Phase::Skipped, &goods.changed()),
        JobSeen::Missing => match &seen.lacks {
            Some(lacks) => becomes(Phase::Skipped, &format!("the commit lacks {lacks}")),
            None => Verdict::Does(Act::Begin),
        },
        _ if seen.reverted.is_some() => Verdict::Becomes(Phase::Failed, seen.reverted.clone()),
        JobSeen::Ended(JobStanding::RolledBack) => becomes(Phase::Failed, "its canary failed"),
        JobSeen::Ended(JobStanding::Cancelled) => becomes(Phase::Failed, "a user cancelled its job"),
        _ if !wants => becomes(Phase::Skipped, &goods.changed()),
        _ if seen.refused.is_some() => Verdict::Becomes(Phase::Failed, seen.refused.clone()),
        _ if seen.held.is_some() => Verdict::Becomes(Phase::Failed, seen.held.clone()),
        // a later change that left it alone may have taken the job's place: then that one has to end
        JobSeen::Ended(_) if !seen.changing => Verdict::Becomes(Phase::Verified, None),
        JobSeen::Open | JobSeen::Ended(_) => Verdict::Stays,
    }
}

/// A member of the batch that is watched.
fn verified(seen: &Seen, goods: &Wanted) -> Verdict {
    match (&seen.wants, &seen.unhealthy) {
        (None, _) => becomes(Phase::Skipped, GONE),
        (Some(now), _) if *now != goods.name => becomes(Phase::Skipped, &goods.changed()),
        (_, None) if seen.refused.is_some() => Verdict::Becomes(Phase::Failed, seen.refused.clone()),
        (_, Some(unhealthy)) => becomes(Phase::Failed, &format!("verified, but then {unhealthy}")),
        _ => Verdict::Stays,
    }
}

/// Goes on to the next batch as far as this one allows.
fn advance(step: &mut Step, now_ms: i64) {
    let soak_ms = i64::from(step.record.soak_s) * 1000;
    let batches = u32::try_from(step.record.batches.len()).unwrap_or(u32::MAX);
    let record = &mut step.record;
    let paused = record.standing == Standing::Paused;
    loop {
        let batch = record.batch;
        let of = |phase| record.members.iter().any(|member| member.batch == batch && member.phase == phase);
        if batch < batches {
            let (waiting, begun, verified) = (of(Phase::Waiting), of(Phase::Begun), of(Phase::Verified));
            if waiting && !paused {
                let all = record.members.iter_mut();
                all.filter(|m| m.batch == batch && m.phase == Phase::Waiting).for_each(|m| m.phase = Phase::Begun);
            }
            if waiting || begun {
                return;
            }
            // of those that were skipped nothing can be seen
            let since = *record.watched_ms.get_or_insert(if verified { now_ms } else { now_ms - soak_ms });
            if now_ms < since + soak_ms {
                step.look_again_ms = Some(since + soak_ms);
                return;
            }
            if paused {
                return;
            }
            if batch + 1 < batches {
                (record.batch, record.watched_ms) = (batch + 1, None);
                continue;
            }
        }
        (record.standing, record.ended_ms) = (Standing::Succeeded, Some(now_ms));
        return;
    }
}

/// Whoever has begun and still wants it gets back what it had.
fn back(step: &mut Step, looked: &Looked) {
    let goods = Wanted::of(&step.record);
    let mut all = true;
    for (at, member) in step.record.members.iter_mut().enumerate() {
        if !phase_is_to_be_turned(member.phase) {
            continue;
        }
        let Some(seen) = looked.seen.get(&member.component) else {
            all = false;
            continue;
        };
        match turned(member, seen, &goods) {
            Verdict::Stays => {}
            Verdict::Does(act) => {
                all = false;
                step.acts.push((at, act));
            }
            Verdict::Becomes(phase, reason) => {
                (member.phase, member.reason) = (phase, reason);
                // the job that was named never was
                member.job.take_if(|_| phase == Phase::Waiting);
            }
        }
    }
    if all {
        let cancelled = step.record.standing == Standing::Cancelling;
        step.record.standing = if cancelled { Standing::Cancelled } else { Standing::TurnedBack };
        step.record.ended_ms = Some(looked.now_ms);
    }
}

fn turned(member: &RolloutMember, seen: &Seen, goods: &Wanted) -> Verdict {
    let failed = member.phase == Phase::Failed;
    match &seen.wants {
        None if failed => Verdict::Stays,
        None => becomes(Phase::Skipped, GONE),
        // named, and not begun: who is about to begin it must not do so after this
        Some(now) if seen.job == JobSeen::Missing => match *now == goods.name {
            true => becomes(Phase::Skipped, &goods.had()),
            false if seen.fenced => Verdict::Becomes(Phase::Waiting, None),
            false => Verdict::Does(Act::Fence),
        },
        Some(now) if *now == goods.name => Verdict::Does(Act::TurnBack),
        Some(_) if failed => Verdict::Stays,
        Some(now) if *now == member.before => Verdict::Becomes(Phase::TurnedBack, None),
        Some(_) => becomes(Phase::Skipped, &goods.changed()),
    }
}
