//! `agent.toml`: where the controllers are and where the agent lives. Every unknown key is refused.
//!
//! What a node *is* comes with its assignment; this file only says how to get it. A host of the pool (`pool = true`) does
//! not even know for which node it is there.
//!
//! Never here: the environment, and secrets (the join token is a file of its own).

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use straas_schemas::NodeId;

/// Most controller URLs: they are tried in turn, and a longer list only delays finding a live one.
const CONTROLLERS_MAX: usize = 16;
/// Interval of heartbeats before there is an assignment to say so, in ms.
pub const HEARTBEAT_MS: u32 = 10_000;
/// Trial of a build, where the configuration says nothing, in s.
pub const BUILD_TRIAL_S: u32 = 300;
/// Longest trial of a build: a host that hears of no controller for so long is cut off, whatever it runs.
const BUILD_TRIAL_S_MAX: u32 = 3_600;

/// What a file says.
#[derive(Clone, Debug)]
pub enum Configuration {
    /// This host is a node's.
    Node(Config),
    /// It is the pool's.
    Pool(PoolConfig),
}

/// The configuration of a host of the pool: what is common to all nodes that it will have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// Always true: what tells it from a node's.
    pub pool: bool,
    /// Base URLs of the agent API, `https://host:port`.
    pub controllers: Vec<String>,
    /// The agent's own directory; those of nodes are below it.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The controllers' certificate authority, PEM.
    #[serde(default = "default_ca_file")]
    pub ca_file: PathBuf,
    /// Join token; removed once the host has joined.
    #[serde(default = "default_join_token_file")]
    pub join_token_file: PathBuf,
    /// Where other nodes reach this host; if absent, where it talks to its controllers from.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Log filter, e.g. `info` or `straas_agent=debug`.
    #[serde(default = "default_log")]
    pub log: String,
    /// `text` or `json`.
    #[serde(default)]
    pub log_format: LogFormat,
    /// How long the controller may hold a poll, in ms.
    #[serde(default = "default_poll_wait_ms")]
    pub poll_wait_ms: u32,
}

/// The configuration of a node's agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Base URLs of the agent API, `https://host:port`.
    pub controllers: Vec<String>,
    /// The node this host stands for.
    pub node: NodeId,
    /// The agent's own directory.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The controllers' certificate authority, PEM.
    #[serde(default = "default_ca_file")]
    pub ca_file: PathBuf,
    /// One-time join token; removed after enrolment.
    #[serde(default = "default_join_token_file")]
    pub join_token_file: PathBuf,
    /// Process mode: the directory in which the component lives; empty on a host of its own.
    #[serde(default)]
    pub prefix: String,
    /// Address of the Prometheus endpoint; empty for none.
    #[serde(default)]
    pub metrics_listen: String,
    /// Log filter, e.g. `info` or `straas_agent=debug`.
    #[serde(default = "default_log")]
    pub log: String,
    /// `text` or `json`.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Interval of heartbeats before there is an assignment to say so, in ms.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u32,
    /// How long the controller may hold a poll, in ms.
    #[serde(default = "default_poll_wait_ms")]
    pub poll_wait_ms: u32,
    /// How long another build of the agent may run without an answer of any controller, in s; then the one before
    /// takes over. Longer than any back-off and time-out: with a link there was an answer by then.
    #[serde(default = "default_build_trial_s")]
    pub build_trial_s: u32,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/straas/agent".into()
}
fn default_ca_file() -> PathBuf {
    "/etc/straas/ca.pem".into()
}
fn default_join_token_file() -> PathBuf {
    "/etc/straas/join-token".into()
}
fn default_log() -> String {
    "info".into()
}
const fn default_heartbeat_ms() -> u32 {
    HEARTBEAT_MS
}
const fn default_poll_wait_ms() -> u32 {
    25_000
}
const fn default_build_trial_s() -> u32 {
    BUILD_TRIAL_S
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
}

impl Configuration {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Unreadable, not TOML, an unknown key, or a value that cannot be used.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|message| ConfigError::Invalid { path: path.into(), message })
    }

    /// Checks a text.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        if table.get("pool").and_then(toml::Value::as_bool) == Some(true) {
            return PoolConfig::parse(text).map(Self::Pool);
        }
        Config::parse(text).map(Self::Node)
    }

    /// Log filter.
    #[must_use]
    pub fn log(&self) -> (&str, LogFormat) {
        match self {
            Self::Node(config) => (&config.log, config.log_format),
            Self::Pool(config) => (&config.log, config.log_format),
        }
    }
}

impl PoolConfig {
    fn parse(text: &str) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        check_common(&mut config.controllers, &config.state_dir, &config.ca_file)?;
        Ok(config)
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Unreadable, not TOML, an unknown key, or a value that cannot be used.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|message| ConfigError::Invalid { path: path.into(), message })
    }

    /// Checks a text.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        check_common(&mut config.controllers, &config.state_dir, &config.ca_file)?;
        if !straas_schemas::ids::is_id(config.node.as_str()) {
            return Err(format!("node: {:?} is not an id (letters, digits and '-', at most 64)", config.node.as_str()));
        }
        if !(1..=BUILD_TRIAL_S_MAX).contains(&config.build_trial_s) {
            return Err(format!("build_trial_s: {} is not from 1 to {BUILD_TRIAL_S_MAX}", config.build_trial_s));
        }
        if !config.prefix.is_empty() && !Path::new(&config.prefix).is_absolute() {
            return Err(format!("prefix: {:?} is neither empty nor an absolute path", config.prefix));
        }
        if config.metrics_listen.parse::<std::net::SocketAddr>().is_err() && !config.metrics_listen.is_empty() {
            return Err(format!("metrics_listen: {:?} is neither empty nor address:port", config.metrics_listen));
        }
        Ok(config)
    }
}

/// What a node's agent and a host of the pool have in common.
fn check_common(controllers: &mut [String], state_dir: &Path, ca_file: &Path) -> Result<(), String> {
    if controllers.is_empty() || controllers.len() > CONTROLLERS_MAX {
        return Err(format!("controllers: 1 to {CONTROLLERS_MAX} URLs are needed"));
    }
    for url in controllers {
        let parsed: http::Uri = url.parse().map_err(|error| format!("controllers: {url:?}: {error}"))?;
        if parsed.scheme_str() != Some("https") || parsed.host().is_none() || parsed.path().len() > 1 {
            return Err(format!("controllers: {url:?} is not of the form https://host:port"));
        }
        while url.ends_with('/') {
            url.pop();
        }
    }
    for (key, path) in [("state_dir", state_dir), ("ca_file", ca_file)] {
        if !path.is_absolute() {
            return Err(format!("{key}: {} is not an absolute path", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_bad_values_are_refused_with_their_name() {
        let check = |text: &str, wrong: Option<&str>| match (Config::parse(text), wrong) {
            (Ok(_), None) => {}
            (Err(message), Some(part)) => assert!(message.contains(part), "{message} does not name {part}"),
            (other, _) => panic!("{text}: {other:?}"),
        };
        check("controllers=['https://10.0.0.1:7443/']\nnode='n-1'", None);
        check("controllers=['https://10.0.0.1:7443']\nnode='n-1'\nnods='x'", Some("nods"));
        check("controllers=[]\nnode='n-1'", Some("controllers"));
        check("controllers=['http://x']\nnode='n-1'", Some("https"));
        check("controllers=['https://x']\nnode='../n'", Some("node"));
        check("controllers=['https://x']\nnode='n'\nstate_dir='x'", Some("state_dir"));
        check("controllers=['https://x']\nnode='n'\nmetrics_listen='x'", Some("metrics_listen"));
        check("controllers=['https://x']\nnode='n'\nprefix='x'", Some("prefix"));
        check("controllers=['https://x']\nnode='n'\nbuild_trial_s=0", Some("build_trial_s"));
        check("controllers=['https://x']\npool=false", Some("pool"));
    }

    #[test]
    fn a_host_is_a_nodes_or_the_pools() {
        let pool = |text: &str| match Configuration::parse(text) {
            Ok(Configuration::Pool(config)) => Ok(config),
            Ok(Configuration::Node(_)) => panic!("{text} is a node's"),
            Err(message) => Err(message),
        };
        let config = pool("controllers=['https://10.0.0.1:7443/']\npool=true\naddress='10.0.0.7'").expect("good");
        assert_eq!(
            (config.controllers[0].as_str(), config.address),
            ("https://10.0.0.1:7443", "10.0.0.7".parse().ok())
        );
        for (text, wrong) in [
            ("controllers=[]\npool=true", "controllers"),
            ("controllers=['https://x']\npool=true\nnode='n'", "node"),
            ("controllers=['https://x']\npool=true\nprefix='/x'", "prefix"),
            ("controllers=['https://x']\npool=true\naddress='x'", "address"),
        ] {
            let message = pool(text).expect_err(text);
            assert!(message.contains(wrong), "{message} does not name {wrong}");
        }
        let node = Configuration::parse("controllers=['https://x']\nnode='n'").expect("good");
        let Configuration::Node(config) = node else { panic!("the pool's") };
        // as the pool writes it for the agent of a node
        let written = toml::to_string(&config).expect("text");
        assert_eq!(Config::parse(&written).expect("good").state_dir, config.state_dir);
    }
}
