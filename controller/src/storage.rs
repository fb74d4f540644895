//! The storages there are, each with a name that requests use, and what of them is needed no more.
//!
//! Names of files are in the database, their content is kept by its hash (`drivers/blobs`). A file
//! that is removed or replaced leaves its content behind: nodes may have been promised it. A sweep
//! takes what neither a name nor a component needs.

use crate::error::chain;
use crate::http::problem::ApiError;
use crate::stop::Stop;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use straas_drivers::blobs::{BlobError, Blobs, Directory};
use straas_store::Store;

/// The name of the storage on this machine.
pub const LOCAL: &str = "local";
/// Between two sweeps. Content that is not needed harms nobody for so long.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Content that came less long ago is left alone: its name is about to be recorded.
const YOUNG: Duration = Duration::from_secs(3600);

/// A storage.
pub struct Storage {
    name: &'static str,
    /// Its content.
    pub blobs: Arc<dyn Blobs>,
    /// Where uploads are on their way.
    pub partial: PathBuf,
}

impl Storage {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// The storages there are.
pub struct Storages {
    all: Vec<Storage>,
    /// Uploads that are on their way.
    busy: Mutex<BTreeSet<PathBuf>>,
}

/// The turn of one request to write a file; it ends when this is dropped.
pub struct Turn<'a>(&'a Storages, PathBuf);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy().remove(&self.1);
    }
}

impl Storages {
    /// Those of a data directory, which has the folders `objects` and `objects/partial`.
    pub fn open(data_dir: &Path) -> Self {
        let dir = data_dir.join("objects");
        let local = Storage { name: LOCAL, partial: dir.join("partial"), blobs: Arc::new(Directory::new(dir)) };
        Self { all: vec![local], busy: Mutex::default() }
    }

    /// A turn to write an upload to this file, unless another request is at it.
    pub fn begin(&self, partial: &Path) -> Option<Turn<'_>> {
        self.busy().insert(partial.to_owned()).then(|| Turn(self, partial.to_owned()))
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The storage of a name, or the first if none is named.
    ///
    /// # Errors
    /// 422 at `pointer`.
    pub fn named(&self, name: Option<&str>, pointer: &str) -> Result<&Storage, ApiError> {
        let found = self.all.iter().find(|storage| name.is_none_or(|name| storage.name == name));
        found.ok_or_else(|| ApiError::invalid(pointer, &self.unknown(name.unwrap_or_default())))
    }

    /// The storage of a name in a path.
    ///
    /// # Errors
    /// 404.
    pub fn at(&self, name: &str) -> Result<&Storage, ApiError> {
        let found = self.all.iter().find(|storage| storage.name == name);
        found.ok_or_else(|| ApiError::absent(&self.unknown(name)))
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<_> = self.all.iter().map(|storage| storage.name).collect();
        format!("there is no storage {name:?}; there is {}", known.join(", "))
    }

    /// Removes content that is needed no more, and uploads that nobody goes on with; how many of both.
    ///
    /// # Errors
    /// The database or the disk; what was removed by then is gone.
    pub async fn sweep(&self, store: &dyn Store) -> anyhow::Result<usize> {
        let mut gone = 0;
        for storage in &self.all {
            // listed first: what is needed by a name that comes later was young then
            let kept = storage.blobs.list().await?;
            let needed = store.hashes_needed().await?;
            for (hash, age) in kept {
                if age > YOUNG && !needed.contains(&hash) {
                    storage.blobs.remove(&hash).await?;
                    gone += 1;
                }
            }
            gone += crate::uploads::tidy(&storage.partial).await;
        }
        Ok(gone)
    }
}

/// Sweeps from time to time until the controller stops.
pub async fn run(storages: Arc<Storages>, store: Arc<dyn Store>, mut stopping: Stop) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {}
            () = stopping.requested() => return,
        }
        match storages.sweep(&*store).await {
            Ok(0) => tracing::debug!("nothing to sweep in the storage"),
            Ok(gone) => tracing::info!(gone, "swept content that nothing needs any more"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot sweep the storage; tried again later"),
        }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        match &error {
            BlobError::Full { .. } => {
                tracing::error!(error = chain(&error), "the storage is full");
                Self::full("the storage has no room left; nothing was kept")
            }
            BlobError::Io { .. } => Self::internal("the storage failed", &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use straas_store::{Expected, MemoryStore, StorageStore as _, StoredFileRecord};

    #[tokio::test]
    async fn only_what_is_old_and_needed_by_nothing_is_swept() {
        let data = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(data.path().join("objects/partial")).expect("made");
        let storages = Storages::open(data.path());
        let store = MemoryStore::new();
        let (needed, young) = ("a".repeat(64), "b".repeat(64));
        for hash in [&needed, &young] {
            std::fs::write(data.path().join("objects").join(hash), "x").expect("written");
        }
        let file = StoredFileRecord {
            tenant: "red".into(),
            storage: LOCAL.into(),
            region: "az1".into(),
            path: "c/a".into(),
            size: 1,
            sha256: needed.clone(),
            created_ms: 1,
            author: "ann".into(),
        };
        store.put_file(&file, 10, &Expected::default()).await.expect("recorded");
        assert_eq!(storages.sweep(&store).await.expect("swept"), 0, "what came now is left alone");
        assert!(storages.at("nowhere").is_err() && storages.named(None, "/storage").is_ok());
    }
}
