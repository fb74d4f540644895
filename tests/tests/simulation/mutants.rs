//! Protections taken away, one at a time: each must be missed by some invariant.
//!
//! The protections stand in production code. What a mutant changes is what goes in or comes out of
//! it, in the glue around it, so that the effect is that of code without the protection.

use straas_planner::{Host, Node, Plan, PlanInput};
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::{ComponentId, Gate, Stage};

/// A protection that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Results of an older generation are taken for the newest's.
    LateResult,
    /// Reports of an earlier incarnation are taken for the newest's.
    LateIncarnation,
    /// Reports are acknowledged and forgotten: a database that loses what it confirmed.
    ReportsForgotten,
    /// Reports are acknowledged before they are recorded.
    EarlyAnswer,
    /// An assignment is written over whatever is there.
    UnfencedAssignment,
    /// What was planned is written although something else was meanwhile.
    StalePlan,
    /// A request is written over whatever is there.
    StaleRequest,
    /// A node that nobody hears of gives its permit back.
    PermitOnTimeout,
    /// Any number of nodes may be disturbed at once.
    NoBudget,
    /// Gates of dependencies stand open.
    OpenGates,
    /// Hosts that nobody wants stay.
    HostsStay,
    /// What a removed component has on others stays.
    NothingReleased,
    /// A command that was begun runs again after a crash.
    CommandAgain,
    /// The agent goes on before its ledger is on the disk.
    NoSync,
    /// An agent takes an assignment that is older than the one it has.
    OlderGeneration,
    /// Reports in the outbox do not survive a crash.
    OutboxForgotten,
    /// The end of a run that was given up is taken for that of the one after it.
    LateEnd,
    /// A node that nobody hears of gets another host.
    SilenceReplaces,
    /// What a node says is taken for news of another topology.
    OthersNews,
    /// Hosts are known by their names, which are unique in a zone.
    HostsByName,
}

impl Mutant {
    /// All.
    pub const ALL: [Self; 20] = [
        Self::LateResult,
        Self::LateIncarnation,
        Self::ReportsForgotten,
        Self::EarlyAnswer,
        Self::UnfencedAssignment,
        Self::StalePlan,
        Self::StaleRequest,
        Self::PermitOnTimeout,
        Self::NoBudget,
        Self::OpenGates,
        Self::HostsStay,
        Self::NothingReleased,
        Self::CommandAgain,
        Self::NoSync,
        Self::OlderGeneration,
        Self::OutboxForgotten,
        Self::LateEnd,
        Self::SilenceReplaces,
        Self::OthersNews,
        Self::HostsByName,
    ];

    /// What the invariants that may catch it say, as they begin.
    pub const fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::LateResult => &["recorded is what"],
            Self::LateIncarnation => &["recorded is what"],
            Self::ReportsForgotten | Self::EarlyAnswer => &["a report is lost"],
            Self::UnfencedAssignment => &["an older assignment over a newer one"],
            Self::StaleRequest => &["a request is lost"],
            Self::StalePlan | Self::PermitOnTimeout | Self::NoBudget => &["too many are disturbed"],
            Self::OpenGates => &["a dependency does not work yet"],
            Self::HostsStay => &["not at rest"],
            Self::NothingReleased => &["something is left"],
            Self::CommandAgain => &["a command runs twice"],
            Self::NoSync => &["a report is lost", "a command runs twice", "a generation falls", "acts on what"],
            Self::OlderGeneration => &["a generation falls"],
            Self::OutboxForgotten => &["a report is lost"],
            Self::LateEnd => &["a success that never was"],
            Self::SilenceReplaces => &["replaced without a request"],
            Self::OthersNews => &["told of another topology"],
            Self::HostsByName => &["another topology is told"],
        }
    }

    /// What the planner is told.
    pub fn before(self, input: &mut PlanInput) {
        match self {
            Self::NoBudget => {
                for component in &mut input.components {
                    let targets = [Some(&mut component.target), component.rollout.as_mut().map(|r| &mut r.before)];
                    for known in targets.into_iter().flatten().filter_map(|target| target.known.as_mut().ok()) {
                        known.meta.disruption.max_unavailable = 100;
                    }
                }
            }
            Self::PermitOnTimeout => {
                let silent = i64::from(input.settings.suspect_after_ms);
                for node in &mut input.nodes {
                    let Some((beat, at)) = &mut node.heartbeat else { continue };
                    if input.now_ms - *at > silent {
                        (beat.asks, beat.service, *at) = (None, ServiceStatus::Active, input.now_ms);
                        for order in node.assignment.iter_mut().flat_map(|a| &mut a.stages) {
                            if let Gate::Permit { granted } = &mut order.gate {
                                *granted = None;
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// What it says.
    pub fn after(self, input: &PlanInput, plan: &mut Plan) {
        match self {
            Self::OpenGates => {
                for order in plan.assignments.iter_mut().flat_map(|a| &mut a.stages) {
                    if order.stage == Stage::PreConfig && matches!(order.gate, Gate::Closed { .. }) {
                        order.gate = Gate::Open;
                    }
                }
            }
            Self::SilenceReplaces => {
                let limit = i64::from(input.settings.unreachable_after_ms);
                let silent = |node: &&Node| node.heartbeat.as_ref().is_some_and(|(_, at)| input.now_ms - at >= limit);
                for node in input.nodes.iter().filter(silent) {
                    let wishes = plan.hosts.iter_mut().filter(|wish| wish.node == node.id);
                    wishes.for_each(|wish| wish.number = node.host_number + 1);
                }
            }
            Self::HostsStay => plan.no_hosts.clear(),
            Self::NothingReleased => {
                plan.operations.retain(|wish| !wish.key.starts_with("release "));
                let gone = |node: &Node| node.host == Host::Absent;
                let empty = |id: &ComponentId| input.nodes.iter().filter(|n| n.component == *id).all(gone);
                let over = input.components.iter().filter(|c| c.removed && empty(&c.id)).map(|c| c.id.clone());
                plan.forget_components = over.collect();
            }
            _ => {}
        }
    }
}
