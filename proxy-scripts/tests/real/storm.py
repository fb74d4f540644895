"""What: a ZooKeeper, a nimbus and two supervisors from nothing to a running topology, a restart, an upgrade.

Why:   the promises of Storm's scripts: a second run changes nothing, a key of supervisors leaves the nimbus alone, workers
       outlive a supervisor's restart, an upgrade switches everything, and a topology's tuples are acknowledged.

Never: leaves a process: box.sh's namespaces end with this program.
"""
# box packages: libzookeeper-java libslf4j-java liblog4j1.2-java libcommons-cli-java
# box components: storm

import glob
import os
import sys
import time

sys.path.insert(0, os.path.join(sys.argv[1], "lib"))
from agent import Component, check, scenario, until  # noqa: E402
from storm_words import acked, arguments  # noqa: E402

OLD, NEW = "2.7.1", "2.8.3"


def steps(work):
    """The story."""
    zk = Component(work, "zk", "zookeeper", "3.8.0")
    zk.add("zookeeper", 1, "127.77.0.11")
    storm = Component(work, "strm", "storm", OLD, [zk])
    storm.changes[("supervisor", "executor.metrics.frequency.secs")] = 3  # what is counted is seen sooner
    nimbus = storm.add("nimbus", 1, "127.77.0.21")
    supervisors = [storm.add("supervisor", ordinal, f"127.77.0.{30 + ordinal}") for ordinal in (1, 2)]
    everyone = zk.nodes + storm.nodes

    for node in everyone:
        began = time.monotonic()
        check("changes applied" in node.configure(), f"{node.name}: config in {time.monotonic() - began:.1f} s")
        check(node.settle() >= 0, f"{node.name}: works {time.monotonic() - began:.1f} s after its config began; facts {node.facts}")
    check(nimbus.settle(("leader", True), ("supervisors", 2)) >= 0, "the nimbus leads and knows both supervisors")
    for node in everyone:
        check(node.configure() == "puppet: nothing to change", f"{node.name}: a second run changes nothing")
    check(supervisors[0].drift() == [], "and nothing drifts")
    worker = f"{supervisors[0].prefix}/etc/storm/straas/worker.xml"
    os.chmod(worker, 0o600)
    check(supervisors[0].drift() == [f"File[{worker}]"], "a file that somebody changed is named")
    check("changes applied" in supervisors[0].configure() and supervisors[0].drift() == [], "and put right")
    for node in storm.nodes:
        print(f"      {node.name}: {node.memory_mib()} MiB; a look costs (CPU ms, ms) {node.validate_cost()}")

    before, own = nimbus.rendered(), supervisors[0].rendered()
    storm.changes[("supervisor", "supervisor.worker.timeout.secs")] = 45
    storm.changes[("slots", "count")] = 2
    check(nimbus.rendered() == before, "a key of supervisors changes no byte of the nimbus' site.pp")
    check(supervisors[0].rendered() != own, "and it changes the supervisors'")
    storm.add("supervisor", 3, "127.77.0.33")
    check(nimbus.rendered() == before and supervisors[0].facts, "nor does a further supervisor")
    storm.nodes.pop()

    submit = arguments(work, OLD, 2)
    began = time.monotonic()
    code, result, output = nimbus.command("storm-cmd/submit-jar", **submit)
    check(code == 0, f"submitted in {time.monotonic() - began:.1f} s: {result}" if code == 0 else output)
    until(lambda: acked(nimbus), "tuples are acknowledged")
    check(len(nimbus.command("storm-cmd/list")[1]["topologies"]) == 1, "list names it")
    workers = {node.name: node.memory_mib() for node in supervisors}
    print(f"      {workers}")

    check("changes applied" in supervisors[0].configure(), "a changed key restarts the supervisor")
    check(supervisors[0].settle(("slots", 2)) >= 0, f"it is back: {supervisors[0].facts}")
    still = supervisors[0].memory_mib()
    check(any("Worker" in what for what in still), f"its worker has outlived it: {still}")

    nimbus.must("stop", "stop.sh")
    code, service, _ = supervisors[1].look(settled=True)
    check((code, service) == (0, "active"), "without a nimbus a settled supervisor is well")
    check(supervisors[1].look(settled=False)[0] == 75, "and one that has to settle waits")
    check(nimbus.look(settled=True)[1] == "inactive", "the stopped nimbus is not")
    began = time.monotonic()
    nimbus.must("start", "start.sh")
    nimbus.settle(("leader", True))
    check(True, f"the nimbus leads again {time.monotonic() - began:.1f} s after its start")
    check(nimbus.command("storm-cmd/list")[1]["count"] == 1, "and knows the topology")

    storm.version = NEW
    for node in storm.nodes:
        began = time.monotonic()
        check("changes applied" in node.configure(), f"{node.name}: upgraded to {NEW}")
        node.settle(("version", NEW))
        check(True, f"{node.name}: works {time.monotonic() - began:.1f} s after its upgrade began; facts {node.facts}")
    before = acked(nimbus)
    until(lambda: acked(nimbus) > before, "the topology goes on")
    check(not any(OLD in line for line in running()), "no process of the old version is left")

    for verb in ("deactivate", "activate"):
        check(nimbus.command(f"storm-cmd/{verb}", name="words")[0] == 0, verb)
        check(nimbus.command(f"storm-cmd/{verb}", name="words")[0] == 0, f"{verb} twice")
    check(nimbus.command("storm-cmd/rebalance", name="words", wait_s=1, workers=1)[0] == 0, "rebalance")
    check(nimbus.command("storm-cmd/activate", name="nobody")[0] == 1, "a topology that is not there is refused")
    check(nimbus.command("storm-cmd/kill", name="words", wait_s=1)[1] == {"name": "words", "kill": True}, "kill")
    until(lambda: nimbus.ask("storm-cmd/list")["count"] == 0, "it is gone")
    check(nimbus.command("storm-cmd/kill", name="words")[1] == {"name": "words", "kill": False}, "kill twice")

    # Of the one nimbus the disk is lost, and with it the code of a topology.
    check(nimbus.command("storm-cmd/submit-jar", **arguments(work, NEW, 2))[0] == 0, "submitted again")
    nimbus.must("remove", "remove.sh")
    nimbus.configure()
    until(lambda: "does not lead" in nimbus.look()[2], "a nimbus without the code of a topology waits")
    code, _, output = nimbus.command("storm-cmd/remove-corrupt-topologies")
    check(code == 0, "and leads" if code == 0 else output[-3000:])
    nimbus.settle(("leader", True), ("topologies", 0))
    check(True, "once that is forgotten")

    for node in reversed(storm.nodes):
        node.must("remove", "remove.sh")
        node.must("remove", "remove.sh")
        check(not node.memory_mib(), f"{node.name}: removed, no process is left")


def running():
    """The command lines of all processes in the box."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                yield file.read().decode("utf-8", "replace")
        except OSError:
            continue


sys.exit(scenario(sys.argv[1], steps))
