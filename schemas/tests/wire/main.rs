//! The wire as data: schemas that are current, bytes of version 1 that still decode, and what is
//! refused of a topology request.

mod faults;
mod golden;
mod schemas;
mod shape;

use schemars::Schema;
use serde_json::Value;
use std::path::PathBuf;
use straas_schemas::{
    assignment, change, command, config, enrol, heartbeat, job, metadata, poll, pool, problem, report, topology, view,
};

/// A type that crosses a process boundary.
pub struct Wire {
    /// Names its files.
    pub name: &'static str,
    /// Makes its schema.
    pub schema: fn() -> Schema,
    /// Decodes and encodes again.
    pub round: fn(&str) -> serde_json::Result<Value>,
    /// Spoken between controller and agents, which may be of different versions.
    pub of_agents: bool,
}

macro_rules! wire {
    ($($name:ident: $of:ty, $agents:expr;)*) => {
        /// Every wire type.
        pub const WIRE: &[Wire] = &[$(Wire {
            name: stringify!($name),
            schema: || schemars::schema_for!($of),
            round: |text| serde_json::to_value(serde_json::from_str::<$of>(text)?),
            of_agents: $agents,
        }),*];
    };
}

wire! {
    topology_request: topology::TopologyRequest, false;
    component_patch: change::ComponentPatch, false;
    flexup_request: change::FlexupRequest, false;
    sync_request: change::SyncRequest, false;
    command_request: command::CommandRequest, false;
    command_batch_request: command::CommandBatchRequest, false;
    command_view: command::CommandView, false;
    command_meta: command::CommandMeta, false;
    batch_view: command::BatchView, false;
    commands_offered: command::CommandsOffered, false;
    component_metadata: metadata::ComponentMeta, false;
    config_file: config::ConfigFile, false;
    problem: problem::Problem, false;
    job: job::Job, false;
    topology_view: view::TopologyView, false;
    node_view: view::NodeView, false;
    event: view::Event, false;
    assignment: assignment::Assignment, true;
    poll_request: poll::PollRequest, true;
    poll_answer: poll::PollAnswer, true;
    heartbeat: heartbeat::Heartbeat, true;
    report_request: report::ReportRequest, true;
    report_answer: report::ReportAnswer, true;
    enrol_request: enrol::EnrolRequest, true;
    renew_request: enrol::RenewRequest, true;
    come_back_request: enrol::ComeBackRequest, true;
    join_request: pool::JoinRequest, true;
    host_certificate: pool::HostCertificate, true;
    host_poll_request: pool::HostPollRequest, true;
    host_poll_answer: pool::HostPollAnswer, true;
    certificate: enrol::Certificate, true;
}

/// A file of this crate.
pub fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
