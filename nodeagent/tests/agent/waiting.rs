//! What goes on beside the work: certificates that end, wishes for a look, services that take their time.

use crate::controller::Controller;
use crate::end_to_end::{Node, ROLE, local, wanted};
use straas_schemas::assignment::Timing;
use straas_schemas::heartbeat::{Heartbeat, ServiceStatus};
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::{Assignment, Outcome};

/// A settled node looks again only after a time that no test waits for.
const NEVER: u32 = 3_600_000;

fn rarely(assignment: Assignment) -> Assignment {
    let timing = Timing { validate_every_ms: NEVER, heartbeat_ms: NEVER, waiting_ms: 60_000, ..assignment.timing };
    Assignment { timing, ..assignment }
}

#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life_again_and_again() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        // short enough to wait for, long enough for the whole seconds that certificates count in
        shared.faults.borrow_mut().life = Some(time::Duration::seconds(6));
        let mut node = Node::new(dir.path(), &controller);
        let begun = std::time::Instant::now();
        node.start();
        controller.until("a poll with the first certificate", |c| c.shared.certificates.borrow().len() == 1).await;
        controller.until("a renewal", |c| c.seen("renew") == 1).await;
        let first = begun.elapsed().as_secs_f32();
        assert!(first > 2.5, "renewed after {first} s, long before two thirds of its life");
        controller.until("a poll with the second", |c| c.shared.certificates.borrow().len() == 2).await;
        // by then the first one has ended
        controller.until("a poll with the third", |c| c.shared.certificates.borrow().len() == 3).await;
        let key = std::fs::read(dir.path().join("agent/tls/node.key")).unwrap();
        controller.until("a poll with the fourth", |c| c.shared.certificates.borrow().len() == 4).await;
        assert_ne!(std::fs::read(dir.path().join("agent/tls/node.key")).unwrap(), key, "the key is not a new one");
        assert_eq!(controller.seen("enrol"), 1, "renewed, not enrolled again");
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_was_off_until_the_certificate_had_ended_comes_back_by_itself() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        shared.faults.borrow_mut().life = Some(time::Duration::seconds(3));
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        controller.until("a poll with the first certificate", |c| c.shared.certificates.borrow().len() == 1).await;
        node.stop().await;
        let key = std::fs::read(dir.path().join("agent/tls/node.key")).unwrap();
        // waits for: the certificate's end, while the node is off
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        shared.faults.borrow_mut().life = None;
        node.start();
        controller.until("a poll with another certificate", |c| c.shared.certificates.borrow().len() == 2).await;
        assert_eq!((controller.seen("enrol"), controller.seen("come-back")), (1, 1));
        assert_eq!(std::fs::read(dir.path().join("agent/tls/node.key")).unwrap(), key, "proved by the key that it had");
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_look_that_is_wished_for_and_what_it_finds_are_told_at_once() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        let facts = "#!/bin/sh\necho look >> \"$STRAAS_PREFIX/ran\"\n\
            echo \"@straas {\\\"facts\\\":{\\\"mode\\\":\\\"$(cat \"$STRAAS_PREFIX/mode\")\\\"}}\"\n";
        let mut role = ROLE.to_vec();
        role.retain(|(path, _)| !path.ends_with("validate.sh"));
        role.push(("cmd/demo/default/validate.sh", facts));
        let scripts = shared.repo.commit(&role);
        shared.assignment.send_replace(Some(rarely(wanted(1, &scripts, 1))));
        let mut node = Node::new(dir.path(), &controller);
        std::fs::write(dir.path().join("prefix/mode"), "follower").unwrap();
        node.start();
        let last = |c: &Controller, holds: fn(&Heartbeat) -> bool| c.shared.beats.borrow().last().is_some_and(holds);
        controller.until("it works", |c| last(c, |b| b.service == ServiceStatus::Active && b.converged)).await;
        assert!(last(&controller, |b| b.facts["mode"] == "follower" && b.looked_ago_ms.is_some()));

        std::fs::write(dir.path().join("prefix/mode"), "leader").unwrap();
        shared.faults.borrow_mut().look = 7;
        shared.commanded.send_modify(|n| *n += 1);
        controller.until("what the look found", |c| last(c, |b| b.facts["mode"] == "leader")).await;

        // one that finds nothing new is told as well: whoever wished for it waits for that
        let beats = shared.beats.borrow().len();
        shared.faults.borrow_mut().look = 8;
        shared.commanded.send_modify(|n| *n += 1);
        controller.until("a heartbeat", |c| c.shared.beats.borrow().len() > beats).await;
        assert_eq!(node.ran().matches("look").count(), 3, "{}", node.ran());
        assert_eq!(shared.assignment.borrow().as_ref().map(|a| a.generation), Some(1), "no new assignment is needed");
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn not_yet_is_asked_again_soon_and_said_once() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        let slow = "#!/bin/sh\necho look >> \"$STRAAS_PREFIX/ran\"\nn=$(grep -c look \"$STRAAS_PREFIX/ran\")\n\
            [ $n -ge 4 ] || { echo \"@straas {\\\"progress\\\":{\\\"text\\\":\\\"starting since $n s\\\"}}\"; exit 75; }\n";
        let mut role = ROLE.to_vec();
        role.retain(|(path, _)| !path.ends_with("validate.sh"));
        role.push(("cmd/demo/default/validate.sh", slow));
        let scripts = shared.repo.commit(&role);
        shared.assignment.send_replace(Some(rarely(wanted(1, &scripts, 1))));
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        controller.until("it works", |c| c.converged(1)).await;
        let waits = |r: &Report| matches!(&r.body, ReportBody::Stage(s) if s.outcome == Outcome::Waiting);
        let told = shared.reports.borrow().values().filter(|r| waits(r)).count();
        assert_eq!(told, 1, "the same words with other numbers are no news");
        assert_eq!(node.ran().matches("look").count(), 4);
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn not_yet_for_too_long_is_told_each_time_until_it_is_there() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let shared = controller.shared.clone();
        let absent = "#!/bin/sh\n[ -e \"$STRAAS_PREFIX/there\" ] && exit 0\n\
            echo '@straas {\"progress\":{\"text\":\"waiting for a majority\"}}'\nexit 75\n";
        let mut role = ROLE.to_vec();
        role.retain(|(path, _)| !path.ends_with("validate.sh"));
        role.push(("cmd/demo/default/validate.sh", absent));
        let scripts = shared.repo.commit(&role);
        let assignment = wanted(1, &scripts, 1);
        let timing = Timing { validate_wait_ms: 1_000, ..assignment.timing };
        shared.assignment.send_replace(Some(Assignment { timing, ..assignment }));
        let mut node = Node::new(dir.path(), &controller);
        node.start();
        let late = |c: &Controller, times: u32| {
            let reason = |report: &Report| match &report.body {
                ReportBody::Stage(s) if (s.outcome, s.failures) == (Outcome::Waiting, Some(times)) => {
                    Some(s.reason.clone())
                }
                _ => None,
            };
            c.shared.reports.borrow().values().find_map(reason)
        };
        controller.until("one that counts", |c| late(c, 1).is_some()).await;
        controller.until("the next", |c| late(c, 2).is_some()).await;
        assert_eq!(late(&controller, 1).unwrap(), "waiting for a majority (1 s already, 1 s are usual)");
        std::fs::write(dir.path().join("prefix/there"), "").unwrap();
        controller.until("it works", |c| c.converged(1)).await;
        node.stop().await;
    })
    .await;
}
