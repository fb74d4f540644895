//! Backup, restore, and the move to another database: what a person does beside a controller or without one.
//!
//! ```text
//!  backup/  store.sqlite          the database at one moment, whatever the engine
//!           ca/ secrets.key ...   what of the data directory cannot be made again
//!           config.git scripts.git
//!           backup.json           last: every file with its size and SHA-256. Without it there is no backup
//! ```
//! The database comes first and what it refers to after it: commits and contents only come, so whatever the database names is
//! there. A backup holds every secret that the controller has; nobody but its owner may look at it.
//!
//! Never here: hosts, nor anything of what runs on them; packs and files that are on their way, which are made anew.

mod files;
mod restore;

pub use restore::restore;
pub(crate) use restore::{RESTORED, UNFINISHED};

use crate::clock::now_ms;
use crate::config::Config;
use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use straas_store::{CopiedTable, Source, copy_store, reopen_store};

/// The list of what is in a backup.
const MANIFEST: &str = "backup.json";
/// The database in it.
const DATABASE: &str = "store.sqlite";
/// The repositories.
const REPOSITORIES: [&str; 2] = ["config.git", "scripts.git"];
/// What else of the data directory is kept.
const KEPT: [&str; 7] = ["ca", "admin.token", "secrets.key", "secrets.key.next", "files", "uploads", "objects"];
/// How a backup is laid out; another number is another way.
const FORMAT: u32 = 1;

/// What tells a person how far it is.
pub type Say<'a> = &'a mut dyn FnMut(&str);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// The version of the program that made it.
    version: String,
    /// When, Unix ms.
    at_ms: i64,
    files: Vec<Listed>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    path: PathBuf,
    size: u64,
    mode: u32,
    sha256: String,
}

/// Writes a backup into a folder that is not there yet, while the controller may go on.
///
/// # Errors
/// The folder is there; the database or the disk. What was written by then is no backup: it has no list.
pub async fn backup(config: &Config, to: &Path, say: Say<'_>) -> Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(to);
    made.with_context(|| format!("make {}: the folder has to be a new one", to.display()))?;
    let url = format!("sqlite:{}", to.join(DATABASE).display());
    let tables = copy_store(&config.store_url(), &url, Source::Stay, |_| {}).await.context("copy the database")?;
    say(&format!("the database: {}", counted(&tables)));
    files::remove_if_there(&to.join(format!("{DATABASE}.lock")))?;
    for name in REPOSITORIES {
        straas_repos::copy_repository(&config.data_dir.join(name), &to.join(name))?;
        say(name);
    }
    for name in KEPT {
        if files::copy(&config.data_dir.join(name), &to.join(name))? {
            say(name);
        }
    }
    let files = files::listed(to)?;
    let (count, bytes) = (files.len(), files.iter().map(|file| file.size).sum::<u64>());
    let manifest = Manifest { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), at_ms: now_ms(), files };
    files::mark(&to.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
    say(&format!("{}: {count} files, {bytes} bytes", to.display()));
    Ok(())
}

/// Moves everything from the database of one configuration to that of another; with `look` it only says what it would do.
///
/// # Errors
/// As of [`copy_store`].
pub async fn migrate_store(from: &Config, to: &Config, look: bool, say: Say<'_>) -> Result<()> {
    ensure!(from.store_url() != to.store_url(), "both configurations name the same database ([store] url)");
    let source = if look { Source::Look } else { Source::Close };
    let mut told = |table: &CopiedTable| say(&format!("{:>9} rows  {}", table.rows, table.name));
    let tables = copy_store(&from.store_url(), &to.store_url(), source, &mut told).await?;
    say(&match look {
        true => format!("would copy {}; nothing was changed", counted(&tables)),
        false => format!("copied and compared {}; the old database takes no writes any more", counted(&tables)),
    });
    Ok(())
}

/// Lets the database of a configuration, which was moved, be written again.
///
/// # Errors
/// It was not moved, or cannot be reached.
pub async fn reopen(config: &Config) -> Result<()> {
    let moved = reopen_store(&config.store_url()).await?;
    ensure!(moved, "the database of [store] url was not moved: nothing to do");
    Ok(())
}

fn counted(tables: &[CopiedTable]) -> String {
    format!("{} tables with {} rows", tables.len(), tables.iter().map(|table| table.rows).sum::<u64>())
}
