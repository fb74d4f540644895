//! Reports, which are durable before they are acknowledged, and heartbeats, which are batched.

use super::OwnNode;
use crate::app::App;
use crate::engine::Engine;
use crate::http::extract::Json;
use crate::http::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Arc;
use straas_schemas::build::BUILD_TEXT_BYTES_MAX;
use straas_schemas::command::{COMMAND_RESULT_BYTES_MAX, CommandStanding};
use straas_schemas::heartbeat::{Heartbeat, LEDGER_FAULT_BYTES_MAX};
use straas_schemas::report::{
    FACTS_BYTES_MAX, OUTPUT_TAIL_BYTES_MAX, REPORTS_MAX, Report, ReportAnswer, ReportBody, ReportRequest, StageResult,
};
use straas_schemas::{NodeId, Outcome, TopologyId};
use straas_store::NewEvent;

/// The largest number the database keeps.
const NUMBER_MAX: u64 = i64::MAX as u64;
/// Most bytes of a reason or a hint: they stand in one line of a table. What is longer is cut, not
/// refused: a report that is refused would block the agent's outbox for ever.
const LINE_BYTES_MAX: usize = 2 * 1024;
/// Most bytes of a return value; those there are have under 40.
const WORD_BYTES_MAX: usize = 64;

/// `POST /agent/v1/nodes/{id}/reports`
pub async fn reports(
    State(app): State<Arc<App>>,
    OwnNode(identity): OwnNode,
    Json(request): Json<ReportRequest>,
) -> Result<Json<ReportAnswer>, ApiError> {
    taken(&app, (&identity.id, identity.incarnation), request).await.map(Json)
}

/// Records what a node's incarnation that is in standing reports; what is answered is durable.
///
/// # Errors
/// What is wrong with the request, or the database refused; nothing was recorded then.
pub async fn taken(
    app: &Engine,
    (id, incarnation): (&NodeId, u64),
    mut request: ReportRequest,
) -> Result<ReportAnswer, ApiError> {
    check(&request)?;
    request.reports.iter_mut().for_each(|report| shorten(&mut report.body));
    if request.incarnation != incarnation {
        return Err(ApiError::conflict("these reports are of another incarnation"));
    }
    let Some(acknowledged) = request.reports.last().map(|report| report.seq) else {
        return Err(ApiError::invalid("/reports", "at least one report"));
    };
    let now = app.now_ms();
    let slot = app.fleet.get(id);
    let tells = |report: &Report| {
        let slot = slot.as_ref()?;
        let name = slot.offer.as_ref().map_or_else(|| id.as_str(), |offer| &offer.assignment.name);
        Some(event(&slot.topology, id, name, report, now))
    };
    let fresh = app.store.record_reports(id, incarnation, &request.reports, &tells, now).await?;
    app.metrics.reports_recorded(fresh.len());
    if let Some(slot) = slot.as_ref().filter(|_| !fresh.is_empty()) {
        commands(app, id, &fresh).await;
        if fresh.iter().any(|report| !matches!(report.body, ReportBody::Command(_))) {
            app.wake.wake(&slot.topology);
        }
        app.wake.touch(&slot.topology);
    }
    Ok(ReportAnswer { acknowledged })
}

/// What reports say of guest commands, for those who wait for them.
async fn commands(app: &Engine, node: &NodeId, fresh: &[Report]) {
    let end = |report: &Report| match &report.body {
        ReportBody::Command(end) => Some(end.id.clone()),
        _ => None,
    };
    let ids: Vec<_> = fresh.iter().filter_map(end).collect();
    let lost = fresh.iter().any(|report| matches!(report.body, ReportBody::LedgerLost { .. }));
    let told = async {
        app.commands_ended(node, &ids).await?;
        if lost {
            app.sync_orders(node).await?;
        }
        Ok::<_, crate::error::Error>(())
    };
    if let Err(error) = told.await {
        tracing::warn!(%node, error = error.chain(), "cannot tell of the end of commands; a later look does");
    }
}

fn check(request: &ReportRequest) -> Result<(), ApiError> {
    if request.reports.len() > REPORTS_MAX {
        return Err(ApiError::invalid("/reports", &format!("at most {REPORTS_MAX} reports")));
    }
    if !request.reports.windows(2).all(|pair| pair[0].seq < pair[1].seq) {
        return Err(ApiError::invalid("/reports", "sequence numbers must rise"));
    }
    for (index, report) in request.reports.iter().enumerate() {
        for (name, number) in numbers(report) {
            if number > NUMBER_MAX {
                return Err(ApiError::invalid(&format!("/reports/{index}/{name}"), "a number above 2^63 - 1"));
            }
        }
        if let ReportBody::Command(end) = &report.body
            && serde_json::to_vec(&end.result).map_or(usize::MAX, |json| json.len()) > COMMAND_RESULT_BYTES_MAX
        {
            return Err(ApiError::invalid(&format!("/reports/{index}/result"), "longer than 16 KiB"));
        }
        let ReportBody::Stage(result) = &report.body else { continue };
        if result.output_tail.len() > OUTPUT_TAIL_BYTES_MAX {
            return Err(ApiError::invalid(&format!("/reports/{index}/output_tail"), "longer than 8 KiB"));
        }
        if serde_json::to_vec(&result.facts).map_or(usize::MAX, |json| json.len()) > FACTS_BYTES_MAX {
            return Err(ApiError::invalid(&format!("/reports/{index}/facts"), "longer than 16 KiB"));
        }
    }
    Ok(())
}

fn numbers(report: &Report) -> Vec<(&'static str, u64)> {
    let mut numbers = vec![("seq", report.seq)];
    match &report.body {
        ReportBody::Stage(StageResult { generation, duration_ms, output_bytes, retry_in_ms, .. }) => numbers.extend([
            ("generation", *generation),
            ("duration_ms", *duration_ms),
            ("output_bytes", *output_bytes),
            ("retry_in_ms", retry_in_ms.unwrap_or(0)),
        ]),
        ReportBody::Converged { generation } => numbers.push(("generation", *generation)),
        ReportBody::Refused { offered, have, .. } => numbers.extend([("offered", *offered), ("have", *have)]),
        ReportBody::Command(end) => {
            numbers.extend([("duration_ms", end.duration_ms), ("output_bytes", end.output_bytes)])
        }
        ReportBody::Drift(_) | ReportBody::LedgerLost { .. } => {}
    }
    numbers
}

fn shorten(body: &mut ReportBody) {
    match body {
        ReportBody::Stage(result) => {
            cut(&mut result.return_value, WORD_BYTES_MAX);
            cut(&mut result.reason, LINE_BYTES_MAX);
            if let Some(hint) = &mut result.hint {
                cut(hint, LINE_BYTES_MAX);
            }
        }
        ReportBody::Refused { reason, .. } | ReportBody::LedgerLost { reason } => cut(reason, LINE_BYTES_MAX),
        ReportBody::Command(end) => {
            cut(&mut end.reason, LINE_BYTES_MAX);
            if let Some(hint) = &mut end.hint {
                cut(hint, LINE_BYTES_MAX);
            }
        }
        ReportBody::Converged { .. } | ReportBody::Drift(_) => {}
    }
}

fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
}

fn event(topology: &TopologyId, node: &NodeId, name: &str, report: &Report, now: i64) -> NewEvent {
    let (kind, text) = match &report.body {
        ReportBody::Stage(result) => {
            let seconds = result.duration_ms.saturating_add(50) / 100;
            let took = format!("{}.{} s", seconds / 10, seconds % 10);
            let text = match result.outcome {
                Outcome::Succeeded => format!("{name}: {} done in {took}", result.stage),
                Outcome::Waiting => format!("{name}: {} waits: {}", result.stage, result.reason),
                Outcome::Failed => format!(
                    "{name}: {} failed after {took} (attempt {}): {}",
                    result.stage, result.attempt, result.reason
                ),
            };
            ("stage", text)
        }
        ReportBody::Converged { generation } => ("converged", format!("{name}: holds generation {generation}")),
        ReportBody::Refused { offered, have, reason } => {
            ("refused", format!("{name}: refused generation {offered} (has {have}): {reason}"))
        }
        ReportBody::Command(end) => {
            let standing = CommandStanding::from(end.outcome);
            let reason = if end.reason.is_empty() { String::new() } else { format!(": {}", end.reason) };
            ("command", format!("{name}: command {} {}{reason}", end.id, standing.name()))
        }
        ReportBody::Drift(found) => ("drift", format!("{name}: {} resources are not as configured", found.total)),
        ReportBody::LedgerLost { reason } => {
            let text = format!(
                "{name}: its ledger was damaged and set aside, and it begins anew: {reason}. What it was running is unknown and \
                 is not run again; stages run again, where they disturb with a permit; nothing has to be done. If this happens \
                 again, look at the disk of its host"
            );
            ("ledger", text)
        }
    };
    NewEvent { at_ms: now, topology: topology.clone(), node: Some(node.clone()), kind, text }
}

/// `POST /agent/v1/nodes/{id}/heartbeat`
pub async fn heartbeat(
    State(app): State<Arc<App>>,
    OwnNode(identity): OwnNode,
    Json(beat): Json<Heartbeat>,
) -> Result<StatusCode, ApiError> {
    beaten(&app, (identity.id, identity.incarnation), beat)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes in how a node's incarnation that is in standing is; it is written with others.
///
/// # Errors
/// What is wrong with it.
pub fn beaten(app: &Engine, (id, incarnation): (NodeId, u64), mut beat: Heartbeat) -> Result<(), ApiError> {
    if beat.incarnation != incarnation {
        return Err(ApiError::conflict("this heartbeat is of another incarnation"));
    }
    for (pointer, number) in [("/beat", beat.beat), ("/generation", beat.generation)] {
        if number > NUMBER_MAX {
            return Err(ApiError::invalid(pointer, "a number above 2^63 - 1"));
        }
    }
    if let Some(agent) = &mut beat.agent {
        let refused = agent.refused.as_ref().and_then(|refused| refused.sha256.as_ref());
        for (pointer, build) in [("/agent/sha256", agent.sha256.as_ref()), ("/agent/refused/sha256", refused)] {
            if build.is_some_and(|build| !build.is_well_formed()) {
                return Err(ApiError::invalid(pointer, "is not 64 lower-case hex digits"));
            }
        }
        let reason = agent.refused.as_mut().map(|refused| &mut refused.reason);
        agent.coming.iter_mut().chain(reason).for_each(|text| cut(text, BUILD_TEXT_BYTES_MAX));
    }
    if let Some(fault) = &mut beat.ledger_fault {
        cut(fault, LEDGER_FAULT_BYTES_MAX);
    }
    if app.beats.add(id, app.now_ms(), beat) {
        return Ok(());
    }
    Err(ApiError::unavailable(
        "the database is not available; the heartbeat is kept until it is, assignments are those known last",
    ))
}
