//! The journal of guest commands: what makes "at most once" hold over a crash.
//!
//! ```text
//! Queued ── a run begins ──► Begun ── it ended ──► Ended ── acknowledged, and its time over ──► forgotten
//!   │  ▲                       │                     ▲
//!   │  └─ its script is not there yet; after a crash, if idempotent
//!   └──── expired, cancelled ──┴── after a crash: unknown
//! ```
//! `Begun` is durable before the run starts, and `Ended` together with its report. An entry stays
//! until no answer that was written before the end can arrive any more.
//!
//! Never here: when something happens (`commands.rs`).

use serde::{Deserialize, Serialize};
use straas_schemas::CommandId;
use straas_schemas::command::CommandOrder;

/// Runs at once: a drain of an hour must not hold up a look at a log, and a host is not to be
/// loaded by whoever can order commands.
pub const COMMANDS_AT_ONCE: usize = 4;
/// Most entries, nearly all of them short ones of commands that ended: over two a second with the
/// usual deadline. When it is full, further commands wait at the controller.
pub const JOURNAL_MAX: usize = 2_048;
/// How long after its deadline a command may still be offered: longer than an answer can be on its
/// way (a poll's hold and its slack) and than the clocks of controllers may differ.
pub const FORGET_MARGIN_MS: i64 = 5 * 60_000;
/// Most runs of an idempotent command in whose middle the agent dies: it may be what kills it.
pub const COMMAND_RUNS_MAX: u32 = 5;

/// One command of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// Which.
    pub id: CommandId,
    /// Rises with each that is received: the order of the queue.
    pub number: u64,
    /// How long after it was received it may begin, in ms.
    pub within_ms: i64,
    /// The same as Unix ms of this node's clock, for after a reboot.
    pub begin_by_ms: i64,
    /// The same as ms since the host came up, for after a restart of the agent: no clock that is set is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_by_up_ms: Option<i64>,
    /// Runs that were begun.
    pub runs: u32,
    /// How it stands.
    pub phase: CommandPhase,
}

/// How a command stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CommandPhase {
    /// It waits for its run.
    Queued(Box<CommandOrder>),
    /// Its run began; `cancelled`: and is being ended, because a user wants it.
    Begun {
        /// What it is.
        order: Box<CommandOrder>,
        /// A user wants it to end.
        cancelled: bool,
    },
    /// It is over; its report is, or was, in the outbox under this number.
    Ended {
        /// The report's sequence number.
        seq: u64,
    },
}

impl CommandRecord {
    /// Whether something is still to happen with it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.phase, CommandPhase::Ended { .. })
    }
}
