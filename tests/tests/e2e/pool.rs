//! Machines that exist already: they join the pool, carry nodes, and are given back as clean as they came.
//!
//! The machines are microhosts that the test makes itself, with nothing on them but the agent's package: to the
//! controller they are strangers until they join.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use straas_drivers::local::{LocalHosts, quiet};
use straas_drivers::{AgentBoot, Faults as _, Flavor, HostSpec, Hosts as _, Secret};
use straas_schemas::pool::{HostStanding, HostView, JoinTokenIssued};
use straas_schemas::view::{Accepted, Page, TopologyView};
use straas_tests::cluster::{ACTIVE_MAX, STEP_MAX};
use straas_tests::{Cluster, scene, wait};

/// Where the nodes of one life are, and what is left of it.
const TRACES: &str = "ls -d /etc/zookeeper /var/lib/zookeeper /var/log/zookeeper /var/lib/straas/agent/nodes/* 2>/dev/null; \
    dpkg-query -W -f='${db:Status-Status} ${Package}\\n' 'zookeeper*' 2>/dev/null | grep -v not-installed; \
    grep -i straas /etc/hosts; pgrep -l java; true";

/// Makes a machine that joins with a token.
async fn machine(cluster: &Cluster, hosts: &LocalHosts, name: &str, token: &str) -> Result<()> {
    let packages = hosts.packages(&[], quiet()).await?.context("packages")?;
    let spec = HostSpec {
        id: name.to_owned(),
        name: name.to_owned(),
        // not the controller's
        owner: "somebody".to_owned(),
        zone: String::new(),
        flavor: Flavor { memory_mib: 1024, vcpus: 1 },
        spread: None,
        address: None,
        agent: AgentBoot {
            controllers: vec![format!("https://{}:7443", hosts.gateway())],
            node: None,
            ca_pem: std::fs::read_to_string(cluster.data().join("ca/ca.pem"))?,
            join_token: Secret::new(token),
            metrics_listen: String::new(),
            apt: Some(packages.source(&format!("http://{}:8081", hosts.gateway()))),
            settings: BTreeMap::new(),
        },
        userdata: String::new(),
    };
    hosts.ensure(&spec).await?;
    Ok(())
}

async fn pool(cluster: &Cluster) -> Result<BTreeMap<String, HostView>> {
    let page: Page<HostView> = cluster.api.call(Method::GET, "/hosts", None).await?;
    Ok(page.items.into_iter().map(|host| (host.name.clone(), host)).collect())
}

/// Waits until so many hosts stand so.
async fn standing(cluster: &Cluster, count: usize, standing: HostStanding) -> Result<()> {
    let what = format!("{count} hosts to be {}", standing.name());
    let counted = async || {
        let hosts = pool(cluster).await.ok()?;
        (hosts.values().filter(|host| host.standing == standing).count() == count).then_some(())
    };
    wait(&what, STEP_MAX, counted).await
}

/// The machine that carries a node.
fn carrier(hosts: &BTreeMap<String, HostView>, node: &str) -> Result<String> {
    let found = hosts.values().find(|host| host.node.as_ref().is_some_and(|of| of.name == node));
    Ok(found.with_context(|| format!("no host carries {node}"))?.name.clone())
}

async fn create(cluster: &Cluster, name: &str, size: u32) -> Result<TopologyView> {
    let zk = json!({ "name": "zk", "type": "zookeeper", "version": "3.8.0", "size": size });
    let body = json!({ "name": name, "availability_zone": "metal", "components": [zk] });
    let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body)).await?;
    cluster.active(&accepted).await
}

#[test]
fn machines_join_carry_nodes_and_come_back_clean() {
    scene("machines_join_carry_nodes_and_come_back_clean", async |cluster| {
        cluster.settings.push_str("[pool]\nzones = [\"metal\"]\n");
        let hosts = cluster.start_inside().await?;
        // the image is there as soon as the controller has made it
        hosts.prepare(quiet()).await?;
        for (rack, machines) in [("r1", ["metal-1", "metal-2"]), ("r2", ["metal-3", "metal-4"])] {
            let body = json!({ "zone": "metal", "hosts": 2, "fault_domain": rack });
            let issued: JoinTokenIssued = cluster.api.call(Method::POST, "/join-tokens", Some(&body)).await?;
            for name in machines {
                machine(cluster, &hosts, name, &issued.token).await?;
            }
        }
        standing(cluster, 4, HostStanding::Free).await?;
        let before = cluster.sh("metal-1", TRACES).await?;
        ensure!(before.trim().is_empty(), "not clean to begin with: {before}");

        let topology = create(cluster, "ore", 3).await?;
        let carriers = pool(cluster).await?;
        let first = carrier(&carriers, "ore-zk-1")?;
        ensure!(carriers.values().filter(|host| host.standing == HostStanding::Serving).count() == 3, "{carriers:#?}");
        ensure!(cluster.sh(&first, "pgrep -c java").await?.trim() == "1", "no ZooKeeper on {first}");

        // both agents of a machine die, and the service does not notice; a reboot brings all back without a controller
        let service = cluster.sh(&first, "pgrep java").await?;
        cluster.sh(&first, "pkill -9 straas-agent").await?;
        wait("two agents on the machine", STEP_MAX, async || {
            (cluster.sh(&first, "pgrep -c straas-agent").await.ok()?.trim() == "2").then_some(())
        })
        .await?;
        ensure!(cluster.sh(&first, "pgrep java").await? == service, "the service was restarted");
        // told to end, both end in order
        let ended = "grep -cE 'INFO ends *$' /var/log/sa.log || true";
        let before: u32 = cluster.sh(&first, ended).await?.trim().parse()?;
        cluster.sh(&first, "pkill -TERM -o straas-agent").await?;
        wait("both agents to end in order", STEP_MAX, async || {
            let now: u32 = cluster.sh(&first, ended).await.ok()?.trim().parse().ok()?;
            (now == before + 2).then_some(())
        })
        .await?;
        ensure!(cluster.sh(&first, "pgrep java").await? == service, "the service was restarted");
        hosts.reboot(&first).await?;
        wait("the service after the reboot", STEP_MAX, async || cluster.sh(&first, "pgrep java").await.ok()).await?;
        cluster.settled(topology.id.as_str()).await?;

        // a replacement goes to the machine that is free, and leaves its own as it came
        let node = topology.components[0].nodes.iter().find(|node| node.name == "ore-zk-1").context("the node")?;
        let replaced: Accepted =
            cluster.api.call(Method::PUT, &format!("/nodes/{}", node.id), Some(&Value::Null)).await?;
        cluster.active(&replaced).await?;
        standing(cluster, 1, HostStanding::Free).await?;
        let second = carrier(&pool(cluster).await?, "ore-zk-1")?;
        ensure!(second != first, "it went back to {first}");
        let left = cluster.sh(&first, TRACES).await?;
        ensure!(left.trim().is_empty(), "{first} is not clean: {left}");

        let gone = cluster.delete(topology.id.as_str()).await?;
        cluster.follow(gone.job.id.as_str(), ACTIVE_MAX, |job| job.standing.is_final().then_some(())).await?;
        standing(cluster, 4, HostStanding::Free).await?;
        for name in pool(cluster).await?.keys() {
            let left = cluster.sh(name, TRACES).await?;
            ensure!(left.trim().is_empty(), "{name} is not clean: {left}");
        }

        // what was given back carries the next; what cannot be removed is said, and holds up nobody but its machine
        let slag = create(cluster, "slag", 1).await?;
        let table = cluster.typed(&["host", "list", "--zone", "metal", "--state", "serving"]).await?;
        ensure!(table.contains("slag-zk-1"), "{table}");
        let dirty = carrier(&pool(cluster).await?, "slag-zk-1")?;
        let held = "/var/lib/zookeeper/data/held";
        cluster.sh(&dirty, &format!("mkdir -p {held} && mount -t tmpfs none {held}")).await?;
        let gone = cluster.delete(slag.id.as_str()).await?;
        cluster.follow(gone.job.id.as_str(), ACTIVE_MAX, |job| job.standing.is_final().then_some(())).await?;
        let reason = wait("the machine to say why it is not clean", STEP_MAX, async || {
            pool(cluster).await.ok()?.get(&dirty)?.reason.clone().filter(|reason| reason.contains("busy"))
        })
        .await?;
        ensure!(reason.contains("remove.sh") && reason.contains(held), "{reason}");
        standing(cluster, 3, HostStanding::Free).await?;
        cluster.sh(&dirty, &format!("umount {held}; rm -rf /var/lib/zookeeper; apt-get -q -y purge zookeeper")).await?;
        let id = pool(cluster).await?[&dirty].id.0.clone();
        // it may have come to that by itself, now that it can
        let told = cluster.tried(&["host", "cleaned", &id]).await?;
        ensure!(
            told.code == 0 || told.stderr.contains("nothing that the host has to be cleaned of"),
            "{}",
            told.stderr
        );
        standing(cluster, 4, HostStanding::Free).await
    });
}

#[test]
fn a_machine_that_is_cut_off_keeps_its_node_until_somebody_knows_better() {
    scene("a_machine_that_is_cut_off_keeps_its_node_until_somebody_knows_better", async |cluster| {
        cluster.settings.push_str("[pool]\nzones = [\"metal\"]\n");
        let hosts = cluster.start_inside().await?;
        hosts.prepare(quiet()).await?;
        let announce = async |name: &str| {
            let token = cluster.typed(&["host", "add", name, "--zone", "metal"]).await?;
            machine(cluster, &hosts, name, token.trim()).await
        };
        announce("metal-1").await?;
        let topology = create(cluster, "ore", 1).await?;
        let node = topology.components[0].nodes[0].id.clone();
        announce("metal-2").await?;
        standing(cluster, 1, HostStanding::Free).await?;

        // cut off, it goes on; what is wanted meanwhile waits, and says for whom
        hosts.cut("metal-1").await?;
        let service = cluster.sh("metal-1", "pgrep java").await?;
        let unreachable = async || {
            let why: Value = cluster.api.call(Method::GET, &format!("/nodes/{node}/why"), None).await.ok()?;
            why.to_string().contains("unreachable").then_some(())
        };
        wait("the node to be unreachable", STEP_MAX, unreachable).await?;
        let replace = cluster.tried(&["node", "replace", "ore-zk-1"]).await?;
        ensure!(replace.code == 0, "{}", replace.stderr);
        let evidence = wait("the reason why it is not replaced", STEP_MAX, async || {
            let why: Value = cluster.api.call(Method::GET, &format!("/nodes/{node}/why"), None).await.ok()?;
            Some(why.to_string()).filter(|why| why.contains("metal-1"))
        })
        .await?;
        ensure!(
            evidence.contains("has not said that nothing of it runs") || evidence.contains("is silent"),
            "{evidence}"
        );
        ensure!(cluster.sh("metal-1", "pgrep java").await? == service, "it was stopped although nobody can have asked");
        ensure!(pool(cluster).await?["metal-2"].standing == HostStanding::Free, "the node is on two machines");

        // the link heals: it hears of it, stops, cleans up, and only then the node comes up on the other machine
        hosts.heal("metal-1").await?;
        standing(cluster, 1, HostStanding::Free).await?;
        cluster.settled(topology.id.as_str()).await?;
        ensure!(carrier(&pool(cluster).await?, "ore-zk-1")? == "metal-2", "it is on the old machine");
        let left = cluster.sh("metal-1", TRACES).await?;
        ensure!(left.trim().is_empty(), "metal-1 is not clean: {left}");

        // this one does not come back, and somebody says so: the node gets another machine by that alone
        hosts.crash("metal-2").await?;
        let id = pool(cluster).await?["metal-2"].id.0.clone();
        let refused = cluster.tried(&["host", "remove", &id]).await?;
        ensure!(refused.code != 0 && refused.stderr.contains("force"), "{}", refused.stderr);
        cluster.typed(&["host", "remove", &id, "--force"]).await?;
        wait("the node on the machine that is left", ACTIVE_MAX, async || {
            (carrier(&pool(cluster).await.ok()?, "ore-zk-1").ok()? == "metal-1").then_some(())
        })
        .await?;
        cluster.settled(topology.id.as_str()).await?;
        Ok(())
    });
}
