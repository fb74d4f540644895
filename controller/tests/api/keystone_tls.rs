//! A Keystone behind TLS, with a certificate of an authority of its own: believed where that is named, and otherwise
//! nobody is let in and the operator is told why.

use crate::keystone_server::{Keystone, password};
use crate::logs;
use crate::rig::{Rig, TOPOLOGIES};
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What speaks TLS in front of a Keystone.
struct Front {
    dir: TempDir,
    port: u16,
    task: JoinHandle<()>,
}

/// An authority, whose certificate is written to a file.
fn authority(file: PathBuf) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let made = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    std::fs::write(file, made.pem()).expect("written");
    made
}

impl Front {
    /// With a certificate for a name.
    async fn new(keystone: u16, name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = authority(dir.path().join("ca.pem"));
        authority(dir.path().join("other.pem"));
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &ca).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("a certificate");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // a client that does not believe us goes
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, keystone)).await.expect("Keystone");
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { dir, port, task }
    }

    /// A controller that asks it, with these certificates.
    async fn rig(&self, keystone: &Keystone, ca: &str) -> Rig {
        let plain = format!("url = {:?}\n", keystone.url());
        let tls = format!("url = 'https://127.0.0.1:{}/v3'\nca_file = {:?}\n", self.port, self.dir.path().join(ca));
        let settings = keystone.settings(1);
        assert!(settings.contains(&plain), "{settings}");
        Rig::start_with(&settings.replace(&plain, &tls)).await
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_keystone_behind_tls_is_believed_by_its_certificate_alone() {
    let test = "a_keystone_behind_tls_is_believed_by_its_certificate_alone";
    let Some(keystone) = Keystone::start(test).await else { return };
    let log_in = async |rig: &Rig| {
        let body = json!({ "user": "ann", "password": password("ann"), "tenant": "red" }).to_string().into_bytes();
        rig.raw(Method::POST, "/straas/v1.0/auth/tokens", &[], body).await
    };
    let look = async |rig: &Rig, token: &str| {
        let answer = rig.raw(Method::GET, TOPOLOGIES, &[("x-auth-token", token)], vec![]).await;
        if answer.status != 200 {
            answer.problem(answer.status);
        }
        answer.status
    };
    let front = Front::new(keystone.port(), "127.0.0.1").await;
    let rig = front.rig(&keystone, "ca.pem").await;
    let made = log_in(&rig).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!((look(&rig, &token).await, look(&rig, "no token").await), (200, 401));

    let stranger = Front::new(keystone.port(), "keystone.example.org").await;
    for (front, ca, words) in [
        (&front, "other.pem", "its certificate is checked against"),
        (&front, "absent.pem", "there is no"),
        (&stranger, "ca.pem", "its certificate is checked against"),
    ] {
        let rig = front.rig(&keystone, ca).await;
        let refused = log_in(&rig).await;
        refused.problem(503);
        assert!(!refused.text().contains(&front.port.to_string()), "{}", refused.text());
        assert_eq!((look(&rig, &token).await, look(&rig, "no token").await), (503, 503), "{ca}");
        let told = format!("{words} {} (ca_file)", front.dir.path().join(ca).display());
        assert!(logs::has(&told), "the log does not say: {told}");
        assert_eq!(look(&rig, &rig.token).await, 200, "who owns the controller gets in");
    }
    for secret in [token.as_str(), password("ann"), password("straas")] {
        assert!(!logs::has(secret), "a secret is in the log");
    }
}
