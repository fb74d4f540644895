//! The conformance suite on every engine, each case in an empty store, and all of them in one.

#![allow(clippy::unwrap_used)]

#[path = "support/temp_pg.rs"]
mod temp_pg;

use std::sync::Arc;
use straas_store::conformance::{self, CaseFn};
use straas_store::{MemoryStore, SqlStore, Store};
use temp_pg::TempPg;

/// Runs each case on a store that `make` makes for it; names all that fail.
async fn each_case<S: Store + 'static>(make: impl AsyncFn(usize) -> S) {
    let mut failed = Vec::new();
    for (number, (name, case)) in conformance::cases().into_iter().enumerate() {
        let case: CaseFn = case;
        if let Err(cause) = tokio::spawn(case(Arc::new(make(number).await))).await {
            failed.push(format!("{name}: {cause}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    each_case(async |_| MemoryStore::new()).await;
    conformance::run(Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let connect =
        async |name: &str| SqlStore::connect(&format!("sqlite:{}/{name}.db", dir.path().display())).await.unwrap();
    each_case(async |number| connect(&format!("case-{number}")).await).await;
    conformance::run(Arc::new(connect("all").await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres() {
    let server = TempPg::start().unwrap();
    let connect = async |name: &str| SqlStore::connect(&server.create_database(name).await.unwrap()).await.unwrap();
    each_case(async |number| connect(&format!("case-{number}")).await).await;
    conformance::run(Arc::new(connect("all").await)).await;
}
