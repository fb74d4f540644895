"""What: the pure parts of the Kafka payload: plans for draining and evening out, the codec of the protocol, and that
       a move is over only once this node's broker has heard of its end.

Why:   a plan that loses a copy is found here in milliseconds, over thousands of clusters that nobody would build.

Never: talks to a broker. The seed is fixed: a failure comes again.

Usage: check_kafka_plan.py PROJECT   exit code 1 and the failing case
"""

import os
import random
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(sys.argv[1], "guestcmds", "lib"), os.path.join(sys.argv[1], "proxy-scripts", "cmd", "lib")]
os.environ["STRAAS_SCRIPTS"] = os.path.join(sys.argv[1], "proxy-scripts")
from kafka_client import APIS, KafkaError, Reader, encode  # noqa: E402
from kafka_cmd import Cluster  # noqa: E402
from kafka_plan import Impossible, drain, load, name, raised, rebalance  # noqa: E402

CASES = 2000


def cluster(dice):
    """Brokers and partitions, some of them uneven on purpose."""
    brokers = sorted(dice.sample(range(1, 20), dice.randint(1, 7)))
    full = brokers[:dice.randint(1, len(brokers))]
    return brokers, [{"topic": f"t{topic}", "partition": number, "replicas": dice.sample(full, min(copies, len(full)))}
                     for topic in range(dice.randint(1, 5)) for copies in [dice.randint(1, 4)]
                     for number in range(dice.randint(1, 8))]


def after(partitions, plan):
    """The cluster once a plan is carried out."""
    new = {name(it): it for it in plan}
    return [new.get(name(it), it) for it in partitions]


def sound(before, now, brokers):
    """No copy twice, none on a broker that is not there."""
    assert len(before) == len(now)
    for it in now:
        assert it["replicas"] and len(set(it["replicas"])) == len(it["replicas"]) and set(it["replicas"]) <= set(brokers), it


def draining(dice):
    brokers, partitions = cluster(dice)
    gone, least = dice.choice(brokers), dice.randint(1, 3)
    others = [it for it in brokers if it != gone]
    try:
        plan = drain(partitions, gone, others, lambda topic: least)
    except Impossible:
        assert any(gone in it["replicas"] and len(it["replicas"]) - 1 < max(1, least)
                   and set(others) <= set(it["replicas"]) for it in partitions)
        return
    now = after(partitions, plan)
    sound(partitions, now, others)
    for was, it in zip(partitions, now):
        assert len(it["replicas"]) == min(len(was["replicas"]), len(others)), (was, it)
        assert gone in was["replicas"] or it == was, "a partition moved that had no need to"
    assert drain(now, gone, others, lambda topic: least) == []


def evening(dice):
    brokers, partitions = cluster(dice)
    now = after(partitions, rebalance(partitions, brokers))
    sound(partitions, now, brokers)
    assert all(len(was["replicas"]) == len(it["replicas"]) for was, it in zip(partitions, now))
    count = load(now, brokers)
    for full in brokers:
        for empty in brokers:
            if count[full] - count[empty] >= 2:
                assert not any(full in it["replicas"] and empty not in it["replicas"] for it in now), (count, now)
    assert rebalance(now, brokers) == []


def raising(dice):
    brokers, partitions = cluster(dice)
    wanted = dice.randint(1, 5)
    now = after(partitions, raised(partitions, brokers, wanted))
    sound(partitions, now, brokers)
    for was, it in zip(partitions, now):
        assert it["replicas"][:len(was["replicas"])] == was["replicas"]
        assert len(it["replicas"]) == max(len(was["replicas"]), min(wanted, len(brokers)))


def sample(kind, dice):
    """A value of a type of the codec."""
    if isinstance(kind, tuple):
        return {field: sample(inner, dice) for field, inner in kind}
    if isinstance(kind, list):
        return None if len(kind) == 2 and dice.random() < 0.2 else [sample(kind[0], dice) for _ in range(dice.choice((0, 1, 3, 200)) if kind[0] == "int32" else dice.randint(0, 3))]
    if kind == "bool":
        return dice.random() < 0.5
    if kind.startswith("string"):
        return None if kind == "string?" and dice.random() < 0.3 else "é" * dice.choice((0, 1, 70, 200))
    return dice.choice((-1, 0, 1, 100))


def codec(dice):
    for _, _, flexible, *kinds in APIS.values():
        for kind in kinds:
            value = sample(kind, dice)
            data = encode(kind, value, flexible)
            reader = Reader(data, flexible)
            assert reader.read(kind) == value and reader.at == len(data)
            cut = data[:dice.randrange(len(data))]
            try:
                Reader(cut, flexible).read(kind)
                assert False, "half an answer was taken for a whole one"
            except (KafkaError, UnicodeDecodeError):
                pass


class Late(Cluster):
    """A cluster whose controller is at once done with what it is told, while this broker hears of it three looks later."""

    def __init__(self):
        self.brokers = [{"id": broker, "host": "b", "port": broker} for broker in (1, 2, 3, 4)]
        self.heard_of = {"topic": "t", "error": 0, "internal": False, "partitions": [
            {"partition": 0, "replicas": [4, 1], "isr": [1, 4], "leader": 4, "error": 0}]}
        self.true, self.looks, self.home, self.id = self.heard_of, 0, ("b", 1), 1

    def change(self, **new):
        self.true, self.looks = {**self.true, "partitions": [{**self.true["partitions"][0], **new}]}, 0

    def ask(self, place, api, **request):
        if api == "Metadata":
            self.looks += request["topics"] != []
            if self.looks > 3:
                self.heard_of = self.true
            return {"brokers": self.brokers, "controller": 2, "topics": [] if request["topics"] == [] else [self.heard_of]}
        if api == "AlterPartitionReassignments":
            replicas = request["topics"][0]["partitions"][0]["replicas"]
            self.change(replicas=replicas, isr=sorted(replicas), leader=replicas[1])
        elif api == "ElectLeaders":
            self.change(leader=self.true["partitions"][0]["replicas"][0])
        done = {"partition": 0, "error": 0, "message": None}
        return {"error": 0, "message": None, "topics": [] if api.startswith("List") else [{"topic": "t", "partitions": [done]}]}


def late():
    here = Late()
    assert here.move([{"topic": "t", "partition": 0, "replicas": [2, 1]}]) == 1
    assert here.partitions()[0]["replicas"] == [2, 1], "a move ended before this broker had heard of its end"
    here.settle_leaders()
    assert here.partitions()[0]["leader"] == 2, "an election ended before this broker had heard of its end"


dice = random.Random(20261123)
for _ in range(CASES):
    for case in (draining, evening, raising):
        case(dice)
for _ in range(50):
    codec(dice)
late()
print(f"kafka: {CASES} clusters drained, evened out and raised; the codec reads what it writes")
