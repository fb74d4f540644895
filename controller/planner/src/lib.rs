//! The planner: desired state + observed state + now → what has to be.
//!
//! `plan` is one pure function over one topology. It decides everything (which nodes exist, what
//! each is assigned, which gates are open, who holds a permit, what each node waits for, how each
//! job stands) and does nothing. The plan is data so complete that whoever carries it out has no
//! choices left. Creation, deletion and change are not workflows here: they are different desired
//! states, and the job's DAG is derived from the difference.
//!
//! Never here: IO, clocks, randomness, knowledge of a database or of HTTP (clippy.toml bans them).

mod assign;
mod context;
mod departures;
mod desired;
mod digests;
mod gates;
mod health;
pub mod input;
mod jobs;
mod looks;
mod membership;
mod neighbours;
mod node_steps;
mod observe;
mod operations;
mod permits;
mod picture;
mod predict;
mod releases;
mod roster;
mod targets;
mod view;
mod why;

pub use desired::node_id;
pub use input::*;
pub use predict::predict;

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::health::HealthStatus;
use straas_schemas::job::Job;
use straas_schemas::view::TopologyView;
use straas_schemas::{Assignment, CommandId, ComponentId, Digest, JobId, NodeId, TopologyId};

/// What has to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Nodes to record.
    pub add_nodes: Vec<NewNode>,
    /// Nodes to forget: not wanted and their hosts are gone.
    pub forget_nodes: Vec<NodeId>,
    /// Hosts to have, for nodes that are recorded or in `add_nodes`.
    pub hosts: Vec<HostWish>,
    /// Hosts not to have.
    pub no_hosts: Vec<NodeId>,
    /// Assignments to write: their generation is one above what the node has.
    pub assignments: Vec<Assignment>,
    /// Nodes whose new assignment gives them something only because of what *other* nodes have: a
    /// permit. Compare-and-swap on the node alone does not guard that; such an assignment may be
    /// written only while no other assignment of the topology was written since the snapshot.
    pub granted: Vec<NodeId>,
    /// Guest commands to queue; one whose id is known already is left alone.
    pub operations: Vec<OperationWish>,
    /// Rollouts to turn back.
    pub reverts: Vec<Revert>,
    /// Components whose rollout is over: nothing of what was before is needed any more.
    pub rolled_out: Vec<ComponentId>,
    /// Components that are to be removed and of which nothing is left.
    pub forget_components: Vec<ComponentId>,
    /// Every open job with its DAG; one that stands final is to be ended.
    pub jobs: Vec<Job>,
    /// By topology that has to do with this one: a fingerprint of what it uses of this one. With
    /// another one it has to be looked at.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shown: BTreeMap<TopologyId, Digest>,
    /// The topology is deleted and nothing of it is left: forget it.
    pub forget_topology: bool,
    /// How every recorded node is, as far as can be told from here.
    pub health: BTreeMap<NodeId, HealthStatus>,
    /// Nodes whose service is to be looked at once more: the facts are to be no older than this, Unix ms.
    pub looks: BTreeMap<NodeId, i64>,
    /// Names of the facts that plans of this topology look at; others change nothing.
    pub facts: BTreeSet<String>,
    /// When time alone will change this plan, Unix ms.
    pub look_again_ms: Option<i64>,
}

/// A node that has to exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewNode {
    /// Its id, derived from its place, so that planning twice makes one node.
    pub id: NodeId,
    /// Its component.
    pub component: ComponentId,
    /// Its group.
    pub group: String,
    /// Its role.
    pub role: String,
    /// Its host name.
    pub name: String,
    /// Its number in the group, from 1.
    pub ordinal: u32,
}

/// A host that has to exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostWish {
    /// The node it carries.
    pub node: NodeId,
    /// Its host name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// MiB of memory.
    pub memory_mib: u32,
    /// Virtual processors.
    pub vcpus: u32,
    /// Which replacement it is: what is recorded of it once it is up.
    pub number: u32,
    /// Hosts with the same word fail apart, as far as the provider can: those of a group that is to be spread over
    /// fault domains, or of an anti-affinity group of the tenant. `None` where nobody asked.
    pub spread: Option<String>,
}

/// A guest command that has to be run, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperationWish {
    /// Its id, derived from the topology, the key and the attempt, so that planning twice asks once.
    pub id: CommandId,
    /// What it is for, e.g. `join kf/demo-kf-4`: one success is enough for ever.
    pub key: String,
    /// Which try, from 1.
    pub attempt: u32,
    /// The node it runs on.
    pub node: NodeId,
    /// `group/name`.
    pub command: String,
    /// Its arguments.
    pub args: BTreeMap<String, serde_json::Value>,
}

/// A rollout whose canary failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Revert {
    /// Of which component.
    pub component: ComponentId,
    /// The job whose change it is: a revert of a later one is not meant.
    pub job: JobId,
    /// Why, with the node, the stage and the last line of its output.
    pub reason: String,
    /// What nobody should get any more.
    pub quarantine: Vec<Quarantined>,
}

/// Something that failed its canaries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Quarantined {
    /// A version of a component type.
    Version {
        /// The type.
        kind: String,
        /// The version.
        version: String,
    },
    /// A commit of the script repo.
    Scripts(String),
}

/// The topology as people see it: for whoever asks, not for who carries out a plan.
#[must_use]
pub fn view(input: &PlanInput) -> TopologyView {
    let desired = desired::nodes(input);
    let known = observe::Known::new(input, &desired);
    let picture = picture::Picture::new(&known, gates::Gates::new(&known)).explained();
    view::topology(&picture, &jobs::jobs(&picture))
}

/// Plans one topology.
#[must_use]
pub fn plan(input: &PlanInput) -> Plan {
    let desired = desired::nodes(input);
    let known = observe::Known::new(input, &desired);
    let picture = picture::Picture::new(&known, gates::Gates::new(&known));
    let picture = if input.jobs.is_empty() { picture } else { picture.explained() };
    let jobs = jobs::jobs(&picture);
    let gone = known.unwanted.iter().all(|node| node.host == Host::Absent);
    let gates = &picture.gates;
    let looks = looks::Looks::new(&known, gates);
    let due = [observe::silence_changes(&known), gates.operations.due_ms, looks.due_ms, gates.rosters.due_ms()];
    Plan {
        add_nodes: known.missing.clone(),
        hosts: desired::hosts(&known, &gates.permits.replaced),
        no_hosts: departures::hosts(&known, gates),
        granted: picture.granted(),
        operations: gates.operations.wishes.clone(),
        reverts: gates.targets.reverts(),
        rolled_out: jobs::rolled_out(&picture, &jobs),
        forget_components: departures::components(&known, gates),
        shown: neighbours::shown(&known, gates),
        health: health::health(&known),
        forget_topology: input.topology.deleting && gone && gates.operations.released_all(),
        forget_nodes: departures::forgotten(&known),
        looks: looks.wished,
        facts: looks::facts(input.components.iter()),
        look_again_ms: due.into_iter().flatten().min(),
        jobs,
        assignments: picture.into_changed(),
    }
}
