//! Jobs: read, filtered, ended once, superseded.

use super::fixture::{World, is_broken, is_missing};
use crate::{JobFilter, PageRequest, Store};
use std::sync::Arc;
use straas_schemas::job::{JobKind, JobStanding};

pub(super) async fn read_and_filtered(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "jobs", 0).await;
    let other = World::new(store.clone(), "jobs-other", 0).await;
    for number in 2..=6 {
        store
            .change_component(&world.component, u64::from(number) - 1, Some(&world.job(number, JobKind::Change)))
            .await
            .unwrap();
    }
    let ids = async |tenant: Option<&str>, topology: Option<&str>, open_only, after: Option<&str>, limit| {
        let (tenant, topology) = (tenant.map(str::to_owned), topology.map(Into::into));
        let filter = JobFilter { tenant, topology, open_only, ..JobFilter::default() };
        let page = PageRequest { after: after.map(str::to_owned), limit };
        store.jobs(&filter, &page).await.unwrap().into_iter().map(|job| job.id.0).collect::<Vec<_>>()
    };
    let (tenant, topology) = (Some("tenant-jobs"), Some("t-jobs"));
    for (tenant, topology) in [(tenant, None), (None, topology), (tenant, topology)] {
        assert_eq!(ids(tenant, topology, false, None, 2).await, ["j-jobs-006", "j-jobs-005"]);
        assert_eq!(ids(tenant, topology, false, Some("j-jobs-003"), 9).await, ["j-jobs-002", "j-jobs-001"]);
        assert_eq!(ids(tenant, topology, true, None, 9).await, ["j-jobs-006", "j-jobs-001"]);
        assert_eq!(ids(tenant, topology, true, Some("j-jobs-006"), 9).await, ["j-jobs-001"]);
    }
    assert_eq!(ids(Some("tenant-jobs-other"), topology, false, None, 9).await, [""; 0]);
    // Lists of everything hold other cases' jobs as well: look at a stretch of ids.
    assert_eq!(ids(None, None, false, Some("j-jobs-006"), 2).await, ["j-jobs-005", "j-jobs-004"]);
    assert_eq!(ids(None, None, true, Some("j-jobs-006"), 1).await, ["j-jobs-001"]);
    assert!(ids(None, None, false, None, u32::MAX).await.contains(&"j-jobs-other-001".to_owned()));
    assert_eq!(ids(None, None, false, None, 0).await, [""; 0]);
    assert_eq!(other.job_ids(true).await.len(), 1);
    let mine = JobFilter { topology: Some(world.topology.id.clone()), ..JobFilter::default() };
    for (filter, expect) in [
        (JobFilter { kind: Some(JobKind::Create), ..mine.clone() }, vec!["j-jobs-001"]),
        (JobFilter { kind: Some(JobKind::Delete), ..mine.clone() }, vec![]),
        (
            JobFilter { ended: Some(JobStanding::Superseded), kind: Some(JobKind::Change), ..mine.clone() },
            vec!["j-jobs-005", "j-jobs-004", "j-jobs-003", "j-jobs-002"],
        ),
        (JobFilter { ended: Some(JobStanding::Succeeded), ..mine.clone() }, vec![]),
        (JobFilter { component: Some("nobody".into()), ..mine.clone() }, vec![]),
    ] {
        let found = store.jobs(&filter, &PageRequest::default()).await.unwrap();
        assert_eq!(found.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), expect, "{filter:?}");
    }
}

pub(super) async fn end_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "ends", 0).await;
    let id = world.job(1, JobKind::Create).id;
    let picture = serde_json::json!({"done": true});
    for open in [JobStanding::Running, JobStanding::Failing] {
        assert!(is_broken(&store.finish_job(&id, open, 10, &picture).await));
    }
    assert!(is_missing(&store.finish_job(&"nobody".into(), JobStanding::Succeeded, 10, &picture).await));
    assert!(store.finish_job(&id, JobStanding::Succeeded, 10, &picture).await.unwrap());
    assert!(!store.finish_job(&id, JobStanding::Superseded, 11, &serde_json::Value::Null).await.unwrap());
    let ended = store.job(&id).await.unwrap().unwrap().ended.unwrap();
    assert_eq!((ended.standing, ended.at_ms, ended.document), (JobStanding::Succeeded, 10, Some(picture)));
    assert!(store.snapshot(&world.topology.id).await.unwrap().unwrap().jobs.is_empty());
    // One that has ended is not superseded, nor ended again by forgetting.
    store.delete_topology(&world.topology.id, &world.job(2, JobKind::Delete), None).await.unwrap();
    store.forget_topology(&world.topology.id, 99, &[(id.clone(), serde_json::json!(1))]).await.unwrap();
    let ended = store.job(&id).await.unwrap().unwrap().ended.unwrap();
    assert_eq!((ended.standing, ended.at_ms), (JobStanding::Succeeded, 10));
}

pub(super) async fn later_requests_supersede(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "later", 0).await;
    let other = World::new(store.clone(), "later-other", 0).await;
    store.change_component(&world.component, 1, Some(&world.job(2, JobKind::Change))).await.unwrap();
    let removal = world.job(3, JobKind::Delete);
    store.delete_topology(&world.topology.id, &removal, None).await.unwrap();
    assert_eq!(store.snapshot(&world.topology.id).await.unwrap().unwrap().jobs, [removal]);
    for number in [1, 2] {
        let ended = store.job(&world.job(number, JobKind::Create).id).await.unwrap().unwrap().ended.unwrap();
        assert_eq!((ended.standing, ended.at_ms), (JobStanding::Superseded, 1_003));
    }
    assert_eq!(other.job_ids(true).await.len(), 1, "jobs of others go on");
}
