//! Builds of the agent: the one that a node is to run, and what an agent says of the one it is.
//!
//! A build is a program, known by the SHA-256 of its file. Where none is named, the *packaged* agent is meant: the one
//! that came onto the host with it, by its Debian package.
//!
//! Never here: how an agent is replaced by another (`nodeagent/src/builds`).

use crate::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most bytes of a build: one that is delivered has 10 MiB at most, one with everything that helps a developer some
/// hundred.
pub const BUILD_BYTES_MAX: u64 = 256 << 20;
/// Most bytes of what an agent says about a build: it stands in every heartbeat.
pub const BUILD_TEXT_BYTES_MAX: usize = 1024;
/// What the packaged agent is called where builds are called by their SHA-256.
pub const PACKAGED: &str = "packaged";

/// A build that a node is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentBuild {
    /// SHA-256 of the program, also its address at the controller.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What an agent says of the build it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildStatus {
    /// SHA-256 of the build that runs; none for the packaged agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// It has not reached a controller yet, and is given up if it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trial: bool,
    /// Another one is assigned: what is being done about it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coming: Option<String>,
    /// The one that is assigned was found to be no good: it is not tried again before another was assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedBuild>,
}

/// A build that an agent does not run (any more).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedBuild {
    /// Its SHA-256; none for the packaged agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Why, for people.
    pub reason: String,
}

impl BuildStatus {
    /// Whether a build runs, has proved itself and is what is assigned; `None` stands for the packaged agent.
    #[must_use]
    pub fn runs(&self, wanted: Option<&Digest>) -> bool {
        !self.trial && self.coming.is_none() && self.sha256.as_ref() == wanted
    }

    /// Why a build is refused, if it is.
    #[must_use]
    pub fn refuses(&self, wanted: Option<&Digest>) -> Option<&str> {
        let refused = self.refused.as_ref().filter(|refused| refused.sha256.as_ref() == wanted)?;
        Some(&refused.reason)
    }
}

/// What a build is called.
#[must_use]
pub fn name(build: Option<&Digest>) -> &str {
    build.map_or(PACKAGED, Digest::as_str)
}
