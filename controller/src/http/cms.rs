//! The model of a topology in the configuration management system: made, read, synced, removed.
//!
//! The model is kept here and read through the API by whatever manages configuration items. It is
//! what stood there when it was last written; `in_sync` tells whether that is so still.

use super::audit;
use super::auth::Caller;
use super::etag::{IfMatch, Tag};
use super::extract::Path;
use super::once::{self, Made};
use super::problem::ApiError;
use super::topologies::{own, view};
use crate::app::App;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use straas_schemas::TopologyId;
use straas_schemas::cms::{CmsComponent, CmsModel, CmsNode, CmsView};
use straas_schemas::view::{ComponentView, NodeView, TopologyView};
use straas_store::{CmsRecord, StoreError};

/// Most differences that are told.
const DIFFERS_MAX: usize = 50;

type Parts = (State<Arc<App>>, Extension<Caller>, Path<String>);

/// `POST /v1.0/topologies/{id}/cms`
pub async fn create((State(app), Extension(caller), Path(id)): Parts) -> Result<Response, ApiError> {
    let record = made(&app, &caller, &id).await?;
    let made = Made::Thing { path: format!("/straas/v1.0/topologies/{id}/cms") };
    match once::store(&app, &made).create_cms(&record).await {
        Err(StoreError::Duplicate { .. }) => Err(ApiError::conflict("it has a model already; PUT syncs it")),
        Err(error) => Err(error.into()),
        Ok(()) => {
            audit::changed(format!("cms model of {id}"), Value::Null, record.document.clone());
            let mut response = shown(&record, &record.document)?;
            *response.status_mut() = StatusCode::CREATED;
            Ok(response)
        }
    }
}

/// `GET /v1.0/topologies/{id}/cms`
pub async fn show((State(app), Extension(caller), Path(id)): Parts) -> Result<Response, ApiError> {
    let now = made(&app, &caller, &id).await?;
    let kept = app.store.cms(&now.topology).await?.ok_or_else(none)?;
    shown(&kept, &now.document)
}

/// `PUT /v1.0/topologies/{id}/cms`
pub async fn sync((State(app), Extension(caller), Path(id)): Parts, if_match: IfMatch) -> Result<Response, ApiError> {
    let now = made(&app, &caller, &id).await?;
    let before = as_seen(&app, &if_match, &now.topology).await?;
    match app.store.sync_cms(&now, if_match.is_asked().then_some(&before)).await {
        Err(StoreError::NotFound { .. }) => return Err(none()),
        other => overtaken(&app, &if_match, &now.topology, other).await?,
    }
    audit::changed(format!("cms model of {id}"), before.document, now.document.clone());
    shown(&now, &now.document)
}

/// `DELETE /v1.0/topologies/{id}/cms`
pub async fn remove(
    (State(app), Extension(caller), Path(id)): Parts,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let topology = own(&app, &caller, &id).await?;
    let before = as_seen(&app, &if_match, &topology.id).await?;
    let removed = app.store.remove_cms(&topology.id, if_match.is_asked().then_some(&before)).await;
    if !overtaken(&app, &if_match, &topology.id, removed).await? {
        return Err(none());
    }
    audit::changed(format!("cms model of {id}"), json!({ "there": true }), Value::Null);
    Ok(StatusCode::NO_CONTENT)
}

/// The model there is, if it is as its caller saw it.
async fn as_seen(app: &App, if_match: &IfMatch, topology: &TopologyId) -> Result<CmsRecord, ApiError> {
    let kept = app.store.cms(topology).await?.ok_or_else(none)?;
    if_match.check("the model", &Tag::of_cms(&kept))?;
    Ok(kept)
}

/// What became of a change of the model: 412 if somebody else was faster.
async fn overtaken<T>(
    app: &App,
    if_match: &IfMatch,
    topology: &TopologyId,
    done: Result<T, StoreError>,
) -> Result<T, ApiError> {
    if let Err(StoreError::Conflict { what: "model", .. }) = done {
        as_seen(app, if_match, topology).await?;
    }
    Ok(done?)
}

fn none() -> ApiError {
    ApiError::absent("it has no model; POST makes one")
}

/// The model as the topology is now.
async fn made(app: &App, caller: &Caller, id: &str) -> Result<CmsRecord, ApiError> {
    let missing = || ApiError::not_found("topology", id);
    let topology = own(app, caller, id).await?;
    let view = view(app, &topology.id).await?.ok_or_else(missing)?;
    Ok(CmsRecord {
        topology: topology.id,
        document: json!(model(view)),
        written_ms: app.now_ms(),
        author: caller.name.clone(),
    })
}

fn model(view: TopologyView) -> CmsModel {
    let node = |node: NodeView| CmsNode { id: node.id, name: node.name, role: node.role, address: node.address };
    let component = |component: ComponentView| CmsComponent {
        id: component.id,
        name: component.name,
        kind: component.kind,
        version: component.version,
        depends_on: component.depends_on,
        nodes: component.nodes.into_iter().map(node).collect(),
    };
    CmsModel {
        id: view.id,
        name: view.name,
        availability_zone: view.availability_zone,
        tenant: view.tenant,
        components: view.components.into_iter().map(component).collect(),
    }
}

fn shown(kept: &CmsRecord, now: &Value) -> Result<Response, ApiError> {
    let mut differs = Vec::new();
    differing(&kept.document, now, "", &mut differs);
    let model = serde_json::from_value(kept.document.clone());
    let model = model.map_err(|error| ApiError::internal("a model cannot be read", &error))?;
    let in_sync = differs.is_empty();
    let view = CmsView { model, written_ms: kept.written_ms, author: kept.author.clone(), in_sync, differs };
    Ok(Tag::of_cms(kept).shows(&view))
}

/// Where two documents differ, as pointers into the first.
fn differing(kept: &Value, now: &Value, at: &str, out: &mut Vec<String>) {
    if kept == now || out.len() >= DIFFERS_MAX {
        return;
    }
    match (kept, now) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                differing(
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                    &format!("{at}/{key}"),
                    out,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                let of = |list: &[Value]| list.get(index).cloned().unwrap_or_default();
                differing(&of(a), &of(b), &format!("{at}/{index}"), out);
            }
        }
        _ => out.push(at.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_their_places() {
        let check = |kept: Value, now: Value, expect: &[&str]| {
            let mut out = Vec::new();
            differing(&kept, &now, "", &mut out);
            assert_eq!(out, expect);
        };
        check(json!({ "a": 1 }), json!({ "a": 1 }), &[]);
        check(json!({ "a": 1, "b": [1, 2] }), json!({ "a": 2, "b": [1, 3, 4] }), &["/a", "/b/1", "/b/2"]);
        check(json!({ "a": { "x": 1 } }), json!({ "a": {}, "c": 0 }), &["/a/x", "/c"]);
    }
}
