//! How the certificate authority is exchanged for another one: pure functions of the record and of what agents showed.
//!
//! ```text
//! settled ── begin ──► spreading ── all trust both ──► renewing ── all have certificates ──► retiring ── all dropped ──► settled
//!                          │                              │        of the new one               ▲        the old one
//!                          └── take back ──┐     take back └──► taking_back ── all have those ──┤
//!                                          └──────────────────── (of the new one) ◄── of the old┘
//! ```
//! Each step waits for the agents' own word, or for a person who says that it goes on without those who are missing. Until
//! an authority is retired everything can be taken back; then its key is gone.
//!
//! Never here: IO, clocks, keys. Who carries it out is `tasks/authority.rs`.

use straas_schemas::authority::{MISSING_MAX, MissingAgent, MissingReason, RotationPhase as Phase};
use straas_store::{AgentCertificate, AuthorityKept, AuthorityRecord, RetiredAuthority};

/// Earlier authorities that are remembered: agents that know none later than these can still come back.
pub const RETIRED_MAX: usize = crate::ca::BRIDGES_MAX as usize;
/// An agent that was not heard of for so long is silent: many polls and heartbeats did not come.
const SILENT_MS: i64 = 3 * 60 * 1000;

/// What is known at a moment.
pub struct Looked<'a> {
    /// Every agent that enrolled or joined.
    pub agents: &'a [AgentCertificate],
    /// Unix ms.
    pub now_ms: i64,
    /// A phase lasts so long at least: controllers beside this one hear of it meanwhile.
    pub settle_ms: i64,
}

/// The record of an authority that was never exchanged.
pub fn first(kept: AuthorityKept) -> AuthorityRecord {
    AuthorityRecord {
        revision: 0,
        phase: Phase::Settled,
        issuer: kept.fingerprint.clone(),
        kept: vec![kept],
        retired: Vec::new(),
        made: 1,
        by: String::new(),
        since_ms: 0,
    }
}

/// Begins the exchange for another authority.
///
/// # Errors
/// In words: one is under way.
pub fn begun(record: &AuthorityRecord, new: AuthorityKept, by: &str, now_ms: i64) -> Result<AuthorityRecord, String> {
    if record.phase != Phase::Settled {
        return Err(format!("an exchange is under way already ({})", record.phase.name()));
    }
    let mut next = entered(record, Phase::Spreading, now_ms);
    next.kept.push(new);
    next.made += 1;
    by.clone_into(&mut next.by);
    Ok(next)
}

/// Takes the exchange back.
///
/// # Errors
/// In words: there is none, or the old authority is gone.
pub fn taken_back(record: &AuthorityRecord, by: &str, now_ms: i64) -> Result<AuthorityRecord, String> {
    let mut next = match (record.phase, record.other()) {
        // nobody has a certificate of the new one
        (Phase::Spreading, Some(_)) => retiring(record, now_ms),
        (Phase::Renewing, Some(old)) => {
            let issuer = old.fingerprint.clone();
            AuthorityRecord { issuer, ..entered(record, Phase::TakingBack, now_ms) }
        }
        (Phase::TakingBack, _) => return Err("it is being taken back already".to_owned()),
        (Phase::Retiring, _) => return Err("the other authority is retired and its key is gone; begin anew".to_owned()),
        _ => return Err("no exchange is under way".to_owned()),
    };
    by.clone_into(&mut next.by);
    Ok(next)
}

/// The next phase, whoever is missing; none of one that waits for nobody.
pub fn onward(record: &AuthorityRecord, now_ms: i64) -> Option<AuthorityRecord> {
    match record.phase {
        Phase::Settled => None,
        Phase::Spreading => {
            let issuer = record.other()?.fingerprint.clone();
            Some(AuthorityRecord { issuer, ..entered(record, Phase::Renewing, now_ms) })
        }
        Phase::Renewing | Phase::TakingBack => Some(retiring(record, now_ms)),
        Phase::Retiring => Some(entered(record, Phase::Settled, now_ms)),
    }
}

/// What comes by itself: the next phase once all agents are ready for it.
pub fn next(record: &AuthorityRecord, looked: &Looked<'_>) -> Option<AuthorityRecord> {
    // a clock that was put back holds nothing up for longer than that
    let lasted_ms = looked.now_ms.abs_diff(record.since_ms);
    let settled = lasted_ms >= looked.settle_ms.unsigned_abs();
    let all = looked.agents.iter().all(|agent| is_ready(record, agent));
    if settled && all { onward(record, looked.now_ms) } else { None }
}

/// Whether an agent has done what the phase waits for.
pub fn is_ready(record: &AuthorityRecord, agent: &AgentCertificate) -> bool {
    let trusts = |authority| agent.trusts.as_ref().is_some_and(|trusts| trusts.contains(authority));
    match record.phase {
        Phase::Settled => true,
        Phase::Spreading => record.kept.iter().all(|kept| trusts(&kept.fingerprint)),
        Phase::Renewing | Phase::TakingBack => agent.shown_by.as_ref() == Some(&record.issuer),
        Phase::Retiring => trusts(&record.issuer) && !record.retired.iter().any(|retired| trusts(&retired.fingerprint)),
    }
}

/// The first of those who are missing, and how many are ready.
pub fn missing(record: &AuthorityRecord, agents: &[AgentCertificate], now_ms: i64) -> (Vec<MissingAgent>, usize) {
    let waited: Vec<_> = agents.iter().filter(|agent| !is_ready(record, agent)).collect();
    let ready = agents.len() - waited.len();
    let renews = matches!(record.phase, Phase::Renewing | Phase::TakingBack);
    let reason = |agent: &AgentCertificate| {
        if agent.heard_ms.is_none_or(|heard| now_ms - heard > SILENT_MS) {
            MissingReason::Silent
        } else if !renews && agent.shown_key.is_some() && agent.trusts.is_none() {
            MissingReason::TooOld
        } else {
            MissingReason::OnItsWay
        }
    };
    let one = |agent: &&AgentCertificate| MissingAgent {
        kind: agent.agent.kind(),
        id: agent.agent.as_str().to_owned(),
        name: agent.name.clone(),
        reason: reason(agent),
        heard_ms: agent.heard_ms,
    };
    (waited.iter().take(MISSING_MAX).map(one).collect(), ready)
}

/// What happens next, for people.
pub fn says(record: &AuthorityRecord, missing: usize) -> String {
    let waits = match missing {
        0 => "in a moment".to_owned(),
        1 => "once the agent that is missing has".to_owned(),
        many => format!("once the {many} agents that are missing have"),
    };
    match record.phase {
        Phase::Settled => "nothing: one authority issues and is trusted".to_owned(),
        Phase::Spreading => format!(
            "{waits} learned to trust both authorities, the new one issues. Going on without some: they check \
             controllers by the bridge from the old authority to the new one, as long as the old one's certificate lives"
        ),
        Phase::Renewing => format!(
            "{waits} got a certificate of the new authority, the old one is retired for good. Going on without some: \
             their certificates are refused, and they come back by the key that theirs was given for, or join anew"
        ),
        Phase::TakingBack => format!(
            "{waits} got a certificate of the old authority again, the new one is retired. Going on without some: \
             their certificates are refused, and they come back by the key that theirs was given for, or join anew"
        ),
        Phase::Retiring => format!(
            "{waits} dropped the retired authority, the exchange is over. Going on without some: they drop it when \
             they are heard of again"
        ),
    }
}

/// The record in another phase.
fn entered(record: &AuthorityRecord, phase: Phase, now_ms: i64) -> AuthorityRecord {
    AuthorityRecord { phase, since_ms: now_ms, ..record.clone() }
}

/// The one that does not issue is trusted no more, and its key is gone.
fn retiring(record: &AuthorityRecord, now_ms: i64) -> AuthorityRecord {
    let mut next = entered(record, Phase::Retiring, now_ms);
    // of one that was taken back no agent ever knew nothing but it, so nothing leads on from there
    let came = record.phase == Phase::Renewing;
    let (stays, goes): (Vec<_>, Vec<_>) = next.kept.into_iter().partition(|kept| kept.fingerprint == record.issuer);
    next.kept = stays;
    for AuthorityKept { fingerprint, certificate_pem, bridge_pem, .. } in goes {
        let bridge_pem = bridge_pem.filter(|_| came);
        next.retired.insert(0, RetiredAuthority { fingerprint, certificate_pem, bridge_pem });
    }
    next.retired.truncate(RETIRED_MAX);
    next
}

#[cfg(test)]
#[path = "rotation/tests.rs"]
mod tests;
