//! What a heartbeat costs at the least here: axum and rustls with mutual TLS, which take a body and answer 204.

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Serves until it is killed.
pub async fn serve(keys: &Path, port: u16) -> Result<()> {
    let read = |name: &str| std::fs::read(keys.join(name)).with_context(|| format!("read {name}"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.pem")?)?)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read("server.pem")?).collect();
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")?)?;
    let config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain?, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let taken = |body: Bytes| async move {
        // as the controller does first: it is what it says it is
        match serde_json::from_slice::<straas_schemas::heartbeat::Heartbeat>(&body) {
            Ok(_) => StatusCode::NO_CONTENT,
            Err(_) => StatusCode::BAD_REQUEST,
        }
    };
    let router = Router::new().fallback(post(taken));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let service = TowerToHyperService::new(router);
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
