//! Who may do what on the agents' port: certificates, join tokens, incarnations.

use crate::agent::{Agent, ask, connect, csr, enrolment, tls};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use crate::wire::CREATED;
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _, SanType};
use std::net::IpAddr;
use straas_store::{EnrolOutcome, Store as _};

/// Every route that names a node.
fn routes(agent: &Agent) -> Vec<(Method, String, Vec<u8>)> {
    let post = |what: &str, body: String| (Method::POST, agent.path(what), body.into_bytes());
    vec![
        post("poll", serde_json::to_string(&agent.poll_body(0)).expect("json")),
        post(
            "reports",
            r#"{"incarnation":1,"reports":[{"seq":1,"at_ms":0,"kind":"converged","generation":1}]}"#.into(),
        ),
        post("heartbeat", "{}".into()),
        post("renew", r#"{"csr_pem":"x"}"#.into()),
        (Method::GET, agent.path(&format!("packs/{}", "0".repeat(40))), vec![]),
        (Method::GET, agent.path(&format!("files/{}", "0".repeat(64))), vec![]),
    ]
}

#[tokio::test]
async fn a_node_reads_and_writes_itself_only() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 3).await;
    let agents = rig.enrolled(&id, 3).await;
    let stranger = tls(&rig.ca(), None);
    let before = rig.state().await;
    for (method, path, body) in routes(&agents[0]) {
        let other = agents[1].ask(method.clone(), &path, body.clone()).await;
        other.problem(403);
        assert!(!other.text().contains(&agents[0].path("x")[15..20]), "nothing of the other node is told");
        let nobody = ask(rig.agents, &stranger, method.clone(), &path, body.clone()).await.expect("an answer");
        nobody.problem(401);
        // a node that is not there answers as one that is another's
        let missing = path.replace(&agents[0].node, "f".repeat(32).as_str());
        agents[1].ask(method, &missing, body).await.problem(403);
    }
    assert_eq!(
        rig.state().await["topologies"]["items"][0]["components"],
        before["topologies"]["items"][0]["components"]
    );
    // odd ids in the path are nobody's
    for odd in ["..%2f..", "%00", "a%26b", &"a".repeat(5000)] {
        let answer = agents[1].ask(Method::POST, &format!("/agent/v1/nodes/{odd}/poll"), b"{}".to_vec()).await;
        answer.problem(403);
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_ends_the_handshake() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let agent = rig.enrolled(&id, 1).await.remove(0);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "StraaS fleet CA");
    let key = KeyPair::generate().expect("a key");
    let foreign = Issuer::new(params, key);
    let mut leaf = CertificateParams::default();
    let name = format!("straas://node/{}/1", agent.node);
    leaf.subject_alt_names = vec![SanType::URI(name.try_into().expect("a name"))];
    let key = KeyPair::generate().expect("a key");
    let forged = leaf.signed_by(&key, &foreign).expect("signed").pem();
    let config = tls(&rig.ca(), Some((&forged, &key.serialize_pem())));
    let body = serde_json::to_vec(&agent.poll_body(0)).expect("json");
    let refused = ask(rig.agents, &config, Method::POST, &agent.path("poll"), body).await;
    assert!(refused.is_err(), "{refused:?}");
    // and a client that expects another controller does not talk to this one
    let other = Rig::start().await;
    assert!(connect(rig.agents, &tls(&other.ca(), None)).await.is_err());
}

#[tokio::test]
async fn a_join_token_is_good_once_for_its_node_and_its_time() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let node = rig.nodes(&id, 1).await[0]["id"].as_str().expect("an id").to_owned();
    let token = rig.join_token(&node);
    // a request that cannot be signed does not cost the token
    for bad in [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        &"x".repeat(9000),
    ] {
        let answer =
            ask(rig.agents, &tls(&rig.ca(), None), Method::POST, "/agent/v1/enrol", enrolment(&token, bad)).await;
        assert!(answer.expect("an answer").problem(422).contains_key("/csr_pem"));
    }
    // of eight at once exactly one wins
    let tries = (0..8).map(|_| Agent::enrol(&rig, &token));
    let done = futures_util::future::join_all(tries).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
    for refused in done.into_iter().filter_map(Result::err) {
        refused.problem(401);
    }
    let other = Rig::start().await;
    let foreign_id = other.create("demo", 1).await;
    let foreign_node = other.nodes(&foreign_id, 1).await[0]["id"].as_str().expect("an id").to_owned();
    let foreign = other.join_token(&foreign_node);
    for bad in
        [token.as_str(), &foreign, "", "x", &"0".repeat(64), &"0".repeat(5000), "'; drop table node; --", "\u{0}"]
    {
        let refused = Agent::enrol(&rig, bad).await.err().unwrap_or_else(|| panic!("{bad:?} was accepted"));
        refused.problem(401);
        assert!(bad.len() < 4 || !refused.text().contains(bad), "the token comes back: {}", refused.text());
    }
    // expired
    let late = rig.create("late", 1).await;
    let node = rig.nodes(&late, 1).await[0]["id"].as_str().expect("an id").to_owned();
    let expired = rig.another_token(&node, 1).await;
    let refused = Agent::enrol(&rig, &expired).await.err().expect("a refusal");
    refused.problem(401);
    assert!(refused.text().contains("expired"), "{}", refused.text());
}

#[tokio::test]
async fn an_enrolment_whose_answer_was_lost_is_asked_for_again_with_the_same_key() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let node = rig.nodes(&id, 1).await[0]["id"].as_str().expect("an id").to_owned();
    let (_, csr) = csr(CertificateParams::default());
    let body = enrolment(&rig.join_token(&node), &csr);
    for _ in 0..2 {
        let answer = ask(rig.agents, &tls(&rig.ca(), None), Method::POST, "/agent/v1/enrol", body.clone())
            .await
            .expect("an answer");
        assert_eq!(
            (answer.status, &answer.json()["incarnation"]),
            (CREATED, &serde_json::json!(1)),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_newer_incarnation_ends_the_earlier_one_at_once() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut old = rig.enrolled(&id, 1).await.remove(0);
    assert_eq!(old.incarnation, 1);
    assert!(old.poll(60_000).await);
    let waiting = {
        let body = serde_json::to_vec(&old.poll_body(60_000)).expect("json");
        let (agents, path) = (rig.agents, old.path("poll"));
        let config = tls(&rig.ca(), Some((&old.certificate_pem, &old.key_pem)));
        tokio::spawn(async move { ask(agents, &config, Method::POST, &path, body).await })
    };
    rig.until("/metrics", |answer| answer.text().contains("straas_controller_nodes_polling 1")).await;
    let token = rig.another_token(&old.node, i64::MAX).await;
    let new = Agent::enrol(&rig, &token).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
    assert_eq!((new.node.as_str(), new.incarnation), (old.node.as_str(), 2));
    let ended = tokio::time::timeout(PATIENCE, waiting).await.expect("in time").expect("no panic").expect("an answer");
    ended.problem(401);
    for (method, path, body) in routes(&old) {
        old.ask(method, &path, body).await.problem(401);
    }
    assert_eq!(new.post("poll", &new.poll_body(0)).await.status, 200);
    // renewal keeps the incarnation, whatever is asked for
    let (_, csr) = csr(CertificateParams::default());
    let renewed = new.post("renew", &serde_json::json!({ "csr_pem": csr })).await.json();
    assert_eq!(renewed["incarnation"], 2);
    // a node that is removed has no standing
    rig.delete(&id).await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
    new.post("poll", &new.poll_body(0)).await.problem(401);
}

#[tokio::test]
async fn what_another_controller_did_is_known_here() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let old = rig.enrolled(&id, 1).await.remove(0);
    // enrolled elsewhere: the certificate is of this fleet's authority, the database knows
    let token = rig.another_token(&old.node, i64::MAX).await;
    let outcome = rig.store().await.enrol(&sha256(&token), "key", 2).await.expect("enrolled");
    assert!(matches!(outcome, EnrolOutcome::Enrolled { incarnation: 2, .. }));
    let ca = std::fs::read_to_string(rig.data().join("ca/ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&rig.ca(), KeyPair::from_pem(&ca).expect("a key")).expect("an issuer");
    let mut leaf = CertificateParams::default();
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    leaf.subject_alt_names = vec![SanType::URI(format!("straas://node/{}/2", old.node).try_into().expect("a name"))];
    let key = KeyPair::generate().expect("a key");
    let pem = leaf.signed_by(&key, &issuer).expect("signed").pem();
    let config = tls(&rig.ca(), Some((&pem, &key.serialize_pem())));
    let body = serde_json::to_vec(&old.poll_body(0)).expect("json");
    let answer = ask(rig.agents, &config, Method::POST, &old.path("poll"), body).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    old.post("poll", &old.poll_body(0)).await.problem(401);
}

fn sha256(text: &str) -> String {
    straas_schemas::Digest::sha256(text.as_bytes()).0
}

#[tokio::test]
async fn of_a_signing_request_only_the_key_is_used() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 3).await;
    let nodes = rig.nodes(&id, 3).await;
    let ids: Vec<_> = nodes.iter().map(|node| node["id"].as_str().expect("an id")).collect();
    let mut greedy = CertificateParams::new(vec!["straas-controller".to_owned()]).expect("names");
    greedy.subject_alt_names.push(SanType::URI(format!("straas://node/{}/1", ids[1]).try_into().expect("a name")));
    greedy.subject_alt_names.push(SanType::IpAddress(IpAddr::from([10, 9, 0, 1])));
    greedy.distinguished_name.push(DnType::CommonName, ids[1]);
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (node, params) in ids.iter().zip([greedy, authority]) {
        let (key, csr) = csr(params);
        let body = enrolment(&rig.join_token(node), &csr);
        let answer =
            ask(rig.agents, &tls(&rig.ca(), None), Method::POST, "/agent/v1/enrol", body).await.expect("an answer");
        if answer.status == 422 {
            continue; // asking for more than a key may be refused as well
        }
        assert_eq!(answer.status, CREATED, "{}", answer.text());
        let pem = answer.json()["certificate_pem"].as_str().expect("pem").to_owned();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("pem");
        let x509 = pem.parse_x509().expect("a certificate");
        assert!(!x509.is_ca());
        let names = &x509.subject_alternative_name().expect("valid").expect("there").value.general_names;
        let wanted = format!("straas://node/{node}/1");
        assert!(
            matches!(names.as_slice(), [x509_parser::extensions::GeneralName::URI(uri)] if *uri == wanted),
            "{names:?}"
        );
        assert_eq!(x509.public_key().raw, key.subject_public_key_info());
    }
}
