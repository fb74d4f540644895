//! The authorities, and which certificates agents have.

use super::fixture::{World, heartbeat, is_broken, is_conflict};
use super::pool::{at_the_door, token};
use crate::{
    AgentCertificate, AgentId, AuthorityKept, AuthorityRecord, CertificateShown, RetiredAuthority, SHOWN_BATCH_MAX,
    Store,
};
use std::sync::Arc;
use straas_schemas::Digest;
use straas_schemas::authority::RotationPhase;

fn digest(of: &str) -> Digest {
    Digest::of(&[of])
}

fn kept(of: &str) -> AuthorityKept {
    AuthorityKept {
        fingerprint: digest(of),
        certificate_pem: format!("certificate of {of}"),
        key_sealed: format!("key of {of}"),
        bridge_pem: None,
    }
}

fn shown(agent: &AgentId, incarnation: u64, key: &str, trusts: Option<&[&str]>) -> CertificateShown {
    let trusts = trusts.map(|trusts| trusts.iter().map(|of| digest(of)).collect());
    CertificateShown { agent: agent.clone(), incarnation, key: digest(key), by: digest("one"), trusts }
}

/// There is one record for all, so this is the only case that writes it.
pub(super) async fn the_record_is_changed_as_it_was_seen(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "authority", 1).await;
    world.enrol(0, 10).await;
    let agent = AgentId::Node(world.id(0).clone());
    let issue = async |key: &str, issuer: &str| store.note_issued(&agent, 1, &digest(key), &digest(issuer)).await;
    let before = store.authorities().await.unwrap().map_or(0, |record| record.revision);
    if before == 0 {
        issue("k0", "anybody").await.expect("nothing says who issues");
    }
    let mut record = AuthorityRecord {
        revision: before,
        phase: RotationPhase::Spreading,
        issuer: digest("one"),
        kept: vec![kept("one"), AuthorityKept { bridge_pem: Some("a bridge".into()), ..kept("two") }],
        retired: vec![RetiredAuthority { fingerprint: digest("0"), certificate_pem: "c".into(), bridge_pem: None }],
        made: 3,
        by: "ann".into(),
        since_ms: 77,
    };
    store.change_authorities(&record).await.unwrap();
    record.revision += 1;
    assert_eq!(store.authorities().await.unwrap(), Some(record.clone()));
    assert!(is_conflict(&store.change_authorities(&AuthorityRecord { revision: before, ..record.clone() }).await));
    assert!(is_conflict(&store.change_authorities(&AuthorityRecord { revision: before + 2, ..record.clone() }).await));
    issue("k1", "one").await.unwrap();
    assert!(is_conflict(&issue("k2", "two").await), "it does not issue");
    let noted = async || store.agent_certificate(&agent).await.unwrap().expect("it enrolled").issued_key;
    assert_eq!(noted().await, Some(digest("k1")));
    store.change_authorities(&AuthorityRecord { issuer: digest("two"), ..record.clone() }).await.unwrap();
    assert!(is_conflict(&issue("k3", "one").await), "nor does this one any more");
    issue("k4", "two").await.unwrap();
    assert_eq!(noted().await, Some(digest("k4")));
    // of two who change it at once one wins
    let record = store.authorities().await.unwrap().expect("recorded");
    let tries = [1, 2, 3, 4].map(|made| {
        let (store, record) = (store.clone(), AuthorityRecord { made, ..record.clone() });
        tokio::spawn(async move { store.change_authorities(&record).await })
    });
    let mut won = 0;
    for tried in tries {
        let tried = tried.await.unwrap();
        assert!(tried.is_ok() || is_conflict(&tried), "{tried:?}");
        won += u32::from(tried.is_ok());
    }
    assert_eq!(won, 1);
}

pub(super) async fn certificates_are_noted_of_the_newest_incarnation(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "certificates", 2).await;
    let agent = AgentId::Node(world.id(0).clone());
    let read = async || store.agent_certificate(&agent).await.unwrap();
    store.note_shown(&[shown(&agent, 0, "k", None)]).await.unwrap();
    assert_eq!(read().await, None, "it has not enrolled");
    world.enrol(0, 10).await;
    let fresh = AgentCertificate {
        agent: agent.clone(),
        name: "host-zk-1".into(),
        incarnation: 1,
        heard_ms: None,
        issued_key: None,
        shown_key: None,
        shown_by: None,
        trusts: None,
    };
    assert_eq!(read().await, Some(fresh.clone()));
    store.record_heartbeats(&[(world.id(0).clone(), 55, heartbeat(1, "r", 1))]).await.unwrap();
    let unknown = AgentId::Node("nobody".into());
    let old = shown(&agent, 0, "old", Some(&["x"]));
    let new = shown(&agent, 1, "k1", Some(&["one", "two"]));
    store.note_shown(&[new, old, shown(&unknown, 1, "k", None)]).await.unwrap();
    let seen = AgentCertificate {
        heard_ms: Some(55),
        shown_key: Some(digest("k1")),
        shown_by: Some(digest("one")),
        trusts: Some(vec![digest("one"), digest("two")]),
        ..fresh.clone()
    };
    assert_eq!(read().await, Some(seen.clone()));
    store.note_shown(&[shown(&agent, 1, "k1", Some(&[]))]).await.unwrap();
    assert_eq!(read().await.expect("there").trusts, Some(vec![]), "it trusts nobody, and says so");
    store.note_shown(&[shown(&agent, 1, "k1", None)]).await.unwrap();
    assert_eq!(read().await, Some(AgentCertificate { trusts: None, ..seen }), "it says nothing");
    let all = store.agent_certificates().await.unwrap();
    let ours: Vec<_> = all.iter().filter(|one| one.name.starts_with("host-zk")).collect();
    assert!(ours.iter().any(|one| one.agent == agent));
    assert!(all.iter().all(|one| one.agent.as_str() != world.id(1).as_str()), "it has not enrolled");
    assert!(all.is_sorted_by(|a, b| a.agent < b.agent), "nodes, then hosts, each by id");
    // another host
    world.enrol(0, 20).await;
    assert_eq!(read().await, Some(AgentCertificate { incarnation: 2, ..fresh.clone() }));
    store.note_shown(&[shown(&agent, 1, "late", None)]).await.unwrap();
    assert_eq!(read().await, Some(AgentCertificate { incarnation: 2, ..fresh }), "late");
    store.remove_nodes(&[world.id(0).clone()]).await.unwrap();
    assert_eq!(read().await, None);
    let many = vec![shown(&agent, 2, "k", None); SHOWN_BATCH_MAX + 1];
    assert!(is_broken(&store.note_shown(&many).await));
}

pub(super) async fn hosts_have_certificates_too(store: Arc<dyn Store>) {
    store.add_pool_token(&token("certified", None, 1)).await.unwrap();
    store.join_pool(&at_the_door("certified", "k", "certified-1")).await.unwrap();
    let agent = AgentId::Host("certified-1".into());
    store.note_shown(&[shown(&agent, 1, "k1", Some(&["one"]))]).await.unwrap();
    let read = store.agent_certificate(&agent).await.unwrap().expect("it joined");
    assert_eq!((read.name.as_str(), read.incarnation, read.heard_ms), ("name of k", 1, Some(900)));
    assert_eq!((read.shown_key, read.trusts), (Some(digest("k1")), Some(vec![digest("one")])));
    let all = store.agent_certificates().await.unwrap();
    assert_eq!(all.iter().filter(|one| one.agent == agent).count(), 1);
    // a node of the same id would be another agent
    assert_eq!(store.agent_certificate(&AgentId::Node("certified-1".into())).await.unwrap(), None);
}
