//! What must hold when all has come to rest; what must hold all the time is checked where it happens (`ground.rs`,
//! `node.rs`).

use crate::user::User;
use std::collections::BTreeSet;
use std::time::Duration;
use straas_converge::CommandFate;
use straas_schemas::NodeId;
use straas_store::{HistoryStore as _, PAGE_MAX};

/// Times that is looked before something counts as forgotten: longer than the longest deadline.
const LOOKS: usize = 120;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Nothing that was acknowledged is lost, and nothing was done twice.
pub async fn at_rest(user: &mut User, topology: &str) {
    commands(user).await;
    reports(user).await;
    let view = user.get(&format!("/topologies/{topology}")).await.body;
    let known: Vec<_> = view["components"][0]["nodes"].as_array().into_iter().flatten().collect();
    let (there, ground) = (user.ground.facts().machines.len(), user.ground.clone());
    if (known.len(), there as u64) != (there, user.wanted) {
        ground.fault(format!("there are {there} machines, {} nodes, and {} wanted", known.len(), user.wanted));
    }
}

/// Every acknowledged command has come to an end, which is that of the only run that there was.
async fn commands(user: &mut User) {
    for id in user.commands.clone() {
        let mut standing = String::new();
        for _ in 0..LOOKS {
            let answer = user.get(&format!("/commands/{id}")).await;
            standing = answer.body["state"].as_str().unwrap_or("forgotten").to_owned();
            if !matches!(standing.as_str(), "queued" | "running") {
                break;
            }
            // waits for: its deadline, or a report of it
            tokio::time::sleep(LOOK).await;
        }
        let fates =
            user.ground.facts().commands.get(&straas_schemas::CommandId(id.clone())).cloned().unwrap_or_default();
        let fits = match (standing.as_str(), fates.as_slice()) {
            ("succeeded", [fate]) => *fate == Some(CommandFate::Succeeded),
            ("failed", [fate]) => *fate == Some(CommandFate::Failed),
            ("expired", []) => true,
            // the agent was killed in the middle, or its host went with it
            ("unknown", [_]) | ("cancelled", [] | [_]) => true,
            // its node is gone
            ("forgotten", [] | [_]) => true,
            _ => false,
        };
        user.ground.count(&format!("a command: {standing}"));
        if !fits {
            user.ground.fault(format!("the command {id} is {standing}, and what came of its runs is {fates:?}"));
        }
    }
}

/// Every result that an agent had written down reaches the store.
async fn reports(user: &User) {
    let mut written = BTreeSet::new();
    for machine in user.ground.facts().machines.values() {
        written.extend(machine.results.iter().map(|seq| (machine.spec.id.clone(), *seq)));
    }
    let mut missing = written.clone();
    for _ in 0..LOOKS {
        for node in missing.iter().map(|(node, _)| node.clone()).collect::<BTreeSet<_>>() {
            let kept = user.seats[0].store.reported_until(&NodeId(node.clone()), i64::MAX, PAGE_MAX).await.unwrap();
            for reported in kept {
                missing.remove(&(node.clone(), reported.report.seq));
            }
        }
        if missing.is_empty() {
            break;
        }
        // waits for: results of runs that ended just now
        tokio::time::sleep(LOOK).await;
    }
    written.iter().for_each(|_| user.ground.count("a result is kept"));
    for (node, seq) in missing {
        user.ground.fault(format!("the result {seq} of node {node} is lost"));
    }
}
