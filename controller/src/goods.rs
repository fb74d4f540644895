//! What a rollout over the fleet brings: all in which a commit of the scripts and a build of the agent differ.
//!
//! Scripts reach the nodes of a component by its own rollout, canaries first, which the planner verifies and turns back.
//! An agent is replaced on all nodes of a component at once, by itself and without a permit: the services do not notice.
//! A node gives a bad build up by itself, and says so; that is what fails a member.
//!
//! Never here: what a rollout does next (`rollout.rs`), and writing.

use crate::{sync, wanted};
use straas_schemas::JobId;
use straas_schemas::build::{self, AgentBuild};
use straas_schemas::change::RolloutOptions;
use straas_schemas::job::JobKind;
use straas_schemas::rollout::FleetRolloutKind;
use straas_store::{ComponentSpec, RolloutMember, RolloutRecord, Want};

/// So much of a hash is for people.
const SHORT: usize = 12;

/// What a rollout brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goods {
    /// A commit of the script repo.
    Scripts(String),
    /// A build of the agent; none for the packaged one.
    Agents(Option<AgentBuild>),
}

impl Goods {
    /// Of a rollout.
    pub fn of(record: &RolloutRecord) -> Self {
        match record.kind {
            FleetRolloutKind::Scripts => Self::Scripts(record.wanted.clone()),
            FleetRolloutKind::Agents => Self::Agents(record.build.clone()),
        }
    }

    /// What they are called in the record of a rollout.
    pub fn name(&self) -> &str {
        match self {
            Self::Scripts(commit) => commit,
            Self::Agents(build) => name(build.as_ref()),
        }
    }

    /// The job that brings them to a component.
    pub const fn job(&self) -> JobKind {
        match self {
            Self::Scripts(_) => JobKind::Sync,
            Self::Agents(_) => JobKind::Agent,
        }
    }

    /// What that job says of something of this kind.
    pub fn detail(&self, name: &str) -> String {
        let what = match self {
            Self::Scripts(_) => "scripts",
            Self::Agents(_) => "agent",
        };
        format!("{what} → {}", name.get(..SHORT).unwrap_or(name))
    }

    /// Has a component want them; `false` if it does already.
    pub fn bring(&self, spec: &mut ComponentSpec, job: &JobId) -> bool {
        match self {
            Self::Scripts(commit) => sync::sync(spec, job, RolloutOptions::default(), commit, None),
            Self::Agents(build) => wanted::set_agent(&mut spec.want, build.as_ref()),
        }
    }

    /// Has a component want again what a member had before; `false` if it does already.
    pub fn put_back(&self, spec: &mut ComponentSpec, job: &JobId, member: &RolloutMember) -> bool {
        match self {
            Self::Scripts(_) => sync::put_back(spec, job, &member.before, &member.before_nodes),
            Self::Agents(_) => wanted::set_agent(&mut spec.want, member.before_build.as_ref()),
        }
    }
}

/// What a component wants of a kind, by its name in the record of a rollout.
pub fn has(kind: FleetRolloutKind, want: &Want) -> String {
    match kind {
        FleetRolloutKind::Scripts => want.scripts.clone(),
        FleetRolloutKind::Agents => name(want.agent.as_ref()).to_owned(),
    }
}

fn name(build: Option<&AgentBuild>) -> &str {
    build::name(build.map(|build| &build.sha256))
}
