//! The storage's names in memory.

use super::{MemoryStore, conflict, most};
use crate::{Expected, PageRequest, Result, RolloutRecord, StorageStore, StoredFileFilter, StoredFileRecord};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// Tenant, storage, region, path.
pub(super) type Name = (String, String, String, String);

fn name(tenant: &str, storage: &str, region: &str, path: &str) -> Name {
    (tenant.to_owned(), storage.to_owned(), region.to_owned(), path.to_owned())
}

#[async_trait]
impl StorageStore for MemoryStore {
    async fn put_file(&self, file: &StoredFileRecord, bytes_max: u64, expected: &Expected) -> Result<bool> {
        let files = &mut self.tables().files;
        let name = name(&file.tenant, &file.storage, &file.region, &file.path);
        if !expected.admits(files.get(&name).map(|kept| kept.sha256.as_str())) {
            return Err(conflict("file", &file.path));
        }
        let others = files.iter().filter(|(other, kept)| kept.tenant == file.tenant && **other != name);
        if others.map(|(_, kept)| kept.size).sum::<u64>() + file.size > bytes_max {
            return Err(conflict("quota", &file.tenant));
        }
        Ok(files.insert(name, file.clone()).is_none())
    }

    async fn remove_file(
        &self,
        tenant: &str,
        storage: &str,
        region: &str,
        path: &str,
        expected: &Expected,
    ) -> Result<bool> {
        let files = &mut self.tables().files;
        let name = name(tenant, storage, region, path);
        if files.get(&name).is_some_and(|kept| !expected.admits(Some(&kept.sha256))) {
            return Err(conflict("file", path));
        }
        Ok(files.remove(&name).is_some())
    }

    async fn file(&self, tenant: &str, storage: &str, region: &str, path: &str) -> Result<Option<StoredFileRecord>> {
        Ok(self.tables().files.get(&name(tenant, storage, region, path)).cloned())
    }

    async fn files(&self, filter: &StoredFileFilter, page: &PageRequest) -> Result<Vec<StoredFileRecord>> {
        let after = page.after.as_deref().unwrap_or("");
        let wanted = |file: &&StoredFileRecord| {
            let below = || file.path.strip_prefix(&filter.under).is_some_and(|rest| rest.starts_with('/'));
            (&file.tenant, &file.storage, &file.region) == (&filter.tenant, &filter.storage, &filter.region)
                && file.path.as_str() > after
                && (filter.under.is_empty() || file.path == filter.under || below())
        };
        Ok(self.tables().files.values().filter(wanted).take(most(page.limit)).cloned().collect())
    }

    async fn stored_bytes(&self, tenant: &str) -> Result<u64> {
        Ok(self.tables().files.values().filter(|file| file.tenant == tenant).map(|file| file.size).sum())
    }

    async fn hashes_needed(&self) -> Result<BTreeSet<String>> {
        let tables = self.tables();
        let stored = tables.files.values().map(|file| file.sha256.clone());
        let of_specs = tables.components.values().flat_map(|record| record.spec.hashes()).map(str::to_owned);
        let open = tables.rollouts.values().filter(|rollout| rollout.ended_ms.is_none());
        let of_rollouts = open.flat_map(RolloutRecord::hashes).map(str::to_owned);
        Ok(stored.chain(of_specs).chain(of_rollouts).collect())
    }
}
