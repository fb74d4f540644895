//! Controllers whose repositories are mirrors of a git server, which others push to and which goes away.

use crate::rig::{Rig, TOPOLOGIES, refs, topology};
use crate::server::{Http, Mood, PASSWORD, bare, run};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const TREE: &str = "/straas/v1.0/configurations/tree";
const SETTINGS: &str = "/straas/v1.0/configurations/settings";

pub struct Upstream {
    home: TempDir,
    server: Http,
    pub configs: PathBuf,
    pub scripts: PathBuf,
}

impl Upstream {
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let [configs, scripts] = ["config.git", "scripts.git"].map(|name| bare(&home.path().join("upstream"), name));
        Self { server: Http::start(home.path()), configs, scripts, home }
    }

    pub fn settings(&self, poll_ms: u32) -> String {
        let of = |name: &str| {
            let spec = self.server.spec(name);
            let (user, password) = (spec.user.expect("a user"), spec.password_file.expect("a password"));
            format!("url = {:?}\nuser = {user:?}\npassword_file = {password:?}\n", spec.url)
        };
        format!("[git]\npoll_ms = {poll_ms}\n[git.config]\n{}[git.scripts]\n{}", of("config.git"), of("scripts.git"))
    }

    fn master(&self) -> String {
        run(&self.configs, "git", &["rev-parse", "master"])
    }

    /// Somebody pushes a file with git alone.
    fn push(&self, path: &str, content: &str) -> String {
        self.push_to(&self.configs, path, content)
    }

    pub fn push_to(&self, repo: &Path, path: &str, content: &str) -> String {
        let work = self.home.path().join("work");
        let _ = std::fs::remove_dir_all(&work);
        run(self.home.path(), "git", &["clone", "-q", &repo.display().to_string(), "work"]);
        let file = work.join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, content).expect("written");
        run(&work, "git", &["add", "-A"]);
        run(&work, "git", &["commit", "-q", "-m", "by hand"]);
        run(&work, "git", &["push", "-q", "origin", "HEAD:refs/heads/master"]);
        run(&work, "git", &["rev-parse", "HEAD"])
    }
}

pub fn file(section: &str, key: &str, value: u32) -> String {
    let options = json!([{ "key": key, "value": value.to_string(), "type": "integer" }]);
    json!({ "type": "ini", "content": [{ "section": section, "options": options }] }).to_string()
}

pub async fn put(rig: &Rig, path: &str, content: &str, at: Option<&str>) -> Answer {
    let body = json!({ "content": content, "message": "a test" }).to_string().into_bytes();
    let tag = at.map(|commit| format!("\"{commit}\""));
    let mut headers = vec![("x-auth-token", rig.token.as_str())];
    headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
    rig.raw(Method::PUT, &format!("{TREE}/master/{path}"), &headers, body).await
}

async fn head(rig: &Rig) -> String {
    rig.get(&format!("{TREE}/master")).await["commit"].as_str().expect("a commit").to_owned()
}

#[tokio::test]
async fn what_one_controller_writes_the_other_has_within_the_interval() {
    let upstream = Upstream::new();
    let (a, b) = (Rig::start_with(&upstream.settings(500)).await, Rig::start_with(&upstream.settings(500)).await);
    assert_eq!((head(&a).await, head(&b).await), (upstream.master(), upstream.master()));
    let written = put(&a, "service/api.json", &file("limits", "rate", 60), None).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let commit = written.json()["commit"].as_str().expect("a commit").to_owned();
    assert_eq!(upstream.master(), commit);
    let rate = |answer: &Answer| {
        let values = answer.json()["values"].clone();
        let found = values.as_array().and_then(|values| values.iter().find(|value| value["key"] == "rate").cloned());
        found.map(|value| value["value"].clone())
    };
    assert_eq!(rate(&a.call(Method::GET, SETTINGS, vec![]).await), Some(json!(60)), "at once where it was written");
    let begun = Instant::now();
    b.until(SETTINGS, |answer| rate(answer) == Some(json!(60))).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // of a bad push nothing is taken; of a good one, all
    let bad = upstream.push("service/agent.json", &file("timing", "heartbeat_ms", 90_000_000));
    for rig in [&a, &b] {
        let seen = rig.until(SETTINGS, |answer| answer.json()["head"] == bad.as_str()).await.json();
        assert_eq!(seen["commit"], commit.as_str());
    }
    let link = upstream.push("service/agent.json", &file("timing", "heartbeat_ms", 7_000));
    b.until(SETTINGS, |answer| answer.json()["commit"] == link.as_str()).await;
    // what may not even come in
    let odd = upstream.push(".gitattributes", "* filter=x\n");
    let says =
        |answer: &Answer| answer.json()["upstreams"]["config"]["upstream"].as_str().unwrap_or_default().to_owned();
    a.until("/readyz", |answer| says(answer).contains(&odd)).await;
    assert_eq!(head(&a).await, link);
    let refused = put(&a, "service/api.json", &file("limits", "rate", 61), None).await;
    assert!(refused.status == 409 && refused.text().contains(".gitattributes"), "{}", refused.text());
    let text = a.call(Method::GET, "/metrics", vec![]).await.text();
    assert!(text.contains("straas_controller_git_upstream_refused{repo=\"config\"} 1\n"), "{text}");
}

#[tokio::test]
async fn while_upstream_is_away_reads_go_on_and_writes_say_so() {
    let upstream = Upstream::new();
    let mut rig = Rig::start_with(&upstream.settings(300)).await;
    let written = put(&rig, "service/api.json", &file("limits", "rate", 60), None).await;
    assert_eq!(written.status, 200, "{}", written.text());
    rig.create("demo", 3).await;
    rig.until(&format!("{TREE}/demo@z1"), |answer| answer.status == 200).await;
    assert_eq!(rig.get("/readyz").await["upstreams"]["config"]["upstream"], "ok");
    let state = || ["config.git", "scripts.git"].map(|repo| refs(&rig.data().join(repo)));
    let before = state();

    upstream.server.be(Mood::Gone);
    let away = rig.until("/readyz", |answer| answer.json()["upstreams"]["scripts"]["upstream"] != "ok").await;
    assert_eq!((away.status, &away.json()["ready"]), (200, &json!(true)));
    let refused = put(&rig, "service/api.json", &file("limits", "rate", 61), None).await;
    assert!(refused.status == 503 && !refused.header("retry-after").is_empty(), "{}", refused.text());
    let detail = refused.json()["detail"].as_str().expect("a detail").to_owned();
    for part in ["config repo", "since 20", "nothing was changed", "try again", "[git.config]"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    let tag = json!({ "tag": "v1", "message": "m" });
    assert_eq!(rig.post(&format!("{TREE}/demo@z1/tags"), &tag).await.status, 503);
    assert_eq!(rig.post(TOPOLOGIES, &topology("more")).await.status, 503);
    assert_eq!(state(), before);
    assert_eq!(rig.get(TOPOLOGIES).await["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(rig.get(&format!("{TREE}/demo@z1")).await["type"], "folder");
    let says = rig.until("/readyz", |answer| answer.json()["upstreams"]["config"]["upstream"] != "ok").await.text();
    assert!(says.contains("does not answer as it should since 20") && !says.contains(PASSWORD), "{says}");
    let text = rig.call(Method::GET, "/metrics", vec![]).await.text();
    for line in ["git_upstream_up{repo=\"config\"} 0\n", "git_mirror_age_seconds{repo=\"config\"} "] {
        assert!(text.contains(&format!("straas_controller_{line}")), "{line}: {text}");
    }
    // a start without upstream goes on from the mirror
    rig.down().await.expect("stopped");
    rig.up().await;
    assert_eq!(rig.get(&format!("{TREE}/master/service/api.json")).await["commit"], written.json()["commit"]);

    upstream.server.be(Mood::Well);
    rig.until("/readyz", |answer| answer.json()["upstreams"]["config"]["upstream"] == "ok").await;
    let written = put(&rig, "service/api.json", &file("limits", "rate", 61), None).await;
    assert_eq!(written.status, 200, "{}", written.text());
    assert_eq!(written.json()["commit"], upstream.master().as_str());
    rig.down().await.expect("stopped");
    no_secret(&rig.data().join("config.git"));
}

/// Nothing of the mirror holds the password.
fn no_secret(dir: &Path) {
    let found = std::process::Command::new("grep").args(["-rlF", PASSWORD]).arg(dir).output().expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[tokio::test]
async fn of_writers_at_two_controllers_the_slower_reads_again() {
    // too seldom to help
    let upstream = Upstream::new();
    let rigs = [Rig::start_with(&upstream.settings(600_000)).await, Rig::start_with(&upstream.settings(600_000)).await];
    let began = head(&rigs[0]).await;
    let first = put(&rigs[0], "service/api.json", &file("limits", "rate", 60), Some(&began)).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let commit = first.json()["commit"].as_str().expect("a commit").to_owned();
    let named = rigs[1].call(Method::GET, &format!("{TREE}/{commit}/service/api.json"), vec![]).await;
    assert_eq!(named.status, 200, "who knows of it gets it: {}", named.text());
    let on = put(&rigs[0], "service/api.json", &file("limits", "rate", 59), Some(&commit)).await;
    // the other one has not seen it: who has may go on from it there, who has not may not
    let lost = put(&rigs[1], "service/api.json", &file("limits", "rate", 61), Some(&began)).await;
    let commit = on.json()["commit"].as_str().expect("a commit").to_owned();
    assert_eq!((lost.status, lost.header("etag")), (412, format!("\"{commit}\"").as_str()), "{}", lost.text());
    let on = put(&rigs[0], "service/api.json", &file("limits", "rate", 62), Some(&commit)).await;
    let commit = on.json()["commit"].as_str().expect("a commit").to_owned();
    let further = put(&rigs[1], "service/api.json", &file("limits", "rate", 63), Some(&commit)).await;
    assert_eq!(further.status, 200, "{}", further.text());

    let (mut won, mut lost) = (0, 0);
    for round in 0..5 {
        let at: Value = further.json()["commit"].clone();
        let at = if round == 0 { at.as_str().expect("a commit").to_owned() } else { upstream.master() };
        let [x, y] = [64 + 2 * round, 65 + 2 * round].map(|rate| file("limits", "rate", rate));
        let (x, y) = tokio::join!(
            put(&rigs[0], "service/api.json", &x, Some(&at)),
            put(&rigs[1], "service/api.json", &y, Some(&at))
        );
        let mut statuses = [x.status, y.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412], "{} {}", x.text(), y.text());
        (won, lost) = (won + 1, lost + 1);
    }
    let commits = run(&upstream.configs, "git", &["rev-list", "--count", &format!("{began}..master")]);
    assert_eq!((commits.as_str(), won, lost), ("9", 5, 5));
}
