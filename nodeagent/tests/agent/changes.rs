//! Restart, stop and start, drift, permits: what an assignment can ask for after the first one.

use crate::controller::Controller;
use crate::end_to_end::{Node, ROLE, local, wanted};
use straas_schemas::assignment::{DriftOrder, DriftPolicy};
use straas_schemas::heartbeat::{Activity, Heartbeat, ServiceStatus};
use straas_schemas::report::ReportBody;
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, Stage};

/// What it configures is a copy of `site.pp`; a look compares the two.
const CONFIG: &str = "#!/bin/sh\n\
    if [ \"$STRAAS_NOOP\" = 1 ]; then echo \"look-$STRAAS_STAGE\" >> \"$STRAAS_PREFIX/ran\"\n\
    if cmp -s \"$STRAAS_SITE_PP\" \"$STRAAS_PREFIX/conf\"; then l=; else l='\"File[conf]\"'; fi\n\
    echo \"@straas {\\\"drift\\\":{\\\"resources\\\":[$l]}}\"; exit 0; fi\n\
    echo config >> \"$STRAAS_PREFIX/ran\"\ncp \"$STRAAS_SITE_PP\" \"$STRAAS_PREFIX/conf\"\n: > \"$STRAAS_PREFIX/up\"\n";
const STOP: &str = "#!/bin/sh\necho stop >> \"$STRAAS_PREFIX/ran\"\nrm -f \"$STRAAS_PREFIX/up\"\n";
const VALIDATE: &str = "#!/bin/sh\necho \"settled=$STRAAS_SETTLED\" >> \"$STRAAS_PREFIX/looks\"\n\
    if [ -e \"$STRAAS_PREFIX/up\" ]; then echo '@straas {\"result\":{\"service\":\"active\"}}'; else exit 1; fi\n";

fn role() -> Vec<(&'static str, &'static str)> {
    let mut role = ROLE.to_vec();
    for (path, text) in &mut role {
        match *path {
            "cmd/demo/default/runpuppet.sh" => *text = CONFIG,
            "cmd/demo/default/stop.sh" => *text = STOP,
            "cmd/demo/default/validate.sh" => *text = VALIDATE,
            _ => {}
        }
    }
    role
}

impl Controller {
    fn assign(&self, assignment: &Assignment) {
        self.shared.assignment.send_replace(Some(assignment.clone()));
    }

    fn beats(&self, holds: impl Fn(&Heartbeat) -> bool) -> bool {
        self.shared.beats.borrow().last().is_some_and(holds)
    }

    fn drifts(&self) -> Vec<u32> {
        let reports = self.shared.reports.borrow();
        let of = |body: &ReportBody| if let ReportBody::Drift(found) = body { Some(found.total) } else { None };
        reports.values().filter_map(|report| of(&report.body)).collect()
    }
}

fn next(assignment: &mut Assignment, change: impl FnOnce(&mut Assignment)) -> &Assignment {
    assignment.generation += 1;
    change(assignment);
    assignment
}

#[tokio::test]
async fn restarted_stopped_configured_and_started() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let scripts = controller.shared.repo.commit(&role());
        let mut wish = wanted(1, &scripts, 1);
        controller.assign(&wish);
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        controller.until("generation 1", |c| c.converged(1)).await;
        let ran = |node: &Node| node.ran().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ran(&node), ["install", "pre_config", "config"]);

        controller.assign(next(&mut wish, |a| {
            a.restarts = 1;
            a.stages[2].inputs = Digest::of(&["config", "restart 1"]);
        }));
        controller.until("restarted", |c| c.converged(2)).await;
        assert_eq!(ran(&node)[3..], ["stop", "config"]);
        let settled = || std::fs::read_to_string(dir.path().join("prefix/looks")).unwrap();
        controller.until("settled looks", |_| settled().ends_with("settled=1\n")).await;
        assert!(settled().starts_with("settled=0\n"));

        controller.assign(next(&mut wish, |a| a.lifecycle = Lifecycle::Stopped));
        controller.until("stopped", |c| c.converged(3)).await;
        controller.until("it says so", |c| c.beats(|b| b.service == ServiceStatus::Inactive && b.converged)).await;
        // it is prepared for another configuration, but not configured
        controller.assign(next(&mut wish, |a| {
            a.stages[1].inputs = Digest::of(&["pre_config", "2"]);
            a.stages[2].gate = Gate::Permit { granted: None };
            a.context = serde_json::json!({ "n": 2 });
        }));
        controller.until("prepared", |c| c.converged(4)).await;
        assert_eq!(ran(&node)[5..], ["stop", "pre_config"]);
        node.stop().await;
        node.start();
        // started, it needs no permit, since there was nothing to disturb
        controller.assign(next(&mut wish, |a| a.lifecycle = Lifecycle::Running));
        controller.until("started", |c| c.converged(5)).await;
        assert_eq!(ran(&node)[7..], ["config"]);
        controller.until("active", |c| c.beats(|b| b.service == ServiceStatus::Active && b.asks.is_none())).await;

        // a permit for install
        controller.assign(next(&mut wish, |a| {
            a.stages[0].inputs = Digest::of(&["install", "2"]);
            a.stages[0].gate = Gate::Permit { granted: None };
        }));
        let asks =
            |b: &Heartbeat| b.asks.as_ref().filter(|ask| ask.stage == Stage::Install).map(|ask| ask.digest.clone());
        controller.until("it asks", |c| c.beats(|b| asks(b).is_some())).await;
        let granted = controller.shared.beats.borrow().last().and_then(asks);
        controller.assign(next(&mut wish, |a| {
            a.stages[0].gate = Gate::Permit { granted };
            a.stages[2].gate = Gate::Open;
        }));
        controller.until("installed", |c| c.converged(7)).await;
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn drift_is_found_reported_and_mended_with_a_permit() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let scripts = controller.shared.repo.commit(&role());
        let mut wish = wanted(1, &scripts, 1);
        wish.drift = Some(DriftOrder { every_ms: 1_000, policy: DriftPolicy::Report });
        controller.assign(&wish);
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        let looked = |total: u32| move |c: &Controller| c.beats(|b| b.drift.as_ref().is_some_and(|d| d.total == total));
        controller.until("a look", looked(0)).await;
        assert!(node.ran().contains("look-config"), "{}", node.ran());
        assert!(controller.drifts().is_empty());
        std::fs::write(dir.path().join("prefix/conf"), "changed").unwrap();
        controller.until("drift", looked(1)).await;
        controller.until("it is reported", |c| c.drifts() == [1]).await;
        assert!(controller.beats(|b| b.converged && b.activity == Activity::Idle));
        let looks = node.ran().matches("look").count();
        controller.until("further looks", |_| node.ran().matches("look").count() > looks + 1).await;
        assert_eq!(controller.drifts(), [1], "the same again is no news");

        controller.assign(next(&mut wish, |a| {
            a.drift = Some(DriftOrder { every_ms: 1_000, policy: DriftPolicy::Enforce });
            a.stages[2].gate = Gate::Permit { granted: None };
        }));
        let asks =
            |b: &Heartbeat| b.asks.as_ref().filter(|ask| ask.stage == Stage::Config).map(|ask| ask.digest.clone());
        controller.until("it asks", |c| c.beats(|b| asks(b).is_some() && !b.converged)).await;
        let granted = controller.shared.beats.borrow().last().and_then(asks);
        assert_eq!(granted, controller.shared.beats.borrow().last().map(|b| b.stages[&Stage::Config].digest.clone()));
        controller.assign(next(&mut wish, |a| a.stages[2].gate = Gate::Permit { granted }));
        controller.until("mended", |c| c.converged(3) && c.drifts() == [1, 0]).await;
        controller.until("shown", looked(0)).await;
        node.stop().await;
    })
    .await;
}
