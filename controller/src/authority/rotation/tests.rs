//! Exchanges told from their beginning to their end, and what stands in their way.

use super::*;
use straas_schemas::Digest;
use straas_store::AgentId;

fn digest(of: &str) -> Digest {
    Digest::of(&[of])
}

fn kept(of: &str, bridge: Option<&str>) -> AuthorityKept {
    AuthorityKept {
        fingerprint: digest(of),
        certificate_pem: of.to_owned(),
        key_sealed: format!("sealed {of}"),
        bridge_pem: bridge.map(str::to_owned),
    }
}

/// An agent with a certificate of this authority that trusts these.
fn agent(id: &str, shown_by: &str, trusts: Option<&[&str]>) -> AgentCertificate {
    AgentCertificate {
        agent: AgentId::Node(id.into()),
        name: format!("name of {id}"),
        incarnation: 1,
        heard_ms: Some(1_000),
        issued_key: None,
        shown_key: Some(digest("key")),
        shown_by: Some(digest(shown_by)),
        trusts: trusts.map(|trusts| trusts.iter().map(|of| digest(of)).collect()),
    }
}

fn at(now_ms: i64, agents: &[AgentCertificate]) -> Looked<'_> {
    Looked { agents, now_ms, settle_ms: 10 }
}

/// Phase, issuer and those kept, in short.
fn short(record: &AuthorityRecord) -> (Phase, String, Vec<String>, Vec<String>) {
    let named = |digest: &Digest| ["a", "b", "c"].into_iter().find(|of| self::digest(of) == *digest).expect("known");
    let kept = record.kept.iter().map(|kept| kept.certificate_pem.clone()).collect();
    let retired = record.retired.iter().map(|one| format!("{}{:?}", one.certificate_pem, one.bridge_pem)).collect();
    (record.phase, named(&record.issuer).to_owned(), kept, retired)
}

fn is(phase: Phase, issuer: &str, kept: &[&str], retired: &[&str]) -> (Phase, String, Vec<String>, Vec<String>) {
    let own = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    (phase, issuer.to_owned(), own(kept), own(retired))
}

fn spreading() -> AuthorityRecord {
    begun(&first(kept("a", None)), kept("b", Some("a>b")), "ann", 100).expect("nothing is under way")
}

#[test]
fn each_step_waits_for_every_agent() {
    let old = agent("n1", "a", Some(&["a"]));
    let record = spreading();
    assert_eq!(short(&record), is(Phase::Spreading, "a", &["a", "b"], &[]));
    assert_eq!((record.made, record.by.as_str(), record.since_ms), (2, "ann", 100));
    let both = agent("n2", "a", Some(&["b", "a"]));
    let agents = [both.clone(), old];
    assert_eq!(next(&record, &at(200, &agents)), None, "one trusts the old one only");
    let agents = [both.clone(), AgentCertificate { agent: AgentId::Host("h".into()), ..both.clone() }];
    assert_eq!(next(&record, &at(109, &agents)), None, "not every controller has heard of it");
    let record = next(&record, &at(110, &agents)).expect("all trust both");
    assert_eq!(short(&record), is(Phase::Renewing, "b", &["a", "b"], &[]));
    let renewed = agent("n1", "b", Some(&["a", "b"]));
    assert_eq!(next(&record, &at(200, &[renewed.clone(), both.clone()])), None);
    let record = next(&record, &at(200, std::slice::from_ref(&renewed))).expect("all renewed");
    assert_eq!(short(&record), is(Phase::Retiring, "b", &["b"], &["aNone"]));
    assert_eq!(next(&record, &at(300, &[renewed])), None, "it still trusts the old one");
    let dropped = agent("n1", "b", Some(&["b"]));
    let record = next(&record, &at(300, std::slice::from_ref(&dropped))).expect("all dropped it");
    assert_eq!(short(&record), is(Phase::Settled, "b", &["b"], &["aNone"]));
    assert_eq!(next(&record, &at(9_000, &[dropped])), None);
    assert_eq!(next(&spreading(), &at(110, &[])).expect("there is nobody").phase, Phase::Renewing);
    // the one after that: what leads from the first to it stays known
    let third = begun(&record, kept("c", Some("b>c")), "bob", 400).expect("settled");
    let third = onward(&onward(&third, 410).expect("on"), 420).expect("on");
    assert_eq!(short(&third), is(Phase::Retiring, "c", &["c"], &["bSome(\"a>b\")", "aNone"]));
}

#[test]
fn what_is_not_retired_is_taken_back() {
    let back = taken_back(&spreading(), "bob", 120).expect("it only spreads");
    assert_eq!(short(&back), is(Phase::Retiring, "a", &["a"], &["bNone"]));
    assert_eq!(back.by, "bob");
    let renewing = onward(&spreading(), 120).expect("on");
    let back = taken_back(&renewing, "bob", 130).expect("nothing is retired");
    assert_eq!(short(&back), is(Phase::TakingBack, "a", &["a", "b"], &[]));
    let (new, old) = (agent("n1", "b", Some(&["a", "b"])), agent("n2", "a", Some(&["a", "b"])));
    assert_eq!(next(&back, &at(200, &[new, old.clone()])), None, "one has a certificate of the new one");
    let back = next(&back, &at(200, &[old])).expect("all have old ones");
    assert_eq!(short(&back), is(Phase::Retiring, "a", &["a"], &["bNone"]));
    for (record, why) in [
        (&back, "key is gone"),
        (&taken_back(&renewing, "bob", 130).expect("taken back"), "being taken back"),
        (&first(kept("a", None)), "no exchange"),
    ] {
        let refused = taken_back(record, "bob", 140).expect_err("nothing to take back");
        assert!(refused.contains(why), "{refused}");
    }
    let twice = begun(&spreading(), kept("c", None), "bob", 150).expect_err("one is under way");
    assert!(twice.contains("spreading"), "{twice}");
    assert_eq!(onward(&first(kept("a", None)), 1), None);
}

#[test]
fn who_is_missing_is_named_with_why() {
    let check = |record: &AuthorityRecord, agent: &AgentCertificate, now_ms: i64, expect: Option<MissingReason>| {
        let (missing, ready) = missing(record, std::slice::from_ref(agent), now_ms);
        assert_eq!((missing.first().map(|one| one.reason), ready), (expect, usize::from(expect.is_none())));
    };
    let (spreading, renewing) = (spreading(), onward(&spreading(), 120).expect("on"));
    let old = agent("n", "a", Some(&["a"]));
    check(&spreading, &old, 2_000, Some(MissingReason::OnItsWay));
    check(&spreading, &old, 2_000 + SILENT_MS, Some(MissingReason::Silent));
    check(&spreading, &agent("n", "a", None), 2_000, Some(MissingReason::TooOld));
    check(&spreading, &agent("n", "a", Some(&["a", "b"])), 2_000 + SILENT_MS, None);
    check(&renewing, &agent("n", "a", None), 2_000, Some(MissingReason::OnItsWay));
    check(&renewing, &agent("n", "b", None), 2_000, None);
    check(&spreading, &AgentCertificate { heard_ms: None, ..old }, 2_000, Some(MissingReason::Silent));
    let many: Vec<_> = (0..MISSING_MAX + 5).map(|n| agent(&format!("n{n}"), "a", Some(&["a"]))).collect();
    let (first, ready) = missing(&spreading, &many, 2_000);
    assert_eq!((first.len(), ready), (MISSING_MAX, 0));
}
