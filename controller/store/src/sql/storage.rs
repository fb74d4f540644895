//! The storage's names in SQL.
//!
//! A tenant's row of `stored_tenant` is locked first: his uploads and removals come one after the
//! other, so that his limit holds for all of them together.

use super::SqlStore;
use super::error::Fail;
use super::rows::{ComponentRow, count, from_text, int, key};
use crate::input::clean;
use crate::{
    ComponentRecord, Expected, PAGE_MAX, PageRequest, Result, RolloutMember, RolloutRecord, StorageStore, StoreError,
    StoredFileFilter, StoredFileRecord,
};
use async_trait::async_trait;
use sqlx::{FromRow, query, query_as, query_scalar};
use std::borrow::Cow;
use std::collections::BTreeSet;

macro_rules! file_columns {
    ($rest:literal) => {
        concat!("select tenant, storage, region, path, size, sha256, created_ms, author from stored_file ", $rest)
    };
}

statements! {
    TENANT = "insert into stored_tenant (tenant, bytes) values ($1, 0) on conflict (tenant) do nothing";
    LOCK = "update stored_tenant set bytes = bytes where tenant = $1 returning bytes";
    BYTES = "select bytes from stored_tenant where tenant = $1";
    SET_BYTES = "update stored_tenant set bytes = $2 where tenant = $1";
    KEPT = "select size, sha256 from stored_file where tenant = $1 and storage = $2 and region = $3 and path = $4";
    PUT = "insert into stored_file (tenant, storage, region, path, size, sha256, created_ms, author)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict (tenant, storage, region, path) do update set size = excluded.size, sha256 = excluded.sha256,
            created_ms = excluded.created_ms, author = excluded.author";
    REMOVE = "delete from stored_file where tenant = $1 and storage = $2 and region = $3 and path = $4";
    GET = file_columns!("where tenant = $1 and storage = $2 and region = $3 and path = $4");
    // '0' comes right after '/': what is below a path is between the two
    LIST = file_columns!(
        "where tenant = $1 and storage = $2 and region = $3 and path > $4
            and ($5 = '' or path = $5 or (path > $6 and path < $7)) order by path limit $8"
    );
    STORED_HASHES = "select distinct sha256 from stored_file";
    SPECS_WITH_FILES = "select id, topology, name, ordinal, revision, spec from component where spec like '%\"sha256\"%'";
    OPEN_ROLLOUTS = "select document from rollout where ended_ms is null and document like '%\"sha256\"%'";
    OPEN_MEMBERS = "select document from rollout_member where is_open = 1 and document like '%\"sha256\"%'";
}

/// Tenant, storage, region and path: what a file is called.
struct Name<'a>(Cow<'a, str>, Cow<'a, str>, Cow<'a, str>, Cow<'a, str>);

impl<'a> Name<'a> {
    fn of(tenant: &'a str, storage: &'a str, region: &'a str, path: &'a str) -> Self {
        Self(key(tenant), key(storage), key(region), key(path))
    }
}

/// A query with a name in its first four places; a macro, since its type differs per engine.
macro_rules! named {
    ($query:expr, $name:ident) => {
        $query.bind(&*$name.0).bind(&*$name.1).bind(&*$name.2).bind(&*$name.3)
    };
}

/// What is compared and counted of a file.
#[derive(FromRow)]
struct Kept {
    size: i64,
    sha256: String,
}

#[derive(FromRow)]
struct Row {
    tenant: String,
    storage: String,
    region: String,
    path: String,
    size: i64,
    sha256: String,
    created_ms: i64,
    author: String,
}

impl TryFrom<Row> for StoredFileRecord {
    type Error = Fail;
    fn try_from(row: Row) -> Result<Self, Fail> {
        Ok(Self {
            tenant: row.tenant,
            storage: row.storage,
            region: row.region,
            path: row.path,
            size: count(row.size)?,
            sha256: row.sha256,
            created_ms: row.created_ms,
            author: row.author,
        })
    }
}

#[async_trait]
impl StorageStore for SqlStore {
    async fn put_file(&self, file: &StoredFileRecord, bytes_max: u64, expected: &Expected) -> Result<bool> {
        let name = Name::of(&file.tenant, &file.storage, &file.region, &file.path);
        writing!(self, "recording a file of the storage", |tx, on| {
            query(on(&TENANT)).bind(&*name.0).execute(&mut *tx).await?;
            let bytes: i64 = query_scalar(on(&LOCK)).bind(&*name.0).fetch_one(&mut *tx).await?;
            let before: Option<Kept> = named!(query_as(on(&KEPT)), name).fetch_optional(&mut *tx).await?;
            if !expected.admits(before.as_ref().map(|kept| kept.sha256.as_str())) {
                return Err(StoreError::Conflict { what: "file", id: file.path.clone() }.into());
            }
            let bytes = bytes.saturating_sub(before.as_ref().map_or(0, |kept| kept.size));
            let bytes = bytes.saturating_add(int(file.size)?);
            if bytes > i64::try_from(bytes_max).unwrap_or(i64::MAX) {
                return Err(StoreError::Conflict { what: "quota", id: file.tenant.clone() }.into());
            }
            named!(query(on(&PUT)), name)
                .bind(int(file.size)?)
                .bind(key(&file.sha256))
                .bind(file.created_ms)
                .bind(clean(&file.author))
                .execute(&mut *tx)
                .await?;
            query(on(&SET_BYTES)).bind(&*name.0).bind(bytes).execute(&mut *tx).await?;
            before.is_none()
        })
    }

    async fn remove_file(
        &self,
        tenant: &str,
        storage: &str,
        region: &str,
        path: &str,
        expected: &Expected,
    ) -> Result<bool> {
        let name = Name::of(tenant, storage, region, path);
        writing!(self, "forgetting a file of the storage", |tx, on| {
            let bytes: Option<i64> = query_scalar(on(&LOCK)).bind(&*name.0).fetch_optional(&mut *tx).await?;
            let kept: Option<Kept> = named!(query_as(on(&KEPT)), name).fetch_optional(&mut *tx).await?;
            let (Some(bytes), Some(kept)) = (bytes, kept) else { return Ok(false) };
            if !expected.admits(Some(&kept.sha256)) {
                return Err(StoreError::Conflict { what: "file", id: path.to_owned() }.into());
            }
            named!(query(on(&REMOVE)), name).execute(&mut *tx).await?;
            query(on(&SET_BYTES)).bind(&*name.0).bind(bytes.saturating_sub(kept.size)).execute(&mut *tx).await?;
            true
        })
    }

    async fn file(&self, tenant: &str, storage: &str, region: &str, path: &str) -> Result<Option<StoredFileRecord>> {
        let name = Name::of(tenant, storage, region, path);
        reading!(self, "reading a file of the storage", |tx, on| {
            let row: Option<Row> = named!(query_as(on(&GET)), name).fetch_optional(&mut *tx).await?;
            row.map(StoredFileRecord::try_from).transpose()?
        })
    }

    async fn files(&self, filter: &StoredFileFilter, page: &PageRequest) -> Result<Vec<StoredFileRecord>> {
        let under = key(&filter.under);
        let found: Vec<Row> = asking!(self, "listing files of the storage", |pool, on| query_as(on(&LIST))
            .bind(key(&filter.tenant))
            .bind(key(&filter.storage))
            .bind(key(&filter.region))
            .bind(key(page.after.as_deref().unwrap_or("")))
            .bind(&*under)
            .bind(format!("{under}/"))
            .bind(format!("{under}0"))
            .bind(i64::from(page.limit.min(PAGE_MAX)))
            .fetch_all(pool))?;
        super::rows::all(found).map_err(|fail: Fail| fail.into_error("listing files of the storage"))
    }

    async fn stored_bytes(&self, tenant: &str) -> Result<u64> {
        let bytes: Option<i64> = asking!(self, "counting a tenant's bytes", |pool, on| query_scalar(on(&BYTES))
            .bind(key(tenant))
            .fetch_optional(pool))?;
        Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
    }

    async fn hashes_needed(&self) -> Result<BTreeSet<String>> {
        reading!(self, "finding out what content is needed", |tx, on| {
            let stored: Vec<String> = query_scalar(on(&STORED_HASHES)).fetch_all(&mut *tx).await?;
            let specs: Vec<ComponentRow> = query_as(on(&SPECS_WITH_FILES)).fetch_all(&mut *tx).await?;
            let specs: Vec<ComponentRecord> = super::rows::all(specs)?;
            let of_specs = specs.iter().flat_map(|record| record.spec.hashes()).map(str::to_owned);
            let heads: Vec<String> = query_scalar(on(&OPEN_ROLLOUTS)).fetch_all(&mut *tx).await?;
            let heads = heads.iter().map(|text| from_text(|| "a rollout".to_owned(), text));
            let heads = heads.collect::<Result<Vec<RolloutRecord>, Fail>>()?;
            let members: Vec<String> = query_scalar(on(&OPEN_MEMBERS)).fetch_all(&mut *tx).await?;
            let members = members.iter().map(|text| from_text(|| "a member of a rollout".to_owned(), text));
            let members = members.collect::<Result<Vec<RolloutMember>, Fail>>()?;
            let builds = heads.into_iter().filter_map(|head| head.build);
            let builds = builds.chain(members.into_iter().filter_map(|member| member.before_build));
            let of_rollouts = builds.map(|build| build.sha256.to_string());
            stored.into_iter().chain(of_specs).chain(of_rollouts).collect()
        })
    }
}
