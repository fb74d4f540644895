//! Hosts of the pool: they join, renew their certificate, and ask what they are wanted for.
//!
//! A poll is held until there is something that the host does not know. What it is told was written before, so that
//! whoever takes a node away from it knows that only its own word tells whether it runs something of that node. The token
//! with which the node's agent enrols is made when it is told, and kept nowhere.

use super::enrol::{check_csr, printable};
use super::{check_trusts, is_due, named, note_shown, shown, who};
use crate::app::App;
use crate::authority::{Issued, issue};
use crate::ca::key_of;
use crate::http::extract::Json;
use crate::http::problem::ApiError;
use crate::pool::standing::{noted, told, wish};
use crate::secrets;
use crate::tasks::hosts::METRICS_PORT;
use crate::tls::{Identity, Who};
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::HostId;
use straas_schemas::enrol::RenewRequest;
use straas_schemas::ids::is_id;
use straas_schemas::poll::POLL_WAIT_MS_MAX;
use straas_schemas::pool::{
    Allotment, HOST_NAME_MAX, HostCertificate, HostPollAnswer, HostPollRequest, HostWish, JoinRequest, REASON_MAX,
};
use straas_store::{AgentId, JoinOutcome, Joining, PoolHost, StoreError};
use uuid::Uuid;

/// The join token of a node lives so long: its agent is started at once.
const TOKEN_LIFE_MS: i64 = 10 * 60 * 1000;
/// Longest word that a host says of itself.
const WORD_MAX: usize = 128;
/// A host that was changed meanwhile is looked at anew so often.
const TRIES_MAX: u32 = 16;

/// The host named in the path, which is the one that asks, and its record.
pub struct OwnHost(Identity<HostId>, PoolHost);

impl FromRequestParts<Arc<App>> for OwnHost {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let named = named(parts, app).await;
        let identity = match who(parts) {
            Some(Who::Host(identity)) => Some(identity),
            _ => None,
        };
        let checked = stands(app, &named, identity).await;
        if checked.is_err() {
            app.metrics.refused();
        }
        checked.map(|(identity, host)| Self(identity, host))
    }
}

async fn stands(
    app: &App,
    named: &str,
    identity: Option<Identity<HostId>>,
) -> Result<(Identity<HostId>, PoolHost), ApiError> {
    let identity = shown(app, named, "host", identity)?;
    let host = read(app, &identity).await?;
    Ok((identity, host))
}

/// The record of a host, if this is its newest identity.
pub(super) async fn read(app: &App, identity: &Identity<HostId>) -> Result<PoolHost, ApiError> {
    let host = app.store.pool_host(&identity.id).await?;
    let host = host.ok_or_else(|| ApiError::unauthorized("there is no such host in the pool any more"))?;
    if host.incarnation != identity.incarnation {
        let text = format!(
            "this certificate is from when the host joined for the {}. time; it has joined {} times",
            identity.incarnation, host.incarnation
        );
        return Err(ApiError::unauthorized(&text));
    }
    Ok(host)
}

/// `POST /agent/v1/hosts`
pub async fn join(
    State(app): State<Arc<App>>,
    Json(request): Json<JoinRequest>,
) -> Result<(StatusCode, Json<HostCertificate>), ApiError> {
    check_csr(&request.csr_pem)?;
    // the request is tried before the token is spent: a bad one must not cost the host its token
    let key = key_of(&request.csr_pem)?;
    let name = printable(&request.hostname, HOST_NAME_MAX);
    let joining = Joining {
        hash: secrets::hash(&request.token),
        key: key.0,
        id: Uuid::now_v7().to_string().into(),
        name: name.clone(),
        now_ms: app.now_ms(),
    };
    let refusal = match app.store.join_pool(&joining).await? {
        JoinOutcome::Joined { host, incarnation } => {
            tracing::info!(%host, name, incarnation, "host joined the pool");
            app.pool.wake(&host);
            app.metrics.enrolled();
            return certificate(&app, &request.csr_pem, host, incarnation)
                .await
                .map(|c| (StatusCode::CREATED, Json(c)));
        }
        JoinOutcome::Unknown => "the join token is not one of this pool's",
        JoinOutcome::Used => "as many hosts joined with this token as may; make another one",
        JoinOutcome::Expired => "the join token has expired; make another one",
    };
    app.metrics.refused();
    tracing::warn!(hostname = name, refusal, "joining refused");
    Err(ApiError::unauthorized(refusal))
}

/// `POST /agent/v1/hosts/{id}/renew`
pub async fn renew(
    State(app): State<Arc<App>>,
    OwnHost(identity, _): OwnHost,
    Json(request): Json<RenewRequest>,
) -> Result<Json<HostCertificate>, ApiError> {
    check_csr(&request.csr_pem)?;
    certificate(&app, &request.csr_pem, identity.id, identity.incarnation).await.map(Json)
}

pub(super) async fn certificate(
    app: &App,
    csr_pem: &str,
    host: HostId,
    incarnation: u64,
) -> Result<HostCertificate, ApiError> {
    let Issued { certificate, .. } = issue(app, csr_pem, &AgentId::Host(host.clone()), incarnation).await?;
    Ok(HostCertificate { host, incarnation, certificate_pem: certificate.pem, not_after_ms: certificate.not_after_ms })
}

/// `POST /agent/v1/hosts/{id}/poll`
pub async fn poll(
    State(app): State<Arc<App>>,
    OwnHost(identity, host): OwnHost,
    Json(mut request): Json<HostPollRequest>,
) -> Result<Json<HostPollAnswer>, ApiError> {
    check(&request)?;
    let trusts = request.trusts.as_deref();
    check_trusts(trusts)?;
    note_shown(&app, AgentId::Host(identity.id.clone()), &identity, trusts);
    shorten(&mut request);
    app.pool.seen(&identity.id);
    // before it is read: what changes from here on is seen
    let mut watch = app.pool.watch(&identity.id);
    let mut host = note(&app, &identity, &request, host).await?;
    let wait = Duration::from_millis(u64::from(request.wait_ms.min(POLL_WAIT_MS_MAX)));
    let mut over = std::pin::pin!(tokio::time::sleep(wait));
    let mut stopping = app.stopping.clone();
    loop {
        let (wish, in_force) = (wish(&host), app.authorities.now());
        let trust_pem = in_force.tells(request.trusts.as_deref());
        if request.knows.as_ref() != Some(&wish) || request.wants_token || trust_pem.is_some() {
            let renew = is_due(&in_force, &identity, app.now_ms());
            return tell(&app, &identity, &request, host, wish)
                .await
                .map(|answer| Json(HostPollAnswer { renew, trust_pem, ..answer }));
        }
        tokio::select! {
            _ = watch.changed() => host = read(&app, &identity).await?,
            () = &mut over => break,
            () = stopping.requested() => break,
        }
    }
    app.pool.seen(&identity.id);
    let in_force = app.authorities.now();
    let (renew, trust_pem) = (is_due(&in_force, &identity, app.now_ms()), in_force.tells(request.trusts.as_deref()));
    Ok(Json(HostPollAnswer { wish: request.knows.unwrap_or_default(), allotment: None, renew, trust_pem }))
}

/// What a host says, in the limits of what is kept.
fn check(request: &HostPollRequest) -> Result<(), ApiError> {
    let nodes = [
        ("/holds", request.holds.as_ref()),
        ("/released", request.released.as_ref()),
        ("/cleaning/node", request.cleaning.as_ref().map(|cleaning| &cleaning.node)),
    ];
    for (field, node) in nodes {
        if node.is_some_and(|node| !is_id(node.as_str())) {
            return Err(ApiError::invalid(field, "is not the id of a node"));
        }
    }
    let address = &request.facts.address;
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(ApiError::invalid("/facts/address", "is not an IP address"));
    }
    Ok(())
}

fn shorten(request: &mut HostPollRequest) {
    let short = |text: &mut String, most: usize| *text = printable(text, most);
    short(&mut request.hostname, HOST_NAME_MAX);
    short(&mut request.facts.os, WORD_MAX);
    short(&mut request.facts.agent_version, WORD_MAX);
    if let Some(reason) = request.cleaning.as_mut().and_then(|cleaning| cleaning.reason.as_mut()) {
        short(reason, REASON_MAX);
    }
}

/// Notes what a host says; its record.
async fn note(
    app: &App,
    identity: &Identity<HostId>,
    request: &HostPollRequest,
    mut host: PoolHost,
) -> Result<PoolHost, ApiError> {
    for _ in 0..TRIES_MAX {
        let Some(noted) = noted(&host, request, identity.incarnation, app.now_ms()) else { return Ok(host) };
        if app.pool.change(&*app.store, &noted).await? {
            if host.holds != noted.holds {
                let (had, holds) = (host.holds.as_ref().map(ToString::to_string), noted.holds.as_ref());
                tracing::info!(host = noted.name, id = %noted.id, had, holds = holds.map(ToString::to_string), "host of the pool");
            }
            return read(app, identity).await;
        }
        host = read(app, identity).await?;
    }
    Err(ApiError::unavailable("the host's record is being changed by others; ask again"))
}

/// Tells a host what it does not know, after writing that it was told.
async fn tell(
    app: &App,
    identity: &Identity<HostId>,
    request: &HostPollRequest,
    mut host: PoolHost,
    mut wish: HostWish,
) -> Result<HostPollAnswer, ApiError> {
    for _ in 0..TRIES_MAX {
        let Some(told) = told(&host, identity.incarnation) else { break };
        if app.pool.change(&*app.store, &told).await? {
            host = told;
            break;
        }
        host = read(app, identity).await?;
        wish = crate::pool::standing::wish(&host);
    }
    let to_have = host
        .allotment
        .as_ref()
        .filter(|allotted| allotted.told && (request.wants_token || request.holds.as_ref() != Some(&allotted.node)));
    let Some(allotted) = to_have else {
        return Ok(HostPollAnswer { wish, allotment: None, renew: false, trust_pem: None });
    };
    let join_token = secrets::new_token();
    let (node, name) = (allotted.node.clone(), allotted.name.clone());
    match app.store.add_join_token(&secrets::hash(&join_token), &node, app.now_ms() + TOKEN_LIFE_MS).await {
        Ok(()) => {}
        // the node is gone; whoever removes its hosts takes it away from this one
        Err(StoreError::NotFound { .. }) => return Err(ApiError::conflict("the node is being removed; ask again")),
        Err(error) => return Err(error.into()),
    }
    let metrics_listen = format!("0.0.0.0:{METRICS_PORT}");
    let allotment = Some(Allotment { node, name, join_token, metrics_listen });
    Ok(HostPollAnswer { wish, allotment, renew: false, trust_pem: None })
}
