//! The storage's names.

use super::fixture::{World, is_conflict};
use crate::{PageRequest, Store, StoredFileFilter, StoredFileRecord};
use std::sync::Arc;
use straas_schemas::Digest;
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

async fn paths(store: &Arc<dyn Store>, tenant: &str, under: &str, after: Option<&str>, limit: u32) -> Vec<String> {
    let filter =
        StoredFileFilter { tenant: tenant.into(), storage: "local".into(), region: "az1".into(), under: under.into() };
    let page = PageRequest { after: after.map(str::to_owned), limit };
    store.files(&filter, &page).await.unwrap().into_iter().map(|file| file.path).collect()
}

pub(super) async fn files_are_kept_by_name(store: Arc<dyn Store>) {
    let first = file("sto", "jars/a", 5, "one");
    assert!(store.put_file(&first, 100).await.unwrap());
    for path in ["jars/a.sig", "jars/a/b", "jars0/x", "jars/c"] {
        assert!(store.put_file(&file("sto", path, 1, path), 100).await.unwrap());
    }
    assert!(store.put_file(&file("sto-other", "jars/a", 50, "theirs"), 100).await.unwrap());
    let elsewhere = StoredFileRecord { region: "az2".into(), ..file("sto", "jars/z", 1, "z") };
    assert!(store.put_file(&elsewhere, 100).await.unwrap());

    assert_eq!(store.file("sto", "local", "az1", "jars/a").await.unwrap(), Some(first));
    let second = file("sto", "jars/a", 7, "two");
    assert!(!store.put_file(&second, 100).await.unwrap(), "in the place of the first");
    assert_eq!(store.file("sto", "local", "az1", "jars/a").await.unwrap(), Some(second));
    assert_eq!(store.stored_bytes("sto").await.unwrap(), 12);

    assert_eq!(paths(&store, "sto", "jars", None, 10).await, ["jars/a", "jars/a.sig", "jars/a/b", "jars/c"]);
    assert_eq!(paths(&store, "sto", "jars/a", None, 10).await, ["jars/a", "jars/a/b"]);
    assert_eq!(paths(&store, "sto", "", Some("jars/a.sig"), 2).await, ["jars/a/b", "jars/c"]);
    assert_eq!(paths(&store, "sto", "jar", None, 10).await, [""; 0]);

    assert!(store.remove_file("sto", "local", "az1", "jars/a").await.unwrap());
    assert!(!store.remove_file("sto", "local", "az1", "jars/a").await.unwrap());
    assert!(!store.remove_file("sto-nobody", "local", "az1", "jars/a").await.unwrap());
    assert_eq!(store.stored_bytes("sto").await.unwrap(), 5);
    assert_eq!(store.stored_bytes("sto-other").await.unwrap(), 50);
}

pub(super) async fn a_tenants_limit_holds_for_all_at_once(store: Arc<dyn Store>) {
    let put = |number: u32| {
        let store = store.clone();
        tokio::spawn(async move { store.put_file(&file("sto-limit", &format!("c/{number}"), 30, "x"), 100).await })
    };
    let tries: Vec<_> = (0..8).map(put).collect();
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
    assert!(!store.put_file(&file("sto-limit", &taken, 40, "y"), 100).await.unwrap());
    assert!(is_conflict(&store.put_file(&file("sto-limit", &taken, 41, "y"), 100).await));
    assert_eq!(store.stored_bytes("sto-limit").await.unwrap(), 100);
}

pub(super) async fn content_that_is_needed_is_known(store: Arc<dyn Store>) {
    let of = |content: &str| Digest::sha256(content.as_bytes());
    store.put_file(&file("sto-need", "c/a", 1, "need-stored"), 100).await.unwrap();
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
    store.change_component(&component, 1, None).await.unwrap();
    let needed = store.hashes_needed().await.unwrap();
    for (content, expect) in [("need-stored", true), ("need-all", true), ("need-one", true), ("need-none", false)] {
        assert_eq!(needed.contains(of(content).as_str()), expect, "{content}");
    }
    assert_eq!(store.component(&component.id).await.unwrap().unwrap().spec, component.spec);
}
