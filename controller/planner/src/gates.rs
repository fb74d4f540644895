//! What each node is assigned, and which of its stages may run.
//!
//! - `install` and `validate` are always open.
//! - `pre_config` waits for the addresses of peers and for the components the node depends on. Once
//!   it was opened for some inputs it stays open for them: a dependency that stumbles later closes
//!   nothing.
//! - `config` is open while there is nothing to disturb. That ends when the node is known to have
//!   worked, and also when inputs change after a node *may* have configured itself: its reports
//!   can be late while it serves. From then on it needs a permit (`permits.rs`).

use crate::context::View;
use crate::desired::{self, Nature, Wanted};
use crate::observe::{Known, serves};
use crate::permits::{self, Grant};
use crate::{Component, NewNode, Node, digests};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use straas_schemas::assignment::{Autonomy, Timing};
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, NodeId, PROTOCOL, Stage, StageOrder};

/// What every wanted node is for, as long as nobody can ask for less.
const LIFECYCLE: Lifecycle = Lifecycle::Running;
/// What every agent may do while it is cut off.
const AUTONOMY: Autonomy = Autonomy { restart_service: true };

/// What keeps `pre_config` closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// These nodes have no address yet.
    Addresses(Vec<String>),
    /// This component does not work yet.
    Dependency {
        /// The component's name.
        component: String,
        /// Its first node that does not work.
        node: String,
        /// Nodes that work.
        done: usize,
        /// All its nodes.
        total: usize,
    },
}

impl Block {
    /// In words, without what moves: each change of these words is a new generation.
    pub fn text(&self) -> String {
        match self {
            Self::Addresses(_) => "waiting for the addresses of the component's hosts".to_owned(),
            Self::Dependency { component, .. } => format!("waiting for component {component} to work"),
        }
    }
}

/// What every wanted node should have.
pub struct Gates<'a> {
    /// Borrowed: it has that already. Owned: it is to be written, its generation is raised.
    pub assignments: BTreeMap<&'a NodeId, Cow<'a, Assignment>>,
    /// What keeps the nodes of a role of a component from `pre_config`.
    blocks: BTreeMap<(&'a str, &'a str), Block>,
    /// What became of each request for a permit.
    pub grants: BTreeMap<&'a NodeId, Grant>,
}

impl<'a> Gates<'a> {
    /// What keeps `pre_config` of a node closed for new inputs, if anything does.
    pub fn block(&self, known: &Known<'_>, component: &Component, node: &NewNode) -> Option<Block> {
        block_of(known, node, self.blocks.get(&(component.id.as_str(), node.role.as_str())))
    }

    /// Judges every wanted node.
    pub fn new(known: &'a Known<'a>) -> Self {
        let mut blocks = BTreeMap::new();
        let mut drafts = Vec::new();
        let mut assignments = BTreeMap::new();
        let mut roles: BTreeMap<(&str, &str), Option<Common<'_, 'a>>> = BTreeMap::new();
        for wanted in known.desired {
            let key = (wanted.component.id.as_str(), wanted.node.role.as_str());
            let common = roles.entry(key).or_insert_with(|| Common::new(known, wanted));
            if let Some(common) = common {
                if let Some(block) = &common.block {
                    blocks.entry(key).or_insert_with(|| block.clone());
                }
                drafts.push((wanted, common.draft(&wanted.node)));
            } else if let Some(last) = known.recorded.get(&wanted.node.id).and_then(|n| n.assignment.as_ref()) {
                // what it should be cannot be read: it keeps what it has
                assignments.insert(&wanted.node.id, Cow::Borrowed(last));
            }
        }
        let stable: BTreeMap<&NodeId, &Node> = drafts
            .iter()
            .filter_map(|(wanted, draft)| draft.last.filter(|_| draft.same_inputs).map(|node| (&wanted.node.id, node)))
            .collect();
        let grants = permits::grants(known, &stable);
        for (wanted, mut draft) in drafts {
            let [_, _, config, _] = &mut draft.gates;
            match grants.get(&wanted.node.id) {
                Some(Grant::Given(digest)) => *config = Gate::Permit { granted: Some(digest.clone()) },
                Some(Grant::Free) => *config = Gate::Open,
                Some(Grant::Waits(_) | Grant::Last(_)) | None => {}
            }
            let key = (wanted.component.id.as_str(), wanted.node.role.as_str());
            if let Some(Some(common)) = roles.get(&key) {
                assignments.insert(&wanted.node.id, common.finish(&wanted.node, &draft));
            }
        }
        Self { assignments, blocks, grants }
    }
}

/// The stages of one node, before its context is made.
struct Draft<'a> {
    last: Option<&'a Node>,
    /// Nothing that a run of a stage depends on differs from the last assignment.
    same_inputs: bool,
    blank: bool,
    /// Inputs of `pre_config`.
    pre_config: Digest,
    /// By stage, in their order.
    gates: [Gate; 4],
}

/// What the nodes of one role of a component have in common.
struct Common<'k, 'a> {
    known: &'k Known<'a>,
    component: &'a Component,
    nature: Nature<'a>,
    block: Option<Block>,
    inputs: [Digest; 3],
    /// What `pre_config` depends on, with and without addresses; the latter only while some are missing.
    shared: (Digest, Option<Digest>),
    /// The shared part of the context, with and without addresses.
    documents: (OnceCell<Value>, OnceCell<Value>),
}

impl<'k, 'a> Common<'k, 'a> {
    fn new(known: &'k Known<'a>, wanted: &Wanted<'a>) -> Option<Self> {
        let component = wanted.component;
        let nature = desired::nature(component, &wanted.node.role).ok()?;
        let scripts = nature.knowledge.scripts.get(&nature.role.script_role);
        let script = |stage| scripts.and_then(|s| s.get(&stage)).map_or("none", Digest::as_str);
        let block = blocked(known, component, peer_roles(&nature));
        let shared = |blank| {
            let context = view(known, component, &nature, blank).shared_digest();
            digests::shared(script(Stage::PreConfig), &component.version, &context)
        };
        let blank = matches!(block, Some(Block::Addresses(_))).then(|| shared(true));
        Some(Self {
            known,
            component,
            inputs: [
                digests::install(script(Stage::Install), &nature.version.packages),
                digests::of_script(Stage::Config, script(Stage::Config)),
                digests::of_script(Stage::Validate, script(Stage::Validate)),
            ],
            documents: (OnceCell::new(), OnceCell::new()),
            shared: (shared(false), blank),
            block,
            nature,
        })
    }

    fn draft(&self, node: &NewNode) -> Draft<'a> {
        let recorded = self.known.recorded.get(&node.id).copied();
        let last = recorded.and_then(|n| n.assignment.as_ref());
        let order = |stage| last.and_then(|a| a.order(stage));
        let was_open = order(Stage::PreConfig).is_some_and(|o| o.gate == Gate::Open);
        // a node that may be configured keeps a context that its `validate` can work with
        let (shared, blank) = match &self.shared.1 {
            Some(blanked) if !was_open => (blanked, true),
            _ => (&self.shared.0, false),
        };
        let address = view(self.known, self.component, &self.nature, blank).address(node);
        let [install, config, _] = &self.inputs;
        let pre_config = digests::pre_config(shared, node, address);
        let same = |stage, inputs: &Digest| order(stage).is_some_and(|o| o.inputs == *inputs);
        let same_pre_config = same(Stage::PreConfig, &pre_config);
        let same_inputs = same_pre_config && same(Stage::Install, install) && same(Stage::Config, config);
        let closed = block_of(self.known, node, self.block.as_ref()).filter(|_| !(was_open && same_pre_config));
        let gates = [
            Gate::Open,
            closed.map_or(Gate::Open, |b| Gate::Closed { why: b.text() }),
            recorded.map_or(Gate::Open, |n| config_gate(n, was_open && !same_inputs)),
            Gate::Open,
        ];
        Draft { last: recorded, same_inputs, blank, pre_config, gates }
    }

    fn orders<'d>(&'d self, draft: &'d Draft<'a>) -> impl Iterator<Item = (Stage, &'d Digest, &'d Gate)> {
        let [install, config, validate] = &self.inputs;
        let inputs = [install, &draft.pre_config, config, validate];
        Stage::ALL.into_iter().zip(inputs).zip(&draft.gates).map(|((stage, inputs), gate)| (stage, inputs, gate))
    }

    /// Whether the last assignment is what the draft says. The contexts are equal if the inputs of
    /// the stages are.
    fn is_same(&self, last: &Assignment, node: &NewNode, draft: &Draft<'a>) -> bool {
        // every field is named, so that a new one cannot be forgotten here
        #[rustfmt::skip]
        let Assignment {
            protocol, node: id, generation: _, lifecycle, name, role, version,
            scripts, files, packages, context: _, stages, timing, autonomy,
        } = last;
        let meta = &self.nature.knowledge.meta;
        let order = |(o, (stage, inputs, gate)): (&StageOrder, (Stage, &Digest, &Gate))| {
            (o.stage, &o.inputs, &o.gate, o.limits) == (stage, inputs, gate, meta.limits(stage))
        };
        let input = self.known.input;
        (*protocol, *lifecycle, id, name) == (PROTOCOL, LIFECYCLE, &node.id, &node.name)
            && (role, version) == (&self.nature.role.script_role, &self.component.version)
            && (scripts, files, packages) == (&input.scripts, &input.files, &self.nature.version.packages)
            && (*timing, *autonomy) == (self.timing(), AUTONOMY)
            && stages.len() == Stage::ALL.len()
            && stages.iter().zip(self.orders(draft)).all(order)
    }

    fn timing(&self) -> Timing {
        let settings = &self.known.input.settings;
        Timing {
            heartbeat_ms: settings.heartbeat_ms,
            validate_every_ms: self.nature.knowledge.meta.validate_every_s.saturating_mul(1000),
            retry_ms: settings.retry_ms,
            retry_max_ms: settings.retry_max_ms,
            waiting_ms: settings.waiting_ms,
        }
    }

    /// The assignment: the last one if nothing of it changes.
    fn finish(&self, node: &NewNode, draft: &Draft<'a>) -> Cow<'a, Assignment> {
        let meta = &self.nature.knowledge.meta;
        let last = draft.last.and_then(|n| n.assignment.as_ref());
        if let Some(last) = last.filter(|last| self.is_same(last, node, draft)) {
            return Cow::Borrowed(last);
        }
        let order = |(stage, inputs, gate): (Stage, &Digest, &Gate)| StageOrder {
            stage,
            inputs: inputs.clone(),
            gate: gate.clone(),
            limits: meta.limits(stage),
        };
        let shared = if draft.blank { &self.documents.1 } else { &self.documents.0 };
        Cow::Owned(Assignment {
            protocol: PROTOCOL,
            node: node.id.clone(),
            generation: last.map_or(0, |a| a.generation).saturating_add(1),
            lifecycle: LIFECYCLE,
            name: node.name.clone(),
            role: self.nature.role.script_role.clone(),
            version: self.component.version.clone(),
            scripts: self.known.input.scripts.clone(),
            files: self.known.input.files.clone(),
            packages: self.nature.version.packages.clone(),
            context: view(self.known, self.component, &self.nature, draft.blank).document(node, shared),
            stages: self.orders(draft).map(order).collect(),
            timing: self.timing(),
            autonomy: AUTONOMY,
        })
    }
}

fn peer_roles<'a>(nature: &Nature<'a>) -> &'a [String] {
    nature.knowledge.meta.peers.get(&nature.role.name).map_or(&[], Vec::as_slice)
}

fn view<'k, 'a>(known: &'k Known<'a>, component: &'a Component, nature: &Nature<'a>, blank: bool) -> View<'k, 'a> {
    View { known, component, knowledge: nature.knowledge, peer_roles: peer_roles(nature), blank }
}

/// The gate of `config`, before any permit is given.
fn config_gate(node: &Node, may_differ: bool) -> Gate {
    let last = node.assignment.as_ref();
    match last.and_then(|a| a.order(Stage::Config)).map(|o| &o.gate) {
        // another host took its place: there is nothing on it
        Some(Gate::Permit { .. }) if replaced(node) => Gate::Open,
        Some(Gate::Permit { .. }) => Gate::Permit { granted: permits::held(node).cloned() },
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
    before.is_some() && before != node.address.as_deref()
}

/// What blocks a node: its own address, or what blocks its role.
fn block_of(known: &Known<'_>, node: &NewNode, of_role: Option<&Block>) -> Option<Block> {
    match of_role {
        Some(Block::Dependency { .. }) | None if known.address(&node.id).is_none() => {
            Some(Block::Addresses(vec![node.name.clone()]))
        }
        block => block.cloned(),
    }
}

/// What blocks every node of a role.
fn blocked(known: &Known<'_>, component: &Component, peer_roles: &[String]) -> Option<Block> {
    let peers = known.of_component(&component.id).filter(|peer| peer_roles.contains(&peer.role));
    let without: Vec<String> = peers.filter(|p| known.address(&p.id).is_none()).map(|p| p.name.clone()).collect();
    if !without.is_empty() {
        return Some(Block::Addresses(without));
    }
    known.dependencies(component).find_map(|dependency| {
        let all: Vec<_> = known.of_component(&dependency.id).collect();
        let idle: Vec<_> = all.iter().filter(|n| !known.works(&n.id)).collect();
        let node = idle.first()?.name.clone();
        let (component, done, total) = (dependency.name.clone(), all.len() - idle.len(), all.len());
        Some(Block::Dependency { component, node, done, total })
    })
}
