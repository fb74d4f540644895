//! Background work: each file one task, each woken by what changed and by time.

pub mod authority;
pub mod beats;
pub mod commands;
pub mod hosts;
pub mod mirrors;
pub mod reconcile;
pub mod rollouts;
