//! What requests make of what is wanted of a component: pure functions over its spec.
//!
//! Three things are kept apart, since they are turned back in different ways. What nodes are made
//! of (version, configuration, scripts) reaches them in waves: a *rollout*, which remembers what
//! was before as a whole. How many nodes there are, and what is wanted of single ones, holds at
//! once; what undoes such a change is kept with its job. A rollout that is turned back leaves
//! those alone: a node that joined meanwhile stays.
//!
//! Never here: IO, or whether something is allowed; that is asked at the door (`http/`).

use std::collections::BTreeMap;
use straas_schemas::build::AgentBuild;
use straas_schemas::change::{MAX_FAILURES, RolloutOptions};
use straas_schemas::storage::DeliveredFile;
use straas_schemas::{JobId, NodeId};
use straas_store::{ComponentSpec, GroupSpec, NodeSpec, Reverted, RolloutSpec, Undo, Want};

/// Begins a rollout of whatever `change` makes of what is wanted, or turns the one that is under
/// way into it: what was known to work before that one stays what nodes go back to. `false` if
/// `change` changes nothing.
pub fn roll_out(
    spec: &mut ComponentSpec,
    job: &JobId,
    options: RolloutOptions,
    canary: bool,
    change: impl FnOnce(&mut Want),
) -> bool {
    let now = spec.want.clone();
    change(&mut spec.want);
    forget_usual(&mut spec.want.nodes);
    if makes(&spec.want) == makes(&now) {
        return false;
    }
    // of one that is being turned back, what it is turned back to is what is known to work
    let before = match spec.rollout.take() {
        Some(rollout) if rollout.reverted.is_none() => rollout.before,
        _ => Box::new(now),
    };
    // going back to what worked needs nobody to try it first
    let back = makes(&before) == makes(&spec.want);
    spec.rollout = Some(RolloutSpec {
        job: job.clone(),
        before,
        canary: options.canary.unwrap_or(canary) && !back,
        max_failures: options.max_failures.unwrap_or(MAX_FAILURES),
        paused: false,
        reverted: None,
    });
    true
}

/// What nodes are made of.
fn makes(want: &Want) -> (&str, &str, &str, BTreeMap<&NodeId, &str>) {
    let own = want.nodes.iter().filter_map(|(id, node)| Some((id, node.scripts.as_deref()?)));
    (&want.version, &want.config, &want.scripts, own.collect())
}

/// Turns the rollout that is under way back: what was before is wanted again. `false` if there is
/// none, or it is being turned back already.
pub fn turn_back(spec: &mut ComponentSpec, reason: &str, by_user: bool) -> bool {
    let Some(rollout) = spec.rollout.as_mut().filter(|rollout| rollout.reverted.is_none()) else { return false };
    let failed = spec.want.clone();
    let good = std::mem::replace(&mut rollout.before, Box::new(failed));
    spec.want.version = good.version;
    spec.want.config = good.config;
    spec.want.scripts = good.scripts;
    for node in spec.want.nodes.values_mut() {
        node.scripts = None;
    }
    let there = |id: &NodeId| good.nodes.get(id).and_then(|node| node.scripts.clone());
    for (id, scripts) in good.nodes.keys().filter_map(|id| Some((id, there(id)?))) {
        spec.want.nodes.entry(id.clone()).or_default().scripts = Some(scripts);
    }
    forget_usual(&mut spec.want.nodes);
    rollout.canary = false;
    rollout.paused = false;
    rollout.reverted = Some(Reverted { reason: reason.to_owned(), by_user });
    true
}

/// The ordinals of a group's nodes.
pub fn ordinals(group: &GroupSpec) -> Vec<u32> {
    (1..).filter(|ordinal| !group.without.contains(ordinal)).take(group.size as usize).collect()
}

/// Adds nodes to a group; what undoes it.
pub fn join(group: &mut GroupSpec, count: u32) -> Undo {
    let before = ordinals(group);
    group.size += count;
    let joined = ordinals(group).into_iter().filter(|ordinal| !before.contains(ordinal)).collect();
    Undo::Joined { group: group.name.clone(), ordinals: joined }
}

/// Takes nodes out of a group, for good: their ordinals are not given out again, since others may
/// remember them. What undoes it.
pub fn leave(group: &mut GroupSpec, gone: &[u32]) -> Undo {
    let gone: Vec<u32> = ordinals(group).into_iter().filter(|ordinal| gone.contains(ordinal)).collect();
    group.size -= u32::try_from(gone.len()).unwrap_or(group.size);
    group.without.extend(&gone);
    group.without.sort_unstable();
    Undo::Left { group: group.name.clone(), ordinals: gone }
}

/// The nodes that go first where only a number is named: those that came last.
pub fn last(group: &GroupSpec, count: u32) -> Vec<u32> {
    let mut all = ordinals(group);
    all.split_off(all.len().saturating_sub(count as usize))
}

/// Puts the nodes back that [`leave`] took out.
pub fn come_back(group: &mut GroupSpec, ordinals: &[u32]) {
    group.without.retain(|ordinal| !ordinals.contains(ordinal));
    group.size += u32::try_from(ordinals.len()).unwrap_or(0);
}

/// Has the services of nodes stopped or running; what undoes it, or `None` if they are so already.
pub fn set_stopped(want: &mut Want, nodes: &[NodeId], stopped: bool) -> Option<Undo> {
    let mut before = BTreeMap::new();
    for id in nodes {
        let node = want.nodes.entry(id.clone()).or_default();
        if node.stopped != stopped {
            before.insert(id.clone(), node.stopped);
            node.stopped = stopped;
        }
    }
    forget_usual(&mut want.nodes);
    (!before.is_empty()).then_some(Undo::Stopped { nodes: before })
}

/// Gives nodes, or all of a component (`None`), a file at a target path, or takes what is there. What
/// there was before wherever that changes something; of nodes that had one of their own, too, where
/// all get it.
pub fn put_file(
    want: &mut Want,
    nodes: Option<&[NodeId]>,
    target: &str,
    file: Option<&DeliveredFile>,
) -> Vec<(Option<NodeId>, Option<DeliveredFile>)> {
    let mut before = Vec::new();
    match nodes {
        Some(nodes) => {
            for id in nodes {
                let old = replace(&mut of_node(want, id).files, target, file);
                before.push((Some(id.clone()), old));
            }
        }
        None => {
            let old = replace(&mut want.files, target, file);
            before.push((None, old));
            for (id, node) in &mut want.nodes {
                if let Some(old) = replace(&mut node.files, target, None) {
                    before.push((Some(id.clone()), Some(old)));
                }
            }
        }
    }
    forget_usual(&mut want.nodes);
    // with a file of its own taken, a node has nothing where there was something
    before.retain(|(of, old)| match (of, nodes) {
        (Some(_), None) => true,
        _ => old.as_ref() != file,
    });
    before
}

/// Puts what [`put_file`] changed back.
pub fn put_back(want: &mut Want, target: &str, before: &[(Option<NodeId>, Option<DeliveredFile>)]) {
    for (of, old) in before {
        match of {
            None => drop(replace(&mut want.files, target, old.as_ref())),
            Some(id) => drop(replace(&mut of_node(want, id).files, target, old.as_ref())),
        }
    }
    forget_usual(&mut want.nodes);
}

/// Has all nodes run a build of the agent, or the packaged one; `false` if they are to already.
pub fn set_agent(want: &mut Want, build: Option<&AgentBuild>) -> bool {
    let before = std::mem::replace(&mut want.agent, build.cloned());
    before.as_ref() != build
}

/// Puts a file into a list that is in the order of target paths; gives the one it takes the place of.
fn replace(files: &mut Vec<DeliveredFile>, target: &str, file: Option<&DeliveredFile>) -> Option<DeliveredFile> {
    match (files.binary_search_by(|known| known.target_path.as_str().cmp(target)), file) {
        (Ok(at), Some(file)) => Some(std::mem::replace(&mut files[at], file.clone())),
        (Ok(at), None) => Some(files.remove(at)),
        (Err(at), Some(file)) => {
            files.insert(at, file.clone());
            None
        }
        (Err(_), None) => None,
    }
}

/// What is wanted of a node beside what is wanted of all.
pub fn of_node<'a>(want: &'a mut Want, node: &NodeId) -> &'a mut NodeSpec {
    want.nodes.entry(node.clone()).or_default()
}

/// Forgets what is wanted of nodes that are as usual. Counters stay: they never go back.
pub fn forget_usual(nodes: &mut BTreeMap<NodeId, NodeSpec>) {
    nodes.retain(|_, node| *node != NodeSpec::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn spec() -> ComponentSpec {
        let group = GroupSpec {
            name: "zk".into(),
            role: "zookeeper".into(),
            size: 3,
            without: vec![2],
            flavor: "small".into(),
            fault_domains_min: 0,
            anti_affinity_group: None,
            cname: false,
        };
        let want = Want {
            version: "1".into(),
            config: "c1".into(),
            scripts: "s1".into(),
            groups: vec![group],
            nodes: BTreeMap::new(),
            files: Vec::new(),
            agent: None,
        };
        ComponentSpec {
            kind: "zookeeper".into(),
            depends_on: vec![],
            foreign: vec![],
            want,
            rollout: None,
            removed: false,
        }
    }

    fn upgrade(spec: &mut ComponentSpec, job: &str, version: &str) -> bool {
        let to = version.to_owned();
        roll_out(spec, &job.into(), RolloutOptions::default(), true, |want| want.version = to)
    }

    #[test]
    fn a_second_change_goes_back_to_what_was_before_the_first() {
        let mut spec = spec();
        assert!(!upgrade(&mut spec, "j0", "1") && spec.rollout.is_none(), "nothing changes");
        assert!(upgrade(&mut spec, "j1", "2"));
        assert!(upgrade(&mut spec, "j2", "3"));
        let rollout = spec.rollout.clone().expect("a rollout");
        assert_eq!((rollout.job.as_str(), rollout.before.version.as_str(), rollout.canary), ("j2", "1", true));
        // to what worked: nobody has to try it
        assert!(upgrade(&mut spec, "j3", "1"));
        assert!(!spec.rollout.as_ref().expect("a rollout").canary);
    }

    #[test]
    fn turning_back_leaves_sizes_and_nodes_alone() {
        let mut spec = spec();
        let node = NodeId::from("n1");
        of_node(&mut spec.want, &node).scripts = Some("s0".into());
        upgrade(&mut spec, "j1", "2");
        join(&mut spec.want.groups[0], 2);
        set_stopped(&mut spec.want, &["n2".into()], true);
        of_node(&mut spec.want, &node).restarts = 4;
        assert!(turn_back(&mut spec, "no good", false) && !turn_back(&mut spec, "again", true));
        let want = &spec.want;
        assert_eq!((want.version.as_str(), want.groups[0].size), ("1", 5));
        assert!(want.nodes[&NodeId::from("n2")].stopped);
        assert_eq!((want.nodes[&node].restarts, want.nodes[&node].scripts.as_deref()), (4, Some("s0")));
        let rollout = spec.rollout.clone().expect("a rollout");
        assert_eq!((rollout.before.version.as_str(), rollout.canary), ("2", false));
        // the next change goes back to what worked, not to what failed
        upgrade(&mut spec, "j2", "3");
        assert_eq!(spec.rollout.expect("a rollout").before.version, "1");
    }

    #[test]
    fn ordinals_are_never_given_out_again() {
        let mut group = spec().want.groups.remove(0);
        assert_eq!(ordinals(&group), [1, 3, 4]);
        assert_eq!(join(&mut group, 2), Undo::Joined { group: "zk".into(), ordinals: vec![5, 6] });
        let left = leave(&mut group, &[3, 9, 6]);
        assert_eq!((ordinals(&group), left), (vec![1, 4, 5], Undo::Left { group: "zk".into(), ordinals: vec![3, 6] }));
        assert_eq!(last(&group, 2), [4, 5]);
        join(&mut group, 1);
        assert_eq!(ordinals(&group), [1, 4, 5, 7]);
        come_back(&mut group, &[3]);
        assert_eq!(ordinals(&group), [1, 3, 4, 5, 7]);
    }

    #[test]
    fn files_are_given_and_taken_and_put_back() {
        let file = |content: &str| DeliveredFile {
            target_path: "/opt/a".into(),
            from: "local:az1/c/a".into(),
            sha256: straas_schemas::Digest::sha256(content.as_bytes()),
            size: 1,
            mode: 0o644,
            everywhere: false,
        };
        let (one, two) = (file("1"), file("2"));
        let node = NodeId::from("n1");
        let mut want = spec().want;
        let empty = want.clone();
        let first = put_file(&mut want, Some(std::slice::from_ref(&node)), "/opt/a", Some(&one));
        assert_eq!(first, [(Some(node.clone()), None)]);
        assert!(put_file(&mut want, Some(std::slice::from_ref(&node)), "/opt/a", Some(&one)).is_empty(), "it has it");
        // given to all, nobody keeps one of his own
        let with_own = want.clone();
        let second = put_file(&mut want, None, "/opt/a", Some(&two));
        assert_eq!(second, [(None, None), (Some(node.clone()), Some(one))]);
        assert_eq!((want.files.as_slice(), want.nodes.len()), ([two.clone()].as_slice(), 0));
        assert!(put_file(&mut want, None, "/opt/b", None).is_empty(), "there is nothing to take");
        assert_eq!(put_file(&mut want.clone(), None, "/opt/a", None), [(None, Some(two))]);
        put_back(&mut want, "/opt/a", &second);
        assert_eq!(want, with_own);
        put_back(&mut want, "/opt/a", &first);
        assert_eq!(want, empty);
    }

    #[test]
    fn what_is_usual_is_not_kept() {
        let mut want = spec().want;
        let nodes = ["a".into(), "b".into()];
        let undo = set_stopped(&mut want, &nodes, true);
        assert_eq!(undo, Some(Undo::Stopped { nodes: [("a".into(), false), ("b".into(), false)].into() }));
        assert_eq!(set_stopped(&mut want, &nodes, true), None);
        set_stopped(&mut want, &nodes, false);
        assert!(want.nodes.is_empty());
    }
}
