//! Hosts on this machine: opens them by the configuration and makes what they need.
//!
//! Image and packages are made once, in the background, while the controller serves already; the
//! first host waits for them.

use crate::app::{BootTemplate, blocking};
use crate::config::Config;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use straas_drivers::HostError;
use straas_drivers::local::{LocalHosts, Progress};
use straas_repos::ConfigRepo;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Wait before image and packages are tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Makes what hosts need on this machine, telling `say` what is being done.
///
/// # Errors
/// The image or the packages could not be made.
pub async fn prepare(config: &Config, say: Progress) -> Result<()> {
    crate::data_dir(&config.data_dir)?;
    let hosts = open(config).await?;
    let configs = catalog(config)?;
    say(hosts.isolation_reason());
    hosts.prepare(say.clone()).await.map_err(hinted)?;
    hosts.packages(&requests(&configs)?, say).await.map_err(hinted)?;
    Ok(())
}

/// The config repo with everything in it whose packages are wanted.
///
/// # Errors
/// It cannot be opened, or an overlay is wrong.
pub fn catalog(config: &Config) -> Result<ConfigRepo> {
    let configs = crate::repos::configs(config)?;
    if !config.seed.overlays.is_empty() {
        configs.overlay(&config.seed.overlays).context("lay [seed] overlays over the config repo")?;
    }
    Ok(configs)
}

/// Removes every host and network of this configuration from this machine.
///
/// # Errors
/// Something could not be removed.
pub async fn teardown(config: &Config) -> Result<()> {
    open(config).await?.teardown().await.map_err(hinted)
}

fn hinted(error: HostError) -> anyhow::Error {
    let hint = error.hint();
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => error.context(format!("what to do: {hint}")),
        None => error,
    }
}

/// Opens the hosts of this machine.
///
/// # Errors
/// The configuration is wrong, or another controller has them.
pub async fn open(config: &Config) -> Result<LocalHosts> {
    let local = &config.local;
    let mut settings = straas_drivers::local::LocalConfig::new(&local.instance, config.data_dir.join("hosts"));
    settings.cache_dir = local.cache_dir.clone();
    settings.subnet = local.subnet.parse().map_err(hinted).context("[local] subnet")?;
    settings.isolation = local.isolation.parse().map_err(hinted).context("[local] isolation")?;
    settings.agent_deb = local.agent_deb.clone();
    settings.agent_binary = local.agent_binary.clone();
    settings.fault_domains = local.fault_domains;
    settings.components = Some(local.components.clone());
    LocalHosts::open(settings).await.map_err(hinted).context("open the hosts of this machine")
}

/// The packages of every version of the catalog, as requests to the package manager.
fn requests(configs: &ConfigRepo) -> straas_repos::Result<Vec<String>> {
    let catalog = configs.catalog_view()?.catalog;
    let packages = catalog.values().flat_map(|meta| meta.versions.values()).flat_map(|version| &version.packages);
    let unique: BTreeSet<String> = packages.map(|package| format!("{}={}", package.name, package.version)).collect();
    Ok(unique.into_iter().collect())
}

/// Makes image and packages, then serves the packages to hosts until the task is aborted.
pub async fn provide(config: Config, hosts: LocalHosts, boot: watch::Sender<Option<BootTemplate>>) {
    while let Err(error) = provide_once(&config, &hosts, &boot).await {
        tracing::error!("hosts cannot be made yet: {error:#}; trying again in {} s", RETRY.as_secs());
        tokio::time::sleep(RETRY).await;
    }
    // without a package server there is nothing more to do, and the sender must live
    boot.closed().await;
}

async fn provide_once(config: &Config, hosts: &LocalHosts, boot: &watch::Sender<Option<BootTemplate>>) -> Result<()> {
    let say: Progress = Arc::new(|line: &str| tracing::info!("{line}"));
    hosts.prepare(say.clone()).await.map_err(hinted)?;
    let path = config.data_dir.join("config.git");
    let requests = blocking(move || requests(&ConfigRepo::open(&path)?)).await?;
    let packages = hosts.packages(&requests, say).await.map_err(hinted)?;
    let controllers = vec![format!("https://{}:{}", hosts.gateway(), config.agents.port)];
    let Some(packages) = packages else {
        boot.send_replace(Some(BootTemplate { controllers, apt: None }));
        return Ok(());
    };
    for missing in &packages.missing {
        tracing::warn!(package = missing.request, "not in the package repository: {}", missing.reason);
    }
    let port = config.agents.packages_port;
    let listener = hosts.listen(port).context("listen for package downloads ([agents] packages_port)")?;
    let apt = packages.source(&format!("http://{}:{port}", hosts.gateway()));
    boot.send_replace(Some(BootTemplate { controllers, apt: Some(apt) }));
    tracing::info!("hosts can be made");
    let files = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(&packages.dir));
    axum::serve(TcpListener::from_std(listener)?, files).await.context("serve packages")
}
