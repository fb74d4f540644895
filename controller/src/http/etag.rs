//! ETags: what a reader has seen, and what a writer wants to find unchanged.
//!
//! ```text
//!  "51c2d0aa-0f3e…-….9b41d7c2"
//!   └ what is wanted, aspect by aspect   └ what is shown of it, but for what every heartbeat changes
//! ```
//! `If-None-Match` looks at the whole: a reader who asks again hears of every change that he can decide
//! upon. `If-Match` looks at what is wanted only: that a node became healthy meanwhile refuses nobody's
//! change. The aspects stand side by side, so that a refusal can name those that differ. They are digests
//! of what is recorded, made from the very record that a change is written over by compare-and-swap.
//!
//! All other answers of JSON have the digest of their bytes.

use super::conditions::tags;
use super::problem::ApiError;
use super::steady::steady;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use straas_schemas::{Digest, NodeId};
use straas_store::{CmsRecord, ComponentRecord, NodeRecord, PoolHost, TopologyRecord, UserRecord};

/// Hex digits of a digest: two values that differ have the same once in four billion.
const DIGITS: usize = 8;

/// What is wanted of a thing, aspect by aspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(Vec<(&'static str, String)>);

fn digest(value: &impl Serialize) -> String {
    shortened(&serde_json::to_vec(value).unwrap_or_default())
}

fn shortened(bytes: &[u8]) -> String {
    let mut text = Digest::sha256(bytes).0;
    text.truncate(DIGITS);
    text
}

impl Tag {
    /// Of a component.
    pub fn of_component(component: &ComponentRecord) -> Self {
        let (spec, want) = (&component.spec, &component.spec.want);
        Self(vec![
            ("version", digest(&want.version)),
            ("config", digest(&want.config)),
            ("scripts", digest(&want.scripts)),
            ("sizes", digest(&want.groups)),
            ("nodes", digest(&want.nodes)),
            ("dependencies", digest(&(&spec.depends_on, &spec.foreign))),
            ("removal", digest(&spec.removed)),
        ])
    }

    /// Of a node.
    pub fn of_node(component: &ComponentRecord, node: &NodeRecord) -> Self {
        let want = &component.spec.want;
        let own = want.nodes.get(&node.id).cloned().unwrap_or_default();
        let group = want.groups.iter().find(|group| group.name == node.group);
        let stays = group.is_some_and(|group| crate::wanted::ordinals(group).contains(&node.ordinal));
        Self(vec![
            ("version", digest(&want.version)),
            ("config", digest(&want.config)),
            ("scripts", digest(&own.scripts.as_ref().unwrap_or(&want.scripts))),
            ("services", digest(&(own.stopped, own.restarts))),
            ("host", digest(&own.replacements)),
            ("place", digest(&(stays && !component.spec.removed))),
        ])
    }

    /// Of a topology.
    pub fn of_topology(topology: &TopologyRecord, components: &[ComponentRecord]) -> Self {
        let ids: Vec<_> = components.iter().map(|component| &component.id).collect();
        let wanted: Vec<_> = components.iter().map(|component| Self::of_component(component).text()).collect();
        Self(vec![
            ("deletion", digest(&topology.deleting)),
            ("components", digest(&ids)),
            ("what is wanted of them", digest(&wanted)),
        ])
    }

    /// Of a user.
    pub fn of_user(user: &UserRecord) -> Self {
        Self(vec![("record", digest(&(user.created_ms, user.revision)))])
    }

    /// Of a host of the pool.
    pub fn of_host(host: &PoolHost) -> Self {
        let node = host.allotment.as_ref().map(|allotted| &allotted.node);
        Self(vec![
            ("cordon", digest(&host.cordoned)),
            ("node", digest(&node)),
            ("cleaning by hand", digest(&host.cleaned)),
        ])
    }

    /// Of a topology's model in the configuration management system, as it was written.
    pub fn of_cms(model: &CmsRecord) -> Self {
        Self(vec![("model", digest(&(&model.document, model.written_ms, &model.author)))])
    }

    fn text(&self) -> String {
        self.0.iter().map(|(_, digest)| digest.as_str()).collect::<Vec<_>>().join("-")
    }

    /// An answer that shows the thing.
    pub fn shows(&self, view: &impl Serialize) -> Response {
        answer(view, &format!("{}.", self.text()))
    }

    /// The aspects that an ETag has otherwise; all of it if it is of another kind.
    fn differing(&self, other: &str) -> String {
        let parts: Vec<&str> = other.split('-').collect();
        let named = self.0.iter().zip(&parts).filter(|((_, own), other)| own != *other);
        let names: Vec<&str> = named.map(|((name, _), _)| *name).collect();
        if parts.len() == self.0.len() { names.join(" and ") } else { "everything".to_owned() }
    }
}

/// An answer whose ETag leaves out what every heartbeat changes.
pub fn listing(view: &impl Serialize) -> Response {
    answer(view, "")
}

/// An answer that is serialised once: its ETag is made of the bytes that are sent.
fn answer(view: &impl Serialize, wanted: &str) -> Response {
    let bytes = match serde_json::to_vec(view) {
        Ok(bytes) => bytes,
        Err(error) => return ApiError::internal("an answer cannot be written", &error).into_response(),
    };
    let tag = format!("\"{wanted}{}\"", shortened(&steady(&bytes)));
    ([(header::ETAG, tag), (header::CONTENT_TYPE, "application/json".to_owned())], bytes).into_response()
}

/// `If-Match`: what a writer wants to find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IfMatch(Option<Vec<String>>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        tags(&parts.headers, &header::IF_MATCH).map(Self)
    }
}

impl IfMatch {
    /// The ETags of which one will do; none if any will.
    pub fn any_of(&self) -> Option<&[String]> {
        self.0.as_deref()
    }

    /// Whether something is asked for.
    pub fn is_asked(&self) -> bool {
        self.0.is_some()
    }

    /// Refuses unless the thing is wanted as it was seen.
    ///
    /// # Errors
    /// 412 with the ETag of now and what differs.
    pub fn check(&self, what: &str, now: &Tag) -> Result<(), ApiError> {
        let Some(given) = &self.0 else { return Ok(()) };
        let wanted = |tag: &String| tag.split('.').next().unwrap_or_default().to_owned();
        let text = now.text();
        if given.iter().map(wanted).any(|tag| tag == text) {
            return Ok(());
        }
        let differs = now.differing(&given.first().map(wanted).unwrap_or_default());
        let detail = format!("{what} is not as you saw it: {differs} changed since; read it again and decide anew");
        Err(ApiError::precondition_failed(&detail, &text))
    }

    /// As [`IfMatch::check`], for a node of a component.
    ///
    /// # Errors
    /// 412.
    pub fn check_node(
        &self,
        component: &ComponentRecord,
        node: Option<&NodeRecord>,
        id: &NodeId,
    ) -> Result<(), ApiError> {
        match node {
            Some(node) => self.check(&format!("node {}", node.name), &Tag::of_node(component, node)),
            None => Err(ApiError::not_found("node", id.as_str())),
        }
    }
}

/// Gives every answer to a reader an ETag, and 304 to who has it; refuses `If-Match` where the route has
/// nothing that it could match: what is asked for is never passed over.
///
/// # Errors
/// 400 for headers that cannot be read, 412.
pub async fn conditional(State(matches): State<bool>, request: Request, next: Next) -> Result<Response, ApiError> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && !matches && tags(request.headers(), &header::IF_MATCH)?.is_some() {
        let text = "what is changed here has no ETag that could be matched; leave If-Match out";
        return Err(ApiError::precondition_failed(text, ""));
    }
    let seen = if reads { tags(request.headers(), &header::IF_NONE_MATCH)? } else { None };
    let response = next.run(request).await;
    if !reads || response.status() != StatusCode::OK {
        return Ok(response);
    }
    let response = tagged(response).await;
    let Some(tag) = response.headers().get(header::ETAG).cloned() else { return Ok(response) };
    let known = |seen: &String| tag.to_str().is_ok_and(|tag| tag.trim_matches('"') == seen);
    if seen.is_some_and(|seen| seen.iter().any(known)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    Ok(response)
}

/// An answer of JSON with the digest of its bytes, if it has no ETag of its own.
async fn tagged(response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let (false, Some("application/json"), Some(size)) = (response.headers().contains_key(header::ETAG), kind, size)
    else {
        return response;
    };
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, size).await else { return ApiError::panicked().into_response() };
    let tag = Digest::sha256(&bytes).0;
    if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", &tag[..2 * DIGITS])) {
        parts.headers.insert(header::ETAG, value);
    }
    Response::from_parts(parts, Body::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a reader is shown is what the ETag is of, as JSON or as a type.
    #[test]
    fn an_answer_is_its_bytes_and_their_tag() {
        let tag = Tag(vec![("version", "11".to_owned())]);
        let of = |view: &serde_json::Value| tag.shows(view).headers()[header::ETAG].clone();
        let (one, two) = (json!({ "seen_ms": 1, "s": "up" }), json!({ "seen_ms": 2, "s": "up" }));
        assert_eq!(of(&one), of(&two));
        assert_ne!(of(&one), of(&json!({ "seen_ms": 1, "s": "down" })));
        assert!(of(&one).to_str().expect("text").starts_with("\"11."));
        assert_eq!(listing(&one).headers()[header::CONTENT_TYPE], "application/json");
    }

    #[test]
    fn a_refusal_names_what_differs() {
        let tag = |version: &str, size: &str| Tag(vec![("version", version.to_owned()), ("sizes", size.to_owned())]);
        let now = tag("11", "22");
        for (given, differs) in
            [("11-22.99", ""), ("10-22.99", "version"), ("10-20", "version and sizes"), ("abc", "everything")]
        {
            let found = now.differing(given.split('.').next().expect("a part"));
            assert_eq!(found, differs, "{given}");
            let checked = IfMatch(Some(vec![given.to_owned()])).check("it", &now);
            assert_eq!(checked.is_ok(), differs.is_empty(), "{given}");
        }
    }
}
