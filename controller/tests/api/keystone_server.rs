//! A Keystone of one test: Debian's, in a root and namespaces of its own (`packaging/tests/keystone.sh`).
//!
//! It holds the other end of the test's pipe, so it ends with the test, however that ends. What it
//! remembers is in a directory of the test: it can be ended and started again.

use crate::wire::{Answer, request, send, whole};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// It is up after 3 s; so long is waited on a loaded machine.
const START: Duration = Duration::from_secs(180);
/// How the script ends where it may not make namespaces.
const MAY_NOT: i32 = 77;

/// User → password, roles by project. `straas` is the controller's own.
type People = [(&'static str, &'static str, &'static [(&'static str, &'static str)])];

const PEOPLE: &People = &[
    ("straas", "the service's secret", &[("service", "service")]),
    ("ann", "ann's secret", &[("red", "member"), ("blue", "member")]),
    ("bob", "bob's secret", &[("blue", "member")]),
    ("olga", "olga's secret", &[("red", "cloud_operator")]),
    ("chris", "chris's secret", &[("blue", "checker")]),
    ("ruth", "ruth's secret", &[("platform", "member")]),
    ("rea", "rea's secret", &[("red", "reader")]),
];

/// The password of somebody.
pub fn password(user: &str) -> &'static str {
    PEOPLE.iter().find(|(name, ..)| *name == user).map(|(_, password, _)| *password).expect("somebody")
}

pub struct Keystone {
    dir: TempDir,
    port: u16,
    process: Option<Child>,
    admin: String,
    /// Ids of users and projects by name.
    pub ids: BTreeMap<String, String>,
}

impl Keystone {
    /// One with projects, roles and people; none where nobody may make one, which is said.
    pub async fn start(test: &str) -> Option<Self> {
        // cargo shows what it says on its standard error: the first time takes minutes
        let made = Command::new(script()).arg("image").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let made = made.expect("started");
        if made.status.code() == Some(MAY_NOT) {
            println!("SKIPPED {test}: {}", String::from_utf8_lossy(&made.stdout).trim());
            return None;
        }
        assert!(made.status.success(), "there is no Keystone; see above");
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("an address").port();
        let dir = tempfile::tempdir().expect("a directory");
        let mut keystone = Self { dir, port, process: None, admin: String::new(), ids: BTreeMap::new() };
        keystone.up().await;
        keystone.settle().await;
        Some(keystone)
    }

    /// Starts it over what it remembers.
    pub async fn up(&mut self) {
        let mut command = Command::new(script());
        command.arg("serve").arg(self.port.to_string()).arg(self.dir.path().join("state"));
        self.process = Some(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("started"));
        let begun = Instant::now();
        while self.try_ask(Method::GET, "/v3", "", None).await.is_none_or(|answer| answer.status != 200) {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().expect("asked"));
            assert!(ended.is_none() && begun.elapsed() < START, "Keystone does not come up: {}", self.log());
            // waits for: its port to be served, which nothing else tells
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let own = json!({ "name": "admin", "domain": { "name": "Default" } });
        self.admin = self.issue("admin", "admin", Some(own)).await;
    }

    /// Kills it.
    pub fn down(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        drop(process.stdin.take());
        process.wait().expect("ended");
    }

    fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.dir.path().join("state/log").join(name)).unwrap_or_default();
        format!("{}{}", read("start.log"), read("uwsgi.log"))
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v3", self.port)
    }

    /// Where it is on this machine.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The file with the password that the controller uses.
    pub fn password_file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    /// `[auth.keystone]` of a controller that asks this one.
    pub fn settings(&self, believed_s: u32) -> String {
        std::fs::write(self.password_file(), format!("{}\n", password("straas"))).expect("written");
        format!(
            "[auth.keystone]\nurl = {:?}\nuser = 'straas'\npassword_file = {:?}\nproject = 'service'\n\
             admin_projects = [{:?}]\noperator_roles = ['cloud_operator']\nhealth_check_roles = ['checker']\n\
             believed_s = {believed_s}\n",
            self.url(),
            self.password_file(),
            self.ids["platform"]
        )
    }

    async fn try_ask(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Option<Answer> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.ok()?;
        let mut headers = vec![("content-type", "application/json")];
        if !token.is_empty() {
            headers.push(("x-auth-token", token));
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        Some(whole(send(stream, request(method, path, &headers, body)).await.ok()?).await)
    }

    /// A request of its administrator's, which is answered well.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.try_ask(method, path, &self.admin, body).await.expect("an answer");
        assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        answer
    }

    async fn issue(&self, user: &str, password: &str, project: Option<Value>) -> String {
        let user = json!({ "name": user, "domain": { "name": "Default" }, "password": password });
        let scope = project.map_or(json!("unscoped"), |project| json!({ "project": project }));
        let body = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": user } }, "scope": scope } });
        let answer = self.try_ask(Method::POST, "/v3/auth/tokens", "", Some(&body)).await.expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.header("x-subject-token").to_owned()
    }

    /// A token in a project that Keystone made itself.
    pub async fn token(&self, user: &str, project: &str) -> String {
        self.issue(user, password(user), Some(json!({ "id": self.ids[project] }))).await
    }

    /// Ends a token.
    pub async fn revoke(&self, token: &str) {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.expect("connected");
        let headers = [("x-auth-token", self.admin.as_str()), ("x-subject-token", token)];
        let sent = send(stream, request(Method::DELETE, "/v3/auth/tokens", &headers, Vec::new())).await;
        assert_eq!(whole(sent.expect("an answer")).await.status, 204);
    }

    /// Changes the controller's own user.
    pub async fn change_service(&self, to: Value) {
        let path = format!("/v3/users/{}", self.ids["straas"]);
        self.ask(Method::PATCH, &path, Some(&json!({ "user": to }))).await;
    }

    async fn made(&self, kind: &str, body: Value) -> String {
        let answer = self.ask(Method::POST, &format!("/v3/{kind}s"), Some(&json!({ kind: body }))).await;
        answer.json()[kind]["id"].as_str().expect("an id").to_owned()
    }

    /// Makes the projects, roles and people.
    async fn settle(&mut self) {
        let mut roles = BTreeMap::new();
        for role in self.ask(Method::GET, "/v3/roles", None).await.json()["roles"].as_array().expect("roles") {
            let text = |key: &str| role[key].as_str().expect("a text").to_owned();
            roles.insert(text("name"), text("id"));
        }
        for (user, password, places) in PEOPLE {
            let body = json!({ "name": user, "domain_id": "default", "password": password });
            let id = self.made("user", body).await;
            self.ids.insert((*user).to_owned(), id.clone());
            for (project, role) in *places {
                if !self.ids.contains_key(*project) {
                    let made = self.made("project", json!({ "name": project, "domain_id": "default" })).await;
                    self.ids.insert((*project).to_owned(), made);
                }
                if !roles.contains_key(*role) {
                    roles.insert((*role).to_owned(), self.made("role", json!({ "name": role })).await);
                }
                let path = format!("/v3/projects/{}/users/{id}/roles/{}", self.ids[*project], roles[*role]);
                self.ask(Method::PUT, &path, None).await;
            }
        }
    }
}

impl Drop for Keystone {
    fn drop(&mut self) {
        self.down();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/tests/keystone.sh")
}
