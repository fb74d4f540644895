"""What: the life of a Kafka cluster under the payload: created, rolled, upgraded and taken back, grown, drained, hurt.

Why:   while all that happens a client that is not ours writes with acks=all, and at the end every record it was promised
       must be there: that is what rolling safely means.

Never: runs outside the namespaces that kafka.sh makes.

Usage: kafka_scenario.py PROJECT WORK    exit code 0: all is well
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from kafka_cluster import POLL_S, WAIT_S_MAX, Cluster, Failed  # noqa: E402

RECORDS_PER_S = 50
BEGUN = time.monotonic()


def check(name, right, shown=""):
    """A finding."""
    if not right:
        raise Failed(f"{name}: {shown}")
    print(f"ok    {time.monotonic() - BEGUN:5.1f} s  {name}", flush=True)


class Writer:
    """kcat, writing numbers to a topic until it is told to stop."""

    def __init__(self, cluster, topic):
        self.cluster, self.topic, self.sent, self.go = cluster, topic, 0, True
        self.kcat = subprocess.Popen(["kcat", "-P", "-E", "-b", cluster.bootstrap(), "-t", topic, "-X", "acks=all", "-X",
                                      "enable.idempotence=true", "-X", "message.timeout.ms=120000"], stdin=subprocess.PIPE,
                                     stderr=open(os.path.join(cluster.work, "kcat.log"), "w+", encoding="utf-8"),
                                     text=True, bufsize=1)
        self.thread = threading.Thread(target=self.write)
        self.thread.start()

    def write(self):
        while self.go and self.kcat.poll() is None:
            self.kcat.stdin.write(f"{self.sent}\n")
            self.sent += 1
            time.sleep(1 / RECORDS_PER_S)  # the pace of a client, not a wait for anything

    def end(self):
        """Stops and checks that every number is there."""
        self.go = False
        self.thread.join()
        if self.kcat.poll() is None:
            self.kcat.stdin.close()
        code = self.kcat.wait(timeout=WAIT_S_MAX)
        with open(os.path.join(self.cluster.work, "kcat.log"), encoding="utf-8") as file:
            said = file.read()
        check(f"kcat was promised {self.sent} records", code == 0 and "Delivery failed" not in said, f"exit code {code}: {said[-2000:]}")
        there = set(read(self.cluster, self.topic))
        lost = [n for n in range(self.sent) if str(n) not in there]
        check("kcat reads every one of them", not lost, f"{len(lost)} lost: {lost[:10]}")


def read(cluster, topic):
    """All records of a topic, by a client that is not ours."""
    return subprocess.run(["kcat", "-C", "-q", "-e", "-o", "beginning", "-b", cluster.bootstrap(), "-t", topic],
                          capture_output=True, text=True, check=True, timeout=WAIT_S_MAX).stdout.split()


def in_sync(cluster):
    """Waits until no broker owes or is owed a copy, as the planner does before it lets the next one restart."""
    deadline = time.monotonic() + WAIT_S_MAX
    while any(cluster.facts(o)["under_replicated"] for o in cluster.nodes):
        if time.monotonic() > deadline:
            raise Failed("the cluster does not get back in sync")
        time.sleep(POLL_S)  # waits for: brokers to copy


def controller_last(cluster):
    return sorted(cluster.nodes, key=lambda o: cluster.facts(o)["controller"])


def roll(cluster, step):
    """One broker after the other, the controller last, each only while all copies are in sync."""
    slowest = 0.0
    for ordinal in controller_last(cluster):
        in_sync(cluster)
        begun = time.monotonic()
        step(ordinal)
        cluster.settle(ordinal)
        slowest = max(slowest, time.monotonic() - begun)
    in_sync(cluster)
    return slowest


def restart(cluster):
    def step(ordinal):
        cluster.good(cluster.script(ordinal, "stop"), "stop")
        check(f"broker {ordinal} has stopped", cluster.script(ordinal, "validate", STRAAS_SETTLED="1").code == 1)
        cluster.good(cluster.script(ordinal, "start"), "start")
    check(f"rolling restart, {roll(cluster, step):.1f} s for the slowest broker", True)


def change_to(cluster, version):
    cluster.version = version
    took = roll(cluster, cluster.configure)
    runs = {o: cluster.facts(o)["version"] for o in cluster.nodes}
    check(f"all brokers run {version}, {took:.1f} s for the slowest", set(runs.values()) == {version}, runs)


def birth(cluster):
    cluster.zookeeper()
    cluster.nodes = dict.fromkeys((1, 2, 3))
    for ordinal in cluster.nodes:
        cluster.configure(ordinal)
    for ordinal in cluster.nodes:
        cluster.settle(ordinal)
    facts = [cluster.facts(o) for o in cluster.nodes]
    check(f"three brokers, {[cluster.rss_mib(o) for o in cluster.nodes]} MiB", sorted(f["broker_id"] for f in facts) == [1, 2, 3])
    check("one controller", sum(f["controller"] for f in facts) == 1, facts)


def quiet(cluster):
    """What changes nothing, and what is merely looked at, disturbs nobody."""
    pid = cluster.pid(1)
    run = cluster.configure(1)
    check(f"a second run changes nothing, {run.seconds:.1f} s", "nothing to change" in run.output and cluster.pid(1) == pid, run.output)
    look = cluster.run(1, "config", "cmd/kafka/default/runpuppet.sh", STRAAS_NOOP="1")
    check("no drift", look.code == 0 and look.messages["drift"] == {"resources": []}, look.output)
    path = os.path.join(cluster.prefix(1), "etc/kafka/server.properties")
    with open(path, "a", encoding="utf-8") as file:
        file.write("log.retention.hours=1\n")
    look = cluster.run(1, "config", "cmd/kafka/default/runpuppet.sh", STRAAS_NOOP="1")
    check("drift is named", look.code == 0 and look.messages["drift"] == {"resources": [f"File[{path}]"]}, look.output)
    check("and nothing was done about it", cluster.pid(1) == pid and open(path, encoding="utf-8").read().endswith("hours=1\n"))
    cluster.configure(1)
    check("a changed setting restarts the broker", cluster.pid(1) != pid)
    cluster.settle(1)


def topics(cluster):
    made = cluster.command(1, "kafka-cmd/create-topic", topic="orders", partitions=6)
    check("create-topic", made.messages["result"] == {"topic": "orders", "created": True}, made.output)
    again = cluster.command(2, "kafka-cmd/create-topic", topic="orders", partitions=6)
    check("create-topic again", again.messages["result"]["created"] is False, again.output)
    other = cluster.run(2, "guestcmd", "guestcmds/kafka-cmd/create-topic", {"topic": "orders", "partitions": 7})
    check("create-topic with another number is refused", other.code == 1 and "exists with 6" in other.messages["hint"], other.output)
    shown = cluster.command(3, "kafka-cmd/describe-topic", topic="orders").messages["result"]
    check("three copies by default", all(len(p["replicas"]) == 3 for p in shown["partitions"]) and shown["count"] == 6, shown)
    cluster.command(1, "kafka-cmd/create-topic", topic="alone", partitions=3, replication=1)
    subprocess.run(["kcat", "-P", "-b", cluster.bootstrap(), "-t", "alone", "-X", "acks=all"], input="a\nb\n", text=True, check=True)
    check("a topic with one copy takes acks=all", sorted(read(cluster, "alone")) == ["a", "b"])
    cluster.command(1, "kafka-cmd/create-topic", topic="strict", partitions=2, replication=3, config="min.insync.replicas=3")
    cluster.command(1, "kafka-cmd/create-topic", topic="gone")
    check("delete-topic", cluster.command(1, "kafka-cmd/delete-topic", topic="gone").messages["result"]["deleted"])
    listed = cluster.command(1, "kafka-cmd/list-topics").messages["result"]
    check("list-topics", [t["topic"] for t in listed["topics"]] == ["alone", "orders", "strict"], listed)


def upgrade(cluster):
    def protocol():
        with open(os.path.join(cluster.prefix(1), "etc/kafka/server.properties"), encoding="utf-8") as file:
            return next(line.split("=")[1].strip() for line in file if line.startswith("inter.broker.protocol.version"))
    change_to(cluster, "3.9.2")
    check("the protocol stays the old one", protocol() == "3.8")
    cluster.version = "3.8.1"
    cluster.configure(2)
    cluster.settle(2)
    check("a broker goes back", cluster.facts(2)["version"] == "3.8.1")
    cluster.version = "3.9.2"
    cluster.configure(2)
    cluster.settle(2)
    cluster.overrides["broker", "inter_broker_protocol"] = "3.9"
    roll(cluster, cluster.configure)
    check("the protocol is raised by configuration", protocol() == "3.9")
    cluster.version = "3.8.1"
    back = cluster.run(1, "pre_config", "pre_config/kafka")
    check("then there is no way back", back.code == 1 and "cannot go back" in back.messages["hint"], back.output)
    cluster.version = "3.9.2"


def grow(cluster):
    pids = {o: cluster.pid(o) for o in cluster.nodes}
    cluster.nodes[4] = None
    for ordinal in cluster.nodes:
        cluster.configure(ordinal)
    cluster.settle(4)
    check("a fourth broker disturbs no other", pids == {o: cluster.pid(o) for o in pids})
    check("and is empty", cluster.facts(4)["partitions"] == 0)
    moved = cluster.command(1, "kafka-cmd/rebalance", broker="4", throttle_mib_s=50)
    in_sync(cluster)
    counts = [cluster.facts(o)["partitions"] for o in cluster.nodes]
    check(f"rebalance: copies {counts}, {moved.messages['result']['moved']} moves in {moved.seconds:.1f} s", max(counts) - min(counts) < 2)
    leads = [cluster.facts(o)["leading"] for o in cluster.nodes]
    check(f"leadership {leads}", max(leads) - min(leads) < 2)
    again = cluster.command(2, "kafka-cmd/rebalance").messages["result"]
    check("rebalance again moves nothing", again["moved"] == 0, again)
    told = cluster.command(1, "kafka-cmd/describe-topic", topic="orders").messages["result"]["configs"]
    check("no throttle is left", not any("throttled" in key for key in told), told)


def shrink(cluster):
    gone = cluster.command(1, "kafka-cmd/drain", broker="4")
    check(f"drain of 4: {gone.messages['result']}", cluster.facts(4)["partitions"] == 0, gone.output)
    check("drain again moves nothing", cluster.command(2, "kafka-cmd/drain", broker="4").messages["result"]["moved"] == 0)
    del cluster.nodes[4]
    cluster.good(cluster.script(4, "remove"), "remove")
    check("remove leaves nothing", not os.path.exists(os.path.join(cluster.prefix(4), "var/lib/kafka")))
    check("remove again", cluster.script(4, "remove").code == 0)
    del cluster.nodes[3]
    no = cluster.run(1, "guestcmd", "guestcmds/kafka-cmd/drain", {"broker": "3"})
    check("drain refuses what a topic forbids", no.code == 1 and "strict" in no.messages["hint"], no.output)
    cluster.command(1, "kafka-cmd/delete-topic", topic="strict")
    fewer = cluster.command(2, "kafka-cmd/drain", broker="3").messages["result"]
    check(f"drain to fewer brokers than copies: {fewer}", fewer["fewer_copies"] >= 6, fewer)
    shown = cluster.command(1, "kafka-cmd/describe-topic", topic="orders").messages["result"]["partitions"]
    check("two copies on two brokers", all(sorted(p["replicas"]) == [1, 2] for p in shown), shown)
    cluster.good(cluster.script(3, "stop"), "stop")
    roll(cluster, cluster.configure)
    plan = json.dumps({"partitions": [{"topic": "orders", "partition": 0, "replicas": [2, 1]}]})
    cluster.command(1, "kafka-cmd/reassign", plan=plan)
    shown = cluster.command(1, "kafka-cmd/describe-topic", topic="orders").messages["result"]["partitions"]
    check("reassign", shown[0]["replicas"] == [2, 1] and shown[0]["leader"] == 2, shown[0])


def hurt(cluster):
    os.kill(cluster.pid(2), signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S_MAX
    while cluster.facts(1)["under_replicated"] == 0:
        check("the loss is noticed in time", time.monotonic() < deadline) if time.monotonic() > deadline else None
        time.sleep(POLL_S)  # waits for: ZooKeeper's session of the dead broker to end
    dead = cluster.script(2, "validate")
    check("a killed broker is named", dead.code == 1 and dead.messages["result"] == {"service": "inactive"} and dead.messages["hint"], dead.output)
    late = cluster.command(1, "kafka-cmd/under-replicated").messages["result"]
    check(f"under-replicated counts {late['count']}", late["count"] >= 6, late)
    look = cluster.script(1, "validate", STRAAS_SETTLED="1")
    check("the other one is well meanwhile", look.code == 0 and look.messages["result"] == {"service": "active"}, look.output)
    cluster.good(cluster.script(2, "start"), "start")
    cluster.settle(2)
    in_sync(cluster)
    check("started again, everything is in sync", True)


def main():
    cluster = Cluster(sys.argv[1], sys.argv[2])
    birth(cluster)
    quiet(cluster)
    topics(cluster)
    writer = Writer(cluster, "orders")
    try:
        for part in (restart, upgrade, grow, shrink, hurt):
            part(cluster)
    except BaseException:
        writer.go = False
        raise
    writer.end()
    looks = [cluster.script(1, "validate", STRAAS_SETTLED="1").seconds for _ in range(5)]
    print(f"kafka: all well; validate takes {min(looks) * 1000:.0f} ms")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        print(f"FAIL  {failed}")
        sys.exit(1)
