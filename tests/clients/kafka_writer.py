#!/usr/bin/python3
"""Writes numbers to a Kafka topic without a break and reads them all back at the end.

Why: the promise under test is about clients, so the client is librdkafka's, not ours. It produces
with acks=all and idempotence, as a careful user does, and remembers a number only when the broker
acknowledged it. On SIGTERM it flushes, reads the topic from its beginning and says in one line of
JSON what was acknowledged, lost, failed, and how long the longest pause between two acknowledged
messages was.

Never here: retries of its own. What librdkafka gives up on within its delivery timeout is a failure.
"""
import json
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

DELIVERY_MS = 120_000  # librdkafka's own default is 300 s
RATE = 50  # messages a second: enough to hit every moment of a restart


def main(servers, topic, partitions, replication, ready):
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    common = {"bootstrap.servers": servers, "reconnect.backoff.max.ms": 1000, "log_level": 3}
    admin = AdminClient(common)
    made = admin.create_topics(
        [NewTopic(topic, num_partitions=partitions, replication_factor=replication)], operation_timeout=60)
    made[topic].result(timeout=120)
    producer = Producer({**common, "acks": "all", "enable.idempotence": True, "linger.ms": 5,
                         "delivery.timeout.ms": DELIVERY_MS, "topic.metadata.refresh.interval.ms": 2000})
    acked, failed, gap, last = set(), [], [0.0, 0.0], [None]
    begun = time.monotonic()

    def told(error, message):
        now = time.monotonic()
        number = int(message.value())
        if error is not None:
            failed.append(f"{number}: {error}")
            return
        acked.add(number)
        if last[0] is None:
            with open(ready, "w", encoding="ascii") as file:
                file.write("ready\n")
        elif now - last[0] > gap[0]:
            gap[:] = [now - last[0], now - begun]
        last[0] = now

    number = 0
    while not stopping:
        try:
            producer.produce(topic, value=str(number), key=str(number), on_delivery=told)
            number += 1
        except BufferError:
            pass  # librdkafka holds as much as it can: wait for it
        producer.poll(1.0 / RATE)
        time.sleep(max(0.0, 1.0 / RATE - 0.001))
    producer.flush(DELIVERY_MS / 1000 + 10)
    seen = read(common, topic, partitions)
    print(json.dumps({
        "sent": number, "acknowledged": len(acked), "lost": sorted(acked - set(seen))[:20],
        "lost_count": len(acked - set(seen)), "twice": len(seen) - len(set(seen)), "failed": failed[:5],
        "failed_count": len(failed), "longest_gap_s": round(gap[0], 2), "gap_at_s": round(gap[1], 1),
        "ran_s": round(time.monotonic() - begun, 1),
    }), flush=True)


def read(common, topic, partitions):
    """Every number of the topic, from the beginning to where it ends now."""
    consumer = Consumer({**common, "group.id": "reader", "enable.auto.commit": False, "isolation.level": "read_committed"})
    try:
        left = {}
        for partition in range(partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=60)
            if high > low:
                left[partition] = high
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        seen, deadline = [], time.monotonic() + 120
        while left and time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            seen.append(int(message.value()))
            if message.offset() + 1 >= left.get(message.partition(), 0):
                left.pop(message.partition(), None)
        if left:
            print(f"could not read to the end of partitions {sorted(left)}", file=sys.stderr)
        return seen
    finally:
        consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
