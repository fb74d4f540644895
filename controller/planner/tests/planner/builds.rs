//! Another build of the agent: what an assignment says of it, and what a job does by what nodes say of themselves.

use crate::workflows::Life;
use straas_planner::{Host, OpenJob};
use straas_schemas::Digest;
use straas_schemas::build::{AgentBuild, BuildStatus, RefusedBuild};
use straas_schemas::job::{JobKind, JobStage, JobStanding, Progress};
use straas_schemas::metadata::Membership;

fn build(name: &str) -> AgentBuild {
    AgentBuild { sha256: Digest::sha256(name.as_bytes()), size: 7 }
}

#[test]
fn it_raises_a_generation_and_runs_no_stage_again() {
    let mut life = Life::new(3, Membership::Stepwise);
    let before: Vec<_> = life.world.store.nodes.iter().filter_map(|node| node.assignment.clone()).collect();
    for agent in [Some(build("one")), Some(build("two")), None] {
        life.component().agent = agent.clone();
        life.settle();
        assert_eq!(life.restarted.len(), 0, "{:?}", life.restarted);
        let now = life.world.store.nodes.iter().filter_map(|node| node.assignment.clone());
        for (now, before) in now.zip(&before) {
            assert_eq!((&now.stages, &now.agent), (&before.stages, &agent));
            assert!(now.generation > before.generation);
        }
    }
    // who joins has it, too
    life.component().agent = Some(build("one"));
    life.component().groups[0].size = 5;
    life.settle();
    let all = life.world.store.nodes.iter().filter_map(|node| node.assignment.as_ref()?.agent.clone());
    assert_eq!(all.collect::<Vec<_>>(), vec![build("one"); 5]);
}

#[test]
fn a_job_stands_as_nodes_say_of_themselves() {
    let mut life = Life::new(1, Membership::Free);
    life.component().agent = Some(build("one"));
    life.settle();
    let component = life.component().id.clone();
    life.world.store.jobs.push(OpenJob {
        id: "j-agent".into(),
        kind: JobKind::Agent,
        component: Some(component),
        detail: "agent".into(),
        created_ms: life.world.store.now_ms,
    });
    let mut check = |said: Option<BuildStatus>, progress: Progress, part: &str, standing: JobStanding| {
        if let Some((beat, _)) = &mut life.world.store.nodes[0].heartbeat {
            beat.agent = said.clone();
        }
        let plan = straas_planner::plan(&life.world.store);
        let job = plan.jobs.iter().find(|job| job.kind == JobKind::Agent).expect("the job");
        let step = &job.steps[0];
        assert_eq!((job.steps.len(), step.stage), (1, JobStage::Agent));
        assert_eq!((step.nodes[0].progress, job.standing), (progress, standing), "{said:?}");
        assert!(step.nodes[0].detail.contains(part), "{said:?}: {}", step.nodes[0].detail);
    };
    let (one, other) = (Some(build("one").sha256), Some(build("other").sha256));
    let refused = |sha256: &Option<Digest>| Some(RefusedBuild { sha256: sha256.clone(), reason: "no good".into() });
    let runs = |sha256: &Option<Digest>| BuildStatus { sha256: sha256.clone(), ..BuildStatus::default() };
    let fetching = Some("it is being fetched".to_owned());
    let (running, failing, over) = (JobStanding::Running, JobStanding::Failing, JobStanding::Succeeded);
    check(Some(runs(&None)), Progress::Running, "on its way", running);
    check(Some(BuildStatus { coming: fetching, ..runs(&None) }), Progress::Running, "being fetched", running);
    check(Some(BuildStatus { trial: true, ..runs(&one) }), Progress::Running, "on trial", running);
    check(Some(BuildStatus { refused: refused(&one), ..runs(&other) }), Progress::Retrying, "no good", failing);
    check(Some(BuildStatus { refused: refused(&other), ..runs(&None) }), Progress::Running, "", running);
    check(None, Progress::Waiting, "cannot be replaced", running);
    check(Some(runs(&one)), Progress::Done, "", over);
    // another one is assigned than it runs, whatever it did before
    check(Some(BuildStatus { coming: Some("x".into()), ..runs(&one) }), Progress::Running, "x", running);

    life.world.store.now_ms += 3_600_000;
    let plan = straas_planner::plan(&life.world.store);
    assert_eq!(plan.jobs[0].steps[0].nodes[0].progress, Progress::Waiting, "nobody knows");
    life.world.store.nodes[0].host = Host::Absent;
    let plan = straas_planner::plan(&life.world.store);
    assert_eq!(plan.jobs[0].steps[0].nodes[0].progress, Progress::Done, "who has no host yet is not awaited");
}
