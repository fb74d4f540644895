//! As of a time: what a node was told, what it had run and what it reported.
//!
//! The store keeps the last assignments and reports of each node; here they are put together, without secrets.
//!
//! Never here: what the node is now (`nodes.rs`).

use super::auth::Caller;
use super::extract::{Path, Query};
use super::nodes::own;
use super::problem::ApiError;
use crate::app::App;
use axum::extract::State;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::config::is_sealed;
use straas_schemas::configuration::SECRET;
use straas_schemas::history::{NodeAsOf, ReportView, StageAsOf, ToldView};
use straas_schemas::report::ReportBody;
use straas_schemas::{Assignment, Stage};
use straas_store::{RESULTS_PER_NODE_MAX, Reported, StoreError, Told};

/// Reports of an answer, where nothing else is asked for.
const REPORTS: u32 = 20;

/// Query of a node's history.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsOf {
    /// The time, Unix ms; now if absent.
    #[schemars(range(min = 0))]
    at_ms: Option<i64>,
    /// Most reports of the answer; 20 if absent.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

/// `GET /v1.0/nodes/{id}/history`
pub async fn of_node(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<AsOf>,
) -> Result<Json<NodeAsOf>, ApiError> {
    let node = own(&app, &caller, &id).await?.record.id;
    let limit = query.limit.unwrap_or(REPORTS);
    if !(1..=RESULTS_PER_NODE_MAX).contains(&limit) {
        return Err(ApiError::invalid("/limit", &format!("must be a number from 1 to {RESULTS_PER_NODE_MAX}")));
    }
    let at_ms = query.at_ms.unwrap_or_else(|| app.now_ms());
    if at_ms < 0 {
        return Err(ApiError::invalid("/at_ms", "must be Unix ms, 0 or more"));
    }
    let told = app.store.told_at(&node, at_ms).await?.map(told).transpose()?;
    // of one incarnation there are no more, so the last run of each of its stages is among them
    let mut reports = app.store.reported_until(&node, at_ms, RESULTS_PER_NODE_MAX).await?;
    let incarnation = reports.first().map(|newest| newest.incarnation);
    let (stages, converged_generation) = ran(reports.iter().filter(|kept| Some(kept.incarnation) == incarnation));
    reports.truncate(limit as usize);
    let view = |kept: Reported| ReportView {
        incarnation: kept.incarnation,
        received_ms: kept.received_ms,
        report: kept.report,
    };
    let reports = reports.into_iter().map(view).collect();
    Ok(Json(NodeAsOf { node, at_ms, told, incarnation, converged_generation, stages, reports }))
}

/// The last run of each stage and the highest generation that was confirmed, of reports that come newest first.
fn ran<'a>(reports: impl Iterator<Item = &'a Reported>) -> (Vec<StageAsOf>, u64) {
    let mut last: BTreeMap<Stage, StageAsOf> = BTreeMap::new();
    let mut converged = 0;
    for kept in reports {
        match &kept.report.body {
            ReportBody::Stage(result) => {
                let run = || StageAsOf { received_ms: kept.received_ms, result: result.clone() };
                last.entry(result.stage).or_insert_with(run);
            }
            ReportBody::Converged { generation } => converged = converged.max(*generation),
            _ => {}
        }
    }
    (last.into_values().collect(), converged)
}

fn told(told: Told) -> Result<ToldView, ApiError> {
    let Told { assignment: stored, written_ms } = told;
    let broken = |error: serde_json::Error| StoreError::Broken {
        what: "reading an assignment".to_owned(),
        source: Box::new(error),
    };
    let mut whole: Value = serde_json::from_str(&stored.document).map_err(broken)?;
    let assignment = Assignment::deserialize(&whole).map_err(broken)?;
    hide(&mut whole);
    Ok(ToldView {
        generation: stored.generation,
        written_ms,
        digest: stored.digest,
        version: assignment.version,
        config: assignment.config,
        scripts: assignment.scripts,
        lifecycle: assignment.lifecycle,
        assignment: whole,
    })
}

/// What is sealed is of no use to a reader, and nobody's to see.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) if is_sealed(text) => SECRET.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(map) => map.values_mut().for_each(hide),
        _ => {}
    }
}
