//! What is done on a host when its node is taken away: `stop.sh`, then `remove.sh`, then whatever the agent itself put
//! there.
//!
//! The scripts are those that the node had last, and their context is its last assignment, both from the directory of the
//! node's agent. A node that never got an assignment has left nothing but that directory.

use crate::client::Client;
use crate::ledger::{Damaged, LedgerFile, lock};
use crate::scripts::Scripts;
use crate::stages::{self, Place};
use crate::{delivered, hosts, strays};
use std::path::Path;
use straas_schemas::{Assignment, NodeId, Outcome};
use tokio::sync::watch;

/// Stops what runs of a node: scripts that its agent left behind, and its service.
///
/// # Errors
/// It may still run; why, for people.
pub async fn stop(dir: &Path, node: &NodeId, attempt: u32) -> Result<(), String> {
    let assignment = last(dir)?;
    operate(dir, node, "stop", attempt, assignment.as_ref()).await
}

/// Removes everything that a node left.
///
/// # Errors
/// Something may be left; what, for people.
pub async fn remove(dir: &Path, node: &NodeId, client: &Client, attempt: u32) -> Result<(), String> {
    let assignment = last(dir)?;
    operate(dir, node, "remove", attempt, assignment.as_ref()).await?;
    // what is only removed needs nobody to ask for it
    delivered::ensure(client, node, dir, "", &[]).await.map_err(|error| error.to_string())?;
    hosts::ensure(Path::new(hosts::PATH), "", &Default::default()).map_err(|error| error.to_string())?;
    forget(dir)
}

/// Removes the directory of a node's agent, with its keys.
///
/// # Errors
/// In words.
pub fn forget(dir: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{} cannot be removed: {error}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The last assignment of a node's agent, which must have ended.
fn last(dir: &Path) -> Result<Option<Assignment>, String> {
    if !dir.join("ledger").exists() {
        return Ok(None);
    }
    let _lock = lock(dir).map_err(|error| error.to_string())?;
    let opened = LedgerFile::open(&dir.join("ledger"), Damaged::Refuse);
    let unknown = |error| format!("what the node was is not known any more ({error}): clean the host by hand");
    opened.map(|(_, ledger, _)| ledger.assignment).map_err(unknown)
}

async fn operate(
    dir: &Path,
    node: &NodeId,
    operation: &'static str,
    attempt: u32,
    assignment: Option<&Assignment>,
) -> Result<(), String> {
    // of the node's agent, or of a try of this that was broken off
    let _ = strays::leftovers(node.as_str());
    let Some(assignment) = assignment else { return Ok(()) };
    // without scripts nothing was ever run
    let Some(scripts) = Scripts::at(dir.join("scripts")).current() else { return Ok(()) };
    let place = Place { state_dir: dir.to_owned(), scripts, prefix: String::new(), node: node.to_string() };
    let (_kill, killed) = watch::channel(false);
    let result = stages::operate(&place, operation, attempt, assignment, killed, &|said| {
        if let Some(text) = &said.progress {
            tracing::info!(%node, operation, text, "progress");
        }
    })
    .await;
    match (result.outcome, result.hint) {
        (Outcome::Succeeded, _) => Ok(()),
        (_, Some(hint)) => Err(format!("{}; {hint}", result.reason)),
        (_, None) => Err(result.reason),
    }
}
