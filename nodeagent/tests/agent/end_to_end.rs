//! The whole agent in this process, against the controller's API over TLS and with real scripts.

use crate::controller::{Controller, TOKEN, node_id};
use std::path::{Path, PathBuf};
use straas_agent::agent::run_until;
use straas_agent::config::Config;
use straas_agent::world::World;
use straas_schemas::assignment::{Autonomy, Limits, Timing};
use straas_schemas::heartbeat::{Activity, ServiceStatus};
use straas_schemas::report::ReportBody;
use straas_schemas::{Assignment, Digest, FileRef, Gate, Lifecycle, Outcome, Stage, StageOrder};
use tokio::sync::watch;

/// A role whose service is a file that exists.
pub const ROLE: [(&str, &str); 6] = [
    ("cmd/demo/default/install.sh", "#!/bin/sh\necho install >> \"$STRAAS_PREFIX/ran\"\n"),
    (
        "pre_config/demo",
        "#!/bin/sh\necho pre_config >> \"$STRAAS_PREFIX/ran\"\n\
         n=$(sed 's/.*\"n\"://; s/[^0-9].*//' \"$STRAAS_CONTEXT\")\n\
         echo \"@straas {\\\"sections\\\":{\\\"demo\\\":{\\\"n\\\":$n}}}\"\n",
    ),
    (
        "cmd/demo/default/runpuppet.sh",
        "#!/bin/sh\necho config >> \"$STRAAS_PREFIX/ran\"\ncp \"$STRAAS_SITE_PP\" \"$STRAAS_PREFIX/up\"\n",
    ),
    (
        "cmd/demo/default/validate.sh",
        "#!/bin/sh\nif [ -e \"$STRAAS_PREFIX/up\" ]; then echo '@straas {\"facts\":{\"mode\":\"leader\"}}'; \
         echo '@straas {\"result\":{\"service\":\"active\"}}'; else echo '@straas {\"result\":{\"service\":\"inactive\"}}'; exit 1; fi\n",
    ),
    ("cmd/default/start.sh", "#!/bin/sh\necho start >> \"$STRAAS_PREFIX/ran\"\n: > \"$STRAAS_PREFIX/up\"\n"),
    ("cmd/demo/default/stop.sh", "#!/bin/sh\nrm -f \"$STRAAS_PREFIX/up\"\n"),
];

pub fn wanted(generation: u64, scripts: &str, n: u32) -> Assignment {
    let order = |stage: Stage| StageOrder {
        stage,
        inputs: Digest::of(
            &[stage.name(), if stage == Stage::PreConfig { "n" } else { "" }, &n.to_string()]
                [..if stage == Stage::PreConfig { 3 } else { 1 }],
        ),
        gate: Gate::Open,
        limits: Limits { total_s: 60, no_progress_s: 60 },
    };
    Assignment {
        protocol: straas_schemas::PROTOCOL,
        node: node_id(),
        generation,
        lifecycle: Lifecycle::Running,
        name: "demo-1".into(),
        role: "demo".into(),
        version: "1.0".into(),
        scripts: scripts.into(),
        config: String::new(),
        restarts: 0,
        hosts: std::collections::BTreeMap::new(),
        agent: None,
        drift: None,
        files: Vec::new(),
        packages: Vec::new(),
        context: serde_json::json!({ "n": n }),
        stages: Stage::ALL.into_iter().map(order).collect(),
        timing: Timing {
            heartbeat_ms: 500,
            validate_every_ms: 1_000,
            retry_ms: 200,
            retry_max_ms: 1_000,
            waiting_ms: 200,
            validate_wait_ms: 0,
        },
        autonomy: Autonomy { restart_service: true },
    }
}

pub struct Node {
    pub dir: PathBuf,
    config: Config,
    text: String,
    running: Option<(watch::Sender<bool>, tokio::task::JoinHandle<()>)>,
}

impl Node {
    pub fn new(dir: &Path, controller: &Controller) -> Self {
        let prefix = dir.join("prefix");
        std::fs::create_dir_all(&prefix).unwrap();
        std::fs::write(dir.join("ca.pem"), &controller.ca_pem).unwrap();
        std::fs::write(dir.join("token"), format!("{TOKEN}\n")).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let text = format!(
            "controllers=['https://127.0.0.1:1','{}']\nnode='{}'\nstate_dir='{}'\nca_file='{}'\njoin_token_file='{}'\nprefix='{}'\npoll_wait_ms=2000\n",
            controller.url,
            node_id(),
            at("agent"),
            at("ca.pem"),
            at("token"),
            prefix.display()
        );
        Self { dir: dir.into(), config: Config::parse(&text).unwrap(), text, running: None }
    }

    /// The configuration as a file, for an agent in a process of its own.
    pub fn write(&self) -> PathBuf {
        let path = self.dir.join("agent.toml");
        std::fs::write(&path, &self.text).unwrap();
        path
    }

    pub fn start(&mut self) {
        let (stop, stopped) = watch::channel(false);
        let config = self.config.clone();
        let task = tokio::task::spawn_local(async move { run_until(config, World::real(), stopped).await.unwrap() });
        self.running = Some((stop, task));
    }

    pub async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.send_replace(true);
        task.await.unwrap();
    }

    pub fn ran(&self) -> String {
        std::fs::read_to_string(self.dir.join("prefix/ran")).unwrap_or_default().replace('\n', " ")
    }
}

pub async fn local<F: Future>(work: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(work).await
}

#[tokio::test]
async fn from_a_join_token_to_converged_and_on() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        let first = shared.repo.commit(&ROLE);
        let file = b"deb http://nexus stable main\n".to_vec();
        let sum = Digest::sha256(&file);
        shared.files.borrow_mut().insert(sum.to_string(), file.clone());
        let mut assignment = wanted(1, &first, 1);
        assignment.files = vec![FileRef { path: "/etc/nexus.list".into(), sha256: sum, size: file.len() as u64, mode: 0o640 }];
        shared.faults.borrow_mut().wrong_pack_sum = 1;
        shared.faults.borrow_mut().lost_acks = 1;
        shared.assignment.send_replace(Some(assignment.clone()));
        let mut node = Node::new(dir.path(), &controller);
        node.start();

        controller.until("generation 1", |c| c.converged(1)).await;
        assert_eq!(node.ran(), "install pre_config config ");
        assert!(!dir.path().join("token").exists(), "the used token is still there");
        assert_eq!(std::fs::read(dir.path().join("prefix/etc/nexus.list")).unwrap(), file);
        let site = std::fs::read_to_string(dir.path().join("agent/site/demo/site.pp")).unwrap();
        assert!(site.contains("class { 'demo':\n  n => 1,\n}"), "{site}");
        let key = dir.path().join("agent/tls/node.key");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key).unwrap().permissions()) & 0o777, 0o600);
        controller.until("a settled heartbeat", |c| {
            c.shared.beats.borrow().last().is_some_and(|b| {
                b.converged && b.service == ServiceStatus::Active && b.outbox == 0 && b.ledger_writable && b.facts["mode"] == "leader" && b.activity == Activity::Idle
            })
        })
        .await;

        // an older and an equal, different assignment are refused once and move nothing
        shared.assignment.send_replace(Some(Assignment { version: "9".into(), ..assignment.clone() }));
        controller.until("a refusal", |c| c.shared.reports.borrow().values().any(|r| matches!(r.body, ReportBody::Refused { offered: 1, .. }))).await;

        // another script commit that changes nothing of this role, and another context
        let second = shared.repo.commit(&[&ROLE[..], &[("README", "more")]].concat());
        shared.assignment.send_replace(Some(wanted(2, &second, 1)));
        controller.until("generation 2", |c| c.converged(2)).await;
        assert_eq!(node.ran(), "install pre_config config ", "nothing changed for the stages");
        shared.assignment.send_replace(Some(wanted(3, &second, 2)));
        controller.until("generation 3", |c| c.converged(3)).await;
        assert_eq!(node.ran(), "install pre_config config pre_config config ");

        // renewal
        shared.faults.borrow_mut().renew = true;
        controller.until("a renewal", |c| c.seen("renew") == 1).await;

        // the service dies, the agent starts it again
        std::fs::remove_file(dir.path().join("prefix/up")).unwrap();
        let failed = |c: &Controller| c.shared.reports.borrow().values().any(|r| matches!(&r.body, ReportBody::Stage(s) if s.stage == Stage::Validate && s.outcome == Outcome::Failed));
        controller.until("the failure is reported", failed).await;
        // the last heartbeat may still be one of before
        let started = || node.ran().ends_with("start ");
        controller.until("the service works again", |c| started() && c.shared.beats.borrow().last().is_some_and(|b| b.service == ServiceStatus::Active)).await;

        // refused by the controller: keeps running; welcome again: goes on
        shared.faults.borrow_mut().forbidden = true;
        let polls = controller.seen("poll");
        controller.until("polls are refused", |c| c.seen("poll") > polls + 1).await;
        shared.faults.borrow_mut().forbidden = false;
        shared.assignment.send_replace(Some(wanted(4, &second, 3)));
        controller.until("generation 4", |c| c.converged(4)).await;

        // a new process takes up where the ledger ends and runs no stage again
        node.stop().await;
        let ran = node.ran();
        node.start();
        let beats = shared.beats.borrow().len();
        controller.until("it beats again", |c| c.shared.beats.borrow().len() > beats + 1).await;
        assert!(shared.beats.borrow().last().unwrap().converged);
        assert_eq!(node.ran(), ran);
        assert_eq!(controller.seen("enrol"), 1);
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn failing_waiting_killed_and_superseded_at_once() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        let with_install = |text: &'static str| {
            let mut files = ROLE.to_vec();
            files[0].1 = text;
            shared.repo.commit(&files)
        };
        let failing =
            with_install("#!/bin/sh\necho E: no such version\necho '@straas {\"hint\":\"look there\"}'\nexit 3\n");
        let waiting = with_install("#!/bin/sh\necho '@straas {\"progress\":{\"text\":\"for a friend\"}}'\nexit 75\n");
        let hanging = with_install("#!/bin/sh\ntrap '' TERM\necho hanging\nsleep 1000\n");
        let malformed = with_install("#!/bin/sh\necho '@straas {oops'\n");
        let good = with_install(ROLE[0].1);
        let other = |generation: u64, scripts: &str| {
            let mut assignment = wanted(generation, scripts, 1);
            assignment.stages[0].inputs = Digest::of(&[scripts]);
            Some(assignment)
        };
        let ended = |generation: u64, outcome: Outcome, part: &'static str| {
            move |c: &Controller| {
                c.shared.reports.borrow().values().any(|r| {
                    matches!(&r.body, ReportBody::Stage(s)
                    if s.generation == generation && s.outcome == outcome && s.reason.contains(part))
                })
            }
        };
        shared.assignment.send_replace(other(1, &failing));
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        controller.until("it fails", ended(1, Outcome::Failed, "exit code 3: E: no such version")).await;
        let hint = shared.reports.borrow().values().find_map(|r| match &r.body {
            ReportBody::Stage(s) => s.hint.clone(),
            _ => None,
        });
        assert_eq!(hint.as_deref(), Some("look there"));
        shared.assignment.send_replace(other(2, &waiting));
        controller.until("it waits", ended(2, Outcome::Waiting, "for a friend")).await;
        shared.assignment.send_replace(other(3, &malformed));
        controller.until("it breaks the contract", ended(3, Outcome::Failed, "{oops")).await;
        shared.assignment.send_replace(other(4, &hanging));
        let hangs = |c: &Controller| {
            c.shared.beats.borrow().last().is_some_and(|b| {
                b.generation == 4 && matches!(b.activity, Activity::Running { stage: Stage::Install, .. })
            })
        };
        controller.until("it hangs", hangs).await;
        shared.assignment.send_replace(other(5, &good));
        controller.until("superseded", |c| c.converged(5)).await;
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn stopped_in_the_middle_of_a_stage_it_ends_the_script_and_resumes() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        let mut files = ROLE.to_vec();
        files[0].1 = "#!/bin/sh\necho begun >> \"$STRAAS_PREFIX/ran\"\n[ -e \"$STRAAS_PREFIX/again\" ] && exit 0\n: > \"$STRAAS_PREFIX/again\"\necho $$ > \"$STRAAS_PREFIX/pid\"\nsleep 1000\n";
        let scripts = shared.repo.commit(&files);
        shared.assignment.send_replace(Some(wanted(1, &scripts, 1)));
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        controller.until("it runs", |_| dir.path().join("prefix/pid").exists()).await;
        node.stop().await;
        node.start();
        controller.until("it resumes", |c| c.converged(1)).await;
        assert_eq!(node.ran(), "begun begun pre_config config ");
        let attempts: Vec<u32> = shared.reports.borrow().values().filter_map(|r| match &r.body { ReportBody::Stage(s) if s.stage == Stage::Install => Some(s.attempt), _ => None }).collect();
        assert_eq!(attempts, [2]);
        node.stop().await;
    })
    .await;
}
