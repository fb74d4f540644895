//! The certificate authority is exchanged: over real TLS, with agents that are quick, silent, too old, and gone for all of
//! it, with controllers that die in between, and with somebody who has the old authority's key.

use crate::agent::{Agent, ask, connect, csr, live, tls};
use crate::attacked::certificate;
use crate::pool::{PaperHost, pool, token};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use crate::temp_pg::TempPg;
use crate::wire::Answer;
use http::Method;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use straas_schemas::Digest;
use straas_schemas::poll::PollAnswer;
use straas_schemas::pool::{HostPollAnswer, HostPollRequest};

const AUTHORITY: &str = "/straas/v1.0/authority";
const ROTATION: &str = "/straas/v1.0/authority/rotation";
const ADVANCE: &str = "/straas/v1.0/authority/rotation/advance";

/// The fingerprints of certificates.
fn prints(pem: &str) -> Vec<Digest> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| Digest::sha256(&one.expect("pem"))).collect()
}

async fn phase(rig: &Rig, phase: &str) -> Value {
    rig.until(AUTHORITY, |answer| answer.json()["phase"] == phase).await.json()
}

async fn begin(rig: &Rig) -> Value {
    let answer = rig.post(ROTATION, &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Says whom it trusts, and trusts whom it is told; what that is.
async fn learns(agent: &mut Agent, trusted: &str) -> String {
    agent.trusts = Some(prints(trusted));
    let answer = agent.post("poll", &agent.poll_body(0)).await;
    let told: PollAnswer = serde_json::from_slice(&answer.body).expect("a poll answer");
    let pem = told.trust_pem.expect("something else to trust");
    assert_eq!(told.assignment.map(|a| a.generation), None, "nothing else is told");
    let (certificate, key) = (agent.certificate_pem.clone(), agent.key_pem.clone());
    agent.uses(&pem, &certificate, &key);
    agent.trusts = Some(prints(&pem));
    let again = agent.post("poll", &agent.poll_body(0)).await;
    let again: PollAnswer = serde_json::from_slice(&again.body).expect("a poll answer");
    assert_eq!(again.trust_pem, None, "it knows");
    pem
}

/// Renews its certificate.
async fn renew(agent: &mut Agent, trusted: &str) {
    let (key, csr) = csr(CertificateParams::default());
    let given = agent.post("renew", &json!({ "csr_pem": csr })).await;
    assert_eq!(given.status, 200, "{}", given.text());
    let pem = given.json()["certificate_pem"].as_str().expect("pem").to_owned();
    agent.uses(trusted, &pem, &key.serialize_pem());
}

/// Renews its certificate if it is told to; whether it was.
async fn renews(agent: &mut Agent, trusted: &str) -> bool {
    let answer = agent.post("poll", &agent.poll_body(0)).await;
    let told: PollAnswer = serde_json::from_slice(&answer.body).expect("a poll answer");
    if told.renew {
        renew(agent, trusted).await;
        // it is seen with it
        let seen = agent.post("poll", &agent.poll_body(0)).await;
        assert_eq!(seen.status, 200, "{}", seen.text());
    }
    told.renew
}

/// An agent polls until it is known what it shows: what it had shown to another controller may be written after that.
async fn is_seen(rig: &Rig, agent: &Agent) {
    let begun = std::time::Instant::now();
    while rig.get(AUTHORITY).await["ready"] != 1 {
        assert!(begun.elapsed() < PATIENCE, "it is not seen");
        assert_eq!(agent.post("poll", &agent.poll_body(0)).await.status, 200);
        // waits for: the controller to write down what it saw, which it does now and then
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn comes_back(rig: &Rig, trusted: &str, path: &str, certificate: &str, key: &KeyPair) -> Answer {
    let csr = CertificateParams::default().serialize_request(key).expect("a request").pem().expect("pem");
    let body = json!({ "certificate_pem": certificate, "csr_pem": csr }).to_string().into_bytes();
    ask(rig.agents, &tls(trusted, None), Method::POST, path, body).await.expect("an answer")
}

/// An authority with the key that it had.
fn issuer(rig: &Rig) -> (String, Issuer<'static, KeyPair>) {
    let key = std::fs::read_to_string(rig.data().join("ca/ca.key")).expect("a key");
    let of = Issuer::from_ca_cert_pem(&rig.ca(), KeyPair::from_pem(&key).expect("a key"));
    (rig.ca(), of.expect("an authority"))
}

/// A certificate of nobody's authority with its names, and of ours with another key, ends the handshake.
async fn foreign_is_refused(rig: &Rig, agent: &Agent, trusted: &str) {
    let name = format!("straas://node/{}/{}", agent.node, agent.incarnation);
    for ca in [rig.ca(), trusted.to_owned()] {
        let foreign = Issuer::from_ca_cert_pem(&ca, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let forged = certificate(&foreign, &name, &key, -1);
        let config = tls(trusted, Some((&forged, &key.serialize_pem())));
        let body = serde_json::to_vec(&agent.poll_body(0)).expect("json");
        assert!(ask(rig.agents, &config, Method::POST, &agent.path("poll"), body).await.is_err());
    }
}

async fn follow(rig: &mut Rig, agents: &mut [Agent]) {
    rig.kill().await;
    rig.up().await;
    agents.iter_mut().for_each(|agent| agent.follow(rig));
}

/// How many stages were reported of a topology, and the generation of each node.
async fn work(rig: &Rig, topology: &str, agents: &[Agent]) -> (usize, Vec<u64>) {
    let stages = rig.store_events(topology).await.iter().filter(|event| event.kind == "stage").count();
    (stages, agents.iter().map(|agent| agent.assignment().generation).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_exchanged_step_by_step_and_nobody_notices() {
    let mut rig = Rig::start().await;
    let topology = rig.create("demo", 3).await;
    let mut agents = rig.enrolled(&topology, 3).await;
    live(&rig, &mut agents, &topology, "ACTIVE").await;
    let before = work(&rig, &topology, &agents).await;
    let (old, stolen) = issuer(&rig);
    foreign_is_refused(&rig, &agents[0], &old).await;

    // settled: nothing is told, and a look at what would be changes nothing
    let now = rig.get(AUTHORITY).await;
    assert_eq!((&now["phase"], &now["certificates_pem"]), (&json!("settled"), &json!(format!("{}\n", old.trim_end()))));
    assert_eq!((&now["agents"], &now["ready"]), (&json!(3), &json!(3)));
    let foreseen = rig.post(&format!("{ROTATION}?dry_run=true"), &Value::Null).await.json();
    assert_eq!(
        (&foreseen["phase"], &foreseen["ready"], &foreseen["other"]),
        (&json!("spreading"), &json!(0), &Value::Null)
    );
    assert_eq!(rig.get(AUTHORITY).await, now);
    rig.call(Method::DELETE, ROTATION, vec![]).await.problem(409);
    rig.post(ADVANCE, &json!({ "phase": "settled" })).await.problem(409);

    // spreading: two learn to trust both, the third is silent, then too old, then learns too
    let begun = begin(&rig).await;
    assert_eq!((&begun["phase"], &begun["agents"], &begun["ready"]), (&json!("spreading"), &json!(3), &json!(0)));
    assert_eq!(begun["other"]["name"], "StraaS fleet CA 2");
    rig.post(ROTATION, &Value::Null).await.problem(409);
    let mut both = String::new();
    for agent in &mut agents[..2] {
        both = learns(agent, &old).await;
    }
    assert_eq!((prints(&both).len(), prints(&both)[0].clone()), (2, prints(&old)[0].clone()));
    let waits = rig.until(AUTHORITY, |answer| answer.json()["ready"] == 2).await.json();
    assert_eq!(
        (&waits["missing"][0]["id"], &waits["missing"][0]["reason"]),
        (&json!(agents[2].node), &json!("on_its_way"))
    );
    agents[2].poll(0).await;
    rig.until(AUTHORITY, |answer| answer.json()["missing"][0]["reason"] == "too_old").await;
    // who dies in the middle goes on from what is recorded
    follow(&mut rig, &mut agents).await;
    assert_eq!(rig.get(AUTHORITY).await["phase"], "spreading");
    foreign_is_refused(&rig, &agents[0], &both).await;
    learns(&mut agents[2], &old).await;

    // renewing: the new one issues; who knows only one of the two gets in, by either
    phase(&rig, "renewing").await;
    follow(&mut rig, &mut agents).await;
    let new = both.trim_start_matches(old.trim_end()).to_owned();
    assert_eq!(prints(&new), prints(&both)[1..]);
    for trusted in [&old, &new, &both] {
        connect(rig.agents, &tls(trusted, None)).await.expect("the controller is known");
    }
    foreign_is_refused(&rig, &agents[0], &both).await;
    for agent in &mut agents[..2] {
        assert!(renews(agent, &both).await, "it is told to");
        assert!(!renews(agent, &both).await, "once");
    }
    agents[2].poll(0).await;
    let waits = rig.until(AUTHORITY, |answer| answer.json()["ready"] == 2).await.json();
    assert_eq!(
        (&waits["missing"][0]["id"], &waits["issuer"]["name"]),
        (&json!(agents[2].node), &json!("StraaS fleet CA 2"))
    );
    assert_eq!(rig.ca(), old, "not retired");

    // the third is away for good, as far as somebody says
    rig.post(ADVANCE, &json!({ "phase": "spreading" })).await.problem(409);
    rig.post(ADVANCE, &json!({ "phase": "nonsense" })).await.problem(422);
    let foreseen = rig.post(&format!("{ADVANCE}?dry_run=true"), &json!({ "phase": "renewing" })).await.json();
    assert_eq!(foreseen["phase"], "retiring");
    assert_eq!(rig.get(AUTHORITY).await["phase"], "renewing");
    let open = agents[2].connection().await;
    let gone_on = rig.post(ADVANCE, &json!({ "phase": "renewing" })).await;
    assert_eq!((gone_on.status, &gone_on.json()["phase"]), (200, &json!("retiring")), "{}", gone_on.text());
    rig.call(Method::DELETE, ROTATION, vec![]).await.problem(409);
    // also on a connection that was open before
    let body = serde_json::to_vec(&agents[2].poll_body(0)).expect("json");
    let late = crate::wire::request(Method::POST, &agents[2].path("poll"), &[], body);
    let late = crate::wire::whole(crate::wire::send(open, late).await.expect("an answer")).await;
    assert!(late.text().contains("is retired"), "{}", late.text());
    late.problem(401);
    follow(&mut rig, &mut agents).await;
    assert!(agents[2].is_refused().await, "its certificate is of the old one");
    foreign_is_refused(&rig, &agents[0], &new).await;
    rig.until(AUTHORITY, |_| rig.ca() != old).await;
    assert_eq!(prints(&rig.ca()), prints(&new), "nothing of the old one is left on the disk");
    assert!(!std::fs::read_to_string(rig.data().join("ca/ca.key")).expect("a key").is_empty());

    // it comes back by the key that it was known with; who has the old authority's key does not
    let key = KeyPair::from_pem(&agents[2].key_pem).expect("a key");
    let name = format!("straas://node/{}/{}", agents[2].node, agents[2].incarnation);
    let thief = KeyPair::generate().expect("a key");
    let refused = comes_back(&rig, &old, "/agent/v1/come-back", &certificate(&stolen, &name, &thief, -1), &thief).await;
    assert!(refused.text().contains("not known that it gave it"), "{}", refused.text());
    refused.problem(401);
    let given = comes_back(&rig, &old, "/agent/v1/come-back", &agents[2].certificate_pem, &key).await;
    assert_eq!(given.status, 200, "{}", given.text());
    let pem = given.json()["certificate_pem"].as_str().expect("pem").to_owned();
    let key_pem = agents[2].key_pem.clone();
    agents[2].uses(&both, &pem, &key_pem);
    let told = rig.store_events(&topology).await;
    assert!(told.iter().any(|event| event.text.contains("came back: its certificate was of an authority")));

    // all drop the old one
    for agent in &mut agents {
        assert_eq!(prints(&learns(agent, &both).await), prints(&new));
    }
    let end = phase(&rig, "settled").await;
    assert_eq!((&end["ready"], prints(end["certificates_pem"].as_str().expect("pem"))), (&json!(3), prints(&new)));
    follow(&mut rig, &mut agents).await;

    // who was set up before all this, and comes only now, checks the controller by the bridge
    let other = rig.create("other", 1).await;
    let late = rig.nodes(&other, 1).await[0]["id"].as_str().expect("an id").to_owned();
    let (_, request) = csr(CertificateParams::default());
    let body = crate::agent::enrolment(&rig.join_token(&late), &request);
    let enrolled = ask(rig.agents, &tls(&old, None), Method::POST, "/agent/v1/enrol", body).await.expect("an answer");
    assert_eq!((enrolled.status, prints(enrolled.json()["ca_pem"].as_str().expect("pem"))), (201, prints(&new)));

    // nothing was planned anew, and no stage ran
    for agent in &mut agents {
        assert!(!agent.poll(0).await, "the assignment is as it was");
    }
    assert_eq!(work(&rig, &topology, &agents).await, before);
    live(&rig, &mut agents, &topology, "ACTIVE").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_taken_back_until_the_old_one_is_retired() {
    let mut rig = Rig::start().await;
    let topology = rig.create("demo", 3).await;
    let mut agents = rig.enrolled(&topology, 3).await;
    live(&rig, &mut agents, &topology, "ACTIVE").await;
    let (old, _) = issuer(&rig);
    // before anybody has a certificate of the new one
    begin(&rig).await;
    let both = learns(&mut agents[0], &old).await;
    let back = rig.call(Method::DELETE, ROTATION, vec![]).await;
    assert_eq!((back.status, &back.json()["phase"]), (200, &json!("retiring")), "{}", back.text());
    assert_eq!(prints(&learns(&mut agents[0], &both).await), prints(&old));
    for agent in &mut agents[1..] {
        agent.trusts = Some(prints(&old));
        agent.poll(0).await;
    }
    phase(&rig, "settled").await;
    // after
    begin(&rig).await;
    let mut both = String::new();
    for agent in &mut agents {
        both = learns(agent, &old).await;
    }
    phase(&rig, "renewing").await;
    assert!(renews(&mut agents[0], &both).await);
    rig.until(AUTHORITY, |answer| answer.json()["ready"] == 1).await;
    let back = rig.call(Method::DELETE, ROTATION, vec![]).await.json();
    assert_eq!((&back["phase"], &back["issuer"]["name"]), (&json!("taking_back"), &json!("StraaS fleet CA")));
    follow(&mut rig, &mut agents).await;
    assert!(renews(&mut agents[0], &both).await, "it has a certificate of the new one");
    for agent in &mut agents[1..] {
        assert!(!renews(agent, &both).await, "it never had");
    }
    phase(&rig, "retiring").await;
    for agent in &mut agents {
        assert_eq!(prints(&learns(agent, &both).await), prints(&old));
    }
    let end = phase(&rig, "settled").await;
    assert_eq!((end["issuer"]["name"].as_str(), rig.ca()), (Some("StraaS fleet CA"), old));
    // what is sealed anew stays what it is, also where the folder is gone
    rig.down().await.expect("down");
    straas_controller::rotate_secrets(&rig.config(), false).expect("another key");
    std::fs::remove_dir_all(rig.data().join("ca")).expect("removed");
    rig.up().await;
    agents.iter_mut().for_each(|agent| agent.follow(&rig));
    live(&rig, &mut agents, &topology, "ACTIVE").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_have_the_same() {
    let server = TempPg::start().expect("PostgreSQL");
    let url = server.create_database("rotated").await.expect("a database");
    let settings = format!("[store]\nurl = {url:?}\n[timing]\nheartbeat_ms = 500\nretry_ms = 200\n");
    let a = Rig::start_with(&settings).await;
    let topology = a.create("demo", 1).await;
    let mut agents = a.enrolled(&topology, 1).await;
    live(&a, &mut agents, &topology, "ACTIVE").await;
    let (old, _) = issuer(&a);
    let mut b = Rig::beside(&a, &settings).await;
    begin(&a).await;
    phase(&b, "spreading").await;
    agents[0].follow(&b);
    let both = learns(&mut agents[0], &old).await;
    // who waits for the other one, which may not have heard of it, is a person that does not want to
    let on = a.post(ADVANCE, &json!({ "phase": "spreading" })).await;
    assert_eq!(on.json()["phase"], "renewing", "{}", on.text());
    // whichever of them is asked signs by the new one, also if it has heard of nothing yet
    renew(&mut agents[0], &both).await;
    let name = |pem: &str| {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("pem");
        pem.parse_x509().expect("a certificate").issuer().to_string()
    };
    assert_eq!(name(&agents[0].certificate_pem), "CN=StraaS fleet CA 2");
    for rig in [&a, &b] {
        agents[0].follow(rig);
        phase(rig, "renewing").await;
        is_seen(rig, &agents[0]).await;
    }
    // one that cannot open the new one's key does not start, and says why
    b.down().await.expect("down");
    std::fs::write(b.data().join("secrets.key"), [7; 32]).expect("written");
    let why = b.refuses_to_start().await;
    assert!(why.contains("secrets.key"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_the_pool_take_part_and_come_back() {
    let rig = pool("[\"z1\"]").await;
    let mut host = PaperHost::join(&rig, &token(&rig, 1, "r1").await).await.expect("joined").at("10.1.0.1").await;
    let topology = rig.create("demo", 1).await;
    let mut agents = vec![host.take(&rig).await];
    live(&rig, &mut agents, &topology, "ACTIVE").await;
    let (old, stolen) = issuer(&rig);
    let key = KeyPair::from_pem(&host.key_pem).expect("a key");
    let name = format!("straas://host/{}/1", host.id);
    const BACK: &str = "/agent/v1/hosts/come-back";
    // its certificate has ended
    let ended = certificate(&stolen, &name, &key, 30);
    comes_back(&rig, &old, "/agent/v1/come-back", &ended, &key).await.problem(401);
    let other = KeyPair::generate().expect("a key");
    comes_back(&rig, &old, BACK, &ended, &other).await.problem(401);
    comes_back(&rig, &old, BACK, &certificate(&stolen, &name, &key, 400), &key).await.problem(401);
    comes_back(&rig, &old, BACK, &agents[0].certificate_pem, &KeyPair::from_pem(&agents[0].key_pem).expect("a key"))
        .await
        .problem(401);
    let later = format!("straas://host/{}/2", host.id);
    comes_back(&rig, &old, BACK, &certificate(&stolen, &later, &key, 30), &key).await.problem(401);
    let back = comes_back(&rig, &old, BACK, &ended, &key).await;
    assert_eq!((back.status, &back.json()["host"]), (200, &json!(host.id)), "{}", back.text());
    let told = rig.store_events(&topology).await;
    assert!(
        told.iter().any(|event| event.text.contains("of the pool came back: its certificate had ended")),
        "{told:?}"
    );

    // the authority is exchanged
    begin(&rig).await;
    let both = learns(&mut agents[0], &old).await;
    let said = HostPollRequest { wait_ms: 0, trusts: Some(prints(&old)), ..host.said.clone() };
    let answer = host.ask(&said).await;
    let told: HostPollAnswer = serde_json::from_slice(&answer.body).expect("an answer");
    assert_eq!(told.trust_pem.map(|pem| prints(&pem)), Some(prints(&both)));
    let waits = rig.get(AUTHORITY).await;
    let kinds: Vec<_> = waits["missing"].as_array().expect("a list").iter().map(|one| &one["kind"]).collect();
    assert!(waits["agents"] == 2 && kinds.contains(&&json!("host")), "{waits}");
    let said = HostPollRequest { trusts: Some(prints(&both)), ..said };
    assert_eq!(host.ask(&said).await.json()["trust_pem"], Value::Null);
    phase(&rig, "renewing").await;
    assert_eq!(host.ask(&said).await.json()["renew"], true);
    assert!(renews(&mut agents[0], &both).await);
    // gone on with without the host, which comes back by its key
    assert_eq!(rig.post(ADVANCE, &json!({ "phase": "renewing" })).await.status, 200);
    comes_back(&rig, &old, BACK, &certificate(&stolen, &name, &other, -1), &other).await.problem(401);
    let back = comes_back(&rig, &old, BACK, &certificate(&stolen, &name, &key, -1), &key).await;
    assert_eq!(back.status, 200, "{}", back.text());
    let pem = back.json()["certificate_pem"].as_str().expect("pem").to_owned();
    host.tls = tls(&both, Some((&pem, &host.key_pem)));
    let told: HostPollAnswer = serde_json::from_slice(&host.ask(&said).await.body).expect("an answer");
    let new = told.trust_pem.expect("the new one alone");
    assert_eq!((prints(&new).len(), told.renew), (1, false));
    host.ask(&HostPollRequest { trusts: Some(prints(&new)), ..said }).await;
    learns(&mut agents[0], &both).await;
    phase(&rig, "settled").await;
    let there = rig.get(&format!("{TOPOLOGIES}/{topology}")).await;
    assert_eq!(there["id"], topology);
}
