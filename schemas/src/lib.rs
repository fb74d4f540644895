//! Wire and API types: everything that crosses a process boundary in StraaS.
//!
//! This is the only Rust that the controller and the agent share, so that a change here is a
//! change of protocol and is seen as one: the JSON Schemas in `schemas/*.schema.json` are
//! generated from these types and checked in, and `schemas/golden/` holds bytes of earlier
//! versions that must still decode.
//!
//! Never here: IO, clocks, randomness, defaults that depend on a machine, or decisions. A type
//! may know what a well-formed value is; what to do with it is the planner's or converger's.

pub mod assignment;
pub mod audit;
pub mod authority;
pub mod build;
pub mod change;
pub mod cms;
pub mod command;
pub mod config;
pub mod configuration;
pub mod digest;
pub mod enrol;
pub mod fault;
pub mod health;
pub mod heartbeat;
pub mod history;
pub mod identity;
pub mod ids;
pub mod job;
pub mod metadata;
pub mod poll;
pub mod pool;
pub mod problem;
pub mod report;
pub mod rollout;
pub mod settings;
pub mod stage;
pub mod storage;
pub mod strict;
pub mod topology;
pub mod view;

pub use assignment::{Assignment, FileRef, Gate, Lifecycle, Package, StageOrder};
pub use digest::Digest;
pub use fault::Fault;
pub use ids::{CommandId, ComponentId, HostId, JobId, NodeId, TopologyId};
pub use stage::{Outcome, Stage};

/// Version of the agent protocol that these types speak. Raised only when an older peer could
/// misunderstand; new optional fields do not raise it.
pub const PROTOCOL: u32 = 1;
