//! How a node is, in the words of a health check.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthStatus {
    /// Its service works.
    Active,
    /// Its service does not work.
    Inactive,
    /// It was not looked at: it is being made or changed, or is stopped on purpose.
    Skipped,
    /// Nobody could ask it.
    Unreachable,
}

impl HealthStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Inactive, Self::Skipped, Self::Unreachable];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Skipped => "SKIPPED",
            Self::Unreachable => "UNREACHABLE",
        }
    }
}

/// What a health check said of a node last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthView {
    /// How it is.
    pub status: HealthStatus,
    /// When that was found, Unix ms.
    pub at_ms: i64,
    /// Who found it: `straas`, or the name of the caller.
    pub source: String,
}
