//! One connection of an agent: HTTP/1.1 over mutual TLS, made when it is needed.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use straas_agent::client::SERVER_NAME;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

/// A request that has no answer by then has none: a poll is held a minute at most.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// TLS towards the holder of a certificate of this authority, with a certificate of one's own or without.
pub fn tls(roots: &Arc<RootCertStore>, own: Option<(&str, &str)>) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder().with_root_certificates(roots.clone());
    let mut config = match own {
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
            builder.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
        }
        None => builder.with_no_client_auth(),
    };
    // of one server; the default keeps room for 256 of them in every agent
    config.resumption = Resumption::in_memory_sessions(2);
    Ok(Arc::new(config))
}

/// The certificates of an authority.
pub fn roots(pem: &str) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
    Ok(Arc::new(roots))
}

/// See the module.
pub struct Link {
    to: SocketAddr,
    tls: Arc<ClientConfig>,
    open: Option<(SendRequest<Full<Bytes>>, AbortHandle)>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Link {
    pub fn new(to: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        Self { to, tls, open: None }
    }

    /// Where it goes.
    pub const fn to(&self) -> SocketAddr {
        self.to
    }

    /// How.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    /// Ends the connection, as a network does it: without a word.
    pub fn cut(&mut self) {
        if let Some((_, connection)) = self.open.take() {
            connection.abort();
        }
    }

    async fn opened(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        if self.open.as_ref().is_none_or(|(sender, _)| sender.is_closed()) {
            let tcp = TcpStream::connect(self.to).await?;
            tcp.set_nodelay(true)?;
            let stream = TlsConnector::from(self.tls.clone()).connect(ServerName::try_from(SERVER_NAME)?, tcp).await?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            let running = tokio::spawn(async move { drop(connection.await) });
            self.open = Some((sender, running.abort_handle()));
        }
        let (sender, _) = self.open.as_mut().context("just opened")?;
        Ok(sender)
    }

    /// Posts JSON; the body of the answer.
    pub async fn post(&mut self, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes)> {
        let asked = async {
            let sender = self.opened().await?;
            sender.ready().await?;
            let request = Request::builder().method(Method::POST).uri(path).header("host", SERVER_NAME);
            let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body)))?;
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok::<_, anyhow::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        let answer = match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {} s", ANSWER_MAX.as_secs()),
        };
        if answer.is_err() {
            self.cut();
        }
        answer
    }
}
