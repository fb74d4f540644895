//! Bodies of requests of users.

use jsonschema::Validator;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::LazyLock;
use straas_schemas::change::{ComponentPatch, FlexupRequest, RolloutOptions, SyncRequest};
use straas_schemas::command::{CommandBatchRequest, CommandRequest};
use straas_schemas::config::ConfigFile;
use straas_schemas::configuration::{ConfigWrite, TagRequest};
use straas_schemas::metadata::Catalog;
use straas_schemas::storage::{FilesRemoval, FilesRequest};
use straas_schemas::strict;
use straas_schemas::topology::{Elsewhere, TopologyRequest, elsewhere, faults};

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    [
        ("kafka", include_str!("../../../controller/repos/defaults/metadata/kafka.json")),
        ("storm", include_str!("../../../controller/repos/defaults/metadata/storm.json")),
        ("zookeeper", include_str!("../../../controller/repos/defaults/metadata/zookeeper.json")),
    ]
    .map(|(name, text)| (name.to_owned(), serde_json::from_str(text).expect("metadata")))
    .into()
});

type Check = fn(&Value) -> bool;

struct Body {
    schema: Validator,
    reads: Check,
}

fn of<T: JsonSchema + DeserializeOwned>() -> Body {
    let schema = jsonschema::validator_for(schemars::schema_for!(T).as_value()).expect("a schema");
    Body { schema, reads: |value| T::deserialize(value).is_ok() }
}

static BODIES: LazyLock<Vec<Body>> = LazyLock::new(|| {
    vec![
        of::<TopologyRequest>(),
        of::<ComponentPatch>(),
        of::<FlexupRequest>(),
        of::<SyncRequest>(),
        of::<RolloutOptions>(),
        of::<CommandRequest>(),
        of::<CommandBatchRequest>(),
        of::<ConfigWrite>(),
        of::<ConfigFile>(),
        of::<TagRequest>(),
        of::<FilesRequest>(),
        of::<FilesRemoval>(),
    ]
});

/// What is read strictly is what serde reads, if no key comes twice; and a topology without a fault can be read.
pub(super) fn request(data: &[u8]) {
    let Ok((value, twice)) = strict::parse(data) else {
        return;
    };
    if twice.is_empty() {
        let plain: Value = serde_json::from_slice(data).expect("read strictly, and not at all");
        assert_eq!(value, plain);
    }
    for body in BODIES.iter() {
        let fits = body.schema.is_valid(&value);
        let _ = (fits, (body.reads)(&value));
    }
    let _ = elsewhere(&value);
    let found = faults(&value, &CATALOG, &Elsewhere::default());
    if found.is_empty() && BODIES[0].schema.is_valid(&value) {
        assert!((BODIES[0].reads)(&value), "a topology without a fault cannot be read: {value}");
    }
}
