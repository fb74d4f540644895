//! Binary files in the storage: upload, list, read, delete.
//!
//! A file is its tenant's; nobody else sees that it is there. Uploads stream to disk. One whose
//! SHA-256 is named with the request can be gone on with after it broke off: `GET …/uploads/{sha256}`
//! tells how much is here, and the next request sends the rest with `offset`.

use super::audit;
use super::auth::Caller;
use super::expected::Upon;
use super::extract::{Path, Query};
use super::lists::{ListQuery, cut};
use super::once::{self, Made};
use super::problem::ApiError;
use crate::app::App;
use crate::storage::Storage;
use crate::uploads;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use straas_schemas::Digest;
use straas_schemas::storage::{StoredFile, UploadView, stored_path_fault};
use straas_schemas::topology::is_zone;
use straas_schemas::view::Page;
use straas_store::{StoreError, StoredFileFilter, StoredFileRecord};
use tokio_util::io::ReaderStream;

/// Query of an upload.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The body is what comes after so many bytes, which an earlier request sent.
    #[serde(default)]
    offset: u64,
    /// SHA-256 of the whole file in hex: one that arrives otherwise is refused, one that breaks off can
    /// be gone on with.
    #[serde(default)]
    sha256: Option<Digest>,
}

/// Query of what is below a path.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    #[schemars(range(min = 1, max = 500))]
    limit: Option<u32>,
    marker: Option<String>,
    /// The content of the file at this path, in the place of a list.
    #[serde(default)]
    content: bool,
}

type Place = Path<(String, String, String)>;

/// `POST /v1.0/storage/{storage}/regions/{region}/{path}`
pub async fn upload(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((storage, region, path)): Place,
    Query(query): Query<Upload>,
    upon: Upon,
    request: Request,
) -> Result<Response, ApiError> {
    let storage = app.storage.at(&storage)?;
    checked_place(&region, &path)?;
    let said = query.sha256.as_ref().map(|said| digest(said.as_str())).transpose()?;
    if query.offset > 0 && said.is_none() {
        return Err(ApiError::unreadable("offset needs sha256, the hash of the whole file"));
    }
    let limits = app.settings.common().storage;
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|size: u64| size.saturating_add(query.offset) > limits.file_bytes_max()) {
        return Err(ApiError::too_large());
    }
    if upon.is_asked() {
        upon.check(&path, there(&app, &caller, storage, &region, &path).await?.as_deref())?;
    }
    let partial = partial(storage, &caller, said.as_ref());
    let Some(_turn) = app.storage.begin(&partial) else {
        return Err(ApiError::conflict("this file is being uploaded by another request; wait for its end"));
    };
    let came = uploads::receive(&partial, query.offset, request.into_body(), limits.file_bytes_max()).await;
    let (sha256, size) = match came.and_then(|came| uploads::checked(came, said.as_ref())) {
        Ok(came) => came,
        Err(error) => {
            // only a part that broke off is of use: 400 and 408
            if said.is_none() || ![400, 408, 409].contains(&error.status().as_u16()) {
                let _ = tokio::fs::remove_file(&partial).await;
            }
            return Err(error);
        }
    };
    storage.blobs.keep(sha256.as_str(), &partial).await?;
    let record = StoredFileRecord {
        tenant: caller.tenant.clone(),
        storage: storage.name().to_owned(),
        region,
        path,
        size,
        sha256: sha256.to_string(),
        created_ms: app.now_ms(),
        author: caller.name.clone(),
    };
    let made = Made::Thing {
        path: format!("/straas/v1.0/storage/{}/regions/{}/{}", record.storage, record.region, record.path),
    };
    let new = match once::store(&app, &made).put_file(&record, limits.tenant_bytes_max(), &upon.0).await {
        Err(StoreError::Conflict { what: "quota", .. }) => {
            let text = format!(
                "your files would have more than the {} MiB that a tenant may have; delete some first",
                limits.tenant_mib_max
            );
            return Err(ApiError::conflict(&text));
        }
        done => as_expected(&app, &caller, storage, &record.region, &record.path, done).await?,
    };
    let view = view(record);
    audit::changed(format!("file {}", view.path), Value::Null, json!({ "sha256": view.sha256, "size": view.size }));
    tracing::info!(tenant = %caller.tenant, path = %view.path, size, "file is in the storage");
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, etag(view.sha256.as_str()))], Json(view)).into_response())
}

/// The SHA-256 of the caller's file of this name, if there is one.
async fn there(
    app: &App,
    caller: &Caller,
    storage: &Storage,
    region: &str,
    path: &str,
) -> Result<Option<String>, ApiError> {
    Ok(app.store.file(&caller.tenant, storage.name(), region, path).await?.map(|file| file.sha256))
}

/// What became of a change of a file: 412 with what is there if that is not what was expected.
async fn as_expected(
    app: &App,
    caller: &Caller,
    storage: &Storage,
    region: &str,
    path: &str,
    done: Result<bool, StoreError>,
) -> Result<bool, ApiError> {
    if let Err(StoreError::Conflict { what: "file", .. }) = done {
        return Err(Upon::refused(path, there(app, caller, storage, region, path).await?.as_deref()));
    }
    Ok(done?)
}

fn etag(sha256: &str) -> String {
    format!("\"{sha256}\"")
}

/// `GET /v1.0/storage/{storage}/uploads/{sha256}`: how much of an upload is here.
pub async fn uploaded(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((storage, sha256)): Path<(String, String)>,
) -> Result<Json<UploadView>, ApiError> {
    let storage = app.storage.at(&storage)?;
    let partial = partial(storage, &caller, Some(&digest(&sha256)?));
    let have = tokio::fs::metadata(&partial).await.map_or(0, |meta| meta.len());
    Ok(Json(UploadView { have }))
}

/// `GET /v1.0/storage/{storage}/regions/{region}`
pub async fn list_all(
    state: State<Arc<App>>,
    caller: Extension<Caller>,
    Path((storage, region)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Result<Response, ApiError> {
    let query = Listing { limit: query.limit, marker: query.marker, content: false };
    list(state, caller, Path((storage, region, String::new())), Query(query)).await
}

/// `GET /v1.0/storage/{storage}/regions/{region}/{path}`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((storage, region, path)): Place,
    Query(query): Query<Listing>,
) -> Result<Response, ApiError> {
    let storage = app.storage.at(&storage)?;
    if query.content {
        return content(&app, &caller, storage, &region, &path).await;
    }
    let page = ListQuery { limit: query.limit, marker: query.marker }.page();
    let filter = StoredFileFilter {
        tenant: caller.tenant.clone(),
        storage: storage.name().to_owned(),
        region,
        under: path.trim_end_matches('/').to_owned(),
    };
    let mut found: Vec<StoredFile> = app.store.files(&filter, &page).await?.into_iter().map(view).collect();
    let next = cut(&mut found, &page, |file| file.path.clone());
    Ok(Json(Page { items: found, next }).into_response())
}

async fn content(
    app: &App,
    caller: &Caller,
    storage: &Storage,
    region: &str,
    path: &str,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("file", path);
    let file = app.store.file(&caller.tenant, storage.name(), region, path).await?.ok_or_else(missing)?;
    let Some(blob) = storage.blobs.open(&file.sha256).await? else {
        let gone = std::io::Error::other(format!("blob {} of file {path}", file.sha256));
        return Err(ApiError::internal("the content of this file is not in the storage", &gone));
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, blob.size.to_string()),
        (header::ETAG, etag(&file.sha256)),
        (header::HeaderName::from_static("x-straas-sha256"), file.sha256),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(blob.content))).into_response())
}

/// `DELETE /v1.0/storage/{storage}/regions/{region}/{path}`
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((storage, region, path)): Place,
    upon: Upon,
) -> Result<StatusCode, ApiError> {
    let storage = app.storage.at(&storage)?;
    let done = app.store.remove_file(&caller.tenant, storage.name(), &region, &path, &upon.0).await;
    if !as_expected(&app, &caller, storage, &region, &path, done).await? {
        return Err(ApiError::not_found("file", &path));
    }
    audit::changed(format!("file {path}"), json!({ "path": path }), Value::Null);
    Ok(StatusCode::NO_CONTENT)
}

fn checked_place(region: &str, path: &str) -> Result<(), ApiError> {
    if !is_zone(region) {
        return Err(ApiError::unreadable(format!("{region:?} cannot be a region: use the name of a zone")));
    }
    stored_path_fault(path).map_or(Ok(()), |fault| Err(ApiError::unreadable(format!("the path {fault}"))))
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    let digest = Digest(text.to_owned());
    let wrong = || ApiError::unreadable("sha256 is 64 lower-case hex digits");
    digest.is_well_formed().then_some(digest).ok_or_else(wrong)
}

/// Where an upload is on its way: one that can be gone on with has a name of its own for its tenant,
/// so that nobody learns or spoils what another one sends.
fn partial(storage: &Storage, caller: &Caller, said: Option<&Digest>) -> PathBuf {
    let name = match said {
        Some(said) => Digest::of(&[&caller.tenant, said.as_str()]).to_string(),
        None => uuid::Uuid::new_v4().to_string(),
    };
    storage.partial.join(name)
}

fn view(record: StoredFileRecord) -> StoredFile {
    StoredFile {
        storage: record.storage,
        region: record.region,
        path: record.path,
        size: record.size,
        sha256: Digest(record.sha256),
        created_ms: record.created_ms,
        author: record.author,
    }
}
