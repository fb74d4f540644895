//! From a backup to a controller that can be started.
//!
//! Agents may have been told more than the backup knows, and take no generation that is not newer. So every assignment gets
//! a number that is higher than any that can have been given since, with the same content: nothing is run again because of
//! that, and agents tell once more what became of their stages, since the backup may not know. What was wanted after the backup is forgotten; nodes go back to what was wanted then.

use super::{DATABASE, FORMAT, Listed, MANIFEST, Manifest, Say, files};
use crate::clock::now_ms;
use crate::config::Config;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Component, Path};
use straas_schemas::assignment::GENERATION_LEAP;
use straas_store::{Source, SqlStore, copy_store};

/// Stands in a data directory that is only partly restored; no controller starts there.
pub(crate) const UNFINISHED: &str = "restore.unfinished";
/// Stands in a data directory that was restored, until a person removes it: no host is taken for one that belongs to nobody.
pub(crate) const RESTORED: &str = "restored";
/// What it says.
const RESTORED_SAYS: &str = "This controller was put back from a backup. Hosts that belong to no node it knows may have been \
    made after that backup, and are left as they are while this file is here. Remove it to have them removed.\n";
/// Most files that are named in one error.
const NAMED_MAX: usize = 10;
/// What may be in the data directory: hosts on this machine, which outlive a controller.
const MAY_STAY: &str = "hosts";

/// Puts a backup back: into the data directory of a configuration, which has to be empty but for hosts on this machine,
/// and into its database, which has to be empty.
///
/// # Errors
/// The backup is not whole: nothing is changed then. Something is there already. The disk, or the database: then the data
/// directory says that it is not finished.
pub async fn restore(config: &Config, from: &Path, say: Say<'_>) -> Result<()> {
    let listed = checked(from)?;
    say(&format!("{}: {} files are as they were written", from.display(), listed.len()));
    let dir = &config.data_dir;
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let name = entry?.file_name();
        ensure!(name == MAY_STAY, "{} is not empty (it has {}): move it away", dir.display(), name.display());
    }
    files::mark(&dir.join(UNFINISHED), b"empty this folder, but for hosts, and restore again\n")?;
    for name in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let name = name?.file_name();
        if name != MANIFEST {
            files::copy(&from.join(&name), &dir.join(&name))?;
        }
    }
    for was in &listed {
        ensure!(files::list(dir, was.path.clone())? == *was, "{} was not copied as it is", was.path.display());
    }
    let database = dir.join(DATABASE);
    let url = format!("sqlite:{}", database.display());
    let tables = copy_store(&url, &config.store_url(), Source::Stay, |_| {}).await.context("fill the database")?;
    say(&format!("the database: {}", super::counted(&tables)));
    let raised = raise_generations(&config.store_url()).await?;
    say(&format!("{raised} assignments have a number that is newer than any that was given since"));
    for end in ["", ".lock", "-wal", "-shm"] {
        files::remove_if_there(&dir.join(format!("{DATABASE}{end}")))?;
    }
    files::mark(&dir.join(RESTORED), RESTORED_SAYS.as_bytes())?;
    files::remove_if_there(&dir.join(UNFINISHED))?;
    files::sync(dir)?;
    say(&format!("restored; the controller can be started. {}", RESTORED_SAYS.trim_end()));
    Ok(())
}

/// The files of a backup, each found to be as it was written.
fn checked(from: &Path) -> Result<Vec<Listed>> {
    let path = from.join(MANIFEST);
    let text =
        fs::read(&path).with_context(|| format!("read {}: without it this is no whole backup", path.display()))?;
    let manifest: Manifest = serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    ensure!(manifest.format == FORMAT, "the backup has format {}, this version reads {FORMAT}", manifest.format);
    let mut damaged = Vec::new();
    for listed in &manifest.files {
        let inside = listed.path.components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(inside, "{} names a file that is not in it: {}", path.display(), listed.path.display());
        match files::list(from, listed.path.clone()) {
            Ok(found) if found == *listed => {}
            Ok(_) => damaged.push(format!("{} is another", listed.path.display())),
            Err(error) => damaged.push(format!("{error:#}")),
        }
    }
    if damaged.is_empty() {
        return Ok(manifest.files);
    }
    let more = damaged.len().saturating_sub(NAMED_MAX);
    damaged.truncate(NAMED_MAX);
    bail!("the backup is damaged, and nothing was changed: {}; {more} more", damaged.join("; "))
}

/// Gives every assignment a higher number; how many there are.
async fn raise_generations(url: &str) -> Result<usize> {
    let store = SqlStore::connect(url).await.context("open the database")?;
    let raised = store.raise_generations(GENERATION_LEAP, now_ms()).await?;
    store.close().await;
    Ok(raised)
}
