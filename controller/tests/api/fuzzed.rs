//! The API is what its document says: schemathesis makes requests of it, right and wrong, alone and one after the
//! other along its links, as the administrator and as a tenant's member, with all of its checks.
//!
//! How many are made is bounded (`packaging/tests/schemathesis.toml`) and printed. Streams never end, so they
//! are left out; so is the end of the token that the requests come with.

use crate::commands::working;
use crate::rig::Rig;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

const V1: &str = "/straas/v1.0";
/// Requests are the same in every run: what is found is found again.
const SEED: &str = "1";

/// The program with its first arguments, installed once.
fn schemathesis() -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/tests/schemathesis.sh");
    let made = Command::new(script).arg("image").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let made = made.expect("started");
    assert!(made.status.success(), "there is no schemathesis; see above");
    String::from_utf8_lossy(&made.stdout).split_whitespace().map(str::to_owned).collect()
}

async fn fuzzed(rig: &Rig, who: &str, token: &str) {
    let program = schemathesis();
    let report = rig.dir.path().join(format!("{who}.json"));
    let mut command = tokio::process::Command::new(&program[0]);
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/tests/schemathesis.toml");
    command
        .args(&program[1..])
        .arg("--config-file")
        .arg(settings)
        .arg("run")
        .arg(format!("{}/straas/openapi.json", rig.endpoint()));
    // no token on a command line: others could read it there
    command.env("STRAAS_TOKEN", token).args(["--checks", "all", "--seed", SEED]);
    command.args(["--phases", "examples,coverage,fuzzing,stateful", "--no-shrink"]);
    command.args(["--exclude-path-regex", "/events$", "--exclude-operation-id", "delete_auth_token"]);
    command.args(["--generation-database", "none", "--request-timeout", "75", "--no-color", "--continue-on-failure"]);
    command.args(["--warnings", "off", "--suppress-health-check", "all"]);
    command.arg("--report").arg("json").arg("--report-json-path").arg(&report);
    if let Ok(more) = std::env::var("SCHEMATHESIS") {
        command.args(more.split_whitespace());
    }
    let ran = command.current_dir(rig.dir.path()).stdin(Stdio::null()).output().await.expect("started");
    let said = String::from_utf8_lossy(&ran.stdout);
    let summary = said.split("SUMMARY").last().unwrap_or_default();
    println!("as {who}: {summary}");
    assert!(ran.status.success(), "as {who}:\n{said}\n{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_true() {
    let rig = Rig::start_with("[api]\nrate = 100000\nburst = 100000\n").await;
    let (_, agents) = working(&rig, 3).await;
    for tenant in ["red", "blue"] {
        assert_eq!(rig.post(&format!("{V1}/tenants"), &json!({ "id": tenant })).await.status, 201);
    }
    let ann = json!({ "name": "ann", "password": "open sesame", "tenants": { "red": "member" } });
    assert_eq!(rig.post(&format!("{V1}/users"), &ann).await.status, 201);
    let made = rig.post(&format!("{V1}/tokens"), &json!({ "label": "fuzz", "tenant": "red" })).await;
    let member = made.json()["token"].as_str().expect("a token").to_owned();
    fuzzed(&rig, "a member", &member).await;
    let admin = rig.token.clone();
    fuzzed(&rig, "the administrator", &admin).await;
    // it lives
    assert_eq!(rig.call(http::Method::GET, "/readyz", vec![]).await.status, 200);
    drop(agents);
}
