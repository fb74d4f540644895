//! Requests that name themselves (`Idempotency-Key`): carried out once, and answered again as the first time.
//!
//! ```text
//!  a new name ──► carried out under a claim, which is renewed while that lasts ──► its answer is kept
//!  known name ──► the kept answer │ 409 while the first is being carried out │ 422 if it asked for something else
//! ```
//! Whatever such a request changes goes through [`store`]: what it made is noted in the transaction that
//! made it. Should the controller die before it answered, whoever asks again is told of what was
//! made; if nothing was, the request is carried out anew. A refusal has changed nothing and is not kept.
//!
//! An answer that holds a secret is kept sealed with the token of who asked; the database alone does
//! not open it. Never here: what a request does.

use super::audit::is_dry_run;
use super::auth::{Caller, Shown};
use super::extract::Body;
use super::problem::ApiError;
use super::seal::Seal;
use super::{commands, fleet, jobs, topologies};
use crate::app::App;
use crate::error::chain;
use axum::body::{Body as HttpBody, HttpBody as _};
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::{CommandId, Digest, JobId};
use straas_store::{Begun, RequestClaim, RequestKey, Store};
use tracing::Instrument as _;
use uuid::Uuid;

/// Longest `Idempotency-Key`.
pub const KEY_MAX: usize = 128;
/// Largest answer that is kept; one that is larger is made anew from what the request made.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// A claim lasts so long without being renewed: then its controller is taken for dead.
const CLAIM: Duration = Duration::from_secs(15);
/// It is renewed so often.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Headers of an answer that are kept with it.
const KEPT: [HeaderName; 4] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::CACHE_CONTROL];
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

tokio::task_local! {
    static CLAIMED: RequestClaim;
}

/// What a request made, for who has to answer it without having carried it out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Made {
    /// A job, which works on what has this id.
    Job { id: String, job: JobId },
    /// Another course of a job.
    Turn { job: JobId },
    /// A command, or another course of it.
    Command { id: CommandId },
    /// A batch, or another course of it.
    Batch { id: String },
    /// A rollout over the fleet.
    Rollout { id: String },
    /// Another course of a rollout over the fleet.
    RolloutTurn { id: String },
    /// Something that is read at this path.
    Thing { path: String },
}

/// The store for what this request changes.
pub fn store(app: &App, made: &Made) -> Arc<dyn Store> {
    CLAIMED.try_with(|claim| app.store.claimed(claim, &json!(made))).unwrap_or_else(|_| app.store.clone())
}

/// Whether what goes on is a request that names itself.
pub fn is_claimed() -> bool {
    CLAIMED.try_with(|_| ()).is_ok()
}

/// How a route's requests are told apart, and its answers kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its body is too large to be looked at twice: its query names the SHA-256.
    pub streamed: bool,
    /// Its answer holds a secret.
    pub secret: bool,
}

/// Carries a request out once, if it names itself.
///
/// # Errors
/// 409 while it is being carried out, 422 if its name was used for another, 400 for a bad name.
pub async fn by_key(
    State((app, traits)): State<(Arc<App>, Traits)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = request.extensions().get::<Caller>().cloned();
    let shown = request.extensions().get::<Shown>().cloned();
    let named = name(request.headers())?;
    let (Some(key), Some(caller), Some(shown), false) = (named, caller, shown, is_dry_run(request.uri())) else {
        return Ok(next.run(request).await);
    };
    let (request, digest) = digest(request, traits).await?;
    let asked = RequestKey { tenant: caller.tenant.clone(), key, digest };
    let claim = RequestClaim { tenant: asked.tenant.clone(), key: asked.key.clone(), id: Uuid::new_v4().to_string() };
    let seal = traits.secret.then(|| Seal::of(&shown.0, &asked.digest));
    let now = app.now_ms();
    match app.store.begin_request(&asked, &claim.id, now, until(now)).await? {
        Begun::New => {}
        Begun::Running { until_ms } => return Err(ApiError::in_progress(until_ms.saturating_sub(now))),
        Begun::Answered(text) => return again(&text, seal.as_ref()),
        Begun::Made(made) => return anew(&app, made).await,
        Begun::Other => return Err(ApiError::key_reused()),
        Begun::Full => return Err(ApiError::names_full()),
    }
    // what was asked for is done although the caller goes: he asks again and is answered
    let work = carry_out(app.clone(), claim, request, next, seal).in_current_span();
    app.tasks.spawn(work).await.map_err(|_| ApiError::panicked())
}

fn name(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_MAX).contains(&key.len()));
    let wrong = || ApiError::unreadable(format!("Idempotency-Key must be 1 to {KEY_MAX} printable ASCII characters"));
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

fn until(now_ms: i64) -> i64 {
    now_ms.saturating_add(i64::try_from(CLAIM.as_millis()).unwrap_or(i64::MAX))
}

/// What a request asks for; its body is read for that and put back.
async fn digest(request: Request, traits: Traits) -> Result<(Request, String), ApiError> {
    let uri = request.extensions().get::<axum::extract::OriginalUri>().map_or(request.uri(), |uri| &uri.0);
    let path = uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let method = request.method().to_string();
    if traits.streamed {
        let names = uri.query().is_some_and(|query| query.split('&').any(|part| part.starts_with("sha256=")));
        if !names {
            let text = "with Idempotency-Key, name the body's SHA-256 in the query, so that the same is known";
            return Err(ApiError::invalid("/sha256", text));
        }
        return Ok((request, Digest::of(&[&method, &path]).0));
    }
    let (parts, body) = request.into_parts();
    let Body(bytes) = Body::from_request(Request::from_parts(parts.clone(), body), &()).await?;
    let digest = Digest::of(&[&method, &path, Digest::sha256(&bytes).as_str()]).0;
    Ok((Request::from_parts(parts, HttpBody::from(bytes)), digest))
}

async fn carry_out(app: Arc<App>, claim: RequestClaim, request: Request, next: Next, seal: Option<Seal>) -> Response {
    let renewing = async {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            // one that is lost is found out by what is written under it
            if let Err(error) = app.store.renew_request(&claim, until(app.now_ms())).await {
                tracing::warn!(error = chain(&error), "the claim to a request is not renewed");
            }
        }
    };
    let answered = CLAIMED.scope(claim.clone(), next.run(request));
    let response = tokio::select! {
        response = answered => response,
        () = renewing => ApiError::panicked().into_response(),
    };
    let (response, kept) = keep(response, seal.as_ref()).await;
    if let Err(error) = app.store.end_request(&claim, kept.as_deref()).await {
        tracing::warn!(error = chain(&error), "an answer is not kept: whoever asks again is answered anew");
    }
    response
}

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// The answer, and what is kept of it.
async fn keep(response: Response, seal: Option<&Seal>) -> (Response, Option<String>) {
    let fits = response.body().size_hint().exact().is_some_and(|size| size <= ANSWER_BYTES_MAX);
    if !response.status().is_success() || !fits {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    let most = usize::try_from(ANSWER_BYTES_MAX).unwrap_or(usize::MAX);
    let Ok(bytes) = axum::body::to_bytes(body, most).await else {
        return (ApiError::panicked().into_response(), None);
    };
    let text = |name: &HeaderName| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned()));
    let body = match seal {
        Some(seal) => seal.close(&bytes),
        None => String::from_utf8(bytes.to_vec()).ok(),
    };
    let headers = KEPT.iter().filter_map(text).collect();
    let kept = body.map(|body| json!(Kept { status: parts.status.as_u16(), headers, body }).to_string());
    (Response::from_parts(parts, HttpBody::from(bytes)), kept)
}

/// A kept answer.
fn again(text: &str, seal: Option<&Seal>) -> Result<Response, ApiError> {
    let broken = || ApiError::conflict("this request was carried out, but its answer cannot be read any more");
    let Kept { status, headers, body } = serde_json::from_str(text).map_err(|_| broken())?;
    let sealed = || {
        let text = "this request was carried out; its answer holds a secret, which is shown again only to the very \
                    token that asked for it";
        ApiError::conflict(text)
    };
    let body = match seal {
        Some(seal) => seal.open(&body).ok_or_else(sealed)?,
        None => body.into_bytes(),
    };
    let status = StatusCode::from_u16(status).map_err(|_| broken())?;
    let mut response = (status, body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(replayed(response))
}

fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The answer to what was carried out and never answered, from what it made.
async fn anew(app: &App, made: Value) -> Result<Response, ApiError> {
    let gone = || ApiError::conflict("this request was carried out, but what it made is there no more");
    let made: Made = serde_json::from_value(made).map_err(|_| gone())?;
    let response = match made {
        Made::Job { id, job } => {
            let record = app.store.job(&job).await?.ok_or_else(gone)?;
            topologies::accepted_as(id, jobs::current(app, &record).await?)
        }
        Made::Turn { job } => {
            let record = app.store.job(&job).await?.ok_or_else(gone)?;
            axum::Json(jobs::current(app, &record).await?).into_response()
        }
        Made::Command { id } => {
            let record = app.store.command(&id).await?.ok_or_else(gone)?;
            commands::accepted(&format!("commands/{id}"), &commands::view(record, String::new()))
        }
        Made::Batch { id } => commands::batches::answer(app, &id).await?,
        Made::Rollout { id } => fleet::begun(app.store.rollout(&id).await?.ok_or_else(gone)?),
        Made::RolloutTurn { id } => fleet::shown(app.store.rollout(&id).await?.ok_or_else(gone)?).into_response(),
        Made::Thing { path } => {
            let text = format!("this request was carried out, but the controller died before it answered: see {path}");
            return Err(ApiError::conflict(&text));
        }
    };
    Ok(replayed(response))
}
