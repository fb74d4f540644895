//! The users' port: tokens, routes, pages, dry runs, the controller's own state.

use crate::agent::live;
use crate::rig::{Rig, TOPOLOGIES, topology};
use http::Method;
use serde_json::json;
use straas_controller::config::Config;
use straas_store::Store as _;

#[tokio::test]
async fn a_token_is_needed_in_any_of_three_headers() {
    let rig = Rig::start().await;
    let token = rig.token.clone();
    let (bearer, lower) = (format!("Bearer {token}"), format!("bearer {token}"));
    for headers in [("x-auth-token", &token), ("token", &token), ("authorization", &bearer), ("authorization", &lower)]
    {
        let answer = rig.raw(Method::GET, TOPOLOGIES, &[(headers.0, headers.1)], vec![]).await;
        assert_eq!(answer.status, 200, "{headers:?}");
    }
    let wrong = "f".repeat(64);
    let basic = format!("Basic {token}");
    let near = &token[..63];
    for headers in [
        vec![],
        vec![("x-auth-token", "")],
        vec![("x-auth-token", wrong.as_str())],
        vec![("x-auth-token", near)],
        vec![("authorization", &basic)],
        vec![("authorization", &token)],
        vec![("x-auth-token", wrong.as_str()), ("token", &token)],
    ] {
        for (method, path) in
            [(Method::GET, TOPOLOGIES), (Method::POST, TOPOLOGIES), (Method::GET, "/straas/v1.0/jobs/x/events")]
        {
            let answer = rig.raw(method, path, &headers, b"{}".to_vec()).await;
            answer.problem(401);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let rig = Rig::start().await;
    let get = async |path: &str| rig.call(Method::GET, path, vec![]).await;
    for path in [
        "/",
        "/straas",
        "/straas/v1.0",
        "/straas/v1.0/",
        "/straas/v1.0/nothing",
        "/straas/v1.0/topologies/",
        "/agent/v1/enrol",
    ] {
        get(path).await.problem(404);
    }
    for path in [
        "topologies/x",
        "topologies/x/events",
        "jobs/x",
        "jobs/x/events",
        "nodes/x",
        "nodes/x/why",
        "nodes?topology=x",
        "topologies/..%2f..",
        "topologies/%00",
        "jobs/a%26b@c",
    ] {
        get(&format!("/straas/v1.0/{path}")).await.problem(404);
    }
    get(&format!("{TOPOLOGIES}/{}", "a".repeat(8000))).await.problem(404);
    for path in [
        "topologies?limit=x",
        "topologies?limit=-1",
        "topologies?limit=99999999999",
        "topologies?colour=red",
        "jobs?limit=1&limit=2",
        "nodes?limit=0",
        "topologies?status=PERHAPS",
        "nodes?color=red",
        "jobs?kind=party",
        "jobs?state=perhaps",
        "commands?color=red",
        "audit?color=red",
        "audit?status=x",
        "tokens?color=red",
        "users?color=red",
        "tenants?color=red",
        "topologies/%ff",
    ] {
        get(&format!("/straas/v1.0/{path}")).await.problem(400);
    }
    for (method, path) in [
        (Method::PUT, TOPOLOGIES),
        (Method::DELETE, TOPOLOGIES),
        (Method::POST, "/healthz"),
        (Method::PATCH, "/straas/v1.0/jobs"),
        (Method::POST, "/straas/v1.0/nodes/x/why"),
    ] {
        let answer = rig.call(method.clone(), path, vec![]).await;
        answer.problem(405);
        assert!(!answer.header("allow").is_empty(), "{method} {path}");
    }
    rig.call(Method::POST, &format!("{TOPOLOGIES}?dry_run=perhaps"), b"{}".to_vec()).await.problem(400);
    rig.delete("x").await.problem(404);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let mut rig = Rig::start().await;
    let id = rig.create("there", 1).await;
    let nodes = rig.nodes(&id, 1).await;
    // nothing else changes either once all is as it should be
    let mut agents = rig.enrolled(&id, 1).await;
    live(&rig, &mut agents, &id, "ACTIVE").await;
    rig.until("/straas/v1.0/jobs", |answer| answer.json()["items"][0]["state"] == "succeeded").await;
    // heartbeats are written behind the answer to them; stopping writes the last
    rig.down().await.expect("stopped");
    rig.up().await;
    let before = (rig.state().await, rig.hosts.hosts().len());
    let dry = rig.post(&format!("{TOPOLOGIES}?dry_run=true"), &topology("tried")).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    let dry = dry.json();
    assert_eq!(
        dry["nodes"].as_object().expect("nodes").keys().collect::<Vec<_>>(),
        ["tried-zk-1", "tried-zk-2", "tried-zk-3"]
    );
    assert!(dry["steps"].as_array().expect("steps").contains(&json!("zk/config")), "{dry}");
    let dry = rig.call(Method::DELETE, &format!("{TOPOLOGIES}/{id}?dry_run=true"), vec![]).await.json();
    assert_eq!(
        dry["nodes"].as_object().expect("nodes").keys().collect::<Vec<_>>(),
        [nodes[0]["name"].as_str().expect("a name")]
    );
    let after = rig.state().await;
    for part in after.as_object().expect("an object").keys() {
        assert_eq!(after[part], before.0[part], "{part}");
    }
    assert_eq!(rig.hosts.hosts().len(), before.1);
}

#[tokio::test]
async fn deleting_twice_is_deleting_once() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 3).await;
    rig.nodes(&id, 3).await;
    rig.hosts.held.send_replace(true);
    rig.hosts.fails.send_replace(Some("not now".into()));
    let first = rig.delete(&id).await;
    assert_eq!(first.status, 202, "{}", first.text());
    let job = first.json()["job"]["id"].clone();
    assert_eq!(first.header("location"), format!("/straas/v1.0/jobs/{}", job.as_str().expect("an id")));
    let again = rig.delete(&id).await;
    assert_eq!((again.status, &again.json()["job"]["id"]), (202, &job));
    rig.hosts.fails.send_replace(None);
    rig.hosts.held.send_replace(false);
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
    rig.delete(&id).await.problem(404);
    let done = rig.get(&format!("/straas/v1.0/jobs/{}", job.as_str().expect("an id"))).await;
    assert_eq!((&done["state"], &done["kind"]), (&json!("succeeded"), &json!("delete")));
    assert!(rig.hosts.hosts().is_empty());
    // its name is free again
    rig.create("demo", 1).await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let rig = Rig::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(rig.create(&format!("t{n}"), 1).await);
    }
    for (list, newest_first) in [("topologies", false), ("jobs", true)] {
        for limit in [1, 2, 4, 5, 6] {
            let (mut seen, mut marker, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let page = rig.get(&format!("/straas/v1.0/{list}?limit={limit}{marker}")).await;
                let items = page["items"].as_array().expect("items");
                assert!(!items.is_empty() && items.len() <= limit, "{list} {limit}");
                let name = if list == "jobs" { "topology" } else { "id" };
                seen.extend(items.iter().map(|item| item[name].as_str().expect("an id").to_owned()));
                pages += 1;
                let Some(next) = page["next"].as_str() else { break };
                marker = format!("&marker={next}");
            }
            if newest_first {
                seen.reverse();
            }
            assert_eq!((seen, pages), (ids.clone(), 5_usize.div_ceil(limit)), "{list} {limit}");
        }
    }
    let of_one = rig.get(&format!("/straas/v1.0/jobs?topology={}&open=true", ids[2])).await;
    assert_eq!(of_one["items"].as_array().expect("items").len(), 1);
}

#[tokio::test]
async fn the_controller_says_how_it_is_without_a_token() {
    let mut rig = Rig::start().await;
    let open = async |rig: &Rig, path: &str| rig.raw(Method::GET, path, &[], vec![]).await;
    assert_eq!((open(&rig, "/healthz").await.status, open(&rig, "/healthz").await.text().as_str()), (200, "ok\n"));
    let ready = open(&rig, "/readyz").await.json();
    assert_eq!((&ready["ready"], &ready["database"], &ready["hosts"]), (&json!(true), &json!("ok"), &json!("ok")));
    rig.create("demo", 1).await;
    rig.until("/metrics", |answer| answer.text().contains("straas_controller_nodes 1")).await;
    let metrics = open(&rig, "/metrics").await;
    for name in [
        "straas_controller_plan_seconds_count",
        "straas_controller_heartbeats_total",
        "straas_controller_agent_refusals_total",
    ] {
        assert!(metrics.text().contains(name), "{}", metrics.text());
    }
    assert!(metrics.text().ends_with("# EOF\n"));
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    // everything is there again after a restart
    let before = rig.state().await;
    rig.down().await.expect("stopped");
    rig.up().await;
    assert_eq!(rig.state().await["config.git"], before["config.git"]);
    assert_eq!(rig.state().await["jobs"]["items"][0]["id"], before["jobs"]["items"][0]["id"]);
}

#[tokio::test]
async fn an_unknown_key_or_a_bad_value_keeps_it_from_starting() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |text: &str, parts: &[&str]| {
        let path = dir.path().join("c.toml");
        std::fs::write(&path, format!("data_dir = '/nowhere'\n{text}")).expect("written");
        let error = Config::load(&path).expect_err("refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{text}: {error}");
        }
    };
    check("port = 1", &["port", "line 2"]);
    check("[api]\nlisten = '127.0.0.1:1'\ntls = true", &["tls"]);
    check("[api]\nlisten = 'here'", &["listen"]);
    check("[timing]\nheartbeat = 1", &["heartbeat"]);
    check("[local]\nisolaton = 'auto'", &["isolaton"]);
    check("[agents]\nport = 70000", &["70000"]);
    check("[[files]]\npath = '/x'\nsource = '/y'\nowner = 'root'", &["owner"]);
    check("[store]\nurl = 3", &["url"]);
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_records_and_what_cannot_be_had_is_said() {
    let rig = Rig::start().await;
    let zk = json!({ "name": "zk", "type": "zookeeper", "size": 1, "flavor": "small", "enable_fault_domain": true,
        "min_num_of_fault_domain": 4, "anti_affinity_group": "zk-group", "enable_cname": true });
    let next = json!({ "name": "next", "type": "zookeeper", "depends_on": "zk", "flavor": "small", "enable_cname": true,
        "submodules": [{ "role": "zookeeper", "name": "nx", "size": 1, "flavor": "tiny", "enable_cname": false }] });
    let body = json!({ "name": "full", "availability_zone": "z1", "components": [zk, next] });
    let dry = rig.post(&format!("{TOPOLOGIES}?dry_run=true"), &body).await.json();
    assert!(dry["changes"][0].as_str().is_some_and(|note| note.contains("4 fault domains")), "{dry:#}");
    let answer = rig.post(TOPOLOGIES, &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let detail = answer.json()["job"]["detail"].to_string();
    assert!(detail.contains("zk: 4 fault domains cannot be had in full"), "{detail}");
    assert!(detail.contains("are in 2 fault domains"), "{detail}");
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let snapshot = rig.store().await.snapshot(&id.as_str().into()).await.expect("read").expect("a topology");
    let groups: Vec<_> = snapshot.components.iter().flat_map(|component| component.spec.want.groups.clone()).collect();
    let seen = |at: usize| {
        let group = &groups[at];
        let affinity = group.anti_affinity_group.as_deref();
        (group.name.as_str(), group.size, group.flavor.as_str(), group.fault_domains_min, affinity, group.cname)
    };
    assert_eq!(seen(0), ("zk", 1, "small", 4, Some("zk-group"), true));
    assert_eq!(seen(1), ("nx", 1, "tiny", 0, None, false));
    assert_eq!(snapshot.components[1].spec.depends_on, ["zk"]);
    let want = &snapshot.components[0].spec.want;
    assert_eq!((want.config.len(), want.scripts.len()), (40, 40), "both are pinned");
    // who is to be kept apart is told the provider; where it put a host is shown
    let list = format!("/straas/v1.0/nodes?topology={id}");
    let up = |answer: &crate::wire::Answer| {
        answer.json()["items"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|node| !node["address"].is_null()))
    };
    let nodes = rig.until(&list, up).await.json();
    for node in nodes["items"].as_array().expect("nodes") {
        assert!(node["fault_domain"].as_str().is_some_and(|domain| domain.starts_with("fd-")), "{node}");
    }
    let asked: Vec<_> =
        rig.hosts.spreads().into_iter().map(|(name, spread)| (name, spread.unwrap_or_default())).collect();
    assert_eq!(asked, [("full-nx-1".into(), String::new()), ("full-zk-1".into(), "admin/zk-group".into())]);
}
