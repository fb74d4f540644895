//! Nodes and what their agents send, in memory.

use super::{Node, Tables, Token, conflict, duplicate, missing};
use crate::commands::because;
use crate::input::{TOKENS_PER_NODE_MAX, batch, check_reports, clean, supersedes};
use crate::{
    EVENTS_PER_TOPOLOGY_MAX, EnrolOutcome, HostRecord, INCARNATIONS_REPORTED_MAX, NewEvent, NodeRecord, NodeSnapshot,
    RESULTS_PER_NODE_MAX, Reported, Result,
};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::NodeId;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::view::Event;

impl Node {
    /// Another incarnation begins, of which nothing is observed yet; its number.
    fn begin(&mut self, enrolled_ms: Option<i64>) -> u64 {
        self.reports.clear();
        self.stage_keys.clear();
        self.refused_seq = 0;
        let seen = &mut self.seen;
        seen.incarnation += 1;
        seen.enrolled_ms = enrolled_ms;
        seen.converged_generation = 0;
        seen.worked = false;
        seen.stages.clear();
        seen.refused = None;
        seen.heartbeat = None;
        let kept = (seen.incarnation + 1).saturating_sub(INCARNATIONS_REPORTED_MAX.into());
        self.reported = self.reported.split_off(&(kept, 0));
        seen.incarnation
    }
}

impl Tables {
    pub(super) fn set_host(&mut self, node: &NodeId, host: &HostRecord) -> Result<()> {
        let clean = |text: &Option<String>| text.as_deref().map(|text| clean(text).into_owned());
        let (address, fault_domain) = (clean(&host.address), clean(&host.fault_domain));
        let host = HostRecord { address, fault_domain, error: clean(&host.error), ..*host };
        let node = self.node(node)?;
        let another = node.seen.host.number < host.number && node.seen.incarnation > 0;
        if another || (host.is_gone() && node.seen.enrolled_ms.is_some()) {
            node.begin(None);
        }
        node.seen.host = host;
        Ok(())
    }

    pub(super) fn add_join_token(&mut self, hash: &str, node: &NodeId, expires_ms: i64) -> Result<()> {
        self.node(node)?;
        match self.tokens.get_mut(hash) {
            Some(same) if same.node == *node && same.used.is_none() => {
                same.expires_ms = expires_ms;
                return Ok(());
            }
            Some(_) => return Err(duplicate("join token of node", node)),
            None => {}
        }
        let mut number = 1;
        for earlier in self.tokens.values_mut().filter(|token| token.node == *node) {
            number = number.max(earlier.number + 1);
            if earlier.used.is_none() {
                earlier.expires_ms = 0;
            }
        }
        self.tokens.retain(|_, token| token.node != *node || token.number > number - TOKENS_PER_NODE_MAX);
        self.tokens.insert(hash.to_owned(), Token { node: node.clone(), number, expires_ms, used: None });
        Ok(())
    }

    pub(super) fn enrol(&mut self, hash: &str, key: &str, now_ms: i64) -> Result<EnrolOutcome> {
        let Some(token) = self.tokens.get(hash).cloned() else { return Ok(EnrolOutcome::Unknown) };
        if let Some((used_key, incarnation)) = &token.used {
            let current = self.node(&token.node)?.seen.incarnation;
            let again = used_key == key && *incarnation == current;
            let enrolled = EnrolOutcome::Enrolled { node: token.node, incarnation: current };
            return Ok(if again { enrolled } else { EnrolOutcome::Used });
        }
        if token.expires_ms <= now_ms {
            return Ok(EnrolOutcome::Expired);
        }
        let id = token.node;
        let incarnation = self.node(&id)?.begin(Some(now_ms));
        if incarnation > 1 {
            self.guest.lose(&id, because::ENROLLED, now_ms);
        }
        if let Some(token) = self.tokens.get_mut(hash) {
            token.used = Some((key.to_owned(), incarnation));
        }
        Ok(EnrolOutcome::Enrolled { incarnation, node: id })
    }

    pub(super) fn record_reports(
        &mut self,
        node: &NodeId,
        incarnation: u64,
        reports: &[Report],
        now_ms: i64,
    ) -> Result<Vec<Report>> {
        check_reports(reports)?;
        let node = self.node(node)?;
        if node.seen.incarnation != incarnation {
            return Err(conflict("node", &node.seen.record.id));
        }
        let newest = |reports: &BTreeSet<i64>| reports.last().copied().unwrap_or(0);
        let pruned = newest(&node.reports) - i64::from(RESULTS_PER_NODE_MAX);
        let mut fresh = Vec::new();
        for report in reports {
            let seq = report.seq.cast_signed();
            if seq <= pruned || !node.reports.insert(seq) {
                continue;
            }
            match &report.body {
                ReportBody::Stage(result) => {
                    node.seen.worked |= result.shows_work();
                    let key = (result.generation, report.seq);
                    let old = node.stage_keys.get(&result.stage).copied().unwrap_or_default();
                    if key.0 >= old.0 && key.1 >= old.1 {
                        node.stage_keys.insert(result.stage, key);
                        node.seen.stages.insert(result.stage, (result.clone(), now_ms));
                    }
                }
                ReportBody::Converged { generation } => {
                    node.seen.converged_generation = node.seen.converged_generation.max(*generation);
                }
                ReportBody::Refused { offered, reason, .. } if report.seq >= node.refused_seq => {
                    node.refused_seq = report.seq;
                    node.seen.refused = Some((*offered, clean(reason).into_owned()));
                }
                ReportBody::Refused { .. }
                | ReportBody::Command(_)
                | ReportBody::Drift(_)
                | ReportBody::LedgerLost { .. } => {}
            }
            let kept = Reported { incarnation, received_ms: now_ms, report: report.clone() };
            node.reported.insert((incarnation, seq), kept);
            fresh.push(report.clone());
        }
        let pruned = newest(&node.reports) - i64::from(RESULTS_PER_NODE_MAX);
        node.reports = node.reports.split_off(&(pruned + 1));
        node.reported.retain(|(of, seq), _| *of != incarnation || *seq > pruned);
        let id = node.seen.record.id.clone();
        self.guest.reported(&id, &fresh, now_ms);
        Ok(fresh)
    }

    pub(super) fn add_events(&mut self, events: &[NewEvent]) -> Vec<Event> {
        let mut written = Vec::with_capacity(events.len());
        for event in events {
            self.event_seq += 1;
            let (topology, node) = (event.topology.clone(), event.node.clone());
            let text = clean(&event.text).into_owned();
            let event =
                Event { seq: self.event_seq, at_ms: event.at_ms, topology, node, kind: event.kind.to_owned(), text };
            let kept = self.events.entry(event.topology.clone()).or_default();
            kept.insert(event.seq, event.clone());
            if kept.len() > EVENTS_PER_TOPOLOGY_MAX as usize {
                kept.pop_first();
            }
            written.push(event);
        }
        written
    }

    pub(super) fn record_heartbeats(&mut self, beats: &[(NodeId, i64, Heartbeat)]) -> Result<()> {
        let batch = batch(beats)?;
        for (id, received_ms, beat) in batch {
            let Some(node) = self.nodes.get_mut(id).filter(|node| node.seen.incarnation == beat.incarnation) else {
                continue;
            };
            let recorded = node.seen.heartbeat.as_ref();
            if recorded.is_none_or(|(old, old_ms)| supersedes(beat, *received_ms, old, *old_ms)) {
                node.seen.heartbeat = Some((beat.clone(), *received_ms));
            }
        }
        Ok(())
    }

    pub(super) fn add_nodes(&mut self, nodes: &[NodeRecord]) -> Result<()> {
        let known = |node: &&NodeRecord| {
            self.nodes.contains_key(&node.id)
                || (self.components.contains_key(&node.component) && self.topologies.contains_key(&node.topology))
        };
        if let Some(orphan) = nodes.iter().find(|node| !known(node)) {
            return Err(missing("component", &orphan.component));
        }
        for record in nodes {
            let seen = NodeSnapshot {
                record: record.clone(),
                host: HostRecord::default(),
                incarnation: 0,
                enrolled_ms: None,
                assigned: None,
                converged_generation: 0,
                worked: false,
                stages: BTreeMap::new(),
                refused: None,
                heartbeat: None,
            };
            let node = Node {
                seen,
                assignment: None,
                reports: BTreeSet::new(),
                stage_keys: BTreeMap::new(),
                refused_seq: 0,
                told: Vec::new(),
                reported: BTreeMap::new(),
            };
            self.nodes.entry(record.id.clone()).or_insert(node);
        }
        Ok(())
    }
}
