//! The four stages that run on a node, and how one run of a stage can end.
//!
//! ```text
//!  install ──► pre_config ──► config ──► validate
//! ```
//! A stage runs when its effective digest differs from the one recorded as succeeded, and only
//! then ([`effective_digest`]). The order is fixed; which stages exist is data of an assignment.

use crate::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A stage of a node. The order of the variants is the order of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Put the component's packages on the host, at the wanted version.
    Install,
    /// Turn the context into `site.pp`.
    PreConfig,
    /// Apply `site.pp` with Puppet, which also starts the service.
    Config,
    /// Look whether the service really works; reports facts.
    Validate,
}

impl Stage {
    /// All stages in the order of the work.
    pub const ALL: [Self; 4] = [Self::Install, Self::PreConfig, Self::Config, Self::Validate];

    /// The name used on the wire, in paths and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::PreConfig => "pre_config",
            Self::Config => "config",
            Self::Validate => "validate",
        }
    }

    /// The return value that the 2017 protocol gives to an ended run of this stage.
    #[must_use]
    pub const fn return_value(self, succeeded: bool) -> &'static str {
        match (self, succeeded) {
            (Self::Install, true) => "GUEST_AGENT_INSTALL_SUCCESS",
            (Self::Install, false) => "GUEST_AGENT_INSTALL_FAILURE",
            (Self::PreConfig, true) => "GUEST_AGENT_PRE_CONFIG_SUCCESS",
            (Self::PreConfig, false) => "GUEST_AGENT_PRE_CONFIG_FAILURE",
            (Self::Config, true) => "GUEST_AGENT_CONFIG_SUCCESS",
            (Self::Config, false) => "GUEST_AGENT_CONFIG_FAILURE",
            (Self::Validate, true) => "GUEST_AGENT_VALIDATE_SUCCESS",
            (Self::Validate, false) => "GUEST_AGENT_VALIDATE_FAILURE",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How one run of a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The script did its work.
    Succeeded,
    /// The script asked to be run again soon (exit code 75): nothing is wrong, something is not there yet.
    Waiting,
    /// The script failed; it is run again with back-off, and at once when its digest changes.
    Failed,
}

/// The digest a stage has on a node, from the planner's `inputs` and what earlier stages produced.
///
/// `config` depends on the rendered `site.pp` (the output of `pre_config`) and on what is
/// installed; `validate` depends on what was configured. Both sides compute it with this function.
#[must_use]
pub fn effective_digest(
    stage: Stage,
    inputs: &Digest,
    installed: Option<&Digest>,
    rendered: Option<&Digest>,
    configured: Option<&Digest>,
) -> Digest {
    let none = "-";
    let text = |digest: Option<&Digest>| digest.map_or(none, Digest::as_str).to_owned();
    match stage {
        Stage::Install | Stage::PreConfig => Digest::of(&[stage.name(), inputs.as_str()]),
        Stage::Config => Digest::of(&[stage.name(), inputs.as_str(), &text(installed), &text(rendered)]),
        Stage::Validate => Digest::of(&[stage.name(), inputs.as_str(), &text(configured)]),
    }
}
