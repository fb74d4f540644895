"""What: the life of a Kafka cluster under the payload: created, rolled, upgraded and taken back, grown, drained, hurt, made
       again under its old name.

Why:   while all that happens a client that is not ours writes with acks=all, and at the end every record it was promised
       must be there: that is what rolling safely means.

Never: leaves a process: box.sh's namespaces end with this program.
"""
# box packages: libzookeeper-java libslf4j-java liblog4j1.2-java libcommons-cli-java kcat
# box components: kafka

import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(sys.argv[1], "lib"))
from agent import ANSWER_S_MAX, Component, Failed, check, scenario, until  # noqa: E402

OLD, NEW = "3.8.1", "3.9.2"
RECORDS_PER_S = 50


def bootstrap(kafka):
    return ",".join(f"{node.address}:9092" for node in kafka.nodes)


def read(kafka, topic):
    """All records of a topic, by a client that is not ours."""
    return subprocess.run(["kcat", "-C", "-q", "-e", "-o", "beginning", "-b", bootstrap(kafka), "-t", topic],
                          capture_output=True, text=True, check=True, timeout=ANSWER_S_MAX).stdout.split()


class Writer:
    """kcat, writing numbers to a topic until it is told to stop."""

    def __init__(self, kafka, topic):
        self.kafka, self.topic, self.sent, self.go = kafka, topic, 0, True
        self.said = open(f"{kafka.work}/kcat.log", "w+", encoding="utf-8")
        self.kcat = subprocess.Popen(["kcat", "-P", "-E", "-b", bootstrap(kafka), "-t", topic, "-X", "acks=all",
                                      "-X", "enable.idempotence=true", "-X", "message.timeout.ms=120000"],
                                     stdin=subprocess.PIPE, stderr=self.said, text=True, bufsize=1)
        self.thread = threading.Thread(target=self.write, daemon=True)
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
        code = self.kcat.wait(timeout=ANSWER_S_MAX)
        self.said.seek(0)
        said = self.said.read()
        if code or "Delivery failed" in said:
            raise Failed(f"kcat ended with {code} after {self.sent} records: {said[-2000:]}")
        there = set(read(self.kafka, self.topic))
        lost = [number for number in range(self.sent) if str(number) not in there]
        check(not lost, f"kcat was promised {self.sent} records and reads every one of them; lost: {len(lost)} {lost[:10]}")


def in_sync(kafka):
    """Waits until no broker owes or is owed a copy, as the planner does before it lets the next one restart."""
    until(lambda: not any(node.told()["under_replicated"] for node in kafka.nodes), "all copies are in sync")


def roll(kafka, step):
    """One broker after the other, the controller last, each only while all copies are in sync; the slowest one's time."""
    slowest = 0.0
    for node in sorted(kafka.nodes, key=lambda each: each.told()["controller"]):
        in_sync(kafka)
        began = time.monotonic()
        step(node)
        node.settle()
        slowest = max(slowest, time.monotonic() - began)
    in_sync(kafka)
    return slowest


def restart(node):
    node.must("stop", "stop.sh")
    check(node.look(settled=True)[0] == 1, f"{node.name} has stopped")
    node.must("start", "start.sh")


def change_to(kafka, version):
    kafka.version = version
    took = roll(kafka, lambda node: node.configure())
    check({node.told()["version"] for node in kafka.nodes} == {version}, f"all run {version}, {took:.1f} s for the slowest")


def birth(zk, kafka):
    kafka.prepare()
    own = f"{kafka.name}-{kafka.id}"
    check(zk.nodes[0].ask("zk-cmd/list-namespace") == {"count": 1, "namespaces": [own]}, f"the ensemble has the namespace {own}")
    kafka.prepare()
    for node in kafka.nodes:
        node.configure()
    for node in kafka.nodes:
        node.settle()
    facts = [node.told() for node in kafka.nodes]
    check(sorted(each["broker_id"] for each in facts) == [1, 2, 3], f"three brokers: {[node.memory_mib() for node in kafka.nodes]}")
    check(sum(each["controller"] for each in facts) == 1, "one controller")


def quiet(kafka):
    """What changes nothing, and what is merely looked at, disturbs nobody."""
    node, pid = kafka.nodes[0], kafka.nodes[0].pid()
    check(node.configure() == "puppet: nothing to change" and node.pid() == pid, "a second run changes nothing")
    check(node.drift() == [], "no drift")
    path = f"{node.prefix}/etc/kafka/straas/server.properties"
    with open(path, "a", encoding="utf-8") as file:
        file.write("log.retention.hours=1\n")
    check(node.drift() == [f"File[{path}]"], "drift is named")
    with open(path, encoding="utf-8") as file:
        check(node.pid() == pid and file.read().endswith("hours=1\n"), "and nothing was done about it")
    node.configure()
    check(node.pid() != pid, "a changed setting restarts the broker")
    node.settle()


def topics(kafka):
    one, two, three = kafka.nodes
    check(one.ask("kafka-cmd/create-topic", topic="orders", partitions=6) == {"topic": "orders", "created": True}, "create-topic")
    check(two.ask("kafka-cmd/create-topic", topic="orders", partitions=6)["created"] is False, "create-topic again")
    code, _, output = two.command("kafka-cmd/create-topic", topic="orders", partitions=7)
    check(code == 1 and "exists with 6" in output, "create-topic with another number is refused")
    until(lambda: three.command("kafka-cmd/describe-topic", topic="orders")[0] == 0, "a third broker hears of it")
    shown = three.ask("kafka-cmd/describe-topic", topic="orders")
    check(all(len(each["replicas"]) == 3 for each in shown["partitions"]) and shown["count"] == 6, "three copies by default")
    one.ask("kafka-cmd/create-topic", topic="alone", partitions=3, replication=1)
    subprocess.run(["kcat", "-P", "-b", bootstrap(kafka), "-t", "alone", "-X", "acks=all"], input="a\nb\n", text=True, check=True)
    check(sorted(read(kafka, "alone")) == ["a", "b"], "a topic with one copy takes acks=all")
    one.ask("kafka-cmd/create-topic", topic="strict", partitions=2, replication=3, config="min.insync.replicas=3")
    one.ask("kafka-cmd/create-topic", topic="gone")
    check(one.ask("kafka-cmd/delete-topic", topic="gone")["deleted"], "delete-topic")
    listed = [each["topic"] for each in one.ask("kafka-cmd/list-topics")["topics"]]
    check(listed == ["alone", "orders", "strict"], f"list-topics: {listed}")


def upgrade(kafka):
    def protocol():
        with open(f"{kafka.nodes[0].prefix}/etc/kafka/straas/server.properties", encoding="utf-8") as file:
            return next(line.split("=")[1].strip() for line in file if line.startswith("inter.broker.protocol.version"))
    change_to(kafka, NEW)
    check(protocol() == "3.8", "the protocol stays the old one")
    for version in (OLD, NEW):
        kafka.version = version
        kafka.nodes[1].configure()
        kafka.nodes[1].settle()
        check(kafka.nodes[1].told()["version"] == version, f"one broker goes to {version}")
    kafka.changes["broker", "inter_broker_protocol"] = "3.9"
    roll(kafka, lambda node: node.configure())
    check(protocol() == "3.9", "the protocol is raised by configuration")
    kafka.version = OLD
    code, _, output = kafka.nodes[0].run("pre_config", "pre_config/kafka")
    check(code == 1 and "cannot go back" in output, "then there is no way back")
    kafka.version = NEW


def even(kafka, fact, what):
    """Brokers hear of what they host one after the other, so each may be a moment late to tell."""
    def spread():
        told = [node.told()[fact] for node in kafka.nodes]
        return max(told) - min(told)
    until(lambda: spread() < 2, what)


def grow(kafka):
    one, two = kafka.nodes[:2]
    pids = {node.name: node.pid() for node in kafka.nodes}
    fourth = kafka.add("kafka", 4, "127.77.2.4")
    for node in kafka.nodes:
        node.configure()
    fourth.settle()
    check(all(node.pid() == pids.get(node.name, node.pid()) for node in kafka.nodes), "a fourth broker disturbs no other")
    check(fourth.told()["partitions"] == 0, "and is empty")
    moved = one.ask("kafka-cmd/rebalance", broker="4", throttle_mib_s=50)
    in_sync(kafka)
    even(kafka, "partitions", f"rebalance: copies are even after {moved['moved']} moves")
    even(kafka, "leading", "and so is leadership")
    until(lambda: two.ask("kafka-cmd/describe-topic", topic="orders") == one.ask("kafka-cmd/describe-topic", topic="orders"),
          "both brokers know of it")
    check(two.ask("kafka-cmd/rebalance")["moved"] == 0, "rebalance again moves nothing")
    told = one.ask("kafka-cmd/describe-topic", topic="orders")["configs"]
    check(not any("throttled" in key for key in told), "no throttle is left")


def shrink(kafka):
    one, two, third, fourth = kafka.nodes
    gone = one.ask("kafka-cmd/drain", broker="4")
    until(lambda: fourth.told()["partitions"] == 0, f"drain of 4: {gone}")
    until(lambda: all(4 not in each["replicas"] for each in two.ask("kafka-cmd/describe-topic", topic="alone")["partitions"]),
          "another broker knows of it")
    check(two.ask("kafka-cmd/drain", broker="4")["moved"] == 0, "drain again moves nothing")
    kafka.nodes.remove(fourth)
    for _ in range(2):
        fourth.must("remove", "remove.sh")
    left = [path for path in ("var/lib/kafka", "etc/kafka", "etc/straas.d/kafka") if os.path.exists(f"{fourth.prefix}/{path}")]
    check(not left and not fourth.memory_mib(), f"remove leaves nothing: {left}")
    kafka.nodes.remove(third)
    code, _, output = one.command("kafka-cmd/drain", broker="3")
    check(code == 1 and "strict" in output, "drain refuses what a topic forbids")
    one.ask("kafka-cmd/delete-topic", topic="strict")
    fewer = two.ask("kafka-cmd/drain", broker="3")
    check(fewer["fewer_copies"] >= 6, f"drain to fewer brokers than copies: {fewer}")
    shown = one.ask("kafka-cmd/describe-topic", topic="orders")["partitions"]
    check(all(sorted(each["replicas"]) == [1, 2] for each in shown), "two copies on two brokers")
    third.must("stop", "stop.sh")
    roll(kafka, lambda node: node.configure())
    plan = json.dumps({"partitions": [{"topic": "orders", "partition": 0, "replicas": [2, 1]}]})
    one.ask("kafka-cmd/reassign", plan=plan)
    first = one.ask("kafka-cmd/describe-topic", topic="orders")["partitions"][0]
    check(first["replicas"] == [2, 1] and first["leader"] == 2, f"reassign: {first}")


def hurt(kafka):
    one, two = kafka.nodes
    os.kill(two.pid(), signal.SIGKILL)
    until(lambda: one.told()["under_replicated"], "the loss is noticed")
    code, service, output = two.look()
    check((code, service) == (1, "inactive") and '"hint"' in output, "a killed broker is named")
    late = one.ask("kafka-cmd/under-replicated")
    check(late["count"] >= 6, f"under-replicated counts {late['count']}")
    check(one.look(settled=True)[:2] == (0, "active"), "the other one is well meanwhile")
    two.must("start", "start.sh")
    two.settle()
    in_sync(kafka)
    check(True, "started again, everything is in sync")


def again(zk, kafka):
    """Another component of the same name finds nothing of the first one's, not even its cluster id."""
    for node in kafka.nodes:
        node.must("remove", "remove.sh")
    other = Component(kafka.work, kafka.name, "kafka", NEW, [zk], ident="c-again")
    node = other.add("kafka", 1, "127.77.2.1")
    other.prepare()
    node.configure()
    node.settle()
    check(node.ask("kafka-cmd/list-topics")["count"] == 0, "made again under its old name it starts clean")
    server, old = zk.nodes[0], f"{kafka.name}-{kafka.id}"
    check(server.command("zk-cmd/delete-namespace", name=old)[0] == 1, "what holds data is not deleted just so")
    for deleted in (True, False):
        check(server.ask("zk-cmd/delete-namespace", name=old, recursive=True)["deleted"] is deleted, f"deleted: {deleted}")
    check(server.ask("zk-cmd/list-namespace")["namespaces"] == [f"{other.name}-{other.id}"], "the new one is untouched")
    check("imok" in server.command("zk-cmd/four-letter-word", word="ruok")[2], "four-letter-word")
    code, _, output = server.command("zk-cmd/four-letter-word", word="srvr")
    check(code == 0 and "Mode: standalone" in output, "another one")


def steps(work):
    """The story."""
    zk = Component(work, "zk", "zookeeper", "3.8.0")
    zk.add("zookeeper", 1, "127.77.2.100").configure()
    zk.nodes[0].settle()
    kafka = Component(work, "events", "kafka", OLD, [zk])
    for ordinal in (1, 2, 3):
        kafka.add("kafka", ordinal, f"127.77.2.{ordinal}")
    birth(zk, kafka)
    quiet(kafka)
    topics(kafka)
    writer = Writer(kafka, "orders")
    check(True, f"rolling restart, {roll(kafka, restart):.1f} s for the slowest broker")
    for part in (upgrade, grow, shrink, hurt):
        part(kafka)
    writer.end()
    print(f"      a look costs (CPU ms, ms) {kafka.nodes[0].validate_cost()}")
    again(zk, kafka)


sys.exit(scenario(sys.argv[1], steps))
