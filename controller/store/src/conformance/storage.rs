//! The storage's names.

use super::fixture::{World, is_conflict};
use super::rollouts::rollout;
use crate::{Expected, PageRequest, Result, RolloutRecord, Store, StoredFileFilter, StoredFileRecord};
use std::sync::Arc;
use straas_schemas::Digest;
use straas_schemas::build::AgentBuild;
use straas_schemas::storage::DeliveredFile;

fn file(tenant: &str, path: &str, size: u64, content: &str) -> StoredFileRecord {
    StoredFileRecord {
        tenant: tenant.to_owned(),
        storage: "local".to_owned(),
        region: "az1".to_owned(),
        path: path.to_owned(),
        size,
        sha256: Digest::sha256(content.as_bytes()).to_string(),
        created_ms: 10,
        author: "ann".to_owned(),
    }
}

async fn put(store: &Arc<dyn Store>, file: &StoredFileRecord) -> Result<bool> {
    store.put_file(file, 100, &Expected::default()).await
}

async fn remove(store: &Arc<dyn Store>, tenant: &str, expected: &Expected) -> Result<bool> {
    store.remove_file(tenant, "local", "az1", "jars/a", expected).await
}

async fn paths(store: &Arc<dyn Store>, tenant: &str, under: &str, after: Option<&str>, limit: u32) -> Vec<String> {
    let filter =
        StoredFileFilter { tenant: tenant.into(), storage: "local".into(), region: "az1".into(), under: under.into() };
    let page = PageRequest { after: after.map(str::to_owned), limit };
    store.files(&filter, &page).await.unwrap().into_iter().map(|file| file.path).collect()
}

pub(super) async fn files_are_kept_by_name(store: Arc<dyn Store>) {
    let first = file("sto", "jars/a", 5, "one");
    assert!(put(&store, &first).await.unwrap());
    for path in ["jars/a.sig", "jars/a/b", "jars0/x", "jars/c"] {
        assert!(put(&store, &file("sto", path, 1, path)).await.unwrap());
    }
    assert!(put(&store, &file("sto-other", "jars/a", 50, "theirs")).await.unwrap());
    let elsewhere = StoredFileRecord { region: "az2".into(), ..file("sto", "jars/z", 1, "z") };
    assert!(put(&store, &elsewhere).await.unwrap());

    assert_eq!(store.file("sto", "local", "az1", "jars/a").await.unwrap(), Some(first));
    let second = file("sto", "jars/a", 7, "two");
    assert!(!put(&store, &second).await.unwrap(), "in the place of the first");
    assert_eq!(store.file("sto", "local", "az1", "jars/a").await.unwrap(), Some(second));
    assert_eq!(store.stored_bytes("sto").await.unwrap(), 12);

    assert_eq!(paths(&store, "sto", "jars", None, 10).await, ["jars/a", "jars/a.sig", "jars/a/b", "jars/c"]);
    assert_eq!(paths(&store, "sto", "jars/a", None, 10).await, ["jars/a", "jars/a/b"]);
    assert_eq!(paths(&store, "sto", "", Some("jars/a.sig"), 2).await, ["jars/a/b", "jars/c"]);
    assert_eq!(paths(&store, "sto", "jar", None, 10).await, [""; 0]);

    assert!(remove(&store, "sto", &Expected::default()).await.unwrap());
    assert!(!remove(&store, "sto", &Expected::default()).await.unwrap());
    assert!(!remove(&store, "sto-nobody", &Expected::default()).await.unwrap());
    assert_eq!(store.stored_bytes("sto").await.unwrap(), 5);
    assert_eq!(store.stored_bytes("sto-other").await.unwrap(), 50);
}

pub(super) async fn a_file_is_changed_as_expected_or_not(store: Arc<dyn Store>) {
    let of = |content: &str| file("sto-seen", "jars/a", 1, content);
    let one_of = |content: &str| Expected { one_of: Some(vec!["x".into(), of(content).sha256]), ..Expected::default() };
    let there = Expected { something: true, ..Expected::default() };
    let new = Expected { nothing: true, ..Expected::default() };
    let not = |content: &str| Expected { none_of: vec![of(content).sha256], ..Expected::default() };
    let put = async |content: &str, expected: &Expected| store.put_file(&of(content), 100, expected).await;
    assert!(is_conflict(&put("a", &there).await) && is_conflict(&put("a", &one_of("a")).await));
    // of any number who make it, one does
    let make = |number: u32| {
        let (store, file, new) = (store.clone(), of(&number.to_string()), new.clone());
        tokio::spawn(async move { (number, store.put_file(&file, 100, &new).await) })
    };
    let mut made = Vec::new();
    for one in (0..8).map(make).collect::<Vec<_>>() {
        match one.await.unwrap() {
            (number, Ok(true)) => made.push(number.to_string()),
            (_, lost) => assert!(is_conflict(&lost), "{lost:?}"),
        }
    }
    assert_eq!(made.len(), 1, "{made:?}");
    let kept = async || store.file("sto-seen", "local", "az1", "jars/a").await.unwrap().map(|file| file.sha256);
    assert_eq!(kept().await, Some(of(&made[0]).sha256));
    assert!(!put("b", &one_of(&made[0])).await.unwrap());
    assert!(is_conflict(&put("c", &one_of(&made[0])).await) && is_conflict(&put("c", &not("b")).await));
    assert!(!put("c", &not("a")).await.unwrap());
    assert!(is_conflict(&remove(&store, "sto-seen", &one_of("b")).await));
    assert_eq!(kept().await, Some(of("c").sha256));
    assert!(remove(&store, "sto-seen", &one_of("c")).await.unwrap());
    assert!(!remove(&store, "sto-seen", &one_of("c")).await.unwrap());
    assert_eq!(store.stored_bytes("sto-seen").await.unwrap(), 0);
}

pub(super) async fn a_tenants_limit_holds_for_all_at_once(store: Arc<dyn Store>) {
    let upload = |number: u32| {
        let store = store.clone();
        tokio::spawn(async move { put(&store, &file("sto-limit", &format!("c/{number}"), 30, "x")).await })
    };
    let tries: Vec<_> = (0..8).map(upload).collect();
    let mut kept = 0;
    for one in tries {
        match one.await.unwrap() {
            Ok(new) => kept += u32::from(new),
            refused => assert!(is_conflict(&refused), "{refused:?}"),
        }
    }
    assert_eq!((kept, store.stored_bytes("sto-limit").await.unwrap()), (3, 90));
    // what takes the place of another counts for what it is more
    let taken = paths(&store, "sto-limit", "", None, 1).await.remove(0);
    assert!(!put(&store, &file("sto-limit", &taken, 40, "y")).await.unwrap());
    assert!(is_conflict(&put(&store, &file("sto-limit", &taken, 41, "y")).await));
    assert_eq!(store.stored_bytes("sto-limit").await.unwrap(), 100);
}

pub(super) async fn content_that_is_needed_is_known(store: Arc<dyn Store>) {
    let of = |content: &str| Digest::sha256(content.as_bytes());
    put(&store, &file("sto-need", "c/a", 1, "need-stored")).await.unwrap();
    let world = World::new(store.clone(), "sto-need", 1).await;
    let delivered = |content: &str| DeliveredFile {
        target_path: format!("/opt/{content}"),
        from: "local:az1/c/a".to_owned(),
        sha256: of(content),
        size: 1,
        mode: 0o644,
        everywhere: false,
    };
    let mut component = world.component.clone();
    component.spec.want.files.push(delivered("need-all"));
    component.spec.want.nodes.entry(world.id(0).clone()).or_default().files.push(delivered("need-one"));
    let build = |content: &str| AgentBuild { sha256: of(content), size: 1 };
    component.spec.want.agent = Some(build("need-agent"));
    store.change_component(&component, 1, None).await.unwrap();
    let rolled = |id: &str, component: &str, wanted: &str, before: &str, ended_ms: Option<i64>| {
        let mut record = rollout(id, "sto-need", &[component]);
        record.build = Some(build(wanted));
        record.members[0].before_build = Some(build(before));
        RolloutRecord { ended_ms, ..record }
    };
    for record in [
        rolled("sto-need-1", "sto-need-a", "need-wanted", "need-before", None),
        rolled("sto-need-2", "sto-need-b", "need-past", "need-long-past", Some(1)),
    ] {
        store.add_rollout(&record).await.unwrap();
    }
    let needed = store.hashes_needed().await.unwrap();
    for (content, expect) in [
        ("need-stored", true),
        ("need-all", true),
        ("need-one", true),
        ("need-agent", true),
        ("need-wanted", true),
        ("need-before", true),
        ("need-past", false),
        ("need-long-past", false),
        ("need-none", false),
    ] {
        assert_eq!(needed.contains(of(content).as_str()), expect, "{content}");
    }
    assert_eq!(store.component(&component.id).await.unwrap().unwrap().spec, component.spec);
}
