//! The controller's configuration file: TOML, every key known, every key optional but `data_dir`.
//!
//! A key that is not known is refused with its place, since a misspelt key that is silently
//! ignored is found out in an outage. What a file can say is all here; nothing reads the
//! environment later.

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A revocation at Keystone is honoured within a minute.
const BELIEVED_S_MAX: u32 = 60;

/// Everything the controller can be told at start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where everything lives that must outlast a restart.
    pub data_dir: PathBuf,
    /// The database; SQLite in `data_dir` if absent.
    #[serde(default)]
    pub store: StoreConfig,
    /// The API for users.
    #[serde(default)]
    pub api: ApiConfig,
    /// The API for agents.
    #[serde(default)]
    pub agents: AgentsConfig,
    /// Intervals given to agents.
    #[serde(default)]
    pub timing: TimingConfig,
    /// Hosts on this machine.
    #[serde(default)]
    pub local: LocalConfig,
    /// Files that every host should have before any stage runs.
    #[serde(default)]
    pub files: Vec<FileConfig>,
    /// Files that tenants keep here.
    #[serde(default)]
    pub storage: StorageConfig,
    /// What is laid over the repositories.
    #[serde(default)]
    pub seed: SeedConfig,
    /// Where users are known, if not to this controller alone.
    #[serde(default)]
    pub auth: AuthConfig,
}

/// `[auth]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Users, tenants and tokens are OpenStack's.
    pub keystone: Option<KeystoneAuth>,
}

/// `[auth.keystone]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeystoneAuth {
    /// Its URL, ending with `/v3`.
    pub url: String,
    /// Certificates that its own is checked against, PEM.
    #[serde(default = "system_certificates")]
    pub ca_file: PathBuf,
    /// The service's own user.
    pub user: String,
    /// File with his password.
    pub password_file: PathBuf,
    /// The project he works in, by name, with a role that lets him validate tokens.
    pub project: String,
    /// The domain of users and projects, by name.
    #[serde(default = "default_domain")]
    pub domain: String,
    /// Ids of the projects whose members are administrators here.
    pub admin_projects: Vec<String>,
    /// Roles in a project that make a member of it.
    #[serde(default = "member_roles")]
    pub member_roles: Vec<String>,
    /// Roles that make an operator.
    #[serde(default)]
    pub operator_roles: Vec<String>,
    /// Roles of the health-check service.
    #[serde(default)]
    pub health_check_roles: Vec<String>,
    /// Seconds for which an answer about a token is believed: so long a token that was revoked at Keystone
    /// is still good here.
    #[serde(default = "half_a_minute")]
    pub believed_s: u32,
}

const fn half_a_minute() -> u32 {
    30
}

fn system_certificates() -> PathBuf {
    "/etc/ssl/certs/ca-certificates.crt".into()
}

fn default_domain() -> String {
    "Default".to_owned()
}

fn member_roles() -> Vec<String> {
    vec!["member".to_owned(), "admin".to_owned()]
}

/// `[seed]`: for trying components, not for production, where git is the truth.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedConfig {
    /// Folders of components (`cmd/ pre_config/ puppet/ guestcmds/ metadata/ app/`), laid over
    /// `master` of both repositories at each start, a later one over an earlier one.
    #[serde(default)]
    pub overlays: Vec<PathBuf>,
}

/// `[[files]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// Where this controller reads it, once, at start.
    pub source: PathBuf,
    /// Permission bits.
    #[serde(default = "readable")]
    pub mode: u32,
}

const fn readable() -> u32 {
    0o644
}

/// `[storage]`: limits of what tenants upload.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// MiB that the files of one tenant may have in all.
    pub tenant_mib_max: u32,
    /// MiB of one file.
    pub file_mib_max: u32,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { tenant_mib_max: 20 * 1024, file_mib_max: 5 * 1024 }
    }
}

impl StorageConfig {
    /// Most bytes of the files of one tenant.
    #[must_use]
    pub fn tenant_bytes_max(&self) -> u64 {
        u64::from(self.tenant_mib_max) << 20
    }

    /// Most bytes of one file.
    #[must_use]
    pub fn file_bytes_max(&self) -> u64 {
        u64::from(self.file_mib_max) << 20
    }
}

/// `[store]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: Option<String>,
}

/// `[api]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// Requests that are worked on at once; a tenant has a quarter of them. Each may plan a large topology, so
    /// more would only make all of them slower.
    pub at_once: usize,
    /// Requests per second of a token in the long run; its tenant has four times as many. A program that looks
    /// at everything it has every second stays far below.
    pub rate: u32,
    /// Requests that a token may make at a stroke, after a while of silence.
    pub burst: u32,
    /// Seconds in which the head of a request has to be whole, also of the next one on a connection: a slow or
    /// silent client holds a connection no longer.
    pub head_s: u32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)), at_once: 256, rate: 50, burst: 500, head_s: 30 }
    }
}

/// `[agents]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentsConfig {
    /// Port on the gateway of the hosts' network.
    pub port: u16,
    /// Port of the package repository on the gateway.
    pub packages_port: u16,
    /// Days a node's certificate lives.
    pub certificate_days: u32,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self { port: 7443, packages_port: 8081, certificate_days: 30 }
    }
}

/// `[timing]`, all in ms.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingConfig {
    /// Between two heartbeats of a node.
    pub heartbeat_ms: u32,
    /// Silence after which a node is suspect.
    pub suspect_after_ms: u32,
    /// Silence after which a node counts as unreachable.
    pub unreachable_after_ms: u32,
    /// First wait after a failed stage.
    pub retry_ms: u32,
    /// Longest wait after a failed stage.
    pub retry_max_ms: u32,
    /// Longest wait after a stage that said "not yet"; the first ones are short.
    pub waiting_ms: u32,
}

impl Default for TimingConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 10_000,
            suspect_after_ms: 35_000,
            unreachable_after_ms: 90_000,
            retry_ms: 5_000,
            retry_max_ms: 300_000,
            waiting_ms: 2_000,
        }
    }
}

/// `[local]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// Names the network namespace and labels the hosts: `[a-z0-9-]{1,20}`.
    pub instance: String,
    /// `auto`, `microhost` or `process`.
    pub isolation: String,
    /// Network of the hosts.
    pub subnet: String,
    /// Where images and packages are cached.
    pub cache_dir: PathBuf,
    /// The agent's Debian package.
    pub agent_deb: PathBuf,
    /// Where the script is that makes packages of components which no mirror has
    /// (`packaging/components`); a directory without it makes none.
    pub components: PathBuf,
    /// The agent's binary, for process isolation.
    pub agent_binary: PathBuf,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            instance: "straas".into(),
            isolation: "auto".into(),
            subnet: "10.77.0.0/24".into(),
            cache_dir: "/var/cache/straas/microhost".into(),
            agent_deb: "/usr/share/straas/straas-agent.deb".into(),
            components: "/usr/share/straas/components".into(),
            agent_binary: "/usr/sbin/straas-agent".into(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {source}; name another one with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what a configuration looks like.
    #[error("the configuration {path} is not valid: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or has an unknown key or a value of a wrong type; the message
    /// names line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let invalid = |message: String| ConfigError::Parse { path: path.into(), message };
        let config: Self = toml::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        let t = &config.timing;
        if !(t.heartbeat_ms > 0 && t.heartbeat_ms < t.suspect_after_ms && t.suspect_after_ms < t.unreachable_after_ms) {
            return Err(invalid(
                "[timing] must have 0 < heartbeat_ms < suspect_after_ms < unreachable_after_ms".into(),
            ));
        }
        if t.retry_ms == 0 || t.waiting_ms == 0 || t.retry_ms > t.retry_max_ms {
            return Err(invalid("[timing] must have 0 < retry_ms <= retry_max_ms and 0 < waiting_ms".into()));
        }
        if !(1..=3650).contains(&config.agents.certificate_days) {
            return Err(invalid("[agents] certificate_days must be 1 to 3650".into()));
        }
        if config.auth.keystone.as_ref().is_some_and(|auth| !(1..=BELIEVED_S_MAX).contains(&auth.believed_s)) {
            return Err(invalid(format!("[auth.keystone] believed_s must be 1 to {BELIEVED_S_MAX}")));
        }
        Ok(config)
    }

    /// The URL of the database.
    #[must_use]
    pub fn store_url(&self) -> String {
        self.store.url.clone().unwrap_or_else(|| format!("sqlite:{}", self.data_dir.join("straas.db").display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(), &str>) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).expect("write");
        match (Config::load(&path), expect) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expect) => panic!("{text}: {got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn every_unknown_key_is_refused() {
        check("data_dir = '/x'", Ok(()));
        check("", Err("data_dir"));
        check("data_dir = '/x'\nport = 1", Err("port"));
        check("data_dir = '/x'\n[api]\nlisten = '127.0.0.1:1'\ntls = true", Err("tls"));
        check("data_dir = '/x'\n[timing]\nheartbeat_ms = 0", Err("heartbeat_ms"));
        check("data_dir = '/x'\n[agents]\ncertificate_days = 0", Err("certificate_days"));
    }

    #[test]
    fn what_keystone_says_is_believed_for_a_minute_at_most() {
        let with = |more: &str| {
            let must =
                "url = 'http://k/v3'\nuser = 'straas'\npassword_file = '/p'\nproject = 'service'\nadmin_projects = []";
            format!("data_dir = '/x'\n[auth.keystone]\n{must}\n{more}")
        };
        check(&with(""), Ok(()));
        check(&with("believed_s = 60"), Ok(()));
        check(&with("believed_s = 0"), Err("believed_s"));
        check(&with("believed_s = 61"), Err("believed_s"));
        check(&with("beleived_s = 6"), Err("beleived_s"));
    }
}
