#!/usr/bin/python3
"""Writes znodes to a ZooKeeper ensemble without a break and looks for all of them at the end.

Why: the promise under test is about clients, so the client is kazoo. A number counts as written
when the ensemble answered its creation; one whose answer was lost with the connection is tried
again, and finding it there counts as an answer. On SIGTERM it reads all children back and says in
one line of JSON what was acknowledged, lost, and how long the longest pause between two answers was.
"""
import json
import logging
import signal
import sys
import time

from kazoo.client import KazooClient, KazooRetry
from kazoo.exceptions import KazooException, NodeExistsError

logging.basicConfig(level=logging.CRITICAL)
RATE = 50
PATIENCE_S = 120


def main(servers, path, ready):
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5, backoff=1.5)
    client = KazooClient(hosts=servers, timeout=6.0, connection_retry=retry)
    client.start(timeout=PATIENCE_S)
    client.ensure_path(path)
    written, failed = [], []
    gap, gap_at, begun = 0.0, 0.0, time.monotonic()
    last, number = begun, 0
    while not stopping:
        if write(client, f"{path}/{number:08d}", failed, stopping):
            written.append(number)
            now = time.monotonic()
            if number == 0:
                with open(ready, "w", encoding="ascii") as file:
                    file.write("ready\n")
            elif now - last > gap:
                gap, gap_at = now - last, now - begun
            last = now
        number += 1
        time.sleep(1.0 / RATE)
    client.sync(path)
    there = {int(name) for name in client.get_children(path)}
    lost = sorted(set(written) - there)
    print(json.dumps({
        "sent": number, "acknowledged": len(written), "lost": lost[:20], "lost_count": len(lost), "twice": 0,
        "failed": failed[:5], "failed_count": len(failed), "longest_gap_s": round(gap, 2), "gap_at_s": round(gap_at, 1),
        "ran_s": round(time.monotonic() - begun, 1),
    }), flush=True)
    client.stop()


def write(client, path, failed, stopping):
    """Creates one znode, over lost connections; whether it is known to be there."""
    deadline = time.monotonic() + PATIENCE_S
    tries = 0
    while time.monotonic() < deadline:
        try:
            client.create(path, b"x")
            return True
        except NodeExistsError:
            # only a try of our own can have made it
            return tries > 0
        except KazooException as error:
            tries += 1
            last = error
            if stopping:
                return False
            time.sleep(0.05)
        except Exception as error:  # pylint: disable=broad-except
            # kazoo raises its handler's own timeout and connection errors here
            tries += 1
            last = error
            if stopping:
                return False
            time.sleep(0.05)
    failed.append(f"{path}: {last!r}")
    return False


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
