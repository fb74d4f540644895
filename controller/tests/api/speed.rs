//! How fast polls and heartbeats are taken, next to a bare server with the same TLS in the same run.
//!
//! Not a check: it prints. `cargo test --release -p straas-controller --test api -- --ignored --nocapture speed`

use crate::agent::{Agent, connect, tls};
use crate::rig::Rig;
use crate::wire::request;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 16;
const FOR: Duration = Duration::from_secs(5);

/// Requests a second over connections that stay open.
async fn rate(
    agents: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
    path: &str,
    body: impl Fn(u64) -> Vec<u8>,
) -> f64 {
    let end = Instant::now() + FOR;
    let count = std::sync::atomic::AtomicU64::new(0);
    let one = async || {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(connect(agents, config).await.expect("connected"))).await.expect("http");
        tokio::spawn(connection);
        while Instant::now() < end {
            sender.ready().await.expect("ready");
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let answer = sender.send_request(request(Method::POST, path, &[], body(number))).await.expect("an answer");
            assert!(answer.status().is_success(), "{}", answer.status());
            answer.into_body().collect().await.expect("a body");
        }
    };
    futures_util::future::join_all((0..CONNECTIONS).map(|_| one())).await;
    count.into_inner() as f64 / FOR.as_secs_f64()
}

/// hyper and axum over rustls with a client certificate, and nothing behind it.
async fn bare(rig: &Rig) -> SocketAddr {
    let ca = rig.ca();
    let key = KeyOf::read(rig);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("pem")).expect("a root");
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(key.0, key.1)
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = axum::Router::new().route(
        "/",
        axum::routing::post(|body: axum::body::Bytes| async move {
            let _: serde_json::Value = serde_json::from_slice(&body).expect("json");
            "{}"
        }),
    );
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let _ = tcp.set_nodelay(true);
                let tls = acceptor.accept(tcp).await.expect("a handshake");
                let service = hyper_util::service::TowerToHyperService::new(router);
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
                let _ = server.serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    address
}

struct KeyOf(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl KeyOf {
    fn read(rig: &Rig) -> Self {
        let ca = std::fs::read_to_string(rig.data().join("ca/ca.key")).expect("a key");
        let issuer = rcgen::Issuer::from_ca_cert_pem(&rig.ca(), rcgen::KeyPair::from_pem(&ca).expect("a key"))
            .expect("an issuer");
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["straas-controller".to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        Self(
            vec![certificate.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("pem"),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn speed() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agent: Agent = rig.enrolled(&id, 1).await.remove(0);
    agent.poll(60_000).await;
    let config = tls(&rig.ca(), Some((&agent.certificate_pem, &agent.key_pem)));
    let bare = bare(&rig).await;
    let poll = serde_json::to_vec(&agent.poll_body(0)).expect("json");
    let beat = serde_json::to_value(agent.heartbeat_body()).expect("json");
    let beats = |number: u64| {
        let mut beat = beat.clone();
        beat["beat"] = (number + 10).into();
        beat.to_string().into_bytes()
    };
    for round in 1..=2 {
        let empty = rate(bare, &config, "/", |_| poll.clone()).await;
        let polls = rate(rig.agents, &config, &agent.path("poll"), |_| poll.clone()).await;
        let bare_beats = rate(bare, &config, "/", beats).await;
        let beats = rate(rig.agents, &config, &agent.path("heartbeat"), beats).await;
        println!(
            "round {round}: polls {polls:.0}/s, bare {empty:.0}/s, ratio {:.2}; heartbeats {beats:.0}/s, bare {bare_beats:.0}/s, ratio {:.2}",
            polls / empty,
            beats / bare_beats
        );
    }
}
