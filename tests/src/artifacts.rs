//! The programs under test: found beside the test's own binary, built if they are not there.
//!
//! Under cargo they are always brought up to date, since a stale agent in a test is a riddle. The
//! agent's Debian package is made by the same script as the one that is delivered.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// `straas-controller`
    pub controller: PathBuf,
    /// `straas-agent`
    pub agent: PathBuf,
    /// `straas`, the command line.
    pub cli: PathBuf,
    /// The agent's Debian package.
    pub agent_deb: PathBuf,
}

/// The programs of this build.
///
/// # Errors
/// They could not be built.
pub fn artifacts() -> Result<&'static Artifacts> {
    static FOUND: OnceLock<Result<Artifacts, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn find() -> Result<Artifacts> {
    // <target>/<profile>/deps/e2e-<hash>
    let own = std::env::current_exe()?;
    let dir = own.ancestors().nth(2).context("the test's binary is not in a target directory")?.to_owned();
    let (controller, agent, cli) = (dir.join("straas-controller"), dir.join("straas-agent"), dir.join("straas"));
    let under_cargo = std::env::var_os("CARGO").is_some();
    if under_cargo || ![&controller, &agent, &cli].into_iter().all(|program| program.exists()) {
        build(&dir, &["-p", "straas-controller", "-p", "straas-agent", "-p", "straas-cli"], profile(&dir))?;
    }
    let agent_deb = package(&agent, &dir.join("e2e"))?;
    Ok(Artifacts { controller, agent, cli, agent_deb })
}

/// An agent as it is delivered: small and stripped, in a package of its own.
///
/// # Errors
/// It could not be built.
pub fn delivered_agent() -> Result<Artifacts> {
    let found = artifacts()?;
    let dir = found.agent.parent().and_then(Path::parent).context("no target directory")?.join("agent");
    build(&dir, &["-p", "straas-agent"], "agent")?;
    let agent = dir.join("straas-agent");
    Ok(Artifacts { agent_deb: package(&agent, &dir.join("e2e"))?, agent, ..found.clone() })
}

fn profile(dir: &Path) -> &str {
    match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    }
}

fn build(dir: &Path, what: &[&str], profile: &str) -> Result<()> {
    let target = dir.parent().context("no target directory")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--profile", profile]).args(what).arg("--target-dir").arg(target);
    command.current_dir(workspace());
    // What cargo told this test about itself; some build scripts (ring's) would take it for a change
    // and have half of the workspace compiled again, now and at the next `cargo build`.
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (key, _) in std::env::vars_os().filter(|(key, _)| told.iter().any(|t| key.to_string_lossy().starts_with(t))) {
        command.env_remove(key);
    }
    let status = command.status().context("start cargo, to build what is tested")?;
    ensure!(status.success(), "cargo could not build {what:?} ({status}); see above");
    Ok(())
}

/// Makes the package anew if the agent is newer: each package costs an image layer.
fn package(agent: &Path, out: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(out)?;
    let of = |path: &Path| path.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let found =
        std::fs::read_dir(out)?.flatten().map(|entry| entry.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
    if let Some(deb) = found.filter(|deb| of(deb) > of(agent)) {
        return Ok(deb);
    }
    let script = workspace().join("packaging/debian/build-agent.sh");
    let made =
        Command::new(&script).arg(agent).arg(out).output().with_context(|| format!("start {}", script.display()))?;
    ensure!(made.status.success(), "{} failed: {}", script.display(), String::from_utf8_lossy(&made.stderr));
    let path = String::from_utf8_lossy(&made.stdout).lines().last().unwrap_or_default().trim().to_owned();
    std::path::absolute(path).context("where the agent's package is")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}
