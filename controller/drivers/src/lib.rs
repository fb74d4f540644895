//! The outer world of the controller: things that make, break and list hosts, keep content, know users.
//!
//! Everything here is reached through small traits ([`Hosts`], [`Faults`]) so that the controller
//! does not care whether a node lives on a VM, in a microhost of this machine, or as a plain
//! process. The crate knows none of our other crates: it takes strings and numbers, and gives
//! strings and numbers back.
//!
//! It never decides *which* hosts should exist (the planner does), never opens a connection to a
//! node, and never prints a secret: the join token travels in a file of mode 0600 only.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
pub mod blobs;
mod error;
mod helper;
mod hosts;
pub mod keystone;
pub mod local;
mod userdata;

pub use agent::{AgentBoot, AgentPaths, AptSource, Secret, agent_toml};
pub use error::HostError;
pub use helper::microhost_main;
pub use hosts::{Delay, ExecOutput, Faults, Flavor, HostPhase, HostSpec, HostStatus, Hosts, Link};
pub use userdata::render as render_userdata;
