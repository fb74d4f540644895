"""What: two nimbuses on hosts of their own: one leads, is killed, the other takes over and knows the topology.

Why:   a nimbus listens on every address of its machine, so several need several hosts; and that a cluster with two of them
       has a leader is what a rolling change waits for.

Never: leaves a process: box.sh's namespaces end with this program.
"""
# box packages: libzookeeper-java libslf4j-java liblog4j1.2-java libcommons-cli-java
# box components: storm

import os
import signal
import sys

sys.path.insert(0, os.path.join(sys.argv[1], "lib"))
from agent import Component, check, scenario, until  # noqa: E402
from hosts import Host, bridge  # noqa: E402
from storm_words import acked, arguments  # noqa: E402

VERSION = "2.8.3"
BLOBS = 3  # of a topology: code, configuration, jar


def blobs(host):
    """How much of the topology's code a nimbus has."""
    files = (name for _, _, names in os.walk(f"{host.root}/var/lib/storm/data/blobs") for name in names)
    folders = (name for _, names, _ in os.walk(f"{host.root}/var/lib/storm/data/blobs") for name in names)
    return sum("words-" in name for name in (*files, *folders))


def leader(nimbuses):
    """The one that leads, then the other."""
    for node in nimbuses:
        node.settle()
    return sorted(nimbuses, key=lambda node: not node.facts["leader"])


def steps(work):
    """The story."""
    bridge("10.99.0.11", "10.99.0.31")
    zk = Component(work, "zk", "zookeeper", "3.8.0")
    zk.add("zookeeper", 1, "10.99.0.11")
    storm = Component(work, "strm", "storm", VERSION, [zk])
    storm.changes[("supervisor", "executor.metrics.frequency.secs")] = 3  # what is counted is seen sooner
    hosts = [Host(work, f"nimbus{ordinal}", f"10.99.0.2{ordinal}") for ordinal in (1, 2)]
    nimbuses = [storm.add("nimbus", ordinal, f"10.99.0.2{ordinal}", host) for ordinal, host in zip((1, 2), hosts)]
    supervisor = storm.add("supervisor", 1, "10.99.0.31")

    for node in (*zk.nodes, *storm.nodes):
        check("changes applied" in node.configure(), f"{node.name}: config")
    for node in (*zk.nodes, *storm.nodes):
        node.settle()
    for node in nimbuses:
        node.settle(("nimbuses", 2), ("supervisors", 1))
        check(node.configure() == "puppet: nothing to change", f"{node.name}: a second run changes nothing")
    first, second = leader(nimbuses)
    check((first.facts["leader"], second.facts["leader"]) == (True, False), f"two nimbuses, {first.name} leads")

    second.ask("storm-cmd/submit-jar", **arguments(work, VERSION, 1))
    check(True, "submitted at the one that does not lead")
    other = hosts[nimbuses.index(second)]
    until(lambda: blobs(other) >= BLOBS, "that one has the topology's code as well")
    until(lambda: acked(second), "tuples are acknowledged")

    os.kill(first.pid(), signal.SIGKILL)
    check(first.look()[:2] == (1, "inactive"), f"{first.name} is killed, and named")
    until(lambda: second.look()[1] == "active" and second.facts["leader"], f"{second.name} leads")
    check([each["name"] for each in supervisor.ask("storm-cmd/list")["topologies"]] == ["words"], "and knows the topology")
    before = acked(second)
    until(lambda: acked(second) > before, "whose tuples go on being acknowledged")

    first.must("start", "start.sh")
    first.settle(("nimbuses", 2))
    check(not first.facts["leader"], "the first is back and follows")
    storm.changes[("nimbus_jvm", "heap_mb")] = 300
    for node in reversed(leader(nimbuses)):
        node.configure()
        node.settle(("nimbuses", 2))
    check(sum(node.facts["leader"] for node in leader(nimbuses)) == 1, "a rolling change, the leader last: one leads")
    check(supervisor.ask("storm-cmd/kill", name="words", wait_s=1)["kill"], "and takes orders")
    for node in reversed(storm.nodes):
        node.must("stop", "stop.sh")
        check(node.look(settled=True)[1] == "inactive", f"{node.name} is stopped")


sys.exit(scenario(sys.argv[1], steps))
