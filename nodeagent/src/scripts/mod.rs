//! The scripts of the fleet on this node: a bare git repository, releases checked out of it, and
//! an atomic switch between them.
//!
//! ```text
//! scripts/repo.git              everything fetched so far
//! scripts/releases/<commit>/    complete: synced before it got its name
//! scripts/current -> releases/<commit>
//! ```
//! What is there already is never fetched again, so activating a known commit needs no network.
//!
//! Never here: when to fetch (the converger), and running anything (`executor.rs`).

pub mod packs;
pub mod releases;

use crate::client::{Client, ClientError};
use std::path::{Path, PathBuf};
use straas_schemas::{Digest, NodeId};

/// Largest pack: scripts and Puppet modules are a few MiB.
pub const PACK_BYTES_MAX: u64 = 256 << 20;

/// Why a commit could not be activated.
#[derive(Debug, thiserror::Error)]
pub enum ScriptsError {
    /// The assignment names something that is no commit.
    #[error("{0:?} is not a commit id of 40 hex digits")]
    NotACommit(String),
    /// The controller did not give it.
    #[error("the pack could not be fetched: {0}")]
    Fetch(#[from] ClientError),
    /// The bytes are not what the controller meant to send.
    #[error("the pack is damaged: {0}")]
    Damaged(String),
    /// The pack does not hold all that the commit needs.
    #[error("the pack is incomplete: {0}")]
    Incomplete(String),
    /// The commit holds something that may not be checked out.
    #[error("the commit is refused: {0}")]
    Refused(String),
    /// git.
    #[error("git: {0}")]
    Git(#[from] git2::Error),
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The directory `scripts/`.
#[derive(Clone, Debug)]
pub struct Scripts {
    base: PathBuf,
}

impl Scripts {
    /// Scripts below this directory.
    #[must_use]
    pub fn at(base: PathBuf) -> Self {
        Self { base }
    }

    /// The active release, if there is one and it is whole.
    #[must_use]
    pub fn current(&self) -> Option<PathBuf> {
        std::fs::canonicalize(self.base.join("current")).ok().filter(|path| path.is_dir())
    }

    /// Makes `commit` the active release, fetching what is missing.
    ///
    /// # Errors
    /// See [`ScriptsError`]; then the release that was active stays active.
    pub async fn activate(&self, client: &Client, node: &NodeId, commit: &str) -> Result<(), ScriptsError> {
        if commit.len() != 40 || !commit.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ScriptsError::NotACommit(commit.into()));
        }
        if self.base.join("releases").join(commit).is_dir() {
            return releases::switch(&self.base, commit);
        }
        if !self.blocking(commit, |base, commit| Ok(packs::has(base, commit))).await? {
            let have = self.blocking(commit, |base, _| Ok(packs::have(base))).await?;
            if let Err(error) = self.fetch(client, node, commit, have.as_deref()).await {
                // a base that is not what both sides believe: once more, with everything
                let again = have.is_some() && !matches!(error, ScriptsError::Fetch(_) | ScriptsError::Refused(_));
                if !again {
                    return Err(error);
                }
                tracing::warn!(%error, commit, "an incremental pack cannot be used; everything is fetched");
                self.blocking(commit, |base, _| packs::wipe(base)).await?;
                self.fetch(client, node, commit, None).await?;
            }
        }
        self.blocking(commit, releases::check_out).await?;
        releases::switch(&self.base, commit)
    }

    async fn fetch(&self, client: &Client, node: &NodeId, want: &str, have: Option<&str>) -> Result<(), ScriptsError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ScriptsError::Io { path, source }
        };
        std::fs::create_dir_all(&self.base).map_err(io(&self.base))?;
        let pack = self.base.join("incoming.pack");
        let mut file = std::fs::File::create(&pack).map_err(io(&pack))?;
        let have = have.map(|have| format!("?have={have}")).unwrap_or_default();
        let path = format!("/agent/v1/nodes/{node}/packs/{want}{have}");
        let sum = client.download(&path, PACK_BYTES_MAX, &mut file).await?;
        drop(file);
        let sum = sum.ok_or_else(|| ScriptsError::Damaged("the answer has no x-straas-sha256".into()))?;
        let result = self.blocking(want, move |base, want| packs::index(base, want, &pack, &Digest(sum))).await;
        let _ = std::fs::remove_file(self.base.join("incoming.pack"));
        result
    }

    /// git and checkout read and write files; not on the thread that answers everybody.
    async fn blocking<T: Send + 'static>(
        &self,
        commit: &str,
        work: impl FnOnce(&Path, &str) -> Result<T, ScriptsError> + Send + 'static,
    ) -> Result<T, ScriptsError> {
        let (base, commit) = (self.base.clone(), commit.to_owned());
        match tokio::task::spawn_blocking(move || work(&base, &commit)).await {
            Ok(result) => result,
            Err(error) => Err(ScriptsError::Damaged(format!("the work on the repository broke off: {error}"))),
        }
    }
}
