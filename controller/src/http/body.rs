//! Request bodies, checked so that every fault is named at once.

use super::problem::ApiError;
use super::strict;
use jsonschema::Validator;
use serde_json::Value;
use std::sync::LazyLock;
use straas_schemas::Fault;
use straas_schemas::metadata::Catalog;
use straas_schemas::topology::{ComponentPatch, TopologyRequest, faults};

/// Most faults reported of one body: nobody mends more in one go.
const FAULTS_MAX: usize = 100;

static TOPOLOGY: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(TopologyRequest)));
static PATCH: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(ComponentPatch)));

fn validator(schema: &schemars::Schema) -> Option<Validator> {
    jsonschema::validator_for(schema.as_value()).ok()
}

/// A body that is JSON, with the faults that only its text shows.
pub struct Document {
    value: Value,
    faults: Vec<Fault>,
}

/// Reads JSON.
///
/// # Errors
/// 400 with the place where it is not JSON.
pub fn json(bytes: &[u8]) -> Result<Document, ApiError> {
    let read = strict::parse(bytes).map_err(|error| ApiError::unreadable(format!("the body is not JSON: {error}")));
    read.map(|(value, faults)| Document { value, faults })
}

fn shape(validator: Option<&Validator>, body: &Value) -> Vec<Fault> {
    let Some(validator) = validator else {
        return vec![Fault::at("", "the controller has no schema for this body")];
    };
    let errors = validator.iter_errors(body).take(FAULTS_MAX);
    errors.map(|error| Fault::at(error.instance_path().as_str(), words(&error.to_string()))).collect()
}

/// A schema's message quotes the whole value; a long one says nothing to a person.
fn words(message: &str) -> String {
    const LONG: usize = 300;
    if message.chars().count() <= LONG {
        return message.to_owned();
    }
    let tail: String = message.chars().rev().take(LONG / 2).collect::<Vec<_>>().into_iter().rev().collect();
    format!("… {tail}")
}

fn checked<T: serde::de::DeserializeOwned>(body: Value, mut found: Vec<Fault>) -> Result<T, ApiError> {
    found.sort();
    found.dedup();
    found.truncate(FAULTS_MAX);
    if !found.is_empty() {
        return Err(ApiError::faults(found));
    }
    serde_json::from_value(body).map_err(|error| ApiError::invalid("", &error.to_string()))
}

/// A topology request without faults.
///
/// # Errors
/// 422 with all faults of shape and of meaning.
pub fn topology(body: Document, catalog: &Catalog) -> Result<TopologyRequest, ApiError> {
    let mut found = shape(TOPOLOGY.as_ref(), &body.value);
    found.extend(faults(&body.value, catalog));
    found.extend(body.faults);
    checked(body.value, found)
}

/// Changes to a component without faults of shape.
///
/// # Errors
/// 422 with all faults.
pub fn patch(body: Document) -> Result<ComponentPatch, ApiError> {
    let mut found = shape(PATCH.as_ref(), &body.value);
    found.extend(body.faults);
    checked(body.value, found)
}
