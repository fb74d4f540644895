//! OpenStack's Keystone, Identity API v3: passwords to tokens, tokens to people.
//!
//! Source: <https://docs.openstack.org/api-ref/identity/v3/>. Keystone answers a token it made in
//! the header `X-Subject-Token`; whoever asks about another's token shows one of his own, which here
//! is the service's, made from its password when it is needed and kept until it ends.
//!
//! Never here: caching of answers, and what a role may do.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Mutex;

/// A Keystone that has not answered within this time does not answer: a user waits for it.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest answer read: a token with its catalog of services.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A longer token was never Keystone's; what is in front of it would refuse the whole request.
const TOKEN_BYTES_MAX: usize = 4096;
/// Most tenants of a user that are listed.
const PROJECTS_MAX: usize = 1000;

/// Where Keystone is, and who asks it.
#[derive(Clone, Debug)]
pub struct KeystoneConfig {
    /// Its URL, ending with `/v3`.
    pub url: String,
    /// Certificates that its own is checked against, PEM.
    pub ca_file: PathBuf,
    /// The service's own user.
    pub user: String,
    /// File with his password.
    pub password_file: PathBuf,
    /// The project he works in, with a role that lets him validate tokens.
    pub project: String,
    /// The domain of users and projects.
    pub domain: String,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum KeystoneError {
    /// Name, password, token or project is not right.
    #[error("Keystone does not know this user, password, token or project")]
    Refused,
    /// It cannot be asked now.
    #[error("Keystone at {url} cannot be asked: {reason}")]
    Away {
        /// Its URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
}

type Result<T> = std::result::Result<T, KeystoneError>;

/// A token as Keystone describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeystoneToken {
    /// Its user.
    pub user: Named,
    /// The project it works in, if one was chosen.
    #[serde(default)]
    pub project: Option<Named>,
    /// The user's roles there.
    #[serde(default)]
    pub roles: Vec<Named>,
    /// RFC 3339.
    pub issued_at: String,
    /// RFC 3339.
    pub expires_at: String,
    /// Its ids; the first is the token's own.
    #[serde(default)]
    pub audit_ids: Vec<String>,
}

/// Something with an id and a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Named {
    /// Its id.
    #[serde(default)]
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A new token.
#[derive(Clone)]
pub struct IssuedToken {
    /// What to show.
    pub secret: String,
    /// What it is.
    pub token: KeystoneToken,
}

#[derive(Deserialize)]
struct Wrapped {
    token: KeystoneToken,
}

#[derive(Deserialize)]
struct Projects {
    projects: Vec<Named>,
}

/// A Keystone.
pub struct Keystone {
    config: KeystoneConfig,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The service's own token.
    own: Mutex<Option<String>>,
}

impl Keystone {
    /// One that is asked with these settings; nothing is asked yet.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn new(config: KeystoneConfig) -> Result<Self> {
        let http = Client::builder(TokioExecutor::new()).build(connector(&config.ca_file)?);
        let url = config.url.trim_end_matches('/').to_owned();
        Ok(Self { config: KeystoneConfig { url, ..config }, http, own: Mutex::new(None) })
    }

    /// A token for a password, in a project (by id or name) or without one.
    ///
    /// # Errors
    /// [`KeystoneError`].
    pub async fn log_in(&self, user: &str, password: &str, project: Option<&str>) -> Result<IssuedToken> {
        let domain = json!({ "name": self.config.domain });
        let user = json!({ "name": user, "domain": domain, "password": password });
        let by = json!({ "methods": ["password"], "password": { "user": user } });
        self.issue(by, project).await
    }

    /// A token in a project (by id or name) for another token of the same user.
    ///
    /// # Errors
    /// [`KeystoneError`].
    pub async fn choose(&self, token: &str, project: &str) -> Result<IssuedToken> {
        self.issue(json!({ "methods": ["token"], "token": { "id": token } }), Some(project)).await
    }

    /// The projects that the user of a token can choose.
    ///
    /// # Errors
    /// [`KeystoneError`].
    pub async fn projects(&self, token: &str) -> Result<Vec<Named>> {
        let (status, _, body) = self.ask(Method::GET, "/auth/projects", Some(token), None, None).await?;
        match status {
            StatusCode::OK => {
                let mut found = self.read::<Projects>(&body)?.projects;
                found.truncate(PROJECTS_MAX);
                Ok(found)
            }
            other => Err(self.refusal(other)),
        }
    }

    /// What a token is; `None` if Keystone does not know it (any more).
    ///
    /// # Errors
    /// [`KeystoneError::Away`], also where the service's own credentials are not accepted.
    pub async fn validate(&self, token: &str) -> Result<Option<KeystoneToken>> {
        if token.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        // this may take two tokens of the service's own and two questions: a user waits for all of it
        let found = tokio::time::timeout(ANSWER, self.look_up(token)).await;
        let (status, body) = found.map_err(|_| self.late())??;
        match status {
            StatusCode::OK => Ok(Some(self.read::<Wrapped>(&body)?.token)),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(self.away(format!("it answered {other} when it was asked what a token is"))),
        }
    }

    /// Ends a token by its own right, since ending others' takes more than the service needs otherwise;
    /// `false` if it was not known.
    ///
    /// # Errors
    /// [`KeystoneError`].
    pub async fn revoke(&self, token: &str) -> Result<bool> {
        let (status, ..) = self.ask(Method::DELETE, "/auth/tokens", Some(token), Some(token), None).await?;
        match status {
            StatusCode::NO_CONTENT => Ok(true),
            StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED => Ok(false),
            other => Err(self.away(format!("it answered {other} when it was asked to end a token"))),
        }
    }

    /// Asks about another's token with the service's own, which is made anew if it has ended.
    async fn look_up(&self, token: &str) -> Result<(StatusCode, Bytes)> {
        let mut ended = None;
        loop {
            let own = self.own(ended.as_deref()).await?;
            let asked = self.ask(Method::GET, "/auth/tokens?nocatalog", Some(&own), Some(token), None);
            let (status, _, body) = asked.await?;
            match status {
                StatusCode::UNAUTHORIZED if ended.is_none() => ended = Some(own),
                StatusCode::UNAUTHORIZED => {
                    return Err(self.away("it does not accept the service's own token".to_owned()));
                }
                status => return Ok((status, body)),
            }
        }
    }

    /// The service's own token, which is another one than that which has ended.
    async fn own(&self, ended: Option<&str>) -> Result<String> {
        let mut own = self.own.lock().await;
        // of many who met the ended one, the first makes a new one for all
        if let Some(token) = own.as_ref().filter(|token| ended != Some(token.as_str())) {
            return Ok(token.clone());
        }
        let path = &self.config.password_file;
        let password = tokio::fs::read_to_string(path).await;
        let password = password.map_err(|error| self.away(format!("cannot read {}: {error}", path.display())))?;
        let issued = self.log_in(&self.config.user, password.trim_end(), Some(&self.config.project)).await;
        let issued = issued.map_err(|error| match error {
            // who asks us is not to blame for that
            KeystoneError::Refused => self.away(format!(
                "it does not accept the service's user {} in project {} with the password in {}",
                self.config.user,
                self.config.project,
                path.display()
            )),
            other => other,
        })?;
        Ok(own.insert(issued.secret).clone())
    }

    async fn issue(&self, by: Value, project: Option<&str>) -> Result<IssuedToken> {
        let scope = match project {
            None => json!("unscoped"),
            // ids are 32 hex digits (UUIDs without dashes)
            Some(id) if id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()) => {
                json!({ "project": { "id": id } })
            }
            Some(name) => json!({ "project": { "name": name, "domain": { "name": self.config.domain } } }),
        };
        let body = json!({ "auth": { "identity": by, "scope": scope } });
        let (status, secret, body) = self.ask(Method::POST, "/auth/tokens?nocatalog", None, None, Some(&body)).await?;
        if status != StatusCode::CREATED {
            return Err(self.refusal(status));
        }
        let secret = secret.ok_or_else(|| self.away("it made a token and did not tell it".to_owned()))?;
        Ok(IssuedToken { secret, token: self.read::<Wrapped>(&body)?.token })
    }

    fn refusal(&self, status: StatusCode) -> KeystoneError {
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                KeystoneError::Refused
            }
            other => self.away(format!("it answered {other}")),
        }
    }

    fn away(&self, reason: String) -> KeystoneError {
        KeystoneError::Away { url: self.config.url.clone(), reason }
    }

    fn read<'b, T: Deserialize<'b>>(&self, body: &'b [u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|error| self.away(format!("its answer cannot be read: {error}")))
    }

    /// Status, `X-Subject-Token` and body of an answer.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        subject: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Option<String>, Bytes)> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.config.url));
        for (name, value) in [("x-auth-token", token), ("x-subject-token", subject)] {
            let Some(value) = value else { continue };
            // what cannot stand in a header was no token of Keystone's
            let mut value = HeaderValue::from_str(value).map_err(|_| KeystoneError::Refused)?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.header("content-type", "application/json").header("accept", "application/json");
        let request = request.body(Full::new(bytes)).map_err(|error| self.away(error.to_string()))?;
        let answer = async {
            let answer = self.http.request(request).await.map_err(|error| self.away(self.reason(&error)))?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.away(error.to_string()))?.to_bytes();
            let secret = parts.headers.get("x-subject-token").and_then(|value| value.to_str().ok()).map(str::to_owned);
            Ok((parts.status, secret, body))
        };
        tokio::time::timeout(ANSWER, answer).await.map_err(|_| self.late())?
    }

    /// Why it was not reached; who sees that a certificate is not believed is told what it is checked against.
    fn reason(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let (text, file) = (chain(error), &self.config.ca_file);
        match (is_certificate(error), file.exists()) {
            (false, _) => text,
            (true, true) => format!("{text}; its certificate is checked against {} (ca_file)", file.display()),
            (true, false) => format!("{text}; there is no {} (ca_file) to check it against", file.display()),
        }
    }

    fn late(&self) -> KeystoneError {
        self.away(format!("no answer within {} s", ANSWER.as_secs()))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Whether a certificate is the cause.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // what an error of IO carries is not its source
    let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    carried.is_some_and(|inner| is_certificate(inner)) || error.source().is_some_and(is_certificate)
}

fn connector(ca_file: &Path) -> Result<HttpsConnector<HttpConnector>> {
    let settings = |what: String| KeystoneError::Settings(what);
    let mut roots = rustls::RootCertStore::empty();
    // without the file only plain http works, which then says so
    if ca_file.exists() {
        let unreadable = |error| settings(format!("cannot read the certificates in {}: {error}", ca_file.display()));
        for certificate in CertificateDer::pem_file_iter(ca_file).map_err(unreadable)? {
            // one odd root among many is no reason to trust none
            let _ = roots.add(certificate.map_err(unreadable)?);
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| settings(error.to_string()))?.with_root_certificates(roots).with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build())
}
