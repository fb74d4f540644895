"""What: where copies of partitions should go: emptying a broker, evening out a cluster. Pure: partitions in, moves out.

Why:   a plan that depends on nothing but the cluster's assignment gives the same answer each time, so a command that was
       interrupted is simply run again, and a finished one finds nothing to do.

Never: talks to a broker; gives a partition fewer copies than its topic insists on, or two on one broker.

A partition is a dict: topic, partition, replicas (those it has, or will have once the moves under way are done).
A plan is the list of partitions that change, with their new replicas.
"""


class Impossible(Exception):
    """There is no such plan. The text says why, and what can be done."""


def name(partition):
    """How a partition is called in texts."""
    return f"{partition['topic']}-{partition['partition']}"


def in_order(partitions):
    """By topic and number: the order in which every plan is made."""
    return sorted(partitions, key=lambda it: (it["topic"], it["partition"]))


def load(partitions, brokers):
    """Copies on each of the brokers."""
    count = dict.fromkeys(brokers, 0)
    for partition in partitions:
        for broker in partition["replicas"]:
            if broker in count:
                count[broker] += 1
    return count


def drain(partitions, broker, others, least):
    """Moves that leave nothing on `broker`: each copy goes to the emptiest of `others` that lacks the partition.

    With too few others the partition gets one copy less, but never fewer than `least(topic)`, the number its topic was
    told to keep in sync, and never none."""
    count, plan, kept = load(partitions, others), [], []
    for partition in in_order(partitions):
        replicas = partition["replicas"]
        if broker not in replicas:
            continue
        free = [other for other in others if other not in replicas]
        if free:
            chosen = min(free, key=lambda other: (count[other], other))
            count[chosen] += 1
            plan.append({**partition, "replicas": [chosen if it == broker else it for it in replicas]})
            continue
        left = [it for it in replicas if it != broker]
        if len(left) >= max(1, least(partition["topic"])):
            plan.append({**partition, "replicas": left})
        else:
            kept.append(partition)
    if kept:
        topics = sorted({it["topic"] for it in kept})
        need = max(max(1, least(topic)) for topic in topics)
        raise Impossible(f"{len(kept)} partitions of {', '.join(topics[:10])} would have fewer copies than the topic's "
                         f"min.insync.replicas (up to {need}) with {len(others)} brokers left; nothing was moved. Keep "
                         f"more brokers, lower the topic's min.insync.replicas, or delete the topic")
    return plan


def raised(partitions, brokers, wanted):
    """Moves that give each of the partitions `wanted` copies at least, as far as there are brokers."""
    count, plan = load(partitions, brokers), []
    for partition in in_order(partitions):
        replicas = list(partition["replicas"])
        while len(replicas) < wanted:
            free = [it for it in brokers if it not in replicas]
            if not free:
                break
            replicas.append(min(free, key=lambda it: (count[it], it)))
            count[replicas[-1]] += 1
        if replicas != partition["replicas"]:
            plan.append({**partition, "replicas": replicas})
    return plan


def rebalance(partitions, brokers):
    """The fewest moves after which no broker has two copies more than another, nor leads two partitions more."""
    now = [{**it, "replicas": list(it["replicas"])} for it in in_order(partitions)]
    count = load(now, brokers)
    while True:
        move = next_copy(now, count)
        if move is None:
            break
        partition, source, target = move
        partition["replicas"][partition["replicas"].index(source)] = target
        count[source] -= 1
        count[target] += 1
    even_leaders(now, brokers)
    before = {name(it): it["replicas"] for it in partitions}
    return [it for it in now if it["replicas"] != before[name(it)]]


def next_copy(partitions, count):
    """A copy to move from the fullest broker it can leave to the emptiest: (partition, source, target); None: even."""
    by_load = sorted(count, key=lambda it: (count[it], it))
    for source in reversed(by_load):
        for target in by_load:
            if count[source] - count[target] < 2:
                break
            for partition in partitions:
                if source in partition["replicas"] and target not in partition["replicas"]:
                    return partition, source, target
    return None


def even_leaders(partitions, brokers):
    """Swaps the first copy, which leads when it can, until leadership is even; moves no data."""
    leads = dict.fromkeys(brokers, 0)
    for partition in partitions:
        if partition["replicas"][0] in leads:
            leads[partition["replicas"][0]] += 1
    changed = True
    while changed:
        changed = False
        for partition in partitions:
            replicas = partition["replicas"]
            able = [it for it in replicas if it in leads]
            if replicas[0] not in leads or not able:
                continue
            best = min(able, key=lambda it: (leads[it], it))
            if leads[replicas[0]] - leads[best] >= 2:
                leads[replicas[0]] -= 1
                leads[best] += 1
                at = replicas.index(best)
                replicas[0], replicas[at] = replicas[at], replicas[0]
                changed = True
