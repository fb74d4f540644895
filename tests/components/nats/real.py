"""What: three NATS servers from nothing to a replicated stream, the loss of their leader, a change, two more, one less.

Why:   the promises of a component made of files alone: its members know each other, one leads, data is on three of them
       and survives the loss of any one, members come one at a time, and one that leaves is taken out before its host goes.

Never: leaves a process: box.sh's namespaces end with this program.
"""
# box packages: nats-server

import os
import sys
import time

sys.path.insert(0, os.path.join(sys.argv[1], "lib"))
from agent import Component, Failed, check, scenario  # noqa: E402

MESSAGES = 100
JOINED_S_MAX = 45  # a newcomer needs some five seconds


def publish(node, count):
    """Publishes messages into the stream through a node; how many the cluster has acknowledged."""
    sys.path.insert(0, os.path.join(node.component.work, "release", "guestcmds", "lib"))
    from nats_client import Client
    os.environ["STRAAS_PREFIX"] = node.prefix
    with Client() as client:
        return sum("seq" in client.ask("orders.new", {"number": number}) for number in range(count))


def in_order(nodes):
    """The order of a rolling change: whoever leads goes last."""
    return sorted(nodes, key=lambda node: node.facts["leader"])


def rolling(nodes):
    """Re-configures one after the other, as permits would have it; every one has caught up before the next."""
    for node in in_order(nodes):
        node.configure()
        node.settle(("current", True))
    for node in nodes:
        node.settle(("current", True))


def joins(node, *wanted):
    """Waits for a newcomer. Now and then one of 2.9.10 misses the beginning of what the leader sends it ("Expected first
    catchup entry to be a snapshot and peerstate", says its log) and stays behind for good; started anew it asks again."""
    for _ in range(3):
        try:
            return node.settle(*wanted, within=JOINED_S_MAX)
        except Failed as late:
            with open(f"{node.prefix}/var/log/nats/nats.log", encoding="utf-8") as log:
                check("Expected first catchup entry" in log.read(), f"{node.name} is late for a known reason: {late}")
            print(f"      {node.name} stayed behind and is started anew")
            node.must("stop", "stop.sh")
            node.must("start", "start.sh")
    return node.settle(*wanted)


def steps(work):
    """The story."""
    nats = Component(work, "bus", "nats", "2.9.10")
    nodes = [nats.add("nats", ordinal, f"127.77.1.{10 + ordinal}") for ordinal in (1, 2, 3)]

    began = time.monotonic()
    check("changes applied" in nodes[0].configure(), "the first is configured")
    check(nodes[0].look()[0] == 75, "alone it waits for a leader")
    for node in nodes[1:]:
        check("changes applied" in node.configure(), f"{node.name}: configured")
    for node in nodes:
        node.settle(("cluster_size", 3))
    check(sum(node.facts["leader"] for node in nodes) == 1, f"three in a cluster after {time.monotonic() - began:.1f} s, one leads")
    for node in nodes:
        check(node.configure() == "puppet: nothing to change", f"{node.name}: a second run changes nothing")
        print(f"      {node.memory_mib()} MiB; a look costs (CPU ms, ms) {node.validate_cost()}")

    check(nodes[0].drift() == [], "nothing drifts")

    create = {"name": "orders", "subjects": "orders.>"}
    check(nodes[0].command("nats-cmd/create-stream", **create)[1] == {"name": "orders", "created": True}, "a stream on three servers")
    check(nodes[0].command("nats-cmd/create-stream", name="alone", subjects="alone", replicas=1)[0] == 0, "a stream on one")
    answer = nodes[1].command("nats-cmd/create-stream", **create)
    check(answer[1] == {"name": "orders", "created": False}, f"create twice: {answer}")
    check(nodes[1].command("nats-cmd/create-stream", name="orders", subjects="other")[0] == 1, "not with other subjects")
    check(publish(nodes[0], MESSAGES) == MESSAGES, f"{MESSAGES} messages acknowledged")
    for node in nodes:
        node.settle(("messages", MESSAGES))
    check(True, "every server has them")

    leader = in_order(nodes)[-1]
    rest = [node for node in nodes if node is not leader]
    leader.must("stop", "stop.sh")
    leader.must("stop", "stop.sh")
    check(leader.look()[1] == "inactive", f"the leader {leader.name} is stopped")
    began = time.monotonic()
    while not any(node.facts["leader"] for node in rest):
        for node in rest:
            node.settle()
    check(True, f"another leads after {time.monotonic() - began:.1f} s")
    check(publish(rest[0], MESSAGES) == MESSAGES, "two of three take messages")
    leader.must("start", "start.sh")
    leader.settle(("messages", 2 * MESSAGES), ("current", True))
    check(True, "the third is back and has caught up")

    nats.changes[("server", "max_payload_kb")] = 2048
    rolling(nodes)
    check(all(node.facts["messages"] >= 2 * MESSAGES for node in nodes), "a rolling change has lost nothing")

    lost = in_order(nodes)[-1]
    lost.must("remove", "remove.sh")
    lost.address = "127.77.1.99"
    began = time.monotonic()
    lost.configure()
    lost.settle(("messages", 2 * MESSAGES), ("current", True), ("cluster_size", 3))
    check(True, f"the leader is replaced: empty disk and another address, filled after {time.monotonic() - began:.1f} s")
    rolling(nodes)

    for ordinal in (4, 5):
        old = list(nodes)
        nodes.append(nats.add("nats", ordinal, f"127.77.1.{10 + ordinal}"))
        rolling(old)
        nodes[-1].configure()
        joins(nodes[-1], ("cluster_size", ordinal), ("current", True))
        for node in nodes:
            node.settle(("cluster_size", ordinal), ("current", True))
        check(sum(node.facts["leader"] for node in nodes) == 1, f"a server more: {ordinal}, one leads")

    alone, stream = sorted(nodes[0].command("nats-cmd/list-streams")[1]["streams"], key=lambda each: each["name"])
    gone = next(node for node in nodes if node.name == alone["leader"])
    helper = next(node for node in nodes if node is not gone)
    check(gone.command("nats-cmd/remove-server", server=gone.name)[0] == 64, "no server removes itself")
    began, tries = time.monotonic(), 1
    while (answer := helper.command("nats-cmd/remove-server", server=gone.name))[0] and time.monotonic() - began < 120:
        tries += 1
        time.sleep(1)
    check(answer[0] == 0, f"{gone.name} left after {time.monotonic() - began:.1f} s and {tries} tries: {answer[2]}")
    gone.must("remove", "remove.sh")
    check(not gone.memory_mib(), "and its host is empty")
    nodes.remove(gone)
    nats.nodes.remove(gone)
    rolling(nodes)
    for node in nodes:
        node.settle(("cluster_size", 4), ("current", True))
    streams = sorted(helper.command("nats-cmd/list-streams")[1]["streams"], key=lambda each: each["name"])
    for stream in streams:
        check(len(stream["replicas"]) == 2 and not stream["behind"] and gone.name not in [*stream["replicas"], stream["leader"]],
              f"nothing is left there: {stream}")
    check(streams[1]["messages"] == 2 * MESSAGES, "nothing is lost")
    code, result, output = helper.command("nats-cmd/remove-server", server=gone.name)
    check(result == {"server": gone.name, "removed": False}, f"leave twice: {output}")
    check(publish(helper, MESSAGES) == MESSAGES, "and the stream takes messages")


sys.exit(scenario(sys.argv[1], steps))
