"""What: what this node was told about its cluster: which brokers stay, how many copies are wanted.

Why:   the brokers that are up are not always the brokers that shall be: one that is to leave next must not be given
       copies now. The context knows; when it knows nobody who is up (it may be old), whoever is up will do.

Never: asks a broker.
"""

import json
import os


def context():
    """The context of the contract, empty where there is none."""
    path = os.environ.get("STRAAS_CONTEXT")
    if not path or not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def staying(up, leaving=None):
    """The brokers that are up and are to stay, sorted; `leaving` is not among them."""
    known = context()
    role = known.get("node", {}).get("role")
    peers = {it["ordinal"] for it in known.get("peers", []) if it["role"] == role}
    up = sorted(broker for broker in up if broker != leaving)
    return [broker for broker in up if broker in peers] or up


def copies_wanted():
    """Copies of a topic for which nobody names a number, as the configuration has it."""
    return int(context().get("config", {}).get("broker", {}).get("replication_max", 1))
