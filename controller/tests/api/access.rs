//! Who may do what: every route × {owner, other tenant, operator, health check, administrator, no tenant
//! chosen, nobody}, over HTTP, each cell a request.
//!
//! The table stands here in full, so that a change of rights is a change of two tables. `y` is an
//! answer that is no refusal of the caller (a fault of the body is fine: that is said to who may),
//! `f` 403, `n` 404, `u` 401.

use crate::agent::live;
use crate::rig::{Rig, topology};
use http::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;

const V1: &str = "/straas/v1.0";

/// Method, path, body, and the cells: owner, other, operator, health, admin, unscoped, anonymous.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("POST", "/auth/tokens", "{", "yyyyyyy"),
    ("GET", "/auth/tenants", "", "yyyyyyu"),
    ("GET", "/auth/token", "", "yyyyyyu"),
    ("GET", "/tokens", "", "yyyfyfu"),
    ("GET", "/tokens?all_tenants=true", "", "ffyfyfu"),
    ("POST", "/tokens", "{", "yyyfyfu"),
    ("GET", "/tokens/{token}", "", "ynyfyfu"),
    ("DELETE", "/tokens/{token}", "", "ynnfyfu"),
    ("GET", "/tenants", "", "ffyfyfu"),
    ("POST", "/tenants", "{", "ffffyfu"),
    ("GET", "/tenants/{tenant}", "", "ffyfyfu"),
    ("DELETE", "/tenants/{tenant}", "", "ffffyfu"),
    ("GET", "/users", "", "ffyfyfu"),
    ("POST", "/users", "{", "ffffyfu"),
    ("GET", "/users/{user}", "", "ffyfyfu"),
    ("PUT", "/users/{user}/password", "{", "ffffyfu"),
    ("PUT", "/users/{user}/tenants/mine", "{", "ffffyfu"),
    ("DELETE", "/users/{user}/tenants/mine", "", "ffffyfu"),
    ("DELETE", "/users/{user}", "", "ffffyfu"),
    ("GET", "/topologies", "", "yyyyyfu"),
    ("GET", "/topologies?all_tenants=true", "", "ffyyyfu"),
    ("POST", "/topologies", "{", "yyyfyfu"),
    ("GET", "/topologies/{topology}", "", "ynyyyfu"),
    ("DELETE", "/topologies/{topology}?dry_run=true", "", "ynnfyfu"),
    ("POST", "/topologies/{topology}/components", "{", "ynnfyfu"),
    ("POST", "/topologies/{topology}/commands", "{", "ynnfyfu"),
    ("GET", "/components/{component}", "", "ynyyyfu"),
    ("POST", "/components/{component}", "{", "ynnfyfu"),
    ("PATCH", "/components/{component}", "{", "ynnfyfu"),
    ("DELETE", "/components/{component}?dry_run=true", "", "ynnfyfu"),
    ("POST", "/components/{component}/services?dry_run=true", "", "ynnfyfu"),
    ("DELETE", "/components/{component}/services?dry_run=true", "", "ynnfyfu"),
    ("PUT", "/components/{component}/services?dry_run=true", "", "ynnfyfu"),
    ("PUT", "/components/{component}/tree/master?dry_run=true", "", "ynnfyfu"),
    ("POST", "/components/{component}/dependencies", "", "ynnfyfu"),
    ("POST", "/components/{component}/commands", "{", "ynnfyfu"),
    ("GET", "/nodes", "", "yyyyyfu"),
    ("GET", "/nodes?topology={topology}", "", "ynyyyfu"),
    ("GET", "/nodes/{node}", "", "ynyyyfu"),
    ("GET", "/nodes/{node}/why", "", "ynyfyfu"),
    ("GET", "/nodes/{node}/history", "", "ynyfyfu"),
    ("PUT", "/nodes/{node}?dry_run=true", "", "ynnfyfu"),
    ("DELETE", "/nodes/{node}?dry_run=true", "", "ynnfyfu"),
    ("POST", "/nodes/{node}/services?dry_run=true", "", "ynnfyfu"),
    ("DELETE", "/nodes/{node}/services?dry_run=true", "", "ynnfyfu"),
    ("PUT", "/nodes/{node}/services?dry_run=true", "", "ynnfyfu"),
    ("POST", "/nodes/{node}/commands", "{", "ynnfyfu"),
    ("GET", "/jobs", "", "yyyfyfu"),
    ("GET", "/jobs?all_tenants=true", "", "ffyfyfu"),
    ("GET", "/jobs/{job}", "", "ynyfyfu"),
    ("POST", "/jobs/{job}/pause", "", "ynyfyfu"),
    ("POST", "/jobs/{job}/resume", "", "ynyfyfu"),
    ("POST", "/jobs/{job}/cancel", "", "ynyfyfu"),
    ("GET", "/rollouts", "", "yyyfyfu"),
    ("GET", "/rollouts?all_tenants=true", "", "ffyfyfu"),
    ("POST", "/rollouts", "{", "yyyfyfu"),
    ("GET", "/rollouts/{rollout}", "", "ynyfyfu"),
    ("POST", "/rollouts/{rollout}/pause", "", "ynyfyfu"),
    ("POST", "/rollouts/{rollout}/resume", "", "ynyfyfu"),
    ("POST", "/rollouts/{rollout}/cancel", "", "ynyfyfu"),
    ("GET", "/commands", "", "yyyfyfu"),
    ("GET", "/commands/{command}", "", "ynyfyfu"),
    ("GET", "/commands/{command}/output", "", "ynyfyfu"),
    ("POST", "/commands/{command}/cancel", "", "ynyfyfu"),
    ("GET", "/guestcmds", "", "yyyfyfu"),
    ("GET", "/configurations/tree/master", "", "yyyfyfu"),
    ("GET", "/configurations/tree/mine@z1", "", "ynyfyfu"),
    ("GET", "/configurations/tree/mine@z1/app", "", "ynyfyfu"),
    ("GET", "/configurations/tree/mine@z1/tags", "", "ynyfyfu"),
    ("PUT", "/configurations/tree/mine@z1/app/zookeeper/3.8.0/user.json", "{", "ynyfyfu"),
    ("PUT", "/configurations/tree/master/app/zookeeper/3.8.0/default.json", "{", "ffyfyfu"),
    ("POST", "/configurations/tree/mine@z1/tags", "{", "ynyfyfu"),
    ("POST", "/configurations/tree/master/tags", "{", "ffyfyfu"),
    ("DELETE", "/configurations/tree/mine@z1/tags/{tag}", "", "ynyfyfu"),
    ("DELETE", "/configurations/tree/master/tags/{master tag}", "", "ffyfyfu"),
    ("GET", "/configurations/diff/master...mine@z1", "", "ynyfyfu"),
    ("GET", "/configurations/log/mine@z1", "", "ynyfyfu"),
    ("GET", "/configurations/effective/{component}", "", "ynyfyfu"),
    ("GET", "/configurations/blame/mine@z1/app/zookeeper/3.8.0/user.json", "", "ynyfyfu"),
    ("GET", "/configurations/updates/{component}", "", "ynyfyfu"),
    ("POST", "/configurations/updates/{component}?dry_run=true", "", "ynyfyfu"),
    ("GET", "/configurations/settings", "", "ffyfyfu"),
    ("POST", "/configurations/reseal", "", "ffyfyfu"),
    ("PUT", "/nodes/scripts", "{", "yyyfyfu"),
    ("GET", "/storage/local/regions/z1", "", "yyyfyfu"),
    ("GET", "/storage/local/regions/z1/c", "", "yyyfyfu"),
    ("POST", "/storage/local/regions/z1/c/a", "x", "yyyfyfu"),
    ("DELETE", "/storage/local/regions/z1/c/a", "", "yyyfyfu"),
    ("GET", "/storage/local/uploads/{sha256}", "", "yyyfyfu"),
    ("POST", "/nodes/files", "{", "yyyfyfu"),
    ("POST", "/nodes/files/removal", "{", "yyyfyfu"),
    ("GET", "/components/zookeeper/nova_flavors", "", "yyyyyfu"),
    ("POST", "/components/{component}/status", "{", "fffyyfu"),
    ("POST", "/topologies/{topology}/cms", "", "ynyfyfu"),
    ("GET", "/topologies/{topology}/cms", "", "ynyfyfu"),
    ("PUT", "/typologies/{topology}/cms", "", "ynyfyfu"),
    ("DELETE", "/topologies/{other topology}/cms", "", "nnnfnfu"),
    ("GET", "/discovery/prometheus", "", "yyyyyfu"),
    ("GET", "/discovery/prometheus?all_tenants=true", "", "ffyyyfu"),
    ("GET", "/audit", "", "yyyfyfu"),
    ("GET", "/audit?all_tenants=true", "", "ffyfyfu"),
    ("GET", "/quarantine", "", "yyyfyfu"),
    ("DELETE", "/quarantine/version/{quarantined}", "", "ffyfyfu"),
    ("GET", "/hosts", "", "ffyfyfu"),
    ("POST", "/hosts", "{", "ffyfyfu"),
    ("GET", "/hosts/{host}", "", "ffyfyfu"),
    ("PATCH", "/hosts/{host}", "{", "ffyfyfu"),
    ("DELETE", "/hosts/{host}", "", "ffyfyfu"),
    ("GET", "/authority", "", "ffyfyfu"),
    ("POST", "/authority/rotation?dry_run=true", "", "ffyfyfu"),
    ("POST", "/authority/rotation/advance", "{", "ffyfyfu"),
    ("DELETE", "/authority/rotation", "", "ffyfyfu"),
    ("GET", "/join-tokens", "", "ffyfyfu"),
    ("POST", "/join-tokens", "{", "ffyfyfu"),
    ("GET", "/join-tokens/{join token}", "", "ffyfyfu"),
    ("DELETE", "/join-tokens/{join token}", "", "ffyfyfu"),
    ("GET", "old:/straas/", "", "yyyfyfu"),
    ("GET", "old:/straas/mine", "", "ynnfnfu"),
    ("POST", "old:/straas/guestcmd/{component}/mine-zk-1", "{", "ynnfyfu"),
];

struct Scene {
    rig: Rig,
    topology: String,
    component: String,
    node: String,
    job: String,
    command: String,
    rollout: String,
    made: u32,
}

impl Scene {
    async fn set() -> (Self, Vec<(&'static str, String)>) {
        let rig = Rig::start().await;
        for tenant in ["mine", "theirs", "platform"] {
            assert_eq!(rig.post(&format!("{V1}/tenants"), &json!({ "id": tenant })).await.status, 201);
        }
        let mut tokens = Vec::new();
        for (who, tenant, role) in [
            ("owner", "mine", "member"),
            ("other", "theirs", "member"),
            ("operator", "platform", "operator"),
            ("health", "platform", "health_check"),
            ("admin", "admin", "member"),
        ] {
            let body = json!({ "label": who, "tenant": tenant, "role": role });
            let made = rig.post(&format!("{V1}/tokens"), &body).await;
            assert_eq!(made.status, 201, "{}", made.text());
            tokens.push((who, made.json()["token"].as_str().expect("a token").to_owned()));
        }
        let ann = json!({ "name": "ann", "password": "open sesame", "tenants": { "mine": "member" } });
        assert_eq!(rig.post(&format!("{V1}/users"), &ann).await.status, 201);
        let log_in = json!({ "user": "ann", "password": "open sesame" }).to_string().into_bytes();
        let issued = rig.raw(Method::POST, &format!("{V1}/auth/tokens"), &[], log_in).await;
        tokens.push(("unscoped", issued.json()["token"].as_str().expect("a token").to_owned()));
        tokens.push(("anonymous", String::new()));

        let body = topology("mine").to_string().into_bytes();
        let owner = [("x-auth-token", tokens[0].1.as_str())];
        let made = rig.raw(Method::POST, &format!("{V1}/topologies"), &owner, body).await.json();
        let id = made["id"].as_str().expect("an id").to_owned();
        let mut agents = rig.enrolled(&id, 3).await;
        live(&rig, &mut agents, &id, "ACTIVE").await;
        let seen = rig.get(&format!("{V1}/topologies/{id}")).await;
        let node = agents[0].node.clone();
        let order = json!({ "command": "assist-cmd/list" }).to_string().into_bytes();
        let command = rig.raw(Method::POST, &format!("{V1}/nodes/{node}/commands"), &owner, order).await;
        assert_eq!(command.status, 202, "{}", command.text());
        // all have the newest scripts: it has ended, and its owner is told so
        let order = json!({ "kind": "scripts" }).to_string().into_bytes();
        let rollout = rig.raw(Method::POST, &format!("{V1}/rollouts"), &owner, order).await;
        assert_eq!(rollout.status, 201, "{}", rollout.text());
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let scene = Self {
            component: text(&seen["components"][0]["id"]),
            job: text(&made["job"]["id"]),
            command: text(&command.json()["id"]),
            rollout: text(&rollout.json()["id"]),
            node,
            topology: id,
            rig,
            made: 0,
        };
        (scene, tokens)
    }

    /// The path with every name in it; what a request removes is made for each anew.
    async fn filled(&mut self, path: &str) -> String {
        self.made += 1;
        let fresh = format!("fresh-{}", self.made);
        let mut path = path.to_owned();
        let make = async |path: &str, body: Value| {
            let made = self.rig.post(&format!("{V1}{path}"), &body).await;
            assert_eq!(made.status, 201, "{path}: {}", made.text());
            made.json()
        };
        if path.contains("{token}") {
            let token = make("/tokens", json!({ "label": fresh, "tenant": "mine" })).await;
            path = path.replace("{token}", token["id"].as_str().expect("an id"));
        }
        for (place, list) in [("{host}", "/hosts"), ("{join token}", "/join-tokens")] {
            if path.contains(place) {
                let mut body = json!({ "zone": "z1" });
                if list == "/hosts" {
                    body["name"] = json!(fresh);
                }
                let made = make(list, body).await;
                path = path.replace(place, made["id"].as_str().expect("an id"));
            }
        }
        if path.contains("{tenant}") {
            make("/tenants", json!({ "id": fresh })).await;
        }
        if path.contains("{user}") {
            make("/users", json!({ "name": fresh, "tenants": { "mine": "member" } })).await;
        }
        for (place, branch) in [("{tag}", "mine@z1"), ("{master tag}", "master")] {
            if path.contains(place) {
                make(&format!("/configurations/tree/{branch}/tags"), json!({ "tag": fresh, "message": "x" })).await;
            }
        }
        if path.contains("{quarantined}") {
            let record = straas_store::QuarantineRecord {
                what: "version".into(),
                key: fresh.clone(),
                reason: "for a test".into(),
                topology: "t".into(),
                at_ms: 1,
            };
            straas_store::Store::quarantine(&self.rig.store().await, &[record]).await.expect("recorded");
        }
        for place in ["{tenant}", "{user}", "{tag}", "{master tag}", "{quarantined}"] {
            path = path.replace(place, &fresh);
        }
        path.replace("{topology}", &self.topology)
            .replace("{other topology}", "nobody")
            .replace("{sha256}", &"0".repeat(64))
            .replace("{component}", &self.component)
            .replace("{node}", &self.node)
            .replace("{job}", &self.job)
            .replace("{command}", &self.command)
            .replace("{rollout}", &self.rollout)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_is_as_the_table_says() {
    let (mut scene, tokens) = Scene::set().await;
    let (mut cells, mut wrong) = (0, String::new());
    for (method, path, body, expect) in TABLE {
        for ((who, token), expect) in tokens.iter().zip(expect.chars()) {
            let filled = scene.filled(path).await;
            let target = filled.strip_prefix("old:").map_or_else(|| format!("{V1}{filled}"), str::to_owned);
            let headers = [("x-auth-token", token.as_str())];
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = scene
                .rig
                .raw(method, &target, &headers[..usize::from(!token.is_empty())], body.as_bytes().to_vec())
                .await;
            let got = match answer.status {
                401 => 'u',
                403 => 'f',
                404 => 'n',
                500.. => '!',
                _ => 'y',
            };
            cells += 1;
            if got != expect {
                writeln!(wrong, "{who}: {target}: {got} ({}), not {expect}: {}", answer.status, answer.text())
                    .expect("written");
            }
        }
    }
    assert!(wrong.is_empty(), "of {cells} cells:\n{wrong}");
    println!("{cells} cells, {} rows", TABLE.len());
}
