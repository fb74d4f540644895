//! What the tests of the whole share: a real controller, real agents in real hosts, and the words
//! to say what happens to them.
//!
//! ```text
//!   scene ──► Cluster ──► straas-controller, as a process of its own or inside the test
//!     │          ├──► Api        what a user sees
//!     │          ├──► exec       what is true inside a host
//!     │          ├──► cli        what a user types
//!     │          ├──► workflow   changes of a running component, and what they took
//!     │          ├──► clients    writers that are not ours
//!     │          ├──► brakes     a stage that can be held while everything runs
//!     │          ├──► stages     scripts that count their runs and wait where a test wants
//!     │          ├──► repository an apt repository that no mirror has
//!     │          ├──► conductor  scripts that fail, or begin and end, as a test wants to know
//!     │          ├──► disk       disks that are full, or fail
//!     │          ├──► several    controllers over one replicated database, behind a load balancer, in zones
//!     │          └──► faults     a machine that makes and removes no hosts, or carries nothing
//!     └──► left   whatever happened, nothing stays on the machine
//! ```
//! Nothing here is a mock. Nothing here sleeps for a time in the hope that something is done by
//! then: [`wait`] looks until it is so, or until a deadline far beyond what is expected.

#![allow(clippy::unwrap_used)]

pub mod api;
pub mod artifacts;
pub mod brakes;
pub mod cells;
pub mod cli;
pub mod clients;
pub mod cluster;
pub mod conductor;
pub mod controller;
pub mod covered;
pub mod disk;
pub mod faults;
pub mod left;
pub mod pictures;
pub mod repository;
pub mod scene;
pub mod settings;
pub mod several;
pub mod stages;
pub mod wait;
pub mod workflow;

pub use api::Api;
pub use cluster::Cluster;
pub use scene::{say, scene};
pub use wait::wait;

/// The top of the tree.
#[must_use]
pub fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
