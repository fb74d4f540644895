"""What: a small client of Kafka's protocol: the administrative requests that validate and the guest commands need.

Why:   Kafka's own tools start a JVM, which takes seconds and as much memory as a small broker; a check every 30 s must
       cost next to nothing, and a node has Python's standard library anyway. Every message is described as data in
       `APIS`, at a version that brokers from 2.4 to 3.9 answer, and one codec reads and writes them all.

Never: produces or consumes records; retries (who calls decides what an error means); waits longer than its time limit.
"""

import socket
import struct

ANSWER_BYTES_MAX = 64 << 20  # far above the metadata of a cluster that still works; a peer that says more is no broker
CLIENT_ID = "straas"

# What brokers say in numbers, where a person has to understand it.
ERRORS = {3: "there is no such topic or partition", 6: "not the leader", 7: "timed out", 17: "not a valid topic name",
          29: "not authorized", 36: "the topic exists already", 37: "not a valid number of partitions",
          38: "not a valid number of copies", 39: "not a valid assignment of copies", 40: "not a valid configuration",
          41: "not the controller", 42: "not a valid request", 44: "refused by the cluster's policy",
          60: "another reassignment is in progress", 73: "topics cannot be deleted: delete.topic.enable is false",
          80: "the preferred leader is not available", 84: "no election is needed", 85: "no reassignment is in progress"}

# The codec's types: a name of FIXED, "string", "string?" (may be null), a tuple of (field, type), or a list:
# [type] an array, [type, None] an array that may be null.
FIXED = {"bool": "?", "int8": "b", "int16": "h", "int32": "i", "int64": "q"}

RESULT = (("error", "int16"), ("message", "string?"))
MOVES = [(("topic", "string"), ("partitions", [(("partition", "int32"), ("replicas", ["int32", None]))]))]

# name: (key, version, whether that version is "flexible", request, response)
APIS = {
    "Metadata": (3, 7, False,
        (("topics", ["string", None]), ("create", "bool")),
        (("throttle", "int32"),
         ("brokers", [(("id", "int32"), ("host", "string"), ("port", "int32"), ("rack", "string?"))]),
         ("cluster", "string?"), ("controller", "int32"),
         ("topics", [(("error", "int16"), ("topic", "string"), ("internal", "bool"),
            ("partitions", [(("error", "int16"), ("partition", "int32"), ("leader", "int32"), ("epoch", "int32"),
                ("replicas", ["int32"]), ("isr", ["int32"]), ("offline", ["int32"]))]))]))),
    "CreateTopics": (19, 4, False,
        (("topics", [(("topic", "string"), ("partitions", "int32"), ("replication", "int16"),
            ("assignments", [(("partition", "int32"), ("brokers", ["int32"]))]),
            ("configs", [(("key", "string"), ("value", "string?"))]))]), ("timeout", "int32"), ("dry", "bool")),
        (("throttle", "int32"), ("topics", [(("topic", "string"),) + RESULT]))),
    "DeleteTopics": (20, 3, False,
        (("topics", ["string"]), ("timeout", "int32")),
        (("throttle", "int32"), ("topics", [(("topic", "string"), ("error", "int16"))]))),
    "DescribeConfigs": (32, 1, False,
        (("resources", [(("type", "int8"), ("name", "string"), ("keys", ["string", None]))]), ("synonyms", "bool")),
        (("throttle", "int32"), ("resources", [RESULT + (("type", "int8"), ("name", "string"),
            ("configs", [(("key", "string"), ("value", "string?"), ("fixed", "bool"), ("source", "int8"),
                ("secret", "bool"), ("synonyms", [(("key", "string"), ("value", "string?"), ("source", "int8"))]))]))]))),
    "ElectLeaders": (43, 1, False,
        (("unclean", "int8"), ("topics", [(("topic", "string"), ("partitions", ["int32"])), None]), ("timeout", "int32")),
        (("throttle", "int32"), ("error", "int16"),
         ("topics", [(("topic", "string"), ("partitions", [(("partition", "int32"),) + RESULT]))]))),
    "IncrementalAlterConfigs": (44, 0, False,
        (("resources", [(("type", "int8"), ("name", "string"),
            ("configs", [(("key", "string"), ("operation", "int8"), ("value", "string?"))]))]), ("dry", "bool")),
        (("throttle", "int32"), ("resources", [RESULT + (("type", "int8"), ("name", "string"))]))),
    "AlterPartitionReassignments": (45, 0, True,
        (("timeout", "int32"), ("topics", MOVES)),
        (("throttle", "int32"),) + RESULT + (
         ("topics", [(("topic", "string"), ("partitions", [(("partition", "int32"),) + RESULT]))]),)),
    "ListPartitionReassignments": (46, 0, True,
        (("timeout", "int32"), ("topics", [(("topic", "string"), ("partitions", ["int32"])), None])),
        (("throttle", "int32"),) + RESULT + (
         ("topics", [(("topic", "string"), ("partitions", [(("partition", "int32"), ("replicas", ["int32"]),
            ("adding", ["int32"]), ("removing", ["int32"]))]))]),)),
}


class KafkaError(Exception):
    """A broker that cannot be reached, or that says no. The text is for people."""

    def __init__(self, text, code=0):
        super().__init__(text)
        self.code = code


def refused(what, code, message=None):
    """The error for a broker's answer."""
    return KafkaError(f"{what}: {message or ERRORS.get(code, 'the broker says no')} (error {code})", code)


def varint(number):
    """An unsigned number in groups of seven bits."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(kind, value, flexible):
    """A value as bytes. A flexible version counts in varints, from one, and closes a struct with its (no) tags."""
    if isinstance(kind, tuple):
        fields = b"".join(encode(inner, value[name], flexible) for name, inner in kind)
        return fields + b"\0" if flexible else fields
    if isinstance(kind, list):
        if value is None:
            return b"\0" if flexible else struct.pack(">i", -1)
        count = varint(len(value) + 1) if flexible else struct.pack(">i", len(value))
        return count + b"".join(encode(kind[0], item, flexible) for item in value)
    if kind in FIXED:
        return struct.pack(">" + FIXED[kind], value)
    if value is None:
        return b"\0" if flexible else struct.pack(">h", -1)
    data = value.encode()
    return (varint(len(data) + 1) if flexible else struct.pack(">h", len(data))) + data


class Reader:
    """Takes values off a broker's answer."""

    def __init__(self, data, flexible):
        self.data, self.at, self.flexible = data, 0, flexible

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise KafkaError("the answer ends in the middle; is it a Kafka broker that listens there?")
        self.at += count
        return self.data[self.at - count:self.at]

    def fixed(self, kind):
        return struct.unpack(">" + FIXED[kind], self.take(struct.calcsize(FIXED[kind])))[0]

    def varint(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def tags(self):
        """Fields of later versions: nothing here knows them."""
        for _ in range(self.varint()):
            self.varint()
            self.take(self.varint())

    def count(self, narrow):
        """A length; -1 stands for null."""
        return self.varint() - 1 if self.flexible else self.fixed(narrow)

    def read(self, kind):
        if isinstance(kind, tuple):
            value = {name: self.read(inner) for name, inner in kind}
            if self.flexible:
                self.tags()
            return value
        if isinstance(kind, list):
            count = self.count("int32")
            return None if count < 0 else [self.read(kind[0]) for _ in range(count)]
        if kind in FIXED:
            return self.fixed(kind)
        count = self.count("int16")
        return None if count < 0 else self.take(count).decode()


class Broker:
    """A connection to one broker."""

    def __init__(self, host, port, timeout_s):
        self.place, self.correlation = f"{host}:{port}", 0
        try:
            self.socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise KafkaError(f"{self.place} does not answer: {error}") from error

    def close(self):
        self.socket.close()

    def ask(self, api, **request):
        """Sends a request and reads its answer."""
        key, version, flexible, kind, answer_kind = APIS[api]
        self.correlation += 1
        head = struct.pack(">hhi", key, version, self.correlation) + encode("string?", CLIENT_ID, False)
        message = head + (b"\0" if flexible else b"") + encode(kind, request, flexible)
        try:
            self.socket.sendall(struct.pack(">i", len(message)) + message)
            size = struct.unpack(">i", self.exactly(4))[0]
            if not 4 <= size <= ANSWER_BYTES_MAX:
                raise KafkaError(f"{self.place} announced an answer of {size} bytes; is it a Kafka broker?")
            reader = Reader(self.exactly(size), flexible)
        except OSError as error:
            raise KafkaError(f"{self.place} did not answer {api}: {error}") from error
        if reader.fixed("int32") != self.correlation:
            raise KafkaError(f"{self.place} answered another question than {api}")
        if flexible:
            reader.tags()
        return reader.read(answer_kind)

    def exactly(self, count):
        parts = []
        while count:
            part = self.socket.recv(min(count, 1 << 20))
            if not part:
                raise KafkaError(f"{self.place} closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def metadata(self, topics=None):
        """The cluster as this broker sees it; no topic is made by asking."""
        return self.ask("Metadata", topics=topics, create=False)
