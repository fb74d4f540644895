//! The OpenAPI 3.1 document, made from the routes and the types of their bodies.
//!
//! Schemas are those that bodies are checked against, so a field cannot be documented otherwise
//! than it is taken. The document is made once; a copy is checked in (`docs/openapi.json`), and a
//! test tells when that is not current.

use super::links;
use super::route::{Content, Route, SchemaOf};
use super::routes;
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use straas_schemas::problem::{PROBLEM_JSON, Problem};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// `GET /straas/openapi.json`
pub async fn serve() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    let mut tags = Vec::new();
    for (tag, listed) in routes::all() {
        tags.push(json!({ "name": tag }));
        for route in listed {
            let path = route.path.replace("{*", "{");
            let at = paths.entry(path).or_insert_with(|| json!({}));
            at[route.method.as_str().to_ascii_lowercase()] = operation(&route, tag, &mut generator);
        }
    }
    let problem = generator.subschema_for::<Problem>().to_value();
    let mut schemas = generator.take_definitions(true);
    // which fields go together, which the handler says in plainer words than a schema's message
    if let Some(log_in) = schemas.get_mut("LogIn") {
        log_in["oneOf"] = json!([
            {
                "required": ["user", "password"],
                "properties": { "user": { "type": "string" }, "password": { "type": "string" }, "token": { "type": "null" } },
            },
            {
                "required": ["token", "tenant"],
                "properties": {
                    "token": { "type": "string" }, "tenant": { "type": "string" },
                    "user": { "type": "null" }, "password": { "type": "null" },
                },
            },
        ]);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "StraaS",
            "version": "1.0",
            "description": "Clusters of stateful software as a service. Every refusal is a problem document (RFC 9457); \
                            a mutation that makes work answers 202 with a job.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "Problem": {
                "description": "Why it was refused, and what to do next.",
                "content": { PROBLEM_JSON: { "schema": problem } },
            } },
            "headers": { "ETag": {
                "description": "Names what is shown; to be sent as If-None-Match or If-Match.",
                "required": true,
                "schema": { "type": "string" },
            } },
            "securitySchemes": {
                "token": { "type": "apiKey", "in": "header", "name": "X-Auth-Token" },
                "old": { "type": "apiKey", "in": "header", "name": "token", "description": "The name before 1.0." },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
        },
        "security": [{ "token": [] }, { "bearer": [] }, { "old": [] }],
    })
}

fn operation(route: &Route, tag: &str, generator: &mut SchemaGenerator) -> Value {
    let mut out = json!({
        "tags": [tag],
        "operationId": id(route),
        "summary": route.summary,
        "description": format!("For {}.", route.access.words()),
        "responses": answers(route, generator),
    });
    let parameters: Vec<Value> = in_path(&route.path)
        .chain(in_query(route.query, generator))
        .chain(route.once_by_key().then(idempotency_key))
        .chain(route.matches.then(if_match))
        .chain(route.makes.then(if_new))
        .chain(reads_json(route).then(if_none_match))
        .collect();
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    if let Some((content, required)) = route.body {
        out["requestBody"] = json!({ "required": required, "content": body(content, generator) });
    }
    if route.access.open {
        out["security"] = json!([]);
    }
    if route.deprecated {
        out["deprecated"] = true.into();
    }
    out
}

/// `get_topologies_id`: unique, and speaks for itself in a generated client.
fn id(route: &Route) -> String {
    let words =
        route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !["", "straas", "v1", "0"].contains(word));
    // one of the two spellings of the same folder
    let slash = if route.path.len() > 1 && route.path.ends_with('/') { "_" } else { "" };
    let words: Vec<_> = words.collect();
    format!("{}_{}{slash}", route.method.as_str().to_ascii_lowercase(), words.join("_"))
}

/// What refs of the config repo look like: a branch, a branch and its tag, or a commit.
const PATTERNS: [(&str, &str); 2] = [
    (
        "ref",
        "^([a-z][a-z0-9-]{0,12}[a-z0-9](@[a-z][a-z0-9-]{0,10}[a-z0-9])?(&[a-z0-9][a-z0-9_-]{0,40})?|[0-9a-f]{40})$",
    ),
    ("range", "^[a-z][a-z0-9-]{0,12}[a-z0-9](@[a-z][a-z0-9-]{0,10}[a-z0-9])?[.]{3}[a-z][a-z0-9-]{0,12}[a-z0-9]$"),
];

fn in_path(path: &str) -> impl Iterator<Item = Value> + '_ {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    names.map(|(name, _)| {
        let name = name.trim_start_matches('*');
        let mut schema = json!({ "type": "string", "minLength": 1 });
        if let Some((_, pattern)) = PATTERNS.iter().find(|(of, _)| *of == name) {
            schema["pattern"] = (*pattern).into();
        }
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    })
}

/// Each property of the query's type.
fn in_query(query: Option<SchemaOf>, generator: &mut SchemaGenerator) -> Vec<Value> {
    let Some(query) = query else { return Vec::new() };
    let schema = query(generator);
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned();
    // it stands in its parts here, and nowhere else
    let schema = generator.definitions_mut().remove(&name).unwrap_or(schema);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let described = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let required = required.contains(&name.clone().into());
        let mut out = json!({ "name": name, "in": "query", "required": required, "schema": schema });
        if let Some(described) = described {
            out["description"] = described;
        }
        out
    };
    properties.into_iter().map(parameter).collect()
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "Asked again with the same key within a day, the same request is answered as the first time and changes nothing.",
        "schema": { "type": "string", "minLength": 1, "maxLength": super::once::KEY_MAX },
    })
}

fn if_match() -> Value {
    json!({
        "name": "If-Match",
        "in": "header",
        "required": false,
        "description": "The ETag of what was read: refused with 412 if what is wanted of it was changed since.",
        "schema": { "type": "string", "minLength": 1 },
    })
}

fn if_new() -> Value {
    json!({
        "name": "If-None-Match",
        "in": "header",
        "required": false,
        "description": "With *, refused with 412 if there is one already; with an ETag, if that is what is there.",
        "schema": { "type": "string", "minLength": 1 },
    })
}

fn if_none_match() -> Value {
    json!({
        "name": "If-None-Match",
        "in": "header",
        "required": false,
        "description": "The ETag of what was read: answered with 304 if nothing changed since.",
        "schema": { "type": "string", "minLength": 1 },
    })
}

/// Whether a route answers a reader with JSON, which has an ETag.
fn reads_json(route: &Route) -> bool {
    let json = |answer: &(u16, &str, Option<Content>)| answer.0 == 200 && matches!(answer.2, Some(Content::Json(_)));
    route.method == Method::GET && route.answers.iter().any(json)
}

fn body(content: Content, generator: &mut SchemaGenerator) -> Value {
    match content {
        Content::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Content::Bytes => json!({ "application/octet-stream": {} }),
        Content::Events => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
    }
}

/// One shape more of a kind of content.
fn add_shape(there: &mut Value, new: &Value) {
    if there.is_null() {
        *there = new.clone();
        return;
    }
    let old = there["schema"].take();
    let mut shapes = old["anyOf"].as_array().cloned().unwrap_or_else(|| vec![old]);
    shapes.push(new["schema"].clone());
    there["schema"] = json!({ "anyOf": shapes });
}

fn answers(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut out: Map<String, Value> = Map::new();
    for (status, when, content) in &route.answers {
        let content = content.map(|content| body(content, generator));
        match out.get_mut(&status.to_string()) {
            None => {
                let mut answer = json!({ "description": when });
                if let Some(content) = content {
                    answer["content"] = content;
                }
                out.insert(status.to_string(), answer);
            }
            // one status, several shapes
            Some(there) => {
                let said = there["description"].as_str().unwrap_or_default();
                there["description"] = format!("{said} {when}").trim_end().into();
                for (media, new) in content.as_ref().and_then(Value::as_object).into_iter().flatten() {
                    add_shape(&mut there["content"][media], new);
                }
            }
        }
    }
    if reads_json(route) {
        out["200"]["headers"] = json!({ "ETag": { "$ref": "#/components/headers/ETag" } });
        out.insert("304".to_owned(), json!({ "description": "It is as If-None-Match says." }));
    }
    for (status, answer) in &mut out {
        if let Some(links) = links::of(&id(route), status) {
            answer["links"] = links;
        }
    }
    // only what writes can find the disk full
    let full = (route.traits.streamed || route.method != Method::GET).then_some("507");
    for status in ["4XX", "503"].into_iter().chain(full) {
        out.insert(status.to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    out.into()
}

/// The document, for tests.
#[cfg(test)]
pub fn value() -> Value {
    serde_json::from_str(&DOCUMENT).expect("json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_copy_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &*DOCUMENT).expect("written");
        }
        let copy = std::fs::read_to_string(path).expect("docs/openapi.json");
        assert!(
            copy == *DOCUMENT,
            "docs/openapi.json is not current: run UPDATE=1 cargo test -p straas-controller openapi"
        );
    }

    #[test]
    fn every_operation_is_whole() {
        let document: Value = serde_json::from_str(&DOCUMENT).expect("json");
        let mut ids = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let place = format!("{method} {path}");
                let id = operation["operationId"].as_str().expect("an id");
                assert!(ids.insert(id.to_owned()), "{place}: {id} is there twice");
                assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{place} says nothing");
                let answers = operation["responses"].as_object().expect("responses");
                assert!(answers.keys().any(|status| status.starts_with('2')), "{place} has no good answer");
            }
        }
        // nothing points to what is not there
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            if let Some(to) = value["$ref"].as_str() {
                assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to} is not there");
            }
            let shapes = value["anyOf"].as_array().into_iter().flatten();
            assert!(shapes.clone().all(Value::is_object), "a shape that is none: {value}");
            match value {
                Value::Object(map) => open.extend(map.values()),
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }
}
