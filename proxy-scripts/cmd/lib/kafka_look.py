"""What: one look at a broker for validate.sh: what it knows of itself and of its partitions, as lines `key value`.

Why:   bash cannot speak Kafka's protocol, and a JVM each time would cost more than the broker itself.

Never: waits longer than ANSWER_S_MAX for one answer, changes anything.

Usage: kafka_look.py HOST PORT BROKER_ID    exit code 0: it answered; 3: it does not (yet), and stdout says why
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from kafka_client import Broker, KafkaError  # noqa: E402

ANSWER_S_MAX = 5  # own broker, on this node: anything slower is a broker in trouble


def look(host, port, own):
    """Facts of the broker `own`. Copies: what it hosts. Behind: copies here that are not in sync themselves."""
    broker = Broker(host, port, ANSWER_S_MAX)
    seen = broker.metadata()
    broker.close()
    hosted = [it for topic in seen["topics"] for it in topic["partitions"] if own in it["replicas"]]
    return {
        "registered": int(any(it["id"] == own for it in seen["brokers"])),
        "controller": "true" if seen["controller"] == own else "false",
        "brokers": len(seen["brokers"]),
        "partitions": len(hosted),
        "leading": sum(it["leader"] == own for it in hosted),
        "under_replicated": sum(len(it["isr"]) < len(it["replicas"]) for it in hosted),
        "offline": sum(it["leader"] < 0 for it in hosted),
        "behind": sum(own not in it["isr"] for it in hosted),
    }


if __name__ == "__main__":
    try:
        for key, value in look(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).items():
            print(key, value)
    except KafkaError as error:
        print(error)
        sys.exit(3)
