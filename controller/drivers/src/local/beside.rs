//! Enters a host from beside the controller that owns it: for people who want to look inside.
//!
//! It reads what the driver recorded and takes no lock, since the controller holds it. It changes
//! nothing and never tells whether the host is wanted.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::HostError;
use crate::local::record::HostDir;
use crate::local::{micro, process, registry};

/// A command that a person started ends after an hour.
const SECONDS_MAX: u64 = 3600;

/// The command that runs `argv` inside the host called `wanted` (its name or id) of the instance
/// whose state directory this is.
pub fn command(state_dir: &Path, wanted: &str, argv: &[&str]) -> Result<Command, HostError> {
    let missing = || HostError::NotFound(wanted.to_owned());
    let entries = std::fs::read_dir(state_dir.join("hosts")).map_err(|_| missing())?;
    for entry in entries.flatten() {
        let dir = HostDir(entry.path());
        let Ok(Some(record)) = dir.record() else { continue };
        if record.id != wanted && record.name != wanted {
            continue;
        }
        if dir.upper().is_dir() {
            let run = registry::running(&dir).ok_or_else(|| HostError::Down(wanted.to_owned()))?;
            return Ok(micro::exec_command(run.pid, argv, Duration::from_secs(SECONDS_MAX)));
        }
        return Ok(process::exec_command(&dir, argv));
    }
    Err(missing())
}
