//! What agents send: join tokens spent, reports, heartbeats.
//!
//! The node's row is the lock of its observed side: enrolment and reports take it, so that a
//! report of the earlier incarnation is either before the enrolment, and cleared by it, or refused.
//! Heartbeats take no lock; a late one of an earlier incarnation carries its number and is skipped
//! by readers.

use super::rows::{int, key, to_text};
use super::{Fail, SqlStore};
use crate::commands::because;
use crate::input::{TOKENS_PER_NODE_MAX, batch, check_reports, clean};
use crate::{EnrolOutcome, RESULTS_PER_NODE_MAX, Result, StoreError, Tells};
use serde::Serialize;
use sqlx::{query, query_as, query_scalar};
use std::borrow::Cow;
use straas_schemas::NodeId;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::report::{Report, ReportBody};

statements! {
    TOKEN_NUMBER = "select coalesce(max(number), 0) + 1 from join_token where node = $1";
    TOKEN_AGAIN = "update join_token set expires_ms = $3 where hash = $1 and node = $2 and used_ms is null";
    TOKENS_END = "update join_token set expires_ms = 0 where node = $1 and used_ms is null and expires_ms <> 0";
    TOKEN_ADD = "insert into join_token (hash, node, number, expires_ms) values ($1, $2, $3, $4)";
    TOKENS_PRUNE = "delete from join_token where node = $1 and number <= $2";
    TOKEN_SPEND = "update join_token set used_ms = $2, used_key = $3
        where hash = $1 and used_ms is null and expires_ms > $2 returning node";
    TOKEN_MADE = "update join_token set incarnation = $2 where hash = $1";
    TOKEN_USED = "select n.id, n.incarnation, t.used_key, t.incarnation from join_token t join node n on n.id = t.node
        where t.hash = $1";
    ENROL = "update node set incarnation = incarnation + 1, enrolled_ms = $2, report_seq = 0, converged_generation = 0, worked = 0,
            refused_generation = null, refused_reason = null, refused_seq = 0
        where id = $1 returning incarnation";
    HEARTBEAT_CLEAR = "delete from heartbeat where node = $1";
    STAGES_CLEAR = "delete from stage_result where node = $1";
    REPORTS_FORGET = "delete from report where node = $1 and incarnation <= $2";
    REPORT_ADD = "insert into report (node, incarnation, seq, received_ms, document) values ($1, $2, $3, $4, $5)
        on conflict (node, incarnation, seq) do nothing";
    REPORTS_PRUNE = "delete from report where node = $1 and incarnation = $2 and seq <= $3";
    STAGE_PUT = "insert into stage_result (node, stage, generation, seq, received_ms, document) values ($1, $2, $3, $4, $5, $6)
        on conflict (node, stage) do update set generation = excluded.generation, seq = excluded.seq,
            received_ms = excluded.received_ms, document = excluded.document
        where stage_result.generation <= excluded.generation and stage_result.seq <= excluded.seq";
    NODE_REPORTED = "update node set report_seq = $2, converged_generation = $3,
            refused_seq = $4, refused_generation = $5, refused_reason = $6, worked = $7
        where id = $1";
    @ NODE_LOCK = sqlite "select incarnation, report_seq, converged_generation, refused_seq, refused_generation, refused_reason, worked
            from node where id = $1",
        postgres "select incarnation, report_seq, converged_generation, refused_seq, refused_generation, refused_reason, worked
            from node where id = $1 for no key update";
    @ HEARTBEATS_PUT = sqlite "insert into heartbeat (node, incarnation, run, beat, received_ms, document)
            select n.id, n.incarnation, b.value ->> 'run', b.value ->> 'beat', b.value ->> 'received_ms', b.value ->> 'document'
            from json_each($1) b cross join node n
            where n.id = b.value ->> 'node' and n.incarnation = b.value ->> 'incarnation'
            on conflict (node) do update set incarnation = excluded.incarnation, run = excluded.run, beat = excluded.beat,
                received_ms = excluded.received_ms, document = excluded.document
            where excluded.incarnation > heartbeat.incarnation
                or (excluded.incarnation = heartbeat.incarnation and excluded.received_ms >= heartbeat.received_ms
                    and not (excluded.run = heartbeat.run and excluded.beat < heartbeat.beat))",
        postgres "insert into heartbeat (node, incarnation, run, beat, received_ms, document)
            select n.id, n.incarnation, b.run, b.beat, b.received_ms, b.document
            from json_to_recordset($1::json)
                as b(node text, incarnation bigint, run text, beat bigint, received_ms bigint, document text)
            join node n on n.id = b.node and n.incarnation = b.incarnation
            order by n.id
            on conflict (node) do update set incarnation = excluded.incarnation, run = excluded.run, beat = excluded.beat,
                received_ms = excluded.received_ms, document = excluded.document
            where excluded.incarnation > heartbeat.incarnation
                or (excluded.incarnation = heartbeat.incarnation and excluded.received_ms >= heartbeat.received_ms
                    and not (excluded.run = heartbeat.run and excluded.beat < heartbeat.beat))";
}

/// Begins another incarnation of a node inside a transaction, whose agent enrolled at this time or has not yet: what was
/// observed of the earlier one is cleared, and its reports are history. The incarnation's number.
macro_rules! begin_incarnation {
    ($tx:ident, $on:ident, $node:expr, $enrolled_ms:expr) => {{
        let enrolled_ms: Option<i64> = $enrolled_ms;
        let incarnation: i64 = sqlx::query_scalar($on(&$crate::sql::agents::ENROL))
            .bind($node)
            .bind(enrolled_ms)
            .fetch_one(&mut *$tx)
            .await?;
        for clear in [&$crate::sql::agents::HEARTBEAT_CLEAR, &$crate::sql::agents::STAGES_CLEAR] {
            sqlx::query($on(clear)).bind($node).execute(&mut *$tx).await?;
        }
        sqlx::query($on(&$crate::sql::agents::REPORTS_FORGET))
            .bind($node)
            .bind(incarnation - i64::from($crate::INCARNATIONS_REPORTED_MAX))
            .execute(&mut *$tx)
            .await?;
        incarnation
    }};
}

/// See [`crate::Store::add_join_token`].
pub(super) async fn add_join_token(store: &SqlStore, hash: &str, node: &NodeId, expires_ms: i64) -> Result<()> {
    let id = key(node.as_str());
    writing!(store, "recording a join token", |tx, on| {
        let locked = query(on(&NODE_LOCK)).bind(&*id).fetch_optional(&mut *tx).await?;
        if locked.is_none() {
            return Err(no_node(node).into());
        }
        let again = query(on(&TOKEN_AGAIN)).bind(hash).bind(&*id).bind(expires_ms).execute(&mut *tx).await?;
        if again.rows_affected() == 0 {
            let number: i64 = query_scalar(on(&TOKEN_NUMBER)).bind(&*id).fetch_one(&mut *tx).await?;
            query(on(&TOKENS_END)).bind(&*id).execute(&mut *tx).await?;
            query(on(&TOKEN_ADD))
                .bind(hash)
                .bind(&*id)
                .bind(number)
                .bind(expires_ms)
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_duplicate(cause, "join token of node", &id))?;
            query(on(&TOKENS_PRUNE)).bind(&*id).bind(number - TOKENS_PER_NODE_MAX).execute(&mut *tx).await?;
        }
    })
}

/// See [`crate::Store::enrol`].
pub(super) async fn enrol(store: &SqlStore, hash: &str, used_key: &str, now_ms: i64) -> Result<EnrolOutcome> {
    let hash = key(hash);
    writing!(store, "spending a join token", |tx, on| {
        let node: Option<String> =
            query_scalar(on(&TOKEN_SPEND)).bind(&*hash).bind(now_ms).bind(used_key).fetch_optional(&mut *tx).await?;
        let Some(node) = node else {
            let found: Option<(String, i64, Option<String>, Option<i64>)> =
                query_as(on(&TOKEN_USED)).bind(&*hash).fetch_optional(&mut *tx).await?;
            return Ok(match found {
                None => EnrolOutcome::Unknown,
                Some((_, _, None, _)) => EnrolOutcome::Expired,
                Some((node, current, Some(key), made)) if key == used_key && made == Some(current) => {
                    EnrolOutcome::Enrolled { node: node.into(), incarnation: super::rows::count(current)? }
                }
                Some(_) => EnrolOutcome::Used,
            });
        };
        let incarnation = begin_incarnation!(tx, on, &node, Some(now_ms));
        if incarnation > 1 {
            lose_commands!(tx, on, &node, because::ENROLLED, now_ms);
        }
        query(on(&TOKEN_MADE)).bind(&*hash).bind(incarnation).execute(&mut *tx).await?;
        EnrolOutcome::Enrolled { node: node.into(), incarnation: super::rows::count(incarnation)? }
    })
}

/// See [`crate::Store::record_reports`].
pub(super) async fn record_reports(
    store: &SqlStore,
    node: &NodeId,
    incarnation: u64,
    reports: &[Report],
    tells: Tells<'_>,
    now_ms: i64,
) -> Result<Vec<Report>> {
    check_reports(reports)?;
    let id = key(node.as_str());
    writing!(store, "recording reports", |tx, on| {
        let incarnation = int(incarnation)?;
        let locked: Option<Observed> = query_as(on(&NODE_LOCK)).bind(&*id).fetch_optional(&mut *tx).await?;
        let mut observed = locked.ok_or_else(|| no_node(node))?;
        if observed.incarnation != incarnation {
            return Err(StoreError::Conflict { what: "node", id: node.to_string() }.into());
        }
        let pruned = observed.report_seq - i64::from(RESULTS_PER_NODE_MAX);
        let mut fresh = Vec::new();
        for report in reports {
            let seq = int(report.seq)?;
            if seq <= pruned {
                continue;
            }
            let added = query(on(&REPORT_ADD))
                .bind(&*id)
                .bind(incarnation)
                .bind(seq)
                .bind(now_ms)
                .bind(to_text("a report", report)?)
                .execute(&mut *tx)
                .await?;
            if added.rows_affected() == 0 {
                continue;
            }
            observed.note(seq, &report.body)?;
            match &report.body {
                ReportBody::Stage(result) => {
                    query(on(&STAGE_PUT))
                        .bind(&*id)
                        .bind(result.stage.name())
                        .bind(int(result.generation)?)
                        .bind(seq)
                        .bind(now_ms)
                        .bind(to_text("a stage result", result)?)
                        .execute(&mut *tx)
                        .await?;
                }
                ReportBody::Command(end) => end_command!(tx, on, &*id, end, now_ms),
                ReportBody::LedgerLost { .. } => lose_commands!(tx, on, &*id, because::LEDGER, now_ms),
                ReportBody::Converged { .. } | ReportBody::Refused { .. } | ReportBody::Drift(_) => {}
            }
            fresh.push(report.clone());
        }
        if !fresh.is_empty() {
            query(on(&NODE_REPORTED))
                .bind(&*id)
                .bind(observed.report_seq)
                .bind(observed.converged_generation)
                .bind(observed.refused_seq)
                .bind(observed.refused_generation)
                .bind(&observed.refused_reason)
                .bind(observed.worked)
                .execute(&mut *tx)
                .await?;
            let pruned = observed.report_seq - i64::from(RESULTS_PER_NODE_MAX);
            if pruned > 0 {
                query(on(&REPORTS_PRUNE)).bind(&*id).bind(incarnation).bind(pruned).execute(&mut *tx).await?;
            }
            let events: Vec<_> = fresh.iter().filter_map(tells).collect();
            if !events.is_empty() {
                add_events!(tx, on, &events);
            }
        }
        fresh
    })
}

/// What reports change in a node's row.
#[derive(sqlx::FromRow)]
struct Observed {
    incarnation: i64,
    report_seq: i64,
    converged_generation: i64,
    refused_seq: i64,
    refused_generation: Option<i64>,
    refused_reason: Option<String>,
    worked: i64,
}

impl Observed {
    fn note(&mut self, seq: i64, body: &ReportBody) -> Result<(), Fail> {
        self.report_seq = self.report_seq.max(seq);
        match body {
            ReportBody::Converged { generation } => {
                self.converged_generation = self.converged_generation.max(int(*generation)?)
            }
            ReportBody::Refused { offered, reason, .. } if seq >= self.refused_seq => {
                self.refused_seq = seq;
                self.refused_generation = Some(int(*offered)?);
                self.refused_reason = Some(clean(reason).into_owned());
            }
            ReportBody::Stage(result) if result.shows_work() => self.worked = 1,
            ReportBody::Refused { .. }
            | ReportBody::Stage(_)
            | ReportBody::Command(_)
            | ReportBody::Drift(_)
            | ReportBody::LedgerLost { .. } => {}
        }
        Ok(())
    }
}

/// A heartbeat as the statement takes it.
#[derive(Serialize)]
struct Line<'a> {
    node: Cow<'a, str>,
    incarnation: u64,
    run: Cow<'a, str>,
    beat: u64,
    received_ms: i64,
    document: String,
}

/// See [`crate::Store::record_heartbeats`]: one statement per batch.
pub(super) async fn record_heartbeats(store: &SqlStore, beats: &[(NodeId, i64, Heartbeat)]) -> Result<()> {
    let what = "recording heartbeats";
    let lines = batch(beats)?
        .into_iter()
        .map(|(node, received_ms, beat)| {
            let document = to_text("a heartbeat", beat)?;
            let (node, run) = (key(node.as_str()), clean(&beat.run));
            Ok(Line { node, incarnation: beat.incarnation, run, beat: beat.beat, received_ms: *received_ms, document })
        })
        .collect::<Result<Vec<_>, Fail>>();
    let lines = lines.and_then(|lines| to_text("a batch", &lines)).map_err(|fail| fail.into_error(what))?;
    writing!(store, what, |tx, on| {
        query(on(&HEARTBEATS_PUT)).bind(&lines).execute(&mut *tx).await?;
    })
}

fn no_node(id: &NodeId) -> StoreError {
    StoreError::NotFound { what: "node", id: id.to_string() }
}
