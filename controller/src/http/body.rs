//! Request bodies, checked so that every fault is named at once.

use super::problem::ApiError;
use super::strict;
use jsonschema::Validator;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::LazyLock;
use straas_schemas::Fault;
use straas_schemas::change::{ComponentPatch, FlexupRequest, RolloutOptions, SyncRequest};
use straas_schemas::metadata::Catalog;
use straas_schemas::topology::{ComponentRequest, Elsewhere, TopologyRequest, elsewhere, faults};

/// Most faults reported of one body: nobody mends more in one go.
const FAULTS_MAX: usize = 100;

static TOPOLOGY: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(TopologyRequest)));
static COMPONENT: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(ComponentRequest)));
static PATCH: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(ComponentPatch)));
static FLEXUP: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(FlexupRequest)));
static ROLLOUT: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(RolloutOptions)));
static SYNC: LazyLock<Option<Validator>> = LazyLock::new(|| validator(&schemars::schema_for!(SyncRequest)));
static DEPENDENCIES: LazyLock<Option<Validator>> =
    LazyLock::new(|| validator(&schemars::schema_for!(DependenciesRequest)));

/// A schema, ready to be checked against.
pub fn validator(schema: &schemars::Schema) -> Option<Validator> {
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

/// A topology request without faults; `others` are the components of other topologies that it names.
///
/// # Errors
/// 422 with all faults of shape and of meaning.
pub fn topology(body: Document, catalog: &Catalog, others: &Elsewhere) -> Result<TopologyRequest, ApiError> {
    let mut found = shape(TOPOLOGY.as_ref(), &body.value);
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
    let mut found = shape(COMPONENT.as_ref(), &body.value);
    let at = format!("/components/{}", beside.len());
    beside.push(body.value.clone());
    let whole = faults(&serde_json::json!({ "components": beside }), catalog, others).into_iter();
    // those of the others were told when they were asked for, or came with a newer catalog
    let own = |fault: Fault| Some(Fault::at(fault.pointer.strip_prefix(&at)?, fault.message.clone()));
    found.extend(whole.filter_map(own).filter(|fault| fault.pointer.is_empty() || fault.pointer.starts_with('/')));
    found.extend(body.faults);
    checked(body.value, found)
}

/// A body of the shape that `schema` says.
///
/// # Errors
/// 422 with all faults.
pub fn typed<T: serde::de::DeserializeOwned>(body: Document, schema: Option<&Validator>) -> Result<T, ApiError> {
    let mut found = shape(schema, &body.value);
    found.extend(body.faults);
    checked(body.value, found)
}

/// Changes to a component without faults of shape, of which there is at least one.
///
/// # Errors
/// 422 with all faults.
pub fn patch(body: Document) -> Result<ComponentPatch, ApiError> {
    let patch: ComponentPatch = typed(body, PATCH.as_ref())?;
    if patch.version.is_none() && patch.size.is_none() && patch.config.is_none() {
        return Err(ApiError::invalid("", "nothing to change; name a version, a size or a config"));
    }
    Ok(patch)
}

/// More nodes, without faults of shape.
///
/// # Errors
/// 422 with all faults.
pub fn flexup(body: Document) -> Result<FlexupRequest, ApiError> {
    typed(body, FLEXUP.as_ref())
}

/// How a change reaches the nodes, without faults of shape.
///
/// # Errors
/// 422 with all faults.
pub fn rollout(body: Document) -> Result<RolloutOptions, ApiError> {
    typed(body, ROLLOUT.as_ref())
}

/// A script sync without faults of shape.
///
/// # Errors
/// 422 with all faults.
pub fn sync(body: Document) -> Result<SyncRequest, ApiError> {
    typed(body, SYNC.as_ref())
}

/// `POST /components/{id}/dependencies`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DependenciesRequest {
    /// The names of all components that must work first, `topology/component` of those of other
    /// topologies; absent to be told only.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub depends_on: Option<Vec<String>>,
}

/// Dependencies without faults of shape.
///
/// # Errors
/// 422 with all faults.
pub fn dependencies(body: Document) -> Result<DependenciesRequest, ApiError> {
    typed(body, DEPENDENCIES.as_ref())
}
