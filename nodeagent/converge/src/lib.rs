//! The converger: from an assignment and what was done before, what to do next.
//!
//! ```text
//!   assignment ─┐
//!   ledger ─────┼─► Converger::step(now, event) ─► [actions] ─► a dumb executor ─► events ─┐
//!   events ◄────┴──────────────────────────────────────────────────────────────────────────┘
//! ```
//! Everything hard about a node is decided here: which stage runs, when it runs again, what
//! supersedes it, what has to be durable before what. The executor does the actions strictly in
//! order and brings back what came of them; it has no choices left. That makes every history
//! replayable, and lets the tests crash the agent between any two actions.
//!
//! Never here: IO, clocks, randomness, environment, threads. `clippy.toml` holds that.

mod action;
mod advance;
mod backoff;
mod commands;
mod converger;
mod drift;
mod finish;
mod journal;
mod ledger;
mod look;
mod offer;
mod outbox;
mod outlook;
mod status;
mod waits;

pub use action::{Action, CommandFate, CommandResult, CommandRun, Event, Now, RunId, RunOrder, RunResult, Task};
pub use converger::{Boot, Converger};
pub use journal::{COMMAND_RUNS_MAX, COMMANDS_AT_ONCE, CommandPhase, CommandRecord, FORGET_MARGIN_MS, JOURNAL_MAX};
pub use ledger::{DriftRecord, Head, Ledger, LedgerChange, StageRecord};
pub use outbox::OUTBOX_MAX;
pub use status::Status;
