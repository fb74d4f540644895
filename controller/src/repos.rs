//! The two repositories as the configuration has them: in the data directory, with their upstreams.
//!
//! Blocks: the first start with an upstream asks that server.

use crate::config::Config;
use anyhow::{Context as _, Result, bail};
use straas_repos::{ConfigRepo, ScriptRepo};

/// The config repo.
///
/// # Errors
/// It cannot be opened, or its upstream cannot be used.
pub fn configs(config: &Config) -> Result<ConfigRepo> {
    check(config)?;
    let configs = ConfigRepo::open(&config.data_dir.join("config.git")).context("open the config repo")?;
    match config.git.of_config() {
        Some(spec) => configs.with_upstream(spec).context("[git.config]"),
        None => Ok(configs),
    }
}

/// The script repo.
///
/// # Errors
/// As [`configs`].
pub fn scripts(config: &Config) -> Result<ScriptRepo> {
    check(config)?;
    let scripts = ScriptRepo::open(&config.data_dir.join("scripts.git")).context("open the script repo")?;
    match config.git.of_scripts() {
        Some(spec) => scripts.with_upstream(spec).context("[git.scripts]"),
        None => Ok(scripts),
    }
}

fn check(config: &Config) -> Result<()> {
    let faults = config.git.faults_here();
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}
