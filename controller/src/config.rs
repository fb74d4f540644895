//! The controller's configuration file: TOML, every key known, every key optional but `data_dir`.
//!
//! A key that is not known is refused with its place, since a misspelt key that is silently
//! ignored is found out in an outage. What a file can say is all here; nothing reads the
//! environment later. What can change while the service runs is only begun with here: `settings.rs`
//! has what counts.

mod git;

pub use git::{GitConfig, UpstreamConfig};

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use straas_schemas::config::Effective;
use straas_schemas::ids::{ZONE_NAME_MAX, name_fault};
use straas_schemas::settings::ServiceSettings;

/// A revocation at Keystone is honoured within a minute.
const BELIEVED_S_MAX: u32 = 60;

/// Seconds without a byte taken after which the other end is given up: a link that loses packets comes back sooner.
const STALL_S: u32 = 60;

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
    /// Hosts that exist already and join.
    #[serde(default)]
    pub pool: PoolConfig,
    /// Files that every host should have before any stage runs.
    #[serde(default)]
    pub files: Vec<FileConfig>,
    /// Files that tenants keep here.
    #[serde(default)]
    pub storage: StorageConfig,
    /// What is laid over the repositories.
    #[serde(default)]
    pub seed: SeedConfig,
    /// Servers that the repositories are mirrors of.
    #[serde(default)]
    pub git: GitConfig,
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

/// `[storage]`: limits of what tenants upload, where the config repo says nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// MiB that the files of one tenant may have in all.
    pub tenant_mib_max: Option<u32>,
    /// MiB of one file.
    pub file_mib_max: Option<u32>,
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
    /// Requests that are worked on at once, where the config repo says nothing (`[limits]` there).
    pub at_once: Option<u32>,
    /// Requests per second of a token in the long run, likewise.
    pub rate: Option<u32>,
    /// Requests that a token may make at a stroke, likewise.
    pub burst: Option<u32>,
    /// Seconds in which the head of a request has to be whole, also of the next one on a connection: a slow or
    /// silent client holds a connection no longer.
    pub head_s: u32,
    /// Seconds in which some of an answer has to be taken, while there is more to send.
    pub stall_s: u32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8080));
        Self { listen, at_once: None, rate: None, burst: None, head_s: 30, stall_s: STALL_S }
    }
}

/// `[pool]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Zones whose hosts are the pool's; `"*"` alone for all: then none are made on this machine.
    pub zones: Vec<String>,
}

/// `[agents]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentsConfig {
    /// Address and port for agents of hosts that are not on this machine: those of the pool.
    pub listen: Option<SocketAddr>,
    /// Port on the gateway of the hosts' network on this machine.
    pub port: u16,
    /// Port of the package repository on the gateway.
    pub packages_port: u16,
    /// As `stall_s` of `[api]`.
    pub stall_s: u32,
    /// Days a node's certificate lives, where the config repo says nothing.
    pub certificate_days: Option<u32>,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self { listen: None, port: 7443, packages_port: 8081, stall_s: STALL_S, certificate_days: None }
    }
}

/// `[timing]`, all in ms, where the config repo says nothing; see `TimingSettings`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingConfig {
    /// Between two heartbeats of a node.
    pub heartbeat_ms: Option<u32>,
    /// Silence after which a node is suspect.
    pub suspect_after_ms: Option<u32>,
    /// Silence after which a node counts as unreachable.
    pub unreachable_after_ms: Option<u32>,
    /// First wait after a failed stage.
    pub retry_ms: Option<u32>,
    /// Longest wait after a failed stage.
    pub retry_max_ms: Option<u32>,
    /// Longest wait after a stage that said "not yet".
    pub waiting_ms: Option<u32>,
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
    /// As how many fault domains this one machine is taken, 1 to 100: for trying what spreading means.
    pub fault_domains: u32,
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
            fault_domains: 1,
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
        if let Err(faults) = ServiceSettings::read(&config.settings()) {
            let each = faults.iter().map(|fault| format!("[{}] {}", fault.section, fault.message));
            return Err(invalid(each.collect::<Vec<_>>().join("; ")));
        }
        if config.auth.keystone.as_ref().is_some_and(|auth| !(1..=BELIEVED_S_MAX).contains(&auth.believed_s)) {
            return Err(invalid(format!("[auth.keystone] believed_s must be 1 to {BELIEVED_S_MAX}")));
        }
        let faults = config.git.faults();
        if !faults.is_empty() {
            return Err(invalid(faults.join("; ")));
        }
        if let Some(fault) = config.pool_fault() {
            return Err(invalid(fault));
        }
        Ok(config)
    }

    /// What of `[pool]` cannot be.
    fn pool_fault(&self) -> Option<String> {
        let zones = &self.pool.zones;
        if zones.iter().any(|zone| zone == "*") {
            if zones.len() > 1 {
                return Some("[pool] zones: \"*\" is all zones and stands alone".to_owned());
            }
            if self.agents.listen.is_none() {
                let text = "[agents] listen is missing: no hosts are made on this machine, so those of the pool have to be \
                            told an address of it, e.g. \"0.0.0.0:7443\"";
                return Some(text.to_owned());
            }
            return None;
        }
        let fault = |zone: &String| name_fault("a zone", zone, ZONE_NAME_MAX);
        zones.iter().find_map(fault).map(|fault| format!("[pool] zones: {fault}"))
    }

    /// What it sets of what can change while the service runs. It counts instead of `service/default.json`
    /// of the config repo; what the other files there set counts instead of it.
    #[must_use]
    pub fn settings(&self) -> Effective {
        let (timing, api, storage) = (&self.timing, &self.api, &self.storage);
        let mut set = Effective::new();
        for (section, key, value) in [
            ("timing", "heartbeat_ms", timing.heartbeat_ms),
            ("timing", "suspect_after_ms", timing.suspect_after_ms),
            ("timing", "unreachable_after_ms", timing.unreachable_after_ms),
            ("timing", "retry_ms", timing.retry_ms),
            ("timing", "retry_max_ms", timing.retry_max_ms),
            ("timing", "waiting_ms", timing.waiting_ms),
            ("limits", "at_once", api.at_once),
            ("limits", "rate", api.rate),
            ("limits", "burst", api.burst),
            ("storage", "tenant_mib_max", storage.tenant_mib_max),
            ("storage", "file_mib_max", storage.file_mib_max),
            ("agents", "certificate_days", self.agents.certificate_days),
        ] {
            if let Some(value) = value {
                set.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
            }
        }
        set
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
        check("data_dir = '/x'\n[timing]\nheartbeat_ms = 35000", Err("suspect_after_ms"));
        check("data_dir = '/x'\n[api]\nat_once = 3", Err("at_once"));
        check("data_dir = '/x'\n[agents]\ncertificate_days = 0", Err("certificate_days"));
        check("data_dir = '/x'\n[pool]\nzones = ['a/b']", Err("[pool] zones"));
        check("data_dir = '/x'\n[pool]\nzones = ['*']", Err("[agents] listen"));
        check("data_dir = '/x'\n[pool]\nzones = ['*', 'a']\n[agents]\nlisten = '0.0.0.0:7443'", Err("stands alone"));
        check("data_dir = '/x'\n[pool]\nzones = ['*']\n[agents]\nlisten = '0.0.0.0:7443'", Ok(()));
    }

    #[test]
    fn only_what_the_file_sets_counts_instead_of_the_config_repo() {
        let set = |text: &str| {
            let config: Config = toml::from_str(&format!("data_dir = '/x'\n{text}")).expect("a configuration");
            serde_json::to_value(config.settings()).expect("json")
        };
        assert_eq!(set("[api]\nhead_s = 5\n[agents]\nport = 1"), serde_json::json!({}));
        assert_eq!(
            set(
                "[api]\nrate = 5\n[agents]\ncertificate_days = 7\n[timing]\nwaiting_ms = 9\n[storage]\nfile_mib_max = 0"
            ),
            serde_json::json!({
                "limits": { "rate": 5 }, "agents": { "certificate_days": 7 }, "timing": { "waiting_ms": 9 },
                "storage": { "file_mib_max": 0 }
            })
        );
    }

    #[test]
    fn an_upstream_names_what_cannot_be() {
        let of = |more: &str| format!("data_dir = '/x'\n[git.config]\n{more}");
        check(&of("url = 'https://h/x'\nuser = 'u'\npassword_file = '/p'\nca_file = '/ca'"), Ok(()));
        check(&of("url = 'ssh://git@h/x'\nkey_file = '/k'\nknown_hosts_file = '/h'"), Ok(()));
        check(&of("url = 'ssh://git@h/x'\nkey_file = '/k'"), Err("[git.config] known_hosts_file is missing"));
        check(&of("url = 'https://u:p@h/x'"), Err("[git.config] url holds a password"));
        check(&of("url = 'https://h/x'\nuser = 'u'"), Err("[git.config] password_file is missing"));
        check(&of("url = 'https://h/x'\npassword = 'p'"), Err("password"));
        check(&of("url = 'https://h/x'\n[git.scripts]\nurl = 'https://h/x'"), Err("[git.scripts] url"));
        check("data_dir = '/x'\n[git]\npoll_ms = 10", Err("[git] poll_ms"));
        check("data_dir = '/x'\n[git]\ntimeout_s = 0", Err("[git] timeout_s"));
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
