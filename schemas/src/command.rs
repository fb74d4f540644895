//! Guest commands: one script of the script repo's `guestcmds/`, run once on one node.
//!
//! ```text
//! queued ──► sent ──► running ──► succeeded | failed
//!    │         │          ├─────► cancelled       (ended by a user)
//!    │         │          └─────► unknown         (the agent died in the middle; never run again)
//!    └─────────┴────────────────► expired         (its deadline passed before it began)
//! ```
//! At most once: the agent writes a command to its journal before it starts it, and keeps the entry
//! until the end is acknowledged and the deadline is over, so an order delivered twice runs once.

use crate::{CommandId, ComponentId, FileRef, NodeId, TopologyId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Most bytes of output that are kept of one command; what comes after is counted.
pub const COMMAND_OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a command's arguments, as JSON.
pub const COMMAND_ARGS_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of a command's structured answer, as JSON.
pub const COMMAND_RESULT_BYTES_MAX: usize = 16 * 1024;
/// Most commands that wait for one node: more is a fault of who asks, not load to be carried.
pub const COMMANDS_WAITING_MAX: usize = 64;
/// Most bytes of one piece of live output.
pub const COMMAND_PIECE_BYTES_MAX: usize = 64 * 1024;
/// Seconds after which a command that has not begun expires, if the request names none.
pub const COMMAND_DEADLINE_S: u32 = 600;
/// Longest deadline and longest run, in seconds: a day.
pub const COMMAND_SECONDS_MAX: u32 = 86_400;

/// A command as asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// `group/name`, e.g. `zk-cmd/list-namespace`.
    pub command: String,
    /// Its arguments, checked against the command's own schema.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// Seconds a run may take; the command's own limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: Option<u32>,
    /// Seconds from now within which it has to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub deadline_s: Option<u32>,
}

/// A command for many nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandBatchRequest {
    /// `group/name`.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// As for one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: Option<u32>,
    /// As for one node, counted from the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub deadline_s: Option<u32>,
    /// Only nodes of this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How many nodes run it at once; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub concurrency: Option<u32>,
    /// No further node begins once so many have not succeeded; never stops if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max_errors: Option<u32>,
}

/// A command as an agent gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandOrder {
    /// Names it, for ever.
    pub id: CommandId,
    /// `group/name`: the script is `guestcmds/{group}/{name}` of the active release.
    pub command: String,
    /// Its arguments, already checked.
    pub args: Map<String, Value>,
    /// Seconds a run may take.
    pub timeout_s: u32,
    /// It must begin within this many ms from when the answer is received; then it is expired.
    pub begin_within_ms: u64,
    /// After a crash in the middle it may be run again.
    pub idempotent: bool,
    /// Files it needs, fetched by their hashes before it runs to `$STRAAS_WORK/files/`; each `path`
    /// is a plain name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRef>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandEnd {
    /// Which.
    pub id: CommandId,
    /// How.
    pub outcome: CommandOutcome,
    /// The script's exit code, if it exited by itself.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// In words, empty on success.
    #[serde(default)]
    pub reason: String,
    /// What the script advises.
    #[serde(default)]
    pub hint: Option<String>,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// Its structured answer (`@straas {"result":{...}}`).
    #[serde(default)]
    pub result: Map<String, Value>,
    /// Bytes of output in all; the output itself came before, piece by piece.
    #[serde(default)]
    pub output_bytes: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome {
    /// Exit code 0.
    Succeeded,
    /// Any other end by itself, or over its time.
    Failed,
    /// Ended by a user.
    Cancelled,
    /// Its deadline passed before it began.
    Expired,
    /// The agent died in the middle: it may or may not have done its work.
    Unknown,
}

/// How a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandStanding {
    /// No agent has it yet.
    Queued,
    /// The agent has it in its journal.
    Running,
    /// See [`CommandOutcome::Succeeded`].
    Succeeded,
    /// See [`CommandOutcome::Failed`].
    Failed,
    /// See [`CommandOutcome::Cancelled`].
    Cancelled,
    /// See [`CommandOutcome::Expired`].
    Expired,
    /// See [`CommandOutcome::Unknown`].
    Unknown,
}

impl CommandStanding {
    /// Whether nothing more happens.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

impl From<CommandOutcome> for CommandStanding {
    fn from(outcome: CommandOutcome) -> Self {
        match outcome {
            CommandOutcome::Succeeded => Self::Succeeded,
            CommandOutcome::Failed => Self::Failed,
            CommandOutcome::Cancelled => Self::Cancelled,
            CommandOutcome::Expired => Self::Expired,
            CommandOutcome::Unknown => Self::Unknown,
        }
    }
}

/// Answer to a piece of output, `POST /agent/v1/nodes/{node}/commands/{command}/output?offset=N`,
/// whose body is at most [`COMMAND_PIECE_BYTES_MAX`] raw bytes that follow the first `N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandOutputAnswer {
    /// The controller has the first `next` bytes; the agent goes on from there, forwards or back.
    pub next: u64,
}

/// A command as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandView {
    /// Its id.
    pub id: CommandId,
    /// The batch it belongs to, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// The topology of its node.
    pub topology: TopologyId,
    /// The component of its node.
    pub component: ComponentId,
    /// Its node.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// `group/name`.
    pub command: String,
    /// Its arguments.
    pub args: Map<String, Value>,
    /// How it stands.
    #[serde(rename = "state")]
    pub standing: CommandStanding,
    /// Who asked: a user, or `planner` for an operation.
    pub by: String,
    /// When it was asked for, Unix ms.
    pub created_ms: i64,
    /// Until when it has to begin, Unix ms.
    pub deadline_ms: i64,
    /// When the agent was known to have it, Unix ms.
    pub started_ms: Option<i64>,
    /// When its end was received, Unix ms.
    pub ended_ms: Option<i64>,
    /// A user wants it to end.
    #[serde(default)]
    pub cancelling: bool,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<CommandEnd>,
    /// Its output, at most [`COMMAND_OUTPUT_BYTES_MAX`] bytes; bytes that are no UTF-8 are replaced.
    #[serde(default)]
    pub output: String,
}

/// Commands asked for together, as people see them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchView {
    /// Its id.
    pub id: String,
    /// The topology of its nodes.
    pub topology: TopologyId,
    /// Their component; none if it is for the whole topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentId>,
    /// `group/name`.
    pub command: String,
    /// Who asked.
    pub by: String,
    /// How many nodes run it at once; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// No further node begins once so many have not succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_errors: Option<u32>,
    /// When it was asked for, Unix ms.
    pub created_ms: i64,
    /// When the last command had ended, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// How many of its commands stand how.
    pub counts: BTreeMap<String, u32>,
    /// Its commands, without their output.
    pub commands: Vec<CommandView>,
}

/// Which guest commands there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandsOffered {
    /// The commit of the script repo that has them.
    pub commit: String,
    /// By group.
    pub groups: Vec<CommandGroup>,
}

/// A group of guest commands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandGroup {
    /// Its name.
    pub name: String,
    /// Who may run them.
    pub allowed: Allowed,
    /// Its commands.
    pub commands: Vec<CommandOffered>,
}

/// Who may run the commands of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// The tenant of the node.
    Tenant,
    /// Administrators only.
    Admin,
}

/// A guest command with what it takes and promises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandOffered {
    /// `group/name`.
    pub command: String,
    /// The rest.
    #[serde(flatten)]
    pub meta: CommandMeta,
}

/// What `guestcmds/{group}/{name}.json` says of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandMeta {
    /// One sentence for people.
    pub description: String,
    /// JSON Schema of the arguments: an object.
    pub arguments: Value,
    /// Seconds a run may take.
    pub timeout_s: u32,
    /// Running it twice is the same as once.
    pub idempotent: bool,
    /// Only nodes of this script role can run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}
