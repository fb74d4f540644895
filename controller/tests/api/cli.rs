//! The command line as a person and a script meet it: the real program against a controller.

use crate::agent::live;
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tokio::process::Command;

/// The program beside this test, brought up to date by cargo.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = std::env::current_exe().expect("a path");
        let dir = own.ancestors().nth(2).expect("a target directory");
        let profile = match dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = std::process::Command::new(cargo);
        build
            .args(["build", "--quiet", "-p", "straas-cli", "--profile", profile, "--target-dir"])
            .arg(dir.parent().expect("a parent"));
        assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo").success());
        dir.join("straas")
    })
}

/// How it ended.
#[derive(Debug)]
pub struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// All that it said.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Asserts an exit code and texts that a person has to read.
    pub fn says(&self, code: i32, texts: &[&str]) -> &Self {
        let all = self.text();
        assert_eq!(self.code, code, "{self:?}");
        for text in texts {
            assert!(all.contains(text), "no {text:?} in:\n{all}");
        }
        self
    }
}

/// The program with a home of its own.
pub struct Cli {
    home: tempfile::TempDir,
    pub endpoint: String,
    token_file: PathBuf,
}

impl Cli {
    pub fn of(rig: &Rig) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { home, endpoint: rig.endpoint(), token_file: rig.data().join("admin.token") }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(program());
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("HOME", self.home.path())
            .env("TZ", "UTC")
            .kill_on_drop(true);
        command.env("STRAAS_ENDPOINT", &self.endpoint).env("STRAAS_TOKEN_FILE", &self.token_file);
        command
    }

    pub async fn run(&self, line: &str) -> Ran {
        self.done(self.command(line)).await
    }

    async fn done(&self, mut command: Command) -> Ran {
        let out = tokio::time::timeout(PATIENCE, command.stdin(std::process::Stdio::null()).output()).await;
        let out = out.expect("in time").expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let ran =
            Ran { code: out.status.code().expect("a code"), stdout: text(&out.stdout), stderr: text(&out.stderr) };
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains("panicked"), "{ran:?}");
        if std::env::var_os("SHOW").is_some() {
            eprintln!("$ straas {:?}\n{}{}", command.as_std().get_args().collect::<Vec<_>>(), ran.stdout, ran.stderr);
        }
        ran
    }
}

#[tokio::test]
async fn a_topology_from_creation_to_its_end() {
    let rig = Rig::start().await;
    let cli = Cli::of(&rig);
    cli.run("topology list").await.says(0, &["(none)"]);
    cli.run("topology create demo --az z1 --size 1 --dry-run")
        .await
        .says(0, &["nothing was changed", "zk/config", "demo-zk-1"]);
    cli.run("topology list").await.says(0, &["(none)"]);
    cli.run("topology create demo --az z1 --size 1").await.says(0, &["create topology demo", "straas job watch demo"]);
    let listed = cli.run("topology list -o json").await.json();
    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    cli.run("topology list").await.says(0, &["NAME", "STATUS", "demo", "CREATING", "zk:zookeeper"]);
    let mut agents = rig.enrolled(&id, 1).await;
    // watched by name while it goes on, in lines
    let mut watch = cli.command("job watch demo");
    let watch =
        watch.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().expect("it runs");
    let view = live(&rig, &mut agents, &id, "ACTIVE").await;
    let watched = tokio::time::timeout(PATIENCE, watch.wait_with_output()).await.expect("in time").expect("it ran");
    let told = String::from_utf8(watched.stderr).expect("text");
    assert_eq!(watched.status.code(), Some(0), "{told}");
    for text in ["demo-zk-1: install done in 1.2 s", "zk/validate", "create topology demo succeeded in"] {
        assert!(told.contains(text), "no {text:?} in:\n{told}");
    }
    assert!(watched.stdout.is_empty());
    // shown by name, by branch and by id, in each form
    let node = view["components"][0]["nodes"][0]["id"].as_str().expect("an id").to_owned();
    for name in ["demo", "demo@z1", &id] {
        cli.run(&format!("topology show {name}")).await.says(0, &["topology demo", "ACTIVE", "demo-zk-1", "1.2s"]);
        assert_eq!(cli.run(&format!("topology show {name} -o json")).await.json()["id"], id.as_str());
    }
    let yaml = cli.run("topology show demo -o yaml").await;
    yaml.says(0, &["name: demo", "status: ACTIVE"]);
    for name in ["demo-zk-1", &node] {
        cli.run(&format!("node show {name}")).await.says(0, &["node demo-zk-1", "generation", "install", "converged"]);
        cli.run(&format!("node why {name}")).await.says(0, &["converged: it holds generation"]);
    }
    cli.run("node list").await.says(0, &["NODE", "demo-zk-1", "reachable"]);
    assert_eq!(cli.run("node list --topology demo -o json").await.json()[0]["id"], node.as_str());
    cli.run("job list").await.says(0, &["create", "demo", "succeeded"]);
    cli.run("job list --topology demo").await.says(0, &["create"]);
    cli.run("job show demo").await.says(0, &["succeeded", "zk/spawn", "1/1"]);
    assert_eq!(cli.run("job watch demo -o json").await.json()["state"], "succeeded");
    cli.run("version").await.says(0, &["straas", "controller", env!("CARGO_PKG_VERSION")]);
    // and gone
    cli.run("topology delete demo --dry-run").await.says(0, &["demo-zk-1"]);
    cli.run("topology delete demo --wait").await.says(0, &["host is removed", "delete topology demo succeeded in"]);
    cli.run("topology show demo").await.says(3, &["there is no topology demo", "try:", "straas topology list"]);
    // its jobs are still known by its name
    assert_eq!(cli.run("job show demo -o json").await.json()["kind"], "delete");
}

#[tokio::test]
async fn files_of_both_kinds_and_what_is_wrong_with_them() {
    let rig = Rig::start().await;
    let cli = Cli::of(&rig);
    let write = |name: &str, text: &str| {
        let path = cli.home.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let json = write("a.json", &crate::rig::topology("from-json").to_string());
    let yaml = write(
        "a.yaml",
        "name: from-yaml\navailability_zone: z1\ncomponents:\n  - name: zk\n    type: zookeeper\n    size: 3\n",
    );
    cli.run(&format!("topology create -f {json}")).await.says(0, &["from-json"]);
    let accepted = cli.run(&format!("topology create -f {yaml} -o json")).await.json();
    assert_eq!(accepted["job"]["topology_name"], "from-yaml");
    cli.run(&format!("topology create -f {json}")).await.says(4, &["there is a topology from-json@z1 already"]);
    let bad =
        write("bad.json", r#"{"name":"a/b","availability_zone":"z1","components":[{"name":"zk","type":"mystery"}]}"#);
    cli.run(&format!("topology create -f {bad}"))
        .await
        .says(4, &["/name: ", "'/'", "/components/0/type: ", "there are: "]);
    let broken = write("broken.json", "{");
    cli.run(&format!("topology create -f {broken}")).await.says(4, &["broken.json is not JSON"]);
    cli.run("topology create -f /nowhere.json").await.says(1, &["cannot read /nowhere.json"]);
    cli.run(&format!("topology create x -f {json}")).await.says(2, &["cannot be used with"]);
    cli.run("topology create").await.says(2, &["NAME"]);
    cli.run("topology create demo --size 2").await.says(4, &["odd number"]);
}

#[tokio::test]
async fn what_is_being_created_can_be_deleted() {
    let rig = Rig::start().await;
    let cli = Cli::of(&rig);
    rig.boot.send_replace(None);
    cli.run("topology create early --az z1").await.says(0, &["accepted"]);
    cli.run("node why early-zk-1").await.says(0, &["spawning"]);
    cli.run("topology delete early --wait").await.says(0, &["delete topology early succeeded"]);
    let job = rig.get("/straas/v1.0/jobs").await["items"][1]["id"].as_str().expect("an id").to_owned();
    cli.run(&format!("job watch {job}")).await.says(7, &["create topology early: was superseded by a later request"]);
}

#[tokio::test]
async fn every_kind_of_trouble_has_its_code_and_its_hint() {
    let mut rig = Rig::start().await;
    let mut cli = Cli::of(&rig);
    cli.run("topology show nobody").await.says(3, &["there is no topology nobody", "straas topology list"]);
    cli.run("topology delete nobody").await.says(3, &["there is no topology nobody"]);
    cli.run("node why nobody").await.says(3, &["there is no node nobody", "straas node list"]);
    cli.run("job watch nobody").await.says(3, &["there is no job nobody", "straas job list"]);
    cli.run("node list --topology nobody").await.says(3, &["there is no topology nobody"]);
    cli.run("node show ../../x").await.says(3, &["there is no node"]);
    cli.run("topology explode").await.says(2, &["Usage:"]);
    cli.run("topology list -o xml").await.says(2, &["table", "json", "yaml"]);
    cli.run("").await.says(2, &["Usage: straas", "topology", "dev", "version"]);
    for noun in ["dev", "topology", "node", "job", "topology create", "job watch", "dev up"] {
        let help = cli.run(&format!("{noun} --help")).await;
        help.says(0, &["Usage: straas"]);
        assert!(help.stdout.lines().all(|line| line.chars().count() <= 120), "{}", help.stdout);
    }
    // without a token, with a wrong one, with a file that is not there
    let wrong = cli.home.path().join("wrong");
    std::fs::write(&wrong, "f".repeat(64)).expect("written");
    let good = std::mem::replace(&mut cli.token_file, wrong);
    cli.run("topology list").await.says(5, &["this token is not known", "--token-file"]);
    cli.token_file = "/nowhere/token".into();
    cli.run("topology list").await.says(1, &["/nowhere/token"]);
    cli.token_file = good;
    let mut none = cli.command("topology list");
    none.env_remove("STRAAS_TOKEN_FILE");
    cli.done(none).await.says(5, &["send a token", "STRAAS_TOKEN_FILE"]);
    // the context file stands in for both
    let context = cli.home.path().join(".config/straas");
    std::fs::create_dir_all(&context).expect("made");
    let kept = serde_json::json!({ "endpoint": cli.endpoint, "token_file": cli.token_file });
    std::fs::write(context.join("context.json"), kept.to_string()).expect("written");
    let mut plain = cli.command("topology list");
    plain.env_remove("STRAAS_TOKEN_FILE").env_remove("STRAAS_ENDPOINT");
    cli.done(plain).await.says(0, &["(none)"]);
    // a token is not sent to another endpoint than its own
    let mut other = cli.command("topology list");
    other.env_remove("STRAAS_TOKEN_FILE").env("STRAAS_ENDPOINT", cli.endpoint.replace("127.0.0.1", "localhost"));
    cli.done(other).await.says(5, &["send a token"]);
    // away
    rig.down().await.expect("stopped");
    cli.run("topology list").await.says(6, &["no controller answers at http://127.0.0.1", "straas dev up"]);
    cli.run("version").await.says(0, &["no answer"]);
    cli.endpoint = "https://127.0.0.1:1".into();
    cli.run("topology list").await.says(1, &["plain http"]);
    cli.endpoint = "not a url".into();
    cli.run("topology list").await.says(1, &["is not a URL"]);
}

#[tokio::test]
async fn output_of_nodes_cannot_steer_a_terminal() {
    use straas_schemas::Outcome;
    use straas_schemas::report::ReportBody;
    let rig = Rig::start().await;
    let cli = Cli::of(&rig);
    let id = rig.create("demo", 1).await;
    let mut agent = rig.enrolled(&id, 1).await.remove(0);
    agent.poll(60_000).await;
    let (stage, digest) = agent.wants().expect("a stage");
    let mut result = agent.result(stage, digest, Outcome::Failed);
    result.output_tail = "\u{1b}]0;owned\u{7}E: no such version\r\n".into();
    result.hint = Some("\u{1b}[2Jname a version that is there".into());
    agent.report(ReportBody::Stage(result)).await;
    agent.heartbeat().await;
    for line in ["node why demo-zk-1", "node show demo-zk-1", "job show demo"] {
        let ran = cli.run(line).await;
        ran.says(0, &["E: no such version", "name a version that is there"]);
        assert!(!ran.stdout.contains('\u{7}') && !ran.stdout.contains('\r'), "{ran:?}");
    }
    let view = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    assert_eq!(view["status"], "DEGRADED");
}

#[tokio::test]
async fn the_configuration_from_the_command_line() {
    let rig = Rig::start().await;
    let cli = Cli::of(&rig);
    cli.run("topology create demo --az z1 --size 1").await.says(0, &["accepted"]);
    let file = "app/zookeeper/3.8.0/user.json";
    let there = format!("/straas/v1.0/configurations/tree/demo@z1/{file}");
    rig.until(&there, |answer| answer.status == 200).await;
    cli.run("config ls demo app/zookeeper/3.8.0").await.says(0, &["default.json", "user.json"]);
    cli.run(&format!("config cat demo {file}")).await.says(0, &["\"tickTime\""]);
    cli.run("config tag create demo before").await.says(0, &["demo@z1&before marks commit"]);
    cli.run("config set demo zk zoo_cfg.tickTime=2500 --dry-run")
        .await
        .says(0, &["tickTime: 2000 → 2500", "nothing was"]);
    cli.run("config diff demo&before demo").await.says(0, &["nothing differs"]);
    cli.run("config set demo zk zoo_cfg.tickTime=2500")
        .await
        .says(0, &["is written", "straas component configure demo zk"]);
    cli.run("config set demo zk zoo_cfg.tickTime=7").await.says(4, &["\"7\" is not at least"]);
    cli.run("config set demo zk zoo_cfg.tick=7").await.says(4, &["cannot be set by users", "zoo_cfg.tickTime"]);
    cli.run("config set demo zk nonsense").await.says(4, &["is not SECTION.KEY=VALUE"]);
    cli.run("config diff demo&before demo").await.says(0, &["zoo_cfg.tickTime: 2000 → 2500"]);
    cli.run(&format!("config log demo {file}")).await.says(0, &["zk: set zoo_cfg.tickTime", "admin"]);
    cli.run("config effective demo zk").await.says(0, &["zoo_cfg.tickTime", "newer commits"]);
    cli.run("config settings").await.says(0, &["in force everywhere", "timing.heartbeat_ms", "controller.toml"]);
    cli.run("config settings --zone z1 --doc").await.says(0, &["in force in z1", "between two heartbeats"]);
    cli.run("config settings --zone ?").await.says(4, &["availability zone"]);
    cli.run("config tag list demo").await.says(0, &["before"]);
    cli.run("config tag delete demo before").await.says(0, &["is deleted"]);
    cli.run("config cat nobody x").await.says(3, &["branch nobody"]);
    assert_eq!(cli.run("config ls master --json").await.json()["type"], "folder");
    // what runs, and what there is to run
    cli.run("component list demo").await.says(0, &["zk", "zookeeper"]);
    cli.run("component show demo nothing").await.says(3, &["demo has no component nothing; it has: zk"]);
    cli.run("component dependencies demo zk").await.says(0, &["(none)"]);
    cli.run("component add demo kf --type kafka --depends-on zk --size 1 --dry-run")
        .await
        .says(0, &["kf/config", "demo-kf-1"]);
    cli.run("component add demo kf --type kafka").await.says(4, &["needs", "zookeeper"]);
    cli.run("component add demo st --type storm --role supervisor").await.says(4, &["is not ROLE=NUMBER"]);
    cli.run("component add demo").await.says(2, &["--type"]);
    cli.run("component depend demo zk --on zk").await.says(4, &["cannot depend on itself"]);
    cli.run("component depend demo zk --on nobody").await.says(4, &["nobody"]);
    cli.run("component depend demo zk --nothing").await.says(0, &["it is so already"]);
    cli.run("component depend demo zk").await.says(2, &["--on"]);
    cli.run("component flexup demo zk --count 2 --dry-run").await.says(0, &["demo-zk-2"]);
    cli.run("component flexdown demo zk").await.says(4, &["at least one stays"]);
    cli.run("component configure demo zk --dry-run").await.says(0, &["nothing was changed"]);
    cli.run("node replace nobody").await.says(3, &["there is no node nobody"]);
    cli.run("quarantine list").await.says(0, &["(none)"]);
    cli.run("quarantine release x").await.says(3, &["x is not in quarantine"]);
    cli.run("guestcmd list").await.says(0, &["zk-cmd/create-namespace"]);
    cli.run("guestcmd describe zk-cmd/create-namespace").await.says(0, &["name", "yes"]);
    cli.run("command run zk-cmd/nothing --node demo-zk-1").await.says(4, &["no such guest command"]);
    cli.run("command run zk-cmd/list-namespace").await.says(2, &["--node"]);
    cli.run("command list").await.says(0, &["(none)"]);
    cli.run("command show nothing").await.says(3, &["nothing", "straas command list"]);
    cli.run("command cancel nothing").await.says(3, &["nothing", "straas command list"]);
    cli.run("command submit-jar demo zk /nowhere.jar --class a.B").await.says(1, &["cannot read /nowhere.jar"]);
    cli.run("command submit-jar demo zk /etc/hostname --class a.B").await.says(4, &["no nimbus node"]);
    for noun in
        ["component", "config", "config tag", "script sync", "command run", "guestcmd", "quarantine", "component test"]
    {
        cli.run(&format!("{noun} --help")).await.says(0, &["Usage: straas"]);
    }
}

#[tokio::test]
async fn files_models_and_health_from_the_command_line() {
    let rig = Rig::start().await;
    let mut cli = Cli::of(&rig);
    let id = rig.create("demo", 1).await;
    let mut agents = rig.enrolled(&id, 1).await;
    live(&rig, &mut agents, &id, "ACTIVE").await;
    let path = cli.home.path().join("a.jar");
    std::fs::write(&path, "a jar").expect("written");
    let file = path.display().to_string();
    cli.run(&format!("storage put {file} jars/a.jar --region z1")).await.says(0, &["jars/a.jar has 5 bytes"]);
    cli.run("storage list --region z1").await.says(0, &["PATH", "jars/a.jar", "admin"]);
    cli.run("storage list none --region z1").await.says(0, &["(none)"]);
    let copy = cli.home.path().join("copy");
    cli.run(&format!("storage get jars/a.jar {} --region z1", copy.display())).await.says(0, &["5 bytes"]);
    assert_eq!(std::fs::read(&copy).expect("a file"), b"a jar");
    cli.run("storage give jars/a.jar /opt/a.jar --component demo/zk --dry-run")
        .await
        .says(0, &["zk /opt/a.jar ← local:z1/jars/a.jar (5 bytes"]);
    cli.run("storage give jars/a.jar /opt/a.jar --component demo/zk").await.says(0, &["accepted", "straas job watch"]);
    live(&rig, &mut agents, &id, "ACTIVE").await;
    cli.run("node show demo-zk-1").await.says(0, &["/opt/a.jar (5 bytes", "health"]);
    cli.run("storage give a.jar /opt/a.jar --node demo-zk-1").await.says(4, &["is not CONTAINER/NAME"]);
    cli.run("storage give jars/a.jar /opt/a.jar").await.says(2, &["--topology"]);
    cli.run("storage take /opt/a.jar --node demo-zk-1").await.says(0, &["nothing to do"]);
    cli.run("storage take /opt/a.jar --topology demo").await.says(0, &["/opt/a.jar is taken away"]);
    cli.run("storage remove jars/a.jar --region z1").await.says(0, &["is gone"]);
    cli.run("storage remove jars/a.jar --region z1").await.says(3, &["there is no file jars/a.jar"]);
    // a part that is there is not sent again
    let hash = straas_schemas::Digest::sha256(b"a jar");
    let partial = straas_schemas::Digest::of(&["admin", hash.as_str()]);
    std::fs::write(rig.data().join("objects/partial").join(partial.as_str()), "a j").expect("written");
    cli.run(&format!("storage put {file} jars/a.jar --region z1")).await.says(0, &["3 of 5 bytes are there already"]);
    cli.run("cms show demo").await.says(3, &["it has no model"]);
    cli.run("cms create demo").await.says(0, &["in sync", "demo-zk-1"]);
    cli.run("cms sync demo").await.says(0, &["in sync"]);
    cli.run("cms remove demo").await.says(0, &["no model any more"]);
    cli.run("component flavors zookeeper").await.says(0, &["tiny (default)", "512"]);
    cli.run("component health demo zk demo-zk-1=inactive").await.says(0, &["written of 1 nodes"]);
    cli.run("component health demo zk demo-zk-1=fine").await.says(4, &["NODE=STATUS"]);
    cli.run("node show demo-zk-1").await.says(0, &["INACTIVE, found", "by admin"]);
    cli.run("node targets").await.says(0, &["demo-zk-1", ":9465"]);
    cli.endpoint = "http://127.0.0.1:1".into();
    cli.run("storage list --region z1").await.says(6, &["straas dev up"]);
}

#[tokio::test]
async fn files_are_edited_blamed_and_brought_up_to_date() {
    let rig = Rig::start().await;
    let cli = Cli::of(&rig);
    rig.create("demo", 1).await;
    let file = "app/zookeeper/3.8.0/user.json";
    let edit = async |editor: &str, more: &str| {
        let mut command = cli.command(&format!("config edit demo {file} {more}"));
        command.env("VISUAL", editor).env("PATH", "/usr/bin:/bin");
        cli.done(command).await
    };
    edit("true", "").await.says(0, &["nothing was changed"]);
    edit("false", "").await.says(1, &["ended with exit status: 1", "nothing was written"]);
    let set = "sed -i /tickTime/,/value/s/2000/2500/";
    // without a person who says yes, nothing is written, and his text is kept
    edit(set, "").await.says(1, &["zoo_cfg.tickTime: 2000 → 2500", "nothing was written", "your text is in /tmp/"]);
    edit(set, "--yes -m slower").await.says(0, &["tickTime: 2000 → 2500", "is written to demo@z1"]);
    edit("sed -i s/2500/99999999/", "--yes").await.says(4, &["it was refused; your text is in", "at most"]);
    cli.run(&format!("config blame demo {file}")).await.says(0, &["zoo_cfg.tickTime", "2500", "admin", "slower"]);
    cli.run("config updates demo zk").await.says(0, &["no default moved"]);
    for shell in ["bash", "zsh", "fish"] {
        cli.run(&format!("completions {shell}")).await.says(0, &["straas", "topology"]);
    }
}

#[tokio::test]
async fn a_rollout_is_begun_seen_and_steered() {
    let rig = Rig::start().await;
    let cli = Cli::of(&rig);
    rig.create("demo", 1).await;
    cli.run("rollout list").await.says(0, &["(none)"]);
    cli.run("rollout start").await.says(0, &["nothing to do"]);
    let scripts = straas_repos::ScriptRepo::open(&rig.data().join("scripts.git")).expect("a repository");
    scripts.write("cmd/zookeeper/default/validate.sh", b"#!/bin/bash\n", "another", "an author").expect("a commit");
    cli.run("rollout start --dry-run").await.says(0, &["nothing was changed", "batch 1: 1 components", "demo/zk"]);
    cli.run("rollout list --open").await.says(0, &["(none)"]);
    let begun = cli.run("rollout start --component demo/zk --batches 50,100 --soak 60 -o json").await.json();
    let id = begun["id"].as_str().expect("an id");
    assert_eq!((&begun["soak_s"], &begun["batches"][0]["percent"]), (&60.into(), &50.into()), "{begun}");
    cli.run("rollout list --open --all-tenants").await.says(0, &[id, "running", "0/1"]);
    cli.run("rollout start --topology demo").await.says(4, &[id]);
    cli.run(&format!("rollout pause {id}")).await.says(0, &["paused"]);
    cli.run(&format!("rollout resume {id}")).await.says(0, &["running"]);
    cli.run(&format!("rollout cancel {id}")).await.says(0, &[id, "cancel"]);
    rig.until(&format!("/straas/v1.0/rollouts/{id}"), |answer| answer.json()["state"] == "cancelled").await;
    cli.run(&format!("rollout show {id}")).await.says(0, &["cancelled it", "demo/zk"]);
    cli.run("rollout show none").await.says(3, &["no rollout none"]);
}
