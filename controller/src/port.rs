//! A listening port: one task per connection, with limits on all that a stranger could hold.
//!
//! Both ports are served by the same loop, so that both have the same limits: connections at once,
//! time for the handshake, time for a request's head, time in which some of an answer is taken. When the controller stops, connections that
//! wait for a request end at once, open requests get a moment to end, and what is left then is cut
//! off: no peer, however slow, keeps the controller from stopping.

mod listen;
mod stall;

use crate::authority::Authorities;
use crate::stop::Stop;
use crate::tls::Peer;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
pub use listen::{Listen, Stream};
use stall::Stalling;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// A handshake that takes longer is given up: it holds a connection slot.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A stranger's next request must have begun and its head be whole within this time.
const STRANGER_IDLE: Duration = Duration::from_secs(10);
/// The same for an agent that showed a certificate: longer than the pause between two heartbeats or polls, or
/// each of them would cost a handshake.
pub const AGENT_IDLE: Duration = Duration::from_secs(120);
/// Connections at once. Each agent holds one or two.
const CONNECTIONS_MAX: usize = 16 * 1024;
/// Open requests get so long to end when the controller stops.
const DRAIN: Duration = Duration::from_secs(3);

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source(pub SocketAddr);

/// Who is let in, and to what.
#[derive(Clone)]
pub struct Door {
    /// Over TLS with certificates of these, if over any: those in force when a connection begins.
    pub tls: Option<Arc<Authorities>>,
    /// A request's head has to be whole within this time, also of the next one on a connection.
    pub idle: Duration,
    /// While there is something to send, some of it has to be taken within this time.
    pub stall: Duration,
    /// To these routes.
    pub router: Router,
}

/// What one connection needs.
#[derive(Clone)]
struct Desk {
    door: Door,
    stopping: Stop,
}

/// Serves what is behind a door on `listener` until `stopping` says so; then drains.
pub async fn serve<L: Listen>(mut listener: L, door: Door, mut stopping: Stop) {
    let desk = Desk { door, stopping: stopping.clone() };
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(&mut listener, &slots) => if let Some((tcp, address, slot)) = accepted {
                connections.spawn(connection(desk.clone(), tcp, address, graceful.watcher(), slot));
            },
            Some(_) = connections.join_next() => {}
            () = stopping.requested() => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "some requests did not end in time; they are cut off");
    }
    connections.shutdown().await;
}

async fn accept<L: Listen>(
    listener: &mut L,
    slots: &Arc<Semaphore>,
) -> Option<(L::Stream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((tcp, address)) => Some((tcp, address, slot)),
        Err(error) => {
            // out of file descriptors, mostly: wait for connections to end
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    mut desk: Desk,
    stream: impl Stream,
    address: SocketAddr,
    watcher: Watcher,
    _slot: OwnedSemaphorePermit,
) {
    stream.prepare();
    let stream = Stalling::new(stream, desk.door.stall);
    let Some(authorities) = desk.door.tls.take() else {
        return requests(stream, None, address, desk.door, watcher).await;
    };
    let Some(tls) = authorities.now().tls.clone() else { return };
    let handshake = tokio::select! {
        done = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls.server.clone()).accept(stream)) => done,
        () = desk.stopping.requested() => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%address, "handshake took too long"),
    };
    let peer = Peer { who: tls.who(stream.get_ref().1) };
    requests(stream, Some(peer), address, desk.door, watcher).await;
}

async fn requests<S>(stream: S, peer: Option<Peer>, address: SocketAddr, door: Door, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stranger = peer.as_ref().is_some_and(|peer| peer.who.is_none());
    let idle = if stranger { STRANGER_IDLE } else { door.idle };
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle);
    let service = TowerToHyperService::new(door.router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Source(address));
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        request
    }));
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%address, %error, "connection ended");
    }
}
