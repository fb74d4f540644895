//! Health of nodes, and models of topologies.

use super::fixture::{World, is_conflict, is_duplicate, is_missing};
use crate::{CmsRecord, HealthRecord, Store};
use serde_json::json;
use std::sync::Arc;
use straas_schemas::NodeId;
use straas_schemas::health::HealthStatus::{self, Active, Inactive, Skipped, Unreachable};

fn found(node: &NodeId, status: HealthStatus, at_ms: i64) -> HealthRecord {
    HealthRecord { node: node.clone(), built_in: false, status, source: "checker".to_owned(), at_ms }
}

pub(super) async fn the_newest_word_counts(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "hea", 3).await;
    let (a, b, gone) = (world.id(0), world.id(1), NodeId::from("hea-nobody"));
    let of = || async { store.health(std::slice::from_ref(&world.topology.id)).await.unwrap() };
    assert_eq!(of().await, []);
    store.put_health(&[found(b, Active, 10), found(a, Skipped, 10), found(&gone, Active, 10)]).await.unwrap();
    assert_eq!(of().await, [found(a, Skipped, 10), found(b, Active, 10)]);
    store.put_health(&[found(a, Unreachable, 9), found(b, Inactive, 11)]).await.unwrap();
    assert_eq!(of().await, [found(a, Skipped, 10), found(b, Inactive, 11)], "what is older changes nothing");
    // what is built in and what is not speak for themselves
    let own = HealthRecord { built_in: true, source: "straas".to_owned(), ..found(a, Active, 5) };
    store.put_health(std::slice::from_ref(&own)).await.unwrap();
    assert_eq!(of().await, [own.clone(), found(a, Skipped, 10), found(b, Inactive, 11)]);
    store.remove_nodes(std::slice::from_ref(b)).await.unwrap();
    assert_eq!(of().await, [own.clone(), found(a, Skipped, 10)]);
    // made again under the same id, nothing is known of it
    store.add_nodes(&world.nodes[1..2]).await.unwrap();
    assert_eq!(of().await, [own.clone(), found(a, Skipped, 10)]);
}

pub(super) async fn a_model_is_made_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "cms", 1).await;
    let id = &world.topology.id;
    let model = |text: &str, written_ms| CmsRecord {
        topology: id.clone(),
        document: json!({ "text": text }),
        written_ms,
        author: "ann".to_owned(),
    };
    assert!(is_missing(&store.sync_cms(&model("early", 1), None).await));
    store.create_cms(&model("first", 2)).await.unwrap();
    assert!(is_duplicate(&store.create_cms(&model("again", 3)).await));
    assert_eq!(store.cms(id).await.unwrap(), Some(model("first", 2)));
    store.sync_cms(&model("second", 4), None).await.unwrap();
    assert_eq!(store.cms(id).await.unwrap(), Some(model("second", 4)));
    // what is written is written over what was seen, of any number of writers by one
    for other in [model("first", 2), model("second", 2)] {
        assert!(is_conflict(&store.sync_cms(&model("lost", 9), Some(&other)).await));
        assert!(is_conflict(&store.remove_cms(id, Some(&other)).await));
    }
    let write = |at: i64| {
        let (store, new, seen) = (store.clone(), model("raced", at), model("second", 4));
        tokio::spawn(async move { store.sync_cms(&new, Some(&seen)).await })
    };
    let mut won = Vec::new();
    for (at, one) in (10..18).map(|at| (at, write(at))).collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(()) => won.push(at),
            lost => assert!(is_conflict(&lost), "{lost:?}"),
        }
    }
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(store.cms(id).await.unwrap(), Some(model("raced", won[0])));
    store.sync_cms(&model("last", 20), Some(&model("raced", won[0]))).await.unwrap();
    assert!(store.remove_cms(id, Some(&model("last", 20))).await.unwrap());
    assert!(!store.remove_cms(id, Some(&model("last", 20))).await.unwrap());
    assert!(!store.remove_cms(id, None).await.unwrap());
    store.create_cms(&model("third", 5)).await.unwrap();
    store.forget_topology(id, 6, &[]).await.unwrap();
    assert_eq!(store.cms(id).await.unwrap(), None, "it goes with its topology");
    assert!(is_missing(&store.create_cms(&model("late", 7)).await));
}
