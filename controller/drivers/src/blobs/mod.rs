//! Where the content of files is kept: by its SHA-256, never by a name.
//!
//! A name is the database's business; here the same content is the same blob, whoever uploaded it,
//! and what nodes were promised stays what it was when its name gets other content.
//!
//! Never here: who may read what, or which blobs are still needed.

mod directory;

pub use directory::Directory;

use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncRead;

/// Why content cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no room for it.
    #[error("no space is left for {path}")]
    Full {
        /// Where it was to be.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The disk.
    #[error("{what} {path}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

/// Content to be read, and how many bytes it has.
pub struct Blob {
    /// Its size in bytes.
    pub size: u64,
    /// Itself.
    pub content: Box<dyn AsyncRead + Send + Unpin>,
}

/// A place that keeps content.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// What it is, for people.
    fn kind(&self) -> &'static str;
    /// Takes over a file that was checked and synced; when this returns, the content is durable and
    /// the file is gone. Content that is there already stays.
    ///
    /// # Errors
    /// It cannot be kept; then the file is still there.
    async fn keep(&self, sha256: &str, from: &Path) -> Result<(), BlobError>;
    /// Opens content; `None` if there is none of this hash.
    ///
    /// # Errors
    /// It cannot be read.
    async fn open(&self, sha256: &str) -> Result<Option<Blob>, BlobError>;
    /// Every hash with how long ago its content was kept last.
    ///
    /// # Errors
    /// They cannot be listed.
    async fn list(&self) -> Result<Vec<(String, Duration)>, BlobError>;
    /// Forgets content; what is not there is no error.
    ///
    /// # Errors
    /// It cannot be removed.
    async fn remove(&self, sha256: &str) -> Result<(), BlobError>;
}
