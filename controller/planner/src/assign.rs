//! One assignment: drafted from what the nodes of a role have in common, finished once permits are
//! known.
//!
//! What is common is made once per role and target. A node whose draft equals its last assignment
//! keeps that one; its context is not even built, since the inputs of `pre_config` cover it.

use crate::context::View;
use crate::desired::{self, Nature, Wanted};
use crate::gates::{Block, blocked};
use crate::observe::{Known, serves};
use crate::operations::Operations;
use crate::permits;
use crate::roster::{self, Peer, Rosters};
use crate::targets::{self, Which};
use crate::{NewNode, Node, Target, digests};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use straas_schemas::assignment::{Autonomy, DriftOrder, Timing};
use straas_schemas::{Assignment, Digest, FileRef, Gate, Lifecycle, PROTOCOL, Stage, StageOrder};

/// What every agent may do while it is cut off.
const AUTONOMY: Autonomy = Autonomy { restart_service: true };

/// The stages of one node, before its context is made.
pub struct Draft<'a> {
    /// The node as recorded.
    pub last: Option<&'a Node>,
    /// Nothing that a run of a stage depends on differs from the last assignment.
    pub same_inputs: bool,
    /// By stage, in their order.
    pub gates: [Gate; 4],
    /// By stage, in their order.
    pub inputs: [Digest; 4],
    /// As others know it.
    own: Peer<'a>,
    blank: bool,
}

/// What the nodes of one role of a component that get the same target have in common.
pub struct Common<'k, 'a> {
    view: View<'k, 'a>,
    nature: Nature<'a>,
    target: &'a Target,
    /// Addresses that are missing for those not configured yet.
    missing: Vec<String>,
    block: Option<Block>,
    install: Digest,
    config: Digest,
    validate: Digest,
    /// What `pre_config` depends on, with and without addresses; the latter only while some are missing.
    shared: (Digest, Option<Digest>),
    /// The shared part of the context, with and without addresses.
    documents: (OnceCell<Value>, OnceCell<Value>),
    /// Names that resolve on every host of the role.
    hosts: BTreeMap<String, String>,
}

impl<'k, 'a> Common<'k, 'a> {
    /// Of the role of a node; `None` if the repos do not say what it is, or if nothing is known of
    /// something that it depends on.
    pub fn new(
        known: &'k Known<'a>,
        rosters: &'k Rosters<'a>,
        operations: &Operations<'a>,
        wanted: &Wanted<'a>,
        which: Which<'a>,
    ) -> Option<Self> {
        let component = wanted.component;
        let target = targets::target(component, which);
        let nature = desired::nature(component, target, &wanted.node.role).ok()?;
        if known.lost(component).is_some() {
            return None;
        }
        let scripts = nature.knowledge.scripts.get(&nature.role.script_role);
        let script = |stage| scripts.and_then(|s| s.get(&stage)).map_or("none", Digest::as_str);
        let peer_roles = nature.knowledge.meta.peers.get(&nature.role.name).map_or(&[][..], Vec::as_slice);
        let sections = desired::sections(nature.role);
        let knowledge = nature.knowledge;
        let fault_domains = nature.role.fault_domain;
        let view =
            View { known, rosters, component, target, knowledge, peer_roles, sections, fault_domains, blank: false };
        let shared =
            |view: &View<'k, 'a>| digests::shared(script(Stage::PreConfig), &target.version, &view.shared_digest());
        let rosters = peer_roles.iter().filter_map(|role| rosters.of(component, role));
        let missing: Vec<String> = rosters.flat_map(|r| r.without_address()).collect();
        Some(Self {
            install: digests::install(script(Stage::Install), &nature.version.packages),
            config: digests::of_script(Stage::Config, script(Stage::Config)),
            validate: digests::of_script(Stage::Validate, script(Stage::Validate)),
            documents: (OnceCell::new(), OnceCell::new()),
            shared: (shared(&view), (!missing.is_empty()).then(|| shared(&View { blank: true, ..view }))),
            hosts: view.hosts(),
            block: blocked(known, operations, component),
            missing,
            view,
            nature,
            target,
        })
    }

    fn view(&self, blank: bool) -> View<'k, 'a> {
        View { blank, ..self.view }
    }

    /// What a node gets but for permits, and what its `pre_config` waits for. `turn` is what its
    /// turn to join waits for, and whether that closes what was opened already.
    pub fn draft(
        &self,
        wanted: &'a Wanted<'a>,
        recorded: Option<&'a Node>,
        turn: Option<(Block, bool)>,
    ) -> (Draft<'a>, Option<Block>) {
        let node = &wanted.node;
        let last = recorded.and_then(|n| n.assignment.as_ref());
        let order = |stage| last.and_then(|a| a.order(stage));
        let was_open = order(Stage::PreConfig).is_some_and(|o| o.gate == Gate::Open);
        let may_be_configured = was_open || matches!(order(Stage::Config).map(|o| &o.gate), Some(Gate::Permit { .. }));
        // a node that may be configured keeps a context that its `validate` can work with
        // and one whose host was lost is remembered by its last address, which others have of it
        let remembers = last.is_some_and(|a| a.context.pointer("/node/address").is_some_and(Value::is_string));
        let (shared, blank) = match &self.shared.1 {
            Some(blanked) if !may_be_configured && !remembers => (blanked, true),
            _ => (&self.shared.0, false),
        };
        let own = roster::peer(wanted);
        let view = self.view(blank);
        let (address, domain) = (view.address(&own), view.fault_domain(&own));
        let restarts = wanted.wish.restarts;
        let inputs = [
            self.install.clone(),
            digests::pre_config(shared, node, address, domain),
            if restarts == 0 { self.config.clone() } else { digests::restarted(&self.config, restarts) },
            self.validate.clone(),
        ];
        let same = |stage: Stage| order(stage).is_some_and(|o| o.inputs == inputs[stage as usize]);
        let stays_open = was_open && same(Stage::PreConfig);
        let same_inputs = same(Stage::PreConfig) && same(Stage::Install) && same(Stage::Config);
        let closed = match turn {
            Some((block, hard)) if hard || !stays_open => Some(block),
            _ if stays_open => None,
            _ => self.addresses(&own, may_be_configured).or_else(|| self.block.clone()),
        };
        let may_differ = was_open && !same_inputs;
        let disturbing = |stage| recorded.map_or(Gate::Open, |n| permit_gate(n, stage, may_differ));
        let install = if self.view.knowledge.meta.disruption.install { disturbing(Stage::Install) } else { Gate::Open };
        let pre_config = closed.as_ref().map_or(Gate::Open, |b| Gate::Closed { why: b.text() });
        let gates = [install, pre_config, disturbing(Stage::Config), Gate::Open];
        (Draft { last: recorded, same_inputs, gates, inputs, own, blank }, closed)
    }

    /// Addresses that a node waits for: one that is configured goes on with the last ones.
    fn addresses(&self, own: &Peer<'_>, configured: bool) -> Option<Block> {
        if own.address.is_none() {
            return Some(Block::Addresses(vec![own.name.to_owned()]));
        }
        (!self.missing.is_empty() && !configured).then(|| Block::Addresses(self.missing.clone()))
    }

    fn orders<'d>(&self, draft: &'d Draft<'a>) -> impl Iterator<Item = (Stage, &'d Digest, &'d Gate)> {
        Stage::ALL.into_iter().zip(&draft.inputs).zip(&draft.gates).map(|((stage, inputs), gate)| (stage, inputs, gate))
    }

    /// Whether the last assignment is what the draft says. The contexts are equal if the inputs of
    /// the stages are.
    fn is_same(&self, last: &Assignment, wanted: &Wanted<'_>, draft: &Draft<'a>, runs: Lifecycle) -> bool {
        // every field is named, so that a new one cannot be forgotten here
        #[rustfmt::skip]
        let Assignment {
            protocol, node: id, generation: _, lifecycle, name, role, version,
            scripts, config, restarts, hosts, agent, drift, files, packages, context: _, stages, timing, autonomy,
        } = last;
        let meta = &self.nature.knowledge.meta;
        let order = |(o, (stage, inputs, gate)): (&StageOrder, (Stage, &Digest, &Gate))| {
            (o.stage, &o.inputs, &o.gate, o.limits) == (stage, inputs, gate, meta.limits(stage))
        };
        let (node, wish) = (&wanted.node, wanted.wish);
        (*protocol, *lifecycle, id, name) == (PROTOCOL, runs, &node.id, &node.name)
            && (role, version) == (&self.nature.role.script_role, &self.target.version)
            && (scripts, config) == (&self.target.scripts, &self.target.config)
            && files.iter().eq(self.files(wanted))
            && *agent == self.view.component.agent
            && (*restarts, *drift, packages) == (wish.restarts, self.drift(), &self.nature.version.packages)
            && (*timing, *autonomy) == (self.timing(), AUTONOMY)
            && stages.len() == Stage::ALL.len()
            && stages.iter().zip(self.orders(draft)).all(order)
            && (hosts.is_empty() && self.hosts.is_empty() && draft.own.alias.is_none() || *hosts == self.hosts(draft))
    }

    fn hosts(&self, draft: &Draft<'a>) -> BTreeMap<String, String> {
        let mut hosts = if draft.blank { BTreeMap::new() } else { self.hosts.clone() };
        if let (Some(alias), Some(address)) = (&draft.own.alias, draft.own.last_address) {
            hosts.insert(alias.clone(), address.to_owned());
        }
        hosts
    }

    /// What the node is to have on its disk: everybody's files, its component's, its own.
    fn files<'w>(&'w self, wanted: &'w Wanted<'a>) -> impl Iterator<Item = &'w FileRef> {
        let own = &wanted.wish.files;
        let of_component = self.view.component.files.iter().filter(|file| own.iter().all(|o| o.path != file.path));
        self.view.known.input.files.iter().chain(of_component).chain(own)
    }

    fn drift(&self) -> Option<DriftOrder> {
        let drift = self.nature.knowledge.meta.drift;
        (drift.every_s > 0).then(|| DriftOrder { every_ms: drift.every_s.saturating_mul(1000), policy: drift.policy })
    }

    fn timing(&self) -> Timing {
        let settings = &self.view.known.input.settings;
        Timing {
            heartbeat_ms: settings.heartbeat_ms,
            validate_every_ms: self.nature.knowledge.meta.validate_every_s.saturating_mul(1000),
            retry_ms: settings.retry_ms,
            retry_max_ms: settings.retry_max_ms,
            waiting_ms: settings.waiting_ms,
            validate_wait_ms: self.nature.knowledge.meta.validate_wait_s.saturating_mul(1000),
        }
    }

    /// The assignment: the last one if nothing of it changes.
    pub fn finish(
        &self,
        wanted: &Wanted<'a>,
        draft: &Draft<'a>,
        lifecycle: Lifecycle,
        joined: Option<&str>,
    ) -> Cow<'a, Assignment> {
        let meta = &self.nature.knowledge.meta;
        let last = draft.last.and_then(|n| n.assignment.as_ref());
        if let Some(last) = last.filter(|last| self.is_same(last, wanted, draft, lifecycle)) {
            return Cow::Borrowed(last);
        }
        let order = |(stage, inputs, gate): (Stage, &Digest, &Gate)| StageOrder {
            stage,
            inputs: inputs.clone(),
            gate: gate.clone(),
            limits: meta.limits(stage),
        };
        let shared = if draft.blank { &self.documents.1 } else { &self.documents.0 };
        let node: &NewNode = &wanted.node;
        Cow::Owned(Assignment {
            protocol: PROTOCOL,
            node: node.id.clone(),
            generation: last.map_or(0, |a| a.generation).saturating_add(1),
            lifecycle,
            name: node.name.clone(),
            role: self.nature.role.script_role.clone(),
            version: self.target.version.clone(),
            scripts: self.target.scripts.clone(),
            config: self.target.config.clone(),
            restarts: wanted.wish.restarts,
            hosts: self.hosts(draft),
            agent: self.view.component.agent.clone(),
            drift: self.drift(),
            files: self.files(wanted).cloned().collect(),
            packages: self.nature.version.packages.clone(),
            context: self.view(draft.blank).document(node, &draft.own, joined, shared),
            stages: self.orders(draft).map(order).collect(),
            timing: self.timing(),
            autonomy: AUTONOMY,
        })
    }
}

/// The gate of a stage that disturbs the service, before any permit is given.
fn permit_gate(node: &Node, stage: Stage, may_differ: bool) -> Gate {
    let last = node.assignment.as_ref();
    match last.and_then(|a| a.order(stage)).map(|o| &o.gate) {
        // another host took its place: there is nothing on it
        Some(Gate::Permit { .. }) if replaced(node) => Gate::Open,
        Some(Gate::Permit { .. }) => Gate::Permit { granted: permits::held_for(node, stage).cloned() },
        Some(Gate::Closed { .. }) => Gate::Permit { granted: None },
        Some(Gate::Open) | None if serves(node) || may_differ => Gate::Permit { granted: None },
        Some(Gate::Open) | None => Gate::Open,
    }
}

/// Whether the last assignment was for a host with another address and this one never worked.
fn replaced(node: &Node) -> bool {
    if serves(node) {
        return false;
    }
    let before = node.assignment.as_ref().and_then(|a| a.context.pointer("/node/address")).and_then(Value::as_str);
    before.is_some() && node.address.is_some() && before != node.address.as_deref()
}
