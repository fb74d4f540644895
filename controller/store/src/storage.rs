//! The storage's names: what is kept of files that tenants upload, and what the store promises.
//!
//! Never here: the content, which is kept by its hash outside of the database.

use crate::{PageRequest, Result};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// A file in the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFileRecord {
    /// Whose it is.
    pub tenant: String,
    /// Its storage.
    pub storage: String,
    /// Its region.
    pub region: String,
    /// Its path, `container/name`.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its content in hex.
    pub sha256: String,
    /// Unix ms.
    pub created_ms: i64,
    /// Who uploaded it.
    pub author: String,
}

/// Which files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFileFilter {
    /// Of this tenant.
    pub tenant: String,
    /// In this storage.
    pub storage: String,
    /// In this region.
    pub region: String,
    /// At this path or below it; all if empty.
    pub under: String,
}

/// What has to be at a name for a change of it; by default whatever there is. Content is told by its SHA-256 in hex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Anything.
    pub something: bool,
    /// Nothing.
    pub nothing: bool,
    /// One of these.
    pub one_of: Option<Vec<String>>,
    /// None of these.
    pub none_of: Vec<String>,
}

impl Expected {
    /// Whether what is there will do.
    #[must_use]
    pub fn admits(&self, there: Option<&str>) -> bool {
        let is = |of: &[String]| there.is_some_and(|there| of.iter().any(|one| one == there));
        let there_or_not = there.map_or(!self.something, |_| !self.nothing);
        there_or_not && self.one_of.as_deref().is_none_or(is) && !is(&self.none_of)
    }
}

/// What the store promises of the storage's names.
#[async_trait]
pub trait StorageStore: Send + Sync {
    /// Records a file in the place of the one with its name, if there is one; `true` if there was
    /// none. `Conflict` of a `file` if what is there is not as expected, of a `quota` if the tenant's files would have
    /// more than `bytes_max` in all.
    async fn put_file(&self, file: &StoredFileRecord, bytes_max: u64, expected: &Expected) -> Result<bool>;
    /// Forgets the file with this name; `false` if there is none, `Conflict` of a `file` if it is not as expected.
    async fn remove_file(
        &self,
        tenant: &str,
        storage: &str,
        region: &str,
        path: &str,
        expected: &Expected,
    ) -> Result<bool>;
    /// The file with this name.
    async fn file(&self, tenant: &str, storage: &str, region: &str, path: &str) -> Result<Option<StoredFileRecord>>;
    /// Files by path, after `page.after`.
    async fn files(&self, filter: &StoredFileFilter, page: &PageRequest) -> Result<Vec<StoredFileRecord>>;
    /// Bytes of all files of a tenant.
    async fn stored_bytes(&self, tenant: &str) -> Result<u64>;
    /// The hashes of all content that a file's name, a component's spec or a rollout that has not ended needs.
    async fn hashes_needed(&self) -> Result<BTreeSet<String>>;
}
