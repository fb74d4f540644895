//! An agent in a process of its own is replaced by builds, good ones and bad ones, and found again after every end.
//!
//! A build is a copy of the agent with a few bytes more or others: another SHA-256, and the same program but for what the
//! bytes say. The test stands for the host's init: it starts the packaged agent again whenever the process ends.

use crate::controller::Controller;
use crate::end_to_end::{Node, ROLE, local, wanted};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use straas_agent::builds::REPLACEABLE;
use straas_schemas::build::{AgentBuild, BuildStatus};
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::{Assignment, Digest};

/// The agent as it is packaged.
const PROGRAM: &str = env!("CARGO_BIN_EXE_straas-agent");

/// An agent that is another build, and else the same.
fn good(tag: &str) -> Vec<u8> {
    [&std::fs::read(PROGRAM).unwrap(), tag.as_bytes()].concat()
}

/// One in which a text is another one of the same length.
fn patched(tag: &str, from: &str, to: &str) -> Vec<u8> {
    let mut program = good(tag);
    assert_eq!(from.len(), to.len());
    let mut places = 0;
    for at in 0..program.len() - from.len() {
        if program[at..].starts_with(from.as_bytes()) {
            program[at..at + from.len()].copy_from_slice(to.as_bytes());
            places += 1;
        }
    }
    assert!(places > 0, "{from} is not in the program");
    program
}

/// What keeps the packaged agent running.
struct Host {
    dir: PathBuf,
    config: PathBuf,
    child: Child,
    starts: u32,
}

impl Host {
    fn new(dir: &Path, config: PathBuf) -> Self {
        Self { dir: dir.into(), child: Self::agent(&config), config, starts: 1 }
    }

    fn agent(config: &Path) -> Child {
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(config).stdin(Stdio::null());
        if std::env::var_os("STRAAS_AGENT_SEEN").is_none() {
            command.stderr(Stdio::null());
        }
        command.spawn().unwrap()
    }

    /// Starts the packaged agent if the process has ended.
    fn respawn(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            self.child = Self::agent(&self.config);
            self.starts += 1;
        }
    }

    fn kill(&mut self) {
        self.end();
        self.respawn();
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The file of a build.
    fn build(&self, build: &Digest) -> PathBuf {
        self.dir.join("agent/builds").join(build.as_str()).join("straas-agent")
    }

    fn record(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.dir.join("agent/builds/record.json")).unwrap()).unwrap()
    }
}

/// The builds that are on the disk.
fn kept(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir.join("agent/builds")).unwrap().flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "record.json");
    names.sort();
    names
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct World {
    controller: Controller,
    assignment: Assignment,
    host: Host,
    node: Node,
}

impl World {
    /// A node that is converged, its agent in a process of its own.
    async fn new(dir: &Path) -> Self {
        Self::with_trial(dir, 300).await
    }

    async fn with_trial(dir: &Path, seconds: u32) -> Self {
        let controller = Controller::start(dir).await;
        let assignment = wanted(1, &controller.shared.repo.commit(&ROLE), 1);
        controller.shared.assignment.send_replace(Some(assignment.clone()));
        let node = Node::new(dir, &controller);
        let config = node.write();
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}build_trial_s={seconds}\n")).unwrap();
        let mut this = Self { controller, assignment, host: Host::new(dir, config), node };
        this.until("converged", |_| true).await;
        this
    }

    /// Assigns a build, or the packaged agent.
    fn assign(&mut self, program: Option<&[u8]>) -> Option<Digest> {
        let sha256 = program.map(|program| {
            let sha256 = Digest::sha256(program);
            self.controller.shared.files.borrow_mut().insert(sha256.to_string(), program.to_vec());
            sha256
        });
        let build =
            |(sha256, program): (&Digest, &[u8])| AgentBuild { sha256: sha256.clone(), size: program.len() as u64 };
        self.assignment.generation += 1;
        self.assignment.agent = sha256.as_ref().zip(program).map(build);
        self.controller.shared.beats.borrow_mut().clear();
        self.controller.shared.assignment.send_replace(Some(self.assignment.clone()));
        sha256
    }

    /// Keeps the agent running until it has converged and says this of its build.
    async fn until(&mut self, what: &str, says: impl Fn(&BuildStatus) -> bool) -> BuildStatus {
        let generation = self.assignment.generation;
        let shared = Rc::clone(&self.controller.shared);
        let mut said = async || loop {
            let last = shared.beats.borrow().last().cloned();
            if let Some(beat) = last.filter(|beat| beat.converged && beat.generation == generation)
                && let Some(build) = beat.agent.filter(&says)
            {
                return build;
            }
            self.host.respawn();
            // waits for: the next word of the agent, or its end
            let _ = tokio::time::timeout(Duration::from_millis(100), shared.changed.notified()).await;
        };
        let found = tokio::time::timeout(Duration::from_secs(240), said()).await;
        found.unwrap_or_else(|_| panic!("{what}: {:#?}", self.controller.shared.beats.borrow().last()))
    }

    async fn runs(&mut self, build: Option<&Digest>) {
        self.until("the build runs", |said| said.runs(build)).await;
    }

    fn exe(&self) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/exe", self.host.child.id())).unwrap()
    }
}

#[tokio::test]
async fn one_process_is_one_build_after_another_and_services_do_not_notice() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path()).await;
        let (ran, first) = (world.node.ran(), world.assignment.generation);
        let pid = world.host.child.id();
        let one = world.assign(Some(&good("one")));
        world.runs(one.as_ref()).await;
        let exe = |build: &Option<Digest>| format!("{}/straas-agent", build.as_ref().unwrap());
        assert!(world.exe().ends_with(exe(&one)), "{:?}", world.exe());
        let two = world.assign(Some(&good("two")));
        world.runs(two.as_ref()).await;
        // the one before is kept, and no more
        let mut both = vec![one.clone().unwrap().to_string(), two.clone().unwrap().to_string()];
        both.sort();
        world.until("two are kept", |_| kept(dir.path()) == both).await;
        let three = world.assign(Some(&good("three")));
        world.runs(three.as_ref()).await;
        world.until("two are kept", |_| kept(dir.path()).len() == 2).await;
        assert_eq!((world.host.child.id(), world.host.starts), (pid, 1), "the process is the same");
        // killed, and as after a reboot: the packaged agent is started, and goes on as the build
        world.controller.shared.beats.borrow_mut().clear();
        world.host.kill();
        world.runs(three.as_ref()).await;
        assert!(world.exe().ends_with(exe(&three)));
        let packaged = world.assign(None);
        world.runs(packaged.as_ref()).await;
        assert_eq!(world.exe(), Path::new(PROGRAM));
        let last = [three.unwrap().to_string()];
        world.until("only the one before is kept", |_| kept(dir.path()) == last).await;
        assert_eq!(world.host.starts, 2);
        assert_eq!(world.node.ran(), ran, "a stage ran again");
        // one that was not acknowledged before the process became another is sent again
        let shared = Rc::clone(&world.controller.shared);
        let converged = || {
            let said = shared.reports.borrow();
            let of = |report: &Report| match &report.body {
                ReportBody::Converged { generation } => Some(*generation).filter(|generation| *generation > first),
                // what was done at first may arrive late
                ReportBody::Stage(result) if result.generation == first => None,
                other => panic!("another report: {other:?}"),
            };
            said.values().filter_map(of).collect::<BTreeSet<_>>()
        };
        world.until("of each generation that it is converged", |_| converged().len() == 4).await;
    })
    .await;
}

#[tokio::test]
async fn a_build_that_ends_is_started_three_times_and_refused() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path()).await;
        let one = world.assign(Some(&good("one")));
        world.runs(one.as_ref()).await;
        // it knows its version, and none of its arguments
        let bad = world.assign(Some(&patched("ends", "--config", "--c0nfig")));
        let said = world.until("it is refused", |said| said.refuses(bad.as_ref()).is_some()).await;
        assert!(said.refuses(bad.as_ref()).unwrap().contains("started 3 times"), "{said:?}");
        assert_eq!((&said.sha256, said.trial), (&one, false));
        assert_eq!(world.host.starts, 4, "three of them were of the bad one");
        // not again, also not after a restart
        world.controller.shared.beats.borrow_mut().clear();
        world.host.kill();
        let said = world.until("heard again", |_| true).await;
        assert!(said.refuses(bad.as_ref()).is_some(), "{said:?}");
        // once another one was assigned in between, it is tried anew
        world.assign(one.as_ref().map(|_| good("one")).as_deref());
        world.until("forgotten", |said| said.refused.is_none() && said.runs(one.as_ref())).await;
        let starts = world.host.starts;
        let again = world.assign(Some(&patched("ends", "--config", "--c0nfig")));
        world.until("refused again", |said| said.refuses(again.as_ref()).is_some()).await;
        assert_eq!(world.host.starts, starts + 3);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_agent_or_no_program_never_takes_over() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path()).await;
        let pid = world.host.child.id();
        let mut check = async |program: Vec<u8>, says: &str| {
            let build = world.assign(Some(&program));
            let said = world.until(says, |said| said.refuses(build.as_ref()).is_some()).await;
            let reason = said.refuses(build.as_ref()).unwrap();
            assert!(reason.contains(says), "{reason} does not say {says}");
            assert_eq!(said.sha256, None);
        };
        check(b"#!/bin/sh\necho straas-agent 9\n".to_vec(), "no program").await;
        check(std::fs::read("/bin/true").unwrap(), "no straas-agent").await;
        check([b"\x7fELF\x02".as_slice(), &[0; 100]].concat(), "cannot be run").await;
        check(patched("last", REPLACEABLE, &"x".repeat(REPLACEABLE.len())), "would be the last").await;
        assert_eq!((world.host.child.id(), world.host.starts), (pid, 1));
        // and what does not come as it is said to is no fault of the build
        let build = world.assign(Some(&good("late"))).unwrap();
        let right = world.controller.shared.files.borrow_mut().insert(build.to_string(), b"not this".to_vec()).unwrap();
        let said = world.until("tried again", |said| said.coming.as_ref().is_some_and(|c| c.contains("SHA-256"))).await;
        assert_eq!(said.refused, None);
        world.controller.shared.files.borrow_mut().insert(build.to_string(), right);
        world.runs(Some(&build)).await;
    })
    .await;
}

#[tokio::test]
async fn a_build_that_is_damaged_gives_way_to_the_packaged_agent_which_brings_it_again() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path()).await;
        let one = world.assign(Some(&good("one"))).unwrap();
        world.runs(Some(&one)).await;
        let file = world.host.build(&one);
        world.host.end();
        let mut bytes = std::fs::read(&file).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        // it cannot be had again just now
        let right = world.controller.shared.files.borrow_mut().remove(one.as_str()).unwrap();
        world.controller.shared.beats.borrow_mut().clear();
        let said = world.until("the packaged one", |said| said.sha256.is_none()).await;
        assert_eq!(said.refused, None);
        world.controller.shared.files.borrow_mut().insert(one.to_string(), right);
        world.runs(Some(&one)).await;
        assert_eq!(world.host.record()["chosen"], one.as_str());
    })
    .await;
}

#[tokio::test]
async fn a_build_that_is_never_answered_gives_way_and_is_refused() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::with_trial(dir.path(), 6).await;
        let pid = world.host.child.id();
        // it asks for what no controller has
        let deaf = world.assign(Some(&patched("deaf", "/agent/v1/nodes/", "/agent/v0/nodes/")));
        let said = world.until("it is refused", |said| said.refuses(deaf.as_ref()).is_some()).await;
        assert!(said.refuses(deaf.as_ref()).unwrap().contains("no answer of a controller for 6 s"), "{said:?}");
        assert_eq!((said.sha256, said.trial), (None, false));
        assert_eq!((world.host.child.id(), world.host.starts), (pid, 1), "there and back in one process");
    })
    .await;
}

#[tokio::test]
async fn a_cut_link_is_no_fault_of_a_build() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::with_trial(dir.path(), 3).await;
        let program = good("one");
        let one = world.assign(Some(&program)).unwrap();
        // from when it is fetched on nobody is answered
        world.controller.until("fetched", |c| c.seen("files") == 1).await;
        world.controller.shared.faults.borrow_mut().forbidden = true;
        let doubted = |host: &Host| host.record()["standing"]["is"] == "doubted";
        let wait = async |world: &mut World, what: &str, holds: &dyn Fn(&Host) -> bool| {
            let begun = std::time::Instant::now();
            while !dir.path().join("agent/builds/record.json").exists() || !holds(&world.host) {
                assert!(begun.elapsed() < Duration::from_secs(120), "{what}: {}", world.host.record());
                world.host.respawn();
                // waits for: the agent's record on the disk
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        wait(&mut world, "its trial is over", &doubted).await;
        // the one before is not answered either, for longer than would tell something
        let polls = world.controller.seen("poll");
        world.controller.until("the one before asks, too", |c| c.seen("poll") >= polls + 3).await;
        // waits for: time itself, a quarter of a trial and more
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(doubted(&world.host), "{}", world.host.record());
        world.controller.shared.faults.borrow_mut().forbidden = false;
        world.runs(Some(&one)).await;
        assert_eq!(world.host.record()["refused"], serde_json::Value::Null);
    })
    .await;
}

/// A program that says what an agent says, and then does nothing for ever.
const HANGS: &str = "#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n\
    int main(int count, char **arguments) {\n\
    if (count > 1 && !strcmp(arguments[1], \"--version\")) { puts(\"straas-agent 9\\nREPLACEABLE\"); return 0; }\n\
    for (;;) pause();\n}\n";

#[tokio::test]
async fn a_build_that_hangs_is_ended_by_the_kernel() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::with_trial(dir.path(), 1).await;
        let (source, program) = (dir.path().join("hangs.c"), dir.path().join("hangs"));
        std::fs::write(&source, HANGS.replace("REPLACEABLE", REPLACEABLE)).unwrap();
        // what links Rust's programs
        assert!(Command::new("cc").arg("-o").arg(&program).arg(&source).status().unwrap().success());
        let hangs = world.assign(Some(&std::fs::read(&program).unwrap()));
        let said = world.until("it is refused", |said| said.refuses(hangs.as_ref()).is_some()).await;
        assert!(said.refuses(hangs.as_ref()).unwrap().contains("started 3 times"), "{said:?}");
        // so short a trial may leave doubts, and each of them takes three starts
        assert_eq!((said.sha256, (world.host.starts - 1) % 3), (None, 0), "{} starts", world.host.starts);
    })
    .await;
}

#[tokio::test]
async fn a_build_that_cannot_be_run_just_now_is_run_later() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(dir.path()).await;
        let one = world.assign(Some(&good("one"))).unwrap();
        world.runs(Some(&one)).await;
        let file = world.host.build(&one);
        world.host.end();
        // the kernel runs no program that somebody could write to
        let open = std::fs::File::options().append(true).open(file).unwrap();
        world.controller.shared.beats.borrow_mut().clear();
        let said =
            world.until("the packaged one", |said| said.coming.as_ref().is_some_and(|c| c.contains("busy"))).await;
        assert_eq!((said.sha256, said.refused, world.host.starts), (None, None, 2));
        drop(open);
        world.runs(Some(&one)).await;
        assert_eq!(world.host.starts, 2);
    })
    .await;
}
