//! Request bodies, checked so that every fault is named at once.

use super::problem::ApiError;
use jsonschema::Validator;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use straas_schemas::Fault;
use straas_schemas::metadata::Catalog;
use straas_schemas::strict;
use straas_schemas::topology::{ComponentRequest, Elsewhere, TopologyRequest, elsewhere, faults};

/// Most faults reported of one body: nobody mends more in one go.
const FAULTS_MAX: usize = 100;

type Validators = HashMap<TypeId, Option<Arc<Validator>>>;

/// A schema is made ready once; there are as many as there are types of bodies.
static VALIDATORS: LazyLock<Mutex<Validators>> = LazyLock::new(Mutex::default);

fn validator<T: JsonSchema + 'static>() -> Option<Arc<Validator>> {
    let make = || jsonschema::validator_for(schemars::schema_for!(T).as_value()).ok().map(Arc::new);
    // what is in it is whole at any time: a panic elsewhere does not make it wrong
    let mut all = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry(TypeId::of::<T>()).or_insert_with(make).clone()
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

impl Document {
    /// What it calls components of other topologies, as a topology request or as one for one more
    /// component, and the zone it names.
    pub fn elsewhere(&self) -> (Vec<String>, String) {
        let alone = serde_json::json!({ "components": [self.value] });
        let names = elsewhere(&self.value).into_iter().chain(elsewhere(&alone)).map(str::to_owned).collect();
        let zone = self.value.get("availability_zone").and_then(Value::as_str).unwrap_or_default();
        (names, zone.to_owned())
    }
}

fn shape<T: JsonSchema + 'static>(body: &Value) -> Vec<Fault> {
    let Some(validator) = validator::<T>() else {
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

fn checked<T: DeserializeOwned>(body: Value, mut found: Vec<Fault>) -> Result<T, ApiError> {
    found.sort();
    found.dedup();
    found.truncate(FAULTS_MAX);
    if !found.is_empty() {
        return Err(ApiError::faults(found));
    }
    serde_json::from_value(body).map_err(|error| ApiError::invalid("", &error.to_string()))
}

/// A topology request without faults; `others` are the components of other topologies that it names.
///
/// # Errors
/// 422 with all faults of shape and of meaning.
pub fn topology(body: Document, catalog: &Catalog, others: &Elsewhere) -> Result<TopologyRequest, ApiError> {
    let mut found = shape::<TopologyRequest>(&body.value);
    found.extend(faults(&body.value, catalog, others));
    found.extend(body.faults);
    checked(body.value, found)
}

/// A request for one more component beside those of an outline of the topology, without faults.
///
/// # Errors
/// 422 with all faults of shape and of meaning.
pub fn component(
    body: Document,
    mut beside: Vec<Value>,
    catalog: &Catalog,
    others: &Elsewhere,
) -> Result<ComponentRequest, ApiError> {
    let mut found = shape::<ComponentRequest>(&body.value);
    let at = format!("/components/{}", beside.len());
    beside.push(body.value.clone());
    let whole = faults(&serde_json::json!({ "components": beside }), catalog, others).into_iter();
    // those of the others were told when they were asked for, or came with a newer catalog
    let own = |fault: Fault| Some(Fault::at(fault.pointer.strip_prefix(&at)?, fault.message.clone()));
    found.extend(whole.filter_map(own).filter(|fault| fault.pointer.is_empty() || fault.pointer.starts_with('/')));
    found.extend(body.faults);
    checked(body.value, found)
}

/// A body of the shape of `T`.
///
/// # Errors
/// 400 if it is not JSON, 422 with all faults.
pub fn typed<T: DeserializeOwned + JsonSchema + 'static>(bytes: &[u8]) -> Result<T, ApiError> {
    let Document { value, faults } = json(bytes)?;
    let mut found = shape::<T>(&value);
    found.extend(faults);
    checked(value, found)
}
