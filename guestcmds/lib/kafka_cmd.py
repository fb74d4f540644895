"""What: what the guest commands of kafka-cmd share: arguments, answers, the cluster of this node's broker, moving copies.

Why:   each command is then a page of its own work. It all speaks to brokers through cmd/lib/kafka_client.py, the same
       library validate uses: no JVM beside a broker on a small node.

Never: connects to another cluster than this node's own; leaves a throttle of its own behind when it ends well.
"""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.environ["STRAAS_SCRIPTS"], "cmd", "lib"))
from kafka_client import Broker, KafkaError, refused  # noqa: E402
from straas_cmd import EX_USAGE, Refused, progress, result, run  # noqa: E402, F401  (for the commands, too)

ANSWER_S_MAX = 30
MOVES_PER_REQUEST = 200  # keeps a request, and the controller's work for it, short
HEARD_S = 0.1  # brokers hear of a change within a few of these
POLL_S = 1.0  # Kafka announces no end of a move; it has to be asked
SAY_S = 15.0  # a sign of life at least so often
TOPIC, BROKER = 2, 4  # what a configuration belongs to
SET, DELETE = 0, 1
NOT_CONTROLLER = 41
GONE = -1  # the leader of a partition that nobody leads
NAME = re.compile(r"[A-Za-z0-9._-]{1,249}$")
THROTTLE_BROKER = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
THROTTLE_TOPIC = ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas")


def topic_name(given):
    """A topic's name, checked once more."""
    if not isinstance(given, str) or not NAME.match(given) or given in (".", ".."):
        raise Refused("a topic's name is 1 to 249 letters, digits, '.', '_' or '-'", EX_USAGE)
    return given


def broker_number(given):
    """A broker's number; operations of the controller hand it over as text."""
    if not re.fullmatch(r"[0-9]{1,9}", str(given)):
        raise Refused(f"broker must be a number, it is {str(given)[:40]!r}", EX_USAGE)
    return int(given)


def throttle_of(given):
    """The argument throttle_mib_s in bytes, None without one."""
    megabytes = given.get("throttle_mib_s")
    return None if megabytes is None else int(megabytes) * 1024 * 1024


def main(work):
    """Runs a command: `work(arguments, cluster)`. Every way to fail ends in a hint."""
    def with_cluster(given):
        try:
            with Cluster() as cluster:
                work(given, cluster)
        except KafkaError as error:
            raise Refused(f"{error}. `kafka-cmd/under-replicated` and the broker's log say more") from error
    run(with_cluster)


class Cluster:
    """The cluster that this node's broker belongs to."""

    def __init__(self):
        path = os.path.join(os.environ.get("STRAAS_PREFIX", "") + "/etc/kafka/straas/server.properties")
        try:
            with open(path, encoding="utf-8") as file:
                own = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
        except OSError as error:
            raise Refused(f"there is no {path}: this node runs no configured Kafka ({error.strerror})") from error
        host, _, port = own["listeners"].partition("://")[2].rpartition(":")
        self.id, self.home = int(own["broker.id"]), (host.strip("[]"), int(port))
        self.connections = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.connections.values():
            connection.close()

    def at(self, place):
        """A connection, kept."""
        if place not in self.connections:
            self.connections[place] = Broker(*place, ANSWER_S_MAX)
        return self.connections[place]

    def ask(self, place, api, **request):
        """Asks one broker; a broken connection is not kept."""
        try:
            return self.at(place).ask(api, **request)
        except KafkaError:
            if place in self.connections:
                self.connections.pop(place).close()
            raise

    def metadata(self, topics=None):
        """The cluster as this node's broker sees it; brokers also by number, in `places`."""
        seen = self.ask(self.home, "Metadata", topics=topics, create=False)
        seen["places"] = {it["id"]: (it["host"], it["port"]) for it in seen["brokers"]}
        return seen

    def heard(self, topics, enough):
        """These topics, as soon as this node's broker has heard enough of them from the controller; brokers hear of every
        change a moment late, and nothing tells when. Who never hears it is shown what it knows at the end."""
        end = time.monotonic() + ANSWER_S_MAX
        while True:
            seen = self.metadata(topics=sorted(topics))["topics"]
            if enough(seen) or time.monotonic() > end:
                return seen
            time.sleep(HEARD_S)  # waits for: this broker to hear from the controller

    def known_topic(self, name):
        """A topic that the controller knows."""
        (topic,) = self.heard([name], lambda seen: seen[0]["partitions"])
        if topic["partitions"]:
            return topic
        raise refused(f"what partitions {name} has", topic["error"])

    def controller(self, api, **request):
        """Asks the controller; a second time if it has just become another broker."""
        for last in (False, True):
            place = self.metadata(topics=[])
            place = place["places"].get(place["controller"])
            if place is None:
                raise KafkaError("the cluster has no controller at the moment; try again")
            answer = self.ask(place, api, **request)
            codes = [answer.get("error", 0)] + [it["error"] for it in answer.get("topics", []) if "error" in it]
            if NOT_CONTROLLER not in codes or last:
                return answer
        return None

    def partitions(self):
        """Every partition with the replicas it will have once the moves under way are done."""
        moving = self.moving()
        found = []
        for topic in self.metadata()["topics"]:
            for it in topic["partitions"]:
                target = moving.get((topic["topic"], it["partition"]))
                found.append({"topic": topic["topic"], "internal": topic["internal"], "partition": it["partition"],
                              "replicas": target or it["replicas"], "isr": it["isr"], "leader": it["leader"]})
        return found

    def moving(self):
        """The moves under way: (topic, partition) → the replicas it will have."""
        answer = self.controller("ListPartitionReassignments", timeout=ANSWER_S_MAX * 1000, topics=None)
        if answer["error"]:
            raise refused("list the moves under way", answer["error"], answer["message"])
        return {(topic["topic"], it["partition"]): [r for r in it["replicas"] if r not in it["removing"]]
                for topic in answer["topics"] for it in topic["partitions"]}

    def topic_configs(self, topics):
        """What topics were told themselves (not what they inherit): topic → {key: value}."""
        answer = self.ask(self.home, "DescribeConfigs", synonyms=False,
                          resources=[{"type": TOPIC, "name": topic, "keys": None} for topic in topics])
        for it in answer["resources"]:
            if it["error"]:
                raise refused(f"the configuration of {it['name']}", it["error"], it["message"])
        return {it["name"]: {c["key"]: c["value"] for c in it["configs"] if c["source"] == 1} for it in answer["resources"]}

    def settle_leaders(self):
        """Leadership goes to the first of each partition's replicas, as far as that one is in sync."""
        answer = self.controller("ElectLeaders", unclean=0, topics=None, timeout=ANSWER_S_MAX * 1000)
        if answer["error"]:
            raise refused("elect leaders", answer["error"])
        elected = {(topic["topic"], it["partition"]) for topic in answer["topics"] for it in topic["partitions"]
                   if not it["error"]}
        self.heard({topic for topic, _ in elected}, lambda seen: all(
            it["leader"] in (it["replicas"][0], GONE) for topic in seen for it in topic["partitions"]
            if (topic["topic"], it["partition"]) in elected))

    def throttle(self, places, topics, rate):
        """Limits what copies cost; rate None lifts the limit."""
        def change(keys, value):
            return [{"key": key, "operation": DELETE if rate is None else SET, "value": None if rate is None else value}
                    for key in keys]
        requests = [(place, BROKER, str(broker), change(THROTTLE_BROKER, str(rate))) for broker, place in sorted(places.items())]
        requests += [(self.home, TOPIC, topic, change(THROTTLE_TOPIC, "*")) for topic in topics]
        for place, kind, name, configs in requests:
            answer = self.ask(place, "IncrementalAlterConfigs", dry=False,
                              resources=[{"type": kind, "name": name, "configs": configs}])
            for it in answer["resources"]:
                if it["error"] and not (rate is None and it["error"] == 3):  # a topic that has gone needs no lifting
                    raise refused(f"throttle {name}", it["error"], it["message"])

    def move(self, plan, rate=None):
        """Carries a plan out and waits until every move under way is done; gives how many it began."""
        under_way = self.moving()
        begin = [it for it in plan if under_way.get((it["topic"], it["partition"])) != it["replicas"]]
        topics = sorted({it["topic"] for it in plan} | {topic for topic, _ in under_way})
        if rate is not None and topics:
            self.throttle(self.metadata(topics=[])["places"], topics, rate)
        for at in range(0, len(begin), MOVES_PER_REQUEST):
            self.begin(begin[at:at + MOVES_PER_REQUEST])
        self.wait()
        wanted = {(it["topic"], it["partition"]): it["replicas"] for it in plan}
        self.heard({topic for topic, _ in wanted}, lambda seen: all(
            wanted.get((topic["topic"], it["partition"]), it["replicas"]) == it["replicas"]
            for topic in seen for it in topic["partitions"]))
        if rate is not None:
            self.unthrottle()
        return len(begin)

    def unthrottle(self):
        """Lifts every limit, also one that an interrupted run of the same command left."""
        seen = self.metadata()
        told = self.topic_configs(sorted(it["topic"] for it in seen["topics"]))
        self.throttle(seen["places"], [it for it, configs in told.items() if THROTTLE_TOPIC[0] in configs], None)

    def begin(self, moves):
        """Tells the controller."""
        topics = {}
        for it in moves:
            topics.setdefault(it["topic"], []).append({"partition": it["partition"], "replicas": it["replicas"]})
        answer = self.controller("AlterPartitionReassignments", timeout=ANSWER_S_MAX * 1000,
                                 topics=[{"topic": topic, "partitions": them} for topic, them in topics.items()])
        if answer["error"]:
            raise refused("begin the moves", answer["error"], answer["message"])
        for topic in answer["topics"]:
            for it in topic["partitions"]:
                if it["error"]:
                    raise refused(f"move {topic['topic']}-{it['partition']}", it["error"], it["message"])

    def wait(self):
        """Until no move is under way. How long that may take is the command's own time limit."""
        most, before, said_at = 0, None, 0.0
        while True:
            left = len(self.moving())
            most = max(most, left)
            if not left:
                return
            if left != before and time.monotonic() - said_at > POLL_S or time.monotonic() - said_at > SAY_S:
                progress(f"{most - left} of {most} partitions have moved", 100 * (most - left) // most)
                before, said_at = left, time.monotonic()
            time.sleep(POLL_S)  # waits for: brokers to copy
