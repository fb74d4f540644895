//! `[git]`: the servers that the config repo and the script repo are mirrors of.
//!
//! Stands in this file and not in the config repo, since that is what has to be found by it. Secrets stand
//! in files of their own, which are read when they are used.

use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use straas_repos::UpstreamSpec;

/// Looks at upstream: often enough to be waited for, seldom enough for a server of many; an hour is
/// as good as never.
const POLL_MS: (u32, u32) = (200, 3_600_000);
/// Time limit of a fetch or push: below, a slow network is taken for none; above, who writes is gone.
const TIMEOUT_S: (u32, u32) = (1, 300);

/// `[git]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GitConfig {
    /// Between two looks for what others pushed.
    pub poll_ms: u32,
    /// A fetch or push that takes longer is ended.
    pub timeout_s: u32,
    /// Where the config repo is.
    pub config: Option<UpstreamConfig>,
    /// Where the script repo is.
    pub scripts: Option<UpstreamConfig>,
}

impl Default for GitConfig {
    fn default() -> Self {
        Self { poll_ms: 10_000, timeout_s: 30, config: None, scripts: None }
    }
}

/// `[git.config]`, `[git.scripts]`; see [`UpstreamSpec`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    url: String,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    known_hosts_file: Option<PathBuf>,
    proxy: Option<String>,
}

impl GitConfig {
    /// The upstream of the config repo.
    #[must_use]
    pub fn of_config(&self) -> Option<UpstreamSpec> {
        self.config.as_ref().map(|upstream| self.spec(upstream))
    }

    /// The upstream of the script repo.
    #[must_use]
    pub fn of_scripts(&self) -> Option<UpstreamSpec> {
        self.scripts.as_ref().map(|upstream| self.spec(upstream))
    }

    /// Between two looks for what others pushed.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.into())
    }

    fn spec(&self, upstream: &UpstreamConfig) -> UpstreamSpec {
        let UpstreamConfig { url, user, password_file, ca_file, key_file, known_hosts_file, proxy } = upstream.clone();
        let timeout = Duration::from_secs(self.timeout_s.into());
        UpstreamSpec { url, user, password_file, ca_file, key_file, known_hosts_file, proxy, timeout }
    }

    /// What cannot be so, each with its place in the file.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, value, (min, max)) in [("poll_ms", self.poll_ms, POLL_MS), ("timeout_s", self.timeout_s, TIMEOUT_S)] {
            if !(min..=max).contains(&value) {
                faults.push(format!("[git] {key} must be {min} to {max}"));
            }
        }
        faults.extend(self.each(|spec| spec.faults()));
        let url = |upstream: &Option<UpstreamConfig>| upstream.as_ref().map(|upstream| upstream.url.clone());
        if self.config.is_some() && url(&self.config) == url(&self.scripts) {
            faults.push("[git.scripts] url is that of [git.config]; the two are different repositories".to_owned());
        }
        faults
    }

    /// What cannot be so on this machine: files and programs that are missing.
    #[must_use]
    pub fn faults_here(&self) -> Vec<String> {
        self.each(|spec| spec.faults_here())
    }

    fn each(&self, look: impl Fn(&UpstreamSpec) -> Vec<straas_repos::FieldFault>) -> Vec<String> {
        let both = [("config", self.of_config()), ("scripts", self.of_scripts())];
        let specs = both.into_iter().filter_map(|(name, spec)| Some((name, spec?)));
        specs
            .flat_map(|(name, spec)| look(&spec).into_iter().map(move |(f, why)| format!("[git.{name}] {f} {why}")))
            .collect()
    }
}
