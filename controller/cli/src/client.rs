//! Talks to the controller's API.

use crate::context::Context;
use crate::error::CliError;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use straas_schemas::problem::Problem;

/// A client of one controller.
pub struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    context: Context,
    token: Option<String>,
}

impl Client {
    /// A client for what the command line names.
    pub fn new(global: &crate::Global) -> Result<Self, CliError> {
        Self::with(Context::load(global))
    }

    /// A client for a context.
    pub fn with(context: Context) -> Result<Self, CliError> {
        let token = match &context.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.map_err(|e| CliError::Local(format!("cannot read the token file {}: {e}", path.display())))?.trim().to_owned())
            }
            None => None,
        };
        Ok(Self { http: HttpClient::builder(TokioExecutor::new()).build_http(), context, token })
    }

    /// Sends a request; an answer that is not a success becomes the problem it carries.
    pub async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response<Incoming>, CliError> {
        let mut request = Request::builder().method(method).uri(format!("{}/straas/v1.0{path}", self.context.endpoint));
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default().into()));
        let request = request.map_err(|e| CliError::Local(format!("{} is not a URL: {e}", self.context.endpoint)))?;
        let response = self.http.request(request).await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.read(response).await?;
        Err(CliError::Problem(serde_json::from_slice(&bytes).unwrap_or_else(|_| Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("error").into(),
            status: status.as_u16(),
            detail: String::from_utf8_lossy(&bytes).chars().take(300).collect(),
            errors: Vec::new(),
        })))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> CliError {
        let mut reason = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            reason = cause.to_string();
            next = cause.source();
        }
        CliError::Unreachable { endpoint: self.context.endpoint.clone(), reason }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, CliError> {
        Ok(response.into_body().collect().await.map_err(|e| self.unreachable(&e))?.to_bytes())
    }

    /// Sends a request and decodes the answer.
    pub async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<T, CliError> {
        let response = self.send(method, path, body).await?;
        let bytes = self.read(response).await?;
        serde_json::from_slice(&bytes).map_err(|e| CliError::Local(format!("the controller's answer cannot be read: {e}; is it of another version?")))
    }

    /// `GET`
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::GET, path, None).await
    }

    /// `POST`
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::Local(e.to_string()))?;
        self.call(Method::POST, path, Some(body)).await
    }

    /// `DELETE`
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::DELETE, path, None).await
    }

    /// Whether an error says that there is no such thing.
    pub fn is_missing(error: &CliError) -> bool {
        matches!(error, CliError::Problem(problem) if problem.status == StatusCode::NOT_FOUND.as_u16())
    }
}
