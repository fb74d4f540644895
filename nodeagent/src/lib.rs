//! The agent of a StraaS node, as a library so that its tests can reach its parts.
//!
//! ```text
//!             poll ──► offered ─┐                       ┌─► ledger   (fsync before what follows)
//!  controller reporter ◄ outbox ├─► converger ─ actions ┼─► stages, commands ─► executor ─► scripts
//!             beat ◄─── status ─┘   (pure crate)        └─► scripts/ (git packs), files, hosts
//!             builds ── takes the place of this program when another build is assigned
//!             commands/live ◄── output of guest commands, as it comes
//! ```
//! One thread. `agent.rs` holds the converger and does its actions strictly in order; everything
//! else either brings it events or shows what it says. The agent decides nothing by itself, opens
//! no port but the optional metrics one, and starts no process while nothing has to be done.

pub mod agent;
pub mod backoff;
pub mod beat;
pub mod builds;
pub mod client;
pub mod commands;
pub mod config;
pub mod delivered;
pub mod enrol;
pub mod executor;
pub mod files;
pub mod hosts;
pub mod keys;
pub mod ledger;
pub mod messages;
pub mod metrics;
pub mod output;
pub mod poll;
pub mod pool;
pub mod redact;
pub mod reporter;
pub mod scripts;
pub mod site_pp;
pub mod stages;
pub mod strays;
pub mod trust;
pub mod vitals;
pub mod work;
pub mod world;
