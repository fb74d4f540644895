//! The agent's parts against the real thing: processes, files, git, and a controller's API over TLS.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod builds;
mod changes;
mod commands;
mod controller;
mod end_to_end;
mod executor;
mod install;
mod ledger;
mod packs;
mod repo;
mod trusted;
mod waiting;
mod weight;
