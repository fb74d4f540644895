//! The planner: desired state + observed state + now → what has to be.
//!
//! `plan` is one pure function over one topology. It decides everything (which nodes exist, what
//! each is assigned, which gates are open, who holds a permit, what each node waits for, how each
//! job stands) and does nothing. The plan is data so complete that whoever carries it out has no
//! choices left. Creation, deletion and change are not workflows here: they are different desired
//! states, and the job's DAG is derived from the difference.
//!
//! Never here: IO, clocks, randomness, knowledge of a database or of HTTP (clippy.toml bans them).

mod context;
mod desired;
mod digests;
mod gates;
pub mod input;
mod jobs;
mod observe;
mod permits;
mod picture;
mod view;
mod why;

pub use desired::node_id;
pub use input::*;

use serde::Serialize;
use straas_schemas::job::Job;
use straas_schemas::view::TopologyView;
use straas_schemas::{Assignment, NodeId};

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
    /// Every open job with its DAG; one that stands final is to be ended.
    pub jobs: Vec<Job>,
    /// The topology is deleted and nothing of it is left: forget it.
    pub forget_topology: bool,
    /// When time alone will change this plan, Unix ms.
    pub look_again_ms: Option<i64>,
}

/// A node that has to exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewNode {
    /// Its id, derived from its place, so that planning twice makes one node.
    pub id: NodeId,
    /// Its component.
    pub component: straas_schemas::ComponentId,
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
}

/// The topology as people see it: for whoever asks, not for who carries out a plan.
#[must_use]
pub fn view(input: &PlanInput) -> TopologyView {
    let desired = desired::nodes(input);
    let known = observe::Known::new(input, &desired);
    let picture = picture::Picture::new(&known, gates::Gates::new(&known));
    view::topology(&picture, &jobs::jobs(&picture))
}

/// Plans one topology.
#[must_use]
pub fn plan(input: &PlanInput) -> Plan {
    let desired = desired::nodes(input);
    let known = observe::Known::new(input, &desired);
    let picture = picture::Picture::new(&known, gates::Gates::new(&known));
    let jobs = jobs::jobs(&picture);
    let ids =
        |gone: bool| known.unwanted.iter().filter(|n| (n.host == Host::Absent) == gone).map(|n| n.id.clone()).collect();
    let gone: Vec<NodeId> = ids(true);
    Plan {
        add_nodes: known.missing.clone(),
        hosts: desired::hosts(&known),
        no_hosts: ids(false),
        granted: picture.granted(),
        forget_topology: input.topology.deleting && gone.len() == known.unwanted.len(),
        // of a topology that goes as a whole the nodes stay recorded, so that the job can show them
        forget_nodes: if input.topology.deleting { Vec::new() } else { gone },
        look_again_ms: observe::look_again(&known),
        jobs,
        assignments: picture.into_changed(),
    }
}
