//! Guest commands as they really run: live output, every way to end, a dead agent in the middle.

use crate::controller::Controller;
use crate::end_to_end::{Node, ROLE, local, wanted};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use straas_schemas::command::{COMMAND_OUTPUT_BYTES_MAX, CommandEnd, CommandOrder, CommandOutcome};
use straas_schemas::{CommandId, Digest, FileRef};

const ABOUT: &str = r#"{"description":"d","arguments":{"type":"object","properties":{"name":{"type":"string"}}},"timeout_s":30,"idempotent":false}"#;
const OF_OTHERS: &str =
    r#"{"description":"d","arguments":{"type":"object"},"timeout_s":30,"idempotent":false,"role":"zookeeper"}"#;

/// Waits until the test lets it go, having said that it runs.
const DRAIN: &str = "#!/bin/bash\necho drain >> \"$STRAAS_PREFIX/ran\"\necho begun\n\
    while ! [ -e \"$STRAAS_PREFIX/go\" ]; do sleep 0.02; done\necho done >&2\n\
    echo '@straas {\"result\":{\"moved\":7}}'\n";
const ECHO: &str = "#!/bin/bash\necho \"$STRAAS_STAGE $STRAAS_ROLE $STRAAS_ARG_NAME $(cat \"$STRAAS_ARGS\")\"\n\
    grep -q '\"n\"' \"$STRAAS_CONTEXT\" && stat -c %a \"$STRAAS_ARGS\"\n";

fn files() -> Vec<(&'static str, &'static str)> {
    let mut files = ROLE.to_vec();
    files.extend([
        ("guestcmds/t/drain", DRAIN),
        ("guestcmds/t/drain.json", ABOUT),
        ("guestcmds/t/echo", ECHO),
        ("guestcmds/t/echo.json", ABOUT),
        ("guestcmds/t/fails", "#!/bin/bash\necho why\necho '@straas {\"hint\":\"look\"}'\nexit 3\n"),
        ("guestcmds/t/fails.json", ABOUT),
        ("guestcmds/t/others", "#!/bin/bash\ntrue\n"),
        ("guestcmds/t/others.json", OF_OTHERS),
        ("guestcmds/t/file", "#!/bin/bash\ncat \"$STRAAS_WORK/files/x.jar\"\n"),
        ("guestcmds/t/file.json", ABOUT),
        ("guestcmds/t/much", "#!/bin/bash\nyes 0123456789 | head -c 1500000\n"),
        ("guestcmds/t/much.json", ABOUT),
    ]);
    files
}

fn order(id: &str, command: &str) -> CommandOrder {
    CommandOrder {
        id: id.into(),
        command: command.into(),
        args: serde_json::Map::new(),
        timeout_s: 60,
        begin_within_ms: 60_000,
        idempotent: false,
        files: Vec::new(),
    }
}

impl Controller {
    fn command(&self, order: CommandOrder) {
        self.shared.orders.borrow_mut().push(order);
        self.shared.commanded.send_modify(|count| *count += 1);
    }

    fn output(&self, id: &str) -> String {
        let outputs = self.shared.outputs.borrow();
        String::from_utf8_lossy(outputs.get(id).map_or(&[], Vec::as_slice)).into_owned()
    }

    async fn ended(&self, id: &str) -> CommandEnd {
        let id = CommandId(id.into());
        self.until(id.as_str(), |c| c.shared.end(&id).is_some()).await;
        self.shared.end(&id).unwrap()
    }
}

async fn converged(dir: &Path) -> (Controller, Node) {
    let controller = Controller::start(dir).await;
    let scripts = controller.shared.repo.commit(&files());
    controller.shared.assignment.send_replace(Some(wanted(1, &scripts, 1)));
    let node = Node::new(dir, &controller);
    (controller, node)
}

#[tokio::test]
async fn live_output_arguments_and_short_ones_beside_long_ones() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (controller, mut node) = converged(dir.path()).await;
        // together with the assignment: it waits for the scripts
        controller.command(order("c-1", "t/drain"));
        controller.shared.faults.borrow_mut().lost_pieces = 1;
        node.start();
        controller.until("live output", |c| c.output("c-1") == "begun\n").await;
        controller.until("stages go on beside it", |c| c.converged(1)).await;
        let mut echo = order("c-2", "t/echo");
        echo.args.insert("name".into(), "a b".into());
        controller.command(echo);
        let end = controller.ended("c-2").await;
        assert_eq!((end.outcome, end.exit_code, end.reason.as_str()), (CommandOutcome::Succeeded, Some(0), ""));
        controller.until("its output", |c| c.output("c-2") == "guestcmd demo a b {\"name\":\"a b\"}\n600\n").await;
        // offered again with every answer, before and after its end: it runs once
        controller.shared.faults.borrow_mut().offers_again = true;
        controller.command(order("c-3", "t/echo"));
        controller.ended("c-3").await;
        assert!(controller.shared.end(&"c-1".into()).is_none());
        std::fs::write(dir.path().join("prefix/go"), "").unwrap();
        let end = controller.ended("c-1").await;
        assert_eq!((end.outcome, end.result["moved"].clone()), (CommandOutcome::Succeeded, 7.into()));
        assert_eq!(end.output_bytes, "begun\ndone\n".len() as u64);
        controller.until("the rest of it", |c| c.output("c-1") == "begun\ndone\n").await;
        let polls = controller.seen("poll");
        controller.until("more offers", |c| c.seen("poll") > polls + 2).await;
        assert_eq!(node.ran().matches("drain").count(), 1);
        let spools = dir.path().join("agent/run/commands");
        controller.until("files are removed", |_| std::fs::read_dir(&spools).unwrap().count() == 0).await;
        assert!(
            controller
                .shared
                .beats
                .borrow()
                .iter()
                .all(|b| b.service != straas_schemas::heartbeat::ServiceStatus::Inactive)
        );
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn every_way_to_end() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (controller, mut node) = converged(dir.path()).await;
        node.start();
        controller.until("generation 1", |c| c.converged(1)).await;
        controller.command(order("fails", "t/fails"));
        let end = controller.ended("fails").await;
        assert_eq!((end.outcome, end.exit_code, end.hint.as_deref()), (CommandOutcome::Failed, Some(3), Some("look")));
        let failed = async |id: &str, command: &str, part: &str| {
            controller.command(order(id, command));
            let end = controller.ended(id).await;
            assert!(end.outcome == CommandOutcome::Failed && end.reason.contains(part), "{end:?}");
        };
        failed("unknown", "t/none", "have no guest command \"t/none\"").await;
        failed("escape", "../cmd/demo", "group/name").await;
        failed("role", "t/others", "for the role zookeeper; this node's is demo").await;
        let mut odd = order("args", "t/echo");
        odd.args.insert("other".into(), 1.into());
        controller.command(odd);
        assert!(controller.ended("args").await.reason.contains("no argument \"other\""));
        controller.command(CommandOrder { timeout_s: 1, ..order("time", "t/drain") });
        assert!(controller.ended("time").await.reason.contains("longer than 1 s"));
        controller.command(CommandOrder { begin_within_ms: 0, ..order("late", "t/drain") });
        assert_eq!(controller.ended("late").await.outcome, CommandOutcome::Expired);
        // ended by a user, with all its processes
        controller.command(order("cancel", "t/drain"));
        controller.until("it runs", |c| c.output("cancel") == "begun\n").await;
        controller.shared.cancel.borrow_mut().push("cancel".into());
        controller.shared.commanded.send_modify(|count| *count += 1);
        assert_eq!(controller.ended("cancel").await.outcome, CommandOutcome::Cancelled);
        // with a file
        let sum = Digest::sha256(b"jar");
        controller.shared.files.borrow_mut().insert(sum.to_string(), b"jar".to_vec());
        let file = |path: &str| FileRef { path: path.into(), sha256: sum.clone(), size: 3, mode: 0o644 };
        controller.command(CommandOrder { files: vec![file("x.jar")], ..order("file", "t/file") });
        assert_eq!(controller.ended("file").await.outcome, CommandOutcome::Succeeded);
        controller.until("its output", |c| c.output("file") == "jar").await;
        controller.command(CommandOrder { files: vec![file("../x.jar")], ..order("path", "t/file") });
        assert!(controller.ended("path").await.reason.contains("plain file name"));
        // more output than is kept
        controller.command(order("much", "t/much"));
        assert_eq!(controller.ended("much").await.output_bytes, 1_500_000);
        controller.until("a MiB", |c| c.output("much").len() == COMMAND_OUTPUT_BYTES_MAX).await;
        node.stop().await;
    })
    .await;
}

fn agent(node: &Node) -> Child {
    let program = env!("CARGO_BIN_EXE_straas-agent");
    Command::new(program).arg("--config").arg(node.write()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn killed_in_the_middle_it_is_unknown_and_only_what_is_idempotent_runs_again() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (controller, node) = converged(dir.path()).await;
        let mut child = agent(&node);
        controller.until("generation 1", |c| c.converged(1)).await;
        controller.command(order("once", "t/drain"));
        controller.command(CommandOrder { idempotent: true, ..order("again", "t/drain") });
        let begun = |c: &Controller| c.output("once") == "begun\n" && c.output("again") == "begun\n";
        controller.until("both run", begun).await;
        assert_eq!(node.ran().matches("drain").count(), 2);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut child = agent(&node);
        let end = controller.ended("once").await;
        assert!(end.outcome == CommandOutcome::Unknown && end.reason.contains("in the middle"), "{end:?}");
        controller.until("it runs again", |c| c.output("again").matches("begun").count() == 2).await;
        std::fs::write(dir.path().join("prefix/go"), "").unwrap();
        assert_eq!(controller.ended("again").await.outcome, CommandOutcome::Succeeded);
        controller.until("all output", |c| c.output("again").ends_with("---\nbegun\ndone\n")).await;
        assert_eq!(node.ran().matches("drain").count(), 3);
        assert_eq!(controller.output("once"), "begun\n");
        child.kill().unwrap();
        child.wait().unwrap();
    })
    .await;
}
