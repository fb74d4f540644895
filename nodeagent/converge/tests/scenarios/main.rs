//! Readable histories: what comes in, what has to come out.
//!
//! One table, one `check`. An expectation lists the actions of a step in short; `persist` without
//! its content, because what is persisted is checked by the ghost world.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../world/plan.rs"]
#[allow(dead_code)]
mod plan;

mod changes;
mod commands;
mod drift;
mod stages;
mod story;
