//! What the user API shows of the config repo: folders, files, tags, history, differences, origins.
//!
//! Values that are secret never leave the controller: [`SECRET`] stands in their place, and a file
//! written back with it keeps the value that was there.

use crate::Fault;
use crate::config::ValueKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stands for a value that is not shown.
pub const SECRET: &str = "***";
/// Longest name of a tag.
pub const TAG_BYTES_MAX: usize = 64;

/// `GET /configurations/tree/{ref}/{path}`: a folder or a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigNode {
    /// As it was asked for.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The commit that it stands for; send it as `If-Match` with a change.
    pub commit: String,
    /// From the top of the repository; empty for the top itself.
    pub path: String,
    /// What stands there.
    #[serde(flatten)]
    pub content: ConfigContent,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ConfigContent {
    /// A folder.
    Folder {
        /// What is in it, by name.
        entries: Vec<ConfigEntry>,
    },
    /// A file.
    File {
        /// Its text.
        content: String,
    },
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigEntry {
    /// Its name in the folder.
    pub name: String,
    /// `folder` or `file`.
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// Bytes of a file; 0 for a folder.
    pub size: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file.
    File,
}

/// `PUT /configurations/tree/{branch}/{path}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigWrite {
    /// The whole new text of the file.
    #[schemars(length(max = 262_144))]
    pub content: String,
    /// Why, in words.
    #[schemars(length(min = 1, max = 4_096))]
    pub message: String,
}

/// Answer to a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigWritten {
    /// The branch.
    pub branch: String,
    /// The file.
    pub path: String,
    /// The branch's newest commit now.
    pub commit: String,
    /// Whether there was anything to change.
    pub changed: bool,
}

/// `POST /configurations/tree/{branch}/tags`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TagRequest {
    /// Its name: letters, digits and `. _ -`, beginning with a letter or digit.
    #[schemars(length(min = 1, max = 64))]
    pub tag: String,
    /// What it marks, in words.
    #[schemars(length(min = 1, max = 4_096))]
    pub message: String,
    /// A commit of the branch; its newest if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TagView {
    /// As the user named it.
    pub tag: String,
    /// The branch it belongs to.
    pub branch: String,
    /// Whose it is: `user` or `admin`.
    pub role: String,
    /// What to give where a ref is asked for: `{branch}&{tag}`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The commit it marks.
    pub commit: String,
    /// What it marks, in words.
    pub message: String,
    /// Who made it.
    pub author: String,
    /// When, Unix ms; of the commit if the tag itself does not say.
    pub at_ms: i64,
}

/// A commit in the history of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommitView {
    /// Its hash.
    pub commit: String,
    /// Who made it.
    pub author: String,
    /// When, Unix ms.
    pub at_ms: i64,
    /// Why.
    pub message: String,
}

/// What differs between two commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigDiff {
    /// The commit on the left.
    pub from: String,
    /// The commit on the right.
    pub to: String,
    /// Files that differ, by path.
    pub files: Vec<FileDiff>,
    /// There are more files than are shown.
    #[serde(default)]
    pub truncated: bool,
}

/// What differs in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDiff {
    /// Its path.
    pub path: String,
    /// How it differs.
    pub change: FileChange,
    /// Keys whose values differ; empty for a file that is no configuration, or if only its texts for
    /// people or its limits differ.
    #[serde(default)]
    pub keys: Vec<KeyDiff>,
}

/// How a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// It is on the right only.
    Added,
    /// It is on the left only.
    Removed,
    /// It is on both sides.
    Changed,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyDiff {
    /// Its section.
    pub section: String,
    /// Its key.
    pub key: String,
    /// Its value on the left, as text.
    pub old: Option<String>,
    /// Its value on the right, as text.
    pub new: Option<String>,
}

/// `GET /configurations/effective/{component_id}`: what a component is configured with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EffectiveView {
    /// The component.
    pub component: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version.
    pub version: String,
    /// The commit that it should have.
    pub commit: String,
    /// The branch of its topology.
    pub branch: String,
    /// That branch's newest commit: if it is another, changes wait to be applied.
    pub head: Option<String>,
    /// Every value.
    pub values: Vec<EffectiveValue>,
}

/// `GET /configurations/settings`: what the service itself is set to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsView {
    /// The availability zone that was asked for; absent for what counts everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The commit that is in force; absent if no recent one can be, and what is built in counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The newest commit of `master`.
    pub head: String,
    /// Why that is not in force; empty if it is.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// Every value. Its file is one of `service/`, `controller.toml` where the controller's own configuration
    /// sets it, or `built in`.
    pub values: Vec<EffectiveValue>,
}

/// A value with its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EffectiveValue {
    /// Its section.
    pub section: String,
    /// Its key.
    pub key: String,
    /// The value in its type.
    pub value: serde_json::Value,
    /// The value of `default.json`.
    pub default: serde_json::Value,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ValueKind,
    /// The user may change it.
    pub settable: bool,
    /// It is not shown.
    #[serde(default)]
    pub secret: bool,
    /// The file that sets it.
    pub file: String,
    /// The commit that set it so; absent if that is further back than was looked.
    pub set_by: Option<CommitView>,
    /// What it does.
    #[serde(default)]
    pub doc: String,
}

/// A value of a file, and who set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlamedValue {
    /// Its section.
    pub section: String,
    /// Its key.
    pub key: String,
    /// The value as the file has it; [`SECRET`] if it is not to be shown.
    pub value: String,
    /// The commit that set it so; absent if that is further back than was looked.
    pub set_by: Option<CommitView>,
}

/// `GET /configurations/blame/{ref}/{path}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blame {
    /// The commit that was looked at.
    pub commit: String,
    /// The file.
    pub path: String,
    /// Its values.
    pub values: Vec<BlamedValue>,
}

/// What of an option moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MovedPart {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// The value that is given.
    Value,
    /// The type of its values.
    Type,
    /// Which values it may have.
    Limits,
    /// Who may set it, or whether it is secret.
    Rights,
    /// What is said of it.
    Doc,
}

impl MovedPart {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Value => "value",
            Self::Type => "type",
            Self::Limits => "limits",
            Self::Rights => "rights",
            Self::Doc => "doc",
        }
    }
}

/// A default that moved since a branch took it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MovedValue {
    /// Its section.
    pub section: String,
    /// Its key.
    pub key: String,
    /// What of it moved.
    #[serde(default)]
    pub parts: Vec<MovedPart>,
    /// What the branch was given; absent if the key is new.
    pub was: Option<String>,
    /// What is given now; absent if the key is gone.
    pub now: Option<String>,
    /// Which values it could have, in words; absent if that did not move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_were: Option<String>,
    /// Which values it can have now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_are: Option<String>,
    /// What the user set himself, if more than what is said of the option moved; if the value did, that is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yours: Option<String>,
    /// The user's value stays; false if its key cannot be set any more.
    #[serde(default)]
    pub kept: bool,
}

impl MovedValue {
    /// Whether the user set a value, and the default of it moved as well.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        let collides = |part: &MovedPart| matches!(part, MovedPart::Added | MovedPart::Removed | MovedPart::Value);
        self.yours.is_some() && self.parts.iter().any(collides)
    }
}

/// `GET` and `POST /configurations/updates/{component_id}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdatesView {
    /// The topology's branch.
    pub branch: String,
    /// Its newest commit: with what moved, if that was asked for.
    pub commit: String,
    /// What moved.
    pub moved: Vec<MovedValue>,
    /// How many of their values collide with those that the user set himself.
    pub conflicts: usize,
}

/// A branch and a commit of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BranchCommit {
    /// The branch.
    pub branch: String,
    /// The commit.
    pub commit: String,
}

/// `POST /configurations/reseal`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResealView {
    /// Branches on which something was sealed anew, with the commits that have it.
    pub resealed: Vec<BranchCommit>,
    /// There is more: ask again.
    pub more: bool,
}

/// A value that an upgrade took along or left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CarriedValue {
    /// Its section.
    pub section: String,
    /// Its key.
    pub key: String,
    /// The value; [`SECRET`] if it is not to be shown.
    pub value: String,
    /// Why it was left behind; absent if it was taken along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
}
