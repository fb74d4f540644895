//! What an agent needs for its first start, and the `agent.toml` made from it.
//!
//! One structured value serves every kind of host: a VM or microhost gets it as a shell script
//! (see `userdata`), process mode as plain files under a prefix. The join token is a [`Secret`]:
//! it can be written to a file of mode 0600 and nowhere else by accident.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::HostError;

/// A text that must not be seen in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; only for writing it where it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What an agent needs for its first start.
#[derive(Debug, Clone)]
pub struct AgentBoot {
    /// URLs of the controllers' agent port, in order of preference.
    pub controllers: Vec<String>,
    /// The node's id; none for a host that joins a pool.
    pub node: Option<String>,
    /// Certificate of the controller's CA, PEM.
    pub ca_pem: String,
    /// The one-time token for enrolment.
    pub join_token: Secret,
    /// Where the agent serves its metrics, `""` for nowhere.
    pub metrics_listen: String,
    /// Where the node gets its packages; `None` leaves the host's apt as it is.
    pub apt: Option<AptSource>,
    /// Further keys of `agent.toml`: strings, numbers, booleans and lists of those.
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// An apt repository with its own signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AptSource {
    /// Base URL, e.g. `http://10.77.0.1:8081`.
    pub url: String,
    /// Suite, e.g. `stable`.
    pub suite: String,
    /// Component, e.g. `main`.
    pub component: String,
    /// Public key in ASCII armour.
    pub key_armored: String,
}

/// Where the agent's files are on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPaths {
    /// `""` on a host of its own, a directory in process mode.
    pub prefix: String,
}

impl AgentPaths {
    /// The path of a file of the agent, below the prefix.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

/// The keys that [`agent_toml`] writes itself, so that `settings` cannot say them twice.
const OWN_KEYS: [&str; 8] =
    ["controllers", "node", "pool", "state_dir", "ca_file", "join_token_file", "prefix", "metrics_listen"];

impl AgentBoot {
    /// Refuses values that could break out of the files they are written into.
    pub(crate) fn check(&self) -> Result<(), HostError> {
        let invalid = |field, reason: &str| Err(HostError::Invalid { field, reason: reason.to_owned() });
        if self.controllers.is_empty() {
            return invalid("agent.controllers", "is empty: the agent would not know whom to ask");
        }
        let token = self.join_token.expose();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return invalid("agent.join_token", "must be printable ASCII without spaces");
        }
        if let Some(apt) = &self.apt {
            let words =
                [("agent.apt.url", &apt.url), ("agent.apt.suite", &apt.suite), ("agent.apt.component", &apt.component)];
            for (field, word) in words {
                if word.is_empty() || !word.bytes().all(|b| b.is_ascii_graphic()) {
                    return invalid(field, "must be one word of printable ASCII");
                }
            }
        }
        for (key, value) in &self.settings {
            let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if !plain || OWN_KEYS.contains(&key.as_str()) {
                return invalid("agent.settings", "a key is not a plain word, or one the driver sets itself");
            }
            toml_value(value).ok_or_else(|| HostError::Invalid {
                field: "agent.settings",
                reason: format!("{key} is neither a string, number, boolean nor a list of those"),
            })?;
        }
        Ok(())
    }
}

/// Renders `/etc/straas/agent.toml`. Settings that [`AgentBoot::check`] would refuse are left out.
pub fn agent_toml(agent: &AgentBoot, paths: &AgentPaths) -> String {
    let controllers: Vec<String> = agent.controllers.iter().map(|url| toml_string(url)).collect();
    let mut text = format!("controllers = [{}]\n", controllers.join(", "));
    match &agent.node {
        Some(node) => text.push_str(&format!("node = {}\n", toml_string(node))),
        None => text.push_str("pool = true\n"),
    }
    let own = [
        ("state_dir", paths.at("/var/lib/straas/agent")),
        ("ca_file", paths.at("/etc/straas/ca.pem")),
        ("join_token_file", paths.at("/etc/straas/join-token")),
        ("prefix", paths.prefix.clone()),
        ("metrics_listen", agent.metrics_listen.clone()),
    ];
    // a host of the pool is its node's alone, and hears with the node where that shows its metrics
    let of_a_node = |key: &str| key == "prefix" || key == "metrics_listen";
    for (key, value) in own.into_iter().filter(|(key, _)| agent.node.is_some() || !of_a_node(key)) {
        text.push_str(&format!("{key} = {}\n", toml_string(&value)));
    }
    for (key, value) in &agent.settings {
        if let Some(value) = toml_value(value) {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}

/// A JSON value as TOML, `None` where TOML has nothing that fits on a line.
fn toml_value(value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::String(text) => Some(toml_string(text)),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(toml_value).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// A TOML basic string. JSON's escapes are valid TOML; DEL is the one JSON leaves bare.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_boot_value_shows_no_token() {
        let secret = Secret::new("sesame");
        assert_eq!(format!("{secret:?}"), "Secret(***)");
    }

    #[test]
    fn toml_strings_are_escaped() {
        assert_eq!(toml_string("a\"b\\c\n\u{7f}"), "\"a\\\"b\\\\c\\n\\u007f\"");
    }
}
